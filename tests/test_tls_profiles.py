"""dicomnet.tls: the profiles of PS3.15 Annex B, who is trusted, and what wrong files are told."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

import dicomnet
from dicomnet import tls
from dicomnet.certificates import PASSWORD, Authority
from dicomnet.tls import Credentials, client_context, server_context

PROFILES = list(tls.PROFILES)
B_12 = ["ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-GCM-SHA384"]
B_10 = [*B_12, "DHE-RSA-AES128-GCM-SHA256", "DHE-RSA-AES256-GCM-SHA384"]
B_13 = [*B_12, "ECDHE-RSA-CHACHA20-POLY1305"]
ECDSA = ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384"]
ECDSA_B_13 = [*ECDSA, "ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-ECDSA-AES128-CCM", "ECDHE-ECDSA-AES256-CCM"]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return tls.make_test_ca(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def rsa_authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return tls.make_test_ca(tmp_path_factory.mktemp("rsa"), key_type="rsa")


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Another authority, of the same name."""
    return tls.make_test_ca(tmp_path_factory.mktemp("strangers"))


def shown(credentials: Credentials) -> dict[str, Any]:
    """As options of ``client_context`` and ``server_context``."""
    return {name: getattr(credentials, name) for name in ("certificate", "key", "password")}


def shake(
    client: ssl.SSLContext, server: ssl.SSLContext, host: str = "localhost"
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """A handshake in memory, as client and server see it at its end. Raises SSLError of whoever fails first."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=host),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    waiting = list(ends)
    while waiting:
        for end in list(waiting):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(end)
    return ends[0], ends[1]


def open_server(authority: Authority, profile: str = tls.DEFAULT_PROFILE, **options: Any) -> ssl.SSLContext:
    """Serves everybody."""
    options = shown(authority.server) | {"client_auth": "none"} | options
    return server_context(profile, **options)


# --- profiles -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_talks_to_itself(authority: Authority, profile: str) -> None:
    """PS3.15 B.9 to B.13: the newest version that the profile allows, one of its suites."""
    client, _ = shake(client_context(profile, ca=authority.certificate), open_server(authority, profile))
    info = tls.tls_info(client)
    assert info.version == ("TLSv1.2" if profile == "bcp195-ex" else "TLSv1.3")
    assert info.cipher in tls.PROFILES[profile].suites


@pytest.mark.parametrize("server", PROFILES)
@pytest.mark.parametrize("client", PROFILES)
def test_profiles_talk_to_each_other(authority: Authority, client: str, server: str) -> None:
    """PS3.15 B: a site that mixes them has a suite in common."""
    shake(client_context(client, ca=authority.certificate), open_server(authority, server))


@pytest.mark.parametrize(
    ("profile", "suites", "ecdsa"),
    [
        ("bcp195", B_10, ECDSA),
        ("bcp195-nd", B_10, ECDSA),
        ("bcp195-ex", B_10, ECDSA),
        ("bcp195-8996", B_12, ECDSA),
        ("bcp195-8996-mod", B_13, ECDSA_B_13),
    ],
)
def test_suites_that_a_profile_demands(
    authority: Authority, rsa_authority: Authority, profile: str, suites: list[str], ecdsa: list[str]
) -> None:
    """PS3.15 B.10, B.11, B.13: "shall all be supported", in both roles; RFC 9325 4.2 for B.9 and B.12."""
    for one, names in ((rsa_authority, suites), (authority, ecdsa)):
        for name in names:
            for only_client in (True, False):
                client, server = client_context(profile, ca=one.certificate), open_server(one, profile)
                restricted = client if only_client else server
                restricted.set_ciphers(name)
                restricted.maximum_version = ssl.TLSVersion.TLSv1_2
                assert tls.tls_info(shake(client, server)[0]).cipher == name


@pytest.mark.parametrize("profile", PROFILES)
def test_suites_that_no_profile_allows(rsa_authority: Authority, profile: str) -> None:
    """RFC 9325 4.1, PS3.15 B.13: NULL, RC4, 3DES, no authentication, CBC; static RSA only for peers of B.3, in B.9."""
    offered = {cipher["name"] for cipher in open_server(rsa_authority, profile).get_ciphers()}
    assert offered <= {*tls.PROFILES[profile].suites, *tls._TLS_1_3}
    old = client_context(ca=rsa_authority.certificate)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    old.set_ciphers("AES128-SHA")
    if profile == "bcp195":
        shake(old, open_server(rsa_authority, profile))
    else:
        with pytest.raises(ssl.SSLError):
            shake(old, open_server(rsa_authority, profile))


@pytest.mark.parametrize("profile", PROFILES)
def test_versions_that_no_profile_allows(rsa_authority: Authority, profile: str) -> None:
    """RFC 8996: TLS 1.0 and 1.1 are dead."""
    old = client_context(ca=rsa_authority.certificate)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError):
        shake(old, open_server(rsa_authority, profile))


def test_what_python_does_not_offer_is_told() -> None:
    """PS3.15 B.13 names CCM suites of TLS 1.3, which Python's ssl cannot switch on; new OpenSSLs have no CCM_8."""
    for profile in PROFILES[:-1]:
        assert tls.missing_suites(profile) == ()
    missing = set(tls.missing_suites("bcp195-8996-mod"))
    assert missing <= {name for name in tls.PROFILES["bcp195-8996-mod"].suites if "CCM" in name}


def test_there_is_no_other_profile() -> None:
    with pytest.raises(ValueError, match=r"'bcp196', only bcp195, bcp195-nd"):
        client_context("bcp196")


def test_keys_that_are_too_short(authority: Authority, strangers: Authority) -> None:
    """PS3.15 B.13, RFC 9325 4.5: RSA of 2048 bits, elliptic curves of 256; a peer's as well as our own."""
    short = authority.issue("short", key=rsa.generate_private_key(public_exponent=65537, key_size=1024))
    with pytest.raises(ValueError, match="2048 bits"):
        server_context(**shown(short), client_auth="none")
    for credentials in (short, authority.issue("curve", key=ec.generate_private_key(ec.SECP224R1()))):
        lax = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        lax.set_ciphers("ALL:@SECLEVEL=0")
        lax.load_cert_chain(credentials.certificate, credentials.key)
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            lax.minimum_version, lax.maximum_version = ssl.TLSVersion.TLSv1_2, version
            with pytest.raises(ssl.SSLError):
                shake(client_context("bcp195-8996-mod", ca=authority.certificate), lax)


# --- trust ----------------------------------------------------------------------------------------------------------


def test_a_server_proves_who_it_is(authority: Authority, strangers: Authority) -> None:
    client = client_context(ca=authority.certificate)
    for host in ("localhost", "127.0.0.1", "::1"):
        shake(client, open_server(authority), host)
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shake(client, open_server(authority), "pacs.example.org")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(client, open_server(strangers))
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        shake(client, open_server(authority, **shown(authority.expired)))
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(client_context(), open_server(authority))


def test_checks_can_be_left_out(authority: Authority, strangers: Authority) -> None:
    """The name alone, or all."""
    shake(client_context(ca=authority.certificate, check_hostname=False), open_server(authority), "pacs.example.org")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(client_context(ca=authority.certificate, check_hostname=False), open_server(strangers))
    client, _ = shake(client_context(verify=False), open_server(strangers), "pacs.example.org")
    assert tls.tls_info(client).certificate is tls.tls_info(client).der is None


def test_clients_prove_who_they_are(authority: Authority, strangers: Authority) -> None:
    """PS3.15 B.12: mutual authentication; what a handler gets of it."""
    anonymous = client_context(ca=authority.certificate)
    known = client_context(ca=authority.certificate, **shown(authority.client))
    stranger = client_context(ca=authority.certificate, **shown(strangers.client))
    servers = {
        client_auth: server_context(**shown(authority.server), ca=authority.certificate, client_auth=client_auth)
        for client_auth in ("required", "optional")
    } | {"none": open_server(authority)}
    for client, served_by in ((anonymous, {"optional", "none"}), (known, set(servers)), (stranger, {"none"})):
        for client_auth, server in servers.items():
            if client_auth not in served_by:
                with pytest.raises(ssl.SSLError):
                    shake(client, server)
                continue
            info = tls.tls_info(shake(client, server)[1])
            if client is known and client_auth != "none":
                assert info.certificate is not None
                assert info.certificate["subject"] == ((("commonName", "client"),),)
                assert info.der is not None
                assert x509.load_der_x509_certificate(info.der).subject.rfc4514_string() == "CN=client"
            else:
                assert info.certificate is info.der is None


def test_certificates_that_lead_to_the_authority(authority: Authority) -> None:
    """RFC 8446 4.4.2: the intermediate comes along; trusting only the intermediate is enough."""
    server = open_server(authority, **shown(authority.chained))
    shake(client_context(ca=authority.certificate), server)
    shake(client_context(ca=authority.intermediate.certificate), server)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(client_context(ca=authority.intermediate.certificate), open_server(authority))


def test_a_folder_of_authorities(authority: Authority, tmp_path: Path) -> None:
    """As OpenSSL wants it."""
    (tmp_path / "hospital.pem").write_bytes(Path(authority.certificate).read_bytes())
    with pytest.raises(ValueError, match="openssl rehash"):
        client_context(ca=tmp_path)
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    subprocess.run([openssl, "rehash", tmp_path], check=True)
    shake(client_context(ca=tmp_path), open_server(authority))


# --- revocation -----------------------------------------------------------------------------------------------------


def test_a_revoked_certificate(authority: Authority) -> None:
    """RFC 5280 5, RFC 9325 7.5: of a server and of a client; others are served."""
    revoked, crl = authority.revoked, authority.crl
    client = client_context(ca=authority.certificate, crl=crl)
    shake(client, open_server(authority))
    with pytest.raises(ssl.SSLCertVerificationError, match="revoked"):
        shake(client, open_server(authority, **shown(revoked)))
    server = server_context(**shown(authority.server), ca=authority.certificate, crl=crl)
    shake(client_context(ca=authority.certificate, **shown(authority.client)), server)
    with pytest.raises(ssl.SSLCertVerificationError, match="revoked"):
        shake(client_context(ca=authority.certificate, **shown(revoked)), server)


def test_revocation_on_the_whole_way(authority: Authority) -> None:
    """``crl_check="chain"``: each authority needs its list; "leaf": who issued the certificate."""
    server = open_server(authority, **shown(authority.chained))
    own, below = authority.crl, authority.intermediate.crl
    shake(client_context(ca=authority.certificate, crl=below), server)
    shake(client_context(ca=authority.certificate, crl=[own, below], crl_check="chain"), server)
    for lists in (own, [below]):
        check: Any = "leaf" if lists is own else "chain"
        with pytest.raises(ssl.SSLCertVerificationError, match="CRL"):
            shake(client_context(ca=authority.certificate, crl=lists, crl_check=check), server)


def test_a_new_list_for_a_context_in_use(tmp_path: Path) -> None:
    """A server that runs for months: load the new list into its context."""
    authority = tls.make_test_ca(tmp_path)
    client = client_context(ca=authority.certificate, crl=authority.crl)
    server = open_server(authority)
    shake(client, server)
    authority.revoke(authority.server)
    client.load_verify_locations(authority.crl)
    with pytest.raises(ssl.SSLCertVerificationError, match="revoked"):
        shake(client, server)


# --- names ----------------------------------------------------------------------------------------------------------


def test_a_server_with_several_names(authority: Authority) -> None:
    """RFC 6066 3: each client sees the certificate for the name that it asks for; client authentication stays."""
    names = {
        "pacs.example.org": authority.issue("pacs", hosts=("pacs.example.org",)),
        "*.clinic.example": authority.issue("clinic", hosts=("*.clinic.example",)),
    }
    server = server_context(**shown(authority.server), ca=authority.certificate, names=names)
    ours = shown(authority.client)
    for host, subject in (
        ("localhost", "server"),
        ("127.0.0.1", "server"),  # an address is no name: RFC 6066 has none
        ("pacs.example.org", "pacs"),
        ("PACS.example.org", "pacs"),
        ("ct1.clinic.example", "clinic"),
    ):
        client = client_context(ca=authority.certificate, **ours)
        certificate = tls.tls_info(shake(client, server, host)[0]).certificate
        assert certificate is not None
        assert certificate["subject"] == ((("commonName", subject),),)
        with pytest.raises(ssl.SSLError):
            shake(client_context(ca=authority.certificate), server, host)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(client_context(ca=authority.certificate, **ours), server, "a.b.clinic.example")


# --- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("password", [PASSWORD, PASSWORD.encode(), lambda: PASSWORD], ids=["str", "bytes", "callable"])
def test_an_encrypted_key(authority: Authority, password: Any) -> None:
    files = shown(authority.encrypted) | {"password": password}
    shake(client_context(ca=authority.certificate), open_server(authority, **files))


def test_a_password_is_only_asked_for_when_it_is_needed(authority: Authority) -> None:
    def fail() -> str:
        raise AssertionError("nobody needs it")

    client_context(**shown(authority.client) | {"password": fail})


def test_a_password_that_cannot_be_had(authority: Authority) -> None:
    """What its function raises comes out."""

    def fail() -> str:
        raise PermissionError("the vault is closed")

    with pytest.raises(PermissionError, match="vault"):
        client_context(**shown(authority.encrypted) | {"password": fail})


def test_secrets_stay_out_of_logs(authority: Authority) -> None:
    assert PASSWORD not in repr(authority.encrypted)


def _der(path: Any) -> bytes:
    return x509.load_pem_x509_certificate(Path(path).read_bytes()).public_bytes(serialization.Encoding.DER)


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        (lambda a, other, folder: {"certificate": a.server.certificate}, "key="),
        (lambda a, other, folder: {"key": a.server.key}, "certificate="),
        (lambda a, other, folder: shown(a.server) | {"key": a.client.key}, "does not belong to the certificate"),
        (lambda a, other, folder: shown(a.server) | {"key": other.server.key}, "does not belong to the certificate"),
        (lambda a, other, folder: shown(a.encrypted) | {"password": None}, "is encrypted: give its password"),
        (lambda a, other, folder: shown(a.encrypted) | {"password": "guess"}, "the password .* is wrong"),
        (lambda a, other, folder: shown(a.encrypted) | {"password": ""}, "the password .* is wrong"),
        (lambda a, other, folder: shown(a.server) | {"certificate": a.server.key}, "holds PRIVATE KEY, but no cert"),
        (lambda a, other, folder: shown(a.server) | {"key": a.certificate}, "holds CERTIFICATE, but no private key"),
        (lambda a, other, folder: {"ca": a.server.key}, "holds PRIVATE KEY, but no certificate"),
        (lambda a, other, folder: {"ca": folder / "ca.der"}, "openssl x509 -inform der"),
        (lambda a, other, folder: {"certificate": folder / "me.p12"}, "openssl pkcs12"),
        (lambda a, other, folder: {"ca": folder / "text"}, "-----BEGIN"),
        (lambda a, other, folder: {"ca": folder / "damaged.pem"}, "damaged.pem"),
        (lambda a, other, folder: shown(a.server) | {"certificate": folder / "damaged.pem"}, "damaged.pem"),
        (lambda a, other, folder: {"ca": a.certificate, "crl": a.certificate}, "no revocation list"),
        (lambda a, other, folder: {"crl": a.crl, "crl_check": "all"}, "'leaf', 'chain'"),
        (lambda a, other, folder: {"crl": a.crl, "verify": False}, "verify=False"),
        (lambda a, other, folder: {"ca": folder / "old" / "test-authority.pem"}, "has expired on"),
    ],
)
def test_wrong_files_are_named_with_a_remedy(
    authority: Authority, rsa_authority: Authority, tmp_path: Path, options: Callable[..., Any], hint: str
) -> None:
    (tmp_path / "ca.der").write_bytes(_der(authority.certificate))
    (tmp_path / "me.p12").write_bytes(b"\x30\x82\x00\x01")
    (tmp_path / "text").write_text("to be done")
    (tmp_path / "damaged.pem").write_bytes(Path(authority.certificate).read_bytes().replace(b"M", b"$"))
    tls.make_test_ca(tmp_path / "old", expired=True)
    with pytest.raises(ValueError, match=hint):
        client_context(**options(authority, rsa_authority, tmp_path))


