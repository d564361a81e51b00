"""Table 6: KDAM's inter-task term, its intra-task term, both, and neither.

    kdam ablate-terms             # procedural rooms, small networks in the paper's place
    kdam ablate-terms --smoke     # about a minute, tiny; its numbers mean nothing
    kdam ablate-terms --dataset nyud --root /data/NYUDv2

Lands in MLflow experiment kdam/<dataset>/terms.
"""

from kdam_ray.studies.table_job import TableFlags, run_table_job

Flags = TableFlags


def main() -> int:
    return run_table_job(__doc__, "6", model=Flags)
