"""Commands that run when a study is complete: without a shell, a few at once, each for a limited time.

One idea: what a peer sent never decides what is run. The command line is split once, before there is any value; a value
only ever fills in a part of an argument, as harmless as it is in a file name, so that it is no option and no second
argument. The values as they are stand in the environment.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any, Final, Literal

from dicomnet.inbox.layout import file_name, folder_name
from dicomnet.inbox.studies import Study

PLACEHOLDERS: Final = ("folder", "StudyInstanceUID", "PatientID", "CallingAE", "count", "bytes")
Outcome = Literal["done", "failed", "too long", "not run", "stopped"]

_PLACEHOLDER: Final = re.compile(r"\{([A-Za-z]+)\}")
_TAIL: Final = 2000  # bytes of what a command said last
_LAST_WORDS: Final = 1.0  # seconds for output that is still on its way when a command has ended
_GRACE: Final = 2.0  # seconds from SIGTERM to SIGKILL
_SECRETS: Final = frozenset(("DICOMNET_PASSCODE",))  # ours, which no command needs to know


@dataclass(frozen=True, slots=True)
class Ran:
    """What has become of a command. ``exit_code``: or None; ``said``: the end of its output and errors."""

    study: Study
    outcome: Outcome
    exit_code: int | None = None
    seconds: float = 0.0
    said: str = ""


class CommandLine:
    """A command line with placeholders such as ``{folder}``. Raises ValueError if nobody could run it."""

    def __init__(self, text: str) -> None:
        self._arguments = shlex.split(text)
        if not self._arguments:
            raise ValueError("it is empty")
        unknown = sorted({name for one in self._arguments for name in _PLACEHOLDER.findall(one)} - {*PLACEHOLDERS})
        if unknown:
            known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
            raise ValueError(f"there is no {{{unknown[0]}}}, only {known}")
        if _PLACEHOLDER.search(self._arguments[0]):
            raise ValueError("what was received must not choose the program")

    def check_program(self) -> None:
        """Raises ValueError if there is no such program here."""
        if shutil.which(self._arguments[0]) is None:
            raise ValueError(f"there is no program {self._arguments[0]!r} that could be run")

    def arguments(self, study: Study, folder: str) -> list[str]:
        """For a study in ``folder``, an absolute path."""
        values = {
            "folder": folder,
            "StudyInstanceUID": file_name(study.uid) if study.uid else "no-study-uid",
            "PatientID": folder_name(study.patient_id) if study.patient_id else "no-patient-id",
            "CallingAE": folder_name(study.calling_ae),
            "count": str(study.count),
            "bytes": str(study.size),
        }
        return [_PLACEHOLDER.sub(lambda match: values[match[1]], argument) for argument in self._arguments]


def environment(study: Study, folder: str) -> dict[str, str]:
    """This process's, and the values as the peer sent them."""
    values = {
        "FOLDER": folder,
        "STUDY_INSTANCE_UID": study.uid,
        "PATIENT_ID": study.patient_id,
        "CALLING_AE": study.calling_ae,
        "COUNT": str(study.count),
        "BYTES": str(study.size),
    }
    ours = {name: value for name, value in os.environ.items() if name not in _SECRETS}
    # There can be no NUL, and what this system cannot encode had better be recognisable than an error.
    return ours | {f"DICOMNET_{name}": _encodable(value.replace("\0", "")) for name, value in values.items()}


def _encodable(text: str) -> str:
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return text.encode("ascii", "backslashreplace").decode()
    return text


