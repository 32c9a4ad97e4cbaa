"""What ``dicomnet receive`` does with each instance: it is stored, counted and told."""

from __future__ import annotations

import errno
import shutil
from typing import TYPE_CHECKING, Any, Final

from dicomnet import Response, Status
from dicomnet.cli.live import State
from dicomnet.cli.output import Output, size_text
from dicomnet.inbox import Inbox, Kept
from dicomnet.inbox.studies import Census, Channel, Reporter
from dicomnet.workers import SharedCounters

if TYPE_CHECKING:
    from dicomnet.errors import Reject
    from dicomnet.inbox.studies import Studies

_REFUSALS: Final = {  # why somebody was not let in
    "network": "by --allow-from",
    "limit": "for being too many",
    "calling": "by their AE title",
    "identity": "without the right identity",
    "other": "for what they asked",
}
_WORDS: Final = {"same": "there already", "beside": "stored beside another of the same name"}
_ASIDE: Final = {  # counts that are told only if there are any
    "replaced": "replaced older ones",
    "same": "there already",
    "beside": "beside others of the same name",
    "no_room": "refused for want of disk space",
}


class Reception:
    """The handlers of ``dicomnet receive``, for the threads of all associations and all ``workers``.

    ``channel``: where to tell of studies, if anybody listens. ``follow``: tell when they are complete, too.
    """

    def __init__(self, inbox: Inbox, output: Output, workers: int, channel: Channel | None, *, follow: bool) -> None:
        self._inbox = inbox
        self._output = output
        self._silent = output.quiet and not output.json
        self._counters = SharedCounters(workers, "stored", "size", "failed", "associations", *_ASIDE, *_REFUSALS)
        self._stored = self._counters.columns("stored", "size")
        self._reporter: Reporter | None = None
        self._census: Census | None = None
        if channel is not None and (follow or not inbox.layout.parts_studies):
            self._reporter = Reporter(channel, inbox.layout)
        elif channel is not None:
            self._census = Census(channel, inbox.layout)
        inbox.spool_failed = self._count_failure

    def store(self, request: Any) -> Status | Response:
        """Store one instance: a few system calls, and little else."""
        dataset = request.dataset
        try:
            kept = self._inbox.keep(dataset)
        except OSError as error:
            return self._refuse(request, error)
        what = kept.what
        if what != "same":
            self._counters.add_two(self._stored, 1, dataset.size)
        if what != "stored":
            self._counters.add(**{what: 1})
        census = self._census
        if census is not None and kept.folder not in census.folders:
            census.came(kept)
        if self._reporter is not None and what != "same":
            self._reporter.stored(request.association, kept, dataset.size)
        if not self._silent:
            self._tell(request, kept)
        if what == "beside":
            self._output.problem(f"another instance has the same name: this one was stored beside it as {kept.path}")
        return Status.SUCCESS

    def _tell(self, request: Any, kept: Kept) -> None:
        if not self._output.json:
            self._output.event("stored", f"{_WORDS.get(kept.what, kept.what)} {kept.path}")
            return
        self._output.event(
            "stored",
            path=kept.path,
            what=kept.what,
            size=request.dataset.size,
            sop_class_uid=request.sop_class_uid,
            sop_instance_uid=request.sop_instance_uid,
            transfer_syntax=request.dataset.transfer_syntax,
            calling=request.association.calling_ae,
        )

    def _refuse(self, request: Any, error: OSError) -> Response:
        self._count_failure(error, self._inbox.path(request.dataset))
        return Response(Status.OUT_OF_RESOURCES, error_comment=f"cannot be stored: {error.strerror}"[:64])

    def _count_failure(self, error: OSError, path: str = "") -> None:
        """``path``: not known of what could not even wait for its rest."""
        self._counters.add(failed=1, no_room=error.errno == errno.ENOSPC)
        self._output.event("failed", path=path, reason=error.strerror)
        self._output.problem(f"failed {path or 'a large instance'}: {error.strerror}")

    def end(self, association: Any) -> None:
        """An association is over."""
        self._counters.add(associations=1)
        if self._reporter is not None:
            self._reporter.ended(association)
        elif self._census is not None and self._census.folders:
            self._census.ended()

    def refuse(self, address: tuple[str, int], refusal: Reject | None) -> None:
        """Somebody was not let in."""
        self._counters.add(**{_why(refusal): 1})

    def state(self, studies: Studies | None, associations: int) -> State:
        """How it is doing now."""
        total = self._counters.totals()
        try:
            free = shutil.disk_usage(self._inbox.folder).free
        except OSError:  # its folder has gone; each instance tells why that is bad
            free = None
        seen = None if studies is None else studies.seen
        return State(total["stored"], total["size"], total["failed"], seen, associations, free)

    def summarise(self, studies: Studies | None) -> None:
        total = self._counters.totals()
        count, seconds = (studies.seen, studies.seconds) if studies is not None else (None, 0.0)
        refused = {name: total.pop(name) for name in _REFUSALS}
        rate = total["size"] / seconds if seconds else None
        text = (
            f"{total['stored']} stored ({size_text(total['size'])}), {total['failed']} failed;"
            f" {total['associations']} association{'s' * (total['associations'] != 1)}"
        )
        if count:
            text += f", {count} stud{'y' if count == 1 else 'ies'}"
        if rate:
            text += f"; {size_text(rate)} a second from the first to the last"
        aside = ", ".join(f"{total[name]} {words}" for name, words in _ASIDE.items() if total[name])
        why = ", ".join(f"{count} {_REFUSALS[name]}" for name, count in refused.items() if count)
        self._output.event(
            "summary",
            text + f"; {aside}" * bool(aside) + f"; {sum(refused.values())} not let in: {why}" * bool(why),
            bytes=total.pop("size"),
            studies=count,
            bytes_per_second=rate and round(rate),
            refused=sum(refused.values()),
            refused_why=refused,
            **total,
        )


def _why(refusal: Reject | None) -> str:
    if refusal is None:
        return "network"
    match tuple(map(int, (refusal.result, refusal.source, refusal.reason))):
        case (2, 3, 2):  # PS3.8 Table 9-21
            return "limit"
        case (1, 1, 3):
            return "calling"
        case (1, 1 | 2, 1):
            return "identity"
    return "other"
