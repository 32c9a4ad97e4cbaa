"""C-FIND between each two faces (PS3.4 C.4.1): matches stream, and a query that nobody wants any more ends."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any

import pytest
from pydicom.dataset import Dataset

import dicomnet
from dicomnet import EncodedDataset, Response, Status, StatusError
from dicomnet.models import MODELS
from tests.callbacks import recorder
from tests.faces.conftest import eventually
from tests.faces.face import Face
from tests.faces.queries import CONTEXTS, FIND, Beside, MakeScp, callbacks, failure, ids, reached, study
from tests.faces.wire import EXPLICIT

JAPANESE = "ヤマダ^タロウ=山田^太郎=やまだ^たろう"


@pytest.fixture
def same(server_face: Face) -> Face:
    """Both ends on one face, where one end is tested and the other could be any."""
    return server_face


# --- matches --------------------------------------------------------------------------------------------------------


def test_matches_come_in_order_and_then_the_final_response(client: Face, scp: MakeScp) -> None:
    """PS3.7 9.1.2: any number of pending responses, then success."""
    acceptor = scp(contexts=CONTEXTS)
    acceptor.ae.on_c_find(lambda request: (study(number) for number in range(200)))
    with client.associate(acceptor.peer, contexts=CONTEXTS) as association:
        results = association.c_find(study())
        assert results.response is None
        assert ids(results) == [f"P{number}" for number in range(200)]
        assert results.response.status is Status.SUCCESS
        assert ids(results) == []
        assert association.c_echo().status == 0
    assert acceptor.close_errors(1) == [None]


def test_the_handler_has_the_identifier_and_the_request(client: Face, scp: MakeScp) -> None:
    """The API, §2; reading a keyword of the data set decodes it."""
    acceptor, seen = scp(contexts=CONTEXTS), []

    @acceptor.ae.on_c_find
    def look(request: Any) -> list[Any]:
        seen.append((request.dataset.PatientID, request.sop_class_uid, request.priority, request.cancelled))
        return []

    with client.associate(acceptor.peer, contexts=CONTEXTS) as association:
        results = association.c_find(study(7), priority=2)
        assert (list(results), results.message_id) == ([], 1)
    assert seen == [("P7", FIND, 2, False)]


def test_a_match_arrives_while_the_next_one_is_looked_for(client: Face, scp: MakeScp) -> None:
    """ "Long answers stream": the first match does not wait for the second."""
    acceptor, wanted = scp(contexts=CONTEXTS), [threading.Event() for _ in range(4)]

    @acceptor.ae.on_c_find
    def find(request: Any) -> Any:
        for number, event in enumerate(wanted):
            reached(event)
            yield study(number)

    with client.associate(acceptor.peer, contexts=CONTEXTS) as association:
        results = iter(association.c_find(study()))
        for number, event in enumerate(wanted):
            event.set()
            assert next(results).PatientID == f"P{number}"
        assert ids(results) == []


def test_an_async_match_arrives_while_the_next_one_is_looked_for(client: Face, scp: MakeScp) -> None:
    """The same of an async generator."""
    acceptor, wanted = scp(contexts=CONTEXTS), [threading.Event() for _ in range(3)]

    @acceptor.ae.on_c_find
    async def find(request: Any) -> Any:
        for number, event in enumerate(wanted):
            await asyncio.to_thread(reached, event)
            yield study(number)

    with client.associate(acceptor.peer, contexts=CONTEXTS) as association:
        results = iter(association.c_find(study()))
        for number, event in enumerate(wanted):
            event.set()
            assert next(results).PatientID == f"P{number}"
        assert ids(results) == []


async def _async_list(request: Any) -> list[Any]:
    await asyncio.sleep(0)
    return [study(1), study(2)]


async def _async_generator(request: Any) -> Any:
    yield study(1)
    await asyncio.sleep(0)
    yield study(2)


def _generator(request: Any) -> Any:
    yield study(1)
    yield study(2)


HANDLERS = {
    "list": lambda request: [study(1), study(2)],
    "generator": _generator,
    "async function": _async_list,
    "async generator": _async_generator,
    "function that makes a generator": lambda request: _generator(request),
    "function that makes an async generator": lambda request: _async_generator(request),
    "encoded": lambda request: [EncodedDataset.from_dataset(study(1)), study(2)],
    "with warnings": lambda request: [Response(Status.PENDING_WARNING, study(1)), study(2)],
}


@pytest.mark.parametrize("quick", [False, True], ids=["", "quick"])
@pytest.mark.parametrize("name", HANDLERS)
def test_all_kinds_of_handlers(same: Face, scp: MakeScp, name: str, quick: bool) -> None:
    """The API, §2: plain or async, a generator or a list, on either face."""
    acceptor = scp(contexts=CONTEXTS)
    acceptor.ae.on_c_find(quick=quick)(HANDLERS[name])
    with same.associate(acceptor.peer, contexts=CONTEXTS) as association:
        for _ in range(2):
            assert ids(association.c_find(study())) == ["P1", "P2"]


async def _async_failing(request: Any) -> Any:
    yield study(1)
    raise ZeroDivisionError


def _failing(request: Any) -> Any:
    yield study(1)
    raise ZeroDivisionError


def _out_of_resources(request: Any) -> Any:
    yield study(1)
    raise StatusError(Status.OUT_OF_RESOURCES, "too many")


@pytest.mark.parametrize(
    ("handler", "status", "comment"),
    [
        (_failing, 0x0110, "ZeroDivisionError in the handler"),
        (_async_failing, 0x0110, "ZeroDivisionError in the handler"),
        (_out_of_resources, 0xA700, "too many"),
        (lambda request: [study(1), Response(0xC001, error_comment="no such table")], 0xC001, "no such table"),
    ],
    ids=["exception", "async", "StatusError", "Response"],
)
def test_a_failure_ends_the_loop_and_not_the_association(
    client: Face, scp: MakeScp, handler: Any, status: int, comment: str
) -> None:
    """The API, §1 and §2: what was found before comes first; then StatusError."""
    acceptor = scp(contexts=CONTEXTS)
    acceptor.ae.on_c_find(handler)
    with client.associate(acceptor.peer, contexts=CONTEXTS) as association:
        results = association.c_find(study())
        assert next(iter(results)).PatientID == "P1"
        error = failure(results)
        assert (error.status, error.comment) == (status, comment)
        assert results.response.status == status
        assert association.c_echo().status == 0


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        ("ISO_IR 100", "Müller^Jürgen"),
        ("ISO_IR 192", "Müller^Jürgen=山田^太郎"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        (["ISO 2022 IR 13", "ISO 2022 IR 87"], JAPANESE),
    ],
    ids=["latin-1", "UTF-8", "kanji", "katakana and kanji"],
)
def test_character_sets_are_kept(client: Face, scp: MakeScp, charset: Any, name: str) -> None:
    """PS3.5 6.1, PS3.4 C.2.2.2: both ways, the bytes and what they mean."""
    acceptor, seen = scp(contexts=CONTEXTS), []

    @acceptor.ae.on_c_find
    def echo(request: Any) -> Any:
        seen.append((request.dataset.SpecificCharacterSet, request.dataset.PatientName))
        yield request.dataset
        yield study(SpecificCharacterSet=charset, PatientName=name)

    with client.associate(acceptor.peer, contexts=[(FIND, [EXPLICIT])]) as association:
        matches = list(association.c_find(study(SpecificCharacterSet=charset, PatientName=name)))
    assert [match.SpecificCharacterSet for match in matches] == [charset] * 2
    assert [match.PatientName for match in matches] == [name] * 2
    assert seen == [(charset, name)]


@pytest.mark.parametrize("model", [name for name, (find, _, _) in MODELS.items() if find is not None])
def test_every_model_can_be_queried(scp: MakeScp, same: Face, model: str) -> None:
    """PS3.4 C.6, K, U, X, BB, CC and the others: by its name."""
    uid = MODELS[model][0]
    acceptor = scp(contexts=[uid])
    acceptor.ae.on_c_find(lambda request: [study(request.sop_class_uid)])
    with same.associate(acceptor.peer, contexts=[uid]) as association:
        assert ids(association.c_find(study(), model=model)) == [f"P{uid}"]


def test_what_cannot_be_asked_is_said_before_anything_is_sent(client: Face, scp: MakeScp) -> None:
    """The API, §5: ValueError and NoAcceptedContext; the association stands."""
    with client.associate(scp().peer) as association:
        with pytest.raises(ValueError, match="no information model"):
            association.c_find(study(), model="atlas")
        with pytest.raises(dicomnet.NoAcceptedContext):
            association.c_find(study())
        assert association.c_echo().status == 0


# --- queries that end early -----------------------------------------------------------------------------------------


class Endless:
    """A handler whose matches do not end; ``ended``: it was closed. ``cancelled``: what it saw then."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self.cancelled: bool | None = None

    def __call__(self, request: Any) -> Any:
        try:
            for number in range(1_000_000):
                yield study(number)
        finally:
            self.cancelled = request.cancelled
            self.ended.set()


