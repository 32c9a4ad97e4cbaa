"""The DICOM files that pydicom ships, and those beside them that are none."""

from pathlib import Path

import pydicom
from pydicom.errors import InvalidDicomError

DATA = Path(pydicom.__file__).parent / "data"
_FILES = sorted(path for path in DATA.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc"))

# Without preamble or prefix, and yet DICOM: pydicom reads them by force.
WITHOUT_PREFIX = [
    DATA / "test_files" / name for name in ("ExplVR_BigEndNoMeta.dcm", "ExplVR_LitEndNoMeta.dcm", "rtstruct.dcm")
]


def _has_prefix(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(132)[128:] == b"DICM"


DICOM_FILES = [path for path in _FILES if _has_prefix(path) or path in WITHOUT_PREFIX]
OTHER_FILES = [path for path in _FILES if path not in DICOM_FILES]


def name(path: Path) -> str:
    """For test IDs."""
    return str(path.relative_to(DATA))


def test_file(file: str) -> Path:
    return DATA / "test_files" / file


test_file.__test__ = False
__all__ = ["DATA", "DICOM_FILES", "OTHER_FILES", "WITHOUT_PREFIX", "InvalidDicomError", "name", "test_file"]
