"""What is written down about lossy compression (PS3.3 C.7.6.1.1.5, C.12.4.1).

One idea: who has lost something says so, and never takes it back. An image that is compressed with loss becomes another
instance, which is derived from the one that it was and names it.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

from dicomnet.transcoding.pixels import JPEG_2000, JPEG_LS_NEAR_LOSSLESS

if TYPE_CHECKING:
    from pydicom import Dataset

METHODS: Final = {  # PS3.3 C.7.6.1.1.5.1
    "1.2.840.10008.1.2.4.50": "ISO_10918_1",
    "1.2.840.10008.1.2.4.51": "ISO_10918_1",
    JPEG_LS_NEAR_LOSSLESS: "ISO_14495_1",
    JPEG_2000: "ISO_15444_1",
    "1.2.840.10008.1.2.4.203": "ISO_15444_15",
}
_ALWAYS_LOSSY: Final = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51")
_JPEG_2000: Final = (JPEG_2000, "1.2.840.10008.1.2.4.203")
_DERIVED: Final = "Lossy compression"  # CID 7203
_MOST_TEXT: Final = 1024  # characters of a Derivation Description (VR ST)


def is_lossy(transfer_syntax: str, codestream: bytes) -> bool:
    """Whether the first bytes of a code stream say that it does not give back what went into it.

    JPEG (processes 1, 2 and 4) always loses; JPEG-LS by its parameter NEAR, JPEG 2000 by its wavelet transform.
    """
    if transfer_syntax in _ALWAYS_LOSSY:
        return True
    if transfer_syntax == JPEG_LS_NEAR_LOSSLESS:  # ISO/IEC 14495-1 C.2.3: SOS, length, Ns, 2 bytes each, NEAR
        at = codestream.find(b"\xff\xda")
        near = at + 5 + 2 * codestream[at + 4] if 0 <= at < len(codestream) - 4 else len(codestream)
        return near < len(codestream) and codestream[near] > 0
    if transfer_syntax in _JPEG_2000:  # ISO/IEC 15444-1 A.6.1: COD; its transformation is 0 for the irreversible one
        at = codestream.find(b"\xff\x52")
        return 0 <= at < len(codestream) - 13 and codestream[at + 13] == 0
    return False


def note(head: Dataset, changes: Dataset, method: str, ratio: float) -> None:
    """Add a lossy compression to those that ``head`` tells of (PS3.3 C.7.6.1.1.5)."""
    ratios, methods = _values(head, "LossyImageCompressionRatio"), _values(head, "LossyImageCompressionMethod")
    if len(ratios) != len(methods):  # they correspond, or tell nothing
        ratios, methods = ratios or [""] * len(methods), methods or [""] * len(ratios)
    changes.LossyImageCompression = "01"
    changes.LossyImageCompressionRatio = [*map(str, ratios), f"{ratio:.2f}"]
    changes.LossyImageCompressionMethod = [*map(str, methods), method]


def derive(head: Dataset, changes: Dataset, what: str, uid: str, *, was_lossless: bool) -> None:
    """Make it a new instance, ``uid``, that is derived from the one that it was. ``what``: was done, in words."""
    changes.SOPInstanceUID = uid
    changes.ImageType = ["DERIVED", *(_values(head, "ImageType")[1:] or ["PRIMARY"])]
    before = str(head.get("DerivationDescription") or "")
    text = f"{before}; {what}" if before else what
    if len(text) <= _MOST_TEXT:
        changes.DerivationDescription = text
    changes.DerivationCodeSequence = [
        *(head.get("DerivationCodeSequence") or ()),
        _code("113040", "DCM", _DERIVED),
    ]
    changes.SourceImageSequence = [*(head.get("SourceImageSequence") or ()), _source(head, was_lossless)]


def _source(head: Dataset, was_lossless: bool) -> Dataset:
    """PS3.3 C.12.4.1.2, with a purpose of CID 7202."""
    from pydicom import Dataset

    source = Dataset()
    source.ReferencedSOPClassUID = head.SOPClassUID
    source.ReferencedSOPInstanceUID = head.SOPInstanceUID
    purpose = (
        ("121320", "Uncompressed predecessor")
        if was_lossless
        else ("121322", "Source image for image processing operation")
    )
    source.PurposeOfReferenceCodeSequence = [_code(purpose[0], "DCM", purpose[1])]
    return source


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    from pydicom import Dataset

    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code


def _values(dataset: Dataset, keyword: str) -> list[Any]:
    value = dataset.get(keyword)
    if value is None or value == "":
        return []
    return [value] if isinstance(value, str) or not hasattr(value, "__iter__") else list(value)


def first_codestream(fragments: bytes) -> bytes:
    """The first fragment behind the Basic Offset Table, as far as it is in the first bytes of encapsulated data."""
    if len(fragments) < 16:
        return b""
    (table,) = struct.unpack_from("<I", fragments, 4)
    return fragments[8 + table + 8 :]
