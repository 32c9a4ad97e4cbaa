"""Messages from fragments (PS3.7 6.3, PS3.8 E): whatever the pieces, the messages are the same; nothing is joined."""

import pytest
from hypothesis import given, strategies as st

from dicomnet.config import Limits, Timeouts
from dicomnet.dimse import messages
from dicomnet.dimse.messages import CommandField, Request, Response, Unusable
from dicomnet.dimse.stream import Message, MessageStream
from dicomnet.ul import events, pdu
from dicomnet.ul.association import Association
from dicomnet.ul.framer import batches
from tests.dimse import strategies
from tests.dimse.memory import (
    CT_CONTEXT,
    ECHO_CONTEXT,
    PROVIDER_ABORT,
    association_request,
    echo_request,
    message,
    new_ae,
    p_data,
    store_request,
)
from tests.ul.dialogue import pdus_in
from tests.ul.strategies import chunkings

NOW = 1000.0


class Recorder:
    """A sink that keeps what it is told. As a real one it may look at a piece until ``flush`` returns, not later."""

    def __init__(self, command, context):
        self.command = command
        self.context = context
        self.data = b""
        self.sizes = []
        self.done = None
        self._pieces = []

    def write(self, piece):
        assert isinstance(piece, memoryview)
        self.sizes.append(len(piece))
        self._pieces.append(piece)

    def flush(self):
        self.data += b"".join(self._pieces)
        self._pieces.clear()

    def close(self):
        assert not self._pieces
        self.done = "closed"
        return self

    def discard(self):
        self.done = "discarded"


class Receiver:
    """An acceptor's stream in an association. Its buffer is overwritten after each call, as a socket's is."""

    def __init__(self, **options):
        request = association_request()
        self.association = Association(requestor=False, timeouts=Timeouts())
        self.association.transport_opened(NOW)
        self.association.receive_data(pdu.encode(request), NOW)
        self.association.accept(new_ae().answer(request), NOW)
        self.association.data_to_send()
        self.association.events()
        self.sinks = []
        self.stream = MessageStream(self.association, self._open, Limits(**options))

    def _open(self, command, context):
        self.sinks.append(Recorder(command, context))
        return self.sinks[-1]

    def receives(self, *parts):
        buffer = bytearray(b"".join(part if isinstance(part, bytes) else pdu.encode(part) for part in parts))
        happened = self.stream.receive_data(memoryview(buffer), NOW)
        for index in range(len(buffer)):
            buffer[index] = 0xEE
        return happened

    def sends(self):
        return pdus_in(b"".join(self.association.data_to_send()))


def fails(happened, wrong):
    """The last event tells what the peer did wrong; it was aborted with 2/6 (PS3.8 Table 9-26)."""
    assert isinstance(happened[-1], events.PeerFailed)
    assert wrong in happened[-1].detail
    return True


# --- messages -------------------------------------------------------------------------------------------------------


even_data = st.binary(max_size=60).map(lambda data: data[len(data) & 1 :])  # as data sets are (PS3.5 7.1.1)


@st.composite
def dialogues(draw):
    """(context, message, data set or None) of several messages, and the bytes that carry them in small PDUs."""
    sent, encoded = [], b""
    for command in draw(st.lists(strategies.messages, min_size=1, max_size=4)):
        data = draw(even_data) if command.has_dataset else None
        context = draw(st.sampled_from((ECHO_CONTEXT, CT_CONTEXT)))
        sent.append((context, command, data))
        view = None if data is None else memoryview(data)
        most = draw(st.sampled_from((8, 20, 64, 0)))
        for batch in batches(context, messages.encode(command), view, most):
            encoded += b"".join(batch)
    return sent, encoded


@given(dialogues(), st.data())
def test_any_segments_give_the_same_messages_and_their_sinks_the_same_bytes(dialogue, data):
    """N-18, N-20, PS3.8 E.1: data set bytes arrive exactly, whatever PDUs and segments carry them."""
    sent, encoded = dialogue
    receiver = Receiver()
    happened = [event for chunk in data.draw(chunkings(encoded)) for event in receiver.receives(chunk)]
    assert [(got.context_id, got.command, got.dataset and got.dataset.data) for got in happened] == [
        (context, command, received) for context, command, received in sent
    ]
    assert [got.command_set for got in happened] == [messages.encode(command) for _context, command, _data in sent]
    assert [sink.data for sink in receiver.sinks] == [received for _c, _m, received in sent if received is not None]
    assert all(sink.done == "closed" for sink in receiver.sinks)
    assert not receiver.stream.mid_message


def test_a_data_set_is_never_joined():
    """Bytes are not copied: each piece goes to the sink as it arrives."""
    receiver = Receiver()
    receiver.receives(message(CT_CONTEXT, store_request()))
    for size in (10, 0, 3000, 1):
        receiver.receives(p_data(CT_CONTEXT, b"x" * size, is_last=False))
    (got,) = receiver.receives(p_data(CT_CONTEXT, b"end"))
    assert got.dataset.sizes == [10, 3000, 1, 3]
    assert got.dataset.data == b"x" * 3011 + b"end"
    assert got.dataset.context.id == CT_CONTEXT
    assert got.dataset.command == store_request()


