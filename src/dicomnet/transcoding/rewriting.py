"""A data set written anew around other pixel data; everything else is copied (PS3.5 A.2, A.4).

One idea: it is put together from ranges of the old bytes and from a few new elements, piece by piece, in memory or in
a temporary file; so memory holds a frame and not a data set.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from dicomnet.config import Limits
from dicomnet.dataset import EncodedDataset, Spool
from dicomnet.errors import InvalidDataset
from dicomnet.spool import ByteSpool, SpooledFile, remove
from dicomnet.transcoding import lossy as loss
from dicomnet.transcoding.layout import PIXEL_DATA, UNDEFINED, Element, Layout, has_compressed_item, read_layout
from dicomnet.transcoding.pixels import FrameEncoder, Image, decoded_frames, image_of, native_frames
from dicomnet.ul.negotiation import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN

if TYPE_CHECKING:
    pass

_PIECE: Final = 1 << 20  # bytes copied at once
_BEGINNING: Final = 1 << 16  # bytes of a code stream in which its parameters stand
_MOST_OFFSET: Final = 0xFFFFFFFF  # of the Basic Offset Table's numbers
_MOST_NATIVE: Final = 0xFFFFFFFE  # bytes of a value with a length (PS3.5 7.1.1)
_CHARACTER_SET: Final = 0x00080005
# The Extended Offset Table, its lengths, and the total length: of encapsulated pixel data alone (PS3.3 C.7.6.3.1.8).
_OFFSETS: Final = (0x7FE00001, 0x7FE00002, 0x7FE00003)


class Rewriter:
    """``source``: in one of the little endian transfer syntaxes, not deflated; ``data``: its bytes.

    ``passed(end)`` is called when bytes before ``end`` are needed no more.
    """

    def __init__(self, source: EncodedDataset, data: memoryview, passed: Callable[[int], None], limits: Limits) -> None:
        self._source = source
        self._data = data
        self._passed = passed
        self._limits = limits
        self._syntax = source.transfer_syntax
        # Some write implicit VR whatever the transfer syntax says.
        self._explicit = self._syntax != IMPLICIT_VR_LITTLE_ENDIAN and bytes(data[4:6]).isalpha()
        self._layout = read_layout(data, explicit=self._explicit, nesting=limits.sequence_nesting)

    @property
    def has_pixels(self) -> bool:
        return self._layout.pixels is not None

    @property
    def is_encapsulated(self) -> bool:
        pixels = self._layout.pixels
        return pixels is not None and pixels.undefined

    # --- to native pixel data ---------------------------------------------------------------------------------------

    def native(self, transfer_syntax: str) -> EncodedDataset:
        """With the pixel data decompressed, if it is compressed, in Explicit or Implicit VR Little Endian."""
        pixels = self._layout.pixels
        if pixels is None or not pixels.undefined:
            return self._copied(transfer_syntax, pixels)
        head = self._head(pixels)
        image = image_of(head.dataset)
        frames = self._decoded(pixels, image)
        first = next(frames, None)
        if first is None:
            raise InvalidDataset("it has no frames")
        decoded = image.decoded()
        self._note_earlier_loss(head, decoded.size, pixels)
        head.describe(first[1], image)
        explicit = transfer_syntax != IMPLICIT_VR_LITTLE_ENDIAN
        output = _Output(self._source, transfer_syntax, self._source.sop_instance_uid, self._limits)
        with output:
            output.write(head.written(transfer_syntax))
            output.write(_native_header(b"OB" if image.allocated <= 8 else b"OW", decoded.size, explicit))
            output.write(first[0].tobytes())
            for array, colours in frames:
                if colours != first[1]:
                    raise InvalidDataset(f"its frames have different colours, {first[1]} and {colours}")
                output.write(array.tobytes())
            output.write(b"\0" * (decoded.size & 1))
            output.write(self._tail(transfer_syntax))
        return output.done()

    def _copied(self, transfer_syntax: str, pixels: Element | None) -> EncodedDataset:
        """The pixel data as it is, if there is any; what stands around it in another encoding."""
        layout, explicit = self._layout, transfer_syntax != IMPLICIT_VR_LITTLE_ENDIAN
        end = pixels.start if pixels is not None else layout.tail
        if any(has_compressed_item(self._data, element) for element in layout.head):
            raise InvalidDataset("it has compressed pixel data in a sequence")
        output = _Output(self._source, transfer_syntax, self._source.sop_instance_uid, self._limits)
        with output:
            output.write(self._in(transfer_syntax, 0, end))
            if pixels is not None:
                size = pixels.end - pixels.value
                output.write(_native_header(_native_vr(pixels), size, explicit, pixels.tag))
                for start in range(pixels.value, pixels.end, _PIECE):
                    output.write(self._data[start : min(start + _PIECE, pixels.end)])
                    self._passed(start)
            output.write(self._tail(transfer_syntax))
        return output.done()

    # --- to compressed pixel data -----------------------------------------------------------------------------------

    def compressed(self, transfer_syntax: str, *, lossy: bool, new_uid: Callable[[], str]) -> EncodedDataset:
        """With the pixel data compressed, frame by frame. ``new_uid``: for another instance, if it is lossy."""
        pixels = self._layout.pixels
        if pixels is None or pixels.tag != PIXEL_DATA:
            what = "no pixel data" if pixels is None else "pixel data in floating point numbers"
            raise InvalidDataset(f"it has {what}, and cannot be compressed")
        head = self._head(pixels)
        image = image_of(head.dataset)
        frames = self._decoded(pixels, image)
        spool = ByteSpool(self._limits.spool_size, None)
        try:
            offsets, colours = _encode_all(frames, FrameEncoder(transfer_syntax, image, lossy=lossy), spool)
        except BaseException:
            spool.discard()
            raise
        stored = spool.finish()
        if isinstance(stored, OSError):
            raise stored
        try:
            self._note_earlier_loss(head, image.decoded().size, pixels)
            head.describe(colours, image)
            uid = self._source.sop_instance_uid
            if lossy:
                size = stored.size if isinstance(stored, SpooledFile) else len(stored)
                uid = head.derive(
                    transfer_syntax, image.decoded().size / size, new_uid(), self._syntax, pixels.undefined
                )
            return self._encapsulated(transfer_syntax, uid, head, offsets, stored)
        finally:
            if isinstance(stored, SpooledFile):
                remove(stored.path)

    def _head(self, pixels: Element) -> Head:
        """What stands before the pixel data."""
        if self._explicit:
            return Head(self._data[: pixels.start], self._layout, self._limits)
        return Head(memoryview(self._in(EXPLICIT_VR_LITTLE_ENDIAN, 0, pixels.start)), None, self._limits)

    def _in(self, transfer_syntax: str, start: int, end: int | None) -> bytes:
        """Some of the elements in another encoding."""
        own = EXPLICIT_VR_LITTLE_ENDIAN if self._explicit else IMPLICIT_VR_LITTLE_ENDIAN
        return _encoded(self._data[start:end], own, transfer_syntax, self._limits)

    def _encapsulated(
        self, transfer_syntax: str, uid: str, head: Head, offsets: list[int], frames: bytes | SpooledFile
    ) -> EncodedDataset:
        output = _Output(self._source, transfer_syntax, uid, self._limits)
        with output:
            output.write(head.written(transfer_syntax))
            output.write(struct.pack("<HH2sxxI", 0x7FE0, 0x0010, b"OB", UNDEFINED))
            table = struct.pack(f"<{len(offsets)}I", *offsets) if offsets[-1] <= _MOST_OFFSET else b""
            output.write(_item(len(table)) + table)
            for piece in _pieces(frames):
                output.write(piece)
            output.write(struct.pack("<HHI", 0xFFFE, 0xE0DD, 0))
            output.write(self._tail(transfer_syntax))
        return output.done()

    # --- both -------------------------------------------------------------------------------------------------------

    def _decoded(self, pixels: Element, image: Image) -> Iterator[tuple[Any, str]]:
        """The frames, one by one."""
        data = self._data[pixels.value : pixels.end]

        def passed(end: int) -> None:
            self._passed(pixels.value + end)

        if pixels.undefined:
            return decoded_frames(data, self._syntax, image, passed)
        return native_frames(data, image, passed)

    def _note_earlier_loss(self, head: Head, native_size: int, pixels: Element) -> None:
        """What only the code stream told, the elements tell now: that it was compressed with loss."""
        if not pixels.undefined or str(head.dataset.get("LossyImageCompression") or "") == "01":
            return
        beginning = bytes(self._data[pixels.value : min(pixels.value + _BEGINNING, pixels.end)])
        if loss.is_lossy(self._syntax, loss.first_codestream(beginning)):
            ratio = native_size / max(1, pixels.end - pixels.value)
            loss.note(head.dataset, head.changes, loss.METHODS[self._syntax], ratio)

    def _tail(self, transfer_syntax: str) -> bytes:
        """What follows the pixel data: a signature, padding."""
        return self._in(transfer_syntax, self._layout.tail, None)


class Head:
    """What stands before the pixel data, and what of it changes. In Explicit VR Little Endian."""

    def __init__(self, data: memoryview, layout: Layout | None, limits: Limits) -> None:
        from pydicom import Dataset

        self._data = data
        self._limits = limits
        if layout is None:
            layout = read_layout(data, explicit=True, nesting=limits.sequence_nesting)
        self._elements = layout.head
        if any(has_compressed_item(data, element) for element in layout.head):
            raise InvalidDataset("it has compressed pixel data in a sequence, such as an icon")
        self.dataset = EncodedDataset(bytes(data), EXPLICIT_VR_LITTLE_ENDIAN, limits=limits).decode()
        self.changes = Dataset()

    def describe(self, colours: str, image: Image) -> None:
        """Its frames are by pixel now (PS3.3 C.7.6.3.1.3), and have these colours."""
        if colours != image.colours:
            self.changes.PhotometricInterpretation = colours
        if image.samples > 1 and image.planar != 0:
            self.changes.PlanarConfiguration = 0

    def derive(self, transfer_syntax: str, ratio: float, uid: str, before: str, was_compressed: bool) -> str:
        """It is another instance now; returns ``uid``."""
        known = self.changes if "LossyImageCompression" in self.changes else self.dataset
        was_lossless = str(known.get("LossyImageCompression") or "") != "01"
        method = loss.METHODS[transfer_syntax]
        loss.note(known, self.changes, method, ratio)
        loss.derive(self.dataset, self.changes, f"compressed {ratio:.1f}:1 by {method}", uid, was_lossless=was_lossless)
        return uid

    def written(self, transfer_syntax: str) -> bytes:
        """In ``transfer_syntax``: with what has changed, without what is not true any more."""
        if "SpecificCharacterSet" in self.dataset:
            self.changes.SpecificCharacterSet = self.dataset.SpecificCharacterSet
        encoded = memoryview(bytes(EncodedDataset.from_dataset(self.changes, EXPLICIT_VR_LITTLE_ENDIAN)))
        changed = read_layout(encoded, explicit=True, nesting=self._limits.sequence_nesting).head
        new = {element.tag: encoded[element.start : element.end] for element in changed}
        new.pop(_CHARACTER_SET, None)
        dropped = {*_OFFSETS, 0x7FE00000, *(tag & 0xFFFF0000 for tag in new)}  # group lengths are wrong now
        kept = {
            element.tag: self._data[element.start : element.end]
            for element in self._elements
            if element.tag not in dropped
        }
        whole = b"".join(piece for _, piece in sorted({**kept, **new}.items()))
        return _encoded(memoryview(whole), EXPLICIT_VR_LITTLE_ENDIAN, transfer_syntax, self._limits)


class _Output:
    """Where the new data set goes; in a ``with`` that discards it if it fails."""

    def __init__(self, source: EncodedDataset, transfer_syntax: str, uid: str, limits: Limits) -> None:
        self._spool = Spool(transfer_syntax, source.sop_class_uid, uid, source._ae_titles, limits, None)

    def __enter__(self) -> _Output:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._spool.discard()

    def write(self, piece: bytes | memoryview) -> None:
        if piece:
            self._spool.write(memoryview(piece))
            self._spool.flush()

    def done(self) -> EncodedDataset:
        """Raises OSError."""
        dataset = self._spool.close()
        if isinstance(dataset, OSError):
            raise dataset
        return dataset


def _encoded(elements: memoryview, own: str, wanted: str, limits: Limits) -> bytes:
    """Elements without compressed pixel data among them, in another encoding."""
    implicit = IMPLICIT_VR_LITTLE_ENDIAN
    if not elements or (own == implicit) is (wanted == implicit):
        return bytes(elements)
    plain = EXPLICIT_VR_LITTLE_ENDIAN if wanted != implicit else implicit
    return bytes(EncodedDataset(bytes(elements), own, limits=limits).transcoded(plain))


def _native_vr(pixels: Element) -> bytes:
    """PS3.5 A.1: what has no VR is OW, or of floating point numbers."""
    return pixels.vr or {0x7FE00008: b"OF", 0x7FE00009: b"OD"}.get(pixels.tag, b"OW")


def _native_header(vr: bytes, size: int, explicit: bool, tag: int = PIXEL_DATA) -> bytes:
    size += size & 1
    if size > _MOST_NATIVE:
        raise InvalidDataset(f"decompressed, its pixel data would have {size} bytes, which no element can have")
    if explicit:
        return struct.pack("<HH2sxxI", tag >> 16, tag & 0xFFFF, vr, size)
    return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, size)


def _item(size: int) -> bytes:
    return struct.pack("<HHI", 0xFFFE, 0xE000, size)


def _encode_all(frames: Iterator[tuple[Any, str]], encoder: FrameEncoder, spool: ByteSpool) -> tuple[list[int], str]:
    """Frames as items, one fragment each (PS3.5 A.4): their offsets, and their colours."""
    offsets: list[int] = []
    at, first = 0, ""
    for array, colours in frames:
        first = first or colours
        if colours != first:
            raise InvalidDataset(f"its frames have different colours, {first} and {colours}")
        codestream = encoder.encode(array, colours)
        offsets.append(at)
        spool.write(memoryview(_item(len(codestream)) + codestream))
        spool.flush()
        at += 8 + len(codestream)
    if not offsets:
        raise InvalidDataset("it has no frames")
    return offsets, first


def _pieces(stored: bytes | SpooledFile) -> Iterator[bytes]:
    if isinstance(stored, bytes):
        yield stored
        return
    with open(stored.path, "rb") as file:
        file.seek(stored.offset)
        while piece := file.read(_PIECE):
            yield piece
