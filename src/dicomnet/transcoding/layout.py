"""Where the top-level elements of a little endian data set lie, up to its pixel data and behind it (PS3.5 7.1, 7.5).

One idea: what a transcoder does not change it copies byte for byte, private elements and unknown VRs included; so it
has to know where each element begins and ends, and nothing else of most of them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from dicomnet.errors import InvalidDataset

PIXEL_DATA: Final = 0x7FE00010
FLOAT_PIXEL_DATA: Final = (0x7FE00008, 0x7FE00009)  # of 32 and of 64 bits; never compressed (PS3.5 A.4)
UNDEFINED: Final = 0xFFFFFFFF

_ITEM: Final = 0xFFFEE000
_ITEM_END: Final = 0xFFFEE00D
_SEQUENCE_END: Final = 0xFFFEE0DD
_LONG_VRS: Final = frozenset(  # PS3.5 Table 7.1-1: two reserved bytes and a length of four
    (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
)
_header = struct.Struct("<HH2sH").unpack_from
_tag_length = struct.Struct("<HHI").unpack_from
_u32 = struct.Struct("<I").unpack_from


class Element(NamedTuple):
    """Offsets of an element's first byte, of its value, and of what follows it. ``vr``: empty if it is not written."""

    tag: int
    vr: bytes
    start: int
    value: int
    end: int
    undefined: bool  # its length is not given: items and a delimiter


class Layout(NamedTuple):
    """``head``: elements before the pixel data; ``pixels``: None if there is none; ``tail``: where the rest begins."""

    head: tuple[Element, ...]
    pixels: Element | None
    tail: int


def read_layout(data: memoryview, *, explicit: bool, nesting: int) -> Layout:
    """The layout of a data set. Raises InvalidDataset if it cannot be walked, or nests deeper than ``nesting``."""
    head: list[Element] = []
    try:
        for element in _elements(data, 0, len(data), explicit, nesting):
            if element.tag == PIXEL_DATA or element.tag in FLOAT_PIXEL_DATA:
                return Layout(tuple(head), element, element.end)
            if element.tag > PIXEL_DATA:
                return Layout(tuple(head), None, element.start)
            head.append(element)
    except struct.error as error:
        raise InvalidDataset("the data set ends in the middle of an element") from error
    return Layout(tuple(head), None, len(data))


def _elements(data: memoryview, position: int, end: int, explicit: bool, nesting: int) -> Iterator[Element]:
    """Those from ``position`` on, up to ``end`` or the end of the item that they are in."""
    while position < end:
        start = position
        tag, vr, length, position = _read_header(data, position, explicit)
        if tag == _ITEM_END:
            return
        value, undefined = position, length == UNDEFINED
        if undefined:
            position = _end_of_items(
                data, position, end, explicit and vr != b"UN", nesting, of_pixels=tag == PIXEL_DATA
            )
        else:
            position += length
        if position > end:
            raise InvalidDataset(f"element ({tag >> 16:04X},{tag & 0xFFFF:04X}) is longer than the data set")
        yield Element(tag, vr, start, value, position, undefined)


def _read_header(data: memoryview, position: int, explicit: bool) -> tuple[int, bytes, int, int]:
    """Tag, VR, length, and where the value begins."""
    group, element, length = _tag_length(data, position)
    tag = group << 16 | element
    if not explicit or group == 0xFFFE:  # PS3.5 7.5: items and delimiters have no VR
        return tag, b"", length, position + 8
    _, _, vr, length = _header(data, position)
    if vr not in _LONG_VRS:
        if not (vr.isalpha() and vr.isupper()):
            raise InvalidDataset(f"element ({group:04X},{element:04X}) has no value representation")
        return tag, vr, length, position + 8
    return tag, vr, _u32(data, position + 8)[0], position + 12


def _end_of_items(data: memoryview, position: int, end: int, explicit: bool, nesting: int, *, of_pixels: bool) -> int:
    """Behind the delimiter of a sequence (or of fragments) whose items begin at ``position``."""
    if nesting <= 0:
        raise InvalidDataset("sequences nest too deep")
    while position < end:
        group, element, length = _tag_length(data, position)
        tag, position = group << 16 | element, position + 8
        if tag == _SEQUENCE_END:
            return position
        if tag != _ITEM or (of_pixels and length == UNDEFINED):
            raise InvalidDataset(f"({group:04X},{element:04X}) where an item should begin")
        position = position + length if length != UNDEFINED else _end_of_item(data, position, end, explicit, nesting)
    raise InvalidDataset("a sequence has no end")


def _end_of_item(data: memoryview, position: int, end: int, explicit: bool, nesting: int) -> int:
    for element in _elements(data, position, end, explicit, nesting - 1):
        position = element.end
    return position + 8  # the delimiter


def has_compressed_item(data: memoryview, element: Element) -> bool:
    """Whether there is encapsulated pixel data in a sequence, of an icon for example (PS3.5 A.4)."""
    needle = struct.pack("<HH2sxxI", 0x7FE0, 0x0010, b"OB", UNDEFINED)
    return element.vr in (b"SQ", b"UN") and needle in bytes(data[element.value : element.end])
