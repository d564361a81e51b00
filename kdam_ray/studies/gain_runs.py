"""Training and scoring what `report.gain` shows."""

from collections.abc import Mapping, Sequence

from kdam_ray.config import Place, Run
from kdam_ray.report.gain import GainTable
from kdam_ray.report.tables import SeedRow
from kdam_ray.service.finished.test_split import score_unseen
from kdam_ray.service.result import SweepResult
from kdam_ray.service.sweep import run_sweep
from kdam_ray.studies.gain import TrainedVariant, VariantSweep
from kdam_ray.tasks import DATASETS


def run_study(
    sweeps: Sequence[VariantSweep], variants: Mapping[str, TrainedVariant], place: Place
) -> tuple[GainTable, list[SweepResult]]:
    """Train what is missing, score every finished run on the test split.

    Args:
        sweeps: what is trained; see `gain.gain_sweeps`.
        variants: by name, in the order of the rows.
        place: where.

    Returns:
        The study, and what each sweep came to.
    """
    runs: dict[tuple[str, int], Run] = {}
    results: list[SweepResult] = []
    for wanted in sweeps:
        results.append(run_sweep(wanted.sweep, place, teachers=[wanted.teacher]))
        runs |= {label: row.run for label, row in zip(wanted.labels, results[-1].rows, strict=True)}
    scores = score_unseen([*runs.values(), *(wanted.teacher for wanted in sweeps)], place)
    by_variant: dict[str, dict[int, dict[str, float]]] = {name: {} for name in variants}
    for (name, seed), run in runs.items():
        if run.run_id in scores:
            by_variant[name][seed] = scores[run.run_id]
    ids = {item: run.run_id for item, run in runs.items()}
    base = sweeps[0].sweep.base
    dataset = DATASETS[base.dataset]
    return GainTable(
        heading=(
            f"{base.student} on {base.dataset}, {base.epochs} epochs of {base.train_images} images, "
            f"scored on {dataset.test_images} images that chose nothing"
        ),
        tasks=tuple(task for task in dataset.tasks if task.name in base.tasks),
        rows=tuple(
            SeedRow(row.label, found, row.rival, run_ids={seed: (ids[name, seed],) for seed in found})
            for name, row in variants.items()
            for found in [by_variant[name]]
        ),
        dataset=base.dataset,
        teachers={
            f"teacher {wanted.teacher_name} ({wanted.teacher.student})": scores[wanted.teacher.run_id]
            for wanted in sweeps
            if wanted.teacher.run_id in scores
        },
    ), results
