"""What a worker is told about its cohort, and the MLflow runs that are opened for it."""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import ray

from kdam_ray.config import Place, Run, titled
from kdam_ray.service.cost.estimate import Costs
from kdam_ray.service.deltas import SingleTasks, TeacherScores
from kdam_ray.service.layout import Layout
from kdam_ray.service.pool.cohort_search import CohortSearch
from kdam_ray.service.pool.coordinator import StudyActor
from kdam_ray.service.pool.launch import train_cohorts
from kdam_ray.service.pool.progress import Progress
from kdam_ray.service.records.storage import Storage
from kdam_ray.service.records.tracking import Tracking
from kdam_ray.service.seats import Seat
from kdam_ray.service.wording import count

NAMESPACE = "kdam"


@dataclass
class Opener:
    """Makes the configuration of each cohort as it starts.

    Attributes:
        place: where things are.
        layout: what it comes to.
        tracking: MLflow.
        costs: operations of runs.
        sweep: last part of the experiment's name.
        table: the paper's table, a tag.
        parent: MLflow run of the sweep, or None.
        base: what titles leave out; None: members are called by their backbone.
        teachers: what members are compared with.
        single_tasks: which single-task runs they are compared with; None: with none.
        teacher_epochs: per teacher_run, the epochs that its final checkpoint has behind it.
        cohorts: how many there will be.
        titled: operations per title, for what is left to do; filled here.
    """

    place: Place
    layout: Layout
    tracking: Tracking
    costs: Costs
    sweep: str
    table: int | None = None
    parent: str | None = None
    base: Run | None = None
    teachers: TeacherScores = field(default_factory=TeacherScores)
    single_tasks: SingleTasks | None = None
    teacher_epochs: Mapping[str, int] = field(default_factory=dict)
    cohorts: int = 1
    titled: dict[str, float] = field(default_factory=dict)

    def open(self, seats: Sequence[Seat]) -> dict[str, Any]:
        """The worker's configuration; plain data, for it travels through Tune and Train."""
        runs = [seat.run for seat in seats]
        number = len(self.titled) + 1
        title = f"cohort {number} of {max(self.cohorts, number)}"
        if seats[0].kind == "teacher":
            title = f"teacher {runs[0].student}" + (f" ({runs[0].run_id})" if self.cohorts > 1 else "")
        self.titled[title] = _cost(self, seats)
        ranks = self.layout.ranks(runs[0])
        return {
            "title": title,
            "about": f"{count(len(seats), 'member')}, {count(ranks, 'worker')}",
            "members": [self._member(seat) for seat in seats],
            "teacher": next(({"run_id": name, "epochs": self.teacher_epochs[name]} for run in runs if (name := run.teacher_run)), None),
            "workers_here": workers_a_node(self.layout),
            "epochs_done": min(seat.epochs_done for seat in seats),
            "place": self.place.model_copy(update={"tracking_uri": self.tracking.uri}).model_dump(mode="json"),
            "threads": max(1, (os.cpu_count() or 1) // self.layout.workers) if self.layout.gpus else 1,
        }  # fmt: skip

    def _member(self, seat: Seat) -> dict[str, Any]:
        title, teacher = titled(seat.run, self.base), self.teachers.of(seat.run)
        single_task = self.single_tasks.of(seat.run) if self.single_tasks else None
        mlflow_run = self.tracking.open_member(
            seat.run, sweep=self.sweep, table=self.table, parent=self.parent, title=title
        )
        return {
            "run": seat.run.model_dump(mode="json"), "title": title, "mlflow_run": mlflow_run, "trial": seat.trial,
            "prunable": seat.kind == "searched", "reference": dict(teacher) if teacher else None,
            "single_task": dict(single_task) if single_task else None, "operations": asdict(self.costs.epoch(seat.run)),
        }  # fmt: skip

    def close(self, seats: Sequence[Seat], why_it_died: str | None) -> None:
        """Its cohort is over: members left unfinished become FAILED in MLflow, without `kdam.failed`, so the next sweep
        goes on.
        """
        for record in self.tracking.find([seat.run.run_id for seat in seats]).values():
            if record.status == "unfinished":
                self.tracking.end_member(record.mlflow_run, "unfinished", reason=why_it_died)


def workers_a_node(layout: Layout) -> int:
    """Workers that share a node, those of all lanes, spread evenly over the nodes that can hold some."""
    kind = "GPU" if layout.gpus else "CPU"
    nodes = sum(bool(node["Alive"] and node["Resources"].get(kind)) for node in ray.nodes())
    return math.ceil(layout.workers / max(nodes, 1))


def start_actor(name: str, storage: Storage, sweep: Mapping[str, Any] | None) -> Any:
    """The StudyActor, by name, without a CPU of its own.

    Raises:
        ValueError: one of that name is at work: the same sweep is running on this cluster.
    """
    options = {"name": name, "namespace": NAMESPACE, "num_cpus": 0}
    try:
        return ray.remote(StudyActor).options(**options).remote(storage.root, sweep)
    except ValueError as error:
        raise ValueError(
            f"sweep: {name} is already running on this Ray cluster; wait for it, or give this one another name"
        ) from error


def train_seats(
    opener: Opener, cohorts: Sequence[Sequence[Seat]], *, actor: Any, side_by_side: int, draws: int = 0, drawn_size: int = 1,
    base: Run | None = None, train: Callable | None = None,
) -> None:  # fmt: skip
    """Train the cohorts, then `draws` runs like `base` that the study draws; progress on stderr."""
    drawn = [min(drawn_size, draws - start) for start in range(0, draws, drawn_size)]
    opener.cohorts = len(cohorts) + len(drawn)
    flops = sum(_cost(opener, seats) for seats in cohorts)
    if base is not None:
        flops += sum(opener.costs.cohort([base] * size, [base.epochs] * size) for size in drawn)
    search = CohortSearch(
        cohorts, draws=draws, drawn_size=drawn_size, actor=actor, open_cohort=opener.open, close_cohort=opener.close
    )  # fmt: skip
    progress = Progress(actor, flops=flops, costs=opener.titled)
    storage = Storage(opener.place.storage).uri("ray")
    first = cohorts[0][0].run if cohorts else base
    assert first is not None, "there is nothing to train"
    ranks = opener.layout.ranks(first)
    number = min(side_by_side, opener.cohorts)
    train_cohorts(
        search, layout=opener.layout, ranks=ranks, number=number, callback=progress, storage=storage, actor=actor, train=train
    )  # fmt: skip


def _cost(opener: Opener, seats: Sequence[Seat]) -> float:
    return opener.costs.cohort([seat.run for seat in seats], [seat.run.epochs - seat.epochs_done for seat in seats])
