"""Writes ``reference/commands/``: a page for each command, like a manual page, from what the command itself says.

One idea: nothing that ``--help`` or ``--json`` tells is written a second time. ``make docs`` calls this, and a test
says if a page is not what it would be.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import click

from dicomnet.cli.options import HALF_WAY, INTERRUPTED, NO_ASSOCIATION, PEER_FAILED, USAGE, Command
from dicomnet.cli.program import COMMANDS, program

FOLDER = Path(__file__).parent / "reference" / "commands"
_PROGRAM = click.Context(program, info_name="dicomnet", **program.context_settings)

EXIT_STATUS = {
    0: "Done.",
    PEER_FAILED: "The peer answered with a failure, or did not accept a presentation context that was needed.",
    USAGE: "Wrong usage; an address where one cannot listen; files that cannot be used.",
    NO_ASSOCIATION: "No association: refused, unreachable, or TLS failed.",
    HALF_WAY: "Aborted or timed out half-way; also an error of dicomnet itself.",
    INTERRUPTED: "Interrupted; the association was released first.",
}
ENVIRONMENT = {
    "DICOMNET_CONFIG": "The one `dicomnet.toml` that counts; empty: none does.",
    "DICOMNET_PASSCODE": "The passcode of a user name that comes without one.",
    "NO_COLOR": "No colours.",
}


def command_of(name: str) -> Command:
    """The command with that name."""
    command: Command = import_module(f"dicomnet.cli.{name}").command
    return command


def context_of(command: click.Command) -> click.Context:
    """As it is when the program calls the command."""
    return click.Context(command, info_name=command.name, parent=_PROGRAM)


def page(name: str) -> str:
    """The page of a command, in Markdown, with the sections that manual pages have."""
    command = command_of(name)
    context = context_of(command)
    usage = " ".join(command.collect_usage_pieces(context))
    description, examples = _description(command)
    shared = any(parameter.name == "json" for parameter in command.params)
    parts = [
        f"# dicomnet {name}",
        COMMANDS[name],
        "## Synopsis",
        f"```text\ndicomnet {name} {usage}\n```",
        "## Description",
        *description,
        *(["## Examples", *examples] if examples else []),
        *_options(command, context),
        *(["## With `--json`", *_events(command)] if shared else []),
        "## Exit status",
        *(f"{code}\n: {meaning}" for code, meaning in EXIT_STATUS.items() if shared or code in (0, USAGE)),
        *(["## Environment", *(f"`{variable}`\n: {text}" for variable, text in ENVIRONMENT.items())] if shared else []),
        "## See also",
        "[The command line](../command-line.md): peers, exit codes, what all commands have in common."
        " [dicomnet.toml](../dicomnet-toml.md): names for peers.",
    ]
    return "\n\n".join(parts) + "\n"


def _description(command: Command) -> tuple[list[str], list[str]]:
    """What it does, and how it is called."""
    texts, examples = [], []
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        first, *rest = lines = paragraph.splitlines()
        if first != "\b":
            texts.append(_literal(" ".join(lines), command))
        elif any(line.strip().startswith("dicomnet ") for line in rest):
            examples.append("\n".join(("```console", *(f"$ {line.strip()}" for line in rest), "```")))
        else:
            texts.append("\n".join(("```text", *(line.removeprefix("  ") for line in rest), "```")))
    return texts, examples


def _options(command: Command, context: click.Context) -> Iterator[str]:
    sections: dict[str, list[str]] = {}
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and isinstance(parameter, click.Option):
            text, _, extra = record[1].partition("  [")  # as click appends the default and the range
            entry = f"`{record[0]}`\n: {_literal(text, command)}"
            entry += f" ({_extra(extra.rstrip(']'))})" if extra else ""
            sections.setdefault(getattr(parameter, "section", "Options"), []).append(entry)
    for heading, entries in sections.items():
        yield f"## {heading}"
        yield from entries


def _extra(text: str) -> str:
    """The default and the range of an option."""
    parts = []
    for part in text.split("; "):
        if between := re.fullmatch(r"(-?\d+)<=x<=(-?\d+)", part):
            parts.append(f"{between[1]} to {between[2]}")
        elif least := re.fullmatch(r"x>=(-?\d+)", part):
            parts.append(f"at least {least[1]}")
        elif part.startswith("default: "):
            parts.append(f"if not given: `{part.removeprefix('default: ')}`")
        else:
            parts.append(part)
    return ", ".join(parts)


def _events(command: Command) -> Iterator[str]:
    yield "Each line is an object whose `event` says what it is:"
    rows = [
        f"| {f'`{event}`' if not number else ''} | `{member}` | {_literal(meaning, command)} |"
        for event, members in command.events.items()
        for number, (member, meaning) in enumerate(members.items())
    ]
    yield "\n".join(("| `event` | member | what it is |", "|---|---|---|", *rows))


def _literal(text: str, command: Command) -> str:
    """Plain text as Markdown that shows the same; options, with the value that stands after them, as code."""
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    valued = {name for option in options if not (option.is_flag or option.count) for name in option.opts}
    parts, end = [], 0
    for found in _EXAMPLE.finditer(text):
        parts.append(_escaped(text[end : found.start()]))
        value = found["value"] if found["option"] in valued and found["value"] is not None else ""
        value = value.rstrip(",.;:") if value[-1:] not in ("'", '"') else value
        parts.append(f"`{found['option']}{value}`")
        end = found.start() + len(found["option"]) + len(value)
    return "".join(parts) + _escaped(text[end:])


# An option, and the word or the quoted words after it.
_EXAMPLE = re.compile(
    r"""(?<![\w-])(?P<option>--[a-z][a-z-]*|-[a-z]{1,2})(?![\w-])(?P<value>[ =](?:'[^']*'|"[^"]*"|[^\s()]+))?"""
)


def _escaped(text: str) -> str:
    return re.sub(r"([\\*_<>|`$~])", r"\\\1", text)


def write() -> None:
    """All pages, and no others."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for path in FOLDER.glob("*.md"):
        if path.stem not in COMMANDS:
            path.unlink()
    for name in COMMANDS:
        (FOLDER / f"{name}.md").write_text(page(name), encoding="utf-8")


if __name__ == "__main__":
    write()
