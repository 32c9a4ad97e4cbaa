"""Bad input and faults over raw sockets (§4 of the list on the wire): each test names its line.

After each case a fresh C-ECHO succeeds at once, nothing is left (conftest), and the log has one line for it: with the
peer's address, without traceback, without patient data.
"""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import dicomnet
from dicomnet import Identity, Limits
from dicomnet.dimse import command as command_sets, messages
from dicomnet.dimse.messages import CommandField, Request
from dicomnet.ul import pdu
from tests.faces.conftest import QUICK, Scp, ct, eventually, quick, spooled
from tests.faces.face import FACES, Face
from tests.faces.wire import (
    ABORT,
    AC,
    CT,
    EXPLICIT,
    IMPLICIT,
    RELEASE_RP,
    RELEASE_RQ,
    RJ,
    RQ,
    USER,
    VERIFICATION,
    Wire,
    echo_rq,
    echo_rsp,
    encoded,
    header,
    message,
    p_data,
    patient_data,
    pdus,
    pdv,
    store_rq,
)

MakeScp = Callable[..., Scp]
USER_ABORT, UNRECOGNISED, UNEXPECTED, INVALID = (0, 0), (2, 1), (2, 2), (2, 6)
LENGTHS = [0, 1, 3, 5, 1 << 31, (1 << 32) - 1]


@pytest.fixture
def client(server_face: Face) -> Face:
    """Both ends on the same face: here one is tested, and the other could be any."""
    return server_face


class Case:
    """A served SCP, and what must hold after whatever was done to it."""

    def __init__(self, face: Face, scp: Scp, caplog: pytest.LogCaptureFixture) -> None:
        self._face = face
        self.scp = scp
        scp.ae.on_c_store(self._keep)  # not the request: its data set has a file
        self.port = scp.port
        self._caplog = caplog

    def _keep(self, request: Any) -> int:
        self.scp.received.append(bytes(request.dataset))
        return 0

    def lines(self) -> list[logging.LogRecord]:
        return [record for record in self._caplog.records if record.levelno >= logging.WARNING]

    def is_over(self, wire: Wire | None = None, *, lines: int = 1) -> None:
        """The connection is closed; the rest is as the module's first lines say."""
        if wire is not None:
            wire.socket.close()
        with self._face.associate(self.scp.peer) as association:
            assert association.c_echo().status == 0
        self.scp.server.close()  # waits for all that is still to be logged
        assert [record.getMessage() for record in self.lines() if record.exc_info] == []
        assert len(self.lines()) == lines, self._caplog.text
        assert all("127.0.0.1:" in record.getMessage() for record in self.lines())
        if wire is not None and lines:
            assert wire.address in self.lines()[0].getMessage()
        assert not any(secret in self._caplog.text for secret in ("DOE", "JANE", "PID-4711"))
        assert spooled(self.scp.spool) == []


@pytest.fixture
def case(client: Face, scp: MakeScp, caplog: pytest.LogCaptureFixture) -> Callable[..., Case]:
    """``case(**options)``: with these options of AE; data sets are spooled to files from 16 bytes on."""

    def make(**options: Any) -> Case:
        options.setdefault("limits", Limits(spool_size=16))
        return Case(client, scp(**options), caplog)

    return make


MakeCase = Callable[..., Case]


def aborts(wire: Wire) -> list[tuple[int, int]]:
    """What is heard to the end, which may be A-ABORTs only."""
    heard = wire.hears_to_the_end()
    assert all(isinstance(value, pdu.Abort) for value in heard), heard
    return [(value.source, value.reason) for value in heard]


# --- W: on the wire -------------------------------------------------------------------------------------------------

STRANGERS = {
    "HTTP": b"GET / HTTP/1.1\r\nHost: pacs\r\n\r\n",
    "TLS": bytes.fromhex("16030100f8010000f40303") + bytes(60),
    "SSH": b"SSH-2.0-OpenSSH_9.6\r\n",
    "zeros": bytes(100),
    "ones": b"\xff" * 100,
}


@pytest.mark.parametrize("stranger", STRANGERS)
def test_other_protocols(case: MakeCase, stranger: str) -> None:
    """W1: A-ABORT 0/0 and close."""
    server = case()
    with Wire.to(server.port).sends(STRANGERS[stranger]) as wire:
        assert aborts(wire) == [USER_ABORT]
        server.is_over(wire)


@pytest.mark.parametrize("kind", [0x00, 0x08, 0x99, 0xFF])
@pytest.mark.parametrize("where", ["before", "in"])
def test_unknown_pdu_types(case: MakeCase, kind: int, where: str) -> None:
    """W2: 0/0 before an association, 2/1 in one."""
    server = case()
    wire = Wire.to(server.port) if where == "before" else Wire.associated(server.port)
    with wire.sends(header(kind, bytes(4))):
        assert aborts(wire) == [USER_ABORT if where == "before" else UNRECOGNISED]
        server.is_over(wire)


ALL = {"AC": AC, "RJ": RJ, "RQ": RQ, "P-DATA": echo_rq(), "release": RELEASE_RQ, "released": RELEASE_RP}


