"""What the user of an acceptor sees and supplies: the association, the indications, the handlers' results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from dicomnet.dimse.messages import Response
from dicomnet.dimse.status import Status
from dicomnet.errors import Reject

if TYPE_CHECKING:
    from dicomnet.config import Identity
    from dicomnet.ul.negotiation import AcceptedContext
    from dicomnet.ul.pdu import AssociateAc, AssociateRq


@dataclass(slots=True, eq=False)
class AssociationInfo:
    """One association as handlers see it.

    ``address``: the peer's (host, port). ``request``: the whole A-ASSOCIATE-RQ; ``accepted``: the negotiated contexts,
    empty until then. ``certificate``: the peer's, as ``ssl.SSLSocket.getpeercert`` gives it, with mutual TLS.
    ``error``: in ``on_close``, why the association ended, or None if it was released. ``user_data`` is the user's.
    """

    calling_ae: str
    called_ae: str
    address: tuple[str, int]
    request: AssociateRq
    certificate: dict[str, Any] | None = None
    accepted: tuple[AcceptedContext, ...] = ()
    error: BaseException | None = None
    user_data: Any = None

    @property
    def identity(self) -> Identity | None:
        """The user identity (PS3.7 D.3.3.7) that the requestor sent, or None."""
        return self.request.user.identity


@dataclass(slots=True, eq=False)
class Indication:
    """A request as a handler gets it (the standard's indication primitive).

    ``originator``: (AE title, message ID) of the C-MOVE that a C-STORE belongs to, or None. ``dataset``: an
    EncodedDataset or None. ``cancelled``: the requestor has sent a C-CANCEL for it; C-ECHO and C-STORE have none.
    """

    association: AssociationInfo
    context: AcceptedContext
    message_id: int
    sop_class_uid: str
    sop_instance_uid: str
    priority: int
    originator: tuple[str, int] | None
    dataset: Any
    cancelled: bool = False


class Provider(Protocol):
    """What an acceptor says and does: the application entity."""

    def admit(self, association: AssociationInfo) -> Reject | None: ...

    def answer(self, request: AssociateRq) -> AssociateAc: ...

    def handler(self, name: str) -> Callable[..., Any] | None: ...


def as_response(result: object) -> Response:
    """What a handler returned (Response, Status, 16-bit int) as a Response that may be filled in.

    A Response is copied: a handler may return the same one each time. Raises TypeError and ValueError.
    """
    if type(result) is Status:
        return Response.plain(result)
    if isinstance(result, Response):
        return replace(result)
    if isinstance(result, int) and not isinstance(result, bool):
        return Response(Status(result))
    raise TypeError(f"a handler returned {type(result).__name__}; it must return a Status, an int or a Response")
