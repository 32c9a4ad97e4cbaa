"""SOP classes by what they are for: to query and retrieve by an information model, to store.

A table and a few questions to it. The UIDs are those of PS3.6 Table A-1; a test compares them with pydicom's
dictionary, which is not loaded here.
"""

from __future__ import annotations

from typing import Final

DICOM_ROOT: Final = "1.2.840.10008."  # PS3.5 Annex A: what begins otherwise is private

_QR: Final = "1.2.840.10008.5.1.4"

# Name → SOP class UIDs of C-FIND, C-MOVE and C-GET, None where the model has no such operation.
MODELS: Final[dict[str, tuple[str | None, str | None, str | None]]] = {
    # PS3.4 C.6
    "patient": (f"{_QR}.1.2.1.1", f"{_QR}.1.2.1.2", f"{_QR}.1.2.1.3"),
    "study": (f"{_QR}.1.2.2.1", f"{_QR}.1.2.2.2", f"{_QR}.1.2.2.3"),
    "patient-study-only": (f"{_QR}.1.2.3.1", f"{_QR}.1.2.3.2", f"{_QR}.1.2.3.3"),  # retired
    # PS3.4 Y and Z
    "composite-instance": (None, f"{_QR}.1.2.4.2", f"{_QR}.1.2.4.3"),
    "composite-instance-without-bulk-data": (None, None, f"{_QR}.1.2.5.3"),
    # PS3.4 K
    "worklist": (f"{_QR}.31", None, None),
    "general-purpose-worklist": (f"{_QR}.32.1", None, None),  # retired
    # PS3.4 CC
    "ups": (f"{_QR}.34.6.3", None, None),  # pull
    "ups-watch": (f"{_QR}.34.6.2", None, None),
    "ups-query": (f"{_QR}.34.6.5", None, None),
    # PS3.4 Q
    "relevant-patient-information": (f"{_QR}.37.1", None, None),
    "breast-relevant-patient-information": (f"{_QR}.37.2", None, None),
    "cardiac-relevant-patient-information": (f"{_QR}.37.3", None, None),
    # PS3.4 V
    "product-characteristics": (f"{_QR}.41", None, None),
    "substance-approval": (f"{_QR}.42", None, None),
    # PS3.4 U, X, BB
    "hanging-protocol": (f"{_QR}.38.2", f"{_QR}.38.3", f"{_QR}.38.4"),
    "color-palette": (f"{_QR}.39.2", f"{_QR}.39.3", f"{_QR}.39.4"),
    "generic-implant": (f"{_QR}.43.2", f"{_QR}.43.3", f"{_QR}.43.4"),
    "implant-assembly-template": (f"{_QR}.44.2", f"{_QR}.44.3", f"{_QR}.44.4"),
    "implant-template-group": (f"{_QR}.45.2", f"{_QR}.45.3", f"{_QR}.45.4"),
    # PS3.4 HH, II
    "defined-procedure-protocol": (f"{_QR}.20.1", f"{_QR}.20.2", f"{_QR}.20.3"),
    "protocol-approval": (f"{_QR}.1.1.200.4", f"{_QR}.1.1.200.5", f"{_QR}.1.1.200.6"),
    # PS3.4 JJ
    "inventory": (f"{_QR}.1.1.201.2", f"{_QR}.1.1.201.3", f"{_QR}.1.1.201.4"),
    "repository": (f"{_QR}.1.1.201.6", None, None),
}
_OPERATIONS: Final = ("find", "move", "get")

_STORED: Final = f"{_QR}.1.1."  # nearly all storage SOP classes have this prefix (PS3.4 B.5), and few others
_NOT_STORED: Final = frozenset(f"{_STORED}{rest}" for rest in ("200.4", "200.5", "200.6")) | frozenset(
    f"{_STORED}201.{last}" for last in range(2, 7)
)
_STORED_ELSEWHERE: Final = frozenset(
    (
        *(f"1.2.840.10008.5.1.1.{last}" for last in (27, 29, 30)),  # stored print and hardcopy, retired
        *(f"{_QR}.{rest}" for rest in ("34.1", "34.7", "34.10", "38.1", "39.1", "43.1", "44.1", "45.1")),
    )
)


def query_class(model: str, operation: str) -> str:
    """The SOP class UID of ``operation`` ("find", "move" or "get") in an information model.

    ``model``: a name in ``MODELS``, or a SOP class UID, which is returned as it is. Raises ValueError for another name
    and for an operation that the model does not have.
    """
    if model[:1].isdecimal():
        return str(model)
    column = _OPERATIONS.index(operation)
    found = MODELS[model][column] if model in MODELS else None
    if found is None:
        names = ", ".join(name for name, uids in MODELS.items() if uids[column] is not None)
        raise ValueError(f"{model!r} is no information model for C-{operation.upper()}; there are {names}, and UIDs")
    return found


def find_classes() -> frozenset[str]:
    """UIDs of the SOP classes whose operation is C-FIND."""
    return _FIND


def move_classes() -> frozenset[str]:
    """UIDs of the SOP classes whose operation is C-MOVE."""
    return _MOVE


def get_classes() -> frozenset[str]:
    """UIDs of the SOP classes whose operation is C-GET."""
    return _GET


_FIND, _MOVE, _GET = (
    frozenset(uid for uid in column if uid is not None) for column in zip(*MODELS.values(), strict=True)
)


def is_storage(uid: str) -> bool:
    """Whether this is a storage SOP class of the standard, a retired one too (PS3.4 B.5)."""
    return (uid.startswith(_STORED) and uid not in _NOT_STORED) or uid in _STORED_ELSEWHERE


def may_be_storage(uid: str) -> bool:
    """As ``is_storage``, and for private SOP classes, of which the library knows nothing (PS3.4 B.5)."""
    return is_storage(uid) or not uid.startswith(DICOM_ROOT)
