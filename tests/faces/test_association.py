"""Requesting, using and ending an association, from each face to each face."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

import dicomnet
from dicomnet import PresentationContext, Status, StatusError
from tests.faces.conftest import Scp, eventually
from tests.faces.face import Face
from tests.faces.wire import ABORT, AC, CT, EXPLICIT, IMPLICIT, OFFER, RELEASE_RP, USER, Scripted, Wire, echo_rsp

MakeScp = Callable[..., Scp]


def test_an_echo_succeeds(client: Face, scp: MakeScp) -> None:
    """PS3.4 A.4, PS3.7 9.1.5."""
    with client.associate(scp().peer) as association:
        response = association.c_echo()
    assert response.status is Status.SUCCESS
    assert response.raise_for_status() is response


def test_an_association_carries_many_messages(client: Face, scp: MakeScp) -> None:
    """N-23: each gets a message ID of its own; N-25: the response is that of the request."""
    with client.associate(scp().peer) as association:
        assert [association.c_echo().message_id for _ in range(5)] == [1, 2, 3, 4, 5]


def test_leaving_the_block_releases(client: Face, scp: MakeScp) -> None:
    """PS3.8 7.2."""
    acceptor = scp()
    with client.associate(acceptor.peer) as association:
        association.c_echo()
    assert acceptor.close_errors(1) == [None]
    with pytest.raises(dicomnet.LocalProtocolError):
        association.c_echo()


def test_leaving_the_block_by_an_exception_aborts(client: Face, scp: MakeScp) -> None:
    """PS3.8 7.3: and the exception goes on."""
    acceptor = scp()
    with pytest.raises(KeyError, match="the user's own"), client.associate(acceptor.peer) as association:
        association.c_echo()
        raise KeyError("the user's own")
    (error,) = acceptor.close_errors(1)
    assert isinstance(error, dicomnet.AssociationAborted)
    assert (error.source, error.reason) == (0, 0)


def test_release_ends_the_association(client: Face, scp: MakeScp) -> None:
    """PS3.8 7.2: in the block, too; leaving it does nothing more."""
    acceptor = scp()
    with client.associate(acceptor.peer) as association:
        association.release()
        with pytest.raises(dicomnet.LocalProtocolError):
            association.release()
    assert acceptor.close_errors(1) == [None]


def test_abort_ends_the_association_and_may_be_called_again(client: Face, scp: MakeScp) -> None:
    """PS3.8 7.3."""
    acceptor = scp()
    with client.associate(acceptor.peer) as association:
        association.abort()
        association.abort()
        with pytest.raises(dicomnet.AssociationAborted):
            association.c_echo()
    assert isinstance(acceptor.close_errors(1)[0], dicomnet.AssociationAborted)


def test_the_requestor_sees_what_was_negotiated(client: Face, scp: MakeScp) -> None:
    """PS3.8 7.1: the accepted contexts, the peer's maximum length, the operations window."""
    acceptor = scp(max_pdu_length=20000, async_ops=(3, 2))
    contexts = [dicomnet.Verification, (CT, [IMPLICIT]), PresentationContext("1.2.3.999", (EXPLICIT,))]
    with client.associate(acceptor.peer, contexts=contexts, async_ops=(5, 1)) as association:
        assert [(context.id, context.abstract_syntax, context.transfer_syntax) for context in association.accepted] == [
            (1, dicomnet.Verification, EXPLICIT),
            (3, CT, IMPLICIT),
        ]
        assert association.max_pdu_length == 20000
        assert association.async_ops == (3, 1)
        assert association.peer == dicomnet.Peer("SCP", "127.0.0.1", acceptor.port)


def test_without_a_window_operations_are_synchronous(client: Face, scp: MakeScp) -> None:
    """N-27 (PS3.7 D.3.3.3)."""
    with client.associate(scp().peer, async_ops=(5, 5)) as association:
        assert association.async_ops == (1, 1)
    with client.associate(scp(async_ops=(5, 5)).peer) as association:
        assert association.async_ops == (1, 1)


