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
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ray
from ray import tune

from kdam_ray.machine import usable_cpus
from kdam_ray.service.layout import Layout
from kdam_ray.service.plan import drawn_cohorts, further_cohorts
from kdam_ray.service.pool.assignment import Assignment
from kdam_ray.service.pool.cohort_search import CohortSearch, ToCome
from kdam_ray.service.pool.cohorts import Opener
from kdam_ray.service.pool.lanes import POLL_S, WorkerGroup, lanes
from kdam_ray.service.pool.progress import Progress
from kdam_ray.service.pool.protocols import Coordinator, Train
from kdam_ray.service.records import Storage
from kdam_ray.service.seats import Seat
from kdam_ray.service.wording import say

NOTHING = ToCome()
DRIVERS = 64  # trials that one head can hold; each only waits
DRIVER_CPU = 0.05  # CPUs of a trial, on a cluster that advertises no "driver"
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
    # of glibc, for the workers: a step's maps stay in the heap; given back and fetched again they are a page fault each
    "MALLOC_MMAP_THRESHOLD_": str(2**25),
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
}
# Progress says what has failed
QUIET = ("ray.tune", "ray.train", "ray._private.authentication.authentication_token_setup")
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
    """Show only what this process's Python prints on stderr from now on.

    Neither Ray's own messages nor those of lanes that are cut off.
    """
    sys.stderr = os.fdopen(os.dup(2), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    threading.excepthook = lambda _: None


def apply_settings() -> None:
    """Set Ray up by its environment variables, and keep its loggers quiet."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def start_local(layout: Layout) -> None:
    """A Ray of this machine, small enough for a laptop."""
    ray.init(
        address="local",
        num_cpus=max(usable_cpus(), layout.workers),
        resources={"driver": DRIVERS},
        include_dashboard=False,
        object_store_memory=200 * 2**20,
        log_to_driver=False,
        logging_level=logging.WARNING,
        configure_logging=True,
    )


def train_seats(
    opener: Opener,
    cohorts: Sequence[Sequence[Seat]],
    *,
    coordinator: Coordinator,
    to_come: ToCome = NOTHING,
    train: Train | None = None,
) -> None:
    """Train the cohorts, then what is to come, as many at a time as there is room for; progress on stderr.

    A cohort that dies says so through the coordinator; the others go on.

    Args:
        opener: makes the assignment of each.
        cohorts: what is known; may be empty if the opener's sweep draws.
        coordinator: of this sweep.
        to_come: what the study draws, and what is chosen in the end.
        train: another training generator, in tests.
    """
    base = opener.sweep.base if opener.sweep else None
    first = cohorts[0][0].run if cohorts else base
    assert first is not None, "there is nothing to train"
    ranks, side_by_side = opener.arranged.ranks(first), opener.arranged.side_by_side(first)
    drawn = drawn_cohorts(to_come.draws, opener.place, side_by_side)
    later = [*drawn, *further_cohorts(to_come.further, opener.place, side_by_side)]
    opener.cohorts = len(cohorts) + len(later)
    flops = sum(opener.left(seats) for seats in cohorts)
    if base is not None:
        flops += sum(opener.costs.cohort([base] * members, [base.epochs] * members) for members in later)
    choose = to_come.choose if to_come.further else None
    search = CohortSearch(cohorts, opener=opener, coordinator=coordinator, drawn=drawn, choose=choose)
    progress = Progress(coordinator, flops=flops, costs=opener.operations)
    storage = Storage(opener.place.storage).uri("ray")
    number = min(side_by_side, opener.cohorts)
    drivers = bool(ray.cluster_resources().get("driver"))
    spare_cpu = 0.0 if drivers else DRIVER_CPU * number
    resources: Any = {"CPU": 0, "driver": 1} if drivers else {"CPU": DRIVER_CPU}
    tuner = tune.Tuner(
        tune.with_resources(functools.partial(drive, coordinator=coordinator), resources),
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
            callbacks=[progress],
            failure_config=tune.FailureConfig(max_failures=1),
        ),
    )
    group = WorkerGroup(ranks, opener.arranged.gpus, _worker_cpu(ranks * number, spare_cpu), storage)
    with contextlib.closing(progress), lanes(group, number, coordinator=coordinator, train=train):
        tuner.fit()


def drive(config: dict[str, Any], *, coordinator: Coordinator) -> None:
    """A Tune trial: hand one cohort to the lanes, wait until it is over.

    Epochs are told through the coordinator and not through Ray's TuneReportCallback: that callback starts one more
    process a trial, and in Ray 2.60 a last report that is still on its way when the function returns blocks the trial
    for ever (both are put into a queue of length one by the thread that would have to empty it).
    """
    assignment = Assignment.model_validate(config)
    coordinator.submit(assignment)
    while coordinator.state(assignment.title) != "over":
        time.sleep(POLL_S)
    tune.report({"cohort": assignment.title, "members": len(assignment.members)})


def _worker_cpu(workers: int, spare_cpu: float) -> float:
    """One CPU a worker, or the share of one that leaves room for the drivers where those take CPUs too."""
    cpus = ray.cluster_resources().get("CPU", 1.0) - spare_cpu
    return min(1.0, int(100 * cpus / workers) / 100) if spare_cpu else 1.0
