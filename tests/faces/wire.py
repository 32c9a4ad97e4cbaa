"""Peers played by the test, byte by byte: ``Wire`` is one end of a connection, ``Scripted`` a server made of one."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
from collections.abc import Callable
from typing import Self

from dicomnet.dimse import messages
from dicomnet.dimse.messages import CommandField, Request, Response
from dicomnet.ul import pdu
from dicomnet.ul.framer import batches

VERIFICATION = "1.2.840.10008.1.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
INSTANCE = "1.2.3.4"
GIVEN_UP = 20.0  # seconds: a test that waits longer has found a hang

USER = pdu.UserInformation(max_length=16384, implementation_class_uid="1.2.3")
CONTEXTS = (
    pdu.ProposedContext(1, VERIFICATION, (IMPLICIT,)),
    pdu.ProposedContext(3, CT, (EXPLICIT,)),
    pdu.ProposedContext(5, "1.2.3.999", (EXPLICIT,)),  # nobody supports it
)
RQ = pdu.AssociateRq("SCP", "WIRE", CONTEXTS, USER)
AC = pdu.AssociateAc("SCP", "WIRE", (pdu.AnsweredContext(1, 0, IMPLICIT), pdu.AnsweredContext(3, 0, EXPLICIT)), USER)
OFFER = [(VERIFICATION, [IMPLICIT]), (CT, [EXPLICIT])]  # what a requestor has to propose to be answered by AC
RJ = pdu.AssociateRj(1, 1, 1)
RELEASE_RQ = pdu.ReleaseRq()
RELEASE_RP = pdu.ReleaseRp()
ABORT = pdu.Abort(0, 0)


def patient_data() -> bytes:
    """A data set in Explicit VR Little Endian with a patient's name and ID, which may never be seen in a log."""
    elements = ((0x0008, 0x0016, b"UI", CT.encode()), (0x0008, 0x0018, b"UI", INSTANCE.encode() + b"\0"))
    elements += ((0x0010, 0x0010, b"PN", b"DOE^JANE"), (0x0010, 0x0020, b"LO", b"PID-4711"))
    encoded = b""
    for group, element, vr, value in elements:
        value += b"\0" * (len(value) % 2)
        encoded += struct.pack("<HH2sH", group, element, vr, len(value)) + value
    return encoded


def message(context_id: int, command: Request | Response, data: bytes | None = None, longest: int = 16384) -> bytes:
    view = None if data is None else memoryview(data)
    lists = batches(context_id, messages.encode(command), view, longest)
    return b"".join(bytes(part) for batch in lists for part in batch)


def echo_rq(message_id: int = 1) -> bytes:
    return message(1, Request(CommandField.C_ECHO, message_id, VERIFICATION))


def store_rq(message_id: int = 1, data: bytes | None = None, longest: int = 16384) -> bytes:
    request = Request(CommandField.C_STORE, message_id, CT, INSTANCE, has_dataset=True)
    return message(3, request, patient_data() if data is None else data, longest)


def echo_rsp(message_id: int = 1, status: int = 0) -> bytes:
    return message(1, Response(status, command=CommandField.C_ECHO, message_id=message_id))


def store_rsp(message_id: int = 1, status: int = 0) -> bytes:
    return message(3, Response(status, command=CommandField.C_STORE, message_id=message_id))


def pdus(data: bytes) -> list[bytes]:
    """The PDUs in ``data``, each whole."""
    found = []
    while data:
        end = 6 + int.from_bytes(data[2:6], "big")
        found.append(data[:end])
        data = data[end:]
    return found


def p_data(*pdvs: bytes) -> bytes:
    return header(4, b"".join(pdvs))


def pdv(context_id: int, control: int, data: bytes) -> bytes:
    return struct.pack(">IBB", len(data) + 2, context_id, control) + data


def header(kind: int, body: bytes, length: int | None = None) -> bytes:
    return struct.pack(">BxI", kind, len(body) if length is None else length) + body


