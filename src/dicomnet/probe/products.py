"""Which product it is, by what it says of its implementation (PS3.7 D.3.3.2).

Only what is on public record: the sources of open toolkits, and for manufacturers the roots of the private SOP classes
that the UID dictionaries of several of those toolkits list under their names. A toolkit's name does not tell which
product it is part of.
"""

from __future__ import annotations

import re
from typing import Final

from dicomnet.config import IMPLEMENTATION_CLASS_UID

_DCMTK: Final = "DCMTK {}, or a product made with it (Orthanc, Horos and many others are)"

# Implementation version name → product; the first group is its version.
_NAMES: Final = (
    (r"OFFIS_DCM(?:TK|BP)_(\d{3})", _DCMTK),
    (r"dcm4che-(\d[\w.]*)", "dcm4che {}, the toolkit of dcm4chee"),
    (r"PYNETDICOM_(\d+)", "pynetdicom {}"),
    (r"fo-dicom (\d[\w.]*)", "fo-dicom {}"),
    (r"GDCM (\d[\w.]*)", "GDCM {}"),
    (r"MergeCOM3_(\d+)", "a product made with the Merge DICOM toolkit {}"),
    (r"RUBY[-_]DCM_(\d[\w.]*)", "ruby-dicom {}"),
    (r"GODICOM_(\d[\w]*)", "the Go library dicom {}"),
    (r"DICOMNET_(\d+_\d+)", "dicomnet {}"),
)
# What an implementation class UID is or begins with → product.
_UIDS: Final = (
    (IMPLEMENTATION_CLASS_UID, "dicomnet"),
    ("1.2.276.0.7230010.3.0.", "DCMTK, or a product made with it (Orthanc, Horos and many others are)"),
    ("1.2.40.0.13.1.", "dcm4che, the toolkit of dcm4chee"),
    ("1.2.826.0.1.3680043.9.3811.", "pynetdicom"),
    ("1.2.826.0.1.3680043.8.498.", "a program made with pydicom"),
    ("1.3.6.1.4.1.30071.8", "fo-dicom"),
    ("1.2.826.0.1.3680043.2.1143.", "GDCM"),
    ("1.2.826.0.1.3680043.2.135.1066.", "Conquest DICOM server"),
    ("2.16.840.1.113669.2.", "a product made with the Merge DICOM toolkit"),
    ("1.2.826.0.1.3680043.8.641", "ruby-dicom"),
    ("1.2.826.0.1.3680043.9.7133.", "the Go library dicom"),
    ("1.2.840.113619.", "a product of GE HealthCare"),
    ("1.3.12.2.1107.", "a product of Siemens Healthineers"),
    ("1.3.46.670589.", "a product of Philips"),
    ("1.2.392.200036.9116.", "a product of Canon Medical (Toshiba)"),
    ("1.2.392.200036.9125.", "a product of Fujifilm"),
    ("1.2.124.113532.", "a product of Agfa HealthCare"),
)


def product(class_uid: str, version_name: str) -> str:
    """The product, in words; empty if it is not known."""
    for pattern, name in _NAMES:
        if found := re.match(pattern, version_name):
            return name.format(_version(found[1]))
    for root, name in _UIDS:
        if class_uid == root or (class_uid.startswith(root) and (root.endswith(".") or class_uid[len(root)] == ".")):
            return name
    return ""


def _version(text: str) -> str:
    """``366`` is 3.6.6 in such a name, which has no room for dots."""
    if "_" in text:
        return text.replace("_", ".")
    return ".".join(text) if text.isdigit() else text
