"""§2 of the contract: every ``send_*`` only queues; the queue is bounded; what has gone is told."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file

import dicomnet
from dicomnet import DeadlineExceeded, EncodedDataset, LocalProtocolError, QueueFull
from dicomnet.callbacks import DicomAssociate, DicomNet, NetError, PduType
from dicomnet.config import Limits
from tests.callbacks.recorder import (
    CT,
    EXPLICIT,
    GIVEN_UP,
    INSTANCE,
    VERIFICATION,
    Gate,
    Scp,
    Scu,
    Stage,
    eventually,
    proposal,
    quick,
)
from tests.faces.wire import AC, Scripted, Wire, echo_rsp

CT_FILE = Path(str(get_testdata_file("CT_small.dcm")))
BIG = 32 << 20  # bytes: more than socket buffers take


def encoded(size: int) -> EncodedDataset:
    return EncodedDataset(bytes(size), EXPLICIT, CT, INSTANCE)


class Blocked(Scp):
    """Reads nothing once its gate is reached: at the first C-ECHO."""

    gate: Gate

    def on_receive_c_echo_request(self, pid: int, mid: int, cls: str) -> None:
        self.gate.pass_()
        super().on_receive_c_echo_request(pid, mid, cls)


def windowed() -> DicomAssociate:
    """A request for an unlimited operations window, so that nothing but the socket holds requests back."""
    associate = proposal()
    associate.set_asynchronous_operations(True, 0, 0)
    return associate


class Windowed(Scu):
    def request(self) -> DicomAssociate:
        return windowed()


class Wide(Scp):
    """Grants what window is asked for."""

    def answer(self, associate: DicomAssociate) -> DicomAssociate:
        answer = super().answer(associate)
        answer.asynchronous_operations = associate.asynchronous_operations
        return answer


class BlockedWide(Blocked, Wide):
    pass


def blocked(stage: Stage, **options: Any) -> tuple[Any, Gate]:
    """An SCU whose peer does not read."""
    gate = stage.gate()
    cls = type("Blocked", (BlockedWide,), {"gate": gate})
    scu, _ = stage.pair(cls, Windowed, **options)
    scu.send_c_echo_request(1, 1, VERIFICATION)
    gate.wait_until_reached()
    return scu, gate


def test_a_call_returns_at_once_while_the_peer_does_not_read(stage: Stage) -> None:
    """§2: returns at once; ``queued`` tells how many bytes still wait."""
    scu, gate = blocked(stage)
    scu.send_c_store_request(3, 2, CT, INSTANCE, 0, "", 0, encoded(BIG))
    assert 0 < scu.queued <= BIG * 1.01
    stage.wait("SCU", "on_send", 2)
    assert len(stage.entries("SCU", "on_send")) == 2
    gate.open()
    stage.wait("SCU", "on_receive_c_store_response")
    assert scu.queued == 0


def test_on_send_comes_when_the_bytes_have_gone(stage: Stage) -> None:
    """§2: ``on_send(error, pdu_type, length)``; the length is what ``queued`` counted."""
    scu, gate = blocked(stage)
    scu.send_c_store_request(3, 2, CT, INSTANCE, 0, "", 0, encoded(BIG))
    gate.open()
    stage.wait("SCU", "on_receive_c_store_response")
    error, kind, length = stage.wait("SCU", "on_send", 3)
    assert (error, kind) == (NetError.SUCCESS, PduType.DATA_TRANSFER)
    assert BIG < length < BIG * 1.001


def test_any_thread_may_send(stage: Stage) -> None:
    """§2: may be called from any thread; messages never interleave (N-18)."""
    scu, client = stage.pair(Wide, Windowed)

    def send(first: int) -> None:
        for mid in range(first, first + 20):
            scu.send_c_store_request(3, mid, CT, INSTANCE, 0, "", 0, encoded(100_000))

    threads = [threading.Thread(target=send, args=(first,)) for first in (100, 200, 300, 400)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(GIVEN_UP)
    stage.wait("SCU", "on_receive_c_store_response", 80)
    order = [entry.arguments[1] for entry in stage.entries("client", "on_receive_c_store_request")]
    assert [mid for mid in order if 100 <= mid < 200] == list(range(100, 120))
    assert len(set(order)) == 80
    assert client.is_associated()


def test_a_dataset_may_be_changed_after_the_call(stage: Stage) -> None:
    """§2: the caller may change or drop its data set right after."""
    scu, gate = blocked(stage)
    dataset = dcmread(CT_FILE)
    before = bytes(EncodedDataset.from_dataset(dataset, EXPLICIT))
    scu.send_c_store_request(3, 2, CT, INSTANCE, 0, "", 0, dataset)
    dataset.PatientID = "CHANGED"
    dataset.PixelData = b"\0\0"
    gate.open()
    assert bytes(stage.wait("client", "on_receive_c_store_request")[-1]) == before


def test_a_file_may_be_removed_after_the_call(stage: Stage, tmp_path: Path) -> None:
    """§2."""
    scu, gate = blocked(stage)
    path = tmp_path / "large.dcm"
    encoded(BIG).save(path)
    scu.send_c_store_request(3, 2, CT, INSTANCE, 0, "", 0, path)
    path.unlink()
    gate.open()
    assert stage.wait("client", "on_receive_c_store_request")[-1].size == BIG


def test_a_full_queue_raises_in_a_callback(stage: Stage) -> None:
    """§2: past its limit a ``send_*`` raises ``QueueFull`` from a callback."""
    caught: list[Exception] = []

    class Greedy(Windowed):
        def on_receive_associate_accept(self, associate: DicomAssociate) -> None:
            try:
                for mid in range(1, 1000):
                    self.send_c_store_request(3, mid, CT, INSTANCE, 0, "", 0, encoded(1000))
            except QueueFull as error:
                caught.append(error)

    stage.associated(stage.listener(Wide).host_port, Greedy, limits=Limits(queue=20_000))
    eventually(lambda: caught, "the queue is full")
    number = len(stage.entries("SCU", "send_c_store_request")) - 1
    assert 15 < number < 21
    stage.wait("SCU", "on_receive_c_store_response", number)
    assert "bytes wait to be sent, 20000 may" in str(caught[0])


def test_a_full_queue_blocks_another_thread(stage: Stage) -> None:
    """§2: past its limit a ``send_*`` blocks from a foreign thread."""
    scu, gate = blocked(stage, limits=Limits(queue=1 << 20))
    scu.send_c_store_request(3, 2, CT, INSTANCE, 0, "", 0, encoded(BIG))
    returned = threading.Event()

    def send() -> None:
        scu.send_c_store_request(3, 3, CT, INSTANCE, 0, "", 0, encoded(1000))
        returned.set()

    thread = threading.Thread(target=send)
    thread.start()
    assert not returned.wait(0.1)
    gate.open()
    assert returned.wait(GIVEN_UP)
    thread.join()
    stage.wait("SCU", "on_receive_c_store_response", 2)


def test_a_thread_that_waits_for_room_hears_of_the_end(stage: Stage) -> None:
    """§2: nothing is queued for a connection that is closed."""
    scu, gate = blocked(stage, limits=Limits(queue=1 << 20))
    scu.send_c_store_request(3, 2, CT, INSTANCE, 0, "", 0, encoded(BIG))
    caught: list[Exception] = []

    def send() -> None:
        try:
            scu.send_c_store_request(3, 3, CT, INSTANCE, 0, "", 0, encoded(1000))
        except LocalProtocolError as error:
            caught.append(error)

    thread = threading.Thread(target=send)
    thread.start()
    scu.close_forced()
    thread.join(GIVEN_UP)
    assert "closed" in str(caught[0])
    gate.open()


def test_a_thread_does_not_wait_for_room_for_ever(stage: Stage) -> None:
    """§2: the time limit ``send``."""
    with Scripted(lambda wire: (wire.hears(), wire.sends(AC), script.may_end.wait(GIVEN_UP))) as script:
        scu = stage.associated(script.port, Windowed, limits=Limits(queue=1000), timeouts=quick("send", send=0.3))
        scu.send_c_store_request(3, 1, CT, INSTANCE, 0, "", 0, encoded(BIG))
        with pytest.raises((DeadlineExceeded, LocalProtocolError)):
            scu.send_c_store_request(3, 2, CT, INSTANCE, 0, "", 0, encoded(1000))


# --- operations window ----------------------------------------------------------------------------------------------


def test_without_a_window_one_request_is_outstanding(stage: Stage) -> None:
    """N-27: synchronous; requests that are queued wait for the response."""
    with Scripted(lambda wire: (wire.hears(), wire.sends(AC), synchronous(wire))) as script:
        scu = stage.associated(script.port)
        scu.send_c_echo_request(1, 1, VERIFICATION)
        scu.send_c_echo_request(1, 2, VERIFICATION)
        stage.wait("SCU", "on_receive_c_echo_response", 2)
        scu.close()


def synchronous(wire: Wire) -> None:
    for mid in (1, 2):
        assert wire.hears_message().message_id == mid
        assert wire.is_quiet_for(0.05)
        wire.sends(echo_rsp(mid))
    wire.hears()


def test_a_window_is_filled_and_not_passed(stage: Stage) -> None:
    """D.3.3.3: never more outstanding than negotiated."""

    class Three(Scu):
        def request(self) -> DicomAssociate:
            associate = proposal()
            associate.set_asynchronous_operations(True, 3, 1)
            return associate

    gate = stage.gate()
    seen: list[int] = []

    class Later(Wide):
        def on_receive_c_echo_request(self, pid: int, mid: int, cls: str) -> None:
            seen.append(mid)
            if len(seen) == 3:
                threading.Thread(target=self.answer_all, args=(pid, cls)).start()

        def answer_all(self, pid: int, cls: str) -> None:
            gate.pass_()
            for mid in (3, 1, 2):
                self.send_c_echo_response(pid, mid, cls, 0)

    scu, _ = stage.pair(Later, Three)
    assert scu.association.asynchronous_operations == (3, 1)
    for mid in (1, 2, 3, 4):
        scu.send_c_echo_request(1, mid, VERIFICATION)
    gate.wait_until_reached()
    assert seen == [1, 2, 3]
    assert scu.queued > 0
    gate.open()
    stage.wait("SCU", "on_receive_c_echo_response", 3)
    order = [entry.arguments[1] for entry in stage.entries("SCU", "on_receive_c_echo_response")]
    assert order == [3, 1, 2]


def test_responses_pass_requests_that_wait_for_room(stage: Stage) -> None:
    """§6: on one association both sides may ask; a response never waits behind a request."""

    class Asking(Scp):
        def on_receive_c_echo_request(self, pid: int, mid: int, cls: str) -> None:
            self.send_c_echo_request(pid, 50, cls)
            self.send_c_echo_request(pid, 51, cls)  # no room for this one until 50 is answered
            self.send_c_echo_response(pid, mid, cls, 0)

    class Answering(Scu):
        def on_receive_c_echo_request(self, pid: int, mid: int, cls: str) -> None:
            self.send_c_echo_response(pid, mid, cls, 0)

    scu, _ = stage.pair(Asking, Answering)
    scu.send_c_echo_request(1, 1, VERIFICATION)
    stage.wait("client", "on_receive_c_echo_response", 2)
    order = [line for line in stage.told("SCU", "on_receive", "on_receive_data") if "echo" in line]
    assert order == ["on_receive_c_echo_request", "on_receive_c_echo_response", "on_receive_c_echo_request"]


def test_a_cancel_passes_requests_that_wait_for_room(stage: Stage) -> None:
    """PS3.7 9.3.2.3: a C-CANCEL belongs to what is under way; but not before its own request."""
    gate = stage.gate()

    class Finding(Scp):
        def on_receive_c_find_request(self, pid: int, mid: int, cls: str, prio: int, ds: Any) -> None:
            gate.pass_()

        def on_receive_c_cancel_request(self, pid: int, mid: int) -> None:
            self.send_c_find_response(pid, mid, "1.2.840.10008.5.1.4.1.2.2.1", 0xFE00, None)

    scu, _ = stage.pair(Finding)
    query = Dataset()
    query.PatientID = "1"
    for mid in (1, 2):
        scu.send_c_find_request(7, mid, "1.2.840.10008.5.1.4.1.2.2.1", 0, query)
    gate.wait_until_reached()
    scu.send_c_cancel_request(7, 2)
    scu.send_c_cancel_request(7, 1)
    gate.open()
    stage.wait("SCU", "on_receive_c_find_response", 2)
    order = [
        (entry.name, entry.arguments[1])
        for entry in stage.recorder.entries
        if entry.who == "client" and entry.name in ("on_receive_c_find_request", "on_receive_c_cancel_request")
    ]
    assert order == [
        ("on_receive_c_find_request", 1),
        ("on_receive_c_cancel_request", 1),
        ("on_receive_c_find_request", 2),
        ("on_receive_c_cancel_request", 2),
    ]


# --- large data sets ------------------------------------------------------------------------------------------------


def test_a_large_file_is_sent_and_spooled_without_being_loaded(stage: Stage, tmp_path: Path) -> None:
    """§2, issue 2 part 3: memory stays flat."""
    size = 64 << 20
    path = tmp_path / "large.dcm"
    encoded(0).save(path)
    os.truncate(path, path.stat().st_size + size)
    spool = tmp_path / "spool"
    spool.mkdir()
    listener = stage.listener(spool_folder=spool)
    scu = stage.associated(listener.host_port, limits=Limits(queue=100_000))
    before = _peak()
    scu.send_c_store_request(3, 1, CT, INSTANCE, 0, "", 0, path)
    ds = stage.wait("client", "on_receive_c_store_request")[-1]
    assert ds.size == size
    assert len(list(spool.iterdir())) == 1
    assert _peak() - before < 48 << 10  # KiB
    ds.save(tmp_path / "saved.dcm")
    assert list(spool.iterdir()) == []


def _peak() -> int:
    """Peak resident memory in KiB, without what is mapped from files."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:  # not on this platform
        return 0
    return int(status.partition("RssAnon:")[2].split()[0])