def test_an_empty_last_fragment_ends_a_data_set():
    """N-20."""
    receiver = Receiver()
    receiver.receives(message(CT_CONTEXT, store_request()), p_data(CT_CONTEXT, b"all", is_last=False))
    (got,) = receiver.receives(p_data(CT_CONTEXT, b""))
    assert got.dataset.data == b"all"


def test_a_data_set_that_nobody_can_use_is_received_all_the_same():
    """P8, P11: the message is answered (0211, 0212), and the next one begins where it ends."""
    receiver = Receiver()
    unknown = messages.command_set(store_request()) | {0x0100: 0x7777}
    first, second = receiver.receives(
        message(CT_CONTEXT, messages.c.encode(unknown), b"data"), message(ECHO_CONTEXT, echo_request(2))
    )
    assert isinstance(first.command, Unusable)
    assert first.dataset.data == b"data"
    assert second == Message(ECHO_CONTEXT, echo_request(2), None, messages.encode(echo_request(2)))


def test_several_messages_come_in_one_segment_or_one_pdu():
    """P7."""
    receiver = Receiver()
    one, two = echo_request(1), echo_request(2)
    pdvs = tuple(pdu.Pdv(ECHO_CONTEXT, True, True, messages.encode(command)) for command in (one, two))
    happened = receiver.receives(pdu.PDataTf(pdvs), message(ECHO_CONTEXT, echo_request(3)))
    assert [got.command.message_id for got in happened] == [1, 2, 3]


def test_reserved_bits_of_the_message_control_header_are_not_tested():
    """N-19, P4: flags FFH mean a last fragment of a command set."""
    encoded = bytearray(message(ECHO_CONTEXT, echo_request()))
    encoded[11] = 0xFF
    (got,) = Receiver().receives(bytes(encoded))
    assert got.command == echo_request()


def test_more_is_expected_from_the_first_byte_of_a_message_to_its_last():
    """Also within a PDU header, and between the PDUs of a message."""
    receiver = Receiver()
    whole = message(CT_CONTEXT, store_request(), b"data")
    for at in range(len(whole)):
        assert receiver.stream.expects_more == (at > 0)
        receiver.receives(whole[at : at + 1])
    assert not receiver.stream.expects_more


# --- what the peer does wrong ---------------------------------------------------------------------------------------


def test_a_data_set_before_its_command_set_is_refused():
    """P6: 2/6."""
    receiver = Receiver()
    assert fails(receiver.receives(p_data(CT_CONTEXT, b"data")), "no command set announced")
    assert receiver.sends() == [PROVIDER_ABORT]


def test_a_data_set_after_half_a_command_set_is_refused():
    """P6."""
    receiver = Receiver()
    half = p_data(CT_CONTEXT, b"\0" * 4, is_command=True, is_last=False)
    assert fails(receiver.receives(half, p_data(CT_CONTEXT, b"data")), "no command set announced")


def test_a_command_set_where_a_data_set_was_announced_is_refused_and_nothing_left_behind():
    """P5, P6."""
    receiver = Receiver()
    begun = message(CT_CONTEXT, store_request()), p_data(CT_CONTEXT, b"half", is_last=False)
    assert receiver.receives(*begun) == []
    assert fails(receiver.receives(message(CT_CONTEXT, store_request(2))), "where a data set was announced")
    assert receiver.sends() == [PROVIDER_ABORT]
    assert receiver.sinks[0].done == "discarded"


def test_interleaved_contexts_are_refused():
    """N-18, P5."""
    receiver = Receiver()
    begun = message(CT_CONTEXT, store_request()), p_data(CT_CONTEXT, b"half", is_last=False)
    assert fails(receiver.receives(*begun, message(ECHO_CONTEXT, echo_request())), "contexts 3 and 1 interleave")
    assert receiver.sinks[0].done == "discarded"


def test_a_command_set_is_bounded():
    """P8: 64 KiB by default; one that is longer is refused when it passes that, not when it is complete."""
    receiver = Receiver(command_set=100)
    piece = p_data(ECHO_CONTEXT, bytes(50), is_command=True, is_last=False)
    assert receiver.receives(piece, piece) == []
    assert fails(receiver.receives(p_data(ECHO_CONTEXT, b"\0", is_command=True, is_last=False)), "more than 100 bytes")
    assert Limits().command_set == 64 * 1024


@pytest.mark.parametrize("size", [65, 1000])
def test_one_fragment_may_not_pass_the_bound_either(size):
    """P8."""
    receiver = Receiver(command_set=64)
    assert fails(receiver.receives(p_data(ECHO_CONTEXT, bytes(size), is_command=True)), "more than 64 bytes")


