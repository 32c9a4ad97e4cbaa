"""Hypothesis strategies: every DIMSE message as a value.

Only values are drawn that have an encoding of their own: text without padding around it, and in each message only what
PS3.7 Annex E gives it.
"""

from hypothesis import strategies as st

from dicomnet.dimse.messages import CommandField, Request, Response
from dicomnet.dimse.status import Status
from tests.ul.strategies import bytes_2, bytes_4, latin_1, uids

instance_uids = uids | st.text(latin_1, min_size=1, max_size=20).map(lambda text: text.rstrip(" \0") or "1")
texts = st.text(latin_1, max_size=70).map(lambda text: text.strip(" \0"))
ae_titles = st.text(latin_1, min_size=1, max_size=16).map(lambda text: text.strip(" \0") or "AE")
tags = st.lists(bytes_4, max_size=5).map(tuple)

_PRIORITY = {"priority": bytes_2}
_INSTANCE = {"sop_instance_uid": instance_uids}
_ARGUMENTS = {
    CommandField.C_STORE: {
        **_INSTANCE,
        **_PRIORITY,
        "move_originator_ae": st.none() | ae_titles,
        "move_originator_message_id": st.none() | bytes_2,
    },
    CommandField.C_FIND: _PRIORITY,
    CommandField.C_GET: _PRIORITY,
    CommandField.C_MOVE: {**_PRIORITY, "move_destination": ae_titles},
    CommandField.C_ECHO: {},
    CommandField.N_EVENT_REPORT: {**_INSTANCE, "event_type_id": bytes_2},
    CommandField.N_GET: {**_INSTANCE, "attributes": tags},
    CommandField.N_SET: _INSTANCE,
    CommandField.N_ACTION: {**_INSTANCE, "action_type_id": bytes_2},
    CommandField.N_CREATE: {"sop_instance_uid": st.just("") | instance_uids},
    CommandField.N_DELETE: _INSTANCE,
}


def _request(command: CommandField) -> st.SearchStrategy[Request]:
    if command is CommandField.C_CANCEL:
        return st.builds(Request, st.just(command), bytes_2)
    common = {"message_id": bytes_2, "sop_class_uid": instance_uids, "has_dataset": st.booleans()}
    return st.builds(Request, st.just(command), **common, **_ARGUMENTS[command])


def _response(command: CommandField) -> st.SearchStrategy[Response]:
    some = st.none() | bytes_2
    return st.builds(
        Response,
        bytes_2.map(Status),
        error_comment=st.none() | texts.map(lambda text: text[:64].strip(" \0") or None),
        offending_elements=tags,
        error_id=some,
        remaining=some,
        completed=some,
        failed=some,
        warning=some,
        event_type_id=some,
        action_type_id=some,
        sop_class_uid=st.just("") | instance_uids,
        sop_instance_uid=st.just("") | instance_uids,
        command=st.just(command),
        message_id=bytes_2,
        has_dataset=st.booleans(),
    )


requests = st.one_of([_request(command) for command in CommandField])
responses = st.one_of([_response(command) for command in CommandField if command is not CommandField.C_CANCEL])
messages = requests | responses
