"""The TLS options: profiles, files, and what wrong ones are told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dicomnet import tls
from dicomnet.certificates import PASSWORD, Authority
from tests.cli.conftest import Done, Scp

Command = Callable[..., Done]
Serve = Callable[..., Scp]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return tls.make_test_ca(tmp_path_factory.mktemp("authority"))


def server(authority: Authority, credentials: tls.Credentials | None = None, **options: Any) -> Any:
    own = credentials or authority.server
    options = {"ca": authority.certificate} | options
    return tls.server_context(certificate=own.certificate, key=own.key, **options)


def test_mutual_authentication_by_each_profile(command: Command, serve: Serve, authority: Authority) -> None:
    """PS3.15 B.9 to B.13; what the help lists is what there is."""
    scp = serve(tls=server(authority))
    files = ["--tls-ca", authority.certificate, "--tls-cert", authority.client.certificate]
    for profile in tls.PROFILES:
        done = command("echo", scp.peer, *files, "--tls-key", authority.client.key, "--tls-profile", profile)
        assert done.code == 0, done.err
        assert f"{profile} ({tls.PROFILES[profile].clause.partition(' ')[0]})" in " ".join(
            command("echo", "--help").out.split()
        )
    info = scp.associations[0].certificate
    assert info["subject"] == ((("commonName", "client"),),)
    assert command("echo", scp.peer, "--tls-ca", authority.certificate).code != 0


def test_a_key_with_a_password(command: Command, serve: Serve, authority: Authority, tmp_path: Path) -> None:
    """In a file: others can see command lines. Its first line counts."""
    scp, own = serve(tls=server(authority)), authority.encrypted
    arguments = ["echo", scp.peer, "--tls-ca", authority.certificate, "--tls-cert", own.certificate]
    arguments += ["--tls-key", own.key]
    for text, code in ((PASSWORD, 0), (f"{PASSWORD}\r\nof the PACS", 0), ("guess", 2), ("", 2)):
        (tmp_path / "password").write_bytes(text.encode())
        done = command(*arguments, "--tls-key-password-file", tmp_path / "password")
        assert done.code == code
        assert code == 0 or ("password" in done.err and "is wrong" in done.err)
    done = command(*arguments)
    assert done.code == 2
    assert "encrypted" in done.err


def test_how_much_is_checked(command: Command, serve: Serve, authority: Authority, tmp_path: Path) -> None:
    strangers = tls.make_test_ca(tmp_path)
    elsewhere = serve(
        tls=server(authority, authority.issue("pacs", hosts=("pacs.example",)), client_auth="none", ca=None)
    )
    ours = serve(tls=server(authority, client_auth="none", ca=None))
    for scp, options, code in (
        (ours, ["--tls-ca", authority.certificate], 0),
        (ours, ["--tls-ca", strangers.certificate], 3),
        (ours, ["--tls-ca", strangers.certificate, "--tls-verify", "chain"], 3),
        (ours, ["--tls-ca", strangers.certificate, "--tls-verify", "none"], 0),
        (ours, ["--tls-verify", "none"], 0),
        (elsewhere, ["--tls-ca", authority.certificate, "--tls-verify", "full"], 3),
        (elsewhere, ["--tls-ca", authority.certificate, "--tls-verify", "chain"], 0),
        (elsewhere, ["--tls-no-verify"], 0),
    ):
        done = command("echo", scp.peer, *options)
        assert done.code == code, (options, done.err)


def test_a_revoked_certificate(command: Command, serve: Serve, authority: Authority) -> None:
    scp = serve(tls=server(authority, authority.revoked, client_auth="none", ca=None))
    assert command("echo", scp.peer, "--tls-ca", authority.certificate).code == 0
    done = command("echo", scp.peer, "--tls-ca", authority.certificate, "--tls-crl", authority.crl)
    assert done.code == 3
    assert "revoked" in done.err


def test_wrong_usage_is_one_line_and_2(command: Command, authority: Authority) -> None:
    for options, hint in (
        (["--tls-profile", "bcp196"], "bcp195-nd"),
        (["--tls-verify", "some"], "chain"),
        (["--tls-key-password-file", authority.client.key], "--tls-cert"),
        (["--tls-crl", authority.certificate], "no revocation list"),
        (["--tls-ca", authority.client.key], "PRIVATE KEY"),
        (["--tls-cert", authority.client.certificate, "--tls-key", authority.server.key], "does not belong"),
    ):
        done = command("echo", "PACS@127.0.0.1:1", *options)
        assert done.code == 2
        assert hint in done.err
        assert len(done.err.splitlines()) == 1
