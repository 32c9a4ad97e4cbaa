"""The 23 messages of PS3.7 9.3 and 10.3 as values."""

import pytest
from hypothesis import given

from dicomnet.dimse import command as c, messages, templates
from dicomnet.dimse.messages import CommandField, Request, Response, Unusable
from dicomnet.dimse.status import Status
from tests.dimse import strategies


def by_template(message):
    return templates.encode_request(message) if isinstance(message, Request) else templates.encode_response(message)


@given(strategies.messages)
def test_what_is_sent_equals_what_the_peer_gets(message):
    """PS3.7 9.3, 10.3: each of the 23 messages survives encoding and decoding."""
    assert messages.decode(messages.encode(message)) == message


def test_there_are_23_messages():
    """PS3.7 E.1: eleven services with request and response, and C-CANCEL."""
    assert 2 * len(CommandField) - 1 == 23


@given(strategies.messages)
def test_templates_agree_with_the_general_code(message):
    """What has a template is written and read as without it."""
    encoded = messages.encode(message)
    assert by_template(message) in (None, encoded)
    assert templates.decode(encoded) in (None, message)


@pytest.mark.parametrize(
    "message",
    [
        Request(CommandField.C_ECHO, 7, ""),
        Request(CommandField.C_ECHO, 7, "1.2", has_dataset=True),
        Request(CommandField.C_ECHO, 7, "1.2", "3.4"),
        Request(CommandField.C_STORE, 7, "1.2", "3.4", has_dataset=True),
        Request(CommandField.C_STORE, 7, "1.2", "3.4", move_originator_message_id=1),
        Request(CommandField.C_STORE, 7, "1.2", "3.4", priority=0x10000),
        Request(CommandField.N_SET, 7, "1.2", "3.4"),
        Response(0, command=CommandField.C_STORE, sop_class_uid="1.2", sop_instance_uid="3.4"),
        Response(0xC123, command=CommandField.C_STORE, sop_class_uid="1.2"),
        Response(0xC123, command=CommandField.C_STORE, sop_class_uid="1.2", error_id=3),
        Response(0, command=CommandField.C_ECHO, sop_class_uid="1.2", has_dataset=True),
        Response(0, command=CommandField.C_ECHO),
    ],
)
def test_templates_agree_in_the_cases_that_are_nearly_usual(message):
    """As above, and with each byte that can be changed changed."""
    written = by_template(message)
    if written is None:
        return
    assert written == messages.encode(message)
    for at in range(len(written)):
        for value in (0, 1, 2, 0x30, 0x80, 0xFF):
            changed = written[:at] + bytes((value,)) + written[at + 1 :]
            read = templates.decode(changed)
            assert read is None or read == messages.decode(changed)
            read = templates.decode(changed[:at])
            assert read is None or read == messages.decode(changed[:at])


# One request of each service, complete.
REQUESTS = [
    Request(CommandField.C_STORE, 7, "1.2", "3.4", move_originator_ae="AE", move_originator_message_id=1),
    Request(CommandField.C_FIND, 7, "1.2"),
    Request(CommandField.C_GET, 7, "1.2"),
    Request(CommandField.C_MOVE, 7, "1.2", move_destination="AE"),
    Request(CommandField.C_ECHO, 7, "1.2"),
    Request(CommandField.N_EVENT_REPORT, 7, "1.2", "3.4", event_type_id=1),
    Request(CommandField.N_GET, 7, "1.2", "3.4", attributes=(0x00100010,)),
    Request(CommandField.N_SET, 7, "1.2", "3.4"),
    Request(CommandField.N_ACTION, 7, "1.2", "3.4", action_type_id=1),
    Request(CommandField.N_CREATE, 7, "1.2", "3.4"),
    Request(CommandField.N_DELETE, 7, "1.2", "3.4"),
]
OPTIONAL = {
    (CommandField.C_STORE, c.MOVE_ORIGINATOR_AE),
    (CommandField.C_STORE, c.MOVE_ORIGINATOR_MESSAGE_ID),
    (CommandField.N_GET, c.ATTRIBUTE_IDENTIFIER_LIST),
    (CommandField.N_CREATE, c.AFFECTED_SOP_INSTANCE_UID),
}
NEEDED_TO_ANSWER = (c.COMMAND_FIELD, c.MESSAGE_ID, c.DATA_SET_TYPE)


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: request.command.name)
def test_each_element_missing_in_turn(request_):
    """P8: 0212 where an answer is possible, unless the element may be absent."""
    complete = messages.command_set(request_)
    for missing in complete:
        got = messages.from_command_set({number: value for number, value in complete.items() if number != missing})
        if (request_.command, missing) in OPTIONAL:
            assert isinstance(got, Request)
            continue
        assert isinstance(got, Unusable)
        assert got.status is Status.MISTYPED_ARGUMENT
        assert got.message_id == (None if missing in NEEDED_TO_ANSWER else 7)
        if got.message_id is not None:
            assert f"{missing:04X}) is missing" in got.detail


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: request.command.name)
def test_each_element_of_the_wrong_type_in_turn(request_):
    """P8, N-24: mistyped argument 0212, also for what may be absent. Text is text, whatever it says."""
    complete = messages.command_set(request_)
    for wrong, value in complete.items():
        got = messages.from_command_set(complete | {wrong: b"abc"})
        assert isinstance(got, Unusable)
        assert got.status is Status.MISTYPED_ARGUMENT
        assert got.message_id == (None if wrong in NEEDED_TO_ANSWER else 7)
        if got.message_id is not None:
            assert f"{wrong:04X}) is no" in got.detail, value


