"""A report as one HTML file that needs nothing else: text, tables, figures, pictures, facts and a table of contents.

Figures are inlined as SVG, pictures as data, so that the file can be mailed, archived with a sweep and printed. The
templates beside this module escape every text: `page.html.j2`, its style `page.css.j2` and its one script `page.js.j2`,
which sorts columns and opens rows; without it everything is there all the same. No other script runs (the page's policy
names ours by its hash) and nothing is loaded. A section's parts are plain values:

- `str`: a paragraph,
- `formats.Grid`: a table,
- `Plot`: a matplotlib figure with a title that says what it found, and a caption,
- `PagePicture`: the bytes of a PNG with a caption,
- `RunCard`: what is behind a row of a table, which leads there: its runs, where MLflow has them, their pictures,
- `Facts`: names and values, nested as they come (a configuration, an environment, a cost).
"""

import base64
import hashlib
import os
import platform
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from kdam_ray.machine import usable_cpus
from kdam_ray.report.drawing.plots import BLACK, BLUE, GREY, GRID, PALE, PAPER, VERMILLION, Plot, as_svg
from kdam_ray.report.formats import Grid
from kdam_ray.report.formats import places as places_of

PACKAGES = ("torch", "torchvision", "timm", "ray", "optuna", "mlflow", "numpy")
PNG = b"\x89PNG\r\n\x1a\n"
SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
CSS_PIXELS = 96 / 72  # per point
# colours of a drawing that are the page's on the page, so that dark follows
OF_THE_PAGE = {
    BLUE.lower(): "var(--blue)",
    VERMILLION.lower(): "var(--vermillion)",
    BLACK: "currentColor",
    PAPER: "var(--ground)",
    GRID: "var(--grid)",
    GREY: "var(--soft)",
    PALE: "var(--pale)",
}
COLOUR = re.compile("|".join(OF_THE_PAGE), re.IGNORECASE)


@dataclass(frozen=True)
class PagePicture:
    """An image.

    Attributes:
        png: the bytes of a PNG file.
        caption: below it; its text for those who cannot see it, too.
    """

    png: bytes
    caption: str


@dataclass(frozen=True)
class Facts:
    """Names and values, folded under their title.

    Attributes:
        title: what they are of.
        values: mappings and sequences in it are shown in turn, to any depth.
        is_open: unfolded to begin with (on paper always).
    """

    title: str
    values: Mapping[str, Any]
    is_open: bool = False


@dataclass(frozen=True)
class RunLine:
    """A run, and where MLflow has it.

    Attributes:
        run_id: of the run.
        mlflow_run: MLflow's id; "": not known.
        address: of its page in MLflow; "": no server has one.
    """

    run_id: str
    mlflow_run: str = ""
    address: str = ""


@dataclass(frozen=True)
class RunCard:
    """What is behind a row: its runs and what they predict, folded under the row's name.

    Attributes:
        title: names of the row.
        run_ids: as the row's `Grid.runs` has them.
        runs: the same, with MLflow's.
        pictures: of what they predict.
        is_open: unfolded to begin with (on paper always).
    """

    title: str
    run_ids: tuple[str, ...]
    runs: tuple[RunLine, ...]
    pictures: tuple[PagePicture, ...] = ()
    is_open: bool = False


Part = str | Grid | Plot | PagePicture | RunCard | Facts
KINDS = {
    "paragraph": str, "table": Grid, "plot": Plot, "picture": PagePicture, "card": RunCard, "facts": Facts,
}  # fmt: skip


@dataclass(frozen=True)
class Section:
    """A heading, in the table of contents too, and what stands under it."""

    title: str
    parts: tuple[Part, ...]


def report_page(title: str, sections: Sequence[Section]) -> str:
    """One self-contained HTML document, readable in light and dark and on paper; the same text for the same sections.

    Args:
        title: of the page.
        sections: in order.

    Raises:
        ValueError: a picture's bytes are no PNG.
        TypeError: a section holds something else than parts.
    """
    cards = [part for section in sections for part in section.parts if isinstance(part, RunCard)]
    anchors = {card.run_ids: f"behind-{number}" for number, card in enumerate(cards, start=1)}
    script = _templates().get_template("page.js.j2").render()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = _templates().get_template("page.html.j2")
    return page.render(
        title=title, sections=sections, anchors=anchors, script=script, script_hash=f"sha256-{digest}"
    )  # fmt: skip


