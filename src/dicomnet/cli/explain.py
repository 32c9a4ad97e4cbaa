"""Errors of the network in words that say what to do, and their exit codes."""

from __future__ import annotations

import errno
import socket
import ssl
from typing import Final

from dicomnet.cli.options import HALF_WAY, NO_ASSOCIATION, PEER_FAILED, USAGE
from dicomnet.config import Peer
from dicomnet.errors import (
    AssociationAborted,
    AssociationRejected,
    DeadlineExceeded,
    NoAcceptedContext,
    RemoteProtocolError,
    TransportError,
)

_REJECTED: Final = {  # by source and reason (PS3.8 Table 9-21)
    (1, 3): "it does not know our AE title; tell it, or use one that it knows: --calling AET",
    (1, 7): "it does not know the called AE title; check the part of PEER before the @",
    (2, 2): "it does not speak this version of the protocol",
    (3, 1): "it is busy; try again later",
    (3, 2): "it has as many associations as it takes; try again later",
}


def exit_code(error: BaseException, *, associated: bool) -> int:
    """``associated``: the association stood when it happened."""
    if isinstance(error, AssociationRejected):
        return NO_ASSOCIATION
    if isinstance(error, AssociationAborted | DeadlineExceeded | RemoteProtocolError | TransportError):
        return HALF_WAY if associated else NO_ASSOCIATION
    if isinstance(error, NoAcceptedContext):
        return PEER_FAILED
    return USAGE


def explain(error: BaseException, peer: Peer, *, associated: bool) -> str:
    """One line: what happened, and what to do about it."""
    match error:
        case AssociationRejected(source=source, reason=reason):
            advice = _REJECTED.get((source, reason), "its log may say why")
            return f"{peer} rejected the association ({error.result}/{source}/{reason}): {advice}"
        case DeadlineExceeded(timer=timer):
            return f"{peer}: {error}; {_late(timer)}, or wait longer: --timeout {timer}=SECONDS"
        case TransportError():
            return f"{peer}: {_transport(error, peer, associated)}"
        case RemoteProtocolError() if not associated:
            return f"{peer} does not answer as DICOM does: {error}; check the port, and whether it wants --tls"
        case AssociationAborted() if not associated:
            return f"{peer} aborted before there was an association: {error}; its log may say why"
        case AssociationAborted() | RemoteProtocolError():
            return f"{error}; the log of {peer} may say why"
        case OSError(strerror=str(text)):
            return text
    return str(error)


def _late(timer: str) -> str:
    if timer == "connect":
        return "check host and port, and whether a firewall drops the connection"
    if timer in ("associate", "tls"):
        return "something listens there but does not answer; check that it is a DICOM port, and whether it wants --tls"
    return "the peer hangs or is slow; see its log"


def _transport(error: TransportError, peer: Peer, associated: bool) -> str:
    match error.__cause__:
        case socket.gaierror():
            return f"the host {peer.host!r} is not known; check how it is spelt, or give its address"
        case ConnectionRefusedError():
            return f"nothing listens there; is the peer running, and are host {peer.host} and port {peer.port} right?"
        case ssl.SSLCertVerificationError(verify_code=62 | 64) as cause:  # X509_V_ERR_HOSTNAME_MISMATCH, _IP_ADDRESS_
            return (
                f"its certificate is for another host: {cause.verify_message}; use the name that it holds,"
                " or check only who issued it: --tls-verify chain"
            )
        case ssl.SSLCertVerificationError() as cause:
            return (
                f"its certificate is not trusted: {cause.verify_message}; name who vouches for it: --tls-ca FILE"
                " (to find out more: --tls-no-verify)"
            )
        case ssl.SSLError() as cause:
            return (
                f"TLS failed: {cause.reason or cause}; check that this port talks TLS, and which certificates it wants"
            )
        case OSError(errno=errno.EHOSTUNREACH | errno.ENETUNREACH):
            return f"there is no way to host {peer.host}; check the address and the network"
        case OSError() as cause if not associated:
            return f"{cause.strerror or cause}; check that this is a DICOM port, and whether it wants --tls"
    if associated:
        return f"{error}; see its log"
    return "it closed the connection without an answer; check that it is a DICOM port, and whether it wants --tls"
