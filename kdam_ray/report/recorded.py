"""Which runs make a table, as the sweep's run in MLflow keeps it (`table.json`), and the table read back from there.

A table is read from the document of one sweep and from nothing else, so two sweeps in one experiment never mix. Runs
are found by run_id, wherever they were trained.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import ValidationError

from kdam_ray.config import Frozen
from kdam_ray.paper import TABLES
from kdam_ray.report.rows import PaperTable
from kdam_ray.report.tables import SeedRow
from kdam_ray.service.cost.totals import spent
from kdam_ray.service.deltas import LOOKED_AT, full_names, scores
from kdam_ray.tasks import DATASETS

if TYPE_CHECKING:
    from kdam_ray.service.records import Found, Tracking

DOCUMENT = "table.json"


class RecordedRow(Frozen):
    """What a sweep keeps of a row.

    Place of its printed row, what was trained for it, seed -> run_ids (one, or one per task). `tasks`: that it learns;
    `params` and `macs`: of its network, or of those of its tasks together, one image of the data set's size
    (`row_cost`). All three are unknown in tables recorded before they were kept.
    """

    index: int
    part: str
    network: str
    epochs: int
    runs: dict[int, tuple[str, ...]]
    tasks: tuple[str, ...] = ()
    params: int | None = None
    macs: int | None = None


class RecordedTable(Frozen):
    """A table of one sweep."""

    table: str
    dataset: str
    stand_ins: dict[str, str]
    smoke: bool
    rows: tuple[RecordedRow, ...]

    @property
    def run_ids(self) -> list[str]:
        return list(dict.fromkeys(run_id for row in self.rows for ids in row.runs.values() for run_id in ids))


def with_seeds_of(recorded: RecordedTable, earlier: RecordedTable | None) -> RecordedTable:
    """The same table, with the seeds that an earlier call of the same sweep had beyond this one's."""
    if earlier is None or [(row.index, row.part) for row in earlier.rows] != [
        (row.index, row.part) for row in recorded.rows
    ]:
        return recorded
    rows = tuple(
        row.model_copy(update={"runs": old.runs | row.runs})
        for row, old in zip(recorded.rows, earlier.rows, strict=True)
    )
    return recorded.model_copy(update={"rows": rows})


def table_of(tracking: "Tracking", mlflow_run: str) -> RecordedTable | None:
    """The table of a sweep by the sweep's run in MLflow; None: it keeps none, or one of another version."""
    try:
        return RecordedTable.model_validate(tracking.document(mlflow_run, DOCUMENT))
    except ValidationError:
        return None


def read_table(recorded: RecordedTable, tracking: "Tracking", *, partial: bool = False) -> PaperTable:
    """The table as its runs stand in MLflow now.

    Args:
        recorded: which runs.
        tracking: where they are.
        partial: also runs that have not finished, at the last epoch that was evaluated; marked, and part of no
            comparison.
    """
    records = tracking.find(recorded.run_ids)
    rows = [_measured(row, recorded, records, tracking, partial) for row in recorded.rows]
    return PaperTable.of(
        TABLES[recorded.table], recorded.dataset, rows, recorded.stand_ins,
        smoke=recorded.smoke, cost=spent(records.values()),
    )  # fmt: skip


def _measured(
    row: RecordedRow, recorded: RecordedTable, records: Mapping[str, "Found"], tracking: "Tracking", partial: bool
) -> SeedRow:
    by_seed: dict[int, dict[str, float]] = {}
    provisional, unfinished, unseen, failed = set[str](), set[int](), set[int](), dict[int, str]()
    dataset, printed = DATASETS[recorded.dataset], TABLES[recorded.table].rows[row.index]
    for seed, ids in row.runs.items():
        by_seed[seed] = {}
        for record in (records[run_id] for run_id in ids if run_id in records):
            if record.status == "failed":
                failed[seed] = record.reason or "no reason is recorded"
            metrics = _metrics(record, row, tracking, partial)
            if metrics and record.status != "finished":
                unfinished.add(seed)
            if not metrics and record.status == "finished":
                unseen.add(seed)
            if row.part:  # that epoch's look at boundaries is all there will be
                provisional |= {full for looked, full in LOOKED_AT.items() if looked in metrics and full not in metrics}
            own = {dataset.task(name).metric_key for name in record.run.tasks}
            by_seed[seed] |= {key: value for key, value in full_names(metrics).items() if key in own}
    return SeedRow(
        printed.model, by_seed, run_ids=row.runs, part=row.part, network=row.network, epochs=row.epochs,
        printed=printed, keys=tuple(dataset.task(name).metric_key for name in row.tasks),
        params=row.params, macs=row.macs, provisional=frozenset(provisional),
        unfinished=frozenset(unfinished), failed=failed, unseen=frozenset(unseen),
    )  # fmt: skip


def _metrics(record: "Found", row: RecordedRow, tracking: "Tracking", partial: bool) -> dict[str, float]:
    """The last metrics of a finished run, or those of the epoch at which it is looked at.

    Those of an unfinished one only if `partial`.
    """
    if record.status != "finished" and not (partial and record.status == "unfinished"):
        return {}
    if not row.part:
        return scores(record.metrics)
    names = [name for name in record.metrics if name.startswith("val/")]
    histories = {name: tracking.history(record.mlflow_run, name) for name in names}
    return scores({name: values[row.epochs] for name, values in histories.items() if row.epochs in values})
