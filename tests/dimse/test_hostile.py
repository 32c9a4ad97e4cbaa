"""Hostile peers, handlers that fail and callers that leave: what a conversation makes of them, in memory."""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace
from typing import Any

import pytest

from dicomnet.config import Limits, Timeouts
from dicomnet.dataset import EncodedDataset
from dicomnet.dimse import operations, pipeline
from dicomnet.dimse.conversation import VERIFICATION
from dicomnet.dimse.messages import CommandField, Request, Response
from dicomnet.dimse.serving import Serving
from dicomnet.errors import (
    AssociationAborted,
    DeadlineExceeded,
    InvalidDataset,
    LocalProtocolError,
    RemoteProtocolError,
    StatusError,
    TransportError,
)
from dicomnet.ul import pdu
from tests.dimse import memory
from tests.dimse.memory import CT, Asking, Served, ct, echo_request, message, responses, store_request
from tests.dimse.test_queries import (
    FIND,
    GET,
    IDS,
    MPPS,
    Destination,
    Doors,
    _contexts,
    cancel,
    commands,
    final,
    find,
    moving,
    new_ae,
    normalised,
    pair,
    pending,
    query,
    rest,
    serving_many,
    study,
)

assert _contexts  # the fixture, for this module too


def event_report(message_id: int = 1) -> bytes:
    request = Request(CommandField.N_EVENT_REPORT, message_id, MPPS, "1.2.9", event_type_id=1)
    return message(IDS[MPPS], request)


def echoed(status: int = 0, message_id: int = 1) -> bytes:
    return final(status, message_id, CommandField.C_ECHO, VERIFICATION)


# --- responses ------------------------------------------------------------------------------------------------------


def test_an_operation_of_one_response_has_one():
    """PS3.7 9.1.5, N-25: pending is no more than a number there, and what follows was not asked for."""
    scu = Asking()
    task = scu.start(operations.echo(scu.conversation))
    scu.side.hears()
    scu.side.says(echoed(0xFF00), echoed(0xFF00))
    assert task.result().status == 0xFF00
    with pytest.raises(RemoteProtocolError, match="not outstanding"):
        scu.conversation.check_open()
    assert scu.side.hears() == [memory.PROVIDER_ABORT]


def test_pending_responses_to_stores_do_not_break_the_pipeline():
    """PS3.7 9.1.1, N-25."""
    scu = Asking()
    stores = deque([pipeline.Store(IDS[CT], ct("1.1"), "1.1")])
    told: list[Any] = []
    source = SimpleNamespace(
        take=lambda outstanding: stores.popleft() if stores else None,
        prepare=lambda outstanding: None,
        done=lambda token, answer: told.append((token, answer.status)),
    )
    task = scu.start(pipeline.store_many(scu.conversation, source, 2))
    scu.side.says(*[message(IDS[CT], Response(0xFF00, command=CommandField.C_STORE, message_id=1))] * 2)
    with pytest.raises(RemoteProtocolError):
        task.result()
    assert told in ([], [("1.1", 0xFF00)])


def test_results_are_for_one_at_a_time():
    """Two that read would wait for the same response, and one of them in vain."""
    scu = Asking()
    results = find(scu.conversation)
    first, second = scu.start(results.next()), scu.start(results.next())
    with pytest.raises(LocalProtocolError, match="is being read"):
        second.result()
    scu.side.says(pending(), final())
    assert first.result().PatientID == "P0"
    assert scu.loop.run(results.next()) is None


def test_closing_results_ends_the_wait_of_who_reads_them():
    """Nothing will come for him; the association is usable."""
    scu = Asking()
    results = find(scu.conversation)
    reading = scu.start(results.next())
    scu.loop.run(results.close())
    scu.side.says(pending())
    with pytest.raises(LocalProtocolError, match="was closed"):
        reading.result()
    scu.side.says(final(0xFE00))
    echo = scu.start(operations.echo(scu.conversation))
    scu.side.says(echoed(0, 2))
    assert echo.result().status == 0
    assert commands(scu.side.hears()) == [CommandField.C_FIND, CommandField.C_CANCEL, CommandField.C_ECHO]


def test_a_full_inbox_that_is_left_makes_room():
    """Else nobody would read the final response."""
    scu = Asking(limits=Limits(inbox=2))
    results = find(scu.conversation)
    scu.start(results.next())
    scu.side.says(pending(), pending(), pending())
    assert scu.conversation.congested
    scu.loop.run(results.close())
    assert not scu.conversation.congested
    assert scu.conversation.held == 0
    echo = scu.start(operations.echo(scu.conversation))
    scu.side.says_each(final(0xFE00))
    scu.side.says(echoed(0, 2))
    assert echo.result().status == 0


