"""Serving (api.md §2, upper-layer.md §4): an acceptor in memory, the test is its requestor."""

import errno

import pytest

from dicomnet.config import Limits, Timeouts
from dicomnet.dimse import messages
from dicomnet.dimse.conversation import VERIFICATION
from dicomnet.dimse.messages import CommandField, Request, Response
from dicomnet.dimse.serving import serve
from dicomnet.dimse.status import Status
from dicomnet.errors import (
    AssociationAborted,
    AssociationRejected,
    DeadlineExceeded,
    Reject,
    RemoteProtocolError,
    StatusError,
    TransportError,
)
from dicomnet.ul import pdu
from tests.dimse.memory import (
    CT,
    CT_CONTEXT,
    ECHO_CONTEXT,
    PLANNING,
    PLANNING_CONTEXT,
    PROVIDER_ABORT,
    Loop,
    Served,
    Side,
    association_request,
    ct,
    describe,
    echo_request,
    message,
    new_ae,
    p_data,
    responses,
    store_request,
)

RELEASE_RQ, RELEASE_RP = pdu.ReleaseRq(), pdu.ReleaseRp()


def answering(handler, name="c_echo", **options):
    """Serves an AE with ``handler`` for one service."""
    ae = new_ae()
    getattr(ae, f"on_{name}")(handler)
    return Served(ae, **options)


def store(message_id=1, dataset=None, **command):
    dataset = dataset or ct()
    return message(CT_CONTEXT, store_request(message_id, **command), bytes(dataset))


def answer_to(served, *parts):
    (answer,) = served.answers(*parts)
    return answer


# --- the association ------------------------------------------------------------------------------------------------


def test_a_request_is_accepted():
    """PS3.8 9.3.3."""
    (accept,) = Served().opening
    assert isinstance(accept, pdu.AssociateAc)
    assert [context.result for context in accept.contexts] == [0, 0, 0]


@pytest.mark.parametrize(
    ("ae", "reject"),
    [
        ({"accept_calling": ["OTHER"]}, (1, 1, 3)),
        ({"accept_calling": ["SCU", "OTHER"], "require_called": True}, None),
    ],
)
def test_who_may_not_come_in_is_told_why(ae, reject):
    """PS3.8 9.3.4."""
    served = Served(new_ae(**ae))
    if reject is None:
        assert isinstance(served.opening[0], pdu.AssociateAc)
        return
    assert served.opening == [pdu.AssociateRj(*reject)]
    assert isinstance(served.conversation.error, AssociationRejected)
    assert served.side.reports[0][0].startswith("association refused")
    served.task.result()


def test_the_handler_may_refuse():
    """api.md §2: ``Reject(result, source, reason)``; ``on_close`` comes only for those accepted."""
    closed = []
    ae = new_ae()
    ae.on_close(closed.append)

    @ae.on_association
    def refuse(association):
        assert association.calling_ae == "SCU"
        assert association.accepted == ()
        raise Reject(2, 3, 1)

    served = Served(ae)
    assert served.opening == [pdu.AssociateRj(2, 3, 1)]
    assert closed == []


def test_the_handler_may_accept():
    """api.md §2: by returning None."""
    assert isinstance(answering(lambda association: None, "association").opening[0], pdu.AssociateAc)


def test_a_handler_that_fails_refuses_for_now():
    """K3: RJ 2/1/1 and a traceback in the log."""
    served = answering(lambda association: 1 / 0, "association")
    assert served.opening == [pdu.AssociateRj(2, 1, 1)]
    assert isinstance(served.side.reports[0][1], ZeroDivisionError)


@pytest.mark.parametrize("nonsense", [(300, 1, 1), (1, -1, 1)])
def test_a_handler_that_refuses_with_nonsense_refuses(nonsense):
    """K3: what cannot be sent is logged; RJ 1/1/1."""

    def refuse(association):
        raise Reject(*nonsense)

    served = answering(refuse, "association")
    assert served.opening == [pdu.AssociateRj(1, 1, 1)]
    assert "cannot be sent" in served.side.reports[0][0]
    served.task.result()


def test_a_requestor_that_loses_patience_while_the_handler_thinks():
    """AA-3 in state 3: there is nobody left to accept."""
    ae = new_ae()
    loop = Loop()
    side = Side(loop, requestor=False)

    @ae.on_association
    async def think(association):
        await side.until(lambda: side.conversation.over, None)

    side.association.transport_opened(loop.now)
    task = loop.start(serve(side.conversation, ae, describe))
    side.says(association_request())
    assert not task.done
    side.says(pdu.Abort(0, 0))
    task.result()
    assert side.hears() == []
    assert isinstance(side.conversation.error, AssociationAborted)


