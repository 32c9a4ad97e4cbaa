"""N-services between each two faces (PS3.7 10.1), from the requestor to the acceptor and from there back."""

from __future__ import annotations

import inspect
import threading
from typing import Any

import pytest
from pydicom.dataset import Dataset

import dicomnet
from dicomnet import AssociationAborted, EncodedDataset, Response, Status, StatusError
from tests.callbacks import recorder
from tests.faces.face import Face
from tests.faces.queries import CONTEXTS, MPPS, UPS_PULL, UPS_PUSH, Beside, MakeScp, callbacks, reached, study
from tests.faces.wire import EXPLICIT

INSTANCE = "1.2.9.1"
ATTRIBUTES = (0x00100010, 0x00100020)
# Name → the arguments after SOP class and instance, and the fields of the request that they become.
SERVICES: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "n_event_report": ((2, study(1)), {"event_type": 2}),
    "n_get": ((["PatientName", (0x0010, 0x0020)],), {"attributes": ATTRIBUTES}),
    "n_set": ((study(1),), {}),
    "n_action": ((3, study(1)), {"action_type": 3}),
    "n_create": ((study(1),), {}),
    "n_delete": ((), {}),
}


@pytest.fixture
def same(server_face: Face) -> Face:
    """Both ends on one face, where one end is tested and the other could be any."""
    return server_face


def ask(association: Any, name: str, *arguments: Any, instance: str = INSTANCE, **options: Any) -> Any:
    """``association.<name>`` with the arguments of SERVICES, or these."""
    arguments = arguments or SERVICES[name][0]
    if name == "n_create":
        return association.n_create(MPPS, *arguments, sop_instance_uid=instance, **options)
    return getattr(association, name)(MPPS, instance, *arguments, **options)


def register(ae: dicomnet.AE, name: str, handler: Any, **options: Any) -> None:
    getattr(ae, f"on_{name}")(**options)(handler)


class Handler:
    """Keeps the requests; answers with a data set, where the service has one."""

    def __init__(self, ae: dicomnet.AE, name: str) -> None:
        self.requests: list[Any] = []
        self._name = name
        register(ae, name, self)

    def __call__(self, request: Any) -> Any:
        self.requests.append(request)
        return Status.SUCCESS if self._name == "n_delete" else study(9)

    def check(self, response: Response) -> None:
        """What was asked has come here, and what was answered there."""
        (request,) = self.requests
        assert (request.sop_class_uid, request.sop_instance_uid) == (MPPS, INSTANCE)
        for field, value in SERVICES[self._name][1].items():
            assert getattr(request, field) == value
        has_dataset = self._name not in ("n_get", "n_delete")
        assert (request.dataset is not None) == has_dataset
        if has_dataset:
            assert isinstance(request.dataset, EncodedDataset)
            assert request.dataset.PatientID == "P1"
        assert response.status is Status.SUCCESS
        assert (response.sop_class_uid, response.sop_instance_uid) == (MPPS, INSTANCE)
        if self._name == "n_delete":
            assert response.dataset is None
        else:
            assert response.dataset.PatientID == "P9"
        if self._name == "n_event_report":
            assert response.event_type_id == 2
        if self._name == "n_action":
            assert response.action_type_id == 3


# --- from the requestor to the acceptor -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", SERVICES)
def test_a_request_reaches_its_handler_and_the_answer_comes_back(client: Face, scp: MakeScp, name: str) -> None:
    """PS3.7 10.1.1 to 10.1.6: with data sets both ways."""
    acceptor = scp(contexts=CONTEXTS)
    handler = Handler(acceptor.ae, name)
    with client.associate(acceptor.peer, contexts=CONTEXTS) as association:
        handler.check(ask(association, name))
        assert association.c_echo().status == 0
    assert acceptor.close_errors(1) == [None]


@pytest.mark.parametrize("name", SERVICES)
def test_a_request_without_a_handler(client: Face, scp: MakeScp, name: str) -> None:
    """N-24: 0211H is a value; the association lives on."""
    acceptor = scp(contexts=CONTEXTS)
    with client.associate(acceptor.peer, contexts=CONTEXTS) as association:
        assert ask(association, name).status is Status.UNRECOGNISED_OPERATION
        assert association.c_echo().status == 0


