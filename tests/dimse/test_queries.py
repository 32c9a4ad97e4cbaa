"""C-FIND, C-GET, C-MOVE and the N-services as dialogues in memory, both ends and each end alone."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from pydicom.dataset import Dataset

from dicomnet.ae import AE
from dicomnet.config import Limits, Peer, Timeouts
from dicomnet.dataset import EncodedDataset
from dicomnet.dimse import messages, operations
from dicomnet.dimse.conversation import VERIFICATION
from dicomnet.dimse.messages import CommandField, Request, Response, SubOperations
from dicomnet.dimse.serving import Serving
from dicomnet.dimse.status import Status
from dicomnet.errors import (
    AssociationAborted,
    DeadlineExceeded,
    LocalProtocolError,
    NoAcceptedContext,
    RemoteProtocolError,
    StatusError,
    TransportError,
)
from dicomnet.ul import pdu
from dicomnet.ul.negotiation import EXPLICIT_VR_LITTLE_ENDIAN
from tests.dimse import memory
from tests.dimse.memory import CT, Asking, Pair, Served, Task, ct, echo_request, message, responses, store_request

FIND = "1.2.840.10008.5.1.4.1.2.2.1"
MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
GET = "1.2.840.10008.5.1.4.1.2.2.3"
MPPS = "1.2.840.10008.3.1.2.3.3"
CONTEXTS = [VERIFICATION, (CT, [EXPLICIT_VR_LITTLE_ENDIAN]), FIND, MOVE, GET, MPPS]
IDS = {uid: 2 * index + 1 for index, uid in enumerate((VERIFICATION, CT, FIND, MOVE, GET, MPPS))}


@pytest.fixture(autouse=True)
def _contexts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every association here proposes these, every acceptor accepts them."""
    monkeypatch.setattr(memory, "CONTEXTS", CONTEXTS)
    monkeypatch.setattr(memory, "new_ae", new_ae)


def new_ae(**options: Any) -> AE:
    return AE("SCP", contexts=[VERIFICATION, CT, FIND, MOVE, GET, MPPS], **options)


def pair(ae: AE, **options: Any) -> Pair:
    return Pair(ae, **options)


def study(number: int = 0) -> Dataset:
    dataset = Dataset()
    dataset.QueryRetrieveLevel = "STUDY"
    dataset.PatientID = f"P{number}"
    return dataset


def find(side: Any, **options: Any) -> operations.Find:
    return operations.Find(side, FIND, study(), 0, **options)


def rest(loop: Any, results: operations.Results) -> list[Any]:
    """All that is still to come."""
    items = []
    while (item := loop.run(results.next())) is not None:
        items.append(item)
    return items


def query(command: CommandField, message_id: int = 1, **fields: Any) -> bytes:
    uid = {CommandField.C_FIND: FIND, CommandField.C_GET: GET, CommandField.C_MOVE: MOVE}[command]
    if command is CommandField.C_MOVE:
        fields.setdefault("move_destination", "DEST")
    request = Request(command, message_id, uid, has_dataset=True, **fields)
    return message(IDS[uid], request, bytes(EncodedDataset.from_dataset(study())))


def cancel(message_id: int, context_id: int = IDS[FIND]) -> bytes:
    return message(context_id, Request(CommandField.C_CANCEL, message_id))


# --- C-FIND ---------------------------------------------------------------------------------------------------------


def test_matches_come_in_order_and_then_the_final_response():
    """PS3.7 9.1.2: pending responses with identifiers, then success without."""
    ae = new_ae()
    ae.on_c_find(lambda request: (study(number) for number in range(5)))
    both = pair(ae)
    results = find(both.scu)
    assert [match.PatientID for match in rest(both.loop, results)] == ["P0", "P1", "P2", "P3", "P4"]
    assert results.response is not None
    assert results.response.status is Status.SUCCESS
    assert both.loop.run(results.next()) is None
    both.run(both.scu.release())


def test_a_handler_sees_the_identifier():
    """PS3.4 C.4.1.1.3: with its context and message ID."""
    ae, seen = new_ae(), []
    ae.on_c_find(lambda request: seen.append((request.dataset.decode().PatientID, request.context.abstract_syntax)))
    both = pair(ae)
    assert rest(both.loop, find(both.scu)) == []
    assert seen == [("P0", FIND)]


@pytest.mark.parametrize(
    ("result", "ids", "status"),
    [
        (lambda: [study(1), study(2)], ["P1", "P2"], 0),
        (lambda: [EncodedDataset.from_dataset(study(7))], ["P7"], 0),
        (lambda: study(3), ["P3"], 0),
        (lambda: None, [], 0),
        (lambda: Status.CANNOT_UNDERSTAND, [], 0xC000),
        (lambda: 0xA900, [], 0xA900),
        (lambda: [Response(0xFF01, study(4)), Response(0xA700, error_comment="enough"), study(5)], ["P4"], 0xA700),
        (lambda: 1.5, [], 0x0110),
        (lambda: [study(1), object()], ["P1"], 0x0110),
    ],
)
def test_what_a_find_handler_may_return(result, ids, status):
    """api.md §2: data sets, encoded or not, one or many; pending with a warning; a status alone; nonsense is 0110."""
    ae = new_ae()
    ae.on_c_find(lambda request: result())
    both = pair(ae)
    results = find(both.scu)
    found = []
    with contextlib.suppress(StatusError):  # the failures among them; the final response has the status, too
        while (match := both.loop.run(results.next())) is not None:
            found.append(match.PatientID)
    assert found == ids
    assert results.response is not None
    assert results.response.status == status


def test_an_async_generator_is_a_handler():
    """api.md §2: plain or async."""
    ae = new_ae()

    @ae.on_c_find
    async def generate(request):
        yield study(1)

    both = pair(ae)
    assert [match.PatientID for match in rest(both.loop, find(both.scu))] == ["P1"]


@pytest.mark.parametrize(
    ("raised", "status"), [(StatusError(0xA700, "no room"), 0xA700), (ZeroDivisionError("a bug"), 0x0110)]
)
def test_a_generator_that_raises_ends_with_that_status(raised, status):
    """api.md §2; what it found before is sent."""
    ae = new_ae()

    @ae.on_c_find
    def generate(request):
        yield study(1)
        raise raised

    both = pair(ae)
    results = find(both.scu)
    assert both.loop.run(results.next()).PatientID == "P1"
    with pytest.raises(StatusError) as error:
        both.loop.run(results.next())
    assert error.value.status == status
    both.run(both.scu.release())


