"""Commands for studies: what a peer sent is an argument's part at most, and nothing runs for ever."""

from __future__ import annotations

import json
import os
import queue
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from dicomnet.inbox.commands import CommandLine, Ran, Runner, environment
from dicomnet.inbox.studies import Study
from tests.inbox.test_layout import HOSTILE

PYTHON = shlex.quote(sys.executable)
values = st.sampled_from([*HOSTILE, "--delete", "-rf /", "$(reboot)", "a b", '"; reboot', "{folder}"]) | st.text()


def study(number: int = 1, count: int = 1, patient_id: str = "P") -> Study:
    return Study(f"1.2.{number}", f"P/1.2.{number}", patient_id, "CT1", count, 100 * count)


def script(code: str, *arguments: str) -> CommandLine:
    return CommandLine(f"{PYTHON} -c {shlex.quote(code)} {' '.join(arguments)}")


class Told(queue.SimpleQueue[Ran]):
    def all(self) -> list[Ran]:
        return [self.get_nowait() for _ in range(self.qsize())]


def runner(command: CommandLine, folder: Path, told: Told, **options: Any) -> Runner:
    return Runner(command, str(folder), tell=told.put, **({"jobs": 2, "limit": 60.0} | options))


def test_a_command_gets_arguments_and_environment(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("DICOMNET_PASSCODE", "secret")
    code = "import json, os, sys; print(json.dumps([sys.argv[1:], dict(os.environ)]))"
    told = Told()
    command = runner(
        script(code, "{folder}", "--patient={PatientID}", "'{count} new'", "{StudyInstanceUID}"), tmp_path, told
    )
    command.submit(study(patient_id="Müller 7", count=3))
    command.finish()
    (ran,) = told.all()
    assert (ran.outcome, ran.exit_code) == ("done", 0)
    # The whole environment may be longer than what is kept of the output: what was set last stands at its end.
    assert f'"DICOMNET_FOLDER": {json.dumps(str(tmp_path / "P" / "1.2.1"))}' in ran.said
    given = environment(study(patient_id="Müller 7", count=3), "/f")
    assert given["DICOMNET_PATIENT_ID"] == "Müller 7"
    assert given["DICOMNET_COUNT"] == "3"
    assert "DICOMNET_PASSCODE" not in given


@given(values, values, values)
@settings(max_examples=200)
def test_a_value_is_no_option_and_no_second_argument(uid: str, patient_id: str, title: str) -> None:
    command = CommandLine(f"{PYTHON} {{PatientID}} {{StudyInstanceUID}} {{CallingAE}} x{{PatientID}}y '{{folder}} z'")
    one = Study(uid, "P/S", patient_id, title, 1, 1)
    arguments = command.arguments(one, "/inbox/P/S")
    assert len(arguments) == 6
    for argument in arguments[1:]:
        assert not argument.startswith("-")
        assert "\0" not in argument
    assert all(
        set(argument) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~-")
        for argument in arguments[1:5]
    )
    assert arguments[5] == "/inbox/P/S z"
    assert all("\0" not in value for value in environment(one, "/inbox/P/S").values())


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        (f"{PYTHON} {{Patient}}", "there is no {Patient}, only {folder}"),
        ("{PatientID} x", "must not choose the program"),
        ("no-such-program-anywhere {folder}", "no program 'no-such-program-anywhere'"),
        ("'", "No closing quotation"),
    ],
)
def test_what_nobody_could_run_is_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        CommandLine(text).check_program()


def test_a_failure_is_told_with_what_was_said_last(tmp_path: Path) -> None:
    told = Told()
    code = "import sys; print('x' * 100_000); print('at last', file=sys.stderr); sys.exit(3)"
    command = runner(script(code), tmp_path, told)
    command.submit(study())
    command.finish()
    (ran,) = told.all()
    assert (ran.outcome, ran.exit_code) == ("failed", 3)
    assert ran.said.endswith("at last")
    assert len(ran.said) <= 2000


@pytest.mark.skipif(os.name != "posix", reason="process groups")
def test_one_that_runs_too_long_is_ended_with_its_children(tmp_path: Path) -> None:
    told = Told()
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    command = runner(script(code), tmp_path, told, limit=0.3)
    began = time.monotonic()
    command.submit(study())
    command.finish()
    (ran,) = told.all()
    assert ran.outcome == "too long"
    assert time.monotonic() - began < 30


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_no_more_run_at_once_than_allowed_and_a_study_never_twice_at_once(tmp_path: Path) -> None:
    """More of a study that comes meanwhile makes it run again, once."""
    told, gate, log = Told(), tmp_path / "gate", tmp_path / "log"
    code = (
        "import os, sys, time\n"
        "def note(what):\n"
        f"    with open({str(log)!r}, 'a') as log: log.write(what + ' ' + sys.argv[1] + chr(10))\n"
        "note('start')\n"
        f"while not os.path.exists({str(gate)!r}): time.sleep(0.01)\n"
        "note('end')\n"
    )
    command = runner(script(code, "{StudyInstanceUID}"), tmp_path, told, jobs=2)
    for number in (1, 2, 3):
        command.submit(study(number))
    wait_for(lambda: log.exists() and log.read_text().count("start") == 2)
    command.submit(study(1, count=2))
    command.submit(study(1, count=3))
    gate.touch()
    command.finish()
    running: list[str] = []
    for line in log.read_text().splitlines():
        what, uid = line.split()
        if what == "start":
            assert uid not in running
            running.append(uid)
        else:
            running.remove(uid)
        assert len(running) <= 2
    assert sorted((ran.study.uid, ran.study.count) for ran in told.all()) == [
        ("1.2.1", 1), ("1.2.1", 5), ("1.2.2", 1), ("1.2.3", 1),
    ]  # fmt: skip


def test_stopping_ends_what_runs_and_tells_what_does_not(tmp_path: Path) -> None:
    told = Told()
    started = tmp_path / "started"
    command = runner(script(f"open({str(started)!r}, 'w'); import time; time.sleep(60)"), tmp_path, told, jobs=1)
    command.submit(study(1))
    command.submit(study(2))
    wait_for(started.exists)
    command.stop()
    command.submit(study(3))
    assert sorted((ran.study.uid, ran.outcome) for ran in told.all()) == [
        ("1.2.1", "stopped"), ("1.2.2", "not run"), ("1.2.3", "not run"),
    ]  # fmt: skip
