"""The asynchronous operations window (PS3.7 D.3.3.3) between each two faces: what overlaps, and what may overtake."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import dicomnet
from dicomnet import Status
from tests.faces.conftest import eventually, quick
from tests.faces.face import Face
from tests.faces.queries import CONTEXTS, MPPS, Beside, MakeScp, counts, ids, image, reached, study
from tests.faces.wire import GIVEN_UP


@pytest.fixture
def same(server_face: Face) -> Face:
    """Both ends on one face, where one end is tested and the other could be any."""
    return server_face


class Crowd:
    """A handler in which requests wait until ``size`` are there. ``most``: at once; ``gone``: that have left."""

    def __init__(self, size: int) -> None:
        self._all_here = threading.Event()
        self._lock = threading.Lock()
        self._size = size
        self._here = 0
        self.most = 0
        self.gone = 0

    def enter(self) -> None:
        with self._lock:
            self._here += 1
            self.most = max(self.most, self._here)
            if self._here >= self._size:
                self._all_here.set()

    def leave(self) -> int:
        with self._lock:
            self._here -= 1
            self.gone += 1
        return 0

    def __call__(self, request: Any) -> int:
        self.enter()
        reached(self._all_here)
        return self.leave()

    async def wait_async(self, request: Any) -> int:
        self.enter()
        await asyncio.to_thread(reached, self._all_here)
        return self.leave()


@pytest.mark.parametrize("size", [2, 8])
def test_as_many_handlers_run_at_once_as_were_negotiated(client: Face, scp: MakeScp, size: int) -> None:
    """PS3.7 D.3.3.3: so many, and not one more, however many threads or tasks ask."""
    acceptor, crowd = scp(contexts=CONTEXTS, async_ops=(size, 1)), Crowd(size)
    acceptor.ae.on_c_store(crowd)
    with client.associate(acceptor.peer, contexts=CONTEXTS, async_ops=(16, 1)) as association:
        assert association.async_ops == (size, 1)
        stores = [Beside(lambda number=number: association.c_store(image(number)).status) for number in range(2 * size)]
        assert [store.result() for store in stores] == [Status.SUCCESS] * 2 * size
    assert crowd.most == size
    assert acceptor.close_errors(1) == [None]


def test_async_handlers_run_at_once(client: Face, scp: MakeScp) -> None:
    """On asyncio each has a task, on the blocking face a thread with a loop."""
    acceptor, crowd = scp(contexts=CONTEXTS, async_ops=(4, 1)), Crowd(4)
    acceptor.ae.on_c_store(crowd.wait_async)
    with client.associate(acceptor.peer, contexts=CONTEXTS, async_ops=(4, 1)) as association:
        stores = [Beside(lambda number=number: association.c_store(image(number)).status) for number in range(4)]
        assert [store.result() for store in stores] == [Status.SUCCESS] * 4
    assert crowd.most == 4


@pytest.mark.parametrize(("asked", "offered"), [(8, 1), (1, 8), (1, 1)])
def test_a_window_of_one_is_one_after_the_other(client: Face, scp: MakeScp, asked: int, offered: int) -> None:
    """The smaller of both counts; those who come later wait at the requestor."""
    acceptor, crowd = scp(contexts=CONTEXTS, async_ops=(offered, 1)), Crowd(1)
    acceptor.ae.on_c_store(crowd)
    with client.associate(acceptor.peer, contexts=CONTEXTS, async_ops=(asked, 1)) as association:
        assert association.async_ops[0] == 1
        stores = [Beside(lambda number=number: association.c_store(image(number)).status) for number in range(6)]
        assert [store.result() for store in stores] == [Status.SUCCESS] * 6
    assert crowd.most == 1


def test_quick_handlers_run_one_after_the_other(client: Face, scp: MakeScp) -> None:
    """They promise not to block, and cost no thread and no task."""
    acceptor, threads = scp(contexts=CONTEXTS, async_ops=(8, 1)), set()

    @acceptor.ae.on_c_store(quick=True)
    def note(request: Any) -> int:
        threads.add(threading.get_ident())
        return 0

    with client.associate(acceptor.peer, contexts=CONTEXTS, async_ops=(8, 1)) as association:
        stores = [Beside(lambda number=number: association.c_store(image(number)).status) for number in range(8)]
        assert [store.result() for store in stores] == [Status.SUCCESS] * 8
    assert len(threads) == 1


def test_an_unlimited_window(client: Face, scp: MakeScp) -> None:
    """Zero asks for, and grants, any number."""
    acceptor, crowd = scp(contexts=CONTEXTS, async_ops=(0, 0)), Crowd(12)
    acceptor.ae.on_c_store(crowd)
    with client.associate(acceptor.peer, contexts=CONTEXTS, async_ops=(0, 1)) as association:
        assert association.async_ops[0] == 0
        stores = [Beside(lambda number=number: association.c_store(image(number)).status) for number in range(12)]
        assert [store.result() for store in stores] == [Status.SUCCESS] * 12
    assert crowd.most == 12


def test_responses_come_in_any_order(client: Face, scp: MakeScp) -> None:
    """PS3.7 D.3.3.3: the second is answered while the first one's handler waits for that."""
    acceptor, begun, second_done = scp(contexts=CONTEXTS, async_ops=(2, 1)), threading.Event(), threading.Event()

    @acceptor.ae.on_n_get
    def get(request: Any) -> int:
        if request.sop_instance_uid == "1.1":
            begun.set()
            reached(second_done)
        return 0

    with client.associate(acceptor.peer, contexts=CONTEXTS, async_ops=(2, 1)) as association:
        first = Beside(lambda: association.n_get(MPPS, "1.1").status)
        reached(begun)
        assert association.n_get(MPPS, "1.2").status == 0
        second_done.set()
        assert first.result() == 0


