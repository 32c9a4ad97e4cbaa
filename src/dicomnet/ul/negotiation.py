"""Association negotiation (PS3.8 7.1.1, PS3.7 D.3) as pure functions: what to request, to answer, and what it means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from dicomnet.config import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    MAX_PDU_LENGTH,
    Identity,
    check_ae_title,
)
from dicomnet.ul.pdu import (
    AnsweredContext,
    AssociateAc,
    AssociateRq,
    ContextResult,
    ExtendedNegotiation,
    ProposedContext,
    RoleSelection,
    UserInformation,
)
from dicomnet.ul.wire import InvalidPdu

IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
MAX_CONTEXTS = 128  # odd IDs from 1 to 255

# Explicit VR first: it keeps the VRs of private elements. Implicit VR is the default that everybody has (PS3.5 10.1).
DEFAULT_TRANSFER_SYNTAXES = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)


@dataclass(frozen=True, slots=True)
class PresentationContext:
    """An abstract syntax with the transfer syntaxes that may encode it, best first.

    Offered by a requestor, each is proposed as it stands. Supported by an acceptor, the order is its preference; with
    no transfer syntaxes the acceptor takes the requestor's first one that it knows.
    """

    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AcceptedContext:
    """A presentation context that both sides agreed on.

    ``scu``, ``scp``: the roles that the association *requestor* may take (PS3.7 D.3.3.4; SCU alone by default).
    """

    id: int
    abstract_syntax: str
    transfer_syntax: str
    scu: bool = True
    scp: bool = False


ContextLike = str | PresentationContext | tuple[str, Iterable[str]]


def as_context(context: ContextLike) -> PresentationContext:
    """A SOP class UID, a (UID, transfer syntaxes) pair or a PresentationContext as the last of these."""
    match context:
        case PresentationContext():
            return context
        case str():
            return PresentationContext(str(context))
        case (str() as uid, str() as syntax):
            return PresentationContext(str(uid), (str(syntax),))
        case (str() as uid, syntaxes):
            return PresentationContext(str(uid), tuple(map(str, syntaxes)))
    raise TypeError(f"{context!r} is no SOP class UID, (UID, [transfer syntaxes]) pair or PresentationContext")


def propose(contexts: Iterable[ContextLike]) -> tuple[ProposedContext, ...]:
    """Presentation contexts with the IDs 1, 3, 5 … Raises ValueError for none and for more than 128."""
    wanted = [as_context(context) for context in contexts]
    if not wanted:
        raise ValueError("an association needs at least one presentation context")
    if len(wanted) > MAX_CONTEXTS:
        raise ValueError(
            f"{len(wanted)} presentation contexts: one association has room for {MAX_CONTEXTS} (PS3.8 9.3.2.2);"
            " use several associations"
        )
    return tuple(
        ProposedContext(2 * index + 1, context.abstract_syntax, context.transfer_syntaxes or DEFAULT_TRANSFER_SYNTAXES)
        for index, context in enumerate(wanted)
    )


@dataclass(frozen=True, slots=True)
class Policy:
    """What an acceptor supports; built once per AE, read by every association.

    ``supported``: abstract syntax → transfer syntaxes, the acceptor's order of preference, or () for ``known`` in the
    requestor's order. ``roles``: SOP class → (SCU, SCP) that a requestor may take. ``async_ops``: (invoked, performed)
    as the requestor's. ``extended``: SOP class → its answer to a SOP class extended negotiation.
    """

    supported: Mapping[str, tuple[str, ...]]
    known: frozenset[str] = frozenset()
    max_length: int = MAX_PDU_LENGTH
    roles: Mapping[str, tuple[bool, bool]] = field(default_factory=dict)
    async_ops: tuple[int, int] = (1, 1)
    extended: Mapping[str, bytes] = field(default_factory=dict)
    implementation_class_uid: str = IMPLEMENTATION_CLASS_UID
    implementation_version_name: str = IMPLEMENTATION_VERSION_NAME


def support(contexts: Iterable[ContextLike]) -> dict[str, tuple[str, ...]]:
    """The ``Policy.supported`` table; a UID that comes twice adds its transfer syntaxes."""
    table: dict[str, tuple[str, ...]] = {}
    for context in map(as_context, contexts):
        before = table.get(context.abstract_syntax)
        if before is None or not context.transfer_syntaxes:
            table[context.abstract_syntax] = context.transfer_syntaxes
        elif before:  # () already takes everything known
            table[context.abstract_syntax] = tuple(dict.fromkeys(before + context.transfer_syntaxes))
    return table


def answer(request: AssociateRq, policy: Policy, *, identity_response: bytes | None = None) -> AssociateAc:
    """The A-ASSOCIATE-AC for ``request`` under ``policy`` (whether to reject is for others to decide)."""
    asked = request.user
    roles = tuple(
        RoleSelection(role.sop_class_uid, role.scu and scu, role.scp and scp)
        for role in asked.roles
        if role.sop_class_uid in policy.roles
        for scu, scp in (policy.roles[role.sop_class_uid],)
    )
    # PS3.7 D.3.3.3: no window asked for, none answered; both numbers at most what was asked for
    window = asked.async_ops and (
        _smaller(asked.async_ops[0], policy.async_ops[0]),
        _smaller(asked.async_ops[1], policy.async_ops[1]),
    )
    extended = tuple(
        ExtendedNegotiation(item.sop_class_uid, policy.extended[item.sop_class_uid])
        for item in asked.extended
        if item.sop_class_uid in policy.extended
    )
    wants_response = asked.identity is not None and asked.identity.response_requested  # PS3.7 D.3.3.7.2
    user = UserInformation(
        max_length=policy.max_length,
        implementation_class_uid=policy.implementation_class_uid,
        implementation_version_name=policy.implementation_version_name,
        async_ops=window,
        roles=roles,
        extended=extended,
        identity_response=identity_response if wants_response else None,
    )
    contexts = tuple(_answer_context(context, policy) for context in request.contexts)
    return AssociateAc(request.called_ae, request.calling_ae, contexts, user, titles=request.titles)


def _answer_context(context: ProposedContext, policy: Policy) -> AnsweredContext:
    wanted = policy.supported.get(context.abstract_syntax)
    proposed = context.transfer_syntaxes
    if wanted is None:
        return AnsweredContext(context.id, ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED, proposed[0])
    if wanted:
        chosen = next((syntax for syntax in wanted if syntax in proposed), None)
    else:
        chosen = next((syntax for syntax in proposed if syntax in policy.known), None)
    if chosen is None:
        return AnsweredContext(context.id, ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED, proposed[0])
    return AnsweredContext(context.id, ContextResult.ACCEPTANCE, chosen)


def _smaller(asked: int, allowed: int) -> int:
    """The lesser of two window sizes, of which 0 is unlimited."""
    return min(asked or 0xFFFF, allowed or 0xFFFF) if asked or allowed else 0


def accepted_contexts(request: AssociateRq, accept: AssociateAc) -> dict[int, AcceptedContext]:
    """The contexts that may be used, by ID. Raises InvalidPdu for an answer that does not fit the request."""
    proposed = {context.id: context for context in request.contexts}
    asked = {role.sop_class_uid: role for role in request.user.roles}
    granted = {role.sop_class_uid: role for role in accept.user.roles if role.sop_class_uid in asked}
    accepted: dict[int, AcceptedContext] = {}
    for context in accept.contexts:
        if context.id not in proposed:
            raise InvalidPdu(f"presentation context {context.id} was answered and never proposed")
        if context.result != ContextResult.ACCEPTANCE:
            continue
        offer = proposed[context.id]
        if context.transfer_syntax not in offer.transfer_syntaxes:
            raise InvalidPdu(f"context {context.id}: transfer syntax {context.transfer_syntax} was not proposed")
        scu, scp = True, False  # PS3.7 D.3.3.4: the default roles where nothing was answered
        if role := granted.get(offer.abstract_syntax):
            scu, scp = role.scu and asked[role.sop_class_uid].scu, role.scp and asked[role.sop_class_uid].scp
        accepted[context.id] = AcceptedContext(context.id, offer.abstract_syntax, context.transfer_syntax, scu, scp)
    return accepted


def window(request: AssociateRq, accept: AssociateAc) -> tuple[int, int]:
    """The negotiated (invoked, performed) operations window as the requestor's; (1, 1) unless both sides named one."""
    asked, granted = request.user.async_ops, accept.user.async_ops
    if asked is None or granted is None:
        return 1, 1
    return _smaller(asked[0], granted[0]), _smaller(asked[1], granted[1])


