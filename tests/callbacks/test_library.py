"""§2 of the contract: the library's life, the wrong calls, and what may be overridden how."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydicom import Dataset

from dicomnet import LocalProtocolError, TransportError
from dicomnet.callbacks import DicomAssociate, DicomNet, NetError, Security
from tests.callbacks.recorder import (
    CT,
    INSTANCE,
    VERIFICATION,
    Scp,
    Scu,
    Stage,
    eventually,
    proposal,
)
from tests.faces.wire import Wire

# Every call with arguments that would be right, by its name.
MESSAGES: dict[str, tuple[Any, ...]] = {
    "send_c_store_request": (3, 1, CT, INSTANCE, 0, "", 0, None),
    "send_c_store_response": (3, 1, CT, INSTANCE, 0),
    "send_c_find_request": (1, 1, CT, 0, None),
    "send_c_find_response": (1, 1, CT, 0, None),
    "send_c_get_request": (1, 1, CT, 0, None),
    "send_c_get_response": (1, 1, CT, 0, 0, 0, 0, 0, None),
    "send_c_move_request": (1, 1, CT, 0, "DEST", None),
    "send_c_move_response": (1, 1, CT, 0, 0, 0, 0, 0, None),
    "send_c_cancel_request": (1, 1),
    "send_c_echo_request": (1, 1, VERIFICATION),
    "send_c_echo_response": (1, 1, VERIFICATION, 0),
    "send_n_report_request": (1, 1, CT, INSTANCE, 1, None),
    "send_n_report_response": (1, 1, CT, INSTANCE, 0, 1, None),
    "send_n_get_request": (1, 1, CT, INSTANCE, ()),
    "send_n_get_response": (1, 1, CT, INSTANCE, 0, None),
    "send_n_set_request": (1, 1, CT, INSTANCE, None),
    "send_n_set_response": (1, 1, CT, INSTANCE, 0, None),
    "send_n_action_request": (1, 1, CT, INSTANCE, 1, None),
    "send_n_action_response": (1, 1, CT, INSTANCE, 0, 1, None),
    "send_n_create_request": (1, 1, CT, INSTANCE, None),
    "send_n_create_response": (1, 1, CT, INSTANCE, 0, None),
    "send_n_delete_request": (1, 1, CT, INSTANCE),
    "send_n_delete_response": (1, 1, CT, INSTANCE, 0),
}
ASSOCIATION: dict[str, tuple[Any, ...]] = {
    "send_associate_request": (proposal(),),
    "send_associate_accept": (proposal(),),
    "send_associate_reject": (1, 1, 1),
    "send_release_request": (),
    "send_release_response": (),
    "send_abort": (0, 0),
}
CALLS = {**ASSOCIATION, **MESSAGES, "send_data": (1, Dataset(), None)}


# --- startup and shutdown -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["listen", "connect", *CALLS])
def test_before_startup_a_call_says_what_is_missing(call: str) -> None:
    """§2: calling anything before ``startup`` raises a clear error."""
    arguments = {"listen": ("", 0, 5), "connect": ("", 0, "127.0.0.1", 1)}.get(call) or CALLS[call]
    with pytest.raises(LocalProtocolError, match=rf"^{call}: call DicomNet.startup\(\) first$"):
        getattr(DicomNet(), call)(*arguments)


def test_the_last_shutdown_closes_what_is_open() -> None:
    """§2: startup and shutdown are counted."""
    stage = Stage()
    DicomNet.startup()
    DicomNet.startup()
    scu, client = stage.pair()
    DicomNet.shutdown()
    assert scu.is_associated()
    DicomNet.shutdown()
    assert not (scu.is_connected())
    assert not (client.is_connected())
    assert stage.told("SCU")[-1].startswith("on_close")


def test_one_shutdown_too_many_is_an_error() -> None:
    """§2: the library's resources go when the last ``startup`` is matched."""
    with pytest.raises(LocalProtocolError, match="without a matching"):
        DicomNet.shutdown()


