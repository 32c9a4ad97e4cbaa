"""One request for an association over a socket, with every byte that crosses it written down.

One idea: the upper layer is ``ul.Association``, as everywhere; this module only moves its bytes, keeps copies of them,
and says how it went as a value instead of an exception.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from dataclasses import dataclass, replace
from typing import Final, Protocol

from dicomnet import transport
from dicomnet.config import Peer, Timeouts
from dicomnet.errors import (
    AssociationAborted,
    AssociationRejected,
    DeadlineExceeded,
    DicomNetworkError,
    RemoteProtocolError,
    TransportError,
)
from dicomnet.probe.report import Attempt, Bytes
from dicomnet.transport import Transport
from dicomnet.ul import association as ul, events
from dicomnet.ul.pdu import AssociateRq

_KEPT: Final = 64 * 1024  # bytes of each direction; an A-ASSOCIATE-AC with 128 contexts takes 5 KiB
QUIET: Final = 3.0  # seconds without a byte after which others ask, beside, whether it speaks DICOM at all
_GLANCE: Final = 0.05  # seconds between two looks whether they know
_AFTERWARDS: Final = 0.3  # seconds for the rest of what is no DICOM: its first line is in one segment, mostly


class Aside(Protocol):
    """What is found out meanwhile, on other connections, while no answer comes."""

    def begin(self) -> None:
        """There has been none for ``QUIET`` seconds."""

    @property
    def is_known(self) -> bool:
        """There will be none: it speaks another protocol."""


class Recorder:
    """What crossed a connection, in order; of much, the first part."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._pieces: list[Bytes] = []
        self._room = {True: _KEPT, False: _KEPT}

    def note(self, sent: bool, data: bytes | bytearray | memoryview) -> None:
        kept = bytes(data[: self._room[sent]])
        self._room[sent] -= len(kept)
        if kept or not self._pieces or self._pieces[-1].sent is not sent:
            self._pieces.append(Bytes(sent, time.monotonic() - self._began, kept, len(data)))

    @property
    def pieces(self) -> tuple[Bytes, ...]:
        return tuple(self._pieces)


def failure_of(event: events.UlEvent, timeouts: Timeouts) -> DicomNetworkError | None:
    """The error that an event of the upper layer means for who waits for an answer, as the faces raise it."""
    match event:
        case events.AssociateRejected(result, source, reason):
            return AssociationRejected(result, source, reason)
        case events.AbortReceived(source, reason):
            return AssociationAborted(source, reason)
        case events.PeerFailed(_, _, detail):
            return RemoteProtocolError(detail)
        case events.TransportClosed():
            return TransportError("the peer closed the connection")
        case events.TimerExpired(timer):
            return DeadlineExceeded(timer, getattr(timeouts, timer))
    return None


@dataclass(frozen=True, slots=True)
class Caller:
    """Requests associations with ``peer``, one after the other. ``tls``: None for plain connections."""

    peer: Peer
    timeouts: Timeouts
    tls: ssl.SSLContext | None = None

    def call(self, request: AssociateRq, aside: Aside | None = None) -> Attempt:
        """Request an association; release it at once if it is accepted. Raises nothing that the network does.

        ``aside``: who may know sooner than the time limit that no answer will come.
        """
        attempt = Attempt(request, tls=self.tls is not None)
        began = time.monotonic()
        try:
            sock = transport.connect(self.peer.host, self.peer.port, self.timeouts.connect)
        except (TransportError, DeadlineExceeded) as error:
            return replace(attempt, error=error)
        connected = time.monotonic()
        attempt = replace(attempt, local=_address(sock), remote=_address(sock, peer=True), connected=connected - began)
        try:
            link = self._secured(sock)
        except (TransportError, DeadlineExceeded) as error:
            return replace(attempt, error=error)
        if self.tls is not None:
            attempt = replace(attempt, secured=time.monotonic() - connected)
        return _Exchange(link, request, self.timeouts, aside).run(attempt)

    def _secured(self, sock: socket.socket) -> Transport:
        if self.tls is None:
            return Transport(sock)
        return transport.secure(sock, self.tls, self.timeouts.tls, server_side=False, server_hostname=self.peer.host)


