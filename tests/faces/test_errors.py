"""Every error of the tree (the API, §5) with what is documented to cause it, seen by the requestor."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

import dicomnet
from dicomnet import (
    AssociationAborted,
    AssociationRejected,
    DeadlineExceeded,
    Reject,
    RemoteProtocolError,
    Timeouts,
    TransportError,
)
from tests.faces.conftest import QUICK, Scp, ct, quick
from tests.faces.face import Face
from tests.faces.wire import (
    ABORT,
    AC,
    OFFER,
    RELEASE_RP,
    RQ,
    Scripted,
    Wire,
    echo_rsp,
    encoded,
    patient_data,
    store_rsp,
)

MakeScp = Callable[..., Scp]


# --- TransportError -------------------------------------------------------------------------------------------------


def test_a_refused_connection_is_a_transport_error(client: Face) -> None:
    """The API, §5: the OSError is its cause."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(TransportError, match=str(port)) as caught:
        client.associate(f"SCP@127.0.0.1:{port}")
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "two..dots", "x" * 70])
def test_an_unknown_host_is_a_transport_error(client: Face, host: str) -> None:
    """The API, §5: names that cannot even be asked for, too."""
    with pytest.raises(TransportError, match=host[:10]):
        client.associate(f"SCP@{host}:11112")


def closes(wire: Wire) -> None:
    wire.hears()


def resets(wire: Wire) -> None:
    wire.hears()
    wire.resets()


def closes_in_mid_answer(wire: Wire) -> None:
    wire.hears()
    wire.sends(b"\x02\0\0\0\0\xb8\0\1")


@pytest.mark.parametrize("script", [closes, resets, closes_in_mid_answer])
def test_a_peer_that_goes_instead_of_answering_is_a_transport_error(
    client: Face, script: Callable[[Wire], None]
) -> None:
    """N9: when it is asked for the association."""
    with Scripted(script) as server, pytest.raises(TransportError):
        client.associate(server.peer)


@pytest.mark.parametrize("script", [closes, resets])
def test_a_peer_that_vanishes_is_a_transport_error(client: Face, script: Callable[[Wire], None]) -> None:
    """N9: in mid-association; whatever is called afterwards says so, too."""

    def play(wire: Wire) -> None:
        wire.hears()
        wire.sends(AC)
        script(wire)

    with Scripted(play) as server:
        association = client.associate(server.peer, contexts=OFFER)
        for _ in range(2):
            with pytest.raises(TransportError):
                association.c_echo()


def test_a_peer_that_closes_in_the_release_is_a_transport_error(client: Face) -> None:
    """PS3.8 9.2, AA-4: not an orderly release."""

    def play(wire: Wire) -> None:
        wire.hears()
        wire.sends(AC)
        wire.hears()

    with Scripted(play) as server:
        association = client.associate(server.peer, contexts=OFFER)
        with pytest.raises(TransportError):
            association.release()


# --- AssociationRejected --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [(1, 1, 1), (1, 1, 7), (2, 1, 1), (2, 3, 1), (2, 3, 2), (1, 2, 1), (9, 9, 9)])
def test_a_rejection_carries_its_reason(client: Face, scp: MakeScp, code: tuple[int, int, int]) -> None:
    """PS3.8 9.3.4: from an on_association handler to the requestor, as on the wire."""
    acceptor = scp()

    @acceptor.ae.on_association
    def refuse(association: Any) -> None:
        raise Reject(*code)

    with pytest.raises(AssociationRejected) as caught:
        client.associate(acceptor.peer)
    assert (caught.value.result, caught.value.source, caught.value.reason) == code
    assert caught.value.transient == (code[0] == 2)
    assert acceptor.closed == []


def test_a_called_ae_title_that_is_not_ours_is_refused_if_it_is_required(client: Face, scp: MakeScp) -> None:
    """PS3.8 Table 9-21: 1/1/7."""
    strict = scp(require_called=True)
    with client.associate(strict.peer) as association:
        association.c_echo()
    with pytest.raises(AssociationRejected, match="1/1/7"):
        client.associate(f"OTHER@127.0.0.1:{strict.port}")
    with client.associate(f"OTHER@127.0.0.1:{scp().port}") as association:
        association.c_echo()


