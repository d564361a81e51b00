"""What people look at after a sweep: its tables in every format, plots, pictures and one HTML page.

Everything is made from what MLflow has of the sweep, after it has ended.
`<storage>/reports/<dataset>/<sweep>/<sweep_id>/` holds it (a folder that is thrown away where the storage is S3), and
so do the artifacts `report/` of the sweep's run.
"""

import contextlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kdam_ray.config import Place, Run
from kdam_ray.report.drawing import page
from kdam_ray.report.drawing.plots import Plot, save
from kdam_ray.report.formats import FORMATS, Grid
from kdam_ray.service.cost.totals import spent
from kdam_ray.service.finished.pictures import FOLDER as PICTURES
from kdam_ray.service.finished.pictures import IMAGES, draw_runs
from kdam_ray.service.records import Storage, Tracking, git_state
from kdam_ray.service.result import SweepResult
from kdam_ray.service.wording import say

FOLDER = "report"  # among the artifacts of the sweep's run
PAGE = "report.html"
MADE_OF = "runs.json"  # run_ids of the finished runs that it shows
COSTS = {
    "wall_s": "wall time, seconds", "seconds": "wall time, seconds",
    "device_hours": "device-hours (GPUs, or CPU cores)",
    "tflop": "10^12 operations", "kwh": "energy, kWh", "runs": "runs", "unknown": "runs whose cost was not recorded",
}  # fmt: skip
SUFFIXES = {"text": "txt"}
BEHIND = "Runs and what they predict"
THIS_PROCESS = "Of the process that made this page"


@dataclass(frozen=True)
class Content:
    """What a report is made of.

    Attributes:
        title: of the page.
        grids: the tables.
        plots: the figures.
        pictured: runs whose predictions are shown.
        facts: configuration beyond the sweep's own, such as which network stands for which.
        beside: further runs of which one image is shown, behind their rows of the tables.
        mlflow_runs: MLflow's id by run_id, of runs that are not the sweep's own.
    """

    title: str
    grids: Sequence[Grid]
    plots: Sequence[Plot]
    pictured: Sequence[Run]
    facts: Mapping[str, Any]
    beside: Sequence[Run] = ()
    mlflow_runs: Mapping[str, str] = field(default_factory=dict)


def write_report(content: Content, result: SweepResult, place: Place, *, images: int = IMAGES) -> None:
    """Write and record the report of a sweep that has ended; a line on stderr says where it is.

    Args:
        content: what it is made of.
        result: the sweep's.
        place: where storage and MLflow are.
        images: of the evaluation split, in each picture; 0: no pictures.
    """
    tracking = Tracking(place)
    kept = _own_folder(place, result)
    with contextlib.nullcontext(kept) if kept else tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        folder.mkdir(parents=True, exist_ok=True)
        files = [path for plot in content.plots for path in save(plot.figure, folder, plot.name)]
        for name, render in FORMATS.items():
            path = folder / f"tables.{SUFFIXES.get(name, name)}"
            path.write_text(render(list(content.grids)) + "\n")
            files.append(path)
        drawn = []
        if images:
            drawn = draw_runs(content.pictured, place, images=images, folder=folder / PICTURES, again=True)
            drawn += draw_runs(content.beside, place, images=1, folder=folder / PICTURES, again=True)
        pictures = {row.run_id: row.path for row in drawn if row.path is not None}
        (folder / MADE_OF).write_text(json.dumps(sorted(_finished(result))))
        (folder / PAGE).write_text(page.report_page(content.title, _sections(content, result, pictures)))
        for path in (*files, folder / MADE_OF, folder / PAGE):
            tracking.log_file(result.parent, path, FOLDER)
        tracking.write_note(result.parent, FORMATS["md"](list(content.grids)))
        say(f"report: {folder / PAGE if kept else f'artifact {FOLDER}/{PAGE} of run {result.parent}'}")


def _own_folder(place: Place, result: SweepResult) -> Path | None:
    """The folder of this sweep and no other of its name; None where the storage is not local."""
    local = Storage(place.storage).local
    return local and local / "reports" / result.sweep.base.dataset / result.sweep.name / result.sweep.sweep_id


def _sections(content: Content, result: SweepResult, pictures: Mapping[str, Path]) -> list[page.Section]:
    cards = run_cards(content, result, pictures)
    found = [
        page.Section("Tables", tuple(content.grids)),
        page.Section("Plots", tuple(content.plots)),
        page.Section(BEHIND, (*_in_mlflow(result.tracking_uri), *cards) if cards else ()),
        page.Section("Cost", _cost(result)),
        page.Section("Configuration", _configuration(content, result)),
        page.Section("Environment", (page.Facts(THIS_PROCESS, page.environment(), is_open=True),)),
    ]
    return [section for section in found if section.parts]


