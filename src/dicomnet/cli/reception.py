"""What ``dicomnet receive`` does with each instance: it is stored, counted and told."""

from __future__ import annotations

from typing import Any, Final

from dicomnet import Response, Status
from dicomnet.cli.output import Output, size_text
from dicomnet.inbox import Inbox, Kept
from dicomnet.workers import SharedCounters

_WORDS: Final = {"same": "there already", "beside": "stored beside another of the same name"}


class Reception:
    """The handlers of ``dicomnet receive``, for the threads of all associations and all ``workers``."""

    def __init__(self, inbox: Inbox, output: Output, workers: int = 1) -> None:
        self._inbox = inbox
        self._output = output
        self._counters = SharedCounters(
            workers, "stored", "size", "failed", "associations", "replaced", "same", "beside"
        )

    def store(self, request: Any) -> Status | Response:
        """Store one instance: a few system calls, and little else."""
        dataset = request.dataset
        try:
            kept = self._inbox.keep(dataset)
        except OSError as error:
            return self._refuse(request, error)
        if kept.what == "stored":
            self._counters.add(stored=1, size=dataset.size)
        elif kept.what == "same":
            self._counters.add(same=1)
        else:
            self._counters.add(stored=1, size=dataset.size, **{kept.what: 1})
        output = self._output
        if output.json or not output.quiet:
            self._tell(request, kept)
        if kept.what == "beside":
            output.problem(f"another instance has the same name: {kept.path} was put beside it")
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
        self._counters.add(failed=1)
        path = self._inbox.path(request.dataset)
        self._output.event("failed", path=path, reason=error.strerror)
        self._output.problem(f"failed {path}: {error.strerror}")
        return Response(Status.OUT_OF_RESOURCES, error_comment=f"cannot be stored: {error.strerror}"[:64])

    def count_association(self, _association: Any) -> None:
        self._counters.add(associations=1)

    def summarise(self) -> None:
        total = self._counters.totals()
        text = (
            f"{total['stored']} stored ({size_text(total['size'])}), {total['failed']} failed;"
            f" {total['associations']} association{'s' * (total['associations'] != 1)}"
        )
        self._output.event("summary", text, bytes=total.pop("size"), **total)
