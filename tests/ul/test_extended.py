"""What SOP class extended negotiation says (PS3.4 B.3.1, C.5, K.5): values to bytes, questions to answers."""

import pytest
from hypothesis import given, strategies as st

from dicomnet.ul.extended import ExtendedQuery, ExtendedRetrieve, ExtendedStorage

FLAGS = [ExtendedQuery, ExtendedRetrieve]
VALUES = (
    st.builds(ExtendedQuery, *[st.booleans()] * 7)
    | st.builds(ExtendedRetrieve, *[st.booleans()] * 2)
    | st.builds(ExtendedStorage, *[st.integers(0, 3)] * 3)
)


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (ExtendedQuery(), "00"),
        (ExtendedQuery(relational=True), "01"),
        (ExtendedQuery(combined_datetime=True), "0001"),
        (ExtendedQuery(relational=True, combined_datetime=True, fuzzy=True, timezone=True), "01010101"),
        (ExtendedQuery(multiframe=True, empty_value=True, multiple_value=True), "00000000010101"),
        (ExtendedRetrieve(relational=True), "01"),
        (ExtendedRetrieve(multiframe=True), "0001"),
        (ExtendedStorage(), "020000000000"),
        (ExtendedStorage(level=1, signatures=3, coercion=1), "010003000100"),
    ],
    ids=str,
)
def test_the_bytes_are_those_of_the_standard(value: ExtendedQuery | ExtendedStorage, encoded: str) -> None:
    """PS3.4 Tables C.5-1, C.5-3, B.3-1; no longer than needed, because older systems expect one byte (C.5.1.1)."""
    assert bytes(value).hex() == encoded


@given(VALUES)
def test_a_value_survives_encoding(value: ExtendedQuery | ExtendedRetrieve | ExtendedStorage) -> None:
    """PS3.4 B.3.1, C.5."""
    assert type(value).decode(bytes(value)) == value


@pytest.mark.parametrize(
    ("mine", "asked", "answer"),
    [
        (ExtendedQuery(relational=True), b"\1", b"\1"),
        (ExtendedQuery(relational=True), b"\0", b"\0"),
        (ExtendedQuery(), b"\1", b"\0"),
        (ExtendedQuery(relational=True, fuzzy=True), b"\1", b"\1"),  # one byte gets one byte
        (ExtendedQuery(relational=True, fuzzy=True), b"\1\1\1\1", b"\1\0\1\0"),
        (ExtendedQuery(*[True] * 7), b"\1" * 9, b"\1" * 7),  # what a later edition may add is not answered
        (ExtendedRetrieve(relational=True, multiframe=True), b"\1\2", b"\1\0"),  # a value that nobody defined
        (ExtendedRetrieve(relational=True), b"", b"\0"),
        (ExtendedStorage(level=1), b"\3\0\0\0\2\0", b"\1\0\0\0\0\0"),  # each side describes itself
    ],
)
def test_an_answer_grants_what_was_asked_for_and_is_supported(
    mine: ExtendedQuery | ExtendedStorage, asked: bytes, answer: bytes
) -> None:
    """PS3.4 C.5.1.1, C.5.2.1, B.3.1.2."""
    assert mine.answer(asked) == answer


@given(st.binary(max_size=20))
def test_any_bytes_can_be_read_and_answered(data: bytes) -> None:
    """W6: they come from the network."""
    for kind in (ExtendedQuery, ExtendedRetrieve, ExtendedStorage):
        assert bytes(kind.decode(data))
        assert 1 <= len(kind().answer(data)) <= 7
