"""The command lines: help at once, bad input refused in one line before Ray starts, --plan starts nothing.

python -m pytest tests/test_jobs.py
"""

import json
import os
import resource
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from packaging_files import write_packaging
from PIL import Image
from said import lines_of

ROOT = Path(__file__).parents[1]
JOBS = sorted(path.name for path in (ROOT / "jobs").glob("*.py"))


def job(name: str, *arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess:
    """Runs a job as a person would, without this process's MLflow and Ray settings."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "RAY_"))}
    command = [sys.executable, str(ROOT / "jobs" / name), *map(str, arguments)]
    environment = kept | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=cwd or ROOT, env=environment)


@pytest.fixture
def here(monkeypatch, capfd):
    """`job` in this process, where what it imports is there already: in one of its own that takes seconds each time."""
    import ray

    def call(name: str, *arguments: object, cwd: Path) -> subprocess.CompletedProcess:
        monkeypatch.setattr(ray, "init", lambda *_, **__: pytest.fail("Ray was started"))
        monkeypatch.chdir(cwd)
        for key in [key for key in os.environ if key.startswith(("MLFLOW_", "RAY_"))]:
            monkeypatch.delenv(key)
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(str(ROOT / "jobs" / name), run_name="__main__")
        said = capfd.readouterr()
        return subprocess.CompletedProcess([], stop.value.code, said.out, said.err)

    return call


def refused(done: subprocess.CompletedProcess) -> str:
    """The one line that says what is wrong; what needs to be looked for may be said first, with the time."""
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    lines = lines_of(done.stderr)
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    return lines[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", JOBS)
def test_help_answers_in_under_two_seconds(name):
    """Seconds of the processor: other work on this machine is not the job's."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = job(name, "--help")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2
    assert "--dataset" in done.stdout
    assert "kdam " in done.stdout  # the docstring's command


SWEEP = [
    # arguments, words that the line must hold
    (("--dataset", "nyu"), ("dataset", "'nyu'", "rooms, rooms_pascal, nyud")),
    (("--student", "swin_x"), ("student", "'swin_x'", "swin_t")),
    (("--teacher", "vit"), ("teacher", "'vit'", "resnet_w16")),
    (("--method", "kd"), ("method", "'kd'", "plain_kd")),
    (("--betas", "-1"), ("distill.beta", "greater than 0", "-1.0")),
    (("--betas", "1", "nan"), ("distill.beta", "finite", "nan")),
    (("--betas", "inf"), ("distill.beta", "finite")),
    (("--temperatures", "0"), ("distill.temperature", "greater than 0")),
    (("--temperatures", "nan"), ("distill.temperature", "finite")),
    (("--epochs", "0"), ("epochs", "greater than or equal to 1")),
    (("--epochs", "many"), ("--epochs", "many")),
    (("--train-images", "4"), ("train_images is 4", "batch of 8")),
    (("--pretrained", "yes"), ("pretrained", "yes")),
    (("--seeds", "0"), ("seeds", "greater than or equal to 1")),
    (("--trials", "-1"), ("trials", "greater than or equal to 0")),
    (("--workers", "0"), ("workers", "greater than or equal to 1")),
    (("--split", "rows"), ("--split", "rows", "members")),
    (("--dataste", "rooms"), ("--dataste", "perhaps --dataset")),
]


@pytest.mark.parametrize(
    ("arguments", "words"), SWEEP, ids=lambda value: " ".join(value) if value[0].startswith("--") else ""
)
def test_sweep_refuses_in_one_line(arguments, words, tmp_path, here):
    ask = job if arguments == SWEEP[0][0] else here
    line = refused(ask("sweep_beta_temp.py", *arguments, cwd=tmp_path))
    assert all(word in line for word in words), line
    assert list(tmp_path.iterdir()) == []  # nothing started, nothing written


OTHERS = [
    ("train_student.py", ("--method", "kdam", "--beta", "0"), ("distill.beta", "greater than 0")),
    ("train_student.py", ("--method", "kdam", "--temperature", "nan"), ("distill.temperature", "finite")),
    ("train_student.py", ("--tasks", "semseg", "sal"), ("sal", "semseg", "edge")),
    ("train_student.py", ("--method", "dist", "--literal"), ("literal", "kdam")),
    ("train_student.py", ("--method", "soft"), ("distill.method", "'soft'")),
    ("train_student.py", ("--decoder", "demt", "magic"), ("decoder", "'magic'", "pad_net")),
    ("train_student.py", ("--decoder",), ("decoder",)),
    ("train_student.py", ("--contexts", "none.json"), ("contexts", "none.json")),
    (
        "train_student.py",
        ("--contexts", str(ROOT / "pyproject.toml"), "--decoder", "atrc"),
        ("contexts", "pyproject.toml"),
    ),
    ("train_student.py", ("--teacher-decoder", "magic"), ("decoder", "'magic'", "mt_baseline")),
    ("search_contexts.py", ("--out", "no/such/folder.json"), ("out", "no/such")),
    ("search_contexts.py", ("--architecture-lr", "-1"), ("architecture_lr", "greater than 0")),
    ("model_cost.py", ("--backbone", "vgg"), ("backbone", "'vgg'", "swin_t")),
    ("model_cost.py", ("--decoder", "magic"), ("decoder", "'magic'", "invpt")),
    ("model_cost.py", ("--dataset", "rooms"), ("dataset", "--backbone")),
    (
        "score_predictions.py",
        ("--dataset", "rooms", "--root", ".", "--predictions", "."),
        ("dataset", "'rooms'", "nyud, pascal"),
    ),
    (
        "score_predictions.py",
        ("--dataset", "nyud", "--root", ".", "--predictions", ".", "--convention", "me"),
        ("convention", "'me'", "atrc"),
    ),
    ("score_predictions.py", ("--dataset", "nyud", "--root", "absent", "--predictions", "."), ("root", "absent")),
    ("score_predictions.py", (), ("--dataset",)),
    ("train_teacher.py", ("--teacher", "swin"), ("'swin'", "swin_l")),
    ("make_tables.py", ("--table", "9"), ("table", "'9'")),
    ("make_tables.py", ("--format", "pdf"), ("format", "'pdf'", "text, md, tex, csv, html, json")),
    ("make_tables.py", ("--dataset", "coco"), ("dataset", "'coco'", "nyud")),
    ("make_tables.py", (), ("storage", "mlflow.db does not exist", "run `kdam sweep-beta-temp` first")),
    ("make_tables.py", ("--table", "4"), ("storage", "mlflow.db does not exist", "run `kdam sweep-pairs` first")),
    ("make_tables.py", ("--table", "all"), ("storage", "mlflow.db does not exist", "the tables' commands")),
    ("compare_systems.py", ("--dataset", "coco"), ("dataset", "'coco'", "rooms, nyud, rooms_pascal, pascal")),
    ("distill_decoders.py", ("--dataset", "pascal"), ("dataset", "'pascal'", "rooms, nyud")),
    ("ablate_terms.py", ("--weights", "swin_t"), ("weights", "'swin_t'", "NETWORK=FILE")),
    ("sweep_pairs.py", ("--seeds", "0"), ("seeds", "greater than or equal to 1")),
    ("ablate_terms.py", ("--epochs", "-1"), ("epochs", "greater than or equal to 1")),
    ("ablate_epochs.py", ("--student", "swin_t"), ("--student",)),
]


@pytest.mark.parametrize(("name", "arguments", "words"), OTHERS)
def test_other_jobs_refuse_in_one_line(name, arguments, words, tmp_path, here):
    """Each job once as a person runs it, in a process of its own."""
    ask = job if arguments == next(given for other, given, _ in OTHERS if other == name) else here
    line = refused(ask(name, *arguments, cwd=tmp_path))
    assert all(word in line for word in words), line
    assert list(tmp_path.iterdir()) == []


def no_root(root):
    return []


def empty_root(root):
    root.mkdir()
    return ["--root", root]


def no_label(root):
    (write_packaging(root) / "depth" / "0003.npy").unlink()
    return ["--root", root]


def other_size(root):
    Image.new("L", (40, 30)).save(write_packaging(root) / "edge" / "0008.png")
    return ["--root", root]


def too_few(root):
    write_packaging(root)
    return ["--root", root, "--train-images", "16"]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (no_root, ("root", "nyud", "gt_sets")),
        (empty_root, ("images",)),
        (no_label, ("depth", "0003.npy")),
        (other_size, ("edge", "0008.png", "30 x 40", "32 x 48")),
        (too_few, ("train", "16", "8")),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_bad_data_is_refused_before_anything_starts(spoil, words, tmp_path, here):
    size = "--train-images", 8, "--val-images", 2, "--storage", tmp_path / "runs"
    root = spoil(tmp_path / "nyud")
    line = refused(here("sweep_beta_temp.py", "--dataset", "nyud", "--smoke", *size, *root, cwd=tmp_path))
    assert all(word in line for word in words), line
    assert not (tmp_path / "runs" / "mlflow.db").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sweep_beta_temp.py", "train_teacher.py", "train_student.py"])
def test_plan_says_what_it_costs_and_starts_nothing(name, tmp_path):
    done = job(name, "--smoke", "--plan", "--storage", tmp_path / "runs", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "cohort 1: 1 member" in done.stdout  # the teacher's, or the student's
    assert "TFLOP (10^12 operations), roughly" in done.stdout
    assert "adamw, lr 0.00" in done.stdout
    assert not (tmp_path / "runs" / "mlflow.db").exists()


@pytest.mark.slow
def test_plan_as_json_counts_the_cells_once(tmp_path):
    done = job(
        "sweep_beta_temp.py",
        "--smoke",
        "--plan",
        "--json",
        "--trials",
        "5",
        "--storage",
        tmp_path / "runs",
        cwd=tmp_path,
    )
    document = json.loads(done.stdout)  # one document and nothing else
    kinds = [row["kind"] for row in document["runs"]]
    assert (kinds.count("teacher"), kinds.count("cell"), kinds.count("reference"), document["searched"]) == (
        1,
        13,
        4,
        5,
    )
    assert document["confirming"] == 2  # of one point, in a smoke run
    assert document["cohorts"][-1] == ["seed"]
    assert document["flops"] > 0
    assert document["seconds"] > 0
    assert not (tmp_path / "runs" / "mlflow.db").exists()
