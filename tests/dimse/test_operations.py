"""The conversations of PS3.7 as dialogues in memory: a requestor, an acceptor, or both, without sockets."""

import dataclasses

import pytest
from hypothesis import given, strategies as st

from dicomnet.config import Limits, Timeouts
from dicomnet.dimse import messages, operations
from dicomnet.dimse.messages import CommandField, Response
from dicomnet.dimse.status import Status
from dicomnet.errors import (
    AssociationAborted,
    AssociationRejected,
    DeadlineExceeded,
    LocalProtocolError,
    NoAcceptedContext,
    RemoteProtocolError,
    TransportError,
)
from dicomnet.ul import pdu
from tests.dimse.memory import (
    CT,
    CT_CONTEXT,
    ECHO_CONTEXT,
    PLANNING_CONTEXT,
    PROVIDER_ABORT,
    Asking,
    Loop,
    Pair,
    Served,
    Side,
    association_request,
    ct,
    echo_request,
    message,
    new_ae,
    responses,
    store_request,
)
from tests.ul.strategies import chunkings

RELEASE_RQ, RELEASE_RP = pdu.ReleaseRq(), pdu.ReleaseRp()


def keeping(statuses=(Status.SUCCESS,)):
    """An AE that keeps what it gets, and the list where. It answers ``statuses``, then its last one for ever."""
    ae, kept = new_ae(), []

    @ae.on_c_store
    def keep(request):
        kept.append(request)
        return statuses[min(len(kept), len(statuses)) - 1]

    return ae, kept


def answering(handler, name="c_echo"):
    """An AE with ``handler`` for one service."""
    ae = new_ae()
    getattr(ae, f"on_{name}")(handler)
    return ae


# --- a whole association --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [0, 16, 17, 128, 64 * 1024])
def test_echo_store_and_release(most):
    """PS3.7 9.1.1, 9.1.5, PS3.8 7.1, 7.2; N-17: with any maximum length on both sides."""
    ae, kept = keeping((Status.SUCCESS, 0xB000))
    pair = Pair(ae, requestor={"max_length": most}, acceptor={"max_length": most})
    assert pair.run(operations.echo(pair.scu)).status is Status.SUCCESS
    sent = [ct("1.2.3", 1000), ct("1.2.4", 0)]
    assert [pair.run(pair.store(dataset)).status for dataset in sent] == [0, 0xB000]
    pair.run(pair.scu.release())
    assert [bytes(request.dataset) for request in kept] == [bytes(dataset) for dataset in sent]
    assert [request.sop_instance_uid for request in kept] == ["1.2.3", "1.2.4"]
    pair.serving.result()
    for side in (pair.requestor, pair.acceptor):
        assert (side.conversation.over, side.conversation.error, side.reports) == (True, None, [])


def test_a_handler_is_told_whose_request_it_is():
    """api.md §2: association, context, message ID, UIDs, priority, originator (PS3.7 9.1.1.1)."""
    ae, kept = keeping()
    pair = Pair(ae)
    context = pair.scu.context_for(CT)
    pair.run(operations.store(pair.scu, context, ct(), messages.Priority.HIGH, ("MOVER", 9)))
    pair.run(operations.store(pair.scu, context, ct()))
    first, second = kept
    assert (first.association.calling_ae, first.association.called_ae) == ("SCU", "SCP")
    assert first.association.accepted == tuple(pair.acceptor.association.contexts.values())
    assert (first.context, first.sop_class_uid, first.sop_instance_uid) == (context, CT, "1.2.3")
    assert (first.priority, first.originator, first.cancelled) == (1, ("MOVER", 9), False)
    assert (second.priority, second.originator, second.message_id) == (0, None, first.message_id + 1)


