"""The few PDUs of a requestor that says always the same, as bytes made once (PS3.8 9.3, PS3.7 9.3.5).

With them a bare client costs next to nothing: what is measured is the acceptor. They also tell the sizes of the
messages that bare ping-pongs exchange.
"""

from __future__ import annotations

from struct import pack

VERIFICATION = "1.2.840.10008.1.1"
RELEASE_RQ = bytes.fromhex("05 00 00000004 00000000")
ASSOCIATE_AC, P_DATA, RELEASE_RP = 2, 4, 6

_APPLICATION_CONTEXT = b"1.2.840.10008.3.1.1.1"
_IMPLICIT_VR_LITTLE_ENDIAN = b"1.2.840.10008.1.2"
_COMMAND, _LAST = 1, 2  # of the message control header
_NO_DATA_SET = 0x0101


def associate_rq(called: str, calling: str) -> bytes:
    """An A-ASSOCIATE-RQ that proposes Verification as presentation context 1."""
    context = pack(">B3x", 1) + _item(0x30, VERIFICATION.encode()) + _item(0x40, _IMPLICIT_VR_LITTLE_ENDIAN)
    user = _item(0x51, pack(">I", 16384)) + _item(0x52, b"2.25.1")
    titles = f"{called:16}{calling:16}".encode()
    body = pack(">Hxx", 1) + titles + bytes(32) + _item(0x10, _APPLICATION_CONTEXT)
    return _pdu(1, body + _item(0x20, context) + _item(0x50, user))


def echo_rq() -> bytes:
    """A C-ECHO-RQ with message ID 1 on presentation context 1."""
    command = _element(0x0002, _uid(VERIFICATION)) + _number(0x0100, 0x0030) + _number(0x0110, 1)
    return _message(command + _number(0x0800, _NO_DATA_SET))


def echo_rsp() -> bytes:
    """Its answer, success."""
    command = _element(0x0002, _uid(VERIFICATION)) + _number(0x0100, 0x8030) + _number(0x0120, 1)
    return _message(command + _number(0x0800, _NO_DATA_SET) + _number(0x0900, 0))


def store_overhead(sop_class: str, sop_instance: str) -> tuple[int, int]:
    """The bytes of a C-STORE-RQ beside its data set, when that fits one PDU; and the bytes of a C-STORE-RSP."""
    uids = _element(0x0002, _uid(sop_class)) + _element(0x1000, _uid(sop_instance))
    numbers = _number(0x0100, 0x0001) + _number(0x0110, 1) + _number(0x0700, 0) + _number(0x0800, 1)
    request = _message(uids + numbers) + _pdu(P_DATA, pack(">IBB", 2, 1, _LAST))
    response = _message(uids + numbers)  # message ID responded to and status take the room of message ID and priority
    return len(request), len(response)


def _message(command: bytes) -> bytes:
    command_set = _element(0x0000, pack("<I", len(command))) + command
    return _pdu(P_DATA, pack(">IBB", len(command_set) + 2, 1, _COMMAND | _LAST) + command_set)


def _pdu(kind: int, body: bytes) -> bytes:
    return pack(">BxI", kind, len(body)) + body


def _item(kind: int, body: bytes) -> bytes:
    return pack(">BxH", kind, len(body)) + body


def _element(element: int, value: bytes) -> bytes:
    return pack("<HHI", 0, element, len(value)) + value


def _number(element: int, value: int) -> bytes:
    return _element(element, pack("<H", value))


def _uid(uid: str) -> bytes:
    return (uid + "\0" * (len(uid) % 2)).encode()
