"""Table 5: beta at T = 3 (5a) and T at beta = 1 (5b), with the rows it must be read against.

The paper prints one run per cell and no spread. Here the teacher, the student without distillation at several seeds and
KDAM at beta 1 stand beside the cells, and sentences say which differences one seed can resolve at all.
"""

import math
import statistics
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from scipy.stats import chi2
from scipy.stats import t as student_t

from kdam_ray import paper
from kdam_ray.config import Run, titled
from kdam_ray.report.formats import Grid
from kdam_ray.report.tables import (
    DELTA,
    NOT_OUR_DATA,
    PAPER_DATA,
    RESOLVED,
    TITLES,
    Line,
    Resultset,
    Scored,
    as_json,
    as_text,
    grids,
    reference_of,
)
from kdam_ray.service.deltas import scores
from kdam_ray.tasks import DATASETS

if TYPE_CHECKING:  # what a table is made from may come from MLflow alone, without Ray
    from kdam_ray.service.records.tracking import Tracking
    from kdam_ray.service.result import SweepResult

FIXED_TEMPERATURE = 3.0  # of Table 5a
FIXED_BETA = 1.0  # of Table 5b
SEARCHED_SHOWN = 8
METHODS = {"plain_kd": "plain KD", "dist": "DIST", "kdam": "KDAM"}


def table_5(
    runs: Sequence[Scored],
    *,
    teacher: Scored | None,
    method: str | None = None,
    single_task: Mapping[str, float] | None = None,
    failed: Sequence[tuple[Run, str]] = (),
    smoke: bool = False,
) -> Resultset:
    """Table 5 from finished runs of one sweep.

    Args:
        runs: its students, references and searched runs among them, in any order; one that stands there twice (KDAM at
            beta 1 is a reference, and a cell where KDAM is swept) counts once.
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
    plain = [scored for scored in runs if scored.run.distill.method == "none"]
    no_kd = tuple(scored for scored in plain if scored.is_finished)  # what is compared with
    run = runs[0].run
    tasks = tuple(task for task in DATASETS[run.dataset].tasks if task.name in run.tasks)
    with_paper = [task.name for task in tasks] == [task.name for task in paper.TABLE_5A.tasks]
    lines = [*_cells(runs, method), *_searched(runs, method), *_references(runs, plain, teacher)]
    if not with_paper:
        lines = [Line(line.label, line.part, line.facts, line.runs) for line in lines]
    reference = reference_of(no_kd, single_task, tasks)
    instead = {"swin_l": teacher.run.student if teacher else None, "swin_t": run.student}
    return Resultset(
        "5", run.dataset, _heading(run, teacher, method, with_paper), tasks, tuple(lines), TITLES_OF_PARTS, reference, no_kd,
        failed=[{"run_id": item.run_id, "name": titled(item, runs[0].run), "reason": why} for item, why in failed],
        searched=len(_beside_the_cells(runs, method)),
        stand_ins={theirs: ours for theirs, ours in instead.items() if ours not in (None, theirs)}, smoke=smoke,
    )  # fmt: skip


TITLES_OF_PARTS = {
    "5a": "Table 5a. beta at T = 3, alpha = 1",
    "5b": "Table 5b. T at beta = 1, alpha = 1",
    "searched": "Searched between the cells, the best first",
    "reference": "To read them against",
}


def _heading(run: Run, teacher: Scored | None, method: str, with_paper: bool) -> str:
    ours = f"ours: {METHODS[method]}, {teacher.run.student if teacher else 'teacher'} teaches {run.student} on {run.dataset}"
    theirs = (
        "paper: plain KD, Swin-L teaches Swin-T on NYUD-v2"
        if with_paper
        else "the paper has no such table for these tasks"
    )
    return f"{ours}; {theirs}"


def _is_cell(run: Run, method: str) -> bool:
    distill = run.distill
    on_a_line = distill.temperature == FIXED_TEMPERATURE or distill.beta == FIXED_BETA
    return distill.method == method and distill.alpha == 1.0 and on_a_line


def _cells(runs: Sequence[Scored], method: str) -> list[Line]:
    """The paper's 7 + 7 rows and whatever else was swept, the shared cell in both."""
    cells = [scored for scored in runs if _is_cell(scored.run, method)]
    betas = {row.fact("beta") for row in paper.TABLE_5A.rows}
    betas |= {scored.run.distill.beta for scored in cells if scored.run.distill.temperature == FIXED_TEMPERATURE}
    temperatures = {row.fact("temperature") for row in paper.TABLE_5B.rows}
    temperatures |= {scored.run.distill.temperature for scored in cells if scored.run.distill.beta == FIXED_BETA}
    a = [_cell("5a", f"beta {beta:g}", cells, beta, FIXED_TEMPERATURE) for beta in sorted(betas)]
    return a + [_cell("5b", f"T {value:g}", cells, FIXED_BETA, value) for value in sorted(temperatures)]


