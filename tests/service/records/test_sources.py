"""What a record says of its code, its user and its data.

python -m pytest tests/service/records/test_sources.py
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fakes import make_run

import kdam_ray
from kdam_ray.service.records import sources
from kdam_ray.service.records.sources import dataset_inputs, git_state, source_name, source_tags


def test_outside_a_checkout_the_commit_is_unknown(monkeypatch):
    def no_git(*args, **kwargs):
        raise subprocess.CalledProcessError(128, "git")

    monkeypatch.setattr(sources.subprocess, "run", no_git)
    assert git_state.__wrapped__() == ("unknown", "unknown")
    monkeypatch.setenv("KDAM_GIT_COMMIT", "c0ffee")
    assert git_state.__wrapped__() == ("c0ffee", "unknown")


@pytest.mark.parametrize("tracked", [True, False])
def test_the_commit_is_that_of_a_repository_that_tracks_this_code(tmp_path, tracked):
    """A package installed inside of somebody's own repository does not record that repository's commit."""
    installed = tmp_path / "venv" / "kdam_ray"
    shutil.copytree(Path(kdam_ray.__file__).parent, installed, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "own.py").write_text("pass\n")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "-C", str(tmp_path)]
    for what in (["init", "-q"], ["add", "own.py", *(["venv"] if tracked else [])], ["commit", "-qm", "own"]):
        subprocess.run([*git, *what], check=True, capture_output=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    code = "from kdam_ray.service.records.sources import git_state; print(*git_state())"
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=installed.parent, capture_output=True, text=True, check=True,
        env=os.environ | {"PYTHONPATH": str(installed.parent), "PYTHONDONTWRITEBYTECODE": "1"},
    ).stdout.split()  # fmt: skip
    assert said == ([head, "false"] if tracked else ["unknown", "unknown"])


@pytest.mark.parametrize(
    ("argv", "name"),
    [
        (["/opt/venv/bin/kdam", "sweep-beta-temp", "--storage", "s3://key@bucket"], "kdam sweep-beta-temp"),
        (["/opt/venv/bin/kdam", "--help"], "kdam"),
        (["jobs/sweep_beta_temp.py", "--smoke"], "jobs/sweep_beta_temp.py"),
        (["/elsewhere/my_job.py"], "my_job.py"),
        (["/opt/lib/pytest/__main__.py", "tests"], "pytest"),
        (["-c"], "-c"), ([""], "python"), ([], "python"),
    ],
)  # fmt: skip
def test_the_source_is_the_command_or_the_file_of_the_job(argv, name):
    assert source_name(argv) == name


def test_tags_name_version_user_and_data():
    tags = source_tags(make_run(dataset_hash="feed"))
    assert (tags["kdam.version"], tags["kdam.dataset_hash"]) == (kdam_ray.__version__, "feed")
    assert all(tags[name] for name in ("mlflow.user", "mlflow.source.name", "mlflow.source.git.commit"))


@pytest.mark.parametrize(
    ("root", "source"),
    [
        (None, ("code", {"made by": "kdam_ray"})),
        ("/data/NYUDv2", ("local", {"uri": "/data/NYUDv2"})),
        ("s3://key:secret@bucket/nyud?endpoint_override=host", ("s3", {"uri": "s3://bucket/nyud"})),
    ],
)
def test_dataset_inputs_carry_the_fingerprint_and_no_secret(root, source):
    train, val = dataset_inputs(make_run(dataset_hash="feed"), root)
    assert [item.dataset.name for item in (train, val)] == ["rooms train", "rooms val"]
    assert [item.tags[0].value for item in (train, val)] == ["training", "validation"]
    assert {item.dataset.digest for item in (train, val)} == {"feed"}
    assert [json.loads(item.dataset.profile)["num_rows"] for item in (train, val)] == [8, 4]
    assert (train.dataset.source_type, json.loads(train.dataset.source)) == source
