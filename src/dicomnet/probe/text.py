"""A page as plain text, for pipes, files and tickets: no colours, no more columns than asked for."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Final

from dicomnet.probe.blocks import Block, Commands, Fact, Lines, Numbered, Page, Paragraph, Section, Table, Tone

_INDENT: Final = "  "
_LABEL: Final = 30  # columns; a longer label has a line of its own
_MARKS: Final = {Tone.GOOD: "ok  ", Tone.BAD: "NO  ", Tone.DOUBTFUL: "?   ", Tone.PLAIN: ""}


def lines(page: Page, width: int = 96) -> Iterator[str]:
    """The lines of the page."""
    yield page.title
    yield from _wrapped(page.subtitle, width)
    yield ""
    yield from _wrapped(page.verdict, width)
    for section in page.sections:
        yield ""
        yield section.heading.upper()
        yield from _section(section, width)


def _section(section: Section, width: int) -> Iterator[str]:
    for block in section.blocks:
        yield from _block(block, width)


def _block(block: Block, width: int) -> Iterator[str]:
    match block:
        case Fact(label, text, tone):
            mark = "" if text.startswith(("yes", "no,")) or text == "no" else _MARKS[tone]
            yield from _fact(label, mark + text, width)
        case Paragraph(text):
            yield from _wrapped(text, width, _INDENT)
        case Numbered(items):
            for number, item in enumerate(items, start=1):
                yield from _wrapped(f"{number}. {item}", width, _INDENT, "     ")
        case Commands(steps):
            for step in steps:
                colon = ":" if step.command and step.what[-1:].isalnum() else ""
                yield from _wrapped(f"- {step.what}{colon}", width, _INDENT, "    ")
                if step.command:
                    yield f"      $ {step.command}"  # in one line, to be copied
        case Table(heads, rows):
            yield from _table(heads, rows, width)
        case Lines(rows):
            yield from (_INDENT + row for row in rows)


def _fact(label: str, text: str, width: int) -> Iterator[str]:
    margin = _INDENT + " " * _LABEL
    first = f"{_INDENT}{label:<{_LABEL - 1}} " if len(label) < _LABEL else f"{_INDENT}{label}\n{margin}"
    yield from "\n".join(_wrapped(text, width, "", "", len(margin), first=first)).split("\n")


def _table(heads: tuple[str, ...], rows: tuple[tuple[str, ...], ...], width: int) -> Iterator[str]:
    first = min(max(len(row[0]) for row in (heads, *rows)), width // 2)
    for row in (heads, *rows):
        margin = _INDENT + " " * (first + 2)
        name = textwrap.wrap(row[0], first) or [""]
        for extra in name[:-1]:
            yield _INDENT + extra
        text = ", ".join(row[1:])
        yield from _wrapped(text, width, "", "", len(margin), first=f"{_INDENT}{name[-1]:<{first}}  ")


def _wrapped(
    text: str, width: int, indent: str = "", further: str | None = None, margin: int = 0, first: str = ""
) -> Iterator[str]:
    """``text`` in lines; those behind the first begin with ``further``, or after ``margin`` columns."""
    begin = first or indent
    rest = " " * margin if margin else indent if further is None else further
    room = max(width - max(margin, len(indent)), 20)
    pieces = textwrap.wrap(text, room, break_on_hyphens=False) or [""]
    for number, piece in enumerate(pieces):
        yield ((begin if number == 0 else rest) + piece).rstrip()
