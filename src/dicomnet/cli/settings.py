"""What the options that all commands share ask for, as the values that the library takes."""

from __future__ import annotations

import os
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
    tls_ca: str | None
    tls_cert: str | None
    tls_key: str | None
    tls_no_verify: bool
    identity_username: str | None
    identity_passcode: str | None
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
        if name is not None and passcode is None:
            passcode = os.environ.get("DICOMNET_PASSCODE")
        files = {"kerberos": self.identity_kerberos, "saml": self.identity_saml, "jwt": self.identity_jwt}
        given = {kind: path for kind, path in files.items() if path is not None}
        if passcode is not None and name is None:
            raise click.UsageError("--identity-passcode needs --identity-username")
        if len(given) + (name is not None) > 1:
            raise click.UsageError(
                "a peer takes one identity; give one of the --identity options (or name and passcode)"
            )
        for kind, path in given.items():
            identity: Identity = getattr(Identity, kind)(_read(path, f"--identity-{kind}"))
            return identity
        if name is None:
            return None
        return Identity.username(name) if passcode is None else Identity.passcode(name, passcode)

    @property
    def wants_tls(self) -> bool:
        return bool(self.tls or self.tls_ca or self.tls_cert or self.tls_key or self.tls_no_verify)

    def client_tls(self) -> ssl.SSLContext | None:
        """For a requestor: the peer's certificate is checked, ours is shown if there is one."""
        if not self.wants_tls:
            return None
        import ssl

        context = ssl.create_default_context()
        if self.tls_no_verify:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self._load(context)
        return context

    def server_tls(self) -> ssl.SSLContext | None:
        """For an acceptor: it needs a certificate; with a CA it asks callers for theirs."""
        if not self.wants_tls:
            return None
        if self.tls_cert is None:
            raise click.UsageError("who listens with TLS needs a certificate: --tls-cert FILE --tls-key FILE")
        import ssl

        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        if self.tls_ca is not None and not self.tls_no_verify:
            context.verify_mode = ssl.CERT_REQUIRED
        self._load(context)
        return context

    def _load(self, context: ssl.SSLContext) -> None:
        if self.tls_key is not None and self.tls_cert is None:
            raise click.UsageError("--tls-key needs the certificate that belongs to it: --tls-cert FILE")
        if self.tls_ca is not None:
            try:
                context.load_verify_locations(self.tls_ca)
            except OSError as error:  # SSLError is one
                raise click.UsageError(f"--tls-ca {self.tls_ca}: no certificates in PEM form: {error}") from error
        if self.tls_cert is not None:
            try:
                context.load_cert_chain(self.tls_cert, self.tls_key)
            except OSError as error:
                raise click.UsageError(
                    f"--tls-cert {self.tls_cert}: not a certificate with its key in PEM form: {error}"
                ) from error


def _read(path: str, option: str) -> bytes:
    try:
        with click.open_file(path, "rb") as file:
            data: bytes = file.read().strip() if option == "--identity-jwt" else file.read()
    except OSError as error:
        raise click.UsageError(f"{option} {path}: {error.strerror}") from error
    if not 0 < len(data) <= 0xFFFF:
        raise click.UsageError(f"{option} {path}: {len(data)} bytes; an identity has 1 to 65535 (PS3.7 Table D.3-14)")
    return data
