"""Where the time goes: ``python -m benchmarks.profile [--count N] [--into FILE]``.

Both ends of the blocking face, each in a process of its own, do the same three jobs: C-ECHOs, small C-STOREs from file
to file, one large C-STORE from file to file. Each job is done twice. The first time tells the CPU time of each end. The
second time, under cProfile, tells how it is shared out. cProfile makes each call dearer, and so makes what consists of
many calls look dearer than it is; what it adds to a call is measured and taken off again.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import re
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dicomnet
from benchmarks import report
from benchmarks.corpora import Corpus, cache_in, corpus, default_folder
from benchmarks.processes import MB, Process, Program
from benchmarks.program import announce, wait_for_end

_SOURCE = str(Path(dicomnet.__file__).parent)
_CALIBRATION = 200_000  # calls
_BEGIN, _END = "<!-- profile: begin -->", "<!-- profile: end -->"

# Layers in the order of the table; what begins with one of these, below dicomnet's folder, belongs there.
_SOCKETS, _FILES = "system calls on sockets", "system calls on files"
_LAYERS = {
    "PDUs and fragments": ("ul/", "dimse/stream"),
    "command sets": ("dimse/command", "dimse/messages", "dimse/templates", "dimse/status"),
    "conversation: what belongs to what": ("dimse/", "admission", "ae", "models"),
    "face: threads, turns, waiting": ("blocking/", "transport", "opening"),
    "data sets: headers, spools, names": ("dataset", "codec", "part10", "spool", "scan", "files"),
}
_CALLER = "handler and caller"
_REST = "the rest"
_ROWS = (*_LAYERS, _CALLER, _REST, _SOCKETS, _FILES)

_SOCKET_CALL = re.compile(r"method '(\w+)' of '_socket\.socket'|<method '(poll)' of 'select\.\w+'>")
_FILE_CALL = re.compile(r"built-in method posix\.(?!fspath)(\w+)|built-in method _?io\.(open)|of '_io\.FileIO'|mmap")

Function = tuple[str, int, str]  # file, line, name; the file of what is written in C is "~"


@dataclass(frozen=True, slots=True)
class Job:
    """What both ends do, how often, and what one of them is called."""

    name: str
    count: float
    run: Callable[[dicomnet.Association], None]


@dataclass(frozen=True, slots=True)
class Shares:
    """CPU seconds by layer, and calls of the system by name."""

    layers: dict[str, float]
    calls: dict[str, int]


def main() -> None:
    """Profile, and print Markdown or put it into a page; or be the SCP of that."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=__doc__)
    parser.add_argument("--count", type=int, default=2000, help="messages of a job")
    parser.add_argument("--into", type=Path, metavar="FILE", help=f"replace what stands there behind {_BEGIN}")
    parser.add_argument("--scp", type=Path, metavar="FOLDER", help=argparse.SUPPRESS)
    parser.add_argument("--profiled", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.scp:
        _serve(arguments.scp, profiled=arguments.profiled)
        return
    text = _markdown(_measure(job) for job in _jobs(arguments.count))
    if arguments.into:
        put_between(arguments.into, _BEGIN, _END, text)
    else:
        print(text)


def put_between(page: Path, begin: str, end: str, text: str) -> None:
    """Replace what stands between two lines of a page.

    Raises:
        ValueError: the page has no such lines.
    """
    before, found, rest = page.read_text(encoding="utf-8").partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found and found_end):
        raise ValueError(f"{page} has no lines {begin} and {end}")
    page.write_text(f"{before}{begin}\n\n{text.strip()}\n\n{end}{after}", encoding="utf-8")


# --- the jobs -------------------------------------------------------------------------------------------------------


def _jobs(count: int) -> Iterator[Job]:
    cache = cache_in(default_folder(quick=True))
    small, big = corpus(cache, "small", count), corpus(cache, "large", 488)

    def echo(assoc: dicomnet.Association) -> None:
        for _ in range(count):
            assoc.c_echo().raise_for_status()

    def store(files: Corpus) -> Callable[[dicomnet.Association], None]:
        def run(assoc: dicomnet.Association) -> None:
            for path in files.files[1:]:
                assoc.c_store(path).raise_for_status()

        return run

    yield Job("a C-ECHO", count, echo)
    yield Job("a C-STORE of 10 kB", count, store(small))
    yield Job("1 MB of a large C-STORE", big.size / MB, store(big))


