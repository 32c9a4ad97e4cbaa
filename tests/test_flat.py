"""Plain data sets written and read without pydicom's writer and reader: as those would do it, byte for byte."""

import copy
import warnings

import pydicom
import pytest
from hypothesis import given, settings, strategies as st
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence

from dicomnet import flat
from dicomnet.dataset import EncodedDataset
from dicomnet.part10 import header
from tests.pydicom_files import DICOM_FILES, name
from tests.test_dataset import BIG_ENDIAN, EXPLICIT, IMPLICIT, JPEG, read_with_remarks

SYNTAXES = (IMPLICIT, EXPLICIT)
LATIN_1 = st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f\\^=")
ASCII = st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters="\\^=")
ANY = st.characters(min_codepoint=0x20, max_codepoint=0xFFFF, exclude_categories=["Cs"], exclude_characters="\\^=")


def by_pydicom(dataset, transfer_syntax):
    """What pydicom's writer makes of it, or None if it cannot."""
    file = DicomBytesIO()
    file.is_implicit_VR, file.is_little_endian = transfer_syntax == IMPLICIT, transfer_syntax != BIG_ENDIAN
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            write_dataset(file, copy.deepcopy(dataset))
        except Exception:
            return None
    return file.getvalue()


# --- values ---------------------------------------------------------------------------------------------------------

uids = st.from_regex(r"[12](\.(0|[1-9][0-9]{0,8})){1,6}", fullmatch=True)
names = st.lists(st.lists(st.text(LATIN_1, max_size=8), max_size=5).map("^".join), max_size=3).map("=".join)
decimals = st.sampled_from(["1", "1.5", "-0.25", "1e3", "+7.0", " 12 ", "0001", "", None]) | st.floats(-1e6, 1e6).map(
    lambda number: f"{number:.4g}"
)
numbers = st.integers(-(2**31), 2**31 - 1)
texts = st.text(LATIN_1, max_size=20)
codes = st.text(st.sampled_from("ABCDEFG_ 0123"), max_size=12)


def some(strategy):
    """One value, several, or none."""
    return strategy | st.lists(strategy, max_size=4) | st.none()


ELEMENTS = {
    "QueryRetrieveLevel": some(codes),
    "ModalitiesInStudy": some(codes),
    "StudyDate": some(st.sampled_from(["20240229", "20240101-20240131", "", "1999"])),
    "StudyTime": some(st.sampled_from(["101500", "101500.123456", "", "10"])),
    "AcquisitionDateTime": some(st.sampled_from(["20240229101500.000001+0100", "2024", ""])),
    "AccessionNumber": some(texts),
    "RetrieveAETitle": some(codes),
    "PatientName": names | st.lists(names, max_size=2) | st.none(),
    "PatientID": some(texts),
    "PatientAge": some(st.sampled_from(["042Y", ""])),
    "PatientComments": texts | st.none(),
    "StudyInstanceUID": some(uids),
    "FailedSOPInstanceUIDList": some(uids),
    "SeriesNumber": some(numbers | numbers.map(lambda number: f" {number:+d}")),
    "PixelSpacing": some(decimals),
    "RetrieveURL": st.sampled_from(["https://example.org/a", "", None]),
    "LongCodeValue": some(texts),
    "TextValue": texts,
    "Rows": st.integers(0, 65535) | st.none() | st.just(""),
    "SmallestImagePixelValue": st.integers(0, 65535),
    "DisplayedAreaTopLeftHandCorner": st.lists(st.integers(-100, 100), max_size=2),
    "TagAngleSecondAxis": st.integers(-(2**15), 2**15 - 1),
    "SimpleFrameList": st.integers(0, 2**32 - 1) | st.lists(st.integers(0, 9)),
    "RecommendedDisplayFrameRateInFloat": st.floats(width=32, allow_nan=False),
    "ReferencePixelX0": st.integers(-(2**31), 2**31 - 1) | st.none(),
    "ExposureTimeInms": st.floats(allow_nan=False) | st.none(),
    "FrameIncrementPointer": st.just(0x00181063),
    "ICCProfile": st.binary(max_size=9),
    "SelectorSVValue": st.integers(-9, 9),
}
SETS = (
    None, "", "ISO_IR 6", "ISO_IR 100", "ISO_IR 192", "ISO_IR 144", "ISO_IR 13", "GB18030",
    ["", "ISO 2022 IR 87"], "ISO 2022 IR 100", "ISO_IR 100 ", "UNHEARD OF",
)  # fmt: skip


