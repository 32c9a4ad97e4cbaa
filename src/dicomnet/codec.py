"""Between what users hand in and get, and the data sets that a conversation carries: pydicom's side of ``dimse``.

``dimse.io.Codec`` says what it is for.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable
from typing import Any, Final

from dicomnet import dataset as ds
from dicomnet.config import Limits
from dicomnet.dataset import EncodedDataset, Path
from dicomnet.ul.association import Association
from dicomnet.ul.negotiation import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN, AcceptedContext

_FAILED_LIST: Final = (0x0008, 0x0058)


class Codec:
    """The codec of one association. ``held``: how many bytes of received data sets wait in memory."""

    def __init__(
        self, association: Association, limits: Limits, spool_folder: Path | None, held: Callable[[], int]
    ) -> None:
        self.open_sink = ds.spools(association, limits, spool_folder, held)

    encode = staticmethod(ds.encode_for)
    prepare = staticmethod(ds.prepare)

    @staticmethod
    def load(data: Any) -> EncodedDataset:
        if isinstance(data, EncodedDataset):
            return data
        if isinstance(data, str | os.PathLike):
            return ds.load_file(data)
        return EncodedDataset.from_dataset(data)

    @staticmethod
    def failed_list(uids: list[str], context: AcceptedContext) -> EncodedDataset:
        value = "\\".join(uids).encode("ascii", "replace")
        value += b"\0" * (len(value) & 1)
        implicit = context.transfer_syntax == IMPLICIT_VR_LITTLE_ENDIAN
        if implicit:
            element = struct.pack("<HHI", *_FAILED_LIST, len(value))
        elif len(value) < 0x10000:
            element = struct.pack("<HH2sH", *_FAILED_LIST, b"UI", len(value))
        else:  # PS3.5 6.2.2, note 7: what is too long for its VR is UN
            element = struct.pack("<HH2sxxI", *_FAILED_LIST, b"UN", len(value))
        written = IMPLICIT_VR_LITTLE_ENDIAN if implicit else EXPLICIT_VR_LITTLE_ENDIAN
        return ds.encode_for(EncodedDataset(element + value, written), context)


def tags(attributes: Iterable[int | str | tuple[int, int]]) -> tuple[int, ...]:
    """Tags as 32-bit numbers, from such, from (group, element) pairs and from keywords. Raises ValueError."""
    from pydicom.tag import Tag

    def tag(attribute: Any) -> int:
        try:
            return int(Tag(attribute))
        except (ValueError, TypeError, OverflowError) as error:
            raise ValueError(f"{attribute!r} is no tag and no keyword: {error}") from None

    return tuple(map(tag, attributes))
