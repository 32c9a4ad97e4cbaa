"""``EncodedDataset``: a data set as the bytes that crossed the network; the only door to pydicom.

One idea: the bytes are never touched. They lie in memory or in a file behind a header of known length, go out as views
of either, and are decoded only when somebody calls ``decode``. pydicom is imported when it is first needed.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import mmap
import os
import re
import secrets
import shutil
import struct
import tempfile
import weakref
import zlib
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from io import BytesIO
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from dicomnet.config import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, Limits
from dicomnet.errors import InvalidDataset, NoAcceptedContext
from dicomnet.ul.negotiation import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN, AcceptedContext

if TYPE_CHECKING:
    from pydicom import Dataset

Path = str | os.PathLike[str]
Buffer = bytes | bytearray | memoryview

DEFLATED: Final = frozenset(("1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95"))  # the latter: JPIP referenced
EXPLICIT_VR_BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"
# Between these nothing but the encoding of the elements differs, so that one can be made from another without loss.
UNCOMPRESSED: Final = (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    "1.2.840.10008.1.2.1.99",
)

_HEAD: Final = 16 * 1024  # read at once from a file: its meta information and the first elements, or a small file whole
_CHUNK: Final = 1 << 20  # of chunks() and of copies
_SOP_CLASS: Final = 0x00080016
_SOP_INSTANCE: Final = 0x00080018


class EncodedDataset:
    """A data set as bytes with its transfer syntax, in memory or in a file.

    ``transfer_syntax``, ``sop_class_uid``, ``sop_instance_uid``: str, the last two empty for an identifier (a query).
    ``size``: length of the data set in bytes. Made by the library when it receives one, by ``from_file`` and by
    ``from_dataset``, or from bytes that are already encoded.
    """

    __slots__ = (
        "__weakref__",
        "_ae_titles",
        "_data",
        "_decoded",
        "_limits",
        "_offset",
        "_path",
        "_temporary",
        "size",
        "sop_class_uid",
        "sop_instance_uid",
        "transfer_syntax",
    )

    def __init__(
        self,
        data: Buffer,
        transfer_syntax: str,
        sop_class_uid: str = "",
        sop_instance_uid: str = "",
        *,
        ae_titles: tuple[str, str] | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.transfer_syntax = transfer_syntax
        self.sop_class_uid = sop_class_uid
        self.sop_instance_uid = sop_instance_uid
        self.size = len(data)
        self._data: Buffer | None = data
        self._path: Path | None = None
        self._offset = 0
        self._temporary: weakref.finalize[Any, Any] | None = None
        self._ae_titles = ae_titles  # of the sender and the receiver
        self._limits = limits
        self._decoded: Dataset | None = None

    @classmethod
    def _in_file(
        cls, path: Path, offset: int, size: int, transfer_syntax: str, sop_class_uid: str, sop_instance_uid: str
    ) -> EncodedDataset:
        self = cls(b"", transfer_syntax, sop_class_uid, sop_instance_uid)
        self._data, self._path, self._offset, self.size = None, path, offset, size
        return self

    @classmethod
    def from_file(cls, path: Path) -> EncodedDataset:
        """The data set of a DICOM file, which stays in the file. Raises OSError and InvalidDataset.

        Files of PS3.10 are read as far as their UIDs; others (no preamble, no file meta information) are tried with
        what their first bytes look like.
        """
        return _open_file(path)[0]

    @classmethod
    def from_dataset(cls, dataset: Dataset, transfer_syntax: str | None = None) -> EncodedDataset:
        """Encode a pydicom Dataset: in ``transfer_syntax``, else its own, else Explicit VR Little Endian.

        Raises InvalidDataset if pydicom cannot encode it so.
        """
        syntax = transfer_syntax or _transfer_syntax_of(dataset)
        return cls(
            _encode(dataset, syntax),
            syntax,
            str(dataset.get("SOPClassUID", "") or ""),
            str(dataset.get("SOPInstanceUID", "") or ""),
        )

    def __repr__(self) -> str:
        where = "in memory" if self._data is not None else "in a file"
        return f"<EncodedDataset {self.size} bytes {where}, transfer syntax {self.transfer_syntax}>"

    def __len__(self) -> int:
        return self.size

    def __bytes__(self) -> bytes:
        return b"".join(self.chunks())

    def chunks(self, size: int = _CHUNK) -> Iterator[bytes]:
        """The data set as pieces of at most ``size`` bytes."""
        if self._data is not None:
            view = memoryview(self._data)
            yield from (bytes(view[start : start + size]) for start in range(0, len(view), size))
            return
        with self._open() as file:
            left = self.size
            while left:
                piece = file.read(min(size, left))
                if not piece:
                    raise InvalidDataset("the file became shorter than it was")
                left -= len(piece)
                yield piece

    def _open(self) -> BinaryIO:
        assert self._path is not None
        file = open(self._path, "rb")  # noqa: SIM115  (handed to the caller's with)
        file.seek(self._offset)
        return file

    @contextlib.contextmanager
    def view(self) -> Iterator[MappedView]:
        """The bytes to send, without loading them: a view that is valid inside the ``with``."""
        if self._data is not None:
            yield MappedView(memoryview(self._data))
            return
        if not self.size:  # nothing to map
            yield MappedView(memoryview(b""))
            return
        with open(self._path or "", "rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        try:
            if len(mapped) < self._offset + self.size:
                raise InvalidDataset("the file became shorter than it was")
            yield MappedView(memoryview(mapped)[self._offset : self._offset + self.size], mapped, self._offset)
        finally:
            with contextlib.suppress(BufferError):  # slices of it are still held somewhere: it goes with the last one
                mapped.close()

    def inner_uids(self) -> tuple[str, str] | None:
        """SOP class and instance UID as the data set itself says, or None if its first bytes do not tell."""
        if self._data is not None:
            return scan_uids(memoryview(self._data)[:_HEAD], self.transfer_syntax)
        with self._open() as file:
            return scan_uids(file.read(min(_HEAD, self.size)), self.transfer_syntax)

    def decode(self, **pydicom_options: Any) -> Dataset:
        """The data set as a pydicom Dataset, with file meta information. Options are those of ``pydicom.dcmread``.

        Without options the result is kept and returned again. Raises InvalidDataset for bytes that pydicom cannot
        read, that nest too deep or that inflate beyond ``Limits.inflation_ratio`` or ``Limits.inflated_size``.
        """
        if pydicom_options:
            return self._decode(pydicom_options)
        if self._decoded is None:
            self._decoded = self._decode({})
        return self._decoded

    def _decode(self, options: dict[str, Any]) -> Dataset:
        from pydicom import dcmread

        # Inflated here, within limits, and then read as what it is underneath.
        deflated = self.transfer_syntax in DEFLATED
        syntax = EXPLICIT_VR_LITTLE_ENDIAN if deflated else self.transfer_syntax
        header = part10_header(syntax, self.sop_class_uid, self.sop_instance_uid, self._ae_titles)
        limits = self._limits or Limits()
        body = b"".join(inflate(self.chunks(), self.size, limits)) if deflated else bytes(self)
        try:
            dataset = dcmread(BytesIO(header + body), **options)
            _check_nesting(dataset, limits.sequence_nesting)
        except InvalidDataset:
            raise
        except Exception as error:  # pydicom documents no closed set of errors for bytes that are no data set
            raise InvalidDataset(f"pydicom cannot read this data set: {error}") from error
        if deflated:
            from pydicom.uid import UID

            dataset.file_meta.TransferSyntaxUID = UID(self.transfer_syntax)
        return dataset

    def transcoded(self, transfer_syntax: str) -> EncodedDataset:
        """The same elements in another of the uncompressed transfer syntaxes. Raises InvalidDataset."""
        if transfer_syntax == self.transfer_syntax:
            return self
        if self.transfer_syntax not in UNCOMPRESSED or transfer_syntax not in UNCOMPRESSED:
            raise InvalidDataset(f"{self.transfer_syntax} cannot be written as {transfer_syntax}")
        encoded = _encode(self._decode({}), transfer_syntax)
        return EncodedDataset(encoded, transfer_syntax, self.sop_class_uid, self.sop_instance_uid)

    def save(self, path: Path) -> None:
        """Write a DICOM file (PS3.10): preamble, file meta information, then the data set byte for byte.

        The file appears whole or not at all; one that is there is replaced. A received data set that waits in a
        temporary file is renamed if it lies in the same file system. Raises OSError.
        """
        if self._temporary is not None and self._rename_temporary(path):
            return
        header = part10_header(self.transfer_syntax, self.sop_class_uid, self.sop_instance_uid, self._ae_titles)
        with _replacing(path) as descriptor:
            if self._data is not None:
                write_all(descriptor, [header, self._data])
                return
            write_all(descriptor, [header])
            for piece in self.chunks():
                write_all(descriptor, [piece])

    def _rename_temporary(self, path: Path) -> bool:
        """Move the spool file, which has its header already, to ``path``. False if it lies in another file system."""
        assert self._path is not None
        assert self._temporary is not None
        try:
            os.replace(self._path, path)
        except OSError as error:
            if error.errno == _EXDEV:
                return False
            raise
        self._temporary.detach()
        self._temporary = None
        self._path = os.path.abspath(path)
        return True

    def own_temporary(self) -> EncodedDataset:
        """From now on the file goes when this object goes."""
        assert self._path is not None
        self._temporary = weakref.finalize(self, _remove, self._path)
        return self

    def close(self) -> None:
        """Remove the temporary file now, if there is one. The object is of no use afterwards."""
        if self._temporary is not None:
            self._temporary()
            self._temporary = None


class MappedView:
    """Bytes to send. ``passed(end)``: those before ``end`` have gone; a mapped file's pages need not stay resident."""

    __slots__ = ("_mapped", "_offset", "_released", "data")
    _STEP: Final = 8 << 20  # pages are given back in steps that make the call worth it

    def __init__(self, data: memoryview, mapped: mmap.mmap | None = None, offset: int = 0) -> None:
        self.data = data
        self._mapped = mapped if hasattr(mmap, "MADV_DONTNEED") else None
        self._offset = offset
        self._released = 0

    def passed(self, end: int) -> None:
        if self._mapped is None or self._offset + end - self._released < self._STEP:
            return
        upto = (self._offset + end) // mmap.PAGESIZE * mmap.PAGESIZE
        self._mapped.madvise(mmap.MADV_DONTNEED, self._released, upto - self._released)
        self._released = upto


