"""Command sets to and from bytes (PS3.7 6.3, Annex E): implicit VR little endian, ascending, with group length.

A command set is a dict of element number (the tag's second half) → value: int for US and UL, str for UI, AE and LO, a
tuple of 32-bit tags for AT. What does not fit its VR, and elements unknown here, stay bytes.
"""

from __future__ import annotations

import struct
from typing import Final

CommandSet = dict[int, "int | str | tuple[int, ...] | bytes"]

GROUP_LENGTH: Final = 0x0000
AFFECTED_SOP_CLASS_UID: Final = 0x0002
REQUESTED_SOP_CLASS_UID: Final = 0x0003
COMMAND_FIELD: Final = 0x0100
MESSAGE_ID: Final = 0x0110
MESSAGE_ID_BEING_RESPONDED_TO: Final = 0x0120
MOVE_DESTINATION: Final = 0x0600
PRIORITY: Final = 0x0700
DATA_SET_TYPE: Final = 0x0800
STATUS: Final = 0x0900
OFFENDING_ELEMENT: Final = 0x0901
ERROR_COMMENT: Final = 0x0902
ERROR_ID: Final = 0x0903
AFFECTED_SOP_INSTANCE_UID: Final = 0x1000
REQUESTED_SOP_INSTANCE_UID: Final = 0x1001
EVENT_TYPE_ID: Final = 0x1002
ATTRIBUTE_IDENTIFIER_LIST: Final = 0x1005
ACTION_TYPE_ID: Final = 0x1008
REMAINING: Final = 0x1020
COMPLETED: Final = 0x1021
FAILED: Final = 0x1022
WARNING: Final = 0x1023
MOVE_ORIGINATOR_AE: Final = 0x1030
MOVE_ORIGINATOR_MESSAGE_ID: Final = 0x1031

NO_DATA_SET: Final = 0x0101  # Data Set Type if and only if no data set follows; any other value: one does

_US, _UL, _UI, _AE, _LO, _AT = "US", "UL", "UI", "AE", "LO", "AT"
VRS: Final = {
    GROUP_LENGTH: _UL,
    AFFECTED_SOP_CLASS_UID: _UI,
    REQUESTED_SOP_CLASS_UID: _UI,
    COMMAND_FIELD: _US,
    MESSAGE_ID: _US,
    MESSAGE_ID_BEING_RESPONDED_TO: _US,
    MOVE_DESTINATION: _AE,
    PRIORITY: _US,
    DATA_SET_TYPE: _US,
    STATUS: _US,
    OFFENDING_ELEMENT: _AT,
    ERROR_COMMENT: _LO,
    ERROR_ID: _US,
    AFFECTED_SOP_INSTANCE_UID: _UI,
    REQUESTED_SOP_INSTANCE_UID: _UI,
    EVENT_TYPE_ID: _US,
    ATTRIBUTE_IDENTIFIER_LIST: _AT,
    ACTION_TYPE_ID: _US,
    REMAINING: _US,
    COMPLETED: _US,
    FAILED: _US,
    WARNING: _US,
    MOVE_ORIGINATOR_AE: _AE,
    MOVE_ORIGINATOR_MESSAGE_ID: _US,
}

_element_header: Final = struct.Struct("<HHI").unpack_from
_pack_header: Final = struct.Struct("<HHI").pack
_pack_us: Final = struct.Struct("<HHIH").pack
_pack_group_length: Final = struct.Struct("<HHII").pack


class InvalidCommand(ValueError):
    """Bytes that are no command set."""


def decode(data: bytes) -> CommandSet:
    """The command set in ``data``. Raises InvalidCommand. The group length and the order are not relied on."""
    elements: CommandSet = {}
    position, end = 0, len(data)
    while position < end:
        if end - position < 8:
            raise InvalidCommand(f"a command set ends in {end - position} bytes of an element header")
        group, element, length = _element_header(data, position)
        position += 8
        if group != 0:
            raise InvalidCommand(f"element ({group:04X},{element:04X}) in a command set")
        if length > end - position:
            raise InvalidCommand(f"element (0000,{element:04X}) announces {length} bytes, {end - position} are there")
        if element in elements:
            raise InvalidCommand(f"element (0000,{element:04X}) is there twice")
        elements[element] = _decode_value(VRS.get(element), data[position : position + length])
        position += length
    return elements


def _decode_value(vr: str | None, value: bytes) -> int | str | tuple[int, ...] | bytes:
    if vr == _US and len(value) == 2:
        return int.from_bytes(value, "little")
    if vr == _UI:
        return value.rstrip(b"\0 ").decode("latin-1")
    if vr in (_AE, _LO):
        return value.strip(b" \0").decode("latin-1")
    if vr == _UL and len(value) == 4:
        return int.from_bytes(value, "little")
    if vr == _AT and len(value) % 4 == 0:
        halves = struct.unpack(f"<{len(value) // 2}H", value)
        return tuple(group << 16 | element for group, element in zip(halves[::2], halves[1::2], strict=True))
    return value


def encode(elements: CommandSet) -> bytes:
    """The command set as bytes, ascending, its group length computed. Raises ValueError for a value out of range."""
    body = b"".join(_encode_element(element, elements[element]) for element in sorted(elements) if element)
    return _pack_group_length(0, 0, 4, len(body)) + body


def _encode_element(element: int, value: int | str | tuple[int, ...] | bytes) -> bytes:
    if type(value) is str:
        return text_element(element, value)
    if isinstance(value, int):
        try:
            return _pack_us(0, element, 2, value)
        except struct.error:
            raise ValueError(f"(0000,{element:04X}) is {value}; it must be in 0..65535") from None
    if isinstance(value, tuple):
        try:
            value = b"".join(struct.pack("<HH", tag >> 16, tag & 0xFFFF) for tag in value)
        except struct.error:
            raise ValueError(f"(0000,{element:04X}) has a tag that is not in 0..0xFFFFFFFF") from None
    elif isinstance(value, str):  # a str subclass, such as pydicom's UID
        return text_element(element, str(value))
    return _pack_header(0, element, len(value)) + value


def text_element(element: int, value: str) -> bytes:
    """A UI, AE or LO element, padded to an even length (UI with NUL, the others with a space)."""
    encoded = value.encode("latin-1", "replace")
    if len(encoded) & 1:
        encoded += b"\0" if VRS[element] == _UI else b" "
    return _pack_header(0, element, len(encoded)) + encoded
