"""Bounds-checked reading and writing of PDU fields (PS3.8 9.3.1: big endian): the only place that checks bounds."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from dicomnet.errors import AbortReason

_U16 = struct.Struct(">H")
_U32 = struct.Struct(">I")
MAX_ITEMS = 16_384  # in one PDU, nested ones too: 128 contexts with 100 transfer syntaxes each take 13,000


class InvalidPdu(ValueError):
    """A PDU that PS3.8 does not allow; ``reason`` is what the A-ABORT says of it (PS3.8 Table 9-26)."""

    def __init__(self, detail: str, reason: int = AbortReason.INVALID_PARAMETER_VALUE) -> None:
        super().__init__(detail)
        self.reason = reason


class InvalidLength(InvalidPdu):
    """A length field that cannot be right."""


class Cursor:
    """Reads fields of ``data`` from ``position`` to ``end``; what lies beyond raises ``InvalidPdu``.

    So do more than ``MAX_ITEMS`` items, for each costs more than the four bytes that it takes on the wire.
    """

    __slots__ = ("_items", "data", "end", "position")

    def __init__(
        self, data: bytes, position: int = 0, end: int | None = None, items: Iterator[int] | None = None
    ) -> None:
        self.data = data
        self.position = position
        self.end = len(data) if end is None else end
        self._items = items or iter(range(MAX_ITEMS))  # those that may still come, shared by all cursors over a PDU

    def __bool__(self) -> bool:
        """True while something is left."""
        return self.position < self.end

    def _advance(self, count: int) -> int:
        start = self.position
        if count > self.end - start:
            raise InvalidLength(f"{count} bytes announced at offset {start}, {self.end - start} are there")
        self.position = start + count
        return start

    def u8(self) -> int:
        return self.data[self._advance(1)]

    def u16(self) -> int:
        value: int = _U16.unpack_from(self.data, self._advance(2))[0]
        return value

    def u32(self) -> int:
        value: int = _U32.unpack_from(self.data, self._advance(4))[0]
        return value

    def skip(self, count: int) -> None:
        self._advance(count)

    def take(self, count: int) -> bytes:
        start = self._advance(count)
        return bytes(self.data[start : start + count])

    def rest(self) -> bytes:
        return self.take(self.end - self.position)

    def sub(self, count: int) -> Cursor:
        """A cursor over the next ``count`` bytes, which this one skips."""
        start = self._advance(count)
        return Cursor(self.data, start, start + count, self._items)

    def item(self) -> tuple[int, Cursor]:
        """An item or sub-item: type, reserved, 16-bit length, value (PS3.8 9.3.2.1)."""
        if next(self._items, None) is None:
            raise InvalidPdu(f"more than {MAX_ITEMS} items")
        kind = self.u8()
        self.skip(1)
        return kind, self.sub(self.u16())

    def finish(self) -> None:
        """Nothing may be left."""
        if self:
            raise InvalidPdu(f"{self.end - self.position} bytes too many at offset {self.position}")


def u8(value: int) -> bytes:
    return value.to_bytes(1, "big")


def u16(value: int) -> bytes:
    return value.to_bytes(2, "big")


def u32(value: int) -> bytes:
    return value.to_bytes(4, "big")


def counted(value: bytes) -> bytes:
    """A 16-bit length and the value."""
    return u16(len(value)) + value


def item(kind: int, value: bytes) -> bytes:
    """An item or sub-item with its header (PS3.8 9.3.2.1)."""
    return bytes((kind, 0)) + counted(value)
