"""The options that all commands share, and the frame around each command."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import click

from dicomnet.cli.output import Output, log_to_stderr
from dicomnet.cli.settings import Settings
from dicomnet.cli.values import (
    ae_title_value as ae_title_value,
    book_of,
    entry_of,
    has_peer,
    peer_value as peer_value,
    timeout_value,
    tls_profile_value,
)
from dicomnet.config import DEFAULT_CALLING_AE

if TYPE_CHECKING:
    from dicomnet.peers.book import Book, Entry

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
            width = max(min(_columns(), max_width or _WIDEST) - 2, _NARROWEST)
        super().__init__(indent_increment, width)


def _columns() -> int:
    """As ``shutil`` has it, whose import takes longer than our own code."""
    with contextlib.suppress(ValueError):
        if (columns := int(os.environ.get("COLUMNS", "0"))) > 0:
            return columns
    with contextlib.suppress(AttributeError, ValueError, OSError):  # no stdout, a closed one, or no terminal
        return os.get_terminal_size(sys.__stdout__.fileno()).columns  # type: ignore[union-attr]
    return 80


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
_OBSERVED: Final = _connection(
    "--calling", type=ae_title_value, metavar="AET", multiple=True,
    help="Show only associations that this AE title requests; can be repeated: --calling CT1 --calling CT2",
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
    _identity(
        "--identity-passcode-file", **_file,
        help="The passcode, in the first line of a file: --identity-passcode-file jdoe.passcode",
    ),
    _identity("--identity-kerberos", **_file, help="A Kerberos ticket: --identity-kerberos ticket.bin"),
    _identity("--identity-saml", **_file, help="A SAML assertion: --identity-saml assertion.xml"),
    _identity("--identity-jwt", **_file, help="A JSON web token: --identity-jwt token.txt"),
    _output("--json", is_flag=True, help="One JSON object a line instead of text: --json | jq .status"),
    _output("-v", "--verbose", count=True, help="Tell more; -vv for all, with tracebacks."),
    _output("-q", "--quiet", is_flag=True, help="Tell only results and problems."),
)  # fmt: skip


def requestor(body: Body) -> Body:
    """A command that requests associations: gets ``settings``, ``output``, and ``calling``, our AE title.

    If it has a PEER, what ``dicomnet.toml`` says fills in for the options that were not given.
    """
    return _frame(body, _CALLING, filled=True)


def acceptor(body: Body) -> Body:
    """A command that accepts associations: gets ``settings``, ``output``, and ``calling``, the titles that may call."""
    return _frame(body, _CALLERS, filled=False)


def observer(body: Body) -> Body:
    """A command that takes no part: gets ``settings``, ``output``, and ``calling``, the titles that are of interest."""
    return _frame(body, _OBSERVED, filled=False)


def _frame(body: Body, calling: Callable[[Body], Body], *, filled: bool) -> Body:
    @functools.wraps(body)
    def framed(**arguments: Any) -> int:
        verbose, quiet, json = (arguments[name] for name in ("verbose", "quiet", "json"))
        output = Output(json=json, quiet=quiet)
        log_to_stderr(verbose, quiet)
        try:
            context = click.get_current_context()
            if filled and has_peer(context):
                arguments |= _from_file(context)
            settings = Settings(**{name: arguments.pop(name) for name in Settings.__slots__})
            return body(settings=settings, output=output, **arguments)
        except KeyboardInterrupt:
            return INTERRUPTED
        except Exception as error:
            if verbose > 1:
                import traceback

                traceback.print_exc()
            failure = error if isinstance(error, click.ClickException) else _bug(error)
            if output.json:
                tell_error(failure)
            raise failure from error

    command: Body = framed
    for option in reversed((calling, *_SHARED)):
        command = option(command)
    return command


def _from_file(context: click.Context) -> dict[str, Any]:
    """What the command line does not say but ``dicomnet.toml`` does, by the names of our parameters."""
    import logging

    entry = entry_of(context)
    try:
        book = book_of(context)
    except ValueError as error:
        raise Failure(str(error), USAGE) from error
    if book.files:
        origin = f"; {entry.name} is {entry.peer}" if entry is not None else ""
        logging.getLogger("dicomnet").info("settings of %s%s", " and ".join(map(str, book.files)), origin)
    return _filled(context, book, entry)


def settings_for(context: click.Context, book: Book, entry: Entry | None) -> tuple[str, Settings]:
    """The calling AE title and the settings for one of several peers."""
    values = context.params | _filled(context, book, entry)
    return values["calling"], Settings(**{name: values[name] for name in Settings.__slots__})


def _filled(context: click.Context, book: Book, entry: Entry | None) -> dict[str, Any]:
    given = given_options(context)
    options = book.options(entry, given)
    if context.params["identity_passcode"] is not None:
        options.pop("identity-passcode-file", None)
    for key in options.keys() - given.keys():
        _check_files(book, entry, key, options[key])
    values = {key.replace("-", "_"): value for key, value in options.items()}
    if "timeout" in values:
        values["timeout"] = tuple(values["timeout"].items())
    return values


def given_options(context: click.Context) -> dict[str, Any]:
    """The options of the command line that a file may have, too, as it would have them."""
    from click.core import ParameterSource

    from dicomnet.peers.book import KEYS

    names = {key: key.replace("-", "_") for key in KEYS}
    given = {
        key: context.params[name]
        for key, name in names.items()
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }
    if "timeout" in given:
        given["timeout"] = dict(given["timeout"])
    return given


def _check_files(book: Book, entry: Entry | None, key: str, value: Any) -> None:
    from dicomnet.peers.book import KEYS, Kind

    if KEYS[key] in (Kind.FILE, Kind.FILES):
        for path in [value] if isinstance(value, str) else value:
            if not os.path.exists(path):
                raise Failure(f"{book.origin(entry, key)}: there is no {path}", USAGE)


def tell_error(failure: click.ClickException) -> None:
    """The last line of ``--json``."""
    Output(json=True, quiet=False).event("error", message=failure.format_message(), exit_code=failure.exit_code)
    failure.told = True  # type: ignore[attr-defined]  # so that it is not told again


def _bug(error: Exception) -> Failure:
    return Failure(f"an error of dicomnet itself, please report it: {type(error).__name__}: {error}", HALF_WAY)
