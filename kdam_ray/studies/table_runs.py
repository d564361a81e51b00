"""Training what a table of the paper needs: its rows as one sweep, recorded so that MLflow alone gives the table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kdam_ray.cells import TrainedRow, networks, trained_rows
from kdam_ray.config import Place, Run, Sweep, change
from kdam_ray.paper import TABLES
from kdam_ray.recipes import SEARCHED, SEARCHED_ALPHA, Schedule, sweep_name
from kdam_ray.report.recorded import (
    DOCUMENT,
    RecordedRow,
    RecordedTable,
    read_table,
    table_of,
    with_seeds_of,
)
from kdam_ray.report.rows import PaperTable
from kdam_ray.service.cost.estimate import Costs
from kdam_ray.service.records import Storage, Tracking
from kdam_ray.service.result import SweepResult
from kdam_ray.service.sweep import resolve, run_sweep


@dataclass(frozen=True)
class Search:
    """What is searched beyond a table's rows: beta, T and which of its distilled pairs.

    Attributes:
        trials: runs that are drawn; 0: no search.
        alpha: search alpha as well.
        confirmed: points that get further seeds, those that come out first.
    """

    trials: int = 0
    alpha: bool = False
    confirmed: int = 0


@dataclass(frozen=True)
class TableSweep:
    """A table's runs.

    Attributes:
        sweep: every run that is not trained as a teacher, once.
        teachers: those that teach, and the rows that show a teacher's own network.
        recorded: which runs make which row.
    """

    sweep: Sweep
    teachers: tuple[Run, ...]
    recorded: RecordedTable


def table_sweep(
    number: str,
    schedule: Schedule,
    *,
    seeds: int,
    name: str,
    place: Place,
    search: Search | None = None,
    weights: Mapping[str, str] | None = None,
) -> TableSweep:
    """The rows of a table, resolved.

    Args:
        number: "1" to "7", of a table whose rows are trained (Table 5 is a sweep of its own kind).
        schedule: dataset and schedule.
        seeds: of every row that is not a teacher's: 0, 1, ...
        name: of the sweep.
        place: where the data and the records are.
        search: what is searched beyond the rows; None: nothing.
        weights: backbone -> local file that its runs start from, teachers and students.

    Raises:
        ValueError: bad input, in one line that names the field.
    """
    table = TABLES[number]
    shown = trained_rows(table, schedule)
    as_student = _inputs(resolve(schedule.recipe_of(None, None).student, place))
    as_teacher = _inputs(resolve(schedule.recipe_of(None, None).teacher, place, teacher=True))
    start = _stored(weights or {}, shown, place)
    rows, students, teachers = [], dict[str, Run](), dict[str, Run]()
    for trained in shown:
        inputs, kept, count = (as_teacher, teachers, 1) if trained.row.is_teacher else (as_student, students, seeds)
        inputs = inputs | start.get(trained.student.student, {})
        if trained.teacher is not None:
            teacher = change(trained.teacher, as_teacher | start.get(trained.teacher.student, {}))
            teachers[teacher.run_id] = teacher
            inputs["teacher_run"] = teacher.run_id
        by_seed = {seed: [change(run, inputs) for run in trained.runs(seed)] for seed in range(count)}
        kept.update({run.run_id: run for runs in by_seed.values() for run in runs})
        rows.append(RecordedRow(
            index=table.rows.index(trained.row), part=trained.part, network=trained.student.student,
            epochs=trained.epoch, runs={seed: tuple(run.run_id for run in runs) for seed, runs in by_seed.items()},
            tasks=trained.student.tasks,
        ))  # fmt: skip
    plain = schedule.recipe_of(None, None).student
    base = change(plain, as_student | start.get(plain.student, {}))
    title = sweep_name(name, smoke=schedule.smoke)
    sweep = _fixed(title, number, base, students)
    if search is not None and search.trials:
        sweep = _searched(title, number, students, search)
    sweep = sweep.model_copy(update={"smoke": schedule.smoke})
    used = {run.student for trained in shown for run in (trained.student, trained.teacher) if run is not None}
    small = {theirs: ours for theirs, ours in networks(schedule).items() if theirs != ours and ours in used}
    recorded = RecordedTable(
        table=number, dataset=schedule.dataset, stand_ins=small, smoke=schedule.smoke, rows=tuple(rows)
    )
    return TableSweep(sweep, tuple(teachers.values()), recorded)


def _fixed(name: str, number: str, base: Run, runs: Mapping[str, Run]) -> Sweep:
    return Sweep(name=name, table=int(number), base=base, cells=tuple(differences(base, run) for run in runs.values()))


def _searched(name: str, number: str, runs: Mapping[str, Run], search: Search) -> Sweep:
    """Around the first pair that KDAM distils: what is searched are changes to that run."""
    pairs = [run for run in runs.values() if run.distill.method == "kdam" and run.seed == 0]
    alternatives = {f"{run.teacher} teaches {run.student}": differences(pairs[0], run) for run in pairs}
    fixed = _fixed(name, number, pairs[0], runs)
    return fixed.model_copy(update={
        "space": SEARCHED | (SEARCHED_ALPHA if search.alpha else {}), "choices": {"pair": alternatives},
        "trials": search.trials, "confirmed": search.confirmed,
    })  # fmt: skip


def _inputs(resolved: Run) -> dict[str, object]:
    return {"dataset_hash": resolved.dataset_hash, "batch_norm_ranks": resolved.batch_norm_ranks}


def _stored(weights: Mapping[str, str], shown: Sequence[TrainedRow], place: Place) -> dict[str, dict[str, object]]:
    """backbone -> what its runs record of the file that they start from, which is put into the storage."""
    runs = {run.student: run for trained in shown for run in (trained.student, trained.teacher) if run is not None}
    for name in weights:
        if name not in runs:
            raise ValueError(f"weights: {name!r} is none of this table's networks: {', '.join(runs)}")
    return {name: {"pretrained": resolve(runs[name], place, weights=file).pretrained} for name, file in weights.items()}


def differences(base: Run, run: Run) -> dict[str, object]:
    """The changes that make `run` out of `base`, whole fields at a time."""
    ours, theirs = run.model_dump(), base.model_dump()
    return {name: value for name, value in ours.items() if value != theirs[name]}


def train_table(wanted: TableSweep, place: Place) -> tuple[PaperTable, SweepResult]:
    """Train what is missing and read the table.

    What makes the table is recorded before anything is trained, so that it can be shown while the sweep goes on; with
    the seeds that earlier calls had trained for it.
    """
    tracking = Tracking(place)
    parent = tracking.open_parent(wanted.sweep)
    recorded = with_seeds_of(priced(wanted, Storage(place.storage)), table_of(tracking, parent))
    tracking.log_document(parent, DOCUMENT, recorded.model_dump(mode="json"))
    result = run_sweep(wanted.sweep, place, teachers=wanted.teachers)
    return read_table(recorded, tracking), result


def priced(wanted: TableSweep, storage: Storage) -> RecordedTable:
    """The table with its networks' costs where the print has some; those of a single-task row together."""
    printed = TABLES[wanted.recorded.table].rows
    if not any(row.fact("params") is not None for row in printed):
        return wanted.recorded
    students = (change(wanted.sweep.base, changes) for changes in wanted.sweep.cells)
    runs = {run.run_id: run for run in (*students, *wanted.teachers)}
    costs, rows = Costs(storage), []
    for row in wanted.recorded.rows:
        own = map(runs.__getitem__, next(iter(row.runs.values())))
        found = [costs.network(run, run.student, run.decoder) for run in own]
        with_products = printed[row.index].counts_attention
        macs = sum(one.all_macs if with_products else one.macs for one in found)
        rows.append(row.model_copy(update={"params": sum(one.params for one in found), "macs": macs}))
    return wanted.recorded.model_copy(update={"rows": tuple(rows)})