class Spool:
    """The sink of a received data set: memory up to ``spool_size`` bytes, a Part 10 file in ``folder`` above that.

    A file system that fails (full, gone) does not end the association: ``close`` returns the OSError.
    """

    def __init__(
        self,
        transfer_syntax: str,
        sop_class_uid: str,
        sop_instance_uid: str,
        ae_titles: tuple[str, str],
        limits: Limits,
        folder: Path | None,
    ) -> None:
        self._identity = (transfer_syntax, sop_class_uid, sop_instance_uid)
        self._ae_titles = ae_titles
        self._limits = limits
        self._folder = folder
        self._memory = bytearray()
        self._pieces: list[Buffer] = []
        self._descriptor = -1
        self._path = ""
        self._offset = 0
        self._size = 0
        self._error: OSError | None = None

    def write(self, piece: memoryview) -> None:
        if self._descriptor < 0 and self._error is None:
            if len(self._memory) + len(piece) <= self._limits.spool_size:
                self._memory += piece
                return
            self._begin_file()
        self._size += len(piece)
        self._pieces.append(piece)

    def _begin_file(self) -> None:
        header = part10_header(*self._identity, self._ae_titles)
        self._offset, self._size = len(header), len(self._memory)
        self._pieces = [header, self._memory]
        try:
            self._descriptor, self._path = _create(self._folder or _private_folder(), SPOOL_PREFIX)
        except OSError as error:
            self._error = error
        self.flush()
        self._memory = bytearray()

    def flush(self) -> None:
        if not self._pieces:
            return
        if self._error is None:
            try:
                write_all(self._descriptor, self._pieces)
            except OSError as error:
                self._error = error
        self._pieces = []

    def close(self) -> EncodedDataset | OSError:
        if self._error is not None:
            self.discard()
            return self._error
        if self._descriptor < 0:
            return EncodedDataset(self._memory, *self._identity, ae_titles=self._ae_titles, limits=self._limits)
        descriptor, self._descriptor = self._descriptor, -1
        try:
            os.close(descriptor)
        except OSError as error:  # where late write errors show, as on NFS
            _remove(self._path)
            return error
        dataset = EncodedDataset._in_file(self._path, self._offset, self._size, *self._identity)
        dataset._ae_titles = self._ae_titles
        dataset._limits = self._limits
        return dataset.own_temporary()

    def discard(self) -> None:
        self._pieces = []
        self._memory = bytearray()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            _remove(self._path)


