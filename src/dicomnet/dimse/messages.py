"""Requests and responses of PS3.7 9.3 and 10.3 as values.

One table says which elements each of the 23 messages has; ``Request`` and ``Response`` name what they mean. N-GET,
N-SET, N-ACTION and N-DELETE name a *requested* SOP class and instance, the others an *affected* one; here both are
``sop_class_uid`` and ``sop_instance_uid``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, NamedTuple

from dicomnet.dimse import command as c
from dicomnet.dimse.command import CommandSet
from dicomnet.dimse.status import Status
from dicomnet.errors import StatusError


class CommandField(IntEnum):
    """Command Field (0000,0100) of the requests; a response has bit 15 set as well (PS3.7 E.1)."""

    C_STORE = 0x0001
    C_GET = 0x0010
    C_FIND = 0x0020
    C_MOVE = 0x0021
    C_ECHO = 0x0030
    N_EVENT_REPORT = 0x0100
    N_GET = 0x0110
    N_SET = 0x0120
    N_ACTION = 0x0130
    N_CREATE = 0x0140
    N_DELETE = 0x0150
    C_CANCEL = 0x0FFF


def service(command: int) -> str:
    """The standard's name of a command field's service, such as ``C-STORE``."""
    try:
        return CommandField(command).name.replace("_", "-")
    except ValueError:
        return f"command {command:04X}H"


_new = object.__new__
RESPONSE: Final = 0x8000  # the bit that makes a request's command field its response's


class Priority(IntEnum):
    """Priority (0000,0700)."""

    MEDIUM = 0
    HIGH = 1
    LOW = 2


@dataclass(slots=True)
class Request:
    """A request of any DIMSE service. Of a C-CANCEL, ``message_id`` is that of the request to cancel.

    ``attributes``: tags of an N-GET's Attribute Identifier List. ``has_dataset``: a data set follows.
    """

    command: CommandField
    message_id: int
    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    priority: int = 0
    has_dataset: bool = False
    move_destination: str | None = None
    move_originator_ae: str | None = None
    move_originator_message_id: int | None = None
    event_type_id: int | None = None
    action_type_id: int | None = None
    attributes: tuple[int, ...] = ()


@dataclass
class Response:
    """A response of any DIMSE service (PS3.7 9.3, 10.3, Annex C).

    ``status``: a Status (any 16-bit number becomes one); ``dataset``: the data set that came or goes with it, or None;
    the optional status elements, and the counts of sub-operations. A handler sets what it wants to say; ``command``,
    ``message_id``, ``has_dataset`` and the SOP class are filled in for it.
    """

    status: Status
    dataset: Any = None
    error_comment: str | None = None
    offending_elements: tuple[int, ...] = ()
    error_id: int | None = None
    remaining: int | None = None
    completed: int | None = None
    failed: int | None = None
    warning: int | None = None
    event_type_id: int | None = None
    action_type_id: int | None = None
    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    command: int = CommandField.C_ECHO
    message_id: int = 0
    has_dataset: bool = False

    def __post_init__(self) -> None:
        if type(self.status) is not Status:
            self.status = Status(self.status)

    @classmethod
    def plain(cls, status: Status) -> Response:
        """A response with nothing but a status: as ``Response(status)``, at a tenth of the cost.

        The other attributes are read from the class until somebody sets them, which is why it has no slots.
        """
        response = _new(cls)
        response.status = status
        return response

    def raise_for_status(self) -> Response:
        """Return the response itself, or raise StatusError if its status is a failure."""
        if self.status.is_failure:
            raise StatusError(self.status, self.error_comment or self.status.meaning(service(self.command)))
        return self


class SubOperations(NamedTuple):
    """How far a C-GET or C-MOVE is: numbers of C-STORE sub-operations (PS3.7 C.4.2 and the like)."""

    remaining: int
    completed: int
    failed: int
    warning: int

    @classmethod
    def of(cls, response: Response) -> SubOperations:
        """The counts of a response; those that it lacks are 0."""
        return cls(response.remaining or 0, response.completed or 0, response.failed or 0, response.warning or 0)


@dataclass(slots=True)
class Unusable:
    """A command set from which no request or response could be made, and the status to answer if it was a request.

    ``command``: the command field as it came. ``message_id`` is None if even that is missing.
    """

    command: int | None
    message_id: int | None
    has_dataset: bool
    status: Status
    detail: str


@dataclass(frozen=True, slots=True)
class _Row:
    """What a request has: the elements of its SOP class and instance, and the attributes that must or may be there."""

    sop_class: int = c.AFFECTED_SOP_CLASS_UID
    sop_instance: int | None = c.AFFECTED_SOP_INSTANCE_UID
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()


_C: Final = (c.AFFECTED_SOP_CLASS_UID, None)
_AFFECTED: Final = (c.AFFECTED_SOP_CLASS_UID, c.AFFECTED_SOP_INSTANCE_UID)
_REQUESTED: Final = (c.REQUESTED_SOP_CLASS_UID, c.REQUESTED_SOP_INSTANCE_UID)

_ROWS: Final = {
    CommandField.C_STORE: _Row(
        *_AFFECTED,
        required=("sop_instance_uid", "priority"),
        optional=("move_originator_ae", "move_originator_message_id"),
    ),
    CommandField.C_FIND: _Row(*_C, required=("priority",)),
    CommandField.C_GET: _Row(*_C, required=("priority",)),
    CommandField.C_MOVE: _Row(*_C, required=("priority", "move_destination")),
    CommandField.C_ECHO: _Row(*_C),
    CommandField.N_EVENT_REPORT: _Row(*_AFFECTED, required=("sop_instance_uid", "event_type_id")),
    CommandField.N_GET: _Row(*_REQUESTED, required=("sop_instance_uid",), optional=("attributes",)),
    CommandField.N_SET: _Row(*_REQUESTED, required=("sop_instance_uid",)),
    CommandField.N_ACTION: _Row(*_REQUESTED, required=("sop_instance_uid", "action_type_id")),
    CommandField.N_CREATE: _Row(*_AFFECTED, optional=("sop_instance_uid",)),
    CommandField.N_DELETE: _Row(*_REQUESTED, required=("sop_instance_uid",)),
}

_REQUEST_ELEMENTS: Final = {
    "priority": c.PRIORITY,
    "move_destination": c.MOVE_DESTINATION,
    "move_originator_ae": c.MOVE_ORIGINATOR_AE,
    "move_originator_message_id": c.MOVE_ORIGINATOR_MESSAGE_ID,
    "event_type_id": c.EVENT_TYPE_ID,
    "action_type_id": c.ACTION_TYPE_ID,
    "attributes": c.ATTRIBUTE_IDENTIFIER_LIST,
}
_RESPONSE_ELEMENTS: Final = {
    "sop_class_uid": c.AFFECTED_SOP_CLASS_UID,
    "sop_instance_uid": c.AFFECTED_SOP_INSTANCE_UID,
    "error_comment": c.ERROR_COMMENT,
    "offending_elements": c.OFFENDING_ELEMENT,
    "error_id": c.ERROR_ID,
    "remaining": c.REMAINING,
    "completed": c.COMPLETED,
    "failed": c.FAILED,
    "warning": c.WARNING,
    "event_type_id": c.EVENT_TYPE_ID,
    "action_type_id": c.ACTION_TYPE_ID,
}
_TYPES: Final[dict[str, type]] = {"US": int, "UL": int, "UI": str, "AE": str, "LO": str, "AT": tuple}


# --- values to command sets -----------------------------------------------------------------------------------------


def command_set(message: Request | Response) -> CommandSet:
    """The command set of a message, without group length."""
    if type(message) is Response:
        return _response_command_set(message)
    assert isinstance(message, Request)
    data_set_type = 0x0001 if message.has_dataset else c.NO_DATA_SET
    if message.command is CommandField.C_CANCEL:
        return {
            c.COMMAND_FIELD: int(message.command),
            c.MESSAGE_ID_BEING_RESPONDED_TO: message.message_id,
            c.DATA_SET_TYPE: c.NO_DATA_SET,
        }
    row = _ROWS[message.command]
    elements: CommandSet = {
        row.sop_class: message.sop_class_uid,
        c.COMMAND_FIELD: int(message.command),
        c.MESSAGE_ID: message.message_id,
        c.DATA_SET_TYPE: data_set_type,
    }
    if row.sop_instance is not None and message.sop_instance_uid:
        elements[row.sop_instance] = message.sop_instance_uid
    for name in row.required + row.optional:
        if name == "sop_instance_uid":
            continue
        value = getattr(message, name)
        if value is not None and value != ():
            elements[_REQUEST_ELEMENTS[name]] = value
    return elements


def _response_command_set(response: Response) -> CommandSet:
    elements: CommandSet = {
        c.COMMAND_FIELD: response.command | RESPONSE,
        c.MESSAGE_ID_BEING_RESPONDED_TO: response.message_id,
        c.DATA_SET_TYPE: 0x0001 if response.has_dataset else c.NO_DATA_SET,
        c.STATUS: int(response.status),
    }
    for name, element in _RESPONSE_ELEMENTS.items():
        value = getattr(response, name)
        if value is not None and value != "" and value != ():
            elements[element] = value
    if response.error_comment:
        elements[c.ERROR_COMMENT] = response.error_comment[:64]  # VR LO
    return elements


def encode(message: Request | Response) -> bytes:
    """The command set of a message as bytes. Raises ValueError for a value out of its range."""
    return c.encode(command_set(message))


# --- command sets to values -----------------------------------------------------------------------------------------


def decode(data: bytes) -> Request | Response | Unusable:
    """The message whose command set ``data`` is. Raises InvalidCommand for bytes that are none."""
    return from_command_set(c.decode(data))


def from_command_set(elements: CommandSet) -> Request | Response | Unusable:
    """The message that these elements describe; ``Unusable`` if one is missing or has the wrong type."""
    field = elements.get(c.COMMAND_FIELD)
    data_set_type = elements.get(c.DATA_SET_TYPE)
    has_dataset = data_set_type is not None and data_set_type != c.NO_DATA_SET
    if type(field) is not int or type(data_set_type) is not int:
        return Unusable(None, None, has_dataset, Status.MISTYPED_ARGUMENT, "no Command Field or Data Set Type")
    if field & RESPONSE:
        return _response(elements, field, has_dataset)
    if field == CommandField.C_CANCEL:
        message_id = elements.get(c.MESSAGE_ID_BEING_RESPONDED_TO)
        if type(message_id) is not int:
            return Unusable(field, None, has_dataset, Status.MISTYPED_ARGUMENT, "a C-CANCEL names no request")
        return Request(CommandField.C_CANCEL, message_id, has_dataset=has_dataset)
    message_id = elements.get(c.MESSAGE_ID)
    if type(message_id) is not int:
        return Unusable(field, None, has_dataset, Status.MISTYPED_ARGUMENT, "no Message ID")
    try:
        command = CommandField(field)
    except ValueError:
        detail = f"command field {field:04X}H"
        return Unusable(field, message_id, has_dataset, Status.UNRECOGNISED_OPERATION, detail)
    return _request(elements, command, message_id, has_dataset)


def _request(elements: CommandSet, command: CommandField, message_id: int, has_dataset: bool) -> Request | Unusable:
    row = _ROWS[command]
    request = Request(command, message_id, has_dataset=has_dataset)
    names = {"sop_class_uid": row.sop_class, **{name: _REQUEST_ELEMENTS.get(name) for name in row.required}}
    names.update((name, _REQUEST_ELEMENTS.get(name)) for name in row.optional)
    for name, named in names.items():
        element = row.sop_instance if named is None else named
        assert element is not None
        value = elements.get(element)
        if value is None and name in row.optional:
            continue
        if not isinstance(value, _TYPES[c.VRS[element]]):
            what = "is missing" if value is None else f"is no {c.VRS[element]}"
            detail = f"(0000,{element:04X}) {what}"
            return Unusable(command, message_id, has_dataset, Status.MISTYPED_ARGUMENT, detail)
        setattr(request, name, value)
    return request


def _response(elements: CommandSet, field: int, has_dataset: bool) -> Response | Unusable:
    message_id, status = elements.get(c.MESSAGE_ID_BEING_RESPONDED_TO), elements.get(c.STATUS)
    try:
        command = CommandField(field & ~RESPONSE)
    except ValueError:
        command = CommandField.C_CANCEL  # which has no response
    if command is CommandField.C_CANCEL or type(message_id) is not int or type(status) is not int:
        return Unusable(field, None, has_dataset, Status.MISTYPED_ARGUMENT, "a response without Message ID or Status")
    response = Response(Status(status), command=command, message_id=message_id, has_dataset=has_dataset)
    for name, element in _RESPONSE_ELEMENTS.items():
        value = elements.get(element)
        if isinstance(value, _TYPES[c.VRS[element]]):
            setattr(response, name, value)
    requested = elements.get(c.REQUESTED_SOP_INSTANCE_UID)  # some answer N-GET … with the requested UIDs
    if not response.sop_instance_uid and isinstance(requested, str):
        response.sop_instance_uid = requested
    return response
