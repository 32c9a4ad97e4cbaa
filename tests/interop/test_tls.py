"""DICOM over TLS (PS3.15 B) with DCMTK and pynetdicom in both roles, and their certificates on both sides."""

import datetime
import ipaddress
import ssl
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

import dicomnet
from tests.interop import corpus, peers
from tests.interop.corpus import instances
from tests.interop.peers import HOST, Tool

# From one PDU to many TLS records
NAMES = ["CT_small.dcm", "MR_small_RLE.dcm", "examples_overlay.dcm", "JPEG2000.dcm", "waveform_ecg.dcm"]


@dataclass(frozen=True)
class Credentials:
    """Files in PEM: the authority's certificate, and a key with a certificate of its own that the authority signed."""

    authority: Path
    key: Path
    certificate: Path

    def client(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.authority)
        context.load_cert_chain(self.certificate, self.key)
        return context

    def server(self, verify: ssl.VerifyMode = ssl.CERT_REQUIRED) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self.authority)
        context.load_cert_chain(self.certificate, self.key)
        context.verify_mode = verify
        return context

    def options(self) -> list[Any]:
        """For DCMTK's programs."""
        return ["+tls", self.key, self.certificate, "+cf", self.authority]


def _certificate(subject: str, key: Any, issuer: str, issuer_key: Any, *, ca: bool) -> x509.Certificate:
    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name(issuer), name(subject), key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(days=1))
    builder = builder.not_valid_after(now + datetime.timedelta(days=1))
    builder = builder.add_extension(x509.BasicConstraints(ca, None), critical=True)
    # digital signature, content commitment, key and data encipherment, key agreement, certificate and CRL signing, …
    usage = x509.KeyUsage(not ca, False, not ca, False, False, ca, ca, False, False)  # Python 3.13 insists on it
    builder = builder.add_extension(usage, critical=True)
    address = x509.IPAddress(ipaddress.ip_address(HOST))
    builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    builder = builder.add_extension(identifier, critical=False)
    own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return builder.add_extension(own, critical=False).sign(issuer_key, hashes.SHA256())


def _make(folder: Path, subject: str) -> Credentials:
    folder.mkdir()
    authority_key, key = (rsa.generate_private_key(65537, 2048) for _ in range(2))
    made = Credentials(folder / "authority.pem", folder / "key.pem", folder / "certificate.pem")
    pem = serialization.Encoding.PEM
    authority = _certificate("authority", authority_key, "authority", authority_key, ca=True)
    made.authority.write_bytes(authority.public_bytes(pem))
    certificate = _certificate(subject, key, "authority", authority_key, ca=False)
    made.certificate.write_bytes(certificate.public_bytes(pem))
    made.key.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
    )
    return made


@pytest.fixture(scope="module")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> Credentials:
    return _make(tmp_path_factory.mktemp("tls") / "ours", "a modality")


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Credentials:
    """Credentials from an authority that nobody else trusts."""
    return _make(tmp_path_factory.mktemp("tls") / "theirs", "a stranger")


# --- DCMTK ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("server", [peers.storescp, peers.dcmrecv], ids=lambda server: server.__name__)
def test_dicomnet_to_dcmtk(dcmtk: Tool, folder: Path, credentials: Credentials, server: Any) -> None:
    """PS3.15 B.12: with certificates on both sides, byte for byte."""
    with server(dcmtk, folder, *credentials.options()) as program:
        outcomes = peers.dicomnet_send(program.port, NAMES, tls=credentials.client())
    assert outcomes == dict.fromkeys(NAMES, "")
    assert Counter(program.stored) == Counter(instances()[name] for name in NAMES)


def test_dcmtk_to_dicomnet(dcmtk: Tool, tmp_path: Path, credentials: Credentials) -> None:
    """PS3.15 B.12: with certificates on both sides; ours sees theirs. (DCMTK 3.6.7's dcmsend has no TLS.)"""
    tls = credentials.options()
    proposing = ["-xf", peers.profiles(tmp_path), "SCU"]
    files = [corpus.FOLDER / name for name in NAMES]
    with peers.dicomnet_receiver(tls=credentials.server()) as receiver:
        echo = peers.run(dcmtk("echoscu"), *tls, HOST, receiver.port)
        send = peers.run(dcmtk("storescu"), *proposing, *tls, HOST, receiver.port, *files)
    assert (echo.returncode, send.returncode) == (0, 0), echo.stdout + send.stdout
    assert [one.sop_instance_uid for one in receiver.arrived] == [instances()[name].sop_instance_uid for name in NAMES]
    assert [association.error for association in receiver.associations] == [None, None]
    for association in receiver.associations:
        assert association.certificate["subject"] == ((("commonName", "a modality"),),)


