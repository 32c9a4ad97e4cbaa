"""Association negotiation (PS3.8 7.1.1, PS3.7 D.3) as pure functions: what to request, to answer, and what it means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from dicomnet import models
from dicomnet.config import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    MAX_PDU_LENGTH,
    Identity,
    check_ae_title,
)
from dicomnet.ul.extended import CommonExtended, Extended, ExtendedAnswers, answer_extended
from dicomnet.ul.pdu import (
    MIN_MAX_LENGTH,
    AnsweredContext,
    AssociateAc,
    AssociateRq,
    CommonExtendedNegotiation,
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

    ``supported``: abstract syntax → transfer syntaxes, the acceptor's order of preference, or () for those of
    ``preferred``, in its order, and then for ``known``, in the requestor's. ``roles``: SOP class → (SCU, SCP) that a
    requestor may take. ``async_ops``: (invoked, performed) as the requestor's. ``extended``: its answers to SOP class
    extended negotiation. ``related``: a SOP class that is not supported is, if the requestor says that it specialises
    one that is (PS3.7 D.3.3.6).
    """

    supported: Mapping[str, tuple[str, ...]]
    known: frozenset[str] = frozenset()
    max_length: int = MAX_PDU_LENGTH
    roles: Mapping[str, tuple[bool, bool]] = field(default_factory=dict)
    async_ops: tuple[int, int] = (1, 1)
    extended: ExtendedAnswers = field(default_factory=dict)
    implementation_class_uid: str = IMPLEMENTATION_CLASS_UID
    implementation_version_name: str = IMPLEMENTATION_VERSION_NAME
    preferred: tuple[str, ...] = ()
    related: bool = False


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


def retrieval_roles(abstract_syntaxes: Iterable[str]) -> dict[str, tuple[bool, bool]]:
    """SOP class → (SCU, SCP) for each that C-GET may bring, if there is a C-GET among them (PS3.4 C.5.3).

    The requestor of a C-GET is the SCP of the C-STOREs that follow, and it may also store.
    """
    uids = set(abstract_syntaxes)
    if uids.isdisjoint(models.get_classes()):
        return {}
    return dict.fromkeys(sorted(filter(models.may_be_storage, uids)), (True, True))


def answer(request: AssociateRq, policy: Policy, *, identity_response: bytes | None = None) -> AssociateAc:
    """The A-ASSOCIATE-AC for ``request`` under ``policy`` (whether to reject is for others to decide)."""
    asked = request.user
    # PS3.7 D.3.3.3: no window asked for, none answered; both numbers at most what was asked for
    window = asked.async_ops and (
        _smaller(asked.async_ops[0], policy.async_ops[0]),
        _smaller(asked.async_ops[1], policy.async_ops[1]),
    )
    wants_response = asked.identity is not None and asked.identity.response_requested  # PS3.7 D.3.3.7.2
    user = UserInformation(
        max_length=policy.max_length,
        implementation_class_uid=policy.implementation_class_uid,
        implementation_version_name=policy.implementation_version_name,
        async_ops=window,
        roles=_answer_roles(asked.roles, policy),
        extended=_answer_extended(asked.extended, policy),
        identity_response=identity_response if wants_response else None,
    )
    general = _general_classes(asked.common_extended, policy) if policy.related else {}
    contexts = tuple(_answer_context(context, policy, general) for context in request.contexts)
    return AssociateAc(request.called_ae, request.calling_ae, contexts, user, titles=request.titles)


def _answer_roles(asked: Iterable[RoleSelection], policy: Policy) -> tuple[RoleSelection, ...]:
    """PS3.7 D.3.3.4: of the roles that were asked for, those that are supported; at most one answer a SOP class."""
    roles: dict[str, RoleSelection] = {}
    for role in asked:
        if (uid := role.sop_class_uid) in policy.roles:
            scu, scp = policy.roles[uid]
            roles[uid] = RoleSelection(uid, role.scu and scu, role.scp and scp)
    return tuple(roles.values())


