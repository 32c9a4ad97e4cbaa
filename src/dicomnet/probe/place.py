"""The host and the port: name, addresses, TCP, and what speaks there if it is not DICOM.

One idea: whoever waits for its own protocol either says something by itself, or answers to another's first words; so
the bytes that came back to an A-ASSOCIATE-RQ are looked at first, and then three short connections ask.
"""

from __future__ import annotations

import contextlib
import re
import ssl
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from dicomnet import transport
from dicomnet.config import Peer, Timeouts
from dicomnet.errors import DeadlineExceeded, TransportError
from dicomnet.probe.causes import detail_of
from dicomnet.probe.report import Address, Reach, Speaks
from dicomnet.probe.security import anything_goes
from dicomnet.transport import Transport

_MOST_ADDRESSES: Final = 8  # of a host that are tried
_GREETING: Final = 1.5  # seconds in which a server says hello that says it first (SSH, SMTP, FTP do at once)
_ANSWER: Final = 3.0  # seconds for an answer to a question of one line
_HEARD: Final = 4096  # bytes that are listened to
_SHOWN: Final = 120  # characters of what a server says of itself
_HTTP_QUESTION: Final = b"HEAD / HTTP/1.0\r\n\r\n"

_REQUEST: Final = "an A-ASSOCIATE-RQ"  # what was asked, for people
_TLS: Final = "a TLS handshake"
_GREETS: Final = "waiting for a greeting"
_HTTP: Final = "HTTP"

# How the first bytes of a server begin that is none of DICOM, and what that means.
_BEGINNINGS: Final = (
    (rb"HTTP/\d", "HTTP"),
    (rb"SSH-\d", "SSH"),
    (rb"220[ -].*FTP", "FTP"),
    (rb"220[ -]", "SMTP"),
    (rb"\+OK", "POP3"),
    (rb"\* (OK|PREAUTH)", "IMAP"),
    (rb"RFB \d{3}\.", "VNC"),
    (rb"\x0b[A-Z]{3}", "HL7 (MLLP)"),
    (rb"\x03\x00\x00", "RDP"),
    (rb"[\x14-\x17]\x03[\x00-\x04]", "TLS"),
    (rb".\x00\x00[\x00\x01]\x0a", "MySQL"),
    (rb"(?i)\s*<(!doctype|html|\?xml)", "HTML or XML"),
)


def find(peer: Peer, timeouts: Timeouts) -> Reach:
    """The addresses of the host, and which of them take a connection."""
    began = time.monotonic()
    try:
        places = transport.resolve(peer.host, peer.port, timeouts.connect)
    except (TransportError, DeadlineExceeded) as error:
        return Reach((), time.monotonic() - began, str(error))
    looked_up = time.monotonic() - began
    hosts = list(dict.fromkeys(str(place[4][0]) for place in places))[:_MOST_ADDRESSES]
    return Reach(tuple(_connect(host, peer.port, timeouts) for host in hosts), looked_up)


def _connect(host: str, port: int, timeouts: Timeouts) -> Address:
    began = time.monotonic()
    try:
        sock = transport.connect(host, port, timeouts.connect)
    except (TransportError, DeadlineExceeded) as error:
        return Address(host, problem=detail_of(error))
    seconds = time.monotonic() - began
    sock.close()
    return Address(host, seconds)


def recognised(data: bytes) -> Speaks | None:
    """What these first bytes of a server belong to, if they are no PDU and well known."""
    for pattern, protocol in _BEGINNINGS:
        if re.match(pattern, data, re.DOTALL):
            return Speaks(protocol, _said(data, protocol), data=data[:_HEARD])
    if len(data) >= 4 and all(byte in b"\t\r\n" or 32 <= byte < 127 for byte in data[:64]):
        return Speaks("text", _said(data, "text"), data=data[:_HEARD])
    return None


def _said(data: bytes, protocol: str) -> str:
    """Its first line, and the Server line of HTTP."""
    if protocol == "TLS":
        return "a TLS alert" if data[0] == 0x15 else "TLS"
    lines = data.decode("latin-1").splitlines() or [""]
    server = next((line for line in lines if line.lower().startswith("server:")), "")
    return ", ".join(filter(None, (lines[0][:_SHOWN].strip(), server[:_SHOWN].strip())))


