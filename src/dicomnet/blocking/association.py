"""The requestor's side: an association, and how to get one."""

from __future__ import annotations

import ssl
from collections.abc import Coroutine, Iterable, Mapping
from types import TracebackType
from typing import Any, TypeVar

from dicomnet import transport
from dicomnet.blocking.connection import Connection
from dicomnet.config import DEFAULT_CALLING_AE, MAX_PDU_LENGTH, Identity, Limits, Peer, Timeouts
from dicomnet.dataset import EncodedDataset, Path, prepare
from dicomnet.dimse.messages import Priority, Response
from dicomnet.dimse.operations import VERIFICATION
from dicomnet.transport import Transport
from dicomnet.ul import association as ul, negotiation
from dicomnet.ul.negotiation import AcceptedContext, ContextLike

Result = TypeVar("Result")


class Association:
    """An association that this side requested. Use it as a context manager: leaving the block releases it.

    ``peer``: whom it is with; ``accepted``: the negotiated contexts; ``max_pdu_length``: the longest P-DATA-TF that the
    peer takes, in bytes (0: any); ``async_ops``: the negotiated (invoked, performed) operations window (0: unlimited).
    Several threads may use one association; their requests overlap as far as the window allows.
    """

    def __init__(self, connection: Connection, peer: Peer) -> None:
        self._connection = connection
        self.peer = peer
        association = connection.association
        self.accepted: tuple[AcceptedContext, ...] = tuple(association.contexts.values())
        self.max_pdu_length = association.peer_max_length
        self.async_ops = association.window

    def __enter__(self) -> Association:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            self.abort()
        elif not self._connection.conversation.over:
            self.release()

    def c_echo(self) -> Response:
        """Verify the connection (PS3.4 A, PS3.7 9.1.5). Needs a context for Verification.

        Raises NoAcceptedContext, and what ends the association: AssociationAborted, RemoteProtocolError,
        TransportError, DeadlineExceeded.
        """
        return self._run(self._connection.conversation.echo())

    def c_store(
        self,
        data: Path | Any | EncodedDataset,
        *,
        priority: int = Priority.MEDIUM,
        originator: tuple[str, int] | None = None,
    ) -> Response:
        """Store a composite instance (PS3.4 B, PS3.7 9.1.1): a path, a pydicom Dataset or an EncodedDataset.

        The bytes go out as they are if their transfer syntax was accepted for their SOP class; an uncompressed data
        set goes into another uncompressed transfer syntax if need be. ``originator``: (AE title, message ID) of the
        C-MOVE that this store belongs to. A failure status is a value of the response, not an exception.

        Raises NoAcceptedContext, InvalidDataset, OSError for a file that cannot be read, and what ends the association
        (see ``c_echo``).
        """
        context, dataset = prepare(data, self.accepted)
        return self._run(self._connection.conversation.store(context, dataset, priority, originator))

    def release(self) -> None:
        """Release the association (PS3.8 7.2) and close the connection.

        Raises LocalProtocolError if it is over or operations are outstanding, and what ends an association.
        """
        self._run(self._connection.conversation.release())

    def abort(self) -> None:
        """Abort the association (PS3.8 7.3) and close the connection. Does nothing if it is over."""
        self._run(self._connection.conversation.abort())

    def _run(self, operation: Coroutine[Any, Any, Result]) -> Result:
        try:
            return self._connection.run(operation)
        finally:
            if self._connection.conversation.over:
                self._connection.finish()


def associate(
    peer: Peer | str,
    *,
    calling_ae: str = DEFAULT_CALLING_AE,
    contexts: Iterable[ContextLike] = (VERIFICATION,),
    tls: ssl.SSLContext | None = None,
    identity: Identity | None = None,
    async_ops: tuple[int, int] = (1, 1),
    roles: Mapping[str, tuple[bool, bool]] | None = None,
    extended: Mapping[str, bytes] | None = None,
    max_pdu_length: int = MAX_PDU_LENGTH,
    timeouts: Timeouts | None = None,
    limits: Limits | None = None,
    spool_folder: Path | None = None,
) -> Association:
    """Connect to ``peer`` and request an association (PS3.8 7.1).

    ``peer``: ``"AET@host:port"`` or a Peer. ``contexts``: up to 128 SOP class UIDs, (UID, [transfer syntaxes]) pairs or
    PresentationContexts; a UID alone proposes Explicit and Implicit VR Little Endian. ``tls``: a client-side
    SSLContext; the host is the name that its certificate must have. ``identity``: PS3.7 D.3.3.7. ``async_ops``:
    (invoked, performed) operations to have outstanding at once, 0 is unlimited. ``roles``: SOP class → (SCU, SCP) that
    this side wants to be. ``extended``: SOP class → its extended negotiation bytes. ``max_pdu_length``: what this side
    receives, in bytes, 0 is unlimited. ``spool_folder``: where received data sets above ``limits.spool_size`` wait.

    Raises ValueError for what cannot be requested, TransportError, DeadlineExceeded, AssociationRejected,
    AssociationAborted and RemoteProtocolError.
    """
    if isinstance(peer, str):
        peer = Peer.parse(peer)
    timeouts = timeouts or Timeouts()
    limits = limits or Limits()
    request = negotiation.request(
        peer.ae_title,
        calling_ae,
        contexts,
        identity=identity,
        async_ops=async_ops,
        roles=roles,
        extended=extended,
        max_length=max_pdu_length,
    )
    association = ul.Association(requestor=True, max_length=max_pdu_length, timeouts=timeouts, limits=limits)
    sock = transport.connect(peer.host, peer.port, timeouts.connect)
    if tls is None:
        connected = Transport(sock)
    else:
        connected = transport.secure(sock, tls, timeouts.tls, server_side=False, server_hostname=peer.host)
    connection = Connection(connected, association, limits, spool_folder, str(peer))
    try:
        connection.run(connection.conversation.associate(request))
    except BaseException:
        connection.run(connection.conversation.abort())
        connection.finish()
        raise
    connection.open_window(association.window[0])
    return Association(connection, peer)
