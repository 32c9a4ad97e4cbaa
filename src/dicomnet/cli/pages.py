"""A page of ``dicomnet.probe`` on a terminal, in colours."""

from __future__ import annotations

from typing import Final

from rich.console import Console
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table as Grid
from rich.text import Text

from dicomnet.probe.blocks import Block, Commands, Fact, Lines, Numbered, Page, Paragraph, Section, Table, Tone

_WIDEST: Final = 110  # columns: longer lines are hard to read
_COLOURS: Final = {Tone.PLAIN: "", Tone.GOOD: "green", Tone.BAD: "bold red", Tone.DOUBTFUL: "yellow"}
_LABEL: Final = 30


def print_page(page: Page) -> None:
    """Write the page to the terminal. Texts are never taken for markup."""
    console = Console(highlight=False, markup=False, emoji=False)
    width = min(console.width, _WIDEST)
    console.print(Text(page.title, "bold"), Text(page.subtitle, "dim"), sep="\n", width=width)
    console.print(Panel(Text(page.verdict), border_style=_COLOURS[page.tone]), width=width)
    for section in page.sections:
        console.print(Text(section.heading, "bold cyan"), width=width)
        _print_section(console, section, width)
        console.print()


def _print_section(console: Console, section: Section, width: int) -> None:
    grid: Grid | None = None
    for block in section.blocks:
        if isinstance(block, Fact):
            if grid is None:
                grid = Grid.grid(padding=(0, 2))
                grid.add_column(max_width=_LABEL, style="dim")
                grid.add_column()
            grid.add_row(Text(block.label), Text(block.text, _COLOURS[block.tone]))
            continue
        if grid is not None:
            console.print(Padding(grid, (0, 0, 0, 2)), width=width)
            grid = None
        _print_block(console, block, width)
    if grid is not None:
        console.print(Padding(grid, (0, 0, 0, 2)), width=width)


def _print_block(console: Console, block: Block, width: int) -> None:
    match block:
        case Paragraph(text):
            console.print(Padding(Text(text), (0, 0, 0, 2)), width=width)
        case Numbered(items):
            for number, item in enumerate(items, start=1):
                console.print(_hanging(f"{number}.", Text(item)), width=width)
        case Commands(steps):
            for step in steps:
                console.print(_hanging("-", Text(step.what)), width=width)
                if step.command:  # not folded, to be copied
                    console.print(Text(f"      {step.command}", "bold"), no_wrap=True, overflow="ignore", crop=False)
        case Table(heads, rows):
            grid = Grid(*heads, box=None, pad_edge=False, header_style="dim")
            for row in rows:
                grid.add_row(*map(Text, row))
            console.print(Padding(grid, (0, 0, 0, 2)), width=width)
        case Lines(lines):
            for line in lines:
                console.print(Text(f"  {line}", "dim"), width=width)


def _hanging(mark: str, text: Text) -> Padding:
    grid = Grid.grid(padding=(0, 1))
    grid.add_column(width=2)
    grid.add_column()
    grid.add_row(Text(mark), text)
    return Padding(grid, (0, 0, 0, 2))
