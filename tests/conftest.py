"""Fixtures that are dear or shared by several rooms: one Ray, one MLflow database, one gloo group a session."""

from collections.abc import Iterator

import pytest
from two_ranks import TwoRanks

from kdam_ray.config import Place


@pytest.fixture(scope="session")
def two_ranks():
    """Two processes in a gloo group, started once a session: `two_ranks(function, *args)` -> both ranks' results."""
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
def mlflow_uri(tmp_path_factory) -> str:
    """An sqlite tracking store; making one takes seconds."""
    from kdam_ray.service.records.tracking import Tracking

    place = Place(storage=str(tmp_path_factory.mktemp("mlflow")))
    uri = f"sqlite:///{place.storage}/mlflow.db"
    _ = Tracking(place.model_copy(update={"tracking_uri": uri})).client
    return uri


@pytest.fixture
def place(tmp_path, mlflow_uri) -> Place:
    """A storage of the test's own, two CPU workers, no pictures.

    The tracking store is shared, so tests name their own sweeps.
    """
    return Place(storage=str(tmp_path / "runs"), tracking_uri=mlflow_uri, workers=2, gpus=False, pictures_every=0)
