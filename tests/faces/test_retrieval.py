"""C-GET and C-MOVE between each two faces (PS3.4 C.4.2, C.4.3): what arrives, what is counted, what survives."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.data import get_testdata_file

import dicomnet
from dicomnet import EncodedDataset, Limits, Peer, Status, StatusError
from dicomnet.models import MODELS
from tests.callbacks import recorder
from tests.faces.conftest import Scp, eventually, spooled
from tests.faces.face import Face
from tests.faces.queries import (
    CONTEXTS,
    GET,
    MOVE,
    Beside,
    MakeScp,
    callbacks,
    counts,
    failure,
    image,
    reached,
    study,
)
from tests.faces.wire import CT, EXPLICIT

FILES = ["CT_small.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm", "JPEG2000.dcm", "MR_small_RLE.dcm"]


@pytest.fixture
def same(server_face: Face) -> Face:
    """Both ends on one face, where one end is tested and the other could be any."""
    return server_face


def paths() -> list[Path]:
    return [Path(str(get_testdata_file(name))) for name in FILES]


def storage() -> list[Any]:
    """A context for each SOP class and transfer syntax of the files."""
    encoded = [EncodedDataset.from_file(path) for path in paths()]
    return sorted({(one.sop_class_uid, (one.transfer_syntax,)) for one in encoded})


def number_of(instance: Any) -> int:
    return int(instance.sop_instance_uid.rpartition(".")[2])


# --- C-GET ----------------------------------------------------------------------------------------------------------


def test_a_get_brings_files_byte_for_byte(client: Face, scp: MakeScp) -> None:
    """PS3.4 C.4.3: on the same association, in the transfer syntax that they have; the roles are asked for."""
    acceptor = scp(contexts=[*CONTEXTS, *dicomnet.StorageClasses])
    acceptor.ae.on_c_get(lambda request: paths())
    with client.associate(acceptor.peer, contexts=[dicomnet.Verification, GET, *storage()]) as association:
        results = association.c_get(study())
        received = [(instance.sop_instance_uid, instance.transfer_syntax, bytes(instance)) for instance in results]
        assert results.response.status is Status.SUCCESS
        assert tuple(results.progress) == (0, len(FILES), 0, 0)
        assert association.c_echo().status == 0
    sent = [EncodedDataset.from_file(path) for path in paths()]
    assert received == [(one.sop_instance_uid, one.transfer_syntax, bytes(one)) for one in sent]
    assert acceptor.close_errors(1) == [None]


def test_a_get_tells_how_far_it_is(client: Face, scp: MakeScp) -> None:
    """PS3.4 C.4.3.1.3: the counts of the latest pending response; they follow the instances."""
    acceptor, progress = scp(contexts=CONTEXTS), []
    acceptor.ae.on_c_get(lambda request: [image(number) for number in range(4)])
    with client.associate(acceptor.peer, contexts=CONTEXTS) as association:
        results = association.c_get(study())
        for instance in results:
            progress.append((number_of(instance), *results.progress))
        assert tuple(results.progress) == (0, 4, 0, 0)
    assert progress == [(0, 0, 0, 0, 0), (1, 3, 1, 0, 0), (2, 2, 2, 0, 0), (3, 1, 3, 0, 0)]


def test_an_instance_of_a_get_can_be_answered_with_a_failure(client: Face, scp: MakeScp) -> None:
    """PS3.4 C.4.3.2.1: the peer counts it and names it, and goes on with the next one."""
    acceptor = scp(contexts=CONTEXTS)
    acceptor.ae.on_c_get(lambda request: [image(number) for number in range(4)])
    with client.associate(acceptor.peer, contexts=CONTEXTS) as association:
        results = association.c_get(study())
        with pytest.raises(dicomnet.LocalProtocolError, match="no instance"):
            results.answer(Status.OUT_OF_RESOURCES)
        with pytest.raises(StatusError) as error:
            for instance in results:
                if number_of(instance) in (1, 3):
                    results.answer(dicomnet.Response(Status.OUT_OF_RESOURCES, error_comment="full"))
                    with pytest.raises(dicomnet.LocalProtocolError, match="has been"):
                        results.answer(Status.SUCCESS)
                elif number_of(instance) == 2:
                    results.answer(Status.SUCCESS)
        assert error.value.status == Status.WARNING
        assert tuple(results.progress) == (0, 2, 2, 0)
        failed = results.response.dataset.decode().FailedSOPInstanceUIDList
        assert list(failed) == [image(1).sop_instance_uid, image(3).sop_instance_uid]
        assert association.c_echo().status == 0


async def _async_generator(request: Any) -> Any:
    for number in range(3):
        yield image(number)


async def _async_list(request: Any) -> Any:
    return [image(number) for number in range(3)]


GET_HANDLERS = {
    "list": lambda request: [image(number) for number in range(3)],
    "generator": lambda request: (image(number) for number in range(3)),
    "async generator": _async_generator,
    "async function": _async_list,
    "Datasets": lambda request: [image(number).decode() for number in range(3)],
}


@pytest.mark.parametrize("quick", [False, True], ids=["", "quick"])
@pytest.mark.parametrize("name", GET_HANDLERS)
def test_all_kinds_of_handlers(same: Face, scp: MakeScp, name: str, quick: bool) -> None:
    """The API, §2: what a C-FIND handler may be, a C-GET handler may be."""
    acceptor = scp(contexts=CONTEXTS)
    acceptor.ae.on_c_get(quick=quick)(GET_HANDLERS[name])
    with same.associate(acceptor.peer, contexts=CONTEXTS) as association:
        assert [number_of(instance) for instance in association.c_get(study())] == [0, 1, 2]


def test_an_instance_arrives_while_the_next_one_is_looked_for(client: Face, scp: MakeScp) -> None:
    """ "Long answers stream"."""
    acceptor, wanted = scp(contexts=CONTEXTS), [threading.Event() for _ in range(3)]

    @acceptor.ae.on_c_get
    def find(request: Any) -> Any:
        for number, event in enumerate(wanted):
            reached(event)
            yield image(number)

    with client.associate(acceptor.peer, contexts=CONTEXTS) as association:
        results = iter(association.c_get(study()))
        for number, event in enumerate(wanted):
            event.set()
            assert number_of(next(results)) == number
        assert list(results) == []


def test_large_instances_wait_in_files_that_go_with_them(client: Face, scp: MakeScp, tmp_path: Path) -> None:
    """The API, §4, at the requestor: memory stays bounded, and what was saved stays."""
    acceptor, folder = scp(contexts=CONTEXTS), tmp_path / "received"
    folder.mkdir()
    acceptor.ae.on_c_get(lambda request: (image(number, 400_000) for number in range(3)))
    options = {"limits": Limits(spool_size=100_000), "spool_folder": folder}
    with client.associate(acceptor.peer, contexts=CONTEXTS, **options) as association:
        for instance in association.c_get(study()):
            assert instance.in_memory == 0
            assert bytes(instance) == bytes(image(number_of(instance), 400_000))
            if number_of(instance) == 1:
                instance.save(tmp_path / "kept.dcm")
        del instance
    eventually(lambda: not spooled(folder), "the files are gone")
    assert bytes(EncodedDataset.from_file(tmp_path / "kept.dcm")) == bytes(image(1, 400_000))


def test_leaving_the_loop_cancels_the_get(client: Face, scp: MakeScp) -> None:
    """The API, §1: what the user has seen is answered with success; the handler is closed; the association lives."""
    acceptor, ended, made = scp(contexts=CONTEXTS), threading.Event(), []

    @acceptor.ae.on_c_get
    def endless(request: Any) -> Any:
        try:
            for number in range(100_000):
                made.append(number)
                yield image(number)
        finally:
            ended.set()

    with client.associate(acceptor.peer, contexts=CONTEXTS) as association:
        for instance in association.c_get(study()):
            if number_of(instance) == 2:
                break
        assert association.c_echo().status == 0
        reached(ended)
    assert len(made) < 1000
    assert acceptor.close_errors(1) == [None]


def test_a_cancelled_get_is_read_to_its_end(client: Face, scp: MakeScp) -> None:
    """PS3.4 C.4.3.3.1: FE00, with what has been done and what remains."""
    acceptor = scp(contexts=CONTEXTS)
    acceptor.ae.on_c_get(lambda request: [image(1)] * 500)
    with client.associate(acceptor.peer, contexts=CONTEXTS) as association:
        results = association.c_get(study())
        received = 0
        for _ in results:
            received += 1
            if received == 3:
                results.cancel()
        assert results.response.status is Status.CANCEL
        assert results.response.completed == received
        assert results.response.remaining == 500 - received > 0
        assert association.c_echo().status == 0


def test_what_the_requestor_does_not_take_is_a_failed_suboperation(client: Face, scp: MakeScp) -> None:
    """PS3.4 C.4.3.1.4: B000, the counts, and the list of the instances that failed."""
    acceptor = scp(contexts=[*CONTEXTS, *dicomnet.StorageClasses])
    acceptor.ae.on_c_get(lambda request: [image(1), get_testdata_file("MR_small.dcm"), image(2)])
    with client.associate(acceptor.peer, contexts=CONTEXTS) as association:
        results = association.c_get(study())
        assert number_of(next(results)) == 1
        assert number_of(next(results)) == 2
        assert failure(results).status == 0xB000
        assert tuple(results.progress) == (0, 2, 1, 0)
        mr = EncodedDataset.from_file(str(get_testdata_file("MR_small.dcm"))).sop_instance_uid
        assert results.response.dataset.decode().FailedSOPInstanceUIDList == mr
        assert association.c_echo().status == 0


@pytest.mark.parametrize(
    ("handler", "status"),
    [
        (lambda request: 0xA900, 0xA900),
        (lambda request: 1 / 0, 0x0110),
        (lambda request: [1 / 0 for _ in "x"], 0x0110),
    ],
    ids=["an int", "raises", "raises in a list"],
)
def test_a_get_that_is_refused(client: Face, scp: MakeScp, handler: Any, status: int) -> None:
    """The API, §2: StatusError at the end of the loop; the association lives on."""
    acceptor = scp(contexts=CONTEXTS)
    acceptor.ae.on_c_get(handler)
    with client.associate(acceptor.peer, contexts=CONTEXTS) as association:
        assert failure(association.c_get(study())).status == status
        assert association.c_echo().status == 0


def test_a_generator_that_raises_ends_the_get(client: Face, scp: MakeScp) -> None:
    """What came before is there."""
    acceptor = scp(contexts=CONTEXTS)

    @acceptor.ae.on_c_get
    def fail(request: Any) -> Any:
        yield image(1)
        raise StatusError(Status.OUT_OF_RESOURCES, "no more")

    with client.associate(acceptor.peer, contexts=CONTEXTS) as association:
        results = association.c_get(study())
        assert number_of(next(results)) == 1
        error = failure(results)
        assert (error.status, error.comment) == (0xA700, "no more")
        assert association.c_echo().status == 0


def test_a_requestor_that_goes_ends_the_get(client: Face, scp: MakeScp) -> None:
    """An A-ABORT while an instance is on its way closes the generator."""
    acceptor, ended = scp(contexts=CONTEXTS), threading.Event()

    @acceptor.ae.on_c_get
    def endless(request: Any) -> Any:
        try:
            for number in range(100_000):
                yield image(number)
        finally:
            ended.set()

    association = client.associate(acceptor.peer, contexts=CONTEXTS)
    next(iter(association.c_get(study())))
    association.abort()
    reached(ended)
    assert isinstance(acceptor.close_errors(1)[0], dicomnet.AssociationAborted)


@pytest.mark.parametrize("model", [name for name, (_, _, get) in MODELS.items() if get is not None])
def test_every_model_can_be_retrieved_by_get(scp: MakeScp, same: Face, model: str) -> None:
    """PS3.4 C.6, U, X, Y, Z, BB and the others: by its name, with the roles that it needs."""
    uid = MODELS[model][2]
    acceptor = scp(contexts=[uid, CT])
    acceptor.ae.on_c_get(lambda request: [image(1)])
    with same.associate(acceptor.peer, contexts=[uid, CT]) as association:
        assert [number_of(instance) for instance in association.c_get(study(), model=model)] == [1]


# --- C-MOVE ---------------------------------------------------------------------------------------------------------


def moving(acceptor: Scp, destinations: dict[str, Peer], instances: Any) -> None:
    """C-MOVE finds ``instances``, or what ``instances()`` gives, and knows these destinations."""

    @acceptor.ae.on_c_move
    def move(request: Any) -> Any:
        peer = destinations.get(request.destination)
        return None if peer is None else (peer, instances() if callable(instances) else instances)


def place(acceptor: Scp) -> dict[str, Peer]:
    return {"DEST": Peer.parse(acceptor.peer)}


def test_a_move_forwards_files_byte_for_byte(client: Face, scp: MakeScp) -> None:
    """PS3.4 C.4.2: over an association of the SCP's own; each store names the move that it belongs to."""
    destination, acceptor = scp(contexts=dicomnet.StorageClasses), scp(contexts=CONTEXTS)
    moving(acceptor, place(destination), paths())
    with client.associate(acceptor.peer, calling_ae="ME", contexts=CONTEXTS) as association:
        results = association.c_move(study(), destination="DEST")
        steps = counts(results)
        assert results.response.status is Status.SUCCESS
    assert steps == [(len(FILES) - done, done, 0, 0) for done in range(1, len(FILES) + 1)]
    assert sorted(destination.received) == sorted(bytes(EncodedDataset.from_file(path)) for path in paths())
    assert {request.originator for request in destination.requests} == {("ME", 1)}
    assert {request.association.calling_ae for request in destination.requests} == {"SCP"}
    assert destination.close_errors(1) == [None]
    assert acceptor.close_errors(1) == [None]


