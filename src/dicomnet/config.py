"""What a user may set, as frozen values; each default carries its reason."""

from __future__ import annotations

from dataclasses import dataclass

# A UUID-derived root (PS3.5 B.2), drawn once for this implementation.
IMPLEMENTATION_CLASS_UID = "2.25.33480448841046657458043818652784457243"
IMPLEMENTATION_VERSION_NAME = "DICOMNET_0_1"

# What we announce (PS3.8 D.1): headers cost 0.01 % and a megabyte eight turns of the framer; DCMTK sends no more.
MAX_PDU_LENGTH = 128 * 1024
DEFAULT_CALLING_AE = "DICOMNET"
DEFAULT_PORT = 104  # PS3.8 9.1.2: the well-known port


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Time limits in seconds, each absolute: bytes that drip in do not extend it. None switches one off."""

    connect: float | None = 10.0  # a reachable host answers a SYN within three retransmissions
    tls: float | None = 10.0  # the handshake is two round trips and some arithmetic
    artim: float | None = 30.0  # PS3.8 9.1.4: a connection that requests nothing is dropped
    associate: float | None = 30.0  # our A-ASSOCIATE-RQ is answered; PACS look up their configuration meanwhile
    pdu: float | None = 60.0  # from a PDU's first byte to its last: 1 MiB over 140 kbit/s
    idle: float | None = 60.0  # no message on an open association
    response: float | None = 30.0  # from a DIMSE request to its (next) response
    release: float | None = 10.0  # the peer has nothing to do but answer
    send: float | None = 60.0  # the peer reads nothing: 256 KiB leave within this
    closing: float | None = 2.0  # after our last PDU the peer closes; past this we do (ARTIM of state 13)
    drain: float | None = 30.0  # Server.close(): transfers under way may finish

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"timeouts.{name} is {value!r}; a time limit is a positive number of seconds or None")


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what a peer may make us hold, in bytes unless said otherwise."""

    associate_length: int = 1 << 20  # 128 contexts with 100 transfer syntaxes each take 300 KiB
    pdu_length: int = 1 << 20  # the most that may be announced; larger PDUs gain nothing
    command_set: int = 64 * 1024  # the largest real ones (lists of UIDs) stay under 10 KiB
    sequence_nesting: int = 64  # levels; SR trees in the field have under 20
    inflation_ratio: int = 200  # deflated : inflated; images of zeros reach 1:1000 and are bombs in disguise
    inflated_size: int = 1 << 30  # 1 GiB
    spool_size: int = 1 << 20  # received data sets up to this stay in memory, larger ones go to a file
    queue: int = 4 << 20  # DicomNet: bytes that may wait to be sent
    associations: int = 256  # count: one thread each on the blocking face
    associations_per_ae_title: int = 32  # count: one modality does not lock the others out
    associations_per_address: int = 64  # count
    pending: int = 128  # count: connections that have not yet become associations
    operations: int = 64  # count: a peer's requests that wait or are performed at once; bounds an unlimited window
    inbox: int = 256  # count: responses that nobody has read yet; above it no more is received

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) < 1:
                raise ValueError(f"limits.{name} is {getattr(self, name)!r}; a limit is a positive number")


@dataclass(frozen=True, slots=True)
class Identity:
    """User identity of an A-ASSOCIATE-RQ (PS3.7 D.3.3.7).

    ``type``: 1 user name, 2 user name and passcode, 3 Kerberos ticket, 4 SAML assertion, 5 JSON web token.
    ``primary``, ``secondary``: the fields as bytes (text is UTF-8); ``secondary`` is type 2's passcode, else empty.
    """

    type: int
    primary: bytes
    secondary: bytes = b""
    response_requested: bool = False

    @property
    def is_known(self) -> bool:
        """Whether the standard defines this type."""
        return 1 <= self.type <= 5

    @classmethod
    def username(cls, name: str, *, response_requested: bool = False) -> Identity:
        """Type 1."""
        return cls(1, name.encode(), b"", response_requested)

    @classmethod
    def passcode(cls, name: str, passcode: str, *, response_requested: bool = False) -> Identity:
        """Type 2: a user name and its passcode. The passcode crosses the network in clear unless TLS is used."""
        return cls(2, name.encode(), passcode.encode(), response_requested)

    @classmethod
    def kerberos(cls, ticket: bytes, *, response_requested: bool = False) -> Identity:
        """Type 3."""
        return cls(3, ticket, b"", response_requested)

    @classmethod
    def saml(cls, assertion: str | bytes, *, response_requested: bool = False) -> Identity:
        """Type 4."""
        return cls(4, assertion.encode() if isinstance(assertion, str) else assertion, b"", response_requested)

    @classmethod
    def jwt(cls, token: str | bytes, *, response_requested: bool = False) -> Identity:
        """Type 5."""
        return cls(5, token.encode() if isinstance(token, str) else token, b"", response_requested)

    def __repr__(self) -> str:  # secrets stay out of logs
        return f"Identity(type={self.type}, {len(self.primary)} + {len(self.secondary)} bytes)"


@dataclass(frozen=True, slots=True)
class Peer:
    """An application entity on the network: AE title, host name or address, TCP port."""

    ae_title: str
    host: str
    port: int = DEFAULT_PORT

    def __post_init__(self) -> None:
        check_ae_title(self.ae_title)
        if not self.host:
            raise ValueError("a peer needs a host: AET@host:port")
        if not 0 < self.port < 65536:
            raise ValueError(f"port {self.port} is not in 1..65535")

    @classmethod
    def parse(cls, text: str) -> Peer:
        """``AET@host:port`` or ``AET@[IPv6]:port``; without a port 104. Raises ValueError."""
        ae_title, at, place = text.rpartition("@")
        if not at:
            raise ValueError(f"{text!r} is not AET@host:port")
        if place.startswith("["):
            host, bracket, rest = place[1:].partition("]")
            if not bracket or (rest and not rest.startswith(":")):
                raise ValueError(f"{text!r} is not AET@[IPv6 address]:port")
            port = rest[1:]
        else:
            host, colon, port = place.partition(":")
            if ":" in port:
                raise ValueError(f"{text!r}: write an IPv6 address in brackets, AET@[::1]:port")
            rest = colon
        if rest and not (port.isascii() and port.isdigit()):
            raise ValueError(f"{text!r}: the port {port!r} is not a number")
        return cls(ae_title, host, int(port) if rest else DEFAULT_PORT)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.ae_title}@{host}:{self.port}"


def check_ae_title(title: str) -> str:
    """Return ``title`` without the spaces around it if PS3.5 6.2 (VR AE) allows it, else raise ValueError."""
    stripped = title.strip(" ")
    if not stripped:
        raise ValueError(f"AE title {title!r} is empty or all spaces (PS3.8 9.3.2)")
    if len(stripped) > 16:
        raise ValueError(f"AE title {title!r} has {len(stripped)} characters; 16 are allowed")
    if not (stripped.isascii() and stripped.isprintable()) or "\\" in stripped:
        raise ValueError(f"AE title {title!r} has a character that VR AE does not allow")
    return stripped
