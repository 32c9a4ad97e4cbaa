"""Matches as text and as JSON: what stands in the columns, whatever the peer put into it.

The texts are what the peer sent, control characters included: who shows them sees to it that they are harmless.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, MutableSequence
from typing import TYPE_CHECKING, Any, Final

from dicomnet.retrieval.paths import Path, element_at

if TYPE_CHECKING:
    from pydicom import Dataset

_SEPARATOR: Final = "\\"  # between the values of an element, as in DICOM
_BYTES: Final = frozenset(("OB", "OD", "OF", "OL", "OV", "OW", "UN"))


def row(match: Dataset, columns: Iterable[Path]) -> list[str]:
    """The values of a match."""
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
    """RFC 4180, without the end of the line."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(cells)
    return line.getvalue()


def json_model(match: Dataset) -> dict[str, Any]:
    """The DICOM JSON model (PS3.18 F). What cannot be read is left out."""
    from pydicom import Dataset

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
