"""What SOP class extended negotiation says (PS3.7 D.3.3.5), for the service classes that define it, as values.

One idea: each value is the bytes of its Service-class-application-information field (``bytes(value)``), and can be the
acceptor's answer to such a field (``value.answer(asked)``). Where neither fits, plain bytes do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

STORAGE_SERVICE_CLASS: Final = "1.2.840.10008.4.2"  # PS3.4 B.3.1.4

Flags = TypeVar("Flags", bound="_Flags")


class _Flags:
    """One byte for each field, in order, 1 is yes; bytes that are missing are no."""

    __slots__: tuple[str, ...] = ()

    def _flags(self) -> list[bool]:
        return [getattr(self, name) for name in self.__slots__]

    def __bytes__(self) -> bytes:
        """As short as it can be: older systems expect one byte (PS3.4 C.5.1.1)."""
        return bytes(self._flags()).rstrip(b"\0") or b"\0"

    @classmethod
    def decode(cls: type[Flags], data: bytes) -> Flags:
        """What ``data`` says; bytes behind the known ones are not looked at."""
        return cls(*(byte == 1 for byte in data[: len(cls.__slots__)]))

    def answer(self, asked: bytes) -> bytes:
        """Yes to what is asked for and supported; no longer than the question (PS3.4 C.5.1.1)."""
        return bytes(mine and byte == 1 for mine, byte in zip(self._flags(), asked, strict=False)) or b"\0"


@dataclass(frozen=True, slots=True)
class ExtendedQuery(_Flags):
    """Options of a C-FIND SOP class (PS3.4 C.5.1.1; for the modality worklist K.5.1).

    ``relational``: keys of any level; ``combined_datetime``: a date and a time match as one; ``fuzzy``: person names
    match by meaning; ``timezone``: dates and times are adjusted to a time zone; ``multiframe``: views of converted
    enhanced images; ``empty_value``, ``multiple_value``: these kinds of matching. In a worklist's, the first two are
    reserved and always True.
    """

    relational: bool = False
    combined_datetime: bool = False
    fuzzy: bool = False
    timezone: bool = False
    multiframe: bool = False
    empty_value: bool = False
    multiple_value: bool = False


@dataclass(frozen=True, slots=True)
class ExtendedRetrieve(_Flags):
    """Options of a C-MOVE or C-GET SOP class (PS3.4 C.5.2.1, C.5.3.1).

    ``relational``: keys of the levels above may be missing; ``multiframe``: views of converted enhanced images.
    """

    relational: bool = False
    multiframe: bool = False


@dataclass(frozen=True, slots=True)
class ExtendedStorage:
    """What one side says of itself for a storage SOP class (PS3.4 B.3.1); numbers as in Tables B.3-1 and B.3-2.

    ``level`` of support: 0, 1 or 2 (full) of an SCP, 3 of an SCU alone; ``signatures``: level of support for digital
    signatures, 0 is unspecified; ``coercion`` of elements: 0 never, 1 possible, 2 of an SCU alone.
    """

    level: int = 2
    signatures: int = 0
    coercion: int = 0

    def __bytes__(self) -> bytes:
        return bytes((self.level, 0, self.signatures, 0, self.coercion, 0))

    @classmethod
    def decode(cls, data: bytes) -> ExtendedStorage:
        """What ``data`` says; a byte that is missing is 0."""
        level, _, signatures, _, coercion, _ = data[:6].ljust(6, b"\0")
        return cls(level, signatures, coercion)

    def answer(self, asked: bytes) -> bytes:
        """Itself: each side describes what it does."""
        return bytes(self)


@dataclass(frozen=True, slots=True)
class CommonExtended:
    """What kind of SOP class a requestor proposes (PS3.7 D.3.3.6), for acceptors that do not know it.

    ``service_class``: UID of its service class, by default storage. ``related``: UIDs of the general SOP classes that
    it specialises (PS3.4 B.3.1.3).
    """

    sop_class: str
    service_class: str = STORAGE_SERVICE_CLASS
    related: tuple[str, ...] = ()


Extended = bytes | ExtendedQuery | ExtendedRetrieve | ExtendedStorage

# SOP class → answer, or a function of SOP class and question that returns the answer or, to give none, None.
ExtendedAnswers = Mapping[str, Extended] | Callable[[str, bytes], Extended | None]


def answer_extended(answers: ExtendedAnswers, sop_class_uid: str, asked: bytes) -> bytes | None:
    """The answer to one sub-item, or None for none (N-29)."""
    if callable(answers):
        given = answers(sop_class_uid, asked)
        return None if given is None else bytes(given)
    found = answers.get(sop_class_uid)
    return found if found is None or isinstance(found, bytes) else found.answer(asked)