async def _later(request: Any) -> Any:
    return 0x0107, study(4)


def _refuses(request: Any) -> Any:
    raise StatusError(0x0112, "no such instance")


def _fails(request: Any) -> Any:
    raise ZeroDivisionError


@pytest.mark.parametrize("quick", [False, True], ids=["", "quick"])
@pytest.mark.parametrize(
    ("handler", "status", "patient", "comment"),
    [
        (lambda request: Status.SUCCESS, 0, None, None),
        (lambda request: 0x0116, 0x0116, None, None),
        (lambda request: study(4), 0, "P4", None),
        (lambda request: EncodedDataset.from_dataset(study(4)), 0, "P4", None),
        (lambda request: (0x0107, study(4)), 0x0107, "P4", None),
        (lambda request: (Status.SUCCESS, None), 0, None, None),
        (lambda request: Response(0x0110, study(4), error_comment="half"), 0x0110, "P4", "half"),
        (_later, 0x0107, "P4", None),
        (_refuses, 0x0112, None, "no such instance"),
        (_fails, 0x0110, None, "ZeroDivisionError in the handler"),
        (lambda request: None, 0x0110, None, "TypeError in the handler"),
    ],
    ids=[
        "Status",
        "int",
        "Dataset",
        "EncodedDataset",
        "pair",
        "None",
        "Response",
        "async",
        "refuses",
        "fails",
        "wrong",
    ],
)
def test_what_a_handler_may_say(
    same: Face, scp: MakeScp, handler: Any, status: int, patient: str | None, comment: str | None, quick: bool
) -> None:
    """The API, §2: each is a value for the requestor; the association lives on."""
    acceptor = scp(contexts=CONTEXTS)
    register(acceptor.ae, "n_set", handler, quick=quick)
    with same.associate(acceptor.peer, contexts=CONTEXTS) as association:
        response = ask(association, "n_set")
        assert response.status == status
        assert (response.dataset and response.dataset.PatientID) == patient
        assert response.error_comment == comment
        assert association.c_echo().status == 0


def test_the_provider_may_choose_the_instance(client: Face, scp: MakeScp) -> None:
    """PS3.7 10.1.5.1.3: the Response has the UID."""
    acceptor, asked = scp(contexts=CONTEXTS), []

    @acceptor.ae.on_n_create
    def create(request: Any) -> Response:
        asked.append(request.sop_instance_uid)
        return Response(Status.SUCCESS, sop_instance_uid="1.2.9.77")

    with client.associate(acceptor.peer, contexts=CONTEXTS) as association:
        assert association.n_create(MPPS, study()).sop_instance_uid == "1.2.9.77"
    assert asked == [""]


def test_another_context_may_carry_a_message(client: Face, scp: MakeScp) -> None:
    """PS3.4 CC.2: UPS instances are of UPS Push, whatever SOP class was negotiated."""
    acceptor, seen = scp(contexts=[UPS_PULL]), []

    @acceptor.ae.on_n_action
    def act(request: Any) -> int:
        seen.append((request.sop_class_uid, request.context.abstract_syntax))
        return 0

    with client.associate(acceptor.peer, contexts=[UPS_PULL]) as association:
        assert association.n_action(UPS_PUSH, INSTANCE, 1, study(), context=UPS_PULL).status == 0
        with pytest.raises(dicomnet.NoAcceptedContext):
            association.n_action(UPS_PUSH, INSTANCE, 1, study())
    assert seen == [(UPS_PUSH, UPS_PULL)]


def test_what_is_no_attribute_is_said_before_anything_is_sent(client: Face, scp: MakeScp) -> None:
    """The API, §5."""
    acceptor = scp(contexts=CONTEXTS)
    Handler(acceptor.ae, "n_get")
    with client.associate(acceptor.peer, contexts=CONTEXTS) as association:
        with pytest.raises(ValueError, match="no tag and no keyword"):
            association.n_get(MPPS, INSTANCE, ["PatientsName"])
        assert association.n_get(MPPS, INSTANCE).status == 0


