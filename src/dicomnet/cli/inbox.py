"""The folder of ``dicomnet receive``: what comes in goes to its place in it."""

from __future__ import annotations

import os
import threading
import time
from typing import Any, Final

from dicomnet import Response, Status
from dicomnet.cli.layout import instance_path
from dicomnet.cli.output import Output, size_text
from dicomnet.scan import PATIENT_ID, SERIES_INSTANCE_UID, STUDY_INSTANCE_UID, dataset_values
from dicomnet.spool import SPOOL_PREFIX

_SPOOL: Final = ".incoming"  # in the folder itself: from there a large instance is renamed into its place, not copied
_STALE: Final = 24 * 3600.0  # seconds after which no transfer is still under way
_MOST_FOLDERS: Final = 10_000  # that are remembered as made
_TAGS: Final = (PATIENT_ID, STUDY_INSTANCE_UID, SERIES_INSTANCE_UID)


class Inbox:
    """Stores instances, on the threads of all associations; counts them and tells about them.

    Raises OSError if nothing can be stored in ``folder``. What a run that crashed left unfinished there is removed.
    """

    def __init__(self, folder: str, output: Output) -> None:
        self.spool_folder = os.path.join(folder, _SPOOL)
        self._folder = folder
        self._output = output
        self._made: set[str] = set()
        self._lock = threading.Lock()
        self._stored = self._failed = self._size = self._associations = 0
        os.makedirs(self.spool_folder, exist_ok=True)
        if not os.access(self.spool_folder, os.W_OK | os.X_OK):
            raise PermissionError(None, "permission denied")
        _remove_stale(self.spool_folder)

    def keep(self, request: Any) -> Status | Response:
        """Store one instance: a few system calls."""
        dataset = request.dataset
        values = dataset_values(dataset, _TAGS)
        patient_id, study, series = (values.get(tag, "") for tag in _TAGS)
        folder, name = instance_path(patient_id, study, series, request.sop_instance_uid)
        try:
            self._save(dataset, folder, name)
        except OSError as error:
            return self._refuse(f"{folder}/{name}", error)
        with self._lock:
            self._stored += 1
            self._size += dataset.size
        self._output.detail(
            "stored",
            f"stored {folder}/{name}",
            path=f"{folder}/{name}",
            size=dataset.size,
            sop_class_uid=request.sop_class_uid,
            sop_instance_uid=request.sop_instance_uid,
            transfer_syntax=dataset.transfer_syntax,
            calling=request.association.calling_ae,
        )
        return Status.SUCCESS

    def _save(self, dataset: Any, folder: str, name: str) -> None:
        parent = f"{self._folder}/{folder}"
        if parent not in self._made:
            os.makedirs(parent, exist_ok=True)
            if len(self._made) >= _MOST_FOLDERS:
                self._made.clear()
            self._made.add(parent)
        try:
            dataset.save(f"{parent}/{name}")
        except FileNotFoundError:  # somebody tidied up
            os.makedirs(parent, exist_ok=True)
            dataset.save(f"{parent}/{name}")

    def _refuse(self, path: str, error: OSError) -> Response:
        with self._lock:
            self._failed += 1
        self._output.event("failed", path=path, reason=error.strerror)
        self._output.problem(f"failed {path}: {error.strerror}")
        return Response(Status.OUT_OF_RESOURCES, error_comment=f"cannot be stored: {error.strerror}"[:64])

    def count_association(self, _association: Any) -> None:
        with self._lock:
            self._associations += 1

    def summarise(self) -> None:
        text = (
            f"{self._stored} stored ({size_text(self._size)}), {self._failed} failed;"
            f" {self._associations} association{'s' * (self._associations != 1)}"
        )
        fields = {"stored": self._stored, "failed": self._failed, "bytes": self._size}
        self._output.event("summary", text, **fields, associations=self._associations)


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
