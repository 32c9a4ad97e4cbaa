"""The benchmarks' own arithmetic, tables and corpora. Nothing here is timed: that is for ``make bench``."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
from benchmarks import canned, measure, report
from benchmarks.corpora import cache_in, corpus, digest_of
from benchmarks.measure import Contender, Figures, Plan, Result, alternate
from benchmarks.processes import Failed, Missing, Process, Program
from benchmarks.scenarios import SCENARIOS, Goal, Scenario, Settings

from dicomnet.ul.pdu import AssociateRq, decode

OURS, THEIRS = Contender(name="ours", scu=Program()), Contender(name="theirs", scu=Program())
ONCE = Plan(rounds=1, warm_up=False)


def scenario(*goals: Goal) -> Scenario:
    return Scenario(
        title="Nothing", unit="", contenders=(OURS, THEIRS), goals=goals, note="A note.", measure=measure.launch
    )


def results(ours: list[float], theirs: list[float]) -> list[Result]:
    return [
        Result(contender, rounds=[{"ms": ms, "cpu_ms": ms} for ms in rounds])
        for contender, rounds in ((OURS, ours), (THEIRS, theirs))
    ]


def settings(cache: Path) -> Settings:
    return Settings(quick=True, cache=cache, rounds=1)


class TestFigures:
    def test_a_ratio_is_that_of_the_medians(self) -> None:
        goal = Goal(of="ours", against="theirs", key="ms", at_least=0.5)
        (outcome,) = report.outcomes(scenario(goal), results([1, 30, 2], [4, 5, 1]))
        assert outcome.value == pytest.approx(2 / 4)
        assert outcome.reached

    def test_a_difference_below_zero_is_at_most_anything_above(self) -> None:
        goal = Goal(of="ours", less="theirs", key="ms", at_most=60)
        (outcome,) = report.outcomes(scenario(goal), results([10], [100]))
        assert outcome.value == -90
        assert outcome.reached

    @pytest.mark.parametrize(("value", "reached"), [(0.9, False), (1.0, True), (1.2, True), (1.3, False)])
    def test_goals_include_their_bounds(self, value: float, reached: bool) -> None:
        goal = Goal(of="ours", key="ms", at_least=1.0, at_most=1.2)
        (outcome,) = report.outcomes(scenario(goal), results([value], [1]))
        assert outcome.reached is reached

    def test_without_figures_nothing_is_reached_or_missed(self) -> None:
        goal = Goal(of="ours", against="theirs", key="ms", at_least=1)
        (outcome,) = report.outcomes(scenario(goal), results([1], []))
        assert outcome.value is None
        assert outcome.reached is None

    def test_a_contender_that_failed_for_good_has_no_medians(self) -> None:
        assert Result(OURS, rounds=[{"ms": 1.0}], error="it lost a file").medians == {}


class TestRounds:
    def test_contenders_take_turns(self, tmp_path: Path) -> None:
        order = []

        def note(contender: Contender, _: Path) -> Figures:
            order.append(contender.name)
            return {"ms": float(len(order))}

        ours, theirs = alternate(note, (OURS, THEIRS), Plan(rounds=2, warm_up=True), tmp_path)
        assert order == ["ours", "theirs"] * 3
        assert [figures["ms"] for figures in ours.rounds] == [3, 5]  # the warm-up does not count
        assert [figures["ms"] for figures in theirs.rounds] == [4, 6]

    def test_a_round_that_failed_is_begun_anew_as_often_as_allowed(self, tmp_path: Path) -> None:
        outcomes: Iterator[Exception | None] = iter([Failed("lost one"), Failed("lost two"), None])

        def fail_twice(_: Contender, __: Path) -> Figures:
            if error := next(outcomes):
                raise error
            return {"ms": 1.0}

        (result,) = alternate(fail_twice, [replace(OURS, attempts=3)], ONCE, tmp_path)
        assert result.medians == {"ms": 1.0}
        assert result.repeated == ["lost one", "lost two"]

    def test_a_failure_ends_a_contender_that_has_one_attempt(self, tmp_path: Path) -> None:
        def fail(_: Contender, __: Path) -> Figures:
            raise Failed("lost one")

        (result,) = alternate(fail, [OURS], Plan(rounds=3, warm_up=False), tmp_path)
        assert result.error == "lost one"
        assert result.medians == {}

    def test_a_slow_contender_has_its_own_number_of_rounds_and_no_warm_up(self, tmp_path: Path) -> None:
        slow = replace(OURS, most_rounds=1)
        (result,) = alternate(lambda *_: {"ms": 1.0}, [slow], Plan(rounds=5, warm_up=True), tmp_path)
        assert len(result.rounds) == 1

    def test_when_the_time_is_up_what_was_not_measured_says_so(self, tmp_path: Path) -> None:
        plan = Plan(rounds=5, warm_up=False, seconds=-1)
        (result,) = alternate(lambda *_: {"ms": 1.0}, [OURS], plan, tmp_path)
        assert not result.rounds
        assert "time for this table was up" in result.missing


class TestTables:
    def test_a_row_for_each_contender_and_a_line_for_each_goal(self) -> None:
        goal = Goal(of="ours", against="theirs", key="ms", what="time", at_most=0.5)
        assert report.table("nothing", scenario(goal), results([12.3], [1234.5])).splitlines() == [
            "## Nothing (`nothing`)",
            "",
            "|  | time | CPU |",
            "| --- | ---: | ---: |",
            "| ours | 12.3 ms | 12.3 ms |",
            "| theirs | 1,234 ms | 1,234 ms |",
            "",
            "A note.",
            "",
            "- ours / theirs, time: **0.00996** (at most 0.5) – reached",
        ]

    def test_what_is_missing_is_said_in_its_row(self) -> None:
        text = report.table("nothing", scenario(), [Result(OURS, missing="DCMTK's storescu is not installed")])
        assert "| ours | DCMTK's storescu is not installed |  |" in text

    def test_what_failed_is_said_in_its_row_and_breaks_no_table(self) -> None:
        text = report.table("nothing", scenario(), [Result(OURS, error="a|b")])
        assert "| ours | not available: a\\|b |  |" in text

    def test_rounds_that_were_begun_anew_are_told(self) -> None:
        result = Result(OURS, rounds=[{"ms": 1.0, "cpu_ms": 1.0}], repeated=["lost one", "lost two"])
        text = report.table("nothing", scenario(), [result])
        assert "ours: rounds that failed and were begun anew: 2 (the last: lost two)." in text

    def test_a_run_is_added_to_the_history(self, tmp_path: Path) -> None:
        history = tmp_path / "history.json"
        goal = Goal(of="ours", against="theirs", key="ms", at_least=1)
        run = report.record(settings(tmp_path), {"nothing": (scenario(goal), results([2, 4], [1]))})
        report.append(history, run)
        report.append(history, run)
        first, second = json.loads(history.read_text())
        assert first == second
        assert first["scenarios"]["nothing"]["contenders"]["ours"]["medians"]["ms"] == 3
        assert first["scenarios"]["nothing"]["goals"][0]["value"] == 3


class TestCorpora:
    @pytest.mark.parametrize(("name", "files"), [("small", 4), ("large", 2)])
    def test_the_same_seed_gives_the_same_files(self, tmp_path: Path, name: str, files: int) -> None:
        one, other = (corpus(cache_in(tmp_path / folder), name, 3 if name == "small" else 1) for folder in "ab")
        assert len(one.files) == files
        for left, right in zip((one.start, *one.files), (other.start, *other.files), strict=True):
            assert left.read_bytes() == right.read_bytes()

    def test_its_instances_are_all_different_and_can_be_read(self, tmp_path: Path) -> None:
        small = corpus(cache_in(tmp_path), "small", 3)
        data_sets = [pydicom.dcmread(path) for path in (small.start, *small.files)]
        assert len({data_set.SOPInstanceUID for data_set in data_sets}) == 5
        assert small.count == 3

    def test_nothing_unfinished_stays_beside_it(self, tmp_path: Path) -> None:
        cache = cache_in(tmp_path)
        corpus(cache, "small", 1)
        assert [path.name.startswith("small-1-") for path in cache.iterdir()] == [True]

    def test_a_digest_is_of_the_data_set_alone(self, tmp_path: Path) -> None:
        """PS3.10 7.1: the file meta information may differ, and does when somebody else has written it."""
        (file,) = corpus(cache_in(tmp_path), "small", 1).files[1:]
        data_set = pydicom.dcmread(file)
        data_set.file_meta.ImplementationVersionName = "ANOTHER"
        data_set.save_as(tmp_path / "other.dcm")
        assert digest_of(tmp_path / "other.dcm") == digest_of(file)


class TestProcesses:
    def test_the_last_line_of_json_is_the_result(self, tmp_path: Path) -> None:
        program = Program((sys.executable, "-c", """print('{"a": 1}'); print('{"a": 2}'); print("done")"""))
        with Process(program, tmp_path / "log") as process:
            assert process.finish(60).result == {"a": 2}

    def test_a_failure_is_told_in_the_programs_own_words(self, tmp_path: Path) -> None:
        program = Program((sys.executable, "-c", "raise SystemExit('no association')"))
        with Process(program, tmp_path / "log") as process, pytest.raises(Failed, match="exit code 1: no association"):
            process.finish(60)

    def test_leaving_the_block_ends_the_program(self, tmp_path: Path) -> None:
        with Process(Program((sys.executable, "-c", "input()")), tmp_path / "log") as process:
            pid = process.pid
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)

    def test_a_program_that_is_not_installed_is_missing(self, tmp_path: Path) -> None:
        with pytest.raises(Missing, match="not here"):
            Process(Program(("nothing",), missing="not here"), tmp_path / "log")


def test_the_canned_request_is_a_valid_pdu() -> None:
    """PS3.8 9.3.2."""
    request = decode(canned.associate_rq("BENCH", "BARE"))
    assert isinstance(request, AssociateRq)
    assert (request.called_ae, request.calling_ae) == ("BENCH", "BARE")


def test_every_goal_is_about_contenders_of_its_scenario(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = corpus(cache_in(tmp_path), "small", 1)
    monkeypatch.setattr(Settings, "corpus", lambda *_, **__: small)
    for build in SCENARIOS.values():
        built = build(settings(tmp_path))
        names = {contender.name for contender in built.contenders}
        assert len(names) == len(built.contenders)
        assert {name for goal in built.goals for name in (goal.of, goal.against, goal.less) if name} <= names
