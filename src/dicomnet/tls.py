"""TLS by the profiles of PS3.15 Annex B: contexts for ``associate`` and ``serve``, and errors that name the file.

One idea: a profile is data (versions and cipher suites), and the context that comes of it is an ``ssl.SSLContext`` like
any other. What Python's ``ssl`` cannot set is left to OpenSSL's own defaults, which the profiles allow:

* the groups of (EC)DHE: X25519, X448, P-256, P-384, P-521 and, in TLS 1.3, the groups of RFC 7919 from 2048 bits on;
* the suites of TLS 1.3: those of ``Profile.suites`` that ``missing_suites`` does not name;
* keys and hashes: security level 2 of OpenSSL refuses RSA and DHE below 2048 bits, ECC below 224 bits, SHA-1 and MD5.
"""

from __future__ import annotations

import contextlib
import os
import re
import ssl
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from dicomnet.credentials import Credentials as Credentials, Password, PathLike

if TYPE_CHECKING:
    from dicomnet.certificates import Authority

_ECDHE_AES_GCM: Final = (
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
)
_DHE_AES_GCM: Final = ("DHE-RSA-AES256-GCM-SHA384", "DHE-RSA-AES128-GCM-SHA256")
_ECDHE_CHACHA: Final = ("ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305")
_ECDHE_CCM: Final = (
    "ECDHE-ECDSA-AES256-CCM",
    "ECDHE-ECDSA-AES256-CCM8",
    "ECDHE-ECDSA-AES128-CCM",
    "ECDHE-ECDSA-AES128-CCM8",
)
_TLS_1_3: Final = ("TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256")
_TLS_1_3_CCM: Final = ("TLS_AES_128_CCM_SHA256", "TLS_AES_128_CCM_8_SHA256")

# ffdhe2048 of RFC 7919 A.1, for servers: 2048 bits are what PS3.15 asks for, and what old Java peers can take.
_DH_PARAMETERS: Final = """\
-----BEGIN DH PARAMETERS-----
MIIBCAKCAQEA//////////+t+FRYortKmq/cViAnPTzx2LnFg84tNpWp4TZBFGQz
+8yTnc4kmz75fS/jY2MMddj2gbICrsRhetPfHtXV/WVhJDP1H18GbtCFY2VVPe0a
87VXE15/V8k1mE8McODmi3fipona8+/och3xWKE2rec1MKzKT0g6eXq8CrGCsyT7
YdEIqUuyyOP7uWrat2DX9GgdT0Kj3jlN9K5W7edjcrsZCwenyO4KbXCeAvzhzffi
7MA0BM0oNC9hkXL+nOmFg/+OTxIy7vKBg8P+OxtMb61zO7X8vC7CIAXFjvGDfRaD
ssbzSibBsu/6iGtCOGEoXJf//////////wIBAg==
-----END DH PARAMETERS-----
"""


@dataclass(frozen=True, slots=True)
class Profile:
    """A TLS profile of PS3.15 Annex B. ``suites``: what it names, by OpenSSL's names, the preferred ones first.

    ``maximum``: the newest version that it allows. The oldest is TLS 1.2: BCP 195 forbids those before (RFC 8996).
    """

    name: str
    clause: str
    title: str
    suites: tuple[str, ...]
    maximum: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED


#: The profiles of PS3.15 Annex B, by the names that ``profile`` takes.
PROFILES: Final[Mapping[str, Profile]] = {
    profile.name: profile
    for profile in (
        # B.9 wants those that comply with the older AES profile (B.3) to be understood: hence the last suite.
        Profile(
            "bcp195",
            "B.9 (retired)",
            "BCP 195 TLS Secure Transport Connection Profile",
            (*_TLS_1_3, *_ECDHE_AES_GCM, *_DHE_AES_GCM, "AES128-SHA"),
        ),
        # "Additional cipher suites of similar or greater cryptographic strength may be supported."
        Profile(
            "bcp195-nd",
            "B.10 (retired)",
            "Non-Downgrading BCP 195 TLS Secure Transport Connection Profile",
            (*_TLS_1_3, *_ECDHE_AES_GCM, *_ECDHE_CHACHA, *_DHE_AES_GCM),
        ),
        # "No other cipher suites shall be used", and none of those that it lists belongs to TLS 1.3.
        # The ones with Camellia in Galois/counter mode, which are optional, are in no release of OpenSSL.
        Profile(
            "bcp195-ex",
            "B.11 (retired)",
            "Extended BCP 195 TLS Profile Secure Transport Connection Profile",
            (*_ECDHE_AES_GCM, *_DHE_AES_GCM),
            ssl.TLSVersion.TLSv1_2,
        ),
        # The suites that RFC 9325 4.2 recommends; it advises against DHE (4.1).
        Profile(
            "bcp195-8996",
            "B.12",
            "BCP 195 RFC 8996, 9325 TLS Secure Transport Connection Profile",
            (*_TLS_1_3, *_ECDHE_AES_GCM),
        ),
        Profile(
            "bcp195-8996-mod",
            "B.13",
            "Modified BCP 195 RFC 8996, 9325 TLS Secure Transport Connection Profile",
            (*_TLS_1_3, *_TLS_1_3_CCM, *_ECDHE_AES_GCM, *_ECDHE_CHACHA, *_ECDHE_CCM),
        ),
    )
}
DEFAULT_PROFILE: Final = "bcp195-nd"  # has all that B.12 asks for, and the suites of peers that know only B.10


