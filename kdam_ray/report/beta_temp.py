"""Table 5: beta at T = 3 (5a) and T at beta = 1 (5b), with the rows it must be read against.

The paper prints one run per cell and no spread. Here the teacher, the student without distillation at several seeds and
KDAM at beta 1 stand beside the cells. `beta_temp_grid` shows it, with sentences that say which differences one seed can
resolve at all.
"""

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from kdam_ray import paper
from kdam_ray.config import Run
from kdam_ray.report.tables import DELTA, NOT_PRINTED, RunTable, SeedRow, number
from kdam_ray.service.deltas import full_names, scores
from kdam_ray.service.search.confirmation import SEEDS
from kdam_ray.tasks import DATASETS
from kdam_ray.titles import titled

if TYPE_CHECKING:  # what a table is made from may come from MLflow alone, without Ray
    from kdam_ray.service.records import Tracking
    from kdam_ray.service.result import SweepResult

FIXED_TEMPERATURE = 3.0  # of Table 5a
FIXED_BETA = 1.0  # of Table 5b
METHODS = {"plain_kd": "plain KD", "dist": "DIST", "kdam": "KDAM"}
RESOLVED = 8**0.5  # sds by which two runs that differ by chance alone are further apart in about 5 % of cases
RULE = "2·√2·sd"  # the same in words
CALLED_BEST = SEEDS  # at least: the highest of many single runs is the luckiest too
BESIDE = "reference"  # part of the rows to read the cells against; documents of earlier versions have it so too
PARTS = {
    "5a": "Table 5a. beta at T = 3, alpha = 1",
    "5b": "Table 5b. T at beta = 1, alpha = 1",
    "searched": "Searched between the cells, the highest Delta first",
    BESIDE: "To read them against",
}
CELLS = ("5a", "5b")
NO_REASON = "no reason is recorded"


@dataclass(frozen=True)
class Scored:
    """A run and its last metrics.

    Attributes:
        run: the run.
        metrics: by `Task.metric_key`, in the paper's units.
        is_finished: otherwise they are of the last epoch that was evaluated.
    """

    run: Run
    metrics: Mapping[str, float]
    is_finished: bool = True

    @classmethod
    def of(cls, run: Run, recorded: Mapping[str, float], *, is_finished: bool = True) -> "Scored":
        """From metrics as MLflow has them ("val/semseg/mIoU").

        Of an unfinished run a look at boundaries counts as their metric.
        """
        metrics = {key.removeprefix("val/"): value for key, value in recorded.items() if key.startswith("val/")}
        return cls(run, metrics if is_finished else full_names(metrics), is_finished)


