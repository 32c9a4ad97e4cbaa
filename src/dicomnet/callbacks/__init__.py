"""The callback face: ``DicomNet``, ``DicomAssociate`` and their enumerations."""

from dicomnet.callbacks.associate import DicomAssociate
from dicomnet.callbacks.enums import (
    IpType,
    NetError,
    PduType,
    RejectReasonAcse,
    RejectReasonPresentation,
    RejectReasonUser,
    Security,
)
from dicomnet.callbacks.net import DicomNet, SocketOptions
from dicomnet.dimse.messages import CommandField, Priority
from dicomnet.dimse.status import Status
from dicomnet.errors import AbortReason, AbortSource, RejectResult, RejectSource
from dicomnet.ul.pdu import ContextResult

__all__ = [
    "AbortReason",
    "AbortSource",
    "CommandField",
    "ContextResult",
    "DicomAssociate",
    "DicomNet",
    "IpType",
    "NetError",
    "PduType",
    "Priority",
    "RejectReasonAcse",
    "RejectReasonPresentation",
    "RejectReasonUser",
    "RejectResult",
    "RejectSource",
    "Security",
    "SocketOptions",
    "Status",
]
