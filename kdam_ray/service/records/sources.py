"""What a record was made of: which code, started by whom and how, and which data."""

import functools
import getpass
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import kdam_ray
from kdam_ray.config import Run

RAY_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # Ray sets it for what `ray job submit` starts


def source_tags(run: Run) -> dict[str, str]:
    """Which code, whose call and which data: version, commit, uncommitted changes, user, command, dataset's hash."""
    commit, dirty = git_state()
    return {
        "mlflow.user": user(), "mlflow.source.name": source_name(sys.argv),
        "mlflow.source.type": "JOB" if RAY_JOB in os.environ else "LOCAL", "mlflow.source.git.commit": commit,
        "kdam.git_dirty": dirty, "kdam.version": kdam_ray.__version__, "kdam.dataset_hash": run.dataset_hash,
    }  # fmt: skip


def user() -> str:
    """Who runs this process; "unknown" where the system has no name for it, as in some containers."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


def source_name(argv: list[str]) -> str:
    """`kdam sweep-beta-temp`, or the file of the job, from where the command was given if it lies below.

    Nothing else of the command line: it may hold what is nobody's business.
    """
    program, arguments = Path(argv[0] if argv and argv[0] else "python"), argv[1:]
    if program.name == "__main__.py":  # python -m package
        program = program.parent
    if program.suffix != ".py":
        command = arguments[0] if program.name.startswith("kdam") and arguments else ""
        return f"{program.name} {command}" if command and not command.startswith("-") else program.name
    path = program.absolute()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else program.name


@functools.cache
def git_state() -> tuple[str, str]:
    """The commit of this code, and whether its checkout has changes ("true" or "false").

    Only of a repository that tracks this very file: a package that is installed inside of somebody's own repository
    belongs to none. Outside a checkout, as in an image, a wheel or a shipped working directory, KDAM_GIT_COMMIT names
    the commit, else both are "unknown".
    """
    asked = (("ls-files", "--error-unmatch", Path(__file__).name), ("rev-parse", "HEAD"), ("status", "--porcelain"))
    try:
        _, commit, status = (
            subprocess.run(
                ["git", *what], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
            ).stdout.strip()
            for what in asked
        )
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("KDAM_GIT_COMMIT", "unknown"), "unknown"
    return commit, str(bool(status)).lower()


def dataset_inputs(run: Run, root: str | None) -> list[Any]:
    """The images that a run reads, as MLflow's dataset inputs: the fingerprint is the digest.

    Args:
        run: which.
        root: where its dataset's packaging or shards are; None: nowhere, it is made (procedural).
    """
    from mlflow.entities import Dataset, DatasetInput, InputTag

    # a URI's query and user may hold what is secret
    scheme, separator, rest = (root or "").partition("://")
    where = f"{scheme}{separator}{rest.partition('?')[0].rpartition('@')[2]}" if separator else root
    source_type = ("s3" if separator else "local") if where else "code"
    source = {"uri": where} if where else {"made by": "kdam_ray"}
    return [
        DatasetInput(
            Dataset(
                name=f"{run.dataset} {split}", digest=run.dataset_hash or "unknown", source_type=source_type,
                source=json.dumps(source), profile=json.dumps({"num_rows": images}),
            ),
            [InputTag("mlflow.data.context", {"train": "training", "val": "validation"}[split])],
        )
        for split, images in (("train", run.train_images), ("val", run.val_images))
    ]  # fmt: skip
