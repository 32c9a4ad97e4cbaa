"""A round of one contender; rounds of all contenders, taking turns; medians.

A round that fails ends its contender: a loss is not to be averaged away. Only a contender that is known to lose
messages gets several attempts at a round, and the report says how many it needed.

A load that is a program of ours times itself, after a warm-up. A command-line tool cannot: it is run twice against
the same SCP, with one message and then with all of them, and the difference counts. That leaves out what it takes to
start, for every tool alike. Where several files arrive, their rate is that of their arrival: it is read off the files'
times of modification, and no tool's start or end has part in it.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.corpora import digest_of
from benchmarks.processes import MB, Failed, Missing, Process, Program, Usage

_LIMIT = 60.0  # s for one load: an as-shipped sender of 200 files takes 18
_LAUNCHES = 3  # of a program whose start is measured, in a round

PINNED = ", a core per end"  # what `pinned` adds to a name

Figures = dict[str, float]
Measure = Callable[["Contender", Path], Figures]

_NOBODY = Program()


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """Two programs that talk to each other, and what must have arrived when they are done.

    Where only a program's start is measured, that program is the SCU and there is no SCP.
    """

    name: str
    scu: Program
    scp: Program = _NOBODY
    start: Program | None = None  # the SCU with one message: what it costs to start
    amount: float | None = None  # what moves, in the scenario's unit; None: the SCU's own count
    files: tuple[Path, ...] = ()  # what must arrive in the SCP's folder
    intact: bool = False  # compare the data sets that arrived, not only count the files
    held: int = 0  # associations that a holding SCU holds
    seconds: float = 0.0  # for which they are watched
    most_rounds: int | None = None  # for one so slow that it would take most of a run
    attempts: int = 1  # at each round; more for one that is known to lose messages


@dataclass(slots=True)
class Result:
    """What the rounds of one contender gave: figures by round and their medians, or why there are none."""

    contender: Contender
    rounds: list[Figures] = field(default_factory=list)
    missing: str = ""
    error: str = ""
    repeated: list[str] = field(default_factory=list)  # why rounds had to be begun anew

    @property
    def medians(self) -> Figures:
        """The median of each figure; none at all if a round failed for good."""
        keys = self.rounds[0] if self.rounds and not self.error else ()
        return {key: statistics.median(figures[key] for figures in self.rounds) for key in keys}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How often each contender is measured, and for how long."""

    rounds: int
    warm_up: bool  # one more round before, which is not counted
    seconds: float = math.inf  # after which no further round begins; after three times as many, nothing at all

    @property
    def numbers(self) -> range:
        """The rounds' numbers; that of the warm-up is -1."""
        return range(-1 if self.warm_up else 0, self.rounds)


def alternate(measure: Measure, contenders: Sequence[Contender], plan: Plan, folder: Path) -> list[Result]:
    """Measure all contenders in turn, as `plan` says."""
    results = [Result(contender) for contender in contenders]
    started = time.monotonic()
    for number in plan.numbers:
        if number > 0 and time.monotonic() > started + plan.seconds:
            break
        for result in results:
            if time.monotonic() > started + 3 * plan.seconds:
                _give_up(result)
            elif _takes_part(result, number):
                _one_round(measure, result, number, folder)
    return results


def _give_up(result: Result) -> None:
    if not result.rounds and not result.error:
        result.missing = result.missing or "not measured: the time for this table was up"


def _takes_part(result: Result, number: int) -> bool:
    most = result.contender.most_rounds
    return not result.missing and not result.error and (most is None or 0 <= number < most)


def _one_round(measure: Measure, result: Result, number: int, folder: Path) -> None:
    started = time.monotonic()
    figures = _attempt(measure, result, folder)
    took = f"{time.monotonic() - started:.1f} s"
    _note(f"  {'warm-up' if number < 0 else f'round {number + 1}'}: {result.contender.name}: {took}")
    if number >= 0 and figures:
        result.rounds.append(figures)


def _attempt(measure: Measure, result: Result, folder: Path) -> Figures:
    """The figures of one round; none, and why in `result`, if there are none to be had."""
    for left in reversed(range(result.contender.attempts)):
        try:
            with tempfile.TemporaryDirectory(prefix="round-", dir=folder) as work:
                return measure(result.contender, Path(work))
        except Missing as reason:
            result.missing = str(reason)
            break
        except (Failed, ValueError) as reason:  # ValueError: what arrived is no Part 10 file
            _note(f"  {result.contender.name}: {reason}")
            if left:
                result.repeated.append(str(reason))
            else:
                result.error = str(reason)
    return {}


def pinned(contender: Contender) -> Contender:
    """`contender` with its SCP on one core and its SCU on another.

    Left alone, the system at times puts both on one core, where a bare ping-pong is three times as fast: the rounds of
    a small exchange then fall into two groups, and their median into either.
    """
    name = f"{contender.name}{PINNED}"
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(cores) < 2:
        missing = "it needs two cores, and a system that lets a program choose"
        return replace(contender, name=name, scp=replace(contender.scp, missing=missing))
    return replace(
        contender,
        name=name,
        scp=replace(contender.scp, core=cores[0]),
        scu=replace(contender.scu, core=cores[-1]),
    )


