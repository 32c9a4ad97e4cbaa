"""What passes, without what belongs to patients or is secret: the same number of bytes, so that each PDU stays whole.

One idea: the framer says which bytes are fragments of a data set, as views of what it was given; each fragment becomes
one private element whose value is zeros, so that who reads the file finds a data set. Command sets and the negotiation
stay, but for passcodes, tickets and tokens (PS3.7 D.3.3.7). What cannot be read is zeros but for its beginning: it may
be anything.
"""

from __future__ import annotations

import struct
from itertools import zip_longest
from typing import Final

from dicomnet.config import Limits
from dicomnet.part10 import EXPLICIT_VR_BIG_ENDIAN
from dicomnet.trace.decoding import BEGINNING
from dicomnet.trace.pdus import NO_PDU, PduStream, Piece
from dicomnet.ul import pdu
from dicomnet.ul.framer import Fragment, Frame, Framer
from dicomnet.ul.negotiation import IMPLICIT_VR_LITTLE_ENDIAN
from dicomnet.ul.pdu import HEADER_LENGTH, PduType
from dicomnet.ul.wire import Cursor, InvalidPdu

_ITEMS: Final = HEADER_LENGTH + 68  # where the items of an A-ASSOCIATE-RQ or -AC begin (PS3.8 Table 9-11)
_USER_INFORMATION: Final = 0x50
_IDENTITY: Final = 0x58
_IDENTITY_ANSWER: Final = 0x59
_NAMED: Final = (1, 2)  # user identity types whose primary field is a name
_NEGOTIATION: Final = (PduType.ASSOCIATE_RQ, PduType.ASSOCIATE_AC)
_HIDDEN: Final = 0x00091010  # tag of the element in whose place zeros are: private, so that it may hold anything


class Mask:
    """One direction. Holds back a PDU header that is not whole, and a negotiation PDU that is not.

    ``off``: nothing is masked, only cut where PDUs begin. ``syntaxes``: presentation context ID → transfer syntax, as
    the A-ASSOCIATE-AC has them; the masks of both directions share it.
    """

    def __init__(
        self, limits: Limits | None = None, *, off: bool = False, syntaxes: dict[int, str] | None = None
    ) -> None:
        self._off = off
        self._syntaxes = {} if syntaxes is None else syntaxes
        self._limits = limits or Limits()
        self._stream = PduStream(self._limits)
        self._framer = Framer(0, self._limits)
        self._unreadable = False
        self._left = 0  # bytes of the current fragment that are still to come
        self._filling = b""  # what they begin with
        self._command_length = 0  # of the command set, as far as it is here
        self._group = True  # it begins with the right group
        self._held = bytearray()  # an A-ASSOCIATE-RQ or -AC, as far as it is here
        self._shown = BEGINNING  # bytes of what is no PDU that may still be shown

    def feed(self, data: bytes | bytearray | memoryview) -> list[bytes]:
        """What may be shown of ``data``, and of what was held back: pieces that are each of one PDU."""
        return [bytes(piece.data) if self._off else bytes(self._masked(piece)) for piece in self._stream.split(data)]

    def end(self) -> bytes:
        """What is still held back, for it will not become whole."""
        rest = self._held[:_ITEMS] + bytes(max(0, len(self._held) - _ITEMS)) + self._stream.header
        self._held = bytearray()
        return bytes(rest)

    def _masked(self, piece: Piece) -> bytes | bytearray:
        if piece.type == NO_PDU:
            return self._beginning(piece.data)
        if piece.begins:
            self._unreadable = False
        if piece.type == PduType.P_DATA_TF:
            self._shown = 0
            return self._p_data(piece)
        if piece.type in _NEGOTIATION:
            self._held += piece.data
            if not piece.ends:
                return b""
            whole, self._held = self._held, bytearray()
            self._note(bytes(whole))
            return _without_secrets(whole)
        if piece.type in tuple(PduType):
            return bytes(piece.data)
        head = HEADER_LENGTH if piece.begins else 0
        return bytes(piece.data[:head]) + bytes(len(piece.data) - head)

    def _beginning(self, data: memoryview) -> bytes:
        if self._stream.is_tls:
            return bytes(data)
        shown = bytes(data[: self._shown])
        self._shown -= len(shown)
        return shown + bytes(len(data) - len(shown))

    def _note(self, encoded: bytes) -> None:
        """Which transfer syntaxes were accepted."""
        try:
            value = pdu.decode(encoded)
        except InvalidPdu:  # the decoder says so
            return
        if isinstance(value, pdu.AssociateAc):
            self._syntaxes.update({one.id: one.transfer_syntax for one in value.contexts if one.result == 0})

    def _p_data(self, piece: Piece) -> bytearray:
        copy = bytearray(piece.data)
        if not self._unreadable:
            frames = self._framer.receive(copy)
            for frame, following in zip_longest(frames, frames[1:]):
                self._hide(frame, following is None)
        if self._unreadable:
            head = HEADER_LENGTH if piece.begins else 0
            return copy[:head] + bytes(len(copy) - head)
        return copy

    def _hide(self, frame: Frame, is_last_here: bool) -> None:
        """Put the filling over what is of a data set, in place."""
        if not isinstance(frame, Fragment):
            self._unreadable = True
            self._framer, self._left = Framer(0, self._limits), 0
            return
        length = len(frame.data)
        begins, self._left = not self._left, self._framer.fragment_left if is_last_here else 0
        if frame.is_command and self._is_command(frame):
            return
        if begins:
            self._filling = _element(length + self._left, self._syntaxes.get(frame.context_id, ""))
        shown, self._filling = self._filling[:length], self._filling[length:]
        frame.data[:] = shown.ljust(length, b"\0")

    def _is_command(self, fragment: Fragment) -> bool:
        """It may be part of a command set: those begin with group 0000, and end within the limit (PS3.7 6.3.1)."""
        begins = self._command_length == 0
        self._command_length = 0 if fragment.is_last else self._command_length + len(fragment.data)
        if begins and len(fragment.data):
            self._group = bytes(fragment.data[:1]) == b"\0"
        return self._group and self._command_length <= self._limits.command_set


