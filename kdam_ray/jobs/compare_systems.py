"""Tables 1 and 3: single-task networks, the multi-task baseline, other papers' systems, and what KDAM adds to them.

    kdam compare-systems                          # Table 1 on the procedural rooms, with small networks
    kdam compare-systems --dataset rooms_pascal   # Table 3 on rooms with PASCAL-Context's five tasks
    kdam compare-systems --smoke                  # tiny, in about two minutes; its numbers mean nothing
    ray job submit --working-dir . -- python jobs/compare_systems.py --dataset nyud --root /data/NYUDv2

HRNet18, Swin-T and Swin-S, each with its own single-task references; the teacher of the distilled rows is Swin-L's
multi-task baseline. Which small network stands for which is printed below the table. Rows that another table has
trained are found, not trained again. Lands in MLflow experiment kdam/<dataset>/systems.
"""

from kdam_ray.studies.table_job import TableFlags, run_table_job

Flags = TableFlags


def main() -> int:
    return run_table_job(__doc__, "1", "3", model=Flags)