def _cell(part: str, label: str, cells: Sequence[Scored], beta: float, temperature: float) -> Line:
    mine = [
        scored for scored in cells if (scored.run.distill.beta, scored.run.distill.temperature) == (beta, temperature)
    ]
    table = paper.TABLES[part]
    row = table.find(beta=beta, temperature=temperature)
    return Line(
        label, part, {"beta": beta, "temperature": temperature}, _by_seed(mine), _printed(table, row) if row else {}
    )


def _printed(table: paper.Table, row: paper.Row) -> dict[str, str]:
    """{"semseg/mIoU": "44.42", ...}, with the digits that stand there."""
    return {task.metric_key: text for task, text in zip(table.tasks, row.printed.split(), strict=True) if text != "-"}


def _by_seed(runs: Sequence[Scored]) -> tuple[Scored, ...]:
    return tuple(sorted(runs, key=lambda scored: scored.run.seed))


def _searched(runs: Sequence[Scored], method: str) -> list[Line]:
    lines = []
    for scored in sorted(_beside_the_cells(runs, method), key=_objective, reverse=True)[:SEARCHED_SHOWN]:
        distill = scored.run.distill
        facts = {"beta": distill.beta, "temperature": distill.temperature, "alpha": distill.alpha}
        lines.append(
            Line(
                f"β {distill.beta:.3g} T {distill.temperature:.3g} α {distill.alpha:.2g}", "searched", facts, (scored,)
            )
        )
    return lines


def _beside_the_cells(runs: Sequence[Scored], method: str) -> list[Scored]:
    return [scored for scored in runs if scored.run.distill.method == method and not _is_cell(scored.run, method)]


def _objective(*runs: Scored) -> float:
    """The mean over runs; -inf without a finite one."""
    values = [value for scored in runs if math.isfinite(value := scored.metrics.get("delta_teacher", math.nan))]
    return statistics.fmean(values) if values else float("-inf")


def _references(runs: Sequence[Scored], no_kd: Sequence[Scored], teacher: Scored | None) -> list[Line]:
    """Teacher, no KD and KDAM at beta 1, beside the paper's rows of the same meaning."""
    kdam = [
        s
        for s in runs
        if s.run.distill.method == "kdam" and (s.run.distill.beta, s.run.distill.temperature) == (FIXED_BETA, 1.0)
    ]
    printed = {row.model: _printed(paper.TABLE_1, row) for row in paper.TABLE_1.rows if row.group == "swin_t"}
    swin_l = next(
        _printed(paper.TABLE_4, row)
        for row in paper.TABLE_4.rows
        if row.group.startswith("swin_l teaching") and row.model == "MT"
    )
    seeds = f" ({len(no_kd)} seeds)" if len(no_kd) > 1 else ""
    name = f"teacher {teacher.run.student}" if teacher else "teacher"
    return [
        Line(name, "reference", {"role": "teacher"}, (teacher,) if teacher else (), swin_l),
        Line(f"no KD{seeds}", "reference", {"role": "no_kd"}, _by_seed(no_kd), printed["MT"]),
        Line("KDAM beta 1", "reference", {"role": "kdam"}, _by_seed(kdam), printed["MT+KDAM"]),
    ]