def test_a_generator_that_fails_when_it_is_stopped_is_reported():
    """The association lives."""
    ae = new_ae()

    @ae.on_c_find
    def generate(request):
        try:
            yield study(1)
            yield Response(0)
        finally:
            raise ZeroDivisionError

    served = Served(ae)
    heard = served.answers(query(CommandField.C_FIND))
    assert responses(heard) == [(1, 0xFF00), (1, 0)]
    assert "when it was stopped" in served.side.reports[0][0]


def test_a_cancel_ends_a_find():
    """PS3.7 9.3.2.3, PS3.4 C.4.1.3.2: the handler is stopped, the status is FE00."""
    ae, seen = new_ae(), []

    @ae.on_c_find
    def generate(request):
        try:
            for number in range(1000):
                yield study(number)
        finally:
            seen.append((number, request.cancelled))

    served = Served(ae)
    served.side.says_each(query(CommandField.C_FIND), cancel(9), cancel(1))
    assert [response.status for response in served.side.hears()] == [0xFF00, 0xFF00, 0xFE00]
    assert seen == [(2, True)]
    assert responses(served.answers(message(IDS[VERIFICATION], echo_request(2)))) == [(2, 0)]


def test_a_cancel_that_comes_before_the_request_is_taken_up_counts():
    """N-26: it is for a request that is outstanding."""
    ae = new_ae()
    ae.on_c_find(lambda request: (study(number) for number in range(1000)))
    served = Served(ae)
    heard = served.answers(
        message(IDS[VERIFICATION], echo_request(2)), query(CommandField.C_FIND), cancel(1), cancel(2)
    )
    assert responses(heard) == [(2, 0), (1, 0xFE00)]
    assert responses(served.answers(message(IDS[VERIFICATION], echo_request(1)))) == [(1, 0)]


@pytest.mark.parametrize("command", [CommandField.C_FIND, CommandField.C_GET])
def test_a_handler_that_ends_because_of_a_cancel_is_answered_so(command):
    """PS3.4 C.4.1.3.2, C.4.3.3.1: whoever asks whether there was one is told what has arrived."""
    ae, seen = new_ae(), []

    def look(request):
        seen.append(request.cancelled)
        seen.append(request.cancelled)
        yield from ()

    ae.on_c_find(look)
    ae.on_c_get(look)
    served = Served(ae)
    served.side.says_each(query(command), cancel(9, IDS[FIND]), cancel(1, IDS[FIND]))
    assert [response.status for response in served.side.hears()] == [0xFE00]
    assert seen == [False, True]


def test_a_find_without_an_identifier_is_refused():
    """PS3.7 9.1.2.1.5: the handler is not asked."""
    ae = new_ae()
    ae.on_c_find(lambda request: pytest.fail("it was asked"))
    served = Served(ae)
    heard = served.answers(message(IDS[FIND], Request(CommandField.C_FIND, 1, FIND)))
    assert responses(heard) == [(1, 0xC000)]


def test_a_requestor_that_goes_in_the_middle_of_a_find_stops_the_handler():
    """§4 of upper-layer.md: nothing is left."""
    ae, seen = new_ae(), []

    @ae.on_c_find
    def generate(request):
        try:
            while True:
                yield study(1)
        finally:
            seen.append("stopped")

    served = Served(ae)
    served.side.says_each(query(CommandField.C_FIND), pdu.encode(pdu.Abort(0, 0)))
    assert seen == ["stopped"]
    assert served.task.done


def test_a_handler_whose_requestor_went_is_not_answered():
    """What it raises afterwards is not told to anybody."""
    ae = new_ae()
    served = Served(ae)

    @ae.on_c_find
    def generate(request):
        served.conversation.end(None)
        raise ZeroDivisionError
        yield

    assert served.answers(query(CommandField.C_FIND)) == []


def test_large_matches_go_in_several_pdus():
    """They do not fit in one."""
    ae = new_ae()

    @ae.on_c_find
    def generate(request):
        match = study(1)
        match.ImageComments = "x" * 9000
        yield match

    both = pair(ae, max_length=4096, requestor={"max_length": 4096})
    assert len(rest(both.loop, find(both.scu))[0].ImageComments) == 9000


# --- C-FIND as SCU --------------------------------------------------------------------------------------------------


def pending(message_id: int = 1, command: CommandField = CommandField.C_FIND, uid: str = FIND) -> bytes:
    response = Response(0xFF00, command=command, message_id=message_id, has_dataset=True)
    return message(IDS[uid], response, bytes(EncodedDataset.from_dataset(study())))


def final(status: int = 0, message_id: int = 1, command: CommandField = CommandField.C_FIND, uid: str = FIND) -> bytes:
    return message(IDS[uid], Response(status, command=command, message_id=message_id))


def commands(heard: list[Any]) -> list[Any]:
    return [item.command for item in heard if isinstance(item, Request)]


def test_a_find_that_is_closed_early_is_cancelled_and_the_association_is_usable():
    """PS3.7 9.3.2.3; what still comes is dropped."""
    scu = Asking()
    results = find(scu.conversation)
    task = scu.start(results.next())
    scu.side.says(pending())
    assert task.result().PatientID == "P0"
    scu.loop.run(results.close())
    scu.loop.run(results.close())
    assert commands(scu.side.hears()) == [CommandField.C_FIND, CommandField.C_CANCEL]
    echo = scu.start(operations.echo(scu.conversation))
    scu.side.says(pending(), pending(), final(0xFE00))
    scu.side.says(final(0, 2, CommandField.C_ECHO, VERIFICATION))
    assert echo.result().status == 0
    assert results.response is None


