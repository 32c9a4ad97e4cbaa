"""§6 of the contract: the order of events in the other cases, as transcripts."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from pydicom import Dataset

from dicomnet import EncodedDataset
from dicomnet.callbacks import DicomAssociate, NetError
from dicomnet.config import Limits
from dicomnet.ul import pdu
from tests.callbacks.recorder import (
    CT,
    EXPLICIT,
    IMPLICIT,
    INSTANCE,
    STUDY_FIND,
    STUDY_GET,
    STUDY_MOVE,
    VERIFICATION,
    Scp,
    Scu,
    Stage,
    proposal,
)
from tests.faces.wire import AC, RELEASE_RP, RELEASE_RQ, RQ, Scripted, Wire, echo_rq, echo_rsp, store_rq

HIDE = ("on_send", "on_before_send_command_set")


def spoken(stage: Stage, start: str) -> list[str]:
    """What both ends say and hear from ``start`` on."""
    lines = stage.lines("SCU", "client", hide=HIDE)
    return lines[lines.index(start) :]


def query() -> Dataset:
    ds = Dataset()
    ds.QueryRetrieveLevel = "STUDY"
    ds.StudyInstanceUID = "1.2.3"
    return ds


# --- reject ---------------------------------------------------------------------------------------------------------


def test_reject(stage: Stage) -> None:
    """§6: ``on_receive``, ``on_receive_associate_reject`` → ``close()``; ``listener.on_close(err, client)``."""

    class Rejecting(Scp):
        def on_receive_associate_request(self, associate: DicomAssociate) -> None:
            self.send_associate_reject(1, 1, 3)

    class Rejected(Scu):
        def on_receive_associate_reject(self, result: int, source: int, reason: int) -> None:
            self.close()

    listener = stage.listener(Rejecting)
    stage.connected(listener.host_port, Rejected)
    assert stage.wait("listener", "on_close")[0] == NetError.SUCCESS
    stage.wait("SCU", "on_close")
    assert stage.wait("SCU", "on_receive_associate_reject") == (1, 1, 3)
    assert spoken(stage, "SCU: send_associate_request") == [
        "SCU: send_associate_request",
        "client on_receive(ASSOCIATE_REQUEST)",
        "client on_receive_associate_request",
        "client: send_associate_reject",
        "SCU on_receive(ASSOCIATE_REJECT)",
        "SCU on_receive_associate_reject",
        "SCU: close",
        "SCU on_close",
    ]


def test_a_wrong_protocol_version_is_rejected_by_the_upper_layer(stage: Stage) -> None:
    """PS3.8 Table 9-21: 1/2/2; the user has nothing to answer."""
    listener = stage.listener()
    with Wire.to(listener.host_port) as wire:
        request = bytearray(pdu.encode(RQ))
        request[6:8] = b"\0\2"
        assert wire.sends(bytes(request)).hears() == pdu.AssociateRj(1, 2, 2)
    assert stage.wait("listener", "on_close")[0] == NetError.PDU_CONTENT_INVALID
    assert [entry.arguments[1].name for entry in stage.entries("client", "on_send")] == ["ASSOCIATE_REJECT"]


# --- C-FIND and C-CANCEL --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("matches", [0, 1, 3])
def test_c_find(stage: Stage, matches: int) -> None:
    """§6: n × Pending with ds, then once with the final status and None; one request, n+1 responses."""

    class Finding(Scp):
        def on_receive_c_find_request(self, pid: int, mid: int, cls: str, prio: int, ds: Any) -> None:
            for number in range(matches):
                match = ds.decode()
                match.StudyID = str(number)
                self.send_c_find_response(pid, mid, cls, 0xFF00, match)
            self.send_c_find_response(pid, mid, cls, 0, None)

    scu, _ = stage.pair(Finding)
    scu.send_c_find_request(7, 1, STUDY_FIND, 0, query())
    stage.wait("SCU", "on_receive_c_find_response", matches + 1)
    told = [entry.arguments for entry in stage.entries("SCU", "on_receive_c_find_response")]
    assert [st for _, _, _, st, _ in told] == [0xFF00] * matches + [0]
    assert [ds.decode().StudyID for *_, ds in told[:-1]] == [str(number) for number in range(matches)]
    assert told[-1][-1] is None
    each = ["SCU on_receive(DATA_TRANSFER)", "SCU on_receive_data", "SCU on_receive_c_find_response"]
    lines = spoken(stage, "SCU: send_c_find_request")
    assert [line for line in lines if line.startswith("SCU ")] == each * (matches + 1)
    asked = ["client on_receive(DATA_TRANSFER)", "client on_receive_data", "client on_receive_c_find_request"]
    assert [line for line in lines if line.startswith("client")] == [
        *asked,
        *["client: send_c_find_response"] * (matches + 1),
    ]


def test_c_cancel(stage: Stage) -> None:
    """§6: ``send_c_cancel_request(pid, mid)``; then the final response of that operation, status 0xFE00."""

    class Finding(Scp):
        cancelled: threading.Event

        def on_receive_c_find_request(self, pid: int, mid: int, cls: str, prio: int, ds: Any) -> None:
            self.cancelled = threading.Event()
            threading.Thread(target=self.find, args=(pid, mid, cls)).start()

        def find(self, pid: int, mid: int, cls: str) -> None:
            while not self.cancelled.wait(0.001):
                self.send_c_find_response(pid, mid, cls, 0xFF00, query())
            self.send_c_find_response(pid, mid, cls, 0xFE00, None)

        def on_receive_c_cancel_request(self, pid: int, mid: int) -> None:
            self.cancelled.set()

    class Cancelling(Scu):
        def on_receive_c_find_response(self, pid: int, mid: int, cls: str, st: int, ds: Any) -> None:
            if len(stage.entries("SCU", "on_receive_c_find_response")) == 3:
                self.send_c_cancel_request(pid, mid)
            elif st == 0xFE00:
                self.send_release_request()

    scu, _ = stage.pair(Finding, Cancelling)
    scu.send_c_find_request(7, 1, STUDY_FIND, 0, query())
    assert stage.wait("SCU", "on_close")[0] == NetError.SUCCESS
    assert stage.wait("client", "on_receive_c_cancel_request") == (7, 1)
    told = [entry.arguments for entry in stage.entries("SCU", "on_receive_c_find_response")]
    assert told[-1] == (7, 1, STUDY_FIND, 0xFE00, None)
    assert all(st == 0xFF00 for _, _, _, st, _ in told[:-1])


# --- C-MOVE and C-GET -----------------------------------------------------------------------------------------------


def test_c_move(stage: Stage) -> None:
    """§6: Pending responses with counters, then the final one; the mover opens its own connection to the
    destination, and the stores carry move_ae and move_message_id.
    """
    destination = stage.listener(names="destination target")

    class Mover(Scu):
        """The SCP's connection to the destination; ``asked`` is what the C-MOVE was."""

        def on_receive_associate_accept(self, associate: DicomAssociate) -> None:
            self.store(1)

        def store(self, mid: int) -> None:
            data = EncodedDataset(b"", EXPLICIT, CT, f"{INSTANCE}.{mid}")
            caller, move_mid = self.user_data[0].association.calling, self.user_data[2]
            self.send_c_store_request(3, mid, CT, data.sop_instance_uid, 0, caller, move_mid, data)

        def on_receive_c_store_response(self, pid: int, mid: int, cls: str, inst: str, st: int) -> None:
            client, *asked = self.user_data
            if mid < 3:
                client.send_c_move_response(*asked, 0xFF00, 3 - mid, mid, 0, 0, None)
                self.store(mid + 1)
            else:
                client.send_c_move_response(*asked, 0x0000, None, mid, 0, 0, None)
                self.send_release_request()

    class Moving(Scp):
        def on_receive_c_move_request(
            self, pid: int, mid: int, cls: str, prio: int, move_ae: str, ds: EncodedDataset | None
        ) -> None:
            mover = stage.scu(Mover, "mover")
            mover.user_data = (self, pid, mid, cls)
            mover.connect("", 0, "127.0.0.1", destination.host_port)

    class Asking(Scu):
        def request(self) -> DicomAssociate:
            return proposal({9: (STUDY_MOVE, IMPLICIT)})

    scu, _ = stage.pair(Moving, Asking)
    scu.send_c_move_request(9, 21, STUDY_MOVE, 0, "DEST", query())
    stage.wait("SCU", "on_receive_c_move_response", 3)
    told = [entry.arguments[3:] for entry in stage.entries("SCU", "on_receive_c_move_response")]
    assert told == [(0xFF00, 2, 1, 0, 0, None), (0xFF00, 1, 2, 0, 0, None), (0, None, 3, 0, 0, None)]
    assert stage.wait("client", "on_receive_c_move_request")[4] == "DEST"
    stores = [entry.arguments for entry in stage.entries("target", "on_receive_c_store_request")]
    assert [(inst, move_ae, move_mid) for _, _, _, inst, _, move_ae, move_mid, _ in stores] == [
        (f"{INSTANCE}.{number}", "SCU", 21) for number in (1, 2, 3)
    ]
    assert stage.wait("destination", "on_close")[0] == NetError.SUCCESS