def test_a_large_data_set_is_given_back_as_it_is_sent(tmp_path):
    """Bytes are not copied: the view is told how far it has been sent; what arrives lies in a file."""
    ae, kept = keeping()
    limits = Limits(spool_size=1000)
    pair = Pair(ae, acceptor={"limits": limits, "folder": str(tmp_path)})
    path = tmp_path / "large.dcm"
    ct(size=3 << 20).save(path)
    dataset = type(ct()).from_file(path)
    assert pair.run(pair.store(dataset)).status == 0
    assert repr(kept[0].dataset).startswith(f"<EncodedDataset {dataset.size} bytes in a file")
    assert bytes(kept[0].dataset) == bytes(dataset)


@given(st.data())
def test_any_segments_give_the_same_answers(data):
    """N3, P7: one-byte segments too."""
    ae, kept = keeping()
    stream = message(ECHO_CONTEXT, echo_request(1)) + message(CT_CONTEXT, store_request(2), bytes(ct()))
    stream += message(ECHO_CONTEXT, echo_request(3)) + pdu.encode(RELEASE_RQ)
    served = Served(ae)
    for chunk in data.draw(chunkings(stream)):
        served.side.says(chunk)
    *answers, released = served.side.hears()
    assert responses(answers) == [(1, 0), (2, 0), (3, 0)]
    assert released == RELEASE_RP
    assert [bytes(request.dataset) for request in kept] == [bytes(ct())]


# --- requesting an association --------------------------------------------------------------------------------------


def associating(**options):
    loop = Loop()
    side = Side(loop, requestor=True, **options)
    task = loop.start(side.conversation.associate(association_request()))
    side.hears()
    return loop, side, task


def test_a_rejection_is_raised_as_it_is_on_the_wire():
    """PS3.8 9.3.4."""
    _loop, side, task = associating()
    side.says(pdu.AssociateRj(2, 3, 2))
    with pytest.raises(AssociationRejected, match="local limit exceeded") as raised:
        task.result()
    assert (raised.value.result, raised.value.source, raised.value.reason) == (2, 3, 2)
    assert raised.value.transient
    with pytest.raises(AssociationRejected):  # whoever asks later is told the same, by another object
        side.conversation.check_open()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (pdu.Abort(0, 0), AssociationAborted),
        (pdu.Abort(2, 1), AssociationAborted),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", RemoteProtocolError),
        (RELEASE_RP, RemoteProtocolError),
    ],
)
def test_other_answers_than_accept_or_reject(answer, error):
    """W1, W3."""
    _loop, side, task = associating()
    side.says(answer)
    with pytest.raises(error):
        task.result()


def test_a_peer_that_closes_instead_of_answering():
    """N2; the OSError behind it is the cause, if there is one."""
    _loop, side, task = associating()
    side.closes()
    with pytest.raises(TransportError, match="without releasing"):
        task.result()


def test_a_peer_that_never_answers_the_request():
    """N-05: the user's wait has a timer of its own."""
    loop, side, task = associating(timeouts=Timeouts(associate=5))
    loop.wait(4.9)
    assert not task.done
    loop.wait(0.2)
    with pytest.raises(DeadlineExceeded, match=r"'associate' passed \(5 s\)"):
        task.result()
    assert side.hears() == [pdu.Abort(0, 0)]


def test_an_association_may_be_accepted_and_aborted_at_once():
    """W13: both in one segment."""
    _loop, side, task = associating()
    side.says(new_ae().answer(association_request()), pdu.Abort(0, 0))
    with pytest.raises(AssociationAborted):
        task.result()


# --- requests of ours -----------------------------------------------------------------------------------------------


def test_a_request_waits_for_its_response():
    """PS3.7 9.1.5."""
    scu = Asking()
    task = scu.start(operations.echo(scu.conversation))
    assert scu.side.hears() == [echo_request(1)]
    assert not task.done
    scu.side.says(message(ECHO_CONTEXT, Response(0xC123, message_id=1, error_comment="no")))
    assert task.result().status == 0xC123
    assert task.result().error_comment == "no"
    assert scu.side.window.room == 1


