"""The Markdown tables for readers, the JSON history for comparisons, and the plots."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import peers, svg
from benchmarks.measure import Figures, Measure, Result
from benchmarks.model import Goal, Plot, Scenario, Settings
from benchmarks.rounds import exchange, hold, launch

Run = dict[str, tuple[Scenario, list[Result]]]

_Cell = Callable[[Result, Figures], str]


@dataclass(frozen=True, slots=True)
class Outcome:
    """A goal, and what came out. `value` is None when one of the contenders has no figures."""

    goal: Goal
    value: float | None

    @property
    def reached(self) -> bool | None:
        """Whether the goal is reached; None when that cannot be said."""
        if self.value is None or (self.goal.at_least is None and self.goal.at_most is None):
            return None
        enough = self.goal.at_least is None or self.value >= self.goal.at_least
        return enough and (self.goal.at_most is None or self.value <= self.goal.at_most)


def outcomes(scenario: Scenario, results: Sequence[Result]) -> list[Outcome]:
    """Compare the medians with the figures to reach."""
    medians = {result.contender.name: result.medians for result in results}

    def figure(name: str, key: str) -> float | None:
        return medians[name].get(key)

    found = []
    for goal in scenario.goals:
        value = figure(goal.of, goal.key)
        if (goal.against or goal.less) and value is not None:
            other = figure(goal.against or goal.less, goal.key)
            value = None if not other else value - other if goal.less else value / other
        found.append(Outcome(goal, value))
    return found


def heading(settings: Settings) -> str:
    """What a reader must know before any figure: where, with what, how often."""
    installed = ", ".join(f"{name} {version}" for name, version in peers.versions().items())
    rounds = f"Rounds of each: up to {settings.rounds}, alternating" + (" (quick: figures scatter)" * settings.quick)
    return (
        f"# Benchmarks, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC\n\n"
        f"{machine_text()}; {installed}; revision {_revision() or 'unknown'}.  \n"
        f"{rounds}; medians; loopback; files on {_file_system(settings.cache)}. Load of the machine at the start: "
        f"{_machine()['load']:.1f}.\n\n"
        "CPU is of the whole process, its start left out, for each message, file or MB. "
        "Memory is the peak, in brackets what of it is above idle. "
        "After each round what arrived was counted; where it says hash, each data set was compared as well. "
        "A comparison across machines or days means nothing.\n"
    )


def table(name: str, scenario: Scenario, results: Sequence[Result]) -> str:
    """One scenario in Markdown."""
    columns = _COLUMNS[scenario.measure]
    lines = [f"## {scenario.title} (`{name}`)", ""]
    lines.append(row(["", *(heading.format(unit=scenario.unit) for heading in columns)]))
    lines.append(row(["---", *("---:" for _ in columns)]))
    for result in results:
        medians = result.medians
        cells = [cell(result, medians) for cell in columns.values()] if medians else [_why_not(result)]
        lines.append(row([result.contender.name, *cells, *[""] * (len(columns) - len(cells))]))
    lines += ["", scenario.note, *_repetitions(results), ""]
    lines += [_line(outcome) for outcome in outcomes(scenario, results)]
    return "\n".join(lines) + "\n"


def summary(run: Run) -> str:
    """All figures to reach, in one table."""
    lines = ["## Figures to reach", "", row(["what", "against", "goal", "measured", ""])]
    lines.append(row(["---", "---", "---:", "---:", "---"]))
    for scenario, results in run.values():
        for outcome in outcomes(scenario, results):
            goal = outcome.goal
            if goal.at_least is None and goal.at_most is None:
                continue
            what = f"{scenario.title}: {goal.of}" + (f"; {goal.what}" if goal.what else "")
            against = goal.against or (f"{goal.less} +" if goal.less else "")
            measured = "–" if outcome.value is None else f"**{number(outcome.value)}**"
            needed = (goal.of, goal.against, goal.less)
            why = next(filter(None, (_why_not(result) for result in results if result.contender.name in needed)), "")
            verdict = {True: "reached", False: "**not reached**", None: why or "no figures"}[outcome.reached]
            lines.append(row([what, against, ", ".join(_wanted(goal)), measured, verdict]))
    return "\n".join(lines) + "\n"


def plot(scenario: Scenario, results: Sequence[Result]) -> tuple[str, str] | None:
    """The plot of a table, its name and SVG, if there is one to be drawn."""
    wanted = scenario.plot
    medians = {result.contender.name: result.medians for result in results}
    if wanted is None:
        return None
    lines = [
        (line.name, [(x, medians[name]["rate"]) for x, name in line.points if medians.get(name)])
        for line in wanted.lines
    ]
    drawn = [line for line in lines if line[1]]
    return (wanted.name, _draw(wanted, drawn)) if drawn else None


def _draw(wanted: Plot, lines: list[tuple[str, list[tuple[float, float]]]]) -> str:
    return svg.line_chart(lines, title=wanted.title, x=wanted.x, y=wanted.y, log_x=wanted.log_x, log_y=wanted.log_y)


def record(settings: Settings, run: Run) -> dict[str, Any]:
    """A whole run as JSON values."""
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "revision": _revision(),
        "quick": settings.quick,
        "rounds": settings.rounds,
        "files_on": _file_system(settings.cache),
        "machine": _machine(),
        "versions": peers.versions(),
        "scenarios": {name: _record(scenario, results) for name, (scenario, results) in run.items()},
    }


def append(history: Path, run: dict[str, Any]) -> None:
    """Add a run to the history, a JSON array. The file is replaced as a whole: never half-written."""
    runs = json.loads(history.read_text()) if history.exists() else []
    unfinished = history.with_name(history.name + ".new")
    unfinished.write_text(json.dumps([*runs, run], indent=1, ensure_ascii=False) + "\n")
    unfinished.replace(history)


def _record(scenario: Scenario, results: Sequence[Result]) -> dict[str, Any]:
    return {
        "title": scenario.title,
        "unit": scenario.unit,
        "contenders": {
            result.contender.name: {"medians": result.medians, "rounds": result.rounds, "repeated": result.repeated}
            if result.medians
            else {"not_available": result.missing or result.error}
            for result in results
        },
        "goals": [
            {
                "of": outcome.goal.of,
                "against": outcome.goal.against,
                "less": outcome.goal.less,
                "key": outcome.goal.key,
                "value": outcome.value,
                "at_least": outcome.goal.at_least,
                "at_most": outcome.goal.at_most,
                "reached": outcome.reached,
            }
            for outcome in outcomes(scenario, results)
        ],
    }


def row(cells: Sequence[str]) -> str:
    """A row of a Markdown table."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _why_not(result: Result) -> str:
    return result.missing or (f"not available: {result.error}" if result.error else "")


