"""``dicomnet echo``: is the peer there? (PS3.4 Annex A)"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import click

from dicomnet.cli.interrupt import Interrupt
from dicomnet.cli.options import INTERRUPTED, PEER_FAILED, Command, peer_value, requestor
from dicomnet.cli.output import Output
from dicomnet.cli.settings import Settings

if TYPE_CHECKING:
    from dicomnet import Association
    from dicomnet.config import Peer


_EVENTS: Final = {
    "echo": {
        "number": "how many have been sent",
        "status": "number",
        "meaning": "of the status, in words",
        "ms": "from the request to its response",
    },
    "summary": {  # with --repeat
        "sent": "how many",
        "failed": "how many had another status than success",
        "shortest_ms": "the shortest time",
        "median_ms": "the median",
        "longest_ms": "the longest time",
    },
}


@click.command("echo", cls=Command, events=_EVENTS, short_help="Ask a peer whether it is there (C-ECHO).")
@click.argument("peer", type=peer_value, metavar="PEER")
@click.option(
    "--repeat", type=click.IntRange(min=1), default=1, metavar="N",
    help="Send N of them on the one association, and tell how long they took: --repeat 100",
)  # fmt: skip
@requestor
def command(peer: Peer, repeat: int, calling: str, settings: Settings, output: Output) -> int:
    """Open an association with PEER, send C-ECHO, release it.

    PEER is AET@host:port; an IPv6 address goes in brackets, the default port is 104.

    \b
      dicomnet echo PACS@192.0.2.7:11112
      dicomnet echo PACS@pacs.example.org --calling WORKSTATION7 --repeat 10
      dicomnet echo PACS@pacs.example.org:2762 --tls-ca hospital-ca.pem
    """
    from dicomnet.cli.associating import associated

    with (
        Interrupt("interrupted; releasing (again: at once)", at_once=True) as interrupt,
        associated(peer, calling, settings, interrupt) as association,
    ):
        code = _echo(association, repeat, interrupt, output)
    return INTERRUPTED if interrupt.is_set() else code


def _echo(association: Association, repeat: int, interrupt: Interrupt, output: Output) -> int:
    """Send and tell; returns the exit code."""
    took: list[float] = []
    failed = 0
    while len(took) < repeat and not interrupt.is_set():
        started = time.perf_counter()
        status = association.c_echo().status
        took.append((time.perf_counter() - started) * 1000)
        failed += status.is_failure
        text = f"{association.peer}: {status.meaning('C-ECHO')}"
        text += f", status 0x{status:04X}" if status else f" in {took[-1]:.2f} ms"
        fields = {
            "number": len(took),
            "status": int(status),
            "meaning": status.meaning("C-ECHO"),
            "ms": round(took[-1], 3),
        }
        (output.event if repeat == 1 else output.detail)("echo", text, **fields)
    if repeat > 1 and took:
        _summarise(took, failed, output)
    return PEER_FAILED if failed else 0


def _summarise(took: list[float], failed: int, output: Output) -> None:
    import statistics  # whose import takes longer than a help

    numbers = {"shortest_ms": min(took), "median_ms": statistics.median(took), "longest_ms": max(took)}
    shortest, median, longest = numbers.values()
    output.event(
        "summary",
        f"{len(took)} sent, {failed} failed; shortest {shortest:.2f}, median {median:.2f}, longest {longest:.2f} ms",
        sent=len(took),
        failed=failed,
        **{name: round(value, 3) for name, value in numbers.items()},
    )
