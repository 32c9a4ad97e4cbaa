"""Instances in other transfer syntaxes: nothing is lost, or it says so (PS3.5 A, PS3.3 C.7.6)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate, generate_frames, parse_basic_offsets

import dicomnet
from dicomnet import EncodedDataset, InvalidDataset, Limits, transcode
from dicomnet.transcoding import candidates
from dicomnet.transcoding.layout import read_layout
from tests.pydicom_files import VARIED_FILES, name, shipped

EXPLICIT = "1.2.840.10008.1.2.1"
IMPLICIT = "1.2.840.10008.1.2"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
JPEG_LS = "1.2.840.10008.1.2.4.80"
JPEG_LS_NEAR_LOSSLESS = "1.2.840.10008.1.2.4.81"
JPEG_2000_LOSSLESS = "1.2.840.10008.1.2.4.90"
JPEG_2000 = "1.2.840.10008.1.2.4.91"
RLE = "1.2.840.10008.1.2.5"
UNCOMPRESSED = (EXPLICIT, IMPLICIT, BIG_ENDIAN, DEFLATED)
COMPRESSED = (JPEG_LS, JPEG_2000_LOSSLESS, JPEG_2000, RLE)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's remarks on what is wrong in its files

# Values of 32 bits: OW swaps the bytes of each word of 16 (PS3.5 6.2), pydicom reads those of big endian as one word.
WIDE = ("rtdose",)
FEW = (EXPLICIT, IMPLICIT, JPEG_LS)
_LONG = 100_000  # bytes: all encoders of such images take seconds
_VERY_LONG = 1_000_000  # bytes: so does one


def pixels(dataset: EncodedDataset) -> np.ndarray | None:
    """What pydicom decodes, or None if that is nothing."""
    try:
        return dataset.decode().pixel_array
    except Exception:  # pydicom documents no closed set of errors
        return None


def other_elements(dataset: EncodedDataset) -> dict[int, bytes]:
    """Tag → bytes, of a data set in explicit VR little endian: all but the pixel data."""
    data = memoryview(bytes(dataset))
    layout = read_layout(data, explicit=True, nesting=100)
    found = {element.tag: bytes(data[element.start : element.end]) for element in layout.head}
    return found | {-1: bytes(data[layout.tail :])}


MAY_CHANGE = {0x00280000, 0x00280004, 0x00280006, 0x00282110, 0x00282112, 0x00282114, 0x7FE00000, 0x7FE00001}
MAY_CHANGE |= {0x7FE00002, 0x7FE00003}


@pytest.mark.parametrize("path", VARIED_FILES, ids=name)
def test_without_loss_no_pixel_value_changes(path: Path) -> None:
    """PS3.5 8, A: whatever it is written in, it decodes to what it was; what cannot be written so is refused."""
    source = EncodedDataset.from_file(path)
    before = pixels(source)
    written = 0
    size = 0 if before is None else before.nbytes
    for wanted in (*UNCOMPRESSED, *COMPRESSED) if size < _LONG else FEW if size < _VERY_LONG else FEW[:2]:
        if BIG_ENDIAN in (wanted, source.transfer_syntax) and path.name.startswith(WIDE):
            continue
        try:
            made = transcode(source, wanted)
        except InvalidDataset:
            continue
        assert made.transfer_syntax == wanted
        assert (made.sop_class_uid, made.sop_instance_uid) == (source.sop_class_uid, source.sop_instance_uid)
        written += 1
        if before is not None and not (wanted == DEFLATED and made.size * 200 < before.nbytes):
            after = made.decode().pixel_array
            assert after.dtype.newbyteorder("=") == before.dtype.newbyteorder("=")
            assert np.array_equal(before, after), wanted
    assert written >= 2 or before is None or path.name.startswith(WIDE), "it can be had uncompressed"


@pytest.mark.parametrize("path", VARIED_FILES, ids=name)
def test_what_is_not_pixel_data_is_copied_byte_for_byte(path: Path) -> None:
    """Private elements and unknown VRs included: between transfer syntaxes of explicit VR little endian."""
    source = EncodedDataset.from_file(path)
    if source.transfer_syntax in (IMPLICIT, BIG_ENDIAN, DEFLATED) or path.name == "SC_rgb_jpeg.dcm":
        return  # those are written anew by pydicom, element by element
    try:
        before = other_elements(source)
    except InvalidDataset:
        return
    for wanted in (EXPLICIT, JPEG_LS, RLE) if source.size < _LONG // 2 else (EXPLICIT,):
        try:
            after = other_elements(transcode(source, wanted))
        except InvalidDataset:
            continue
        changed = {tag for tag in before.keys() | after.keys() if before.get(tag) != after.get(tag)}
        assert changed <= MAY_CHANGE


def test_most_of_what_pydicom_ships_can_be_written_in_everything() -> None:
    """So that the tests above do not pass by refusing: small images are what JPEG 2000 and JPEG-LS do not take here."""
    for file in ("CT_small.dcm", "MR_small_bigendian.dcm", "MR_small_jp2klossless.dcm", "SC_rgb_rle_2frame.dcm"):
        for wanted in (*UNCOMPRESSED, *COMPRESSED):
            assert transcode(shipped(file), wanted).transfer_syntax == wanted


def test_colours_are_kept() -> None:
    """PS3.3 C.7.6.3.1.2: YBR is not made RGB; decoded it is not subsampled, and J2K's own transform is undone."""
    for file, colours in {
        "SC_rgb_jpeg_dcmtk.dcm": "YBR_FULL",
        "examples_ybr_color.dcm": "YBR_FULL",  # of YBR_FULL_422
        "examples_jpeg2k.dcm": "RGB",  # of YBR_RCT
        "SC_rgb_jls_lossy_line.dcm": "RGB",
    }.items():
        made = transcode(shipped(file), EXPLICIT).decode()
        assert (made.PhotometricInterpretation, made.PlanarConfiguration) == (colours, 0)
        assert len(made.PixelData) == made.Rows * made.Columns * 3 * int(made.get("NumberOfFrames", 1))


