"""Records in words: names, what is asked and answered, and the parts of a PDU or a command set line by line.

One idea: nothing of a patient is said unless ``phi`` asks for it: data sets, and that is the keys of queries, too,
stay a size. All text is one line that cannot command a terminal.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, Literal, assert_never

from dicomnet.callbacks import associate
from dicomnet.callbacks.associate import DicomAssociate
from dicomnet.dataset import EncodedDataset
from dicomnet.dimse import command as c
from dicomnet.dimse.command import CommandSet
from dicomnet.errors import AssociationAborted, AssociationRejected
from dicomnet.plain import printable, seconds_text, size_text
from dicomnet.trace.decoding import message_name
from dicomnet.trace.exchanges import Seen, service_of, status_of
from dicomnet.trace.pdus import TLS
from dicomnet.trace.records import Address, Closed, Fault, Garbage, Message, Opened, Pdu
from dicomnet.ul import pdu

if TYPE_CHECKING:
    from pydicom import Dataset

Kind = Literal["connection", "association", "data", "request", "response", "pending", "warning", "failure", "fault"]

SLOW: Final = 1.0  # seconds; a response that takes longer is told even where like ones are only counted
WIDEST: Final = 200  # characters of a line that shows an element
MOST_LINES: Final = 200  # of a data set
_PDUS: Final[dict[int, str]] = {
    pdu.PduType.ASSOCIATE_RQ: "A-ASSOCIATE-RQ",
    pdu.PduType.ASSOCIATE_AC: "A-ASSOCIATE-AC",
    pdu.PduType.ASSOCIATE_RJ: "A-ASSOCIATE-RJ",
    pdu.PduType.P_DATA_TF: "P-DATA-TF",
    pdu.PduType.RELEASE_RQ: "A-RELEASE-RQ",
    pdu.PduType.RELEASE_RP: "A-RELEASE-RP",
    pdu.PduType.ABORT: "A-ABORT",
}
_PRIORITIES: Final = {0: "medium", 1: "high", 2: "low"}


def pdu_name(number: int) -> str:
    """The standard's name of a PDU."""
    return _PDUS.get(number, f"PDU {number:02X}H")


def uid_name(uid: str) -> str:
    """The name of a UID, or else the UID, printable."""
    return printable(associate.uid_name(uid))


def address_text(address: Address) -> str:
    """``host:port``, with IPv6 addresses in brackets."""
    return f"[{address.host}]:{address.port}" if ":" in address.host else f"{address.host}:{address.port}"


def name(seen: Seen) -> str:
    """What stands on the arrow."""
    match seen.record:
        case Opened():
            return "TCP"
        case Pdu(type=number):
            return pdu_name(number)
        case Message(command=command):
            return message_name(command)
        case Garbage(reason=reason):
            return "TLS" if reason == TLS else "no DICOM"
        case Fault():
            return "fault"
        case Closed(how=how):
            return how
    assert_never(seen.record)


def kind(seen: Seen) -> Kind:
    """For who paints it."""
    match seen.record:
        case Message() as message:
            return _message_kind(message)
        case Garbage(reason=reason) if reason == TLS:
            return "connection"
        case Pdu(value=pdu.AssociateRj() | pdu.Abort()) | Garbage():
            return "failure"
        case Pdu(problem=problem) if problem:
            return "failure"
        case Pdu(value=pdu.AssociateAc(contexts=contexts)):
            refused = sum(context.result != 0 for context in contexts)
            return "association" if not refused else "failure" if refused == len(contexts) else "warning"
        case Pdu(type=pdu.PduType.P_DATA_TF):
            return "data"
        case Pdu():
            return "association"
        case Fault():
            return "fault"
        case Closed(how="unreachable" | "reset"):
            return "failure"
        case Closed() if seen.unanswered:
            return "failure"
    return "connection"


def _message_kind(message: Message) -> Kind:
    status = status_of(message)
    if status is None:
        return "request"
    if status.is_failure:
        return "failure"
    if status.is_warning:
        return "warning"
    return "pending" if status.is_pending else "response"


# --- what a record says, in one line --------------------------------------------------------------------------------


def remark(seen: Seen) -> str:
    """What there is to say beside the name."""
    match seen.record:
        case Opened(requestor=requestor, acceptor=acceptor):
            return f"{address_text(requestor)} to {address_text(acceptor)}"
        case Pdu() as record:
            return printable(record.problem or _pdu_remark(record, seen.proposal))
        case Message() as message:
            return printable(", ".join(_message_parts(message, seen)))
        case Garbage(reason=reason, data=data):
            if reason == TLS:
                return "what passes cannot be read"
            words = data.rstrip().decode("latin-1")
            return printable(reason + (f"; it begins {words!r}" if words.isascii() and words.strip() else ""))
        case Fault(what=what, rule=rule):
            return printable(f"{what} (by {rule!r})")
        case Closed():
            return _closed(seen.record, seen.unanswered)
    assert_never(seen.record)


