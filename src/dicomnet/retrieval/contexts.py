"""Presentation contexts for a C-GET (PS3.4 C.4.3, PS3.8 9.3.2.2): what may come, as it is, in at most 128 of them.

The acceptor chooses one transfer syntax of a context. So a class that has one context for all of them gets its
compressed instances decompressed, or not at all; where there are few classes, each transfer syntax has one of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from dicomnet.models import MODELS, may_be_storage, query_class
from dicomnet.ul.negotiation import DEFAULT_TRANSFER_SYNTAXES, MAX_CONTEXTS

if TYPE_CHECKING:
    from pydicom import Dataset

Context = tuple[str, tuple[str, ...]]
Find: TypeAlias = "Callable[[Dataset], Iterable[Dataset]]"

_ROOM: Final = MAX_CONTEXTS - 1  # beside the one of C-GET itself
_MOST_SERIES: Final = 100  # that are asked for their classes one by one
_JPEG: Final = "1.2.840.10008.1.2.4."
# Of images, those that archives have most first: JPEG lossless, baseline, 2000, RLE, JPEG-LS, extended, HTJ2K, video.
COMPRESSED: Final = (
    *(f"{_JPEG}{last}" for last in ("70", "50", "90", "91")),
    "1.2.840.10008.1.2.5",
    *(f"{_JPEG}{last}" for last in ("80", "51", "81", "57", "202", "201", "203", "100", "101", "102", "103", "104")),
    *(f"{_JPEG}{last}" for last in ("105", "106", "107", "108", "92", "93", "110", "111", "112")),
)
_RARE: Final = ("1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2")  # deflated, big endian

_STORAGE: Final = "1.2.840.10008.5.1.4.1.1."
# By how often archives have them; what is left out can be named. No images: they are not compressed.
_IMAGES: Final = tuple(
    _STORAGE + last
    for last in (
        *("2", "4", "1.1", "1", "1.2", "7", "6.1", "3.1", "1.3", "12.1", "128", "2.1", "4.1", "130", "20", "1.1.1"),
        *("1.2.1", "1.3.1", "13.1.3", "13.1.1", "12.2", "12.1.1", "12.2.1", "2.2", "4.3", "5", "3", "6", "6.2"),
        *("77.1.1", "77.1.2", "77.1.4", "77.1.4.1", "77.1.1.1", "77.1.2.1", "77.1.6", "77.1.5.1", "77.1.5.4"),
        *("7.1", "7.2", "7.3", "7.4", "481.1", "14.1"),
    )
)
_OTHERS: Final = tuple(
    _STORAGE + last
    for last in (
        *(
            "11.1",
            "88.11",
            "88.22",
            "88.33",
            "88.59",
            "88.67",
            "104.1",
            "481.2",
            "481.3",
            "481.5",
            "481.8",
            "66",
            "66.1",
        ),
        *("66.4", "66.5", "9.1.1", "9.1.2", "104.2", "88.50", "88.65", "11.2", "30", "68.1"),
    )
)
COMMON: Final = (*_IMAGES, *_OTHERS)


def contexts(sop_classes: Sequence[str] = ()) -> list[Context]:
    """For these SOP classes, or, if there are none, for those that are common. Raises ValueError for more than fit."""
    classes = tuple(dict.fromkeys(sop_classes)) or COMMON
    if len(classes) > _ROOM:
        raise ValueError(f"{len(classes)} SOP classes; one association has room for {_ROOM} (PS3.8 9.3.2.2)")
    images = [uid for uid in classes if uid not in _OTHERS]
    each = max(1, (_ROOM - len(classes) + len(images)) // max(len(images), 1))
    return [context for uid in classes for context in _of_class(uid, each if uid in images else 1)]


def _of_class(uid: str, most: int) -> list[Context]:
    """At most so many: one for each transfer syntax as far as possible, and one for all the others."""
    if uid in _OTHERS:
        return [(uid, (*DEFAULT_TRANSFER_SYNTAXES, *_RARE))]
    if most == 1:
        return [(uid, (*DEFAULT_TRANSFER_SYNTAXES, *COMPRESSED, *_RARE))]
    alone, rest = COMPRESSED[: most - 2], (*COMPRESSED[most - 2 :], *_RARE)
    return [(uid, DEFAULT_TRANSFER_SYNTAXES), *((uid, (syntax,)) for syntax in alone), (uid, rest)]


def classes_at(find: Find, identifier: Dataset) -> tuple[str, ...]:
    """The SOP classes of what a retrieval asks for, as far as the peer tells; none where it does not.

    ``find``: asks the peer, and gives its matches. Asks for SOP Classes in Study, which is optional, then for the
    instances (PS3.4 C.6.2.1.2), of so many series at most. Raises what ``find`` raises.
    """
    study = identifier.get("StudyInstanceUID")
    if not study or not isinstance(study, str):
        return ()
    keys = {name: identifier[name].value for name in ("PatientID", "StudyInstanceUID") if name in identifier}
    found: dict[str, None] = {}
    if identifier.get("QueryRetrieveLevel") == "STUDY":
        _gather(found, find(_asking("STUDY", keys, "SOPClassesInStudy")), "SOPClassesInStudy")
    if not found:
        for series in _series(find, identifier, keys):
            _of_series(found, find, identifier, keys | {"SeriesInstanceUID": series})
    return tuple(found)


def _of_series(found: dict[str, None], find: Find, identifier: Dataset, keys: dict[str, Any]) -> None:
    returned = ["SOPInstanceUID", "SOPClassUID"]
    if identifier.get("QueryRetrieveLevel") == "IMAGE":
        returned.remove("SOPInstanceUID")
        keys["SOPInstanceUID"] = identifier["SOPInstanceUID"].value
    _gather(found, find(_asking("IMAGE", keys, *returned)), "SOPClassUID")


def _series(find: Find, identifier: Dataset, keys: dict[str, Any]) -> list[str]:
    if "SeriesInstanceUID" in identifier:
        return _uids(identifier, "SeriesInstanceUID")
    found: dict[str, None] = {}
    for match in find(_asking("SERIES", keys, "SeriesInstanceUID")):
        found |= dict.fromkeys(_uids(match, "SeriesInstanceUID"))
        if len(found) >= _MOST_SERIES:
            break
    return list(found)[:_MOST_SERIES]


def _gather(found: dict[str, None], matches: Iterable[Dataset], name: str) -> None:
    """Of what a peer says without end, what fits into an association."""
    for match in matches:
        found |= dict.fromkeys(uid for uid in _uids(match, name) if may_be_storage(uid))
        if len(found) >= _ROOM:
            break
    for uid in list(found)[_ROOM:]:
        del found[uid]


def _asking(level: str, keys: dict[str, Any], *returned: str) -> Dataset:
    from pydicom import Dataset

    asked = Dataset()
    asked.QueryRetrieveLevel = level
    for name in returned:
        setattr(asked, name, None)
    for name, value in keys.items():
        setattr(asked, name, value)
    return asked


def _uids(dataset: Any, name: str) -> list[str]:
    value = dataset.get(name)
    return [] if not value else [str(value)] if isinstance(value, str) else [str(uid) for uid in value]


def find_class(model: str) -> str | None:
    """The C-FIND SOP class that goes with a model that has C-GET, or None."""
    return query_class(model, "find") if model in MODELS and MODELS[model][0] is not None else None