def test_a_calling_ae_title_that_is_not_listed_is_refused(client: Face, scp: MakeScp) -> None:
    """PS3.8 Table 9-21: 1/1/3."""
    acceptor = scp(accept_calling=["FRIEND", "OTHER"])
    with client.associate(acceptor.peer, calling_ae="FRIEND") as association:
        association.c_echo()
    with pytest.raises(AssociationRejected, match="1/1/3"):
        client.associate(acceptor.peer, calling_ae="FOE")


def test_a_handler_that_fails_to_decide_refuses_for_now(
    client: Face, scp: MakeScp, caplog: pytest.LogCaptureFixture
) -> None:
    """K3: 2/1/1; the traceback goes to the log."""
    acceptor = scp()

    @acceptor.ae.on_association
    def fail(association: Any) -> None:
        raise ZeroDivisionError

    with pytest.raises(AssociationRejected, match="2/1/1"):
        client.associate(acceptor.peer)
    assert any(record.exc_info and record.exc_info[0] is ZeroDivisionError for record in caplog.records)


# --- AssociationAborted ---------------------------------------------------------------------------------------------


def aborts_instead_of_answering(wire: Wire) -> None:
    wire.hears()
    wire.sends(bytes((7, 0, 0, 0, 0, 4, 0, 0, 2, 1)))


def test_an_abort_instead_of_an_answer(client: Face) -> None:
    """PS3.8 9.3.8: source and reason as on the wire."""
    with Scripted(aborts_instead_of_answering) as server, pytest.raises(AssociationAborted) as caught:
        client.associate(server.peer)
    assert (caught.value.source, caught.value.reason) == (2, 1)


def test_an_abort_by_the_peer_in_an_operation(client: Face) -> None:
    """PS3.8 7.3: each later call says it again, with an exception of its own."""

    def script(wire: Wire) -> None:
        wire.hears()
        wire.sends(AC)
        wire.hears()
        wire.sends(ABORT)

    with Scripted(script) as server:
        association = client.associate(server.peer, contexts=OFFER)
        errors = []
        for _ in range(2):
            with pytest.raises(AssociationAborted) as caught:
                association.c_echo()
            errors.append(caught.value)
    assert errors[0] is not errors[1]
    assert [(error.source, error.reason) for error in errors] == [(0, 0)] * 2


# --- RemoteProtocolError --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 400 Bad Request\r\n\r\n", RELEASE_RP, replace(AC, contexts=AC.contexts * 2), b"\x02\0\xff\xff\xff\xff"],
)
def test_an_answer_that_breaks_the_protocol(client: Face, answer: Any) -> None:
    """The API, §5: the peer gets an A-ABORT by the service provider."""
    heard = []

    def script(wire: Wire) -> None:
        wire.hears()
        wire.sends(answer)
        heard.extend(wire.hears_to_the_end())

    with Scripted(script) as server, pytest.raises(RemoteProtocolError):
        client.associate(server.peer, contexts=OFFER)
    assert [value.source for value in heard] == [2]


# --- DeadlineExceeded -----------------------------------------------------------------------------------------------


def stalls(wire: Wire) -> None:
    """Say nothing, hear everything."""
    wire.hears_to_the_end()


def accepts_and_stalls(wire: Wire) -> None:
    wire.hears()
    wire.sends(AC)
    wire.hears_to_the_end()


