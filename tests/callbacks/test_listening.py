"""§2 and §3 of the contract: listening, accepting, refusing; addresses and what the members tell."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest

from dicomnet import TransportError
from dicomnet.callbacks import DicomNet, IpType, NetError, SocketOptions
from dicomnet.config import Limits
from dicomnet.ul import pdu
from tests.callbacks.recorder import VERIFICATION, Scp, Scu, Stage, eventually, quick
from tests.faces.wire import RQ, Scripted, Wire, echo_rq

HAS_IPV6 = socket.has_dualstack_ipv6()


# --- addresses ------------------------------------------------------------------------------------------------------


def test_the_empty_address_is_loopback_and_port_0_a_free_one(stage: Stage) -> None:
    """§2: ``""`` = loopback, port 0 = a free one; ``host_address``/``host_port`` then tell."""
    listener = stage.listener()
    assert listener.host_address == "127.0.0.1"
    assert listener.host_port > 0
    assert listener.ip_type is IpType.IPV4
    assert listener.is_activated()
    assert not listener.is_connected()


@pytest.mark.skipif(not HAS_IPV6, reason="no IPv6 on this machine")
@pytest.mark.parametrize(("peer", "ip_type"), [("127.0.0.1", IpType.IPV4), ("::1", IpType.IPV6)])
def test_the_star_is_all_addresses_of_both_kinds(stage: Stage, peer: str, ip_type: IpType) -> None:
    """§2: ``"*"`` = all addresses, IPv4 and IPv6."""
    listener = stage.listener(address="*")
    assert listener.ip_type is IpType.IPV4_OR_IPV6
    scu = stage.scu()
    scu.connect("", 0, peer, listener.host_port)
    stage.wait("SCU", "on_receive_associate_accept")
    (client,) = listener.clients
    assert (scu.ip_type, client.ip_type) == (ip_type, ip_type)
    assert (client.peer_address, client.peer_port) == (scu.host_address, scu.host_port) == (peer, scu.host_port)
    assert (scu.peer_address, scu.peer_port) == (client.host_address, listener.host_port)


@pytest.mark.parametrize(
    "peer", ["127.0.0.1", pytest.param("::1", marks=pytest.mark.skipif(not HAS_IPV6, reason="no IPv6"))]
)
def test_on_accept_knows_whose_connection_it_is_and_may_leave_it(stage: Stage, peer: str) -> None:
    """§2: what is not accepted is closed, unread."""
    seen: list[tuple[str, int]] = []

    class Choosing(DicomNet):
        make_client: Any

        def on_accept(self, error: NetError) -> None:
            seen.append((self.peer_address, self.peer_port))

    listener = stage.listener(Choosing, address="*" if ":" in peer else "")
    with socket.create_connection((peer, listener.host_port), 30) as sock:
        assert sock.recv(1) == b""
        assert seen == [(peer, sock.getsockname()[1])]


@pytest.mark.skipif(not HAS_IPV6, reason="no IPv6 on this machine")
def test_an_ipv6_address_can_be_listened_on(stage: Stage) -> None:
    """§2."""
    listener = stage.listener(address="::1")
    assert (listener.host_address, listener.ip_type) == ("::1", IpType.IPV6)


def test_an_address_that_is_not_ours_is_an_error(stage: Stage) -> None:
    """§5."""
    for address in ("192.0.2.1", "no.such.host.invalid", "x" * 70):
        listener = DicomNet()
        with pytest.raises(TransportError, match="cannot listen"):
            listener.listen(address, 0, 5)
        assert listener.last_error is not None
        assert not listener.is_activated()


def test_a_connection_comes_from_where_it_is_told(stage: Stage) -> None:
    """§1, 3: ``connect(host, host_port, peer, peer_port)``."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    scu = stage.scu()
    scu.connect("127.0.0.1", port, "127.0.0.1", stage.listener().host_port)
    stage.wait("SCU", "on_receive_associate_accept")
    assert (scu.host_address, scu.host_port) == ("127.0.0.1", port)
    assert stage.wait("client", "on_receive_associate_request")


def test_a_local_port_in_use_is_reported(stage: Stage) -> None:
    """§5: address in use."""
    listener = stage.listener()
    scu = stage.scu()
    scu.connect("127.0.0.1", listener.host_port, "127.0.0.1", listener.host_port)
    assert stage.wait("SCU", "on_connect") == (NetError.ADDRESS_IN_USE,)


