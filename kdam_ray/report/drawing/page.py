"""A report as one HTML file that needs nothing else: text, tables, figures, pictures, facts and a table of contents.

Figures are inlined as SVG, pictures as data, so that the file can be mailed, archived with a sweep and printed. The
template beside this module, `page.html.j2`, escapes every text. A section's parts are plain values:

- `str`: a paragraph,
- `formats.Grid`: a table,
- `Plot`: a matplotlib figure with a caption,
- `PagePicture`: the bytes of a PNG with a caption,
- `Facts`: names and values, nested as they come (a configuration, an environment, a cost).
"""

import base64
import os
import platform
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from kdam_ray.report.drawing.plots import Plot, as_svg
from kdam_ray.report.formats import Grid, as_html

PACKAGES = ("torch", "torchvision", "timm", "ray", "optuna", "mlflow", "numpy")
PNG = b"\x89PNG\r\n\x1a\n"
SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
CSS_PIXELS = 96 / 72  # per point


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


Part = str | Grid | Plot | PagePicture | Facts
KINDS = {"paragraph": str, "table": Grid, "plot": Plot, "picture": PagePicture, "facts": Facts}


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
    return _template().render(title=title, sections=sections)


@cache
def _template() -> Template:
    page = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined,
        keep_trailing_newline=True,
    )  # fmt: skip
    page.filters |= {
        "kind": _kind, "table": as_html, "drawn": as_svg, "inline": inline_svg, "png": _png, "pairs": _pairs,
    }  # fmt: skip
    page.tests |= {"nothing": _is_nothing, "listed": _is_listed, "nested": _is_nested}
    return page.get_template("page.html.j2")


def environment() -> dict[str, Any]:
    """What the numbers of a report hang on besides code and configuration: Python, system, CPU, GPUs, packages."""
    import torch

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = {package.name: package.version for package in metadata.distributions()}
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": {"model": _cpu_model(), "logical cores": os.cpu_count(), "usable by this process": usable},
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
    raise TypeError(f"a section holds paragraphs, Grid, Plot, PagePicture and Facts, not {type(part).__name__}")


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
    root), and so do scripts and handlers.
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
                element.set(name, _prefixed(name, value, prefix))
    width, height = (float(root.attrib.pop(name).removesuffix("pt")) * CSS_PIXELS for name in ("width", "height"))
    root.attrib |= {"role": "img", "aria-label": label}
    root.set(
        "style", f"width:{width:.0f}px;aspect-ratio:{width:.0f}/{height:.0f};stroke-linejoin:round;stroke-linecap:butt"
    )
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", XLINK)
    return ElementTree.tostring(root, encoding="unicode")


def _prefixed(name: str, value: str, prefix: str) -> str:
    """The value of an attribute with the prefix before each id it names."""
    if name == "id":
        return f"{prefix}-{value}"
    if name in ("href", f"{{{XLINK}}}href"):
        return value.replace("#", f"#{prefix}-", 1) if value.startswith("#") else value
    return value.replace("url(#", f"url(#{prefix}-")
