"""§2 of the contract: time limits exist, and each arrives as an error, in an association after an A-ABORT."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from dicomnet import DeadlineExceeded, EncodedDataset
from dicomnet.callbacks import NetError
from dicomnet.ul import pdu
from tests.callbacks.recorder import (
    CT,
    EXPLICIT,
    GIVEN_UP,
    INSTANCE,
    STUDY_GET,
    VERIFICATION,
    Scp,
    Scu,
    Stage,
    proposal,
    quick,
)
from tests.faces.wire import AC, RELEASE_RQ, Scripted, Wire, echo_rq, store_rq


def expired(stage: Stage, who: str, timer: str) -> Any:
    """``who``'s on_close tells of the timer; returns the object."""
    error, net = stage.wait(who, "on_close")
    assert error == NetError[f"TIMEOUT_{timer.upper()}"]
    assert isinstance(net.last_error, DeadlineExceeded)
    assert net.last_error.timer == timer
    return net


@contextlib.contextmanager
def full_backlog() -> Iterator[int]:
    """A port where connections are neither accepted nor refused."""
    with socket.socket() as listener, contextlib.ExitStack() as waiting:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            sock = waiting.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


@pytest.mark.parametrize("local", ["", "127.0.0.1"])
def test_connect(stage: Stage, local: str) -> None:
    """§2, §6: ``on_connect(error)``; no ``on_close``."""
    with full_backlog() as port:
        scu = stage.scu(timeouts=quick("connect"))
        scu.connect(local, 0, "127.0.0.1", port)
        assert stage.wait("SCU", "on_connect") == (NetError.TIMEOUT_CONNECT,)
    assert scu.last_error.timer == "connect"
    assert stage.told("SCU") == ["on_connect(TIMEOUT_CONNECT)"]


def test_associate(stage: Stage) -> None:
    """The peer does not answer the request: A-ABORT, ``on_close``."""
    heard = []
    with Scripted(lambda wire: heard.extend(wire.hears_to_the_end())) as script:
        stage.connected(script.port, timeouts=quick("associate"))
        expired(stage, "SCU", "associate")
    assert heard[1:] == [pdu.Abort(0, 0)]


def test_artim(stage: Stage) -> None:
    """N-02: without a request the connection is closed; ARTIM just closes (9.3.8)."""
    listener = stage.listener(timeouts=quick("artim"))
    with Wire.to(listener.host_port) as wire:
        assert wire.hears() is None
    expired(stage, "listener", "artim")


def test_pdu(stage: Stage) -> None:
    """A PDU that does not end: A-ABORT 2/0."""
    listener = stage.listener(timeouts=quick("pdu"))
    with Wire.associated(listener.host_port) as wire:
        wire.sends(echo_rq(1)[:-1])
        assert wire.hears() == pdu.Abort(2, 0)
    expired(stage, "listener", "pdu")


def test_response(stage: Stage) -> None:
    """A DIMSE response that does not come: A-ABORT 0/0."""
    heard = []
    with Scripted(lambda wire: (wire.hears(), wire.sends(AC), heard.extend(wire.hears_to_the_end()))) as script:
        scu = stage.associated(script.port, timeouts=quick("response"))
        scu.send_c_echo_request(1, 1, VERIFICATION)
        expired(stage, "SCU", "response")
    assert heard[-1] == pdu.Abort(0, 0)


def test_a_peer_that_keeps_sending_does_not_extend_the_limit(stage: Stage) -> None:
    """Limits are absolute: requests of the peer are no response."""

    def script(wire: Wire) -> None:
        wire.hears()
        wire.sends(AC)
        mid = 0
        while wire.tries_to_send(store_rq(mid % 60000 + 1, bytes(50_000))):
            mid += 1

    class Answering(Scu):
        def on_receive_c_store_request(self, *arguments: Any) -> None:
            pass

    with Scripted(script) as scripted:
        scu = stage.associated(scripted.port, Answering, timeouts=quick("response"))
        scu.send_c_echo_request(1, 1, VERIFICATION)
        expired(stage, "SCU", "response")