@pytest.fixture
def full_listener() -> Iterator[int]:
    """The port of a listener whose backlog is full: on Linux a further SYN gets no answer."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port = listener.getsockname()[1]
        waiting = []
        try:
            for _ in range(8):
                sock = socket.socket()
                sock.setblocking(False)
                sock.connect_ex(("127.0.0.1", port))
                waiting.append(sock)
            yield port
        finally:
            for sock in waiting:
                sock.close()


def exceeded(caught: pytest.ExceptionInfo[DeadlineExceeded], timer: str) -> bool:
    return (caught.value.timer, caught.value.seconds) == (timer, QUICK) and isinstance(caught.value, TimeoutError)


def test_the_time_to_connect(client: Face, full_listener: int) -> None:
    """Timeouts.connect."""
    with pytest.raises(DeadlineExceeded) as caught:
        client.associate(f"SCP@127.0.0.1:{full_listener}", timeouts=quick("connect"))
    assert exceeded(caught, "connect")


def test_the_time_to_be_answered(client: Face) -> None:
    """Timeouts.associate."""
    with Scripted(stalls) as server, pytest.raises(DeadlineExceeded) as caught:
        client.associate(server.peer, timeouts=quick("associate"))
    assert exceeded(caught, "associate")


def test_the_time_to_be_answered_is_absolute(client: Face) -> None:
    """Timeouts.associate, N6: bytes that drip in do not extend it."""

    def script(wire: Wire) -> None:
        wire.hears()
        for byte in b"\x02\0\0\0\xff\0" + bytes(0xFF00):
            if not wire.is_quiet_for(0.01) or not wire.tries_to_send(bytes((byte,))):
                break
        wire.hears_to_the_end()

    with Scripted(script) as server, pytest.raises(DeadlineExceeded) as caught:
        client.associate(server.peer, timeouts=quick("associate"))
    assert exceeded(caught, "associate")


def test_the_time_to_respond(client: Face) -> None:
    """Timeouts.response; the association is aborted."""
    with Scripted(accepts_and_stalls) as server:
        association = client.associate(server.peer, contexts=OFFER, timeouts=quick("response"))
        for _ in range(2):
            with pytest.raises(DeadlineExceeded) as caught:
                association.c_echo()
            assert exceeded(caught, "response")


def test_the_time_for_a_pdu(client: Face) -> None:
    """Timeouts.pdu: from its first byte to its last."""

    def script(wire: Wire) -> None:
        wire.hears()
        wire.sends(AC)
        wire.hears()
        wire.sends(echo_rsp()[:-1])
        wire.hears_to_the_end()

    with Scripted(script) as server:
        association = client.associate(server.peer, contexts=OFFER, timeouts=quick("pdu"))
        with pytest.raises(DeadlineExceeded) as caught:
            association.c_echo()
    assert exceeded(caught, "pdu")


def test_the_time_to_release(client: Face) -> None:
    """Timeouts.release."""
    with Scripted(accepts_and_stalls) as server:
        association = client.associate(server.peer, contexts=OFFER, timeouts=quick("release"))
        with pytest.raises(DeadlineExceeded) as caught:
            association.release()
    assert exceeded(caught, "release")


def test_the_time_to_send(client: Face) -> None:
    """Timeouts.send: a peer that reads nothing (N5)."""

    def script(wire: Wire) -> None:
        wire.hears()
        wire.sends(AC)
        wire.may_end.wait(20)

    with Scripted(script) as server:
        association = client.associate(server.peer, contexts=OFFER, timeouts=quick("send"))
        with pytest.raises(DeadlineExceeded) as caught:
            association.c_store(ct(bytes(64 << 20)))
        server.may_end.set()
    assert exceeded(caught, "send")


@pytest.mark.parametrize(("said", "timer"), [("", "artim"), ("half a request", "pdu"), ("a request", "idle")])
def test_the_acceptors_time_limits(scp: MakeScp, caplog: pytest.LogCaptureFixture, said: str, timer: str) -> None:
    """Timeouts.artim, pdu and idle (N-02, N-04, N-05); on_close learns the one that it can see."""
    acceptor = scp(timeouts=quick(timer))
    if said == "a request":
        wire = Wire.associated(acceptor.port)
    else:
        wire = Wire.to(acceptor.port).sends(encoded(RQ)[:50] if said else b"")
    with wire:
        heard = [(type(value).__name__, value.source, value.reason) for value in wire.hears_to_the_end()]
    assert heard == ([("Abort", 2, 0)] if said == "a request" else [])
    if said == "a request":
        (error,) = acceptor.close_errors(1)
        assert isinstance(error, DeadlineExceeded)
        assert error.timer == timer
    acceptor.server.close()
    (record,) = [record for record in caplog.records if "time limit" in record.getMessage()]
    assert timer in record.getMessage()
    assert wire.address in record.getMessage()


def test_a_time_limit_can_be_switched_off(client: Face, scp: MakeScp) -> None:
    """config.Timeouts: None."""
    never = Timeouts(**dict.fromkeys(Timeouts.__slots__))
    with client.associate(scp(timeouts=never).peer, timeouts=never) as association:
        assert association.c_echo().status == 0


def test_an_acceptor_that_never_closes_is_left(client: Face) -> None:
    """Timeouts.closing, N-03: after the last PDU nobody waits longer."""

    def script(wire: Wire) -> None:
        wire.hears()
        wire.sends(AC)
        wire.hears()  # A-ABORT
        assert wire.hears() is None  # and closed, although this side stays
        wire.may_end.wait(20)

    with Scripted(script) as server:
        client.associate(server.peer, contexts=OFFER, timeouts=quick()).abort()


# --- early ends -----------------------------------------------------------------------------------------------------


def stores_until(client: Face, end: Callable[[Wire], None], size: int = 32 << 20) -> Exception:
    """What a large C-STORE ends with when the peer does ``end`` after its first PDU."""

    def script(wire: Wire) -> None:
        wire.hears()
        wire.sends(AC)
        wire.hears()
        end(wire)

    with Scripted(script) as server:
        association = client.associate(server.peer, contexts=OFFER, timeouts=quick("send"))
        with pytest.raises(dicomnet.DicomNetworkError) as caught:
            association.c_store(ct(bytes(size)))
        server.may_end.set()
    return caught.value


def test_an_abort_in_mid_store_is_not_a_broken_pipe(client: Face) -> None:
    """PS3.8 7.3: the peer aborts and closes while this side is still sending."""

    def end(wire: Wire) -> None:
        wire.sends(bytes((7, 0, 0, 0, 0, 4, 0, 0, 2, 6)))

    error = stores_until(client, end)
    assert isinstance(error, AssociationAborted)
    assert (error.source, error.reason) == (2, 6)


def test_an_abort_in_mid_store_by_a_peer_that_stops_reading(client: Face) -> None:
    """PS3.8 7.3: and waits for this side to close, as the standard says that it should."""

    def end(wire: Wire) -> None:
        wire.sends(ABORT)
        wire.may_end.wait(20)

    assert isinstance(stores_until(client, end), AssociationAborted)


def test_a_reset_in_mid_store_is_a_transport_error(client: Face) -> None:
    """N1: with the OSError as its cause."""
    error = stores_until(client, Wire.resets)
    assert isinstance(error, TransportError)
    assert isinstance(error.__cause__, OSError)


def test_what_is_no_pdu_in_mid_store_is_the_peers_error(client: Face) -> None:
    """§4: garbage while this side is sending."""
    assert isinstance(stores_until(client, lambda wire: wire.sends(b"garbage" * 20)), RemoteProtocolError)


def test_an_early_response_is_a_response(client: Face) -> None:
    """PS3.7 9.1.1: a peer may refuse before it has everything, as long as it goes on reading."""

    def script(wire: Wire) -> None:
        wire.hears()
        wire.sends(AC)
        wire.hears()
        wire.sends(store_rsp(1, 0xA700))
        wire.hears_to_the_end_of_a_data_set()
        wire.hears()
        wire.sends(RELEASE_RP)

    with Scripted(script) as server, client.associate(server.peer, contexts=OFFER) as association:
        assert association.c_store(ct(bytes(1 << 20))).status == 0xA700


def test_errors_do_not_name_what_was_sent(client: Face, scp: MakeScp) -> None:
    """§4: no patient data."""

    def script(wire: Wire) -> None:
        wire.hears()
        wire.sends(AC)
        wire.hears()
        wire.sends(ABORT)

    with Scripted(script) as server:
        association = client.associate(server.peer, contexts=OFFER)
        with pytest.raises(AssociationAborted) as caught:
            association.c_store(ct(patient_data()))
    assert "DOE" not in str(caught.value)
