"""The options that all commands share, and the frame around each command."""

from __future__ import annotations

import functools
import shutil
import traceback
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import click

from dicomnet.cli.output import Output, log_to_stderr
from dicomnet.cli.settings import Settings
from dicomnet.config import DEFAULT_CALLING_AE

if TYPE_CHECKING:
    from dicomnet.config import Peer

Body = Callable[..., int]

# Exit codes.
PEER_FAILED: Final = 1  # the peer answered with a failure
USAGE: Final = 2  # also: files that cannot be sent, an address where one cannot listen
NO_ASSOCIATION: Final = 3  # refused, unreachable, TLS
HALF_WAY: Final = 4  # aborted or timed out; also an error of dicomnet itself
INTERRUPTED: Final = 130  # as shells have it for a program that SIGINT ended

# What all commands may print with --json.
SHARED_EVENTS: Final = {
    "error": {
        "message": "why the command failed; the last line",
        "exit_code": "number, see the exit codes",
    }
}

_WIDEST: Final = 100  # columns; longer lines are hard to read
_NARROWEST: Final = 30

DEFAULT_AE: Final = DEFAULT_CALLING_AE


class Section(click.Option):
    """An option with the heading that it has in the help."""

    def __init__(self, *arguments: Any, section: str, **attributes: Any) -> None:
        super().__init__(*arguments, **attributes)
        self.section = section


Events = Mapping[str, Mapping[str, str]]


class _Help(click.HelpFormatter):
    """As wide as the terminal, also where that is narrower than the 50 columns that click insists on."""

    def __init__(self, indent_increment: int = 2, width: int | None = None, max_width: int | None = None) -> None:
        if width is None:
            width = max(min(shutil.get_terminal_size().columns, max_width or _WIDEST) - 2, _NARROWEST)
        super().__init__(indent_increment, width)


class Context(click.Context):
    """Of all commands."""

    formatter_class = _Help


class Command(click.Command):
    """A command whose help lists the options under headings.

    ``events``: what it prints with ``--json``: the ``event`` of a line → its members → what they mean. The manual shows
    it, and a test compares it with what is printed.
    """

    context_class = Context

    def __init__(self, *arguments: Any, events: Events, **attributes: Any) -> None:
        super().__init__(*arguments, **attributes)
        self.events = {**events, **SHARED_EVENTS}

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                sections.setdefault(getattr(parameter, "section", "Options"), []).append(record)
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records, col_max=28 if formatter.width > 60 else 10)


