"""Training and scoring what `report.gain` shows."""

from collections.abc import Mapping, Sequence
from typing import Any

from kdam_ray.config import Place, Run, Sweep
from kdam_ray.report.gain import GainTable
from kdam_ray.report.tables import SeedRow
from kdam_ray.service.finished.test_split import score_unseen
from kdam_ray.service.sweep import SweepResult, run_sweep
from kdam_ray.tasks import DATASETS


def run_study(
    sweeps: Sequence[tuple[str, Sweep, Sequence[tuple[str, int]]]],
    teachers: Mapping[str, Run],
    variants: Mapping[str, tuple[str, str, Any]],
    place: Place,
) -> tuple[GainTable, list[SweepResult]]:
    """Train what is missing, score every finished run on the test split.

    Args:
        sweeps: (teacher, sweep, (variant, seed) of each of its cells).
        teachers: by name.
        variants: name -> (label, label of its rival, ...), in the order of the rows.
        place: where.

    Returns:
        The study, and what each sweep came to.
    """
    runs: dict[tuple[str, int], Run] = {}
    results: list[SweepResult] = []
    for name, sweep, labels in sweeps:
        result = run_sweep(sweep, place, teachers=[teachers[name]])
        results.append(result)
        runs |= {label: row.run for label, row in zip(labels, result.rows, strict=True)}
    used = [teachers[name] for name, *_ in sweeps]
    scores = score_unseen([*runs.values(), *used], place)
    by_variant: dict[str, dict[int, dict[str, float]]] = {name: {} for name in variants}
    for (name, seed), run in runs.items():
        if run.run_id in scores:
            by_variant[name][seed] = scores[run.run_id]
    base = sweeps[0][1].base
    dataset = DATASETS[base.dataset]
    return GainTable(
        heading=(
            f"{base.student} on {base.dataset}, {base.epochs} epochs of {base.train_images} images, "
            f"scored on {dataset.test_images} images that chose nothing"
        ),
        tasks=tuple(task for task in dataset.tasks if task.name in base.tasks),
        rows=tuple(SeedRow(variants[name][0], found, variants[name][1]) for name, found in by_variant.items()),
        dataset=base.dataset,
        teachers={f"teacher {name} ({run.student})": scores[run.run_id] for name, run in teachers.items() if run.run_id in scores},
    ), results  # fmt: skip
