"""Errors of the network as one line that says what to do, and their exit codes. The causes: ``probe.causes``."""

from __future__ import annotations

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
from dicomnet.probe.causes import detail_of, kind_of, line_of


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
    line = line_of(kind_of(error, associated=associated), peer, detail_of(error))
    match error:
        case AssociationRejected():
            return f"{peer} rejected the association ({error.result}/{error.source}/{error.reason}): {line}"
        case DeadlineExceeded(timer="deadline"):
            return f"{peer}: {error}, all attempts included; it hangs or is slow, or wait longer: --deadline SECONDS"
        case DeadlineExceeded(timer=timer):
            return f"{peer}: {error}; {line}, or wait longer: --timeout {timer}=SECONDS"
        case TransportError() if associated:
            return f"{peer}: {error}; see its log"
        case TransportError():
            return f"{peer}: {line}"
        case RemoteProtocolError() if not associated:
            return f"{peer} does not answer as DICOM does: {line}"
        case AssociationAborted() if not associated:
            return f"{peer} aborted before there was an association: {error}; {line}"
        case AssociationAborted() | RemoteProtocolError():
            return f"{error}; {line}"
        case OSError(strerror=str(text)):
            return text
    return str(error)
