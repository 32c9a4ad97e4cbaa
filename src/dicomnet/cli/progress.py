"""The progress bar of a terminal."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

_PATIENCE: Final = 1.0  # seconds for a folder that does not answer
_STEP: Final = 256  # files that are counted between two looks at whether it is still of interest


class FileBar:
    """Counts files and bytes. What is printed meanwhile appears above it.

    ``sizes``: of all files, in bytes; taken on a thread of its own, because to find them all may take long. Until then
    the totals are those of the files found so far.
    """

    def __init__(self, sizes: Iterable[int]) -> None:
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
        self._task = self._bytes.add_task("", total=None, files=0, of="…")
        self._done = 0
        self._over = False
        self._counter = threading.Thread(target=self._count, args=(sizes,), name="dicomnet count", daemon=True)

    def __enter__(self) -> FileBar:
        self._bytes.start()
        self._counter.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over = True
        self._counter.join(_PATIENCE)
        self._bytes.stop()

    def _count(self, sizes: Iterable[int]) -> None:
        files = total = 0
        for size in sizes:
            files += 1
            total += size
            if files % _STEP == 0:
                if self._over:
                    return
                self._bytes.update(self._task, of=f"{files}…")
        self._bytes.update(self._task, total=max(total, 1), of=files)

    def advance(self, size: int) -> None:
        """One more file of so many bytes is done."""
        self._done += 1
        self._bytes.update(self._task, advance=size, files=self._done)
