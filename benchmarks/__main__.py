"""The command line: ``python -m benchmarks [--quick] [--only NAME…] [--rounds N] [--json FILE] [--folder DIR]``."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
from pathlib import Path

from benchmarks import report
from benchmarks.corpora import cache_in, default_folder
from benchmarks.measure import Result, alternate
from benchmarks.scenarios import SCENARIOS, Scenario, Settings

_ROUNDS, _QUICK_ROUNDS = 5, 3
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
        run = _run(settings, arguments.only or list(SCENARIOS))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return _INTERRUPTED
    finally:
        _leave(settings.cache, clean=arguments.clean)
    if arguments.json:
        report.append(arguments.json, report.record(settings, run))
    return int(any(result.error for _, results in run.values() for result in results))


def _run(settings: Settings, names: list[str]) -> dict[str, tuple[Scenario, list[Result]]]:
    print(report.heading(settings), flush=True)
    run = {}
    for name in names:
        print(name, file=sys.stderr, flush=True)
        scenario = SCENARIOS[name](settings)
        results = alternate(scenario.measure, scenario.contenders, settings.plan, settings.cache)
        run[name] = scenario, results
        print(report.table(name, scenario, results), flush=True)
    return run


def _leave(cache: Path, *, clean: bool) -> None:
    """Remove the files that were sent, or say where they are: on a memory disk they take memory."""
    if clean:
        shutil.rmtree(cache)
    else:
        print(f"the files that were sent stay in {cache} for the next run (--clean removes them)", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    quick = os.environ.get("QUICK", "") not in {"", "0"}
    parser.add_argument("--quick", action="store_true", default=quick, help="under two minutes (also: QUICK=1)")
    parser.add_argument("--only", nargs="+", choices=SCENARIOS, metavar="NAME", help=", ".join(SCENARIOS))
    parser.add_argument("--rounds", type=int, help=f"rounds that count: {_ROUNDS}, quick {_QUICK_ROUNDS}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="add this run to the history in FILE")
    parser.add_argument("--folder", type=Path, help="where the files go: /dev/shm if it is large enough, else a disk")
    parser.add_argument("--clean", action="store_true", help="remove the files at the end")
    return parser


if __name__ == "__main__":
    sys.exit(main())