@pytest.mark.parametrize(
    ("command_set", "wrong"),
    [
        (b"", "no Command Field"),
        (b"garbage!", "in a command set"),
        (messages.encode(echo_request())[:-1], "announces 2 bytes"),
        (messages.c.encode({0x0100: 0x0030, 0x0800: 0x0101}), "no Message ID"),
        (messages.c.encode({0x0100: 0x8030, 0x0800: 0x0101, 0x0120: 1}), "without Message ID or Status"),
    ],
)
def test_a_command_set_that_cannot_be_answered_ends_the_association(command_set, wrong):
    """P8."""
    receiver = Receiver()
    assert fails(receiver.receives(p_data(ECHO_CONTEXT, command_set, is_command=True)), wrong)
    assert receiver.sends() == [PROVIDER_ABORT]


def test_a_release_in_mid_message_is_refused_and_not_told():
    """P6, W13: announced and never sent, then release: abort, no file left. Nobody is asked to confirm the release."""
    receiver = Receiver()
    happened = receiver.receives(message(CT_CONTEXT, store_request()), pdu.ReleaseRq())
    assert fails(happened, "a release in mid-message")
    assert len(happened) == 1
    assert receiver.sends() == [PROVIDER_ABORT]
    assert receiver.sinks[0].done == "discarded"


@pytest.mark.parametrize(
    ("end", "told"),
    [
        (pdu.Abort(0, 0), events.AbortReceived(0, 0, pdu.encode(pdu.Abort(0, 0)))),
        (b"\x63\0\0\0\0\0", events.PeerFailed(2, 1, "PDU type 63H")),
    ],
)
def test_an_association_that_ended_in_the_same_segment_is_told_to_have_ended(end, told):
    """W13: the wrong fragment came first, but the association was over before anybody could see it."""
    receiver = Receiver()
    happened = receiver.receives(p_data(CT_CONTEXT, b"no command"), message(ECHO_CONTEXT, echo_request()), end)
    assert happened == [told]


def test_a_connection_that_breaks_in_mid_message_leaves_nothing_behind():
    """N1, N2."""
    receiver = Receiver()
    receiver.receives(message(CT_CONTEXT, store_request()), p_data(CT_CONTEXT, b"half", is_last=False))
    assert receiver.stream.mid_message
    receiver.association.receive_eof(NOW)
    assert receiver.stream.events(NOW) == [events.TransportClosed()]
    assert receiver.sinks[0].done == "discarded"
    receiver.stream.discard()  # twice does no harm


def test_an_abort_in_mid_message_leaves_nothing_behind():
    """W13."""
    receiver = Receiver()
    receiver.receives(message(CT_CONTEXT, store_request()), p_data(CT_CONTEXT, b"half", is_last=False))
    happened = receiver.receives(pdu.Abort(0, 0))
    assert isinstance(happened[0], events.AbortReceived)
    assert receiver.sinks[0].done == "discarded"


DOCUMENTED = (Message, *events.UlEvent.__args__)
fragments = st.builds(
    lambda context, command, last, data: pdu.encode(p_data(context, data, is_command=command, is_last=last)),
    st.sampled_from((ECHO_CONTEXT, CT_CONTEXT)),
    st.booleans(),
    st.booleans(),
    st.binary(max_size=20) | strategies.messages.map(messages.encode),
)


@given(st.lists(fragments | st.sampled_from((pdu.encode(pdu.ReleaseRq()), pdu.encode(pdu.Abort(0, 0)))), max_size=8))
def test_random_fragments_never_raise(sent):
    """P5, P6, P8: what comes of them is a message, an event, or an abort; every sink is closed or discarded."""
    receiver = Receiver()
    happened = []
    for segment in sent:
        happened += receiver.receives(segment)
    receiver.association.receive_eof(NOW)
    happened += receiver.stream.events(NOW)
    assert all(isinstance(event, DOCUMENTED) for event in happened)
    for event in happened:
        if isinstance(event, Message):
            assert isinstance(event.command, Request | Response | Unusable)
    assert all(sink.done in ("closed", "discarded") for sink in receiver.sinks)


@given(dialogues(), st.data())
def test_a_message_goes_out_in_even_fragments_that_fit_the_peer(dialogue, data):
    """N-17, N-18: never more than the peer's maximum length, however small."""
    receiver = Receiver()
    receiver.association.peer_max_length = data.draw(st.sampled_from((8, 9, 16, 1000)))
    for context, command, received in dialogue[0]:
        view = None if received is None else memoryview(received)
        sent = b"".join(b"".join(batch) for batch in receiver.stream.batches(context, messages.encode(command), view))
        for part in pdus_in(sent):
            assert len(pdu.encode(part)) - 6 <= receiver.association.peer_max_length
            for pdv in part.pdvs:
                assert pdv.context_id == context
                assert pdv.is_last or len(pdv.data) % 2 == 0


def test_nothing_but_a_cancel_request_is_a_cancel_request():
    """PS3.7 9.3.2.3: a C-CANCEL carries the ID of the request to cancel, and no data set."""
    (got,) = Receiver().receives(message(CT_CONTEXT, Request(CommandField.C_CANCEL, 9)))
    assert got.command == Request(CommandField.C_CANCEL, 9)
