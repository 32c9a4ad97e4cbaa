"""SOP classes × transfer syntaxes, found out by presentation contexts (PS3.8 9.3.2.2, 9.3.3.2), gently.

A context with several transfer syntaxes tells of one that is accepted, or that none is. So each SOP class is asked
with the transfer syntaxes of a kind at once; what was accepted is taken out and the rest is asked again, until the
answer is no. A kind that a peer does not take costs one context, not one for each of its transfer syntaxes. All
contexts of all classes wait in one queue, and each association takes the next 128.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from dicomnet.errors import AssociationRejected
from dicomnet.probe import catalogue
from dicomnet.probe.calls import Caller
from dicomnet.probe.causes import detail_of
from dicomnet.probe.report import Attempt, Classes, SopClass
from dicomnet.ul.negotiation import DEFAULT_TRANSFER_SYNTAXES, MAX_CONTEXTS, PresentationContext
from dicomnet.ul.pdu import AssociateRq, ContextResult

_PAUSES: Final = (0.5, 1.0, 2.0)  # seconds after an association that failed; then no more
_SHRINK: Final = 4  # a peer that breaks at many contexts gets so many times fewer
_BASE: Final = ("uncompressed", "deflated")  # what a class that stores nothing can be encoded in


class Question(NamedTuple):
    """A presentation context to ask about."""

    uid: str
    syntaxes: tuple[str, ...]


Ask = Callable[[Sequence[PresentationContext]], AssociateRq]


@dataclass(frozen=True, slots=True)
class Plan:
    """How thoroughly to ask. ``everything``: what is retired as well, and each pair by a context of its own.

    ``seconds``: after which no more associations are begun; None: no limit.
    """

    everything: bool = False
    seconds: float | None = 60.0


class Queue:
    """Questions, and the associations that answer them. ``advance(done, all)`` is called as it goes on."""

    def __init__(
        self, caller: Caller, ask: Ask, until: float, advance: Callable[[int, int], None], stop: Callable[[], bool]
    ) -> None:
        self._caller, self._ask, self._until = caller, ask, until
        self._advance, self._stop = advance, stop
        self._batch = MAX_CONTEXTS
        self.associations = self.contexts = 0
        self.problem = ""

    def answers(self, questions: Sequence[Question]) -> Iterator[tuple[Question, int | None, str]]:
        """Each question with its result (None: not answered) and, if it was accepted, the transfer syntax.

        Accepted ones are asked again with what is left of them. Ends early with ``problem`` set.
        """
        waiting, done, failures = deque(questions), 0, 0
        while waiting:
            if self._stop() or time.monotonic() >= self._until:
                self.problem = "interrupted" if self._stop() else "the time for it was up"
                return
            batch = [waiting.popleft() for _ in range(min(self._batch, len(waiting)))]
            attempt = self._call(batch)
            if attempt.answer is None:
                waiting.extendleft(reversed(batch))
                if failures == len(_PAUSES):
                    self.problem = f"the peer failed {failures + 1} times in a row: {_failure(attempt)}"
                    return
                if not isinstance(attempt.error, AssociationRejected):
                    self._batch = max(self._batch // _SHRINK, 1)
                time.sleep(_PAUSES[failures])
                failures += 1
                continue
            failures = 0
            for question, result, syntax in _results(batch, attempt):
                left = tuple(one for one in question.syntaxes if one != syntax)
                if syntax and left:
                    waiting.append(Question(question.uid, left))
                yield question, result, syntax
            done += len(batch)
            self._advance(done, done + len(waiting))

    def _call(self, batch: Sequence[Question]) -> Attempt:
        self.associations += 1
        self.contexts += len(batch)
        return self._caller.call(self._ask([PresentationContext(*question) for question in batch]))


def _failure(attempt: Attempt) -> str:
    return "" if attempt.error is None else detail_of(attempt.error)


def _results(batch: Sequence[Question], attempt: Attempt) -> Iterator[tuple[Question, int | None, str]]:
    assert attempt.answer is not None
    answered = {context.id: context for context in attempt.answer.contexts}
    for number, question in enumerate(batch):
        context = answered.get(2 * number + 1)
        if context is None:
            yield question, None, ""
        else:
            accepted = context.result == ContextResult.ACCEPTANCE
            yield question, context.result, context.transfer_syntax if accepted else ""


def examine(
    caller: Caller,
    ask: Ask,
    plan: Plan,
    advance: Callable[[int, int], None] = lambda done, of: None,
    stop: Callable[[], bool] = lambda: False,
) -> Classes:
    """What the peer accepts. ``ask`` makes the request for some contexts."""
    began = time.monotonic()
    classes = catalogue.sop_classes(retired=plan.everything)
    syntaxes = tuple(one.uid for one in catalogue.transfer_syntaxes(retired=plan.everything))
    until = float("inf") if plan.seconds is None else began + plan.seconds
    queue = Queue(caller, ask, until, advance, stop)
    results: dict[str, int | None] = {}
    accepted: dict[str, set[str]] = {one.uid: set() for one in classes}
    firsts = [Question(one.uid, DEFAULT_TRANSFER_SYNTAXES) for one in classes]
    for question, result, _ in queue.answers([] if plan.everything else firsts):
        results[question.uid] = _better(results.get(question.uid), result)
    further = _pairs(classes, syntaxes) if plan.everything else _kinds(results, syntaxes)
    if not queue.problem:
        for question, result, syntax in queue.answers(further):
            results[question.uid] = _better(results.get(question.uid), result)
            if syntax:
                accepted[question.uid].add(syntax)
    return Classes(
        classes=tuple(
            SopClass(
                one.uid,
                one.name,
                catalogue.stores(one.uid),
                one.retired,
                results.get(one.uid),
                tuple(syntax for syntax in syntaxes if syntax in accepted[one.uid]),
            )
            for one in classes
        ),
        asked=syntaxes,
        associations=queue.associations,
        contexts=queue.contexts,
        seconds=time.monotonic() - began,
        complete=not queue.problem,
        problem=queue.problem,
    )


def _better(before: int | None, now: int | None) -> int | None:
    """What a class's results come to: accepted if one was; else what says most of the class itself."""
    known = [result for result in (before, now) if result is not None]
    if ContextResult.ACCEPTANCE in known:
        return ContextResult.ACCEPTANCE
    return max(known, default=None)


def _pairs(classes: Sequence[catalogue.Named], syntaxes: Sequence[str]) -> list[Question]:
    return [Question(one.uid, (syntax,)) for one in classes for syntax in syntaxes]


def _kinds(results: dict[str, int | None], syntaxes: tuple[str, ...]) -> list[Question]:
    """A question for each class that may be there and each kind of transfer syntaxes."""
    families = catalogue.families(syntaxes)
    possible = (ContextResult.ACCEPTANCE, ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED)
    return [
        Question(uid, members)
        for uid, result in results.items()
        if result in possible
        for kind, members in families.items()
        if kind in _BASE or catalogue.stores(uid)
    ]