@pytest.mark.parametrize("name", [name for name in ALL if name != "RQ"])
def test_a_pdu_before_the_request(case: MakeCase, name: str) -> None:
    """W3: state 2, AA-1."""
    server = case()
    with Wire.to(server.port).sends(ALL[name]) as wire:
        assert aborts(wire) == [USER_ABORT]
        server.is_over(wire)


def test_an_abort_before_the_request(case: MakeCase) -> None:
    """W3: state 2, AA-2: it just closes; nobody has been wronged."""
    server = case()
    with Wire.to(server.port).sends(ABORT) as wire:
        assert wire.hears_to_the_end() == []
        server.is_over(wire, lines=0)


@pytest.mark.parametrize("name", ["AC", "RJ", "RQ", "released"])
def test_a_pdu_in_the_wrong_state(case: MakeCase, name: str) -> None:
    """W3: state 6, AA-8; W13: a second request."""
    server = case()
    with Wire.associated(server.port).sends(ALL[name]) as wire:
        assert aborts(wire) == [UNEXPECTED]
        server.is_over(wire)


@pytest.mark.parametrize("name", ALL)
def test_a_pdu_behind_the_request(case: MakeCase, name: str) -> None:
    """W3: state 3, the request is not yet answered. What is no more than early need not be wrong."""
    server = case()
    with Wire.to(server.port).sends(RQ, ALL[name]) as wire:
        heard = wire.hears_to_the_end()
        assert [(value.source, value.reason) for value in heard[-1:]] == [UNEXPECTED]
        server.is_over(wire)


@pytest.mark.parametrize("name", ALL)
def test_a_pdu_after_the_release(case: MakeCase, name: str) -> None:
    """W3, W13: state 13, AA-6, AA-7: nobody is told, and this side has closed its half already."""
    server = case()
    with Wire.associated(server.port).sends(RELEASE_RQ) as wire:
        assert wire.hears() == RELEASE_RP
        wire.sends(ALL[name])
        assert wire.hears_to_the_end() == []
        server.is_over(wire, lines=0)


@pytest.mark.parametrize("kind", range(1, 8))
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("where", ["before", "in"])
def test_lengths_that_cannot_be(case: MakeCase, kind: int, length: int, where: str) -> None:
    """W4: 2/6 from the header alone."""
    server = case()
    wire = Wire.to(server.port) if where == "before" else Wire.associated(server.port)
    with wire.sends(header(kind, b"", length)):
        assert aborts(wire) == [INVALID]
        server.is_over(wire)


def test_a_request_that_is_too_long(case: MakeCase) -> None:
    """W5: over 1 MiB: 2/6 from the header."""
    server = case()
    with Wire.to(server.port).sends(header(1, b"", (1 << 20) + 1)) as wire:
        assert aborts(wire) == [INVALID]
        server.is_over(wire)


def test_data_longer_than_announced(case: MakeCase) -> None:
    """N-17: more than our maximum length: 2/6 from the header."""
    server = case(max_pdu_length=100)
    with Wire.associated(server.port).sends(header(4, b"", 101)) as wire:
        assert aborts(wire) == [INVALID]
        server.is_over(wire)


def item_offsets(body: bytes, start: int, end: int) -> Iterator[int]:
    """Where each item and sub-item of an A-ASSOCIATE-RQ has its length."""
    position = start
    while position < end:
        kind, length = body[position], int.from_bytes(body[position + 2 : position + 4], "big")
        yield position + 2
        inside = {0x20: position + 8, 0x50: position + 4}.get(kind)
        if inside is not None:
            yield from item_offsets(body, inside, position + 4 + length)
        position += 4 + length


FULL_RQ = replace(
    RQ,
    user=replace(
        USER,
        implementation_version_name="WIRE",
        async_ops=(1, 1),
        roles=(pdu.RoleSelection(CT, True, True),),
        extended=(pdu.ExtendedNegotiation(CT, b"\1"),),
        common_extended=(pdu.CommonExtendedNegotiation(CT, "1.2.840.10008.4.2", ("1.2.3",)),),
        identity=Identity.passcode("user", "secret"),
    ),
)
OFFSETS = list(item_offsets(encoded(FULL_RQ), 74, len(encoded(FULL_RQ))))


@pytest.mark.parametrize("wrong", ["overrun", "nested overrun"])
def test_items_that_overrun(case: MakeCase, wrong: str) -> None:
    """W6: each item and sub-item of a request in turn: 2/6, never anything else."""
    server = case()
    for offset in OFFSETS:
        request = bytearray(encoded(FULL_RQ))
        length = int.from_bytes(request[offset : offset + 2], "big")
        request[offset : offset + 2] = (0xFFFF if wrong == "overrun" else length + 1).to_bytes(2, "big")
        with Wire.to(server.port).sends(bytes(request)) as wire:
            heard = wire.hears()
            # One byte more may swallow the next item's type and make another item of the rest: legal, if lucky.
            assert isinstance(heard, pdu.Abort) or wrong == "nested overrun", offset
            assert not isinstance(heard, pdu.Abort) or (heard.source, heard.reason) in (INVALID, (2, 5)), offset
            wire.sends(ABORT) if isinstance(heard, pdu.AssociateAc) else wire.hears_to_the_end()
    server.is_over(lines=len(OFFSETS))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_bytes_behind_the_last_item(case: MakeCase, count: int) -> None:
    """W6: trailing bytes that are no item: 2/6."""
    server = case()
    body = encoded(RQ)[6:] + bytes(count)
    with Wire.to(server.port).sends(header(1, body)) as wire:
        assert aborts(wire) == [INVALID]
        server.is_over(wire)


