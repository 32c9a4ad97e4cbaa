"""``DicomNet``: one connection, or one listening socket, with everything that happens told by callbacks.

Derive a class, override ``on_*`` methods, call ``send_*`` ones. Sending only queues; callbacks of one object come one
after the other on a thread of its own. Nothing is answered by itself. Names and argument orders are those of the class
that the project's walk-through was written for.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from dicomnet import transport
from dicomnet.callbacks import commands
from dicomnet.callbacks.associate import DicomAssociate
from dicomnet.callbacks.connection import Connection
from dicomnet.callbacks.enums import IpType, NetError, RejectReasonPresentation, Security
from dicomnet.callbacks.listener import MAPPED, Listener
from dicomnet.callbacks.overrides import check_overrides
from dicomnet.callbacks.services import DatasetLike, Services
from dicomnet.config import Limits, Timeouts
from dicomnet.dataset import EncodedDataset, Path, encode_for
from dicomnet.dimse import command, messages
from dicomnet.errors import LocalProtocolError, RejectResult, RejectSource, TransportError
from dicomnet.ul.fsm import Event

if TYPE_CHECKING:
    from pydicom import Dataset


@dataclass(slots=True)
class SocketOptions:
    """TCP options of a connection, to be set before it is made. Buffer sizes are bytes; None leaves them to the
    system, which adapts them.
    """

    no_delay: bool = True
    send_buffer_size: int | None = None
    receive_buffer_size: int | None = None

    def apply(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):  # a size that the system does not grant, or a connection gone already
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, int(self.no_delay))
            if self.send_buffer_size is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.send_buffer_size)
            if self.receive_buffer_size is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_buffer_size)


class _Library:
    """How often the library was started, and the objects that live while it is."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.started = 0
        self.active: weakref.WeakSet[DicomNet] = weakref.WeakSet()


