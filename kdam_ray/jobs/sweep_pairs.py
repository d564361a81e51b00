"""Table 4: teacher-student pairs (Swin-L and Swin-B teach Swin-T, Swin-L teaches Swin-S) by plain KD, DIST and KDAM.

    kdam sweep-pairs             # procedural rooms, small networks in the paper's place
    kdam sweep-pairs --trials 12 # and Optuna searches beta, T and the pair together
    kdam sweep-pairs --smoke     # about two minutes, tiny; its numbers mean nothing
    kdam sweep-pairs --dataset nyud --root /data/NYUDv2

Teachers and students both have single-task references; those of the teachers are trained as the teachers are. Lands in
MLflow experiment kdam/<dataset>/pairs.
"""

from kdam_ray.studies.table_job import SearchFlags, run_table_job

Flags = SearchFlags


def main() -> int:
    return run_table_job(__doc__, "4", model=Flags)
