"""Attribute matching, clause by clause of PS3.4 C.2.2.2."""

from __future__ import annotations

import time
import warnings
from typing import Any

import pytest
from hypothesis import given, strategies as st
from pydicom import DataElement, Dataset

from dicomnet import AcceptedContext, AssociationInfo, EncodedDataset, Indication, StatusError
from dicomnet.services import matching, texts
from dicomnet.services.matching import Query, matches, response
from dicomnet.ul.pdu import AssociateRq
from tests.services.conftest import dataset


def received(**elements: Any) -> Dataset:
    """As it arrives: encoded, and decoded only when it is touched."""
    return EncodedDataset(bytes(EncodedDataset.from_dataset(dataset(**elements))), "1.2.840.10008.1.2.1").decode()


def finds(keyword: str, key: Any, value: Any, **options: Any) -> bool:
    """The same answer for a key that was made here and for one that was received."""
    candidate = dataset(**{keyword: value})
    here = matches(dataset(**{keyword: key}), candidate, **options)
    assert here is matches(received(**{keyword: key}), candidate, **options)
    return here


# --- single values (C.2.2.2.1) --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keyword", "key", "value", "expected"),
    [
        ("PatientID", "12345", "12345", True),
        ("PatientID", "1234", "12345", False),
        ("PatientID", "abc", "ABC", False),  # case counts
        ("PatientID", " 12345 ", "12345", True),  # padding of LO does not
        ("PatientID", "12345", "  12345", True),
        ("PatientID", "12345", "", False),
        ("PatientID", "12345", None, False),
        ("Modality", "CT", "CT", True),
        ("Modality", "CT", "MR", False),
        ("PatientAge", "030Y", "030Y", True),
        ("InstanceNumber", "7", "7", True),
        ("InstanceNumber", "007", "7", True),  # as numbers
        ("InstanceNumber", "8", "7", False),
        ("PatientWeight", "70.0", "70", True),
        ("Rows", 512, 512, True),
        ("Rows", 512, 256, False),
        ("PixelSpacing", ["0.5", "0.5"], ["0.50", "0.50"], True),
        ("RetrieveAETitle", "STORE", "STORE ", True),
        ("AdditionalPatientHistory", "a\\b", "a\\b", True),  # LT has one value, whatever is in it
        ("AdditionalPatientHistory", " a", "a", False),  # and leading spaces that count
        ("AdditionalPatientHistory", "a  ", "a", True),
        ("RetrieveURL", "http://a/b", "http://a/b", True),
        ("FrameIncrementPointer", 0x00100010, 0x00100010, True),
        ("FrameIncrementPointer", 0x00100010, 0x00100020, False),
    ],
)
def test_a_single_value_matches_the_same_value(keyword: str, key: Any, value: Any, expected: bool) -> None:
    """PS3.4 C.2.2.2.1."""
    assert finds(keyword, key, value) is expected


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("Doe^John", "Doe^John", True),
        ("doe^JOHN", "Doe^John", True),  # PN: case may be ignored, and is
        ("Doe^John", "Doe^John^^^", True),  # trailing delimiters say nothing (PS3.5 6.2.1)
        ("Doe^John^^^", "Doe^John", True),
        ("Doe ^ John", "Doe^John", True),
        ("Doe", "Doe^John", False),
        ("Doe^", "Doe", True),
        ("Doe", "Doe=どえ", True),
        ("山田^太郎", "Yamada^Tarou=山田^太郎=やまだ^たろう", True),  # one group: wherever it is
        ("やまだ^たろう", "Yamada^Tarou=山田^太郎=やまだ^たろう", True),
        ("Yamada^Tarou=山田^太郎", "Yamada^Tarou=山田^太郎=やまだ^たろう", True),
        ("=山田^太郎", "Yamada^Tarou=山田^太郎=やまだ^たろう", True),
        ("山田^太郎=やまだ^たろう", "Yamada^Tarou=山田^太郎=やまだ^たろう", False),  # several groups: each in its place
        ("Yamada^Tarou=田山^太郎", "Yamada^Tarou=山田^太郎", False),
        ("Yamada^Tarou=山田^太郎", "Yamada^Tarou", False),
        ("Y*=*=*", "Yamada^Tarou=山田^太郎", True),
        ("D?e^J*", "Doe^John", True),
        ("doe^*", "Doe", True),  # components that are not written are empty ones
        ("*^John", "Doe^John", True),
        ("*^John", "Doe", False),
        ("*john", "Doe^John^^Dr", False),
        ("*田*", "Yamada^Tarou=山田^太郎", True),
        ("Müller", "Mu\u0308ller", True),  # ü in one character or in two
        ("MÜLLER", "Müller", True),
        ("^^", "Anybody", True),  # nothing is asked for
        ("Doe", "", False),
    ],
)
def test_names_of_persons(key: str, value: str, expected: bool) -> None:
    """PS3.4 C.2.2.2.1, C.2.2.2.4; PS3.5 6.2.1: what the standard leaves to the provider."""
    wanted, candidate = dataset(PatientName=key), dataset(PatientName=value)
    assert matches(wanted, candidate) is expected
    wanted.SpecificCharacterSet = "ISO_IR 192"
    assert matches(EncodedDataset.from_dataset(wanted).decode(), candidate) is expected


