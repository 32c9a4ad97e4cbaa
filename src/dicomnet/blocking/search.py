"""What a handler yields, as it comes: a generator cannot be asked whether it would take long."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import Any, Final

BATCH: Final = 64  # results that are sent together, unless finding them takes longer than
_BATCH_TIME: Final = 0.005  # seconds


class Search:
    """Iterates over ``results`` in one thread for another one, which waits no longer than it must: they take turns."""

    def __init__(self, results: Iterable[Any]) -> None:
        self._results = results
        self._changed = threading.Condition()
        self._found: list[Any] = []
        self._wanted = False  # else the one who searches waits
        self._stopped = False
        self._ended = False
        self._error: BaseException | None = None

    def run(self) -> None:
        """In the thread that searches: to the end, or until it is stopped. Closes the iterator."""
        try:
            iterator = iter(self._results)
            try:
                while self._is_wanted() and self._find(iterator):
                    pass
            finally:
                if (close := getattr(iterator, "close", None)) is not None:
                    close()
        except BaseException as error:  # the user's code: anything; it is raised where the search is waited for
            self._error = error
        with self._changed:
            self._ended = True
            self._changed.notify()

    def _is_wanted(self) -> bool:
        with self._changed:
            while not (self._wanted or self._stopped):
                self._changed.wait()
            return not self._stopped

    def _find(self, iterator: Iterator[Any]) -> bool:
        """Find one batch; False at the end."""
        for item in iterator:
            with self._changed:
                self._found.append(item)
                if not self._wanted or len(self._found) >= BATCH:
                    self._wanted = False
                    self._changed.notify()
                    return True
                if len(self._found) == 1:
                    self._changed.notify()
        return False

    def take(self) -> list[Any]:
        """What has been found, as soon as there is something; nothing at the end. Raises what the iterator raised."""
        with self._changed:
            self._wanted = True
            self._changed.notify()
            while not (self._found or self._ended):
                self._changed.wait()
            if self._wanted and not self._ended:
                self._changed.wait_for(lambda: self._ended or not self._wanted, _BATCH_TIME)
            found, self._found, self._wanted = self._found, [], False
        if not found:
            self._raise()
        return found

    def stop(self) -> None:
        """Wait until it has ended. Raises what the iterator raised when it was closed."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
            while not self._ended:
                self._changed.wait()
        self._raise()

    def _raise(self) -> None:
        """What went wrong, once."""
        error, self._error = self._error, None
        if error is not None:
            raise error
