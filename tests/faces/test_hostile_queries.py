"""Queries, retrieval and several operations at once, with peers, handlers and callers that do their worst.

What is decided without a socket is tested in ``tests/dimse/test_hostile.py``; here is what the faces make of it.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

import dicomnet
from dicomnet import EncodedDataset, Limits, LocalProtocolError
from dicomnet.dimse import messages
from dicomnet.dimse.messages import CommandField, Request, Response
from dicomnet.ul import negotiation, pdu
from tests.faces.conftest import QUICK, eventually, quick, spooled
from tests.faces.face import Face
from tests.faces.queries import CONTEXTS, FIND, GET, MPPS, Beside, MakeScp, ids, image, reached, study
from tests.faces.wire import CT, GIVEN_UP, RELEASE_RP, Scripted, Wire, message

IDS = {(item if isinstance(item, str) else item[0]): 2 * index + 1 for index, item in enumerate(CONTEXTS)}
ECHO = IDS[dicomnet.Verification]
ENCODED = bytes(EncodedDataset.from_dataset(study()))


@pytest.fixture
def same(server_face: Face) -> Face:
    """Both ends on one face, where one end is tested and the other could be any."""
    return server_face


def request(**options: Any) -> pdu.AssociateRq:
    return negotiation.request("SCP", "WIRE", CONTEXTS, **options)


def echo(message_id: int) -> bytes:
    return message(ECHO, Request(CommandField.C_ECHO, message_id, dicomnet.Verification))


def find(message_id: int) -> bytes:
    return message(IDS[FIND], Request(CommandField.C_FIND, message_id, FIND, has_dataset=True), ENCODED)


def event(message_id: int) -> bytes:
    return message(IDS[MPPS], Request(CommandField.N_EVENT_REPORT, message_id, MPPS, "1.2.9", event_type_id=1))


def cancel(message_id: int) -> bytes:
    return message(IDS[FIND], Request(CommandField.C_CANCEL, message_id))


def store(message_id: int) -> bytes:
    instance = image(message_id)
    asked = Request(CommandField.C_STORE, message_id, CT, instance.sop_instance_uid, has_dataset=True)
    return message(IDS[CT], asked, bytes(instance))


def answer(command: CommandField, context_id: int, message_id: int = 1, status: int = 0) -> bytes:
    return message(context_id, Response(status, command=command, message_id=message_id))


def match(message_id: int = 1) -> bytes:
    pending = Response(0xFF00, command=CommandField.C_FIND, message_id=message_id, has_dataset=True)
    return message(IDS[FIND], pending, ENCODED)


class Talk:
    """An end of an association, played by the test: it hears whole messages."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire

    def accepts(self) -> Talk:
        asked = self.wire.hears()
        assert isinstance(asked, pdu.AssociateRq)
        return self.says(pdu.encode(dicomnet.AE("SCP", contexts=CONTEXTS, async_ops=(0, 0)).answer(asked)))

    def says(self, *parts: bytes) -> Talk:
        self.wire.sends(*parts)
        return self

    def hears(self) -> Any:
        """The next request or response, without its data set; a PDU of another kind; None at the end."""
        while isinstance(heard := self.wire.hears(), pdu.PDataTf):
            for fragment in heard.pdvs:
                if fragment.is_command:
                    return messages.decode(fragment.data)
        return heard

    def ends(self) -> None:
        assert isinstance(self.hears(), pdu.ReleaseRq)
        self.says(pdu.encode(RELEASE_RP))


def scripted(script: Callable[[Talk], Any]) -> Scripted:
    return Scripted(lambda wire: script(Talk(wire).accepts()))


# --- as the requestor -----------------------------------------------------------------------------------------------


def test_a_peer_that_stores_on_after_a_get_was_left(client: Face) -> None:
    """PS3.4 C.4.3: a synchronous peer sees no C-CANCEL before its C-STORE is answered; nobody waits for the other."""

    def script(talk: Talk) -> None:
        assert talk.hears().command == CommandField.C_GET
        talk.says(store(1), store(2))
        answers = {}
        while len(answers) < 2:
            heard = talk.hears()
            if isinstance(heard, Response):
                answers[heard.message_id] = heard.status
        assert answers == {1: 0, 2: 0x0211}
        talk.says(answer(CommandField.C_GET, IDS[GET], 1, 0xFE00))
        while (heard := talk.hears()).command != CommandField.C_ECHO:
            pass
        talk.says(answer(CommandField.C_ECHO, ECHO, heard.message_id)).ends()

    with scripted(script) as peer, client.associate(peer.peer, contexts=CONTEXTS) as association:
        for instance in association.c_get(study()):
            assert instance.sop_instance_uid == "1.2.3.1"
            break
        assert association.c_echo().status == 0