def test_c_get(stage: Stage) -> None:
    """§6: the stores come on the same association (role selection) and are answered there."""

    class Getting(Scu):
        def request(self) -> DicomAssociate:
            associate = proposal({1: (STUDY_GET, IMPLICIT), 3: (CT, EXPLICIT)})
            associate.set_role_select(3, True, False, True)
            return associate

        def on_receive_c_store_request(self, pid: int, mid: int, cls: str, inst: str, *rest: Any) -> None:
            self.send_c_store_response(pid, mid, cls, inst, 0)

    class Retrieving(Scp):
        def answer(self, associate: DicomAssociate) -> DicomAssociate:
            answer = super().answer(associate)
            answer.set_role_select(3, *associate.role_select(3))
            return answer

        def on_receive_c_get_request(self, pid: int, mid: int, cls: str, prio: int, ds: Any) -> None:
            data = EncodedDataset(b"", EXPLICIT, CT, INSTANCE)
            self.send_c_store_request(3, 100, CT, INSTANCE, 0, "", 0, data)

        def on_receive_c_store_response(self, pid: int, mid: int, cls: str, inst: str, st: int) -> None:
            self.send_c_get_response(1, 5, STUDY_GET, 0, None, 1, 0, 0, None)

    scu, _ = stage.pair(Retrieving, Getting)
    assert scu.association.role_select(3) == (True, False, True)
    scu.send_c_get_request(1, 5, STUDY_GET, 0, query())
    stage.wait("SCU", "on_receive_c_get_response")
    lines = [line for line in spoken(stage, "SCU: send_c_get_request") if "on_receive(" not in line]
    assert [line for line in lines if not line.endswith("on_receive_data")] == [
        "SCU: send_c_get_request",
        "client on_receive_c_get_request",
        "client: send_c_store_request",
        "SCU on_receive_c_store_request",
        "SCU: send_c_store_response",
        "client on_receive_c_store_response",
        "client: send_c_get_response",
        "SCU on_receive_c_get_response",
    ]


