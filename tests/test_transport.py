"""Connections by themselves: opening (IPv4, IPv6, RFC 8305), telling TLS from clear text, TLS's ends."""

from __future__ import annotations

import contextlib
import errno
import mmap
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dicomnet import transport
from dicomnet.config import Peer
from dicomnet.errors import DeadlineExceeded, TransportError
from dicomnet.tls import client_context, make_test_ca, server_context
from dicomnet.transport import TlsTransport, Transport

PATIENCE = 30.0  # seconds, on a busy machine
QUICK = 0.1
HEAD_START = 0.25  # RFC 8305 8

needs_ipv6 = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Client's, server's."""
    authority = make_test_ca(tmp_path_factory.mktemp("tls"))
    files = {"certificate": authority.server.certificate, "key": authority.server.key}
    return client_context(ca=authority.certificate), server_context(**files, client_auth="none")


@pytest.fixture
def closing() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture
def listener(closing: contextlib.ExitStack) -> socket.socket:
    return closing.enter_context(socket.create_server(("127.0.0.1", 0)))


@pytest.fixture
def refusing(closing: contextlib.ExitStack) -> Any:
    """An address where nothing listens, and nobody else can."""
    bound = closing.enter_context(socket.socket())
    bound.bind(("127.0.0.1", 0))
    return bound.getsockname()


@pytest.fixture
def silent(closing: contextlib.ExitStack) -> Any:
    """An address that does not answer: its queue of connections is full."""
    full = closing.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
    while True:
        sock = closing.enter_context(socket.socket())
        sock.settimeout(QUICK)
        try:
            sock.connect(full.getsockname())
        except TimeoutError:
            return full.getsockname()


@pytest.fixture
def host_at(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """``host_at(address, …)``: a name for these addresses, ports included."""
    asked = socket.getaddrinfo

    def name(*addresses: Any) -> str:
        def answer(host: Any, port: Any, *arguments: Any, **options: Any) -> Any:
            if host != "pacs.example":
                return asked(host, port, *arguments, **options)
            if options.get("flags", 0) & socket.AI_NUMERICHOST:
                raise socket.gaierror(socket.EAI_NONAME, "not an address")
            families = [socket.AF_INET6 if ":" in address[0] else socket.AF_INET for address in addresses]
            return [
                (family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address)
                for family, address in zip(families, addresses, strict=True)
            ]

        monkeypatch.setattr(socket, "getaddrinfo", answer)
        return "pacs.example"

    return name


# --- connecting -----------------------------------------------------------------------------------------------------


def test_an_address_that_does_not_answer_is_not_waited_for(
    host_at: Callable[..., str], listener: socket.socket, silent: Any
) -> None:
    """RFC 8305 5: the next address is tried beside it, after a quarter of a second."""
    begun = time.monotonic()
    with transport.connect(host_at(silent, listener.getsockname()), 104, PATIENCE) as sock:
        assert sock.getpeername() == listener.getsockname()
    assert HEAD_START <= time.monotonic() - begun < PATIENCE / 2


def test_an_address_that_refuses_is_not_waited_for(
    host_at: Callable[..., str], listener: socket.socket, refusing: Any, silent: Any
) -> None:
    """RFC 8305 5: the next one begins at once, also while another one is still silent."""
    begun = time.monotonic()
    host = host_at(silent, *[refusing] * 20, listener.getsockname())
    with transport.connect(host, 104, PATIENCE) as sock:
        assert sock.getpeername() == listener.getsockname()
    assert time.monotonic() - begun < 20 * HEAD_START


def test_a_slow_address_may_still_win(
    host_at: Callable[..., str], listener: socket.socket, refusing: Any, silent: Any
) -> None:
    """RFC 8305 5: attempts go on while others begin; those that lose are closed."""
    place = (socket.AF_INET, socket.SOCK_STREAM, 0, "", listener.getsockname())
    attempts = transport._Attempts([(*place[:4], silent), (*place[:4], refusing), place], None)
    with contextlib.ExitStack() as stack:
        sock = attempts.run(time.monotonic() + PATIENCE)
        assert sock is not None
        stack.enter_context(sock)
        attempts.give_up()
        assert sock.getpeername() == listener.getsockname()
    assert attempts._open == {}


def test_why_no_address_was_any_good(host_at: Callable[..., str], refusing: Any) -> None:
    """One line with a reason for each."""
    with pytest.raises(TransportError, match=r"port 104: .*refused$") as one:
        transport.connect(host_at(refusing), 104, PATIENCE)
    assert isinstance(one.value.__cause__, ConnectionRefusedError)
    with pytest.raises(TransportError, match=r"127\.0\.0\.1: .*refused; 127\.0\.0\.1: .*refused$"):
        transport.connect(host_at(refusing, refusing), 104, PATIENCE)


def test_the_time_to_connect(host_at: Callable[..., str], refusing: Any, silent: Any) -> None:
    """Timeouts.connect is for all addresses together."""
    for addresses in ([silent], [silent, refusing], [refusing, silent, silent]):
        with pytest.raises(DeadlineExceeded) as caught:
            transport.connect(host_at(*addresses), 104, QUICK)
        assert (caught.value.timer, caught.value.seconds) == ("connect", QUICK)


def test_the_time_to_connect_includes_the_look_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server that does not answer: nobody waits longer for it than for the peer."""
    answered = threading.Event()

    def look_up(host: str, port: int, **options: Any) -> Any:
        if options.get("flags"):
            raise socket.gaierror(socket.EAI_NONAME, "not an address")
        answered.wait(PATIENCE)
        raise socket.gaierror(socket.EAI_AGAIN, "no answer")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    try:
        with pytest.raises(DeadlineExceeded, match="connect"):
            transport.connect("pacs.example", 104, QUICK)
    finally:
        answered.set()