def test_a_version_that_is_not_ours_is_refused_by_the_upper_layer():
    """W8: 1/2/2."""
    request = association_request()
    served = Served(
        request=pdu.AssociateRq(
            request.called_ae, request.calling_ae, request.contexts, request.user, protocol_version=2
        )
    )
    assert served.opening == [pdu.AssociateRj(1, 2, 2)]
    assert isinstance(served.conversation.error, RemoteProtocolError)


def test_a_connection_without_a_request_ends_with_artim():
    """N-02; nobody is told of a connection that says nothing at all."""
    loop = Loop()
    side = Side(loop, requestor=False, timeouts=Timeouts(artim=5))
    side.association.transport_opened(loop.now)
    task = loop.start(serve(side.conversation, new_ae(), describe))
    loop.wait(5)
    task.result()
    assert side.hears() == []
    assert isinstance(side.conversation.error, DeadlineExceeded)


def test_a_connection_that_is_closed_without_a_word():
    """AA-5."""
    loop = Loop()
    side = Side(loop, requestor=False)
    side.association.transport_opened(loop.now)
    task = loop.start(serve(side.conversation, new_ae(), describe))
    side.closes()
    task.result()
    assert (side.conversation.over, side.conversation.error) == (True, None)


# --- requests -------------------------------------------------------------------------------------------------------


def test_verification_needs_no_handler():
    """PS3.4 A.4."""
    answer = answer_to(Served(), message(ECHO_CONTEXT, echo_request(7)))
    assert answer == Response(0, sop_class_uid=VERIFICATION, command=CommandField.C_ECHO, message_id=7)


def test_a_response_names_the_class_and_the_instance_of_its_request():
    """PS3.7 9.1.1.2."""
    answer = answer_to(answering(lambda request: 0xB000, "c_store"), store(7))
    assert answer == Response(0xB000, sop_class_uid=CT, sop_instance_uid="1.2.3", command=1, message_id=7)


def test_storage_without_a_handler_is_not_claimed():
    """N-31: success means stored."""
    assert responses(Served().answers(store())) == [(1, Status.UNRECOGNISED_OPERATION)]


def test_several_requests_in_one_segment_or_one_pdu_are_all_answered_in_order():
    """P7."""
    served = answering(lambda request: 0, "c_store")
    pdvs = tuple(pdu.Pdv(ECHO_CONTEXT, True, True, messages.encode(echo_request(number))) for number in (1, 2))
    heard = served.answers(pdu.PDataTf(pdvs), store(3), message(ECHO_CONTEXT, echo_request(4)))
    assert responses(heard) == [(1, 0), (2, 0), (3, 0), (4, 0)]
    assert responses(served.answers(message(ECHO_CONTEXT, echo_request(1)))) == [(1, 0)]


def test_a_release_behind_requests_waits_for_their_answers():
    """AR-7: an acceptor may still send after a release request."""
    closed = []
    ae = new_ae()
    ae.on_close(closed.append)
    served = Served(ae)
    *answers, last = served.answers(
        message(ECHO_CONTEXT, echo_request(1)), message(ECHO_CONTEXT, echo_request(2)), RELEASE_RQ
    )
    assert responses(answers) == [(1, 0), (2, 0)]
    assert last == RELEASE_RP
    assert [association.error for association in closed] == [None]
    served.task.result()


@pytest.mark.parametrize("end", [pdu.Abort(0, 0), p_data(ECHO_CONTEXT, b""), RELEASE_RQ])
def test_a_release_request_that_is_not_the_last_word(end):
    """W13: abort, data, or a second request after it, in the same segment."""
    served = Served()
    heard = served.answers(RELEASE_RQ, end)
    served.task.result()
    assert heard == ([] if end == pdu.Abort(0, 0) else [pdu.Abort(2, 2)])
    assert served.conversation.error is not None


def test_requests_and_an_abort_in_one_segment():
    """K3, W13: there is nobody to answer, and serving ends."""
    calls = []
    served = answering(calls.append)
    heard = served.answers(*[message(ECHO_CONTEXT, echo_request(number)) for number in (1, 2)], pdu.Abort(0, 0))
    served.task.result()
    assert heard == []
    assert isinstance(served.conversation.error, AssociationAborted)


