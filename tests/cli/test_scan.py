"""Values from the first bytes of a data set (PS3.5 7.1): as pydicom reads them, or not at all."""

import struct
import warnings
from pathlib import Path
from typing import Any

import pydicom
import pytest
from hypothesis import given, settings, strategies as st
from pydicom.dataset import Dataset

from dicomnet import EncodedDataset, InvalidDataset, scan
from dicomnet.scan import PATIENT_ID, SERIES_INSTANCE_UID, STUDY_INSTANCE_UID, dataset_values, text_values
from tests.cli.programs import BIG_ENDIAN, EXPLICIT, IMPLICIT, instance

DEFLATED = "1.2.840.10008.1.2.1.99"
TAGS = (PATIENT_ID, STUDY_INSTANCE_UID, SERIES_INSTANCE_UID)
EXPECTED = {PATIENT_ID: "P1", STUDY_INSTANCE_UID: "1.2.3", SERIES_INSTANCE_UID: "1.2.3.0"}
SYNTAXES = (IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED)
_FILES = Path(pydicom.__file__).parent / "data" / "test_files"


def nested() -> Dataset:
    """An item whose elements must not be taken for those of the data set."""
    item = Dataset()
    item.PatientID = "WRONG"
    item.StudyInstanceUID = "9.9"
    inner = Dataset()
    inner.SeriesInstanceUID = "9.9.9"
    inner.is_undefined_length_sequence_item = True
    item.ReferencedSeriesSequence = [inner]
    item["ReferencedSeriesSequence"].is_undefined_length = True
    return item


def with_sequence(syntax: str, undefined: bool, items: int = 2) -> EncodedDataset:
    """A sequence in front of the patient ID."""
    decoded = instance().decode()
    decoded.ReferencedStudySequence = [nested() for _ in range(items)]
    decoded["ReferencedStudySequence"].is_undefined_length = undefined
    return EncodedDataset.from_dataset(decoded, syntax)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_values_in_every_encoding(syntax: str) -> None:
    data = bytes(instance(syntax=syntax))
    assert text_values(data, syntax, TAGS, whole=True) == EXPECTED


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("undefined", [True, False])
def test_what_is_in_sequences_is_passed_over(syntax: str, undefined: bool) -> None:
    """PS3.5 7.5: items and sequences of defined and of undefined length."""
    data = bytes(with_sequence(syntax, undefined))
    assert text_values(data, syntax, TAGS) == EXPECTED


@pytest.mark.parametrize("syntax", SYNTAXES[:3])
def test_a_cut_off_head_never_misleads(syntax: str) -> None:
    data = bytes(with_sequence(syntax, undefined=True))
    known = [text_values(data[:end], syntax, TAGS) for end in range(len(data))]
    assert {repr(one) for one in known} == {repr(None), repr(EXPECTED)}


@pytest.mark.parametrize("syntax", SYNTAXES[:3])
@pytest.mark.parametrize("undefined", [True, False])
def test_data_sets_of_the_same_layout_are_told_apart(syntax: str, undefined: bool) -> None:
    """Where the values were in one is kept; what they are is not."""
    data = bytes(with_sequence(syntax, undefined))
    for number in (1, 2, 3, 4):
        patient, series = f"P{number}", f"1.2.{number}.0"
        another = data.replace(b"P1", patient.encode()).replace(b"1.2.3.0", series.encode())
        expected = {**EXPECTED, PATIENT_ID: patient, SERIES_INSTANCE_UID: series}
        assert text_values(another, syntax, TAGS) == expected


@given(st.data())
@settings(deadline=None)
def test_what_was_seen_before_changes_nothing(data: st.DataObject) -> None:
    """Whatever bytes are changed in a data set whose layout is known: as if it were not."""
    syntax = data.draw(st.sampled_from(SYNTAXES[:3]))
    known = bytes(with_sequence(syntax, undefined=data.draw(st.booleans())))
    changed = bytearray(known)
    for at in data.draw(st.lists(st.integers(0, len(known) - 1), max_size=3)):
        changed[at] = data.draw(st.integers(0, 255))
    cut = bytes(changed)[: data.draw(st.integers(0, len(known)))]
    for variant in (bytes(changed), cut):
        scan._walker.cache_clear()
        expected = text_values(variant, syntax, TAGS, whole=True)
        for _ in range(3):
            text_values(known, syntax, TAGS, whole=True)
        assert text_values(variant, syntax, TAGS, whole=True) == expected


def test_what_is_kept_of_layouts_is_bounded() -> None:
    """A peer that sends ever new ones takes no memory."""
    scan._walker.cache_clear()
    for number in range(3 * scan._MOST_LAYOUTS):
        data = bytes(instance(StudyDescription="x" * number))
        for _ in range(3):
            assert text_values(data, EXPLICIT, TAGS) == EXPECTED
    assert len(scan._walker(False, False, TAGS).layouts) <= scan._MOST_LAYOUTS


def test_long_sequences_in_front_are_read_past_the_head() -> None:
    dataset = with_sequence(EXPLICIT, undefined=True, items=400)
    assert text_values(bytes(dataset)[:16384], EXPLICIT, TAGS) is None
    assert dataset_values(dataset, TAGS) == EXPECTED


def test_missing_elements_are_left_out() -> None:
    dataset = Dataset()
    dataset.SOPInstanceUID = "1.2"
    dataset.Rows = 1
    assert dataset_values(EncodedDataset.from_dataset(dataset), TAGS) == {}
    dataset = Dataset()
    dataset.SOPInstanceUID = "1.2"  # and nothing follows
    assert dataset_values(EncodedDataset.from_dataset(dataset), TAGS) == {}


def test_unusual_encodings_are_left_to_pydicom() -> None:
    """PS3.5 6.2.2: UN of undefined length holds items in implicit VR."""
    unknown = struct.pack("<HH2sHI", 9, 0x1001, b"UN", 0, 0xFFFFFFFF) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    data = bytes(instance())
    place = data.index(struct.pack("<HH", 0x0010, 0x0020))
    data = data[:place] + unknown + data[place:]
    assert text_values(data, EXPLICIT, TAGS, whole=True) is None
    assert dataset_values(EncodedDataset(data, EXPLICIT), TAGS) == EXPECTED


def test_what_nobody_can_read_has_no_values() -> None:
    assert dataset_values(EncodedDataset(b"\xff" * 100, DEFLATED), TAGS) == {}
    assert dataset_values(EncodedDataset(b"", EXPLICIT), TAGS) == {}


@given(st.binary(max_size=200), st.sampled_from(SYNTAXES))
def test_any_bytes_are_borne(data: bytes, syntax: str) -> None:
    text_values(data, syntax, TAGS, whole=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset_values(EncodedDataset(data, syntax), TAGS)


@pytest.mark.parametrize("path", sorted(_FILES.glob("*.dcm")), ids=lambda path: path.name)
def test_values_are_those_that_pydicom_reads(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some of these files are broken on purpose
        try:
            dataset = EncodedDataset.from_file(path)
            decoded: Any = dataset.decode(stop_before_pixels=True)
        except InvalidDataset:
            pytest.skip("pydicom cannot read it either")
        expected = {tag: str(decoded[tag].value or "") for tag in TAGS if tag in decoded}
        assert dataset_values(dataset, TAGS) == expected
