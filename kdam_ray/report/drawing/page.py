"""A report as one HTML file that needs nothing else: text, tables, figures, pictures and facts, with a table of
contents.

Figures are inlined as SVG, pictures as data, so that the file can be mailed, archived with a sweep and printed. A
section's parts are plain values:

- `str`: a paragraph,
- `formats.Grid`: a table,
- `Drawing`: a matplotlib figure with a caption,
- `Picture`: a PIL image or the bytes of a PNG, with a caption,
- `Facts`: names and values, nested as they come (a configuration, an environment, a cost).
"""

import base64
import html
import io
import os
import platform
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from PIL.Image import Image

from kdam_ray.report.drawing.plots import as_svg
from kdam_ray.report.formats import Grid, as_html

PACKAGES = ("torch", "torchvision", "timm", "ray", "optuna", "mlflow", "numpy")
PNG = b"\x89PNG\r\n\x1a\n"
SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
CSS_PIXELS = 96 / 72  # per point


@dataclass(frozen=True)
class Drawing:
    """A figure.

    Attributes:
        figure: what `report.plots` and `report.curves` draw.
        caption: below it; its text for those who cannot see it, too.
    """

    figure: Figure
    caption: str


@dataclass(frozen=True)
class Picture:
    """An image.

    Attributes:
        image: PIL's, or the bytes of a PNG file.
        caption: below it.
        pixelated: enlarged without smoothing, as small maps of labels want it.
    """

    image: Image | bytes
    caption: str
    pixelated: bool = False


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


Part = str | Grid | Drawing | Picture | Facts


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
    """
    contents = "".join(f'<li><a href="#section-{n}">{_text(s.title)}</a></li>' for n, s in enumerate(sections, start=1))
    nav = f'<nav aria-label="Contents"><ol>{contents}</ol></nav>\n' if len(sections) > 1 else ""
    body = "\n".join(_section(number, section) for number, section in enumerate(sections, start=1))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_text(title)}</title>\n<style>{STYLE}</style></head>\n"
        f"<body>\n<h1>{_text(title)}</h1>\n{nav}<main>\n{body}\n</main>\n</body></html>\n"
    )


def environment() -> dict[str, Any]:
    """What the numbers of a report hang on besides code and configuration: Python, system, CPU, GPUs, packages."""
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": {"model": _cpu_model(), "logical cores": os.cpu_count(), "usable by this process": _usable_cpus()},
        "gpus": _gpus(),
    }
    return found | {"packages": {name: version for name in PACKAGES if (version := _version(name))}}


def _cpu_model() -> str:
    """As Linux names it, else what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = [
        value.strip() for name, _, value in (line.partition(":") for line in lines) if name.strip() == "model name"
    ]
    return named[0] if named else platform.processor() or platform.machine()