def encoded(part: pdu.Pdu | bytes) -> bytes:
    return part if isinstance(part, bytes) else pdu.encode(part)


class Wire:
    """One end of a connection. Use it as a context manager: it is closed at the end."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(GIVEN_UP)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = sock
        self.address = "{}:{}".format(*sock.getsockname()[:2])
        self.may_end = threading.Event()  # for a script that keeps its connection until the test has seen enough

    @classmethod
    def to(cls, port: int, host: str = "127.0.0.1") -> Self:
        return cls(socket.create_connection((host, port), GIVEN_UP))

    @classmethod
    def associated(cls, port: int, request: pdu.AssociateRq = RQ) -> Self:
        wire = cls.to(port).sends(request)
        assert isinstance(wire.hears(), pdu.AssociateAc)
        return wire

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.socket.close()

    # --- speaking ---------------------------------------------------------------------------------------------------

    def sends(self, *parts: pdu.Pdu | bytes) -> Self:
        """In one segment, if they fit."""
        self.socket.sendall(b"".join(map(encoded, parts)))
        return self

    def tries_to_send(self, *parts: pdu.Pdu | bytes) -> bool:
        """As ``sends``, to a peer that may have gone; False if it has."""
        try:
            self.sends(*parts)
        except ConnectionError:
            return False
        return True

    def half_closes(self) -> Self:
        with contextlib.suppress(OSError):  # the peer was faster
            self.socket.shutdown(socket.SHUT_WR)
        return self

    def resets(self) -> None:
        """Close with a RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    # --- listening --------------------------------------------------------------------------------------------------

    def hears(self) -> pdu.Pdu | None:
        """The next PDU; None at the end."""
        head = self.reads(6)
        if not head:
            return None
        return pdu.decode(head + self.reads(int.from_bytes(head[2:], "big")))

    def hears_raw(self) -> bytes:
        """All bytes to the end, whatever they are."""
        data = b""
        while more := self.reads(1):
            data += more
        return data

    def reads(self, count: int) -> bytes:
        """``count`` bytes, or nothing at the end."""
        data = b""
        while len(data) < count:
            try:
                more = self.socket.recv(count - len(data))
            except ConnectionError:
                more = b""
            if not more:
                return b""
            data += more
        return data

    def hears_to_the_end(self) -> list[pdu.Pdu]:
        heard = []
        while (value := self.hears()) is not None:
            heard.append(value)
        return heard

    def hears_message(self) -> Response | Request | messages.Unusable:
        """A message of one P-DATA-TF, without data set."""
        value = self.hears()
        assert isinstance(value, pdu.PDataTf), value
        (only,) = value.pdvs
        return messages.decode(only.data)

    def hears_to_the_end_of_a_data_set(self) -> None:
        while True:
            value = self.hears()
            assert isinstance(value, pdu.PDataTf), value
            if any(fragment.is_last and not fragment.is_command for fragment in value.pdvs):
                return

    def is_quiet_for(self, seconds: float) -> bool:
        """Nothing comes, not even the end, for this long."""
        return not select.select([self.socket], [], [], seconds)[0]


class Scripted:
    """A server on 127.0.0.1 that plays ``script(wire)`` to each connection, in its own thread, and then closes it."""

    def __init__(self, script: Callable[[Wire], object]) -> None:
        self._script = script
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.peer = f"SCP@127.0.0.1:{self.port}"
        self.error: BaseException | None = None
        self.may_end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="script", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):  # the listener was closed
            while True:
                sock, _address = self._listener.accept()
                with Wire(sock) as wire:
                    wire.may_end = self.may_end
                    try:
                        self._script(wire)
                    except ConnectionError:
                        pass  # the other side is free to go
                    except BaseException as error:
                        self.error = error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_exception: object) -> None:
        self.may_end.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(GIVEN_UP)
        if kind is None and self.error is not None:
            raise self.error
