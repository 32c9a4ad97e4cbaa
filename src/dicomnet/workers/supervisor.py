"""The supervisor: starts the workers, replaces those that die, and ends with its program."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import selectors
import signal
import socket
import time
from dataclasses import dataclass
from typing import Final

from dicomnet.workers.process import LAST_STEPS, LAUNCHERS, Job, Method, Process

log = logging.getLogger("dicomnet")

GRACE: Final = 2.0  # seconds past the time to drain; then workers are killed
_YOUNG: Final = 5.0  # seconds: who dies before has an ailment that its successor will have, too
_FIRST_DELAY, _LONGEST_DELAY = 0.1, 10.0  # seconds until a young one is replaced; doubled each time


@dataclass(slots=True)
class _Slot:
    """The place of a worker and those that come after it. ``due``: when the next one is to be started."""

    number: int
    due: float = 0.0
    process: Process | None = None
    link: socket.socket | None = None
    started: float = 0.0
    ready: bool = False
    deaths: int = 0  # one after the other, soon after their starts


class Supervisor:
    """Starts the workers and replaces them. On ``control`` it hears "c" (close), and the end of its program; it says
    "r" (all serve), or why they do not: after "v" what is wrong with the job, after "f" anything else."""

    def __init__(self, job: Job, control: socket.socket, count: int, drain: float | None, method: Method) -> None:
        self._job = job
        self._control = control
        self._drain = drain
        self._launch = LAUNCHERS[method]
        self._slots = [_Slot(number) for number in range(count)]
        self._serving = False  # all have been ready once
        self._closing = False
        self._asked = False  # by a signal
        self._woken: socket.socket | None = None  # readable after a signal
        self._over = False
        self._deadline = math.inf  # of the closing
        self._selector = selectors.DefaultSelector()
        self._selector.register(control, selectors.EVENT_READ, self._hear)

    def run(self) -> None:
        """Return when there is nothing left to supervise, and no worker."""
        try:
            while not self._over:
                self._step()
        finally:
            self._job.listener.close()
            self._kill_all()
            self._selector.close()
            self._control.close()
            if self._woken is not None:
                self._woken.close()

    def watch_signals(self, parent: int) -> None:
        """In a process of its own: SIGTERM closes; SIGCHLD and the end of the process ``parent`` wake ``_step``."""
        reader, writer = socket.socketpair()
        for sock in (reader, writer):
            sock.setblocking(False)
        signal.signal(signal.SIGTERM, self._ask_to_close)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(writer.detach(), warn_on_full_buffer=False)
        self._woken = reader
        self._selector.register(reader, selectors.EVENT_READ, lambda: reader.recv(4096))
        if hasattr(os, "pidfd_open"):
            # A child that the program forks later holds its end of ``control``, too, and may live longer.
            with contextlib.suppress(OSError):  # an old kernel, or a sandbox
                self._selector.register(os.pidfd_open(parent), selectors.EVENT_READ, self._end)
        self._over = os.getppid() != parent

    def _step(self) -> None:
        now = time.monotonic()
        for slot in self._slots:
            if slot.process is None and slot.due <= now and not self._closing:
                self._start(slot)
        for key, _ in self._selector.select(self._patience()):
            key.data()
        if self._asked:
            self._close()
        for slot in self._slots:
            if slot.process is not None and slot.process.exitcode is not None:
                self._bury(slot)
        if self._closing and not any(slot.process for slot in self._slots):
            self._over = True
        elif time.monotonic() >= self._deadline:
            log.warning("port %d: workers did not end within the time to drain", self._job.port)
            self._over = True

    def _patience(self) -> float | None:
        """Seconds until something is due."""
        until = self._deadline
        if not self._closing:
            until = min((slot.due for slot in self._slots if slot.process is None), default=until)
        return None if until == math.inf else max(0.0, until - time.monotonic())

    def _hear(self) -> None:
        """The program says something, or has ended."""
        try:
            said = self._control.recv(16)
        except OSError:
            said = b""
        if said:
            self._close()
        else:
            self._end()

    def _say(self, what: bytes) -> None:
        with contextlib.suppress(OSError):  # nobody listens any more; ``_hear`` will find that
            self._control.send(what)

    def _end(self) -> None:
        self._over = True

    def _ask_to_close(self, *_signal: object) -> None:
        self._asked = True  # not more: it may come in the middle of anything

    def _close(self) -> None:
        """Let the workers drain, and replace none."""
        if self._closing:
            return
        self._closing = True
        if self._drain is not None:
            self._deadline = time.monotonic() + self._drain + GRACE
        self._job.listener.close()
        for slot in self._slots:
            if slot.link is not None:
                with contextlib.suppress(OSError):  # dead already
                    slot.link.send(b"c")

    # --- workers ----------------------------------------------------------------------------------------------------

    def _start(self, slot: _Slot) -> None:
        ours, theirs = socket.socketpair()
        held = [ours, self._control, *(other.link for other in self._slots if other.link is not None)]
        try:
            with theirs:
                slot.process = self._launch(self._job, slot.number, theirs, held)
        except OSError as error:
            ours.close()
            self._put_off(slot, f"cannot start a worker: {error}")
            return
        except ValueError as error:
            ours.close()
            self._give_up(b"v", str(error))
            return
        slot.link, slot.started, slot.ready = ours, time.monotonic(), False
        self._selector.register(ours, selectors.EVENT_READ, lambda: self._hear_worker(slot))

    def _hear_worker(self, slot: _Slot) -> None:
        if slot.link is None or slot.process is None:
            return
        try:
            said = slot.link.recv(16)
        except OSError:
            said = b""
        if not said:
            slot.process.kill()  # it is ending, if it has not ended
            slot.process.join(LAST_STEPS)
            return
        log.info("port %d: worker %s serves", self._job.port, slot.process.pid)
        slot.ready = True
        if not self._serving and all(other.ready for other in self._slots):
            self._serving = True
            self._say(b"r")

    def _bury(self, slot: _Slot) -> None:
        assert slot.process is not None
        pid, code = slot.process.pid, slot.process.exitcode
        self._drop(slot)
        if not self._closing:
            how = f"by signal {-code}" if code is not None and code < 0 else f"with exit code {code}"
            self._put_off(slot, f"worker {pid} ended {how}")

    def _drop(self, slot: _Slot) -> None:
        """Its process has ended: forget it."""
        if slot.link is not None:
            self._selector.unregister(slot.link)
            slot.link.close()
        slot.process = slot.link = None
        self._job.board.down(slot.number)

    def _put_off(self, slot: _Slot, why: str) -> None:
        """There is no worker in this place: another one comes soon, or later if they die young."""
        if not self._serving:
            self._give_up(b"f", why)
            return
        now = time.monotonic()
        slot.deaths = slot.deaths + 1 if now - slot.started < _YOUNG else 0
        delay = min(_FIRST_DELAY * 2 ** (slot.deaths - 1), _LONGEST_DELAY) if slot.deaths else 0.0
        slot.due = now + delay
        log.warning("port %d: %s; another one starts in %.1f s", self._job.port, why, delay)

    def _give_up(self, kind: bytes, why: str) -> None:
        self._say(kind + why.encode(errors="replace")[:1000])
        self._over = True

    def _kill_all(self) -> None:
        """Those that are left: an end of file asks them to end, a signal makes them."""
        left = [slot for slot in self._slots if slot.process is not None]
        for slot in left:
            if slot.link is not None:
                slot.link.shutdown(socket.SHUT_RDWR)
        deadline = time.monotonic() + LAST_STEPS + 0.5
        while any(slot.process and slot.process.exitcode is None for slot in left) and time.monotonic() < deadline:
            time.sleep(0.01)
        for slot in left:
            if slot.process is not None:
                slot.process.kill()
                slot.process.join(LAST_STEPS)
                self._drop(slot)
