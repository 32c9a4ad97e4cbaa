"""An archive moved to a receiver that keeps it, with a sender that is killed twice half-way.

    python -m benchmarks.archive [--quick] [--peer storescp|pynetdicom|receive] [--folder FOLDER]

20,000 small files and 20 of 500 MB (with ``--quick`` 1,000 and 2 of 50 MB) go by ``dicomnet send --ledger`` to DCMTK's
``storescp``, to pynetdicom, and to ``dicomnet receive``. The sender is ended with SIGKILL when the ledger holds half of
the small files, and again when it holds half of the large ones too; each time the same command is run again. Then:

- each instance has arrived: the receiver has said that it stored it, and there is a file of at least its size;
- none was sent again after its success was recorded: what the ledger held when the sender was dead is compared with
  what the receiver stored after that.

A receiver tells of each C-STORE by a line of its log: storescp's own (``-v``), one of our program on pynetdicom, those
of ``receive``. The large files are sparse: they take no room here, but 500 MB each where they
arrive, which is a folder on disk that is emptied after each receiver.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from struct import pack
from typing import Final

from benchmarks import peers
from benchmarks.measure import note
from benchmarks.processes import MB, Failed, Missing, Process, Program

_RUNS: Final = 3  # two that are killed, and the last one
_LOOK: Final = 0.02  # s between two looks at the ledger, and at memory
_LIMIT: Final = 4 * 3600.0  # s for a run
_QUIET: Final = 1.0  # s without another line, after which a receiver has noticed that its sender is dead
_SMALL: Final = 32 * 1024  # bytes of pixels
_CLASS: Final = "1.2.840.10008.5.1.4.1.1.7"  # Secondary Capture
_ROOT: Final = "1.2.826.0.1.3680043.10.1510."
_STORED: Final = re.compile(
    rb"(?:storing DICOM file: |^stored ).*?(1\.2\.826\.0\.1\.3680043\.10\.1510\.[1-9][0-9]*)(?=\.dcm|$| )", re.M
)


@dataclass(frozen=True, slots=True)
class Size:
    """How many files, and how large the large ones are."""

    small: int
    large: int
    bytes: int

    @property
    def files(self) -> int:
        """All of them."""
        return self.small + self.large


@dataclass(slots=True)
class Row:
    """What came of it. ``again``: instances that were sent again after their success was recorded."""

    peer: str
    seconds: float = 0.0
    sender: int = 0  # bytes, the highest peak of the runs
    receiver: int = 0
    recorded: tuple[int, ...] = ()  # files, when the sender was dead
    stores: int = 0
    arrived: int = 0
    again: int = 0
    problem: str = ""


FULL: Final = Size(20_000, 20, 500 * MB)
QUICK: Final = Size(1_000, 2, 50 * MB)


def main() -> int:
    """Run it, and print the table. The exit code is 1 if an instance is missing or was sent again."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.archive", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--quick", action="store_true", help="1,000 and 2 files instead of 20,000 and 20")
    parser.add_argument("--peer", choices=sorted(_RECEIVERS), action="append", help="not to all receivers")
    parser.add_argument("--folder", type=Path, help="where files are made, and stored: 12 GB, or 1 GB with --quick")
    arguments = parser.parse_args()
    size = QUICK if arguments.quick else FULL
    with tempfile.TemporaryDirectory(prefix="dicomnet-archive-", dir=arguments.folder) as name:
        folder = Path(name)
        note(f"making {size.small} small files and {size.large} of {size.bytes / MB:.0f} MB in {folder}")
        _make(folder / "archive", size)
        rows = [_measure(peer, folder, size) for peer in arguments.peer or _RECEIVERS]
    _print(rows, size)
    return int(any(row.problem or row.again or row.arrived != size.files for row in rows))


# --- files ----------------------------------------------------------------------------------------------------------


