"""Why there is no association, or no answer: the one place where causes are told, in a line and at length.

One idea: an error has a ``Kind``, and each kind one ``Cause``: the line that every command prints, what is likely
behind it, and what to try. The commands' lines and the page of ``probe`` come from the same entry.
"""

from __future__ import annotations

import errno
import socket
import ssl
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from dicomnet.config import Peer
from dicomnet.errors import (
    AssociationAborted,
    AssociationRejected,
    DeadlineExceeded,
    NoAcceptedContext,
    RemoteProtocolError,
    TransportError,
)


class Kind(StrEnum):
    """What went wrong."""

    UNKNOWN_HOST = "unknown-host"
    NO_ROUTE = "no-route"
    NO_CONNECTION = "no-connection"
    REFUSED = "refused"
    CLOSED = "closed"
    BROKEN = "broken"
    SILENT = "silent"
    NOT_DICOM = "not-dicom"
    OTHER_PROTOCOL = "other-protocol"
    WANTS_TLS = "wants-tls"
    NO_TLS = "no-tls"
    TLS_FAILED = "tls-failed"
    TLS_SILENT = "tls-silent"
    UNTRUSTED = "untrusted"
    OTHER_HOST = "other-host"
    WANTS_CERTIFICATE = "wants-certificate"
    CALLING_REJECTED = "calling-rejected"
    CALLED_REJECTED = "called-rejected"
    VERSION_REJECTED = "version-rejected"
    APPLICATION_REJECTED = "application-rejected"
    BUSY = "busy"
    FULL = "full"
    REJECTED = "rejected"
    WANTS_IDENTITY = "wants-identity"
    ABORTED = "aborted"
    NO_CONTEXT = "no-context"
    LATE = "late"
    LOST = "lost"
    ECHO_FAILED = "echo-failed"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Cause:
    """``line``: what to do about it, for one line. ``why``: one sentence for the page. ``likely``: the first one first.

    ``steps``: (what, command). All may hold the fields of ``fields_of``.
    """

    line: str
    why: str
    likely: tuple[str, ...] = ()
    steps: tuple[tuple[str, str], ...] = ()


_PEER_LOG: Final = ("look into the log of {host} for the time above", "")
_PROBE: Final = "dicomnet probe {peer} {options}"
_REACHABLE: Final = ("is the host there at all?", "ping {host}")
TRY_TLS: Final = ("see whether it wants TLS", _PROBE + " --tls")  # no advice for who asked through TLS
_PORT: Final = ("ask its administrator for the DICOM port (104, 11112 and 4242 are common) and try that", "")

