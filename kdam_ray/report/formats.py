"""One table, many formats: text for terminals, Markdown, TeX (booktabs), CSV, HTML.

A grid holds what is shown; how it is escaped and emphasised is the format's business. Bold is the best of its column, a
dagger marks what a note explains.
"""

import csv
import html
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

# as wide as it is, or as the text where that is less
FIT = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
DAGGER = "†"
# a mean, its standard deviation, its interval, its own n
NUMBER = re.compile(
    r"(?P<mean>[+-]?[\d.]+)(?: ?± ?(?P<sd>[\d.]+))?"
    r"(?: \[(?P<low>[+-]?[\d.]+), (?P<high>[+-]?[\d.]+)\])?(?: \(n (?P<n>\d+)\))?"
)
PARTS = ("sd", "low", "high", "n")


@dataclass(frozen=True)
class Cell:
    """Text, and what to say about it without words."""

    text: str
    is_best: bool = False
    is_flagged: bool = False


@dataclass(frozen=True)
class Grid:
    """A table.

    Attributes:
        title: above it.
        header: a name for each column; the first columns, which hold names, are left-aligned.
        names: how many columns hold names.
        rows: cells, as many as the header has names.
        notes: sentences below it.
        heads: sentences above it: what must be known before it is read.
        runs: the run_ids behind each row, as many as there are rows; empty: not said.
        groups: titles over neighbouring columns and how many each spans, from the first column to the last; empty:
            none.
    """

    title: str
    header: tuple[str, ...]
    names: int
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    groups: tuple[tuple[str, int], ...] = ()
    heads: tuple[str, ...] = ()
    runs: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        if self.groups and sum(span for _, span in self.groups) != len(self.header):
            raise ValueError(
                f"{self.title}: the groups span {sum(span for _, span in self.groups)} columns of {len(self.header)}"
            )
        if wrong := [row for row in self.rows if len(row) != len(self.header)]:
            raise ValueError(f"{self.title}: a row has {len(wrong[0])} cells, the header {len(self.header)} names")
        if self.runs and len(self.runs) != len(self.rows):
            raise ValueError(f"{self.title}: runs of {len(self.runs)} rows, there are {len(self.rows)}")

    @property
    def full_header(self) -> tuple[str, ...]:
        """The names with their groups' titles, for formats whose header is one line."""
        titles = [title for title, span in self.groups for _ in range(span)] or [""] * len(self.header)
        return tuple(f"{title} {name}".strip() for title, name in zip(titles, self.header, strict=True))


def as_text(grid: Grid) -> str:
    """Columns as wide as their content; best in asterisks, as a terminal may have no bold."""
    table = [grid.header, *([_marked(cell, "*", "*") for cell in row] for row in grid.rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(grid.header))]
    above = _group_line(grid, widths)
    sides = [str.ljust if column < grid.names else str.rjust for column in range(len(grid.header))]
    lines = [
        "  ".join(side(text, width) for side, text, width in zip(sides, row, widths, strict=True)).rstrip()
        for row in table
    ]
    below = [*([""] if grid.groups and grid.notes else []), *grid.notes]
    return "\n".join([grid.title, *grid.heads, *above, *lines, *below])


def _group_line(grid: Grid, widths: list[int]) -> list[str]:
    """The titles, right-aligned over their columns; widens `widths` where a title needs more."""
    parts, first = [], 0
    for title, span in grid.groups:
        lacking = len(title) - (sum(widths[first : first + span]) + 2 * (span - 1))
        widths[first] += max(0, lacking)
        parts.append(title.rjust(sum(widths[first : first + span]) + 2 * (span - 1)))
        first += span
    return ["  ".join(parts).rstrip()] if parts else []


def as_markdown(grid: Grid) -> str:
    """A pipe table with its alignment row."""

    def line(row: Sequence[str]) -> str:
        return "| " + " | ".join(text.replace("|", "\\|") for text in row) + " |"

    rule = ["---" if i < grid.names else "---:" for i in range(len(grid.header))]
    rows = [line([_marked(cell, "**", "**") for cell in row]) for row in grid.rows]
    above = [f"**{grid.title}**", "", *(f"{head}\n" for head in grid.heads)]
    return "\n".join([*above, line(grid.full_header), line(rule), *rows, *(f"\n{note}" for note in grid.notes)])


def as_tex(grid: Grid) -> str:
    r"""A `table` for LaTeX, no wider than the text; needs `\usepackage{booktabs, graphicx}`."""
    columns = "l" * grid.names + "r" * (len(grid.header) - grid.names)
    rows = [" & ".join(_marked(cell, "\\textbf{", "}", _tex) for cell in row) + r" \\" for row in grid.rows]
    notes = [rf"\par\footnotesize {_tex(note)}" for note in grid.notes]
    above = (
        [" & ".join(rf"\multicolumn{{{span}}}{{c}}{{{_tex(title)}}}" for title, span in grid.groups) + r" \\"]
        if grid.groups
        else []
    )
    return "\n".join([
        r"\begin{table}", r"\centering", rf"\caption{{{_tex(' '.join((grid.title, *grid.heads)))}}}", FIT,
        rf"\begin{{tabular}}{{{columns}}}", r"\toprule", *above,
        " & ".join(map(_tex, grid.header)) + r" \\", r"\midrule", *rows, r"\bottomrule", r"\end{tabular}}",
        *notes, r"\end{table}",
    ])  # fmt: skip


