"""What a page is made of: sections of facts, lists, commands, tables and lines.

One idea: all texts of a page are in one line each and cannot command a terminal, whatever a peer put into them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from dicomnet.probe.report import Step


class Tone(StrEnum):
    """Whether a fact is good news."""

    PLAIN = "plain"
    GOOD = "good"
    BAD = "bad"
    DOUBTFUL = "doubtful"


@dataclass(frozen=True, slots=True)
class Fact:
    """A name and what is known of it."""

    label: str
    text: str
    tone: Tone = Tone.PLAIN


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A sentence or two."""

    text: str


@dataclass(frozen=True, slots=True)
class Numbered:
    """A list in which the first is the likeliest."""

    items: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Commands:
    """What to try next."""

    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under heads."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines whose columns matter, such as bytes."""

    lines: tuple[str, ...]


Block = Fact | Paragraph | Numbered | Commands | Table | Lines


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what stands under it."""

    heading: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """``title``: whom it is about; ``verdict``: what is the matter with it, in a sentence."""

    title: str
    subtitle: str
    verdict: str
    tone: Tone
    sections: tuple[Section, ...]


def shown(text: str) -> str:
    """``text`` as one line of what can be printed; anything else as an escape."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def clean(section: Section) -> Section:
    """``section`` with every text ``shown``."""
    return Section(section.heading, tuple(_clean_block(block) for block in section.blocks))


def _clean_block(block: Block) -> Block:
    match block:
        case Fact(label, text, tone):
            return Fact(shown(label), shown(text), tone)
        case Paragraph(text):
            return Paragraph(shown(text))
        case Numbered(items):
            return Numbered(tuple(map(shown, items)))
        case Commands(steps):
            return Commands(tuple(Step(shown(step.what), shown(step.command)) for step in steps))
        case Table(heads, rows):
            return Table(heads, tuple(tuple(map(shown, row)) for row in rows))
        case Lines(lines):
            return Lines(tuple(map(shown, lines)))
