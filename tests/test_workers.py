"""Servers of several processes: who serves, what they share, and that nothing is left of them, however they end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import dicomnet
from dicomnet import AssociationRejected, DicomNetworkError, Limits
from dicomnet.workers import SharedCounters, Workers
from dicomnet.workers.memory import Board
from tests.faces.conftest import eventually
from tests.faces.wire import RELEASE_RQ, RQ, Wire, echo_rq, encoded, patient_data, store_rq

PATIENCE = 60.0  # seconds for a program to end, on a busy machine
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")
METHODS = [pytest.param("fork", marks=forks), "spawn"]


class Program:
    """A running ``tests.worker_program``."""

    def __init__(self, complaints: Any, **options: Any) -> None:
        self._complaints = complaints
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-X", "dev", "-m", "tests.worker_program", json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
            start_new_session=True,
            cwd=Path(__file__).parents[1],
        )
        self._associations: list[dicomnet.Association] = []
        self.first = self.line()

    def line(self) -> dict[str, Any]:
        """The next one that it prints."""
        assert self.process.stdout is not None
        line: dict[str, Any] = json.loads(self.process.stdout.readline() or "{}")
        return line

    def tell(self, command: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def asked(self, command: str) -> dict[str, Any]:
        """Its answer to a command."""
        self.tell(command)
        return self.line()

    def log(self) -> str:
        self._complaints.seek(0)
        text: str = self._complaints.read()
        return text

    @property
    def port(self) -> int:
        port: int = self.first["ports"][0]
        return port

    def associate(self, server: int = 0) -> dicomnet.Association:
        """It ends with the program."""
        self._associations.append(dicomnet.associate(f"SCP@127.0.0.1:{self.first['ports'][server]}"))
        return self._associations[-1]

    def end(self) -> None:
        """All of its session, also what should not be there any more."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        with self.process:
            for association in self._associations:
                association.abort()


@pytest.fixture
def program() -> Iterator[Callable[..., Program]]:
    """Starts one; it ends with the test."""
    with contextlib.ExitStack() as stack:

        def start(**options: Any) -> Program:
            started = Program(stack.enter_context(tempfile.TemporaryFile("w+")), **options)
            stack.callback(started.end)
            return started

        yield start


def worker_of(association: dicomnet.Association) -> int:
    return ids(association)[0]


def ids(association: dicomnet.Association) -> tuple[int, int]:
    """The process that serves it, and that one's parent."""
    worker, parent = str(association.c_echo().error_comment).split()
    return int(worker), int(parent)


def new_worker(running: Program) -> int:
    """Which one serves the next association."""
    with running.associate() as association:
        return worker_of(association)


