"""``dicomnet.trace.decoding``: two streams of bytes → records."""

from __future__ import annotations

import struct
from collections.abc import Iterable

import pytest
from hypothesis import given, strategies as st

from dicomnet.config import Identity, Limits
from dicomnet.dimse import command as c
from dicomnet.trace.decoding import BEGINNING, Decoder, message_name
from dicomnet.trace.records import Closed, Garbage, Message, Pdu, Record
from dicomnet.ul import pdu
from dicomnet.ul.framer import batches
from tests.trace.conftest import FEWER

CT = "1.2.840.10008.5.1.4.1.1.2"
LITTLE = "1.2.840.10008.1.2.1"
RQ = pdu.AssociateRq(
    "SCP",
    "SCU",
    (pdu.ProposedContext(1, CT, (LITTLE,)), pdu.ProposedContext(3, "1.2.840.10008.1.1", (LITTLE,))),
    pdu.UserInformation(max_length=16384, identity=Identity.passcode("doe", "secret")),
)
AC = pdu.AssociateAc(
    "SCP",
    "SCU",
    (pdu.AnsweredContext(1, 0, LITTLE), pdu.AnsweredContext(3, 3, "")),
    pdu.UserInformation(max_length=16384),
)
STORE = {
    c.AFFECTED_SOP_CLASS_UID: CT,
    c.COMMAND_FIELD: 0x0001,
    c.MESSAGE_ID: 1,
    c.PRIORITY: 0,
    c.DATA_SET_TYPE: 0,
    c.AFFECTED_SOP_INSTANCE_UID: "1.2.3",
}
STORED = {c.COMMAND_FIELD: 0x8001, c.MESSAGE_ID_BEING_RESPONDED_TO: 1, c.DATA_SET_TYPE: 0x0101, c.STATUS: 0}
DATA = bytes(range(256)) * 200


def message(command: c.CommandSet, data: bytes | None = None, *, context: int = 1, longest: int = 16384) -> bytes:
    view = None if data is None else memoryview(data)
    return b"".join(b"".join(batch) for batch in batches(context, c.encode(command), view, longest))


def pdv(context: int, control: int, data: bytes) -> bytes:
    return struct.pack(">BxIIBB", 4, len(data) + 6, len(data) + 2, context, control) + data


EXCHANGE = [
    (True, pdu.encode(RQ)),
    (False, pdu.encode(AC)),
    (True, message(STORE, DATA)),
    (False, message(STORED)),
    (True, pdu.encode(pdu.ReleaseRq())),
    (False, pdu.encode(pdu.ReleaseRp())),
]


def decode(exchange: Iterable[tuple[bool, bytes]], chunk: int = 1 << 20, keep: int = 0) -> list[Record]:
    decoder = Decoder(1, keep_datasets=keep)
    records: list[Record] = []
    for from_requestor, data in exchange:
        for start in range(0, len(data), chunk):
            records += decoder.feed(from_requestor, data[start : start + chunk], 5.0)
    return records + decoder.end(True, "closed", 6.0)


def test_an_association_is_recorded_pdu_by_pdu_and_message_by_message() -> None:
    """PS3.8 9.3, PS3.7 6.3: a message follows the PDU that ends it."""
    records = decode(EXCHANGE)
    kinds = [record.type if isinstance(record, Pdu) else type(record) for record in records]
    assert kinds == [1, 2, 4, 4, 4, 4, 4, Message, 4, Message, 5, 6, Closed]
    assert [one.value for one in records if isinstance(one, Pdu) and one.value] == [
        *(RQ, AC, pdu.ReleaseRq(), pdu.ReleaseRp())
    ]
    request, response = (one for one in records if isinstance(one, Message))
    assert message_name(request.command) == "C-STORE-RQ"
    assert (request.abstract_syntax, request.transfer_syntax) == (CT, LITTLE)
    assert (request.pdus, request.dataset_size, request.dataset) == (5, len(DATA), None)
    assert message_name(response.command) == "C-STORE-RSP"
    assert (response.pdus, response.dataset_size, response.from_requestor) == (1, None, False)
    assert sum(one.length for one in records if isinstance(one, Pdu)) == sum(len(data) for _, data in EXCHANGE)