@pytest.mark.parametrize("ours", ["ISO_IR 192", "ISO_IR 100", "GB18030"])
@pytest.mark.parametrize("theirs", ["ISO_IR 192", "ISO_IR 100", "GB18030"])
def test_character_sets_do_not_matter(ours: str, theirs: str) -> None:
    """PS3.4 C.2.2.2: Specific Character Set says how to read, and is not matched."""
    key = received(SpecificCharacterSet=ours, PatientName="Müller^*", StudyDescription="Schädel*")
    candidate = received(SpecificCharacterSet=theirs, PatientName="Müller^Jörg", StudyDescription="Schädel nativ")
    assert matches(key, candidate)
    answer = response(key, candidate)
    assert answer.SpecificCharacterSet == theirs
    encoded = EncodedDataset(bytes(EncodedDataset.from_dataset(answer)), "1.2.840.10008.1.2.1").decode()
    assert encoded.PatientName == "Müller^Jörg"


def test_code_extensions_are_read_as_the_text_they_are() -> None:
    """PS3.5 H.3: ISO 2022 IR 87 beside the default repertoire."""
    name = "Yamada^Tarou=山田^太郎=やまだ^たろう"
    candidate = received(SpecificCharacterSet=["", "ISO 2022 IR 87"], PatientName=name)
    for key in ("山田*", "Yamada^Tarou=山田^太郎", "*^たろう"):
        assert matches(received(SpecificCharacterSet=["", "ISO 2022 IR 87"], PatientName=key), candidate)
        assert matches(received(SpecificCharacterSet="ISO_IR 192", PatientName=key), candidate)
    assert response(dataset(PatientName="*"), candidate).PatientName == name


# --- lists of UIDs (C.2.2.2.2) --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("1.2.3", "1.2.3", True),
        (["1.2.3", "1.2.4"], "1.2.4", True),
        (["1.2.3", "1.2.4"], "1.2.5", False),
        ("1.2.3*", "1.2.34", False),  # no wildcards in UIDs
        ("*", "1.2.34", True),
        ("", "1.2.34", True),
    ],
)
def test_a_list_of_uids_matches_each_of_them(key: Any, value: str, expected: bool) -> None:
    """PS3.4 C.2.2.2.2."""
    assert finds("StudyInstanceUID", key, value) is expected


# --- universal (C.2.2.2.3) ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keyword", ["PatientName", "StudyDate", "StudyTime", "StudyInstanceUID", "InstanceNumber"])
@pytest.mark.parametrize("key", ["", None, "*", "**"])
def test_an_empty_key_and_a_lone_star_match_everything(keyword: str, key: Any) -> None:
    """PS3.4 C.2.2.2.3, C.2.2.2.4: what has no value, too."""
    identifier = Dataset()
    identifier.add(DataElement(keyword, "LO", "x"))
    with warnings.catch_warnings(action="ignore"):
        identifier = dataset(**{keyword: key}) if keyword != "InstanceNumber" or key in ("", None) else Dataset()
    assert matches(identifier, Dataset())
    assert matches(identifier, dataset(**{keyword: None}))
    assert matches(identifier, dataset(PatientName="Doe", StudyDate="20200101", StudyTime="10", InstanceNumber="1"))


