"""The messages of PS3.7 as methods of ``DicomNet``: ``send_X_request`` and ``on_receive_X_request``, and the responses.

One idea: a message's arguments come in one order, sent or received; one table says which they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from dicomnet.dataset import EncodedDataset
from dicomnet.dimse import command, messages
from dicomnet.dimse.messages import CommandField, Request, Response
from dicomnet.dimse.status import Status
from dicomnet.errors import LocalProtocolError

DatasetLike = Any  # a path, a pydicom Dataset, an EncodedDataset, or None


class Services:
    """The eleven pairs of messages, and C-CANCEL.

    ``pid``: presentation context ID; ``mid``: message ID; ``cls``: affected or requested SOP class UID; ``inst``: SOP
    instance UID; ``prio``: priority (0 medium, 1 high, 2 low); ``st``: status, any 16-bit number; ``ds``: data set.
    """

    def _send(self, call: str, presentation_id: int, elements: command.CommandSet, ds: DatasetLike) -> None:
        raise NotImplementedError  # DicomNet's

    def _message(self, pid: int, message: Request | Response, ds: DatasetLike = None) -> None:
        self._send(call_name(message), pid, messages.command_set(message), ds)

    def _delivery(
        self, message: Request | Response, ds: EncodedDataset | None
    ) -> tuple[Callable[..., None], tuple[Any, ...]]:
        """The callback of a message, and its arguments after the presentation and the message ID."""
        field, kind = CommandField(message.command), _kind(message)
        callback: Callable[..., None] = getattr(self, f"on_receive_{_NAMES[field]}_{kind}")
        return callback, tuple(_argument(message, name, ds) for name in _ARGUMENTS[field, kind])

    # --- sending ----------------------------------------------------------------------------------------------------

    def send_c_store_request(
        self,
        pid: int,
        mid: int,
        cls: str,
        inst: str,
        prio: int,
        move_ae: str | None,
        move_message_id: int | None,
        ds: DatasetLike,
    ) -> None:
        """``move_ae``, ``move_message_id``: of the C-MOVE that this store belongs to; empty or None without one."""
        request = Request(CommandField.C_STORE, mid, cls, inst, prio)
        if move_ae:
            request.move_originator_ae, request.move_originator_message_id = move_ae, move_message_id
        self._message(pid, request, ds)

    def send_c_store_response(self, pid: int, mid: int, cls: str, inst: str, st: int) -> None:
        self._message(pid, _response(CommandField.C_STORE, mid, cls, st, sop_instance_uid=inst))

    def send_c_find_request(self, pid: int, mid: int, cls: str, prio: int, ds: DatasetLike) -> None:
        self._message(pid, Request(CommandField.C_FIND, mid, cls, priority=prio), ds)

    def send_c_find_response(self, pid: int, mid: int, cls: str, st: int, ds: DatasetLike = None) -> None:
        self._message(pid, _response(CommandField.C_FIND, mid, cls, st), ds)

    def send_c_get_request(self, pid: int, mid: int, cls: str, prio: int, ds: DatasetLike) -> None:
        self._message(pid, Request(CommandField.C_GET, mid, cls, priority=prio), ds)

    def send_c_get_response(
        self,
        pid: int,
        mid: int,
        cls: str,
        st: int,
        remaining: int | None,
        completed: int | None,
        failed: int | None,
        warning: int | None,
        ds: DatasetLike = None,
    ) -> None:
        """Numbers of sub-operations; None leaves one out."""
        self._message(pid, _counted(CommandField.C_GET, mid, cls, st, remaining, completed, failed, warning), ds)

    def send_c_move_request(self, pid: int, mid: int, cls: str, prio: int, move_ae: str, ds: DatasetLike) -> None:
        """``move_ae``: AE title of the destination."""
        self._message(pid, Request(CommandField.C_MOVE, mid, cls, priority=prio, move_destination=move_ae), ds)

    def send_c_move_response(
        self,
        pid: int,
        mid: int,
        cls: str,
        st: int,
        remaining: int | None,
        completed: int | None,
        failed: int | None,
        warning: int | None,
        ds: DatasetLike = None,
    ) -> None:
        """Numbers of sub-operations; None leaves one out."""
        self._message(pid, _counted(CommandField.C_MOVE, mid, cls, st, remaining, completed, failed, warning), ds)

    def send_c_cancel_request(self, pid: int, mid: int) -> None:
        """``mid``: of the request to cancel."""
        self._message(pid, Request(CommandField.C_CANCEL, mid))

    def send_c_echo_request(self, pid: int, mid: int, cls: str) -> None:
        self._message(pid, Request(CommandField.C_ECHO, mid, cls))

    def send_c_echo_response(self, pid: int, mid: int, cls: str, st: int) -> None:
        self._message(pid, _response(CommandField.C_ECHO, mid, cls, st))

    def send_n_report_request(
        self, pid: int, mid: int, cls: str, inst: str, event: int, ds: DatasetLike = None
    ) -> None:
        """N-EVENT-REPORT; ``event``: the event type ID."""
        self._message(pid, Request(CommandField.N_EVENT_REPORT, mid, cls, inst, event_type_id=event), ds)

    def send_n_report_response(
        self, pid: int, mid: int, cls: str, inst: str, st: int, event: int | None = None, ds: DatasetLike = None
    ) -> None:
        response = _response(CommandField.N_EVENT_REPORT, mid, cls, st, sop_instance_uid=inst, event_type_id=event)
        self._message(pid, response, ds)

    def send_n_get_request(self, pid: int, mid: int, cls: str, inst: str, attributes: Iterable[int] = ()) -> None:
        """``attributes``: tags; none asks for all."""
        tags = tuple(_tag(tag) for tag in attributes)
        self._message(pid, Request(CommandField.N_GET, mid, cls, inst, attributes=tags))

    def send_n_get_response(self, pid: int, mid: int, cls: str, inst: str, st: int, ds: DatasetLike = None) -> None:
        self._message(pid, _response(CommandField.N_GET, mid, cls, st, sop_instance_uid=inst), ds)

    def send_n_set_request(self, pid: int, mid: int, cls: str, inst: str, ds: DatasetLike) -> None:
        self._message(pid, Request(CommandField.N_SET, mid, cls, inst), ds)

    def send_n_set_response(self, pid: int, mid: int, cls: str, inst: str, st: int, ds: DatasetLike = None) -> None:
        self._message(pid, _response(CommandField.N_SET, mid, cls, st, sop_instance_uid=inst), ds)

    def send_n_action_request(
        self, pid: int, mid: int, cls: str, inst: str, action: int, ds: DatasetLike = None
    ) -> None:
        """``action``: the action type ID."""
        self._message(pid, Request(CommandField.N_ACTION, mid, cls, inst, action_type_id=action), ds)

    def send_n_action_response(
        self, pid: int, mid: int, cls: str, inst: str, st: int, action: int | None = None, ds: DatasetLike = None
    ) -> None:
        response = _response(CommandField.N_ACTION, mid, cls, st, sop_instance_uid=inst, action_type_id=action)
        self._message(pid, response, ds)

    def send_n_create_request(self, pid: int, mid: int, cls: str, inst: str, ds: DatasetLike = None) -> None:
        """``inst``: empty lets the SCP choose."""
        self._message(pid, Request(CommandField.N_CREATE, mid, cls, inst), ds)

    def send_n_create_response(self, pid: int, mid: int, cls: str, inst: str, st: int, ds: DatasetLike = None) -> None:
        self._message(pid, _response(CommandField.N_CREATE, mid, cls, st, sop_instance_uid=inst), ds)

    def send_n_delete_request(self, pid: int, mid: int, cls: str, inst: str) -> None:
        self._message(pid, Request(CommandField.N_DELETE, mid, cls, inst))

    def send_n_delete_response(self, pid: int, mid: int, cls: str, inst: str, st: int) -> None:
        self._message(pid, _response(CommandField.N_DELETE, mid, cls, st, sop_instance_uid=inst))

    # --- receiving --------------------------------------------------------------------------------------------------

    def on_receive_c_store_request(
        self,
        pid: int,
        mid: int,
        cls: str,
        inst: str,
        prio: int,
        move_ae: str,
        move_message_id: int,
        ds: EncodedDataset | None,
    ) -> None: ...

    def on_receive_c_store_response(self, pid: int, mid: int, cls: str, inst: str, st: Status) -> None: ...

    def on_receive_c_find_request(self, pid: int, mid: int, cls: str, prio: int, ds: EncodedDataset | None) -> None: ...

    def on_receive_c_find_response(
        self, pid: int, mid: int, cls: str, st: Status, ds: EncodedDataset | None
    ) -> None: ...

    def on_receive_c_get_request(self, pid: int, mid: int, cls: str, prio: int, ds: EncodedDataset | None) -> None: ...

    def on_receive_c_get_response(
        self,
        pid: int,
        mid: int,
        cls: str,
        st: Status,
        remaining: int | None,
        completed: int | None,
        failed: int | None,
        warning: int | None,
        ds: EncodedDataset | None,
    ) -> None: ...

    def on_receive_c_move_request(
        self, pid: int, mid: int, cls: str, prio: int, move_ae: str, ds: EncodedDataset | None
    ) -> None: ...

    def on_receive_c_move_response(
        self,
        pid: int,
        mid: int,
        cls: str,
        st: Status,
        remaining: int | None,
        completed: int | None,
        failed: int | None,
        warning: int | None,
        ds: EncodedDataset | None,
    ) -> None: ...

    def on_receive_c_cancel_request(self, pid: int, mid: int) -> None: ...

    def on_receive_c_echo_request(self, pid: int, mid: int, cls: str) -> None: ...

    def on_receive_c_echo_response(self, pid: int, mid: int, cls: str, st: Status) -> None: ...

    def on_receive_n_report_request(
        self, pid: int, mid: int, cls: str, inst: str, event: int, ds: EncodedDataset | None
    ) -> None: ...

    def on_receive_n_report_response(
        self, pid: int, mid: int, cls: str, inst: str, st: Status, event: int | None, ds: EncodedDataset | None
    ) -> None: ...

    def on_receive_n_get_request(
        self, pid: int, mid: int, cls: str, inst: str, attributes: tuple[int, ...]
    ) -> None: ...

    def on_receive_n_get_response(
        self, pid: int, mid: int, cls: str, inst: str, st: Status, ds: EncodedDataset | None
    ) -> None: ...

    def on_receive_n_set_request(self, pid: int, mid: int, cls: str, inst: str, ds: EncodedDataset | None) -> None: ...

    def on_receive_n_set_response(
        self, pid: int, mid: int, cls: str, inst: str, st: Status, ds: EncodedDataset | None
    ) -> None: ...

    def on_receive_n_action_request(
        self, pid: int, mid: int, cls: str, inst: str, action: int, ds: EncodedDataset | None
    ) -> None: ...

    def on_receive_n_action_response(
        self, pid: int, mid: int, cls: str, inst: str, st: Status, action: int | None, ds: EncodedDataset | None
    ) -> None: ...

    def on_receive_n_create_request(
        self, pid: int, mid: int, cls: str, inst: str, ds: EncodedDataset | None
    ) -> None: ...

    def on_receive_n_create_response(
        self, pid: int, mid: int, cls: str, inst: str, st: Status, ds: EncodedDataset | None
    ) -> None: ...

    def on_receive_n_delete_request(self, pid: int, mid: int, cls: str, inst: str) -> None: ...

    def on_receive_n_delete_response(self, pid: int, mid: int, cls: str, inst: str, st: Status) -> None: ...


# --- tables ---------------------------------------------------------------------------------------------------------

_NAMES = {field: "n_report" if field is CommandField.N_EVENT_REPORT else field.name.lower() for field in CommandField}

_COUNTS = ("remaining", "completed", "failed", "warning")
_CLASS = ("sop_class_uid",)
_INSTANCE = ("sop_class_uid", "sop_instance_uid")

# The arguments after presentation and message ID, by message; "dataset" is the data set that came with it.
_ARGUMENTS: dict[tuple[CommandField, str], tuple[str, ...]] = {
    (CommandField.C_STORE, "request"): (
        *_INSTANCE,
        "priority",
        "move_originator_ae",
        "move_originator_message_id",
        "dataset",
    ),
    (CommandField.C_STORE, "response"): (*_INSTANCE, "status"),
    (CommandField.C_FIND, "request"): (*_CLASS, "priority", "dataset"),
    (CommandField.C_FIND, "response"): (*_CLASS, "status", "dataset"),
    (CommandField.C_GET, "request"): (*_CLASS, "priority", "dataset"),
    (CommandField.C_GET, "response"): (*_CLASS, "status", *_COUNTS, "dataset"),
    (CommandField.C_MOVE, "request"): (*_CLASS, "priority", "move_destination", "dataset"),
    (CommandField.C_MOVE, "response"): (*_CLASS, "status", *_COUNTS, "dataset"),
    (CommandField.C_CANCEL, "request"): (),
    (CommandField.C_ECHO, "request"): _CLASS,
    (CommandField.C_ECHO, "response"): (*_CLASS, "status"),
    (CommandField.N_EVENT_REPORT, "request"): (*_INSTANCE, "event_type_id", "dataset"),
    (CommandField.N_EVENT_REPORT, "response"): (*_INSTANCE, "status", "event_type_id", "dataset"),
    (CommandField.N_GET, "request"): (*_INSTANCE, "attributes"),
    (CommandField.N_GET, "response"): (*_INSTANCE, "status", "dataset"),
    (CommandField.N_SET, "request"): (*_INSTANCE, "dataset"),
    (CommandField.N_SET, "response"): (*_INSTANCE, "status", "dataset"),
    (CommandField.N_ACTION, "request"): (*_INSTANCE, "action_type_id", "dataset"),
    (CommandField.N_ACTION, "response"): (*_INSTANCE, "status", "action_type_id", "dataset"),
    (CommandField.N_CREATE, "request"): (*_INSTANCE, "dataset"),
    (CommandField.N_CREATE, "response"): (*_INSTANCE, "status", "dataset"),
    (CommandField.N_DELETE, "request"): _INSTANCE,
    (CommandField.N_DELETE, "response"): (*_INSTANCE, "status"),
}


def _argument(message: Request | Response, name: str, ds: EncodedDataset | None) -> Any:
    if name == "dataset":
        return ds
    value = getattr(message, name)
    if value is None and name == "move_originator_ae":
        return ""
    if value is None and name == "move_originator_message_id":
        return 0
    return value


def _kind(message: Request | Response) -> str:
    return "request" if type(message) is Request else "response"


def call_name(message: Request | Response) -> str:
    """The method that sends a message."""
    return f"send_{_NAMES[CommandField(message.command)]}_{_kind(message)}"


def callback_name(message: Request | Response) -> str:
    """The method that is told of a message."""
    return f"on_receive_{_NAMES[CommandField(message.command)]}_{_kind(message)}"


def _response(field: CommandField, mid: int, cls: str, st: int, **elements: Any) -> Response:
    try:
        return Response(Status(st), command=field, message_id=mid, sop_class_uid=cls, **elements)
    except ValueError:
        raise LocalProtocolError(f"{st!r} is no status: a 16-bit number") from None


def _counted(
    field: CommandField,
    mid: int,
    cls: str,
    st: int,
    remaining: int | None,
    completed: int | None,
    failed: int | None,
    warning: int | None,
) -> Response:
    return _response(field, mid, cls, st, remaining=remaining, completed=completed, failed=failed, warning=warning)


def _tag(tag: Any) -> int:
    """A tag as an int: an int, a pydicom tag, or a (group, element) pair."""
    return tag[0] << 16 | tag[1] if isinstance(tag, tuple) else int(tag)