@dataclass(frozen=True)
class BetaTempTable(RunTable):
    """Table 5: cells, searched runs, and the rows to read them against.

    Attributes:
        heading: which systems and data ours and the paper's numbers are of.
        single_task: metrics of single-task runs of the student, by `Task.metric_key`; empty: there are none.
        failed: {"run_id", "name", "reason"} of the runs that failed.
        searched: searched points that are known.
    """

    heading: str = ""
    single_task: Mapping[str, float] = field(default_factory=dict)
    failed: Sequence[Mapping[str, str]] = ()
    searched: int = 0

    @property
    def untaught(self) -> SeedRow:
        """The finished runs without distillation, whose spread says what one seed can resolve."""
        return next((row.ended for row in self.rows if row.facts.get("role") == "no_kd"), SeedRow("no KD", {}))

    @property
    def delta_kind(self) -> Literal["single-task", "no KD"] | None:
        """What Deltas are measured against: single-task runs if all metrics are known, else the mean without KD."""
        needed = {task.metric_key for task in self.tasks}
        if needed <= {key for key, value in self.single_task.items() if math.isfinite(value)}:
            return "single-task"
        return "no KD" if needed <= self.means(self.untaught).keys() else None

    def reference(self, row: SeedRow) -> Mapping[str, float]:
        """Single-task metrics or, without them, the no-KD mean: equal for all rows."""
        return self.single_task if self.delta_kind == "single-task" else self.means(self.untaught)

    def peers(self, row: SeedRow) -> bool:
        """Cells and searched runs together: they are points of one plane."""
        return row.part != BESIDE

    def competes(self, row: SeedRow, key: str) -> bool:
        """Points that have ended and have several seeds; the rows to read them against are other things."""
        return super().competes(row, key) and self.peers(row) and len(self.values(row, key)) >= CALLED_BEST

    def is_marked(self, row: SeedRow, key: str) -> bool:
        """Whether a distilled row that has ended differs by more than one seed's chance.

        The teacher is another network, the no-KD runs are what is compared with, the rest has ended.
        """
        distilled = row.facts.get("role") not in ("teacher", "no_kd") and not row.unfinished
        return distilled and self.is_resolved(row, key)

    def limits(self) -> dict[str, float]:
        """The difference that one seed can resolve in each column: `RULE` of the no-KD runs.

        A column in which they do not differ at all has none: that says nothing of chance.
        """
        numbers = {key: self.number(self.untaught, key) for key in self.keys}
        return {key: RESOLVED * value.std for key, value in numbers.items() if value is not None and value.std}

    def band(self, key: str) -> tuple[float, float] | None:
        """From where to where one run may be by chance: the no-KD mean and the limit on both sides.

        The only rule of its kind: tables mark (†) what lies outside, plots shade it, titles count what is outside.
        """
        plain, limit = self.number(self.untaught, key), self.limits().get(key)
        return None if plain is None or limit is None else (plain.mean - limit, plain.mean + limit)

    def side(self, row: SeedRow, key: str) -> Literal["better", "worse", "inside"] | None:
        """On which side of the band the row's mean lies; None without a band or a number."""
        found, band = self.number(row, key), self.band(key)
        if found is None or band is None:
            return None
        if band[0] <= found.mean <= band[1]:
            return "inside"
        return "better" if (found.mean > band[1]) == self.higher_is_better(key) else "worse"

    def is_resolved(self, row: SeedRow, key: str) -> bool:
        """Whether the row is further from the no-KD mean than one seed's chance."""
        return self.side(row, key) in ("better", "worse")

    def twin(self, row: SeedRow) -> SeedRow | None:
        """The row of another part that has the same runs: beta 1 of Table 5a is T 3 of Table 5b."""
        mine = dict(row.run_ids)
        others = (other for other in self.rows if other is not row and other.part != row.part)
        return next((other for other in others if mine and dict(other.run_ids) == mine), None)

    @property
    def points(self) -> list[SeedRow]:
        """Cells and searched points whose runs have all ended, the best first.

        By what the search maximises, the Delta against the teacher, as the sweep's own result has it; of records
        without it by the table's Delta.
        """
        rows = [*self.cells, *(row for row in self.rows if row.part == "searched" and not row.unfinished)]
        deltas = [(objective(row), value.mean, row) for row in rows if (value := self.number(row, DELTA)) is not None]
        return [row for *_, row in sorted(deltas, key=lambda item: (-item[0], -item[1]))]

    def best(self, peers: Hashable, key: str) -> tuple[SeedRow, ...]:
        """The best of a column; of the Delta the point that the text and the sweep's result call best too."""
        if key != DELTA or not peers:
            return super().best(peers, key)
        return tuple(self.confirmed[:1]) if len(self.confirmed) > 1 else ()

    @property
    def confirmed(self) -> list[SeedRow]:
        """Those points that have the seeds that the word best needs, the best first."""
        return [row for row in self.points if len(self.values(row, DELTA)) >= CALLED_BEST]

    @property
    def cells(self) -> list[SeedRow]:
        """The distinct cells whose runs have all ended: the one that both tables share counts once."""
        mine = [row for row in self.rows if row.part in CELLS and row.seeds and not row.unfinished]
        return list({(row.facts["beta"], row.facts["temperature"]): row for row in mine}.values())


