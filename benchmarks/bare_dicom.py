"""Programs: bare ends that speak ``canned`` PDUs, so that the end with a toolkit is what they measure.

``associations`` and ``hold`` request associations. ``sink`` takes what storage SCUs send, into memory, and hashes it
when they are done; ``save`` writes it into files.
"""

from __future__ import annotations

import hashlib
import os
import selectors
import socket
import time
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import canned
from benchmarks.corpora import digest_of_all
from benchmarks.program import (
    allow_many_connections,
    load_arguments,
    report,
    run_verb,
    timed,
    wait_for_end,
)
from benchmarks.raw import connect, serve_until_end

_BUFFER = 256 * 1024
_MAX_LENGTH = 128 * 1024  # of the PDUs that the sink takes: DCMTK's most
_PATIENCE = 5.0  # s for an answer: an acceptor that has lost a request gives none
_ROOM = 1 << 16  # bytes more than the data sets of a file each: command set, headers


def main() -> None:
    """Run one of the programs."""
    run_verb("bare_dicom", associations, hold, sink, save, options=_options)


def _options(verbs: Any) -> None:
    load_arguments(verbs["associations"])
    verbs["associations"].add_argument("--at-once", type=int, default=1)
    verbs["hold"].add_argument("port", type=int)
    verbs["hold"].add_argument("--count", type=int, required=True)
    verbs["save"].add_argument("folder", type=Path)
    verbs["sink"].add_argument("files", type=int, help="how many will come")
    verbs["sink"].add_argument("size", type=int, help="bytes of all of them")


# --- requestors -----------------------------------------------------------------------------------------------------


def associations(port: int, seconds: float, most: int, at_once: int) -> None:
    """Connect, associate, C-ECHO, release; again and again, one after the other or so many at once."""
    request = canned.associate_rq("BENCH", "BARE")
    echo = canned.echo_rq()

    def whole_association(_: int) -> None:
        with associated(port, request) as peer:
            _exchange(peer, echo, canned.P_DATA)
            _exchange(peer, canned.RELEASE_RQ, canned.RELEASE_RESPONSE)

    if at_once == 1:
        report(**timed(whole_association, seconds=seconds, most=most))
        return
    requestors = _Requestors(port, request, at_once)
    requestors.run(seconds / 10)
    requestors.done = 0
    elapsed, cpu = time.perf_counter(), time.process_time()
    requestors.run(seconds)
    elapsed, cpu = time.perf_counter() - elapsed, time.process_time() - cpu
    report(count=requestors.done, elapsed=elapsed, cpu=cpu)


class _Step(NamedTuple):
    """What an association says, and which PDU answers it."""

    request: bytes
    answer: int


class _Requestors:
    """Associations at once, from one thread: each begins anew when it has ended."""

    def __init__(self, port: int, request: bytes, count: int) -> None:
        self._address = ("127.0.0.1", port)
        self._count = count
        self._steps = (
            _Step(request, canned.ASSOCIATE_AC),
            _Step(canned.echo_rq(), canned.P_DATA),
            _Step(canned.RELEASE_RQ, canned.RELEASE_RESPONSE),
        )
        self._selector = selectors.DefaultSelector()
        self._steps_done: dict[socket.socket, int] = {}
        self._received: dict[socket.socket, bytes] = {}
        self.done = 0

    def run(self, seconds: float) -> None:
        """Keep so many going for `seconds`, then let them end."""
        end = time.perf_counter() + seconds
        for _ in range(self._count):
            self._begin()
        last_answer = time.perf_counter()
        while self._steps_done:
            ready = self._selector.select(_PATIENCE)
            if not ready and time.perf_counter() > last_answer + _PATIENCE:
                raise SystemExit(f"{len(self._steps_done)} associations get no answer")
            last_answer = time.perf_counter()
            for key, _ in ready:
                peer: Any = key.fileobj
                if self._advance(peer) and last_answer < end:
                    self._begin()

    def _begin(self) -> None:
        peer = socket.socket()
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer.settimeout(_PATIENCE)
        peer.connect(self._address)  # on loopback the backlog takes it at once
        peer.sendall(self._steps[0].request)
        self._selector.register(peer, selectors.EVENT_READ)
        self._steps_done[peer], self._received[peer] = 0, b""

    def _advance(self, peer: socket.socket) -> bool:
        """Take in what came; True if the association has ended."""
        more = peer.recv(_BUFFER)
        if not more:
            raise SystemExit("the acceptor closed the connection instead of answering")
        data = self._received[peer] = self._received[peer] + more
        if len(data) < 6 or len(data) < 6 + int.from_bytes(data[2:6], "big"):
            return False
        step = self._steps_done[peer]
        _check(data, self._steps[step].answer)
        self._steps_done[peer], self._received[peer] = step + 1, b""
        if step + 1 < len(self._steps):
            peer.sendall(self._steps[step + 1].request)
            return False
        self._selector.unregister(peer)
        del self._steps_done[peer], self._received[peer]
        peer.close()
        self.done += 1
        return True


