"""The server: whom it admits (§3 of the limits), and how it ends (K1)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

import dicomnet
from dicomnet import AssociationRejected, Limits, Timeouts
from tests.faces.conftest import QUICK, Scp, ct, eventually
from tests.faces.face import Face
from tests.faces.wire import CT, EXPLICIT, RELEASE_RQ, RQ, Wire, echo_rq, encoded, patient_data, store_rq

MakeScp = Callable[..., Scp]
CONTEXTS = [dicomnet.Verification, (CT, [EXPLICIT])]
FULL = "2/3/2"


@pytest.fixture
def client(server_face: Face) -> Face:
    """Both ends on the same face: here one is tested, and the other could be any."""
    return server_face


def refused(client: Face, peer: str, **options: Any) -> None:
    with pytest.raises(AssociationRejected, match=FULL) as caught:
        client.associate(peer, **options)
    assert caught.value.transient


# --- limits ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"max_associations": 2}, {"limits": Limits(associations=2)}])
def test_a_full_server_refuses_for_now(client: Face, scp: MakeScp, options: dict[str, Any]) -> None:
    """§3: RJ 2/3/2; who leaves makes room."""
    acceptor = scp(**options)
    with client.associate(acceptor.peer) as one:
        with client.associate(acceptor.peer) as other:
            refused(client, acceptor.peer)
            assert one.c_echo().status == other.c_echo().status == 0
        eventually(lambda: not _is_full(client, acceptor), "there is room again")


@pytest.mark.parametrize("options", [{"max_associations_per_peer": 1}, {"limits": Limits(associations_per_ae_title=1)}])
def test_an_ae_title_may_have_only_so_many(client: Face, scp: MakeScp, options: dict[str, Any]) -> None:
    """§3: one modality does not lock the others out."""
    acceptor = scp(**options)
    with client.associate(acceptor.peer, calling_ae="CT1"):
        refused(client, acceptor.peer, calling_ae="CT1")
        with client.associate(acceptor.peer, calling_ae="CT2") as other:
            assert other.c_echo().status == 0


def test_an_address_may_have_only_so_many(client: Face, scp: MakeScp) -> None:
    """§3."""
    acceptor = scp(limits=Limits(associations_per_address=2))
    with client.associate(acceptor.peer, calling_ae="A"), client.associate(acceptor.peer, calling_ae="B"):
        refused(client, acceptor.peer, calling_ae="C")


def test_one_that_was_refused_by_a_handler_makes_room(client: Face, scp: MakeScp) -> None:
    """§3: what it took is given back."""
    acceptor = scp(max_associations=1)

    @acceptor.ae.on_association
    def refuse(association: Any) -> None:
        if association.calling_ae == "FOE":
            raise dicomnet.Reject

    with pytest.raises(AssociationRejected, match="1/1/1"):
        client.associate(acceptor.peer, calling_ae="FOE")
    eventually(lambda: not _is_full(client, acceptor), "there is room again")


def _is_full(client: Face, acceptor: Scp) -> bool:
    try:
        with client.associate(acceptor.peer) as association:
            association.c_echo()
    except AssociationRejected:
        return True
    return False


def test_connections_that_wait_are_limited(client: Face, scp: MakeScp) -> None:
    """§3: past ``pending`` a request is refused, far past it the connection is closed; when they go there is room."""
    acceptor = scp(limits=Limits(pending=4))
    waiting = [Wire.to(acceptor.port) for _ in range(4)]
    refused(client, acceptor.peer)
    waiting += [Wire.to(acceptor.port) for _ in range(8)]
    assert any(wire.reads(1) == b"" for wire in waiting[4:])  # without being asked anything
    for wire in waiting:
        wire.socket.close()
    eventually(lambda: not _is_full(client, acceptor), "there is room again")


def test_associations_do_not_count_as_waiting(client: Face, scp: MakeScp) -> None:
    """§3: they have limits of their own."""
    acceptor = scp(limits=Limits(pending=1))
    with client.associate(acceptor.peer), client.associate(acceptor.peer), client.associate(acceptor.peer) as last:
        assert last.c_echo().status == 0


def test_fifty_that_say_three_bytes_do_not_keep_a_good_one_out(client: Face, scp: MakeScp) -> None:
    """N7, N-02: and they are gone when ARTIM says."""
    acceptor = scp(timeouts=Timeouts(artim=3.0))
    silent = [Wire.to(acceptor.port).sends(encoded(RQ)[:3]) for _ in range(50)]
    with client.associate(acceptor.peer, contexts=CONTEXTS) as association:
        assert association.c_echo().status == 0
        assert association.c_store(ct(patient_data())).status == 0
    for wire in silent:
        with wire:
            assert wire.reads(1) == b""


# --- ending ---------------------------------------------------------------------------------------------------------


def test_a_server_listens_where_it_says(client: Face, scp: MakeScp) -> None:
    """The API, §2: port 0 is a free one; a port that is taken is an OSError."""
    acceptor = scp()
    assert acceptor.server.host == "127.0.0.1"
    assert acceptor.port > 0
    with pytest.raises(OSError, match=r"."):
        client.serve(acceptor.ae, "127.0.0.1", acceptor.port)


def test_wait_returns_when_the_server_is_closed(scp: MakeScp) -> None:
    """The API, §2."""
    server = scp().server
    assert server.wait(0.01) is False
    closer = threading.Thread(target=server.close)
    closer.start()
    assert server.wait(20) is True
    closer.join(20)


def test_close_may_be_called_twice(client: Face, scp: MakeScp) -> None:
    """The API, §2: and leaving the block after it does nothing."""
    acceptor = scp()
    acceptor.server.close()
    acceptor.server.close()
    with pytest.raises(dicomnet.TransportError):
        client.associate(acceptor.peer)


def test_close_from_several_threads(scp: MakeScp) -> None:
    """Each returns when the server is closed."""
    server = scp().server
    closers = [threading.Thread(target=server.close) for _ in range(4)]
    for closer in closers:
        closer.start()
    for closer in closers:
        closer.join(20)
        assert not closer.is_alive()


def test_a_transfer_under_way_may_finish(client: Face, scp: MakeScp) -> None:
    """K1: drain; the response arrives, then the association is ended."""
    acceptor = scp()
    begun, may_end = threading.Event(), threading.Event()

    @acceptor.ae.on_c_store
    def slow(request: Any) -> int:
        begun.set()
        return 0 if may_end.wait(20) else 0xC000

    association = client.associate(acceptor.peer, contexts=CONTEXTS)
    statuses: list[int] = []
    storing = threading.Thread(target=lambda: statuses.append(association.c_store(ct(patient_data())).status))
    storing.start()
    assert begun.wait(20)
    closing = threading.Thread(target=acceptor.server.close)
    closing.start()
    with pytest.raises((dicomnet.TransportError, AssociationRejected)):
        while True:  # until it does not listen any more
            client.associate(acceptor.peer).abort()
    may_end.set()
    storing.join(20)
    assert statuses == [0]
    closing.join(20)
    assert not closing.is_alive()
    association.abort()


def test_half_a_data_set_is_under_way(scp: MakeScp) -> None:
    """K1: what has begun to arrive may arrive, is answered, and may be released."""
    acceptor = scp()
    with Wire.associated(acceptor.port) as wire:
        stored = store_rq()
        wire.sends(echo_rq(), stored[:-7])
        wire.hears_message()
        closing = threading.Thread(target=acceptor.server.close)
        closing.start()
        eventually(lambda: not _listens(acceptor.port), "it does not listen any more")
        wire.sends(stored[-7:], RELEASE_RQ)
        assert wire.hears_message().status == 0
        assert [type(value).__name__ for value in wire.hears_to_the_end()] == ["ReleaseRp"]
        closing.join(20)
    assert acceptor.received == [patient_data()]
    assert acceptor.close_errors(1) == [None]


def _listens(port: int) -> bool:
    try:
        Wire.to(port).socket.close()
    except OSError:
        return False
    return True


def test_an_idle_association_is_aborted(scp: MakeScp) -> None:
    """K1: A-ABORT 0/0; close does not wait for the time to drain."""
    acceptor = scp(timeouts=Timeouts(drain=None))
    with Wire.associated(acceptor.port) as wire:
        acceptor.server.close()
        assert [(value.source, value.reason) for value in wire.hears_to_the_end()] == [(0, 0)]
    assert isinstance(acceptor.close_errors(1)[0], dicomnet.AssociationAborted)


def test_a_connection_that_requested_nothing_is_closed(scp: MakeScp) -> None:
    """K1: there is nothing to abort."""
    acceptor = scp(timeouts=Timeouts(drain=None, artim=None))
    with Wire.to(acceptor.port) as wire, Wire.associated(acceptor.port):
        acceptor.server.close()
        assert wire.hears_to_the_end() == []


def test_a_transfer_that_does_not_end_is_aborted(scp: MakeScp) -> None:
    """K1, Timeouts.drain: A-ABORT 0/0, and nothing is left of the data set."""
    acceptor = scp(timeouts=Timeouts(drain=QUICK), limits=Limits(spool_size=16))
    with Wire.associated(acceptor.port) as wire:
        wire.sends(echo_rq(), store_rq()[:-1])
        wire.hears_message()
        acceptor.server.close()
        assert [(value.source, value.reason) for value in wire.hears_to_the_end()] == [(0, 0)]
    assert acceptor.received == []


def test_a_handler_that_never_returns_does_not_hold_up_close(
    client: Face, scp: MakeScp, caplog: pytest.LogCaptureFixture
) -> None:
    """K3, Timeouts.drain: its peer gets an A-ABORT; one line in the log tells of it."""
    acceptor = scp(timeouts=Timeouts(drain=QUICK))
    begun, may_end = threading.Event(), threading.Event()

    @acceptor.ae.on_c_echo
    def stuck(request: Any) -> int:
        begun.set()
        may_end.wait(60)
        return 0

    with Wire.associated(acceptor.port) as wire:
        wire.sends(echo_rq())
        assert begun.wait(20)
        acceptor.server.close()
        assert [(value.source, value.reason) for value in wire.hears_to_the_end()] == [(0, 0)]
    assert len([record for record in caplog.records if "did not end" in record.getMessage()]) == 1
    may_end.set()
    acceptor.close_errors(1)


def test_close_from_a_handler_does_not_deadlock(client: Face, scp: MakeScp) -> None:
    """The API, §2: it returns; the server is closed when that association has ended."""
    acceptor = scp()

    @acceptor.ae.on_c_echo
    def shut_down(request: Any) -> int:
        acceptor.server.close()
        acceptor.server.close()
        return 0

    with client.associate(acceptor.peer) as association:
        assert association.c_echo().status == 0
    assert acceptor.server.wait(20)
    assert acceptor.close_errors(1) == [None]


def test_leaving_the_block_by_an_exception_closes_the_server(server_face: Face) -> None:
    """The API, §2."""
    with pytest.raises(KeyError, match="the user's own"), server_face.serve(dicomnet.AE("SCP")) as server:
        raise KeyError("the user's own")
    assert server.wait(0.01)


def test_many_idle_associations_are_ended_at_once(scp: MakeScp) -> None:
    """K1: each gets its A-ABORT."""
    acceptor = scp(timeouts=Timeouts(drain=None))
    wires = [Wire.associated(acceptor.port) for _ in range(20)]
    acceptor.server.close()
    for wire in wires:
        with wire:
            assert [(value.source, value.reason) for value in wire.hears_to_the_end()] == [(0, 0)]
    acceptor.close_errors(20)
