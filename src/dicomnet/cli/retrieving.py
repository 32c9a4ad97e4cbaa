"""What ``get`` and ``move`` have in common: where instances go, how far it is, what came and what failed."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import click

from dicomnet.cli.options import PEER_FAILED, USAGE, Body, Failure
from dicomnet.cli.output import Output, size_text

if TYPE_CHECKING:
    from pydicom import Dataset

    from dicomnet import EncodedDataset, Response, SubOperations
    from dicomnet.cli.progress import InstanceBar
    from dicomnet.config import Peer
    from dicomnet.inbox import Inbox

_STEP: Final = 2.0  # seconds between two lines about the progress in a pipe
_MOST_FAILED: Final = 20  # failed instances that are told one by one; all of them with --json or -v
_MOST_LOST: Final = 10_000  # instances that could not be stored, of which the reasons are kept
_SOP_INSTANCE_UID: Final = 0x00080018
_UIDS: Final = (_SOP_INSTANCE_UID, 0x0020000D, 0x0020000E)  # and those of study and series

EVENTS: Final = {
    "stored": {
        "path": "below the folder",
        "what": "stored; replaced: an older one went; same: it was there already; beside: another one has its name",
        "size": "of the data set, in bytes",
        "sop_class_uid": "SOP class",
        "sop_instance_uid": "SOP instance",
        "transfer_syntax": "UID of its transfer syntax",
    },
    "failed": {
        "sop_instance_uid": "an instance that was not retrieved",
        "reason": "why, as far as one knows here",
    },
    "progress": {
        "remaining": "instances to come, as the peer counts",
        "completed": "instances that are done",
        "failed": "instances that failed",
        "warning": "instances that are done with a warning",
    },
    "summary": {
        "status": "number, the peer's final one; null if none came",
        "completed": "instances that are done, as the peer counts",
        "failed": "instances that failed, as the peer counts",
        "warning": "instances that are done with a warning, as the peer counts",
        "stored": "instances that are in the folder now; null if they went elsewhere",
        "foreign": "of these, those that were not asked for",
        "bytes": "that came",
        "seconds": "that it took",
        "limited": "true if --limit ended it",
        "interrupted": "true if a signal ended it",
    },
}


def stores(body: Body) -> Body:
    """The options of those who store."""
    for option in (
        click.option(
            "--duplicates", type=click.Choice(["keep", "replace", "compare"]), default="replace", show_default=True,
            help="What to do with an instance that is there already: keep the old one, replace it, or keep both if they"
            " differ: --duplicates keep",
        ),
        click.option(
            "--layout", metavar="TEMPLATE",
            help="Where instances go below the folder; if not given, into folders by patient, study and series:"
            " --layout '{StudyDate:4}/{StudyInstanceUID}/{SOPInstanceUID}.dcm'",
        ),
    ):  # fmt: skip
        body = option(body)
    return body


def make_inbox(folder: str, layout: str | None, duplicates: Any) -> Inbox:
    """Raises Failure where nothing can be stored, UsageError for a layout that is none."""
    from dicomnet.inbox import Inbox, Layout

    try:
        template = None if layout is None else Layout(layout)
    except ValueError as error:
        raise click.UsageError(f"--layout: {error}") from error
    try:
        return Inbox(folder, layout=template, duplicates=duplicates)
    except OSError as error:
        raise Failure(f"cannot store into {folder}: {error.strerror}; choose another FOLDER", USAGE) from error


class Retrieval:
    """What came of a retrieval; as a ``with`` block it shows a bar on a terminal.

    ``inbox``: where instances go that come here. ``keep`` may be called on other threads.
    """

    def __init__(self, peer: Peer, service: str, output: Output, inbox: Inbox | None, identifier: Dataset) -> None:
        self.peer = peer
        self.service = service
        self._output = output
        self._inbox = inbox
        self._bar: InstanceBar | None = None
        self._started = self._told = time.monotonic()
        self._size = 0
        self._lock = threading.Lock()
        self._lost: dict[str, str] = {}  # instance → why it could not be stored
        self.lost = 0
        self._asked = _asked(identifier)
        self.stored = 0
        self.foreign = 0  # that nobody asked for
        self.progress: SubOperations | None = None
        self.limited = False
        self.failure: Failure | None = None

    @contextlib.contextmanager
    def shown(self) -> Any:
        """A progress bar if somebody looks."""
        if self._output.json or self._output.quiet or not (sys.stderr.isatty() and sys.stdout.isatty()):
            yield
            return
        from dicomnet.cli.progress import InstanceBar

        with InstanceBar("moving" if self._inbox is None else "retrieving") as self._bar:
            yield
        self._bar = None

    def keep(self, dataset: EncodedDataset) -> Response:
        """Store an instance; the answer to who sent it."""
        from dicomnet import Response, Status

        assert self._inbox is not None
        try:
            kept = self._inbox.keep(dataset)
        except OSError as error:
            reason = f"cannot be stored here: {error.strerror}"
            with self._lock:
                self.lost += 1
                if len(self._lost) < _MOST_LOST:
                    self._lost[dataset.sop_instance_uid] = reason
            return Response(Status.OUT_OF_RESOURCES, error_comment=reason[:64])
        with self._lock:
            self.stored += 1
            self._size += dataset.size
            self.foreign += self._is_foreign(dataset, kept.values)
        if self._bar is not None:
            self._bar.came(dataset.size)
        self._output.event(
            "stored",
            "" if self._bar is not None or self._output.quiet else f"{kept.what} {kept.path}",
            path=kept.path,
            what=kept.what,
            size=dataset.size,
            sop_class_uid=dataset.sop_class_uid,
            sop_instance_uid=dataset.sop_instance_uid,
            transfer_syntax=dataset.transfer_syntax,
        )
        return Response(Status.SUCCESS)

    def _is_foreign(self, dataset: EncodedDataset, values: Mapping[int, str]) -> bool:
        """As far as its values have been read; a peer may send what it likes, and to a listener anybody may."""
        known = {**values, _SOP_INSTANCE_UID: dataset.sop_instance_uid}
        return any(known.get(tag, "") not in ("", *uids) for tag, uids in self._asked.items())

    def advance(self, progress: SubOperations) -> None:
        """How far it is, as the peer says."""
        if progress == self.progress:
            return
        self.progress = progress
        if self._bar is not None:
            self._bar.advance(progress)
            return
        now = time.monotonic()
        text = ""
        if self._inbox is None and not self._output.quiet and now - self._told > _STEP:
            self._told = now
            done = progress.completed + progress.warning
            text = f"{done} of {sum(progress)} done, {progress.failed} failed"
        self._output.event(
            "progress",
            text,
            remaining=progress.remaining,
            completed=progress.completed,
            failed=progress.failed,
            warning=progress.warning,
        )

    def finish(self, response: Response | None, *, interrupted: bool) -> int:
        """Tell what came of it; returns the exit code. Raises ``failure``."""
        failed = self._tell_failed(response)
        self._summarise(response, interrupted=interrupted)
        if self.failure is not None:
            raise self.failure
        astray = False if interrupted else self._tell_astray()
        return PEER_FAILED if failed or astray else 0

    def _tell_astray(self) -> bool:
        """What was not asked for, and what the peer counts but did not come: whether there is any of that."""
        if self._inbox is None:
            return False
        if self.foreign:
            self._output.problem(
                f"{self.foreign} of the instances stored were not asked for: they have other UIDs than the keys"
            )
        sent = 0 if self.progress is None else self.progress.completed + self.progress.warning
        if sent > self.stored:
            elsewhere = "; does another AE have this title at the peer?" if self.service == "C-MOVE" else ""
            self._output.problem(
                f"the peer counts {sent} instances as sent, but only {self.stored} arrived here{elsewhere}"
            )
        return sent > self.stored

    def _tell_failed(self, response: Response | None) -> bool:
        reasons = dict(self._lost)
        for uid in _failed_uids(response):
            reasons.setdefault(uid, self._why_failed())
        told = _MOST_FAILED if not self._output.json else len(reasons)
        for uid, reason in list(reasons.items())[:told]:
            self._output.event("failed", sop_instance_uid=uid, reason=reason)
            if not self._output.json:
                self._output.problem(f"failed {uid}: {reason}")
        count = max(len(reasons), self.lost)
        if count > told:
            self._output.problem(
                f"and {count - told} more failed" + "; --json lists all of them" * (count <= _MOST_LOST)
            )
        return bool(reasons) or self.lost > 0 or (self.progress is not None and self.progress.failed > 0)

    def _why_failed(self) -> str:
        if self.service == "C-GET":
            return (
                "the peer could not send it, perhaps for want of a presentation context; try --sop-class, see its log"
            )
        return "the peer could not deliver it; its log, and that of the destination, may say why"

    def _summarise(self, response: Response | None, *, interrupted: bool) -> None:
        seconds = time.monotonic() - self._started
        progress = self.progress
        completed, failed, warning = (0, 0, 0) if progress is None else progress[1:]
        if self._inbox is None:
            text = f"{completed + warning} moved"
        else:
            text = f"{self.stored} stored ({size_text(self._size)})"
        text += f", {failed} failed in {seconds:.2f} s"
        if warning:
            text += f"; {warning} with a warning"
        if response is not None and response.status == 0 and not (self.stored or completed or failed or warning):
            text += "; the peer has nothing that was asked for"
        if self.limited:
            text += "; cancelled at --limit, there may be more"
        if interrupted:
            text += "; interrupted, there may be more"
        self._output.event(
            "summary",
            text,
            status=None if response is None else int(response.status),
            completed=completed,
            failed=failed,
            warning=warning,
            stored=None if self._inbox is None else self.stored,
            foreign=self.foreign,
            bytes=self._size,
            seconds=round(seconds, 3),
            limited=self.limited,
            interrupted=interrupted,
        )


def _asked(identifier: Dataset) -> dict[int, tuple[str, ...]]:
    """What instances have to have: by tag one of these UIDs."""
    asked = {}
    for tag in _UIDS:
        value = identifier[tag].value if tag in identifier else None
        if value:
            asked[tag] = (value,) if isinstance(value, str) else tuple(map(str, value))
    return asked


def _failed_uids(response: Response | None) -> list[str]:
    """Failed SOP Instance UID List (PS3.4 C.4.2.1.8); whatever the peer put there."""
    from dicomnet import InvalidDataset

    if response is None or response.dataset is None or isinstance(response.dataset, OSError):
        return []
    try:
        value = response.dataset.decode().get("FailedSOPInstanceUIDList") or []
    except (InvalidDataset, OSError, ValueError, TypeError):
        return []
    return [value] if isinstance(value, str) else list(dict.fromkeys(map(str, value)))


def run(results: Any, retrieval: Retrieval, step: Callable[[Any], int], limit: int | None, query: Any) -> None:
    """Go through the results of a C-GET or C-MOVE to the end; ``step``: takes one, returns how many are done.

    A failure of the peer is kept in ``retrieval``: what came before is told first.
    """
    from dicomnet import Status, StatusError
    from dicomnet.cli.querying import refused

    try:
        for item in results:
            done = step(item)
            retrieval.advance(results.progress)
            if limit is not None and done >= limit and not retrieval.limited:
                retrieval.limited = True
                results.cancel()  # what is under way still comes
    except StatusError as error:
        if error.status != Status.WARNING:  # some sub-operations failed: they are told one by one
            retrieval.failure = refused(error, retrieval.peer, retrieval.service, query)
    retrieval.advance(results.progress)
