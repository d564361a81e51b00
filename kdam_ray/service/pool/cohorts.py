"""Cohorts as they start and end: the assignment of each, and the MLflow runs that are opened and closed for it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import ray

from kdam_ray.config import Place, Sweep
from kdam_ray.machine import usable_cpus
from kdam_ray.service.cost.estimate import Costs
from kdam_ray.service.deltas import SingleTasks, TeacherScores
from kdam_ray.service.layout import Layout, layout
from kdam_ray.service.pool.assignment import Assignment, Order, TeacherCheckpoint
from kdam_ray.service.records import Storage, Tracking
from kdam_ray.service.seats import Seat
from kdam_ray.service.wording import count
from kdam_ray.titles import titled, varying

TEACHERS = "teachers"  # last part of their experiment's name


@dataclass
class Opener:
    """Makes the assignment of each cohort as it starts.

    Attributes:
        place: where things are.
        tracking: MLflow.
        sweep: what the members belong to; None: they are teachers, which belong to no sweep.
        parent: MLflow run of the sweep, or None.
        teachers: what members are compared with.
        single_tasks: which single-task runs they are compared with; None: with none.
        teacher_epochs: per teacher_run, the epochs that its final checkpoint has behind it.
        cohorts: how many there will be.
        arranged: what the place comes to.
        costs: counts operations.
        operations: operations per title, for what is left to do; filled as cohorts are opened.
        params: those that MLflow's runs of the members record; None: all.
    """

    place: Place
    tracking: Tracking
    sweep: Sweep | None = None
    parent: str | None = None
    teachers: TeacherScores = field(default_factory=TeacherScores)
    single_tasks: SingleTasks | None = None
    teacher_epochs: Mapping[str, int] = field(default_factory=dict)
    cohorts: int = 1
    arranged: Layout = field(init=False)
    costs: Costs = field(init=False)
    operations: dict[str, float] = field(init=False, default_factory=dict)
    params: list[str] | None = field(init=False)

    def __post_init__(self) -> None:
        self.params = varying(self.sweep) if self.sweep else None
        self.arranged = layout(self.place)
        self.costs = Costs(Storage(self.place.storage), evaluate_every=self.place.evaluate_every)

    def open(self, seats: Sequence[Seat]) -> Assignment:
        """The cohort's assignment; opens the MLflow runs of its members."""
        runs = [seat.run for seat in seats]
        number = len(self.operations) + 1
        title = f"cohort {number} of {max(self.cohorts, number)}"
        if seats[0].purpose == "teacher":
            title = f"teacher {runs[0].student}" + (f" ({runs[0].run_id})" if self.cohorts > 1 else "")
        self.operations[title] = self.left(seats)
        taught_by = next((run.teacher_run for run in runs if run.teacher_run), None)
        return Assignment(
            title=title,
            about=f"{count(len(seats), 'member')}, {count(self.arranged.ranks(runs[0]), 'worker')}",
            members=tuple(self._order(seat) for seat in seats),
            teacher=TeacherCheckpoint(run_id=taught_by, epochs=self.teacher_epochs[taught_by]) if taught_by else None,
            place=self.place.model_copy(update={"tracking_uri": self.tracking.uri}),
            threads=max(1, usable_cpus() // self.arranged.workers) if self.arranged.gpus else 1,
            workers_here=workers_a_node(self.arranged),
            epochs_done=min(seat.epochs_done for seat in seats),
        )

    def _order(self, seat: Seat) -> Order:
        sweep, teacher = self.sweep, self.teachers.of(seat.run)
        single_task = self.single_tasks.of(seat.run) if self.single_tasks else None
        title = titled(seat.run, sweep.base if sweep else None)
        name, table = (sweep.name, sweep.table) if sweep else (TEACHERS, None)
        return Order(
            run=seat.run,
            title=title,
            mlflow_run=self.tracking.open_member(
                seat.run, sweep=name, table=table, parent=self.parent, title=title, params=self.params
            ),
            trial=seat.trial,
            prunable=seat.purpose == "searched",
            reference=dict(teacher) if teacher else None,
            single_task=dict(single_task) if single_task else None,
            operations=self.costs.epoch(seat.run),
        )

    def left(self, seats: Sequence[Seat]) -> float:
        """Operations that a cohort has still to do."""
        return self.costs.cohort([seat.run for seat in seats], [seat.run.epochs - seat.epochs_done for seat in seats])

    def close(self, seats: Sequence[Seat], why_it_died: str | None) -> None:
        """End what is open of a cohort that is over.

        Members left unfinished become FAILED in MLflow, without `kdam.failed`, so the next sweep goes on.
        """
        for record in self.tracking.find([seat.run.run_id for seat in seats]).values():
            if record.status == "unfinished":
                self.tracking.end_member(record.mlflow_run, "unfinished", reason=why_it_died)


def workers_a_node(arranged: Layout) -> int:
    """Workers that share a node, those of all lanes, spread evenly over the nodes that can hold some; 1 without Ray."""
    if not ray.is_initialized():
        return 1
    kind = "GPU" if arranged.gpus else "CPU"
    nodes = sum(bool(node["Alive"] and node["Resources"].get(kind)) for node in ray.nodes())
    return math.ceil(arranged.workers / max(nodes, 1))