def test_threads_share_an_association(client: Face, scp: MakeScp) -> None:
    """The API, §1: each gets its own answer."""
    acceptor = scp(contexts=CONTEXTS)
    acceptor.ae.on_n_get(lambda request: study(request.sop_instance_uid))
    with client.associate(acceptor.peer, contexts=CONTEXTS) as association:

        def get(number: int) -> list[str]:
            return [association.n_get(MPPS, f"1.{number}.{turn}").dataset.PatientID for turn in range(20)]

        together = [Beside(lambda number=number: get(number)) for number in range(1, 5)]
        for number, one in enumerate(together, 1):
            assert one.result() == [f"P1.{number}.{turn}" for turn in range(20)]


# --- from the acceptor to the requestor -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", SERVICES)
def test_a_handler_asks_the_requestor(client: Face, scp: MakeScp, server_face: Face, name: str) -> None:
    """PS3.7 10.1.1 and the rest: inside a request of the requestor's, which answers while it waits."""
    acceptor, ae = scp(contexts=CONTEXTS), dicomnet.AE("ME")
    handler, responses = Handler(ae, name), []

    @acceptor.ae.on_c_echo
    def ask_back(request: Any) -> int:
        responses.append(ask(server_face.borrow(request.association.scu), name))
        return 0

    with client.associate(acceptor.peer, contexts=CONTEXTS, ae=ae) as association:
        assert association.c_echo().status == 0
        (response,) = responses
        handler.check(response)
    assert handler.requests[0].association.called_ae == "SCP"
    assert acceptor.close_errors(1) == [None]


def test_an_async_handler_asks_the_requestor(client: Face, scp: MakeScp) -> None:
    """On asyncio it awaits; on the blocking face it calls."""
    acceptor, ae, responses = scp(contexts=CONTEXTS), dicomnet.AE("ME"), []
    handler = Handler(ae, "n_event_report")

    @acceptor.ae.on_c_echo
    async def ask_back(request: Any) -> int:
        response = ask(request.association.scu, "n_event_report")
        responses.append(await response if inspect.isawaitable(response) else response)
        return 0

    with client.associate(acceptor.peer, contexts=CONTEXTS, ae=ae) as association:
        assert association.c_echo().status == 0
    handler.check(responses[0])


@pytest.mark.parametrize("kind", ["plain", "async", "quick"])
def test_all_kinds_of_handlers_of_the_requestor(same: Face, scp: MakeScp, kind: str) -> None:
    """The API, §2, for ``associate(ae=…)``."""
    acceptor, ae, seen = scp(contexts=CONTEXTS), dicomnet.AE("ME"), []

    def note(request: Any) -> int:
        seen.append(request.event_type)
        return 0x0107

    async def note_later(request: Any) -> int:
        return note(request)

    register(ae, "n_event_report", note_later if kind == "async" else note, quick=kind == "quick")
    statuses = []

    @acceptor.ae.on_c_echo
    async def ask_back(request: Any) -> int:
        response = ask(request.association.scu, "n_event_report")
        statuses.append((await response if inspect.isawaitable(response) else response).status)
        return 0

    with same.associate(acceptor.peer, contexts=CONTEXTS, ae=ae) as association:
        association.c_echo()
    assert (seen, statuses) == ([2], [0x0107])


def test_another_thread_asks_a_requestor_that_listens(client: Face, scp: MakeScp, server_face: Face) -> None:
    """``listen``: until what was expected has come."""
    acceptor, ae, lent = scp(contexts=CONTEXTS), dicomnet.AE("ME"), []
    seen: list[int] = []

    @ae.on_n_event_report
    def note(request: Any) -> int:
        seen.append(request.event_type)
        return 0

    @acceptor.ae.on_c_echo
    def lend(request: Any) -> int:
        lent.append(server_face.borrow(request.association.scu))
        return 0

    with client.associate(acceptor.peer, contexts=CONTEXTS, ae=ae) as association:
        association.c_echo()

        def report() -> list[int]:
            return [lent[0].n_event_report(MPPS, INSTANCE, number).status for number in range(3)]

        reporting = Beside(report)
        assert association.listen(until=lambda: len(seen) == 3) is True
        assert association.c_echo().status == 0
        assert reporting.result() == [0, 0, 0]
    assert seen == [0, 1, 2]
    assert acceptor.close_errors(1) == [None]


