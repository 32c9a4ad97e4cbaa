"""The DICOM files that pydicom ships, as pydicom (not dicomnet) takes them apart."""

import functools
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
from pydicom.filereader import _read_file_meta_info, read_preamble

from dicomnet import StorageClasses

FOLDER = Path(pydicom.__file__).parent / "data" / "test_files"


@dataclass(frozen=True, slots=True)
class Instance:
    """A composite instance as it is stored or as it arrived. ``data``: its data set, encoded."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax: str
    data: bytes

    def __repr__(self) -> str:
        return f"<{self.sop_instance_uid} {self.transfer_syntax} {len(self.data)} bytes, hash {hash(self.data):x}>"


def read(path: Path) -> Instance:
    """The instance in a file. UIDs that its data set does not have are taken from its file meta information."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some of these files are broken on purpose, and pydicom says so
        dataset = pydicom.dcmread(path, force=True, stop_before_pixels=True)
        with path.open("rb") as file:
            read_preamble(file, force=True)
            _read_file_meta_info(file)
            data = file.read()
    meta = dataset.file_meta
    return Instance(
        str(dataset.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID") or ""),
        str(dataset.get("SOPInstanceUID") or meta.get("MediaStorageSOPInstanceUID") or ""),
        str(meta.get("TransferSyntaxUID") or _guessed_transfer_syntax(dataset)),
        data,
    )


def _guessed_transfer_syntax(dataset: Any) -> str:
    match dataset.original_encoding:
        case (False, True):
            return "1.2.840.10008.1.2.1"
        case (False, False):
            return "1.2.840.10008.1.2.2"
    return "1.2.840.10008.1.2"


@functools.cache
def instances() -> dict[str, Instance]:
    """Every file with the UID of a storage SOP class and of an instance, by its name in pydicom's folder.

    A DICOMDIR is not a composite instance: its SOP class, media storage directory, is not one that is sent (PS3.4 B.5).
    """
    found = {}
    storage = frozenset(StorageClasses)
    for path in sorted(FOLDER.rglob("*")):
        if path.is_file() and path.suffix not in (".gz", ".json", ".txt", ".dump", ".icc"):
            instance = read(path)
            if instance.sop_class_uid in storage and instance.sop_instance_uid:
                found[path.relative_to(FOLDER).as_posix()] = instance
    return found


def contexts() -> list[tuple[str, list[str]]]:
    """A presentation context for each SOP class and transfer syntax that occurs."""
    pairs = sorted({(one.sop_class_uid, one.transfer_syntax) for one in instances().values()})
    return [(sop_class, [syntax]) for sop_class, syntax in pairs]


def even(instance: Instance) -> Instance:
    """The instance with a NUL behind its data set."""
    return Instance(instance.sop_class_uid, instance.sop_instance_uid, instance.transfer_syntax, instance.data + b"\0")