def _make(folder: Path, size: Size) -> None:
    """The large ones come last in the order of names, in which they are sent."""
    for number in range(size.small):
        path = folder / f"small-{number // 1000:03}" / f"{number:06}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_head(number, _SMALL) + bytes(_SMALL))
    (folder / "zlarge").mkdir()
    for number in range(size.small, size.files):
        head = _head(number, size.bytes)
        with (folder / "zlarge" / f"{number:06}.dcm").open("wb") as file:
            file.write(head)
            file.truncate(len(head) + size.bytes)  # sparse


def _head(number: int, pixels: int) -> bytes:
    """A Part 10 file up to the value of its pixel data."""
    uid = f"{_ROOT}{number + 1}"
    meta = _element(2, 2, b"UI", _CLASS) + _element(2, 3, b"UI", uid) + _element(2, 0x10, b"UI", "1.2.840.10008.1.2.1")
    meta += _element(2, 0x12, b"UI", _ROOT + "0")
    text = _element(8, 0x16, b"UI", _CLASS) + _element(8, 0x18, b"UI", uid) + _element(8, 0x60, b"CS", "OT")
    text += _element(0x10, 0x10, b"PN", "ARCHIVE^SYNTHETIC") + _element(0x10, 0x20, b"LO", f"P{number // 100}")
    text += _element(0x20, 0x0D, b"UI", f"{_ROOT}0.{number // 100 + 1}")
    text += _element(0x20, 0x0E, b"UI", f"{_ROOT}0.{number // 100 + 1}.1")
    head = (
        bytes(128) + b"DICM" + _element(2, 0, b"UL", pack("<I", len(meta) + 14)) + b"\2\0\1\0OB\0\0\2\0\0\0\0\1" + meta
    )
    return head + text + pack("<HH2sHI", 0x7FE0, 0x10, b"OB", 0, pixels)


