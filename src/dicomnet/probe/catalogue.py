"""What there is to ask about: SOP classes and transfer syntaxes of the standard (PS3.6 Table A-1), with their names."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from dicomnet.models import is_storage

# Transfer syntaxes by kind: name → what the UIDs begin with, or are. Of one kind a peer mostly takes all or none.
FAMILIES: Final[dict[str, tuple[str, ...]]] = {
    "uncompressed": ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"),
    "deflated": ("1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.1.98"),
    "JPEG": tuple(f"1.2.840.10008.1.2.4.{last}" for last in (*range(50, 67), 70)),
    "JPEG-LS": tuple(f"1.2.840.10008.1.2.4.{last}" for last in (80, 81)),
    "JPEG 2000": tuple(f"1.2.840.10008.1.2.4.{last}" for last in range(90, 94)),
    "HTJ2K": tuple(f"1.2.840.10008.1.2.4.{last}" for last in (201, 202, 203)),
    "JPIP": tuple(f"1.2.840.10008.1.2.4.{last}" for last in (94, 95, 204, 205)),
    "RLE": ("1.2.840.10008.1.2.5",),
}
_VIDEO: Final = "video"  # MPEG, H.264, H.265: all others below 1.2.840.10008.1.2.4
_OTHER: Final = "other"
_SHORT: Final = {
    "1.2.840.10008.1.2": "Implicit VR LE",
    "1.2.840.10008.1.2.1": "Explicit VR LE",
    "1.2.840.10008.1.2.2": "Explicit VR BE",
    "1.2.840.10008.1.2.1.99": "Deflated",
    "1.2.840.10008.1.2.1.98": "Encapsulated Uncompressed",
    "1.2.840.10008.1.2.4.50": "JPEG Baseline",
    "1.2.840.10008.1.2.4.51": "JPEG Extended",
    "1.2.840.10008.1.2.4.57": "JPEG Lossless",
    "1.2.840.10008.1.2.4.70": "JPEG Lossless SV1",
    "1.2.840.10008.1.2.4.80": "JPEG-LS Lossless",
    "1.2.840.10008.1.2.4.81": "JPEG-LS Lossy",
    "1.2.840.10008.1.2.4.90": "JPEG 2000 Lossless",
    "1.2.840.10008.1.2.4.91": "JPEG 2000",
    "1.2.840.10008.1.2.4.201": "HTJ2K Lossless",
    "1.2.840.10008.1.2.4.202": "HTJ2K RPCL Lossless",
    "1.2.840.10008.1.2.4.203": "HTJ2K",
    "1.2.840.10008.1.2.5": "RLE",
}
# Retired and still in use: peers from before 2006 have it.
_STILL_ASKED: Final = ("1.2.840.10008.1.2.2",)


@dataclass(frozen=True, slots=True)
class Named:
    """A UID with its name."""

    uid: str
    name: str
    retired: bool


@lru_cache(maxsize=1)
def _dictionary() -> dict[str, tuple[str, str, bool]]:
    """UID → name, type, whether it is retired."""
    from pydicom._uid_dict import UID_dictionary

    return {uid: (name, kind, bool(retired)) for uid, (name, kind, _info, retired, *_rest) in UID_dictionary.items()}


def sop_classes(*, retired: bool) -> tuple[Named, ...]:
    """Every SOP class that a presentation context may have; ``retired``: those that are, too."""
    return tuple(
        Named(uid, name, old)
        for uid, (name, kind, old) in _dictionary().items()
        if kind in ("SOP Class", "Meta SOP Class") and name and (retired or not old)
    )


def transfer_syntaxes(*, retired: bool) -> tuple[Named, ...]:
    """Every transfer syntax; ``retired``: those that are, too."""
    return tuple(
        Named(uid, name, old)
        for uid, (name, kind, old) in _dictionary().items()
        if kind == "Transfer Syntax" and (retired or not old or uid in _STILL_ASKED)
    )


def family(syntax: str) -> str:
    """What kind of transfer syntax it is."""
    for name, uids in FAMILIES.items():
        if syntax in uids:
            return name
    return _VIDEO if syntax.startswith("1.2.840.10008.1.2.4.") else _OTHER


def families(syntaxes: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Transfer syntaxes by their kind, in their order."""
    groups: dict[str, list[str]] = {}
    for syntax in syntaxes:
        groups.setdefault(family(syntax), []).append(syntax)
    return {name: tuple(members) for name, members in groups.items()}


def name_of(uid: str) -> str:
    """The name of a UID of the standard, or the UID."""
    return _dictionary().get(uid, (uid, "", False))[0] or uid


def short_name(syntax: str) -> str:
    """A transfer syntax in a few words."""
    return _SHORT.get(syntax) or name_of(syntax)


def stores(uid: str) -> bool:
    """Whether it is a storage SOP class."""
    return is_storage(uid)
