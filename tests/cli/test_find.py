"""``dicomnet find``: keys go out, matches come as a table, lines, CSV or JSON, as they come (PS3.4 C.4.1)."""

from __future__ import annotations

import csv
import io
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, config
from pydicom.data import get_charset_files

import dicomnet
from dicomnet.models import query_class
from tests.cli.conftest import Done
from tests.cli.in_process import press_ctrl_c
from tests.cli.programs import COMMAND, HOST
from tests.cli.terminal import Terminal
from tests.interop.test_worklist import PATIENTS, step, wlmscpfs

FIND, WORKLIST = query_class("study", "find"), query_class("worklist", "find")
HOSTILE = '\x1b[2J"a",\n=b\tc'


def match(number: int, **attributes: Any) -> Dataset:
    found = Dataset()
    found.SpecificCharacterSet = "ISO_IR 192"
    found.PatientID = f"P{number}"
    found.PatientName = f"Doe^J{number}"
    found.StudyInstanceUID = f"1.2.840.10008.1.2.3.4.5.6.7.8.9.{number}"
    for keyword, value in attributes.items():
        setattr(found, keyword, value)
    return found


class Archive:
    """A server whose matches a test sets; ``asked``: the identifiers that came."""

    def __init__(self) -> None:
        self.asked: list[Dataset] = []
        self.extended: list[dict[str, bytes]] = []
        self.matches: Any = []
        self.cancelled = threading.Event()
        self.ended = threading.Event()
        self.error: BaseException | None = None

    def find(self, request: Any) -> Any:
        self.asked.append(request.dataset.decode())
        return self.matches(request) if callable(self.matches) else self.matches

    def close(self, association: Any) -> None:
        self.error = association.error
        self.ended.set()


@pytest.fixture
def archive() -> Iterator[Archive]:
    archive = Archive()
    extended = {FIND: dicomnet.ExtendedQuery(relational=True)}
    ae = dicomnet.AE("ARCHIVE", contexts=[FIND, WORKLIST], extended=extended)
    ae.on_association(
        lambda association: archive.extended.append(
            {item.sop_class_uid: item.data for item in association.request.user.extended}
        )
    )
    ae.on_c_find(archive.find)
    ae.on_close(archive.close)
    with dicomnet.serve(ae, HOST) as server:
        archive.peer = f"ARCHIVE@{HOST}:{server.port}"
        yield archive


Run = Callable[..., Done]


def test_matches_are_lines_with_tabs_in_a_pipe(command: Run, archive: Archive) -> None:
    archive.matches = [match(number) for number in range(2)]
    done = command("find", archive.peer, "-k", "PatientID=P*", "-k", "PatientName")
    assert done.code == 0
    assert done.out == "PatientID\tPatientName\nP0\tDoe^J0\nP1\tDoe^J1\n"
    assert done.err.startswith("2 matches in ")
    [asked] = archive.asked
    assert (asked.PatientID, asked.PatientName, asked.QueryRetrieveLevel) == ("P*", "", "STUDY")
    assert command("find", archive.peer, "-k", "PatientID", "-q").out == "P0\nP1\n"


def test_what_is_usual_is_asked_for(command: Run, archive: Archive) -> None:
    command("find", archive.peer, "-k", "StudyInstanceUID=1.2", "--level", "series")
    command("find", archive.peer, "--model", "worklist")
    series, worklist = archive.asked
    assert series.QueryRetrieveLevel == "SERIES"
    assert {"Modality", "SeriesInstanceUID"} <= set(series.dir())
    assert "QueryRetrieveLevel" not in worklist
    assert "ScheduledStationAETitle" in worklist.ScheduledProcedureStepSequence[0]


def test_csv_has_a_heading_and_quotes_what_is_hostile(command: Run, archive: Archive) -> None:
    """RFC 4180: a row is a line, whatever the peer put into it."""
    archive.matches = [match(1, StudyDescription=HOSTILE)]
    done = command("find", archive.peer, "--columns", "PatientID, StudyDescription", "--format", "csv")
    heading, row = csv.reader(io.StringIO(done.out))
    assert heading == ["PatientID", "StudyDescription"]
    assert row == ["P1", r'\x1b[2J"a",\n=b\tc']
    assert len(done.out.splitlines()) == 2


def test_lines_in_a_pipe_cannot_be_broken_by_values(command: Run, archive: Archive) -> None:
    archive.matches = [match(1, StudyDescription=HOSTILE)]
    done = command("find", archive.peer, "-k", "StudyDescription", "-q")
    assert done.out == r'\x1b[2J"a",\n=b\tc' + "\n"


