"""DICOM networking: associations, DIMSE services, storage; fast, exact, in pure Python.

This module is the blocking face; ``DicomNet`` is the callback face. The names below are the public ones.
"""

from __future__ import annotations

from typing import Any

from dicomnet.ae import AE
from dicomnet.blocking import Association, Server, associate, serve
from dicomnet.config import Identity, Limits, Peer, Timeouts
from dicomnet.dataset import EncodedDataset
from dicomnet.dimse.messages import Priority, Response
from dicomnet.dimse.operations import VERIFICATION
from dicomnet.dimse.status import Status
from dicomnet.errors import (
    AssociationAborted,
    AssociationRejected,
    DeadlineExceeded,
    DicomNetworkError,
    InvalidDataset,
    LocalProtocolError,
    NoAcceptedContext,
    QueueFull,
    Reject,
    RemoteProtocolError,
    StatusError,
    TransportError,
)
from dicomnet.ul.negotiation import AcceptedContext, PresentationContext

Verification = VERIFICATION

__all__ = [
    "AE",
    "AcceptedContext",
    "Association",
    "AssociationAborted",
    "AssociationRejected",
    "DeadlineExceeded",
    "DicomNetworkError",
    "EncodedDataset",
    "Identity",
    "InvalidDataset",
    "Limits",
    "LocalProtocolError",
    "NoAcceptedContext",
    "Peer",
    "PresentationContext",
    "Priority",
    "QueueFull",
    "Reject",
    "RemoteProtocolError",
    "Response",
    "Server",
    "Status",
    "StatusError",
    "StorageClasses",
    "Timeouts",
    "TransportError",
    "Verification",
    "associate",
    "serve",
]


def __getattr__(name: str) -> Any:
    """``StorageClasses`` comes from pydicom's dictionary, which is imported when it is first asked for."""
    if name == "StorageClasses":
        from dicomnet.ae import storage_classes

        return storage_classes()
    raise AttributeError(f"module 'dicomnet' has no attribute {name!r}")
