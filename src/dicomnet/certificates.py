"""Certificates for tests, by the package cryptography, which nothing else of dicomnet needs."""

from __future__ import annotations

import datetime
import ipaddress
import os
from functools import cached_property
from pathlib import Path
from typing import Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from dicomnet.credentials import Credentials

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

PASSWORD: Final = "swordfish"
_DAYS: Final = 30  # that all is valid
_A_DAY: Final = datetime.timedelta(days=1)  # clocks differ
_PEM: Final = serialization.Encoding.PEM
_BINARY: Final = getattr(os, "O_BINARY", 0)  # Windows


class Authority:
    """Who issues certificates, with its files in ``folder``; made by ``dicomnet.tls.make_test_ca``.

    ``certificate``: its own, for those who trust it (``ca=``). ``crl``: the list of certificates that it has revoked.
    Credentials are made when they are asked for: ``server`` and ``client``, ``expired``, ``revoked`` (on the list from
    then on), ``encrypted`` (with a password), and ``chained``, issued by ``intermediate``, an authority below this one.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        *,
        hosts: tuple[str, ...],
        key_type: Literal["ec", "rsa"],
        above: Authority | None = None,
        expired: bool = False,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.name, self._hosts, self._key_type = folder, name, hosts, key_type
        self._key = _new_key(key_type)
        self._issuer = above
        self._revoked: list[int] = []
        usage = _usage(key_cert_sign=True, crl_sign=True)
        builder = _builder(name, self._key, above or self, expired=expired).add_extension(usage, critical=True)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self._x509 = builder.sign((above or self)._key, hashes.SHA256())
        self.certificate = self._write(f"{name}.pem", self._x509.public_bytes(_PEM))
        self.crl = self._write_crl()

    @cached_property
    def server(self) -> Credentials:
        return self.issue("server")

    @cached_property
    def client(self) -> Credentials:
        return self.issue("client")

    @cached_property
    def expired(self) -> Credentials:
        return self.issue("expired", expired=True)

    @cached_property
    def encrypted(self) -> Credentials:
        return self.issue("encrypted", password=PASSWORD)

    @cached_property
    def revoked(self) -> Credentials:
        credentials = self.issue("revoked")
        self.revoke(credentials)
        return credentials

    @cached_property
    def intermediate(self) -> Authority:
        folder = self.folder / "intermediate"
        return Authority(folder, "intermediate", hosts=self._hosts, key_type=self._key_type, above=self)

    @cached_property
    def chained(self) -> Credentials:
        return self.intermediate.issue("chained")

    def issue(
        self,
        name: str,
        *,
        hosts: tuple[str, ...] | None = None,
        expired: bool = False,
        password: str | None = None,
        key: Key | None = None,
    ) -> Credentials:
        """A certificate whose common name is ``name``, for a server (of ``hosts``; None: the usual) or a client.

        ``expired``: since yesterday. ``password``: the key's. ``key``: another one than a new one of the usual type.
        """
        key = key or _new_key(self._key_type)
        builder = _builder(name, key, self, expired=expired)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        is_rsa = isinstance(key, rsa.RSAPrivateKey)
        builder = builder.add_extension(_usage(digital_signature=True, key_encipherment=is_rsa), critical=True)
        purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        if alternatives := [_alternative(host) for host in (self._hosts if hosts is None else hosts)]:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        chain = [builder.sign(self._key, hashes.SHA256())]
        if self._issuer is not None:
            chain.append(self._x509)
        encryption = (
            serialization.BestAvailableEncryption(password.encode()) if password else serialization.NoEncryption()
        )
        private = key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, encryption)
        return Credentials(
            self._write(f"{name}.pem", b"".join(one.public_bytes(_PEM) for one in chain)),
            self._write(f"{name}.key", private),
            password,
        )

    def revoke(self, credentials: Credentials) -> None:
        """Put a certificate of this authority on its list, ``crl``, which is written anew."""
        data = Path(credentials.certificate).read_bytes()
        self._revoked.append(x509.load_pem_x509_certificate(data).serial_number)
        self.crl = self._write_crl()

    def _write_crl(self) -> Path:
        now = datetime.datetime.now(datetime.UTC)
        since = now - _A_DAY + datetime.timedelta(seconds=len(self._revoked))  # the newest list counts
        builder = x509.CertificateRevocationListBuilder(_name(self.name), since, now + _DAYS * _A_DAY)
        builder = builder.add_extension(x509.CRLNumber(len(self._revoked) + 1), critical=False)
        above = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = builder.add_extension(above, critical=False)
        for serial_number in self._revoked:
            entry = x509.RevokedCertificateBuilder(serial_number, now - _A_DAY).build()
            builder = builder.add_revoked_certificate(entry)
        return self._write(f"{self.name}.crl", builder.sign(self._key, hashes.SHA256()).public_bytes(_PEM))

    def _write(self, name: str, data: bytes) -> Path:
        path = self.folder / name.replace(" ", "-")
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _BINARY, 0o600), "wb") as file:
            file.write(data)
        return path


def _new_key(key_type: str) -> Key:
    if key_type == "rsa":
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return ec.generate_private_key(ec.SECP256R1())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _builder(name: str, key: Key, issuer: Authority, *, expired: bool) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    until = now - _A_DAY if expired else now + _DAYS * _A_DAY
    above = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer._key.public_key())
    return (
        x509.CertificateBuilder(_name(issuer.name), _name(name), key.public_key(), x509.random_serial_number())
        .not_valid_before(until - 2 * _DAYS * _A_DAY)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(above, critical=False)
    )


def _usage(
    *,
    digital_signature: bool = False,
    key_encipherment: bool = False,
    key_cert_sign: bool = False,
    crl_sign: bool = False,
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=key_encipherment,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )
