"""A disk that is never filled: what comes is refused while there is room for the rest of the system.

One idea: to ask a file system for each instance would cost as much as opening its file. Each process therefore asks
now and then, and may then write a part of what is left, so that all of them together cannot write more than that.
"""

from __future__ import annotations

import errno
import re
import shutil
import threading
import time
from dataclasses import dataclass
from typing import Any, Final

_UNITS: Final = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_ALL: Final = 1 << 63
_LARGEST: Final = 256 << 20  # bytes that are written without another look
_FRESH: Final = 1.0  # seconds for which a look holds: others write to the disk, too
_BLOCK: Final = 4096  # bytes that a file takes besides its content, about: its header, its name, the last block


@dataclass(frozen=True, slots=True)
class KeepFree:
    """How much of a disk stays free: so many bytes, or this share of it if that is less.

    The default, 1 % but no more than 1 GB, is enough for a system to go on working, and suits small disks as well.
    """

    size: int = 10**9
    share: float = 0.01

    @classmethod
    def parse(cls, text: str) -> KeepFree:
        """``5GB``, ``500MB``, ``5%`` or ``0``. Raises ValueError."""
        match = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) ?(%|[kMGT]?B|)", text, re.IGNORECASE)
        if match is None:
            raise ValueError(f"{text!r} is no amount of disk space such as 5GB, 500MB or 5%")
        number = float(match[1])
        if match[2] != "%":
            return cls(int(number * _UNITS[match[2].upper()]), 1.0)
        if number > 100:
            raise ValueError(f"{text!r} is more than a disk has")
        return cls(_ALL, number / 100)

    def of(self, total: int) -> int:
        """Bytes of a disk that has ``total``."""
        return min(self.size, int(self.share * total))


class Room:
    """How much may still be written to the disk of ``folder``, from any thread; for each of ``processes`` its own."""

    def __init__(self, folder: str, keep_free: KeepFree, processes: int = 1) -> None:
        self._folder = folder
        self._keep_free = keep_free
        self._processes = processes
        self._granted = [0]  # bytes that may be written until the next look, which makes a list of its own
        self._until = 0.0
        self._lock = threading.Lock()

    def take(self, size: int) -> None:
        """Have room for so many bytes, which will be written now. Raises OSError (ENOSPC) if there is none."""
        size += _BLOCK
        granted = self._granted
        left = granted[0] - size
        if left >= 0 and time.monotonic() < self._until:
            granted[0] = left  # not locked: if two threads are here at once one size is lost, and half of all is spare
            return
        with self._lock:
            self._look(size)

    def _look(self, size: int) -> None:
        disk = shutil.disk_usage(self._folder)
        kept = self._keep_free.of(disk.total)
        left = disk.free - kept
        if left < size:
            raise OSError(errno.ENOSPC, f"the disk has no room above the {kept / 1e9:.2f} GB that stay free")
        # Half for what the others and we may write until each of us looks again, half for what was promised before.
        self._granted = [max(0, min(left // (2 * self._processes), _LARGEST) - size)]
        self._until = time.monotonic() + _FRESH

    def __getstate__(self) -> tuple[Any, ...]:  # to processes that are spawned
        return self._folder, self._keep_free, self._processes

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        Room.__init__(self, *state)
