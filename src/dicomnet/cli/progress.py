"""The progress bar of a terminal."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)


class FileBar:
    """Counts files and bytes, both of known totals. What is printed meanwhile appears above it."""

    def __init__(self, files: int, size: int) -> None:
        self._bytes = Progress(
            TextColumn("sending"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[files]} of {task.fields[of]} files"),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bytes.add_task("", total=max(size, 1), files=0, of=files)
        self._done = 0

    def __enter__(self) -> FileBar:
        self._bytes.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bytes.stop()

    def advance(self, size: int) -> None:
        """One more file of so many bytes is done."""
        self._done += 1
        self._bytes.update(self._task, advance=size, files=self._done)