@pytest.mark.parametrize("kind", ["generator", "async generator", "async handler", "quick"])
def test_all_kinds_of_move_handlers(same: Face, scp: MakeScp, kind: str) -> None:
    """The API, §2."""
    destination, acceptor = scp(contexts=CONTEXTS), scp(contexts=CONTEXTS)
    peer = Peer.parse(destination.peer)

    async def later(request: Any) -> Any:
        return peer, [image(1), image(2)]

    async def generate() -> Any:
        yield image(1)
        yield image(2)

    handler = {
        "generator": lambda request: (peer, (image(number) for number in (1, 2))),
        "async generator": lambda request: (peer, generate()),
        "async handler": later,
        "quick": lambda request: (peer, [image(1), image(2)]),
    }[kind]
    acceptor.ae.on_c_move(quick=kind == "quick")(handler)
    with same.associate(acceptor.peer, contexts=CONTEXTS) as association:
        assert [step.completed for step in association.c_move(study(), destination="DEST")] == [1, 2]
    assert len(destination.received) == 2


def test_an_unknown_destination(client: Face, scp: MakeScp) -> None:
    """PS3.4 C.4.2.1.5: A801; the association lives on."""
    acceptor = scp(contexts=CONTEXTS)
    moving(acceptor, {}, [image(1)])
    with client.associate(acceptor.peer, contexts=CONTEXTS) as association:
        results = association.c_move(study(), destination="NOBODY")
        assert failure(results).status == 0xA801
        assert results.response.status is Status.MOVE_DESTINATION_UNKNOWN
        assert association.c_echo().status == 0


