"""``dicomnet.trace.capture``: pcap and pcapng files → records."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from dicomnet.trace import reassembly
from dicomnet.trace.capture import NotACapture, read_capture
from dicomnet.trace.records import Address, Closed, Garbage, Message, Opened, Pdu, Record
from tests.trace.capture_files import (
    ACK,
    FIN,
    RST,
    SYN,
    Talk,
    enhanced,
    interface,
    linked,
    pcap,
    section,
    simple,
    tcp,
)
from tests.trace.conftest import FEWER
from tests.trace.test_decoding import DATA, EXCHANGE, STORE, STORED, decode, message


def talk(exchange: Iterable[tuple[bool, bytes]] = EXCHANGE, **options: object) -> Talk:
    """An association from SYN to FIN."""
    one = Talk(**options)  # type: ignore[arg-type]
    one.open()
    for from_requestor, data in exchange:
        one.say(from_requestor, data)
    one.close()
    return one


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., list[Record]]:
    def read_bytes(content: bytes, **options: object) -> list[Record]:
        path = tmp_path / "capture"
        path.write_bytes(content)
        return list(read_capture(path, **options))  # type: ignore[arg-type]

    return read_bytes


def ethernet(packets: Iterable[bytes], start: float = 100.0) -> list[tuple[float, bytes]]:
    return [(start + index / 1000, linked(1, packet)) for index, packet in enumerate(packets)]


def timeless(records: Iterable[Record]) -> list[Record]:
    return [replace(one, time=0.0, **({"began": 0.0} if isinstance(one, Message) else {})) for one in records]


WHOLE = [
    Opened(1, 0.0, Address("10.0.0.1", 40000), Address("10.0.0.2", 11112)),
    *timeless(decode(EXCHANGE)[:-1]),
    Closed(1, 0.0, False, "closed"),
]


@pytest.mark.parametrize("nano", [False, True], ids=["micro", "nano"])
@pytest.mark.parametrize("order", "<>")
def test_a_pcap_file_of_either_kind_is_read(read: Callable[..., list[Record]], order: str, nano: bool) -> None:
    """Both byte orders, microseconds and nanoseconds."""
    records = read(pcap(ethernet(talk().packets), order=order, nano=nano))
    assert timeless(records) == WHOLE
    assert records[0].time == 100.0
    assert records[-1].time == pytest.approx(100 + (len(talk().packets) - 2) / 1000, abs=1e-5)


@pytest.mark.parametrize("link_type", [0, 1, 101, 113, 276])
def test_link_layers(read: Callable[..., list[Record]], link_type: int) -> None:
    """Loopback, Ethernet, raw IP, both Linux cooked ones."""
    packets = [(1.0, linked(link_type, packet)) for packet in talk().packets]
    assert timeless(read(pcap(packets, link_type=link_type))) == WHOLE


def test_vlan_tags_and_ipv6(read: Callable[..., list[Record]]) -> None:
    """IEEE 802.1Q and 802.1ad; RFC 8200."""
    one = talk(client="2001:db8::1", server="2001:db8::2")
    records = read(pcap([(1.0, linked(1, packet, tags=2)) for packet in one.packets]))
    assert isinstance(records[0], Opened)
    assert records[0].requestor == Address("2001:db8::1", 40000)
    assert timeless(records)[1:] == WHOLE[1:]


@pytest.mark.parametrize("order", "<>")
def test_a_pcapng_file_with_several_sections_and_interfaces(read: Callable[..., list[Record]], order: str) -> None:
    """Each section has its own byte order and interfaces; each interface its own link type and resolution."""
    other = "<>"[order == "<"]
    packets = talk().packets
    middle = len(packets) // 2
    content = section(order) + interface(113, order, 9) + interface(1, order)
    for index, packet in enumerate(packets[:middle]):
        content += (
            enhanced(linked(113, packet), 100 * 10**9 + index, 0, order)
            if index % 2
            else enhanced(linked(1, packet), 100 * 10**6, 1, order)
        )
    content += section(other) + interface(101, other, 0x80 | 10)
    for index, packet in enumerate(packets[middle:]):
        content += enhanced(packet, 101 << 10, 0, other) if index % 2 else simple(packet, other)
    records = read(content)
    assert timeless(records) == WHOLE
    assert records[0].time == 100.0
    assert records[-1].time == 101.0


def test_segments_out_of_order_repeated_and_overlapping(read: Callable[..., list[Record]]) -> None:
    """RFC 9293 3.10.7.4; sequence numbers wrap around within this one, too."""
    one = Talk()
    one.sequences[True] = 0xFFFF_F000
    one.open()
    one.say(*EXCHANGE[0])
    one.say(*EXCHANGE[1])
    begin = one.sequences[True]
    data = EXCHANGE[2][1]
    pieces = [
        one.packet(True, ACK, data[max(0, at - 100) : at + 1400], at=begin + max(0, at - 100))
        for at in range(0, len(data), 1400)
    ]
    random.Random(5).shuffle(pieces)
    one.packets += pieces + pieces[:7]
    one.sequences[True] += len(data)
    for from_requestor, more in EXCHANGE[3:]:
        one.say(from_requestor, more)
    one.close()
    assert timeless(read(pcap(ethernet(one.packets)))) == WHOLE


def test_several_connections_at_once(read: Callable[..., list[Record]]) -> None:
    """Their numbers are in the order in which they turn out to be DICOM."""
    talks = [talk(ports=(40000 + number, 11112)) for number in range(5)]
    packets = [packet for row in zip(*(one.packets for one in talks), strict=True) for packet in row]
    records = read(pcap(ethernet(packets)))
    for number in range(1, 6):
        mine = [replace(one, connection=1) for one in records if one.connection == number]
        assert timeless(mine)[1:] == WHOLE[1:]


def test_ports_that_are_used_again_are_another_connection(read: Callable[..., list[Record]]) -> None:
    """With and without an end of the first one in the capture."""
    first, second = talk(), talk(sequences=[77, 99])
    records = read(pcap(ethernet([*first.packets[:-3], *second.packets, *first.packets])))
    ends = [(one.connection, one.how) for one in records if isinstance(one, Closed)]
    assert ends == [(1, "incomplete"), (2, "closed"), (3, "closed")]


@pytest.mark.parametrize("begins", [5, 8])
def test_a_capture_that_begins_in_mid_connection(read: Callable[..., list[Record]], begins: int) -> None:
    """It is read from the first segment on that begins with a PDU; what was negotiated is not known."""
    exchange = [*EXCHANGE[:4], *[(True, message(STORE, DATA)), (False, message(STORED))], *EXCHANGE[4:]]
    records = read(pcap(ethernet(talk(exchange).packets[begins:])))
    assert isinstance(records[0], Opened)
    assert records[0].acceptor.port == 11112
    assert isinstance(records[1], Garbage)
    assert records[1].reason == "the capture begins in mid-connection"
    messages = [one for one in records if isinstance(one, Message)]
    assert messages[-2].dataset_size == len(DATA)
    assert messages[-2].transfer_syntax == ""
    assert isinstance(records[-1], Closed)
    assert records[-1].how == "closed"


def test_a_segment_that_the_capture_has_lost(read: Callable[..., list[Record]]) -> None:
    """The receiver has acknowledged it; the message is still seen, and that something is missing is told."""
    packets = talk().packets
    del packets[14]
    records = read(pcap(ethernet(packets)), keep_datasets=1 << 20)
    assert "1460 bytes are missing in the capture" in [one.problem for one in records if isinstance(one, Pdu)]
    stored, answer = (one for one in records if isinstance(one, Message))
    assert (stored.dataset_size, stored.dataset, answer.from_requestor) == (len(DATA), None, False)


def test_a_capture_with_a_short_snap_length(read: Callable[..., list[Record]]) -> None:
    """The headers and the first bytes of each packet; PDUs end where they ended."""
    exchange = [*EXCHANGE[:2], (True, message(STORE, DATA[:5000])), *EXCHANGE[3:]]
    packets = [linked(1, packet)[:300] for packet in talk(exchange).packets]
    records = read(pcap([(1.0, packet) for packet in packets]))
    assert [one.type for one in records if isinstance(one, Pdu)] == [1, 2, 4, 4, 4, 5, 6]
    assert [one.dataset_size for one in records if isinstance(one, Message)] == [5000, None]


def test_an_end_that_is_not_in_the_capture_is_incomplete(read: Callable[..., list[Record]]) -> None:
    """Who was to close is not known."""
    records = read(pcap(ethernet(talk().packets[:-3])))
    assert timeless(records)[-1] == Closed(1, 0.0, None, "incomplete")


def test_a_reset(read: Callable[..., list[Record]]) -> None:
    """By whom, and what was under way."""
    one = Talk()
    one.open()
    one.say(*EXCHANGE[0])
    one.say(False, EXCHANGE[1][1][:-5])
    one.put(False, RST)
    *_, garbage, closed = read(pcap(ethernet(one.packets)))
    assert isinstance(garbage, Garbage)
    assert garbage.reason == "the connection ended 5 bytes before the end of a PDU"
    assert timeless([closed]) == [Closed(1, 0.0, False, "reset")]


WEB = [(True, b"GET / HTTP/1.1\r\nHost: example\r\n\r\n"), (False, b"HTTP/1.1 200 OK\r\n\r\n" + DATA)]


def test_dicom_is_told_by_content(read: Callable[..., list[Record]]) -> None:
    """Other protocols are no part of it, whatever their port."""
    others = [talk(WEB, ports=(50000, 11112)), talk([(True, DATA)], ports=(50001, 104)), talk([], ports=(5, 104))]
    packets = [packet for one in others for packet in one.packets]
    assert timeless(read(pcap(ethernet([*packets, *talk(ports=(40000, 11112)).packets])))) == WHOLE


def test_with_ports_all_connections_to_them_are_told(read: Callable[..., list[Record]]) -> None:
    """Even those that are no DICOM, for that is what is wrong then."""
    content = pcap(ethernet([*talk(WEB, ports=(50000, 104)).packets, *talk().packets]))
    records = read(content, ports={104})
    assert [one.reason for one in records if isinstance(one, Garbage)] == [
        "no PDU: it would have the type 47H",
        "no PDU: it would have the type 48H",
    ]
    assert {one.connection for one in records} == {1}
    assert isinstance(records[-1], Closed)


@pytest.mark.parametrize("content", [b"", b"DICM", b"\x0a\x0d\x0d\x0a\x1c\0\0\0zzzz", b"\xa1\xb2\xc3\xd4\0\0"])
def test_what_is_no_capture_file_is_refused(read: Callable[..., list[Record]], content: bytes) -> None:
    """With the file's name."""
    with pytest.raises(NotACapture, match="capture "):
        read(content)