def accepted(server: Case, request: pdu.AssociateRq | bytes) -> pdu.AssociateAc:
    """The request is accepted, and the association works."""
    with Wire.to(server.port).sends(request) as wire:
        answer = wire.hears()
        assert isinstance(answer, pdu.AssociateAc), answer
        wire.sends(echo_rq(7))
        assert wire.hears_message().message_id == 7
        wire.sends(RELEASE_RQ)
        assert wire.hears_to_the_end() == [RELEASE_RP]
        server.is_over(wire, lines=0)
    return answer


def test_unknown_items_in_any_order(case: MakeCase) -> None:
    """W7: N-06, N-07, N-08: skipped; reserved fields are not tested."""
    body = bytearray(encoded(RQ)[6:74])
    body[2:4] = b"\xff\xff"
    body[36:68] = b"\xff" * 32
    items = encoded(RQ)[74:]
    application, rest = items[:25], items[25:]
    known_last = b"\x99\xff\0\3abc" + rest + b"\x98\xff\0\0" + application + b"\x01\xff\0\1x"
    server = case()
    accepted(server, b"\x01\xff" + struct.pack(">I", len(body) + len(known_last)) + bytes(body) + known_last)


def test_unknown_user_information(case: MakeCase) -> None:
    """W7: N-06: sub-items, too."""
    accepted(case(), replace(RQ, user=replace(USER, unknown=((0x5A, b"new"), (0xFF, b"")))))


@pytest.mark.parametrize("version", [0, 2, 0xFFFE])
def test_versions_that_are_not_ours(case: MakeCase, version: int) -> None:
    """W8: RJ 1/2/2."""
    server = case()
    with Wire.to(server.port).sends(replace(RQ, protocol_version=version)) as wire:
        assert wire.hears_to_the_end() == [pdu.AssociateRj(1, 2, 2)]
        server.is_over(wire)


@pytest.mark.parametrize("version", [3, 0x8001])
def test_versions_with_bit_0(case: MakeCase, version: int) -> None:
    """W8: N-10: accepted."""
    accepted(case(), replace(RQ, protocol_version=version))


def context_item(context_id: int, *names: tuple[int, str]) -> bytes:
    body = bytes((context_id, 0, 0, 0))
    body += b"".join(pdu.item(kind, name.encode()) for kind, name in names)
    return pdu.item(0x20, body)


def request_with(*contexts: bytes) -> bytes:
    items = encoded(RQ)[74:]
    start, end = items.index(b"\x20\0"), items.index(b"\x50\0")
    body = encoded(RQ)[6:74] + items[:start] + b"".join(contexts) + items[end:]
    return header(1, body)


GOOD = ((0x30, VERIFICATION), (0x40, IMPLICIT))
BAD_CONTEXTS = {
    "none": (),
    "129": tuple(context_item(number % 256, *GOOD) for number in range(1, 259, 2)),
    "even": (context_item(2, *GOOD),),
    "zero": (context_item(0, *GOOD),),
    "doubled": (context_item(1, *GOOD), context_item(1, *GOOD)),
    "two abstract syntaxes": (context_item(1, (0x30, CT), *GOOD),),
    "no abstract syntax": (context_item(1, (0x40, IMPLICIT)),),
    "no transfer syntax": (context_item(1, (0x30, VERIFICATION)),),
}


@pytest.mark.parametrize("name", BAD_CONTEXTS)
def test_contexts_that_cannot_be(case: MakeCase, name: str) -> None:
    """W9: 2/6."""
    server = case()
    with Wire.to(server.port).sends(request_with(*BAD_CONTEXTS[name])) as wire:
        assert aborts(wire) == [INVALID]
        server.is_over(wire)


def test_uids_that_are_too_long(case: MakeCase) -> None:
    """W9: a UID over 64 characters names nothing that is supported: refused in the answer, or 2/6."""
    server = case()
    long = "1." * 50 + "1"
    with Wire.to(server.port).sends(request_with(context_item(1, (0x30, long), (0x40, long)))) as wire:
        match wire.hears():
            case pdu.AssociateAc(contexts=(context,)):
                assert context.result in (3, 4)
                wire.sends(RELEASE_RQ)
                assert wire.hears_to_the_end() == [RELEASE_RP]
                server.is_over(wire, lines=0)
            case pdu.Abort(source, reason):
                assert (source, reason) == INVALID
                server.is_over(wire)
            case other:
                pytest.fail(f"{other}")


def test_a_thousand_transfer_syntaxes(case: MakeCase) -> None:
    """W9: accepted; the one that is known is found among them."""
    names = [(0x40, f"1.2.3.{number}") for number in range(999)] + [(0x40, IMPLICIT)]
    answer = accepted(case(), request_with(context_item(1, (0x30, VERIFICATION), *names)))
    assert [(context.result, context.transfer_syntax) for context in answer.contexts] == [(0, IMPLICIT)]


