"""What is said on one connection of a ``DicomNet``: the association, what is queued, whose answer is due.

One idea: a call is checked, encoded and queued here and now, by whichever thread makes it; what the queue holds is
written, and what happens is told, by the connection's own thread (``connection``).
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final, cast

from dicomnet.callbacks import commands
from dicomnet.callbacks.associate import DicomAssociate
from dicomnet.callbacks.enums import PduType
from dicomnet.callbacks.outbox import Batch, Item, Operation, Outbox
from dicomnet.dataset import EncodedDataset, spools
from dicomnet.dimse import command as dimse_command, messages
from dicomnet.dimse.messages import CommandField, Request, Response, Unusable
from dicomnet.dimse.status import Status
from dicomnet.dimse.stream import MessageStream
from dicomnet.errors import DeadlineExceeded, LocalProtocolError, QueueFull
from dicomnet.ul import pdu as ul_pdu
from dicomnet.ul.association import Association
from dicomnet.ul.fsm import Event, State
from dicomnet.ul.negotiation import AcceptedContext

if TYPE_CHECKING:
    from dicomnet.callbacks.net import DicomNet

_DATA_STATES: Final = (State.ESTABLISHED, State.AWAITING_LOCAL_RELEASE)  # those in which data may be sent (DT-1, AR-7)
_HEADERS: Final = 12  # bytes of a P-DATA-TF with one fragment before its data
_RELEASE_LENGTH: Final = 10  # bytes of an A-RELEASE PDU


class Session:
    """The association of ``net``'s connection. ``lock`` guards it, its queue and the flags."""

    thread: threading.Thread  # the connection's own

    def __init__(self, net: DicomNet, *, requestor: bool) -> None:
        self.net = net
        self._timeouts = net.timeouts
        self._limits = net.limits
        self.lock = threading.RLock()
        self.association = Association(requestor=requestor, timeouts=net.timeouts, limits=net.limits)
        self.stream = MessageStream(
            self.association, spools(self.association, net.limits, net.spool_folder), net.limits
        )
        self.negotiated: DicomAssociate | None = None

        self.closing = False  # the user wants it closed
        self._releasing = False  # an A-RELEASE-RQ is queued
        self._responding = False  # an A-RELEASE-RP is queued, or will be: in state 10 it must wait (AR-10)

        self._outbox = Outbox(self.lock, net.limits.queue)
        self._operations: dict[int, Operation] = {}  # requests of ours that have gone, by message ID
        self._unanswered: set[int] = set()  # message IDs of requests of the peer

    def notify(self) -> None:
        """Make the connection's thread look at the queue and the flags."""
        raise NotImplementedError

    @property
    def name(self) -> str:
        """For log lines: what it is, and the other side."""
        request = self.association.request
        title = "" if request is None else ascii(self._other_title(request))[1:-1] + "@"
        return f"{type(self.net).__name__} {title}{self.net.peer_address}:{self.net.peer_port}"

    def _other_title(self, request: ul_pdu.AssociateRq) -> str:
        return request.called_ae if self.association.requestor else request.calling_ae

    @property
    def queued(self) -> int:
        return self._outbox.queued

    @property
    def is_established(self) -> bool:
        return self.association.state is State.ESTABLISHED and not self._releasing

    # --- calls, from any thread -------------------------------------------------------------------------------------

    def control(self, call: str, event: Event, perform: Callable[[float], None]) -> None:
        """An association service: ``perform`` now, its PDU goes out in its turn."""
        with self.lock:
            self._require(call, self.association.can(event))
            perform(time.monotonic())
            self._queue_output()
        self.notify()

    def _queue_output(self) -> None:
        """What the core has to say."""
        buffers = self.association.data_to_send()
        if buffers:
            self._outbox.put(Item(PduType(buffers[0][0]), sum(map(len, buffers)), iter([cast("Batch", buffers)])))

    def abort(self, source: int, reason: int) -> None:
        """What still waits is dropped: an abort does not stand in line (PS3.8 7.3)."""
        with self.lock:
            self._require("send_abort", self.association.can(Event.ABORT_REQUEST))
            self._abort(source, reason)
        self.notify()

    def _abort(self, source: int, reason: int) -> None:
        self.association.abort(time.monotonic(), source, reason)
        self._outbox.drop()
        self._queue_output()

    def request_release(self) -> None:
        """Its turn comes after all that is queued; only then does its time limit begin."""
        with self.lock:
            self._require("send_release_request", self.association.can(Event.RELEASE_REQUEST) and not self._releasing)
            self._releasing = True
            self._put_later(PduType.RELEASE_REQUEST, Event.RELEASE_REQUEST, self.association.release)
        self.notify()

    def respond_release(self) -> None:
        """In a collision the acceptor's response must wait for the requestor's (AR-10)."""
        with self.lock:
            waits = self.association.state is State.COLLISION_ACCEPTOR_PDU
            possible = (waits or self.association.can(Event.RELEASE_RESPONSE)) and not self._responding
            self._require("send_release_response", possible)
            self._responding = True
            if not waits:
                self._put_release_response()
        self.notify()

    def _put_release_response(self) -> None:
        self._put_later(PduType.RELEASE_RESPONSE, Event.RELEASE_RESPONSE, self.association.respond_release)

    def _put_later(self, pdu_type: PduType, event: Event, perform: Callable[[float], None]) -> None:
        self._outbox.put(Item(pdu_type, _RELEASE_LENGTH, self._performed(event, perform)))

    def _performed(self, event: Event, perform: Callable[[float], None]) -> Iterator[Batch]:
        """An association service performed when its turn comes, if it is still possible."""
        with self.lock:
            if not self.association.can(event):
                return
            perform(time.monotonic())
            buffers = self.association.data_to_send()
        yield cast("Batch", buffers)

    def _require(self, call: str, possible: bool) -> None:
        if self.closing:
            raise LocalProtocolError(f"{call} is not possible: the connection is closed or being closed")
        if not possible:
            state = self.association.state
            release = ", a release is under way" if self._releasing or self._responding else ""
            raise LocalProtocolError(f"{call} is not possible in state {state.value} ({state.name}{release})")

    def _require_data(self, call: str) -> None:
        under_way = self._releasing or self._responding
        self._require(call, self.association.state in _DATA_STATES and not under_way)

    def context(self, call: str, presentation_id: int) -> AcceptedContext:
        with self.lock:
            self._require_data(call)
            context = self.association.contexts.get(presentation_id)
        if context is None:
            raise LocalProtocolError(f"{call}: presentation context {presentation_id} was not accepted")
        return context

    def send(
        self, call: str, presentation_id: int, command_set: dimse_command.CommandSet, dataset: EncodedDataset | None
    ) -> None:
        """Queue a message. Raises LocalProtocolError, QueueFull and DeadlineExceeded; OSError for the file to send."""
        try:
            encoded = dimse_command.encode(command_set)
        except (ValueError, TypeError) as error:
            raise LocalProtocolError(f"{call}: {error}") from error
        field = cast("int", command_set[dimse_command.COMMAND_FIELD])
        is_response = bool(field & messages.RESPONSE)
        operation, cancels = None, None
        if field == CommandField.C_CANCEL:
            cancels = cast("int", command_set.get(dimse_command.MESSAGE_ID_BEING_RESPONDED_TO))
        elif not is_response:
            operation = Operation(cast("int", command_set.get(dimse_command.MESSAGE_ID)), presentation_id, field)
        with contextlib.ExitStack() as held:
            view = None if dataset is None else held.enter_context(dataset.view())
            data, passed = (None, None) if view is None else (view.data, view.passed)
            if is_response and self.net._watches_command_sets:
                parts = self._edited(presentation_id, command_set, data)
            else:
                parts = self.stream.batches(presentation_id, encoded, data)
            length = self._wire_length(len(encoded)) + (0 if data is None else self._wire_length(len(data)))
            batches = _holding(held.pop_all(), parts, passed, len(encoded))
            item = Item(PduType.DATA_TRANSFER, length, batches, operation, is_response, cancels)
        self._put(call, item, command_set)

    def _put(self, call: str, item: Item, command_set: dimse_command.CommandSet) -> None:
        with self.lock:
            self._wait_for_room(call)
            self._require_data(call)
            operation = item.operation
            if operation is not None and (
                operation.message_id in self._operations or self._outbox.has_request(operation.message_id)
            ):
                raise LocalProtocolError(f"{call}: message ID {operation.message_id} is in use (PS3.7 9.1.1.1.1)")
            if item.is_response and not _is_pending(command_set):
                self._unanswered.discard(cast("int", command_set.get(dimse_command.MESSAGE_ID_BEING_RESPONDED_TO)))
            self._outbox.put(item)
        self.notify()

    def _wire_length(self, length: int) -> int:
        """What ``length`` bytes of a command or data set take with the headers of their PDUs."""
        return length + _HEADERS * max(1, -(-length // self.association.fragment_length))

    def _edited(
        self, presentation_id: int, command_set: dimse_command.CommandSet, data: memoryview | None
    ) -> Iterator[Batch]:
        """A response, encoded when its turn comes, on this connection's thread, after the user has had a look."""
        editable = commands.as_dataset(command_set)
        self.net.on_before_send_command_set(editable)
        edited = {**command_set, **commands.as_command_set(editable)}
        edited[dimse_command.DATA_SET_TYPE] = command_set[dimse_command.DATA_SET_TYPE]
        yield from self.stream.batches(presentation_id, dimse_command.encode(edited), data)

    def _wait_for_room(self, call: str) -> None:
        outbox = self._outbox
        if not outbox.is_full:
            return
        if threading.current_thread() is self.thread:
            raise QueueFull(f"{call}: {outbox.queued} bytes wait to be sent, {outbox.most} may")
        seconds = self._timeouts.send
        if not outbox.wait_for_room(seconds, lambda: self.closing):
            raise DeadlineExceeded("send", seconds)

    # --- whose answer is due ----------------------------------------------------------------------------------------

    def _take_request(self, command: Request | Unusable) -> None:
        if command.command != CommandField.C_CANCEL:
            self._unanswered.add(cast("int", command.message_id))
        if command.command == CommandField.C_STORE:  # sub-operations of a C-GET: its response is not late
            for operation in self._operations.values():
                if operation.command == CommandField.C_GET and operation.due is not None:
                    operation.due = self._response_due()

    def _take_response(self, response: Response, context_id: int) -> str | None:
        """Which request of ours it belongs to (N-25); its time limit ends, or begins anew if more are to come.

        Returns what is wrong with it, or None.
        """
        what = messages.service(response.command)
        with self.lock:
            operation = self._operations.get(response.message_id)
            if operation is None:
                return f"a {what} response to a request that is not outstanding"
            if (operation.context_id, operation.command) != (context_id, response.command):
                asked = messages.service(operation.command)
                return f"a {what} response in context {context_id} to a {asked} in context {operation.context_id}"
            if response.status.is_pending:
                operation.due = self._response_due()
            else:
                del self._operations[response.message_id]
        return None

    def _response_due(self) -> float | None:
        seconds = self._timeouts.response
        return None if seconds is None else time.monotonic() + seconds

    def _window_has_room(self) -> bool:
        invoked, performed = self.association.window
        size = invoked if self.association.requestor else performed
        return not size or len(self._operations) < size


def _is_pending(command_set: dimse_command.CommandSet) -> bool:
    status = command_set.get(dimse_command.STATUS)
    return type(status) is int and Status(status).is_pending


def _holding(
    held: contextlib.ExitStack,
    batches: Iterator[Batch],
    passed: Callable[[int], None] | None,
    command_length: int,
) -> Iterator[Batch]:
    """``batches``, with the data set held open until they have gone."""
    with held:
        gone = -command_length
        for batch in batches:
            yield batch
            if passed is not None:
                gone += sum(map(len, batch[1::2]))
                passed(max(gone, 0))
