"""The callback face: ``DicomNet``, ``DicomAssociate`` and their enumerations."""

from dicomnet.callbacks.associate import DicomAssociate
from dicomnet.callbacks.enums import IpType, NetError, PduType, Security
from dicomnet.callbacks.net import DicomNet, SocketOptions

__all__ = ["DicomAssociate", "DicomNet", "IpType", "NetError", "PduType", "Security", "SocketOptions"]