def test_a_find_that_is_cancelled_can_be_read_to_its_end():
    """Its final status is a value."""
    scu = Asking()
    results = find(scu.conversation)
    assert results.message_id == 0
    scu.loop.run(results.cancel())  # not begun: nothing to cancel
    task = scu.start(results.next())
    assert results.message_id == 1
    scu.side.says(pending())
    task.result()
    scu.loop.run(results.cancel())
    assert scu.conversation.outstanding(1) is results.exchange
    end = scu.start(results.next())
    scu.side.says(final(0xFE00))
    assert end.result() is None
    assert scu.conversation.outstanding(1) is None
    assert results.response is not None
    assert results.response.status.is_cancel
    scu.loop.run(results.close())
    scu.loop.run(results.cancel())
    assert commands(scu.side.hears()) == [CommandField.C_FIND, CommandField.C_CANCEL]


def test_a_find_that_is_closed_before_it_began_sends_nothing():
    """It has nothing to cancel."""
    scu = Asking()
    results = find(scu.conversation)
    scu.loop.run(results.close())
    assert scu.loop.run(results.next()) is None
    assert scu.side.hears() == []


def test_a_find_on_an_association_that_ended():
    """Each next operation says why."""
    scu = Asking()
    results = find(scu.conversation)
    task = scu.start(results.next())
    scu.side.says(pdu.Abort(0, 0))
    with pytest.raises(AssociationAborted):
        task.result()
    assert scu.loop.run(results.next()) is None
    assert scu.side.window.room == 1


def test_an_orphan_is_closed_by_who_comes_next():
    """Its owner is gone, and could not do it."""
    scu = Asking()
    results = find(scu.conversation)
    task = scu.start(results.next())
    scu.side.says(pending())
    task.result()
    scu.conversation.orphans.append(results)
    echo = scu.start(operations.echo(scu.conversation))
    assert commands(scu.side.hears()) == [CommandField.C_FIND, CommandField.C_CANCEL]
    scu.side.says(final(0xFE00))
    scu.side.says(final(0, 2, CommandField.C_ECHO, VERIFICATION))
    assert echo.result().status == 0
    scu.conversation.orphans.append(results)
    release = scu.start(scu.conversation.release())
    scu.side.says(pdu.ReleaseRp())
    release.result()


def test_a_find_that_was_left_does_not_hold_up_others_while_there_is_room():
    """PS3.7 D.3.3.3: it has its place in the window, they have theirs."""
    request = memory.association_request(async_ops=(2, 1))
    scu = Asking(request)
    results = find(scu.conversation)
    task = scu.start(results.next())
    scu.side.says(pending())
    task.result()
    scu.loop.run(results.close())
    echo = scu.start(operations.echo(scu.conversation))
    scu.side.says(final(0, 2, CommandField.C_ECHO, VERIFICATION))
    assert echo.result().status == 0
    release = scu.start(scu.conversation.release())
    scu.side.says(final(0xFE00))
    scu.side.says(pdu.ReleaseRp())
    release.result()


def test_a_place_that_is_freed_is_for_one_of_those_who_wait():
    """The other waits on."""
    scu = Asking()
    results = find(scu.conversation)
    task = scu.start(results.next())
    scu.side.says(pending())
    task.result()
    scu.loop.run(results.close())
    echoes = [scu.start(operations.echo(scu.conversation)) for _ in range(2)]
    scu.side.says(final(0xFE00))
    scu.side.hears()
    for message_id in (2, 3):
        scu.side.says(final(0, message_id, CommandField.C_ECHO, VERIFICATION))
    assert [echo.result().status for echo in echoes] == [0, 0]


@pytest.mark.parametrize("window", [2, 3])  # without room for him, and with
def test_who_needs_a_place_while_his_own_query_stops_the_reading_is_told(window):
    """What he has left cannot be answered, for what he has not read."""
    scu = Asking(memory.association_request(async_ops=(window, 1)), limits=Limits(inbox=1))

    async def two_queries_and_an_echo() -> None:
        dropped, full = find(scu.conversation), find(scu.conversation)
        await dropped.next()
        await full.next()
        await dropped.close()
        await operations.echo(scu.conversation)

    task = scu.start(two_queries_and_an_echo())
    scu.side.says(pending(1))
    scu.side.says(pending(2), pending(2))
    with pytest.raises(LocalProtocolError, match="wait to be read"):
        task.result()


@pytest.mark.parametrize("ends", [False, True])
def test_a_find_that_is_left_makes_room_for_who_waits(ends):
    """Neither he nor who has left it reads what is still to come; somebody does."""
    scu = Asking()
    results = find(scu.conversation)
    task = scu.start(results.next())
    scu.side.says(pending())
    task.result()
    echo = scu.start(operations.echo(scu.conversation))
    scu.loop.run(results.close())
    scu.side.says(pending())
    if ends:
        scu.side.says(pdu.Abort(0, 0))
        with pytest.raises(AssociationAborted):
            echo.result()
    else:
        scu.side.says(final(0xFE00))
        scu.side.says(final(0, 2, CommandField.C_ECHO, VERIFICATION))
        assert echo.result().status == 0


def test_who_waits_for_himself_is_told():
    """A loop over matches that asks for something else while the window is full would hang."""
    scu = Asking()

    async def find_and_echo() -> None:
        results = find(scu.conversation)
        await results.next()
        await operations.echo(scu.conversation)

    task = scu.start(find_and_echo())
    scu.side.says(pending())
    with pytest.raises(LocalProtocolError, match="operations window of 1 is full"):
        task.result()


def test_unread_responses_stop_the_reading():
    """Bounded: others wait until they are read."""
    request = memory.association_request(async_ops=(2, 1))
    scu = Asking(request, limits=Limits(inbox=2))
    results = find(scu.conversation)
    matches = scu.start(results.next())
    scu.side.says(pending())
    matches.result()
    echo = scu.start(operations.echo(scu.conversation))
    scu.side.says(pending(), pending(), pending())
    assert scu.conversation.congested
    scu.side.says(final(0, 2, CommandField.C_ECHO, VERIFICATION))
    assert not echo.done
    for _ in range(3):
        scu.loop.run(results.next())
    assert not scu.conversation.congested
    assert echo.result().status == 0
    end = scu.start(results.next())
    scu.side.says(final())
    assert end.result() is None


