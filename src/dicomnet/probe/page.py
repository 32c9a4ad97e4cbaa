"""A report arranged for people: sections of facts, lists, commands, tables and bytes, the most important first.

One idea: what is said, and in which order, is decided here once; a renderer only decides how it looks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from dicomnet.probe import annotate, services
from dicomnet.probe.blocks import (
    Block,
    Commands,
    Fact,
    Lines,
    Numbered,
    Page,
    Paragraph,
    Section,
    Table,
    Tone,
    clean,
    shown,
)
from dicomnet.probe.report import Attempt, Bytes, Certificate, Report, Security, SopClass, Timing

_MOST_LINES: Final = 160  # of annotated bytes in one direction


def page_of(report: Report, *, everything: bool = False) -> Page:
    """The page. ``everything``: with a row for each SOP class, and all bytes of the first association."""
    failure = report.failure
    sections: list[Section] = []
    if failure is not None:
        sections += _wrong(report)
    if report.attempt is not None and report.attempt.error is not None:
        sections += _asked(report.attempt)
    sections += [
        Section("Who it is", tuple(_identity(report))),
        Section("Address", tuple(_address(report))),
        Section("AE titles", tuple(_titles(report))),
        Section("TLS", tuple(_security(report.security) if report.security is not None else ())),
        Section("Services", tuple(services.facts(report.classes) if report.classes is not None else ())),
        Section("Association", tuple(_association(report))),
        Section("Speed", tuple(_speed(report))),
        Section("Notes", tuple(Paragraph(note) for note in report.notes)),
    ]
    if everything and report.attempt is not None:
        sections += _asked(report.attempt) if report.attempt.error is None else ()
        sent = tuple(_bytes([one for one in report.attempt.exchanged if one.sent]))
        sections.append(Section("What was asked, byte by byte", sent))
    if everything and report.classes is not None:
        sections.append(Section("Every SOP class", (_every(report.classes.classes),)))
    return Page(
        title=f"probe of {report.peer}",
        subtitle=f"called from AE title {report.calling_ae} at {report.started}, took {report.seconds:.1f} s",
        verdict=_verdict(report),
        tone=Tone.GOOD if failure is None else Tone.BAD,
        sections=tuple(clean(section) for section in sections if section.blocks),
    )


def _verdict(report: Report) -> str:
    if report.failure is not None:
        how = "It works in part." if report.failure.associated else "There is no association."
        return shown(f"{how} {report.failure.why}")
    parts = ["It works: it accepts associations"]
    if report.timing is not None and report.timing.median is not None:
        parts.append(f"answers C-ECHO (in {_ms(report.timing.median)})")
    if report.classes is not None:
        stored = report.classes.of(storage=True)
        taken = sum(one.accepted for one in stored)
        so_far = "" if report.classes.complete else ", as far as it was asked"
        found = f"takes {taken} of {len(stored)} storage SOP classes" if taken else "takes nothing to store"
        parts.append(found + so_far)
    return ", ".join(parts[:-1]) + (" and " if len(parts) > 1 else "") + parts[-1] + "."


# --- what is wrong --------------------------------------------------------------------------------------------------


def _wrong(report: Report) -> Iterator[Section]:
    failure = report.failure
    assert failure is not None
    if failure.causes:
        yield Section("Likely causes, the likeliest first", (Numbered(failure.causes),))
    yield Section("What to try next", (Commands(failure.steps),))


def _asked(attempt: Attempt) -> Iterator[Section]:
    request = attempt.request
    blocks: list[Block] = [
        Fact("from", attempt.local or "nowhere: there was no connection"),
        Fact("to", attempt.remote or "nobody"),
        Fact("called AE title", request.called_ae),
        Fact("calling AE title", request.calling_ae),
        Fact("through TLS", "yes" if attempt.tls else "no"),
        Fact("user identity", "none" if request.user.identity is None else repr(request.user.identity)),
    ]
    blocks += [
        Fact("asked for", f"{services.name_of(context.abstract_syntax)} in "
             f"{', '.join(map(services.syntax_name, context.transfer_syntaxes))}")
        for context in request.contexts
    ]  # fmt: skip
    yield Section("What was asked", tuple(blocks))
    received = [one for one in attempt.exchanged if not one.sent]
    yield Section("What came back", (*_came(attempt), *_bytes(received)))


def _came(attempt: Attempt) -> Iterator[Block]:
    if attempt.connected is not None:
        yield Fact("TCP connection", f"after {_ms(attempt.connected)}")
    if attempt.secured is not None:
        yield Fact("TLS handshake", f"after {_ms(attempt.secured)} more")
    after = "" if attempt.answered is None else f", after {_ms(attempt.answered)}"
    if attempt.error is None:
        yield Fact("answer", f"association accepted{after}", Tone.GOOD)
    else:
        yield Fact("answer", f"{attempt.error}{after}", Tone.BAD)
    if attempt.connected is not None and not attempt.received:
        yield Fact("bytes", "none")


def _bytes(pieces: Sequence[Bytes]) -> Iterator[Block]:
    data = b"".join(piece.data for piece in pieces)
    if not data:
        return
    lines = list(annotate.lines(data))
    dropped = sum(piece.length for piece in pieces) - len(data)
    if len(lines) > _MOST_LINES:
        lines = [*lines[:_MOST_LINES], f"and {len(lines) - _MOST_LINES} lines more"]
    if dropped:
        lines.append(f"and {dropped} bytes more, which were not kept")
    yield Lines(tuple(lines))


# --- what it is -----------------------------------------------------------------------------------------------------


def _identity(report: Report) -> Iterator[Block]:
    if (speaks := report.speaks) is not None and speaks.protocol != "DICOM":
        yield Fact("speaks", " ".join(filter(None, (speaks.protocol, f"({speaks.detail})" if speaks.detail else ""))))
        if speaks.inside:
            yield Fact("within TLS", speaks.inside)
        if speaks.tried:
            yield Fact("asked by", ", ".join(speaks.tried))
        if speaks.data and report.attempt is not None and speaks.data != report.attempt.received[: len(speaks.data)]:
            yield Lines(tuple(annotate.lines(speaks.data[:256])))
    if (negotiated := report.negotiated) is not None:
        yield Fact("product", negotiated.product or "not known by its implementation", Tone.PLAIN)
        yield Fact("implementation version name", negotiated.implementation_version_name or "none")
        yield Fact("implementation class UID", negotiated.implementation_class_uid or "none (it is mandatory)")


def _address(report: Report) -> Iterator[Block]:
    reach = report.reach
    yield Fact("host", f"{report.peer.host}, looked up in {_ms(reach.looked_up)}")
    if reach.problem:
        yield Fact("problem", reach.problem, Tone.BAD)
    for one in reach.addresses:
        if one.seconds is None:
            yield Fact(one.address, f"port {report.peer.port}: {one.problem}", Tone.BAD)
        else:
            yield Fact(one.address, f"port {report.peer.port} takes connections, in {_ms(one.seconds)}", Tone.GOOD)


_CHECKS: Final = {
    True: "yes: a made-up one gets no association",
    False: "no: a made-up one gets an association as well",
    None: "could not be told",
}


def _titles(report: Report) -> Iterator[Block]:
    if (titles := report.titles) is None:
        return
    yield Fact(f"called ({titles.called})", "accepted", Tone.GOOD)
    yield Fact(f"calling ({titles.calling})", "accepted", Tone.GOOD)
    yield Fact("is the called one checked?", _CHECKS[titles.checks_called])
    if titles.checks_called is not False:
        yield Fact("answer to a made-up one", titles.called_answer)
    yield Fact("is the calling one checked?", _CHECKS[titles.checks_calling])
    if titles.checks_calling is not False:
        yield Fact("answer to a made-up one", titles.calling_answer)


_OLD: Final = ("TLSv1", "TLSv1.1")  # RFC 8996


def _security(security: Security) -> Iterator[Block]:
    taken = [name for name, yes in security.versions if yes]
    yield Fact("versions that it takes", ", ".join(taken) or "none", Tone.PLAIN if taken else Tone.BAD)
    if old := [name for name in taken if name in _OLD]:
        yield Fact("advice", f"have {' and '.join(old)} switched off (RFC 8996, PS3.15 B.12)", Tone.DOUBTFUL)
    if untried := [name for name, yes in security.versions if yes is None]:
        yield Fact("versions that could not be told", ", ".join(untried))
    if security.problem:
        yield Fact("handshake", security.problem, Tone.BAD)
    if security.version:
        yield Fact("negotiated", f"{security.version}, {security.cipher}")
    if security.wants_certificate is not None:
        words = "yes: who shows none is not let in" if security.wants_certificate else "no"
        yield Fact("wants a certificate of this side", words)
    if security.authority:
        yield from _trust(security)
    if security.certificate is not None:
        yield from _certificate(security.certificate)


def _trust(security: Security) -> Iterator[Block]:
    words = {True: "yes, by", False: "no, not by", None: "could not be told, by"}[security.trusted]
    why = f" ({security.distrust})" if security.distrust else ""
    tone = {True: Tone.GOOD, False: Tone.BAD, None: Tone.PLAIN}[security.trusted]
    yield Fact("trusted", f"{words} {security.authority}{why}", tone)


def _certificate(certificate: Certificate) -> Iterator[Block]:
    yield Fact("certificate of", certificate.subject or "nobody: its subject is empty")
    yield Fact("issued by", certificate.issuer + (" (itself)" if certificate.issuer == certificate.subject else ""))
    yield Fact("for", ", ".join(certificate.names) or "no host: it has no subject alternative names")
    names = Tone.GOOD if certificate.names_host else Tone.DOUBTFUL
    yield Fact("names the host", "yes" if certificate.names_host else "no", names)
    valid = Tone.GOOD if certificate.is_valid_now else Tone.BAD
    yield Fact("valid", f"{certificate.begins} to {certificate.ends}"
               + ("" if certificate.is_valid_now else ": not now"), valid)  # fmt: skip
    yield Fact("SHA-256", certificate.sha256)


# --- what it agrees to ----------------------------------------------------------------------------------------------


def _association(report: Report) -> Iterator[Block]:
    if (negotiated := report.negotiated) is None:
        return
    length = negotiated.max_pdu_length
    words = {None: "not told", 0: "unlimited"}.get(length, f"{length} bytes")
    yield Fact("longest PDU that it receives", words)
    if report.classes is None or not negotiated.asked:
        return
    invoked, performed = negotiated.window or (1, 1)
    silent = " (it did not answer to 16)" if negotiated.window is None else ""
    yield Fact("operations outstanding at once", f"{_window(invoked)} of ours, {_window(performed)} of its own{silent}")
    yield Fact("roles for C-GET", services.roles_text(report.classes))
    for uid, name, text in negotiated.extended:
        yield Fact("extended negotiation", f"{name or uid}: {text}")
    if not negotiated.extended:
        yield Fact("extended negotiation", "not answered")
    answers = {True: "answered", False: "not looked at, or not answered", None: "refused"}
    yield Fact("user identity", answers[negotiated.identity_answer])
    demands = {True: "yes: without one there is no association", False: "no", None: "could not be told"}
    yield Fact("user identity demanded", demands[negotiated.identity_demanded])


def _window(size: int) -> str:
    return str(size) if size else "any number"


def _speed(report: Report) -> Iterator[Block]:
    timing = report.timing
    if timing is not None and timing.median is not None:
        yield Fact(f"C-ECHO, {timing.echoes} one by one", _latency(timing), Tone.BAD if timing.failed else Tone.PLAIN)
    if timing is not None and timing.rate is not None:
        yield Fact("associations one by one", f"{timing.rate:.0f} a second ({timing.associations} opened and released)")
    if (stored := report.stored) is not None:
        rate = stored.count * stored.size / max(stored.seconds, 1e-9) / 1e6
        words = f"{stored.count} of {stored.size // 1024} KiB in {stored.seconds:.2f} s: {rate:.1f} MB/s"
        yield Fact(
            "synthetic instances stored", words if not stored.status else f"{words}; status 0x{stored.status:04X}"
        )


def _latency(timing: Timing) -> str:
    assert timing.median is not None
    assert timing.percentile_99 is not None
    assert timing.longest is not None
    words = f"median {_ms(timing.median)}, 99 % within {_ms(timing.percentile_99)}, longest {_ms(timing.longest)}"
    return words + (f"; {timing.failed} failed with status 0x{timing.status:04X}" if timing.failed else "")


def _ms(seconds: float) -> str:
    return (
        f"{seconds:.1f} s"
        if seconds >= 1
        else f"{seconds * 1000:.1f} ms"
        if seconds >= 0.01
        else f"{seconds * 1000:.2f} ms"
    )


def _every(classes: Sequence[SopClass]) -> Table:
    rows = tuple(
        (
            one.name + (" (retired)" if one.retired else ""),
            services.syntaxes_text(one.transfer_syntaxes) if one.accepted else annotate.result_text(one.result),
        )
        for one in classes
    )
    return Table(("SOP class", "transfer syntaxes"), rows)
