"""A capture file of what a proxy forwards (draft-ietf-opsawg-pcapng), as if the two ends had talked to each other.

One idea: Wireshark reads packets, the proxy has bytes; so each stretch of bytes becomes TCP segments between the two
real addresses, with handshake, sequence numbers, checksums and end. Whoever opens the file while it grows finds whole
packets only. Data sets are zeros in it unless they are asked for (``masking``).
"""

from __future__ import annotations

import ipaddress
import os
import struct
import threading
from typing import Final

from dicomnet.config import IMPLEMENTATION_VERSION_NAME
from dicomnet.trace.masking import Mask
from dicomnet.trace.packets import ACK, ETHERNET, FIN, PSH, RST, SYN
from dicomnet.trace.pcap import BYTE_ORDER, ENHANCED_PACKET, IF_TSRESOL, INTERFACE, SECTION
from dicomnet.trace.records import Address
from dicomnet.transport import Buffer

MSS: Final = 32 * 1024  # bytes in a segment: as loopbacks have it; small ones would cost more than they tell
_SNAP_LENGTH: Final = 262_144  # what libpcap takes at the most
_NANOSECONDS: Final = 9  # if_tsresol: a power of ten
_WINDOW: Final = 0xFFFF
_WINDOW_SCALE: Final = 14  # RFC 7323: the largest, so that nothing ever exceeds the window
_COMMENT: Final = 1
_APPLICATION: Final = 4
_END_OF_OPTIONS: Final = bytes(4)
_REQUESTOR: Final = bytes.fromhex("020000000001")  # locally administered addresses
_ACCEPTOR: Final = bytes.fromhex("020000000002")
_IPV4: Final = 0x0800
_IPV6: Final = 0x86DD
_TCP: Final = 6
_MODULUS: Final = 1 << 32

_SYN_OPTIONS: Final = struct.pack(">BBHBBBB", 2, 4, MSS, 1, 3, 3, _WINDOW_SCALE)  # maximum segment size, window scale
WITH_DATA_SETS: Final = "Recorded by dicomnet trace, data sets included: they may identify patients."
WITHOUT: Final = (
    "Recorded by dicomnet trace. Data sets are replaced by elements of zeros, secrets of user identities by zeros."
)


class PcapngWriter:
    """Writes a capture file. Its methods may be called from any thread; what they cannot write raises OSError.

    ``phi``: data sets, and passcodes and tokens of the negotiation, are written as they are; otherwise they are zeros
    of the same length. An existing file is overwritten.
    """

    def __init__(self, path: str | os.PathLike[str], *, phi: bool = False) -> None:
        self.phi = phi
        self._file = open(path, "wb", buffering=0)  # noqa: SIM115 — closed by close()
        self._lock = threading.Lock()
        options = _option(_COMMENT, (WITH_DATA_SETS if phi else WITHOUT).encode())
        options += _option(_APPLICATION, IMPLEMENTATION_VERSION_NAME.encode()) + _END_OF_OPTIONS
        self.write(
            _block(SECTION, struct.pack("<IHHq", BYTE_ORDER, 1, 0, -1) + options)
            + _block(
                INTERFACE,
                struct.pack("<HHI", ETHERNET, 0, _SNAP_LENGTH)
                + _option(IF_TSRESOL, bytes((_NANOSECONDS,)))
                + _END_OF_OPTIONS,
            )
        )

    def open(self, requestor: Address, acceptor: Address, when: float) -> Conversation:
        """Another connection."""
        return Conversation(self, requestor, acceptor, when)

    def write(self, blocks: bytes) -> None:
        """Blocks that are whole."""
        view = memoryview(blocks)
        with self._lock:
            while view and not self._file.closed:
                view = view[self._file.write(view) :]

    def close(self) -> None:
        """What comes after this is not written."""
        with self._lock:
            self._file.close()

    def __enter__(self) -> PcapngWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Conversation:
    """One connection in the file (``relay.Tap``)."""

    def __init__(self, writer: PcapngWriter, requestor: Address, acceptor: Address, when: float) -> None:
        self._writer = writer
        self._ends = (
            _End(acceptor, requestor, _ACCEPTOR, _REQUESTOR),
            _End(requestor, acceptor, _REQUESTOR, _ACCEPTOR),
        )
        syntaxes: dict[int, str] = {}
        self._masks = (Mask(off=writer.phi, syntaxes=syntaxes), Mask(off=writer.phi, syntaxes=syntaxes))
        self._sequences = [0, 0]  # of the acceptor, of the requestor
        self._over = False
        packets = self._packet(True, SYN, b"", when, options=_SYN_OPTIONS)
        packets += self._packet(False, SYN | ACK, b"", when, options=_SYN_OPTIONS)
        writer.write(packets + self._packet(True, ACK, b"", when))

    def data(self, from_requestor: bool, data: Buffer, when: float) -> None:
        """Bytes that have passed."""
        # A segment for each PDU: Wireshark shows one a line then, and it misreads some that share a segment.
        self._writer.write(self._segments(from_requestor, self._masks[from_requestor].feed(data), when))

    def end(self, from_requestor: bool, when: float) -> None:
        """The end of a direction."""
        if self._over:
            return
        packets = self._rest(from_requestor, when) + self._packet(from_requestor, FIN | ACK, b"", when)
        self._writer.write(packets + self._packet(not from_requestor, ACK, b"", when))

    def reset(self, from_requestor: bool, when: float) -> None:
        """The end of both."""
        self._over = True
        packets = self._rest(True, when) + self._rest(False, when)
        self._writer.write(packets + self._packet(from_requestor, RST | ACK, b"", when))

    def _rest(self, from_requestor: bool, when: float) -> bytes:
        return self._segments(from_requestor, [self._masks[from_requestor].end()], when)

    def _segments(self, from_requestor: bool, pieces: list[bytes], when: float) -> bytes:
        packets = [
            self._packet(from_requestor, PSH | ACK, piece[start : start + MSS], when)
            for piece in pieces
            for start in range(0, len(piece), MSS)
        ]
        if not packets:
            return b""
        packets.append(self._packet(not from_requestor, ACK, b"", when))
        return b"".join(packets)

    def _packet(self, from_requestor: bool, flags: int, data: bytes, when: float, *, options: bytes = b"") -> bytes:
        own, other = self._sequences[from_requestor], self._sequences[not from_requestor]
        self._sequences[from_requestor] = (own + len(data) + (flags & (SYN | FIN) != 0)) % _MODULUS
        acknowledged = other if flags & ACK else 0
        frame = self._ends[from_requestor].frame(own, acknowledged, flags, data, options)
        ticks = int(when * 10**_NANOSECONDS)
        header = struct.pack("<IIIII", 0, ticks >> 32, ticks & 0xFFFFFFFF, len(frame), len(frame))
        return _block(ENHANCED_PACKET, header + frame)