def test_unread_responses_for_ever_end_the_association():
    """Its time limit is that of every response."""
    request = memory.association_request(async_ops=(2, 1))
    scu = Asking(request, limits=Limits(inbox=1), timeouts=Timeouts(response=5))
    results = find(scu.conversation)
    matches = scu.start(results.next())
    scu.side.says(pending())
    matches.result()
    echo = scu.start(operations.echo(scu.conversation))
    scu.side.says(pending())
    scu.loop.wait(6)
    with pytest.raises(DeadlineExceeded, match="response"):
        echo.result()


def test_who_has_to_read_first_is_told():
    """The responses that stop the reading are his own."""
    request = memory.association_request(async_ops=(2, 1))
    scu = Asking(request, limits=Limits(inbox=1))

    async def find_and_echo() -> None:
        results = find(scu.conversation)
        await results.next()
        await operations.echo(scu.conversation)

    task = scu.start(find_and_echo())
    scu.side.says(pending())
    scu.side.says(pending())
    with pytest.raises(LocalProtocolError, match="wait to be read"):
        task.result()


def test_a_match_that_could_not_be_kept_is_raised(tmp_path):
    """The file system's error, not a gap."""
    scu = Asking(limits=Limits(spool_size=1), folder=str(tmp_path / "missing"))
    task = scu.start(find(scu.conversation).next())
    scu.side.says(pending())
    with pytest.raises(OSError, match="No such file"):
        task.result()


def test_a_pending_response_without_a_match_is_passed_over():
    """PS3.7 9.1.2.1.5 has one in each; not all have read that."""
    scu = Asking()
    task = scu.start(find(scu.conversation).next())
    scu.side.says(final(0xFF00), final(0))
    assert task.result() is None


def test_a_model_that_was_not_accepted():
    """Before anything is sent."""
    scu = Asking()
    with pytest.raises(NoAcceptedContext):
        operations.Find(scu.conversation, "1.2.3", study(), 0)


# --- C-MOVE ---------------------------------------------------------------------------------------------------------


class Destination:
    """What ``Io.open`` gives: an association that keeps what is stored, or fails as ``answers`` says."""

    def __init__(self, answers: list[Any] | None = None, release: Exception | None = None) -> None:
        self.answers = answers or []
        self._release = release
        self.opened: list[dict[str, Any]] = []
        self.stored: list[tuple[str, Any]] = []
        self.ends: list[str] = []

    def __call__(self, options: dict[str, Any]) -> Destination:
        self.opened.append(options)
        return self

    async def c_store(self, dataset: Any, *, originator: Any) -> Response:
        answer = self.answers.pop(0) if self.answers else 0
        if isinstance(answer, Exception):
            raise answer
        self.stored.append((dataset.sop_instance_uid, originator))
        return Response(answer)

    async def release(self) -> None:
        self.ends.append("released")
        if self._release is not None:
            raise self._release

    async def abort(self) -> None:
        self.ends.append("aborted")


def moving(found: Any, destination: Any, **options: Any) -> tuple[Pair, operations.Move]:
    ae = new_ae()
    ae.on_c_move(lambda request: None if request.destination != "DEST" else (Peer("DEST", "192.0.2.9", 104), found))
    both = Pair(ae, **options)
    both.acceptor.places[104] = destination
    return both, operations.Move(both.scu, MOVE, study(), 0, "DEST")


def test_a_move_stores_counts_and_tells():
    """PS3.4 C.4.2: progress with each, the originator in each, success at the end."""
    destination = Destination()
    both, results = moving([ct("1.1"), ct("1.2")], destination)
    assert rest(both.loop, results) == [SubOperations(1, 1, 0, 0), SubOperations(0, 2, 0, 0)]
    assert destination.stored == [("1.1", ("SCU", 1)), ("1.2", ("SCU", 1))]
    assert destination.opened[0]["calling_ae"] == "SCP"
    assert (CT, (EXPLICIT_VR_LITTLE_ENDIAN,)) in destination.opened[0]["contexts"]
    assert destination.ends == ["released"]
    assert results.progress == SubOperations(0, 2, 0, 0)


def test_an_unknown_destination_is_a801():
    """PS3.4 Table C.4-2."""
    ae = new_ae()
    ae.on_c_move(lambda request: None)
    both = pair(ae)
    with pytest.raises(StatusError) as raised:
        both.loop.run(operations.Move(both.scu, MOVE, study(), 0, "NOBODY").next())
    assert raised.value.status == 0xA801


@pytest.mark.parametrize(
    ("answers", "counts", "status", "failed"),
    [
        ([0, 0xA700, 0xB000], (1, 1, 1), 0xB000, ["1.2"]),
        ([0xA700, 0xC000, 0xC000], (0, 3, 0), 0xA702, ["1.1", "1.2", "1.3"]),
        ([0, TransportError("gone"), 0], (2, 1, 0), 0xB000, ["1.2"]),
        ([0, NoAcceptedContext("no"), 0], (2, 1, 0), 0xB000, ["1.2"]),
        ([0, LocalProtocolError("no"), OSError("no")], (1, 2, 0), 0xB000, ["1.2", "1.3"]),
    ],
)
def test_what_a_destination_refuses_is_counted_and_named(answers, counts, status, failed):
    """PS3.4 C.4.2.3.1, C.4.2.1.4.2: a warning if some failed, a failure if all did, with the list of them."""
    both, results = moving([ct("1.1"), ct("1.2"), ct("1.3")], Destination(answers))
    with pytest.raises(StatusError) as raised:
        rest(both.loop, results)
    assert raised.value.status == status
    response = results.response
    assert response is not None
    assert (response.completed, response.failed, response.warning) == counts
    uids = response.dataset.decode().FailedSOPInstanceUIDList
    assert ([uids] if isinstance(uids, str) else list(uids)) == failed
    both.run(both.scu.release())


def test_an_unreachable_destination_is_tried_once():
    """Each instance would cost its time limit otherwise."""
    both, results = moving([ct("1.1"), ct("1.2")], TransportError("refused"))
    with pytest.raises(StatusError) as raised:
        rest(both.loop, results)
    assert raised.value.status == 0xA702
    assert results.progress.failed == 2


def test_a_destination_that_does_not_release_harms_nobody():
    """All is stored."""
    both, results = moving([ct("1.1")], Destination(release=AssociationAborted(0, 0)))
    assert len(rest(both.loop, results)) == 1
    assert "did not release" in both.acceptor.reports[0][0]


