"""The command sets that come by the thousand, C-ECHO and plain C-STORE, read and written at fixed offsets.

What does not look exactly as everybody writes it is left to the general code in ``messages``: these functions then
return None. The two always agree; a test compares them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import lru_cache
from typing import Final, TypeVar

from dicomnet.dimse.command import text_element
from dicomnet.dimse.messages import RESPONSE, CommandField, Request, Response
from dicomnet.dimse.status import Status

Message = TypeVar("Message", Request, Response)

_header: Final = struct.Struct("<HHI").pack
_group_length: Final = struct.Struct("<8sI").pack
_GROUP_LENGTH: Final = _header(0, 0x0000, 4)
_CLASS_TAG: Final = _header(0, 0x0002, 0)[:4]
_INSTANCE_TAG: Final = _header(0, 0x1000, 0)[:4]
_FIELD: Final = _header(0, 0x0100, 2)
_MESSAGE_ID: Final = _header(0, 0x0110, 2)
_RESPONDED_TO: Final = _header(0, 0x0120, 2)
_PRIORITY: Final = _header(0, 0x0700, 2)
_DATA_SET_TYPE: Final = _header(0, 0x0800, 2)
_STATUS: Final = _header(0, 0x0900, 2)

# Three or four US elements in a row: each header as it must be, and its value.
_three: Final = struct.Struct("<8sH8sH8sH")
_four: Final = struct.Struct("<8sH8sH8sH8sH")
_length: Final = struct.Struct("<I").unpack_from
_unpack_three, _pack_three = _three.unpack_from, _three.pack
_unpack_four, _pack_four = _four.unpack_from, _four.pack

_NOTHING_FOLLOWS: Final = _DATA_SET_TYPE + b"\x01\x01"
_PLAIN_END: Final = _NOTHING_FOLLOWS + _STATUS

_LONGEST_PLAIN: Final = 12 + 8 + 64 + 40  # with a SOP class UID of 64 bytes, and without an instance
_START: Final = 12 + 8  # behind the group length and the header of the SOP class UID
_NO_DATA_SET: Final = 0x0101


@lru_cache(maxsize=512)
def _class_element(uid: str) -> bytes:
    return text_element(0x0002, uid)


@lru_cache(maxsize=512)
def _class_uid(value: bytes) -> str:
    return value.rstrip(b"\0 ").decode("latin-1")


# --- writing --------------------------------------------------------------------------------------------------------


def encode_request(request: Request) -> bytes | None:
    """The command set of ``request``, or None if it has no template."""
    if not request.sop_class_uid:
        return None
    if request.command is CommandField.C_ECHO and not request.has_dataset and 0 <= request.message_id <= 0xFFFF:
        return _echo_request(request.sop_class_uid) + request.message_id.to_bytes(2, "little") + _NOTHING_FOLLOWS
    return _complete(_request, request)


@lru_cache(maxsize=64)
def _echo_request(uid: str) -> bytes:
    """All of a C-ECHO request that is in front of the message ID."""
    body = _class_element(uid) + _FIELD + CommandField.C_ECHO.to_bytes(2, "little") + _MESSAGE_ID
    return _group_length(_GROUP_LENGTH, len(body) + 2 + len(_NOTHING_FOLLOWS)) + body


def _request(request: Request) -> bytes | None:
    command = request.command
    if command is CommandField.C_STORE:
        if request.move_originator_ae is not None or request.move_originator_message_id is not None:
            return None
        data_set_type = 1 if request.has_dataset else _NO_DATA_SET
        message_id, priority = request.message_id, request.priority
        return (
            _class_element(request.sop_class_uid)
            + _pack_four(_FIELD, command, _MESSAGE_ID, message_id, _PRIORITY, priority, _DATA_SET_TYPE, data_set_type)
            + (text_element(0x1000, request.sop_instance_uid) if request.sop_instance_uid else b"")
        )
    return None


def encode_response(response: Response) -> bytes | None:
    """The command set of ``response``, or None if it has no template."""
    return _complete(_response, response)


def _complete(write: Callable[[Message], bytes | None], message: Message) -> bytes | None:
    try:
        body = write(message)
    except struct.error:  # a value out of range: the general code says which
        return None
    return body and _group_length(_GROUP_LENGTH, len(body)) + body


def _response(response: Response) -> bytes | None:
    command = response.command
    if command not in _TEMPLATED or response.has_dataset or not response.sop_class_uid:
        return None
    if not (response.__dict__.keys() <= _PLAIN_KEYS or _is_plain(response)):
        return None
    body = _class_element(response.sop_class_uid) + _pack_four(
        _FIELD,
        command | RESPONSE,
        _RESPONDED_TO,
        response.message_id,
        _DATA_SET_TYPE,
        _NO_DATA_SET,
        _STATUS,
        response.status,
    )
    if response.sop_instance_uid:
        return body + text_element(0x1000, response.sop_instance_uid)
    return body


def _is_plain(response: Response) -> bool:
    """Nothing but a status is said, although more was set."""
    return not (
        response.error_comment
        or response.offending_elements
        or response.error_id is not None
        or response.remaining is not None
        or response.completed is not None
        or response.failed is not None
        or response.warning is not None
        or response.event_type_id is not None
        or response.action_type_id is not None
    )


_TEMPLATED: Final = (CommandField.C_STORE, CommandField.C_ECHO)
_PLAIN_KEYS: Final = {"status", "command", "message_id", "sop_class_uid", "sop_instance_uid", "has_dataset"}
_STORE_REQUEST = CommandField.C_STORE.value
_SUCCESS: Final = Status.SUCCESS
_RESPONSES: Final = {command | RESPONSE: command for command in _TEMPLATED}


# --- reading --------------------------------------------------------------------------------------------------------


def decode(data: bytes) -> Request | Response | None:
    """The message whose command set ``data`` is, or None if it is none of these or looks unusual."""
    size = len(data)
    if size <= _LONGEST_PLAIN:
        if data[-20:-2] == _PLAIN_END:  # a response whose status comes last
            known = _response_start(data[:-22])
            return None if known is None else _plain_response(*known, data)
        if data[-10:] == _NOTHING_FOLLOWS:
            uid = _echo_start(data[:-12])
            return None if uid is None else Request(CommandField.C_ECHO, int.from_bytes(data[-12:-10], "little"), uid)
    if size < 50 or data[:8] != _GROUP_LENGTH or data[12:16] != _CLASS_TAG:
        return None
    at = _START + int(_length(data, 16)[0])
    if size < at + 30:
        return None
    first, field, second, message_id, third, value = _unpack_three(data, at)
    if first != _FIELD:
        return None
    if (command := _RESPONSES.get(field)) is not None:
        if second != _RESPONDED_TO or third != _DATA_SET_TYPE or value != _NO_DATA_SET:
            return None
        return _read_response(data, at, command, message_id)
    if second != _MESSAGE_ID:
        return None
    if field == _STORE_REQUEST and third == _PRIORITY:
        return _read_store_request(data, at, message_id, value)
    return None


@lru_cache(maxsize=64)
def _echo_start(start: bytes) -> str | None:
    """The SOP class UID if ``start`` is all of a C-ECHO request that is in front of the message ID."""
    uid = _class_uid(start[_START:-18])
    return uid if start == _echo_request(uid) else None


@lru_cache(maxsize=64)
def _response_start(start: bytes) -> tuple[str, CommandField] | None:
    """SOP class UID and command if ``start`` is all of a response without instance in front of its message ID."""
    uid = _class_uid(start[_START:-18])
    for command in _TEMPLATED:
        body = _class_element(uid) + _FIELD + (command | RESPONSE).to_bytes(2, "little") + _RESPONDED_TO
        if start == _group_length(_GROUP_LENGTH, len(body) + 22) + body:
            return uid, command
    return None


def _plain_response(uid: str, command: CommandField, data: bytes) -> Response:
    status = int.from_bytes(data[-2:], "little")
    response = Response.plain(_SUCCESS if status == 0 else Status(status))
    response.sop_class_uid = uid
    response.command = command
    response.message_id = int.from_bytes(data[-22:-20], "little")
    return response


def _read_response(data: bytes, at: int, command: CommandField, message_id: int) -> Response | None:
    """One with a SOP instance behind the status."""
    end = at + 40
    if data[at + 30 : at + 38] != _STATUS or (instance := _instance(data, end)) is None:
        return None
    status = int.from_bytes(data[at + 38 : end], "little")
    response = Response.plain(_SUCCESS if status == 0 else Status(status))
    response.sop_class_uid = _class_uid(data[_START:at])
    response.sop_instance_uid = instance
    response.command = command
    response.message_id = message_id
    return response


def _read_store_request(data: bytes, at: int, message_id: int, priority: int) -> Request | None:
    if data[at + 30 : at + 38] != _DATA_SET_TYPE or (instance := _instance(data, at + 40)) is None:
        return None
    has_dataset = int.from_bytes(data[at + 38 : at + 40], "little") != _NO_DATA_SET
    sop_class = _class_uid(data[_START:at])
    return Request(CommandField.C_STORE, message_id, sop_class, instance, priority, has_dataset)


def _instance(data: bytes, at: int) -> str | None:
    """The SOP instance UID if it is the last element, at ``at``."""
    if len(data) < at + 8 or data[at : at + 4] != _INSTANCE_TAG or len(data) != at + 8 + _length(data, at + 4)[0]:
        return None
    return data[at + 8 :].rstrip(b"\0 ").decode("latin-1")
