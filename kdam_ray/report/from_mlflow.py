"""Any table of the paper, made from MLflow alone: grids for people, a document for programs."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from kdam_ray.cells import COMMAND_OF, DATASETS_OF, SWEEP_OF, tables_of
from kdam_ray.recipes import sweep_name
from kdam_ray.report import beta_temp, beta_temp_grid, row_grid
from kdam_ray.report.formats import Grid
from kdam_ray.report.recorded import DOCUMENT, read_table, table_of

if TYPE_CHECKING:
    from kdam_ray.service.records import Parent, Tracking

# of the same kind, with the tasks of the paper's other data set
SIBLING = {"rooms": "rooms_pascal", "rooms_pascal": "rooms", "nyud": "pascal", "pascal": "nyud"}


def dataset_of(number: str, dataset: str) -> str:
    """`dataset`, or its sibling where the table is of the other data set of the paper."""
    table = tables_of(number)[0]
    return dataset if table.varies_beta or dataset in DATASETS_OF[table.dataset] else SIBLING[dataset]


def made(
    number: str, dataset: str, tracking: "Tracking", *, smoke: bool, partial: bool, sweep_run: str | None = None
) -> tuple[list[Grid], dict[str, Any]]:
    """The table of the sweep that was last begun or taken up again for it.

    Args:
        number: "1" to "7".
        dataset: of ours; see `dataset_of`.
        tracking: where.
        smoke: of the runs that --smoke made.
        partial: also runs that have not finished, at the last epoch that was evaluated.
        sweep_run: MLflow's id of the sweep's run; None: the last.

    Returns:
        Grids, and a document that also says which sweep ("sweep": MLflow's id) and which others there are
        ("other_sweeps").

    Raises:
        ValueError: there is none; names the experiment, the store and the job to run. Or the table is of another data
            set.
    """
    table = tables_of(number)[0]
    if dataset != dataset_of(number, dataset):
        raise ValueError(f"dataset: Table {number} is of {' or '.join(DATASETS_OF[table.dataset])}, not {dataset}")
    sweep = sweep_name(SWEEP_OF[number], smoke=smoke)
    sweeps = {
        parent.mlflow_run: parent
        for parent in tracking.parents(dataset, sweep)
        if parent.tags.get("kdam.table") == number
    }
    if sweep_run is not None and sweep_run not in sweeps:
        known = ", ".join(map(_name, sweeps.values())) or "none"
        raise ValueError(
            f"sweep: {sweep_run!r} is no sweep for table {number} in kdam/{dataset}/{sweep}; there are: {known}"
        )
    for mlflow_run in [sweep_run] if sweep_run else sweeps:
        others = [_name(parent) for name, parent in sweeps.items() if name != mlflow_run]
        if table.varies_beta:
            try:
                results = beta_temp.recorded(tracking, dataset, sweep, mlflow_run, partial=partial, smoke=smoke)
            except ValueError as error:
                raise ValueError(f"{error}{'; --sweep shows another: ' if others else ''}{', '.join(others)}") from None
            grids, document = beta_temp_grid.as_grids(results), beta_temp_grid.as_report(results)[1]
        elif (recorded := table_of(tracking, mlflow_run)) is not None:
            shown = read_table(recorded, tracking, partial=partial)
            grids, document = row_grid.grids(shown), row_grid.document(shown)
        else:  # it ended before it said which runs it needs, or another version wrote it
            continue
        return grids, document | {"sweep": mlflow_run, "other_sweeps": others}
    raise ValueError(_nothing(number, dataset, sweep, tracking, smoke, list(sweeps)))


def _nothing(number: str, dataset: str, sweep: str, tracking: "Tracking", smoke: bool, sweeps: list[str]) -> str:
    """Why there is no table, and what would make one."""
    where = f"experiment kdam/{dataset}/{sweep} of {tracking.shown}"
    if sweeps:
        return (
            f"table {number}: {where} has sweeps, but none whose artifact {DOCUMENT} can be read; "
            "run its command again: it trains nothing anew"
        )
    option, other = (" --smoke", "without") if smoke else ("", "with")
    has_other = tracking.parents(dataset, sweep_name(SWEEP_OF[number], smoke=not smoke))
    hint = f"; {other} --smoke there is one" if has_other else ""
    command = f"kdam {COMMAND_OF[number]} --dataset {dataset}{option}"
    return f"table {number}: nothing is recorded in {where}; run `{command}` first{hint}"


def _name(parent: "Parent") -> str:
    """A sweep's id and when it was last taken up, UTC."""
    opened = datetime.fromtimestamp(int(parent.tags.get("kdam.opened", 0)) / 1000, UTC)
    return f"{parent.mlflow_run} ({opened:%Y-%m-%d %H:%M} UTC)"
