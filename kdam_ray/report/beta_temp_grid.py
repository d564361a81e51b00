"""Table 5 shown: a grid for each of its parts, what it may be read for in sentences, one JSON document."""

import textwrap
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from scipy.stats import chi2
from scipy.stats import t as student_t

from kdam_ray.report.beta_temp import CALLED_BEST, CELLS, PARTS, RESOLVED, RULE, BetaTempTable
from kdam_ray.report.formats import FORMATS, Grid
from kdam_ray.report.significance import CONFIDENCE, Difference, holm, paired
from kdam_ray.report.table_grid import DELTA_TITLE, counted, grid_of, ours, task_columns, texts
from kdam_ray.report.tables import DELTA, TITLES, SeedRow, number

if TYPE_CHECKING:  # a table may come from MLflow alone, without Ray
    from kdam_ray.service.sweep import SweepResult

SEARCHED_SHOWN = 8
CONFIRMED_SHOWN = 3  # in sentences
DELTA_MEANS = {
    "single-task": (
        "Delta: mean signed change over the tasks against the single-task runs, in percent; positive is better."
    ),
    "no KD": (
        "Delta: mean signed change over the tasks in percent, positive is better; no single-task reference, so against "
        "the mean of the no-KD runs."
    ),
    None: "Delta: no reference (no finished run without distillation).",
}


# ----------------------------------------------------------------------------------------------------------- sentences
def sentences(results: BetaTempTable) -> list[str]:
    """What the table may be read for: the Delta's reference, what one seed resolves, the best point found."""
    said = [
        "Ours: mean ± standard deviation over n seeds. Bold (asterisks in text): the best of its column among the "
        f"cells and searched points of at least {CALLED_BEST} seeds."
    ]
    said += [*results.data_notes, _delta(results)]
    if results.failed:
        failed = "; ".join(f"{row['name']} ({row['run_id']}): {row['reason']}" for row in results.failed)
        said.append(f"Failed, so without numbers: {failed}.")
    return [*said, *_resolution(results), *_best(results)]


def _delta(results: BetaTempTable) -> str:
    """What a Delta of this table means."""
    reference = results.reference(results.untaught)
    zeros = [task.metric_key for task in results.tasks if reference.get(task.metric_key) == 0]
    if zeros and results.delta_kind:
        return f"Delta does not exist: the reference's {', '.join(zeros)} is 0 ({results.delta_kind} runs)."
    return DELTA_MEANS[results.delta_kind]


def _resolution(results: BetaTempTable) -> list[str]:
    limits, plain = results.limits(), results.untaught
    have = {key: value.n for key in results.keys if (value := results.number(plain, key))}
    if not limits:
        lone = max((have[task.metric_key] for task in results.tasks if task.metric_key in have), default=0) < 2
        why = "without at least two no-KD seeds the spread between seeds is not known"
        return [f"One seed resolves nothing here: {why if lone else 'the no-KD seeds do not differ at all'}."]
    names = {task.metric_key: TITLES[task.name] for task in results.tasks} | {DELTA: "Delta"}
    units = {task.metric_key: task.unit for task in results.tasks} | {DELTA: "%"}
    cells, seeds = results.cells, min(have[key] for key in limits)
    low, high = _sd_range(seeds)
    differences = ", ".join(f"{names[key]} {limit:.2g} {units[key]}" for key, limit in limits.items())
    lacking = ", ".join(f"{names[key]} of {have[key]}" for key in limits if have[key] < len(plain.seeds))
    counts = {key: [row.label for row in cells if results.is_resolved(row, key)] for key in limits}
    marked = ", ".join(
        f"{names[key]} {len(labels)}" + (f" ({', '.join(labels)})" if 0 < len(labels) <= 4 else "")
        for key, labels in counts.items()
    )
    return [
        f"One seed resolves differences of more than {RULE} of the {len(plain.seeds)} no-KD seeds"
        f"{f' ({lacking})' if lacking else ''}: {differences}. Smaller ones are chance.",
        f"Cells of {len(cells)} further than that from the no-KD mean (marked †; outside the band of the plots): "
        f"{marked}.",
        f"By chance alone about {by_chance(results):.1f} of {len(cells)} in each column would be. An sd from {seeds} "
        f"runs is itself uncertain: the true one is {low:.1f} to {high:.1f} times that (95 %).",
    ]


def by_chance(results: BetaTempTable) -> float:
    """How many cells without any effect are expected outside the band of a column."""
    seeds = min(value.n for key in results.limits() if (value := results.number(results.untaught, key)))
    return len(results.cells) * _chance(seeds, min((len(row.seeds) for row in results.cells), default=1))