def _pdu_remark(record: Pdu, proposal: pdu.AssociateRq | None) -> str:
    match record.value:
        case pdu.AssociateRq() as asked:
            count = _count(len(asked.contexts), "context")
            who = f"{asked.calling_ae} calls {asked.called_ae}, {count}"
            return f"{who}, {_limits(asked.user)}"
        case pdu.AssociateAc() as answer:
            taken = sum(context.result == 0 for context in answer.contexts)
            total = len(answer.contexts if proposal is None else proposal.contexts)
            how = f"accepts {taken} of {_count(total, 'context')}" if taken else f"accepts NONE of {total} contexts"
            return f"{how}, {_limits(answer.user)}"
        case pdu.AssociateRj(result, source, reason):
            return str(AssociationRejected(result, source, reason)).removeprefix("association ")
        case pdu.Abort(source, reason):
            return str(AssociationAborted(source, reason)).removeprefix("association ")
    return size_text(record.length) if record.type == pdu.PduType.P_DATA_TF else ""


def _limits(user: pdu.UserInformation) -> str:
    longest = {None: "no maximum length", 0: "PDUs of any length"}.get(user.max_length, f"PDUs to {user.max_length}")
    window = "" if user.async_ops is None else ", window {}/{}".format(*user.async_ops)
    product = f", {user.implementation_version_name}" if user.implementation_version_name else ""
    return longest + window + product


def _message_parts(message: Message, seen: Seen) -> Iterator[str]:
    number = message.command.get(c.MESSAGE_ID, message.command.get(c.MESSAGE_ID_BEING_RESPONDED_TO))
    yield f"#{number}" if isinstance(number, int) else "without a Message ID"
    if status_of(message) is not None:
        yield status_text(message)
        if (instance := sop_instance(message, seen)) and kind(seen) in ("failure", "warning"):
            yield f"of {instance}"
        if counts := counts_text(message.command):
            yield counts
    else:
        yield uid_name(message.abstract_syntax or sop_class(message.command)) or f"context {message.context_id}"
    if destination := text_of(message, c.MOVE_DESTINATION):
        yield f"to {destination}"
    if originator := text_of(message, c.MOVE_ORIGINATOR_AE):
        yield f"for a C-MOVE of {originator}"
    if message.dataset_size is not None:
        yield _dataset_text(message)
    if seen.waited is not None:
        yield f"after {seconds_text(seen.waited)}"


def _dataset_text(message: Message) -> str:
    assert message.dataset_size is not None
    seconds = message.time - message.began
    rate = f" at {size_text(message.dataset_size / seconds)}/s" if seconds > 0.001 and message.pdus > 2 else ""
    syntax = f" {uid_name(message.transfer_syntax)}" if message.transfer_syntax else ""
    return f"{size_text(message.dataset_size)}{syntax}{rate}"


def status_text(message: Message) -> str:
    """A status with its meaning, and what the peer says of it; success and pending without their number."""
    status = status_of(message)
    if status is None:
        return ""
    meaning = status.meaning(service_of(message))
    if status.is_success or status.is_pending:
        return meaning
    offending = message.command.get(c.OFFENDING_ELEMENT)
    parts = [f"0x{status:04X} {meaning}"]
    if isinstance(offending, tuple) and offending:
        parts.append("elements " + " ".join(map(tag_text, offending[:8])))
    if comment := text_of(message, c.ERROR_COMMENT):
        parts.append(repr(comment))
    return printable("; ".join(parts))


def counts_text(command: CommandSet) -> str:
    """Of sub-operations (PS3.7 9.1.3.1.6 …)."""
    names = {c.REMAINING: "remaining", c.COMPLETED: "completed", c.FAILED: "failed", c.WARNING: "warning"}
    counts = ((command.get(element), text) for element, text in names.items())
    return ", ".join(f"{count} {text}" for count, text in counts if isinstance(count, int))


def result_text(result: int) -> str:
    """Of a presentation context (PS3.8 Table 9-18)."""
    try:
        return pdu.ContextResult(result).name.replace("_", " ").lower()
    except ValueError:
        return f"result {result}"


def sop_class(command: CommandSet) -> str:
    """The affected or requested SOP class UID; empty if there is none."""
    uid = command.get(c.AFFECTED_SOP_CLASS_UID, command.get(c.REQUESTED_SOP_CLASS_UID))
    return uid if isinstance(uid, str) else ""


def text_of(message: Message, element: int) -> str:
    """An element of the command set that is text; empty if it is not there, or is none."""
    value = message.command.get(element)
    return value if isinstance(value, str) else ""


def sop_instance(message: Message, seen: Seen) -> str:
    """The SOP instance UID of a message, or of the request that it answers; empty if there is none."""
    elements = c.AFFECTED_SOP_INSTANCE_UID, c.REQUESTED_SOP_INSTANCE_UID
    messages = [message] if seen.request is None else [message, seen.request]
    return next((uid for one in messages for element in elements if (uid := text_of(one, element))), "")


