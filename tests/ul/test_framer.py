"""Bytes in, PDUs and pieces of P-DATA out; a message in, P-DATA-TF PDUs out (PS3.8 9.3.5, D.1, Annex E)."""

import struct
import tracemalloc

import pytest
from hypothesis import example, given, strategies as st

from dicomnet.config import MAX_PDU_LENGTH, Limits
from dicomnet.ul import framer, pdu
from dicomnet.ul.framer import Fragment, Framer, batches, fragment_length
from dicomnet.ul.pdu import PDataTf, Pdv
from dicomnet.ul.wire import InvalidPdu
from tests.ul import strategies
from tests.ul.dialogue import AC, P_DATA, RELEASE_RQ, RQ, framed, merged

LIMITS = Limits()
LENGTHS = [0, 1, 3, 5, 1 << 31, (1 << 32) - 1]


def header(kind: int, length: int) -> bytes:
    return struct.pack(">BxI", kind, length)


def fragments_of(value: PDataTf) -> list[Fragment]:
    return [Fragment(pdv.context_id, int(pdv.is_command), pdv.is_last, pdv.data) for pdv in value.pdvs]


# --- in -------------------------------------------------------------------------------------------------------------


def test_p_data_is_handed_on_as_views_of_what_arrived() -> None:
    """9.3.5: each piece as it comes, none of it copied."""
    data = pdu.encode(PDataTf((Pdv(1, True, False, b"abcd"), Pdv(1, True, True, b"ef"))))
    for first in (pdu.encode(P_DATA), data):
        for fragment in Framer(0, LIMITS).receive(first):
            assert fragment.data.obj is first
    assert [(bytes(piece.data), piece.is_last) for piece in Framer(0, LIMITS).receive(data)] == [
        (b"abcd", False),
        (b"ef", True),
    ]


def test_the_last_piece_of_the_last_fragment_is_the_last() -> None:
    """E.2: bit 1 of the message control header is about the whole fragment, not about its pieces."""
    it = Framer(0, LIMITS)
    data = pdu.encode(P_DATA)
    assert it.receive(data[:14]) == [Fragment(1, 1, False, b"ec")]
    assert it.receive(data[14:]) == [Fragment(1, 1, True, b"ho")]


@pytest.mark.parametrize("is_command", [True, False])
def test_an_empty_last_fragment_ends_a_message(is_command: bool) -> None:
    """N-20: legal, alone in its PDU or behind others."""
    empty = Pdv(3, is_command, True, b"")
    for value in (PDataTf((empty,)), PDataTf((Pdv(3, is_command, False, b"abcd"), empty))):
        assert Framer(0, LIMITS).receive(pdu.encode(value)) == fragments_of(value)


@pytest.mark.parametrize("control", [0xFC, 0xFD, 0xFE, 0xFF])
@pytest.mark.parametrize("cut", [5, 18])
def test_only_two_bits_of_the_message_control_header_count(control: int, cut: int) -> None:
    """N-19, P4: bits 2–7 are not tested, on the short way and on the long one."""
    data = b"\4\0\0\0\0\x08\0\0\0\4\1" + bytes((control,)) + b"ab"
    expected = [Fragment(1, control & 1, control & 2 != 0, b"ab")]
    assert framed(0, [data[:cut], data[cut:]]) == expected


def test_it_tells_how_much_of_a_fragment_is_still_to_come() -> None:
    """9.3.5.1: the item length counts the context ID and the message control header, too."""
    it = Framer(0, LIMITS)
    it.receive(b"\4\0\0\0\0\x0a\0\0\0\6\1\2ab")
    assert it.fragment_left == 2
    it.receive(b"cd")
    assert it.fragment_left == 0


def test_reserved_fields_are_not_tested() -> None:
    """N-08: the second byte of a header."""
    data = pdu.encode(P_DATA)
    assert framed(0, [b"\4\xff" + data[2:]]) == framed(0, [data])


@given(st.lists(strategies.pdus, max_size=5), st.data())
def test_any_segments_give_the_same_pdus(values: list[pdu.Pdu], data: st.DataObject) -> None:
    """9.3.1: a stream has no segments: whole, byte by byte, or cut anywhere."""
    stream = b"".join(map(pdu.encode, values))
    whole = framed(0, [stream])
    assert framed(0, [stream[at : at + 1] for at in range(len(stream))]) == whole
    assert framed(0, data.draw(strategies.chunkings(stream))) == whole

    expected: list = []
    for value in values:
        expected += fragments_of(value) if isinstance(value, PDataTf) else [pdu.encode(value)]
    assert whole == merged(expected)