def run_cards(content: Content, result: SweepResult, pictures: Mapping[str, Path]) -> list[page.RunCard]:
    """What is behind each row of the tables, once where several rows have the same runs, and behind pictures without.

    Args:
        content: its tables say which runs make which row.
        result: knows MLflow's ids.
        pictures: by run_id.
    """
    runs = {run.run_id: run for run in (*content.pictured, *content.beside)}
    known = {row.run.run_id: row.mlflow_run for row in (*result.rows, *result.teachers)} | dict(content.mlflow_runs)
    titles: dict[tuple[str, ...], str] = {}
    for grid in content.grids:
        for row, run_ids in zip(grid.rows, grid.runs, strict=False):
            if run_ids:
                titles.setdefault(run_ids, " ".join(cell.text for cell in row[: grid.names]))
    in_a_row = {run_id for run_ids in titles for run_id in run_ids}
    titles |= {(name,): _named(runs[name]) for name in pictures if name not in in_a_row}
    opened = {run.run_id for run in content.pictured}
    return [
        page.RunCard(
            title, run_ids, tuple(_line(run_id, known.get(run_id, ""), result.tracking_uri) for run_id in run_ids),
            tuple(
                page.PagePicture(pictures[run_id].read_bytes(), f"{title}: {_named(runs[run_id])}, run {run_id}")
                for run_id in run_ids if run_id in pictures
            ),
            is_open=not opened.isdisjoint(run_ids),
        ) for run_ids, title in titles.items()
    ]  # fmt: skip


def _named(run: Run) -> str:
    how = "without distillation" if run.distill.method == "none" else run.distill.method
    return f"{run.student} {run.decoder}, {how}"


def _line(run_id: str, mlflow_run: str, tracking_uri: str) -> page.RunLine:
    """The address of its page where MLflow is a server, whose pages others can open; without a name or password."""
    parts = urlsplit(tracking_uri)
    if not mlflow_run or parts.scheme not in ("http", "https"):
        return page.RunLine(run_id, mlflow_run)
    host = parts.netloc.rpartition("@")[2]
    return page.RunLine(run_id, mlflow_run, f"{parts.scheme}://{host}{parts.path.rstrip('/')}/#/runs/{mlflow_run}")


def _in_mlflow(tracking_uri: str) -> tuple[str, ...]:
    """How to see in MLflow what lies in a file on this machine."""
    if not tracking_uri.startswith("sqlite:"):
        return ()
    return (
        f"MLflow shows them after: kdam ui --tracking-uri {tracking_uri}. The address of a run's page there ends in "
        "#/runs/ and the id of the MLflow run.",
    )


def _cost(result: SweepResult) -> tuple[page.Part, ...]:
    rows = spent((*result.rows, *result.teachers))
    named = {
        # a sum of times that ran side by side
        "of all runs in it, wherever they were trained": rows.as_json() | {"wall_s": None},
        "of this sweep's calls": result.cost, "planned before they started": result.planned,
    }  # fmt: skip
    facts = {
        title: {COSTS[name]: value for name, value in found.items() if value is not None}
        for title, found in named.items()
    }
    line = (f"This sweep's calls. {result.cost_line()}",) if result.cost else ()
    return (*line, f"All runs in it, wherever they were trained: {rows.text()}.", page.Facts("Figures", facts))


def _configuration(content: Content, result: SweepResult) -> tuple[page.Part, ...]:
    sweep = result.sweep
    commit, dirty = git_state()
    where = {
        "experiment": result.experiment, "MLflow run": result.parent, "tracking": result.tracking_uri,
        "storage": result.storage, "git commit": commit, "with uncommitted changes": dirty,
    }  # fmt: skip
    searched = {
        "space": sweep.space,
        "alternatives": {name: list(rows) for name, rows in sweep.choices.items()},
        "trials": sweep.trials,
        "points that get further seeds": sweep.confirmed,
    }
    return (
        page.Facts("Sweep", {**where, **content.facts}, is_open=True),
        page.Facts("Base run", sweep.base.model_dump(mode="json")),
        page.Facts("Teachers", {row.run.run_id: row.run.model_dump(mode="json") for row in result.teachers}),
        page.Facts("Runs, as changes to the base", {row.run.run_id: row.changes or row.purpose for row in result.rows}),
        *([page.Facts("Search", searched)] if sweep.space else []),
    )


def is_there(result: SweepResult, place: Place) -> bool:
    """The report of an earlier call, made of every run that this one has finished."""
    folder = _own_folder(place, result)
    if folder is None or not (folder / PAGE).exists() or not (folder / MADE_OF).exists():
        return False
    return _finished(result) <= set(json.loads((folder / MADE_OF).read_text()))


def _finished(result: SweepResult) -> set[str]:
    return {row.run.run_id for row in (*result.rows, *result.teachers) if row.status == "finished"}
