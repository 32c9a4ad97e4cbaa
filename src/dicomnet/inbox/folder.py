"""The folder itself: instances are put into their places, whatever is there already (PS3.4 B.2.3).

One idea: success means stored, so that whatever was confirmed once is there for ever, or something that is at least as
good. A file appears whole, by its name, and a name is either taken at once or not at all: several threads and processes
may store the same instance at the same moment.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from itertools import accumulate
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, get_args

from dicomnet import part10
from dicomnet.errors import InvalidDataset
from dicomnet.inbox.layout import Layout
from dicomnet.inbox.room import KeepFree, Room
from dicomnet.spool import SPOOL_PREFIX, SpoolFolder, sync_file, sync_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dicomnet.dataset import EncodedDataset

Duplicates = Literal["keep", "replace", "compare"]
DUPLICATES: Final[tuple[str, ...]] = get_args(Duplicates)
What = Literal["stored", "replaced", "same", "beside"]

_SPOOL: Final = ".incoming"  # in the folder itself: from there a large instance is renamed into its place, not copied
_STALE: Final = 24 * 3600.0  # seconds after which no transfer is still under way
_MOST_FOLDERS: Final = 10_000  # that are remembered as made
_ATTEMPTS: Final = 5  # somebody else may put a file there and take it away, but not each time
_HELD: Final = 60.0  # seconds for which an empty file may hold the place of another instance (spool.settle)
_DIGEST: Final = 16  # bytes, as in the names of layout.py
_BESIDE: Final = b"dicomnet beside"  # so that this digest is never one of a value in layout.py


class Kept(NamedTuple):
    """What has become of an instance.

    ``path``: where it is, below the folder, with ``/``. ``what``: "stored"; "replaced", an older one went; "same", it
    was there already and nothing was written; "beside", another one has its name, so that it got one of its own.
    ``folder``: that of ``path``, empty for none. ``values``: of the elements that were read, by their tags.
    """

    path: str
    what: What
    folder: str
    values: Mapping[int, str]


_new: Final = tuple.__new__  # half of what Kept() takes


class Inbox:
    """Stores instances below ``folder``, on the threads of all associations and in all processes.

    ``duplicates``: what to do if the instance's place is taken. "replace": the last one stays, and the one before goes
    when the new one is on the disk. "keep": the first one stays. "compare": the first one stays, and another data set
    with the same name is put beside it. ``sync``: each instance is on the disk (fsync) when ``keep`` returns.
    ``keep_free``: of the disk; what would take from it is refused (None: nothing is). ``processes``: how many will
    store.

    Raises OSError if nothing can be stored in ``folder``. What a run that crashed left unfinished there is removed.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        layout: Layout | None = None,
        duplicates: Duplicates = "replace",
        sync: bool = False,
        keep_free: KeepFree | None = None,
        processes: int = 1,
    ) -> None:
        self.folder = os.path.abspath(folder)  # once: for each file it would cost a system call
        self._prefix = os.path.join(self.folder, "")
        self.spool_folder = SpoolFolder(os.path.join(self.folder, _SPOOL), self._take, self._tell_spool_failed)
        # What is told that a data set could not wait in ``spool_folder``, and so never got to ``keep``.
        self.spool_failed: Callable[[OSError], None] | None = None
        self._room = None if keep_free is None else Room(self.folder, keep_free, processes)
        self.layout = layout or Layout()
        self._replaces = duplicates == "replace"
        self._compares = duplicates == "compare"
        self._sync = sync
        self._made: set[str] = set()
        os.makedirs(self.spool_folder, exist_ok=True)
        if not os.access(self.spool_folder, os.W_OK | os.X_OK):
            raise PermissionError(None, "permission denied")
        _remove_stale(self.spool_folder.path)

    def keep(self, dataset: EncodedDataset) -> Kept:
        """Store one instance: a few system calls, and little else. Raises OSError; then nothing is left behind."""
        folder, name, values = self.layout.place(dataset)
        path = f"{folder}/{name}" if folder else name
        full = self._prefix + path
        if self._room is not None:
            self._room.take(dataset.in_memory)  # what lies in a file has its room
        if folder not in self._made:
            self._make(folder)
        if self._replaces:
            # Those who store it at the same moment all write a whole file, and one of them stays.
            try:
                try:
                    dataset.save(full, replace=False, sync=self._sync)
                except FileNotFoundError:  # somebody tidied up
                    self._save(dataset, folder, full, replace=False)
            except FileExistsError:
                self._save(dataset, folder, full, sync=True)
                return Kept(path, "replaced", folder, values)
            return _new(Kept, (path, "stored", folder, values))
        return self._keep_first(dataset, folder, path)._replace(values=values)

    def check_room(self) -> None:
        """Raises OSError if nothing would be stored now, the disk being too full."""
        self._take(0)

    def _take(self, size: int) -> None:
        if self._room is not None:
            self._room.take(size)

    def _tell_spool_failed(self, error: OSError) -> None:
        if self.spool_failed is not None:
            self.spool_failed(error)

    def path(self, dataset: EncodedDataset) -> str:
        """Where ``dataset`` goes, below the folder, with ``/``."""
        folder, name, _values = self.layout.place(dataset)
        return f"{folder}/{name}" if folder else name

    def _keep_first(self, dataset: EncodedDataset, folder: str, path: str) -> Kept:
        full = f"{self.folder}/{path}"
        for left in reversed(range(_ATTEMPTS)):
            try:
                if not os.path.exists(full):
                    with contextlib.suppress(FileExistsError):  # somebody else was faster
                        self._save(dataset, folder, full, replace=False)
                        return Kept(path, "stored", folder, {})
                state = os.stat(full)
                if not state.st_size and not (self._compares and time.time() - state.st_mtime < _HELD):
                    self._save(dataset, folder, full, sync=True)  # no instance: what a power cut left
                    return Kept(path, "stored", folder, {})
                if state.st_size and self._is_there(dataset, full):
                    return Kept(path, "same", folder, {})
                return self._put_beside(dataset, folder, path)
            except FileNotFoundError:  # it was there, and has gone
                if not left:
                    raise
        raise AssertionError("the last attempt returns or raises")

    def _is_there(self, dataset: EncodedDataset, full: str) -> bool:
        """Whether this file, which has been there before, makes it needless to store ``dataset``."""
        if not (_same_content if self._compares else _same_instance)(dataset, full):
            return False
        if self._sync:  # who wrote it may not have got so far
            sync_file(full)
            sync_folder(os.path.dirname(full))
        return True

    def _put_beside(self, dataset: EncodedDataset, folder: str, path: str) -> Kept:
        """Under a name of its content: if the same comes again, it is there already."""
        stem, extension = os.path.splitext(path)
        beside = f"{stem}~{_digest(dataset)}{extension}"
        full = f"{self.folder}/{beside}"
        try:
            self._save(dataset, folder, full, replace=False)
        except FileExistsError:
            if _same_content(dataset, full):
                return Kept(beside, "same", folder, {})
            self._save(dataset, folder, full, sync=True)  # cut off by a crash of the computer
        return Kept(beside, "beside", folder, {})

    def _save(
        self, dataset: EncodedDataset, folder: str, full: str, *, replace: bool = True, sync: bool = False
    ) -> None:
        sync = sync or self._sync
        try:
            dataset.save(full, replace=replace, sync=sync)
        except FileNotFoundError:  # somebody tidied up
            self._make(folder)
            dataset.save(full, replace=replace, sync=sync)

    def _make(self, folder: str) -> None:
        os.makedirs(f"{self.folder}/{folder}", exist_ok=True)
        if self._sync:  # the names of all of them; another process may have made them, and not synced yet
            for parent in accumulate(["", *folder.split("/")[:-1]], lambda path, name: f"{path}/{name}"):
                sync_folder(self.folder + parent)
        if len(self._made) >= _MOST_FOLDERS:
            self._made.clear()
        self._made.add(folder)


