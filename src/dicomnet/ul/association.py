"""One association (PS3.8 7, 9.2): state machine, framing and time limits, without I/O.

The verbs: bytes go in by ``receive_data`` and ``receive_eof``, time by ``handle_timer``; ``events`` tells what
happened, ``data_to_send`` what to write, ``deadline`` when to come back, ``close_wanted`` that the connection is to be
closed. The local user's primitives are ``associate``, ``accept``, ``reject``, ``send``, ``release``,
``respond_release`` and ``abort``.

What a peer sends never raises: it becomes an A-ABORT and an event. What the caller does wrong raises
``LocalProtocolError`` and changes nothing. Time is an argument, in seconds of any monotonic clock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from dicomnet.config import MAX_PDU_LENGTH, Limits, Timeouts
from dicomnet.errors import AbortReason, AbortSource, LocalProtocolError
from dicomnet.ul import events, negotiation, pdu
from dicomnet.ul.framer import Fragment, Framer, fragment_length
from dicomnet.ul.fsm import TABLE, Event, State
from dicomnet.ul.negotiation import AcceptedContext
from dicomnet.ul.pdu import PduType
from dicomnet.ul.wire import InvalidLength, InvalidPdu

Buffer = bytes | bytearray | memoryview

_RECEIVED = {
    pdu.AssociateRq: Event.ASSOCIATE_RQ,
    pdu.AssociateAc: Event.ASSOCIATE_AC,
    pdu.AssociateRj: Event.ASSOCIATE_RJ,
    pdu.ReleaseRq: Event.RELEASE_RQ,
    pdu.ReleaseRp: Event.RELEASE_RP,
    pdu.Abort: Event.ABORT,
}


class Association:
    """The upper layer's side of one connection. One object, one connection, one association (PS3.8 9.1.1).

    ``requestor``: this side opened the connection. ``max_length``: the longest P-DATA-TF variable field that this side
    receives, in bytes, 0 is unlimited; once this side has announced one, that counts. Raises ValueError for a length
    that leaves no room for data or passes ``limits.pdu_length``.
    """

    def __init__(
        self,
        *,
        requestor: bool,
        max_length: int = MAX_PDU_LENGTH,
        timeouts: Timeouts | None = None,
        limits: Limits | None = None,
    ) -> None:
        limits = limits or Limits()
        self._most_p_data = limits.pdu_length
        negotiation.check_max_length(max_length, limits.pdu_length)
        self.requestor = requestor
        self.max_length = max_length
        self.timeouts = timeouts or Timeouts()

        # Where the association stands.
        self.state = State.IDLE
        self.close_wanted = False

        # What was negotiated.
        self.request: pdu.AssociateRq | None = None
        self.answer: pdu.AssociateAc | None = None
        self.contexts: dict[int, AcceptedContext] = {}
        self.peer_max_length = 0
        self.fragment_length = fragment_length(0)  # the longest fragment to send, in bytes
        self.peer_implementation: str | None = None
        self.window = (1, 1)

        # Bytes and events on their way.
        self.framer = Framer(max_length, limits)
        self._events: list[events.UlEvent] = []
        self._output: list[Buffer] = []

        # Time limits: points in time, or None.
        self._now = 0.0
        self._artim: float | None = None
        self._artim_name = "artim"
        self._pdu_deadline: float | None = None
        self._pdus_begun = 0  # as the framer counts; tells whose deadline that is
        self._wait: float | None = None  # the user's wait for an answer (N-05: not ARTIM's business)
        self._wait_name = ""

    @property
    def extended_answers(self) -> dict[str, bytes]:
        """SOP class → the acceptor's answer to its extended negotiation (PS3.7 D.3.3.5)."""
        return {} if self.answer is None else {item.sop_class_uid: item.data for item in self.answer.user.extended}

    @property
    def identity_response(self) -> bytes | None:
        """The acceptor's response to the user identity (PS3.7 D.3.3.7.2), or None if it gave none."""
        return None if self.answer is None else self.answer.user.identity_response

    # --- input ------------------------------------------------------------------------------------------------------

    def transport_opened(self, now: float) -> None:
        """The transport connection stands: the requestor's confirmation, the acceptor's indication."""
        self._now = now
        self._step(Event.TRANSPORT_CONFIRMED if self.requestor else Event.TRANSPORT_INDICATED)

    def receive_data(self, data: Buffer, now: float) -> None:
        """Bytes from the peer. Views in the events that follow are valid until the next call."""
        self._now = now
        state = self.state
        if state is State.AWAITING_TRANSPORT:
            raise LocalProtocolError("data before transport_opened")
        if state is State.IDLE:  # after the end: nothing that comes means anything
            return
        for frame in self.framer.receive(data):
            if type(frame) is Fragment and self.state is State.ESTABLISHED and frame.context_id in self.contexts:
                self._events.append(frame)  # DT-2: the common case
            elif self.close_wanted:
                break
            elif type(frame) is Fragment:
                self._receive_fragment(frame)
            elif type(frame) is bytes:
                self._receive_pdu(frame)
            else:
                self._step(Event.INVALID_PDU, frame)
        if not self.framer.mid_pdu or self.state in (State.IDLE, State.AWAITING_CLOSE):
            self._pdu_deadline = None
        elif self._pdu_deadline is None or self._pdus_begun != self.framer.pdus_begun:
            self._pdus_begun = self.framer.pdus_begun
            self._pdu_deadline = None if self.timeouts.pdu is None else now + self.timeouts.pdu
        if self._artim is not None or self._wait is not None:
            self._check_waits(now)  # a peer that never stops sending must not keep us from looking at the clock

    @property
    def receives_plainly(self) -> bool:
        """Established, between two PDUs, and with no time limit running: a whole P-DATA-TF changes nothing here."""
        return (
            self.state is State.ESTABLISHED
            and not self.framer.mid_pdu
            and self._artim is None
            and self._wait is None
            and not self._events
        )

    def _receive_fragment(self, fragment: Fragment) -> None:
        if self.state is not State.ESTABLISHED:
            self._step(Event.P_DATA_TF)
            if self.state is not State.AWAITING_RELEASE_RP:
                return
        if fragment.context_id not in self.contexts:
            self._step(Event.INVALID_PDU, InvalidPdu(f"data in presentation context {fragment.context_id}"))
            return
        self._events.append(fragment)

    def _receive_pdu(self, encoded: bytes) -> None:
        try:
            received = pdu.decode(encoded)
        except InvalidPdu as error:
            self._step(Event.INVALID_PDU, error)
            return
        self._step(_RECEIVED[cast("type[pdu.AssociateRq]", type(received))], received, encoded)

    def receive_eof(self, now: float) -> None:
        """The peer closed the connection, or it broke."""
        self._now = now
        if self.state is not State.IDLE:
            self._step(Event.TRANSPORT_CLOSED)

    # --- output -----------------------------------------------------------------------------------------------------

    def events(self) -> list[events.UlEvent]:
        """What happened since the last call, in order."""
        happened, self._events = self._events, []
        return happened

    def data_to_send(self) -> list[Buffer]:
        """Buffers to write, in order, since the last call."""
        output, self._output = self._output, []
        return output

    @property
    def has_output(self) -> bool:
        """Whether ``data_to_send`` would return something."""
        return bool(self._output)

    # --- time -------------------------------------------------------------------------------------------------------

    @property
    def deadline(self) -> float | None:
        """When ``handle_timer`` is to be called at the latest."""
        if self._artim is None and self._pdu_deadline is None and self._wait is None:
            return None
        return min(limit for limit in (self._artim, self._pdu_deadline, self._wait) if limit is not None)

    def handle_timer(self, now: float) -> None:
        """Act on the limits that have passed; early calls do nothing."""
        self._now = now
        self._check_waits(now)
        if self._pdu_deadline is not None and now >= self._pdu_deadline:
            if self.state is State.AWAITING_REQUEST:  # nothing to abort yet: closed as by ARTIM
                self._events.append(events.TimerExpired("pdu"))
                self._step(Event.ARTIM_EXPIRED)
            else:
                self._expire("pdu", AbortSource.PROVIDER)

    def was_busy(self, now: float) -> None:
        """Nobody read for a while, for this side's own reasons: the PDU under way gets its time anew."""
        if self._pdu_deadline is not None and self.timeouts.pdu is not None:
            self._pdu_deadline = now + self.timeouts.pdu

    def _check_waits(self, now: float) -> None:
        if self._artim is not None and now >= self._artim:
            self._events.append(events.TimerExpired(self._artim_name))
            self._step(Event.ARTIM_EXPIRED)
        elif self._wait is not None and now >= self._wait:
            self._expire(self._wait_name, AbortSource.USER)

    def _expire(self, timer: str, source: int) -> None:
        self._events.append(events.TimerExpired(timer))
        self._step(Event.ABORT_REQUEST, pdu.Abort(source, AbortReason.NOT_SPECIFIED))

    def _start_artim(self, name: str = "closing") -> None:
        seconds: float | None = getattr(self.timeouts, name)
        self._artim = None if seconds is None else self._now + seconds
        self._artim_name = name
        self._pdu_deadline = None

    def _start_wait(self, name: str) -> None:
        seconds: float | None = getattr(self.timeouts, name)
        self._wait = None if seconds is None else self._now + seconds
        self._wait_name = name

    # --- the local user's primitives --------------------------------------------------------------------------------

    def associate(self, request: pdu.AssociateRq) -> None:
        """A-ASSOCIATE request (requestor): sent as soon as the transport is open."""
        if not self.requestor:
            raise LocalProtocolError("the acceptor of a connection does not request the association")
        if not (request.called_ae.strip() and request.calling_ae.strip()):
            raise LocalProtocolError("an AE title is blank (PS3.8 Table 9-11)")
        self._encode(request)
        self._step(Event.ASSOCIATE_REQUEST)
        self._announce(request.user)
        self.request = request

    def accept(self, answer: pdu.AssociateAc, now: float) -> None:
        """A-ASSOCIATE response: accepted."""
        self._now = now
        self._require(Event.ASSOCIATE_RESPONSE_ACCEPT)
        try:
            contexts = negotiation.accepted_contexts(cast("pdu.AssociateRq", self.request), answer)
        except InvalidPdu as error:
            raise LocalProtocolError(f"accept: {error}") from None
        encoded = self._encode(answer)
        self._announce(answer.user)
        self._negotiated(answer, contexts)
        self._step(Event.ASSOCIATE_RESPONSE_ACCEPT)
        self._output.append(encoded)

    def reject(self, result: int, source: int, reason: int, now: float) -> None:
        """A-ASSOCIATE response: rejected (PS3.8 Table 9-21)."""
        self._now = now
        self._require(Event.ASSOCIATE_RESPONSE_REJECT)
        encoded = self._encode(pdu.AssociateRj(result, source, reason))
        self._step(Event.ASSOCIATE_RESPONSE_REJECT)
        self._output.append(encoded)

    def send(self, buffers: Sequence[Buffer]) -> None:
        """P-DATA request: ``buffers`` are whole P-DATA-TF PDUs (``framer.batches``); they are not copied."""
        if self.state is not State.ESTABLISHED:
            self._step(Event.P_DATA_REQUEST)
        self._output += buffers

    def release(self, now: float) -> None:
        """A-RELEASE request."""
        self._now = now
        self._step(Event.RELEASE_REQUEST)

    def respond_release(self, now: float) -> None:
        """A-RELEASE response."""
        self._now = now
        self._step(Event.RELEASE_RESPONSE)

    def abort(self, now: float, source: int = AbortSource.USER, reason: int = AbortReason.NOT_SPECIFIED) -> None:
        """A-ABORT request."""
        self._now = now
        self._step(Event.ABORT_REQUEST, pdu.Abort(source, reason))

    def fail(self, detail: str, now: float) -> None:
        """The layer above found that the peer broke the protocol: as an invalid PDU (2/6), unless all is over."""
        self._now = now
        if self.state not in (State.IDLE, State.AWAITING_CLOSE):
            self._step(Event.INVALID_PDU, InvalidPdu(detail))

    def _announce(self, user: pdu.UserInformation) -> None:
        """What goes out in our A-ASSOCIATE PDU is what we receive (PS3.8 D.1); absent means unlimited."""
        self.max_length = self.framer.max_length = user.max_length or 0

    def can(self, event: Event) -> bool:
        """Whether Table 9-10 has a cell for ``event`` in the present state; an association that ended has none."""
        return (event, self.state) in TABLE and not self.close_wanted

    def _require(self, event: Event) -> None:
        if not self.can(event):
            raise LocalProtocolError(f"{event.name} is not possible in state {self.state.value} ({self.state.name})")

    def _encode(self, value: pdu.Pdu) -> bytes:
        try:
            if isinstance(value, pdu.AssociateRq | pdu.AssociateAc):
                negotiation.check_max_length(value.user.max_length or 0, self._most_p_data)
            encoded = pdu.encode(value)
            pdu.decode(encoded)  # what we would not take from a peer is not sent to one
            return encoded
        except (ValueError, OverflowError) as error:
            raise LocalProtocolError(f"{type(value).__name__} cannot be encoded: {error}") from error

    # --- the machine ------------------------------------------------------------------------------------------------

    def _step(self, event: Event, received: object = None, encoded: bytes = b"") -> None:
        self._require(event)
        action = TABLE[event, self.state]
        before, self.state = self.state, action.next[0]
        if before is not self.state:
            self._wait = None
        if perform := _PERFORM.get(action.name):
            perform(self, received, encoded, before)

    def _negotiated(self, answer: pdu.AssociateAc, contexts: dict[int, AcceptedContext]) -> None:
        request = cast("pdu.AssociateRq", self.request)
        self.answer = answer
        self.contexts = contexts
        peer = (answer if self.requestor else request).user
        self.peer_max_length = peer.max_length or 0
        self.fragment_length = fragment_length(self.peer_max_length)
        self.peer_implementation = peer.implementation_class_uid
        self.window = negotiation.window(request, answer)

    def _abort(self, source: int, reason: int) -> None:
        self._output.append(pdu.encode(pdu.Abort(source, reason)))
        self._start_artim()

    def _close(self) -> None:
        self._artim = None
        self._pdu_deadline = None
        self.close_wanted = True

    def _ae_2(self, received: object, encoded: bytes, before: State) -> None:
        self._output.append(pdu.encode(cast("pdu.AssociateRq", self.request)))
        self._start_wait("associate")

    def _ae_3(self, received: object, encoded: bytes, before: State) -> None:
        answer = cast("pdu.AssociateAc", received)
        try:
            contexts = negotiation.accepted_contexts(cast("pdu.AssociateRq", self.request), answer)
        except InvalidPdu as error:
            self._step(Event.INVALID_PDU, error)
            return
        self._negotiated(answer, contexts)
        self._events.append(events.AssociateAccepted(answer, encoded))

    def _ae_4(self, received: object, encoded: bytes, before: State) -> None:
        rejection = cast("pdu.AssociateRj", received)
        self._events.append(events.AssociateRejected(rejection.result, rejection.source, rejection.reason, encoded))
        self._close()

    def _ae_5(self, received: object, encoded: bytes, before: State) -> None:
        self._start_artim("artim")

    def _ae_6(self, received: object, encoded: bytes, before: State) -> None:
        request = cast("pdu.AssociateRq", received)
        self._artim = None
        if request.protocol_version & 1:  # Table 9-11: only bit 0 is tested
            self.request = request
            self._events.append(events.AssociateRequested(request, encoded))
            return
        self.state = State.AWAITING_CLOSE
        self._events.append(events.RequestRefused(1, 2, 2))
        self._reject(1, 2, 2)

    def _reject(self, result: int, source: int, reason: int) -> None:
        self._output.append(pdu.encode(pdu.AssociateRj(result, source, reason)))
        self._start_artim()

    def _ae_8(self, received: object, encoded: bytes, before: State) -> None:
        self._start_artim()

    def _ar_1(self, received: object, encoded: bytes, before: State) -> None:
        self._output.append(pdu.encode(pdu.ReleaseRq()))
        self._start_wait("release")

    def _ar_2(self, received: object, encoded: bytes, before: State) -> None:
        self._events.append(events.ReleaseRequested(False, encoded))

    def _ar_3(self, received: object, encoded: bytes, before: State) -> None:
        self._events.append(events.ReleaseConfirmed(encoded))
        self._close()

    def _ar_4(self, received: object, encoded: bytes, before: State) -> None:
        self._output.append(pdu.encode(pdu.ReleaseRp()))
        self._start_artim()

    def _ar_8(self, received: object, encoded: bytes, before: State) -> None:
        if not self.requestor:
            self.state = State.COLLISION_ACCEPTOR_PDU
        self._start_wait("release")  # a peer that collides and then never answers
        self._events.append(events.ReleaseRequested(True, encoded))

    def _ar_9(self, received: object, encoded: bytes, before: State) -> None:
        self._output.append(pdu.encode(pdu.ReleaseRp()))
        self._start_wait("release")

    def _ar_10(self, received: object, encoded: bytes, before: State) -> None:
        self._events.append(events.ReleaseConfirmed(encoded))

    def _aa_1(self, received: object, encoded: bytes, before: State) -> None:
        match received:
            case pdu.Abort(source, reason):  # the local user's
                self._abort(source, reason)
            case InvalidPdu(reason=reason) as error if reason != AbortReason.UNRECOGNISED_PDU:
                self._peer_failed(AbortSource.PROVIDER, reason, str(error), isinstance(error, InvalidLength))
            case _:  # before an association there is no more to say of it (Table 9-10, state 2)
                self._peer_failed(AbortSource.USER, 0, f"no A-ASSOCIATE-RQ: {received or 'P-DATA-TF'}")

    def _aa_2(self, received: object, encoded: bytes, before: State) -> None:
        self._close()

    def _aa_3(self, received: object, encoded: bytes, before: State) -> None:
        abort = cast("pdu.Abort", received)
        self._events.append(events.AbortReceived(abort.source, abort.reason, encoded))
        self._close()

    def _aa_4(self, received: object, encoded: bytes, before: State) -> None:
        self._events.append(events.TransportClosed())
        self._close()

    def _aa_8(self, received: object, encoded: bytes, before: State) -> None:
        if isinstance(received, InvalidPdu):
            self._peer_failed(AbortSource.PROVIDER, received.reason, str(received), isinstance(received, InvalidLength))
        else:
            name = PduType(encoded[0]).name if encoded else PduType.P_DATA_TF.name
            detail = f"{name} in state {before.value} ({before.name})"
            self._peer_failed(AbortSource.PROVIDER, AbortReason.UNEXPECTED_PDU, detail)

    def _aa_7(self, received: object, encoded: bytes, before: State) -> None:
        reason = received.reason if isinstance(received, InvalidPdu) else AbortReason.UNEXPECTED_PDU
        self._output.append(pdu.encode(pdu.Abort(AbortSource.PROVIDER, reason)))

    def _peer_failed(self, source: int, reason: int, detail: str, length: bool = False) -> None:
        self._events.append(events.PeerFailed(source, reason, detail, length))
        self._abort(source, reason)


# AE-1, AE-7, DT-1, DT-2, AR-6, AR-7 and AA-6 do nothing beyond their change of state.
_PERFORM: dict[str, Callable[[Association, object, bytes, State], None]] = {
    "AE-2": Association._ae_2,
    "AE-3": Association._ae_3,
    "AE-4": Association._ae_4,
    "AE-5": Association._ae_5,
    "AE-6": Association._ae_6,
    "AE-8": Association._ae_8,
    "AR-1": Association._ar_1,
    "AR-2": Association._ar_2,
    "AR-3": Association._ar_3,
    "AR-4": Association._ar_4,
    "AR-5": Association._aa_2,
    "AR-8": Association._ar_8,
    "AR-9": Association._ar_9,
    "AR-10": Association._ar_10,
    "AA-1": Association._aa_1,
    "AA-2": Association._aa_2,
    "AA-3": Association._aa_3,
    "AA-4": Association._aa_4,
    "AA-5": Association._aa_2,
    "AA-7": Association._aa_7,
    "AA-8": Association._aa_8,
}