@pytest.mark.parametrize("chunk", [1, 2, 5, 7, 1000])
def test_the_size_of_the_chunks_changes_nothing(chunk: int) -> None:
    """TCP knows no PDUs."""
    assert decode(EXCHANGE, chunk, keep=1 << 20) == decode(EXCHANGE, keep=1 << 20)


def test_data_sets_are_kept_only_as_far_as_wanted() -> None:
    """Memory is bounded, and data sets belong to patients."""
    kept = [one.dataset for one in decode(EXCHANGE, keep=len(DATA)) if isinstance(one, Message)]
    assert kept == [DATA, None]
    dropped = [one.dataset for one in decode(EXCHANGE, keep=len(DATA) - 1) if isinstance(one, Message)]
    assert dropped == [None, None]


def test_messages_are_read_although_the_negotiation_was_not_seen() -> None:
    """Their syntaxes are not known then."""
    [request] = [one for one in decode([(True, message(STORE, DATA))]) if isinstance(one, Message)]
    assert (request.abstract_syntax, request.transfer_syntax, request.dataset_size) == ("", "", len(DATA))


def test_after_a_malformed_pdu_the_next_one_is_read() -> None:
    """An association would be aborted (PS3.8 9.2.1 AA-8); an observer goes on."""
    broken_rq = bytearray(pdu.encode(RQ))
    broken_rq[74] = 0x11  # no application context
    strange = struct.pack(">BxI", 9, 3) + b"abc"
    records = decode([(True, bytes(broken_rq)), (True, strange), (True, struct.pack(">BxI", 5, 2) + b"ab"), *EXCHANGE])
    assert [bool(one.problem) for one in records[:3] if isinstance(one, Pdu)] == [True] * 3
    assert records[3:] == decode(EXCHANGE)


def test_a_p_data_tf_whose_items_do_not_fit_is_skipped_to_its_end() -> None:
    """PS3.8 9.3.5: the announced length of the PDU still tells where the next one begins."""
    overlong = struct.pack(">BxIIBB", 4, 26, 100, 1, 3) + bytes(20)
    first, *others = decode([(True, overlong), *EXCHANGE])
    assert isinstance(first, Pdu)
    assert (first.type, first.length) == (4, 32)
    assert "PDV" in first.problem
    assert others == decode(EXCHANGE)


def test_a_pdu_longer_than_the_receiver_takes_is_read_and_told() -> None:
    """PS3.8 D.1.1."""
    records = decode([*EXCHANGE[:2], (True, message(STORE, DATA, longest=65536))])
    assert [one.problem for one in records if isinstance(one, Pdu)][-1] == (
        "longer than the 16384 bytes that the receiver has announced"
    )
    assert isinstance(records[-2], Message)


@pytest.mark.parametrize("chunk", [1, 3, 1000])
def test_what_is_not_dicom_is_told_with_its_first_bytes(chunk: int) -> None:
    """Once, not for each read."""
    request = b"GET / HTTP/1.1\r\nHost: example\r\n\r\n"
    [garbage, closed] = decode([(True, request)], chunk)
    assert garbage == Garbage(1, 5.0, True, "no PDU: it would have the type 47H", request[:BEGINNING])
    assert isinstance(closed, Closed)


def test_short_garbage_is_told_at_the_end() -> None:
    """It has no 16 bytes."""
    assert [one.data for one in decode([(False, b"hello, you")]) if isinstance(one, Garbage)] == [b"hello, you"]


def test_tls_is_named() -> None:
    """RFC 8446 5.1: a handshake record."""
    hello = bytes.fromhex("16030100c8010000c40303") + bytes(20)
    assert [one.reason for one in decode([(True, hello)]) if isinstance(one, Garbage)] == ["TLS: cannot be read"]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (pdv(1, 3, b"\x01\x00\x00\x00\x00\x00\x00\x00"), "element (0001,0000) in a command set"),
        (pdv(1, 2, b"DOE^JANE"), "a data set without a command set, on context 1"),
        (pdv(1, 3, c.encode(STORE)) + message(STORED), "another message begins before C-STORE-RQ has ended"),
        (pdv(1, 1, c.encode(STORE)) + message(STORED, context=3), "another message begins before its command set has"),
        (pdv(1, 3, c.encode(STORE)) + pdv(3, 2, b"DOE^JANE"), "a data set without a command set, on context 3"),
    ],
)
def test_messages_that_break_the_order_are_told(data: bytes, reason: str) -> None:
    """PS3.8 Annex E: a message is a command set and then, on the same context, its data set."""
    garbage = [one for one in decode([(True, data)]) if isinstance(one, Garbage)]
    assert garbage[0].reason.startswith(reason)
    assert not any(b"DOE" in one.data for one in garbage)