def is_gone(pid: int) -> bool:
    """It has ended, whether or not somebody has asked for its exit code."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except ProcessLookupError:
        return True
    except FileNotFoundError:  # gone meanwhile, or a platform without /proc
        return os.path.isdir("/proc/self")
    return state == "Z"


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5):
        return True
    return False


# --- serving --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_associations_are_spread_evenly_and_close_ends_all(program: Callable[..., Program], method: str) -> None:
    """The API, §2: N processes on one port. A worker leaves a connection to one that has less to do."""
    running = program(method=method)
    associations = [running.associate() for _ in range(8)]
    workers = Counter(worker_of(association) for association in associations)
    assert sorted(workers.values()) == [4, 4]
    assert running.process.pid not in workers
    for association in associations[1:]:
        association.release()
    assert running.asked("look") == {"closed": [False], "echoes": 8, "stored": 0, "size": 0}
    assert running.asked("close")["closed"] == [True]
    with pytest.raises(DicomNetworkError):
        associations[0].c_echo()
    assert not listens(running.port)
    assert all(is_gone(pid) for pid in workers)
    running.process.communicate(timeout=PATIENCE)
    assert running.process.returncode == 0
    assert "Warning" not in running.log()


@forks
def test_the_program_gets_no_threads(program: Callable[..., Program]) -> None:
    """It may fork, or serve once more, without a warning (Python 3.12 and later)."""
    running = program(servers=2)
    assert running.first["threads"] == 1
    assert len(set(running.first["ports"])) == 2


def test_workers_are_one_or_more() -> None:
    """The API, §2."""
    with pytest.raises(ValueError, match="workers is 0"):
        dicomnet.serve(dicomnet.AE("SCP"), workers=0)


def test_a_port_that_is_taken_is_an_oserror() -> None:
    """Before any process is started."""
    with dicomnet.serve(dicomnet.AE("SCP")) as server, pytest.raises(OSError, match=r"."):
        dicomnet.serve(dicomnet.AE("SCP"), "127.0.0.1", server.port, workers=2)


def test_what_cannot_be_pickled_cannot_be_spawned() -> None:
    """The error says what to do about it."""
    listener = socket.create_server(("127.0.0.1", 0))
    started = Workers(lambda worker: None, listener, 2, limits=Limits(), drain=None, method="spawn")
    with pytest.raises(ValueError, match="functions of a module"):
        started.wait_ready()


def test_workers_that_cannot_serve_are_an_oserror(program: Callable[..., Program]) -> None:
    """Those that end before all have served once are not replaced."""
    running = program(method="failing")
    assert "ended with exit code 1" in running.first["error"]
    running.process.communicate(timeout=PATIENCE)
    assert "it cannot serve" in running.log()


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"max_associations": 3}, id="all"),
        pytest.param({"max_associations_per_peer": 3}, id="of one AE title"),
    ],
)
def test_the_limits_hold_for_all_workers_together(program: Callable[..., Program], options: dict[str, Any]) -> None:
    """2/3/2 past them, whichever worker has taken the connection; who leaves makes room."""
    running = program(**options)
    associations = [running.associate() for _ in range(3)]
    for _ in range(4):
        with pytest.raises(AssociationRejected, match="2/3/2"):
            running.associate()
    associations[0].release()
    eventually(lambda: not _is_full(running), "there is room again")


def _is_full(running: Program) -> bool:
    try:
        return not new_worker(running)
    except AssociationRejected:
        return True


@forks
def test_two_servers_of_one_program_have_limits_of_their_own(program: Callable[..., Program]) -> None:
    """Their workers do not share memory with the other's."""
    running = program(servers=2, max_associations=1)
    for server in (0, 1):
        running.associate(server)
    for server in (0, 1):
        with pytest.raises(AssociationRejected, match="2/3/2"):
            running.associate(server)


@forks
def test_a_dead_worker_takes_no_place(program: Callable[..., Program]) -> None:
    """Its associations count no more."""
    running = program(max_associations=2)
    first = running.associate()
    running.associate()
    os.kill(worker_of(first), signal.SIGKILL)
    eventually(lambda: not _is_full(running), "there is room again")


# --- workers that die -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_a_worker_that_is_killed_is_replaced(program: Callable[..., Program], method: str) -> None:
    """Its associations alone are lost."""
    running = program(method=method)
    by_worker: dict[int, list[Any]] = {}
    for _ in range(4):
        association = running.associate()
        by_worker.setdefault(worker_of(association), []).append(association)
    (victim, lost), (survivor, kept) = by_worker.items()
    os.kill(victim, signal.SIGKILL)
    for association in lost:
        with pytest.raises(DicomNetworkError):
            association.c_echo()
    for association in kept:
        assert worker_of(association) == survivor
    # It has less to do than the other, so that it gets the next association.
    eventually(lambda: new_worker(running) not in by_worker, "another worker serves")
    assert f"worker {victim} ended by signal 9; another one starts" in running.log()
    assert running.asked("close")["echoes"] >= 6  # what the dead one has counted is not lost


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc to see that a process has stopped")
def test_connections_that_wait_outlive_their_worker(program: Callable[..., Program]) -> None:
    """The listening socket is not a worker's own: the next one takes what nobody has accepted."""
    running = program()
    associations = [running.associate() for _ in range(2)]
    workers = {worker_of(association) for association in associations}
    assert len(workers) == 2
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)
    eventually(lambda: all(map(_stands_still, workers)), "they accept nothing")
    with Wire.to(running.port) as wire:
        wire.sends(encoded(RQ))
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
        assert type(wire.hears()).__name__ == "AssociateAc"


