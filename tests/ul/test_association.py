"""Associations as dialogues (PS3.8 7, 9.2): what the peer says, what it hears, what the local user is told."""

import dataclasses
import struct

import pytest
from hypothesis import given, strategies as st

from dicomnet.config import MAX_PDU_LENGTH, Identity, Limits
from dicomnet.errors import LocalProtocolError
from dicomnet.ul import events, negotiation, pdu
from dicomnet.ul.association import Association
from dicomnet.ul.framer import Fragment, batches, fragment_length
from dicomnet.ul.negotiation import AcceptedContext
from dicomnet.ul.pdu import (
    Abort,
    AnsweredContext,
    AssociateRj,
    ExtendedNegotiation,
    PDataTf,
    Pdv,
    ProposedContext,
    UserInformation,
)
from dicomnet.ul.wire import counted, item, u16, u32
from tests.ul import strategies
from tests.ul.dialogue import (
    ABORT,
    ABORTED,
    AC,
    ACCEPTED,
    CT,
    DATA,
    EXPLICIT,
    IMPLICIT,
    P_DATA,
    PATHS,
    REJECTED,
    RELEASE_COLLIDED,
    RELEASE_CONFIRMED,
    RELEASE_REQUESTED,
    RELEASE_RP,
    RELEASE_RQ,
    REQUESTED,
    RJ,
    RQ,
    VERIFICATION,
    Failed,
    Pair,
    acceptor,
    announcing,
    connected,
    established,
    in_state,
    merged,
    requesting,
    requestor,
)

ROLES = ["requestor", "acceptor"]
IN_ASSOCIATION = [path for path in PATHS if path[1] not in (1, 2, 4, 13)]

# --- from beginning to end ------------------------------------------------------------------------------------------


def test_an_association_seen_by_its_requestor() -> None:
    """PS3.8 7.1 to 7.3: AE-1, AE-2, AE-3, DT-1, DT-2, AR-1, AR-3."""
    it = requestor().associates()
    it.keeps_quiet().is_in(4)
    it.opens().sends(RQ).tells()
    it.receives(AC).sends().tells(ACCEPTED)
    it.association.send([pdu.encode(P_DATA)])
    it.sends(P_DATA)
    it.receives(P_DATA).sends().tells(DATA)
    it.releases().sends(RELEASE_RQ).tells().stays_open()
    it.receives(RELEASE_RP).sends().tells(RELEASE_CONFIRMED).closes()


def test_an_association_seen_by_its_acceptor() -> None:
    """PS3.8 7.1 to 7.3: AE-5, AE-6, AE-7, DT-1, DT-2, AR-2, AR-4, AR-5."""
    it = acceptor().opens()
    it.keeps_quiet().is_in(2)
    it.receives(RQ).sends().tells(REQUESTED)
    it.accepts().sends(AC).tells()
    it.receives(P_DATA).sends().tells(DATA)
    it.association.send([pdu.encode(P_DATA)])
    it.sends(P_DATA)
    it.receives(RELEASE_RQ).sends().tells(RELEASE_REQUESTED)
    it.responds_to_release().sends(RELEASE_RP).tells().stays_open()
    it.loses_its_peer().keeps_quiet().closes()


def test_the_acceptor_may_release_too() -> None:
    """PS3.8 7.2: either side may."""
    it = established("acceptor").releases().sends(RELEASE_RQ)
    it.receives(RELEASE_RP).sends().tells(RELEASE_CONFIRMED).closes()


def test_two_associations_agree() -> None:
    """PS3.8 7.1, PS3.7 D.3.3: both sides know the same contexts, window and each other's maximum length."""
    contexts = [VERIFICATION, (CT, [EXPLICIT, IMPLICIT]), ("1.2.3", [IMPLICIT])]
    request = negotiation.request(
        "CALLED", "CALLING", contexts, async_ops=(0, 3), roles={CT: (True, True)}, max_length=16384
    )
    policy = negotiation.Policy(
        {VERIFICATION: (IMPLICIT,), CT: (EXPLICIT,)}, max_length=32768, roles={CT: (False, True)}, async_ops=(5, 5)
    )
    pair = Pair(request, max_length=16384).flows()
    mine, other = pair.requestor.association, pair.acceptor.association
    pair.acceptor.tells(events.AssociateRequested(request, pdu.encode(request)))
    assert other.request == request
    answer = negotiation.answer(other.request, policy)
    pair.acceptor.accepts(answer)
    pair.flows()
    pair.requestor.tells(events.AssociateAccepted(answer, pdu.encode(answer)))

    assert mine.contexts == other.contexts
    assert mine.contexts == {
        1: AcceptedContext(1, VERIFICATION, IMPLICIT),
        3: AcceptedContext(3, CT, EXPLICIT, scu=False, scp=True),
    }
    assert mine.window == other.window == (5, 3)
    assert (mine.peer_max_length, other.peer_max_length) == (32768, 16384)
    assert mine.answer == other.answer == answer


