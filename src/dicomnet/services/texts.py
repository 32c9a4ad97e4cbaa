"""Text and names of persons as queries mean them (PS3.4 C.2.2.2.1, C.2.2.2.4; PS3.5 6.2): a key becomes a test."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import Any, Final

Test = Callable[[str], bool]

_NO_LEADING: Final = {"LT", "ST", "UC", "UR", "UT"}  # only trailing spaces are padding (PS3.5 6.2)


def same(text: str) -> str:
    return text


def _composed(text: str) -> str:
    """Letters with accents in one form only, as different character sets write them in different ones."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def padded(vr: str) -> Callable[[str], str]:
    """What takes the padding away that the VR does not count."""
    if vr in _NO_LEADING:
        return lambda text: _composed(text).rstrip(" ")
    return lambda text: _composed(text).strip(" ")


def uid(value: Any) -> str:
    return str(value).strip(" \0")


def text_test(wanted: str) -> Test:
    """Single value, or wildcards (C.2.2.2.1, C.2.2.2.4)."""
    return wildcard_test(wanted) if has_wildcards(wanted) else wanted.__eq__


def has_wildcards(text: str) -> bool:
    return "*" in text or "?" in text


def wildcard_test(pattern: str) -> Test:
    """``*`` is any number of characters, ``?`` is one; there is no way to escape them.

    Each ``*`` but the last takes the first place where its sequel fits and never another (an atomic group), which is
    enough for such patterns and keeps the time within pattern × text.
    """
    first, *others = (
        "".join("." if character == "?" else re.escape(character) for character in part)
        for part in re.sub(r"\*+", "*", pattern).split("*")
    )
    if not others:
        expression = first
    else:
        *middle, last = others
        expression = first + "".join(f"(?>.*?{part})" for part in middle) + f".*{last}"
    return _fullmatch(re.compile(expression, re.DOTALL))


def _fullmatch(expression: re.Pattern[str]) -> Test:
    return lambda text: expression.fullmatch(text) is not None


def _groups(name: str) -> list[str]:
    """The component groups of a PN, each without padding, without what is empty at its end, and in one case.

    PS3.5 6.2.1: trailing delimiters may be left out, of components and of groups.
    """
    groups = ("^".join(part.strip(" ") for part in group.split("^")).rstrip("^") for group in name.split("="))
    return [_composed(group).casefold() for group in groups]


def name_test(wanted: str) -> Test:
    """A key of one group asks for it in any group; one of several asks for each in its own place (C.2.2.2.1)."""
    keys = _groups(wanted)
    tests = [_group_test(key) for key in keys]

    def alone(name: str) -> bool:
        return any(map(tests[0], _groups(name)))

    def each(name: str) -> bool:
        groups = _groups(name)
        groups += [""] * (len(tests) - len(groups))
        return all(test(group) for key, test, group in zip(keys, tests, groups, strict=False) if key)

    return alone if len(keys) == 1 else each


def _group_test(wanted: str) -> Test:
    test = text_test(wanted)
    if "^" not in wanted or not has_wildcards(wanted):
        return test
    # "Doe^*" asks for components that "Doe" has not written.
    return lambda group: test(group) or test(group + "^" * (4 - group.count("^")))
