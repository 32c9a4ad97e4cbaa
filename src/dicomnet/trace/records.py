"""What was seen on connections, as values. Times are seconds since the epoch; ``connection`` counts from 1.

The requestor is who opened the connection (PS3.8 7.1.1). A PDU is recorded when its last byte has passed, a message
after the PDU that ends it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from dicomnet.dimse.command import CommandSet
from dicomnet.ul import pdu


class Address(NamedTuple):
    """Where an end of a connection is."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Opened:
    """A TCP connection."""

    connection: int
    time: float
    requestor: Address
    acceptor: Address


@dataclass(frozen=True, slots=True)
class Pdu:
    """A PDU (PS3.8 9.3). ``type``: its number; ``length``: all of its bytes, the header's 6 included.

    ``value``: what it says; None for P-DATA-TF, and if it could not be read: then ``problem`` says why.
    """

    connection: int
    time: float
    from_requestor: bool
    type: int
    length: int
    value: pdu.AssociateRq | pdu.AssociateAc | pdu.AssociateRj | pdu.ReleaseRq | pdu.ReleaseRp | pdu.Abort | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """A DIMSE message (PS3.7 6.3). ``began``: when its first byte passed; ``time``: when its last one did.

    ``abstract_syntax``, ``transfer_syntax``: of its presentation context, empty if that is not known. ``pdus``: how
    many PDUs carried it. ``dataset_size``: bytes of its data set, None if there is none. ``dataset``: the data set,
    kept only if that was asked for and it is no longer than wanted.
    """

    connection: int
    time: float
    began: float
    from_requestor: bool
    context_id: int
    command: CommandSet
    abstract_syntax: str
    transfer_syntax: str
    pdus: int
    dataset_size: int | None = None
    dataset: bytes | None = None


@dataclass(frozen=True, slots=True)
class Garbage:
    """Bytes that are no PDU, or a message that breaks PS3.7; ``data``: how they begin."""

    connection: int
    time: float
    from_requestor: bool
    reason: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Fault:
    """What the proxy did by a rule of its user."""

    connection: int
    time: float
    rule: str
    what: str


@dataclass(frozen=True, slots=True)
class Closed:
    """The end of a connection; ``from_requestor``: whose end closed, None if it was the proxy."""

    connection: int
    time: float
    from_requestor: bool | None
    how: Literal["closed", "reset", "unreachable", "incomplete"]


Record: TypeAlias = Opened | Pdu | Message | Garbage | Fault | Closed
