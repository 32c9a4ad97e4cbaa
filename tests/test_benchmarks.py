"""The benchmarks' own arithmetic, tables and corpora. Nothing here is timed: that is for ``make bench``."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pydicom
import pytest
from benchmarks import canned, publish, report, rounds, studies, svg
from benchmarks.corpora import cache_in, corpus, digest_of, digest_of_all
from benchmarks.measure import Contender, Figures, Plan, Result, alternate
from benchmarks.model import Goal, Line, Plot, Scenario, Settings
from benchmarks.processes import Failed, Missing, Process, Program
from benchmarks.profile import profiling, put_between, shares_of
from benchmarks.scenarios import QUICK, SCENARIOS

import dicomnet
from dicomnet.ul.pdu import AssociateAc, AssociateRq, decode

OURS, THEIRS = Contender(name="ours", scu=Program()), Contender(name="theirs", scu=Program())
ONCE = Plan(rounds=1, warm_up=False)


def scenario(*goals: Goal) -> Scenario:
    return Scenario(
        title="Nothing", unit="", contenders=(OURS, THEIRS), goals=goals, note="A note.", measure=rounds.launch
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

    def test_all_figures_to_reach_stand_in_one_table(self) -> None:
        reached = Goal(of="ours", against="theirs", key="ms", at_most=2)
        told = Goal(of="ours", key="ms")
        text = report.summary({"nothing": (scenario(reached, told), results([1], [2]))})
        assert text.splitlines()[4:] == ["| Nothing: ours | theirs | at most 2 | **0.5** | reached |"]

    def test_what_is_not_there_yet_says_so_in_the_table_of_figures_to_reach(self) -> None:
        goal = Goal(of="ours", against="theirs", key="ms", at_least=1)
        missing = [Result(OURS, missing="not available: no such option"), *results([], [1])[1:]]
        assert "| – | not available: no such option |" in report.summary({"nothing": (scenario(goal), missing)})


class TestPlots:
    def test_a_chart_is_well_formed_and_has_a_mark_for_each_point(self) -> None:
        points = [(1.0, 10.0), (10.0, 1000.0)]
        chart = svg.line_chart([("a < b", points), ("c", points[:1])], title="T", x="x", y="y", log_x=True, log_y=True)
        root = ElementTree.fromstring(chart)
        space = {"svg": "http://www.w3.org/2000/svg"}
        assert len(root.findall(".//svg:circle", space)) == 2
        assert [text.text for text in root.findall("svg:g/svg:text", space)] == ["a < b", "c"]
        assert "prefers-color-scheme: dark" in chart

    def test_what_is_more_stands_higher(self) -> None:
        chart = svg.line_chart([("a", [(1.0, 5.0), (2.0, 9.0)])], title="T", x="x", y="y")
        line = ElementTree.fromstring(chart).find(".//{http://www.w3.org/2000/svg}polyline")
        assert line is not None
        (left, low), (right, high) = (tuple(map(float, point.split(","))) for point in line.get("points", "").split())
        assert left < right
        assert high < low  # SVG counts downwards

    def test_names_do_not_cover_each_other(self) -> None:
        same = [("a", [(1.0, 5.0)]), ("b", [(1.0, 5.0)])]
        root = ElementTree.fromstring(svg.line_chart(same, title="T", x="x", y="y"))
        first, second = (float(text.get("y", "")) for text in root.findall("*/{http://www.w3.org/2000/svg}text"))
        assert abs(first - second) >= 15

    def test_a_plot_leaves_out_what_was_not_measured(self) -> None:
        lines = (Line(name="we", points=((1.0, "ours"),)), Line(name="they", points=((1.0, "theirs"),)))
        wanted = replace(scenario(), plot=Plot(name="p", title="T", x="x", y="y", lines=lines))
        measured = [Result(OURS, rounds=[{"rate": 5.0}]), Result(THEIRS, missing="not installed")]
        drawn = report.plot(wanted, measured)
        assert drawn is not None
        assert drawn[0] == "p"
        assert "we" in drawn[1]
        assert "they" not in drawn[1]


class TestPublishing:
    def test_a_run_that_measured_few_tables_completes_the_one_before(self) -> None:
        one = {"revision": "1", "quick": False, "scenarios": {"a": 1, "b": 1}}
        other = {"revision": "1", "quick": False, "scenarios": {"b": 2}}
        assert publish.merged([one, other])["scenarios"] == {"a": 1, "b": 2}
        assert publish.merged([one, other | {"revision": "2"}])["scenarios"] == {"b": 2}

    def test_the_rows_of_the_pages_are_of_tables_and_contenders_that_exist(self, tables: dict[str, Scenario]) -> None:
        rows = [(line.table, name) for line in publish.README for name in (line.of, line.against)]
        rows += [(line.table, line.of) for line in publish.MEMORY] + [(table, of) for _, table, of in publish.BUYS]
        for table, name in rows:
            assert name in {contender.name for contender in tables[table].contenders}, table

    def test_a_page_gets_new_figures_between_its_marks(self, tmp_path: Path) -> None:
        page = tmp_path / "page.md"
        page.write_text("before\n<!-- b -->\nold\n<!-- e -->\nafter\n")
        put_between(page, "<!-- b -->", "<!-- e -->", "new")
        assert page.read_text() == "before\n<!-- b -->\n\nnew\n\n<!-- e -->\nafter\n"
        with pytest.raises(ValueError, match="has no lines"):
            put_between(page, "<!-- other -->", "<!-- e -->", "new")


class TestProfile:
    def test_calls_of_the_system_are_counted_by_name_and_have_a_layer_of_their_own(self, tmp_path: Path) -> None:
        one, other = socket.socketpair()
        with one, other, profiling(on=True) as profiles:
            one.send(b"ping")
            other.recv(4)
            (tmp_path / "file").write_bytes(b"pong")
        shares = shares_of(profiles)
        assert {"send": 1, "recv": 1, "open": 1}.items() <= shares.calls.items()
        assert {"system calls on sockets", "system calls on files"} <= shares.layers.keys()

    def test_what_is_not_profiled_has_no_shares(self) -> None:
        with profiling(on=False) as profiles:
            pass
        assert shares_of(profiles).layers == {}


class TestCorpora:
    @pytest.mark.parametrize(
        ("name", "count", "size", "files"),
        [
            ("small", 3, 0, 4),
            ("ct", 2, 0, 3),
            ("mixed", 100, 0, 101),
            ("sized", 2, 3000, 3),
            ("large", 1, 0, 2),
            ("query", 5, 0, 1),
        ],
    )
    def test_the_same_seed_gives_the_same_files(
        self, tmp_path: Path, name: str, count: int, size: int, files: int
    ) -> None:
        one, other = (corpus(cache_in(tmp_path / folder), name, count, size) for folder in "ab")
        assert len(one.files) == files
        for left, right in zip(one.files, other.files, strict=True):
            assert left.read_bytes() == right.read_bytes()

    def test_a_ct_slice_has_the_size_and_the_elements_of_a_real_one(self, tmp_path: Path) -> None:
        (path,) = corpus(cache_in(tmp_path), "ct", 1).files[1:]
        data_set = pydicom.dcmread(path)
        assert 520_000 < path.stat().st_size < 540_000
        assert len(data_set) >= 80
        assert sum(element.VR == "SQ" for element in data_set) >= 3

    def test_mixed_has_twenty_classes_and_five_transfer_syntaxes(self, tmp_path: Path) -> None:
        mixed = corpus(cache_in(tmp_path), "mixed", 100)
        data_sets = [pydicom.dcmread(path) for path in mixed.files[1:]]
        assert len({data_set.SOPClassUID for data_set in data_sets}) == 20
        assert len({data_set.file_meta.TransferSyntaxUID for data_set in data_sets}) == 5

    def test_objects_are_as_large_as_asked_for(self, tmp_path: Path) -> None:
        for size in (1000, 700_000):
            path = corpus(cache_in(tmp_path), "sized", 1, size).files[1]
            assert path.stat().st_size == size
            assert pydicom.dcmread(path).PixelData

    def test_studies_have_twelve_attributes_each_and_are_all_different(self, tmp_path: Path) -> None:
        (path,) = corpus(cache_in(tmp_path), "query", 20).files
        found = list(studies.read(path))
        assert {len(study) for study in found} == {12}
        assert len({study["StudyInstanceUID"] for study in found}) == 20

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


class TestStudies:
    def test_an_archive_answers_with_all_or_with_the_one_that_is_named(self, tmp_path: Path) -> None:
        (path,) = corpus(cache_in(tmp_path), "query", 5).files
        archive, query = studies.Archive(path), pydicom.Dataset()
        assert studies.digest_of_datasets(archive.matches(query)) == studies.digest_of_studies(path)
        query.StudyInstanceUID = next(iter(archive.matches(pydicom.Dataset()))).StudyInstanceUID
        assert len(list(archive.matches(query))) == 1

    def test_a_lost_answer_shows_in_the_digest(self, tmp_path: Path) -> None:
        (path,) = corpus(cache_in(tmp_path), "query", 5).files
        found = list(studies.Archive(path).matches(pydicom.Dataset()))
        assert studies.digest_of_datasets(found[1:]) != studies.digest_of_studies(path)

    def test_answers_are_read_as_findscu_keeps_them(self, tmp_path: Path) -> None:
        (path,) = corpus(cache_in(tmp_path), "query", 3).files
        answers = tmp_path / studies.ANSWERS
        with answers.open("w") as file:
            file.write('<?xml version="1.0"?>\n<responses type="C-FIND">\n')
            for study in studies.read(path):
                elements = "".join(
                    f'<element tag="{studies.TAGS[keyword]}" vr="LO" name="{keyword}">{value}</element>\n'
                    for keyword, value in study.items()
                )
                file.write(f'<data-set xfer="1.2.840.10008.1.2">\n{elements}</data-set>\n')
            file.write("</responses>\n")
        assert studies.digest_of_answers(answers) == studies.digest_of_studies(path)


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

    @pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="other processes can be looked at on Linux alone")
    def test_the_processes_that_a_program_has_started_count(self, tmp_path: Path) -> None:
        work = "import time; [None for _ in iter(time.process_time, -1) if _ > 0.05 and exit(0)]"
        child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {work!r}]); print(':1234', flush=True)"
        code = f"{child}; kept = subprocess.Popen([sys.executable, '-c', 'input()']); input(); kept.wait()"
        program = Program((sys.executable, "-c", code), forks=True)
        with Process.listening(program, tmp_path / "log") as both:
            alone = replace(program, forks=False)
            assert both.cpu > 0.05  # the child that has ended took as much
            both.program, with_child = alone, both.rss
            assert both.rss < with_child

    def test_a_program_that_is_not_installed_is_missing(self, tmp_path: Path) -> None:
        with pytest.raises(Missing, match="not here"):
            Process(Program(("nothing",), missing="not here"), tmp_path / "log")


class TestBareEnds:
    """The programs without a toolkit speak to dicomnet as a toolkit would."""

    def test_the_canned_request_is_a_valid_pdu(self) -> None:
        """PS3.8 9.3.2."""
        request = decode(canned.associate_rq("BENCH", "BARE"))
        assert isinstance(request, AssociateRq)
        assert (request.called_ae, request.calling_ae) == ("BENCH", "BARE")

    def test_the_canned_answer_accepts_every_context(self) -> None:
        """PS3.8 9.3.3."""
        answer = canned.associate_ac(canned.associate_rq("BENCH", "BARE"), 4096)
        decoded = decode(answer)
        assert isinstance(decoded, AssociateAc)
        assert [context.result for context in decoded.contexts] == [0]
        assert canned.max_length_of(answer) == 4096

    def test_the_sink_takes_files_and_tells_their_digest(self, tmp_path: Path) -> None:
        files = corpus(cache_in(tmp_path / "cache"), "small", 3)
        paths = (files.start, *files.files)
        program = Program((sys.executable, "-m", "benchmarks.bare_dicom", "sink", "5", str(files.size * 2)))
        with Process.listening(program, tmp_path / "log") as sink:
            for part in (paths[:1], paths[1:]):
                outcomes = list(dicomnet.send(part, f"SINK@127.0.0.1:{sink.port}"))
                assert all(outcome.ok for outcome in outcomes)
            result = sink.stop().result
        assert result["stored"] == len(paths)
        assert result["data_sets"] == digest_of_all(map(digest_of, paths))

    def test_what_bare_sockets_save_is_what_was_sent(self, tmp_path: Path) -> None:
        folder = tmp_path / "folder"
        folder.mkdir()
        files = corpus(cache_in(tmp_path / "cache"), "sized", 3, 400_000)
        program = Program((sys.executable, "-m", "benchmarks.bare_dicom", "save", str(folder)))
        with Process.listening(program, tmp_path / "log") as scp:
            assert all(outcome.ok for outcome in dicomnet.send(files.files, f"SAVE@127.0.0.1:{scp.port}"))
            scp.stop()
        assert sorted(map(digest_of, folder.iterdir())) == sorted(map(digest_of, files.files))

    @pytest.mark.parametrize("options", [(), ("--at-once", "4")])
    def test_bare_associations_are_counted(self, tmp_path: Path, options: tuple[str, ...]) -> None:
        with dicomnet.serve(dicomnet.AE("BENCH"), "127.0.0.1", 0) as server:
            load = ("associations", str(server.port), "--seconds", "0.1", *options)
            program = Program((sys.executable, "-m", "benchmarks.bare_dicom", *load))
            with Process(program, tmp_path / "log") as requestor:
                assert requestor.finish(60).result["count"] > 0

    @pytest.mark.skipif(sys.platform != "linux", reason="it empties files from their front")
    def test_the_flood_compares_what_arrives_and_leaves_nothing(self, tmp_path: Path) -> None:
        folder = tmp_path / "folder"
        folder.mkdir()
        program = Program((sys.executable, "-m", "benchmarks.dicomnet_ends", "discard", str(folder)))
        with Process.listening(program, tmp_path / "scp.log") as scp:
            sizes = ("--senders", "3", "--megabytes", "5")
            flood = Program((sys.executable, "-m", "benchmarks.flood", str(scp.port), str(folder), *sizes))
            with Process(flood, tmp_path / "scu.log") as scu:
                sent = scu.finish(60).result
            arrived = scp.stop().result
        assert sent["stored"] == arrived["stored"] == 3
        assert sent["digest"] == arrived["digest"]
        assert not list(folder.iterdir())

    @pytest.mark.parametrize("face", ["", "async_"])
    def test_ping_pongs_answer_each_message(self, tmp_path: Path, face: str) -> None:
        sizes = ("--request", "80", "--response", "90")
        pong = Program((sys.executable, "-m", "benchmarks.raw", f"{face}pong", *sizes))
        with Process.listening(pong, tmp_path / "scp.log") as scp:
            load = (f"{face}ping", str(scp.port), "--seconds", "0.1", *sizes)
            with Process(Program((sys.executable, "-m", "benchmarks.raw", *load)), tmp_path / "scu.log") as scu:
                sent = scu.finish(60).result
            assert scp.stop().result["stored"] == sent["stored"] >= sent["count"] > 0


class TestExchanges:
    def test_a_file_that_did_not_arrive_fails_the_round(self, tmp_path: Path) -> None:
        files = corpus(cache_in(tmp_path), "small", 2)
        nobody = Program((sys.executable, "-c", "print(':1234', flush=True); input()"), ends_at_eof=False)
        contender = Contender(
            name="it", scp=nobody, scu=Program((sys.executable, "-c", "")), files=files.files, amount=2
        )
        with pytest.raises(Failed, match="3 files were sent, 0 arrived"):
            rounds.exchange(contender, tmp_path)

    def test_several_senders_count_together(self, tmp_path: Path) -> None:
        code = "import json, time; print(json.dumps({'count': 1, 'cpu': 0.5, 'stored': 0}))"
        scu = Program((sys.executable, "-c", code))
        nobody = Program((sys.executable, "-c", "print(':1234', flush=True); input()"), ends_at_eof=False)
        figures = rounds.exchange(Contender(name="they", scp=nobody, scu=scu, others=(scu, scu), amount=3), tmp_path)
        assert figures["scu_cpu"] == 1.5
        assert figures["amount"] == 3


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Scenario]:
    """All tables, of a corpus of one file."""
    small, query = (corpus(cache_in(tmp_path), name, 1) for name in ("small", "query"))
    monkeypatch.setattr(Settings, "corpus", lambda _, name, **__: query if name == "query" else small)
    built = [(name, build(replace(settings(tmp_path), quick=False))) for name, build in SCENARIOS.items()]
    return dict(built)


def test_every_goal_is_about_contenders_of_its_scenario(tables: dict[str, Scenario]) -> None:
    for built in tables.values():
        names = {contender.name for contender in built.contenders}
        assert len(names) == len(built.contenders)
        assert {name for goal in built.goals for name in (goal.of, goal.against, goal.less) if name} <= names
        lines = built.plot.lines if built.plot else ()
        assert {name for line in lines for _, name in line.points} <= names


def test_a_full_run_takes_a_quarter_of_an_hour_at_most(tables: dict[str, Scenario]) -> None:
    """By its plan; a quick run is of some of the tables."""
    assert sum(built.seconds for built in tables.values()) <= 15 * 60
    assert set(QUICK) <= SCENARIOS.keys()