def test_instances_that_were_not_read_go_with_the_association(client: Face, tmp_path: Any) -> None:
    """§4: no file is left when the results are."""
    spool = tmp_path / "spool"
    spool.mkdir()

    def script(talk: Talk) -> None:
        talk.hears()
        talk.says(store(1), store(2), store(3))
        talk.wire.may_end.wait(GIVEN_UP)

    options = {"contexts": CONTEXTS, "spool_folder": spool, "limits": Limits(spool_size=1)}
    with scripted(script) as peer:
        association = client.associate(peer.peer, **options)
        results = association.c_get(study())
        first = next(iter(results))
        eventually(lambda: spooled(spool), "it is in a file")
        association.abort()
        results.close()
        first.close()
        eventually(lambda: not spooled(spool), "the files are gone")
        peer.may_end.set()
    assert results.response is None


def test_a_verification_has_one_response(client: Face) -> None:
    """N-25: a peer may not drag it out."""

    def script(talk: Talk) -> None:
        talk.hears()
        talk.says(*[answer(CommandField.C_ECHO, ECHO, 1, 0xFF00)] * 3)
        talk.wire.hears_to_the_end()

    with scripted(script) as peer:
        association = client.associate(peer.peer, contexts=CONTEXTS)
        assert association.c_echo().status == 0xFF00
        with pytest.raises(dicomnet.DicomNetworkError):
            association.c_echo()


def test_a_flood_of_requests_does_not_put_a_response_off(client: Face) -> None:
    """P12: the time limit for a response is absolute."""

    def script(talk: Talk) -> None:
        talk.hears()
        draining = Beside(talk.wire.hears_to_the_end)
        number = 0
        while talk.wire.tries_to_send(event(number % 0xFFFF + 1)):
            number += 1
        draining.result()

    with scripted(script) as peer:
        association = client.associate(peer.peer, contexts=CONTEXTS, timeouts=quick("response", "closing"))
        with pytest.raises(dicomnet.DeadlineExceeded, match="response"):
            association.c_echo()


def test_a_flood_of_requests_does_not_keep_a_listener(client: Face) -> None:
    """``listen(seconds)``."""

    def script(talk: Talk) -> None:
        draining = Beside(talk.wire.hears_to_the_end)
        number = 0
        while talk.wire.tries_to_send(event(number % 0xFFFF + 1)):
            number += 1
        draining.result()

    with scripted(script) as peer:
        association = client.associate(peer.peer, contexts=CONTEXTS)
        assert association.listen(QUICK) is False
        association.abort()


@pytest.mark.parametrize("client", ["blocking"], indirect=True)  # an event loop reads all the time
def test_a_reader_that_takes_his_time_is_not_the_peers_fault(client: Face) -> None:
    """timeouts.pdu is for peers that stall; on the blocking face nobody reads while nobody asks."""
    read, asked = threading.Event(), threading.Event()
    half = match()

    def script(talk: Talk) -> None:
        talk.hears()
        talk.says(match() + half[:50])
        reached(asked)
        assert not read.wait(QUICK / 3)
        talk.says(half[50:], answer(CommandField.C_FIND, IDS[FIND])).ends()

    with (
        scripted(script) as peer,
        client.associate(peer.peer, contexts=CONTEXTS, timeouts=quick("pdu")) as association,
    ):
        results = iter(association.c_find(study()))
        next(results)
        assert not read.wait(1.1)  # longer than timeouts.pdu, and than anybody needs who reads
        rest = Beside(lambda: ids(results))
        asked.set()
        assert rest.result() == ["P0"]