def test_a_star_in_a_number_is_read_though_pydicom_would_not() -> None:
    """Keys may hold what their VR forbids (PS3.4 C.2.2.2)."""
    star = bytes.fromhex("20001300") + b"IS\x02\x00* "
    identifier = EncodedDataset(star, "1.2.840.10008.1.2.1").decode()
    assert matches(identifier, dataset(InstanceNumber="5"))


def test_a_key_with_a_value_does_not_match_what_has_none() -> None:
    """PS3.4 K.2.2.1.1.1: an unknown value fails to match."""
    for key in (dataset(PatientID="1"), dataset(PatientID="?"), dataset(PatientName="D*"), dataset(StudyDate="-2020")):
        key.StudyDate = "20200101" if "StudyDate" in key else None
        assert not matches(key, Dataset())


# --- wildcards (C.2.2.2.4) ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keyword", "key", "value", "expected"),
    [
        ("PatientID", "1*5", "12345", True),
        ("PatientID", "1*5", "15", True),
        ("PatientID", "1?5", "125", True),
        ("PatientID", "1?5", "15", False),
        ("PatientID", "*4*", "12345", True),
        ("PatientID", "*6*", "12345", False),
        ("PatientID", "a*", "ABC", False),
        ("PatientID", "[1]*", "1", False),  # characters that mean something elsewhere
        ("PatientID", "[1]*", "[1]23", True),
        ("PatientID", "(.*)", "(.abc)", True),
        ("PatientID", "(.*)", "abc", False),
        ("Modality", "C?", "CT", True),
        ("Modality", "C?", "MR", False),
        ("StudyDescription", "*line\n*", "a line\nb", True),
        ("PatientComments", "*fracture*", "old fracture, left", True),
        ("StudyDate", "2020*", "20200101", None),  # not for dates
        ("PatientAge", "03?Y", "030Y", False),
    ],
)
def test_wildcards(keyword: str, key: str, value: str, expected: bool | None) -> None:
    """PS3.4 C.2.2.2.4: in these VRs alone."""
    if expected is None:
        with pytest.raises(StatusError, match="0xA900"):
            finds(keyword, key, value)
    else:
        assert finds(keyword, key, value) is expected


def reference(pattern: str, text: str) -> bool:
    """Wildcards by the book: a table of which prefixes match."""
    row = [True] + [False] * len(text)
    for character in pattern:
        if character == "*":
            for index in range(1, len(row)):
                row[index] = row[index] or row[index - 1]
        else:
            row = [False] + [row[index] and character in ("?", text[index]) for index in range(len(text))]
    return row[-1]


@given(st.text("ab*?.", max_size=12), st.text("ab.", max_size=12))
def test_wildcards_do_what_the_definition_says(pattern: str, text: str) -> None:
    """Atomic groups lose nothing."""
    assert texts.wildcard_test(pattern)(text) is reference(pattern, text)


def test_a_hostile_pattern_costs_little() -> None:
    """Backtracking would take years."""
    text = "a" * 50_000
    started = time.perf_counter()
    for pattern in ("a*" * 500 + "b", "*a" * 500 + "b", "*" + "a?" * 400 + "*b*c", "?*" * 500 + "b"):
        assert not matches(dataset(TextValue=pattern), dataset(TextValue=text))
    assert time.perf_counter() - started < 5