def _repetitions(results: Sequence[Result]) -> list[str]:
    """A sentence for each contender of which rounds were begun anew, because something was lost."""
    return [
        f"{result.contender.name}: rounds that failed and were begun anew: {len(result.repeated)} "
        f"(the last: {result.repeated[-1]})."
        for result in results
        if result.repeated
    ]


def _line(outcome: Outcome) -> str:
    goal = outcome.goal
    what = f", {goal.what}" if goal.what else ""
    against = f" / {goal.against}" if goal.against else f" – {goal.less}" if goal.less else ""
    value = "–" if outcome.value is None else f"**{number(outcome.value)}**"
    wanted = _wanted(goal)
    verdict = {True: " – reached", False: " – **not reached**", None: ""}[outcome.reached]
    return f"- {goal.of}{against}{what}: {value}" + (f" ({', '.join(wanted)}){verdict}" if wanted else "")


def _wanted(goal: Goal) -> list[str]:
    wanted = [f"at least {goal.at_least:g}"] if goal.at_least is not None else []
    return wanted + ([f"at most {goal.at_most:.3g}"] if goal.at_most is not None else [])


def number(value: float) -> str:
    """Three significant digits, thousands apart."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _spread(result: Result, _: Figures) -> str:
    rates = [figures["rate"] for figures in result.rounds]
    return f"{number(min(rates))} – {number(max(rates))} ({len(rates)})"


def _cpu(key: str) -> _Cell:
    return lambda _, medians: f"{number(medians[key] * 1e6)} µs"


def _memory(end: str) -> _Cell:
    def cell(_: Result, medians: Figures) -> str:
        above = f" (+{medians[f'{end}_above']:.0f})" if f"{end}_above" in medians else ""
        return f"{medians[f'{end}_peak']:.0f} MB{above}"

    return cell


def _plain(key: str, unit: str = "") -> _Cell:
    return lambda _, medians: number(medians[key]) + unit


_COLUMNS: dict[Measure, dict[str, _Cell]] = {
    exchange: {
        "{unit}": _plain("rate"),
        "min – max (rounds)": _spread,
        "moved": _plain("amount"),
        "checked": lambda result, _: "hash" if result.contender.intact else "count",
        "SCU CPU": _cpu("scu_cpu_each"),
        "SCP CPU": _cpu("scp_cpu_each"),
        "SCU memory": _memory("scu"),
        "SCP memory": _memory("scp"),
    },
    hold: {
        "associations": _plain("held"),
        "watched": _plain("seconds", " s"),
        "CPU of a core": _plain("cpu_percent", " %"),
        "memory each": _plain("kb_each", " kB"),
        "threads": _plain("threads"),
        "memory": _plain("rss", " MB"),
    },
    launch: {
        "time": _plain("ms", " ms"),
        "CPU": _plain("cpu_ms", " ms"),
    },
}


def machine_text() -> str:
    """The machine in a few words."""
    machine = _machine()
    return f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}, Python {machine['python']}"


def _machine() -> dict[str, Any]:
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
    }


def _revision() -> str:
    """The revision of the sources, where they are under version control."""
    root = Path(__file__).resolve().parent
    try:
        command = ["git", "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"]
        return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:  # no git
        return ""


def _cpu_name() -> str:
    information = Path("/proc/cpuinfo")
    found = (
        re.search(r"^model name\s*:\s*(.+)$", information.read_text(), re.MULTILINE) if information.exists() else None
    )
    return found[1] if found else platform.processor() or platform.machine()


def _file_system(folder: Path) -> str:
    """Memory disk or disk: the kind of file system that holds `folder`, where the machine tells."""
    mounts = Path("/proc/mounts")
    if not mounts.exists():
        return "disk"
    points = [line.split()[1:3] for line in mounts.read_text().splitlines()]
    holding = [(point, kind) for point, kind in points if folder.resolve().is_relative_to(point)]
    kind = max(holding, key=lambda mount: len(mount[0]))[1]
    return "a memory disk" if kind in {"tmpfs", "ramfs"} else f"disk ({kind})"
