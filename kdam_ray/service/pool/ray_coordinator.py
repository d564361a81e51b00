"""The coordinator in a process of its own: a named Ray actor, and a typed handle that asks it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import ray

from kdam_ray.config import Sweep
from kdam_ray.service.pool.assignment import Notice
from kdam_ray.service.pool.coordinator import LocalCoordinator
from kdam_ray.service.pool.protocols import Coordinator
from kdam_ray.service.records import Storage

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

    def __getattr__(self, question: str) -> Callable[..., Any]:
        """Any other method of `protocols.Coordinator`: asks the actor for it and waits for the answer.

        The actor's handle is touched when the question is asked, not before: after Ray was shut down that would end the
        process.
        """
        if question.startswith("_"):
            raise AttributeError(question)
        return lambda *what, **named: ray.get(getattr(self._actor, question).remote(*what, **named))

    def notice(self, title: str, notice: Notice) -> None:
        self._actor.notice.remote(title, notice)

    def notices_by_now(self) -> Mapping[str, Notice] | None:
        self._on_its_way = self._on_its_way or self._actor.notices.remote()
        if not ray.wait([self._on_its_way], timeout=0)[0]:
            return None
        answer, self._on_its_way = ray.get(self._on_its_way), None
        return answer


@contextmanager
def coordinating(name: str, storage: Storage, sweep: Sweep | None = None) -> Iterator[Coordinator]:
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
        yield cast(Coordinator, RayCoordinator(actor))
    finally:
        ray.kill(actor)
