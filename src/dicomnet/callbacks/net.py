"""``DicomNet``: one connection, or one listening socket, with everything that happens told by callbacks.

Derive a class, override ``on_*`` methods, call ``send_*`` ones. Sending only queues; callbacks of one object come one
after the other on a thread of its own. Nothing is answered by itself. Names and argument orders are those of the class
that the project's walk-through was written for.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import socket
import ssl
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from dicomnet import transport
from dicomnet.callbacks import commands
from dicomnet.callbacks.associate import DicomAssociate
from dicomnet.callbacks.connection import Connection
from dicomnet.callbacks.enums import IpType, NetError, PduType, Security
from dicomnet.callbacks.listener import Listener
from dicomnet.config import Limits, Timeouts
from dicomnet.dataset import EncodedDataset, Path, encode_for
from dicomnet.dimse import command, messages
from dicomnet.dimse.messages import CommandField, Request, Response
from dicomnet.dimse.status import Status
from dicomnet.errors import LocalProtocolError, RejectResult, RejectSource, TransportError
from dicomnet.ul.fsm import Event

if TYPE_CHECKING:
    from pydicom import Dataset

DatasetLike = Any  # a path, a pydicom Dataset, an EncodedDataset, or None


@dataclass(slots=True)
class SocketOptions:
    """TCP options of a connection. Buffer sizes are bytes; None leaves them to the system, which adapts them."""

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


class DicomNet:
    """A DICOM connection, or a listening socket, with callbacks.

    ``security``: ``Security.NONE``, ``Security.TLS`` or an ``ssl.SSLContext`` (which means TLS). ``tls``: the context
    for ``Security.TLS``. ``timeouts``, ``limits``: see ``config``. ``max_clients``: of a listening object; past it a
    connection gets A-ASSOCIATE-RJ 2/3/2. ``spool_folder``: where received data sets above ``limits.spool_size`` wait.

    Every ``send_*`` raises LocalProtocolError for a call in the wrong state, QueueFull from a callback of this object
    while more than ``limits.queue`` bytes wait, and InvalidDataset, NoAcceptedContext or OSError for a data set that
    cannot be sent.
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
        if self.security is Security.TLS and tls is None:
            tls = ssl.create_default_context()
        self.tls = tls
        self.timeouts = timeouts or Timeouts()
        self.limits = limits or Limits()
        self.max_clients = max_clients or self.limits.associations
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
        overridden = type(self)
        self.watches_data = overridden.on_receive_data is not DicomNet.on_receive_data
        before_send = overridden.on_before_send_command_set
        self.watches_command_sets = before_send is not DicomNet.on_before_send_command_set

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name in [name for name in vars(cls) if name.startswith("on_")]:
            _check_override(cls, name)

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
            net.close_forced()
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

    def _activate(self, call: str) -> None:
        """One object is one connection or one listening socket, and the library must have been started."""
        library = self._library
        with library.lock:
            if library.started == 0:
                raise LocalProtocolError(f"{call}: call DicomNet.startup() first")
            if self.is_activated():
                raise LocalProtocolError(f"{call}: this object listens or is connected already; make another one")
            library.active.add(self)

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
        if self._listener is not None:
            return not self._listener.closing
        return self._connection is not None and not self._connection.closing

    def is_connected(self) -> bool:
        return self._connection is not None and self._connection.connected and not self._connection.closing

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
        """Bytes that wait to be sent."""
        return 0 if self._connection is None else self._connection.queued

    # --- connection -------------------------------------------------------------------------------------------------

    def load_certificate(self, certificate: Path, key: Path | None = None) -> None:
        """Use a certificate (PEM) and its key for TLS; an encrypted key's password comes from
        ``on_private_key_password``. Raises LocalProtocolError without TLS, TransportError for files that do not fit.
        """
        if self.tls is None:
            raise LocalProtocolError("load_certificate: this object does not use TLS; pass security=Security.TLS")
        try:
            self.tls.load_cert_chain(os.fspath(certificate), key, password=self.on_private_key_password)
        except OSError as error:
            raise TransportError(f"the certificate or its key cannot be used: {error}") from error

    def listen(self, address: str = "", port: int = 0, backlog: int = 128) -> None:
        """Listen on ``address`` (``""``: loopback, ``"*"``: all, IPv4 and IPv6) and ``port`` (0: a free one).

        ``backlog`` is the socket's; ``max_clients`` limits the clients. Raises TransportError.
        """
        self._activate("listen")
        try:
            self._listener = Listener(self, address, port, backlog)
        except OSError as error:
            self.last_error = error
            raise TransportError(f"cannot listen on {address or 'loopback'} port {port}: {error}") from error
        if address == "*" and self.ip_type is IpType.IPV6:
            self.ip_type = IpType.IPV4_OR_IPV6
        self._listener.start()

    def connect(self, host: str, host_port: int, peer: str, peer_port: int) -> None:
        """Connect from ``host``, ``host_port`` (``""``, 0: any) to ``peer``, ``peer_port``; ``on_connect`` tells."""
        self._activate("connect")
        local = (host, host_port) if host or host_port else None
        seconds = self.timeouts.connect
        self._connection = Connection(
            self, open_socket=lambda: transport.connect(peer, peer_port, seconds, local), peer_host=peer
        )
        self.peer_address, self.peer_port = peer, peer_port
        self._connection.start()

    def accept(self, client: DicomNet) -> None:
        """Inside ``on_accept``: give the new connection to ``client``, which then lives by itself."""
        sock = None
        if self._listener is not None and threading.current_thread() is self._listener.thread:
            sock = self._listener.take()
        if sock is None or self._listener is None:
            raise LocalProtocolError("accept: no connection waits; call it inside on_accept")
        try:
            client._activate("accept")
        except LocalProtocolError:
            sock.close()
            raise
        client.server = self
        client._connection = Connection(client, sock=sock)
        self._listener.add(client)
        client._connection.start()

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
        if self._connection is None or not self._connection.ready:
            raise LocalProtocolError(f"{call}: there is no connection")
        return self._connection

    def send_associate_request(self, associate: DicomAssociate) -> None:
        """A-ASSOCIATE-RQ (PS3.8 9.3.2)."""
        connection = self._require_connection("send_associate_request")
        request = associate.to_request()

        def perform(now: float) -> None:
            connection.association.associate(request)
            connection.association.transport_opened(now)

        connection.control(PduType.ASSOCIATE_REQUEST, "send_associate_request", Event.ASSOCIATE_REQUEST, perform)

    def send_associate_accept(self, associate: DicomAssociate) -> None:
        """A-ASSOCIATE-AC (PS3.8 9.3.3); ``DicomAssociate.accepting`` builds the right one."""
        connection = self._require_connection("send_associate_accept")

        def perform(now: float) -> None:
            request = connection.association.request
            assert request is not None  # the state machine says so
            answer = associate.to_accept(request)
            connection.association.accept(answer, now)
            connection.negotiated = DicomAssociate.from_accept(request, answer)

        connection.control(PduType.ASSOCIATE_ACCEPT, "send_associate_accept", Event.ASSOCIATE_RESPONSE_ACCEPT, perform)

    def send_associate_reject(self, result: int, source: int, reason: int) -> None:
        """A-ASSOCIATE-RJ (PS3.8 9.3.4)."""
        connection = self._require_connection("send_associate_reject")

        def perform(now: float) -> None:
            connection.association.reject(result, source, reason, now)

        connection.control(PduType.ASSOCIATE_REJECT, "send_associate_reject", Event.ASSOCIATE_RESPONSE_REJECT, perform)

    def send_release_request(self) -> None:
        """A-RELEASE-RQ (PS3.8 9.3.6), after all that is queued."""
        connection = self._require_connection("send_release_request")
        connection.control(
            PduType.RELEASE_REQUEST, "send_release_request", Event.RELEASE_REQUEST, connection.association.release
        )

    def send_release_response(self) -> None:
        """A-RELEASE-RP (PS3.8 9.3.7)."""
        self._require_connection("send_release_response").respond_release()

    def send_abort(self, source: int = 0, reason: int = 0) -> None:
        """A-ABORT (PS3.8 9.3.8), before all that is queued. The connection closes after it."""
        self._require_connection("send_abort").abort(source, reason)

    # --- DIMSE ------------------------------------------------------------------------------------------------------

    def send_data(self, presentation_id: int, cs: Dataset, ds: DatasetLike = None) -> None:
        """Any message: ``cs`` holds elements of group 0000; group length and Data Set Type are set by the library."""
        self._send("send_data", presentation_id, commands.as_command_set(cs), ds)

    def _send(self, call: str, presentation_id: int, elements: command.CommandSet, ds: DatasetLike) -> None:
        connection = self._require_connection(call)
        context = connection.context(call, presentation_id)
        dataset = None if ds is None else encode_for(ds, context)
        elements[command.DATA_SET_TYPE] = command.NO_DATA_SET if dataset is None else 0x0001
        if type(elements.get(command.COMMAND_FIELD)) is not int:
            raise LocalProtocolError(f"{call}: the command set has no Command Field (0000,0100)")
        connection.send(call, presentation_id, elements, dataset)

    def _message(self, pid: int, message: Request | Response, ds: DatasetLike = None) -> None:
        call = _call_name(message)
        self._send(call, pid, messages.command_set(message), ds)

    def send_c_store_request(
        self,
        pid: int,
        mid: int,
        cls: str,
        inst: str,
        prio: int,
        move_ae: str | None,
        move_message_id: int | None,
        ds: DatasetLike,
    ) -> None:
        """``move_ae``, ``move_message_id``: of the C-MOVE that this store belongs to; empty or None without one."""
        request = Request(CommandField.C_STORE, mid, cls, inst, prio)
        if move_ae:
            request.move_originator_ae, request.move_originator_message_id = move_ae, move_message_id
        self._message(pid, request, ds)

    def send_c_store_response(self, pid: int, mid: int, cls: str, inst: str, st: int) -> None:
        self._message(pid, _response(CommandField.C_STORE, mid, cls, st, sop_instance_uid=inst))

    def send_c_find_request(self, pid: int, mid: int, cls: str, prio: int, ds: DatasetLike) -> None:
        self._message(pid, Request(CommandField.C_FIND, mid, cls, priority=prio), ds)

    def send_c_find_response(self, pid: int, mid: int, cls: str, st: int, ds: DatasetLike = None) -> None:
        self._message(pid, _response(CommandField.C_FIND, mid, cls, st), ds)

    def send_c_get_request(self, pid: int, mid: int, cls: str, prio: int, ds: DatasetLike) -> None:
        self._message(pid, Request(CommandField.C_GET, mid, cls, priority=prio), ds)

    def send_c_get_response(
        self,
        pid: int,
        mid: int,
        cls: str,
        st: int,
        remaining: int | None,
        completed: int | None,
        failed: int | None,
        warning: int | None,
        ds: DatasetLike = None,
    ) -> None:
        """Numbers of sub-operations; None leaves one out."""
        self._message(pid, _counted(CommandField.C_GET, mid, cls, st, remaining, completed, failed, warning), ds)

    def send_c_move_request(self, pid: int, mid: int, cls: str, prio: int, move_ae: str, ds: DatasetLike) -> None:
        """``move_ae``: AE title of the destination."""
        self._message(pid, Request(CommandField.C_MOVE, mid, cls, priority=prio, move_destination=move_ae), ds)

    def send_c_move_response(
        self,
        pid: int,
        mid: int,
        cls: str,
        st: int,
        remaining: int | None,
        completed: int | None,
        failed: int | None,
        warning: int | None,
        ds: DatasetLike = None,
    ) -> None:
        """Numbers of sub-operations; None leaves one out."""
        self._message(pid, _counted(CommandField.C_MOVE, mid, cls, st, remaining, completed, failed, warning), ds)

    def send_c_cancel_request(self, pid: int, mid: int) -> None:
        """``mid``: of the request to cancel."""
        self._message(pid, Request(CommandField.C_CANCEL, mid))

    def send_c_echo_request(self, pid: int, mid: int, cls: str) -> None:
        self._message(pid, Request(CommandField.C_ECHO, mid, cls))

    def send_c_echo_response(self, pid: int, mid: int, cls: str, st: int) -> None:
        self._message(pid, _response(CommandField.C_ECHO, mid, cls, st))

    def send_n_report_request(
        self, pid: int, mid: int, cls: str, inst: str, event: int, ds: DatasetLike = None
    ) -> None:
        """N-EVENT-REPORT; ``event``: the event type ID."""
        self._message(pid, Request(CommandField.N_EVENT_REPORT, mid, cls, inst, event_type_id=event), ds)

    def send_n_report_response(
        self, pid: int, mid: int, cls: str, inst: str, st: int, event: int | None = None, ds: DatasetLike = None
    ) -> None:
        response = _response(CommandField.N_EVENT_REPORT, mid, cls, st, sop_instance_uid=inst, event_type_id=event)
        self._message(pid, response, ds)

    def send_n_get_request(self, pid: int, mid: int, cls: str, inst: str, attributes: Iterable[int] = ()) -> None:
        """``attributes``: tags; none asks for all."""
        tags = tuple(_tag(tag) for tag in attributes)
        self._message(pid, Request(CommandField.N_GET, mid, cls, inst, attributes=tags))

    def send_n_get_response(self, pid: int, mid: int, cls: str, inst: str, st: int, ds: DatasetLike = None) -> None:
        self._message(pid, _response(CommandField.N_GET, mid, cls, st, sop_instance_uid=inst), ds)

    def send_n_set_request(self, pid: int, mid: int, cls: str, inst: str, ds: DatasetLike) -> None:
        self._message(pid, Request(CommandField.N_SET, mid, cls, inst), ds)

    def send_n_set_response(self, pid: int, mid: int, cls: str, inst: str, st: int, ds: DatasetLike = None) -> None:
        self._message(pid, _response(CommandField.N_SET, mid, cls, st, sop_instance_uid=inst), ds)

    def send_n_action_request(
        self, pid: int, mid: int, cls: str, inst: str, action: int, ds: DatasetLike = None
    ) -> None:
        """``action``: the action type ID."""
        self._message(pid, Request(CommandField.N_ACTION, mid, cls, inst, action_type_id=action), ds)

    def send_n_action_response(
        self, pid: int, mid: int, cls: str, inst: str, st: int, action: int | None = None, ds: DatasetLike = None
    ) -> None:
        response = _response(CommandField.N_ACTION, mid, cls, st, sop_instance_uid=inst, action_type_id=action)
        self._message(pid, response, ds)

    def send_n_create_request(self, pid: int, mid: int, cls: str, inst: str, ds: DatasetLike = None) -> None:
        """``inst``: empty lets the SCP choose."""
        self._message(pid, Request(CommandField.N_CREATE, mid, cls, inst), ds)

    def send_n_create_response(self, pid: int, mid: int, cls: str, inst: str, st: int, ds: DatasetLike = None) -> None:
        self._message(pid, _response(CommandField.N_CREATE, mid, cls, st, sop_instance_uid=inst), ds)

    def send_n_delete_request(self, pid: int, mid: int, cls: str, inst: str) -> None:
        self._message(pid, Request(CommandField.N_DELETE, mid, cls, inst))

    def send_n_delete_response(self, pid: int, mid: int, cls: str, inst: str, st: int) -> None:
        self._message(pid, _response(CommandField.N_DELETE, mid, cls, st, sop_instance_uid=inst))

    # --- callbacks: connection --------------------------------------------------------------------------------------

    def on_accept(self, error: NetError) -> None:
        """On the listening object: a connection waits. ``accept`` it here, or it is closed."""

    def on_connect(self, error: NetError) -> None:
        """On an SCU: connected, or not."""

    def on_close(self, error: Any, net: DicomNet) -> None:
        """Closed. On the listening object ``net`` is the client, on an SCU itself.

        ``error``: a NetError, or the exception that came out of a callback.
        """

    def on_secure_link_ready(self, error: NetError) -> None:
        """TLS is established, or not (``last_error`` says why); then an association may be requested."""

    def on_private_key_password(self) -> str | bytes:
        """The password of an encrypted private key."""
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

    # --- callbacks: DIMSE -------------------------------------------------------------------------------------------

    def on_receive_c_store_request(
        self,
        pid: int,
        mid: int,
        cls: str,
        inst: str,
        prio: int,
        move_ae: str,
        move_message_id: int,
        ds: EncodedDataset | None,
    ) -> None: ...

    def on_receive_c_store_response(self, pid: int, mid: int, cls: str, inst: str, st: Status) -> None: ...

    def on_receive_c_find_request(self, pid: int, mid: int, cls: str, prio: int, ds: EncodedDataset | None) -> None: ...

    def on_receive_c_find_response(
        self, pid: int, mid: int, cls: str, st: Status, ds: EncodedDataset | None
    ) -> None: ...

    def on_receive_c_get_request(self, pid: int, mid: int, cls: str, prio: int, ds: EncodedDataset | None) -> None: ...

    def on_receive_c_get_response(
        self,
        pid: int,
        mid: int,
        cls: str,
        st: Status,
        remaining: int | None,
        completed: int | None,
        failed: int | None,
        warning: int | None,
        ds: EncodedDataset | None,
    ) -> None: ...

    def on_receive_c_move_request(
        self, pid: int, mid: int, cls: str, prio: int, move_ae: str, ds: EncodedDataset | None
    ) -> None: ...

    def on_receive_c_move_response(
        self,
        pid: int,
        mid: int,
        cls: str,
        st: Status,
        remaining: int | None,
        completed: int | None,
        failed: int | None,
        warning: int | None,
        ds: EncodedDataset | None,
    ) -> None: ...

    def on_receive_c_cancel_request(self, pid: int, mid: int) -> None: ...

    def on_receive_c_echo_request(self, pid: int, mid: int, cls: str) -> None: ...

    def on_receive_c_echo_response(self, pid: int, mid: int, cls: str, st: Status) -> None: ...

    def on_receive_n_report_request(
        self, pid: int, mid: int, cls: str, inst: str, event: int, ds: EncodedDataset | None
    ) -> None: ...

    def on_receive_n_report_response(
        self, pid: int, mid: int, cls: str, inst: str, st: Status, event: int | None, ds: EncodedDataset | None
    ) -> None: ...

    def on_receive_n_get_request(
        self, pid: int, mid: int, cls: str, inst: str, attributes: tuple[int, ...]
    ) -> None: ...

    def on_receive_n_get_response(
        self, pid: int, mid: int, cls: str, inst: str, st: Status, ds: EncodedDataset | None
    ) -> None: ...

    def on_receive_n_set_request(self, pid: int, mid: int, cls: str, inst: str, ds: EncodedDataset | None) -> None: ...

    def on_receive_n_set_response(
        self, pid: int, mid: int, cls: str, inst: str, st: Status, ds: EncodedDataset | None
    ) -> None: ...

    def on_receive_n_action_request(
        self, pid: int, mid: int, cls: str, inst: str, action: int, ds: EncodedDataset | None
    ) -> None: ...

    def on_receive_n_action_response(
        self, pid: int, mid: int, cls: str, inst: str, st: Status, action: int | None, ds: EncodedDataset | None
    ) -> None: ...

    def on_receive_n_create_request(
        self, pid: int, mid: int, cls: str, inst: str, ds: EncodedDataset | None
    ) -> None: ...

    def on_receive_n_create_response(
        self, pid: int, mid: int, cls: str, inst: str, st: Status, ds: EncodedDataset | None
    ) -> None: ...

    def on_receive_n_delete_request(self, pid: int, mid: int, cls: str, inst: str) -> None: ...

    def on_receive_n_delete_response(self, pid: int, mid: int, cls: str, inst: str, st: Status) -> None: ...

    # --- what the threads call --------------------------------------------------------------------------------------

    def deliver(self, pid: int, message: Request | Response, ds: EncodedDataset | None) -> None:
        """Hand a message to its callback."""
        field = CommandField(message.command)
        kind = "request" if type(message) is Request else "response"
        name = f"on_receive_{_NAMES[field]}_{kind}"
        arguments = _ARGUMENTS[field, kind]
        getattr(self, name)(pid, message.message_id, *(_argument(message, name, ds) for name in arguments))

    def note_addresses(self, sock: socket.socket) -> None:
        """Remember both ends' addresses; they stay valid inside ``on_close``."""
        with contextlib.suppress(OSError):  # gone already
            self.host_address, self.host_port = sock.getsockname()[:2]
            self.ip_type = IpType.IPV6 if sock.family == socket.AF_INET6 else IpType.IPV4
            if self._listener is None and self._connection is not None:
                self.peer_address, self.peer_port = sock.getpeername()[:2]

    def connection_failed(self, connection: Connection) -> None:
        """``on_connect`` will tell; another ``connect`` is possible then."""
        self.last_error = connection.error
        self._connection = None

    def connection_closed(self, connection: Connection, error: Any) -> None:
        """Tell ``on_close``, where it is to be told."""
        self.last_error = connection.error
        server = self.server
        if server is None:
            connection.call_last(self.on_close, error, self)
        elif server._listener is not None:
            server._listener.tell(self, lambda: server.on_close(error, self))

    def refuse(self, sock: socket.socket) -> None:
        """Too many clients: this one is told so when it asks (PS3.8 Table 9-21: transient, local limit exceeded)."""
        refusal = _Refusal(self.tls or Security.NONE, timeouts=self.timeouts, limits=self.limits)
        refusal._connection = Connection(refusal, sock=sock)
        refusal._connection.start()


