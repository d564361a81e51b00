"""Renders many rooms into a folder of .npy arrays, on all cores.

The workers are plain Python processes that import the renderer and numpy only. A pool of `multiprocessing` would, when
it spawns, run the caller's main module again (Ray's worker, a script without a guard), be refused inside daemonic
processes, and import torch in each; a fork is not safe beside the threads of torch and Ray.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kdam_ray.data.rooms.render import render
from kdam_ray.machine import usable_cpus

FIELDS: dict[str, tuple[tuple[int, ...], type]] = {
    # what follows [images, height, width], and the type
    "image": ((3,), np.uint8), "semseg": ((), np.uint8), "human_parts": ((), np.uint8), "sal": ((), np.uint8),
    "depth": ((), np.float32), "normals": ((3,), np.float16), "edge": ((), np.uint8),
}  # fmt: skip
IMAGES_PER_PROCESS = 32  # fewer are sooner rendered here than a process is started

WORKER = """
import json, sys
from kdam_ray.data.rooms.pool import Portion, fill
for _ in fill(Portion(*json.loads(sys.argv[1]))):
    print(flush=True)
"""


class Portion(NamedTuple):
    """The images that one process renders: `first`, `first` + `step`, ...

    Attributes:
        folder: where the arrays lie.
        seed: of the stream.
        image_size: (height, width), pixels.
        first: index.
        step: index.
    """

    folder: str
    seed: int
    image_size: tuple[int, int]
    first: int = 0
    step: int = 1


def render_all(
    folder: Path, *, seed: int, images: int, image_size: tuple[int, int], processes: int | None = None
) -> Iterator[int]:
    """Renders images 0 .. images - 1 of a stream into `folder`, one `<field>.npy` for each of FIELDS.

    Args:
        folder: exists and is empty.
        seed: of the stream.
        images: how many.
        image_size: (height, width), pixels.
        processes: None: one a core, as far as there is work for it; 1: in this process.

    Yields:
        how many images are done, after each.

    Raises:
        RuntimeError: a process ended before its work.
    """
    for field, (channels, dtype) in FIELDS.items():
        np.lib.format.open_memmap(folder / f"{field}.npy", "w+", dtype, (images, *image_size, *channels)).flush()
    processes = processes or min(usable_cpus(), -(-images // IMAGES_PER_PROCESS))
    works = [Portion(str(folder), seed, image_size, first, processes) for first in range(processes)]
    steps: Iterator = fill(works[0]) if processes == 1 else spread(works)
    for done, _ in enumerate(steps, start=1):
        yield done


def fill(work: Portion) -> Iterator[None]:
    """Renders one process's images into the arrays that lie there; yields after each."""
    arrays = {field: np.load(Path(work.folder) / f"{field}.npy", mmap_mode="r+") for field in FIELDS}
    for index in range(work.first, len(arrays["image"]), work.step):
        sample = render(work.seed, index, image_size=work.image_size)
        for field, array in arrays.items():
            array[index] = sample[field]
        yield


def spread(works: list[Portion]) -> Iterator[str]:
    """Carries out each work in a process of its own; yields after each image.

    Processes end when nobody listens any more.
    """
    reading, writing = os.pipe()
    paths = [str(Path(__file__).parents[3]), *(path for path in sys.path if path)]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(paths),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    running: list[subprocess.Popen] = []
    try:
        with open(reading) as lines:
            try:
                for work in works:
                    command = [sys.executable, "-c", WORKER, json.dumps(work)]
                    running.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=writing, env=environment))
            finally:
                os.close(writing)
            yield from lines
        codes = [process.wait() for process in running]
    finally:
        for process in running:
            process.kill()  # nothing, where it has ended
            process.wait()
    if any(codes):
        raise RuntimeError(
            f"rendering rooms into {works[0].folder}: a process ended with {next(filter(None, codes))}; "
            "is the disk full?"
        )
