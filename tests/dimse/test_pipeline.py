"""``store_many``: as many C-STOREs outstanding as the operations window allows, from one strand."""

import contextlib

import pytest

from dicomnet.config import Limits, Timeouts
from dicomnet.dimse import operations, pipeline
from dicomnet.dimse.messages import CommandField, Request, Response
from dicomnet.dimse.pipeline import Store, store_many
from dicomnet.dimse.status import Status
from dicomnet.errors import (
    AssociationAborted,
    DeadlineExceeded,
    InvalidDataset,
    RemoteProtocolError,
    TransportError,
)
from dicomnet.ul import pdu
from tests.dimse.memory import (
    CT,
    CT_CONTEXT,
    ECHO_CONTEXT,
    Asking,
    Pair,
    association_request,
    ct,
    echo_request,
    message,
    new_ae,
)

WINDOW = association_request(async_ops=(3, 1))


class Source:
    """Data sets to store, in order. ``said``: what became of each, by its place among them."""

    def __init__(self, *datasets):
        self.waiting = list(enumerate(datasets))
        self.said = {}
        self.prepared = []
        self.most = 0

    def take(self, outstanding):
        self.most = max(self.most, outstanding)
        if not self.waiting:
            return None
        number, dataset = self.waiting.pop(0)
        return Store(CT_CONTEXT, dataset, number)

    def prepare(self, outstanding):
        self.prepared.append(outstanding)

    def done(self, token, answer):
        assert token not in self.said
        self.said[token] = answer

    @property
    def statuses(self):
        return {token: answer.status for token, answer in self.said.items()}


def numbered(count, size=100):
    return [ct(f"1.2.{number}", size) for number in range(count)]


def stored(message_id, status=Status.SUCCESS, data=None):
    response = Response(status, has_dataset=data is not None)
    response.command, response.message_id, response.sop_class_uid = CommandField.C_STORE, message_id, CT
    return message(CT_CONTEXT, response, data)


def ids(heard):
    assert all(type(request) is Request for request in heard)
    return [request.message_id for request in heard]


def test_everything_is_stored_and_each_is_told_once():
    """PS3.7 9.1.1"""
    ae, kept = new_ae(async_ops=(0, 0)), []

    @ae.on_c_store(quick=True)
    def keep(request):
        kept.append(bytes(request.dataset))
        return 0xB000 if len(kept) == 2 else 0

    pair = Pair(ae, async_ops=(4, 1))
    sent = [ct("1.2.1", 100), ct("1.2.2", 0), ct("1.2.3", 300_000), *numbered(20)]
    source = Source(*sent)
    pair.run(store_many(pair.scu, source, 4))
    assert sorted(kept) == sorted(map(bytes, sent))
    assert source.statuses == dict.fromkeys(range(23), 0) | {1: 0xB000}
    assert source.most == 3
    pair.run(pair.scu.release())


def test_as_many_are_outstanding_as_the_window_allows_and_no_more():
    """PS3.7 D.3.3.3: the window is the smaller of what was asked and what was granted."""
    asking = Asking(WINDOW)
    source = Source(*numbered(5))
    task = asking.start(store_many(asking.conversation, source, 16))
    assert ids(asking.side.hears()) == [1, 2, 3]
    assert source.prepared == [3]
    asking.side.says(stored(2))
    assert ids(asking.side.hears()) == [4]
    asking.side.says(stored(1) + stored(4, 0xA700))
    assert ids(asking.side.hears()) == [5]
    asking.side.says(stored(5), stored(3))
    task.result()
    assert source.statuses == {0: 0, 1: 0, 2: 0, 3: 0xA700, 4: 0}
    assert list(source.said) == [1, 0, 3, 4, 2]


def test_fewer_if_the_caller_wants_fewer():
    asking = Asking(WINDOW)
    task = asking.start(store_many(asking.conversation, Source(*numbered(3)), 2))
    assert ids(asking.side.hears()) == [1, 2]
    asking.side.says(stored(1), stored(2))
    asking.side.says(stored(3))
    task.result()
    assert asking.side.window.room == 3


