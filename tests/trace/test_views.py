"""A trace in words, as lines and as objects: what an operator reads, what a program reads, and what neither gets."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from dicomnet.config import Identity
from dicomnet.dimse import messages
from dicomnet.dimse.messages import CommandField, Request, Response
from dicomnet.dimse.status import Status
from dicomnet.trace.diagram import Diagram
from dicomnet.trace.drawing import ASCII, BOXES, arrow
from dicomnet.trace.exchanges import Seen, Watcher
from dicomnet.trace.jsonable import jsonable
from dicomnet.trace.ladder import Ladder, clock
from dicomnet.trace.members import MEMBERS
from dicomnet.trace.records import Fault, Message
from dicomnet.trace.svg import svg
from dicomnet.trace.totals import Totals
from dicomnet.trace.wording import kind, name, remark
from dicomnet.ul import pdu
from tests.trace.dialogues import BEGAN, PATIENT, Dialogue, hostile


def drawn(dialogue: Dialogue, **options: object) -> list[str]:
    """Its lines, without the time."""
    ladder = Ladder(ASCII, **options)  # type: ignore[arg-type]
    lines = [str(line)[13:] for seen in dialogue.seen() for line in ladder.draw(seen)]
    return [*lines, *(str(line)[13:] for line in ladder.finish())]


def last(dialogue: Dialogue) -> Seen:
    return list(dialogue.seen())[-1]


# --- words ----------------------------------------------------------------------------------------------------------


def test_who_calls_whom_and_what_is_accepted() -> None:
    """PS3.8 9.3.2, 9.3.3."""
    _, asked, answered = Dialogue().associate(refused=(3,)).seen()
    assert remark(asked) == "MODALITY calls PACS, 3 contexts, PDUs to 16384, TEST_1"
    assert remark(answered) == "accepts 2 of 3 contexts, PDUs to 16384, TEST_1"
    assert (kind(asked), kind(answered)) == ("association", "warning")


def test_an_answer_that_accepts_nothing_is_a_failure() -> None:
    """It is an association on which nothing can be done."""
    seen = last(Dialogue().associate(refused=(1, 3, 5)))
    assert "NONE of 3" in remark(seen)
    assert kind(seen) == "failure"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (pdu.AssociateRj(1, 1, 7), "rejected permanently by the service user: called AE title not recognised (1/1/7)"),
        (pdu.AssociateRj(2, 3, 2), "for now by the service provider (presentation): local limit exceeded"),
        (pdu.Abort(2, 2), "aborted by the service provider: unexpected PDU (2/2)"),
        (pdu.Abort(9, 9), "unknown source"),
    ],
)
def test_rejects_and_aborts_are_told_in_words(value: pdu.Pdu, words: str) -> None:
    """PS3.8 Tables 9-21 and 9-26."""
    seen = last(Dialogue().pdu(False, value))
    assert words in remark(seen)
    assert kind(seen) == "failure"


def test_a_response_tells_its_status_the_instance_that_failed_and_how_long_it_took() -> None:
    """PS3.4 Table B.2-1; the instance is the request's, if the response names none."""
    text = remark(last(Dialogue().associate().store(7, 0xA700, comment="disk full", waited=1.5)))
    assert text == "#7, 0xA700 refused: out of resources; 'disk full', of 1.2.3.7, after 1.5 s"


def test_counts_of_sub_operations_are_told() -> None:
    """PS3.7 9.1.4."""
    dialogue = Dialogue().associate()
    dialogue.message(Request(CommandField.C_MOVE, 4, "1.2.3", move_destination="WS7"), context=5)
    assert "to WS7" in remark(last(dialogue))
    answer = Response(Status(0xB000), command=CommandField.C_MOVE, message_id=4, remaining=0, completed=8, failed=2)
    text = remark(last(dialogue.message(answer, context=5)))
    assert "one or more failed" in text
    assert "0 remaining, 8 completed, 2 failed" in text


