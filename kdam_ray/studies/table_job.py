"""What the jobs that make a table of the paper have in common: their flags, their plan, their output."""

from typing import TYPE_CHECKING, Annotated, Any

import tyro
from pydantic import Field

from kdam_ray.cells import DATASETS_OF, SWEEP_OF, trained_rows
from kdam_ray.command import announce, bad_input_exits, flags, output, require
from kdam_ray.config import Frozen, Place, Run, one_of
from kdam_ray.paper import TABLES
from kdam_ray.recipes import CONFIRMED, SMOKE_CONFIRMED, Schedule

if TYPE_CHECKING:
    from kdam_ray.report.formats import Grid
    from kdam_ray.report.rows import PaperTable
    from kdam_ray.service.result import SweepResult
    from kdam_ray.studies.table_runs import Search


SHOWN = 8  # points of a search


class TableFlags(Frozen):
    """What is trained for a table.

    Attributes:
        seeds: of every row: 0, 1, ...; a teacher has one.
        weights: NETWORK=FILE, local files that backbones start from instead of timm's, teachers and students.
        pictures: evaluation images whose predictions the report shows; 0: none.
        plan: print cohorts, members, estimated FLOPs and time; start nothing.
        as_json: one JSON document on stdout, everything else on stderr.
    """

    schedule: Schedule = Schedule()
    seeds: Annotated[int, Field(ge=1)] = 2
    place: Place = Place()
    weights: tuple[str, ...] = ()
    pictures: Annotated[int, Field(ge=0)] = 4
    plan: bool = False
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False


class SearchFlags(TableFlags):
    """What is trained and searched for a table.

    Attributes:
        trials: runs beyond the rows, which Optuna draws: beta, T and which pair.
        search_alpha: search alpha, the weight of the supervised loss, as well.
        confirm: of the points that a search puts first, how many get further seeds until each has three; left out: 2.
    """

    trials: Annotated[int, Field(ge=0)] = 0
    search_alpha: bool = False
    confirm: Annotated[int, Field(ge=0)] | None = None

    def search(self) -> "Search":
        """What is to be searched, 0 trials: nothing."""
        from kdam_ray.studies.table_runs import Search

        confirmed = SMOKE_CONFIRMED if self.schedule.smoke else CONFIRMED
        return Search(self.trials, self.search_alpha, confirmed if self.confirm is None else self.confirm)


def run_table_job(description: str | None, *numbers: str, model: type[TableFlags]) -> int:
    """A job's main: train the rows of one table and print it.

    Args:
        description: the job's docstring.
        numbers: of the tables, one for each data set of the paper.
        model: its flags.

    Returns:
        The exit code.
    """
    asked = flags(model, description)
    table_of = {dataset: number for number in numbers for dataset in DATASETS_OF[TABLES[number].dataset]}
    with output(asked.as_json) as say:
        with bad_input_exits():
            number = table_of[one_of(table_of, "dataset")(asked.schedule.dataset)]
            trained_rows(TABLES[number], asked.schedule)  # a bad value is refused before torch is imported
            require("service")
            announce(f"opens {asked.schedule.dataset} and looks at what is recorded in {asked.place.storage}")

            from kdam_ray.service.sweep import plan
            from kdam_ray.studies.table_runs import table_sweep, train_table

            search = asked.search() if isinstance(asked, SearchFlags) else None
            wanted = table_sweep(
                number, asked.schedule, seeds=asked.seeds, name=SWEEP_OF[number], place=asked.place, search=search,
                weights=_files(asked.weights),
            )  # fmt: skip
            planned = plan(wanted.sweep, asked.place, teachers=wanted.teachers)
            if asked.plan:
                say(planned.text(), planned.as_json())
                return 0
            require("report")

        from kdam_ray.report.drawing.sweep_report import is_there, write_report
        from kdam_ray.report.drawing.what_is_drawn import of_rows
        from kdam_ray.service.result import ended

        shown, result = train_table(wanted, asked.place)
        say(*shown_with_result(shown, result))
        if shown.measured and not is_there(result, asked.place):
            searched = searched_grid(result)
            content = of_rows(shown, result, asked.place, [searched] if searched else [])
            write_report(content, result, asked.place, images=asked.pictures)
        return ended(result)


