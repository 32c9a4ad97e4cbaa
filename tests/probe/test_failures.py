"""Each way in which there can be no association: its kind, and what the report holds as evidence."""

from __future__ import annotations

import contextlib
import shlex
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import dicomnet
from dicomnet import Identity, tls
from dicomnet.certificates import Authority
from dicomnet.cli.program import COMMANDS
from dicomnet.config import Peer, Timeouts
from dicomnet.errors import AssociationRejected
from dicomnet.probe import Report, place, survey
from dicomnet.probe.causes import CAUSES, Kind, fields_of, kind_of, line_of
from dicomnet.probe.verdict import Situation, failure_for
from tests.probe.conftest import HASTY, HOST, SOON

Serve = Callable[..., str]
Listen = Callable[[Callable[[socket.socket], None]], str]


def ask(peer: str, **options: Any) -> Report:
    return survey(peer, **({"timeouts": SOON, "echoes": 3} | options))


def kind(report: Report) -> Kind:
    assert report.failure is not None
    return report.failure.kind


def says(data: bytes) -> Callable[[socket.socket], None]:
    def talk(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(data)

    return talk


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return tls.make_test_ca(tmp_path_factory.mktemp("ca"))


def server_tls(authority: Authority, name: str = "server", **options: Any) -> ssl.SSLContext:
    credentials = getattr(authority, name)
    options.setdefault("client_auth", "none")
    return tls.server_context(certificate=credentials.certificate, key=credentials.key, **options)


# --- not DICOM ------------------------------------------------------------------------------------------------------


def test_nothing_listens() -> None:
    with socket.socket() as bound:
        bound.bind((HOST, 0))
        report = ask(f"SCP@{HOST}:{bound.getsockname()[1]}")
    assert kind(report) is Kind.REFUSED
    assert report.reach.addresses[0].seconds is None
    assert report.attempt is not None
    assert report.attempt.exchanged == ()


def test_an_unknown_host() -> None:
    report = ask("SCP@no-such-host.invalid:104")
    assert kind(report) is Kind.UNKNOWN_HOST
    assert report.reach.addresses == ()


@pytest.mark.parametrize(
    ("data", "protocol", "detail"),
    [
        (b"HTTP/1.0 400 Bad request\r\nServer: x\r\n\r\n", "HTTP", "HTTP/1.0 400 Bad request, Server: x"),
        (b"SSH-2.0-OpenSSH_9\r\n", "SSH", "SSH-2.0-OpenSSH_9"),
        (b"220 files.example FTP ready\r\n", "FTP", "220 files.example FTP ready"),
        (b"RFB 003.008\n", "VNC", "RFB 003.008"),
        (b"ERR what?\n", "text", "ERR what?"),
    ],
)
def test_other_protocols(listen: Listen, data: bytes, protocol: str, detail: str) -> None:
    report = ask(listen(says(data)))
    assert kind(report) is Kind.OTHER_PROTOCOL
    assert report.speaks is not None
    assert (report.speaks.protocol, report.speaks.detail) == (protocol, detail)
    assert report.attempt is not None
    assert report.attempt.received == data


def test_a_server_that_waits_for_a_line_is_found_by_asking_http(listen: Listen) -> None:
    """As http.server of Python, which takes the request for the beginning of a line."""

    def talk(connection: socket.socket) -> None:
        data = connection.recv(65536)
        if data.startswith(b"HEAD / "):
            connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
        else:
            with contextlib.suppress(TimeoutError):
                connection.settimeout(0.5)
                connection.recv(1)

    report = ask(listen(talk), timeouts=HASTY)
    assert kind(report) is Kind.OTHER_PROTOCOL
    assert report.speaks is not None
    assert report.speaks.protocol == "HTTP"


def test_a_web_server_is_known_before_the_time_limit_of_an_association(
    listen_many: Listen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As http.server of Python: it waits for the end of a line, but answers others meanwhile."""
    monkeypatch.setattr("dicomnet.probe.calls.QUIET", 0.1)

    def talk(connection: socket.socket) -> None:
        if connection.recv(65536).startswith(b"HEAD / "):
            connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
        else:
            connection.recv(1)

    report = ask(listen_many(talk))
    assert kind(report) is Kind.OTHER_PROTOCOL
    assert report.speaks is not None
    assert (report.speaks.protocol, report.speaks.tried) == ("HTTP", ("an A-ASSOCIATE-RQ", "HTTP"))
    assert report.seconds < 10  # the limit is 20


def test_a_slow_peer_is_waited_for_although_others_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not speak another protocol may still be DICOM."""
    monkeypatch.setattr("dicomnet.probe.calls.QUIET", 0.05)
    release = threading.Event()
    inquired = place.Inquiry._run

    def run(inquiry: place.Inquiry) -> None:
        inquired(inquiry)
        release.set()

    monkeypatch.setattr(place.Inquiry, "_run", run)
    monkeypatch.setattr(place, "_ANSWER", 0.2)
    ae = dicomnet.AE("SCP", contexts=[dicomnet.Verification])

    @ae.on_association
    def late(_request: Any) -> None:
        release.wait(20)

    with dicomnet.serve(ae, HOST, 0) as server:
        report = ask(f"SCP@{HOST}:{server.port}")
    assert report.failure is None
    assert release.is_set()


def test_a_greeting_before_any_question(listen: Listen) -> None:
    report = ask(listen(lambda connection: connection.sendall(b"SSH-2.0-x\r\n")))
    assert report.speaks is not None
    assert report.speaks.protocol == "SSH"


def test_a_silent_socket() -> None:
    with socket.create_server((HOST, 0)) as listener:
        report = ask(f"SCP@{HOST}:{listener.getsockname()[1]}", timeouts=HASTY)
    assert kind(report) is Kind.SILENT
    assert report.speaks is not None
    assert report.speaks.protocol == "nothing"


def test_one_that_closes_at_once(listen: Listen) -> None:
    assert kind(ask(listen(lambda connection: None))) in (Kind.CLOSED, Kind.BROKEN)


def test_bytes_without_a_meaning_are_kept(listen: Listen) -> None:
    report = ask(listen(says(bytes(range(0x90, 0xB0)))), timeouts=HASTY)
    assert kind(report) is Kind.NOT_DICOM
    assert report.attempt is not None
    assert report.attempt.received == bytes(range(0x90, 0xB0))


def test_a_flood_of_bytes_is_not_kept_whole(listen: Listen) -> None:
    """Nothing that a peer sends fills the memory, or makes the survey wait for ever."""

    def talk(connection: socket.socket) -> None:
        connection.recv(65536)
        for _ in range(64):
            connection.sendall(b"HTTP" * 65536)

    report = ask(listen(talk))
    assert report.attempt is not None
    assert len(report.attempt.received) <= 64 * 1024


# --- DICOM that refuses ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ((1, 1, 1), Kind.REJECTED),
        ((1, 1, 2), Kind.APPLICATION_REJECTED),
        ((1, 1, 3), Kind.CALLING_REJECTED),
        ((1, 1, 7), Kind.CALLED_REJECTED),
        ((1, 2, 2), Kind.VERSION_REJECTED),
        ((2, 3, 1), Kind.BUSY),
        ((2, 3, 2), Kind.FULL),
        ((1, 9, 9), Kind.REJECTED),
    ],
)
def test_rejections(listen: Listen, code: tuple[int, int, int], expected: Kind) -> None:
    """PS3.8 Table 9-21"""
    report = ask(listen(says(bytes((3, 0, 0, 0, 0, 4, 0, *code)))))
    assert kind(report) is expected
    assert report.attempt is not None
    assert str(report.attempt.error) == str(AssociationRejected(*code))


