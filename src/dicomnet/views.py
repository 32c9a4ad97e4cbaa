"""Bytes of data sets as they are wanted: mapped, to be sent; behind a header, to be decoded; inflated within limits."""

from __future__ import annotations

import mmap
import os
import zlib
from collections.abc import Iterator
from typing import BinaryIO, Final

from dicomnet.config import Limits
from dicomnet.errors import InvalidDataset

_PIECE: Final = 1 << 20  # bytes to inflate at once


class MappedView:
    """Bytes to send, to be used in a ``with``.

    ``passed(end)``: those before ``end`` have gone; a mapped file's pages need not stay resident.
    """

    __slots__ = ("_mapped", "_offset", "_released", "data")
    _STEP: Final = 8 << 20  # pages are given back in steps that make the call worth it

    def __init__(self, data: memoryview, mapped: mmap.mmap | None = None, offset: int = 0) -> None:
        self.data = data
        self._mapped = mapped if hasattr(mmap, "MADV_DONTNEED") else None
        self._offset = offset
        self._released = 0

    def __enter__(self) -> MappedView:
        return self

    def __exit__(self, *_: object) -> None:
        """There is nothing to give back."""

    def passed(self, end: int) -> None:
        if self._mapped is None or self._offset + end - self._released < self._STEP:
            return
        upto = (self._offset + end) // mmap.PAGESIZE * mmap.PAGESIZE
        self._mapped.madvise(mmap.MADV_DONTNEED, self._released, upto - self._released)
        self._released = upto


class Headed:
    """A header and a file from ``offset`` on, as one file for pydicom to read: what it passes over is not loaded."""

    def __init__(self, header: bytes, file: BinaryIO, offset: int) -> None:
        self._header = header
        self._file = file
        self._shift = offset - len(header)
        self._position = 0

    def read(self, size: int = -1) -> bytes:
        begun = self._header[self._position :]
        if size >= 0:
            begun = begun[:size]
            size -= len(begun)
        self._position += len(begun)
        if not size:
            return begun
        self._file.seek(self._position + self._shift)
        rest = self._file.read(size)
        self._position += len(rest)
        return begun + rest if begun else rest

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_END:
            offset += self._file.seek(0, os.SEEK_END) - self._shift
        elif whence == os.SEEK_CUR:
            offset += self._position
        self._position = offset
        return offset

    def tell(self) -> int:
        return self._position


def inflate(chunks: Iterator[bytes], size: int, limits: Limits) -> Iterator[bytes]:
    """A deflated data set (PS3.5 A.5), inflated piece by piece.

    ``size``: bytes in ``chunks``. Raises InvalidDataset past the limits and for what is no deflated data.
    """
    most = min(limits.inflated_size, max(size, 1024) * limits.inflation_ratio)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    total = 0
    try:
        for chunk in chunks:
            rest = chunk
            while rest and not inflater.eof:
                piece = inflater.decompress(rest, _PIECE)
                rest = inflater.unconsumed_tail
                total += len(piece)
                if total > most:
                    raise InvalidDataset(f"{size} deflated bytes inflate to more than {most}")
                yield piece
        yield inflater.flush()  # what little it still holds
    except zlib.error as error:
        raise InvalidDataset(f"this data set cannot be inflated: {error}") from error
    if size and not inflater.eof:
        raise InvalidDataset("this data set cannot be inflated: its end is missing")
