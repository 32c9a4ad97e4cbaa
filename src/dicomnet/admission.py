"""Whom a server lets in, and what it says of them: the acceptor's side of every face, without its input and output.

One idea: a ``Guest`` is one connection, from accept to close. It is what the conversation sees as the application
entity (``Provider``), it holds the place that the connection takes within the limits, and it gives that back once.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Any, Final

from dicomnet.ae import AE
from dicomnet.config import Limits, Timeouts
from dicomnet.dimse.provider import AssociationInfo
from dicomnet.errors import AssociationRejected, DicomNetworkError, Reject, RejectResult, RejectSource
from dicomnet.ul.pdu import AssociateAc, AssociateRq

log = logging.getLogger("dicomnet")

DEFER: Final = 0.001  # seconds: another worker has been woken, too, and accepts within less

_CROWDED_ARTIM: Final = 1.0  # seconds that a connection gets which will be refused anyway
_HOPELESS: Final = 2  # times Limits.pending: from there on a connection is not even refused, only closed


_FULL: Final = Reject(RejectResult.TRANSIENT, RejectSource.PROVIDER_PRESENTATION, 2)  # PS3.8 Table 9-21


class Tally:
    """How many connections and associations there are. Not locked: its user does that."""

    def __init__(self) -> None:
        self._connections = 0
        self._by_ae_title: Counter[str] = Counter()
        self._by_address: Counter[str] = Counter()

    @property
    def pending(self) -> int:
        """Connections that are not yet associations."""
        return self._connections - self._by_ae_title.total()

    @property
    def associations(self) -> int:
        return self._by_ae_title.total()

    def connect(self) -> None:
        """There is one more connection."""
        self._connections += 1

    def disconnect(self) -> None:
        """There is one less."""
        self._connections -= 1

    def defer(self) -> bool:
        """Whether to leave a connection that waits to somebody else for a moment (DEFER): there is nobody else."""
        return False

    def admit(self, ae_title: str, address: str, limits: Limits) -> bool:
        """One of the connections becomes an association if the limits leave room for it."""
        if (
            self._by_ae_title.total() >= limits.associations
            or self._by_ae_title[ae_title] >= limits.associations_per_ae_title
            or self._by_address[address] >= limits.associations_per_address
        ):
            return False
        self._by_ae_title[ae_title] += 1
        self._by_address[address] += 1
        return True

    def dismiss(self, ae_title: str, address: str) -> None:
        """An association that was admitted is one no more."""
        for counter, key in ((self._by_ae_title, ae_title), (self._by_address, address)):
            counter[key] -= 1
            if not counter[key]:
                del counter[key]


class Admission:
    """The door of one server. Its methods may be called from any thread.

    ``tally``: where to count; None: for this server alone.
    """

    def __init__(self, ae: AE, tally: Tally | None = None) -> None:
        self.ae = ae
        self.closing = False  # nobody is admitted any more; set by the server
        self._tally = tally or Tally()
        self._lock = threading.Lock()

    @property
    def associations(self) -> int:
        """How many there are now."""
        return self._tally.associations

    def enter(self, address: tuple[str, int]) -> Guest | None:
        """A new connection from ``address`` (host, port); None if it has to be closed: it comes from a network that is
        not accepted, or there are too many.

        Leaving the guest's ``with`` block, or ``leave``, gives its place back.
        """
        if not self.ae.accepts_from(address[0]):
            # Unread: who is not to connect at all gets no answer to study, and no TLS handshake (PS3.8 9.1.4).
            log.warning("%s:%s: closed: no connections are accepted from there", *address)
            self.tell_refusal(address, None)
            return None
        most = self.ae.limits.pending
        with self._lock:
            pending = self._tally.pending
            hopeless = pending >= _HOPELESS * most
            if not hopeless:
                self._tally.connect()
        guest = Guest(self, address, crowded=pending >= most)
        if hopeless:
            log.warning("%s: closed: too many connections wait for an association", guest.name)
            self.tell_refusal(address, _FULL)
            return None
        return guest

    def defer(self) -> bool:
        """Whether another worker has less to do: then leave it the connection that waits, and look again after DEFER.

        For the one thread or task that accepts connections, each time before it does.
        """
        return self._tally.defer()

    def tell_refusal(self, address: tuple[str, int], refusal: Reject | None) -> None:
        """To the handler ``on_refusal``, if there is one."""
        if (handler := self.ae.handler("refusal")) is not None:
            try:
                handler(address, refusal)
            except Exception as error:  # the user's code: anything
                log.error("%s:%s: on_refusal failed", *address, exc_info=error)

    def _admit(self, ae_title: str, address: str) -> bool:
        with self._lock:
            return not self.closing and self._tally.admit(ae_title, address, self.ae.limits)

    def _leave(self, ae_title: str | None, address: str) -> None:
        with self._lock:
            if ae_title is not None:
                self._tally.dismiss(ae_title, address)
            self._tally.disconnect()


class Guest:
    """One connection to the server, and the AE as its conversation sees it.

    As a ``with`` block around all that is done with the connection: an error out of it goes to the log, and no further.

    ``name``: for log lines; it tells the AE titles, too, once they are known. ``crowded``: too many connections are not
    yet associations, so that this one will be refused. ``timeouts``: those of its association.
    """

    def __init__(self, admission: Admission, address: tuple[str, int], *, crowded: bool) -> None:
        ae = admission.ae
        self.name = f"{address[0]}:{address[1]}"
        self.crowded = crowded
        self.timeouts: Timeouts = replace(ae.timeouts, artim=_CROWDED_ARTIM) if crowded else ae.timeouts
        self._admission = admission
        self._address = address
        self._ae_title: str | None = None  # the peer's, once it is admitted
        self._inside = True
        # The application entity's own; bound here, since they are asked for with each message.
        self.answer: Callable[..., AssociateAc] = ae.answer
        self.handler: Callable[[str], Callable[..., Any] | None] = ae.handler
        self.quick = ae.quick

    def __enter__(self) -> Guest:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        self.leave()
        if isinstance(error, DicomNetworkError):
            log.warning("%s: %s", self.name, error)
        elif isinstance(error, Exception):
            log.error("%s: the association ended by an error of the server", self.name, exc_info=error)
        return isinstance(error, Exception)

    def describe(
        self, request: AssociateRq, certificate: dict[str, Any] | None = None, tls: Any = None
    ) -> AssociationInfo:
        """What the handlers see of the association that is requested. From now on ``name`` tells the AE titles.

        ``certificate``, ``tls``: the peer's, and what TLS negotiated, as in ``AssociationInfo``.
        """
        self.name = f"{self.name} {request.calling_ae!r} to {request.called_ae!r}"
        return AssociationInfo(request.calling_ae, request.called_ae, self._address, request, certificate, tls=tls)

    def admit(self, association: AssociationInfo) -> Reject | None:
        """Who may not come in gets the AE's reason; who comes when it is full gets 2/3/2 (PS3.8 Table 9-21)."""
        refusal = self._admission.ae.admit(association)
        if refusal is not None:
            return refusal
        if self.crowded or not self._admission._admit(association.calling_ae, self._address[0]):
            return _FULL
        self._ae_title = association.calling_ae
        return None

    def tell_end(self, error: BaseException | None, *, requested: bool) -> None:
        """One line in the log about how it ended. ``requested``: an association was."""
        if isinstance(error, AssociationRejected):
            self._admission.tell_refusal(self._address, Reject(error.result, error.source, error.reason))
            return  # reported when it was refused
        if error is not None:
            log.warning("%s: %s", self.name, error)
        elif not requested:
            log.info("%s: closed before it requested an association", self.name)
        else:
            log.info("%s: released", self.name)

    def leave(self) -> None:
        """The connection is closed: give back what it took. Safe to call twice."""
        inside, self._inside = self._inside, False
        if inside:
            self._admission._leave(self._ae_title, self._address[0])