@given(strategies.streams, st.sampled_from([0, 8, 64, MAX_PDU_LENGTH]), st.data())
@example(pdu.encode(RQ) + b"\x08" + bytes(20), 0, None)
def test_any_segments_of_any_bytes_give_the_same(stream: bytes, max_length: int, data: st.DataObject | None) -> None:
    """W6: also when the stream is damaged, and wherever it is."""
    whole = framed(max_length, [stream])
    assert framed(max_length, [stream[at : at + 1] for at in range(len(stream))]) == whole
    if data:
        assert framed(max_length, data.draw(strategies.chunkings(stream))) == whole


@given(strategies.streams, st.data())
def test_no_more_is_held_than_has_arrived(stream: bytes, data: st.DataObject) -> None:
    """§3: nothing is allocated because a peer announced a length; P-DATA is not held at all."""
    it = Framer(0, LIMITS)
    arrived = handed_on = 0
    for chunk in data.draw(strategies.chunkings(stream)):
        arrived += len(chunk)
        for frame in it.receive(chunk):
            handed_on += len(getattr(frame, "data", b"") if isinstance(frame, Fragment | InvalidPdu) else frame)
        assert len(it._pdu) + len(it._header) + handed_on <= arrived


@given(st.lists(strategies.pdus, min_size=1, max_size=4), st.data())
def test_it_knows_whether_a_pdu_is_under_way_and_whether_it_is_another_one(values: list, data: st.DataObject) -> None:
    """§3, PDU completion: from a PDU's first byte to its last."""
    it = Framer(0, LIMITS)
    ends = [0]
    for value in values:
        ends.append(ends[-1] + len(pdu.encode(value)))
    position = 0
    under_way: dict[int, int] = {}  # PDU → what told it from others
    for chunk in data.draw(strategies.chunkings(b"".join(map(pdu.encode, values)))):
        it.receive(chunk)
        position += len(chunk)
        assert it.mid_pdu == (position not in ends)
        if it.mid_pdu:
            which = sum(end <= position for end in ends)
            assert under_way.setdefault(which, it.pdus_begun) == it.pdus_begun
    assert len(set(under_way.values())) == len(under_way)


def test_announced_lengths_allocate_nothing() -> None:
    """§3, W4: 4 GiB announced and two bytes sent take next to nothing."""
    tracemalloc.start()
    try:
        framers = [Framer(0, Limits(associate_length=0xFFFFFFFF)) for _ in range(3)]
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        for it, kind in zip(framers, (1, 2, 4), strict=True):
            it.receive(header(kind, 0xFFFFFFFF) + b"\xff\xff")
        assert tracemalloc.get_traced_memory()[1] - before < 16384
    finally:
        tracemalloc.stop()
    assert all(it.mid_pdu for it in framers)


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("kind", range(1, 8))
def test_a_length_that_cannot_be_right_is_refused_from_the_header_alone(kind: int, length: int) -> None:
    """W4, N-15: lengths 0, 1, 3, 5, 2³¹, 2³²−1 for each type: reason 6, without waiting for what was announced."""
    assert framed(MAX_PDU_LENGTH, [header(kind, length)]) == [6]
    assert framed(MAX_PDU_LENGTH, [header(kind, length) + bytes(20)]) == [6]


@pytest.mark.parametrize("kind", [3, 5, 6, 7])
def test_the_short_pdus_have_length_4(kind: int) -> None:
    """N-15: RJ, RELEASE and ABORT."""
    assert framed(0, [header(kind, 4) + bytes(4)]) == [header(kind, 4) + bytes(4)]
    assert framed(0, [header(kind, 68) + bytes(68)]) == [6]


@pytest.mark.parametrize("kind", [1, 2])
def test_a_request_over_the_limit_is_refused_from_the_header_alone(kind: int) -> None:
    """W5: over 1 MiB."""
    assert framed(0, [header(kind, 1 << 20)]) == []
    assert framed(0, [header(kind, (1 << 20) + 1)]) == [6]
    assert framed(0, [header(kind, 67)]) == [6]
    assert framed(0, [header(kind, 101)], Limits(associate_length=100)) == [6]


@pytest.mark.parametrize("kind", [0, 8, 0x16, 0x47, 0x53, 0x99, 0xFF])
def test_a_type_that_there_is_not_is_refused_from_the_header_alone(kind: int) -> None:
    """W1, W2: reason 1, whatever the length."""
    for length in (*LENGTHS, 4, 100):
        assert framed(0, [header(kind, length)]) == [1]