def test_loss_that_only_the_code_stream_told_is_told_afterwards() -> None:
    """PS3.3 C.7.6.1.1.5: once it was compressed with loss, it says so for ever."""
    source = EncodedDataset.from_file(shipped("JPEGLSNearLossless_08.dcm"))
    assert "LossyImageCompression" not in source.decode()
    made = transcode(source, EXPLICIT).decode()
    assert (made.LossyImageCompression, made.LossyImageCompressionMethod) == ("01", "ISO_14495_1")
    assert float(made.LossyImageCompressionRatio) > 1
    assert made.SOPInstanceUID == source.sop_instance_uid
    assert "LossyImageCompression" not in transcode(shipped("MR_small_RLE.dcm"), EXPLICIT).decode()
    assert transcode(shipped("JPEG2000.dcm"), EXPLICIT).LossyImageCompressionRatio == dcmread(
        shipped("JPEG2000.dcm")
    ).get("LossyImageCompressionRatio")


@pytest.mark.parametrize(("wanted", "method"), [(JPEG_LS_NEAR_LOSSLESS, "ISO_14495_1"), (JPEG_2000, "ISO_15444_1")])
def test_with_loss_it_is_another_instance_that_is_derived(wanted: str, method: str) -> None:
    """PS3.3 C.7.6.1.1.5: 01, ratio and method; value 1 of Image Type; a new UID. C.12.4.1: which instance it was."""
    source = EncodedDataset.from_file(shipped("CT_small.dcm"))
    original = source.decode()
    made = transcode(source, wanted, lossy=True)
    after = made.decode()
    assert made.sop_instance_uid == after.SOPInstanceUID != original.SOPInstanceUID
    assert (after.LossyImageCompression, after.LossyImageCompressionMethod) == ("01", method)
    [frame] = generate_frames(after.PixelData, number_of_frames=1)
    ratio = len(original.PixelData) / (len(frame) + 8)
    assert float(after.LossyImageCompressionRatio) == pytest.approx(ratio, abs=0.01)
    assert list(after.ImageType) == ["DERIVED", *original.ImageType[1:]]
    assert method in after.DerivationDescription
    assert after.DerivationCodeSequence[-1].CodeValue == "113040"
    assert after.SourceImageSequence[-1].ReferencedSOPInstanceUID == original.SOPInstanceUID
    assert after.SourceImageSequence[-1].PurposeOfReferenceCodeSequence[0].CodeValue == "121320"
    difference = np.abs(after.pixel_array.astype(int) - original.pixel_array)
    assert 0 < difference.max() <= (2 if wanted == JPEG_LS_NEAR_LOSSLESS else 500)
    assert {*original.keys()} <= {*after.keys()}
    assert original.PatientName == after.PatientName


