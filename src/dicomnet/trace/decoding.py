"""Two streams of bytes → records: what a protocol analyser sees of an association (PS3.8 9.3, PS3.7 6.3).

One idea: the framer and the decoders of an association read each PDU, but nothing that is wrong ends it: what cannot be
read is recorded as such, and the next PDU is read again. Data sets pass by uncollected: an observer of gigabytes holds
some kilobytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from dicomnet.config import Limits
from dicomnet.dimse import command as c
from dicomnet.dimse.command import CommandSet, InvalidCommand
from dicomnet.dimse.messages import RESPONSE, service
from dicomnet.trace.pdus import NO_PDU, PduStream, Piece
from dicomnet.trace.records import Closed, Garbage, Message, Pdu, Record
from dicomnet.ul import pdu
from dicomnet.ul.framer import Fragment, Framer
from dicomnet.ul.wire import InvalidPdu

BEGINNING: Final = 16  # bytes of what is no PDU: enough to tell "GET / HTTP/1.1" or "SSH-2.0-OpenSSH"
_P_DATA_TF: Final = pdu.PduType.P_DATA_TF.value
_ZEROS: Final = bytes(1 << 20)  # stands for what is missing in a capture


class Began(NamedTuple):
    """A message whose command set is whole; its data set may still be to come."""

    from_requestor: bool
    context_id: int
    command: CommandSet


def message_name(command: CommandSet) -> str:
    """The standard's name of a message, such as ``C-STORE-RQ``."""
    code = command.get(c.COMMAND_FIELD)
    if not isinstance(code, int):
        return "a message without Command Field"
    return service(code & ~RESPONSE) + ("-RSP" if code & RESPONSE else "-RQ")


@dataclass(slots=True)
class _Message:
    """A message, as far as it has passed. ``bad``: it is only skipped."""

    context_id: int
    began: float
    encoded: bytearray = field(default_factory=bytearray)
    command: CommandSet | None = None
    bad: bool = False
    pdus: int = 0
    last_pdu: int = -1
    size: int = 0
    data: bytearray | None = None


class Decoder:
    """Records of one connection. Without input or output; time is an argument; it never raises on what it is fed.

    ``keep_datasets``: data sets up to this many bytes are part of the messages; 0 keeps none. ``in_step``: the streams
    begin with a PDU, which those of a capture need not do. ``began``: messages whose command set became whole with
    the last feed.
    """

    def __init__(
        self, connection: int, *, keep_datasets: int = 0, limits: Limits | None = None, in_step: bool = True
    ) -> None:
        self.connection = connection
        self.keep_datasets = keep_datasets
        self.limits = limits or Limits()
        self.began: list[Began] = []
        self.proposed: dict[int, str] = {}  # context ID → abstract syntax
        self.accepted: dict[int, str] = {}  # context ID → transfer syntax
        self._sides = (_Side(self, False, in_step), _Side(self, True, in_step))

    def feed(self, from_requestor: bool, data: bytes | bytearray | memoryview, time: float) -> list[Record]:
        """What ``data``, which one end has sent, completes."""
        if self.began:
            self.began = []
        return self._sides[from_requestor].feed(data, time)

    def missing(self, from_requestor: bool, count: int, time: float) -> list[Record]:
        """``count`` bytes are not in the capture."""
        return self._sides[from_requestor].missing(count, time)

    def end(
        self, from_requestor: bool | None, how: Literal["closed", "reset", "unreachable", "incomplete"], time: float
    ) -> list[Record]:
        """The connection has ended; what is not whole yet is recorded as such."""
        records = [record for side in (True, False) for record in self._sides[side].end(time)]
        return [*records, Closed(self.connection, time, from_requestor, how)]

    def max_length(self, *, of_requestor: bool) -> int:
        """The longest P-DATA-TF that an end takes, in bytes without the header; 0 if it has set no limit."""
        return self._sides[of_requestor].announced

    def is_tls(self) -> bool:
        """Whether one of the directions is TLS."""
        return any(side.stream.is_tls for side in self._sides)

    def note(self, value: pdu.Pdu) -> None:
        """What a PDU says that later ones depend on."""
        match value:
            case pdu.AssociateRq():
                self.proposed = {context.id: context.abstract_syntax for context in value.contexts}
                self._sides[True].announced = value.user.max_length or 0
            case pdu.AssociateAc():
                self.accepted = {one.id: one.transfer_syntax for one in value.contexts if one.result == 0}
                self._sides[False].announced = value.user.max_length or 0


