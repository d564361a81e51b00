"""Fixtures that are dear or shared by several rooms: one Ray, one MLflow database, one gloo group a session."""

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from two_ranks import TwoRanks

from kdam_ray.config import Place

# As a worker on CPUs has: tiny networks gain nothing from more, and threads that wait for each other on a busy machine
# take five times as long.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of what tests start


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What starts Ray is slow."""
    for item in items:
        if "ray_session" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def two_ranks() -> Iterator[TwoRanks]:
    """Two processes in a gloo group: `two_ranks(function, *args)` gives both ranks' results."""
    pool = TwoRanks()
    yield pool
    pool.close()


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """A local Ray of two workers; what a test runs through the service joins it instead of starting its own."""
    import ray

    from kdam_ray.service.layout import Layout
    from kdam_ray.service.pool.launch import apply_settings, start_local

    apply_settings()
    start_local(Layout(workers=2, gpus=False, split="members"))
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def empty_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new sqlite tracking store to copy: making one takes seconds.

    What this process writes to sqlite is not forced to the disk from here on: that is nine tenths of the time, and
    only a power cut would tell.
    """
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    from kdam_ray.service.records.tracking import Tracking

    def in_no_hurry(connection: sqlite3.Connection, _: object) -> None:
        with contextlib.suppress(sqlite3.DatabaseError):  # no database: what opens it says so
            connection.execute("PRAGMA synchronous=OFF")

    event.listen(Engine, "connect", in_no_hurry)
    place = Place(storage=str(tmp_path_factory.mktemp("empty")))
    path = Path(place.storage) / "mlflow.db"
    _ = Tracking(place.model_copy(update={"tracking_uri": f"sqlite:///{path}"})).client
    return path


@pytest.fixture(scope="session")
def mlflow_uri(tmp_path_factory: pytest.TempPathFactory, empty_mlflow: Path) -> str:
    """The tracking store that tests share."""
    return f"sqlite:///{shutil.copy(empty_mlflow, tmp_path_factory.mktemp('mlflow'))}"


@pytest.fixture
def own_mlflow(tmp_path: Path, empty_mlflow: Path) -> Path:
    """A tracking store of the test's own, empty, where the storage `runs` of its folder has one."""
    (tmp_path / "runs").mkdir(exist_ok=True)
    return Path(shutil.copy(empty_mlflow, tmp_path / "runs"))


@pytest.fixture
def place(tmp_path: Path, mlflow_uri: str) -> Place:
    """A storage of the test's own, two CPU workers, no pictures.

    The tracking store is shared, so tests name their own sweeps.
    """
    return Place(storage=str(tmp_path / "runs"), tracking_uri=mlflow_uri, workers=2, gpus=False, pictures_every=0)
