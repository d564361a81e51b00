"""Maps laid out as a picture: blocks of named cells, with what the colours mean beneath the image. Pillow alone.

Small maps are enlarged by whole factors without smoothing, so that their pixels can be seen; large ones are reduced.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from kdam_ray.data.colours import IGNORED, class_colours, depth_scale
from kdam_ray.tasks import Task

SIDE = 256  # longest side of a cell, pixels
MARGIN, GAP, LINE = 14, 6, 18
TEXT, SMALL, LARGE = 14, 12, 17  # sizes of letters
INK, PALE, DARK = "#767676", "#f2f2f2", "#404040"  # ink is read on white (4.5 : 1) and on a dark page (4 : 1) alike
PAPER = (118, 118, 118, 0)  # whatever page it lies on; of ink's colour, so that letters have no rim
SWATCH = 12
ELLIPSIS = "..."
KEY_WIDTH = 200  # of what the colours mean, at least
CAPTION_LINES = 2  # at most


@dataclass(frozen=True)
class Panel:
    """A map, coloured.

    Attributes:
        pixels: [H, W, 3] uint8; None: a gap.
        gap: why there is none.
        caption: above it.
        smooth: mean of the pixels where it is reduced (what has a meaning between two values), else the nearest.
    """

    pixels: np.ndarray | None
    gap: str = ""
    caption: str = ""
    smooth: bool = False


@dataclass(frozen=True)
class Legend:
    """What a task's colours mean.

    Attributes:
        task: whose.
        names: of its classes.
        labels: the classes that occur.
        limits: (nearest, farthest) of depth, metres.
    """

    task: Task
    names: Sequence[str]
    labels: Sequence[int] = ()
    limits: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True)
class Block:
    """One image with its maps.

    Attributes:
        title: above all.
        image: [H, W, 3] uint8, to the left of the first row; the legends stand beneath it.
        grid: rows of cells.
        rows: name of each row; "" where its cells have captions instead.
        legends: of every task.
        labelled: there are labels, so the legend says which grey does not count.
    """

    title: str
    image: np.ndarray
    grid: Sequence[Sequence[Panel]]
    rows: Sequence[str]
    legends: Sequence[Legend]
    labelled: bool = True


def draw_blocks(blocks: Sequence[Block], *, side: int = SIDE) -> Image.Image:
    """All blocks, one beneath the other, on transparent ground.

    Args:
        blocks: at least one.
        side: longest side of a cell, pixels.
    """
    drawn = [_draw_block(block, side) for block in blocks]
    return _stacked(drawn, max(picture.width for picture in drawn), gap=0)


def _stacked(parts: Sequence[Image.Image], width: int, gap: int) -> Image.Image:
    """One beneath the other, with a gap below each."""
    page = _paper(width, sum(part.height + gap for part in parts))
    top = 0
    for part in parts:
        page.paste(part, (0, top))
        top += part.height + gap
    return page


def _paper(width: int, height: int) -> Image.Image:
    return Image.new("RGBA", (width, height), PAPER)


def cell_size(height: int, width: int, side: int) -> tuple[int, int]:
    """(height, width) of a map as it is shown: times the largest whole number within `side`, or reduced to `side`."""
    longest = max(height, width)
    if longest <= side:
        return height * (side // longest), width * (side // longest)
    return max(1, round(height * side / longest)), max(1, round(width * side / longest))


def _draw_block(block: Block, side: int) -> Image.Image:
    height, width = cell_size(block.image.shape[0], block.image.shape[1], side)
    labels = LINE + 2 if any(block.rows) else 0
    key = _draw_key(block, max(width, KEY_WIDTH))
    tops, bottom = [], MARGIN + LARGE + 2 * GAP
    for row in block.grid:
        bottom += LINE * max(len(_lines(cell.caption, width)) for cell in row)
        tops.append(bottom)
        bottom += height + GAP
    names = MARGIN + max(width, key.width) + GAP  # left of the rows' names
    first = names + labels  # left of the first map
    columns = max(len(row) for row in block.grid)
    beneath = tops[0] + height + 2 * GAP
    page = _paper(first + columns * (width + GAP) + MARGIN - GAP, max(bottom, beneath + key.height) + MARGIN)
    pen = ImageDraw.Draw(page)
    pen.text((MARGIN, MARGIN), _fitting(block.title, LARGE, page.width - 2 * MARGIN), fill=INK, font=_font(LARGE))
    _paste(page, Panel(block.image, caption="image", smooth=True), (MARGIN, tops[0]), (height, width))
    page.paste(key, (MARGIN, beneath))
    for name, top, row in zip(block.rows, tops, block.grid, strict=True):
        _write_upwards(page, name, (names, top), height)
        for number, cell in enumerate(row):
            _paste(page, cell, (first + number * (width + GAP), top), (height, width))
    return page


def _paste(page: Image.Image, cell: Panel, corner: tuple[int, int], size: tuple[int, int]) -> None:
    """A cell at (left, top), its caption above."""
    pen, (left, top), (height, width) = ImageDraw.Draw(page), corner, size
    for number, line in enumerate(reversed(_lines(cell.caption, width))):
        pen.text((left, top - 4 - number * LINE), line, fill=INK, font=_font(TEXT), anchor="ls")
    if cell.pixels is None:
        pen.rectangle((left, top, left + width - 1, top + height - 1), fill=PALE)
        pen.text((left + width // 2, top + height // 2), cell.gap, fill=DARK, font=_font(SMALL), anchor="mm")
        return
    reduced = cell.pixels.shape[0] > height
    how = Image.Resampling.BOX if reduced and cell.smooth else Image.Resampling.NEAREST
    page.paste(Image.fromarray(cell.pixels).resize((width, height), how), (left, top))


def _write_upwards(page: Image.Image, text: str, corner: tuple[int, int], height: int) -> None:
    """A row's name, turned by a quarter, in the middle of the row's height."""
    if text:
        strip = _paper(height, LINE)
        ImageDraw.Draw(strip).text(
            (height // 2, LINE // 2), _fitting(text, TEXT, height), fill=INK, font=_font(TEXT), anchor="mm"
        )
        page.paste(strip.transpose(Image.Transpose.ROTATE_90), corner)


def _draw_key(block: Block, width: int) -> Image.Image:
    """What the colours mean, on a strip of that width."""
    parts = [_draw_legend(legend, width) for legend in block.legends]
    parts += [_swatches([("does not count", (IGNORED,) * 3)], width, columns=1)] if block.labelled else []
    return _stacked(parts, width, gap=GAP)


def _draw_legend(legend: Legend, width: int) -> Image.Image:
    name = legend.task.name
    if legend.task.kind == "classes":
        colours = class_colours(legend.names)
        items = [(legend.names[label], tuple(colours[label].tolist())) for label in legend.labels]
        return _below(name, _swatches(items, width))
    if legend.task.kind == "depth":
        low, high = legend.limits
        return _below(
            f"{name} (m)", _bar(depth_scale(), [f"{low:.2f}", f"{(low + high) / 2:.2f}", f"{high:.2f}"], width)
        )
    if legend.task.kind == "normals":
        axes = [("x", (255, 128, 128)), ("y", (128, 255, 128)), ("z", (128, 128, 255))]
        return _below(f"{name}, (n + 1) / 2", _swatches(axes, width, columns=3))
    grey = np.arange(256, dtype=np.uint8)[:, None].repeat(3, 1)
    return _below(f"{name} (probability)", _bar(grey, ["0", "0.5", "1"], width))


def _below(title: str, part: Image.Image) -> Image.Image:
    joined = _paper(part.width, part.height + LINE)
    ImageDraw.Draw(joined).text(
        (0, LINE - 5), _fitting(title, SMALL, part.width), fill=INK, font=_font(SMALL), anchor="ls"
    )
    joined.paste(part, (0, LINE))
    return joined


def _swatches(items: Sequence[tuple[str, tuple[int, ...]]], width: int, columns: int = 2) -> Image.Image:
    """Names beside their colours, in reading order."""
    strip = _paper(width, LINE * -(-len(items) // columns))
    pen, step = ImageDraw.Draw(strip), width // columns
    for number, (name, colour) in enumerate(items):
        left, top = number % columns * step, number // columns * LINE
        pen.rectangle((left, top + 1, left + SWATCH, top + 1 + SWATCH), fill=colour, outline=INK)
        pen.text(
            (left + SWATCH + 5, top + 1 + SWATCH // 2),
            _fitting(name, SMALL, step - SWATCH - 10),
            fill=INK,
            font=_font(SMALL),
            anchor="lm",
        )
    return strip


def _bar(colours: np.ndarray, ticks: Sequence[str], width: int) -> Image.Image:
    """[256, 3] colours from left to right, with what they stand for at the left, in the middle and at the right."""
    strip = _paper(width, SWATCH + LINE)
    across = np.linspace(0, len(colours) - 1, width - 1).astype(int)
    strip.paste(Image.fromarray(colours[across][None].repeat(SWATCH, 0)), (0, 0))
    pen = ImageDraw.Draw(strip)
    pen.rectangle((0, 0, width - 1, SWATCH), outline=INK)
    for place, tick, anchor in zip((0, width // 2, width - 1), ticks, ("lt", "mt", "rt"), strict=True):
        pen.text((place, SWATCH + 4), tick, fill=INK, font=_font(SMALL), anchor=anchor)
    return strip


def _lines(caption: str, width: int) -> list[str]:
    """A caption broken between words where it is wider than its cell; what two lines do not hold is cut."""
    lines: list[str] = []
    for word in caption.split():
        joined = f"{lines[-1]} {word}" if lines else word
        if lines and (len(lines) == CAPTION_LINES or _font(TEXT).getlength(joined) <= width):
            lines[-1] = joined
        else:
            lines.append(word)
    return [_fitting(line, TEXT, width) for line in lines]


def _fitting(text: str, size: int, width: int) -> str:
    """`text`, cut short where it is longer than so many pixels."""
    if _font(size).getlength(text) <= width:
        return text
    while text and _font(size).getlength(text + ELLIPSIS) > width:
        text = text[:-1]
    return text + ELLIPSIS


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
