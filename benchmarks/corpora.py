"""The files that are sent, in a cache folder: built when they are first asked for, by ``synthetic``.

That is a process of its own: the measuring process never loads pydicom, because the memory of a process that measures
shows up in the peaks of those that it starts.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

FILES, START = "files", "start.dcm"  # in the folder of a corpus
_VERSION = 4  # of what ``synthetic`` writes: part of each folder's name, so that the cache never hides a change
_MEMORY_DISK = Path("/dev/shm")
_ROOM, _QUICK_ROOM = 7e9, 1e9  # bytes: all corpora together, the largest copy that arrives, and as much in reserve
_PREFIX = slice(128, 132)
_GROUP_LENGTH = slice(140, 144)  # the value of (0002,0000), which counts from its own end


@dataclass(frozen=True, slots=True)
class Corpus:
    """Files of one kind. The first of them is small and not counted: it warms both ends up.

    `start` is one more such file, for a run of its own that shows what it costs to start: that run and the one that
    counts differ by the counted files alone.
    """

    start: Path
    files: tuple[Path, ...]

    @property
    def count(self) -> int:
        """Files that count."""
        return len(self.files) - 1

    @property
    def size(self) -> int:
        """Bytes of the files that count."""
        return sum(path.stat().st_size for path in self.files[1:])


def default_folder(*, quick: bool) -> Path:
    """Where the cache goes: to the memory disk if there is one with room enough."""
    room = shutil.disk_usage(_MEMORY_DISK).free if _MEMORY_DISK.is_dir() else 0
    return _MEMORY_DISK if room > (_QUICK_ROOM if quick else _ROOM) else Path(tempfile.gettempdir())


def cache_in(folder: Path) -> Path:
    """The cache within `folder`, made if need be: the user's own, and nobody else's to read or to prepare."""
    cache = folder / f"dicomnet-benchmarks-{os.getuid()}"
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    if cache.is_symlink() or cache.stat().st_uid != os.getuid():
        raise PermissionError(f"{cache} belongs to somebody else")
    return cache


def corpus(cache: Path, name: str, count: int, size: int = 0) -> Corpus:
    """Return the corpus `name` of `count` files, built if need be.

    ``large`` is one file of `count` frames, ``sized`` has files of `size` bytes, ``query`` is one file of `count`
    studies, which is not sent.
    """
    folder = cache / f"{name}-{count}{f'-{size}' if size else ''}-v{_VERSION}"
    if not folder.exists():
        _build(folder, name, count, size)
    return Corpus(folder / START, tuple(sorted((folder / FILES).iterdir())))


def _build(folder: Path, name: str, count: int, size: int) -> None:
    """Build a corpus. Its folder appears only when it is complete."""
    with tempfile.TemporaryDirectory(prefix="unfinished-", dir=folder.parent) as work:
        unfinished = Path(work) / folder.name
        command = [sys.executable, "-m", "benchmarks.synthetic", str(unfinished), name, str(count), str(size)]
        subprocess.run(command, check=True, cwd=Path(__file__).resolve().parent.parent)
        with contextlib.suppress(OSError):  # another run may have built it meanwhile: its files are the same
            unfinished.rename(folder)


def digest_of(path: Path) -> str:
    """A hash of the data set of a Part 10 file, as it lies there (PS3.10 7.1): what must arrive unchanged."""
    with path.open("rb") as file:
        head = file.read(_GROUP_LENGTH.stop)
        if head[_PREFIX] != b"DICM":
            raise ValueError(f"{path.name} is no Part 10 file")
        file.seek(int.from_bytes(head[_GROUP_LENGTH], "little"), os.SEEK_CUR)
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of_all(data_sets: Iterable[str]) -> str:
    """One hash of the hashes of many data sets, whatever their order: associations overtake each other."""
    return hashlib.blake2b("".join(sorted(data_sets)).encode(), digest_size=16).hexdigest()
