"""How many associations to use: as many as make it faster (a pure decision; ``pool`` does what it says).

One idea: try more, and compare: twice as many while that helps, then one more at a time. What is compared is work done
in a second, in bytes, with an allowance for each file. Those that bring nothing are given back; then, and when the peer
refuses, it is left alone for a while.
"""

from __future__ import annotations

from typing import Final, NamedTuple

MOST: Final = 8  # associations, if nobody says how many: many a peer has room for ten, and we are not its only one
ALLOWANCE: Final = 32 * 1024  # bytes of work that a file is, whatever its size

_INTERVAL: Final = 0.05  # seconds to measure, if there are files enough
_LONG: Final = 0.3  # seconds, if there are few, or the gain is not clear
_FILES: Final = 32  # in a short interval
_FEW_FILES: Final = 4  # for each association, in a long one
_CLEAR: Final = 1.1  # times the rate before: worth it
_WORSE: Final = 0.9  # times the rate before: need not be looked at for long
_SOME: Final = 1.03  # times the rate before: not worth giving them back
_FIRST_PAUSE: Final = 1.0  # seconds until the next try after one in vain; doubled each time
_LAST_PAUSE: Final = 60.0


class Progress(NamedTuple):
    """What all associations have done at a point in time."""

    now: float
    files: int
    work: int


class Pace:
    """``target``: associations to use. ``fixed``: as the user wants; None: up to ``most``, as many as help.

    ``windowed``: the peer takes several requests at once on an association; then further ones seldom help, and are not
    tried at once.
    """

    def __init__(self, fixed: int | None, most: int = MOST) -> None:
        self.target = fixed or 1
        self._fixed = fixed
        self._most = most
        self.windowed = False
        self._since: Progress | None = None  # when the number became what it is
        self._before: float | None = None  # the rate without those that are being tried
        self._tried_from = 1  # how many there were without them
        self._doubling = True
        self._hold = 0.0  # no more are tried before that time
        self._pause = _FIRST_PAUSE

    def judge(self, progress: Progress, standing: int, waiting: int) -> None:
        """Set ``target`` anew. ``standing``: associations there are; ``waiting``: files that nobody has taken."""
        if self._fixed is not None:
            if progress.now >= self._hold:
                self.target = self._fixed
            return
        if standing != self.target or self._since is None:
            self._since = progress
            return
        seconds, files = progress.now - self._since.now, progress.files - self._since.files
        enough = files >= _FILES if seconds < _LONG else files >= _FEW_FILES * self.target
        if seconds < (_LONG if self.windowed and self._before is None else _INTERVAL) or not enough:
            return
        rate = (progress.work - self._since.work) / seconds
        if self._before is not None and not self._tried(progress.now, seconds, rate / self._before):
            return
        if progress.now >= self._hold and self.target < self._most and waiting > 4 * self.target:
            self._before, self._tried_from = rate, self.target
            self.target = min(2 * self.target if self._doubling else self.target + 1, self._most)
        self._since = None

    def _tried(self, now: float, seconds: float, gain: float) -> bool:
        """What became of those that were added last. True: they stay, and more may be tried."""
        if gain >= _CLEAR:
            self._pause = _FIRST_PAUSE
        elif seconds < _LONG and gain >= _WORSE:
            return False
        elif gain >= _SOME:
            self._wait(now)
        else:
            self._less(now, self._tried_from)
            return False
        self._before = None
        return True

    @property
    def trying(self) -> bool:
        """Whether further ones are being tried."""
        return self._before is not None

    def begin_anew(self) -> None:
        """Something else has changed: what was measured before it tells nothing."""
        self._since = None

    def refused(self, now: float, standing: int) -> None:
        """The peer does not take another one beside those that stand, or one of them has died."""
        self._less(now, standing)

    def _less(self, now: float, target: int) -> None:
        self.target = max(target, 1)
        self._before = self._since = None
        self._wait(now)

    def _wait(self, now: float) -> None:
        self._doubling = False
        self._hold = now + self._pause
        self._pause = min(2 * self._pause, _LAST_PAUSE)