def test_requests_without_an_answer_are_named_at_the_end() -> None:
    """What an operator looks for if "it hangs"."""
    seen = last(Dialogue().associate().store(1).store(2, answered=False).close())
    assert remark(seen) == "connection closed by the requestor; no answer to C-STORE-RQ #2"
    assert kind(seen) == "failure"


def test_a_message_id_may_be_used_by_both_sides() -> None:
    """PS3.7 9.1: message IDs belong to their invoker, as with C-GET."""
    dialogue = Dialogue().associate()
    dialogue.message(Request(CommandField.C_GET, 1, "1.2.3"), context=5)
    store = Request(CommandField.C_STORE, 1, "1.2.3", "1.2.3.9")
    encoded = pdu.Pdv(1, True, True, messages.encode(store))
    dialogue.pdu(False, pdu.PDataTf((encoded,)), 2.0)
    dialogue.message(Response(Status(0), command=CommandField.C_GET, message_id=1), context=5, after=1.0)
    seen = last(dialogue)
    assert seen.request is not None
    assert name(Seen(seen.request)) == "C-GET-RQ"
    assert seen.waited == pytest.approx(3.0)


# --- lines ----------------------------------------------------------------------------------------------------------


def test_arrows_point_where_things_go_and_are_of_one_width() -> None:
    """The label in the middle, cut if it must be."""
    assert arrow("TCP", 12, BOXES, to_right=True) == "─── TCP ───▶"
    assert arrow("TCP", 12, ASCII, to_right=False) == "<--- TCP ---"
    assert len(arrow("A-ASSOCIATE-RQ", 10, ASCII, to_right=True)) == 10


def test_like_operations_are_counted_and_what_differs_is_shown() -> None:
    """A thousand stores are three lines; the one that failed has its own."""
    dialogue = Dialogue().associate()
    for number in range(1, 1001):
        dialogue.store(number, 0xA700 if number == 700 else 0)
    lines = drawn(dialogue.release())
    folds = [line.split("| ")[-1] for line in lines if " ... " in line]
    assert [fold.split(",")[0] for fold in folds] == ["699 more C-STORE", "300 more C-STORE"]
    assert sum("C-STORE-RQ" in line for line in lines) == 1
    assert sum("0xA700" in line for line in lines) == 1
    assert "a second" in folds[0]


def test_a_few_are_not_worth_counting() -> None:
    """Two stores are shown."""
    lines = drawn(Dialogue().associate().store(1).store(2).store(3).release())
    assert sum("C-STORE-RQ" in line for line in lines) == 3


def test_a_slow_response_is_shown_among_those_that_are_counted() -> None:
    """It is what one looks for."""
    dialogue = Dialogue().associate()
    for number in range(1, 40):
        dialogue.store(number, waited=2.5 if number == 20 else 0.001)
    assert sum("after 2.5 s" in line for line in drawn(dialogue)) == 1


def test_matches_are_counted_and_the_final_response_is_shown() -> None:
    """PS3.7 9.1.2: pending responses, then the last one."""
    lines = drawn(Dialogue().associate().find(1, 50))
    assert any("49 more C-FIND-RSP" in line for line in lines)
    assert lines[-1].count("success") == 1


def test_all_shows_each_and_vv_every_pdu() -> None:
    """--all, -vv."""
    dialogue = Dialogue().associate()
    for number in range(1, 31):
        dialogue.store(number)
    assert sum("C-STORE-RQ" in line for line in drawn(dialogue, show_all=True)) == 30
    assert sum("P-DATA-TF" in line for line in drawn(dialogue, verbose=2)) == 60