def _element(length: int, transfer_syntax: str) -> bytes:
    """The header of an element that takes ``length`` bytes; for less than a header nothing: it is zeros then."""
    order, tag = ">" if transfer_syntax == EXPLICIT_VR_BIG_ENDIAN else "<", (_HIDDEN >> 16, _HIDDEN & 0xFFFF)
    if length < 8:
        return b""
    if transfer_syntax == IMPLICIT_VR_LITTLE_ENDIAN:
        return struct.pack(f"{order}HHI", *tag, length - 8)
    if length < 12:
        return struct.pack(f"{order}HH2sH", *tag, b"LO", length - 8)
    return struct.pack(f"{order}HH2sHI", *tag, b"UN", 0, length - 12)


def _without_secrets(encoded: bytearray) -> bytearray:
    """An A-ASSOCIATE-RQ or -AC with the passcode, ticket, assertion or token of its user identity as zeros."""
    try:
        cursor = Cursor(bytes(encoded), min(_ITEMS, len(encoded)))
        while cursor:
            kind, value = cursor.item()
            while kind == _USER_INFORMATION and value:
                sub_kind, sub = value.item()
                if sub_kind in (_IDENTITY, _IDENTITY_ANSWER):
                    start = _secret(sub_kind, sub)
                    encoded[start : sub.end] = bytes(sub.end - start)
    except InvalidPdu:  # it may be anywhere
        encoded[_ITEMS:] = bytes(max(0, len(encoded) - _ITEMS))
    return encoded


def _secret(kind: int, sub: Cursor) -> int:
    """Where the secret part of a user identity sub-item begins; its lengths stay."""
    if kind == _IDENTITY_ANSWER:
        sub.skip(2)
        return sub.position
    type_of_identity = sub.u8()
    sub.skip(1)
    length = sub.u16()
    if type_of_identity in _NAMED:
        sub.skip(length)
        sub.skip(2)
        return sub.position
    start = sub.position
    sub.skip(length)
    secondary = sub.u16()
    if secondary:  # such an identity has none; the length must stay readable
        raise InvalidPdu(f"a user identity of type {type_of_identity} has a secondary field")
    sub.end = sub.position - 2
    return start
