"""Images per second from files to batches, stage by stage, against a torch DataLoader with plain transforms.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/data.py               # about three minutes; writes 32 images first
    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/data.py --root NYUD   # on a real packaging of NYUD-v2

Stages are given per core (CPU time). The other side, in the same process on the same images with the same random
numbers, does the steps of the published chain one image after the other: scale all maps, crop with retries, flip,
photometric in HSV, normalise, pad. It comes in two forms: `plain` as one would write it today (F.interpolate,
np.unique, Pillow's HSV), `tuned` with the fastest parts that were found (8-bit interpolation, takes, a histogram).
Prints what benchmarks/results/data-<date>.md keeps.
"""

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import PIL
import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader

from kdam_ray.data.loader import Batching, train_batches
from kdam_ray.data.on_device import collate, render
from kdam_ray.data.opening import Wanted, open_source
from kdam_ray.data.source import Batch, Source
from kdam_ray.data.transforms import MEAN, PADDING, STD, Colour, assemble, draw, draw_candidates, draw_colour
from kdam_ray.machine import usable_cpus
from kdam_ray.tasks import DATASETS

SIZE = (425, 560)
DATASET = DATASETS["nyud"]
TASKS = tuple(task.name for task in DATASET.tasks)
BATCH, IMAGES, WORKERS = 8, 32, 2
MEAN_LEVEL, DEVIATION = (255 * np.array(values, np.float32) for values in (MEAN, STD))


# ---- a packaging


def write_packaging(root: Path) -> Path:
    """Writes files as ATRC packs NYUD-v2: smooth surfaces and some noise, which compress about as real ones do."""
    draw = np.random.default_rng(0)
    for folder in ("images", "segmentation", "depth", "normals", "edge", "gt_sets"):
        (root / folder).mkdir(parents=True)
    ids = [f"{index:04d}" for index in range(IMAGES)]
    for identity in ids:
        regions = smooth(draw, (7, 9), Image.Resampling.NEAREST)
        shade = np.stack([smooth(draw, (14, 18)) for _ in range(3)], -1)
        image = 40 * regions[..., None] % 97 + 140 * shade + draw.normal(0, 2.5, (*SIZE, 3))
        normals = np.stack([smooth(draw, (7, 9)) for _ in range(3)], -1)
        edge = np.abs(np.gradient(regions)[0]) + np.abs(np.gradient(regions)[1]) > 0
        save(root / "images", identity, image.clip(0, 255))
        save(root / "segmentation", identity, 41 * regions)
        save(root / "normals", identity, 255 * normals)
        save(root / "edge", identity, 255 * edge)
        np.save(root / "depth" / f"{identity}.npy", (1 + 8 * smooth(draw, (14, 18))).astype(np.float32))
    for split in ("train", "val"):
        (root / "gt_sets" / f"{split}.txt").write_text("\n".join(ids) + "\n")
    return root


def smooth(
    draw: np.random.Generator, nodes: tuple[int, int], kind: Image.Resampling = Image.Resampling.BICUBIC
) -> np.ndarray:
    """[*SIZE] in [0, 1) between random nodes."""
    field = Image.fromarray(draw.random(nodes).astype(np.float32)).resize(SIZE[::-1], kind)
    return np.asarray(field).clip(0, 0.999)


def save(folder: Path, identity: str, array: np.ndarray) -> None:
    Image.fromarray(array.astype(np.uint8)).save(folder / f"{identity}.png")


# ---- what a user would otherwise run: one image, one step after the other


class Plain(torch.utils.data.Dataset):
    """Decodes a packaging and augments it, image by image."""

    def __init__(self, root: Path, ids: list[str], tuned: bool):
        self.root, self.ids, self.tuned = root, ids, tuned

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return augment(self.decode(self.ids[index]), np.random.default_rng([0, 1, index]), self.tuned)

    def decode(self, identity: str) -> dict[str, np.ndarray]:
        def picture(folder: str) -> np.ndarray:
            return np.array(Image.open(self.root / folder / f"{identity}.png"))

        stored = picture("normals")
        normals = stored.astype(np.float32) * np.float32(2 / 255) - 1
        normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
        normals[stored.max(-1) == 0] = 0
        return {
            "image": picture("images"),
            "semseg": picture("segmentation") - np.uint8(1),
            "depth": np.load(self.root / "depth" / f"{identity}.npy"),
            "normals": normals,
            "edge": (picture("edge") >= 128).astype(np.uint8),
        }


