"""A line: a thread that sends files, over one association after the other."""

from __future__ import annotations

import logging
import math
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from dicomnet.blocking import Association
from dicomnet.dimse.pipeline import Store, store_many
from dicomnet.errors import DicomNetworkError, InvalidDataset, NoAcceptedContext
from dicomnet.sender.contexts import Routes
from dicomnet.sender.outcome import Skipped
from dicomnet.sender.stock import File, Group, Pair
from dicomnet.sender.window import RESOURCE_LIMITATION

if TYPE_CHECKING:
    from dicomnet.dimse.messages import Response
    from dicomnet.sender.pool import Pool

log = logging.getLogger("dicomnet")

_MOST_BYTES: Final = 16 << 20  # outstanding: where the answer takes no time beside the data a window gains nothing


class Line:
    """The ``Source`` of its association's pipeline. What it shares with other lines is the pool's.

    ``association``: None before it stands and when it has died. ``group``, ``pairs``: what the association is for.
    ``retiring``: it ends as soon as what it has sent is answered. ``opening``: it waits for a connection. ``begun``:
    its thread runs, or has run.
    """

    def __init__(self, pool: Pool, number: int) -> None:
        self._pool = pool
        self._deadline = pool.options.deadline
        self.association: Association | None = None
        self.group: Group | None = None
        self.pairs: dict[Pair, None] = {}
        self.retiring = False
        self.opening = False
        self.begun = False
        self._routes = Routes((), "never")
        self._ahead: Store | None = None  # made ready
        self._outstanding: dict[File, None] = {}
        self._overdue: set[File] = set()  # of those outstanding: the association is ended for their sake
        self._bytes = 0  # outstanding
        self._alone = False  # what is outstanding is a suspect
        self._used = False  # the association has brought an answer
        self.thread = threading.Thread(target=self._run, name=f"dicomnet send {number}", daemon=True)

    def wait(self, seconds: float) -> None:
        """Until its thread has ended, or for ``seconds``."""
        if self.begun:
            self.thread.join(seconds)

    def _run(self) -> None:
        self.begun = True
        pool = self._pool
        try:
            while pool.work_for(self):
                if pool.gives_up:
                    pool.give_up_one()
                elif self.association is not None and pool.suits(self):
                    self._send(self.association)
                else:
                    self._open()
        except BaseException as error:
            pool.tell(error)
        finally:
            self._close()
            pool.ended(self)

    # --- the association --------------------------------------------------------------------------------------------

    def _open(self) -> None:
        """Another association; the one that is there does not have the contexts that are needed now."""
        self._close()
        self.opening = True
        try:
            association = self._pool.connect(self)
        finally:
            self.opening = False
        if association is not None:
            self._routes = Routes(association.accepted, self._pool.options.transcode)
            self.association, self._used = association, False
            self._pool.stands(association)

    def _close(self) -> None:
        association, self.association = self.association, None
        if association is None:
            return
        self._pool.fell()
        if self._pool.aborting:
            association.abort()
            return
        try:
            association.release()
        except DicomNetworkError as error:  # all it sent has been answered
            log.warning("%s: the association was not released: %s", self._pool.options.peer, error)
            association.abort()

    def _send(self, association: Association) -> None:
        pool, connection = self._pool, association._connection
        try:
            association._run(store_many(connection.conversation, self, pool.asked))
        except DicomNetworkError as error:
            self.association = None
            pool.fell()
            self._died(error)
        finally:
            if self._ahead is not None:
                pool.put_back(self._ahead.token)
                self._ahead = None

    def _died(self, error: DicomNetworkError) -> None:
        """What was answered is not sent again; what was not is, one at a time: one of them may be to blame.

        That is the one sent first, most likely, which counts as a failed attempt of it alone.
        """
        files, self._outstanding = list(self._outstanding), {}
        self._bytes = 0
        attempts = self._pool.options.attempts
        if self._overdue:
            self._given_up(files)
            return
        for file in files:
            file.suspect = True
            file.failures += file is files[0] or attempts == 1
            if file.failures >= attempts:
                self._pool.tell(file.outcome(None, error))
            else:
                self._pool.retry(file)
        self._pool.lost(self, error, files, used=self._used)

    def _given_up(self, files: list[File]) -> None:
        """The association was ended for those whose time was over. The others have nothing to do with that."""
        overdue, self._overdue = self._overdue, set()
        for file in files:
            if file in overdue:
                self._pool.tell_overdue(file)
            else:
                self._pool.retry(file)

    def next_due(self) -> float:
        """When the time of the next one that is outstanding is over. From any thread."""
        return min((file.due for file in list(self._outstanding) if file not in self._overdue), default=math.inf)

    def expire(self, now: float) -> Association | None:
        """The association, if it is to be aborted because the time of something on it is over. From any thread."""
        overdue = {file for file in list(self._outstanding) if file.due <= now} - self._overdue
        self._overdue |= overdue
        return self.association if overdue else None

    # --- the source of the pipeline ---------------------------------------------------------------------------------

    def take(self, outstanding: int, /) -> Store | None:
        """The next one, unless it has to wait until those that are outstanding are answered."""
        if not self._pool.may_send(self) or (outstanding and (self._alone or outstanding >= self._pool.window)):
            return None
        store = self._ready()
        if store is None:
            return None
        file: File = store.token
        if outstanding and (file.suspect or self._bytes + file.size > _MOST_BYTES):
            return None
        self._ahead = file.dataset = None
        file.attempts += 1
        if self._deadline is not None and file.due == math.inf:
            file.due = time.monotonic() + self._deadline
        self._alone = file.suspect
        self._bytes += file.size
        self._outstanding[file] = None
        return store

    def prepare(self, _outstanding: int, /) -> None:
        """Have the next file ready, unless another line may be waiting for it."""
        if self._pool.has_plenty:
            self._ready()

    def _ready(self) -> Store | None:
        while self._ahead is None and (file := self._pool.take(self)) is not None:
            assert file.dataset is not None
            try:
                self._ahead = self._routes.store(file, file.dataset)
            except (NoAcceptedContext, InvalidDataset, OSError) as error:
                file.attempts += 1
                self._pool.tell(file.outcome(None, error))
        return self._ahead

    def done(self, file: Any, answer: Response | Exception, /) -> None:
        """One has been answered, or could not be sent."""
        del self._outstanding[file]
        self._bytes -= file.size
        self._used = True
        pool = self._pool
        if isinstance(answer, FileNotFoundError) and file.found.fleeting:
            pool.tell(Skipped(file.found.path))
            return
        if isinstance(answer, Exception):
            pool.done(file, file.outcome(None, answer))
            return
        refused = answer.status & 0xFF00 == 0xA700  # out of resources (PS3.4 Table B.2-1)
        if refused or answer.status == RESOURCE_LIMITATION:
            pool.refused()
        if refused:
            file.failures += 1
            pool.back_off(f"status {answer.status}", file.failures)
        if refused and file.failures < pool.options.attempts:
            pool.retry(file)
        else:
            comment = answer.error_comment or ""
            pool.done(file, file.outcome(answer.status, None, comment))