def test_a_response_may_have_a_data_set():
    """PS3.7 10.1: what came with it is at the response."""
    scu = Asking()
    task = scu.start(operations.echo(scu.conversation))
    scu.side.says(message(ECHO_CONTEXT, Response(0, message_id=1, has_dataset=True), b"data"))
    assert bytes(task.result().dataset) == b"data"


def test_message_ids_are_unique_among_the_outstanding_ones():
    """N-23: also when they begin again at 1."""
    scu = Asking(association_request(async_ops=(0, 1)), limits=Limits())
    scu.side.window.room = 3
    outstanding = scu.start(operations.echo(scu.conversation))
    scu.conversation._last_message_id = 0xFFFF - 1
    more = [scu.start(operations.echo(scu.conversation)) for _ in range(2)]
    assert [request.message_id for request in scu.side.hears()] == [1, 0xFFFF, 2]
    for message_id in (2, 1, 0xFFFF):
        scu.side.says(message(ECHO_CONTEXT, Response(0, message_id=message_id)))
    assert [task.result().message_id for task in (outstanding, *more)] == [1, 0xFFFF, 2]


@given(st.permutations([1, 2, 3, 4]), st.booleans())
def test_responses_come_in_any_order(order, at_once):
    """N-25, N-27: with a window of 4, each response finds its request by the message ID."""
    scu = Asking(association_request(async_ops=(4, 1)))
    tasks = [scu.start(operations.echo(scu.conversation)) for _ in range(6)]
    assert len(scu.side.hears()) == 4  # never more outstanding than negotiated
    answers = [message(ECHO_CONTEXT, Response(0xC000 + number, message_id=number)) for number in order]
    if at_once:
        scu.side.says(*answers)
    else:
        for answer in answers:
            scu.side.says(answer)
    assert [task.result().status for task in tasks[:4]] == [0xC001, 0xC002, 0xC003, 0xC004]
    assert [request.message_id for request in scu.side.hears()] == [5, 6]


def test_without_a_window_requests_go_out_one_after_the_other():
    """N-27 (PS3.7 D.3.3.3)."""
    scu = Asking()
    first, second = (scu.start(operations.echo(scu.conversation)) for _ in range(2))
    assert len(scu.side.hears()) == 1
    scu.side.says(message(ECHO_CONTEXT, Response(0, message_id=1)))
    assert first.result().status == 0
    assert len(scu.side.hears()) == 1
    assert not second.done


def test_without_an_accepted_context_nothing_is_sent():
    """PS3.8 9.3.3.2."""
    answer = new_ae().answer(association_request())
    refused = tuple(dataclasses.replace(context, result=3) for context in answer.contexts)
    scu = Asking(answer=dataclasses.replace(answer, contexts=refused))
    with pytest.raises(NoAcceptedContext, match="for SOP class"):
        scu.start(operations.echo(scu.conversation)).result()
    scu.start(scu.conversation.abort())
    with pytest.raises(AssociationAborted, match="by this side"):
        scu.start(operations.echo(scu.conversation)).result()


def test_a_value_out_of_range_is_the_callers_error_and_costs_nothing():
    """LocalProtocolError: nothing was sent, and the next request has its place in the window."""
    scu = Asking()
    context = scu.context(CT)
    with pytest.raises(LocalProtocolError, match="0700"):
        scu.start(operations.store(scu.conversation, context, ct(), priority=0x10000)).result()
    assert scu.side.hears() == []
    task = scu.start(operations.store(scu.conversation, context, ct()))
    assert len(scu.side.hears()) == 1
    scu.side.says(message(CT_CONTEXT, Response(0, command=CommandField.C_STORE, message_id=2)))
    assert task.result().status == 0


