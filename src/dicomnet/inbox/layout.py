"""Where a received instance goes: a template such as ``{PatientID}/{StudyInstanceUID}/{SOPInstanceUID}.dcm``, whatever
the values are.

One idea: a value that is plainly harmless as a file name is the name. Of any other the harmless part is kept for the
reader, and a digest of all of it makes the name different from every other value's. ``~`` stands between the two and
in no harmless value, so that the two kinds never meet.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from dicomnet.scan import PATIENT_ID, SERIES_INSTANCE_UID, STUDY_INSTANCE_UID, dataset_values

if TYPE_CHECKING:
    from dicomnet.dataset import EncodedDataset

DEFAULT: Final = "{PatientID}/{StudyInstanceUID}/{SeriesInstanceUID}/{SOPInstanceUID}.dcm"

_HARMLESS_UID: Final = re.compile(r"[0-9](?:[0-9.]{0,62}[0-9])?")  # also where upper and lower case are the same
_HARMLESS: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9_-])?")
_DOUBTFUL: Final = re.compile(r"[^A-Za-z0-9_-]+")
_KEPT: Final = 32  # characters of a value that is not harmless
_DIGEST: Final = 16  # bytes: no two values with the same one can be made, let alone met
# What Windows takes for a device, also with an extension.
_DEVICES: Final = frozenset(
    ("CON", "PRN", "AUX", "NUL", *(f"{port}{number}" for port in ("COM", "LPT") for number in range(10)))
)

_FIELD: Final = re.compile(r"\{([A-Za-z0-9]+)(?::([0-9]{1,2}))?\}")
_LITERAL: Final = re.compile(r"[A-Za-z0-9._ =+,-]*")
_MOST_PARTS: Final = 10  # folders, and the file: their names together stay below what systems take for a path
_MOST_FIELDS: Final = 3  # of a part: a name has at most 255 bytes, a value at most 65
_MOST_LITERAL: Final = 40  # characters of a part besides its values
_TEXT_VRS: Final = frozenset(("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "PN", "SH", "TM", "UI"))
_PIXELS: Final = 0x7FE00000  # no tag from here on is a name for anything

# What is known without looking into the data set.
_SOP_INSTANCE_UID: Final = "SOPInstanceUID"
_KNOWN: Final[dict[str, Callable[[EncodedDataset], str]]] = {
    _SOP_INSTANCE_UID: lambda dataset: dataset.sop_instance_uid,
    "SOPClassUID": lambda dataset: dataset.sop_class_uid,
    "TransferSyntaxUID": lambda dataset: dataset.transfer_syntax,
    "CallingAE": lambda dataset: _ae_titles(dataset)[0],
    "CalledAE": lambda dataset: _ae_titles(dataset)[1],
    "Date": lambda _dataset: time.strftime("%Y%m%d"),
}
_MISSING: Final = {"StudyInstanceUID": "no-study-uid", "SeriesInstanceUID": "no-series-uid"}  # others: no-patient-id
STUDY: Final = (PATIENT_ID, STUDY_INSTANCE_UID, SERIES_INSTANCE_UID)  # tags that are read of each instance


class Place(NamedTuple):
    """Where an instance goes: ``folder`` relative, with ``/``; empty for none. ``values``: of the tags read."""

    folder: str
    name: str
    values: Mapping[int, str]


_new: Final = tuple.__new__  # half of what Place() takes


class _Field(NamedTuple):
    """A placeholder. ``tag``: 0 for what is known without one. ``length``: how many characters of it, 0 for all."""

    keyword: str
    tag: int
    is_uid: bool
    length: int

    def name(self, value: str) -> str:
        if not value:
            return _MISSING.get(self.keyword) or "no" + re.sub("(?<=[a-z])(?=[A-Z])|^", "-", self.keyword).lower()
        if self.length:
            value = value[: self.length]
        return file_name(value) if self.is_uid else folder_name(value)


_Part = tuple["str | _Field", ...]


class Layout:
    """A template: parts with ``/`` between them, of harmless letters and placeholders.

    ``{Keyword}`` is an element of the data set with a short text, ``{Keyword:4}`` its first four characters;
    ``{CallingAE}``, ``{CalledAE}`` and ``{Date}`` (of today, as 20260131) are known, too. ``{SOPInstanceUID}`` has to
    be there, whole: it makes the names of different instances different. Raises ValueError for anything else.
    """

    def __init__(self, template: str = DEFAULT) -> None:
        self.template = template
        parts = [_parse(part, template) for part in template.split("/")]
        if len(parts) > _MOST_PARTS:
            raise ValueError(f"a layout has at most {_MOST_PARTS} parts, not {len(parts)}: {template!r}")
        fields = [[piece for piece in part if isinstance(piece, _Field)] for part in parts]
        if not any(field.keyword == _SOP_INSTANCE_UID and not field.length for part in fields for field in part):
            raise ValueError(
                f"the layout {template!r} needs {{SOPInstanceUID}}, or different instances would have the same name;"
                f" for example {DEFAULT}"
            )
        # Those of a study are read in any case: who stores wants to tell which one it was.
        self._tags = tuple(sorted({*STUDY, *(field.tag for part in fields for field in part if field.tag)}))
        self._folder_fields = [field for part in fields[:-1] for field in part]
        self._name_fields = fields[-1]
        self._folder_tags = None
        if all(field.tag for field in self._folder_fields):
            self._folder_tags = tuple(field.tag for field in self._folder_fields)
        self._plain_suffix = _plain_suffix(parts[-1])
        self._name_parts = parts[-1:]
        self._last: tuple[Mapping[int, str] | None, str] = None, ""  # values, and the folder if they tell it
        self._folder_of = lru_cache(maxsize=1024)(lambda values: _path(parts[:-1], values))
        holding = [at for at, part in enumerate(fields[:-1]) if any(f.tag == STUDY_INSTANCE_UID for f in part)]
        # Whether no two studies have an instance in the same folder.
        self.parts_studies = any(f.tag == STUDY_INSTANCE_UID and not f.length for part in fields[:-1] for f in part)
        self._study_depth = holding[-1] + 1 if holding else len(parts) - 1

    def __reduce__(self) -> tuple[Any, ...]:  # to processes that are spawned
        return Layout, (self.template,)

    def place(self, dataset: EncodedDataset) -> Place:
        """Where ``dataset`` goes."""
        values = dataset_values(dataset, self._tags)
        last_values, folder = self._last
        if values is not last_values:  # they are the same object for most that follow each other
            if self._folder_tags is None:
                folder = self._folder_of(tuple([_value(field, dataset, values) for field in self._folder_fields]))
            else:
                folder = self._folder_of(tuple([values.get(tag, "") for tag in self._folder_tags]))
                self._last = values, folder
        if self._plain_suffix is not None:
            uid = dataset.sop_instance_uid
            name = uid if _HARMLESS_UID.fullmatch(uid) else _disarmed(uid)
            return _new(Place, (folder, name + self._plain_suffix, values))
        name = _path(self._name_parts, tuple([_value(field, dataset, values) for field in self._name_fields]))
        return Place(folder, name, values)

    def study_folder(self, folder: str) -> str:
        """Of an instance's folder that of its study: up to where the template has the study's UID, or all of it."""
        return "/".join(folder.split("/")[: self._study_depth])


def _value(field: _Field, dataset: EncodedDataset, values: Mapping[int, str]) -> str:
    return values.get(field.tag, "") if field.tag else _KNOWN[field.keyword](dataset)


def _ae_titles(dataset: EncodedDataset) -> tuple[str, str]:
    return dataset._ae_titles or ("", "")


def _path(parts: Iterable[_Part], values: Iterable[str]) -> str:
    """The parts with the values in place of their fields."""
    given = iter(values)
    names = ("".join(piece if isinstance(piece, str) else piece.name(next(given)) for piece in part) for part in parts)
    return "/".join(_disarmed(name) if _is_device(name) else name for name in names)


# --- templates ------------------------------------------------------------------------------------------------------


def _parse(part: str, template: str) -> _Part:
    pieces: list[str | _Field] = []
    end = 0
    for match in _FIELD.finditer(part):
        pieces += [part[end : match.start()], _field(match[1], int(match[2] or 0))]
        end = match.end()
    pieces.append(part[end:])
    literals = [piece for piece in pieces if isinstance(piece, str)]
    wrong = next((literal for literal in literals if not _LITERAL.fullmatch(literal)), None)
    if wrong is not None:
        raise ValueError(
            f"the layout {template!r} has {wrong!r} in it, which is neither a placeholder such as {{PatientID}} or"
            " {StudyDate:4} nor made of letters, digits and . _ - = + , and spaces"
        )
    if not part or part[0] in ".- " or part[-1] in ". " or (len(pieces) == 1 and _is_device(part)):
        raise ValueError(f"the layout {template!r} has a part {part!r}, which is no good as a name on every system")
    if len(pieces) // 2 > _MOST_FIELDS or sum(map(len, literals)) > _MOST_LITERAL:
        raise ValueError(
            f"the part {part!r} of a layout is too long: it may have {_MOST_FIELDS} placeholders, and {_MOST_LITERAL}"
            " letters besides"
        )
    _check_separated(pieces, part)
    return tuple(piece for piece in pieces if piece)


def _check_separated(pieces: list[str | _Field], part: str) -> None:
    """Where the instance UID ends must be plain: ``1`` and ``23`` must not have the name of ``12`` and ``3``."""
    for at, piece in enumerate(pieces):
        if isinstance(piece, _Field) and piece.keyword == _SOP_INSTANCE_UID:
            between = [pieces[at - 1]] * (at > 1) + [pieces[at + 1]] * (at + 2 < len(pieces))
            if not all("-" in str(literal) or "_" in str(literal) for literal in between):
                raise ValueError(f"the part {part!r} of a layout needs a - or _ between {{SOPInstanceUID}} and others")


def _field(keyword: str, length: int) -> _Field:
    if keyword in _KNOWN:
        return _Field(keyword, 0, keyword.endswith("UID"), length)
    from pydicom.datadict import dictionary_VR, tag_for_keyword

    tag = tag_for_keyword(keyword)
    if tag is None or not 0x00080000 <= tag < _PIXELS or dictionary_VR(tag) not in _TEXT_VRS:
        raise ValueError(
            f"a layout cannot have {{{keyword}}}: known are {', '.join(_KNOWN)}, and the keyword of each element with a"
            " short text, such as PatientID, StudyDate, Modality, SeriesNumber (PS3.6 lists them)"
        )
    return _Field(keyword, int(tag), dictionary_VR(tag) == "UI", length)


def _plain_suffix(part: _Part) -> str | None:
    """Of the usual file name, the instance UID and a suffix, the suffix."""
    match part:
        case (_Field(keyword="SOPInstanceUID", length=0), str(suffix)):
            return suffix
        case _:
            return None


# --- names ----------------------------------------------------------------------------------------------------------


def file_name(uid: str) -> str:
    """A UID as a file name: different for different UIDs, on every file system."""
    return uid if _HARMLESS_UID.fullmatch(uid) else _disarmed(uid)


def folder_name(text: str) -> str:
    """A text, such as a patient ID, as a file name; upper and lower case stay as they are."""
    return text if _HARMLESS.fullmatch(text) and not _is_device(text) else _disarmed(text)


def _is_device(name: str) -> bool:
    return name.partition(".")[0].upper() in _DEVICES


def _disarmed(text: str) -> str:
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST).hexdigest()
    return f"{_DOUBTFUL.sub('_', text)[:_KEPT].strip('_-')}~{digest}"