def test_an_unknown_operation_is_answered_as_such():
    """P8, N-24: field 7777H gets 0211."""
    got = messages.from_command_set({c.COMMAND_FIELD: 0x7777, c.MESSAGE_ID: 7, c.DATA_SET_TYPE: 1})
    assert got == Unusable(0x7777, 7, True, Status.UNRECOGNISED_OPERATION, "command field 7777H")


@pytest.mark.parametrize(
    "elements",
    [
        {c.COMMAND_FIELD: 0x8030, c.STATUS: 0},  # no message ID
        {c.COMMAND_FIELD: 0x8030, c.MESSAGE_ID_BEING_RESPONDED_TO: 1},  # no status
        {c.COMMAND_FIELD: 0x8030, c.MESSAGE_ID_BEING_RESPONDED_TO: 1, c.STATUS: b""},
        {c.COMMAND_FIELD: 0xFFFF, c.MESSAGE_ID_BEING_RESPONDED_TO: 1, c.STATUS: 0},  # of an unknown operation
        {c.COMMAND_FIELD: 0x8FFF, c.MESSAGE_ID_BEING_RESPONDED_TO: 1, c.STATUS: 0},  # C-CANCEL has none
        {c.COMMAND_FIELD: 0x0FFF},  # a C-CANCEL of nothing
    ],
)
def test_what_is_no_request_and_needs_an_element_cannot_be_answered(elements):
    """P8: there is nobody to answer."""
    got = messages.from_command_set(elements | {c.DATA_SET_TYPE: c.NO_DATA_SET})
    assert isinstance(got, Unusable)
    assert got.message_id is None


def test_wrong_optional_elements_of_a_response_are_left_out():
    """What is only told besides the status is no reason to give up (PS3.7 C)."""
    elements = messages.command_set(Response(Status.SUCCESS, message_id=1)) | {c.ERROR_ID: b"abc", c.REMAINING: 3}
    assert messages.from_command_set(elements) == Response(Status.SUCCESS, message_id=1, remaining=3)


def test_a_response_may_name_the_requested_instance():
    """PS3.7 10.3 names the affected one; some answer with what was asked."""
    elements = messages.command_set(Response(0, command=CommandField.N_SET, message_id=1))
    elements[c.REQUESTED_SOP_INSTANCE_UID] = "1.2.3"
    assert messages.from_command_set(elements).sop_instance_uid == "1.2.3"


def test_an_error_comment_is_cut_to_its_64_characters():
    """PS3.7 C: (0000,0902) has VR LO."""
    sent = Response(Status.PROCESSING_FAILURE, error_comment="x" * 100, message_id=1)
    assert messages.decode(messages.encode(sent)).error_comment == "x" * 64


def test_services_have_the_standards_names():
    """PS3.7 E.1."""
    assert messages.service(CommandField.N_EVENT_REPORT) == "N-EVENT-REPORT"
    assert messages.service(0x7777) == "command 7777H"


@pytest.mark.parametrize(
    "message",
    [
        Request(CommandField.C_ECHO, 0x10000, "1.2"),
        Response(0, command=CommandField.C_ECHO, message_id=0x10000, sop_class_uid="1.2"),
    ],
)
def test_a_value_out_of_range_has_no_template(message):
    """PS3.7 E.1: Message ID is a US; the general code says what is wrong."""
    assert by_template(message) is None
    with pytest.raises(ValueError, match=r"0110|0120"):
        messages.encode(message)