def test_json_is_the_dicom_json_model(command: Run, archive: Archive) -> None:
    """PS3.18 F"""
    archive.matches = [match(1, PatientName="Yamada^Tarou=山田^太郎")]
    for options in (["--json"], ["--format", "json"]):
        first, summary = command("find", archive.peer, "-k", "PatientName", *options).events
        assert first["event"] == "match"
        assert first["dataset"]["00100010"] == {
            "vr": "PN", "Value": [{"Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎"}],
        }  # fmt: skip
        assert (summary["matches"], summary["limited"], summary["interrupted"]) == (1, False, False)


def test_the_first_match_is_printed_when_it_comes(piped: Any, archive: Archive) -> None:
    """Not when the last one has come: what reads the pipe decides how far it goes."""
    lines = []

    def matches(request: Any) -> Iterator[Dataset]:
        yield match(0)
        lines.append(piped.line())
        yield match(1)

    archive.matches = matches
    done = piped("find", archive.peer, "-k", "PatientID", "-q")
    assert (lines, done.out, done.code) == (["P0"], "P1\n", 0)


def test_a_reader_that_has_enough_ends_it(piped: Any, archive: Archive) -> None:
    """``| head -1``: the rest is cancelled, and nothing is complained about."""

    def endless(request: Any) -> Iterator[Dataset]:
        yield match(0)
        piped.line()
        piped.hang_up()
        while not request.cancelled:
            yield match(1)
        archive.cancelled.set()

    archive.matches = endless
    done = piped("find", archive.peer, "-k", "PatientID")
    assert done.code == 0
    assert done.err.endswith("; nobody reads any more, there may be more\n")
    assert len(done.err.splitlines()) == 1
    assert archive.cancelled.wait(30)
    assert archive.ended.wait(30)
    assert archive.error is None


def test_a_limit_cancels_and_says_so(command: Run, archive: Archive) -> None:
    """PS3.4 C.4.1.2.3; the association is released."""

    def endless(request: Any) -> Iterator[Dataset]:
        number = 0
        while not request.cancelled:
            number += 1
            yield match(number)
        archive.cancelled.set()

    archive.matches = endless
    done = command("find", archive.peer, "-k", "PatientID", "--limit", 3)
    assert (done.code, done.out.splitlines()) == (0, ["PatientID", "P1", "P2", "P3"])
    assert "cancelled at --limit 3, there may be more" in done.err
    assert archive.cancelled.wait(30)
    assert archive.ended.wait(30)
    assert archive.error is None


def test_ctrl_c_cancels_and_releases_although_the_peer_says_nothing(piped: Any, archive: Archive) -> None:
    """130 as exit code, and no abort."""

    def silent(request: Any) -> Iterator[Dataset]:
        yield match(0)
        assert json.loads(piped.line())["event"] == "match"
        press_ctrl_c()
        while not request.cancelled:
            threading.Event().wait(0.01)
        archive.cancelled.set()

    archive.matches = silent
    done = piped("find", archive.peer, "-k", "PatientID", "--json")
    assert done.code == 130
    assert json.loads(done.out)["interrupted"] is True
    assert "interrupted; cancelling" in done.err
    assert archive.cancelled.is_set()
    assert archive.ended.wait(30)
    assert archive.error is None
    assert not [thread for thread in threading.enumerate() if thread.name == "dicomnet interrupt"]


def test_a_match_that_cannot_be_read_does_not_hide_the_others(command: Run, archive: Archive) -> None:
    nested = b"\x08\x00\x15\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * 200

    def matches(request: Any) -> Iterator[Any]:
        yield match(0)
        yield dicomnet.EncodedDataset(nested, request.dataset.transfer_syntax)
        yield match(2)

    archive.matches = matches
    done = command("find", archive.peer, "-k", "PatientID", "-q")
    assert (done.code, done.out) == (1, "P0\nP2\n")
    assert "match 2 cannot be shown" in done.err
    events = command("find", archive.peer, "-k", "PatientID", "--json").events
    assert [event["event"] for event in events] == ["match", "unreadable", "match", "summary"]
    assert (events[-1]["matches"], events[-1]["unreadable"]) == (3, 1)


