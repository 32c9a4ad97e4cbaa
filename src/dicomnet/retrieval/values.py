"""Values of keys: what a user typed becomes what an element holds, and is checked for what a key may be.

PS3.4 C.2.2.2 (wildcards, ranges, lists), PS3.5 6.2 (the VRs). One idea: a key that no provider can understand finds
nothing, and looks like an archive that has nothing. So what is wrong is said here.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable
from typing import Any, Final

from dicomnet.services import moments

_INTEGERS: Final = {
    **{vr: (-(1 << bits - 1), (1 << bits - 1) - 1) for vr, bits in (("SS", 16), ("SL", 32), ("SV", 64))},
    **{vr: (0, (1 << bits) - 1) for vr, bits in (("US", 16), ("UL", 32), ("UV", 64))},
}
_LONGEST: Final = {"AE": 16, "CS": 16, "LO": 64, "SH": 16}  # characters (PS3.5 Table 6.2-1)
_GROUP: Final = 64  # characters of a component group of a PN
_UID: Final = re.compile(r"[0-9]+(?:\.[0-9]+)*", re.ASCII)
_LONGEST_UID: Final = 64
_AGE: Final = re.compile(r"\d{3}[DWMY]", re.ASCII)
_CODE: Final = re.compile(r"[A-Z0-9_ *?]*", re.ASCII)
_ONE_VALUE: Final = ("LT", "ST", "UT", "UR")  # a backslash is a character of them
_TEXT: Final = ("LO", "LT", "PN", "SH", "ST", "UC", "UT")  # those that a character set is for (PS3.5 6.1.2.3)
_DAYS: Final = {"today": 0, "yesterday": -1}
_EXAMPLES: Final = {
    "DA": "20240131, 20240101-20240131, 20240101-, -20240131, today, yesterday-today",
    "TM": "1030, 1030-1200, 103000-",
    "DT": "202401311030, 20240101-20240131",
}


def is_text(vr: str) -> bool:
    """Whether the character set matters to values of this VR."""
    return vr in _TEXT


def value_of(text: str, vr: str, *, force: bool = False) -> Any:
    """``text`` as the value of an element.

    ``force``: what a key may not hold is taken as it is, as far as the VR can hold it. Raises ValueError, and says
    what to write.
    """
    if vr == "SQ":
        raise ValueError("a sequence has no value of its own; ask for what is in its items: Sequence[0].Keyword=VALUE")
    if vr in _INTEGERS or vr in ("FL", "FD"):
        return _single([_number(part, vr) for part in text.split("\\")])
    if vr in ("DS", "IS"):
        for part in text.split("\\"):
            _number(part, vr)
        return text
    if vr == "AT":
        return _single([_attribute(part) for part in text.split("\\")])
    if vr.startswith("O") or vr == "UN":
        raise ValueError(f"its VR is {vr}, which is bytes; it can only be asked for, without a value")
    if vr == "DA":
        text = _with_days(text)
    if not force:
        check = _CHECKS.get(vr)
        for part in [text] if vr in _ONE_VALUE else text.split("\\"):
            if check is not None:
                check(part.strip(" "), vr)
    return text


def _single(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else values


def _number(text: str, vr: str) -> Any:
    try:
        if vr in ("FL", "FD", "DS"):
            return float(text)
        number = int(text)
    except ValueError:
        raise ValueError(f"{text!r} is no number, as its VR {vr} needs; several are written 1\\2") from None
    low, high = _INTEGERS.get(vr, (-(1 << 31), (1 << 31) - 1))
    if not low <= number <= high:
        raise ValueError(f"{text} is out of the range of its VR {vr}: {low} to {high}")
    return number


def _attribute(text: str) -> int:
    from dicomnet.retrieval.paths import parse_path

    return parse_path(text).last.tag


def _with_days(text: str) -> str:
    """``today`` and ``yesterday`` as dates, also at the ends of a range."""
    today = datetime.date.today()

    def day(found: re.Match[str]) -> str:
        return (today + datetime.timedelta(_DAYS[found[0].lower()])).strftime("%Y%m%d")

    return re.sub(r"\b(?:today|yesterday)\b", day, text, flags=re.IGNORECASE)


# --- what is wrong with a value, by VR ------------------------------------------------------------------------------


def _check_time(text: str, vr: str) -> None:
    if text and moments.key(text, vr) is None:
        raise ValueError(f"{text!r} is no {_NAMES[vr]}; write {_EXAMPLES[vr]}")


def _check_uid(text: str, vr: str) -> None:
    if text and (len(text) > _LONGEST_UID or not _UID.fullmatch(text)):
        raise ValueError(
            f"{text!r} is no UID, which has at most {_LONGEST_UID} digits and dots, and no wildcards (PS3.4 C.2.2.2.2);"
            " a list is written 1.2.3\\1.2.4"
        )


def _check_code(text: str, vr: str) -> None:
    _check_length(text, vr)
    if not _CODE.fullmatch(text):
        better = f"; did you mean {text.upper()}?" if _CODE.fullmatch(text.upper()) else ""
        raise ValueError(f"{text!r}: its VR {vr} has upper case letters, digits, spaces and _ only{better}")


def _check_age(text: str, vr: str) -> None:
    if text and not _AGE.fullmatch(text):
        raise ValueError(f"{text!r} is no age; write 045Y, 018M, 006W or 003D")


def _check_name(text: str, vr: str) -> None:
    groups = text.split("=")
    if len(groups) > 3 or any(group.count("^") > 4 or len(group) > _GROUP for group in groups):
        raise ValueError(
            f"{text!r} is no name of a person: family^given^middle^prefix^suffix, at most {_GROUP} characters, and up"
            " to three such groups (alphabetic=ideographic=phonetic)"
        )


def _check_length(text: str, vr: str) -> None:
    if len(text.strip(" ")) > _LONGEST[vr]:
        raise ValueError(f"{text!r} is longer than the {_LONGEST[vr]} characters of its VR {vr}")


_NAMES: Final = {"DA": "date", "TM": "time", "DT": "date and time"}
_CHECKS: Final[dict[str, Callable[[str, str], None]]] = {
    **dict.fromkeys(("DA", "TM", "DT"), _check_time),
    **dict.fromkeys(("AE", "LO", "SH"), _check_length),
    "AS": _check_age,
    "CS": _check_code,
    "PN": _check_name,
    "UI": _check_uid,
}