# --- tables ---------------------------------------------------------------------------------------------------------

_NAMES = {field: "n_report" if field is CommandField.N_EVENT_REPORT else field.name.lower() for field in CommandField}

_COUNTS = ("remaining", "completed", "failed", "warning")
_CLASS = ("sop_class_uid",)
_INSTANCE = ("sop_class_uid", "sop_instance_uid")

# The arguments after presentation and message ID, by message; "dataset" is the data set that came with it.
_ARGUMENTS: dict[tuple[CommandField, str], tuple[str, ...]] = {
    (CommandField.C_STORE, "request"): (
        *_INSTANCE,
        "priority",
        "move_originator_ae",
        "move_originator_message_id",
        "dataset",
    ),
    (CommandField.C_STORE, "response"): (*_INSTANCE, "status"),
    (CommandField.C_FIND, "request"): (*_CLASS, "priority", "dataset"),
    (CommandField.C_FIND, "response"): (*_CLASS, "status", "dataset"),
    (CommandField.C_GET, "request"): (*_CLASS, "priority", "dataset"),
    (CommandField.C_GET, "response"): (*_CLASS, "status", *_COUNTS, "dataset"),
    (CommandField.C_MOVE, "request"): (*_CLASS, "priority", "move_destination", "dataset"),
    (CommandField.C_MOVE, "response"): (*_CLASS, "status", *_COUNTS, "dataset"),
    (CommandField.C_CANCEL, "request"): (),
    (CommandField.C_ECHO, "request"): _CLASS,
    (CommandField.C_ECHO, "response"): (*_CLASS, "status"),
    (CommandField.N_EVENT_REPORT, "request"): (*_INSTANCE, "event_type_id", "dataset"),
    (CommandField.N_EVENT_REPORT, "response"): (*_INSTANCE, "status", "event_type_id", "dataset"),
    (CommandField.N_GET, "request"): (*_INSTANCE, "attributes"),
    (CommandField.N_GET, "response"): (*_INSTANCE, "status", "dataset"),
    (CommandField.N_SET, "request"): (*_INSTANCE, "dataset"),
    (CommandField.N_SET, "response"): (*_INSTANCE, "status", "dataset"),
    (CommandField.N_ACTION, "request"): (*_INSTANCE, "action_type_id", "dataset"),
    (CommandField.N_ACTION, "response"): (*_INSTANCE, "status", "action_type_id", "dataset"),
    (CommandField.N_CREATE, "request"): (*_INSTANCE, "dataset"),
    (CommandField.N_CREATE, "response"): (*_INSTANCE, "status", "dataset"),
    (CommandField.N_DELETE, "request"): _INSTANCE,
    (CommandField.N_DELETE, "response"): (*_INSTANCE, "status"),
}


