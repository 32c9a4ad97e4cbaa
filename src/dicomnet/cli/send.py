"""``dicomnet send``: files and folders to a peer. ``dicomnet.sender`` does the work."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import click

from dicomnet.cli.confirming import EVENTS as CONFIRMATION_EVENTS, Confirm, confirmable
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
from dicomnet.cli.output import Output, size_text
from dicomnet.cli.settings import Settings

if TYPE_CHECKING:
    from dicomnet.cli.progress import FileBar
    from dicomnet.config import Peer
    from dicomnet.sender import Outcome, Sending, Transcode


_OF_A_FILE: Final = {
    "path": "the file",
    "status": "number that the peer answered, or null",
    "error": "name of the error, or null",
    "reason": "why it failed, in words",
    "attempts": "how often it was tried",
    "size": "of the data set, in bytes",
}
_EVENTS: Final = {
    "sent": _OF_A_FILE,
    "failed": _OF_A_FILE,
    "sent_before": {"path": "a file that the peer has already, as the ledger says"},
    "skipped": {"path": "a file in a folder that is no DICOM instance"},
    "summary": {
        "sent": "files that the peer has now",
        "failed": "files that it has not",
        "sent_before": "files that it had already, as the ledger says",
        "skipped": "files that are no DICOM instances",
        "bytes": "that were sent",
        "seconds": "that it took",
        "associations": "the most at once",
        "window": "the most requests that were outstanding on one of them",
        "interrupted": "true if files were not tried",
    },
}


@click.command(
    "send", cls=Command, events=_EVENTS | CONFIRMATION_EVENTS, short_help="Send files and folders to a peer (C-STORE)."
)
@click.argument("peer", type=peer_value, metavar="PEER")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path(exists=True))
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
    "--associations", type=click.IntRange(1, 64), metavar="N",
    help="How many associations to use at once; if not given, as many as make it faster and PEER takes:"
    " --associations 1",
)  # fmt: skip
@click.option(
    "--window", type=click.IntRange(1, 1000), default=16, show_default=True, metavar="N",
    help="How many instances may be on their way on one association before the first is answered, if PEER allows it;"
    " many do not, and get 1: --window 1",
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
@confirmable
@requestor
def command(
    peer: Peer,
    paths: tuple[str, ...],
    transcode: Transcode,
    attempts: int,
    associations: int | None,
    window: int,
    processes: int,
    ledger: str | None,
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
      dicomnet send PACS@192.0.2.7:11112 study --json | jq 'select(.error)'
    """
    from dicomnet.sender import send

    tls = settings.client_tls()
    if tls is not None and processes > 1:
        raise click.UsageError("with TLS all is sent from one process: leave out --processes")
    with (
        Interrupt("interrupted; ending after the files under way (again: at once)") as interrupt,
        _ledger_errors(),
        confirm.opened(ledger, peer, calling, settings, output) as confirmation,
    ):
        report = _Report(peer, output)
        outcomes = send(
            paths,
            peer,
            calling_ae=calling,
            tls=tls,
            identity=settings.identity(),
            timeouts=settings.timeouts(),
            transcode=transcode,
            attempts=attempts,
            associations=associations,
            window=window,
            processes=processes,
            on_skipped=report.skip,
            stop=interrupt,
            ledger=confirmation.ledger,
        )
        with _bar(paths, output) as bar, contextlib.closing(outcomes):
            report.bar = bar
            for outcome in outcomes:
                report.add(outcome)
        report.summarise(outcomes, interrupted=interrupt.is_set())
        code = confirmation.run(interrupt, report.exit_code())
    return INTERRUPTED if interrupt.is_set() else code


@contextlib.contextmanager
def _ledger_errors() -> Iterator[None]:
    from dicomnet.errors import LedgerError

    try:
        yield
    except LedgerError as error:
        raise Failure(f"--ledger {error}", USAGE) from error


def _bar(paths: tuple[str, ...], output: Output) -> contextlib.AbstractContextManager[FileBar | None]:
    """A progress bar if somebody looks."""
    if output.json or output.quiet or not (sys.stderr.isatty() and sys.stdout.isatty()):
        return contextlib.nullcontext()
    from dicomnet.cli.progress import FileBar
    from dicomnet.files import find_files

    return FileBar(_size(found.path) for found in find_files(paths))


