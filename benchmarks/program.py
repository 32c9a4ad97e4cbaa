"""What the programs that are ends of a measurement have in common: how they say that they listen, what they count
as work, and how they end.

A load ends by itself after its seconds or its count, whichever is first. An SCP ends when its standard input does: also
when whoever started it has died.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

WARM_UP = 0.1  # part of the seconds and of the count that is not measured
PYNETDICOM_PATIENCE = 3.0  # s that pynetdicom's SCUs wait for an answer; by default 30, and some answers get lost in it


def load_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that every load takes: where to, how long, how many."""
    parser.add_argument("port", type=int)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--most", type=int, default=1_000_000)


def announce(port: int) -> None:
    """Say that this SCP listens."""
    print(f"listening on 127.0.0.1:{port}", flush=True)


def wait_for_end() -> None:
    """Return when standard input ends."""
    sys.stdin.buffer.read()


def report(**result: Any) -> None:
    """Print the result for whoever started this program."""
    print(json.dumps(result), flush=True)


def timed(action: Callable[[int], object], *, seconds: float, most: int, warm_up: bool = True) -> dict[str, Any]:
    """Call `action` with 0, 1, 2 … for `seconds` or `most` times, after a warm-up, and return what to report.

    ``count`` is the number of calls in ``elapsed`` seconds and ``cpu`` CPU seconds; ``total`` has the warm-up's too.
    """
    warm = _repeat(action, 0, seconds * WARM_UP, max(1, int(most * WARM_UP))) if warm_up else 0
    elapsed, cpu = time.perf_counter(), time.process_time()
    total = _repeat(action, warm, seconds, warm + most)
    elapsed, cpu = time.perf_counter() - elapsed, time.process_time() - cpu
    return {"count": total - warm, "total": total, "elapsed": elapsed, "cpu": cpu}


def _repeat(action: Callable[[int], object], done: int, seconds: float, most: int) -> int:
    clock, end = time.perf_counter, time.perf_counter() + seconds
    while done < most and clock() < end:
        action(done)
        done += 1
    return done


def digest(data_sets: Iterable[bytes]) -> str:
    """One hash over many data sets in their order."""
    chain = hashlib.blake2b(digest_size=16)
    for data_set in data_sets:
        chain.update(hashlib.blake2b(data_set, digest_size=16).digest())
    return chain.hexdigest()
