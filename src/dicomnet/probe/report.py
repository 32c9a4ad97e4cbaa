"""What a survey found, as values. Times are in seconds; None is what was not found out, and ``notes`` say why.

One idea: a report holds facts and no prose; what they mean to a person is for ``causes`` and the renderers.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from dicomnet.config import Peer
from dicomnet.errors import DicomNetworkError
from dicomnet.probe.causes import Kind
from dicomnet.ul.pdu import AssociateAc, AssociateRq


@dataclass(frozen=True, slots=True)
class Address:
    """An address of the host; ``seconds``: until the TCP connection stood, None if it did not: see ``problem``."""

    address: str
    seconds: float | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Reach:
    """How the host was found. ``looked_up``: seconds for its name."""

    addresses: tuple[Address, ...]
    looked_up: float
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Bytes:
    """What crossed the connection in one piece; ``time``: seconds since it stood. ``length``: more than ``data`` if
    not all was kept.
    """

    sent: bool
    time: float
    data: bytes = field(repr=False)
    length: int


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request for an association, and all that came of it.

    ``local``, ``remote``: the ends of the connection, empty if there was none. ``connected``, ``secured``,
    ``answered``: seconds for the TCP connection, the TLS handshake and the answer. ``error``: None if it was accepted.
    """

    request: AssociateRq
    local: str = ""
    remote: str = ""
    tls: bool = False
    connected: float | None = None
    secured: float | None = None
    answered: float | None = None
    answer: AssociateAc | None = None
    error: DicomNetworkError | None = None
    exchanged: tuple[Bytes, ...] = ()

    @property
    def received(self) -> bytes:
        """What came in, as far as it was kept."""
        return b"".join(piece.data for piece in self.exchanged if not piece.sent)


@dataclass(frozen=True, slots=True)
class Speaks:
    """What answers at the port. ``protocol``: "DICOM", "HTTP", "TLS", "SSH", …, "nothing" or "unknown".

    ``detail``: what it says of itself. ``inside``: what speaks within TLS, if that is what it is. ``tried``: what was
    done to find out. ``data``: what it said, as bytes.
    """

    protocol: str
    detail: str = ""
    inside: str = ""
    tried: tuple[str, ...] = ()
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class Certificate:
    """The peer's certificate; texts are as the certificate has them, dates as in "Nov 28 16:00:00 2026 GMT"."""

    subject: str
    issuer: str
    names: tuple[str, ...]
    begins: str
    ends: str
    sha256: str
    names_host: bool
    is_valid_now: bool


@dataclass(frozen=True, slots=True)
class Security:
    """What TLS comes to. ``versions``: name → True, False or None (it could not be told).

    ``trusted``: by ``authority``, which says who was asked; ``distrust``: why not. ``wants_certificate``: this side has
    to show one.
    """

    versions: tuple[tuple[str, bool | None], ...]
    version: str = ""
    cipher: str = ""
    certificate: Certificate | None = None
    trusted: bool | None = None
    authority: str = ""
    distrust: str = ""
    wants_certificate: bool | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Titles:
    """Whether AE titles matter. ``checks_called``: a made-up called title is refused; ``checks_calling`` likewise."""

    called: str
    calling: str
    checks_called: bool | None = None
    checks_calling: bool | None = None
    called_answer: str = ""
    calling_answer: str = ""


@dataclass(frozen=True, slots=True)
class SopClass:
    """A SOP class and what the peer said to it.

    ``result``: number of PS3.8 Table 9-18, None if it was not asked or not answered. ``transfer_syntaxes``: UIDs of
    those that were accepted, in the order of PS3.6. ``requestor_is_scp``: the peer sends such instances by C-GET.
    """

    uid: str
    name: str
    is_storage: bool
    retired: bool
    result: int | None = None
    transfer_syntaxes: tuple[str, ...] = ()
    requestor_is_scp: bool | None = None

    @property
    def accepted(self) -> bool:
        return bool(self.transfer_syntaxes)


@dataclass(frozen=True, slots=True)
class Classes:
    """SOP classes × transfer syntaxes. ``asked``: UIDs of the transfer syntaxes that storage classes were asked for.

    ``associations``: how many it took; ``contexts``: presentation contexts in all. ``complete``: nothing was left out.
    """

    classes: tuple[SopClass, ...]
    asked: tuple[str, ...]
    associations: int
    contexts: int
    seconds: float
    complete: bool
    problem: str = ""

    def of(self, *, storage: bool) -> tuple[SopClass, ...]:
        """The storage SOP classes, or the others."""
        return tuple(one for one in self.classes if one.is_storage is storage)


@dataclass(frozen=True, slots=True)
class Negotiated:
    """What else the peer agreed to. ``asked``: it was asked for what stands behind the product.

    ``max_pdu_length``: None if it did not say, 0 is unlimited. ``window``: (invoked, performed), asked for as 16 and
    16; None: not answered, which is (1, 1). ``extended``: SOP class UID, name and what it supports.
    ``identity_answer``: whether a user identity was answered; ``identity_demanded``: whether an association without
    one is refused.
    """

    max_pdu_length: int | None
    implementation_class_uid: str
    implementation_version_name: str
    product: str
    window: tuple[int, int] | None = None
    extended: tuple[tuple[str, str, str], ...] = ()
    asked: bool = False
    identity_answer: bool | None = None
    identity_demanded: bool | None = None


@dataclass(frozen=True, slots=True)
class Timing:
    """How fast it answers. ``echoes``: how many C-ECHOs; ``rate``: associations a second, one by one."""

    echoes: int = 0
    failed: int = 0
    status: int = 0
    shortest: float | None = None
    median: float | None = None
    percentile_99: float | None = None
    longest: float | None = None
    associations: int = 0
    rate: float | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """The throughput with synthetic instances: ``count`` of ``size`` bytes; ``status``: of the last response."""

    count: int
    size: int
    seconds: float
    status: int
    uids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """Something to try next: what for, and the command, empty if there is none."""

    what: str
    command: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """What is wrong. ``associated``: there was an association. ``why``: one sentence; ``causes``: likely ones first."""

    kind: Kind
    why: str
    causes: tuple[str, ...]
    steps: tuple[Step, ...]
    associated: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """All of it. ``attempt``: the first request for an association. ``failure``: None if all is well."""

    peer: Peer
    calling_ae: str
    started: str
    seconds: float
    reach: Reach
    attempt: Attempt | None = None
    speaks: Speaks | None = None
    security: Security | None = None
    titles: Titles | None = None
    classes: Classes | None = None
    negotiated: Negotiated | None = None
    timing: Timing | None = None
    stored: Stored | None = None
    failure: Failure | None = None
    notes: tuple[str, ...] = ()
