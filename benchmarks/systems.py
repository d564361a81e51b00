"""What a training step of each system takes on a CPU core, and how much of it its operations do not explain.

    python benchmarks/systems.py & python benchmarks/systems.py    # one a core, as a sweep keeps them busy; 4 minutes

One thread each; a row for each decoder on two backbones that stand in for the paper's. The last column is the step
without its operations at the rate that `kdam_ray/service/cost/estimate.py` has: STEP_S there, with which `--plan`
estimates times.
"""

import argparse
import platform
import statistics
import time
from tempfile import TemporaryDirectory

import torch

from kdam_ray.cells import SYSTEMS
from kdam_ray.config import change
from kdam_ray.data.opening import Wanted, open_source
from kdam_ray.data.source import Source
from kdam_ray.learning.cohort import _train_epoch
from kdam_ray.learning.member import Member
from kdam_ray.recipes import recipe
from kdam_ray.service.cost.estimate import RATE, Costs
from kdam_ray.service.records.storage import Storage
from kdam_ray.tasks import DATASETS
from kdam_ray.zoo import DECODERS

BATCHES, REPEATS = 20, 3
BACKBONES = ("resnet_w8", "swin_w12")


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--threads", type=int, default=1)
    asked.add_argument("--dataset", choices=("rooms", "rooms_pascal"), default="rooms")
    options = asked.parse_args()
    torch.set_num_threads(options.threads)
    base = recipe(options.dataset).student
    images = BATCHES * base.batch
    source = open_source(Wanted(DATASETS[options.dataset], "train", images, base.image_size))
    machine = f"{platform.machine()}, {options.threads} thread(s), torch {torch.__version__}"
    print(f"{machine}; {base.batch} images of {base.image_size} a step")
    print(f"{'backbone':10s} {'decoder':16s}{'M op/image':>12s}{'ms/step':>10s}{'G op/s':>8s}{'ms beyond':>11s}")
    with TemporaryDirectory() as folder:
        costs = Costs(Storage(folder))
        for backbone in BACKBONES:
            for decoder in DECODERS:
                tasks = (
                    SYSTEMS["MTFormer"].tasks if (decoder, options.dataset) == ("mtformer", "rooms") else base.tasks
                )  # as in Table 1
                run = change(base, {"student": backbone, "decoder": decoder, "train_images": images, "tasks": tasks})
                operations, seconds = (
                    costs.epoch(run).train,
                    statistics.median(_epochs(Member(run, device="cpu"), source)),
                )
                beyond = seconds - operations / RATE["cpu"]
                print(
                    f"{backbone:10s} {decoder:16s}{operations / images / 1e6:12.0f}{1e3 * seconds / BATCHES:10.1f}"
                    f"{operations / seconds / 1e9:8.1f}{1e3 * beyond / BATCHES:11.1f}", flush=True,
                )  # fmt: skip


def _epochs(member: Member, source: Source) -> list[float]:
    """Seconds of each epoch after a first one that warms up."""
    found = []
    for epoch in range(REPEATS + 1):
        start = time.perf_counter()
        for _ in _train_epoch([member], epoch + 1, source, None, "cpu"):
            pass
        found.append(time.perf_counter() - start)
    return found[1:]


if __name__ == "__main__":
    main()
