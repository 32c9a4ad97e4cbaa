"""Names of received instances: never out of the folder, never another one's (whatever the peer sends)."""

import pickle
import re
import string
import struct

import pytest
from hypothesis import given, settings, strategies as st

import dicomnet
from dicomnet.inbox import DEFAULT, Layout, file_name, folder_name
from tests.cli.programs import CT, IMPLICIT, instance as make

HOSTILE = [
    "..", ".", "", " ", "/", "\\", "../../etc/passwd", "..\\..\\windows", "/etc/passwd", "C:", "C:\\x", "\\\\server\\x",
    "a/b", "a\0b", "\0", "NUL", "nul", "NUL.txt", "con", "COM1", "com1.x.y", "LPT9", "aux.", "a.", "a ", " a",
    ".hidden",
    ".incoming", ".receiving-1-2-3", "-rf", "~", "~root", "a~b", "$HOME", "`x`", "a:b", "a*b?", "a\nb", "a\rb",
    "\x1b[2J",
    "\x7f", "\x85", "ä", "日本", "é", "e\u0301", "\u202e", "\ud800", "x" * 64, "x" * 65, "x" * 10_000, "1.2." * 40,
    "1.2.3", "1.2.3.", ".1", "1..2", "1.2.A", "1.2.a", "no-patient-id",
]  # fmt: skip
_SAFE = set(string.ascii_letters + string.digits + "._-~")
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)
values = st.sampled_from(HOSTILE) | st.text(max_size=80) | st.text("0123456789.", max_size=70)


def check_component(name: str, most: int = 80) -> None:
    assert 0 < len(name) <= most
    assert set(name) <= _SAFE
    assert name[0] not in ".-"
    assert name[-1] not in ". "
    assert not _DEVICE.match(name)


def instance(patient: str, study: str, series: str, uid: str) -> dicomnet.EncodedDataset:
    """As a peer may send it: nobody has checked the values."""

    def element(tag: int, value: str) -> bytes:
        data = value.encode("utf-8", "surrogatepass")[:60_000]
        data += b" " * (len(data) % 2)
        return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(data)) + data

    data = element(0x00100020, patient) + element(0x0020000D, study) + element(0x0020000E, series)
    return dicomnet.EncodedDataset(data, IMPLICIT, CT, uid)


@given(values, values, values, values)
def test_paths_stay_in_the_folder_on_every_platform(patient: str, study: str, series: str, uid: str) -> None:
    folder, name, _ = Layout().place(instance(patient, study, series, uid))
    parts = [*folder.split("/"), name]
    assert len(parts) == 4
    for part in parts:
        check_component(part)


TEMPLATES = (
    DEFAULT,
    "{SOPInstanceUID}",
    "x/{PatientID:3}{StudyInstanceUID}/{SOPInstanceUID}_{PatientID}.dcm",
    "{CallingAE}/{Date}/CO{PatientID:1}/LPT{PatientID:1}.{SeriesInstanceUID:2}/a-{SOPInstanceUID}",
    "{PatientID:1}{StudyInstanceUID:1}{SeriesInstanceUID:1}/{SOPInstanceUID}-{PatientID}-{StudyInstanceUID}",
)


@pytest.mark.parametrize("template", TEMPLATES)
@given(patient=values, study=values, series=values, uids=st.tuples(values, values))
@settings(max_examples=60)
def test_any_template_keeps_the_rules(
    template: str, patient: str, study: str, series: str, uids: tuple[str, str]
) -> None:
    layout = Layout(template)
    paths = set()
    for uid in uids:
        folder, name, _ = layout.place(instance(patient, study, series, uid))
        path = f"{folder}/{name}" if folder else name
        assert len(path.split("/")) == len(template.split("/"))
        for part in path.split("/"):
            check_component(part, most=255)
        paths.add(path.lower())
    assert len(paths) == len({uid or "" for uid in uids})