def test_a_peer_that_demands_an_identity(serve: Serve) -> None:
    """PS3.7 D.3.3.7: it gives no reason, and is asked once more with a user name."""
    report = ask(serve(require_identity=True))
    assert kind(report) is Kind.WANTS_IDENTITY


def test_an_abort_in_place_of_an_answer(listen: Listen) -> None:
    """PS3.8 Table 9-26"""
    report = ask(listen(says(b"\x07\0\0\0\0\x04\0\0\x02\x00")))
    assert kind(report) is Kind.ABORTED


def test_no_common_context(serve: Serve) -> None:
    report = ask(serve(contexts=["1.2.840.10008.5.1.4.1.1.2"]))
    assert kind(report) is Kind.NO_CONTEXT
    assert report.failure is not None
    assert report.failure.associated
    assert report.classes is not None


# --- TLS ------------------------------------------------------------------------------------------------------------


def test_a_peer_that_wants_tls(serve: Serve, authority: Authority) -> None:
    report = ask(serve(tls=server_tls(authority)), timeouts=Timeouts(associate=2, tls=2))
    assert kind(report) is Kind.WANTS_TLS
    assert report.security is not None
    assert dict(report.security.versions)["TLSv1.3"] is True
    assert dict(report.security.versions)["TLSv1.2"] is True
    assert report.security.wants_certificate is False
    assert report.security.trusted is False
    certificate = report.security.certificate
    assert certificate is not None
    assert (certificate.subject, certificate.issuer) == ("commonName=server", "commonName=test authority")
    assert certificate.names_host
    assert certificate.is_valid_now


def test_a_peer_with_tls_that_is_trusted(serve: Serve, authority: Authority) -> None:
    context = tls.client_context(ca=authority.certificate)
    report = ask(serve(tls=server_tls(authority)), tls=context, authority="ca.pem")
    assert report.failure is None
    assert report.security is not None
    assert (report.security.trusted, report.security.authority) == (True, "ca.pem")


