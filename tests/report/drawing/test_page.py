"""The report page: one file that needs nothing else, no text becomes markup, no drawing takes another's ids.

python -m pytest tests/report/drawing/test_page.py
"""

import base64
import functools
import hashlib
import inspect
import io
import re
import tomllib
from html.parser import HTMLParser
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from PIL import Image

from kdam_ray.report.drawing.curves import learning_curves
from kdam_ray.report.drawing.page import (
    PACKAGES,
    Facts,
    PagePicture,
    RunCard,
    RunLine,
    Section,
    environment,
    inline_svg,
    report_page,
)
from kdam_ray.report.drawing.plots import Plot
from kdam_ray.report.formats import Cell, Grid
from kdam_ray.tasks import DATASETS

EVIL = "<script>alert(\"x\")</script> & 'quoted'"
TASKS = DATASETS["rooms"].tasks
VOID = {"meta", "img", "br", "hr", "link", "input"}
REFERENCES = ("src", "href", "xlink:href", "srcset", "action", "data")


class Reading(HTMLParser):
    """Elements, ids, references and text of a page; fails on a tag that closes what is not open."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.ids, self.references, self.said, self._open = [], [], [], [], []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id"]
        self.references += [value for name, value in attrs if name in REFERENCES]
        self.references += [f"#{found}" for _, value in attrs for found in re.findall(r"url\(#([^)]*)\)", value or "")]

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if not self._open or self._open[-1] not in ("style", "script"):
            self.said.append(data)

    @property
    def text(self):
        return "".join(self.said)

    def count(self, tag):
        return sum(name == tag for name, _ in self.elements)


def drawing(name="no KD", caption="Learning curves", title=""):
    history = {"val/semseg/mIoU": [(1, 2.0), (2, 3.0)], "train/loss": [(1, 1.0)]}
    return Plot("curves", learning_curves({name: history}, TASKS), caption, title)


def picture():
    return Image.new("RGB", (8, 6), (200, 30, 30))


def png():
    target = io.BytesIO()
    picture().save(target, format="PNG")
    return target.getvalue()


@functools.cache
def full_page():
    grid = Grid(
        "A table", ("model", "mIoU"), 1, ((Cell("MT"), Cell("12.5", is_best=True, is_flagged=True)),), ("a note",)
    )
    return report_page(
        "Sweep",
        [
            Section("Words and numbers", ("A paragraph.", grid)),
            Section("Drawn", (drawing(), drawing(), drawing(caption="again"))),
            Section("Seen", (PagePicture(png(), "one"), PagePicture(png(), "another one"))),
            Section("Made", (Facts("Run", {"seed": 0}),)),
        ],
    )


def test_a_page_has_everything_and_needs_nothing():
    page = full_page()
    read = Reading(page)
    assert (read.count("svg"), read.count("img"), read.count("details"), read.count("script"), read.count("link")) == (
        3,
        2,
        1,
        1,
        0,
    )
    assert all(reference.startswith(("#", "data:image/png;base64,")) for reference in read.references)
    assert set(re.findall(r"https?://[^\s\"'<>)]*", page)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    assert "@import" not in page
    assert "src" not in next(attrs for tag, attrs in read.elements if tag == "script")
    for said in (
        "A paragraph.",
        "A table",
        "12.5†",
        "a note",
        "Learning curves",
        "SemSeg mIoU (%) ↑",
        "another one",
        "seed",
    ):
        assert said in read.text


def test_ids_are_unique_and_every_reference_has_its_target():
    read = Reading(full_page())
    assert len(read.ids) == len(set(read.ids)) > 50
    local = {reference[1:] for reference in read.references if reference.startswith("#")}
    assert local <= set(read.ids)
    assert len(local) > 10  # clips and markers, not the contents alone


def test_the_contents_name_every_section_in_order():
    read = Reading(full_page())
    links = [attrs["href"] for tag, attrs in read.elements if tag == "a"]
    assert [link for link in links if link.startswith("#section")] == [f"#section-{n}" for n in (1, 2, 3, 4)]
    assert [attrs.get("id") for tag, attrs in read.elements if tag == "section"] == [
        f"section-{n}" for n in (1, 2, 3, 4)
    ]
    assert "nav" not in [tag for tag, _ in Reading(report_page("One", [Section("Alone", ("text",))])).elements]


def test_no_text_becomes_markup():
    grid = Grid(EVIL, (EVIL,), 1, ((Cell(EVIL),),), (EVIL,), heads=(EVIL,), runs=((EVIL,),))
    card = RunCard(EVIL, (EVIL,), (RunLine(EVIL, EVIL),))
    facts = Facts(EVIL, {EVIL: EVIL, "nested": {EVIL: [EVIL, {EVIL: EVIL}]}})
    page = report_page(
        EVIL,
        [
            Section(EVIL, (EVIL, grid, facts, PagePicture(png(), EVIL), drawing(EVIL, EVIL, EVIL))),
            Section("b", (card,)),
        ],
    )
    read = Reading(page)
    assert page.count("<script") == 1  # ours
    # title, h1, contents, h2, p; table; facts; picture; legend, title and caption; row with its run
    assert read.text.count(EVIL) == 5 + 5 + 7 + 1 + 3 + 3
    images = [attrs for tag, attrs in read.elements if tag in ("img", "svg")]
    assert [attrs.get("alt", attrs.get("aria-label")) for attrs in images] == [EVIL, EVIL]


def test_no_other_script_may_run_and_nothing_may_be_loaded():
    page = full_page()
    policy = next(attrs["content"] for tag, attrs in Reading(page).elements if attrs.get("http-equiv"))
    script = page.partition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy == f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def test_a_row_leads_to_its_runs_and_says_its_place_in_each_column():
    rows = tuple((Cell(name), Cell(value)) for name, value in (("beta 16", "9.50"), ("beta 2", "-"), ("gone", "12±1")))
    grid = Grid("T", ("", "mIoU ↑"), 1, rows, runs=(("a", "b"), ("c",), ("c",)), heads=("nobody has learnt that",))
    cards = (
        RunCard("beta 16", ("a", "b"), (RunLine("a", "m1", "http://x/#/runs/m1"), RunLine("b", "m2"))),
        RunCard("beta 2", ("c",), (RunLine("c"),), (PagePicture(png(), "what c predicts"),)),
    )
    read = Reading(report_page("x", [Section("y", (grid, *cards))]))
    links = [attrs["href"] for tag, attrs in read.elements if tag == "a"]
    assert links == ["#behind-1", "#behind-2", "#behind-2", "http://x/#/runs/m1"]
    assert {"behind-1", "behind-2"} <= set(read.ids)
    places = [attrs.get("data-place") for tag, attrs in read.elements if "scope" in attrs or tag == "td"]
    assert places[2:] == ["1", "0", "0", None, "2", "1"]
    first = [attrs["data-first"] for tag, attrs in read.elements if "data-first" in attrs]
    assert first == ["ascending", "descending"]
    for said in ("nobody has learnt that", "MLflow run m1", "MLflow run m2", "what c predicts", "No picture"):
        assert said in read.text


def test_a_picture_comes_back_pixel_for_pixel():
    sources = [attrs["src"] for tag, attrs in Reading(full_page()).elements if tag == "img"]
    assert sources
    for source in sources:
        with Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) as image:
            assert image.tobytes() == picture().tobytes()


def test_bytes_that_are_no_png_are_refused():
    with pytest.raises(ValueError, match="picture 'a map': the bytes are no PNG"):
        report_page("x", [Section("y", (PagePicture(b"GIF89a", "a map"),))])
    with pytest.raises(TypeError, match="RunCard, Facts, not dict"):
        report_page("x", [Section("y", ({"a": 1},))])


def test_the_same_sections_make_the_same_page():
    assert full_page() == full_page.__wrapped__()


def test_style_scripts_and_handlers_of_an_svg_stay_out_and_labels_that_look_like_ids_stay_themselves():
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" width="72pt" height="36pt" viewBox="0 0 72 36">'
        '<style>*{fill:red}</style><script>alert(1)</script><g id="a" onclick="alert(2)"/><use href="#a"/>'
        '<g clip-path="url(#a)"/><text>id="a" url(#a)</text></svg>'
    )
    inlined = inline_svg(svg, prefix="p", label="what")
    assert "style>" not in inlined
    assert "alert" not in inlined
    for kept in (
        'id="p-a"',
        'href="#p-a"',
        'clip-path="url(#p-a)"',
        'viewBox="0 0 72 36"',
        "width:96px",
        '>id="a" url(#a)</text>',
    ):
        assert kept in inlined


def test_facts_are_shown_to_any_depth_and_what_is_empty_is_none():
    values = {
        "lr": 0.000123456789, "bool": True, "nothing": None, "list": [], "tuple": (1, 2.5), "empty": {},
        "distill": {"beta": 1.0, "reading": {"depth": "spatial"}}, "cohorts": [{"members": 3}, {"members": 2}],
    }  # fmt: skip
    read = Reading(report_page("x", [Section("y", (Facts("Run", values, is_open=True), Facts("Place", {})))]))
    text = " ".join(" ".join(read.said).split())
    for said in (
        "lr 0.000123457",
        "bool yes",
        "nothing none",
        "list none",
        "tuple 1 , 2.5",
        "empty none",
        "beta 1",
        "depth spatial",
    ):
        assert said.replace(" , ", ", ") in text
    assert next(attrs for tag, attrs in read.elements if tag == "details") == {"open": None}
    assert read.count("details") == 7  # Run, distill, reading, cohorts, 1, 2, Place
    assert text.count("members") == 2


def test_the_environment_names_what_numbers_hang_on():
    found = environment()
    assert set(found["packages"]) <= set(PACKAGES)
    assert {"torch", "timm", "ray", "optuna", "mlflow", "numpy"} <= set(found["packages"])
    assert re.fullmatch(r"3\.\d+\.\d+\S*", found["python"])
    assert found["cpu"]["model"]
    assert found["cpu"]["logical cores"] >= 1
    assert isinstance(found["gpus"], list)


def test_the_template_is_packaged_with_its_module():
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())
    patterns, folder = project["tool"]["setuptools"]["package-data"]["*"], Path(inspect.getfile(report_page)).parent
    assert sorted(path.name for pattern in patterns for path in folder.glob(pattern)) == [
        "page.css.j2",
        "page.html.j2",
        "page.js.j2",
    ]


def test_ink_and_paper_of_a_drawing_are_those_of_the_page():
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" width="72pt" height="36pt" viewBox="0 0 72 36">'
        '<g style="fill: #FFFFFF; stroke: #000000"/><path style="stroke: #0072b2"/><path style="stroke: #123456"/>'
        "<text>#000000</text></svg>"
    )
    inlined = inline_svg(svg, prefix="p", label="what")
    assert 'style="fill: var(--ground); stroke: currentColor"' in inlined
    assert 'style="stroke: var(--blue)"' in inlined
    assert 'style="stroke: #123456"' in inlined
    assert ">#000000</text>" in inlined
    assert "fill:currentColor" in inlined  # of what has no colour of its own


def test_a_plain_figure_of_matplotlib_is_welcome():
    figure = Figure(figsize=(2, 1))
    figure.subplots().plot([1, 2])
    assert Reading(report_page("x", [Section("y", (Plot("plain", figure, "plain"),))])).count("svg") == 1