def _chance(seeds: int, runs: int = 1) -> float:
    """Probability that a cell of `runs` runs without any effect lies beyond the limit.

    Its distance is from a mean of n, in sd estimated from the n.
    """
    return float(2 * student_t.sf(RESOLVED / (1 / runs + 1 / seeds) ** 0.5, seeds - 1))


def _sd_range(seeds: int) -> tuple[float, float]:
    """True sd / estimated sd, 95 % interval for normal noise."""
    low, high = chi2.ppf([0.975, 0.025], seeds - 1)
    return float(((seeds - 1) / low) ** 0.5), float(((seeds - 1) / high) ** 0.5)


def _best(results: BetaTempTable) -> list[str]:
    """The point that is called best by its Delta, which is the bold one; or the only confirmed one; or why none is."""
    if not results.points:
        return []
    cells, first = len(results.cells), results.points[0]
    searched = max(results.searched, len(results.points) - cells)
    among = f"{cells} cells and {searched} searched point{'s' * (searched != 1)} that finished"
    if not results.confirmed:
        return [
            f"Of {among} none is called best: that takes {CALLED_BEST} seeds, for the highest of many single runs is "
            f"the luckiest too; --confirm trains further seeds. Ahead: {_point(results, first)}."
        ]
    tests = _against_no_kd(results)
    said = [_judged(results, row, difference, p) for row, difference, p in tests[:CONFIRMED_SHOWN]]
    more = f" ({len(said)} of {len(tests)} shown)" if len(tests) > len(said) else ""
    confirmed = f"confirmed at {CALLED_BEST} seeds or more{more}, from {among}"
    if results.best(results.peers(first), DELTA):
        confirmed = f"best of {len(tests)} {confirmed}, by the Delta against the teacher (bold at Δ)"
    return [
        f"{confirmed[0].upper()}{confirmed[1:]}: {said[0]}.",
        *([f"The other{'s' * (len(said) > 2)} confirmed: {'; '.join(said[1:])}."] if said[1:] else []),
        "The seed that chose a point is one of its seeds, so some of that seed's luck is still in its mean.",
    ]


def _where(row: SeedRow) -> str:
    facts = {"alpha": 1.0, **row.facts}
    return f"beta {facts['beta']:.3g}, T {facts['temperature']:.3g}, alpha {facts['alpha']:.3g}"


def _point(results: BetaTempTable, row: SeedRow) -> str:
    """`beta 8.07, T 0.541, alpha 0.702 (Delta +4.06 %, 1 seed, not more than chance from no KD)`."""
    delta, side = results.number(row, DELTA), results.side(row, DELTA)
    assert delta is not None, "a point has a Delta"
    judged = f"more than chance {side} than no KD" if side in ("better", "worse") else "not more than chance from no KD"
    return f"{_where(row)} ({delta.mean:+.2f} %, {delta.n} seed{'s' * (delta.n != 1)}, {judged})"


def _against_no_kd(results: BetaTempTable) -> list[tuple[SeedRow, Difference | None, float | None]]:
    """Confirmed points, best first: the Delta of each against no KD paired by seed, p corrected for their number."""
    plain = results.values(results.untaught, DELTA)
    found = [(row, paired(results.values(row, DELTA), plain)) for row in results.confirmed]
    corrected = holm([difference.p if difference else None for _, difference in found])
    return [(row, difference, p) for (row, difference), p in zip(found, corrected, strict=True)]


def _judged(results: BetaTempTable, row: SeedRow, difference: Difference | None, p: float | None) -> str:
    values = results.number(row, DELTA)
    assert values is not None, "a confirmed point has a Delta"
    text = f"{_where(row)}: {values.text(2, signed=True)} % over {values.n} seeds"
    if difference is None or difference.low is None or p is None:
        return f"{text}; no test against no KD: too few seeds in common"
    judged = "not resolved" if p >= 1 - CONFIDENCE else f"resolved {'gain' if difference.mean > 0 else 'loss'}"
    return (
        f"{text}; against no KD at {difference.pairs} seeds {difference.mean:+.2f} % "
        f"[{difference.low:+.2f}, {difference.high:+.2f}], {judged} (p {p:.2f} for {len(results.confirmed)})"
    )


def _json_confirmed(results: BetaTempTable, row: SeedRow) -> dict[str, Any]:
    values = number(list(row.values("delta_teacher").values()))
    _, difference, p = next(item for item in _against_no_kd(results) if item[0] is row)
    tested = difference and {"low": difference.low, "high": difference.high, "p": difference.p, "p_corrected": p}
    return {
        "model": row.label, "part": row.part, **row.facts, "seeds": row.seeds,
        "run_ids": [run_id for ids in row.run_ids.values() for run_id in ids],
        "delta_teacher": values and values.as_json(),
        "delta_against_no_kd": difference and {"mean": difference.mean, "pairs": difference.pairs, **(tested or {})},
        "resolved": p is not None and p < 1 - CONFIDENCE,
    }  # fmt: skip