# --- files ----------------------------------------------------------------------------------------------------------

_EXDEV: Final = 18  # errno.EXDEV on every platform that has it; Windows replaces across drives by an error of its own
SPOOL_PREFIX: Final = ".receiving-"  # in a spool folder: data sets under way; after a crash they may be deleted
_SAVE_PREFIX: Final = ".saving-"
_numbers = itertools.count()


@lru_cache(maxsize=1)
def _private_folder() -> str:
    """Where this process spools if nobody said where: readable by its own user alone, gone with the process."""
    folder = tempfile.mkdtemp(prefix="dicomnet-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _create(folder: Path, prefix: str) -> tuple[int, str]:
    """A new file of ours in ``folder``: its descriptor and its path."""
    path = os.path.join(folder, f"{prefix}{os.getpid()}-{next(_numbers)}-{secrets.token_hex(4)}")
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666), path


def _remove(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[int]:
    """A descriptor to write to; what was written becomes ``path`` if the block ends well, else it goes."""
    descriptor, temporary = _create(os.path.dirname(os.fspath(path)), _SAVE_PREFIX)
    try:
        try:
            yield descriptor
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
    except BaseException:
        _remove(temporary)
        raise


def write_all(descriptor: int, buffers: Sequence[Buffer]) -> None:
    """All of ``buffers`` to a file, in as few system calls as the platform allows."""
    if hasattr(os, "writev"):
        for start in range(0, len(buffers), 512):  # IOV_MAX is 1024 or more
            _writev(descriptor, buffers[start : start + 512])
        return
    for buffer in buffers:
        view = memoryview(buffer)
        while view:
            view = view[os.write(descriptor, view) :]


def _writev(descriptor: int, buffers: Sequence[Buffer]) -> None:
    written = os.writev(descriptor, buffers)
    if written == sum(map(len, buffers)):
        return
    rest = memoryview(b"".join(buffers))[written:]  # rare: a signal, or a file system about to be full
    while rest:
        rest = rest[os.write(descriptor, rest) :]


# --- Part 10 --------------------------------------------------------------------------------------------------------


def part10_header(
    transfer_syntax: str, sop_class_uid: str, sop_instance_uid: str, ae_titles: tuple[str, str] | None
) -> bytes:
    """Preamble, prefix and file meta information (PS3.10 7.1) with the AE titles of the sender and the receiver."""
    instance = _meta_element(0x0003, b"UI", sop_instance_uid)
    before, after = _meta_constants(transfer_syntax, sop_class_uid, ae_titles)
    length = len(before) + len(instance) + len(after)
    return b"".join((_PREAMBLE, struct.pack("<HH2sHI", 2, 0, b"UL", 4, length), before, instance, after))


_PREAMBLE: Final = bytes(128) + b"DICM"


@lru_cache(maxsize=256)
def _meta_constants(transfer_syntax: str, sop_class_uid: str, ae_titles: tuple[str, str] | None) -> tuple[bytes, bytes]:
    """What stands before and after the SOP instance UID: the same for most instances of an association."""
    before = struct.pack("<HH2sxxI", 2, 1, b"OB", 2) + b"\0\1" + _meta_element(0x0002, b"UI", sop_class_uid)
    after = [
        _meta_element(0x0010, b"UI", transfer_syntax),
        _meta_element(0x0012, b"UI", IMPLEMENTATION_CLASS_UID),
        _meta_element(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME),
    ]
    if ae_titles is not None:
        after += [_meta_element(0x0017, b"AE", ae_titles[0]), _meta_element(0x0018, b"AE", ae_titles[1])]
    return before, b"".join(after)


def _meta_element(element: int, vr: bytes, value: str) -> bytes:
    encoded = value.encode("latin-1", "replace")[:0xFFFE]
    if len(encoded) & 1:
        encoded += b"\0" if vr == b"UI" else b" "
    return struct.pack("<HH2sH", 2, element, vr, len(encoded)) + encoded


def load_file(path: Path) -> EncodedDataset:
    """As ``EncodedDataset.from_file``, but a file so small that one read takes it is kept in memory: to send now."""
    dataset, head, complete = _open_file(path)
    if complete:
        dataset._data = memoryview(head)[dataset._offset :]
    return dataset


def _open_file(path: Path) -> tuple[EncodedDataset, bytes, bool]:
    """The data set, the file's first bytes, and whether they are all of it."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        head = os.read(descriptor, _HEAD)
        total = os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)
    meta = _read_meta(head)
    if meta is None:
        return _open_unusual(path, total), head, False
    offset, sop_class_uid, sop_instance_uid, transfer_syntax = meta
    # The data set itself says best what it is; the file meta information only repeats it (PS3.10 7.1).
    uids = scan_uids(memoryview(head)[offset:], transfer_syntax) or (sop_class_uid, sop_instance_uid)
    dataset = EncodedDataset._in_file(path, offset, total - offset, transfer_syntax, *uids)
    return dataset, head, len(head) == total


_short_element = struct.Struct("<HH2sH").unpack_from
_u32 = struct.Struct("<I").unpack_from
_LONG_VRS: Final = frozenset(
    (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
)


def _read_meta(head: bytes) -> tuple[int, str, str, str] | None:
    """(offset of the data set, SOP class, SOP instance, transfer syntax) of a file as PS3.10 wants it, else None."""
    if head[128:132] != b"DICM":
        return None
    position, end = 132, len(head)
    found: dict[int, str] = {}
    while position + 12 <= end:
        group, element, vr, length = _short_element(head, position)
        if group != 2:
            break
        position += 8
        if vr in _LONG_VRS:
            length = _u32(head, position)[0]
            position += 4
        if position + length > end:
            return None
        if element in (0x0002, 0x0003, 0x0010):
            found[element] = head[position : position + length].rstrip(b"\0 ").decode("latin-1")
        position += length
    syntax = found.get(0x0010)
    if not syntax or not re.fullmatch(r"[0-9.]{1,64}", syntax):
        return None
    return position, found.get(0x0002, ""), found.get(0x0003, ""), syntax


def scan_uids(head: Buffer, transfer_syntax: str) -> tuple[str, str] | None:
    """SOP class and instance UID from the first bytes of a data set, or None if they are not found there."""
    if transfer_syntax in DEFLATED:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            head = inflater.decompress(head[:_HEAD], _HEAD)
        except zlib.error:
            return None
    big_endian = transfer_syntax == EXPLICIT_VR_BIG_ENDIAN
    explicit = transfer_syntax != IMPLICIT_VR_LITTLE_ENDIAN
    return _scan(bytes(head[:_HEAD]), explicit, ">" if big_endian else "<")


def _scan(head: bytes, explicit: bool, order: str) -> tuple[str, str] | None:
    short, long, u32 = _SCANNERS[order]
    position, end = 0, len(head)
    sop_class = ""
    while position + 12 <= end:
        group, element, length = long(head, position)
        position += 8
        if explicit:
            if head[position - 4 : position - 2] in _LONG_VRS:
                length = u32(head, position)[0]
                position += 4
            else:
                length = short(head, position - 2)[0]
        tag = group << 16 | element
        if tag > _SOP_INSTANCE or length > end - position:  # past them, or an undefined length, or cut off
            break
        if tag == _SOP_CLASS:
            sop_class = head[position : position + length].rstrip(b"\0 ").decode("latin-1")
        elif tag == _SOP_INSTANCE:
            return sop_class, head[position : position + length].rstrip(b"\0 ").decode("latin-1")
        position += length
    return None


_SCANNERS: Final = {  # by byte order: a 16-bit length, a header with a 32-bit length, a 32-bit length
    order: tuple(struct.Struct(order + fields).unpack_from for fields in ("H", "HHI", "I")) for order in "<>"
}


def _open_unusual(path: Path, total: int) -> EncodedDataset:
    """A file without preamble, prefix or usable file meta information: pydicom finds out what it can."""
    from pydicom import dcmread

    try:
        with open(path, "rb") as file:
            dataset = dcmread(
                file, force=True, specific_tags=["SOPClassUID", "SOPInstanceUID"], stop_before_pixels=True
            )
            offset = _offset_of_dataset(file)
    except OSError:
        raise
    except Exception as error:  # as in decode
        raise InvalidDataset(f"this is not a DICOM file: {error}") from error
    if "SOPClassUID" not in dataset and "SOPInstanceUID" not in dataset:
        raise InvalidDataset("this is not a DICOM file: it has no preamble and no SOP class or instance UID")
    syntax = _transfer_syntax_of(dataset)
    uids = str(dataset.get("SOPClassUID", "")), str(dataset.get("SOPInstanceUID", ""))
    return EncodedDataset._in_file(path, offset, total - offset, syntax, *uids)


def _offset_of_dataset(file: BinaryIO) -> int:
    """Where the data set begins: behind the preamble and the group 2 elements that may be there."""
    from pydicom.filereader import _read_file_meta_info as read_meta
    from pydicom.filereader import read_preamble

    file.seek(0)
    read_preamble(file, force=True)
    read_meta(file)
    return file.tell()


# --- pydicom --------------------------------------------------------------------------------------------------------


def _transfer_syntax_of(dataset: Dataset) -> str:
    meta = getattr(dataset, "file_meta", None)
    if meta is not None and "TransferSyntaxUID" in meta:
        return str(meta.TransferSyntaxUID)
    implicit, little = dataset.original_encoding
    if implicit is None and little is None:
        return EXPLICIT_VR_LITTLE_ENDIAN
    if implicit:
        return IMPLICIT_VR_LITTLE_ENDIAN
    return EXPLICIT_VR_LITTLE_ENDIAN if little else EXPLICIT_VR_BIG_ENDIAN


def _encode(dataset: Dataset, transfer_syntax: str) -> bytes:
    from pydicom.filebase import DicomBytesIO
    from pydicom.filewriter import write_dataset

    file = DicomBytesIO()
    file.is_implicit_VR = transfer_syntax == IMPLICIT_VR_LITTLE_ENDIAN
    file.is_little_endian = transfer_syntax != EXPLICIT_VR_BIG_ENDIAN
    try:
        write_dataset(file, _without_meta(dataset))
    except Exception as error:  # as in decode
        raise InvalidDataset(f"pydicom cannot encode this data set: {error}") from error
    encoded = file.getvalue()
    if transfer_syntax not in DEFLATED:
        return encoded
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    deflated = deflater.compress(encoded) + deflater.flush()
    return deflated + b"\0" * (len(deflated) & 1)  # PS3.5 A.5


def _without_meta(dataset: Dataset) -> Dataset:
    """Group 2 belongs to files, not to data sets; some programs put it there all the same."""
    return dataset[0x00030000:] if dataset.group_dataset(0x0002) else dataset


def inflate(chunks: Iterator[bytes], size: int, limits: Limits) -> Iterator[bytes]:
    """A deflated data set (PS3.5 A.5), inflated piece by piece. Raises InvalidDataset past the limits."""
    most = min(limits.inflated_size, max(size, 1024) * limits.inflation_ratio)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    total = 0
    try:
        for chunk in chunks:
            rest = chunk
            while rest and not inflater.eof:
                piece = inflater.decompress(rest, _CHUNK)
                rest = inflater.unconsumed_tail
                total += len(piece)
                if total > most:
                    raise InvalidDataset(f"{size} deflated bytes inflate to more than {most}")
                yield piece
    except zlib.error as error:
        raise InvalidDataset(f"this data set cannot be inflated: {error}") from error


def _check_nesting(dataset: Dataset, levels: int) -> None:
    """Raises InvalidDataset if sequences nest deeper than ``levels``."""
    if levels < 0:
        raise InvalidDataset("sequences nest too deep")
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                _check_nesting(item, levels - 1)


# --- what to send ---------------------------------------------------------------------------------------------------


def prepare(
    data: Path | Dataset | EncodedDataset, contexts: Iterable[AcceptedContext]
) -> tuple[AcceptedContext, EncodedDataset]:
    """The data set to send, and the accepted context that carries it.

    What is encoded goes out as it stands if its transfer syntax was accepted for its SOP class. Otherwise it is written
    anew if that loses nothing: from one uncompressed transfer syntax to another. Raises NoAcceptedContext,
    InvalidDataset and OSError.
    """
    if isinstance(data, EncodedDataset):
        encoded = data
    elif isinstance(data, str | os.PathLike):
        encoded = load_file(data)
    else:
        encoded = EncodedDataset.from_dataset(data)
    of_class = [context for context in contexts if context.abstract_syntax == encoded.sop_class_uid]
    for context in of_class:
        if context.transfer_syntax == encoded.transfer_syntax:
            return context, encoded
    if encoded.transfer_syntax in UNCOMPRESSED:
        for context in of_class:
            if context.transfer_syntax in UNCOMPRESSED:
                return context, encoded.transcoded(context.transfer_syntax)
    accepted = ", ".join(context.transfer_syntax for context in of_class) or "none"
    raise NoAcceptedContext(
        f"SOP class {encoded.sop_class_uid or '(none)'} in transfer syntax {encoded.transfer_syntax} was not accepted"
        f" by the peer, or not proposed; accepted transfer syntaxes for that class: {accepted}"
    )


def encode_for(data: Path | Dataset | EncodedDataset, context: AcceptedContext) -> EncodedDataset:
    """``data`` as bytes in the transfer syntax of ``context``: as they stand, or written anew if that loses nothing.

    For callers who have chosen the context themselves. Raises as ``prepare`` does.
    """
    if isinstance(data, EncodedDataset):
        encoded = data
    elif isinstance(data, str | os.PathLike):
        encoded = load_file(data)
    else:
        own = _transfer_syntax_of(data)
        syntax = context.transfer_syntax if own in UNCOMPRESSED and context.transfer_syntax in UNCOMPRESSED else own
        encoded = EncodedDataset.from_dataset(data, syntax)
    if encoded.transfer_syntax == context.transfer_syntax:
        return encoded
    if encoded.transfer_syntax in UNCOMPRESSED and context.transfer_syntax in UNCOMPRESSED:
        return encoded.transcoded(context.transfer_syntax)
    raise NoAcceptedContext(
        f"a data set in transfer syntax {encoded.transfer_syntax} does not fit presentation context {context.id},"
        f" whose transfer syntax is {context.transfer_syntax}"
    )
