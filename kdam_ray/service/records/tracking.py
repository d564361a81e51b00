"""The only file that writes to MLflow: a run of MLflow per sweep, a child per member.

Only `MlflowClient`, never the fluent functions: workers, driver and tests hold their own client and no process has a
"current run". A member is found by the tag `kdam.run_id` in any experiment: a finished one is never trained again, an
unfinished one is reopened under the MLflow run that it has. A member that another sweep trained is shown under this
sweep's parent as a link: a child with its params and last metrics, tag `kdam.link` naming the MLflow run that was
trained. A link is no second record of the training and is never found as one.
"""

import functools
import json
import logging
import os
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from kdam_ray.config import Place, Run, Sweep, canonical_json, change, flatten, single_task, untaught
from kdam_ray.service.records.storage import Storage
from kdam_ray.tasks import DATASETS

Status = Literal["finished", "pruned", "failed", "unfinished"]
BEST_FIRST: tuple[Status, ...] = ("finished", "unfinished", "pruned", "failed")
SQLITE = "sqlite:///"
ENDED: dict[Status, str] = {"finished": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}


@dataclass(frozen=True)
class Found:
    """A member as MLflow has it.

    Attributes:
        run: rebuilt from what was recorded.
        mlflow_run: id of MLflow's run.
        experiment: name of its experiment.
        status: pruned and failed members are results too (training is deterministic); only "unfinished" ones go on.
        metrics: the last value of each: "val/semseg/mIoU", "train/loss", ...
        reason: why it failed.
        tags: all of them.
    """

    run: Run
    mlflow_run: str
    experiment: str
    status: Status
    metrics: dict[str, float]
    reason: str | None
    tags: dict[str, str]


@dataclass(frozen=True)
class Parent:
    """A sweep as MLflow has it: its run's id and tags."""

    mlflow_run: str
    tags: dict[str, str]


def tracking_uri(place: Place) -> str:
    """Place's own, else MLFLOW_TRACKING_URI, else sqlite beside the local storage.

    The path of a sqlite file is made absolute: `sqlite:///runs/mlflow.db` means this folder's, also to workers that run
    elsewhere.
    """
    if given := place.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI"):
        return f"{SQLITE}{Path(given.removeprefix(SQLITE)).absolute()}" if given.startswith(SQLITE) else given
    local = Storage(place.storage).local or Path("runs").absolute()
    return f"{SQLITE}{local / 'mlflow.db'}"


def experiment_name(dataset: str, sweep: str) -> str:
    """MLflow's experiment of a sweep."""
    return f"kdam/{dataset}/{sweep}"