def test_a_peer_is_a_string_or_a_peer(client: Face, scp: MakeScp) -> None:
    """The API, §1."""
    with client.associate(dicomnet.Peer("SCP", "127.0.0.1", scp().port)) as association:
        association.c_echo()


@pytest.mark.parametrize("peer", ["127.0.0.1:104", "SCP@", "SCP@::1:104", "SCP@host:port", "SEVENTEEN-LETTERS@h:1"])
def test_a_peer_that_cannot_be_is_an_error_of_the_caller(client: Face, peer: str) -> None:
    """config.Peer: ValueError, before anything is sent."""
    with pytest.raises(ValueError, match=r"."):
        client.associate(peer)


def test_128_contexts_fit_into_an_association(client: Face, scp: MakeScp) -> None:
    """PS3.8 9.3.2.2: odd IDs from 1 to 255."""
    classes = [f"1.2.3.{number}" for number in range(128)]
    with client.associate(scp(contexts=classes).peer, contexts=classes) as association:
        assert [context.id for context in association.accepted] == list(range(1, 256, 2))


def test_129_contexts_raise_a_value_error_that_says_so(client: Face, scp: MakeScp) -> None:
    """The API, §1."""
    with pytest.raises(ValueError, match=r"129 presentation contexts.*128"):
        client.associate(scp().peer, contexts=[f"1.2.3.{number}" for number in range(129)])


@pytest.mark.parametrize(
    "options",
    [
        {"contexts": []},
        {"calling_ae": " "},
        {"calling_ae": "SEVENTEEN-LETTERS"},
        {"max_pdu_length": 7},
        {"max_pdu_length": (1 << 20) + 1},
        {"max_pdu_length": -1},
    ],
)
def test_what_cannot_be_requested_is_a_value_error(client: Face, scp: MakeScp, options: dict[str, Any]) -> None:
    """The API, §1; N-14, N-17. Nothing is sent."""
    with pytest.raises(ValueError, match=r"."):
        client.associate(scp().peer, **options)


def test_sop_classes_that_the_peer_did_not_accept_cannot_be_used(client: Face, scp: MakeScp) -> None:
    """The association stands all the same."""
    with client.associate(scp().peer, contexts=["1.2.3.999"]) as association:
        assert association.accepted == ()
        with pytest.raises(dicomnet.NoAcceptedContext):
            association.c_echo()


def test_a_failure_status_is_a_value(client: Face, scp: MakeScp) -> None:
    """The API, §1: raise_for_status makes an exception of it, with the peer's comment."""
    acceptor = scp()

    @acceptor.ae.on_c_echo
    def refuse(request: Any) -> None:
        raise StatusError(0x0122, "not here")

    with client.associate(acceptor.peer) as association:
        response = association.c_echo()
        assert response.status == 0x0122
        assert response.status.is_failure
        with pytest.raises(StatusError, match="not here") as caught:
            response.raise_for_status()
        assert caught.value.status == 0x0122
        association.c_echo()


def test_a_release_while_an_operation_is_outstanding_is_refused(client: Face, scp: MakeScp) -> None:
    """PS3.8 7.2.1.3: by this side; the association lives."""
    begun, may_end = threading.Event(), threading.Event()
    acceptor = scp()

    @acceptor.ae.on_c_echo
    def wait(request: Any) -> int:
        begun.set()
        may_end.wait(20)
        return 0

    with client.associate(acceptor.peer) as association:
        thread = threading.Thread(target=association.c_echo)
        thread.start()
        try:
            assert begun.wait(20)
            with pytest.raises(dicomnet.LocalProtocolError, match="outstanding"):
                association.release()
        finally:
            may_end.set()
            thread.join(20)
    assert acceptor.close_errors(1) == [None]


def test_several_associations_stand_beside_each_other(client: Face, scp: MakeScp) -> None:
    """N-01: one association per connection."""
    acceptor = scp()
    with client.associate(acceptor.peer) as one, client.associate(acceptor.peer) as other:
        assert one.c_echo().status == other.c_echo().status == one.c_echo().status == 0