def test_a_spool_that_fails_ends_the_association(stage: Stage, tmp_path: Path) -> None:
    """§2: nothing stays silent: ``on_close`` gets an error, the peer an A-ABORT."""
    listener = stage.listener(spool_folder=tmp_path / "missing", limits=Limits(spool_size=1000))
    scu = stage.associated(listener.host_port)
    scu.send_c_store_request(3, 1, CT, INSTANCE, 0, "", 0, CT_FILE)
    error, client = stage.wait("listener", "on_close")
    assert error == NetError.NETWORK
    assert isinstance(client.last_error, FileNotFoundError)
    assert stage.wait("SCU", "on_receive_abort") == (0, 0)
    assert stage.entries("client", "on_receive_c_store_request") == []


# --- release and abort in the queue ---------------------------------------------------------------------------------


def test_the_release_waits_for_what_was_queued_before(stage: Stage) -> None:
    """§2; the time limit of the release begins when it is sent."""
    scu, gate = blocked(stage, timeouts=quick("release"))
    scu.send_c_store_request(3, 2, CT, INSTANCE, 0, "", 0, encoded(BIG))
    scu.send_release_request()
    threading.Event().wait(0.3)  # longer than the limit
    gate.open()
    stage.wait("SCU", "on_receive_release_response")
    assert stage.wait("SCU", "on_close")[0] == NetError.SUCCESS
    assert "on_receive_c_store_response" in stage.told("SCU")


