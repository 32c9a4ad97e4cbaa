"""``dicomnet.trace.faults`` and ``injecting``: rules, and what they do to real SCUs and SCPs."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

import dicomnet
from dicomnet.config import Timeouts
from dicomnet.dimse import command as c
from dicomnet.errors import AssociationAborted, AssociationRejected, DeadlineExceeded, DicomNetworkError, TransportError
from dicomnet.trace.capture import read_capture
from dicomnet.trace.decoding import Decoder
from dicomnet.trace.faults import FOR_EVER, InvalidRule, Rule, parse_rule
from dicomnet.trace.injecting import Injector, Rules
from dicomnet.trace.pcapng import PcapngWriter
from dicomnet.trace.records import Closed, Fault, Message, Pdu, Record
from tests.cli.programs import instance
from tests.pydicom_files import DICOM_FILES, shipped
from tests.trace.conftest import FEWER, Bench, Records
from tests.trace.test_decoding import CHUNKS, DATA, EXCHANGE, STORE, message

VERIFICATION = [dicomnet.Verification]


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("after 3 C-STORE-RQ: reset", Rule("", "after", 3, "reset", "C-STORE-RQ")),
        ("on *-rsp : DELAY 200ms", Rule("", "on", 1, "delay", "*-RSP", seconds=0.2)),
        (
            "every 2 P-DATA-TF in each connection: stall",
            Rule("", "every", 2, "stall", "P-DATA-TF", True, seconds=FOR_EVER),
        ),
        ("on C-FIND-RQ: stall 1.5s", Rule("", "on", 1, "stall", "C-FIND-RQ", seconds=1.5)),
        ("at byte 70: cut", Rule("", "byte", 70, "cut")),
        ("at byte 7 from acceptor: flip", Rule("", "byte", 7, "flip", from_requestor=False)),
        ("on C-STORE-RQ: flip byte 100", Rule("", "on", 1, "flip", "C-STORE-RQ", byte=100)),
        ("every 3 A-ASSOCIATE-RQ: refuse", Rule("", "every", 3, "refuse", "A-ASSOCIATE-RQ")),
        ("on A-ASSOCIATE-RQ: refuse 2 3 1", Rule("", "on", 1, "refuse", "A-ASSOCIATE-RQ", refusal=(2, 3, 1))),
        ("on N-GET-RQ: drop-response", Rule("", "on", 1, "drop-response", "N-GET-RQ")),
    ],
)
def test_rules(text: str, rule: Rule) -> None:
    """Each trigger and each action, in either case."""
    parsed = parse_rule(text)
    assert parsed.text == text
    assert [getattr(parsed, name) for name in Rule.__slots__ if name != "text"] == [
        getattr(rule, name) for name in Rule.__slots__ if name != "text"
    ]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", ""),
        ("when C-STORE-RQ: reset", "when"),
        ("after C-STORE-RQ: reset", "C-STORE-RQ"),
        ("after 0 C-STORE-RQ: reset", "0"),
        ("on C-STORE: reset", "C-STORE"),
        ("on C-STORE-RQ reset", "reset"),
        ("on C-STORE-RQ in every connection: reset", "every"),
        ("on C-STORE-RQ:", ""),
        ("on C-STORE-RQ: explode", "explode"),
        ("on C-STORE-RQ: delay", ""),
        ("on C-STORE-RQ: delay 5", "5"),
        ("on C-STORE-RQ: delay 0s", "0s"),
        ("on C-STORE-RQ: reset now", "now"),
        ("on C-STORE-RQ: refuse", "refuse"),
        ("on A-ASSOCIATE-RQ: refuse 3 1 1", "3"),
        ("on A-ASSOCIATE-RQ: drop-response", "drop-response"),
        ("on C-STORE-RQ: flip 100", "100"),
        ("at byte x: cut", "x"),
        ("at byte 5: refuse", "refuse"),
        ("at byte 5 from peer: cut", "peer"),
    ],
)
def test_an_error_in_a_rule_points_at_the_word(text: str, word: str) -> None:
    """Below the rule as it was written."""
    with pytest.raises(InvalidRule) as caught:
        parse_rule(text)
    _, rule, mark = str(caught.value).split("\n")
    assert rule == f"  {text}"
    assert rule[mark.index("^") :].startswith(word)
    assert mark.count("^") == max(1, len(word))


@FEWER
@given(
    st.text("on: 3-ms", max_size=20)
    | st.lists(st.sampled_from(["on", "every", "after", "at", "byte", "3", "C-STORE-RQ", ":", "cut", "flip"])).map(
        " ".join
    )
)
def test_what_is_no_rule_is_never_anything_but_an_error(text: str) -> None:
    """InvalidRule."""
    with contextlib.suppress(InvalidRule):
        assert parse_rule(text).text == text.strip()


def faults(records: list[Record]) -> list[str]:
    return [one.what for one in records if isinstance(one, Fault)]


def rules(*texts: str) -> tuple[Rule, ...]:
    return tuple(map(parse_rule, texts))


def test_delay(bench: Bench) -> None:
    """It comes later, and unchanged."""
    records = Records()
    with (
        bench.through(records, faults=rules("on C-ECHO-RSP: delay 150ms")) as peer,
        dicomnet.associate(peer, contexts=VERIFICATION) as association,
    ):
        began = time.monotonic()
        assert association.c_echo().status == 0
        assert time.monotonic() - began >= 0.15
    assert faults(records) == ["holds back what comes from the acceptor for 0.15 s"]


def test_stall(bench: Bench) -> None:
    """For ever: the requestor's own time limit ends it."""
    records = Records()
    timeouts = Timeouts(response=0.2, closing=0.1, release=0.2)
    bench.ae.timeouts = Timeouts(idle=0.5)
    with (
        bench.through(records, faults=rules("on C-ECHO-RQ: stall")) as peer,
        pytest.raises(DeadlineExceeded),
        dicomnet.associate(peer, contexts=VERIFICATION, timeouts=timeouts) as association,
    ):
        association.c_echo()
    assert faults(records) == ["holds back what comes from the requestor for ever"]