def test_a_c_get_is_not_late_while_its_sub_operations_come(stage: Stage) -> None:
    """§6, C-GET: the stores show that the peer is at work."""
    number = 6

    class Retrieving(Scp):
        def on_receive_c_get_request(self, pid: int, mid: int, cls: str, prio: int, ds: Any) -> None:
            self.asked = (pid, mid, cls)
            self.store(1)

        def store(self, mid: int) -> None:
            pid, asked, cls = self.asked
            if mid > number:
                self.send_c_get_response(pid, asked, cls, 0, None, number, 0, 0, None)
            else:
                threading.Event().wait(0.06)
                data = EncodedDataset(b"", EXPLICIT, CT, INSTANCE)
                self.send_c_store_request(3, mid, CT, INSTANCE, 0, "", 0, data)

        def on_receive_c_store_response(self, pid: int, mid: int, cls: str, inst: str, st: int) -> None:
            self.store(mid + 1)

    class Getting(Scu):
        def request(self) -> Any:
            return proposal({1: (STUDY_GET, EXPLICIT), 3: (CT, EXPLICIT)})

        def on_receive_c_store_request(self, pid: int, mid: int, cls: str, inst: str, *rest: Any) -> None:
            self.send_c_store_response(pid, mid, cls, inst, 0)

    listener = stage.listener(Retrieving)
    scu = stage.associated(listener.host_port, Getting, timeouts=quick("response"))
    scu.send_c_get_request(1, 1, STUDY_GET, 0, EncodedDataset(b"", EXPLICIT))
    assert stage.wait("SCU", "on_receive_c_get_response")[5] == number


def test_idle(stage: Stage) -> None:
    """No message on an open association: A-ABORT 2/0."""
    listener = stage.listener(timeouts=quick("idle"))
    with Wire.associated(listener.host_port) as wire:
        assert wire.hears() == pdu.Abort(2, 0)
    expired(stage, "listener", "idle")


def test_bytes_that_drip_are_idle(stage: Stage) -> None:
    """N6: a dripping peer does not extend the limits."""
    listener = stage.listener(timeouts=quick("idle"))
    data = store_rq(1, bytes(4000), longest=16)  # many small PDUs: each is complete at once
    with Wire.associated(listener.host_port) as wire:
        for position in range(0, len(data), 22):
            if not wire.tries_to_send(data[position : position + 22]) or not wire.is_quiet_for(0.01):
                break
    expired(stage, "listener", "idle")


def test_an_association_is_not_idle_while_we_owe_a_response(stage: Stage) -> None:
    """§2: a response may come from another thread, later."""

    class Later(Scp):
        def on_receive_c_echo_request(self, pid: int, mid: int, cls: str) -> None:
            pass

    scu, client = stage.pair(Later, timeouts=quick("idle"))
    scu.send_c_echo_request(1, 1, VERIFICATION)
    stage.wait("client", "on_receive_c_echo_request")
    assert not _ends_within(stage, 0.4)
    client.send_c_echo_response(1, 1, VERIFICATION, 0)
    stage.wait("SCU", "on_receive_c_echo_response")
    stage.wait("SCU", "on_close")


def _ends_within(stage: Stage, seconds: float) -> bool:
    with stage.recorder.changed:
        return stage.recorder.changed.wait_for(lambda: stage.entries("SCU", "on_close"), seconds) != []


def test_release(stage: Stage) -> None:
    """The peer does not confirm the release: A-ABORT 0/0."""
    heard = []
    with Scripted(lambda wire: (wire.hears(), wire.sends(AC), heard.extend(wire.hears_to_the_end()))) as script:
        stage.associated(script.port, timeouts=quick("release")).send_release_request()
        expired(stage, "SCU", "release")
    assert heard == [RELEASE_RQ, pdu.Abort(0, 0)]


def test_send(stage: Stage) -> None:
    """The peer does not read: in the middle of a PDU there is no room for an A-ABORT, the connection is cut."""
    with Scripted(lambda wire: (wire.hears(), wire.sends(AC), script.may_end.wait(GIVEN_UP))) as script:
        scu = stage.associated(script.port, timeouts=quick("send"))
        scu.send_c_store_request(3, 1, CT, INSTANCE, 0, "", 0, EncodedDataset(bytes(32 << 20), EXPLICIT, CT, INSTANCE))
        expired(stage, "SCU", "send")
        assert stage.wait("SCU", "on_send", 2)[0] == NetError.TIMEOUT_SEND


