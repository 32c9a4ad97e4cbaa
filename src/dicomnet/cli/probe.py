"""``dicomnet probe``: what a peer is, and why it fails. ``dicomnet.probe`` finds out; this shows it."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import click

from dicomnet.cli.interrupt import Interrupt
from dicomnet.cli.options import (
    HALF_WAY,
    INTERRUPTED,
    NO_ASSOCIATION,
    PEER_FAILED,
    USAGE,
    Command,
    Failure,
    peer_value,
    requestor,
)
from dicomnet.cli.output import Output, writable
from dicomnet.cli.settings import Settings

if TYPE_CHECKING:
    from dicomnet.config import Peer
    from dicomnet.probe import Report, Store


_EVENTS: Final = {
    "verdict": {
        "ok": "true if nothing is wrong",
        "kind": "of what is wrong, a word such as calling-rejected; or null",
        "text": "the first sentence of the page",
        "causes": "likely ones, the likeliest first",
        "steps": "what to try next: objects with what and command",
        "notes": "what could not be found out",
        "peer": "that was asked",
        "calling": "our AE title",
        "started": "date and time, UTC",
        "seconds": "that it took",
        "exit_code": "number, see the exit codes",
    },
    "address": {
        "host": "that was asked for",
        "address": "one of its addresses, or null if it has none",
        "connect_ms": "until the TCP connection stood, or null",
        "problem": "why it did not, or empty",
    },
    "attempt": {
        "called": "AE title",
        "calling": "AE title",
        "local": "address and port of this side, empty if there was no connection",
        "remote": "of the peer",
        "tls": "true if through TLS",
        "accepted": "true if there was an association",
        "error": "in words, or null",
        "sent": "bytes, hexadecimal; empty if they hold a user identity",
        "received": "bytes, hexadecimal",
    },
    "speaks": {
        "protocol": "what answers at the port",
        "detail": "what it says of itself",
        "inside": "what speaks within TLS",
        "tried": "how it was found out",
    },
    "tls": {
        "versions": "object: name and true, false, or null where it could not be told",
        "version": "that was negotiated",
        "cipher": "the suite",
        "trusted": "true, false, or null",
        "authority": "who was asked to vouch",
        "distrust": "why it is not trusted",
        "wants_certificate": "true if this side has to show one, null if that is not known",
        "certificate": "object with subject, issuer, names, begins, ends, sha256, names_host, is_valid_now; or null",
        "problem": "why there was no handshake",
    },
    "titles": {
        "checks_called": "whether a made-up called AE title is refused; null if that could not be told",
        "checks_calling": "the same for the calling one",
    },
    "peer": {
        "product": "if it is known",
        "implementation_version_name": "as the peer says it",
        "implementation_class_uid": "as the peer says it",
        "max_pdu_length": "bytes, 0 is unlimited, or null",
        "window": "operations outstanding at once: invoked and performed, or null",
        "extended": "answers to extended negotiation: objects with sop_class and text",
        "identity_answered": "whether a user identity was answered; null: refused",
        "identity_demanded": "true, false, or null",
    },
    "class": {
        "uid": "a SOP class",
        "name": "its name",
        "storage": "true if it is a storage SOP class",
        "retired": "true if it is",
        "result": "number of the presentation context's result (PS3.8 Table 9-18), or null",
        "transfer_syntaxes": "UIDs of those that were accepted",
        "requestor_is_scp": "true if the peer sends such instances by C-GET, or null",
    },
    "pace": {
        "echoes": "C-ECHOs that were timed",
        "failed": "how many of them failed",
        "median_ms": "of the C-ECHOs, or null",
        "percentile_99_ms": "of the C-ECHOs, or null",
        "longest_ms": "of the C-ECHOs, or null",
        "associations_per_second": "opened and released one after the other, or null",
    },
    "stored": {
        "count": "synthetic instances that were stored",
        "size": "of each, in bytes",
        "seconds": "that it took",
        "status": "of the last one",
        "uids": "SOP instance UIDs",
    },
}


@click.command("probe", cls=Command, events=_EVENTS, short_help="Find out what a peer is, and why it fails.")
@click.argument("peer", type=peer_value, metavar="PEER")
@click.option(
    "--all", "everything", is_flag=True,
    help="Ask about retired SOP classes and transfer syntaxes as well, each pair by itself: this takes minutes.",
)  # fmt: skip
@click.option(
    "--echoes", type=click.IntRange(1, 10000), default=100, show_default=True, metavar="N",
    help="How many C-ECHOs to time: --echoes 1000",
)  # fmt: skip
@click.option(
    "--store", type=click.IntRange(1, 1000), metavar="N",
    help="Measure the throughput, too, by storing N synthetic images of 256 KiB, which somebody has to delete there"
    " afterwards: --store 20",
)  # fmt: skip
@click.option("--yes", is_flag=True, help="With --store: do not ask on a terminal whether to go on.")
@click.option(
    "--html", type=click.Path(dir_okay=False, writable=True, allow_dash=True), metavar="FILE",
    help="Write the whole page as one web page, to attach to a ticket: --html pacs.html",
)  # fmt: skip
@requestor
def command(
    peer: Peer,
    everything: bool,
    echoes: int,
    store: int | None,
    yes: bool,
    html: str | None,
    calling: str,
    settings: Settings,
    output: Output,
) -> int:
    """Find out what PEER is, what it accepts, and why it fails, and tell it on one page.

    Asked are: the address, what answers at the port, TLS, AE titles, every SOP class with every transfer syntax, roles
    and windows, and how fast it answers. One question at a time; nothing is stored unless --store is given. -v shows
    all SOP classes and the bytes of the first association.

    \b
      dicomnet probe PACS@192.0.2.7:11112
      dicomnet probe PACS@pacs.example.org --calling WORKSTATION7 --html pacs.html
      dicomnet probe PACS@pacs.example.org:2762 --tls-ca hospital-ca.pem -v
      dicomnet probe PACS@192.0.2.7:11112 --json | jq 'select(.event == "class")'
    """
    from dicomnet.probe import Plan, Store, survey
    from dicomnet.probe.surveyor import TIMEOUTS

    tls, identity = settings.client_tls(), settings.identity()
    defaults = {name: getattr(TIMEOUTS, name) for name in TIMEOUTS.__slots__}
    wanted = None if store is None else Store(store)
    if html is not None and html != "-":
        with _writing(html):
            writable(html)
    if wanted is not None:
        _announce(wanted, peer, output, yes)
    with Interrupt("interrupted; telling what is known (again: at once)") as interrupt, _Progress(output) as progress:
        report = survey(
            peer,
            calling_ae=calling,
            tls=tls,
            authority=settings.tls_ca or "",
            identity=identity,
            timeouts=settings.timeouts(**defaults),
            plan=Plan(everything=True, seconds=None) if everything else Plan(),
            echoes=echoes,
            store=wanted,
            command_options=_options(calling, settings),
            advance=progress.advance,
            stop=interrupt.is_set,
        )
    code = INTERRUPTED if interrupt.is_set() else exit_code(report)
    _show(report, code, output, bool(settings.verbose))
    if html is not None:
        _write(report, html)
    return code


def exit_code(report: Report) -> int:
    """0 all well, 1 the peer answered with a failure, 3 no association, 4 it ended half-way."""
    from dicomnet.probe.causes import Kind

    if report.failure is None:
        return PEER_FAILED if report.stored is not None and report.stored.status else 0
    if not report.failure.associated:
        return NO_ASSOCIATION
    return PEER_FAILED if report.failure.kind in (Kind.NO_CONTEXT, Kind.ECHO_FAILED) else HALF_WAY


def _options(calling: str, settings: Settings) -> str:
    """The options that the advice repeats, so that its commands can be used as they are."""
    from dicomnet.config import DEFAULT_CALLING_AE

    given: list[str] = [] if calling == DEFAULT_CALLING_AE else ["--calling", calling]
    for name in ("tls_ca", "tls_cert", "tls_key", "tls_profile", "tls_verify"):
        if (value := getattr(settings, name)) is not None:
            given += [f"--{name.replace('_', '-')}", str(value)]
    if settings.tls_no_verify:
        given.append("--tls-no-verify")
    if settings.tls and not any(one.startswith("--tls") for one in given):
        given.append("--tls")
    import shlex

    return shlex.join(given)


def _announce(store: Store, peer: Peer, output: Output, yes: bool) -> None:
    """Nobody finds synthetic images in an archive without having been told."""
    from dicomnet.probe.pace import PATIENT_ID, PATIENT_NAME

    output.problem(
        f"{peer} will be sent {store.count} synthetic images (Secondary Capture, 256 KiB each, in one study) of the"
        f" patient {PATIENT_NAME}, ID {PATIENT_ID}; have them deleted there afterwards"
    )
    if not yes and sys.stdin.isatty() and not click.confirm("go on?", err=True):
        raise Failure("nothing was asked and nothing stored", USAGE)


# --- showing --------------------------------------------------------------------------------------------------------


class _Progress:
    """A bar on a terminal, nothing in a pipe."""

    def __init__(self, output: Output) -> None:
        self._bar: Any = None
        self._shows = sys.stderr.isatty() and not output.json and not output.quiet

    def __enter__(self) -> _Progress:
        if self._shows:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

            columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task("", total=None)
            self._bar.start()
        return self

    def __exit__(self, *_error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, step: str, done: int, of: int) -> None:
        if self._bar is not None:
            self._bar.update(self._task, description=step, completed=done, total=of if done else None)


def _show(report: Report, code: int, output: Output, everything: bool) -> None:
    from dicomnet.probe.page import page_of

    if output.json:
        _print_events(report, code, output)
        return
    page = page_of(report, everything=everything)
    if output.quiet:
        output.lines([page.verdict])
    elif sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
        from dicomnet.cli.pages import print_page

        print_page(page)
    else:
        from dicomnet.probe.text import lines

        output.lines(lines(page))


def _write(report: Report, path: str) -> None:
    from dicomnet.probe.html import document
    from dicomnet.probe.page import page_of

    text = document(page_of(report, everything=True))
    with _writing(path), click.open_file(path, "w", encoding="utf-8") as file:
        file.write(text)


@contextlib.contextmanager
def _writing(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Failure(f"--html {path}: {error.strerror}", USAGE) from error


def _print_events(report: Report, code: int, output: Output) -> None:
    from dicomnet.probe.findings import findings
    from dicomnet.probe.page import page_of

    for kind, members in findings(report, page_of(report).verdict):
        if kind == "verdict":
            members["exit_code"] = code
        output.event(kind, **members)