@st.composite
def data_sets(draw, depth=2):
    dataset = Dataset()
    with warnings.catch_warnings(), pydicom.config.disable_value_validation():
        warnings.simplefilter("ignore")
        if (character_set := draw(st.sampled_from((*SETS, *SETS[3:5] * 6, "absent")))) != "absent":
            dataset.SpecificCharacterSet = character_set
        for keyword in draw(st.lists(st.sampled_from(sorted(ELEMENTS)), unique=True, max_size=8)):
            setattr(dataset, keyword, draw(ELEMENTS[keyword]))
        if draw(st.booleans()):
            dataset.private_block(0x0009, "SOMEBODY", create=True).add_new(1, "LO", draw(texts))
        if depth and draw(st.booleans()):
            dataset.ScheduledProcedureStepSequence = Sequence(draw(st.lists(data_sets(depth - 1), max_size=2)))
            element = dataset["ScheduledProcedureStepSequence"]
            element.is_undefined_length = draw(st.sampled_from([False, False, True]))
        if draw(st.sampled_from([False] * 9 + [True])):
            dataset.add_new(0x00080000, "UL", 100)
    return dataset


# --- writing --------------------------------------------------------------------------------------------------------


@given(data_sets(), st.sampled_from(SYNTAXES))
@settings(max_examples=400, deadline=None)
def test_what_is_written_is_what_pydicom_writes(dataset, transfer_syntax):
    """PS3.5 6.2, 7.1, 7.5: any values of the plain VRs, in any order, with any character set; else nothing is."""
    expected = by_pydicom(dataset, transfer_syntax)
    before = copy.deepcopy(dataset)
    written = flat.encode(dataset, transfer_syntax)
    if written is not None:
        assert written == expected
    assert dataset == before
    if expected is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert bytes(EncodedDataset.from_dataset(dataset, transfer_syntax)) == expected


@given(data_sets(), st.sampled_from(SYNTAXES), st.sampled_from(SYNTAXES))
@settings(max_examples=200, deadline=None)
def test_what_was_read_is_written_as_pydicom_writes_it(dataset, first, second):
    """Elements that nobody touched, some that somebody did, in the same encoding and in another one."""
    data = by_pydicom(dataset, first)
    if data is None:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read = EncodedDataset(data, first).decode()
        touched = copy.deepcopy(read)
        touched.PatientID = "new"
        for changed in (read, touched):
            expected = by_pydicom(changed, second)
            written = flat.encode(changed, second)
    if written is not None and expected is not None:
        assert written == expected


@read_with_remarks
@pytest.mark.parametrize("path", DICOM_FILES, ids=name)
def test_files_are_written_as_pydicom_writes_them(path):
    """Every file that pydicom ships, whole and without its pixels, as read and with each value converted."""
    for options in ({}, {"stop_before_pixels": True}):
        for convert in (False, True):
            read = pydicom.dcmread(path, force=True, **options)
            if convert:
                for _element in read.iterall():
                    pass
            for transfer_syntax in SYNTAXES:
                written = flat.encode(copy.deepcopy(read), transfer_syntax)
                if written is not None and (expected := by_pydicom(read, transfer_syntax)) is not None:
                    assert written == expected


def plain(**elements):
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.PatientName = "Müller^Jörg"
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


@pytest.mark.parametrize("transfer_syntax", SYNTAXES)
def test_a_query_and_its_match_are_plain(transfer_syntax):
    """PS3.4 C.6: what comes by the thousand takes the short way."""
    match = plain(
        StudyDate="20240101", StudyTime="101500", AccessionNumber="", ModalitiesInStudy=["CT", "SR"], PatientID="P1",
        PatientBirthDate="", StudyInstanceUID="1.2.3", NumberOfStudyRelatedInstances="12", Rows=512,
        ScheduledProcedureStepSequence=[plain(Modality="CT")],
    )  # fmt: skip
    written = flat.encode(match, transfer_syntax)
    assert written is not None
    assert written == by_pydicom(match, transfer_syntax)
    assert flat.decode(written, transfer_syntax, header(transfer_syntax, "", "", None)) == match