def test_the_session_is_a_context_manager() -> None:
    """§2: ``with DicomNet.session():``."""
    with pytest.raises(ZeroDivisionError), DicomNet.session():
        listener = DicomNet()
        listener.listen("", 0, 5)
        raise ZeroDivisionError
    with pytest.raises(LocalProtocolError, match="startup"):
        listener.listen("", 0, 5)


def test_the_library_can_be_started_again(stage: Stage) -> None:
    """§2: both are a context manager, too, and can be nested."""
    with DicomNet.session():
        scu, _ = stage.pair()
    assert scu.is_associated()


def test_one_object_is_one_connection_or_one_listening_socket(stage: Stage) -> None:
    """§2."""
    scu, client = stage.pair()
    for net in (scu, client, client.server):
        with pytest.raises(LocalProtocolError, match="make another one"):
            net.listen("", 0, 5)
        with pytest.raises(LocalProtocolError, match="make another one"):
            net.connect("", 0, "127.0.0.1", client.server.host_port)


def test_an_object_can_be_used_again_when_it_is_closed(stage: Stage) -> None:
    """§2: callbacks of one object never overlap, not even those of one connection and the next."""

    class Stubborn(Scu):
        def on_close(self, error: Any, net: DicomNet) -> None:
            if len(stage.entries("SCU", "on_close")) == 1:
                self.connect("", 0, "127.0.0.1", port)
                gate.pass_()

    gate = stage.gate()
    port = stage.listener().host_port
    scu = stage.associated(port, Stubborn)
    scu.close()
    gate.wait_until_reached()
    assert len(stage.entries("SCU", "on_connect")) == 1
    gate.open()
    stage.wait("SCU", "on_receive_associate_accept", 2)
    assert scu.is_associated()


def test_an_object_that_is_still_being_closed_is_not_free(stage: Stage) -> None:
    """§2."""

    class Slow(Scu):
        def on_receive_associate_accept(self, associate: DicomAssociate) -> None:
            self.close()
            gate.pass_()

    gate = stage.gate()
    scu = stage.connected(stage.listener().host_port, Slow)
    gate.wait_until_reached()
    with pytest.raises(LocalProtocolError, match="still being closed"):
        scu.connect("", 0, "127.0.0.1", 1)
    gate.open()
    stage.wait("SCU", "on_close")


# --- calls in the wrong state ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", CALLS)
def test_without_a_connection_nothing_can_be_sent(stage: Stage, call: str) -> None:
    """§2: a call in the wrong state raises ``LocalProtocolError`` naming state and call."""
    with pytest.raises(LocalProtocolError, match=f"^{call}: there is no connection$"):
        getattr(DicomNet(), call)(*CALLS[call])


@pytest.mark.parametrize("call", CALLS)
def test_a_listening_object_does_not_speak(stage: Stage, call: str) -> None:
    """§2: a reply on the listening object."""
    with pytest.raises(LocalProtocolError, match=f"^{call}: this object listens"):
        getattr(stage.listener(), call)(*CALLS[call])


class Silent(DicomNet):
    """Does nothing of itself."""


@pytest.mark.parametrize("call", sorted(CALLS.keys() - {"send_associate_request"}))
def test_before_an_association_nothing_else_can_be_sent(stage: Stage, call: str) -> None:
    """§2: DIMSE before an association; nothing is sent."""
    scu = stage.connected(stage.listener().host_port, Silent)
    stage.wait("SCU", "on_connect")
    with pytest.raises(LocalProtocolError, match=rf"^{call} is not possible in state 1 \(IDLE\)$"):
        getattr(scu, call)(*CALLS[call])
    assert scu.queued == 0


@pytest.mark.parametrize("call", ["send_associate_request", "send_associate_accept", "send_associate_reject"])
def test_in_an_association_there_is_no_other(stage: Stage, call: str) -> None:
    """§2, PS3.8 9.1.1."""
    for net in stage.pair():
        with pytest.raises(LocalProtocolError, match=rf"^{call} is not possible in state 6 \(ESTABLISHED\)$"):
            getattr(net, call)(*CALLS[call])
    stage.recorder.entries.clear()


