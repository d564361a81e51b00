"""Runs side by side: what differs in configuration, what in the scores, and which differences are more than chance.

    kdam compare eb2c45c7b4f8 a93e4db5729f        # the second against the first
    kdam compare eb2c a93e 107f --json            # several against the first; beginnings of run_ids do

Runs that differ only in their seed are one, with all the seeds that their sweep has. Differences are paired by seed,
with 95 % intervals and p-values corrected for their number; one seed each resolves nothing unless the sweep has
recorded how far seeds are apart. Runs that were not evaluated on the same images are refused (exit code 2).
"""

from typing import Annotated

import tyro

from kdam_ray.command import OfRecords, bad_input_exits, flags, output, require


class Flags(OfRecords):
    """What is compared.

    Attributes:
        runs: two or more: run_ids, their beginnings, or MLflow's ids; the others are compared with the first.
    """

    runs: Annotated[tuple[str, ...], tyro.conf.Positional] = ()


def main() -> int:
    asked = flags(Flags, __doc__)
    with bad_input_exits(), output(asked.as_json) as say:
        if len(asked.runs) < 2:
            raise ValueError("runs: give at least two; `kdam runs` lists what there is")
        require("service")

        from kdam_ray.report.comparison import compared, document, grids
        from kdam_ray.report.terminal import shown
        from kdam_ray.service.records.listing import find_members, one_member, opened, sweep_of

        tracking = opened(asked.place)
        members = [one_member(tracking, name, find_members(tracking, name)) for name in asked.runs]
        parents = {member.found.tags.get("mlflow.parentRunId"): member for member in members}
        sweeps = [sweep for member in parents.values() if (sweep := sweep_of(tracking, member)) is not None]
        table = compared(members, sweeps)
        say(shown(grids(table)), document(table))
    return 0
