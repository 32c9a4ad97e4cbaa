"""§3 of the contract: the eleven message pairs and C-CANCEL, in both directions, with all their arguments."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from pydicom import Dataset

from dicomnet import EncodedDataset, LocalProtocolError, Status
from dicomnet.callbacks import CommandField, DicomNet, NetError, Priority
from tests.callbacks.recorder import CONTEXTS, MPPS, STUDY_FIND, Scp, Scu, Stage
from tests.faces.wire import Wire, message

PID, CLS, INST = 5, MPPS, "1.2.3.5"


def dataset(name: str) -> Dataset:
    ds = Dataset()
    ds.SOPInstanceUID = INST
    ds.StudyDescription = name
    return ds


DS = dataset("X")
COUNTS = (4, 3, 2, 1)
REQUESTS: dict[str, tuple[Any, ...]] = {
    "c_store": (PID, 1, CLS, INST, Priority.LOW, "MOVER", 77, DS),
    "c_find": (PID, 2, CLS, Priority.HIGH, DS),
    "c_get": (PID, 3, CLS, 1, DS),
    "c_move": (PID, 4, CLS, 2, "DEST", DS),
    "c_echo": (PID, 5, CLS),
    "n_report": (PID, 6, CLS, INST, 3, DS),
    "n_get": (PID, 7, CLS, INST, (0x00080018, 0x00100010)),
    "n_set": (PID, 8, CLS, INST, DS),
    "n_action": (PID, 9, CLS, INST, 2, DS),
    "n_create": (PID, 10, CLS, INST, DS),
    "n_delete": (PID, 11, CLS, INST),
}
RESPONSES: dict[str, tuple[Any, ...]] = {
    "c_store": (PID, 1, CLS, INST, 0xB000),
    "c_find": (PID, 2, CLS, 0xFE00, None),
    "c_get": (PID, 3, CLS, 0xB000, *COUNTS, DS),
    "c_move": (PID, 4, CLS, 0xA702, *COUNTS, DS),
    "c_echo": (PID, 5, CLS, 0x0122),
    "n_report": (PID, 6, CLS, INST, 0x0113, 3, DS),
    "n_get": (PID, 7, CLS, INST, 0x0001, DS),
    "n_set": (PID, 8, CLS, INST, 0x0107, DS),
    "n_action": (PID, 9, CLS, INST, 0x0123, 2, DS),
    "n_create": (PID, 10, CLS, INST, 0x0111, DS),
    "n_delete": (PID, 11, CLS, INST, 0x0112),
}
# The arguments' names, as the contract has them.
CONTRACT_REQUESTS = {
    "c_store": "pid, mid, cls, inst, prio, move_ae, move_message_id, ds",
    "c_find": "pid, mid, cls, prio, ds",
    "c_get": "pid, mid, cls, prio, ds",
    "c_move": "pid, mid, cls, prio, move_ae, ds",
    "c_cancel": "pid, mid",
    "c_echo": "pid, mid, cls",
    "n_report": "pid, mid, cls, inst, event, ds",
    "n_get": "pid, mid, cls, inst, attributes",
    "n_set": "pid, mid, cls, inst, ds",
    "n_action": "pid, mid, cls, inst, action, ds",
    "n_create": "pid, mid, cls, inst, ds",
    "n_delete": "pid, mid, cls, inst",
}
CONTRACT_RESPONSES = {
    "c_store": "pid, mid, cls, inst, st",
    "c_find": "pid, mid, cls, st, ds",
    "c_get": "pid, mid, cls, st, remaining, completed, failed, warning, ds",
    "c_move": "pid, mid, cls, st, remaining, completed, failed, warning, ds",
    "c_echo": "pid, mid, cls, st",
    "n_report": "pid, mid, cls, inst, st, event, ds",
    "n_get": "pid, mid, cls, inst, st, ds",
    "n_set": "pid, mid, cls, inst, st, ds",
    "n_action": "pid, mid, cls, inst, st, action, ds",
    "n_create": "pid, mid, cls, inst, st, ds",
    "n_delete": "pid, mid, cls, inst, st",
}


@pytest.mark.parametrize("kind", ["request", "response"])
@pytest.mark.parametrize("name", CONTRACT_REQUESTS)
def test_sending_and_receiving_have_the_arguments_of_the_contract(name: str, kind: str) -> None:
    """§3, the table: same arguments for ``send_X`` and ``on_receive_X``, in the original's order."""
    contract = (CONTRACT_REQUESTS if kind == "request" else CONTRACT_RESPONSES).get(name)
    if contract is None:  # C-CANCEL has no response
        assert not hasattr(DicomNet, f"send_{name}_{kind}")
        return
    for method in (f"send_{name}_{kind}", f"on_receive_{name}_{kind}"):
        assert list(inspect.signature(getattr(DicomNet, method)).parameters)[1:] == contract.split(", ")


def answers(name: str) -> Any:
    """A class that answers the request ``name`` with its response of the table."""

    def respond(self: Any, *arguments: Any) -> None:
        getattr(self, f"send_{name}_response")(*RESPONSES[name])

    return {f"on_receive_{name}_request": respond}