# --- dates and times (C.2.2.2.1, C.2.2.2.5) -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keyword", "key", "value", "expected"),
    [
        ("StudyDate", "20200102", "20200102", True),
        ("StudyDate", "20200102", "20200103", False),
        ("StudyDate", "20200101-20200131", "20200101", True),
        ("StudyDate", "20200101-20200131", "20200131", True),
        ("StudyDate", "20200101-20200131", "20200201", False),
        ("StudyDate", "20200101 - 20200131", "20200115", True),
        ("StudyDate", "-20200131", "19000101", True),
        ("StudyDate", "-20200131", "20200201", False),
        ("StudyDate", "20200131-", "20200131", True),
        ("StudyDate", "20200131-", "20200130", False),
        ("StudyDate", "20200131-20200101", "20200115", False),
        ("StudyDate", "2020.01.02", "20200102", True),  # as ACR-NEMA wrote it
        ("StudyDate", "20200102", "2020.01.02", True),
        ("StudyDate", "20200101-", "", False),
        ("StudyTime", "10", "103000", True),  # the hour
        ("StudyTime", "1030", "103059.999", True),
        ("StudyTime", "1030", "1031", False),
        ("StudyTime", "103000", "103000.000000", True),
        ("StudyTime", "103000", "10", True),  # a value of low precision may be it
        ("StudyTime", "10:30:00", "103000", True),
        ("StudyTime", "0900-1200", "1200", True),
        ("StudyTime", "0900-1200", "120059", True),
        ("StudyTime", "0900-1200", "120100", False),
        ("StudyTime", "-0900", "085959.9", True),
        ("StudyTime", "2200-0600", "230000", False),  # a range does not cross midnight
        ("StudyTime", "235960", "235959", True),
        ("AcquisitionDateTime", "20200102", "20200102103000", True),
        ("AcquisitionDateTime", "2020-2021", "202112", True),
        ("AcquisitionDateTime", "2020-2021", "202201", False),
        ("AcquisitionDateTime", "202002-", "20200229", True),
        ("AcquisitionDateTime", "-202002", "20200229235959", True),
        ("AcquisitionDateTime", "-202002", "20200301", False),
        ("AcquisitionDateTime", "20200102103000+0100", "20200102093000+0000", True),
        ("AcquisitionDateTime", "20200102103000+0100", "20200102103000+0000", False),
        ("AcquisitionDateTime", "20200102103000-0500", "20200102153000+0000", True),  # an offset, no range
        ("AcquisitionDateTime", "20200102103000-0500", "20200102153000", False),
        ("AcquisitionDateTime", "20200102103000-0500", "20200102103000", True),  # unknown zone: the local one
        ("AcquisitionDateTime", "20200102103000-0500-20200102113000-0500", "20200102160000+0000", True),
        ("AcquisitionDateTime", "20200102103000-0500-", "20200102160000+0000", True),
        ("AcquisitionDateTime", "20200102103000-0500-", "20200102150000+0000", False),
        ("AcquisitionDateTime", "-20200102103000-0500", "20200102150000+0000", True),
        ("AcquisitionDateTime", "2020-1300", "2020", False),  # no offset, and nothing in it
        ("AcquisitionDateTime", "20200102103000.5-20200102103001", "20200102103000.7", True),
        ("AcquisitionDateTime", "20200102103000.5-20200102103001", "20200102103000.4", False),
        ("AcquisitionDateTime", "00010101000000+1400", "00010101+0000", False),  # before the year 1, and no matter
    ],
)
def test_dates_and_times(keyword: str, key: str, value: str, expected: bool) -> None:
    """PS3.4 C.2.2.2.5; PS3.5 6.2: what is left out makes a value imprecise."""
    assert finds(keyword, key, value) is expected


@pytest.mark.parametrize(
    ("keyword", "key"),
    [
        ("StudyDate", "2020"),
        ("StudyDate", "20201301"),
        ("StudyDate", "20200230"),
        ("StudyDate", "yesterday"),
        ("StudyDate", "-"),
        ("StudyDate", "20200101-20200102-20200103"),
        ("StudyTime", "25"),
        ("StudyTime", "10-x"),
        ("AcquisitionDateTime", "20200102 10:30"),
        ("AcquisitionDateTime", "-"),
        ("AcquisitionDateTime", "20200101-20200102-20200103"),
        ("AcquisitionDateTime", "0000"),
    ],
)
def test_what_is_no_date_is_refused(keyword: str, key: str) -> None:
    """PS3.4 C.4.1.1.4: A900H."""
    with pytest.raises(StatusError) as caught:
        Query(received(**{keyword: key}))
    assert caught.value.status == 0xA900
    assert len(caught.value.comment) <= 64


