"""Who trains what: nothing is lost, nothing is trained twice, and what keeps dying is given up.

python -m pytest tests/service/pool/test_cohort_queue.py
"""

from kdam_ray.service.pool.cohort_queue import ATTEMPTS, CohortQueue


def queue_of(*titles: str) -> CohortQueue:
    queue = CohortQueue()
    for title in titles:
        queue.submit({"title": title})
    return queue


def title(config):
    return config and config["title"]


def test_each_cohort_goes_to_one_lane_in_order():
    queue = queue_of("a", "b", "c")
    queue.submit({"title": "a"})  # a trial that was started anew brings it once more
    assert [title(queue.take("one")), title(queue.take("two"))] == ["a", "b"]
    assert [queue.state(name) for name in "abc"] == ["training", "training", "waiting"]
    queue.over("b")
    assert title(queue.take("two")) == "c"
    queue.over("a")
    queue.over("c")
    assert queue.take("one") is None
    assert not queue.deaths


def test_a_lane_that_comes_back_goes_on_with_its_cohort():
    queue = queue_of("a", "b")
    assert [title(queue.take("one")) for _ in range(ATTEMPTS)] == ["a"] * ATTEMPTS
    assert title(queue.take("one")) == "b"  # the fourth time it is given up
    assert queue.state("a") == "over"
    assert set(queue.deaths) == {"a"}


def test_a_lane_that_dies_is_started_anew_only_if_it_had_work():
    queue = queue_of("a")
    assert not queue.lane_died("two", "it never started")
    for attempt in range(1, ATTEMPTS + 1):
        assert title(queue.take("one")) == "a"
        assert queue.lane_died("one", f"attempt {attempt}")
    assert queue.deaths == {"a": f"attempt {ATTEMPTS}"}
    assert not queue.lane_died("one", "no work")


def test_without_lanes_nothing_waits_for_ever():
    queue = queue_of("a", "b")
    queue.take("one")
    queue.give_up("no lanes")
    assert [queue.state(name) for name in "ab"] == ["over", "over"]
    assert queue.deaths == {"a": "no lanes", "b": "no lanes"}
    queue.submit({"title": "later"})  # Tune starts its next trial when the first ones are over
    assert queue.state("later") == "over"
    assert queue.deaths["later"] == "no lanes"


def test_closed_means_that_nothing_will_come():
    queue = queue_of("a")
    queue.close()
    assert not queue.closed
    queue.take("one")
    assert queue.closed