@pytest.mark.parametrize("padding", ["\0", " ", "\0\0", " \0"])
def test_padded_uids(case: MakeCase, padding: str) -> None:
    """W9: NUL or space: accepted."""
    accepted(case(), request_with(context_item(1, (0x30, VERIFICATION + padding), (0x40, IMPLICIT + padding))))


def with_titles(called: bytes, calling: bytes) -> bytes:
    request = bytearray(encoded(RQ))
    request[10:42] = called.ljust(16)[:16] + calling.ljust(16)[:16]
    return bytes(request)


BAD_TITLES = {
    "blank called": (b"", b"WIRE", 7),
    "blank calling": (b"SCP", b"", 3),
    "NULs": (b"SCP", bytes(16), 3),
    "8-bit": (b"SCP", b"M\xdcNCHEN", 3),
    "inner NUL": (b"SCP", b"A\0B", 3),
    "control": (b"SCP", b"A\nWARNING root: x", 3),
    "backslash": (b"SCP", b"A\\B", 3),
}


@pytest.mark.parametrize("name", BAD_TITLES)
def test_ae_titles_that_cannot_be(case: MakeCase, name: str) -> None:
    """W10: N-14: RJ 1/1/3 or 1/1/7; a line in the log stays a line."""
    called, calling, reason = BAD_TITLES[name]
    server = case()
    with Wire.to(server.port).sends(with_titles(called, calling)) as wire:
        assert wire.hears_to_the_end() == [pdu.AssociateRj(1, 1, reason)]
        server.is_over(wire)
    assert "\n" not in server.lines()[0].getMessage()


@pytest.mark.parametrize("calling", [b"wire", b"  WIRE", b"WIRE\0\0\0", b"../../etc", b"A'B\"C"])
def test_strange_ae_titles(case: MakeCase, calling: bytes) -> None:
    """W10: lower case, spaces around it, NUL behind it, ../: accepted, and echoed as they came (N-09)."""
    answer = accepted(case(), with_titles(b"SCP", calling))
    assert answer.titles[16:32] == calling.ljust(16)


@pytest.mark.parametrize("length", [1, 6, 7])
def test_maximum_lengths_without_room(case: MakeCase, length: int) -> None:
    """W11: N-17: below 8 is refused: 2/6."""
    server = case()
    with Wire.to(server.port).sends(replace(RQ, user=replace(USER, max_length=length))) as wire:
        assert aborts(wire) == [INVALID]
        server.is_over(wire)


@pytest.mark.parametrize("length", [0, 8, 9, 16, (1 << 32) - 1])
def test_strange_maximum_lengths(case: MakeCase, length: int) -> None:
    """W11: N-17: never exceeded."""
    server = case()
    with Wire.to(server.port).sends(replace(RQ, user=replace(USER, max_length=length))) as wire:
        assert isinstance(wire.hears(), pdu.AssociateAc)
        wire.sends(echo_rq())
        command = b""
        while True:
            value = wire.hears()
            assert isinstance(value, pdu.PDataTf)
            assert len(encoded(value)) - 6 <= (length or 1 << 32)
            command += b"".join(part.data for part in value.pdvs)
            if value.pdvs[-1].is_last:
                break
        assert messages.decode(command).status == 0
        wire.sends(RELEASE_RQ)
        assert wire.hears_to_the_end() == [RELEASE_RP]
        server.is_over(wire, lines=0)


IDENTITIES = {
    **{f"type {kind}": Identity(kind, b"somebody", b"", True) for kind in (0, 1, 2, 3, 4, 5, 6, 255)},
    "60 KiB": Identity(4, bytes(60 * 1024)),
    "not UTF-8": Identity(1, b"\xff\xfe\x80"),
    "empty": Identity(1, b""),
}


@pytest.mark.parametrize("name", IDENTITIES)
def test_strange_user_identities(case: MakeCase, name: str) -> None:
    """W12: N-30: accepted, whatever the type; no response unless somebody supports it."""
    answer = accepted(case(), replace(RQ, user=replace(USER, identity=IDENTITIES[name])))
    assert answer.user.identity_response is None


@pytest.mark.parametrize("wrong", ["primary", "secondary", "twice"])
def test_user_identities_that_cannot_be(case: MakeCase, wrong: str) -> None:
    """W12: over-long lengths 2/6; the sub-item twice 2/5."""
    good = bytes((2, 0, 0, 4)) + b"user" + bytes((0, 4)) + b"word"
    bad = {"primary": bytes((2, 0, 0xFF, 0xFF)) + good[4:], "secondary": good[:8] + b"\xff\xff" + good[10:]}
    items = ((0x58, good), (0x58, good)) if wrong == "twice" else ((0x58, bad[wrong]),)
    server = case()
    with Wire.to(server.port).sends(replace(RQ, user=replace(USER, unknown=items))) as wire:
        assert aborts(wire) == [(2, 5) if wrong == "twice" else INVALID]
        server.is_over(wire)


