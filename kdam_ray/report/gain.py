"""The study of what distillation gains: every variant at several seeds, on images that chose nothing, beside its controls."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kdam_ray.metrics import delta_mt
from kdam_ray.report.significance import Difference, holm, paired
from kdam_ray.report.tables import ARROWS, DELTA, TITLES, Number, number
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
        """seed -> value of one metric, or of the Delta against the mean of the first variant."""
        if key != DELTA:
            return {seed: metrics[key] for seed, metrics in variant.by_seed.items() if key in metrics}
        reference = {task.metric_key: self.number(self.variants[0], task.metric_key) for task in self.tasks}
        known = {name: value.mean for name, value in reference.items() if value is not None}
        complete = {seed: metrics for seed, metrics in variant.by_seed.items() if metrics.keys() >= reference.keys() == known.keys()}
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

    def corrected(self) -> dict[tuple[str, str], float]:
        """(label, key) -> p, corrected for the number of all comparisons printed."""
        compared = [(v, key, d) for v in self.variants for key in self.keys if (d := self.difference(v, key)) is not None]
        return {(v.label, key): p for (v, key, _), p in zip(compared, holm([d.p for *_, d in compared]), strict=True)}


def as_text(study: Study) -> str:
    """Means and deviations, then every comparison with its interval."""
    titles = [*(f"{TITLES[task.name]} {ARROWS[task.higher_is_better]}" for task in study.tasks), "Delta ↑"]
    width = max(len(variant.label) for variant in study.variants) + 2
    lines = [study.heading, "", f"{'':{width}}{'seeds':>6}" + "".join(f"{title:>18}" for title in titles)]
    for label, metrics in study.teachers.items():
        lines.append(f"{label:{width}}{'':6}" + "".join(f"{metrics.get(task.metric_key, float('nan')):18.3f}" for task in study.tasks))
    for variant in study.variants:
        cells = (_cell(study.number(variant, key)) for key in study.keys)
        lines.append(f"{variant.label:{width}}{len(variant.by_seed):6}" + "".join(f"{cell:>18}" for cell in cells))
    lines += ["", "Paired by seed: mean difference [95 % interval], p of the paired t-test, p corrected for all comparisons (Holm)."]
    corrected = study.corrected()
    for variant in study.variants:
        for key, title in zip(study.keys, titles, strict=True):
            if (found := study.difference(variant, key)) is not None:
                lines.append(
                    f"{variant.label} - {variant.against}, {title}: {found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}], "
                    f"p {found.p:.4f}, corrected {corrected[variant.label, key]:.4f}, larger in {found.wins} of {found.pairs}"
                )
    return "\n".join(lines)


def _cell(value: Number | None) -> str:
    if value is None:
        return "missing"
    return f"{value.mean:.3f}" + (f" ± {value.std:.3f}" if value.std is not None else "")


def as_json(study: Study) -> dict[str, Any]:
    """The same for programs."""
    corrected = study.corrected()
    return {"heading": study.heading, "teachers": study.teachers, "rows": [_row(study, variant, corrected) for variant in study.variants]}


def _row(study: Study, variant: Variant, corrected: Mapping[tuple[str, str], float]) -> dict[str, Any]:
    numbers = {key: value for key in study.keys if (value := study.number(variant, key)) is not None}
    differences = {key: found for key in study.keys if (found := study.difference(variant, key)) is not None}
    return {
        "variant": variant.label,
        "against": variant.against,
        "seeds": sorted(variant.by_seed),
        "metrics": {key: {"mean": value.mean, "std": value.std, "n": value.n} for key, value in numbers.items()},
        "differences": {
            key: {"mean": d.mean, "low": d.low, "high": d.high, "p": d.p, "p_corrected": corrected[variant.label, key], "pairs": d.pairs}
            for key, d in differences.items()
        },
    }