# --- abort, and other ends ------------------------------------------------------------------------------------------


def test_abort_by_the_scu(stage: Stage) -> None:
    """§6: ``send_abort`` then close; ``on_receive``, ``on_receive_abort(source, reason)``, then ``on_close``."""
    scu, client = stage.pair()
    scu.send_abort(0, 0)
    scu.close()
    assert stage.wait("SCU", "on_close") == (NetError.SUCCESS, scu)
    assert stage.wait("listener", "on_close") == (NetError.ABORTED, client)
    assert stage.wait("client", "on_receive_abort") == (0, 0)
    assert stage.told("client")[-2:] == ["on_receive(ABORT)", "on_receive_abort"]


def test_abort_by_the_scp(stage: Stage) -> None:
    """§6."""
    client = stage.pair()[1]
    client.send_abort(2, 6)
    assert stage.wait("SCU", "on_receive_abort") == (2, 6)
    assert stage.wait("SCU", "on_close")[0] == NetError.ABORTED
    assert stage.wait("listener", "on_close")[0] == NetError.SUCCESS


def test_abort_before_the_answer(stage: Stage) -> None:
    """PS3.8 Table 9-10: also in states 3 and 5."""
    heard: list[Any] = []
    with Scripted(lambda wire: heard.extend(wire.hears_to_the_end())) as script:
        scu = stage.connected(script.port)
        stage.wait("SCU", "on_send")
        scu.send_abort()
        assert stage.wait("SCU", "on_close")[0] == NetError.SUCCESS
    assert heard[1:] == [pdu.Abort(0, 0)]

    class Aborting(Scp):
        def on_receive_associate_request(self, associate: DicomAssociate) -> None:
            self.send_abort(0, 0)

    stage.connected(stage.listener(Aborting).host_port, name="aborted")
    assert stage.wait("aborted", "on_close")[0] == NetError.ABORTED


