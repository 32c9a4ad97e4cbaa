"""Surveys of servers whose support is known: the report equals it (PS3.8 9.3.3.2, PS3.7 D.3.3)."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest

import dicomnet
from dicomnet import ExtendedQuery
from dicomnet.models import get_classes
from dicomnet.probe import Plan, Report, catalogue, survey, text
from dicomnet.probe.contexts import examine
from dicomnet.probe.page import page_of
from dicomnet.ul import negotiation, pdu
from tests.probe.conftest import SOON

Serve = Callable[..., str]
Listen = Callable[[Callable[[socket.socket], None]], str]

CT, MR, SR, FIND, GET = (
    *("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.88.11"),
    *("1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.5.1.4.1.2.2.3"),
)
IMPLICIT, EXPLICIT, DEFLATED = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99"
JPEG, JPEG_LS, MPEG2 = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.100"


def ask(peer: str, **options: Any) -> Report:
    return survey(peer, timeouts=SOON, echoes=3, **options)


def supported(report: Report) -> dict[str, set[str]]:
    assert report.classes is not None
    return {one.uid: set(one.transfer_syntaxes) for one in report.classes.classes if one.accepted}


SUPPORT = {
    dicomnet.Verification: {IMPLICIT, EXPLICIT},
    CT: {EXPLICIT, JPEG, JPEG_LS},
    MR: {IMPLICIT},
    SR: {IMPLICIT, EXPLICIT, DEFLATED},
    FIND: {EXPLICIT},
}
CONTEXTS = [(uid, sorted(syntaxes)) for uid, syntaxes in SUPPORT.items()]


def test_the_report_equals_what_the_server_supports(serve: Serve) -> None:
    report = ask(serve(contexts=CONTEXTS))
    assert report.failure is None
    assert supported(report) == SUPPORT
    assert report.classes is not None
    assert report.classes.complete


def test_a_class_in_one_unusual_transfer_syntax_alone_is_found(serve: Serve) -> None:
    """It is refused at first, because of its transfer syntaxes (PS3.8 Table 9-18, 4)."""
    assert supported(ask(serve(contexts=[(CT, [MPEG2])]))) == {CT: {MPEG2}}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_everything_asked_pair_by_pair_comes_to_the_same(serve: Serve) -> None:
    report = ask(serve(contexts=CONTEXTS), plan=Plan(everything=True, seconds=None))
    assert supported(report) == SUPPORT
    assert report.classes is not None
    retired = [one for one in report.classes.classes if one.retired]
    assert retired
    assert report.classes.contexts == len(report.classes.classes) * len(report.classes.asked)


def test_the_time_for_it_is_limited(serve: Serve) -> None:
    report = ask(serve(contexts=CONTEXTS), plan=Plan(seconds=1e-9))
    assert report.classes is not None
    assert not report.classes.complete
    assert report.failure is None
    assert any("not all SOP classes" in note for note in report.notes)


def test_it_stops_when_it_is_told_to(serve: Serve) -> None:
    report = ask(serve(contexts=CONTEXTS), stop=lambda: True)
    assert report.attempt is not None
    assert report.classes is None
    assert any("interrupted" in note for note in report.notes)


def test_what_was_not_asked_is_not_told(serve: Serve) -> None:
    """Interrupted after the SOP classes: nothing is said of windows and identities."""
    steps: list[str] = []
    peer = serve(contexts=CONTEXTS)
    options: dict[str, Any] = {"advance": lambda step, done, of: steps.append(step)}
    report = ask(peer, stop=lambda: "asking about SOP classes" in steps, **options)
    assert report.negotiated is not None
    assert not report.negotiated.asked
    assert not any("user identity" in line and "none" not in line for line in text.lines(page_of(report)))


def test_what_the_server_agrees_to_is_told(serve: Serve) -> None:
    """PS3.7 D.3.3.3, D.3.3.4, D.3.3.5, D.3.3.7"""
    report = ask(
        serve(
            contexts=[dicomnet.Verification, CT, MR, FIND, GET],
            async_ops=(4, 2),
            max_pdu_length=32768,
            extended={FIND: ExtendedQuery(relational=True, fuzzy=True)},
        )
    )
    assert report.negotiated is not None
    assert report.negotiated.max_pdu_length == 32768
    assert report.negotiated.window == (4, 2)
    assert report.negotiated.product == "dicomnet 0.1"
    assert [(uid, text) for uid, _, text in report.negotiated.extended] == [(FIND, "relational, fuzzy")]
    assert report.negotiated.identity_demanded is False
    assert report.classes is not None
    roles = {one.uid: one.requestor_is_scp for one in report.classes.of(storage=True) if one.accepted}
    assert GET in get_classes()
    assert roles == {CT: True, MR: True}


def test_a_demanded_identity_is_told(serve: Serve) -> None:
    """PS3.7 D.3.3.7"""
    report = ask(serve(require_identity=True), identity=dicomnet.Identity.username("jdoe"))
    assert report.failure is None
    assert report.negotiated is not None
    assert report.negotiated.identity_demanded is True
    assert report.negotiated.identity_answer is False


@pytest.mark.parametrize(
    ("options", "checks"),
    [
        ({}, (False, False)),
        ({"require_called": True}, (True, False)),
        ({"accept_calling": ["DICOMNET"]}, (False, True)),
    ],
)
def test_whether_titles_are_checked_is_told(serve: Serve, options: dict[str, Any], checks: tuple[bool, bool]) -> None:
    report = ask(serve(**options))
    assert report.titles is not None
    assert (report.titles.checks_called, report.titles.checks_calling) == checks


def test_each_association_has_at_most_128_contexts_and_few_are_needed(serve: Serve) -> None:
    report = ask(serve(contexts=CONTEXTS))
    assert report.classes is not None
    assert report.classes.contexts <= 128 * report.classes.associations
    pairs = len(report.classes.classes) * len(report.classes.asked)
    assert report.classes.contexts < pairs / 20


def test_a_peer_that_breaks_at_many_contexts_is_asked_about_fewer(listen: Listen, monkeypatch: Any) -> None:
    """It is not hammered: there is a pause after each failure, and after four of them no more."""
    monkeypatch.setattr("dicomnet.probe.contexts._PAUSES", (0.0, 0.0, 0.0))
    seen: list[int] = []

    def talk(connection: socket.socket) -> None:
        request = pdu.decode(_read_pdu(connection))
        assert isinstance(request, pdu.AssociateRq)
        seen.append(len(request.contexts))
        if len(request.contexts) > 32:
            return
        connection.sendall(pdu.encode(negotiation.answer(request, negotiation.Policy({CT: (EXPLICIT,)}))))
        _read_pdu(connection)
        connection.sendall(pdu.encode(pdu.ReleaseRp()))

    report = survey(listen(talk), timeouts=SOON, echoes=1, plan=Plan(seconds=30))
    assert supported(report) == {CT: {EXPLICIT}}
    assert seen.count(128) == 1


def test_a_peer_that_fails_again_and_again_is_left_alone(listen: Listen, monkeypatch: Any) -> None:
    monkeypatch.setattr("dicomnet.probe.contexts._PAUSES", (0.0, 0.0, 0.0))
    asked: list[int] = []

    def talk(connection: socket.socket) -> None:
        _read_pdu(connection)
        asked.append(1)

    from dicomnet.config import Peer
    from dicomnet.probe.calls import Caller

    caller = Caller(Peer.parse(listen(talk)), SOON)
    classes = examine(caller, lambda wanted: negotiation.request("A", "B", wanted), Plan())
    assert not classes.complete
    assert "4 times in a row" in classes.problem
    assert len(asked) == 4


def _read_pdu(connection: socket.socket) -> bytes:
    head = _exactly(connection, 6)
    return head + _exactly(connection, int.from_bytes(head[2:]))


def _exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = connection.recv(count - len(data))
        if not piece:
            raise OSError("closed")
        data += piece
    return data


def test_every_transfer_syntax_belongs_to_a_family() -> None:
    """All of the standard's dictionary (PS3.6 Table A-1), each in one."""
    syntaxes = tuple(one.uid for one in catalogue.transfer_syntaxes(retired=True))
    families = catalogue.families(syntaxes)
    assert sorted(uid for members in families.values() for uid in members) == sorted(syntaxes)
    assert set(families) >= {"uncompressed", "JPEG", "JPEG-LS", "JPEG 2000", "HTJ2K", "RLE", "video"}
