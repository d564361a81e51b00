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
from typing import Any

import ray

POLL_S = 0.2


@dataclass(frozen=True)
class Shape:
    """Of a worker group.

    Attributes:
        ranks: workers.
        gpus: one GPU each.
        cpu: of each worker.
        storage: where Ray Train keeps its own state.
    """

    ranks: int
    gpus: bool
    cpu: float
    storage: str


@contextmanager
def lanes(shape: Shape, number: int, *, actor: Any, train: Callable | None) -> Iterator[None]:
    """`number` lanes for as long as the block lasts; afterwards they end with the cohort that they are at."""
    threads = [
        threading.Thread(target=_keep, args=(shape, f"lane-{index}", actor, train), name=f"lane-{index}", daemon=True)
        for index in range(number)
    ]
    watch = threading.Thread(target=_watch, args=(threads, actor), daemon=True)
    for thread in (*threads, watch):
        thread.start()
    yield
    ray.get(actor.close.remote())
    for thread in (*threads, watch):
        thread.join()


def _keep(shape: Shape, lane: str, actor: Any, train: Callable | None) -> None:
    """Run one lane; start it anew when it has died, as long as that makes sense."""
    import ray.train

    again = True
    while again:
        try:
            _trainer(shape, lane, functools.partial(serve, lane=lane, actor=actor, train=train)).fit()
            return
        except ray.train.TrainingFailedError as error:
            again = _tell(actor.lane_died, lane, str(error))


def _watch(lanes_at_work: list[threading.Thread], actor: Any) -> None:
    """No trial may wait for lanes that are not there."""
    for thread in lanes_at_work:
        thread.join()
    _tell(actor.give_up, "no worker group could be started; Ray's logs say why")


def _tell(method: Any, *what: str) -> Any:
    """The actor's answer; None once it is gone, as after an interrupt (a call without Ray would start another one)."""
    if not ray.is_initialized():
        return None
    try:
        return ray.get(method.remote(*what))
    except ray.exceptions.RayActorError:
        return None


def _trainer(shape: Shape, lane: str, loop: Callable) -> Any:
    """TorchTrainer; for one rank on a CPU its base class: no process group, and no torch in the processes that only
    control.
    """
    import ray.train
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

    resources = {"CPU": shape.cpu} | ({"GPU": 1.0} if shape.gpus else {})
    scaling = ray.train.ScalingConfig(num_workers=shape.ranks, use_gpu=shape.gpus, resources_per_worker=resources)
    kept = ray.train.RunConfig(
        name=f"{lane}-{uuid.uuid4().hex[:8]}",
        storage_path=shape.storage,
        failure_config=ray.train.FailureConfig(max_failures=2),
    )
    if shape.ranks == 1 and not shape.gpus:
        return DataParallelTrainer(loop, scaling_config=scaling, run_config=kept)
    from ray.train.torch import TorchConfig, TorchTrainer

    backend = TorchConfig(backend="nccl" if shape.gpus else "gloo")
    return TorchTrainer(loop, torch_config=backend, scaling_config=scaling, run_config=kept)


def serve(*, lane: str, actor: Any, train: Callable | None) -> None:
    """On each worker: train cohorts until there are no more. Imports late, for drivers pickle this module too."""
    from kdam_ray.ranks import rank, world_size
    from kdam_ray.service.pool.worker import agree, train_fn

    given = {"train": train} if train else {}
    while (config := agree(_next(lane, actor) if rank() == 0 else None)) is not None:
        why = None
        try:
            train_fn(config, actor=actor, **given)
        except (
            ValueError
        ) as error:  # bad input, the same every time; with several ranks the others would wait for this one
            if world_size() > 1:
                raise
            why = str(error)
        if rank() == 0:
            ray.get(actor.over.remote(config["title"], why))


def _next(lane: str, actor: Any) -> dict[str, Any] | None:
    while True:
        config, closed = ray.get(actor.take_cohort.remote(lane))
        if config is not None or closed:
            return config
        time.sleep(POLL_S)
