"""Capture files made by hand, packet by packet, so that what reads them is not tested with what writes them."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from ipaddress import ip_address

FIN, SYN, RST, ACK = 1, 2, 4, 16


def tcp(source: int, target: int, sequence: int, acknowledged: int, flags: int, data: bytes = b"") -> bytes:
    return struct.pack(">HHIIBBHHH", source, target, sequence, acknowledged, 5 << 4, flags, 65535, 0, 0) + data


def ip(source: str, target: str, payload: bytes) -> bytes:
    a, b = ip_address(source), ip_address(target)
    if a.version == 6:
        return struct.pack(">IHBB", 6 << 28, len(payload), 6, 64) + a.packed + b.packed + payload
    return struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0, 64, 6, 0) + a.packed + b.packed + payload


def linked(link_type: int, packet: bytes, *, tags: int = 0) -> bytes:
    """A packet as a link layer has it."""
    kind = 0x86DD if packet[0] >> 4 == 6 else 0x0800
    vlan = b"".join(struct.pack(">HH", 0x8100, number) for number in range(tags))
    match link_type:
        case 0:
            return struct.pack("<I", 2 if kind == 0x0800 else 24) + packet
        case 1:
            return bytes(12) + vlan + struct.pack(">H", kind) + packet
        case 113:
            return bytes(14) + struct.pack(">H", kind) + packet
        case 276:
            return struct.pack(">H", kind) + bytes(18) + packet
    return packet


def pcap(packets: list[tuple[float, bytes]], *, order: str = "<", nano: bool = False, link_type: int = 1) -> bytes:
    magic, fractions = (0xA1B23C4D, 10**9) if nano else (0xA1B2C3D4, 10**6)
    parts = [struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, 262144, link_type)]
    for time, data in packets:
        seconds = int(time)
        parts.append(struct.pack(f"{order}IIII", seconds, round((time - seconds) * fractions), len(data), len(data)))
        parts.append(data)
    return b"".join(parts)


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    body += bytes(-len(body) % 4)
    length = struct.pack(f"{order}I", len(body) + 12)
    return struct.pack(f"{order}I", kind) + length + body + length


def section(order: str = "<") -> bytes:
    return block(0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def interface(link_type: int = 1, order: str = "<", resolution: int | None = None) -> bytes:
    options = b"" if resolution is None else struct.pack(f"{order}HHB3xHH", 9, 1, resolution, 0, 0)
    return block(1, struct.pack(f"{order}HHI", link_type, 0, 0) + options, order)


def enhanced(data: bytes, ticks: int, number: int = 0, order: str = "<") -> bytes:
    return block(
        6, struct.pack(f"{order}IIIII", number, ticks >> 32, ticks & 0xFFFFFFFF, len(data), len(data)) + data, order
    )


def simple(data: bytes, order: str = "<") -> bytes:
    return block(3, struct.pack(f"{order}I", len(data)) + data, order)


@dataclass
class Talk:
    """Two ends that talk: their packets, in order, as IP packets."""

    client: str = "10.0.0.1"
    server: str = "10.0.0.2"
    ports: tuple[int, int] = (40000, 11112)
    sequences: list[int] = field(default_factory=lambda: [0xFFFFFF00, 5000])  # of the server, of the client
    packets: list[bytes] = field(default_factory=list)

    def packet(self, from_client: bool, flags: int, data: bytes = b"", *, at: int | None = None) -> bytes:
        ends, ports = (self.client, self.server), self.ports
        if not from_client:
            ends, ports = ends[::-1], ports[::-1]
        own = self.sequences[from_client] if at is None else at
        return ip(*ends, tcp(*ports, own % (1 << 32), self.sequences[not from_client] % (1 << 32), flags, data))

    def put(self, from_client: bool, flags: int, data: bytes = b"") -> None:
        self.packets.append(self.packet(from_client, flags, data))
        self.sequences[from_client] += len(data) + bool(flags & (SYN | FIN))

    def open(self) -> None:
        self.put(True, SYN)
        self.put(False, SYN | ACK)
        self.put(True, ACK)

    def say(self, from_client: bool, data: bytes, size: int = 1460) -> None:
        for start in range(0, len(data), size):
            self.put(from_client, ACK, data[start : start + size])

    def close(self) -> None:
        self.put(False, FIN | ACK)
        self.put(True, FIN | ACK)
        self.put(False, ACK)