CAUSES: Final[dict[Kind, Cause]] = {
    Kind.UNKNOWN_HOST: Cause(
        "the host {host!r} is not known; check how it is spelt, or give its address",
        "No computer has the name {host!r}, as far as this computer can find out. Nothing was sent.",
        (
            "the name is misspelt, or lacks its domain ({host} instead of {host}.hospital.example)",
            "this computer asks a DNS server that does not know the names of that network (VPN, guest network)",
            "the computer has been renamed or taken out of service",
        ),
        (
            ("look the name up by itself", "nslookup {host}"),
            ("use its address instead", "dicomnet probe {title}@ADDRESS:{port}"),
        ),
    ),
    Kind.NO_ROUTE: Cause(
        "there is no way to host {host}; check the address and the network",
        "This computer has no way to {host}: the network says that it cannot be reached. Nothing was sent.",
        (
            "the address is of another network than this one can reach (VPN not connected, wrong VLAN)",
            "the host is switched off",
            "a router or firewall on the way refuses",
        ),
        (_REACHABLE, ("see how far packets get", "traceroute {host}")),
    ),
    Kind.NO_CONNECTION: Cause(
        "check host and port, and whether a firewall drops the connection",
        "{host} port {port} did not answer the attempt to connect at all: neither yes nor no. Nothing was sent.",
        (
            "a firewall on the way, or on {host} itself, drops connections to port {port} without a word",
            "the address is wrong, or the host is switched off",
            "the network is very slow",
        ),
        (
            _REACHABLE,
            ("ask whoever runs the firewall to let this computer connect to {host} port {port} (TCP)", ""),
            ("wait longer", _PROBE + " --timeout connect=30"),
        ),
    ),
    Kind.REFUSED: Cause(
        "nothing listens there; is the peer running, and are host {host} and port {port} right?",
        "{host} is there, but no program listens on port {port}: it refused the connection. Nothing was sent.",
        (
            "the DICOM program is not running on {host}",
            "it listens on another port than {port}",
            "it listens only on another address of that computer{elsewhere}",
            "a firewall answers in its place and refuses",
        ),
        (
            ("have the DICOM program started, or see on {host} whether it listens", "ss -ltn"),
            _PORT,
        ),
    ),
    Kind.CLOSED: Cause(
        "it closed the connection without an answer; check that it is a DICOM port, and whether it wants --tls",
        "Something accepts connections on port {port}, but closed this one without an answer to the request.",
        (
            "the peer takes connections only from addresses that it knows, and {local} is not among them",
            "the port is not for DICOM{or_tls}",
            "it has no room for another connection, or is just starting or stopping",
            "a load balancer or firewall accepts in place of a DICOM program that is down",
        ),
        (
            ("have this computer's address, {local}, added to those that the peer allows", ""),
            _PEER_LOG,
            TRY_TLS,
        ),
    ),
    Kind.BROKEN: Cause(
        "{detail}; check that this is a DICOM port, and whether it wants --tls",
        "The connection broke before there was an answer to the request: {detail}.",
        (
            "the port is not for DICOM{or_tls}",
            "the peer takes connections only from addresses that it knows, and {local} is not among them",
            "the program on the other side crashed",
            "a firewall cuts what it does not know",
        ),
        (TRY_TLS, _PEER_LOG),
    ),
    Kind.SILENT: Cause(
        "something listens there but does not answer; check that it is a DICOM port, and whether it wants --tls",
        "Something accepts connections on port {port} and then says nothing, whatever it is asked.",
        (
            "the DICOM program hangs, or is overloaded: the system still accepts connections for it",
            "the port belongs to another program, which waits for something else than DICOM",
            "a firewall lets the connection through and holds back what follows",
            "the peer looks up {local} in the DNS before it answers, and waits for that",
        ),
        (
            _PEER_LOG,
            ("restart the DICOM program on {host}", ""),
            _PORT,
            ("wait longer", _PROBE + " --timeout associate=60"),
        ),
    ),
    Kind.NOT_DICOM: Cause(
        "{detail}; check the port, and whether it wants --tls",
        "What answers on port {port} does not answer as DICOM does: {detail}.",
        (
            "the port belongs to another program",
            "it is a DICOM program with a defect",
            "something between here and there (proxy, firewall) changes what passes",
        ),
        (_PORT, _PEER_LOG),
    ),
    Kind.OTHER_PROTOCOL: Cause(
        "{detail}; check the port, and whether it wants --tls",
        "Port {port} is not a DICOM port: {detail}.",
        (
            "the port number is wrong: {hint}",
            "the DICOM program on {host} is set to another port",
        ),
        (_PORT,),
    ),
    Kind.WANTS_TLS: Cause(
        "it wants TLS; add --tls, and --tls-ca FILE if its certificate is from your own authority",
        "The peer talks TLS on port {port}, and was asked without. It would work only with TLS.",
        ("the port is the peer's secure one (2762 is the usual), and this side was not told so",),
        (
            ("ask through TLS", "dicomnet probe {peer} --tls"),
            ("if its certificate comes from your own authority", "dicomnet probe {peer} --tls-ca hospital-ca.pem"),
            ("or use its port without TLS, if it has one", "dicomnet probe {title}@{host}:PORT"),
        ),
    ),
    Kind.NO_TLS: Cause(
        "TLS failed: {detail}; check that this port talks TLS, and which certificates it wants",
        "The peer does not talk TLS on port {port}, and was asked to. It answers plain DICOM there.",
        ("the port is for connections without TLS; the secure one is another (2762 is the usual)",),
        (
            ("ask without TLS (everybody on the way can read what passes)", "dicomnet probe {peer}"),
            ("or ask its administrator for the port with TLS", ""),
        ),
    ),
    Kind.TLS_FAILED: Cause(
        "TLS failed: {detail}; check that this port talks TLS, and which certificates it wants",
        "The two sides found no way to talk TLS with each other: {detail}.",
        (
            "the port does not talk TLS",
            "the peer has only old TLS versions or cipher suites, which this side does not use",
            "the peer wants a certificate of this side",
        ),
        (
            ("ask without TLS", "dicomnet probe {peer}"),
            ("accept what the older profile allows", "dicomnet probe {peer} --tls-profile bcp195"),
            ("show a certificate", "dicomnet probe {peer} --tls-cert me.pem --tls-key me.key"),
        ),
    ),
    Kind.TLS_SILENT: Cause(
        "something listens there but does not answer; check that it is a DICOM port, and whether it wants --tls",
        "Something accepts connections on port {port}, but did not answer the TLS handshake.",
        ("the port does not talk TLS: without it, it may answer", "the program on the other side hangs"),
        (("ask without TLS", "dicomnet probe {peer}"), _PEER_LOG),
    ),
    Kind.UNTRUSTED: Cause(
        "its certificate is not trusted: {detail}; name who vouches for it: --tls-ca FILE"
        " (to find out more: --tls-no-verify)",
        "The peer talks TLS, but this side does not trust its certificate: {detail}.",
        (
            "the certificate comes from the hospital's own authority, or signed itself, and this side was not told",
            "the certificate has expired, or is not yet valid, or a clock is wrong",
            "the certificates between it and the authority are missing on the peer",
            "somebody in between answers in the peer's place",
        ),
        (
            ("name the authority that issued it", "dicomnet probe {peer} --tls-ca hospital-ca.pem"),
            ("only to find out more: trust anything", "dicomnet probe {peer} --tls-no-verify"),
        ),
    ),
    Kind.OTHER_HOST: Cause(
        "its certificate is for another host: {detail}; use the name that it holds, or check only who issued it:"
        " --tls-verify chain",
        "The peer's certificate is trusted, but made out for another host than {host}: {detail}.",
        (
            "the peer was asked by its address or by another name than its certificate holds",
            "the certificate names an AE title or a product, as many in hospitals do",
            "{host} leads to the wrong computer",
        ),
        (
            ("use the name that the certificate holds", "dicomnet probe {title}@NAME:{port} {options}"),
            ("check only who issued it", "dicomnet probe {peer} {options} --tls-verify chain"),
        ),
    ),
    Kind.WANTS_CERTIFICATE: Cause(
        "TLS failed: {detail}; it wants a certificate of this side: --tls-cert FILE --tls-key FILE",
        "The peer lets in only those who show a certificate that it trusts: {detail}.",
        (
            "this side showed none",
            "this side's certificate comes from an authority that the peer does not know, or has expired",
        ),
        (
            ("show one", "dicomnet probe {peer} {options} --tls-cert me.pem --tls-key me.key"),
            ("have the peer's administrator add the authority of your certificate", ""),
        ),
    ),
    Kind.CALLING_REJECTED: Cause(
        "it does not know our AE title; tell it, or use one that it knows: --calling AET",
        "The peer is a DICOM system and runs. It refuses the title by which this side calls itself, {calling}.",
        (
            "nobody has told the peer about {calling}: DICOM systems let in only the AE titles in their list",
            "the title is in its list in another spelling (upper and lower case count)",
            "the title is in its list with another address than {local}",
        ),
        (
            ("use a title that the peer knows", "dicomnet probe {peer} --calling TITLE"),
            ("or have the peer's administrator add: AE title {calling}, host {local}", ""),
        ),
    ),
    Kind.CALLED_REJECTED: Cause(
        "it does not know the called AE title; check the part of PEER before the @",
        "The peer is a DICOM system and runs, but {title} is not its AE title (the part before the @).",
        (
            "its AE title is another, or spelt otherwise (upper and lower case count)",
            "the port belongs to another DICOM system than the one that is meant",
        ),
        (
            ("ask the peer's administrator for its AE title, and use that", "dicomnet probe TITLE@{place}"),
            _PEER_LOG,
        ),
    ),
    Kind.VERSION_REJECTED: Cause(
        "it does not speak this version of the protocol",
        "The peer says that it does not support this version of the DICOM protocol. There has only ever been one.",
        ("the peer has a defect, or is no DICOM system",),
        (_PEER_LOG,),
    ),
    Kind.APPLICATION_REJECTED: Cause(
        "it does not know DICOM's application context; is it a DICOM system?",
        "The peer says that it does not know the application context of DICOM. There is only one.",
        ("the peer has a defect, or refuses for another reason and gives this one",),
        (_PEER_LOG,),
    ),
    Kind.BUSY: Cause(
        "it is busy; try again later",
        "The peer is a DICOM system and runs, but says that it is too busy at present.",
        ("it has much to do", "it is short of memory or disk space, or its database does not answer"),
        (("try again in a minute", _PROBE), _PEER_LOG),
    ),
    Kind.FULL: Cause(
        "it has as many associations as it takes; try again later",
        "The peer is a DICOM system and runs, but has as many associations as it allows at present.",
        (
            "others use all of them just now",
            "associations that their requestors forgot to release, or that a firewall cut, are still counted",
            "the peer allows very few (it is set there)",
        ),
        (
            ("try again in a minute", _PROBE),
            ("see on {host} who holds associations", "ss -tn"),
            ("have the peer's limit raised", ""),
        ),
    ),
    Kind.REJECTED: Cause(
        "its log may say why",
        "The peer is a DICOM system and runs. It refused the association, and gives no reason that says more.",
        (
            "it does not know the AE title {calling}, or the address {local}",
            "it wants a user name and a passcode, or does not take those that it got",
            "its AE title is not {title}",
        ),
        (
            _PEER_LOG,
            ("use a title that the peer knows", "dicomnet probe {peer} --calling TITLE"),
            ("give a user name", "dicomnet probe {peer} --identity-username NAME"),
        ),
    ),
    Kind.WANTS_IDENTITY: Cause(
        "it wants a user identity: --identity-username NAME",
        "The peer is a DICOM system and runs. It lets in only those who give a user identity, and none was given.",
        ("the peer is set to demand a user name, with or without a passcode or a token",),
        (
            ("give a user name", "dicomnet probe {peer} {options} --identity-username NAME"),
            ("ask the peer's administrator for a user of this system, and which kind of identity it takes", ""),
        ),
    ),
    Kind.ABORTED: Cause(
        "its log may say why",
        "The peer speaks DICOM, but aborted in place of an answer to the request.",
        (
            "it does not know the AE title {calling} or the address {local}, and says so in this rude way",
            "it took offence at something in the request (a long list of contexts, a user identity)",
            "it has an internal error",
        ),
        (_PEER_LOG, ("use a title that the peer knows", "dicomnet probe {peer} --calling TITLE")),
    ),
    Kind.NO_CONTEXT: Cause(
        "{detail}",
        "The peer accepts the association, but nothing of what was asked for in it: {detail}.",
        (
            "it does not offer this service at all, or not to {calling}",
            "it offers it in other transfer syntaxes only",
        ),
        (("see below what it accepts", ""), _PEER_LOG),
    ),
    Kind.LATE: Cause(
        "the peer hangs or is slow; see its log",
        "The association stood, and then the peer did not answer in time: {detail}.",
        ("the peer hangs or is overloaded", "a firewall cut the connection without a word"),
        (_PEER_LOG, ("wait longer", _PROBE + " --timeout response=120")),
    ),
    Kind.LOST: Cause(
        "the log of {peer} may say why",
        "The association stood, and ended before it was to: {detail}.",
        ("the program on the other side crashed, or does not like what it was asked", "the network failed"),
        (_PEER_LOG, ("try again", _PROBE)),
    ),
    Kind.ECHO_FAILED: Cause(
        "its log may say why",
        "The association works, but the peer answered C-ECHO, which always succeeds, with a failure: {detail}.",
        ("the peer has an internal error",),
        (_PEER_LOG,),
    ),
    Kind.OTHER: Cause("{detail}", "{detail}", (), (_PEER_LOG,)),
}

