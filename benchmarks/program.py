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
import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

try:
    import resource
except ImportError:  # Windows: no such limit
    resource = None  # type: ignore[assignment]

WARM_UP = 0.1  # part of the seconds and of the count that is not measured
PYNETDICOM_PATIENCE = 3.0  # s that pynetdicom's SCUs wait for an answer; by default 30, and some answers get lost in it


def run_verb(name: str, *programs: Callable[..., None], options: Callable[[Any], None]) -> None:
    """Run that of `programs` which the command line names, with its arguments; `options` adds them to the verbs."""
    parser = argparse.ArgumentParser(prog=f"benchmarks.{name}")
    verbs = parser.add_subparsers(required=True)
    for program in programs:
        verb = verbs.add_parser(program.__name__, help=program.__doc__)
        verb.set_defaults(program=program)
    options(verbs.choices)
    arguments = vars(parser.parse_args())
    arguments.pop("program")(**arguments)


def load_arguments(*parsers: argparse.ArgumentParser) -> None:
    """Add the arguments that every load takes: where to, how long, how many."""
    for parser in parsers:
        parser.add_argument("port", type=int)
        parser.add_argument("--seconds", type=float, default=1.0)
        parser.add_argument("--most", type=int, default=1_000_000)


def allow_many_connections() -> None:
    """As many descriptors as the system gives: some shells allow 1,024."""
    if resource is not None:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


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
    return _taken(total - warm, elapsed, cpu) | {"total": total}


def timed_by_threads(action: Callable[[], object], threads: int, *, seconds: float) -> dict[str, Any]:
    """Call `action` on many threads at once for `seconds`, after a warm-up, and return what to report."""
    counts = [0] * threads
    stop = threading.Event()

    def work(number: int) -> None:
        while not stop.is_set():
            action()
            counts[number] += 1

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    time.sleep(seconds * WARM_UP)
    before, elapsed, cpu = sum(counts), time.perf_counter(), time.process_time()
    time.sleep(seconds)
    result = _taken(sum(counts) - before, elapsed, cpu)
    stop.set()
    for worker in workers:
        worker.join()
    return result


async def timed_by_tasks(action: Callable[[], Awaitable[object]], tasks: int, *, seconds: float) -> dict[str, Any]:
    """The same with tasks of one event loop; one is the coroutine itself, without a task beside it."""
    import asyncio

    clock, count, end = time.perf_counter, 0, 0.0

    async def work() -> None:
        nonlocal count
        while clock() < end:
            await action()
            count += 1

    async def work_together(duration: float) -> None:
        nonlocal end
        end = clock() + duration
        if tasks == 1:
            await work()
        else:
            await asyncio.gather(*(work() for _ in range(tasks)))

    await work_together(seconds * WARM_UP)
    count, elapsed, cpu = 0, clock(), time.process_time()
    await work_together(seconds)
    return _taken(count, elapsed, cpu)


def _taken(count: int, elapsed: float, cpu: float) -> dict[str, Any]:
    """The result of a load that began when the clocks showed `elapsed` and `cpu`."""
    return {"count": count, "elapsed": time.perf_counter() - elapsed, "cpu": time.process_time() - cpu}


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
