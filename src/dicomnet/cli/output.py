"""What commands print: lines for people, or one JSON object a line for programs."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any, Final, TextIO

from dicomnet.plain import printable as printable, size_text as size_text  # the commands' and the library's

_ERASE: Final = "\r\x1b[K"  # the line on which the cursor stands
_status: str | None = None  # what stands below all that is printed, on a terminal


def show_status(text: str | None) -> None:
    """A last line of the terminal, on stderr, that stays below what is printed; None: no more."""
    global _status
    if text is None and _status is None:
        return
    _status = text
    with contextlib.suppress(OSError, ValueError):  # closed: nobody looks at it
        sys.stderr.write(_ERASE + (text or ""))
        sys.stderr.flush()


def _above_status(text: str) -> str:
    """A line as it has to be written, with its end."""
    return f"{text}\n" if _status is None else f"{_ERASE}{text}\n{_status}"


class Output:
    """Lines on stdout, each at once, from any thread. A reader that went away does not stop the work."""

    def __init__(self, *, json: bool, quiet: bool) -> None:
        self.json = json
        self.quiet = quiet
        self._lock = threading.Lock()
        self._gone = False

    def event(self, kind: str, text: str = "", /, **fields: Any) -> None:
        """Something happened: ``text`` for people (none: not worth a line), ``fields`` for programs."""
        if self.json:
            self._write(_encoder()({"event": kind, **fields}))
        elif text:
            self._write(printable(text))

    def detail(self, kind: str, text: str, /, **fields: Any) -> None:
        """The same for what people do not see with ``--quiet``."""
        self.event(kind, "" if self.quiet else text, **fields)

    def lines(self, lines: Iterable[str]) -> None:
        """A page for people, with its empty lines."""
        for line in lines:
            self._write(printable(line))

    def line(self, text: str) -> None:
        """A line as it is: ``text`` has been made printable, but for tabs and the like."""
        self._write(text)

    @property
    def gone(self) -> bool:
        """Whether nobody reads any more."""
        return self._gone

    def problem(self, text: str) -> None:
        """One line on stderr."""
        with self._lock:
            print(_above_status(printable(text)), end="", file=sys.stderr, flush=True)

    def _write(self, line: str) -> None:
        with self._lock:
            if self._gone:
                return
            try:
                _print(line, sys.stdout)
            except BrokenPipeError:
                self._gone = True
                _forget(sys.stdout)


@functools.lru_cache(maxsize=1)
def _encoder() -> Callable[[Any], str]:
    """What makes lines of JSON; ``json.dumps`` would make one for each line."""
    import json

    return json.JSONEncoder(default=str).encode


def _print(line: str, stream: TextIO) -> None:
    above = _above_status if _status is not None and stream.isatty() else "{}\n".format
    try:
        stream.write(above(line))
    except UnicodeEncodeError:  # a terminal or locale that is not UTF-8
        stream.write(above(line.encode("ascii", "backslashreplace").decode()))
    stream.flush()


def _forget(stream: TextIO) -> None:
    """Nothing that is still buffered can fail again when the interpreter ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def writable(path: str) -> None:
    """Raises OSError if a file cannot be written; leaves none behind. What takes long asks this first."""
    existed = os.path.exists(path)
    with open(path, "a", encoding="utf-8"):
        pass
    if not existed:
        os.unlink(path)


def log_to_stderr(verbose: int, quiet: bool) -> None:
    """The library's log lines: warnings; with ``-v`` what happens, with ``-vv`` all, with ``-q`` errors alone."""
    import logging

    class Handler(logging.Handler):
        """Looks up stderr for each line: a progress bar puts another one in its place."""

        def emit(self, record: logging.LogRecord) -> None:
            text = printable(record.getMessage())
            if record.exc_info and verbose > 1:
                text += "\n" + logging.Formatter().formatException(record.exc_info)
            with contextlib.suppress(OSError, ValueError):  # closed: there is nobody left to tell
                print(_above_status(text), end="", file=sys.stderr, flush=True)

    level = logging.ERROR if quiet else (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    logging.captureWarnings(True)  # pydicom warns about many a file: of interest to who asks for more
    for name, least in (("dicomnet", level), ("py.warnings", logging.WARNING if verbose else logging.ERROR)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [Handler()], False
        logger.setLevel(least)