def test_an_endless_command_set_is_not_collected() -> None:
    """Limits.command_set."""
    endless = pdv(1, 1, bytes(1000)) * 200 + pdv(1, 3, b"")
    decoder = Decoder(1, limits=Limits(command_set=4096))
    garbage = [one for one in decoder.feed(True, endless, 1.0) if isinstance(one, Garbage)]
    assert [one.reason for one in garbage] == ["a command set that is not whole, or of more than 4096 bytes"]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (pdu.encode(RQ)[:4], "the connection ended within a PDU header"),
        (pdu.encode(RQ)[:-9], "the connection ended 9 bytes before the end of a PDU"),
        (pdv(1, 3, c.encode(STORE)), "the connection ended within C-STORE-RQ"),
    ],
)
def test_a_connection_that_ends_too_early_is_told(data: bytes, reason: str) -> None:
    """Before its close."""
    *_, garbage, closed = decode([(True, data)])
    assert isinstance(garbage, Garbage)
    assert garbage.reason == reason
    assert isinstance(closed, Closed)


def test_bytes_missing_in_a_data_set_leave_the_message_readable() -> None:
    """A capture with short snap length has the headers only."""
    data = message(STORE, DATA)
    decoder = Decoder(1, keep_datasets=1 << 20)
    records = [*decoder.feed(True, data[:1000], 1.0), *decoder.missing(True, 3000, 1.0)]
    records += decoder.feed(True, data[4000:], 2.0)
    assert "3000 bytes are missing in the capture" in [one.problem for one in records if isinstance(one, Pdu)]
    [stored] = [one for one in records if isinstance(one, Message)]
    assert (stored.dataset_size, stored.dataset) == (len(DATA), None)


def test_after_bytes_that_are_missing_the_next_pdu_is_searched() -> None:
    """At the beginning of a segment: there most PDUs begin."""
    decoder = Decoder(1, in_step=False)
    assert decoder.feed(True, DATA[:500], 1.0) == []
    assert any(isinstance(one, Message) for one in decoder.feed(True, message(STORED), 1.0))
    decoder.missing(True, 100_000, 2.0)
    assert decoder.feed(True, DATA[:500], 3.0) == []
    assert any(isinstance(one, Message) for one in decoder.feed(True, message(STORED), 4.0))


CHUNKS = st.lists(
    st.tuples(
        st.booleans(),
        st.one_of(
            st.binary(max_size=60),
            st.sampled_from([data for _, data in EXCHANGE if len(data) < 1000]),
            st.just(message(STORE, DATA[:600], longest=300)),
            st.binary(max_size=20).map(lambda data: struct.pack(">BxI", 4, len(data)) + data),
            st.builds(pdv, st.integers(0, 255), st.integers(0, 255), st.binary(max_size=40)),
            st.tuples(st.integers(0, 12), st.binary(max_size=90)).map(
                lambda one: struct.pack(">BxI", one[0], len(one[1])) + one[1]
            ),
        ),
    ),
    max_size=8,
)


@FEWER
@given(CHUNKS)
def test_hostile_bytes_never_raise_and_chunks_never_matter(exchange: list[tuple[bool, bytes]]) -> None:
    """What comes from the network decides what is recorded, never whether."""
    assert decode(exchange, keep=1000) == decode(exchange, 1, keep=1000)


@FEWER
@given(CHUNKS, st.integers(0, 1 << 20))
def test_hostile_captures_never_raise(exchange: list[tuple[bool, bytes]], count: int) -> None:
    """With gaps between them."""
    decoder = Decoder(1, in_step=False)
    for from_requestor, data in exchange:
        decoder.feed(from_requestor, data, 1.0)
        decoder.missing(from_requestor, count, 1.0)
    assert isinstance(decoder.end(None, "incomplete", 2.0)[-1], Closed)