def test_results_that_two_read_at_once(client: Face) -> None:
    """They are for one at a time: the second is told so, the first gets what comes."""
    go = threading.Event()

    def script(talk: Talk) -> None:
        talk.hears()
        reached(go)
        talk.says(match(), answer(CommandField.C_FIND, IDS[FIND])).ends()

    with scripted(script) as peer, client.associate(peer.peer, contexts=CONTEXTS) as association:
        results = association.c_find(study())
        told: list[Any] = []
        both = [Beside(lambda: told.append(_read(results))) for _ in range(2)]
        eventually(lambda: told, "the second is told")
        go.set()
        for one in both:
            one.result()
    assert isinstance(told[0], LocalProtocolError)
    assert told[1] == ["P0"]


def _read(results: Any) -> Any:
    try:
        return ids(results)
    except LocalProtocolError as error:
        return error


def test_closing_results_from_elsewhere_ends_the_loop(client: Face) -> None:
    """Who reads them is told, and does not wait for a response that nobody would give him."""
    reading = threading.Event()

    def script(talk: Talk) -> None:
        talk.hears()
        talk.says(match())
        assert talk.hears().command == CommandField.C_CANCEL
        talk.says(match(), answer(CommandField.C_FIND, IDS[FIND], 1, 0xFE00))
        heard = talk.hears()
        talk.says(answer(CommandField.C_ECHO, ECHO, heard.message_id)).ends()

    def loop(results: Any) -> None:
        for _ in results:
            reading.set()

    with scripted(script) as peer, client.associate(peer.peer, contexts=CONTEXTS) as association:
        results = association.c_find(study())
        reader = Beside(lambda: loop(results))
        reached(reading)
        eventually(lambda: _waits(results), "it waits for the next")
        results.close()
        with pytest.raises(LocalProtocolError, match="was closed"):
            reader.result()
        assert association.c_echo().status == 0


def _waits(results: Any) -> bool:
    inside = getattr(results, "_inside", results)
    return bool(inside._results._reading)


def test_leaving_the_block_with_a_query_under_way(client: Face, scp: MakeScp) -> None:
    """It is the caller's error, and nothing is left of the association (conftest)."""
    acceptor = scp(contexts=CONTEXTS)
    acceptor.ae.on_c_find(lambda request: [study(1), study(2)])
    with (
        pytest.raises(LocalProtocolError, match="outstanding"),
        client.associate(acceptor.peer, contexts=CONTEXTS) as association,
    ):
        kept = iter(association.c_find(study()))
        next(kept)
    assert isinstance(acceptor.close_errors(1)[0], dicomnet.AssociationAborted)


@pytest.mark.parametrize("client", ["blocking"], indirect=True)  # asyncio leaves it to the event loop
def test_dropping_results_amidst_a_message_of_the_same_thread(client: Face, scp: MakeScp) -> None:
    """A collector may come at any moment; it waits for nothing. The C-CANCEL goes out with the next request."""
    acceptor, ended = scp(contexts=CONTEXTS), threading.Event()

    def search(request: Any) -> Any:
        try:
            for number in range(1_000_000):
                yield study(number)
        finally:
            ended.set()

    acceptor.ae.on_c_find(search)
    with client.associate(acceptor.peer, contexts=CONTEXTS) as association:
        for lock in (association._connection.message, association._connection._flush_lock):
            ended.clear()
            kept = [association.c_find(study())]
            next(iter(kept[0]))

            def drop(lock: Any = lock, kept: Any = kept) -> None:
                with lock:
                    kept.clear()

            Beside(drop).result()
            assert association.c_echo().status == 0
            reached(ended)


def test_leaving_a_block_whose_association_was_found_dead(client: Face) -> None:
    """Nothing is left (conftest): whoever found that out may not have been able to close it."""
    seen, gone = threading.Event(), threading.Event()

    def script(talk: Talk) -> None:
        talk.hears()
        talk.says(match())
        reached(seen)
        talk.wire.resets()
        gone.set()

    with scripted(script) as peer, client.associate(peer.peer, contexts=CONTEXTS) as association:
        for _ in association.c_find(study()):
            seen.set()
            reached(gone)
            break
        eventually(lambda: _is_over(client, association), "it is found out")


def _is_over(client: Face, association: Any) -> bool:
    inside = getattr(association, "_inside", association)
    if client.module is dicomnet:
        with inside._connection._turn:
            inside._connection._poll()
    return bool(inside._conversation.over)


