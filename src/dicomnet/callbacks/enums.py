"""The enumerations of the callback face that the protocol core does not have."""

from __future__ import annotations

import errno
import socket
import ssl
from enum import IntEnum

from dicomnet.errors import (
    AssociationAborted,
    AssociationRejected,
    DeadlineExceeded,
    RemoteProtocolError,
    TransportError,
)


class PduType(IntEnum):
    """PDU types as callbacks get them (PS3.8 9.3.1)."""

    UNKNOWN = 0
    ASSOCIATE_REQUEST = 1
    ASSOCIATE_ACCEPT = 2
    ASSOCIATE_REJECT = 3
    DATA_TRANSFER = 4
    RELEASE_REQUEST = 5
    RELEASE_RESPONSE = 6
    ABORT = 7


class IpType(IntEnum):
    """Which Internet protocol a listening or connected object uses."""

    NONE = 0
    IPV4 = 1
    IPV6 = 2
    IPV4_OR_IPV6 = 3


class Security(IntEnum):
    """How a connection is secured. ``ISCL`` is an obsolete DES/MD5 scheme: it has a name and is refused."""

    NONE = 0
    ISCL = 1
    TLS = 2


class RejectReasonUser(IntEnum):
    """Reason of an A-ASSOCIATE-RJ whose source is the service user (PS3.8 Table 9-21)."""

    NO_REASON = 1
    APPLICATION_CONTEXT = 2
    CALLING_AE = 3
    CALLED_AE = 7


class RejectReasonAcse(IntEnum):
    """Reason of an A-ASSOCIATE-RJ whose source is the service provider, ACSE (PS3.8 Table 9-21)."""

    NO_REASON = 1
    PROTOCOL_VERSION = 2


class RejectReasonPresentation(IntEnum):
    """Reason of an A-ASSOCIATE-RJ whose source is the service provider, presentation (PS3.8 Table 9-21)."""

    TEMPORARY_CONGESTION = 1
    LOCAL_LIMIT = 2


class NetError(IntEnum):
    """What a callback is told. ``SUCCESS`` is 0 and false, so that ``if error:`` reads well."""

    SUCCESS = 0
    REFUSED = 1  # the connection
    RESET = 2
    ABORTED = 3  # by an A-ABORT of the peer
    CLOSED = 4  # the peer closed the connection in mid-association
    HOST_NOT_FOUND = 5
    UNREACHABLE = 6
    ADDRESS_IN_USE = 7
    PDU_TYPE_INVALID = 8
    PDU_LENGTH_INVALID = 9
    PDU_CONTENT_INVALID = 10
    TLS = 11  # ``DicomNet.last_error`` has OpenSSL's reason
    NETWORK = 12  # any other failure of the system; ``DicomNet.last_error`` has it
    TIMEOUT_CONNECT = 20
    TIMEOUT_TLS = 21
    TIMEOUT_ARTIM = 22
    TIMEOUT_ASSOCIATE = 23
    TIMEOUT_PDU = 24
    TIMEOUT_IDLE = 25
    TIMEOUT_RESPONSE = 26
    TIMEOUT_RELEASE = 27
    TIMEOUT_SEND = 28


_BY_ERRNO = {
    errno.ECONNREFUSED: NetError.REFUSED,
    errno.ECONNRESET: NetError.RESET,
    errno.EPIPE: NetError.RESET,
    errno.EADDRINUSE: NetError.ADDRESS_IN_USE,
    errno.EHOSTUNREACH: NetError.UNREACHABLE,
    errno.ENETUNREACH: NetError.UNREACHABLE,
    errno.EADDRNOTAVAIL: NetError.UNREACHABLE,
    errno.ETIMEDOUT: NetError.UNREACHABLE,  # the system's own patience
    errno.ECONNABORTED: NetError.RESET,
}


def net_error(error: BaseException | None) -> NetError:
    """The enumeration's name of an exception of the library."""
    match error:
        case None | AssociationRejected():
            return NetError.SUCCESS  # on_receive_associate_reject has told it
        case DeadlineExceeded(timer=timer):
            return NetError.__members__.get(f"TIMEOUT_{timer.upper()}", NetError.NETWORK)
        case AssociationAborted():
            return NetError.ABORTED
        case RemoteProtocolError():
            return NetError.PDU_CONTENT_INVALID
        case TransportError(__cause__=None):
            return NetError.CLOSED
        case TransportError(__cause__=cause):
            return net_error(cause)
        case ssl.SSLError():
            return NetError.TLS
        case socket.gaierror() | UnicodeError():  # a name that cannot be one (RFC 5890)
            return NetError.HOST_NOT_FOUND
        case OSError(errno=int() as number):
            return _BY_ERRNO.get(number, NetError.NETWORK)
    return NetError.NETWORK
