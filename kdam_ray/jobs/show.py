"""One run or one sweep, as far as it is recorded: state, configuration, scores by epoch, cost, places, what to do next.

    kdam show a70e1b081edc          # a run, by its run_id or the beginning of it
    kdam show a70e --json
    kdam show 0e4fcc5e1252          # a sweep, by its id (`kdam runs` lists them), its name or its experiment

What differs from the recipe of the data set stands first. MLflow's ids do too: of a run, a link to one, or a sweep.
"""

import time
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from kdam_ray.command import OfRecords, bad_input_exits, flags, output, require
from kdam_ray.config import Place

if TYPE_CHECKING:
    from kdam_ray.report.formats import Grid
    from kdam_ray.service.records import Tracking
    from kdam_ray.service.records.listing import Listed, Member


class Flags(OfRecords):
    """What is shown.

    Attributes:
        run: run_id or its beginning, MLflow's id of a run, or a sweep's id, name or experiment.
    """

    run: Annotated[str, tyro.conf.Positional]


def main() -> int:
    asked = flags(Flags, __doc__)
    with bad_input_exits(), output(asked.as_json) as say:
        require("service")

        from kdam_ray.report.terminal import shown
        from kdam_ray.service.records.listing import find_listed, find_members, one_member, opened, with_members

        place = asked.place
        tracking = opened(place)
        members = find_members(tracking, asked.run)
        sweeps = [] if members else find_listed(tracking, asked.run)
        if sweeps:
            grids, document = of_sweep(with_members(tracking, sweeps[0]), tracking)
        else:
            grids, document = of_run(one_member(tracking, asked.run, members), tracking, place)
        say(shown(grids), document)
    return 0


def of_run(member: "Member", tracking: "Tracking", place: Place) -> tuple[list["Grid"], dict[str, Any]]:
    """A run."""
    from kdam_ray.report.one_run import OneRun, metrics_shown, run_document, run_grids
    from kdam_ray.service.records.checkpoints import newest_stored
    from kdam_ray.service.records.listing import find_members, page_of, sweep_of

    found = member.found
    histories = {name: tracking.history(found.mlflow_run, name) for name in metrics_shown(member)}
    teachers = find_members(tracking, found.run.teacher_run) if found.run.teacher_run else []
    one = OneRun(
        member, sweep_of(tracking, member), histories, teachers[0] if teachers else None,
        newest_stored(found.run.run_id, place), page_of(tracking, found.experiment, found.mlflow_run),
    )  # fmt: skip
    now = time.time()
    return run_grids(one, now), run_document(one, now)


def of_sweep(sweep: "Listed", tracking: "Tracking") -> tuple[list["Grid"], dict[str, Any]]:
    """A sweep."""
    from kdam_ray.report.one_run import sweep_document, sweep_grids
    from kdam_ray.service.records.listing import page_of

    page, now = page_of(tracking, sweep.experiment, sweep.mlflow_run), time.time()
    return sweep_grids(sweep, page, now), sweep_document(sweep, page, now)
