"""Tests as dialogues: one association under test and a peer that is played by the test; or two associations in memory.

``receives`` is what the peer says, ``sends`` what it must hear (exactly that, since last asked), ``tells`` what the
local user must be told (exactly that, too). Time passes only by ``waits``.
"""

from __future__ import annotations

import dataclasses
from typing import Self, TypeVar

from dicomnet.config import MAX_PDU_LENGTH, Limits, Timeouts
from dicomnet.ul import events, pdu
from dicomnet.ul.association import Association
from dicomnet.ul.framer import Framer
from dicomnet.ul.fsm import State

VERIFICATION = "1.2.840.10008.1.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"

USER = pdu.UserInformation(max_length=MAX_PDU_LENGTH, implementation_class_uid="1.2.3")
RQ = pdu.AssociateRq("CALLED", "CALLING", (pdu.ProposedContext(1, VERIFICATION, (IMPLICIT,)),), USER)
AC = pdu.AssociateAc("CALLED", "CALLING", (pdu.AnsweredContext(1, 0, IMPLICIT),), USER)
RJ = pdu.AssociateRj(1, 1, 1)
P_DATA = pdu.PDataTf((pdu.Pdv(1, True, True, b"echo"),))
RELEASE_RQ = pdu.ReleaseRq()
RELEASE_RP = pdu.ReleaseRp()
ABORT = pdu.Abort(0, 0)

REQUESTED = events.AssociateRequested(RQ, pdu.encode(RQ))
ACCEPTED = events.AssociateAccepted(AC, pdu.encode(AC))
REJECTED = events.AssociateRejected(1, 1, 1, pdu.encode(RJ))
DATA = events.Fragment(1, 1, True, memoryview(b"echo"))
RELEASE_REQUESTED = events.ReleaseRequested(False, pdu.encode(RELEASE_RQ))
RELEASE_COLLIDED = events.ReleaseRequested(True, pdu.encode(RELEASE_RQ))
RELEASE_CONFIRMED = events.ReleaseConfirmed(pdu.encode(RELEASE_RP))
ABORTED = events.AbortReceived(0, 0, pdu.encode(ABORT))


Associate = TypeVar("Associate", pdu.AssociateRq, pdu.AssociateAc)


class Failed:
    """Equal to a ``PeerFailed`` of this source and reason (and ``length``, if given), whatever its words."""

    def __init__(self, source: int, reason: int, length: bool | None = None) -> None:
        self.told = (source, reason)
        self.length = length

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, events.PeerFailed) or self.length not in (None, other.length):
            return False
        return (other.source, other.reason) == self.told and other.detail != ""

    def __repr__(self) -> str:
        return "Failed({}, {}, {})".format(*self.told, self.length)


class Dialogue:
    """An association under test. Its own verbs are at ``association``; the clock is ``now``, in seconds."""

    def __init__(self, role: str, *, max_length: int = MAX_PDU_LENGTH, **options: Timeouts | Limits) -> None:
        self.association = Association(requestor=role == "requestor", max_length=max_length, **options)
        self.now = 1000.0

    # --- what happens to it -----------------------------------------------------------------------------------------

    def opens(self) -> Self:
        self.association.transport_opened(self.now)
        return self

    def receives(self, *sent: pdu.Pdu | bytes) -> Self:
        """In one segment."""
        data = b"".join(part if isinstance(part, bytes) else pdu.encode(part) for part in sent)
        self.association.receive_data(data, self.now)
        return self

    def loses_its_peer(self) -> Self:
        self.association.receive_eof(self.now)
        return self

    def waits(self, seconds: float) -> Self:
        """Time passes; the timer is handled when it is due, and only then."""
        end = self.now + seconds
        while (due := self.association.deadline) is not None and due <= end:
            self.now = max(self.now, due)
            self.association.handle_timer(self.now)
        self.now = end
        self.association.handle_timer(end)  # too early for whatever is left: must do nothing
        return self

    # --- what its own user does -------------------------------------------------------------------------------------

    def associates(self, request: pdu.AssociateRq = RQ) -> Self:
        self.association.associate(request)
        return self

    def accepts(self, answer: pdu.AssociateAc = AC) -> Self:
        self.association.accept(answer, self.now)
        return self

    def rejects(self, result: int = 1, source: int = 1, reason: int = 1) -> Self:
        self.association.reject(result, source, reason, self.now)
        return self

    def releases(self) -> Self:
        self.association.release(self.now)
        return self

    def responds_to_release(self) -> Self:
        self.association.respond_release(self.now)
        return self

    def aborts(self) -> Self:
        self.association.abort(self.now)
        return self

    # --- what must come of it ---------------------------------------------------------------------------------------

    def sends(self, *expected: pdu.Pdu) -> Self:
        assert self.sent() == list(expected)
        return self

    def sent(self) -> list[pdu.Pdu]:
        return pdus_in(b"".join(self.association.data_to_send()))

    def tells(self, *expected: object) -> Self:
        assert self.association.events() == list(expected)
        return self

    def keeps_quiet(self) -> Self:
        return self.sends().tells()

    def is_in(self, state: int) -> Self:
        assert self.association.state is State(state)
        return self

    def stays_open(self) -> Self:
        assert not self.association.close_wanted
        return self

    def closes(self) -> Self:
        assert self.association.close_wanted
        assert self.association.deadline is None
        return self.is_in(1)

    def after(self) -> Self:
        """Forget what has been sent and told so far."""
        self.association.data_to_send()
        self.association.events()
        return self