# --- as the acceptor ------------------------------------------------------------------------------------------------


class Crowd:
    """A handler that lets nobody out before it is told; ``most``: how many were in it at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self.most = 0
        self.out = threading.Event()

    def __call__(self, _request: Any) -> int:
        with self._lock:
            self._inside += 1
            self.most = max(self.most, self._inside)
        reached(self.out)
        with self._lock:
            self._inside -= 1
        return 0


def test_an_unlimited_window_is_no_unlimited_number_of_threads(same: Face, scp: MakeScp) -> None:
    """Limits.operations: one segment may bring hundreds of requests."""
    crowd = Crowd()
    acceptor = scp(contexts=CONTEXTS, async_ops=(0, 0), limits=Limits(operations=4))
    acceptor.ae.on_c_echo(crowd)
    count = 200
    with Wire.associated(acceptor.port, request(async_ops=(0, 0))) as wire:
        wire.sends(*[echo(number) for number in range(1, count + 1)])
        eventually(lambda: crowd.most >= 4, "as many as may are at work")
        crowd.out.set()
        heard = [wire.hears_message() for _ in range(count)]
    assert {(response.status, type(response)) for response in heard} == {(0, Response)}
    assert {response.message_id for response in heard} == set(range(1, count + 1))
    assert crowd.most == 4


@pytest.mark.parametrize("server_face", ["blocking"], indirect=True)  # on asyncio only coroutines can
@pytest.mark.parametrize("kind", ["function", "generator"])
def test_a_handler_closes_the_server(same: Face, scp: MakeScp, kind: str) -> None:
    """``Server.close``: it returns at once, wherever this face runs the handlers of an operations window."""
    acceptor = scp(contexts=CONTEXTS, async_ops=(3, 1))
    server = acceptor.server
    inside, seconds = getattr(server, "_inside", server), threading.Event()

    def close(_request: Any) -> int:
        inside.close()
        seconds.set()
        return 0

    def generate(request: Any) -> Any:
        close(request)
        yield study(1)

    acceptor.ae.on_c_echo(close)
    acceptor.ae.on_c_find(generate)
    with same.associate(acceptor.peer, contexts=CONTEXTS, async_ops=(3, 1)) as association:
        if kind == "function":
            assert association.c_echo().status == 0
        else:
            assert ids(association.c_find(study())) == ["P1"]
        assert seconds.is_set()
    eventually(lambda: inside.wait(0), "the server is closed")


@pytest.mark.parametrize("window", [1, 3])
def test_a_peer_that_does_not_read_its_matches(same: Face, scp: MakeScp, window: int) -> None:
    """N5: timeouts.send ends the association, the handler and all threads, also where idle peers may stay for ever."""
    ended = threading.Event()
    acceptor = scp(contexts=CONTEXTS, async_ops=(window, 1), timeouts=quick("send", idle=None))

    @acceptor.ae.on_c_find
    def search(request: Any) -> Any:
        big = study(1, StudyComments="x" * 10_000)
        try:
            for _ in range(100_000):
                yield big
        finally:
            ended.set()

    with Wire.to(acceptor.port) as wire:
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        wire.sends(request(async_ops=(window, 1)))
        assert isinstance(wire.hears(), pdu.AssociateAc)
        wire.sends(find(1))
        reached(ended)
        (error,) = acceptor.close_errors(1)
    assert isinstance(error, dicomnet.DeadlineExceeded)
    assert error.timer == "send"


def test_a_flood_of_cancels(same: Face, scp: MakeScp) -> None:
    """N-26: they mean nothing, cost nothing, and are not for the next request of that number."""
    acceptor = scp(contexts=CONTEXTS)
    acceptor.ae.on_c_find(lambda request: (study(number) for number in range(2)))
    with Wire.associated(acceptor.port, request()) as wire:
        talk = Talk(wire)
        wire.sends(*[cancel(number % 100) for number in range(20_000)], echo(7), cancel(7))
        assert talk.hears().status == 0
        wire.sends(find(7))
        assert [talk.hears().status for _ in range(3)] == [0xFF00, 0xFF00, 0]


def test_a_flood_of_doubled_requests_while_a_query_runs(same: Face, scp: MakeScp) -> None:
    """N-23, P12: they are refused; so many that nobody could answer them end the association and the handler."""
    ended = threading.Event()
    acceptor = scp(contexts=CONTEXTS, limits=Limits(operations=2), async_ops=(1, 1))

    @acceptor.ae.on_c_find
    def search(request: Any) -> Any:
        try:
            while True:
                yield study(1)
        finally:
            ended.set()

    with Wire.associated(acceptor.port, request(async_ops=(1, 1))) as wire:
        draining = Beside(wire.hears_to_the_end)
        wire.tries_to_send(find(1))
        while wire.tries_to_send(*[echo(1)] * 100):
            pass
        reached(ended)
        draining.result()
    acceptor.close_errors(1)


@pytest.mark.parametrize("server_face", ["blocking"], indirect=True)  # asyncio lets it end the event loop
def test_a_handler_that_exits(same: Face, scp: MakeScp) -> None:
    """K3: ``sys.exit`` in a thread ends what that does; the peer is told."""
    acceptor = scp(contexts=CONTEXTS, async_ops=(3, 1))
    acceptor.ae.on_c_echo(_exit)
    with same.associate(acceptor.peer, contexts=CONTEXTS, async_ops=(3, 1)) as association:
        assert association.c_echo().status == 0x0110
        assert association.c_echo().status == 0x0110
    assert acceptor.close_errors(1) == [None]


def _exit(_request: Any) -> None:
    raise SystemExit


@pytest.mark.parametrize("server_face", ["blocking"], indirect=True)  # on asyncio the end of a generator cannot await
def test_a_handler_asks_the_peer_when_its_generator_is_closed(same: Face, scp: MakeScp) -> None:
    """The user's code holds no lock of ours, wherever it runs."""
    acceptor, asked = scp(contexts=CONTEXTS), threading.Event()

    class Found:
        def __iter__(self) -> Any:
            assert self.request.association.scu.c_echo().status == 0
            try:
                for number in range(1_000_000):
                    yield study(number)
            finally:
                assert self.request.association.scu.c_echo().status == 0
                asked.set()

        def __init__(self, request: Any) -> None:
            self.request = request

    acceptor.ae.on_c_find(Found)
    with same.associate(acceptor.peer, contexts=CONTEXTS, ae=dicomnet.AE("SCU")) as association:
        for _ in association.c_find(study()):
            break
        assert association.c_echo().status == 0
        assert asked.is_set()


