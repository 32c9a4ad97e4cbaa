"""What worker processes share: counts that each of them may add to, and who is associated with whom."""

from __future__ import annotations

import hashlib
import threading
from array import array
from collections.abc import Sequence
from typing import Any, Final

from dicomnet.admission import Tally
from dicomnet.config import Limits

_DOWN: Final = 1 << 63  # connections of a worker that does not run: more than anybody has
_MOST_SLOTS: Final = 1 << 16  # associations that one worker can note: 1 MiB
_CONNECTIONS, _ASSOCIATIONS, _KEYS = 0, 1, 2  # words of a row
_PATIENCE: Final = 5  # times in a row that a connection is left to another worker

_number = 0  # which worker this process is; 0: none


def become_worker(number: int) -> None:
    """This process is the worker of that number, from 0."""
    global _number
    _number = number + 1


def _shared(words: int) -> Any:
    """So many 64-bit words, zero, that forked and spawned processes share; an argument of multiprocessing's Process."""
    from ctypes import c_uint64
    from multiprocessing.sharedctypes import RawArray

    return RawArray(c_uint64, words)


class SharedCounters:
    """Named counts that all workers add to: each has a row of its own, so that none waits for another.

    ``workers``: how many there will be. What a worker has counted stays when it dies.
    """

    def __init__(self, workers: int, *names: str) -> None:
        self._columns = {name: column for column, name in enumerate(names)}
        words = (workers + 1) * len(names)  # a row for each worker, the first for a process that is none
        self._words: Any = _shared(words) if workers > 1 else array("Q", bytes(8 * words))
        self._lock = threading.Lock()

    def add(self, **amounts: int) -> None:
        """Count: ``add(stored=1)``. From any thread. Raises KeyError for a name that was not declared."""
        start = _number * len(self._columns)
        with self._lock:
            for name, amount in amounts.items():
                self._words[start + self._columns[name]] += amount

    def columns(self, first: str, second: str) -> tuple[int, int]:
        """For ``add_two``. Raises KeyError for a name that was not declared."""
        return self._columns[first], self._columns[second]

    def add_two(self, columns: tuple[int, int], first: int, second: int) -> None:
        """As ``add``, for what is counted some thousand times a second."""
        start = _number * len(self._columns)
        words = self._words
        with self._lock:
            words[start + columns[0]] += first
            words[start + columns[1]] += second

    def totals(self) -> dict[str, int]:
        """What all processes have counted so far."""
        step = len(self._columns)
        return {name: sum(self._words[column::step]) for name, column in self._columns.items()}

    def __getstate__(self) -> tuple[dict[str, int], Any]:
        return self._columns, self._words

    def __setstate__(self, state: tuple[dict[str, int], Any]) -> None:
        self._columns, self._words = state
        self._lock = threading.Lock()


class Board:
    """What the workers know of each other: a row each with its connections, its associations, and two keys for each
    of those, so that the limits hold for all together."""

    def __init__(self, workers: int, limits: Limits) -> None:
        self._slots = min(limits.associations, _MOST_SLOTS)
        self._columns = _KEYS + 2 * self._slots
        self._words = _shared(workers * self._columns)
        for number in range(workers):
            self.down(number)

    @property
    def associations(self) -> int:
        """Of all workers."""
        return sum(self._words[_ASSOCIATIONS :: self._columns])

    def down(self, number: int) -> None:
        """The worker is no more, and has nothing."""
        start = number * self._columns
        self._words[start + _ASSOCIATIONS] = 0
        self._words[start + _CONNECTIONS] = _DOWN

    def tally(self, number: int) -> SharedTally:
        """For the worker of that number, which starts with nothing."""
        words = memoryview(self._words).cast("B").cast("Q")
        rows = [words[start : start + self._columns] for start in range(0, len(words), self._columns)]
        return SharedTally(rows.pop(number), rows)


class SharedTally(Tally):
    """As ``Tally``, for all workers together; connections that are not yet associations are each worker's own.

    Only its own process writes a row, and a word is written at once: there is no lock between processes, and a worker
    that dies at any point leaves nothing locked.
    """

    def __init__(self, own: memoryview, others: Sequence[memoryview]) -> None:
        super().__init__()
        self._own = own
        self._others = others
        self._rows = [own, *others]
        self._slots = (len(own) - _KEYS) // 2
        self._deferred = 0
        own[_CONNECTIONS] = own[_ASSOCIATIONS] = 0

    @property
    def associations(self) -> int:
        return sum(row[_ASSOCIATIONS] for row in self._rows)

    @property
    def pending(self) -> int:
        return self._own[_CONNECTIONS] - self._own[_ASSOCIATIONS]

    def connect(self) -> None:
        self._own[_CONNECTIONS] += 1

    def disconnect(self) -> None:
        self._own[_CONNECTIONS] -= 1

    def admit(self, ae_title: str, address: str, limits: Limits) -> bool:
        own, count = self._own, self._own[_ASSOCIATIONS]
        if count >= self._slots:
            return False
        keys = _key(ae_title), _key(address)
        own[_KEYS + 2 * count], own[_KEYS + 2 * count + 1] = keys
        own[_ASSOCIATIONS] = count + 1
        # Counted after it was noted: if two workers fill the last place at once, neither gets it rather than both.
        if (
            sum(row[_ASSOCIATIONS] for row in self._rows) <= limits.associations
            and self._count(0, keys[0]) <= limits.associations_per_ae_title
            and self._count(1, keys[1]) <= limits.associations_per_address
        ):
            return True
        own[_ASSOCIATIONS] = count
        return False

    def _count(self, column: int, key: int) -> int:
        return sum(
            row[_KEYS + column : _KEYS + 2 * row[_ASSOCIATIONS] : 2].tolist().count(key)
            for row in self._rows
            if row[_ASSOCIATIONS]
        )

    def dismiss(self, ae_title: str, address: str) -> None:
        own, last = self._own, self._own[_ASSOCIATIONS] - 1
        keys = _key(ae_title), _key(address)
        place = next(
            at for at in range(_KEYS, _KEYS + 2 * last + 2, 2) if (own[at], own[at + 1]) == keys
        )  # the last one takes its place
        own[place], own[place + 1] = own[_KEYS + 2 * last], own[_KEYS + 2 * last + 1]
        own[_ASSOCIATIONS] = last

    def defer(self) -> bool:
        """True while another worker has clearly less to do, a few times in a row at most: it may have no time.

        "Clearly" is one connection while there are few, and a quarter when there are many: then it is the rate that
        counts, and the connections come and go.
        """
        least = min((row[_CONNECTIONS] for row in self._others), default=_DOWN)
        if self._own[_CONNECTIONS] > least + least // 4 and self._deferred < _PATIENCE:
            self._deferred += 1
            return True
        self._deferred = 0
        return False


def _key(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