def test_connections_are_told_apart_and_fold_apart() -> None:
    """A number for each; two that store at once do not disturb each other's count."""
    first, second = Dialogue(1).associate(), Dialogue(2).associate()
    for number in range(1, 21):
        first.store(number)
        second.store(number)
    both = Dialogue(1)
    both.records = sorted([*first.release().records, *second.release().records], key=lambda record: record.time)
    lines = drawn(both)
    assert sorted(line[:3].strip() for line in lines if "19 more C-STORE," in line) == ["1", "2"]


def test_the_status_says_how_far_the_count_is() -> None:
    """Live, while a run lasts."""
    ladder = Ladder(ASCII, width=60)
    dialogue = Dialogue(3).associate()
    for number in range(1, 101):
        dialogue.store(number)
    for seen in dialogue.seen():
        list(ladder.draw(seen))
    assert ladder.status().startswith("3: 99 more C-STORE, ")
    assert len(ladder.status()) <= 60


def test_a_terminal_is_not_left_at_its_right_edge() -> None:
    """What does not fit is cut, visibly."""
    ladder = Ladder(BOXES, width=60)
    lines = [str(line) for seen in Dialogue().associate().store(1).release().seen() for line in ladder.draw(seen)]
    assert max(map(len, lines)) <= 60
    assert any(line.endswith("…") for line in lines)


def test_refused_contexts_are_named_without_being_asked_for() -> None:
    """Most "does not work" is a context that was refused."""
    lines = drawn(Dialogue().associate(refused=(3,)))
    assert any(line.endswith("refused: MR Image Storage: abstract syntax not supported") for line in lines)


def test_a_silence_gets_a_line() -> None:
    """From a second on."""
    assert any("4.0 s silence" in line for line in drawn(Dialogue().associate().pdu(True, pdu.ReleaseRq(), 4.0)))


def test_verbose_lists_the_command_set_with_names() -> None:
    """-v: PS3.7 E.1."""
    text = "\n".join(drawn(Dialogue().associate().store(5, 0xC000), verbose=1))
    assert "(0000,0002) AffectedSOPClassUID: CT Image Storage (1.2.840.10008.5.1.4.1.1.2)" in text
    assert "(0000,0900) Status: 0xC000 error: cannot understand" in text
    assert "context 1: CT Image Storage (1.2.840.10008.5.1.4.1.1.2): acceptance" in text


# --- patients -------------------------------------------------------------------------------------------------------


def everything() -> Dialogue:
    return Dialogue(keep_datasets=65536).associate().store(1).find(2, 3).release()


def objects(dialogue: Dialogue, *, phi: bool = False) -> Iterator[str]:
    for seen in dialogue.seen():
        yield json.dumps(jsonable(seen, phi=phi))


@pytest.mark.parametrize("verbose", [0, 1, 2])
def test_no_patient_is_named_unless_asked_for(verbose: int) -> None:
    """Neither in data sets nor in the keys of queries, even if the records hold them."""
    assert PATIENT not in "\n".join(drawn(everything(), verbose=verbose, show_all=True))
    assert PATIENT not in "\n".join(objects(everything()))


def test_with_phi_identifiers_are_decoded() -> None:
    """In the transfer syntax of their context; as the DICOM JSON model (PS3.18 F)."""
    text = "\n".join(drawn(everything(), verbose=1, show_all=True, phi=True))
    assert text.count(PATIENT) == 5
    found = [json.loads(line)[1].get("dataset") for line in objects(everything(), phi=True)]
    assert {"vr": "PN", "Value": [{"Alphabetic": PATIENT}]} in [one["00100010"] for one in found if one]


@pytest.mark.parametrize(
    ("data", "says"), [(b"\x10\x00\x10\x00PN\xff\xff", "data set of 8 bytes"), (b"\xff" * 64, "64")]
)
def test_what_cannot_be_decoded_says_so(data: bytes, says: str) -> None:
    """A trace goes on whatever passes."""
    dialogue = Dialogue(keep_datasets=65536).associate()
    dialogue.message(Request(CommandField.C_STORE, 1, "1.2", "1.3", has_dataset=True), data=data)
    text = "\n".join(drawn(dialogue, verbose=1, phi=True))
    assert says in text
    assert list(objects(dialogue, phi=True))