def _argument(message: Request | Response, name: str, ds: EncodedDataset | None) -> Any:
    if name == "dataset":
        return ds
    value = getattr(message, name)
    if value is None and name == "move_originator_ae":
        return ""
    if value is None and name == "move_originator_message_id":
        return 0
    return value


def _call_name(message: Request | Response) -> str:
    kind = "request" if type(message) is Request else "response"
    return f"send_{_NAMES[CommandField(message.command)]}_{kind}"


def _response(field: CommandField, mid: int, cls: str, st: int, **elements: Any) -> Response:
    try:
        return Response(Status(st), command=field, message_id=mid, sop_class_uid=cls, **elements)
    except ValueError:
        raise LocalProtocolError(f"{st!r} is no status: a 16-bit number") from None


def _counted(
    field: CommandField,
    mid: int,
    cls: str,
    st: int,
    remaining: int | None,
    completed: int | None,
    failed: int | None,
    warning: int | None,
) -> Response:
    return _response(field, mid, cls, st, remaining=remaining, completed=completed, failed=failed, warning=warning)


def _tag(tag: Any) -> int:
    """A tag as an int: an int, a pydicom tag, or a (group, element) pair."""
    return tag[0] << 16 | tag[1] if isinstance(tag, tuple) else int(tag)


# --- overrides ------------------------------------------------------------------------------------------------------


def _check_override(cls: type, name: str) -> None:
    """Raises TypeError for an override that cannot be called as its callback is."""
    expected = getattr(DicomNet, name, None)
    override = vars(cls)[name]
    if expected is None or not callable(expected):
        return
    parameters = list(inspect.signature(expected).parameters)
    wanted = f"{cls.__name__}.{name} must be a method ({', '.join(parameters)})"
    if not inspect.isfunction(override) or inspect.iscoroutinefunction(override):
        raise TypeError(f"{wanted}, not {_kind(override)}")
    try:
        inspect.signature(override).bind(*parameters)
    except TypeError:
        raise TypeError(f"{wanted}; this one takes {inspect.signature(override)}") from None


def _kind(override: Callable[..., Any]) -> str:
    return "a coroutine function" if inspect.iscoroutinefunction(override) else type(override).__name__


class _Refusal(DicomNet):
    """Rejects whatever association is requested."""

    def on_receive_associate_request(self, associate: DicomAssociate) -> None:
        self.send_associate_reject(RejectResult.TRANSIENT, RejectSource.PROVIDER_PRESENTATION, 2)
