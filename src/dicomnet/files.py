"""Files to send: found in folders, recognised by what is in them."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple, overload

from dicomnet import part10
from dicomnet.dataset import EncodedDataset, Path
from dicomnet.errors import InvalidDataset
from dicomnet.spool import SAVE_PREFIX, SPOOL_PREFIX

_MEDIA_DIRECTORY: Final = "1.2.840.10008.1.3.10"  # the class of a DICOMDIR
_UNFINISHED: Final = (SPOOL_PREFIX, SAVE_PREFIX)  # files that a receiver is writing, or was when it died
# How a file without a preamble begins: (0002,0000), or in either byte order (0008,0001), (…,0005), (…,0008), (…,0016).
_FIRST_TAGS: Final = frozenset(
    (b"\2\0\0\0", *(bytes((8, 0, low, 0)) for low in (1, 5, 8, 22)), *(bytes((0, 8, 0, low)) for low in (1, 5, 8, 22)))
)
# A named pipe that took a file's place must not make us wait for a writer.
_OPEN: Final = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
# UIDs in the field do not always keep to digits and dots (PS3.5 9.1); this is what can be sent.
_is_uid: Final = re.compile(r"[!-\[\]-~]{1,64}").fullmatch
READ_WHOLE: Final = 1 << 20  # bytes: up to there reading a file costs less than mapping it


class Found(NamedTuple):
    """A file. ``error``: why it (or that folder) cannot be looked at; ``walked``: it was found in a folder.

    ``regular``: it is no device or the like. ``stamp``: its size and time in ns, if somebody has asked.
    ``fleeting``: it may go away before its turn, and is no instance then.
    """

    path: Path
    error: OSError | None = None
    walked: bool = False
    regular: bool = True
    stamp: tuple[int, int] | None = None
    fleeting: bool = False


@overload
def find_files(paths: Iterable[Path]) -> Iterator[Found]: ...


@overload
def find_files(paths: Iterable[Path | Found | None]) -> Iterator[Found | None]: ...


def find_files(paths: Iterable[Path | Found | None]) -> Iterator[Found | None]:
    """``paths`` themselves, but what is in them for folders, at all depths, in the order of names.

    Paths found are of the type of the folder's path (str or pathlib.Path). Links to folders are not followed. What has
    been found by somebody else, and None for "nothing now", are passed on.
    """
    for path in paths:
        if path is None or isinstance(path, Found):
            yield path
            continue
        try:
            mode = os.stat(path).st_mode
        except OSError as error:
            yield Found(path, error)
        except ValueError as error:  # a NUL in it
            yield Found(path, OSError(errno.EINVAL, str(error)))
        else:
            if stat.S_ISDIR(mode):
                yield from _walk(path)
            else:
                yield Found(path, regular=stat.S_ISREG(mode))


def _walk(given: Path) -> Iterator[Found]:
    """The files of a folder, then those of its folders."""
    waiting = [os.fspath(given)]
    while waiting:
        parent = waiting.pop()
        folders: list[str] = []
        names: list[tuple[str, bool]] = []  # and whether it is a regular file
        try:
            with os.scandir(parent) as entries:
                for entry in entries:
                    if not entry.is_dir():
                        names.append((entry.name, entry.is_file()))
                    elif not entry.is_symlink():
                        folders.append(entry.path)
        except OSError as error:
            yield Found(_like(given, parent), error, walked=True)
        folders.sort(reverse=True)
        waiting += folders
        names.sort()
        for name, regular in names:
            if not is_unfinished(name):
                yield Found(_like(given, os.path.join(parent, name)), None, True, regular)


def is_unfinished(name: str) -> bool:
    """Whether a file with this name is one that a receiver is writing."""
    return name.startswith(_UNFINISHED)


def _like(given: Path, found: str) -> Path:
    return found if isinstance(given, str) else type(given)(found)  # type: ignore[call-arg]


def dataset_in(found: Found, most: int = READ_WHOLE) -> EncodedDataset | None:
    """What is in a file; None if it was found in a folder and is no instance, or the list of a medium (DICOMDIR).

    A file of up to ``most`` bytes is read into memory, of others so much as tells the UIDs. Raises OSError, also the
    one of ``found``, and InvalidDataset, also for what is DICOM but cannot be stored.
    """
    path, error, walked, regular, *_ = found
    if error is not None:
        raise error
    if not regular:  # to open a device may do anything
        if walked:
            return None
        raise InvalidDataset("this is not a regular file")
    descriptor = os.open(path, _OPEN)
    try:
        size = os.fstat(descriptor).st_size
        content = os.read(descriptor, size if size <= most else part10.HEAD)
    finally:
        os.close(descriptor)
    if walked and content[128:132] != b"DICM" and content[:4] not in _FIRST_TAGS:
        return None
    dataset = _dataset(path, content, size)
    if walked and dataset.sop_class_uid == _MEDIA_DIRECTORY:
        return None
    _check_instance(dataset)
    return dataset


def _dataset(path: Path, content: bytes, size: int) -> EncodedDataset:
    """``content``: the file's first bytes, or all of its ``size``."""
    meta = part10.read_meta(content)
    if meta is None:
        return EncodedDataset.from_file(path)
    offset, syntax, uids = meta.offset, meta.transfer_syntax, (meta.sop_class_uid, meta.sop_instance_uid)
    # The data set itself says best what it is; the file meta information only repeats it (PS3.10 7.1).
    if not part10.holds(content, syntax, *uids, offset):
        uids = part10.scan_uids(memoryview(content)[offset : offset + part10.HEAD], syntax) or uids
    if len(content) == size:
        return EncodedDataset(memoryview(content)[offset:], syntax, *uids)
    return EncodedDataset._in_file(path, offset, size - offset, syntax, *uids)


def _check_instance(dataset: EncodedDataset) -> None:
    """Raises InvalidDataset for what is DICOM but cannot be stored."""
    if dataset.sop_class_uid == _MEDIA_DIRECTORY:
        raise InvalidDataset("a DICOMDIR lists the files of a medium; it cannot itself be stored")
    for name, uid in (("SOP Class", dataset.sop_class_uid), ("SOP Instance", dataset.sop_instance_uid)):
        if not uid:
            raise InvalidDataset(f"it has no {name} UID; without one it cannot be stored")
        if not _is_uid(uid):
            raise InvalidDataset(f"its {name} UID is not valid, so that it cannot be stored: {uid[:70]!r}")
