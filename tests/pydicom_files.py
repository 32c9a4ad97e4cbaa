"""The DICOM files that pydicom ships, and those beside them that are none."""

from pathlib import Path

import pydicom

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
# The same without 49 of 50 slices of one series, for what takes long.
VARIED_FILES = [path for path in DICOM_FILES if "TINY_ALPHA/PT" not in str(path) or path.name == "IM000000"]
OTHER_FILES = [path for path in _FILES if path not in DICOM_FILES]


def name(path: Path) -> str:
    """For test IDs."""
    return str(path.relative_to(DATA))


def shipped(file: str) -> Path:
    """One of them by its name."""
    return DATA / "test_files" / file
