"""What a report puts behind its rows; the whole of it is written by tests/studies/test_table_job.py.

python -m pytest tests/report/drawing/test_sweep_report.py
"""

import io

import pytest
from fakes import make_run
from PIL import Image

from kdam_ray.config import Sweep
from kdam_ray.report.drawing.sweep_report import Content, run_cards
from kdam_ray.report.formats import Cell, Grid
from kdam_ray.service.result import RunResult, SweepResult

RUNS = [make_run(seed=seed) for seed in range(3)]
FIRST, SECOND, THIRD = (run.run_id for run in RUNS)
SERVER = "https://somebody:secret@mlflow.example.org:5000/base/"


def result(uri):
    rows = tuple(
        RunResult(run=run, purpose="cell", status="finished", mlflow_run=f"mlflow{index}")
        for index, run in enumerate(RUNS)
    )
    return SweepResult(
        sweep=Sweep(name="x", base=RUNS[0], cells=()), rows=rows, teachers=(), single_task=None, parent="",
        tracking_uri=uri, storage="runs", seconds={}, cost={}, planned={},
    )  # fmt: skip


def content(**more):
    rows = tuple((Cell(name), Cell("1")) for name in ("beta 1", "beta 2", "T 3"))
    grid = Grid("T", ("", "n"), 1, rows, runs=((FIRST,), (SECOND,), (FIRST,)))
    return Content("title", [grid], [], **({"pictured": RUNS[:1], "facts": {}} | more))


@pytest.fixture
def picture(tmp_path):
    target = io.BytesIO()
    Image.new("RGB", (2, 2)).save(target, format="PNG")
    path = tmp_path / "picture.png"
    path.write_bytes(target.getvalue())
    return path


def test_rows_of_the_same_runs_share_a_card_and_a_picture_without_a_row_has_its_own(picture):
    cards = run_cards(content(beside=RUNS[1:]), result("sqlite:///x.db"), {FIRST: picture, THIRD: picture})
    assert [(card.title, card.run_ids, len(card.pictures), card.is_open) for card in cards] == [
        ("beta 1", (FIRST,), 1, True),
        ("beta 2", (SECOND,), 0, False),
        ("swin_w12 mt_baseline, without distillation", (THIRD,), 1, False),
    ]
    assert [run.mlflow_run for card in cards for run in card.runs] == ["mlflow0", "mlflow1", "mlflow2"]


@pytest.mark.parametrize(
    "uri", ["sqlite:///x.db", "runs", "postgresql://somebody:secret@host/db", "javascript:alert(1)"]
)
def test_only_a_server_has_pages_to_link_to(uri):
    assert {run.address for card in run_cards(content(), result(uri), {}) for run in card.runs} == {""}


def test_an_address_holds_no_name_and_no_password():
    (line,) = run_cards(content(), result(SERVER), {})[0].runs
    assert line.address == "https://mlflow.example.org:5000/base/#/runs/mlflow0"
