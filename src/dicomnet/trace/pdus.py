"""Where PDUs begin and end in a stream of bytes (PS3.8 9.3.1), for an observer.

One idea: a stream is cut into pieces, each within one PDU, and no byte is held back but those of a header that is not
whole yet. An association stops at the first byte that is wrong; an observer goes on from the next PDU if it can tell
where that is.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from dicomnet.config import Limits
from dicomnet.ul.framer import type_and_length
from dicomnet.ul.pdu import FIXED_LENGTH, HEADER_LENGTH, PduType

NO_PDU: Final = 0  # the type of a piece that belongs to no PDU
_KNOWN: Final = range(PduType.ASSOCIATE_RQ, PduType.ABORT + 1)
_P_DATA_TF: Final = PduType.P_DATA_TF.value
_TLS_RECORDS: Final = range(0x14, 0x18)  # RFC 8446 5.1: change cipher spec, alert, handshake, application data
TLS: Final = "TLS: cannot be read"  # why a stream is lost that is TLS, which is nothing wrong
_TLS_MAJOR: Final = 3  # of every version since SSL 3.0


class Piece(NamedTuple):
    """Bytes of one PDU; ``length``: of all of the PDU, its header included. Or of none: then they have no end."""

    type: int
    length: int
    data: memoryview
    begins: bool
    ends: bool


class PduStream:
    """Cuts one direction of a connection. ``lost``: why it is not known any more where PDUs begin; else empty.

    ``in_step``: the stream begins with a PDU; otherwise, and after a gap, the first bytes fed at once that look like
    one are taken for it.
    """

    def __init__(self, limits: Limits, *, in_step: bool = True) -> None:
        self._longest = limits.associate_length
        self._header = bytearray()
        self.type = 0
        self._length = 0
        self.left = 0  # bytes of the current PDU that are still to come
        self.lost = ""
        self.is_tls = False
        self._searches = not in_step
        self._any = False  # a PDU has been seen

    @property
    def header(self) -> bytes:
        """The bytes that are held back."""
        return bytes(self._header)

    def take_header(self) -> bytes:
        """The same, and they are held back no more."""
        header = bytes(self._header)
        self._header.clear()
        return header

    @property
    def mid_pdu(self) -> bool:
        """A PDU has begun and not ended."""
        return bool(self.left or self._header)

    @property
    def searches(self) -> bool:
        """What comes is not looked at before something looks like a PDU."""
        return self._searches

    def lose(self) -> None:
        """Some bytes are not there, nobody knows how many PDUs: search for the next one."""
        self._header.clear()
        self.left = 0
        if not self.lost:
            self._searches = True

    def split(self, data: bytes | bytearray | memoryview) -> list[Piece]:
        """The pieces of ``data``, in order."""
        view = memoryview(data)
        pieces: list[Piece] = []
        if self._searches and not self._finds(view):
            return pieces
        position, end = 0, len(view)
        while position < end:
            if self.lost:
                pieces.append(Piece(NO_PDU, 0, view[position:], False, False))
                break
            if self.left:
                after = min(end, position + self.left)
                self.left -= after - position
                pieces.append(Piece(self.type, self._length, view[position:after], False, not self.left))
            elif not self._header and end - position >= HEADER_LENGTH:
                if not self._begin(view[position : position + HEADER_LENGTH]):
                    pieces.append(Piece(NO_PDU, 0, view[position:], True, False))
                    break
                after = min(end, position + self._length)
                self.left = self._length - (after - position)
                pieces.append(Piece(self.type, self._length, view[position:after], True, not self.left))
            else:
                after = min(end, position + HEADER_LENGTH - len(self._header))
                self._header += view[position:after]
                if len(self._header) == HEADER_LENGTH:
                    pieces.append(self._piece_of_header())
            position = after
        return pieces

    def _piece_of_header(self) -> Piece:
        header = memoryview(bytes(self._header))
        self._header.clear()
        if not self._begin(header):
            return Piece(NO_PDU, 0, header, True, False)
        self.left = self._length - HEADER_LENGTH
        return Piece(self.type, self._length, header, True, not self.left)

    def _begin(self, header: memoryview) -> bool:
        kind, length = type_and_length(header)
        self.type, self._length = kind, length + HEADER_LENGTH
        if kind == _P_DATA_TF or (kind in _KNOWN and length <= self._longest):
            self._any = True
            return True
        if kind in _KNOWN:
            self.lost = f"a PDU of type {kind:02X}H announces {length} bytes"
        elif kind in _TLS_RECORDS and header[1] == _TLS_MAJOR and not self._any:
            self.lost, self.is_tls = TLS, True
        elif self._any and header[1] == 0 and length <= self._longest:
            return True  # 9.3.1: the byte is reserved, 0; so this is a PDU of a type that nobody knows
        else:
            self.lost = f"no PDU: it would have the type {kind:02X}H"
        return False

    def _finds(self, view: memoryview) -> bool:
        if looks_like_pdu(view, self._longest):
            self._searches = False
        return not self._searches


def looks_like_pdu(view: memoryview, longest: int = Limits().associate_length) -> bool:
    """Whether ``view`` begins like a PDU, by all that its first bytes tell."""
    if len(view) < HEADER_LENGTH + FIXED_LENGTH or view[1] != 0:
        return False
    kind, length = type_and_length(view)
    match kind:
        case PduType.P_DATA_TF:
            pdv = int.from_bytes(view[6:10], "big")
            if len(view) < 12:
                return False
            return 2 <= pdv <= length - 4 and view[10] % 2 == 1 and view[11] < 4  # 9.3.2.2: IDs are odd; E.2
        case PduType.ASSOCIATE_RQ | PduType.ASSOCIATE_AC:
            return 68 <= length <= longest and view[7] & 1 == 1  # 9.3.2: bit 0 of the protocol version
        case PduType.ASSOCIATE_RJ | PduType.RELEASE_RQ | PduType.RELEASE_RP | PduType.ABORT:
            return bool(length == FIXED_LENGTH)
    return False