def _element(group: int, number: int, vr: bytes, value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    data += (b"\0" if vr == b"UI" else b" ") * (len(data) % 2)
    return pack("<HH2sH", group, number, vr, len(data)) + data


# --- receivers ------------------------------------------------------------------------------------------------------


def _storescp() -> Program:
    return peers.dcmtk_storescp("-v", tuned=True)


def _pynetdicom() -> Program:
    return peers.pynetdicom_end("keep", "{folder}")


def _receive() -> Program:
    where = ("{folder}", "--host", "127.0.0.1", "--port", "0", "--ae", peers.AE_TITLE)
    return replace(peers.dicomnet("receive", *where), ends_at_eof=False)


_RECEIVERS: Final = {"storescp": _storescp, "pynetdicom": _pynetdicom, "receive": _receive}


class _Log:
    """What a receiver has said that it stored."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def stored(self) -> list[str]:
        """The instances, in the order of the C-STOREs."""
        return [uid.decode() for uid in _STORED.findall(self._path.read_bytes())]

    def settle(self) -> int:
        """Wait until nothing more comes; how many there are."""
        size, since = -1, time.monotonic()
        while time.monotonic() - since < _QUIET:
            now = self._path.stat().st_size
            if now != size:
                size, since = now, time.monotonic()
            time.sleep(_LOOK)
        return len(self.stored())


# --- the sender -----------------------------------------------------------------------------------------------------


def _measure(name: str, folder: Path, size: Size) -> Row:
    row, inbox, ledger = Row(name), folder / "inbox", folder / f"{name}.ledger"
    inbox.mkdir()
    log = folder / f"{name}.log"
    try:
        with Process.listening(_RECEIVERS[name](), log, folder=inbox) as receiver:
            _send(row, receiver, _Log(log), folder, ledger, size)
            row.receiver = receiver.peak
        row.arrived = len(_arrived(inbox, _Log(log), size))
    except (Missing, Failed) as error:
        row.problem = str(error)
    finally:
        shutil.rmtree(inbox)
    return row


def _send(row: Row, receiver: Process, log: _Log, folder: Path, ledger: Path, size: Size) -> None:
    """Three runs; what is recorded when one has been killed may not be stored again."""
    stops = (size.small // 2, size.small + size.large // 2, None)
    known: set[str] = set()
    before = 0
    for number, stop in enumerate(stops, 1):
        note(f"{row.peer}: run {number} of {_RUNS}")
        _run(row, receiver, folder / "archive", ledger, folder / f"{row.peer}-{number}.log", stop)
        after = log.settle()
        row.again += sum(uid in known for uid in log.stored()[before:])
        before, known = after, set(_recorded(ledger))
        row.recorded = (*row.recorded, len(known))
    row.stores = before


def _run(row: Row, receiver: Process, archive: Path, ledger: Path, log: Path, stop: int | None) -> None:
    """Send until ``stop`` files are recorded, or to the end."""
    peer = f"{peers.AE_TITLE}@127.0.0.1:{receiver.port}"
    started = time.perf_counter()
    with Process(peers.dicomnet("send", peer, str(archive), "--ledger", str(ledger), "--quiet"), log) as sender:
        if stop is None:
            usage = sender.finish(_LIMIT, beside=[receiver])
            row.sender = max(row.sender, usage.peak)
        else:
            while _count(ledger) < stop:
                if sender.has_ended or time.perf_counter() - started > _LIMIT:
                    raise Failed(f"it was not killed: {sender.last_words()}")
                row.sender, _ = max(row.sender, sender.peak), receiver.peak
                time.sleep(_LOOK)
            sender.kill()
        row.seconds += time.perf_counter() - started


def _ask(ledger: Path, question: str) -> list[tuple[str]]:
    """Nothing if there is no ledger yet."""
    if not ledger.exists():
        return []
    with contextlib.closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as connection:
        try:
            return connection.execute(question).fetchall()
        except sqlite3.OperationalError:  # it is being made
            return []


def _count(ledger: Path) -> int:
    return sum(int(count) for (count,) in _ask(ledger, "SELECT count(*) FROM file WHERE sent"))


def _recorded(ledger: Path) -> Iterator[str]:
    return (uid for (uid,) in _ask(ledger, "SELECT sop_instance_uid FROM file WHERE sent"))


def _arrived(inbox: Path, log: _Log, size: Size) -> set[str]:
    """Instances that were stored and lie there, whole."""
    there: Counter[str] = Counter()
    for path in inbox.rglob("*"):
        uid = path.name[path.name.find(_ROOT) :].removesuffix(".dcm")
        if path.is_file() and uid.startswith(_ROOT):
            there[uid] = max(there[uid], path.stat().st_size)
    found = set()
    for uid in set(log.stored()):
        number = int(uid.rpartition(".")[2]) - 1
        if there[uid] >= (_SMALL if number < size.small else size.bytes):
            found.add(uid)
    return found


# --- the table ------------------------------------------------------------------------------------------------------


def _print(rows: list[Row], size: Size) -> None:
    total = (size.small * _SMALL + size.large * size.bytes) / MB
    print(f"\n{size.small} files of {_SMALL // 1024} KiB and {size.large} of {size.bytes / MB:.0f} MB: {total:.0f} MB")
    print("| to | time, s | files/s | MB/s | peak RSS of the sender, MB | of the receiver, MB | recorded at the kills |"
          " C-STOREs | arrived | sent again |")  # fmt: skip
    print("|---|--:|--:|--:|--:|--:|---|--:|--:|--:|")
    for row in rows:
        if row.problem:
            print(f"| {row.peer} | {row.problem} |")
            continue
        rates = f"{size.files / row.seconds:.0f} | {total / row.seconds:.0f}"
        kills = ", ".join(map(str, row.recorded[:-1]))
        memory = f"{row.sender / MB:.0f} | {row.receiver / MB:.0f}"
        counts = f"{kills} | {row.stores} | {row.arrived} of {size.files} | {row.again}"
        print(f"| {row.peer} | {row.seconds:.1f} | {rates} | {memory} | {counts} |")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the folder is removed then, too
    sys.exit(main())
