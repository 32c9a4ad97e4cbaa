"""Files of ours: received bytes that wait in one, and files that appear whole or not at all.

One idea: a file system that fails ends nobody's association. What a spool meets is kept and told when it is closed.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

Path = str | os.PathLike[str]
Buffer = bytes | bytearray | memoryview

SPOOL_PREFIX: Final = ".receiving-"  # in a spool folder: data sets under way; after a crash they may be deleted
SAVE_PREFIX: Final = ".saving-"
_MOST_BUFFERS: Final = 512  # per writev; IOV_MAX is 1024 or more
_numbers = itertools.count()


class SpooledFile(NamedTuple):
    """A file with a header of ``offset`` bytes and ``size`` bytes behind it."""

    path: str
    offset: int
    size: int


class ByteSpool:
    """Bytes as they arrive: in memory up to ``most`` bytes, above that in a file in ``folder``, behind a header.

    ``folder`` None: a private temporary folder.
    """

    def __init__(self, most: int, folder: Path | None) -> None:
        self._most = most
        self._folder = folder
        self._memory = bytearray()
        self._pieces: list[Buffer] = []
        self._descriptor = -1
        self._path = ""
        self._offset = 0
        self._size = 0
        self._error: OSError | None = None

    def header(self) -> bytes:
        """What the file begins with; asked for only if there will be one."""
        return b""

    def write(self, piece: memoryview) -> None:
        """Take a piece; it must stay valid until ``flush`` returns."""
        if self._descriptor < 0 and self._error is None:
            if len(self._memory) + len(piece) <= self._most:
                self._memory += piece
                return
            self._begin_file()
        self._size += len(piece)
        self._pieces.append(piece)

    def _begin_file(self) -> None:
        header = self.header()
        self._offset, self._size = len(header), len(self._memory)
        self._pieces = [header, self._memory]
        try:
            self._descriptor, self._path = create_spool_file(self._folder)
        except OSError as error:
            self._error = error
        self.flush()
        self._memory = bytearray()

    def flush(self) -> None:
        """Be done with the pieces taken."""
        if not self._pieces:
            return
        if self._error is None:
            try:
                write_all(self._descriptor, self._pieces)
            except OSError as error:
                self._error = error
        self._pieces = []

    def finish(self) -> bytearray | SpooledFile | OSError:
        """All is here: where it is, or the error that kept it from being stored."""
        self.flush()
        if self._error is not None:
            self.discard()
            return self._error
        if self._descriptor < 0:
            return self._memory
        descriptor, self._descriptor = self._descriptor, -1
        try:
            os.close(descriptor)
        except OSError as error:  # where late write errors show, as on NFS
            remove(self._path)
            return error
        return SpooledFile(self._path, self._offset, self._size)

    def discard(self) -> None:
        """The rest will not come: leave nothing behind."""
        self._pieces = []
        self._memory = bytearray()
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = -1
            remove(self._path)


# --- files ----------------------------------------------------------------------------------------------------------


def create_spool_file(folder: Path | None) -> tuple[int, str]:
    """A new file in ``folder``, or in the private one: its descriptor and its path. Raises OSError."""
    if folder is not None:
        return _create(folder, SPOOL_PREFIX)
    try:
        return _create(_private_folder(os.getpid()), SPOOL_PREFIX)
    except FileNotFoundError:  # something tidied the temporary folder up meanwhile
        _private_folder.cache_clear()
        return _create(_private_folder(os.getpid()), SPOOL_PREFIX)


@lru_cache(maxsize=1)
def _private_folder(pid: int) -> str:
    """Where process ``pid`` spools if nobody said where: readable by its own user alone, gone with the process."""
    folder = tempfile.mkdtemp(prefix="dicomnet-")
    atexit.register(_remove_folder, folder, pid)
    return folder


def _remove_folder(folder: str, pid: int) -> None:
    if os.getpid() == pid:  # not a child that was forked and has inherited the duty
        shutil.rmtree(folder, ignore_errors=True)


def _create(folder: Path, prefix: str) -> tuple[int, str]:
    path = os.path.join(folder, f"{prefix}{os.getpid()}-{next(_numbers)}-{secrets.token_hex(4)}")
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666), path


def remove(path: Path) -> None:
    """Delete a file of ours if that can be done."""
    with contextlib.suppress(OSError):
        os.unlink(path)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[int]:
    """A descriptor to write to; what was written becomes ``path`` if the block ends well, else it goes."""
    descriptor, temporary = _create(os.path.dirname(os.fspath(path)), SAVE_PREFIX)
    try:
        try:
            yield descriptor
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
    except BaseException:
        remove(temporary)
        raise


def write_all(descriptor: int, buffers: Sequence[Buffer]) -> None:
    """All of ``buffers`` to a file, in as few system calls as the platform allows. Raises OSError."""
    if not hasattr(os, "writev"):
        _write_each(descriptor, buffers)
        return
    for start in range(0, len(buffers), _MOST_BUFFERS):
        some = buffers[start : start + _MOST_BUFFERS]
        written = os.writev(descriptor, some)
        if written != sum(map(len, some)):  # rare: a signal, or a file system about to be full
            _write_each(descriptor, [memoryview(b"".join(some))[written:]])


def _write_each(descriptor: int, buffers: Sequence[Buffer]) -> None:
    for buffer in buffers:
        view = memoryview(buffer)
        while view:
            view = view[os.write(descriptor, view) :]
