"""The progress bar of a terminal."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from dicomnet.cli.output import size_text

if TYPE_CHECKING:
    from dicomnet import SubOperations

_PATIENCE: Final = 1.0  # seconds for a folder that does not answer
_STEP: Final = 256  # files that are counted between two looks at whether it is still of interest


class FileBar:
    """Counts files and bytes. What is printed meanwhile appears above it.

    ``sizes``: of all files, in bytes; taken on a thread of its own, because to find them all may take long. Until then
    the totals are those of the files found so far. What need not be sent counts as a file, but not as work: else the
    rate, and the time left, would be those of looking it up.
    """

    def __init__(self, sizes: Iterable[int]) -> None:
        self._bytes = Progress(
            TextColumn("sending"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[files]} of {task.fields[of]} files{task.fields[rate]}"),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bytes.add_task("", total=None, files=0, of="…", rate="")
        self._done = self._sent = 0
        self._total: int | None = None  # bytes of all files
        self._spared = 0  # bytes that need not be sent
        self._lock = threading.Lock()  # of these two
        self._started = time.monotonic()
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
        with self._lock:
            self._total = total
            self._show_total()
        self._bytes.update(self._task, of=files)

    def _show_total(self) -> None:
        if self._total is not None:
            self._bytes.update(self._task, total=max(self._total - self._spared, 1))

    def advance(self, size: int, *, sent: bool = True) -> None:
        """One more file of so many bytes is done; not ``sent``: it was sent before."""
        self._done += 1
        if sent:
            self._sent += 1
            rate = self._sent / max(time.monotonic() - self._started, 0.1)
            self._bytes.update(self._task, advance=size, files=self._done, rate=f", {rate:.0f}/s")
            return
        with self._lock:
            self._spared += size
            self._show_total()
        self._bytes.update(self._task, files=self._done)


class InstanceBar:
    """Counts the sub-operations of a retrieval, and the bytes that come here. What is printed appears above it."""

    def __init__(self, what: str) -> None:
        self._progress = Progress(
            TextColumn(what),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[done]} of {task.fields[of]} instances{task.fields[more]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._progress.add_task("", total=None, done=0, of="…", more="")
        self._came = 0  # instances
        self._size = 0
        self._known = False  # whether the peer tells how many there are

    def __enter__(self) -> InstanceBar:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    def came(self, size: int) -> None:
        """One more instance of so many bytes is here."""
        self._came += 1
        self._size += size
        self._progress.update(self._task, more=f", {size_text(self._size)}")
        if not self._known:
            self._progress.update(self._task, done=self._came)

    def advance(self, counts: SubOperations) -> None:
        """The peer has told how far it is."""
        total = sum(counts)
        if total:
            self._known = True
            done = total - counts.remaining
            self._progress.update(self._task, total=total, completed=done, done=done, of=total)
