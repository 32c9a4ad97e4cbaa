"""Attribute matching (PS3.4 C.2.2.2): which data sets an identifier asks for, and what to answer.

One idea: an identifier is compiled once, into a check for each of its keys; a candidate then costs a few lookups. The
standard leaves some things open. Here, a value of several values matches if one of them does; a key of several values
asks for any of them; names of persons are compared without regard to case, each component group by itself; all text is
compared as decoded, so that character sets do not matter; a lone "*" asks for anything, whatever the VR.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterable, Iterator, MutableSequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from dicomnet.dimse.status import Status
from dicomnet.errors import InvalidDataset, StatusError
from dicomnet.services import moments, texts
from dicomnet.ul.extended import ExtendedQuery

if TYPE_CHECKING:
    from pydicom import DataElement, Dataset

    from dicomnet.dimse.provider import Indication

# What a peer may ask for; real identifiers stay a hundred times below each.
MOST_KEYS: Final = 2_000  # in all, items' keys included
MOST_VALUES: Final = 20_000  # of one key: lists of UIDs get long
DEEPEST: Final = 16  # sequences in sequences
LONGEST_PATTERN: Final = 1_024  # characters of a value with wildcards

_CHARACTER_SET: Final = 0x00080005
_LEVEL: Final = 0x00080052
_TIMEZONE: Final = 0x00080201
_NOT_MATCHED: Final = {_CHARACTER_SET, _LEVEL, _TIMEZONE}  # they tell how to read the others (C.2.2.2, C.4.1.1.3)

_UNIQUE_KEYS: Final = {  # of a level and of those above it (C.6.1.1, C.6.2.1)
    "PATIENT": (0x00100020,),
    "STUDY": (0x0020000D,),
    "SERIES": (0x0020000D, 0x0020000E),
    "IMAGE": (0x0020000D, 0x0020000E, 0x00080018),
}

_WILDCARDS: Final = {"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"}  # C.2.2.2.4
_TEXT: Final = {"LO", "LT", "SH", "ST", "UC", "UT"}  # in the data set's character set, like PN
_ASCII: Final = {"AE", "AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI", "UR"}
_TIMES: Final = {"DA", "TM", "DT"}
_NUMBERS: Final = {"DS", "FD", "FL", "IS", "SL", "SS", "SV", "UL", "US", "UV"}
_ONE_VALUE: Final = {"LT", "ST", "UR", "UT"}  # a backslash is a character like others

Check = Callable[["Dataset", "int | None"], bool]  # candidate or item of one; offset from UTC of the candidate
Test = Callable[[list[Any]], bool]  # an element's values


class Query:
    """The identifier of a C-FIND request, compiled: ``matches`` says yes or no, ``response`` gives the answer.

    ``identifier``: a pydicom Dataset. ``supported``: tags or keywords of the keys that are matched and returned; others
    are left out (None: no other). ``combined_datetimes``: a date range and a time range of the same form are the two
    ends of one range (extended negotiation, and always in worklists). ``empty_values``: the value of two quotation
    marks asks for what is empty (C.2.2.2.7). ``all_values``: a key of several values asks for all of them (C.2.2.2.8).

    ``unsupported``: the tags that were left out; if there are any, a match is answered with status FF01H. ``level``:
    the query/retrieve level, or empty. Raises StatusError A900H for an identifier that is none or passes the limits.
    """

    def __init__(
        self,
        identifier: Dataset,
        *,
        supported: Collection[int | str] | None = None,
        combined_datetimes: bool = False,
        empty_values: bool = False,
        all_values: bool = False,
    ) -> None:
        self.identifier = identifier
        compiler = _Compiler(
            supported=None if supported is None else {_tag(name) for name in supported},
            zone=_zone(identifier),
            combined=combined_datetimes,
            empty=empty_values,
            every=all_values,
        )
        self._root = compiler.level(identifier, DEEPEST)
        self._zoned = compiler.zoned
        self.unsupported = tuple(compiler.unsupported)
        self.level = _text_of(identifier, _LEVEL).strip(" ").upper()
        self._unique = _UNIQUE_KEYS.get(self.level, ())
        self._wants_zone = _TIMEZONE in identifier

    @classmethod
    def of(cls, request: Indication, *, hidden: Iterable[int | str] = (), **options: Any) -> Query:
        """The query that a C-FIND request asks for, with the kinds of matching that were negotiated for it (C.5.1.1).

        ``hidden``: tags or keywords that are neither matched nor returned. ``options`` go before what was negotiated.
        """
        if request.dataset is None:
            raise _unusable("the request has no identifier")
        try:
            identifier = request.dataset.decode()
        except InvalidDataset as error:
            raise _unusable(str(error)) from error
        for name in hidden:
            identifier.pop(_tag(name), None)
        asked = ExtendedQuery.decode(request.association.extended.get(request.context.abstract_syntax, b""))
        negotiated = {
            "combined_datetimes": asked.combined_datetime,
            "empty_values": asked.empty_value,
            "all_values": asked.multiple_value,
        }
        return cls(identifier, **{**negotiated, **options})

    def matches(self, candidate: Dataset) -> bool:
        """Every key matches. ``candidate``: a pydicom Dataset."""
        return self._root.matches(candidate, _zone(candidate) if self._zoned else None)

    def response(self, candidate: Dataset) -> Dataset:
        """The keys of the identifier with the candidate's values, and what always belongs to them (C.4.1.1.3.2).

        Of a sequence with item keys only the items that match are given. What the candidate does not have is empty.
        """
        answer = self._root.answer(candidate, _zone(candidate) if self._zoned else None)
        for tag in self._unique:
            if tag in candidate:
                answer[tag] = _copied(candidate[tag])
        if self.level:
            answer.QueryRetrieveLevel = self.level
        if self._wants_zone and _TIMEZONE in candidate:
            answer[_TIMEZONE] = _copied(candidate[_TIMEZONE])
        if _CHARACTER_SET in candidate:
            answer[_CHARACTER_SET] = _copied(candidate[_CHARACTER_SET])
        elif not _is_ascii(answer):
            answer.SpecificCharacterSet = "ISO_IR 192"
        return answer

    def select(self, candidates: Iterable[Dataset]) -> Iterator[Dataset]:
        """The responses for those that match, one after the other."""
        return (self.response(candidate) for candidate in candidates if self.matches(candidate))


def matches(identifier: Dataset, candidate: Dataset, **options: Any) -> bool:
    """True if every key of ``identifier`` matches ``candidate``. Options and errors are those of ``Query``."""
    return Query(identifier, **options).matches(candidate)


def response(identifier: Dataset, candidate: Dataset, **options: Any) -> Dataset:
    """What to answer for a candidate that matches. Options and errors are those of ``Query``."""
    return Query(identifier, **options).response(candidate)


# --- compiled -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Key:
    """``items``: the keys of a sequence's item, or None if there are none; ``empty``: without value, if no sequence."""

    tag: Any
    items: _Level | None
    empty: DataElement | None