def test_a_release_in_mid_message(case: MakeCase) -> None:
    """W13, P6: 2/6, and no file is left."""
    server = case()
    with Wire.associated(server.port).sends(*pdus(store_rq(longest=64))[:-1], RELEASE_RQ) as wire:
        assert aborts(wire) == [INVALID]
        server.is_over(wire)
    assert server.scp.received == []


def test_a_release_where_a_data_set_is_due(case: MakeCase) -> None:
    """P6: announced and never sent, then release: abort, no file left."""
    server = case()
    with Wire.associated(server.port).sends(pdus(store_rq())[0], RELEASE_RQ) as wire:
        assert aborts(wire) == [INVALID]
        server.is_over(wire)


def test_data_after_the_release(case: MakeCase) -> None:
    """W13: not served any more."""
    server = case()
    with Wire.associated(server.port).sends(RELEASE_RQ) as wire:
        assert wire.hears() == RELEASE_RP
        wire.sends(store_rq())
        assert wire.hears_to_the_end() == []
        server.is_over(wire, lines=0)
    assert server.scp.received == []


@pytest.mark.parametrize("reserved", [(1, 3), (255, 255), (0, 77)])
def test_an_abort_with_reserved_values(case: MakeCase, reserved: tuple[int, int]) -> None:
    """W13: an abort is an abort; on_close is told what came."""
    server = case()
    with Wire.associated(server.port).sends(pdu.Abort(*reserved)) as wire:
        assert wire.hears_to_the_end() == []
        (error,) = server.scp.close_errors(1)
        assert (error.source, error.reason) == reserved
        server.is_over(wire)


# --- P: DIMSE -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, 1, 100, (1 << 32) - 1])
def test_pdv_lengths_that_cannot_be(case: MakeCase, length: int) -> None:
    """P1: 2/6."""
    body = struct.pack(">I", length) + bytes((1, 3)) + bytes(10)
    server = case()
    with Wire.associated(server.port).sends(header(4, body)) as wire:
        assert aborts(wire) == [INVALID]
        server.is_over(wire)


@pytest.mark.parametrize("context_id", [0, 2, 5, 7, 255])
def test_data_in_a_context_that_is_not_accepted(case: MakeCase, context_id: int) -> None:
    """P3: unknown (0, 2, 7, 255) or refused (5): 2/6."""
    server = case()
    with Wire.associated(server.port).sends(p_data(pdv(context_id, 3, bytes(10)))) as wire:
        assert aborts(wire) == [INVALID]
        server.is_over(wire)


def test_reserved_control_flags(case: MakeCase) -> None:
    """P4: N-19: accepted."""
    command = bytearray(echo_rq(9))
    command[11] = 0xFF
    server = case()
    with Wire.associated(server.port).sends(bytes(command)) as wire:
        assert wire.hears_message().message_id == 9
        wire.sends(RELEASE_RQ)
        wire.hears_to_the_end()
        server.is_over(wire, lines=0)


INTERLEAVED = {
    "contexts": p_data(pdv(3, 1, bytes(8)), pdv(1, 1, bytes(8))),
    "messages": b"".join(pdus(store_rq(longest=64))[:-1]) + echo_rq(2),
    "data set first": p_data(pdv(3, 0, bytes(8))),
    "command in a data set": b"".join(pdus(store_rq(longest=64))[:-1]) + store_rq(2),
}


@pytest.mark.parametrize("name", INTERLEAVED)
def test_fragments_that_interleave(case: MakeCase, name: str) -> None:
    """P5, P6: N-18: 2/6."""
    server = case()
    with Wire.associated(server.port).sends(INTERLEAVED[name]) as wire:
        assert aborts(wire) == [INVALID]
        server.is_over(wire)
    assert server.scp.received == []


def test_several_requests_in_a_segment(case: MakeCase) -> None:
    """P7: all answered, in order."""
    server = case()
    with Wire.associated(server.port).sends(echo_rq(1), store_rq(2), echo_rq(3), store_rq(4)) as wire:
        assert [wire.hears_message().message_id for _ in range(4)] == [1, 2, 3, 4]
        wire.sends(RELEASE_RQ)
        wire.hears_to_the_end()
        server.is_over(wire, lines=0)
    assert server.scp.received == [patient_data()] * 2


def test_several_requests_in_a_pdu(case: MakeCase) -> None:
    """P7: all answered, in order."""
    bodies = b"".join(part[6:] for part in (echo_rq(1), echo_rq(2), echo_rq(3)))
    server = case()
    with Wire.associated(server.port).sends(header(4, bodies)) as wire:
        assert [wire.hears_message().message_id for _ in range(3)] == [1, 2, 3]
        wire.sends(RELEASE_RQ)
        wire.hears_to_the_end()
        server.is_over(wire, lines=0)


BAD_COMMANDS = {
    "odd": echo_rq()[12:-1],
    "garbage": b"\xff" * 60,
    "empty": b"",
    "half an element": bytes(4),
    "explicit VR": struct.pack("<HH2sH", 0, 0x100, b"US", 2) + b"\x30\0",
    "another group": struct.pack("<HHI", 8, 0x18, 0),
}


