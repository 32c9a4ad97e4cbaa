"""What ``send`` tells: each outcome as it comes, and in the end what it came to, with a line for each reason."""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from dicomnet.cli.options import HALF_WAY, NO_ASSOCIATION, PEER_FAILED, USAGE
from dicomnet.cli.output import Output, size_text

if TYPE_CHECKING:
    from dicomnet.cli.progress import FileBar
    from dicomnet.config import Peer
    from dicomnet.sender import Outcome, Sending

_OF_A_FILE: Final = {
    "path": "the file",
    "status": "number that the peer answered, or null",
    "error": "name of the error, or null",
    "reason": "why it failed, or what is to be said of it, in words",
    "attempts": "how often it was tried",
    "size": "of the data set, in bytes",
    "sop_instance_uid": "of what was sent; empty if the file could not be looked at",
    "derived_from": "the file's own, if it was compressed with loss and is another instance now; or empty",
}
EVENTS: Final = {
    "sent": _OF_A_FILE,
    "failed": _OF_A_FILE,
    "postponed": _OF_A_FILE,
    "sent_before": {"path": "a file that the peer has already, as the ledger says"},
    "skipped": {"path": "a file in a folder that is no DICOM instance"},
    "reason": {
        "reason": "why files failed, in words; one line for each reason, before the summary",
        "status": "number that the peer answered, or null",
        "error": "name of the error, or null",
        "files": "how many failed of it",
        "example": "one of them",
    },
    "summary": {
        "sent": "files that the peer has now",
        "failed": "files that it has not",
        "sent_before": "files that it had already, as the ledger says",
        "skipped": "files that are no DICOM instances",
        "lossy": "files that were compressed with loss for it: the peer has new instances made of them",
        "retried": "files that were tried more than once, whatever came of it",
        "bytes": "that were sent",
        "seconds": "that it took",
        "associations": "the most at once",
        "window": "requests that could be outstanding on one of them, as far as the peer allowed and took them well",
        "interrupted": "true if files were not tried",
    },
}

_MOST_REASONS: Final = 50  # that are told apart: some have names of files or a peer's words in them
_SHOWN: Final = 10  # files of a reason that a terminal shows one by one: thousands of lines help nobody there
_OTHERS: Final = "other reasons"


@dataclass(slots=True)
class _Reason:
    """Why files failed."""

    text: str
    status: int | None
    error: str | None
    example: str
    files: int = 0


