"""The asyncio face on another event loop: uvloop's transports have their own ways."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import dicomnet
from dicomnet import Limits
from tests.faces.conftest import Scp, ct, quick
from tests.faces.face import AsyncFace
from tests.faces.wire import (
    AC,
    CT,
    EXPLICIT,
    OFFER,
    RELEASE_RQ,
    RQ,
    Scripted,
    Wire,
    echo_rq,
    echo_rsp,
    encoded,
    patient_data,
    store_rq,
)

uvloop = pytest.importorskip("uvloop", reason="uvloop is not installed (pip install uvloop)")
CONTEXTS = [dicomnet.Verification, (CT, [EXPLICIT])]


@pytest.fixture(scope="module")
def face() -> AsyncFace:
    return AsyncFace(dicomnet.aio, uvloop.new_event_loop)


@pytest.fixture
def scp(face: AsyncFace, tmp_path: Any) -> Iterator[Callable[..., Scp]]:
    import contextlib

    with contextlib.ExitStack() as stack:
        yield lambda **options: Scp(face, stack, tmp_path, **options)


def test_associations_stand_work_and_are_released(face: AsyncFace, scp: Callable[..., Scp]) -> None:
    """PS3.8 7.1, 7.2."""
    acceptor = scp()
    with face.associate(acceptor.peer, contexts=CONTEXTS) as association:
        assert association.c_echo().status == 0
        assert association.c_store(ct(patient_data())).status == 0
    assert acceptor.received == [patient_data()]
    assert acceptor.close_errors(1) == [None]


def test_large_data_sets_arrive(face: AsyncFace, scp: Callable[..., Scp]) -> None:
    """More than the system's buffers take, in memory and through a file."""
    acceptor = scp(limits=Limits(spool_size=1 << 20))
    datas = [os.urandom(size) for size in (100_000, 3 << 20, 32 << 20)]
    with face.associate(acceptor.peer, contexts=CONTEXTS) as association:
        for data in datas:
            assert association.c_store(ct(data)).status == 0
    assert acceptor.received == datas


def test_an_abort_in_mid_store_is_not_a_broken_pipe(face: AsyncFace) -> None:
    """PS3.8 7.3: what the peer said before it closed is found."""

    def script(wire: Wire) -> None:
        wire.hears()
        wire.sends(AC)
        wire.hears()
        wire.sends(bytes((7, 0, 0, 0, 0, 4, 0, 0, 2, 6)))

    with Scripted(script) as server:
        association = face.associate(server.peer, contexts=OFFER, timeouts=quick("send"))
        with pytest.raises(dicomnet.AssociationAborted, match="2/6"):
            association.c_store(ct(bytes(32 << 20)))


def test_a_peer_that_reads_nothing_is_given_up(face: AsyncFace) -> None:
    """Timeouts.send."""

    def script(wire: Wire) -> None:
        wire.hears()
        wire.sends(AC)
        wire.may_end.wait(20)

    with Scripted(script) as server:
        association = face.associate(server.peer, contexts=OFFER, timeouts=quick("send"))
        with pytest.raises(dicomnet.DeadlineExceeded, match="send"):
            association.c_store(ct(bytes(64 << 20)))


def test_a_peer_that_closes_its_half_gets_its_answers(face: AsyncFace, scp: Callable[..., Scp]) -> None:
    """Data and end may come in one event of this loop."""
    acceptor = scp()
    with Wire.to(acceptor.port).sends(RQ) as wire:
        wire.hears()
        wire.sends(echo_rq(1), store_rq(2), RELEASE_RQ).half_closes()
        assert [wire.hears_message().status for _ in range(2)] == [0, 0]
        assert [type(value).__name__ for value in wire.hears_to_the_end()] == ["ReleaseRp"]
    assert acceptor.close_errors(1) == [None]


def test_the_time_to_respond(face: AsyncFace) -> None:
    """Timeouts.response: this loop's clock is a coarse one."""

    def script(wire: Wire) -> None:
        wire.hears()
        wire.sends(AC)
        wire.hears()
        wire.sends(echo_rsp()[:20])
        wire.hears_to_the_end()

    with Scripted(script) as server:
        association = face.associate(server.peer, contexts=OFFER, timeouts=quick("response"))
        with pytest.raises(dicomnet.DeadlineExceeded, match="response"):
            association.c_echo()


def test_a_peer_that_speaks_first_is_no_peer(face: AsyncFace) -> None:
    """PS3.8 9.2: what comes before the request goes out is not lost."""

    def script(wire: Wire) -> None:
        wire.sends(AC)
        wire.hears_to_the_end()

    with Scripted(script) as server, pytest.raises(dicomnet.RemoteProtocolError):
        face.associate(server.peer, contexts=[("1.2.3", [EXPLICIT])])


def test_small_messages_are_not_held_back(face: AsyncFace, scp: Callable[..., Scp]) -> None:
    """No Nagle: each waits for an answer."""
    acceptor = scp()
    with Wire.to(acceptor.port).sends(encoded(RQ)) as wire:
        wire.hears()
        (connection,) = acceptor.server._connections.values()
        assert connection._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
