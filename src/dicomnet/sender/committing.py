"""Have the peer commit to what was sent (PS3.4 J), in transactions of a bounded number of instances.

One idea: a few transactions are open at once, so that a provider that takes its time does not hold up the others; their
results come in any order, on the association of the requests or, if somebody listens there, on a new one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from dicomnet.errors import DicomNetworkError, NoAcceptedContext, StatusError
from dicomnet.sender.confirmation import Answer, Link, Patience, Subject, batches, failure_text

if TYPE_CHECKING:
    from dicomnet.services.commitment import Result, Transaction, User

COMMITTED: Final = "committed"  # as the ledger has it
SIZE: Final = 1000  # instances of a transaction: 130 kB of UIDs, which every provider has taken so far
_OPEN: Final = 8  # transactions that wait for their results
_SLICE: Final = 0.25  # seconds of listening before looking at the others

Asking = Callable[[str, list[Subject]], None]


@dataclass(slots=True, eq=False)
class _Open:
    transaction: Transaction
    subjects: list[Subject]
    deadline: float


def commit(
    subjects: Iterable[Subject],
    connect: Callable[[], Any],
    user: User,
    patience: Patience | None = None,
    *,
    size: int = SIZE,
    reachable: bool = False,
    asking: Asking | None = None,
) -> Iterator[Answer]:
    """An ``Answer`` for each instance: committed, failed with the provider's reason, or unanswered.

    ``connect`` makes an association with the Storage Commitment Push Model and ``ae=``, the AE of ``user``. ``size``:
    instances of a transaction. ``reachable``: that AE is served, so that results can come on new associations: they are
    waited for when the association of the requests is over. ``asking(transaction uid, subjects)`` is called before a
    request goes out: its result may come after the next restart. A result that does not come within
    ``patience.seconds`` is no answer.
    """
    if size < 1:
        raise ValueError(f"size is {size!r}; a transaction has 1 instance or more")
    committing = _Committing(connect, user, patience or Patience(), reachable, asking)
    try:
        for batch in batches(subjects, size):
            yield from committing.ask(batch)
            while committing.busy:
                yield from committing.wait()
        while committing.waiting:
            yield from committing.wait()
    except GeneratorExit:
        committing.link.lost(None)
        raise
    committing.link.close()


class _Committing:
    def __init__(
        self, connect: Callable[[], Any], user: User, patience: Patience, reachable: bool, asking: Asking | None
    ) -> None:
        self.link = Link(connect)
        self._user = user
        self._patience = patience
        self._reachable = reachable
        self._asking = asking
        self._open: list[_Open] = []
        self._hopeless = ""  # why nothing is asked any more

    @property
    def busy(self) -> bool:
        return len(self._open) >= _OPEN

    @property
    def waiting(self) -> bool:
        return bool(self._open)

    # --- requests ---------------------------------------------------------------------------------------------------

    def ask(self, batch: list[Subject]) -> Iterator[Answer]:
        """Open a transaction; answers if that fails."""
        patience = self._patience
        reason = self._hopeless
        for attempt in range(patience.attempts):
            if self._hopeless or patience.stopped:
                reason = self._hopeless or "interrupted"
                break
            if attempt:
                patience.rest(attempt)
            try:
                self._request(batch)
                return
            except StatusError as error:
                reason = f"the peer refused the request: {error}"
                break
            except NoAcceptedContext as error:  # nor will it be the next time
                reason = self._hopeless = str(error)
                break
            except (DicomNetworkError, OSError) as error:
                reason = str(error)
                self.link.lost(error)
        else:
            self._hopeless = reason
        yield from (Answer(subject, "unanswered", reason) for subject in batch)

    def _request(self, batch: list[Subject]) -> None:
        from pydicom.uid import generate_uid

        association = self.link.get()
        uid = str(generate_uid(prefix=None))
        if self._asking is not None:
            self._asking(uid, batch)
        pairs = [(subject.sop_class_uid, subject.sop_instance_uid) for subject in batch]
        transaction = self._user.request(association, pairs, transaction_uid=uid)
        self._open.append(_Open(transaction, batch, time.monotonic() + self._patience.seconds))

    # --- results ----------------------------------------------------------------------------------------------------

    def wait(self) -> Iterator[Answer]:
        """For a moment, or until a result comes: the answers that there are."""
        done = self._done
        if not any(map(done, self._open)):
            self._listen()
        for one in [one for one in self._open if done(one)]:
            self._open.remove(one)
            self._user.forget(one.transaction)
            yield from self._answers(one)

    def _done(self, one: _Open) -> bool:
        if one.transaction.result is not None or one.deadline <= time.monotonic() or self._patience.stopped:
            return True
        return self.link.up is None and not self._reachable

    def _listen(self) -> None:
        seconds = max(0.0, min(_SLICE, min(one.deadline for one in self._open) - time.monotonic()))
        if self.link.up is None:
            self._open[0].transaction.wait(seconds)
            return
        try:
            over = self.link.up.listen(
                seconds, until=lambda: any(one.transaction.result is not None for one in self._open)
            ) and not any(one.transaction.result is not None for one in self._open)
            error = None
        except DicomNetworkError as failure:
            over, error = True, failure
        if over:
            self.link.lost(error)

    def _answers(self, one: _Open) -> Iterator[Answer]:
        result = one.transaction.result
        if result is None:
            reason = self._why()
            yield from (Answer(subject, "unanswered", reason) for subject in one.subjects)
            return
        texts = answers_of(result)
        for subject in one.subjects:
            text = texts.get(subject.sop_instance_uid)
            if text is None:
                yield Answer(subject, "unanswered", "the report does not mention this instance")
            else:
                yield Answer(subject, "committed") if text == COMMITTED else Answer(subject, "failed", text)

    def _why(self) -> str:
        if self._patience.stopped:
            return "interrupted"
        if self.link.up is None and not self._reachable:
            ended = f": {self.link.error}" if self.link.error is not None else ""
            return f"the peer ended the association before it reported{ended}; it may report on a new one, to a port"
        return f"no report within {self._patience.seconds:g} s"


def answers_of(result: Result) -> dict[str, str]:
    """SOP Instance UID → "committed", or why it is not; peers do not always repeat the SOP class as it was."""
    answers = {instance.sop_instance_uid: failure_text(reason) for instance, reason in result.failed.items()}
    return answers | {
        instance.sop_instance_uid: COMMITTED for instance in result.committed if instance not in result.failed
    }
