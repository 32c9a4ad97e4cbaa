"""Files to send: found in folders, recognised by what is in them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from dicomnet.dataset import EncodedDataset, Path
from dicomnet.errors import InvalidDataset
from dicomnet.spool import SAVE_PREFIX, SPOOL_PREFIX

_MEDIA_DIRECTORY: Final = "1.2.840.10008.1.3.10"  # the class of a DICOMDIR
_UNFINISHED: Final = (SPOOL_PREFIX, SAVE_PREFIX)  # files that a receiver is writing, or was when it died
# How a file without a preamble begins: (0002,0000), or in either byte order (0008,0001), (…,0005), (…,0008), (…,0016).
_FIRST_TAGS: Final = frozenset(
    (b"\2\0\0\0", *(bytes((8, 0, low, 0)) for low in (1, 5, 8, 22)), *(bytes((0, 8, 0, low)) for low in (1, 5, 8, 22)))
)


class Found(NamedTuple):
    """A file. ``error``: why it (or that folder) cannot be looked at; ``walked``: it was found in a folder."""

    path: Path
    error: OSError | None = None
    walked: bool = False


def find_files(paths: Iterable[Path]) -> Iterator[Found]:
    """``paths`` themselves, but what is in them for folders, at all depths, in the order of names.

    Paths found are of the type of the folder's path (str or pathlib.Path). Links to folders are not followed.
    """
    for path in paths:
        if os.path.isdir(path):
            yield from _walk(path)
        else:
            yield Found(path)


def _walk(folder: Path) -> Iterator[Found]:
    errors: list[OSError] = []
    for parent, folders, names in os.walk(folder, onerror=errors.append):
        folders.sort()
        for name in sorted(names):
            if not name.startswith(_UNFINISHED):
                yield Found(_like(folder, os.path.join(parent, name)), walked=True)
    for error in errors:
        yield Found(_like(folder, error.filename), error, walked=True)


def _like(given: Path, found: str) -> Path:
    return found if isinstance(given, str) else type(given)(found)  # type: ignore[call-arg]


def dataset_in(found: Found) -> EncodedDataset | None:
    """What is in a file; None if it was found in a folder and is no instance, or the list of a medium (DICOMDIR).

    Raises OSError, also the one of ``found``, and InvalidDataset.
    """
    if found.error is not None:
        raise found.error
    regular = stat.S_ISREG(os.stat(found.path).st_mode)  # to open a named pipe would wait for a writer
    if found.walked and not (regular and _looks_like_dicom(found.path)):
        return None
    if not regular:
        raise InvalidDataset("this is not a regular file")
    dataset = EncodedDataset.from_file(found.path)
    return None if found.walked and dataset.sop_class_uid == _MEDIA_DIRECTORY else dataset


def _looks_like_dicom(path: Path) -> bool:
    """Whether it has the prefix of PS3.10 7.1, or begins as a data set does."""
    with open(path, "rb") as file:
        head = file.read(132)
    return head[128:] == b"DICM" or head[:4] in _FIRST_TAGS


def check_instance(dataset: EncodedDataset) -> None:
    """Raises InvalidDataset for what is DICOM but cannot be stored."""
    if dataset.sop_class_uid == _MEDIA_DIRECTORY:
        raise InvalidDataset("a DICOMDIR lists the files of a medium; it cannot itself be stored")
    for name, uid in (("SOP Class", dataset.sop_class_uid), ("SOP Instance", dataset.sop_instance_uid)):
        if not uid:
            raise InvalidDataset(f"it has no {name} UID; without one it cannot be stored")
        if not _is_uid(uid):
            raise InvalidDataset(f"its {name} UID is not valid, so that it cannot be stored: {uid[:70]!r}")


def _is_uid(text: str) -> bool:
    """Whether it can be sent: UIDs in the field do not always keep to digits and dots (PS3.5 9.1)."""
    return 0 < len(text) <= 64 and text.isascii() and text.isprintable() and not set(text) & set(" \\")
