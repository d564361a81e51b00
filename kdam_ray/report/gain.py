"""The study of what distillation gains: every variant at several seeds, on images that chose nothing, beside its
controls.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kdam_ray.metrics import delta_mt
from kdam_ray.report.difference_grid import Column, Compared, compared_grid
from kdam_ray.report.formats import FORMATS, Cell, Grid
from kdam_ray.report.significance import Difference, holm, paired
from kdam_ray.report.tables import ARROWS, DELTA, DIGITS, TITLES, Number, number, ours
from kdam_ray.tasks import Task


@dataclass(frozen=True)
class Variant:
    """One way to train the student.

    Attributes:
        label: how its row is called.
        against: label of the variant that it is compared with; "": it is nobody's rival.
        by_seed: seed -> metrics by `Task.metric_key`, of finished runs.
    """

    label: str
    against: str
    by_seed: Mapping[int, Mapping[str, float]]


@dataclass(frozen=True)
class Study:
    """All variants on one split.

    Attributes:
        heading: what was trained.
        tasks: the columns.
        variants: rows, in order; the first is the reference of every Delta.
        teachers: label -> metrics of the teachers.
    """

    heading: str
    tasks: tuple[Task, ...]
    variants: tuple[Variant, ...]
    teachers: Mapping[str, Mapping[str, float]]

    def values(self, variant: Variant, key: str) -> dict[int, float]:
        """seed -> value of one metric, or of the Delta against the mean of the first variant; no Delta exists against
        0.
        """
        if key != DELTA:
            return {seed: metrics[key] for seed, metrics in variant.by_seed.items() if key in metrics}
        reference = {task.metric_key: self.number(self.variants[0], task.metric_key) for task in self.tasks}
        known = {name: value.mean for name, value in reference.items() if value is not None and value.mean != 0}
        complete = {
            seed: metrics
            for seed, metrics in variant.by_seed.items()
            if metrics.keys() >= reference.keys() == known.keys()
        }
        return {seed: delta_mt(metrics, known, self.tasks) for seed, metrics in complete.items()}

    def number(self, variant: Variant, key: str) -> Number | None:
        return number(list(self.values(variant, key).values()))

    def difference(self, variant: Variant, key: str) -> Difference | None:
        """Against the variant's rival; positive is larger, whatever is better."""
        rival = next((other for other in self.variants if other.label == variant.against), None)
        return None if rival is None else paired(self.values(variant, key), self.values(rival, key))

    @property
    def keys(self) -> list[str]:
        return [*(task.metric_key for task in self.tasks), DELTA]

    def corrected(self) -> dict[tuple[str, str], float | None]:
        """(label, key) -> p, corrected for the number of all tests printed; None: no test."""
        compared = [
            (v, key, d) for v in self.variants for key in self.keys if (d := self.difference(v, key)) is not None
        ]
        return {(v.label, key): p for (v, key, _), p in zip(compared, holm([d.p for *_, d in compared]), strict=True)}


def grids(study: Study) -> list[Grid]:
    """Means and deviations, then every comparison with its interval."""
    columns = {
        task.metric_key: Column(f"{TITLES[task.name]} {ARROWS[task.higher_is_better]} {task.unit}", DIGITS[task.unit])
        for task in study.tasks
    }
    columns |= {DELTA: Column("Δ ↑ %", 2)}
    header = ("", "n", *(column.title for column in columns.values()))
    rows = [_taught(study, label, metrics) for label, metrics in study.teachers.items()]
    rows += [_line(study, variant, columns) for variant in study.variants]
    note = f"Mean ± standard deviation over n seeds. Δ: against the mean of {study.variants[0].label}."
    means = Grid(study.heading, header, 1, tuple(rows), (note,))
    corrected = study.corrected()
    compared = []
    for variant in study.variants:
        found = {
            key: (d, corrected[variant.label, key])
            for key in study.keys
            if (d := study.difference(variant, key)) is not None
        }
        if found:
            compared.append(Compared((f"{variant.label} − {variant.against}",), found))
    return [means] + (
        [compared_grid("What each variant changes", ("variant − rival",), columns, compared)] if compared else []
    )


def _taught(study: Study, label: str, metrics: Mapping[str, float]) -> tuple[Cell, ...]:
    """A teacher's row: one run, no Delta."""
    values = (number([metrics[task.metric_key]]) if task.metric_key in metrics else None for task in study.tasks)
    cells = (Cell(ours(value, DIGITS[task.unit])) for value, task in zip(values, study.tasks, strict=True))
    return Cell(label), Cell("1"), *cells, Cell("-")


def _line(study: Study, variant: Variant, columns: Mapping[str, Column]) -> tuple[Cell, ...]:
    cells = (
        Cell(ours(study.number(variant, key), column.digits, signed=key == DELTA, of=len(variant.by_seed)))
        for key, column in columns.items()
    )
    return Cell(variant.label), Cell(str(len(variant.by_seed))), *cells


def as_text(study: Study) -> str:
    """For people."""
    return FORMATS["text"](grids(study))


def as_json(study: Study) -> dict[str, Any]:
    """The same for programs."""
    corrected = study.corrected()
    return {
        "heading": study.heading,
        "teachers": study.teachers,
        "rows": [_row(study, variant, corrected) for variant in study.variants],
    }


def _row(study: Study, variant: Variant, corrected: Mapping[tuple[str, str], float | None]) -> dict[str, Any]:
    numbers = {key: value for key in study.keys if (value := study.number(variant, key)) is not None}
    differences = {key: found for key in study.keys if (found := study.difference(variant, key)) is not None}
    return {
        "variant": variant.label,
        "against": variant.against,
        "seeds": sorted(variant.by_seed),
        "metrics": {key: {"mean": value.mean, "std": value.std, "n": value.n} for key, value in numbers.items()},
        "differences": {
            key: {
                "mean": d.mean,
                "low": d.low,
                "high": d.high,
                "p": d.p,
                "p_corrected": corrected[variant.label, key],
                "pairs": d.pairs,
            }
            for key, d in differences.items()
        },
    }
