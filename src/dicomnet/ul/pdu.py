"""The seven PDUs of PS3.8 9.3 and their items (also those of PS3.7 D.3.3) as values, to and from bytes.

One idea: a value is complete at birth and symmetric, ``decode(encode(x)) == x``. Reserved fields are sent as zero and
not tested (9.3.1); items of unknown type are kept as ``(type, bytes)`` and otherwise ignored.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, assert_never

from dicomnet.config import Identity
from dicomnet.errors import AbortReason
from dicomnet.ul.wire import Cursor, InvalidPdu, counted, item, u8, u16, u32

APPLICATION_CONTEXT: Final = "1.2.840.10008.3.1.1.1"  # PS3.7 A.2.1: the only one there is
HEADER_LENGTH: Final = 6  # type, reserved, 32-bit length
FIXED_LENGTH: Final = 4  # of A-ASSOCIATE-RJ, A-RELEASE-RQ, A-RELEASE-RP, A-ABORT
MIN_MAX_LENGTH: Final = 8  # the least maximum length that carries data: a PDV header of 6 and an even fragment of 2


class PduType(IntEnum):
    """PDU types (PS3.8 9.3.1)."""

    ASSOCIATE_RQ = 1
    ASSOCIATE_AC = 2
    ASSOCIATE_RJ = 3
    P_DATA_TF = 4
    RELEASE_RQ = 5
    RELEASE_RP = 6
    ABORT = 7


class ContextResult(IntEnum):
    """Result of a presentation context negotiation (PS3.8 Table 9-18)."""

    ACCEPTANCE = 0
    USER_REJECTION = 1
    NO_REASON = 2
    ABSTRACT_SYNTAX_NOT_SUPPORTED = 3
    TRANSFER_SYNTAXES_NOT_SUPPORTED = 4


@dataclass(frozen=True, slots=True)
class ProposedContext:
    """Presentation context item of an A-ASSOCIATE-RQ (PS3.8 9.3.2.2)."""

    id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AnsweredContext:
    """Presentation context item of an A-ASSOCIATE-AC (PS3.8 9.3.3.2); the transfer syntax counts if result is 0."""

    id: int
    result: int
    transfer_syntax: str


@dataclass(frozen=True, slots=True)
class RoleSelection:
    """SCP/SCU role selection (PS3.7 D.3.3.4), as the association requestor's roles."""

    sop_class_uid: str
    scu: bool
    scp: bool


@dataclass(frozen=True, slots=True)
class ExtendedNegotiation:
    """SOP class extended negotiation (PS3.7 D.3.3.5): the service class's own bytes."""

    sop_class_uid: str
    data: bytes


@dataclass(frozen=True, slots=True)
class CommonExtendedNegotiation:
    """SOP class common extended negotiation (PS3.7 D.3.3.6)."""

    sop_class_uid: str
    service_class_uid: str
    related_general_sop_class_uids: tuple[str, ...] = ()
    version: int = 0


