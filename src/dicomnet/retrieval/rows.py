"""Matches as text and as JSON: what stands in the columns, whatever the peer put into it.

The texts are what the peer sent, control characters included: who shows them sees to it that they are harmless.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, MutableSequence, Sequence
from typing import TYPE_CHECKING, Any, Final

from dicomnet.dataset import EncodedDataset
from dicomnet.retrieval import quick
from dicomnet.retrieval.paths import Path, element_at

if TYPE_CHECKING:
    from pydicom import Dataset

_SEPARATOR: Final = "\\"  # between the values of an element, as in DICOM
_FORMULAS: Final = "=+-@"
_QUOTED: Final = re.compile(r'["\r\n]')
_NUMBERS: Final = re.compile(r"[+-][0-9.]+(?:[eE][+-]?[0-9]+)?(?:\\[+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)*", re.ASCII)
_BYTES: Final = frozenset(("OB", "OD", "OF", "OL", "OV", "OW", "UN"))


def row(match: EncodedDataset | Dataset, columns: Sequence[Path]) -> list[str]:
    """The values of a match. Raises InvalidDataset for an encoded one that cannot be read at all, and OSError."""
    if isinstance(match, EncodedDataset):
        if (cells := quick.row(match, columns)) is not None:
            return cells
        match = match.decode()
    return [value_text(match, path) for path in columns]


def value_text(match: Dataset, path: Path) -> str:
    """The value at ``path``, empty if the match has none."""
    try:
        element = element_at(match, path)
        return "" if element is None else _text(element)
    except Exception:  # pydicom documents no closed set of errors for values that it cannot read
        return _raw_text(match, path)


def _text(element: Any) -> str:
    value = element.value
    if value is None:
        return ""
    if element.VR == "SQ":
        return f"[{len(value)} item{'s' * (len(value) != 1)}]" if len(value) else ""
    if isinstance(value, bytes):
        return f"[{len(value)} bytes]" if element.VR in _BYTES else value.decode("ascii", "backslashreplace")
    if isinstance(value, MutableSequence):
        return _SEPARATOR.join("" if part is None else str(part) for part in value)
    return str(value).rstrip(" \0")


def _raw_text(match: Dataset, path: Path) -> str:
    """What the peer sent, where it is no value of its VR; at the top level, where it can be seen."""
    if len(path.steps) > 1:
        return "[unreadable]"
    raw: Any = match.get_item(path.last.tag)
    value = getattr(raw, "value", None)
    return value.decode("ascii", "backslashreplace").rstrip(" \0") if isinstance(value, bytes) else "[unreadable]"


def csv_line(cells: Iterable[str]) -> str:
    """RFC 4180, without the end of the line. What a spreadsheet would take for a formula has an apostrophe before it:
    a peer's ``=cmd|…`` is not to be run where somebody opens the file.
    """
    harmless = [_no_formula(cell) for cell in cells]
    plain = ",".join(harmless)
    if len(harmless) > 1 and plain.count(",") == len(harmless) - 1 and not _QUOTED.search(plain):
        return plain
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(harmless)
    return line.getvalue()


def _no_formula(cell: str) -> str:
    return f"'{cell}" if cell[:1] in _FORMULAS and cell and not _NUMBERS.fullmatch(cell) else cell


def json_model(match: EncodedDataset | Dataset) -> dict[str, Any]:
    """The DICOM JSON model (PS3.18 F). A value that cannot be read is left out. Raises as ``row`` does."""
    from pydicom import Dataset

    if isinstance(match, EncodedDataset):
        if (model := quick.json_model(match)) is not None:
            return model
        match = match.decode()
    try:
        whole: dict[str, Any] = match.to_json_dict()
        return whole
    except Exception:  # one value; which one, pydicom does not say
        result: dict[str, Any] = {}
        for tag in match.keys():  # noqa: SIM118  # iterating over the data set itself would read the values
            try:
                one = Dataset()
                one[tag] = match[tag]
                result |= one.to_json_dict()
            except Exception:
                result[f"{int(tag):08X}"] = {"vr": "UN"}
        return result