def test_an_unreachable_destination(client: Face, scp: MakeScp) -> None:
    """PS3.4 C.4.2.3.1: all have failed; it is tried once, and the association lives on."""
    acceptor = scp(contexts=CONTEXTS)
    with contextlib.closing(_unused()) as port_holder:
        moving(acceptor, {"DEST": Peer("DEST", "127.0.0.1", port_holder.getsockname()[1])}, [image(1), image(2)])
        with client.associate(acceptor.peer, contexts=CONTEXTS) as association:
            results = association.c_move(study(), destination="DEST")
            assert failure(results).status == 0xA702
            assert tuple(results.progress) == (0, 0, 2, 0)
            assert results.response.dataset.decode().FailedSOPInstanceUIDList == ["1.2.3.1", "1.2.3.2"]
            assert association.c_echo().status == 0


def _unused() -> Any:
    """A socket that is bound and does not listen: nobody else gets its port."""
    import socket

    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    return sock


@pytest.mark.parametrize("for_good", [False, True], ids=["one connection", "for good"])
def test_a_destination_that_dies_half_way(client: Face, scp: MakeScp, for_good: bool) -> None:
    """The issue's "must show": the counts and the status are right, and the requestor's association lives.

    Where the destination itself lives, the instances that follow get to it over another association.
    """
    acceptor, ae, received = scp(contexts=CONTEXTS), dicomnet.AE("DEST", contexts=CONTEXTS), []

    @ae.on_c_store
    def store(request: Any) -> int:
        received.append(bytes(request.dataset))
        if len(received) == 6:
            if for_good:
                destination.close()
            request.association.scu.abort()
        return 0

    with (
        dicomnet.serve(ae) as destination,
        client.associate(acceptor.peer, contexts=CONTEXTS) as association,
    ):
        moving(acceptor, {"DEST": Peer("DEST", "127.0.0.1", destination.port)}, [image(number) for number in range(10)])
        results, steps = association.c_move(study(), destination="DEST"), []
        with pytest.raises(StatusError) as error:
            for step in results:
                steps.append(tuple(step))
        assert error.value.status == 0xB000
        lost = 5 if for_good else 1
        assert tuple(results.progress) == (0, 10 - lost, lost, 0)
        assert steps[:6] == [*[(9 - done, done + 1, 0, 0) for done in range(5)], (4, 5, 1, 0)]
        assert len(steps) == 10
        failed = results.response.dataset.decode().FailedSOPInstanceUIDList
        assert failed == ([f"1.2.3.{number}" for number in range(5, 10)] if for_good else "1.2.3.5")
        assert association.c_echo().status == 0