def test_the_requestor_sees_what_was_answered_beside_the_contexts() -> None:
    """PS3.7 D.3.3.5, D.3.3.7.2: nothing, or nothing yet, is nothing."""
    it = requestor().associates().opens()
    assert (it.association.extended_answers, it.association.identity_response) == ({}, None)
    it = established("requestor")
    assert (it.association.extended_answers, it.association.identity_response) == ({}, None)
    user = UserInformation(extended=(ExtendedNegotiation(CT, b"\1\0"),), identity_response=b"ticket")
    it = requestor().associates().opens().receives(dataclasses.replace(AC, user=user))
    assert (it.association.extended_answers, it.association.identity_response) == ({CT: b"\1\0"}, b"ticket")


@pytest.mark.parametrize("max_length", [8, 9, 100, 16384, 0])
def test_two_associations_exchange_messages_of_any_length(max_length: int) -> None:
    """N-17, N-18: whatever the peer takes; the message comes as it was sent."""
    request = dataclasses.replace(RQ, user=UserInformation(max_length=max_length))
    pair = Pair(request, max_length=max_length).flows()
    pair.acceptor.accepts(dataclasses.replace(AC, user=UserInformation(max_length=max_length)))
    pair.flows()
    for sender, receiver in ((pair.requestor, pair.acceptor), (pair.acceptor, pair.requestor)):
        receiver.after()
        command, data = b"command sets", bytes(range(256)) * 5
        for batch in batches(1, command, memoryview(data), sender.association.peer_max_length):
            sender.association.send(batch)
        receiver.receives(b"".join(sender.association.data_to_send()))
        told = merged(receiver.association.events())
        assert told == [Fragment(1, 1, True, command), Fragment(1, 0, True, data)]


@pytest.mark.parametrize("who", ROLES)
def test_two_associations_release(who: str) -> None:
    """N-03: both end at once, the one that confirms closes the connection."""
    pair = Pair().is_established()
    one, other = (pair.requestor, pair.acceptor) if who == "requestor" else (pair.acceptor, pair.requestor)
    one.releases()
    pair.flows()
    other.tells(RELEASE_REQUESTED).responds_to_release()
    pair.flows()
    one.tells(RELEASE_CONFIRMED).closes()
    other.tells().closes()


@pytest.mark.parametrize("who", ROLES)
def test_two_associations_abort(who: str) -> None:
    """9.3.8, N-03: the user's abort is 0/0; the other one closes, and so both have ended."""
    pair = Pair().is_established()
    one, other = (pair.requestor, pair.acceptor) if who == "requestor" else (pair.acceptor, pair.requestor)
    one.aborts()
    pair.flows()
    other.tells(ABORTED).closes()
    one.tells().closes()


def test_two_associations_disagree() -> None:
    """9.3.4: a rejection ends both."""
    pair = Pair().flows()
    pair.acceptor.after().rejects(1, 1, 7)
    pair.flows()
    pair.requestor.tells(events.AssociateRejected(1, 1, 7, pdu.encode(AssociateRj(1, 1, 7)))).closes()
    pair.acceptor.tells().closes()


# --- release --------------------------------------------------------------------------------------------------------


def test_both_release_at_once() -> None:
    """7.2.2.7, AR-8, AR-9, AR-10: the requestor answers first, whoever's request came first."""
    pair = Pair().is_established()
    pair.requestor.releases()
    pair.acceptor.releases()
    pair.flows()
    pair.requestor.tells(RELEASE_COLLIDED).is_in(9)
    pair.acceptor.tells(RELEASE_COLLIDED).is_in(10)
    with pytest.raises(LocalProtocolError):
        pair.acceptor.responds_to_release()  # it is the requestor's turn

    pair.requestor.responds_to_release().is_in(11)
    pair.flows()
    pair.requestor.tells()
    pair.acceptor.tells(RELEASE_CONFIRMED).is_in(12).stays_open()

    pair.acceptor.responds_to_release()
    pair.flows()
    pair.requestor.tells(RELEASE_CONFIRMED).closes()
    pair.acceptor.tells().closes()


def test_a_collision_seen_by_the_requestor() -> None:
    """AR-8, AR-9, AR-3."""
    it = established("requestor").releases().sends(RELEASE_RQ)
    it.receives(RELEASE_RQ).sends().tells(RELEASE_COLLIDED)
    it.responds_to_release().sends(RELEASE_RP).tells()
    it.receives(RELEASE_RP).sends().tells(RELEASE_CONFIRMED).closes()


def test_a_collision_seen_by_the_acceptor() -> None:
    """AR-8, AR-10, AR-4."""
    it = established("acceptor").releases().sends(RELEASE_RQ)
    it.receives(RELEASE_RQ).sends().tells(RELEASE_COLLIDED)
    it.receives(RELEASE_RP).sends().tells(RELEASE_CONFIRMED).stays_open()
    it.responds_to_release().sends(RELEASE_RP).tells()
    it.loses_its_peer().keeps_quiet().closes()


@pytest.mark.parametrize("state", [("requestor", 9), ("acceptor", 10), ("requestor", 11), ("acceptor", 12)])
def test_a_collision_may_end_in_an_abort(state: tuple[str, int]) -> None:
    """Table 9-10, states 9 to 12: the peer's abort, the user's, and a peer that goes."""
    in_state(*state).receives(ABORT).sends().tells(ABORTED).closes()
    in_state(*state).aborts().sends(ABORT).tells().is_in(13)
    in_state(*state).loses_its_peer().sends().tells(events.TransportClosed()).closes()


