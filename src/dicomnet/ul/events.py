"""What an association tells its user: the indications and confirmations of PS3.8 7 as values.

Association, release and abort events carry the PDU as it came (``encoded``, with its header), for those who show it.
Where it may hold a password or a ticket (PS3.7 D.3.3.7) it is not part of the ``repr``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from dicomnet.ul.framer import Fragment
from dicomnet.ul.pdu import AssociateAc, AssociateRq


@dataclass(frozen=True, slots=True)
class AssociateRequested:
    """A-ASSOCIATE indication: answer with ``accept`` or ``reject``."""

    request: AssociateRq
    encoded: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class AssociateAccepted:
    """A-ASSOCIATE confirmation: data may flow."""

    accept: AssociateAc
    encoded: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class AssociateRejected:
    """A-ASSOCIATE confirmation: refused (result, source, reason of PS3.8 Table 9-21)."""

    result: int
    source: int
    reason: int
    encoded: bytes


@dataclass(frozen=True, slots=True)
class RequestRefused:
    """The upper layer itself refused the peer's request (AE-6)."""

    result: int
    source: int
    reason: int


@dataclass(frozen=True, slots=True)
class ReleaseRequested:
    """A-RELEASE indication: answer with ``respond_release``. ``collision``: we had asked, too."""

    collision: bool
    encoded: bytes


@dataclass(frozen=True, slots=True)
class ReleaseConfirmed:
    """A-RELEASE confirmation."""

    encoded: bytes


@dataclass(frozen=True, slots=True)
class AbortReceived:
    """A-ABORT or A-P-ABORT indication: the peer aborted."""

    source: int
    reason: int
    encoded: bytes


@dataclass(frozen=True, slots=True)
class PeerFailed:
    """The peer broke the protocol and got an A-ABORT (source and reason as sent); ``detail`` says how.

    ``length``: it was the length of a PDU or of a field in it.
    """

    source: int
    reason: int
    detail: str
    length: bool = False


@dataclass(frozen=True, slots=True)
class TransportClosed:
    """The transport connection went in mid-association."""


@dataclass(frozen=True, slots=True)
class TimerExpired:
    """A time limit passed; ``timer`` names the field of ``config.Timeouts``."""

    timer: str


UlEvent = (
    Fragment
    | AssociateRequested
    | AssociateAccepted
    | AssociateRejected
    | RequestRefused
    | ReleaseRequested
    | ReleaseConfirmed
    | AbortReceived
    | PeerFailed
    | TransportClosed
    | TimerExpired
)