def test_who_has_instances_to_take_first_is_told():
    """Requests that wait to be answered stop the reading, too."""
    scu = Asking(memory.association_request(async_ops=(2, 0)), limits=Limits(operations=2))

    async def get_and_echo() -> None:
        results = operations.Get(scu.conversation, GET, study(), 0)
        await results.next()
        await operations.echo(scu.conversation)

    task = scu.start(get_and_echo())
    data = bytes(ct())
    scu.side.says(*[message(IDS[CT], store_request(number), data) for number in (1, 2)])
    with pytest.raises(LocalProtocolError, match="wait to be read"):
        task.result()


def test_what_a_get_had_goes_with_it_when_the_association_ends():
    """A file would stay as long as the results are kept."""
    scu = Asking()
    results = operations.Get(scu.conversation, GET, study(), 0)
    task = scu.start(results.next())
    scu.side.says(message(IDS[CT], store_request(5), bytes(ct())), pdu.Abort(0, 0))
    task.result()
    scu.loop.run(results.close())
    assert results._unanswered is None


def test_those_who_wait_for_what_was_left_answer_the_peer_and_take_turns():
    """PS3.7 D.3.3.3: one place in the window, and nobody gets it twice."""
    scu = Asking()
    results = find(scu.conversation)
    task = scu.start(results.next())
    scu.side.says(pending())
    task.result()
    scu.loop.run(results.close())
    scu.side.hears()
    both = [scu.start(operations.echo(scu.conversation)) for _ in range(2)]
    scu.side.says(event_report(9))
    scu.side.says(final(0xFE00))
    assert [item.message_id for item in scu.side.hears()] == [9, 2]
    for number in (2, 3):
        scu.side.says(echoed(0, number))
    assert [task.result().status for task in both] == [0, 0]


# --- waiting --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [1, 2])
def test_those_who_wait_for_the_window_learn_of_the_end(window):
    """He who has the place may never come back for what he has not read."""
    scu = Asking(memory.association_request(async_ops=(window, 1)))
    queries = [find(scu.conversation) for _ in range(window)]
    reading = [scu.start(results.next()) for results in queries]
    scu.side.says(*[pending(number + 1) for number in range(window)])
    for task in reading:
        task.result()
    waiting = [scu.start(operations.echo(scu.conversation)) for _ in range(3)]
    assert not any(task.done for task in waiting)
    scu.loop.run(scu.conversation.abort())
    for task in waiting:
        with pytest.raises(AssociationAborted):
            task.result()
    for results in queries:
        scu.loop.run(results.close())
    assert scu.side.window.room == window


def test_places_of_a_pipeline_are_given_back_once():
    """Also if the association ends while answers wait to be told."""
    scu = Asking(memory.association_request(async_ops=(4, 1)))
    stores = deque(pipeline.Store(IDS[CT], ct(f"1.{number}"), number) for number in range(3))
    source = SimpleNamespace(
        take=lambda outstanding: stores.popleft() if stores else None,
        prepare=lambda outstanding: None,
        done=lambda token, answer: None,
    )
    task = scu.start(pipeline.store_many(scu.conversation, source, 3))
    answer = message(IDS[CT], Response(0, command=CommandField.C_STORE, message_id=1))
    scu.side.says(answer, pdu.encode(pdu.Abort(0, 0)))
    with pytest.raises(AssociationAborted):
        task.result()
    assert scu.side.window.room == 4
    assert scu.conversation.exchanges == {}


def test_a_peer_that_asks_without_end_does_not_put_its_answer_off():
    """P12: response: 30 s by default, absolute."""
    scu = Asking(timeouts=Timeouts(response=5))
    scu.conversation.performer = Endless(scu)
    until = scu.side.until

    async def takes_a_second(ready: Any, deadline: float | None) -> bool:
        scu.loop.now += 1
        return await until(ready, deadline)

    scu.side.until = takes_a_second
    task = scu.start(operations.echo(scu.conversation))
    scu.side.says(event_report())
    with pytest.raises(DeadlineExceeded, match="response"):
        task.result()