@dataclass(frozen=True, slots=True)
class UserInformation:
    """User information item (PS3.8 9.3.2.3, PS3.7 D.3.3); None or empty means that the sub-item is absent.

    ``max_length``: longest P-DATA-TF variable field that the sender receives, in bytes; 0 is unlimited.
    ``async_ops``: (invoked, performed) operations outstanding at once, as the requestor's; 0 is unlimited.
    """

    max_length: int | None = None
    implementation_class_uid: str | None = None
    implementation_version_name: str | None = None
    async_ops: tuple[int, int] | None = None
    roles: tuple[RoleSelection, ...] = ()
    extended: tuple[ExtendedNegotiation, ...] = ()
    common_extended: tuple[CommonExtendedNegotiation, ...] = ()
    identity: Identity | None = None
    identity_response: bytes | None = None
    unknown: tuple[tuple[int, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class AssociateRq:
    """A-ASSOCIATE-RQ (PS3.8 9.3.2). AE titles are without the spaces around them.

    ``titles``: bytes 11–74 as they came, which the answer repeats (Table 9-17); not part of equality.
    """

    called_ae: str
    calling_ae: str
    contexts: tuple[ProposedContext, ...]
    user: UserInformation = UserInformation()
    application_context: str = APPLICATION_CONTEXT
    protocol_version: int = 1
    unknown: tuple[tuple[int, bytes], ...] = ()
    titles: bytes = field(default=b"", compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class AssociateAc:
    """A-ASSOCIATE-AC (PS3.8 9.3.3); ``titles`` repeats bytes 11–74 of the request."""

    called_ae: str
    calling_ae: str
    contexts: tuple[AnsweredContext, ...]
    user: UserInformation = UserInformation()
    application_context: str = APPLICATION_CONTEXT
    protocol_version: int = 1
    unknown: tuple[tuple[int, bytes], ...] = ()
    titles: bytes = field(default=b"", compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class AssociateRj:
    """A-ASSOCIATE-RJ (PS3.8 9.3.4)."""

    result: int
    source: int
    reason: int


@dataclass(frozen=True, slots=True)
class Pdv:
    """Presentation data value item (PS3.8 9.3.5.1) with its message control header (Annex E.2)."""

    context_id: int
    is_command: bool
    is_last: bool
    data: bytes


@dataclass(frozen=True, slots=True)
class PDataTf:
    """P-DATA-TF (PS3.8 9.3.5). On an association the framer streams these; this value is for tools and tests."""

    pdvs: tuple[Pdv, ...]


@dataclass(frozen=True, slots=True)
class ReleaseRq:
    """A-RELEASE-RQ (PS3.8 9.3.6)."""


@dataclass(frozen=True, slots=True)
class ReleaseRp:
    """A-RELEASE-RP (PS3.8 9.3.7)."""


@dataclass(frozen=True, slots=True)
class Abort:
    """A-ABORT (PS3.8 9.3.8)."""

    source: int
    reason: int


Pdu = AssociateRq | AssociateAc | AssociateRj | PDataTf | ReleaseRq | ReleaseRp | Abort


# --- encoding -------------------------------------------------------------------------------------------------------


def encode(pdu: Pdu) -> bytes:
    """The PDU with its header. Raises ValueError (or OverflowError) for values that have no encoding."""
    match pdu:
        case AssociateRq():
            return _pdu(PduType.ASSOCIATE_RQ, _associate(pdu, b"".join(map(_proposed_context, pdu.contexts))))
        case AssociateAc():
            return _pdu(PduType.ASSOCIATE_AC, _associate(pdu, b"".join(map(_answered_context, pdu.contexts))))
        case AssociateRj(result, source, reason):
            return _pdu(PduType.ASSOCIATE_RJ, bytes((0, result, source, reason)))
        case PDataTf(pdvs):
            return _pdu(PduType.P_DATA_TF, b"".join(map(_pdv, pdvs)))
        case ReleaseRq():
            return _pdu(PduType.RELEASE_RQ, bytes(4))
        case ReleaseRp():
            return _pdu(PduType.RELEASE_RP, bytes(4))
        case Abort(source, reason):
            return _pdu(PduType.ABORT, bytes((0, 0, source, reason)))
    assert_never(pdu)


def _pdu(kind: PduType, value: bytes) -> bytes:
    return bytes((kind, 0)) + u32(len(value)) + value


def _pdv(pdv: Pdv) -> bytes:
    control = pdv.is_command | pdv.is_last << 1
    return u32(len(pdv.data) + 2) + bytes((pdv.context_id, control)) + pdv.data


def ae_title_field(title: str) -> bytes:
    """16 bytes, padded with spaces (PS3.8 Table 9-11). Raises ValueError if it does not fit."""
    encoded = title.encode("latin-1")
    if len(encoded) > 16:
        raise ValueError(f"AE title {title!r} is longer than 16 characters")
    return encoded.ljust(16)


def _associate(pdu: AssociateRq | AssociateAc, contexts: bytes) -> bytes:
    titles = pdu.titles or ae_title_field(pdu.called_ae) + ae_title_field(pdu.calling_ae) + bytes(32)
    return b"".join(
        (
            u16(pdu.protocol_version),
            bytes(2),
            titles,
            item(0x10, _text(pdu.application_context)),
            contexts,
            item(0x50, _user_information(pdu.user)),
            *(item(kind, value) for kind, value in pdu.unknown),
        )
    )


def _proposed_context(context: ProposedContext) -> bytes:
    syntaxes = b"".join(item(0x40, _text(uid)) for uid in context.transfer_syntaxes)
    return item(0x20, bytes((context.id, 0, 0, 0)) + item(0x30, _text(context.abstract_syntax)) + syntaxes)


def _answered_context(context: AnsweredContext) -> bytes:
    header = bytes((context.id, 0, context.result, 0))
    return item(0x21, header + item(0x40, _text(context.transfer_syntax)))


def _user_information(user: UserInformation) -> bytes:
    parts = []
    if user.max_length is not None:
        parts.append(item(0x51, u32(user.max_length)))
    if user.implementation_class_uid is not None:
        parts.append(item(0x52, _text(user.implementation_class_uid)))
    if user.async_ops is not None:
        parts.append(item(0x53, u16(user.async_ops[0]) + u16(user.async_ops[1])))
    parts += [item(0x54, _uid(role.sop_class_uid) + bytes((role.scu, role.scp))) for role in user.roles]
    if user.implementation_version_name is not None:
        parts.append(item(0x55, _text(user.implementation_version_name)))
    parts += [item(0x56, _uid(extended.sop_class_uid) + extended.data) for extended in user.extended]
    parts += [_common_extended(common) for common in user.common_extended]
    if (who := user.identity) is not None:
        fields = counted(who.primary) + counted(who.secondary)
        parts.append(item(0x58, u8(who.type) + u8(who.response_requested) + fields))
    if user.identity_response is not None:
        parts.append(item(0x59, counted(user.identity_response)))
    parts += [item(kind, value) for kind, value in user.unknown]
    return b"".join(parts)


def _common_extended(common: CommonExtendedNegotiation) -> bytes:
    related = b"".join(map(_uid, common.related_general_sop_class_uids))
    value = _uid(common.sop_class_uid) + _uid(common.service_class_uid) + counted(related)
    return bytes((0x57, common.version)) + counted(value)  # here the second byte is the version (Table D.3-12)


def _text(value: str) -> bytes:
    return value.encode("latin-1")


def _uid(value: str) -> bytes:
    return counted(value.encode("latin-1"))


# --- decoding -------------------------------------------------------------------------------------------------------


def decode(data: bytes) -> Pdu:
    """The PDU that ``data`` is, header and all. Raises InvalidPdu."""
    cursor = Cursor(data)
    kind = cursor.u8()
    cursor.skip(1)
    body = cursor.sub(cursor.u32())
    cursor.finish()
    match kind:
        case PduType.ASSOCIATE_RQ:
            return _decode_associate_rq(body)
        case PduType.ASSOCIATE_AC:
            return _decode_associate_ac(body)
        case PduType.P_DATA_TF:
            return _decode_p_data(body)
        case PduType.ASSOCIATE_RJ | PduType.RELEASE_RQ | PduType.RELEASE_RP | PduType.ABORT:
            return _decode_fixed(kind, body)
    raise InvalidPdu(f"PDU type {kind:02X}H", AbortReason.UNRECOGNISED_PDU)


def _decode_fixed(kind: int, body: Cursor) -> AssociateRj | ReleaseRq | ReleaseRp | Abort:
    fields = body.take(FIXED_LENGTH)
    body.finish()
    match kind:
        case PduType.ASSOCIATE_RJ:
            return AssociateRj(*fields[1:])
        case PduType.ABORT:
            return Abort(*fields[2:])
        case PduType.RELEASE_RQ:
            return ReleaseRq()
    return ReleaseRp()


def _decode_p_data(body: Cursor) -> PDataTf:
    pdvs = []
    while body:
        value = body.sub(body.u32())
        context_id, control = value.u8(), value.u8()
        pdvs.append(Pdv(context_id, bool(control & 1), bool(control & 2), value.rest()))
    if not pdvs:
        raise InvalidPdu("a P-DATA-TF without a presentation data value")  # 9.3.5: one or more
    return PDataTf(tuple(pdvs))


@dataclass(slots=True)
class _Associate:
    """What RQ and AC have in common, while it is read."""

    protocol_version: int
    titles: bytes
    contexts: list[Cursor]
    application_context: str
    user: UserInformation
    unknown: list[tuple[int, bytes]]

    @property
    def called_ae(self) -> str:
        return ae_title_text(self.titles[:16])

    @property
    def calling_ae(self) -> str:
        return ae_title_text(self.titles[16:32])


def ae_title_text(encoded: bytes) -> str:
    """Spaces around an AE title mean nothing (Table 9-11); NULs behind it are a common defect and go too."""
    return encoded.rstrip(b" \0").lstrip(b" ").decode("latin-1")


def _decode_associate(body: Cursor, context_type: int) -> _Associate:
    version = body.u16()
    body.skip(2)
    titles = body.take(64)
    contexts: list[Cursor] = []
    applications: list[Cursor] = []
    users: list[Cursor] = []
    unknown: list[tuple[int, bytes]] = []
    while body:
        kind, value = body.item()
        if kind == context_type:
            contexts.append(value)
        elif kind == 0x10:
            applications.append(value)
        elif kind == 0x50:
            users.append(value)
        else:
            unknown.append((kind, value.rest()))
    # 9.3.2, 9.3.3: one application context, one or more presentation contexts, one user information item
    if len(applications) != 1 or len(users) != 1 or not contexts:
        raise InvalidPdu(
            f"{len(applications)} application context, {len(contexts)} presentation context"
            f" and {len(users)} user information items"
        )
    user = _decode_user_information(users[0])
    return _Associate(version, titles, contexts, _decode_text(applications[0]), user, unknown)


def _decode_associate_rq(body: Cursor) -> AssociateRq:
    parts = _decode_associate(body, 0x20)
    contexts = tuple(map(_decode_proposed_context, parts.contexts))
    ids = {context.id for context in contexts}
    if len(ids) != len(contexts) or any(id % 2 == 0 for id in ids):  # 9.3.2.2: odd and unique
        raise InvalidPdu("presentation context IDs are not odd and unique")
    return AssociateRq(
        parts.called_ae,
        parts.calling_ae,
        contexts,
        parts.user,
        parts.application_context,
        parts.protocol_version,
        tuple(parts.unknown),
        parts.titles,
    )


def _decode_associate_ac(body: Cursor) -> AssociateAc:
    parts = _decode_associate(body, 0x21)
    contexts = tuple(map(_decode_answered_context, parts.contexts))
    if len({context.id for context in contexts}) != len(contexts):
        raise InvalidPdu("a presentation context is answered twice")
    return AssociateAc(
        parts.called_ae,
        parts.calling_ae,
        contexts,
        parts.user,
        parts.application_context,
        parts.protocol_version,
        tuple(parts.unknown),
        parts.titles,
    )


def _decode_proposed_context(value: Cursor) -> ProposedContext:
    context_id = value.u8()
    value.skip(3)
    abstract: list[str] = []
    transfer: list[str] = []
    while value:
        kind, name = value.item()
        if kind == 0x30:
            abstract.append(_decode_text(name))
        elif kind == 0x40:
            transfer.append(_decode_text(name))
    if len(abstract) != 1 or not transfer:  # 9.3.2.2: one abstract syntax, one or more transfer syntaxes
        raise InvalidPdu(f"context {context_id} has {len(abstract)} abstract and {len(transfer)} transfer syntaxes")
    return ProposedContext(context_id, abstract[0], tuple(transfer))


def _decode_answered_context(value: Cursor) -> AnsweredContext:
    context_id = value.u8()
    value.skip(1)
    result = value.u8()
    value.skip(1)
    if result > ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED:
        raise InvalidPdu(f"context {context_id} has the result {result}")
    transfer: list[str] = []
    while value:
        kind, name = value.item()
        if kind == 0x40:
            transfer.append(_decode_text(name))
    if result == ContextResult.ACCEPTANCE and len(transfer) != 1:  # Table 9-18: not significant unless accepted
        raise InvalidPdu(f"context {context_id} is accepted with {len(transfer)} transfer syntaxes")
    return AnsweredContext(context_id, result, transfer[0] if transfer else "")


def _decode_user_information(value: Cursor) -> UserInformation:
    single: dict[int, object] = {}
    several: dict[int, list[object]] = {0x54: [], 0x56: [], 0x57: []}
    unknown: list[tuple[int, bytes]] = []
    while value:
        start = value.position
        kind, sub = value.item()
        if kind == 0x57:
            # Table D.3-12 puts the version into what is a reserved byte elsewhere
            several[kind].append(_decode_common_extended(sub, value.data[start + 1]))
            continue
        if (read := _SUB_ITEMS.get(kind)) is None:
            unknown.append((kind, sub.rest()))
            continue
        parsed = read(sub)
        sub.finish()
        if kind in several:
            several[kind].append(parsed)
        elif kind in single:
            raise InvalidPdu(f"user information sub-item {kind:02X}H is there twice", AbortReason.UNEXPECTED_PARAMETER)
        else:
            single[kind] = parsed
    named = {_SINGLE_FIELDS[kind]: parsed for kind, parsed in single.items()}
    lists = {_LIST_FIELDS[kind]: tuple(parsed) for kind, parsed in several.items()}
    return UserInformation(**named, **lists, unknown=tuple(unknown))  # type: ignore[arg-type]


def _decode_text(value: Cursor) -> str:
    """A UID or a name; NUL and space behind it are a common defect (PS3.8 F.1 has no padding)."""
    return value.rest().rstrip(b"\0 ").decode("latin-1")


def _decode_uid(value: Cursor) -> str:
    return _decode_text(value.sub(value.u16()))


def _decode_max_length(value: Cursor) -> int:
    length = value.u32()
    if 0 < length < MIN_MAX_LENGTH:
        raise InvalidPdu(f"a maximum length of {length} leaves no room for data")
    return length


def _decode_async_ops(value: Cursor) -> tuple[int, int]:
    return value.u16(), value.u16()


def _decode_role(value: Cursor) -> RoleSelection:
    return RoleSelection(_decode_uid(value), bool(value.u8()), bool(value.u8()))


def _decode_extended(value: Cursor) -> ExtendedNegotiation:
    return ExtendedNegotiation(_decode_uid(value), value.rest())


def _decode_common_extended(value: Cursor, version: int) -> CommonExtendedNegotiation:
    sop_class, service_class = _decode_uid(value), _decode_uid(value)
    list_of_uids = value.sub(value.u16())
    related = []
    while list_of_uids:
        related.append(_decode_uid(list_of_uids))
    # PS3.7 D.3.3.6.1: later versions may add fields, so nothing is said of what follows
    return CommonExtendedNegotiation(sop_class, service_class, tuple(related), version)


def _decode_identity(value: Cursor) -> Identity:
    kind, response_requested = value.u8(), bool(value.u8())
    primary = value.take(value.u16())
    return Identity(kind, primary, value.take(value.u16()), response_requested)


def _decode_identity_response(value: Cursor) -> bytes:
    return value.take(value.u16())


_SUB_ITEMS: dict[int, Callable[[Cursor], object]] = {
    0x51: _decode_max_length,
    0x52: _decode_text,
    0x53: _decode_async_ops,
    0x54: _decode_role,
    0x55: _decode_text,
    0x56: _decode_extended,
    0x58: _decode_identity,
    0x59: _decode_identity_response,
}
_SINGLE_FIELDS = {
    0x51: "max_length",
    0x52: "implementation_class_uid",
    0x53: "async_ops",
    0x55: "implementation_version_name",
    0x58: "identity",
    0x59: "identity_response",
}
_LIST_FIELDS = {0x54: "roles", 0x56: "extended", 0x57: "common_extended"}