def as_csv(grid: Grid) -> str:
    """Header and rows without emphasis, each row with its table's title; of several tables each has its own header.

    A deviation, the ends of an interval, an own n and a flag are columns of their own, so that numbers stay numbers.
    """
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    parsed = [[_parts(cell, column >= grid.names) for column, cell in enumerate(row)] for row in grid.rows]
    used = [
        [part for part in PARTS if any(row[column].get(part) for row in parsed)] for column in range(len(grid.header))
    ]
    titles = [
        f"{name} {part}".strip() for name, parts in zip(grid.full_header, used, strict=True) for part in ("", *parts)
    ]
    writer.writerow(["table", *titles, "flagged"])
    for row, cells in zip(grid.rows, parsed, strict=True):
        flagged = [name for name, cell in zip(grid.full_header, row, strict=True) if cell.is_flagged]
        values = [found.get(part) or "" for found, parts in zip(cells, used, strict=True) for part in ("mean", *parts)]
        writer.writerow([grid.title, *values, "; ".join(flagged)])
    return target.getvalue().rstrip("\n")


def _parts(cell: Cell, is_number: bool) -> dict[str, str | None]:
    """{"mean": "11.60", "sd": "1.10", ...}; what is no number, whole."""
    found = NUMBER.fullmatch(cell.text) if is_number else None
    return found.groupdict() if found else {"mean": cell.text}


FIRST_NUMBER = re.compile(r"[<>]?(?P<number>[+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?)")
IN_A_NAME = re.compile(r"(\d+(?:\.\d+)?)")
NO_VALUE = ("", "-", "missing")


def places(texts: Sequence[str]) -> list[int | None]:
    """The place of each text of a column in ascending order, from 0, equal ones alike; None: it says no value.

    By the number that each begins with ("12.49±0.07", "+1.23 (n 1)", "<0.001"); where one begins with none, as names:
    "beta 2" before "beta 16".
    """
    known = [text for text in texts if text not in NO_VALUE]
    numbers = [FIRST_NUMBER.match(text) for text in known]
    keys: list[Any] = [float(found["number"]) for found in numbers if found]
    if len(keys) < len(known):
        keys = [_as_name(text) for text in known]
    place = {key: index for index, key in enumerate(sorted(set(keys)))}
    found_keys = iter(keys)
    return [None if text in NO_VALUE else place[next(found_keys)] for text in texts]


def _as_name(text: str) -> tuple[tuple[float, str], ...]:
    """Its words and numbers in turn, so that numbers compare as numbers."""
    parts = IN_A_NAME.split(text)
    return tuple((float(part), "") if index % 2 else (-1.0, part.casefold()) for index, part in enumerate(parts))


def as_html(grid: Grid) -> str:
    """A `table` element; `page` makes a document of some."""
    above = "".join(f'<th class="g" colspan="{span}">{html.escape(title)}</th>' for title, span in grid.groups)
    head = "".join(f"<th{_number(i, grid)}>{html.escape(name)}</th>" for i, name in enumerate(grid.header))
    cells = ([_marked(cell, "<b>", "</b>", html.escape) for cell in row] for row in grid.rows)
    rows = ("".join(f"<td{_number(i, grid)}>{text}</td>" for i, text in enumerate(row)) for row in cells)
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    notes = "".join(f"<p>{html.escape(note)}</p>" for note in grid.notes)
    said = "<br>".join(map(html.escape, (grid.title, *grid.heads)))
    top = f"<caption>{said}</caption>\n<thead>{above and f'<tr>{above}</tr>'}<tr>{head}</tr></thead>"
    return f"<table>\n{top}\n<tbody>\n{body}\n</tbody>\n</table>\n{notes}"


STYLE = (
    "body{font:15px/1.45 system-ui,sans-serif;margin:2em;color:#1a1a1a}"
    "table{border-collapse:collapse;margin:1.5em 0 .3em;font-size:.85em}"
    "caption{text-align:left;font-weight:600;padding-bottom:.4em}"
    "th,td{padding:.2em .6em;white-space:nowrap;border-top:1px solid #ddd;text-align:left}"
    "thead th{border-top:2px solid #333;border-bottom:1px solid #333}"
    "th.g{text-align:center;border-bottom:1px solid #999}th.n{text-align:right}"
    "td.n{text-align:right;font-variant-numeric:tabular-nums}p{margin:.2em 0;font-size:.9em;color:#444}"
)


def page(title: str, tables: Sequence[str]) -> str:
    """One self-contained HTML document."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{STYLE}</style></head>\n<body>\n" + "\n".join(tables) + "\n</body></html>"
    )


def _number(column: int, grid: Grid) -> str:
    return "" if column < grid.names else ' class="n"'


def _marked(cell: Cell, before: str, after: str, escape: Callable[[str], str] = str) -> str:
    text = escape(cell.text + (DAGGER if cell.is_flagged else ""))
    return f"{before}{text}{after}" if cell.is_best else text


TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"$<$", ">": r"$>$", "±": r"$\pm$", "↑": r"$\uparrow$",
    "↓": r"$\downarrow$", "−": "$-$", "·": r"$\cdot$", "√": r"$\surd$", "β": r"$\beta$", "α": r"$\alpha$",
    "Δ": r"$\Delta$",
    DAGGER: r"$^\dagger$",
}  # fmt: skip


def _tex(text: str) -> str:
    return "".join(TEX.get(character, character) for character in text)


def one(render: Callable[[Grid], str]) -> Callable[[Sequence[Grid]], str]:
    """Tables one after the other, an empty line between them."""
    return lambda grids: "\n\n".join(map(render, grids))


FORMATS: dict[str, Callable[[Sequence[Grid]], str]] = {
    "text": one(as_text),
    "md": one(as_markdown),
    "tex": one(as_tex),
    "csv": one(as_csv),
    "html": lambda grids: page("; ".join(grid.title for grid in grids), [as_html(grid) for grid in grids]),
}