def contexts(seen: Seen) -> list[tuple[bool, str]]:
    """Of an A-ASSOCIATE-AC: whether each presentation context was accepted, and what it is."""
    record = seen.record
    if not (isinstance(record, Pdu) and isinstance(record.value, pdu.AssociateAc)):
        return []
    proposed = {one.id: one.abstract_syntax for one in seen.proposal.contexts} if seen.proposal else {}
    rows = []
    for context in record.value.contexts:
        accepted = context.result == pdu.ContextResult.ACCEPTANCE
        how = uid_name(context.transfer_syntax) if accepted else result_text(context.result)
        rows.append((accepted, f"{uid_name(proposed.get(context.id, '')) or f'context {context.id}'}: {how}"))
    return rows


def _closed(record: Closed, unanswered: tuple[Message, ...]) -> str:
    who = {True: "by the requestor", False: "by the acceptor", None: "by the proxy"}[record.from_requestor]
    text = {
        "closed": f"connection closed {who}",
        "reset": f"connection reset {who}",
        "unreachable": "the acceptor cannot be reached",
        "incomplete": "the capture ends before the connection does",
    }[record.how]
    if unanswered:
        names = ", ".join(f"{message_name(one.command)} #{one.command[c.MESSAGE_ID]!r}" for one in unanswered[:3])
        more = f" and {len(unanswered) - 3} more" if len(unanswered) > 3 else ""
        text += f"; no answer to {names}{more}"
    return text


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


# --- and line by line -----------------------------------------------------------------------------------------------


def details(seen: Seen, *, phi: bool) -> list[str]:
    """What a PDU or a message holds."""
    match seen.record:
        case Pdu(value=pdu.AssociateRq() as asked):
            return str(DicomAssociate.from_request(asked)).splitlines()[1:]
        case Pdu(value=pdu.AssociateAc() as answer):
            proposal = seen.proposal or pdu.AssociateRq(answer.called_ae, answer.calling_ae, ())
            return str(DicomAssociate.from_accept(proposal, answer)).splitlines()[1:]
        case Message() as message:
            return [*map(printable, _command_lines(message)), *_dataset_lines(message, phi)]
        case Garbage(data=data) if data:
            return [f"{data.hex(' ')}  {''.join(chr(b) if 32 <= b < 127 else '.' for b in data)}"]
    return []


def keyword(element: int) -> str:
    """Of an element of a command set."""
    from pydicom.datadict import keyword_for_tag

    return keyword_for_tag(element) or f"0000{element:04X}"


def tag_text(tag: int) -> str:
    """``(gggg,eeee)`` with the keyword, if there is one."""
    from pydicom.datadict import keyword_for_tag

    word = keyword_for_tag(tag)
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})" + (f" {word}" if word else "")


def _command_lines(message: Message) -> Iterator[str]:
    yield f"  presentation context {message.context_id}, in {_count(message.pdus, 'PDU')}"
    for element, value in sorted(message.command.items()):
        if element != c.GROUP_LENGTH:
            yield f"  (0000,{element:04X}) {keyword(element)}: {_value_text(element, value, message)}"[:WIDEST]


def _value_text(element: int, value: int | str | tuple[int, ...] | bytes, message: Message) -> str:
    match value:
        case bytes():
            return f"<{len(value)} bytes>"  # which this element should not have; whose they are, nobody knows
        case tuple():
            return " ".join(map(tag_text, value[:32]))
        case str():
            known = uid_name(value) if c.VRS.get(element) == "UI" else value
            return f"{known} ({value})" if known != value else repr(value) if c.VRS.get(element) != "UI" else value
    if element == c.COMMAND_FIELD:
        return f"{value:04X}H {message_name(message.command)}"
    if element == c.STATUS:
        status = status_of(message)
        return f"0x{value:04X}" + (f" {status.meaning(service_of(message))}" if status is not None else "")
    if element == c.PRIORITY:
        return f"{value} {_PRIORITIES.get(value, 'unknown')}"
    if element == c.DATA_SET_TYPE:
        return f"{value:04X}H, {'no data set' if value == c.NO_DATA_SET else 'a data set follows'}"
    return str(value)


def _dataset_lines(message: Message, phi: bool) -> Iterator[str]:
    if message.dataset_size is None:
        return
    syntax = uid_name(message.transfer_syntax) or "transfer syntax unknown"
    yield f"  data set of {message.dataset_size:,} bytes, {syntax}"
    if not phi:
        return
    if message.dataset is None:
        yield "    too long to be shown"
        return
    try:
        lines = str(decoded(message)).splitlines()
    except Exception as error:  # pydicom documents no closed set of errors for values that break their VR
        yield printable(f"    cannot be decoded: {error}")[:WIDEST]
        return
    yield from (printable(f"    {line}")[:WIDEST] for line in lines[:MOST_LINES])
    if len(lines) > MOST_LINES:
        yield f"    … and {len(lines) - MOST_LINES} more lines"


def encoded(message: Message) -> EncodedDataset:
    """The data set that was kept, in the transfer syntax of its context; if that is unknown, in the default one."""
    assert message.dataset is not None
    return EncodedDataset(message.dataset, message.transfer_syntax or "1.2.840.10008.1.2")


def decoded(message: Message) -> Dataset:
    """The same as a pydicom Dataset, without file meta information. Raises InvalidDataset."""
    dataset = encoded(message).decode()
    del dataset.file_meta
    return dataset