def test_the_scp_vanishes(stage: Stage) -> None:
    """§6: ``on_close(error)``."""

    def script(wire: Wire) -> None:
        wire.hears()
        wire.sends(AC)
        wire.hears()
        wire.resets()

    with Scripted(script) as scripted:
        scu = stage.associated(scripted.port)
        scu.send_c_echo_request(1, 1, VERIFICATION)
        assert stage.wait("SCU", "on_close") == (NetError.RESET, scu)


def test_the_scu_vanishes(stage: Stage) -> None:
    """§6: ``listener.on_close(error, client)``."""
    listener = stage.listener()
    Wire.associated(listener.host_port).resets()
    error, client = stage.wait("listener", "on_close")
    assert error == NetError.RESET
    assert client.server is listener


def test_a_peer_that_closes_without_release(stage: Stage) -> None:
    """§5: closed."""
    listener = stage.listener()
    with Wire.associated(listener.host_port):
        pass
    assert stage.wait("listener", "on_close")[0] == NetError.CLOSED


@pytest.mark.parametrize("at", range(0, len(store_rq(1)), 13))
def test_a_reset_at_any_byte_leaves_nothing(stage: Stage, at: int, tmp_path: Any) -> None:
    """N1: reset in the middle of a C-STORE."""

    listener = stage.listener(spool_folder=tmp_path, limits=Limits(spool_size=1))
    wire = Wire.associated(listener.host_port)
    wire.sends(store_rq(1)[:at])
    wire.resets()
    assert stage.wait("listener", "on_close")[0] in (NetError.RESET, NetError.CLOSED)
    assert list(tmp_path.iterdir()) == []


# --- release collisions ---------------------------------------------------------------------------------------------


class Answering(Scu):
    def on_receive_release_request(self) -> None:
        self.send_release_response()


def test_a_release_collision_as_the_requestor(stage: Stage) -> None:
    """AR-8, AR-9, AR-3: the requestor answers first, then hears the answer."""

    def script(wire: Wire) -> None:
        wire.hears()
        wire.sends(AC)
        assert wire.hears() == RELEASE_RQ
        wire.sends(RELEASE_RQ)
        assert wire.hears() == RELEASE_RP
        wire.sends(RELEASE_RP)
        assert wire.hears() is None

    with Scripted(script) as scripted:
        scu = stage.associated(scripted.port, Answering)
        scu.send_release_request()
        assert stage.wait("SCU", "on_close")[0] == NetError.SUCCESS
    assert [line for line in stage.lines("SCU") if "release" in line or "RELEASE" in line] == [
        "SCU: send_release_request",
        "SCU on_receive(RELEASE_REQUEST)",
        "SCU on_receive_release_request",
        "SCU: send_release_response",
        "SCU on_receive(RELEASE_RESPONSE)",
        "SCU on_receive_release_response",
    ]


