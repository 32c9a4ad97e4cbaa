"""When a study is complete: released, then quiet; from several processes; never lost."""

from __future__ import annotations

import math
import os
import queue
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from dicomnet.inbox import DEFAULT, Kept, Layout
from dicomnet.inbox.studies import Census, Channel, Collector, Reporter, Studies, Study
from dicomnet.scan import PATIENT_ID, STUDY_INSTANCE_UID

ONE, OTHER = (1, 100), (2, 100)  # associations


def study(uid: str = "1.2", count: int = 1) -> Study:
    return Study(uid, f"P/{uid}", "P", "CT1", count, 10 * count)


def test_a_study_is_complete_when_it_is_quiet_and_its_association_over() -> None:
    studies = Studies(quiet=10)
    studies.stored(ONE, study(), 0)
    assert studies.deadline == math.inf
    studies.stored(ONE, study(count=2), 5)
    studies.ended(ONE, 6)
    assert studies.deadline == 15
    assert studies.complete(14.9) == []
    assert studies.complete(15) == [study(count=3)]
    assert (studies.deadline, studies.rest()) == (math.inf, [])


def test_quiet_that_passed_on_an_open_association_counts() -> None:
    studies = Studies(quiet=10)
    studies.stored(ONE, study(), 0)
    studies.ended(ONE, 60)
    assert studies.complete(60) == [study()]


def test_a_second_association_puts_it_off() -> None:
    studies = Studies(quiet=10)
    studies.stored(ONE, study(), 0)
    studies.ended(ONE, 1)
    studies.stored(OTHER, study(), 9)
    assert studies.complete(11) == []
    studies.ended(OTHER, 12)
    assert studies.complete(studies.deadline) == [study(count=2)]


def test_a_study_that_is_added_to_is_complete_again() -> None:
    studies = Studies(quiet=1)
    for start in (0, 100):
        studies.stored(ONE, study(), start)
        studies.ended(ONE, start)
        assert studies.complete(start + 1) == [study()]
    assert studies.seen == 1


def test_several_studies_have_deadlines_of_their_own() -> None:
    studies = Studies(quiet=10)
    for number in range(5):
        studies.stored((1, number), study(f"1.{number}"), number)
        studies.ended((1, number), number)
    assert [[one.uid for one in studies.complete(now)] for now in (9, 10, 12, 20)] == [
        [], ["1.0"], ["1.1", "1.2"], ["1.3", "1.4"],
    ]  # fmt: skip


def test_associations_of_a_process_that_died_are_over() -> None:
    studies = Studies(quiet=10)
    studies.stored(ONE, study(), 0)
    studies.end_those_of(lambda pid: pid == OTHER[0], 20)
    assert studies.complete(20) == []
    studies.end_those_of(lambda pid: pid == ONE[0], 20)
    assert studies.complete(20) == [study()]


class Sender:
    """An association, as a handler sees it."""

    calling_ae = "CT1"


def kept(uid: str, series: str = "s") -> Kept:
    return Kept(f"P/{uid}/{series}/x.dcm", "stored", f"P/{uid}/{series}", {STUDY_INSTANCE_UID: uid, PATIENT_ID: "P"})


@pytest.mark.parametrize("processes", [1, 2])
def test_what_is_reported_is_what_was_stored(processes: int) -> None:
    """From several threads at once, in two studies with two series each."""
    channel, complete = Channel(processes), queue.SimpleQueue[Study]()
    collector = Collector(channel, 0.0, complete.put, pytest.fail)
    collector.start()

    def associate() -> None:
        reporter, sender = Reporter(channel, Layout()), Sender()
        for number in range(200):
            reporter.stored(sender, kept(f"1.{number % 2}", "ab"[number % 4 // 2]), 10)
        reporter.ended(sender)

    threads = [threading.Thread(target=associate) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    collector.close()
    done = [complete.get_nowait() for _ in range(complete.qsize())]
    for uid in ("1.0", "1.1"):
        mine = [one for one in done if one.uid == uid]
        assert {(one.folder, one.patient_id, one.calling_ae) for one in mine} == {(f"P/{uid}", "P", "CT1")}
        assert (sum(one.count for one in mine), sum(one.size for one in mine)) == (400, 4000)
    assert collector.studies.seen == 2


def test_studies_are_counted_by_their_folders() -> None:
    """Each once, with the time from the first instance to the end of the last association."""
    channel = Channel()
    collector = Collector(channel, 0.0, pytest.fail, pytest.fail)
    collector.start()
    census = Census(channel, Layout())
    for one in (kept("1.2", "a"), kept("1.2", "b"), kept("1.3")):
        assert one.folder not in census.folders
        census.came(one)
        assert one.folder in census.folders
    census.ended()
    collector.close()
    assert collector.studies.seen == 2
    assert collector.studies.seconds > 0


@pytest.mark.parametrize(
    ("template", "own"),
    [
        (DEFAULT, True),
        ("{StudyInstanceUID}/{SOPInstanceUID}.dcm", True),
        ("{StudyInstanceUID:8}/{SOPInstanceUID}.dcm", False),
        ("{Date}/{StudyInstanceUID}_{SOPInstanceUID}.dcm", False),
    ],
)
def test_a_layout_knows_whether_a_study_has_its_own_folder(template: str, own: bool) -> None:
    assert Layout(template).parts_studies is own


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_process_that_was_killed_leaves_its_study_complete(monkeypatch: Any) -> None:
    monkeypatch.setattr("dicomnet.inbox.studies._LOOK", 0.05)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    channel, complete = Channel(2), queue.SimpleQueue[Study]()
    collector = Collector(channel, 0.0, complete.put, pytest.fail)
    collector.start()
    channel.send(["stored", dead.pid, 1, "1.2", "P/1.2", "P", "CT1", 7, 70])
    assert complete.get(timeout=30) == study(count=7)
    collector.close()


def test_what_is_left_at_the_end_is_complete(tmp_path: Path) -> None:
    channel, complete = Channel(), queue.SimpleQueue[Study]()
    collector = Collector(channel, 1e6, complete.put, pytest.fail)
    collector.start()
    Reporter(channel, Layout()).stored(Sender(), kept("1.2"), 10)
    collector.close()
    assert complete.get_nowait() == study()
