"""Queries as people write them: keys as text become identifiers (PS3.4 C.2.2.2, C.4), matches become text."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from pydicom import DataElement, Dataset, config
from pydicom.data import get_charset_files

from dicomnet import EncodedDataset
from dicomnet.models import MODELS
from dicomnet.retrieval import rows, values
from dicomnet.retrieval.levels import WITH_LEVEL, level_of, return_keys
from dicomnet.retrieval.paths import parse_path
from dicomnet.retrieval.queries import find_query, key_lines, parse_key, retrieve_query

IMPLICIT = "1.2.840.10008.1.2"


def identifier(*keys: str, **options: Any) -> Dataset:
    return find_query([parse_key(key) for key in keys], **options).identifier


def sent(*keys: str, **options: Any) -> Dataset:
    """What the peer reads."""
    encoded = EncodedDataset.from_dataset(identifier(*keys, **options), IMPLICIT)
    return EncodedDataset(bytes(encoded), IMPLICIT).decode()


# --- keys -----------------------------------------------------------------------------------------------------------


def test_keys_are_keywords_tags_and_paths_into_sequences() -> None:
    found = sent(
        "PatientName=DOE^*",
        "0010,0020=P1",
        "(0008,0050)=A1",
        "00080061=CT\\MR",
        "0019,0010=ACME",
        "0019,1001:LO=x=y",
        "ScheduledProcedureStepSequence[0].Modality=CT",
        "ScheduledProcedureStepSequence.ScheduledStationAETitle=A*",
        "RequestedProcedureCodeSequence[0]",
        "ReferencedStudySequence",
        "StudyDate",
        "Rows=512",
    )
    assert found.PatientName == "DOE^*"
    assert (found.PatientID, found.AccessionNumber, found.StudyDate) == ("P1", "A1", "")
    assert list(found.ModalitiesInStudy) == ["CT", "MR"]
    assert bytes(found[0x0019, 0x1001].value) == b"x=y "  # UN: implicit VR does not tell more
    [step] = found.ScheduledProcedureStepSequence
    assert (step.Modality, step.ScheduledStationAETitle) == ("CT", "A*")
    assert [len(item) for item in found.RequestedProcedureCodeSequence] == [0]
    assert len(found.ReferencedStudySequence) == 0
    assert found.Rows == 512


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("PatientNam=x", "PatientName"),
        ("", "keyword"),
        ("PatientID x", "PatientID=VALUE"),
        ("0019,1001=x", "0019,1001:LO"),
        ("0011,2233:XX=1", "no VR"),
        ("0002,0010=1.2", "0008"),
        ("FFFE,E000", "0008"),
        ("0010,0000", "0008"),
        ("PatientName[0]=x", "no sequence"),
        ("PatientName.Modality=x", "no sequence"),
        ("ReferencedStudySequence=x", "Sequence[0]"),
        ("ReferencedStudySequence[0]=x", "Sequence[0]"),
        ("ReferencedStudySequence[1].Modality", "item 1 without item 0"),
        ("StudyDate=2024-01-31", "20240131"),
        ("StudyDate=20240230", "20240131"),
        ("StudyTime=25", "1030"),
        ("Modality=ct", "did you mean CT"),
        ("StudyInstanceUID=1.2.*", "wildcards"),
        ("StudyInstanceUID=" + "1" * 65, "64"),
        ("PatientAge=45", "045Y"),
        ("PatientName=" + "x" * 65, "64"),
        ("PatientName=a=b=c=d", "three"),
        ("AccessionNumber=" + "1" * 17, "16"),
        ("Rows=many", "number"),
        ("Rows=70000", "65535"),
        ("InstanceNumber=1.5", "number"),
        ("PixelData=1", "bytes"),
    ],
)
def test_a_key_that_no_provider_could_understand_is_an_error(key: str, hint: str) -> None:
    with pytest.raises(ValueError, match=r"(?s).") as error:
        identifier(key)
    assert hint in str(error.value)


@pytest.mark.parametrize("key", ["StudyDate=2024-01-31", "Modality=ct", "StudyInstanceUID=1.2.*", "PatientAge=45"])
def test_what_is_forced_is_sent_as_it_is(key: str) -> None:
    name, _, text = key.partition("=")
    with config.disable_value_validation():
        assert str(sent(key, force=True)[name].value) == text


@pytest.mark.parametrize("text", ["20240101-", "-20240131", "20240101-20240131", "20240101", "1993.08.22"])
def test_dates_may_be_ranges(text: str) -> None:
    """PS3.4 C.2.2.2.5"""
    assert values.value_of(text, "DA") == text


def test_days_may_be_words() -> None:
    today = datetime.date.today()
    found = values.value_of("yesterday-TODAY", "DA").split("-")
    assert found in (
        [(day - datetime.timedelta(1)).strftime("%Y%m%d"), day.strftime("%Y%m%d")]
        for day in (today, datetime.date.today())
    )


def test_a_key_file_has_a_key_a_line_and_comments() -> None:
    assert list(key_lines(["\ufeff# names", "PatientName=DOE^*\r\n", "", "  StudyDate \n"])) == [
        "PatientName=DOE^*", "StudyDate",
    ]  # fmt: skip


# --- character sets -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "charset", "written"),
    [
        ("Müller^Jürgen", None, ["ISO_IR 192"]),
        ("Müller^Jürgen", "ISO_IR 100", ["ISO_IR 100"]),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", None, ["ISO_IR 192"]),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "\\ISO 2022 IR 87", ["", "ISO 2022 IR 87"]),
        ("Hong^Gildong=洪^吉洞=홍^길동", "\\ISO 2022 IR 149", ["", "ISO 2022 IR 149"]),
        ("Wang^XiaoDong=王^小东", "GB18030", ["GB18030"]),
        ("Люкceмбypг", "ISO_IR 144", ["ISO_IR 144"]),
        ("Διονυσιος", "ISO_IR 126", ["ISO_IR 126"]),
    ],
)
def test_names_are_sent_in_a_character_set_that_has_them(name: str, charset: str | None, written: list[str]) -> None:
    """PS3.5 6.1.2.3, 6.2.1: the peer reads what was typed, in each component group."""
    found = sent(f"PatientName={name}", charset=charset)
    terms = found.SpecificCharacterSet
    assert ([terms] if isinstance(terms, str) else list(terms)) == written
    assert str(found.PatientName) == name


def test_ascii_needs_no_character_set() -> None:
    assert "SpecificCharacterSet" not in identifier("PatientName=DOE^*")
    assert identifier("PatientName=DOE", charset="ISO_IR 192").SpecificCharacterSet == "ISO_IR 192"


@pytest.mark.parametrize(
    ("keys", "charset", "hint"),
    [
        (["PatientName=山田"], "ISO_IR 100", "ISO_IR 192 has"),
        (["PatientName=山田", "SpecificCharacterSet=ISO_IR 144"], None, "ISO_IR 192 has"),
        (["PatientName=A"], "UTF-8", "ISO_IR 192"),
    ],
)
def test_a_character_set_that_cannot_do_it_is_an_error(keys: list[str], charset: str | None, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        identifier(*keys, charset=charset)


# --- levels and what is returned ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "model", "level"),
    [
        (["PatientName=A"], "study", "STUDY"),
        (["PatientName=A"], "patient", "PATIENT"),
        (["PatientName=A", "StudyDate"], "patient", "STUDY"),
        ([], "patient", "STUDY"),
        (["StudyInstanceUID=1.2"], "study", "STUDY"),
        (["StudyInstanceUID=1.2", "Modality=CT"], "study", "SERIES"),
        (["SeriesInstanceUID=1.2"], "study", "SERIES"),
        (["SeriesInstanceUID=1.2", "SOPInstanceUID"], "study", "IMAGE"),
        (["PatientName=A"], "worklist", None),
        (["PatientName=A"], "1.2.3.4", None),
    ],
)
def test_the_level_is_the_lowest_that_a_key_belongs_to(keys: list[str], model: str, level: str | None) -> None:
    """PS3.4 C.6.1.1, C.6.2.1"""
    found = find_query([parse_key(key) for key in keys], model=model)
    assert found.level == level
    assert found.identifier.get("QueryRetrieveLevel") == level


def test_a_level_that_a_model_has_not_is_an_error() -> None:
    with pytest.raises(ValueError, match="no levels"):
        identifier("PatientName", model="worklist", level="STUDY")
    with pytest.raises(ValueError, match="model patient"):
        identifier("PatientName", level="PATIENT")


@pytest.mark.parametrize("model", MODELS)
def test_the_usual_return_keys_are_attributes(model: str) -> None:
    for level in ("PATIENT", "STUDY", "SERIES", "IMAGE") if model in WITH_LEVEL else (None,):
        for text in return_keys(model, level):
            assert str(parse_path(text)) == text
    assert model not in WITH_LEVEL or level_of(["PatientID"], model) is not None


def test_what_is_usual_is_returned_only_if_no_key_asks_for_anything() -> None:
    usual = find_query([parse_key("PatientID=P1")])
    assert str(usual.columns[0]) == "PatientID"
    assert (usual.chosen, "StudyInstanceUID" in usual.identifier) == (1, True)
    chosen = find_query([parse_key("PatientID=P1"), parse_key("StudyDate")])
    assert list(map(str, chosen.columns)) == ["PatientID", "StudyDate"]
    columns = find_query([parse_key("PatientID=P1")], columns=[parse_path("StudyDate"), parse_path("PatientID")])
    assert list(map(str, columns.columns)) == ["StudyDate", "PatientID"]
    assert (columns.identifier.PatientID, columns.identifier.StudyDate) == ("P1", None)


# --- retrievals -----------------------------------------------------------------------------------------------------


def test_a_retrieval_names_entities_by_unique_keys() -> None:
    """PS3.4 C.4.2.1.4.1"""
    found = retrieve_query(
        [parse_key("StudyInstanceUID=1.2"), parse_key("SeriesInstanceUID=1.3\\1.4")], operation="C-GET"
    )
    assert (found.level, list(found.identifier.SeriesInstanceUID)) == ("SERIES", ["1.3", "1.4"])
    assert found.identifier.QueryRetrieveLevel == "SERIES"


@pytest.mark.parametrize(
    ("keys", "options", "hint"),
    [
        (["PatientID=P1"], {}, "needs StudyInstanceUID"),
        (["StudyInstanceUID"], {}, "give a value"),
        (["StudyInstanceUID=1.2", "StudyDate=20240101"], {}, "--force"),
        (["PatientID=P*"], {"model": "patient"}, "wildcards"),
        ([], {}, "needs StudyInstanceUID"),
        (["StudyInstanceUID=1.2"], {"level": "IMAGE"}, "needs SOPInstanceUID"),
    ],
)
def test_what_a_retrieval_cannot_name_is_an_error(keys: list[str], options: Any, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        retrieve_query([parse_key(key) for key in keys], operation="C-MOVE", **options)


def test_other_keys_of_a_retrieval_can_be_forced() -> None:
    keys = [parse_key("PatientID=P1"), parse_key("StudyDate=20240101")]
    assert retrieve_query(keys, operation="C-GET", force=True).identifier.StudyDate == "20240101"


# --- matches --------------------------------------------------------------------------------------------------------


def match(**attributes: Any) -> Dataset:
    found = Dataset()
    for keyword, value in attributes.items():
        setattr(found, keyword, value)
    return found


def shown(found: Dataset, *paths: str) -> list[str]:
    return rows.row(found, [parse_path(path) for path in paths])


def test_values_are_shown_as_text() -> None:
    found = match(
        PatientName="Doe^Jane",
        ModalitiesInStudy=["CT", "MR"],
        Rows=512,
        PixelSpacing=["0.5", "0.25"],
        ScheduledProcedureStepSequence=[match(Modality="CT")],
        ReferencedStudySequence=[],
    )
    paths = ("PatientName", "ModalitiesInStudy", "Rows", "PixelSpacing", "ScheduledProcedureStepSequence[0].Modality")
    assert shown(found, *paths) == ["Doe^Jane", "CT\\MR", "512", "0.5\\0.25", "CT"]
    others = ("ScheduledProcedureStepSequence", "ReferencedStudySequence", "ScheduledProcedureStepSequence[1].Modality")
    assert shown(found, *others, "PatientID", "StudyDate") == [
        "[1 item]", "", "", "", "",
    ]  # fmt: skip


def test_values_that_are_none_of_their_vr_are_shown_as_they_are() -> None:
    """The peer is not to be trusted with numbers."""
    with config.disable_value_validation():
        data = b"\x20\x00\x13\x00\x04\x00\x00\x00abc\xff" + b"\x28\x00\x10\x00\x03\x00\x00\x00abc"
        found = EncodedDataset(data, IMPLICIT).decode()
        assert shown(found, "InstanceNumber", "Rows") == ["abcÿ", "abc"]
        assert rows.json_model(found).keys() == {"00200013", "00280010"}


@pytest.mark.parametrize("file", ["chrArab", "chrFren", "chrGerm", "chrGreek", "chrH31", "chrH32", "chrHbrw", "chrI2",
                                  "chrKoreanMulti", "chrRuss", "chrX1", "chrX2"])  # fmt: skip
def test_names_in_all_character_sets_are_shown(file: str) -> None:
    """PS3.5 Annex H to K"""
    from pydicom import dcmread

    [path] = get_charset_files(f"{file}.dcm")
    name = str(dcmread(path).PatientName)
    received = EncodedDataset.from_file(path).decode()
    assert shown(received, "PatientName") == [name]
    assert not name.isascii()
    groups = rows.json_model(received)["00100010"]["Value"][0]
    assert "=".join(groups.get(group, "") for group in ("Alphabetic", "Ideographic", "Phonetic")).rstrip("=") == name


def test_csv_is_quoted() -> None:
    """RFC 4180"""
    assert rows.csv_line(["a", 'b"c', "d,e", ""]) == 'a,"b""c","d,e",'


def test_an_element_that_pydicom_cannot_make_json_of_does_not_hide_the_others() -> None:
    found = match(PatientID="P1")
    found[0x00200013] = DataElement(0x00200013, "FD", "x", validation_mode=config.IGNORE)
    model = rows.json_model(found)
    assert model["00100020"] == {"vr": "LO", "Value": ["P1"]}
