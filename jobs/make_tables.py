"""A table of the paper again, ours beside the printed numbers, from what MLflow recorded; trains nothing.

    python jobs/make_tables.py --table 5
    python jobs/make_tables.py --table 5 --dataset nyud --format json
    python jobs/make_tables.py --table 5 --smoke        # of the smoke runs

Shows the newest sweep of the experiment. Takes a few seconds, most of it imports.
"""

import sys

from kdam_ray.command import bad_input_exits, flags, output
from kdam_ray.config import Frozen, Place, one_of
from kdam_ray.recipes import RECIPES

TABLES = ("5",)
FORMATS = ("text", "json")


class Flags(Frozen):
    """Which table.

    Attributes:
        table: number of the paper's table: 5.
        dataset: rooms, rooms_pascal or nyud.
        format: text or json.
        smoke: of the runs that --smoke made.
    """

    table: str = "5"
    dataset: str = "rooms"
    format: str = "text"
    smoke: bool = False
    place: Place = Place()


def main() -> int:
    asked = flags(Flags, __doc__)
    with bad_input_exits(), output(asked.format == "json") as say:
        for name, allowed in (("table", TABLES), ("dataset", RECIPES), ("format", FORMATS)):
            try:
                one_of(allowed)(getattr(asked, name))
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None

        from kdam_ray.report.beta_temp import as_report, recorded
        from kdam_ray.service.tracking import Tracking

        sweep = "beta_temp_smoke" if asked.smoke else "beta_temp"
        say(*as_report(recorded(Tracking(asked.place), asked.dataset, sweep)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