def _usable_cpus() -> int | None:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _gpus() -> list[str]:
    import torch

    return (
        [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        if torch.cuda.is_available()
        else []
    )


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


# ---------------------------------------------------------------------------------------------------------------- parts
def _text(text: str) -> str:
    return html.escape(text)


def _section(number: int, section: Section) -> str:
    parts = "\n".join(_part(part, f"s{number}p{place}") for place, part in enumerate(section.parts, start=1))
    return f'<section id="section-{number}">\n<h2>{_text(section.title)}</h2>\n{parts}\n</section>'


def _part(part: Part, prefix: str) -> str:
    """HTML of one part; ids in it begin with the prefix."""
    match part:
        case str():
            return f"<p>{_text(part)}</p>"
        case Grid():
            return f'<div class="wide">{as_html(part)}</div>'
        case Drawing(figure, caption):
            return _captioned(inline_svg(as_svg(figure), prefix=prefix, label=caption), caption)
        case Picture():
            return _captioned(_picture(part), part.caption)
        case Facts(title, values, is_open):
            return f'<div class="facts">{_folded(title, _facts(values), is_open=is_open)}</div>'
    raise TypeError(f"a section holds paragraphs, Grid, Drawing, Picture and Facts, not {type(part).__name__}")


def _captioned(content: str, caption: str) -> str:
    return f"<figure>{content}<figcaption>{_text(caption)}</figcaption></figure>"


def _picture(picture: Picture) -> str:
    data = picture.image
    if isinstance(data, Image):
        target = io.BytesIO()
        data.save(target, format="PNG")
        data = target.getvalue()
    if not data.startswith(PNG):
        raise ValueError(f"picture {picture.caption!r}: the bytes are no PNG file")
    kind = ' class="pixelated"' if picture.pixelated else ""
    return f'<img{kind} alt="{_text(picture.caption)}" src="data:image/png;base64,{base64.b64encode(data).decode()}">'


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


# ---------------------------------------------------------------------------------------------------------------- facts
def _folded(title: str, content: str, *, is_open: bool) -> str:
    return f"<details{' open' if is_open else ''}><summary>{_text(title)}</summary>{content}</details>"


def _facts(values: Mapping[Any, Any]) -> str:
    """Plain values as rows of a table, nested ones folded below in their order."""
    plain = {name: value for name, value in values.items() if _is_plain(value)}
    rows = "".join(
        f'<tr><th scope="row">{_text(str(name))}</th><td>{_plain(value)}</td></tr>' for name, value in plain.items()
    )
    table = f"<table>{rows}</table>" if rows else ""
    nested = ((str(name), _nested(value)) for name, value in values.items() if not _is_plain(value))
    return table + "".join(_folded(name, content, is_open=True) for name, content in nested)


def _is_plain(value: Any) -> bool:
    """Whether one row can show it: no mapping, nor a sequence of mappings or sequences, unless it is empty."""
    if isinstance(value, Mapping):
        return not value
    return not (_is_sequence(value) and any(isinstance(one, Mapping) or _is_sequence(one) for one in value))


def _is_sequence(value: Any) -> bool:
    return isinstance(value, list | tuple | set | frozenset)


def _nested(value: Any) -> str:
    if not isinstance(value, Mapping):
        value = dict(enumerate(value, start=1))
    return _facts(value)


def _plain(value: Any) -> str:
    """Text of one value; what is empty is said to be none."""
    if value is None or ((isinstance(value, str | Mapping) or _is_sequence(value)) and not value):
        return '<span class="none">none</span>'
    if _is_sequence(value):
        return ", ".join(map(_plain, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return _text(f"{value:.6g}" if isinstance(value, float) else str(value))


STYLE = """
:root{color-scheme:light dark;--ink:#1a1a1a;--soft:#555;--line:#d5d5d5;--ground:#fff;--raised:#f6f6f4;--link:#0b5cad}
@media (prefers-color-scheme:dark){:root{--ink:#e8e6e3;--soft:#a8a5a0;--line:#44423f;--ground:#181816;--raised:#22211f;--link:#8ab8ec}}
*{box-sizing:border-box}
body{font:16px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif;color:var(--ink);background:var(--ground);
    max-width:112rem;margin:0 auto;padding:2rem 1.5rem 4rem}
h1{font-size:1.7rem;line-height:1.2;margin:0 0 1rem}
h2{font-size:1.25rem;margin:2.5rem 0 .6rem;padding-top:.6rem;border-top:1px solid var(--line)}
p{max-width:48rem;margin:.5rem 0}a{color:var(--link)}
nav ol{margin:0;padding:.7rem 1rem .7rem 2.4rem;background:var(--raised);border-radius:6px;columns:18rem}
nav,figure{max-width:76rem}
.wide{overflow-x:auto;margin:1rem 0;background:linear-gradient(90deg,var(--ground) 2rem,transparent) 0 0/2rem 100% no-repeat local,
    linear-gradient(270deg,var(--ground) 2rem,transparent) 100% 0/2rem 100% no-repeat local,
    linear-gradient(90deg,var(--line),transparent) 0 0/1rem 100% no-repeat scroll,
    linear-gradient(270deg,var(--line),transparent) 100% 0/1rem 100% no-repeat scroll}
.wide p{font-size:.85rem;color:var(--soft)}.wide table{font-size:.8rem}.wide th,.wide td{padding:.2rem .5rem}.wide td{white-space:nowrap}
th.g{text-align:center}th.n{text-align:right}
table{border-collapse:collapse;font-size:.9rem}caption{text-align:left;font-weight:600;padding-bottom:.4rem}
th,td{padding:.22rem .75rem;border-top:1px solid var(--line);text-align:left;vertical-align:top}
thead th{border-top:2px solid var(--ink);border-bottom:1px solid var(--ink);white-space:nowrap}
td.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
figure{margin:1.2rem 0}figure svg,figure img{display:block;max-width:100%;height:auto;background:#fff;border-radius:4px}
figure svg{padding:6px}figure img{min-width:min(100%,16rem)}img.pixelated{image-rendering:pixelated}
figcaption{max-width:48rem;margin-top:.4rem;font-size:.88rem;color:var(--soft)}
.facts details{margin:.3rem 0;padding:.1rem 0 .1rem .9rem;border-left:2px solid var(--line)}
.facts summary{cursor:pointer;font-weight:600;margin-left:-.2rem}.facts th{font-weight:400;color:var(--soft);white-space:nowrap}
.facts td{overflow-wrap:anywhere;font-variant-numeric:tabular-nums}.none{color:var(--soft);font-style:italic}
@media (max-width:48rem){figure{overflow-x:auto}figure svg{max-width:none}}
@media print{:root{--ink:#000;--soft:#333;--line:#bbb;--ground:#fff;--raised:#fff;--link:#000}body{font-size:10pt;max-width:none;padding:0}
section>h2{break-after:avoid}figure,tr{break-inside:avoid}.wide,figure{overflow:visible}figure svg{max-width:100%}
.wide table{font-size:8pt}thead th{white-space:normal}.wide th,.wide td{padding:.15rem .4rem}
details::details-content{content-visibility:visible;height:auto}details:not([open])>*{display:block}}
"""