class AsyncEndless(Endless):
    async def __call__(self, request: Any) -> Any:
        try:
            for number in range(1_000_000):
                yield study(number)
                await asyncio.sleep(0)
        finally:
            self.cancelled = request.cancelled
            self.ended.set()


@pytest.fixture(params=[Endless, AsyncEndless], ids=["generator", "async generator"])
def endless(request: pytest.FixtureRequest) -> Any:
    return request.param()


def test_leaving_the_loop_cancels_the_query(client: Face, scp: MakeScp, endless: Any) -> None:
    """The API, §1; PS3.7 9.3.2.3: the handler is closed, and the association is used on."""
    acceptor = scp(contexts=CONTEXTS)
    acceptor.ae.on_c_find(endless)
    with client.associate(acceptor.peer, contexts=CONTEXTS) as association:
        for match in association.c_find(study()):
            if match.PatientID == "P9":
                break
        reached(endless.ended)
        assert endless.cancelled is True
        assert association.c_echo().status == 0
    assert acceptor.close_errors(1) == [None]


def test_a_cancelled_query_is_read_to_its_end(client: Face, scp: MakeScp, endless: Any) -> None:
    """PS3.4 C.4.1.3.2: FE00 is no error; what was on its way comes first."""
    acceptor = scp(contexts=CONTEXTS)
    acceptor.ae.on_c_find(endless)
    with client.associate(acceptor.peer, contexts=CONTEXTS) as association:
        results = association.c_find(study())
        assert next(iter(results)).PatientID == "P0"
        results.cancel()
        rest = ids(results)
        assert rest == [f"P{number}" for number in range(1, len(rest) + 1)]
        assert results.response.status is Status.CANCEL
        results.cancel()  # does nothing any more
        results.close()
        assert association.c_echo().status == 0
    assert endless.cancelled is True