def test_the_offset_of_the_data_set_counts_where_a_value_has_none() -> None:
    """Timezone Offset From UTC (0008,0201), PS3.4 C.2.2.2.5: of the identifier and of the candidate."""
    key = dataset(TimezoneOffsetFromUTC="+0100", AcquisitionDateTime="20200102103000")
    assert matches(key, dataset(TimezoneOffsetFromUTC="+0000", AcquisitionDateTime="20200102093000"))
    assert matches(key, dataset(TimezoneOffsetFromUTC="+0000", AcquisitionDateTime="20200102103000+0100"))
    assert not matches(key, dataset(TimezoneOffsetFromUTC="+0000", AcquisitionDateTime="20200102103000"))
    assert matches(key, dataset(AcquisitionDateTime="20200102103000"))
    assert matches(key, dataset(TimezoneOffsetFromUTC="rubbish", AcquisitionDateTime="20200102103000"))


@pytest.mark.parametrize(
    ("date", "time", "expected"),
    [
        ("20060705", "1000", True),
        ("20060705", "0959", False),
        ("20060706", "0300", True),
        ("20060707", "1800", True),
        ("20060707", "1801", False),
        ("20060706", "", True),
        ("", "1200", False),
    ],
)
def test_a_date_range_and_a_time_range_can_be_one(date: str, time: str, expected: bool) -> None:
    """PS3.4 C.2.2.2.5: combined date-time matching."""
    key = dataset(StudyDate="20060705-20060707", StudyTime="1000-1800", SeriesDate="20060705-", SeriesTime="")
    candidate = dataset(StudyDate=date, StudyTime=time, SeriesDate="20060705")
    assert matches(key, candidate, combined_datetimes=True) is expected


def test_ranges_of_different_forms_are_not_combined() -> None:
    """PS3.4 C.2.2.2.5: both specify the same form."""
    key = dataset(StudyDate="20060705-20060707", StudyTime="1000-")
    assert not matches(key, dataset(StudyDate="20060706", StudyTime="0300"), combined_datetimes=True)
    assert matches(key, dataset(StudyDate="20060706", StudyTime="1100"), combined_datetimes=True)
    with pytest.raises(StatusError):
        Query(dataset(StudyDate="20060705-20060707", StudyTime="1000-x"), combined_datetimes=True)


def test_combined_ranges_know_time_zones() -> None:
    """PS3.4 C.2.2.2.5."""
    key = dataset(TimezoneOffsetFromUTC="+0000", StudyDate="20060705-", StudyTime="1000-")
    value = {"StudyDate": "20060705", "StudyTime": "1030"}
    assert matches(key, dataset(**value), combined_datetimes=True)
    assert matches(key, dataset(TimezoneOffsetFromUTC="+0000", **value), combined_datetimes=True)
    assert not matches(key, dataset(TimezoneOffsetFromUTC="+0100", **value), combined_datetimes=True)


DAYS = st.dates().map(lambda day: day.strftime("%Y%m%d").rjust(8, "0"))


@given(DAYS, DAYS, DAYS)
def test_ranges_of_dates_are_those_of_their_texts(low: str, high: str, value: str) -> None:
    """Eight digits sort as the days do."""
    candidate = dataset(StudyDate=value)
    assert matches(dataset(StudyDate=f"{low}-{high}"), candidate) is (low <= value <= high)
    assert matches(dataset(StudyDate=f"{low}-"), candidate) is (low <= value)
    assert matches(dataset(StudyDate=f"-{high}"), candidate) is (value <= high)


# --- sequences (C.2.2.2.6) ------------------------------------------------------------------------------------------


def step(**elements: Any) -> Dataset:
    return dataset(**elements)


def test_one_item_has_to_match_in_all_its_keys() -> None:
    """PS3.4 C.2.2.2.6: item by item."""
    key = dataset(ScheduledProcedureStepSequence=[step(Modality="CT", ScheduledStationAETitle="CT1")])
    both = [step(Modality="CT", ScheduledStationAETitle="CT2"), step(Modality="MR", ScheduledStationAETitle="CT1")]
    assert not matches(key, dataset(ScheduledProcedureStepSequence=both))
    both.append(step(Modality="CT", ScheduledStationAETitle="CT1"))
    assert matches(key, dataset(ScheduledProcedureStepSequence=both))
    assert not matches(key, dataset(ScheduledProcedureStepSequence=[]))
    assert not matches(key, Dataset())