def augment(sample: dict[str, np.ndarray], rng: np.random.Generator, tuned: bool) -> dict[str, torch.Tensor]:
    """The published chain; draws what `transforms.draw` draws."""
    size = sample["image"].shape[:2]
    scale = rng.uniform(0.5, 2.0)
    scaled = (int(size[0] * scale), int(size[1] * scale))
    sample = {name: resize(array, scaled, name == "image", tuned) for name, array in sample.items()}
    sample["depth"] = sample["depth"] / np.float32(scale)
    sample = crop(sample, rng, tuned)
    if rng.random() < 0.5:
        sample = {name: array[:, ::-1].copy() for name, array in sample.items()}
        sample["normals"][..., 0] *= -1
    image = photometric(sample["image"], draw_colour(rng))
    sample["image"] = (image.astype(np.float32) - MEAN_LEVEL) / DEVIATION
    return {name: as_batch_holds(name, pad(array, PADDING.get(name, 0))) for name, array in sample.items()}


def resize(array: np.ndarray, scaled: tuple[int, int], is_image: bool, tuned: bool) -> np.ndarray:
    if not is_image and tuned:
        rows, columns = (np.arange(scaled[i]) * array.shape[i] // scaled[i] for i in (0, 1))
        return array.take(rows, 0).take(columns, 1)
    planes = torch.from_numpy(array.reshape(*array.shape[:2], -1)).permute(2, 0, 1)[None]
    if is_image:
        out = F.interpolate(planes if tuned else planes.float(), scaled, mode="bilinear").to(torch.uint8)
    else:
        out = F.interpolate(planes, scaled, mode="nearest")
    return out[0].permute(1, 2, 0).reshape(*scaled, *array.shape[2:]).numpy()


def crop(sample: dict[str, np.ndarray], rng: np.random.Generator, tuned: bool) -> dict[str, np.ndarray]:
    room = [max(0, sample["image"].shape[i] - SIZE[i]) for i in (0, 1)]

    def cut(array: np.ndarray) -> np.ndarray:
        return array[top : top + SIZE[0], left : left + SIZE[1]]

    top, left = rng.integers(room[0] + 1), rng.integers(room[1] + 1)
    for _ in range(10 if any(room) else 0):
        semseg = cut(sample["semseg"])
        if tuned:
            counts = np.bincount(semseg.ravel(), minlength=256)[:255]
        else:
            labels, counts = np.unique(semseg, return_counts=True)
            counts = counts[labels != 255]
        if len(counts) > 1 and counts.max() < 0.75 * counts.sum():
            break
        top, left = rng.integers(room[0] + 1), rng.integers(room[1] + 1)
    return {name: cut(array) for name, array in sample.items()}


def photometric(image: np.ndarray, colour: Colour) -> np.ndarray:
    brightness, first, saturation, hue, last = colour.steps
    image = linear(image, 1, brightness) if brightness else image
    image = linear(image, first, 0) if first != 1 else image
    if saturation != 1:
        image = in_hsv(image, 1, lambda s: np.minimum(s * saturation, 255))
    if hue:
        image = in_hsv(image, 0, lambda h: (h + hue * 256 / 180) % 256)
    return linear(image, last, 0) if last != 1 else image


def linear(image: np.ndarray, gain: float, offset: float) -> np.ndarray:
    return (image.astype(np.float32) * np.float32(gain) + np.float32(offset)).clip(0, 255).astype(np.uint8)


def in_hsv(image: np.ndarray, channel: int, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """One channel changed by a table, in 8 bits, as OpenCV would."""
    bands = list(Image.fromarray(image).convert("HSV").split())
    bands[channel] = bands[channel].point(change(np.arange(256)).astype(np.uint8).tolist())
    return np.asarray(Image.merge("HSV", bands).convert("RGB"))


def pad(array: np.ndarray, value: int) -> np.ndarray:
    missing = [SIZE[i] - array.shape[i] for i in (0, 1)]
    if not any(missing):
        return array
    widths = [(length // 2, length - length // 2) for length in missing] + [(0, 0)] * (array.ndim - 2)
    return np.pad(array, widths, constant_values=value)


def as_batch_holds(name: str, array: np.ndarray) -> torch.Tensor:
    if name == "semseg":
        return torch.from_numpy(array.astype(np.int64))
    planes = torch.from_numpy(array.astype(np.float32).reshape(*SIZE, -1))
    return planes.permute(2, 0, 1).contiguous()


# ---- measuring

Times = dict[str, list[float]]


def stages(root: Path, ids: list[str], decoder: Callable, read: Source) -> dict[str, Callable[[], None]]:
    """Name -> what does it once to every image."""
    samples = list(decoder())
    groups = [range(start, start + BATCH) for start in range(0, len(ids) - BATCH + 1, BATCH)]

    def rngs(group: range) -> list[np.random.Generator]:
        return [np.random.default_rng([0, 1, index]) for index in group]

    def one_by_one() -> None:
        for group in groups:
            own = [samples[index] for index in group]
            assemble(
                own, [draw(rng, one, SIZE) for rng, one in zip(rngs(group), own, strict=True)], tasks=TASKS, canvas=SIZE
            )

    def raws() -> Iterator:
        for group in groups:
            own = [samples[index] for index in group]
            candidates = [draw_candidates(rng, one, SIZE) for rng, one in zip(rngs(group), own, strict=True)]
            yield collate(own, candidates, tasks=TASKS, canvas=SIZE, pin=False)

    plain = Plain(root, ids, tuned=False)
    full = [plain.decode(identity) for identity in ids]
    return {
        "decode, ours": lambda: use(decoder()),
        "decode, plain": lambda: use(plain.decode(identity) for identity in ids),
        "cached read, ours": lambda: use(
            {name: array.copy() for name, array in read[i].items()} for i in range(len(ids))
        ),
        "transform, ours": one_by_one,
        "transform, ours for a device: the host's part": lambda: use(raws()),
        "transform, ours for a device, all of it on the CPU": lambda: use(render(raw) for raw in raws()),
        "transform, plain": lambda: use(
            augment(one, rng, False) for one, rng in zip(full, rngs(range(len(ids))), strict=True)
        ),
        "transform, tuned": lambda: use(
            augment(one, rng, True) for one, rng in zip(full, rngs(range(len(ids))), strict=True)
        ),
    }


def loaders(root: Path, ids: list[str], fresh: Callable, read: Source) -> dict[str, Callable[[], None]]:
    def batches(source: Source) -> Iterator[Batch]:
        return train_batches(source, Batching(TASKS, SIZE, BATCH), augment="paper", data_seed=0, epoch=1)

    def torch_loader(tuned: bool) -> Iterator:
        data = Plain(root, ids, tuned)
        return iter(DataLoader(data, batch_size=BATCH, shuffle=True, drop_last=True, num_workers=WORKERS))

    return {
        "loader, ours, cached": lambda: use(batches(read)),
        "loader, ours, decoding": lambda: use(batches(fresh())),
        f"loader, plain, {WORKERS} workers": lambda: use(torch_loader(False)),
        f"loader, tuned, {WORKERS} workers": lambda: use(torch_loader(True)),
    }


def use(items: Iterable) -> None:
    for _ in items:
        pass


def seconds(function: Callable[[], None]) -> tuple[float, float]:
    """Seconds (CPU of this process and of workers that ended meanwhile, wall)."""
    start, own, workers = time.perf_counter(), time.process_time(), sum(os.times()[2:4])
    function()
    return time.process_time() - own + sum(os.times()[2:4]) - workers, time.perf_counter() - start


def check(ids: list[str], root: Path, decoded: Source) -> None:
    """Both sides do the same work: maps that agree but for rounding, images but for HSV in 8 bits."""
    differences = []
    for index in range(len(ids)):
        sample = decoded[index]
        ours = assemble([sample], [draw(np.random.default_rng([0, 1, index]), sample, SIZE)], tasks=TASKS, canvas=SIZE)
        for tuned in (False, True):
            theirs = Plain(root, ids, tuned)[index]
            assert (ours["semseg"][0] == theirs["semseg"]).float().mean() > 0.99
            assert (ours["depth"][0] - theirs["depth"]).abs().mean() < 0.01
            differences.append((58 * (ours["image"][0] - theirs["image"])).abs().mean().item())
    print(
        f"mean difference of the images, grey levels: {statistics.mean(differences):.2f}, "
        f"at most {max(differences):.2f}\n"
    )
    assert max(differences) < 6


def measure(work: dict[str, Callable[[], None]], rounds: int, count: int) -> tuple[Times, Times]:
    """CPU and wall seconds per image, one number a round, by name; all take turns, after one round to warm up."""
    cpu: Times = {name: [] for name in work}
    wall: Times = {name: [] for name in work}
    for turn in range(rounds + 1):
        for name, function in work.items():
            took = seconds(function)
            if turn:
                cpu[name].append(took[0] / count)
                wall[name].append(took[1] / count)
    return cpu, wall


def spread(values: list[float], digits: int = 1) -> str:
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def ratio(ours: list[float], theirs: list[float]) -> str:
    return spread([b / a for a, b in zip(ours, theirs, strict=True)])


def report(cpu: Times, wall: Times) -> None:
    print("| | images/s of one core | ms CPU an image | images/s, wall |\n|---|---|---|---|")
    for name in cpu:
        loads = spread([1 / value for value in wall[name]], 0) if name.startswith("loader") else ""
        per_second, milliseconds = [1 / value for value in cpu[name]], [1000 * value for value in cpu[name]]
        print(f"| {name} | {spread(per_second, 0)} | {spread(milliseconds, 2)} | {loads} |")
    print("\n| ratio, pairs of one round | plain / ours | tuned / ours |\n|---|---|---|")
    for label, times, ours, kind in (
        ("transform, CPU", cpu, "transform, ours", "transform"),
        ("loader over the cache, CPU", cpu, "loader, ours, cached", "loader"),
        ("loader over the cache, wall", wall, "loader, ours, cached", "loader"),
        ("loader that decodes, CPU", cpu, "loader, ours, decoding", "loader"),
        ("loader that decodes, wall", wall, "loader, ours, decoding", "loader"),
    ):
        end = f", {WORKERS} workers" if kind == "loader" else ""
        print(
            f"| {label} | "
            + " | ".join(ratio(times[ours], times[f"{kind}, {other}{end}"]) for other in ("plain", "tuned"))
            + " |"
        )


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--root", type=Path, help="a packaging of NYUD-v2 as ATRC's; default: one is made")
    asked.add_argument("--rounds", type=int, default=5)
    options = asked.parse_args()
    torch.set_num_threads(1)
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        "?",
    )
    print(
        f"machine: {model}, {usable_cpus()} cores, load {os.getloadavg()[0]:.1f}; python {platform.python_version()},"
    )
    print(
        f"torch {torch.__version__}, numpy {np.__version__}, Pillow {PIL.__version__}; "
        f"{SIZE[0]}x{SIZE[1]}, batches of {BATCH}"
    )
    with tempfile.TemporaryDirectory() as folder:
        root = options.root or write_packaging(Path(folder) / "nyud")
        wanted = Wanted(DATASET, "train", IMAGES, SIZE)
        read = open_source(wanted, root=str(root), cache=Path(folder) / "cache")

        def fresh() -> Source:
            """A source that keeps nothing in memory yet."""
            return open_source(wanted, root=str(root))

        def decoder() -> Iterator:
            source = fresh()
            return (source[index] for index in range(len(source)))

        ids = (root / "gt_sets" / "train.txt").read_text().split()[:IMAGES]
        sizes = {
            name: next((root / name).glob(f"{ids[0]}.*")).stat().st_size // 1000
            for name in ("images", "segmentation", "normals")
        }
        print(f"kB of a file: {sizes}")
        check(ids, root, fresh())
        work = stages(root, ids, decoder, read) | loaders(root, ids, fresh, read)
        report(*measure(work, options.rounds, len(ids)))


if __name__ == "__main__":
    main()
