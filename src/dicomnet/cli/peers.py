"""``dicomnet peers``: the names in ``dicomnet.toml``. ``dicomnet.peers`` finds, reads and changes such files."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from dicomnet.cli.options import USAGE, Command, Failure, requestor
from dicomnet.cli.output import Output
from dicomnet.cli.settings import Settings
from dicomnet.cli.values import Value, peer_names, peer_value

if TYPE_CHECKING:
    from dicomnet.peers.book import Book, Entry

_ACTIONS: Final = {
    "list": "the peers that have a name",
    "add": "a name for a peer",
    "remove": "names",
    "test": "peers by C-ECHO",
}
_EVENTS: Final = {
    "peer": {
        "name": "by which commands take it",
        "address": "AET@host:port",
        "options": "object: its own, by their names in the file",
        "file": "the dicomnet.toml that has it",
    },
    "added": {"name": "of the peer", "address": "AET@host:port", "file": "that was changed"},
    "removed": {"name": "of the peer", "file": "that was changed"},
    "tested": {
        "name": "as it was given",
        "address": "AET@host:port",
        "ok": "whether it answered with success",
        "ms": "from the C-ECHO to its response, or null",
        "associated_ms": "from the connection to the association, or null",
        "message": "the answer, or why there was none, in words",
        "exit_code": "that dicomnet echo would end with",
    },
}


def _complete(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[Any]:
    """Names for those actions that take some, else nothing."""
    from click.shell_completion import CompletionItem

    if context.params.get("action") not in ("remove", "test"):
        return []
    return [CompletionItem(name, help=text) for name, text in peer_names() if name.startswith(incomplete)]


def _read_action(text: str) -> str:
    if text not in _ACTIONS:
        raise ValueError(f"{text!r} is none of {', '.join(_ACTIONS)}")
    return text


@click.command("peers", cls=Command, events=_EVENTS, short_help="Names for peers: list, add, remove, test them.")
@click.argument(
    "action", metavar="[list|add|remove|test]", default="list", type=Value("action", _read_action, _ACTIONS.items)
)
@click.argument("words", metavar="[NAME]... [PEER]", nargs=-1, shell_complete=_complete)
@click.option(
    "--here", is_flag=True, help="Add to the dicomnet.toml of this folder, not to the user's own: add pacs ... --here"
)
@requestor
def command(action: str, words: tuple[str, ...], here: bool, calling: str, settings: Settings, output: Output) -> int:
    """Give peers names, so that no command needs their addresses.

    add NAME PEER notes the connection, TLS and identity options that are given with it; they then hold whenever that
    peer is called, unless the command line says otherwise. remove NAME... forgets them. test [NAME...] sends a C-ECHO
    to each, all at once, and says in words why one fails. list, or nothing, shows what there is.

    The names are in dicomnet.toml: the first one from the current folder upwards, then the user's own.

    \b
      dicomnet peers add pacs PACS@192.0.2.7:11112 --calling WORKSTATION7 --timeout connect=3
      dicomnet peers add archive ARCHIVE@pacs.example.org:2762 --tls-ca hospital-ca.pem
      dicomnet peers
      dicomnet peers test
      dicomnet send pacs study
      dicomnet peers remove archive
    """
    from dicomnet.peers.book import InvalidPeers

    if here and action != "add":
        raise click.UsageError("--here belongs to 'dicomnet peers add NAME PEER'")
    try:
        match action:
            case "add":
                return _add(words, here, output)
            case "remove":
                return _remove(words, output)
            case "test":
                from dicomnet.cli.roll_call import call

                return call(_wanted(words), output)
        if words:
            raise click.UsageError("'dicomnet peers list' takes no names")
        return _list(_load(), output)
    except InvalidPeers as error:
        raise Failure(str(error), USAGE) from error


def _load() -> Book:
    from dicomnet.cli.values import book_of

    return book_of(click.get_current_context())


# --- list -----------------------------------------------------------------------------------------------------------


def _list(book: Book, output: Output) -> int:
    entries = sorted(book.peers.values(), key=lambda entry: entry.name)
    if output.json:
        for entry in entries:
            output.event(
                "peer",
                name=entry.name,
                address=str(entry.peer),
                options=dict(entry.options),
                file=str(entry.file),
            )
    elif not entries:
        output.problem("no peer has a name yet: dicomnet peers add pacs PACS@192.0.2.7:11112")
    elif sys.stdout.isatty():
        _draw(entries)
    else:
        name, address = (
            max(map(len, column)) for column in zip(*((e.name, str(e.peer)) for e in entries), strict=True)
        )
        for entry in entries:
            line = f"{entry.name:{name}}  {entry.peer!s:{address}}  {_options_text(entry)}"
            output.event("peer", line.rstrip())
    return 0


def _draw(entries: list[Entry]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from dicomnet.cli.output import printable

    table = Table("name", "address", "options", "file", box=box.SIMPLE_HEAD, pad_edge=False)
    for entry in entries:
        cells = (entry.name, str(entry.peer), _options_text(entry), _short(entry.file))
        table.add_row(*(Text(printable(cell), "bold" if not number else "") for number, cell in enumerate(cells)))
    Console().print(table)


def _short(path: Path) -> str:
    """Below the home folder as shells write it."""
    home = os.path.expanduser("~") + os.sep
    return f"~{os.sep}{str(path)[len(home) :]}" if str(path).startswith(home) else str(path)


def _options_text(entry: Entry) -> str:
    words = ["TLS"] if any(key.startswith("tls") for key in entry.options) and entry.options.get("tls", True) else []
    for key, value in entry.options.items():
        if key == "timeout":
            words += [f"{name}={'none' if seconds is None else f'{seconds:g}'}" for name, seconds in value.items()]
        elif not key.startswith("tls"):
            words.append(f"{key.removeprefix('identity-')} {value}")
    return ", ".join(words)


# --- add and remove -------------------------------------------------------------------------------------------------


def _add(words: tuple[str, ...], here: bool, output: Output) -> int:
    from dicomnet.peers import book, editing

    if len(words) != 2:
        raise click.UsageError("to add takes a name and a peer: dicomnet peers add pacs PACS@192.0.2.7:11112")
    name, address = words
    try:
        book.check_name(name)
        if "@" not in address:
            raise ValueError(f"{address!r} is not AET@host:port")
        peer = peer_value(address)
    except ValueError as error:
        raise click.UsageError(f"{error}. Example: dicomnet peers add pacs PACS@192.0.2.7:11112") from error
    path, trusted = _file(here)
    text = book.read_text(path, trusted=trusted) if path.exists() else ""
    _write(path, editing.with_peer(text, path, name, str(peer), _noted(path)))
    output.detail("added", f"{name} is {peer}, in {_short(path)}", name=name, address=str(peer), file=str(path))
    return 0


def _file(here: bool) -> tuple[Path, bool]:
    """Where a new name goes, and whether it was named."""
    from dicomnet.peers.book import FILE, VARIABLE, user_file

    if here:
        return Path.cwd() / FILE, False
    if os.environ.get(VARIABLE):
        return Path(os.environ[VARIABLE]).absolute(), True
    return user_file(), False


def _noted(path: Path) -> dict[str, Any]:
    """The options of the command line, as the file has them."""
    from dicomnet.cli.options import given_options
    from dicomnet.peers.book import KEYS, Kind

    context = click.get_current_context()
    if context.params["identity_passcode"] is not None:
        raise click.UsageError("a passcode is not written there; put it into a file: --identity-passcode-file FILE")
    options = given_options(context)
    if context.params["tls_no_verify"]:
        options["tls-verify"] = "none"
    for key, value in options.items():
        if KEYS[key] is Kind.FILE:
            options[key] = _seen_from(path, value)
        elif KEYS[key] is Kind.FILES:
            options[key] = [_seen_from(path, one) for one in value]
        elif KEYS[key] is Kind.TIMES:
            options[key] = {name: "none" if seconds is None else seconds for name, seconds in value.items()}
    return options


def _seen_from(path: Path, name: str) -> str:
    """A file name as ``path`` has it: relative if it is beside or below, so that the folder can move."""
    if name == "-":
        raise click.UsageError("the standard input cannot be noted; give a file")
    full = Path(name).absolute()
    return full.relative_to(path.parent).as_posix() if full.is_relative_to(path.parent) else str(full)


def _remove(names: tuple[str, ...], output: Output) -> int:
    from dicomnet.peers import editing
    from dicomnet.peers.book import read_text

    if not names:
        raise click.UsageError("which? dicomnet peers remove NAME")
    book = _load()
    for name in names:
        entry = _found(book, name)
        _write(entry.file, editing.without_peer(read_text(entry.file, trusted=True), entry.file, name))
        output.detail("removed", f"{name} is removed from {_short(entry.file)}", name=name, file=str(entry.file))
        if further := [other.file for other in book.contents if other.file != entry.file and name in other.peers]:
            output.problem(f"{name} is now what {further[0]} says of it")
    return 0


def _write(path: Path, text: str) -> None:
    from dicomnet.peers import editing

    try:
        editing.write(path, text)
    except OSError as error:
        raise Failure(f"cannot write {path}: {error.strerror or error}", USAGE) from error


# --- test -----------------------------------------------------------------------------------------------------------


def _wanted(names: tuple[str, ...]) -> list[Any]:
    """Each with its own options under those of the command line."""
    from dicomnet.cli.options import settings_for
    from dicomnet.cli.roll_call import Candidate

    book, context = _load(), click.get_current_context()
    if not (names or book.peers):
        raise click.UsageError("no peer has a name yet: dicomnet peers add pacs PACS@192.0.2.7:11112")
    candidates = []
    for name in names or sorted(book.peers):
        entry = None if "@" in name else _found(book, name)
        calling, settings = settings_for(context, book, entry)
        candidates.append(Candidate(name, peer_value(name) if entry is None else entry.peer, calling, settings))
    return candidates


def _found(book: Book, name: str) -> Entry:
    from dicomnet.cli.values import find_entry

    try:
        return book.peers.get(name) or find_entry(name)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