@pytest.mark.parametrize("name", BAD_COMMANDS)
def test_command_sets_that_are_none(case: MakeCase, name: str) -> None:
    """P8: 2/6."""
    server = case()
    with Wire.associated(server.port).sends(p_data(pdv(1, 3, BAD_COMMANDS[name]))) as wire:
        assert aborts(wire) == [INVALID]
        server.is_over(wire)


def test_a_command_set_of_a_mebibyte(case: MakeCase) -> None:
    """P8: past 64 KiB: 2/6."""
    server = case()
    piece = p_data(pdv(1, 1, bytes(16000)))
    with Wire.associated(server.port) as wire:
        for _ in range(64):
            if not wire.tries_to_send(piece):
                break
        assert aborts(wire) in ([INVALID], [])  # [] if the system threw it away because of what was still coming
        server.is_over(wire)


def elements(command: bytes) -> dict[int, bytes]:
    """The elements of a command set, each with its header."""
    found, position = {}, 0
    while position < len(command):
        _group, element, length = struct.unpack_from("<HHI", command, position)
        found[element] = command[position : position + 8 + length]
        position += 8 + length
    return found


STORE_COMMAND = messages.encode(Request(CommandField.C_STORE, 5, CT, "1.2.3", has_dataset=True))


@pytest.mark.parametrize("missing", sorted(elements(STORE_COMMAND)))
def test_a_command_set_that_lacks_an_element(case: MakeCase, missing: int) -> None:
    """P8: each in turn: 0212H, or 2/6 where nobody could be answered; without group length: served."""
    command = b"".join(part for element, part in elements(STORE_COMMAND).items() if element != missing)
    server = case()
    with Wire.associated(server.port) as wire:
        wire.sends(p_data(pdv(3, 3, command)), p_data(pdv(3, 2, patient_data())))
        if missing in (0x0100, 0x0110, 0x0800):
            assert aborts(wire) == [INVALID]
            server.is_over(wire)
            return
        # With no group length it is complete; its instance UID is not the data set's.
        assert wire.hears_message().status == (0xA900 if missing == 0 else 0x0212)
        wire.sends(RELEASE_RQ)
        wire.hears_to_the_end()
        server.is_over(wire, lines=0)
    assert server.scp.received == []


def test_an_unknown_operation(case: MakeCase) -> None:
    """P8: field 7777H: 0211H; the association lives."""
    command = elements(messages.encode(Request(CommandField.C_ECHO, 5, VERIFICATION)))
    command[0x100] = command[0x100][:8] + b"\x77\x77"
    server = case()
    with Wire.associated(server.port) as wire:
        wire.sends(p_data(pdv(1, 3, b"".join(command.values()))), echo_rq(6))
        answer = wire.hears()
        assert isinstance(answer, pdu.PDataTf)
        response = command_sets.decode(answer.pdvs[0].data)
        assert [response[field] for field in (0x0100, 0x0120, 0x0900)] == [0xF777, 5, 0x0211]
        assert wire.hears_message().status == 0
        wire.sends(RELEASE_RQ)
        wire.hears_to_the_end()
        server.is_over(wire, lines=0)


def test_a_message_id_that_is_in_use(case: MakeCase) -> None:
    """P8: N-23: 0210H for the second one."""
    server = case()
    with Wire.associated(server.port).sends(echo_rq(5), echo_rq(5), echo_rq(6)) as wire:
        assert [wire.hears_message().status for _ in range(3)] == [0, 0x0210, 0]
        wire.sends(RELEASE_RQ)
        wire.hears_to_the_end()
        server.is_over(wire, lines=0)


def test_a_cancel_for_nothing(case: MakeCase) -> None:
    """P9: N-26: ignored."""
    server = case()
    cancel = message(1, Request(CommandField.C_CANCEL, 77))
    with Wire.associated(server.port).sends(cancel, echo_rq(2)) as wire:
        assert wire.hears_message().message_id == 2
        wire.sends(RELEASE_RQ)
        wire.hears_to_the_end()
        server.is_over(wire, lines=0)


MISMATCHES = {
    "context": Request(CommandField.C_STORE, 1, "1.2.840.10008.5.1.4.1.1.4", "1.2.3.4", has_dataset=True),
    "instance": Request(CommandField.C_STORE, 1, CT, "1.2.3.5", has_dataset=True),
}


@pytest.mark.parametrize("name", MISMATCHES)
def test_a_data_set_that_is_not_what_the_command_says(case: MakeCase, name: str) -> None:
    """P10: A900; nothing is kept."""
    server = case()
    with Wire.associated(server.port).sends(message(3, MISMATCHES[name], patient_data())) as wire:
        assert wire.hears_message().status == 0xA900
        wire.sends(RELEASE_RQ)
        wire.hears_to_the_end()
        server.is_over(wire, lines=0)
    assert server.scp.received == []


def test_an_n_service_on_a_c_class(case: MakeCase) -> None:
    """P11: 0211H."""
    server = case()
    with Wire.associated(server.port).sends(message(3, Request(CommandField.N_DELETE, 3, CT, "1.2.3"))) as wire:
        assert wire.hears_message().status == 0x0211
        wire.sends(RELEASE_RQ)
        wire.hears_to_the_end()
        server.is_over(wire, lines=0)


