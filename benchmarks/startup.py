"""What it takes until a command says something: ``python -m benchmarks.startup [--rounds N] [--imports]``.

Each ``--help`` beside ``python -c pass``, and beside ``import click`` alone, which all of them need. One idea: the
contenders take turns, so that what the machine does meanwhile meets all of them; medians, and their ratios.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time

from dicomnet.cli.program import COMMANDS

_ROUNDS = 15
_PASS, _CLICK = "python -c pass", "python -c 'import click'"
# What no help may load; a test holds it.
_HEAVY = ("pydicom", "ssl", "asyncio", "logging", "rich")


def contenders() -> dict[str, list[str]]:
    """Name → command line."""
    program = [sys.executable, "-m", "dicomnet"]
    return {
        _PASS: [sys.executable, "-c", "pass"],
        _CLICK: [sys.executable, "-c", "import click"],
        "dicomnet --version": [*program, "--version"],
        "dicomnet --help": [*program, "--help"],
        **{f"dicomnet {name} --help": [*program, name, "--help"] for name in COMMANDS},
        "a completion (dicomnet ec)": program,
    }


def main() -> int:
    """Measure and print the table; 1 if a help loads what it must not."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup")
    parser.add_argument("--rounds", type=int, default=_ROUNDS, help=f"how often each is run; {_ROUNDS} if not given")
    parser.add_argument(
        "--imports", action="store_true", help="only list what `dicomnet send --help` imports, slowest first"
    )
    arguments = parser.parse_args()
    if arguments.imports:
        print(_imports())
        return 0
    took: dict[str, list[float]] = {name: [] for name in contenders()}
    for _ in range(arguments.rounds):
        for name, command in contenders().items():
            took[name].append(_run(command, completing=name.startswith("a completion")))
    print(_table({name: statistics.median(times) for name, times in took.items()}))
    loaded = _loaded()
    print(f"\nOf {', '.join(_HEAVY)} the helps load: {', '.join(loaded) or 'none'}.")
    return int(bool(loaded))


def _run(command: list[str], *, completing: bool) -> float:
    """Milliseconds."""
    environment = dict(os.environ)
    if completing:
        environment |= {"_DICOMNET_COMPLETE": "bash_complete", "COMP_WORDS": "dicomnet\nec", "COMP_CWORD": "1"}
    started = time.perf_counter()
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True, timeout=60)
    return (time.perf_counter() - started) * 1000


def _table(medians: dict[str, float]) -> str:
    rows = [
        f"| `{name}` | {ms:.1f} ms | {ms / medians[_PASS]:.2f} | {ms / medians[_CLICK]:.2f} |"
        for name, ms in medians.items()
    ]
    head = f"| what | median | beside `{_PASS}` | beside `{_CLICK}` |\n| --- | ---: | ---: | ---: |"
    return "\n".join((head, *rows))


def _loaded() -> list[str]:
    """What of the heavy modules any of the helps loads."""
    code = (
        "import sys; from dicomnet.cli.program import COMMANDS, run\n"
        "for arguments in [[], *([name] for name in COMMANDS)]: run([*arguments, '--help'])\n"
        f"print(*(name for name in {_HEAVY!r} if name in sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return done.stderr.split()


def _imports() -> str:
    """Microseconds of each module itself, from ``-X importtime``."""
    command = [sys.executable, "-X", "importtime", "-m", "dicomnet", "send", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    rows = [line.removeprefix("import time:").split("|") for line in done.stderr.splitlines() if "|" in line]
    times = sorted(((int(row[0]), row[2].strip()) for row in rows if row[0].strip().isdigit()), reverse=True)
    return "\n".join(f"{microseconds:8} µs  {name}" for microseconds, name in times[:30])


if __name__ == "__main__":
    sys.exit(main())