@pytest.mark.parametrize(
    "elements",
    [
        {"PatientComments": "x" * 70_000},
        {"PatientName": "Яков"},
        {"PatientID": "Яков"},
        {"PixelData": b"12"},
        {"SpecificCharacterSet": ["", "ISO 2022 IR 87"]},
        {"Rows": -1},
        {"SimpleFrameList": [1, 2]},
        {"FrameIncrementPointer": 0x00181063},
        {"SmallestImagePixelValue": 3},
    ],
    ids=" ".join,
)
def test_what_is_not_plain_is_left_to_pydicom(elements):
    """PS3.5 6.1.2.5, 6.2.2, 8: where pydicom warns, has to know more, or writes something else."""
    dataset = plain()
    with pydicom.config.disable_value_validation():
        for keyword, value in elements.items():
            setattr(dataset, keyword, value)
    assert flat.encode(dataset, EXPLICIT) is None


def test_rare_transfer_syntaxes_are_left_to_pydicom():
    """PS3.5 A.3, A.4."""
    for transfer_syntax in (BIG_ENDIAN, JPEG, "1.2.3"):
        assert flat.encode(plain(), transfer_syntax) is None
        assert flat.decode(b"", transfer_syntax, header(EXPLICIT, "", "", None)) is None


def test_items_in_items_for_ever_are_left_to_pydicom():
    """A data set may, by mistake, contain itself."""
    dataset = plain()
    dataset.ContentSequence = [plain()]
    dataset.ContentSequence[0].ContentSequence = Sequence([dataset])
    assert flat.encode(dataset, EXPLICIT) is None


# --- reading --------------------------------------------------------------------------------------------------------


def raw_elements(dataset):
    return {int(tag): (dataset.get_item(tag).VR, dataset.get_item(tag).value) for tag in dataset.keys()}  # noqa: SIM118


def check_read(data, transfer_syntax, uids=("", "")):
    """It is what ``dcmread`` gives, if it is anything."""
    titles = ("SENDER", "RECEIVER")
    read = flat.decode(data, transfer_syntax, header(transfer_syntax, *uids, titles))
    if read is None:
        return None
    file = header(transfer_syntax, *uids, titles) + data
    expected = pydicom.dcmread(DicomBytesIO(file))
    assert type(read) is type(expected)
    assert raw_elements(read) == raw_elements(expected)
    assert read.preamble == expected.preamble
    assert read.file_meta == expected.file_meta
    for attribute in ("original_encoding", "original_character_set", "filename", "timestamp"):
        assert getattr(read, attribute) == getattr(expected, attribute)
    assert read.file_meta.original_encoding == expected.file_meta.original_encoding
    assert read == expected
    return read


@given(data_sets(), st.sampled_from(SYNTAXES))
@settings(max_examples=200, deadline=None)
def test_what_is_read_is_what_pydicom_reads(dataset, transfer_syntax):
    """PS3.5 7.1: the same elements, file meta information and encoding."""
    data = by_pydicom(dataset, transfer_syntax)
    if data is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            check_read(data, transfer_syntax, ("1.2.840", "1.2.3.4"))


@given(st.binary(max_size=60), st.binary(max_size=60), st.sampled_from(SYNTAXES))
@settings(deadline=None)
def test_what_is_damaged_is_left_to_pydicom(before, after, transfer_syntax):
    """Any bytes: as pydicom reads them, with its warnings, or not at all."""
    whole = by_pydicom(plain(PatientID="P"), transfer_syntax)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for data in (before, before + whole, whole + after, whole[: len(before)]):
            try:
                check_read(data, transfer_syntax)
            except (pydicom.errors.InvalidDicomError, NotImplementedError, KeyError, ValueError):
                continue


@read_with_remarks
@pytest.mark.parametrize("path", DICOM_FILES, ids=name)
def test_files_are_read_as_pydicom_reads_them(path):
    """Every file that pydicom ships."""
    dataset = EncodedDataset.from_file(path)
    if dataset.transfer_syntax in SYNTAXES:
        check_read(bytes(dataset), dataset.transfer_syntax, (dataset.sop_class_uid, dataset.sop_instance_uid))


def test_groups_that_do_not_belong_to_a_data_set_are_left_to_pydicom():
    """PS3.7 6.3.1, PS3.10 7.1: where they lead, pydicom takes them for what they are elsewhere."""
    for tag in (0x00000002, 0x00020010):
        dataset = Dataset()
        dataset.add_new(tag, "UI", "1.2")
        data = by_pydicom(dataset, EXPLICIT)
        assert flat.decode(data, EXPLICIT, header(EXPLICIT, "", "", None)) is None
        assert flat.encode(dataset, EXPLICIT) is None