def hold(port: int, count: int) -> None:
    """Associate `count` times and do nothing until the input ends.

    Titles and loopback addresses are many, as those of real requestors: an acceptor may bound what each of them holds.
    """
    allow_many_connections()
    held = [
        associated(port, canned.associate_rq("BENCH", f"IDLE{number}"), source=f"127.0.0.{2 + number // 25}")
        for number in range(count)
    ]
    print(f"held {len(held)}", flush=True)
    wait_for_end()


def associated(port: int, request: bytes, source: str | None = None) -> socket.socket:
    """A connection on which `request` was accepted."""
    peer = connect(port, source)
    peer.settimeout(_PATIENCE)
    _exchange(peer, request, canned.ASSOCIATE_AC)
    return peer


def _exchange(peer: socket.socket, request: bytes, expected: int) -> bytes:
    """Send a PDU and return the one that answers; a C-ECHO-RSP and a C-STORE-RSP end with their status or UID."""
    peer.sendall(request)
    answer = read_pdu(peer)
    _check(answer, expected)
    return answer


def read_pdu(peer: socket.socket) -> bytes:
    """The next PDU, when nothing follows it."""
    data = peer.recv(_BUFFER)
    while len(data) < 6 or len(data) < 6 + int.from_bytes(data[2:6], "big"):
        more = peer.recv(_BUFFER)
        if not more:
            raise SystemExit("the acceptor closed the connection instead of answering")
        data += more
    return data


def _check(answer: bytes, expected: int) -> None:
    if answer[0] != expected or (expected == canned.P_DATA and answer[-2:] != b"\0\0"):
        raise SystemExit(f"the acceptor answered {answer[:12].hex(' ')} where PDU {expected} was due")


# --- acceptor -------------------------------------------------------------------------------------------------------


def sink(files: int, size: int) -> None:
    """Accept whatever is proposed, and keep what C-STOREs bring in memory."""
    store = _Store(size + files * _ROOM)
    serve_until_end(store.serve)
    hashes = store.hashes()
    report(stored=len(hashes), data_sets=digest_of_all(hashes), arrival=store.arrival)