def pdus_in(data: bytes) -> list[pdu.Pdu]:
    """Whole PDUs in a row."""
    found = []
    while data:
        length = 6 + int.from_bytes(data[2:6], "big")
        found.append(pdu.decode(data[:length]))
        data = data[length:]
    return found


def acceptor(**options: object) -> Dialogue:
    """State 1, one that will be connected to."""
    return Dialogue("acceptor", **options)


def requestor(**options: object) -> Dialogue:
    """State 1, one that will connect."""
    return Dialogue("requestor", **options)


def connected(**options: object) -> Dialogue:
    """An acceptor in state 2: somebody connected and has said nothing yet."""
    return acceptor(**options).opens()


def requesting(request: pdu.AssociateRq = RQ, **options: object) -> Dialogue:
    """A requestor in state 5: it has sent its request."""
    return requestor(**options).associates(request).opens().after()


def established(role: str, *, max_length: int | None = MAX_PDU_LENGTH, **options: object) -> Dialogue:
    """Either, in state 6, having announced ``max_length``."""
    if role == "requestor":
        return requesting(announcing(RQ, max_length), **options).receives(AC).after()
    return connected(**options).receives(RQ).accepts(announcing(AC, max_length)).after()


def announcing(value: Associate, max_length: int | None) -> Associate:
    return dataclasses.replace(value, user=dataclasses.replace(value.user, max_length=max_length))


# How each state is reached, by the roles that can be in it.
PATHS = {
    ("requestor", 1): requestor,
    ("requestor", 4): lambda **options: requestor(**options).associates(),
    ("requestor", 5): requesting,
    ("requestor", 6): lambda **options: established("requestor", **options),
    ("requestor", 7): lambda **options: established("requestor", **options).releases(),
    ("requestor", 8): lambda **options: established("requestor", **options).receives(RELEASE_RQ),
    ("requestor", 9): lambda **options: established("requestor", **options).releases().receives(RELEASE_RQ),
    ("requestor", 11): lambda **options: in_state("requestor", 9, **options).responds_to_release(),
    ("requestor", 13): lambda **options: established("requestor", **options).aborts(),
    ("acceptor", 1): acceptor,
    ("acceptor", 2): connected,
    ("acceptor", 3): lambda **options: connected(**options).receives(RQ),
    ("acceptor", 6): lambda **options: established("acceptor", **options),
    ("acceptor", 7): lambda **options: established("acceptor", **options).releases(),
    ("acceptor", 8): lambda **options: established("acceptor", **options).receives(RELEASE_RQ),
    ("acceptor", 10): lambda **options: established("acceptor", **options).releases().receives(RELEASE_RQ),
    ("acceptor", 12): lambda **options: in_state("acceptor", 10, **options).receives(RELEASE_RP),
    ("acceptor", 13): lambda **options: established("acceptor", **options).aborts(),
}


def in_state(role: str, state: int, **options: object) -> Dialogue:
    """An association that has come to ``state`` by an honest path, with nothing left to send or to tell."""
    return PATHS[role, state](**options).after().is_in(state)


class Pair:
    """A requestor and an acceptor, joined in memory. Each has its ``Dialogue``; ``flows`` carries the bytes."""

    def __init__(self, request: pdu.AssociateRq = RQ, **options: object) -> None:
        self.requestor = requestor(**options).associates(request)
        self.acceptor = acceptor(**options)
        self.requestor.opens()
        self.acceptor.opens()

    def flows(self) -> Self:
        """Bytes go to and fro until there are none left; who wants to close does, and the other one sees it."""
        moved = True
        while moved:
            moved = False
            for one, other in ((self.requestor, self.acceptor), (self.acceptor, self.requestor)):
                if data := b"".join(one.association.data_to_send()):
                    other.receives(data)
                    moved = True
                if one.association.close_wanted and other.association.state is not State.IDLE:
                    other.loses_its_peer()
                    moved = True
        return self

    def is_established(self) -> Self:
        self.flows()
        self.acceptor.accepts()
        self.flows()
        for side in (self.requestor, self.acceptor):
            side.after().is_in(6)
        return self


def merged(happened: list[events.UlEvent]) -> list[object]:
    """``happened`` with the pieces of each fragment joined: the same whatever the segments were."""
    joined: list[object] = []
    for event in happened:
        before = joined[-1] if joined else None
        if not isinstance(event, events.Fragment):
            joined.append(event)
        elif isinstance(before, events.Fragment) and not before.is_last and before[:2] == event[:2]:
            joined[-1] = events.Fragment(*event[:2], event.is_last, before.data + bytes(event.data))
        else:
            joined.append(event._replace(data=bytes(event.data)))
    return joined


def framed(max_length: int, chunks: list[bytes], limits: Limits | None = None) -> list[object]:
    """What a framer makes of ``chunks``, with the pieces of each fragment joined and errors as their reasons."""
    framer = Framer(max_length, limits or Limits())
    frames = []
    for chunk in chunks:
        frames += merged(framer.receive(chunk))  # copies: views are valid until the next call
    return [frame if isinstance(frame, bytes | events.Fragment) else frame.reason for frame in merged(frames)]
