"""The survey of a peer: what to find out in which order, and what to make of it if that fails.

One idea: everything is a step that ends in a value or in a note, whatever the peer does; the first step that fails
decides on the verdict, and the steps that could still tell more are done all the same.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

from dicomnet.config import DEFAULT_CALLING_AE, Identity, Peer, Timeouts
from dicomnet.dimse.conversation import VERIFICATION
from dicomnet.probe import agreed, contexts, pace, place, security
from dicomnet.probe.calls import Caller
from dicomnet.probe.causes import Kind, detail_of, kind_of
from dicomnet.probe.contexts import Plan
from dicomnet.probe.pace import Store
from dicomnet.probe.report import Attempt, Classes, Report, Speaks, Timing
from dicomnet.probe.verdict import Situation, failure_for
from dicomnet.ul import negotiation
from dicomnet.ul.pdu import AssociateRq

# Shorter than those of the commands that work: who asks what is wrong waits for it.
TIMEOUTS: Final = Timeouts(connect=5.0, tls=5.0, associate=10.0, response=10.0, release=3.0, closing=1.0, send=10.0)
_PATIENCE: Final = 1.0  # seconds before a peer that is busy is asked once more
_TLS_PLEASE: Final = (Kind.CLOSED, Kind.BROKEN, Kind.SILENT, Kind.NOT_DICOM)
_TLS_TROUBLE: Final = (Kind.TLS_FAILED, Kind.TLS_SILENT, Kind.CLOSED, Kind.BROKEN)
_BUSY: Final = (Kind.BUSY, Kind.FULL)

Advance = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a survey is to do; see ``survey``."""

    calling_ae: str
    tls: ssl.SSLContext | None
    authority: str
    identity: Identity | None
    timeouts: Timeouts
    plan: Plan
    echoes: int
    store: Store | None
    command_options: str


def survey(
    peer: Peer | str,
    *,
    calling_ae: str = DEFAULT_CALLING_AE,
    tls: ssl.SSLContext | None = None,
    authority: str = "",
    identity: Identity | None = None,
    timeouts: Timeouts | None = None,
    plan: Plan | None = None,
    echoes: int = 100,
    store: Store | None = None,
    command_options: str = "",
    advance: Advance = lambda step, done, of: None,
    stop: Callable[[], bool] = lambda: False,
) -> Report:
    """Find out what ``peer`` is, what it accepts, and why it fails. Every wait has a limit.

    ``peer``: ``"AET@host:port"`` or a Peer. ``tls``, ``identity``: as for ``associate``; ``authority``: who vouches for
    the peer's certificate, for the report. ``timeouts``: those of ``TIMEOUTS`` if None. ``plan``: how thoroughly SOP
    classes are asked about. ``echoes``: how many C-ECHOs are timed. ``store``: synthetic instances to be stored; None
    stores nothing. ``command_options``: of a command line, to be repeated in the advice. ``advance``: called with the
    step and how far it is. ``stop``: asked between two associations; True ends the survey with what is known.

    The network's errors are in the report. Raises ValueError for what cannot be requested.
    """
    peer = Peer.parse(peer) if isinstance(peer, str) else peer
    options = Options(
        calling_ae=calling_ae,
        tls=tls,
        authority=authority,
        identity=identity,
        timeouts=timeouts or TIMEOUTS,
        plan=plan or Plan(),
        echoes=echoes,
        store=store,
        command_options=command_options,
    )
    return _Survey(peer, options, advance, stop).run()