def test_an_abort_does_not_stand_in_line(stage: Stage) -> None:
    """PS3.8 7.3; §2: what never went is told as well."""
    scu, gate = blocked(stage, limits=Limits(queue=1 << 30))
    scu.send_c_store_request(3, 2, CT, INSTANCE, 0, "", 0, encoded(BIG))
    scu.send_c_store_request(3, 3, CT, INSTANCE, 0, "", 0, encoded(10))
    scu.send_abort(0, 0)
    gate.open()
    assert stage.wait("client", "on_receive_abort") == (0, 0)
    stage.wait("SCU", "on_close")
    sent = [(entry.arguments[0].name, entry.arguments[1].name) for entry in stage.entries("SCU", "on_send")]
    assert sorted(sent[2:]) == [("CLOSED", "DATA_TRANSFER"), ("CLOSED", "DATA_TRANSFER"), ("SUCCESS", "ABORT")]
    assert scu.queued == 0
    assert stage.entries("client", "on_receive_c_store_request") == []


# --- on_before_send_command_set -------------------------------------------------------------------------------------


def test_a_response_can_be_completed_before_it_goes(stage: Stage) -> None:
    """§3: ``on_before_send_command_set(cs)``: optional status elements such as (0000,0902) Error Comment."""

    class Talking(Scp):
        def on_before_send_command_set(self, cs: Dataset) -> None:
            cs.ErrorComment = "a\\b"
            cs.OffendingElement = [0x00100010]
            cs.ErrorID = 7
            del cs.Status  # what belongs there stays

    scu, _ = stage.pair(Talking)
    scu.send_c_echo_request(1, 1, VERIFICATION)
    cs = stage.wait("SCU", "on_receive_data")[1]
    assert (cs.Status, cs.ErrorID, cs.OffendingElement) == (0, 7, 0x00100010)
    assert list(cs.ErrorComment) == ["a", "b"] or cs.ErrorComment == "a\\b"
    assert stage.entries("SCU", "on_before_send_command_set") == []  # a request is none


