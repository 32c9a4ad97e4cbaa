"""Sending from several processes: for small files, where one core is not enough.

One idea: each process is a whole sender, and this one deals out what it finds. What a process has and has not told of
is bounded, so that the slower ones get less. The processes are new ones, no forks, because the program may have
threads; they end when the pipe from here does.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from dicomnet.dataset import Path
from dicomnet.errors import DicomNetworkError
from dicomnet.files import Found
from dicomnet.sender.outcome import Options, Outcome, Stop

if TYPE_CHECKING:
    from dicomnet.sender.recorder import Recorder

log = logging.getLogger("dicomnet")

_DEALT: Final = 32  # files at a time
_UNDER_WAY: Final = 512  # files that a process may have
_POLL: Final = 0.1  # seconds between two looks at whether the user stops
_PATIENCE: Final = 10.0  # seconds for a process to abort its associations
_PROGRAM: Final = """\
import pickle, sys
sys.path[:] = pickle.load(sys.stdin.buffer)
from dicomnet.sender.process import work
work()
"""


class _Member:
    """One of the processes. ``numbers``: files that it has. ``associations``, ``window``: as of a ``Pool``."""

    def __init__(self, options: Options, heard: Callable[[_Member, Any], None]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._heard = heard
        self.numbers: set[int] = set()
        self.associations = self.window = 0
        self.tell(sys.path)
        self.tell(options)
        self._reader = threading.Thread(target=self._read, name="dicomnet send reader", daemon=True)
        self._reader.start()

    def tell(self, message: Any) -> None:
        """A message to it; if it has ended, its end will be read."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.write(pickle.dumps(message))
            self._process.stdin.flush()

    def _read(self) -> None:
        """What it tells is passed on; None at its end."""
        assert self._process.stdout is not None
        with contextlib.suppress(EOFError, OSError, pickle.UnpicklingError):
            while True:
                self._heard(self, pickle.load(self._process.stdout))
        self._heard(self, None)

    def close(self) -> None:
        """Nothing more will come: it ends when what it has sent is answered."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()

    def wait(self, seconds: float | None) -> int:
        """Wait until it has ended; it is killed after ``seconds``. Returns its exit code."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()
        return self._process.wait()