class Report:
    """Tells each outcome, and in the end what it came to. ``each``: sent files have a line; problems always have."""

    def __init__(self, peer: Peer, output: Output) -> None:
        self.bar: FileBar | None = None
        self._peer = peer
        self.output = output
        self._started = time.monotonic()
        self._size = self._sent = self._before = self._skipped = self._retried = self._lossy = 0
        self._codes: Counter[int] = Counter()  # exit codes of the failures
        self._reasons: dict[tuple[int | None, str | None, str], _Reason] = {}
        self._told = ""  # the reason that was told for all that follow

    # --- as they come -----------------------------------------------------------------------------------------------

    def skip(self, path: Any) -> None:
        """A file that is no instance."""
        self._skipped += 1
        if self.bar is not None:
            self.bar.advance(file_size(path))
        self.output.event("skipped", path=os.fspath(path))

    def add(self, outcome: Outcome) -> None:
        """How it ended for one file."""
        path = os.fspath(outcome.path)
        self._advance(outcome)
        if outcome.recorded:
            self._before += 1
            self.output.event("sent_before", path=path)
            return
        self._retried += outcome.attempts > 1 and (outcome.associated or outcome.ok)
        reason, same = self._reason(outcome), 0
        if outcome.ok:
            self._sent += 1
            self._lossy += bool(outcome.derived_from)
            self._size += outcome.size
        else:
            self._codes[self._exit_code(outcome)] += 1
            same = self._count(outcome, path, reason)
        self._tell(
            "sent" if outcome.ok else "failed",
            f"sent {path}" + (f" ({reason})" if reason else "") if outcome.ok and self._tells_each else "",
            outcome,
            reason,
        )
        if not outcome.ok and not self.output.json and (self.bar is None or same <= _SHOWN):
            self._complain(path, reason, alone=outcome.associated or outcome.attempts == 0)
            if self.bar is not None and same == _SHOWN:
                self.output.problem("further ones that fail for this reason are counted, not shown; --json tells all")

    def postpone(self, outcome: Outcome) -> None:
        """A file that failed for now, and will be found again."""
        reason = self._reason(outcome)
        self._tell("postponed", "", outcome, reason)
        if not self.output.json:
            self._complain(f"{os.fspath(outcome.path)} for now", reason, alone=outcome.associated)

    def _tell(self, kind: str, text: str, outcome: Outcome, reason: str) -> None:
        self.output.event(
            kind,
            text,
            path=os.fspath(outcome.path),
            status=None if outcome.status is None else int(outcome.status),
            error=None if outcome.error is None else type(outcome.error).__name__,
            reason=reason,
            attempts=outcome.attempts,
            size=outcome.size,
            sop_instance_uid=outcome.sop_instance_uid,
            derived_from=outcome.derived_from,
        )

    @property
    def _tells_each(self) -> bool:
        return self.bar is None and not self.output.quiet

    def _advance(self, outcome: Outcome) -> None:
        if self.bar is not None:
            size = file_size(outcome.path) if outcome.stamp is None else outcome.stamp[0]
            self.bar.advance(size, sent=not outcome.recorded)

    def _complain(self, path: str, reason: str, *, alone: bool) -> None:
        """``alone``: the reason is this file's; else it is the same for all that follow, and told once."""
        if alone:
            self.output.problem(f"failed {path}: {reason}")
        elif reason != self._told:
            self._told = reason
            self.output.problem(f"failed {path} and the rest: {reason}")

    def _reason(self, outcome: Outcome) -> str:
        from dicomnet.cli.explain import explain

        if outcome.error is not None:
            return explain(outcome.error, self._peer, associated=outcome.associated)
        if outcome.status is None:
            return ""
        notes = []
        if outcome.status:
            comment = f": {outcome.comment}" if outcome.comment else ""
            notes.append(f"{outcome.status.meaning('C-STORE')}, status 0x{outcome.status:04X}{comment}")
        if outcome.ok and outcome.derived_from:
            notes.append(f"compressed with loss, as a new instance {outcome.sop_instance_uid}")
        return "; ".join(notes)

    def _count(self, outcome: Outcome, path: str, reason: str) -> int:
        """Statuses are told apart by their number, since comments may be of one file; errors by what they say. Returns
        how many there are of it now.
        """
        error = None if outcome.error is None else type(outcome.error).__name__
        status = None if outcome.status is None else int(outcome.status)
        key = (status, error, reason if error is not None else "")
        if key not in self._reasons and len(self._reasons) >= _MOST_REASONS:
            reason, status, error = _OTHERS, None, None
            key = (None, None, _OTHERS)
        group = self._reasons.setdefault(key, _Reason(reason, status, error, path))
        group.files += 1
        return group.files

    def _exit_code(self, outcome: Outcome) -> int:
        from dicomnet.cli.explain import exit_code

        return PEER_FAILED if outcome.error is None else exit_code(outcome.error, associated=outcome.associated)

    # --- in the end -------------------------------------------------------------------------------------------------

    def summarise(self, sending: Sending, *, interrupted: bool) -> None:
        """What it came to."""
        seconds = time.monotonic() - self._started
        failed = self._codes.total()
        self._tell_reasons(failed)
        self.output.event(
            "summary",
            self._summary(sending, seconds, failed, interrupted=interrupted),
            sent=self._sent,
            failed=failed,
            sent_before=self._before,
            skipped=self._skipped,
            retried=self._retried,
            lossy=self._lossy,
            bytes=self._size,
            seconds=round(seconds, 3),
            associations=sending.associations,
            window=sending.window,
            interrupted=interrupted,
        )

    def _tell_reasons(self, failed: int) -> None:
        """For people only if there is something to sum up: a single one has just been told."""
        for group in sorted(self._reasons.values(), key=lambda group: -group.files):
            self.output.event(
                "reason",
                f"{group.files} failed: {group.text}; one of them is {group.example}" if failed > 1 else "",
                reason=group.text,
                status=group.status,
                error=group.error,
                files=group.files,
                example=group.example,
            )

    def _summary(self, sending: Sending, seconds: float, failed: int, *, interrupted: bool) -> str:
        text = f"{self._sent} sent ({size_text(self._size)}) in {seconds:.2f} s"
        if self._sent:
            text += f": {self._sent / seconds:.0f} files/s, {size_text(self._size / seconds)}/s"
        if self._before:
            text += f"; {self._before} sent before"
        text += f"; {failed} failed, {self._skipped} skipped (no DICOM instances)"
        if self._retried:
            text += f"; {self._retried} tried more than once"
        if self._lossy:
            text += f"; {self._lossy} compressed with loss, as new instances"
        if sending.associations:
            text += f"; {sending.associations} association{'s' * (sending.associations != 1)}"
            text += f", window {sending.window}"
        return text + ("; interrupted: the rest was not sent" if interrupted else "")

    def exit_code(self) -> int:
        """The worst: 4 half-way, 1 the peer's failures, 3 no association, 2 files that cannot be sent; else 0."""
        if self._codes[NO_ASSOCIATION] and (self._sent or self._codes[PEER_FAILED]):
            return HALF_WAY
        for code in (HALF_WAY, PEER_FAILED, NO_ASSOCIATION, USAGE):
            if self._codes[code]:
                return code
        return 0


def file_size(path: str | os.PathLike[str]) -> int:
    """In bytes; 0 if there is none."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
