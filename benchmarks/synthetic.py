"""Program: build one corpus of synthetic files. The same seed gives the same files, byte for byte.

A large object is written piece by piece, so that building it takes no memory to speak of.
"""

from __future__ import annotations

import argparse
import json
import signal
from collections.abc import Callable
from pathlib import Path
from random import Random
from struct import pack

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from benchmarks.corpora import FILES, START

_SEED = 20240517
_FRAME = 512 * 512 * 2  # bytes
_MARK = 999_999  # an instance number to be replaced


def main() -> None:
    """Build one corpus in a folder that is not there yet."""
    parser = argparse.ArgumentParser(prog="benchmarks.synthetic", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("name", choices=sorted(_BUILDERS))
    parser.add_argument("count", type=int, help="files; of large: frames; of query: studies")
    parser.add_argument("size", type=int, help="bytes of a file of sized")
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started this ends it, and removes what is unfinished
    files = arguments.folder / FILES
    files.mkdir(parents=True)
    if arguments.name != "query":
        warm_up = Random(_SEED + 1)
        _write(_mr(warm_up, 0), arguments.folder / START)
        _write(_mr(warm_up, 0), _path(files, 0))
    _BUILDERS[arguments.name](Random(_SEED), files, arguments.count, arguments.size)


def _small(random: Random, folder: Path, count: int, _: int) -> None:
    _series(random, folder, count, _mr(random, _MARK))


def _ct(random: Random, folder: Path, count: int, _: int) -> None:
    _series(random, folder, count, _ct_slice(random, _MARK))


def _series(random: Random, folder: Path, count: int, first: Dataset) -> None:
    """Images like the first one, but for instance UID, instance number and pixels."""
    path = _path(folder, 1)
    _write(first, path)
    size = len(first.PixelData)
    head, mark, uid = path.read_bytes()[:-size], str(_MARK).encode(), first.SOPInstanceUID.encode()
    for number in range(1, count + 1):
        changed = head.replace(uid, _uid(random).encode()).replace(mark, f"{number:06}".encode())
        _path(folder, number).write_bytes(changed + random.randbytes(size))


def _large(random: Random, folder: Path, count: int, _: int) -> None:
    """One multi-frame object."""
    data_set = _image(random, "1.2.840.10008.5.1.4.1.1.7.3", "OT", (512, 512))
    data_set.ConversionType = "SYN"
    data_set.NumberOfFrames = count
    data_set.FrameIncrementPointer = 0x00181063
    data_set.FrameTime = "40"
    _write_with_pixels(random, data_set, _path(folder, 1), count * _FRAME)


def _sized(random: Random, folder: Path, count: int, size: int) -> None:
    """Objects of `size` bytes: what names them, and pixels."""
    for number in range(1, count + 1):
        data_set = Dataset()
        data_set.SOPClassUID, data_set.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", _uid(random)
        data_set.Modality, data_set.PatientID = "OT", "SYNTHETIC-1"
        data_set.StudyInstanceUID, data_set.SeriesInstanceUID = "2.25.1", "2.25.2"
        path = _path(folder, number)
        _write(data_set, path)
        _write_with_pixels(random, data_set, path, max(size - path.stat().st_size - 12, 2) & ~1)


def _mixed(random: Random, folder: Path, count: int, _: int) -> None:
    """All storage SOP classes and transfer syntaxes by turns; sizes from 10 to 600 kB, small ones more often."""
    pairs = [(sop_class, syntax) for syntax in _TRANSFER_SYNTAXES for sop_class in _SOP_CLASSES]
    for number in range(1, count + 1):
        sop_class, syntax = pairs[(number - 1) % len(pairs)]
        rows = int(64 * 8 ** random.random())
        data_set = _image(random, sop_class, "OT", (rows, rows))
        data_set.InstanceNumber = number
        pixels = random.randbytes(rows * rows * 2)
        if syntax == ExplicitVRLittleEndian:
            data_set.PixelData = pixels
        else:  # nobody decodes them: the fragments of an encoder would be as random
            data_set.PixelData = encapsulate([pixels[: len(pixels) // 4 * 2]])
            data_set["PixelData"].is_undefined_length = True
        _write(data_set, _path(folder, number), syntax)


def _query(random: Random, folder: Path, count: int, _: int) -> None:
    """Studies of 12 attributes, one JSON object a line, keyword to value."""
    with (folder / "studies.jsonl").open("w", encoding="ascii") as file:
        for number in range(count):
            study = {
                "QueryRetrieveLevel": "STUDY",
                "StudyDate": f"20{random.randrange(10, 25):02}{random.randrange(1, 13):02}{random.randrange(1, 29):02}",
                "StudyTime": f"{random.randrange(24):02}{random.randrange(60):02}00",
                "AccessionNumber": f"A{number:09}",
                "ModalitiesInStudy": random.choice(["CT", "MR", "US", "CR", "PT"]),
                "StudyDescription": random.choice(["Chest", "Head without contrast", "Abdomen and pelvis"]),
                "PatientName": f"Synthetic^Patient {random.randrange(100_000)}",
                "PatientID": f"P{random.randrange(10**8):08}",
                "PatientBirthDate": f"19{random.randrange(30, 100)}0{random.randrange(1, 10)}11",
                "PatientSex": random.choice("FMO"),
                "StudyInstanceUID": _uid(random),
                "StudyID": str(number),
            }
            file.write(json.dumps(study) + "\n")


_BUILDERS: dict[str, Callable[[Random, Path, int, int], None]] = {
    "small": _small,
    "ct": _ct,
    "large": _large,
    "mixed": _mixed,
    "sized": _sized,
    "query": _query,
}
_TRANSFER_SYNTAXES = (  # those that DCMTK's dcmsend sends as they are: of the uncompressed it chooses one for all
    ExplicitVRLittleEndian,
    RLELossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    JPEG2000Lossless,
)
_SOP_CLASSES = tuple(
    f"1.2.840.10008.5.1.4.1.1.{suffix}"
    for suffix in (
        *("1", "1.1", "1.1.1", "1.2", "1.2.1", "2", "2.1", "3.1", "4", "4.1"),  # CR, DX, MG, CT, US multi-frame, MR
        *("6.1", "7", "12.1", "12.2", "20", "77.1.1", "77.1.2", "77.1.4", "128", "481.1"),  # US, SC, XA, NM, VL, PT, RT
    )
)


def _mr(random: Random, number: int) -> Dataset:
    """An MR image of 64×64, about 9.5 kB."""
    data_set = _image(random, "1.2.840.10008.5.1.4.1.1.4", "MR", (64, 64))
    data_set.ScanningSequence, data_set.SequenceVariant, data_set.ScanOptions = "GR", "SP", ""
    data_set.MRAcquisitionType = "2D"
    data_set.RepetitionTime, data_set.EchoTime, data_set.EchoTrainLength = "500", "14.2", "1"
    data_set.MagneticFieldStrength, data_set.FlipAngle = "1.5", "90"
    data_set.InstanceNumber = number
    data_set.PixelData = random.randbytes(64 * 64 * 2)
    return data_set


def _ct_slice(random: Random, number: int) -> Dataset:
    """A CT image of 512×512, about 529 kB: some 80 elements, sequences among them."""
    data_set = _image(random, "1.2.840.10008.5.1.4.1.1.2", "CT", (512, 512))
    for keyword, value in _CT_VALUES.items():
        setattr(data_set, keyword, value)
    data_set.InstanceNumber = number
    data_set.SliceLocation = "0.75"
    data_set.ImagePositionPatient = ["-180", "-180", "0.75"]
    data_set.ProcedureCodeSequence = [_code("P5-08000", "CT of chest"), _code("P5-08010", "CT with contrast")]
    data_set.AnatomicRegionSequence = [_code("T-D3000", "Chest")]
    data_set.ReferencedImageSequence = [_reference(random) for _ in range(12)]
    data_set.SourceImageSequence = [_reference(random) for _ in range(12)]
    data_set.PixelData = random.randbytes(_FRAME)
    return data_set


_CT_VALUES: dict[str, object] = {
    "InstitutionName": "Synthetic Hospital",
    "InstitutionalDepartmentName": "Radiology",
    "ManufacturerModelName": "Synthetic 64",
    "DeviceSerialNumber": "000001",
    "SoftwareVersions": ["1.0", "2.0"],
    "ProtocolName": "Chest 0.75",
    "SeriesDescription": "Chest 0.75 B60",
    "BodyPartExamined": "CHEST",
    "PatientPosition": "HFS",
    "ScanOptions": "HELICAL",
    "SliceThickness": "0.75",
    "KVP": "120",
    "DataCollectionDiameter": "500",
    "ReconstructionDiameter": "360",
    "DistanceSourceToDetector": "1040",
    "DistanceSourceToPatient": "570",
    "GantryDetectorTilt": "0",
    "TableHeight": "152",
    "RotationDirection": "CW",
    "ExposureTime": "500",
    "XRayTubeCurrent": "240",
    "Exposure": "120",
    "FilterType": "WEDGE",
    "GeneratorPower": "36",
    "FocalSpots": "1.2",
    "ConvolutionKernel": "B60f",
    "SingleCollimationWidth": 0.6,
    "TotalCollimationWidth": 38.4,
    "TableSpeed": 46.0,
    "SpiralPitchFactor": 0.6,
    "CTDIvol": 8.1,
    "AcquisitionNumber": "1",
    "ImageOrientationPatient": ["1", "0", "0", "0", "1", "0"],
    "FrameOfReferenceUID": "2.25.7",
    "PositionReferenceIndicator": "",
    "PixelSpacing": ["0.703125", "0.703125"],
    "WindowCenter": ["40", "-600"],
    "WindowWidth": ["400", "1200"],
    "RescaleIntercept": "-1024",
    "RescaleSlope": "1",
    "RescaleType": "HU",
    "LossyImageCompression": "00",
    "PerformedProcedureStepID": "PPS1",
    "PerformedProcedureStepDescription": "CT chest",
}


def _image(random: Random, sop_class: str, modality: str, shape: tuple[int, int]) -> Dataset:
    """What all images here have, but for the pixels."""
    data_set = Dataset()
    data_set.SpecificCharacterSet = "ISO_IR 100"
    data_set.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    data_set.SOPClassUID, data_set.SOPInstanceUID = sop_class, _uid(random)
    data_set.StudyDate = data_set.SeriesDate = data_set.AcquisitionDate = data_set.ContentDate = "20240517"
    data_set.StudyTime = data_set.SeriesTime = data_set.AcquisitionTime = data_set.ContentTime = "101500"
    data_set.AccessionNumber, data_set.Modality, data_set.Manufacturer = "A1", modality, "Synthetic"
    data_set.ReferringPhysicianName = "Referring^Physician"
    data_set.StudyDescription = "Synthetic study"
    data_set.PatientName, data_set.PatientID = "Synthetic^Patient", "SYNTHETIC-1"
    data_set.PatientBirthDate, data_set.PatientSex = "19700101", "O"
    data_set.StudyInstanceUID, data_set.SeriesInstanceUID = "2.25.1", "2.25.2"
    data_set.StudyID, data_set.SeriesNumber = "1", "1"
    data_set.SamplesPerPixel, data_set.PhotometricInterpretation = 1, "MONOCHROME2"
    data_set.Rows, data_set.Columns = shape
    data_set.BitsAllocated, data_set.BitsStored, data_set.HighBit, data_set.PixelRepresentation = 16, 16, 15, 0
    return data_set


def _code(value: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SRT", meaning
    return item


def _reference(random: Random) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", _uid(random)
    item.PurposeOfReferenceCodeSequence = [_code("121311", "Localizer")]
    return item


def _uid(random: Random) -> str:
    return f"2.25.{random.randrange(10**37, 10**38)}"  # all of the same length


def _path(folder: Path, number: int) -> Path:
    return folder / f"{number:06}.dcm"


def _write(data_set: Dataset, path: Path, transfer_syntax: str = ExplicitVRLittleEndian) -> None:
    data_set.file_meta = FileMetaDataset()
    data_set.file_meta.TransferSyntaxUID = UID(transfer_syntax)
    data_set.save_as(path, enforce_file_format=True)


def _write_with_pixels(random: Random, data_set: Dataset, path: Path, size: int) -> None:
    """Write `data_set` and pixels of `size` bytes: one random block, turned by a few bytes from one to the next."""
    _write(data_set, path)
    frame = random.randbytes(min(size, _FRAME))
    with path.open("ab") as file:
        file.write(pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, size))
        for number in range(-(-size // len(frame))):
            turn = number % len(frame)
            file.write((frame[turn:] + frame[:turn])[: size - number * len(frame)])


if __name__ == "__main__":
    main()
