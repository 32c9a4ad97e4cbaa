"""§3 of the contract: security. With TLS, ``on_connect`` comes first, then ``on_secure_link_ready``."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dicomnet import EncodedDataset, LocalProtocolError, TransportError
from dicomnet.callbacks import DicomAssociate, DicomNet, NetError, Security
from tests.callbacks.recorder import CT, EXPLICIT, INSTANCE, Scp, Scu, Stage, quick
from tests.faces.wire import Scripted, Wire

PASSWORD = "swordfish"


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificates(tmp_path_factory.mktemp("pem"))


def certificates(folder: Path) -> Path:
    """The folder, with cert.pem, key.pem and encrypted.pem (the same key, with a password) for 127.0.0.1."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "dicomnet test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    for file, encryption in (
        ("key.pem", serialization.NoEncryption()),
        ("encrypted.pem", serialization.BestAvailableEncryption(PASSWORD.encode())),
    ):
        form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
        (folder / file).write_bytes(key.private_bytes(*form))
    return folder


@pytest.fixture
def server_tls(pem: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem / "cert.pem", pem / "key.pem")
    return context


@pytest.fixture
def client_tls(pem: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(pem / "cert.pem"))


class Storing(Scu):
    def on_receive_associate_accept(self, associate: DicomAssociate) -> None:
        data = EncodedDataset(bytes(3_000_000), EXPLICIT, CT, INSTANCE)
        self.send_c_store_request(3, 1, CT, INSTANCE, 0, "", 0, data)

    def on_receive_c_store_response(self, *arguments: Any) -> None:
        self.send_release_request()


