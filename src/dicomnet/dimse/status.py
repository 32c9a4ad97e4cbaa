"""Status codes (PS3.7 Annex C; PS3.4 for each service) and what they mean."""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class Status(IntEnum):
    """A 16-bit status: an int with a name where PS3.7 or PS3.4 gives one. Every 16-bit number is a Status."""

    SUCCESS = 0x0000
    REQUESTED_OPTIONAL_ATTRIBUTES_NOT_SUPPORTED = 0x0001
    NO_SUCH_ATTRIBUTE = 0x0105
    INVALID_ATTRIBUTE_VALUE = 0x0106
    ATTRIBUTE_LIST_ERROR = 0x0107
    PROCESSING_FAILURE = 0x0110
    DUPLICATE_SOP_INSTANCE = 0x0111
    NO_SUCH_SOP_INSTANCE = 0x0112
    NO_SUCH_EVENT_TYPE = 0x0113
    NO_SUCH_ARGUMENT = 0x0114
    INVALID_ARGUMENT_VALUE = 0x0115
    ATTRIBUTE_VALUE_OUT_OF_RANGE = 0x0116
    INVALID_SOP_INSTANCE = 0x0117
    NO_SUCH_SOP_CLASS = 0x0118
    CLASS_INSTANCE_CONFLICT = 0x0119
    MISSING_ATTRIBUTE = 0x0120
    MISSING_ATTRIBUTE_VALUE = 0x0121
    SOP_CLASS_NOT_SUPPORTED = 0x0122
    NO_SUCH_ACTION_TYPE = 0x0123
    NOT_AUTHORISED = 0x0124
    DUPLICATE_INVOCATION = 0x0210
    UNRECOGNISED_OPERATION = 0x0211
    MISTYPED_ARGUMENT = 0x0212
    RESOURCE_LIMITATION = 0x0213
    OUT_OF_RESOURCES = 0xA700
    CANNOT_CALCULATE_MATCHES = 0xA701
    CANNOT_PERFORM_SUBOPERATIONS = 0xA702
    MOVE_DESTINATION_UNKNOWN = 0xA801
    DATASET_MISMATCH = 0xA900
    WARNING = 0xB000
    ELEMENTS_DISCARDED = 0xB006
    DATASET_MISMATCH_WARNING = 0xB007
    CANNOT_UNDERSTAND = 0xC000
    CANCEL = 0xFE00
    PENDING = 0xFF00
    PENDING_WARNING = 0xFF01

    @classmethod
    def _missing_(cls, value: object) -> Status | None:
        """A number without a name becomes a Status of its own, named after its digits."""
        if not isinstance(value, int) or not 0 <= value <= 0xFFFF:
            return None
        status = int.__new__(cls, value)
        status._name_ = f"{value:04X}H"
        status._value_ = value
        return status

    @property
    def is_success(self) -> bool:
        return self == 0

    @property
    def is_pending(self) -> bool:
        return self in (0xFF00, 0xFF01)

    @property
    def is_cancel(self) -> bool:
        return self == 0xFE00

    @property
    def is_warning(self) -> bool:
        """The operation was done, with remarks (PS3.7 C.3)."""
        return self in (0x0001, 0x0107, 0x0116) or self >> 12 == 0xB

    @property
    def is_failure(self) -> bool:
        return not (self.is_success or self.is_pending or self.is_cancel or self.is_warning)

    def meaning(self, service: str = "") -> str:
        """What it means, in words. ``service``: "C-STORE", "C-FIND", "C-MOVE", "C-GET" or an N- service's name."""
        for first, last, text in _MEANINGS.get(service.upper(), ()):
            if first <= self <= last:
                return text
        if self.name in Status.__members__:
            return self.name.replace("_", " ").lower().replace("sop ", "SOP ")
        return _CLASSES.get(self >> 12, "unknown status")

    def __str__(self) -> str:
        return f"0x{self.value:04X} ({self.meaning()})"

    def __repr__(self) -> str:
        return f"<Status 0x{self.value:04X} {self.meaning()}>"


_CLASSES: Final = {
    0x0: "failure",
    0xA: "failure",
    0xB: "warning",
    0xC: "failure: cannot understand or process",
}

_RETRIEVE: Final = (
    (0xA701, 0xA701, "refused: out of resources, unable to calculate the number of matches"),
    (0xA702, 0xA702, "refused: out of resources, unable to perform sub-operations"),
    (0xA900, 0xA900, "error: identifier does not match SOP class"),
    (0xB000, 0xB000, "warning: sub-operations complete, one or more failed"),
    (0xC000, 0xCFFF, "failed: unable to process"),
    (0xFE00, 0xFE00, "sub-operations terminated due to cancel indication"),
    (0xFF00, 0xFF00, "sub-operations are continuing"),
)

# Ranges first to last, by service. The other meanings are the names of the members.
_MEANINGS: Final[dict[str, tuple[tuple[int, int, str], ...]]] = {
    "C-STORE": (  # PS3.4 Table B.2-1
        (0xA700, 0xA7FF, "refused: out of resources"),
        (0xA900, 0xA9FF, "error: data set does not match SOP class"),
        (0xB000, 0xB000, "warning: coercion of data elements"),
        (0xB006, 0xB006, "warning: elements discarded"),
        (0xB007, 0xB007, "warning: data set does not match SOP class"),
        (0xC000, 0xCFFF, "error: cannot understand"),
    ),
    "C-FIND": (  # PS3.4 Table C.4-1
        (0xA700, 0xA700, "refused: out of resources"),
        (0xA900, 0xA900, "error: identifier does not match SOP class"),
        (0xC000, 0xCFFF, "failed: unable to process"),
        (0xFE00, 0xFE00, "matching terminated due to cancel request"),
        (0xFF00, 0xFF00, "matches are continuing"),
        (0xFF01, 0xFF01, "matches are continuing, one or more optional keys were not supported"),
    ),
    "C-MOVE": ((0xA801, 0xA801, "refused: move destination unknown"), *_RETRIEVE),  # PS3.4 Table C.4-2
    "C-GET": _RETRIEVE,  # PS3.4 Table C.4-3
}
