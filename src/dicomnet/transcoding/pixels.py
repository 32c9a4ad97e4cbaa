"""Frames of pixel data decoded and encoded by pydicom's plugins (PS3.5 8, A.4), one at a time.

One idea: what is made is not believed. A frame that was encoded without loss is decoded again and compared, and a
decoder's frame must have the shape and the range that the data set announces: else the pixel data stays as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from dicomnet.errors import InvalidDataset

if TYPE_CHECKING:
    from pydicom import Dataset

RLE: Final = "1.2.840.10008.1.2.5"
JPEG_LS: Final = "1.2.840.10008.1.2.4.80"
JPEG_LS_NEAR_LOSSLESS: Final = "1.2.840.10008.1.2.4.81"
JPEG_2000_LOSSLESS: Final = "1.2.840.10008.1.2.4.90"
JPEG_2000: Final = "1.2.840.10008.1.2.4.91"

# Lossy compression is a last resort here, so it takes little: no sample is off by more than 2 of its steps.
_NEAR: Final = 2
# 5:1 is what national guidelines allow for CT and MR, the most sensitive; others may have more.
_RATIO: Final = 5.0
WHAT_IS_LOST: Final = f"near {_NEAR} ratio {_RATIO}"  # who changes these makes other instances

# GDCM ends the whole process on some input, so it comes last; the others are tried where they are.
_PREFERRED: Final = ("pylibjpeg", "pyjpegls", "pydicom")

# What frames are in once they are decoded (PS3.3 C.7.6.3.1.2): subsampled chroma is repeated, J2K's transforms undone.
_DECODED_COLOURS: Final = {
    "YBR_FULL_422": "YBR_FULL",
    "YBR_PARTIAL_422": "YBR_FULL",
    "YBR_PARTIAL_420": "YBR_FULL",
    "YBR_ICT": "RGB",
    "YBR_RCT": "RGB",
}


class Window:
    """Bytes as a file for pydicom to read, without a copy of them all.

    ``passed(end)`` is called when those before ``end`` have been read, so that a mapped file need not stay in memory.
    """

    def __init__(self, data: memoryview, passed: Callable[[int], None]) -> None:
        self._data = data
        self._passed = passed
        self._position = 0

    def read(self, size: int = -1) -> bytes:
        end = len(self._data) if size < 0 else self._position + size
        piece = bytes(self._data[self._position : end])
        self._position += len(piece)
        self._passed(self._position)
        return piece

    def seek(self, offset: int, whence: int = 0) -> int:
        base = (0, self._position, len(self._data))[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        return self._position


@dataclass(frozen=True, slots=True)
class Image:
    """The attributes of the Image Pixel Module that say what a frame is (PS3.3 C.7.6.3)."""

    rows: int
    columns: int
    samples: int
    allocated: int  # bits
    stored: int
    signed: int
    frames: int
    colours: str  # Photometric Interpretation
    planar: int
    offsets: Any = None  # the Extended Offset Table

    @property
    def frame_bits(self) -> int:
        """Of a native frame; several are not padded (PS3.5 8.1.1)."""
        bits = self.rows * self.columns * self.samples * self.allocated
        return bits // 3 * 2 if self.colours == "YBR_FULL_422" else bits

    @property
    def size(self) -> int:
        """Of all native frames, in bytes."""
        return math.ceil(self.frame_bits * self.frames / 8)

    def decoded(self) -> Image:
        """The same when it has been decoded."""
        return replace(self, colours=_DECODED_COLOURS.get(self.colours, self.colours), planar=0, offsets=None)

    def options(self) -> dict[str, Any]:
        """For pydicom."""
        options: dict[str, Any] = {
            "rows": self.rows,
            "columns": self.columns,
            "samples_per_pixel": self.samples,
            "bits_allocated": self.allocated,
            "bits_stored": self.stored,
            "pixel_representation": self.signed,
            "number_of_frames": self.frames,
            "photometric_interpretation": self.colours,
        }
        if self.samples > 1:
            options["planar_configuration"] = self.planar
        if self.offsets is not None:
            options["extended_offsets"] = self.offsets
        return options


def image_of(dataset: Dataset) -> Image:
    """What the elements before the pixel data say. Raises InvalidDataset."""
    from pydicom.pixels import as_pixel_options

    try:
        options = as_pixel_options(dataset)
        image = Image(
            int(options["rows"]),
            int(options["columns"]),
            int(options["samples_per_pixel"]),
            int(options["bits_allocated"]),
            int(options["bits_stored"]),
            int(options["pixel_representation"]),
            int(options["number_of_frames"]),
            str(options["photometric_interpretation"]),
            int(options.get("planar_configuration") or 0),
            options.get("extended_offsets"),
        )
    except Exception as error:  # values of any kind may be there
        raise InvalidDataset(f"its elements do not say what its pixel data is: {error!r}") from error
    if min(image.rows, image.columns, image.samples, image.allocated, image.frames) < 1 or image.stored < 1:
        raise InvalidDataset("its elements do not say what its pixel data is: a number is 0 or negative")
    return image


# --- decoding -------------------------------------------------------------------------------------------------------


def decoded_frames(
    data: memoryview, transfer_syntax: str, image: Image, passed: Callable[[int], None]
) -> Iterator[tuple[Any, str]]:
    """Each frame as an array (rows, columns[, samples]) of the values that it has, and its colours.

    Colours stay as they are: nothing is converted from YBR to RGB that the code stream's own format does not convert.
    Unused bits are kept. Raises InvalidDataset and ImportError.
    """
    decoder = _coder("decode", transfer_syntax)
    count = 0
    try:
        for array, found in decoder.iter_array(
            Window(data, passed), decoding_plugin=_plugin(decoder), **_AS_IT_IS, **image.options()
        ):
            colours = str(found["photometric_interpretation"])
            yield _fitted(array, image), _DECODED_COLOURS.get(colours, colours)
            count += 1
    except (InvalidDataset, ImportError, GeneratorExit):
        raise
    except Exception as error:  # plugins raise what they like
        raise InvalidDataset(f"its pixel data cannot be decoded: {error}") from error
    if count != image.frames:
        raise InvalidDataset(f"it has {count} frames, and Number of Frames is {image.frames}")


def _fitted(array: Any, image: Image) -> Any:
    """In words of the size that Bits Allocated says; some decoders choose it by the code stream's precision."""
    shape = (image.rows, image.columns, image.samples)[: 3 if image.samples > 1 else 2]
    if array.shape != shape:
        raise InvalidDataset(f"a frame has the shape {array.shape}, and not {shape}")
    wanted = array.astype(f"<{'ui'[image.signed]}{image.allocated // 8}", copy=False)
    if wanted.dtype.itemsize < array.dtype.itemsize and not (wanted == array).all():
        raise InvalidDataset(f"a frame has values of more than {image.allocated} bits")
    return wanted


