"""What the README says exists, exists: python -m pytest tests/test_readme.py"""

import re
import subprocess
from pathlib import Path

import pytest

from kdam_ray.__main__ import MODULES, OTHERS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()


def test_the_readme_leads_to_every_paper():
    papers = {path.name for path in ROOT.glob("*.md")} | {"LICENSE", "CITATION.cff"}
    assert papers - {"README.md"} <= set(re.findall(r"\]\(([^)#:]+)", README))


@pytest.mark.parametrize("target", sorted(set(re.findall(r"(?:^ {4}|`)make ([a-z][a-z-]*)", README, re.MULTILINE))))
def test_every_make_command_has_a_target(target):
    assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE)


def test_its_commands_are_those_there_are():
    for path in (ROOT / "README.md", ROOT / "docs" / "commands.md"):
        named = set(re.findall(r"`kdam ([a-z]+(?:-[a-z]+)*)\b", path.read_text()))
        assert named >= {*MODULES}, path
    for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        named = set(re.findall(r"(?:`|^ {4})kdam ([a-z-]+)", path.read_text(), re.MULTILINE))
        assert named <= {*MODULES, *OTHERS}, path


def test_it_is_read_in_one_go():
    assert len(README.splitlines()) <= 200


@pytest.mark.parametrize("job", sorted(set(re.findall(r"python (jobs/\w+\.py)", README))))
def test_every_job_exists(job):
    assert (ROOT / job).is_file()


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", README))))
def test_every_link_leads_somewhere(link):
    assert (ROOT / link).exists()


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:tests|kdam_ray|jobs)/[\w/.]*)`", README))))
def test_every_path_in_the_text_exists(path):
    assert (ROOT / path).exists()


def test_ci_runs_the_readmes_test_command():
    assert "make test" in README
    assert "make test" in (ROOT / ".ci/run").read_text()


def test_make_explains_itself():
    done = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    for target in ("sweep", "test", "ui", "lint"):
        assert f"make {target}" in done.stdout
