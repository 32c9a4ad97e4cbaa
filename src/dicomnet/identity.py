"""Verifiers of user identities (PS3.7 D.3.3.7) for ``AE.on_identity``: passcodes and JSON web tokens.

One idea: whatever is not surely right is refused; why is for the log, the peer learns no more than that it was.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import logging
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from dicomnet.config import Identity
from dicomnet.dimse.provider import AssociationInfo
from dicomnet.errors import Reject, RejectResult, RejectSource

log = logging.getLogger("dicomnet")

_USER_AND_PASSCODE: Final = 2  # types of identity (PS3.7 Table D.3-14)
_WEB_TOKEN: Final = 5


# --- passcodes ------------------------------------------------------------------------------------------------------

_LONGEST_PASSCODE: Final = 1024  # bytes
_MOST_AT_ONCE: Final = 4  # hashes of one verifier, 16 MiB each
_MOST_ADDRESSES: Final = 4096  # whose failures are remembered
_SCRYPT: Final = (1 << 14, 8, 5)  # N, r, p: 16 MiB and a quarter of a second
_MOST_MEMORY: Final = 128 << 20  # bytes that a hash may ask for


@dataclass(frozen=True, slots=True)
class _Hash:
    n: int
    r: int
    p: int
    salt: bytes
    digest: bytes

    @classmethod
    def parse(cls, text: str) -> _Hash:
        parts = text.split("$")
        try:
            if len(parts) != 6 or parts[0] != "scrypt":
                raise ValueError
            n, r, p = map(int, parts[1:4])
            salt, digest = (base64.b64decode(part, validate=True) for part in parts[4:])
        except ValueError:
            raise ValueError("this is no hash that hash_passcode() returned") from None
        if not (n > 1 and n & (n - 1) == 0 and r > 0 and p > 0 and 128 * n * r <= _MOST_MEMORY and digest):
            raise ValueError("a hash with parameters that scrypt does not allow")
        return cls(n, r, p, salt, digest)

    def of(self, passcode: bytes) -> bytes:
        """The digest that this passcode would have."""
        return hashlib.scrypt(
            passcode, salt=self.salt, n=self.n, r=self.r, p=self.p, maxmem=2 * _MOST_MEMORY, dklen=len(self.digest)
        )

    def __str__(self) -> str:
        salt, digest = (base64.b64encode(part).decode() for part in (self.salt, self.digest))
        return f"scrypt${self.n}${self.r}${self.p}${salt}${digest}"


def hash_passcode(passcode: str) -> str:
    """A salted scrypt hash (RFC 7914) of a passcode, as text to be kept for a ``PasscodeVerifier``.

    Raises ValueError for an empty passcode and for one of more than 1,024 bytes.
    """
    encoded = passcode.encode()
    if not 0 < len(encoded) <= _LONGEST_PASSCODE:
        raise ValueError(f"a passcode has 1 to {_LONGEST_PASSCODE} bytes")
    empty = _Hash(*_SCRYPT, salt=secrets.token_bytes(16), digest=bytes(32))
    return str(replace(empty, digest=empty.of(encoded)))


class PasscodeVerifier:
    """Accepts an identity of type 2 whose user name and passcode are known: ``ae.on_identity(PasscodeVerifier(…))``.

    ``hashes``: user name → what ``hash_passcode`` returned. ``failures``: so many wrong ones from one address within
    ``seconds``, and what follows is refused unseen, with 2/3/1 (congestion), until they have passed; None: no limit.
    To find out takes the same time whether or not there is such a user. The passcode crosses the network in clear
    unless TLS is used.

    Raises ValueError for no hashes, and for one that ``hash_passcode`` did not make.
    """

    def __init__(self, hashes: Mapping[str, str], *, failures: int | None = 10, seconds: float = 60.0) -> None:
        if not hashes:
            raise ValueError("there is no user to accept")
        self._hashes = {name.encode(): _Hash.parse(text) for name, text in hashes.items()}
        some = next(iter(self._hashes.values()))
        self._nobody = replace(some, salt=secrets.token_bytes(16), digest=secrets.token_bytes(len(some.digest)))
        self._most_failures = failures
        self._seconds = seconds
        self._hashing = threading.BoundedSemaphore(_MOST_AT_ONCE)
        self._lock = threading.Lock()
        self._failures: dict[str, tuple[float, int]] = {}  # address → since when, how many

    def __call__(self, association: AssociationInfo, identity: Identity) -> bool:
        """Whether it is accepted. Raises Reject for an address with too many failures."""
        address = association.address[0]
        if self._locked(address):
            raise Reject(RejectResult.TRANSIENT, RejectSource.PROVIDER_PRESENTATION, 1)
        known = self.verify(identity)
        if not known:
            log.info("%s: user identity refused: not a known user and passcode", address)
            self._count_failure(address)
        return known

    def verify(self, identity: Identity) -> bool:
        """Whether the user is known and the passcode right."""
        if identity.type != _USER_AND_PASSCODE or not 0 < len(identity.secondary) <= _LONGEST_PASSCODE:
            return False
        expected = self._hashes.get(identity.primary)
        found = expected or self._nobody
        with self._hashing:
            digest = found.of(identity.secondary)
        right = hmac.compare_digest(digest, found.digest)
        return right and expected is not None

    def _locked(self, address: str) -> bool:
        with self._lock:
            since, count = self._failures.get(address, (0.0, 0))
            if count and time.monotonic() - since >= self._seconds:
                del self._failures[address]
                return False
        return self._most_failures is not None and count >= self._most_failures

    def _count_failure(self, address: str) -> None:
        with self._lock:
            since, count = self._failures.get(address, (time.monotonic(), 0))
            self._failures[address] = since, count + 1
            if len(self._failures) > _MOST_ADDRESSES:
                del self._failures[next(iter(self._failures))]  # the one that failed first


# --- JSON web tokens ------------------------------------------------------------------------------------------------

_LONGEST_TOKEN: Final = 16 * 1024  # bytes
_LEEWAY: Final = 60.0  # seconds
_LAST_DATE: Final = 1e12  # seconds since 1970
_LEAST_RSA: Final = 2048  # bits
_base64url = re.compile(rb"[A-Za-z0-9_-]*").fullmatch
_HMAC: Final = {"HS256": "sha256", "HS384": "sha384", "HS512": "sha512"}


class InvalidToken(ValueError):
    """This JSON web token is not accepted; the text says why, for the log."""


class _Key(Protocol):
    """A key knows what it may be used for: whoever makes the token has no say in it (RFC 8725 3.1)."""

    algorithms: tuple[str, ...]

    def verify(self, algorithm: str, signed: bytes, signature: bytes) -> bool: ...


class _Secret:
    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        # RFC 7518 3.2: at least as long as the hash
        self.algorithms = tuple(
            name for name, digest in _HMAC.items() if len(secret) >= hashlib.new(digest).digest_size
        )
        if not self.algorithms:
            raise ValueError(f"a secret of {len(secret)} bytes; HS256 needs 32 (RFC 7518 3.2)")

    def verify(self, algorithm: str, signed: bytes, signature: bytes) -> bool:
        return hmac.compare_digest(hmac.digest(self._secret, signed, _HMAC[algorithm]), signature)


class _PublicKey:
    """RS256, ES256 or EdDSA, by the package ``cryptography``."""

    def __init__(self, key: Any) -> None:
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

        self._key = key
        match key:
            case rsa.RSAPublicKey() if key.key_size >= _LEAST_RSA:
                self.algorithms: tuple[str, ...] = ("RS256",)
            case ec.EllipticCurvePublicKey() if isinstance(key.curve, ec.SECP256R1):
                self.algorithms = ("ES256",)
            case ed25519.Ed25519PublicKey():
                self.algorithms = ("EdDSA",)
            case _:
                raise ValueError(f"a public key is RSA of {_LEAST_RSA} bits or more, EC on P-256, or Ed25519")

    def verify(self, algorithm: str, signed: bytes, signature: bytes) -> bool:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec, padding, utils

        try:
            if algorithm == "RS256":
                self._key.verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
            elif algorithm == "EdDSA":
                self._key.verify(signature, signed)
            elif len(signature) != 64:  # RFC 7518 3.4: two numbers of 32 bytes
                return False
            else:
                r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
                self._key.verify(utils.encode_dss_signature(r, s), signed, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            return False
        return True


def _key(key: Any) -> _Key:
    """A secret, or a public key as PEM or as an object of ``cryptography``. A PEM is never taken for a secret."""
    if isinstance(key, str):
        key = key.encode()
    if isinstance(key, bytes) and b"-----BEGIN" not in key:
        return _Secret(key)
    try:
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ImportError as error:
        raise ImportError("public keys need the package cryptography: pip install 'dicomnet[jwt]'") from error
    return _PublicKey(load_pem_public_key(key) if isinstance(key, bytes) else key)


class JwtVerifier:
    """Accepts an identity of type 5 that is a valid JSON web token: ``ae.on_identity(JwtVerifier(…))``.

    ``key``: a secret of 32 bytes or more (HS256; from 48 and 64 on also HS384, HS512), or the issuer's public key as
    PEM or as an object of the package ``cryptography`` (RSA: RS256, P-256: ES256, Ed25519: EdDSA), or key ID → key for
    tokens that name theirs. ``algorithms``: those to accept; None: whatever fits the key. ``issuer``, ``audience``: one
    or several, of which the token must name one; a token for an audience is refused where none is given (RFC 7519
    4.1.3). ``leeway``: seconds by which clocks may differ. ``required``: claims that must be there. ``clock`` gives the
    seconds since 1970.

    Raises ValueError for a key or an algorithm that cannot be used, ImportError for a public key without
    ``cryptography``.
    """

    def __init__(
        self,
        key: Any,
        *,
        issuer: str | Iterable[str] | None = None,
        audience: str | Iterable[str] | None = None,
        algorithms: Iterable[str] | None = None,
        leeway: float = _LEEWAY,
        required: Iterable[str] = ("exp",),
        clock: Callable[[], float] = time.time,
    ) -> None:
        named = isinstance(key, Mapping)
        self._keys: dict[str | None, _Key] = (
            {kid: _key(value) for kid, value in key.items()} if named else {None: _key(key)}
        )
        self._named = named
        possible = {algorithm for value in self._keys.values() for algorithm in value.algorithms}
        self._algorithms = frozenset(possible if algorithms is None else algorithms)
        if not self._algorithms or not self._algorithms <= possible:
            raise ValueError(f"algorithms: {sorted(self._algorithms)}; with these keys there are {sorted(possible)}")
        self._issuers = _names(issuer)
        self._audiences = _names(audience)
        self._leeway = leeway
        self._required = tuple(required)
        self._clock = clock

    def __call__(self, association: AssociationInfo, identity: Identity) -> bool:
        """Whether it is accepted."""
        try:
            if identity.type != _WEB_TOKEN:
                raise InvalidToken(f"type {identity.type} is no JSON web token")
            self.claims(identity.primary)
        except InvalidToken as error:
            log.info("%s: user identity refused: %s", association.address[0], error)
            return False
        return True

    def claims(self, token: bytes) -> dict[str, Any]:
        """The claims of a valid token, to decide by more than that. Raises InvalidToken."""
        if len(token) > _LONGEST_TOKEN:
            raise InvalidToken(f"{len(token)} bytes; {_LONGEST_TOKEN} are allowed")
        parts = token.split(b".")
        if len(parts) != 3:  # five: encrypted
            raise InvalidToken("not three parts")
        header, signature = _json(parts[0]), _bytes(parts[2])
        algorithm = header.get("alg")
        key = self._keys.get(self._key_id(header))
        if "crit" in header:  # RFC 7515 4.1.11: extensions that must be understood, and none is
            raise InvalidToken("a critical extension")
        if key is None:
            raise InvalidToken("signed with an unknown key")
        if algorithm not in key.algorithms or algorithm not in self._algorithms:  # "none" is in neither
            raise InvalidToken("signed with an algorithm that is not accepted")
        if not key.verify(algorithm, parts[0] + b"." + parts[1], signature):
            raise InvalidToken("the signature is wrong")
        claims = _json(parts[1])
        self._check(claims)
        return claims

    def _key_id(self, header: dict[str, Any]) -> str | None:
        kid = header.get("kid") if self._named else None
        if not (kid is None or isinstance(kid, str)):
            raise InvalidToken("the key ID is no text")
        return kid

    def _check(self, claims: dict[str, Any]) -> None:
        if missing := [name for name in self._required if name not in claims]:
            raise InvalidToken(f"without {missing[0]!r}")
        now = self._clock()
        if (expires := _date(claims, "exp")) is not None and now >= expires + self._leeway:
            raise InvalidToken("expired")
        for name in ("nbf", "iat"):
            if (since := _date(claims, name)) is not None and now < since - self._leeway:
                raise InvalidToken(f"not valid yet ({name})")
        if self._issuers is not None and not self._issuers & _texts(claims.get("iss"), several=False):
            raise InvalidToken("from another issuer")
        if (self._audiences is not None or "aud" in claims) and not (
            (self._audiences or frozenset()) & _texts(claims.get("aud"), several=True)
        ):
            raise InvalidToken("for another audience")


def _names(names: str | Iterable[str] | None) -> frozenset[str] | None:
    return None if names is None else frozenset((names,) if isinstance(names, str) else names)


def _texts(value: object, *, several: bool) -> frozenset[str]:
    """What a claim names; nothing if it is of the wrong type."""
    values = value if several and isinstance(value, list) else [value]
    return frozenset(text for text in values if isinstance(text, str))


def _date(claims: dict[str, Any], name: str) -> float | None:
    """RFC 7519 2, NumericDate: seconds since 1970."""
    value = claims.get(name)
    if name not in claims:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _LAST_DATE:  # nor NaN
        raise InvalidToken(f"{name!r} is no date")
    return value


def _bytes(part: bytes) -> bytes:
    """RFC 7515 2: base64url without padding."""
    try:
        if _base64url(part):
            return base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))
    except binascii.Error:
        pass
    raise InvalidToken("not base64url")


def _json(part: bytes) -> dict[str, Any]:
    try:
        value = json.loads(_bytes(part).decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
    except InvalidToken:
        raise
    except (ValueError, RecursionError):
        raise InvalidToken("not JSON") from None
    if not isinstance(value, dict):
        raise InvalidToken("no JSON object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """RFC 7519 4: the same name twice may be refused; which one counts is what forgers play with."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise InvalidToken("a name that is there twice")
    return found


def _no_constant(name: str) -> float:
    raise InvalidToken(f"{name} is no JSON")