@dataclass(slots=True)
class _Survey:
    peer: Peer
    options: Options
    advance: Advance
    stop: Callable[[], bool]
    caller: Caller = field(init=False)
    inquiry: place.Inquiry | None = None
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.caller = Caller(self.peer, self.options.timeouts, self.options.tls)

    def run(self) -> Report:
        began = time.monotonic()
        request = self.request()  # the first, for its ValueError
        self.advance("looking for the host", 0, 1)
        started = datetime.now(UTC).isoformat(timespec="seconds")
        reach = place.find(self.peer, self.options.timeouts)
        report = Report(self.peer, self.options.calling_ae, started, 0.0, reach)
        self.advance("requesting an association", 0, 1)
        attempt = self._first(request)
        report = replace(report, attempt=attempt)
        report = self._accepted(report, attempt) if attempt.error is None else self._failed(report, attempt)
        if self.stop():
            self.notes.append("interrupted: what follows was not asked")
        return replace(report, seconds=time.monotonic() - began, notes=tuple(self.notes))

    def request(self, **changes: Any) -> AssociateRq:
        """A request, Verification unless ``changes`` say otherwise; with the user's identity."""
        options: dict[str, Any] = {"identity": self.options.identity, "roles": {}}
        called = changes.pop("called_ae", self.peer.ae_title)
        calling = changes.pop("calling_ae", self.options.calling_ae)
        wanted = changes.pop("contexts", [VERIFICATION])
        return negotiation.request(called, calling, wanted, **(options | changes))

    def _first(self, request: AssociateRq) -> Attempt:
        if self.options.tls is None:
            self.inquiry = place.Inquiry(self.peer, self.options.timeouts)
        attempt = self.caller.call(request, self.inquiry)
        if _kind(attempt) in _BUSY and not self.stop():
            time.sleep(_PATIENCE)
            self.notes.append(f"it was busy, and was asked again after {_PATIENCE:.0f} s")
            attempt = self.caller.call(request)
        return attempt

    # --- it failed --------------------------------------------------------------------------------------------------

    def _failed(self, report: Report, attempt: Attempt) -> Report:
        kind = _kind(attempt)
        speaks: Speaks | None = None
        if kind is Kind.REJECTED and self.options.identity is None and not self.stop():
            kind = Kind.WANTS_IDENTITY if agreed.wants_identity(self.caller, self.request) else kind
        if attempt.tls:
            kind = self._without_tls(kind)
            if attempt.secured is not None and kind in _TLS_PLEASE:
                speaks = place.within_tls(self.peer, self.options.timeouts)
                kind = kind if speaks is None or not speaks.inside else Kind.OTHER_PROTOCOL
        elif kind in _TLS_PLEASE:
            self.advance("finding out what answers there", 0, 1)
            speaks = self._identify(attempt)
            kind = _known(kind, speaks)
        elif attempt.received:
            speaks = Speaks("DICOM")
        if kind is Kind.WANTS_TLS or (attempt.tls and attempt.connected is not None and kind is not Kind.NO_TLS):
            report = self._secure(report)
            if kind is Kind.TLS_FAILED and report.security is not None and report.security.wants_certificate:
                kind = Kind.WANTS_CERTIFICATE
        situation = self._situation(attempt, speaks)
        return replace(report, speaks=speaks, failure=failure_for(kind, situation))

    def _identify(self, attempt: Attempt) -> Speaks:
        asked: list[str] = []
        if self.inquiry is not None:
            self.inquiry.end()
            if self.inquiry.found is not None and not attempt.received:
                return self.inquiry.found
            asked = self.inquiry.asked
        return place.identify(self.peer, self.options.timeouts, attempt.received, asked)

    def _situation(
        self, attempt: Attempt, speaks: Speaks | None = None, error: BaseException | None = None
    ) -> Situation:
        error = attempt.error if error is None else error
        detail = "" if error is None else detail_of(error)
        local = attempt.local.rpartition(":")[0].strip("[]")
        options = self.options
        return Situation(
            self.peer, options.calling_ae, local, options.command_options, detail, speaks, options.tls is not None
        )

    def _without_tls(self, kind: Kind) -> Kind:
        """Whether it would have answered without TLS."""
        if kind not in _TLS_TROUBLE:
            return kind
        plain = Caller(self.peer, self.options.timeouts).call(self.request(identity=None))
        spoke_dicom = plain.error is None or _kind(plain).endswith("rejected") or _kind(plain) in _BUSY
        return Kind.NO_TLS if spoke_dicom else kind

    def _secure(self, report: Report) -> Report:
        self.advance("looking at TLS", 0, 1)
        authority = self.options.authority or "this system's authorities"
        found = security.examine(
            self.peer, self.options.timeouts, self.options.tls, authority, self.request(identity=None)
        )
        return replace(report, security=found)

    # --- it did not -------------------------------------------------------------------------------------------------

    def _accepted(self, report: Report, attempt: Attempt) -> Report:
        report = replace(report, speaks=Speaks("DICOM"), negotiated=agreed.negotiated(attempt))
        steps: tuple[Callable[[Report, Attempt], Report], ...] = (
            *((lambda report, _attempt: self._secure(report),) if attempt.tls else ()),
            self._echo,
            self._titles,
            self._classes,
            self._agree,
            self._rate,
            self._store,
        )
        for step in steps:
            if self.stop():
                break
            report = step(report, attempt)
        return report

    def _echo(self, report: Report, attempt: Attempt) -> Report:
        assert attempt.answer is not None
        if not any(context.result == 0 for context in attempt.answer.contexts):
            self.notes.append("C-ECHO was not tried: the peer does not accept Verification")
            detail = "not even Verification (C-ECHO), which every DICOM system has to offer"
            return replace(
                report, failure=failure_for(Kind.NO_CONTEXT, replace(self._situation(attempt), detail=detail), True)
            )
        self.advance("timing C-ECHO", 0, 1)
        timing, error = pace.echoes(self.options.echoes, self.stop, **self._association())
        report = replace(report, timing=timing)
        if error is not None:
            situation = self._situation(attempt, error=error)
            return replace(report, failure=failure_for(kind_of(error, associated=True), situation, True))
        if timing.failed:
            situation = replace(self._situation(attempt), detail=f"status 0x{timing.status:04X}")
            return replace(report, failure=failure_for(Kind.ECHO_FAILED, situation, True))
        return report

    def _association(self) -> dict[str, Any]:
        options = self.options
        return {
            "peer": self.peer,
            "calling_ae": options.calling_ae,
            "tls": options.tls,
            "identity": options.identity,
            "timeouts": options.timeouts,
        }

    def _titles(self, report: Report, attempt: Attempt) -> Report:
        self.advance("trying AE titles", 0, 1)
        return replace(report, titles=agreed.titles(self.caller, self.request, attempt.request))

    def _classes(self, report: Report, attempt: Attempt) -> Report:
        classes = contexts.examine(
            self.caller,
            lambda wanted: self.request(contexts=wanted),
            self.options.plan,
            lambda done, of: self.advance("asking about SOP classes", done, of),
            self.stop,
        )
        if not classes.complete:
            self.notes.append(f"not all SOP classes and transfer syntaxes were asked about: {classes.problem}")
        return replace(report, classes=classes)

    def _agree(self, report: Report, attempt: Attempt) -> Report:
        self.advance("asking about roles, windows and identities", 0, 1)
        classes, first = report.classes, report.negotiated
        assert isinstance(classes, Classes)
        assert first is not None
        wanted = [VERIFICATION] if report.timing is not None else _some_class(classes)
        if not wanted:
            self.notes.append("roles, window and identity were not asked about: the peer accepts no SOP class")
            return report

        def request(**changes: Any) -> AssociateRq:
            return self.request(**({"contexts": wanted} | changes))

        classes = agreed.roles(self.caller, request, classes)
        return replace(
            report,
            classes=classes,
            negotiated=agreed.agree(self.caller, request, first, classes, self.options.identity),
        )

    def _rate(self, report: Report, attempt: Attempt) -> Report:
        self.advance("counting associations", 0, 1)
        count, rate = pace.associations(self.caller, attempt.request, self.stop)
        timing = report.timing or Timing()
        return replace(report, timing=replace(timing, associations=count, rate=rate))

    def _store(self, report: Report, attempt: Attempt) -> Report:
        if self.options.store is None:
            return report
        self.advance("storing synthetic instances", 0, 1)
        stored, error = pace.store(self.options.store, self.stop, **self._association())
        if error is not None:
            self.notes.append(f"not all synthetic instances could be stored: {error}")
        return replace(report, stored=stored) if stored.count or stored.status else report


def _kind(attempt: Attempt) -> Kind:
    return Kind.OTHER if attempt.error is None else kind_of(attempt.error, associated=False)


def _known(kind: Kind, speaks: Speaks) -> Kind:
    """What is wrong, now that it is known what speaks there."""
    if speaks.protocol == "TLS":
        return Kind.OTHER_PROTOCOL if speaks.inside else Kind.WANTS_TLS
    if speaks.protocol in ("nothing", "unknown"):
        return kind
    return Kind.OTHER_PROTOCOL


def _some_class(classes: Classes) -> list[tuple[str, tuple[str, ...]]]:
    return [(one.uid, one.transfer_syntaxes) for one in classes.classes if one.accepted][:1]
