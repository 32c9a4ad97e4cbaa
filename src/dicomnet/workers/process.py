"""A worker process: how it is started, what it sees, and how it ends."""

from __future__ import annotations

import atexit
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, NoReturn, Protocol

from dicomnet.admission import Tally
from dicomnet.transport import Waiter
from dicomnet.workers.memory import Board, become_worker

log = logging.getLogger("dicomnet")

Method = Literal["fork", "spawn"]
LAST_STEPS: Final = 1.0  # seconds for what a process does at its end (atexit)


class Worker:
    """A worker process as ``run_one`` sees it.

    ``listener``: the listening socket. ``tally``: for this worker's ``Admission``. ``stop``: a socket that can be read
    once the worker has to end.
    """

    def __init__(self, listener: socket.socket, tally: Tally, link: socket.socket) -> None:
        self.listener = listener
        self.tally = tally
        self.stop, self._stopper = socket.socketpair()
        self._stopper.setblocking(False)
        self._link = link

    def ready(self) -> None:
        """It serves."""
        with contextlib.suppress(OSError):  # the supervisor is gone: ``_watch`` finds that, too
            self._link.send(b"r")

    def wait(self) -> None:
        """Return once the worker has to end."""
        Waiter([self.stop]).wait(None)

    def _tell_to_stop(self, *_signal: object) -> None:
        with contextlib.suppress(OSError):  # told often enough
            self._stopper.send(b"\0")

    def _watch(self) -> None:
        """On a thread of its own: obey the supervisor, and do not outlive it."""
        with contextlib.suppress(OSError):
            while self._link.recv(1):
                self._tell_to_stop()
        _end(1)


@dataclass(frozen=True, slots=True)
class Job:
    """What each worker does, as it is handed to its process."""

    run_one: Callable[[Worker], object]
    listener: socket.socket
    board: Board
    port: int

    def work(self, number: int, link: socket.socket) -> NoReturn:
        """All that a worker process does. It ends here, whatever stack lies below."""
        code = 1
        try:
            become_worker(number)
            worker = Worker(self.listener, self.board.tally(number), link)
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the program, which then closes its server
            signal.signal(signal.SIGTERM, worker._tell_to_stop)
            threading.Thread(target=worker._watch, name="dicomnet worker", daemon=True).start()
            self.run_one(worker)
            code = 0
        except BaseException:
            log.exception("port %d: worker %d failed", self.port, os.getpid())
        finally:
            _end(code)


def _end(code: int) -> NoReturn:
    """End this process after what was registered to be done then, if that does not take long."""
    last_steps = threading.Thread(target=atexit._run_exitfuncs, daemon=True)
    last_steps.start()
    last_steps.join(LAST_STEPS)
    _flush()
    os._exit(code)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, broken, or none
            stream.flush()


# --- starting and ending --------------------------------------------------------------------------------------------


class Process(Protocol):
    """What the supervisor needs of a worker's process, forked or spawned."""

    @property
    def pid(self) -> int | None: ...

    @property
    def exitcode(self) -> int | None: ...

    def kill(self) -> None: ...

    def join(self, timeout: float | None = None) -> None: ...


class Forked:
    """A child process; it is there as long as nobody else has waited for it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._code: int | None = None

    @property
    def exitcode(self) -> int | None:
        """None while it runs; negative: the signal that ended it."""
        self._wait(os.WNOHANG)
        return self._code

    def kill(self) -> None:
        if self.exitcode is None:
            os.kill(self.pid, signal.SIGKILL)

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end, which has to be near: ``timeout`` does not count."""
        self._wait(0)

    def _wait(self, options: int) -> None:
        if self._code is None:
            try:
                pid, status = os.waitpid(self.pid, options)
            except ChildProcessError:  # somebody else's SIGCHLD handler was faster
                self._code = 0
            else:
                self._code = os.waitstatus_to_exitcode(status) if pid else None


def fork(body: Callable[[], object]) -> Forked:
    """A child process that runs ``body`` and ends. Raises OSError."""
    _flush()  # or both would print what is buffered
    every = signal.valid_signals()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, every)  # no handler of ours may run in the child
    try:
        pid = os.fork()
        if not pid:
            _run_child(body, before)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return Forked(pid)


def _run_child(body: Callable[[], object], mask: set[Any]) -> NoReturn:
    code = 1
    try:
        gc.freeze()  # what is garbage now is the parent's to finalise
        atexit._clear()  # so are its last steps
        _reset_signals()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        body()
        code = 0
    except BaseException:
        log.exception("process %d failed", os.getpid())
    finally:
        _end(code)


def _reset_signals() -> None:
    """The handlers of the program are not for this process."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)


def _spawn(job: Job, number: int, link: socket.socket, _ours: list[socket.socket]) -> Process:
    """Raises OSError, and ValueError if ``job`` cannot be pickled."""
    import multiprocessing

    process = multiprocessing.get_context("spawn").Process(
        target=job.work, args=(number, link), name=f"dicomnet worker {job.port}", daemon=True
    )
    try:
        process.start()
    except OSError:
        raise
    except Exception as error:  # what pickling raises, which may be the user's own
        raise ValueError(
            f"what cannot be pickled cannot go to processes that are spawned: {error};"
            " make the handlers functions of a module, not lambdas or functions inside functions, and leave TLS to"
            " something in front of the server; or serve with workers=1"
        ) from error
    return process


def _fork_worker(job: Job, number: int, link: socket.socket, ours: list[socket.socket]) -> Process:
    def work() -> None:
        for sock in ours:  # or another worker would not see the end of this process
            sock.close()
        job.work(number, link)

    return fork(work)


LAUNCHERS: Final[dict[Method, Callable[..., Process]]] = {"fork": _fork_worker, "spawn": _spawn}
