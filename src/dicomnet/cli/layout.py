"""Where a received instance goes: ``{patient}/{study}/{series}/{instance}.dcm``, whatever the values are.

One idea: a value that is plainly harmless as a file name is the name. Of any other the harmless part is kept for the
reader, and a digest of all of it makes the name different from every other value's. ``~`` stands between the two and
in no harmless value, so that the two kinds never meet.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from typing import Final

_HARMLESS_UID: Final = re.compile(r"[0-9](?:[0-9.]{0,62}[0-9])?")  # also where upper and lower case are the same
_HARMLESS: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9_-])?")
_DOUBTFUL: Final = re.compile(r"[^A-Za-z0-9_-]+")
_KEPT: Final = 32  # characters of a value that is not harmless
_DIGEST: Final = 16  # bytes: no two values with the same one can be made, let alone met
# What Windows takes for a device, also with an extension.
_DEVICES: Final = frozenset(
    ("CON", "PRN", "AUX", "NUL", *(f"{port}{number}" for port in ("COM", "LPT") for number in range(10)))
)


def instance_path(patient_id: str, study: str, series: str, instance: str) -> tuple[str, str]:
    """The folder, as a relative path with ``/``, and the name of the file in it."""
    return _folder(patient_id, study, series), file_name(instance) + ".dcm"


@lru_cache(maxsize=1024)
def _folder(patient_id: str, study: str, series: str) -> str:
    return "/".join(
        (
            folder_name(patient_id) if patient_id else "no-patient-id",
            file_name(study) if study else "no-study-uid",
            file_name(series) if series else "no-series-uid",
        )
    )


def file_name(uid: str) -> str:
    """A UID as a file name: different for different UIDs, on every file system."""
    return uid if _HARMLESS_UID.fullmatch(uid) else _disarmed(uid)


def folder_name(text: str) -> str:
    """A text, such as a patient ID, as a file name; upper and lower case stay as they are."""
    if _HARMLESS.fullmatch(text) and text.partition(".")[0].upper() not in _DEVICES:
        return text
    return _disarmed(text)


def _disarmed(text: str) -> str:
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST).hexdigest()
    return f"{_DOUBTFUL.sub('_', text)[:_KEPT].strip('_-')}~{digest}"
