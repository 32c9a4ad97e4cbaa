"""Command sets (PS3.7 6.3, Annex E): bytes that follow the rules go out, any bytes may come in."""

import contextlib
import struct

import pytest
from hypothesis import given, strategies as st

from dicomnet.dimse import command as c, messages
from dicomnet.dimse.command import InvalidCommand
from tests.dimse import strategies


def element(number: int, value: bytes, *, group: int = 0, length: int | None = None) -> bytes:
    return struct.pack("<HHI", group, number, len(value) if length is None else length) + value


def elements_in(encoded: bytes) -> list[tuple[int, bytes]]:
    """Read as the standard says, by nothing of ours: implicit VR little endian, group 0 alone."""
    found, position = [], 0
    while position < len(encoded):
        group, number, length = struct.unpack_from("<HHI", encoded, position)
        assert group == 0
        found.append((number, encoded[position + 8 : position + 8 + length]))
        position += 8 + length
    assert position == len(encoded)
    return found


@given(strategies.messages)
def test_an_encoded_command_set_is_as_the_standard_wants_it(message):
    """N-21 (PS3.7 6.3.1): implicit little endian, ascending, with the right group length, each value even."""
    encoded = messages.encode(message)
    elements = elements_in(encoded)
    numbers = [number for number, _value in elements]
    assert numbers == sorted(set(numbers))
    assert elements[0] == (0, struct.pack("<I", len(encoded) - 12))
    assert all(len(value) % 2 == 0 for _number, value in elements)


@given(strategies.messages)
def test_the_data_set_type_tells_whether_a_data_set_follows(message):
    """N-22 (PS3.7 E.1): (0000,0800) is 0101H if and only if no data set follows."""
    data_set_type = dict(elements_in(messages.encode(message)))[c.DATA_SET_TYPE]
    assert (data_set_type == b"\x01\x01") == (not message.has_dataset)


@given(st.binary(max_size=200))
def test_random_bytes_raise_nothing_but_invalid_command(data):
    """P8: garbage."""
    with contextlib.suppress(InvalidCommand):
        c.decode(data)


@given(strategies.messages, st.data())
def test_damaged_command_sets_raise_nothing_but_invalid_command(message, data):
    """P8: nearly right, down to the message."""
    encoded = bytearray(messages.encode(message))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(encoded)))
        encoded[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    with contextlib.suppress(InvalidCommand):
        messages.decode(bytes(encoded))


@pytest.mark.parametrize(
    ("data", "wrong"),
    [
        (b"\0" * 7, "7 bytes of an element header"),
        (element(0x0002, b"1.2\0", group=8), r"\(0008,0002\) in a command set"),
        (element(0x0002, b"1.2\0", length=5), "announces 5 bytes, 4 are there"),
        (element(0x0110, b"\1\0") * 2, r"\(0000,0110\) is there twice"),
        (struct.pack("<HH2sH", 0, 0x0110, b"US", 2) + b"\1\0", "announces"),  # explicit VR
    ],
)
def test_what_is_no_command_set_is_refused(data, wrong):
    """P8."""
    with pytest.raises(InvalidCommand, match=wrong):
        c.decode(data)


def test_order_and_group_length_of_what_comes_do_not_matter():
    """P8: without group length, and not ascending."""
    data = element(0x0800, b"\1\1") + element(0x0100, b"\x30\0") + element(0x0110, b"\7\0")
    assert c.decode(data) == {0x0800: 0x0101, 0x0100: 0x30, 0x0110: 7}
    assert c.decode(element(0, b"\xff\xff\0\0") + data)[0] == 0xFFFF


def test_values_come_without_their_padding_and_unknown_ones_as_bytes():
    """PS3.7 E.1, PS3.5 6.2; retired elements (E.2) are kept as they are."""
    data = b"".join(
        (
            element(0x0002, b"1.2.3\0"),
            element(0x0600, b" AE  "),
            element(0x0902, b" why "),
            element(0x0901, b"\x10\0\x20\0\x28\0\x10\0"),
            element(0x4000, b"retired "),
        )
    )
    assert c.decode(data) == {
        0x0002: "1.2.3",
        0x0600: "AE",
        0x0902: "why",
        0x0901: (0x00100020, 0x00280010),
        0x4000: b"retired ",
    }


@pytest.mark.parametrize("number", [0x0000, 0x0110, 0x0901])
def test_a_value_that_does_not_fit_its_vr_stays_bytes(number):
    """P8, wrong type: who needs the value finds that it is none."""
    assert c.decode(element(number, b"abc"))[number] == b"abc"


class Uid(str):
    """As pydicom's UID is one."""


def test_bytes_and_subclasses_of_str_are_encoded_as_they_are():
    """What was decoded can be encoded again."""
    elements = {0x0002: Uid("1.2.3"), 0x4000: b"abcd"}
    assert elements_in(c.encode(elements))[1:] == [(0x0002, b"1.2.3\0"), (0x4000, b"abcd")]


@pytest.mark.parametrize(
    "elements",
    [{0x0110: 0x10000}, {0x0700: -1}, {0x0901: (1 << 32,)}, {0x0901: (-1,)}, {0x1005: (0x00100010, 1 << 40)}],
)
def test_a_value_out_of_range_is_refused(elements):
    """PS3.5 6.2: US has 16 bits, a tag 32."""
    with pytest.raises(ValueError, match=r"\(0000,"):
        c.encode(elements)
