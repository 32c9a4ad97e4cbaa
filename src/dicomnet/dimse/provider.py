"""What the user of an acceptor sees and supplies: the association, the indications, the handlers' results."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Container, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from dicomnet.dimse.messages import Response
from dicomnet.dimse.status import Status
from dicomnet.errors import Reject, RejectResult, RejectSource

if TYPE_CHECKING:
    from dicomnet.config import Identity
    from dicomnet.dimse.io import Io
    from dicomnet.ul.negotiation import AcceptedContext
    from dicomnet.ul.pdu import AssociateAc, AssociateRq


@dataclass(slots=True, eq=False)
class AssociationInfo:
    """One association as handlers see it.

    ``address``: the peer's (host, port). ``request``: the whole A-ASSOCIATE-RQ; ``accepted``: the negotiated contexts,
    and ``answer``: the whole A-ASSOCIATE-AC, both empty until then. ``certificate``: the peer's, as
    ``ssl.SSLSocket.getpeercert`` gives it, with mutual TLS. ``error``: in ``on_close``, why the association ended, or
    None if it was released. ``user_data`` is the user's. ``scu``: this face's Association on the same association, to
    send requests to the peer that asked for it; None until it is accepted. ``tls``: what TLS negotiated, or None.
    """

    calling_ae: str
    called_ae: str
    address: tuple[str, int]
    request: AssociateRq
    certificate: dict[str, Any] | None = None
    accepted: tuple[AcceptedContext, ...] = ()
    error: BaseException | None = None
    user_data: Any = None
    scu: Any = None
    tls: Any = None
    answer: AssociateAc | None = None

    @property
    def identity(self) -> Identity | None:
        """The user identity (PS3.7 D.3.3.7) that the requestor sent, or None."""
        return self.request.user.identity

    @property
    def extended(self) -> dict[str, bytes]:
        """SOP class → this side's answer to its extended negotiation (PS3.7 D.3.3.5); what was asked: ``request``."""
        return {} if self.answer is None else {item.sop_class_uid: item.data for item in self.answer.user.extended}


@dataclass(slots=True, eq=False)
class Indication:
    """A request as a handler gets it (the standard's indication primitive).

    ``originator``: (AE title, message ID) of the C-MOVE that a C-STORE belongs to, or None. ``dataset``: an
    EncodedDataset or None. ``cancel_received``: a C-CANCEL for it has been taken in; handlers look at ``cancelled``.
    ``action_type``, ``event_type``: of an N-ACTION, an N-EVENT-REPORT. ``attributes``: the tags that an N-GET asks for,
    all if there are none. ``destination``: the AE title that a C-MOVE names. ``then``: what the handler of an N-service
    wants called, without an argument, once its response is on its way; it must not block. ``glance``: see ``Io``.
    """

    association: AssociationInfo
    context: AcceptedContext
    message_id: int
    sop_class_uid: str
    sop_instance_uid: str
    priority: int
    originator: tuple[str, int] | None
    dataset: Any
    cancel_received: bool = False
    action_type: int | None = None
    event_type: int | None = None
    attributes: tuple[int, ...] = ()
    destination: str | None = None
    then: Callable[[], None] | None = None
    glance: Callable[[], None] | None = None

    @property
    def cancelled(self) -> bool:
        """Whether the requestor has sent a C-CANCEL for it (PS3.7 9.3.2.3); C-ECHO and C-STORE have none."""
        if not self.cancel_received and self.glance is not None:
            self.glance()
        return self.cancel_received


class Provider(Protocol):
    """What an acceptor says and does: the application entity. ``quick``: handlers that promise not to block."""

    @property
    def quick(self) -> Container[Callable[..., Any]]: ...

    def admit(self, association: AssociationInfo) -> Reject | None: ...

    def answer(self, request: AssociateRq, *, identity_response: bytes | None = None) -> AssociateAc: ...

    def handler(self, name: str) -> Callable[..., Any] | None: ...


async def identify(provider: Provider, association: AssociationInfo, io: Io) -> bytes | None:
    """Have the requestor's identity decided on (PS3.7 D.3.3.7); what to answer if a response was asked for, or None.

    An identity of a type that the standard does not know is ignored (N-30), and without a handler nobody checks any.
    Raises Reject, and whatever the handler raises.
    """
    handler, identity = provider.handler("identity"), association.identity
    if handler is None or identity is None or not identity.is_known:
        return None
    match await io.call(handler, association):
        case None | True:
            return b""
        case False:
            raise identity_refused()
        case bytes() as response:
            return response
        case other:
            raise TypeError(f"the on_identity handler returned {type(other).__name__}; it must return a bool or bytes")


def identity_refused() -> Reject:
    """The answer to an identity that is missing or wrong: 1/2/1 (PS3.7 D.3.3.7)."""
    return Reject(RejectResult.PERMANENT, RejectSource.PROVIDER_ACSE, 1)


def as_response(result: object, *, dataset_allowed: bool = False) -> Response:
    """What a handler returned as a Response that may be filled in.

    That is a Response, a Status or a 16-bit int, and with ``dataset_allowed`` also a data set, which means success, or
    a (status, data set) pair. A Response is copied: a handler may return the same one each time. Raises TypeError and
    ValueError for anything else.
    """
    if type(result) is Status:
        return Response.plain(result)
    if isinstance(result, Response):
        return replace(result)
    if isinstance(result, int) and not isinstance(result, bool):
        return Response(Status(result))
    if dataset_allowed:
        match result:
            case (status, dataset) if dataset is None or _is_dataset(dataset):
                response = as_response(status)
                response.dataset = dataset
                return response
            case _ if _is_dataset(result):
                return Response(Status.SUCCESS, result)
    what = "a Status, an int or a Response" + (", a data set or a (status, data set) pair" if dataset_allowed else "")
    raise TypeError(f"a handler returned {type(result).__name__}; it must return {what}")


def _is_dataset(value: object) -> bool:
    """Whether it looks like an EncodedDataset or a pydicom Dataset, which is not to be imported for this."""
    return hasattr(value, "transfer_syntax") or hasattr(value, "save_as")


def as_items(result: Any) -> Iterable[Any] | AsyncIterable[Any]:
    """What a handler of many results returned, to be iterated over: also one data set or path, a status, nothing."""
    if result is None:
        return ()
    if isinstance(result, int | str | Response) or hasattr(result, "__fspath__") or _is_dataset(result):
        return (result,)
    if isinstance(result, AsyncIterable | Iterable):
        return result
    raise TypeError(f"a handler returned {type(result).__name__}; it must yield data sets or return a list of them")