def test_a_doubled_message_id_is_refused():
    """N-23, P8: 0210; the first one is answered as if nothing had been."""
    served = Served()
    heard = served.answers(*[message(ECHO_CONTEXT, echo_request(5))] * 2)
    assert responses(heard) == [(5, 0), (5, Status.DUPLICATE_INVOCATION)]
    assert heard[1].error_comment == "message ID 5 is in use"
    assert heard[1].command == CommandField.C_ECHO
    assert responses(served.answers(message(ECHO_CONTEXT, echo_request(5)))) == [(5, 0)]


def test_a_doubled_message_id_keeps_nothing_of_its_data_set(tmp_path):
    """N-23: the association goes on; no file is left."""
    served = answering(lambda request: 0, "c_store", limits=Limits(spool_size=1), folder=str(tmp_path))
    assert responses(served.answers(store(5), store(5))) == [(5, 0), (5, Status.DUPLICATE_INVOCATION)]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("window", [1, 2, 5])
def test_more_operations_than_negotiated_are_refused(window):
    """N-27, P13: 0213."""
    served = Served(new_ae(async_ops=(window, 1)), association_request(async_ops=(window, 7)))
    heard = served.answers(*[message(ECHO_CONTEXT, echo_request(number)) for number in range(window + 2)])
    assert [response.status for response in heard] == [0] * window + [Status.RESOURCE_LIMITATION] * 2
    assert responses(served.answers(message(ECHO_CONTEXT, echo_request(99)))) == [(99, 0)]


def test_an_unlimited_window_limits_nothing():
    """PS3.7 D.3.3.3: 0."""
    served = Served(new_ae(async_ops=(0, 0)), association_request(async_ops=(0, 0)))
    heard = served.answers(*[message(ECHO_CONTEXT, echo_request(number)) for number in range(50)])
    assert {response.status for response in heard} == {0}


def test_a_cancel_for_nothing_is_ignored():
    """N-26, P9; one with a data set, too, which it must not have."""
    served = Served()
    cancel = Request(CommandField.C_CANCEL, 3)
    assert served.answers(message(CT_CONTEXT, cancel)) == []
    elements = messages.command_set(cancel) | {0x0800: 1}
    assert served.answers(message(CT_CONTEXT, messages.c.encode(elements), b"data")) == []
    assert responses(served.answers(message(ECHO_CONTEXT, echo_request(3)))) == [(3, 0)]


def test_an_unknown_operation_is_refused():
    """N-24, P8: field 7777H gets 0211 in a response of that field."""
    elements = messages.command_set(echo_request(7)) | {0x0100: 0x7777}
    served = Served()
    served.side.says(message(ECHO_CONTEXT, messages.c.encode(elements)))
    encoded = bytes(served.side._sent[12:])
    answer = messages.c.decode(encoded)
    assert (answer[0x0100], answer[0x0120], answer[0x0900]) == (0xF777, 7, Status.UNRECOGNISED_OPERATION)


def test_a_mistyped_argument_is_refused():
    """N-24, P8: 0212, with a data set that nobody can use."""
    elements = messages.command_set(store_request(7)) | {0x0700: b"abcd"}
    answer = answer_to(Served(), message(CT_CONTEXT, messages.c.encode(elements), b"data"))
    assert (answer.message_id, answer.status) == (7, Status.MISTYPED_ARGUMENT)
    assert answer.error_comment == "(0000,0700) is no US"


@pytest.mark.parametrize("missing", [0x0002, 0x0100, 0x0110, 0x0700, 0x0800, 0x1000])
def test_each_element_of_a_store_request_missing_in_turn(missing):
    """P8: 0212, or 2/6 where no answer is possible; the process lives."""
    elements = {number: value for number, value in messages.command_set(store_request(7)).items() if number != missing}
    answer = served_answer = Served().answers(message(CT_CONTEXT, messages.c.encode(elements), b"data"))
    if missing in (0x0100, 0x0110, 0x0800):
        assert answer == [PROVIDER_ABORT]
    else:
        assert responses(served_answer) == [(7, Status.MISTYPED_ARGUMENT)]


def test_an_n_service_on_a_c_class_is_refused():
    """P11: 0211; also on a class that has it, as long as nobody serves it."""
    served = Served()
    for context, uid in ((CT_CONTEXT, CT), (PLANNING_CONTEXT, PLANNING)):
        request = Request(CommandField.N_GET, 1, uid, "1.2.3")
        assert responses(served.answers(message(context, request))) == [(1, Status.UNRECOGNISED_OPERATION)]