def test_a_second_loss_is_added_to_the_first() -> None:
    """PS3.3 C.7.6.1.1.5.1, .2: ratios and methods correspond, in order; it was no uncompressed predecessor."""
    once = transcode(shipped("MR_small.dcm"), JPEG_LS_NEAR_LOSSLESS, lossy=True)
    twice = transcode(once, JPEG_2000, lossy=True).decode()
    assert list(twice.LossyImageCompressionMethod) == ["ISO_14495_1", "ISO_15444_1"]
    assert len(twice.LossyImageCompressionRatio) == 2
    assert [item.ReferencedSOPInstanceUID for item in twice.SourceImageSequence][-1] == once.sop_instance_uid
    assert twice.SourceImageSequence[-1].PurposeOfReferenceCodeSequence[0].CodeValue == "121322"


def test_text_of_the_derivation_keeps_its_characters() -> None:
    """PS3.5 6.1.2.5: a Derivation Description in the character set of the data set."""
    dataset = dcmread(shipped("MR_small.dcm"))
    dataset.SpecificCharacterSet, dataset.DerivationDescription = "ISO_IR 192", "gefiltert für Zürich"
    made = transcode(dataset, JPEG_LS_NEAR_LOSSLESS, lossy=True).decode()
    assert made.DerivationDescription.startswith("gefiltert für Zürich; compressed ")


def test_no_pixel_data_no_compression() -> None:
    with pytest.raises(InvalidDataset, match="no pixel data"):
        transcode(shipped("reportsi.dcm"), JPEG_LS)
    floating = dcmread(shipped("MR_small.dcm"))
    floating.FloatPixelData = bytes(4 * 64 * 64)
    del floating.PixelData
    with pytest.raises(InvalidDataset, match="floating point"):
        transcode(floating, JPEG_LS)
    assert transcode(floating, IMPLICIT).decode().FloatPixelData == bytes(4 * 64 * 64)


def test_what_compression_would_not_carry_is_refused() -> None:
    """PS3.5 8.1.1: unused bits may hold an overlay (retired); an encoder of 12 bits drops them."""
    dataset = dcmread(shipped("examples_overlay.dcm"))
    assert dataset.BitsStored == 12
    values = dataset.pixel_array.copy()
    values[0, 0] |= 0x8000
    dataset.PixelData = values.tobytes()
    source = EncodedDataset.from_dataset(dataset)
    with pytest.raises(InvalidDataset, match="outside the allowable range"):
        transcode(source, JPEG_LS)
    made = transcode(source, RLE)  # which keeps whole bytes
    assert bytes(transcode(made, EXPLICIT).decode().PixelData) == dataset.PixelData


def test_the_number_of_frames_has_to_be_right() -> None:
    """PS3.3 C.7.6.6: what lacks a frame, or has one too many, is not passed on as if it were whole."""
    dataset = dcmread(shipped("SC_rgb_rle_2frame.dcm"))
    for number in (1, 3):
        dataset.NumberOfFrames = number
        with pytest.raises(InvalidDataset, match=r"frame"):
            transcode(dataset, EXPLICIT)
    native = dcmread(shipped("CT_small.dcm"))
    native.NumberOfFrames = 2
    with pytest.raises(InvalidDataset, match="instead of"):
        transcode(native, RLE)


def test_compressed_pixel_data_in_a_sequence_is_refused() -> None:
    """PS3.5 A.4: an icon would stay compressed in a transfer syntax that does not say how."""
    dataset = dcmread(shipped("MR_small_RLE.dcm"))
    icon = Dataset()
    icon.PixelData = encapsulate([b"\0\0"])
    icon["PixelData"].VR, icon["PixelData"].is_undefined_length = "OB", True
    dataset.IconImageSequence = [icon]
    with pytest.raises(InvalidDataset, match="icon"):
        transcode(dataset, EXPLICIT)