def test_the_inbox_never_holds_so_many_that_nothing_more_is_read():
    """``Limits.inbox`` is for responses that nobody reads."""
    asking = Asking(association_request(async_ops=(0, 1)), limits=Limits(inbox=3))
    task = asking.start(store_many(asking.conversation, Source(*numbered(4)), 16))
    assert ids(asking.side.hears()) == [1, 2]
    asking.side.says(stored(1) + stored(2))
    asking.side.says(stored(3) + stored(4))
    task.result()


def test_small_messages_go_in_one_write_large_ones_by_themselves(monkeypatch):
    """They still arrive in order: fragments of different messages do not mix (PS3.8 E.1)."""
    asking = Asking(association_request(async_ops=(0, 1)))
    writes = []
    flush = asking.side.flush
    monkeypatch.setattr(asking.side, "flush", lambda: writes.append(len(asking.side._sent)) or flush())
    sizes = [100, 100, 30_000, 30_000, 10_000, 100, 300_000, 100]
    source = Source(*[ct(f"1.2.{number}", size) for number, size in enumerate(sizes)])
    task = asking.start(store_many(asking.conversation, source, 16))
    assert ids(asking.side.hears()) == list(range(1, 9))
    assert len(writes) == 1 + 2 + 1  # past 64 KiB; the large one with what waited, in two batches; the rest
    asking.side.says(*[stored(number) for number in range(1, 9)])
    task.result()


def test_the_first_does_not_wait_long_for_others(monkeypatch):
    asking = Asking(WINDOW)
    source = Source(*numbered(3))
    take = source.take
    heard = []

    def slow(outstanding):
        heard.append(len(asking.side._sent) > 0)
        asking.loop.now += 0.01
        return take(outstanding)

    monkeypatch.setattr(source, "take", slow)
    monkeypatch.setattr(pipeline, "_SOON", 0.0)
    asking.start(store_many(asking.conversation, source, 3))
    assert heard == [False, True, True]


def test_what_cannot_be_sent_is_told_and_the_others_go():
    """Nothing of it has gone, so that the association lives on."""
    asking = Asking(WINDOW)

    class Gone:
        sop_class_uid, sop_instance_uid = CT, "1.2.3"

        @contextlib.contextmanager
        def view(self):
            raise InvalidDataset("the file became shorter than it was")
            yield

    class Missing(Gone):
        @contextlib.contextmanager
        def view(self):
            raise FileNotFoundError
            yield

    nameless = ct()
    nameless.sop_instance_uid = "\N{SNOWMAN}" * 70000
    source = Source(Gone(), Missing(), nameless, ct())
    task = asking.start(store_many(asking.conversation, source, 3))
    assert [type(error) for error in source.said.values()][:2] == [InvalidDataset, FileNotFoundError]
    asking.side.hears()
    asking.side.says(*[stored(number) for number in asking.conversation.exchanges.copy()])
    task.result()
    assert source.said[3].status == 0


def test_an_answer_that_is_here_already_is_not_waited_for():
    """Somebody else has read it meanwhile."""
    asking = Asking(WINDOW)
    source = Source(ct())
    take = source.take

    def answered(outstanding):
        if outstanding:
            asking.conversation.receive_data(memoryview(stored(1)), asking.loop.now)
        return take(outstanding)

    source.take = answered
    asking.start(store_many(asking.conversation, source, 3)).result()
    assert source.statuses == {0: 0}
    assert source.prepared == []


def test_what_is_unanswered_when_the_association_ends_was_not_told_of():
    """It can be sent again; what was answered need not be."""
    asking = Asking(WINDOW)
    source = Source(*numbered(5))
    task = asking.start(store_many(asking.conversation, source, 3))
    asking.side.says(stored(1) + pdu.encode(pdu.Abort(0, 0)))
    with pytest.raises(AssociationAborted):
        task.result()
    assert source.statuses == {0: 0}
    assert [number for number, _ in source.waiting] == [3, 4]
    assert not asking.conversation.exchanges
    assert asking.side.window.room == 3


def test_an_end_while_it_waits_is_raised():
    asking = Asking(WINDOW)
    task = asking.start(store_many(asking.conversation, Source(ct()), 3))
    asking.side.closes()
    with pytest.raises(TransportError):
        task.result()


def test_a_connection_that_breaks_in_a_large_one_is_raised():
    asking = Asking(WINDOW)
    asking.side.failure = ConnectionResetError()
    source = Source(ct(size=600_000), ct())
    task = asking.start(store_many(asking.conversation, source, 3))
    with pytest.raises(TransportError):
        task.result()
    assert not source.said
    assert not asking.conversation.exchanges
    assert (asking.side.window.room, asking.side.message.room) == (3, 1)