class Tracking:
    """Reads and writes of one MLflow tracking store."""

    def __init__(self, place: Place):
        self.uri = tracking_uri(place)
        self.artifacts = Path(self.uri.removeprefix(SQLITE)).parent / "mlruns" if self.uri.startswith(SQLITE) else None
        self._connected: Any = None
        self._experiments: dict[str, str] = {}

    @property
    def empty(self) -> bool:
        """Nothing recorded yet, known without creating the database (which takes seconds)."""
        return self.uri.startswith(SQLITE) and not Path(self.uri.removeprefix(SQLITE)).exists()

    @property
    def client(self) -> Any:
        """The MlflowClient; the first use creates a missing sqlite database.

        Raises:
            ValueError: it cannot be opened; says which and why.
        """
        if self._connected is None:
            os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
            os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
            os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
            from mlflow import MlflowClient
            from mlflow.exceptions import MlflowException
            from sqlalchemy.exc import SQLAlchemyError

            logging.getLogger("mlflow").setLevel(logging.WARNING)
            if self.artifacts is not None:
                self.artifacts.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._connected = MlflowClient(self.uri)
            except (MlflowException, SQLAlchemyError) as error:
                reason = str(error).strip().splitlines()[0]
                raise ValueError(f"tracking_uri: {self.uri} cannot be opened as MLflow's store: {reason}") from None
        return self._connected

    def experiment(self, dataset: str, sweep: str) -> str:
        """Id of `kdam/<dataset>/<sweep>`, created when missing."""
        name = experiment_name(dataset, sweep)
        if name not in self._experiments:
            known = self.client.get_experiment_by_name(name)
            location = self.artifacts.as_uri() + f"/{name}" if self.artifacts is not None else None
            self._experiments[name] = (
                known.experiment_id if known else self.client.create_experiment(name, artifact_location=location)
            )
        return self._experiments[name]

    # --- what is there

    def find(self, run_ids: Iterable[str]) -> dict[str, Found]:
        """Members by run_id, from any experiment: each one's finished record, else its unfinished, else its newest."""
        experiments = self._all_experiments()
        found = {name: self._search(experiments, f"tags.`kdam.run_id` = '{name}'") for name in dict.fromkeys(run_ids)}
        return {
            run_id: min(records, key=lambda record: BEST_FIRST.index(record.status))
            for run_id, records in found.items()
            if records
        }

    def find_finished(self, run_id: str) -> Found | None:
        """The finished record of a run, whichever sweep trained it."""
        record = self.find([run_id]).get(run_id)
        return record if record is not None and record.status == "finished" else None

    def run_id_of(self, mlflow_run: str) -> str | None:
        """run_id of the member, or of the link to one, that MLflow knows by that id; None: it knows none."""
        experiments = list(self._all_experiments())
        wanted = f"attributes.run_id = '{mlflow_run}'"
        found = self.client.search_runs(experiments, wanted, max_results=1) if experiments else []
        return found[0].data.tags.get("kdam.run_id") if found else None

    def rows(self, dataset: str, sweep: str) -> list[Found]:
        """Members trained in, or linked into, the experiment `kdam/<dataset>/<sweep>`, oldest first."""
        return self._search(self._experiments_of(dataset, sweep), "tags.`kdam.run_id` LIKE '%'", links=True)[::-1]

    def single_task_reference(self, run: Run) -> dict[str, float] | None:
        """Metrics of finished runs that learn the tasks of `run` one by one (`config.single_task`), at any seed.

        {"semseg/mIoU": ...}, means over seeds. None unless every task of `run` has such a run: a Delta over some tasks
        is another quantity. A task that was learnt with another weight (`task_factors`) is no reference.
        """
        wanted = (
            f"params.student = '{run.student}' and params.`distill.method` = 'none' and attributes.status = 'FINISHED'"
        )
        records, reference = self._search(self._all_experiments(), wanted), {}
        for task in (DATASETS[run.dataset].task(name) for name in run.tasks):
            single = single_task(run, task.name)
            values = [
                record.metrics[f"val/{task.metric_key}"] for record in records
                if record.run.tasks == single.tasks and change(untaught(record.run), {"seed": 0}) == single
            ]  # fmt: skip
            if not values:
                return None
            reference[task.metric_key] = sum(values) / len(values)
        return reference

    def _all_experiments(self) -> dict[str, str]:
        if self.empty:
            return {}
        experiments = self.client.search_experiments(filter_string="name LIKE 'kdam/%'", max_results=1000)
        return {item.experiment_id: item.name for item in experiments}

    def _experiments_of(self, dataset: str, sweep: str) -> dict[str, str]:
        experiments = self._all_experiments().items()
        return {id_: name for id_, name in experiments if name == experiment_name(dataset, sweep)}

    def _search(self, experiments: Mapping[str, str], wanted: str, *, links: bool = False) -> list[Found]:
        records, token = [], None
        while experiments:  # where there are none, a database that is not there yet is not asked
            page = self.client.search_runs(list(experiments), wanted, max_results=1000, page_token=token)
            records += [record for item in page if (record := _found(item, experiments[item.info.experiment_id]))]
            if not (token := page.token):
                break
        return [record for record in records if links or "kdam.link" not in record.tags]

    def parents(self, dataset: str, sweep: str) -> list[Parent]:
        """The sweeps recorded in `kdam/<dataset>/<sweep>`, the one that was last begun or taken up again first."""
        names = [*self._experiments_of(dataset, sweep)]
        runs = self.client.search_runs(names, "tags.`kdam.base` LIKE '%'", max_results=1000) if names else []
        parents = [Parent(run.info.run_id, dict(run.data.tags)) for run in runs]
        return sorted(parents, key=lambda parent: int(parent.tags.get("kdam.opened", 0)), reverse=True)

    def document(self, mlflow_run: str, name: str) -> Any:
        """The JSON artifact of that name, or None."""
        if not any(item.path == name for item in self.client.list_artifacts(mlflow_run)):
            return None
        with tempfile.TemporaryDirectory() as folder:
            return json.loads(Path(self.client.download_artifacts(mlflow_run, name, folder)).read_text())

    def history(self, mlflow_run: str, metric: str) -> dict[int, float]:
        """epoch -> value of a metric; the last one where an epoch was trained twice."""
        points = sorted(self.client.get_metric_history(mlflow_run, metric), key=lambda point: point.timestamp)
        return {point.step: point.value for point in points}

    def outcome(self, mlflow_run: str) -> tuple[Status, dict[str, float]]:
        """How a member stands now, and its last metrics."""
        run = self.client.get_run(mlflow_run)
        return _status(run), dict(run.data.metrics)

    # --- what is written

    def open_parent(self, sweep: Sweep) -> str:
        """The sweep's run, reopened if the same sweep (`Sweep.sweep_id`) has one."""
        experiment = self.experiment(sweep.base.dataset, sweep.name)
        tags = {
            "kdam.sweep": sweep.name, "kdam.table": str(sweep.table or ""), "kdam.base": sweep.base.run_id,
            "kdam.sweep_id": sweep.sweep_id, "kdam.space": json.dumps(sweep.space),
            "kdam.cells": str(len(sweep.cells)), "kdam.trials": str(sweep.trials),
            "kdam.opened": str(int(time.time() * 1000)),
        } | source_tags(sweep.base)  # fmt: skip
        known = self.client.search_runs([experiment], f"tags.`kdam.sweep_id` = '{sweep.sweep_id}'", max_results=1)
        if known:
            self.reopen(known[0].info.run_id, tags)
            return known[0].info.run_id
        return self.client.create_run(experiment, run_name=sweep.name, tags=tags).info.run_id

    def open_member(
        self, run: Run, *, sweep: str, table: int | None = None, parent: str | None = None, title: str | None = None
    ) -> str:
        """The MLflow run of a member that is to be trained: a new one with the params, or the one it has, reopened.

        A finished one is left as it is: workers can outlive a killed sweep by a moment, and finish what it had begun.
        """
        tags = source_tags(run) | ({"mlflow.parentRunId": parent} if parent else {})
        tags |= {"kdam.sweep": sweep, "kdam.table": str(table or ""), "kdam.teacher_run": run.teacher_run or ""}
        record = self.find([run.run_id]).get(run.run_id)
        if record is None:
            return self._create_child(run, self.experiment(run.dataset, sweep), tags, title)
        if record.status != "finished":
            self.reopen(record.mlflow_run, tags)
        return record.mlflow_run

    def link_member(self, record: Found, *, sweep: Sweep, parent: str, title: str | None = None) -> str:
        """Show a member that another sweep trained, or began, under this sweep's parent as it stands now.

        Its own record is not touched.
        """
        # one begun elsewhere has this parent, but MLflow nests within an experiment only
        here = experiment_name(sweep.base.dataset, sweep.name)
        if record.tags.get("mlflow.parentRunId") == parent and record.experiment == here:
            return record.mlflow_run
        experiment = self.experiment(sweep.base.dataset, sweep.name)
        wanted = f"tags.`kdam.link` = '{record.mlflow_run}' and tags.`mlflow.parentRunId` = '{parent}'"
        known = self.client.search_runs([experiment], wanted, max_results=1)
        ended = ENDED.get(record.status, "FAILED")
        if known and (known[0].info.status, dict(known[0].data.metrics)) == (ended, record.metrics):
            return known[0].info.run_id
        kept = ("kdam.", "mlflow.source.git.commit")
        tags = {name: value for name, value in record.tags.items() if name.startswith(kept)}
        tags |= {
            "kdam.link": record.mlflow_run, "kdam.sweep": sweep.name, "kdam.table": str(sweep.table or ""),
            "mlflow.parentRunId": parent,
        }  # fmt: skip
        if known:
            child = known[0].info.run_id
            self.reopen(child, tags)
        else:
            child = self._create_child(record.run, experiment, tags, title)
        self.log_epoch(child, record.metrics, record.run.epochs)
        self.client.set_terminated(child, ended)
        return child

    def log_epoch(self, mlflow_run: str, metrics: Mapping[str, float], epoch: int) -> None:
        """One batch, step = epoch."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self.client.log_batch(
            mlflow_run, metrics=[Metric(name, float(value), now, epoch) for name, value in metrics.items()]
        )

    def log_checkpoint(self, mlflow_run: str, folder: Path) -> None:
        """Final weights and manifest as artifacts; the optimiser's state stays in the storage."""
        for path in folder.iterdir():
            if path.name in ("weights.safetensors", "manifest.json"):
                self.client.log_artifact(mlflow_run, str(path), "checkpoint")

    def log_document(self, mlflow_run: str, name: str, document: Any) -> None:
        """A JSON artifact of that name."""
        self.client.log_text(mlflow_run, json.dumps(document, indent=1), name)

    def log_file(self, mlflow_run: str, path: Path, folder: str) -> None:
        """A file as an artifact in that folder of the run's artifacts; one of the same name is replaced."""
        self.client.log_artifact(mlflow_run, str(path), folder)

    def end_member(self, mlflow_run: str, status: Status, *, reason: str | None = None) -> None:
        """FINISHED, KILLED (pruned) or FAILED.

        A member that diverged carries the tag `kdam.failed`. Without it (its process died; `kdam.error` says how) it is
        FAILED to MLflow, but counts as unfinished here. Of a reason that is a traceback the last line is kept.
        """
        if status == "pruned":
            self.client.set_tag(mlflow_run, "kdam.pruned", "true")
        if reason:
            lines = [line.strip() for line in reason.splitlines() if line.strip()]
            self.client.set_tag(mlflow_run, "kdam.failed" if status == "failed" else "kdam.error", lines[-1][:1000])
        self.client.set_terminated(mlflow_run, ENDED.get(status, "FAILED"))

    def end_parent(self, mlflow_run: str, metrics: Mapping[str, float], failed: bool) -> None:
        """A sweep's run is over: FAILED if one of its members has."""
        if metrics:
            self.log_epoch(mlflow_run, metrics, 0)
        self.client.set_terminated(mlflow_run, "FAILED" if failed else "FINISHED")

    def _create_child(self, run: Run, experiment: str, tags: Mapping[str, str], title: str | None) -> str:
        from mlflow.entities import Param

        tags = {**tags, "kdam.run_id": run.run_id, "kdam.run": canonical_json(run)}
        child = self.client.create_run(experiment, run_name=title or run.run_id, tags=tags).info.run_id
        self.client.log_batch(child, params=[Param(name, str(value)) for name, value in flatten(run).items()])
        self.log_document(child, "run.json", run.model_dump(mode="json"))
        return child

    def reopen(self, mlflow_run: str, tags: Mapping[str, str]) -> None:
        """RUNNING again, however it had ended."""
        from mlflow.entities import RunTag

        self.client.update_run(mlflow_run, status="RUNNING")
        for name in {"kdam.pruned", "kdam.failed", "kdam.error"} & self.client.get_run(mlflow_run).data.tags.keys():
            self.client.delete_tag(mlflow_run, name)
        self.client.log_batch(mlflow_run, tags=[RunTag(name, value) for name, value in tags.items()])


