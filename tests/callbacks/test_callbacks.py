"""§2 of the contract: in which order callbacks come, on which thread, and what becomes of an exception out of one."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest
from pydicom import Dataset

from dicomnet import EncodedDataset, Status
from dicomnet.callbacks import DicomAssociate, DicomNet, NetError, PduType
from tests.callbacks.recorder import (
    CT,
    EXPLICIT,
    INSTANCE,
    VERIFICATION,
    Scp,
    Scu,
    Stage,
    eventually,
    proposal,
    quick,
)
from tests.faces.wire import ABORT, AC, RQ, Scripted, Wire, echo_rq, store_rq


class Storing(Scu):
    """One C-STORE, one C-ECHO, and the release."""

    def on_receive_associate_accept(self, associate: DicomAssociate) -> None:
        self.send_c_store_request(3, 1, CT, INSTANCE, 0, "", 0, EncodedDataset(b"", EXPLICIT, CT, INSTANCE))

    def on_receive_c_store_response(self, pid: int, mid: int, cls: str, inst: str, st: Status) -> None:
        self.send_c_echo_request(1, 2, VERIFICATION)

    def on_receive_c_echo_response(self, pid: int, mid: int, cls: str, st: Status) -> None:
        self.send_release_request()


# --- order ----------------------------------------------------------------------------------------------------------


def test_each_message_is_told_three_times_in_order(stage: Stage) -> None:
    """§2: ``on_receive`` → for DIMSE only, ``on_receive_data`` → ``on_receive_<message>``."""
    stage.connected(stage.listener().host_port, Storing)
    stage.wait("listener", "on_close")
    assert stage.told("client") == [
        "on_receive(ASSOCIATE_REQUEST)",
        "on_receive_associate_request",
        "on_receive(DATA_TRANSFER)",
        "on_receive_data",
        "on_receive_c_store_request",
        "on_receive(DATA_TRANSFER)",
        "on_receive_data",
        "on_receive_c_echo_request",
        "on_receive(RELEASE_REQUEST)",
        "on_receive_release_request",
    ]


def test_an_abort_is_told_after_on_receive(stage: Stage) -> None:
    """§2: association, release and abort PDUs have no ``on_receive_data``."""
    listener = stage.listener()
    with Wire.associated(listener.host_port) as wire:
        wire.sends(ABORT)
        stage.wait("listener", "on_close")
    assert stage.told("client")[-2:] == ["on_receive(ABORT)", "on_receive_abort"]


def test_several_messages_of_one_segment_come_in_order(stage: Stage) -> None:
    """P7: several requests in one segment: all told, in order, each before the next."""
    listener = stage.listener()
    with Wire.associated(listener.host_port) as wire:
        wire.sends(b"".join(echo_rq(mid) for mid in range(1, 6)))
        assert [wire.hears_message().message_id for _ in range(5)] == [1, 2, 3, 4, 5]
    stage.wait("listener", "on_close")
    echoes = [line for line in stage.lines("client") if "echo" in line]
    assert echoes == ["client on_receive_c_echo_request", "client: send_c_echo_response"] * 5


def test_on_receive_shows_the_pdu_or_the_command_set(stage: Stage) -> None:
    """§3: ``on_receive(error, pdu_type, buffer)``."""
    listener = stage.listener()
    with Wire.associated(listener.host_port) as wire:
        wire.sends(echo_rq(1))
        wire.hears()
    error, kind, buffer = stage.wait("client", "on_receive", 1)
    assert (error, kind, buffer[0]) == (NetError.SUCCESS, PduType.ASSOCIATE_REQUEST, 1)
    assert stage.wait("client", "on_receive", 2)[2] == echo_rq(1)[12:]


def test_on_receive_data_shows_command_set_and_data_set(stage: Stage) -> None:
    """§3: ``on_receive_data(presentation_id, cs, ds)``."""
    stage.connected(stage.listener().host_port, Storing)
    pid, cs, ds = stage.wait("client", "on_receive_data", 1)
    assert (pid, cs.MessageID, cs.AffectedSOPInstanceUID) == (3, 1, INSTANCE)
    assert isinstance(cs, Dataset)
    assert ds is stage.wait("client", "on_receive_c_store_request")[-1]
    assert stage.wait("client", "on_receive_data", 2)[2] is None


def test_nothing_is_answered_by_itself(stage: Stage) -> None:
    """§2: no automatic replies."""

    class Mute(DicomNet):
        make_client: Any

        def on_accept(self, error: NetError) -> None:
            self.accept(self.make_client())

    listener = stage.listener(Mute)
    with Wire.to(listener.host_port) as wire:
        wire.sends(RQ)
        client = stage.wait("client", "on_receive_associate_request") and listener.clients[0]
        assert wire.is_quiet_for(0.05)
        client.send_associate_accept(DicomAssociate.accepting(DicomAssociate.from_request(RQ), [VERIFICATION, CT]))
        wire.hears()
        wire.sends(echo_rq(1), store_rq(2))
        stage.wait("client", "on_receive_c_store_request")
        assert wire.is_quiet_for(0.05)
        client.send_c_echo_response(1, 1, VERIFICATION, 0)
        client.send_c_store_response(3, 2, CT, INSTANCE, 0)
        assert [wire.hears_message().message_id for _ in range(2)] == [1, 2]
        wire.sends(b"\x05\0\0\0\0\x04\0\0\0\0")
        stage.wait("client", "on_receive_release_request")
        assert wire.is_quiet_for(0.05)


# --- threads --------------------------------------------------------------------------------------------------------


def test_callbacks_of_one_object_come_on_one_thread_that_is_not_the_callers(stage: Stage) -> None:
    """§2: they never overlap and never run on the caller's stack."""
    stage.connected(stage.listener().host_port, Storing)
    stage.wait("listener", "on_close")
    stage.wait("SCU", "on_close")
    threads = {
        who: {entry.thread for entry in stage.recorder.entries if entry.who == who and not entry.is_call}
        for who in ("SCU", "client", "listener")
    }
    assert all(len(own) == 1 for own in threads.values())
    assert len(set.union(*threads.values(), {threading.get_ident()})) == 4


