"""Several peers asked at once whether they are there: what ``dicomnet peers test`` does."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import click

from dicomnet import DicomNetworkError, associate
from dicomnet.cli.explain import exit_code, explain
from dicomnet.cli.interrupt import Interrupt
from dicomnet.cli.options import HALF_WAY, INTERRUPTED, NO_ASSOCIATION, PEER_FAILED, USAGE
from dicomnet.cli.output import Output
from dicomnet.cli.settings import Settings
from dicomnet.config import Peer

_AT_ONCE: Final = 16  # threads; a department has fewer peers than that
_LOOK: Final = 0.1  # seconds between two looks at whether somebody pressed Ctrl-C
_GRACE: Final = 2.0  # seconds for associations that stand to be released after that


@dataclass(frozen=True, slots=True)
class Candidate:
    """Who is asked, and how."""

    name: str
    peer: Peer
    calling: str
    settings: Settings


@dataclass(frozen=True, slots=True)
class _Result:
    candidate: Candidate
    code: int
    message: str
    ms: float | None = None
    associated_ms: float | None = None


def call(candidates: Sequence[Candidate], output: Output) -> int:
    """Ask all, tell each answer as it comes; returns the worst exit code."""
    waiting: queue.SimpleQueue[Candidate] = queue.SimpleQueue()
    for candidate in candidates:
        waiting.put(candidate)
    results: queue.SimpleQueue[_Result | Exception] = queue.SimpleQueue()
    with Interrupt("interrupted; releasing (again: at once)") as interrupt:
        for _ in range(min(_AT_ONCE, len(candidates))):
            threading.Thread(target=_work, args=(waiting, results, interrupt), name="dicomnet ask", daemon=True).start()
        codes = _tell_all(results, candidates, interrupt, output)
    if interrupt.is_set():
        return INTERRUPTED
    return next((code for code in (HALF_WAY, PEER_FAILED, NO_ASSOCIATION, USAGE) if code in codes), 0)


def _tell_all(
    results: queue.SimpleQueue[_Result | Exception],
    candidates: Sequence[Candidate],
    interrupt: Interrupt,
    output: Output,
) -> set[int]:
    """Until all have answered, or a moment after an interrupt; returns their exit codes."""
    width = max(len(candidate.name) for candidate in candidates)
    codes: set[int] = set()
    left, until = len(candidates), math.inf
    while left and time.monotonic() < until:
        if interrupt.is_set():
            until = min(until, time.monotonic() + _GRACE)
        try:
            result = results.get(timeout=_LOOK)
        except queue.Empty:
            continue
        if isinstance(result, Exception):
            raise result
        left -= 1
        codes.add(result.code)
        _tell(result, width, output)
    return codes


def _work(
    waiting: queue.SimpleQueue[Candidate], results: queue.SimpleQueue[_Result | Exception], interrupt: Interrupt
) -> None:
    while not interrupt.is_set():
        try:
            candidate = waiting.get_nowait()
        except queue.Empty:
            return
        try:
            results.put(_ask(candidate))
        except click.ClickException as error:  # its options are wrong
            results.put(_Result(candidate, error.exit_code, error.format_message()))
        except Exception as error:  # told by who waits for results
            results.put(error)


def _ask(candidate: Candidate) -> _Result:
    """One association, one C-ECHO."""
    peer, settings = candidate.peer, candidate.settings
    tls, identity, timeouts = settings.client_tls(), settings.identity(), settings.timeouts()
    associated = False
    started = time.perf_counter()
    try:
        with associate(
            peer, calling_ae=candidate.calling, tls=tls, identity=identity, timeouts=timeouts
        ) as association:
            associated = True
            between = time.perf_counter()
            status = association.c_echo().status
            ended = time.perf_counter()
    except DicomNetworkError as error:
        return _Result(candidate, exit_code(error, associated=associated), explain(error, peer, associated=associated))
    text = status.meaning("C-ECHO") + (f", status 0x{status:04X}" if status else "")
    code = PEER_FAILED if status.is_failure else 0
    return _Result(candidate, code, text, (ended - between) * 1000, (between - started) * 1000)


def _tell(result: _Result, width: int, output: Output) -> None:
    candidate = result.candidate
    text = result.message
    if result.ms is not None and result.associated_ms is not None:
        text = f"{candidate.peer}: {text} in {result.ms:.1f} ms (association in {result.associated_ms:.1f} ms)"
    output.event(
        "tested",
        f"{'ok' if result.code == 0 else 'FAILED':6}  {candidate.name:{width}}  {text}",
        name=candidate.name,
        address=str(candidate.peer),
        ok=result.code == 0,
        ms=None if result.ms is None else round(result.ms, 3),
        associated_ms=None if result.associated_ms is None else round(result.associated_ms, 3),
        message=result.message,
        exit_code=result.code,
    )
