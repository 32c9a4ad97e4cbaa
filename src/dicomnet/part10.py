"""DICOM files (PS3.10 7): their header written and read, and the UIDs among a data set's first elements.

Everything here works on the first bytes of a file or of a data set; what they do not tell, pydicom has to find out.
"""

from __future__ import annotations

import re
import struct
from functools import lru_cache
from typing import Final, NamedTuple

from dicomnet import scan
from dicomnet.config import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicomnet.ul.negotiation import IMPLICIT_VR_LITTLE_ENDIAN

EXPLICIT_VR_BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"
DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN: Final = "1.2.840.10008.1.2.1.99"
# PS3.5 A.5, and JPIP referenced (A.7), JPIP HTJ2K referenced: the whole data set is a deflated stream.
DEFLATED: Final = frozenset((DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"))

HEAD: Final = scan.HEAD  # bytes read at once: a file's meta information and the first elements, or a small file whole

_PREAMBLE: Final = bytes(128) + b"DICM"
_SOP_UIDS: Final = (0x00080016, 0x00080018)  # SOP Class UID, SOP Instance UID
_LONG_VRS: Final = frozenset(  # PS3.5 Table 7.1-1: two reserved bytes and a length of four
    (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
)


# --- writing --------------------------------------------------------------------------------------------------------


def header(transfer_syntax: str, sop_class_uid: str, sop_instance_uid: str, ae_titles: tuple[str, str] | None) -> bytes:
    """Preamble, prefix and file meta information (PS3.10 7.1) with the AE titles of the sender and the receiver."""
    uid = sop_instance_uid.encode("latin-1", "replace")[:0xFFFE]
    before, after = _around_uid(len(uid), transfer_syntax, sop_class_uid, ae_titles)
    return before + uid + after


@lru_cache(maxsize=256)
def _around_uid(
    length: int, transfer_syntax: str, sop_class_uid: str, ae_titles: tuple[str, str] | None
) -> tuple[bytes, bytes]:
    """What stands before and after a SOP instance UID of ``length``: the same for most instances of an association."""
    version = struct.pack("<HH2sxxI", 2, 1, b"OB", 2) + b"\0\1"
    before = version + _meta_element(0x0002, b"UI", sop_class_uid) + _meta_element(0x0003, b"UI", "0" * length)
    padding = length & 1
    before = before[: len(before) - length - padding]
    after = [
        b"\0" * padding,
        _meta_element(0x0010, b"UI", transfer_syntax),
        _meta_element(0x0012, b"UI", IMPLEMENTATION_CLASS_UID),
        _meta_element(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME),
    ]
    if ae_titles is not None:
        after += [_meta_element(0x0017, b"AE", ae_titles[0]), _meta_element(0x0018, b"AE", ae_titles[1])]
    behind = b"".join(after)
    group_length = struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(before) + length + len(behind))
    return _PREAMBLE + group_length + before, behind


def _meta_element(element: int, vr: bytes, value: str) -> bytes:
    encoded = value.encode("latin-1", "replace")[:0xFFFE]
    if len(encoded) & 1:
        encoded += b"\0" if vr == b"UI" else b" "
    return struct.pack("<HH2sH", 2, element, vr, len(encoded)) + encoded


# --- reading --------------------------------------------------------------------------------------------------------

_short_element: Final = struct.Struct("<HH2sH").unpack_from
_u32: Final = struct.Struct("<I").unpack_from


class Meta(NamedTuple):
    """What a file's meta information says. ``offset``: where the data set begins."""

    offset: int
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax: str


def read_meta(head: bytes) -> Meta | None:
    """The meta information in a file's first bytes, or None if it is not there, whole, as PS3.10 wants it."""
    if head[128:132] != b"DICM":
        return None
    position, end = 132, len(head)
    found: dict[int, str] = {}
    while position < end:
        if end - position < 8:
            return None
        group, element, vr, length = _short_element(head, position)
        if group != 2:
            break
        position += 8
        if vr in _LONG_VRS:
            if end - position < 4:
                return None
            length = _u32(head, position)[0]
            position += 4
        if length > end - position:
            return None
        if element in (0x0002, 0x0003, 0x0010):
            found[element] = head[position : position + length].rstrip(b"\0 ").decode("latin-1")
        position += length
    syntax = found.get(0x0010, "")
    if not re.fullmatch(r"[0-9.]{1,64}", syntax):
        return None
    return Meta(position, found.get(0x0002, ""), found.get(0x0003, ""), syntax)


def scan_uids(head: bytes | bytearray | memoryview, transfer_syntax: str) -> tuple[str, str] | None:
    """SOP class and instance UID from the first bytes of a data set, or None unless both are found there."""
    # What is found is right whether or not this is all of the data set, so that it may be taken to be all.
    found = scan.text_values(bytes(head[:HEAD]), transfer_syntax, _SOP_UIDS, whole=True) or {}
    sop_class_uid, sop_instance_uid = found.get(_SOP_UIDS[0]), found.get(_SOP_UIDS[1])
    return (sop_class_uid, sop_instance_uid) if sop_class_uid and sop_instance_uid else None


def holds(
    head: bytes | bytearray, transfer_syntax: str, sop_class_uid: str, sop_instance_uid: str, start: int = 0
) -> bool:
    """Whether the first bytes of a data set, from ``start`` on, have just these two UIDs in them, as nearly all do.

    False means no more than that ``scan_uids`` has to look closely.
    """
    if transfer_syntax == EXPLICIT_VR_BIG_ENDIAN or transfer_syntax in DEFLATED or not sop_instance_uid:
        return False
    explicit = transfer_syntax != IMPLICIT_VR_LITTLE_ENDIAN
    end = start + HEAD
    # Where the tag is met first, or it may be one in a nested item.
    at = head.find(_CLASS_TAG, start, end)
    if at < 0 or not head.startswith(_class_element(sop_class_uid, explicit), at, end):
        return False
    at = head.find(_INSTANCE_TAG, start, end)
    return at >= 0 and head.startswith(_uid_element(0x0018, sop_instance_uid, explicit), at, end)


_CLASS_TAG: Final = struct.pack("<HH", 8, 0x0016)
_INSTANCE_TAG: Final = struct.pack("<HH", 8, 0x0018)


@lru_cache(maxsize=512)
def _class_element(uid: str, explicit: bool) -> bytes:
    return _uid_element(0x0016, uid, explicit)


def _uid_element(element: int, uid: str, explicit: bool) -> bytes:
    value = uid.encode("latin-1", "replace")
    value += b"\0" * (len(value) & 1)
    if explicit:
        return struct.pack("<HH2sH", 8, element, b"UI", len(value) & 0xFFFF) + value
    return struct.pack("<HHI", 8, element, len(value)) + value
