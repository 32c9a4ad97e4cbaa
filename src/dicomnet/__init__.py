"""DICOM networking: associations, DIMSE services, storage; fast, exact, in pure Python.

This module is the blocking face; ``DicomNet`` is the callback face. The names in ``__all__`` are the public ones. Each is
imported when it is first used, so that a program (the command line's ``--help``, say) pays for what it needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dicomnet.ae import AE
    from dicomnet.blocking import Association, Server, associate, serve
    from dicomnet.callbacks.associate import DicomAssociate
    from dicomnet.callbacks.enums import IpType, NetError, PduType, Security
    from dicomnet.callbacks.net import DicomNet
    from dicomnet.config import Identity, Limits, Peer, Timeouts
    from dicomnet.dataset import EncodedDataset
    from dicomnet.dimse.messages import Priority, Response
    from dicomnet.dimse.status import Status
    from dicomnet.errors import (
        AbortReason,
        AbortSource,
        AssociationAborted,
        AssociationRejected,
        DeadlineExceeded,
        DicomNetworkError,
        InvalidDataset,
        LocalProtocolError,
        NoAcceptedContext,
        QueueFull,
        Reject,
        RejectResult,
        RejectSource,
        RemoteProtocolError,
        StatusError,
        TransportError,
    )
    from dicomnet.sender import send
    from dicomnet.ul.negotiation import AcceptedContext, PresentationContext
    from dicomnet.ul.pdu import ContextResult

    StorageClasses: tuple[str, ...]

Verification = "1.2.840.10008.1.1"  # SOP class UID (PS3.4 A.4)

_MODULES = {
    "ae": ("AE",),
    "blocking": ("Association", "Server", "associate", "serve"),
    "callbacks.associate": ("DicomAssociate",),
    "callbacks.enums": ("IpType", "NetError", "PduType", "Security"),
    "callbacks.net": ("DicomNet",),
    "config": ("Identity", "Limits", "Peer", "Timeouts"),
    "dataset": ("EncodedDataset",),
    "dimse.messages": ("Priority", "Response"),
    "dimse.status": ("Status",),
    "errors": (
        "AbortReason",
        "AbortSource",
        "AssociationAborted",
        "AssociationRejected",
        "DeadlineExceeded",
        "DicomNetworkError",
        "InvalidDataset",
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
    "sender": ("send",),
    "ul.negotiation": ("AcceptedContext", "PresentationContext"),
    "ul.pdu": ("ContextResult",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [*sorted(_MODULE_OF), "StorageClasses", "Verification"]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name == "StorageClasses":  # from pydicom's dictionary
        value: Any = import_module("dicomnet.ae").storage_classes()
    elif name in _MODULE_OF:
        value = getattr(import_module(f"dicomnet.{_MODULE_OF[name]}"), name)
    else:
        raise AttributeError(f"module 'dicomnet' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