@pytest.mark.parametrize(
    ("context", "response"),
    [
        (ECHO_CONTEXT, Response(0, message_id=2)),  # of nothing
        (PLANNING_CONTEXT, Response(0, message_id=1)),  # in another context
        (ECHO_CONTEXT, Response(0, message_id=1, command=CommandField.C_STORE)),  # of another operation
    ],
)
def test_a_response_that_nobody_asked_for_is_a_protocol_error(context, response):
    """N-25: never swallowed."""
    scu = Asking()
    task = scu.start(operations.echo(scu.conversation))
    scu.side.hears()
    scu.side.says(message(context, response))
    with pytest.raises(RemoteProtocolError, match="response"):
        task.result()
    assert scu.side.hears() == [PROVIDER_ABORT]


def test_a_flood_of_responses_ends_in_an_abort():
    """P12: the request has one response; the second one is one too many."""
    scu = Asking()
    first = scu.start(operations.echo(scu.conversation))
    scu.side.hears()
    scu.side.says(message(ECHO_CONTEXT, Response(0, message_id=1)) * 1000, RELEASE_RQ)
    assert first.result().status == 0
    assert scu.side.hears() == [PROVIDER_ABORT]
    with pytest.raises(RemoteProtocolError, match="not outstanding"):
        scu.start(operations.echo(scu.conversation)).result()


@pytest.mark.parametrize("seconds", [5, None])
def test_a_response_that_never_comes(seconds):
    """DIMSE response: 30 s by default, absolute; None waits on."""
    scu = Asking(timeouts=Timeouts(response=seconds))
    task = scu.start(operations.echo(scu.conversation))
    scu.side.hears()
    scu.loop.wait(4.9)
    assert not task.done
    scu.loop.wait(0.2)
    if seconds is None:
        assert not task.done
        return
    with pytest.raises(DeadlineExceeded, match="'response'"):
        task.result()
    assert scu.side.hears() == [pdu.Abort(0, 0)]
    with pytest.raises(DeadlineExceeded, match="'response'"):  # the others are told why, too
        scu.start(operations.echo(scu.conversation)).result()


def test_a_peer_that_sends_without_end_does_not_extend_the_wait_for_a_response():
    """N6: absolute."""
    scu = Asking(timeouts=Timeouts(response=5))
    task = scu.start(operations.echo(scu.conversation))
    for number in range(6):
        scu.side.says(message(ECHO_CONTEXT, echo_request(number + 1)))
        scu.loop.wait(1)
    with pytest.raises(DeadlineExceeded, match="'response'"):
        task.result()


def test_a_peer_that_sends_a_pdu_byte_by_byte_runs_into_its_limit():
    """N6: PDU completion, 60 s by default, absolute."""
    scu = Asking(timeouts=Timeouts(response=None, pdu=5))
    task = scu.start(operations.echo(scu.conversation))
    scu.side.hears()
    for byte in message(ECHO_CONTEXT, Response(0, message_id=1))[:6]:
        scu.side.says(bytes((byte,)))
        scu.loop.wait(1)
    with pytest.raises(DeadlineExceeded, match="'pdu'"):
        task.result()
    assert scu.side.hears() == [pdu.Abort(2, 0)]


def test_the_peers_requests_are_answered_while_a_response_is_awaited():
    """P7, N-24: an association that only requests answers 0211."""
    scu = Asking()
    task = scu.start(operations.echo(scu.conversation))
    scu.side.hears()
    scu.side.says(message(ECHO_CONTEXT, echo_request(77)))
    assert responses(scu.side.hears()) == [(77, Status.UNRECOGNISED_OPERATION)]
    scu.side.says(message(ECHO_CONTEXT, echo_request(78)), message(ECHO_CONTEXT, Response(0, message_id=1)))
    assert task.result().status == 0


