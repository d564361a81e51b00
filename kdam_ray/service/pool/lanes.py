"""Lanes: Ray Train worker groups that live as long as a sweep's cohorts, and train one after the other.

Starting a group costs about 20 seconds of CPU time on small machines (six processes that import Ray and torch), which
is more than a small cohort's training; so groups are started once. Tune's trials stay what the search sees: one trial
is one cohort, and waits until a lane has trained it.
"""

import functools
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import ray
import ray.train

from kdam_ray.service.pool.assignment import Assignment
from kdam_ray.service.pool.protocols import Coordinator, Train

if TYPE_CHECKING:
    import torch

POLL_S = 0.2
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class WorkerGroup:
    """Shape of a worker group.

    Attributes:
        ranks: workers.
        gpus: one GPU each.
        cpu: CPUs of each worker.
        storage: where Ray Train keeps its own state.
    """

    ranks: int
    gpus: bool
    cpu: float
    storage: str


@contextmanager
def lanes(group: WorkerGroup, number: int, *, coordinator: Coordinator, train: Train | None) -> Iterator[None]:
    """`number` lanes for as long as the block lasts; afterwards they end with the cohort that they are at."""
    names = [f"lane-{index}" for index in range(number)]
    threads = [
        threading.Thread(target=_keep, args=(group, name, coordinator, train), name=name, daemon=True) for name in names
    ]
    watch = threading.Thread(target=_watch, args=(threads, coordinator), daemon=True)
    for thread in (*threads, watch):
        thread.start()
    yield
    coordinator.close()
    for thread in (*threads, watch):
        thread.join()


def _keep(group: WorkerGroup, lane: str, coordinator: Coordinator, train: Train | None) -> None:
    """Run one lane; start it anew when it has died, as long as that makes sense."""
    again: bool | None = True
    while again:
        try:
            _trainer(group, lane, functools.partial(serve, lane=lane, coordinator=coordinator, train=train)).fit()
            return
        except ray.train.TrainingFailedError as error:
            again = _answer(coordinator.lane_died, lane, str(error))


def _watch(lanes_at_work: list[threading.Thread], coordinator: Coordinator) -> None:
    """No trial may wait for lanes that are not there."""
    for thread in lanes_at_work:
        thread.join()
    _answer(coordinator.give_up, "no worker group could be started; Ray's logs say why")


def _answer(ask: Callable[..., Answer], *what: str) -> Answer | None:
    """The coordinator's answer; None once it is gone, as after an interrupt.

    A call without Ray would start another one.
    """
    if not ray.is_initialized():
        return None
    try:
        return ask(*what)
    except ray.exceptions.RayActorError:
        return None


def _trainer(group: WorkerGroup, lane: str, loop: Callable[[], None]) -> Any:
    """TorchTrainer; for one rank on a CPU its base class.

    That one needs no process group, and no torch in the processes that only control.
    """
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

    resources = {"CPU": group.cpu} | ({"GPU": 1.0} if group.gpus else {})
    scaling = ray.train.ScalingConfig(num_workers=group.ranks, use_gpu=group.gpus, resources_per_worker=resources)
    kept = ray.train.RunConfig(
        name=f"{lane}-{uuid.uuid4().hex[:8]}",
        storage_path=group.storage,
        failure_config=ray.train.FailureConfig(max_failures=2),
    )
    if group.ranks == 1 and not group.gpus:
        return DataParallelTrainer(loop, scaling_config=scaling, run_config=kept)
    from ray.train.torch import TorchConfig, TorchTrainer

    backend = TorchConfig(backend="nccl" if group.gpus else "gloo")
    return TorchTrainer(loop, torch_config=backend, scaling_config=scaling, run_config=kept)


def serve(*, lane: str, coordinator: Coordinator, train: Train | None) -> None:
    """Train cohorts on this rank until there are no more; Ray Train calls it on each worker.

    Imports late, for drivers import this module too.
    """
    from kdam_ray.learning import train_cohort
    from kdam_ray.ranks import rank, world_size
    from kdam_ray.service.pool.worker import agree, train_assignment

    device = _device()
    while (assignment := agree(_next(lane, coordinator) if rank() == 0 else None)) is not None:
        why = None
        try:
            for row in train_assignment(assignment, coordinator, train=train or train_cohort, device=device):
                ray.train.report(row)
        except ValueError as error:  # bad input, the same every time
            if world_size() > 1:  # the other ranks would wait for this one
                raise
            why = str(error)
        if rank() == 0:
            coordinator.over(assignment.title, why)


def _next(lane: str, coordinator: Coordinator) -> Assignment | None:
    while True:
        assignment, closed = coordinator.take_cohort(lane)
        if assignment is not None or closed:
            return assignment
        time.sleep(POLL_S)


def _device() -> "torch.device":
    """This worker's device: the GPU that Ray has given it, else the CPU."""
    import torch

    if not torch.cuda.is_available() or not ray.get_gpu_ids():
        return torch.device("cpu")
    from ray.train.torch import get_device

    return get_device()
