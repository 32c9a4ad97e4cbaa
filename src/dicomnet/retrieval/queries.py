"""Identifiers of C-FIND, C-GET and C-MOVE (PS3.4 C.4.1.1.3, C.4.2.1.4) from keys as text: ``PatientName=DOE^*``.

One idea: a key is a path and perhaps a value; one without a value asks for the attribute to be returned. What is not
given follows from what is: the level, what to return, the character set.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from dicomnet.retrieval import levels, values
from dicomnet.retrieval.paths import Path, Step, parse, parse_path

if TYPE_CHECKING:
    from pydicom import Dataset

CHARACTER_SET: Final = "ISO_IR 192"  # UTF-8, if a value is not ASCII
_CHARACTER_SET: Final = 0x00080005
_LEVEL: Final = 0x00080052
_NOT_SHOWN: Final = (_CHARACTER_SET, _LEVEL)
_MOST_ITEMS: Final = 100  # of one sequence; the standard allows one in most


@dataclass(frozen=True, slots=True)
class Key:
    """``text``: what is to match, as it was typed; None asks for the attribute to be returned."""

    path: Path
    text: str | None

    def __str__(self) -> str:
        return str(self.path) if self.text is None else f"{self.path}={self.text}"


@dataclass(frozen=True, slots=True)
class Query:
    """What goes out. ``level``: None where the model has none. ``columns``: what of a match to show, of which the first
    ``chosen`` were asked for and the others are what is usual. ``relational``: the peer was asked to do without the
    keys of the levels above.
    """

    model: str
    level: str | None
    identifier: Dataset
    columns: tuple[Path, ...] = ()
    chosen: int = 0
    relational: bool = False


def parse_key(text: str) -> Key:
    """``PATH`` or ``PATH=VALUE``. Raises ValueError, and says what to write."""
    path, rest = parse(text)
    rest = rest.lstrip(" ")
    if rest and not rest.startswith("="):
        raise ValueError(f"{text!r}: {rest!r} follows {path}; a value stands behind '=': {path}=VALUE")
    return Key(path, rest[1:] or None)


def key_lines(lines: Iterable[str]) -> Iterator[str]:
    """The keys in a file: one a line; empty lines, and those that begin with #, are not."""
    for line in lines:
        key = line.strip("\ufeff\r\n").strip()
        if key and not key.startswith("#"):
            yield key


def find_query(
    keys: Sequence[Key],
    *,
    model: str = "study",
    level: str | None = None,
    columns: Sequence[Path] = (),
    charset: str | None = None,
    force: bool = False,
) -> Query:
    """What a C-FIND asks for.

    ``columns``: what to return and to show; none are all that the keys name, and what is usual for model and level if
    no key asks for anything. Raises ValueError for keys that no provider could understand; see ``values.value_of``
    for ``force``.
    """
    named = [key.path for key in keys] + list(columns)
    level = _level(level, named, model)
    if columns:
        shown = list(dict.fromkeys(columns))
        chosen = len(shown)
    else:
        shown = list(dict.fromkeys(_shown(key.path for key in keys)))
        chosen = len(shown)
        if all(key.text is not None for key in keys):
            shown += [parse_path(text) for text in levels.return_keys(model, level)]
    shown = list(dict.fromkeys(shown))
    given = {key.path for key in keys}
    returned = [Key(path, None) for path in shown if path not in given]
    identifier = _identifier([*keys, *returned], level, charset, force)
    return Query(model, level, identifier, tuple(shown), chosen)


def retrieve_query(
    keys: Sequence[Key],
    *,
    operation: str,
    model: str = "study",
    level: str | None = None,
    charset: str | None = None,
    force: bool = False,
) -> Query:
    """What a C-GET or C-MOVE asks for: entities of one level by their unique keys (PS3.4 C.4.2.1.4.1).

    Raises ValueError for keys without a value, for others than unique ones (unless ``force``), and where the one of the
    level is missing.
    """
    level = _level(level, [key.path for key in keys], model)
    for key in keys:
        if key.text is None:
            raise ValueError(f"{key}: a {operation} returns no attributes; give a value: {key}=VALUE")
    if not force:
        _check_unique(keys, level, operation)
    return Query(model, level, _identifier(keys, level, charset, force))


def _check_unique(keys: Sequence[Key], level: str | None, operation: str) -> None:
    wanted = levels.UNIQUE_KEYS["IMAGE" if level is None else level]
    allowed = ("SpecificCharacterSet", "QueryRetrieveLevel", *levels.UNIQUE_KEYS.values())
    for key in keys:
        name = str(key.path)
        if name not in allowed:
            raise ValueError(
                f"{key}: a {operation} names what it wants by {', '.join(levels.UNIQUE_KEYS.values())} alone;"
                " find out the UIDs with dicomnet find, or send the key all the same: --force"
            )
        if name in levels.UNIQUE_KEYS.values() and any(wild in (key.text or "") for wild in "*?"):
            raise ValueError(f"{key}: a {operation} takes no wildcards; find out what there is with dicomnet find")
    if not any(str(key.path) == wanted for key in keys):
        at = "" if level is None else f" at level {level}"
        raise ValueError(
            f"a {operation}{at} needs {wanted}: -k {wanted}=…; find it out with dicomnet find, or give another --level"
        )


