"""Table 6: KDAM's inter-task term, its intra-task term, both, and neither.

    python jobs/ablate_terms.py             # procedural rooms, small networks in the paper's place
    python jobs/ablate_terms.py --smoke     # about a minute, tiny; its numbers mean nothing
    python jobs/ablate_terms.py --dataset nyud --root /data/NYUDv2

Lands in MLflow experiment kdam/<dataset>/terms.
"""

import sys

from kdam_ray.studies.table_job import run_table_job


def main() -> int:
    return run_table_job(__doc__, "6")


if __name__ == "__main__":
    sys.exit(main())