def test_an_instance_that_cannot_be_read_is_counted_as_failed(tmp_path):
    """It has no UID to be named by."""
    both, results = moving([str(tmp_path / "missing"), ct("1.2")], Destination())
    with pytest.raises(StatusError) as raised:
        rest(both.loop, results)
    assert raised.value.status == 0xB000
    assert results.response is not None
    assert results.response.dataset is None


def test_more_classes_than_contexts_are_proposed_in_turn():
    """PS3.8 9.3.2.2: 128 contexts."""
    destination = Destination()
    found = [ct(f"1.{number}", sop_class=f"1.2.3.{number}") for number in range(70)]
    both, results = moving((instance for instance in found), destination)
    rest(both.loop, results)
    assert len(destination.stored) == 70
    assert all(len(options["contexts"]) <= 128 for options in destination.opened)


def test_a_cancel_ends_a_move():
    """PS3.4 C.4.2.3.2: with the counts, those that remain too."""
    ae = new_ae()
    ae.on_c_move(lambda request: (Peer("DEST", "192.0.2.9", 104), [ct("1.1"), ct("1.2")]))
    served = Served(ae)
    served.side.places[104] = Destination()
    served.side.says_each(query(CommandField.C_MOVE), cancel(1, IDS[MOVE]))
    last = served.side.hears()[-1]
    assert (last.status, last.remaining, last.completed) == (0xFE00, 1, 1)


def test_a_requestor_that_goes_ends_a_move():
    """The destination's association is released."""
    ae = new_ae()
    ae.on_c_move(lambda request: (Peer("DEST", "192.0.2.9", 104), [ct("1.1"), ct("1.2")]))
    served = Served(ae)
    destination = served.side.places[104] = Destination()
    served.side.says_each(query(CommandField.C_MOVE), pdu.encode(pdu.Abort(0, 0)))
    assert destination.ends == ["released"]
    assert served.task.done


@pytest.mark.parametrize("raised", [StatusError(0xA700, "no"), ZeroDivisionError()])
def test_a_move_handler_that_raises(raised):
    """api.md §2."""
    ae = new_ae()

    @ae.on_c_move
    def move(request):
        raise raised

    both = pair(ae)
    with pytest.raises(StatusError) as error:
        both.loop.run(operations.Move(both.scu, MOVE, study(), 0, "DEST").next())
    assert error.value.status == getattr(raised, "status", 0x0110)


@pytest.mark.parametrize("command", [CommandField.C_GET, CommandField.C_MOVE])
@pytest.mark.parametrize(
    ("result", "status"), [(0xA701, 0xA701), (Status.SUCCESS, 0), (Response(0xC001), 0xC001), (True, 0x0110)]
)
def test_a_retrieval_may_be_a_status_alone(command, result, status):
    """api.md §2: a Status, an int, a Response."""
    ae = new_ae()
    ae.on_c_get(lambda request: result)
    ae.on_c_move(lambda request: result)
    assert responses(Served(ae).answers(query(command))) == [(1, status)]


def test_data_sets_that_raise_before_the_first():
    """Nothing was opened."""
    destination = Destination()
    both, results = moving((1 / 0 for _ in [1]), destination)
    with pytest.raises(StatusError) as error:
        rest(both.loop, results)
    assert error.value.status == 0x0110
    assert destination.ends == []


def test_data_sets_that_raise_abort_the_association_to_the_destination():
    """What was being stored is half done."""

    def found():
        yield ct("1.1")
        raise ZeroDivisionError

    destination = Destination()
    both, results = moving(found(), destination)
    with pytest.raises(StatusError) as error:
        rest(both.loop, results)
    assert error.value.status == 0x0110
    assert destination.ends == ["aborted"]


# --- C-GET ----------------------------------------------------------------------------------------------------------


def getting(found: Any, **options: Any) -> tuple[Pair, operations.Get]:
    ae = new_ae()
    ae.on_c_get(lambda request: found)
    both = Pair(ae, **options)
    return both, operations.Get(both.scu, GET, study(), 0)


def test_a_get_brings_the_instances_on_the_same_association():
    """PS3.4 C.4.3: C-STOREs the other way round, each answered when the next is asked for."""
    both, results = getting([ct("1.1"), ct("1.2", size=200_000)])
    got = rest(both.loop, results)
    assert [(instance.sop_instance_uid, instance.size) for instance in got] == [
        ("1.1", ct("1.1").size),
        ("1.2", ct("1.2", size=200_000).size),
    ]
    assert results.progress == SubOperations(0, 2, 0, 0)
    both.run(both.scu.release())


def test_an_instance_whose_class_was_not_accepted_is_counted_as_failed():
    """PS3.4 C.4.3.1.4."""
    both, results = getting([ct("1.1"), ct("1.2", sop_class="1.2.3")])
    with pytest.raises(StatusError) as raised:
        rest(both.loop, results)
    assert raised.value.status == 0xB000
    assert results.response is not None
    assert results.response.dataset.decode().FailedSOPInstanceUIDList == "1.2"


def test_a_get_that_is_closed_early_answers_what_it_has_and_cancels():
    """PS3.4 C.4.3.3.2: what was handed over was stored; what still comes is not."""
    both, results = getting([ct(f"1.{number}") for number in range(5)])
    first = both.loop.run(results.next())
    assert first.sop_instance_uid == "1.0"
    both.loop.run(results.close())
    assert both.run(operations.echo(both.scu)).status == 0
    both.run(both.scu.release())


def test_an_instance_of_a_get_is_answered_as_the_user_says():
    """PS3.4 C.4.3.2: a failure to store is counted by who sent it; each instance is answered once."""
    both, results = getting([ct("1.1"), ct("1.2")])
    with pytest.raises(LocalProtocolError, match="no instance"):
        both.loop.run(results.answer(0))
    assert both.loop.run(results.next()).sop_instance_uid == "1.1"
    both.loop.run(results.answer(Status.OUT_OF_RESOURCES))
    with pytest.raises(LocalProtocolError, match="no instance"):
        both.loop.run(results.answer(0))
    assert both.loop.run(results.next()).sop_instance_uid == "1.2"
    with pytest.raises(StatusError, match="B000"):
        both.loop.run(results.next())
    assert results.progress == SubOperations(0, 1, 1, 0)
    both.run(both.scu.release())