def test_a_class_that_is_not_that_of_the_context_is_refused():
    """P10: A900 for a store, 0122 for others (N-24)."""
    served = answering(lambda request: 0, "c_store")
    assert responses(served.answers(store(1, sop_class=PLANNING))) == [(1, Status.DATASET_MISMATCH)]
    request = Request(CommandField.C_ECHO, 2, CT)
    assert responses(served.answers(message(ECHO_CONTEXT, request))) == [(2, Status.SOP_CLASS_NOT_SUPPORTED)]


@pytest.mark.parametrize("dataset", [ct("9.9.9"), ct(sop_class=PLANNING)])
def test_uids_of_the_command_that_are_not_the_data_sets_are_refused(dataset):
    """P10: A900."""
    served = answering(lambda request: 0, "c_store")
    assert responses(served.answers(store(1, dataset))) == [(1, Status.DATASET_MISMATCH)]


def test_a_data_set_that_does_not_tell_its_uids_is_stored():
    """P10: only what differs is refused; N-33."""
    served = answering(lambda request: request.dataset.size, "c_store")
    assert responses(served.answers(message(CT_CONTEXT, store_request(), b"private!"))) == [(1, 8)]


def test_a_store_without_a_data_set_is_refused():
    """PS3.7 9.1.1.1.7: Cxxx."""
    request = store_request()
    request.has_dataset = False
    served = answering(lambda request: 0, "c_store")
    assert responses(served.answers(message(CT_CONTEXT, request))) == [(1, Status.CANNOT_UNDERSTAND)]


@pytest.mark.parametrize("uid", ["../../etc/x", "1.2/3", "1.2\\3", "1.2.3\0.4", "C:1.2", "1." * 33, "1.2.3 4"])
def test_an_instance_uid_that_is_none_does_not_reach_the_handler(uid):
    """0117 (PS3.7 C.5.15): handlers make file names of UIDs, and the peer is hostile until proven otherwise."""
    served = answering(lambda request: pytest.fail("the handler was called"), "c_store")
    request = store_request()
    request.sop_instance_uid = uid
    sent = message(CT_CONTEXT, request, b"private!")
    assert responses(served.answers(sent)) == [(1, Status.INVALID_SOP_INSTANCE)]


def test_a_full_disk_is_told_and_the_association_lives(tmp_path):
    """A700: the peer may try again; the next one may fit."""
    served = answering(lambda request: 0, "c_store", limits=Limits(spool_size=200), folder=str(tmp_path / "missing"))
    answer = answer_to(served, store(1, ct(size=1000)))
    assert answer.status is Status.OUT_OF_RESOURCES
    assert answer.error_comment == "cannot be stored: No such file or directory"
    assert responses(served.answers(store(2))) == [(2, 0)]


class Gone:
    """What is left of a data set whose file cannot be opened."""

    def inner_uids(self):
        raise OSError(errno.EMFILE, "Too many open files")


class GoneSink:
    def write(self, piece):
        pass

    flush = discard = lambda self: None

    def close(self):
        return Gone()


def test_a_spooled_data_set_that_cannot_be_read_again_is_not_claimed():
    """K5: A700."""
    served = answering(lambda request: 0, "c_store")
    served.conversation.stream._open_sink = lambda command, context: GoneSink()
    answer = answer_to(served, store())
    assert (answer.status, answer.error_comment) == (
        Status.OUT_OF_RESOURCES,
        "cannot be read again: Too many open files",
    )


@pytest.mark.parametrize("end", [RELEASE_RQ, pdu.Abort(0, 0), None])
def test_a_data_set_that_was_announced_and_never_came_leaves_nothing(tmp_path, end):
    """P6, N1: abort, no file left."""
    served = answering(lambda request: 0, "c_store", limits=Limits(spool_size=1), folder=str(tmp_path))
    served.side.says(message(CT_CONTEXT, store_request()), p_data(CT_CONTEXT, b"half", is_last=False))
    assert len(list(tmp_path.iterdir())) == 1
    if end is None:
        served.side.closes()
    else:
        served.side.says(end)
    assert list(tmp_path.iterdir()) == []
    served.task.result()
    assert served.side.hears() == ([PROVIDER_ABORT] if end == RELEASE_RQ else [])