@dataclass(frozen=True, slots=True)
class _Level:
    """The keys of an identifier, or of the item in one of its sequences."""

    keys: tuple[_Key, ...]
    checks: tuple[Check, ...]

    def matches(self, candidate: Dataset, zone: int | None) -> bool:
        return all(check(candidate, zone) for check in self.checks)

    def answer(self, candidate: Dataset, zone: int | None) -> Dataset:
        from pydicom import DataElement, Dataset

        elements: dict[Any, Any] = {}
        for key in self.keys:
            if key.tag not in candidate:
                elements[key.tag] = DataElement(key.tag, "SQ", []) if key.empty is None else _copied(key.empty)
                continue
            element = candidate[key.tag]
            if element.VR != "SQ":
                elements[key.tag] = _copied(element)
            elif key.items is None:
                elements[key.tag] = copy.deepcopy(element)
            else:
                items = [key.items.answer(item, zone) for item in element.value if key.items.matches(item, zone)]
                elements[key.tag] = DataElement(key.tag, "SQ", items)
        return Dataset(elements)


class _Compiler:
    """One identifier on its way to a ``_Level``."""

    def __init__(
        self, *, supported: set[int] | None, zone: int | None, combined: bool, empty: bool, every: bool
    ) -> None:
        self._supported = supported
        self._zone = zone
        self._combined = combined
        self._empty = empty
        self._every = every
        self._keys = 0
        self.zoned = False
        self.unsupported: list[int] = []

    def level(self, identifier: Dataset, depth: int) -> _Level:
        from pydicom import DataElement

        if not depth:
            raise _unusable(f"sequences nest deeper than {DEEPEST} levels")
        keys, checks, ranges = [], [], {}
        for tag in sorted(identifier.keys()):
            if tag in _NOT_MATCHED or not tag.element:  # a group length is none of the user's
                continue
            self._keys += 1
            if self._keys > MOST_KEYS:
                raise _unusable(f"more than {MOST_KEYS} keys")
            if self._supported is not None and tag not in self._supported:
                self.unsupported.append(tag)
                continue
            vr, values = _read(identifier, tag)
            if vr == "SQ":
                items = self._items(tag, values, depth)
                keys.append(_Key(tag, items, None))
                if items and items.checks:
                    checks.append(_some_item(tag, items))
                continue
            keys.append(_Key(tag, None, DataElement(tag, vr, None)))
            if vr in _TIMES and self._combined and len(values) == 1 and moments.ends(values[0], vr):
                ranges[tag] = vr, values[0]
            elif check := self._check(tag, vr, values):
                checks.append(check)
        return _Level(tuple(keys), (*checks, *self._ranges(ranges)))

    def _items(self, tag: Any, values: list[Any], depth: int) -> _Level | None:
        if len(values) > 1:
            raise _unusable(f"{tag} has {len(values)} items; a key has one (C.2.2.2.6)")
        return self.level(values[0], depth - 1) if values and len(values[0]) else None

    def _ranges(self, ranges: dict[Any, tuple[str, str]]) -> Iterator[Check]:
        """Date and time ranges of one form become one range, the others stay what they are (C.2.2.2.5)."""
        from pydicom.datadict import keyword_for_tag, tag_for_keyword

        left = dict(ranges)
        for tag, (vr, text) in ranges.items():
            partner = tag_for_keyword(keyword_for_tag(tag).removesuffix("Date") + "Time") if vr == "DA" else None
            if partner in left:
                both = moments.ends(text, "DA"), moments.ends(left[partner][1], "TM")
                check = self._date_and_time(tag, partner, both)
                if check:
                    yield check
                    del left[tag], left[partner]
        for tag, (vr, text) in left.items():
            check = self._check(tag, vr, [text])
            assert check is not None  # a range has a value
            yield check

    def _date_and_time(self, tag: Any, partner: Any, both: Any) -> Check | None:
        (first_day, last_day), (first_time, last_time) = both
        if (bool(first_day), bool(last_day)) != (bool(first_time), bool(last_time)):
            return None
        low = moments.moment_of(first_day, first_time, self._zone)
        high = moments.moment_of(last_day, last_time, self._zone)
        if (first_day and low is None) or (last_day and high is None) or not (low or high):
            return None  # the checks of each will say what is wrong
        wanted = moments.Range(low, high)
        self.zoned = True

        def check(candidate: Dataset, zone: int | None) -> bool:
            span = moments.moment_of(_text_of(candidate, tag), _text_of(candidate, partner), zone)
            return span is not None and wanted.has(span)

        return check

    def _check(self, tag: Any, vr: str, values: list[Any]) -> Check | None:
        """None for a key that matches everything (C.2.2.2.3)."""
        wanted = [value for value in values if not _asks_for_anything(value, vr)]
        if not wanted or (len(wanted) < len(values) and not self._every):
            return None
        if len(wanted) > MOST_VALUES:
            raise _unusable(f"{tag} has more than {MOST_VALUES} values")
        if self._empty and [str(value).strip(" ") for value in wanted] == ['""']:
            return lambda candidate, zone: not _values_of(candidate, tag)
        if vr == "DT":
            self.zoned = True
            return self._moments(tag, [self._range(tag, vr, text) for text in wanted])
        tests = self._tests(tag, vr, wanted)
        combine = all if self._every and vr != "UI" else any

        def check(candidate: Dataset, zone: int | None) -> bool:
            found = _values_of(candidate, tag)
            return bool(found) and combine(test(found) for test in tests)

        return check

    def _moments(self, tag: Any, ranges: list[moments.Range]) -> Check:
        def check(candidate: Dataset, zone: int | None) -> bool:
            spans = [moments.moment(str(value), zone) for value in _values_of(candidate, tag)]
            return any(wanted.has(span) for span in spans if span for wanted in ranges)

        return check

    def _range(self, tag: Any, vr: str, text: str) -> moments.Range:
        wanted = moments.key(text, vr, self._zone)
        if wanted is None:
            raise _unusable(f"{tag} is no {vr} and no range of it")
        return wanted

    def _tests(self, tag: Any, vr: str, wanted: list[Any]) -> list[Test]:
        if vr == "UI":  # a list of UIDs is one key (C.2.2.2.2)
            uids = frozenset(texts.uid(value) for value in wanted)
            return [lambda found: any(texts.uid(value) in uids for value in found)]
        if vr in ("DA", "TM"):
            return [_in_range(self._range(tag, vr, text), vr) for text in wanted]
        if vr == "PN":
            return [_any_text(texts.name_test(_pattern(tag, text)), texts.same) for text in wanted]
        if vr in _WILDCARDS:
            fold = texts.padded(vr)
            return [_any_text(texts.text_test(fold(_pattern(tag, text))), fold) for text in wanted]
        if vr in _NUMBERS:
            return [_any_number(value) for value in wanted]
        return [_any_text(str(value).strip(" ").__eq__, lambda text: text.strip(" ")) for value in wanted]


