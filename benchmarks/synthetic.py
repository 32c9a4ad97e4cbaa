"""Program: build one corpus of synthetic files. The same seed gives the same files, byte for byte.

A large object is written frame by frame, so that building it takes no memory to speak of.
"""

from __future__ import annotations

import argparse
import signal
from collections.abc import Callable
from pathlib import Path
from random import Random
from struct import pack

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from benchmarks.corpora import FILES, START

_SEED = 20240517
_FRAME = 512 * 512 * 2  # bytes


def main() -> None:
    """Build one corpus in a folder that is not there yet."""
    parser = argparse.ArgumentParser(prog="benchmarks.synthetic", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("name", choices=sorted(_BUILDERS))
    parser.add_argument("count", type=int, help="files; of large: frames")
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started this ends it, and removes what is unfinished
    files = arguments.folder / FILES
    files.mkdir(parents=True)
    warm_up = Random(_SEED + 1)
    _write(_mr(warm_up, 0), arguments.folder / START)
    _write(_mr(warm_up, 0), files / f"{0:06}.dcm")
    _BUILDERS[arguments.name](Random(_SEED), files, arguments.count)


def _small(random: Random, folder: Path, count: int) -> None:
    for number in range(1, count + 1):
        _write(_mr(random, number), folder / f"{number:06}.dcm")


def _large(random: Random, folder: Path, count: int) -> None:
    """One multi-frame object. Its frames are one random block, turned by a few bytes from one to the next."""
    data_set = _image(random, "1.2.840.10008.5.1.4.1.1.7.3", "OT", (512, 512))
    data_set.ConversionType = "SYN"
    data_set.NumberOfFrames = count
    data_set.FrameIncrementPointer = 0x00181063
    data_set.FrameTime = "40"
    path = folder / f"{1:06}.dcm"
    _write(data_set, path)
    frame = random.randbytes(_FRAME)
    with path.open("ab") as file:
        file.write(pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, count * _FRAME))
        for number in range(count):
            turn = number % _FRAME
            file.write(frame[turn:])
            file.write(frame[:turn])


_BUILDERS: dict[str, Callable[[Random, Path, int], None]] = {"small": _small, "large": _large}


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


def _uid(random: Random) -> str:
    return f"2.25.{random.getrandbits(128)}"


def _write(data_set: Dataset, path: Path) -> None:
    data_set.file_meta = FileMetaDataset()
    data_set.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data_set.save_as(path, enforce_file_format=True)


if __name__ == "__main__":
    main()
