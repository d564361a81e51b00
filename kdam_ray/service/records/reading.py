"""What MLflow has: the store, the sweeps and their members; everything that only looks.

Only `MlflowClient`, never the fluent functions: workers, driver and tests hold their own client and no process has a
"current run".
"""

import json
import logging
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from kdam_ray.config import Place, Run, change, single_task, untaught
from kdam_ray.service.records.found import BEST_FIRST, Found, Parent, Status, found, status_of
from kdam_ray.service.records.storage import Storage
from kdam_ray.service.wording import without_password
from kdam_ray.tasks import DATASETS

SQLITE = "sqlite:///"


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


class Reading:
    """Looks into one MLflow tracking store."""

    def __init__(self, place: Place):
        self.uri, self.root = tracking_uri(place), place.root
        self.artifacts = Path(self.uri.removeprefix(SQLITE)).parent / "mlruns" if self.uri.startswith(SQLITE) else None
        self._connected: Any = None

    @property
    def shown(self) -> str:
        """The address as it may be shown: without who it is that asks."""
        return without_password(self.uri)

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
                raise ValueError(f"tracking_uri: {self.shown} cannot be opened as MLflow's store: {reason}") from None
        return self._connected

    # --- what is there

    def find(self, run_ids: Iterable[str]) -> dict[str, Found]:
        """Members by run_id, from any experiment: each one's finished record, else its unfinished, else its newest."""
        experiments = self._all_experiments()
        known = {name: self._search(experiments, f"tags.`kdam.run_id` = '{name}'") for name in dict.fromkeys(run_ids)}
        return {
            run_id: min(records, key=lambda record: BEST_FIRST.index(record.status))
            for run_id, records in known.items()
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
        known = self.client.search_runs(experiments, wanted, max_results=1) if experiments else []
        return known[0].data.tags.get("kdam.run_id") if known else None

    def rows(self, dataset: str, sweep: str) -> list[Found]:
        """Members trained in, or linked into, the experiment `kdam/<dataset>/<sweep>`, oldest first."""
        return self._search(self._experiments_of(dataset, sweep), "tags.`kdam.run_id` LIKE '%'", links=True)[::-1]

    def single_task_reference(self, run: Run) -> dict[str, float] | None:
        """Metrics of finished runs that learn the tasks of `run` one by one (`config.single_task`), at any seed.

        {"semseg/mIoU": ...}, means over seeds. None unless every task of `run` has such a run: a Delta over some tasks
        is another quantity. A task that was learnt with another weight (`task_factors`) is no reference.
        """
        # by the tag that keeps the whole Run: a member has as params only what differs within its sweep
        wanted = (
            f'tags.`kdam.run` LIKE \'%"student":"{run.student}"%\' and tags.`kdam.run` LIKE \'%"method":"none"%\' '
            "and attributes.status = 'FINISHED'"
        )
        records = [item for item in self._search(self._all_experiments(), wanted) if item.status == "finished"]
        reference = {}
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
            records += [record for item in page if (record := found(item, experiments[item.info.experiment_id]))]
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
        return status_of(run), dict(run.data.metrics)

    def children(self, experiment: str, parent: str) -> list[Found]:
        """Members under a sweep's run, links too, oldest first."""
        wanted = f"tags.`mlflow.parentRunId` = '{parent}'"
        return self._search({experiment: ""}, wanted, links=True)[::-1]

    def model_of(self, mlflow_run: str) -> str | None:
        """Id of the model of MLflow that a member has been kept as (`Tracking.log_model`), or None."""
        outputs = self.client.get_run(mlflow_run).outputs
        return next((model.model_id for model in outputs.model_outputs), None) if outputs else None