def request(
    called_ae: str,
    calling_ae: str,
    contexts: Iterable[ContextLike],
    *,
    identity: Identity | None = None,
    async_ops: tuple[int, int] = (1, 1),
    roles: Mapping[str, tuple[bool, bool]] | None = None,
    extended: Mapping[str, bytes] | None = None,
    max_length: int = MAX_PDU_LENGTH,
) -> AssociateRq:
    """The A-ASSOCIATE-RQ that asks for all this. Raises ValueError for what the standard does not allow.

    ``async_ops``: (invoked, performed) operations that this side, the requestor, wants outstanding; (1, 1), which is
    what silence means (PS3.7 D.3.3.3), is not sent. ``roles``: SOP class → (SCU, SCP) that it wants to be.
    """
    user = UserInformation(
        max_length=max_length,
        implementation_class_uid=IMPLEMENTATION_CLASS_UID,
        implementation_version_name=IMPLEMENTATION_VERSION_NAME,
        async_ops=None if async_ops == (1, 1) else async_ops,
        roles=tuple(RoleSelection(str(uid), scu, scp) for uid, (scu, scp) in (roles or {}).items()),
        extended=tuple(ExtendedNegotiation(str(uid), data) for uid, data in (extended or {}).items()),
        identity=identity,
    )
    return AssociateRq(check_ae_title(called_ae), check_ae_title(calling_ae), propose(contexts), user)