def identify(peer: Peer, timeouts: Timeouts, received: bytes, asked: Sequence[str] = ()) -> Speaks:
    """What speaks there; ``received``: what came back to an A-ASSOCIATE-RQ.

    ``asked``: what an ``Inquiry`` has asked in vain, while the peer had an association to think about. Who serves one
    connection after the other may answer HTTP only now.
    """
    tried = [_REQUEST, *asked]
    if received and (found := recognised(received)) is not None and found.protocol != "TLS":
        return replace(found, tried=tuple(tried))
    for name in (_HTTP,) if asked else (_TLS, _GREETS, _HTTP):
        if name not in tried:
            tried.append(name)
        found, said = _asked(name, peer, timeouts)
        if found is not None:
            return replace(found, tried=tuple(tried))
        received = received or said
    return Speaks("unknown" if received else "nothing", tried=tuple(tried), data=received[:_HEARD])


class Inquiry:
    """What speaks there, asked while an association gets no answer (``calls.Aside``).

    It does not wait for a greeting: that would have come on the association's connection as well.
    """

    def __init__(self, peer: Peer, timeouts: Timeouts) -> None:
        self._peer, self._timeouts = peer, timeouts
        self._thread: threading.Thread | None = None
        self.found: Speaks | None = None
        self.asked: list[str] = []

    def begin(self) -> None:
        """On a thread of its own."""
        self._thread = threading.Thread(target=self._run, name="dicomnet probe: inquiry", daemon=True)
        self._thread.start()

    @property
    def is_known(self) -> bool:
        return self.found is not None

    def end(self) -> None:
        """Wait for the answers; each has its limit."""
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        for name in (_HTTP, _TLS):
            self.asked.append(name)
            found, _ = _asked(name, self._peer, self._timeouts)
            if found is not None:
                self.found = replace(found, tried=(_REQUEST, *self.asked))
                return


def _asked(name: str, peer: Peer, timeouts: Timeouts) -> tuple[Speaks | None, bytes]:
    """What answers to the question of this name, if that is known, and what it said."""
    if name == _TLS:
        return within_tls(peer, timeouts), b""
    question, seconds = (_HTTP_QUESTION, _ANSWER) if name == _HTTP else (b"", _GREETING)
    said = _ask(peer, timeouts, question, _at_most(timeouts, seconds))
    return (replace(found, data=said) if said and (found := recognised(said)) is not None else None), said


def _at_most(timeouts: Timeouts, seconds: float) -> float:
    """Who gives less time for an association does not wait longer for what is none."""
    return seconds if timeouts.associate is None else min(seconds, timeouts.associate)


def _ask(peer: Peer, timeouts: Timeouts, question: bytes, seconds: float) -> bytes:
    """What it answers to ``question`` on a connection of its own."""
    with contextlib.suppress(TransportError, DeadlineExceeded, OSError):
        sock = transport.connect(peer.host, peer.port, timeouts.connect)
        return _conversed(Transport(sock), question, seconds)
    return b""


def _conversed(link: Transport, question: bytes, seconds: float) -> bytes:
    until, said = time.monotonic() + seconds, b""
    try:
        if question:
            link.send([question])
        while len(said) < _HEARD and (left := until - time.monotonic()) > 0:
            data = link.receive_within(left)
            if data is None:  # no time is left, or TLS has something for itself alone
                continue
            if not len(data):
                break
            said += bytes(data)
            if b"\n" in said and not question:
                break
    except OSError:
        pass  # what was said before counts
    finally:
        link.close()
    return said


def within_tls(peer: Peer, timeouts: Timeouts) -> Speaks | None:
    """Whether it takes a TLS handshake; and if so, whether it is HTTP that speaks within."""
    try:
        sock = transport.connect(peer.host, peer.port, timeouts.connect)
        link = transport.secure(
            sock, anything_goes(), _at_most(timeouts, _ANSWER), server_side=False, server_hostname=peer.host
        )
    except DeadlineExceeded:
        return None
    except TransportError as error:
        cause = error.__cause__
        if isinstance(cause, ssl.SSLError) and "_ALERT_" in (cause.reason or ""):
            return Speaks("TLS", f"it refused the handshake: {cause.reason}")
        return None
    info = link.tls_info
    detail = f"{info.version}, {info.cipher}"
    inside = recognised(_conversed(link, _HTTP_QUESTION, _at_most(timeouts, _ANSWER)))
    return Speaks("TLS", detail, "" if inside is None else f"{inside.protocol}: {inside.detail}")