@pytest.mark.parametrize("seconds", [PATIENCE, None])
@pytest.mark.parametrize("host", ["no.such.host.invalid", "a" * 64 + ".example", "fe80::1%nowhere"])
def test_a_host_that_is_not_known(host: str, seconds: float | None) -> None:
    """RFC 6761 6.4, RFC 5890 2.3.1, RFC 4007 11."""
    with pytest.raises(TransportError, match=r"is not known|no connection"):
        transport.connect(host, 104, seconds)


def test_a_port_of_our_own_is_for_one_attempt_at_a_time(
    host_at: Callable[..., str], listener: socket.socket, silent: Any
) -> None:
    """Two connections cannot have it at once: a silent address gets its share of the time and is given up."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        local = bound.getsockname()
    with transport.connect(host_at(silent, listener.getsockname()), 104, 2.0, local) as sock:
        assert (sock.getsockname(), sock.getpeername()) == (local, listener.getsockname())


@needs_ipv6
def test_families_take_turns(host_at: Callable[..., str]) -> None:
    """RFC 8305 4."""
    hosts = ["::1", "::2", "::3", "127.0.0.1", "127.0.0.2"]
    place = {host: (10 if ":" in host else 2, 1, 6, "", (host, 104)) for host in hosts}
    turns = [place[4][0] for place in transport.in_turn(list(place.values()))]
    assert turns == ["::1", "127.0.0.1", "::2", "127.0.0.2", "::3"]


# --- listening ------------------------------------------------------------------------------------------------------


def _hears(listener: socket.socket, host: str) -> bool:
    try:
        transport.connect(host, listener.getsockname()[1], PATIENCE).close()
    except TransportError:
        return False
    return True


@needs_ipv6
@pytest.mark.parametrize(
    ("host", "ipv4", "ipv6"),
    [
        ("*", True, True),
        ("::", False, True),
        ("0.0.0.0", True, False),
        ("::1", False, True),
        ("127.0.0.1", True, False),
        ("", True, False),
    ],
)
def test_where_a_server_listens(host: str, ipv4: bool, ipv6: bool) -> None:
    """A star is all addresses of both families; each family has an address of its own for all of its addresses."""
    with transport.listen(host, 0, 8) as listener:
        assert (_hears(listener, "127.0.0.1"), _hears(listener, "::1")) == (ipv4, ipv6)


@needs_ipv6
def test_a_name_with_addresses_of_both_families(host_at: Callable[..., str]) -> None:
    """Such as localhost, of which systems put the IPv6 address first, while DCMTK 3.6 knows only IPv4."""
    with transport.listen(host_at(("::1", 0, 0, 0), ("127.0.0.1", 0)), 0, 8) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"
    with transport.listen(host_at(("::1", 0, 0, 0)), 0, 8) as listener:
        assert listener.getsockname()[0] == "::1"


def test_where_one_cannot_listen(listener: socket.socket) -> None:
    """OSError, with the address."""
    for host, port, code in (
        ("127.0.0.1", listener.getsockname()[1], errno.EADDRINUSE),
        ("203.0.113.77", 0, errno.EADDRNOTAVAIL),
    ):
        with pytest.raises(OSError, match=re.escape(host)) as caught:
            transport.listen(host, port, 8)
        assert caught.value.errno == code
    with pytest.raises(OSError, match="not known"):
        transport.listen("no.such.host.invalid", 0, 8)


@needs_ipv6
def test_an_address_with_a_zone() -> None:
    """RFC 4007 11: a link-local address says on which link."""
    try:
        entries = Path("/proc/net/if_inet6").read_text().split("\n")
    except OSError:
        pytest.skip("no list of addresses")
    links = [entry.split() for entry in entries if entry.startswith("fe80")]
    if not links:
        pytest.skip("no link-local address")
    digits, zone = links[0][0], links[0][5]
    host = ":".join(digits[start : start + 4] for start in range(0, 32, 4)) + f"%{zone}"
    with transport.listen(host, 0, 8) as listener:
        peer = Peer.parse(f"SCP@[{host}]:{listener.getsockname()[1]}")
        assert Peer.parse(str(peer)) == peer
        with transport.connect(peer.host, peer.port, PATIENCE) as sock:
            assert sock.getpeername()[3] == listener.getsockname()[3] != 0


def test_a_zone_and_a_final_dot_are_not_in_certificates(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """RFC 4007 11.2, RFC 6066 3: the name that is asked for and checked has neither."""
    for host in ("::1%lo", "localhost."):
        client, server = tls_pair(contexts, host=host)
        assert client.tls_info.certificate is not None
        client.close()
        server.close()


# --- TLS ------------------------------------------------------------------------------------------------------------


def both(*calls: Callable[[], Any]) -> list[Any]:
    """What these return, which run at once."""
    results: list[Any] = [None] * len(calls)

    def run(index: int) -> None:
        try:
            results[index] = calls[index]()
        except Exception as error:
            results[index] = error

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    for result in results:
        if isinstance(result, Exception):
            raise result
    return results


def tls_pair(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext], host: str = "localhost"
) -> tuple[TlsTransport, TlsTransport]:
    ours, theirs = socket.socketpair()
    client, server = both(
        lambda: transport.secure(ours, contexts[0], PATIENCE, server_side=False, server_hostname=host),
        lambda: transport.secure(theirs, contexts[1], PATIENCE, server_side=True),
    )
    return client, server


def all_of(link: Transport) -> bytes:
    """What comes until the end."""
    received = b""
    while (data := link.receive_within(PATIENCE)) is None or data:
        received += data or b""
    return received


@pytest.fixture
def pair(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> Iterator[tuple[TlsTransport, TlsTransport]]:
    client, server = tls_pair(contexts)
    yield client, server
    client.close()
    server.close()


@pytest.fixture
def strict(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> Iterator[None]:
    """An end without close_notify is an error."""
    if hasattr(ssl, "OP_IGNORE_UNEXPECTED_EOF"):
        for context in contexts:
            context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    yield
    if hasattr(ssl, "OP_IGNORE_UNEXPECTED_EOF"):
        for context in contexts:
            context.options |= ssl.OP_IGNORE_UNEXPECTED_EOF


def test_what_a_handshake_came_to(pair: tuple[TlsTransport, TlsTransport]) -> None:
    client, server = pair
    assert client.tls_info.version == server.tls_info.version == "TLSv1.3"
    assert client.tls_info.cipher == server.tls_info.cipher
    assert client.certificate is client.tls_info.certificate
    assert client.certificate is not None
    assert client.tls_info.der is not None
    assert server.certificate is server.tls_info.der is None
    with socket.socket() as clear:
        assert Transport(clear).tls_info is None


@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize("end", [TlsTransport.half_close, TlsTransport.close])
def test_the_end_is_told(contexts: tuple[ssl.SSLContext, ssl.SSLContext], end: Callable[[TlsTransport], None]) -> None:
    """RFC 8446 6.1: close_notify before the write side is closed; the peer reads to the end and can still answer."""
    for ender, other in (tls_pair(contexts), tls_pair(contexts)[::-1]):
        assert ender.receive() is None  # but for session tickets
        assert not ender.send([b"last words"])
        end(ender)
        other.tls.settimeout(PATIENCE)
        other.tls.suppress_ragged_eofs = False
        assert other.tls.read(100) == b"last words"
        assert other.tls.read(1) == b""
        if end is TlsTransport.half_close:
            other.tls.setblocking(False)
            assert not other.send([b"answer"])
            assert all_of_one(ender) == b"answer"
        other.close()
        assert end is TlsTransport.close or all_of(ender) == b""
        ender.close()


def all_of_one(link: Transport) -> bytes:
    while (data := link.receive_within(PATIENCE)) is None:
        pass
    return bytes(data)


def test_what_has_come_before_the_end_is_read(pair: tuple[TlsTransport, TlsTransport]) -> None:
    """PS3.8 9.2.3, Sta13: an A-ABORT may wait there. Telling the end of TLS must not lose it."""
    client, server = pair
    client.send([b"abort" * 1000])
    server.wait_readable(PATIENCE)
    server.half_close()
    client.half_close()
    assert all_of(server) == b"abort" * 1000
    assert all_of(client) == b""


def test_what_comes_after_the_end_was_told_is_thrown_away(pair: tuple[TlsTransport, TlsTransport]) -> None:
    """The race of the one before: OpenSSL is deaf then, and the connection still ends in order, not by a reset."""
    client, server = pair
    client.send([b"more" * 1000])
    server.wait_readable(PATIENCE)
    server.send([b"enough"])
    server._say_goodbye()
    server.half_close()
    client.send([b"more" * 1000])
    client.half_close()
    assert all_of(server) == b""
    server.close()
    assert all_of(client) == b"enough"


def test_telling_the_end_does_not_wait(pair: tuple[TlsTransport, TlsTransport]) -> None:
    """The peer reads nothing."""
    client, _ = pair
    while not client.send([bytes(1 << 20)]):
        pass
    client.half_close()
    client.close()


def test_both_ends_close_at_once(pair: tuple[TlsTransport, TlsTransport]) -> None:
    both(pair[0].close, pair[1].close)
    pair[0].close()  # again


def test_a_file_that_becomes_shorter_while_it_is_sent(pair: tuple[TlsTransport, TlsTransport], tmp_path: Path) -> None:
    """TLS reads the mapped file itself: where the kernel would refuse, it would die by SIGBUS."""
    path = tmp_path / "data"
    path.write_bytes(bytes(1 << 20))
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        pair[0].send([memoryview(mapped)[:1000], b"header"])
        file.truncate(4096)
        for start, buffers in ((500_000, []), (501_000, [b"header"])):
            with pytest.raises(OSError, match="became shorter"), memoryview(mapped)[start:] as view:
                pair[0].send([*buffers, view])
    with mmap.mmap(-1, 4096) as anonymous, memoryview(anonymous) as view:
        assert not pair[0].send([view])


# --- TLS and clear text on one port ---------------------------------------------------------------------------------


def test_tls_and_clear_text_are_told_apart(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """The first byte: 0x16 of a ClientHello (RFC 8446 5.1), or a PDU type (PS3.8 9.3.1); nothing is lost."""
    client, server = contexts
    ours, theirs = socket.socketpair()
    link, told = both(
        lambda: transport.secure(ours, client, PATIENCE, server_side=False, server_hostname="localhost"),
        lambda: transport.secure_if_asked(theirs, server, PATIENCE, handshake=PATIENCE),
    )
    assert told.tls_info is not None
    link.send([b"hello"])
    assert all_of_one(told) == b"hello"
    link.close()
    told.close()
    for pdu in (b"\x01\x00rest", b"\x04\x00rest", b"\x07"):
        ours, theirs = socket.socketpair()
        with ours:
            ours.sendall(pdu)
            told = transport.secure_if_asked(theirs, server, PATIENCE, handshake=PATIENCE)
            assert told.tls_info is None
            assert all_of_one(told) == pdu
            told.close()


def test_a_connection_that_ends_before_it_said_anything(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """As with clear text alone: its end is read."""
    ours, theirs = socket.socketpair()
    ours.close()
    told = transport.secure_if_asked(theirs, contexts[1], PATIENCE, handshake=PATIENCE)
    assert all_of(told) == b""
    told.close()


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\n\r\n", b"\x00", b"\x08", b"\x80\x2e\x01", b"\x15\x03\x01"])
def test_neither_tls_nor_dicom_is_closed(contexts: tuple[ssl.SSLContext, ssl.SSLContext], said: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours:
        ours.sendall(said)
        with pytest.raises(TransportError, match=f"0x{said[0]:02X}"):
            transport.secure_if_asked(theirs, contexts[1], PATIENCE, handshake=PATIENCE)
        assert theirs.fileno() == -1


def test_silence_has_a_limit(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """PS3.8 9.1.4: ARTIM; then Timeouts.tls."""
    ours, theirs = socket.socketpair()
    with ours, pytest.raises(DeadlineExceeded) as caught:
        transport.secure_if_asked(theirs, contexts[1], QUICK, handshake=PATIENCE)
    assert (caught.value.timer, theirs.fileno()) == ("artim", -1)
    ours, theirs = socket.socketpair()
    with ours, pytest.raises(DeadlineExceeded) as caught:
        ours.sendall(b"\x16\x03")
        transport.secure_if_asked(theirs, contexts[1], PATIENCE, handshake=QUICK)
    assert caught.value.timer == "tls"


def test_a_server_that_closes_does_not_wait_for_the_first_byte(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    ours, theirs = socket.socketpair()
    wake, waker = socket.socketpair()
    with ours, wake, waker:
        waker.send(b"\0")
        with pytest.raises(TransportError, match="closing"):
            transport.secure_if_asked(theirs, contexts[1], None, handshake=None, wakes=[wake])