@pytest.mark.parametrize("wanted", [EXPLICIT, JPEG_LS])
def test_a_large_one_waits_in_a_file_and_its_offsets_are_right(tmp_path: Path, wanted: str) -> None:
    """Frame by frame: PS3.5 A.4, one fragment each, and a Basic Offset Table."""
    source = EncodedDataset.from_file(shipped("SC_rgb_rle_16bit_2frame.dcm"))
    source._limits = Limits(spool_size=1000)
    made = transcode(source, wanted) if wanted == EXPLICIT else transcode(transcode(source, EXPLICIT), wanted)
    if wanted == EXPLICIT:
        assert made.in_memory == 0
    made.save(tmp_path / "saved.dcm")
    saved = dcmread(tmp_path / "saved.dcm")
    assert np.array_equal(saved.pixel_array, source.decode().pixel_array)
    if wanted == JPEG_LS:
        frames = list(generate_frames(saved.PixelData, number_of_frames=2))
        assert len(frames) == 2
        assert parse_basic_offsets(saved.PixelData) == [0, 8 + len(frames[0])]


def test_long_uncompressed_ones_are_not_loaded() -> None:
    """The same elements as if pydicom had written all of it."""
    for file in ("rtdose.dcm", "MR_small_implicit.dcm"):
        source = EncodedDataset.from_file(shipped(file))
        whole = source.transcoded(EXPLICIT)
        source._limits = Limits(spool_size=100)
        made = transcode(source, EXPLICIT)
        assert made.in_memory == 0
        assert bytes(made) == bytes(whole)
        made._limits = source._limits
        assert bytes(transcode(made, IMPLICIT)) == bytes(whole.transcoded(IMPLICIT))


def test_the_best_comes_first() -> None:
    everything = [*UNCOMPRESSED, *COMPRESSED, JPEG_LS_NEAR_LOSSLESS, JPEG_BASELINE]
    plain = [(syntax, False) for syntax in (EXPLICIT, IMPLICIT, DEFLATED, BIG_ENDIAN, *COMPRESSED)]
    assert [*candidates(reversed(everything), lossy=False)] == plain
    assert [*candidates(everything, lossy=True)] == [*plain, (JPEG_LS_NEAR_LOSSLESS, True), (JPEG_2000, True)]
    assert [*candidates([JPEG_BASELINE], lossy=True)] == []


def test_what_nobody_here_can_make_is_an_error_that_says_so() -> None:
    with pytest.raises(InvalidDataset, match="without loss"):
        transcode(shipped("MR_small.dcm"), JPEG_BASELINE)
    with pytest.raises(InvalidDataset, match="with loss"):
        transcode(shipped("MR_small.dcm"), JPEG_LS, lossy=True)


def test_without_the_packages_the_error_says_which_extra_to_install() -> None:
    """The base install has pydicom alone."""
    program = (
        "import sys; sys.modules.update(dict.fromkeys(['numpy', 'gdcm', 'jpeg_ls', 'openjpeg', 'pylibjpeg', 'PIL']))\n"
        "import importlib.util as util; find = util.find_spec\n"
        "util.find_spec = lambda name, *rest: None if name == 'numpy' else find(name, *rest)\n"
        "import dicomnet\n"
        "try: dicomnet.transcode(sys.argv[1], '1.2.840.10008.1.2.1')\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, shipped("examples_jpeg2k.dcm")], capture_output=True, text=True, timeout=60
    )
    assert "pip install 'dicomnet[transcode]'" in done.stdout, done.stderr
    assert "JPEG 2000" in done.stdout


@pytest.mark.parametrize("cut", [200, 3000, 600])
def test_what_ends_in_the_middle_is_no_data_set(tmp_path: Path, cut: int) -> None:
    data = Path(shipped("MR_small_RLE.dcm")).read_bytes()
    path = tmp_path / "cut.dcm"
    path.write_bytes(data[:-cut])
    with pytest.raises(InvalidDataset):
        transcode(path, EXPLICIT)


def test_it_is_public() -> None:
    assert dicomnet.transcode is transcode