class _Store:
    """All that storage SCUs have sent, one after the other, in one buffer as it came."""

    def __init__(self, room: int) -> None:
        self._view = memoryview(bytearray(room))
        for page in range(0, room, 4096):  # memory that is there before it is measured
            self._view[page] = 0
        self._received = 0
        self._data_sets: list[list[tuple[int, int]]] = [[]]  # places of the fragments
        self._times: list[float] = []  # when each was there

    def serve(self, peer: socket.socket) -> None:
        """One association."""
        view, start, received = self._view, self._received, self._received
        command = b""
        while got := peer.recv_into(view[received : received + _BUFFER]):
            received += got
            while received - start >= 6 and received - start >= (
                length := 6 + int.from_bytes(view[start + 2 : start + 6], "big")
            ):
                kind = view[start]
                if kind == canned.P_DATA:
                    command = self._take(peer, start + 6, start + length, command)
                elif kind == canned.ASSOCIATE_RQ:
                    peer.sendall(canned.associate_ac(bytes(view[start : start + length]), _MAX_LENGTH))
                elif kind == canned.RELEASE_REQUEST:
                    peer.sendall(canned.RELEASE_RP)
                start += length
        self._received = received

    def _take(self, peer: socket.socket, start: int, end: int, command: bytes) -> bytes:
        """Take the fragments of a P-DATA-TF; returns the command set that is under way."""
        view = self._view
        while start < end:
            length = int.from_bytes(view[start : start + 4], "big")
            control = view[start + 5]
            if control & canned.IS_COMMAND:
                command += view[start + 6 : start + 4 + length]
            else:
                self._data_sets[-1].append((start + 6, start + 4 + length))
                if control & canned.IS_LAST:
                    peer.sendall(canned.store_rsp(view[start + 4], command))
                    self._data_sets.append([])
                    self._times.append(time.perf_counter())
                    command = b""
            start += 4 + length
        return command

    @property
    def arrival(self) -> float:
        """Seconds in which the files that count arrived: all but the first of each of two associations."""
        return self._times[-1] - self._times[1]

    def hashes(self) -> list[str]:
        """Of each data set."""
        found = []
        for places in self._data_sets[:-1]:
            chain = hashlib.sha256()
            for start, end in places:
                chain.update(self._view[start:end])
            found.append(chain.hexdigest())
        return found


_FILE_HEADER = bytes(128) + b"DICM" + bytes.fromhex("0200 0000 554c 0400 00000000")  # no more than `digest_of` reads
_FRAGMENT_HEADER = 12  # bytes: of the PDU, and of the one fragment that it has


def save(folder: Path) -> None:
    """Write what C-STOREs bring into files: the same bytes and round trips as an SCP has, and nothing else."""
    serve_until_end(_Files(folder).serve)


class _Files:
    """One file after the other. It takes PDUs of one fragment, as storage SCUs send them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._view = memoryview(bytearray(_BUFFER))
        self._count = 0

    def serve(self, peer: socket.socket) -> None:
        """One association."""
        view = self._view
        self._descriptor, self._left, self._last = -1, 0, False  # of the fragment that is under way
        self._context, self._command = 0, b""
        kept = 0
        while got := peer.recv_into(view[kept:]):
            end, start = kept + got, 0
            while taken := self._write(view[start:end], peer) if self._left else self._begin(view[start:end], peer):
                start += taken
            kept = end - start
            view[:kept] = bytes(view[start:end])

    def _begin(self, data: memoryview, peer: socket.socket) -> int:
        """Take the header of a fragment of a data set, or a whole PDU of another kind; 0 if more of it has to come."""
        if len(data) < _FRAGMENT_HEADER:
            if len(data) == len(canned.RELEASE_RQ) and data[0] == canned.RELEASE_REQUEST:
                peer.sendall(canned.RELEASE_RP)
                return len(data)
            return 0
        length = 6 + int.from_bytes(data[2:6], "big")
        if data[0] == canned.P_DATA and not data[11] & canned.IS_COMMAND:
            self._left, self._last = length - _FRAGMENT_HEADER, bool(data[11] & canned.IS_LAST)
            if self._descriptor < 0:
                self._descriptor = os.open(self._folder / f"{self._count}.dcm", os.O_WRONLY | os.O_CREAT, 0o600)
                os.write(self._descriptor, _FILE_HEADER)
            return _FRAGMENT_HEADER
        if len(data) < length:
            return 0
        if data[0] == canned.P_DATA:
            self._context, self._command = data[10], bytes(data[_FRAGMENT_HEADER:length])
        else:
            peer.sendall(canned.associate_ac(bytes(data[:length]), _MAX_LENGTH))
        return length

    def _write(self, data: memoryview, peer: socket.socket) -> int:
        """Take bytes of the fragment that is under way, and answer if the data set ends with them."""
        taken = os.write(self._descriptor, data[: self._left]) if data else 0
        self._left -= taken
        if taken and not self._left and self._last:
            os.close(self._descriptor)
            self._descriptor, self._count = -1, self._count + 1
            peer.sendall(canned.store_rsp(self._context, self._command))
        return taken


if __name__ == "__main__":
    main()
