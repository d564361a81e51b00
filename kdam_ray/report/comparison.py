"""Runs side by side: what differs in their configuration, what in their scores, and what of that is more than chance.

Runs that differ only in their seed are one row. Differences are paired by seed; a single pair says nothing of chance,
so it is read against the largest spread of seeds that the runs' own sweeps have recorded, if they have one.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kdam_ray.config import flatten
from kdam_ray.report.beta_temp import RESOLVED
from kdam_ray.report.formats import Cell, Grid
from kdam_ray.report.listing import by_configuration, heading, scores_of, seedless, untitled_seed
from kdam_ray.report.significance import Difference
from kdam_ray.report.table_grid import Column, counted, digits_of, grid_of, ours, short_titles, texts
from kdam_ray.report.tables import DELTA, RunTable, SeedRow
from kdam_ray.service.records.listing import Listed, Member
from kdam_ray.service.wording import count
from kdam_ray.tasks import DATASETS

LEVEL = 0.05  # of the corrected p below which a difference is called resolved
NAMES = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
# fields that say on what and how a run was evaluated
EVALUATED_ON = ("dataset", "dataset_hash", "val_images", "image_size", "resize")
HELD_BY_SIZE = ("image_size",)  # only where images are made or resized to it


@dataclass(frozen=True)
class Spread:
    """How much seeds of one configuration differ, which one seed each is read against.

    Attributes:
        title: of the configuration.
        seeds: how many.
        limits: metric key -> the difference of two runs that chance alone passes in about 5 % of cases.
    """

    title: str
    seeds: int
    limits: Mapping[str, float]


@dataclass(frozen=True)
class ComparedRuns(RunTable):
    """Configurations side by side; the first is what all others are compared with.

    Attributes:
        groups: the members of each row, in the rows' order.
        spread: recorded between seeds; None: no configuration of their sweeps has several.
    """

    groups: tuple[tuple[Member, ...], ...] = ()
    spread: Spread | None = field(default=None)

    def reference(self, row: SeedRow) -> dict[str, float]:
        """The mean of the first."""
        return self.means(self.rows[0].ended)

    def rival(self, row: SeedRow) -> SeedRow | None:
        """The first."""
        return None if row is self.rows[0] else self.rows[0]

    def competes(self, row: SeedRow, key: str) -> bool:
        """No row does: the differences say what is better."""
        return False

    def is_marked(self, row: SeedRow, key: str) -> bool:
        """Numbers of runs that have not finished."""
        return bool(row.unfinished)


def compared(members: Sequence[Member], sweeps: Sequence[Listed]) -> ComparedRuns:
    """The runs as rows, each with the seeds that its sweep has of it.

    Args:
        members: as they were named, the first to be compared with.
        sweeps: those that trained them, with their members.

    Raises:
        ValueError: they cannot be compared; says why.
    """
    check_comparable(members)
    known = by_configuration([*members, *(member for sweep in sweeps for member in sweep.members)])
    groups = [known[key] for key in dict.fromkeys(seedless(member.found.run) for member in members)]
    first = members[0].found.run
    shared = [name for name in first.tasks if all(name in member.found.run.tasks for member in members)]
    tasks = tuple(DATASETS[first.dataset].task(name) for name in shared)
    rows = tuple(_row(NAMES[index], group) for index, group in enumerate(groups))
    table = ComparedRuns(tasks, rows, dataset=first.dataset, groups=tuple(map(tuple, groups)))
    alike = [group for group in known.values() if group[0].found.run.tasks == first.tasks]
    return ComparedRuns(tasks, rows, dataset=first.dataset, groups=table.groups, spread=_spread(table, alike))


def check_comparable(members: Sequence[Member]) -> None:
    """Refuse what no number could mean something for.

    Raises:
        ValueError: a run twice, more than there are letters, other data or images, no task in common.
    """
    runs = [member.found.run for member in members]
    ids = [run.run_id for run in runs]
    if len(ids) < 2:
        raise ValueError("runs: give at least two")
    if len(ids) > len(NAMES):
        raise ValueError(f"runs: at most {len(NAMES)} at a time")
    if twice := [run_id for run_id in ids if ids.count(run_id) > 1]:
        raise ValueError(f"runs: {twice[0]} is given twice")
    first = runs[0]
    for run in runs[1:]:
        sized = run.resize or first.resize or DATASETS[run.dataset].is_procedural
        for name in EVALUATED_ON:
            if (name not in HELD_BY_SIZE or sized) and getattr(run, name) != getattr(first, name):
                raise ValueError(
                    f"runs: {first.run_id} and {run.run_id} are not comparable: their {name} differs "
                    f"({getattr(first, name)} and {getattr(run, name)}), so they were not evaluated on the same images"
                )
    if not set.intersection(*(set(run.tasks) for run in runs)):
        raise ValueError(f"runs: {' and '.join(ids)} are not comparable: they have no task in common, so no metric")


def _row(label: str, group: Sequence[Member]) -> SeedRow:
    by_seed = {member.found.run.seed: scores_of(member) for member in group}
    going = {m.found.run.seed for m in group if m.found.status != "finished"}
    ids = {member.found.run.seed: (member.found.run.run_id,) for member in group}
    return SeedRow(label, by_seed, run_ids=ids, unfinished=frozenset(going), facts={"title": _title(group)})


def _title(group: Sequence[Member]) -> str:
    return untitled_seed(group[0].title)


def _spread(table: ComparedRuns, groups: Sequence[Sequence[Member]]) -> Spread | None:
    """The spread of the configuration with most finished seeds, if any has two."""
    finished = [[member for member in group if member.found.status == "finished"] for group in groups]
    group = max(finished, key=len, default=[])
    if len(group) < 2:
        return None
    row, limits = _row("", group), {}
    for key in table.keys:
        values = list(table.values(row, key).values())
        if len(values) > 1 and (sd := statistics.stdev(values)) > 0:
            limits[key] = RESOLVED * sd
    return Spread(_title(group), len(group), limits)


# -------------------------------------------------------------------------------------------------------- differences
@dataclass(frozen=True)
class Judged:
    """A difference to the first row in one column, and what may be said of it.

    Attributes:
        row: the row.
        key: of the column.
        difference: row minus first; None: they share no finished seed.
        p: corrected for all tests of the comparison (Holm); None: no test.
        verdict: in words.
        is_resolved: more than chance.
    """

    row: SeedRow
    key: str
    difference: Difference | None
    p: float | None
    verdict: str
    is_resolved: bool


def judged(table: ComparedRuns) -> list[Judged]:
    """Every row but the first in each column that both have."""
    found = {(item.row.label, item.key): item for item in table.comparisons}
    rows = []
    for row in table.rows[1:]:
        for key in table.keys:
            item = found.get((row.label, key))
            if item is None:
                rows.append(Judged(row, key, None, None, _why_not(table, row, key), False))
                continue
            verdict, is_resolved = _verdict(table, key, item.difference, item.p_corrected)
            rows.append(Judged(row, key, item.difference, item.p_corrected, verdict, is_resolved))
    return rows


def _why_not(table: ComparedRuns, row: SeedRow, key: str) -> str:
    for label, each in ((row.label, row), (table.rows[0].label, table.rows[0])):
        if not each.ended.seeds:
            return f"{label} has not finished"
        if not table.values(each.ended, key):
            return f"{label} has no such score"
    return "no seed in common: nothing is paired"


def _verdict(table: ComparedRuns, key: str, found: Difference, p: float | None) -> tuple[str, bool]:
    higher = next((task.higher_is_better for task in table.tasks if task.metric_key == key), True)
    side = "better" if (found.mean > 0) == higher else "worse"
    if p is not None:
        return (f"resolved: {side}", True) if p < LEVEL else ("not resolved", False)
    if found.pairs > 1:
        return ("equal", False) if found.mean == 0 else (f"{side} by the same at each seed: no test", False)
    limit = table.spread.limits.get(key) if table.spread else None
    if limit is None:
        return "one seed each resolves nothing", False
    text = f"one seed's chance (±{limit:.{digits_of(table, key)}f})"
    return (f"{side} by more than {text}", True) if abs(found.mean) > limit else (f"within {text}", False)


# --------------------------------------------------------------------------------------------------------------- grids
def grids(table: ComparedRuns) -> list[Grid]:
    """What differs in the configuration, the scores, the differences."""
    return [*([_configuration(table)]), _scores(table), *([_differences(table)] if len(table.rows) > 1 else [])]


def differing(table: ComparedRuns) -> dict[str, list[Any]]:
    """Field -> its value in each row, of those that differ; the seed is none of them."""
    flats = [flatten(group[0].found.run) for group in table.groups]
    return {
        key: [flat[key] for flat in flats]
        for key in flats[0]
        if key != "seed" and len({str(flat[key]) for flat in flats}) > 1
    }


def _configuration(table: ComparedRuns) -> Grid:
    rows = [("runs, by seed", *map(_ids, table.rows))]
    rows += [(key, *map(str, values)) for key, values in differing(table).items()]
    header = ("field", *(f"{row.label}: {row.facts['title']}" for row in table.rows))
    note = (
        ()
        if len(table.rows) > 1
        else ("Nothing but the seed: they are one configuration, and their spread is all there is.",)
    )
    return Grid("Configuration: what differs", header, len(header), tuple(tuple(map(Cell, row)) for row in rows), note)


def _scores(table: ComparedRuns) -> Grid:
    columns = texts({"": lambda row: row.label, "n": counted})
    titles = dict(zip(table.keys, (heading(task) for task in table.tasks), strict=False))
    columns += [ours(table, key, "", title) for key, title in titles.items()]
    columns += [Column("", f"Δ to {table.rows[0].label} ↑ %", ours(table, DELTA, "").cell)]
    notes = ["Mean ± standard deviation over the n seeds that are recorded."]
    if any(row.unfinished for row in table.rows):
        notes.append("†: with seeds that have not finished, as far as they came; they are part of no difference.")
    return grid_of("Scores", 1, columns, table.rows, notes)


def _ids(row: SeedRow) -> str:
    return ", ".join(f"{seed} {' '.join(ids)}" for seed, ids in sorted(row.run_ids.items()))


def _differences(table: ComparedRuns) -> Grid:
    names, first = short_titles(table), table.rows[0].label
    rows = []
    for item in judged(table):
        digits, found = digits_of(table, item.key), item.difference
        mean = "-" if found is None else f"{found.mean:+.{digits}f}"
        interval = "" if found is None or found.low is None else f"[{found.low:+.{digits}f}, {found.high:+.{digits}f}]"
        p = "" if item.p is None else "<0.001" if item.p < 0.001 else f"{item.p:.3f}"
        said = f"{item.row.label} − {first}", names[item.key].rsplit(" ", 1)[0], item.verdict
        cells = (*map(Cell, said), Cell(mean, is_best=item.is_resolved), Cell(interval))
        rows.append((*cells, Cell(p), Cell(str(found.pairs if found else 0))))
    header = ("", "metric", "verdict", "difference", "95 % interval", "p", "n")
    return Grid("Differences", header, 3, tuple(rows), tuple(notes(table)))


def notes(table: ComparedRuns) -> list[str]:
    """How the differences are to be read."""
    items = judged(table)
    said = []
    if any(item.p is not None for item in items):
        said.append(
            f"Paired by seed, n pairs. Resolved: p of the paired t-test, corrected for the number of tests (Holm), is "
            f"under {LEVEL}. The intervals are of one comparison each."
        )
    single = any(item.difference is not None and item.difference.pairs == 1 for item in items)
    if single and table.spread:
        spread = table.spread
        said.append(
            f"n 1: one seed each, read against {count(spread.seeds, 'seed')} of {spread.title} (2·√2·sd of them). "
            "About 1 in 20 passes it by chance, more where few seeds say it. More seeds (--seeds) would say more."
        )
    elif single:
        said.append("One seed each resolves nothing, and no spread between seeds is recorded: train more (--seeds).")
    return said


def document(table: ComparedRuns) -> dict[str, Any]:
    """The same for programs."""
    scores = {
        row.label: {key: number.as_json() for key in table.keys if (number := table.number(row, key)) is not None}
        for row in table.rows
    }
    rows = [
        {
            "name": row.label, "title": row.facts["title"], "seeds": {str(s): ids[0] for s, ids in row.run_ids.items()},
            "unfinished_seeds": sorted(row.unfinished),
        }
        for row in table.rows
    ]  # fmt: skip
    differences = [
        {
            "row": item.row.label, "against": table.rows[0].label, "metric": item.key,
            "mean": item.difference and item.difference.mean, "low": item.difference and item.difference.low,
            "high": item.difference and item.difference.high, "p_corrected": item.p,
            "pairs": item.difference.pairs if item.difference else 0, "verdict": item.verdict,
            "resolved": item.is_resolved,
        }
        for item in judged(table)
    ]  # fmt: skip
    spread = table.spread
    return {
        "runs": rows, "differs": differing(table), "scores": scores, "differences": differences,
        "spread": {"title": spread.title, "seeds": spread.seeds, "limits": dict(spread.limits)} if spread else None,
    }  # fmt: skip
