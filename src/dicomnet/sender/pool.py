"""What the lines of a sender share, and the caller's side of it: paths in, outcomes out.

One idea: the caller's thread finds the files, tells the outcomes and decides how many lines there are; the lines look
at the files and send them. Between finding a file and telling its outcome a bounded number of files is under way, so
that nothing grows, however long the caller takes.
"""

from __future__ import annotations

import logging
import random
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

from dicomnet.blocking import Association, associate
from dicomnet.dataset import Path
from dicomnet.errors import AssociationRejected, DeadlineExceeded, DicomNetworkError
from dicomnet.files import Found
from dicomnet.sender.contexts import fallbacks, proposed
from dicomnet.sender.line import Line
from dicomnet.sender.outcome import NOT_NOW, Options, Outcome, Skipped, Stop
from dicomnet.sender.pace import ALLOWANCE, Pace, Progress
from dicomnet.sender.stock import File, Stock, look, look_again
from dicomnet.sender.window import MOST, Window

if TYPE_CHECKING:
    from dicomnet.sender.recorder import Recorder

log = logging.getLogger("dicomnet")

_UNDER_WAY: Final = 2048  # files found and not yet told: 1 MB of memory
_FOUND: Final = 256  # that are found at once, and files that are looked at before an association is requested
_MOMENT: Final = 0.02  # seconds that this may take at most
_POLL: Final = 0.1  # seconds between two looks at what can only be asked: whether the user stops
_NAP: Final = 0.002  # seconds in which outcomes gather: to wake up for each of them costs more than to send it
_PLENTY: Final = 16  # files that wait: more than there are lines; with fewer the end is near, and nobody naps
_GRACE: Final = 0.2  # seconds for a line that connects; it cannot be interrupted, and ends by its own time limit
_LAST_WORDS: Final = 0.5  # seconds for peers to close their connections when they were told of an abort
_LONGEST_WAIT: Final = 30.0  # seconds between two attempts
_IDLE: Final = 5.0  # seconds without a file, after which associations are released: others may need them
_GIVEN_UP: Final = 30.0  # seconds for which all fails without an attempt, once the peer has been given up

Event = Outcome | Skipped | BaseException


