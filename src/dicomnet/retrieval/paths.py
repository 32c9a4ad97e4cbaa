"""Where an attribute stands in a data set, as text: ``ScheduledProcedureStepSequence[0].Modality``, ``0019,1001:LO``.

One idea: the same text names a key to ask for and a column to show. A step is a keyword or a tag, perhaps with its VR,
perhaps with the number of an item; the steps but the last lead into sequences.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

_STEP: Final = re.compile(
    r"(?:(?P<group>[0-9A-Fa-f]{4}),(?P<element>[0-9A-Fa-f]{4})"
    r"|\((?P<group2>[0-9A-Fa-f]{4}),\s?(?P<element2>[0-9A-Fa-f]{4})\)"
    r"|(?P<number>[0-9A-Fa-f]{8})(?!\w)"
    r"|(?P<keyword>[A-Za-z]\w*))"
    r"(?::(?P<vr>[A-Za-z]{2}))?(?:\[(?P<item>\d{1,4})\])?",
    re.ASCII,
)
_VRS: Final = (
    *("AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO", "LT", "OB", "OD", "OF", "OL", "OV", "OW"),
    *("PN", "SH", "SL", "SQ", "SS", "ST", "SV", "TM", "UC", "UI", "UL", "UN", "UR", "US", "UT", "UV"),
)
_DEEPEST: Final = 16  # sequences in sequences
_FIRST_GROUP: Final = 0x0008  # below it are command sets and what belongs to files
_ITEMS: Final = 0xFFFE  # group of items and delimiters (PS3.5 7.5)
_CREATORS: Final = range(0x10, 0x100)  # elements of an odd group that reserve blocks of it (PS3.5 7.8.1)
_ALIKE: Final = 3  # keywords to suggest


@dataclass(frozen=True, slots=True)
class Step:
    """An attribute: its tag, its VR, and the number of one item of it, or None."""

    tag: int
    vr: str
    item: int | None = None

    def __str__(self) -> str:
        text = _keyword(self.tag) or f"{self.tag >> 16:04X},{self.tag & 0xFFFF:04X}"
        return text if self.item is None else f"{text}[{self.item}]"


@dataclass(frozen=True, slots=True)
class Path:
    """The steps to an attribute, from the top of the data set."""

    steps: tuple[Step, ...]

    def __str__(self) -> str:
        return ".".join(map(str, self.steps))

    @property
    def last(self) -> Step:
        return self.steps[-1]


def parse(text: str) -> tuple[Path, str]:
    """The path at the beginning of ``text``, and what stands behind it. Raises ValueError, and says what to write."""
    steps: list[Step] = []
    rest = text.lstrip()
    while True:
        found = _STEP.match(rest)
        if found is None:
            raise ValueError(
                f"{text!r} is no attribute: write a keyword such as PatientID, a tag such as 0010,0020, or"
                " Sequence[0].Keyword"
            )
        rest = rest[found.end() :]
        steps.append(_step(found, leads_on=rest.startswith(".")))
        if not rest.startswith("."):
            break
        rest = rest[1:]
    if len(steps) > _DEEPEST:
        raise ValueError(f"{text!r} goes through more than {_DEEPEST} sequences")
    return Path(tuple(steps)), rest


def parse_path(text: str) -> Path:
    """A path and nothing else. Raises ValueError."""
    path, rest = parse(text)
    if rest.strip():
        raise ValueError(f"{text!r} is no attribute: {rest!r} follows {path}")
    return path


def _step(found: re.Match[str], *, leads_on: bool) -> Step:
    tag = _tag(found)
    vr = _vr(tag, found["vr"])
    if (leads_on or found["item"] is not None) and vr != "SQ":
        raise ValueError(f"{Step(tag, vr)} is no sequence (its VR is {vr}): it has no items")
    item = int(found["item"]) if found["item"] is not None else 0 if leads_on else None
    return Step(tag, vr, item)


def _tag(found: re.Match[str]) -> int:
    if (keyword := found["keyword"]) is not None:
        from pydicom.datadict import tag_for_keyword

        tag = tag_for_keyword(keyword)
        if tag is None:
            raise ValueError(f"there is no attribute {keyword!r}{_suggestion(keyword)}")
    elif found["number"] is not None:
        tag = int(found["number"], 16)
    else:
        tag = int((found["group"] or found["group2"]) + (found["element"] or found["element2"]), 16)
    group, element = tag >> 16, tag & 0xFFFF
    if group < _FIRST_GROUP or group == _ITEMS or not element:
        raise ValueError(f"({group:04X},{element:04X}) does not belong into a data set; only groups from 0008 on do")
    return tag


def _vr(tag: int, given: str | None) -> str:
    from pydicom.datadict import dictionary_VR

    if given is not None:
        if given.upper() not in _VRS:
            raise ValueError(f"there is no VR {given!r}; there are {' '.join(_VRS)}")
        return given.upper()
    if tag >> 16 & 1:
        if tag & 0xFFFF in _CREATORS:
            return "LO"
    else:
        try:
            return dictionary_VR(tag).partition(" or ")[0]
        except KeyError:  # the error below says what to do
            pass
    name = f"{tag >> 16:04X},{tag & 0xFFFF:04X}"
    raise ValueError(f"the VR of {name} is not in the data dictionary; write it behind the tag: {name}:LO")


def _suggestion(keyword: str) -> str:
    names = _keywords()
    near = difflib.get_close_matches(keyword.lower(), names, _ALIKE)
    if not near:
        return "; keywords are written as in PS3.6: PatientID, StudyDate"
    return f"; did you mean {' or '.join(names[name] for name in near)}?"


@lru_cache(maxsize=1)
def _keywords() -> dict[str, str]:
    """By what they are in lower case."""
    from pydicom.datadict import keyword_dict

    return {keyword.lower(): keyword for keyword in keyword_dict if keyword}


def _keyword(tag: int) -> str:
    from pydicom.datadict import keyword_for_tag

    return keyword_for_tag(tag)


def element_at(dataset: Any, path: Path) -> Any:
    """The element at ``path``, or None if the data set does not go so far. Raises what pydicom raises for a value that
    cannot be read.
    """
    *leading, last = path.steps
    for step in leading:
        items = _items(dataset, step.tag)
        if step.item is None or step.item >= len(items):
            return None
        dataset = items[step.item]
    return dataset.get(last.tag)


def _items(dataset: Any, tag: int) -> Any:
    element = dataset.get(tag)
    return element.value if element is not None and element.VR == "SQ" else ()
