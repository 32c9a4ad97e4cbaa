"""What one round of one contender is: four kinds.

A load that is a program of ours times itself, after a warm-up. A command-line tool cannot: it is run twice against
the same SCP, with one message and then with all of them, and the difference counts. That leaves out what it takes to
start, for every tool alike. Where several files arrive, their rate is that of their arrival: it is read off the files'
times of modification, or told by the SCP, and no tool's start or end has part in it.
"""

from __future__ import annotations

import contextlib
import functools
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.corpora import digest_of, digest_of_all
from benchmarks.measure import Contender, Figures
from benchmarks.processes import MB, Failed, Process, Program, Usage
from benchmarks.studies import ANSWERS, digest_of_answers

_RECEIVED = "received"  # the folder that an SCP fills
_LAUNCHES = 3  # of a program whose start is measured, in a round
_MANY = 50  # files whose arrival tells the time that it took, if their senders start together


def exchange(contender: Contender, work: Path) -> Figures:
    """One round: start the SCP, let the SCU do its work, stop the SCP, and see that nothing was lost."""
    folder = work / _RECEIVED
    folder.mkdir()
    with Process.listening(contender.scp, work / "scp.log", folder=folder) as scp:
        idle, cpu = scp.rss, scp.cpu
        run = functools.partial(_run, scp=scp, work=work, limit=contender.limit)
        start = run([contender.start]) if contender.start else None
        began = time.time()
        scu = run([contender.scu, *contender.others])
        spent = scp.cpu
        if contender.check:
            run([contender.check])
        ended = scp.stop()
    _check_nothing_lost(contender, folder, scu, ended)
    figures = _load(contender, start, scu) | {
        "scp_cpu": (spent or ended.cpu) - cpu,
        "scp_peak": ended.peak / MB,
        "scp_above": (ended.peak - idle) / MB,
    }
    arrival = ended.result.get("arrival") or _arrival(contender, folder, began)
    figures["rate"] = figures["amount"] / (arrival or figures["seconds"])
    figures["scu_cpu_each"] = figures["scu_cpu"] / figures["amount"]
    figures["scp_cpu_each"] = figures["scp_cpu"] / _served(contender, scu)
    return figures


def hold(contender: Contender, work: Path) -> Figures:
    """One round of nothing: what associations cost that are there and say nothing."""
    with Process.listening(contender.scp, work / "scp.log") as scp:
        before = scp.rss
        with Process(contender.scu, work / "scu.log", port=scp.port) as scu:
            scu.await_line("held", contender.limit)
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
    runs = []
    for _ in range(_LAUNCHES):
        with Process(contender.scu, work / "scu.log") as process:
            runs.append(process.finish(contender.limit))
    return {
        "ms": statistics.median(run.seconds for run in runs) * 1000,
        "cpu_ms": statistics.median(run.cpu for run in runs) * 1000,
    }


def _run(programs: Sequence[Program], *, scp: Process, work: Path, limit: float) -> Usage:
    """Run SCUs at the same time, and return what they took together."""
    with contextlib.ExitStack() as stack:
        scus = [
            stack.enter_context(Process(program, work / f"scu-{number}.log", port=scp.port, folder=work / _RECEIVED))
            for number, program in enumerate(programs)
        ]
        usages = [scu.finish(limit, beside=[scp, *scus[number + 1 :]]) for number, scu in enumerate(scus)]
    return Usage(
        seconds=max(usage.seconds for usage in usages),
        cpu=sum(usage.result.get("cpu", usage.cpu) for usage in usages),
        peak=sum(usage.peak for usage in usages),
        result=usages[0].result,
    )


def _load(contender: Contender, start: Usage | None, scu: Usage) -> Figures:
    amount = scu.result["count"] if contender.amount is None else contender.amount
    seconds = scu.result.get("elapsed", scu.seconds)
    figures = {"amount": float(amount), "seconds": seconds, "scu_cpu": scu.cpu, "scu_peak": scu.peak / MB}
    if start:
        if "elapsed" not in scu.result:
            figures["seconds"] = max(seconds - start.seconds, 1e-3)
            figures["scu_cpu"] = max(scu.cpu - start.cpu, 0.0)
        figures["scu_above"] = max(scu.peak - start.peak, 0) / MB
    return figures


def _served(contender: Contender, scu: Usage) -> float:
    """What the SCP was busy with: of a load that times itself, the warm-up too."""
    served: float = scu.result["total"] if contender.amount is None and "total" in scu.result else 0
    return served or contender.amount or scu.result["count"]


def _check_nothing_lost(contender: Contender, folder: Path, scu: Usage, scp: Usage) -> None:
    if contender.answers:
        _check_answers(contender, folder, scu)
    if contender.files and "data_sets" in scp.result:
        if scp.result["data_sets"] != _digest(contender.files):
            raise Failed(f"the data sets that arrived, {scp.result['stored']}, are not those that were sent")
    elif contender.files:
        _check_files(contender, folder)
    elif scu.result.get("stored", 0) != scp.result.get("stored", 0):
        raise Failed(f"{scu.result.get('stored', 0)} objects were sent, {scp.result.get('stored', 0)} arrived")
    if "digest" in scu.result and scu.result["digest"] != scp.result.get("digest"):
        raise Failed("the data sets that arrived are not those that were sent")


def _check_answers(contender: Contender, folder: Path, scu: Usage) -> None:
    arrived = digest_of_answers(folder / ANSWERS) if contender.check else scu.result["answers"]
    if arrived != contender.answers:
        raise Failed("the answers that arrived are not those that were meant")


def _check_files(contender: Contender, folder: Path) -> None:
    arrived = _files(folder)
    if len(arrived) != len(contender.files):
        raise Failed(f"{len(contender.files)} files were sent, {len(arrived)} arrived")
    if contender.intact and Counter(map(digest_of, arrived)) != _digests(contender.files):
        raise Failed("the data sets that arrived are not those that were sent")


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@functools.cache  # what is sent stays the same from round to round
def _digests(files: tuple[Path, ...]) -> Counter[str]:
    return Counter(map(digest_of, files))


@functools.cache
def _digest(files: tuple[Path, ...]) -> str:
    return digest_of_all(_digests(files).elements())


def _arrival(contender: Contender, folder: Path, began: float) -> float:
    """Seconds in which the files that count arrived; 0 if the files do not tell.

    They begin when the file that warms up is there. Where several senders start together, they begin with the first of
    many files, or else with the start of the senders.
    """
    arrived = sorted((path.stat() for path in _files(folder)), key=lambda file: file.st_mtime)
    if contender.others and arrived:
        began = arrived[0].st_mtime if len(arrived) >= _MANY else began
        return arrived[-1].st_mtime - began
    if contender.start:
        arrived = arrived[1:]
    if len(arrived) < 2:
        return 0.0
    first = [file for file in arrived if file.st_mtime == arrived[0].st_mtime]  # the clock of files is a coarse one
    if not any(_is_of_size(file.st_size, contender.files[-len(arrived)]) for file in first):
        return 0.0  # not in the order that was meant
    return arrived[-1].st_mtime - arrived[0].st_mtime


def _is_of_size(size: int, path: Path) -> bool:
    """Whether a file of `size` may be that of `path`, with somebody else's file meta information."""
    expected = path.stat().st_size
    return expected / 2 < size < expected * 2
