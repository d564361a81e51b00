"""How things are said on stderr: python -m pytest tests/service/test_wording.py"""

import re

import pytest

from kdam_ray.service import wording
from kdam_ray.service.wording import TAIL, count, duration, say, tail


def test_a_line_has_its_time_and_stays_off_stdout(capsys):
    say("cohort 1: epoch 2 of 3")
    said = capsys.readouterr()
    assert re.fullmatch(r"\d\d:\d\d:\d\d  cohort 1: epoch 2 of 3\n", said.err)
    assert said.out == ""


@pytest.mark.parametrize(
    ("seconds", "digits", "words"),
    [(-1, 0, "0 s"), (89, 0, "89 s"), (90, 0, "2 min"), (90, 1, "1.5 min"), (5399, 0, "90 min"), (5400, 0, "1.5 h")],
)
def test_durations_are_read_at_a_glance(seconds, digits, words):
    assert duration(seconds, digits=digits) == words


@pytest.mark.parametrize(("number", "words"), [(0, "0 runs"), (1, "1 run"), (2, "2 runs")])
def test_one_thing_has_no_plural(number, words):
    assert count(number, "run") == words


def test_of_an_error_the_last_lines_are_shown():
    text = "\n\n".join(f"line {number}" for number in range(TAIL + 3))
    assert tail(text).splitlines() == [f"    line {number}" for number in range(3, TAIL + 3)]


def test_progress_in_a_log_is_a_line_now_and_then(monkeypatch, capsys):
    clock = iter([0.0, 1.0, 6.0, 7.0, 22.0, 40.0])
    monkeypatch.setattr(wording.time, "monotonic", lambda: next(clock))
    with wording.counting("images", 10) as tell:
        for done in (1, 3, 4, 8, 10):
            tell(done)
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split("  ", 1)[1] for line in err.splitlines()] == [
        "images: 3 of 10; about 14 s left", "images: 8 of 10; about 6 s left",
    ]  # fmt: skip


def test_an_age_has_the_unit_of_its_size():
    assert [wording.age(seconds) for seconds in (45, 600, 7200, 86400 * 3)] == ["45 s", "10 min", "2 h", "3 d"]