# --- what is there --------------------------------------------------------------------------------------------------


def _same_instance(dataset: EncodedDataset, path: str) -> bool:
    """Whether a file says that it is this instance. Raises OSError."""
    with open(path, "rb") as file:
        meta = part10.read_meta(file.read(part10.HEAD))
    return meta is not None and meta.sop_instance_uid == dataset.sop_instance_uid


def _same_content(dataset: EncodedDataset, path: str) -> bool:
    """Whether a file has this data set, byte for byte, in the same transfer syntax. Raises OSError."""
    try:
        other = type(dataset).from_file(path)
    except InvalidDataset:
        return False
    return (
        other.size == dataset.size
        and other.transfer_syntax == dataset.transfer_syntax
        and all(one == two for one, two in zip(other.chunks(), dataset.chunks(), strict=True))
    )


def _digest(dataset: EncodedDataset) -> str:
    digest = hashlib.blake2b(dataset.transfer_syntax.encode(), digest_size=_DIGEST, person=_BESIDE)
    for piece in dataset.chunks():
        digest.update(piece)
    return digest.hexdigest()


# --- what a crash left ----------------------------------------------------------------------------------------------


def _remove_stale(spool: str) -> None:
    """Remove unfinished files, but not those of another process that receives into the same folder."""
    for entry in os.scandir(spool):
        if entry.name.startswith(SPOOL_PREFIX):
            pid = entry.name.removeprefix(SPOOL_PREFIX).partition("-")[0]
            try:
                if time.time() - entry.stat().st_mtime > _STALE or not _is_running(pid):
                    os.unlink(entry)
            except FileNotFoundError:  # its process has just put it in its place
                continue


def _is_running(pid: str) -> bool:
    """Whether a process may still write its file. Ours has not begun to."""
    if os.name != "posix" or not pid.isdecimal():  # elsewhere os.kill is no question but a deed
        return True
    if int(pid) == os.getpid():
        return False
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
