"""``dicomnet completion``: real shells complete commands, options, their values, files and names of peers."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from dicomnet.cli.program import COMMANDS, program
from tests.cli.conftest import Done
from tests.cli.programs import COMMAND

_HEAVY = {"pydicom", "ssl", "rich", "asyncio", "logging", "dicomnet.blocking", "dicomnet.dataset"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Current; with a program ``dicomnet``, a peer that has a name, and a file."""
    installed = tmp_path / "bin" / "dicomnet"
    installed.parent.mkdir()
    installed.write_text(f'#!/bin/sh\nexec {" ".join(COMMAND)} "$@"\n')
    installed.chmod(0o755)
    monkeypatch.setenv("PATH", f"{installed.parent}{os.pathsep}{os.environ['PATH']}")
    names = tmp_path / "dicomnet.toml"
    names.write_text('[peers.pacs]\naddress = "PACS@192.0.2.7:11112"\n[peers.archive]\naddress = "A@h"\n')
    monkeypatch.setenv("DICOMNET_CONFIG", str(names))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hospital.pem").touch()
    return tmp_path


def completed(*words: str) -> list[str]:
    """What a shell is answered, through click's protocol."""
    shell_completion = ShellComplete(program, {}, "dicomnet", "_DICOMNET_COMPLETE")
    return [item.value for item in shell_completion.get_completions(list(words[1:-1]), words[-1]) if item.value]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["dicomnet", ""], set(COMMANDS)),
        (["dicomnet", "ec"], {"echo"}),
        (["dicomnet", "echo", ""], {"archive", "pacs"}),
        (["dicomnet", "echo", "p"], {"pacs"}),
        (["dicomnet", "echo", "pacs", "--timeout", "re"], {"response=30", "release=10"}),
        (["dicomnet", "send", "pacs", "--transcode", ""], {"never", "lossless", "any"}),
        (["dicomnet", "send", "pacs", "--tls-pr"], {"--tls-profile"}),
        (["dicomnet", "send", "pacs", "--tls-profile", "bcp195-n"], {"bcp195-nd"}),
        (["dicomnet", "peers", ""], {"list", "add", "remove", "test"}),
        (["dicomnet", "peers", "test", "a"], {"archive"}),
        (["dicomnet", "peers", "add", ""], set()),
        (["dicomnet", "completion", ""], {"bash", "zsh", "fish"}),
    ],
)
def test_what_is_completed(folder: Path, words: list[str], expected: set[str]) -> None:
    assert set(completed(*words)) == expected


def test_a_broken_file_completes_to_nothing(folder: Path) -> None:
    """A shell has nowhere to show why."""
    (folder / "dicomnet.toml").write_text("[")
    assert completed("dicomnet", "echo", "") == []


def test_completing_loads_nothing_heavy(folder: Path) -> None:
    """It happens between two key strokes."""
    code = (
        "import sys, atexit; from dicomnet.cli import main\n"
        f"atexit.register(lambda: print(*({_HEAVY} & set(sys.modules)), file=sys.stderr))\n"
        "main()"
    )
    for words in (["dicomnet", ""], ["dicomnet", "send", "p"]):
        environment = os.environ | {
            "_DICOMNET_COMPLETE": "bash_complete",
            "COMP_WORDS": "\n".join(words),
            "COMP_CWORD": str(len(words) - 1),
        }
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.stdout
        assert done.stderr.split() == []


def shell(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def test_bash_completes(folder: Path) -> None:
    """As readline calls the function, names and files."""
    script = (
        'eval "$(dicomnet completion bash)"\n'
        'ask() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); compopt() { printf "%s " compopt "$@"; }\n'
        "  $(complete -p dicomnet | sed 's/.*-F \\([^ ]*\\) .*/\\1/') dicomnet; echo \"${COMPREPLY[*]}\"; }\n"
        "ask dicomnet se; ask dicomnet echo p; ask dicomnet echo pacs --tls-ca hos"
    )
    done = subprocess.run(
        [shell("bash"), "--norc", "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines() == ["send", "pacs", "compopt -o default "]


def test_fish_completes(folder: Path) -> None:
    script = (
        "dicomnet completion fish | source\n"
        "complete -C 'dicomnet se'; complete -C 'dicomnet echo p'; complete -C 'dicomnet echo pacs --tls-ca hos'"
    )
    done = subprocess.run(
        [shell("fish"), "--no-config", "-c", script],
        capture_output=True, text=True, check=True, timeout=60, env=os.environ | {"HOME": str(folder)},
    )  # fmt: skip
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == ["send", "pacs", "hospital.pem"]


@pytest.mark.skipif(sys.platform == "win32", reason="no pty")
def test_bash_and_zsh_complete_at_a_terminal(folder: Path) -> None:
    """By the tab key."""
    from tests.cli.terminal import Terminal

    arguments = {
        "bash": (["--norc"], 'PS1="> "; eval "$(dicomnet completion bash)"; echo ready\n'),
        "zsh": (
            ["-f"],
            'PS1="> "; autoload -U compinit; compinit -u -D; eval "$(dicomnet completion zsh)"; echo ready\n',
        ),
    }
    for name, (options, setup) in arguments.items():
        if shutil.which(name) is None:
            continue
        with Terminal([shutil.which(name), *options], columns=120, folder=folder) as terminal:
            terminal.type(setup)
            terminal.wait_for(r"\nready")
            terminal.type("dicomnet ec\tpa\t--tls-c\t\t")
            terminal.wait_for(r"> dicomnet echo pacs .*--tls-c[\s\S]*--tls-cert")


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_the_script_says_how_to_install_it(command: Callable[..., Done], name: str) -> None:
    done = command("completion", name)
    assert done.code == 0
    assert done.out.startswith("# To have it in each new shell, ")
    assert f"dicomnet completion {name}" in done.out.splitlines()[0]


def test_another_shell_is_wrong_usage(command: Callable[..., Done]) -> None:
    done = command("completion", "csh")
    assert done.code == 2
    assert "'bash', 'zsh', 'fish'" in done.err