@pytest.mark.parametrize("call", MESSAGES)
def test_an_unknown_presentation_id_is_refused(stage: Stage, call: str) -> None:
    """§2: an unknown presentation ID; nothing is sent, and the association lives."""
    scu, _ = stage.pair()
    with pytest.raises(LocalProtocolError, match=f"^{call}: presentation context 77 was not accepted$"):
        getattr(scu, call)(77, *MESSAGES[call][1:])
    scu.send_c_echo_request(1, 1, VERIFICATION)
    stage.wait("SCU", "on_receive_c_echo_response")
    assert len(stage.entries("client", "on_receive")) == 2


def test_after_a_release_request_no_data_can_be_sent(stage: Stage) -> None:
    """§2, PS3.8 Table 9-10: no P-DATA in state 7."""

    class Slow(Scp):
        def on_receive_release_request(self) -> None:
            gate.pass_()

    gate = stage.gate()
    scu, client = stage.pair(Slow)
    scu.send_release_request()
    for call in ("send_release_request", "send_c_echo_request"):
        with pytest.raises(LocalProtocolError, match=f"^{call} is not possible in state"):
            getattr(scu, call)(*CALLS[call])
    assert not scu.is_associated()
    gate.wait_until_reached()
    client.send_release_response()
    with pytest.raises(LocalProtocolError, match=r"^send_release_response is not possible in state"):
        client.send_release_response()
    gate.open()
    stage.wait("SCU", "on_receive_release_response")


def test_after_the_end_nothing_can_be_sent(stage: Stage) -> None:
    """§2."""
    scu, _ = stage.pair()
    scu.close()
    with pytest.raises(LocalProtocolError, match=r"^send_c_echo_request is not possible: the connection is closed"):
        scu.send_c_echo_request(1, 1, VERIFICATION)
    stage.wait("SCU", "on_close")
    with pytest.raises(LocalProtocolError, match=r"^send_abort is not possible: the connection is closed"):
        scu.send_abort()


@pytest.mark.parametrize(
    ("call", "arguments", "why"),
    [
        ("send_c_echo_request", (1, 70000, VERIFICATION), "it must be in 0..65535"),
        ("send_c_echo_request", (1, "1", VERIFICATION), "no integer"),
        ("send_c_echo_response", (1, 1, VERIFICATION, 70000), "16-bit"),
        ("send_c_store_request", (3, 1, CT, INSTANCE, -1, "", 0, None), "it must be in 0..65535"),
        ("send_associate_reject", (9, 9, 9), "state 6"),
        ("send_data", (1, Dataset(), None), "Command Field"),
    ],
)
def test_a_value_without_encoding_is_refused_at_the_call(
    stage: Stage, call: str, arguments: tuple[Any, ...], why: str
) -> None:
    """§2: every ``send_*`` validates and encodes at the call."""
    scu, _ = stage.pair()
    with pytest.raises(LocalProtocolError, match=why):
        getattr(scu, call)(*arguments)
    assert scu.queued == 0
    assert scu.is_associated()


def test_a_message_id_in_use_is_refused(stage: Stage) -> None:
    """§2, N-23: message IDs are unique among outstanding requests."""

    class Slow(Scp):
        def on_receive_c_echo_request(self, pid: int, mid: int, cls: str) -> None:
            gate.pass_()
            super().on_receive_c_echo_request(pid, mid, cls)

    gate = stage.gate()
    scu, _ = stage.pair(Slow)
    scu.send_c_echo_request(1, 5, VERIFICATION)
    gate.wait_until_reached()
    with pytest.raises(LocalProtocolError, match="message ID 5 is in use"):
        scu.send_c_echo_request(1, 5, VERIFICATION)
    gate.open()
    stage.wait("SCU", "on_receive_c_echo_response")
    scu.send_c_echo_request(1, 5, VERIFICATION)
    stage.wait("SCU", "on_receive_c_echo_response", 2)


def test_accept_is_for_on_accept(stage: Stage) -> None:
    """§1, 3; §2."""
    listener = stage.listener()
    for net in (listener, DicomNet()):
        with pytest.raises(LocalProtocolError, match="call it inside on_accept"):
            net.accept(DicomNet())


