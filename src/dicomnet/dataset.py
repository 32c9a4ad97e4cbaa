"""``EncodedDataset``: a data set as the bytes that crossed the network; the only door to pydicom.

One idea: the bytes are never touched. They lie in memory or in a file behind a header of known length, go out as views
of either, and are decoded only when somebody calls ``decode``. pydicom is imported when it is first needed.
"""

from __future__ import annotations

import array
import contextlib
import copy
import errno
import itertools
import mmap
import os
import weakref
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from io import BytesIO
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from dicomnet import flat, part10
from dicomnet.config import Limits
from dicomnet.dimse.messages import Request, Response
from dicomnet.errors import InvalidDataset, NoAcceptedContext
from dicomnet.part10 import DEFLATED, EXPLICIT_VR_BIG_ENDIAN
from dicomnet.spool import (
    SPOOL_PREFIX as SPOOL_PREFIX,
    Buffer,
    ByteSpool,
    Path as Path,
    SpooledFile,
    remove,
    replacing,
    settle,
    write_all,
    write_new,
    write_whole,
)
from dicomnet.ul.negotiation import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN, AcceptedContext
from dicomnet.views import Headed, MappedView, inflate

if TYPE_CHECKING:
    from pydicom import Dataset

    from dicomnet.dimse.stream import OpenSink
    from dicomnet.ul.association import Association

# Between these nothing but the encoding of the elements differs, so that one can be made from another without loss.
UNCOMPRESSED: Final = (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    part10.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
)

_DEFAULT_LIMITS: Final = Limits()
_CHUNK: Final = 1 << 20  # bytes, of chunks() and of copies
_LEVEL: Final = 16  # bytes that one level of nesting takes at least: the headers of a sequence and of its item
_SOP_CLASS_UID: Final = 0x00080016
_SOP_INSTANCE_UID: Final = 0x00080018
_PIXELS: Final = 0x7FE00000  # tag from which on a reading without pixel data may know nothing
_PIXEL_DATA: Final = 0x7FE00010


