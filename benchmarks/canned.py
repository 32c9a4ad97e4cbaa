"""The few PDUs of an end that says always the same, as bytes made once (PS3.8 9.3, PS3.7 9.3).

With them a bare end costs next to nothing: what is measured is the other one. They also tell the sizes of the
messages that bare ping-pongs exchange.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import pack, unpack_from

VERIFICATION = "1.2.840.10008.1.1"
RELEASE_RQ = bytes.fromhex("05 00 00000004 00000000")
RELEASE_RP = bytes.fromhex("06 00 00000004 00000000")
IS_COMMAND, IS_LAST = 1, 2  # of the message control header
# Types of PDUs
ASSOCIATE_RQ, ASSOCIATE_AC, P_DATA, RELEASE_REQUEST, RELEASE_RESPONSE = 1, 2, 4, 5, 6

_APPLICATION_CONTEXT = b"1.2.840.10008.3.1.1.1"
_IMPLICIT_VR_LITTLE_ENDIAN = b"1.2.840.10008.1.2"
_NO_DATA_SET = 0x0101
_FIXED = 74  # bytes of an A-ASSOCIATE-RQ before its first item
_STORE_RSP = 0x8001


def associate_rq(called: str, calling: str, sop_class: str = VERIFICATION) -> bytes:
    """An A-ASSOCIATE-RQ that proposes `sop_class` in Implicit VR Little Endian as presentation context 1."""
    context = pack(">B3x", 1) + _item(0x30, sop_class.encode()) + _item(0x40, _IMPLICIT_VR_LITTLE_ENDIAN)
    user = _item(0x51, pack(">I", 16384)) + _item(0x52, b"2.25.1")
    titles = f"{called:16}{calling:16}".encode()
    body = pack(">Hxx", 1) + titles + bytes(32) + _item(0x10, _APPLICATION_CONTEXT)
    return pdu(ASSOCIATE_RQ, body + _item(0x20, context) + _item(0x50, user))


def associate_ac(request: bytes, max_length: int) -> bytes:
    """An A-ASSOCIATE-AC to `request`: each context with the first of its transfer syntaxes."""
    contexts = b""
    for kind, body in _items(request, _FIXED, len(request)):
        if kind == 0x20:
            syntax = next(value for inner, value in _items(body, 4, len(body)) if inner == 0x40)
            contexts += _item(0x21, pack(">B3x", body[0]) + _item(0x40, syntax))
    user = _item(0x51, pack(">I", max_length)) + _item(0x52, b"2.25.1")
    return pdu(ASSOCIATE_AC, request[6:_FIXED] + _item(0x10, _APPLICATION_CONTEXT) + contexts + _item(0x50, user))


def max_length_of(accept: bytes) -> int:
    """What an A-ASSOCIATE-AC says of the longest PDU that its sender takes; 0 is any."""
    user = next(body for kind, body in _items(accept, _FIXED, len(accept)) if kind == 0x50)
    lengths = (unpack_from(">I", body)[0] for kind, body in _items(user, 0, len(user)) if kind == 0x51)
    return int(next(lengths, 0))


def echo_rq() -> bytes:
    """A C-ECHO-RQ with message ID 1 on presentation context 1."""
    command = _element(0x0002, _uid(VERIFICATION)) + _number(0x0100, 0x0030) + _number(0x0110, 1)
    return _message(command + _number(0x0800, _NO_DATA_SET))


def echo_rsp() -> bytes:
    """Its answer, success."""
    command = _element(0x0002, _uid(VERIFICATION)) + _number(0x0100, 0x8030) + _number(0x0120, 1)
    return _message(command + _number(0x0800, _NO_DATA_SET) + _number(0x0900, 0))


def store_rq(sop_class: str, sop_instance: str) -> bytes:
    """A C-STORE-RQ with message ID 1 on presentation context 1, without the data set that follows."""
    command = _element(0x0002, _uid(sop_class)) + _number(0x0100, 0x0001) + _number(0x0110, 1)
    return _message(command + _number(0x0700, 0) + _number(0x0800, 1) + _element(0x1000, _uid(sop_instance)))


def store_rsp(context: int, command: bytes) -> bytes:
    """The answer, success, to a C-STORE-RQ with this command set."""
    elements = dict(_elements(command))
    answer = _element(0x0002, elements[0x0002]) + _number(0x0100, _STORE_RSP) + _element(0x0120, elements[0x0110])
    answer += _number(0x0800, _NO_DATA_SET) + _number(0x0900, 0) + _element(0x1000, elements[0x1000])
    return _message(answer, context)


def store_overhead(sop_class: str, sop_instance: str) -> tuple[int, int]:
    """The bytes of a C-STORE-RQ beside its data set, when that fits one PDU; and the bytes of a C-STORE-RSP."""
    request = store_rq(sop_class, sop_instance)
    response = store_rsp(1, request[12:])
    return len(request) + len(data_pdu(b"")), len(response)


def data_pdu(fragment: bytes, *, last: bool = True) -> bytes:
    """A P-DATA-TF with a fragment of a data set on presentation context 1."""
    return pdu(P_DATA, pack(">IBB", len(fragment) + 2, 1, IS_LAST if last else 0) + fragment)


def pdu(kind: int, body: bytes) -> bytes:
    """A PDU of any type."""
    return pack(">BxI", kind, len(body)) + body


def element(group: int, number: int, value: bytes) -> bytes:
    """An element of a data set in Implicit VR Little Endian."""
    return pack("<HHI", group, number, len(value)) + value


def _message(command: bytes, context: int = 1) -> bytes:
    command_set = _element(0x0000, pack("<I", len(command))) + command
    return pdu(P_DATA, pack(">IBB", len(command_set) + 2, context, IS_COMMAND | IS_LAST) + command_set)


def _item(kind: int, body: bytes) -> bytes:
    return pack(">BxH", kind, len(body)) + body


def _items(data: bytes, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    while start < end:
        kind, length = unpack_from(">BxH", data, start)
        yield kind, data[start + 4 : start + 4 + length]
        start += 4 + length


def _element(number: int, value: bytes) -> bytes:
    return element(0x0000, number, value)


def _elements(command: bytes) -> Iterator[tuple[int, bytes]]:
    start = 0
    while start < len(command):
        number, length = unpack_from("<2xHI", command, start)
        yield number, command[start + 8 : start + 8 + length]
        start += 8 + length


def _number(number: int, value: int) -> bytes:
    return _element(number, pack("<H", value))


def _uid(uid: str) -> bytes:
    return (uid + "\0" * (len(uid) % 2)).encode()
