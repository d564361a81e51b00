"""What crosses processes when a cohort is trained: its assignment on the way out, notices on the way back.

Plain data with types: no Ray, no torch. Only Tune wants a plain dict (`model_dump`, `model_validate`), as a trial's
config; everything else passes these objects on.
"""

from kdam_ray.config import Frozen, Place, Run
from kdam_ray.service.cost.estimate import Operations


class Order(Frozen):
    """One member of a cohort, as its worker is told to train it.

    Attributes:
        run: what is trained.
        title: its name among the others.
        mlflow_run: where it is recorded.
        trial: its number in the study, or None.
        prunable: whether the search may give it up.
        reference: metrics of the teacher that it is compared with, "semseg/mIoU", ..., or None.
        single_task: metrics of single-task runs of its network, or None.
        operations: operations of one of its epochs.
    """

    run: Run
    title: str
    mlflow_run: str
    trial: int | None = None
    prunable: bool = False
    reference: dict[str, float] | None = None
    single_task: dict[str, float] | None = None
    operations: Operations


class TeacherCheckpoint(Frozen):
    """The final checkpoint of a cohort's teacher: whose it is, and the epochs that it has behind it."""

    run_id: str
    epochs: int


class Assignment(Frozen):
    """A cohort as it is sent to a process that trains it.

    Attributes:
        title: its name in the sweep, "cohort 2 of 5".
        about: what is printed when it starts, "4 members, 1 worker".
        members: what is trained side by side.
        teacher: who teaches them, or None.
        place: where things are, the address of MLflow filled in.
        threads: threads of a worker on CPUs.
        workers_here: workers of the sweep that share a node and its energy counters.
        epochs_done: epochs that all members have behind them.
    """

    title: str
    about: str
    members: tuple[Order, ...]
    teacher: TeacherCheckpoint | None = None
    place: Place
    threads: int = 1
    workers_here: int = 1
    epochs_done: int = 0


class Notice(Frozen):
    """Where a cohort is; progress is printed from it.

    Attributes:
        epoch: the one that is being trained.
        epochs: the last one of the member that trains longest.
        epochs_done: epochs that were done when the cohort began.
        step: step of that epoch.
        steps: steps of an epoch.
        members: members that are still trained.
        best: objective and title of its best member so far, or None.
    """

    epoch: int
    epochs: int
    epochs_done: int
    step: int
    steps: int
    members: int
    best: tuple[float, str] | None

    @property
    def share(self) -> float:
        """Part that is done of what was to do when the cohort began."""
        done = self.epoch - 1 + self.step / self.steps - self.epochs_done
        return done / max(self.epochs - self.epochs_done, 1)