def recorded(
    tracking: "Tracking", dataset: str, sweep: str, parent: str, *, partial: bool = False, smoke: bool = False
) -> Resultset:
    """Table 5 of one sweep, from MLflow alone.

    Args:
        tracking: where.
        dataset: of ours.
        sweep: its name.
        parent: MLflow's id of its run.
        partial: also runs that have not finished, at the last epoch that was evaluated.
        smoke: the numbers mean nothing.

    Raises:
        ValueError: nothing finished there; names the experiment and the store.
    """
    wanted = ("finished", "unfinished") if partial else ("finished",)
    shown = [
        found.run.run_id for found in tracking.rows(dataset, sweep) if found.tags.get("mlflow.parentRunId") == parent
    ]
    members = list(tracking.find(shown).values())  # as they stand now, wherever they are trained
    mine = [found for found in members if found.status in wanted and scores(found.metrics)]
    if not mine:
        going_on = sum(found.status == "unfinished" for found in members)
        hint = (
            f"; {going_on} have not ended: --partial shows those that were evaluated"
            if going_on and not partial
            else ""
        )
        raise ValueError(
            f"table 5: no finished run in sweep {parent}, experiment kdam/{dataset}/{sweep} of {tracking.uri}{hint}"
        )
    runs = {
        found.run.run_id: Scored.of(found.run, found.metrics, is_finished=found.status == "finished") for found in mine
    }
    teacher_run = next((scored.run.teacher_run for scored in runs.values() if scored.run.teacher_run), None)
    found = tracking.find_finished(teacher_run) if teacher_run else None
    teacher = Scored.of(found.run, found.metrics) if found else None
    failed = [(found.run, found.reason or "no reason is recorded") for found in members if found.status == "failed"]
    single_task = tracking.single_task_reference(mine[0].run)
    return table_5(list(runs.values()), teacher=teacher, single_task=single_task, failed=failed, smoke=smoke)


# ----------------------------------------------------------------------------------------------------------- sentences
def sentences(results: Resultset) -> list[str]:
    """What the table may be read for: the Delta's reference, what one seed resolves, the best point found."""
    said = ["Ours: mean ± standard deviation over n seeds. Bold (asterisks in text): the best of its column."]
    if not results.same_data and any(line.printed for line in results.lines):
        said.append(NOT_OUR_DATA.format(theirs=PAPER_DATA, ours=results.dataset))
    said += (
        [results.reference.sentence]
        if results.reference
        else ["Delta: no reference (no finished run without distillation)."]
    )
    if results.failed:
        failed = "; ".join(f"{row['name']} ({row['run_id']}): {row['reason']}" for row in results.failed)
        said.append(f"Failed, so without numbers: {failed}.")
    return [*said, *_resolution(results), *_best(results)]


def _cell_lines(results: Resultset) -> list[Line]:
    """The distinct cells whose runs have all ended: the one that both tables share counts once."""
    mine = [line for line in results.lines if line.part.startswith("5") and line.runs and line.has_ended]
    return list({(line.facts["beta"], line.facts["temperature"]): line for line in mine}.values())


def _resolution(results: Resultset) -> list[str]:
    limits, plain = results.limits(), Line("", "reference", {}, results.no_kd)
    if not limits:
        have_some = [value.n for task in results.tasks if (value := plain.number(task.metric_key))]
        why = "without at least two no-KD seeds the spread between seeds is not known"
        return [
            f"One seed resolves nothing here: {why if max(have_some, default=0) < 2 else 'the no-KD seeds do not differ at all'}."
        ]
    have = {key: value.n for key in limits if (value := results.value(plain, key))}
    seeds = min(have.values())
    columns = {task.metric_key: (TITLES[task.name], task.unit) for task in results.tasks} | {DELTA: ("Delta", "%")}
    differences = ", ".join(f"{columns[key][0]} {limit:.2g} {columns[key][1]}" for key, limit in limits.items())
    cells, (low, high) = _cell_lines(results), _sd_range(seeds)
    counts = [(columns[key][0], [line.label for line in cells if results.is_resolved(line, key)]) for key in limits]
    lacking = [f"{columns[key][0]} of {count}" for key, count in have.items() if count < len(results.no_kd)]
    smallest = min((len(line.runs) for line in cells), default=1)
    counted = ", ".join(
        f"{title} {len(labels)}" + (f" ({', '.join(labels)})" if 0 < len(labels) <= 4 else "")
        for title, labels in counts
    )
    return [
        f"One seed resolves differences of more than 2·√2·sd of the {len(results.no_kd)} no-KD seeds"
        + (f" ({', '.join(lacking)})" if lacking else "")
        + f": {differences}. Smaller ones are chance.",
        f"Cells of {len(cells)} further than that from the no-KD mean (marked †): {counted}.",
        f"By chance alone about {len(cells) * _chance(seeds, smallest):.1f} of {len(cells)} in each column would be. An sd from "
        f"{seeds} runs is itself uncertain: the true one is {low:.1f} to {high:.1f} times that (95 %).",
    ]


