"""The command line: ``python -m benchmarks [--quick] [--only NAME…] [--rounds N] [--results DIR] [--folder DIR]``."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import time
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import report
from benchmarks.corpora import cache_in, default_folder
from benchmarks.measure import Result, alternate, note
from benchmarks.model import Scenario, Settings
from benchmarks.scenarios import QUICK, SCENARIOS

_ROUNDS, _QUICK_ROUNDS = 5, 3
_SECONDS, _QUICK_SECONDS = 14 * 60.0, 85.0  # after which no further table begins
_RESULTS = Path(__file__).resolve().parent / "results"
_INTERRUPTED, _TERMINATED = 130, 143  # exit codes of whom a signal ended


def main() -> int:
    """Measure, print the tables, and return 1 if something that is installed did not work."""
    arguments = _parser().parse_args()
    settings = Settings(
        quick=arguments.quick,
        cache=cache_in(arguments.folder or default_folder(quick=arguments.quick)),
        rounds=arguments.rounds or (_QUICK_ROUNDS if arguments.quick else _ROUNDS),
    )
    for number in (signal.SIGTERM, signal.SIGHUP):  # so that what was started is stopped
        signal.signal(number, lambda *_: sys.exit(_TERMINATED))
    try:
        run, text = _run(settings, arguments.only or (QUICK if settings.quick else SCENARIOS))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return _INTERRUPTED
    finally:
        _leave(settings.cache, clean=arguments.clean)
    _keep(arguments.results, settings, run, text)
    return int(any(result.error for _, results in run.values() for result in results))


def _run(settings: Settings, names: Collection[str]) -> tuple[report.Run, str]:
    """Measure what has these names; the results, and all that was printed."""
    texts = [report.heading(settings)]
    print(texts[0], flush=True)
    run: report.Run = {}
    started = time.monotonic()
    for number, name in enumerate(names, start=1):
        took = time.monotonic() - started
        note(f"{name} ({number} of {len(names)}, after {took:.0f} s)")
        scenario = SCENARIOS[name](settings)
        late = took > (_QUICK_SECONDS if settings.quick else _SECONDS)
        run[name] = scenario, _too_late(scenario) if late else _measure(scenario, settings)
        texts.append(report.table(name, *run[name]))
        print(texts[-1], flush=True)
    texts.append(report.summary(run))
    print(texts[-1], flush=True)
    return run, "\n".join(texts)


def _measure(scenario: Scenario, settings: Settings) -> list[Result]:
    return alternate(scenario.measure, scenario.contenders, settings.plan(scenario), settings.cache)


def _too_late(scenario: Scenario) -> list[Result]:
    return [Result(contender, missing="not measured: the time was up") for contender in scenario.contenders]


def _keep(results: Path, settings: Settings, run: report.Run, text: str) -> None:
    """Write the tables, the history and the plots."""
    results.mkdir(parents=True, exist_ok=True)
    tables = results / f"{datetime.now(UTC):%Y-%m-%d-%H%M%S}{'-quick' if settings.quick else ''}.md"
    tables.write_text(text, encoding="utf-8")
    report.append(results / "history.json", report.record(settings, run))
    plots = [plot for scenario, measured in run.values() if (plot := report.plot(scenario, measured))]
    for name, svg in plots:
        (results / f"{name}.svg").write_text(svg, encoding="utf-8")
    written = [tables.name, "history.json", *(f"{name}.svg" for name, _ in plots)]
    note(f"written to {results}: {', '.join(written)}")


def _leave(cache: Path, *, clean: bool) -> None:
    """Remove the files that were sent, or say where they are: on a memory disk they take memory."""
    if clean:
        shutil.rmtree(cache)
    else:
        note(f"the files that were sent stay in {cache} for the next run (--clean removes them)")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    quick = os.environ.get("QUICK", "") not in {"", "0"}
    parser.add_argument("--quick", action="store_true", default=quick, help="under two minutes (also: QUICK=1)")
    parser.add_argument("--only", nargs="+", choices=SCENARIOS, metavar="NAME", help=", ".join(SCENARIOS))
    parser.add_argument("--rounds", type=int, help=f"rounds that count: {_ROUNDS}, quick {_QUICK_ROUNDS}")
    parser.add_argument("--results", type=Path, default=_RESULTS, metavar="DIR", help="tables, history and plots")
    parser.add_argument("--folder", type=Path, help="where the files go: /dev/shm if it is large enough, else a disk")
    parser.add_argument("--clean", action="store_true", help="remove the files at the end")
    return parser


if __name__ == "__main__":
    sys.exit(main())