def _asks_for_anything(value: Any, vr: str) -> bool:
    """Nothing but padding, or stars (C.2.2.2.3, C.2.2.2.4)."""
    text = str(value).strip(" \0")
    return (text.strip("^=") if vr == "PN" else text).strip("*") == ""


def _some_item(tag: Any, items: _Level) -> Check:
    """One item has everything that is asked for (C.2.2.2.6)."""

    def check(candidate: Dataset, zone: int | None) -> bool:
        element = candidate.get(tag)
        if element is None or element.VR != "SQ":
            return False
        return any(items.matches(item, zone) for item in element.value)

    return check


def _in_range(wanted: moments.Range, vr: str) -> Test:
    parse = moments.PARSERS[vr]

    def test(found: list[Any]) -> bool:
        spans = (parse(str(value)) for value in found)
        return any(wanted.has(span) for span in spans if span)

    return test


def _any_text(test: texts.Test, fold: Callable[[str], str]) -> Test:
    return lambda found: any(test(fold(str(value))) for value in found)


def _pattern(tag: Any, value: Any) -> str:
    text = str(value)
    if len(text) > LONGEST_PATTERN and texts.has_wildcards(text):
        raise _unusable(f"{tag}: more than {LONGEST_PATTERN} characters with wildcards")
    return text


