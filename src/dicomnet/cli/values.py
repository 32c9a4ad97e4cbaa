"""What stands behind an option or as an argument: read, checked, and completed by the shell."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from dicomnet.config import Peer
    from dicomnet.peers.book import Book, Entry

    _ParamType = click.ParamType[Any]
else:
    _ParamType = click.ParamType  # generic since click 8.4 alone

# Of click's context, where a command finds what its PEER was.
_BOOK, _ENTRY = "dicomnet.book", "dicomnet.entry"


class Value(_ParamType):
    """A type for click made of a function, which may also be called with a text by itself.

    ``read``: the value of a text; raises ValueError. ``words``: what a shell may complete to, with a description.
    """

    def __init__(self, name: str, read: Callable[[str], Any], words: Callable[[], Iterable[tuple[str, str]]]) -> None:
        self.name = name
        self._read = read
        self._words = words

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):  # a default that is one already
            return value
        try:
            return self._read(value)
        except ValueError as error:
            raise click.BadParameter(str(error), ctx, param) from error

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        return [CompletionItem(word, help=text) for word, text in self._words() if word.startswith(incomplete)]


# --- peers ----------------------------------------------------------------------------------------------------------


def _read_peer(text: str) -> Peer:
    from dicomnet.config import Peer

    context = click.get_current_context(silent=True)
    if context is not None:
        context.meta[_ENTRY] = None
    if text and "@" not in text:
        entry = find_entry(text)
        if context is not None:
            context.meta[_ENTRY] = entry
        return entry.peer
    try:
        return Peer.parse(text)
    except ValueError as error:
        raise ValueError(f"{error}. Example: PACS@192.0.2.7:11112") from error


def find_entry(name: str) -> Entry:
    """The peer with a name in ``dicomnet.toml``. Raises ValueError."""
    from dicomnet.peers.book import closest

    book = book_of(click.get_current_context(silent=True))
    if name in book.peers:
        return book.peers[name]
    meant = closest(name, book.peers)
    hint = f"did you mean {meant}?" if meant else "'dicomnet peers' lists the names."
    where = f"no name in {' or '.join(map(str, book.files))}" if book.files else "there is no dicomnet.toml with names"
    raise ValueError(f"{name!r} is not AET@host:port, and {where}; {hint} Example: PACS@192.0.2.7:11112")


def book_of(context: click.Context | None) -> Book:
    """What ``dicomnet.toml`` says; read once for a command. Raises InvalidPeers, which is a ValueError."""
    from dicomnet.peers.book import load

    if context is None:
        return load()
    if _BOOK not in context.meta:
        context.meta[_BOOK] = load()
    book: Book = context.meta[_BOOK]
    return book


def has_peer(context: click.Context) -> bool:
    """Whether a PEER was among the arguments."""
    return _ENTRY in context.meta


def entry_of(context: click.Context) -> Entry | None:
    """What ``dicomnet.toml`` says of PEER, if it was a name."""
    entry: Entry | None = context.meta.get(_ENTRY)
    return entry


def peer_names() -> Iterable[tuple[str, str]]:
    """For a shell, which has nowhere to show an error."""
    try:
        return [(name, str(entry.peer)) for name, entry in book_of(None).peers.items()]
    except ValueError:
        return []


# --- others ---------------------------------------------------------------------------------------------------------


def _read_ae_title(text: str) -> str:
    from dicomnet.config import check_ae_title

    return check_ae_title(text)


def _read_timeout(text: str) -> tuple[str, float | None]:
    from dicomnet.config import Timeouts

    name, _, number = text.partition("=")
    if name not in Timeouts.__slots__:
        raise ValueError(f"there is no time limit {name!r}, only {', '.join(Timeouts.__slots__)}")
    if number == "none":
        return name, None
    try:
        seconds = float(number)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e9:
        raise ValueError(f"{text!r} needs a number of seconds, or 'none' for no limit. Example: {name}=60")
    return name, seconds


def _timeouts() -> Iterable[tuple[str, str]]:
    """With the usual number, which shows what is wanted."""
    from dataclasses import fields

    from dicomnet.config import Timeouts

    return [(f"{field.name}={field.default:g}", "seconds, or none") for field in fields(Timeouts)]


def _read_tls_profile(text: str) -> str:
    from dicomnet.tls import PROFILES

    if text not in PROFILES:
        raise ValueError(f"there is no TLS profile {text!r}, only {', '.join(PROFILES)}")
    return text


def _tls_profiles() -> Iterable[tuple[str, str]]:
    from dicomnet.peers.book import PROFILES

    return [(name, "PS3.15 Annex B") for name in PROFILES]


def _nothing() -> Iterable[tuple[str, str]]:
    return []


peer_value: Final = Value("peer", _read_peer, peer_names)  # AET@host:port, or a name in dicomnet.toml
ae_title_value: Final = Value("ae title", _read_ae_title, _nothing)  # 1 to 16 characters (PS3.5 6.2)
timeout_value: Final = Value("timeout", _read_timeout, _timeouts)  # NAME=SECONDS for a field of Timeouts
tls_profile_value: Final = Value("profile", _read_tls_profile, _tls_profiles)  # of PS3.15 Annex B
