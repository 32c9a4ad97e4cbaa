"""Small data sets, such as queries and their matches, between bytes and pydicom, without its reader and its writer.

One idea: most elements are a header and a text or a number. A data set that has nothing else is written and read here,
with the result that pydicom would give and at a tenth of its cost. At the first thing that is not plain (a transfer
syntax that is rare, an ambiguous VR, character sets with code extensions, a value that does not fit, what a peer got
wrong) these functions return None, and pydicom does it all.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import lru_cache
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from dicomnet.ul.negotiation import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN

if TYPE_CHECKING:
    from pydicom import Dataset, FileDataset

_CHARACTER_SET: Final = 0x00080005
_PIXEL_DATA: Final = 0x7FE00010
_FIRST: Final = 0x00080000  # tag: below it are command sets and what belongs to files
_UNDEFINED: Final = 0xFFFFFFFF
_PREFIX: Final = 132  # bytes in front of a file's meta information
_DELIMITERS: Final = 0xFFFE  # group of items and delimitation items (PS3.5 7.5)
_NOT_OF_A_DATA_SET: Final = (b"\0\0", b"\2\0")  # groups of command sets and of file meta information
_DEEPEST: Final = 8  # levels of items that are written here
_ITEM: Final = struct.pack("<HH", 0xFFFE, 0xE000)
_SHORT_VRS: Final = (
    *("AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO"),
    *("LT", "PN", "SH", "SL", "SS", "ST", "TM", "UI", "UL", "US"),
)
_LONG_VRS: Final = frozenset(("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"))
# By VR in explicit encoding: whether its length takes four bytes.
_EXPLICIT: Final = {vr.encode(): (vr, vr in _LONG_VRS) for vr in (*_SHORT_VRS, *_LONG_VRS)}
# One byte for a character, or UTF-8: no code extensions, so that a text can be encoded as it stands.
_CHARACTER_SETS: Final = (
    *("", "ISO_IR 6", "ISO_IR 100", "ISO_IR 101", "ISO_IR 109", "ISO_IR 110", "ISO_IR 126", "ISO_IR 127", "ISO_IR 138"),
    *("ISO_IR 144", "ISO_IR 148", "ISO_IR 166", "ISO_IR 192"),
)
_implicit_header: Final = struct.Struct("<HHI").pack
_short_header: Final = struct.Struct("<HH2sH").pack
_long_header: Final = struct.Struct("<HH2sxxI").pack
_length: Final = struct.Struct("<I").pack
_read_implicit: Final = struct.Struct("<HHI").unpack_from
_read_short: Final = struct.Struct("<HH2sH").unpack_from
_read_length: Final = struct.Struct("<I").unpack_from


class _NotPlain(Exception):
    """Something that pydicom has to write."""


# --- writing --------------------------------------------------------------------------------------------------------


def encode(dataset: Dataset, transfer_syntax: str) -> bytes | None:
    """``dataset`` as pydicom would write it, or None if it has something that is not plain. It is not changed."""
    if transfer_syntax not in (IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN):
        return None
    try:
        writer = _writer()
        return writer.encode(dataset, transfer_syntax == IMPLICIT_VR_LITTLE_ENDIAN, writer.default_encoding, 0)
    except (_NotPlain, ValueError, TypeError, AttributeError, OverflowError, struct.error):  # UnicodeError is one
        return None


class _Writer:
    """Writes elements. ``encoding`` is Python's name of the character set, None if that is not plain."""

    def __init__(self) -> None:
        from pydicom import charset, dataelem, multival, valuerep

        self._read: Any = dataelem.RawDataElement
        self._set: Any = dataelem.DataElement
        self._list: Any = multival.MultiValue
        self._name: Any = valuerep.PersonName
        self.default_encoding = charset.default_encoding
        known = charset.python_encoding
        self.codecs: dict[Any, str] = {term: known[term] for term in _CHARACTER_SETS if term in known}
        # By VR: its bytes, whether its length takes four bytes, and what makes bytes of a value.
        self._values: dict[str, tuple[bytes, bool, Callable[[Any, str | None], bytes]]] = {}
        of_text: tuple[tuple[str, Callable[[Any, str | None], bytes]], ...] = (
            ("AE AS CS DA DT TM UR", self._string),
            ("UI", self._uid),
            ("LO LT SH ST UC UT", self._text),
            ("PN", self._person_name),
            ("DS IS", self._number_string),
        )
        for vrs, write in of_text:
            self._values |= {vr: (vr.encode(), vr in _LONG_VRS, write) for vr in vrs.split()}
        for vr, form in (("FD", "d"), ("FL", "f"), ("SL", "l"), ("SS", "h"), ("UL", "L"), ("US", "H")):
            self._values[vr] = vr.encode(), False, _number(struct.Struct("<" + form).pack)

    def encode(self, dataset: Dataset, implicit: bool, encoding: str | None, depth: int) -> bytes:
        """Raises _NotPlain, and whatever comes of a value that is not what it should be."""
        elements: list[tuple[int, Any]] = [(int(tag), element) for tag, element in dataset.items()]
        elements.sort()  # no two tags are equal, so that nothing else is compared
        parts: list[bytes] = []
        fits: bool | None = None
        for tag, element in elements:
            group, number = tag >> 16, tag & 0xFFFF
            if tag < _FIRST or tag == _PIXEL_DATA:
                raise _NotPlain
            if not number:  # retired (PS3.5 7.2); pydicom does not write them
                continue
            if type(element) is not self._set:
                fits = _fits(dataset, implicit) if fits is None else fits
                vr, is_long, value = self._as_read(element, implicit) if fits else _not_plain()
                if tag == _CHARACTER_SET:
                    encoding = None
            elif element.is_undefined_length:
                raise _NotPlain
            elif element.VR == "SQ":
                vr, is_long, value = b"SQ", True, self._items(element.value, implicit, encoding, depth)
            else:
                if tag == _CHARACTER_SET:
                    encoding = self.codecs.get(element.value or "")
                vr, is_long, write = self._values.get(element.VR) or _not_plain()
                value = write(element.value, encoding)
            if implicit:
                parts.append(_implicit_header(group, number, len(value)))
            elif is_long:
                parts.append(_long_header(group, number, vr, len(value)))
            else:  # a value too long for its VR is an error here
                parts.append(_short_header(group, number, vr, len(value)))
            parts.append(value)
        return b"".join(parts)

    def _as_read(self, element: Any, implicit: bool) -> tuple[bytes, bool, bytes]:
        """VR and value of an element that was read and not touched since."""
        if type(element) is not self._read or element.length == _UNDEFINED:
            raise _NotPlain
        value = element.value
        if value is None:
            if element.length or element.VR == "UN":  # its value is still to be read; its VR, to be looked up
                raise _NotPlain
            value = b""
        if implicit:
            return b"", False, value
        vr = element.VR.encode()
        return vr if len(vr) == 2 else _not_plain(), element.VR in _LONG_VRS, value

    def _items(self, items: Any, implicit: bool, encoding: str | None, depth: int) -> bytes:
        if depth >= _DEEPEST:
            raise _NotPlain
        parts: list[bytes] = []
        for item in items or ():
            if item.is_undefined_length_sequence_item:
                raise _NotPlain
            encoded = self.encode(item, implicit, encoding, depth + 1)
            parts += (_ITEM, _length(len(encoded)), encoded)
        return b"".join(parts)

    # Each of these gives the bytes of a value, padded to an even length (PS3.5 6.2).

    def _string(self, value: Any, _encoding: str | None) -> bytes:
        text = value if type(value) is str else self._joined(value)
        return (text + " " if len(text) & 1 else text).encode("latin-1")

    def _uid(self, value: Any, _encoding: str | None) -> bytes:
        text = value if isinstance(value, str) else self._joined(value)
        return (text + "\0" if len(text) & 1 else text).encode("latin-1")

    def _text(self, value: Any, encoding: str | None) -> bytes:
        text = value if type(value) is str else self._joined(value)
        encoded = text.encode(encoding or _not_plain())
        return encoded + b" " if len(encoded) & 1 else encoded

    def _person_name(self, value: Any, encoding: str | None) -> bytes:
        if not encoding or type(value) is not self._name:
            if value:
                raise _NotPlain
            return b""
        if value.original_string is None:
            encoded = "=".join(value.components).encode(encoding)
        else:
            encoded = value.encode((encoding,)) if value else b""
        return encoded + b" " if len(encoded) & 1 else encoded

    def _number_string(self, value: Any, _encoding: str | None) -> bytes:
        if type(value) is self._list:
            text = "\\".join(map(_text_of, value))
        elif value is None:
            return b""
        elif isinstance(value, int | float | str):
            text = _text_of(value)
        else:
            raise _NotPlain
        return (text + " " if len(text) & 1 else text).encode("latin-1")

    def _joined(self, value: Any) -> str:
        if value is None:
            return ""
        if type(value) is not self._list:
            raise _NotPlain
        return "\\".join(value)