class Pool:
    """``hopeless``: why no further association is tried. ``aborting``: there is no time for a release.

    ``associations``: the most that stood at once; ``window``: how many requests may be outstanding on each.
    """

    def __init__(self, options: Options, stop: Stop | None, recorder: Recorder | None = None) -> None:
        self.options = options
        self._recorder = recorder
        self.hopeless: DicomNetworkError | None = None
        self._hopeless_until = 0.0
        self.aborting = False
        self.associations = 0
        self.asked = options.window or MOST  # requests outstanding on an association
        self._window = Window(self.asked, fixed=options.window is not None)
        self._stop = stop
        self._changed = threading.Condition()  # its lock guards what follows
        self._stock = Stock(len(fallbacks(options.transcode)))
        self._lines: list[Line] = []
        self._standing = 0
        self._numbers = 0
        self._unreached = 0  # associations that did not come about or brought nothing, since the last that did
        self._due = 0.0  # not before then anything is tried again
        self._exhausted = False  # all paths have been found
        self._ending = False  # nothing more is sent
        self._pace = Pace(options.associations, options.most)
        self._files = self._work = 0  # done
        self._events: deque[Event] = deque()
        self._news = threading.Event()
        self._over = threading.Event()
        self._stood = False  # an association

    # --- the caller's thread ----------------------------------------------------------------------------------------

    def run(
        self, found: Iterable[Found | Outcome | None], on_skipped: Callable[[Path], None] | None
    ) -> Generator[Outcome, None, None]:
        """Send what is found; see ``dicomnet.send``. None among it: there is nothing now, ``wake`` will tell."""
        if self._recorder is not None:
            self._recorder.start(self._told)
        if self.options.deadline is not None:
            threading.Thread(target=self._keep_time, name="dicomnet send clock", daemon=True).start()
        try:
            yield from self._outcomes(iter(found), on_skipped)
        except GeneratorExit:  # the caller wants no more
            self._end()
            raise
        except BaseException:
            self.abort()
            raise
        else:
            self._end()
        finally:
            self._over.set()
            if self._recorder is not None:
                self._recorder.close()

    def _outcomes(
        self, found: Iterator[Found | Outcome | None], on_skipped: Callable[[Path], None] | None
    ) -> Generator[Outcome, None, None]:
        under_way = 0
        while True:
            under_way += self._find(found, _UNDER_WAY - under_way)
            if not self._direct():
                return
            for event in self._collect():
                under_way -= 1
                if isinstance(event, Outcome):
                    yield event
                elif isinstance(event, BaseException):
                    raise event
                elif on_skipped is not None:
                    on_skipped(event.path)

    def _find(self, found: Iterator[Found | Outcome | None], room: int) -> int:
        """Let the lines have more files; how many."""
        if self._exhausted or self._stock.unseen > _FOUND or room < _FOUND:
            return 0
        files: list[Found] = []
        before = 0  # sent
        deadline = time.monotonic() + _MOMENT
        while len(files) + before < min(room, 2 * _FOUND) and time.monotonic() < deadline:
            try:
                file = next(found)
            except StopIteration:
                self._exhausted = True
                break
            if file is None:
                break
            if isinstance(file, Outcome):
                before += 1
                self._told(file)
            else:
                files.append(file)
        with self._changed:
            self._stock.add(files)
            self._changed.notify_all()
        return len(files) + before

    def _direct(self) -> bool:
        """Have as many lines as there should be. False: it is all over."""
        with self._changed:
            self._ending = self._ending or self._stopped
            if self._ending:
                self._changed.notify_all()
            waiting = 0 if self._ending else len(self._stock)
            if not (self._lines or waiting or self.pending):
                return not (self._exhausted or self._ending)
            self._judge(Progress(time.monotonic(), self._files, self._work), waiting)
            target = self._pace.target if self._standing else 1
            for _ in range(min(target - len(self._lines), waiting)):
                self._start_line()
            for line in self._lines[self._pace.target :]:
                line.retiring = True
        return True

    def _judge(self, progress: Progress, waiting: int) -> None:
        """How many associations, and how many requests on each: one after the other, else nobody knows what helped."""
        pace, window = self._pace, self._window
        if not window.trying:
            pace.judge(progress, self._standing, waiting)
        steady = self._standing == pace.target and not pace.trying and waiting > _PLENTY and self._due <= progress.now
        size = window.size
        window.judge(progress, steady=steady)
        if window.size != size:
            pace.begin_anew()

    @property
    def window(self) -> int:
        return self._window.size if self._stood else 0

    @property
    def _stopped(self) -> bool:
        return self._stop is not None and self._stop.is_set()

    def _start_line(self) -> None:
        self._numbers += 1
        line = Line(self, self._numbers)
        self._lines.append(line)  # first: an interrupt may come as soon as it runs
        try:
            line.thread.start()
        except RuntimeError:  # no more threads
            self._lines.remove(line)
            if not self._lines:
                raise
            self._pace.refused(time.monotonic(), self._standing)

    def _collect(self) -> Iterator[Event]:
        if not self._events:
            self._news.wait(_POLL)
        if self.has_plenty:
            time.sleep(_NAP)
        self._news.clear()
        while self._events:
            yield self._events.popleft()

    def _end(self) -> None:
        """Release all associations when what was sent has been answered."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        try:
            self._join()
        except BaseException:
            self.abort()
            raise

    def _join(self) -> None:
        """Wait for all lines, but not for those that connect, or whose thread an interrupt kept from starting."""
        while self._lines:
            line = self._lines[0]
            line.wait(_GRACE)
            if line.opening or not line.begun:
                with self._changed:
                    if line in self._lines:
                        self._lines.remove(line)

    # --- any thread -------------------------------------------------------------------------------------------------

    def abort(self) -> None:
        """Abort all associations. From any thread but those of the lines."""
        with self._changed:
            self._ending = self.aborting = True
            self._changed.notify_all()
            lines = list(self._lines)
        associations = [line.association for line in lines if line.association is not None]
        deadline = time.monotonic() + _LAST_WORDS
        # All at once: each waits for a message that is half-written, as long as ``Timeouts.closing`` allows.
        telling = [threading.Thread(target=_tell_abort, args=(association,)) for association in associations]
        for thread in telling:
            thread.start()
        for thread in telling:
            thread.join()
        for line in lines:
            line.wait(max(deadline - time.monotonic(), 0.0))
        for association in associations:  # their peers do not read, or do not close
            association._connection.transport.wake()
        self._join()

    def wake(self) -> None:
        """There may be more to find, or the user may have stopped."""
        self._news.set()

    # --- the lines' threads -----------------------------------------------------------------------------------------

    def tell(self, event: Event) -> None:
        """To the caller, when it is recorded."""
        if self._recorder is not None and isinstance(event, Outcome):
            self._recorder.record((event,), partial(self._told, event))
        else:
            if self._recorder is not None and isinstance(event, Skipped):
                self._recorder.forget(event.path)
            self._told(event)

    @property
    def pending(self) -> bool:
        """Whether there is something to tell, or will be soon."""
        return (self._recorder is not None and self._recorder.pending) or bool(self._events)

    def _told(self, event: Event) -> None:
        self._events.append(event)
        if not self._news.is_set():
            self._news.set()

    def work_for(self, line: Line) -> bool:
        """Wait until there is something to do. False: there will be nothing, or not for long."""
        idle_until = time.monotonic() + _IDLE
        with self._changed:
            while not (self._ending or line.retiring or self._stopped):
                now = time.monotonic()
                wait = idle_until - now
                if len(self._stock):
                    wait = self._due - now
                    if wait <= 0:
                        return True
                    idle_until = self._due + _IDLE
                elif self._exhausted or wait <= 0:
                    return False
                self._changed.wait(wait)
            return False

    def may_send(self, line: Line) -> bool:
        """Whether another file may go at this moment."""
        return not (self._ending or line.retiring or self._stopped or (self._due and self._due > time.monotonic()))

    @property
    def has_plenty(self) -> bool:
        """Whether there are files for all lines."""
        return len(self._stock) > _PLENTY

    def suits(self, line: Line) -> bool:
        """Whether the association of ``line`` is the right one for what is to be sent."""
        with self._changed:
            stock, group = self._stock, line.group
            if group is None or not group.files:
                return bool(stock.unseen) or stock.next_group() is None
            return group.files[0].pair in line.pairs

    def take(self, line: Line) -> File | None:
        """The next file for its association; None if there is none for now."""
        while self.may_send(line):
            with self._changed:
                stock = self._stock
                file, found = stock.next_of(line.group, line.pairs), None
                if file is None:
                    if line.group is not None and line.group.files:  # a pair that is not proposed
                        return None
                    found = stock.next_found()
                    if found is None and stock.next_group() is None:
                        file = stock.next_again()
            if found is not None:
                seen = look(found)
            elif file is None:
                return None
            elif file.due <= time.monotonic():
                self.tell_overdue(file)
                continue
            else:
                seen = file if file.dataset is not None else look_again(file)
            if not isinstance(seen, File):
                self.tell(seen)
            elif seen.pair in line.pairs:
                return seen
            else:
                with self._changed:
                    self._stock.put(seen)
        return None

    def put_back(self, file: File) -> None:
        """It was taken and not sent."""
        with self._changed:
            self._stock.put_back(file)

    def _keep_time(self) -> None:
        """The thread that ends what has taken longer than its deadline."""
        deadline = self.options.deadline
        assert deadline is not None
        while True:
            with self._changed:
                # What is tried from now on has all its time before it.
                due = min(self._stock.next_due, *(line.next_due() for line in self._lines), time.monotonic() + deadline)
            if self._over.wait(max(due - time.monotonic(), 0.0)):
                return
            with self._changed:
                now = time.monotonic()
                late = self._stock.overdue(now)
                self._changed.notify_all()  # there may be nothing left to wait for
                expired = [association for line in self._lines if (association := line.expire(now)) is not None]
            for file in late:
                self.tell_overdue(file)
            for association in expired:
                threading.Thread(target=_cut, args=(association,), name="dicomnet send abort", daemon=True).start()

    def tell_overdue(self, file: File) -> None:
        """Its time is over."""
        self.tell(file.outcome(None, DeadlineExceeded("deadline", self.options.deadline)))

    def retry(self, file: File) -> None:
        """It is to be sent again, after the others."""
        with self._changed:
            self._stock.retry(file)
            self._changed.notify_all()

    def done(self, file: File, outcome: Outcome) -> None:
        """It has been answered for good."""
        with self._changed:
            self._unreached = 0
            self._files += 1
            self._work += file.size + ALLOWANCE
        self.tell(outcome)

    def refused(self) -> None:
        """The peer has not the resources for what it has been asked."""
        with self._changed:
            self._window.refused(time.monotonic())

    def back_off(self, why: str, times: int) -> None:
        """Nothing is tried for a while: the longer, the more often (``times``) it was in vain."""
        seconds = self.options.backoff * 2.0 ** min(times - 1, 16) * random.uniform(0.5, 1.5)
        seconds = min(seconds, _LONGEST_WAIT)
        with self._changed:
            now = time.monotonic()
            if self._ending or self._due > now:  # one of many that were refused together
                return
            self._due = now + seconds
        log.warning("%s: %s; going on in %.1f s", self.options.peer, why, seconds)

    @property
    def gives_up(self) -> bool:
        """Whether files are given up untried. After a while the peer is tried again; others may come later."""
        with self._changed:
            if self.hopeless is not None and time.monotonic() > self._hopeless_until:
                self.hopeless, self._unreached = None, self.options.attempts - 1
            return self.hopeless is not None

    def give_up_one(self) -> None:
        """A file for which there is no association."""
        with self._changed:
            group = self._stock.next_group()
            file = self._stock.next_of(group, None) or self._stock.next_again()
            found = self._stock.next_found() if file is None else None
        seen = look(found, 0) if found is not None else file
        if isinstance(seen, File):
            attempts = seen.attempts + self._unreached
            seen = replace(seen.outcome(None, self.hopeless, associated=False), attempts=attempts)
        if seen is not None:
            self.tell(seen)

    # --- associations -----------------------------------------------------------------------------------------------

    def connect(self, line: Line) -> Association | None:
        """Request an association for what is to be sent next; None if it does not come about, or is not needed."""
        with self._changed:
            another = line.group is None and self._stock.likely_group() is not None
        if not another:
            self._look_ahead()
        with self._changed:
            group = line.group if line.group is not None and line.group.files else self._stock.likely_group()
            if group is None:
                return None
            line.group, line.pairs = group, dict(group.pairs)
        options = self.options
        try:
            return associate(
                options.peer,
                calling_ae=options.calling_ae,
                contexts=proposed(line.pairs, options.transcode),
                tls=options.tls,
                identity=options.identity,
                async_ops=(self.asked, 1),
                max_pdu_length=options.max_pdu_length,
                timeouts=options.timeouts,
                limits=options.limits,
            )
        except NOT_NOW as error:
            self._not_reached(line, error)
            return None

    def _look_ahead(self) -> None:
        """Look at the next files, for the contexts that they need."""
        deadline = time.monotonic() + _MOMENT
        for _ in range(_FOUND):
            with self._changed:
                found, most = self._stock.next_found(), self._stock.room
            if found is None:
                break
            seen = look(found, most)
            if isinstance(seen, File):
                with self._changed:
                    self._stock.put(seen)
            else:
                self.tell(seen)
            if time.monotonic() >= deadline:
                break

    def _not_reached(self, line: Line, error: DicomNetworkError) -> None:
        with self._changed:
            if self._standing:  # the others go on
                self._pace.refused(time.monotonic(), self._standing)
                line.retiring = True
                log.info("%s: no further association: %s", self.options.peer, error)
                return
            self._unreached += 1
            # A peer that has taken such an association before may say "permanently", but it has not meant it then.
            if self._unreached >= self.options.attempts or (_is_final(error) and not self._stood):
                self.hopeless, self._hopeless_until = error, time.monotonic() + _GIVEN_UP
        if self.hopeless is None:
            self.back_off(str(error), self._unreached)

    def stands(self, association: Association) -> None:
        """One more."""
        window = association.async_ops[0]
        with self._changed:
            self.hopeless = None
            self._stood = True
            self._standing += 1
            self.associations = max(self.associations, self._standing)
            self._window.grant(min(window or self.asked, self.asked))
            self._pace.windowed = self._window.size > 1

    def fell(self) -> None:
        """One less."""
        with self._changed:
            self._standing -= 1

    def lost(self, line: Line, error: DicomNetworkError, files: list[File], *, used: bool) -> None:
        """The association of ``line`` died, with ``files`` unanswered; ``used``: some had been answered before."""
        with self._changed:
            if self._ending:
                return
            standing = self._standing
            if standing:
                self._pace.refused(time.monotonic(), standing)
                line.retiring = True
        if standing:
            log.warning("%s: %s; going on with %d associations", self.options.peer, error, standing)
        elif files:
            self.back_off(str(error), files[0].failures)
        elif used:  # it was idle
            log.info("%s: %s; requesting another association", self.options.peer, error)
        else:
            self._not_reached(line, error)

    def ended(self, line: Line) -> None:
        """Its thread does nothing more."""
        with self._changed:
            if line in self._lines:
                self._lines.remove(line)
        self.wake()


def _tell_abort(association: Association) -> None:
    """A-ABORT; the thread that has the association closes the connection."""
    connection = association._connection
    connection.run(connection.conversation.abort())


def _cut(association: Association) -> None:
    """A-ABORT; then nobody waits for anything on that association any more."""
    _tell_abort(association)
    association._connection.transport.shut_down()


def _is_final(error: DicomNetworkError) -> bool:
    """Whether the same request would fail again."""
    if isinstance(error, AssociationRejected):
        return not error.transient
    cause = error.__cause__
    return isinstance(cause, ssl.SSLError) or (isinstance(cause, socket.gaierror) and cause.errno == socket.EAI_NONAME)
