"""A report as the objects that ``dicomnet probe --json`` prints: a name and members that JSON can hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from dicomnet.probe.report import Attempt, Report

Finding = tuple[str, dict[str, Any]]


def findings(report: Report, verdict: str) -> Iterator[Finding]:
    """The findings, the verdict first; ``verdict``: its sentence."""
    failure = report.failure
    yield (
        "verdict",
        {
            "ok": failure is None,
            "kind": None if failure is None else str(failure.kind),
            "text": verdict,
            "causes": [] if failure is None else list(failure.causes),
            "steps": [] if failure is None else [asdict(step) for step in failure.steps],
            "notes": list(report.notes),
            "peer": str(report.peer),
            "calling": report.calling_ae,
            "started": report.started,
            "seconds": round(report.seconds, 3),
        },
    )
    yield from _addresses(report)
    if report.attempt is not None:
        yield "attempt", _attempt(report.attempt)
    yield from _about(report)
    if report.classes is not None:
        for one in report.classes.classes:
            yield (
                "class",
                {
                    "uid": one.uid,
                    "name": one.name,
                    "storage": one.is_storage,
                    "retired": one.retired,
                    "result": None if one.result is None else int(one.result),
                    "transfer_syntaxes": list(one.transfer_syntaxes),
                    "requestor_is_scp": one.requestor_is_scp,
                },
            )
    yield from _speed(report)


def _addresses(report: Report) -> Iterator[Finding]:
    host = report.peer.host
    if not report.reach.addresses:
        yield "address", {"host": host, "address": None, "connect_ms": None, "problem": report.reach.problem}
    for one in report.reach.addresses:
        yield (
            "address",
            {"host": host, "address": one.address, "connect_ms": _ms(one.seconds), "problem": one.problem},
        )


def _attempt(attempt: Attempt) -> dict[str, Any]:
    sent = b"".join(piece.data for piece in attempt.exchanged if piece.sent)
    return {
        "called": attempt.request.called_ae,
        "calling": attempt.request.calling_ae,
        "local": attempt.local,
        "remote": attempt.remote,
        "tls": attempt.tls,
        "accepted": attempt.error is None,
        "error": None if attempt.error is None else str(attempt.error),
        "sent": "" if attempt.request.user.identity is not None else sent.hex(),
        "received": attempt.received.hex(),
    }


def _about(report: Report) -> Iterator[Finding]:
    if (speaks := report.speaks) is not None:
        yield (
            "speaks",
            {
                "protocol": speaks.protocol,
                "detail": speaks.detail,
                "inside": speaks.inside,
                "tried": list(speaks.tried),
            },
        )
    if (security := report.security) is not None:
        members = asdict(security)
        yield "tls", members | {"versions": dict(security.versions)}
    if (titles := report.titles) is not None:
        yield "titles", {"checks_called": titles.checks_called, "checks_calling": titles.checks_calling}
    if (negotiated := report.negotiated) is not None:
        yield (
            "peer",
            {
                "product": negotiated.product,
                "implementation_version_name": negotiated.implementation_version_name,
                "implementation_class_uid": negotiated.implementation_class_uid,
                "max_pdu_length": negotiated.max_pdu_length,
                "window": None if negotiated.window is None else list(negotiated.window),
                "extended": [{"sop_class": uid, "text": text} for uid, _, text in negotiated.extended],
                "identity_answered": negotiated.identity_answer,
                "identity_demanded": negotiated.identity_demanded,
            },
        )


def _speed(report: Report) -> Iterator[Finding]:
    if (timing := report.timing) is not None:
        yield (
            "pace",
            {
                "echoes": timing.echoes,
                "failed": timing.failed,
                "median_ms": _ms(timing.median),
                "percentile_99_ms": _ms(timing.percentile_99),
                "longest_ms": _ms(timing.longest),
                "associations_per_second": None if timing.rate is None else round(timing.rate, 1),
            },
        )
    if (stored := report.stored) is not None:
        yield "stored", asdict(stored)


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)