_REJECTIONS: Final = {  # by source and reason (PS3.8 Table 9-21)
    (1, 2): Kind.APPLICATION_REJECTED,
    (1, 3): Kind.CALLING_REJECTED,
    (1, 7): Kind.CALLED_REJECTED,
    (2, 2): Kind.VERSION_REJECTED,
    (3, 1): Kind.BUSY,
    (3, 2): Kind.FULL,
}
_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
# Alerts of RFC 8446 6.2 by which a server says that it wants a certificate, or another one.
_CERTIFICATE_ALERTS: Final = (
    *("CERTIFICATE_REQUIRED", "BAD_CERTIFICATE", "UNKNOWN_CA", "CERTIFICATE_EXPIRED", "CERTIFICATE_REVOKED"),
    *("CERTIFICATE_UNKNOWN", "UNSUPPORTED_CERTIFICATE"),
)
_HOSTNAME_MISMATCH: Final = (62, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH


def kind_of(error: BaseException, *, associated: bool) -> Kind:
    """``associated``: the association stood when it happened."""
    match error:
        case AssociationRejected(source=source, reason=reason):
            return _REJECTIONS.get((source, reason), Kind.REJECTED)
        case NoAcceptedContext():
            return Kind.NO_CONTEXT
        case DeadlineExceeded(timer=timer):
            return {"connect": Kind.NO_CONNECTION, "associate": Kind.SILENT, "tls": Kind.TLS_SILENT}.get(
                timer, Kind.LATE
            )
        case TransportError():
            return _of_transport(error.__cause__, associated)
        case AssociationAborted() | RemoteProtocolError() if associated:
            return Kind.LOST
        case RemoteProtocolError():
            return Kind.NOT_DICOM
        case AssociationAborted():
            return Kind.ABORTED
    return Kind.OTHER


def _of_transport(cause: BaseException | None, associated: bool) -> Kind:
    match cause:
        case socket.gaierror():
            return Kind.UNKNOWN_HOST
        case ConnectionRefusedError():
            return Kind.REFUSED
        case ssl.SSLCertVerificationError(verify_code=code):
            return Kind.OTHER_HOST if code in _HOSTNAME_MISMATCH else Kind.UNTRUSTED
        case ssl.SSLError(reason=reason):
            text = reason or ""
            if any(text.endswith(f"ALERT_{alert}") for alert in _CERTIFICATE_ALERTS):
                return Kind.WANTS_CERTIFICATE
            return Kind.TLS_FAILED
        case OSError(errno=errno.EHOSTUNREACH | errno.ENETUNREACH):
            return Kind.NO_ROUTE
        case OSError() if not associated:
            return Kind.BROKEN
    return Kind.LOST if associated else Kind.CLOSED


def detail_of(error: BaseException) -> str:
    """What the error says beyond its kind."""
    match error.__cause__ if isinstance(error, TransportError) else None:
        case ssl.SSLCertVerificationError() as cause:
            return str(cause.verify_message)
        case ssl.SSLError() as cause:
            return cause.reason or str(cause)
        case OSError() as cause:
            return cause.strerror or str(cause)
    return str(error)


def line_of(kind: Kind, peer: Peer, detail: str) -> str:
    """What to do about it, in one line."""
    return CAUSES[kind].line.format(**fields_of(peer, detail=detail))


def fields_of(
    peer: Peer,
    *,
    detail: str = "",
    calling: str = "",
    local: str = "",
    options: str = "",
    hint: str = "",
    tls: bool = False,
) -> dict[str, str]:
    """What the texts of a ``Cause`` may hold. ``local``: the address of this side; ``tls``: it asked through TLS."""
    text = str(peer)
    return {
        "peer": text,
        "place": text.rpartition("@")[2],
        "title": peer.ae_title,
        "host": peer.host,
        "port": str(peer.port),
        "detail": detail,
        "calling": calling,
        "local": local or "this computer",
        "options": options,
        "hint": hint,
        "or_tls": "" if tls else ", or wants TLS",
        "elsewhere": "" if peer.host in _LOOPBACK else ", such as 127.0.0.1",
    }