def exchange(contender: Contender, work: Path) -> Figures:
    """One round: start the SCP, let the SCU do its work, stop the SCP, and see that nothing was lost."""
    folder = work / "received"
    folder.mkdir()
    with Process.listening(contender.scp, work / "scp.log", folder=folder) as scp:
        idle, cpu = scp.rss, scp.cpu
        start = _run(contender.start, scp.port, work) if contender.start else None
        scu = _run(contender.scu, scp.port, work)
        ended = scp.stop()
    _check_nothing_lost(contender, folder, scu, ended)
    figures = _load(contender, start, scu) | {
        "scp_cpu": ended.result.get("cpu", ended.cpu) - cpu,
        "scp_peak": ended.peak / MB,
        "scp_above": (ended.peak - idle) / MB,
    }
    figures["rate"] = figures["amount"] / (_arrival(contender, folder) or figures["seconds"])
    figures["scu_cpu_each"] = figures["scu_cpu"] / figures["amount"]
    figures["scp_cpu_each"] = figures["scp_cpu"] / figures["amount"]
    return figures


def hold(contender: Contender, work: Path) -> Figures:
    """One round of nothing: what associations cost that are there and say nothing."""
    with Process.listening(contender.scp, work / "scp.log") as scp:
        before = scp.rss
        with Process(contender.scu, work / "scu.log", port=scp.port) as scu:
            scu.await_line("held", _LIMIT)
            time.sleep(1)  # the last association's set-up is no part of the idling
            cpu, since = scp.cpu, time.perf_counter()
            time.sleep(contender.seconds)
            return {
                "held": float(contender.held),
                "seconds": contender.seconds,
                "cpu_percent": 100 * (scp.cpu - cpu) / (time.perf_counter() - since),
                "kb_each": (scp.rss - before) / 1024 / contender.held,
                "threads": float(scp.threads),
                "rss": scp.rss / MB,
            }


def launch(contender: Contender, work: Path) -> Figures:
    """One round of a program that starts, does next to nothing, and ends."""
    runs = [_run(contender.scu, 0, work) for _ in range(_LAUNCHES)]
    return {
        "ms": statistics.median(run.seconds for run in runs) * 1000,
        "cpu_ms": statistics.median(run.cpu for run in runs) * 1000,
    }


def _run(program: Program, port: int, work: Path) -> Usage:
    with Process(program, work / "scu.log", port=port) as scu:
        return scu.finish(_LIMIT)


def _load(contender: Contender, start: Usage | None, scu: Usage) -> Figures:
    amount = scu.result["count"] if contender.amount is None else contender.amount
    seconds, cpu = scu.result.get("elapsed", scu.seconds), scu.result.get("cpu", scu.cpu)
    figures = {"amount": float(amount), "seconds": seconds, "scu_cpu": cpu, "scu_peak": scu.peak / MB}
    if start:
        figures["seconds"] = max(seconds - start.seconds, 1e-3)
        figures["scu_cpu"] = max(cpu - start.cpu, 0.0)
        figures["scu_above"] = max(scu.peak - start.peak, 0) / MB
    return figures


def _check_nothing_lost(contender: Contender, folder: Path, scu: Usage, scp: Usage) -> None:
    if contender.files:
        arrived = [path for path in folder.rglob("*") if path.is_file()]
        if len(arrived) != len(contender.files):
            raise Failed(f"{len(contender.files)} files were sent, {len(arrived)} arrived")
        if contender.intact and Counter(map(digest_of, arrived)) != _digests(contender.files):
            raise Failed("the data sets that arrived are not those that were sent")
    if scu.result.get("stored", 0) != scp.result.get("stored", 0):
        raise Failed(f"{scu.result.get('stored', 0)} objects were sent, {scp.result.get('stored', 0)} arrived")
    if "digest" in scu.result and scu.result["digest"] != scp.result.get("digest"):
        raise Failed("the data sets that arrived are not those that were sent")


@functools.cache  # what is sent stays the same from round to round
def _digests(files: tuple[Path, ...]) -> Counter[str]:
    return Counter(map(digest_of, files))


def _arrival(contender: Contender, folder: Path) -> float:
    """Seconds from the arrival of the file that warms up to that of the last; 0 if the files do not tell."""
    arrived = sorted((path.stat() for path in folder.rglob("*") if path.is_file()), key=lambda file: file.st_mtime)
    if contender.start:
        arrived = arrived[1:]
    if len(arrived) < 2 or arrived[0].st_size > 2 * arrived[-1].st_size:  # not in the order that was meant
        return 0.0
    return arrived[-1].st_mtime - arrived[0].st_mtime


def _note(text: str) -> None:
    with contextlib.suppress(BrokenPipeError):
        print(text, file=sys.stderr, flush=True)
