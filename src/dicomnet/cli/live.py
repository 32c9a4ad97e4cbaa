"""The line at the bottom of a terminal that says how ``dicomnet receive`` is doing.

One idea: nothing is done for it when an instance comes. A timer reads what is counted anyway, a few times a second.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Final, NamedTuple

from dicomnet.cli.output import show_status, size_text

_STEP: Final = 0.25  # seconds between two looks
_WINDOW: Final = 8  # looks over which the rate is taken: two seconds


class State(NamedTuple):
    """``studies``: None if nobody knows. ``free``: bytes of the disk, or None if it cannot be asked."""

    instances: int
    size: int
    failed: int
    studies: int | None
    associations: int
    free: int | None


class Live:
    """Shows ``look()`` from the beginning to the end of a ``with`` block."""

    def __init__(self, look: Callable[[], State]) -> None:
        self._look = look
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dicomnet status", daemon=True)

    def __enter__(self) -> Live:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        show_status(None)

    def _run(self) -> None:
        seen: deque[tuple[float, State]] = deque(maxlen=_WINDOW)
        while True:
            seen.append((time.monotonic(), self._look()))
            columns = shutil.get_terminal_size().columns
            show_status(status_line(*seen[0], *seen[-1])[: columns - 1])
            if self._over.wait(_STEP):
                return


def status_line(then: float, before: State, now: float, state: State) -> str:
    """With the rate between two looks."""
    seconds = max(now - then, _STEP)
    parts = [
        f"{state.instances} instances" if state.instances != 1 else "1 instance",
        size_text(state.size),
        f"{(state.instances - before.instances) / seconds:.0f}/s",
        f"{size_text((state.size - before.size) / seconds)}/s",
        f"{state.associations} open",
    ]
    if state.studies is not None:
        parts.insert(1, f"{state.studies} studies" if state.studies != 1 else "1 study")
    if state.failed:
        parts.append(f"{state.failed} failed")
    if state.free is not None:
        parts.append(f"{size_text(state.free)} free")
    return "  ".join(parts)
