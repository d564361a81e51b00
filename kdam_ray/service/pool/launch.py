"""Ray: connect or start it, and run cohorts through Tune (what is next) and Train (who computes it).

One Tune trial is one cohort. The trial itself only hands the cohort to a lane (`lanes`: a Train worker group) and
waits; the custom resource "driver" keeps trials on the node that advertises it (the head of a cluster), Train's
controllers stay beside the job.
"""

import contextlib
import functools
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ray
from ray import tune

from kdam_ray.service.layout import Layout
from kdam_ray.service.pool.cohort_search import CohortSearch
from kdam_ray.service.pool.lanes import POLL_S, Shape, lanes
from kdam_ray.service.wording import say

DRIVERS = 64  # that one head can hold; a driver only waits
DRIVER_CPU = 0.05  # of a driver, on a cluster that advertises no "driver"
SETTINGS = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1",  # a report is only seen when the controller polls; its default is 2 s
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "300",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # the new one prints to stdout whatever the verbosity
    # it ends Tune as if all had been trained: the job would go on with what comes next
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # MLflow holds the results
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_TRAIN_ENABLE_WORKER_STRUCTURED_LOGGING": "0",
    "RAY_TRAIN_ENABLE_CONTROLLER_STRUCTURED_LOGGING": "0",
}
QUIET = (
    "ray.tune",
    "ray.train",
    "ray._private.authentication.authentication_token_setup",
)  # Progress says what has failed
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
    except KeyboardInterrupt:
        say("interrupted: stopping the workers")
        silence()
        raise
    finally:
        ray.shutdown()


def silence() -> None:
    """From now on only `print(file=sys.stderr)` of this thread's code is seen: not Ray's messages, nor those of lanes
    that are cut off.
    """
    sys.stderr = os.fdopen(os.dup(2), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    threading.excepthook = lambda _: None


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
    search: CohortSearch,
    *,
    layout: Layout,
    ranks: int,
    number: int,
    callback: tune.Callback,
    storage: str,
    actor: Any,
    train: Callable | None,
) -> None:
    """Train every cohort that `search` hands out, `number` at a time.

    A cohort that dies says so through `actor`; the others go on.
    """
    drivers = bool(ray.cluster_resources().get("driver"))
    spare_cpu = 0.0 if drivers else DRIVER_CPU * number
    resources: Any = {"CPU": 0, "driver": 1} if drivers else {"CPU": DRIVER_CPU}
    tuner = tune.Tuner(
        tune.with_resources(functools.partial(drive, actor=actor), resources),
        tune_config=tune.TuneConfig(
            search_alg=search,
            num_samples=-1,
            max_concurrent_trials=number,
            reuse_actors=True,
            trial_dirname_creator=str,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=storage,
            verbose=0,
            callbacks=[callback],
            failure_config=tune.FailureConfig(max_failures=1),
        ),
    )
    shape = Shape(ranks, layout.gpus, _worker_cpu(ranks * number, spare_cpu), storage)
    with lanes(shape, number, actor=actor, train=train):
        tuner.fit()


def drive(config: dict[str, Any], *, actor: Any) -> None:
    """A Tune trial: hand one cohort to the lanes, wait until it is over.

    Epochs are told through the StudyActor and not through Ray's TuneReportCallback: that callback starts one more
    process a trial, and in Ray 2.60 a last report that is still on its way when the function returns blocks the trial
    for ever (both are put into a queue of length one by the thread that would have to empty it).
    """
    ray.get(actor.submit.remote(config))
    while ray.get(actor.state.remote(config["title"])) != "over":
        time.sleep(POLL_S)
    tune.report({"cohort": config["title"], "members": len(config["members"])})


def _worker_cpu(workers: int, spare_cpu: float) -> float:
    """One CPU a worker, or the share of one that leaves room for the drivers where those take CPUs too."""
    cpus = ray.cluster_resources().get("CPU", 1.0) - spare_cpu
    return min(1.0, int(100 * cpus / workers) / 100) if spare_cpu else 1.0
