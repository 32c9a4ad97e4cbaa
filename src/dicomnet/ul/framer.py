"""Bytes in → whole PDUs and pieces of P-DATA as views; a message out → P-DATA-TF headers and views (PS3.8 9.3.5).

One idea: P-DATA is never put together again. Each piece of a presentation data value is handed on as a view of what has
just arrived, and only headers that were cut in two are copied. The other PDUs are collected, as far as they have
arrived: an announced length alone allocates nothing, and one that cannot be right is refused from the header.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple, TypeAlias

from dicomnet.config import Limits
from dicomnet.errors import AbortReason
from dicomnet.ul.pdu import FIXED_LENGTH, HEADER_LENGTH, MIN_MAX_LENGTH, PduType
from dicomnet.ul.wire import InvalidLength, InvalidPdu

type_and_length: Final = struct.Struct(">BxI").unpack_from
_pdv_header: Final = struct.Struct(">IBB").unpack_from
_both_headers: Final = struct.Struct(">BxIIBB")
_unpack_both: Final = _both_headers.unpack_from
_pack_both: Final = _both_headers.pack
_P_DATA_TF: Final = PduType.P_DATA_TF.value

_PDV_HEADER_LENGTH: Final = 6  # length 4, context ID 1, message control header 1
_MIN_P_DATA: Final = _PDV_HEADER_LENGTH  # a PDV with an empty fragment
_MIN_ASSOCIATE: Final = 68  # version 2, reserved 2, AE titles 32, reserved 32

SEND_LENGTH: Final = 128 * 1024  # what we send to those who take any length: headers cost 0.01 %
_BATCH_BYTES: Final = 256 * 1024  # per batch: enough for one system call to be worth it, little to hold
_BATCH_FRAGMENTS: Final = 256  # per batch: two buffers each, below the 1,024 that sendmsg takes at once

COMMAND: Final = 1  # message control header (PS3.8 E.2); bits 2–7 are not tested
LAST: Final = 2


class Fragment(NamedTuple):
    """A piece of a presentation data value. ``data`` is valid until more is received.

    ``is_last``: this piece ends the last fragment of the command set or of the data set.
    """

    context_id: int
    is_command: int
    is_last: bool
    data: memoryview


_fragment: Final = tuple.__new__  # what Fragment(...) comes to, without the detour

Frame: TypeAlias = Fragment | bytes | InvalidPdu  # bytes: a whole PDU of another type


class Framer:
    """The receiving side. ``max_length``: what we announced, in bytes; 0 is unlimited."""

    def __init__(self, max_length: int, limits: Limits) -> None:
        self.max_length = max_length
        self._max_associate = limits.associate_length
        self._header = bytearray()  # one that was cut in two, as far as it is here
        self._pdu = bytearray()  # a PDU that is not P-DATA, as far as it is here
        self._pdu_missing = 0  # bytes that it lacks
        self._p_data_left = 0  # bytes of the current P-DATA-TF that follow the current fragment or header
        self._fragment_left = 0  # bytes of the current fragment
        self._context_id = 0
        self._control = 0
        self._broken = False
        self.mid_pdu = False  # a PDU has begun and not ended
        self.pdus_begun = 0  # not counting those that came whole: a change means that another one is under way

    @property
    def fragment_left(self) -> int:
        """Bytes of the current fragment that have not arrived."""
        return self._fragment_left

    def receive(self, data: bytes | bytearray | memoryview) -> list[Frame]:
        """What ``data`` holds, in order. An ``InvalidPdu`` comes last: what follows it means nothing and is dropped."""
        view = memoryview(data)
        frames: list[Frame] = []
        if self._broken:
            return frames
        position, end = 0, len(view)
        most = self.max_length or 0xFFFFFFFF
        try:
            while position < end:
                if end - position >= 12 and not self.mid_pdu:
                    kind, length, pdv_length, context_id, control = _unpack_both(view, position)
                    after = position + HEADER_LENGTH + length
                    if kind == 4 and length == pdv_length + 4 and after <= end and 6 <= length <= most:
                        # the common case: one P-DATA-TF, one PDV, all here
                        data_view = view[position + 12 : after]
                        frames.append(
                            _fragment(Fragment, (context_id, control & COMMAND, control & LAST != 0, data_view))
                        )
                        position = after
                        continue
                position = self._step(view, position, end, frames)
                self.mid_pdu = bool(self._fragment_left or self._p_data_left or self._pdu_missing or self._header)
        except InvalidPdu as error:
            self._broken, self.mid_pdu = True, False
            frames.append(error)
        return frames

    def _step(self, view: memoryview, position: int, end: int, frames: list[Frame]) -> int:
        """Consume something from ``position`` on; return where the rest begins."""
        if self._fragment_left:
            return self._take_fragment(view, position, end, frames)
        if self._pdu_missing:
            return self._take_pdu(view, position, end, frames)
        if not self._header and not self._p_data_left:
            self.pdus_begun += 1
        after = min(end, position + HEADER_LENGTH - len(self._header))  # both kinds of header have 6 bytes
        self._header += view[position:after]
        if len(self._header) == HEADER_LENGTH:
            header = bytes(self._header)
            self._header.clear()
            if self._p_data_left:
                self._begin_fragment(header, view, frames)
            else:
                self._begin_pdu(header)
        return after

    def _begin_pdu(self, header: bytes) -> None:
        kind, length = type_and_length(header)
        match kind:
            case PduType.P_DATA_TF:
                allowed = _MIN_P_DATA <= length <= (self.max_length or length)
                self._p_data_left = length
            case PduType.ASSOCIATE_RQ | PduType.ASSOCIATE_AC:
                allowed = _MIN_ASSOCIATE <= length <= self._max_associate
            case PduType.ASSOCIATE_RJ | PduType.RELEASE_RQ | PduType.RELEASE_RP | PduType.ABORT:
                allowed = length == FIXED_LENGTH
            case _:
                raise InvalidPdu(f"PDU type {kind:02X}H", AbortReason.UNRECOGNISED_PDU)
        if not allowed:
            raise InvalidLength(f"a PDU of type {kind:02X}H announces {length} bytes")
        if kind != PduType.P_DATA_TF:
            self._pdu[:] = header
            self._pdu_missing = length

    def _take_pdu(self, view: memoryview, position: int, end: int, frames: list[Frame]) -> int:
        after = min(end, position + self._pdu_missing)
        self._pdu += view[position:after]
        self._pdu_missing -= after - position
        if not self._pdu_missing:
            frames.append(bytes(self._pdu))
            self._pdu.clear()
        return after

    def _begin_fragment(self, header: bytes, view: memoryview, frames: list[Frame]) -> None:
        length, self._context_id, self._control = _pdv_header(header)
        rest = self._p_data_left - 4 - length
        if length < 2 or rest < 0 or 0 < rest < _PDV_HEADER_LENGTH:
            raise InvalidLength(f"a PDV of {length} bytes in the {self._p_data_left} that are left of its P-DATA-TF")
        self._p_data_left = rest
        self._fragment_left = length - 2
        if not self._fragment_left:  # 9.3.1, E.1: an empty fragment is legal
            frames.append(Fragment(self._context_id, self._control & COMMAND, self._control & LAST != 0, view[:0]))

    def _take_fragment(self, view: memoryview, position: int, end: int, frames: list[Frame]) -> int:
        after = min(end, position + self._fragment_left)
        self._fragment_left -= after - position
        is_last = self._control & LAST != 0 and not self._fragment_left
        frames.append(Fragment(self._context_id, self._control & COMMAND, is_last, view[position:after]))
        return after


def whole_command(data: memoryview, max_length: int) -> tuple[int, bytes] | None:
    """Presentation context ID and command set if ``data`` is one P-DATA-TF that holds just that, whole; else None."""
    size = len(data)
    if size < 12:
        return None
    kind, length, pdv_length, context_id, control = _unpack_both(data)
    if (
        kind != 4
        or length != size - 6
        or pdv_length != size - 10
        or control & 3 != 3
        or length > (max_length or length)
    ):
        return None
    return context_id, bytes(data[12:])


def p_data_header(context_id: int, control: int, length: int) -> bytes:
    """The headers of a P-DATA-TF with one PDV that holds a fragment of ``length`` bytes (PS3.8 9.3.5)."""
    return _pack_both(_P_DATA_TF, length + 6, length + 2, context_id, control)


def fragment_length(peer_max_length: int) -> int:
    """The longest fragment, in bytes, that fits the peer's maximum length (0: unlimited); always even (PS3.8 E.1)."""
    longest = min(peer_max_length or SEND_LENGTH, SEND_LENGTH)
    return (max(longest, MIN_MAX_LENGTH) - _PDV_HEADER_LENGTH) & ~1


