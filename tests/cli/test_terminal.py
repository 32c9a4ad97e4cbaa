"""The commands on a terminal: what the screen shows, keys and signals, narrow windows, no colour, other locales."""

import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Scp
from tests.cli.programs import COMMAND, file

pytest.importorskip("fcntl", reason="there are no ptys here")

from tests.cli.terminal import Terminal

Serve = Callable[..., Scp]


def run(*arguments: Any, **options: Any) -> Terminal:
    return Terminal([*COMMAND, *arguments], **options)


def test_an_answer_is_a_line_on_the_screen(serve: Serve) -> None:
    scp = serve()
    with run("echo", scp.peer) as terminal:
        assert terminal.wait() == 0
    assert terminal.visible.startswith(f"{scp.peer}: success in ")


def test_ctrl_c_is_taken_once_and_the_association_released(serve: Serve) -> None:
    """PS3.8 7.2"""
    scp = serve()
    with run("echo", scp.peer, "--repeat", 1_000_000) as terminal:
        terminal.wait_for("success in")
        terminal.press("ctrl-c")
        assert terminal.wait() == 130
    assert "\ninterrupted; releasing (again: at once)" in terminal.screen
    assert "sent, 0 failed" in terminal.screen
    assert scp.ended().error is None


def _held(scp: Scp, after: int) -> threading.Event:
    """The peer answers no more after so many instances, until the event is set."""
    go_on = threading.Event()
    scp.answer = lambda request: int(len(scp.received) >= after and not go_on.wait(30))
    return go_on


def test_sending_shows_a_bar_and_leaves_the_summary(serve: Serve, tmp_path: Path) -> None:
    scp = serve()
    go_on = _held(scp, after=5)
    for number in range(10):
        file(tmp_path, number)
    with run("send", scp.peer, tmp_path, "--associations", 1) as terminal:
        terminal.wait_for(r"sending .* of 10 files")
        assert terminal.cursor_is_hidden
        go_on.set()
        assert terminal.wait() == 0
        assert not terminal.cursor_is_hidden
    assert terminal.visible.startswith("10 sent (")
    assert "sending" not in terminal.visible, "the bar is gone"


def test_failures_do_not_flood_a_terminal(serve: Serve, tmp_path: Path) -> None:
    """A few of each reason have a line, and the summary counts all."""
    scp = serve()
    scp.answer = lambda request: 0xC123
    for number in range(30):
        file(tmp_path, number)
    with run("send", scp.peer, tmp_path, columns=300) as terminal:
        assert terminal.wait() == 1
    assert terminal.screen.count("dcm: error: cannot understand") == 10
    assert "\nfurther ones that fail for this reason are counted, not shown" in terminal.screen
    assert "\n30 failed: error: cannot understand" in terminal.screen


def test_ctrl_c_ends_sending_after_the_files_under_way(serve: Serve, tmp_path: Path) -> None:
    scp = serve()
    go_on = _held(scp, after=5)
    for number in range(200):
        file(tmp_path, number)
    with run("send", scp.peer, tmp_path, "--associations", 1) as terminal:
        terminal.wait_for("of 200 files")
        terminal.press("ctrl-c")
        terminal.wait_for("ending after the files under way")
        go_on.set()
        assert terminal.wait() == 130
        assert not terminal.cursor_is_hidden
    assert "interrupted: the rest was not sent" in terminal.screen.replace("\n", "")
    assert len(scp.received) < 200


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_receiving_tells_where_it_listens_and_ends_in_order(tmp_path: Path, how: signal.Signals) -> None:
    with run("receive", tmp_path / "in", "--port", 0) as terminal:
        terminal.wait_for(r"listening as DICOMNET@127\.0\.0\.1:\d+")
        terminal.signal(how)
        assert terminal.wait() == 0
    assert "0 stored" in terminal.screen
    assert "Traceback" not in terminal.screen


def test_the_demo_fits_into_a_narrow_window() -> None:
    with run("demo", columns=40) as terminal:
        assert terminal.wait() == 0
    assert len(terminal.screen.splitlines()) > 20
    assert terminal.colours - {"default"}


def test_a_narrow_window_keeps_the_bar_on_one_line(serve: Serve, tmp_path: Path) -> None:
    scp = serve()
    go_on = _held(scp, after=1)
    for number in range(10):
        file(tmp_path, number)
    with run("send", scp.peer, tmp_path, "--associations", 1, columns=40) as terminal:
        terminal.wait_for("sending")
        go_on.set()
        assert terminal.wait() == 0
    assert "".join(terminal.visible.splitlines()).startswith("10 sent (")


def test_the_help_fits_into_a_narrow_window() -> None:
    with run("send", "--help", columns=40) as terminal:
        assert terminal.wait() == 0
    text = terminal.raw.decode().splitlines()
    assert max(len(line) for line in text if "  dicomnet" not in line) <= 40


def test_no_color_is_obeyed() -> None:
    """https://no-color.org"""
    with run("demo", environment={"NO_COLOR": "1"}) as terminal:
        assert terminal.wait() == 0
    assert terminal.colours == {"default"}


@pytest.mark.parametrize("arguments", [["demo"], ["--help"]])
def test_a_terminal_that_is_not_utf_8_gets_what_it_can_show(arguments: list[str]) -> None:
    with run(*arguments, locale="C") as terminal:
        assert terminal.wait() == 0
    assert terminal.raw.isascii()
    assert "Traceback" not in terminal.screen


def test_a_file_name_commands_no_terminal(serve: Serve, tmp_path: Path) -> None:
    scp = serve()
    hostile = tmp_path / "\x1b[2J\x1b[31mred.dcm"
    hostile.write_bytes(file(tmp_path / "made").read_bytes())
    scp.answer = lambda request: 0xA900
    with run("send", scp.peer, hostile) as terminal:
        assert terminal.wait() == 1
    assert r"\x1b[2J\x1b[31mred.dcm" in terminal.screen.replace("\n", "")
    assert "red" not in terminal.colours
