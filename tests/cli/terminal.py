"""Programs as people run them: on a terminal of a given size, by keys and signals, judged by what the screen shows.

One idea: the terminal is real (a pty that the program is in charge of, so that Ctrl-C is a SIGINT), and what the
program writes is drawn by a terminal emulator (pyte). So a test reads the screen, not control sequences::

    with Terminal([*COMMAND, "receive", folder, "--port", "0"], columns=40) as terminal:
        terminal.wait_for("listening as")
        terminal.press("ctrl-c")
        assert terminal.wait() == 0
        assert "0 stored" in terminal.screen

Every wait has a deadline; one that passes fails the test and shows the screen.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

import pyte

# A session of its own is started by subprocess; this makes the pty its controlling terminal, then runs the program. (A
# preexec_fn would do, but not in a process with threads.)
_TAKE_OVER = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execvp(sys.argv[1], sys.argv[1:])"
)
_PATIENCE = 30.0  # seconds, on a busy machine
_HISTORY = 10_000  # lines that have left the screen
_AT_ONCE = 65536  # bytes
# What would say something else about the terminal than what the test says.
_NOT_INHERITED = {
    "NO_COLOR",
    "FORCE_COLOR",
    "CLICOLOR",
    "CLICOLOR_FORCE",
    "COLORTERM",
    "COLUMNS",
    "LINES",
    "TTY_COMPATIBLE",
}
_KEYS = {
    **{f"ctrl-{chr(96 + number)}": bytes([number]) for number in range(1, 27)},
    "ctrl-\\": b"\x1c",
    "enter": b"\r",
    "tab": b"\t",
    "escape": b"\x1b",
    "backspace": b"\x7f",
    "space": b" ",
    "up": b"\x1b[A",
    "down": b"\x1b[B",
    "right": b"\x1b[C",
    "left": b"\x1b[D",
}


class Terminal:
    """A program on a terminal; as a ``with`` block, at whose end the program is gone.

    ``columns``, ``lines``: the size. ``environment``: variables beside, or instead of, those of this process; None as
    value removes one. ``locale``: ``C`` is a terminal that is not UTF-8. ``folder``: where it runs.
    """

    def __init__(
        self,
        arguments: Sequence[Any],
        *,
        columns: int = 80,
        lines: int = 24,
        environment: Mapping[str, str | None] | None = None,
        locale: str = "C.UTF-8",
        folder: Any = None,
        patience: float = _PATIENCE,
    ) -> None:
        self._patience = patience
        self.raw = b""  # all that came, as it came
        self._screen = pyte.HistoryScreen(columns, lines, history=_HISTORY, ratio=0.5)
        self._stream = pyte.ByteStream(self._screen)
        self._master, slave = os.openpty()
        self.resize(columns, lines, tell=False)
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _TAKE_OVER, *map(str, arguments)],
                stdin=slave,
                stdout=slave,
                stderr=slave,
                env=_environment(locale, environment or {}),
                cwd=folder,
                start_new_session=True,
            )
        except BaseException:
            os.close(self._master)
            raise
        finally:
            os.close(slave)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)  # with its own children
        self.process.wait()
        os.close(self._master)

    # --- what the screen shows --------------------------------------------------------------------------------------

    @property
    def visible(self) -> str:
        """What stands on the screen now, without blanks at the ends of lines and without empty lines at the end."""
        return "\n".join(line.rstrip() for line in self._screen.display).rstrip()

    @property
    def screen(self) -> str:
        """The same below all that has been scrolled away."""
        columns = range(self._screen.columns)
        above = ["".join(line[x].data for x in columns).rstrip() for line in self._screen.history.top]
        return "\n".join([*above, self.visible])

    @property
    def rows(self) -> list[list[Any]]:
        """The cells of what is visible: pyte's, with ``data``, ``fg``, ``bg``, ``bold``, ``reverse``."""
        columns = range(self._screen.columns)
        return [[self._screen.buffer[y][x] for x in columns] for y in range(self._screen.lines)]

    @property
    def colours(self) -> set[str]:
        """The colours that all that was drawn is written in; ``default`` is none."""
        lines = [*self._screen.history.top, *self._screen.buffer.values()]
        return {cell.fg for line in lines for cell in line.values() if cell.data.strip()}

    @property
    def cursor_is_hidden(self) -> bool:
        return bool(self._screen.cursor.hidden)

    # --- what somebody does who sits there --------------------------------------------------------------------------

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def press(self, *keys: str) -> None:
        """Keys by name: ``enter``, ``tab``, ``ctrl-c``, ``up`` …, or a character."""
        for key in keys:
            os.write(self._master, _KEYS.get(key) or key.encode())

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def resize(self, columns: int, lines: int, *, tell: bool = True) -> None:
        """Another size of the window; the program gets a SIGWINCH."""
        import fcntl
        import termios

        self._screen.resize(lines, columns)
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        if tell:
            self.signal(signal.SIGWINCH)

    # --- waiting ----------------------------------------------------------------------------------------------------

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Until the screen, or what has been scrolled away, has something that this regular expression matches."""
        found: list[re.Match[str]] = []

        def look() -> bool:
            match = re.search(pattern, self.screen)
            found.extend([match] if match else [])
            return match is not None

        if not self._read_until(look):
            raise AssertionError(f"it ended without {pattern!r}; the screen:\n{self.screen}")
        return found[0]

    def wait(self) -> int:
        """Until the program has ended and all that it wrote is drawn: its exit code."""
        self._read_until(lambda: False)
        return self.process.wait(self._patience)

    def _read_until(self, done: Callable[[], bool]) -> bool:
        """Draw what comes; False if the program closed the terminal first."""
        until = time.monotonic() + self._patience
        while not done():
            if not select.select([self._master], [], [], max(0.0, until - time.monotonic()))[0]:
                raise AssertionError(f"nothing more came in {self._patience:g} s; the screen:\n{self.screen}")
            try:
                data = os.read(self._master, _AT_ONCE)
            except OSError:  # Linux: EIO when nobody has the other side open any longer
                data = b""
            if not data:
                return False
            self.raw += data
            self._stream.feed(data)
        return True


def _environment(locale: str, changes: Mapping[str, str | None]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}
    if not locale.endswith("UTF-8"):
        kept |= {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}  # Python would rather have UTF-8
    merged = {**kept, "TERM": "xterm-256color", "LC_ALL": locale, **changes}
    return {name: value for name, value in merged.items() if value is not None}
