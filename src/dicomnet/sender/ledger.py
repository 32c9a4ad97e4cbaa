"""The ledger: what became of each file at each destination, in an SQLite database that outlives a crash.

One idea: an outcome counts when the operating system has it. A row is keyed by destination and file, so that the same
command run again knows what is there already, in an index and not in memory. In a write-ahead log with
``synchronous=NORMAL`` a commit is a write and waits for no disk: it survives the end of this process, however that
comes (``kill -9``, Ctrl-C, a crash of the interpreter). What has not reached the disk, of the last second or so
(``flush``), can be lost by a power cut or a crash of the system alone; the database is whole then too, and those few
instances are sent once more: none is missing. To wait for the disk at each commit (FULL) would make that never happen,
and all nights slow. The log lets others read meanwhile.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, NamedTuple

from dicomnet.config import Peer
from dicomnet.dataset import Path
from dicomnet.dimse.status import Status
from dicomnet.errors import LedgerError
from dicomnet.sender.outcome import Outcome, Stamp

VERSION: Final = 1  # PRAGMA user_version
CONFIRMED: Final = ("committed", "verified")  # values of ``confirmation`` that say that the instance is there

_APPLICATION: Final = 0x444E4C31  # PRAGMA application_id: "DNL1"
_SCHEMA: Final = """
CREATE TABLE destination (
    id INTEGER PRIMARY KEY,
    ae_title TEXT NOT NULL,
    host TEXT NOT NULL,
    port INTEGER NOT NULL,
    UNIQUE (ae_title, host, port)
);
CREATE TABLE file (
    id INTEGER PRIMARY KEY,
    destination INTEGER NOT NULL REFERENCES destination,
    path TEXT NOT NULL,          -- absolute; a blob where the name is no text
    file_size INTEGER,           -- bytes, of the file as it was found
    mtime_ns INTEGER,            -- and its time of modification
    sop_class_uid TEXT,
    sop_instance_uid TEXT,
    transfer_syntax TEXT,        -- of the file
    sent INTEGER NOT NULL,       -- 1: the peer has it
    status INTEGER,              -- that the peer answered
    error TEXT,                  -- or the name of the error
    reason TEXT,                 -- why it failed, in words
    attempts INTEGER NOT NULL,
    size INTEGER NOT NULL,       -- bytes, of the data set
    recorded_at TEXT NOT NULL,   -- UTC
    transaction_uid TEXT,        -- of the storage commitment that was asked for it
    confirmation TEXT,           -- 'committed', 'verified', or why it is neither
    confirmed_at TEXT,
    UNIQUE (destination, path)
);
CREATE INDEX file_by_instance ON file (destination, sop_instance_uid);
CREATE INDEX file_by_transaction ON file (transaction_uid) WHERE transaction_uid IS NOT NULL;
CREATE VIEW outcome AS
    SELECT ae_title || '@' || host || ':' || port AS peer, file.*
    FROM file JOIN destination ON destination.id = file.destination;