@pytest.mark.parametrize("max_length", [8, 16, 4096, MAX_PDU_LENGTH, 1 << 20])
def test_p_data_longer_than_announced_is_refused_from_the_header_alone(max_length: int) -> None:
    """N-17: the variable field counts; more than ours is a protocol error."""
    most = header(4, max_length) + struct.pack(">IBB", max_length - 4, 1, 0)
    assert framed(max_length, [most, bytes(max_length - 6)]) == [Fragment(1, 0, False, bytes(max_length - 6))]
    assert framed(max_length, [most + bytes(max_length - 6)]) == [Fragment(1, 0, False, bytes(max_length - 6))]
    more = header(4, max_length + 1) + struct.pack(">IBB", max_length - 3, 1, 0)
    assert framed(max_length, [more[:6]]) == [6]
    assert framed(max_length, [more + bytes(max_length)]) == [6]


def test_without_a_maximum_p_data_of_any_length_is_taken() -> None:
    """N-17: 0 is unlimited, for it is streamed."""
    it = Framer(0, LIMITS)
    assert it.receive(header(4, 0xFFFFFFFF) + struct.pack(">IBB", 0xFFFFFFFB, 1, 0) + b"abc") == [
        Fragment(1, 0, False, b"abc")
    ]
    assert it.mid_pdu


@pytest.mark.parametrize(
    ("p_data_length", "pdv_length"),
    [(6, 0), (6, 1), (6, 3), (10, 7), (20, 0xFFFFFFFF), (20, 15), (20, 11), (20, 14)],
)
def test_a_pdv_that_cannot_be_right_is_refused_from_its_header(p_data_length: int, pdv_length: int) -> None:
    """P1: length 0, 1, overrun, 2³²−1, and what leaves too little for another one."""
    start = header(4, p_data_length) + struct.pack(">IBB", pdv_length, 1, 3)
    assert framed(0, [start]) == [6]
    assert framed(0, [start[:8], start[8:] + bytes(20)]) == [6]


def test_a_later_pdv_is_checked_as_the_first_one_is() -> None:
    """P1: what came before it has been handed on."""
    first = struct.pack(">IBB", 4, 1, 0) + b"ab"
    data = header(4, 2 * len(first)) + first + struct.pack(">IBB", 5, 1, 0) + b"ab"
    assert framed(0, [data]) == [Fragment(1, 0, False, b"ab"), 6]


def test_behind_what_is_wrong_nothing_means_anything() -> None:
    """W1: nothing more is read, and nothing is under way."""
    it = Framer(0, LIMITS)
    (wrong,) = it.receive(b"GET / HTTP/1.1\r\n\r\n" + pdu.encode(RQ))
    assert (type(wrong), wrong.reason) == (InvalidPdu, 1)
    assert it.receive(pdu.encode(RELEASE_RQ)) == []
    assert not it.mid_pdu


# --- out ------------------------------------------------------------------------------------------------------------

# Both sides of each length at which something changes: two headers, one, none; the parity; our own length.
EDGES = [8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 100, 101, 128 * 1024 - 1, 128 * 1024, 128 * 1024 + 1, 0xFFFFFFFF, 0]


def sent_as(context_id: int, command: bytes, data: bytes | None, peer_max_length: int) -> list[bytes]:
    """A message's PDUs."""
    view = None if data is None else memoryview(data)
    stream = b"".join(b"".join(batch) for batch in batches(context_id, command, view, peer_max_length))
    pdus = []
    while stream:
        after = 6 + int.from_bytes(stream[2:6], "big")
        pdus.append(stream[:after])
        stream = stream[after:]
    return pdus


@given(
    strategies.context_ids,
    st.binary(max_size=100),
    st.none() | st.binary(max_size=300),
    st.sampled_from(EDGES) | st.integers(8, 400),
    st.data(),
)
def test_a_message_arrives_as_it_was_sent(
    context_id: int, command: bytes, data: bytes | None, peer_max_length: int, chunks: st.DataObject
) -> None:
    """N-17, N-18: no PDU exceeds the peer's maximum length, however small; one context; even fragments."""
    pdus = sent_as(context_id, command, data, peer_max_length)
    values = [pdu.decode(encoded) for encoded in pdus]

    assert all(len(encoded) - 6 <= (peer_max_length or 0xFFFFFFFF) for encoded in pdus)
    assert all(len(value.pdvs) == 1 for value in values)
    for value in values:
        (pdv,) = value.pdvs
        assert pdv.context_id == context_id
        assert len(pdv.data) % 2 == 0
    last = [pdv.is_command for value in values for pdv in value.pdvs if pdv.is_last]
    assert last == ([True] if data is None else [True, False])

    expected = [Fragment(context_id, 1, True, even(command))]
    if data is not None:
        expected.append(Fragment(context_id, 0, True, even(data)))
    stream = b"".join(pdus)
    assert framed(peer_max_length, [stream]) == expected
    assert framed(peer_max_length, chunks.draw(strategies.chunkings(stream))) == expected


