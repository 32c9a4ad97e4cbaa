"""DICOM over TLS (PS3.15 B) with DCMTK, pynetdicom and OpenSSL in both roles, and their certificates on both sides."""

import contextlib
import shutil
import socket
import ssl
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import dicomnet
from dicomnet import tls
from dicomnet.certificates import PASSWORD, Authority
from dicomnet.tls import client_context, make_test_ca, server_context
from tests.interop import corpus, peers
from tests.interop.corpus import instances
from tests.interop.peers import HOST, Tool

# From one PDU to many TLS records
NAMES = ["CT_small.dcm", "MR_small_RLE.dcm", "examples_overlay.dcm", "JPEG2000.dcm", "waveform_ecg.dcm"]
PROFILES = {"bcp195": "+px", "bcp195-nd": "+py", "bcp195-ex": "+pz"}  # DCMTK's options; 3.6.7 knows only these
PATIENCE = 30.0  # seconds


@dataclass(frozen=True)
class Credentials:
    """Files in PEM, of an authority and of one whom it vouches for."""

    authority: Authority
    own: tls.Credentials

    @property
    def files(self) -> dict[str, Any]:
        """As options of ``client_context`` and ``server_context``."""
        own = self.own
        return {"ca": self.authority.certificate, "certificate": own.certificate, "key": own.key}

    def client(self, profile: str = tls.DEFAULT_PROFILE) -> ssl.SSLContext:
        return client_context(profile, **self.files)

    def server(self, profile: str = tls.DEFAULT_PROFILE, **options: Any) -> ssl.SSLContext:
        return server_context(profile, **self.files | options)

    def options(self) -> list[Any]:
        """For DCMTK's programs."""
        return ["+tls", self.own.key, self.own.certificate, "+cf", self.authority.certificate]


def _make(folder: Path, subject: str) -> Credentials:
    authority = make_test_ca(folder, key_type="rsa")  # DCMTK 3.6.7 has no ECDSA suites of TLS 1.2 in B.9 and B.10
    return Credentials(authority, authority.issue(subject))


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
    anonymous = ["+tla", "+cf", credentials.authority.certificate]
    with peers.dicomnet_receiver(tls=credentials.server(ca=None, client_auth="none")) as receiver:
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


@pytest.mark.parametrize(("profile", "option"), PROFILES.items(), ids=PROFILES)
def test_profiles_with_dcmtk(dcmtk: Tool, folder: Path, credentials: Credentials, profile: str, option: str) -> None:
    """PS3.15 B.9, B.10, B.11: both sides keep to the same profile; B.12 and B.13 meet B.10."""
    ours = {"bcp195-nd": ["bcp195-nd", "bcp195-8996", "bcp195-8996-mod"]}.get(profile, [profile])
    with peers.storescp(dcmtk, folder, *credentials.options(), option) as program:
        for one in ours:
            with dicomnet.associate(f"PEER@{HOST}:{program.port}", tls=credentials.client(one)) as assoc:
                assert assoc.c_echo().status == 0
    for one in ours:
        with peers.dicomnet_receiver(tls=credentials.server(one)) as receiver:
            done = peers.run(dcmtk("echoscu"), *credentials.options(), option, HOST, receiver.port)
            assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("suite", [suite for suite in tls.PROFILES["bcp195-ex"].suites if "ECDSA" not in suite])
def test_the_suites_of_the_profile_with_dcmtk(dcmtk: Tool, folder: Path, credentials: Credentials, suite: str) -> None:
    """PS3.15 B.10, B.11: the four that shall be supported, DHE included, in both roles."""

    def only(context: ssl.SSLContext) -> ssl.SSLContext:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(suite)
        return context

    with (
        peers.storescp(dcmtk, folder, *credentials.options()) as program,
        dicomnet.associate(f"PEER@{HOST}:{program.port}", tls=only(credentials.client())) as assoc,
    ):
        assert assoc.c_echo().status == 0
    with peers.dicomnet_receiver(tls=only(credentials.server())) as receiver:
        done = peers.run(dcmtk("echoscu"), *credentials.options(), HOST, receiver.port)
        assert done.returncode == 0, done.stdout