def _found(item: Any, experiment: str) -> Found | None:
    """None for what no Run of this version can be: another kind of run, or fields that no longer exist."""
    tags = item.data.tags
    try:
        run = Run.model_validate_json(tags.get("kdam.run", ""))
    except ValidationError:
        return None
    reason = tags.get("kdam.failed") or tags.get("kdam.error")
    return Found(run, item.info.run_id, experiment, _status(item), dict(item.data.metrics), reason, dict(tags))


def _status(item: Any) -> Status:
    tags, ended = item.data.tags, item.info.status
    if ended == "FINISHED":
        return "finished"
    if ended == "KILLED" and "kdam.pruned" in tags:
        return "pruned"
    return "failed" if ended == "FAILED" and "kdam.failed" in tags else "unfinished"


def source_tags(run: Run) -> dict[str, str]:
    """Which code and which data: git commit, whether the checkout has changes, the dataset's hash."""
    commit, dirty = git_state()
    return {"mlflow.source.git.commit": commit, "kdam.git_dirty": dirty, "kdam.dataset_hash": run.dataset_hash}


@functools.cache
def git_state() -> tuple[str, str]:
    """The commit, and whether the checkout has changes ("true" or "false").

    Outside a checkout, as in an image or a shipped working directory, KDAM_GIT_COMMIT names the commit, else both are
    "unknown".
    """
    try:
        commit, status = (
            subprocess.run(
                ["git", *what], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
            ).stdout.strip()
            for what in (("rev-parse", "HEAD"), ("status", "--porcelain"))
        )
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("KDAM_GIT_COMMIT", "unknown"), "unknown"
    return commit, str(bool(status)).lower()