def _measure(job: Job) -> tuple[Job, tuple[float, Shares], tuple[float, Shares]]:
    """CPU seconds and shares of the SCU and of the SCP."""
    plain, *_ = _converse(job, profiled=False)
    _, scu, scp = _converse(job, profiled=True)
    return job, (plain[0], scu), (plain[1], scp)


def _converse(job: Job, *, profiled: bool) -> tuple[tuple[float, float], Shares, Shares]:
    """Do a job; CPU seconds of SCU and SCP, and their shares, which are empty if it is not profiled."""
    with tempfile.TemporaryDirectory(prefix="profile-", dir=cache_in(default_folder(quick=True))) as folder:
        work = Path(folder)
        options = ("--profiled",) if profiled else ()
        program = Program((sys.executable, "-m", "benchmarks.profile", "--scp", folder, *options))
        with Process.listening(program, work / "scp.log") as scp:
            contexts = [dicomnet.Verification, *_CONTEXTS]
            peer = f"BENCH@127.0.0.1:{scp.port}"
            with dicomnet.associate(peer, calling_ae="PROFILE", contexts=contexts) as assoc:
                assoc.c_echo().raise_for_status()
                before, cpu = scp.cpu, time.process_time()
                with profiling(on=profiled) as profiles:
                    job.run(assoc)
                taken = time.process_time() - cpu, scp.cpu - before
            result = scp.stop().result
    return taken, shares_of(profiles), Shares(result["layers"], result["calls"])


_CONTEXTS = ("1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.7.3")  # of the corpora


def _serve(folder: Path, *, profiled: bool) -> None:
    ae = dicomnet.AE("BENCH", contexts=[dicomnet.Verification, *_CONTEXTS], spool_folder=folder)

    @ae.on_c_store
    def keep(request: Any) -> dicomnet.Status:
        request.dataset.save(f"{folder}/{request.sop_instance_uid}.dcm")
        return dicomnet.Status.SUCCESS

    with profiling(on=profiled, threads=True) as profiles, dicomnet.serve(ae, "127.0.0.1", 0) as server:
        announce(server.port)
        wait_for_end()
    shares = shares_of(profiles)
    print(json.dumps({"layers": shares.layers, "calls": shares.calls}), flush=True)


# --- profiles -------------------------------------------------------------------------------------------------------


@contextmanager
def profiling(*, on: bool, threads: bool = False) -> Iterator[list[cProfile.Profile]]:
    """Profile this thread, or all that begin; each by its own CPU time, so that waiting costs nothing."""
    profiles: list[cProfile.Profile] = []

    def begin(*_: Any) -> None:
        profiles.append(cProfile.Profile(time.thread_time_ns, 1e-9))
        profiles[-1].enable()

    everywhere = threads and sys.version_info < (3, 12)  # since then a profile is one of all threads anyway
    if on and everywhere:
        threading.setprofile(begin)
    elif on:
        begin()
    yield profiles
    if everywhere:
        threading.setprofile(None)
    for profile in profiles:
        profile.disable()


def shares_of(profiles: list[cProfile.Profile]) -> Shares:
    layers: dict[str, float] = defaultdict(float)
    calls: Counter[str] = Counter()
    added = _Added() if profiles else None
    for profile in profiles:
        stats = _stats(profile)
        for function, seconds in _own_seconds(stats, added or _Added()):
            name, system = _system_call(function)
            if system:
                calls[name] += stats[function][1]
            for layer, share in _whose(function, stats).items():
                layers[layer] += seconds * share
    return Shares(dict(layers), dict(calls))


def _stats(profile: cProfile.Profile) -> dict[Function, Any]:
    """By function: calls that were no recursion, calls, own seconds, seconds, and the same by caller."""
    stats: dict[Function, Any] = vars(pstats.Stats(profile))["stats"]
    return stats


class _Added:
    """Seconds that cProfile adds to a call: to whom it calls, and to the caller."""

    def __init__(self) -> None:
        self.inside = {False: 0.0, True: 0.0}  # by whether what is called is written in C
        self.outside = {False: 0.0, True: 0.0}
        for in_c, loop in ((False, _call_python), (True, _call_c)):
            started = time.thread_time()
            loop(_CALIBRATION)
            plain = time.thread_time() - started
            profile = cProfile.Profile(time.thread_time_ns, 1e-9)
            profile.runcall(loop, _CALIBRATION)
            stats = _stats(profile)
            for (_, _, name), (_, calls, own, *_) in stats.items():
                if name == loop.__name__:
                    self.outside[in_c] = max(own - plain, 0.0) / _CALIBRATION
                elif calls == _CALIBRATION:
                    self.inside[in_c] = own / _CALIBRATION


