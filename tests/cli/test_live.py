"""The status line of ``dicomnet receive``: what it says; that it is drawn, and goes, is in test_receive.py."""

from dataclasses import dataclass

import pytest

from dicomnet.cli.live import State, status_line

BEFORE = State(10, 1_000_000, 0, 1, 2, 50 * 10**9)


@dataclass
class Case:
    state: State
    said: str


@pytest.mark.parametrize(
    "case",
    [
        Case(BEFORE, "10 instances  1 study  1.0 MB  0/s  0 bytes/s  2 open  50.00 GB free"),
        Case(
            State(30, 5_000_000, 3, 2, 1, 40 * 10**9),
            "30 instances  2 studies  5.0 MB  10/s  2.0 MB/s  1 open  3 failed  40.00 GB free",
        ),
        Case(State(10, 1_000_000, 0, None, 0, None), "10 instances  1.0 MB  0/s  0 bytes/s  0 open"),
    ],
)
def test_it_tells_counts_rates_and_room(case: Case) -> None:
    assert status_line(100.0, BEFORE, 102.0, case.state) == case.said


def test_the_first_look_has_no_rate() -> None:
    assert "  0/s  0 bytes/s  " in status_line(100.0, BEFORE, 100.0, BEFORE)
