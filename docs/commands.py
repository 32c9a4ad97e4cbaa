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

from dicomnet.cli.options import Command
from dicomnet.cli.program import COMMANDS, program

FOLDER = Path(__file__).parent / "reference" / "commands"
_PROGRAM = click.Context(program, info_name="dicomnet", **program.context_settings)


def command_of(name: str) -> Command:
    """The command with that name."""
    command: Command = import_module(f"dicomnet.cli.{name}").command
    return command


def context_of(command: click.Command) -> click.Context:
    """As it is when the program calls the command."""
    return click.Context(command, info_name=command.name, parent=_PROGRAM)


def page(name: str) -> str:
    """The page of a command, in Markdown."""
    command = command_of(name)
    context = context_of(command)
    usage = " ".join(command.collect_usage_pieces(context))
    parts = [
        f"# dicomnet {name}",
        COMMANDS[name],
        "## Synopsis",
        f"```text\ndicomnet {name} {usage}\n```",
        "## Description",
        *_description(command),
        *_options(command, context),
        "## With `--json`",
        *_events(command),
        "## See also",
        "[The command line](../command-line.md): peers, exit codes, what all commands have in common.",
    ]
    return "\n\n".join(parts) + "\n"


def _description(command: Command) -> Iterator[str]:
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        lines = paragraph.splitlines()
        if lines[0] != "\b":
            yield _literal(" ".join(lines))
        elif all(line.strip().startswith("dicomnet ") for line in lines[1:]):
            yield "\n".join(("```console", *(f"$ {line.strip()}" for line in lines[1:]), "```"))
        else:
            yield "\n".join(("```text", *lines[1:], "```"))


def _options(command: Command, context: click.Context) -> Iterator[str]:
    sections: dict[str, list[str]] = {}
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and isinstance(parameter, click.Option):
            section = getattr(parameter, "section", "Options")
            sections.setdefault(section, []).append(f"`{record[0]}`\n: {_literal(record[1])}")
    for heading, entries in sections.items():
        yield f"## {heading}"
        yield from entries


def _events(command: Command) -> Iterator[str]:
    yield "Each line is an object whose `event` says what it is:"
    rows = [
        f"| {f'`{event}`' if not number else ''} | `{member}` | {_literal(meaning)} |"
        for event, members in command.events.items()
        for number, (member, meaning) in enumerate(members.items())
    ]
    yield "\n".join(("| `event` | member | what it is |", "|---|---|---|", *rows))


def _literal(text: str) -> str:
    """Plain text as Markdown that shows the same; options and what stands after them as code."""
    text = re.sub(r"([\\*_<>|`$~])", r"\\\1", text)
    return re.sub(r"(?<![\w-])(--[a-z][a-z-]*|-[a-z]{1,2})(?![\w-])", r"`\1`", text)


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