def test_secrets_of_an_identity_are_never_shown() -> None:
    """PS3.7 D.3.3.7: the name only with phi, the passcode never."""
    user = pdu.UserInformation(identity=Identity.passcode("jdoe", "hunter2"))
    request = pdu.AssociateRq("A", "B", (pdu.ProposedContext(1, "1.2", ("1.2",)),), user)
    for phi in (False, True):
        text = "\n".join(
            [*objects(Dialogue().pdu(True, request), phi=phi), *drawn(Dialogue().pdu(True, request), verbose=2)]
        )
        assert "hunter2" not in text
        assert ("jdoe" in text) == phi


# --- objects --------------------------------------------------------------------------------------------------------


def test_each_record_is_an_object_with_the_members_that_are_listed() -> None:
    """--json; all kinds of record."""
    dialogue = hostile()
    dialogue.records.append(Fault(9, BEGAN, "after 1 C-ECHO-RQ: reset", "reset"))
    kinds = set()
    for seen in dialogue.seen():
        event, members = jsonable(seen, phi=True)
        kinds.add(event)
        assert members.keys() - {"dataset"} == MEMBERS[event].keys() - {"dataset"}
        assert "\n" not in json.dumps(members)
    assert kinds == MEMBERS.keys()


def test_totals_say_what_failed_and_what_was_slow() -> None:
    """The summary."""
    totals = Totals()
    dialogue = Dialogue().associate()
    for number in range(1, 9):
        dialogue.store(number, 0xA700 if number % 4 == 0 else 0, waited=number / 10)
    for seen in dialogue.store(9, answered=False).close("reset").seen():
        totals.add(seen)
    assert (totals.connections, totals.associations, totals.unanswered) == (1, 1, 1)
    assert totals.failures["C-STORE-RSP: 0xA700 refused: out of resources"] == 2
    assert [round(waited, 1) for waited, _ in totals.slowest] == [0.8, 0.7, 0.6, 0.5, 0.4]
    assert all(isinstance(message, Message) for _, message in totals.slowest)


@pytest.mark.parametrize("verbose", [0, 1, 2])
def test_a_peers_text_commands_no_terminal(verbose: int) -> None:
    """AE titles, version names, comments, UIDs, garbage."""
    for line in drawn(hostile(), verbose=verbose):
        assert line.isprintable(), line
        assert not line.endswith("context 9: accepted") or "#1" in line or "ErrorComment" in line


@pytest.mark.parametrize("when", [9e18, -9e18, 4e11, float("inf"), float("nan")])
def test_a_time_that_no_calendar_has_is_no_error(when: float) -> None:
    """A damaged capture says anything."""
    assert clock(when) == "--:--:--.---"
    assert "at no time" in svg(Diagram(1, began=when))


def test_tls_is_no_failure() -> None:
    """It passes, and cannot be read: nothing is wrong with it."""
    dialogue = Dialogue().bytes(True, bytes.fromhex("16030100c8010000c40303") + bytes(20)).close()
    totals = Totals()
    for seen in dialogue.seen():
        totals.add(seen)
    assert totals.failures == {}
    assert any("TLS" in line and "cannot be read" in line for line in drawn(dialogue))


def test_requests_that_wait_for_an_answer_hold_no_data_sets() -> None:
    """There may be thousands of them."""
    watcher = Watcher()
    request = Message(1, 1.0, 1.0, True, 1, {0x0100: 0x0001, 0x0110: 7}, "", "", 1, 4, b"DATA")
    assert watcher.see(request).record is request
    seen = watcher.see(Message(1, 2.0, 2.0, False, 1, {0x0100: 0x8001, 0x0120: 7, 0x0900: 0}, "", "", 1))
    assert seen.request is not None
    assert seen.request.dataset is None
