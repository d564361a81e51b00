"""`kdam runs`, `kdam show`, `kdam compare` as they are typed: text, one document, one line for what is wrong.

python -m pytest tests/test_listing_commands.py
"""

import json
import sys

import pytest
from recorded import small_sweep
from said import lines_of

from kdam_ray.__main__ import main
from kdam_ray.config import Place


@pytest.fixture
def kdam(tmp_path, own_mlflow, monkeypatch, capfd):
    """Runs the command in a folder whose runs/ has a sweep; gives (exit code, stdout, stderr without first words)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def call(*arguments: str) -> tuple[int, str, list[str]]:
        monkeypatch.setattr(sys, "argv", ["kdam", *arguments])
        try:
            code = main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capfd.readouterr()
        return code, out, lines_of(err)

    return call


def test_runs_lists_sweeps_and_members(kdam, tmp_path):
    sweep, _, runs = small_sweep(Place(storage=str(tmp_path / "runs")))
    code, out, _ = kdam("runs")
    assert code == 0
    assert f"{sweep.sweep_id}  rooms/listed" in out
    assert "1 training, 4 finished, 1 pruned, 1 failed" in out
    assert "b1 T3 (2 seeds)" in out
    code, out, _ = kdam("runs", "listed", "--json")
    document = json.loads(out)
    assert (code, document["id"], len(document["runs"])) == (0, sweep.sweep_id, len(runs))
    assert json.loads(kdam("runs", "--json")[1])["sweeps"][0]["states"]["finished"] == 4
    code, out, err = kdam("runs", "listde")
    assert (code, out, len(err)) == (2, "", 1)
    assert "perhaps listed" in err[0]


def test_show_takes_a_run_or_a_sweep(kdam, tmp_path):
    sweep, _, runs = small_sweep(Place(storage=str(tmp_path / "runs")))
    run_id = runs["kd"].run_id
    code, out, _ = kdam("show", run_id)
    assert code == 0
    assert f"Run {run_id}: b1 T3 s0" in out
    assert f"kdam compare {run_id} {runs['plain'].run_id}" in out
    assert json.loads(kdam("show", run_id, "--json")[1])["seeds"]["1"] == runs["kd 1"].run_id
    code, out, _ = kdam("show", sweep.sweep_id)
    assert code == 0
    assert "What its members differ in" in out
    code, out, err = kdam("show", "0" * 12)
    assert (code, out, len(err)) == (2, "", 1)


def test_compare_says_what_is_resolved(kdam, tmp_path):
    _, _, runs = small_sweep(Place(storage=str(tmp_path / "runs")))
    code, out, _ = kdam("compare", runs["plain"].run_id, runs["kd"].run_id, "--json")
    document = json.loads(out)
    assert code == 0
    assert {row["verdict"] for row in document["differences"]} <= {"resolved: better", "not resolved"}
    assert document["differences"][0]["pairs"] == 2
    for nonsense in ([], [runs["kd"].run_id], [runs["kd"].run_id] * 2):
        code, out, err = kdam("compare", *nonsense)
        assert (code, out, len(err)) == (2, "", 1), nonsense


@pytest.mark.parametrize("command", ["runs", "show abc", "compare abc abd"])
def test_an_empty_place_is_one_line(command, kdam, own_mlflow):
    own_mlflow.unlink()
    code, out, err = kdam(*command.split())
    assert (code, out, len(err)) == (2, "", 1)
    assert "begin with `kdam sweep-beta-temp --smoke`" in err[0]
    assert not own_mlflow.exists()