@pytest.mark.parametrize("by", ["results", "message ID"])
def test_c_cancel_takes_an_operation_or_a_message_id(client: Face, scp: MakeScp, by: str) -> None:
    """The API, §1: ``c_cancel``."""
    acceptor, endless = scp(contexts=CONTEXTS), Endless()
    acceptor.ae.on_c_find(endless)
    with client.associate(acceptor.peer, contexts=CONTEXTS) as association:
        results = association.c_find(study())
        next(iter(results))
        association.c_cancel(results if by == "results" else results.message_id)
        list(results)
        assert results.response.status is Status.CANCEL
        association.c_cancel(results.message_id)  # nothing with that ID is outstanding


def test_a_with_block_closes_the_query(client: Face, scp: MakeScp) -> None:
    """Also where the results are kept."""
    acceptor, endless = scp(contexts=CONTEXTS), Endless()
    acceptor.ae.on_c_find(endless)
    with client.associate(acceptor.peer, contexts=CONTEXTS) as association:
        with association.c_find(study()) as results:
            next(iter(results))
        reached(endless.ended)
        assert list(results) == []
        assert results.response is None
        assert association.c_echo().status == 0


def test_results_that_are_dropped_close_the_query(client: Face, scp: MakeScp) -> None:
    """Garbage collection is enough, in a thread that has nothing to do with it, too."""
    acceptor, endless = scp(contexts=CONTEXTS), Endless()
    acceptor.ae.on_c_find(endless)
    with client.associate(acceptor.peer, contexts=CONTEXTS) as association:
        kept = [association.c_find(study())]
        next(iter(kept[0]))
        kept[0].knot = kept  # a cycle: only the collector finds it
        del kept
        Beside(gc.collect).result()
        reached(endless.ended)
        assert association.c_echo().status == 0


