"""What a table is: contenders that do the same, the figures to reach, and how long it may take."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.corpora import Corpus, corpus
from benchmarks.measure import Contender, Measure, Plan
from benchmarks.rounds import exchange

_QUICK_SECONDS = 6.0  # for a table


@dataclass(frozen=True, slots=True)
class Settings:
    """How long and how often. Quick is for a look in passing; its figures scatter."""

    quick: bool
    cache: Path
    rounds: int

    @property
    def load(self) -> tuple[str, ...]:
        """Arguments of a load that times itself."""
        return ("--seconds", "0.4" if self.quick else "0.8")

    @property
    def slow_rounds(self) -> int:
        """Rounds of a contender that is slow: it must not take most of a run."""
        return 1 if self.quick else 2

    def plan(self, scenario: Scenario) -> Plan:
        """When a table ends: a round that has begun is finished."""
        seconds = _QUICK_SECONDS if self.quick else scenario.seconds
        return Plan(rounds=self.rounds, warm_up=not self.quick, seconds=seconds)

    def corpus(self, name: str, *, quick: int, full: int, size: int = 0) -> Corpus:
        """The corpus `name` with so many files; of ``large``, frames of half a megabyte."""
        return corpus(self.cache, name, quick if self.quick else full, size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A figure to reach: that of one contender, divided by that of another if there is one, or less that of another."""

    of: str
    against: str = ""
    less: str = ""
    key: str = "rate"
    what: str = ""  # for the reader: what the key is, if not the rate
    at_least: float | None = None
    at_most: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line of a plot: where it stands on the x axis, and which contender's figure it shows there."""

    name: str
    points: tuple[tuple[float, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """What a table's figures look like."""

    name: str
    title: str
    x: str
    y: str
    lines: tuple[Line, ...]

    log_x: bool = False
    log_y: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One table: contenders that do the same, in a unit, and the figures to reach."""

    title: str
    unit: str
    contenders: tuple[Contender, ...]
    goals: tuple[Goal, ...] = ()
    note: str = ""
    measure: Measure = exchange
    seconds: float = 40.0  # after which a full run begins no further round
    plot: Plot | None = None
