"""Every format of a table, letter by letter: python -m pytest tests/report/test_formats.py"""

import csv
import io
from html.parser import HTMLParser

import pytest

from kdam_ray.paper import TABLES, printed_deltas
from kdam_ray.report.formats import FORMATS, Cell, Grid, as_csv, as_html, as_markdown, as_tex, as_text, places
from kdam_ray.report.printed import document, grid

SMALL = Grid(
    "Swin_t & more", ("model", "mIoU ↑", "rmse ↓"), 1,
    (
        (Cell("a|b"), Cell("12.30 ± 0.10", is_best=True), Cell("0.5")),
        (Cell("<c>"), Cell("9.00"), Cell("0.41", True, True)),
    ),
    ("† see 50 %.",),
)  # fmt: skip


def test_text():
    assert as_text(SMALL).splitlines() == [
        "Swin_t & more",
        "model          mIoU ↑   rmse ↓",
        "a|b    *12.30 ± 0.10*      0.5",
        "<c>              9.00  *0.41†*",
        "† see 50 %.",
    ]


def test_markdown():
    assert as_markdown(SMALL).splitlines() == [
        "**Swin_t & more**",
        "",
        "| model | mIoU ↑ | rmse ↓ |",
        "| --- | ---: | ---: |",
        "| a\\|b | **12.30 ± 0.10** | 0.5 |",
        "| <c> | 9.00 | **0.41†** |",
        "",
        "† see 50 %.",
    ]


def test_tex():
    assert as_tex(SMALL).splitlines() == [
        r"\begin{table}",
        r"\centering",
        r"\caption{Swin\_t \& more}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        r"\begin{tabular}{lrr}",
        r"\toprule",
        r"model & mIoU $\uparrow$ & rmse $\downarrow$ \\",
        r"\midrule",
        r"a|b & \textbf{12.30 $\pm$ 0.10} & 0.5 \\",
        r"$<$c$>$ & 9.00 & \textbf{0.41$^\dagger$} \\",
        r"\bottomrule",
        r"\end{tabular}}",
        r"\par\footnotesize $^\dagger$ see 50 \%.",
        r"\end{table}",
    ]


def test_csv_keeps_numbers_numbers():
    rows = list(csv.reader(io.StringIO(as_csv(SMALL))))
    assert rows == [
        ["table", "model", "mIoU ↑", "mIoU ↑ sd", "rmse ↓", "flagged"],
        ["Swin_t & more", "a|b", "12.30", "0.10", "0.5", ""],
        ["Swin_t & more", "<c>", "9.00", "", "0.41", "rmse ↓"],
    ]


def test_csv_takes_every_kind_of_number_apart():
    cells = ("+0.44 [-5.37, +6.25]", "-1.20 (n 1)", "11.72±0.07 (n 2)", "missing", "6 (paper 600)")
    grid = Grid("T", ("name", "value"), 1, tuple((Cell("6 (paper 600)"), Cell(text)) for text in cells))
    header, *rows = csv.reader(io.StringIO(as_csv(grid)))
    assert header == ["table", "name", "value", "value sd", "value low", "value high", "value n", "flagged"]
    assert [row[2:7] for row in rows] == [
        ["+0.44", "", "-5.37", "+6.25", ""], ["-1.20", "", "", "", "1"], ["11.72", "0.07", "", "", "2"],
        ["missing", "", "", "", ""], ["6 (paper 600)", "", "", "", ""],
    ]  # fmt: skip
    assert rows[0][1] == "6 (paper 600)"


def test_places_follow_numbers_then_names_and_what_says_no_value_has_none():
    numbers = ["12.49±0.07", "-", "+1.23 (n 1)", "9", "missing", "<0.001", "12.49 ± 0.10", "-3", "", "+0.44 [-5, 6]"]
    assert places(numbers) == [5, None, 3, 4, None, 1, 5, 0, None, 2]
    assert places(["beta 16", "beta 0.5", "beta 0.25", "T 3", "-", "β 8.07 T 0.5"]) == [2, 1, 0, 3, None, 4]
    assert places(["6 (paper 600)", "12 (paper 600)"]) == [0, 1]
    assert places([]) == []


def test_what_must_be_known_first_stands_above_the_table():
    grid = Grid("T", ("a",), 1, ((Cell("x"),),), ("below",), heads=("nobody < learnt",))
    assert as_text(grid).splitlines() == ["T", "nobody < learnt", "a", "x", "below"]
    assert as_markdown(grid).splitlines()[:4] == ["**T**", "", "nobody < learnt", ""]
    assert r"\caption{T nobody $<$ learnt}" in as_tex(grid)
    assert "<caption>T<br>nobody &lt; learnt</caption>" in as_html(grid)


class Cells(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.found = [], []

    def handle_starttag(self, tag, attrs):
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if {"td", "th", "caption", "p"} & set(self.open):
            self.found.append((self.open[-1], data))


def test_html_is_well_formed_and_escaped():
    parser = Cells()
    parser.feed(as_html(SMALL))
    assert parser.open == []
    assert ("td", "<c>") in parser.found
    assert ("b", "0.41†") in parser.found
    assert ("caption", "Swin_t & more") in parser.found
    page = Cells()
    page.feed(FORMATS["html"]([SMALL, SMALL]).removeprefix("<!doctype html>\n"))
    assert page.open == []
    assert page.found.count(("td", "a|b")) == 2


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match="2 cells, the header 1"):
        Grid("x", ("a",), 1, ((Cell("1"), Cell("2")),))
    with pytest.raises(ValueError, match="runs of 2 rows, there are 1"):
        Grid("x", ("a",), 1, ((Cell("1"),),), runs=((), ()))


def test_the_papers_deltas_are_recomputed_and_flagged():
    flagged = sum(cell.is_flagged for table in TABLES.values() for row in grid(table).rows for cell in row)
    assert flagged == sum(not delta.follows for delta in printed_deltas())
    rows = {(row[0].text, row[1].text): row for row in grid(TABLES["1"]).rows}
    printed, computed = rows["MT+KDAM", "hrnet18"][-2:]
    assert (printed.text, printed.is_flagged, computed.text) == ("-0.73", True, "-1.53")
    assert rows["MT", "hrnet18"][2].text == "4.52"
    assert rows["MTFormer", "swin_?"][-1].text == ""


def test_the_document_has_every_row_and_number():
    for table, found in zip(TABLES.values(), document(list(TABLES.values())), strict=True):
        assert (found["table"], found["dataset"], len(found["rows"])) == (table.number, table.dataset, len(table.rows))
    row = document([TABLES["1"]])[0]["rows"][2]
    assert row["metrics"] == {"semseg/mIoU": 36.85, "depth/rmse": 0.625, "normals/mErr": 21.04, "edge/odsF": 76.1}
    assert row["delta_mt"]["paper_printed"] == -0.73
    assert row["delta_mt"]["paper_recomputed"] == pytest.approx(-1.53, abs=0.005)
    assert row["delta_mt"]["follows"] is False
    assert (row["params"], row["gmacs"]) == (4.52, 17.59)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_holds_every_printed_number(name):
    text = FORMATS[name]([grid(table) for table in TABLES.values()])
    for table in TABLES.values():
        for row in table.rows:
            assert all(value in text for value in row.printed.split())
