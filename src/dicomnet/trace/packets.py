"""Captured packets → TCP segments: link layers, VLAN tags, IPv4 (RFC 791), IPv6 (RFC 8200) and TCP (RFC 9293).

One idea: what is not TCP, or is cut off before its payload, is None; nothing here raises on what a packet holds.
"""

from __future__ import annotations

import ipaddress
import struct
from typing import Final, NamedTuple

from dicomnet.trace.records import Address

# Link types (https://www.tcpdump.org/linktypes.html)
NULL: Final = 0
ETHERNET: Final = 1
RAW: Final = 101
_RAW_TOO: Final = (12, 14)  # what some systems write for it
LOOP: Final = 108
SLL: Final = 113
IPV4: Final = 228
IPV6: Final = 229
SLL2: Final = 276
LINK_TYPES: Final = frozenset({NULL, ETHERNET, RAW, *_RAW_TOO, LOOP, SLL, IPV4, IPV6, SLL2})

FIN: Final = 0x01
SYN: Final = 0x02
RST: Final = 0x04
PSH: Final = 0x08
ACK: Final = 0x10

_TCP: Final = 6
_ETHERTYPE_IPV4: Final = 0x0800
_ETHERTYPE_IPV6: Final = 0x86DD
_TAGS: Final = (0x8100, 0x88A8, 0x9100)  # IEEE 802.1Q, 802.1ad, and what came before that
_MOST_TAGS: Final = 8
_EXTENSIONS: Final = (0, 43, 60)  # IPv6: hop by hop, routing, destination options
_FRAGMENT: Final = 44
_MOST_EXTENSIONS: Final = 16

_u16: Final = struct.Struct(">H").unpack_from
_ipv4: Final = struct.Struct(">BxHxxHxBxx4s4s").unpack_from
_ipv6: Final = struct.Struct(">4xHBx16s16s").unpack_from
_tcp: Final = struct.Struct(">HHIIBB").unpack_from


class Segment(NamedTuple):
    """A TCP segment. ``length``: of its payload; ``payload`` is shorter where the capture cut it off."""

    source: Address
    target: Address
    sequence: int
    acknowledged: int
    flags: int
    length: int
    payload: memoryview


def segment(link_type: int, packet: memoryview) -> Segment | None:
    """The TCP segment in a packet; None if there is none."""
    try:
        version, data = _network(link_type, packet)
        if version == 4:
            return _from_ipv4(data)
        if version == 6:
            return _from_ipv6(data)
    except (struct.error, IndexError):  # cut off within a header
        pass
    return None


def _network(link_type: int, packet: memoryview) -> tuple[int, memoryview]:
    """IP version and packet; version 0: something else."""
    match link_type:
        case 1:
            return _tagged(_u16(packet, 12)[0], packet[14:])
        case 113:
            return _tagged(_u16(packet, 14)[0], packet[16:])
        case 276:
            return _tagged(_u16(packet, 0)[0], packet[20:])
        case 0 | 108:  # an address family of four bytes, whose numbers differ from system to system
            data = packet[4:]
            return data[0] >> 4, data
    return packet[0] >> 4, packet


def _tagged(kind: int, data: memoryview) -> tuple[int, memoryview]:
    for _ in range(_MOST_TAGS):
        if kind not in _TAGS:
            break
        kind, data = _u16(data, 2)[0], data[4:]
    return {_ETHERTYPE_IPV4: 4, _ETHERTYPE_IPV6: 6}.get(kind, 0), data


def _from_ipv4(data: memoryview) -> Segment | None:
    first, total, fragment, protocol, source, target = _ipv4(data)
    header = (first & 15) * 4
    if header < 20 or protocol != _TCP or fragment & 0x3FFF:  # more fragments, or a fragment that is not the first
        return None
    if total == 0:  # segmentation offload: the length does not fit the field, or is filled in later
        total = len(data)
    return _from_tcp(data[header:total], total - header, source, target)


def _from_ipv6(data: memoryview) -> Segment | None:
    total, kind, source, target = _ipv6(data)
    data = data[40:]
    if total == 0:  # a jumbogram, or segmentation offload
        total = len(data)
    for _ in range(_MOST_EXTENSIONS):
        if kind in _EXTENSIONS:
            size = 8 + 8 * data[1]
        elif kind == _FRAGMENT and _u16(data, 2)[0] & 0xFFF9 == 0:  # RFC 6946: a fragment that is the whole
            size = 8
        else:
            break
        kind, data, total = data[0], data[size:], total - size
    if kind != _TCP or total < 0:
        return None
    return _from_tcp(data[:total], total, source, target)


def _from_tcp(data: memoryview, total: int, source: bytes, target: bytes) -> Segment | None:
    source_port, target_port, sequence, acknowledged, offset, flags = _tcp(data)
    header = (offset >> 4) * 4
    if header < 20 or header > total:
        return None
    return Segment(
        Address(_text(source), source_port),
        Address(_text(target), target_port),
        sequence,
        acknowledged,
        flags,
        total - header,
        data[header:],
    )


def _text(address: bytes) -> str:
    found = ipaddress.ip_address(address)
    return str(getattr(found, "ipv4_mapped", None) or found)