def test_an_answer_may_still_go_out_after_a_release_request() -> None:
    """AR-7 and AR-6: the acceptor finishes what it was asked, the requestor still takes it."""
    pair = Pair().is_established()
    pair.requestor.releases()
    pair.flows()
    pair.acceptor.tells(RELEASE_REQUESTED)
    pair.acceptor.association.send([pdu.encode(P_DATA)])
    pair.flows()
    pair.requestor.tells(DATA).is_in(7)
    pair.acceptor.responds_to_release()
    pair.flows()
    pair.requestor.tells(RELEASE_CONFIRMED).closes()


def test_a_release_in_mid_message_is_told() -> None:
    """W13: that the message is incomplete is for the layer above to know (P6)."""
    it = established("acceptor")
    it.receives(PDataTf((Pdv(1, True, False, b"ec"),)), RELEASE_RQ)
    it.sends().tells(Fragment(1, 1, False, b"ec"), RELEASE_REQUESTED)
    it.association.fail("a release in mid-message", it.now)
    it.sends(Abort(2, 6)).tells(Failed(2, 6))


@pytest.mark.parametrize("role", ROLES)
def test_data_after_a_release_request_is_unexpected(role: str) -> None:
    """W13: who asked for the release sends nothing more."""
    it = established(role).receives(RELEASE_RQ).tells(RELEASE_REQUESTED)
    it.receives(P_DATA).sends(Abort(2, 2)).tells(Failed(2, 2))


def test_data_in_the_segment_of_the_release_request_is_unexpected() -> None:
    """W13, N3: segments do not matter."""
    it = established("acceptor").receives(RELEASE_RQ, P_DATA)
    it.sends(Abort(2, 2)).tells(RELEASE_REQUESTED, Failed(2, 2))


# --- rejection ------------------------------------------------------------------------------------------------------

REJECTIONS = {
    "application context": (1, 1, 2),
    "calling AE title": (1, 1, 3),
    "called AE title": (1, 1, 7),
    "user identity": (1, 2, 1),
    "congestion": (2, 3, 1),
    "local limit": (2, 3, 2),
}


@pytest.mark.parametrize("rejection", REJECTIONS.values(), ids=REJECTIONS)
def test_a_rejection_says_why(rejection: tuple[int, int, int]) -> None:
    """9.3.4, Table 9-21: in the user's words; then the peer closes."""
    it = connected().receives(RQ).tells(REQUESTED)
    it.rejects(*rejection).sends(AssociateRj(*rejection)).tells().stays_open()
    it.loses_its_peer().keeps_quiet().closes()

    it = requesting().receives(AssociateRj(*rejection))
    it.sends().tells(events.AssociateRejected(*rejection, pdu.encode(AssociateRj(*rejection)))).closes()


@pytest.mark.parametrize("version", [0, 2, 0xFFFE])
def test_a_protocol_version_without_bit_0_is_rejected(version: int) -> None:
    """N-10, W8, AE-6, 9.3.4: 1/2/2, by the provider; the user is told, and not asked."""
    it = connected().receives(dataclasses.replace(RQ, protocol_version=version))
    it.sends(AssociateRj(1, 2, 2)).tells(events.RequestRefused(1, 2, 2)).is_in(13)
    it.loses_its_peer().keeps_quiet().closes()


@pytest.mark.parametrize("version", [1, 3, 0x8001, 0xFFFF])
def test_of_the_protocol_version_only_bit_0_counts(version: int) -> None:
    """N-10, W8."""
    request = dataclasses.replace(RQ, protocol_version=version)
    connected().receives(request).sends().tells(events.AssociateRequested(request, pdu.encode(request))).is_in(3)


# --- abort ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("role", "state"), IN_ASSOCIATION, ids=str)
def test_the_users_abort_is_0_0(role: str, state: int) -> None:
    """9.3.8, AA-1: and nothing is told to the user, who knows."""
    it = in_state(role, state).aborts().sends(Abort(0, 0)).tells().stays_open()
    it.loses_its_peer().keeps_quiet().closes()


def test_an_abort_may_be_the_providers() -> None:
    """9.3.8: other provider fault 2/0."""
    it = established("requestor")
    it.association.abort(it.now, 2, 0)
    it.sends(Abort(2, 0)).tells()


def test_an_abort_before_the_connection_stands_only_closes() -> None:
    """AA-2 in state 4: nobody is there to hear it."""
    requestor().associates().aborts().keeps_quiet().closes()


@pytest.mark.parametrize(("role", "state"), IN_ASSOCIATION, ids=str)
@pytest.mark.parametrize(("source", "reason"), [(0, 0), (2, 6), (1, 3), (0, 255), (255, 1)])
def test_an_abort_is_told_as_it_came(role: str, state: int, source: int, reason: int) -> None:
    """W13, 9.3.8: also with reserved values."""
    it = in_state(role, state).receives(Abort(source, reason))
    it.sends().tells(events.AbortReceived(source, reason, pdu.encode(Abort(source, reason)))).closes()