# ------------------------------------------------------------------------------------------------------ grids and json
def grids(results: BetaTempTable) -> list[Grid]:
    """A grid for each part: ours, the paper's where it has numbers, Delta.

    Bold: best of its column; a dagger: resolved by one seed.
    """
    with_paper = any(row.printed.printed for row in results.rows)
    columns = texts({"": lambda row: _name(results, row), "n": counted})
    for task in results.tasks:
        columns += task_columns(results, task, with_paper=with_paper, with_diff=False)
    columns.append(ours(results, DELTA, DELTA_TITLE))
    parts = {part: [row for row in results.rows if row.part == part] for part in PARTS}
    searched = _by_delta(results, parts["searched"])
    parts["searched"] = [row for place, row in enumerate(searched) if place < SEARCHED_SHOWN or len(row.seeds) > 1]
    return [grid_of(results.caption(PARTS[part]), 1, columns, rows) for part, rows in parts.items() if rows]


def _by_delta(results: BetaTempTable, rows: Sequence[SeedRow]) -> list[SeedRow]:
    """The highest Delta first; without one, in the order of what the search maximises."""
    deltas = {id(row): value.mean for row in rows if (value := results.number(row, DELTA)) is not None}
    return sorted(rows, key=lambda row: -deltas.get(id(row), float("-inf")))


def _name(results: BetaTempTable, row: SeedRow) -> str:
    """The label, that of the same runs in the part before, and how many of its runs go on."""
    twin = results.twin(row) if row.part == CELLS[1] else None
    label = f"{row.label} (= {twin.label})" if twin else row.label
    return f"{label} ({len(row.unfinished)} unfinished)" if row.unfinished else label


def as_grids(results: BetaTempTable) -> list[Grid]:
    """Its parts, with what they may be read for under the last."""
    first, *others, last = grids(results)
    first = replace(first, title=f"{first.title} ({results.heading})")
    return [first, *others, replace(last, notes=tuple(sentences(results)))]


def as_text(results: BetaTempTable) -> str:
    """All parts under each other."""
    return f"{results.heading}\n\n{FORMATS['text'](grids(results))}"


def as_json(results: BetaTempTable) -> dict[str, Any]:
    """{"table", "dataset", "rows": [{"model", "seeds", "metrics": {"semseg/mIoU": {...}}, "delta_mt": {...}}], ...}."""
    return {
        "table": "5",
        "dataset": results.dataset,
        "smoke": results.smoke,
        "stand_ins": dict(results.stand_ins),
        "heading": results.heading,
        "rows": [_json_row(results, row) for row in results.rows],
        "delta_reference": results.delta_kind,
        "resolved_by_one_seed": results.limits(),
        "confirmed": [_json_confirmed(results, row) for row in results.confirmed],
        "failed": [dict(row) for row in results.failed],
    }


def _json_row(results: BetaTempTable, row: SeedRow) -> dict[str, Any]:
    delta = results.number(row, DELTA)
    numbers = {task.metric_key: results.number(row, task.metric_key) for task in results.tasks}
    return {
        "part": row.part,
        "model": row.label,
        "backbone": row.network or None,
        **row.facts,
        "seeds": row.seeds,
        "run_ids": [run_id for ids in row.run_ids.values() for run_id in ids],
        "unfinished": [run_id for seed, ids in row.run_ids.items() if seed in row.unfinished for run_id in ids],
        "metrics": {
            key: value and value.as_json() | {"paper": value.paper, "diff": results.difference(row, key)}
            for key, value in numbers.items()
        },
        "delta_mt": delta and delta.as_json(),
    }


# ------------------------------------------------------------------------------------------------------- the job's end
def as_report(results: BetaTempTable, result: "SweepResult | None" = None) -> tuple[str, dict[str, Any]]:
    """What is printed, and the same as one JSON document; with a sweep's result also where everything lies."""
    said = sentences(results)
    wrapped = (line for sentence in said for line in textwrap.wrap(sentence, 116, subsequent_indent="  "))
    text = [as_text(results), "", *wrapped]
    document = as_json(results) | {"notes": said}
    if result is not None:
        text += ["", *result.where(in_full=True)]
        found = {name: value for name, value in result.found().items() if name != "confirmed"}  # the table says more
        document |= {
            **found, "trained": result.trained, "seconds": result.seconds,
            "experiment": result.experiment, "parent": result.parent, "tracking_uri": result.tracking_uri,
            "storage": result.storage, "study": result.study,
            "failed": [{"run_id": row.run.run_id, "reason": row.reason} for row in result.failed],
        }  # fmt: skip
    return "\n".join(text), document