def test_a_requestor_that_goes_while_it_is_held_back_for_ever_is_noticed(bench: Bench) -> None:
    """Nothing that it says arrives any more; but its end does, and its last words are recorded."""
    records = Records()
    bench.ae.timeouts = Timeouts(idle=120.0)  # nothing else may end the connection
    with bench.through(records, faults=rules("on C-ECHO-RQ: stall")) as peer:
        began = time.monotonic()
        with (
            pytest.raises(DeadlineExceeded),
            dicomnet.associate(
                peer, contexts=VERIFICATION, timeouts=Timeouts(response=0.1, closing=0.1, release=0.1)
            ) as association,
        ):
            association.c_echo()
        records.wait_until(records.all_ended)
        assert time.monotonic() - began < 60
    [closed] = [one for one in records if isinstance(one, Closed)]
    assert (closed.from_requestor, closed.how) == (True, "closed")
    assert [one.type for one in records if isinstance(one, Pdu) and one.from_requestor] == [1, 4, 7]


@pytest.mark.parametrize(
    ("rule", "what"),
    [
        ("on C-STORE-RQ: cut", "closed both ends in mid-PDU"),
        ("on C-STORE-RQ: reset", "reset both ends"),
        ("at byte 2000: cut", "closed both ends after byte 2000"),
    ],
)
def test_cut_and_reset(bench: Bench, rule: str, what: str) -> None:
    """A cut is in the data set, so that the SCP has half of it; a reset loses the message."""
    records = Records()
    with bench.through(records, faults=rules(rule)) as peer:
        [outcome] = dicomnet.send([shipped("CT_small.dcm")], peer, attempts=1)
    assert isinstance(outcome.error, TransportError | AssociationAborted)
    assert bench.stored == []
    assert faults(records) == [what]
    [closed] = [one for one in records if isinstance(one, Closed)]
    assert (closed.from_requestor, closed.how) == (None, "reset" if "reset" in what else "closed")


