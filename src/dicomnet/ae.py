"""The application entity: its title, what it supports, its handlers, and whom it admits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, TypeVar, overload

from dicomnet.config import MAX_PDU_LENGTH, Limits, Timeouts, check_ae_title
from dicomnet.dataset import Path
from dicomnet.dimse.operations import VERIFICATION
from dicomnet.dimse.provider import AssociationInfo
from dicomnet.errors import Reject, RejectResult, RejectSource
from dicomnet.ul import negotiation, pdu
from dicomnet.ul.negotiation import ContextLike, Policy

Handler = TypeVar("Handler", bound=Callable[..., Any])


class AE:
    """An application entity that serves associations.

    ``title``: 1–16 characters. ``contexts``: SOP class UIDs, (UID, [transfer syntaxes]) pairs or PresentationContexts;
    a UID alone supports every transfer syntax that encodes whole data sets, in the requestor's order of preference; a
    list of transfer syntaxes states the AE's own. ``accept_calling``: AE titles that may call (None: all).
    ``require_called``: the called AE title must be ours. ``max_associations``, ``max_associations_per_peer`` (of one AE
    title): past them a request gets A-ASSOCIATE-RJ 2/3/2; None takes the numbers of ``limits``. ``max_pdu_length``:
    bytes, 0 is unlimited. ``async_ops``: (invoked, performed) as a requestor may ask for, 0 is unlimited. ``roles``:
    SOP class → (SCU, SCP) that a requestor may take. ``spool_folder``: where received data sets above
    ``limits.spool_size`` wait (None: a private temporary folder).

    Raises ValueError for a title or a context that the standard does not allow.
    """

    def __init__(
        self,
        title: str,
        *,
        contexts: Iterable[ContextLike] = (VERIFICATION,),
        accept_calling: Iterable[str] | None = None,
        require_called: bool = False,
        max_associations: int | None = None,
        max_associations_per_peer: int | None = None,
        max_pdu_length: int = MAX_PDU_LENGTH,
        async_ops: tuple[int, int] = (1, 1),
        roles: Mapping[str, tuple[bool, bool]] | None = None,
        spool_folder: Path | None = None,
        timeouts: Timeouts | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.title = check_ae_title(title)
        self.accept_calling = None if accept_calling is None else frozenset(map(check_ae_title, accept_calling))
        self.require_called = require_called
        self.timeouts = timeouts or Timeouts()
        limits = limits or Limits()
        self.limits = replace(
            limits,
            associations=max_associations or limits.associations,
            associations_per_ae_title=max_associations_per_peer or limits.associations_per_ae_title,
        )
        self.max_pdu_length = max_pdu_length
        self.spool_folder = spool_folder
        # Built once, read by every association.
        self.policy = Policy(
            supported=negotiation.support(contexts),
            known=known_transfer_syntaxes(),
            max_length=max_pdu_length,
            roles=dict(roles or {}),
            async_ops=async_ops,
        )
        self._handlers: dict[str, Callable[..., Any]] = {}

    # --- handlers ---------------------------------------------------------------------------------------------------

    def handler(self, name: str) -> Callable[..., Any] | None:
        """The handler registered as ``on_<name>``, or None."""
        return self._handlers.get(name)

    @overload
    def on_association(self, handler: Handler) -> Handler: ...
    @overload
    def on_association(self, *, quick: bool = False) -> Callable[[Handler], Handler]: ...
    def on_association(self, handler: Any = None, *, quick: bool = False) -> Any:
        """``handler(association)``: accept by returning None, or raise ``Reject(result, source, reason)``."""
        return self._register("association", handler, quick)

    @overload
    def on_c_echo(self, handler: Handler) -> Handler: ...
    @overload
    def on_c_echo(self, *, quick: bool = False) -> Callable[[Handler], Handler]: ...
    def on_c_echo(self, handler: Any = None, *, quick: bool = False) -> Any:
        """``handler(request)`` → Status, int or Response. Without one a C-ECHO succeeds (PS3.4 A.4)."""
        return self._register("c_echo", handler, quick)

    @overload
    def on_c_store(self, handler: Handler) -> Handler: ...
    @overload
    def on_c_store(self, *, quick: bool = False) -> Callable[[Handler], Handler]: ...
    def on_c_store(self, handler: Any = None, *, quick: bool = False) -> Any:
        """``handler(request)`` → Status, int or Response; ``request.dataset`` is an EncodedDataset.

        Success means stored (PS3.4 B.2): return it when the data set is where it belongs.
        """
        return self._register("c_store", handler, quick)

    @overload
    def on_close(self, handler: Handler) -> Handler: ...
    @overload
    def on_close(self, *, quick: bool = False) -> Callable[[Handler], Handler]: ...
    def on_close(self, handler: Any = None, *, quick: bool = False) -> Any:
        """``handler(association)``, once for each accepted one; ``association.error`` is None after a release."""
        return self._register("close", handler, quick)

    def _register(self, name: str, handler: Any, quick: bool) -> Any:
        """``quick`` promises that a plain function does not block; it matters on the asyncio face alone."""
        if handler is None:
            return lambda decorated: self._register(name, decorated, quick)
        if not callable(handler):
            raise TypeError(f"on_{name} takes a function, not {type(handler).__name__}")
        self._handlers[name] = handler
        return handler

    # --- association ------------------------------------------------------------------------------------------------

    def answer(self, request: pdu.AssociateRq) -> pdu.AssociateAc:
        """The A-ASSOCIATE-AC for a request that was admitted."""
        return negotiation.answer(request, self.policy)

    def admit(self, association: AssociationInfo) -> Reject | None:
        """Why this request is refused, if it is: application context and AE titles (PS3.8 Table 9-21)."""
        request = association.request
        if request.application_context != pdu.APPLICATION_CONTEXT:
            return _refusal(2)
        if not _is_ae_title(request.calling_ae):
            return _refusal(3)
        if self.accept_calling is not None and request.calling_ae not in self.accept_calling:
            return _refusal(3)
        if not _is_ae_title(request.called_ae) or (self.require_called and request.called_ae != self.title):
            return _refusal(7)
        return None


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
