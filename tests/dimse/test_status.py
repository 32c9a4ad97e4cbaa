"""Statuses (PS3.7 Annex C; PS3.4 B.2.3, C.4)."""

import copy
import pickle

import pytest
from hypothesis import given, strategies as st

from dicomnet.dimse.messages import CommandField, Response
from dicomnet.dimse.status import Status
from dicomnet.errors import StatusError


@given(st.integers(0, 0xFFFF))
def test_every_16_bit_number_is_a_status_of_exactly_one_kind(number):
    """PS3.7 C.1 to C.5."""
    status = Status(number)
    assert status == number
    assert hash(status) == hash(number)
    kinds = [status.is_success, status.is_pending, status.is_cancel, status.is_warning, status.is_failure]
    assert kinds.count(True) == 1
    assert f"{number:04X}" in str(status)
    assert status.meaning() in repr(status)
    assert pickle.loads(pickle.dumps(status)) == copy.copy(status) == status


@pytest.mark.parametrize("value", [-1, 0x10000, "0000", None])
def test_what_is_no_16_bit_number_is_no_status(value):
    """PS3.7 E.1: US."""
    with pytest.raises(ValueError, match="not a valid Status"):
        Status(value)


@pytest.mark.parametrize(
    ("kind", "numbers"),
    [
        ("is_success", [0x0000]),
        ("is_pending", [0xFF00, 0xFF01]),
        ("is_cancel", [0xFE00]),
        ("is_warning", [0x0001, 0x0107, 0x0116, 0xB000, 0xB006, 0xB007, 0xBFFF]),
        (
            "is_failure",
            [0x0105, 0x0110, 0x0122, 0x0211, 0xA700, 0xA801, 0xA900, 0xC000, 0xC123, 0x1234, 0xFE01, 0xFF02],
        ),
    ],
)
def test_kinds(kind, numbers):
    """PS3.7 C; N-35."""
    assert all(getattr(Status(number), kind) for number in numbers)


@pytest.mark.parametrize(
    ("number", "service", "meaning"),
    [
        (0x0000, "", "success"),
        (0x0112, "", "no such SOP instance"),
        (0x0112, "C-STORE", "no such SOP instance"),
        (0xA7FF, "C-STORE", "refused: out of resources"),
        (0xA901, "c-store", "error: data set does not match SOP class"),
        (0xC123, "C-FIND", "failed: unable to process"),
        (0xA801, "C-MOVE", "refused: move destination unknown"),
        (0xB000, "C-GET", "warning: sub-operations complete, one or more failed"),
        (0xFE00, "C-FIND", "matching terminated due to cancel request"),
        (0xA123, "", "failure"),
        (0xB123, "", "warning"),
        (0xC123, "", "failure: cannot understand or process"),
        (0x0999, "", "failure"),
        (0x7777, "", "unknown status"),
        (0xF123, "", "unknown status"),
    ],
)
def test_meanings_depend_on_the_service(number, service, meaning):
    """PS3.4 Tables B.2-1, C.4-1 to C.4-3; PS3.7 C."""
    assert Status(number).meaning(service) == meaning


def test_a_failure_is_raised_only_if_asked_for():
    """A failure status is a value; ``raise_for_status`` makes it an exception."""
    for number in (0x0000, 0xB000, 0xFF00, 0xFE00):
        response = Response(number)
        assert response.raise_for_status() is response
    with pytest.raises(StatusError, match=r"0xA700.*: refused: out of resources") as raised:
        Response(0xA700, command=CommandField.C_STORE).raise_for_status()
    assert raised.value.status is Status.OUT_OF_RESOURCES
    with pytest.raises(StatusError, match="disk full"):
        Response(0xA700, error_comment="disk full").raise_for_status()