def test_a_wrong_instance_of_a_get_is_refused():
    """PS3.4 B.2.3: as by every storage SCP."""
    scu = Asking()
    task = scu.start(operations.Get(scu.conversation, GET, study(), 0).next())
    scu.side.hears()
    scu.side.says(message(IDS[CT], store_request(5, "../x"), b""))
    assert responses(scu.side.hears()) == [(5, Status.INVALID_SOP_INSTANCE)]
    scu.side.says(final(0, 1, CommandField.C_GET, GET))
    assert task.result() is None


def test_instances_that_nobody_takes_are_refused():
    """The C-GET is over for its owner, the peer does not know yet."""
    scu = Asking()
    results = operations.Get(scu.conversation, GET, study(), 0)
    task = scu.start(results.next())
    data = bytes(ct("1.2.3"))
    scu.side.says(message(IDS[CT], store_request(5), data), message(IDS[CT], store_request(6), data))
    assert task.result().sop_instance_uid == "1.2.3"
    scu.loop.run(results.close())
    scu.side.hears()
    echo = scu.start(operations.echo(scu.conversation))
    scu.side.says(final(0xFE00, 1, CommandField.C_GET, GET))
    assert responses([item for item in scu.side.hears() if isinstance(item, Response)]) == [(6, 0x0211)]
    scu.side.says(final(0, 2, CommandField.C_ECHO, VERIFICATION))
    assert echo.result().status == 0


def test_an_association_that_ends_takes_what_was_not_read_with_it():
    """Nothing is answered, nothing is left."""
    scu = Asking()
    results = operations.Get(scu.conversation, GET, study(), 0)
    task = scu.start(results.next())
    data = bytes(ct("1.2.3"))
    scu.side.says(message(IDS[CT], store_request(5), data), message(IDS[CT], store_request(6), data), pdu.Abort(0, 0))
    task.result()
    scu.loop.run(results.close())
    assert scu.conversation.exchanges == {}
    assert scu.side.window.room == 1


# --- N-services -----------------------------------------------------------------------------------------------------


def normalised(side: Any, command: CommandField, data: Any = None, **fields: Any) -> Any:
    return operations.normalised(side, Request(command, 0, MPPS, "1.2.9", **fields), data, None)


SERVICES = {
    "n_event_report": (CommandField.N_EVENT_REPORT, {"event_type_id": 2}),
    "n_get": (CommandField.N_GET, {"attributes": (0x00100010, 0x00100020)}),
    "n_set": (CommandField.N_SET, {}),
    "n_action": (CommandField.N_ACTION, {"action_type_id": 3}),
    "n_create": (CommandField.N_CREATE, {}),
    "n_delete": (CommandField.N_DELETE, {}),
}


@pytest.mark.parametrize("name", SERVICES)
def test_an_n_service_reaches_its_handler_and_its_answer_comes_back(name):
    """PS3.7 10.1: with the data set both ways, and the type that a reply belongs to."""
    command, fields = SERVICES[name]
    ae, seen = new_ae(), []

    def handler(request: Any) -> Any:
        seen.append(request)
        return (0x0107, study(8)) if name != "n_delete" else Status.SUCCESS

    getattr(ae, f"on_{name}")(handler)
    both = pair(ae)
    data = None if name in ("n_get", "n_delete") else study(7)
    response = both.run(normalised(both.scu, command, data, **fields))
    (request,) = seen
    assert (request.sop_class_uid, request.sop_instance_uid) == (MPPS, "1.2.9")
    assert (request.event_type, request.action_type) == (fields.get("event_type_id"), fields.get("action_type_id"))
    assert request.attributes == fields.get("attributes", ())
    assert (request.dataset is None) == (data is None)
    if name == "n_delete":
        assert (response.status, response.dataset) == (0, None)
    else:
        assert response.status == 0x0107
        assert response.dataset.decode().PatientID == "P8"
        assert (response.event_type_id, response.action_type_id) == (request.event_type, request.action_type)


@pytest.mark.parametrize("raised", [False, True])
def test_a_pending_status_is_no_end(raised):
    """PS3.7 C.1: the requestor would wait for ever; it gets 0110 instead."""
    ae = new_ae()

    def handler(request):
        if raised:
            raise StatusError(Status.PENDING)
        return Status.PENDING

    ae.on_c_echo(handler)
    ae.on_n_get(handler)
    ae.on_c_find(lambda request: handler(request) if raised else [])
    both = pair(ae)
    assert both.run(operations.echo(both.scu)).status == 0x0110
    assert both.run(normalised(both.scu, CommandField.N_GET)).status == 0x0110
    results = find(both.scu)
    with contextlib.suppress(StatusError):
        rest(both.loop, results)
    assert results.response is not None
    assert results.response.status == (0x0110 if raised else 0)


def test_a_destination_that_releases_by_itself_gets_another_association():
    """PS3.8 7.2: both sides may. One instance is lost to it, not all that follow."""
    released = LocalProtocolError("the association has been released")
    destination = Destination([0, released, 0], release=released)
    both, results = moving([ct("1.1"), ct("1.2"), ct("1.3")], destination)
    with pytest.raises(StatusError) as raised:
        rest(both.loop, results)
    assert raised.value.status == 0xB000
    assert results.progress == SubOperations(0, 2, 1, 0)
    assert len(destination.opened) == 2


def test_an_n_service_that_nobody_handles():
    """PS3.7 C.5.25: unrecognised operation."""
    both = pair(new_ae())
    assert both.run(normalised(both.scu, CommandField.N_DELETE)).status == 0x0211


class Broken:
    """It looks like a data set."""

    save_as = None


def test_a_reply_that_cannot_be_encoded_is_a_failure():
    """PS3.7 C.5.20."""
    ae = new_ae()

    @ae.on_n_get
    def get(request):
        return Broken()

    both = pair(ae)
    assert both.run(normalised(both.scu, CommandField.N_GET)).status == 0x0110