class Runner:
    """Runs ``command`` for studies below ``folder``: at most ``jobs`` at once, and one study's one after the other.

    ``limit``: seconds that one may take. ``tell(ran)`` is called on the runner's threads.
    """

    def __init__(
        self, command: CommandLine, folder: str, *, jobs: int, limit: float, tell: Callable[[Ran], None]
    ) -> None:
        self._command = command
        self._folder = folder
        self._jobs = jobs
        self._limit = limit
        self._tell = tell
        self._waiting: dict[tuple[str, str], Study] = {}  # in the order they came
        self._active: dict[tuple[str, str], subprocess.Popen[bytes] | None] = {}
        self._stopped = False
        self._threads = self._telling = 0
        self._changed = threading.Condition()

    def submit(self, study: Study) -> None:
        """Run it for this study soon."""
        with self._changed:
            if not self._stopped:
                before = self._waiting.get(study.key)
                self._waiting[study.key] = study if before is None else before.with_more(study)
                if self._threads < self._jobs:
                    self._threads += 1
                    threading.Thread(target=self._work, name="dicomnet exec", daemon=True).start()
                return
        self._tell(Ran(study, "not run"))

    def finish(self) -> None:
        """Return when all has been run."""
        with self._changed:
            self._changed.wait_for(lambda: not (self._waiting or self._active or self._telling))

    def stop(self) -> None:
        """End what runs, and run nothing more; both are told."""
        with self._changed:
            self._stopped = True
            left, self._waiting = list(self._waiting.values()), {}
            for process in self._active.values():
                if process is not None:
                    _signal(process, signal.SIGTERM)
            self._changed.notify_all()
            self._changed.wait_for(lambda: not (self._active or self._telling), _GRACE)
            for process in self._active.values():
                if process is not None:
                    _kill(process)
            self._changed.wait_for(lambda: not (self._active or self._telling), _GRACE)
        for study in left:
            self._tell(Ran(study, "not run"))

    def _work(self) -> None:
        """A thread of its own: until there is nothing to do."""
        while True:
            with self._changed:
                key = next((key for key in self._waiting if key not in self._active), None)
                if key is None or self._stopped:
                    self._threads -= 1
                    return
                study = self._waiting.pop(key)
                self._active[key] = None
            try:
                ran = self._run(study)
            finally:
                with self._changed:
                    del self._active[key]
                    self._telling += 1
            try:
                self._tell(ran)
            finally:
                with self._changed:
                    self._telling -= 1
                    self._changed.notify_all()

    def _run(self, study: Study) -> Ran:
        folder = os.path.join(self._folder, *study.folder.split("/"))
        began = time.monotonic()
        try:
            process = subprocess.Popen(
                self._command.arguments(study, folder),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=environment(study, folder),
                start_new_session=True,  # Ctrl-C is for us, and what it starts ends with it
            )
        except (OSError, ValueError) as error:
            return Ran(study, "failed", said=str(error))
        with self._changed:
            self._active[study.key] = process
            stopped = self._stopped
        if stopped:
            _kill(process)
        with process:
            said = _Tail(process.stdout)
            outcome: Outcome | None = None
            try:
                process.wait(self._limit)
            except subprocess.TimeoutExpired:
                outcome = "too long"
                _end(process)
            text = said.text()
        code = process.returncode
        if outcome is None:
            outcome = "done" if code == 0 else "stopped" if self._stopped else "failed"
        return Ran(study, outcome, code, time.monotonic() - began, text)


class _Tail:
    """The end of what a command says, read as it comes, so that it never has to wait."""

    def __init__(self, stream: IO[bytes] | None) -> None:
        assert stream is not None
        # A descriptor of its own: a child of the command may hold the stream open for longer than the command lives.
        self._descriptor = os.dup(stream.fileno())
        self._said = b""
        self._thread = threading.Thread(target=self._read, name="dicomnet exec output", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while piece := os.read(self._descriptor, 1 << 16):
                self._said = (self._said + piece)[-_TAIL:]
        os.close(self._descriptor)

    def text(self) -> str:
        self._thread.join(_LAST_WORDS)
        return self._said.decode("utf-8", "replace").strip()


def _end(process: subprocess.Popen[Any]) -> None:
    """Ask it to end, then make it, with all that it started."""
    _signal(process, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE)
    _kill(process)
    process.wait()


def _kill(process: subprocess.Popen[Any]) -> None:
    if os.name == "posix":
        _signal(process, signal.SIGKILL)
    else:
        process.kill()


def _signal(process: subprocess.Popen[Any], number: int) -> None:
    if os.name != "posix":
        process.terminate()
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):  # it has ended, and all of its group
        os.killpg(process.pid, number)