def test_only_matching_items_with_only_the_requested_keys_are_returned() -> None:
    """PS3.4 C.2.2.2.6."""
    key = dataset(ScheduledProcedureStepSequence=[step(Modality="CT", ScheduledProcedureStepID="")])
    items = [
        step(Modality="MR", ScheduledProcedureStepID="1"),
        step(Modality="CT", ScheduledProcedureStepID="2", ScheduledStationName="x"),
        step(Modality="CT"),
    ]
    answer = response(key, dataset(ScheduledProcedureStepSequence=items, PatientID="not asked for"))
    assert [item.to_json_dict() for item in answer.ScheduledProcedureStepSequence] == [
        step(Modality="CT", ScheduledProcedureStepID="2").to_json_dict(),
        step(Modality="CT", ScheduledProcedureStepID=None).to_json_dict(),
    ]
    assert "PatientID" not in answer


@pytest.mark.parametrize("empty", [[], [Dataset()]])
def test_an_empty_sequence_asks_for_all_of_it(empty: list[Dataset]) -> None:
    """PS3.4 C.2.2.2.6."""
    items = [step(Modality="MR"), step(Modality="CT")]
    key, candidate = dataset(ScheduledProcedureStepSequence=empty), dataset(ScheduledProcedureStepSequence=items)
    assert matches(key, candidate)
    assert matches(key, Dataset())
    answer = response(key, candidate)
    assert [item.Modality for item in answer.ScheduledProcedureStepSequence] == ["MR", "CT"]
    answer.ScheduledProcedureStepSequence[0].Modality = "US"
    assert items[0].Modality == "MR"  # an answer is the user's to change
    assert response(key, Dataset()).ScheduledProcedureStepSequence == []


def test_items_that_ask_for_nothing_in_particular_match_what_has_none() -> None:
    """PS3.4 C.2.2.2.3: return keys, nothing else."""
    key = dataset(ScheduledProcedureStepSequence=[step(Modality="", ScheduledProcedureStepID="")])
    assert matches(key, Dataset())


def test_sequences_match_within_sequences() -> None:
    """PS3.4 C.2.2.2.6: recursively."""

    def nested(code: str) -> Dataset:
        return dataset(ScheduledProcedureStepSequence=[step(ScheduledProtocolCodeSequence=[dataset(CodeValue=code)])])

    assert matches(nested("AB*"), nested("ABC"))
    assert not matches(nested("AB"), nested("ABC"))


def test_what_is_no_sequence_does_not_match_one() -> None:
    """A peer's data set may say anything."""
    other = Dataset()
    other.add(DataElement(0x00400100, "LO", "CT"))
    key = dataset(ScheduledProcedureStepSequence=[step(Modality="CT")])
    assert not matches(key, other)
    with pytest.raises(StatusError, match="VR"):
        Query(other)
    text = Dataset()
    text.add(DataElement(0x00100020, "SQ", [dataset(Modality="CT")]))
    assert not matches(dataset(PatientID="CT"), text)
    with pytest.raises(StatusError, match="VR"):
        Query(text)


# --- empty and multiple values (C.2.2.2.7, C.2.2.2.8) ---------------------------------------------------------------


def test_two_quotation_marks_ask_for_what_is_empty() -> None:
    """PS3.4 C.2.2.2.7, where it was negotiated."""
    key = dataset(PatientID='""')
    assert matches(key, Dataset(), empty_values=True)
    assert matches(key, dataset(PatientID=""), empty_values=True)
    assert not matches(key, dataset(PatientID="1"), empty_values=True)
    assert not matches(key, Dataset())
    assert matches(received(StudyDate='""'), Dataset(), empty_values=True)


def test_any_of_several_values_will_do() -> None:
    """PS3.4 C.2.2.3 for the candidate's; what several values of a key mean is open without negotiation."""
    candidate = dataset(ModalitiesInStudy=["CT", "PT"])
    assert matches(dataset(ModalitiesInStudy="PT"), candidate)
    assert matches(dataset(ModalitiesInStudy=["MR", "PT"]), candidate)
    assert not matches(dataset(ModalitiesInStudy=["MR", "US"]), candidate)
    assert response(dataset(ModalitiesInStudy="PT"), candidate).ModalitiesInStudy == ["CT", "PT"]


