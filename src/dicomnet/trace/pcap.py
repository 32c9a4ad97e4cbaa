"""Capture files → packets: pcap (draft-ietf-opsawg-pcap) and pcapng (draft-ietf-opsawg-pcapng), either byte order.

One idea: a block is read when it is there whole. A file that was cut off, as a killed capture leaves it, is read up to
that point, and the log says where that is.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final, NamedTuple

log = logging.getLogger("dicomnet")

SECTION: Final = 0x0A0D0D0A  # the same in either byte order
INTERFACE: Final = 1
SIMPLE_PACKET: Final = 3
ENHANCED_PACKET: Final = 6
BYTE_ORDER: Final = 0x1A2B3C4D

IF_TSRESOL: Final = 9
IF_TSOFFSET: Final = 14

_PCAP: Final = {  # magic number → byte order, fractions of a second
    b"\xa1\xb2\xc3\xd4": (">", 1_000_000),
    b"\xd4\xc3\xb2\xa1": ("<", 1_000_000),
    b"\xa1\xb2\x3c\x4d": (">", 1_000_000_000),
    b"\x4d\x3c\xb2\xa1": ("<", 1_000_000_000),
}
_LARGEST: Final = 16 << 20  # bytes of a packet or block: libpcap's own limit is 256 KiB, with offload it is 1 MiB
_MOST_INTERFACES: Final = 65_536


class NotACapture(ValueError):
    """A file that is neither pcap nor pcapng, or whose packets are of a kind that cannot be read here."""


class Packet(NamedTuple):
    """A packet as captured; ``time``: seconds since the epoch."""

    link_type: int
    time: float
    data: memoryview


def packets(file: BinaryIO, name: str) -> Iterator[Packet]:
    """The packets of a capture file, in order. Raises NotACapture, and OSError while reading."""
    magic = file.read(4)
    if magic in _PCAP:
        return _pcap(file, name, *_PCAP[magic])
    if magic == SECTION.to_bytes(4, "big"):
        return _Pcapng(file, name).packets()
    raise NotACapture(f"{name} is no capture file: it begins neither like pcap nor like pcapng")


# --- pcap -----------------------------------------------------------------------------------------------------------


def _pcap(file: BinaryIO, name: str, order: str, fractions: int) -> Iterator[Packet]:
    header = file.read(20)
    if len(header) < 20:
        raise NotACapture(f"{name} ends within the file header")
    link_type = struct.unpack(f"{order}I", header[16:])[0] & 0xFFFF  # above: the length of a frame check sequence
    record = struct.Struct(f"{order}IIII")
    position = 24
    while head := file.read(16):
        if len(head) < 16:
            return _cut_off(name, position)
        seconds, fraction, length, _ = record.unpack(head)
        if length > _LARGEST:
            return _damaged(name, position, f"a packet of {length} bytes")
        data = file.read(length)
        if len(data) < length:
            return _cut_off(name, position)
        yield Packet(link_type, seconds + fraction / fractions, memoryview(data))
        position += 16 + length


def _cut_off(name: str, position: int) -> None:
    log.warning("%s is cut off at byte %d: read up to there", name, position)


def _damaged(name: str, position: int, what: str) -> None:
    log.warning("%s is damaged at byte %d (%s): read up to there", name, position, what)


# --- pcapng ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Interface:
    link_type: int
    snap_length: int
    fractions: int
    offset: int


class _Pcapng:
    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file, self._name = file, name
        self._order = "<"
        self._interfaces: list[_Interface] = []
        self._position = 0
        self._time = 0.0

    def packets(self) -> Iterator[Packet]:
        """Those of all sections. The block type of the first one has been read already."""
        kind = SECTION.to_bytes(4, "big")
        while len(kind) == 4:
            if kind == SECTION.to_bytes(4, "big") and not self._begin_section():
                return
            body = self._body()
            if body is None:
                return
            try:
                packet = self._read(struct.unpack(f"{self._order}I", kind)[0], body)
            except struct.error:
                return _damaged(self._name, self._position, "a block is too short")
            if packet is not None:
                yield packet
            self._position += len(body) + 12
            kind = self._file.read(4)
        if kind:
            _cut_off(self._name, self._position)

    def _begin_section(self) -> bool:
        """Find the byte order; the file stands before the block's length then."""
        ahead = self._file.read(8)
        if len(ahead) < 8:
            if not self._position:
                raise NotACapture(f"{self._name} ends within the section header")
            _cut_off(self._name, self._position)
            return False
        magic = ahead[4:]
        if magic not in (BYTE_ORDER.to_bytes(4, "big"), BYTE_ORDER.to_bytes(4, "little")):
            if not self._position:
                raise NotACapture(f"{self._name} is no pcapng file: its byte-order magic is {magic.hex()}")
            _damaged(self._name, self._position, "no byte-order magic")
            return False
        self._order = ">" if magic[0] == 0x1A else "<"
        self._interfaces = []
        self._ahead = ahead
        return True

    _ahead = b""

    def _body(self) -> bytes | None:
        """The block's body; its length stands before and after it."""
        ahead = self._ahead or self._file.read(4)
        self._ahead = b""
        if len(ahead) < 4:
            _cut_off(self._name, self._position)
            return None
        length = struct.unpack_from(f"{self._order}I", ahead)[0]
        if length < 12 or length % 4 or length > _LARGEST:
            _damaged(self._name, self._position, f"a block of {length} bytes")
            return None
        rest = length - 4 - len(ahead)
        if rest < 0:
            _damaged(self._name, self._position, f"a section header of {length} bytes")
            return None
        data = self._file.read(rest)
        if len(data) < rest:
            _cut_off(self._name, self._position)
            return None
        return ahead[4:] + data[:-4]

    def _read(self, kind: int, body: bytes) -> Packet | None:
        match kind:
            case 1:
                if len(self._interfaces) < _MOST_INTERFACES:
                    self._interfaces.append(self._interface(body))
            case 3 if self._interfaces:
                interface = self._interfaces[0]
                length = min(struct.unpack_from(f"{self._order}I", body)[0], interface.snap_length or _LARGEST)
                return Packet(interface.link_type, self._time, memoryview(body)[4 : 4 + length])
            case 6:
                number, high, low, length = struct.unpack_from(f"{self._order}IIII4x", body)
                if number < len(self._interfaces):
                    interface = self._interfaces[number]
                    self._time = interface.offset + (high << 32 | low) / interface.fractions
                    return Packet(interface.link_type, self._time, memoryview(body)[20 : 20 + length])
        return None

    def _interface(self, body: bytes) -> _Interface:
        link_type, snap_length = struct.unpack_from(f"{self._order}HxxI", body)
        fractions, offset = 1_000_000, 0
        position = 8
        while position + 4 <= len(body):
            code, length = struct.unpack_from(f"{self._order}HH", body, position)
            value = body[position + 4 : position + 4 + length]
            if code == IF_TSRESOL and len(value) == 1:
                fractions = 1 << (value[0] & 0x7F) if value[0] & 0x80 else 10 ** value[0]
            elif code == IF_TSOFFSET and len(value) == 8:
                offset = struct.unpack(f"{self._order}q", value)[0]
            position += 4 + (length + 3 & ~3)
        return _Interface(link_type, snap_length, fractions, offset)