class _Side:
    """What one end sends."""

    def __init__(self, decoder: Decoder, from_requestor: bool, in_step: bool) -> None:
        self._decoder = decoder
        self._from_requestor = from_requestor
        self.stream = PduStream(decoder.limits, in_step=in_step)
        self.announced = 0
        self._limit = decoder.limits.command_set
        self._framer = Framer(0, decoder.limits)
        self._number = 0  # of the PDU
        self._pdu_began = 0.0
        self._value: pdu.Pdu | None = None
        self._problem = ""
        self._unreadable = False  # the rest of the PDU is only skipped
        self._waiting: list[Record] = []  # records that follow that of the PDU
        self._message: _Message | None = None
        self._orphan = False  # fragments that belong to no message
        self._data_seen = False
        self._garbage: bytearray | None = None  # how it begins, until there is enough of it

    def feed(self, data: bytes | bytearray | memoryview, time: float) -> list[Record]:
        records: list[Record] = []
        for piece in self.stream.split(data):
            if piece.type == NO_PDU:
                self._take_garbage(piece, time, records)
                continue
            if piece.begins:
                self._begin(piece, time)
            if not self._unreadable:
                self._read(piece.data, time)
            if piece.ends:
                self._end(piece.type, piece.length, time, records)
        return records

    # --- PDUs -------------------------------------------------------------------------------------------------------

    def _begin(self, piece: Piece, time: float) -> None:
        self._number += 1
        self._pdu_began = time
        self._value, self._problem, self._unreadable = None, "", False
        if piece.type == _P_DATA_TF:
            self._data_seen = True
            # PS3.8 D.1.1: what the receiver has announced
            limit = self._decoder.max_length(of_requestor=not self._from_requestor)
            if limit and piece.length - pdu.HEADER_LENGTH > limit:
                self._problem = f"longer than the {limit} bytes that the receiver has announced"

    def _read(self, data: memoryview, time: float) -> None:
        for frame in self._framer.receive(data):
            if isinstance(frame, Fragment):
                self._take_fragment(frame, time)
            elif isinstance(frame, bytes):
                self._decode(frame)
            else:
                self._give_up(str(frame))

    def _decode(self, encoded: bytes) -> None:
        try:
            self._value = pdu.decode(encoded)
        except InvalidPdu as error:
            self._problem = str(error)
        else:
            self._decoder.note(self._value)

    def _give_up(self, problem: str) -> None:
        self._problem = problem
        self._unreadable = True
        self._framer = Framer(0, self._decoder.limits)

    def _end(self, kind: int, length: int, time: float, records: list[Record]) -> None:
        value = None if isinstance(self._value, pdu.PDataTf) else self._value
        records.append(Pdu(self._decoder.connection, time, self._from_requestor, kind, length, value, self._problem))
        if self._waiting:
            records += self._waiting
            self._waiting = []

    # --- messages ---------------------------------------------------------------------------------------------------

    def _take_fragment(self, fragment: Fragment, time: float) -> None:
        if fragment.is_command:
            self._take_command(fragment, time)
        else:
            self._take_data(fragment, time)

    def _take_command(self, fragment: Fragment, time: float) -> None:
        self._orphan = False
        message = self._message
        if message is not None and (message.command is not None or message.context_id != fragment.context_id):
            self._complain(f"another message begins before {self._name(message)} has ended", time)
            message = None
        if message is None:
            message = self._message = _Message(fragment.context_id, self._pdu_began)
        self._count_pdu(message)
        if len(message.encoded) + len(fragment.data) > self._limit:
            message.bad = True
        elif not message.bad:
            message.encoded += fragment.data
        if fragment.is_last:
            self._end_command(message, time)

    def _end_command(self, message: _Message, time: float) -> None:
        try:
            if message.bad:
                raise InvalidCommand(f"a command set that is not whole, or of more than {self._limit} bytes")
            message.command = c.decode(bytes(message.encoded))
        except InvalidCommand as error:
            self._complain(str(error), time, bytes(message.encoded[:BEGINNING]))
            self._message = None
            return
        message.encoded.clear()
        self._decoder.began.append(Began(self._from_requestor, message.context_id, message.command))
        if message.command.get(c.DATA_SET_TYPE) == c.NO_DATA_SET:
            self._end_message(message, time, None)
        elif self._decoder.keep_datasets:
            message.data = bytearray()

    def _take_data(self, fragment: Fragment, time: float) -> None:
        message = self._message
        if message is None or message.command is None or message.context_id != fragment.context_id:
            if not self._orphan:
                self._complain(f"a data set without a command set, on context {fragment.context_id}", time)
            self._orphan = not fragment.is_last
            self._message = None
            return
        self._count_pdu(message)
        message.size += len(fragment.data)
        if message.data is not None:
            if message.size <= self._decoder.keep_datasets:
                message.data += fragment.data
            else:
                message.data = None
        if fragment.is_last:
            self._end_message(message, time, message.size)

    def _end_message(self, message: _Message, time: float, size: int | None) -> None:
        assert message.command is not None
        decoder, context_id = self._decoder, message.context_id
        self._waiting.append(
            Message(
                decoder.connection,
                time,
                message.began,
                self._from_requestor,
                context_id,
                message.command,
                decoder.proposed.get(context_id, ""),
                decoder.accepted.get(context_id, ""),
                message.pdus,
                size,
                None if message.data is None or size is None else bytes(message.data),
            )
        )
        self._message = None

    def _count_pdu(self, message: _Message) -> None:
        if message.last_pdu != self._number:
            message.last_pdu = self._number
            message.pdus += 1

    def _complain(self, reason: str, time: float, data: bytes = b"") -> None:
        self._waiting.append(Garbage(self._decoder.connection, time, self._from_requestor, reason, data))

    @staticmethod
    def _name(message: _Message) -> str:
        return "its command set" if message.command is None else message_name(message.command)

    # --- what is wrong ----------------------------------------------------------------------------------------------

    def _take_garbage(self, piece: Piece, time: float, records: list[Record]) -> None:
        if piece.begins:
            self._garbage = bytearray()
        if self._garbage is None:
            return
        self._garbage += piece.data[: BEGINNING - len(self._garbage)]
        if len(self._garbage) == BEGINNING:
            records += self._report_garbage(time)

    def _report_garbage(self, time: float) -> list[Record]:
        # After a P-DATA-TF it may be part of a data set, and those belong to patients.
        hidden = self._data_seen and not self._decoder.keep_datasets
        data = b"" if hidden else bytes(self._garbage or b"")
        self._garbage = None
        return [Garbage(self._decoder.connection, time, self._from_requestor, self.stream.lost, data)]

    def missing(self, count: int, time: float) -> list[Record]:
        """As zeros to the end of the current PDU if they may be part of a data set; else that PDU is given up."""
        records: list[Record] = []
        stream = self.stream
        if stream.lost or stream.searches:
            return records
        within = min(count, stream.left)
        message = self._message
        if message is not None and message.command is not None:
            message.data = None
        elif message is not None:
            message.bad = True
        problem = f"{count} bytes are missing in the capture"
        if within:
            if stream.type == _P_DATA_TF:
                self._problem = problem
            else:
                self._give_up(problem)
            for start in range(0, within, len(_ZEROS)):
                records += self.feed(_ZEROS[: within - start], time)
        elif not stream.header:
            records.append(Garbage(self._decoder.connection, time, self._from_requestor, problem, b""))
        if within < count:
            self._message = None
            stream.lose()
            self._framer = Framer(0, self._decoder.limits)
        return records

    def end(self, time: float) -> list[Record]:
        """The end of this direction."""
        if self._garbage is not None:
            return self._report_garbage(time)
        stream = self.stream
        if not stream.mid_pdu:
            if self._message is None:
                return []
            reason, data = f"the connection ended within {self._name(self._message)}", b""
        elif stream.header:
            reason, data = "the connection ended within a PDU header", stream.header
        else:
            reason, data = f"the connection ended {stream.left} bytes before the end of a PDU", b""
        hidden = self._data_seen and not self._decoder.keep_datasets
        records: list[Record] = [*self._waiting]
        self._waiting = []
        reported = b"" if hidden else data
        return [*records, Garbage(self._decoder.connection, time, self._from_requestor, reason, reported)]
