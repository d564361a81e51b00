"""Any table of the paper, made from MLflow alone: grids for people, a document for programs."""

from typing import TYPE_CHECKING, Any

from kdam_ray.cells import DATASETS_OF, JOB_OF, SWEEP_OF, tables_of
from kdam_ray.report import beta_temp, row_grid
from kdam_ray.report.formats import Grid
from kdam_ray.report.recorded import newest, read_table

if TYPE_CHECKING:
    from kdam_ray.service.tracking import Tracking

SIBLING = {"rooms": "rooms_pascal", "rooms_pascal": "rooms", "nyud": "pascal", "pascal": "nyud"}  # as the paper's two data sets


def dataset_of(number: str, dataset: str) -> str:
    """`dataset`, or its sibling where the table is of the other data set of the paper."""
    allowed = DATASETS_OF[tables_of(number)[0].dataset]
    return dataset if dataset in allowed or number == "5" else SIBLING[dataset]


def made(number: str, dataset: str, tracking: "Tracking", *, smoke: bool, partial: bool) -> tuple[list[Grid], dict[str, Any]]:
    """The table of the newest sweep that was made for it.

    Args:
        number: "1" to "7".
        dataset: of ours; see `dataset_of`.
        tracking: where.
        smoke: of the runs that --smoke made.
        partial: also runs that have not finished, at the last epoch that was evaluated.

    Raises:
        ValueError: there is none; names the experiment, the store and the job to run. Or the table is of another data set.
    """
    if dataset != dataset_of(number, dataset):
        raise ValueError(f"dataset: Table {number} is of {' or '.join(DATASETS_OF[tables_of(number)[0].dataset])}, not {dataset}")
    sweep = SWEEP_OF[number] + ("_smoke" if smoke else "")
    if number == "5":
        results = beta_temp.recorded(tracking, dataset, sweep, partial=partial)
        return beta_temp.as_grids(results), beta_temp.as_report(results)[1]
    found = newest(tracking, number, dataset, sweep)
    if found is None:
        option = " --smoke" if smoke else ""
        raise ValueError(
            f"table {number}: nothing is recorded in experiment kdam/{dataset}/{sweep} of {tracking.uri}; "
            f"run jobs/{JOB_OF[number]}.py --dataset {dataset}{option} first"
        )
    shown = read_table(found[0], tracking, partial=partial)
    return row_grid.grids(shown), row_grid.document(shown)
