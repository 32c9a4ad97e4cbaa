"""One end of a measurement as a process of its own: started, found ready, watched, stopped.

CPU seconds and peak memory are those of the whole process and of those that it has started. The kernel's account of an
ended child (``wait4``) has its CPU to the microsecond, but its peak memory starts at that of the parent that forked it;
so the peak is read from ``/proc`` while the process lives, and taken from ``wait4`` only where there is no ``/proc``.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

MB = 1_000_000
_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100  # of CPU time in /proc/PID/stat, a second
_SCHEDULED = 2  # Linux: the kind of a process's CPU clock, in the lowest bits of the clock's ID
_ROOT = Path(__file__).resolve().parent.parent
_LISTENING = re.compile(
    rb":(\d{2,5})\b[^\n:]*\n"
)  # the port that ends the address in a line such as "… on 127.0.0.1:104"
_WATCH = 0.02  # s between two looks at a running process, at most (a young one gets more): 30 µs of work each
_SELDOM = 5  # looks at it for one at those beside it
_READY = 20.0  # s for an SCP to start: an interpreter with its imports on a busy machine, many times over
_STOP = 30.0  # s for an SCP to end once it was asked to


class Missing(Exception):
    """A program is not on this machine. The text says what is missing."""


class Failed(Exception):
    """A program did not do what it was asked to: it died, hung, or lost something."""


@dataclass(frozen=True, slots=True)
class Program:
    """A command line. ``{port}`` and ``{folder}`` in an argument stand for the SCP's port and the folder it fills."""

    argv: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    announces: bool = True  # prints a line with its address once it listens (else: it is given a port that is free)
    ends_at_eof: bool = True  # ends by itself when its standard input does (else: by SIGTERM)
    missing: str = ""  # why it cannot be run on this machine
    forks: bool = False  # has processes of its own, which count
    core: int | None = None  # run on this core alone


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process took, from its start to its end. ``result`` is the last JSON line that it printed."""

    seconds: float
    cpu: float
    peak: int  # bytes
    result: dict[str, Any]


class Process:
    """A running :class:`Program`. Leaving the ``with`` block ends it, whatever happened."""

    def __init__(self, program: Program, log: Path, *, port: int = 0, folder: Path | None = None) -> None:
        if program.missing:
            raise Missing(program.missing)
        self.program = program
        self.port = port
        self._log = log
        self._peak = 0
        argv = [part.replace("{port}", str(port)).replace("{folder}", str(folder)) for part in program.argv]
        with log.open("wb") as output:
            self._started = time.perf_counter()
            self._popen = subprocess.Popen(
                argv, cwd=_ROOT, env=_environment(program), stdin=subprocess.PIPE, stdout=output, stderr=output
            )
        self.pid = self._popen.pid
        if program.core is not None:
            os.sched_setaffinity(self.pid, {program.core})
        self._pidfd = os.pidfd_open(self.pid) if hasattr(os, "pidfd_open") else None

    @classmethod
    def listening(cls, program: Program, log: Path, *, folder: Path | None = None) -> Self:
        """Start an SCP and return it once it accepts connections. ``port`` is where."""
        process = cls(program, log, port=0 if program.announces else _free_port(), folder=folder)
        try:
            process._await_listening()
        except BaseException:
            process.kill()
            raise
        return process

    def _await_listening(self) -> None:
        deadline = time.monotonic() + _READY
        while not (self._announced() if self.program.announces else self._accepts()):
            if self._ended(0.005):
                raise Failed(f"it ended at once: {self.last_words()}")
            if time.monotonic() > deadline:
                raise Failed(f"it does not listen after {_READY:.0f} s: {self.last_words()}")

    def _announced(self) -> bool:
        found = _LISTENING.search(self._log.read_bytes())
        if found:
            self.port = int(found[1])
        return bool(found)

    def _accepts(self) -> bool:
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def await_line(self, start: str, seconds: float) -> None:
        """Return once the program has printed a line that begins with `start`."""
        deadline = time.monotonic() + seconds
        while not re.search(rb"^" + start.encode(), self._log.read_bytes(), re.MULTILINE):
            if self._ended(0.005) or time.monotonic() > deadline:
                raise Failed(f"no {start!r} from it: {self.last_words()}")

    @property
    def _age(self) -> float:
        return time.perf_counter() - self._started

    @property
    def rss(self) -> int:
        """Memory in use now, in bytes, added up over its processes."""
        return sum(_status(pid, "VmRSS") for pid in self._processes()) * 1024

    @property
    def peak(self) -> int:
        """The most memory so far, in bytes."""
        self._watch()
        return self._peak

    @property
    def has_ended(self) -> bool:
        """Whether it runs no more."""
        return self._ended(0)

    @property
    def threads(self) -> int:
        """Threads alive now."""
        return _status(self.pid, "Threads")

    @property
    def cpu(self) -> float:
        """CPU seconds so far; 0 where another process cannot be asked for it."""
        if not Path("/proc/self").exists():
            return 0.0
        return sum(map(_cpu, self._processes())) + (_cpu_of_reaped(self.pid) if self.program.forks else 0.0)

    def finish(self, seconds: float, *, beside: Sequence[Process] = ()) -> Usage:
        """Wait for the program's own end. Peaks of those `beside` it are watched, too.

        Raises:
            Failed: it runs longer than `seconds`, or ends with an error.
        """
        looks = 0
        while not self._ended(min(_WATCH, self._age / 10)):
            if self._age > seconds:
                raise Failed(f"still running after {seconds:.0f} s: {self.last_words()}")
            for process in (self, *beside) if looks % _SELDOM == 0 else (self,):
                process._watch()
            looks += 1
        return self._reap(time.perf_counter(), allowed=(0,))

    def stop(self) -> Usage:
        """Ask the program to end, wait for it, and return what it took and said."""
        self._watch()
        self._close_input()
        if not self.program.ends_at_eof and not self._ended(0):
            self._popen.terminate()
        deadline = time.perf_counter() + _STOP
        while not self._ended(_WATCH):
            if time.perf_counter() > deadline:
                raise Failed(f"it does not end when asked to: {self.last_words()}")
        return self._reap(time.perf_counter(), allowed=(0,) if self.program.ends_at_eof else (0, -15))

    def kill(self) -> None:
        """End the program now, if it has not ended."""
        if self._popen.returncode is None:
            self._popen.kill()
            self._popen.wait()
        self._close_input()
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill()

    def last_words(self) -> str:
        """The last line that the program printed: what a reader of the table needs of a failure."""
        said = self._log.read_text(errors="replace").replace(sys.executable, "python")
        lines = [line.strip() for line in said.splitlines()]
        return next((line for line in reversed(lines) if line), "it printed nothing")

    def _processes(self) -> Iterator[int]:
        return _family(self.pid) if self.program.forks else iter([self.pid])

    def _close_input(self) -> None:
        if self._popen.stdin:
            with contextlib.suppress(BrokenPipeError):
                self._popen.stdin.close()

    def _ended(self, seconds: float) -> bool:
        """Whether the program ends within `seconds`. It stays unreaped: its figures are still to be read."""
        if self._pidfd is None:
            time.sleep(min(seconds, 0.001))
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def _watch(self) -> None:
        self._peak = max(self._peak, sum(_status(pid, "VmHWM") for pid in self._processes()) * 1024)

    def _reap(self, ended: float, *, allowed: tuple[int, ...]) -> Usage:
        _, status, account = os.wait4(self.pid, 0)
        self._popen.returncode = os.waitstatus_to_exitcode(status)
        if self._popen.returncode not in allowed:
            raise Failed(f"exit code {self._popen.returncode}: {self.last_words()}")
        return Usage(
            seconds=ended - self._started,
            cpu=account.ru_utime + account.ru_stime,
            peak=self._peak or account.ru_maxrss * 1024,
            result=_last_json(self._log),
        )


def _environment(program: Program) -> dict[str, str]:
    # DCMTK sets TCP_NODELAY only if the variable of that name says so: whoever runs this must not decide it.
    inherited = {name: value for name, value in os.environ.items() if name != "TCP_NODELAY"}
    return inherited | program.environment


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _family(pid: int) -> Iterator[int]:
    """A process and all that come from it."""
    yield pid
    for child in _children(pid):
        yield from _family(child)


def _children(pid: int) -> list[int]:
    """Those that it has not reaped, the ended ones too."""
    with contextlib.suppress(OSError):
        tasks = Path(f"/proc/{pid}/task").iterdir()
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    return []


def _cpu(pid: int) -> float:
    """CPU seconds of one process, also of its threads that have ended; a zombie still has them."""
    with contextlib.suppress(OSError):
        return time.clock_gettime((~pid << 3) | _SCHEDULED)
    return 0.0


def _cpu_of_reaped(pid: int) -> float:
    """CPU seconds of the children that a process has waited for."""
    with contextlib.suppress(OSError):
        numbers = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, numbers[13:15])) / _TICKS
    return 0.0


def _status(pid: int, name: str) -> int:
    """A number out of ``/proc/PID/status``; 0 where there is none, or when the process is gone."""
    with contextlib.suppress(OSError):
        found = re.search(rf"^{name}:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
        if found:
            return int(found[1])
    return 0


def _last_json(log: Path) -> dict[str, Any]:
    for line in reversed(log.read_bytes().splitlines()):
        if line.startswith(b"{"):
            with contextlib.suppress(json.JSONDecodeError):
                result: dict[str, Any] = json.loads(line)
                return result
    return {}