@pytest.mark.parametrize(
    "wrong",
    [
        p_data(99, b"data"),  # P3
        p_data(CT_CONTEXT, b"data"),  # P6
        b"\x04\0\0\0\0\0",  # P2
        b"\x04\0\0\0\0\x06\0\0\0\x01\1\3",  # P1
        b"\x04\0\0\0\0\x06\xff\xff\xff\xff\1\3",  # P1
        message(ECHO_CONTEXT, Response(0, message_id=1)),  # N-25
    ],
)
def test_data_that_breaks_the_protocol_ends_in_an_abort(wrong):
    """P1, P2, P3, P6, N-25: 2/6, once, and nothing behind it counts."""
    closed = []
    ae = new_ae()
    ae.on_close(closed.append)
    served = Served(ae)
    heard = served.answers(wrong, message(ECHO_CONTEXT, echo_request()), RELEASE_RQ)
    assert heard == [PROVIDER_ABORT]
    served.task.result()
    assert isinstance(closed[0].error, RemoteProtocolError)


# --- handlers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "status"),
    [
        (Status.SUCCESS, 0x0000),
        (0xB007, 0xB007),
        (0x1234, 0x1234),
        (Response(0xC001), 0xC001),
    ],
)
def test_what_a_handler_returns_is_answered(result, status):
    """api.md §2."""
    assert responses(answering(lambda request: result).answers(message(ECHO_CONTEXT, echo_request()))) == [(1, status)]


def test_an_async_handler_is_awaited():
    """api.md §2: plain or async functions."""

    async def handler(request):
        return 0xB000

    assert responses(answering(handler).answers(message(ECHO_CONTEXT, echo_request()))) == [(1, 0xB000)]


def test_a_response_that_a_handler_returns_again_and_again_is_filled_in_anew_each_time():
    """PS3.7 9.1.1.2: the UIDs and the message ID are those of the request."""
    same = Response(Status.WARNING, error_comment="coerced", has_dataset=True)
    served = answering(lambda request: same, "c_store")
    for number, instance in ((1, "1.2.3"), (2, "1.2.4")):
        answer = answer_to(served, store(number, ct(instance), instance=instance))
        assert (answer.message_id, answer.sop_instance_uid, answer.error_comment) == (number, instance, "coerced")
        assert not answer.has_dataset  # N-22: none is sent
    assert same == Response(Status.WARNING, error_comment="coerced", has_dataset=True)


def test_a_handler_may_raise_a_status():
    """api.md §2: ``StatusError(status, comment)``."""

    def handler(request):
        raise StatusError(0x0124, "not you")

    answer = answer_to(answering(handler), message(ECHO_CONTEXT, echo_request()))
    assert (answer.status, answer.error_comment) == (Status.NOT_AUTHORISED, "not you")


def raising(error):
    def handler(request):
        raise error

    return handler


@pytest.mark.parametrize(
    "handler",
    [
        lambda request: None,
        lambda request: "success",
        lambda request: True,
        lambda request: 0x10000,
        lambda request: Response(0, error_id=0x10000),
        lambda request: Response(0, offending_elements=(1 << 40,)),
        lambda request: Response(0, error_comment=5),
        raising(StatusError(0x12345)),
        raising(StatusError("A700")),
        raising(KeyError("patient")),
    ],
)
def test_a_handler_that_fails_or_returns_nonsense(handler):
    """K3: 0110, the traceback in the log, no patient data on the wire, and the association lives."""
    served = answering(handler)
    answer = answer_to(served, message(ECHO_CONTEXT, echo_request(7)))
    assert (answer.status, answer.message_id) == (Status.PROCESSING_FAILURE, 7)
    assert answer.error_comment.endswith("Error in the handler")
    ((text, error),) = served.side.reports
    assert "handler" in text
    assert isinstance(error, Exception)
    assert responses(served.answers(message(ECHO_CONTEXT, echo_request(8)))) == [(8, Status.PROCESSING_FAILURE)]


def test_a_handler_that_fails_when_the_association_ends_harms_nobody():
    """K3: ``on_close``."""
    served = answering(lambda association: 1 / 0, "close")
    assert served.answers(RELEASE_RQ) == [RELEASE_RP]
    served.task.result()
    assert isinstance(served.side.reports[0][1], ZeroDivisionError)


def test_a_requestor_that_goes_while_the_handler_works():
    """N1: what the handler returns has nowhere to go."""
    ae = new_ae()
    loop = Loop()
    side = Side(loop, requestor=False)

    @ae.on_c_echo
    async def work(request):
        await side.until(lambda: side.conversation.over, None)
        return Status.SUCCESS

    side.association.transport_opened(loop.now)
    task = loop.start(serve(side.conversation, ae, describe))
    side.says(association_request())
    side.says(message(ECHO_CONTEXT, echo_request()))
    side.hears()
    assert side.conversation.busy(loop.now + 100)
    side.closes()
    task.result()
    assert side.hears() == []
    assert isinstance(side.conversation.error, TransportError)


