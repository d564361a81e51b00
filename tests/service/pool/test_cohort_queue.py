"""Who trains what: nothing is lost, nothing is trained twice, and what keeps dying is given up.

python -m pytest tests/service/pool/test_cohort_queue.py
"""

from kdam_ray.config import Place
from kdam_ray.service.pool.assignment import Assignment
from kdam_ray.service.pool.cohort_queue import ATTEMPTS, CohortQueue


def cohort(title: str) -> Assignment:
    return Assignment(title=title, about="", members=(), place=Place())


def queue_of(*titles: str) -> CohortQueue:
    queue = CohortQueue()
    for title in titles:
        queue.submit(cohort(title))
    return queue


def taken(queue: CohortQueue, lane: str) -> str | None:
    """Title of what the lane is handed."""
    assignment, _ = queue.take_cohort(lane)
    return assignment and assignment.title


def test_each_cohort_goes_to_one_lane_in_order():
    queue = queue_of("a", "b", "c")
    queue.submit(cohort("a"))  # a trial that was started anew brings it once more
    assert [taken(queue, "one"), taken(queue, "two")] == ["a", "b"]
    assert [queue.state(name) for name in "abc"] == ["training", "training", "waiting"]
    queue.over("b")
    assert taken(queue, "two") == "c"
    queue.over("a")
    queue.over("c")
    assert taken(queue, "one") is None
    assert not queue.deaths()


def test_a_lane_that_comes_back_goes_on_with_its_cohort():
    queue = queue_of("a", "b")
    assert [taken(queue, "one") for _ in range(ATTEMPTS)] == ["a"] * ATTEMPTS
    assert taken(queue, "one") == "b"  # the fourth time it is given up
    assert queue.state("a") == "over"
    assert set(queue.deaths()) == {"a"}


def test_a_lane_that_dies_is_started_anew_only_if_it_had_work():
    queue = queue_of("a")
    assert not queue.lane_died("two", "it never started")
    for attempt in range(1, ATTEMPTS + 1):
        assert taken(queue, "one") == "a"
        assert queue.lane_died("one", f"attempt {attempt}")
    assert queue.deaths() == {"a": f"attempt {ATTEMPTS}"}
    assert not queue.lane_died("one", "no work")


def test_without_lanes_nothing_waits_for_ever():
    queue = queue_of("a", "b")
    taken(queue, "one")
    queue.give_up("no lanes")
    assert [queue.state(name) for name in "ab"] == ["over", "over"]
    assert queue.deaths() == {"a": "no lanes", "b": "no lanes"}
    queue.submit(cohort("later"))  # Tune starts its next trial when the first ones are over
    assert queue.state("later") == "over"
    assert queue.deaths()["later"] == "no lanes"


def test_closed_means_that_nothing_will_come():
    queue = queue_of("a")
    queue.close()
    assert not queue.closed
    taken(queue, "one")
    assert queue.closed
