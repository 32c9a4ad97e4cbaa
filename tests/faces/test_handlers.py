"""What handlers may do, return and raise (the API, §2; K3, K4)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

import dicomnet
from dicomnet import Identity, Response, Status, StatusError
from tests.faces.conftest import Scp, ct
from tests.faces.face import Face
from tests.faces.wire import CT, EXPLICIT, patient_data

MakeScp = Callable[..., Scp]
CONTEXTS = [dicomnet.Verification, (CT, [EXPLICIT])]


@pytest.fixture
def client(server_face: Face) -> Face:
    """Both ends on the same face: here one is tested, and the other could be any."""
    return server_face


def answer(client: Face, acceptor: Scp, result: Any) -> Response:
    """What a C-STORE gets whose handler returns ``result``, or raises it; the association lives on."""

    @acceptor.ae.on_c_store
    def handler(request: Any) -> Any:
        if isinstance(result, BaseException):
            raise result
        return result

    with client.associate(acceptor.peer, contexts=CONTEXTS) as association:
        response: Response = association.c_store(ct(patient_data()))
        assert association.c_echo().status == 0
    assert acceptor.close_errors(1) == [None]
    return response


@pytest.mark.parametrize("result", [Status.SUCCESS, 0, Status.OUT_OF_RESOURCES, 0xB000, 0xC123])
def test_a_status_or_an_int_is_the_status(client: Face, scp: MakeScp, result: int) -> None:
    """The API, §2: every 16-bit number."""
    response = answer(client, scp(), result)
    assert response.status == result
    assert response.error_comment is None


def test_a_response_is_the_response(client: Face, scp: MakeScp) -> None:
    """The API, §2: with the optional status elements (PS3.7 Annex C)."""
    given = Response(0xA900, error_comment="wrong class", offending_elements=(0x00080016,), error_id=7)
    response = answer(client, scp(), given)
    assert (response.status, response.error_comment, response.error_id) == (0xA900, "wrong class", 7)
    assert response.offending_elements == (0x00080016,)


def test_a_status_error_is_its_status_and_comment(client: Face, scp: MakeScp) -> None:
    """The API, §2: at most 64 characters of it (VR LO)."""
    response = answer(client, scp(), StatusError(0xA701, "no room " * 20))
    assert response.status == 0xA701
    assert response.error_comment == ("no room " * 20)[:64].rstrip()


def test_any_other_exception_is_a_processing_failure(
    client: Face, scp: MakeScp, caplog: pytest.LogCaptureFixture
) -> None:
    """K3: 0x0110 with an Error Comment; the traceback goes to the log, not to the peer."""
    response = answer(client, scp(), ValueError("PID-4711 is unknown"))
    assert response.status == 0x0110
    assert response.error_comment
    assert "4711" not in response.error_comment
    (record,) = [record for record in caplog.records if record.exc_info]
    assert record.exc_info is not None
    assert record.exc_info[0] is ValueError


@pytest.mark.parametrize("result", [None, "success", True, -1, 0x10000, 1.5, object()])
def test_nonsense_is_a_processing_failure(client: Face, scp: MakeScp, result: Any) -> None:
    """K3: a handler that returns nonsense has not stored anything (N-31)."""
    assert answer(client, scp(), result).status == 0x0110


def test_an_async_handler_is_awaited(client: Face, scp: MakeScp) -> None:
    """The API, §2: plain or async function, on either face."""
    import asyncio

    acceptor = scp()

    @acceptor.ae.on_c_store
    async def keep(request: Any) -> int:
        await asyncio.sleep(0)
        acceptor.received.append(bytes(request.dataset))
        return 0xB000

    with client.associate(acceptor.peer, contexts=CONTEXTS) as association:
        for _ in range(2):
            assert association.c_store(ct(patient_data())).status == 0xB000
    assert acceptor.received == [patient_data()] * 2


def test_an_async_handler_that_fails_is_a_processing_failure(client: Face, scp: MakeScp) -> None:
    """K3."""
    acceptor = scp()

    @acceptor.ae.on_c_echo
    async def fail(request: Any) -> int:
        raise ZeroDivisionError

    with client.associate(acceptor.peer) as association:
        assert [association.c_echo().status for _ in range(2)] == [0x0110] * 2


def test_a_class_without_a_handler_is_not_served(client: Face, scp: MakeScp) -> None:
    """N-24: 0211H; verification needs none (PS3.4 A.4)."""
    ae = dicomnet.AE("SCP", contexts=[dicomnet.Verification, CT])
    acceptor = scp()
    acceptor.ae = ae
    with client.associate(acceptor.peer, contexts=CONTEXTS) as association:
        assert association.c_store(ct(patient_data())).status == 0x0211
        assert association.c_echo().status == 0


def test_on_association_sees_the_request_before_it_is_answered(client: Face, scp: MakeScp) -> None:
    """The API, §2: and user_data is there for the user."""
    acceptor = scp()
    seen: list[Any] = []

    @acceptor.ae.on_association
    def look(association: Any) -> None:
        seen.append((association.calling_ae, association.called_ae, association.accepted, association.identity))
        association.user_data = "mine"

    identity = Identity.passcode("user", "secret")
    with client.associate(acceptor.peer, calling_ae="ME", contexts=CONTEXTS, identity=identity) as association:
        association.c_store(ct(patient_data()))
    assert seen == [("ME", "SCP", (), identity)]
    assert acceptor.requests[0].association.user_data == "mine"
    assert acceptor.requests[0].association.accepted == association.accepted


def test_an_async_on_association_may_refuse(client: Face, scp: MakeScp) -> None:
    """The API, §2."""
    acceptor = scp()

    @acceptor.ae.on_association
    async def refuse(association: Any) -> None:
        raise dicomnet.Reject(2, 3, 1)

    with pytest.raises(dicomnet.AssociationRejected, match="2/3/1"):
        client.associate(acceptor.peer)


def test_secrets_stay_out_of_the_log(client: Face, scp: MakeScp, caplog: pytest.LogCaptureFixture) -> None:
    """PS3.7 D.3.3.7: a passcode is nobody's business."""
    with client.associate(scp().peer, identity=Identity.passcode("user", "secret")) as association:
        association.c_echo()
    assert "secret" not in caplog.text