def test_addresses_are_valid_inside_on_close(stage: Stage) -> None:
    """§3: still valid inside ``on_close``."""
    seen: dict[str, tuple[str, int, str, int]] = {}

    class Noting(Scp):
        def on_close(self, error: Any, net: DicomNet) -> None:
            seen["client"] = (net.host_address, net.host_port, net.peer_address, net.peer_port)

    listener = stage.listener(Noting)
    scu = stage.associated(listener.host_port)
    expected = (listener.host_address, listener.host_port, scu.host_address, scu.host_port)
    scu.send_release_request()
    stage.wait("listener", "on_close")
    eventually(lambda: seen, "on_close has run")
    assert seen["client"] == expected


# --- connecting -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "error"),
    [
        ("127.0.0.1", NetError.REFUSED),
        ("no.such.host.invalid", NetError.HOST_NOT_FOUND),
        ("x" * 70, NetError.HOST_NOT_FOUND),
    ],
)
@pytest.mark.parametrize("local", ["", "127.0.0.1"])
def test_a_connection_that_fails_is_told_by_on_connect(stage: Stage, host: str, error: NetError, local: str) -> None:
    """§6: ``on_connect(error ≠ success)``; no ``on_close``."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    scu = stage.scu()
    scu.connect(local, 0, host, port)
    assert stage.wait("SCU", "on_connect") == (error,)
    assert not scu.is_activated()
    assert scu.last_error is not None
    assert stage.told("SCU") == [f"on_connect({error.name})"]


def test_a_connection_that_failed_can_be_tried_again_at_once(stage: Stage) -> None:
    """§6."""

    class Stubborn(Scu):
        def on_connect(self, error: NetError) -> None:
            if error:
                self.connect("", 0, "127.0.0.1", listener.host_port)
            else:
                super().on_connect(error)

    listener = stage.listener()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    scu = stage.connected(port, Stubborn)
    stage.wait("SCU", "on_receive_associate_accept")
    assert scu.last_error is None


def test_a_connection_that_is_closed_before_it_stands_is_told(stage: Stage) -> None:
    """§2: each ``connect`` ends in one ``on_connect``; ``on_close`` comes only after its success."""
    gate = stage.gate()

    class First(Scu):
        def on_close(self, error: Any, net: DicomNet) -> None:
            self.connect("", 0, "127.0.0.1", port)  # begins when this callback has returned
            self.close()
            gate.pass_()

    port = stage.listener().host_port
    scu = stage.associated(port, First)
    scu.close()
    gate.open()
    assert stage.wait("SCU", "on_connect", 2) == (NetError.CLOSED,)
    assert len(stage.entries("SCU", "on_close")) == 1


def test_the_peer_may_close_before_an_association_is_requested(stage: Stage) -> None:
    """§6: on_close, and no endless loop."""
    with Scripted(lambda wire: None) as script:
        scu = stage.connected(script.port, DicomNet)
        assert stage.wait("SCU", "on_close") == (NetError.CLOSED, scu)


# --- accepting ------------------------------------------------------------------------------------------------------


def test_a_connection_that_is_not_accepted_is_closed(stage: Stage) -> None:
    """§2: it does not stay in the queue."""

    class Declining(DicomNet):
        make_client: Any

        def on_accept(self, error: NetError) -> None:
            pass

    listener = stage.listener(Declining)
    for _ in range(3):
        with Wire.to(listener.host_port) as wire:
            assert wire.hears() is None
    assert listener.client_count == 0
    assert stage.entries("listener", "on_close") == []


def test_a_client_that_is_in_use_is_not_accepted_again(stage: Stage) -> None:
    """§2: one object is one connection; the exception ends that connection, not the listening object."""

    class Thrifty(Scp):
        one: Any = None

        def on_accept(self, error: NetError) -> None:
            self.one = self.one or self.make_client()
            self.accept(self.one)

    listener = stage.listener(Thrifty)
    with Wire.associated(listener.host_port) as first:
        with Wire.to(listener.host_port) as second:
            assert second.hears() is None
        first.sends(echo_rq(1))
        assert first.hears_message().message_id == 1
    stage.wait("listener", "on_close")
    with Wire.associated(listener.host_port):  # it is free again
        pass


def test_clients_are_counted(stage: Stage) -> None:
    """§3: ``client_count``, ``clients``, ``server``."""
    listener = stage.listener()
    scus = [stage.associated(listener.host_port, name=f"SCU {number}") for number in range(3)]
    assert listener.client_count == len(listener.clients) == 3
    assert {client.server for client in listener.clients} == {listener}
    assert {client.peer_port for client in listener.clients} == {scu.host_port for scu in scus}
    assert all(client.is_associated() for client in listener.clients)
    scus[0].close()
    stage.wait("listener", "on_close")
    assert listener.client_count == 2
    assert scus[1].clients == []
    assert scus[1].server is None


def test_past_max_clients_the_association_is_rejected(stage: Stage) -> None:
    """§2: A-ASSOCIATE-RJ, transient, local limit exceeded: 2/3/2; ``on_accept`` does not come."""
    listener = stage.listener(max_clients=1)
    with Wire.associated(listener.host_port):
        scu = stage.connected(listener.host_port)
        assert stage.wait("SCU", "on_receive_associate_reject") == (2, 3, 2)
        stage.wait("SCU", "on_close")
        assert not scu.is_connected()
    stage.wait("listener", "on_close")
    with Wire.associated(listener.host_port):
        assert len(stage.entries("listener", "on_accept")) == 2
    stage.wait("listener", "on_close", 2)


def test_max_clients_0_lets_nobody_in(stage: Stage) -> None:
    """§2."""
    listener = stage.listener(max_clients=0)
    with Wire.to(listener.host_port) as wire:
        assert wire.sends(RQ).hears() == pdu.AssociateRj(2, 3, 2)


def test_refusals_are_bounded_too(stage: Stage) -> None:
    """N7: half-open connections past the limit do not cost a thread each."""
    listener = stage.listener(max_clients=0, limits=Limits(pending=2))
    with Wire.to(listener.host_port) as one, Wire.to(listener.host_port) as two, Wire.to(listener.host_port) as three:
        assert three.hears() is None
        for wire in (one, two):
            assert wire.sends(RQ).hears() == pdu.AssociateRj(2, 3, 2)


def test_closing_the_listening_object_closes_its_clients(stage: Stage) -> None:
    """§1, 12."""
    listener = stage.listener()
    stage.associated(listener.host_port)
    listener.close()
    assert stage.wait("SCU", "on_close")[0] == NetError.CLOSED
    stage.wait("listener", "on_close")
    assert not listener.is_activated()
    with pytest.raises(OSError, match="refused"):
        Wire.to(listener.host_port)


def test_a_refused_connection_does_not_keep_the_listening_object_from_closing(stage: Stage) -> None:
    """§2."""
    listener = stage.listener(max_clients=0)
    with Wire.to(listener.host_port) as wire:
        assert wire.is_quiet_for(0.05)
        listener.close()
        assert wire.hears() is None
    eventually(lambda: listener._listener.ended, "it has ended")


def test_a_listening_object_can_listen_again(stage: Stage) -> None:
    """§2."""
    listener = stage.listener()
    listener.close()
    eventually(lambda: listener._listener.ended, "it has ended")
    listener.listen("", 0, 5)
    stage.associated(listener.host_port)


# --- members --------------------------------------------------------------------------------------------------------


def test_the_members_of_a_new_object() -> None:
    """§3."""
    net = DicomNet()
    assert net.association is None
    assert (net.is_activated(), net.is_connected(), net.is_associated()) == (False, False, False)
    assert (net.host_address, net.host_port, net.peer_address, net.peer_port) == ("", 0, "", 0)
    assert net.ip_type is IpType.NONE
    assert (net.client_count, net.clients, net.server, net.queued, net.user_data) == (0, [], None, 0, None)
    assert net.socket_options == SocketOptions(no_delay=True, send_buffer_size=None, receive_buffer_size=None)


def test_the_states_of_a_connection(stage: Stage) -> None:
    """§3: ``is_activated()``, ``is_connected()``, ``is_associated()``."""
    listener = stage.listener()
    scu = stage.connected(listener.host_port, DicomNet)
    assert scu.is_activated()
    stage.wait("SCU", "on_connect")
    assert (scu.is_connected(), scu.is_associated()) == (True, False)
    scu.send_associate_request(Scu().request())
    stage.wait("SCU", "on_receive_associate_accept")
    assert scu.is_associated()
    scu.send_release_request()
    stage.wait("SCU", "on_close")
    assert (scu.is_activated(), scu.is_connected(), scu.is_associated()) == (False, False, False)


@pytest.mark.parametrize("no_delay", [True, False])
def test_socket_options_reach_the_socket(stage: Stage, no_delay: bool) -> None:
    """§3: ``socket_options`` (``no_delay``, ``send_buffer_size``, ``receive_buffer_size``)."""

    class Tuned(Scp):
        def on_accept(self, error: NetError) -> None:
            client: Any = self.make_client()
            client.socket_options = SocketOptions(no_delay, 50_000, 60_000)
            self.accept(client)

    listener = stage.listener(Tuned)
    scu = stage.scu()
    scu.socket_options.no_delay = no_delay
    scu.socket_options.send_buffer_size = 70_000
    scu.connect("", 0, "127.0.0.1", listener.host_port)
    stage.wait("SCU", "on_receive_associate_accept")

    def option(net: Any, level: int, name: int) -> int:
        value: int = net._connection._sock.getsockopt(level, name)
        return value

    (client,) = listener.clients
    for net, size in ((client, 50_000), (scu, 70_000)):
        assert bool(option(net, socket.IPPROTO_TCP, socket.TCP_NODELAY)) is no_delay
        assert size <= option(net, socket.SOL_SOCKET, socket.SO_SNDBUF) <= 2 * size
    assert 60_000 <= option(client, socket.SOL_SOCKET, socket.SO_RCVBUF) <= 120_000


def test_user_data_is_the_users(stage: Stage) -> None:
    """§3."""
    scu, _ = stage.pair()
    scu.user_data = {"any": "thing"}
    scu.send_c_echo_request(1, 1, VERIFICATION)
    stage.wait("SCU", "on_receive_c_echo_response")
    assert scu.user_data == {"any": "thing"}


def test_out_of_descriptors_is_told_and_got_over(stage: Stage) -> None:
    """§2, K5: ``on_accept(error)``."""
    resource = pytest.importorskip("resource", reason="not on this platform")
    listener = stage.listener()
    with Wire.associated(listener.host_port):
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        sock = socket.socket()
        try:
            free = socket.socket()
            most = free.fileno()
            free.close()
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, before[1]))
            sock.connect(("127.0.0.1", listener.host_port))
            error = stage.wait("listener", "on_accept", 2)[0]
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        assert error == NetError.NETWORK
        with Wire(sock) as waited:
            assert isinstance(waited.sends(RQ).hears(), pdu.AssociateAc)


def test_timeouts_and_limits_are_the_objects_own(stage: Stage) -> None:
    """§2: time limits have defaults."""
    assert DicomNet().timeouts.artim == 30
    assert DicomNet(timeouts=quick("artim")).timeouts.artim != 30
    assert DicomNet().max_clients == Limits().associations


class _NoThreads:
    """``threading.Thread.start`` as it is when the system has no more of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *named: str) -> None:
        start = threading.Thread.start

        def refusing(thread: threading.Thread) -> None:
            if thread.name in named:
                raise RuntimeError("can't start new thread")
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", refusing)