def test_a_peer_that_asks_without_end_does_not_keep_a_listener():
    """``listen(seconds)``: the time is up when it is up."""
    scu = Asking()
    scu.conversation.performer = Endless(scu)
    task = scu.start(scu.conversation.listen(None, scu.loop.now + 5))
    scu.side.says(event_report())
    assert task.result() is False


class Endless:
    """A performer to whom the next request comes while it performs; each takes a second."""

    def __init__(self, scu: Asking) -> None:
        self._scu = scu
        self.performed = 0

    async def take_up(self, request: Any) -> None:
        self.performed += 1
        self._scu.loop.now += 1
        assert self.performed < 100, "for ever"
        await self._scu.conversation.answer(request, Response(0))
        self._scu.conversation.receive_data(memoryview(event_report(self.performed + 1)), self._scu.loop.now)


def test_the_time_that_a_request_of_the_peer_takes_is_not_its_answers():
    """It waits in the socket meanwhile."""
    scu = Asking(timeouts=Timeouts(response=5))
    scu.conversation.performer = Slow(scu)
    task = scu.start(operations.echo(scu.conversation))
    scu.side.says_each(event_report(), echoed())
    assert task.result().status == 0


class Slow:
    """A performer that takes a minute."""

    def __init__(self, scu: Asking) -> None:
        self._scu = scu

    async def take_up(self, request: Any) -> None:
        self._scu.loop.now += 60
        await self._scu.conversation.answer(request, Response(0))


def test_the_end_wakes_those_who_wait_for_room():
    """Nothing is read any more, so nobody else would."""
    scu = Asking(memory.association_request(async_ops=(2, 1)), limits=Limits(inbox=1))
    results = find(scu.conversation)
    scu.start(results.next())
    scu.side.says(pending(), pending())
    assert scu.conversation.congested
    woken: list[bool] = []
    scu.side.resume = lambda: woken.append(scu.conversation.over)
    scu.loop.run(scu.conversation.abort())
    assert woken == [True]


# --- releasing ------------------------------------------------------------------------------------------------------


def test_what_the_peer_has_asked_for_is_answered_before_a_release():
    """PS3.8 7.2: it came with the last response, and nobody has waited since."""
    scu = Asking()
    task = scu.start(operations.echo(scu.conversation))
    scu.side.says(echoed())
    task.result()
    scu.side.hears()
    scu.conversation.receive_data(memoryview(event_report(7)), scu.loop.now)
    release = scu.start(scu.conversation.release())
    answer, request = scu.side.hears()
    assert (answer.message_id, answer.status, request) == (7, 0x0211, pdu.ReleaseRq())
    scu.side.says(pdu.ReleaseRp())
    release.result()


def test_a_release_that_crosses_a_request_of_the_acceptors_is_confirmed():
    """AR-7: the requestor may not know of it yet, and cannot answer any more."""
    served = Served(new_ae())
    asking = served.loop.start(normalised(served.conversation, CommandField.N_EVENT_REPORT, event_type_id=1))
    served.side.hears()
    assert served.answers(pdu.ReleaseRq()) == [pdu.ReleaseRp()]
    with pytest.raises(LocalProtocolError, match="has been released"):
        asking.result()
    assert served.conversation.error is None
    served.task.result()


# --- requests -------------------------------------------------------------------------------------------------------


def test_a_cancel_is_for_the_request_of_that_number_and_not_for_the_next():
    """N-26: a C-STORE has no C-CANCEL, a refused query neither; their message IDs are used again."""
    ae = new_ae()
    ae.on_c_find(lambda request: [study(1)])
    served = Served(ae)
    served.side.says(message(IDS[VERIFICATION], echo_request(5)), cancel(5))
    served.side.says(message(IDS[FIND], Request(CommandField.C_FIND, 6, FIND)), cancel(6))
    served.side.hears()
    for number in (5, 6):
        assert responses(served.answers(query(CommandField.C_FIND, number))) == [(number, 0xFF00), (number, 0)]
    served.side.says_each(query(CommandField.C_FIND, 8), cancel(8), cancel(8), query(CommandField.C_FIND, 8))
    assert responses(served.side.hears())[-2:] == [(8, 0xFF00), (8, 0)]