def test_on_close_is_called_once_with_the_reason(client: Face, scp: MakeScp) -> None:
    """The API, §2: None after a release, else the error; not for what was refused."""
    acceptor = scp(accept_calling=["FRIEND"])
    with client.associate(acceptor.peer, calling_ae="FRIEND"):
        pass
    assert acceptor.close_errors(1) == [None]
    client.associate(acceptor.peer, calling_ae="FRIEND").abort()
    assert isinstance(acceptor.close_errors(2)[1], dicomnet.AssociationAborted)
    with pytest.raises(dicomnet.AssociationRejected):
        client.associate(acceptor.peer, calling_ae="FOE")
    acceptor.server.close()
    assert len(acceptor.closed) == 2


def test_an_on_close_that_fails_hurts_nobody(client: Face, scp: MakeScp, caplog: pytest.LogCaptureFixture) -> None:
    """K3: the traceback goes to the log."""
    acceptor = scp()

    @acceptor.ae.on_close
    def fail(association: Any) -> None:
        raise ZeroDivisionError

    for _ in range(2):
        with client.associate(acceptor.peer) as association:
            association.c_echo()
    acceptor.server.close()
    assert [bool(record.exc_info) for record in caplog.records if record.exc_info] == [True] * 2


def test_a_handler_that_blocks_does_not_keep_others_waiting(client: Face, scp: MakeScp) -> None:
    """K4: other associations are served meanwhile."""
    acceptor = scp()
    begun, may_end = threading.Event(), threading.Event()

    @acceptor.ae.on_c_store
    def block(request: Any) -> int:
        begun.set()
        return 0 if may_end.wait(20) else 0xC000

    with client.associate(acceptor.peer, contexts=CONTEXTS) as blocked:
        statuses: list[int] = []
        thread = threading.Thread(target=lambda: statuses.append(blocked.c_store(ct(patient_data())).status))
        thread.start()
        assert begun.wait(20)
        with client.associate(acceptor.peer) as other:
            assert other.c_echo().status == 0
        may_end.set()
        thread.join(20)
    assert statuses == [0]


def test_a_handler_may_itself_be_a_requestor(client: Face, scp: MakeScp) -> None:
    """A router: an SCP that is an SCU while it answers."""
    behind, acceptor = scp(), scp()

    @acceptor.ae.on_c_store
    def route(request: Any) -> int:
        with dicomnet.associate(behind.peer, contexts=CONTEXTS) as onward:
            return onward.c_store(request.dataset).status

    assert behind.port
    with client.associate(acceptor.peer, contexts=CONTEXTS) as association:
        assert association.c_store(ct(patient_data())).status == 0
    assert behind.received == [patient_data()]