@pytest.mark.parametrize("end", ["abort", "close"])
def test_an_association_that_ends_while_a_response_is_awaited(end):
    """N1, W13; each waiting operation gets an error of its own."""
    scu = Asking(association_request(async_ops=(2, 1)))
    tasks = [scu.start(operations.echo(scu.conversation)) for _ in range(2)]
    if end == "abort":
        scu.side.says(pdu.Abort(2, 0))
    else:
        scu.side.closes()
    errors = []
    for task in tasks:
        with pytest.raises((AssociationAborted, TransportError)) as raised:
            task.result()
        errors.append(raised.value)
    assert errors[0] is not errors[1]
    assert scu.side.window.room == 2


def test_an_operation_that_waits_for_its_place_is_told_of_the_end():
    """N-27."""
    scu = Asking()
    tasks = [scu.start(operations.echo(scu.conversation)) for _ in range(3)]
    scu.side.closes()
    for task in tasks:
        with pytest.raises(TransportError):
            task.result()
    assert scu.side.window.room == 1


def test_a_connection_that_breaks_while_writing_names_the_cause():
    """TransportError: the OSError is its cause."""
    scu = Asking()
    scu.side.failure = BrokenPipeError(32, "Broken pipe")
    with pytest.raises(TransportError) as raised:
        scu.start(operations.store(scu.conversation, scu.context(CT), ct(size=1 << 20))).result()
    assert raised.value.__cause__ is scu.side.failure
    assert scu.side.window.room == 1


class Unreadable:
    """A data set whose bytes cannot be had."""

    sop_class_uid, sop_instance_uid, transfer_syntax = CT, "1.2.3", ""

    def view(self):
        raise FileNotFoundError(2, "No such file")


def test_a_data_set_that_cannot_be_read_costs_nothing():
    """OSError; nothing was sent."""
    scu = Asking()
    with pytest.raises(FileNotFoundError):
        scu.start(operations.store(scu.conversation, scu.context(CT), Unreadable())).result()
    assert scu.side.hears() == []
    assert scu.side.window.room == 1


class Interrupted:
    """A view at whose first report Ctrl-C is pressed, in mid-message."""

    data = memoryview(bytes(1 << 20))

    def passed(self, end):
        raise KeyboardInterrupt

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass


class Long:
    sop_class_uid, sop_instance_uid, transfer_syntax = CT, "1.2.3", ""
    view = Interrupted


def test_a_message_that_cannot_be_completed_ends_the_association():
    """N-18: the rest of it would be taken for something else."""
    scu = Asking()
    with pytest.raises(KeyboardInterrupt):
        scu.start(operations.store(scu.conversation, scu.context(CT), Long())).result()
    assert scu.side.hears()[-1] == pdu.Abort(0, 0)
    assert scu.conversation.over
    assert scu.side.window.room == 1


@pytest.mark.parametrize("size", [100, 1 << 20])
def test_messages_of_several_operations_never_interleave(size):
    """N-18: however long one of them takes to go, the next one waits for its end."""
    scu = Asking(association_request(async_ops=(3, 1)))
    scu.side.slow = True
    scu.start(operations.store(scu.conversation, scu.context(CT), ct(size=size)))
    scu.start(operations.echo(scu.conversation))
    abandoned = scu.start(operations.echo(scu.conversation))
    abandoned.cancel()
    scu.side.slow = False
    scu.loop.settle()
    assert scu.side.hears() == [store_request(1), echo_request(2)]


def test_an_association_that_ends_while_a_message_waits_for_another_one():
    """N-18, W13: nothing of it goes out."""
    scu = Asking(association_request(async_ops=(2, 1)))
    scu.side.slow = True
    tasks = [scu.start(operations.echo(scu.conversation)) for _ in range(2)]
    scu.start(scu.conversation.abort())
    scu.side.slow = False
    scu.loop.settle()
    for task in tasks:
        with pytest.raises(AssociationAborted):
            task.result()
    assert scu.side.hears() == [echo_request(1), pdu.Abort(0, 0)]
    assert (scu.side.window.room, scu.side.message.room) == (2, 1)


