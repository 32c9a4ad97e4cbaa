"""Images as printers take them (PS3.3 C.13.5): unsigned grey of 8 bits, or RGB by plane; in pure Python.

One idea: whatever a pixel goes through (rescale, window, polarity) is one table, so that an image costs one look-up for
each pixel.
"""

from __future__ import annotations

import sys
from array import array
from typing import TYPE_CHECKING, Final

from dicomnet.errors import InvalidDataset
from dicomnet.part10 import EXPLICIT_VR_BIG_ENDIAN
from dicomnet.ul.negotiation import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN

if TYPE_CHECKING:
    from pydicom import Dataset

_NATIVE: Final = ("", IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN, "1.2.840.10008.1.2.1.99")


def grey(image: Dataset, frame: int = 0) -> Dataset:
    """A frame as an item of the Basic Grayscale Image Sequence: MONOCHROME2 of 8 bits, windowed as the image says.

    ``image``: a pydicom Dataset with uncompressed MONOCHROME1 or MONOCHROME2 pixels of up to 16 bits. Without a window
    from its darkest to its brightest value. Raises InvalidDataset for any other image.
    """
    if image.get("SamplesPerPixel") != 1 or image.get("PhotometricInterpretation") not in (
        "MONOCHROME1",
        "MONOCHROME2",
    ):
        raise InvalidDataset("this is no image of grey values")
    if image.get("BitsAllocated") not in (8, 16):
        raise InvalidDataset(f"pixels of {image.get('BitsAllocated')} bits cannot be printed")
    data = _frame(image, frame, image.BitsAllocated // 8)
    values: bytes | array[int] = data
    if image.BitsAllocated == 16:
        values = array("H", data)
        if sys.byteorder == "big":
            values.byteswap()
    table = _table(image, values)
    item = _item(image, "MONOCHROME2", 1)
    item.PixelData = _even(bytes(map(table.__getitem__, values)))
    return item


def colour(image: Dataset, frame: int = 0) -> Dataset:
    """A frame as an item of the Basic Color Image Sequence: RGB of 8 bits, one plane after the other.

    ``image``: a pydicom Dataset with uncompressed RGB pixels of 8 bits. Raises InvalidDataset for any other image.
    """
    rgb = image.get("SamplesPerPixel") == 3 and image.get("PhotometricInterpretation") == "RGB"
    if not rgb or image.get("BitsAllocated") != 8:
        raise InvalidDataset("this is no RGB image of 8 bits; convert its colours first")
    data = _frame(image, frame, 3)
    item = _item(image, "RGB", 3)
    item.PlanarConfiguration = 1
    by_plane = image.get("PlanarConfiguration") == 1
    item.PixelData = _even(data if by_plane else data[0::3] + data[1::3] + data[2::3])
    return item


def _frame(image: Dataset, frame: int, bytes_each: int) -> bytes:
    meta = getattr(image, "file_meta", None)
    syntax = str(meta.get("TransferSyntaxUID", "")) if meta is not None else ""
    if syntax not in _NATIVE:
        hint = "swap its bytes" if syntax == EXPLICIT_VR_BIG_ENDIAN else "decompress it"
        raise InvalidDataset(f"an image in transfer syntax {syntax} cannot be printed; {hint} first")
    size = (image.get("Rows") or 0) * (image.get("Columns") or 0) * bytes_each
    data = bytes((image.get("PixelData") or b"")[frame * size : (frame + 1) * size])
    if not size or len(data) < size:
        raise InvalidDataset(f"the image has no frame {frame}, or only a part of it")
    return data


def _item(image: Dataset, interpretation: str, samples: int) -> Dataset:
    from pydicom import DataElement, Dataset

    item = Dataset()
    item.SamplesPerPixel, item.PhotometricInterpretation = samples, interpretation
    item.Rows, item.Columns = image.Rows, image.Columns
    if image.get("PixelAspectRatio"):
        item.PixelAspectRatio = image.PixelAspectRatio
    item.BitsAllocated, item.BitsStored, item.HighBit, item.PixelRepresentation = 8, 8, 7, 0
    item.add(DataElement(0x7FE00010, "OB", b""))
    return item


def _even(data: bytes) -> bytes:
    return data + b"\0" * (len(data) & 1)


def _table(image: Dataset, values: bytes | array[int]) -> bytes:
    """For each pixel as it is stored, how bright it is (PS3.3 C.7.6.3.1, C.11.1, C.11.2)."""
    allocated, stored = image.BitsAllocated, image.get("BitsStored") or image.BitsAllocated
    shift = (image.get("HighBit") or stored - 1) - stored + 1
    mask, sign = (1 << stored) - 1, 1 << (stored - 1) if image.get("PixelRepresentation") else 0

    def meant(raw: int) -> int:
        value: int = raw >> shift & mask
        return value - 2 * (value & sign)

    slope, intercept = float(image.get("RescaleSlope") or 1), float(image.get("RescaleIntercept") or 0)
    low, high = _window(image) or _extent([meant(raw) * slope + intercept for raw in set(values)])
    scale = 255 / (high - low) if high > low else 255.0
    inverted = image.PhotometricInterpretation == "MONOCHROME1"

    def bright(raw: int) -> int:
        level = min(max(round((meant(raw) * slope + intercept - low) * scale), 0), 255)
        return 255 - level if inverted else level

    return bytes(map(bright, range(1 << allocated)))


def _window(image: Dataset) -> tuple[float, float] | None:
    """The values that are black and white (PS3.3 C.11.2.1.2.1), if the image has a window."""
    centre, width = _first(image, "WindowCenter"), _first(image, "WindowWidth")
    if centre is None or width is None or width < 1:
        return None
    return centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2


def _first(image: Dataset, keyword: str) -> float | None:
    if keyword not in image or image[keyword].is_empty:
        return None
    value = image[keyword].value
    return float(value[0] if image[keyword].VM > 1 else value)


def _extent(values: list[float]) -> tuple[float, float]:
    return min(values), max(values)