def test_a_message_id_is_free_when_its_response_is_on_its_way():
    """PS3.7 9.3: many use the same one again and again; the next request is there before the last one is done with."""
    ae, doors = new_ae(async_ops=(3, 1)), Doors(None)
    ae.on_c_find(lambda request: found(doors, request))
    served = Served(ae, memory.association_request(async_ops=(3, 1)))
    served.side.says(query(CommandField.C_FIND, 1))
    served.side.slow = True
    doors.open.add(1)
    served.loop.settle()
    doors.open.clear()
    served.side.says(query(CommandField.C_FIND, 1))
    served.side.slow = False
    served.loop.settle()
    served.side.says(cancel(1))
    doors.open.add(1)
    served.loop.settle()
    assert [task.result() for task in served.side.beside] == [None, None]
    assert responses(served.side.hears()) == [(1, 0), (1, 0xFE00)]


async def found(doors: Doors, request: Any) -> list[Any]:
    await doors(request)
    return []


def test_refused_requests_keep_nothing_of_what_came():
    """There may be many before they are answered, of 64 KiB each."""
    served, _doors = serving_many((1, 1))
    served.conversation.performer = None
    request = Request(CommandField.N_GET, 1, MPPS, "1.2.9", attributes=tuple(range(1000)))
    served.side.conversation.receive_data(memoryview(message(IDS[MPPS], request)), served.loop.now)
    served.side.conversation.receive_data(memoryview(message(IDS[MPPS], request)), served.loop.now)
    assert served.conversation.requests[-1].command_set == b""


# --- handlers -------------------------------------------------------------------------------------------------------


def test_what_was_found_before_a_match_that_cannot_be_encoded_is_sent():
    """api.md §2; nothing after it."""
    ae = new_ae()
    ae.on_c_find(lambda request: [study(1), object(), study(2)])
    served = Served(ae)
    served.side.stream = batched
    heard = served.answers(query(CommandField.C_FIND))
    assert responses(heard) == [(1, 0xFF00), (1, 0x0110)]
    ae.on_c_find(lambda request: [study(1), -1])
    assert responses(served.answers(query(CommandField.C_FIND))) == [(1, 0xFF00), (1, 0x0110)]


async def batched(handler: Any, argument: Any) -> Any:
    yield handler(argument)


@pytest.mark.parametrize("status", [70_000, -1, "no", None])
@pytest.mark.parametrize("name", ["find", "get", "move", "store"])
def test_a_status_error_without_a_status_is_a_failure(name, status):
    """K3: nonsense is 0110, and the association lives."""
    ae = new_ae()

    def fail(request):
        raise StatusError(status)

    getattr(ae, f"on_c_{name}")(fail)
    served = Served(ae)
    if name == "store":
        request = message(IDS[CT], store_request(), bytes(ct()))
    else:
        request = query(CommandField[f"C_{name.upper()}"])
    assert responses(served.answers(request)) == [(1, 0x0110)]
    assert not served.conversation.over


def test_a_reply_whose_file_is_gone_is_a_failure(tmp_path):
    """PS3.7 C.5.20: the association lives."""
    ae = new_ae()
    path = tmp_path / "reply.dcm"
    EncodedDataset.from_dataset(study()).save(path)
    reply = EncodedDataset.from_file(path)
    path.unlink()
    ae.on_n_get(lambda request: reply)
    both = pair(ae)
    assert both.run(normalised(both.scu, CommandField.N_GET)).status == 0x0110
    assert both.run(operations.echo(both.scu)).status == 0


@pytest.mark.parametrize("name", ["c_echo", "c_find", "c_get", "n_get"])
def test_a_handler_that_is_interrupted_is_answered_for(name):
    """The peer would wait for ever; whoever was interrupted goes on being so."""
    ae, doors = new_ae(), Doors(None)
    getattr(ae, f"on_{name}")(doors)
    scu = Asking()
    scu.conversation.performer = Serving(scu.conversation, ae, memory.describe(memory.association_request()))
    task = scu.start(scu.conversation.listen(None, None))
    if name == "c_echo":
        request = message(IDS[VERIFICATION], echo_request())
    elif name == "n_get":
        request = message(IDS[MPPS], Request(CommandField.N_GET, 1, MPPS, "1.2.9"))
    else:
        request = query(CommandField[name.upper()])
    scu.side.says(request)
    task.cancel()
    with pytest.raises(KeyboardInterrupt):
        task.result()
    assert responses(scu.side.hears()) == [(1, 0x0110)]
    assert not scu.conversation.performing


def test_a_response_that_is_interrupted_before_it_began_goes_out():
    """It counts as given already."""
    scu = Asking()
    scu.side.message.acquire(False)
    task = scu.start(scu.conversation.listen(None, None))
    scu.side.says(event_report())
    task.cancel()
    scu.side.message.release()
    scu.loop.settle()
    with pytest.raises(KeyboardInterrupt):
        task.result()
    assert responses(scu.side.hears()) == [(1, 0x0211)]