def _stands_still(pid: int) -> bool:
    """All its threads have stopped."""
    return all(
        stat.read_text().rpartition(")")[2].split()[0] == "T" for stat in Path(f"/proc/{pid}/task").glob("*/stat")
    )


@forks
def test_those_that_die_young_are_replaced_ever_more_slowly(program: Callable[..., Program]) -> None:
    """What ails them may ail their successors."""
    running = program(workers=1, method="fork")
    for _ in range(3):
        before = new_worker(running)
        os.kill(before, signal.SIGKILL)
        eventually(lambda before=before: is_gone(before), "it is gone")
    new_worker(running)
    delays = [line.rpartition(" in ")[2] for line in running.log().splitlines() if "another one starts" in line]
    assert delays == ["0.1 s", "0.2 s", "0.4 s"]


@forks
def test_sigterm_lets_a_worker_finish(program: Callable[..., Program]) -> None:
    """The transfer under way is answered, then the worker is replaced."""
    running = program()
    with Wire.associated(running.port) as wire:
        wire.sends(echo_rq())
        worker = int(str(wire.hears_message().error_comment).split()[0])
        stored = store_rq()
        wire.sends(echo_rq(), stored[:-7])
        wire.hears_message()
        os.kill(worker, signal.SIGTERM)
        eventually(lambda: new_worker(running) != worker, "who drains takes no more")
        wire.sends(stored[-7:], RELEASE_RQ)
        assert wire.hears_message().status == 0
        wire.hears_to_the_end()
    eventually(lambda: is_gone(worker), "it ends")


# --- ending ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_close_lets_transfers_finish(program: Callable[..., Program], method: str) -> None:
    """K1, in each worker: what has begun to arrive is answered; idle associations are aborted."""
    running = program(method=method)
    idle = [running.associate() for _ in range(2)]
    with Wire.associated(running.port) as wire:
        stored = store_rq()
        wire.sends(echo_rq(), stored[:-7])
        wire.hears_message()
        running.tell("close")
        eventually(lambda: not listens(running.port), "it does not listen any more")
        wire.sends(stored[-7:], RELEASE_RQ)
        assert wire.hears_message().status == 0
        assert [type(value).__name__ for value in wire.hears_to_the_end()] == ["ReleaseRp"]
    assert running.line() == {"closed": [True], "echoes": 1, "stored": 1, "size": len(patient_data())}
    for association in idle:
        with pytest.raises(DicomNetworkError):
            association.c_echo()


@forks
def test_a_worker_that_does_not_end_is_killed(program: Callable[..., Program]) -> None:
    """Past Timeouts.drain and a little more: close returns, and nothing is left."""
    running = program(drain=0.1)
    worker, supervisor = ids(running.associate())
    os.kill(worker, signal.SIGSTOP)
    assert running.asked("close")["closed"] == [True]
    assert is_gone(worker)
    assert is_gone(supervisor)


@forks
def test_ctrl_c_is_for_the_program_alone(program: Callable[..., Program]) -> None:
    """A terminal sends SIGINT to all of them: workers leave it to the program, which closes."""
    running = program()
    worker, supervisor = ids(running.associate())
    os.killpg(running.process.pid, signal.SIGINT)
    assert running.line()["interrupted"] is True
    running.process.communicate(timeout=PATIENCE)
    assert running.process.returncode == 0
    assert is_gone(worker)
    assert is_gone(supervisor)
    assert "another one starts" not in running.log()


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"method": "fork", "drain": None}, marks=forks, id="forked"),
        pytest.param({"method": "spawn", "drain": None}, id="spawned"),
        pytest.param({"servers": 2}, marks=forks, id="two servers"),
        pytest.param(
            {"child": True},
            marks=pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs os.pidfd_open"),
            id="with a child that lives on",
        ),
    ],
)
def test_nothing_is_left_of_a_program_that_is_killed(program: Callable[..., Program], options: dict[str, Any]) -> None:
    """SIGKILL: supervisor and workers see it, whatever they were doing."""
    running = program(**options)
    associations = [running.associate() for _ in range(4)]
    processes = {pid for association in associations for pid in ids(association)} - {running.process.pid}
    assert len(processes) >= 2
    running.process.kill()
    running.process.wait(PATIENCE)
    eventually(lambda: all(is_gone(pid) for pid in processes), "they have ended")
    eventually(lambda: not any(listens(port) for port in running.first["ports"]), "nobody listens")