@cache
def _templates() -> Environment:
    found = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined,
        keep_trailing_newline=True,
    )  # fmt: skip
    found.filters |= {
        "kind": _kind, "places": _places, "drawn": as_svg, "inline": inline_svg, "png": _png, "pairs": _pairs,
    }  # fmt: skip
    found.tests |= {"nothing": _is_nothing, "listed": _is_listed, "nested": _is_nested}
    return found


def environment() -> dict[str, Any]:
    """What the numbers of a report hang on besides code and configuration: Python, system, CPU, GPUs, packages."""
    import torch

    versions = {package.name: package.version for package in metadata.distributions()}
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": {"model": _cpu_model(), "logical cores": os.cpu_count(), "usable by this process": usable_cpus()},
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        "packages": {name: versions[name] for name in PACKAGES if name in versions},
    }


def _cpu_model() -> str:
    """The processor as Linux names it, else as Python does."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, None) or platform.processor() or platform.machine()


# ------------------------------------------------------------------------------------------- what the template asks for
def _kind(part: Part) -> str:
    for kind, classes in KINDS.items():
        if isinstance(part, classes):
            return kind
    raise TypeError(f"a section holds {', '.join(one.__name__ for one in KINDS.values())}, not {type(part).__name__}")


def _places(grid: Grid) -> list[list[int | None]]:
    """The places of the cells of each column, see `formats.places`."""
    return [places_of([row[column].text for row in grid.rows]) for column in range(len(grid.header))]


def _png(picture: PagePicture) -> str:
    """The picture as the address of its own data."""
    if not picture.png.startswith(PNG):
        raise ValueError(f"picture {picture.caption!r}: the bytes are no PNG file")
    return f"data:image/png;base64,{base64.b64encode(picture.png).decode()}"


def _pairs(values: Mapping[Any, Any] | Iterable[Any]) -> list[tuple[Any, Any]]:
    """Names and values; those of a sequence are numbered."""
    return list(values.items() if isinstance(values, Mapping) else enumerate(values, start=1))


def _is_listed(value: Any) -> bool:
    return isinstance(value, list | tuple | set | frozenset)


def _is_nothing(value: Any) -> bool:
    return value is None or ((isinstance(value, str | Mapping) or _is_listed(value)) and not value)


def _is_nested(value: Any) -> bool:
    """Whether one row cannot show it: a mapping, or a sequence of mappings or sequences, unless it is empty."""
    if isinstance(value, Mapping):
        return bool(value)
    return _is_listed(value) and any(isinstance(one, Mapping) or _is_listed(one) for one in value)


def inline_svg(svg: str, *, prefix: str, label: str) -> str:
    """An SVG document as an element of a page.

    Every id, and every reference to one, gets the prefix, so that two drawings do not take each other's clips and
    markers. Style sheets go, because inside a page they would hold for all of it (matplotlib's one rule moves to the
    root), and so do scripts and handlers. Ink, paper and greys become the page's own (`OF_THE_PAGE`).
    """
    root = ElementTree.fromstring(svg)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in {f"{{{SVG}}}{name}" for name in ("style", "script", "metadata")}:
                parent.remove(child)
    for element in root.iter():
        for name, value in list(element.attrib.items()):
            if name.startswith("on"):
                del element.attrib[name]
            else:
                element.set(name, _coloured(name, _prefixed(name, value, prefix)))
    width, height = (float(root.attrib.pop(name).removesuffix("pt")) * CSS_PIXELS for name in ("width", "height"))
    root.attrib |= {"role": "img", "aria-label": label}
    root.set(
        "style",
        f"width:{width:.0f}px;aspect-ratio:{width:.0f}/{height:.0f};fill:currentColor;"  # black is left out in it
        "stroke-linejoin:round;stroke-linecap:butt",
    )
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", XLINK)
    return ElementTree.tostring(root, encoding="unicode")


def _coloured(name: str, value: str) -> str:
    """A style with the page's colours."""
    return COLOUR.sub(lambda found: OF_THE_PAGE[found[0].lower()], value) if name == "style" else value


def _prefixed(name: str, value: str, prefix: str) -> str:
    """The value of an attribute with the prefix before each id it names."""
    if name == "id":
        return f"{prefix}-{value}"
    if name in ("href", f"{{{XLINK}}}href"):
        return value.replace("#", f"#{prefix}-", 1) if value.startswith("#") else value
    return value.replace("url(#", f"url(#{prefix}-")