def _address(sock: socket.socket, *, peer: bool = False) -> str:
    with contextlib.suppress(OSError):
        host, port = (sock.getpeername() if peer else sock.getsockname())[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return ""


class _Exchange:
    """One association from its request to its release, over a connection that it closes."""

    def __init__(self, link: Transport, request: AssociateRq, timeouts: Timeouts, aside: Aside | None = None) -> None:
        self._link, self._request, self._timeouts = link, request, timeouts
        self._aside = aside
        self._asks_aside = False
        self._recorder = Recorder()
        self._machine = ul.Association(requestor=True, timeouts=timeouts)

    def run(self, attempt: Attempt) -> Attempt:
        began = time.monotonic()
        machine = self._machine
        try:
            machine.associate(self._request)
            machine.transport_opened(began)
            error = self._until_answered()
            answered = time.monotonic() - began
            if error is None:
                self._release()
            elif isinstance(error, RemoteProtocolError):
                self._hear_out()
        except OSError as broken:
            answered = time.monotonic() - began
            error = TransportError(f"the connection broke: {broken}")
            error.__cause__ = self._last_words() or broken
        finally:
            self._link.close()
        return replace(attempt, answered=answered, answer=machine.answer, error=error, exchanged=self._recorder.pieces)

    def _until_answered(self) -> DicomNetworkError | None:
        self._quiet_at = time.monotonic() + QUIET
        while True:
            events_now = self._step()
            if self._aside is not None and self._asks_aside and self._aside.is_known:
                return RemoteProtocolError(f"nothing in {QUIET:.0f} s, and another protocol is spoken there")
            for event in events_now:
                if isinstance(event, events.AssociateAccepted):
                    return None
                if (error := failure_of(event, self._timeouts)) is not None:
                    self._flush()  # our A-ABORT, if there is one
                    return error

    def _release(self) -> None:
        """In good manners; that the peer has none here is told by others."""
        self._machine.release(time.monotonic())
        while not self._machine.close_wanted:
            self._step()

    def _step(self) -> list[events.UlEvent]:
        """Write what there is, take in what comes, look at the clock."""
        machine = self._machine
        self._flush()
        if machine.close_wanted:
            return machine.events()
        deadline = machine.deadline
        data = self._link.receive_within(self._patience(deadline))
        now = time.monotonic()
        if data is None:
            if deadline is not None and now >= deadline:
                machine.handle_timer(now)
            elif self._aside is not None and not self._asks_aside and now >= self._quiet_at:
                self._asks_aside = True
                self._aside.begin()
        elif len(data):
            self._aside = None
            self._recorder.note(False, data)
            machine.receive_data(data, now)
        else:
            machine.receive_eof(now)
        return machine.events()

    def _patience(self, deadline: float | None) -> float | None:
        """Seconds to wait for something to come; None: for ever."""
        now = time.monotonic()
        left = None if deadline is None else max(deadline - now, 0.0)
        if self._aside is None:
            return left
        soon = _GLANCE if self._asks_aside else max(self._quiet_at - now, 0.0)
        return soon if left is None else min(soon, left)

    def _flush(self) -> None:
        buffers = self._machine.data_to_send()
        for buffer in buffers:
            self._recorder.note(True, buffer)
        left = self._link.send(buffers)
        until = None if self._timeouts.send is None else time.monotonic() + self._timeouts.send
        while left:
            if not self._link.wait_writable(None if until is None else until - time.monotonic()):
                raise TimeoutError("the peer takes nothing in")
            left = self._link.send(left)

    def _last_words(self) -> OSError | None:
        """Why it broke, if the peer has said it: a TLS alert waits behind what could not be written any more."""
        try:
            self._link.receive_within(_AFTERWARDS)
        except ssl.SSLError as error:
            return error
        except OSError:  # it has nothing to say; why the connection broke is known
            pass
        return None

    def _hear_out(self) -> None:
        """What else it says that is no DICOM."""
        until = time.monotonic() + _AFTERWARDS
        with contextlib.suppress(OSError):
            while data := self._link.receive_within(max(until - time.monotonic(), 0.001)):
                self._recorder.note(False, data)
                if time.monotonic() > until:
                    break
