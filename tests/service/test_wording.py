"""How things are said on stderr: python -m pytest tests/service/test_wording.py"""

import re

import pytest

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
