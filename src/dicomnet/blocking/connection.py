"""A conversation over a socket, for threads: this face's ``Io``."""

from __future__ import annotations

import inspect
import logging
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Coroutine, Generator, Sequence
from typing import Any, Final, TypeVar

from dicomnet.blocking.search import BATCH, Search
from dicomnet.blocking.strands import Strands
from dicomnet.codec import Codec
from dicomnet.config import Limits, Peer
from dicomnet.dataset import Path
from dicomnet.dimse.conversation import Conversation
from dicomnet.dimse.exchange import Orphan
from dicomnet.dimse.io import Gate
from dicomnet.dimse.provider import as_items
from dicomnet.errors import DeadlineExceeded, DicomNetworkError
from dicomnet.transport import Buffer, Transport
from dicomnet.ul import association as ul
from dicomnet.ul.fsm import State

log = logging.getLogger("dicomnet")
Result = TypeVar("Result")

_LAST_WORDS: Final = 1.0  # seconds to find what the peer said before the connection broke
_UNREAD: Final = 1.0  # seconds: who reads needs less from one read to the next


def _finished(result: Awaitable[Any]) -> Any:
    """The result of an async handler, which gets an event loop of its own."""
    import asyncio  # costs 30 ms to import; few use async handlers here

    async def finish() -> Any:
        return await result

    return asyncio.run(finish())


def _from_async(results: AsyncIterable[Any]) -> Generator[Any, None, None]:
    """What an async generator yields; it gets an event loop of its own."""
    import asyncio

    iterator = aiter(results)

    async def step() -> Any:
        return await anext(iterator)

    async def stop() -> None:
        if (close := getattr(iterator, "aclose", None)) is not None:
            await close()

    with asyncio.Runner() as runner:
        try:
            while True:
                try:
                    yield runner.run(step())
                except StopAsyncIteration:
                    return
        finally:
            runner.run(stop())


