"""What a sender is told and tells: values."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Protocol, get_args

from dicomnet.config import Identity, Limits, Peer, Timeouts
from dicomnet.dataset import Path
from dicomnet.errors import (
    AssociationAborted,
    AssociationRejected,
    DeadlineExceeded,
    RemoteProtocolError,
    TransportError,
)
from dicomnet.sender.pace import MOST

if TYPE_CHECKING:
    from dicomnet.dimse.status import Status

NOT_NOW: Final = (AssociationAborted, AssociationRejected, DeadlineExceeded, RemoteProtocolError, TransportError)
Transcode = Literal["never", "lossless", "any"]
Stamp = tuple[int, int]  # a file's size in bytes and time of modification in ns: if both are the same, so is the file


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it ended for one file: a ``status`` that the peer answered, or an ``error``; the other one is None.

    ``path``: as it was given, or as it was found in a folder that was given. ``attempts``: how often it was sent or
    tried to be; ``size``: of its data set, in bytes. ``comment``: the Error Comment (0000,0902) that came with the
    status, or empty. ``associated``: an association stood at the last attempt. ``sop_class_uid``, ``sop_instance_uid``,
    ``transfer_syntax``: of the file, or empty if it could not be looked at. ``recorded``: the ledger says that the peer
    has it already, with this status; nothing was sent. ``stamp``: with a ledger, the file's size and time.
    ``derived_from``: if it had to be compressed with loss, the file's SOP Instance UID; ``sop_instance_uid`` is that of
    the new instance that was sent then. Else empty.
    """

    path: Path
    status: Status | None = None
    error: Exception | None = None
    attempts: int = 0
    size: int = 0
    comment: str = ""
    associated: bool = False
    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    transfer_syntax: str = ""
    recorded: bool = False
    stamp: Stamp | None = None
    derived_from: str = ""

    @property
    def ok(self) -> bool:
        """True if the peer has it: success, or a warning."""
        return self.status is not None and not self.status.is_failure

    @property
    def is_for_now(self) -> bool:
        """True if it failed of what may pass: refused (A7xx), aborted, rejected, unreachable, too late."""
        if self.error is not None:
            return isinstance(self.error, NOT_NOW)
        return self.status is not None and self.status & 0xFF00 == 0xA700

    @property
    def reason(self) -> str:
        """Why it is no plain success, in words; empty if it is."""
        if self.error is not None:
            return str(self.error) or type(self.error).__name__
        if not self.status:
            return ""
        return self.status.meaning("C-STORE") + (f": {self.comment}" if self.comment else "")


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file in a folder that is no instance."""

    path: Path


class Stop(Protocol):
    """Tells a sender to end early; a ``threading.Event`` is one. It is asked often, and from several threads."""

    def is_set(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Options:
    """How to send. ``associations``: None is as many as help, but no more than ``most``; ``window``: None is as many
    as are best, but no more than ``sender.window.MOST``; ``deadline``: in seconds.
    """

    peer: Peer
    calling_ae: str
    tls: ssl.SSLContext | None
    identity: Identity | None
    transcode: Transcode
    attempts: int
    backoff: float
    associations: int | None
    window: int | None
    max_pdu_length: int
    timeouts: Timeouts | None
    limits: Limits | None
    most: int = MOST
    deadline: float | None = None

    def __post_init__(self) -> None:
        if self.transcode not in get_args(Transcode):
            raise ValueError(f"transcode is {self.transcode!r}; it must be one of {', '.join(get_args(Transcode))}")
        if self.attempts < 1:
            raise ValueError(f"attempts is {self.attempts!r}; a file is tried once or more")
        if self.deadline is not None and not self.deadline > 0:
            raise ValueError(f"deadline is {self.deadline!r}; it must be more than 0 seconds, or None")
        if self.associations is not None and self.associations < 1:
            raise ValueError(f"associations is {self.associations!r}; it must be 1 or more, or None")
        if self.window is not None and not 1 <= self.window <= 0xFFFF:
            raise ValueError(f"window is {self.window!r}; it must be in 1..65535, or None")