@pytest.mark.parametrize("host", ["::1", "*"])
def test_ipv6(client: Face, scp: MakeScp, host: str) -> None:
    """PS3.8 9.1: an IPv6 address stands in brackets; "*" listens on both families."""
    try:
        port = scp(host=host).port
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    with client.associate(f"SCP@[::1]:{port}") as association:
        assert association.c_echo().status == 0
    if host == "*":
        with client.associate(f"SCP@127.0.0.1:{port}") as association:
            assert association.c_echo().status == 0


def test_a_host_name_may_have_addresses_that_do_not_answer(client: Face, scp: MakeScp) -> None:
    """The first that answers is taken: localhost is ::1 as well where there is IPv6."""
    with client.associate(f"SCP@localhost:{scp().port}") as association:
        assert association.c_echo().status == 0


def test_a_peer_that_aborts_an_idle_association_is_noticed_by_the_next_call(client: Face) -> None:
    """PS3.8 7.3: the A-ABORT has come before the request goes out."""

    def script(wire: Wire) -> None:
        wire.hears()
        wire.sends(AC)
        wire.hears()
        wire.sends(echo_rsp(1), ABORT)

    with Scripted(script) as server:
        association = client.associate(server.peer, contexts=OFFER)
        association.c_echo()
        with pytest.raises(dicomnet.AssociationAborted):
            association.c_echo()
        association.abort()


def test_threads_share_an_association(client: Face, scp: MakeScp) -> None:
    """The API, §1: any number of threads; without a window they take turns."""
    with client.associate(scp().peer) as association:
        assert overlapping(association, threads=4, each=20) == [0] * 80


def test_with_a_window_requests_overlap(client: Face) -> None:
    """N-27: as many as negotiated are outstanding at once, answered in any order."""

    def script(wire: Wire) -> None:
        wire.hears()
        wire.sends(replace(AC, user=replace(USER, async_ops=(4, 1))))
        asked = [wire.hears_message().message_id for _ in range(4)]
        assert len(set(asked)) == 4
        wire.sends(*(echo_rsp(message_id, 0xC000 + message_id) for message_id in reversed(asked)))
        wire.hears()
        wire.sends(RELEASE_RP)

    with (
        Scripted(script) as server,
        client.associate(server.peer, contexts=OFFER, async_ops=(4, 1)) as association,
    ):
        assert association.async_ops == (4, 1)
        assert sorted(overlapping(association, threads=4, each=1)) == [0xC001, 0xC002, 0xC003, 0xC004]


def test_threads_share_an_association_with_a_window(client: Face, scp: MakeScp) -> None:
    """The API, §1: with one face's acceptor, too."""
    with client.associate(scp(async_ops=(4, 4)).peer, async_ops=(4, 1)) as association:
        assert association.async_ops == (4, 1)
        assert overlapping(association, threads=6, each=20) == [0] * 120


def test_an_abort_reaches_all_threads(client: Face, scp: MakeScp) -> None:
    """Whoever waits for a response learns that none will come."""
    begun, may_end = threading.Semaphore(0), threading.Event()
    acceptor = scp(async_ops=(4, 4))

    @acceptor.ae.on_c_echo
    def wait(request: Any) -> int:
        begun.release()
        may_end.wait(20)
        return 0

    association = client.associate(acceptor.peer, async_ops=(4, 1))
    ends: list[BaseException] = []

    def echo() -> None:
        try:
            association.c_echo()
        except dicomnet.DicomNetworkError as error:
            ends.append(error)

    threads = [threading.Thread(target=echo) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert begun.acquire(timeout=20)
    association.abort()
    for thread in threads:
        thread.join(20)
    may_end.set()
    assert [type(error) for error in ends] == [dicomnet.AssociationAborted] * 3
    eventually(lambda: acceptor.closed, "the acceptor has noticed")


def overlapping(association: Any, *, threads: int, each: int) -> list[int]:
    """The statuses of ``each`` echoes from each of so many threads."""
    statuses: list[int] = []

    def echo() -> None:
        for _ in range(each):
            statuses.append(association.c_echo().status)

    running = [threading.Thread(target=echo) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(30)
    return statuses
