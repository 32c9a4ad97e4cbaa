"""Messages from fragments and back (PS3.7 6.3, PS3.8 E.1): an association that speaks in messages.

One idea: a data set is never collected here. When its command set is complete, ``open_sink`` says where the pieces go;
each goes there as the view that the framer made. Command sets are joined, within a limit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, Protocol, cast

from dicomnet.config import IMPLEMENTATION_CLASS_UID, Limits
from dicomnet.dimse import messages, templates
from dicomnet.dimse.command import InvalidCommand
from dicomnet.dimse.messages import Request, Response, Unusable
from dicomnet.ul import events
from dicomnet.ul.association import Association, Buffer
from dicomnet.ul.framer import COMMAND, LAST, Fragment, batches, p_data_header, whole_command
from dicomnet.ul.fsm import State
from dicomnet.ul.negotiation import AcceptedContext


class Sink(Protocol):
    """Where a data set goes. Failures are kept, not raised: ``close`` returns the data set or the OSError."""

    def write(self, piece: memoryview) -> None:
        """Take a piece; it is valid until ``flush`` returns."""

    def flush(self) -> None:
        """Be done with the pieces taken."""

    def close(self) -> object:
        """The data set is complete: return it, or the error that kept it from being stored."""

    def discard(self) -> None:
        """It will not be completed: leave nothing behind."""


class Message(NamedTuple):
    """A complete message. ``dataset``: what the sink made of it, or None. ``command_set``: its bytes."""

    context_id: int
    command: Request | Response | Unusable
    dataset: object
    command_set: bytes


_DATA_STATES = (State.ESTABLISHED, State.AWAITING_RELEASE_RP)  # those in which data may come

OpenSink = Callable[[Request | Response | Unusable, AcceptedContext], Sink]
Event = events.UlEvent | Message


class MessageStream:
    """One association's messages. ``open_sink(command, context)`` is called once for each data set to come."""

    def __init__(self, association: Association, open_sink: OpenSink, limits: Limits) -> None:
        self.association = association
        self._open_sink = open_sink
        self._max_command_set = limits.command_set
        self._context_id = 0  # of the message under way, else 0 (no context has it)
        self._command_set = bytearray()
        self._command: Request | Response | Unusable | None = None  # the message whose data set is awaited
        self._sink: Sink | None = None

    @property
    def mid_message(self) -> bool:
        """True while a message has begun and not ended."""
        return self._context_id != 0

    @property
    def expects_more(self) -> bool:
        """True while a message or a PDU has begun and not ended: the peer has more to send."""
        return self._context_id != 0 or self.association.framer.mid_pdu

    def receive_whole(self, data: memoryview) -> Message | None:
        """The common case, at once: ``data`` is one PDU with one message without a data set. None: it is not."""
        association = self.association
        if self._context_id or not association.receives_plainly:
            return None
        found = whole_command(data, association.max_length)
        if found is None or found[0] not in association.contexts:
            return None
        context_id, encoded = found
        command = templates.decode(encoded)
        if command is None or command.has_dataset:
            return None
        return Message(context_id, command, None, encoded)

    def receive_data(self, data: Buffer, now: float) -> list[Event]:
        """Bytes from the peer → what they brought: messages, and the association's other events, in order."""
        self.association.receive_data(data, now)
        return self.events(now)

    def events(self, now: float) -> list[Event]:
        """What has happened since the last call: also after ``receive_eof`` and ``handle_timer``."""
        happened: list[Event] = []
        pending = iter(self.association.events())
        for event in pending:
            if type(event) is Fragment:
                wrong = self._receive_fragment(event, happened)
            elif type(event) is events.ReleaseRequested and self.mid_message:
                wrong = "a release in mid-message"
            else:
                happened.append(event)
                continue
            if wrong is not None:
                happened += self._fail(wrong, pending, now)
                break
        if self._sink is not None:
            if self.association.state in _DATA_STATES:
                self._sink.flush()
            else:
                self.discard()
        return happened

    def _fail(self, wrong: str, rest: Iterable[Event], now: float) -> list[Event]:
        """What there is to tell of it. If the association was over before this was seen: how it ended."""
        self.association.fail(wrong, now)
        told = cast("list[Event]", self.association.events())
        return told or [event for event in rest if type(event) is not Fragment][-1:]

    def _receive_fragment(self, fragment: Fragment, happened: list[Event]) -> str | None:
        """Returns what is wrong with it, or None."""
        if self._context_id and fragment.context_id != self._context_id:
            return f"fragments of contexts {self._context_id} and {fragment.context_id} interleave"
        if fragment.is_command:
            if self._command is not None:
                return "a command set where a data set was announced"
            return self._receive_command(fragment, happened)
        if self._command is None:
            return "a data set that no command set announced"
        sink = cast("Sink", self._sink)
        if fragment.data:
            sink.write(fragment.data)
        if fragment.is_last:
            sink.flush()
            encoded = bytes(self._command_set)
            happened.append(Message(fragment.context_id, self._command, sink.close(), encoded))
            self._context_id = 0
            self._command = None
            self._sink = None
            self._command_set.clear()
        return None

    def _receive_command(self, fragment: Fragment, happened: list[Event]) -> str | None:
        self._context_id = fragment.context_id
        if len(self._command_set) + len(fragment.data) > self._max_command_set:
            return f"a command set of more than {self._max_command_set} bytes"
        if self._command_set or not fragment.is_last:
            self._command_set += fragment.data
            if not fragment.is_last:
                return None
        encoded = bytes(self._command_set or fragment.data)
        try:
            command = templates.decode(encoded) or messages.decode(encoded)
        except InvalidCommand as error:
            return str(error)
        if type(command) is Unusable and command.message_id is None:
            return f"a command set that cannot be answered: {command.detail}"
        if command.has_dataset:
            self._command = command
            self._command_set[:] = encoded
            self._sink = self._open_sink(command, self.association.contexts[fragment.context_id])
        else:
            self._context_id = 0
            self._command_set.clear()
            happened.append(Message(fragment.context_id, command, None, encoded))
        return None

    def discard(self) -> None:
        """Nothing more comes: leave nothing of a half-received data set behind."""
        if self._sink is not None:
            self._sink.discard()
            self._sink = None

    def whole(self, context_id: int, command_set: bytes, data: memoryview | None) -> list[bytes | memoryview] | None:
        """A message of one PDU for the command set and one for the data set, or None if it takes more."""
        longest = self.association.fragment_length
        length = len(command_set)
        if length > longest:
            return None
        if data is None:
            return [p_data_header(context_id, COMMAND | LAST, length) + command_set]
        size = len(data)
        if size > longest or size & 1:
            return None
        return [
            p_data_header(context_id, COMMAND | LAST, length) + command_set + p_data_header(context_id, LAST, size),
            data,
        ]

    def batches(
        self, context_id: int, command_set: bytes, data: memoryview | None
    ) -> Iterator[list[bytes | memoryview]]:
        """A message as lists of buffers for ``association.send``, in order; each list is worth one system call.

        Between two ends of this implementation even an odd length arrives as it was: both know what to make of it.
        """
        association = self.association
        keep_odd = association.peer_implementation == IMPLEMENTATION_CLASS_UID
        return batches(context_id, command_set, data, association.peer_max_length, keep_odd=keep_odd)