def _answer_extended(asked: Iterable[ExtendedNegotiation], policy: Policy) -> tuple[ExtendedNegotiation, ...]:
    """PS3.7 D.3.3.5: at most one answer a SOP class."""
    answers = {
        uid: answer_extended(policy.extended, uid, data)
        for uid, data in {item.sop_class_uid: item.data for item in asked}.items()
    }
    return tuple(ExtendedNegotiation(uid, data) for uid, data in answers.items() if data is not None)


def _general_classes(asked: Iterable[CommonExtendedNegotiation], policy: Policy) -> dict[str, str]:
    """Specialised SOP class → the first related general one that is supported (PS3.7 D.3.3.6)."""
    general: dict[str, str] = {}
    for item in asked:
        for uid in item.related_general_sop_class_uids:
            if uid in policy.supported:
                general.setdefault(item.sop_class_uid, uid)
    return general


def _answer_context(context: ProposedContext, policy: Policy, general: Mapping[str, str]) -> AnsweredContext:
    uid = context.abstract_syntax
    wanted = policy.supported.get(uid if uid in policy.supported else general.get(uid, uid))
    proposed = context.transfer_syntaxes
    if wanted is None:
        return AnsweredContext(context.id, ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED, proposed[0])
    chosen = next((syntax for syntax in wanted or policy.preferred if syntax in proposed), None)
    if chosen is None and not wanted:
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


def check_max_length(length: int, most: int) -> None:
    """Raise ValueError for a maximum length that leaves no room for data or passes ``most``; 0 is unlimited."""
    if length and not MIN_MAX_LENGTH <= length <= most:
        raise ValueError(f"max_pdu_length is {length}; it must be 0 (unlimited) or in {MIN_MAX_LENGTH}..{most}")


def check_async_ops(async_ops: tuple[int, int]) -> tuple[int, int]:
    """An operations window that can be encoded (PS3.7 D.3.3.3.1), or ValueError."""
    invoked, performed = async_ops
    if not (0 <= invoked <= 0xFFFF and 0 <= performed <= 0xFFFF):
        raise ValueError(f"async_ops is {async_ops}; both numbers must be in 0..65535, 0 is unlimited")
    return invoked, performed


def request(
    called_ae: str,
    calling_ae: str,
    contexts: Iterable[ContextLike],
    *,
    identity: Identity | None = None,
    async_ops: tuple[int, int] = (1, 1),
    roles: Mapping[str, tuple[bool, bool]] | None = None,
    extended: Mapping[str, Extended] | None = None,
    common_extended: Iterable[CommonExtended] = (),
    max_length: int = MAX_PDU_LENGTH,
) -> AssociateRq:
    """The A-ASSOCIATE-RQ that asks for all this. Raises ValueError for what the standard does not allow.

    ``async_ops``: (invoked, performed) operations that this side, the requestor, wants outstanding; (1, 1), which is
    what silence means (PS3.7 D.3.3.3), is not sent. ``roles``: SOP class → (SCU, SCP) that it wants to be; None asks
    for what C-GET needs if a C-GET SOP class is among the contexts.
    """
    proposed = propose(contexts)
    if roles is None:
        roles = retrieval_roles(context.abstract_syntax for context in proposed)
    user = UserInformation(
        max_length=max_length,
        implementation_class_uid=IMPLEMENTATION_CLASS_UID,
        implementation_version_name=IMPLEMENTATION_VERSION_NAME,
        async_ops=None if async_ops == (1, 1) else check_async_ops(async_ops),
        roles=tuple(RoleSelection(str(uid), bool(scu), bool(scp)) for uid, (scu, scp) in roles.items()),
        extended=tuple(ExtendedNegotiation(str(uid), bytes(data)) for uid, data in (extended or {}).items()),
        common_extended=tuple(
            CommonExtendedNegotiation(str(item.sop_class), str(item.service_class), tuple(map(str, item.related)))
            for item in common_extended
        ),
        identity=identity,
    )
    return AssociateRq(check_ae_title(called_ae), check_ae_title(calling_ae), proposed, user)
