"""Records as objects for programs: what JSON can hold, with the members that ``members.MEMBERS`` explains.

One idea: numbers are as they were on the wire, with their meaning in words beside them; what belongs to a patient, or
to the user who presents an identity, is there only with ``phi``.
"""

from __future__ import annotations

from typing import Any, Final

from dicomnet.dimse import command as c
from dicomnet.trace import wording
from dicomnet.trace.decoding import message_name
from dicomnet.trace.exchanges import Seen, status_of
from dicomnet.trace.records import Address, Closed, Fault, Garbage, Message, Opened, Pdu
from dicomnet.ul import pdu

LONGEST: Final = 1024  # bytes of a binary value; what is longer is left out of a data set


def jsonable(seen: Seen, *, phi: bool = False) -> tuple[str, dict[str, Any]]:
    """The kind of a record, and its members."""
    record = seen.record
    members = {"connection": record.connection, "time": round(record.time, 6), "text": wording.remark(seen)}
    match record:
        case Opened():
            return "opened", members | {"requestor": _address(record.requestor), "acceptor": _address(record.acceptor)}
        case Pdu():
            return "pdu", members | _side(record.from_requestor) | _pdu(record, phi)
        case Message():
            return "message", members | _side(record.from_requestor) | _message(record, seen, phi)
        case Garbage():
            return "garbage", {**members, **_side(record.from_requestor), "reason": record.reason} | {
                "data": record.data.hex()
            }
        case Fault():
            return "fault", {**members, "rule": record.rule, "what": record.what}
        case Closed():
            return "closed", members | _closed(record, seen)


def _side(from_requestor: bool) -> dict[str, str]:
    return {"from": "requestor" if from_requestor else "acceptor"}


def _address(address: Address) -> dict[str, Any]:
    return {"host": address.host, "port": address.port}


def _closed(record: Closed, seen: Seen) -> dict[str, Any]:
    who = "proxy" if record.from_requestor is None else _side(record.from_requestor)["from"]
    unanswered = [f"{message_name(one.command)} #{one.command[c.MESSAGE_ID]!r}" for one in seen.unanswered]
    return {"from": who, "how": record.how, "unanswered": unanswered}


# --- PDUs -----------------------------------------------------------------------------------------------------------


def _pdu(record: Pdu, phi: bool) -> dict[str, Any]:
    return {
        "type": record.type,
        "name": wording.pdu_name(record.type),
        "length": record.length,
        "value": _value(record.value, phi),
        "problem": record.problem,
    }


def _value(value: pdu.Pdu | None, phi: bool) -> dict[str, Any] | None:
    match value:
        case pdu.AssociateRq():
            return _associate(value, phi) | {"contexts": [_proposed(context) for context in value.contexts]}
        case pdu.AssociateAc():
            return _associate(value, phi) | {"contexts": [_answered(context) for context in value.contexts]}
        case pdu.AssociateRj(result, source, reason):
            return {"result": result, "source": source, "reason": reason}
        case pdu.Abort(source, reason):
            return {"source": source, "reason": reason}
        case pdu.ReleaseRq() | pdu.ReleaseRp():
            return {}
    return None


def _proposed(context: pdu.ProposedContext) -> dict[str, Any]:
    return {
        "id": context.id,
        "abstract_syntax": context.abstract_syntax,
        "transfer_syntaxes": list(context.transfer_syntaxes),
    }


def _answered(context: pdu.AnsweredContext) -> dict[str, Any]:
    accepted = context.result == pdu.ContextResult.ACCEPTANCE
    return {
        "id": context.id,
        "result": context.result,
        "meaning": wording.result_text(context.result),
        "transfer_syntax": context.transfer_syntax if accepted else None,
    }


def _associate(value: pdu.AssociateRq | pdu.AssociateAc, phi: bool) -> dict[str, Any]:
    user = value.user
    return {
        "called": value.called_ae,
        "calling": value.calling_ae,
        "version": value.protocol_version,
        "application_context": value.application_context,
        "max_length": user.max_length,
        "implementation_class_uid": user.implementation_class_uid,
        "implementation_version_name": user.implementation_version_name,
        "async_ops": user.async_ops,
        "roles": [{"sop_class_uid": role.sop_class_uid, "scu": role.scu, "scp": role.scp} for role in user.roles],
        "extended": [{"sop_class_uid": item.sop_class_uid, "data": item.data.hex()} for item in user.extended],
        "common_extended": [item.sop_class_uid for item in user.common_extended],
        "identity": None if user.identity is None else _identity(user.identity, phi),
        "identity_response": None if user.identity_response is None else len(user.identity_response),
        "unknown_items": [{"type": kind, "length": len(data)} for kind, data in user.unknown],
    }


def _identity(identity: Any, phi: bool) -> dict[str, Any]:
    """Its type; who it is only if that was asked for; never a passcode, a ticket or a token."""
    named = {"name": identity.primary.decode("utf-8", "replace")} if phi and identity.type in (1, 2) else {}
    return {"type": identity.type, "response_requested": identity.response_requested, **named}


# --- messages -------------------------------------------------------------------------------------------------------


def _message(message: Message, seen: Seen, phi: bool) -> dict[str, Any]:
    status = status_of(message)
    members = {
        "began": round(message.began, 6),
        "name": message_name(message.command),
        "context_id": message.context_id,
        "abstract_syntax": message.abstract_syntax,
        "transfer_syntax": message.transfer_syntax,
        "pdus": message.pdus,
        "command": {wording.keyword(element): _element(value) for element, value in message.command.items()},
        "status": None if status is None else int(status),
        "meaning": wording.status_text(message),
        "seconds": None if seen.waited is None else round(seen.waited, 6),
        "dataset_size": message.dataset_size,
    }
    return members | {"dataset": _dataset(message)} if phi and message.dataset is not None else members


def _element(value: int | str | tuple[int, ...] | bytes) -> Any:
    """Tags as the DICOM JSON model has them; of bytes, which nothing in a command set should be, the length."""
    if isinstance(value, tuple):
        return [f"{tag:08X}" for tag in value]
    return f"<{len(value)} bytes>" if isinstance(value, bytes) else value


def _dataset(message: Message) -> dict[str, Any] | None:
    """In the DICOM JSON model, without long binary values; None if it cannot be decoded."""
    try:
        model: dict[str, Any] = wording.decoded(message).to_json_dict(LONGEST, lambda _element: "")
    except Exception:  # pydicom documents no closed set of errors for values that break their VR
        return None
    return model