def test_a_command_set_has_no_place_for_other_elements(stage: Stage) -> None:
    """§2, §3."""

    class Wrong(Scp):
        def on_before_send_command_set(self, cs: Dataset) -> None:
            cs.PatientName = "X"

    scu, _ = stage.pair(Wrong)
    scu.send_c_echo_request(1, 1, VERIFICATION)
    error = stage.wait("listener", "on_close")[0]
    assert isinstance(error, LocalProtocolError)
    stage.wait("SCU", "on_receive_abort")


# --- data sets going out --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["str", "path", "dataset", "encoded"])
def test_a_data_set_goes_out_from_whatever_holds_it(stage: Stage, kind: str) -> None:
    """§3: a path, a ``pydicom.Dataset``, or an ``EncodedDataset``."""
    made: dict[str, Any] = {
        "str": str(CT_FILE),
        "path": CT_FILE,
        "dataset": dcmread(CT_FILE),
        "encoded": EncodedDataset.from_file(CT_FILE),
    }
    scu, _ = stage.pair()
    scu.send_c_store_request(3, 1, CT, INSTANCE, 0, "", 0, made[kind])
    ds = stage.wait("client", "on_receive_c_store_request")[-1]
    assert isinstance(ds, EncodedDataset)
    assert ds.decode().PixelData == dcmread(CT_FILE).PixelData
    assert ds.transfer_syntax == EXPLICIT
    if kind != "dataset":
        assert CT_FILE.read_bytes().endswith(bytes(ds))


