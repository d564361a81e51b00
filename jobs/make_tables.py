"""A table of the paper again, ours beside the printed numbers, from what MLflow recorded; trains nothing.

    python jobs/make_tables.py --table 5
    python jobs/make_tables.py --table 5 --dataset nyud --format json
    python jobs/make_tables.py --table 5 --smoke        # of the smoke runs
    python jobs/make_tables.py --paper --table all --format tex    # the paper's own tables, their Deltas recomputed

Shows the newest sweep of the experiment. Takes a few seconds, most of it imports.
"""

import sys

from kdam_ray.command import bad_input_exits, flags, output
from kdam_ray.config import Frozen, Place, one_of
from kdam_ray.recipes import RECIPES

TABLES = ("5",)
FORMATS = ("text", "json")
PRINTED = {table: (table,) for table in "123467"} | {"5": ("5a", "5b"), "all": ("1", "2", "3", "4", "5a", "5b", "6", "7")}
PRINTED_FORMATS = ("text", "md", "tex", "csv", "html", "json")


class Flags(Frozen):
    """Which table.

    Attributes:
        table: number of the paper's table: 5; with --paper 1 to 7 or all.
        dataset: rooms, rooms_pascal, nyud or pascal.
        format: text or json; with --paper also md, tex, csv, html.
        paper: the paper's own tables: every Delta recomputed from its row, those flagged that do not follow from it.
        smoke: of the runs that --smoke made.
    """

    table: str = "5"
    dataset: str = "rooms"
    format: str = "text"
    paper: bool = False
    smoke: bool = False
    place: Place = Place()


def main() -> int:
    asked = flags(Flags, __doc__)
    with bad_input_exits(), output(asked.format == "json") as say:
        tables, formats = (PRINTED, PRINTED_FORMATS) if asked.paper else (TABLES, FORMATS)
        for name, allowed in (("table", tables), ("dataset", RECIPES), ("format", formats)):
            try:
                one_of(allowed)(getattr(asked, name))
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None

        if asked.paper:
            from kdam_ray.paper import TABLES as PAPER
            from kdam_ray.report.formats import FORMATS as RENDER
            from kdam_ray.report.printed import document, grid

            chosen = [PAPER[number] for number in PRINTED[asked.table]]
            say("" if asked.format == "json" else RENDER[asked.format]([grid(table) for table in chosen]), document(chosen))
            return 0

        from kdam_ray.report.beta_temp import as_report, recorded
        from kdam_ray.service.tracking import Tracking

        sweep = "beta_temp_smoke" if asked.smoke else "beta_temp"
        say(*as_report(recorded(Tracking(asked.place), asked.dataset, sweep)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