def _level(level: str | None, named: Iterable[Path], model: str) -> str | None:
    if level is None:
        return levels.level_of((str(path.steps[0]) for path in named), model)
    if model not in levels.WITH_LEVEL:
        raise ValueError(f"the model {model} has no levels; they are for {', '.join(levels.WITH_LEVEL)}")
    if level == "PATIENT" and model not in ("patient", "patient-study-only"):
        raise ValueError(f"the model {model} begins at STUDY; patients are found with the model patient")
    return level


def _shown(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.last.tag not in _NOT_SHOWN:
            # An item that is asked for as a whole is shown as its sequence.
            *leading, last = path.steps
            yield Path((*leading, Step(last.tag, last.vr))) if last.item is not None else path


# --- identifiers ----------------------------------------------------------------------------------------------------


def _identifier(keys: Sequence[Key], level: str | None, charset: str | None, force: bool) -> Dataset:
    from pydicom import Dataset

    identifier = Dataset()
    texts: list[Key] = []
    for key in keys:
        try:
            _put(identifier, key, force)
        except ValueError as error:
            raise ValueError(f"{key.path}: {error}") from None
        if key.text is not None and values.is_text(key.path.last.vr):
            texts.append(key)
    if level is not None and _LEVEL not in identifier:
        _set(identifier, _LEVEL, "CS", level)
    _set_character_set(identifier, texts, charset)
    return identifier


def _put(dataset: Any, key: Key, force: bool) -> None:
    *leading, last = key.path.steps
    for step in leading:
        dataset = _item(dataset, step)
    if last.item is not None:
        _item(dataset, last)
        if key.text is not None:
            values.value_of(key.text, last.vr)
    elif key.text is not None:
        _set(dataset, last.tag, last.vr, values.value_of(key.text, last.vr, force=force))
    elif last.tag not in dataset:  # a value that was given before stays
        _set(dataset, last.tag, last.vr, [] if last.vr == "SQ" else None)


def _item(dataset: Any, step: Step) -> Any:
    from pydicom import Dataset

    if step.tag not in dataset:
        _set(dataset, step.tag, "SQ", [])
    items, number = dataset[step.tag].value, step.item or 0
    if number > len(items) or number >= _MOST_ITEMS:
        raise ValueError(f"item {number} without item {len(items)}; items are counted from 0, and queries have one")
    if number == len(items):
        items.append(Dataset())
    return items[number]


def _set(dataset: Any, tag: int, vr: str, value: Any) -> None:
    """Keys may hold what their VR forbids, such as wildcards and ranges: pydicom is not to warn of it."""
    from pydicom import DataElement, config

    dataset[tag] = DataElement(tag, vr, value, validation_mode=config.IGNORE)


def _set_character_set(identifier: Any, texts: Sequence[Key], charset: str | None) -> None:
    """Specific Character Set (PS3.3 C.12.1.1.2): that of the values, if they need one. Raises ValueError."""
    given = identifier.get(_CHARACTER_SET)
    if charset is None and given is not None and given.value:
        charset = "\\".join([given.value] if isinstance(given.value, str) else given.value)
    foreign = [key for key in texts if not (key.text or "").isascii()]
    if charset is None:
        if not foreign:
            return
        charset = CHARACTER_SET
    terms = charset.split("\\")
    _check_character_set(terms)
    _set(identifier, _CHARACTER_SET, "CS", terms[0] if len(terms) == 1 else terms)
    for key in foreign:
        if not _can_encode(key, terms):
            raise ValueError(f"{key}: the character set {charset} has not all of these characters; {CHARACTER_SET} has")


def _check_character_set(terms: Sequence[str]) -> None:
    from pydicom.charset import python_encoding

    for number, term in enumerate(terms):
        if term not in python_encoding or not (term or not number):
            known = ", ".join(sorted(name for name in python_encoding if name))
            raise ValueError(f"there is no character set {term!r} (PS3.3 C.12.1.1.2); there are {known}")


def _can_encode(key: Key, terms: Sequence[str]) -> bool:
    """Whether what is sent is read as what was typed."""
    from pydicom.charset import convert_encodings, decode_bytes, encode_string

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what cannot be encoded, which is asked for here
        encodings = convert_encodings(list(terms))
        parts = (key.text or "").replace("=", "^").replace("\\", "^").split("^")
        return all(decode_bytes(encode_string(part, encodings), encodings, set()) == part for part in parts)