def test_a_cancelled_move_stops(client: Face, scp: MakeScp) -> None:
    """PS3.4 C.4.2.3.1: FE00, with what has been done and what remains; the destination is released."""
    destination, acceptor = scp(contexts=CONTEXTS), scp(contexts=CONTEXTS)
    moving(acceptor, place(destination), [image(1)] * 500)
    with client.associate(acceptor.peer, contexts=CONTEXTS) as association:
        results = association.c_move(study(), destination="DEST")
        for step in results:
            if step.completed == 2:
                association.c_cancel(results)
        final = results.response
        assert final.status is Status.CANCEL
        assert final.completed == len(destination.received)
        assert final.remaining == 500 - final.completed > 0
        assert association.c_echo().status == 0
    assert destination.close_errors(1) == [None]


def test_leaving_the_loop_cancels_the_move(client: Face, scp: MakeScp) -> None:
    """The API, §1."""
    destination, acceptor, ended = scp(contexts=CONTEXTS), scp(contexts=CONTEXTS), threading.Event()

    def endless() -> Iterator[EncodedDataset]:
        try:
            for number in range(100_000):
                yield image(number)
        finally:
            ended.set()

    moving(acceptor, place(destination), endless)
    with client.associate(acceptor.peer, contexts=CONTEXTS) as association:
        for step in association.c_move(study(), destination="DEST"):
            if step.completed == 3:
                break
        assert association.c_echo().status == 0
        reached(ended)
    assert destination.close_errors(1) == [None]