def test_a_template_takes_any_element_with_a_short_text() -> None:
    dataset = make(7, StudyDate="20260131", Modality="CT", SeriesNumber="3", PatientName="DOE^JOHN")
    layout = Layout("{StudyDate:4}/{Modality}-{SeriesNumber}/{BodyPartExamined}/{SOPInstanceUID}.dcm")
    assert layout.place(dataset)[:2] == ("2026/CT-3/no-body-part-examined", "1.2.3.7.dcm")
    folder, name, _ = Layout("{PatientName}/{SOPClassUID}-{SOPInstanceUID}").place(dataset)
    assert re.fullmatch(r"DOE_JOHN~[0-9a-f]{32}", folder)
    assert name == f"{CT}-1.2.3.7"


def test_the_folder_of_a_study_is_told() -> None:
    assert Layout().study_folder("P/1.2/1.3") == "P/1.2"
    assert Layout("{Modality}/{StudyInstanceUID}_x/{SeriesNumber}/a/{SOPInstanceUID}").study_folder("a/b/c/d") == "a/b"
    assert Layout("{PatientID}/{StudyInstanceUID}-{SOPInstanceUID}").study_folder("a") == "a"


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{PatientID}/{StudyInstanceUID}.dcm", "needs {SOPInstanceUID}"),
        ("{SOPInstanceUID:8}.dcm", "needs {SOPInstanceUID}"),
        ("{PatientsName}/{SOPInstanceUID}.dcm", "cannot have {PatientsName}: known are SOPInstanceUID"),
        ("{PixelData}/{SOPInstanceUID}", "cannot have {PixelData}"),
        ("{Rows}/{SOPInstanceUID}", "cannot have {Rows}"),
        ("../{SOPInstanceUID}", "part '..'"),
        ("/{SOPInstanceUID}", "part ''"),
        ("{SOPInstanceUID}/", "part ''"),
        (".hidden/{SOPInstanceUID}", "part '.hidden'"),
        ("nul/{SOPInstanceUID}", "part 'nul'"),
        ("a\\b/{SOPInstanceUID}", "neither a placeholder"),
        ("{StudyDate:%Y}/{SOPInstanceUID}", "neither a placeholder"),
        ("{PatientID}{SOPInstanceUID}", "needs a - or _ between"),
        ("/".join("abcdefghij") + "/{SOPInstanceUID}", "at most 10 parts"),
        ("{PatientID}" * 4 + "/{SOPInstanceUID}", "too long"),
    ],
)
def test_a_template_that_is_wrong_is_refused_with_what_is_known(template: str, why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        Layout(template)


@given(values, values)
def test_different_instances_have_different_files(one: str, other: str) -> None:
    """Also where upper and lower case are the same."""
    assert (file_name(one).lower() == file_name(other).lower()) == (one == other)


@given(values, values)
def test_different_patients_have_different_folders(one: str, other: str) -> None:
    assert (folder_name(one) == folder_name(other)) == (one == other)


@pytest.mark.parametrize("value", ["4711", "P-1_a.b", "1CT1", "x" * 64])
def test_harmless_patient_ids_stay(value: str) -> None:
    assert folder_name(value) == value


def test_uids_stay() -> None:
    assert Layout().place(instance("P", "1.2", "1.3", "1.4"))[:2] == ("P/1.2/1.3", "1.4.dcm")


def test_missing_values_have_a_name() -> None:
    folder, _, _ = Layout().place(instance("", "", "", "1.4"))
    assert folder == "no-patient-id/no-study-uid/no-series-uid"


def test_what_is_left_of_a_value_can_be_recognised() -> None:
    assert re.fullmatch(r"M_ller_7~[0-9a-f]{32}", folder_name("Müller/7"))


def test_a_layout_goes_to_another_process() -> None:
    copied = pickle.loads(pickle.dumps(Layout("{PatientID}/{SOPInstanceUID}.dcm")))
    assert copied.place(instance("P", "1.2", "1.3", "1.4"))[:2] == ("P", "1.4.dcm")
