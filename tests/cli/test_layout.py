"""Names of received instances: never out of the folder, never another one's (whatever the peer sends)."""

import re
import string

import pytest
from hypothesis import given, strategies as st

from dicomnet.cli.layout import file_name, folder_name, instance_path

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


def check_component(name: str) -> None:
    assert 0 < len(name) <= 80
    assert set(name) <= _SAFE
    assert name[0] not in ".-"
    assert name[-1] not in ". "
    assert not _DEVICE.match(name)


@given(values, values, values, values)
def test_paths_stay_in_the_folder_on_every_platform(patient: str, study: str, series: str, instance: str) -> None:
    folder, name = instance_path(patient, study, series, instance)
    parts = [*folder.split("/"), name]
    assert len(parts) == 4
    for part in parts:
        check_component(part)


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
    assert instance_path("P", "1.2", "1.3", "1.4") == ("P/1.2/1.3", "1.4.dcm")


def test_missing_values_have_a_name() -> None:
    assert instance_path("", "", "", "1.4") == ("no-patient-id/no-study-uid/no-series-uid", "1.4.dcm")


def test_what_is_left_of_a_value_can_be_recognised() -> None:
    assert re.fullmatch(r"M_ller_7~[0-9a-f]{32}", folder_name("Müller/7"))