def _size(path: str | os.PathLike[str]) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


class _Report:
    """Tells each outcome, and in the end what it came to."""

    def __init__(self, peer: Peer, output: Output) -> None:
        self.bar: FileBar | None = None
        self._peer = peer
        self._output = output
        self._started = time.monotonic()
        self._size = self._sent = self._before = self._skipped = 0
        self._codes: Counter[int] = Counter()  # exit codes of the failures
        self._told = ""  # the reason that was told for all that follow

    def skip(self, path: Any) -> None:
        self._skipped += 1
        self._advance(path)
        self._output.event("skipped", path=os.fspath(path))

    def add(self, outcome: Outcome) -> None:
        self._advance(outcome.path)
        path = os.fspath(outcome.path)
        if outcome.recorded:
            self._before += 1
            self._output.event("sent_before", path=path)
            return
        reason = self._reason(outcome)
        if outcome.ok:
            self._sent += 1
            self._size += outcome.size
        else:
            self._codes[self._exit_code(outcome)] += 1
        self._output.event(
            "sent" if outcome.ok else "failed",
            f"sent {path}" + (f" ({reason})" if reason else "") if outcome.ok and self._tells_each else "",
            path=path,
            status=None if outcome.status is None else int(outcome.status),
            error=None if outcome.error is None else type(outcome.error).__name__,
            reason=reason,
            attempts=outcome.attempts,
            size=outcome.size,
        )
        if not outcome.ok and not self._output.json:
            self._complain(path, reason, alone=outcome.associated or outcome.attempts == 0)

    @property
    def _tells_each(self) -> bool:
        return self.bar is None and not self._output.quiet

    def _advance(self, path: str | os.PathLike[str]) -> None:
        if self.bar is not None:
            self.bar.advance(_size(path))

    def _complain(self, path: str, reason: str, *, alone: bool) -> None:
        """``alone``: the reason is this file's; else it is the same for all that follow, and told once."""
        if alone:
            self._output.problem(f"failed {path}: {reason}")
        elif reason != self._told:
            self._told = reason
            self._output.problem(f"failed {path} and the rest: {reason}")

    def _reason(self, outcome: Outcome) -> str:
        from dicomnet.cli.explain import explain

        if outcome.error is not None:
            return explain(outcome.error, self._peer, associated=outcome.associated)
        if not outcome.status:
            return ""
        comment = f": {outcome.comment}" if outcome.comment else ""
        return f"{outcome.status.meaning('C-STORE')}, status 0x{outcome.status:04X}{comment}"

    def _exit_code(self, outcome: Outcome) -> int:
        from dicomnet.cli.explain import exit_code

        return PEER_FAILED if outcome.error is None else exit_code(outcome.error, associated=outcome.associated)

    def summarise(self, sending: Sending, *, interrupted: bool) -> None:
        seconds = time.monotonic() - self._started
        failed = self._codes.total()
        text = f"{self._sent} sent ({size_text(self._size)}) in {seconds:.2f} s"
        if self._sent:
            text += f": {self._sent / seconds:.0f} files/s, {size_text(self._size / seconds)}/s"
        text += f"; {failed} failed, {self._skipped} skipped (no DICOM instances)"
        if self._before:
            text += f", {self._before} sent before"
        if sending.associations:
            text += f"; {sending.associations} association{'s' * (sending.associations != 1)}"
            text += f", window {sending.window}"
        if interrupted:
            text += "; interrupted: the rest was not sent"
        self._output.event(
            "summary",
            text,
            sent=self._sent,
            failed=failed,
            sent_before=self._before,
            skipped=self._skipped,
            bytes=self._size,
            seconds=round(seconds, 3),
            associations=sending.associations,
            window=sending.window,
            interrupted=interrupted,
        )

    def exit_code(self) -> int:
        """The worst: 4 half-way, 1 the peer's failures, 3 no association, 2 files that cannot be sent; else 0."""
        if self._codes[NO_ASSOCIATION] and (self._sent or self._codes[PEER_FAILED]):
            return HALF_WAY
        for code in (HALF_WAY, PEER_FAILED, NO_ASSOCIATION, USAGE):
            if self._codes[code]:
                return code
        return 0
