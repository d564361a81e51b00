"""Grids fit a terminal without losing a digit; in a pipe they are plain text.

python -m pytest tests/report/test_terminal.py
"""

import re
import sys

import pytest

from kdam_ray.report.formats import Cell, Grid
from kdam_ray.report.terminal import shown, widths

ROWS = (("107f2c83e85f", "alpha=0.7023 beta=8.066 temperature=0.5406", "finished", "12.68", "-18.53"),)
HEADER = ("run_id", "member", "state", "SemSeg mIoU ↑ %", "Δ teacher ↑ %")
GRID = Grid("Members", HEADER, 3, tuple(tuple(map(Cell, row)) for row in ROWS), ("A note.",))
COLUMNS = list(zip(HEADER, *ROWS, strict=True))


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_numbers_and_ids_are_never_broken(width):
    found = widths(COLUMNS, 3, width)
    assert sum(found) + 2 * (len(found) - 1) <= width
    assert found[0] >= 12
    assert found[2] >= 8
    assert (found[3], found[4]) >= (6, 7)


def test_where_there_is_room_nothing_wraps():
    assert widths(COLUMNS, 3, 200) == [12, 42, 8, 15, 13]


def test_a_pipe_gets_plain_text(monkeypatch, capsys):
    text = shown([GRID, Grid("Next", (), 0, (), ("  kdam runs",))])
    assert text.splitlines()[1].split("  ")[0] == "run_id"
    assert text.endswith("A note.\n\nNext\n  kdam runs")
    assert "\x1b" not in text


def test_a_terminal_gets_colours_and_its_own_width(monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    text = shown([GRID])
    assert "107f2c83e85f" in text
    assert "\x1b[32mfinished" in text
    assert max(map(len, re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines())) <= 60