def test_a_call_inside_a_callback_returns_before_the_next_callback(stage: Stage) -> None:
    """§2: a callback is never called out of a call, not even where its answer is there at once."""
    nested: list[str] = []

    class Watching(Storing):
        inside = False

        def on_receive(self, error: NetError, pdu_type: int, buffer: bytes) -> None:
            nested.extend(["on_receive"] * self.inside)

        def on_send(self, error: NetError, pdu_type: int, length: int) -> None:
            nested.extend(["on_send"] * self.inside)

        def on_receive_associate_accept(self, associate: DicomAssociate) -> None:
            self.inside = True
            super().on_receive_associate_accept(associate)
            threading.Event().wait(0.05)  # the answer is there meanwhile
            self.inside = False

    stage.connected(stage.listener().host_port, Watching)
    stage.wait("SCU", "on_close")
    assert nested == []


def test_a_callback_that_blocks_stalls_only_its_own_connection(stage: Stage) -> None:
    """§2; K4."""
    gate = stage.gate()

    class Stalling(Scp):
        def on_receive_c_echo_request(self, pid: int, mid: int, cls: str) -> None:
            if mid == 13:
                gate.pass_()
            super().on_receive_c_echo_request(pid, mid, cls)

    listener = stage.listener(Stalling)
    with Wire.associated(listener.host_port) as stalled, Wire.associated(listener.host_port) as other:
        stalled.sends(echo_rq(13))
        gate.wait_until_reached()
        other.sends(echo_rq(1))
        assert other.hears_message().message_id == 1
        with Wire.associated(listener.host_port) as third:
            third.sends(echo_rq(2))
            assert third.hears_message().message_id == 2
        assert stalled.is_quiet_for(0)
        gate.open()
        assert stalled.hears_message().message_id == 13


def test_a_socket_is_not_read_while_a_callback_runs(stage: Stage) -> None:
    """§2: back-pressure: the peer that goes on sending comes to a halt."""
    gate = stage.gate()

    class Stalling(Scp):
        def on_receive_c_store_request(self, *arguments: Any) -> None:
            gate.pass_()
            super().on_receive_c_store_request(*arguments)

    listener = stage.listener(Stalling)
    with Wire.associated(listener.host_port) as wire:
        wire.sends(store_rq(1))
        gate.wait_until_reached()
        wire.socket.settimeout(0.1)
        piece, sent = store_rq(2, bytes(1 << 20)), 0
        with pytest.raises(TimeoutError):
            while sent < 256 << 20:
                sent += wire.socket.send(piece)
        gate.open()
    stage.wait("listener", "on_close")