def test_keys_that_the_peer_does_not_support_are_told_once(command: Run, archive: Archive) -> None:
    """PS3.4 C.4.1.1.4: status FF01."""
    archive.matches = [dicomnet.Response(0xFF01, match(number)) for number in range(3)]
    done = command("find", archive.peer, "-k", "PatientID")
    assert done.code == 0
    assert done.err.count("the peer does not support all of these keys") == 1
    assert command("find", archive.peer, "-k", "PatientID", "--json").events[-1]["unsupported"] is True


def test_csv_has_no_formulas(command: Run, archive: Archive) -> None:
    """A spreadsheet would run what a peer has sent. Numbers stay numbers."""
    archive.matches = [match(1, PatientID=text) for text in ("=cmd|'/C calc'!A0", "@SUM(1)", "-2+3", "-5", "+1.5")]
    done = command("find", archive.peer, "-k", "PatientID", "--format", "csv", "-q")
    assert [row[0] for row in csv.reader(io.StringIO(done.out))] == [
        "'=cmd|'/C calc'!A0", "'@SUM(1)", "'-2+3", "-5", "+1.5",
    ]  # fmt: skip


def test_a_failure_is_told_in_words_and_ends_with_1(command: Run, archive: Archive) -> None:
    def refuse(request: Any) -> Any:
        yield match(0)
        raise dicomnet.StatusError(0xA900, "no SERIES without a study")

    archive.matches = refuse
    done = command("find", archive.peer, "-k", "SeriesInstanceUID")
    assert done.code == 1
    assert "identifier does not match SOP class, status 0xA900: no SERIES without a study" in done.err
    assert "StudyInstanceUID" in done.err
    assert "SeriesInstanceUID\n" in done.out
    assert archive.ended.wait(30)
    assert archive.error is None


def test_without_a_context_it_says_so(command: Run, archive: Archive) -> None:
    done = command("find", archive.peer, "--model", "ups", "-k", "PatientID")
    assert done.code == 1
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["-k", "PatientNam=x"], "did you mean PatientName"),
        (["-k", "StudyDate=31.1.2024"], "20240131"),
        (["--columns", "PatientID,Nothing"], "--columns"),
        (["--columns", "PatientID StudyDate"], "comma"),
        (["--model", "nothing"], "worklist"),
        (["--model", "worklist", "--level", "STUDY"], "no levels"),
        (["-k", "PatientName=山", "--charset", "ISO_IR 100"], "ISO_IR 192"),
    ],
)
def test_wrong_usage_is_explained_before_anything_is_sent(command: Run, arguments: list[str], hint: str) -> None:
    done = command("find", "A@127.0.0.1:1", *arguments)
    assert done.code == 2
    assert hint in done.err


def test_keys_from_a_file(command: Run, archive: Archive, tmp_path: Path) -> None:
    file = tmp_path / "keys.txt"
    file.write_text("# who\nPatientName=Müller*\nStudyDate\n", encoding="utf-8")
    assert command("find", archive.peer, "--key-file", file, "-k", "PatientID").code == 0
    [asked] = archive.asked
    assert (str(asked.PatientName), asked.SpecificCharacterSet) == ("Müller*", "ISO_IR 192")
    assert {"StudyDate", "PatientID"} <= set(asked.dir())
    file.write_bytes(b"PatientName=M\xfcller")
    assert "--key-file" in command("find", archive.peer, "--key-file", file).err


def test_relational_queries_are_negotiated(command: Run, archive: Archive) -> None:
    """PS3.4 C.5.1.1"""
    done = command("find", archive.peer, "-k", "SOPInstanceUID", "--relational", "--fuzzy")
    assert archive.extended[-1][FIND][0] == 1
    assert "does not support --fuzzy" in done.err
    assert "--relational" not in done.err


# --- on a terminal --------------------------------------------------------------------------------------------------


def names() -> list[tuple[dicomnet.EncodedDataset, str]]:
    from pydicom import dcmread

    paths = [get_charset_files(f"{name}.dcm")[0] for name in ("chrH31", "chrI2", "chrX2", "chrGreek", "chrRuss")]
    return [(dicomnet.EncodedDataset.from_file(path), str(dcmread(path).PatientName)) for path in paths]


def test_a_terminal_shows_a_table_in_all_scripts(archive: Archive) -> None:
    """Japanese, Korean, Chinese, Greek, Cyrillic; characters that take two columns are counted as such."""
    archive.matches = [each.decode() for each, _ in names()]
    for found in archive.matches:
        found.PatientID = "P1"
    with Terminal([*COMMAND, "find", archive.peer, "--columns", "PatientName,PatientID"], columns=100) as terminal:
        assert terminal.wait() == 0
        lines = terminal.screen.splitlines()
    rows = [line for line in lines if line.endswith("P1")]
    drawn = "".join(lines).replace(" ", "")
    assert len(rows) == len(names())
    assert all(name.replace(" ", "") in drawn for _, name in names())
    assert any(line.split() == ["PatientName", "PatientID"] for line in lines)


