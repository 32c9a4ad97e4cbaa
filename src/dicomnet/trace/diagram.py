"""One association as the steps of a picture: what passes, and at each end what a program calls and is told of it.

One idea: the names are those of ``DicomNet``, so that the picture of real traffic reads like a program that has it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from dicomnet.callbacks.services import call_name, callback_name
from dicomnet.dimse import messages
from dicomnet.plain import printable, seconds_text
from dicomnet.trace import wording
from dicomnet.trace.exchanges import Seen
from dicomnet.trace.folding import Fold, Folder
from dicomnet.trace.ladder import SILENCE
from dicomnet.trace.records import Address, Closed, Garbage, Message, Opened, Pdu
from dicomnet.trace.totals import Totals
from dicomnet.ul import pdu

MOST_STEPS: Final = 400  # of a picture; what comes then is counted


@dataclass(frozen=True, slots=True)
class Step:
    """An arrow, or what stands across both lifelines. All text is printable.

    ``to_right``: None if it is no arrow. ``left``, ``right``: what the program at that end calls, or is told. ``kind``:
    of ``wording.kind``, or "fold" or "silence". ``contexts``: of an A-ASSOCIATE-AC, each with whether it was accepted.
    """

    offset: float
    name: str
    remark: str
    kind: str
    to_right: bool | None = None
    left: str = ""
    right: str = ""
    details: tuple[str, ...] = ()
    contexts: tuple[tuple[bool, str], ...] = ()


@dataclass(frozen=True, slots=True)
class End:
    """An end of the association: its AE title, address, and what it says of its implementation."""

    title: str = ""
    address: str = ""
    product: str = ""


@dataclass(slots=True)
class Diagram:
    """One connection, as far as it has been seen. ``phi``: details show data sets."""

    connection: int
    phi: bool = False
    began: float | None = None
    requestor: End = End()
    acceptor: End = End()
    steps: list[Step] = field(default_factory=list)
    totals: Totals = field(default_factory=Totals)
    left_out: int = 0
    closed: bool = False
    _folder: Folder = field(default_factory=Folder)

    def add(self, seen: Seen) -> None:
        """The next record of the connection."""
        record = seen.record
        if self.began is None:
            self.began = record.time
        self.totals.add(seen)
        self._note_ends(seen)
        self.closed = isinstance(record, Closed)
        for item in self._folder.take(seen):
            self._show(item)

    def finish(self) -> None:
        """What is still folded is shown."""
        for item in self._folder.flush():
            self._show(item)

    @property
    def is_association(self) -> bool:
        """More than a connection: a PDU was seen, or what should have been one."""
        return any(step.name not in ("TCP", "closed", "reset", "fault") for step in self.steps)

    def _note_ends(self, seen: Seen) -> None:
        match seen.record:
            case Opened(requestor=requestor, acceptor=acceptor):
                self.requestor, self.acceptor = End("", _address(requestor)), End("", _address(acceptor))
            case Pdu(value=pdu.AssociateRq() as asked):
                self.requestor = End(printable(asked.calling_ae), self.requestor.address, _product(asked.user))
                self.acceptor = End(printable(asked.called_ae), self.acceptor.address)
            case Pdu(value=pdu.AssociateAc() as answer):
                self.acceptor = End(self.acceptor.title, self.acceptor.address, _product(answer.user))

    def _show(self, item: Seen | Fold) -> None:
        assert self.began is not None
        if len(self.steps) >= MOST_STEPS and not isinstance(getattr(item, "record", None), Closed):
            self.left_out += 1
        elif isinstance(item, Fold):
            self.steps.append(Step(item.ended - self.began, "", item.text(), "fold"))
        else:
            if item.gap is not None and item.gap >= SILENCE:
                self.steps.append(Step(item.record.time - self.began, "", seconds_text(item.gap), "silence"))
            self.steps.append(step_of(item, item.record.time - self.began, phi=self.phi))


def step_of(seen: Seen, offset: float, *, phi: bool) -> Step:
    """What is drawn of a record."""
    record = seen.record
    to_right = record.from_requestor if isinstance(record, Pdu | Message | Garbage) else None
    call, told = _call_and_told(seen)
    if isinstance(record, Opened):
        to_right = True
    elif isinstance(record, Closed) and record.how == "closed" and record.from_requestor is not None:
        to_right = record.from_requestor
    left, right = (call, told) if to_right or to_right is None else (told, call)
    return Step(
        offset,
        printable(wording.name(seen)),
        wording.remark(seen),
        wording.kind(seen),
        to_right,
        left,
        right,
        tuple(wording.details(seen, phi=phi)),
        tuple(wording.contexts(seen)),
    )


def _call_and_told(seen: Seen) -> tuple[str, str]:
    """What the sender calls, and what the receiver is told."""
    match seen.record:
        case Opened():
            return "connect(…)", "on_accept(SUCCESS)"
        case Message(command=command):
            message = messages.from_command_set(command)
            if isinstance(message, messages.Unusable):
                return "send_data(…)", "on_receive_unknown(…)"
            return _with_status(call_name(message), message), _with_status(callback_name(message), message)
        case Pdu(value=pdu.AssociateRq()):
            return "send_associate_request(…)", "on_receive_associate_request(…)"
        case Pdu(value=pdu.AssociateAc()):
            return "send_associate_accept(…)", "on_receive_associate_accept(…)"
        case Pdu(value=pdu.AssociateRj(result, source, reason)):
            numbers = f"{result}, {source}, {reason}"
            return f"send_associate_reject({numbers})", f"on_receive_associate_reject({numbers})"
        case Pdu(value=pdu.ReleaseRq()):
            return "send_release_request()", "on_receive_release_request()"
        case Pdu(value=pdu.ReleaseRp()):
            return "send_release_response()", "on_receive_release_response()"
        case Pdu(value=pdu.Abort(source, reason)):
            return f"send_abort({source}, {reason})", f"on_receive_abort({source}, {reason})"
        case Pdu(problem=problem) if problem:
            return "", "on_close(PDU_CONTENT_INVALID)"
        case Garbage():
            return "", "on_close(PDU_TYPE_INVALID)"
        case Closed(how="closed", from_requestor=True | False):
            return "close()", "on_close(…)"
        case Closed(how="reset", from_requestor=who):
            return "" if who else "on_close(RESET)", "" if who is False else "on_close(RESET)"
        case Closed(how="unreachable"):
            return "on_connect(…)", ""
    return "", ""


def _with_status(name: str, message: messages.Request | messages.Response) -> str:
    if isinstance(message, messages.Request):
        return f"{name}({message.message_id}, …)"
    return f"{name}({message.message_id}, 0x{message.status:04X}, …)"


def _address(address: Address) -> str:
    return printable(wording.address_text(address))


def _product(user: pdu.UserInformation) -> str:
    return printable(user.implementation_version_name or user.implementation_class_uid or "")
