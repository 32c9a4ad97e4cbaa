"""``dicomnet.trace.proxy``: what comes in at one side goes out at the other, as it was, and is recorded."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicomnet.errors import TransportError
from dicomnet.trace.pcapng import PcapngWriter
from dicomnet.trace.proxy import Proxy
from dicomnet.trace.recording import Recorder
from dicomnet.trace.records import Closed, Garbage, Opened, Pdu, Record
from dicomnet.ul import pdu
from tests.trace.conftest import Records
from tests.trace.test_decoding import DATA, EXCHANGE, STORE, message

LINGER = struct.pack("ii", 1, 0)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """The peer, by hand."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.settimeout(20)
        yield sock


class Pair:
    """Both ends of a connection through a proxy."""

    def __init__(self, listener: socket.socket, records: Records, **options: object) -> None:
        self.proxy = Proxy("127.0.0.1", 0, *listener.getsockname()[:2], on_record=records.take, **options)  # type: ignore[arg-type]
        self.near = socket.create_connection(("127.0.0.1", self.proxy.port), 20)
        self.far, _ = listener.accept()
        self.far.settimeout(20)

    def __enter__(self) -> Pair:
        return self

    def __exit__(self, *_: object) -> None:
        self.near.close()
        self.far.close()
        self.proxy.close()


def read_all(sock: socket.socket, size: int | None = None) -> bytes:
    parts = []
    left = size
    while left is None or left:
        data = sock.recv(min(left or 65536, 65536))
        if not data:
            break
        parts.append(data)
        left = None if left is None else left - len(data)
    return b"".join(parts)


def test_bytes_pass_unchanged_and_half_closes_stay_halves(listener: socket.socket) -> None:
    """What is no DICOM passes, too; each direction ends by itself."""
    records = Records()
    with Pair(listener, records) as pair:
        pair.near.sendall(b"GET / HTTP/1.1\r\n\r\n")
        pair.near.shutdown(socket.SHUT_WR)
        assert read_all(pair.far) == b"GET / HTTP/1.1\r\n\r\n"
        pair.far.sendall(DATA)
        pair.far.shutdown(socket.SHUT_WR)
        assert read_all(pair.near) == DATA
        records.wait_until(records.all_ended)
    assert [type(one) for one in records] == [Opened, Garbage, Garbage, Closed]
    assert isinstance(records[0], Opened)
    assert records[0].acceptor == listener.getsockname()
    assert (records[-1].from_requestor, records[-1].how) == (True, "closed")  # type: ignore[union-attr]


@pytest.mark.parametrize("from_requestor", [True, False])
def test_a_reset_stays_a_reset(listener: socket.socket, from_requestor: bool, tmp_path: Path) -> None:
    """In either direction; what came before it has arrived."""
    records = Records()
    with PcapngWriter(tmp_path / "file") as writer, Pair(listener, records, writer=writer) as pair:
        one, other = (pair.near, pair.far) if from_requestor else (pair.far, pair.near)
        one.sendall(pdu.encode(pdu.Abort(0, 0)))
        assert read_all(other, 10) == pdu.encode(pdu.Abort(0, 0))
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
        one.close()
        with pytest.raises(ConnectionResetError):
            other.recv(1)
        records.wait_until(records.all_ended)
    assert (records[-1].from_requestor, records[-1].how) == (from_requestor, "reset")  # type: ignore[union-attr]


def fill(sock: socket.socket) -> int:
    """Write until nothing goes any more; how much went."""
    sock.settimeout(0.5)
    sent = 0
    try:
        while sent < 1 << 28:
            sent += sock.send(bytes(1 << 20))
    except TimeoutError:
        pass
    return sent


def test_the_pace_of_the_slower_side_is_kept(listener: socket.socket) -> None:
    """The proxy holds one read; the rest is in the buffers of the system. A reset is noticed all the same."""
    records = Records()
    with Pair(listener, records) as pair:
        assert fill(pair.near) < 1 << 26
        pair.near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
        pair.near.close()
        records.wait_until(records.all_ended)
    assert (records[-1].from_requestor, records[-1].how) == (True, "reset")  # type: ignore[union-attr]


def test_a_slow_reader_of_records_slows_the_connection_down_and_misses_nothing(listener: socket.socket) -> None:
    """A trace is complete; what waits is bounded."""
    go_on = threading.Event()
    seen: list[Record] = []

    def slow(record: Record) -> None:
        go_on.wait(20)
        seen.append(record)

    data = pdu.encode(pdu.ReleaseRq()) * 200_000
    proxy = Proxy("127.0.0.1", 0, *listener.getsockname()[:2], on_record=slow)
    with proxy, socket.create_connection(("127.0.0.1", proxy.port), 20) as near:
        far, _ = listener.accept()
        writer = threading.Thread(target=near.sendall, args=(data,))
        writer.start()
        arrived = bytearray()
        far.settimeout(0.5)
        with far, pytest.raises(TimeoutError):
            while True:
                arrived += far.recv(65536)
        assert 0 < len(arrived) < len(data)
        go_on.set()
        writer.join(20)
    assert len([one for one in seen if isinstance(one, Pdu)]) >= len(arrived) // 10


def test_a_peer_that_cannot_be_reached_is_a_reset_and_a_record(listener: socket.socket) -> None:
    """Nearest to what the requestor would see without the proxy."""
    port = listener.getsockname()[1]
    listener.close()
    records = Records()
    with Proxy("127.0.0.1", 0, "127.0.0.1", port, on_record=records.take) as proxy:
        with socket.create_connection(("127.0.0.1", proxy.port), 20) as near, pytest.raises(ConnectionResetError):
            near.recv(1)
        records.wait_until(records.all_ended)
    assert [(one.from_requestor, one.how) for one in records if isinstance(one, Closed)] == [(False, "unreachable")]


