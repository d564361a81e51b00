"""The coordinator in a process of its own: a named Ray actor, and a typed handle that asks it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray

from kdam_ray.config import Run, Sweep
from kdam_ray.service.pool.assignment import Assignment, Notice
from kdam_ray.service.pool.coordinator import LocalCoordinator
from kdam_ray.service.pool.protocols import CohortState
from kdam_ray.service.records import Storage
from kdam_ray.service.search.study import Outcome, Trial

NAMESPACE = "kdam"


class RayCoordinator:
    """Asks a `LocalCoordinator` that is a Ray actor, and waits for its answers; travels to trials and workers.

    What its methods answer stands in `protocols.Coordinator`.

    Args of the constructor:
        actor: handle of the actor.
    """

    def __init__(self, actor: Any):
        self._actor = actor
        self._on_its_way: ray.ObjectRef | None = None

    def __reduce__(self) -> tuple[type["RayCoordinator"], tuple[Any]]:
        """Travels without the answer that is on its way, which is this process's own."""
        return RayCoordinator, (self._actor,)

    def take(self, run: Run) -> int | None:
        return ray.get(self._actor.take.remote(run))

    def draw(self) -> Trial | None:
        return ray.get(self._actor.draw.remote())

    def tell(self, number: int, outcome: Outcome, value: float | None = None) -> None:
        ray.get(self._actor.tell.remote(number, outcome, value))

    def observe(self, number: int, epoch: int, value: float) -> bool:
        return ray.get(self._actor.observe.remote(number, epoch, value))

    def notice(self, title: str, notice: Notice) -> None:
        self._actor.notice.remote(title, notice)

    def notices(self) -> dict[str, Notice]:
        return ray.get(self._actor.notices.remote())

    def notices_by_now(self) -> dict[str, Notice] | None:
        self._on_its_way = self._on_its_way or self._actor.notices.remote()
        if not ray.wait([self._on_its_way], timeout=0)[0]:
            return None
        answer, self._on_its_way = ray.get(self._on_its_way), None
        return answer

    def submit(self, assignment: Assignment) -> None:
        ray.get(self._actor.submit.remote(assignment))

    def state(self, title: str) -> CohortState:
        return ray.get(self._actor.state.remote(title))

    def take_cohort(self, lane: str) -> tuple[Assignment | None, bool]:
        return ray.get(self._actor.take_cohort.remote(lane))

    def over(self, title: str, why_it_died: str | None = None) -> None:
        ray.get(self._actor.over.remote(title, why_it_died))

    def lane_died(self, lane: str, why: str) -> bool:
        return ray.get(self._actor.lane_died.remote(lane, why))

    def give_up(self, why: str) -> None:
        ray.get(self._actor.give_up.remote(why))

    def close(self) -> None:
        ray.get(self._actor.close.remote())

    def deaths(self) -> dict[str, str]:
        return ray.get(self._actor.deaths.remote())


@contextmanager
def coordinating(name: str, storage: Storage, sweep: Sweep | None = None) -> Iterator[RayCoordinator]:
    """A coordinator of that name, without a CPU of its own, for as long as the block lasts.

    Args:
        name: its name on the Ray cluster.
        storage: where the study's journal lies.
        sweep: whose study; None: nothing is searched.

    Raises:
        ValueError: one of that name is at work: the same sweep is running on this cluster.
    """
    options = {"name": name, "namespace": NAMESPACE, "num_cpus": 0}
    try:
        actor: Any = ray.remote(LocalCoordinator).options(**options).remote(storage, sweep)
    except ValueError as error:
        raise ValueError(
            f"sweep: {name} is already running on this Ray cluster; wait for it, or give this one another name"
        ) from error
    try:
        yield RayCoordinator(actor)
    finally:
        ray.kill(actor)