class Connection:
    """A conversation over a socket, for threads: this face's ``Io``.

    ``self._turn`` guards the conversation and the association. Operations run while they hold it (``run``); whatever
    waits for the network, for a handler or for another lock puts it aside. ``opener``: ``associate``, which stands on
    this class and which it needs for C-MOVE.
    """

    def __init__(
        self,
        connected: Transport,
        association: ul.Association,
        limits: Limits,
        spool_folder: Path | None,
        name: str,
        opener: Callable[..., Any],
    ) -> None:
        self.transport = connected
        self.association = association
        codec = Codec(association, limits, spool_folder, lambda: self.conversation.held)
        self.conversation = Conversation(self, association, codec, limits)
        self.name = name  # for log lines
        self._opener = opener
        self._strands: Strands | None = None
        self._beside = 0  # how many of them perform what was spawned
        self._spawned: deque[Coroutine[Any, Any, None]] = deque()  # and nobody performs yet
        self.stopping = False
        self._turn = threading.Lock()
        self._led = threading.Condition(self._turn)  # somebody has read, and goes
        self._leading = False
        self._followers = 0
        self._taken_in = 0.0  # when somebody has last read
        self._flush_lock = threading.Lock()
        self.window: Gate = threading.Lock()  # of one operation, until another size is negotiated
        self.message: Gate = threading.Lock()
        self._finished = False

    def run(self, operation: Coroutine[Any, Any, Result]) -> Result:
        """An operation of the conversation, from its beginning to its end.

        One step is all there is: what it waits for blocks, and returns when it is done.
        """
        with self._turn:
            try:
                operation.send(None)
            except StopIteration as stop:
                result: Result = stop.value
                return result
        operation.close()
        raise RuntimeError("an operation waited for something that this face does not supply")

    # --- Io ---------------------------------------------------------------------------------------------------------

    now = staticmethod(time.monotonic)
    strand = staticmethod(threading.get_ident)

    async def pass_gate(self, gate: Gate) -> None:
        self._turn.release()
        try:
            gate.acquire()
        finally:
            self._turn.acquire()

    def open_window(self, size: int) -> None:
        if size != 1:
            self.window = threading.Semaphore(size or 0xFFFF)

    async def flush(self) -> None:
        self._flush()

    async def until(self, ready: Callable[[], object], deadline: float | None) -> bool:
        return self._until(ready, deadline)

    async def call(self, handler: Callable[..., Any], argument: Any) -> Any:
        self._turn.release()
        try:
            result = handler(argument)
            return _finished(result) if not isinstance(result, int) and inspect.isawaitable(result) else result
        finally:
            self._turn.acquire()
            if self.association.framer.mid_pdu:
                self.association.was_busy(time.monotonic())

    def call_after(self, function: Callable[[], None]) -> None:
        self._aside(function)

    async def stream(self, handler: Callable[..., Any], argument: Any) -> AsyncGenerator[list[Any], None]:
        found = as_items(await self.call(handler, argument))
        if isinstance(found, list | tuple):
            for start in range(0, len(found), BATCH):
                yield list(found[start : start + BATCH])
            return
        search = Search(_from_async(found) if isinstance(found, AsyncIterable) else found)
        self._strand_pool.start(search.run)
        try:
            while batch := self._aside(search.take):
                yield batch
        finally:
            self._aside(search.stop)

    def _aside(self, function: Callable[[], Result]) -> Result:
        """Call what takes time because of the user, without the turn."""
        self._turn.release()
        try:
            return function()
        finally:
            self._turn.acquire()
            if self.association.framer.mid_pdu:
                self.association.was_busy(time.monotonic())

    @property
    def _strand_pool(self) -> Strands:
        if self._strands is None:
            self._strands = Strands(f"{threading.current_thread().name} beside")
        return self._strands

    def spawn(self, strand: Coroutine[Any, Any, None]) -> None:
        self._spawned.append(strand)
        if self._beside >= self.conversation.limits.operations:  # one segment may bring thousands
            return
        try:
            self._strand_pool.start(self._run_spawned)
        except RuntimeError:  # no more threads: those that there are do it
            if not self._beside:
                self._spawned.pop().close()
                raise
        else:
            self._beside += 1

    def _run_spawned(self) -> None:
        while True:
            with self._turn:
                if not self._spawned:
                    self._beside -= 1
                    if self.conversation.over:  # perhaps this strand is the only one to know
                        self._send_reader_home()
                    return
                strand = self._spawned.popleft()
            self._run_beside(strand)
            del strand

    def _run_beside(self, strand: Coroutine[Any, Any, None]) -> None:
        try:
            self.run(strand)
        except SystemExit:  # by a handler: it ends that, as it would end a thread
            pass
        except Exception as error:
            self.report("the association ended by an error of this side", error)
            self.run(self.conversation.abort())

    def runs_in(self, thread: threading.Thread) -> bool:
        """Whether it is one of the threads beside the association's own."""
        return self._strands is not None and thread in self._strands

    async def join(self) -> None:
        if self._strands is not None:
            self._turn.release()
            try:
                self._strands.join()
            finally:
                self._turn.acquire()

    async def open(self, peer: Peer, **options: Any) -> Any:
        self._turn.release()
        try:
            return self._opener(peer, **options)
        finally:
            self._turn.acquire()

    async def poll(self) -> None:
        self._poll()

    def glance(self) -> None:
        if self._turn.acquire(blocking=False):
            try:
                self._poll()
            finally:
                self._turn.release()

    def _poll(self) -> None:
        if self._leading or self.conversation.congested:  # who leads takes it in
            return
        failure: OSError | None = None
        try:
            data = self.transport.receive()
        except OSError as error:
            failure, data = error, memoryview(b"")
        if data is not None:
            self._take_in(data, failure)

    def resume(self) -> None:
        if self._followers:
            self._led.notify_all()

    def drop(self, results: Orphan) -> None:
        """Close what its owner has dropped, now or, if this thread is amidst something, with the next request."""
        if not self._turn.acquire(blocking=False):
            self.conversation.orphans.append(results)
            return
        try:
            # A collector may come at any moment: also while this very thread holds one of these.
            if self._flush_lock.locked() or not self.message.acquire(False):
                self.conversation.orphans.append(results)
                return
            self.message.release()
            results.close().send(None)
        except (StopIteration, DicomNetworkError):  # why the association ended is told to the next who wants something
            pass
        finally:
            self._turn.release()

    def report(self, text: str, error: BaseException | None = None) -> None:
        log.warning("%s: %s", self.name, text, exc_info=error)

    # --- writing ----------------------------------------------------------------------------------------------------

    def _flush(self) -> None:
        """With the turn, which is put aside while this writes: all there is.

        A connection that breaks ends the conversation; that is not raised from here.
        """
        turn, lock, association = self._turn, self._flush_lock, self.association
        if not lock.acquire(False) and not self._wait_to_write():
            return
        failure: OSError | None = None
        try:
            while buffers := association.data_to_send():
                turn.release()
                try:
                    if left := self.transport.send(buffers):
                        self._write_rest(left)
                except OSError as error:
                    failure = error
                    break
                finally:
                    turn.acquire()
        finally:
            lock.release()
        if failure is not None:
            # What the peer said before the connection broke (an A-ABORT, most likely) tells more than the error.
            self._until(lambda: self.conversation.over, time.monotonic() + _LAST_WORDS)
            self.conversation.receive_eof(time.monotonic(), failure)
        elif association.state is State.AWAITING_CLOSE:
            self.transport.half_close()

    def _wait_to_write(self) -> bool:
        """Another thread writes. False if it does so to a peer that does not read, and this cannot wait.

        An A-ABORT cannot overtake what is half-written; then the connection just ends.
        """
        patience = -1.0
        if self.stopping:
            patience = 0.0
        elif self.conversation.over and self.association.timeouts.closing is not None:
            patience = self.association.timeouts.closing
        self._turn.release()
        try:
            if self._flush_lock.acquire(timeout=patience):
                return True
        finally:
            self._turn.acquire()
        self.conversation.receive_eof(time.monotonic())
        self.transport.shut_down()
        return False

    def _write_rest(self, left: Sequence[Buffer]) -> None:
        """The peer reads more slowly than we write: wait for it, within the limit for what is in hand."""
        seconds = self.association.timeouts.send
        deadline = None if seconds is None else time.monotonic() + seconds
        while left and not self._broken:
            wait = None if deadline is None else deadline - time.monotonic()
            if (wait is None or wait > 0) and self.transport.wait_writable(wait):
                left = self.transport.send(left)
                continue
            with self._turn:
                # It may have said why it does not read.
                self._until(lambda: self.conversation.over, time.monotonic() + _LAST_WORDS)
                self.conversation.end(DeadlineExceeded("send", seconds))
                self.conversation.receive_eof(time.monotonic())

    @property
    def _broken(self) -> bool:
        return self.association.state is State.IDLE

    # --- reading ----------------------------------------------------------------------------------------------------

    def _until(self, ready: Callable[[], object], deadline: float | None) -> bool:
        """As ``Io.until``: with the turn, which is put aside while this waits."""
        turn, conversation = self._turn, self.conversation
        while not ready():
            if self._leading or (conversation.congested and not conversation.over):
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return False
                self._followers += 1
                try:
                    self._led.wait(left)
                finally:
                    self._followers -= 1
                continue
            self._leading = True
            turn.release()
            try:
                in_time = self._read(deadline)
            finally:
                turn.acquire()
                self._leading = False
                if self._followers:
                    self._led.notify_all()
            if not in_time and not ready():
                return False
        return True

    def _read(self, deadline: float | None) -> bool:
        """Wait for bytes, ``deadline`` or a time limit of the association; hand over what came.

        False if the deadline has passed.
        """
        until, now = deadline, time.monotonic()
        limit = self.association.deadline
        if limit is not None:
            if now - self._taken_in > _UNREAD:
                self.association.was_busy(now)
                limit = self.association.deadline
            if until is None or (limit is not None and limit < until):
                until = limit
        if deadline is not None and now >= deadline:
            return False
        failure: OSError | None = None
        data: memoryview | None = None
        try:
            data = self.transport.receive_within(None if until is None else until - now)
        except OSError as error:
            failure, data = error, memoryview(b"")
        with self._turn:
            self._take_in(data, failure)
        return True

    def _take_in(self, data: memoryview | None, failure: OSError | None) -> None:
        """With the turn: bytes that came, none in time (None), or the end."""
        conversation = self.conversation
        now = self._taken_in = time.monotonic()
        if data:
            if conversation.receive_data(data, now):
                self.transport.acknowledge()
        elif data is None:
            conversation.handle_timer(now)
        else:
            conversation.receive_eof(now, failure)
        if self.association.has_output:
            self._flush()

    # --- ending -----------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """After the last PDU: give the peer a moment to close first, then close. Safe to call twice."""
        with self._turn:
            first, self._finished = not self._finished, True
            if self._flush_lock.locked():  # another thread is about to write the last PDU
                self._flush()
            if self._leading:  # another thread waits for what will not come any more
                self.transport.wake()
        if first:
            try:
                with self._turn:
                    self._until(lambda: self.association.state is not State.AWAITING_CLOSE, None)
                    self._nobody_reads(_LAST_WORDS)
            finally:
                self.transport.close()
                if self._strands is not None:
                    self._strands.close()

    def _nobody_reads(self, seconds: float | None) -> bool:
        """With the turn: wait until that is so; False if it is not after ``seconds``."""
        self._followers += 1
        try:
            return self._led.wait_for(lambda: not self._leading, seconds)
        finally:
            self._followers -= 1

    def _send_reader_home(self) -> None:
        """With the turn, after the end: who waits for something to arrive looked at the time limits before that."""
        if not self._nobody_reads(0 if self._broken else self.association.timeouts.closing):
            self.transport.wake()

    def stop(self, *, at_once: bool) -> None:
        """From another thread: A-ABORT, unless something is half-written.

        Its own thread closes the connection when the peer has, or ``at_once``, which is for those that are silent: if
        bytes are on their way, the peer's system throws the A-ABORT away when it learns that they were not read.
        """
        self.stopping = True
        self.run(self.conversation.abort())
        if at_once:
            self.transport.wake()
