"""Every exception that the library raises for the network's sake, and the reason codes of PS3.8 that they carry.

    DicomNetworkError
    ├── LocalProtocolError        the caller asked for what the standard or the association does not allow
    │   └── QueueFull             DicomNet: too much waits to be sent
    ├── RemoteProtocolError       the peer broke the protocol; the association was aborted
    ├── InvalidDataset            bytes that are no data set, or more of one than the limits allow
    ├── NoAcceptedContext         no accepted presentation context fits what is to be sent
    ├── StatusError               a response (or a handler) carries a failure status
    ├── AssociationRejected       A-ASSOCIATE-RJ came back
    ├── AssociationAborted        A-ABORT came, or was sent, in mid-association
    ├── TransportError            TCP or TLS failed; the OSError is its ``__cause__``
    ├── DeadlineExceeded          a time limit passed (also a TimeoutError); names the timer
    └── LedgerError               the ledger of ``send`` cannot be used or written

``Reject`` stands apart: a handler raises it to refuse an association.
"""

from __future__ import annotations

from enum import IntEnum


class RejectResult(IntEnum):
    """Result of an A-ASSOCIATE-RJ (PS3.8 Table 9-21)."""

    PERMANENT = 1
    TRANSIENT = 2


class RejectSource(IntEnum):
    """Source of an A-ASSOCIATE-RJ (PS3.8 Table 9-21)."""

    USER = 1
    PROVIDER_ACSE = 2
    PROVIDER_PRESENTATION = 3


class AbortSource(IntEnum):
    """Source of an A-ABORT (PS3.8 Table 9-26). 1 is reserved and never sent."""

    USER = 0
    PROVIDER = 2


class AbortReason(IntEnum):
    """Reason of an A-ABORT by the service provider (PS3.8 Table 9-26). 3 is reserved and never sent."""

    NOT_SPECIFIED = 0
    UNRECOGNISED_PDU = 1
    UNEXPECTED_PDU = 2
    UNRECOGNISED_PARAMETER = 4
    UNEXPECTED_PARAMETER = 5
    INVALID_PARAMETER_VALUE = 6


_REJECT_REASONS = {
    (1, 1): "no reason given",
    (1, 2): "application context name not supported",
    (1, 3): "calling AE title not recognised",
    (1, 7): "called AE title not recognised",
    (2, 1): "no reason given",
    (2, 2): "protocol version not supported",
    (3, 1): "temporary congestion",
    (3, 2): "local limit exceeded",
}
_REJECT_SOURCES = {1: "service user", 2: "service provider (ACSE)", 3: "service provider (presentation)"}
_REJECT_RESULTS = {1: "permanently", 2: "for now"}
_ABORT_SOURCES = {0: "service user", 2: "service provider"}
_ABORT_REASONS = {
    0: "reason not specified",
    1: "unrecognised PDU",
    2: "unexpected PDU",
    4: "unrecognised PDU parameter",
    5: "unexpected PDU parameter",
    6: "invalid PDU parameter value",
}


class DicomNetworkError(Exception):
    """The root of every error below."""


class LocalProtocolError(DicomNetworkError):
    """The caller's fault: a call in the wrong state, or a value that the standard does not allow. Nothing was sent."""


class QueueFull(LocalProtocolError):
    """A DicomNet callback queued more than the connection's limit; wait for ``on_send`` before queueing more."""


class RemoteProtocolError(DicomNetworkError):
    """The peer's fault: what it sent breaks PS3.7 or PS3.8. The association has been aborted."""


class InvalidDataset(DicomNetworkError, ValueError):
    """These bytes are not a DICOM data set, or decoding them would pass a limit."""


class NoAcceptedContext(DicomNetworkError):
    """No presentation context was accepted for this SOP class and transfer syntax."""


class StatusError(DicomNetworkError):
    """A failure status, received or (raised by a handler) to be sent.

    ``status``: the 16-bit number; ``comment``: the Error Comment (0000,0902), at most 64 characters go out.
    """

    def __init__(self, status: int, comment: str = "") -> None:
        super().__init__(status, comment)
        self.status = status
        self.comment = comment

    def __str__(self) -> str:
        status = f"status 0x{self.status:04X}"
        return f"{status}: {self.comment}" if self.comment else status


class AssociationRejected(DicomNetworkError):
    """The peer refused the association (PS3.8 9.3.4): ``result``, ``source`` and ``reason`` as on the wire."""

    def __init__(self, result: int, source: int, reason: int) -> None:
        super().__init__(result, source, reason)
        self.result = result
        self.source = source
        self.reason = reason

    @property
    def transient(self) -> bool:
        """True if the same request may succeed later."""
        return self.result == RejectResult.TRANSIENT

    def __str__(self) -> str:
        how = _REJECT_RESULTS.get(self.result, "with an unknown result")
        who = _REJECT_SOURCES.get(self.source, "unknown source")
        why = _REJECT_REASONS.get((self.source, self.reason), "unknown reason")
        return f"association rejected {how} by the {who}: {why} ({self.result}/{self.source}/{self.reason})"


class AssociationAborted(DicomNetworkError):
    """The association ended by an A-ABORT (PS3.8 9.3.8): ``source`` and ``reason`` as on the wire."""

    def __init__(self, source: int, reason: int, detail: str = "") -> None:
        super().__init__(source, reason, detail)
        self.source = source
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        who = _ABORT_SOURCES.get(self.source, "unknown source")
        why = _ABORT_REASONS.get(self.reason, "unknown reason") if self.source == AbortSource.PROVIDER else ""
        what = f"association aborted by the {who}" + (f": {why}" if why else "")
        return f"{what} ({self.source}/{self.reason})" + (f"; {self.detail}" if self.detail else "")


class TransportError(DicomNetworkError):
    """TCP or TLS failed: refused, reset, unreachable, closed too early. An OSError behind it is its ``__cause__``."""


class DeadlineExceeded(DicomNetworkError, TimeoutError):
    """A time limit passed. ``timer`` names the field of ``Timeouts``, ``seconds`` its value."""

    def __init__(self, timer: str, seconds: float | None = None) -> None:
        super().__init__(timer, seconds)
        self.timer = timer
        self.seconds = seconds

    def __str__(self) -> str:
        return f"time limit {self.timer!r} passed" + (f" ({self.seconds:g} s)" if self.seconds is not None else "")


class LedgerError(DicomNetworkError):
    """The ledger of ``send`` is none, is in use, or cannot be written; an error of SQLite is its ``__cause__``."""


class Reject(Exception):
    """Raised by an ``on_association`` handler to answer A-ASSOCIATE-RJ (PS3.8 Table 9-21)."""

    def __init__(
        self,
        result: int = RejectResult.PERMANENT,
        source: int = RejectSource.USER,
        reason: int = 1,
    ) -> None:
        super().__init__(result, source, reason)
        self.result = result
        self.source = source
        self.reason = reason

    def __str__(self) -> str:
        return str(AssociationRejected(self.result, self.source, self.reason))
