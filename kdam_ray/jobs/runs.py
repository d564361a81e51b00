"""What is recorded: the sweeps with what they came to, or the members of one; trains nothing.

    kdam runs                               # the last sweeps of the folder runs/
    kdam runs --dataset rooms --all         # every one of a data set
    kdam runs beta_temp                     # the members of that sweep, the best first
    kdam runs 0e4fcc5e | grep -v finished   # by its id; in a pipe it is plain text
    kdam runs --json

A best is the highest mean over the seeds of a configuration, and says how many seeds that were. Takes a few seconds,
most of it imports, of however many runs: what is left out is said.
"""

import sys
import time
from typing import Annotated, Any

import tyro

from kdam_ray.command import OfRecords, bad_input_exits, flags, output, require
from kdam_ray.config import one_of
from kdam_ray.recipes import RECIPES

SWEEPS, READ, MEMBERS = 20, 1000, 300  # most sweeps, members read for them, members of one sweep


class Flags(OfRecords):
    """What is listed.

    Attributes:
        sweep: id of a sweep (or its beginning, or MLflow's), its name or its experiment; left out: all sweeps.
        dataset: sweeps of this data set only.
        all: however many there are.
    """

    sweep: Annotated[str, tyro.conf.Positional] = ""
    dataset: str | None = None
    all: bool = False


def main() -> int:
    asked = flags(Flags, __doc__)
    with bad_input_exits(), output(asked.as_json) as say:
        if asked.dataset is not None:
            one_of(RECIPES, "dataset")(asked.dataset)
        require("service")

        from kdam_ray.report.terminal import shown
        from kdam_ray.service.records.listing import opened

        tracking = opened(asked.place)
        grids, document = members(asked, tracking) if asked.sweep else sweeps(asked, tracking)
        say(shown(grids), document)
    return 0


def sweeps(asked: Flags, tracking: Any) -> tuple[list[Any], Any]:
    """Every sweep in a line."""
    from kdam_ray.report.listing import sweeps_document, sweeps_grid
    from kdam_ray.service.records.listing import UNLIMITED, list_sweeps

    most = (UNLIMITED, UNLIMITED) if asked.all else (SWEEPS, READ)
    listing = list_sweeps(tracking, dataset=asked.dataset, sweeps=most[0], members=most[1])
    if not listing.sweeps:
        of = f" of {asked.dataset}" if asked.dataset else ""
        raise ValueError(f"storage: no sweep{of} is recorded there; begin with `kdam sweep-beta-temp --smoke`")
    now = time.time()
    return [sweeps_grid(listing, now)], sweeps_document(listing, now)


def members(asked: Flags, tracking: Any) -> tuple[list[Any], Any]:
    """Every member of one sweep; a name that several sweeps have means the last one, and the others are named."""
    from kdam_ray.report.listing import members_document, members_grid
    from kdam_ray.service.records.listing import UNLIMITED, find_listed, unknown, with_members

    found = find_listed(tracking, asked.sweep)
    if asked.dataset:
        found = [sweep for sweep in found if sweep.dataset == asked.dataset]
    if not found:
        raise ValueError(unknown(tracking, "sweep", asked.sweep))
    sweep = with_members(tracking, found[0], limit=UNLIMITED if asked.all else MEMBERS)
    others, now = [other.id for other in found[1:]], time.time()
    if others:
        print(f"{asked.sweep}: of sweep {sweep.id}, the last one; there are too: {', '.join(others)}", file=sys.stderr)
    return [members_grid(sweep, now)], members_document(sweep, now) | {"other_sweeps": others}
