"""What the command line says about itself, and what that costs."""

import subprocess
import sys
from collections.abc import Callable

import pytest

from dicomnet.cli.program import COMMANDS, GROUPS
from tests.cli.conftest import Done
from tests.cli.programs import dicomnet_command

_HEAVY = ("pydicom", "ssl", "rich", "asyncio", "logging", "dicomnet.blocking", "dicomnet.dataset")


@pytest.mark.parametrize("arguments", [[], *([name] for name in COMMANDS)])
def test_help_loads_neither_pydicom_nor_tls_nor_rich(arguments: list[str]) -> None:
    code = (
        "import sys; from dicomnet.cli.program import run;"
        f"code = run([*{arguments!r}, '--help']);"
        f"print(*(name for name in {_HEAVY!r} if name in sys.modules), file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Usage: ")
    assert done.stderr.split() == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_explained_with_an_example(command: Callable[..., Done], name: str) -> None:
    done = command(name, "--help")
    assert done.code == 0
    assert f"dicomnet {name} " in done.out
    for option in _options(name):
        flag = option.opts[-1]
        assert option.help, flag
        assert option.is_flag or option.count or flag in option.help, f"{flag} has no example"


# Those that need no network have none of its options.
_WITHOUT = ("completion",)
_SHARED = {
    *("--help", "--json", "--verbose", "--quiet", "--calling", "--timeout"),
    *("--tls", "--tls-profile", "--tls-ca", "--tls-crl", "--tls-cert", "--tls-key", "--tls-key-password-file"),
    *("--tls-verify", "--tls-no-verify", "--identity-username", "--identity-passcode", "--identity-passcode-file"),
    *("--identity-kerberos", "--identity-saml", "--identity-jwt"),
}


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in _WITHOUT])
def test_the_shared_options_are_the_same_everywhere(name: str) -> None:
    """The very same: help text, type and place in the help."""
    own = {option.opts[-1]: option for option in _options(name)}
    echo = {option.opts[-1]: option for option in _options("echo")}
    assert own.keys() | {"--help"} >= _SHARED
    for flag in _SHARED - {"--help", "--calling"}:  # who listens may let in several calling titles
        assert own[flag].to_info_dict() == echo[flag].to_info_dict()
        assert own[flag].section == echo[flag].section


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in _WITHOUT])
def test_wrong_usage_is_an_object_with_json(command: Callable[..., Done], name: str) -> None:
    """The last line, with what stands on stderr."""
    done = command(name, "--json", "--no-such-option")
    assert done.code == 2
    assert done.events == [
        {"event": "error", "message": done.err.split(": ", 1)[1].partition(" (try: ")[0].strip(), "exit_code": 2}
    ]


def test_every_command_has_a_place_in_the_help() -> None:
    assert sorted(name for names in GROUPS.values() for name in names if name in COMMANDS) == sorted(COMMANDS)


def test_a_misspelt_command_is_guessed(command: Callable[..., Done]) -> None:
    assert "did you mean receive?" in command("recieve").err


def _options(name: str) -> list[object]:
    import click

    from dicomnet.cli.program import program

    found = program.get_command(click.Context(program), name)
    assert found is not None
    return [parameter for parameter in found.params if isinstance(parameter, click.Option)]


def test_without_a_command_the_help_is_shown(command: Callable[..., Done]) -> None:
    done = command()
    assert done.code == 2
    assert all(name in done.out for name in COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["echo"], "PEER"),
        (["echo", "PACS"], "PACS@192.0.2.7:11112"),
        (["echo", "PACS@host:port"], "port"),
        (["echo", "A" * 17 + "@host"], "16"),
        (["echo", "A@b", "--timeout", "lunch=3"], "connect, tls"),
        (["echo", "A@b", "--timeout", "connect=-1"], "connect=60"),
        (["echo", "A@b", "--timeout", "connect"], "connect=60"),
        (["echo", "A@b", "--calling", ""], "AE title"),
        (["echo", "A@b", "--repeat", "0"], "--repeat"),
        (["echo", "A@b", "--tls-key", __file__], "--tls-cert"),
        (["echo", "A@b", "--tls-ca", __file__], "PEM"),
        (["echo", "A@b", "--tls-cert", __file__], "PEM"),
        (["echo", "A@b", "--tls-ca", "/nowhere/to/be/found"], "/nowhere"),
        (["echo", "A@b", "--identity-passcode", "x"], "--identity-username"),
        (["echo", "A@b", "--identity-username", "x", "--identity-jwt", __file__], "one identity"),
        (["send", "A@b"], "PATH"),
        (["send", "A@b", "/nowhere/to/be/found"], "/nowhere"),
        (["receive", "x", "--tls"], "--tls-cert"),
        (["receive", __file__], "FOLDER"),
        (["swim"], "swim"),
    ],
)
def test_wrong_usage_is_one_line_and_2(command: Callable[..., Done], arguments: list[str], hint: str) -> None:
    done = command(*arguments)
    assert done.code == 2
    assert hint in done.err
    assert len(done.err.splitlines()) == 1


def test_python_m_is_the_same_program() -> None:
    done = dicomnet_command("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("dicomnet")


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_the_extra_one_sentence_says_how_to_get_it(missing: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; from dicomnet.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "pip install 'dicomnet[cli]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1