def test_a_port_out_of_range_is_the_callers_fault(stage: Stage) -> None:
    """§2."""
    with pytest.raises(LocalProtocolError, match=r"0\.\.65535"):
        DicomNet().listen("", 70000, 5)
    with pytest.raises(LocalProtocolError, match=r"0\.\.65535"):
        DicomNet().connect("", 0, "127.0.0.1", 70000)


def test_iscl_is_named_and_refused() -> None:
    """§3: ISCL is obsolete and refused with a clear error."""
    with pytest.raises(LocalProtocolError, match=r"obsolete; use Security\.TLS"):
        DicomNet(Security.ISCL)


# --- overrides ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in dir(DicomNet) if name.startswith("on_")])
def test_a_wrong_signature_is_found_when_the_class_is_made(name: str) -> None:
    """§2: raises ``TypeError`` naming the expected one."""

    def override(self: DicomNet, one: int, two: int, three: int, /, *, four: int) -> None: ...

    with pytest.raises(TypeError, match=rf"^Wrong\.{name} must be a method \(self.*; this one takes"):
        type("Wrong", (DicomNet,), {name: override})


async def _coroutine(self: DicomNet, error: NetError) -> None: ...


@pytest.mark.parametrize("override", [_coroutine, staticmethod(print), property(print), None])
def test_what_is_no_method_is_found_when_the_class_is_made(override: Any) -> None:
    """§2."""
    with pytest.raises(TypeError, match=r"^Wrong\.on_connect must be a method \(self, error\), not a"):
        type("Wrong", (DicomNet,), {"on_connect": override})


def test_a_wrong_signature_in_a_mixin_is_found(stage: Stage) -> None:
    """§2."""

    class Mixin:
        def on_connect(self) -> None: ...

    with pytest.raises(TypeError, match=r"^Wrong\.on_connect must be"):
        type("Wrong", (Mixin, DicomNet), {})


def test_other_names_and_defaults_are_right() -> None:
    """§2: an override must be callable as its callback is, no more."""

    class Right(DicomNet):
        def on_connect(self, problem: NetError, extra: int = 0) -> None: ...
        def on_close(self, *arguments: Any) -> None: ...
        def on_something_of_its_own(self) -> None: ...

    assert Right().queued == 0


# --- close ----------------------------------------------------------------------------------------------------------

PHASES = [
    "on_connect",
    "on_receive",
    "on_receive_associate_accept",
    "on_receive_data",
    "on_receive_c_echo_response",
    "on_send",
    "on_receive_release_response",
    "on_close",
]


class Echoing(Scu):
    def on_receive_associate_accept(self, associate: DicomAssociate) -> None:
        self.send_c_echo_request(1, 1, VERIFICATION)

    def on_receive_c_echo_response(self, pid: int, mid: int, cls: str, st: int) -> None:
        self.send_release_request()


def closing_in(name: str, base: type[DicomNet]) -> type[DicomNet]:
    """Closes twice in the callback ``name``."""
    inherited: Callable[..., None] = getattr(base, name)

    def override(self: DicomNet, *arguments: Any) -> None:
        inherited(self, *arguments)
        self.close()
        self.close()

    return type("Closing", (base,), {name: override})


@pytest.mark.parametrize("name", PHASES)
def test_an_scu_may_close_twice_in_any_callback(stage: Stage, name: str) -> None:
    """§2: ``close()`` inside any callback is safe, twice is safe, and ``on_close`` comes exactly once."""
    listener = stage.listener()
    scu = stage.connected(listener.host_port, closing_in(name, Echoing))
    stage.wait("SCU", "on_close")
    stage.wait("listener", "on_close")
    scu.close()
    assert [line for line in stage.told("SCU") if "on_close" in line] == ["on_close"]
    assert len(stage.entries("listener", "on_close")) == 1
    assert not (scu.is_connected())
    assert not (scu.is_activated())


