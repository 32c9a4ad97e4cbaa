"""The records in a capture file: its TCP connections put together again, and those that are DICOM decoded.

One idea: DICOM is told by what is said, not by the port. A connection is followed from its first packet on, but nothing
of it is recorded before something in it is a PDU; memory stays bounded whatever the file says.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from typing import Final

from dicomnet.trace.decoding import Decoder
from dicomnet.trace.packets import ACK, FIN, LINK_TYPES, RST, SYN, Segment, segment
from dicomnet.trace.pcap import NotACapture, Packet, packets
from dicomnet.trace.pdus import looks_like_pdu
from dicomnet.trace.reassembly import Budget, Direction, Stretch
from dicomnet.trace.records import Address, Garbage, Message, Opened, Pdu, Record
from dicomnet.ul.pdu import PduType

__all__ = ["NotACapture", "read_capture"]

_MOST_CONNECTIONS: Final = 1024  # followed at once; the one that was silent longest gives way
_MOST_PENDING: Final = 64  # records before it is known whether a connection is DICOM
_DICOM: Final = b"1.2.840.10008."  # in each association request: the application context (PS3.7 A.2.1)
_LOOK: Final = 4096  # bytes at the beginning of what comes in which it is searched


def read_capture(
    path: str | os.PathLike[str], ports: Collection[int] | None = None, *, keep_datasets: int = 0
) -> Iterator[Record]:
    """The records of a pcap or pcapng file, connections numbered in the order in which they turn out to be DICOM.

    ``ports``: those of the acceptors; all connections to them are recorded, even if they are no DICOM, and no others.
    None: all that are DICOM. ``keep_datasets``: data sets up to this many bytes are part of the messages.

    A connection that the capture shows from the middle, or not to its end, is recorded as far as it is there: gaps and
    beginnings that are missing are ``Garbage``, its end is "incomplete". Raises NotACapture, and OSError.
    """
    name = os.path.basename(os.fsdecode(path))
    with open(path, "rb") as file:
        yield from _Reader(ports, keep_datasets).read(_readable(packets(file, name), name))


def _readable(captured: Iterable[Packet], name: str) -> Iterator[Packet]:
    """Without packets of unknown link types, which are an error only if there are no others."""
    unknown: set[int] = set()
    any_known = False
    for packet in captured:
        if packet.link_type in LINK_TYPES:
            any_known = True
            yield packet
        else:
            unknown.add(packet.link_type)
    if unknown and not any_known:
        kinds = ", ".join(map(str, sorted(unknown)[:8]))
        raise NotACapture(
            f"{name}: packets of link type {kinds} cannot be read here; Ethernet, Linux cooked, loopback and raw IP can"
        )


class _Reader:
    """Follows all connections of a capture."""

    def __init__(self, ports: Collection[int] | None, keep_datasets: int) -> None:
        self._ports = ports
        self._keep = keep_datasets
        self._budget = Budget()
        self._connections: OrderedDict[tuple[Address, Address], _Connection] = OrderedDict()
        self.numbers = 0

    def read(self, captured: Iterable[Packet]) -> Iterator[Record]:
        time = 0.0
        for packet in captured:
            time = packet.time
            seen = segment(packet.link_type, packet.data)
            if seen is not None and self._wanted(seen):
                yield from self._take(seen, time)
        for connection in self._connections.values():
            yield from connection.give_up(time)

    def _wanted(self, seen: Segment) -> bool:
        return self._ports is None or seen.source.port in self._ports or seen.target.port in self._ports

    def _take(self, seen: Segment, time: float) -> Iterator[Record]:
        key = min((seen.source, seen.target), (seen.target, seen.source))
        connection = self._connections.get(key)
        begins = seen.flags & (SYN | ACK) == SYN
        if connection is not None and begins and not connection.is_repeated(seen):
            yield from connection.give_up(time)  # the ports are used again
            del self._connections[key]
            connection = None
        if connection is None:
            if not seen.length and not seen.flags & SYN:
                return
            connection = self._connections[key] = self._begin(seen, time)
            if len(self._connections) > _MOST_CONNECTIONS:
                _, oldest = self._connections.popitem(last=False)
                yield from oldest.give_up(time)
        self._connections.move_to_end(key)
        yield from connection.take(seen, time)

    def _begin(self, seen: Segment, time: float) -> _Connection:
        forward = self._is_from_requestor(seen)
        ends = (seen.source, seen.target) if forward else (seen.target, seen.source)
        decoder = Decoder(0, keep_datasets=self._keep, in_step=bool(seen.flags & SYN))
        connection = _Connection(self, decoder, *ends, self._budget, known=self._ports is not None)
        connection.open(seen, time)
        return connection

    def _is_from_requestor(self, seen: Segment) -> bool:
        if seen.flags & SYN:
            return not seen.flags & ACK
        if looks_like_pdu(seen.payload) and seen.payload[0] in (
            *(PduType.ASSOCIATE_RQ, PduType.ASSOCIATE_AC, PduType.ASSOCIATE_RJ),
        ):
            return seen.payload[0] == PduType.ASSOCIATE_RQ
        if self._ports is not None and (seen.source.port in self._ports) != (seen.target.port in self._ports):
            return seen.target.port in self._ports
        return seen.target.port <= seen.source.port  # servers have the low ports


class _Connection:
    """One TCP connection. ``known``: it is to be recorded whatever it holds."""

    def __init__(
        self, reader: _Reader, decoder: Decoder, requestor: Address, acceptor: Address, budget: Budget, *, known: bool
    ) -> None:
        self._reader, self._decoder = reader, decoder
        self._requestor, self._acceptor = requestor, acceptor
        self._directions = (Direction(budget), Direction(budget))
        self._pending: list[Record] | None = []  # until it is known to be DICOM
        self._known = known
        self._done = False
        self._syn: int | None = None
        self._first_fin: bool | None = None

    def open(self, seen: Segment, time: float) -> None:
        """Its first packet."""
        assert self._pending is not None
        self._pending.append(Opened(0, time, self._requestor, self._acceptor))
        if seen.flags & (SYN | ACK) == SYN:
            self._syn = seen.sequence
        elif not seen.flags & SYN:
            from_requestor = seen.source == self._requestor
            self._pending.append(Garbage(0, time, from_requestor, "the capture begins in mid-connection", b""))

    def is_repeated(self, syn: Segment) -> bool:
        """The SYN of this connection, once more."""
        return self._syn == syn.sequence and not self._done

    def take(self, seen: Segment, time: float) -> Iterator[Record]:
        """What another packet completes."""
        if self._done:
            return
        from_requestor = seen.source == self._requestor
        direction, other = self._directions[from_requestor], self._directions[not from_requestor]
        if seen.flags & ACK:
            yield from self._feed(not from_requestor, other.acknowledged(seen.acknowledged), time)
        if seen.flags & SYN:
            direction.synchronise(seen.sequence)
            return
        if seen.flags & RST:
            yield from self._end(from_requestor, "reset", time)
            return
        fin = bool(seen.flags & FIN)
        if fin and self._first_fin is None:
            self._first_fin = from_requestor
        if seen.length or fin:
            stretches = direction.take(seen.sequence, seen.length, seen.payload, fin=fin)
            yield from self._feed(from_requestor, stretches, time)
        if all(one.ended for one in self._directions):
            yield from self._end(self._first_fin, "closed", time)

    def give_up(self, time: float) -> Iterator[Record]:
        """The capture shows no more of it."""
        if not self._done:
            yield from self._end(None, "incomplete", time)

    def _end(self, who: bool | None, how: str, time: float) -> Iterator[Record]:
        for from_requestor in (True, False):
            yield from self._feed(from_requestor, self._directions[from_requestor].flush(), time)
        if not self._done:
            self._done = True
            yield from self._record(self._decoder.end(who, how, time))  # type: ignore[arg-type]
            self._pending = []
        for direction in self._directions:
            direction.release()

    def _feed(self, from_requestor: bool, stretches: Iterable[Stretch], time: float) -> Iterator[Record]:
        for stretch in stretches:
            if self._done:
                continue
            if isinstance(stretch, int):
                yield from self._record(self._decoder.missing(from_requestor, stretch, time))
                continue
            records = self._decoder.feed(from_requestor, stretch, time)
            if self._pending is not None and not self._known:
                self._known = any(map(_is_dicom, records)) or _has_uid(records, stretch)
                if not self._known and any(isinstance(one, Garbage) for one in records):
                    self._done = True  # something else: it is followed no more
            yield from self._record(records)

    def _record(self, records: list[Record]) -> Iterator[Record]:
        if self._pending is None:
            yield from records
            return
        self._pending += records
        if self._known:
            self._reader.numbers += 1
            self._decoder.connection = self._reader.numbers
            first, self._pending = self._pending, None
            yield from (replace(one, connection=self._reader.numbers) for one in first)
        elif len(self._pending) > _MOST_PENDING:
            self._done = True


def _is_dicom(record: Record) -> bool:
    if isinstance(record, Pdu):
        return record.value is not None or (record.type == PduType.P_DATA_TF and not record.problem)
    return isinstance(record, Message)


def _has_uid(records: list[Record], data: memoryview | bytes) -> bool:
    """An association request that cannot be read."""
    return any(isinstance(one, Pdu) for one in records) and _DICOM in bytes(data[:_LOOK])