@pytest.mark.parametrize("close", [False, True])
def test_a_release_collision_as_the_acceptor(stage: Stage, close: bool) -> None:
    """AR-8, AR-10, AR-4: its answer waits for the requestor's, however early the user gave it."""

    class Releasing(Scp):
        def on_receive_c_echo_request(self, pid: int, mid: int, cls: str) -> None:
            self.send_c_echo_response(pid, mid, cls, 0)
            self.send_release_request()

        def on_receive_release_response(self) -> None:
            if close:
                self.close()

    listener = stage.listener(Releasing)
    with Wire.associated(listener.host_port) as wire:
        wire.sends(echo_rq(1)).hears()
        assert wire.hears() == RELEASE_RQ
        wire.sends(RELEASE_RQ)
        stage.wait("client", "send_release_response")
        assert wire.is_quiet_for(0.05)
        assert wire.sends(RELEASE_RP).hears() == RELEASE_RP
    assert stage.wait("listener", "on_close")[0] == NetError.SUCCESS


def test_two_objects_that_release_at_once(stage: Stage) -> None:
    """AR-8 in both roles: both end in order, whoever was first."""
    listener = stage.listener()
    scu = stage.associated(listener.host_port, Answering)
    (client,) = listener.clients
    barrier = threading.Barrier(2)

    def release(net: Any) -> None:
        from dicomnet import LocalProtocolError

        barrier.wait()
        try:
            net.send_release_request()
        except LocalProtocolError:  # the other one was faster
            assert stage.entries("SCU" if net is scu else "client", "on_receive_release_request")

    threads = [threading.Thread(target=release, args=(net,)) for net in (scu, client)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stage.wait("SCU", "on_close")[0] == NetError.SUCCESS
    assert stage.wait("listener", "on_close")[0] == NetError.SUCCESS


def test_data_may_still_be_sent_after_a_release_request(stage: Stage) -> None:
    """AR-7: what the acceptor owes goes out before its release response."""

    class Owing(Scp):
        def on_receive_c_echo_request(self, pid: int, mid: int, cls: str) -> None:
            self.user_data = (pid, mid, cls, 0)

        def on_receive_release_request(self) -> None:
            self.send_c_echo_response(*self.user_data)
            self.send_release_response()

    listener = stage.listener(Owing)
    with Wire.associated(listener.host_port) as wire:
        wire.sends(echo_rq(1), RELEASE_RQ)
        assert wire.hears_message().message_id == 1
        assert wire.hears_to_the_end() == [RELEASE_RP]
    assert stage.wait("listener", "on_close")[0] == NetError.SUCCESS


def test_data_arrives_while_the_release_is_awaited(stage: Stage) -> None:
    """AR-6."""

    def script(wire: Wire) -> None:
        wire.hears()
        wire.sends(AC)
        wire.hears()
        assert wire.hears() == RELEASE_RQ
        wire.sends(echo_rsp(1), RELEASE_RP).hears()

    with Scripted(script) as scripted:
        scu = stage.associated(scripted.port)
        scu.send_c_echo_request(1, 1, VERIFICATION)
        scu.send_release_request()
        assert stage.wait("SCU", "on_close")[0] == NetError.SUCCESS
    assert stage.told("SCU")[-4:-1] == [
        "on_receive_c_echo_response",
        "on_receive(RELEASE_RESPONSE)",
        "on_receive_release_response",
    ]