@pytest.mark.parametrize("option", ["ca", "crl", "certificate", "key"])
def test_files_that_are_not_there(authority: Authority, option: str) -> None:
    options = shown(authority.client) | {"ca": authority.certificate} | {option: "/nowhere/to/be/found"}
    with pytest.raises(FileNotFoundError, match="/nowhere/to/be/found"):
        client_context(**options)


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({}, "client_auth='none' serves everybody"),
        ({"client_auth": "optional"}, "who may vouch for clients"),
        ({"client_auth": "none", "ca": __file__}, "leave out"),
        ({"client_auth": "maybe"}, "'required', 'optional', 'none'"),
    ],
)
def test_a_server_must_say_whom_it_serves(authority: Authority, options: dict[str, Any], hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        server_context(**shown(authority.server), **options)


# --- in use ---------------------------------------------------------------------------------------------------------


def test_an_association_by_the_profiles(authority: Authority) -> None:
    """PS3.15 B.10, both sides with certificates."""
    ae = dicomnet.AE("SCP", contexts=[dicomnet.Verification])
    server = server_context(**shown(authority.server), ca=authority.certificate, crl=authority.crl)
    client = client_context(ca=authority.certificate, **shown(authority.client))
    with dicomnet.serve(ae, "127.0.0.1", tls=server) as served:
        for _ in range(2):
            with dicomnet.associate(f"SCP@127.0.0.1:{served.port}", tls=client) as association:
                assert association.c_echo().status == 0


def test_the_library_does_not_need_cryptography() -> None:
    """It is in the tests' extra."""
    code = "import sys; sys.modules['cryptography'] = None; from dicomnet import tls; tls.client_context();"
    code += "\ntry: tls.make_test_ca('.')\nexcept ModuleNotFoundError as error: print(error)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "cryptography" in done.stdout
