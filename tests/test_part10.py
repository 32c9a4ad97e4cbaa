"""DICOM files (PS3.10 7): headers as they are written and read, and the UIDs in a data set's first bytes."""

import struct
import zlib
from io import BytesIO

import pydicom
import pytest
from hypothesis import given, strategies as st

from dicomnet import part10
from dicomnet.config import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicomnet.part10 import Meta
from tests.pydicom_files import DICOM_FILES, WITHOUT_PREFIX, name, shipped

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
CT = "1.2.840.10008.5.1.4.1.1.2"

uids = st.integers(1, 10**40).map("1.2.{}".format)
ae_titles = st.text("ABC xyz_-", min_size=1, max_size=16).map(lambda title: title.strip() or "AE")


@given(uids, uids, uids, st.none() | st.tuples(ae_titles, ae_titles))
def test_a_header_is_read_as_it_was_written(transfer_syntax, sop_class, sop_instance, titles):
    """PS3.10 7.1: by this library and by pydicom; group length, version, implementation, both AE titles."""
    header = part10.header(transfer_syntax, sop_class, sop_instance, titles)
    assert part10.read_meta(header) == Meta(len(header), sop_class, sop_instance, transfer_syntax)
    meta = pydicom.dcmread(BytesIO(header)).file_meta
    assert len(header) == 132 + 12 + meta.FileMetaInformationGroupLength
    assert meta.FileMetaInformationVersion == b"\0\1"
    assert (meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID) == (sop_class, sop_instance)
    assert (meta.TransferSyntaxUID, meta.ImplementationClassUID) == (transfer_syntax, IMPLEMENTATION_CLASS_UID)
    assert meta.ImplementationVersionName == IMPLEMENTATION_VERSION_NAME
    assert (meta.get("SendingApplicationEntityTitle"), meta.get("ReceivingApplicationEntityTitle")) == (
        titles or (None, None)
    )


@pytest.mark.parametrize("path", [path for path in DICOM_FILES if path not in WITHOUT_PREFIX], ids=name)
def test_the_meta_information_of_files_in_the_field(path):
    """PS3.10 7.1: as pydicom reads it; what is not complete is left to pydicom."""
    head = path.read_bytes()[: part10.HEAD]
    meta = pydicom.filereader.read_file_meta_info(path)
    if "TransferSyntaxUID" not in meta:
        assert part10.read_meta(head) is None
        return
    assert part10.read_meta(head)[1:] == (
        meta.get("MediaStorageSOPClassUID", ""),
        meta.get("MediaStorageSOPInstanceUID", ""),
        meta.TransferSyntaxUID,
    )


HEADER = part10.header(EXPLICIT, CT, "1.2.3", ("SENDER", "RECEIVER"))


def test_a_header_that_is_cut_off_is_none():
    """Where it ends between two elements, behind the transfer syntax, nobody can tell."""
    boundaries = {HEADER.index(struct.pack("<HH", 2, number)) for number in (0x12, 0x13, 0x17, 0x18)}
    for end in range(len(HEADER)):
        assert (part10.read_meta(HEADER[:end]) is not None) == (end in boundaries)


def long_element(number, value, length=None):
    return struct.pack("<HH2sxxI", 2, number, b"OB", len(value) if length is None else length) + value


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"DICM" * 100,
        HEADER[:128] + b"dicm" + HEADER[132:],
        HEADER + long_element(0x0102, b"xx", length=3),
        HEADER + long_element(0x0102, b"")[:10],
        HEADER.replace(EXPLICIT.encode(), b"not a transfer UID "),
        bytes(128) + b"DICM" + b"\x08\0\x05\0CS\x0a\0ISO_IR 100",  # without any meta information
    ],
)
def test_what_is_no_header(head):
    """PS3.10 7.1."""
    assert part10.read_meta(head) is None


def test_private_meta_information_belongs_to_the_header():
    """PS3.10 7.1: (0002,0100) and (0002,0102) may follow."""
    head = HEADER + long_element(0x0102, b"private!") + b"\x08\0\x05\0CS\x0a\0ISO_IR 100"
    assert part10.read_meta(head) == Meta(len(HEADER) + 20, CT, "1.2.3", EXPLICIT)


@given(st.binary(max_size=100))
def test_random_bytes_behind_the_prefix_do_no_harm(data):
    """W6, in a file."""
    meta = part10.read_meta(bytes(128) + b"DICM" + data)
    assert meta is None or meta.offset <= 132 + len(data)


# --- UIDs -----------------------------------------------------------------------------------------------------------


def element(number, vr, value, transfer_syntax):
    order = ">" if transfer_syntax == BIG_ENDIAN else "<"
    if transfer_syntax == IMPLICIT:
        return struct.pack("<HHI", 8, number, len(value)) + value
    return struct.pack(f"{order}HH2sH", 8, number, vr, len(value)) + value


def first_elements(transfer_syntax, sop_class=b"1.2.840\0", sop_instance=b"3.4.5 "):
    data = element(0x05, b"CS", b"ISO_IR 100", transfer_syntax)
    if sop_class is not None:
        data += element(0x16, b"UI", sop_class, transfer_syntax)
    if sop_instance is not None:
        data += element(0x18, b"UI", sop_instance, transfer_syntax)
    if transfer_syntax == DEFLATED:
        data += element(0x20, b"DA", b"20260101", transfer_syntax)
        deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        return deflater.compress(data) + deflater.flush()
    return data


@pytest.mark.parametrize("transfer_syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED, "1.2.840.10008.1.2.4.50"])
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_the_uids_are_found_in_any_encoding(transfer_syntax, kind):
    """PS3.5 7.1, A.1 to A.5: without their padding."""
    assert part10.scan_uids(kind(first_elements(transfer_syntax)), transfer_syntax) == ("1.2.840", "3.4.5")


@pytest.mark.parametrize("transfer_syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED])
@pytest.mark.parametrize("missing", [{"sop_class": None}, {"sop_instance": None}, {"sop_class": b""}])
def test_unless_both_are_there_nothing_is_said(transfer_syntax, missing):
    """What is told is certain."""
    assert part10.scan_uids(first_elements(transfer_syntax, **missing), transfer_syntax) is None


def test_a_value_that_is_cut_off_is_not_taken():
    """The first bytes may end anywhere."""
    whole = first_elements(EXPLICIT)
    for end in range(len(whole)):
        assert part10.scan_uids(whole[:end], EXPLICIT) is None


@given(st.binary(max_size=100), st.sampled_from([IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED, ""]))
def test_random_bytes_do_no_harm(data, transfer_syntax):
    """Whatever is found there."""
    found = part10.scan_uids(data, transfer_syntax)
    assert found is None or all(found)


def test_a_bomb_is_not_inflated_further_than_needed():
    """Limits: the first bytes alone are looked at."""
    bomb = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    assert part10.scan_uids(bomb.compress(bytes(50 << 20)) + bomb.flush(), DEFLATED) is None


def test_uids_of_a_file_in_the_field():
    """PS3.10 7.1: the same in the data set as in the file meta information."""
    data = shipped("CT_small.dcm").read_bytes()
    meta = part10.read_meta(data)
    assert part10.scan_uids(data[meta.offset :], meta.transfer_syntax) == meta[1:3]
