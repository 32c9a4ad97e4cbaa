"""A gate for tasks: so many may pass at once, in the order in which they came."""

from __future__ import annotations

import asyncio
from collections import deque


class Gate:
    """As ``dimse.io.Gate``: ``size`` may be inside. Whoever leaves lets the first of those that wait in.

    A task that is cancelled while it waits, or just when it was let in, takes no place.
    """

    def __init__(self, size: int) -> None:
        self._free = size
        self._waiting: deque[asyncio.Future[None]] = deque()

    def acquire(self, _blocking: bool = False, /) -> bool:
        """Pass if nobody has to wait; True if that was so. This never waits: ``passed`` does."""
        if not self._free:
            return False
        self._free -= 1
        return True

    async def passed(self) -> None:
        """Wait until there is room, and take it."""
        if self.acquire():
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled():  # let in and cancelled in the same moment
                self.release()
            elif turn in self._waiting:
                self._waiting.remove(turn)
            raise

    def release(self) -> None:
        """Leave: the next one, if there is one, takes the place."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
