"""§1 of the contract: the walk-through, each line a test. The dialogue is played once and then read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydicom.data import get_testdata_file

from dicomnet.callbacks import DicomAssociate, DicomNet, NetError
from tests.callbacks.recorder import CT, EXPLICIT, INSTANCE, Scu, Stage

FILE = get_testdata_file("CT_small.dcm")


class Storing(Scu):
    """The SCU of the walk-through: every line of its column is here."""

    def on_connect(self, error: NetError) -> None:
        associate = DicomAssociate(True)
        associate.default()
        associate.called, associate.calling = "SCP", "SCU"
        associate.add_presentation_context(1, 0, CT)
        associate.add_transfer(1, EXPLICIT)
        self.send_associate_request(associate)

    def on_receive_associate_accept(self, associate: DicomAssociate) -> None:
        self.send_c_store_request(1, 7, CT, INSTANCE, 0, "", 0, FILE)

    def on_receive_c_store_response(self, pid: int, mid: int, cls: str, inst: str, st: int) -> None:
        self.send_release_request()

    def on_receive_release_response(self) -> None:
        self.close()


class Play:
    """The walk-through, played."""

    def __init__(self) -> None:
        self.stage = Stage()
        scu_class = self.stage.recorder.watch(Storing, "SCU")
        scu_class.startup()
        scp_class = self.stage.recorder.watch(DicomNet, "SCP")
        scp_class.startup()
        self.listener = self.stage.listening()
        self.listener.listen("127.0.0.1", 0, 5)
        self.scu = scu_class()
        self.scu.connect("", 0, "127.0.0.1", self.listener.host_port)
        self.stage.wait("SCU", "on_close")
        self.stage.wait("listener", "on_close")
        scu_class.shutdown()
        self.listener.close()
        scp_class.shutdown()
        #  Between the two ends the order is certain from the request on to the release: each speaks in its turn.
        spoken = self.stage.lines("SCU", "client", hide=("on_send", "on_before_send_command_set"))
        self.dialogue = spoken[spoken.index("SCU: send_associate_request") :]

    def of(self, who: str) -> list[str]:
        return [line.removeprefix(who) for line in self.stage.lines(who)]

    def argument(self, who: str, name: str, index: int) -> Any:
        return self.stage.entries(who, name)[0].arguments[index]


@pytest.fixture(scope="module")
def play() -> Iterator[Play]:
    return Play()


def test_both_start_the_library_up(play: Play) -> None:
    """§1, 1: ``DicomNet.startup()`` at both ends."""
    assert play.of("SCU")[0] == play.of("SCP")[0] == ": startup"


def test_the_scp_listens(play: Play) -> None:
    """§1, 2: ``listener.listen(address, port, backlog)``."""
    assert play.of("listener")[0] == ": listen"


def test_the_scu_connects_and_the_listener_accepts(play: Play) -> None:
    """§1, 3: ``connect(host, host_port, peer, peer_port)``; ``on_accept(error)``; ``accept(client)``."""
    assert play.of("SCU")[1] == ": connect"
    assert play.of("listener")[1:3] == [" on_accept", ": accept"]
    assert play.argument("listener", "on_accept", 0) == NetError.SUCCESS


def test_the_scu_is_told_that_it_is_connected(play: Play) -> None:
    """§1, 4: ``on_connect(error)``."""
    assert play.of("SCU")[2] == " on_connect"
    assert play.argument("SCU", "on_connect", 0) == NetError.SUCCESS


def test_the_association_is_requested_and_accepted(play: Play) -> None:
    """§1, 5."""
    assert play.dialogue[0:4] == [
        "SCU: send_associate_request",
        "client on_receive(ASSOCIATE_REQUEST)",
        "client on_receive_associate_request",
        "client: send_associate_accept",
    ]
    assert play.argument("client", "on_receive_associate_request", 0).calling == "SCU"


def test_the_scu_is_told_of_the_acceptance(play: Play) -> None:
    """§1, 6: ``on_receive``, then ``on_receive_associate_accept(associate)``."""
    assert play.dialogue[4:6] == ["SCU on_receive(ASSOCIATE_ACCEPT)", "SCU on_receive_associate_accept"]
    assert play.argument("SCU", "on_receive_associate_accept", 0).transfer(1) == EXPLICIT


def test_an_instance_is_stored(play: Play) -> None:
    """§1, 7: ``on_receive``, ``on_receive_data``, ``on_receive_c_store_request``, ``send_c_store_response``."""
    assert play.dialogue[6:11] == [
        "SCU: send_c_store_request",
        "client on_receive(DATA_TRANSFER)",
        "client on_receive_data",
        "client on_receive_c_store_request",
        "client: send_c_store_response",
    ]
    *arguments, ds = play.stage.entries("client", "on_receive_c_store_request")[0].arguments
    assert arguments == [1, 7, CT, INSTANCE, 0, "", 0]
    with open(FILE, "rb") as file:
        assert file.read().endswith(bytes(ds))


def test_the_scu_is_told_the_status(play: Play) -> None:
    """§1, 8: ``on_receive``, ``on_receive_data``, ``on_receive_c_store_response``."""
    assert play.dialogue[11:14] == [
        "SCU on_receive(DATA_TRANSFER)",
        "SCU on_receive_data",
        "SCU on_receive_c_store_response",
    ]
    assert play.stage.entries("SCU", "on_receive_c_store_response")[0].arguments == (1, 7, CT, INSTANCE, 0)


def test_the_association_is_released(play: Play) -> None:
    """§1, 9: ``on_receive``, then ``on_receive_release_request()``; ``send_release_response()``."""
    assert play.dialogue[14:18] == [
        "SCU: send_release_request",
        "client on_receive(RELEASE_REQUEST)",
        "client on_receive_release_request",
        "client: send_release_response",
    ]


def test_the_scu_is_told_of_the_release(play: Play) -> None:
    """§1, 10: ``on_receive``, ``on_receive_release_response()``."""
    assert play.dialogue[18:20] == ["SCU on_receive(RELEASE_RESPONSE)", "SCU on_receive_release_response"]


def test_the_scu_closes_and_the_listener_is_told(play: Play) -> None:
    """§1, 11: ``close()``; ``listener.on_close(error, client)``."""
    assert play.dialogue[20:22] == ["SCU: close", "SCU on_close"]
    error, client = play.stage.entries("listener", "on_close")[0].arguments
    assert error == NetError.SUCCESS
    assert client.server is play.listener
    assert play.stage.entries("SCU", "on_close")[0].arguments == (NetError.SUCCESS, play.scu)


def test_both_shut_the_library_down(play: Play) -> None:
    """§1, 12: ``shutdown()``; ``listener.close()``, ``shutdown()``."""
    assert play.stage.lines()[-3:] == ["SCU: shutdown", "listener: close", "SCP: shutdown"]


def test_nothing_else_was_told(play: Play) -> None:
    """§1: the rows above are the whole walk-through, but for ``on_send`` and ``on_before_send_command_set``."""
    assert play.dialogue[22:] == ["SCU: shutdown"]
    assert play.of("listener") == [": listen", " on_accept", ": accept", " on_close", ": close"]
    assert play.stage.told("client")[-1] == "on_receive_release_request"


def test_each_queued_pdu_is_reported_as_sent(play: Play) -> None:
    """§2: ``on_send(error, pdu_type, length)`` tells when the bytes have gone to the transport."""
    sent = [entry.arguments for entry in play.stage.entries("SCU", "on_send")]
    assert [(error, kind) for error, kind, _ in sent] == [(0, 1), (0, 4), (0, 5)]
    buffer = play.argument("client", "on_receive", 2)
    assert sent[0][2] == len(buffer)
    assert sent[2][2] == 10
    sent = [entry.arguments for entry in play.stage.entries("client", "on_send")]
    assert [(error, kind) for error, kind, _ in sent] == [(0, 2), (0, 4), (0, 6)]