def test_an_acceptor_asks_too():
    """PS3.7 7.5: the association is not one-way. What a requestor's AE has no handler for is refused."""
    ae = new_ae()
    both = pair(ae)
    waiting = both.loop.start(both.scu.listen(None, None))
    assert both.run(operations.echo(both.acceptor.conversation)).status == 0x0211
    both.run(both.scu.abort())
    assert waiting.result() is True


def test_listening_ends_when_it_is_told_to():
    """After so many seconds, or when something has come."""
    both = pair(new_ae())
    assert both.run(both.scu.listen(None, both.loop.now + 3)) is False
    assert both.run(both.scu.listen(lambda: True, None)) is True


@pytest.mark.parametrize("seconds", [None, 0.02, 30])
def test_listening_looks_at_its_condition_while_others_perform(seconds):
    """On the blocking face nobody else can end the wait for what the peer sends."""
    scu, ae, doors, found = Asking(memory.association_request(async_ops=(1, 3))), new_ae(), Doors(None), []
    ae.on_c_echo(doors)
    scu.conversation.performer = Serving(scu.conversation, ae, memory.describe(memory.association_request()))
    deadline = None if seconds is None else scu.loop.now + seconds
    scu.side.says(*echoes(1))
    listening = scu.start(scu.conversation.listen(lambda: found, deadline))
    assert doors.entered == [1]
    scu.loop.wait(1)
    assert listening.done == (seconds == 0.02)
    found.append(1)
    scu.loop.wait(0.1)
    assert listening.result() is (seconds != 0.02)
    doors.open.add(1)
    scu.loop.settle()
    assert responses(scu.side.hears()) == [(1, 0)]


def test_a_reply_that_could_not_be_kept_is_raised(tmp_path):
    """The file system's error."""
    scu = Asking(limits=Limits(spool_size=1), folder=str(tmp_path / "missing"))
    task = scu.start(normalised(scu.conversation, CommandField.N_GET))
    response = Response(0, command=CommandField.N_GET, message_id=1, has_dataset=True)
    scu.side.says(message(IDS[MPPS], response, bytes(EncodedDataset.from_dataset(study()))))
    with pytest.raises(OSError, match="No such file"):
        task.result()


def test_a_data_set_that_could_not_be_kept_is_out_of_resources(tmp_path):
    """PS3.7 C.4.1.2."""
    ae = new_ae()
    ae.on_n_set(lambda request: pytest.fail("it was asked"))
    served = Served(ae, limits=Limits(spool_size=1), folder=str(tmp_path / "missing"))
    request = Request(CommandField.N_SET, 1, MPPS, "1.2.9", has_dataset=True)
    heard = served.answers(message(IDS[MPPS], request, bytes(EncodedDataset.from_dataset(study()))))
    assert responses(heard) == [(1, 0xA700)]


# --- several at once ------------------------------------------------------------------------------------------------


class Doors:
    """A handler that waits, request by request, until it is told to go on."""

    def __init__(self, loop_of: Any) -> None:
        self.open: set[int] = set()
        self.entered: list[int] = []
        self._side = loop_of

    async def __call__(self, request: Any) -> int:
        self.entered.append(request.message_id)
        await memory._Pause(None, lambda: request.message_id in self.open, None)
        return 0


def serving_many(window: tuple[int, int], **options: Any) -> tuple[Served, Doors]:
    ae = new_ae(async_ops=window)
    doors = Doors(None)
    ae.on_c_echo(doors)
    return Served(ae, memory.association_request(async_ops=window), **options), doors


def echoes(*message_ids: int) -> list[bytes]:
    return [message(IDS[VERIFICATION], echo_request(message_id)) for message_id in message_ids]


def test_handlers_run_at_once_up_to_the_negotiated_number():
    """PS3.7 D.3.3.3: responses in any order; what is beyond the number is refused."""
    served, doors = serving_many((3, 1))
    served.side.says(*echoes(1, 2, 3, 4))
    assert doors.entered == [1, 2, 3]
    assert responses(served.side.hears()) == [(4, Status.RESOURCE_LIMITATION)]
    doors.open |= {3, 1}
    served.loop.settle()
    assert responses(served.side.hears()) == [(1, 0), (3, 0)]
    served.side.says(*echoes(5))
    doors.open |= {2, 5}
    served.loop.settle()
    assert responses(served.side.hears()) == [(2, 0), (5, 0)]


def test_an_unlimited_window_is_as_wide_as_the_limit():
    """Beyond it nothing is read until something is answered."""
    served, doors = serving_many((0, 0), limits=Limits(operations=2))
    served.side.says(*echoes(1, 2))
    assert served.conversation.congested
    served.side.says(*echoes(3))
    assert doors.entered == [1, 2]
    doors.open |= {1, 2, 3}
    served.loop.settle()
    assert doors.entered == [1, 2, 3]
    assert responses(served.side.hears()) == [(1, 0), (2, 0), (3, 0)]


def test_a_peer_that_floods_with_requests_is_aborted():
    """Not even the refusals are unbounded."""
    served, _doors = serving_many((1, 1), limits=Limits(operations=1))
    served.conversation.performer = None
    heard = served.answers(*echoes(*[1] * 300))
    assert isinstance(heard[-1], pdu.Abort)


def test_a_release_is_confirmed_when_all_handlers_have_answered():
    """AR-7 waits for them."""
    served, doors = serving_many((3, 1))
    served.side.says(*echoes(1, 2), pdu.encode(pdu.ReleaseRq()))
    assert served.side.hears() == []
    doors.open |= {1, 2}
    served.loop.settle()
    heard = served.side.hears()
    assert responses(heard[:2]) == [(1, 0), (2, 0)]
    assert heard[2:] == [pdu.ReleaseRp()]


def test_on_close_comes_when_all_handlers_have_ended():
    """Also when the peer went."""
    served, doors = serving_many((3, 1))
    served.side.says_each(*echoes(1), pdu.encode(pdu.Abort(0, 0)))
    assert not served.task.done
    doors.open.add(1)
    served.loop.settle()
    assert served.task.done
    assert served.side.hears() == []