def _nothing() -> None:
    pass


def _call_python(count: int) -> None:
    for _ in range(count):
        _nothing()


def _call_c(count: int) -> None:
    values: list[int] = []
    for _ in range(count):
        values.clear()


def _own_seconds(stats: dict[Function, Any], added: _Added) -> Iterator[tuple[Function, float]]:
    """Each function's own seconds, without what cProfile has added."""
    outside: dict[Function, float] = defaultdict(float)
    for function, (*_, callers) in stats.items():
        for caller, (_, calls, *_) in callers.items():
            outside[caller] += calls * added.outside[function[0] == "~"]
    for function, (_, calls, own, _, _) in stats.items():
        yield function, max(own - calls * added.inside[function[0] == "~"] - outside[function], 0.0)


def _system_call(function: Function) -> tuple[str, str]:
    """The name and the layer of a call of the system; two empty strings if it is none."""
    if function[0] == "~":
        for pattern, layer in ((_SOCKET_CALL, _SOCKETS), (_FILE_CALL, _FILES)):
            if found := pattern.search(function[2]):
                return next(filter(None, found.groups()), "mmap"), layer
    return "", ""


def _whose(function: Function, stats: dict[Function, Any]) -> dict[str, float]:
    """Layers to which a function's time belongs: its own, or those of its callers."""
    layer = _system_call(function)[1] or _layer(function)
    if layer:
        return {layer: 1.0}
    callers = stats[function][4]
    total = sum(calls for _, calls, *_ in callers.values())
    shares: dict[str, float] = defaultdict(float)
    for caller, (_, calls, *_) in callers.items():
        shares[_layer(caller) or _REST] += calls / total
    return dict(shares) or {_REST: 1.0}


def _layer(function: Function) -> str:
    """The layer of a function of ours; empty for others."""
    file = function[0].replace("\\", "/")
    if file == __file__:
        return _CALLER
    if not file.startswith(_SOURCE):
        return ""
    module = file.removeprefix(_SOURCE).lstrip("/")
    return next((layer for layer, starts in _LAYERS.items() if module.startswith(starts)), _REST)


# --- tables ---------------------------------------------------------------------------------------------------------


def _markdown(measured: Iterator[tuple[Job, tuple[float, Shares], tuple[float, Shares]]]) -> str:
    columns = [
        (f"{job.name}, {end}", job.count, cpu, shares)
        for job, *ends in measured
        for end, (cpu, shares) in zip(("SCU", "SCP"), ends, strict=True)
    ]
    heads = [name for name, *_ in columns]
    lines = [f"Measured on {datetime.now(UTC):%Y-%m-%d}: {report.machine_text()}. CPU time in microseconds.", ""]
    lines += _head("", heads)
    for layer in _ROWS:
        cells = [_microseconds(cpu / count, shares, layer) for _, count, cpu, shares in columns]
        lines.append(report.row([layer, *cells]))
    lines.append(report.row(["**together**", *(f"**{cpu / count * 1e6:.0f}**" for _, count, cpu, _ in columns)]))
    lines += ["", *_head("system calls", heads)]
    names = sorted({name for *_, shares in columns for name in shares.calls})
    for name in names:
        often = [shares.calls.get(name, 0) / count for _, count, _, shares in columns]
        if max(often) >= 0.01:
            lines.append(report.row([f"`{name}`", *(f"{value:.2f}" if value >= 0.005 else "" for value in often)]))
    return "\n".join(lines)


def _head(first: str, columns: list[str]) -> list[str]:
    return [report.row([first, *columns]), report.row(["---", *("---:" for _ in columns)])]


def _microseconds(each: float, shares: Shares, layer: str) -> str:
    total = sum(shares.layers.values())
    part = shares.layers.get(layer, 0.0) / total if total else 0.0
    return f"{each * part * 1e6:.1f} ({part:.0%})" if part >= 0.005 else ""


if __name__ == "__main__":
    main()
