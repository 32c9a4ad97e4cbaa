"""TLS of a peer (PS3.15 Annex B): versions, suite, certificate, trust, and whether it wants a certificate of ours.

One idea: each question is one handshake with a context that can only answer it. None of these contexts is used to
carry anything but the question.
"""

from __future__ import annotations

import hashlib
import ipaddress
import ssl
import time
import warnings
from collections.abc import Mapping
from typing import Any, Final

from dicomnet import transport
from dicomnet.config import Peer, Timeouts
from dicomnet.errors import AssociationRejected, DeadlineExceeded, TransportError
from dicomnet.probe.calls import Caller
from dicomnet.probe.causes import Kind, detail_of, kind_of
from dicomnet.probe.report import Attempt, Certificate, Security
from dicomnet.tls import TlsInfo
from dicomnet.transport import TlsTransport
from dicomnet.ul.pdu import AssociateRq

_VERSIONS: Final = {
    "TLSv1": ssl.TLSVersion.TLSv1,
    "TLSv1.1": ssl.TLSVersion.TLSv1_1,
    "TLSv1.2": ssl.TLSVersion.TLSv1_2,
    "TLSv1.3": ssl.TLSVersion.TLSv1_3,
}
_ANY_SUITE: Final = "ALL:@SECLEVEL=0"  # also what nobody should use any more: whether it is there is the question
_NO_CHECK_TIME: Final = 0x200000  # X509_V_FLAG_NO_CHECK_TIME: an expired certificate is to be read as well
# What OpenSSL says if it is this side that has not got the version, or may not use it.
_NOT_HERE: Final = ("NO_PROTOCOLS_AVAILABLE", "NO_CIPHERS_AVAILABLE")
# What a server says in TLS 1.2 to who shows no certificate, and some to who offers what they have not got.
_AMBIGUOUS: Final = "ALERT_HANDSHAKE_FAILURE"


def anything_goes(version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    """A context that trusts anything and takes any suite, for looking at a peer and for nothing else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers(_ANY_SUITE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # old versions are what is asked about
        context.minimum_version = version or ssl.TLSVersion.TLSv1
        if version is not None:
            context.maximum_version = version
    return context


def examine(peer: Peer, timeouts: Timeouts, tls: ssl.SSLContext | None, authority: str, rq: AssociateRq) -> Security:
    """What TLS comes to. ``tls``: what the user set, None for what the system trusts; ``authority``: who that is.

    ``rq``: what to ask without a certificate, to see whether one is wanted.
    """
    versions = tuple((name, _takes(peer, timeouts, version)) for name, version in _VERSIONS.items())
    link = _shake(peer, timeouts, anything_goes())
    if not isinstance(link, TlsTransport):
        refused = kind_of(link, associated=False) is Kind.WANTS_CERTIFICATE
        return Security(versions, wants_certificate=True if refused else None, problem=detail_of(link))
    info, der = link.tls_info, link.tls.getpeercert(binary_form=True)
    link.close()
    trusted, distrust = _trusts(peer, timeouts, tls)
    certificate = None if der is None else _read(peer, timeouts, der)
    wants = _wants_certificate(Caller(peer, timeouts, anything_goes()).call(rq))
    return Security(versions, info.version, info.cipher, certificate, trusted, authority, distrust, wants)


def _wants_certificate(attempt: Attempt) -> bool | None:
    """In TLS 1.3 a server says so only after the handshake; one that answers as DICOM wants none."""
    if attempt.error is None or isinstance(attempt.error, AssociationRejected):
        return False
    return True if kind_of(attempt.error, associated=False) is Kind.WANTS_CERTIFICATE else None


def _shake(peer: Peer, timeouts: Timeouts, context: ssl.SSLContext) -> TlsTransport | TransportError | DeadlineExceeded:
    try:
        sock = transport.connect(peer.host, peer.port, timeouts.connect)
        return transport.secure(sock, context, timeouts.tls, server_side=False, server_hostname=peer.host)
    except (TransportError, DeadlineExceeded) as error:
        return error


def _takes(peer: Peer, timeouts: Timeouts, version: ssl.TLSVersion) -> bool | None:
    """None: this side cannot try it, or the peer refuses for a reason that may be another (a certificate of ours)."""
    if not getattr(ssl, f"HAS_{version.name}", True):
        return None
    link = _shake(peer, timeouts, anything_goes(version))
    if isinstance(link, TlsTransport):
        link.close()
        return True
    cause = link.__cause__
    reason = (cause.reason or "") if isinstance(cause, ssl.SSLError) else ""
    if reason in _NOT_HERE or reason.endswith(_AMBIGUOUS):
        return None
    return kind_of(link, associated=False) is Kind.WANTS_CERTIFICATE


def _trusts(peer: Peer, timeouts: Timeouts, tls: ssl.SSLContext | None) -> tuple[bool | None, str]:
    from dicomnet.tls import client_context

    if tls is not None and tls.verify_mode is ssl.CERT_NONE:
        return None, "not checked, as was asked for"
    link = _shake(peer, timeouts, client_context() if tls is None else tls)
    if isinstance(link, TlsTransport):
        link.close()
        return True, ""
    kind = kind_of(link, associated=False)
    if kind is Kind.OTHER_HOST:
        return True, detail_of(link)
    return (False if kind is Kind.UNTRUSTED else None), detail_of(link)


# --- the certificate ------------------------------------------------------------------------------------------------


def _read(peer: Peer, timeouts: Timeouts, der: bytes) -> Certificate | None:
    """Python tells what is in a certificate only if it was verified: so it is, by itself."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.set_ciphers(_ANY_SUITE)
    context.verify_flags = ssl.VerifyFlags(ssl.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME)
    try:
        context.load_verify_locations(cadata=der)
    except ssl.SSLError:
        return None
    link = _shake(peer, timeouts, context)
    if not isinstance(link, TlsTransport):
        return None
    info: TlsInfo = link.tls_info
    link.close()
    return None if info.certificate is None else _certificate(info.certificate, der, peer.host)


def _certificate(fields: Mapping[str, Any], der: bytes, host: str) -> Certificate:
    names = tuple(f"{kind}:{value}" for kind, value in fields.get("subjectAltName", ()))
    begins, ends = str(fields.get("notBefore", "")), str(fields.get("notAfter", ""))
    return Certificate(
        subject=_name(fields.get("subject", ())),
        issuer=_name(fields.get("issuer", ())),
        names=names,
        begins=begins,
        ends=ends,
        sha256=hashlib.sha256(der).hexdigest(),
        names_host=any(_names(name, host) for name in names),
        is_valid_now=_is_valid(begins, ends, time.time()),
    )


def _name(parts: Any) -> str:
    """A distinguished name in one line."""
    return ", ".join(f"{key}={value}" for part in parts for key, value in part)


def _is_valid(begins: str, ends: str, now: float) -> bool:
    try:
        return ssl.cert_time_to_seconds(begins) <= now <= ssl.cert_time_to_seconds(ends)
    except ValueError:
        return False


def _names(name: str, host: str) -> bool:
    """Whether a subject alternative name is that of ``host`` (RFC 6125 6.4): the same, or one label for a ``*``."""
    kind, _, value = name.partition(":")
    host = host.partition("%")[0].rstrip(".").lower()
    if kind == "IP Address":
        try:
            return ipaddress.ip_address(value.strip()) == ipaddress.ip_address(host)
        except ValueError:
            return False
    value = value.lower()
    if value.startswith("*."):
        return host.partition(".")[2] == value[2:]
    return kind == "DNS" and value == host