# ------------------------------------------------------------------------------------------------------------ its rows
def table_5(
    runs: Sequence[Scored],
    *,
    teacher: Scored | None,
    method: str | None = None,
    single_task: Mapping[str, float] | None = None,
    failed: Sequence[tuple[Run, str]] = (),
    smoke: bool = False,
) -> BetaTempTable:
    """Table 5 from finished runs of one sweep.

    Args:
        runs: its students, those without distillation and searched ones among them, in any order; one that stands there
            twice (KDAM at beta 1 is beside the cells, and a cell where KDAM is swept) counts once.
        teacher: the teacher's run.
        method: distillation of the cells; None: the one that most runs use.
        single_task: metrics of single-task runs of the student, by `Task.metric_key`; None: there are none.
        failed: runs that failed, and why.
        smoke: the numbers mean nothing.

    Raises:
        ValueError: no run at all.
    """
    if not runs:
        raise ValueError("no finished run to make Table 5 from")
    runs = list({scored.run.run_id: scored for scored in runs}.values())
    used = Counter(scored.run.distill.method for scored in runs if scored.run.distill.method != "none").most_common(1)
    method = method or (used[0][0] if used else "plain_kd")
    run = runs[0].run
    tasks = tuple(task for task in DATASETS[run.dataset].tasks if task.name in run.tasks)
    with_paper = [task.name for task in tasks] == [task.name for task in paper.TABLE_5A.tasks]
    searched = _searched(runs, method)
    rows = [*_cells(runs, method), *searched, *_beside(runs, teacher)]
    instead = {"swin_l": teacher.run.student if teacher else None, "swin_t": run.student}
    return BetaTempTable(
        tasks, tuple(row if with_paper else replace(row, printed=NOT_PRINTED) for row in rows), run.dataset,
        {theirs: ours for theirs, ours in instead.items() if ours not in (None, theirs)}, smoke, paper.TABLE_5A.dataset,
        heading=_heading(run, teacher, method, with_paper), single_task=single_task or {},
        failed=[{"run_id": item.run_id, "name": titled(item, run), "reason": why} for item, why in failed],
        searched=len(searched),
    )  # fmt: skip


def _heading(run: Run, teacher: Scored | None, method: str, with_paper: bool) -> str:
    by = teacher.run.student if teacher else "teacher"
    theirs = "plain KD, Swin-L teaches Swin-T on NYUD-v2"
    beside = f"paper: {theirs}" if with_paper else "the paper has no such table for these tasks"
    return f"ours: {METHODS[method]}, {by} teaches {run.student} on {run.dataset}; {beside}"


def _row(
    label: str, part: str, facts: Mapping[str, Any], runs: Sequence[Scored], printed: paper.Row = NOT_PRINTED
) -> SeedRow:
    by_seed = {scored.run.seed: scored for scored in sorted(runs, key=lambda scored: scored.run.seed)}
    first = next((scored.run for scored in by_seed.values()), None)
    return SeedRow(
        label, {seed: scored.metrics for seed, scored in by_seed.items()}, part=part, facts=facts, printed=printed,
        run_ids={seed: (scored.run.run_id,) for seed, scored in by_seed.items()},
        network=first.student if first else "", epochs=first.epochs if first else 0,
        unfinished=frozenset(seed for seed, scored in by_seed.items() if not scored.is_finished),
    )  # fmt: skip


def _is_cell(run: Run, method: str) -> bool:
    distill = run.distill
    on_a_line = distill.temperature == FIXED_TEMPERATURE or distill.beta == FIXED_BETA
    return distill.method == method and distill.alpha == 1.0 and on_a_line


def _point(run: Run) -> tuple[float, float]:
    return run.distill.beta, run.distill.temperature


def _cells(runs: Sequence[Scored], method: str) -> list[SeedRow]:
    """The paper's 7 + 7 rows and whatever else was swept, the shared cell in both."""
    cells = [scored for scored in runs if _is_cell(scored.run, method)]
    points = {(row.fact("beta"), row.fact("temperature")) for row in (*paper.TABLE_5A.rows, *paper.TABLE_5B.rows)}
    swept = sorted(points | {_point(scored.run) for scored in cells})
    shown = [("5a", f"beta {beta:g}", beta, value) for beta, value in swept if value == FIXED_TEMPERATURE]
    shown += [("5b", f"T {value:g}", beta, value) for beta, value in swept if beta == FIXED_BETA]
    return [
        _row(
            label, part, {"beta": beta, "temperature": temperature},
            [scored for scored in cells if _point(scored.run) == (beta, temperature)],
            paper.TABLES[part].find(beta=beta, temperature=temperature) or NOT_PRINTED,
        ) for part, label, beta, temperature in shown
    ]  # fmt: skip


