"""Table 4: teacher-student pairs (Swin-L and Swin-B teach Swin-T, Swin-L teaches Swin-S) by plain KD, DIST and KDAM.

    python jobs/sweep_pairs.py             # procedural rooms, small networks in the paper's place
    python jobs/sweep_pairs.py --trials 12 # and Optuna searches beta, T and the pair together
    python jobs/sweep_pairs.py --smoke     # about two minutes, tiny; its numbers mean nothing
    python jobs/sweep_pairs.py --dataset nyud --root /data/NYUDv2

Teachers and students both have single-task references; those of the teachers are trained as the teachers are. Lands in
MLflow experiment kdam/<dataset>/pairs.
"""

import sys

from kdam_ray.studies.table_job import SearchFlags, run_table_job


def main() -> int:
    return run_table_job(__doc__, "4", model=SearchFlags)


if __name__ == "__main__":
    sys.exit(main())