def test_a_response_to_a_server_that_asked_nothing(case: MakeCase) -> None:
    """N-25, P12: 2/6."""
    server = case()
    with Wire.associated(server.port).sends(echo_rsp()) as wire:
        assert aborts(wire) == [INVALID]
        server.is_over(wire)


def test_far_more_requests_than_the_window(case: MakeCase) -> None:
    """P13, N-27: whether answered, refused with 0213H or aborted with 2/6: all in order, and nothing piles up."""
    server = case()
    with Wire.associated(server.port) as wire:
        wire.sends(*(echo_rq(number) for number in range(1, 301)))
        wire.half_closes()
        statuses = []
        while isinstance(value := wire.hears(), pdu.PDataTf):
            statuses.append(messages.decode(value.pdvs[0].data).status)
        assert set(statuses) <= {0, 0x0213}
        assert len(statuses) == 300 or (isinstance(value, pdu.Abort) and (value.source, value.reason) == INVALID)
        server.is_over(wire)


# --- N: the network -------------------------------------------------------------------------------------------------

CONVERSATION = encoded(RQ) + store_rq(1, longest=128) + encoded(RELEASE_RQ)


def plays_up_to(wire: Wire, offset: int) -> None:
    """The conversation's first ``offset`` bytes; what comes before the answer waits for it."""
    request = len(encoded(RQ))
    wire.sends(CONVERSATION[: min(offset, request)])
    if offset > request:
        assert isinstance(wire.hears(), pdu.AssociateAc)
        wire.sends(CONVERSATION[request:offset])


@pytest.mark.parametrize("how", ["reset", "half-close"])
def test_a_connection_that_ends_at_each_byte(case: MakeCase, how: str) -> None:
    """N1, N2: nothing is stored that is not whole, nothing is left, each leaves one line at most."""
    server = case(timeouts=quick())
    for offset in range(len(CONVERSATION) + 1):
        with Wire.to(server.port) as wire:
            plays_up_to(wire, offset)
            if how == "reset":
                wire.resets()
                continue
            wire.half_closes().hears_to_the_end()
    associations = len(CONVERSATION) + 1 - len(encoded(RQ))
    server.scp.server.close()
    assert len(server.lines()) <= associations
    whole = len(encoded(RELEASE_RQ)) + 1
    if how == "half-close":
        assert len(server.lines()) == associations - 1  # all but the one that was released
        assert len(server.scp.received) == whole
    assert set(server.scp.received) <= {patient_data()}
    assert [record for record in server.lines() if record.exc_info] == []
    assert not any("DOE" in record.getMessage() for record in server.lines())
    assert spooled(server.scp.spool) == []


def test_a_fresh_echo_between_connections_that_end(case: MakeCase) -> None:
    """N1: at once, whatever the others do."""
    server = case()
    for offset in range(0, len(CONVERSATION), 40):
        with Wire.to(server.port) as wire:
            plays_up_to(wire, offset)
            wire.resets()
        with Wire.associated(server.port).sends(echo_rq(), RELEASE_RQ) as fresh:
            assert fresh.hears_message().status == 0
            assert fresh.hears_to_the_end() == [RELEASE_RP]


def test_one_byte_segments(case: MakeCase) -> None:
    """N3: throughout."""
    server = case()
    with Wire.to(server.port) as wire:
        for number, byte in enumerate(CONVERSATION):
            wire.sends(bytes((byte,)))
            assert number != REQUEST - 1 or isinstance(wire.hears(), pdu.AssociateAc)
        assert wire.hears_message().status == 0
        assert wire.hears_to_the_end() == [RELEASE_RP]
        server.is_over(wire, lines=0)
    assert server.scp.received == [patient_data()]


REQUEST = len(encoded(RQ))
COMMAND = REQUEST + len(store_rq(longest=128)) - len(p_data(pdv(3, 2, patient_data())))
STALLS = {
    "nothing": 0,
    "PDU header": 3,
    "request": 100,
    "after the request": REQUEST,
    "P-DATA header": REQUEST + 4,
    "PDV header": REQUEST + 9,
    "command set": REQUEST + 30,
    "before the data set": COMMAND,
    "data set": COMMAND + 40,
    "last byte of the data set": len(CONVERSATION) - 11,
    "after the message": len(CONVERSATION) - 10,
    "release": len(CONVERSATION) - 1,
}


@pytest.mark.parametrize("name", STALLS)
def test_a_stall(case: MakeCase, name: str) -> None:
    """N4, N9: at each kind of offset: gone when ARTIM, the PDU's or the idle limit says; nothing is left."""
    server = case(timeouts=quick("artim", "pdu", "idle"))
    with Wire.to(server.port) as wire:
        plays_up_to(wire, STALLS[name])
        heard = [type(value).__name__ for value in wire.hears_to_the_end()]
        assert heard[-1:] == (["Abort"] if STALLS[name] >= REQUEST else [])
        server.is_over(wire)
        assert "time limit" in server.lines()[0].getMessage()


