"""Bounds-checked fields (PS3.8 9.3.1, W6): reading stops where the field does, not where the buffer does."""

from collections.abc import Callable

import pytest
from hypothesis import given, strategies as st

from dicomnet.errors import AbortReason
from dicomnet.ul import wire
from dicomnet.ul.wire import Cursor, InvalidPdu

READS = {
    1: [Cursor.u8, lambda cursor: cursor.skip(1), lambda cursor: cursor.take(1), lambda cursor: cursor.sub(1)],
    2: [Cursor.u16],
    4: [Cursor.u32, Cursor.item],
}


def test_numbers_are_read_in_big_endian_order() -> None:
    """9.3.1: the most significant byte comes first."""
    cursor = Cursor(bytes.fromhex("01 0203 04050607"))
    assert (cursor.u8(), cursor.u16(), cursor.u32()) == (0x01, 0x0203, 0x04050607)
    cursor.finish()


def test_numbers_are_written_in_big_endian_order() -> None:
    """9.3.1: the most significant byte comes first."""
    assert wire.u8(1) + wire.u16(0x0203) + wire.u32(0x04050607) == bytes.fromhex("01 0203 04050607")
    assert wire.counted(b"abc") == b"\0\3abc"
    assert wire.item(0x52, b"1.2") == b"\x52\0\0\x031.2"


@pytest.mark.parametrize("write", [lambda: wire.u8(256), lambda: wire.u16(-1), lambda: wire.counted(bytes(0x10000))])
def test_a_number_too_large_for_its_field_is_not_written(write: Callable[[], bytes]) -> None:
    """9.3.1: fields have fixed sizes."""
    with pytest.raises(OverflowError):
        write()


@pytest.mark.parametrize(("size", "read"), [(size, read) for size, reads in READS.items() for read in reads])
def test_nothing_is_read_beyond_the_end(size: int, read: Callable[[Cursor], object]) -> None:
    """W6: the end is the item's, although the buffer goes on; a read that fails moves nothing."""
    cursor = Cursor(bytes(20), 5, 5 + size - 1)
    with pytest.raises(InvalidPdu) as caught:
        read(cursor)
    assert caught.value.reason == AbortReason.INVALID_PARAMETER_VALUE
    assert cursor.position <= cursor.end
    read(Cursor(bytes(20), 5, 5 + size))


def test_an_item_gives_its_type_and_a_cursor_over_its_value() -> None:
    """9.3.2.1: type, reserved, length, value; what follows is the next one's."""
    cursor = Cursor(b"\x52\xff\0\x031.2\x55\0\0\0")
    kind, value = cursor.item()
    assert (kind, value.rest()) == (0x52, b"1.2")
    assert not value
    assert cursor
    kind, value = cursor.item()
    assert (kind, value.rest()) == (0x55, b"")
    assert not cursor


def test_a_nested_item_cannot_overrun_the_one_around_it() -> None:
    """W6: nested overruns, though the bytes would be there."""
    outer = wire.item(0x20, b"\x30\0\0\x0c1.2.3") + b"1.2.3.4.5.6"
    _, value = Cursor(outer).item()
    with pytest.raises(InvalidPdu, match="12 bytes announced at offset 8, 5 are there"):
        value.item()


def test_bytes_left_over_are_found() -> None:
    """W6: trailing bytes."""
    cursor = Cursor(b"\1\2\3")
    cursor.u8()
    with pytest.raises(InvalidPdu, match="2 bytes too many at offset 1"):
        cursor.finish()


@given(st.binary(max_size=40), st.lists(st.sampled_from(["u8", "u16", "u32", "item", "rest"]) | st.integers(0, 50)))
def test_no_reading_passes_the_end(data: bytes, reads: list[str | int]) -> None:
    """W6: any reads from any bytes give what is there or InvalidPdu."""
    cursor = Cursor(data)
    try:
        for read in reads:
            if isinstance(read, int):
                assert len(cursor.take(read)) == read
            else:
                getattr(cursor, read)()
    except InvalidPdu:
        pass
    assert 0 <= cursor.position <= cursor.end == len(data)