def _files(weights: tuple[str, ...]) -> dict[str, str]:
    """{network: file} of NETWORK=FILE, given several times.

    Raises:
        ValueError: something else.
    """
    pairs = [item.partition("=") for item in weights]
    for name, equals, file in pairs:
        if not (name and equals and file):
            raise ValueError(f"weights: {name + equals + file!r} is not NETWORK=FILE, such as swin_t=swin_t.pth")
    return {name: file for name, _, file in pairs}


def shown_with_result(shown: "PaperTable", result: "SweepResult") -> tuple[str, dict[str, Any]]:
    """What is printed, and what --json prints."""
    from kdam_ray.report.formats import FORMATS
    from kdam_ray.report.row_grid import document, grids

    searched = searched_grid(result)
    text = [FORMATS["text"]([*grids(shown), *([searched] if searched else [])]), "", *result.where()]
    failed = [{"run_id": row.run.run_id, "reason": row.reason} for row in result.failed]
    facts = {
        "trained": result.trained, "seconds": result.seconds, "experiment": result.experiment, "parent": result.parent,
        "tracking_uri": result.tracking_uri, **result.found(), "failed": failed,
    }  # fmt: skip
    return "\n".join(text), document(shown) | facts


def searched_grid(result: "SweepResult") -> "Grid | None":
    """The first points of the search and of the table's rows in its space; None: nothing was searched."""
    from kdam_ray.report.formats import Cell, Grid
    from kdam_ray.service.deltas import OBJECTIVE
    from kdam_ray.service.search.study import searched_params

    judged = [row for row in result.rows if OBJECTIVE in row.metrics]
    found = [(row, params) for row in judged if (params := searched_params(result.sweep, row.run))]
    found.sort(key=lambda item: item[0].metrics[OBJECTIVE], reverse=True)
    if not result.sweep.trials or not found:
        return None
    names = list(found[0][1])
    rows = tuple(
        (
            *(Cell(value if isinstance(value, str) else f"{value:.3g}") for value in params.values()),
            *(Cell(row.purpose), Cell(row.status), Cell(f"{row.metrics[OBJECTIVE]:+.2f}")),
        )
        for row, params in found[:SHOWN]
    )
    ended = sum(row.purpose == "searched" for row in result.rows)
    note = (
        f"The first {len(rows)} of {len(found)} points, {ended} of them searched, at one seed: the first is lucky too. "
        f"{_confirmed(result)}One teacher is the measure of all: larger students win."
    )
    header = (*(name.removeprefix("distill.") for name in names), "from", "status", "Δ to the base's teacher ↑ %")
    return Grid("Searched, the highest first", header, len(names), rows, (note,))


def _confirmed(result: "SweepResult") -> str:
    """What further seeds made of the points that came out first; "" without any."""
    from kdam_ray.report.tables import number

    said = []
    for point in result.points:
        values = number(list(point.values.values()))
        if point.is_confirmed and values is not None:
            params = searched_text(result, point.run)
            said.append(f"{params}: {values.text(2, signed=True)} % over {values.n} seeds")
    return f"With further seeds, the best first: {'; '.join(said)}. " if said else ""


def searched_text(result: "SweepResult", run: Run) -> str:
    """`pair a teaches b, beta 1, temperature 3`."""
    from kdam_ray.service.search.study import searched_params

    params = searched_params(result.sweep, run) or {}
    texts = ((name.removeprefix("distill."), value) for name, value in params.items())
    return ", ".join(f"{name} {value}" if isinstance(value, str) else f"{name} {value:.3g}" for name, value in texts)
