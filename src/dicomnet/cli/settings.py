"""What the options that all commands share ask for, as the values that the library takes."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import ssl

    from dicomnet.config import Identity, Timeouts


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The values of the shared options, by their names."""

    json: bool
    verbose: int
    quiet: bool
    timeout: tuple[tuple[str, float | None], ...]
    tls: bool
    tls_profile: str | None
    tls_ca: str | None
    tls_crl: tuple[str, ...]
    tls_cert: str | None
    tls_key: str | None
    tls_key_password_file: str | None
    tls_verify: str | None
    tls_no_verify: bool
    identity_username: str | None
    identity_passcode: str | None
    identity_passcode_file: str | None
    identity_kerberos: str | None
    identity_saml: str | None
    identity_jwt: str | None

    def timeouts(self, **defaults: Any) -> Timeouts:
        """The library's time limits but for those that were given."""
        from dicomnet.config import Timeouts

        try:
            return Timeouts(**(defaults | dict(self.timeout)))
        except ValueError as error:
            raise click.UsageError(f"--timeout: {error}") from error

    def identity(self) -> Identity | None:
        """The user identity of PS3.7 D.3.3.7."""
        from dicomnet.config import Identity

        name, passcode = self.identity_username, self.identity_passcode
        if passcode is None and self.identity_passcode_file is not None:
            passcode = _read_passcode(self.identity_passcode_file)
        if name is not None and passcode is None:
            passcode = os.environ.get("DICOMNET_PASSCODE")
        files = {"kerberos": self.identity_kerberos, "saml": self.identity_saml, "jwt": self.identity_jwt}
        given = {kind: path for kind, path in files.items() if path is not None}
        if passcode is not None and name is None:
            raise click.UsageError("a passcode needs a user name: --identity-username NAME")
        if len(given) + (name is not None) > 1:
            raise click.UsageError(
                "a peer takes one identity; give one of the --identity options (or name and passcode)"
            )
        for kind, path in given.items():
            identity: Identity = getattr(Identity, kind)(_read_identity(path, f"--identity-{kind}"))
            return identity
        if name is None:
            return None
        return Identity.username(name) if passcode is None else Identity.passcode(name, passcode)

    @property
    def wants_tls(self) -> bool:
        return any(getattr(self, name) for name in self.__slots__ if name.startswith("tls"))

    def client_tls(self) -> ssl.SSLContext | None:
        """For a requestor: the peer's certificate is checked, ours is shown if there is one."""
        if not self.wants_tls:
            return None
        from dicomnet import tls

        options: dict[str, Any] = self._own() if self.tls_cert is not None else {}
        if self._verify == "none":
            options["verify"] = False
        else:
            options |= {"ca": self.tls_ca, "crl": self.tls_crl, "check_hostname": self._verify == "full"}
        return self._made(tls.client_context, options)

    def server_tls(self) -> ssl.SSLContext | None:
        """For an acceptor: it needs a certificate; with a CA callers must show theirs."""
        if not self.wants_tls:
            return None
        if self.tls_cert is None:
            raise click.UsageError("who listens with TLS needs a certificate: --tls-cert FILE --tls-key FILE")
        from dicomnet import tls

        options: dict[str, Any] = self._own()
        if self.tls_ca is None or self._verify == "none":
            options["client_auth"] = "none"
        else:
            options |= {"ca": self.tls_ca, "crl": self.tls_crl}
        return self._made(tls.server_context, options)

    @property
    def _verify(self) -> str:
        return "none" if self.tls_no_verify else self.tls_verify or "full"

    def _own(self) -> dict[str, Any]:
        password = None
        if self.tls_key_password_file is not None:
            password = _first_line(self.tls_key_password_file, "--tls-key-password-file")
        return {"certificate": self.tls_cert, "key": self.tls_key, "password": password}

    def _made(self, make: Callable[..., ssl.SSLContext], options: dict[str, Any]) -> ssl.SSLContext:
        if self.tls_cert is None and (self.tls_key or self.tls_key_password_file) is not None:
            raise click.UsageError("--tls-key needs the certificate that belongs to it: --tls-cert FILE")
        if self.tls_profile is not None:
            options["profile"] = self.tls_profile
        try:
            return make(**options)
        except ValueError as error:
            raise click.UsageError(f"TLS: {error}") from error
        except OSError as error:
            raise click.UsageError(f"TLS: {error.filename}: {error.strerror}") from error


def _read(path: str, option: str) -> bytes:
    try:
        with click.open_file(path, "rb") as file:
            data: bytes = file.read()
    except OSError as error:
        raise click.UsageError(f"{option} {path}: {error.strerror}") from error
    return data


def _first_line(path: str, option: str) -> bytes:
    return _read(path, option).partition(b"\n")[0].rstrip(b"\r")


def _read_passcode(path: str) -> str:
    try:
        return _first_line(path, "--identity-passcode-file").decode()
    except UnicodeDecodeError as error:
        raise click.UsageError(f"--identity-passcode-file {path}: it is not UTF-8") from error


def _read_identity(path: str, option: str) -> bytes:
    data = _read(path, option)
    if option == "--identity-jwt":
        data = data.strip()
    if not 0 < len(data) <= 0xFFFF:
        raise click.UsageError(f"{option} {path}: {len(data)} bytes; an identity has 1 to 65535 (PS3.7 Table D.3-14)")
    return data