def test_flip(bench: Bench) -> None:
    """One bit of the data set, the same one for the same seed."""
    whole = shipped("CT_small.dcm")
    arrived = []
    for seed, rule in [(1, "on C-STORE-RQ: flip"), (1, "on C-STORE-RQ: flip"), (2, "on C-STORE-RQ: flip byte 22000")]:
        records = Records()
        with bench.through(records, faults=rules(rule), seed=seed) as peer:
            list(dicomnet.send([whole], peer))
        assert len(faults(records)) == 1
        arrived.append(bench.contents[bench.stored[-1]])
    assert arrived[0] == arrived[1]
    sent = dicomnet.EncodedDataset.from_file(whole)
    original = b"".join(sent.chunks())
    for content in arrived:
        changed = [one ^ other for one, other in zip(content, original, strict=True) if one != other]
        assert [value.bit_count() for value in changed] == [1]
    assert [at for at, (one, other) in enumerate(zip(arrived[2], original, strict=True)) if one != other] == [21999]


def test_refuse(bench: Bench) -> None:
    """The acceptor does not see it; the capture file and the records do."""
    records = Records()
    with bench.through(records, faults=rules("every 2 A-ASSOCIATE-RQ: refuse 2 3 1")) as peer:
        dicomnet.associate(peer, contexts=VERIFICATION).release()
        with pytest.raises(AssociationRejected) as caught:
            dicomnet.associate(peer, contexts=VERIFICATION)
    assert (caught.value.result, caught.value.source, caught.value.reason) == (2, 3, 1)
    assert faults(records) == ["answered A-ASSOCIATE-RJ 2/3/1 in the acceptor's place"]
    assert [one.type for one in records if isinstance(one, Pdu) and one.connection == 2] == [1, 3]


def test_drop_response(bench: Bench) -> None:
    """The request has arrived, but its sender does not hear of it."""
    records = Records()
    with bench.through(records, faults=rules("on C-STORE-RQ: drop-response")) as peer:
        [outcome] = dicomnet.send([shipped("CT_small.dcm")], peer, attempts=1, timeouts=Timeouts(response=0.3))
    assert isinstance(outcome.error, DicomNetworkError)
    assert len(bench.stored) == 1
    assert faults(records) == ["swallowed the response to C-STORE-RQ"]
    assert len([one for one in records if isinstance(one, Message)]) == 2


def test_the_capture_file_has_what_was_forwarded(bench: Bench, tmp_path: Path) -> None:
    """And what was refused."""
    with (
        PcapngWriter(tmp_path / "file") as writer,
        bench.through(Records(), writer=writer, faults=rules("on A-ASSOCIATE-RQ: refuse")) as peer,
        pytest.raises(AssociationRejected),
    ):
        dicomnet.associate(peer, contexts=VERIFICATION)
    assert [one.type for one in read_capture(tmp_path / "file") if isinstance(one, Pdu)] == [1, 3]


def test_a_sender_survives_what_a_bad_network_does(bench: Bench) -> None:
    """Every association refused, every store reset, now and then: all files arrive."""
    files = [path for path in DICOM_FILES if "dicomdirtests" in str(path) and "DICOMDIR" not in path.name][:40]
    wanted = {dicomnet.EncodedDataset.from_file(path).sop_instance_uid for path in files}
    records = Records()
    harm = rules("every 20 C-STORE-RQ: reset", "every 3 A-ASSOCIATE-RQ: refuse 2 3 2")
    with bench.through(records, faults=harm) as peer:
        outcomes = list(dicomnet.send(files, peer, attempts=10, backoff=0.02, window=1, associations=2))
    assert [one.error for one in outcomes] == [None] * len(files)
    assert {"reset both ends", "answered A-ASSOCIATE-RJ 2/3/2 in the acceptor's place"} == set(faults(records))
    assert set(bench.stored) == wanted


def injected(texts: tuple[str, ...], exchange: list[tuple[bool, bytes]], chunk: int = 1 << 20) -> tuple[bytes, bytes]:
    """What comes out at the acceptor and at the requestor."""
    out = [bytearray(), bytearray()]
    injector = Injector(Rules(rules(*texts)), Decoder(1), lambda records: None)
    for from_requestor, data in exchange:
        for at in range(0, len(data), chunk):
            for act in injector.take(from_requestor, memoryview(data)[at : at + chunk], 1.0):
                out[act.from_requestor] += act.data
    for side in (True, False):
        for act in injector.end(side):
            out[side] += act.data
    return bytes(out[1]), bytes(out[0])