@pytest.mark.parametrize("server_face", ["blocking"], indirect=True)  # on asyncio it is a matter of the event loop
def test_a_handler_asks_the_peer_from_another_thread(same: Face, scp: MakeScp) -> None:
    """``request.association.scu``: the handler waits, the other thread reads."""
    acceptor = scp(contexts=CONTEXTS)

    @acceptor.ae.on_c_echo
    def handle(request: Any) -> int:
        return int(Beside(request.association.scu.c_echo).result().status)

    with same.associate(acceptor.peer, contexts=CONTEXTS, ae=dicomnet.AE("SCU")) as association:
        assert association.c_echo().status == 0


def test_a_release_that_crosses_a_report(same: Face, scp: MakeScp) -> None:
    """AR-7: the requestor cannot answer any more; it is no protocol error of its."""
    acceptor, threads = scp(contexts=CONTEXTS), []

    @acceptor.ae.on_n_action
    def act(request: Any) -> int:
        scu = same.borrow(request.association.scu)
        request.then = lambda: threads.append(Beside(lambda: _report(scu)))
        return 0

    with Wire.associated(acceptor.port, request()) as wire:
        talk = Talk(wire)
        wire.sends(message(IDS[MPPS], Request(CommandField.N_ACTION, 1, MPPS, "1.2.9", action_type_id=1)))
        assert talk.hears().status == 0
        assert talk.hears().command == CommandField.N_EVENT_REPORT
        wire.sends(pdu.ReleaseRq())
        assert wire.hears() == RELEASE_RP
    assert isinstance(threads[0].result(), LocalProtocolError)
    assert acceptor.close_errors(1) == [None]


def _report(scu: Any) -> Any:
    try:
        return scu.n_event_report(MPPS, "1.2.9", 1)
    except dicomnet.DicomNetworkError as error:
        return error