def test_an_abort_before_any_request_only_closes() -> None:
    """AA-2 in state 2: there is no association of which to tell."""
    connected().receives(ABORT).keeps_quiet().closes()


def test_behind_an_abort_nothing_means_anything() -> None:
    """AA-3: what follows in the same segment or later."""
    it = established("acceptor").receives(ABORT, P_DATA, RELEASE_RQ, b"junk")
    it.sends().tells(ABORTED).closes()
    it.receives(P_DATA, RQ).loses_its_peer().keeps_quiet().closes()


@pytest.mark.parametrize(("role", "state"), IN_ASSOCIATION, ids=str)
def test_the_layer_above_may_find_fault(role: str, state: int) -> None:
    """9.3.8, P1 to P13: 2/6."""
    it = in_state(role, state)
    it.association.fail("fragments of two messages interleave", it.now)
    it.sends(Abort(2, 6)).tells(events.PeerFailed(2, 6, "fragments of two messages interleave")).is_in(13)


def test_finding_fault_with_what_is_over_does_nothing() -> None:
    """AA-3: the peer may have sent the fault and the end in one breath; it is aborted once."""
    for last, sent in ((ABORT, []), (RJ, [Abort(2, 2)])):
        it = established("acceptor").receives(P_DATA, last).sends(*sent).after()
        it.association.fail("too late", it.now)
        it.keeps_quiet()


# --- local errors ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "request_",
    [
        dataclasses.replace(RQ, called_ae=""),
        dataclasses.replace(RQ, calling_ae="  "),
        dataclasses.replace(RQ, called_ae="A" * 17),
        dataclasses.replace(RQ, contexts=()),
        dataclasses.replace(RQ, contexts=(ProposedContext(2, VERIFICATION, (IMPLICIT,)),)),
        dataclasses.replace(RQ, contexts=RQ.contexts * 2),
        dataclasses.replace(RQ, contexts=(ProposedContext(1, VERIFICATION, ()),)),
        dataclasses.replace(RQ, user=UserInformation(max_length=7)),
        dataclasses.replace(RQ, user=UserInformation(identity=Identity(5, bytes(0x10000)))),
    ],
    ids=["no called AE", "no calling AE", "long AE", "no context", "even ID", "ID twice", "no syntax", "max", "token"],
)
def test_a_request_that_the_standard_does_not_allow_is_not_sent(request_: pdu.AssociateRq) -> None:
    """N-11 to N-14, N-17: the caller's error, and nothing has happened."""
    it = requestor()
    with pytest.raises(LocalProtocolError):
        it.associates(request_)
    it.is_in(1).associates().opens().sends(RQ)


@pytest.mark.parametrize(
    "contexts",
    [
        (),
        (AnsweredContext(3, 0, IMPLICIT),),
        (AnsweredContext(1, 0, EXPLICIT),),
        (AnsweredContext(1, 5, IMPLICIT),),
        AC.contexts * 2,
    ],
    ids=["none", "other context", "other syntax", "no such result", "twice"],
)
def test_an_answer_that_does_not_fit_the_request_is_not_sent(contexts: tuple[AnsweredContext, ...]) -> None:
    """N-11 to N-13: the caller's error; another answer may follow."""
    it = connected().receives(RQ).after()
    with pytest.raises(LocalProtocolError):
        it.accepts(dataclasses.replace(AC, contexts=contexts))
    assert it.association.contexts == {}
    it.keeps_quiet().is_in(3).accepts().sends(AC)


def test_a_rejection_that_has_no_encoding_is_not_sent() -> None:
    """9.3.4: one byte each."""
    it = connected().receives(RQ).after()
    with pytest.raises(LocalProtocolError, match="cannot be encoded"):
        it.rejects(1, 1, 256)
    it.keeps_quiet().is_in(3)


@pytest.mark.parametrize("max_length", [-1, 1, 7, (1 << 20) + 1])
def test_a_maximum_length_is_none_or_within_the_limits(max_length: int) -> None:
    """N-17, §3: below 8 no data fits; the hard cap is 1 MiB unless the user raises it."""
    with pytest.raises(ValueError, match=f"max_pdu_length is {max_length};"):
        Association(requestor=True, max_length=max_length)


def test_a_maximum_length_may_be_raised() -> None:
    """§3: hard cap 1 MiB unless the user raises it."""
    for max_length, limits in (
        (0, Limits()),
        (8, Limits()),
        (1 << 20, Limits()),
        (1 << 24, Limits(pdu_length=1 << 24)),
    ):
        assert Association(requestor=True, max_length=max_length, limits=limits).max_length == max_length


def test_data_before_the_connection_are_the_callers_error() -> None:
    """Table 9-10, state 4: and they leave no trace."""
    it = requestor().associates()
    for data in (pdu.encode(AC), pdu.encode(AC)[:20], b"\xff" * 20):
        with pytest.raises(LocalProtocolError):
            it.receives(data)
    it.opens().sends(RQ)
    it.receives(AC).sends().tells(ACCEPTED)