def test_listening_ends_with_the_time_or_the_association(client: Face, scp: MakeScp, server_face: Face) -> None:
    """False if the time was up; True if nothing more will come."""
    acceptor, lent = scp(contexts=CONTEXTS), []

    @acceptor.ae.on_c_echo
    def lend(request: Any) -> int:
        lent.append(server_face.borrow(request.association.scu))
        return 0

    association = client.associate(acceptor.peer, contexts=CONTEXTS, ae=dicomnet.AE("ME"))
    association.c_echo()
    assert association.listen(0.0) is False
    assert association.listen(0.01) is False
    ending = Beside(lent[0].abort)
    assert association.listen() is True
    ending.result()
    with pytest.raises(dicomnet.AssociationAborted):
        association.c_echo()


def test_a_requestor_without_handlers_recognises_nothing(client: Face, scp: MakeScp, server_face: Face) -> None:
    """N-24: 0211H, with an AE and without one."""
    acceptor, statuses = scp(contexts=CONTEXTS), []

    @acceptor.ae.on_c_echo
    def ask_back(request: Any) -> int:
        statuses.append(ask(server_face.borrow(request.association.scu), "n_event_report").status)
        return 0

    for options in ({}, {"ae": dicomnet.AE("ME")}):
        with client.associate(acceptor.peer, contexts=CONTEXTS, **options) as association:
            assert association.c_echo().status == 0
    assert statuses == [0x0211, 0x0211]


def test_a_handler_of_the_requestor_that_fails(client: Face, scp: MakeScp, server_face: Face) -> None:
    """0110H; the association lives on."""
    acceptor, ae, statuses = scp(contexts=CONTEXTS), dicomnet.AE("ME"), []
    register(ae, "n_event_report", _fails)

    @acceptor.ae.on_c_echo
    def ask_back(request: Any) -> int:
        statuses.append(ask(server_face.borrow(request.association.scu), "n_event_report").status)
        return 0

    with client.associate(acceptor.peer, contexts=CONTEXTS, ae=ae) as association:
        assert [association.c_echo().status for _ in range(2)] == [0, 0]
    assert statuses == [0x0110] * 2


def test_events_arrive_while_matches_stream(client: Face, scp: MakeScp, server_face: Face) -> None:
    """The requestor answers them whatever it waits for."""
    acceptor, ae, seen = scp(contexts=CONTEXTS), dicomnet.AE("ME"), []
    ae.on_n_event_report(lambda request: seen.append(request.event_type) or 0)

    @acceptor.ae.on_c_find
    def find(request: Any) -> Any:
        scu = server_face.borrow(request.association.scu)
        for number in range(3):
            assert scu.n_event_report(MPPS, INSTANCE, number).status == 0
            yield study(number)

    with client.associate(acceptor.peer, contexts=CONTEXTS, ae=ae) as association:
        found = [(match.PatientID, len(seen)) for match in association.c_find(study())]
    assert [patient for patient, _ in found] == ["P0", "P1", "P2"]
    assert seen == [0, 1, 2]


def test_what_a_handler_wants_next_is_called_after_its_response(client: Face, scp: MakeScp, server_face: Face) -> None:
    """``request.then``: the event follows the response to the action that it tells of (PS3.4 J.3.2)."""
    acceptor, ae, order, reported = scp(contexts=CONTEXTS), dicomnet.AE("ME"), [], threading.Event()

    @ae.on_n_event_report
    def note(request: Any) -> int:
        order.append("event")
        reported.set()
        return 0

    @acceptor.ae.on_n_action
    def act(request: Any) -> int:
        scu = server_face.borrow(request.association.scu)
        request.then = lambda: reporting.append(Beside(lambda: scu.n_event_report(MPPS, INSTANCE, 1).status))
        return 0

    reporting: list[Beside] = []
    with client.associate(acceptor.peer, contexts=CONTEXTS, ae=ae) as association:
        assert association.n_action(MPPS, INSTANCE, 1).status == 0
        order.append("response")
        assert association.listen(until=reported.is_set)
        reached(reported)
        assert association.c_echo().status == 0
        assert reporting[0].result() == 0
    assert sorted(order) == ["event", "response"]


