"""Put the last run into the README and the manual: ``python -m benchmarks.publish``.

Of the history's last run that is not a quick one, unless ``--quick`` allows that: the README's table, the table of what
windows, associations and workers bring, and the plots. What a run has no figures for is left out.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.profile import put_between
from benchmarks.report import number, row

_ROOT = Path(__file__).resolve().parent.parent
_RESULTS = _ROOT / "benchmarks" / "results"
_PLOTS = _ROOT / "docs" / "images"
_BEGIN, _END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"
_FASTEST = "storescp +B, 128 kB PDUs, tuned"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line for readers: one contender's figure beside another's."""

    what: str
    table: str
    of: str
    beside: str = ""  # for readers
    against: str = ""
    key: str = "rate"
    unit: str = ""


README = (
    Row(
        what="`dicomnet receive`, 10 kB files from a stock DCMTK `storescu`",
        beside="into a stock `storescp`",
        table="shipped",
        of="storescu as shipped → dicomnet receive",
        against="storescu as shipped → storescp as shipped",
    ),
    Row(
        what="`dicomnet send`, 10 kB files to a stock `storescp`",
        beside="from a stock `storescu`",
        table="shipped",
        of="dicomnet send → storescp as shipped",
        against="storescu as shipped → storescp as shipped",
    ),
    Row(
        what="`receive`, 10 kB files, one association",
        beside="DCMTK `storescp`, tuned",
        table="receive_small",
        of="storescu tuned → dicomnet receive",
        against=f"storescu tuned → {_FASTEST}",
    ),
    Row(
        what="`receive`, 529 kB files, one association",
        beside="the same",
        table="receive_ct",
        of="storescu tuned → dicomnet receive",
        against=f"storescu tuned → {_FASTEST}",
    ),
    Row(
        what="`receive --workers 2`, 529 kB files from 8 senders",
        beside="the same with `--fork`",
        table="crowd_ct",
        of="dicomnet receive, 2 workers",
        against="storescp --fork +B, 128 kB PDUs, tuned",
    ),
    Row(
        what="`send`, 10 kB files, one association, window 1",
        beside="DCMTK `storescu`, tuned",
        table="send_small",
        of="dicomnet send → bare sink",
        against="storescu tuned → bare sink",
    ),
    Row(
        what="`send`, 10 kB files, as it is, to `storescp --fork`",
        beside="the same",
        table="send_defaults",
        of="dicomnet send → storescp --fork tuned",
        against="storescu tuned → storescp --fork tuned",
    ),
    Row(
        what="`send` to `receive`, 10 kB files, one association, window 16",
        beside="DCMTK at both ends, tuned",
        table="both_ends",
        of="dicomnet send → dicomnet receive, window 16",
        against="storescu tuned → storescp tuned",
    ),
    Row(
        what="`send` to `receive`, one object of 1 GB",
        beside="the same",
        table="large",
        of="dicomnet send → dicomnet receive",
        against=f"storescu tuned → {_FASTEST}",
    ),
    Row(
        what="C-ECHOs, one association, window 16, asyncio",
        beside="the same",
        table="echo_window",
        of="dicomnet ↔ dicomnet, asyncio, window 16",
        against="DCMTK ↔ DCMTK, tuned",
    ),
    Row(
        what="associations",
        beside="`storescp --fork`, tuned",
        table="associations",
        of="dicomnet",
        against="storescp --fork tuned",
    ),
    Row(
        what="C-FIND matches, SCP",
        beside="pynetdicom",
        table="find",
        of="dicomnet → findscu",
        against="pynetdicom → findscu",
    ),
    Row(
        what="10 kB files, both ends, one association",
        beside="pynetdicom",
        table="both_ends",
        of="dicomnet send → dicomnet receive, window 1",
        against="pynetdicom → pynetdicom",
    ),
)
MEMORY = (
    Row(what="SCU while it sends 1 GB", table="large", of="dicomnet send → dicomnet receive", key="scu_above"),
    Row(what="SCP while it receives 1 GB", table="large", of="dicomnet send → dicomnet receive", key="scp_above"),
    Row(what="SCP while it receives 32 times 1 GB at once", table="flood", of="dicomnet, blocking", key="scp_above"),
    Row(what="1,000 idle associations, each", table="idle", of="dicomnet, asyncio", key="kb_each", unit="kB"),
)
BUYS = (
    ("one association, window 1", "both_ends", "dicomnet send → dicomnet receive, window 1"),
    ("one association, window 16", "both_ends", "dicomnet send → dicomnet receive, window 16"),
    ("2 associations, 2 sending processes, 2 workers", "by_associations", "dicomnet, 2"),
    ("4 associations, 2 sending processes, 2 workers", "by_associations", "dicomnet, 4"),
    ("8 associations, 2 sending processes, 2 workers", "by_associations", "dicomnet, 8"),
    ("8 senders (DCMTK), 1 worker", "crowd_small", "dicomnet receive, 1 worker"),
    ("8 senders (DCMTK), 2 workers", "crowd_small", "dicomnet receive, 2 workers"),
)


