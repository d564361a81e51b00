"""Command lines: one JSON document on stdout whatever else writes there, one line for what is wrong.

python -m pytest tests/test_command.py
"""

import json
import os
import subprocess
import sys
from typing import Annotated, Literal

import pytest
from pydantic import Field

from kdam_ray.command import bad_input_exits, flags, output
from kdam_ray.config import Frozen, Place


class Flags(Frozen):
    """Of a made-up job.

    Attributes:
        dataset: which.
        seeds: how many.
    """

    dataset: str = "rooms"
    seeds: Annotated[int, Field(ge=1)] = 1
    shape: Literal["a", "b"] = "a"
    place: Place = Place()


def parse(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["job.py", *arguments])
    return flags(Flags, "A made-up job.")


def test_fields_of_nested_models_are_flags_without_prefix(monkeypatch):
    asked = parse(monkeypatch, "--dataset", "nyud", "--workers", "3", "--storage", "s3://bucket/x")
    assert (asked.dataset, asked.place.workers, asked.place.storage) == ("nyud", 3, "s3://bucket/x")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--seeds", "0"), "error: seeds: Input should be greater than or equal to 1 (got 0)\n"),
        (("--workers", "0"), "error: workers: Input should be greater than or equal to 1 (got 0)\n"),
        (("--shape", "c"), "error: invalid choice 'c' for argument '--shape'. Expected one of ('a', 'b').\n"),
        (("--seds", "1"), "error: Unrecognized options: --seds, 1; perhaps --seeds; --help lists all\n"),
        (("--seeds", "two"), "error: Error parsing --seeds: invalid literal for int() with base 10: 'two'\n"),
    ],
)
def test_what_is_wrong_is_one_line(arguments, line, monkeypatch, capsys):
    with pytest.raises(SystemExit) as stop:
        parse(monkeypatch, *arguments)
    assert stop.value.code == 2
    assert capsys.readouterr() == ("", line)


def test_help_goes_to_stdout_and_succeeds(monkeypatch, capsys):
    with pytest.raises(SystemExit) as stop:
        parse(monkeypatch, "--help")
    said = capsys.readouterr()
    assert stop.value.code == 0
    assert "--dataset" in said.out
    assert said.err == ""


def test_a_message_of_several_lines_becomes_one(capsys):
    with pytest.raises(SystemExit), bad_input_exits():
        raise ValueError("root: no such\n  folder")
    assert capsys.readouterr().err == "error: root: no such folder\n"


def test_json_is_alone_on_stdout_even_beside_other_processes(capfd):
    with output(as_json=True) as say:
        print("a print")
        os.write(1, b"a process that writes to descriptor 1\n")
        say("a table for people", {"loss": float("nan"), "rows": [(1.5, float("inf"))]})
    said = capfd.readouterr()
    assert json.loads(said.out) == {"loss": None, "rows": [[1.5, None]]}
    assert "descriptor 1" in said.err
    assert "a print" in said.err
    assert "for people" not in said.out + said.err


def test_text_is_for_people(capfd):
    with output(as_json=False) as say:
        say("a table", {"never": "shown"})
    assert capfd.readouterr().out == "a table\n"


def test_stdout_is_back_after_an_error(capfd):
    with pytest.raises(RuntimeError), output(as_json=True):
        raise RuntimeError
    os.write(1, b"back\n")
    assert capfd.readouterr().out == "back\n"


def test_a_reader_that_stops_early_is_no_error():
    code = "from kdam_ray.command import output\nwith output(False) as say:\n    say('line\\n' * 100_000, None)"
    done = subprocess.run(
        f'{sys.executable} -c "{code}" | head -n 1', shell=True, capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("line\n", "")


@pytest.mark.parametrize("as_json", [False, True])
def test_an_interrupt_is_one_line_and_130(as_json, capfd):
    with pytest.raises(SystemExit) as stop, output(as_json):
        raise KeyboardInterrupt
    out, err = capfd.readouterr()
    assert (stop.value.code, out, err.count("\n")) == (130, "", 1)