# --- on the wire: what a peer may get wrong -------------------------------------------------------------------------


def header(kind: int, length: int) -> bytes:
    return struct.pack(">BxI", kind, length)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: pacs\r\n\r\n",
        bytes.fromhex("16030100 f8010000 f40303") + bytes(200),
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\0" * 40,
        b"\xff" * 40,
    ],
    ids=["HTTP", "TLS", "SSH", "zeros", "ones"],
)
def test_another_protocol_gets_an_abort_and_a_close(data: bytes) -> None:
    """W1, W2: A-ABORT 0/0 once, and the connection ends with or without the peer's help."""
    it = connected().receives(data).sends(Abort(0, 0)).tells(Failed(0, 0))
    it.receives(data).keeps_quiet()
    it.waits(2.0).sends().tells(events.TimerExpired("closing")).closes()


@pytest.mark.parametrize("kind", [0x00, 0x08, 0x99, 0xFF])
def test_an_unknown_pdu_before_an_association_gets_0_0(kind: int) -> None:
    """W2, AA-1: from its header alone."""
    connected().receives(header(kind, 4)).sends(Abort(0, 0)).tells(Failed(0, 0)).is_in(13)


@pytest.mark.parametrize("kind", [0x00, 0x08, 0x99, 0xFF])
@pytest.mark.parametrize(("role", "state"), IN_ASSOCIATION, ids=str)
def test_an_unknown_pdu_in_an_association_gets_2_1(role: str, state: int, kind: int) -> None:
    """W2, AA-8: from its header alone."""
    it = in_state(role, state).receives(header(kind, 4))
    it.sends(Abort(2, 1)).tells(Failed(2, 1, length=False)).is_in(13)


@pytest.mark.parametrize("value", [AC, RJ, P_DATA, RELEASE_RQ, RELEASE_RP], ids=lambda value: type(value).__name__)
def test_any_other_pdu_than_a_request_before_an_association_gets_0_0(value: pdu.Pdu) -> None:
    """W3, AA-1."""
    it = connected().receives(value).sends(Abort(0, 0)).tells(Failed(0, 0)).is_in(13)
    it.receives(value).keeps_quiet()


@pytest.mark.parametrize(("role", "state"), IN_ASSOCIATION, ids=str)
def test_a_second_request_is_unexpected(role: str, state: int) -> None:
    """W3, W13, N-01, AA-8: one association per connection."""
    it = in_state(role, state).receives(RQ).sends(Abort(2, 2)).tells(Failed(2, 2))
    it.receives(RQ).sends(Abort(2, 2)).tells()  # AA-7, as often as it asks
    it.loses_its_peer().keeps_quiet().closes()


def test_a_second_request_in_the_segment_of_the_first_is_unexpected() -> None:
    """W13: the user is told of both."""
    connected().receives(RQ, RQ).sends(Abort(2, 2)).tells(REQUESTED, Failed(2, 2))


@pytest.mark.parametrize(("role", "state"), [("requestor", 5), ("acceptor", 3)])
def test_data_before_the_association_stands_are_unexpected(role: str, state: int) -> None:
    """W3, AA-8: one abort, however many pieces there are."""
    data = pdu.encode(PDataTf((Pdv(1, True, False, b"ab"), Pdv(1, True, True, b"cd"))))
    it = in_state(role, state)
    for at in range(len(data)):
        it.receives(data[at : at + 1])
    it.sends(Abort(2, 2)).tells(Failed(2, 2)).is_in(13)


@pytest.mark.parametrize("length", [0, 1, 3, 5, 1 << 31, (1 << 32) - 1])
@pytest.mark.parametrize("kind", range(1, 8))
@pytest.mark.parametrize(("role", "state"), [("acceptor", 2), ("acceptor", 3), ("requestor", 5), ("acceptor", 6)])
def test_an_impossible_length_gets_2_6_from_the_header_alone(role: str, state: int, kind: int, length: int) -> None:
    """W4: in an association and before."""
    it = in_state(role, state).receives(header(kind, length))
    it.sends(Abort(2, 6)).tells(Failed(2, 6, length=True)).is_in(13)


def test_a_request_over_1_mib_gets_2_6_from_the_header_alone() -> None:
    """W5."""
    connected().receives(header(1, 1 << 20)).keeps_quiet().is_in(2)
    connected().receives(header(1, (1 << 20) + 1)).sends(Abort(2, 6)).tells(Failed(2, 6))
    connected(limits=Limits(associate_length=200)).receives(header(1, 201)).sends(Abort(2, 6))


APPLICATION = item(0x10, b"1.2.840.10008.3.1.1.1")
CONTEXT = item(0x20, b"\1\0\0\0" + item(0x30, VERIFICATION.encode()) + item(0x40, IMPLICIT.encode()))
ANSWER = item(0x21, b"\1\0\0\0" + item(0x40, IMPLICIT.encode()))
USER = item(0x50, item(0x51, u32(MAX_PDU_LENGTH)) + item(0x52, b"1.2.3"))


