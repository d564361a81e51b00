"""Grids on a terminal, as wide as it is; in a pipe or a file the plain text of `formats`."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kdam_ray.report.formats import DAGGER, Grid, as_text

if TYPE_CHECKING:
    from rich.console import JustifyMethod

GAP = 2  # between columns
GIVES_WAY = (24, 16, 12, 8, 5)  # least width of a column of names, the first with which all fits
STYLES = {"finished": "green", "training": "cyan", "unfinished": "yellow", "pruned": "dim", "failed": "red"}


def shown(grids: Sequence[Grid]) -> str:
    """The grids one after the other; nothing is cut off: what is too long for its column goes on below."""
    if not sys.stdout.isatty():
        return "\n\n".join(map(_plain, grids))
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False)
    with console.capture() as captured:
        for number, grid in enumerate(grids):
            if number:
                console.print()
            console.print(grid.title, style="bold")
            if grid.rows:
                console.print(_table(grid, console.width))
            for note in grid.notes:
                console.print(note, style="dim" if grid.rows else "", soft_wrap=not grid.rows)
    return captured.get().rstrip("\n")


def _plain(grid: Grid) -> str:
    """Plain text; a header that says nothing takes no line."""
    title, *lines = as_text(grid).splitlines()
    return "\n".join([title, *(lines if any(grid.header) else lines[1:])])


def _table(grid: Grid, width: int) -> object:
    from rich.table import Table
    from rich.text import Text

    cells = [[cell.text + DAGGER * cell.is_flagged for cell in row] for row in grid.rows]
    columns = [list(column) for column in zip(grid.header, *cells, strict=True)]
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="bold", show_header=any(grid.header))
    for index, (name, wide) in enumerate(zip(grid.header, widths(columns, grid.names, width), strict=True)):
        justify: JustifyMethod = "left" if index < grid.names else "right"
        table.add_column(Text(name), justify=justify, overflow="fold", width=wide)
    for row, texts in zip(grid.rows, cells, strict=True):
        styles = ("bold" if cell.is_best else STYLES.get(cell.text, "") for cell in row)
        table.add_row(*(Text(text, style=style) for text, style in zip(texts, styles, strict=True)))
    return table


def widths(columns: Sequence[Sequence[str]], names: int, width: int) -> list[int]:
    """How wide each column is: numbers and ids are never broken, names give way where it is narrow.

    Args:
        columns: header and cells of each.
        names: how many columns hold names; the first of them an id.
        width: of the terminal.
    """
    natural, available = [max(map(len, column)) for column in columns], width - GAP * (len(columns) - 1)
    words = [max(len(word) for text in column for word in text.split() or [""]) for column in columns]
    for gives_way in GIVES_WAY:
        chosen = [min(size, gives_way) if 0 < index < names else size for index, size in enumerate(words)]
        if sum(chosen) <= available:
            break
    turns = [(range(names), max(natural)), (range(names, len(columns)), max(natural))]
    for index in (index for group, most in turns for _ in range(most) for index in group):
        if sum(chosen) < available and chosen[index] < natural[index]:
            chosen[index] += 1
    return chosen