@dataclass(frozen=True, slots=True)
class TlsInfo:
    """What a TLS connection came to. ``version``: as in "TLSv1.3". ``cipher``: OpenSSL's name of the suite.

    ``certificate``: the peer's, as ``ssl.SSLSocket.getpeercert`` gives it, and ``der``, its bytes: both None unless it
    has shown one and this side has checked it.
    """

    version: str
    cipher: str
    certificate: dict[str, Any] | None
    der: bytes | None


def tls_info(connection: ssl.SSLSocket | ssl.SSLObject) -> TlsInfo:
    """What the handshake of ``connection``, which is over, came to."""
    cipher = connection.cipher()
    certificate = connection.getpeercert() or None  # an empty one: it was not checked
    der = connection.getpeercert(binary_form=True) if certificate else None
    return TlsInfo(connection.version() or "", cipher[0] if cipher else "", certificate, der)


# --- contexts -------------------------------------------------------------------------------------------------------


def client_context(
    profile: str = DEFAULT_PROFILE,
    *,
    ca: PathLike | None = None,
    certificate: PathLike | None = None,
    key: PathLike | None = None,
    password: Password = None,
    crl: PathLike | Sequence[PathLike] = (),
    crl_check: Literal["leaf", "chain"] = "leaf",
    verify: bool = True,
    check_hostname: bool = True,
) -> ssl.SSLContext:
    """A context for ``associate(…, tls=…)``, by a profile of PS3.15 Annex B (see ``PROFILES``).

    ``ca``: who may vouch for servers, a PEM file or a folder that ``openssl rehash`` has seen; None: whom the system
    trusts. ``certificate``, ``key``, ``password``: what this side shows to servers that ask (see ``Credentials``).
    ``crl``: PEM files with revocation lists; ``crl_check``: only who issued the server's certificate has one there, or
    every authority on the way does. ``check_hostname``: the certificate must name the host that was asked for; where
    certificates name AE titles or nothing, this has to be off. ``verify``: False trusts any certificate, to find out
    what is wrong.

    Raises OSError for a file that cannot be read and ValueError, with the remedy, for one that is not right.
    """
    context = _context(ssl.PROTOCOL_TLS_CLIENT, profile)
    if not verify:
        if ca is not None or crl:
            raise ValueError("verify=False checks nothing: leave out ca= and crl=, or verify")
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    else:
        context.check_hostname = check_hostname
        if ca is None:
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        else:
            _trust(context, ca)
        _revoke(context, crl, crl_check)
    if certificate is not None:
        _identify(context, Credentials(certificate, key, password))
    elif key is not None:
        raise ValueError("key= needs the certificate that belongs to it: certificate=")
    return context


