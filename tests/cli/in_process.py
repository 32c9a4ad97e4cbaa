"""Commands in this process where one sees what they print while they run: through a pipe, or drawn by a terminal.

One idea: a program of its own takes a second to start, and what is looked at is the same without: a handler of the
server, on its own thread, reads the command's lines, presses Ctrl-C, and goes on.
"""

from __future__ import annotations

import io
import os
import select
import signal
import sys
import threading
from typing import Any

import pyte
import pytest

from dicomnet.cli.program import run
from tests.cli.conftest import Done

_PATIENCE = 30.0  # seconds, on a busy machine


def press_ctrl_c() -> None:
    """As the terminal would, on any thread."""
    main = threading.main_thread().ident
    assert main is not None
    signal.pthread_kill(main, signal.SIGINT)


class Piped:
    """Runs a command whose stdout is a pipe; ``line`` may be called meanwhile. What is printed has to fit into it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capfd = capfd
        self._reader, self._writer = os.pipe()
        self._read = b""

    def line(self) -> str:
        """The next line, as soon as it has been written."""
        while b"\n" not in self._read:
            assert select.select([self._reader], [], [], _PATIENCE)[0], "nothing was printed"
            piece = os.read(self._reader, 65536)
            assert piece, "it has ended"
            self._read += piece
        line, _, self._read = self._read.partition(b"\n")
        return line.decode()

    def hang_up(self) -> None:
        """As ``head`` does when it has enough."""
        os.close(self._reader)
        self._reader = -1

    def __call__(self, *arguments: Any) -> Done:
        self._capfd.readouterr()
        with self._monkeypatch.context() as patch, open(self._writer, "w", encoding="utf-8") as stdout:
            patch.setattr(sys, "stdout", stdout)
            code = run([str(argument) for argument in arguments])
        rest = b""
        if self._reader >= 0:
            with open(self._reader, "rb") as reader:
                rest = reader.read()
        return Done(code, (self._read + rest).decode(), self._capfd.readouterr().err, str(arguments[0]))


def _text(descriptor: int, encoding: str, errors: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(os.fdopen(descriptor, "wb", buffering=0), encoding, errors, write_through=True)


class Drawn(Done):
    """A command that ended: ``out`` is what stands on the screen and above it, ``raw`` what was written."""

    raw: bytes = b""


def drawn(monkeypatch: pytest.MonkeyPatch, *arguments: Any, columns: int = 80, encoding: str = "utf-8") -> Drawn:
    """Run a command on a terminal of this size."""
    master, slave = os.openpty()
    screen = pyte.HistoryScreen(columns, 50, history=1000, ratio=0.5)
    pieces: list[bytes] = []

    def read() -> None:
        while True:
            try:
                piece = os.read(master, 65536)
            except OSError:  # Linux: EIO when nobody has the other side open any longer
                return
            if not piece:
                return
            pieces.append(piece)

    reader = threading.Thread(target=read)
    with monkeypatch.context() as patch:
        for name, value in (("COLUMNS", str(columns)), ("LINES", "50"), ("TERM", "xterm-256color")):
            patch.setenv(name, value)
        # As Python opens them.
        with _text(slave, encoding, "strict") as stdout, _text(os.dup(slave), encoding, "backslashreplace") as stderr:
            patch.setattr(sys, "stdout", stdout)
            patch.setattr(sys, "stderr", stderr)
            reader.start()
            code = run([str(argument) for argument in arguments])
    reader.join(_PATIENCE)
    os.close(master)
    raw = b"".join(pieces)
    pyte.ByteStream(screen).feed(raw)
    above = ["".join(line[x].data for x in range(columns)).rstrip() for line in screen.history.top]
    done = Drawn(code, "\n".join([*above, *(line.rstrip() for line in screen.display)]).rstrip(), "")
    done.raw = raw
    return done