def _searched(runs: Sequence[Scored], method: str) -> list[SeedRow]:
    """Every point beside the cells, the highest mean objective first."""
    points: dict[tuple[float, float, float], list[Scored]] = {}
    for scored in runs:
        distill = scored.run.distill
        if distill.method == method and not _is_cell(scored.run, method):
            points.setdefault((distill.beta, distill.temperature, distill.alpha), []).append(scored)
    rows = []
    for (beta, temperature, alpha), mine in points.items():
        label = f"β {beta:.3g} T {temperature:.3g}" + f" α {alpha:.2g}" * (alpha != 1.0)
        rows.append(_row(label, "searched", {"beta": beta, "temperature": temperature, "alpha": alpha}, mine))
    return sorted(rows, key=objective, reverse=True)


def objective(row: SeedRow) -> float:
    """The mean over its runs; -inf without a finite one."""
    found = number(list(row.values("delta_teacher").values()))
    return float("-inf") if found is None else found.mean


def _beside(runs: Sequence[Scored], teacher: Scored | None) -> list[SeedRow]:
    """Teacher, no KD and KDAM at beta 1, beside the paper's rows of the same meaning."""
    plain = [scored for scored in runs if scored.run.distill.method == "none"]
    kdam = [
        scored for scored in runs if scored.run.distill.method == "kdam" and _point(scored.run) == (FIXED_BETA, 1.0)
    ]
    printed = {row.model: row for row in paper.TABLE_1.rows if row.backbone == "swin_t"}
    swin_l = next(row for row in paper.TABLE_4.rows if row.is_teacher and (row.backbone, row.model) == ("swin_l", "MT"))
    seeds = f" ({len(plain)} seeds)" if len(plain) > 1 else ""
    name = f"teacher {teacher.run.student}" if teacher else "teacher"
    return [
        _row(name, BESIDE, {"role": "teacher"}, (teacher,) if teacher else (), swin_l),
        _row(f"no KD{seeds}", BESIDE, {"role": "no_kd"}, plain, printed["MT"]),
        _row("KDAM beta 1", BESIDE, {"role": "kdam"}, kdam, printed["MT+KDAM"]),
    ]


def recorded(
    tracking: "Tracking", dataset: str, sweep: str, parent: str, *, partial: bool = False, smoke: bool = False
) -> BetaTempTable:
    """Table 5 of one sweep, from MLflow alone.

    Args:
        tracking: where.
        dataset: of ours.
        sweep: its name.
        parent: MLflow's id of its run.
        partial: also runs that have not finished, at the last epoch that was evaluated.
        smoke: its numbers mean nothing.

    Raises:
        ValueError: nothing finished there; names the experiment and the store.
    """
    wanted = ("finished", "unfinished") if partial else ("finished",)
    children = tracking.rows(dataset, sweep)
    shown = [found.run.run_id for found in children if found.tags.get("mlflow.parentRunId") == parent]
    members = list(tracking.find(shown).values())  # as they stand now, wherever they are trained
    mine = [found for found in members if found.status in wanted and scores(found.metrics)]
    if not mine:
        going_on = sum(found.status == "unfinished" for found in members)
        hint = f"; {going_on} have not ended: --partial shows those that were evaluated"
        raise ValueError(
            f"table 5: no finished run in sweep {parent}, experiment kdam/{dataset}/{sweep} of {tracking.shown}"
            + (hint if going_on and not partial else "")
        )
    runs = [Scored.of(found.run, found.metrics, is_finished=found.status == "finished") for found in mine]
    teacher_run = next((found.run.teacher_run for found in mine if found.run.teacher_run), None)
    taught_by = tracking.find_finished(teacher_run) if teacher_run else None
    return table_5(
        runs, teacher=Scored.of(taught_by.run, taught_by.metrics) if taught_by else None, smoke=smoke,
        single_task=tracking.single_task_reference(mine[0].run),
        failed=[(found.run, found.reason or NO_REASON) for found in members if found.status == "failed"],
    )  # fmt: skip


def of_result(result: "SweepResult", method: str) -> BetaTempTable:
    """Table 5 of a sweep that has just ended.

    Raises:
        ValueError: nothing finished.
    """
    runs = [Scored.of(row.run, row.metrics) for row in result.rows if row.status == "finished"]
    teacher = next((Scored.of(row.run, row.metrics) for row in result.teachers if row.status == "finished"), None)
    failed = [(row.run, row.reason or NO_REASON) for row in result.rows if row.status == "failed"]
    return table_5(
        runs, teacher=teacher, method=method, single_task=result.single_task, failed=failed, smoke=result.sweep.smoke
    )
