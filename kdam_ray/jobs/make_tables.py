"""The tables of the paper again, ours beside the printed numbers, from what MLflow recorded; trains nothing.

    kdam tables --table 5
    kdam tables --table all --format html > tables.html
    kdam tables --table 1 --dataset nyud --format tex --partial     # while the runs go on
    kdam tables --table all --smoke      # of the smoke runs
    kdam tables --paper --table all --format tex    # the paper's own tables, their Deltas recomputed

Shows the sweep that was last begun or taken up again for each table, and names the others; --sweep takes one of those.
Takes a few seconds, most of it imports.
"""

import sys
from typing import Any

from kdam_ray.command import announce, bad_input_exits, flags, output, require
from kdam_ray.config import Frozen, Place, one_of
from kdam_ray.recipes import RECIPES

NUMBERS = tuple("1234567")
TABLES = (*NUMBERS, "all")
FORMATS = ("text", "md", "tex", "csv", "html", "json")


class Flags(Frozen):
    """Which tables.

    Attributes:
        table: number of the paper's table, 1 to 7, or all.
        dataset: rooms, rooms_pascal, nyud or pascal; Table 3 among all is of the one with PASCAL-Context's tasks.
        format: text, md, tex, csv, html or json.
        partial: also runs that have not finished, at the last epoch that was evaluated.
        paper: the paper's own tables: every Delta recomputed from its row, those flagged that do not follow from it.
        smoke: of the runs that --smoke made.
        sweep: of this sweep (MLflow's id of its run, which the job that trained it prints); left out: the last one.
        storage: folder or s3:// URI that the runs were given.
        tracking_uri: MLflow; left out: MLFLOW_TRACKING_URI, else sqlite in `storage`.
    """

    table: str = "5"
    dataset: str = "rooms"
    format: str = "text"
    partial: bool = False
    paper: bool = False
    smoke: bool = False
    sweep: str | None = None
    storage: str = "runs"
    tracking_uri: str | None = None


def main() -> int:
    asked = flags(Flags, __doc__)
    with bad_input_exits(), output(asked.format == "json") as say:
        one_of(TABLES, "table")(asked.table)
        one_of(RECIPES, "dataset")(asked.dataset)
        one_of(FORMATS, "format")(asked.format)
        if asked.sweep and (asked.table == "all" or asked.paper):
            raise ValueError("sweep: it makes one table; say which by --table N, without --paper")
        numbers = list(NUMBERS) if asked.table == "all" else [asked.table]

        from kdam_ray.report.formats import FORMATS as RENDER

        grids, documents = printed(numbers) if asked.paper else measured(asked, numbers)
        say("" if asked.format == "json" else RENDER[asked.format](grids), documents)
    return 0


def printed(numbers: list[str]) -> tuple[list[Any], Any]:
    """The paper's own tables; one document for each."""
    from kdam_ray.cells import tables_of
    from kdam_ray.report.printed import document, grid

    chosen = [table for number in numbers for table in tables_of(number)]
    return [grid(table) for table in chosen], document(chosen)


def measured(asked: Flags, numbers: list[str]) -> tuple[list[Any], Any]:
    """Ours; of all tables those that are recorded, and a line on stderr for each that is not."""
    require("service")

    from kdam_ray.cells import COMMAND_OF
    from kdam_ray.service.records.tracking import Tracking

    place = Place(storage=asked.storage, tracking_uri=asked.tracking_uri)
    tracking = Tracking(place)
    if tracking.empty:
        first = "the tables' commands" if asked.table == "all" else f"`kdam {COMMAND_OF[asked.table]}`"
        raise ValueError(
            f"storage: {tracking.shown} does not exist, so nothing is recorded there; "
            f"run {first} first, with that storage"
        )
    announce(f"reads {tracking.shown}")

    from kdam_ray.report.from_mlflow import dataset_of, made

    grids, documents, missing = [], [], []
    for number in numbers:
        dataset = dataset_of(number, asked.dataset) if asked.table == "all" else asked.dataset
        try:
            found, document = made(
                number, dataset, tracking, smoke=asked.smoke, partial=asked.partial, sweep_run=asked.sweep
            )
        except ValueError as error:
            if asked.table != "all":
                raise
            missing.append(f"missing: {error}")
            continue
        if others := document["other_sweeps"]:
            shown = f"table {number}: of sweep {document['sweep']}"
            print(f"{shown}; --sweep shows another: {', '.join(others)}", file=sys.stderr)
        grids += found
        documents.append(document)
    if not documents:
        hint = "" if asked.smoke else "; --smoke shows those of smoke runs"
        raise ValueError(
            f"table: none is recorded in {tracking.shown}; run the jobs that make them first (README){hint}"
        )
    for line in missing:
        print(line, file=sys.stderr)
    return grids, documents if asked.table == "all" else documents[0]