def test_a_request_that_comes_while_the_handler_works_waits():
    """N-23, P7: its message ID counts from its arrival."""
    ae = new_ae()
    loop = Loop()
    side = Side(loop, requestor=False)
    go_on = []

    @ae.on_c_echo
    async def work(request):
        await side.until(lambda: go_on, None)
        return Status.SUCCESS

    side.association.transport_opened(loop.now)
    loop.start(serve(side.conversation, ae, describe))
    side.says(association_request())
    side.hears()
    for number in (1, 2, 1):
        side.says(message(ECHO_CONTEXT, echo_request(number)))
    assert side.hears() == []
    go_on.append(True)
    loop.settle()
    assert responses(side.hears()) == [(1, 0), (2, 0), (1, Status.DUPLICATE_INVOCATION)]


# --- time -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [60, None])
def test_an_idle_association_is_aborted(seconds):
    """Idle: 60 s by default; None keeps it."""
    served = Served(timeouts=Timeouts(idle=seconds))
    served.loop.wait(30)
    assert responses(served.answers(message(ECHO_CONTEXT, echo_request()))) == [(1, 0)]
    served.loop.wait(59)
    assert served.side.hears() == []
    served.loop.wait(2)
    if seconds is None:
        assert not served.task.done
        return
    assert served.side.hears() == [pdu.Abort(2, 0)]
    assert isinstance(served.conversation.error, DeadlineExceeded)
    assert str(served.conversation.error) == "time limit 'idle' passed (60 s)"
    served.task.result()


def test_the_time_that_a_handler_takes_is_not_idle():
    """N-05."""
    ae = new_ae()
    loop = Loop()
    side = Side(loop, requestor=False, timeouts=Timeouts(idle=5))

    @ae.on_c_echo
    async def slow(request):
        await side.until(lambda: False, loop.now + 100)
        return Status.SUCCESS

    side.association.transport_opened(loop.now)
    loop.start(serve(side.conversation, ae, describe))
    side.says(association_request())
    side.hears()
    side.says(message(ECHO_CONTEXT, echo_request()))
    loop.wait(104)
    assert responses(side.hears()) == [(1, 0)]
    loop.wait(2)
    assert side.hears() == [pdu.Abort(2, 0)]


def test_a_large_data_set_may_take_longer_than_the_idle_limit():
    """Idle: no message, and none on its way."""
    served = answering(lambda request: 0, "c_store", timeouts=Timeouts(idle=10))
    dataset = bytes(ct(size=1 << 20))
    served.side.says(message(CT_CONTEXT, store_request()))
    for start in range(0, len(dataset), 32 * 1024):
        served.loop.wait(4)
        served.side.says(
            p_data(CT_CONTEXT, dataset[start : start + 32 * 1024], is_last=start + 32 * 1024 >= len(dataset))
        )
    assert responses(served.side.hears()) == [(1, 0)]


def test_a_data_set_that_drips_runs_into_the_idle_limit():
    """N6: one small but whole PDU after the other does not keep an association."""
    served = answering(lambda request: 0, "c_store", timeouts=Timeouts(idle=10))
    served.side.says(message(CT_CONTEXT, store_request()))
    for _ in range(11):
        served.side.says(p_data(CT_CONTEXT, b"xx", is_last=False))
        served.loop.wait(1)
    assert served.side.hears() == [pdu.Abort(2, 0)]
    assert "'idle'" in str(served.conversation.error)
    served.task.result()


def test_busy_means_that_a_message_is_under_way_or_was_a_moment_ago():
    """K1: what may be drained."""
    served = Served()
    assert served.conversation.busy(served.loop.now)
    assert not served.conversation.busy(served.loop.now + 2)
    served.side.says(p_data(ECHO_CONTEXT, b"\0\0", is_command=True, is_last=False))
    assert served.conversation.busy(served.loop.now + 2)


def test_a_connection_that_breaks_ends_serving():
    """N1, N9."""
    closed = []
    ae = new_ae()
    ae.on_close(closed.append)
    served = Served(ae)
    failure = ConnectionResetError(104, "Connection reset by peer")
    served.conversation.receive_eof(served.loop.now, failure)
    served.loop.settle()
    served.task.result()
    assert isinstance(closed[0].error, TransportError)
    assert closed[0].error.__cause__ is failure