def test_quick_handlers_run_one_after_the_other():
    """They promise not to block."""
    ae, seen = new_ae(async_ops=(8, 1)), []
    ae.on_c_echo(quick=True)(lambda request: seen.append(request.message_id) or 0)
    served = Served(ae, memory.association_request(async_ops=(8, 1)))
    assert responses(served.answers(*echoes(1, 2, 3))) == [(1, 0), (2, 0), (3, 0)]
    assert served.side.beside == []
    assert seen == [1, 2, 3]


def test_handlers_at_work_are_not_idle():
    """timeouts.idle is for peers that say nothing and wait for nothing."""
    served, doors = serving_many((3, 1), timeouts=Timeouts(idle=5))
    served.side.says(*echoes(1))
    served.loop.wait(20)
    assert not served.task.done
    doors.open.add(1)
    served.loop.settle()
    assert responses(served.side.hears()) == [(1, 0)]
    served.loop.wait(6)
    assert served.side.hears() == [pdu.Abort(2, 0)]


def test_data_sets_of_requests_that_wait_are_bounded_together(tmp_path):
    """Those beyond limits.spool_size go to a file."""
    ae, kept = new_ae(async_ops=(3, 1)), []
    doors = Doors(None)

    @ae.on_c_store
    async def keep(request):
        kept.append(request.dataset)
        return await doors(request)

    limits = Limits(spool_size=1500)
    served = Served(ae, memory.association_request(async_ops=(3, 1)), limits=limits, folder=str(tmp_path))
    data = bytes(ct(size=1000))
    served.side.says_each(message(IDS[CT], store_request(1), data), message(IDS[CT], store_request(2), data))
    assert [dataset.in_memory > 0 for dataset in kept] == [True, False]
    doors.open |= {1, 2}
    served.loop.settle()
    assert served.conversation.held == 0


def test_a_task_that_is_cancelled_while_it_finds():
    """The C-CANCEL goes out, the association is usable."""
    scu = Asking()
    task: Task = scu.start(find(scu.conversation).next())
    scu.side.hears()
    task.cancel()
    with pytest.raises(KeyboardInterrupt):
        task.result()
    assert commands(scu.side.hears()) == [CommandField.C_CANCEL]
    assert messages.service(CommandField.C_CANCEL) == "C-CANCEL"


def test_a_requestor_that_goes_while_an_instance_is_stored_ends_a_get():
    """Its response will not come."""
    ae = new_ae()
    ae.on_c_get(lambda request: [ct("1.1"), ct("1.2")])
    served = Served(ae, memory.association_request(roles={CT: (True, True)}))
    served.side.says_each(query(CommandField.C_GET), pdu.encode(pdu.Abort(0, 0)))
    assert served.task.done
    assert len(commands(served.side.hears())) == 1


def test_a_retrieval_whose_requestor_went_is_not_answered():
    """What its handler raises afterwards is not told to anybody."""
    ae = new_ae()
    served = Served(ae)

    @ae.on_c_get
    def get(request):
        served.conversation.end(None)
        raise ZeroDivisionError

    assert served.answers(query(CommandField.C_GET)) == []


def test_matches_wait_for_a_message_that_is_on_its_way():
    """PS3.8 E.1: fragments of different messages never interleave."""
    ae = new_ae()
    ae.on_c_find(lambda request: [study(1)])
    served = Served(ae)
    served.side.message.acquire(False)
    served.side.says(query(CommandField.C_FIND))
    assert served.side.hears() == []
    served.side.message.release()
    served.loop.settle()
    assert responses(served.side.hears()) == [(1, 0xFF00), (1, 0)]


def test_a_find_whose_final_response_waits_to_be_read_needs_no_cancel():
    """It is over for the peer."""
    scu = Asking()
    results = find(scu.conversation)
    task = scu.start(results.next())
    scu.side.says(pending(), final())
    assert task.result().PatientID == "P0"
    scu.loop.run(results.close())
    scu.loop.run(results.cancel())
    assert commands(scu.side.hears()) == [CommandField.C_FIND]
    scu.conversation.leave(results._exchange)
    assert scu.side.window.room == 1


def test_what_a_handler_wants_to_do_next_is_done_after_its_response():
    """PS3.4 J.3.2: a storage commitment is answered before its result is reported. Its failure is its own."""
    ae, order = new_ae(), []

    @ae.on_n_action
    def act(request):
        request.then = lambda: order.append(served.side.hears())
        return 0

    @ae.on_n_delete
    def delete(request):
        request.then = lambda: 1 / 0
        return 0

    served = Served(ae)
    served.side.says(message(IDS[MPPS], Request(CommandField.N_ACTION, 1, MPPS, "1.2.9", action_type_id=1)))
    assert responses(order[0]) == [(1, 0)]
    assert responses(served.answers(message(IDS[MPPS], Request(CommandField.N_DELETE, 2, MPPS, "1.2.9")))) == [(2, 0)]
    assert isinstance(served.side.reports[0][1], ZeroDivisionError)


def test_a_handler_may_say_to_which_type_it_replies():
    """PS3.7 10.3.1.2: it is not overwritten."""
    ae = new_ae()
    ae.on_n_event_report(lambda request: Response(0, study(1), event_type_id=9, action_type_id=8))
    both = pair(ae)
    response = both.run(normalised(both.scu, CommandField.N_EVENT_REPORT, study(1), event_type_id=2))
    assert response.event_type_id == 9


def test_a_plain_response_that_nobody_awaits_aborts():
    """N-25, also where it comes as everybody writes it."""
    scu = Asking()
    task = scu.start(operations.echo(scu.conversation))
    scu.side.hears()
    scu.side.says(message(IDS[VERIFICATION], Response(0, message_id=9, sop_class_uid=VERIFICATION)))
    with pytest.raises(RemoteProtocolError, match="not outstanding"):
        task.result()
    assert scu.side.hears() == [memory.PROVIDER_ABORT]


def test_a_response_counts_as_answered_when_the_peer_may_have_it():
    """With a full window its next request may be here before this side has seen its response go."""
    served, doors = serving_many((1, 1))
    served.conversation.performer._several = True
    served.side.says(*echoes(1))
    served.side.slow = True
    doors.open |= {1, 2}
    served.loop.settle()
    served.side.says(*echoes(2))
    served.side.slow = False
    served.loop.settle()
    assert responses(served.side.hears()) == [(1, 0), (2, 0)]