def test_a_handler_without_a_generator_sees_the_cancel(client: Face, scp: MakeScp) -> None:
    """The API, §2, ``cancelled``: while it looks for matches, nothing else need happen on the association."""
    acceptor, begun, seen = scp(contexts=CONTEXTS), threading.Event(), threading.Event()

    @acceptor.ae.on_c_find
    def search(request: Any) -> list[Any]:
        begun.set()
        eventually(lambda: request.cancelled, "the handler sees the C-CANCEL")
        seen.set()
        return [study(1)]

    with client.associate(acceptor.peer, contexts=CONTEXTS) as association:
        results = association.c_find(study())
        found = Beside(lambda: list(results))
        reached(begun)
        association.c_cancel(1)
        reached(seen)
        assert found.result() == []
        assert results.response.status is Status.CANCEL


def test_a_requestor_that_goes_ends_the_query(client: Face, scp: MakeScp, endless: Any) -> None:
    """An A-ABORT, too, closes the generator."""
    acceptor = scp(contexts=CONTEXTS)
    acceptor.ae.on_c_find(endless)
    association = client.associate(acceptor.peer, contexts=CONTEXTS)
    results = association.c_find(study())
    next(iter(results))
    association.abort()
    reached(endless.ended)
    assert isinstance(acceptor.close_errors(1)[0], dicomnet.DicomNetworkError)
    with pytest.raises(dicomnet.AssociationAborted):
        list(results)  # what had arrived comes first
    results.close()


def test_a_window_of_one_says_what_is_wrong(client: Face, scp: MakeScp) -> None:
    """A request inside a loop that is not at its end would wait for itself."""
    acceptor = scp(contexts=CONTEXTS)
    acceptor.ae.on_c_find(lambda request: [study(number) for number in range(3)])
    with client.associate(acceptor.peer, contexts=CONTEXTS) as association:
        results = iter(association.c_find(study()))
        next(results)
        if client.module is dicomnet:  # each call of the test's other face is a task of its own: there it would wait
            with pytest.raises(dicomnet.LocalProtocolError, match="operations window"):
                association.c_echo()
        assert ids(results) == ["P1", "P2"]
        assert association.c_echo().status == 0


def test_threads_share_an_association(client: Face, scp: MakeScp) -> None:
    """The API, §1: with a window of one their queries come one after the other."""
    acceptor = scp(contexts=CONTEXTS)
    acceptor.ae.on_c_find(lambda request: (study(number) for number in range(50)))
    with client.associate(acceptor.peer, contexts=CONTEXTS) as association:
        together = [Beside(lambda: ids(association.c_find(study()))) for _ in range(4)]
        assert [one.result() for one in together] == [[f"P{number}" for number in range(50)]] * 4
        assert association.c_echo().status == 0


def test_results_are_for_a_thread_at_a_time(client: Face, scp: MakeScp) -> None:
    """A query may be begun in one thread and read in another."""
    acceptor = scp(contexts=CONTEXTS)
    acceptor.ae.on_c_find(lambda request: (study(number) for number in range(5)))
    with client.associate(acceptor.peer, contexts=CONTEXTS) as association:
        results = iter(association.c_find(study()))
        assert Beside(lambda: next(results).PatientID).result() == "P0"
        assert ids(results) == ["P1", "P2", "P3", "P4"]


# --- a large one ----------------------------------------------------------------------------------------------------


