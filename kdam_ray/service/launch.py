"""Ray: connect or start it, and run cohorts through Tune (what is next) and Train (who computes it).

One Tune trial is one cohort. The trial itself is only a driver that starts a Train run and waits; the custom resource
"driver" keeps drivers, and Train's controllers with them, on the node that advertises it (the head of a cluster).
"""

import contextlib
import functools
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ray
from ray import tune

from kdam_ray.service.layout import Layout
from kdam_ray.service.search import CohortSearch

DRIVERS = 64  # that one head can hold; a driver only waits
DRIVER_CPU = 0.05  # of a driver, on a cluster that advertises no "driver"
SETTINGS = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1",  # a report is only seen when the controller polls; its default is 2 s
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "300",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # the new one prints to stdout whatever the verbosity
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # MLflow holds the results
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_TRAIN_ENABLE_WORKER_STRUCTURED_LOGGING": "0",
    "RAY_TRAIN_ENABLE_CONTROLLER_STRUCTURED_LOGGING": "0",
}
QUIET = ("ray.tune", "ray.train", "ray._private.authentication.authentication_token_setup")  # Progress says what has failed
_TOKEN = Path("~/.ray/auth_token")


@contextlib.contextmanager
def session(layout: Layout) -> Iterator[None]:
    """Ray, for as long as the block lasts: the session that is there, the cluster of RAY_ADDRESS, or a local one."""
    apply_settings()
    if ray.is_initialized():
        yield
        return
    if "RAY_ADDRESS" in os.environ:
        if _TOKEN.expanduser().exists():
            os.environ.setdefault("RAY_AUTH_MODE", "token")  # an explicit address does not pick the mode up by itself
        ray.init(logging_level=logging.WARNING, log_to_driver=False)
    else:
        start_local(layout)
    try:
        yield
    finally:
        ray.shutdown()


def apply_settings() -> None:
    """Also where a driver runs: on a cluster that is another process than the job's."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def start_local(layout: Layout) -> None:
    """A Ray of this machine, small enough for a laptop."""
    ray.init(
        address="local", num_cpus=max(os.cpu_count() or 1, layout.workers), resources={"driver": DRIVERS}, include_dashboard=False,
        object_store_memory=200 * 2**20, log_to_driver=False, logging_level=logging.WARNING, configure_logging=True,
    )  # fmt: skip


def train_cohorts(
    search: CohortSearch, *, side_by_side: int, callback: tune.Callback, storage: str, actor: Any, train: Callable | None
) -> None:
    """Train every cohort that `search` hands out. A cohort that dies says so through `actor`; the others go on."""
    drivers = bool(ray.cluster_resources().get("driver"))
    driver = functools.partial(drive, actor=actor, train=train, storage=storage, spare_cpu=0.0 if drivers else DRIVER_CPU * side_by_side)
    resources: Any = {"CPU": 0, "driver": 1} if drivers else {"CPU": DRIVER_CPU}
    tuner = tune.Tuner(
        tune.with_resources(driver, resources),
        tune_config=tune.TuneConfig(
            search_alg=search,
            num_samples=-1,
            max_concurrent_trials=side_by_side,
            reuse_actors=True,
            trial_dirname_creator=str,
        ),
        run_config=tune.RunConfig(
            name="tune", storage_path=storage, verbose=0, callbacks=[callback], failure_config=tune.FailureConfig(max_failures=1)
        ),
    )
    tuner.fit()


def drive(config: dict[str, Any], *, actor: Any, train: Callable | None, storage: str, spare_cpu: float) -> None:
    """A Tune trial: one Ray Train run of one cohort.

    Epochs are told through the StudyActor and not through Ray's TuneReportCallback: that callback starts one more process
    a cohort, and in Ray 2.60 a last report that is still on its way when `fit` returns blocks the trial for ever (both
    the report and the end of the function are put into a queue of length one by the thread that would empty it).
    """
    apply_settings()
    import ray.train

    try:
        _trainer(config, functools.partial(enter, actor=actor, train=train), storage, spare_cpu).fit()
    except ray.train.TrainingFailedError as error:  # after Train's own retries; Tune's are for a driver that dies
        ray.get(actor.died.remote(config["title"], str(error)))
    tune.report({"cohort": config["title"], "members": len(config["members"])})


def _trainer(config: dict[str, Any], loop: Callable, storage: str, spare_cpu: float) -> Any:
    """TorchTrainer; for one rank on a CPU its base class, which makes no process group and spares two processes importing torch."""
    import ray.train
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

    scaling = ray.train.ScalingConfig(
        num_workers=config["ranks"], use_gpu=config["gpus"], resources_per_worker=_worker_resources(config, spare_cpu)
    )
    kept = ray.train.RunConfig(
        name=f"train-{tune.get_context().get_trial_id()}", storage_path=storage, failure_config=ray.train.FailureConfig(max_failures=2)
    )
    if config["ranks"] == 1 and not config["gpus"]:
        return DataParallelTrainer(loop, train_loop_config=config, scaling_config=scaling, run_config=kept)
    from ray.train.torch import TorchConfig, TorchTrainer

    backend = TorchConfig(backend="nccl" if config["gpus"] else "gloo")
    return TorchTrainer(loop, train_loop_config=config, torch_config=backend, scaling_config=scaling, run_config=kept)


def enter(config: dict[str, Any], *, actor: Any, train: Callable | None) -> None:
    """On a worker. Imports late: neither driver nor controller needs the networks."""
    from kdam_ray.service.worker import train_fn

    try:
        train_fn(config, actor=actor, **({"train": train} if train else {}))
    except ValueError as error:  # bad input, the same every time; other ranks would wait for this one
        if config["ranks"] > 1:
            raise
        ray.get(actor.died.remote(config["title"], str(error)))


def _worker_resources(config: dict[str, Any], spare_cpu: float) -> dict[str, float]:
    """One CPU a worker, or the share of one that leaves room for the drivers where those take CPUs too."""
    cpus = ray.cluster_resources().get("CPU", 1.0) - spare_cpu
    share = min(1.0, int(100 * cpus / config["workers"]) / 100) if spare_cpu else 1.0
    return {"CPU": share, "GPU": 1.0} if config["gpus"] else {"CPU": share}
