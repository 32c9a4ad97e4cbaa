"""Rounds of all contenders, taking turns; medians.

A round that fails ends its contender: a loss is not to be averaged away. Only a contender that is known to lose
messages gets several attempts at a round, and the report says how many it needed.
"""

from __future__ import annotations

import contextlib
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.processes import Failed, Missing, Program

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
    others: tuple[Program, ...] = ()  # more SCUs, at the same time
    start: Program | None = None  # the SCU with one message: what it costs to start
    check: Program | None = None  # an SCU that afterwards, unmeasured, keeps all answers in the folder
    answers: str = ""  # their digest
    amount: float | None = None  # what moves, in the scenario's unit; None: the SCU's own count
    files: tuple[Path, ...] = ()  # what must arrive: in the SCP's folder, or as the digest that it reports
    intact: bool = False  # compare the data sets that arrived, not only count the files
    held: int = 0  # associations that a holding SCU holds
    seconds: float = 0.0  # for which they are watched
    limit: float = 60.0  # s for one load: an as-shipped sender of 200 files takes 18
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


def _give_up(result: Result) -> None:
    if not result.rounds and not result.error:
        result.missing = result.missing or "not measured: the time for this table was up"


def _takes_part(result: Result, number: int) -> bool:
    most = result.contender.most_rounds
    return not result.missing and not result.error and (most is None or 0 <= number < most)


def _one_round(measure: Measure, result: Result, number: int, folder: Path) -> None:
    started = time.monotonic()
    figures = _attempt(measure, result, folder)
    took = f"{time.monotonic() - started:.1f} s" if figures else result.missing or "no figures"
    note(f"  {'warm-up' if number < 0 else f'round {number + 1}'}: {result.contender.name}: {took}")
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
            note(f"  {result.contender.name}: {reason}")
            if left:
                result.repeated.append(str(reason))
            else:
                result.error = str(reason)
    return {}


def note(text: str) -> None:
    """Tell who watches how far it is."""
    with contextlib.suppress(BrokenPipeError):
        print(text, file=sys.stderr, flush=True)