def test_a_received_data_set_stays_valid(stage: Stage, tmp_path: Path) -> None:
    """§3: it stays valid after the callback returns, and after the connection is closed."""
    listener = stage.listener(limits=Limits(spool_size=1000))
    scu = stage.associated(listener.host_port)
    scu.send_c_store_request(3, 1, CT, INSTANCE, 0, "", 0, CT_FILE)
    stage.wait("SCU", "on_receive_c_store_response")
    scu.close()
    stage.wait("listener", "on_close")
    ds = stage.wait("client", "on_receive_c_store_request")[-1]
    assert ds.decode().Modality == "CT"
    ds.save(tmp_path / "saved.dcm")
    meta = dcmread(tmp_path / "saved.dcm").file_meta
    assert (meta.SendingApplicationEntityTitle, meta.ReceivingApplicationEntityTitle) == ("SCU", "SCP")


def test_what_cannot_be_sent_is_refused_at_the_call(stage: Stage, tmp_path: Path) -> None:
    """§2: it validates and encodes at the call."""
    scu, _ = stage.pair()
    (tmp_path / "text").write_text("no DICOM")
    for data, error in (
        (tmp_path / "missing", FileNotFoundError),
        (tmp_path / "text", dicomnet.InvalidDataset),
        (get_testdata_file("JPEG2000.dcm"), dicomnet.NoAcceptedContext),
    ):
        with pytest.raises(error):
            scu.send_c_store_request(3, 1, CT, INSTANCE, 0, "", 0, data)
    assert scu.queued == 0
    assert scu.is_associated()


def test_an_idle_pair_uses_no_time(stage: Stage) -> None:
    """Issue 2 part 4: no polling anywhere."""
    stage.pair()
    eventually(lambda: len(stage.entries("SCU", "on_send")) == 1, "all is sent")
    before = time.process_time()
    threading.Event().wait(0.2)
    assert time.process_time() - before < 0.05


def test_a_plain_class_is_enough() -> None:
    """§2: only what is overridden is told."""
    done = threading.Event()

    class Plain(Scu):
        def on_receive_associate_accept(self, associate: DicomAssociate) -> None:
            self.send_c_echo_request(1, 1, VERIFICATION)

        def on_receive_c_echo_response(self, pid: int, mid: int, cls: str, st: int) -> None:
            self.send_release_request()

        def on_close(self, error: Any, net: DicomNet) -> None:
            done.set()

    with DicomNet.session():
        listener = Scp()
        listener.make_client = Scp
        listener.listen()
        Plain().connect("", 0, "127.0.0.1", listener.host_port)
        assert done.wait(GIVEN_UP)