def test_all_of_several_values_where_that_was_negotiated() -> None:
    """PS3.4 C.2.2.2.8."""
    candidate = dataset(ModalitiesInStudy=["CT", "PT", "SR"])
    assert matches(dataset(ModalitiesInStudy=["PT", "CT"]), candidate, all_values=True)
    assert not matches(dataset(ModalitiesInStudy=["PT", "MR"]), candidate, all_values=True)
    uids = dataset(StudyInstanceUID=["1.2", "1.3"])
    assert matches(uids, dataset(StudyInstanceUID="1.3"), all_values=True)  # a list of UIDs stays one


# --- responses (C.4.1.1.3.2) ----------------------------------------------------------------------------------------


def test_a_response_has_what_was_asked_for_and_what_belongs_to_it() -> None:
    """PS3.4 C.4.1.1.3.2: the level, its unique keys, the character set."""
    key = dataset(QueryRetrieveLevel="SERIES", SeriesDescription="", Modality="CT", PatientID="", Rows=None)
    candidate = dataset(
        SpecificCharacterSet="ISO_IR 100",
        StudyInstanceUID="1.2",
        SeriesInstanceUID="1.3",
        SeriesDescription="Schädel",
        Modality="CT",
        PatientName="Doe",
    )
    assert response(key, candidate).to_json_dict() == (
        dataset(
            SpecificCharacterSet="ISO_IR 100",
            QueryRetrieveLevel="SERIES",
            StudyInstanceUID="1.2",
            SeriesInstanceUID="1.3",
            SeriesDescription="Schädel",
            Modality="CT",
            PatientID=None,
            Rows=None,
        ).to_json_dict()
    )


def test_text_beyond_ascii_gets_a_character_set() -> None:
    """PS3.4 C.4.1.1.3.2: a data set that was made here may have none."""
    key = dataset(PatientName="", RequestAttributesSequence=[dataset(RequestedProcedureDescription="")])
    plain = dataset(PatientName="Doe", RequestAttributesSequence=[dataset(RequestedProcedureDescription="Skull")])
    assert "SpecificCharacterSet" not in response(key, plain)
    named = dataset(PatientName="Müller")
    assert response(key, named).SpecificCharacterSet == "ISO_IR 192"
    inside = dataset(RequestAttributesSequence=[dataset(RequestedProcedureDescription="Schädel")])
    assert response(key, inside).SpecificCharacterSet == "ISO_IR 192"


def test_the_time_zone_is_returned_if_it_is_asked_for_and_known() -> None:
    """PS3.4 C.4.1.1.3.2."""
    key = dataset(TimezoneOffsetFromUTC="+0100", PatientID="")
    assert response(key, dataset(TimezoneOffsetFromUTC="-0500")).TimezoneOffsetFromUTC == "-0500"
    assert "TimezoneOffsetFromUTC" not in response(key, Dataset())
    assert "TimezoneOffsetFromUTC" not in response(dataset(PatientID=""), dataset(TimezoneOffsetFromUTC="-0500"))


def test_changing_a_response_does_not_change_the_candidate() -> None:
    """A provider answers many from the same data sets."""
    candidate = dataset(PatientID="1")
    answer = response(dataset(PatientID=""), candidate)
    answer.PatientID = "2"
    assert candidate.PatientID == "1"


def test_keys_that_are_not_supported_are_left_out_and_told() -> None:
    """PS3.4 C.4.1.1.4: Pending with FF01H."""
    query = Query(dataset(PatientID="1", Modality="CT"), supported=["PatientID"])
    assert query.unsupported == (0x00080060,)
    candidate = dataset(PatientID="1", Modality="MR")
    assert query.matches(candidate)
    assert "Modality" not in query.response(candidate)


