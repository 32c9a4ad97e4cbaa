"""Storage commitment, push model (PS3.4 J): ask that instances be kept safely, and promise it.

The request is an N-ACTION. Its result comes later, in an N-EVENT-REPORT on the same association or on a new one that
the provider opens, with the roles reversed.
"""

from __future__ import annotations

import concurrent.futures
import inspect
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from dicomnet.dimse.messages import Response
from dicomnet.dimse.status import Status
from dicomnet.errors import DeadlineExceeded, DicomNetworkError, StatusError
from dicomnet.services.courier import Courier, Line, Peers, address
from dicomnet.services.faces import answered, drive, finish, is_async
from dicomnet.services.providing import decoded, offer, route

if TYPE_CHECKING:
    from pydicom import Dataset

    from dicomnet.ae import AE
    from dicomnet.dimse.provider import Indication

log = logging.getLogger("dicomnet")

StorageCommitmentPushModel: Final = "1.2.840.10008.1.20.1"  # SOP class UID (PS3.4 J.3.5)
_INSTANCE: Final = "1.2.840.10008.1.20.1.1"  # its only instance (PS3.4 J.3.5)
_REQUEST: Final = 1  # action type (PS3.4 Table J.3-1)
_SUCCESS, _FAILURES = 1, 2  # event types (PS3.4 Table J.3-2)

MOST_INSTANCES: Final = 200_000  # of one request: a multiframe-less PET/CT study has a tenth of it
_SLICE: Final = 0.5  # seconds of listening before looking whether the result came on another association


class FailureReason(IntEnum):
    """Why an instance is not committed (PS3.3 C.14.1.1)."""

    PROCESSING_FAILURE = 0x0110
    NO_SUCH_INSTANCE = 0x0112
    CLASS_INSTANCE_CONFLICT = 0x0119
    CLASS_NOT_SUPPORTED = 0x0122
    DUPLICATE_TRANSACTION = 0x0131
    RESOURCE_LIMITATION = 0x0213


_MAY_WORK_LATER: Final = (FailureReason.PROCESSING_FAILURE, FailureReason.RESOURCE_LIMITATION)


class Instance(NamedTuple):
    """Which instance is meant."""

    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True)
class Result:
    """What the provider promises. ``failed``: instance → a ``FailureReason``, or another number.

    ``retrieve_ae``: AE title from which the committed ones can be had, if the provider says so.
    """

    committed: frozenset[Instance] = frozenset()
    failed: Mapping[Instance, int] = field(default_factory=dict)
    retrieve_ae: str | None = None


# --- the user -------------------------------------------------------------------------------------------------------


class Transaction:
    """One request. ``uid``: its Transaction UID; ``instances``: what it is about."""

    def __init__(self, uid: str, instances: tuple[Instance, ...], association: Any) -> None:
        self.uid = uid
        self.instances = instances
        self._association = association
        self._result: concurrent.futures.Future[Result] = concurrent.futures.Future()

    @property
    def result(self) -> Result | None:
        """None as long as it has not come."""
        return self._result.result() if self._result.done() else None

    def wait(self, seconds: float) -> Any:
        """The Result, or None if it does not come within ``seconds``: it may come later.

        The association of the request is listened to meanwhile, as long as it lives. On the asyncio face awaitable.
        """
        return drive(self._association, self._wait(seconds))

    async def _wait(self, seconds: float) -> Result | None:
        deadline, done = time.monotonic() + seconds, self._result.done
        while not done() and (left := deadline - time.monotonic()) > 0:
            try:
                ended = await answered(self._association.listen(min(left, _SLICE), until=done))
            except DicomNetworkError:
                ended = True
            if ended and not done():
                await self._wait_elsewhere(deadline - time.monotonic())
                break
        return self.result

    async def _wait_elsewhere(self, seconds: float) -> None:
        """The association is over: the result can come on a new one alone."""
        if not is_async(self._association):
            concurrent.futures.wait([self._result], max(0.0, seconds))
            return
        import asyncio

        await asyncio.wait([asyncio.wrap_future(self._result)], timeout=max(0.0, seconds))