@lru_cache(maxsize=1)
def _writer() -> _Writer:
    return _Writer()


def _not_plain() -> Any:
    raise _NotPlain


def _number(pack: Callable[[Any], bytes]) -> Callable[[Any, str | None], bytes]:
    """What writes one number."""

    def write(value: Any, _encoding: str | None) -> bytes:
        if type(value) in (int, float):
            return pack(value)
        if value is None or value == "":
            return b""
        raise _NotPlain

    return write


def _text_of(number: Any) -> str:
    """A number as text, the one that it was read from if there is one."""
    text = getattr(number, "original_string", None)
    return str(number) if text is None else text


def _fits(dataset: Dataset, implicit: bool) -> bool:
    """Whether values that were read are right as they are: nothing changed their encoding."""
    return dataset.original_encoding == (implicit, True) and dataset.original_character_set == dataset._character_set


# --- reading --------------------------------------------------------------------------------------------------------


def decode(data: bytes, transfer_syntax: str, header: bytes) -> FileDataset | None:
    """What ``dcmread`` makes of a file of ``header`` and ``data``, or None if that is not plain.

    ``header``: preamble, prefix and file meta information, as ``part10.header`` makes them.
    """
    if transfer_syntax not in (IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN) or not data:
        return None
    from pydicom.charset import convert_encodings, default_encoding
    from pydicom.dataset import FileDataset, FileMetaDataset

    implicit = transfer_syntax == IMPLICIT_VR_LITTLE_ENDIAN
    elements = _elements(data, implicit, _reading())
    about = _explicit_elements(header[_PREFIX:], *_reading())
    if elements is None or about is None:
        return None
    meta = FileMetaDataset(about)
    meta.set_original_encoding(False, True, default_encoding)
    dataset = FileDataset(BytesIO(data), elements, header[: _PREFIX - 4], meta, implicit, True)
    encoding: Any = default_encoding
    if _CHARACTER_SET in elements:
        encoding = convert_encodings(dataset[_CHARACTER_SET].value)
    dataset.set_original_encoding(implicit, True, encoding)
    return dataset