def _chance(seeds: int, runs: int = 1) -> float:
    """P that a cell of `runs` runs without any effect lies beyond the limit: its distance from a mean of n, in sd
    estimated from the n.
    """
    return float(2 * student_t.sf(RESOLVED / (1 / runs + 1 / seeds) ** 0.5, seeds - 1))


def _sd_range(seeds: int) -> tuple[float, float]:
    """True sd / estimated sd, 95 % interval for normal noise."""
    low, high = chi2.ppf([0.975, 0.025], seeds - 1)
    return float(((seeds - 1) / low) ** 0.5), float(((seeds - 1) / high) ** 0.5)


def _best(results: Resultset) -> list[str]:
    lines = [*_cell_lines(results), *(line for line in results.lines if line.part == "searched" and line.has_ended)]
    line = max(lines, key=lambda line: _objective(*line.runs), default=None)
    if line is None or (objective := _objective(*line.runs)) == float("-inf"):
        return []
    cells, delta = len(_cell_lines(results)), results.line_delta(line)
    facts = {"alpha": 1.0, **line.facts}
    where = f"beta {facts['beta']:.3g}, T {facts['temperature']:.3g}, alpha {facts['alpha']:.3g}"
    plain = results.line_delta(Line("", "reference", {}, results.no_kd))
    than = "" if delta is None or plain is None else f" {'better' if delta.mean > plain.mean else 'worse'} than no KD"
    judged = f"more than one seed's chance{than}" if results.is_resolved(line, DELTA) else "not resolved by one seed"
    gain = "" if delta is None else f"; the table's Delta {delta.mean:+.2f} %, {judged}"
    searched = max(results.searched, len(lines) - cells)
    among = f"{cells} cells and {searched} searched run{'s' * (searched != 1)} that finished"
    return [f"Best of {among}, judged by Delta against the teacher: {where} ({objective:+.2f} %{gain})."]


# ------------------------------------------------------------------------------------------------------- the job's end
def of_result(result: "SweepResult", method: str) -> Resultset:
    """Table 5 of a sweep that has just ended.

    Raises:
        ValueError: nothing finished.
    """
    runs = [Scored.of(row.run, row.metrics) for row in result.rows if row.status == "finished"]
    teacher = next((Scored.of(row.run, row.metrics) for row in result.teachers if row.status == "finished"), None)
    failed = [(row.run, row.reason or "no reason is recorded") for row in result.rows if row.status == "failed"]
    single_task, smoke = result.single_task, result.sweep.smoke
    return table_5(runs, teacher=teacher, method=method, single_task=single_task, failed=failed, smoke=smoke)


def as_grids(results: Resultset) -> list[Grid]:
    """Its parts, with what they may be read for under the last."""
    *others, last = grids(results)
    others[0:1] = [replace(others[0], title=f"{others[0].title} ({results.heading})")]
    return [*others, replace(last, notes=tuple(sentences(results)))]


def as_report(results: Resultset, result: "SweepResult | None" = None) -> tuple[str, dict[str, Any]]:
    """What is printed, and the same as one JSON document; with a sweep's result also where everything lies."""
    said = sentences(results)
    text = [
        as_text(results),
        "",
        *(line for sentence in said for line in textwrap.wrap(sentence, 116, subsequent_indent="  ")),
    ]
    document = as_json(results) | {"notes": said}
    if result is not None:
        text += ["", *result.where(in_full=True)]
        document |= {
            "best": result.best_params, "trained": result.trained, "seconds": result.seconds, "experiment": result.experiment,
            "parent": result.parent, "tracking_uri": result.tracking_uri, "storage": result.storage, "study": result.study,
            "failed": [{"run_id": row.run.run_id, "reason": row.reason} for row in result.failed],
        }  # fmt: skip
    return "\n".join(text), document