# --- exceptions -----------------------------------------------------------------------------------------------------


class Oops(Exception):
    pass


def failing(name: str, base: type[DicomNet], error: BaseException) -> type[DicomNet]:
    inherited = getattr(base, name)

    def override(self: DicomNet, *arguments: Any) -> None:
        inherited(self, *arguments)
        raise error

    return type("Failing", (base,), {name: override})


ASSOCIATED = [
    "on_receive_data",
    "on_receive_c_store_response",
    "on_receive_c_echo_response",
    "on_receive_associate_accept",
]


@pytest.mark.parametrize("name", ["on_connect", "on_receive", "on_send", *ASSOCIATED, "on_receive_release_response"])
def test_an_exception_out_of_an_scus_callback_reaches_on_close(
    stage: Stage, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """§2: it is logged with its traceback, aborts that association and reaches ``on_close`` as the error."""
    error = Oops("in the user's code")
    listener = stage.listener()
    scu = stage.connected(listener.host_port, failing(name, Storing, error))
    told, net = stage.wait("SCU", "on_close")
    assert (told, net) == (error, scu)
    assert scu.last_error is error
    stage.wait("listener", "on_close")
    if name in ASSOCIATED:
        assert stage.wait("client", "on_receive_abort") == (0, 0)
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert f"{name} failed" in record.getMessage()
    assert record.exc_info
    assert record.exc_info[1] is error


@pytest.mark.parametrize(
    "name",
    [
        "on_receive",
        "on_receive_associate_request",
        "on_receive_data",
        "on_receive_c_store_request",
        "on_before_send_command_set",
        "on_send",
        "on_receive_release_request",
    ],
)
def test_an_exception_out_of_a_clients_callback_reaches_the_listeners_on_close(stage: Stage, name: str) -> None:
    """§2; and the library lives: the next association is served."""
    error = Oops("in the user's code")
    broken = stage.listener(failing(name, Scp, error))
    stage.connected(broken.host_port, Storing)
    told, client = stage.wait("listener", "on_close")
    assert told is error
    assert client.server is broken
    stage.wait("SCU", "on_close")
    scu = stage.connected(broken.host_port, Storing)
    stage.wait("listener", "on_close", 2)
    assert not scu.is_associated()


def test_an_exception_out_of_on_abort_reaches_on_close(stage: Stage) -> None:
    """§2."""
    error = Oops("in the user's code")
    listener = stage.listener(failing("on_receive_abort", Scp, error))
    with Wire.associated(listener.host_port) as wire:
        wire.sends(ABORT)
        assert stage.wait("listener", "on_close")[0] is error


def test_an_exception_out_of_on_accept_closes_that_client(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """§2: and the listening object goes on."""
    error = Oops("in the user's code")
    listener = stage.listener(failing("on_accept", Scp, error))
    for number in (1, 2):
        with Wire.to(listener.host_port) as wire:
            assert wire.hears() is None
        assert stage.wait("listener", "on_close", number)[0] is error
    assert "on_accept failed" in caplog.text


def test_an_exception_before_accept_closes_the_connection(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """§2."""

    class Refusing(DicomNet):
        make_client: Any

        def on_accept(self, error: NetError) -> None:
            raise Oops("in the user's code")

    listener = stage.listener(Refusing)
    with Wire.to(listener.host_port) as wire:
        assert wire.hears() is None
    assert stage.entries("listener", "on_close") == []
    assert "in the user's code" in caplog.text
    assert listener.is_activated()


@pytest.mark.parametrize("who", ["SCU", "listener"])
def test_an_exception_out_of_on_close_is_logged(stage: Stage, who: str, caplog: pytest.LogCaptureFixture) -> None:
    """§2: never stays silent, never kills the library's threads."""
    error = Oops("in the user's code")
    listener = stage.listener(failing("on_close", Scp, error) if who == "listener" else Scp)
    for number in (1, 2):
        stage.connected(listener.host_port, failing("on_close", Storing, error) if who == "SCU" else Storing)
        stage.wait(who, "on_close", number)
    eventually(lambda: caplog.text.count("in the user's code") == 2, "both are logged")


def test_an_exception_out_of_on_connect_of_a_failed_connection_is_logged(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """§2, §6: there is no ``on_close`` to reach."""
    listener = stage.listener()
    port = listener.host_port
    listener.close()
    eventually(lambda: listener._listener.ended, "the port is closed")
    stage.connected(port, failing("on_connect", Scu, Oops("in the user's code")))
    eventually(lambda: "on_connect failed" in caplog.text, "it is logged")
    assert stage.told("SCU") == ["on_connect(REFUSED)"]


def test_sys_exit_in_a_callback_does_not_stay_silent(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """§2: whatever comes out."""
    error = SystemExit(3)
    stage.connected(stage.listener().host_port, failing("on_receive_c_echo_response", Storing, error))
    assert stage.wait("SCU", "on_close")[0] is error
    assert stage.wait("client", "on_receive_abort") == (0, 0)


def test_a_peers_fault_is_one_line_without_a_traceback(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """Upper layer §4: one log line, no traceback for a peer's fault."""
    listener = stage.listener()
    with Wire.to(listener.host_port) as wire:
        wire.sends(b"GET / HTTP/1.1\r\n\r\n").hears()
    stage.wait("listener", "on_close")
    assert len(caplog.records) == 1
    assert not caplog.records[0].exc_info


def test_a_peer_that_answers_before_a_callback_returns_is_heard_after_it(stage: Stage) -> None:
    """§2: a time limit does not pass because a callback took long: the answer is there."""

    class Slow(Scu):
        def on_receive_associate_accept(self, associate: DicomAssociate) -> None:
            self.send_c_echo_request(1, 1, VERIFICATION)
            self.send_c_echo_request(1, 2, VERIFICATION)

        def on_receive_c_echo_response(self, pid: int, mid: int, cls: str, st: Status) -> None:
            if mid == 1:
                threading.Event().wait(0.4)  # longer than the limit of the second request
            else:
                self.send_release_request()

    listener = stage.listener()
    stage.connected(listener.host_port, Slow, timeouts=quick("response", "idle"))
    assert stage.wait("SCU", "on_close")[0] == NetError.SUCCESS


def test_what_comes_with_the_end_is_told_before_it(stage: Stage) -> None:
    """§6: the peer's last words count."""

    def script(wire: Wire) -> None:
        wire.hears()
        wire.sends(AC, ABORT)

    with Scripted(script) as scripted:
        stage.connected(scripted.port)
        assert stage.wait("SCU", "on_close")[0] == NetError.ABORTED
    assert stage.told("SCU") == [
        "on_connect",
        "on_receive(ASSOCIATE_ACCEPT)",
        "on_receive_associate_accept",
        "on_receive(ABORT)",
        "on_receive_abort",
        "on_close(ABORTED)",
    ]


def test_the_association_is_what_was_negotiated(stage: Stage) -> None:
    """§3: ``association`` is None before, and the negotiated ``DicomAssociate`` after."""
    listener = stage.listener()
    scu = stage.scu()
    assert scu.association is None
    scu.connect("", 0, "127.0.0.1", listener.host_port)
    stage.wait("SCU", "on_receive_associate_accept")
    client = listener.clients[0]
    assert str(scu.association) == str(client.association)
    assert scu.association.presentation_context_count == len(proposal()._contexts)


def test_an_answer_to_who_has_gone_is_nobodys_fault(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """§2, §4 of the upper layer: a peer that asks and aborts in one segment leaves no traceback in our log."""
    listener = stage.listener()
    with Wire.associated(listener.host_port) as wire:
        wire.sends(echo_rq(1), ABORT)
        assert stage.wait("listener", "on_close")[0] == NetError.ABORTED
    assert stage.told("client")[-4:] == [
        "on_receive_data",
        "on_receive_c_echo_request",
        "on_receive(ABORT)",
        "on_receive_abort",
    ]
    assert not any(record.exc_info for record in caplog.records)