def test_a_peer_that_is_not_trusted(serve: Serve, authority: Authority) -> None:
    report = ask(serve(tls=server_tls(authority)), tls=tls.client_context())
    assert kind(report) is Kind.UNTRUSTED
    assert report.security is not None
    assert report.security.certificate is not None


def test_an_expired_certificate_is_read_all_the_same(serve: Serve, authority: Authority) -> None:
    context = tls.client_context(ca=authority.certificate)
    report = ask(serve(tls=server_tls(authority, "expired")), tls=context)
    assert kind(report) is Kind.UNTRUSTED
    assert report.failure is not None
    assert "expired" in report.failure.why
    assert report.security is not None
    assert report.security.certificate is not None
    assert not report.security.certificate.is_valid_now


def test_a_certificate_for_another_host(serve: Serve, tmp_path: Path) -> None:
    other = tls.make_test_ca(tmp_path, hosts=("pacs.example",))
    report = ask(serve(tls=server_tls(other)), tls=tls.client_context(ca=other.certificate))
    assert kind(report) is Kind.OTHER_HOST
    assert report.security is not None
    assert report.security.certificate is not None
    assert report.security.certificate.names == ("DNS:pacs.example",)
    assert not report.security.certificate.names_host


def test_a_peer_that_wants_a_certificate(serve: Serve, authority: Authority) -> None:
    context = server_tls(authority, ca=authority.certificate, client_auth="required")
    report = ask(serve(tls=context), tls=tls.client_context(ca=authority.certificate))
    assert kind(report) is Kind.WANTS_CERTIFICATE
    assert report.security is not None
    assert report.security.wants_certificate is True


def test_tls_where_there_is_none(serve: Serve) -> None:
    report = ask(serve(), tls=tls.client_context(verify=False))
    assert kind(report) is Kind.NO_TLS


def test_https_that_is_asked_through_tls_is_no_secure_dicom(listen: Listen, authority: Authority) -> None:
    """--tls on the port of a web page."""
    context = server_tls(authority)

    def talk(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secure:
            if secure.recv(65536).startswith(b"HEAD / "):
                secure.sendall(b"HTTP/1.0 200 OK\r\n\r\n")

    report = ask(listen(talk), tls=tls.client_context(verify=False))
    assert kind(report) is Kind.OTHER_PROTOCOL
    assert report.speaks is not None
    assert report.speaks.inside.startswith("HTTP")


def test_who_asked_through_tls_is_not_advised_to_do_so() -> None:
    texts = Situation(Peer.parse("A@localhost:104"), "ME", "", "", "", tls=True)
    for one in (Kind.CLOSED, Kind.BROKEN):
        failure = failure_for(one, texts)
        assert not any("TLS" in text for text in (*failure.causes, *(step.what for step in failure.steps)))
        assert any("TLS" in step.what for step in failure_for(one, replace(texts, tls=False)).steps)


def test_https_is_no_secure_dicom(listen: Listen, authority: Authority) -> None:
    context = server_tls(authority)

    def talk(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            secured.recv(65536)
            secured.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    report = ask(listen(talk))
    assert kind(report) is Kind.OTHER_PROTOCOL
    assert report.failure is not None
    assert "HTTPS" in report.failure.why


# --- words ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("one", Kind)
def test_every_kind_has_words_for_the_line_and_for_the_page(one: Kind) -> None:
    """And each command that is advised is one that can be typed."""
    peer = Peer("MY PACS", "pacs.example", 104)
    situation = Situation(peer, "ME", "192.0.2.1", "--calling ME", "because {of} that")
    failure = failure_for(one, situation)
    assert failure.why
    assert "{" not in failure.why.replace("{of}", "")
    assert line_of(one, peer, "it")
    assert failure.steps
    for step in failure.steps:
        words = shlex.split(step.command)
        assert not words or words[0] in ("dicomnet", "ping", "ss", "nslookup", "traceroute")
        if words and words[0] == "dicomnet":
            assert words[1] in COMMANDS
            assert words[2].count("@") == 1


def test_every_cause_fills_in_what_there_is() -> None:
    names = fields_of(Peer("A", "b", 1)).keys()
    for cause in CAUSES.values():
        for text in (cause.line, cause.why, *cause.likely, *(part for step in cause.steps for part in step)):
            text.format(**dict.fromkeys(names, "x"))


def test_an_identity_that_is_refused_is_no_secret_in_the_report(listen: Listen) -> None:
    report = ask(listen(says(b"\x03\0\0\0\0\x04\0\x01\x01\x01")), identity=Identity.passcode("jdoe", "swordfish"))
    assert "swordfish" not in repr(report)


def test_kinds_of_errors_that_are_none_of_the_network() -> None:
    assert kind_of(ValueError("x"), associated=False) is Kind.OTHER