def test_what_the_destination_refuses_is_counted_and_named(client: Face, scp: MakeScp) -> None:
    """PS3.4 C.4.2.1.4.2, C.4.2.3.1."""
    destination, acceptor = scp(contexts=CONTEXTS), scp(contexts=CONTEXTS)
    answers = {"1.2.3.1": 0xA700, "1.2.3.2": 0xB000}
    destination.ae.on_c_store(lambda request: answers.get(request.sop_instance_uid, 0))
    moving(acceptor, place(destination), [image(number) for number in range(4)])
    with client.associate(acceptor.peer, contexts=CONTEXTS) as association:
        results = association.c_move(study(), destination="DEST")
        assert failure(results).status == 0xB000
        assert tuple(results.progress) == (0, 2, 1, 1)
        assert results.response.dataset.decode().FailedSOPInstanceUIDList == "1.2.3.1"


def test_several_queries_move_at_once(client: Face, scp: MakeScp) -> None:
    """Each association of the requestor has its own to the destination."""
    destination, acceptor = scp(contexts=CONTEXTS), scp(contexts=CONTEXTS)
    moving(acceptor, place(destination), lambda: [image(number) for number in range(20)])
    assert destination.port
    assert acceptor.port

    def retrieve() -> list[int]:
        with client.associate(acceptor.peer, contexts=CONTEXTS) as association:
            return [step.completed for step in association.c_move(study(), destination="DEST")]

    assert [one.result() for one in [Beside(retrieve) for _ in range(4)]] == [list(range(1, 21))] * 4
    assert len(destination.received) == 80


