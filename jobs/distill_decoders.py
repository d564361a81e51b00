"""Table 2: InvPT and DeMT, each with and without KDAM.

    python jobs/distill_decoders.py             # procedural rooms, small networks in the paper's place
    python jobs/distill_decoders.py --smoke     # about a minute, tiny; its numbers mean nothing
    python jobs/distill_decoders.py --dataset nyud --root /data/NYUDv2

The teacher is Swin-L's multi-task baseline; the paper does not name the decoder of Table 2's teacher. Lands in MLflow
experiment kdam/<dataset>/decoders.
"""

import sys

from kdam_ray.studies.table_job import run_table_job


def main() -> int:
    return run_table_job(__doc__, "2")


if __name__ == "__main__":
    sys.exit(main())