def test_select_answers_for_those_that_match() -> None:
    """One after the other, so that a list of any length takes no memory."""
    query = Query(dataset(PatientID="1*", PatientName=""))
    some = (dataset(PatientID=str(number), PatientName=f"Name {number}") for number in range(10, 30))
    assert [str(answer.PatientName) for answer in query.select(some)] == [f"Name {number}" for number in range(10, 20)]


VALUES = st.fixed_dictionaries(
    {},
    optional={
        "PatientID": st.text("ab 1é", min_size=1, max_size=8).filter(str.strip),
        "PatientName": st.text("aB^=é ", min_size=1, max_size=12),
        "StudyDate": st.dates().map(lambda day: f"{day:%Y%m%d}".rjust(8, "0")),
        "StudyTime": st.times().map(lambda time: f"{time:%H%M%S}"),
        "StudyInstanceUID": st.from_regex(r"[12]\.[1-9]{1,5}", fullmatch=True),
        "InstanceNumber": st.integers(-(2**31), 2**31 - 1).map(str),
        "Rows": st.integers(0, 65535),
    },
)


@given(VALUES)
def test_a_data_set_matches_itself(values: dict[str, Any]) -> None:
    """And the response to itself has the same values."""
    it = dataset(**values)
    assert matches(it, it)
    answer = response(it, it)
    assert {key: answer[key].value for key in values} == {key: it[key].value for key in values}


# --- hostile identifiers --------------------------------------------------------------------------------------------


def test_identifiers_are_bounded() -> None:
    """Depth, keys, values and patterns."""
    deep = dataset(PatientID="")
    for _ in range(matching.DEEPEST + 1):
        deep = dataset(ReferencedStudySequence=[deep])
    wide = Dataset()
    for number in range(matching.MOST_KEYS + 1):
        wide.add(DataElement(0x00091001 + number, "LO", "x"))
    long = dataset(StudyInstanceUID=["1.2"] * (matching.MOST_VALUES + 1))
    pattern = dataset(PatientComments="*" + "a" * matching.LONGEST_PATTERN)
    two = dataset(ReferencedStudySequence=[dataset(PatientID="1"), dataset(PatientID="2")])
    for hostile in (deep, wide, long, pattern, two):
        with pytest.raises(StatusError, match="0xA900"):
            Query(hostile)


def test_a_key_that_pydicom_cannot_read_is_refused() -> None:
    """Never an exception of another kind."""
    broken = bytes.fromhex("28001000") + b"US\x03\x00abc"  # Rows of three bytes
    with pytest.raises(StatusError, match="0xA900"):
        Query(EncodedDataset(broken, "1.2.840.10008.1.2.1").decode())


@pytest.mark.parametrize("data", [None, EncodedDataset(b"\x10", "1.2.840.10008.1.2.1.99")])
def test_a_request_without_a_readable_identifier_is_refused(data: Any) -> None:
    """PS3.4 C.4.1.1.4: A900H."""
    context = AcceptedContext(1, "1.2", "1.2.840.10008.1.2.1")
    association = AssociationInfo("A", "B", ("127.0.0.1", 1), AssociateRq("B", "A", ()))
    with pytest.raises(StatusError, match="0xA900"):
        Query.of(Indication(association, context, 1, "1.2", "", 0, None, data))


def test_private_keys_match_as_they_are() -> None:
    """Tags that no dictionary knows."""
    private = Dataset()
    private.add(DataElement(0x00091001, "LO", "A*"))
    other = Dataset()
    other.add(DataElement(0x00091001, "LO", "ABC"))
    assert matches(private, other)
    assert not matches(private, Dataset())


def test_thousands_of_candidates_are_matched_fast() -> None:
    """The identifier is compiled once; this is a worklist of a large hospital."""
    items = [
        dataset(
            PatientName=f"Name^{number}",
            PatientID=str(number),
            ScheduledProcedureStepSequence=[step(Modality="CT", ScheduledProcedureStepStartDate="20200101")],
        )
        for number in range(2000)
    ]
    key = dataset(
        PatientName="name*",
        ScheduledProcedureStepSequence=[step(Modality="CT", ScheduledProcedureStepStartDate="20200101-20200102")],
    )
    query = Query(key)
    started = time.perf_counter()
    assert sum(map(query.matches, items)) == 2000
    assert time.perf_counter() - started < 2