# --- the callback class ---------------------------------------------------------------------------------------------


class GetScp(recorder.Scp):
    """Stores two images over the association that asks for them, one after the other."""

    asked = 0

    def on_receive_c_get_request(self, pid: int, mid: int, cls: str, prio: int, ds: Any) -> None:
        self.asked = mid
        self.send_c_store_request(3, 1, CT, "1.2.3.1", 0, None, None, image(1))

    def on_receive_c_store_response(self, pid: int, mid: int, cls: str, inst: str, st: int) -> None:
        if mid == 1:
            self.send_c_get_response(1, self.asked, GET, 0xFF00, 1, 1, 0, 0)
            self.send_c_store_request(3, 2, CT, "1.2.3.2", 0, None, None, image(2))
        else:
            self.send_c_get_response(1, self.asked, GET, 0, None, 2, 0, 0)


def test_the_callback_class_provides_a_get(client: Face) -> None:
    """dicomnet-class.md, §6: either side may ask on the same association."""
    with callbacks() as stage:
        listener = stage.listener(GetScp)
        peer = f"SCP@127.0.0.1:{listener.host_port}"
        with client.associate(peer, contexts=[GET, (CT, [EXPLICIT])]) as association:
            results = association.c_get(study())
            assert [number_of(instance) for instance in results] == [1, 2]
            assert tuple(results.progress) == (0, 2, 0, 0)


class GetScu(recorder.Scu):
    def request(self) -> Any:
        associate = recorder.proposal({1: (GET, EXPLICIT), 3: (CT, EXPLICIT), 5: (MOVE, EXPLICIT)})
        associate.set_role_select(3, True, True, True)
        return associate

    def on_receive_c_store_request(
        self, pid: int, mid: int, cls: str, inst: str, prio: int, move_ae: str, move_message_id: int, ds: Any
    ) -> None:
        self.send_c_store_response(pid, mid, cls, inst, 0 if inst != "1.2.3.1" else 0xA700)


def test_the_callback_class_gets_and_moves(scp: MakeScp) -> None:
    """dicomnet-class.md, §6: it answers the stores, and is told the counts."""
    destination, acceptor = scp(contexts=CONTEXTS), scp(contexts=CONTEXTS)
    moving(acceptor, place(destination), [image(5)])
    acceptor.ae.on_c_get(lambda request: [image(number) for number in range(3)])
    with callbacks() as stage:
        scu = stage.associated(acceptor.port, GetScu)
        scu.send_c_get_request(1, 1, GET, 0, study())
        (*_, status, remaining, completed, failed, warning, dataset) = stage.wait("SCU", "on_receive_c_get_response", 4)
        assert (status, remaining, completed, failed, warning) == (0xB000, None, 2, 1, 0)
        assert dataset.decode().FailedSOPInstanceUIDList == "1.2.3.1"
        scu.send_c_move_request(5, 2, MOVE, 0, "DEST", study())
        assert stage.wait("SCU", "on_receive_c_move_response", 2)[3:8] == (0, None, 1, 0, 0)
        scu.send_release_request()
        stage.wait("SCU", "on_receive_release_response")
        scu.close()
    assert destination.received == [bytes(image(5))]
