"""cluster.yaml, the Dockerfile and .rayignore: accepted by Ray's own checks, and true to what the code asks for.

python -m pytest tests/test_cluster.py
"""

import copy
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).parents[1]
CLUSTER = yaml.safe_load((ROOT / "cluster.yaml").read_text())
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text()


def validated(config: dict) -> dict:
    """Filled in and checked by Ray's launcher, offline."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    return prepared


def test_ray_accepts_it():
    assert set(validated(CLUSTER)["available_node_types"]) == {"head", "gpu_spot", "gpu_ondemand"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"idle_timeout": 5},
        {
            "available_node_types": {
                **CLUSTER["available_node_types"],
                "head": {"node_config": {}, "resources": {"driver": "64"}},
            }
        },
        {"head_node_type": "nowhere"},
    ],
    ids=["unknown key", "text for a number", "no such head"],
)
def test_ray_refuses_what_is_wrong(wrong):
    """The check above can fail."""
    with pytest.raises((jsonschema.ValidationError, ValueError)):
        validated({**CLUSTER, **wrong})


def test_drivers_run_on_the_on_demand_head_and_training_does_not():
    types = CLUSTER["available_node_types"]
    head = types[CLUSTER["head_node_type"]]
    assert head["resources"] == {"CPU": 0, "driver": 64}
    assert "InstanceMarketOptions" not in head["node_config"]
    workers = {name: row for name, row in types.items() if name != CLUSTER["head_node_type"]}
    assert all("driver" not in row["resources"] and row["resources"]["GPU"] > 0 for row in workers.values())
    assert all(row["min_workers"] == 0 and row["idle_timeout_s"] > 0 for row in workers.values())
    spot = {
        name
        for name, row in workers.items()
        if row["node_config"].get("InstanceMarketOptions", {}).get("MarketType") == "spot"
    }
    assert spot == {name for name, row in workers.items() if row["labels"]["market-type"] == "spot"} == {"gpu_spot"}


def test_every_node_demands_the_token():
    starts = [
        line
        for key in ("head_start_ray_commands", "worker_start_ray_commands")
        for line in CLUSTER[key]
        if "ray start" in line
    ]
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token ray start" in line for line in starts)
    assert CLUSTER["file_mounts"] == {"~/.ray/auth_token": "~/.ray/auth_token"}
    assert "--dashboard-host=127.0.0.1" in starts[0]


def constraints() -> dict[str, str]:
    return dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)


def test_the_image_installs_the_pinned_versions():
    pins = dict(re.findall(r"\b([a-z0-9_-]+)==([0-9.]+)", DOCKERFILE))
    assert set(pins) >= {"torch", "torchvision"}
    assert pins == {name: constraints()[name] for name in pins}
    installs = [
        line
        for line in re.sub(r"\\\n", " ", DOCKERFILE).splitlines()
        if "pip install" in line and not line.startswith("#")
    ]
    assert installs
    assert all("--constraint constraints.txt" in line for line in installs)


def test_the_image_copies_what_exists_and_has_the_clusters_name():
    copied = [source for line in re.findall(r"^COPY (.+) \S+$", DOCKERFILE, re.MULTILINE) for source in line.split()]
    assert {"constraints.txt", "pyproject.toml", "kdam_ray", "jobs"} <= set(copied)
    assert all((ROOT / source).exists() for source in copied)
    assert re.search(r"docker build .*-t (\S+) ", DOCKERFILE).group(1) == CLUSTER["docker"]["image"]
    base = re.search(r"^FROM python:(\d+\.\d+)-slim$", DOCKERFILE, re.MULTILINE).group(1)
    assert f'requires-python = ">={base}"' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize(
    "path", ["runs/mlflow.db", ".venv/bin/python", "mlflow.db-journal", "some.log", "kdam_ray/__pycache__/tasks.pyc"]
)
def test_what_changes_meanwhile_is_not_submitted(path):
    assert not is_submitted(path)


@pytest.mark.parametrize(
    "path", ["jobs/sweep_beta_temp.py", "kdam_ray/tasks.py", "kdam_ray/data/packaged/nyud.py", "constraints.txt"]
)
def test_what_a_job_needs_is_submitted(path):
    assert is_submitted(path)


def is_submitted(path: str) -> bool:
    """By the rules of .rayignore, which are gitignore's."""
    from pathspec import GitIgnoreSpec

    return not GitIgnoreSpec.from_lines((ROOT / ".rayignore").read_text().splitlines()).match_file(path)