def test_what_is_called_after_a_response_may_use_the_association() -> None:
    """On the association's own thread: the abort goes out, and nothing waits for itself."""
    ae = dicomnet.AE("SCP", contexts=CONTEXTS)

    @ae.on_n_action
    def act(request: Any) -> int:
        request.then = request.association.scu.abort
        return 0

    with dicomnet.serve(ae, "127.0.0.1", 0) as server:
        peer = f"SCP@127.0.0.1:{server.port}"
        with pytest.raises(AssociationAborted), dicomnet.associate(peer, contexts=CONTEXTS) as association:
            assert association.n_action(MPPS, INSTANCE, 1).status == 0
            association.listen(30)
            association.c_echo()


# --- the callback class ---------------------------------------------------------------------------------------------


class NormalisedScp(recorder.Scp):
    """Answers an N-ACTION, and then tells of an event."""

    def on_receive_n_action_request(self, pid: int, mid: int, cls: str, inst: str, action: int, ds: Any) -> None:
        self.send_n_action_response(pid, mid, cls, inst, 0, action, study(3))
        self.send_n_report_request(pid, 1, cls, inst, 2, study(4))


def test_the_callback_class_performs_actions_and_tells_of_events(client: Face) -> None:
    """dicomnet-class.md: both directions on one association."""
    ae, seen = dicomnet.AE("ME"), []
    ae.on_n_event_report(lambda request: seen.append(request.dataset.PatientID) or (0, study(5)))
    with callbacks() as stage:
        listener = stage.listener(NormalisedScp)
        peer = f"SCP@127.0.0.1:{listener.host_port}"
        with client.associate(peer, contexts=[(MPPS, [EXPLICIT])], ae=ae) as association:
            response = association.n_action(MPPS, INSTANCE, 7, study(1))
            assert (response.status, response.action_type_id, response.dataset.PatientID) == (0, 7, "P3")
            assert association.listen(until=lambda: seen)
            *_, status, event, dataset = stage.wait("client", "on_receive_n_report_response")
            assert (status, event, dataset.PatientID) == (0, 2, "P5")
    assert seen == ["P4"]


@pytest.mark.parametrize("name", [name for name in SERVICES if name != "n_event_report"])
def test_the_callback_class_asks(scp: MakeScp, name: str) -> None:
    """dicomnet-class.md: all by hand."""
    acceptor = scp(contexts=CONTEXTS)
    handler = Handler(acceptor.ae, name)
    arguments = (ATTRIBUTES,) if name == "n_get" else SERVICES[name][0]
    with callbacks() as stage:
        scu = stage.associated(acceptor.port)
        getattr(scu, f"send_{name}_request")(5, 1, MPPS, INSTANCE, *arguments)
        told = stage.wait("SCU", f"on_receive_{name}_response")
        assert told[:5] == (5, 1, MPPS, INSTANCE, Status.SUCCESS)
        if name != "n_delete":
            assert told[-1].PatientID == "P9"
        scu.send_release_request()
        stage.wait("SCU", "on_receive_release_response")
        scu.close()
    assert handler.requests[0].sop_instance_uid == INSTANCE


def test_data_sets_of_replies_keep_their_character_set(client: Face, scp: MakeScp) -> None:
    """PS3.5 6.1."""
    acceptor, reply = scp(contexts=CONTEXTS), Dataset()
    reply.SpecificCharacterSet, reply.PatientName = "ISO_IR 192", "山田^太郎"
    acceptor.ae.on_n_get(lambda request: reply)
    with client.associate(acceptor.peer, contexts=CONTEXTS) as association:
        assert association.n_get(MPPS, INSTANCE).dataset.PatientName == "山田^太郎"
