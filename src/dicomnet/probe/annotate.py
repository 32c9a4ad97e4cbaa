"""Bytes for people: each PDU (PS3.8 9.3) field by field with what it means, other bytes as a dump.

One idea: the bytes are the truth. Every one of them is shown or counted, also where they are not what they claim to be;
only a user identity, which may be a password, is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from dicomnet.errors import AssociationAborted, AssociationRejected
from dicomnet.probe import catalogue
from dicomnet.ul.pdu import APPLICATION_CONTEXT, HEADER_LENGTH, ContextResult, PduType

_MOST: Final = 512  # bytes of what is no PDU that are shown
_ROW: Final = 16  # bytes in a row of a dump
_FIELD: Final = 8  # bytes in a row of a field, which leaves room for its meaning on a narrow terminal
_DEEPEST: Final = 3  # items within items; the standard has two levels
_NAMES: Final = {
    PduType.ASSOCIATE_RQ: "A-ASSOCIATE-RQ",
    PduType.ASSOCIATE_AC: "A-ASSOCIATE-AC",
    PduType.ASSOCIATE_RJ: "A-ASSOCIATE-RJ",
    PduType.P_DATA_TF: "P-DATA-TF",
    PduType.RELEASE_RQ: "A-RELEASE-RQ",
    PduType.RELEASE_RP: "A-RELEASE-RP",
    PduType.ABORT: "A-ABORT",
}
_ITEMS: Final = {  # PS3.8 9.3.2, 9.3.3, PS3.7 D.3.3
    0x10: "application context",
    0x20: "presentation context",
    0x21: "presentation context",
    0x30: "abstract syntax",
    0x40: "transfer syntax",
    0x50: "user information",
    0x51: "maximum length",
    0x52: "implementation class UID",
    0x53: "operations window",
    0x54: "role selection",
    0x55: "implementation version name",
    0x56: "extended negotiation",
    0x57: "common extended negotiation",
    0x58: "user identity",
    0x59: "answer to the user identity",
}
_UIDS: Final = (0x10, 0x30, 0x40, 0x52)
_TEXTS: Final = (*_UIDS, 0x55)
_IDENTITY: Final = (0x58, 0x59)
_RESULTS: Final = {
    ContextResult.ACCEPTANCE: "accepted",
    ContextResult.USER_REJECTION: "refused by the user",
    ContextResult.NO_REASON: "refused without a reason",
    ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED: "abstract syntax not supported",
    ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED: "transfer syntaxes not supported",
}


@dataclass(frozen=True, slots=True)
class Field:
    """Some bytes and what they mean. ``depth``: how many items they are within; ``dump``: that is unknown."""

    offset: int
    data: bytes
    meaning: str
    depth: int = 0
    hidden: bool = False
    dump: bool = False


def result_text(result: int | None) -> str:
    """The result of a presentation context (PS3.8 Table 9-18) in words."""
    if result is None:
        return "not asked, or not answered"
    return _RESULTS.get(result, f"result {result}")  # type: ignore[call-overload, no-any-return]


def is_pdu(data: bytes) -> bool:
    """Whether it begins as a PDU does: a known type and a length that can be."""
    return len(data) >= HEADER_LENGTH and data[0] in _NAMES and data[2] == 0


def fields(data: bytes) -> Iterator[Field]:
    """All of ``data``: PDUs as fields, anything else as rows of a dump."""
    offset = 0
    while offset < len(data):
        if not is_pdu(data[offset:]):
            yield from _dump(data[offset:], offset)
            return
        length = int.from_bytes(data[offset + 2 : offset + 6])
        end = min(offset + HEADER_LENGTH + length, len(data))
        yield Field(offset, data[offset : offset + 1], f"PDU type: {_NAMES[PduType(data[offset])]}")
        yield Field(offset + 1, data[offset + 1 : offset + 2], "reserved")
        missing = offset + HEADER_LENGTH + length - end
        note = f"; {missing} of them are not here" if missing else ""
        yield Field(offset + 2, data[offset + 2 : offset + 6], f"length: {length} bytes follow{note}")
        yield from _body(data[offset], _Part(data, offset + HEADER_LENGTH, end))
        offset = end


@dataclass(slots=True)
class _Part:
    """Bytes from ``position`` to ``end``; what is taken never goes past it."""

    data: bytes
    position: int
    end: int

    def take(self, count: int, meaning: str, depth: int = 0, *, hidden: bool = False) -> Iterator[Field]:
        start, self.position = self.position, min(self.position + count, self.end)
        if self.position > start:
            yield Field(start, self.data[start : self.position], meaning, depth, hidden)

    def peek(self, count: int, skip: int = 0) -> bytes:
        return self.data[self.position + skip : min(self.position + skip + count, self.end)]

    @property
    def left(self) -> int:
        return self.end - self.position


def _body(kind: int, part: _Part) -> Iterator[Field]:
    match kind:
        case PduType.ASSOCIATE_RQ | PduType.ASSOCIATE_AC:
            yield from part.take(2, "protocol version")
            yield from part.take(2, "reserved")
            for title in ("called AE title", "calling AE title"):
                text = part.peek(16).decode("latin-1").strip()
                yield from part.take(16, f"{title}: {text}")
            yield from part.take(32, "reserved")
            yield from _items(part, 0)
        case PduType.ASSOCIATE_RJ if part.left == 4:
            _, result, source, reason = part.peek(4)
            words = str(AssociationRejected(result, source, reason))
            yield from part.take(1, "reserved")
            yield from part.take(1, f"result {result}: {'for good' if result == 1 else 'for now'}")
            yield from part.take(1, f"source {source}")
            yield from part.take(1, f"reason {reason}; in all: {words}")
        case PduType.ABORT if part.left == 4:
            source, reason = part.peek(4)[2:]
            yield from part.take(2, "reserved")
            yield from part.take(1, f"source {source}")
            yield from part.take(1, f"reason {reason}; in all: {AssociationAborted(source, reason)}")
        case PduType.RELEASE_RQ | PduType.RELEASE_RP if part.left == 4:
            yield from part.take(4, "reserved")
    yield from part.take(part.left, "the rest")


def _items(part: _Part, depth: int) -> Iterator[Field]:
    while part.left >= 4:
        head = part.peek(4)
        kind, length = head[0], int.from_bytes(head[2:])
        name = _ITEMS.get(kind, "unknown item")
        yield from part.take(4, f"item {kind:02X}H: {name}, {length} bytes", depth)
        inner = _Part(part.data, part.position, min(part.position + length, part.end))
        part.position = inner.end
        yield from _item(kind, inner, depth + 1)


def _item(kind: int, part: _Part, depth: int) -> Iterator[Field]:
    data = part.peek(part.left)
    nests = depth <= _DEEPEST
    if kind in (0x20, 0x21) and len(data) >= 4 and nests:
        result = f", {result_text(data[2])}" if kind == 0x21 else ""
        yield from part.take(4, f"context {data[0]}{result}", depth)
        yield from _items(part, depth)
    elif kind == 0x50 and nests:
        yield from _items(part, depth)
    elif kind in _IDENTITY:
        yield from part.take(part.left, "not shown: it may be a password", depth, hidden=True)
    elif kind in _TEXTS:
        text = data.decode("latin-1")
        name = catalogue.name_of(text.rstrip("\0 ")) if kind in _UIDS else text
        if text == APPLICATION_CONTEXT:
            name = "DICOM"
        yield from part.take(part.left, text if name == text else f"{text} ({name})", depth)
    elif kind == 0x51 and len(data) == 4:
        yield from part.take(4, f"{int.from_bytes(data)} bytes in a P-DATA-TF at the most", depth)
    elif kind == 0x53 and len(data) == 4:
        yield from part.take(4, f"{int.from_bytes(data[:2])} invoked, {int.from_bytes(data[2:])} performed", depth)
    yield from part.take(part.left, "its value", depth)


def _dump(data: bytes, offset: int) -> Iterator[Field]:
    for start in range(0, min(len(data), _MOST), _ROW):
        row = data[start : start + _ROW]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        yield Field(offset + start, row, text, dump=True)
    if len(data) > _MOST:
        yield Field(offset + _MOST, b"", f"and {len(data) - _MOST} bytes more", dump=True)


def lines(data: bytes, width: int = 78) -> Iterator[str]:
    """The fields as lines: offset, bytes, meaning; long ones in several rows."""
    for field in fields(data):
        size = _ROW if field.dump else _FIELD
        rows = [field.data[at : at + size] for at in range(0, len(field.data), size)] or [b""]
        if field.hidden:
            rows = [b""]
        for number, row in enumerate(rows):
            shown = ".. " * min(len(field.data), size) if field.hidden else row.hex(" ")
            meaning = "  " * field.depth + field.meaning if number == 0 else ""
            line = f"{field.offset + number * size:04X}  {shown:<{3 * size}} {meaning}".rstrip()
            yield from _folded(line, width, 7 + 3 * size)


def _folded(line: str, width: int, margin: int) -> Iterator[str]:
    """What does not fit goes on below its beginning."""
    while len(line) > width:
        cut = line.rfind(" ", margin + 8, width)
        cut = cut if cut > 0 else width
        yield line[:cut]
        line = " " * (margin + 4) + line[cut:].lstrip()
    yield line