class User:
    """Asks for commitment, and takes the results: register it with the AE that is given to ``associate(..., ae=ae)``.

    Serve that AE as well if the provider reports on new associations. ``on_result(transaction uid, Result)`` is called
    for each result, those of requests that this program has forgotten (after a restart, say) included.
    """

    def __init__(self, ae: AE, *, on_result: Callable[[str, Result], None] | None = None) -> None:
        self._transactions: dict[str, Transaction] = {}
        self._on_result = on_result
        offer(ae, [StorageCommitmentPushModel], roles={StorageCommitmentPushModel: (True, True)})
        route(ae, "n_event_report", [StorageCommitmentPushModel], self._take)

    def request(self, association: Any, instances: Iterable[Any], *, transaction_uid: str = "") -> Any:
        """Ask the peer to commit to these instances (N-ACTION, PS3.4 J.3.2): a Transaction, whose result is to come.

        ``instances``: pydicom Datasets, EncodedDatasets or (SOP class UID, SOP instance UID) pairs. ``association``
        needs a context of the Storage Commitment Push Model. On the asyncio face awaitable. Raises StatusError if the
        provider refuses, ValueError if there are no instances, and what ``association.n_action`` raises.
        """
        return drive(association, self._request(association, instances, transaction_uid))

    async def _request(self, association: Any, instances: Iterable[Any], uid: str) -> Transaction:
        from pydicom.uid import generate_uid

        wanted = tuple(dict.fromkeys(map(_as_instance, instances)))
        if not wanted:
            raise ValueError("there are no instances to commit to")
        transaction = Transaction(uid or generate_uid(prefix=None), wanted, association)
        self._transactions[transaction.uid] = transaction  # its result may overtake the response
        try:
            response = await answered(
                association.n_action(StorageCommitmentPushModel, _INSTANCE, _REQUEST, _request(transaction))
            )
            response.raise_for_status()
        except BaseException:
            self._transactions.pop(transaction.uid, None)
            raise
        return transaction

    def forget(self, transaction: Transaction) -> None:
        """Its result is waited for no longer."""
        self._transactions.pop(transaction.uid, None)

    def confirm(
        self,
        connect: Callable[[], Any],
        instances: Iterable[Any],
        *,
        seconds: float = 60.0,
        attempts: int = 3,
        pause: float = 10.0,
    ) -> Any:
        """The Result for these instances, asked for until it is there (on the asyncio face awaitable).

        ``connect`` makes the association (``lambda: dicomnet.associate(…, ae=ae)``). A result that is not there after
        ``seconds``, an association that fails, and instances that failed for a reason that may pass are tried again,
        ``attempts`` times in all, after a ``pause`` in seconds that doubles. Raises what ``request`` raises, the error
        of the last attempt, or DeadlineExceeded if no result came.
        """
        made: Any
        try:
            made = connect()
        except (DicomNetworkError, OSError) as error:  # on the blocking face; it counts as an attempt
            made = error
        asynchronous = inspect.isawaitable(made) or is_async(made)

        async def again(attempt: int) -> Any:
            await _sleep(pause * 2 ** (attempt - 1), asynchronous)
            return connect()

        steps = self._confirm(made, again, tuple(map(_as_instance, instances)), seconds, attempts)
        return steps if asynchronous else finish(steps)

    async def _confirm(
        self,
        made: Any,
        again: Callable[[int], Awaitable[Any]],
        instances: tuple[Instance, ...],
        seconds: float,
        attempts: int,
    ) -> Result:
        error: Exception | None = None
        so_far, left = Result(), instances
        for attempt in range(attempts):
            try:
                result = await self._ask_once(await again(attempt) if attempt else made, left, seconds)
            except StatusError:
                raise
            except (DicomNetworkError, OSError) as failure:
                error = failure
                continue
            so_far, error = Result(so_far.committed | result.committed, result.failed, result.retrieve_ae), None
            left = tuple(instance for instance, reason in result.failed.items() if reason in _MAY_WORK_LATER)
            if not left:
                break
        if error is not None and so_far == Result():
            raise error
        return so_far

    async def _ask_once(self, made: Any, instances: tuple[Instance, ...], seconds: float) -> Result:
        if isinstance(made, Exception):
            raise made
        association = await answered(made)
        asynchronous = is_async(association)
        if asynchronous:
            await association.__aenter__()
        try:
            transaction = await self._request(association, instances, "")
            try:
                result = await transaction._wait(seconds)
            finally:
                self.forget(transaction)
        except BaseException:
            await answered(association.abort())
            raise
        await answered((association.__aexit__ if asynchronous else association.__exit__)(None, None, None))
        if result is None:
            raise DeadlineExceeded("storage commitment", seconds)
        return result

    def _take(self, request: Indication) -> Response:
        """PS3.4 J.3.3.1.3."""
        if request.event_type not in (_SUCCESS, _FAILURES):
            return Response(Status.NO_SUCH_EVENT_TYPE)
        report = decoded(request, Status.INVALID_ARGUMENT_VALUE)
        uid = report.get("TransactionUID", "")
        result = Result(
            frozenset(_references(report, "ReferencedSOPSequence")),
            _references(report, "FailedSOPSequence"),
            report.get("RetrieveAETitle") or None,
        )
        transaction = self._transactions.pop(uid, None)
        if transaction is None and self._on_result is None:
            return Response(Status.INVALID_ARGUMENT_VALUE, error_comment="unknown Transaction UID")
        if self._on_result is not None:
            self._on_result(uid, result)
        if transaction is not None:  # who waits for it may release the association at once
            request.then = lambda: transaction._result.set_result(result)
        return Response(Status.SUCCESS)