def associate(kind: int, *items: bytes) -> bytes:
    value = u16(1) + bytes(2) + b"CALLED".ljust(16) + b"CALLING".ljust(16) + bytes(32) + b"".join(items)
    return header(kind, len(value)) + value


def test_the_parts_make_the_usual_pdus() -> None:
    """What the tests below get wrong, right."""
    assert associate(1, APPLICATION, CONTEXT, USER) == pdu.encode(RQ)
    assert associate(2, APPLICATION, ANSWER, USER) == pdu.encode(AC)


@pytest.mark.parametrize(
    "items",
    [
        (APPLICATION, CONTEXT, USER, b"\x99\0\0\1"),
        (APPLICATION, CONTEXT, USER, b"\x99"),
        (APPLICATION, CONTEXT, item(0x50, b"\x51\0\0\4\0\0\0")),
        (APPLICATION, CONTEXT, item(0x50, b"\x51\0\0\5\0\0\0\0\0")),
        (APPLICATION, item(0x20, b"\1\0\0\0\x30\0\0\xff1.2"), USER),
        (APPLICATION, USER),
        (APPLICATION, *[item(0x20, bytes((i % 256,)) + CONTEXT[5:]) for i in range(1, 258, 2)], USER),
        (APPLICATION, item(0x20, b"\2" + CONTEXT[5:]), USER),
        (APPLICATION, item(0x20, b"\0" + CONTEXT[5:]), USER),
        (APPLICATION, CONTEXT, CONTEXT, USER),
        (APPLICATION, item(0x20, CONTEXT[4:] + item(0x30, b"1.2")), USER),
        (APPLICATION, item(0x20, b"\1\0\0\0" + item(0x30, b"1.2")), USER),
        (APPLICATION, CONTEXT, item(0x50, item(0x51, u32(7)))),
        (APPLICATION, CONTEXT, item(0x50, item(0x58, b"\1\0\xff\xffme"))),
    ],
    ids=[
        "W6 overrun",
        "W6 trailing",
        "W6 sub-item overruns",
        "W6 sub-item trailing",
        "W6 nested overrun",
        "W9 none",
        "W9 129",
        "W9 even",
        "W9 0",
        "W9 doubled",
        "W9 two abstract syntaxes",
        "W9 no transfer syntax",
        "W11 maximum length 7",
        "W12 over-long",
    ],
)
def test_a_request_with_a_bad_value_gets_2_6(items: tuple[bytes, ...]) -> None:
    """W6, W9, W11, W12: not a rejection, for it cannot be read."""
    it = connected().receives(associate(1, *items)).sends(Abort(2, 6)).tells(Failed(2, 6)).is_in(13)
    assert it.association.request is None


def test_a_request_with_what_must_not_be_there_gets_2_5() -> None:
    """9.3.8, W12: user identity twice."""
    who = item(0x58, b"\1\0" + counted(b"me") + counted(b""))
    it = connected().receives(associate(1, APPLICATION, CONTEXT, item(0x50, who + who)))
    it.sends(Abort(2, 5)).tells(Failed(2, 5))


def test_a_length_that_is_wrong_is_told_apart_from_a_value_that_is() -> None:
    """9.3.8 has one reason for both; who asks may know more."""
    for kind, contexts, overruns in ((1, [CONTEXT] * 2, b"\x99\0\0\1"), (2, [ANSWER] * 2, b"\x99\0\0\1")):
        state = ("acceptor", 2) if kind == 1 else ("requestor", 5)
        in_state(*state).receives(associate(kind, APPLICATION, *contexts, USER)).tells(Failed(2, 6, length=False))
        it = in_state(*state).receives(associate(kind, APPLICATION, contexts[0], USER, overruns))
        it.tells(Failed(2, 6, length=True))


@pytest.mark.parametrize(
    "items",
    [
        (APPLICATION, ANSWER, USER, b"\x99"),
        (APPLICATION, USER),
        (APPLICATION, ANSWER, ANSWER, USER),
        (APPLICATION, item(0x21, b"\3" + ANSWER[5:]), USER),
        (APPLICATION, item(0x21, b"\1\0\0\0" + item(0x40, EXPLICIT.encode())), USER),
        (APPLICATION, item(0x21, b"\1\0\5\0" + ANSWER[8:]), USER),
        (APPLICATION, item(0x21, b"\1\0\0\0"), USER),
        (APPLICATION, ANSWER, item(0x50, item(0x51, u32(1)))),
    ],
    ids=["W6", "none", "doubled", "not proposed", "syntax not proposed", "result 5", "no syntax", "W11"],
)
def test_an_answer_with_a_bad_value_gets_2_6(items: tuple[bytes, ...]) -> None:
    """W6, N-12, N-13, W11: the association does not come about."""
    it = requesting().receives(associate(2, *items)).sends(Abort(2, 6)).tells(Failed(2, 6)).is_in(13)
    assert it.association.contexts == {}
    assert it.association.answer is None


