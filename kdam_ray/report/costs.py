"""What the paper's systems cost: ours beside every parameter count and "GFLOPs" that Table 1 prints.

How the print counts is in `models.cost`: multiply-accumulates at 425x560. The HRNet18 rows contain the products inside
attention (their source is ATRC's paper: PAP's 35 G over the baseline can be nothing else), the Swin rows do not.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, reduce
from operator import add
from typing import Any

from kdam_ray.cells import SYSTEMS
from kdam_ray.models import Cost, activation_bytes, network_cost
from kdam_ray.paper import TABLES
from kdam_ray.tasks import DATASETS, Dataset, Task

BATCH = 8  # the paper's


@dataclass(frozen=True)
class Priced:
    """One row of the table of costs.

    Attributes:
        table: of the paper; "" for a network that is in none.
        system: as printed.
        backbone: row of `zoo.BACKBONES`.
        dataset: whose tasks it has.
        cost: ours.
        gmacs: ours, counted as the paper counts that row.
        activations: bytes that a training step at batch 8 keeps for its backward, float32.
        paper_params_m: printed, millions.
        paper_gmacs: printed.
        note: for the reader.
    """

    table: str
    system: str
    backbone: str
    dataset: str
    cost: Cost
    gmacs: float
    activations: int
    paper_params_m: float | None
    paper_gmacs: float | None
    note: str

    @property
    def params_m(self) -> float:
        return self.cost.params / 1e6

    def as_json(self) -> dict[str, Any]:
        """The row as `kdam model-cost --json` prints it."""
        return {
            "table": self.table, "system": self.system, "backbone": self.backbone, "dataset": self.dataset,
            "params_m": round(self.params_m, 4), "gmacs": round(self.gmacs, 4),
            "paper_params_m": self.paper_params_m, "paper_gmacs": self.paper_gmacs, "note": self.note,
        }  # fmt: skip


def table_1() -> list[Priced]:
    """Every row of Table 1, all of which print a cost."""
    dataset, priced = DATASETS["nyud"], []
    for row in TABLES["1"].rows:
        system = SYSTEMS[row.system]
        backbone, names = system.backbone or row.backbone, system.tasks
        tasks = tuple(task for task in dataset.tasks if not names or task.name in names)
        cost, activations = _priced(backbone, system.decoder, tasks, dataset.image_size, row.is_single_task)
        priced.append(Priced(
            table="1", system=row.model, backbone=backbone, dataset=dataset.name, cost=cost,
            gmacs=(cost.all_macs if row.counts_attention else cost.macs) / 1e9, activations=activations,
            paper_params_m=row.fact("params"), paper_gmacs=row.fact("gmacs"),
            note="; ".join(filter(None, [system.note, row.method and "a student's network is that of its baseline"])),
        ))  # fmt: skip
    return priced


def of_networks(
    backbones: Iterable[str], decoders: Iterable[str], dataset: Dataset, image_size: tuple[int, int]
) -> list[Priced]:
    """Any backbone with any decoder; multiply-accumulates as the Swin rows count them.

    Raises:
        ValueError: an unknown name.
    """
    decoders = list(decoders)
    return [
        Priced("", decoder, backbone, dataset.name, cost, cost.macs / 1e9, activations, None, None, "")
        for backbone in backbones for decoder in decoders
        for cost, activations in [_priced(backbone, decoder, dataset.tasks, image_size, False)]
    ]  # fmt: skip


@cache
def _priced(
    backbone: str, decoder: str, tasks: tuple[Task, ...], size: tuple[int, int], single: bool
) -> tuple[Cost, int]:
    """Cost, and bytes of activations: of one network, or of one for each task, which are trained one by one."""
    groups = [(task,) for task in tasks] if single else [tasks]
    cost = reduce(add, (network_cost(backbone, decoder, group, image_size=size) for group in groups))
    return cost, max(activation_bytes(backbone, decoder, group, image_size=size, batch=BATCH) for group in groups)


def as_text(rows: Sequence[Priced]) -> str:
    """Ours, the printed number and the difference in lines for people; then what the print leaves out."""
    lines = [
        f"{'system':15}{'backbone':10}{'params M':>10}{'printed':>9}{'diff %':>8}"
        f"{'GMACs':>10}{'printed':>9}{'diff %':>8}{'+ attention':>13}{'activations':>13}  note"
    ]
    for row in rows:
        params, gmacs = _printed(row.params_m, row.paper_params_m), _printed(row.gmacs, row.paper_gmacs)
        lines.append(
            f"{row.system:15}{row.backbone:10}{row.params_m:10.3f}{params}{row.gmacs:10.2f}{gmacs}"
            f"{row.cost.all_macs / 1e9:13.2f}{row.activations / 2**30:9.1f} GiB  {row.note}".rstrip()
        )
    lines += [
        "",
        "GMACs: convolutions, linear layers, batch norm and ReLU of one image; the printed HRNet18 rows contain "
        "attention products too.",
        f"+ attention: with those products. activations: what the backward of {BATCH} images needs, float32, without "
        "the losses.",
    ]
    return "\n".join(lines)


def _printed(ours: float, printed: float | None) -> str:
    return f"{'-':>9}{'':8}" if printed is None else f"{printed:9.2f}{100 * (ours / printed - 1):+8.2f}"
