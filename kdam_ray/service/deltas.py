"""How good a member is, in one number: against its teacher (what the search maximises) and against single-task runs."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from kdam_ray.config import Run, single_task
from kdam_ray.tasks import DATASETS

OBJECTIVE = "val/delta_teacher"
LOOKED_AT = {"edge/odsF_25": "edge/odsF"}  # what stands in for a metric at epochs before the last


def full_names(metrics: Mapping[str, float]) -> dict[str, float]:
    """A look at boundaries takes the place of the metric that it looks at, where there is no other."""
    return {LOOKED_AT.get(name, name): value for name, value in metrics.items() if LOOKED_AT.get(name) not in metrics}


def scores(metrics: Mapping[str, float]) -> dict[str, float]:
    """{"semseg/mIoU": ...} out of {"val/semseg/mIoU": ..., "train/loss": ..., "val/delta_mt": ...}."""
    return {
        name.removeprefix("val/"): value
        for name, value in metrics.items()
        if name.startswith("val/") and name.count("/") == 2
    }


@dataclass(frozen=True)
class TeacherScores:
    """Which teacher each member is compared with.

    Attributes:
        by_run: a teacher's run_id -> its metrics, "semseg/mIoU", ...; only teachers that have finished.
        only: run_id of the sweep's teacher if it has exactly one; members without a teacher are compared with that one.
        common: run_id of the teacher that all are compared with, where pairs are searched: what each has to its own
            teacher would not say which pair is better.
    """

    by_run: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    only: str | None = None
    common: str | None = None

    @classmethod
    def among(
        cls,
        finished: Mapping[str, Mapping[str, float]],
        *,
        given: Collection[str],
        named: Collection[str],
        common: str | None = None,
    ) -> "TeacherScores":
        """Say which of a sweep's teachers its members are compared with.

        Args:
            finished: run_id -> metrics as recorded ("val/semseg/mIoU", ...).
            given: run_ids of all its teachers; some may teach nobody.
            named: run_ids of those that its members name.
            common: run_id of the one that all are compared with, or None.
        """
        candidates = set(named) or set(given)
        by_run = {name: scores(metrics) for name, metrics in finished.items()}
        return cls(by_run, candidates.pop() if len(candidates) == 1 else None, common)

    def of(self, run: Run) -> Mapping[str, float] | None:
        """What `val/delta_teacher` of `run` is against: the common teacher, its own, the only one, or nothing."""
        name = self.common or run.teacher_run or self.only
        return self.by_run.get(name) if name else None


class SingleTasks:
    """Which single-task runs each member is compared with: those of its own network, data and schedule.

    Args of the constructor:
        look: metrics of finished single-task runs like a run, or None (`Tracking.single_task_reference`); asked once
            for all that are alike.
    """

    def __init__(self, look: Callable[[Run], Mapping[str, float] | None]):
        self._look = look
        self._known: dict[tuple[str, ...], Mapping[str, float] | None] = {}

    def of(self, run: Run) -> Mapping[str, float] | None:
        """What `val/delta_mt` of `run` is against; None where there are no such runs."""
        alike = (single_task(run, run.tasks[0]).run_id, *run.tasks)
        if alike not in self._known:
            self._known[alike] = self._look(run)
        return self._known[alike]


def with_deltas(
    run: Run,
    metrics: Mapping[str, float],
    *,
    teacher: Mapping[str, float] | None,
    single_task: Mapping[str, float] | None,
) -> dict[str, float]:
    """`metrics` and, where they exist, the mean signed relative differences over the tasks, in percent.

    `val/delta_teacher` compares with the teacher's own metrics, by the formula of Delta_mt. It is what the search
    maximises, because the teacher is measured before any student and so it is always there: 0 is a student as good as
    its teacher, -20 one that is 20 % worse on average. It says nothing about multi-task learning. `val/delta_mt`, the
    paper's Delta, compares with single-task students and exists only once those have been trained.

    Args:
        run: whose tasks are compared.
        metrics: "val/semseg/mIoU", ...; anything else is passed through. Before the last epoch boundaries are only
            looked at, on fewer images and thresholds: `odsF_25` then takes the place of odsF in the differences, under
            its own name.
        teacher: "semseg/mIoU", ...; None: no teacher.
        single_task: the same of single-task runs.
    """
    from kdam_ray.metrics import delta_mt  # with torch, which planning does without

    tasks = [DATASETS[run.dataset].task(name) for name in run.tasks]
    own, deltas = full_names(scores(metrics)), {}
    for name, reference in ((OBJECTIVE, teacher), ("val/delta_mt", single_task)):
        if reference and all(task.metric_key in own and task.metric_key in reference for task in tasks):
            deltas[name] = delta_mt(own, reference, tasks)
    return {**metrics, **deltas}