def test_one_failure_is_not_the_others(client: Face, scp: MakeScp) -> None:
    """0110H for the one; the others and the association go on."""
    acceptor, crowd = scp(contexts=CONTEXTS, async_ops=(4, 1)), Crowd(4)

    @acceptor.ae.on_n_get
    def get(request: Any) -> int:
        crowd(request)
        return 1 // (request.sop_instance_uid != "1.2")

    with client.associate(acceptor.peer, contexts=CONTEXTS, async_ops=(4, 1)) as association:
        requests = [Beside(lambda uid=f"1.{number}": association.n_get(MPPS, uid).status) for number in range(1, 5)]
        assert [request.result() for request in requests] == [1, 0x0110, 1, 1]
        assert association.c_echo().status == 0


def test_small_responses_do_not_wait_for_acknowledgements(client: Face, scp: MakeScp) -> None:
    """TCP_NODELAY at both ends: else the second of several responses may come 40 ms after the first."""
    acceptor, delays = scp(contexts=CONTEXTS), []

    @acceptor.ae.on_c_echo
    def look(request: Any) -> int:
        sockets = [found for found in gc.get_objects() if type(found) is socket.socket]
        for sock in [sock for sock in sockets if sock.family == socket.AF_INET]:
            with contextlib.suppress(OSError):  # not connected
                if acceptor.port in (sock.getpeername()[1], sock.getsockname()[1]):
                    delays.append(not sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        return 0

    with client.associate(acceptor.peer) as association:
        assert association.c_echo().status == 0
    assert delays == [False, False]


# --- queries among other requests -----------------------------------------------------------------------------------


def test_matches_stream_while_instances_are_stored(client: Face, scp: MakeScp) -> None:
    """The issue, 5: each match waits for a C-STORE, each C-STORE for the match before."""
    acceptor, stored = scp(contexts=CONTEXTS, async_ops=(4, 1)), [threading.Event() for _ in range(5)]

    @acceptor.ae.on_c_find
    def find(request: Any) -> Iterator[Any]:
        for number, event in enumerate(stored):
            reached(event)
            yield study(number)

    @acceptor.ae.on_c_store
    def store(request: Any) -> int:
        stored[int(request.dataset.PatientID[1:])].set()
        return 0

    with client.associate(acceptor.peer, contexts=CONTEXTS, async_ops=(4, 1)) as association:
        results = iter(association.c_find(study()))
        for number in range(5):
            assert Beside(lambda number=number: association.c_store(image(number)).status).result() == 0
            assert next(results).PatientID == f"P{number}"
        assert ids(results) == []


def test_the_same_thread_stores_inside_the_loop(client: Face, scp: MakeScp) -> None:
    """With a window there is room for both."""
    acceptor = scp(contexts=CONTEXTS, async_ops=(2, 1))
    acceptor.ae.on_c_find(lambda request: (study(number) for number in range(200)))
    with client.associate(acceptor.peer, contexts=CONTEXTS, async_ops=(2, 1)) as association:
        for match in association.c_find(study()):
            assert association.c_store(image(int(match.PatientID[1:]))).status == 0
    assert len(acceptor.received) == 200


def test_a_cancel_overtakes(client: Face, scp: MakeScp) -> None:
    """PS3.7 9.3.2.3: while all places of the window are taken, and the query is one of them."""
    acceptor, begun, may_end = scp(contexts=CONTEXTS, async_ops=(2, 1)), threading.Event(), threading.Event()
    searching = threading.Event()

    @acceptor.ae.on_c_store
    def block(request: Any) -> int:
        begun.set()
        reached(may_end)
        return 0

    @acceptor.ae.on_c_find
    def search(request: Any) -> list[Any]:
        searching.set()
        eventually(lambda: request.cancelled, "the handler sees the C-CANCEL")
        return []

    with client.associate(acceptor.peer, contexts=CONTEXTS, async_ops=(2, 1)) as association:
        store = Beside(lambda: association.c_store(image(1)).status)
        reached(begun)
        results = association.c_find(study())
        found = Beside(lambda: list(results))
        reached(searching)
        association.c_cancel(results.message_id)
        assert found.result() == []
        assert results.response.status is Status.CANCEL
        may_end.set()
        assert store.result() == 0


def test_leaving_a_query_makes_room_for_who_waits(client: Face, scp: MakeScp) -> None:
    """With a window of one: whoever left it need not come back for the other to be served."""
    acceptor = scp(contexts=CONTEXTS)
    acceptor.ae.on_c_find(lambda request: (study(number) for number in range(1_000_000)))
    with client.associate(acceptor.peer, contexts=CONTEXTS) as association:
        for _ in range(5):
            results = association.c_find(study())
            next(iter(results))
            waiting = [Beside(lambda: association.c_echo().status) for _ in range(2)]
            results.close()
            assert [one.result() for one in waiting] == [0, 0]


def test_several_queries_stream_at_once(client: Face, scp: MakeScp) -> None:
    """The matches of each go to who asked; leaving one of them leaves the others alone."""
    acceptor = scp(contexts=CONTEXTS, async_ops=(4, 1))
    acceptor.ae.on_c_find(lambda request: (study(f"{request.dataset.PatientID}.{number}") for number in range(200)))
    with client.associate(acceptor.peer, contexts=CONTEXTS, async_ops=(4, 1)) as association:
        left = iter(association.c_find(study(9)))
        next(left)
        queries = [Beside(lambda number=number: ids(association.c_find(study(number)))) for number in range(3)]
        left.close()
        for number, query in enumerate(queries):
            assert query.result() == [f"PP{number}.{match}" for match in range(200)]
        assert association.c_echo().status == 0


def test_one_thread_takes_turns_between_queries(client: Face, scp: MakeScp) -> None:
    """Results that wait do not keep others from arriving, as long as somebody reads them in time."""
    acceptor = scp(contexts=CONTEXTS, async_ops=(2, 1))
    acceptor.ae.on_c_find(lambda request: (study(number) for number in range(100)))
    with client.associate(acceptor.peer, contexts=CONTEXTS, async_ops=(2, 1)) as association:
        both = zip(association.c_find(study()), association.c_find(study()), strict=True)
        assert [one.PatientID == other.PatientID for one, other in both] == [True] * 100


def test_a_get_and_a_move_beside_each_other(client: Face, scp: MakeScp) -> None:
    """Both are many stores, here and there, and beside them an echo is answered."""
    destination, acceptor = scp(contexts=CONTEXTS), scp(contexts=CONTEXTS, async_ops=(3, 3))
    acceptor.ae.on_c_get(lambda request: [image(number) for number in range(20)])
    peer = dicomnet.Peer.parse(destination.peer)
    acceptor.ae.on_c_move(lambda request: (peer, [image(number) for number in range(20)]))
    with client.associate(acceptor.peer, contexts=CONTEXTS, async_ops=(3, 3)) as association:
        get = Beside(lambda: [instance.sop_instance_uid for instance in association.c_get(study())])
        move = Beside(lambda: counts(association.c_move(study(), destination="DEST")))
        assert [association.c_echo().status for _ in range(20)] == [0] * 20
        assert get.result() == [f"1.2.3.{number}" for number in range(20)]
        assert move.result() == [(19 - number, number + 1, 0, 0) for number in range(20)]
    assert len(destination.received) == 20


def test_requests_of_the_acceptor_overlap_too(client: Face, scp: MakeScp, server_face: Face) -> None:
    """PS3.7 D.3.3.3: the other number of the window, for handlers of ``associate(ae=…)``."""
    acceptor, ae, crowd = scp(contexts=CONTEXTS, async_ops=(1, 3)), dicomnet.AE("ME"), Crowd(3)
    ae.on_n_event_report(crowd)
    lent: list[Any] = []

    @acceptor.ae.on_c_echo
    def lend(request: Any) -> int:
        lent.append(server_face.borrow(request.association.scu))
        return 0

    with client.associate(acceptor.peer, contexts=CONTEXTS, async_ops=(1, 3), ae=ae) as association:
        association.c_echo()

        def report(number: int) -> int:
            return lent[0].n_event_report(MPPS, "1.2", number).status

        reports = [Beside(lambda number=number: report(number)) for number in range(6)]
        assert association.listen(GIVEN_UP, until=lambda: crowd.gone == 6)
        assert [one.result() for one in reports] == [0] * 6
    assert crowd.most == 3


def test_the_association_ends_for_all(client: Face, scp: MakeScp) -> None:
    """Everybody who waits for a response is told, and those who wait for a place in the window."""
    acceptor, crowd = scp(contexts=CONTEXTS, async_ops=(3, 1)), Crowd(3)
    aborted = threading.Event()

    @acceptor.ae.on_c_store
    def block(request: Any) -> int:
        crowd(request)
        reached(aborted)
        return 0

    association = client.associate(acceptor.peer, contexts=CONTEXTS, async_ops=(3, 1), timeouts=quick())
    stores = [Beside(lambda number=number: association.c_store(image(number))) for number in range(5)]
    eventually(lambda: crowd.most == 3, "three are performed")
    association.abort()
    aborted.set()
    for store in stores:
        with pytest.raises(dicomnet.AssociationAborted):
            store.result()
    assert isinstance(acceptor.close_errors(1)[0], dicomnet.AssociationAborted)


def test_a_release_waits_for_handlers_at_work(same: Face, scp: MakeScp) -> None:
    """PS3.8 7.2: nothing that was asked is lost."""
    acceptor, begun = scp(contexts=CONTEXTS, async_ops=(2, 1)), threading.Event()

    @acceptor.ae.on_c_store
    def store(request: Any) -> int:
        begun.set()
        return 0

    with same.associate(acceptor.peer, contexts=CONTEXTS, async_ops=(2, 1)) as association:
        storing = Beside(lambda: association.c_store(image(1)).status)
        reached(begun)
        assert storing.result() == 0
    assert acceptor.close_errors(1) == [None]
