"""Changing a ``dicomnet.toml`` without touching what stands around the change: comments, order, blank lines.

One idea: the text is edited as text, and then read again. If it does not say what it is to say (somebody wrote the
tables in a way that is not foreseen here), nothing is written.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dicomnet.peers.book import InvalidPeers, check_name, parse

_HEADER = re.compile(r"\s*\[")
_BARE = re.compile(r"[A-Za-z0-9_-]+")


def with_peer(text: str, path: Path, name: str, address: str, options: Mapping[str, Any]) -> str:
    """The text of a file with one more peer at its end. Raises InvalidPeers, also if it has one of that name.

    ``options``: by their keys, as TOML has them (a time limit is a number or ``"none"``).
    """
    check_name(name)
    before = _tables(text, path)
    if name in before.get("peers", {}):
        raise InvalidPeers(f"{path} has a peer {name!r} already; remove it first")
    table = {"address": address, **options}
    lines = [f"[peers.{_key(name)}]", *(f"{key} = {_written(value)}" for key, value in table.items())]
    gap = "" if not text else "\n" if text.endswith("\n") else "\n\n"
    result = text + gap + "\n".join(lines) + "\n"
    return _checked(result, {**before, "peers": {**before.get("peers", {}), name: table}}, path)


def without_peer(text: str, path: Path, name: str) -> str:
    """The text without that peer. Raises InvalidPeers."""
    before = _tables(text, path)
    peers = dict(before.get("peers", {}))
    if name not in peers:
        raise InvalidPeers(f"{path} has no peer {name!r}")
    del peers[name]
    kept: list[str] = []
    held: list[str] = []  # of the peer's own, since its last line that says something: comments on what follows
    inside = False
    for line in text.splitlines(keepends=True):
        if _HEADER.match(line):
            inside = _is_header_of(line, name)
            kept, held = kept + held, []
        if not inside:
            kept.append(line)
        elif line.strip() and not line.lstrip().startswith("#"):
            held = []
        else:
            held.append(line)
    rest = "".join(kept + held).rstrip("\n")
    return _checked(f"{rest}\n" if rest else "", {**before, "peers": peers}, path)


def write(path: Path, text: str) -> None:
    """Put ``text`` in the place of the file, whole or not at all. Raises OSError."""
    path = path.resolve()  # of a link, the file that it leads to
    path.parent.mkdir(parents=True, exist_ok=True)
    number, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # for nobody else to read
    try:
        with open(number, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(number)
        with contextlib.suppress(FileNotFoundError):
            os.chmod(temporary, path.stat().st_mode & 0o7777)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def _tables(text: str, path: Path) -> dict[str, Any]:
    parse(text, path)
    return tomllib.loads(text)


def _checked(text: str, expected: Mapping[str, Any], path: Path) -> str:
    try:
        parse(text, path)
        found = tomllib.loads(text)
    except ValueError:
        found = {}
    if {"peers": {}, **found} != {"peers": {}, **expected}:
        raise InvalidPeers(f"{path} writes its peers in a way that cannot be changed from here; edit it yourself")
    return text


def _is_header_of(line: str, name: str) -> bool:
    """Whether a line begins the table ``[peers.NAME]``, or one inside it."""
    try:
        table = tomllib.loads(line)
    except tomllib.TOMLDecodeError:  # no header after all, but the line of a list
        return False
    return name in table.get("peers", {})


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _written(name)


def _written(value: Any) -> str:
    """A value as TOML."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            return '"' + "".join(map(_character, value)) + '"'
        case list() | tuple():
            return "[" + ", ".join(map(_written, value)) + "]"
        case dict():
            return "{" + ", ".join(f"{_key(key)} = {_written(one)}" for key, one in value.items()) + "}"
        case float() if value.is_integer():
            return str(int(value))
    return repr(value)


def _character(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    return character if character.isprintable() else f"\\U{ord(character):08x}"
