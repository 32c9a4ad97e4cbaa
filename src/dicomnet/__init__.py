"""DICOM networking: associations, DIMSE services, storage; fast, exact, in pure Python.

This module is the blocking face; ``DicomNet`` is the callback face. The names in ``__all__`` are the public ones. Each
is imported when it is first used, so that a program (the command line's ``--help``, say) pays for what it needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dicomnet.ae import AE as AE
    from dicomnet.blocking import Association as Association
    from dicomnet.blocking import Server as Server
    from dicomnet.blocking import associate as associate
    from dicomnet.blocking import serve as serve
    from dicomnet.callbacks.associate import DicomAssociate as DicomAssociate
    from dicomnet.callbacks.enums import (
        IpType as IpType,
    )
    from dicomnet.callbacks.enums import (
        NetError as NetError,
    )
    from dicomnet.callbacks.enums import (
        PduType as PduType,
    )
    from dicomnet.callbacks.enums import (
        Security as Security,
    )
    from dicomnet.callbacks.net import DicomNet as DicomNet
    from dicomnet.config import Identity as Identity
    from dicomnet.config import Limits as Limits
    from dicomnet.config import Peer as Peer
    from dicomnet.config import Timeouts as Timeouts
    from dicomnet.dataset import EncodedDataset as EncodedDataset
    from dicomnet.dimse.messages import Priority as Priority
    from dicomnet.dimse.messages import Response as Response
    from dicomnet.dimse.status import Status as Status
    from dicomnet.errors import (
        AbortReason as AbortReason,
    )
    from dicomnet.errors import (
        AbortSource as AbortSource,
    )
    from dicomnet.errors import (
        AssociationAborted as AssociationAborted,
    )
    from dicomnet.errors import (
        AssociationRejected as AssociationRejected,
    )
    from dicomnet.errors import (
        DeadlineExceeded as DeadlineExceeded,
    )
    from dicomnet.errors import (
        DicomNetworkError as DicomNetworkError,
    )
    from dicomnet.errors import (
        InvalidDataset as InvalidDataset,
    )
    from dicomnet.errors import (
        LocalProtocolError as LocalProtocolError,
    )
    from dicomnet.errors import (
        NoAcceptedContext as NoAcceptedContext,
    )
    from dicomnet.errors import (
        QueueFull as QueueFull,
    )
    from dicomnet.errors import (
        Reject as Reject,
    )
    from dicomnet.errors import (
        RejectResult as RejectResult,
    )
    from dicomnet.errors import (
        RejectSource as RejectSource,
    )
    from dicomnet.errors import (
        RemoteProtocolError as RemoteProtocolError,
    )
    from dicomnet.errors import (
        StatusError as StatusError,
    )
    from dicomnet.errors import (
        TransportError as TransportError,
    )
    from dicomnet.sender import Outcome as Outcome
    from dicomnet.sender import send as send
    from dicomnet.ul.negotiation import AcceptedContext as AcceptedContext
    from dicomnet.ul.negotiation import PresentationContext as PresentationContext
    from dicomnet.ul.pdu import ContextResult as ContextResult

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
    "sender": ("Outcome", "send"),
    "ul.negotiation": ("AcceptedContext", "PresentationContext"),
    "ul.pdu": ("ContextResult",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [*sorted(_MODULE_OF), "StorageClasses", "Verification"]


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
