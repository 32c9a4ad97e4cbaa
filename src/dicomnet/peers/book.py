"""``dicomnet.toml``: names for peers, and what goes without saying when they are called.

One idea: the file says what one would otherwise have to say each time, in the same words; its keys are the names of the
options of the command line. ``find`` says which files count, ``read`` checks one, ``load`` makes one book of them::

    [defaults]                       # for every peer
    calling = "WORKSTATION7"
    timeout = {connect = 3}

    [peers.pacs]                     # dicomnet echo pacs
    address = "PACS@192.0.2.7:11112"
    tls-ca = "hospital-ca.pem"       # beside this file

Who may write such a file decides where patient data goes. So one that was merely found must be its reader's, or the
administrator's, and nobody else's to write (as git holds it with ``safe.directory``); one that was named is trusted.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Final

from dicomnet.config import Peer, Timeouts, check_ae_title

FILE: Final = "dicomnet.toml"
VARIABLE: Final = "DICOMNET_CONFIG"  # names the one file that counts; empty: none does
_LARGEST: Final = 1 << 20  # bytes; ten thousand peers


class Kind(Enum):
    """What the value of a key is to be."""

    TEXT = "a text"
    FLAG = "true or false"
    FILE = "a file name"
    FILES = "a file name or a list of them"
    TIMES = "a table of seconds"


# What may stand in [defaults] and in [peers.NAME]: the options that all commands share, by their names.
KEYS: Final = {
    "calling": Kind.TEXT,
    "timeout": Kind.TIMES,
    "tls": Kind.FLAG,
    "tls-profile": Kind.TEXT,
    "tls-ca": Kind.FILE,
    "tls-crl": Kind.FILES,
    "tls-cert": Kind.FILE,
    "tls-key": Kind.FILE,
    "tls-key-password-file": Kind.FILE,
    "tls-verify": Kind.TEXT,
    "identity-username": Kind.TEXT,
    "identity-passcode-file": Kind.FILE,
    "identity-kerberos": Kind.FILE,
    "identity-saml": Kind.FILE,
    "identity-jwt": Kind.FILE,
}
PROFILES: Final = ("bcp195", "bcp195-nd", "bcp195-ex", "bcp195-8996", "bcp195-8996-mod")  # of dicomnet.tls, unloaded
VERIFY: Final = ("full", "chain", "none")
_CHOICES: Final = {"tls-profile": PROFILES, "tls-verify": VERIFY}

# Keys that come from one place together, because parts of two would be nonsense: if one of the first is there, all.
_TOGETHER: Final = (
    (("tls-cert",), ("tls-cert", "tls-key", "tls-key-password-file")),
    (
        ("identity-username", "identity-kerberos", "identity-saml", "identity-jwt"),
        ("identity-username", "identity-passcode-file", "identity-kerberos", "identity-saml", "identity-jwt"),
    ),
)

Options = Mapping[str, Any]


class InvalidPeers(ValueError):
    """A ``dicomnet.toml`` that cannot be used: one line with the file, the key, and what to do."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A peer that has a name. ``options``: its own, by their keys; times as seconds or None; files as full paths."""

    name: str
    peer: Peer
    options: Options
    file: Path