def _any_number(wanted: Any) -> Test:
    """As numbers, so that "1" finds "01"."""
    number = _number(wanted)
    return lambda found: any(_number(value) == number for value in found)


def _number(value: Any) -> Any:
    try:
        return float(value)
    except (TypeError, ValueError):
        return str(value).strip(" ")


# --- pydicom --------------------------------------------------------------------------------------------------------


def _unusable(why: str) -> StatusError:
    """The identifier does not match the SOP class (C.4.1.1.4)."""
    return StatusError(Status.DATASET_MISMATCH, why)


def _tag(name: int | str) -> int:
    from pydicom.tag import Tag

    return Tag(name)


def _read(identifier: Dataset, tag: Any) -> tuple[str, list[Any]]:
    """VR and values of a key. Keys may hold what their VR forbids: it is not pydicom that reads those."""
    from pydicom.datadict import dictionary_VR

    raw = identifier.get_item(tag)
    try:
        vr = dictionary_VR(tag).partition(" or ")[0]
    except KeyError:  # private, or of a later edition
        vr = raw.VR or "UN"
    if raw.is_raw and vr in _ASCII and isinstance(raw.value, bytes | None):
        text = (raw.value or b"").decode("latin-1").rstrip(" \0")
        return vr, [text] if vr in _ONE_VALUE else text.split("\\")
    try:
        element = identifier[tag]
    except Exception as error:  # pydicom documents no closed set of errors for values that it cannot read
        raise _unusable(f"{tag} cannot be read") from error
    if (element.VR == "SQ") is not (vr == "SQ"):
        raise _unusable(f"{tag} has VR {element.VR} instead of {vr}")
    return vr, [str(value) for value in _values(element)] if vr in _TIMES else _values(element)


def _copied(element: DataElement) -> DataElement:
    """A copy whose value can be replaced; ``copy.copy`` takes five times as long."""
    result = object.__new__(type(element))
    result.__dict__.update(element.__dict__)
    return result


def _values(element: DataElement) -> list[Any]:
    value = element.value
    if value is None:
        return []
    return list(value) if isinstance(value, MutableSequence) else [value]


def _values_of(candidate: Dataset, tag: Any) -> list[Any]:
    """The values that are not empty; a sequence has none that a key of another VR could match."""
    element = candidate.get(tag)
    if element is None or element.VR == "SQ":
        return []
    return [value for value in _values(element) if value not in ("", b"")]


def _text_of(dataset: Dataset, tag: Any) -> str:
    values = _values_of(dataset, tag)
    return str(values[0]) if values else ""


def _zone(dataset: Dataset) -> int | None:
    return moments.offset(_text_of(dataset, _TIMEZONE))


def _is_ascii(dataset: Dataset) -> bool:
    for element in dataset:
        if element.VR == "SQ":
            if not all(map(_is_ascii, element.value)):
                return False
        elif (element.VR in _TEXT or element.VR == "PN") and not str(element.value).isascii():
            return False
    return True