def test_a_response_that_is_interrupted_half_way_ends_the_association():
    """PS3.8 E.1: nothing can follow half a message."""
    ae = new_ae()
    ae.on_n_delete(lambda request: 0)
    scu = Asking()
    scu.conversation.performer = Serving(scu.conversation, ae, memory.describe(memory.association_request()))
    task = scu.start(scu.conversation.listen(None, None))
    scu.side.slow = True
    scu.side.says(message(IDS[MPPS], Request(CommandField.N_DELETE, 1, MPPS, "1.2.9")))
    task.cancel()
    scu.side.slow = False
    scu.loop.settle()
    with pytest.raises(KeyboardInterrupt):
        task.result()
    assert scu.side.hears()[1:] == [pdu.Abort(0, 0)]


def test_matches_that_are_interrupted_half_way_end_the_association():
    """PS3.8 E.1, as every message."""
    ae = new_ae()
    ae.on_c_find(lambda request: [study(1)])
    scu = Asking()
    scu.conversation.performer = Serving(scu.conversation, ae, memory.describe(memory.association_request()))
    task = scu.start(scu.conversation.listen(None, None))
    scu.side.slow = True
    scu.side.says(query(CommandField.C_FIND))
    task.cancel()
    scu.side.slow = False
    scu.loop.settle()
    with pytest.raises(KeyboardInterrupt):
        task.result()
    assert scu.side.hears()[1:] == [pdu.Abort(0, 0)]


# --- retrieving -----------------------------------------------------------------------------------------------------


def test_one_data_set_is_one_suboperation():
    """PS3.4 C.4.2.1.6: not one for each of its elements."""
    ae = new_ae()
    ae.on_c_get(lambda request: ct("1.1").decode())
    both = pair(ae)
    results = operations.Get(both.scu, GET, study(), 0)
    assert len(rest(both.loop, results)) == 1
    assert results.progress == (0, 1, 0, 0)


def test_a_path_is_one_instance(tmp_path):
    """As for c_store; not one for each of its letters."""
    path = tmp_path / "one.dcm"
    ct("1.1").save(path)
    ae = new_ae()
    found: list[Any] = [str(path), path]
    ae.on_c_get(lambda request: found.pop())
    both = pair(ae)
    for _ in range(2):
        assert len(rest(both.loop, operations.Get(both.scu, GET, study(), 0))) == 1


def test_an_unreachable_destination_is_reported_once():
    """A line and a traceback for each of ten thousand instances would help nobody."""
    both, results = moving([ct(f"1.{number}") for number in range(20)], TransportError("refused"))
    with pytest.raises(StatusError):
        rest(both.loop, results)
    assert results.progress.failed == 20
    (report,) = both.acceptor.reports
    assert "refused" in report[0]
    assert report[1] is None


def test_a_destination_outlives_an_instance_that_cannot_be_sent():
    """Its association is not lost track of."""
    destination = Destination([0, InvalidDataset("no"), 0])
    both, results = moving([ct("1.1"), ct("1.2"), ct("1.3")], destination)
    with pytest.raises(StatusError) as raised:
        rest(both.loop, results)
    assert raised.value.status == 0xB000
    assert (len(destination.opened), destination.ends) == (1, ["released"])


def test_a_long_list_of_what_failed_is_sent():
    """PS3.5 6.2.2: more than 64 KiB of UIDs, in Explicit VR too."""
    found = [ct(f"1.2.840.10008.{'1' * 40}.{number}") for number in range(1500)]
    both, results = moving(found, TransportError("refused"))
    with pytest.raises(StatusError):
        rest(both.loop, results)
    assert results.response is not None
    uids = results.response.dataset.decode().FailedSOPInstanceUIDList  # VR UN: pydicom leaves it as it is
    assert uids.rstrip(b"\0").decode().split("\\") == [dataset.sop_instance_uid for dataset in found]


class Many:
    """Says that it has more than a count can say."""

    def __len__(self) -> int:
        return 100_000

    def __iter__(self) -> Any:
        return iter([ct("1.1"), ct("1.2")])


def test_counts_stay_within_their_sixteen_bits():
    """PS3.7 9.3.4.2: VR US."""
    both, results = moving(Many(), Destination())
    assert [step.remaining for step in rest(both.loop, results)] == [0xFFFF, 0xFFFF]