def test_close_ends_connections_and_records_that(listener: socket.socket) -> None:
    """Nobody's end closed; what was under way is told."""
    records = Records()
    with Pair(listener, records) as pair:
        pair.near.sendall(message(STORE, DATA)[:500])
        assert read_all(pair.far, 500)
        pair.proxy.close()
        assert read_all(pair.near) == b""
    assert isinstance(records[-2], Garbage)
    assert (records[-1].from_requestor, records[-1].how) == (None, "closed")  # type: ignore[union-attr]


def test_a_silent_connection_is_closed_if_that_is_wanted(listener: socket.socket) -> None:
    """``idle``; without it a connection may be silent for ever."""
    records = Records()
    with Pair(listener, records, idle=0.1) as pair:
        assert read_all(pair.near) == b""
        assert read_all(pair.far) == b""
        records.wait_until(records.all_ended)


def test_an_error_of_who_takes_the_records_ends_the_proxy(listener: socket.socket) -> None:
    """And is raised to who waits for it: a trace with a hole is none."""

    def fail(record: Record) -> None:
        raise LookupError("no room")

    proxy = Proxy("127.0.0.1", 0, *listener.getsockname()[:2], on_record=fail)
    with socket.create_connection(("127.0.0.1", proxy.port), 20):
        with pytest.raises(LookupError):
            proxy.wait(20)
        with pytest.raises(LookupError):
            proxy.close()


def test_more_connections_than_allowed_wait(listener: socket.socket) -> None:
    """In the backlog, until one has ended."""
    records = Records()
    with (
        Pair(listener, records, most_connections=1) as pair,
        socket.create_connection(("127.0.0.1", pair.proxy.port), 20) as second,
    ):
        second.sendall(EXCHANGE[0][1])
        listener.settimeout(0.2)
        with pytest.raises(TimeoutError):
            listener.accept()
        pair.near.close()
        pair.far.close()
        listener.settimeout(20)
        far, _ = listener.accept()
        with far:
            assert read_all(far, len(EXCHANGE[0][1])) == EXCHANGE[0][1]


def test_a_proxy_that_is_its_own_peer_ends_with_an_error() -> None:
    """It would call itself until nothing is left."""
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    proxy = Proxy("127.0.0.1", port, "127.0.0.1", port, on_record=Records().take)
    with socket.create_connection(("127.0.0.1", port), 20), pytest.raises(TransportError, match="itself"):
        proxy.wait(20)
    with pytest.raises(TransportError):
        proxy.close()


def test_a_connection_for_which_there_is_no_thread_is_closed(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the next one is taken all the same."""
    records = Records()
    with Proxy("127.0.0.1", 0, *listener.getsockname()[:2], on_record=records.take) as proxy:
        start = threading.Thread.start

        def fail_once(thread: threading.Thread) -> None:
            monkeypatch.setattr(threading.Thread, "start", start)
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", fail_once)
        with socket.create_connection(("127.0.0.1", proxy.port), 20) as first:
            assert first.recv(1) == b""
        with socket.create_connection(("127.0.0.1", proxy.port), 20), listener.accept()[0]:
            pass


def test_close_does_not_wait_for_a_peer_that_takes_no_connection() -> None:
    """Its host may drop packets without a word; the requestor sees a reset at once."""
    records = Records()
    with socket.socket() as full, contextlib.ExitStack() as stack:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(3):  # until its backlog is full, and what follows is not answered
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        proxy = Proxy("127.0.0.1", 0, *full.getsockname(), on_record=records.take, connect=60.0)
        near = stack.enter_context(socket.create_connection(("127.0.0.1", proxy.port), 20))
        while not proxy._connecting:  # the accept is on its way
            time.sleep(0.001)
        began = time.monotonic()
        proxy.close()
        assert time.monotonic() - began < 20
        with pytest.raises(ConnectionResetError):
            near.recv(1)
    assert [one.how for one in records if isinstance(one, Closed)] == ["unreachable"]


def test_what_waits_is_bounded_by_bytes_too() -> None:
    """Long negotiations, for a reader that is slow."""
    released, taken = threading.Event(), threading.Semaphore(0)

    def take(_record: Record) -> None:
        taken.release()
        released.wait(20)

    recorder = Recorder(take, lambda: None)
    heavy = Pdu(1, 0.0, True, 1, 1 << 20, pdu.ReleaseRq())
    recorder.put([heavy])
    assert taken.acquire(timeout=20)  # the reader has it, and is slow
    for _ in range(16):
        recorder.put([heavy])
    last = threading.Thread(target=recorder.put, args=([heavy],))
    last.start()
    last.join(0.2)
    assert last.is_alive()
    released.set()
    last.join(20)
    recorder.close()
    assert not last.is_alive()


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_throughput(listener: socket.socket) -> None:
    """A proxy that slows things down hides what it is to show: this asks for a part of what it can."""
    total = 512 << 20
    data = memoryview(message(STORE, bytes(16 << 20), longest=128 * 1024))
    records = Records()
    with Pair(listener, records) as pair:

        def send() -> None:
            for _ in range(total // len(data)):
                pair.near.sendall(data)
            pair.near.shutdown(socket.SHUT_WR)

        writer = threading.Thread(target=send)
        began = time.monotonic()
        writer.start()
        count = 0
        buffer = bytearray(1 << 20)
        while got := pair.far.recv_into(buffer):
            count += got
        rate = count / (time.monotonic() - began) / 1e6
        writer.join()
    assert count == total // len(data) * len(data)
    assert rate > 50  # other tests run beside this one