def native_frames(data: memoryview, image: Image, passed: Callable[[int], None]) -> Iterator[tuple[Any, str]]:
    """As ``decoded_frames``, of pixel data in Explicit VR Little Endian."""
    if image.allocated % 8:
        raise InvalidDataset(f"pixel data of {image.allocated} bits each is not compressed here")
    if len(data) < image.size:
        raise InvalidDataset(f"its pixel data has {len(data)} bytes instead of {image.size}")
    if len(data) >= image.size + image.frame_bits // 8:
        raise InvalidDataset(f"it has more pixel data than {image.frames} frames")
    yield from decoded_frames(data, "1.2.840.10008.1.2.1", image, passed)


# --- encoding -------------------------------------------------------------------------------------------------------


_AS_IT_IS: Final[dict[str, Any]] = {"raw": True, "pixel_keyword": "PixelData", "correct_unused_bits": False}


class FrameEncoder:
    """Makes frames in one transfer syntax. Raises ImportError if what that needs is not installed."""

    def __init__(self, transfer_syntax: str, image: Image, *, lossy: bool) -> None:
        self._lossy = lossy
        # That of "JPEG 2000" may be reversible as well (PS3.5 A.4.4); pydicom's encoder of that name always loses.
        by = transfer_syntax if lossy or transfer_syntax != JPEG_2000 else JPEG_2000_LOSSLESS
        self._encoder = _coder("encode", by)
        self._decoder = None if lossy else _coder("decode", by)
        if transfer_syntax == RLE:  # it knows bytes alone, and keeps all bits of them
            image = replace(image, stored=image.allocated)
        self._image = replace(image, frames=1, offsets=None, planar=0)
        self._options: dict[str, Any] = {}
        if lossy:
            self._options = {"jls_error": _NEAR} if by == JPEG_LS_NEAR_LOSSLESS else {"j2k_cr": [_RATIO]}

    def encode(self, array: Any, colours: str) -> bytes:
        """A frame's code stream, of even length. Raises InvalidDataset."""
        options = replace(self._image, colours=colours).options()
        try:
            encoded = bytes(
                self._encoder.encode(array, encoding_plugin=_plugin(self._encoder), **options, **self._options)
            )
            if self._decoder is not None:
                self._compare(encoded, array, options)
        except (InvalidDataset, ImportError):
            raise
        except Exception as error:  # as above
            raise InvalidDataset(f"its pixel data cannot be encoded so: {error}") from error
        return encoded + b"\0" * (len(encoded) & 1)

    def _compare(self, encoded: bytes, array: Any, options: dict[str, Any]) -> None:
        from pydicom.encaps import encapsulate

        assert self._decoder is not None
        again, _ = self._decoder.as_array(
            encapsulate([encoded], has_bot=False),
            index=0,
            decoding_plugin=_plugin(self._decoder),
            **_AS_IT_IS,
            **options,
        )
        if again.shape != array.shape or not (again == array).all():
            raise InvalidDataset("its pixel data does not come back as it was from that encoding")


def _plugin(coder: Any) -> str:
    """Which of its plugins to use; empty: whichever works."""
    return next((plugin for plugin in _PREFERRED if plugin in coder.available_plugins), "")


def _coder(verb: str, transfer_syntax: str) -> Any:
    """pydicom's decoder or encoder. Raises InvalidDataset if there is none, ImportError if it lacks its packages."""
    from pydicom import pixels
    from pydicom.uid import UID

    name = UID(transfer_syntax).name
    try:
        coder: Any = pixels.get_decoder(transfer_syntax) if verb == "decode" else pixels.get_encoder(transfer_syntax)
    except NotImplementedError as error:
        raise InvalidDataset(f"nothing here can {verb} {name}") from error
    lacking = [] if find_spec("numpy") else ["numpy"]
    if not coder.is_available and not (verb == "decode" and coder.is_native):
        lacking += coder.missing_dependencies
    if lacking:
        raise ImportError(
            f"to {verb} {name} takes packages that are not installed ({'; '.join(lacking)}):"
            " pip install 'dicomnet[transcode]'"
        )
    return coder
