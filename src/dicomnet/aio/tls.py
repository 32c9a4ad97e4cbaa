"""TLS between a connection and its conversation: bytes in, bytes out, no I/O.

One idea: it is not asyncio's TLS, because that closes a connection as soon as one side has no more to say, while an
association goes on until its peer has closed (PS3.8 9.1.4): what it still says would be lost.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterable
from typing import Final, cast

from dicomnet.tls import TlsInfo, tls_info
from dicomnet.transport import Buffer, check_mapped

_RECORD: Final = 16 * 1024  # RFC 8446 5.1: the most that one record holds


class Tls:
    """One side of a TLS connection. Raises ssl.SSLError, and ValueError for a host name that TLS does not take.

    ``info``: what the handshake came to, None before. ``fed``: something has been received since the handshake looked.
    """

    def __init__(self, context: ssl.SSLContext, *, server_side: bool, server_hostname: str | None) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        # Certificates hold neither zones (RFC 4007 11) nor the dot of a complete name (RFC 6066 3).
        name = None if server_hostname is None else server_hostname.partition("%")[0].rstrip(".")
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side=server_side, server_hostname=name)
        self._plain = memoryview(bytearray(_RECORD))
        self._unsent: list[Buffer] = []  # OpenSSL wants to read first
        self._deaf = False  # this side has said goodbye: what comes means nothing any more
        self.info: TlsInfo | None = None
        self.fed = False

    def handshake(self) -> bool:
        """Go on with it as far as what has been received allows; True when it is over."""
        self.fed = False
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        self.info = tls_info(self._object)
        return True

    def feed(self, data: memoryview) -> None:
        """Bytes from the peer."""
        if not self._deaf:
            self._incoming.write(data)
        self.fed = True

    def feed_eof(self) -> None:
        """There will be no more."""
        self._incoming.write_eof()
        self.fed = True

    def decrypted(self) -> memoryview | None:
        """What the peer says next, valid until the next call; empty at the end; None if nothing more has come."""
        if self._deaf:
            return None
        filled, size = 0, len(self._plain)
        try:
            while filled < size:
                count = cast("int", self._object.read(size - filled, self._plain[filled:]))
                if not count:  # close_notify
                    break
                filled += count
        except ssl.SSLWantReadError:
            if not filled:
                return None
        except ssl.SSLZeroReturnError:
            pass  # close_notify
        plain = self._plain[:filled]
        if filled == size and size < 8 * _RECORD:
            self._plain = memoryview(bytearray(2 * size))  # ``plain`` keeps the old one alive
        return plain

    def encrypt(self, buffers: Iterable[Buffer]) -> None:
        """Say this; it is then among what ``data_to_send`` returns. Raises OSError."""
        self._unsent += buffers
        check_mapped(self._unsent)
        try:
            while self._unsent:
                left = memoryview(self._unsent[0])
                while left:  # each call takes one record
                    left = left[self._object.write(left) :]
                    self._unsent[0] = left
                del self._unsent[0]
        except ssl.SSLWantReadError:  # the peer negotiates anew: the rest follows when it has answered
            pass

    @property
    def behind(self) -> bool:
        """What was to be said has not all been encrypted: OpenSSL waits for the peer."""
        return bool(self._unsent)

    def data_to_send(self) -> bytes:
        """What is to be written to the peer, since the last call."""
        return self._outgoing.read()

    def say_goodbye(self) -> None:
        """Send close_notify (RFC 8446 6.1); nobody waits for the peer's. Does nothing while the peer is speaking.

        OpenSSL looks for the peer's at once, and cannot hear after it has found something else instead. What comes
        after our last PDU means nothing; it is thrown away.
        """
        if self._deaf or self.info is None or self._incoming.pending:
            return
        self._deaf = True
        with contextlib.suppress(OSError, ValueError):  # SSLWantReadError is the usual case: the peer has not said it
            self._object.unwrap()
