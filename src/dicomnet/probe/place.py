"""The host and the port: name, addresses, TCP, and what speaks there if it is not DICOM.

One idea: whoever waits for its own protocol either says something by itself, or answers to another's first words; so
the bytes that came back to an A-ASSOCIATE-RQ are looked at first, and then three short connections ask.
"""

from __future__ import annotations

import contextlib
import re
import ssl
import time
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


def identify(peer: Peer, timeouts: Timeouts, received: bytes) -> Speaks:
    """What speaks there; ``received``: what came back to an A-ASSOCIATE-RQ."""
    tried = ["an A-ASSOCIATE-RQ"]
    if received and (found := recognised(received)) is not None and found.protocol != "TLS":
        return Speaks(found.protocol, found.detail, tried=tuple(tried), data=found.data)
    tried.append("a TLS handshake")
    if (found := _try_tls(peer, timeouts)) is not None:
        return Speaks(found.protocol, found.detail, found.inside, tuple(tried), found.data)
    for question, name, seconds in ((b"", "waiting for a greeting", _GREETING), (_HTTP_QUESTION, "HTTP", _ANSWER)):
        tried.append(name)
        said = _ask(peer, timeouts, question, _at_most(timeouts, seconds))
        if said and (found := recognised(said)) is not None:
            return Speaks(found.protocol, found.detail, tried=tuple(tried), data=said)
        received = received or said
    return Speaks("unknown" if received else "nothing", tried=tuple(tried), data=received[:_HEARD])


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


def _try_tls(peer: Peer, timeouts: Timeouts) -> Speaks | None:
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
