"""Each module of the service and the report has a test of its name, or a row here that says which test covers it.

python -m pytest tests/test_mirror.py
"""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COVERED_BY = {
    # what Ray runs is tested by running it: whole sweeps with a training that trains nothing
    "service/pool/cohorts.py": "service/test_sweep.py",
    "service/pool/assignment.py": "service/pool/test_run_here.py",
    "service/pool/protocols.py": "service/pool/test_coordinator.py",
    "service/pool/ray_coordinator.py": "service/pool/test_coordinator.py",
    "service/pool/lanes.py": "service/test_sweep.py",
    "service/pool/launch.py": "service/test_sweep.py",
    "service/pool/progress.py": "service/test_sweep.py",
    "service/plan.py": "service/test_sweep.py",
    "service/result.py": "service/test_sweep.py",
    "service/teachers.py": "service/test_sweep.py",
    "service/ledger.py": "service/cost/test_totals.py",
    "service/records/found.py": "service/records/test_tracking.py",
    "service/records/reading.py": "service/records/test_tracking.py",
    "service/records/remote_shards.py": "service/records/test_storage.py",
    "service/records/weight_files.py": "service/records/test_checkpoints.py",
    "service/search/importance.py": "report/drawing/test_plots.py",
    "report/datasheet.py": "test_prepare_data.py",
    "report/table_grid.py": "report/test_golden_tables.py",
    "report/drawing/cost_plane.py": "report/drawing/test_plots.py",
    "report/drawing/curves.py": "report/drawing/test_plots.py",
    "report/drawing/forest.py": "report/drawing/test_plots.py",
    "report/drawing/searches.py": "report/drawing/test_plots.py",
    "report/drawing/what_is_drawn.py": "studies/test_table_job.py",
    "report/from_mlflow.py": "report/test_beta_temp.py",
    "report/printed.py": "report/test_formats.py",
    "report/recorded.py": "report/test_recorded_tables.py",
    "report/row_grid.py": "report/test_rows.py",
    "report/scores.py": "learning/test_score.py",
    "report/titles.py": "report/test_tables.py",
}
MODULES = sorted(
    str(path.relative_to(ROOT / "kdam_ray"))
    for room in ("service", "report")
    for path in (ROOT / "kdam_ray" / room).rglob("*.py")
    if path.name != "__init__.py"
)


def own_test(module: str) -> Path:
    """tests/service/pool/test_worker.py for service/pool/worker.py."""
    path = ROOT / "tests" / module
    return path.with_name(f"test_{path.name}")


@pytest.mark.parametrize("module", MODULES)
def test_every_module_has_a_test(module):
    known = own_test(module).exists(), module in COVERED_BY
    assert any(known), f"kdam_ray/{module}: write {own_test(module).relative_to(ROOT)}, or say above what covers it"
    assert not all(known), f"kdam_ray/{module} has a test of its own: its row above is out of date"


@pytest.mark.parametrize(("module", "test"), COVERED_BY.items())
def test_the_table_names_what_exists(module, test):
    assert module in MODULES
    assert (ROOT / "tests" / test).is_file()


def test_tests_stand_in_rooms_that_the_package_has():
    """Each folder of tests mirrors one of kdam_ray; `support` holds what tests share."""
    folders = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")}
    assert [str(folder) for folder in folders if not (ROOT / "kdam_ray" / folder).is_dir()] == []