@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
def test_without_a_rule_that_fires_nothing_changes(chunk: int) -> None:
    """PDUs are held, not changed."""
    expected = tuple(b"".join(data for side, data in EXCHANGE if side is wanted) for wanted in (True, False))
    assert injected(("after 9 C-STORE-RQ: flip", "at byte 999999: cut"), EXCHANGE, chunk) == expected


@FEWER
@given(CHUNKS, st.integers(1, 60))
def test_hostile_bytes_pass_rules_unchanged(exchange: list[tuple[bool, bytes]], chunk: int) -> None:
    """A delay changes no byte, whatever comes."""
    expected = tuple(b"".join(data for side, data in exchange if side is wanted) for wanted in (True, False))
    assert injected(("every 2 P-DATA-TF: delay 1s", "on *-RQ: delay 1s"), exchange, chunk) == expected


def test_a_header_that_is_not_whole_is_recorded_once() -> None:
    """However often the end is told."""
    seen: list[Record] = []
    decoder = Decoder(1)
    injector = Injector(Rules(rules("on C-STORE-RQ: reset")), decoder, seen.extend)
    injector.take(True, memoryview(b"\x05\0\0\0"), 1.0)
    injector.end(True)
    injector.end(True)
    assert seen == []
    [garbage, _] = decoder.end(True, "closed", 1.0)
    assert "within a PDU header" in garbage.reason  # type: ignore[union-attr]


def test_every_third_association_refused_and_every_fiftieth_store_reset(bench: Bench, tmp_path: Path) -> None:
    """200 files with the settings that a user has, but for the pauses: all arrive, and the report is true."""
    files = [tmp_path / f"{number}.dcm" for number in range(200)]
    for number, path in enumerate(files):
        instance(number, PatientName="A").save(path)
    records = Records()
    harm = rules("every 3 A-ASSOCIATE-RQ: refuse", "every 50 C-STORE-RQ: reset")
    with bench.through(records, faults=harm) as peer:
        outcomes = list(dicomnet.send(files, peer, backoff=0.02))
    assert {one.path: one.error for one in outcomes} == dict.fromkeys(files)
    assert set(bench.stored) == {dicomnet.EncodedDataset.from_file(path).sop_instance_uid for path in files}
    told = faults(records)
    assert told.count("reset both ends") >= 4
    # What was sent more than once was reset, or held up by a reset of another on the same association.
    assert sum(one.attempts - 1 for one in outcomes) >= told.count("reset both ends")


def test_counting_in_each_connection_and_over_all() -> None:
    """The default is over all: associations are counted that way."""
    ruled = Rules(rules("after 1 C-STORE-RQ in each connection: flip byte 1", "after 3 C-STORE-RQ: flip byte 2"))
    told: list[list[Record]] = []
    for _ in range(2):
        injector = Injector(ruled, Decoder(1), told.append)
        for _ in range(2):
            injector.take(True, memoryview(message(STORE, DATA[:50])), 1.0)
    fired = [one.rule for batch in told for one in batch if isinstance(one, Fault)]
    each, over_all = (rule.text for rule in ruled.rules)
    assert fired == [each, each, over_all]


def test_the_response_with_the_message_id_is_swallowed_and_no_other() -> None:
    """PS3.7 9.3: they may come in another order."""
    second = {**STORE, c.MESSAGE_ID: 2}
    answers = [
        {c.COMMAND_FIELD: 0x8001, c.MESSAGE_ID_BEING_RESPONDED_TO: one, c.DATA_SET_TYPE: 0x0101, c.STATUS: 0}
        for one in (2, 1)
    ]
    exchange = [
        (True, message(STORE, b"ab")),
        (True, message(second, b"ab")),
        *((False, message(one)) for one in answers),
    ]
    _, back = injected(("every 2 C-STORE-RQ: drop-response",), exchange)
    assert back == message(answers[1])
