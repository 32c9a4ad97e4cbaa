"""Values of matches taken from their bytes: what pydicom would make of them, or nothing."""

from __future__ import annotations

import struct
import warnings
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from dicomnet import EncodedDataset, InvalidDataset
from dicomnet.retrieval import quick, rows
from dicomnet.retrieval.paths import parse_path
from tests.pydicom_files import DICOM_FILES, name

IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
ATTRIBUTES = {  # by tag: the VR
    0x00080018: "UI", 0x00080020: "DA", 0x00080030: "TM", 0x0008002A: "DT", 0x00080050: "SH", 0x00080054: "AE",
    0x00080061: "CS", 0x00081030: "LO", 0x00081110: "SQ", 0x00100010: "PN", 0x00101010: "AS", 0x00104000: "LT",
    0x00080119: "UC", 0x00201208: "IS", 0x00280010: "US", 0x00280030: "DS", 0x00400002: "DA", 0x00091001: "LO",
    0x00720068: "LT", 0x0072007C: "SL", 0x0072007E: "SS",
}  # fmt: skip
LONG = ("SQ", "UC", "UN")
COLUMNS = [parse_path(f"{tag >> 16:04X},{tag & 0xFFFF:04X}:{vr}") for tag, vr in ATTRIBUTES.items()]
SETS = [
    "",
    "ISO_IR 6",
    "ISO_IR 100",
    "ISO_IR 144 ",
    "ISO_IR 192",
    "GB18030",
    "ISO 2022 IR 87",
    "\\ISO 2022 IR 87",
    "no",
]
PIECES = [
    "A",
    "Doe^J",
    "1",
    "12",
    "-3",
    "+4",
    "1.5",
    "1e3",
    "20240131",
    "1.2.840",
    " ",
    "  ",
    "\\",
    "=",
    "^",
    "\0",
    "\t",
]
PIECES += [
    "\n",
    "ü",
    "山",
    "\x1b$B",
    "\x1b[2J",
    "é",
    "Д",
    ".",
    "0",
    "00",
    "99999999999",
    "nan",
    "1_000",
    "\xa0",
    "\x85",
]

codes = st.sampled_from(["utf-8", "latin-1", "iso-8859-5"])
values = st.lists(st.sampled_from(PIECES), max_size=5).flatmap(
    lambda pieces: codes.map(lambda code: "".join(pieces).encode(code, "replace"))
) | st.binary(max_size=6)


def encoded(elements: dict[int, bytes], implicit: bool, vrs: dict[int, str] = ATTRIBUTES) -> EncodedDataset:
    parts = []
    for tag, value in sorted(elements.items()):
        value += b" " * (len(value) & 1)
        vr = vrs.get(tag, "CS")
        head = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
        if implicit:
            head += struct.pack("<I", len(value))
        else:
            head += vr.encode() + (struct.pack("<xxI" if vr in LONG else "<H", len(value)))
        parts.append(head + value)
    return EncodedDataset(b"".join(parts), IMPLICIT if implicit else EXPLICIT)


def agrees(match: EncodedDataset) -> tuple[Any, Any]:
    """What was taken from the bytes, after it has been compared."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, of values that are wrong
        row, model = quick.row(match, COLUMNS), quick.json_model(match)
        if row is None and model is None:
            return None, None
        read = match.decode()
        if row is not None:
            assert row == rows.row(read, COLUMNS)
        if model is not None:
            expected = rows.json_model(read)
            assert model == expected
            assert list(map(type, model)) == list(map(type, expected))
    return row, model


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(list(ATTRIBUTES)), values, max_size=4), st.sampled_from(SETS), st.booleans())
def test_what_is_taken_from_bytes_is_what_pydicom_reads(
    elements: dict[int, bytes], charset: str, implicit: bool
) -> None:
    agrees(encoded({0x00080005: charset.encode(), **elements} if charset else elements, implicit))


@pytest.mark.parametrize("path", DICOM_FILES, ids=name)
def test_what_is_taken_from_files_is_what_pydicom_reads(path: Any) -> None:
    try:
        in_file = EncodedDataset.from_file(path)
        in_memory = EncodedDataset(bytes(in_file), in_file.transfer_syntax)
    except (InvalidDataset, OSError):
        return
    agrees(in_memory)


@pytest.mark.parametrize("implicit", [True, False])
def test_a_usual_match_needs_no_pydicom(implicit: bool) -> None:
    match = encoded(
        {
            0x00080005: b"ISO_IR 192",
            0x00080018: b"1.2.3\0",
            0x00080061: b"CT\\MR ",
            0x00100010: "Müller^Jürgen=山田".encode(),
            0x00201208: b"12",
            0x00280010: b"\x00\x02",
            0x00280030: b"0.50\\1 ",
        },
        implicit,
    )
    row, model = agrees(match)
    assert [cell for cell in row if cell] == [
        "1.2.3", "CT\\MR", "Müller^Jürgen=山田", "12", "512", "0.50\\1",
    ]  # fmt: skip
    assert model["00100010"]["Value"] == [{"Alphabetic": "Müller^Jürgen", "Ideographic": "山田"}]
    assert (model["00201208"]["Value"], model["00280030"]["Value"]) == ([12], [0.5, 1.0])