def server_context(
    profile: str = DEFAULT_PROFILE,
    *,
    certificate: PathLike,
    key: PathLike | None = None,
    password: Password = None,
    ca: PathLike | None = None,
    crl: PathLike | Sequence[PathLike] = (),
    crl_check: Literal["leaf", "chain"] = "leaf",
    client_auth: Literal["required", "optional", "none"] = "required",
    names: Mapping[str, Credentials] | None = None,
) -> ssl.SSLContext:
    """A context for ``serve(…, tls=…)``, by a profile of PS3.15 Annex B (see ``PROFILES``).

    ``certificate``, ``key``, ``password``: what this side shows (see ``Credentials``). ``ca``: who may vouch for
    clients; ``client_auth``: whether they must, may or need not show a certificate. ``crl``, ``crl_check``: as for
    ``client_context``. ``names``: other credentials for clients that ask for a host by this name (RFC 6066 3); a name
    may start with ``*.``.

    Raises OSError for a file that cannot be read and ValueError, with the remedy, for one that is not right.
    """
    if client_auth not in _CLIENT_AUTH:
        raise ValueError(f"client_auth is {client_auth!r}; there are {', '.join(map(repr, _CLIENT_AUTH))}")
    if client_auth == "none" and (ca is not None or crl):
        raise ValueError("client_auth='none' asks no client for a certificate: leave out ca= and crl=, or client_auth")
    if client_auth != "none" and ca is None:
        raise ValueError(
            f"client_auth={client_auth!r} needs to know who may vouch for clients: ca='hospital-ca.pem';"
            " client_auth='none' serves everybody"
        )

    def context_for(credentials: Credentials) -> ssl.SSLContext:
        context = _context(ssl.PROTOCOL_TLS_SERVER, profile)
        context.verify_mode = _CLIENT_AUTH[client_auth]
        if ca is not None:
            _trust(context, ca)
            _revoke(context, crl, crl_check)
        if any(suite.startswith("DHE-") for suite in PROFILES[profile].suites):
            _allow_dhe(context)
        _identify(context, credentials)
        return context

    context = context_for(Credentials(certificate, key, password))
    if names:
        contexts = {name.lower().rstrip("."): context_for(credentials) for name, credentials in names.items()}

        def choose(connection: ssl.SSLSocket | ssl.SSLObject, name: str | None, _first: ssl.SSLContext) -> None:
            asked_for = (name or "").lower().rstrip(".")
            chosen = contexts.get(asked_for) or contexts.get("*." + asked_for.partition(".")[2])
            if chosen is not None:
                connection.context = chosen

        context.sni_callback = choose
    return context


def missing_suites(profile: str) -> tuple[str, ...]:
    """The cipher suites that a profile names and this Python's ``ssl`` does not offer."""
    offered = {cipher["name"] for cipher in _context(ssl.PROTOCOL_TLS_CLIENT, profile).get_ciphers()}
    return tuple(suite for suite in PROFILES[profile].suites if suite not in offered)


_CLIENT_AUTH: Final = {"required": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL, "none": ssl.CERT_NONE}


def _context(protocol: int, name: str) -> ssl.SSLContext:
    profile = PROFILES.get(name)
    if profile is None:
        raise ValueError(f"there is no TLS profile {name!r}, only {', '.join(PROFILES)}")
    context = ssl.SSLContext(protocol)
    context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1_2, profile.maximum
    # Names of TLS 1.3 are unknown here and passed over: those suites are always on, and switched off by the version.
    context.set_ciphers(":".join(profile.suites) + ":@SECLEVEL=2")
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    return context