async def _sleep(seconds: float, asynchronous: bool) -> None:
    if asynchronous:
        import asyncio

        await asyncio.sleep(seconds)
    else:
        time.sleep(seconds)


def _as_instance(instance: Any) -> Instance:
    if isinstance(instance, tuple):
        sop_class_uid, sop_instance_uid = instance
    elif hasattr(instance, "sop_class_uid"):
        sop_class_uid, sop_instance_uid = instance.sop_class_uid, instance.sop_instance_uid
    else:
        sop_class_uid, sop_instance_uid = instance.SOPClassUID, instance.SOPInstanceUID
    return Instance(str(sop_class_uid), str(sop_instance_uid))


def _request(transaction: Transaction) -> Dataset:
    from pydicom import Dataset

    request = Dataset()
    request.TransactionUID = transaction.uid
    request.ReferencedSOPSequence = [_reference(instance) for instance in transaction.instances]
    return request


def _reference(instance: Instance, reason: int | None = None) -> Dataset:
    from pydicom import Dataset

    reference = Dataset()
    reference.ReferencedSOPClassUID = instance.sop_class_uid
    reference.ReferencedSOPInstanceUID = instance.sop_instance_uid
    if reason is not None:
        reference.FailureReason = reason
    return reference


def _references(dataset: Dataset, keyword: str) -> dict[Instance, int]:
    """The instances in a sequence, with the failure reason if there is one. Raises StatusError 0115H."""
    items = dataset.get(keyword) or []
    if len(items) > MOST_INSTANCES:
        raise StatusError(Status.RESOURCE_LIMITATION, f"more than {MOST_INSTANCES} instances")
    try:
        return {
            Instance(str(item.ReferencedSOPClassUID), str(item.ReferencedSOPInstanceUID)): int(
                item.get("FailureReason") or 0
            )
            for item in items
        }
    except (AttributeError, TypeError, ValueError) as error:
        raise StatusError(Status.INVALID_ARGUMENT_VALUE, f"{keyword} is not a list of references") from error


# --- the provider ---------------------------------------------------------------------------------------------------

Verify = Callable[[tuple[Instance, ...]], "Mapping[str, int] | Iterable[str]"]


def provide(
    ae: AE,
    verify: Verify,
    *,
    peers: Peers | None = None,
    same_association: bool = True,
    retrieve_ae: str = "",
    courier: Courier | None = None,
    **options: Any,
) -> Courier:
    """Promise storage: ``ae`` answers N-ACTION of the Storage Commitment Push Model, and reports (PS3.4 J.3).

    ``verify(instances)`` tells, in a thread of its own, which instances are stored safely: their SOP instance UIDs; the
    others fail with reason 0112H. Or a mapping from these UIDs to a ``FailureReason``, 0 for those that are safe. If it
    raises StatusError they all fail for that reason, after another exception with 0110H.

    The report goes out on the association of the request if that still lives and ``same_association`` is true, else on
    a new one to the requestor, whose address ``peers`` gives (AE title → Peer or ``"AET@host:port"``, or a function of
    that kind; asked for the calling AE title), with ``options`` of ``dicomnet.associate``. ``courier`` says how often
    that is tried; it is returned: ``settled(seconds)`` waits for what is still to be reported, ``close()`` drops it.

    A request that is repeated while it is being worked on is answered, and reported once. One with other instances and
    the same Transaction UID fails with reason 0131H.
    """
    courier = courier or Courier("storage commitment")
    provider = _Provider(ae, verify, peers, same_association, retrieve_ae, courier, options)
    offer(ae, [StorageCommitmentPushModel])
    route(ae, "n_action", [StorageCommitmentPushModel], provider.act)
    return courier