def test_unknown_items_reserved_bytes_and_any_order_are_no_reason_to_refuse() -> None:
    """W7, N-06, N-07, N-08."""
    strange = b"\xe7\xff\0\1\xff"
    user = item(0x50, strange + item(0x52, b"1.2.3") + item(0x51, u32(MAX_PDU_LENGTH)))
    loud = bytearray(associate(1, strange, user, CONTEXT, APPLICATION, strange))
    loud[1] = loud[8] = loud[9] = 0xFF
    it = connected().receives(bytes(loud)).sends().is_in(3)
    assert it.association.request.contexts == RQ.contexts
    it.accepts(negotiation.answer(it.association.request, negotiation.Policy({VERIFICATION: (IMPLICIT,)}))).is_in(6)

    loud = bytearray(associate(2, strange, user, ANSWER, APPLICATION, strange))
    loud[1] = loud[8] = loud[9] = 0xFF
    requesting().receives(bytes(loud)).sends().is_in(6)


@pytest.mark.parametrize(
    "title",
    [b"", b"lower", b"A\0B", b"\xc4\xd6\xdc", b"../../etc/passwd"],
    ids=["blank", "lower case", "NUL", "8-bit", "path"],
)
def test_a_strange_ae_title_is_for_the_user_to_judge(title: bytes) -> None:
    """W10, N-09, N-14: it is told; a rejection says which one it was, an answer repeats it byte for byte."""
    value = associate(1, APPLICATION, CONTEXT, USER)
    value = value[:10] + title.ljust(16) * 2 + value[42:]
    it = connected().receives(value).sends().is_in(3)
    assert it.association.request.called_ae == title.decode("latin-1")
    answer = negotiation.answer(it.association.request, negotiation.Policy({VERIFICATION: (IMPLICIT,)}))
    it.accepts(answer)
    assert it.association.data_to_send()[0][10:74] == value[10:74]

    connected().receives(value).rejects(1, 1, 7).sends(AssociateRj(1, 1, 7))


def test_the_requestor_does_not_test_the_titles_of_an_answer() -> None:
    """N-09: bytes 11–74 of an AC."""
    answer = dataclasses.replace(AC, called_ae="ÿ" * 16, calling_ae="ÿ" * 16, titles=b"\xff" * 64)
    requesting().receives(answer).sends().tells(events.AssociateAccepted(answer, pdu.encode(answer))).is_in(6)


@pytest.mark.parametrize("length", [None, 0, 8, 16, 0xFFFFFFFF])
def test_the_peers_maximum_length_is_known(length: int | None) -> None:
    """N-17, W11: 0 is unlimited, and so is silence (D.1)."""
    user = UserInformation(max_length=length, implementation_class_uid="1.2.3.4")
    by_request = connected().receives(dataclasses.replace(RQ, user=user)).accepts()
    by_answer = requesting().receives(dataclasses.replace(AC, user=user)).is_in(6)
    for it in (by_request, by_answer):
        assert it.association.peer_max_length == (length or 0)
        assert it.association.fragment_length == fragment_length(length or 0)
        assert it.association.peer_implementation == "1.2.3.4"


@pytest.mark.parametrize(
    "identity", [Identity(type, b"\xff" * 60 * 1024) for type in (0, 1, 2, 3, 4, 5, 6, 255)], ids=repr
)
def test_any_user_identity_is_told_and_shows_nothing(identity: Identity) -> None:
    """W12, N-30: it does not end the association, nor up in a log."""
    request = dataclasses.replace(RQ, user=UserInformation(identity=identity))
    it = connected().receives(request).sends()
    (told,) = it.association.events()
    assert told.request.user.identity == identity
    assert len(repr(told)) < 1000


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("max_length", [8, 4096, MAX_PDU_LENGTH])
def test_more_than_we_announced_gets_2_6(role: str, max_length: int) -> None:
    """N-17: the variable field counts."""
    established(role, max_length=max_length).receives(header(4, max_length)).keeps_quiet().is_in(6)
    it = established(role, max_length=max_length).receives(header(4, max_length + 1))
    it.sends(Abort(2, 6)).tells(Failed(2, 6, length=True))


@pytest.mark.parametrize("role", ROLES)
def test_what_was_announced_counts(role: str) -> None:
    """N-17, D.1: whatever length the association was made with, until then."""
    it = connected(max_length=16) if role == "acceptor" else requestor(max_length=16)
    assert it.association.max_length == 16
    if role == "acceptor":
        it.receives(RQ).accepts(announcing(AC, 4096))
    else:
        it.associates(announcing(RQ, 4096)).opens().receives(AC)
    assert it.association.max_length == 4096
    it.after().receives(header(4, 4096)).keeps_quiet().is_in(6)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("max_length", [0, None])
def test_without_a_maximum_data_of_any_length_are_taken_as_they_come(role: str, max_length: int | None) -> None:
    """N-17, D.1: unlimited, said or not, for nothing of it is held."""
    it = established(role, max_length=max_length).receives(header(4, 0xFFFFFFFF), u32(0xFFFFFFFB), b"\1\2", b"ab")
    it.sends().tells(Fragment(1, 0, False, b"ab"))
    it.receives(b"cd").sends().tells(Fragment(1, 0, False, b"cd"))


