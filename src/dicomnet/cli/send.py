"""``dicomnet send``: files and folders to a peer. ``dicomnet.sender`` does the work."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import click

from dicomnet.cli.confirming import EVENTS as CONFIRMATION_EVENTS, Confirm, Confirmation, confirmable
from dicomnet.cli.interrupt import Interrupt
from dicomnet.cli.options import INTERRUPTED, USAGE, Command, Failure, peer_value, requestor
from dicomnet.cli.output import Output
from dicomnet.cli.report import EVENTS, Report, file_size
from dicomnet.cli.settings import Settings

if TYPE_CHECKING:
    from dicomnet.cli.progress import FileBar
    from dicomnet.config import Peer
    from dicomnet.sender import Transcode
    from dicomnet.sender.watch import Watch

_LATER: Final = 60.0  # seconds: what a watched folder has and the peer does not take now is tried again after them


@click.command(
    "send", cls=Command, events=EVENTS | CONFIRMATION_EVENTS, short_help="Send files and folders to a peer (C-STORE)."
)
@click.argument("peer", type=peer_value, metavar="PEER")
@click.argument("paths", nargs=-1, metavar="[PATH...]", type=click.Path(exists=True))
@click.option(
    "--transcode", type=click.Choice(["never", "lossless", "any"]), default="lossless", show_default=True,
    help="What may be done to an instance whose encoding the peer does not take: nothing, what loses nothing, or"
    " anything: --transcode never",
)  # fmt: skip
@click.option(
    "--attempts", type=click.IntRange(1, 100), default=3, show_default=True, metavar="N",
    help="How often to try what was refused for now, aborted, or unreachable: --attempts 10",
)  # fmt: skip
@click.option(
    "--backoff", type=click.FloatRange(0, 3600), default=0.5, show_default=True, metavar="SECONDS",
    help="How long to wait before the second attempt; doubled for each further one, up to 30, give or take half:"
    " --backoff 5",
)  # fmt: skip
@click.option(
    "--deadline", type=click.FloatRange(0, min_open=True), metavar="SECONDS",
    help="How long a file may take from when it is first sent, all attempts included; without it as long as it takes:"
    " --deadline 600",
)  # fmt: skip
@click.option(
    "--associations", type=click.IntRange(1, 64), metavar="N",
    help="How many associations to use at once; if not given, as many as make it faster and PEER takes:"
    " --associations 1",
)  # fmt: skip
@click.option(
    "--window", type=click.IntRange(1, 1000), metavar="N",
    help="How many instances may be on their way on one association before the first is answered, if PEER allows it;"
    " many do not, and get 1; if not given, up to 16, and fewer while that is better for PEER: --window 1",
)  # fmt: skip
@click.option(
    "--processes", type=click.IntRange(1, 64), default=1, show_default=True, metavar="N",
    help="How many processes to send from: where one core is not enough, for small files over a fast network:"
    " --processes 4",
)  # fmt: skip
@click.option(
    "--ledger", type=click.Path(dir_okay=False), metavar="FILE",
    help="Write down what became of each file, and do not send what is there already: the same command again sends just"
    " what is missing: --ledger archive.ledger",
)  # fmt: skip
@click.option(
    "--watch", type=click.Path(exists=True, file_okay=False), multiple=True, metavar="FOLDER",
    help="Send what is in this folder, then what appears in it, until interrupted; can be repeated: --watch outbox",
)  # fmt: skip
@click.option(
    "--settle", type=click.FloatRange(0, 3600), default=2.0, show_default=True, metavar="SECONDS",
    help="With --watch, for how long a file must not have changed before it is sent: --settle 10",
)  # fmt: skip
@confirmable
@requestor
def command(
    peer: Peer,
    paths: tuple[str, ...],
    transcode: Transcode,
    attempts: int,
    backoff: float,
    deadline: float | None,
    associations: int | None,
    window: int | None,
    processes: int,
    ledger: str | None,
    watch: tuple[str, ...],
    settle: float,
    confirm: Confirm,
    calling: str,
    settings: Settings,
    output: Output,
) -> int:
    """Send PATHs, files and folders, to PEER.

    In folders, DICOM files are found by what is in them; other files are skipped and counted. Files go as they are
    if PEER takes their encoding. Interrupted, it ends after the files under way.

    \b
      dicomnet send PACS@192.0.2.7:11112 image.dcm
      dicomnet send PACS@192.0.2.7:11112 archive/2024 --calling ARCHIVE
      dicomnet send PACS@192.0.2.7:11112 archive/2024 --associations 4 --attempts 10
      dicomnet send PACS@192.0.2.7:11112 archive/2024 --ledger 2024.ledger --commit
      dicomnet send PACS@192.0.2.7:11112 --watch outbox --ledger outbox.ledger
      dicomnet send PACS@192.0.2.7:11112 study --json | jq 'select(.error)'
    """
    tls = settings.client_tls()
    if tls is not None and processes > 1:
        raise click.UsageError("with TLS all is sent from one process: leave out --processes")
    if not (paths or watch):
        raise click.UsageError("name what to send: a PATH, or --watch FOLDER")
    if watch and (confirm.commit or confirm.verify):
        raise click.UsageError("--watch goes on until it is interrupted: confirm by another command, with its --ledger")
    options: dict[str, Any] = {
        "calling_ae": calling,
        "tls": tls,
        "identity": settings.identity(),
        "timeouts": settings.timeouts(),
        "transcode": transcode,
        "attempts": attempts,
        "backoff": backoff,
        "deadline": deadline,
        "associations": associations,
        "window": window,
        "processes": processes,
    }
    with (
        Interrupt("interrupted; ending after the files under way (again: at once)") as interrupt,
        _local_errors(),
        _watching(watch, settle) as watched,
        _ledger_for(ledger, watched) as book,
        confirm.opened(book, peer, calling, settings, output) as confirmation,
    ):
        return _send(paths, watched, Report(peer, output), interrupt, confirmation, peer=peer, **options)


def _send(
    paths: tuple[str, ...],
    watched: Watch | None,
    report: Report,
    interrupt: Interrupt,
    confirmation: Confirmation,
    **options: Any,
) -> int:
    from dicomnet.sender import send

    found = paths if watched is None else chain(paths, watched)
    outcomes = send(found, on_skipped=report.skip, stop=interrupt, ledger=confirmation.ledger, **options)
    bar = _bar(paths, report.output) if watched is None else contextlib.nullcontext()  # nobody knows how many will come
    with bar as report.bar, contextlib.closing(outcomes):
        for outcome in outcomes:
            if watched is not None and outcome.is_for_now:
                watched.later(outcome.path, _LATER)
                report.postpone(outcome)
            else:
                report.add(outcome)
    interrupted = interrupt.is_set() and watched is None  # to be interrupted is how a watch ends
    report.summarise(outcomes, interrupted=interrupted)
    code = confirmation.run(interrupt, report.exit_code()) if watched is None else report.exit_code()
    return INTERRUPTED if interrupt.is_set() and watched is None else code


@contextlib.contextmanager
def _local_errors() -> Iterator[None]:
    """What is wrong on this computer, with the ledger or the folder that is watched."""
    from dicomnet.errors import LedgerError
    from dicomnet.sender.watch import WatchError

    try:
        yield
    except LedgerError as error:
        raise Failure(f"--ledger {error}", USAGE) from error
    except WatchError as error:
        raise Failure(f"--watch {error}", USAGE) from error


def _watching(folders: tuple[str, ...], settle: float) -> contextlib.AbstractContextManager[Watch | None]:
    if not folders:
        return contextlib.nullcontext()
    from dicomnet.sender.watch import Watch

    return Watch(folders, settle=settle)


@contextlib.contextmanager
def _ledger_for(ledger: str | None, watched: Watch | None) -> Iterator[str | None]:
    """A watch needs one, because it may find a file twice; if nobody has named one it is of this run alone."""
    if ledger is not None or watched is None:
        yield ledger
        return
    with tempfile.TemporaryDirectory(prefix="dicomnet-send-") as folder:
        yield os.path.join(folder, "ledger")


def _bar(paths: tuple[str, ...], output: Output) -> contextlib.AbstractContextManager[FileBar | None]:
    """A progress bar if somebody looks."""
    if output.json or output.quiet or not (sys.stderr.isatty() and sys.stdout.isatty()):
        return contextlib.nullcontext()
    from dicomnet.cli.progress import FileBar
    from dicomnet.files import find_files

    return FileBar(file_size(found.path) for found in find_files(paths))