class EncodedDataset:
    """A data set as bytes with its transfer syntax, in memory or in a file.

    ``transfer_syntax``, ``sop_class_uid``, ``sop_instance_uid``: str, the last two empty for an identifier (a query).
    ``size``: length of the data set in bytes. An element is read by its keyword, as ``dataset.PatientID``. Made by the
    library when it receives one, by ``from_file`` and by ``from_dataset``, or from bytes that are already encoded.
    """

    __slots__ = (
        "__weakref__",
        "_ae_titles",
        "_attributes",
        "_beginning",
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
        self._beginning: Buffer = b""  # of what lies in a file, if it is known without reading that
        self._path: Path = ""
        self._offset = 0
        self._temporary: weakref.finalize[Any, Any] | None = None
        self._ae_titles = ae_titles  # of the sender and the receiver
        self._limits = limits
        self._decoded: Dataset | None = None
        self._attributes: Dataset | None = None  # the same without pixel data

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

        Raises InvalidDataset if pydicom cannot encode it so, or if its pixel data is compressed in another way.
        """
        syntax = transfer_syntax or _transfer_syntax_of(dataset)
        return cls(_encode(dataset, syntax), syntax, _uid(dataset, _SOP_CLASS_UID), _uid(dataset, _SOP_INSTANCE_UID))

    def __repr__(self) -> str:
        where = "in memory" if self._data is not None else "in a file"
        return f"<EncodedDataset {self.size} bytes {where}, transfer syntax {self.transfer_syntax}>"

    def __len__(self) -> int:
        return self.size

    @property
    def in_memory(self) -> int:
        """How many of its bytes are kept in memory; 0 for what lies in a file."""
        return 0 if self._data is None else self.size

    def __getattr__(self, name: str) -> Any:
        """The value of an element, by its keyword: as ``decode()`` has it, whose errors it raises.

        Of a data set in a file no pixel data is read for that. Raises AttributeError if there is no such element.
        """
        if not name[:1].isupper() or (tag := _tag_of(name)) is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        if self._data is None and self._decoded is None and tag < _PIXELS:
            if self._attributes is None:
                self._attributes = self._decode({"stop_before_pixels": True})
            return getattr(self._attributes, name)
        return getattr(self.decode(), name)

    def __bytes__(self) -> bytes:
        return b"".join(self.chunks())

    def chunks(self, size: int = _CHUNK) -> Iterator[bytes]:
        """The data set as pieces of at most ``size`` bytes. Raises OSError and InvalidDataset if its file is gone."""
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

    def head(self, size: int) -> bytes:
        """The first ``size`` bytes, or all if there are no more. Raises OSError if its file is gone."""
        data = self._beginning if self._data is None else self._data
        if len(data) >= min(size, self.size):
            return data if type(data) is bytes and len(data) <= size else bytes(data[:size])
        with self._open() as file:
            return file.read(min(size, self.size))

    def _open_whole(self) -> BinaryIO:
        """Raises OSError, and InvalidDataset if the file became shorter than it was."""
        file = self._open()
        if os.fstat(file.fileno()).st_size < self._offset + self.size:
            file.close()
            raise InvalidDataset("the file became shorter than it was")
        return file

    def _open(self) -> BinaryIO:
        file = open(self._path, "rb")  # noqa: SIM115  (handed to the caller's with)
        file.seek(self._offset)
        return file

    def view(self) -> contextlib.AbstractContextManager[MappedView]:
        """The bytes to send, without loading them: a view that is valid inside the ``with``.

        Entering it raises OSError and InvalidDataset if its file is gone or shorter.
        """
        if self._data is not None:
            return MappedView(memoryview(self._data))
        return self._mapped() if self.size else MappedView(memoryview(b""))  # nothing to map

    @contextlib.contextmanager
    def _mapped(self) -> Iterator[MappedView]:
        with self._open_whole() as file:
            mapped = mmap.mmap(file.fileno(), self._offset + self.size, access=mmap.ACCESS_READ)
        try:
            yield MappedView(memoryview(mapped)[self._offset :], mapped, self._offset)
        finally:
            with contextlib.suppress(BufferError):  # slices of it are still held somewhere: it goes with the last one
                mapped.close()

    def inner_uids(self) -> tuple[str, str] | None:
        """SOP class and instance UID as the data set itself says, or None if its first bytes do not tell both.

        Raises OSError if its file is gone.
        """
        head = self.head(part10.HEAD)
        expected = self.sop_class_uid, self.sop_instance_uid
        if part10.holds(head, self.transfer_syntax, *expected):
            return expected
        return part10.scan_uids(head, self.transfer_syntax)

    def decode(self, **pydicom_options: Any) -> Dataset:
        """The data set as a pydicom Dataset, with file meta information. Options are those of ``pydicom.dcmread``.

        Without options the result is kept and returned again. Raises InvalidDataset for bytes that pydicom cannot
        read, that nest too deep or that inflate beyond ``Limits.inflation_ratio`` or ``Limits.inflated_size``, and
        OSError if its file is gone.
        """
        if pydicom_options:
            return self._decode(pydicom_options)
        if self._decoded is None:
            self._decoded = self._decode({})
        return self._decoded

    def _decode(self, options: dict[str, Any]) -> Dataset:
        data = self._data
        if type(data) is bytes and not options and (plain := self._decode_plain(data)) is not None:
            return plain
        from pydicom import dcmread
        from pydicom.uid import UID

        # Inflated here, within limits, and then read as what it is underneath.
        deflated = self.transfer_syntax in DEFLATED
        syntax = EXPLICIT_VR_LITTLE_ENDIAN if deflated else self.transfer_syntax
        header = part10.header(syntax, self.sop_class_uid, self.sop_instance_uid, self._ae_titles)
        limits = self._limits or _DEFAULT_LIMITS
        with contextlib.ExitStack() as stack:
            file: Any
            if deflated:
                file = BytesIO(b"".join(itertools.chain((header,), inflate(self.chunks(), self.size, limits))))
            elif data is not None or "defer_size" in options:  # what is deferred is read from memory
                file = BytesIO(b"".join(itertools.chain((header,), self.chunks())))
            else:
                file = Headed(header, stack.enter_context(self._open_whole()), self._offset)
            try:
                dataset = dcmread(file, **options)
                _check_nesting(dataset, limits.sequence_nesting)
            except InvalidDataset:
                raise
            except Exception as error:  # pydicom documents no closed set of errors for bytes that are no data set
                raise InvalidDataset(f"pydicom cannot read this data set: {error}") from error
            if isinstance(file, Headed):
                dataset.buffer = None  # all that there is to read has been read
        if deflated:
            dataset.file_meta.TransferSyntaxUID = UID(self.transfer_syntax)
        return dataset

    def _decode_plain(self, data: bytes) -> Dataset | None:
        header = part10.header(self.transfer_syntax, self.sop_class_uid, self.sop_instance_uid, self._ae_titles)
        levels = (self._limits or _DEFAULT_LIMITS).sequence_nesting
        try:
            dataset = flat.decode(data, self.transfer_syntax, header)
            if dataset is not None and len(data) >= _LEVEL * levels:
                _check_nesting(dataset, levels)
        except InvalidDataset:
            raise
        except Exception as error:  # as in _decode
            raise InvalidDataset(f"pydicom cannot read this data set: {error}") from error
        return dataset

    def transcoded(self, transfer_syntax: str) -> EncodedDataset:
        """The same elements in another of the uncompressed transfer syntaxes. Raises InvalidDataset and OSError."""
        if transfer_syntax == self.transfer_syntax:
            return self
        if self.transfer_syntax not in UNCOMPRESSED or transfer_syntax not in UNCOMPRESSED:
            raise InvalidDataset(f"{self.transfer_syntax} cannot be written as {transfer_syntax}")
        encoded = _encode(self._decode({}), transfer_syntax)
        return EncodedDataset(encoded, transfer_syntax, self.sop_class_uid, self.sop_instance_uid)

    def save(self, path: Path, *, replace: bool = True, sync: bool = False) -> None:
        """Write a DICOM file (PS3.10): preamble, file meta information, then the data set byte for byte.

        The file appears whole or not at all; one that is there is replaced, or if ``replace`` is False it stays and
        FileExistsError is raised. ``sync``: on return it is on the disk (fsync), and an old one goes only then. A
        received data set that waits in a temporary file is renamed if it lies in the same file system. Raises OSError,
        and InvalidDataset if the file that it lies in became shorter.
        """
        if self._temporary is not None and self._rename_temporary(path, replace, sync):
            return
        header = part10.header(self.transfer_syntax, self.sop_class_uid, self.sop_instance_uid, self._ae_titles)
        if self._data is not None and not sync:
            (write_whole if replace else write_new)(os.fspath(path), (header, self._data))
            return
        with replacing(path, replace=replace, sync=sync) as descriptor:
            write_all(descriptor, [header])
            for piece in self.chunks():
                write_all(descriptor, [piece])

    def _rename_temporary(self, path: Path, replace: bool, sync: bool) -> bool:
        """Move the spool file, which has its header already, to ``path``. False if it lies in another file system."""
        assert self._temporary is not None
        try:
            settle(self._path, path, replace=replace, sync=sync)
        except OSError as error:
            if error.errno == errno.EXDEV:
                return False
            raise
        self._temporary.detach()
        self._temporary = None
        self._path = path if os.path.isabs(path) else os.path.abspath(path)
        return True

    def close(self) -> None:
        """Remove the temporary file now, if there is one. The object is of no use afterwards."""
        if self._temporary is not None:
            self._temporary()
            self._temporary = None


class Spool(ByteSpool):
    """The sink of a received data set: memory up to ``spool_size`` bytes, a Part 10 file in ``folder`` above that.

    ``held()``: bytes of others in memory, with which it has to share. A file system that fails (full, gone) does not
    end the association: ``close`` returns the OSError.
    """

    def __init__(
        self,
        transfer_syntax: str,
        sop_class_uid: str,
        sop_instance_uid: str,
        ae_titles: tuple[str, str] | None,
        limits: Limits,
        folder: Path | None,
        held: Callable[[], int] | None = None,
    ) -> None:
        super().__init__(limits.spool_size, folder, held)
        self._identity = (transfer_syntax, sop_class_uid, sop_instance_uid)
        self._ae_titles = ae_titles
        self._limits = limits

    def header(self) -> bytes:
        return part10.header(*self._identity, self._ae_titles)

    def close(self) -> EncodedDataset | OSError:
        """The data set is complete: here it is, or the error that kept it from being stored."""
        stored = self.finish()
        if isinstance(stored, bytes):
            dataset = EncodedDataset(stored, *self._identity)
        elif isinstance(stored, SpooledFile):
            dataset = EncodedDataset._in_file(*stored, *self._identity)
            dataset._beginning = self.beginning
            dataset._temporary = weakref.finalize(dataset, remove, stored.path)  # it goes when the object goes
        else:
            return stored
        dataset._ae_titles, dataset._limits = self._ae_titles, self._limits
        return dataset


def spools(
    association: Association, limits: Limits, folder: Path | None, held: Callable[[], int] | None = None
) -> OpenSink:
    """What opens a ``Spool`` for each data set that an association receives.

    ``held()``: bytes in memory of the data sets that this association has received and not yet done with: all of them
    together take no more than ``limits.spool_size``.
    """
    ae_titles: tuple[str, str] | None = None

    def open_spool(command: object, context: AcceptedContext) -> Spool:
        nonlocal ae_titles
        if ae_titles is None:
            request = association.request
            assert request is not None  # there is a context, so it was negotiated
            titles = (request.calling_ae, request.called_ae)
            ae_titles = titles[::-1] if association.requestor else titles  # the sender first
        uids = ("", "")
        if isinstance(command, Request | Response):
            uids = (command.sop_class_uid, command.sop_instance_uid)
        return Spool(context.transfer_syntax, *uids, ae_titles, limits, folder, held)

    return open_spool


# --- files ----------------------------------------------------------------------------------------------------------


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
        head = os.read(descriptor, part10.HEAD)
        total = os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)
    meta = part10.read_meta(head)
    if meta is None:
        return _open_unusual(path, total), head, len(head) == total
    # The data set itself says best what it is; the file meta information only repeats it (PS3.10 7.1).
    uids = meta.sop_class_uid, meta.sop_instance_uid
    if not part10.holds(head, meta.transfer_syntax, *uids, meta.offset):
        uids = part10.scan_uids(memoryview(head)[meta.offset :], meta.transfer_syntax) or uids
    dataset = EncodedDataset._in_file(path, meta.offset, total - meta.offset, meta.transfer_syntax, *uids)
    return dataset, head, len(head) == total


def _open_unusual(path: Path, total: int) -> EncodedDataset:
    """A file without preamble, prefix or usable file meta information: pydicom finds out what it can."""
    from pydicom import dcmread

    try:
        with open(path, "rb") as file:
            dataset = dcmread(
                file, force=True, specific_tags=["SOPClassUID", "SOPInstanceUID"], stop_before_pixels=True
            )
            offset = _offset_of_dataset(file)
            uids = _uid(dataset, _SOP_CLASS_UID), _uid(dataset, _SOP_INSTANCE_UID)
            syntax = _transfer_syntax_of(dataset)
    except OSError:
        raise
    except Exception as error:  # as in decode
        raise InvalidDataset(f"this is not a DICOM file: {error}") from error
    if not any(uids) and not dataset.file_meta:
        raise InvalidDataset(
            "this is not a DICOM file: it has no file meta information and no SOP class or instance UID"
        )
    return EncodedDataset._in_file(path, offset, total - offset, syntax, *uids)


def _offset_of_dataset(file: BinaryIO) -> int:
    """Where the data set begins: behind the preamble and the elements of groups 2 and 0 that may be there."""
    from pydicom import filereader

    file.seek(0)
    filereader.read_preamble(file, force=True)
    filereader._read_file_meta_info(file)
    filereader._read_command_set_elements(file)
    return file.tell()


# --- pydicom --------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _keywords() -> Callable[[str], int | None]:
    from pydicom.datadict import tag_for_keyword

    return tag_for_keyword


def _tag_of(keyword: str) -> int | None:
    return _keywords()(keyword)


def _transfer_syntax_of(dataset: Dataset) -> str:
    meta = vars(dataset).get("file_meta")  # where an attribute that is not there would cost an exception
    if meta is not None and "TransferSyntaxUID" in meta:
        return str(meta.TransferSyntaxUID)
    implicit, little = dataset.original_encoding
    if implicit is None and little is None:
        return EXPLICIT_VR_LITTLE_ENDIAN
    if implicit:
        return IMPLICIT_VR_LITTLE_ENDIAN
    return EXPLICIT_VR_LITTLE_ENDIAN if little else EXPLICIT_VR_BIG_ENDIAN


def _uid(dataset: Dataset, tag: int) -> str:
    return str(dataset[tag].value or "") if tag in dataset else ""


def _encode(dataset: Dataset, transfer_syntax: str) -> bytes:
    if (plain := flat.encode(dataset, transfer_syntax)) is not None:
        return plain
    from pydicom.filebase import DicomBytesIO
    from pydicom.filewriter import write_dataset

    file = DicomBytesIO()
    file.is_implicit_VR = transfer_syntax == IMPLICIT_VR_LITTLE_ENDIAN
    file.is_little_endian = transfer_syntax != EXPLICIT_VR_BIG_ENDIAN
    try:
        write_dataset(file, _as_to_write(dataset, transfer_syntax))
    except InvalidDataset:
        raise
    except Exception as error:  # as in decode
        raise InvalidDataset(f"pydicom cannot encode this data set: {error}") from error
    encoded = file.getvalue()
    if transfer_syntax not in DEFLATED:
        return encoded
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    deflated = deflater.compress(encoded) + deflater.flush()
    return deflated + b"\0" * (len(deflated) & 1)  # PS3.5 A.5


def _as_to_write(dataset: Dataset, transfer_syntax: str) -> Dataset:
    """What pydicom is to write; the user's own data set is not changed."""
    own = _transfer_syntax_of(dataset)
    if dataset.group_dataset(0x0002):  # belongs to files, not to data sets; some programs put it there all the same
        dataset = dataset[0x00030000:]
    if "PixelData" in dataset:
        native = transfer_syntax in UNCOMPRESSED
        if own != transfer_syntax and own not in UNCOMPRESSED:
            raise InvalidDataset(f"pixel data in {own} cannot be written as {transfer_syntax}")
        pixel_data = dataset[_PIXEL_DATA]
        if pixel_data.is_undefined_length is native:  # PS3.5 A.4: encapsulated if and only if compressed
            dataset = dataset[:]
            dataset[_PIXEL_DATA] = copy.copy(pixel_data)
            dataset[_PIXEL_DATA].is_undefined_length = not native
    if (own == EXPLICIT_VR_BIG_ENDIAN) is not (transfer_syntax == EXPLICIT_VR_BIG_ENDIAN):
        dataset = copy.deepcopy(dataset)
        _swap_words(dataset)
    return dataset


_WORDS: Final = {"OW": "H", "OF": "I", "OL": "I", "OD": "Q", "OV": "Q"}  # VR → array type of its words


def _swap_words(dataset: Dataset) -> None:
    """Swap the bytes of each word in the values that pydicom keeps as bytes and writes as they are."""
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                _swap_words(item)
        elif element.VR in _WORDS and element.value:
            words = array.array(_WORDS[element.VR], element.value)
            words.byteswap()
            element.value = words.tobytes()


def _check_nesting(dataset: Dataset, levels: int) -> None:
    """Raises InvalidDataset if sequences nest deeper than ``levels``. Reads no more than must be for that."""
    if levels < 0:
        raise InvalidDataset("sequences nest too deep")
    for tag in dataset.keys():  # noqa: SIM118  (iterating over a Dataset converts every element)
        element = dataset.get_item(tag)
        if element.is_raw and (element.VR not in (None, "SQ", "UN") or len(element.value or b"") < _LEVEL * levels):
            continue  # no sequence, or one so short that it cannot nest that deep
        element = dataset[tag]
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
    if isinstance(data, str | os.PathLike):
        data = load_file(data)
    if isinstance(data, EncodedDataset):
        sop_class_uid, own = data.sop_class_uid, data.transfer_syntax
    else:
        sop_class_uid, own = _uid(data, _SOP_CLASS_UID), _transfer_syntax_of(data)
    of_class = [context for context in contexts if context.abstract_syntax == sop_class_uid]
    for context in of_class:
        if context.transfer_syntax == own:
            return context, encode_for(data, context)
    for context in of_class:
        if own in UNCOMPRESSED and context.transfer_syntax in UNCOMPRESSED:
            return context, encode_for(data, context)
    accepted = ", ".join(context.transfer_syntax for context in of_class) or "none"
    raise NoAcceptedContext(
        f"SOP class {sop_class_uid or '(none)'} in transfer syntax {own} was not accepted"
        f" by the peer, or not proposed; accepted transfer syntaxes for that class: {accepted}"
    )


def encode_for(data: Path | Dataset | EncodedDataset, context: AcceptedContext) -> EncodedDataset:
    """``data`` as bytes in the transfer syntax of ``context``: as they stand, or written anew if that loses nothing.

    For callers who have chosen the context themselves. Raises as ``prepare`` does.
    """
    wanted = context.transfer_syntax
    if isinstance(data, str | os.PathLike):
        data = load_file(data)
    own = data.transfer_syntax if isinstance(data, EncodedDataset) else _transfer_syntax_of(data)
    if own != wanted and not (own in UNCOMPRESSED and wanted in UNCOMPRESSED):
        raise NoAcceptedContext(
            f"a data set in transfer syntax {own} does not fit presentation context {context.id},"
            f" whose transfer syntax is {wanted}"
        )
    if isinstance(data, EncodedDataset):
        return data.transcoded(wanted)
    return EncodedDataset.from_dataset(data, wanted)
