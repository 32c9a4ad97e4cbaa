"""What ``associate`` asks for, before anything is sent: the same for every face."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from dicomnet.config import Identity, Limits, Peer, Timeouts
from dicomnet.dimse.conversation import Conversation
from dicomnet.dimse.provider import AssociationInfo
from dicomnet.dimse.serving import Serving
from dicomnet.ul import association as ul, negotiation
from dicomnet.ul.extended import CommonExtended, Extended
from dicomnet.ul.negotiation import AcceptedContext, ContextLike
from dicomnet.ul.pdu import AssociateRq

if TYPE_CHECKING:
    from dicomnet.ae import AE


class Opening(NamedTuple):
    """An association to be requested from ``peer``."""

    peer: Peer
    request: AssociateRq
    association: ul.Association
    timeouts: Timeouts
    limits: Limits


class Negotiated:
    """What is known of an association that stands; ``peer``: whom it is with."""

    def __init__(self, association: ul.Association, peer: Peer) -> None:
        self._negotiated = association
        self.peer = peer

    @property
    def accepted(self) -> tuple[AcceptedContext, ...]:
        """The negotiated presentation contexts."""
        return tuple(self._negotiated.contexts.values())

    @property
    def max_pdu_length(self) -> int:
        """The longest P-DATA-TF that the peer takes, in bytes (0: any)."""
        return self._negotiated.peer_max_length

    @property
    def async_ops(self) -> tuple[int, int]:
        """The negotiated (invoked, performed) operations window, as the requestor's (0: unlimited)."""
        return self._negotiated.window

    @property
    def extended(self) -> dict[str, bytes]:
        """SOP class → the acceptor's answer to its extended negotiation (PS3.7 D.3.3.5)."""
        return self._negotiated.extended_answers

    @property
    def identity_response(self) -> bytes | None:
        """The acceptor's response to the user identity (PS3.7 D.3.3.7.2), or None if it gave none."""
        return self._negotiated.identity_response


def opening(
    peer: Peer | str,
    calling_ae: str,
    contexts: Iterable[ContextLike],
    *,
    identity: Identity | None,
    async_ops: tuple[int, int],
    roles: Mapping[str, tuple[bool, bool]] | None,
    extended: Mapping[str, Extended] | None,
    common_extended: Iterable[CommonExtended],
    max_pdu_length: int,
    timeouts: Timeouts | None,
    limits: Limits | None,
) -> Opening:
    """The parameters: those of ``associate``. Raises ValueError for what cannot be requested."""
    peer = Peer.parse(peer) if isinstance(peer, str) else peer
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
        common_extended=common_extended,
        max_length=max_pdu_length,
    )
    association = ul.Association(requestor=True, max_length=max_pdu_length, timeouts=timeouts, limits=limits)
    return Opening(peer, request, association, timeouts, limits)


def answer_with(ae: AE, conversation: Conversation, asked: Opening, scu: Any) -> None:
    """From now on the handlers of ``ae`` answer what the acceptor asks for. ``scu``: this side's Association."""
    peer, request = asked.peer, asked.request
    accepted = tuple(asked.association.contexts.values())
    address = (peer.host, peer.port)
    info = AssociationInfo(request.calling_ae, request.called_ae, address, request, accepted=accepted, scu=scu)
    info.answer = asked.association.answer
    conversation.performer = Serving(conversation, ae, info)


def caller(info: AssociationInfo) -> Peer | None:
    """Who requested an association, as a peer; None if its AE title is none, for which it will be refused."""
    try:
        return Peer(info.calling_ae, info.address[0], info.address[1])
    except ValueError:
        return None
