"""Files of ours: received bytes that wait in one, and files that appear whole or not at all.

One idea: a file system that fails ends nobody's association. What a spool meets is kept and told when it is closed.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import itertools
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

Path = str | os.PathLike[str]
Buffer = bytes | bytearray | memoryview

SPOOL_PREFIX: Final = ".receiving-"  # in a spool folder: data sets under way; after a crash they may be deleted
SAVE_PREFIX: Final = ".saving-"
_MOST_BUFFERS: Final = 512  # per writev; IOV_MAX is 1024 or more
_BEGINNING: Final = 16 * 1024  # bytes of a file that are kept in memory too
_SMALL: Final = 8 * 1024  # bytes: what comes in such pieces is put together


class SpoolFolder(os.PathLike[str]):
    """A folder for spools that is asked first: ``take(size)`` before so many bytes are written to a file there, which
    it refuses by an OSError. ``failed(error)`` is told what kept a data set from being stored there."""

    def __init__(self, path: str, take: Callable[[int], None], failed: Callable[[OSError], None] | None = None) -> None:
        self.path = path
        self.take = take
        self.failed = failed

    def __fspath__(self) -> str:
        return self.path


class SpooledFile(NamedTuple):
    """A file with a header of ``offset`` bytes and ``size`` bytes behind it."""

    path: str
    offset: int
    size: int


class ByteSpool:
    """Bytes as they arrive: in memory up to ``most`` bytes, above that in a file in ``folder``, behind a header.

    ``folder`` None: a private temporary folder. ``held()``: bytes in memory of others, with which these share ``most``.
    ``beginning``: of what went into a file, the first bytes that came together; they need not be read again.
    """

    def __init__(self, most: int, folder: Path | None, held: Callable[[], int] | None = None) -> None:
        self._most = most
        self._folder = folder
        self._held = held
        self._kept: list[bytes] = []  # what memory holds
        self._pieces: list[Buffer] = []  # what was taken since the last flush
        self._descriptor = -1
        self._path = ""
        self._offset = 0
        self._size = 0
        self._error: OSError | None = None
        self.beginning = b""

    def header(self) -> bytes:
        """What the file begins with; asked for only if there will be one."""
        return b""

    def write(self, piece: memoryview) -> None:
        """Take a piece; it must stay valid until ``flush`` returns."""
        self._size += len(piece)
        self._pieces.append(piece)

    def flush(self) -> None:
        """Be done with the pieces taken."""
        pieces = self._pieces
        if not pieces:
            return
        self._pieces = []
        if self._descriptor < 0 and self._error is None:
            if self._size + (self._held() if self._held is not None else 0) <= self._most:
                self._keep(b"".join(pieces))
                return
            pieces = self._begin_file(pieces)
        if self._error is None:
            try:
                if isinstance(self._folder, SpoolFolder):
                    self._folder.take(sum(map(len, pieces)))
                write_all(self._descriptor, pieces)
            except OSError as error:
                self._error = error

    def _keep(self, piece: bytes) -> None:
        kept = self._kept
        if kept and len(kept[-1]) < _SMALL:  # a thousand small objects would take many times their bytes
            kept[-1] += piece
        else:
            kept.append(piece)

    def _begin_file(self, pieces: list[Buffer]) -> list[Buffer]:
        """Open it; returns all that goes into it."""
        header = self.header()
        self._offset = len(header)
        kept, self._kept = self._kept, []
        first = kept[0] if kept else pieces[0]
        if len(first) < _BEGINNING:
            first = b"".join([*kept, *pieces])
        self.beginning = bytes(first[:_BEGINNING])
        try:
            self._descriptor, self._path = create_spool_file(self._folder)
        except OSError as error:
            self._error = error
        return [header, *kept, *pieces]

    def finish(self) -> bytes | SpooledFile | OSError:
        """All is here: where it is, or the error that kept it from being stored."""
        self.flush()
        if self._error is not None:
            self.discard()
            if isinstance(self._folder, SpoolFolder) and self._folder.failed is not None:
                self._folder.failed(self._error)
            return self._error
        if self._descriptor < 0:
            kept = self._kept
            return kept[0] if len(kept) == 1 else b"".join(kept)
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
        self._kept = []
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = -1
            remove(self._path)


# --- files ----------------------------------------------------------------------------------------------------------


def create_spool_file(folder: Path | None) -> tuple[int, str]:
    """A new file in ``folder``, or in the private one: its descriptor and its path. Raises OSError."""
    if isinstance(folder, SpoolFolder):
        try:
            return _create(folder, SPOOL_PREFIX)
        except FileNotFoundError:  # moved away; what it lies in is not ours to make
            with contextlib.suppress(FileExistsError):  # another thread was faster
                os.mkdir(folder)
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


class _Names:
    """Names of temporary files that nobody else has: of this process, by its ID and a random number, and counted.

    What they begin with is made once: a system call for each file would cost as much as opening it.
    """

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self.renew()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self.renew)

    def renew(self) -> None:
        self._own = f"{os.getpid()}-{secrets.token_hex(8)}-"

    def new(self, prefix: str) -> str:
        return f"{prefix}{self._own}{next(self._numbers)}"


_names: Final = _Names()
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


def _create(folder: Path, prefix: str) -> tuple[int, str]:
    path = os.path.join(folder, _names.new(prefix))
    return os.open(path, _CREATE, 0o666), path


def _beside(path: str) -> str:
    """A name for a file that will become ``path``."""
    if os.sep != "/":
        return os.path.join(os.path.dirname(path), _names.new(SAVE_PREFIX))
    folder, separator, _name = path.rpartition("/")  # a tenth of what os.path takes for it
    return folder + separator + _names.new(SAVE_PREFIX)


def remove(path: Path) -> None:
    """Delete a file of ours if that can be done."""
    with contextlib.suppress(OSError):
        os.unlink(path)


@contextlib.contextmanager
def replacing(path: Path, *, replace: bool = True, sync: bool = False) -> Iterator[int]:
    """A descriptor to write to; what was written becomes ``path`` (``settle``) if the block ends well, else it goes."""
    temporary = _beside(os.fspath(path))
    descriptor = os.open(temporary, _CREATE, 0o666)
    try:
        try:
            yield descriptor
        finally:
            os.close(descriptor)
        settle(temporary, path, replace=replace, sync=sync)
    except BaseException:
        remove(temporary)
        raise


def settle(temporary: Path, path: Path, *, replace: bool = True, sync: bool = False) -> None:
    """Give the finished file ``temporary`` its name, in the same file system. Raises OSError.

    ``replace``: a file of that name goes; otherwise FileExistsError, also if it appears at this very moment. ``sync``:
    the content is on the disk before the name is, and the name when this returns.
    """
    if sync:
        sync_file(temporary)
    if replace:
        os.replace(temporary, path)
    else:
        _take_name(temporary, path)
    if sync:
        sync_folder(os.path.dirname(path) or os.curdir)


def _take_name(temporary: Path, path: Path) -> None:
    if os.name == "nt":
        os.rename(temporary, path)  # never replaces there
        return
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        os.close(os.open(path, _CREATE, 0o666))  # a file system without links: an empty file holds the place
        os.replace(temporary, path)
    else:
        remove(temporary)


_NO_LINKS: Final = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


def sync_file(path: Path) -> None:
    """Return when the content of a file is on the disk (fsync). Raises OSError."""
    descriptor = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))  # Windows syncs only what can be written
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """The same for the names in a folder; where folders cannot be opened (Windows) the file system sees to it."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: str, buffers: Sequence[Buffer]) -> None:
    """As ``replacing``, for what is all here: four system calls, and little else. Raises OSError."""
    temporary = _beside(path)
    descriptor = os.open(temporary, _CREATE, 0o666)
    try:
        try:
            write_all(descriptor, buffers)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
    except BaseException:
        remove(temporary)
        raise