class DicomNet(Services):
    """A DICOM connection, or a listening socket, with callbacks.

    ``security``: ``Security.NONE``, ``Security.TLS`` or an ``ssl.SSLContext`` (which means TLS). ``tls``: the context
    for ``Security.TLS``; without one the system's certificates vouch for the peer, and ``load_certificate`` names our
    own. An object that is accepted by one with TLS has TLS, too. ``timeouts``, ``limits``: see ``config``.
    ``max_clients``: of a listening object; past it a connection gets A-ASSOCIATE-RJ 2/3/2. ``spool_folder``: where
    received data sets above ``limits.spool_size`` wait.

    ``user_data`` is the user's. ``last_error``: the exception behind the last NetError, with OpenSSL's reason if it
    was TLS; ``server``: of an accepted client, the listening object. ``host_address``, ``host_port``, ``peer_address``,
    ``peer_port``, ``ip_type`` stay valid inside ``on_close``.

    Every ``send_*`` raises LocalProtocolError for a call in the wrong state, QueueFull from a callback of this object
    while more than ``limits.queue`` bytes wait (from another thread it blocks; DeadlineExceeded after
    ``timeouts.send``), and InvalidDataset, NoAcceptedContext or OSError for a data set that cannot be sent.
    """

    _library: ClassVar[_Library] = _Library()

    def __init__(
        self,
        security: Security | ssl.SSLContext = Security.NONE,
        *,
        tls: ssl.SSLContext | None = None,
        timeouts: Timeouts | None = None,
        limits: Limits | None = None,
        max_clients: int | None = None,
        spool_folder: Path | None = None,
    ) -> None:
        if isinstance(security, ssl.SSLContext):
            tls, security = security, Security.TLS
        self.security = Security(security)
        if self.security is Security.ISCL:
            raise LocalProtocolError("ISCL rests on DES and MD5 and is obsolete; use Security.TLS")
        self._tls: dict[bool, ssl.SSLContext] = {}  # server side → context
        if tls is not None:
            self.security, self._tls = Security.TLS, {False: tls, True: tls}
        self.timeouts = timeouts or Timeouts()
        self.limits = limits or Limits()
        self.max_clients = self.limits.associations if max_clients is None else max_clients
        self.spool_folder = spool_folder
        self.socket_options = SocketOptions()
        self.user_data: Any = None
        self.last_error: BaseException | None = None
        self.server: DicomNet | None = None
        self.host_address = ""
        self.host_port = 0
        self.peer_address = ""
        self.peer_port = 0
        self.ip_type = IpType.NONE
        self._connection: Connection | None = None
        self._listener: Listener | None = None
        self._home: Listener | None = None  # that accepted this object
        overridden = type(self)
        self._watches_data = overridden.on_receive_data is not DicomNet.on_receive_data
        before_send = overridden.on_before_send_command_set
        self._watches_command_sets = before_send is not DicomNet.on_before_send_command_set

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        check_overrides(cls, DicomNet)

    # --- the library ------------------------------------------------------------------------------------------------

    @classmethod
    def startup(cls) -> None:
        """Before anything else; counted."""
        with cls._library.lock:
            cls._library.started += 1

    @classmethod
    def shutdown(cls) -> None:
        """After everything else. The last one that matches a ``startup`` closes what is still open."""
        library = cls._library
        with library.lock:
            if library.started == 0:
                raise LocalProtocolError("DicomNet.shutdown() without a matching DicomNet.startup()")
            library.started -= 1
            left = list(library.active) if library.started == 0 else []
        for net in left:
            net._close(forced=True)
        for net in left:
            net._join()

    @classmethod
    @contextlib.contextmanager
    def session(cls) -> Iterator[None]:
        """``startup`` and ``shutdown`` as a context manager."""
        cls.startup()
        try:
            yield
        finally:
            cls.shutdown()

    def _activate(self, call: str) -> threading.Thread | None:
        """One object is one connection or one listening socket, and the library must have been started.

        Returns the thread of what it was before.
        """
        library = self._library
        with library.lock:
            if library.started == 0:
                raise LocalProtocolError(f"{call}: call DicomNet.startup() first")
            if self.is_activated():
                raise LocalProtocolError(f"{call}: this object listens or is connected already; make another one")
            before = self._listener or self._connection
            if before is not None and not before.ended:
                raise LocalProtocolError(f"{call}: this object is still being closed; wait for on_close")
            library.active.add(self)
            self._listener = self._connection = None
        self.last_error = None
        return None if before is None else before.thread

    def _join(self) -> None:
        """Wait for this object's thread, unless this is it."""
        threads = [part.thread for part in (self._connection, self._listener) if part is not None]
        for thread in threads:
            if thread is not threading.current_thread() and thread.ident is not None:
                thread.join(self.timeouts.closing)

    # --- state ------------------------------------------------------------------------------------------------------

    @property
    def association(self) -> DicomAssociate | None:
        """What was negotiated, or None."""
        return None if self._connection is None else self._connection.negotiated

    def is_activated(self) -> bool:
        """It listens, connects or is connected."""
        part = self._listener or self._connection
        return part is not None and not part.closing

    def is_connected(self) -> bool:
        """It has a connection that is not being closed."""
        connection = self._connection
        return connection is not None and connection.connected and not connection.closing

    def is_associated(self) -> bool:
        """Messages can be sent."""
        return self.is_connected() and self._connection is not None and self._connection.is_established

    @property
    def clients(self) -> list[DicomNet]:
        """Of a listening object: the accepted clients that are not closed yet."""
        if self._listener is None:
            return []
        with self._listener.lock:
            return list(self._listener.clients)

    @property
    def client_count(self) -> int:
        return len(self.clients)

    @property
    def queued(self) -> int:
        """Bytes that wait to be sent, as they will be on the wire."""
        return 0 if self._connection is None else self._connection.queued

    # --- connection -------------------------------------------------------------------------------------------------

    def load_certificate(self, certificate: Path, key: Path | None = None) -> None:
        """Use a certificate (PEM) and its key for TLS; an encrypted key's password comes from
        ``on_private_key_password``, which is called here. Call it before ``connect``, ``listen`` or ``accept``.

        Raises LocalProtocolError without TLS, TransportError for files that do not fit.
        """
        if self.security is not Security.TLS:
            raise LocalProtocolError("load_certificate: this object does not use TLS; pass security=Security.TLS")
        contexts = [self._tls_context(server_side=side) for side in (False, True)]
        try:
            for context in dict.fromkeys(context for context in contexts if context is not None):
                context.load_cert_chain(os.fspath(certificate), key, password=self.on_private_key_password)
        except OSError as error:
            raise TransportError(f"the certificate or its key cannot be used: {error}") from error

    def _tls_context(self, *, server_side: bool) -> ssl.SSLContext | None:
        if self.security is not Security.TLS:
            return None
        if server_side not in self._tls:
            purpose = ssl.Purpose.CLIENT_AUTH if server_side else ssl.Purpose.SERVER_AUTH
            self._tls[server_side] = ssl.create_default_context(purpose)
        return self._tls[server_side]

    def listen(self, address: str = "", port: int = 0, backlog: int = 128) -> None:
        """Listen on ``address`` (``""``: loopback, ``"*"``: all, IPv4 and IPv6) and ``port`` (0: a free one).

        ``backlog`` is the socket's; ``max_clients`` limits the clients. Raises TransportError.
        """
        self._activate("listen")
        _check_port("listen", port)
        try:
            self._listener = Listener(self, address, port, backlog)
            self._listener.start()
        except (OSError, RuntimeError, UnicodeError) as error:
            self._listener, self.last_error = None, error
            raise TransportError(f"cannot listen on {address or 'loopback'} port {port}: {error}") from error
        self.host_address, self.host_port = self._listener.address
        self.ip_type = IpType.IPV6 if self._listener.family == socket.AF_INET6 else IpType.IPV4
        if address == "*" and self.ip_type is IpType.IPV6:
            self.ip_type = IpType.IPV4_OR_IPV6

    def connect(self, host: str, host_port: int, peer: str, peer_port: int) -> None:
        """Connect from ``host``, ``host_port`` (``""``, 0: any) to ``peer``, ``peer_port``; ``on_connect`` tells."""
        before = self._activate("connect")
        _check_port("connect", host_port)
        _check_port("connect", peer_port)
        local = (host, host_port) if host or host_port else None

        def open_socket() -> socket.socket:
            return transport.connect(peer, peer_port, self.timeouts.connect, local)

        self.server = self._home = None
        self.peer_address, self.peer_port = peer, peer_port
        self._connection = Connection(self, open_socket=open_socket, peer_host=peer, after=before)
        self._begin()

    def accept(self, client: DicomNet) -> None:
        """Inside ``on_accept``: give the new connection to ``client``, which then lives by itself.

        Raises LocalProtocolError where no connection waits, and for a client that is in use; TransportError if the
        system has no more threads.
        """
        listener = self._listener
        sock = None if listener is None else listener.take()
        if sock is None or listener is None:
            raise LocalProtocolError("accept: no connection waits; call it inside on_accept")
        try:
            before = client._activate("accept")
        except LocalProtocolError:
            sock.close()
            raise
        if client.security is Security.NONE:
            client.security, client._tls = self.security, self._tls
        client.server, client._home = self, listener
        client._connection = Connection(client, sock=sock, after=before)
        client._note_addresses(sock)
        try:
            listener.add(client)
        except LocalProtocolError:
            client._connection.discard()
            raise
        client._begin()

    def _begin(self) -> None:
        """Raises TransportError if the system has no more threads."""
        assert self._connection is not None
        try:
            self._connection.start()
        except RuntimeError as error:
            if self._home is not None:
                self._home.forget(self)
            self._connection.discard()
            self.last_error = error
            raise TransportError(f"no thread for a connection: {error}") from error

    def close(self) -> None:
        """Send what is queued, then close. Safe anywhere and any number of times; ``on_close`` comes once."""
        self._close(forced=False)

    def close_forced(self) -> None:
        """Close at once; what is queued is lost."""
        self._close(forced=True)

    def _close(self, *, forced: bool) -> None:
        part = self._listener or self._connection
        if part is not None:
            part.close(forced=forced)

    # --- association ------------------------------------------------------------------------------------------------

    def _require_connection(self, call: str) -> Connection:
        if self._library.started == 0:
            raise LocalProtocolError(f"{call}: call DicomNet.startup() first")
        if self._listener is not None:
            raise LocalProtocolError(f"{call}: this object listens; call it on an accepted client")
        connection = self._connection
        if connection is None or not (connection.ready or connection.ended):
            what = "the TLS link is not ready yet" if self.is_connected() else "there is no connection"
            raise LocalProtocolError(f"{call}: {what}")
        return connection

    def send_associate_request(self, associate: DicomAssociate) -> None:
        """A-ASSOCIATE-RQ (PS3.8 9.3.2)."""
        connection = self._require_connection("send_associate_request")
        request = associate.to_request()

        def perform(now: float) -> None:
            connection.association.associate(request)
            connection.association.transport_opened(now)

        connection.control("send_associate_request", Event.ASSOCIATE_REQUEST, perform)

    def send_associate_accept(self, associate: DicomAssociate) -> None:
        """A-ASSOCIATE-AC (PS3.8 9.3.3); ``DicomAssociate.accepting`` builds the right one."""
        connection = self._require_connection("send_associate_accept")

        def perform(now: float) -> None:
            request = connection.association.request
            assert request is not None  # the state machine says so
            answer = associate.to_accept(request)
            connection.association.accept(answer, now)
            connection.negotiated = DicomAssociate.from_accept(request, answer)

        connection.control("send_associate_accept", Event.ASSOCIATE_RESPONSE_ACCEPT, perform)

    def send_associate_reject(self, result: int, source: int, reason: int) -> None:
        """A-ASSOCIATE-RJ (PS3.8 9.3.4)."""
        connection = self._require_connection("send_associate_reject")

        def perform(now: float) -> None:
            connection.association.reject(result, source, reason, now)

        connection.control("send_associate_reject", Event.ASSOCIATE_RESPONSE_REJECT, perform)

    def send_release_request(self) -> None:
        """A-RELEASE-RQ (PS3.8 9.3.6), after all that is queued."""
        self._require_connection("send_release_request").request_release()

    def send_release_response(self) -> None:
        """A-RELEASE-RP (PS3.8 9.3.7), after all that is queued."""
        self._require_connection("send_release_response").respond_release()

    def send_abort(self, source: int = 0, reason: int = 0) -> None:
        """A-ABORT (PS3.8 9.3.8), before all that is queued. The connection closes after it."""
        self._require_connection("send_abort").abort(source, reason)

    # --- DIMSE ------------------------------------------------------------------------------------------------------

    def send_data(self, presentation_id: int, cs: Dataset, ds: DatasetLike = None) -> None:
        """Any message: ``cs`` holds elements of group 0000; group length and Data Set Type are set by the library.

        Command Field and the message ID that belongs to it must be there.
        """
        self._send("send_data", presentation_id, commands.as_command_set(cs), ds)

    def _send(self, call: str, presentation_id: int, elements: command.CommandSet, ds: DatasetLike) -> None:
        connection = self._require_connection(call)
        context = connection.context(call, presentation_id)
        dataset = None if ds is None else encode_for(ds, context)
        elements[command.DATA_SET_TYPE] = command.NO_DATA_SET if dataset is None else 0x0001
        field = elements.get(command.COMMAND_FIELD)
        if type(field) is not int:
            raise LocalProtocolError(f"{call}: the command set has no Command Field (0000,0100)")
        answers = field & messages.RESPONSE or field == messages.CommandField.C_CANCEL
        element = command.MESSAGE_ID_BEING_RESPONDED_TO if answers else command.MESSAGE_ID
        if type(elements.get(element)) is not int:
            raise LocalProtocolError(f"{call}: the message ID (0000,{element:04X}) is no integer, or missing")
        connection.send(call, presentation_id, elements, dataset)

    # --- callbacks: connection --------------------------------------------------------------------------------------

    def on_accept(self, error: NetError) -> None:
        """On the listening object: a connection waits. ``accept`` it here, or it is closed, unread.

        ``peer_address`` and ``peer_port`` tell whose it is.
        """

    def on_connect(self, error: NetError) -> None:
        """On an SCU: connected, or not."""

    def on_close(self, error: Any, net: DicomNet) -> None:
        """Closed. On the listening object ``net`` is the client, on an SCU itself.

        ``error``: a NetError, or the exception that came out of a callback.
        """

    def on_secure_link_ready(self, error: NetError) -> None:
        """TLS is established, or not (``last_error`` says why); then an association may be requested."""

    def on_private_key_password(self) -> str | bytes:
        """The password of an encrypted private key. The only callback that runs where its cause was called: in
        ``load_certificate``.
        """
        return ""

    # --- callbacks: low level ---------------------------------------------------------------------------------------

    def on_receive(self, error: NetError, pdu_type: int, buffer: bytes) -> None:
        """Something has come, before its own callback. ``buffer``: the PDU, or of a DIMSE message the command set."""

    def on_receive_data(self, presentation_id: int, cs: Dataset, ds: EncodedDataset | None) -> None:
        """A DIMSE message, before its own callback."""

    def on_receive_unknown(self, presentation_id: int, cs: Dataset, ds: EncodedDataset | None) -> None:
        """A message whose command field is not known, or that lacks what its service requires."""

    def on_send(self, error: NetError, pdu_type: int, length: int) -> None:
        """``length`` bytes that were queued by one ``send_*`` have gone to the transport, or never will."""

    def on_before_send_command_set(self, cs: Dataset) -> None:
        """A response is about to go; optional status elements may be added, such as Error Comment (0000,0902)."""

    # --- callbacks: association -------------------------------------------------------------------------------------

    def on_receive_associate_request(self, associate: DicomAssociate) -> None: ...

    def on_receive_associate_accept(self, associate: DicomAssociate) -> None: ...

    def on_receive_associate_reject(self, result: int, source: int, reason: int) -> None: ...

    def on_receive_release_request(self) -> None: ...

    def on_receive_release_response(self) -> None: ...

    def on_receive_abort(self, source: int, reason: int) -> None: ...

    # --- what the threads call --------------------------------------------------------------------------------------

    def _note_addresses(self, sock: socket.socket) -> None:
        """Remember both ends' addresses; they stay valid inside ``on_close``."""
        with contextlib.suppress(OSError):  # gone already
            host, peer = sock.getsockname()[:2], sock.getpeername()[:2]
            mapped = host[0].startswith(MAPPED)
            self.ip_type = IpType.IPV6 if sock.family == socket.AF_INET6 and not mapped else IpType.IPV4
            self.host_address, self.host_port = host[0].removeprefix(MAPPED), host[1]
            self.peer_address, self.peer_port = peer[0].removeprefix(MAPPED), peer[1]

    def _connection_closed(self, connection: Connection, error: Any) -> None:
        """Tell ``on_close``, where it is to be told."""
        self.last_error = error if isinstance(error, BaseException) else connection.error
        home = self._home
        if home is None:
            connection.call_last(self.on_close, error, self)
        else:
            home.forget(self, lambda: home.net.on_close(error, self))

    def _refusal(self, listener: Listener, sock: socket.socket) -> DicomNet:
        """Too many clients: this one is told so when it asks (PS3.8 Table 9-21: transient, local limit exceeded)."""
        refusal = _Refusal(self.security, timeouts=self.timeouts, limits=self.limits)
        refusal._tls, refusal._home = self._tls, listener
        refusal._connection = Connection(refusal, sock=sock)
        return refusal


class _Refusal(DicomNet):
    """Rejects whatever association is requested."""

    def on_receive_associate_request(self, associate: DicomAssociate) -> None:
        limit = RejectReasonPresentation.LOCAL_LIMIT
        self.send_associate_reject(RejectResult.TRANSIENT, RejectSource.PROVIDER_PRESENTATION, limit)

    def _connection_closed(self, connection: Connection, error: Any) -> None:
        if self._home is not None:
            self._home.forget(self)


def _check_port(call: str, port: int) -> None:
    if not 0 <= port < 65536:
        raise LocalProtocolError(f"{call}: port {port} is not in 0..65535")
