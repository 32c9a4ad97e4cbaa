"""What ladder diagrams in a terminal are drawn with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Glyphs:
    """What arrows, lifelines and rules are made of."""

    dash: str
    to_right: str
    to_left: str
    fold: str
    lifeline: str
    ellipsis: str


ASCII: Final = Glyphs("-", ">", "<", "...", "|", "...")
BOXES: Final = Glyphs("─", "▶", "◀", "⋮", "│", "…")


def arrow(label: str, room: int, glyphs: Glyphs, *, to_right: bool) -> str:
    """An arrow of ``room`` columns with a label in the middle of its shaft."""
    shaft = f" {label} "[: room - 1].center(room - 1, glyphs.dash)
    return shaft + glyphs.to_right if to_right else glyphs.to_left + shaft


def fitted(text: str, room: int, glyphs: Glyphs) -> str:
    """``text``, cut to ``room`` columns if it is longer."""
    return text if len(text) <= room else text[: max(0, room - len(glyphs.ellipsis))] + glyphs.ellipsis
