"""How many requests to have outstanding on each association (a pure decision; ``pool`` does what it says).

One idea: as many as the peer grants (PS3.7 D.3.3.3), which is nearly always best, until that shows to be too
many. When it says that it is out of resources it gets half as many, and later, step by step, as many as before. Now and
then half as many, or twice as many again, are tried for a moment: fewer stay if they make it faster, more if they make
it no slower.
"""

from __future__ import annotations

from typing import Final

from dicomnet.sender.pace import Progress

MOST: Final = 16  # that are asked for, if nobody says how many
RESOURCE_LIMITATION: Final = 0x0213  # PS3.7 C.4.2; at C-STORE it is 0xA7xx (PS3.4 Table B.2-1)

_BASIS: Final = 1.0  # seconds in which the rate is measured before another number is tried
_TRIAL: Final = 0.3  # seconds for which one is tried
_FILES: Final = 64  # in each, at least: of fewer, a rate says nothing
_FASTER: Final = 1.05  # times the rate before: worth having fewer
_AS_FAST: Final = 0.98  # times the rate before: no reason not to have more
_TOGETHER: Final = 0.2  # seconds in which several refusals count as one: those requests were outstanding together
_FIRST_PAUSE: Final = 4.0  # seconds until another number is tried; doubled each time that was in vain
_LAST_PAUSE: Final = 120.0


class Window:
    """``size``: requests that may be outstanding; ``trying``: for a moment, so that nothing else should change now.

    ``most``: that are asked for; ``fixed``: as the user wants, whatever becomes of it.
    """

    def __init__(self, most: int, *, fixed: bool) -> None:
        self.size = most
        self.trying = False
        self._fixed = fixed
        self._most: int | None = None  # that the peer grants, once that is known
        self._since: Progress | None = None  # when that what is measured began
        self._rate = 0.0  # before the trial
        self._before = most  # the size then
        self._upwards = True  # the direction of the last trial
        self._refused = -_TOGETHER
        self._hold: float | None = None  # nothing is tried before that time
        self._pause = _FIRST_PAUSE

    def grant(self, most: int) -> None:
        """An association stands on which the peer takes so many."""
        if self._most is None:
            self.size = most
        self._most = max(most, self._most or 0)

    def refused(self, now: float) -> None:
        """The peer is out of resources."""
        if self._fixed or now - self._refused < _TOGETHER:
            return
        self._refused = now
        self._settle(max(self.size // 2, 1))
        self._wait(now)

    def judge(self, progress: Progress, *, steady: bool) -> None:
        """Set ``size`` anew. Not ``steady``: something else changes, or there are not enough files, so that the rate
        tells nothing.
        """
        if self._fixed or self._most is None or self._most == 1:
            return
        if not steady or self._since is None:
            self._settle(self._before if self.trying else self.size)
            self._since = progress
            if self._hold is None:
                self._hold = progress.now + self._pause
            return
        seconds, files = progress.now - self._since.now, progress.files - self._since.files
        if seconds < _TRIAL or (files < _FILES and seconds < _BASIS) or (seconds < _BASIS and not self.trying):
            return
        rate = (progress.work - self._since.work) / seconds if files >= _FILES else 0.0
        self._since = progress
        if self.trying:
            self._tried(progress.now, rate / self._rate)
        elif rate and self._hold is not None and progress.now >= self._hold:
            self._try(rate)

    def _try(self, rate: float) -> None:
        """Up and down in turn, as far as it goes."""
        assert self._most is not None
        self._upwards = self.size == 1 or (self.size < self._most and not self._upwards)
        self._rate, self._before, self.trying = rate, self.size, True
        self.size = min(2 * self.size, self._most) if self._upwards else self.size // 2

    def _tried(self, now: float, gain: float) -> None:
        if gain >= (_AS_FAST if self._upwards else _FASTER):
            self._settle(self.size)
            self._pause, self._hold = _FIRST_PAUSE, now + _BASIS
        else:
            self._settle(self._before)
            self._wait(now)

    def _settle(self, size: int) -> None:
        self.size, self.trying, self._since = size, False, None

    def _wait(self, now: float) -> None:
        self._hold = now + self._pause
        self._pause = min(2 * self._pause, _LAST_PAUSE)
