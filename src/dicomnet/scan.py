"""Values of a few elements from the first bytes of a data set (PS3.5 7.1), without decoding the rest.

One idea: elements come in the order of their tags, so that a walk over the headers alone finds those that name a
patient, a study and a series within the first kilobytes, or knows that they are missing. What the walk does not
understand it does not guess: then pydicom reads the data set.

Instances that follow each other mostly have the same elements of the same lengths. Where a walk went is therefore
kept as a ``_Layout``: a data set that has the same headers at the same places, all of them, needs no walk of its own.
Mostly they have the same values as well, those of a series: these are decoded once.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

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

HEAD: Final = 16 << 10  # bytes to look at: nearly always enough
_LONG_HEAD: Final = 1 << 20  # with long sequences before the wanted tags
_DECODED: Final = 64 << 20  # bytes: a larger data set is not loaded for three values
_UNDEFINED: Final = 0xFFFFFFFF
_DELIMITERS: Final = 0xFFFE  # group of items and delimitation items (PS3.5 7.5)
_ITEM: Final = 0xE000
_SHORT_VRS: Final = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_LONG_VRS: Final = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_READERS: Final = {  # by byte order: a header in explicit VR, one in implicit VR, and a 32-bit length
    order: tuple(struct.Struct(order + fields).unpack_from for fields in ("HH2sH", "HHI", "I")) for order in "<>"
}
_PADDING: Final = b"\0 "
_MOST_LAYOUTS: Final = 64  # that are kept, of one encoding
_MOST_DECODED: Final = 32  # sets of values that are kept, of one layout: a sender has few series under way
_MOST_ELEMENTS: Final = 512  # of a layout that is kept: some kilobytes


class _Layout(NamedTuple):
    """Where a walk went.

    ``read_headers`` gives the element headers of a data set with this layout, which then are ``headers``;
    ``read_values`` the values of ``tags`` in their order. ``end``: that of all this. ``decoded``: by what was read.
    """

    read_headers: Callable[[bytes], tuple[Any, ...]]
    headers: tuple[bytes, ...]
    read_values: Callable[[bytes], tuple[Any, ...]]
    tags: tuple[int, ...]
    end: int
    decoded: dict[tuple[bytes, ...], dict[int, str]]

    def values(self, head: bytes) -> dict[int, str]:
        read = self.read_values(head)
        known = self.decoded.get(read)
        if known is None:
            known = {tag: _text(value) for tag, value in zip(self.tags, read, strict=True)}
            if len(self.decoded) >= _MOST_DECODED:
                self.decoded.clear()
            self.decoded[read] = known
        return known


class _Walker:
    """Finds ``tags`` in data sets of one encoding.

    ``layouts``: by the place where the last of the tags seems to be, which differs where anything does. None: one
    walk found it there; only the second one is worth a layout.
    """

    def __init__(self, explicit: bool, order: str, tags: tuple[int, ...]) -> None:
        self.explicit = explicit
        self.order = order
        self.tags = frozenset(tags)
        self.last = max(tags)
        self.last_tag = struct.pack(order + "HH", self.last >> 16, self.last & 0xFFFF)
        self.layouts: dict[int, _Layout | None] = {}

    def values(self, head: bytes, whole: bool) -> Mapping[int, str] | None:
        at = head.find(self.last_tag)
        layout = self.layouts.get(at)
        if layout is not None and layout.end <= len(head) and layout.read_headers(head) == layout.headers:
            return layout.values(head)
        headers: list[tuple[int, int]] = []
        found = self._walk(head, whole, headers)
        if found is None:
            return None
        if self.last in found:
            self._keep(at, head, headers, found)
        return {tag: _text(head[start:end]) for tag, (start, end) in found.items()}

    def _keep(self, at: int, head: bytes, headers: list[tuple[int, int]], found: dict[int, tuple[int, int]]) -> None:
        layouts = self.layouts
        if at not in layouts:
            if len(layouts) >= _MOST_LAYOUTS:
                layouts.clear()
            layouts[at] = None
        elif len(headers) <= _MOST_ELEMENTS:
            read, values = _reader(headers), _reader(list(found.values()))
            end = max(headers[-1][1], *(end for _, end in found.values()))
            layouts[at] = _Layout(read, read(head), values, tuple(found), end, {})

    def _walk(self, head: bytes, whole: bool, headers: list[tuple[int, int]]) -> dict[int, tuple[int, int]] | None:
        """Where the values are, and the headers passed on the way.

        Sequences and items of undefined length are not left as a unit but entered; ``depth`` tells how far we are in.
        """
        explicit, tags, last = self.explicit, self.tags, self.last
        explicit_header, implicit_header, u32 = _READERS[self.order]
        found: dict[int, tuple[int, int]] = {}
        position, end, depth = 0, len(head), 0
        while position + 8 <= end:
            start = position
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
            headers.append((start, position))
            if not depth:
                tag = group << 16 | element
                if tag > last:
                    return found
                if tag in tags:
                    if length > end - position:
                        return None
                    found[tag] = position, position + length
                    if tag == last:
                        return found
            if length == _UNDEFINED:
                depth += 1
            elif group == _DELIMITERS and element != _ITEM:
                depth -= 1
                if depth < 0:
                    return None
            else:
                position += length
        return found if whole and position == end and not depth else None


def _reader(spans: list[tuple[int, int]]) -> Callable[[bytes], tuple[Any, ...]]:
    """What reads the bytes of these spans, which come one after the other."""
    position, fields = 0, []
    for start, end in spans:
        fields.append(f"{start - position}x{end - start}s")
        position = end
    return struct.Struct("".join(fields)).unpack_from


def _text(value: bytes) -> str:
    return value.strip(_PADDING).decode("latin-1")


@lru_cache(maxsize=64)
def _walker(implicit: bool, big_endian: bool, tags: tuple[int, ...]) -> _Walker:
    return _Walker(not implicit, ">" if big_endian else "<", tags)


def dataset_values(dataset: EncodedDataset, tags: tuple[int, ...]) -> Mapping[int, str]:
    """The text values of ``tags`` in ``dataset``; those that it does not have, or that cannot be read, are left out."""
    for size in (HEAD, _LONG_HEAD):
        head = dataset.head(size)
        whole = len(head) == dataset.size
        values = text_values(head, dataset.transfer_syntax, tags, whole=whole)
        if values is not None:
            return values
        if whole:
            break
    return _decoded_values(dataset, tags)


def text_values(
    head: bytes, transfer_syntax: str, tags: tuple[int, ...], *, whole: bool = False
) -> Mapping[int, str] | None:
    """The text values of ``tags`` (top level only) from the first bytes of a data set, without padding.

    Bytes are read as Latin-1, so that every value has a text. ``whole``: ``head`` is all of the data set. None if
    these bytes do not tell: cut off before the last of the tags, or encoded in an unusual way.
    """
    if transfer_syntax in DEFLATED:
        try:
            head, whole = zlib.decompressobj(-zlib.MAX_WBITS).decompress(head, HEAD), False
        except zlib.error:
            return None
    implicit = transfer_syntax == IMPLICIT_VR_LITTLE_ENDIAN
    return _walker(implicit, transfer_syntax == EXPLICIT_VR_BIG_ENDIAN, tags).values(head, whole)


def _decoded_values(dataset: EncodedDataset, tags: tuple[int, ...]) -> dict[int, str]:
    if dataset.size > _DECODED:
        return {}
    try:
        decoded = dataset.decode(specific_tags=list(tags), stop_before_pixels=True)
    except InvalidDataset:
        return {}
    return {tag: str(decoded[tag].value or "").strip("\0 ") for tag in tags if tag in decoded}