def test_the_time_limit_begins_anew_with_each_answer():
    """A peer that works off one after the other has ``response`` seconds for each."""
    asking = Asking(WINDOW, timeouts=Timeouts(response=10))
    source = Source(*numbered(4))
    task = asking.start(store_many(asking.conversation, source, 3))
    for number in (1, 2):
        asking.loop.wait(9)
        asking.side.says(stored(number))
    asking.loop.wait(9)
    assert not task.done
    asking.loop.wait(2)
    with pytest.raises(DeadlineExceeded, match="response"):
        task.result()
    assert source.statuses == {0: 0, 1: 0}
    assert asking.side.hears()[-1] == pdu.Abort(0, 0)


def test_without_a_time_limit_it_waits():
    asking = Asking(WINDOW, timeouts=Timeouts(response=None))
    task = asking.start(store_many(asking.conversation, Source(ct()), 3))
    asking.loop.wait(1e6)
    asking.side.says(stored(1))
    task.result()


def test_the_peers_own_requests_are_answered_meanwhile():
    asking = Asking(WINDOW)
    task = asking.start(store_many(asking.conversation, Source(ct()), 3))
    asking.side.hears()
    asking.side.says(message(ECHO_CONTEXT, echo_request(9)))
    assert [(answer.message_id, answer.status) for answer in asking.side.hears()] == [(9, 0x0211)]
    asking.side.says(stored(1))
    task.result()


def test_a_response_to_nothing_ends_the_association():
    """N-25"""
    asking = Asking(WINDOW)
    task = asking.start(store_many(asking.conversation, Source(*numbered(2)), 3))
    asking.side.says(stored(1) + stored(1))
    with pytest.raises(RemoteProtocolError):
        task.result()


def test_a_data_set_that_comes_with_a_response_is_not_kept():
    """PS3.7 9.3.1.2 has none; its memory is given back."""
    asking = Asking(WINDOW)
    source = Source(ct())
    task = asking.start(store_many(asking.conversation, source, 3))
    asking.side.says(stored(1, data=b"1234"))
    task.result()
    assert asking.conversation.held == 0


def test_it_shares_the_association_with_other_operations():
    """Places in the window and the way out are taken in turn."""
    asking = Asking(WINDOW)
    asking.side.window.acquire(False)
    asking.side.window.acquire(False)
    asking.side.window.acquire(False)
    task = asking.start(store_many(asking.conversation, Source(*numbered(2)), 3))
    assert asking.side.hears() == []
    asking.side.window.release()
    asking.loop.settle()
    assert ids(asking.side.hears()) == [1]
    asking.side.message.acquire(False)
    asking.side.says(stored(1))
    assert asking.side.hears() == []
    asking.side.message.release()
    asking.loop.settle()
    assert ids(asking.side.hears()) == [2]
    asking.side.says(stored(2))
    task.result()


def test_cancelled_it_leaves_the_association_usable():
    """The responses that still come hold their places until then."""
    asking = Asking(WINDOW)
    source = Source(*numbered(3))
    task = asking.start(store_many(asking.conversation, source, 3))
    task.cancel()
    with pytest.raises(KeyboardInterrupt):
        task.result()
    assert asking.side.window.room == 0
    other = asking.start(operations.echo(asking.conversation))
    asking.side.says(stored(1), stored(2), stored(3))
    asking.side.hears()
    assert asking.side.window.room == 2
    response = Response(Status.SUCCESS)
    response.message_id = 4
    asking.side.says(message(ECHO_CONTEXT, response))
    assert other.result().status == 0
    assert not source.said


def test_congestion_ends_when_the_responses_are_read(monkeypatch):
    asking = Asking(WINDOW)
    source = Source(*numbered(2))
    resumed = []
    monkeypatch.setattr(asking.side, "resume", lambda: resumed.append(True))
    task = asking.start(store_many(asking.conversation, source, 3))
    asking.side.inbox.append(stored(1))
    asking.loop.settle()
    asking.conversation.congested = True
    asking.conversation.receive_data(memoryview(stored(2)), asking.loop.now)
    asking.loop.settle()
    task.result()
    assert resumed == [True]