class Failure(click.ClickException):
    """Ends a command with one line and an exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click declares it for the class and sets it like this
        self.ctx = click.get_current_context(silent=True)


# --- values: click takes functions as types, and says which option a BadParameter was about -------------------------


def peer_value(text: str) -> Peer:
    """``AET@host:port``."""
    from dicomnet.config import Peer

    try:
        return Peer.parse(text)
    except ValueError as error:
        raise click.BadParameter(f"{error}. Example: PACS@192.0.2.7:11112") from error


def ae_title_value(text: str) -> str:
    """1 to 16 characters (PS3.5 6.2)."""
    from dicomnet.config import check_ae_title

    try:
        return check_ae_title(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def timeout_value(text: str) -> tuple[str, float | None]:
    """``NAME=SECONDS`` for a field of ``Timeouts``."""
    from dicomnet.config import Timeouts

    name, _, number = text.partition("=")
    if name not in Timeouts.__slots__:
        raise click.BadParameter(f"there is no time limit {name!r}, only {', '.join(Timeouts.__slots__)}")
    if number == "none":
        return name, None
    try:
        seconds = float(number)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e9:
        raise click.BadParameter(f"{text!r} needs a number of seconds, or 'none' for no limit. Example: {name}=60")
    return name, seconds


def tls_profile_value(text: str) -> str:
    """A profile of PS3.15 Annex B."""
    from dicomnet.tls import PROFILES

    if text not in PROFILES:
        raise click.BadParameter(f"there is no TLS profile {text!r}, only {', '.join(PROFILES)}")
    return text


# --- the options that all commands have -----------------------------------------------------------------------------


def _option(section: str, *names: str, **attributes: Any) -> Callable[[Body], Body]:
    return click.option(*names, cls=Section, section=section, **attributes)


_connection, _tls, _identity, _output = (
    functools.partial(_option, section) for section in ("Connection", "TLS", "User identity", "Output")
)
_file: Final[dict[str, Any]] = {"type": click.Path(exists=True, dir_okay=False, allow_dash=True), "metavar": "FILE"}
_pem: Final[dict[str, Any]] = {"type": click.Path(exists=True, dir_okay=False), "metavar": "FILE"}

_CALLING: Final = _connection(
    "--calling", type=ae_title_value, metavar="AET", default=DEFAULT_AE, show_default=True,
    help="Our own AE title, as the peer may have to know it: --calling WORKSTATION7",
)  # fmt: skip
_CALLERS: Final = _connection(
    "--calling", type=ae_title_value, metavar="AET", multiple=True,
    help="Let only this AE title in; can be repeated: --calling CT1 --calling CT2",
)  # fmt: skip
_SHARED: Final = (
    _connection(
        "--timeout", type=timeout_value, metavar="NAME=SECONDS", multiple=True,
        help="A time limit; can be repeated: --timeout connect=3 --timeout response=none. Names: connect, tls,"
        " associate, response, release, send, idle, artim, pdu, closing, drain.",
    ),
    _tls("--tls", is_flag=True, help="Talk through TLS; the other TLS options imply it."),
    _tls(
        "--tls-profile", type=tls_profile_value, metavar="NAME",
        help="Versions and cipher suites by PS3.15 Annex B: bcp195 (B.9), bcp195-nd (B.10), bcp195-ex (B.11),"
        " bcp195-8996 (B.12) or bcp195-8996-mod (B.13). If not given: --tls-profile bcp195-nd",
    ),
    _tls(
        "--tls-ca", type=click.Path(exists=True), metavar="FILE",
        help="Who may vouch for the other side: --tls-ca hospital-ca.pem",
    ),
    _tls(
        "--tls-crl", **_pem, multiple=True,
        help="Certificates that the authority has revoked; can be repeated: --tls-crl hospital-ca.crl",
    ),
    _tls("--tls-cert", **_pem, help="Our certificate: --tls-cert me.pem"),
    _tls("--tls-key", **_pem, help="Its private key, if it is in another file: --tls-key me.key"),
    _tls(
        "--tls-key-password-file", **_file,
        help="The private key's password, in the first line of a file: --tls-key-password-file me.password",
    ),
    _tls(
        "--tls-verify", type=click.Choice(["full", "chain", "none"]),
        help="What is checked of the other side's certificate: all (the usual), all but that it names the host,"
        " nothing: --tls-verify chain",
    ),
    _tls("--tls-no-verify", is_flag=True, help="Trust any certificate. Only to find out what is wrong."),
    _identity("--identity-username", metavar="NAME", help="A user name: --identity-username jdoe"),
    _identity(
        "--identity-passcode", metavar="TEXT",
        help="Its passcode: --identity-passcode secret. Others on this computer can see command lines: better put it"
        " into the environment as DICOMNET_PASSCODE.",
    ),
    _identity("--identity-kerberos", **_file, help="A Kerberos ticket: --identity-kerberos ticket.bin"),
    _identity("--identity-saml", **_file, help="A SAML assertion: --identity-saml assertion.xml"),
    _identity("--identity-jwt", **_file, help="A JSON web token: --identity-jwt token.txt"),
    _output("--json", is_flag=True, help="One JSON object a line instead of text: --json | jq .status"),
    _output("-v", "--verbose", count=True, help="Tell more; -vv for all, with tracebacks."),
    _output("-q", "--quiet", is_flag=True, help="Tell only results and problems."),
)  # fmt: skip


def requestor(body: Body) -> Body:
    """A command that requests associations: gets ``settings``, ``output``, and ``calling``, our AE title."""
    return _frame(body, _CALLING)


def acceptor(body: Body) -> Body:
    """A command that accepts associations: gets ``settings``, ``output``, and ``calling``, the titles that may call."""
    return _frame(body, _CALLERS)


def _frame(body: Body, calling: Callable[[Body], Body]) -> Body:
    @functools.wraps(body)
    def framed(**arguments: Any) -> int:
        settings = Settings(**{name: arguments.pop(name) for name in Settings.__slots__})
        output = Output(json=settings.json, quiet=settings.quiet)
        log_to_stderr(settings.verbose, settings.quiet)
        try:
            return body(settings=settings, output=output, **arguments)
        except KeyboardInterrupt:
            return INTERRUPTED
        except Exception as error:
            if settings.verbose > 1:
                traceback.print_exc()
            failure = error if isinstance(error, click.ClickException) else _bug(error)
            if settings.json:
                output.event("error", message=failure.format_message(), exit_code=failure.exit_code)
            raise failure from error

    command: Body = framed
    for option in reversed((calling, *_SHARED)):
        command = option(command)
    return command


def _bug(error: Exception) -> Failure:
    return Failure(f"an error of dicomnet itself, please report it: {type(error).__name__}: {error}", HALF_WAY)
