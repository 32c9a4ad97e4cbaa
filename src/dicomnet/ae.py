"""The application entity: its title, what it supports, its handlers, and whom it admits."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast, overload

from dicomnet.config import MAX_PDU_LENGTH, Limits, Timeouts, check_ae_title
from dicomnet.dataset import Path
from dicomnet.dimse.conversation import VERIFICATION
from dicomnet.dimse.provider import AssociationInfo, identity_refused
from dicomnet.errors import Reject, RejectResult, RejectSource
from dicomnet.ul import negotiation, pdu
from dicomnet.ul.extended import ExtendedAnswers
from dicomnet.ul.negotiation import ContextLike, Policy

if TYPE_CHECKING:
    from ipaddress import IPv4Network, IPv6Network

    Network = IPv4Network | IPv6Network

Handler = TypeVar("Handler", bound=Callable[..., Any])


class _Decorator(Protocol):
    """``@ae.on_…`` and ``@ae.on_…(quick=True)``: the function comes back as it was."""

    @overload
    def __call__(self, handler: Handler) -> Handler: ...
    @overload
    def __call__(self, *, quick: bool = False) -> Callable[[Handler], Handler]: ...


class _Registrar(Protocol):
    """A method of AE that is a ``_Decorator``, for type checkers."""

    def __get__(self, ae: AE, owner: type[AE]) -> _Decorator: ...


def _registers(described: Callable[[AE], None]) -> _Registrar:
    """The method ``on_<name>`` that registers the handler ``name``, with the description of ``described``."""
    name = described.__name__.removeprefix("on_")

    def register(self: AE, handler: Any = None, *, quick: bool = False) -> Any:
        if handler is None:
            return lambda decorated: self._register(name, decorated, quick)
        return self._register(name, handler, quick)

    register.__name__, register.__qualname__ = described.__name__, described.__qualname__
    register.__doc__ = described.__doc__
    return cast("_Registrar", register)


class AE:
    """An application entity that serves associations.

    ``title``: 1–16 characters. ``contexts``: SOP class UIDs, (UID, [transfer syntaxes]) pairs or
    PresentationContexts; a UID alone supports every transfer syntax that encodes whole data sets, in the
    requestor's order of preference; a list of transfer syntaxes states the AE's own. ``accept_calling``: AE titles
    that may call (None: all). ``accept_from``: networks or addresses, as "192.0.2.0/24" or "2001:db8::7", from
    which connections are taken (None: all); others are closed unread. ``require_called``: the called AE title must
    be ours. ``max_associations``, ``max_associations_per_peer`` (of one AE title): past them a request gets
    A-ASSOCIATE-RJ 2/3/2; None takes the numbers of ``limits``. ``max_pdu_length``: bytes, 0 is unlimited.
    ``async_ops``: (invoked, performed) as a requestor may ask for, 0 is unlimited. ``roles``: SOP class → (SCU,
    SCP) that a requestor may take; None: those that C-GET needs, if a C-GET SOP class is supported. ``prefer``:
    transfer syntaxes to choose, best first, where a SOP class comes without a list of its own. ``extended``: SOP
    class → what is supported of its extended negotiation (an ExtendedQuery and so on; bytes are answered as they
    are), or a function of SOP class and the requestor's bytes that returns one of these or None.
    ``accept_related``: take a SOP class that is not supported if the requestor names a supported one as its general
    SOP class (PS3.7 D.3.3.6). ``require_identity``: a request without a user identity is refused; see
    ``on_identity``. ``spool_folder``: where received data sets above ``limits.spool_size`` wait (None: a private
    temporary folder).

    Raises ValueError for a title, a network, a context, a length or a window that the standard or ``limits`` do not
    allow.
    """

    def __init__(
        self,
        title: str,
        *,
        contexts: Iterable[ContextLike] = (VERIFICATION,),
        accept_calling: Iterable[str] | None = None,
        accept_from: Iterable[str] | None = None,
        require_called: bool = False,
        max_associations: int | None = None,
        max_associations_per_peer: int | None = None,
        max_pdu_length: int = MAX_PDU_LENGTH,
        async_ops: tuple[int, int] = (1, 1),
        roles: Mapping[str, tuple[bool, bool]] | None = None,
        prefer: Iterable[str] = (),
        extended: ExtendedAnswers | None = None,
        accept_related: bool = False,
        require_identity: bool = False,
        spool_folder: Path | None = None,
        timeouts: Timeouts | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.title = check_ae_title(title)
        self.accept_calling = None if accept_calling is None else frozenset(map(check_ae_title, accept_calling))
        self.accept_from = None if accept_from is None else tuple(map(network, accept_from))
        self.require_called = require_called
        self.require_identity = require_identity
        self.timeouts = timeouts or Timeouts()
        limits = limits or Limits()
        self.limits = replace(
            limits,
            associations=max_associations or limits.associations,
            associations_per_ae_title=max_associations_per_peer or limits.associations_per_ae_title,
        )
        negotiation.check_max_length(max_pdu_length, self.limits.pdu_length)
        self.max_pdu_length = max_pdu_length
        self.spool_folder = spool_folder
        # Built once, read by every association.
        supported = negotiation.support(contexts)
        self.policy = Policy(
            supported=supported,
            known=known_transfer_syntaxes(),
            max_length=max_pdu_length,
            roles=negotiation.retrieval_roles(supported) if roles is None else dict(roles),
            async_ops=negotiation.check_async_ops(async_ops),
            extended=extended or {},
            preferred=tuple(map(str, prefer)),
            related=accept_related,
        )
        self._handlers: dict[str, Callable[..., Any]] = {}
        # Those that were registered with ``quick=True``, which promises that a plain function does not block.
        self.quick: set[Callable[..., Any]] = set()

    # --- handlers ---------------------------------------------------------------------------------------------------

    def handler(self, name: str) -> Callable[..., Any] | None:
        """The handler registered as ``on_<name>``, or None."""
        return self._handlers.get(name)

    @_registers
    def on_association(self) -> None:
        """``handler(association)``: accept by returning None, or raise ``Reject(result, source, reason)``."""

    @_registers
    def on_identity(self) -> None:
        """``handler(association, identity)``: whether the requestor is who it says it is (PS3.7 D.3.3.7).

        Asked for an Identity of type 1 to 5, after the AE titles were checked. True or None accepts; if the requestor
        wants a response it gets an empty one. Bytes accept, and are that response (types 3 to 5). False rejects with
        1/2/1, ``Reject`` as it says. See ``dicomnet.identity`` for verifiers.
        """

    @_registers
    def on_c_echo(self) -> None:
        """``handler(request)`` → Status, int or Response. Without one a C-ECHO succeeds (PS3.4 A.4)."""

    @_registers
    def on_c_store(self) -> None:
        """``handler(request)`` → Status, int or Response; ``request.dataset`` is an EncodedDataset.

        Success means stored (PS3.4 B.2): return it when the data set is where it belongs.
        """

    @_registers
    def on_c_find(self) -> None:
        """``handler(request)`` → the matches of ``request.dataset``, the identifier (PS3.4 C.4.1).

        A generator, an async generator or a list of pydicom Datasets and EncodedDatasets, each of which goes out with
        status 0xFF00; a Response with status 0xFF01 and its dataset for a match with optional keys that were not
        supported. Success follows the last one. A generator is closed if the requestor cancels; other handlers look at
        ``request.cancelled``. ``StatusError`` ends the operation with its status.
        """

    @_registers
    def on_c_get(self) -> None:
        """``handler(request)`` → the data sets to send for ``request.dataset``, the identifier (PS3.4 C.4.3).

        A generator, an async generator or a list of paths, EncodedDatasets and pydicom Datasets. Each is stored over
        the same association, in a presentation context of which the requestor is SCP; the library counts, reports, and
        looks out for C-CANCEL. Of a list the number that remains is reported. ``StatusError`` ends the operation with
        its status; so does a Status, an int or a Response instead of data sets.
        """

    @_registers
    def on_c_move(self) -> None:
        """``handler(request)`` → (Peer, data sets), or None if ``request.destination`` is unknown (PS3.4 C.4.2).

        The library opens an association to the Peer, stores the data sets, which are given as to ``on_c_get``, counts
        and reports. None is answered with 0xA801, Move Destination unknown; a Status, an int or a Response as it says.
        """

    @_registers
    def on_n_create(self) -> None:
        """``handler(request)`` → Status, int, Response, data set or (status, data set) (PS3.7 10.1.5).

        ``request.sop_instance_uid`` is empty if the requestor leaves the choice to the provider, whose Response then
        has it; ``request.dataset`` is the attribute list or None. The data set is what was created.
        """

    @_registers
    def on_n_set(self) -> None:
        """``handler(request)`` → Status, int, Response, data set or (status, data set) (PS3.7 10.1.3).

        ``request.dataset`` has the attributes to change; the data set is what they are now.
        """

    @_registers
    def on_n_get(self) -> None:
        """``handler(request)`` → data set, (status, data set), Response, Status or int (PS3.7 10.1.2).

        ``request.attributes`` has the tags that are asked for, all if there are none.
        """

    @_registers
    def on_n_action(self) -> None:
        """``handler(request)`` → Status, int, Response, data set or (status, data set) (PS3.7 10.1.4).

        ``request.action_type`` says what to do, ``request.dataset`` with what; the data set is the action reply.
        """

    @_registers
    def on_n_event_report(self) -> None:
        """``handler(request)`` → Status, int, Response, data set or (status, data set) (PS3.7 10.1.1).

        ``request.event_type`` says what happened, ``request.dataset`` the details; the data set is the event reply.
        The provider of a service sends these, so it is mostly the requestor's AE that has this handler.
        """

    @_registers
    def on_n_delete(self) -> None:
        """``handler(request)`` → Status, int or Response (PS3.7 10.1.6)."""

    @_registers
    def on_refusal(self) -> None:
        """``handler(address, refusal)``: somebody was not let in, by this ``Reject``; None: by ``accept_from``.

        ``address`` is (host, port). To count and to tell: a plain function, called where connections are accepted, that
        does not block.
        """

    @_registers
    def on_close(self) -> None:
        """``handler(association)``, once for each accepted one; ``association.error`` is None after a release."""

    def _register(self, name: str, handler: Any, quick: bool) -> Any:
        if not callable(handler):
            raise TypeError(f"on_{name} takes a function, not {type(handler).__name__}")
        if name == "refusal" and inspect.iscoroutinefunction(handler):
            raise TypeError("on_refusal takes a plain function: nobody would await this one")
        registered = _with_identity(handler) if name == "identity" else _hashable(handler)
        self._handlers[name] = registered
        (self.quick.add if quick else self.quick.discard)(registered)
        return handler

    # --- association ------------------------------------------------------------------------------------------------

    def accepts_from(self, host: str) -> bool:
        """Whether a connection from this address is taken, by ``accept_from``."""
        return self.accept_from is None or _is_within(host, self.accept_from)

    def answer(self, request: pdu.AssociateRq, *, identity_response: bytes | None = None) -> pdu.AssociateAc:
        """The A-ASSOCIATE-AC for a request that was admitted; ``identity_response``: if one was asked for."""
        return negotiation.answer(request, self.policy, identity_response=identity_response)

    def admit(self, association: AssociationInfo) -> Reject | None:
        """Why this request is refused, if it is: application context, AE titles, no identity (PS3.8 Table 9-21)."""
        request = association.request
        if request.application_context != pdu.APPLICATION_CONTEXT:
            return _refusal(2)
        if not _is_ae_title(request.calling_ae):
            return _refusal(3)
        if self.accept_calling is not None and request.calling_ae not in self.accept_calling:
            return _refusal(3)
        if not _is_ae_title(request.called_ae) or (self.require_called and request.called_ae != self.title):
            return _refusal(7)
        if self.require_identity and (association.identity is None or not association.identity.is_known):
            return identity_refused()
        return None


def network(text: str) -> Network:
    """``192.0.2.0/24``, ``2001:db8::/32`` or a single address. Raises ValueError.

    IPv4 networks written as IPv6 (::ffff:192.0.2.0/120) are what they mean.
    """
    import ipaddress

    try:
        given = ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(f"{error}; a network is written 192.0.2.0/24 or 2001:db8::/32") from error
    mapped = getattr(given.network_address, "ipv4_mapped", None)
    return given if mapped is None or given.prefixlen < 96 else ipaddress.ip_network((mapped, given.prefixlen - 96))


def _is_within(host: str, networks: Iterable[Network]) -> bool:
    import ipaddress

    try:
        address = ipaddress.ip_address(host)
    except ValueError:  # no Internet address
        return False
    address = getattr(address, "ipv4_mapped", None) or address  # as a socket for both families has it
    return any(address in network for network in networks)


def _hashable(handler: Callable[..., Any]) -> Callable[..., Any]:
    """The handler itself, or, if it is an object that has no hash, its method."""
    try:
        hash(handler)
    except TypeError:
        return cast("Callable[..., Any]", handler.__call__)  # type: ignore[operator]
    return handler


def _with_identity(handler: Callable[..., Any]) -> Callable[[AssociationInfo], Any]:
    """An ``on_identity`` handler as one that takes an association, like all others."""
    if inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(type(handler).__call__):

        async def identify_async(association: AssociationInfo) -> Any:
            return await handler(association, association.identity)

        return identify_async

    def identify(association: AssociationInfo) -> Any:
        return handler(association, association.identity)

    return identify


def _refusal(reason: int) -> Reject:
    return Reject(RejectResult.PERMANENT, RejectSource.USER, reason)


def _is_ae_title(title: str) -> bool:
    try:
        check_ae_title(title)
    except ValueError:
        return False
    return True


@lru_cache(maxsize=1)
def known_transfer_syntaxes() -> frozenset[str]:
    """UIDs of the transfer syntaxes in the standard's dictionary (PS3.6 Table A-1) that encode whole data sets."""
    from pydicom._uid_dict import UID_dictionary

    return frozenset(
        uid
        for uid, (name, kind, *_rest) in UID_dictionary.items()
        if kind == "Transfer Syntax" and not name.startswith(_NOT_WHOLE)
    )


# A pointer to pixel data elsewhere, live video, an e-mail's parts, a text form, another file format: an acceptor has to
# name them if it wants them.
_NOT_WHOLE = ("JPIP", "SMPTE", "RFC 2557", "XML", "Papyrus")


@lru_cache(maxsize=1)
def storage_classes() -> tuple[str, ...]:
    """UIDs of every storage SOP class in the standard's dictionary, retired ones too (PS3.4 B.5, PS3.6 Table A-1)."""
    from pydicom._uid_dict import UID_dictionary

    return tuple(
        uid
        for uid, (name, kind, *_rest) in UID_dictionary.items()
        if kind == "SOP Class" and "Storage" in name and not name.startswith(_NOT_STORAGE)
    )


# Their names have the word, their service classes are others (storage commitment, media storage directory).
_NOT_STORAGE = ("Storage Commitment", "Media Storage Directory")
