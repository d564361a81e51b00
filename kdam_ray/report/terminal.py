"""Grids on a terminal, as wide as it is; in a pipe or a file the plain text of `formats`."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kdam_ray.report.formats import DAGGER, FORMATS, Grid

if TYPE_CHECKING:
    from rich.console import JustifyMethod

GIVES_WAY, WIDE = 5, 20  # least width of a name's column; width from which on it need not give way
STYLES = {"finished": "green", "training": "cyan", "unfinished": "yellow", "pruned": "dim", "failed": "red"}


def shown(grids: Sequence[Grid]) -> str:
    """The grids one after the other; nothing is cut off: what is too long for its column goes on below."""
    if not sys.stdout.isatty():
        return FORMATS["text"](grids)
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False)
    with console.capture() as captured:
        for number, grid in enumerate(grids):
            if number:
                console.print()
            console.print(grid.title, style="bold")
            console.print(_table(grid, console.width))
            for note in grid.notes:
                console.print(note, style="dim")
    return captured.get().rstrip("\n")


def _table(grid: Grid, width: int) -> object:
    """Numbers and ids are never broken; names give way where it is narrow."""
    from rich.table import Table
    from rich.text import Text

    cells = [[cell.text + DAGGER * cell.is_flagged for cell in row] for row in grid.rows]
    least = [_longest_word([name, *(row[column] for row in cells)]) for column, name in enumerate(grid.header)]
    needed = sum(least[:1] + least[grid.names :]) + len(least)
    gives_way = max(GIVES_WAY, (width - needed) // max(grid.names - 1, 1)) if width - needed < WIDE else WIDE
    least[1 : grid.names] = [min(gives_way, each) for each in least[1 : grid.names]]
    gap = 2 if sum(least) + 2 * len(least) <= width else 1
    table = Table(box=None, padding=(0, gap, 0, 0), pad_edge=False, header_style="bold")
    for column, name in enumerate(grid.header):
        justify: JustifyMethod = "left" if column < grid.names else "right"
        table.add_column(Text(name), justify=justify, overflow="fold", min_width=least[column])
    for row, texts in zip(grid.rows, cells, strict=True):
        styles = ("bold" if cell.is_best else STYLES.get(cell.text, "") for cell in row)
        table.add_row(*(Text(text, style=style) for text, style in zip(texts, styles, strict=True)))
    return table


def _longest_word(texts: Sequence[str]) -> int:
    return max(len(word) for text in texts for word in text.split() or [""])
