"""The jobs of the tables as their users run them, one after the other, then the tables from MLflow alone.

python -m pytest tests/studies/test_table_job.py
"""

import json
import runpy
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from kdam_ray.config import Place
from kdam_ray.service.records.tracking import Tracking

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def storage(tmp_path_factory):
    return tmp_path_factory.mktemp("tables") / "runs"


@pytest.fixture
def run(storage, ray_session, monkeypatch, capfd):
    """run(job, *arguments) -> (exit code, stdout, stderr); joins the session's Ray."""

    def call(job, *arguments):
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        monkeypatch.setattr(sys, "argv", [job, *map(str, arguments), "--smoke", "--storage", str(storage)])
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(str(ROOT / "jobs" / f"{job}.py"), run_name="__main__")
        said = capfd.readouterr()
        return stop.value.code, said.out, said.err

    return call


def test_terms_then_epochs_share_a_run_and_all_tables_come_from_mlflow(run, storage):
    code, out, _ = run("ablate_terms", "--seeds", "2", "--pictures-every", "1", "--json")
    terms = json.loads(out)
    assert code == 0
    tracking = Tracking(Place(storage=str(storage)))
    for record in tracking.find(
        run_id for row in terms["rows"] for ids in row["run_ids"].values() for run_id in ids
    ).values():
        assert [item.path for item in tracking.client.list_artifacts(record.mlflow_run, "pictures")] == [
            "pictures/epoch_0001.png"
        ]
        assert record.metrics["cost/device_s"] > 0
    assert (terms["table"], terms["dataset"], terms["smoke"], terms["trained"]) == ("6", "rooms", True, 8)
    assert [row["model"] for row in terms["rows"]] == [
        "MT",
        "MT+KDAM intra",
        "MT+KDAM inter",
        "MT+KDAM inter and intra",
    ]
    assert all(row["metrics"]["edge/odsF"]["n"] == 2 for row in terms["rows"])
    assert len(terms["comparisons"]) == 3 * 4

    code, out, err = run("ablate_epochs", "--seeds", "1", "--json")
    epochs = json.loads(out)
    assert code == 0
    shared = {run_id for row in terms["rows"] for ids in row["run_ids"].values() for run_id in ids}
    assert set(epochs["rows"][0]["run_ids"]["0"]) <= shared  # one epoch is the smoke size of the other tables
    assert epochs["trained"] == 4
    assert [row["epochs"] for row in epochs["rows"]] == [1, 2, 3, 4, 6, 1, 2, 3, 4]
    assert all(row["metrics"]["semseg/mIoU"]["n"] == 1 for row in epochs["rows"])
    (folder,) = (storage / "reports" / "rooms" / "epochs_smoke").iterdir()
    check_report(folder, "epochs")
    assert "report:" in err

    code, out, _ = run("make_tables", "--table", "6", "--format", "json")
    assert code == 0
    again = json.loads(out)
    assert again["rows"] == terms["rows"]
    code, out, err = run("make_tables", "--table", "all", "--format", "md")
    assert code == 0
    assert "Table 6 on rooms (smoke" in out
    assert "Table 7 on rooms (smoke" in out
    assert [line.split(":")[1].strip() for line in err.splitlines() if line.startswith("missing: table")] == [
        "table 1", "table 2", "table 3", "table 4", "table 5",
    ]  # fmt: skip


def test_another_teacher_makes_another_sweep(run, storage):
    """Table, report and record of the first stay; fewer seeds of the first are the first."""
    terms = json.loads(run("ablate_terms", "--seeds", "2", "--json")[1])
    code, out, err = run("ablate_terms", "--seeds", "1", "--teacher-epochs", "2", "--json")
    other = json.loads(out)
    assert (code, other["trained"]) == (0, 3)  # without distillation it is the same run
    assert other["parent"] != terms["parent"]
    assert [row["metrics"]["edge/odsF"]["n"] for row in other["rows"]] == [1] * 4
    assert len(list((storage / "reports" / "rooms" / "terms_smoke").glob("*/report.html"))) == 2
    code, out, err = run("make_tables", "--table", "6", "--sweep", terms["parent"], "--format", "json")
    assert json.loads(out)["rows"] == terms["rows"]
    assert other["parent"] in err
    code, out, err = run("ablate_terms", "--seeds", "1", "--json")
    assert json.loads(out)["rows"] == terms["rows"]
    assert "report:" not in err


def check_report(folder, plot):
    tags = set()

    class Tags(HTMLParser):
        def handle_starttag(self, tag, attrs):
            tags.add(tag)

    page = (folder / "report.html").read_text()
    Tags().feed(page)
    assert {"table", "svg", "img", "details"} <= tags
    assert "http://" not in page.replace("http://www.w3.org/", "")
    for name in (f"{plot}.png", f"{plot}.svg", "tables.tex", "tables.csv", "tables.md", "tables.html", "tables.txt"):
        assert (folder / name).stat().st_size > 0


def test_pairs_are_searched_beside_the_rows(run, storage):
    code, out, _ = run("sweep_pairs", "--seeds", "1", "--trials", "3")
    assert code == 0
    assert "Searched, the highest first" in out
    assert out.count("searched  ") >= 1
    lines = [line for line in out.splitlines() if " teaches " in line]
    assert len(lines) >= 4  # the three distilled pairs of the table and what was drawn
    assert list((storage / "reports" / "rooms" / "pairs_smoke").glob("*/search.png"))
    code, out, _ = run("sweep_pairs", "--seeds", "1", "--trials", "3", "--json")
    assert (code, json.loads(out)["trained"]) == (0, 0)
