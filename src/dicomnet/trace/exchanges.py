"""Requests and their responses put together, over all connections (PS3.7 6.1).

One idea: ``Watcher.see`` says of each record what only those before it can tell; all that it remembers is bounded.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import Final

from dicomnet.dimse import command as c
from dicomnet.dimse.messages import RESPONSE, CommandField
from dicomnet.dimse.status import Status
from dicomnet.trace.decoding import message_name
from dicomnet.trace.records import Closed, Message, Pdu, Record
from dicomnet.ul.pdu import AssociateAc, AssociateRq

OUTSTANDING: Final = (
    4096  # requests of one connection that a response is awaited for; more, and the oldest is forgotten
)


@dataclass(frozen=True, slots=True)
class Seen:
    """A record, and what the records before it say of it.

    ``gap``: seconds since the record before on its connection, None for the first. Of a response: ``request``, which it
    answers, and ``waited``, the seconds from that one's last byte to its own. Of an A-ASSOCIATE-AC: ``proposal``. Of a
    Closed: ``unanswered`` requests.
    """

    record: Record
    gap: float | None = None
    request: Message | None = None
    waited: float | None = None
    proposal: AssociateRq | None = None
    unanswered: tuple[Message, ...] = ()


@dataclass(slots=True)
class _Connection:
    last: float
    proposal: AssociateRq | None = None
    open: OrderedDict[tuple[bool, int], Message] = field(default_factory=OrderedDict)


class Watcher:
    """Sees the records of all connections, in the order in which they come."""

    def __init__(self) -> None:
        self._connections: dict[int, _Connection] = {}

    def see(self, record: Record) -> Seen:
        known = self._connections.get(record.connection)
        gap = None if known is None else record.time - known.last
        if known is None:
            known = self._connections[record.connection] = _Connection(record.time)
        known.last = record.time
        match record:
            case Closed():
                del self._connections[record.connection]
                return Seen(record, gap, unanswered=tuple(known.open.values()))
            case Pdu(value=AssociateRq() as proposal):
                known.proposal = proposal
            case Pdu(value=AssociateAc()):
                return Seen(record, gap, proposal=known.proposal)
            case Message():
                return self._relate_message(record, gap, known.open)
        return Seen(record, gap)

    @staticmethod
    def _relate_message(message: Message, gap: float | None, waiting: OrderedDict[tuple[bool, int], Message]) -> Seen:
        field_, own = message.command.get(c.COMMAND_FIELD), message.command.get(c.MESSAGE_ID)
        answered = message.command.get(c.MESSAGE_ID_BEING_RESPONDED_TO)
        if not isinstance(field_, int):
            return Seen(message, gap)
        if field_ & RESPONSE and isinstance(answered, int):
            key = not message.from_requestor, answered
            pending = (status := status_of(message)) is not None and status.is_pending
            request = waiting.get(key) if pending else waiting.pop(key, None)
            return Seen(message, gap, request, None if request is None else message.time - request.time)
        if isinstance(own, int) and field_ != CommandField.C_CANCEL:
            waiting[message.from_requestor, own] = _without_dataset(message)
            if len(waiting) > OUTSTANDING:
                waiting.popitem(last=False)
        return Seen(message, gap)


def _without_dataset(message: Message) -> Message:
    """Of what may wait for long, and in great numbers."""
    return message if message.dataset is None else replace(message, dataset=None)


def service_of(message: Message) -> str:
    """Such as ``C-STORE``, of a request and of its response."""
    return message_name(message.command).removesuffix("-RQ").removesuffix("-RSP")


def status_of(message: Message) -> Status | None:
    """Of a response; None if it is a request, or has none."""
    value, code = message.command.get(c.STATUS), message.command.get(c.COMMAND_FIELD)
    return Status(value) if isinstance(value, int) and isinstance(code, int) and code & RESPONSE else None
