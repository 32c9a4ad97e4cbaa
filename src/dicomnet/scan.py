"""Values of a few elements from the first bytes of a data set (PS3.5 7.1), without decoding the rest.

One idea: elements come in the order of their tags, so that a walk over the headers alone finds those that name a
patient, a study and a series within the first kilobytes, or knows that they are missing. What the walk does not
understand it does not guess: then pydicom reads the data set.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Collection
from typing import TYPE_CHECKING, Final

from dicomnet.errors import InvalidDataset
from dicomnet.ul.negotiation import IMPLICIT_VR_LITTLE_ENDIAN

if TYPE_CHECKING:
    from dicomnet.dataset import EncodedDataset

PATIENT_ID: Final = 0x00100020
STUDY_INSTANCE_UID: Final = 0x0020000D
SERIES_INSTANCE_UID: Final = 0x0020000E

EXPLICIT_VR_BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"
# PS3.5 A.5, and JPIP referenced (A.7), JPIP HTJ2K referenced: the whole data set is a deflated stream.
DEFLATED: Final = frozenset(("1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"))

_HEADS: Final = (
    16 << 10,
    1 << 20,
)  # bytes to look at: nearly always enough; with long sequences before the wanted tags
_DECODED: Final = 64 << 20  # bytes: a larger data set is not loaded for three values
_UNDEFINED: Final = 0xFFFFFFFF
_DELIMITERS: Final = 0xFFFE  # group of items and delimitation items (PS3.5 7.5)
_ITEM: Final = 0xE000
_SHORT_VRS: Final = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_LONG_VRS: Final = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_READERS: Final = {  # by byte order: a header in explicit VR, one in implicit VR, and a 32-bit length
    order: tuple(struct.Struct(order + fields).unpack_from for fields in ("HH2sH", "HHI", "I")) for order in "<>"
}


def dataset_values(dataset: EncodedDataset, tags: Collection[int]) -> dict[int, str]:
    """The text values of ``tags`` in ``dataset``; those that it does not have, or that cannot be read, are left out."""
    for size in _HEADS:
        head = next(dataset.chunks(size), b"")
        values = text_values(head, dataset.transfer_syntax, tags, whole=len(head) == dataset.size)
        if values is not None:
            return values
        if len(head) == dataset.size:
            break
    return _decoded_values(dataset, tags)


def text_values(
    head: bytes, transfer_syntax: str, tags: Collection[int], *, whole: bool = False
) -> dict[int, str] | None:
    """The text values of ``tags`` (top level only) from the first bytes of a data set, without padding.

    Bytes are read as Latin-1, so that every value has a text. ``whole``: ``head`` is all of the data set. None if
    these bytes do not tell: cut off before the last of the tags, or encoded in an unusual way.
    """
    if transfer_syntax in DEFLATED:
        try:
            head, whole = zlib.decompressobj(-zlib.MAX_WBITS).decompress(head, _HEADS[0]), False
        except zlib.error:
            return None
    explicit = transfer_syntax != IMPLICIT_VR_LITTLE_ENDIAN
    return _walk(head, tags, explicit, ">" if transfer_syntax == EXPLICIT_VR_BIG_ENDIAN else "<", whole)


def _walk(head: bytes, tags: Collection[int], explicit: bool, order: str, whole: bool) -> dict[int, str] | None:
    """Sequences and items of undefined length are not left as a unit but entered; ``depth`` tells how far we are in."""
    explicit_header, implicit_header, u32 = _READERS[order]
    found: dict[int, str] = {}
    last, position, end, depth = max(tags), 0, len(head), 0
    while position + 8 <= end:
        if explicit:
            group, element, vr, length = explicit_header(head, position)
            position += 8
            if group == _DELIMITERS:  # without a VR
                length = u32(head, position - 4)[0]
            elif vr not in _SHORT_VRS:
                if vr not in _LONG_VRS or position + 4 > end:
                    return None
                length = u32(head, position)[0]
                position += 4
                if vr == b"UN" and length == _UNDEFINED:  # its items are in implicit VR (PS3.5 6.2.2)
                    return None
        else:
            group, element, length = implicit_header(head, position)
            position += 8
        tag = group << 16 | element
        if not depth:
            if tag > last:
                return found
            if tag in tags:
                if length > end - position:
                    return None
                found[tag] = head[position : position + length].strip(b"\0 ").decode("latin-1")
        if length == _UNDEFINED:
            depth += 1
        elif group == _DELIMITERS and element != _ITEM:
            depth -= 1
            if depth < 0:
                return None
        else:
            position += length
    return found if whole and position == end and not depth else None


def _decoded_values(dataset: EncodedDataset, tags: Collection[int]) -> dict[int, str]:
    if dataset.size > _DECODED:
        return {}
    try:
        decoded = dataset.decode(specific_tags=list(tags), stop_before_pixels=True)
    except InvalidDataset:
        return {}
    return {tag: str(decoded[tag].value or "").strip("\0 ") for tag in tags if tag in decoded}