def test_a_slow_reader_holds_the_handler_up(client: Face, scp: MakeScp) -> None:
    """The issue's "must show": neither end keeps the matches that the other has not asked for."""
    acceptor, made = scp(contexts=CONTEXTS), [0]
    padding = "x" * 10_000

    @acceptor.ae.on_c_find
    def find(request: Any) -> Any:
        for number in range(10_000):  # 100 MB
            made[0] = number
            yield study(number, StudyComments=padding)

    with client.associate(acceptor.peer, contexts=CONTEXTS) as association:
        results = association.c_find(study())
        first = next(iter(results))
        assert first.PatientID == "P0"
        eventually(lambda: _unchanged(made), "the handler waits")
        assert made[0] < 5_000  # what is in the system's buffers and the inbox
        results.close()
        assert association.c_echo().status == 0


def _unchanged(made: list[int]) -> bool:
    before = made[0]
    threading.Event().wait(0.05)
    return made[0] == before


def test_matches_may_be_data_sets_with_sequences(client: Face, scp: MakeScp) -> None:
    """PS3.4 C.2.2.2.6: as identifiers, too."""
    item = Dataset()
    item.ScheduledStationAETitle = "CT1"
    acceptor = scp(contexts=CONTEXTS)
    acceptor.ae.on_c_find(lambda request: [request.dataset.decode()])
    with client.associate(acceptor.peer, contexts=CONTEXTS) as association:
        (match,) = association.c_find(study(ScheduledProcedureStepSequence=[item]))
    assert match.ScheduledProcedureStepSequence[0].ScheduledStationAETitle == "CT1"


# --- the callback class ---------------------------------------------------------------------------------------------

PID = 7  # of the context for C-FIND


class FindScp(recorder.Scp):
    """Has three matches; the fourth is being looked for until somebody cancels."""

    def on_receive_c_find_request(self, pid: int, mid: int, cls: str, prio: int, ds: Any) -> None:
        for number in range(3):
            self.send_c_find_response(pid, mid, cls, 0xFF00, study(number))
        if ds.PatientID == "P0":
            self.send_c_find_response(pid, mid, cls, 0)

    def on_receive_c_cancel_request(self, pid: int, mid: int) -> None:
        self.send_c_find_response(pid, mid, FIND, 0xFE00)


def test_the_callback_class_answers_queries(client: Face) -> None:
    """dicomnet-class.md: all of it by hand, also what follows a C-CANCEL."""
    with callbacks() as stage:
        listener = stage.listener(FindScp)
        with client.associate(f"SCP@127.0.0.1:{listener.host_port}", contexts=[FIND]) as association:
            assert ids(association.c_find(study(0))) == ["P0", "P1", "P2"]
            results = association.c_find(study(1))
            for match in results:
                if match.PatientID == "P2":
                    results.cancel()
            assert results.response.status is Status.CANCEL
            assert stage.wait("client", "on_receive_c_cancel_request") == (1, 2)


def test_the_callback_class_asks(scp: MakeScp) -> None:
    """dicomnet-class.md: each response is told by itself."""
    acceptor, endless = scp(contexts=CONTEXTS), Endless()
    acceptor.ae.on_c_find(lambda request: endless(request) if request.dataset.PatientID == "P1" else [study(5)])
    with callbacks() as stage:
        scu = stage.associated(acceptor.port)
        scu.send_c_find_request(PID, 1, FIND, 0, study(0))
        _pid, _mid, uid, status, match = stage.wait("SCU", "on_receive_c_find_response")
        assert (uid, status, match.PatientID) == (FIND, Status.PENDING, "P5")
        assert stage.wait("SCU", "on_receive_c_find_response", 2) == (PID, 1, FIND, Status.SUCCESS, None)
        scu.send_c_find_request(PID, 2, FIND, 0, study(1))
        stage.wait("SCU", "on_receive_c_find_response", 5)
        scu.send_c_cancel_request(PID, 2)
        reached(endless.ended)
        eventually(lambda: stage.entries("SCU", "on_receive_c_find_response")[-1].arguments[3] == 0xFE00, "FE00")
        scu.send_release_request()
        stage.wait("SCU", "on_receive_release_response")
        scu.close()
    assert acceptor.close_errors(1) == [None]
