"""Table 2: InvPT and DeMT, each with and without KDAM.

    kdam distill-decoders             # procedural rooms, small networks in the paper's place
    kdam distill-decoders --smoke     # about a minute, tiny; its numbers mean nothing
    kdam distill-decoders --dataset nyud --root /data/NYUDv2

The teacher is Swin-L's multi-task baseline; the paper does not name the decoder of Table 2's teacher. Lands in MLflow
experiment kdam/<dataset>/decoders.
"""

from kdam_ray.studies.table_job import TableFlags, run_table_job

Flags = TableFlags


def main() -> int:
    return run_table_job(__doc__, "2", model=Flags)
