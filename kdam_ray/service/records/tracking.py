"""The only file that writes to MLflow: a run of MLflow per sweep, a child per member.

A member is found by the tag `kdam.run_id` in any experiment: a finished one is never trained again, an unfinished one
is reopened under the MLflow run that it has. A member that another sweep trained is shown under this sweep's parent as
a link: a child with its params and last metrics, tag `kdam.link` naming the MLflow run that was trained. A link is no
second record of the training and is never found as one.

How a member ends, to MLflow's pages and to us (`found.status_of`):

- finished: FINISHED.
- pruned: FINISHED too, for to MLflow KILLED is as red as FAILED, and nothing went wrong. The tag `kdam.pruned`, the
  start of its name and its note say that it was stopped; the study has it as PRUNED. Older stores have it as KILLED.
- diverged: FAILED with `kdam.failed`, the reason.
- its process died: FAILED with `kdam.error`; it counts as unfinished and goes on at the next call.

A sweep is FAILED if one of its members has, else FINISHED; KILLED where its job was interrupted, until it goes on.

Params: what is the same for all members of a sweep is recorded once, on the sweep's run; a member has what differs
(`titles.varying`), so that pages which compare members show that and nothing else. The whole Run of a member is in its
tag `kdam.run` and its artifact `run.json`.
"""

import json
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from kdam_ray.config import Place, Run, Sweep, canonical_json, flatten
from kdam_ray.service.records.found import ERROR, FAILED, PRUNED, Found, Status, status_of
from kdam_ray.service.records.reading import Reading, experiment_name
from kdam_ray.service.records.sources import dataset_inputs, source_tags
from kdam_ray.service.records.ui_pages import (
    NOTE,
    PRUNED_NAME,
    PRUNED_NOTE,
    VIEW_TAG,
    experiment_note,
    experiment_tags,
    sweep_note,
)
from kdam_ray.titles import varying

ENDED: dict[Status, str] = {"finished": "FINISHED", "pruned": "FINISHED", "failed": "FAILED"}


