"""Files to send as they appear in folders: an endless list of paths for ``send``, with None while there is nothing new.

One idea: what the system tells of a folder is a hint where to look, never the truth. A file is sent when its size and
time have stayed the same for a while, whatever events there were; if there are more files than should be remembered,
the folder is walked again later. So a file may be found twice; the ledger knows it then.
"""

from __future__ import annotations

import heapq
import os
import stat
import threading
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Final

from dicomnet.dataset import Path
from dicomnet.files import Found, find_files, is_unfinished

SETTLE: Final = 2.0  # seconds without a change, after which a file is taken to be whole
_MOST: Final = 10_000  # files that are remembered while they settle: a few MB
_EVENTS: Final = 200  # ms in which the system's events are gathered
_LOOK: Final = 1000  # ms without events, after which it is looked whether the folders are still there

_Stamp = tuple[int, int]


class WatchError(OSError):
    """A folder cannot be watched."""


class Watch:
    """Iterate it as ``paths`` of ``send``, within its ``with`` block: first what is there, then what appears.

    ``folders``: with all that is below them, now or later. ``settle``: seconds for which a file must not have changed.
    It never ends by itself. Raises WatchError, also while it is iterated, if a folder cannot be watched.
    """

    def __init__(self, folders: Iterable[Path], *, settle: float = SETTLE) -> None:
        self._folders = [os.fspath(folder) for folder in folders]
        self._settle = settle
        self._lock = threading.Lock()  # of the next three
        self._settling: dict[str, _Stamp | None] = {}  # as they were when they were last looked at
        self._due: list[tuple[float, str]] = []  # a heap: when to look at them
        self._walk = True  # there may be files that nobody remembers
        self._over = threading.Event()
        self._error: BaseException | None = None
        self._found: dict[str, tuple[int, int]] = {}  # which folder each of them was
        self._thread = threading.Thread(target=self._listen, name="dicomnet watch", daemon=True)

    def __enter__(self) -> Watch:
        for folder in self._folders:  # what is wrong is told at once
            try:
                os.scandir(folder).close()
                self._found[folder] = _identity(folder)
            except OSError as error:
                raise WatchError(f"{folder}: {error.strerror}") from error
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def __iter__(self) -> Iterator[Found | None]:
        while True:
            with self._lock:
                walk = self._walk and len(self._settling) <= _MOST // 2
                self._walk = self._walk and not walk
            if walk:
                yield from self._walked()
            ready = list(self._looked_at(time.monotonic()))
            yield from (Found(path, walked=True, fleeting=True) for path in ready)
            if self._error is not None:
                raise self._error
            if not ready:
                yield None

    def later(self, path: Path, seconds: float) -> None:
        """Find it again after so long: it could not be sent now."""
        with self._lock:
            self._remember(os.fspath(path), None, seconds)

    # --- what settles -----------------------------------------------------------------------------------------------

    def _walked(self) -> Iterator[Found]:
        """What is there and has settled; the rest is remembered."""
        for found in find_files(self._folders):
            if found.error is None and self._is_whole(os.fspath(found.path)):
                yield found._replace(fleeting=True)

    def _is_whole(self, path: str) -> bool:
        """Whether it has not changed for long; if it has, it is looked at again. False if it is no file any more."""
        found = _stat(path)
        if found is None:
            return False
        if time.time() - found.st_mtime >= self._settle:  # moved here, or here for long
            return True
        with self._lock:
            self._remember(path, (found.st_size, found.st_mtime_ns), self._settle)
        return False

    def _remember(self, path: str, stamp: _Stamp | None, seconds: float) -> None:
        if path in self._settling:
            return
        if len(self._settling) >= _MOST:
            self._walk = True
            return
        self._settling[path] = stamp
        heapq.heappush(self._due, (time.monotonic() + seconds, path))

    def _looked_at(self, now: float) -> Iterator[str]:
        """Those that have stayed the same."""
        while True:
            with self._lock:
                if not self._due or self._due[0][0] > now:
                    return
                _, path = heapq.heappop(self._due)
                before = self._settling.pop(path)
            found = _stat(path)
            if found is None:
                continue
            stamp = found.st_size, found.st_mtime_ns
            if before in (None, stamp):
                yield path
                continue
            with self._lock:
                self._remember(path, stamp, self._settle)

    # --- the thread that listens ------------------------------------------------------------------------------------

    def _listen(self) -> None:
        from watchfiles import Change, watch

        try:
            for changes in watch(
                *self._folders,
                watch_filter=None,
                debounce=_EVENTS,
                stop_event=self._over,
                raise_interrupt=False,
                ignore_permission_denied=True,
                rust_timeout=_LOOK,
                yield_on_timeout=True,
            ):
                self._check()
                for change, path in changes:
                    if change != Change.deleted:
                        self._changed(path)
        except WatchError as error:
            self._error = error
        except BaseException as error:
            self._error = WatchError(f"{', '.join(self._folders)} cannot be watched: {error}")

    def _check(self) -> None:
        """The system watches a folder, not its name, and says nothing of one that has gone."""
        for folder, identity in self._found.items():
            try:
                same = _identity(folder) == identity
            except OSError:
                same = False
            if not same:
                raise WatchError(f"{folder} was removed or replaced while it was watched; make it, and begin again")

    def _changed(self, path: str) -> None:
        """A file, or a folder that was made or moved here, with what had come into it before it was watched."""
        if os.path.isdir(path):
            for found in find_files([path]):
                if found.error is None:
                    self._see(os.fspath(found.path))
        elif not is_unfinished(os.path.basename(path)):
            self._see(path)

    def _see(self, path: str) -> None:
        if self._is_whole(path):
            with self._lock:
                self._remember(path, None, 0.0)


def _identity(folder: str) -> tuple[int, int]:
    found = os.stat(folder)
    return found.st_dev, found.st_ino


def _stat(path: str) -> os.stat_result | None:
    """None: it is no regular file, or not there."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found if stat.S_ISREG(found.st_mode) else None