@pytest.mark.parametrize("method", METHODS)
def test_a_program_that_ends_without_closing_leaves_nothing(program: Callable[..., Program], method: str) -> None:
    """As one without workers."""
    running = program(method=method)
    processes = {pid for _ in range(2) for pid in ids(running.associate())} - {running.process.pid}
    running.process.communicate(timeout=PATIENCE)
    eventually(lambda: all(is_gone(pid) for pid in processes), "they have ended")


@forks
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_without_its_supervisor_the_server_is_closed(program: Callable[..., Program], number: int) -> None:
    """``wait`` tells it, ``close`` returns."""
    running = program()
    worker, supervisor = ids(running.associate())
    os.kill(supervisor, number)
    assert running.asked("wait")["closed"] == [True]
    eventually(lambda: is_gone(worker), "the workers end, too")
    assert running.asked("close")["closed"] == [True]


# --- memory in common -----------------------------------------------------------------------------------------------


def test_counters_of_a_program_without_workers() -> None:
    """The same calls, whatever ``workers`` is."""
    for workers in (1, 3):
        counters = SharedCounters(workers, "stored", "size")
        counters.add(stored=1, size=1 << 40)
        counters.add(stored=1)
        assert counters.totals() == {"stored": 2, "size": 1 << 40}
        with pytest.raises(KeyError):
            counters.add(lost=1)


def test_the_tallies_of_workers_count_together() -> None:
    """By AE title and by address, until their association ends or they do."""
    limits = Limits(associations=5, associations_per_ae_title=3, associations_per_address=4)
    board = Board(2, limits)
    first, second = board.tally(0), board.tally(1)
    assert [first.admit("A", "1", limits), second.admit("A", "1", limits), second.admit("A", "2", limits)] == [True] * 3
    assert not first.admit("A", "3", limits)  # 3 of A
    assert first.admit("B", "1", limits)
    assert first.admit("B", "1", limits)
    assert not second.admit("C", "3", limits)  # 5 in all
    second.dismiss("A", "1")
    assert second.admit("C", "1", limits)
    assert not first.admit("D", "1", limits)
    assert board.associations == first.associations == second.associations == 5
    board.down(1)
    assert first.admit("A", "1", limits)
    assert not first.admit("D", "1", limits)  # 4 from there


def test_any_association_may_end_first() -> None:
    """What is noted of the others stays right."""
    limits = Limits(associations_per_ae_title=1)
    tally = Board(1, limits).tally(0)
    names = ["A", "B", "C", "D"]
    for name in names:
        assert tally.admit(name, "1", limits)
    for name in ("B", "A", "D", "C"):
        assert not tally.admit(name, "1", limits)
        tally.dismiss(name, "1")
        assert tally.admit(name, "1", limits)
        tally.dismiss(name, "1")


def test_a_connection_is_left_to_who_has_less_to_do() -> None:
    """A few times in a row: that one may have no time. Nobody waits for one that is down."""
    board = Board(3, Limits())
    busy, free = board.tally(0), board.tally(1)
    assert not busy.defer()
    busy.connect()
    assert not free.defer()
    deferred = 0
    while busy.defer():
        deferred += 1
        assert deferred < 100
    assert deferred > 1
    free.connect()
    assert not busy.defer()
    assert busy.pending == 1


def test_among_many_a_few_more_do_not_matter() -> None:
    """Up to a quarter."""
    board = Board(2, Limits())
    one, other = board.tally(0), board.tally(1)
    for _ in range(9):
        other.connect()
    for _ in range(8):
        one.connect()
    assert not other.defer()
    for _ in range(2):
        other.connect()
    assert other.defer()