def seen(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """With data sets as what can be compared."""
    return tuple(
        part.decode().StudyDescription
        if isinstance(part, EncodedDataset)
        else part.StudyDescription
        if isinstance(part, Dataset)
        else part
        for part in arguments
    )


@pytest.mark.parametrize("direction", ["SCU to SCP", "SCP to SCU"])
@pytest.mark.parametrize("name", REQUESTS)
def test_each_pair_arrives_with_all_its_arguments(stage: Stage, name: str, direction: str) -> None:
    """§3, the table; §6, C-GET: either side may ask on the same association."""
    scp = type("Answering", (Scp,), answers(name))
    scu = type("Answering", (Scu,), answers(name))
    ends = dict(zip(("SCU", "client"), stage.pair(scp, scu), strict=True))
    asking, answering = ("SCU", "client") if direction == "SCU to SCP" else ("client", "SCU")
    getattr(ends[asking], f"send_{name}_request")(*REQUESTS[name])
    assert seen(stage.wait(asking, f"on_receive_{name}_response")) == seen(RESPONSES[name])
    assert seen(stage.wait(answering, f"on_receive_{name}_request")) == seen(REQUESTS[name])
    assert stage.told(asking)[-3:] == ["on_receive(DATA_TRANSFER)", "on_receive_data", f"on_receive_{name}_response"]


OPTIONAL: dict[str, tuple[Any, ...]] = {
    "send_c_store_request": (PID, 1, CLS, INST, 0, "", 0, None),
    "send_n_report_request": (PID, 6, CLS, INST, 3, None),
    "send_n_action_request": (PID, 9, CLS, INST, 2, None),
    "send_n_create_request": (PID, 10, CLS, "", None),
    "send_n_get_request": (PID, 7, CLS, INST, ()),
}


@pytest.mark.parametrize("name", OPTIONAL)
def test_what_may_be_left_out_arrives_as_nothing(stage: Stage, name: str) -> None:
    """§3: ``ds`` data set or None; empty ``move_ae``; ``inst`` that the SCP chooses; no attributes asks for all."""
    scu, _ = stage.pair(Mute)
    getattr(scu, name)(*OPTIONAL[name])
    assert stage.wait("client", name.replace("send", "on_receive")) == OPTIONAL[name]


class Mute(Scp):
    """Answers no DIMSE request."""

    def on_receive_c_store_request(self, *arguments: Any) -> None:
        pass


def test_counts_that_are_none_are_left_out(stage: Stage) -> None:
    """§3: remaining, completed, failed, warning."""

    class Moving(Scp):
        def on_receive_c_move_request(self, pid: int, mid: int, cls: str, *rest: Any) -> None:
            self.send_c_move_response(pid, mid, cls, 0xFF00, 2, 0, 0, 0, None)
            self.send_c_move_response(pid, mid, cls, 0, None, 2, None, 0, None)

    scu, _ = stage.pair(Moving)
    scu.send_c_move_request(*REQUESTS["c_move"])
    assert stage.wait("SCU", "on_receive_c_move_response", 1)[3:] == (0xFF00, 2, 0, 0, 0, None)
    assert stage.wait("SCU", "on_receive_c_move_response", 2)[3:] == (0, None, 2, None, 0, None)


def test_c_cancel_arrives(stage: Stage) -> None:
    """§3: c_cancel: pid, mid (request only)."""
    scu, _ = stage.pair()
    scu.send_c_cancel_request(PID, 42)
    assert stage.wait("client", "on_receive_c_cancel_request") == (PID, 42)


@pytest.mark.parametrize("status", [0, 0x0001, 0xFF00, 0x1234, 0xC123, 0xFFFF, Status.OUT_OF_RESOURCES])
def test_any_16_bit_number_is_a_status(stage: Stage, status: int) -> None:
    """§3: ``st`` status (any 16-bit number, named or not)."""

    class Answering(Scp):
        def on_receive_c_echo_request(self, pid: int, mid: int, cls: str) -> None:
            self.send_c_echo_response(pid, mid, cls, status)

    scu, _ = stage.pair(Answering)
    scu.send_c_echo_request(1, 1, CLS)
    st = stage.wait("SCU", "on_receive_c_echo_response")[-1]
    assert st == status
    assert isinstance(st, Status)


@pytest.mark.parametrize("tags", [[0x00080018], [(0x0008, 0x0018)], (tag for tag in (0x00080018,))])
def test_attributes_are_tags_however_they_are_given(stage: Stage, tags: Any) -> None:
    """§3, N-GET."""
    scu, _ = stage.pair()
    scu.send_n_get_request(PID, 7, CLS, INST, tags)
    assert stage.wait("client", "on_receive_n_get_request")[-1] == (0x00080018,)


# --- low level ------------------------------------------------------------------------------------------------------


def command(field: int, **elements: Any) -> Dataset:
    cs = Dataset()
    cs.CommandField = field
    for keyword, value in elements.items():
        setattr(cs, keyword, value)
    return cs


def test_send_data_sends_any_message(stage: Stage) -> None:
    """§3: ``send_data(presentation_id, cs, ds)``."""
    scu, _ = stage.pair()
    cs = command(CommandField.C_STORE, MessageID=9, AffectedSOPClassUID=CLS, AffectedSOPInstanceUID=INST, Priority=0)
    cs.ErrorID = 5  # which this message does not have
    scu.send_data(PID, cs, DS)
    pid, arrived, ds = stage.wait("client", "on_receive_data")
    assert (pid, arrived.MessageID, arrived.ErrorID) == (PID, 9, 5)
    assert ds.decode() == DS
    assert stage.wait("client", "on_receive_c_store_request")[1:4] == (9, CLS, INST)
    assert "CommandDataSetType" not in cs  # the caller's own is not touched


@pytest.mark.parametrize("ds", [None, DS])
def test_an_unknown_command_field_is_told(stage: Stage, ds: Dataset | None) -> None:
    """§3: ``on_receive_unknown(presentation_id, cs, ds)``; N-24: its answer is the user's, 0211H."""
    scu, _ = stage.pair()
    scu.send_data(PID, command(0x7777, MessageID=3), ds)
    pid, cs, arrived = stage.wait("client", "on_receive_unknown")
    assert (pid, cs.CommandField, cs.MessageID) == (PID, 0x7777, 3)
    assert (arrived is None) is (ds is None)
    assert stage.told("client")[-3:] == ["on_receive(DATA_TRANSFER)", "on_receive_data", "on_receive_unknown"]


def test_an_unknown_message_is_told_to_who_watches_nothing_else() -> None:
    """§3: also without ``on_receive_data``."""
    import threading

    done = threading.Event()

    class Unwatched(Scp):
        def on_receive_unknown(self, presentation_id: int, cs: Dataset, ds: EncodedDataset | None) -> None:
            done.set()

    with DicomNet.session():
        listener = Unwatched()
        listener.make_client = Unwatched
        listener.listen("", 0, 5)
        with Wire.associated(listener.host_port) as wire:
            from dicomnet.dimse import command as encoding

            unknown = {encoding.COMMAND_FIELD: 0x7777, encoding.MESSAGE_ID: 1, encoding.DATA_SET_TYPE: 0x0101}
            body = encoding.encode(unknown)  # type: ignore[arg-type]
            wire.sends(b"\x04\0" + (len(body) + 6).to_bytes(4) + (len(body) + 2).to_bytes(4) + b"\x01\x03" + body)
            assert done.wait(20)


def test_a_request_that_lacks_what_it_needs_is_told_as_unknown(stage: Stage) -> None:
    """§3; N-24: a mistyped argument; the user may answer 0212H."""
    scu, _ = stage.pair()
    scu.send_data(PID, command(CommandField.C_STORE, MessageID=3), DS)
    assert stage.wait("client", "on_receive_unknown")[1].MessageID == 3


@pytest.mark.parametrize(
    ("cs", "why"),
    [
        (Dataset(), "Command Field"),
        (command(0x0030), r"\(0000,0110\)"),
        (command(0x8030), r"\(0000,0120\)"),
        (DS, "no place in a command set"),
    ],
)
def test_a_command_set_that_is_none_is_refused(stage: Stage, cs: Dataset, why: str) -> None:
    """§2: validated at the call."""
    scu, _ = stage.pair()
    with pytest.raises(LocalProtocolError, match=why):
        scu.send_data(PID, cs, None)


def test_a_command_set_of_a_peer_is_shown_as_it_came(stage: Stage) -> None:
    """§3: values that pydicom would warn about do not disturb."""
    from dicomnet.dimse.messages import Request

    listener = stage.listener()
    with Wire.associated(listener.host_port) as wire:
        wire.sends(message(1, Request(CommandField.C_ECHO, 1, "not a UID " * 10)))
        wire.hears()
    assert stage.wait("client", "on_receive_c_echo_request")[2].startswith("not a UID")
    assert stage.entries("listener", "on_accept")[0].arguments == (NetError.SUCCESS,)


def test_identifiers_go_out_in_the_contexts_transfer_syntax(stage: Stage) -> None:
    """§3: data sets are encoded for the context that carries them."""
    scu, _ = stage.pair()
    scu.send_c_find_request(7, 1, STUDY_FIND, 0, DS)
    ds = stage.wait("client", "on_receive_c_find_request")[-1]
    assert ds.transfer_syntax == CONTEXTS[7][1]
    assert ds.decode() == DS


def test_command_sets_survive_being_shown() -> None:
    """§3: whatever a peer sent: what does not fit its VR, several tags, texts with backslashes, nothing."""
    from dicomnet.callbacks import commands

    elements: Any = {
        0x0100: 0x30,
        0x0110: b"\1\2\3",
        0x0901: (0x00100010, 0x00100020),
        0x0902: "a\\b",
        0x0903: 0,
        0x1000: "1.2.3",
        0x1005: (0x00100010,),
        0x7777: b"unknown",
    }
    shown = commands.as_dataset(elements)
    assert commands.as_command_set(shown) == elements
    shown.ErrorComment = None
    shown.AttributeIdentifierList = None
    assert commands.as_command_set(shown).keys() == elements.keys() - {0x0902, 0x1005}
