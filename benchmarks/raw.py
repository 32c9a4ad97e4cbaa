"""Programs without a protocol: bare sockets that move the same bytes with the same number of round trips.

They are the limit of the language on this machine. ``pong`` and ``ping`` exchange messages of given sizes; ``sink``
and ``source`` move files, one round trip each. ``associations`` and ``hold`` are bare requestors: they send ``canned``
PDUs, so that the acceptor is what they measure.
"""

from __future__ import annotations

import argparse
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from struct import Struct

from benchmarks import canned
from benchmarks.program import announce, load_arguments, report, timed, wait_for_end

_BUFFER = 256 * 1024
_SIZE = Struct(">Q")
_STORED = bytes(134)  # the size of a C-STORE-RSP
_PATIENCE = 5.0  # s for an answer: an acceptor that has lost a request gives none


def main() -> None:
    """Run one of the programs."""
    parser = argparse.ArgumentParser(prog="benchmarks.raw")
    verbs = parser.add_subparsers(required=True)
    for program in (pong, ping, sink, source, associations, hold):
        verb = verbs.add_parser(program.__name__, help=program.__doc__)
        verb.set_defaults(program=program)
        if program in (pong, ping):
            verb.add_argument("--request", type=int, required=True)
            verb.add_argument("--response", type=int, required=True)
        if program in (ping, associations):
            load_arguments(verb)
        if program in (source, hold):
            verb.add_argument("port", type=int)
    verbs.choices["sink"].add_argument("folder", type=Path)
    verbs.choices["source"].add_argument("paths", type=Path, nargs="+")
    verbs.choices["hold"].add_argument("--count", type=int, required=True)
    arguments = vars(parser.parse_args())
    arguments.pop("program")(**arguments)


def pong(request: int, response: int) -> None:
    """Answer each request, and keep it in memory."""
    answer, kept = bytes(response), []

    def serve(peer: socket.socket) -> None:
        while message := _receive(peer, request):
            kept.append(message)
            peer.sendall(answer)

    _serve_until_end(serve)
    report(stored=len(kept), cpu=time.process_time())


def ping(port: int, request: int, response: int, seconds: float, most: int) -> None:
    """Send requests, one after the other, each when the one before was answered."""
    message = bytes(request)
    with _connect(port) as peer:

        def round_trip(_: int) -> None:
            peer.sendall(message)
            if not _receive(peer, response):
                raise SystemExit("the other end is gone")

        result = timed(round_trip, seconds=seconds, most=most)
    report(**result, stored=result["total"])


def sink(folder: Path) -> None:
    """Write each file that comes, and answer when it is written."""
    view = memoryview(bytearray(_BUFFER))
    stored = 0

    def serve(peer: socket.socket) -> None:
        nonlocal stored
        while got := peer.recv_into(view):
            with (folder / f"{stored}.dcm").open("wb", buffering=0) as file:
                missing = _SIZE.unpack_from(view)[0] - file.write(view[_SIZE.size : got])
                while missing:
                    got = peer.recv_into(view)
                    if not got:
                        raise SystemExit("the other end is gone in mid-file")
                    missing -= file.write(view[:got])
            stored += 1
            peer.sendall(_STORED)

    _serve_until_end(serve)
    report(cpu=time.process_time())


def source(port: int, paths: list[Path]) -> None:
    """Send files; what is measured begins after the first."""
    buffer = bytearray(_SIZE.size + _BUFFER)
    room = memoryview(buffer)[_SIZE.size :]

    def send(path: Path) -> None:
        with path.open("rb", buffering=0) as file:
            _SIZE.pack_into(buffer, 0, path.stat().st_size)
            peer.sendall(memoryview(buffer)[: _SIZE.size + file.readinto(room)])
            while got := file.readinto(room):
                peer.sendall(room[:got])
        if not _receive(peer, len(_STORED)):
            raise SystemExit("the other end is gone")

    with _connect(port) as peer:
        send(paths[0])
        rest = iter(paths[1:])
        report(**timed(lambda _: send(next(rest)), seconds=60, most=len(paths) - 1, warm_up=False))


def associations(port: int, seconds: float, most: int) -> None:
    """Connect, associate, C-ECHO, release; again and again."""
    request = canned.associate_rq("BENCH", "BARE")
    echo = canned.echo_rq()

    def whole_association(_: int) -> None:
        with _associated(port, request) as peer:
            _exchange(peer, echo, canned.P_DATA)
            _exchange(peer, canned.RELEASE_RQ, canned.RELEASE_RP)

    report(**timed(whole_association, seconds=seconds, most=most))


def hold(port: int, count: int) -> None:
    """Associate `count` times and do nothing until the input ends.

    Titles and loopback addresses are many, as those of real requestors: an acceptor may bound what each of them holds.
    """
    held = [
        _associated(port, canned.associate_rq("BENCH", f"IDLE{number}"), source=f"127.0.0.{2 + number // 25}")
        for number in range(count)
    ]
    print(f"held {len(held)}", flush=True)
    wait_for_end()


def _associated(port: int, request: bytes, source: str | None = None) -> socket.socket:
    peer = _connect(port, source)
    peer.settimeout(_PATIENCE)
    _exchange(peer, request, canned.ASSOCIATE_AC)
    return peer


def _exchange(peer: socket.socket, request: bytes, expected: int) -> None:
    """Send a PDU and read the one that answers; a C-ECHO-RSP ends with its status."""
    peer.sendall(request)
    answer = peer.recv(_BUFFER)
    while len(answer) < 6 or len(answer) < 6 + int.from_bytes(answer[2:6], "big"):
        more = peer.recv(_BUFFER)
        if not more:
            raise SystemExit(f"the acceptor closed the connection instead of answering with PDU {expected}")
        answer += more
    if answer[0] != expected or (expected == canned.P_DATA and answer[-2:] != b"\0\0"):
        raise SystemExit(f"the acceptor answered {answer[:12].hex(' ')} where PDU {expected} was due")


def _connect(port: int, source: str | None = None) -> socket.socket:
    peer = socket.create_connection(("127.0.0.1", port), source_address=(source, 0) if source else None)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return peer


def _receive(peer: socket.socket, size: int) -> bytes:
    """Exactly `size` bytes, or none if the connection ends before."""
    message = peer.recv(size)
    while 0 < len(message) < size:
        more = peer.recv(size - len(message))
        message = message + more if more else b""
    return message


def _serve_until_end(serve: Callable[[socket.socket], None]) -> None:
    """Serve one connection after the other until standard input ends."""
    listener = socket.create_server(("127.0.0.1", 0))

    def accept_all() -> None:
        while True:
            peer, _ = listener.accept()
            with peer:
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                serve(peer)

    threading.Thread(target=accept_all, daemon=True).start()
    announce(listener.getsockname()[1])
    wait_for_end()


if __name__ == "__main__":
    main()
