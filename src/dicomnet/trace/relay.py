"""One connection through the proxy: bytes in at one side, the same bytes out at the other.

One idea: one thread and no buffer of its own. It reads from a side when what it read before has gone out at the other,
so that the ends feel each other's pace as they would without it; the end of a direction, and a reset, are passed on as
what they are.
"""

from __future__ import annotations

import contextlib
import math
import select
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from dicomnet.trace.decoding import Decoder
from dicomnet.trace.records import Record
from dicomnet.transport import Buffer, Transport

Ending = tuple["bool | None", Literal["closed", "reset"]]  # whose end (True: the requestor's), and how

_LINGER: Final = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)  # with these, close() resets
_LOOK: Final = 1.0  # seconds between two looks at a side that is not read, where nothing tells of its end
_CLOSED: Final[int] = getattr(select, "POLLRDHUP", 0)  # Linux: the other end has closed, whatever is unread before that
_LAST_WORDS: Final = 64  # reads of what a side has said before it closed: some megabytes at the most
_DONT_WAIT: Final[int] = getattr(socket, "MSG_DONTWAIT", 0)  # without it, sockets do not block anyway


class Tap(Protocol):
    """Who sees the bytes of a connection as they pass: a capture file."""

    def data(self, from_requestor: bool, data: Buffer, when: float) -> None:
        """These bytes."""

    def end(self, from_requestor: bool, when: float) -> None:
        """The end of a direction."""

    def reset(self, from_requestor: bool, when: float) -> None:
        """The end of both."""


@dataclass(frozen=True, slots=True)
class Act:
    """Something to do in a direction, when all before it is done.

    ``data``: to send; ``hidden``: only the capture file gets it. ``wait``: seconds before what follows. ``how``: to end
    the whole connection with.
    """

    from_requestor: bool
    data: bytes = b""
    hidden: bool = False
    wait: float = 0.0
    how: Literal["closed", "reset"] | None = None


class Step(Protocol):
    """What becomes of bytes by the rules of the user (``faults.Injector``)."""

    def take(self, from_requestor: bool, data: memoryview, when: float) -> Sequence[Act]:
        """What to do now that ``data`` has come."""

    def end(self, from_requestor: bool) -> Sequence[Act]:
        """The same, now that a direction has ended."""


class _Flow:
    """One direction."""

    def __init__(self, source: Transport, target: Transport, from_requestor: bool) -> None:
        self.source, self.target, self.from_requestor = source, target, from_requestor
        self.left: Sequence[Buffer] = ()  # what has not gone out yet
        self.acts: deque[Act] = deque()  # what is to be done after that
        self.until = 0.0  # monotonic: nothing goes on before
        self.ended = False  # the source has
        self.shut = False  # the target knows

    @property
    def is_idle(self) -> bool:
        """All that came has gone out, and nothing forbids to read on."""
        return not self.left and not self.acts and time.monotonic() >= self.until

    @property
    def is_stalled(self) -> bool:
        """Nothing goes on any more."""
        return self.until == math.inf and not self.left


class _Broken(Exception):
    def __init__(self, from_requestor: bool) -> None:
        super().__init__(from_requestor)
        self.from_requestor = from_requestor