def even(data: bytes) -> bytes:
    """With a NUL behind it if need be (PS3.5 A.5)."""
    return data + b"\0" * (len(data) % 2)


@pytest.mark.parametrize("size", [0, 1, 9, 10, 11, 12, 99])
@pytest.mark.parametrize("peer_max_length", [16, 17, 0])
def test_an_odd_length_is_made_even_within_the_peers_maximum(size: int, peer_max_length: int) -> None:
    """N-17, N-18: each fragment even, the last one too, and none too long for it."""
    pdus = sent_as(1, b"", b"\xff" * size, peer_max_length)
    assert all(len(encoded) - 6 <= (peer_max_length or 0xFFFFFFFF) for encoded in pdus)
    assert all(len(encoded) % 2 == 0 for encoded in pdus)
    assert framed(peer_max_length, pdus)[1] == Fragment(1, 0, True, even(b"\xff" * size))


@pytest.mark.parametrize("size", [0, 1, 9, 10, 11, 12, 99])
def test_an_odd_length_is_kept_for_those_who_know(size: int) -> None:
    """N-18: only where both ends are ours."""
    data = bytes(size)
    kept = batches(1, b"", memoryview(data), 16, keep_odd=True)
    assert framed(16, [b"".join(b"".join(batch) for batch in kept)])[1] == Fragment(1, 0, True, data)


@pytest.mark.parametrize("control", range(4))
def test_the_headers_of_a_pdu_with_one_fragment(control: int) -> None:
    """9.3.5, E.2: both lengths, context, message control header."""
    head = framer.p_data_header(255, control, 3)
    assert pdu.decode(head + b"abc") == PDataTf((Pdv(255, bool(control & 1), bool(control & 2), b"abc"),))


@pytest.mark.parametrize("peer_max_length", EDGES)
def test_a_pdu_is_as_long_as_it_may_be(peer_max_length: int) -> None:
    """N-17, N-18: the longest even fragment that fits, and no longer than what we send to anybody."""
    length = fragment_length(peer_max_length)
    most = min(peer_max_length or framer.SEND_LENGTH, framer.SEND_LENGTH)
    assert length % 2 == 0
    assert most - 1 <= length + 6 <= most


@pytest.mark.parametrize("extra", [-2, 0, 2])
@pytest.mark.parametrize("peer_max_length", EDGES)
def test_a_data_set_of_about_one_fragment_takes_one_or_two(peer_max_length: int, extra: int) -> None:
    """N-18, N-20: both sides of the length at which a second fragment begins; no empty one behind a full one."""
    size = fragment_length(peer_max_length) + extra
    sizes = [len(pdu.decode(encoded).pdvs[0].data) for encoded in sent_as(1, b"ab", bytes(size), peer_max_length)][1:]
    assert sizes == ([size] if extra <= 0 else [size - extra, extra])


def test_an_empty_data_set_is_an_empty_last_fragment() -> None:
    """N-20."""
    assert pdu.decode(sent_as(1, b"ab", b"", 0)[1]) == PDataTf((Pdv(1, False, True, b""),))


def test_the_callers_buffers_go_out_uncopied_in_lists_of_bounded_length() -> None:
    """Architecture: header bytes and views of the caller's own buffers, each list fit for one system call."""
    data = bytearray(2 << 20)
    for peer_max_length in (64, 16384, 0):
        for batch in batches(1, b"ab", memoryview(data), peer_max_length):
            assert 0 < len(batch) <= 1024
            assert sum(map(len, batch)) <= (256 + 128) * 1024 + 12 * len(batch)
            assert all(view.obj is data or bytes(view) == b"ab" for view in batch[1::2])


def test_the_next_batch_is_made_when_it_is_wanted() -> None:
    """§3, back-pressure: a large data set is not cut up before it can go out."""
    wanted = batches(1, b"ab", memoryview(bytes(64 << 20)), 16384)
    tracemalloc.start()
    try:
        next(wanted)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_two_pdus_in_a_row_are_two_pdus() -> None:
    """9.3.1: also if the second one begins in the segment of the first."""
    assert framed(0, [pdu.encode(RQ) + pdu.encode(AC)[:3], pdu.encode(AC)[3:]]) == [pdu.encode(RQ), pdu.encode(AC)]