@pytest.mark.parametrize(
    "name",
    [
        "on_receive",
        "on_receive_associate_request",
        "on_receive_data",
        "on_receive_c_echo_request",
        "on_before_send_command_set",
        "on_send",
        "on_receive_release_request",
    ],
)
def test_a_client_may_close_twice_in_any_callback(stage: Stage, name: str) -> None:
    """§2."""
    listener = stage.listener(closing_in(name, Scp))
    stage.connected(listener.host_port, Echoing)
    stage.wait("SCU", "on_close")
    stage.wait("listener", "on_close")
    assert len(stage.entries("SCU", "on_close")) == len(stage.entries("listener", "on_close")) == 1


@pytest.mark.parametrize("name", ["on_accept", "on_close"])
def test_a_listening_object_may_close_in_its_callbacks(stage: Stage, name: str) -> None:
    """§2."""
    listener = stage.listener(closing_in(name, Scp))
    scu = stage.connected(listener.host_port, Echoing)
    stage.wait("SCU", "on_close")
    eventually(lambda: listener._listener.ended, "the listening object's thread ends")
    assert len(stage.entries("listener", "on_close")) == 1
    assert not scu.is_connected()
    assert not listener.is_activated()


def test_a_closing_listening_object_accepts_no_more(stage: Stage) -> None:
    """§2."""

    class Late(Scp):
        def on_accept(self, error: NetError) -> None:
            self.close()
            with pytest.raises(LocalProtocolError, match="closed or being closed"):
                super().on_accept(error)

    listener = stage.listener(Late)
    with Wire.to(listener.host_port) as wire:
        assert wire.hears() is None
    assert stage.entries("listener", "on_close") == []


def test_close_before_anything_is_safe(stage: Stage) -> None:
    """§2."""
    net = DicomNet()
    net.close()
    net.close_forced()


def test_close_from_another_thread_while_a_callback_runs(stage: Stage) -> None:
    """§2: no callback comes after it but ``on_close``."""

    class Slow(Echoing):
        def on_receive_associate_accept(self, associate: DicomAssociate) -> None:
            super().on_receive_associate_accept(associate)
            gate.pass_()

    gate = stage.gate()
    scu = stage.connected(stage.listener().host_port, Slow)
    gate.wait_until_reached()
    scu.close()
    gate.open()
    stage.wait("SCU", "on_close")
    assert stage.told("SCU")[-2:] == ["on_receive_associate_accept", "on_close"]


def test_what_was_queued_goes_out_before_the_connection_closes(stage: Stage) -> None:
    """§2: ``close`` sends what is queued, also what waits for room in the operations window."""
    scu, _ = stage.pair()
    for mid in range(1, 21):
        scu.send_c_echo_request(1, mid, VERIFICATION)
    scu.close()
    stage.wait("client", "on_receive_c_echo_request", 20)
    stage.wait("SCU", "on_close")
    assert [entry.arguments[0] for entry in stage.entries("SCU", "on_send")] == [NetError.SUCCESS] * 21


def test_a_forced_close_loses_what_is_queued_and_says_so(stage: Stage) -> None:
    """§3 ``close_forced``; §2: ``on_send`` tells."""

    class Slow(Scp):
        def on_receive_c_echo_request(self, pid: int, mid: int, cls: str) -> None:
            gate.pass_()

    gate = stage.gate()
    scu, _ = stage.pair(Slow)
    for mid in (1, 2, 3):
        scu.send_c_echo_request(1, mid, VERIFICATION)
    gate.wait_until_reached()
    scu.close_forced()
    stage.wait("SCU", "on_close")
    assert [entry.arguments[0].name for entry in stage.entries("SCU", "on_send")[2:]] == ["CLOSED", "CLOSED"]
    assert scu.queued == 0
    gate.open()


def test_a_port_in_use_is_reported(stage: Stage) -> None:
    """§5: address in use."""
    port = stage.listener().host_port
    other = DicomNet()
    with pytest.raises(TransportError, match="cannot listen"):
        other.listen("127.0.0.1", port, 5)
    assert not other.is_activated()
    other.listen("127.0.0.1", 0, 5)