_UNNAMED: Final = getattr(os, "O_TMPFILE", 0) if os.path.isdir("/proc/self/fd") else 0  # Linux
_NO_UNNAMED: Final = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOSYS)  # a file system or kernel without it
_named_only: Final[list[str]] = []  # the first folder that has refused: no other one is asked


def write_new(path: str, buffers: Sequence[Buffer]) -> None:
    """As ``write_whole``, but raises FileExistsError if there is such a file, also if it appears at this very moment.

    On Linux the file has no name until it is whole: this costs less than to ask first and to rename then.
    """
    descriptor = _open_unnamed(path)
    if descriptor >= 0:
        try:
            write_all(descriptor, buffers)
            os.link(f"/proc/self/fd/{descriptor}", path, src_dir_fd=descriptor, follow_symlinks=True)
            return
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
        finally:
            os.close(descriptor)
    with replacing(path, replace=False) as descriptor:
        write_all(descriptor, buffers)


def _open_unnamed(path: str) -> int:
    """A file in the folder of ``path`` that has no name; -1 if there are none here. Raises OSError."""
    folder = path.rpartition("/")[0]
    if not _UNNAMED or not folder or _named_only:
        return -1
    try:
        return os.open(folder, _UNNAMED | os.O_WRONLY | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno not in _NO_UNNAMED:
            raise
        _named_only.append(folder)
        return -1


def write_all(descriptor: int, buffers: Sequence[Buffer]) -> None:
    """All of ``buffers`` to a file, in as few system calls as the platform allows. Raises OSError."""
    if not hasattr(os, "writev"):
        _write_each(descriptor, buffers)
        return
    if len(buffers) > _MOST_BUFFERS:
        for start in range(0, len(buffers), _MOST_BUFFERS):
            write_all(descriptor, buffers[start : start + _MOST_BUFFERS])
        return
    written = os.writev(descriptor, buffers)
    if written != sum(map(len, buffers)):  # rare: a signal, or a file system about to be full
        _write_each(descriptor, [memoryview(b"".join(buffers))[written:]])


def _write_each(descriptor: int, buffers: Sequence[Buffer]) -> None:
    for buffer in buffers:
        view = memoryview(buffer)
        while view:
            view = view[os.write(descriptor, view) :]