class _Provider:
    def __init__(
        self,
        ae: AE,
        verify: Verify,
        peers: Peers | None,
        same_association: bool,
        retrieve_ae: str,
        courier: Courier,
        options: Mapping[str, Any],
    ) -> None:
        self._ae = ae
        self._verify = verify
        self._peers = peers
        self._same_association = same_association
        self._retrieve_ae = retrieve_ae
        self._courier = courier
        self._options = options
        self._lock = threading.Lock()
        self._active: dict[tuple[str, str], tuple[Instance, ...]] = {}  # by calling AE title and Transaction UID

    def act(self, request: Indication) -> Response:
        """PS3.4 J.3.2.1.3."""
        if request.sop_instance_uid != _INSTANCE:
            return Response(Status.NO_SUCH_SOP_INSTANCE)
        if request.action_type != _REQUEST:
            return Response(Status.NO_SUCH_ACTION_TYPE)
        asked = decoded(request, Status.INVALID_ARGUMENT_VALUE)
        uid, instances = str(asked.get("TransactionUID") or ""), tuple(_references(asked, "ReferencedSOPSequence"))
        if not uid or not instances:
            raise StatusError(Status.INVALID_ARGUMENT_VALUE, "no Transaction UID or no instances")
        if self._courier.full:
            return Response(Status.RESOURCE_LIMITATION, error_comment="too many reports wait")
        key = request.association.calling_ae, uid
        with self._lock:
            before = self._active.setdefault(key, instances)
        if before is instances:
            task = _Task(self, key, instances)
        elif before == instances:
            return Response(Status.SUCCESS)
        else:
            task = _Task(self, key, instances, dict.fromkeys(instances, int(FailureReason.DUPLICATE_TRANSACTION)))
        request.then = lambda: task.begin(request.association.scu)
        return Response(Status.SUCCESS)

    def over(self, key: tuple[str, str]) -> None:
        with self._lock:
            self._active.pop(key, None)

    def outcome(self, instances: tuple[Instance, ...]) -> dict[Instance, int]:
        """Failure reason of each, 0 for those that are safe."""
        missing = int(FailureReason.NO_SUCH_INSTANCE)
        try:
            found = self._verify(instances)
            if not isinstance(found, Mapping):
                found = dict.fromkeys(map(str, found), 0)
            return {instance: int(found.get(instance.sop_instance_uid, missing)) for instance in instances}
        except StatusError as error:
            return dict.fromkeys(instances, int(error.status))
        except Exception as error:  # the user's code: anything
            log.warning("storage commitment: the function that verifies failed", exc_info=error)
            return dict.fromkeys(instances, int(FailureReason.PROCESSING_FAILURE))

    def post(self, task: _Task) -> None:
        if not self._courier.post(task.calling_ae, task.report, task.over):
            log.warning("storage commitment: too many reports wait; the one for %s was dropped", task.uid)
            task.over()

    def send(self, task: _Task, event_type: int, report: Dataset) -> None:
        def notify(scu: Any) -> Any:
            return scu.n_event_report(StorageCommitmentPushModel, _INSTANCE, event_type, report)

        peer = address(self._peers, task.calling_ae)
        if task.line is not None and self._same_association:
            line, task.line = task.line, None
            try:
                line.call(notify, seconds=60.0).raise_for_status()
                return
            except (DicomNetworkError, OSError) as error:  # it was released meanwhile, or takes no reports
                if peer is None:
                    raise
                log.info("storage commitment: no report on the association of the request: %s", error)
        if peer is None:
            raise LookupError(f"no address is known for {task.calling_ae!r}")
        from dicomnet.blocking import associate

        roles = {StorageCommitmentPushModel: (False, True)}
        settings = {"calling_ae": self._ae.title, **self._options}
        with associate(peer, contexts=[StorageCommitmentPushModel], roles=roles, **settings) as association:
            notify(association).raise_for_status()

    def report(self, uid: str, outcome: Mapping[Instance, int]) -> tuple[int, Dataset]:
        """Event type and information (PS3.4 Table J.3-2)."""
        from pydicom import Dataset

        report = Dataset()
        report.TransactionUID = uid
        committed = [_reference(instance) for instance, reason in outcome.items() if not reason]
        failed = [_reference(instance, reason) for instance, reason in outcome.items() if reason]
        if committed:
            report.ReferencedSOPSequence = committed
            if self._retrieve_ae:
                report.RetrieveAETitle = self._retrieve_ae
        if failed:
            report.FailedSOPSequence = failed
        return (_FAILURES if failed else _SUCCESS), report


class _Task:
    """A request on its way to its report. ``line``: its association, until that was tried.

    ``key``: calling AE title and Transaction UID. ``outcome``: if it is known already, as for a duplicate.
    """

    def __init__(
        self,
        provider: _Provider,
        key: tuple[str, str],
        instances: tuple[Instance, ...],
        outcome: dict[Instance, int] | None = None,
    ) -> None:
        self.calling_ae, self.uid = key
        self.line: Line | None = None
        self._provider = provider
        self._instances = instances
        self._outcome = outcome
        self._duplicate = outcome is not None

    def begin(self, scu: Any) -> None:
        """The response to the request is on its way, so that the report does not overtake it."""
        self.line = Line(scu)
        self.line.open()
        self._provider.post(self)

    def report(self) -> None:
        if self._outcome is None:  # once, however often the report is tried
            self._outcome = self._provider.outcome(self._instances)
        self._provider.send(self, *self._provider.report(self.uid, self._outcome))

    def over(self) -> None:
        if not self._duplicate:
            self._provider.over((self.calling_ae, self.uid))
