"""Who wants to hear of which steps (PS3.4 CC.2.3), without I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from dicomnet.dimse.status import Status
from dicomnet.errors import StatusError
from dicomnet.services.matching import Query
from dicomnet.services.ups.classes import ALL, FILTERED, Action, UpsStatus

if TYPE_CHECKING:
    from pydicom import Dataset

MOST_SUBSCRIBERS: Final = 1_000  # AE titles


@dataclass(frozen=True, slots=True)
class _Subscription:
    """``lock``: the step is not to be deleted. ``own``: to this step, and not to all (or those of a filter)."""

    lock: bool
    own: bool


@dataclass(frozen=True, slots=True)
class _Global:
    lock: bool
    filter: Query | None = None

    def wants(self, step: Dataset) -> bool:
        return self.filter is None or self.filter.matches(step)


class Subscriptions:
    """By step and by AE title. What is said of one step goes before what is said of all (PS3.4 CC.2.3.1).

    Not thread-safe: its user has a lock.
    """

    def __init__(self) -> None:
        self._of_step: dict[str, dict[str, _Subscription]] = {}
        self._global: dict[str, _Global] = {}

    def of(self, uid: str) -> list[str]:
        """AE titles that want to hear of this step."""
        return list(self._of_step.get(uid, ()))

    def globally(self) -> list[str]:
        """AE titles that have subscribed to all steps, or to those of a filter."""
        return list(self._global)

    def locked(self, uid: str) -> bool:
        """Whether somebody wants this step not to be deleted."""
        return any(subscription.lock for subscription in self._of_step.get(uid, {}).values())

    def created(self, uid: str, step: Dataset) -> None:
        """A new step: those who want to hear of all hear of it."""
        for ae_title, wish in self._global.items():
            if wish.wants(step):
                self._add(uid, ae_title, _Subscription(wish.lock, own=False))

    def deleted(self, uid: str) -> None:
        self._of_step.pop(uid, None)

    def change(
        self, action: Action, uid: str, ae_title: str, request: Dataset, steps: Mapping[str, Dataset]
    ) -> Iterable[str]:
        """Do what an N-ACTION wants (PS3.4 CC.2.3.3): the steps of which the AE is to hear at once.

        Raises StatusError C307H, C314H, C308H, 0213H, and A900H for a filter that cannot be used.
        """
        everything = uid in (ALL, FILTERED)
        if not everything and uid not in steps:
            raise StatusError(UpsStatus.NO_SUCH_UPS, "no such UPS")
        if action is Action.SUSPEND_GLOBAL_SUBSCRIPTION:
            if not everything:
                raise StatusError(UpsStatus.ACTION_NOT_APPROPRIATE, "only a global subscription can be suspended")
            self._global.pop(ae_title, None)
            return ()
        if action is Action.UNSUBSCRIBE:
            self._unsubscribe(None if everything else uid, ae_title)
            return ()
        lock = _lock(request)
        if not everything:
            self._add(uid, ae_title, _Subscription(lock, own=True))
            return (uid,)
        return self._subscribe_to_all(ae_title, _Global(lock, _filter(request) if uid == FILTERED else None), steps)

    def _subscribe_to_all(self, ae_title: str, wish: _Global, steps: Mapping[str, Dataset]) -> list[str]:
        if ae_title not in self._global and len(self._global) >= MOST_SUBSCRIBERS:
            raise StatusError(Status.RESOURCE_LIMITATION, "too many subscribers")
        self._global[ae_title] = wish
        wanted = [uid for uid, step in list(steps.items()) if wish.wants(step)]
        for uid in wanted:
            before = self._of_step.get(uid, {}).get(ae_title)
            if before is None or not before.own:
                self._add(uid, ae_title, _Subscription(wish.lock, own=False))
        return wanted if wish.lock else []  # only who locks is told of all at once (PS3.4 CC.2.4.3)

    def _add(self, uid: str, ae_title: str, subscription: _Subscription) -> None:
        of_step = self._of_step.setdefault(uid, {})
        if ae_title not in of_step and len(of_step) >= MOST_SUBSCRIBERS:
            raise StatusError(Status.RESOURCE_LIMITATION, "too many subscribers")
        of_step[ae_title] = subscription

    def _unsubscribe(self, uid: str | None, ae_title: str) -> None:
        if uid is not None:
            self._of_step.get(uid, {}).pop(ae_title, None)
            return
        self._global.pop(ae_title, None)
        for of_step in self._of_step.values():
            of_step.pop(ae_title, None)


def _lock(request: Dataset) -> bool:
    lock = request.get("DeletionLock")
    if lock not in ("TRUE", "FALSE"):
        raise StatusError(Status.INVALID_ARGUMENT_VALUE, "DeletionLock is neither TRUE nor FALSE")
    return bool(lock == "TRUE")


def _filter(request: Dataset) -> Query:
    """The matching keys are what else the action information has (PS3.4 CC.2.3.3.1)."""
    keys = request[:]
    for keyword in ("ReceivingAE", "DeletionLock", "TransactionUID"):
        if keyword in keys:
            del keys[keyword]
    return Query(keys)