def test_link_types_that_cannot_be_read_are_an_error(read: Callable[..., list[Record]]) -> None:
    """105: IEEE 802.11."""
    with pytest.raises(NotACapture, match="link type 105"):
        read(pcap([(1.0, bytes(50))], link_type=105))


@pytest.mark.parametrize("cut", [1, 9, 30])
def test_a_file_that_was_cut_off_is_read_up_to_there(
    read: Callable[..., list[Record]], caplog: pytest.LogCaptureFixture, cut: int
) -> None:
    """As a capture that was killed leaves it."""
    records = read(pcap(ethernet(talk().packets))[:-cut])
    assert timeless(records) == WHOLE
    assert "cut off at byte" in caplog.text


def test_memory_is_bounded_although_a_segment_never_comes() -> None:
    """What waits for it is bounded on all connections together; then there is a gap."""
    budget = reassembly.Budget(1 << 16)
    direction = reassembly.Direction(budget)
    direction.synchronise(0)
    stretches = []
    for number in range(1, 500):
        stretches += direction.take(1 + number * 1000, 1000, memoryview(bytes(1000)), fin=False)
        assert budget.held <= 1 << 16
    assert stretches[0] == 1000
    direction.release()
    assert budget.held == 0


PACKETS = talk([(True, EXCHANGE[0][1]), (False, EXCHANGE[1][1]), (True, message(STORE, DATA[:900]))]).packets


@FEWER
@given(st.data())
def test_hostile_files_never_raise(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Bytes changed, cut out and put in anywhere, in packets and in what is around them."""
    flags = st.sampled_from([0, ACK, SYN, FIN | ACK, RST, SYN | ACK])
    strange = st.builds(tcp, st.just(40000), st.just(11112), st.integers(0, 2**32 - 1), st.just(0), flags, st.binary())
    packets = [*data.draw(st.permutations(PACKETS)), Talk().packet(True, 0)[:20] + data.draw(strange)]
    build = data.draw(st.sampled_from(["pcap", "pcapng"]))
    if build == "pcap":
        content = pcap(ethernet(packets))
    else:
        content = section() + interface() + b"".join(enhanced(linked(1, one), 5) for one in packets)
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(0, 6))):
        at = data.draw(st.integers(0, len(changed) - 1))
        changed[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    path = tmp_path_factory.getbasetemp() / "hostile"
    path.write_bytes(changed)
    try:
        records = list(read_capture(path))
    except NotACapture:
        return
    opened = [one.connection for one in records if isinstance(one, Opened)]
    closed = [one.connection for one in records if isinstance(one, Closed)]
    assert sorted(opened) == sorted(closed) == list(range(1, len(opened) + 1))