def raw_values(data: bytes, transfer_syntax: str) -> dict[int, tuple[str | None, bytes]] | None:
    """By tag the VR (None: it is for the dictionary to tell) and the bytes of each element, without pydicom, or None
    if the data set is not plain.
    """
    if transfer_syntax not in (IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN):
        return None
    return _elements(data, transfer_syntax == IMPLICIT_VR_LITTLE_ENDIAN, (_raw_value, int, _no_bytes))


def codec(term: str) -> str | None:
    """Python's name of a character set that has no code extensions, or None."""
    return _writer().codecs.get(term)


def _raw_value(_tag: int, vr: str | None, _length: int, value: bytes, *_about: Any) -> tuple[str | None, bytes]:
    return vr, value


def _no_bytes(_vr: str | None) -> bytes:
    return b""


def _elements(data: bytes, implicit: bool, reading: _Reading) -> dict[Any, Any] | None:
    if data[:2] in _NOT_OF_A_DATA_SET:
        return None
    return _implicit_elements(data, *reading) if implicit else _explicit_elements(data, *reading)


def _explicit_elements(
    data: bytes, new: Callable[..., Any], make_tag: Callable[[int], Any], empty: Callable[[str | None], Any]
) -> dict[Any, Any] | None:
    """The elements of a data set in Explicit VR Little Endian, not yet converted."""
    elements = {}
    position, end = 0, len(data)
    while position < end:
        if end - position < 8:
            return None
        group, number, vr, length = _read_short(data, position)
        known = _EXPLICIT.get(vr)
        if known is None or group == _DELIMITERS:
            return None
        position += 8
        if known[1]:
            if end - position < 4:
                return None
            (length,) = _read_length(data, position)
            position += 4
        after = position + length
        if after > end:  # also one of undefined length
            return None
        tag = make_tag(group << 16 | number)
        value = data[position:after] if length else empty(known[0])
        elements[tag] = new(tag, known[0], length, value, position, False, True)
        position = after
    return elements


def _implicit_elements(
    data: bytes, new: Callable[..., Any], make_tag: Callable[[int], Any], empty: Callable[[str | None], Any]
) -> dict[Any, Any] | None:
    """The same in Implicit VR Little Endian."""
    elements = {}
    nothing = empty(None)
    position, end = 0, len(data)
    if data[4:6].isalpha() and data[4:6].isupper():  # pydicom takes that for a VR
        return None
    while position < end:
        if end - position < 8:
            return None
        group, number, length = _read_implicit(data, position)
        if group == _DELIMITERS:
            return None
        position += 8
        after = position + length
        if after > end:  # also one of undefined length
            return None
        tag = make_tag(group << 16 | number)
        value = data[position:after] if length else nothing
        elements[tag] = new(tag, None, length, value, position, True, True)
        position = after
    return elements


_Reading: TypeAlias = tuple[Callable[..., Any], Callable[[int], Any], Callable[[str | None], Any]]


@lru_cache(maxsize=1)
def _reading() -> _Reading:
    """What makes raw elements and tags, and what an empty value is."""
    from pydicom import config
    from pydicom.dataelem import RawDataElement, empty_value_for_VR
    from pydicom.tag import BaseTag

    known: dict[tuple[str | None, bool], Any] = {}

    def empty(vr: str | None) -> Any:
        key = vr, bool(config.use_none_as_empty_text_VR_value)
        if key not in known:
            known[key] = empty_value_for_VR(vr, raw=True)
        return known[key]

    return RawDataElement, BaseTag, empty