def test_a_revoked_dcmtk_client(dcmtk: Tool, folder: Path, credentials: Credentials) -> None:
    """RFC 5280 5: it is not served; nor is ours by theirs, who has the same list."""
    authority = credentials.authority
    revoked = Credentials(authority, authority.revoked)
    with peers.dicomnet_receiver(tls=credentials.server(crl=authority.crl)) as receiver:
        assert peers.run(dcmtk("echoscu"), *revoked.options(), HOST, receiver.port).returncode != 0
        assert peers.run(dcmtk("echoscu"), *credentials.options(), HOST, receiver.port).returncode == 0
    with peers.storescp(dcmtk, folder, *credentials.options(), "+crl", authority.crl) as program:
        with pytest.raises(dicomnet.TransportError):
            dicomnet.associate(f"PEER@{HOST}:{program.port}", tls=revoked.client())
        with dicomnet.associate(f"PEER@{HOST}:{program.port}", tls=credentials.client()) as assoc:
            assert assoc.c_echo().status == 0


def test_files_that_both_can_read(dcmtk: Tool, credentials: Credentials) -> None:
    """The same encrypted key and the same chain of certificates."""
    authority = credentials.authority
    for own, password in ((authority.encrypted, ["+pw", PASSWORD]), (authority.chained, [])):
        options = ["+tls", own.key, own.certificate, *password, "+cf", authority.certificate]
        server = server_context(
            certificate=own.certificate, key=own.key, password=own.password, ca=authority.certificate
        )
        with peers.dicomnet_receiver(tls=server) as receiver:
            done = peers.run(dcmtk("echoscu"), *options, HOST, receiver.port)
        assert done.returncode == 0, done.stdout


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


# --- OpenSSL: what it sees of the records ---------------------------------------------------------------------------


@pytest.fixture
def openssl() -> str:
    path = shutil.which("openssl")
    if path is None:
        pytest.skip("openssl is not installed")
    return path


def test_the_end_is_told_to_openssl_as_client(openssl: str, credentials: Credentials) -> None:
    """RFC 8446 6.1: close_notify after our last PDU; DHE has 2048 bits (PS3.15 B.11)."""
    own = credentials.own
    files = ["-CAfile", credentials.authority.certificate, "-cert", own.certificate, "-key", own.key]
    for more in ([], ["-tls1_2", "-cipher", "DHE-RSA-AES128-GCM-SHA256"]):
        with peers.dicomnet_receiver(tls=credentials.server()) as receiver:
            place = ["-connect", f"{HOST}:{receiver.port}"]
            done = subprocess.run(
                [openssl, "s_client", *place, "-ign_eof", "-msg", *files, *more],
                input=b"\x09 is no PDU",
                capture_output=True,
                timeout=PATIENCE,
                check=False,
            )
        output = done.stdout.decode(errors="replace")
        assert "Verify return code: 0" in output
        version = "1.2" if more else "1.3"
        assert f"<<< TLS {version}, Alert [length 0002], warning close_notify" in output
        assert b"unexpected eof" not in done.stderr
        if more:
            assert "DH, 2048 bits" in output


@contextlib.contextmanager
def _s_server(openssl: str, credentials: Credentials) -> Iterator[tuple[int, Callable[[], str]]]:
    """Its port, and what it has printed when it has ended, after one connection."""
    with socket.create_server((HOST, 0)) as free:
        port = free.getsockname()[1]
    files = ["-cert", credentials.own.certificate, "-key", credentials.own.key]
    command = [openssl, "s_server", "-accept", f"{HOST}:{port}", "-naccept", "1", "-msg", *files]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout is not None
    try:
        while not process.stdout.readline().startswith(b"ACCEPT"):
            assert process.poll() is None
        yield port, lambda: process.communicate(timeout=PATIENCE)[0].decode(errors="replace")
    finally:
        process.kill()
        process.communicate()


def test_the_end_is_told_to_openssl_as_server(openssl: str, credentials: Credentials) -> None:
    """RFC 8446 6.1: also after an A-ABORT, here because nobody answers."""
    timeouts = dicomnet.Timeouts(associate=0.5, closing=0.5)
    with _s_server(openssl, credentials) as (port, output):
        with pytest.raises(dicomnet.DeadlineExceeded):
            dicomnet.associate(f"PEER@{HOST}:{port}", tls=credentials.client(), timeouts=timeouts)
        assert "<<< TLS 1.3, Alert [length 0002], warning close_notify" in output()