def test_a_message_of_which_nobody_knows_how_much_has_gone_ends_the_association():
    """N-18: interrupted while it is written, even if it was small."""
    scu = Asking()
    scu.side.slow = True
    task = scu.start(operations.echo(scu.conversation))
    scu.side.slow = False
    task.cancel()
    with pytest.raises(KeyboardInterrupt):
        task.result()
    assert scu.side.hears() == [echo_request(1), pdu.Abort(0, 0)]
    assert (scu.side.window.room, scu.side.message.room) == (1, 1)


# --- abandoning -----------------------------------------------------------------------------------------------------


def test_an_abandoned_request_leaves_the_association_usable():
    """Its response is read by the next operation, which must not go out before (N-27)."""
    scu = Asking()
    first = scu.start(operations.echo(scu.conversation))
    first.cancel()
    second = scu.start(operations.echo(scu.conversation))
    assert scu.side.hears() == [echo_request(1)]
    scu.side.says(message(ECHO_CONTEXT, Response(0, message_id=1)))
    assert scu.side.hears() == [echo_request(2)]
    scu.side.says(message(ECHO_CONTEXT, Response(0xC001, message_id=2)))
    assert second.result().status == 0xC001
    assert scu.side.window.room == 1


def test_a_release_waits_for_the_response_to_an_abandoned_request():
    """PS3.8 7.2: released when nothing is outstanding."""
    scu = Asking()
    scu.start(operations.echo(scu.conversation)).cancel()
    scu.side.hears()
    task = scu.start(scu.conversation.release())
    assert scu.side.hears() == []
    scu.side.says(message(ECHO_CONTEXT, Response(0, message_id=1)))
    assert scu.side.hears() == [RELEASE_RQ]
    scu.side.says(RELEASE_RP)
    task.result()


def test_the_response_to_an_abandoned_request_has_its_time_limit():
    """DIMSE response."""
    scu = Asking(timeouts=Timeouts(response=5))
    scu.start(operations.echo(scu.conversation)).cancel()
    task = scu.start(operations.echo(scu.conversation))
    scu.loop.wait(5)
    with pytest.raises(DeadlineExceeded, match="'response'"):
        task.result()


def test_an_association_that_ends_frees_who_waits_for_an_abandoned_request():
    """N1."""
    scu = Asking()
    scu.start(operations.echo(scu.conversation)).cancel()
    task = scu.start(operations.echo(scu.conversation))
    scu.side.closes()
    with pytest.raises(TransportError):
        task.result()


def test_a_request_that_is_abandoned_when_its_response_is_there_owes_nothing():
    """The interrupt comes between the arrival of the response and its use."""
    scu = Asking()
    task = scu.start(operations.echo(scu.conversation))
    scu.side.hears()
    scu.conversation.receive_data(memoryview(message(ECHO_CONTEXT, Response(0, message_id=1))), scu.loop.now)
    task.cancel()
    assert scu.side.window.room == 1
    scu.start(operations.echo(scu.conversation))
    assert scu.side.hears() == [echo_request(2)]


# --- release and abort ----------------------------------------------------------------------------------------------


def test_release_while_operations_are_outstanding_is_the_callers_error():
    """PS3.8 7.2."""
    scu = Asking(association_request(async_ops=(2, 1)))
    scu.start(operations.echo(scu.conversation))
    with pytest.raises(LocalProtocolError, match="outstanding"):
        scu.start(scu.conversation.release()).result()


def test_after_a_release_nothing_is_possible():
    """PS3.8 7.2."""
    pair = Pair()
    pair.run(pair.scu.release())
    for operation in (lambda: operations.echo(pair.scu), pair.scu.release):
        with pytest.raises(LocalProtocolError, match="has been released"):
            pair.run(operation())
    pair.run(pair.scu.abort())  # nothing is left to abort
    assert pair.scu.error is None


