"""What the studies train, without training it: python -m pytest tests/studies/test_studies.py"""

import subprocess
import sys

import pytest

from kdam_ray.config import Place, change
from kdam_ray.recipes import Pair, Schedule
from kdam_ray.service.search.study import searched_params
from kdam_ray.studies.beta_temp import BetaTempPoints, beta_temp_sweep
from kdam_ray.studies.gain import VARIANTS, chosen, gain_sweeps
from kdam_ray.studies.table_runs import Search, table_sweep


@pytest.fixture
def place(tmp_path):
    return Place(storage=str(tmp_path / "runs"), workers=2, gpus=False)


def test_table_5_has_13_cells_their_references_and_a_space_around_them(place):
    sweep, teacher = beta_temp_sweep(BetaTempPoints(pair=Pair(smoke=True), seeds=2), place)
    assert len({(cell["distill.beta"], cell["distill.temperature"]) for cell in sweep.cells}) == 13
    assert len(sweep.cells) == 2 * 13
    assert [row["distill"]["method"] for row in sweep.references] == ["none"] * 3 + ["kdam"] * 2
    assert (sweep.name, sweep.base.teacher_run) == ("beta_temp_smoke", teacher.run_id)
    assert sweep.space == {"distill.beta": (0.1, 16.0), "distill.temperature": (0.1, 16.0)}
    assert (sweep.trials, sweep.confirmed) == (2, 1)


def test_alpha_is_searched_only_where_asked_and_every_cell_is_a_point_of_the_space(place):
    asked = BetaTempPoints(pair=Pair(smoke=True), betas=(0.05, 32.0), temperatures=(3.0,), search_alpha=True, confirm=0)
    sweep, _ = beta_temp_sweep(asked, place)
    assert list(sweep.space) == ["distill.beta", "distill.temperature", "distill.alpha"]
    assert sweep.space["distill.beta"] == (0.05, 32.0)
    assert all(searched_params(sweep, change(sweep.base, cell)) is not None for cell in sweep.cells)
    assert sweep.confirmed == 0


def test_pairs_are_searched_in_beta_and_temperature_and_alpha_where_asked(place):
    options = {"seeds": 1, "name": "pairs", "place": place}
    for search, fields in ((Search(2, confirmed=1), 2), (Search(2, alpha=True, confirmed=1), 3)):
        sweep = table_sweep("4", Schedule(smoke=True), search=search, **options).sweep
        assert (len(sweep.space), list(sweep.choices), sweep.trials, sweep.confirmed) == (fields, ["pair"], 2, 1)
        points = [cell for cell in sweep.cells if searched_params(sweep, change(sweep.base, cell)) is not None]
        assert len(points) == len(sweep.choices["pair"])
    unsearched = table_sweep("4", Schedule(smoke=True), search=Search(0, confirmed=1), **options).sweep
    assert (unsearched.space, unsearched.confirmed) == ({}, 0)


def test_every_variant_has_a_row_of_its_own_and_a_rival_among_the_others():
    labels = [variant.label for variant in VARIANTS.values()]
    assert len(set(labels)) == len(labels) == 18
    assert [variant.rival for variant in VARIANTS.values() if variant.rival not in labels] == [""]


def test_a_sweep_of_the_study_has_one_teacher_and_every_seed_of_its_variants(place):
    strong, peer = gain_sweeps(chosen(["kdam", "labels_kdam", "peer_kdam"]), Pair(smoke=True), place, seeds=2)
    assert (strong.sweep.name, peer.sweep.name) == ("gain_smoke", "gain_smoke_peer")
    assert strong.labels == tuple((name, seed) for seed in (0, 1) for name in ("none", "kdam", "labels_kdam"))
    assert [cell.get("teacher_run") for cell in strong.sweep.cells[:3]] == [None, strong.teacher.run_id, None]
    assert {cell["teacher_run"] for cell in peer.sweep.cells} == {peer.teacher.run_id}
    assert peer.teacher.student == strong.sweep.base.student


def test_a_bad_value_is_refused_before_torch_is_imported():
    code = (
        "import sys\nfrom kdam_ray.config import Place\n"
        "from kdam_ray.studies.beta_temp import BetaTempPoints, beta_temp_sweep\n"
        "try:\n    beta_temp_sweep(BetaTempPoints(betas=(-1.0,)), Place())\n"
        "except ValueError:\n    assert 'torch' not in sys.modules\nelse:\n    sys.exit('accepted')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(ValueError, match="only: 'all' is not one of: none, plain_kd"):
        chosen(["all"])