def main() -> None:
    """Write the pages."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.publish", description=__doc__)
    parser.add_argument("--results", type=Path, default=_RESULTS, metavar="DIR")
    parser.add_argument("--quick", action="store_true", help="also from a quick run")
    arguments = parser.parse_args()
    runs = json.loads((arguments.results / "history.json").read_text(encoding="utf-8"))
    run = merged(run for run in runs if arguments.quick or not run["quick"])
    if not run:
        sys.exit("the history has no such run: make bench")
    put_between(_ROOT / "README.md", _BEGIN, _END, readme(run))
    put_between(_ROOT / "docs" / "explanation" / "where-the-time-goes.md", _BEGIN, _END, buys(run))
    _PLOTS.mkdir(exist_ok=True)
    for plot in sorted(arguments.results.glob("*.svg")):
        shutil.copyfile(plot, _PLOTS / plot.name)


def merged(runs: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The last run; tables that it has not, because it was one with ``--only``, come from those before it.

    Only from those of the same revision: a table never mixes figures, and a page never mixes programs.
    """
    whole: dict[str, Any] = {}
    for run in runs:
        if not whole or whole["revision"] != run["revision"]:
            whole = {"scenarios": {}, "parts": 0, "quick": False}
        whole = run | {
            "scenarios": whole["scenarios"] | run["scenarios"],
            "parts": whole["parts"] + 1,
            "quick": whole["quick"] or run["quick"],
        }
    return whole


def readme(run: dict[str, Any]) -> str:
    """The README's figures."""
    lines = [
        _where(run),
        "",
        row(["what", "rate", "beside", "times as fast"]),
        row(["---", "---:", "---", "---:"]),
    ]
    for line in README:
        ours, theirs = _figure(run, line.table, line.of, line.key), _figure(run, line.table, line.against, line.key)
        if ours and theirs:
            unit = run["scenarios"][line.table]["unit"]
            lines.append(row([line.what, f"{number(ours)} {unit}", line.beside, number(ours / theirs)]))
    found = [(line, _figure(run, line.table, line.of, line.key)) for line in MEMORY]
    told = [f"{line.what}: {number(value)} {line.unit or 'MB'}" for line, value in found if value is not None]
    memory = textwrap.fill(f"Memory above idle: {'; '.join(told)}.", 120, break_on_hyphens=False)
    return "\n".join([*lines, "", memory] if told else lines)


def buys(run: dict[str, Any]) -> str:
    """What windows, associations and workers bring: 10 kB files a second."""
    lines = [_where(run), "", row(["10 kB files, `send` to `receive`", "files/s"]), row(["---", "---:"])]
    for what, table, of in BUYS:
        value = _figure(run, table, of, "rate")
        if value:
            lines.append(row([what, number(value)]))
    return "\n".join(lines)


def _where(run: dict[str, Any]) -> str:
    machine, quick = run["machine"], "quick " * run["quick"]
    runs = f"one {quick}run" if run["parts"] == 1 else f"{run['parts']} {quick}runs, each table of one,"
    text = (
        f"From {runs} of `make bench` on {run['when'][:10]}, {machine['cpu']}, {machine['cores']} cores, Python "
        f"{machine['python']}, DCMTK {run['versions']['DCMTK']}, pynetdicom {run['versions']['pynetdicom']}; loopback, "
        f"files on {run['files_on']}; medians:"
    )
    return textwrap.fill(text, 120, break_on_hyphens=False)


def _figure(run: dict[str, Any], table: str, contender: str, key: str) -> float | None:
    contenders = run["scenarios"].get(table, {}).get("contenders", {})
    value: float | None = contenders.get(contender, {}).get("medians", {}).get(key)
    return value


if __name__ == "__main__":
    main()
