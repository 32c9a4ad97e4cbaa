"""Instances in other transfer syntaxes, for peers that do not take theirs (PS3.5 8, 10, A; PS3.3 C.7.6.1.1.5).

One idea: what must not be lost is checked, and what is lost is written down. Without ``lossy`` no pixel value changes:
pixel data is decompressed to what it decodes to, in the colours that it has, or compressed reversibly, and what was
compressed is decoded again and compared. With ``lossy`` it becomes a new instance that says what was done to it.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from dicomnet.config import Limits
from dicomnet.dataset import UNCOMPRESSED, EncodedDataset, Path
from dicomnet.errors import InvalidDataset
from dicomnet.part10 import DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN
from dicomnet.transcoding.pixels import JPEG_2000, JPEG_2000_LOSSLESS, JPEG_LS, JPEG_LS_NEAR_LOSSLESS, RLE, WHAT_IS_LOST
from dicomnet.transcoding.rewriting import Rewriter
from dicomnet.ul.negotiation import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["REVERSIBLE", "LOSSY", "candidates", "transcode"]

# In the order of preference: what takes fewest bytes first. "JPEG 2000" is written reversibly, as PS3.5 A.4.4 allows.
REVERSIBLE: Final = (JPEG_LS, JPEG_2000_LOSSLESS, JPEG_2000, RLE)
# JPEG-LS bounds the error of each sample, JPEG 2000 does not.
LOSSY: Final = (JPEG_LS_NEAR_LOSSLESS, JPEG_2000)

_NATIVE: Final = (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
)
_STREAMED: Final = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)  # that need not be in memory as a whole
_DEFAULT_LIMITS: Final = Limits()


def candidates(accepted: Iterable[str], *, lossy: bool) -> Iterator[tuple[str, bool]]:
    """Which of the accepted transfer syntaxes to try, the best first, and whether that loses something."""
    there = set(accepted)
    yield from ((syntax, False) for syntax in (*_NATIVE, *REVERSIBLE) if syntax in there)
    if lossy:
        yield from ((syntax, True) for syntax in LOSSY if syntax in there)


def transcode(dataset: EncodedDataset | Dataset | Path, transfer_syntax: str, *, lossy: bool = False) -> EncodedDataset:
    """The same instance in another transfer syntax; with ``lossy`` one that is derived from it.

    ``dataset``: an EncodedDataset, a pydicom Dataset or the path of a file. ``transfer_syntax``: one without
    compression; or JPEG-LS Lossless, JPEG 2000 (Lossless) or RLE. All pixel values stay what they are and keep their
    Photometric Interpretation, unless the code stream's own format gives RGB (YBR_RCT, YBR_ICT) or its chroma was
    subsampled (YBR_FULL_422 becomes YBR_FULL). Other elements are copied byte for byte between explicit VR little
    endian ones. If the source was compressed with loss and does not say so, it does now (0028,2110).

    ``lossy``: compress with loss, in JPEG-LS Near-lossless (no sample is off by more than 2) or JPEG 2000 (5:1). The
    result has a new SOP Instance UID (for the same instance the same one each time), Lossy Image Compression with ratio
    and method, Image Type DERIVED, and names the instance that it comes from (PS3.3 C.7.6.1.1.5).

    Frames are worked on one at a time, and what is large waits in a temporary file. Big endian and deflated data sets
    are loaded whole. Raises InvalidDataset if that cannot be done, or not without loss; ImportError if it takes
    packages that are not installed (``pip install 'dicomnet[transcode]'``); OSError.
    """
    source = _as_encoded(dataset)
    own = source.transfer_syntax
    if own == transfer_syntax and not lossy:
        return source
    if lossy and transfer_syntax not in LOSSY:
        raise InvalidDataset(f"{transfer_syntax} is no transfer syntax that is compressed into with loss here")
    if own in UNCOMPRESSED and transfer_syntax in UNCOMPRESSED and not _is_long(source, transfer_syntax):
        return source.transcoded(transfer_syntax)
    if own in UNCOMPRESSED and own not in _STREAMED:
        source = source.transcoded(EXPLICIT_VR_LITTLE_ENDIAN)
    if transfer_syntax in UNCOMPRESSED and transfer_syntax not in _STREAMED:
        return _rewritten(source, EXPLICIT_VR_LITTLE_ENDIAN, lossy=False).transcoded(transfer_syntax)
    return _rewritten(source, transfer_syntax, lossy=lossy)


def _as_encoded(dataset: EncodedDataset | Dataset | Path) -> EncodedDataset:
    if isinstance(dataset, str | os.PathLike):
        return EncodedDataset.from_file(dataset)
    return dataset if isinstance(dataset, EncodedDataset) else EncodedDataset.from_dataset(dataset)


def _is_long(source: EncodedDataset, wanted: str) -> bool:
    """Too long for memory, and need not be there."""
    limits = source._limits or _DEFAULT_LIMITS
    return source.size > limits.spool_size and source.transfer_syntax in _STREAMED and wanted in _STREAMED


def _rewritten(source: EncodedDataset, transfer_syntax: str, *, lossy: bool) -> EncodedDataset:
    limits = source._limits or _DEFAULT_LIMITS
    with source.view() as view:
        rewriter = Rewriter(source, view.data, view.passed, limits)
        if transfer_syntax in UNCOMPRESSED:
            return rewriter.native(transfer_syntax)
        if transfer_syntax not in REVERSIBLE and not lossy:
            raise InvalidDataset(f"nothing here can make {transfer_syntax} without loss")
        return rewriter.compressed(transfer_syntax, lossy=lossy, new_uid=lambda: _derived_uid(source, transfer_syntax))


def _derived_uid(source: EncodedDataset, transfer_syntax: str) -> str:
    """The same each time, so that what is sent again after a crash is not there twice (PS3.5 B.2: of a UUID)."""
    name = f"{source.sop_instance_uid} {transfer_syntax} {WHAT_IS_LOST}"
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, name).int}"