@pytest.mark.parametrize(
    ("answer", "error"), [(pdu.Abort(0, 0), AssociationAborted), (RELEASE_RQ, None), (b"\x07\0", DeadlineExceeded)]
)
def test_a_release_that_is_not_answered_as_it_should(answer, error):
    """AR-3, AA-3; release: 10 s by default, also in a collision that goes no further."""
    scu = Asking(timeouts=Timeouts(release=5, pdu=100))
    task = scu.start(scu.conversation.release())
    assert scu.side.hears() == [RELEASE_RQ]
    scu.side.says(answer)
    scu.loop.wait(6)
    with pytest.raises(error or DeadlineExceeded):
        task.result()


def test_release_collision_as_the_requestor():
    """AR-8, AR-9, AR-3: the requestor answers first."""
    scu = Asking()
    task = scu.start(scu.conversation.release())
    scu.side.hears()
    scu.side.says(RELEASE_RQ)
    assert scu.side.hears() == [RELEASE_RP]
    assert not task.done
    scu.side.says(RELEASE_RP)
    task.result()
    assert scu.conversation.error is None


def test_release_collision_as_the_acceptor():
    """AR-8, AR-10, AR-4: the acceptor waits for the answer to its own request, then answers."""
    served = Served()
    task = served.loop.start(served.conversation.release())
    assert served.side.hears() == [RELEASE_RQ]
    assert served.answers(RELEASE_RQ) == []
    assert served.answers(RELEASE_RP) == [RELEASE_RP]
    task.result()
    served.task.result()


def test_both_sides_release_at_once():
    """AR-8 in both roles."""
    pair = Pair()
    tasks = [pair.loop.start(side.conversation.release()) for side in (pair.acceptor, pair.requestor)]
    for task in (*tasks, pair.serving):
        task.result()
    assert (pair.scu.error, pair.acceptor.conversation.error) == (None, None)


def test_a_collision_that_the_peer_ends_in_another_way():
    """AR-8, then AA-3 in the same segment: there is nothing to answer any more."""
    scu = Asking()
    task = scu.start(scu.conversation.release())
    scu.side.hears()
    scu.side.says(RELEASE_RQ, pdu.Abort(0, 0))
    with pytest.raises(AssociationAborted):
        task.result()
    assert scu.side.hears() == []


def test_a_release_while_a_response_is_due_is_a_protocol_error():
    """PS3.8 7.2: the acceptor owes a response."""
    scu = Asking()
    task = scu.start(operations.echo(scu.conversation))
    scu.side.hears()
    scu.side.says(RELEASE_RQ)
    with pytest.raises(RemoteProtocolError, match="a release while a response is due"):
        task.result()
    assert scu.side.hears() == [PROVIDER_ABORT]


def test_the_acceptor_may_release():
    """AR-2, AR-4: confirmed as soon as somebody looks, if nothing is outstanding."""
    scu = Asking()
    watching = scu.start(scu.side.until(lambda: scu.conversation.over, None))
    scu.side.says(RELEASE_RQ)
    assert watching.result()
    assert scu.side.hears() == [RELEASE_RP]
    with pytest.raises(LocalProtocolError, match="has been released"):
        scu.start(operations.echo(scu.conversation)).result()


def test_abort():
    """AA-1: 0/0; whoever waits is told that it was this side."""
    scu = Asking()
    waiting = scu.start(operations.echo(scu.conversation))
    scu.side.hears()
    scu.start(scu.conversation.abort()).result()
    assert scu.side.hears() == [pdu.Abort(0, 0)]
    with pytest.raises(AssociationAborted, match=r"by the service user \(0/0\); by this side"):
        waiting.result()
    scu.start(scu.conversation.abort()).result()
    assert scu.side.hears() == []


def test_abort_says_what_it_is_told_to_say():
    """PS3.8 9.3.8."""
    scu = Asking()
    scu.start(scu.conversation.abort(2, 1)).result()
    assert scu.side.hears() == [pdu.Abort(2, 1)]
    with pytest.raises(AssociationAborted, match="unrecognised PDU"):
        scu.start(scu.conversation.release()).result()