def _allow_dhe(context: ssl.SSLContext) -> None:
    """Servers have DHE suites only with parameters, which Python takes from a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "dh.pem")
        with open(path, "w", encoding="ascii") as file:
            file.write(_DH_PARAMETERS)
        context.load_dh_params(path)


def make_test_ca(
    folder: PathLike,
    *,
    hosts: Sequence[str] = ("localhost", "127.0.0.1", "::1"),
    key_type: Literal["ec", "rsa"] = "ec",
    expired: bool = False,
) -> Authority:
    """An authority for tests, in ``folder``, with certificates that are right and wrong in the usual ways.

    ``hosts``: names and addresses that the certificates hold. ``key_type``: of all keys; RSA takes longer to make.
    ``expired``: the authority's own certificate, since yesterday. All else is valid for a month, and good for nothing
    but tests: keys lie around without a password. Needs the package
    cryptography (``pip install 'dicomnet[test]'``); raises ModuleNotFoundError without it, and OSError.
    """
    from dicomnet.certificates import Authority

    return Authority(Path(folder), "test authority", hosts=tuple(hosts), key_type=key_type, expired=expired)


# --- files ----------------------------------------------------------------------------------------------------------


def _trust(context: ssl.SSLContext, ca: PathLike) -> None:
    """``ca`` may vouch for peers, each certificate in it for itself: it need not be a root."""
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if os.path.isdir(ca):
        if not any(re.fullmatch(r"[0-9a-f]{8}\.\d+", entry) for entry in os.listdir(ca)):
            raise ValueError(f"{ca} has no certificates that OpenSSL could find: run 'openssl rehash {ca}'")
        context.load_verify_locations(capath=ca)
        return
    _require_pem(ca, "CERTIFICATE", "certificate")
    with _reading(ca):
        context.load_verify_locations(cafile=ca)
    authorities = context.get_ca_certs()
    expired = [one for one in authorities if ssl.cert_time_to_seconds(str(one["notAfter"])) < time.time()]
    if authorities and len(expired) == len(authorities):
        raise ValueError(f"{ca} has expired on {expired[0]['notAfter']}: ask the authority for its present certificate")


def _revoke(context: ssl.SSLContext, crl: PathLike | Sequence[PathLike], check: str) -> None:
    if check not in _CRL_CHECKS:
        raise ValueError(f"crl_check is {check!r}; there are {', '.join(map(repr, _CRL_CHECKS))}")
    files: Iterable[PathLike] = [crl] if isinstance(crl, str | os.PathLike) else crl
    for file in files:
        _require_pem(file, "X509 CRL", "revocation list", form="crl")
        with _reading(file):
            context.load_verify_locations(cafile=file)
        context.verify_flags |= _CRL_CHECKS[check]


_CRL_CHECKS: Final = {"leaf": ssl.VERIFY_CRL_CHECK_LEAF, "chain": ssl.VERIFY_CRL_CHECK_CHAIN}


def _identify(context: ssl.SSLContext, credentials: Credentials) -> None:
    certificate, password = credentials.certificate, credentials.password
    key = certificate if credentials.key is None else credentials.key
    _require_pem(certificate, "CERTIFICATE", "certificate")
    if credentials.key is None and not any(kind.endswith("PRIVATE KEY") for kind in _kinds(certificate)):
        raise ValueError(f"{certificate} has a certificate without its private key: name the key's file, key=")
    _require_pem(key, "PRIVATE KEY", "private key", form="pkey")
    asked = False

    def give() -> str | bytes:
        nonlocal asked
        asked = True
        return (password() if callable(password) else password) or b""

    try:
        context.load_cert_chain(certificate, key, give)  # without a function OpenSSL would ask the terminal
    except ssl.SSLError as error:
        raise ValueError(_wrong(error, credentials, key, encrypted=asked)) from error


def _wrong(error: ssl.SSLError, credentials: Credentials, key: PathLike, *, encrypted: bool) -> str:
    reason = error.reason or ""
    if reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"):
        return f"the private key in {key} does not belong to the certificate in {credentials.certificate}"
    if reason in ("EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK"):
        return (
            f"{credentials.certificate}: {reason.lower().replace('_', ' ')}: certificates need RSA keys of 2048 bits"
            " or more, or elliptic curves, and SHA-256 or better (PS3.15 B, RFC 9325 4.5)"
        )
    if encrypted and credentials.password is None:
        return f"the private key in {key} is encrypted: give its password"
    if encrypted:
        return f"the password for the private key in {key} is wrong"
    return f"{credentials.certificate} with {key}: not a certificate with its key in PEM form: {error}"


@contextlib.contextmanager
def _reading(path: PathLike) -> Iterator[None]:
    try:
        yield
    except ssl.SSLError as error:
        raise ValueError(f"{path}: damaged PEM: {error.reason or error}") from error


def _kinds(path: PathLike) -> list[str]:
    """What a PEM file says it holds."""
    return [kind.decode() for kind in re.findall(rb"-----BEGIN ([A-Z0-9 ]+)-----", Path(path).read_bytes())]


def _require_pem(path: PathLike, kind: str, noun: str, *, form: str = "x509") -> None:
    """Raise OSError if ``path`` cannot be read and ValueError if it holds nothing of this kind."""
    kinds = _kinds(path)
    if any(found.endswith(kind) for found in kinds):
        return
    if kinds:
        raise ValueError(f"{path} holds {', '.join(dict.fromkeys(kinds))}, but no {noun}: wrong file?")
    if str(path).lower().endswith((".p12", ".pfx")):
        remedy = f"it looks like PKCS #12: 'openssl pkcs12 -in {path} -out {path}.pem' takes out what is in it"
    elif Path(path).read_bytes()[:1] == b"\x30":  # a DER sequence
        remedy = f"it looks like DER: 'openssl {form} -inform der -in {path} -out {path}.pem' converts it"
    else:
        remedy = "a PEM file has a line -----BEGIN …-----"
    raise ValueError(f"{path} holds no {noun} in PEM form: {remedy}")
