"""What runs cost is counted once and kept; what is kept may be lost.

python -m pytest tests/service/test_run_costs.py
"""

from fakes import make_run

from kdam_ray.service.cost import Costs
from kdam_ray.service.storage import Storage


def test_counts_are_kept_and_a_damaged_file_is_counted_again(tmp_path):
    storage, run = Storage(str(tmp_path)), make_run()
    counted = Costs(storage).forward(run, run.student, run.decoder)
    (kept,) = storage.cache().glob("*.json")
    assert Costs(storage)._known == {next(iter(Costs(storage)._known)): counted}
    kept.write_text(kept.read_text()[:-5])  # a process killed while it wrote
    assert Costs(storage).forward(run, run.student, run.decoder) == counted