class _End:
    """Who sends packets to whom: all of their headers that does not change."""

    def __init__(self, source: Address, target: Address, own_mac: bytes, other_mac: bytes) -> None:
        addresses = [_address(source.host), _address(target.host)]
        self._is_v6 = any(address.version == 6 for address in addresses)
        packed = b"".join(_packed(address, self._is_v6) for address in addresses)
        self._packed = packed
        self._ports = struct.pack(">HH", source.port, target.port)
        self._ethernet = other_mac + own_mac + struct.pack(">H", _IPV6 if self._is_v6 else _IPV4)
        self._pseudo = sum(struct.unpack(f">{len(packed) // 2}H", packed)) + _TCP  # RFC 9293 3.1, but for the length

    def frame(self, sequence: int, acknowledged: int, flags: int, data: bytes, options: bytes) -> bytes:
        """An Ethernet frame."""
        offset = (20 + len(options)) // 4 << 4
        before = self._ports + struct.pack(">IIBBH", sequence, acknowledged, offset, flags, _WINDOW)
        length = 20 + len(options) + len(data)
        padded = data + b"\0" if len(data) & 1 else data
        total = self._pseudo + length + _sum(before) + _sum(options) + _sum(padded)
        tcp = before + struct.pack(">HH", _checksum(total), 0) + options
        return b"".join((self._ethernet, self._ip(length), tcp, data))

    def _ip(self, length: int) -> bytes:
        if self._is_v6:
            return struct.pack(">IHBB", 6 << 28, length, _TCP, 64) + self._packed
        header = struct.pack(">BBHHHBB", 0x45, 0, 20 + length, 0, 0x4000, 64, _TCP)  # 0x4000: don't fragment
        return header + struct.pack(">H", _checksum(_sum(header) + _sum(self._packed))) + self._packed


def _sum(data: bytes) -> int:
    """The sum of its 16-bit words modulo 65535: as 65536 is 1 modulo 65535, that is what the whole number leaves."""
    return int.from_bytes(data, "big") % 0xFFFF


def _checksum(total: int) -> int:
    """RFC 1071: the complement of the sum of ones' complements."""
    return 0xFFFF - total % 0xFFFF


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:  # a name: the connection ended before its address could be asked for
        return ipaddress.IPv4Address(0)


def _packed(address: ipaddress.IPv4Address | ipaddress.IPv6Address, as_v6: bool) -> bytes:
    if as_v6 and address.version == 4:
        return bytes(10) + b"\xff\xff" + address.packed  # RFC 4291 2.5.5.2: the ends may speak different versions
    return address.packed


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4)


def _block(kind: int, body: bytes) -> bytes:
    length = len(body) + 12 + -len(body) % 4
    return struct.pack("<II", kind, length) + body + bytes(-len(body) % 4) + struct.pack("<I", length)