@dataclass(frozen=True, slots=True)
class Contents:
    """What one file says."""

    file: Path
    defaults: Options = field(default_factory=dict)
    peers: Mapping[str, Entry] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Book:
    """What all files say together. ``contents``: of each, the nearer first.

    A peer is taken whole from the nearest file that has it, so that no address meets another file's identity. Of the
    defaults each key is taken from the nearest file that has it.
    """

    contents: tuple[Contents, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(content.file for content in self.contents)

    @property
    def peers(self) -> dict[str, Entry]:
        """All that have a name, by it."""
        return {name: entry for content in reversed(self.contents) for name, entry in content.peers.items()}

    def options(self, entry: Entry | None, given: Options) -> dict[str, Any]:
        """What holds for a call: what was ``given`` before the peer's own before the defaults.

        Times are taken one by one, a certificate with its key and an identity only together. ``tls = false`` switches
        off what a further place says of TLS, any other key of TLS switches it on.
        """
        result: dict[str, Any] = {}
        nearest = (content.defaults for content in reversed(self.contents))
        for options in (*nearest, entry.options if entry is not None else {}, given):
            result = _over(result, options)
        if result.get("tls") is False:
            result = {key: value for key, value in result.items() if not key.startswith("tls")}
        return result

    def origin(self, entry: Entry | None, key: str) -> str:
        """Where the value of a key is written, for people."""
        if entry is not None and key in entry.options:
            return f"{entry.file}: [peers.{entry.name}] {key}"
        file = next((content.file for content in self.contents if key in content.defaults), "")
        return f"{file}: [defaults] {key}"


# --- which files ----------------------------------------------------------------------------------------------------


def find(folder: Path, environment: Mapping[str, str] = os.environ) -> tuple[Path, ...]:
    """The files that count in ``folder``, the nearer first.

    The one that the environment names, if it does; else the first ``dicomnet.toml`` from ``folder`` upwards, and the
    user's. Raises InvalidPeers if one was named that is not there.
    """
    named = environment.get(VARIABLE)
    if named is not None:
        if named and not Path(named).is_file():
            raise InvalidPeers(f"{VARIABLE} names {named}, and there is no such file")
        return (Path(named).absolute(),) if named else ()
    near = next((path for above in (folder, *folder.parents) if (path := above / FILE).is_file()), None)
    user = user_file(environment)
    found = [path for path in (near, user) if path is not None and path.is_file()]
    return tuple(dict.fromkeys(found))


def user_file(environment: Mapping[str, str] = os.environ) -> Path:
    """Where the user's own file is, or would be."""
    if sys.platform == "win32":
        base = environment.get("APPDATA") or Path.home() / "AppData" / "Roaming"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        configured = environment.get("XDG_CONFIG_HOME", "")
        base = configured if os.path.isabs(configured) else Path.home() / ".config"  # as its specification demands
    return Path(base) / "dicomnet" / FILE


def load(folder: Path | None = None, environment: Mapping[str, str] = os.environ) -> Book:
    """The book that counts in a folder, by default the current one. Raises InvalidPeers."""
    try:
        here = Path.cwd() if folder is None else folder
    except FileNotFoundError:  # it has been removed meanwhile
        here = Path("/")
    trusted = environment.get(VARIABLE) is not None
    return Book(tuple(read(path, trusted=trusted) for path in find(here, environment)))


def _over(further: Options, nearer: Options) -> dict[str, Any]:
    result = dict(further)
    if any(key.startswith("tls") for key in nearer):
        result.pop("tls", None)
    for these, together in _TOGETHER:
        if any(key in nearer for key in these):
            result = {key: value for key, value in result.items() if key not in together}
    times = {**result.get("timeout", {}), **nearer.get("timeout", {})}
    return {**result, **nearer, **({"timeout": times} if times else {})}


# --- one file -------------------------------------------------------------------------------------------------------


def read(path: Path, *, trusted: bool = False) -> Contents:
    """What a file says. ``trusted``: it was named, so it does not matter whose it is. Raises InvalidPeers."""
    return parse(read_text(path, trusted=trusted), path)


def read_text(path: Path, *, trusted: bool = False) -> str:
    """A file as it is, if it may be believed. Raises InvalidPeers."""
    try:
        with open(path, "rb") as file:
            if not trusted:
                _check_owner(path, os.fstat(file.fileno()))
            data = file.read(_LARGEST + 1)
    except OSError as error:
        raise InvalidPeers(f"{path}: {error.strerror or error}") from error
    if len(data) > _LARGEST:
        raise InvalidPeers(f"{path} has more than {_LARGEST} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidPeers(f"{path} is not UTF-8: byte {error.start + 1}") from error


def parse(text: str, path: Path) -> Contents:
    """What the text of the file ``path`` says. Raises InvalidPeers."""
    import tomllib

    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidPeers(f"{path}: {error}") from error
    except RecursionError as error:
        raise InvalidPeers(f"{path}: nested too deeply") from error
    for key in tables:
        if key not in ("defaults", "peers"):
            raise InvalidPeers(f"{path}: there is no [{key}]{_meant(key, ('defaults', 'peers'))}")
    defaults = _options(_table(tables.get("defaults", {}), "[defaults]", path), "[defaults]", path)
    named = _table(tables.get("peers", {}), "[peers]", path)
    return Contents(path, defaults, {name: _entry(name, table, path) for name, table in named.items()})


def check_name(name: str) -> str:
    """Return ``name`` if a peer may be called so, else raise ValueError."""
    if not re.fullmatch(r"\w[\w.-]{0,63}", name):
        raise ValueError(f"{name!r} is no name for a peer: up to 64 letters, digits, '_', '-' and '.', no '-' first")
    return name


def closest(word: str, words: Mapping[str, Any] | tuple[str, ...]) -> str | None:
    """Which of ``words`` was meant, if one looks alike."""
    import difflib

    return next(iter(difflib.get_close_matches(word, words, 1, 0.5)), None)


def _entry(name: str, value: Any, path: Path) -> Entry:
    place = f"[peers.{name}]"
    try:
        check_name(name)
    except ValueError as error:
        raise InvalidPeers(f"{path}: {error}") from error
    table = dict(_table(value, place, path))
    address = table.pop("address", None)
    if not isinstance(address, str):
        raise InvalidPeers(f'{path}: {place} needs an address: address = "PACS@192.0.2.7:11112"')
    try:
        peer = Peer.parse(address)
    except ValueError as error:
        raise InvalidPeers(f"{path}: {place} address: {error}") from error
    return Entry(name, peer, _options(table, place, path), path)


def _table(value: Any, place: str, path: Path) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise InvalidPeers(f"{path}: {place} is to be a table, not {value!r}")
    return value


def _options(table: Mapping[str, Any], place: str, path: Path) -> dict[str, Any]:
    return {key: _value(key, value, place, path) for key, value in table.items()}


def _value(key: str, value: Any, place: str, path: Path) -> Any:
    if key not in KEYS:
        raise InvalidPeers(f"{path}: {place} {_unknown(key, place)}")
    match KEYS[key], value:
        case Kind.FLAG, bool():
            return value
        case Kind.TEXT, str():
            return _text(key, value, place, path)
        case Kind.FILE, str() if value:
            return _beside(path, value)
        case Kind.FILES, str() if value:
            return (_beside(path, value),)
        case Kind.FILES, list() if all(isinstance(one, str) and one for one in value):
            return tuple(_beside(path, one) for one in value)
        case Kind.TIMES, dict():
            return {name: _seconds(name, number, place, path) for name, number in value.items()}
    raise InvalidPeers(f"{path}: {place} {key} is to be {KEYS[key].value}, not {value!r}")


def _unknown(key: str, place: str) -> str:
    if key == "identity-passcode":
        return f"{key}: a passcode does not belong here; keep it in a file of its own: identity-passcode-file"
    if key == "tls-no-verify":
        return f'{key}: write tls-verify = "none"'
    keys = ("address", *KEYS) if place.startswith("[peers.") else tuple(KEYS)
    return f"has no key {key}{_meant(key, keys)}"


def _text(key: str, value: str, place: str, path: Path) -> str:
    if key == "calling":
        try:
            return check_ae_title(value)
        except ValueError as error:
            raise InvalidPeers(f"{path}: {place} {key}: {error}") from error
    if key in _CHOICES and value not in _CHOICES[key]:
        raise InvalidPeers(f"{path}: {place} {key} is to be one of {', '.join(_CHOICES[key])}, not {value!r}")
    return value


def _seconds(name: str, number: Any, place: str, path: Path) -> float | None:
    if name not in Timeouts.__slots__:
        raise InvalidPeers(f"{path}: {place} timeout has no key {name}{_meant(name, Timeouts.__slots__)}")
    if number == "none":
        return None
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 < number < 1e9:
        raise InvalidPeers(f'{path}: {place} timeout {name} is to be a number of seconds or "none", not {number!r}')
    return float(number)


def _beside(path: Path, name: str) -> str:
    return os.path.normpath(path.parent / os.path.expanduser(name))


def _meant(word: str, words: tuple[str, ...]) -> str:
    meant = closest(word, words)
    return f"; did you mean {meant}?" if meant is not None else f", only {', '.join(words)}"


def _check_owner(path: Path, opened: os.stat_result) -> None:
    """A symbolic link counts, too: who made it chose the file."""
    if sys.platform == "win32":  # access lists say who owns what; folders of others are not writable there
        return
    ours = {0, os.geteuid()}
    if os.geteuid() == 0 and os.environ.get("SUDO_UID", "").isdigit():
        ours.add(int(os.environ["SUDO_UID"]))
    advice = f"if you trust it, name it: {VARIABLE}={path} (or leave it out: {VARIABLE}=)"
    if not {opened.st_uid, os.lstat(path).st_uid} <= ours:
        raise InvalidPeers(f"{path} belongs to another user, who could lead your data elsewhere; {advice}")
    if opened.st_mode & stat.S_IWOTH:
        raise InvalidPeers(f"everybody may write {path}, and lead your data elsewhere: chmod o-w; {advice}")
