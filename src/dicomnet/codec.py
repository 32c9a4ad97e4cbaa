"""Between what users hand in and get, and the data sets that a conversation carries: pydicom's side of ``dimse``.

``dimse.io.Codec`` says what it is for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

from dicomnet import dataset as ds
from dicomnet.config import Limits
from dicomnet.dataset import EncodedDataset, Path
from dicomnet.ul.association import Association
from dicomnet.ul.negotiation import AcceptedContext


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
        from pydicom.dataset import Dataset

        dataset = Dataset()
        dataset.FailedSOPInstanceUIDList = uids
        return ds.encode_for(dataset, context)


def tags(attributes: Iterable[int | str | tuple[int, int]]) -> tuple[int, ...]:
    """Tags as 32-bit numbers, from such, from (group, element) pairs and from keywords. Raises ValueError."""
    from pydicom.tag import Tag

    def tag(attribute: Any) -> int:
        try:
            return int(Tag(attribute))
        except (ValueError, TypeError, OverflowError) as error:
            raise ValueError(f"{attribute!r} is no tag and no keyword: {error}") from None

    return tuple(map(tag, attributes))
