"""Program: large objects on many associations at once, for an acceptor that keeps none of them.

Together they are larger than a memory disk. So what has arrived in the acceptor's folder is compared with what was sent
and its room given back while the rest is still to come, and no sender gets far ahead of that. Linux only: elsewhere a
file cannot be emptied from its front.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from struct import pack

from benchmarks import canned
from benchmarks.bare_dicom import associated, read_pdu
from benchmarks.program import report

_SOP_CLASS = "1.2.840.10008.5.1.4.1.1.7.3"
_BLOCK = 60 * 1024  # bytes of a fragment: no more than a PDU of 64 KiB has room for
_AT_ONCE = 4  # fragments that are handed over together
_AHEAD = 1 << 30  # bytes that may have been sent and not yet been compared
_LOOK = 0.01  # s between two looks at the files
_PUNCH_HOLE, _KEEP_SIZE = 2, 1  # of fallocate(2)
_PATIENCE = 60.0  # s for an answer


def main() -> None:
    """Send them and say how much it was."""
    parser = argparse.ArgumentParser(prog="benchmarks.flood", description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("folder", type=Path, help="where the acceptor puts what is under way")
    parser.add_argument("--senders", type=int, required=True)
    parser.add_argument("--megabytes", type=int, required=True, help="of each object")
    arguments = parser.parse_args()
    if sys.platform != "linux":
        raise SystemExit("it needs Linux")
    blocks = max(1, arguments.megabytes * 10**6 // _BLOCK)
    flood = _Flood(arguments.port, arguments.senders, blocks)
    comparison = _Comparison(arguments.folder, flood)
    elapsed, cpu = time.perf_counter(), time.process_time()
    flood.run(comparison)
    elapsed, cpu = time.perf_counter() - elapsed, time.process_time() - cpu
    total = arguments.senders * flood.size
    report(count=total / 1e6, elapsed=elapsed, cpu=cpu, stored=arguments.senders, digest=str(total))


class _Flood:
    """The senders: a thread each."""

    def __init__(self, port: int, senders: int, blocks: int) -> None:
        self._port = port
        self._senders = senders
        self._blocks = blocks
        self.block = os.urandom(_BLOCK)  # all objects are this, again and again: only reading it costs
        self._failed: list[str] = []
        self._ahead = threading.Condition()
        self._sent = self._compared = self._noticed = 0
        self.over = threading.Event()
        self.size = len(self._head(0)) + blocks * _BLOCK

    def run(self, comparison: _Comparison) -> None:
        """Send all; the comparison goes along."""
        comparing = threading.Thread(target=comparison.run)
        comparing.start()
        threads = [threading.Thread(target=self._send, args=(number,)) for number in range(self._senders)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.over.set()
        comparing.join()
        if self._failed or comparison.compared != self._senders * self._blocks * _BLOCK:
            raise SystemExit("; ".join(self._failed) or f"{comparison.compared} bytes arrived as they were sent")

    def note(self, *, files: int = 0, compared: int = 0) -> None:
        """So many more files are there; so much more has arrived and is right."""
        with self._ahead:
            self._noticed += files
            self._compared += compared
            self._ahead.notify_all()

    def fail(self, why: str) -> None:
        """End all senders."""
        with self._ahead:
            self._failed.append(why)
            self._ahead.notify_all()

    def _send(self, number: int) -> None:
        try:
            self._send_object(number)
        except (OSError, SystemExit) as error:
            self.fail(f"sender {number}: {error}")

    def _send_object(self, number: int) -> None:
        request = canned.associate_rq("BENCH", f"FLOOD{number}", _SOP_CLASS)
        middle = memoryview(canned.data_pdu(self.block, last=False) * _AT_ONCE)
        length = len(middle) // _AT_ONCE
        with associated(self._port, request, source=f"127.0.0.{2 + number}") as peer:
            peer.settimeout(_PATIENCE)
            head = canned.data_pdu(self._head(number), last=False)
            peer.sendall(canned.store_rq(_SOP_CLASS, self._uid(number)) + head)
            left = self._blocks - 1
            while left:
                some = min(left, _AT_ONCE)
                self._wait_for_room(some * _BLOCK)
                peer.sendall(middle[: some * length])
                left -= some
            self._await(lambda: self._noticed == self._senders)  # none ends before all are there
            peer.sendall(canned.data_pdu(self.block))
            if b"\x00\x09\x02\x00\x00\x00\x00\x00" not in read_pdu(peer):  # the status, success
                raise SystemExit("not stored")
            peer.sendall(canned.RELEASE_RQ)
            read_pdu(peer)

    def _wait_for_room(self, size: int) -> None:
        self._await(lambda: self._sent - self._compared < _AHEAD)
        with self._ahead:
            self._sent += size

    def _await(self, condition: Callable[[], bool]) -> None:
        with self._ahead:
            if not self._ahead.wait_for(lambda: self._failed or condition(), _PATIENCE):
                raise SystemExit("what was sent does not arrive")
            if self._failed:
                raise SystemExit("another one failed")

    def _head(self, number: int) -> bytes:
        """The data set up to the pixels, of which the blocks consist."""
        uids = canned.element(0x0008, 0x0016, _SOP_CLASS.encode() + b"\0")
        uids += canned.element(0x0008, 0x0018, self._uid(number).encode())
        return uids + pack("<HHI", 0x7FE0, 0x0010, self._blocks * _BLOCK)

    @staticmethod
    def _uid(number: int) -> str:
        return f"2.25.{10**6 + number}00"  # of even length


class _Comparison:
    """What is in the files: compared with the blocks that were sent, then forgotten."""

    def __init__(self, folder: Path, flood: _Flood) -> None:
        self._folder = folder
        self._flood = flood
        self._files: dict[int, _Arriving] = {}  # by inode: a file may be removed before all of it was looked at
        self._punch = ctypes.CDLL(None, use_errno=True).fallocate
        self._punch.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
        self.compared = 0

    def run(self) -> None:
        """Until the senders are done."""
        try:
            while not self._flood.over.wait(_LOOK):
                self._look()
            self._look()
        except (OSError, ValueError) as error:
            self._flood.fail(str(error))

    def _look(self) -> None:
        for path in list(self._folder.iterdir()):
            with contextlib.suppress(FileNotFoundError):  # it has just arrived as a whole and is gone
                if path.stat().st_ino not in self._files:
                    arriving = _Arriving(path, self._flood.block)
                    self._files[os.fstat(arriving.descriptor).st_ino] = arriving
                    self._flood.note(files=1)
        for arriving in self._files.values():
            if size := arriving.compare():
                self.compared += size
                self._flood.note(compared=size)
                self._punch(arriving.descriptor, _PUNCH_HOLE | _KEEP_SIZE, 0, arriving.position)


class _Arriving:
    """A file that grows: a header, then blocks."""

    def __init__(self, path: Path, block: bytes) -> None:
        self.descriptor = os.open(path, os.O_RDWR)
        self.position = 0
        self._block = block

    def compare(self) -> int:
        """The bytes of whole blocks that have arrived since the last time. Raises ValueError if they are others."""
        size = os.fstat(self.descriptor).st_size
        if not self.position:
            at = os.pread(self.descriptor, 8192, 0).find(self._block[:64])
            if at < 0:
                return 0
            self.position = at
        before = self.position
        while size - self.position >= len(self._block):
            if os.pread(self.descriptor, len(self._block), self.position) != self._block:
                raise ValueError(f"other bytes than those that were sent, at {self.position}")
            self.position += len(self._block)
        return self.position - before


if __name__ == "__main__":
    main()