def batches(
    context_id: int, command: bytes, data: memoryview | None, peer_max_length: int, *, keep_odd: bool = False
) -> Iterator[list[bytes | memoryview]]:
    """A message as P-DATA-TF PDUs: lists of buffers that go out one after the other, each list in one system call.

    Command set and data set never share a PDU: that is legal, and there are receivers that do not read it. A data set
    of odd length, which only a defective file has, is padded with a NUL (PS3.8 E.1: fragments are even; PS3.5 A.5
    ends a deflated one so), unless ``keep_odd``.
    """
    longest = fragment_length(peer_max_length)
    batch: list[bytes | memoryview] = []
    size = 0
    parts = ((memoryview(command), COMMAND),) if data is None else ((memoryview(command), COMMAND), (data, 0))
    for part, control in parts:
        total = len(part)
        position = 0
        while True:
            after = position + longest
            piece = part[position:after]
            length = len(piece)
            last = LAST if after >= total else 0
            pad = length & 1 and not keep_odd  # so it is the last one: the others are full, and full is even
            batch.append(p_data_header(context_id, control | last, length + pad))
            batch.append(piece)
            size += length
            if last:
                if pad:
                    batch.append(b"\0")
                break
            position = after
            if size >= _BATCH_BYTES or len(batch) >= 2 * _BATCH_FRAGMENTS:
                yield batch
                batch, size = [], 0
    yield batch
