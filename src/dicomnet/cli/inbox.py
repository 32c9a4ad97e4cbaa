"""The folder of ``dicomnet receive``: what comes in goes to its place in it."""

from __future__ import annotations

import os
import time
from typing import Any, Final

from dicomnet import Response, Status
from dicomnet.cli.layout import instance_path
from dicomnet.cli.output import Output, size_text
from dicomnet.scan import PATIENT_ID, SERIES_INSTANCE_UID, STUDY_INSTANCE_UID, dataset_values
from dicomnet.spool import SPOOL_PREFIX
from dicomnet.workers import SharedCounters

_SPOOL: Final = ".incoming"  # in the folder itself: from there a large instance is renamed into its place, not copied
_STALE: Final = 24 * 3600.0  # seconds after which no transfer is still under way
_MOST_FOLDERS: Final = 10_000  # that are remembered as made
_TAGS: Final = (PATIENT_ID, STUDY_INSTANCE_UID, SERIES_INSTANCE_UID)


class Inbox:
    """Stores instances, on the threads of all associations and in all ``workers``; counts them and tells about them.

    Raises OSError if nothing can be stored in ``folder``. What a run that crashed left unfinished there is removed.
    """

    def __init__(self, folder: str, output: Output, workers: int = 1) -> None:
        self._folder = os.path.abspath(folder)  # once: for each file it would cost a system call
        self.spool_folder = os.path.join(self._folder, _SPOOL)
        self._output = output
        self._made: set[str] = set()
        self._counters = SharedCounters(workers, "stored", "size", "failed", "associations")
        os.makedirs(self.spool_folder, exist_ok=True)
        if not os.access(self.spool_folder, os.W_OK | os.X_OK):
            raise PermissionError(None, "permission denied")
        _remove_stale(self.spool_folder)

    def keep(self, request: Any) -> Status | Response:
        """Store one instance: a few system calls, and little else."""
        dataset = request.dataset
        value = dataset_values(dataset, _TAGS).get
        patient_id, study, series = value(PATIENT_ID, ""), value(STUDY_INSTANCE_UID, ""), value(SERIES_INSTANCE_UID, "")
        folder, name = instance_path(patient_id, study, series, request.sop_instance_uid)
        path = f"{folder}/{name}"
        try:
            self._save(dataset, folder, path)
        except OSError as error:
            return self._refuse(path, error)
        self._counters.add(stored=1, size=dataset.size)
        output = self._output
        if output.json:
            output.event(
                "stored",
                path=path,
                size=dataset.size,
                sop_class_uid=request.sop_class_uid,
                sop_instance_uid=request.sop_instance_uid,
                transfer_syntax=dataset.transfer_syntax,
                calling=request.association.calling_ae,
            )
        elif not output.quiet:
            output.event("stored", f"stored {path}")
        return Status.SUCCESS

    def _save(self, dataset: Any, folder: str, path: str) -> None:
        if folder not in self._made:
            os.makedirs(f"{self._folder}/{folder}", exist_ok=True)
            if len(self._made) >= _MOST_FOLDERS:
                self._made.clear()
            self._made.add(folder)
        try:
            dataset.save(f"{self._folder}/{path}")
        except FileNotFoundError:  # somebody tidied up
            os.makedirs(f"{self._folder}/{folder}", exist_ok=True)
            dataset.save(f"{self._folder}/{path}")

    def _refuse(self, path: str, error: OSError) -> Response:
        self._counters.add(failed=1)
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


def _remove_stale(spool: str) -> None:
    """Remove unfinished files, but not those of another process that receives into the same folder."""
    for entry in os.scandir(spool):
        if entry.name.startswith(SPOOL_PREFIX):
            pid = entry.name.removeprefix(SPOOL_PREFIX).partition("-")[0]
            try:
                if time.time() - entry.stat().st_mtime > _STALE or not _is_running(pid):
                    os.unlink(entry)
            except FileNotFoundError:  # its process has just put it in its place
                continue


def _is_running(pid: str) -> bool:
    """Whether a process may still write its file. Ours has not begun to."""
    if os.name != "posix" or not pid.isdecimal():  # elsewhere os.kill is no question but a deed
        return True
    if int(pid) == os.getpid():
        return False
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