def test_tls_is_ready_after_connect_and_before_the_association(
    stage: Stage, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    """§3: ``on_connect`` comes first, then ``on_secure_link_ready``, and only then the association."""
    listener = stage.listener(security=server_tls)
    scu = stage.connected(listener.host_port, Storing, security=client_tls)
    assert stage.wait("SCU", "on_close")[0] == NetError.SUCCESS
    assert stage.wait("listener", "on_close")[0] == NetError.SUCCESS
    assert stage.told("SCU")[:4] == [
        "on_connect",
        "on_secure_link_ready",
        "on_receive(ASSOCIATE_ACCEPT)",
        "on_receive_associate_accept",
    ]
    assert stage.told("client")[:2] == ["on_secure_link_ready", "on_receive(ASSOCIATE_REQUEST)"]
    assert stage.wait("client", "on_receive_c_store_request")[-1].size == 3_000_000
    assert scu.security is Security.TLS


def test_a_client_of_a_listening_object_with_tls_has_tls(
    stage: Stage, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    """§3: forgetting it at the client does not open a hole."""

    class Forgetful(Scp):
        def on_accept(self, error: NetError) -> None:
            client: Any = self.make_client()
            client.security, client._tls = Security.NONE, {}
            self.accept(client)

    listener = stage.listener(Forgetful, security=server_tls)
    stage.connected(listener.host_port, Storing, security=client_tls)
    assert stage.wait("SCU", "on_close")[0] == NetError.SUCCESS


def test_an_association_before_the_link_is_secure_is_refused(stage: Stage, client_tls: ssl.SSLContext) -> None:
    """§3: only then may an association be requested."""
    caught: list[Exception] = []

    class Hasty(Scu):
        def on_connect(self, error: NetError) -> None:
            try:
                self.send_associate_request(self.request())
            except LocalProtocolError as error_:
                caught.append(error_)
            self.close()

    with Scripted(lambda wire: wire.reads(1 << 20)) as script:
        stage.connected(script.port, Hasty, security=client_tls)
        assert stage.wait("SCU", "on_close")[0] == NetError.SUCCESS
    assert str(caught[0]) == "send_associate_request: the TLS link is not ready yet"


def test_an_untrusted_certificate_is_told_with_its_reason(stage: Stage, server_tls: ssl.SSLContext) -> None:
    """§5: TLS, with OpenSSL's reason; §3: ``on_secure_link_ready(error)``."""
    listener = stage.listener(security=server_tls)
    scu = stage.connected(listener.host_port, security=Security.TLS)
    assert stage.wait("SCU", "on_close")[0] == NetError.TLS
    assert "certificate verify failed" in str(scu.last_error)
    assert stage.told("SCU") == ["on_connect", "on_secure_link_ready(TLS)", "on_close(TLS)"]
    assert stage.wait("listener", "on_close")[0] == NetError.TLS
    assert stage.told("client") == ["on_secure_link_ready(TLS)"]


def test_a_peer_without_tls_is_told_as_tls(
    stage: Stage, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    """§5; W1."""
    listener = stage.listener(security=server_tls, timeouts=quick())
    stage.connected(listener.host_port)
    assert stage.wait("listener", "on_close")[0] == NetError.TLS
    with Scripted(lambda wire: wire.sends(b"GARBAGE" * 10).reads(1000)) as script:
        stage.connected(script.port, name="TLS SCU", security=client_tls)
        assert stage.wait("TLS SCU", "on_close")[0] == NetError.TLS


def test_closing_ends_the_handshake(stage: Stage, client_tls: ssl.SSLContext) -> None:
    """§2: ``close()`` is safe, and ``on_close`` comes once."""
    with Scripted(lambda wire: wire.reads(1 << 20)) as script:
        scu = stage.connected(script.port, security=client_tls)
        stage.wait("SCU", "on_connect")
        scu.close()
        assert stage.wait("SCU", "on_close")[0] == NetError.SUCCESS
    assert stage.told("SCU") == ["on_connect", "on_close"]


def test_an_encrypted_key_asks_for_its_password(stage: Stage, pem: Path, client_tls: ssl.SSLContext) -> None:
    """§3: ``on_private_key_password()`` supplies an encrypted key's password."""

    class Keeper(Scp):
        def on_private_key_password(self) -> str:
            return PASSWORD

    listener = stage.listening(Keeper, security=Security.TLS)
    listener.load_certificate(pem / "cert.pem", pem / "encrypted.pem")
    listener.listen("", 0, 5)
    make, tls = listener.make_client, listener._tls

    def client() -> DicomNet:
        made: Any = make()
        made._tls = tls
        return made

    listener.make_client = client
    stage.connected(listener.host_port, Storing, security=client_tls)
    assert stage.wait("SCU", "on_close")[0] == NetError.SUCCESS


def test_a_wrong_password_is_an_error(pem: Path) -> None:
    """§3."""

    class Wrong(DicomNet):
        def on_private_key_password(self) -> str:
            return "wrong"

    with pytest.raises(TransportError, match="cannot be used"):
        Wrong(Security.TLS).load_certificate(pem / "cert.pem", pem / "encrypted.pem")
    with pytest.raises(TransportError, match="cannot be used"):
        DicomNet(Security.TLS).load_certificate(pem / "missing.pem")
    with pytest.raises(LocalProtocolError, match="does not use TLS"):
        DicomNet().load_certificate(pem / "cert.pem", pem / "key.pem")


@pytest.mark.parametrize("make", [lambda tls: DicomNet(tls), lambda tls: DicomNet(Security.TLS, tls=tls)])
def test_tls_is_given_as_a_context(client_tls: ssl.SSLContext, make: Callable[[ssl.SSLContext], DicomNet]) -> None:
    """§3: ``TLS`` (an ``ssl.SSLContext``)."""
    net = make(client_tls)
    assert net.security is Security.TLS
    assert net._tls_context(server_side=False) is client_tls


def test_the_defaults_are_strict() -> None:
    """N-37: TLS 1.2 supported, 1.3 preferred, nothing older; the peer's certificate is checked."""
    net = DicomNet(Security.TLS)
    context = net._tls_context(server_side=False)
    assert context is not None
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname


def test_the_peers_certificate_can_be_demanded(stage: Stage, pem: Path, client_tls: ssl.SSLContext) -> None:
    """§3: mutual authentication is the context's business."""
    demanding = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(pem / "cert.pem"))
    demanding.load_cert_chain(pem / "cert.pem", pem / "key.pem")
    demanding.verify_mode = ssl.CERT_REQUIRED
    listener = stage.listener(security=demanding)
    stage.connected(listener.host_port, Storing, security=client_tls)
    assert stage.wait("listener", "on_close")[0] == NetError.TLS
    assert stage.wait("SCU", "on_close")[0] != NetError.SUCCESS
    client_tls.load_cert_chain(pem / "cert.pem", pem / "key.pem")
    stage.connected(listener.host_port, Storing, "known", security=client_tls)
    assert stage.wait("known", "on_close")[0] == NetError.SUCCESS


def test_messages_that_share_a_tls_record_are_all_read(
    stage: Stage, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    """§2: what OpenSSL holds already is read without waiting for the socket."""
    from tests.faces.wire import RQ, echo_rq

    listener = stage.listener(security=server_tls)
    with Wire.to(listener.host_port) as plain:
        secure = Wire(client_tls.wrap_socket(plain.socket, server_hostname="127.0.0.1"))
        with secure:
            secure.sends(RQ).hears()
            secure.sends(b"".join(echo_rq(mid) for mid in range(1, 400)))  # more than one read, and one record
            assert [secure.hears_message().message_id for _ in range(399)] == list(range(1, 400))
