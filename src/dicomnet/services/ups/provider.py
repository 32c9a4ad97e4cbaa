"""A provider of unified procedure steps: the machine and the subscriptions behind an AE."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, Final

from dicomnet.dimse.messages import Response
from dicomnet.dimse.status import Status
from dicomnet.errors import DicomNetworkError, StatusError
from dicomnet.services.courier import Courier, Line, Peers, address
from dicomnet.services.providing import answers, attributes, decoded, offer, route, selected
from dicomnet.services.ups.classes import (
    ALL,
    CANCELED,
    COMPLETED,
    Action,
    EventType,
    UnifiedProcedureStepEvent,
    UnifiedProcedureStepPull,
    UnifiedProcedureStepPush,
    UnifiedProcedureStepQuery,
    UnifiedProcedureStepWatch,
    UpsStatus,
)
from dicomnet.services.ups.machine import Machine, News, state_information
from dicomnet.services.ups.subscriptions import MOST_SUBSCRIBERS, Subscriptions

if TYPE_CHECKING:
    from pydicom import Dataset

    from dicomnet.ae import AE
    from dicomnet.dimse.provider import Indication

log = logging.getLogger("dicomnet")

_FIND: Final = (UnifiedProcedureStepPull, UnifiedProcedureStepWatch, UnifiedProcedureStepQuery)
_TRANSACTION: Final = 0x00081195


def provide(
    ae: AE,
    steps: MutableMapping[str, Dataset] | None = None,
    *,
    peers: Peers | None = None,
    strict: bool = True,
    worklist_label: str = "DEFAULT",
    retain: float | None = None,
    changed: Callable[[Dataset], None] | None = None,
    courier: Courier | None = None,
    **options: Any,
) -> Provider:
    """Provide unified procedure steps: ``ae`` answers for the SOP classes UPS Push, Pull, Watch, Query (PS3.4 CC).

    ``steps``: SOP instance UID → the step's data set, with the Transaction UID that locks it, which is told to nobody
    (None: a dict). ``changed`` is called with each new state of a step, once it is kept. ``strict``: a step needs what
    the standard wants of it at creation and to be COMPLETED or CANCELED. ``worklist_label``: of steps that have none.
    ``retain``: seconds after which a step that has ended is deleted, unless a subscriber has locked it (None: never).

    Subscribers hear of events on the association on which they subscribed, if it lives and has a context for UPS Event,
    else on a new one to the address that ``peers`` gives for their AE title (AE title → Peer or ``"AET@host:port"``, or
    a function of that kind), with ``options`` of ``dicomnet.associate``. ``courier`` says how often that is tried.
    Subscriptions are not kept beyond the life of the Provider.
    """
    provider = Provider(
        ae,
        Machine({} if steps is None else steps, strict=strict, worklist_label=worklist_label),
        peers,
        retain,
        changed,
        courier or Courier("UPS events"),
        options,
    )
    offer(ae, [UnifiedProcedureStepPush, *_FIND, UnifiedProcedureStepEvent])
    route(ae, "c_find", _FIND, provider._find)
    for name in ("n_create", "n_set", "n_get", "n_action"):
        route(ae, name, [UnifiedProcedureStepPush], getattr(provider, f"_{name}"))
    return provider


class Provider:
    """What ``provide`` returns. ``steps``: all of them, as they are now; ``courier``: delivers the events.

    Safe to use from several threads.
    """

    def __init__(
        self,
        ae: AE,
        machine: Machine,
        peers: Peers | None,
        retain: float | None,
        changed: Callable[[Dataset], None] | None,
        courier: Courier,
        options: Mapping[str, Any],
    ) -> None:
        self.courier = courier
        self._ae = ae
        self._machine = machine
        self._peers = peers
        self._retain = retain
        self._changed = changed
        self._options = options
        self._lock = threading.RLock()
        self._subscriptions = Subscriptions()
        self._lines: dict[str, Line] = {}  # by AE title of a subscriber
        self._outgoing: dict[str, Any] = {}  # open associations, likewise
        self._ended: deque[tuple[float, str]] = deque()  # when, and which step
        self._letters: deque[tuple[str, News]] = deque()  # to whom, in the order of what happened

    @property
    def steps(self) -> Mapping[str, Dataset]:
        """SOP instance UID → the step as it is now."""
        return self._machine.steps

    def create(self, step: Dataset, sop_instance_uid: str = "") -> str:
        """Schedule a step from within this program; subscribers hear of it. The UID of the step.

        Raises StatusError as an N-CREATE would answer.
        """
        from pydicom.uid import generate_uid

        uid = sop_instance_uid or generate_uid(prefix=None)
        self._create(uid, step)
        self._post()
        return uid

    def announce(self, scp: str = "RESTARTED", *, subscriptions: str = "COLD START", steps: str = "WARM START") -> None:
        """Tell all global subscribers of this provider itself (SCP Status Change, PS3.4 CC.2.4.3).

        ``scp``: RESTARTED or GOING DOWN; ``subscriptions`` and ``steps``: WARM START if they are as before, COLD START
        if they are not.
        """
        from pydicom import Dataset

        information = Dataset()
        information.SCPStatus = scp
        information.SubscriptionListStatus, information.UnifiedProcedureStepListStatus = subscriptions, steps
        with self._lock:
            for ae_title in self._subscriptions.globally():
                self._letters.append((ae_title, News(ALL, EventType.SCP_STATUS_CHANGE, information)))
        self._post()

    def purge(self) -> None:
        """Delete the steps that ended longer than ``retain`` seconds ago and are not locked. Creation does it, too."""
        with self._lock:
            if self._retain is None:
                return
            latest, locked = time.monotonic() - self._retain, []
            while self._ended and self._ended[0][0] <= latest:
                ended = self._ended.popleft()
                if self._subscriptions.locked(ended[1]):
                    locked.append(ended)
                else:
                    self._machine.steps.pop(ended[1], None)
                    self._subscriptions.deleted(ended[1])
            self._ended.extendleft(reversed(locked))

    # --- requests ---------------------------------------------------------------------------------------------------

    def _find(self, request: Indication) -> Iterator[Any]:
        with self._lock:
            steps = list(self._machine.steps.values())
        return answers(request, steps, hidden=(_TRANSACTION,))

    def _n_create(self, request: Indication) -> Response:
        from pydicom.uid import generate_uid

        step, uid = attributes(request), request.sop_instance_uid or generate_uid(prefix=None)
        self._create(uid, step)
        request.then = self._post
        return Response(Status.SUCCESS, sop_instance_uid=uid)

    def _create(self, uid: str, step: Dataset) -> None:
        with self._lock:
            self.purge()
            news = self._machine.create(uid, step)
            self._subscriptions.created(uid, step)
            self._tell(uid, news)

    def _n_set(self, request: Indication) -> Response:
        changes = attributes(request)
        with self._lock:
            self._tell(request.sop_instance_uid, self._machine.set(request.sop_instance_uid, changes))
        request.then = self._post
        return Response(Status.SUCCESS)

    def _n_get(self, request: Indication) -> Response:
        with self._lock:
            step = self._machine.steps.get(request.sop_instance_uid)
        if step is None:
            raise StatusError(UpsStatus.NO_SUCH_UPS, "no such UPS")
        found = selected(step, request.attributes)
        if _TRANSACTION in found:
            del found[_TRANSACTION]
        missing = any(tag not in found for tag in request.attributes)
        return Response(Status.REQUESTED_OPTIONAL_ATTRIBUTES_NOT_SUPPORTED if missing else Status.SUCCESS, found)

    def _n_action(self, request: Indication) -> Response:
        from pydicom import Dataset

        try:
            action = Action(request.action_type or 0)
        except ValueError:
            return Response(Status.NO_SUCH_ACTION_TYPE)
        uid, information = request.sop_instance_uid, Dataset()
        if request.dataset is not None:
            information = decoded(request, Status.INVALID_ARGUMENT_VALUE)
        elif action is not Action.REQUEST_CANCEL:
            raise StatusError(Status.INVALID_ARGUMENT_VALUE, "the request has no action information")
        request.then = self._post
        with self._lock:
            if action is Action.CHANGE_STATE:
                self._tell(uid, self._machine.change_state(uid, information))
            elif action is Action.REQUEST_CANCEL:
                requesting, heard = request.association.calling_ae, bool(self._subscriptions.of(uid))
                self._tell(uid, self._machine.request_cancel(uid, information, requesting, reachable=heard))
            else:
                self._subscribe(request, action, information)
        return Response(Status.SUCCESS)

    def _subscribe(self, request: Indication, action: Action, information: Dataset) -> None:
        ae_title = str(information.get("ReceivingAE") or "").strip()
        if not ae_title:
            raise StatusError(Status.INVALID_ARGUMENT_VALUE, "ReceivingAE is missing")
        association = request.association
        same = ae_title == association.calling_ae and any(
            context.abstract_syntax == UnifiedProcedureStepEvent for context in association.accepted
        )
        if action is Action.SUBSCRIBE and not same and address(self._peers, ae_title) is None:
            raise StatusError(UpsStatus.RECEIVING_AE_UNKNOWN, f"no address is known for {ae_title}")
        steps = self._machine.steps
        for uid in self._subscriptions.change(action, request.sop_instance_uid, ae_title, information, steps):
            news = News(uid, EventType.STATE_REPORT, state_information(steps[uid]))
            self._letters.append((ae_title, news))
        if same and action is Action.SUBSCRIBE:
            line = self._lines[ae_title] = Line(association.scu)
            request.then = lambda: self._subscribed_here(line)
            if len(self._lines) > MOST_SUBSCRIBERS:
                del self._lines[next(iter(self._lines))]  # of an association that is long over, most likely

    def _subscribed_here(self, line: Line) -> None:
        line.open()
        self._post()

    # --- events -----------------------------------------------------------------------------------------------------

    def _tell(self, uid: str, news: list[News]) -> None:
        """With the lock: all who have subscribed are to hear of what became of this step, and the program itself."""
        subscribers, step = self._subscriptions.of(uid), self._machine.steps[uid]
        self._letters.extend((ae_title, one) for one in news for ae_title in subscribers)
        if step.ProcedureStepState in (
            COMPLETED,
            CANCELED,
        ):  # it changes no more, so that this is where it came to that
            self._ended.append((time.monotonic(), uid))
        if self._changed is not None:
            self._changed(step)

    def _post(self) -> None:
        """What there is to tell, once the request that it comes from is answered."""
        with self._lock:
            while self._letters:
                self._post_one(*self._letters.popleft())

    def _post_one(self, ae_title: str, news: News) -> None:
        if not self.courier.post(ae_title, lambda: self._send(ae_title, news)):
            log.warning("UPS events: too many wait; one for %s was dropped", ae_title)

    def _send(self, ae_title: str, news: News) -> None:
        """The courier brings one after the other to an AE; meanwhile the association stays open."""

        def notify(scu: Any) -> Any:
            return scu.n_event_report(
                UnifiedProcedureStepPush, news.step, news.type, news.information, context=UnifiedProcedureStepEvent
            )

        if (line := self._lines.get(ae_title)) is not None:
            try:
                line.call(notify, seconds=60.0).raise_for_status()
                return
            except StatusError:
                raise
            except (DicomNetworkError, OSError):  # that association is over
                self._lines.pop(ae_title, None)
        association = self._outgoing.pop(ae_title, None) or self._open(ae_title)
        try:
            response = notify(association)
        except BaseException:
            association.abort()
            raise
        if self.courier.waiting(ae_title) > 1:
            self._outgoing[ae_title] = association
        else:
            _release(association)
        response.raise_for_status()

    def _open(self, ae_title: str) -> Any:
        from dicomnet.blocking import associate

        peer = address(self._peers, ae_title)
        if peer is None:
            raise LookupError(f"no address is known for {ae_title!r}")
        roles = {UnifiedProcedureStepEvent: (False, True)}
        settings = {"calling_ae": self._ae.title, **self._options}
        return associate(peer, contexts=[UnifiedProcedureStepEvent], roles=roles, **settings)


def _release(association: Any) -> None:
    try:
        association.release()
    except DicomNetworkError as error:  # what was to be told has been told
        log.info("UPS events: an association did not end well: %s", error)
