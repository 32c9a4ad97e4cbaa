"""An idle association costs no CPU: whoever waits sleeps until something comes, and nothing polls."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from dicomnet import Limits, Timeouts
from tests.faces.conftest import Scp, eventually
from tests.faces.face import FACES, Face
from tests.faces.wire import Wire

MakeScp = Callable[..., Scp]
PLENTY = Limits(associations_per_ae_title=1000, associations_per_address=1000)
IDLE = 200


@pytest.fixture
def server_face() -> Face:
    """The one whose associations are threads; ``tests/aio`` looks at the event loop."""
    return FACES["blocking"]


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="this platform does not tell")
def test_200_idle_associations_cost_no_cpu(client: Face, scp: MakeScp) -> None:
    """§3, and the issue's "must show": while one works, nothing that belongs to the others is scheduled even once."""
    acceptor = scp(limits=PLENTY, timeouts=Timeouts(idle=600))
    wires = [Wire.associated(acceptor.port) for _ in range(IDLE)]
    idle = [thread for thread in threading.enumerate() if thread.name.startswith("dicomnet ")]
    with client.associate(acceptor.peer) as association:
        assert association.c_echo().status == 0
        idle = [thread for thread in idle if not thread.name.startswith("dicomnet accept")]
        eventually(lambda: switches(idle) == switches(idle), "they have gone to sleep")
        before = switches(idle)
        for _ in range(300):
            association.c_echo()
        # One that is waked by a clock (a poll with a short time-out, a sleep) would have run by now, and shows.
        assert switches(idle) == before
    for wire in wires:
        wire.socket.close()


def switches(threads: list[threading.Thread]) -> dict[int, int]:
    """How often each thread has been scheduled."""
    counts = {}
    for thread in threads:
        status = Path(f"/proc/self/task/{thread.native_id}/status").read_text()
        counts[thread.native_id or 0] = sum(
            int(line.split()[1]) for line in status.splitlines() if "ctxt_switches" in line
        )
    return counts


def test_whoever_waits_waits_for_a_time_limit_or_for_ever(client: Face, scp: MakeScp) -> None:
    """ "Nothing polls": each wait of an idle server ends by input, or when a limit of Timeouts passes."""
    acceptor = scp(timeouts=Timeouts(idle=600, artim=700))
    with client.associate(acceptor.peer) as association, Wire.to(acceptor.port):
        association.c_echo()
        eventually(lambda: len(_waits(acceptor)) >= 3, "acceptor and both connections wait")
        assert all(seconds is None or seconds > 500 for seconds in _waits(acceptor)), _waits(acceptor)


def _waits(acceptor: Scp) -> list[float | None]:
    """What the library's sleeping threads were told to wait at most, in seconds."""
    ours = {thread.ident for thread in threading.enumerate() if thread.name.startswith("dicomnet ")}
    frames = [frame for ident, frame in sys._current_frames().items() if ident in ours]
    waiting = ("Waiter.wait", "Transport.receive_within")
    return [frame.f_locals["seconds"] for frame in frames if frame.f_code.co_qualname in waiting]


def test_an_idle_requestor_has_no_thread(client: Face, scp: MakeScp) -> None:
    """No reader stands between the socket and the operation."""
    port = scp().port
    before = {thread for thread in threading.enumerate() if not thread.name.startswith("dicomnet ")}
    with client.associate(f"SCP@127.0.0.1:{port}") as association:
        association.c_echo()
        after = {thread for thread in threading.enumerate() if not thread.name.startswith(("dicomnet ", "event loop"))}
        assert after <= before
