"""How many requests a sender has outstanding on an association: a decision without I/O, on a clock of its own."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dicomnet.sender import send
from dicomnet.sender.pace import Progress
from dicomnet.sender.window import Window
from tests.cli.conftest import Scp
from tests.cli.programs import file


class Peer:
    """What it stores in a second depends on how many are outstanding; with more than it ``takes`` it refuses some."""

    def __init__(self, window: Window, rate: Callable[[int], float], takes: int = 100) -> None:
        self.window = window
        self.rate = rate
        self.takes = takes
        self.now = self.files = 0.0
        self.sizes = [window.size]
        self.seconds: dict[int, float] = {}  # at each size

    def run(self, seconds: float, *, steady: bool = True) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now += 0.01
            self.files += self.rate(self.window.size) * 0.01
            if self.window.size > self.takes:
                self.window.refused(self.now)
            self.window.judge(Progress(self.now, int(self.files), int(self.files * 40_000)), steady=steady)
            self.seconds[self.window.size] = self.seconds.get(self.window.size, 0.0) + 0.01
            if self.window.size != self.sizes[-1]:
                self.sizes.append(self.window.size)


def windowed(granted: int = 16, *, fixed: bool = False) -> Window:
    window = Window(16, fixed=fixed)
    window.grant(granted)
    return window


def test_as_many_as_the_peer_grants_and_nothing_is_tried_in_a_short_run() -> None:
    peer = Peer(windowed(10), lambda size: 1000.0 / size)
    peer.run(4.0)
    assert peer.sizes == [10]


def test_where_more_is_better_fewer_are_tried_less_and_less_often_and_not_for_long() -> None:
    peer = Peer(windowed(), lambda size: 100.0 * size)
    peer.run(600.0)
    assert peer.sizes[:4] == [16, 8, 16, 8]
    assert peer.seconds[8] < 600.0 * 0.006
    assert peer.window.size == 16


def test_where_it_makes_no_difference_there_are_as_many_as_are_granted() -> None:
    peer = Peer(windowed(), lambda size: 1000.0)
    peer.run(300.0)
    assert (set(peer.sizes), peer.window.size) == ({8, 16}, 16)


def test_fewer_stay_where_that_is_faster() -> None:
    peer = Peer(windowed(), lambda size: 4000.0 / max(size, 4))
    peer.run(30.0)
    assert peer.seconds[4] > 10.0
    peer.rate = lambda size: 100.0 * size
    peer.run(300.0)
    assert peer.window.size == 16


def test_a_peer_that_is_out_of_resources_gets_half_as_many_and_more_again_later() -> None:
    peer = Peer(windowed(), lambda size: 1000.0, takes=5)
    peer.run(2.0)
    assert peer.sizes == [16, 8, 4]
    peer.run(60.0)
    assert max(peer.sizes[3:]) == 8
    peer.takes = 100
    peer.run(300.0)
    assert peer.window.size == 16


def test_those_refused_together_count_once_and_there_is_always_one() -> None:
    window = windowed()
    for _ in range(16):
        window.refused(1.0)
    assert window.size == 8
    for now in range(2, 10):
        window.refused(now)
    assert window.size == 1


def test_while_other_things_change_nothing_is_concluded() -> None:
    peer = Peer(windowed(), lambda size: 10_000.0 / size)
    peer.run(30.0, steady=False)
    assert peer.sizes == [16]
    peer.run(1.05)
    assert peer.window.trying
    peer.run(0.01, steady=False)
    assert (peer.window.size, peer.window.trying) == (16, False)


def test_a_few_files_say_nothing() -> None:
    peer = Peer(windowed(), lambda size: 10.0)
    peer.run(60.0)
    assert peer.sizes == [16]


def test_what_the_user_wants_stays() -> None:
    peer = Peer(windowed(fixed=True), lambda size: 1000.0 / size, takes=1)
    peer.run(60.0)
    assert peer.sizes == [16]


@pytest.mark.parametrize(("status", "window", "left"), [(0xA700, None, 4), (0x0213, None, 4), (0xA700, 8, 8)])
def test_a_sender_tells_what_was_left_of_it(
    tmp_path: Path, serve: Callable[..., Scp], status: int, window: int | None, left: int
) -> None:
    scp = serve(async_ops=(8, 8))
    answers = iter([status])
    scp.answer = lambda request: next(answers, 0)
    sending = send([file(tmp_path, number) for number in range(20)], scp.peer, window=window, backoff=0.001)
    assert sending.window == 0
    assert sum(outcome.ok for outcome in sending) == 20 - (status == 0x0213)
    assert sending.window == left