"""
_COLUMNS: Final = (
    *("destination", "path", "file_size", "mtime_ns", "sop_class_uid", "sop_instance_uid", "transfer_syntax", "sent"),
    *("status", "error", "reason", "attempts", "size", "recorded_at"),
)
# A file that was sent and has gone since is still sent: what could not even be looked at replaces nothing.
_RECORD: Final = (
    f"INSERT INTO file ({', '.join(_COLUMNS)}) VALUES {{rows}} ON CONFLICT (destination, path) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS[2:])
    + ", transaction_uid = NULL, confirmation = NULL, confirmed_at = NULL"
    " WHERE excluded.mtime_ns IS NOT NULL OR NOT file.sent"
)
_ROW: Final = f"({', '.join('?' * len(_COLUMNS))})"
_CHECKPOINT: Final = "PRAGMA wal_checkpoint(PASSIVE)"  # writes the log through to the disk first; waits for nobody
_ROWS: Final = 64  # in a statement, which is a transaction: for each a thread gives the others way, and has to get it
_ASKED: Final = 500  # values in a statement, and rows in memory
_BUSY: Final = 10.0  # seconds to wait for somebody else who writes: not a ``send``, then, but an operator
_WAL: Final = 4000  # pages of 4 kB in the log, after which a commit moves them into the database itself


class Sent(NamedTuple):
    """An instance that the destination has taken. ``confirmation``: None, or why it was not confirmed."""

    id: int
    path: str
    sop_class_uid: str
    sop_instance_uid: str
    transaction_uid: str | None
    confirmation: str | None


class Ledger:
    """An open ledger. It may be used from several threads; as a ``with`` block it is closed in the end.

    ``path``: the database; it is made if it is missing. One ``send`` at a time may have it open, others can read it.
    Raises LedgerError from every method if the database fails, or if ``path`` is no ledger.
    """

    def __init__(self, path: Path) -> None:
        self.path = os.fspath(path)
        self._file = os.path.abspath(
            self.path
        )  # else SQLite has meanings of its own for some names, such as ":memory:"
        if not self.path or (os.path.lexists(self._file) and not os.path.isfile(self._file)):
            raise LedgerError(f"{self.path!r}: this is no name of a file that could be a ledger; name another one")
        self._lock = threading.RLock()
        self._reading = threading.Lock()
        with self._failing():
            self._owner = self._own()
            try:
                self._connection = self._connect()
                self._prepare(self._connection)
                self._reader = self._connect()  # so that to ask does not wait for the disk
            except BaseException:
                self._owner.close()
                raise
        self._destinations: dict[Peer, int] = {}
        self._closed = False

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close it; it may be opened elsewhere then. May be called again."""
        with self._lock, self._reading, self._failing(), contextlib.ExitStack() as stack:
            for connection in (self._owner, self._connection, self._reader):
                stack.callback(connection.close)
            if not self._closed:
                self._closed = True
                self._connection.execute(_CHECKPOINT)

    # --- the database -----------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise LedgerError(f"{self.path}: {_said(error)}") from error

    def _own(self) -> sqlite3.Connection:
        """The lock of who writes outcomes: of a database beside it, so that all can read the ledger itself.

        The system gives it up with the process, however that ended.
        """
        connection = sqlite3.connect(f"{self._file}-lock", timeout=0, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            connection.close()
            if "locked" in str(error):
                raise LedgerError(f"{self.path}: another send is using this ledger; wait for it") from error
            raise
        return connection

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._file, timeout=_BUSY, isolation_level=None, check_same_thread=False, cached_statements=_ROWS + 64
        )
        connection.execute(f"PRAGMA wal_autocheckpoint = {_WAL}")
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Make the tables in a new database; of another one, see that it is a ledger."""
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if not (application or version or tables):
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(
                f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA application_id = {_APPLICATION};"
                f" PRAGMA user_version = {VERSION}; COMMIT;"
            )
        elif application != _APPLICATION:
            raise LedgerError(f"{self.path}: this is a database, but not a ledger of dicomnet send; name another file")
        elif version > VERSION:
            raise LedgerError(
                f"{self.path}: a newer dicomnet wrote this ledger (version {version}; this one knows {VERSION})"
            )
        (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
        # Where there can be no log (some network shares), a power cut could damage what is not written through.
        connection.execute(f"PRAGMA synchronous = {'NORMAL' if mode == 'wal' else 'FULL'}")

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._failing():
            connection = self._connection
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # some errors have ended it
                    connection.execute("ROLLBACK")
                raise

    def _destination(self, peer: Peer) -> int:
        """Its number; a new one if there is none."""
        number = self._destinations.get(peer)
        if number is None:
            values = peer.ae_title, peer.host.lower(), peer.port
            with self._transaction() as connection:
                connection.execute("INSERT OR IGNORE INTO destination (ae_title, host, port) VALUES (?, ?, ?)", values)
                (number,) = connection.execute(
                    "SELECT id FROM destination WHERE (ae_title, host, port) = (?, ?, ?)", values
                ).fetchone()
            self._destinations[peer] = number
        return number

    def _ask(self, question: str, values: Sequence[Any]) -> list[Any]:
        with self._reading, self._failing():
            return self._reader.execute(question, values).fetchall()

    # --- outcomes ---------------------------------------------------------------------------------------------------

    def record(self, destination: Peer, outcomes: Sequence[Outcome]) -> None:
        """Outcomes of files; when it returns they survive the end of this process. If it raises, some may be there."""
        number, now = self._destination(destination), _now()
        for first in range(0, len(outcomes), _ROWS):
            some = outcomes[first : first + _ROWS]
            values = [value for outcome in some for value in _row(number, outcome, now)]
            with self._lock, self._failing():
                self._connection.execute(_record(len(some)), values)

    def flush(self) -> None:
        """When it returns, what was recorded survives a power cut too. It waits for the disk."""
        with self._lock, self._failing():
            self._connection.execute(_CHECKPOINT)

    def sent_before(self, destination: Peer, files: Mapping[str, Stamp]) -> dict[str, Outcome]:
        """Of ``files``, absolute paths, those that the destination has, and that are as they were then."""
        number, names = self._destination(destination), [_text(path) for path in files]
        found: dict[str, Outcome] = {}
        for first in range(0, len(names), _ASKED):
            some = names[first : first + _ASKED]
            for path, size, mtime, *values in self._ask(
                "SELECT path, file_size, mtime_ns, status, reason, size, sop_class_uid, sop_instance_uid,"
                f" transfer_syntax FROM file WHERE destination = ? AND sent AND path IN ({', '.join('?' * len(some))})",
                [number, *some],
            ):
                name = os.fsdecode(path)
                if files[name] == (size, mtime):
                    found[name] = _recorded(name, *values)
        return found

    # --- confirmations ----------------------------------------------------------------------------------------------

    def unconfirmed(self, destination: Peer, *, failed: bool = False) -> Iterator[Sent]:
        """What was sent and is not confirmed, in the order in which it was first recorded; few at a time in memory.

        ``failed``: also that of which the answer was that it is not there. Confirm while you iterate if you like.
        """
        open_ones = f"confirmation IS NULL OR confirmation NOT IN {CONFIRMED}" if failed else "confirmation IS NULL"
        return self._instances(f"destination = ? AND sent AND ({open_ones})", self._destination(destination))

    def of_transaction(self, transaction_uid: str) -> Iterator[Sent]:
        """The instances for which that storage commitment was requested."""
        return self._instances("transaction_uid = ?", transaction_uid)

    def _instances(self, which: str, value: Any) -> Iterator[Sent]:
        last = 0
        while rows := self._ask(
            "SELECT id, path, sop_class_uid, sop_instance_uid, transaction_uid, confirmation FROM file"
            f" WHERE {which} AND id > ? ORDER BY id LIMIT {_ASKED}",
            [value, last],
        ):
            for number, path, *others in rows:
                last = number
                yield Sent(number, os.fsdecode(path), *others)

    def ask_commitment(self, destination: Peer, transaction_uid: str, sop_instance_uids: Iterable[str]) -> None:
        """Note that the commitment of these instances is (about to be) requested in this transaction."""
        self._update(
            "UPDATE file SET transaction_uid = ? WHERE destination = ? AND sop_instance_uid = ? AND sent",
            ((transaction_uid, self._destination(destination), uid) for uid in sop_instance_uids),
        )

    def confirm(self, destination: Peer, answers: Mapping[str, str], *, transaction_uid: str | None = None) -> None:
        """Note what the destination says: SOP Instance UID → "committed", "verified", or why it is neither.

        ``transaction_uid``: only of instances that were asked for in that one. Instances that were not sent there stay
        as they are. When it returns it survives the end of this process.
        """
        now, number = _now(), self._destination(destination)
        self._update(
            "UPDATE file SET confirmation = ?, confirmed_at = ?, transaction_uid = coalesce(?, transaction_uid)"
            " WHERE destination = ? AND sop_instance_uid = ? AND sent AND (? IS NULL OR transaction_uid = ?)",
            (
                (answer, now, transaction_uid, number, uid, transaction_uid, transaction_uid)
                for uid, answer in answers.items()
            ),
        )

    def _update(self, statement: str, values: Iterable[tuple[Any, ...]]) -> None:
        with self._transaction() as connection:
            connection.executemany(statement, values)

    def counts(self, destination: Peer) -> dict[str, int]:
        """How many files were ``sent``, ``failed``, and are ``confirmed`` there."""
        ((sent, failed, confirmed),) = self._ask(
            "SELECT total(sent), total(NOT sent), total(sent AND confirmation IN (?, ?)) FROM file"
            " WHERE destination = ?",
            [*CONFIRMED, self._destination(destination)],
        )
        return {"sent": int(sent), "failed": int(failed), "confirmed": int(confirmed)}


@functools.cache  # no more than ``_ROWS``
def _record(rows: int) -> str:
    return _RECORD.format(rows=", ".join([_ROW] * rows))


def _row(destination: int, outcome: Outcome, now: str) -> tuple[Any, ...]:
    """As ``_COLUMNS`` has it."""
    error, status = outcome.error, outcome.status
    size, mtime = outcome.stamp or (None, None)
    return (
        *(destination, _text(os.path.abspath(outcome.path)), size, mtime),
        *(outcome.sop_class_uid or None, outcome.sop_instance_uid or None, outcome.transfer_syntax or None),
        *(outcome.ok, None if status is None else int(status), None if error is None else type(error).__name__),
        *(_text(outcome.reason) or None, outcome.attempts, outcome.size, now),
    )


def _recorded(
    path: str, status: int, reason: str | None, size: int, sop_class: str, sop_instance: str, syntax: str
) -> Outcome:
    """The outcome of a file that was sent before."""
    return Outcome(
        path,
        Status(status),
        size=size,
        comment=(reason or "").partition(": ")[2],
        sop_class_uid=sop_class,
        sop_instance_uid=sop_instance,
        transfer_syntax=syntax,
        recorded=True,
    )


def _text(text: str) -> str | bytes:
    """What SQLite takes: names of files may hold bytes that are no UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return os.fsencode(text)
    return text


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _said(error: sqlite3.Error) -> str:
    """What to do about it."""
    text = str(error)
    if "not a database" in text or "malformed" in text:
        return f"this is not a ledger of dicomnet send ({text}); name another file, or restore it"
    if "full" in text or "I/O" in text:
        return f"the ledger cannot be written ({text}); make room on its disk, and run the same command again"
    if "readonly" in text:
        return f"the ledger may not be written ({text}); whose is it, and its folder?"
    if "unable to open" in text:
        return f"the ledger cannot be opened ({text}); is its folder there, and may you write there?"
    if "locked" in text:
        return f"another program is writing into this ledger ({text}); wait for it"
    return f"the ledger cannot be used: {text}"