class Crew:
    """The processes; for ``Sending`` the same as a ``Pool``."""

    def __init__(self, options: Options, stop: Stop | None, count: int, recorder: Recorder | None = None) -> None:
        self._options = options
        self._recorder = recorder
        self._stop = stop
        self._count = min(count, options.associations or count)
        self._started: list[_Member] = []
        self._members: list[_Member] = []  # those that run
        self._events: queue.SimpleQueue[tuple[_Member | None, Any]] = queue.SimpleQueue()
        self._files: dict[int, Found] = {}  # that they have, by number
        self._again: deque[int] = deque()  # numbers of files of a process that ended
        self._lost: set[int] = set()  # numbers of files that were in ``_again``
        self._number = 0

    @property
    def associations(self) -> int:
        return sum(member.associations for member in self._started)

    @property
    def window(self) -> int:
        return max((member.window for member in self._started), default=0)

    def run(
        self, found: Iterable[Found | Outcome | None], on_skipped: Callable[[Path], None] | None
    ) -> Generator[Outcome, None, None]:
        """As ``Pool.run``. Raises OSError if there can be no process."""
        if self._recorder is not None:
            self._recorder.start(lambda error: self._events.put((None, error)))
        try:
            self._start()
            yield from self._outcomes(iter(found), on_skipped)
        except GeneratorExit:  # the caller wants no more
            self._end()
            raise
        except BaseException:
            self._abort()
            raise
        else:
            self._end()
        finally:
            if self._recorder is not None:
                self._recorder.close()

    def _start(self) -> None:
        """As many associations as wanted, or as an adaptive sender takes at most, are shared out."""
        options, count = self._options, self._count
        for number in range(count):
            wanted = options.associations
            share = None if wanted is None else wanted // count + (number < wanted % count)
            member = _Member(replace(options, associations=share, most=max(options.most // count, 1)), self._heard)
            self._started.append(member)
            self._members.append(member)

    def _heard(self, member: _Member, message: Any) -> None:
        """What a process tells goes to the caller's thread, when it is recorded. On the thread that reads it."""
        if message is not None:
            told, associations, window, lines = message
            told = [(number, self._restored(number, outcome, error)) for number, outcome, error in told]
            message = told, associations, window, lines
        event = member, message
        if self._recorder is None:
            self._events.put(event)
        else:
            outcomes = [] if message is None else [outcome for _, outcome in message[0] if outcome is not None]
            self._recorder.record(outcomes, partial(self._events.put, event))

    def _restored(self, number: int, outcome: Outcome | None, error: bytes | None) -> Outcome | None:
        """What was told of a file, with what was left out for the way here."""
        file = self._files[number]
        if outcome is None:
            if self._recorder is not None:
                self._recorder.forget(file.path)
            return None
        return replace(outcome, path=file.path, stamp=file.stamp, error=None if error is None else restored(error))

    def _outcomes(
        self, found: Iterator[Found | Outcome | None], on_skipped: Callable[[Path], None] | None
    ) -> Generator[Outcome, None, None]:
        exhausted = stopped = False
        while True:
            if self._stop is not None and self._stop.is_set() and not stopped:
                stopped = True
                for member in self._members:
                    member.close()
            if not (stopped or exhausted):
                exhausted = yield from self._deal(found)
            elif exhausted:
                self._deal_again()
            if not self._members or (exhausted and not self._files):
                return
            for number, outcome in self._collect(stopped):
                path = self._files.pop(number).path
                if outcome is not None:
                    yield outcome
                elif on_skipped is not None:
                    on_skipped(path)

    def _deal(self, found: Iterator[Found | Outcome | None]) -> Generator[Outcome, None, bool]:
        """Give those that have room more files, in turn; True if there are no more. Yields what need not be sent."""
        self._deal_again()
        while self._members and (member := self._emptiest()) is not None:
            dealt: list[tuple[int, Found]] = []
            for file in found:
                if file is None:  # for now
                    self._give(member, dealt)
                    return False
                if isinstance(file, Outcome):  # as the ledger has it
                    yield file
                    continue
                if file.error is not None:
                    yield self._recorded(Outcome(file.path, error=file.error))
                    continue
                self._number += 1
                dealt.append((self._number, file))
                if len(dealt) == _DEALT:
                    break
            self._give(member, dealt)
            if len(dealt) < _DEALT:
                return True
        return False

    def _recorded(self, outcome: Outcome) -> Outcome:
        if self._recorder is not None:
            self._recorder.record_now(outcome)
        return outcome

    def _deal_again(self) -> None:
        if self._again and self._members:
            numbers = [self._again.popleft() for _ in range(len(self._again))]
            member = min(self._members, key=lambda member: len(member.numbers))
            self._give(member, [(number, self._files[number]) for number in numbers])

    def _emptiest(self) -> _Member | None:
        """The one with the fewest files, if it has room for more."""
        member = min(self._members, key=lambda member: len(member.numbers))
        return member if len(member.numbers) <= _UNDER_WAY - _DEALT else None

    def _give(self, member: _Member, dealt: list[tuple[int, Found]]) -> None:
        if not dealt:
            return
        self._files.update(dealt)
        member.numbers.update(number for number, _ in dealt)
        member.tell(
            [(number, os.fspath(file.path), file.walked, file.regular, file.fleeting) for number, file in dealt]
        )

    def _collect(self, stopped: bool) -> Iterator[tuple[int, Outcome | None]]:
        """What was told: numbers with outcomes, or None for what is no instance."""
        try:
            member, message = self._events.get(timeout=_POLL)
        except queue.Empty:
            return
        if member is None:
            raise message
        if message is None:
            yield from self._ended(member, stopped)
            return
        told, member.associations, member.window, lines = message
        for level, line in lines:
            log.log(level, "%s", line)
        for number, outcome in told:
            member.numbers.discard(number)
            yield number, outcome

    def _ended(self, member: _Member, stopped: bool) -> Iterator[tuple[int, Outcome | None]]:
        """A process has ended. If nobody asked for it, others get its files, but none a second time."""
        self._members.remove(member)
        if stopped:
            return
        exit_code = member.wait(_PATIENCE)
        log.warning("%s: a process that sends ended with exit code %d", self._options.peer, exit_code)
        if not self._members:
            raise ChildProcessError(f"the processes that send ended with exit code {exit_code}")
        for number in sorted(member.numbers):
            if number in self._lost:
                self._lost.discard(number)
                file = self._files[number]
                error = DicomNetworkError("two processes ended that were to send it")
                yield number, self._recorded(Outcome(file.path, error=error, stamp=file.stamp))
            else:
                self._lost.add(number)
                self._again.append(number)

    def _end(self) -> None:
        """Release all associations when what was sent has been answered."""
        for member in self._started:
            member.close()
        try:
            for member in self._started:
                member.wait(None)
        except BaseException:
            self._abort()
            raise

    def _abort(self) -> None:
        for member in self._started:
            member.tell("abort")
            member.close()
        for member in self._started:
            member.wait(_PATIENCE)


def restored(error: bytes) -> Exception:
    """An exception as it was, with its cause."""
    exception, cause = pickle.loads(error)
    exception.__cause__ = cause
    result: Exception = exception
    return result
