"""The command line: ``python -m benchmarks [--quick] [--only NAME…] [--rounds N] [--json FILE] [--folder DIR]``."""

from __future__ import annotations

import argparse
import math
import os
import shutil
import signal
import sys
from pathlib import Path

from benchmarks import report
from benchmarks.corpora import cache_in, default_folder
from benchmarks.measure import Result, alternate, pinned
from benchmarks.scenarios import SCENARIOS, Scenario, Settings

_ROUNDS, _QUICK_ROUNDS = 5, 3
_QUICK_BUDGET = 15.0  # s for a scenario: seven of them, each up to a round over it, in two minutes


def main() -> int:
    """Measure, print the table, and return 1 if something that is installed did not work."""
    arguments = _parser().parse_args()
    settings = Settings(
        quick=arguments.quick,
        rounds=arguments.rounds or (_QUICK_ROUNDS if arguments.quick else _ROUNDS),
        cache=cache_in(arguments.folder),
        pin=arguments.pin,
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is stopped
    try:
        run = _run(settings, arguments.only or list(SCENARIOS))
    finally:
        if arguments.clean:
            shutil.rmtree(settings.cache)
    if arguments.json:
        report.append(arguments.json, report.record(settings, run))
    return int(any(result.error for _, results in run.values() for result in results))


def _run(settings: Settings, names: list[str]) -> dict[str, tuple[Scenario, list[Result]]]:
    print(report.heading(settings), flush=True)
    run = {}
    for name in names:
        print(name, file=sys.stderr, flush=True)
        scenario = SCENARIOS[name](settings)
        results = alternate(
            scenario.measure,
            [pinned(contender) for contender in scenario.contenders] if settings.pin else scenario.contenders,
            rounds=settings.rounds,
            warm_up=not settings.quick,
            budget=_QUICK_BUDGET if settings.quick else math.inf,
            folder=settings.cache,
        )
        run[name] = scenario, results
        print(report.table(name, scenario, results), flush=True)
    return run


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    quick = os.environ.get("QUICK", "") not in {"", "0"}
    parser.add_argument("--quick", action="store_true", default=quick, help="under two minutes (also: QUICK=1)")
    parser.add_argument("--only", nargs="+", choices=SCENARIOS, metavar="NAME", help=", ".join(SCENARIOS))
    parser.add_argument("--rounds", type=int, help=f"rounds that count: {_ROUNDS}, quick {_QUICK_ROUNDS}")
    parser.add_argument("--pin", action="store_true", help="SCPs on one core, SCUs on another (Linux)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="add this run to the history in FILE")
    parser.add_argument("--folder", type=Path, default=default_folder(), help="where the files go: %(default)s")
    parser.add_argument("--clean", action="store_true", help="remove the files at the end")
    return parser


if __name__ == "__main__":
    sys.exit(main())
