"""What a dataset holds, in numbers and on one page: classes, depths, a contact sheet of samples with all their maps."""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from kdam_ray.data.colours import class_names, coloured
from kdam_ray.data.source import Sample
from kdam_ray.tasks import IGNORE, Dataset

DEPTH_EDGES = (0.0, 0.5, 1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 15, 20, np.inf)  # metres
BAR = 30  # characters
HEIGHT, MARGIN = 170, 4  # of a picture on the sheet, pixels


class Datasheet:
    """Sums over the samples of a split."""

    def __init__(self, dataset: Dataset):
        self.dataset, self.images, self.pixels = dataset, 0, 0
        self._labels = {
            task.name: np.zeros(256, np.int64) for task in dataset.tasks if task.kind not in ("depth", "normals")
        }
        self._depth = np.zeros(len(DEPTH_EDGES) - 1, np.int64)
        self._valid = {task.name: 0 for task in dataset.tasks if task.kind in ("depth", "normals")}
        self._nearest, self._farthest = np.inf, 0.0

    def add(self, sample: Sample) -> None:
        self.images += 1
        self.pixels += sample["image"].shape[0] * sample["image"].shape[1]
        for name, counts in self._labels.items():
            counts += np.bincount(sample[name].ravel(), minlength=256)
        if "normals" in self._valid:
            self._valid["normals"] += int(sample["normals"].any(-1).sum())
        if "depth" in self._valid and (known := sample["depth"][sample["depth"] > 0]).size:
            self._valid["depth"] += known.size
            self._depth += np.histogram(known, DEPTH_EDGES)[0]
            self._nearest, self._farthest = (
                min(self._nearest, float(known.min())),
                max(self._farthest, float(known.max())),
            )

    def as_json(self) -> dict[str, Any]:
        """Per task: share of pixels that count, shares of its classes among those or its depth histogram."""
        document: dict[str, Any] = {"images": self.images, "pixels": self.pixels}
        for task in self.dataset.tasks:
            if task.name in self._labels:
                names, all_counts = class_names(task, self.dataset), self._labels[task.name]
                counts, valid = all_counts[: len(names)], 1 - float(all_counts[IGNORE]) / max(1, self.pixels)
                shares = (counts / max(1, counts.sum())).tolist()
                document[task.name] = {"valid": valid, "classes": dict(zip(names, shares, strict=True))}
                continue
            document[task.name] = {"valid": self._valid[task.name] / max(1, self.pixels)}
            if task.kind == "depth":
                shares = (self._depth / max(1, self._depth.sum())).tolist()
                document["depth"] |= {
                    "metres": list(DEPTH_EDGES[:-1]),
                    "shares": shares,
                    "range": [self._nearest, self._farthest],
                }
        return document

    def as_text(self) -> str:
        document = self.as_json()
        lines = [f"{self.images} images, {self.pixels / 1e6:.1f} million pixels"]
        for task in self.dataset.tasks:
            row = document[task.name]
            lines.append(f"{task.name}: {row['valid']:.1%} of the pixels count")
            if task.kind == "classes":
                absent = [name for name, share in row["classes"].items() if share == 0]
                ordered = sorted(row["classes"].items(), key=lambda item: -item[1])
                lines += [_bar(name, share) for name, share in ordered if share]
                lines += [f"  nowhere: {', '.join(absent)}"] if absent else []
            elif "classes" in row:
                lines[-1] += "; " + ", ".join(f"{name} {share:.2%}" for name, share in row["classes"].items())
            elif task.kind == "depth":
                lines[-1] += f"; {row['range'][0]:.2f} to {row['range'][1]:.2f} m"
                pairs = itertools.pairwise(DEPTH_EDGES)
                lines += [
                    _bar(f"{low:g} to {high:g} m", share)
                    for (low, high), share in zip(pairs, row["shares"], strict=True)
                    if share
                ]
        return "\n".join(lines)


def _bar(name: str, share: float) -> str:
    return f"  {name:20}{share:7.2%} {'#' * round(BAR * share)}".rstrip()


def contact_sheet(samples: Mapping[str, Sample], dataset: Dataset) -> Image.Image:
    """A row per sample: the image and every map, under a line with its name.

    Args:
        samples: by name.
        dataset: whose tasks are shown.
    """
    rows = [_row(name, sample, dataset) for name, sample in samples.items()]
    sheet = Image.new("RGB", (max(row.width for row in rows), sum(row.height for row in rows)), "white")
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height
    return sheet


def _row(name: str, sample: Sample, dataset: Dataset) -> Image.Image:
    pictures = {name: sample["image"]} | {
        task.name: coloured(sample[task.name], task, dataset) for task in dataset.tasks
    }
    width = round(HEIGHT * sample["image"].shape[1] / sample["image"].shape[0])
    row = Image.new("RGB", (len(pictures) * (width + MARGIN), HEIGHT + 16 + MARGIN), "white")
    draw = ImageDraw.Draw(row)
    for number, (title, pixels) in enumerate(pictures.items()):
        left = number * (width + MARGIN)
        draw.text((left + 2, 2), title, fill="black")
        how = (
            Image.Resampling.BOX
            if title == "edge"
            else Image.Resampling.BILINEAR
            if number == 0
            else Image.Resampling.NEAREST
        )
        row.paste(Image.fromarray(pixels).resize((width, HEIGHT), how), (left, 16))
    return row
