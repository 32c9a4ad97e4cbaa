"""``dicomnet trace``: what passes between two AEs, by a proxy between them or in a capture; see ``cli.tracing``."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from dicomnet.cli.interrupt import Interrupt
from dicomnet.cli.options import USAGE, Command, Failure, observer, peer_value
from dicomnet.cli.output import Output, writable
from dicomnet.cli.settings import Settings
from dicomnet.trace.members import MEMBERS

if TYPE_CHECKING:
    from dicomnet.cli.tracing import Viewer
    from dicomnet.config import Peer
    from dicomnet.trace.faults import Rule
    from dicomnet.trace.proxy import Proxy

_LOOK: Final = 0.1  # seconds between two looks whether it is over

_EVENTS: Final = {
    "listening": {"host": "the address, or *", "port": "the TCP port", "peer": "host and port it forwards to"},
    "written": {"path": "a picture that was drawn"},
    "summary": {
        "connections": "how many there were",
        "associations": "how many were accepted",
        "messages": "object: how many of each, by name",
        "bytes": "of all data sets",
        "failures": "object: how often each happened, by its words",
        "unanswered": "requests that got no response before their connection ended",
        "faults": "how many were injected",
        "seconds": "from the first record to the last",
        "slowest": "list: seconds, name and connection of the responses that took longest",
    },
}


@click.command("trace", cls=Command, events={**MEMBERS, **_EVENTS}, short_help="Show what passes between two AEs.")
@click.argument("where", nargs=-1, required=True, metavar="LISTEN PEER | FILE")
@click.option("--all", "show_all", is_flag=True, help="Show every message. Without it like ones are counted.")
@click.option(
    "--phi", is_flag=True, help="Show data sets and the keys of queries, too: what belongs to patients.",
)  # fmt: skip
@click.option(
    "--write", multiple=True, metavar="FILE", type=click.Path(dir_okay=False),
    help="Keep the trace, as a capture for Wireshark or as JSON lines, in place of FILE if it is there; in the capture"
    " what belongs to patients is zeros unless there is --phi. Can be repeated: --write today.pcapng --write"
    " today.jsonl",
)  # fmt: skip
@click.option(
    "--svg", metavar="FILE", type=click.Path(dir_okay=False),
    help="Draw each association as a ladder diagram; the second goes to FILE-2 and so on: --svg ladder.svg",
)  # fmt: skip
@click.option(
    "--html", metavar="FILE", type=click.Path(dir_okay=False),
    help="The same as a page with a summary and details, to attach to a ticket: --html ladder.html",
)  # fmt: skip
@click.option(
    "--association", type=click.IntRange(min=1), metavar="N",
    help="Draw only the one on connection N: --association 3",
)  # fmt: skip
@click.option(
    "--fault", "faults", multiple=True, metavar="RULE",
    help="Do harm by a rule, to test other people's software; can be repeated: --fault 'after 3 C-STORE-RQ: reset'",
)  # fmt: skip
@click.option(
    "--count", type=click.IntRange(min=1), metavar="N", help="End after N connections: --count 1",
)  # fmt: skip
@click.option(
    "--seconds", type=click.FloatRange(min=0, min_open=True), metavar="S", help="End after S seconds: --seconds 60",
)  # fmt: skip
@observer
def command(
    where: tuple[str, ...],
    show_all: bool,
    phi: bool,
    write: tuple[str, ...],
    svg: str | None,
    html: str | None,
    association: int | None,
    faults: tuple[str, ...],
    count: int | None,
    seconds: float | None,
    calling: tuple[str, ...],
    settings: Settings,
    output: Output,
) -> int:
    """Listen on LISTEN, forward to PEER unchanged, and draw what passes; or draw what FILE, a pcap or pcapng, holds.

    LISTEN is a port, or HOST:PORT; '*:PORT' is all addresses. PEER is AET@host:port or host:port. Let the one side call
    LISTEN instead of PEER; neither will notice. Time goes down, who opened the connection is on the left. Data sets are
    shown as a size alone, without --phi. With -v there is what PDUs and command sets hold, with -vv every P-DATA-TF.
    TLS passes through, but cannot be read. Ctrl-C and SIGTERM end it, with a summary.

    \b
      dicomnet trace 11113 PACS@192.0.2.7:11112
      dicomnet trace '*:104' 192.0.2.7:11112 -v --html ladder.html
      dicomnet trace 11113 PACS@127.0.0.1:11112 --fault 'after 3 C-STORE-RQ: reset'
      dicomnet trace capture.pcapng --svg ladder.svg --association 2
    """
    _refuse_what_has_no_meaning(settings)
    captures, lines = _split(write)
    if len(where) > 2:
        raise click.UsageError("name LISTEN and PEER, or one FILE")
    if len(where) == 1:
        _refuse_for_a_file(captures, faults, where[0])
    _refuse_to_overwrite(where if len(where) == 1 else (), write, svg, html)
    with contextlib.ExitStack() as stack:
        viewer = _viewer(stack, output, settings, lines, svg, html, association, show_all=show_all, phi=phi)
        viewer.callers = frozenset(calling)
        if len(where) == 1:
            _read(where[0], viewer, count)
        else:
            listen, peer = _address(where[0]), _peer(where[1])
            _run(
                _proxy(stack, listen, peer, viewer, captures, _rules(faults), settings),
                listen,
                peer,
                viewer,
                output,
                count,
                seconds,
            )
    return 0


# --- what was asked for ---------------------------------------------------------------------------------------------


def _refuse_what_has_no_meaning(settings: Settings) -> None:
    """A trace lets pass what comes; it takes no part in the associations."""
    if settings.wants_tls:
        raise click.UsageError(
            "a trace cannot read TLS, which passes through as it is: leave out the --tls options; to read it, let both"
            " sides talk without TLS on this network, or trace where it has been ended"
        )
    if settings.identity() is not None:
        raise click.UsageError("--identity: a trace requests no association; leave it out")


def _refuse_for_a_file(captures: list[Path], faults: tuple[str, ...], where: str) -> None:
    if not Path(where).is_file():
        raise click.UsageError(f"there is no file {where}; to listen, name LISTEN and PEER: 11113 PACS@192.0.2.7:11112")
    if faults:
        raise click.UsageError("--fault: nothing can be done to a capture; give LISTEN and PEER instead of FILE")
    if captures:
        raise click.UsageError("--write: FILE is a capture already; JSON lines can be made of it: --write FILE.jsonl")


def _refuse_to_overwrite(read: tuple[str, ...], write: tuple[str, ...], *pictures: str | None) -> None:
    """Two of the files are one."""
    paths = [Path(path).resolve() for path in (*read, *write, *pictures) if path]
    for path in paths:
        if paths.count(path) > 1:
            raise click.UsageError(f"{path.name} is named twice: give each file that is written a name of its own")


def _split(write: tuple[str, ...]) -> tuple[list[Path], list[Path]]:
    """Captures, and files of JSON lines."""
    captures = [Path(path) for path in write if path.endswith(".pcapng")]
    lines = [Path(path) for path in write if path.endswith((".jsonl", ".json"))]
    for path in write:
        if Path(path) not in (*captures, *lines):
            raise click.UsageError(f"--write {path}: the name must end in .pcapng or .jsonl")
    if max(len(captures), len(lines)) > 1:
        raise click.UsageError("--write: one capture and one file of JSON lines can be written")
    return captures, lines


def _rules(faults: tuple[str, ...]) -> list[Rule]:
    from dicomnet.trace.faults import InvalidRule, parse_rule

    rules = []
    for text in faults:
        try:
            rules.append(parse_rule(text))
        except InvalidRule as error:
            raise click.UsageError(f"--fault {text!r}: {error.problem}") from error
    return rules


def _address(text: str) -> tuple[str, int]:
    """``PORT``, ``HOST:PORT`` or ``[IPv6]:PORT``."""
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise click.UsageError(f"LISTEN is a port, or HOST:PORT, not {text!r}. Example: 11113")
    return host.removeprefix("[").removesuffix("]") or "127.0.0.1", int(port)


def _peer(text: str) -> Peer:
    """``AET@host:port`` like everywhere; the AE title is not needed here."""
    host, colon, port = text.rpartition(":")
    bare = "@" not in text and colon and host and port.isdigit()
    peer: Peer = peer_value(f"ANY@{text}" if bare else text)
    return peer


def _viewer(
    stack: contextlib.ExitStack,
    output: Output,
    settings: Settings,
    lines: list[Path],
    svg: str | None,
    html: str | None,
    association: int | None,
    *,
    show_all: bool,
    phi: bool,
) -> Viewer:
    """Who takes the records; it says what it came to when ``stack`` ends."""
    from dicomnet.cli.tracing import Viewer, screen
    from dicomnet.trace.pictures import Pictures

    if association is not None and not (svg or html):
        raise click.UsageError("--association says which one is drawn: add --svg FILE or --html FILE")
    with _writing():
        for path in filter(None, (svg, html)):
            writable(path)
        drawn = [None if path is None else Path(path) for path in (svg, html)]
        pictures = Pictures(svg=drawn[0], html=drawn[1], only=association, phi=phi)
        opened = [stack.enter_context(path.open("w", encoding="utf-8")) for path in lines]
    viewer = Viewer(output, pictures, phi=phi, lines=opened)
    stack.callback(_summarise, viewer)
    viewer.screen = stack.enter_context(screen(output, show_all=show_all, verbose=settings.verbose, phi=phi))
    return viewer


def _summarise(viewer: Viewer) -> None:
    if viewer.begun:  # else something was wrong with what was asked for
        with _writing():
            viewer.summarise()


@contextlib.contextmanager
def _writing() -> Iterator[None]:
    """What goes wrong with the files that are written is one line; and so is a proxy that calls itself."""
    from dicomnet.errors import TransportError

    try:
        yield
    except TransportError as error:
        raise Failure(f"{error}: name another LISTEN or PEER", USAGE) from error
    except OSError as error:
        raise Failure(f"cannot write {error.filename or 'the trace'}: {error.strerror or error}", USAGE) from error


# --- the two sources ------------------------------------------------------------------------------------------------


def _read(path: str, viewer: Viewer, count: int | None) -> None:
    """A capture."""
    from dicomnet.trace.capture import NotACapture, read_capture

    with Interrupt("interrupted", at_once=True):
        try:
            for record in read_capture(path, keep_datasets=viewer.keep_datasets):
                if not viewer.begun:
                    viewer.begin()
                with _writing():
                    viewer.take(record)
                if viewer.closed == count:
                    break
        except NotACapture as error:
            raise Failure(str(error), USAGE) from error
    if not viewer.totals.connections:
        raise Failure(f"no DICOM association was found in {path}; was it captured between the two AEs?", USAGE)


def _run(
    make: Callable[[], Proxy],
    listen: tuple[str, int],
    peer: Peer,
    viewer: Viewer,
    output: Output,
    count: int | None,
    seconds: float | None,
) -> None:
    """A proxy, until a signal or what was asked for ends it."""
    until = None if seconds is None else time.monotonic() + seconds
    with Interrupt("ending (again: at once)") as interrupt, contextlib.ExitStack() as stack:
        with viewer.lock:  # nothing is shown before the line with the address
            proxy = stack.enter_context(_listening(make, listen))
            _tell(proxy, listen[0], peer, output)
            viewer.begin()
        while not interrupt.wait(_LOOK):
            with _writing():
                over = proxy.wait(0)
            if (
                over
                or (count is not None and viewer.closed >= count)
                or (until is not None and time.monotonic() >= until)
            ):
                break


def _tell(proxy: Proxy, host: str, peer: Peer, output: Output) -> None:
    if host != "*":
        host = proxy.address.host
    shown = f"[{host}]" if ":" in host else host
    target = str(peer).rpartition("@")[2]
    output.event(
        "listening",
        f"listening on {shown}:{proxy.port}, forwarding to {target}",
        host=host,
        port=proxy.port,
        peer=target,
    )


def _proxy(
    stack: contextlib.ExitStack,
    listen: tuple[str, int],
    peer: Peer,
    viewer: Viewer,
    captures: list[Path],
    rules: Sequence[Rule],
    settings: Settings,
) -> Callable[[], Proxy]:
    """What starts the proxy."""
    from dicomnet.trace.pcapng import PcapngWriter
    from dicomnet.trace.proxy import Proxy

    with _writing():
        writers = [stack.enter_context(contextlib.closing(PcapngWriter(path, phi=viewer.phi))) for path in captures]

    timeouts = settings.timeouts()
    return functools.partial(
        Proxy,
        *listen,
        peer.host,
        peer.port,
        on_record=viewer.take,
        faults=rules,
        writer=writers[0] if writers else None,
        keep_datasets=viewer.keep_datasets,
        connect=timeouts.connect,
        idle=dict(settings.timeout).get("idle"),
    )


@contextlib.contextmanager
def _listening(make: Callable[[], Proxy], listen: tuple[str, int]) -> Iterator[Proxy]:
    try:
        proxy = make()
    except OSError as error:
        raise Failure(
            f"cannot listen on {listen[0]} port {listen[1]}: {error.strerror or error}; choose another LISTEN", USAGE
        ) from error
    try:
        yield proxy
    finally:
        with _writing():
            proxy.close()