class Relay:
    """Forwards between two connections until both directions have ended.

    ``put`` takes the records. ``wake``: becomes readable when everything is to end. ``idle``: seconds without a byte
    after which the connection is ended, or None. ``step`` decides what goes on, and then it is its task to ``put``.
    """

    def __init__(
        self,
        requestor: Transport,
        acceptor: Transport,
        decoder: Decoder,
        put: Callable[[list[Record]], None],
        *,
        wake: socket.socket,
        tap: Tap | None = None,
        step: Step | None = None,
        idle: float | None = None,
    ) -> None:
        self._flows = (_Flow(acceptor, requestor, False), _Flow(requestor, acceptor, True))
        self._decoder, self._put, self._tap, self._step = decoder, put, tap, step
        self._wake = wake
        self._idle = math.inf if idle is None else idle
        self._moved = time.monotonic()
        self._first: bool | None = None  # whose direction ended first

    def run(self) -> Ending:
        """Forward all there is. Returns who ended the connection, None if it was the proxy, and how."""
        try:
            while True:
                for flow in self._flows:
                    if (how := self._move(flow)) is not None:
                        return self._stop(how)
                if any(flow.shut for flow in self._flows) and all(flow.shut or flow.is_stalled for flow in self._flows):
                    return self._stop("closed", self._first)
                if not self._wait():
                    return self._stop("closed")
                self._look()
                for flow in self._flows:
                    if flow.is_stalled and not flow.ended and _has_closed(flow.source.socket):
                        self._hear_out(flow)
                        return self._stop("closed", flow.from_requestor)
        except _Broken as broken:
            return self._reset(broken.from_requestor)

    # --- moving -----------------------------------------------------------------------------------------------------

    def _move(self, flow: _Flow) -> Literal["closed", "reset"] | None:
        self._send(flow)
        how = self._act(flow)
        if how is None and not flow.ended and flow.is_idle:
            self._read(flow)
            how = self._act(flow)
        if how is None and flow.ended and not flow.shut and flow.is_idle:
            flow.shut = True
            flow.target.half_close()
            if self._tap is not None:
                self._tap.end(flow.from_requestor, time.time())
        return how

    def _read(self, flow: _Flow) -> None:
        try:
            data = flow.source.receive()
        except OSError as error:
            raise _Broken(flow.from_requestor) from error
        if data is None:
            return
        now = time.time()
        self._moved = time.monotonic()
        if not data:
            flow.ended = True
            if self._first is None:
                self._first = flow.from_requestor
            self._plan(() if self._step is None else self._step.end(flow.from_requestor))
            return
        flow.source.acknowledge()
        if self._step is not None:
            self._plan(self._step.take(flow.from_requestor, data, now))
            return
        flow.left = (data,)
        self._send(flow)  # first on its way, then looked at
        self._put(self._decoder.feed(flow.from_requestor, data, now))
        if self._tap is not None:
            self._tap.data(flow.from_requestor, data, now)

    def _send(self, flow: _Flow) -> None:
        if not flow.left:
            return
        try:
            left = flow.target.send(flow.left)
        except OSError as error:
            raise _Broken(not flow.from_requestor) from error
        if left is not flow.left:
            self._moved = time.monotonic()
        flow.left = left

    def _plan(self, acts: Sequence[Act]) -> None:
        for act in acts:
            self._flows[act.from_requestor].acts.append(act)

    def _act(self, flow: _Flow) -> Literal["closed", "reset"] | None:
        while flow.acts and not flow.left and time.monotonic() >= flow.until:
            act = flow.acts.popleft()
            if act.how is not None:
                return act.how
            if act.wait:
                flow.until = time.monotonic() + act.wait
            if act.data and self._tap is not None:
                self._tap.data(flow.from_requestor, act.data, time.time())
            if act.data and not act.hidden:
                flow.left = (act.data,)
                self._send(flow)
        return None

    # --- waiting ----------------------------------------------------------------------------------------------------

    def _wait(self) -> bool:
        """Until something can go on; False if it is to end: by the user, or because nothing has moved for too long."""
        now = time.monotonic()
        read, write, watch, stalled = [self._wake], [], [], []
        until = self._moved + self._idle
        for flow, back in (self._flows, self._flows[::-1]):
            if flow.left:
                write.append(flow.target.socket)
            elif now < flow.until:
                until = min(until, flow.until)
            elif flow.acts:
                until = now
            elif not flow.ended:
                read.append(flow.source.socket)
            if not (flow.ended or back.shut):
                watch.append(flow.source.socket)
            if flow.is_stalled and not flow.ended:
                stalled.append(flow.source.socket)
                until = until if _CLOSED else min(until, now + _LOOK)
        if _until_ready(read, write, watch, stalled, until - now, self._wake):
            return False
        return time.monotonic() < self._moved + self._idle

    def _look(self) -> None:
        """A side that is not read now may have been reset all the same."""
        for flow in self._flows:
            if not flow.ended and not flow.is_idle:
                code = flow.source.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if code:
                    raise _Broken(flow.from_requestor)

    # --- ending -----------------------------------------------------------------------------------------------------

    def _hear_out(self, flow: _Flow) -> None:
        """What a side that is held back for ever has said before it closed is recorded, though it goes nowhere."""
        if self._step is not None:
            self._step.end(flow.from_requestor)
        with contextlib.suppress(OSError):
            for _ in range(_LAST_WORDS):
                if not (data := flow.source.receive()):
                    break
                self._put(self._decoder.feed(flow.from_requestor, data, time.time()))

    def _stop(self, how: Literal["closed", "reset"], who: bool | None = None) -> Ending:
        if how == "reset":
            return self._reset(None)
        for flow in self._flows:
            if not flow.shut:
                flow.target.half_close()
                if self._tap is not None:
                    self._tap.end(flow.from_requestor, time.time())
        return who, how

    def _reset(self, from_requestor: bool | None) -> Ending:
        if self._tap is not None:
            self._tap.reset(bool(from_requestor), time.time())
        for flow in self._flows:
            reset(flow.source)
        return from_requestor, "reset"


def _until_ready(
    read: list[socket.socket],
    write: list[socket.socket],
    watch: list[socket.socket],
    stalled: list[socket.socket],
    seconds: float,
    wake: socket.socket,
) -> bool:
    """Until one can be read or written, one of ``watch`` has broken, or the other end of one of ``stalled`` has closed.

    Returns whether ``wake`` is readable.
    """
    if not hasattr(select, "poll"):
        ready, _, _ = select.select(read, write, write, max(0.0, min(seconds, _LOOK)))
        return wake in ready
    poll = select.poll()
    for sock in {*read, *write, *watch, *stalled}:
        events = (select.POLLIN if sock in read else 0) | (select.POLLOUT if sock in write else 0)
        poll.register(sock, events | (_CLOSED if sock in stalled else 0))
    ready_now = poll.poll(None if seconds == math.inf else max(0.0, seconds) * 1000 + 0.999)
    return any(descriptor == wake.fileno() for descriptor, _ in ready_now)


def _has_closed(sock: socket.socket) -> bool:
    """Whether its other end sends no more; where the system does not tell, only if nothing before that is unread."""
    if _CLOSED:
        poll = select.poll()
        poll.register(sock, _CLOSED)
        return bool(poll.poll(0))
    try:
        return not sock.recv(1, socket.MSG_PEEK | _DONT_WAIT)
    except OSError:  # nothing there, or broken: _look() tells
        return False


def reset(transport: Transport) -> None:
    """Close it so that the other end sees a reset."""
    with contextlib.suppress(OSError):  # gone already
        transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
    transport.close()