class Tracking(Reading):
    """Reads and writes of one MLflow tracking store."""

    def __init__(self, place: Place):
        super().__init__(place)
        self._experiments: dict[str, str] = {}

    def experiment(self, dataset: str, sweep: str, params: Sequence[str] = ()) -> str:
        """Id of `kdam/<dataset>/<sweep>`, created when missing; its pages are told to show `params` and the scores."""
        name = experiment_name(dataset, sweep)
        if name not in self._experiments:
            self._experiments[name] = self._open_experiment(name, experiment_tags(dataset, params), shown=bool(params))
        return self._experiments[name]

    def _open_experiment(self, name: str, tags: dict[str, str], *, shown: bool) -> str:
        """Only the shared view is set anew, by who knows what to show: the rest may be a person's own words."""
        known = self.client.get_experiment_by_name(name)
        if known is None:
            location = self.artifacts.as_uri() + f"/{name}" if self.artifacts is not None else None
            id_ = self.client.create_experiment(name, artifact_location=location, tags=tags)
        else:
            id_ = known.experiment_id
        there = known.tags if known else tags
        for tag, value in (tags | {NOTE: experiment_note(id_)}).items():
            if tag not in there or (tag == VIEW_TAG and shown and there[tag] != value):
                self.client.set_experiment_tag(id_, tag, value)
        return str(id_)

    def open_parent(self, sweep: Sweep) -> str:
        """The sweep's run, reopened if the same sweep (`Sweep.sweep_id`) has one."""
        from mlflow.entities import Param

        differ = varying(sweep)
        experiment = self.experiment(sweep.base.dataset, sweep.name, differ)
        tags = {
            "kdam.sweep": sweep.name, "kdam.table": str(sweep.table or ""), "kdam.base": sweep.base.run_id,
            "kdam.sweep_id": sweep.sweep_id, "kdam.space": json.dumps(sweep.space),
            "kdam.cells": str(len(sweep.cells)), "kdam.trials": str(sweep.trials),
            "kdam.opened": str(int(time.time() * 1000)),
        } | source_tags(sweep.base)  # fmt: skip
        known = self.client.search_runs([experiment], f"tags.`kdam.sweep_id` = '{sweep.sweep_id}'", max_results=1)
        if known:
            parent, has_params = known[0].info.run_id, bool(known[0].data.params)
            self.reopen(parent, tags)
        else:
            parent, has_params = self.client.create_run(experiment, run_name=sweep.name, tags=tags).info.run_id, False
        if not has_params:
            same = {name: value for name, value in flatten(sweep.base).items() if name not in differ}
            self.client.log_batch(parent, params=[Param(name, str(value)) for name, value in same.items()])
            self.client.log_inputs(parent, datasets=dataset_inputs(sweep.base, self.root))
        return parent

    def open_member(
        self,
        run: Run,
        *,
        sweep: str,
        table: int | None = None,
        parent: str | None = None,
        title: str | None = None,
        params: Collection[str] | None = None,
    ) -> str:
        """The MLflow run of a member that is to be trained: a new one, or the one it has, reopened.

        A finished one is left as it is: workers can outlive a killed sweep by a moment, and finish what it had begun.

        Args:
            run: what is trained.
            sweep: name.
            table: the paper's.
            parent: MLflow run of the sweep.
            title: name of the MLflow run.
            params: those in which the members of the sweep differ (`titles.varying`); None: all are recorded.
        """
        tags = source_tags(run) | ({"mlflow.parentRunId": parent} if parent else {})
        tags |= {"kdam.sweep": sweep, "kdam.table": str(table or ""), "kdam.teacher_run": run.teacher_run or ""}
        record = self.find([run.run_id]).get(run.run_id)
        if record is None:
            return self._create_child(run, self.experiment(run.dataset, sweep), tags, title, params)
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
        if known and (status_of(known[0]), dict(known[0].data.metrics)) == (record.status, record.metrics):
            return known[0].info.run_id
        kept = ("kdam.", "mlflow.source.", "mlflow.user")
        tags = {name: value for name, value in record.tags.items() if name.startswith(kept)}
        tags |= {
            "kdam.link": record.mlflow_run, "kdam.sweep": sweep.name, "kdam.table": str(sweep.table or ""),
            "mlflow.parentRunId": parent,
        }  # fmt: skip
        if known:
            child = known[0].info.run_id
            self.reopen(child, tags)
        else:
            pruned = PRUNED_NAME if record.status == "pruned" else ""
            child = self._create_child(
                record.run, experiment, tags, f"{pruned}{title or record.run.run_id}", varying(sweep)
            )
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
        """A member's training is over; see this module's first words. Of a reason that is a traceback the last line."""
        from mlflow.entities import RunTag

        tags = {PRUNED: "true", NOTE: PRUNED_NOTE} if status == "pruned" else {}
        if reason:
            lines = [line.strip() for line in reason.splitlines() if line.strip()]
            tags[FAILED if status == "failed" else ERROR] = lines[-1][:1000]
        if tags:  # first, so that no moment shows a pruned member as a finished one
            self.client.log_batch(mlflow_run, tags=[RunTag(name, value) for name, value in tags.items()])
        if status == "pruned":
            name = self.client.get_run(mlflow_run).info.run_name
            self.client.update_run(mlflow_run, name=PRUNED_NAME + name.removeprefix(PRUNED_NAME))
        self.client.set_terminated(mlflow_run, ENDED.get(status, "FAILED"))

    def end_parent(self, mlflow_run: str, metrics: Mapping[str, float], failed: bool) -> None:
        """A sweep's run is over: FAILED if one of its members has. What it has recorded already is not said again."""
        known = self.client.get_run(mlflow_run).data.metrics
        if changed := {name: value for name, value in metrics.items() if known.get(name) != value}:
            self.log_epoch(mlflow_run, changed, 0)
        self.client.set_terminated(mlflow_run, "FAILED" if failed else "FINISHED")

    def interrupt_parent(self, mlflow_run: str) -> None:
        """A sweep's job is ending before its members have."""
        self.client.set_terminated(mlflow_run, "KILLED")

    def write_note(self, mlflow_run: str, tables: str) -> None:
        """The tables of a sweep as the note of its run, with a link that compares its finished members."""
        experiment = self.client.get_run(mlflow_run).info.experiment_id
        finished = [found.mlflow_run for found in self.children(experiment, mlflow_run) if found.status == "finished"]
        self.client.set_tag(mlflow_run, NOTE, sweep_note(tables, experiment, finished))

    def log_model(self, mlflow_run: str, run: Run, folder: Path, metrics: Mapping[str, float]) -> str:
        """A finished member's network as a model of MLflow, READY, with what `folder` holds. Returns the model's id."""
        from mlflow.entities import LoggedModelOutput, Metric

        experiment = self.client.get_run(mlflow_run).info.experiment_id
        model = self.client.create_logged_model(
            experiment, name=f"{run.student}-{run.decoder}-{run.run_id}", source_run_id=mlflow_run,
            params={name: str(value) for name, value in flatten(run).items()},
            tags={"kdam.run_id": run.run_id} | source_tags(run), model_type="dense prediction",
        )  # fmt: skip
        self.client.log_model_artifacts(model.model_id, str(folder))
        self.client.finalize_logged_model(model.model_id, "READY")
        self.client.log_outputs(mlflow_run, [LoggedModelOutput(model.model_id, run.epochs)])
        last = [self.client.get_metric_history(mlflow_run, name)[-1] for name in metrics if name.startswith("val/")]
        self.client.log_batch(  # the very points that the member has: they stay one each
            mlflow_run,
            metrics=[Metric(m.key, m.value, m.timestamp, m.step, model_id=model.model_id) for m in last],
        )
        return str(model.model_id)

    def register(self, model_id: str, name: str) -> str:
        """A new version, in the registry, of the model of that name, which is made if it is not there. Returns it."""
        if not self.client.search_registered_models(f"name = '{name}'"):
            self.client.create_registered_model(name)
        model = self.client.get_logged_model(model_id)
        version = self.client.create_model_version(
            name, model.artifact_location, run_id=model.source_run_id, model_id=model_id
        )
        return str(version.version)

    def _create_child(
        self, run: Run, experiment: str, tags: Mapping[str, str], title: str | None, params: Collection[str] | None
    ) -> str:
        from mlflow.entities import Param

        tags = {**tags, "kdam.run_id": run.run_id, "kdam.run": canonical_json(run)}
        child = self.client.create_run(experiment, run_name=title or run.run_id, tags=tags).info.run_id
        own = {name: value for name, value in flatten(run).items() if params is None or name in params}
        self.client.log_batch(child, params=[Param(name, str(value)) for name, value in own.items()])
        self.client.log_inputs(child, datasets=dataset_inputs(run, self.root))
        self.log_document(child, "run.json", run.model_dump(mode="json"))
        return child

    def reopen(self, mlflow_run: str, tags: Mapping[str, str]) -> None:
        """RUNNING again, however it had ended."""
        from mlflow.entities import RunTag

        run = self.client.get_run(mlflow_run)
        self.client.update_run(mlflow_run, status="RUNNING", name=run.info.run_name.removeprefix(PRUNED_NAME))
        over = {PRUNED, FAILED, ERROR} | ({NOTE} if PRUNED in run.data.tags else set())
        for name in over & run.data.tags.keys():
            self.client.delete_tag(mlflow_run, name)
        self.client.log_batch(mlflow_run, tags=[RunTag(name, value) for name, value in tags.items()])
