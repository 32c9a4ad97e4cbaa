"""``DicomAssociate``: an association negotiation that a program edits field by field (PS3.8 9.3.2, PS3.7 D.3)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from dicomnet.ae import known_transfer_syntaxes
from dicomnet.config import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, MAX_PDU_LENGTH, Identity
from dicomnet.errors import LocalProtocolError
from dicomnet.plain import printable
from dicomnet.ul import negotiation, pdu
from dicomnet.ul.negotiation import ContextLike, Policy
from dicomnet.ul.pdu import (
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


@dataclass(slots=True)
class _Context:
    """A presentation context."""

    result: int
    abstract: str
    transfers: list[str] = field(default_factory=list)


class DicomAssociate:
    """What an association request proposes (``request=True``) or an acceptance answers.

    ``version``; ``called``, ``calling``: AE titles; ``application_context``: UID; ``max_length``: longest P-DATA-TF
    variable field in bytes (0 unlimited, None absent); ``implementation_class``, ``implementation_version_name``;
    ``asynchronous_operations``: (invoked, performed) or None; ``user_identity``: an Identity or None;
    ``user_identity_response``: bytes or None; ``common_extended``: list of CommonExtendedNegotiation;
    ``unknown_user_items``: list of (type, bytes). Methods that name a presentation context that is not there raise
    LocalProtocolError.
    """

    def __init__(self, request: bool = True) -> None:
        self.is_request = request
        self.version = 1
        self.called = ""
        self.calling = ""
        self.application_context = pdu.APPLICATION_CONTEXT
        self.max_length: int | None = None
        self.implementation_class = ""
        self.implementation_version_name = ""
        self.asynchronous_operations: tuple[int, int] | None = None
        self.user_identity: Identity | None = None
        self.user_identity_response: bytes | None = None
        self.common_extended: list[CommonExtendedNegotiation] = []
        self.unknown_user_items: list[tuple[int, bytes]] = []
        self._contexts: dict[int, _Context] = {}
        # PS3.7 negotiates these for a SOP class, not for a context of it.
        self._roles: dict[str, tuple[bool, bool]] = {}
        self._extended: dict[str, bytes] = {}

    def default(self) -> None:
        """Fill in the constants: version, application context, this implementation and its maximum length."""
        self.version = 1
        self.application_context = pdu.APPLICATION_CONTEXT
        self.max_length = MAX_PDU_LENGTH
        self.implementation_class = IMPLEMENTATION_CLASS_UID
        self.implementation_version_name = IMPLEMENTATION_VERSION_NAME

    # --- presentation contexts --------------------------------------------------------------------------------------

    def _context(self, id: int) -> _Context:
        try:
            return self._contexts[id]
        except KeyError:
            raise LocalProtocolError(f"there is no presentation context {id}") from None

    def add_presentation_context(self, id: int, result: int, abstract: str) -> None:
        """``id``: odd, 1 to 255, not yet used (PS3.8 9.3.2.2); ``result``: of a request 0; ``abstract``: UID."""
        if id % 2 == 0 or not 0 < id < 256:
            raise LocalProtocolError(f"presentation context ID {id} is not odd and in 1..255 (PS3.8 9.3.2.2)")
        if id in self._contexts:
            raise LocalProtocolError(f"there is a presentation context {id} already")
        self._contexts[id] = _Context(_result(result), str(abstract))

    def delete_presentation_context(self, id: int) -> None:
        abstract = self._context(id).abstract
        del self._contexts[id]
        if not self.find_abstract(abstract):
            self._roles.pop(abstract, None)
            self._extended.pop(abstract, None)

    @property
    def presentation_context_count(self) -> int:
        return len(self._contexts)

    def presentation_context_id(self, index: int) -> int:
        """The ID of the context at ``index``, 0 for the first one added."""
        ids = list(self._contexts)
        if not 0 <= index < len(ids):
            raise LocalProtocolError(f"there is no presentation context at index {index}; there are {len(ids)}")
        return ids[index]

    def abstract(self, id: int) -> str:
        return self._context(id).abstract

    def result(self, id: int) -> ContextResult:
        """What was answered: acceptance 0, user rejection 1, no reason 2, abstract syntax 3, transfer syntax 4."""
        return ContextResult(self._context(id).result)

    def set_result(self, id: int, result: int) -> None:
        self._context(id).result = _result(result)

    def find_abstract(self, uid: str) -> int:
        """The ID of the first context for this abstract syntax, or 0."""
        return self.find_next_abstract(0, uid)

    def find_next_abstract(self, id: int, uid: str) -> int:
        """The ID of the next such context after the context ``id``, or 0."""
        ids = list(self._contexts)
        start = ids.index(id) + 1 if id in self._contexts else 0
        return next((other for other in ids[start:] if self._contexts[other].abstract == uid), 0)

    # --- transfer syntaxes ------------------------------------------------------------------------------------------

    def add_transfer(self, id: int, uid: str) -> None:
        self._context(id).transfers.append(str(uid))

    def delete_transfer(self, id: int, index: int) -> None:
        self.transfer(id, index)
        del self._context(id).transfers[index]

    def transfer_count(self, id: int) -> int:
        return len(self._context(id).transfers)

    def transfer(self, id: int, index: int = 0) -> str:
        """The transfer syntax at ``index``; after acceptance index 0 is the chosen one."""
        transfers = self._context(id).transfers
        if not 0 <= index < len(transfers):
            raise LocalProtocolError(f"presentation context {id} has no transfer syntax at index {index}")
        return transfers[index]

    # --- user information -------------------------------------------------------------------------------------------

    def set_role_select(self, id: int, enabled: bool, user: bool, provider: bool) -> None:
        """SCP/SCU role selection (PS3.7 D.3.3.4) for the context's SOP class; ``enabled`` False removes it.

        It holds for all contexts of that SOP class.
        """
        abstract = self._context(id).abstract
        if enabled:
            self._roles[abstract] = bool(user), bool(provider)
        else:
            self._roles.pop(abstract, None)

    def role_select(self, id: int) -> tuple[bool, bool, bool]:
        """(enabled, user, provider); where nothing was negotiated (False, True, False), the default roles."""
        role = self._roles.get(self._context(id).abstract)
        return (False, True, False) if role is None else (True, *role)

    def set_extended_data(self, id: int, data: bytes | None) -> None:
        """SOP class extended negotiation (PS3.7 D.3.3.5) for the context's SOP class; None removes it."""
        abstract = self._context(id).abstract
        if data is None:
            self._extended.pop(abstract, None)
        else:
            self._extended[abstract] = bytes(data)

    def extended_data(self, id: int) -> bytes | None:
        """None if there is none."""
        return self._extended.get(self._context(id).abstract)

    def set_asynchronous_operations(self, enabled: bool, invoked: int = 1, performed: int = 1) -> None:
        """Asynchronous operations window (PS3.7 D.3.3.3), as the requestor's; 0 is unlimited."""
        self.asynchronous_operations = (invoked, performed) if enabled else None

    # --- as the answer to a request ---------------------------------------------------------------------------------

    @classmethod
    def accepting(cls, request: DicomAssociate, supported: Iterable[ContextLike]) -> DicomAssociate:
        """The right answer to ``request`` for an acceptor of ``supported``.

        ``supported``: SOP class UIDs, (UID, [transfer syntaxes]) pairs or PresentationContexts. Contexts get result 0
        with one transfer syntax, 3 for an abstract syntax and 4 for transfer syntaxes that are not supported; the
        maximum length is this side's own.
        """
        policy = Policy(negotiation.support(supported), known_transfer_syntaxes())
        asked = request.to_request()
        return cls.from_accept(asked, negotiation.answer(asked, policy))

    # --- to and from PDUs -------------------------------------------------------------------------------------------

    @classmethod
    def from_request(cls, request: AssociateRq) -> DicomAssociate:
        """What an A-ASSOCIATE-RQ proposes."""
        self = cls(True)
        self._fill(request)
        for context in request.contexts:
            self._contexts[context.id] = _Context(0, context.abstract_syntax, list(context.transfer_syntaxes))
        return self

    @classmethod
    def from_accept(cls, request: AssociateRq, accept: AssociateAc) -> DicomAssociate:
        """What an A-ASSOCIATE-AC answers; the abstract syntaxes come from the request."""
        self = cls(False)
        self._fill(accept)
        self.called, self.calling = request.called_ae, request.calling_ae  # those of an AC are not tested
        proposed = {context.id: context.abstract_syntax for context in request.contexts}
        for context in accept.contexts:
            abstract = proposed.get(context.id, "")
            transfers = [context.transfer_syntax] if context.transfer_syntax else []
            self._contexts[context.id] = _Context(context.result, abstract, transfers)
        return self

    def _fill(self, associate: AssociateRq | AssociateAc) -> None:
        user = associate.user
        self.version = associate.protocol_version
        self.called, self.calling = associate.called_ae, associate.calling_ae
        self.application_context = associate.application_context
        self.max_length = user.max_length
        self.implementation_class = user.implementation_class_uid or ""
        self.implementation_version_name = user.implementation_version_name or ""
        self.asynchronous_operations = user.async_ops
        self.user_identity = user.identity
        self.user_identity_response = user.identity_response
        self.common_extended = list(user.common_extended)
        self.unknown_user_items = list(user.unknown)
        self._roles = {role.sop_class_uid: (role.scu, role.scp) for role in user.roles}
        self._extended = {item.sop_class_uid: item.data for item in user.extended}

    def _user_information(self, *, request: bool) -> UserInformation:
        """An identity and common extended negotiation belong to a request, the response to an identity to an answer."""
        return UserInformation(
            max_length=self.max_length,
            implementation_class_uid=self.implementation_class or None,
            implementation_version_name=self.implementation_version_name or None,
            async_ops=self.asynchronous_operations,
            roles=tuple(RoleSelection(uid, *role) for uid, role in self._roles.items()),
            extended=tuple(ExtendedNegotiation(uid, data) for uid, data in self._extended.items()),
            common_extended=tuple(self.common_extended) if request else (),
            identity=self.user_identity if request else None,
            identity_response=None if request else self.user_identity_response,
            unknown=tuple(self.unknown_user_items),
        )

    def to_request(self) -> AssociateRq:
        """The A-ASSOCIATE-RQ that proposes this. Raises LocalProtocolError for what PS3.8 does not allow."""
        contexts = tuple(
            ProposedContext(id, context.abstract, tuple(context.transfers)) for id, context in self._contexts.items()
        )
        if not contexts:
            raise LocalProtocolError("an association needs at least one presentation context (PS3.8 9.3.2)")
        for context in contexts:
            if not context.transfer_syntaxes:
                raise LocalProtocolError(f"presentation context {context.id} has no transfer syntax (PS3.8 9.3.2.2)")
        return AssociateRq(
            self.called,
            self.calling,
            contexts,
            self._user_information(request=True),
            self.application_context,
            self.version,
        )

    def to_accept(self, request: AssociateRq) -> AssociateAc:
        """The A-ASSOCIATE-AC that answers ``request`` so. Raises LocalProtocolError if a context lacks an answer."""
        implicit = negotiation.IMPLICIT_VR_LITTLE_ENDIAN  # what stands in a refused context counts for nothing
        contexts = []
        for id, context in self._contexts.items():
            if context.result == ContextResult.ACCEPTANCE and not context.transfers:
                raise LocalProtocolError(f"presentation context {id} is accepted without a transfer syntax")
            contexts.append(AnsweredContext(id, context.result, (context.transfers or [implicit])[0]))
        missing = {context.id for context in request.contexts} - self._contexts.keys()
        if missing:
            raise LocalProtocolError(f"presentation contexts {sorted(missing)} of the request are not answered")
        return AssociateAc(
            request.called_ae,
            request.calling_ae,
            tuple(contexts),
            self._user_information(request=False),
            self.application_context,
            self.version,
            titles=request.titles,
        )

    # --- in words ---------------------------------------------------------------------------------------------------

    def __str__(self) -> str:
        kind = "A-ASSOCIATE-RQ" if self.is_request else "A-ASSOCIATE-AC"
        length = {None: "not given", 0: "unlimited"}.get(self.max_length, f"{self.max_length} bytes")
        lines = [
            f"{kind}, version {self.version}",
            f"  called AE {self.called!r}, calling AE {self.calling!r}",
            f"  application context {uid_text(self.application_context)}",
            f"  maximum length {length}",
            f"  implementation {self.implementation_class or '-'} {self.implementation_version_name}".rstrip(),
        ]
        if self.asynchronous_operations is not None:
            lines.append("  operations window: {} invoked, {} performed".format(*self.asynchronous_operations))
        if self.user_identity is not None:
            lines.append(f"  user identity of type {self.user_identity.type}")
        if self.user_identity_response is not None:
            lines.append(f"  user identity response of {len(self.user_identity_response)} bytes")
        lines += [f"  common extended negotiation for {uid_text(item.sop_class_uid)}" for item in self.common_extended]
        lines += [f"  unknown user item {kind:02X}H of {len(data)} bytes" for kind, data in self.unknown_user_items]
        for id, context in self._contexts.items():
            lines += self._context_lines(id, context)
        return "\n".join(map(printable, lines))  # UIDs and names are the peer's

    def _context_lines(self, id: int, context: _Context) -> list[str]:
        answer = "" if self.is_request else f": {ContextResult(context.result).name.replace('_', ' ').lower()}"
        lines = [f"  context {id}: {uid_text(context.abstract)}{answer}"]
        if self.is_request or context.result == ContextResult.ACCEPTANCE:
            lines += [f"    {uid_text(uid)}" for uid in context.transfers]
        if context.abstract in self._roles:
            user, provider = self._roles[context.abstract]
            lines.append(f"    roles: SCU {'yes' if user else 'no'}, SCP {'yes' if provider else 'no'}")
        if context.abstract in self._extended:
            lines.append(f"    extended negotiation {self._extended[context.abstract].hex(' ')}")
        return lines


def _result(result: int) -> int:
    try:
        return int(ContextResult(result))
    except ValueError:
        raise LocalProtocolError(f"{result} is no result of a presentation context (0 to 4)") from None


def uid_name(uid: str) -> str:
    """The name of a UID in the standard's dictionary, or else the UID itself, whatever a peer has made of it."""
    from pydicom import config
    from pydicom.uid import UID

    return str(UID(uid, config.IGNORE).name)


def uid_text(uid: str) -> str:
    """A UID with its name, if the standard's dictionary has one."""
    name = uid_name(uid)
    return uid if name == uid else f"{name} ({uid})"
