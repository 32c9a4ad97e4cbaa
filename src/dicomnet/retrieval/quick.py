"""Values of a match out of its bytes, for matches that come by the thousand.

One idea: of a match a few texts are shown, and most elements are a text as it stands. Those are taken from the bytes,
with what pydicom would make of them and at a tenth of its cost. At the first thing that is not plain (see ``flat``; a
sequence, bytes, a value that is not what its VR says) these functions return None, and pydicom reads the match.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from dicomnet import flat

if TYPE_CHECKING:
    from dicomnet.dataset import EncodedDataset
    from dicomnet.retrieval.paths import Path

_CHARACTER_SET: Final = 0x00080005
_DEFAULT: Final = "latin-1"  # what pydicom reads the default repertoire as
_PADDING: Final = " \0"
_UIDS: Final = re.compile(r"[0-9.\\]*", re.ASCII)
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,9}", re.ASCII)  # all of them fit into 32 bits
_ODD_IN_NAMES: Final = ("\0", " \\", " =", "=\\")
_DECIMAL: Final = re.compile(r"(?=.{1,16}\Z)[+-]?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,2})?", re.ASCII)


def row(match: EncodedDataset, columns: Iterable[Path]) -> list[str] | None:
    """What ``rows.row`` would say of the decoded match."""
    values = _values(match)
    if values is None:
        return None
    elements, encoding = values
    cells = []
    for path in columns:
        element = elements.get(path.steps[0].tag)
        if element is None:
            cells.append("")
            continue
        parts = _parts(path.steps[0].tag, element, encoding) if len(path.steps) == 1 else None
        if parts is None:
            return None
        cells.append("\\".join(parts[1]))
    return cells


def json_model(match: EncodedDataset) -> dict[str, Any] | None:
    """What ``rows.json_model`` would say of the decoded match (PS3.18 F)."""
    values = _values(match)
    if values is None:
        return None
    elements, encoding = values
    model: dict[str, Any] = {}
    for tag, element in elements.items():
        found = _parts(tag, element, encoding)
        if found is None:
            return None
        vr, parts = found
        if len(parts) == 1 and not parts[0]:
            model[f"{tag:08X}"] = {"vr": vr}
            continue
        make = _JSON.get(vr)
        if vr == "PN" and not all(parts):
            return None
        model[f"{tag:08X}"] = {"vr": vr, "Value": list(map(make, parts)) if make is not None else parts}
    return model


def _values(match: EncodedDataset) -> tuple[dict[int, tuple[str | None, bytes]], str | None] | None:
    """The elements, and Python's name of the character set, None if that is not plain."""
    if not match.in_memory:
        return None
    elements = flat.raw_values(match.head(match.size), match.transfer_syntax)
    if elements is None:
        return None
    given = elements.get(_CHARACTER_SET)
    return elements, _DEFAULT if given is None else flat.codec(given[1].decode(_DEFAULT).rstrip(_PADDING))


def _parts(tag: int, element: tuple[str | None, bytes], encoding: str | None) -> tuple[str, list[str]] | None:
    """VR and values as text, at least one."""
    vr = element[0] or _dictionary_vr(tag)
    read = _READERS.get(vr or "")
    if vr is None or read is None:
        return None
    value = element[1]
    if not value:
        return vr, [""]
    if encoding is None or b"\x1b" in value:  # an escape sequence (PS3.5 6.1.2.5)
        return None
    try:
        parts = read(value, encoding)
    except UnicodeDecodeError:
        return None
    return None if parts is None else (vr, parts)


@lru_cache(maxsize=4096)
def _dictionary_vr(tag: int) -> str | None:
    from pydicom.datadict import dictionary_VR

    try:
        return None if tag >> 16 & 1 else dictionary_VR(tag)
    except KeyError:
        return None


# Each of these gives the values of an element, as pydicom would, or None for what it is to judge.


def _codes(value: bytes, _encoding: str) -> list[str] | None:
    return value.decode(_DEFAULT).rstrip(_PADDING).split("\\")


def _uids(value: bytes, _encoding: str) -> list[str] | None:
    text = value.decode(_DEFAULT).rstrip(_PADDING)
    return text.split("\\") if _UIDS.fullmatch(text) else None


def _titles(value: bytes, _encoding: str) -> list[str] | None:
    parts = [part.strip() for part in value.decode(_DEFAULT).split("\\")]
    return None if "\0" in parts[-1] else parts


def _texts(value: bytes, encoding: str) -> list[str] | None:
    return [part.rstrip(_PADDING) for part in value.decode(encoding).split("\\")]


def _text(value: bytes, encoding: str) -> list[str] | None:
    return [value.decode(encoding).rstrip(_PADDING)]


def _names(value: bytes, encoding: str) -> list[str] | None:
    text = value.rstrip(b" \0").decode(encoding)
    # Padding within, and empty groups at the end: pydicom has rules for them.
    return None if text[-1:] == "=" or any(odd in text for odd in _ODD_IN_NAMES) else text.split("\\")


def _strings_of_numbers(pattern: re.Pattern[str]) -> Callable[[bytes, str], list[str] | None]:
    def read(value: bytes, _encoding: str) -> list[str] | None:
        parts = [part.strip(" ") for part in value.decode(_DEFAULT).rstrip(_PADDING).split("\\")]
        return parts if all(map(pattern.fullmatch, parts)) else None

    return read


def _number(form: str) -> Callable[[bytes, str], list[str] | None]:
    unpack, size = struct.Struct(form).unpack, struct.calcsize(form)

    def read(value: bytes, _encoding: str) -> list[str] | None:
        return [str(unpack(value)[0])] if len(value) == size else None

    return read


def _groups(name: str) -> dict[str, str]:
    return dict(zip(("Alphabetic", "Ideographic", "Phonetic"), name.split("="), strict=False))


_READERS: Final[dict[str, Callable[[bytes, str], list[str] | None]]] = {
    **dict.fromkeys(("AS", "CS", "DA", "DT", "TM"), _codes),
    "UI": _uids,
    **dict.fromkeys(("LO", "SH", "UC"), _texts),
    **dict.fromkeys(("LT", "ST", "UT"), _text),
    "AE": _titles,
    "PN": _names,
    "IS": _strings_of_numbers(_INTEGER),
    "DS": _strings_of_numbers(_DECIMAL),
    **{vr: _number(form) for vr, form in (("US", "<H"), ("SS", "<h"), ("UL", "<L"), ("SL", "<l"))},
}
_JSON: Final[dict[str, Callable[[str], Any]]] = {
    "PN": _groups,
    "DS": float,
    **dict.fromkeys(("IS", "US", "SS", "UL", "SL"), int),
}