@pytest.mark.parametrize("context_id", [0, 2, 3, 5, 255])
@pytest.mark.parametrize("state", [6, 7])
def test_data_in_a_context_that_was_not_accepted_get_2_6(context_id: int, state: int) -> None:
    """P3: unknown or refused."""
    request = dataclasses.replace(RQ, contexts=(*RQ.contexts, ProposedContext(3, CT, (IMPLICIT,))))
    it = requesting(request).receives(dataclasses.replace(AC, contexts=(*AC.contexts, AnsweredContext(3, 3, ""))))
    if state == 7:
        it.releases()
    it.after().receives(PDataTf((Pdv(1, True, True, b"ok"), Pdv(context_id, True, True, b"no"))), P_DATA)
    it.sends(Abort(2, 6)).tells(Fragment(1, 1, True, b"ok"), Failed(2, 6)).is_in(13)


def test_a_pdv_that_cannot_be_right_gets_2_6() -> None:
    """P1, P2: length 0, 1, overrun, 2³²−1; P-DATA of length 0."""
    for data in (header(4, 0), *(header(4, 6) + u32(length) + b"\1\3" for length in (0, 1, 5, 0xFFFFFFFF))):
        established("acceptor").receives(data).sends(Abort(2, 6)).tells(Failed(2, 6, length=True))


@pytest.mark.parametrize(
    ("data", "sent"),
    [
        (header(8, 4), [Abort(2, 1)]),
        (header(4, 0), [Abort(2, 6)]),
        (associate(1, APPLICATION, USER), [Abort(2, 6)]),
        (pdu.encode(RQ), [Abort(2, 2)]),
        (pdu.encode(AC), []),
        (pdu.encode(RQ)[:-1], []),
    ],
    ids=["unrecognised", "bad length", "bad value", "request", "answer", "half a request"],
)
def test_what_comes_after_the_end_gets_an_abort_that_fits_or_nothing(data: bytes, sent: list[pdu.Pdu]) -> None:
    """9.3.8, AA-6 and AA-7: the user hears of it no more."""
    established("acceptor").aborts().after().receives(data).sends(*sent).tells().is_in(13)


def test_what_has_been_told_or_sent_is_not_told_or_sent_again() -> None:
    """The core's verbs: since the last call."""
    it = connected().receives(RQ).tells(REQUESTED).tells()
    it.rejects()
    assert it.association.has_output
    it.sends(RJ).sends()
    assert not it.association.has_output
    requesting().receives(RJ).tells(REJECTED).tells()


# --- properties -----------------------------------------------------------------------------------------------------


def played(start: tuple[str, int], chunks: list[bytes]) -> tuple[list, list, int]:
    """What comes of these segments: events with whole fragments, PDUs, the state."""
    it = in_state(*start)
    told: list[object] = []
    for chunk in chunks:
        it.receives(chunk)
        told += merged(it.association.events())
    return merged(told), it.sent(), it.association.state


CONNECTED = [path for path in PATHS if path[1] not in (1, 4)]
likely = st.lists(st.sampled_from([RQ, AC, RJ, P_DATA, P_DATA, RELEASE_RQ, RELEASE_RP, ABORT]), max_size=5).map(
    lambda values: b"".join(map(pdu.encode, values))
)


@given(st.sampled_from(CONNECTED), likely | strategies.streams, st.data())
def test_any_segments_of_any_bytes_come_to_the_same(start: tuple[str, int], stream: bytes, data: st.DataObject) -> None:
    """N3, W1 to W7: nothing that a peer sends raises, and segments do not matter."""
    whole = played(start, [stream])
    assert played(start, [stream[at : at + 1] for at in range(len(stream))]) == whole
    assert played(start, data.draw(strategies.chunkings(stream))) == whole


@given(st.sampled_from(CONNECTED), likely.flatmap(strategies.damaged) | strategies.streams)
def test_whatever_comes_the_answer_is_one_of_the_standards(start: tuple[str, int], stream: bytes) -> None:
    """9.3.8: source 1 and reason 3 are never sent; the peer's failure is told as it was sent."""
    told, sent, _ = played(start, [stream])
    for value in sent:
        match value:
            case Abort(source, reason):
                assert (source, reason) in {(0, 0), (2, 1), (2, 2), (2, 5), (2, 6)}
            case AssociateRj(result, source, reason):
                assert (result, source, reason) == (1, 2, 2)
            case _:
                pytest.fail(f"unasked: {value}")
    failures = [(event.source, event.reason) for event in told if isinstance(event, events.PeerFailed)]
    assert len(failures) <= 1
    assert failures == [(value.source, value.reason) for value in sent[: len(failures)]]


@pytest.mark.parametrize("role", ROLES)
def test_what_passes_the_hard_cap_is_not_announced(role: str) -> None:
    """§3: 1 MiB, unless the user raises it."""
    user = UserInformation(max_length=(1 << 20) + 1)
    if role == "requestor":
        it = in_state(role, 1)
        with pytest.raises(LocalProtocolError, match="max_pdu_length"):
            it.associates(dataclasses.replace(RQ, user=user))
    else:
        it = in_state(role, 3)
        with pytest.raises(LocalProtocolError, match="max_pdu_length"):
            it.accepts(dataclasses.replace(AC, user=user))