def test_a_terminal_that_is_not_utf_8_shows_escapes(drawn: Any, archive: Archive) -> None:
    """They are counted as columns, so that it stays a table."""
    archive.matches = [*(each.decode() for each, _ in names()), match(1)]
    for found in archive.matches:
        found.PatientID = "P1"
    done = drawn("find", archive.peer, "--columns", "PatientName,PatientID", columns=132, encoding="ascii")
    assert "\\u5c71\\u7530" in done.out
    heading, *rows = done.out.splitlines()[:-1]
    assert len(rows) == len(names()) + 1
    assert {line.index("P1") for line in rows} == {heading.index("PatientID")}


def test_a_narrow_terminal_cuts_texts_but_no_uids(drawn: Any, archive: Archive) -> None:
    """Nor do rows take several lines: columns that nobody has asked for go first."""
    archive.matches = [match(1, StudyDescription="a long text " * 5, AccessionNumber="", StudyDate="20240131")]
    done = drawn("find", archive.peer, "-k", "PatientID=P*", columns=80)
    assert match(1).StudyInstanceUID in done.out
    assert "…" in done.out
    assert "Accession" not in done.out, "an empty column that nobody asked for"
    assert "1 match in" in done.out
    narrow = drawn("find", archive.peer, "-k", "PatientID=P*", columns=60)
    assert "no room for StudyDate, StudyDescription; --columns" in narrow.out.replace("\n", "")
    assert narrow.out.splitlines()[1].split() == ["P1", "Doe^J1", match(1).StudyInstanceUID]
    narrow = drawn("find", archive.peer, "-k", "PatientID=P*", columns=50)
    assert match(1).StudyInstanceUID not in narrow.out, "it would take most of the room"
    assert "a long text" in narrow.out
    asked = drawn("find", archive.peer, "--columns", "PatientID,StudyInstanceUID", columns=44)
    assert match(1).StudyInstanceUID in asked.out


def test_a_huge_value_is_shown_at_once(drawn: Any, archive: Archive) -> None:
    with config.disable_value_validation():
        archive.matches = [match(1, StudyDescription="x" * 60_000, PatientID="y" * 60_000)]
    done = drawn("find", archive.peer, "-k", "PatientID=*", "-k", "StudyDescription", columns=80)
    assert len(done.out.splitlines()) == 3, done.out[:500]


def test_a_first_match_is_shown_although_the_next_one_takes_its_time(drawn: Any, archive: Archive) -> None:
    shown = threading.Event()

    def matches(request: Any) -> Iterator[Dataset]:
        yield match(1)
        assert shown.wait(30)

    from dicomnet.cli.output import Output

    archive.matches = matches
    line = Output.line

    def watched(self: Output, text: str) -> None:
        line(self, text)
        shown.set()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Output, "line", watched)
        assert "P1" in drawn("find", archive.peer, "-k", "PatientID").out


def test_values_cannot_command_the_terminal(drawn: Any, archive: Archive) -> None:
    archive.matches = [match(1, StudyDescription=HOSTILE)]
    done = drawn("find", archive.peer, "-k", "StudyDescription")
    assert b"\x1b[2J" not in done.raw
    assert r"\x1b[2J" in done.out


# --- real peers -----------------------------------------------------------------------------------------------------


def test_a_worklist_of_dcmtk(command: Run, dcmtk: Callable[[str], Path], tmp_path: Path) -> None:
    """PS3.4 K.4.1: nested keys, in another character set than the answer."""
    with wlmscpfs(dcmtk, tmp_path / "peer", [step(PATIENTS[1]), step(PATIENTS[2], modality="MR")], "-csk") as server:
        peer = f"WORKLIST@{HOST}:{server.port}"
        modality = "ScheduledProcedureStepSequence[0].Modality"
        done = command("find", peer, "--model", "worklist", "-k", f"{modality}=CT", "-k", "PatientName", "-q")
        none = command("find", peer, "--model", "worklist", "-k", f"{modality}=US")
    assert (done.code, done.out) == (0, f"CT\t{PATIENTS[1]}\n"), done.err
    assert none.code == 0
    assert "0 matches" in none.err
