"""CPU seconds of odsF's counts per image, all 101 thresholds, against scikit-image's thinning and scipy's maximum flow.

    OMP_NUM_THREADS=1 python benchmarks/boundary.py    # about 2 minutes on an idle core, most of it the plain reference

Both run in this process on the same synthetic images (random regions' contours, half-found, with clutter and noise),
and the counts must be equal at every threshold, or the script fails. Also: cost of compiling, of 48 x 64 images, of two
threads. Prints what benchmarks/results/boundary-<date>.md keeps.
"""

import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numba
import numpy as np
import scipy
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
import plain_boundary as plain

from kdam_ray.machine import usable_cpus
from kdam_ray.metrics import HED_THRESHOLDS, MONITOR_THRESHOLDS, BoundaryF, boundary_counts, warm_up
from kdam_ray.metrics.boundary import in_eight_bits

MAX_DIST = 0.011
SIZE, SMALL = (480, 640), (48, 64)
IMAGES = int(sys.argv[1]) if len(sys.argv) > 1 else 10


def cpu_seconds(function: Callable[..., Any], *arguments: Any, repeat: int = 1, **options: Any) -> tuple[Any, float]:
    """(value, CPU seconds of one call)."""
    start = time.process_time()
    for _ in range(repeat):
        value = function(*arguments, **options)
    return value, (time.process_time() - start) / repeat


def start_up(cache: str) -> tuple[float, ...]:
    """CPU seconds of a fresh process: (numba's import, warm_up) by a cache folder."""
    code = (
        "import time; import kdam_ray.metrics as m; a = time.process_time(); import numba; b = time.process_time();"
        "m.warm_up(); print(b - a, time.process_time() - b)"
    )
    env = {**os.environ, "NUMBA_CACHE_DIR": cache}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    return tuple(map(float, done.stdout.split()))


def one_image(seed: int, scale: float) -> tuple[float, float]:
    """(ours, plain) CPU seconds; fails where the counts differ."""
    from kdam_ray.metrics import ridges  # late: it compiles

    probability, edges = plain.scene(seed, *SIZE, scale=scale)
    (pairs, true, _, predicted), ours = cpu_seconds(boundary_counts, probability, edges, max_dist=MAX_DIST, repeat=3)
    grey = in_eight_bits(probability)
    _, suppressing = cpu_seconds(plain.suppressed, grey)
    # counted after our suppression: where the mixed derivative vanishes, rounding decides a direction (some 40 pixels
    # an image)
    radius = MAX_DIST * np.hypot(*SIZE)
    expected, counting = cpu_seconds(plain.counts_from, ridges.suppressed(grey), edges, radius, HED_THRESHOLDS)
    assert np.array_equal((pairs, predicted), expected)
    best, theirs = np.max(2 * pairs / (true + predicted)), suppressing + counting
    print(
        f"| {seed} | {true[0]} | {predicted[0]} | {best:.3f} | {ours:.3f} | {theirs:.2f} | {theirs / ours:.0f} |",
        flush=True,
    )
    return ours, theirs


def table(title: str, seeds: Iterable[int], scale: float) -> None:
    """Prints a row an image, their mean and the worst."""
    print(f"{title}\n\n| image | true px | predicted px at 0.001 | best F | ours | plain | ratio |")
    print("|---|---|---|---|---|---|---|")
    seconds = np.array([one_image(seed, scale) for seed in seeds])
    mean, worst, ratio = seconds.mean(0), seconds.max(0), seconds[:, 1] / seconds[:, 0]
    print(f"| mean | | | | {mean[0]:.3f} | {mean[1]:.2f} | {mean[1] / mean[0]:.0f} |")
    print(f"| worst | | | | {worst[0]:.3f} | {worst[1]:.2f} | {ratio.min():.0f} |\n")


def milliseconds(thresholds: Sequence[float], threads: int, size: tuple[int, int], images: int) -> tuple[float, float]:
    """(CPU, wall) milliseconds an image through the metric."""
    pairs = [plain.scene(seed, *size, scale=size[0] / 10) for seed in range(images)]
    logits = torch.logit(torch.from_numpy(np.stack([p for p, _ in pairs])), eps=1e-4)[:, None]
    label = torch.from_numpy(np.stack([e for _, e in pairs])).float()[:, None]
    torch.set_num_threads(threads)
    metric = BoundaryF(max_dist=0.02, thresholds=thresholds)
    metric.update(logits, label)
    wall = time.perf_counter()
    _, cpu = cpu_seconds(metric.update, logits, label, repeat=3)
    return 1e3 * cpu / images, 1e3 * (time.perf_counter() - wall) / 3 / images


def main() -> None:
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        "?",
    )
    load = os.getloadavg()[0]
    python, versions = platform.python_version(), f"numpy {np.__version__}, scipy {scipy.__version__}"
    print(f"machine: {model}, {usable_cpus()} cores, load {load:.1f}; python {python}, torch {torch.__version__},")
    print(f"numba {numba.__version__}, {versions}, scikit-image {version('scikit-image')}\n")
    with tempfile.TemporaryDirectory() as cache:
        for name in ("empty", "filled"):
            imported, warmed = start_up(cache)
            print(f"fresh process, {name} cache: import numba {imported:.2f} CPU s, warm_up {warmed:.2f} CPU s")
    warm_up()
    print(f"\n{SIZE[0]} x {SIZE[1]}, 101 thresholds, max_dist {MAX_DIST}, CPU s an image, ", end="")
    print("suppression and thinning included\n")
    table("Large regions, as in a room", range(IMAGES), 40)
    table("Small regions, about 2.5 times the boundary", range(2), 16)
    for size, images in ((SMALL, 64), (SIZE, 8)):
        for thresholds in (HED_THRESHOLDS, MONITOR_THRESHOLDS):
            for threads in (1, 2):
                cpu, wall = milliseconds(thresholds, threads, size, images)
                name = f"{size[0]} x {size[1]}, {len(thresholds)} thresholds, {threads} threads"
                print(f"- metric, {name}: {cpu:.2f} ms CPU, {wall:.2f} ms wall an image")


if __name__ == "__main__":
    main()
