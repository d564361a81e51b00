"""Table 7: KDAM at a quarter, a half, three quarters, the whole and one and a half of the schedule.

    kdam ablate-epochs             # procedural rooms, small networks in the paper's place
    kdam ablate-epochs --smoke     # about a minute, tiny; its numbers mean nothing
    kdam ablate-epochs --dataset nyud --root /data/NYUDv2      # 100, 200, 300, 400 and 600 epochs

The paper does not say whether its rows are separate schedules or one long run looked at on its way ("selected at the
50th, 100th, ... epochs"). Both are here: five runs whose learning rate falls to zero, each in its own time, and, for
nothing, the longest of them at the others' epochs, where its learning rate is still high. On the way boundaries are
only looked at (25 thresholds, at most 100 images), which the table marks. Needs evaluations at those epochs
(--evaluate-every 1, or a divisor). Lands in MLflow experiment kdam/<dataset>/epochs.
"""

from kdam_ray.studies.table_job import TableFlags, run_table_job

Flags = TableFlags


def main() -> int:
    return run_table_job(__doc__, "7", model=Flags)