def test_a_dcmtk_client_without_certificate(dcmtk: Tool, credentials: Credentials) -> None:
    """PS3.15 B.12: it is served where the server does not ask for one, and only there."""
    anonymous = ["+tla", "+cf", credentials.authority]
    with peers.dicomnet_receiver(tls=credentials.server(ssl.CERT_NONE)) as receiver:
        done = peers.run(dcmtk("echoscu"), *anonymous, HOST, receiver.port)
    assert done.returncode == 0, done.stdout
    assert [association.certificate for association in receiver.associations] == [None]
    with peers.dicomnet_receiver(tls=credentials.server()) as receiver:
        done = peers.run(dcmtk("echoscu"), *anonymous, HOST, receiver.port)
        assert done.returncode != 0
        assert peers.run(dcmtk("echoscu"), *credentials.options(), HOST, receiver.port).returncode == 0
    assert [association.error for association in receiver.associations] == [None]


def test_strangers_and_dcmtk(dcmtk: Tool, folder: Path, credentials: Credentials, strangers: Credentials) -> None:
    """PS3.15 B.12: no association with who has a certificate of another authority, on either side."""
    with peers.storescp(dcmtk, folder, *credentials.options()) as program:
        with pytest.raises(dicomnet.TransportError):
            dicomnet.associate(f"PEER@{HOST}:{program.port}", tls=strangers.client())
        with dicomnet.associate(f"PEER@{HOST}:{program.port}", tls=credentials.client()) as assoc:
            assert assoc.c_echo().status == 0
    with peers.dicomnet_receiver(tls=credentials.server()) as receiver:
        assert peers.run(dcmtk("echoscu"), *strangers.options(), HOST, receiver.port).returncode != 0
        assert peers.run(dcmtk("echoscu"), *credentials.options(), HOST, receiver.port).returncode == 0
    assert [association.error for association in receiver.associations] == [None]


def test_plain_meets_tls(dcmtk: Tool, folder: Path, credentials: Credentials) -> None:
    """W1: neither side hangs, and the server goes on."""
    with peers.storescp(dcmtk, folder) as program:
        with pytest.raises(dicomnet.TransportError):
            dicomnet.associate(f"PEER@{HOST}:{program.port}", tls=credentials.client())
        with dicomnet.associate(f"PEER@{HOST}:{program.port}") as assoc:
            assert assoc.c_echo().status == 0
    with peers.dicomnet_receiver() as receiver:
        assert peers.run(dcmtk("echoscu"), *credentials.options(), HOST, receiver.port).returncode != 0
        assert peers.run(dcmtk("echoscu"), HOST, receiver.port).returncode == 0
    with peers.dicomnet_receiver(tls=credentials.server()) as receiver:
        assert peers.run(dcmtk("echoscu"), HOST, receiver.port).returncode != 0
        assert peers.run(dcmtk("echoscu"), *credentials.options(), HOST, receiver.port).returncode == 0


# --- pynetdicom -----------------------------------------------------------------------------------------------------


def test_dicomnet_to_pynetdicom(pynetdicom: ModuleType, credentials: Credentials) -> None:
    """PS3.15 B.12."""
    with peers.pynetdicom_receiver(pynetdicom, ssl_context=credentials.server()) as receiver:
        outcomes = peers.dicomnet_send(receiver.port, NAMES, tls=credentials.client())
    assert outcomes == dict.fromkeys(NAMES, "")
    assert receiver.arrived == [instances()[name] for name in NAMES]


def test_pynetdicom_to_dicomnet(pynetdicom: ModuleType, credentials: Credentials) -> None:
    """PS3.15 B.12."""
    with peers.dicomnet_receiver(tls=credentials.server()) as receiver:
        tls = (credentials.client(), HOST)
        outcomes = peers.pynetdicom_send(pynetdicom, receiver.port, NAMES, raw=True, tls_args=tls)
    assert outcomes == dict.fromkeys(NAMES, "")
    assert receiver.arrived == [instances()[name] for name in NAMES]
    (association,) = receiver.associations
    assert association.error is None
    assert association.certificate["subject"] == ((("commonName", "a modality"),),)


def test_strangers_and_pynetdicom(pynetdicom: ModuleType, credentials: Credentials, strangers: Credentials) -> None:
    """PS3.15 B.12: no association with who has a certificate of another authority, on either side."""
    with (
        peers.pynetdicom_receiver(pynetdicom, ssl_context=credentials.server()) as receiver,
        pytest.raises(dicomnet.TransportError),
    ):
        dicomnet.associate(f"PEER@{HOST}:{receiver.port}", tls=strangers.client())
    with peers.dicomnet_receiver(tls=credentials.server()) as receiver:
        assoc = peers.pynetdicom_associate(pynetdicom, receiver.port, tls_args=(strangers.client(), HOST))
        assert not assoc.is_established
