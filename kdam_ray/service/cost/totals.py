"""Measured costs of runs, summed for a sweep or a table."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from kdam_ray.config import Run

NAMES = ("cost/wall_s", "cost/device_s", "cost/tflop", "cost/kwh")


def costs_of(metrics: Mapping[str, float]) -> dict[str, float]:
    """The costs among a run's metrics."""
    return {name: metrics[name] for name in NAMES if name in metrics}


def total(costs: Collection[Mapping[str, float]]) -> dict[str, float]:
    """The sums over runs by name; energy only if it was counted for each of them."""
    names = NAMES if costs and all("cost/kwh" in each for each in costs) else NAMES[:-1]
    return {name: sum(each.get(name, 0.0) for each in costs) for name in names}


def plus(costs: Mapping[str, float], more: Mapping[str, float]) -> dict[str, float]:
    """The sum by name. Energy that was not counted from the beginning is left out: it would be too small."""
    begun_uncounted = costs.get("cost/wall_s", 0.0) > 0 and "cost/kwh" not in costs
    names = [name for name in NAMES if (name in costs or name in more) and not (name == "cost/kwh" and begun_uncounted)]
    return {name: costs.get(name, 0.0) + more.get(name, 0.0) for name in names}


class Recorded(Protocol):
    """A run with its metrics: `tracking.Found`, `result.RunResult`."""

    @property
    def run(self) -> Run: ...

    @property
    def metrics(self) -> Mapping[str, float]: ...


@dataclass(frozen=True)
class Spent:
    """What runs have cost together.

    Attributes:
        runs: how many, each counted once.
        wall_s: seconds of training, summed as if they had trained one after the other.
        device_hours: of workers (GPUs, or CPU cores).
        tflop: operations, as counted.
        kwh: energy; None if there is a run whose energy nobody counted.
        unknown: further runs, recorded without what they cost.
    """

    runs: int
    wall_s: float
    device_hours: float
    tflop: float
    kwh: float | None
    unknown: int = 0

    def text(self) -> str:
        """`19 runs: 0.15 device-hours, 61 TFLOP, energy: no counter`."""
        without = f" (and {self.unknown} whose cost was not recorded)" if self.unknown else ""
        runs = f"{self.runs} run{'s' if self.runs != 1 else ''}{without}"
        return f"{runs}: {self.device_hours:.2g} device-hours, {self.tflop:.3g} TFLOP, {energy_text(self.kwh)}"

    def as_json(self) -> dict[str, Any]:
        """The attributes by name."""
        return asdict(self)


def energy_text(kwh: float | None, *, without: str = "no counter") -> str:
    """`energy: 0.75 kWh`, or why there is no number."""
    return f"energy: {without}" if kwh is None else f"energy: {kwh:.3g} kWh"


def spent(records: Iterable[Recorded]) -> Spent:
    """Sum what runs have cost.

    Args:
        records: runs in any order; of one that stands there several times (a link has a copy of the costs) the dearest
            record counts.
    """
    known: dict[str, dict[str, float]] = {}
    for record in records:
        costs, run_id = costs_of(record.metrics), record.run.run_id
        if run_id not in known or costs.get("cost/device_s", -1.0) > known[run_id].get("cost/device_s", -1.0):
            known[run_id] = costs
    counted = [costs for costs in known.values() if "cost/device_s" in costs]
    sums = total(counted)
    return Spent(
        runs=len(counted), wall_s=sums["cost/wall_s"], device_hours=sums["cost/device_s"] / 3600,
        tflop=sums["cost/tflop"], kwh=sums.get("cost/kwh"), unknown=len(known) - len(counted),
    )  # fmt: skip
