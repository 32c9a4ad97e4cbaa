"""Several processes that serve one port: who starts them, who watches them, and what they share.

``Workers(run_one, listener, count, ...)`` is for the faces. Each process calls ``run_one(worker)``, which runs that
face's server on ``worker.listener`` with ``worker.tally``, calls ``worker.ready()``, and returns once ``worker.stop``
can be read (``worker.wait()`` blocks until then) and the server is closed.

``SharedCounters(count, *names)`` is for handlers that count; otherwise workers have no memory in common::

    counters = SharedCounters(4, "stored", "size")      # before serve(..., workers=4)
    counters.add(stored=1, size=dataset.size)           # in a handler, in whatever process it runs
    counters.totals()                                   # {"stored": ..., "size": ...}, of all, in any of them

One idea: nothing that has threads is forked. ``serve`` forks a supervisor, which has one thread and does nothing but
fork the workers and replace those that die. The listening socket is made once and inherited, so that connections that
wait in its queue outlive a worker. All processes share it (no SO_REUSEPORT, whose hash spreads eight senders over two
processes 4:4 in only one case of four, and sends them to a process whether or not it has time): whoever is free takes
the next connection, and who has more than another leaves it to that one for a moment (``SharedTally.defer``).

Each process holds an end of a socket pair whose other end is held by the one that started it alone: when that one is
gone, however it went, there is an end of file, and the process ends, too. Without ``os.fork`` (Windows) the workers are
started by multiprocessing's "spawn" from a thread of the program itself.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Final

from dicomnet.config import Limits
from dicomnet.transport import Waiter
from dicomnet.workers.memory import Board, SharedCounters
from dicomnet.workers.process import Forked, Job, Method, Worker, fork
from dicomnet.workers.supervisor import GRACE, Supervisor

__all__ = ["METHOD", "Method", "SharedCounters", "Worker", "Workers"]

METHOD: Final[Method] = "fork" if hasattr(os, "fork") else "spawn"

_START: Final = 60.0  # seconds until the first workers serve: spawned ones import the program anew

# This process's ends of the supervisors' sockets, which no child may keep.
_controls: weakref.WeakSet[socket.socket] = weakref.WeakSet()


class Workers:
    """The workers as the program that started them sees them. Made before the program has threads, if that can be.

    ``run_one``: see the module. ``listener``: is taken over. ``count``: how many. ``limits``: hold for all together.
    ``drain``: seconds that a worker may take to end its transfers, or None. ``wait_ready`` is to be called next.

    Raises OSError if there can be no process.
    """

    def __init__(
        self,
        run_one: Callable[[Worker], object],
        listener: socket.socket,
        count: int,
        *,
        limits: Limits,
        drain: float | None,
        method: Method = METHOD,
    ) -> None:
        self._lock = threading.Lock()
        self._waiting = 0  # threads that look at ``_control``; the last one closes it
        self._ready = self._over = False
        self._failure: OSError | ValueError = OSError("the workers do not serve: their supervisor has ended")
        self._patience = None if drain is None else drain + 2 * GRACE  # seconds to close
        self._process: Forked | None = None
        with listener:
            listener.setblocking(False)
            job = Job(run_one, listener, Board(count, limits), listener.getsockname()[1])
            self._job = job  # whose shared memory would be given to others if this process forgot it
            self._control, theirs = socket.socketpair()
            self._control.setblocking(False)
            _controls.add(self._control)
            try:
                self._start(job, theirs, count, drain, method)
            except BaseException:
                self._control.close()
                raise

    def _start(self, job: Job, theirs: socket.socket, count: int, drain: float | None, method: Method) -> None:
        if method == "spawn":
            job = Job(job.run_one, job.listener.dup(), job.board, job.port)
            supervisor = Supervisor(job, theirs, count, drain, method)
            threading.Thread(target=supervisor.run, name=f"dicomnet workers {job.port}", daemon=True).start()
            return
        program = os.getpid()

        def supervise() -> None:
            for control in list(_controls):  # those of other servers, too: their ends must not live on here
                control.close()
            supervisor = Supervisor(job, theirs, count, drain, method)
            supervisor.watch_signals(program)
            supervisor.run()

        with theirs:
            self._process = fork(supervise)

    @property
    def associations(self) -> int:
        """How many the workers have now."""
        return self._job.board.associations

    def wait_ready(self) -> None:
        """Return when all workers serve. Raises OSError if they do not, ValueError if ``run_one`` cannot be pickled."""
        with self._watching():
            in_time = self._until(lambda: self._ready, _START)
        if in_time and self._ready:
            return
        self.kill()
        self.wait()
        raise self._failure

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until all workers have ended, or for ``seconds``; True if they have. From any thread."""
        with self._watching():
            return self._until(lambda: self._over, seconds)

    def close(self) -> None:
        """Let all workers drain and end, and wait for it. From any thread; safe to call twice."""
        with self._lock:
            if not self._over:
                with contextlib.suppress(OSError):  # its supervisor died; ``wait`` finds that
                    self._control.send(b"c")
        if not self.wait(self._patience):
            self.kill()
            self.wait()

    def kill(self) -> None:
        """End all at once."""
        with self._lock:
            if self._over:
                return
            if self._process is not None:
                self._process.kill()  # the workers see it
            else:
                self._control.shutdown(socket.SHUT_WR)

    @contextlib.contextmanager
    def _watching(self) -> Iterator[None]:
        with self._lock:
            self._waiting += 1
        try:
            yield
        finally:
            with self._lock:
                self._waiting -= 1
                if self._over and not self._waiting:
                    self._control.close()

    def _until(self, done: Callable[[], bool], seconds: float | None) -> bool:
        """Listen to the supervisor until ``done()`` or its end; False if ``seconds`` have passed first."""
        deadline = None if seconds is None else time.monotonic() + seconds
        waiter: Waiter | None = None
        while not (done() or self._over):
            waiter = waiter or Waiter([self._control])
            if not waiter.wait(None if deadline is None else deadline - time.monotonic()):
                return False
            self._hear()
        return True

    def _hear(self) -> None:
        with self._lock:
            if self._over:
                return
            try:
                said = self._control.recv(1024)
            except BlockingIOError:  # another thread was faster
                return
            except OSError:
                said = b""
            if said == b"r":
                self._ready = True
            elif said:
                why = said[1:].decode(errors="replace")
                self._failure = ValueError(why) if said[:1] == b"v" else OSError(f"the workers do not serve: {why}")
            else:
                self._over = True
                if self._process is not None:
                    self._process.join()
