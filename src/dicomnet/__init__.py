"""DICOM networking: associations, DIMSE services, storage; fast, exact, in pure Python.

This module is the blocking face, ``dicomnet.aio`` the asyncio face, ``DicomNet`` the callback face. The names in
``__all__`` are the public ones. Each is imported when it is first used, so that a program (the command line's
``--help``, say) pays for what it needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dicomnet import aio as aio, identity as identity, models as models, tls as tls
    from dicomnet.ae import AE as AE
    from dicomnet.blocking import (
        Association as Association,
        Results as Results,
        Server as Server,
        associate as associate,
        serve as serve,
    )
    from dicomnet.callbacks.associate import DicomAssociate as DicomAssociate
    from dicomnet.callbacks.enums import (
        IpType as IpType,
        NetError as NetError,
        PduType as PduType,
        RejectReasonAcse as RejectReasonAcse,
        RejectReasonPresentation as RejectReasonPresentation,
        RejectReasonUser as RejectReasonUser,
        Security as Security,
    )
    from dicomnet.callbacks.net import DicomNet as DicomNet, SocketOptions as SocketOptions
    from dicomnet.config import Identity as Identity, Limits as Limits, Peer as Peer, Timeouts as Timeouts
    from dicomnet.dataset import EncodedDataset as EncodedDataset
    from dicomnet.dimse.messages import Priority as Priority, Response as Response, SubOperations as SubOperations
    from dicomnet.dimse.provider import AssociationInfo as AssociationInfo, Indication as Indication
    from dicomnet.dimse.status import Status as Status
    from dicomnet.errors import (
        AbortReason as AbortReason,
        AbortSource as AbortSource,
        AssociationAborted as AssociationAborted,
        AssociationRejected as AssociationRejected,
        DeadlineExceeded as DeadlineExceeded,
        DicomNetworkError as DicomNetworkError,
        InvalidDataset as InvalidDataset,
        LedgerError as LedgerError,
        LocalProtocolError as LocalProtocolError,
        NoAcceptedContext as NoAcceptedContext,
        QueueFull as QueueFull,
        Reject as Reject,
        RejectResult as RejectResult,
        RejectSource as RejectSource,
        RemoteProtocolError as RemoteProtocolError,
        StatusError as StatusError,
        TransportError as TransportError,
    )
    from dicomnet.sender import Outcome as Outcome, Sending as Sending, send as send
    from dicomnet.transcoding import transcode as transcode
    from dicomnet.ul.extended import (
        CommonExtended as CommonExtended,
        ExtendedQuery as ExtendedQuery,
        ExtendedRetrieve as ExtendedRetrieve,
        ExtendedStorage as ExtendedStorage,
    )
    from dicomnet.ul.negotiation import AcceptedContext as AcceptedContext, PresentationContext as PresentationContext
    from dicomnet.ul.pdu import ContextResult as ContextResult

    StorageClasses: tuple[str, ...]

Verification = "1.2.840.10008.1.1"  # SOP class UID (PS3.4 A.4)

_MODULES = {
    "ae": ("AE",),
    "blocking": ("Association", "Results", "Server", "associate", "serve"),
    "callbacks.associate": ("DicomAssociate",),
    "callbacks.enums": (
        "IpType",
        "NetError",
        "PduType",
        "RejectReasonAcse",
        "RejectReasonPresentation",
        "RejectReasonUser",
        "Security",
    ),
    "callbacks.net": ("DicomNet", "SocketOptions"),
    "config": ("Identity", "Limits", "Peer", "Timeouts"),
    "dataset": ("EncodedDataset",),
    "dimse.messages": ("Priority", "Response", "SubOperations"),
    "dimse.provider": ("AssociationInfo", "Indication"),
    "dimse.status": ("Status",),
    "errors": (
        "AbortReason",
        "AbortSource",
        "AssociationAborted",
        "AssociationRejected",
        "DeadlineExceeded",
        "DicomNetworkError",
        "InvalidDataset",
        "LedgerError",
        "LocalProtocolError",
        "NoAcceptedContext",
        "QueueFull",
        "Reject",
        "RejectResult",
        "RejectSource",
        "RemoteProtocolError",
        "StatusError",
        "TransportError",
    ),
    "sender": ("Outcome", "Sending", "send"),
    "transcoding": ("transcode",),
    "ul.extended": ("CommonExtended", "ExtendedQuery", "ExtendedRetrieve", "ExtendedStorage"),
    "ul.negotiation": ("AcceptedContext", "PresentationContext"),
    "ul.pdu": ("ContextResult",),
}
_SUBMODULES = ("aio", "identity", "models", "tls")  # which are there without an import of their own
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [*sorted(_MODULE_OF), "StorageClasses", "Verification"]


def __getattr__(name: str) -> Any:
    if name == "StorageClasses":  # from pydicom's dictionary
        value: Any = import_module("dicomnet.ae").storage_classes()
    elif name in _MODULE_OF:
        value = getattr(import_module(f"dicomnet.{_MODULE_OF[name]}"), name)
    elif name in _SUBMODULES:
        value = import_module(f"dicomnet.{name}")
    else:
        raise AttributeError(f"module 'dicomnet' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_SUBMODULES})
