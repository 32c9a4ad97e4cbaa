"""TLS as ssl.SSLContext in and out (PS3.15 B, N-37), with certificates made here."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import dicomnet
from tests.faces.conftest import QUICK, Scp, ct, eventually, quick
from tests.faces.face import Face
from tests.faces.wire import ABORT, AC, CT, EXPLICIT, OFFER, RQ, Scripted, Wire, encoded, patient_data

MakeScp = Callable[..., Scp]
CONTEXTS = [dicomnet.Verification, (CT, [EXPLICIT])]


@dataclass(frozen=True)
class Issued:
    """A certificate with its key, in files; ``authority``: the file of who issued it."""

    certificate: str
    key: str
    authority: str


@pytest.fixture(scope="module")
def issue(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Issued]:
    """``issue(name)``: a certificate for localhost and 127.0.0.1, by an authority made for these tests."""
    folder = tmp_path_factory.mktemp("certificates")
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority = _certificate("the authority", authority_key, authority_key, is_authority=True, names=[])
    (folder / "authority.pem").write_bytes(authority.public_bytes(serialization.Encoding.PEM))

    def issue(name: str, *, addresses: bool = True) -> Issued:
        names: list[x509.GeneralName] = [x509.DNSName("localhost")]
        if addresses:
            names.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _certificate(name, key, authority_key, is_authority=False, names=names)
        (folder / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        plain = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        (folder / f"{name}.key").write_bytes(key.private_bytes(*plain))
        return Issued(*(str(folder / file) for file in (f"{name}.pem", f"{name}.key", "authority.pem")))

    return issue


_KEY_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


def _certificate(
    name: str, key: Any, issuer_key: Any, *, is_authority: bool, names: list[x509.GeneralName]
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "the authority")]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if is_authority:  # Python 3.13 insists on it
        usage = dict.fromkeys(_KEY_USAGES, False) | {"key_cert_sign": True, "crl_sign": True}
        builder = builder.add_extension(x509.KeyUsage(**usage), critical=True)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


@pytest.fixture(scope="module")
def server_tls(issue: Callable[..., Issued]) -> ssl.SSLContext:
    return server_context(issue("server"))


@pytest.fixture(scope="module")
def client_tls(issue: Callable[..., Issued]) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=issue("nobody").authority)


def server_context(issued: Issued, *, mutual: bool = False) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=issued.authority)
    context.load_cert_chain(issued.certificate, issued.key)
    if mutual:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


# --- what works -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_an_association_through_tls(
    client: Face, scp: MakeScp, server_tls: ssl.SSLContext, issue: Callable[..., Issued], version: ssl.TLSVersion
) -> None:
    """N-37: 1.2 and 1.3; a data set of many records arrives, the release is orderly on both sides."""
    context = ssl.create_default_context(cafile=issue("nobody").authority)
    context.minimum_version = context.maximum_version = version
    acceptor = scp(tls=server_tls)
    data = bytes(range(256)) * 8192
    with client.associate(acceptor.peer, contexts=CONTEXTS, tls=context) as association:
        assert association.c_echo().status == 0
        assert association.c_store(ct(data)).status == 0
    assert acceptor.received == [data]
    assert acceptor.close_errors(1) == [None]
    assert acceptor.requests[0].association.certificate is None


def test_a_clients_certificate_is_there_for_handlers(client: Face, scp: MakeScp, issue: Callable[..., Issued]) -> None:
    """The API, §2: mutual TLS."""
    acceptor = scp(tls=server_context(issue("server"), mutual=True))
    ours = issue("modality 7")
    context = ssl.create_default_context(cafile=ours.authority)
    context.load_cert_chain(ours.certificate, ours.key)
    with client.associate(acceptor.peer, contexts=CONTEXTS, tls=context) as association:
        association.c_store(ct(patient_data()))
    certificate = acceptor.requests[0].association.certificate
    assert certificate["subject"] == ((("commonName", "modality 7"),),)


def test_an_abort_through_tls_is_heard(
    client: Face, scp: MakeScp, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    """PS3.8 7.3: both ways."""
    acceptor = scp(tls=server_tls)
    client.associate(acceptor.peer, tls=client_tls).abort()
    assert isinstance(acceptor.close_errors(1)[0], dicomnet.AssociationAborted)

    def script(wire: Wire) -> None:
        wire.socket = server_tls.wrap_socket(wire.socket, server_side=True)
        wire.hears()
        wire.sends(AC)
        wire.hears()
        wire.sends(ABORT)

    with Scripted(script) as server:
        association = client.associate(server.peer, contexts=OFFER, tls=client_tls)
        with pytest.raises(dicomnet.AssociationAborted):
            association.c_echo()


def test_threads_share_an_association_through_tls(
    client: Face, scp: MakeScp, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    """The API, §1: with a window one thread writes while another reads."""
    acceptor = scp(tls=server_tls, async_ops=(4, 4))
    datas = [bytes((number,)) * 200_000 for number in range(16)]
    statuses: list[int] = []
    with client.associate(acceptor.peer, contexts=CONTEXTS, tls=client_tls, async_ops=(4, 1)) as association:

        def store(some: list[bytes]) -> None:
            statuses.extend(association.c_store(ct(data)).status for data in some)

        threads = [threading.Thread(target=store, args=(datas[start::4],)) for start in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert statuses == [0] * 16
    assert sorted(acceptor.received) == sorted(datas)


# --- what does not --------------------------------------------------------------------------------------------------


def test_a_tls_client_at_a_clear_text_server(client: Face, scp: MakeScp, client_tls: ssl.SSLContext) -> None:
    """W1: TLS bytes are no PDU; the requestor gets a TransportError, a fresh association works."""
    acceptor = scp()
    with pytest.raises(dicomnet.TransportError, match="TLS"):
        client.associate(acceptor.peer, tls=client_tls)
    with client.associate(acceptor.peer) as association:
        assert association.c_echo().status == 0


def test_a_clear_text_client_at_a_tls_server(
    client: Face, scp: MakeScp, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    """The requestor is told that something is wrong; a fresh association works."""
    acceptor = scp(tls=server_tls)
    with pytest.raises((dicomnet.TransportError, dicomnet.RemoteProtocolError)):
        client.associate(acceptor.peer)
    with client.associate(acceptor.peer, tls=client_tls) as association:
        assert association.c_echo().status == 0


def test_a_certificate_that_nobody_trusts(client: Face, scp: MakeScp, server_tls: ssl.SSLContext) -> None:
    """TransportError; the SSLError is its cause."""
    with pytest.raises(dicomnet.TransportError, match="TLS") as caught:
        client.associate(scp(tls=server_tls).peer, tls=ssl.create_default_context())
    assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)


def test_a_certificate_for_another_host(
    client: Face, scp: MakeScp, issue: Callable[..., Issued], client_tls: ssl.SSLContext
) -> None:
    """The host of the peer is the name that its certificate must have."""
    port = scp(tls=server_context(issue("localhost only", addresses=False))).port
    with client.associate(f"SCP@localhost:{port}", tls=client_tls) as association:
        association.c_echo()
    with pytest.raises(dicomnet.TransportError, match="TLS"):
        client.associate(f"SCP@127.0.0.1:{port}", tls=client_tls)


def test_a_client_without_a_certificate_where_one_is_required(
    client: Face, scp: MakeScp, issue: Callable[..., Issued], client_tls: ssl.SSLContext
) -> None:
    """Mutual TLS; in TLS 1.3 the requestor learns it only after its handshake."""
    acceptor = scp(tls=server_context(issue("server"), mutual=True))
    with pytest.raises(dicomnet.TransportError):
        client.associate(acceptor.peer, tls=client_tls)
    assert acceptor.closed == []


def test_the_time_for_the_handshake_as_a_requestor(client: Face, client_tls: ssl.SSLContext) -> None:
    """Timeouts.tls."""

    with Scripted(Wire.hears_raw) as server, pytest.raises(dicomnet.DeadlineExceeded) as caught:
        client.associate(server.peer, tls=client_tls, timeouts=quick("tls"))
    assert (caught.value.timer, caught.value.seconds) == ("tls", QUICK)


def test_the_time_for_the_handshake_is_absolute(
    scp: MakeScp, server_tls: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    """Timeouts.tls, N6: bytes that drip in do not extend it; one line in the log says so."""
    acceptor = scp(tls=server_tls, timeouts=quick("tls"))
    with Wire.to(acceptor.port) as wire:
        for byte in b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03" + bytes(0x3FFA):
            if not wire.is_quiet_for(0.01) or not wire.tries_to_send(bytes((byte,))):
                break
        assert wire.reads(1) == b""
    eventually(lambda: caplog.records, "there is a line")
    (record,) = [record for record in caplog.records if "'tls'" in record.getMessage()]
    assert wire.address in record.getMessage()
    assert record.exc_info is None


def test_a_stalled_handshake_does_not_block_others(
    client: Face, scp: MakeScp, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    """N4: each handshake waits for itself."""
    acceptor = scp(tls=server_tls)
    with Wire.to(acceptor.port), Wire.to(acceptor.port).sends(b"\x16\x03"):
        for _ in range(3):
            with client.associate(acceptor.peer, tls=client_tls) as association:
                assert association.c_echo().status == 0


def test_a_stalled_handshake_does_not_hold_up_close(scp: MakeScp, server_tls: ssl.SSLContext) -> None:
    """Server.close: there is nothing to drain."""
    acceptor = scp(tls=server_tls, timeouts=dicomnet.Timeouts(tls=None))
    with Wire.to(acceptor.port).sends(b"\x16\x03") as wire:
        with Wire.to(acceptor.port).sends(RQ) as later:
            later.hears_raw()  # it has been served, so the one before it is being served
        acceptor.server.close()
        assert wire.reads(1) == b""


def test_a_handshake_that_fails_leaves_one_line(
    scp: MakeScp, server_tls: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    """§4: peer and reason, no traceback."""
    acceptor = scp(tls=server_tls)
    with Wire.to(acceptor.port).sends(encoded(RQ)) as wire:
        wire.hears_raw()
    eventually(lambda: caplog.records, "there is a line")
    (record,) = caplog.records
    assert wire.address in record.getMessage()
    assert "TLS" in record.getMessage()
    assert record.exc_info is None


def test_a_server_that_stops_in_a_handshake_frees_its_port(
    scp: MakeScp, server_tls: ssl.SSLContext, tmp_path: Path
) -> None:
    """A second server may listen there at once."""
    acceptor = scp(tls=server_tls)
    port = acceptor.port
    with Wire.to(port):
        acceptor.server.close()
    with dicomnet.serve(acceptor.ae, "127.0.0.1", port, tls=server_tls) as again:
        assert again.port == port


# --- TLS and clear text on one port ---------------------------------------------------------------------------------


def test_peers_with_and_without_tls_share_a_port(
    client: Face, scp: MakeScp, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    """PS3.15 B.12 advises against it; who asks for it gets it, and handlers see which is which."""
    acceptor = scp(tls=server_tls, clear_text=True)
    seen: list[str | None] = []
    acceptor.ae.on_association(lambda association: seen.append(association.tls and association.tls.version))
    for context in (None, client_tls, None):
        with client.associate(acceptor.peer, contexts=CONTEXTS, tls=context) as association:
            assert association.c_store(ct(patient_data())).status == 0
    assert seen == [None, "TLSv1.3", None]
    assert acceptor.close_errors(3) == [None] * 3


def test_what_is_neither_tls_nor_dicom_is_closed(
    scp: MakeScp, server_tls: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    """By its first byte; one line in the log."""
    acceptor = scp(tls=server_tls, clear_text=True)
    with Wire.to(acceptor.port).sends(b"GET / HTTP/1.1") as wire:
        assert wire.hears_raw() == b""
    eventually(lambda: caplog.records, "there is a line")
    (record,) = caplog.records
    assert wire.address in record.getMessage()
    assert "0x47" in record.getMessage()


def test_one_that_says_nothing_is_closed_by_artim(
    scp: MakeScp, server_tls: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    """PS3.8 9.1.4: before it is known whether it wants TLS."""
    acceptor = scp(tls=server_tls, clear_text=True, timeouts=quick("artim"))
    with Wire.to(acceptor.port) as wire:
        assert wire.reads(1) == b""
    eventually(lambda: caplog.records, "there is a line")
    assert "'artim'" in caplog.records[0].getMessage()


def test_one_that_says_nothing_does_not_hold_up_close(scp: MakeScp, server_tls: ssl.SSLContext) -> None:
    """Server.close: there is nothing to drain."""
    never = dicomnet.Timeouts(artim=None, tls=None, drain=None)
    acceptor = scp(tls=server_tls, clear_text=True, timeouts=never)
    with Wire.to(acceptor.port) as wire, Wire.associated(acceptor.port):
        acceptor.server.close()
        assert wire.reads(1) == b""


def test_clear_text_beside_tls_needs_tls(server_face: Face) -> None:
    """ValueError, before it listens."""
    with pytest.raises(ValueError, match="tls="):
        server_face.serve(dicomnet.AE("SCP"), clear_text=True)