def test_a_peer_that_never_reads(case: MakeCase) -> None:
    """N5: we stop reading from it, and it is gone when the limit to send says."""
    server = case(timeouts=quick("send"), limits=Limits(spool_size=16))
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        sock.connect(("127.0.0.1", server.port))
        wire = Wire(sock)
        wire.sends(RQ).hears()
        many = b"".join(echo_rq(number) for number in range(1, 1001))
        while wire.tries_to_send(many):
            pass
        server.is_over(wire)
    assert "'send'" in server.lines()[0].getMessage()


@pytest.mark.parametrize("where", ["request", "data"])
def test_a_peer_that_drips(case: MakeCase, where: str) -> None:
    """N6: one byte now and then extends no limit."""
    server = case(timeouts=quick("artim", "pdu"))
    with Wire.to(server.port) if where == "request" else Wire.associated(server.port) as wire:
        drip = encoded(RQ)[:-1] if where == "request" else store_rq(data=bytes(200), longest=16384)[:-1]
        sent = 0
        for byte in drip:
            if not wire.is_quiet_for(QUICK / 20) or not wire.tries_to_send(bytes((byte,))):
                break
            sent += 1
        assert sent < len(drip)
        wire.hears_to_the_end()
        server.is_over(wire)
    assert "time limit" in server.lines()[0].getMessage()


def test_many_half_open_connections(case: MakeCase, client: Face) -> None:
    """N7: scaled down: past the limit they are refused or closed; an association that stands goes on."""
    server = case(limits=Limits(pending=8))
    with client.associate(server.scp.peer) as standing:
        with contextlib.ExitStack() as stack:
            silent = [stack.enter_context(Wire.to(server.port)) for _ in range(60)]
            assert standing.c_echo().status == 0
            assert sum(wire.reads(1) == b"" for wire in silent[8:]) == 52  # refused ones after a second
        assert standing.c_echo().status == 0
    eventually(lambda: _echoes(client, server), "there is room again")


def _echoes(client: Face, server: Case) -> bool:
    try:
        with client.associate(server.scp.peer) as association:
            return bool(association.c_echo().status == 0)
    except dicomnet.AssociationRejected:
        return False


# --- K: handlers and process ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("handler", ["raises", "returns nonsense"])
def test_a_handler_that_is_broken(case: MakeCase, client: Face, handler: str) -> None:
    """K3: 0x0110 each time; the association, and others, live."""
    server = case()

    @server.scp.ae.on_c_echo
    def broken(request: Any) -> Any:
        return 1 / 0 if handler == "raises" else [request]

    with client.associate(server.scp.peer) as one, client.associate(server.scp.peer) as other:
        assert {association.c_echo().status for association in (one, other, one)} == {0x0110}
    assert len([record for record in server.lines() if record.exc_info]) == 3


def test_a_handler_that_never_returns(case: MakeCase, client: Face) -> None:
    """K3, K4: only its own association waits; its requestor gives up."""
    server = case()
    may_end = threading.Event()

    @server.scp.ae.on_c_store
    def stuck(request: Any) -> int:
        may_end.wait(60)
        return 0

    association = client.associate(server.scp.peer, contexts=[(CT, [EXPLICIT])], timeouts=quick("response"))
    with pytest.raises(dicomnet.DeadlineExceeded):
        association.c_store(ct(patient_data()))
    for _ in range(3):
        with client.associate(server.scp.peer) as other:
            assert other.c_echo().status == 0
    may_end.set()
    server.scp.close_errors(4)


SCRIPT = """
import logging, os, resource, socket, sys, threading
import dicomnet
from tests.faces.face import FACES

soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
face = FACES[sys.argv[1]]
complained = threading.Event()

class Complaints(logging.Handler):
    def emit(self, record):
        print("log:", record.getMessage().partition(": ")[2], flush=True)
        complained.set()

logging.getLogger("dicomnet").addHandler(Complaints())
with face.serve(dicomnet.AE("SCP"), "127.0.0.1", 0) as server:
    peer = f"SCP@127.0.0.1:{server.port}"

    def echo():
        with face.associate(peer) as association:
            print("echo", int(association.c_echo().status), flush=True)

    echo()
"""


def run_script(client: Face, body: str) -> list[str]:
    """What a process of its own says."""
    (name,) = [name for name, face in FACES.items() if face is client]
    root = Path(__file__).parents[2]
    paths = filter(None, [str(root), os.environ.get("PYTHONPATH")])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT + body, name],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=root,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_no_more_descriptors(client: Face) -> None:
    """K5: EMFILE: the server lives, says so once, and serves again when there are some."""
    said = run_script(
        client,
        """
    held = [socket.socket() for _ in range(20)]
    highest = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 4, hard))
    for sock in held:
        sock.connect(("127.0.0.1", server.port))
    assert complained.wait(20)
    for sock in held:
        sock.close()
    echo()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    echo()
""",
    )
    complaint = "log: cannot accept connections: [Errno 24] Too many open files"
    assert said == ["echo 0", complaint, "echo 0", "echo 0"]


def test_more_than_1024_descriptors(client: Face) -> None:
    """K5: no FD_SETSIZE."""
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 1300:
        pytest.skip("this machine does not allow so many")
    said = run_script(
        client,
        """
    resource.setrlimit(resource.RLIMIT_NOFILE, (1300, hard))
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    echo()
""",
    )
    assert said == ["echo 0", "echo 0"]
