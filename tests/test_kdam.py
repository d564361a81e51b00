"""The command `kdam` finds every job and says what it does not know: python -m pytest tests/test_kdam.py"""

import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import kdam_ray
from kdam_ray import command
from kdam_ray.__main__ import COMMANDS, MODULES, OTHERS, flags_of, main

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture
def kdam(monkeypatch, capsys):
    """Runs the command in this process. Returns (exit code, stdout, stderr)."""

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["kdam", *arguments])
        try:
            code = main()
        except SystemExit as stop:
            code = stop.code
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


def test_every_job_is_a_command_and_every_entry_leads_to_its_job():
    jobs = {path.stem for path in (ROOT / "kdam_ray/jobs").glob("*.py")} - {"__init__"}
    assert set(MODULES.values()) == jobs
    for entry in (ROOT / "jobs").glob("*.py"):
        assert entry.stem in jobs
        assert f"from kdam_ray.jobs.{entry.stem} import main" in entry.read_text()


def test_the_installed_command_is_this_one():
    assert PROJECT["scripts"] == {"kdam": "kdam_ray.__main__:main"}


def test_help_lists_all_in_order_and_fits_a_terminal(kdam):
    code, text, errors = kdam("--help")
    assert (code, errors) == (0, "")
    places = [text.index(f"\n  {name} ") for group in COMMANDS.values() for name in group]
    assert places == sorted(places)
    assert max(map(len, text.splitlines())) <= 100
    assert kdam() == (0, text, "")


def test_the_help_of_a_command_names_it_as_it_is_typed(kdam):
    code, text, _ = kdam("score", "--help")
    assert code == 0
    assert "usage: kdam score" in re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert kdam("help", "score")[1] == text


def test_the_version_is_the_packages(kdam):
    assert kdam("--version")[1] == f"kdam_ray {kdam_ray.__version__}\n"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("sweep",), ("'sweep'", "sweep-beta-temp, sweep-pairs")),
        (("scoer",), ("'scoer'", "perhaps score")),
        (("xyzzy",), ("'xyzzy'; `kdam --help`",)),
        (("plan",), ("plan", "sweep-beta-temp", "train-teacher")),
        (("plan", "tables"), ("plan", "sweep-beta-temp")),
        (("completion",), ("completion", "bash, zsh, fish")),
        (("completion", "ksh"), ("completion", "bash, zsh, fish")),
    ],
)
def test_what_it_does_not_know_is_one_line(kdam, given, words):
    code, text, errors = kdam(*given)
    assert (code, text) == (2, "")
    assert errors.count("\n") == 1
    assert all(word in errors for word in words), errors


def test_plan_is_the_commands_own_plan(kdam, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    given = ("train-teacher", "--smoke", "--json")
    code, text, _ = kdam("plan", *given)
    assert code == 0
    assert kdam(*given, "--plan")[1] == text
    assert '"cohorts"' in text


@pytest.mark.slow
@pytest.mark.parametrize("shell", command.SHELLS)
def test_completion_knows_commands_and_flags(kdam, shell):
    code, script, _ = kdam("completion", shell)
    assert code == 0
    assert all(name in script for name in MODULES)
    assert "--convention" in script or "-l convention" in script


@pytest.mark.slow
def test_bash_completes_a_flag(kdam, tmp_path):
    (tmp_path / "kdam.bash").write_text(kdam("completion", "bash")[1])
    ask = 'source kdam.bash; COMP_WORDS=(kdam score --conv); COMP_CWORD=2; _tyro_kdam; echo "${COMPREPLY[@]}"'
    done = subprocess.run(["bash", "-c", ask], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["--convention"]


def test_no_command_warns_of_itself():
    modules = ", ".join(f"kdam_ray.jobs.{module}" for module in MODULES.values())
    done = subprocess.run([sys.executable, "-W", "error", "-c", f"import {modules}"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_job_declares_its_flags():
    assert all(flags_of(name).__doc__ for name in MODULES)


def test_the_extras_are_those_of_the_package():
    names = {"sklearn": "scikit-learn"}
    for extra, modules in command.EXTRAS.items():
        brought = {re.split(r"[\[<>=]", item)[0] for item in PROJECT["optional-dependencies"][extra]}
        assert brought == {names.get(module, module) for module in modules}


@pytest.mark.parametrize(("name", "extra"), [("sweep-beta-temp", "service"), ("tables", "service"), ("ui", "service")])
def test_without_its_extra_a_command_says_which_brings_it(kdam, monkeypatch, tmp_path, name, extra):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: None if module == "mlflow" else found(module))
    monkeypatch.chdir(tmp_path)
    code, text, errors = kdam(name)
    assert (code, text) == (2, "")
    assert errors == f"error: mlflow is not installed; pip install 'kdam_ray[{extra}]' brings it\n"
    assert list(tmp_path.iterdir()) == []


def test_a_late_import_of_an_extra_is_refused_and_any_other_is_a_fault(capsys):
    with pytest.raises(SystemExit), command.bad_input_exits():
        raise ModuleNotFoundError("No module named 'matplotlib.pyplot'", name="matplotlib.pyplot")
    assert "pip install 'kdam_ray[report]'" in capsys.readouterr().err
    with pytest.raises(ModuleNotFoundError), command.bad_input_exits():
        raise ModuleNotFoundError("No module named 'tropical'", name="tropical")


def test_the_others_of_the_help_are_known_too(kdam):
    for name in OTHERS:
        assert "there is no" not in kdam(name)[2]