def test_send_while_the_peer_keeps_sending(stage: Stage) -> None:
    """Limits are absolute."""

    def script(wire: Wire) -> None:
        wire.hears()
        wire.sends(AC)
        mid = 0
        while wire.tries_to_send(echo_rq(mid % 60000 + 1)):
            mid += 1

    with Scripted(script) as scripted:
        scu = stage.associated(scripted.port, timeouts=quick("send"))
        scu.send_c_store_request(3, 1, CT, INSTANCE, 0, "", 0, EncodedDataset(bytes(32 << 20), EXPLICIT, CT, INSTANCE))
        expired(stage, "SCU", "send")


def test_send_while_closing(stage: Stage) -> None:
    """§2: ``close`` sends what is queued, within the limit."""
    with Scripted(lambda wire: (wire.hears(), wire.sends(AC), script.may_end.wait(GIVEN_UP))) as script:
        scu = stage.associated(script.port, timeouts=quick("send"))
        scu.send_c_store_request(3, 1, CT, INSTANCE, 0, "", 0, EncodedDataset(bytes(32 << 20), EXPLICIT, CT, INSTANCE))
        scu.close()
        expired(stage, "SCU", "send")


def test_a_response_while_closing(stage: Stage) -> None:
    """§2: what waits for room in the operations window does not wait for ever."""
    with Scripted(lambda wire: (wire.hears(), wire.sends(AC), wire.hears_to_the_end())) as script:
        scu = stage.associated(script.port, timeouts=quick("response"))
        scu.send_c_echo_request(1, 1, VERIFICATION)
        scu.send_c_echo_request(1, 2, VERIFICATION)
        scu.close()
        expired(stage, "SCU", "response")


def test_a_peer_that_does_not_close_is_left(stage: Stage) -> None:
    """9.1.5: after our last PDU the peer closes; past ``closing`` we do. Even if it keeps sending."""

    def script(wire: Wire) -> None:
        wire.hears()
        wire.sends(AC)
        while wire.tries_to_send(echo_rq(1)):
            pass

    with Scripted(script) as scripted:
        scu = stage.associated(scripted.port, Indifferent, timeouts=quick("closing"))
        scu.close()
        assert stage.wait("SCU", "on_close")[0] == NetError.SUCCESS


class Indifferent(Scu):
    """Leaves everything unanswered."""


def test_tls(stage: Stage) -> None:
    """``on_secure_link_ready(error)``, then ``on_close``."""
    import ssl

    with Scripted(lambda wire: script.may_end.wait(GIVEN_UP)) as script:
        stage.connected(script.port, security=ssl.create_default_context(), timeouts=quick("tls"))
        expired(stage, "SCU", "tls")
    assert stage.told("SCU") == ["on_connect", "on_secure_link_ready(TIMEOUT_TLS)", "on_close(TIMEOUT_TLS)"]


def test_none_switches_a_limit_off(stage: Stage) -> None:
    """``Timeouts``: None switches one off."""
    off = quick(**dict.fromkeys(("connect", "associate", "response", "idle", "release", "send", "pdu", "artim")))
    scu, _ = stage.pair(timeouts=off)
    scu.send_c_echo_request(1, 1, VERIFICATION)
    scu.send_release_request()
    assert stage.wait("SCU", "on_close")[0] == NetError.SUCCESS


def test_pending_responses_begin_the_limit_anew(stage: Stage) -> None:
    """From a request to its (next) response."""
    from dicomnet.dimse.messages import CommandField, Response
    from tests.faces.wire import message

    def script(wire: Wire) -> None:
        wire.hears()
        wire.sends(AC)
        wire.hears()
        wire.hears()  # the data set
        for _ in range(5):
            assert wire.is_quiet_for(0.08)
            wire.sends(message(1, Response(0xFF00, command=CommandField.C_MOVE, message_id=1)))
        wire.sends(message(1, Response(0, command=CommandField.C_MOVE, message_id=1)))
        wire.hears()

    with Scripted(script) as scripted:
        scu = stage.associated(scripted.port, timeouts=quick("response"))
        scu.send_c_move_request(1, 1, VERIFICATION, 0, "DEST", EncodedDataset(b"", "1.2.840.10008.1.2"))
        assert stage.wait("SCU", "on_receive_c_move_response", 6)[3] == 0
        scu.close()
