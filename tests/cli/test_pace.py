"""How many associations a sender uses: a decision without I/O, on a clock of its own."""

import math
from collections.abc import Callable

from dicomnet.sender.pace import MOST, Pace, Progress


class Peer:
    """What it stores in a second depends on how many associations there are."""

    def __init__(self, pace: Pace, rate: Callable[[int], float], takes: int = 100) -> None:
        self.pace = pace
        self.rate = rate
        self.takes = takes
        self.now = self.files = 0.0
        self.refusals = 0
        self.standing = 0
        self.targets = [pace.target]

    def run(self, seconds: float, waiting: int = 1000) -> None:
        end = self.now + seconds
        while self.now < end:
            if self.pace.target > self.takes and self.standing == self.takes:
                self.refusals += 1
                self.pace.refused(self.now, self.standing)
            self.standing = min(self.pace.target, self.takes)
            self.now += 0.01
            self.files += self.rate(self.standing) * 0.01
            self.pace.judge(Progress(self.now, int(self.files), int(self.files * 40_000)), self.standing, waiting)
            if self.pace.target != self.targets[-1]:
                self.targets.append(self.pace.target)


def test_twice_as_many_as_long_as_that_makes_it_faster() -> None:
    peer = Peer(Pace(None), lambda count: 1000.0 * count)
    peer.run(0.5)
    assert peer.targets == [1, 2, 4, MOST]


def test_then_one_more_at_a_time() -> None:
    peer = Peer(Pace(None), lambda count: 1000.0 * min(count, 6))
    peer.run(1.0)
    assert peer.targets == [1, 2, 4, MOST]
    peer = Peer(Pace(None), lambda count: 1000.0 * count if count <= 6 else 2000.0)
    peer.run(20.0)
    assert peer.targets[:7] == [1, 2, 4, 8, 4, 5, 6]


def test_no_more_than_there_is_room_for() -> None:
    peer = Peer(Pace(None, 3), lambda count: 1000.0 * count)
    peer.run(5.0)
    assert peer.targets == [1, 2, 3]


def test_one_that_brings_nothing_is_given_back_and_tried_again_less_and_less_often() -> None:
    peer = Peer(Pace(None), lambda count: 1000.0 * min(count, 2))
    peer.run(1.0)
    assert peer.targets == [1, 2, 4, 2]
    peer.run(60.0)
    assert set(peer.targets[4:]) == {2, 3}
    assert len(peer.targets) < 4 + 2 * math.log2(60) + 2


def test_where_it_gets_worse_that_is_not_looked_at_for_long() -> None:
    peer = Peer(Pace(None), lambda count: 1000.0 / count)
    peer.run(0.2)
    assert peer.targets == [1, 2, 1]


def test_with_an_operations_window_there_is_no_hurry() -> None:
    """PS3.7 D.3.3.3: one association is not held up by round trips then."""
    peer = Peer(Pace(None), lambda count: 1000.0 * count)
    peer.pace.windowed = True
    peer.run(0.25)
    assert peer.targets == [1]
    peer.run(0.25)
    assert peer.targets[:2] == [1, 2]


def test_one_that_brings_a_little_stays_but_is_the_last_for_a_while() -> None:
    peer = Peer(Pace(None), lambda count: 1000.0 * (1 + 0.06 * (count - 1)))
    peer.run(0.5)
    assert peer.targets == [1, 2]


def test_a_slow_peer_is_judged_by_few_files() -> None:
    peer = Peer(Pace(None), lambda count: 10.0 * count)
    peer.run(20.0)
    assert peer.targets[:4] == [1, 2, 4, 8]


def test_for_few_files_there_is_none_more() -> None:
    peer = Peer(Pace(None), lambda count: 1000.0 * count)
    peer.run(5.0, waiting=2)
    assert peer.targets == [1]


def test_a_peer_that_refuses_is_left_alone_for_longer_each_time() -> None:
    peer = Peer(Pace(None), lambda count: 1000.0 * count, takes=2)
    peer.run(60.0)
    assert 2 <= peer.refusals < 8
    assert peer.pace.target == 2


def test_as_many_as_the_user_wants_and_fewer_while_the_peer_refuses() -> None:
    peer = Peer(Pace(4), lambda count: 1000.0, takes=3)
    peer.run(0.5)
    assert (peer.targets, peer.refusals) == ([4, 3], 1)
    peer.takes = 4
    peer.run(1.0)
    assert peer.targets == [4, 3, 4]


def test_there_is_always_one() -> None:
    pace = Pace(None)
    pace.refused(0.0, 0)
    assert pace.target == 1