def test_without_a_thread_there_is_no_connection(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """§2: the library never stays silent, and leaves nothing behind."""
    _NoThreads(monkeypatch, "dicomnet Scu", "dicomnet Silent listen")

    class Silent(DicomNet):
        pass

    with pytest.raises(TransportError, match="no thread"):
        stage.connected(stage.listener().host_port)
    listener = Silent()
    with pytest.raises(TransportError, match="can't start new thread"):
        listener.listen("", 0, 5)
    assert not listener.is_activated()
    assert stage.told("SCU") == []


def test_without_a_thread_a_client_is_not_accepted(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """§2: the listening object goes on."""
    _NoThreads(monkeypatch, "dicomnet Starved")
    listener = stage.listener(type("Starved", (Scp,), {}))
    for _ in range(2):
        with Wire.to(listener.host_port) as wire:
            assert wire.hears() is None
    assert listener.client_count == 0
    assert "no thread for a connection" in caplog.text


def test_without_a_thread_nobody_is_refused_politely(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """§2: then the connection is just closed."""
    _NoThreads(monkeypatch, "dicomnet _Refusal")
    listener = stage.listener(max_clients=0)
    for _ in range(2):
        with Wire.to(listener.host_port) as wire:
            assert wire.hears() is None
    assert listener.is_activated()
