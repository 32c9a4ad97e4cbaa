"""§5 of the contract and §4 of the upper layer: what a peer does wrong arrives as the right NetError."""

from __future__ import annotations

import pytest

from dicomnet.callbacks import NetError
from dicomnet.dimse.messages import CommandField, Response
from dicomnet.ul import pdu
from tests.callbacks.recorder import VERIFICATION, Stage
from tests.faces.wire import (
    AC,
    RELEASE_RP,
    RQ,
    Scripted,
    Wire,
    echo_rq,
    echo_rsp,
    header,
    message,
    p_data,
    pdv,
)

TYPE, LENGTH, CONTENT = NetError.PDU_TYPE_INVALID, NetError.PDU_LENGTH_INVALID, NetError.PDU_CONTENT_INVALID


def serves_a_good_one(stage: Stage, port: int) -> None:
    """§4: a fresh C-ECHO succeeds at once."""
    with Wire.associated(port) as wire:
        assert wire.sends(echo_rq(9)).hears_message().status == 0  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", TYPE),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100), TYPE),
        (b"SSH-2.0-OpenSSH_9.6\r\n", TYPE),
        (header(0, b""), TYPE),
        (header(0x99, b""), TYPE),
        (header(1, b"", length=1 << 31), LENGTH),
        (header(1, b"", length=5), LENGTH),
        (header(2, b"", length=5), LENGTH),
        (echo_rq(1), TYPE),
        (pdu.encode(RELEASE_RP), TYPE),
        (pdu.encode(AC), TYPE),
        (header(1, bytes(80)), CONTENT),
    ],
)
def test_garbage_instead_of_a_request(stage: Stage, data: bytes, error: NetError) -> None:
    """W1, W2, W4: A-ABORT and close; ``on_close`` tells PDU type, length or content invalid."""
    listener = stage.listener()
    with Wire.to(listener.host_port) as wire:
        assert isinstance(wire.sends(data).hears(), pdu.Abort)
    assert stage.wait("listener", "on_close")[0] == error
    told, kind, _ = stage.wait("client", "on_receive")
    assert (told, kind) == (error, 0)
    serves_a_good_one(stage, listener.host_port)


@pytest.mark.parametrize(
    ("data", "error", "reason"),
    [
        (header(0x08, b""), TYPE, 1),
        (header(0xFF, b""), TYPE, 1),
        (pdu.encode(RQ), TYPE, 2),  # a second request
        (pdu.encode(AC), TYPE, 2),
        (pdu.encode(RELEASE_RP), TYPE, 2),
        (header(4, b""), LENGTH, 6),
        (header(4, b"", length=1 << 20), LENGTH, 6),
        (header(5, b"", length=5), LENGTH, 6),
        (p_data(pdv(77, 3, b"xx")), CONTENT, 6),  # a context that was not accepted
        (p_data(pdv(5, 3, b"xx")), CONTENT, 6),
        (p_data(pdv(1, 2, b"xx")), CONTENT, 6),  # a data set before its command set
        (p_data(pdv(1, 3, b"garbage!garbage!")), CONTENT, 6),
        (echo_rsp(1), CONTENT, 6),  # nobody asked
        (message(3, Response(0xFF00, command=CommandField.C_FIND, message_id=1)), CONTENT, 6),
    ],
)
def test_garbage_in_an_association(stage: Stage, data: bytes, error: NetError, reason: int) -> None:
    """W2, W3, W4, P1–P6, N-25: A-ABORT 2 with its reason; ``on_close`` tells."""
    listener = stage.listener()
    with Wire.associated(listener.host_port) as wire:
        assert wire.sends(data).hears() == pdu.Abort(2, reason)
        wire.half_closes()
        assert stage.wait("listener", "on_close")[0] == error
    told, kind, _ = stage.entries("client", "on_receive")[-1].arguments
    assert (told, kind) == (error, 0)
    serves_a_good_one(stage, listener.host_port)


@pytest.mark.parametrize(
    "wrong",
    [
        echo_rsp(2),  # another message ID
        message(3, Response(0, command=CommandField.C_ECHO, message_id=1)),  # another context
        message(1, Response(0, command=CommandField.C_STORE, message_id=1)),  # another service
        echo_rsp(1) + echo_rsp(1),  # twice
        b"".join(echo_rsp(number) for number in range(1, 500)),  # P12, a flood
    ],
)
def test_a_response_that_nobody_asked_for(stage: Stage, wrong: bytes) -> None:
    """N-25: a protocol error for the requestor: A-ABORT 2/6, no hang."""
    heard: list[pdu.Pdu] = []

    def script(wire: Wire) -> None:
        wire.hears()
        wire.sends(AC)
        wire.hears()
        wire.sends(wrong)
        heard.extend(wire.hears_to_the_end())

    with Scripted(script) as scripted:
        scu = stage.associated(scripted.port)
        scu.send_c_echo_request(1, 1, VERIFICATION)
        assert stage.wait("SCU", "on_close")[0] == CONTENT
    assert heard == [pdu.Abort(2, 6)]
    assert len(stage.entries("SCU", "on_receive_c_echo_response")) <= 1


@pytest.mark.parametrize("answer", [header(3, b"", length=3), header(9, b""), echo_rq(1), b"HTTP/1.1 400 Bad\r\n\r\n"])
def test_garbage_instead_of_an_answer(stage: Stage, answer: bytes) -> None:
    """W1–W4: for the requestor."""

    def script(wire: Wire) -> None:
        wire.hears()
        wire.sends(answer)
        wire.reads(10)

    with Scripted(script) as scripted:
        stage.connected(scripted.port)
        assert stage.wait("SCU", "on_close")[0] in (TYPE, LENGTH)


def test_an_answer_that_was_never_proposed(stage: Stage) -> None:
    """P3: a transfer syntax that was not offered: 2/6."""
    contexts = (pdu.AnsweredContext(1, 0, "1.2.840.10008.1.2.4.50"),)
    with Scripted(lambda wire: (wire.hears(), wire.sends(pdu.AssociateAc("SCP", "SCU", contexts)), wire.hears())) as it:
        stage.connected(it.port)
        assert stage.wait("SCU", "on_close")[0] == CONTENT


def test_a_request_byte_by_byte(stage: Stage) -> None:
    """N3: one-byte segments throughout."""
    listener = stage.listener()
    with Wire.to(listener.host_port) as wire:
        for byte in pdu.encode(RQ):
            wire.sends(bytes((byte,)))
        assert isinstance(wire.hears(), pdu.AssociateAc)
        for byte in echo_rq(1):
            wire.sends(bytes((byte,)))
        assert wire.hears_message().message_id == 1


def test_many_good_and_bad_ones_at_once(stage: Stage) -> None:
    """§4: the process lives; nothing is left."""
    listener = stage.listener()
    wires = [Wire.to(listener.host_port) for _ in range(12)]
    for number, wire in enumerate(wires):
        wire.sends((pdu.encode(RQ), b"GARBAGE", pdu.encode(RQ)[:50])[number % 3])
    serves_a_good_one(stage, listener.host_port)
    for wire in wires:
        wire.resets()
    stage.wait("listener", "on_close", 13)
    assert listener.client_count == 0
