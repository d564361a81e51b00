"""What CONTRIBUTING, ARCHITECTURE, SECURITY, CITATION and the lint say, is so: python -m pytest tests/test_papers.py"""

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest
import yaml

import kdam_ray

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DOCS = tuple(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))
PAPERS = ("ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", *DOCS)
A_PATH = r"`((?:kdam_ray|jobs|tests|benchmarks|docker)/[\w/.]*|[\w.]+\.(?:md|toml|txt|yaml|cff)|Makefile)`"
NOT_OURS = {"Makefile", "NAME", "Raises", "delta_teacher", "md"}  # paths, placeholders, a metric's name
A_NAME = re.compile(r"\w+\.py$|[\w.]+/(?:\w+)?$|\w+\.\w+$|Makefile$")


def read(paper: str) -> str:
    return (ROOT / paper).read_text()


def file_map() -> list[str]:
    """Paths of ARCHITECTURE's map: folders by indentation; several names of a line stand two spaces apart."""
    block = read("ARCHITECTURE.md").split("## File by file")[1].split("```")[1]
    paths: list[str] = []
    folders: list[str] = []
    for line in block.strip("\n").splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        for name in re.split(r" {2,}", line.strip()):
            if not A_NAME.fullmatch(name):
                break  # from here on it is said what they are
            folders[depth:] = [name] if name.endswith("/") else []
            paths.append("".join(folders[:depth]) + name)
    return paths


@pytest.mark.parametrize("path", file_map())
def test_the_map_is_true(path):
    assert (ROOT / path).exists()


def test_the_map_leaves_no_module_out():
    modules = {path.relative_to(ROOT) for folder in ("kdam_ray", "jobs") for path in (ROOT / folder).rglob("*.py")}
    rooms = {f"{path.parent}/" for path in modules}
    assert {str(path) for path in modules if path.name != "__init__.py"} | rooms <= set(file_map())


def named(pattern: str) -> list[tuple[str, str]]:
    return [(paper, name) for paper in PAPERS for name in sorted(set(re.findall(pattern, read(paper))))]


@pytest.mark.parametrize(("paper", "path"), named(A_PATH))
def test_every_path_exists(paper, path):
    assert (ROOT / path).exists(), f"{paper} names it"


@pytest.mark.parametrize(("paper", "link"), named(r"\]\(([^)#:]+)(?:#[^)]*)?\)"))
def test_every_link_leads_somewhere(paper, link):
    assert ((ROOT / paper).parent / link).exists(), f"{paper} links to it"


@pytest.mark.parametrize(("paper", "target"), named(r"(?:^ {4}|`)make ([a-z][a-z-]*)"))
def test_every_make_command_has_a_target(paper, target):
    assert re.search(rf"^{target}:", read("Makefile"), re.MULTILINE), f"{paper} names it"


def test_every_table_that_contributing_names_stands_in_that_file():
    """`NAME` in `path`, and the backticked capitals of the same sentence as one path."""
    found = re.findall(r"`([A-Z_]{4,})` (?:in|of)\s+`(kdam_ray/[\w/]+\.py|jobs/\w+\.py)`", read("CONTRIBUTING.md"))
    assert len(found) >= 10
    for name, path in found:
        assert re.search(rf"^{name}\b", read(path), re.MULTILINE), f"{path} has no {name}"


def defined() -> set[str]:
    """Every class, function, method, constant and field of the package and the jobs."""
    sources = [path.read_text() for folder in ("kdam_ray", "jobs") for path in (ROOT / folder).rglob("*.py")]
    patterns = (r"^\s*(?:class|def) (\w+)", r"^\s*(\w+)(?:: [^=\n]+)?(?: = |$)")
    return {name for text in sources for pattern in patterns for name in re.findall(pattern, text, re.MULTILINE)}


@pytest.mark.parametrize("paper", ["ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_every_name_is_one_of_the_codes(paper):
    """`Name`, `room.Name` and `Name.field`: the last part is defined somewhere."""
    text = re.sub(r"```.*?```", "", read(paper), flags=re.DOTALL)
    named = {name.split(".")[-1] for name in re.findall(r"`([a-z_.]*[A-Z]\w*(?:\.\w+)?|\w+_\w+)`", text)}
    assert sorted(named - defined() - NOT_OURS) == []


@pytest.mark.parametrize("paper", ["README.md", "CONTRIBUTING.md"])
def test_every_import_that_is_shown_works(paper):
    for module, names in re.findall(r"^ {4}from (kdam_ray[\w.]*) import ([\w, ]+)$", read(paper), re.MULTILINE):
        path = ROOT / module.replace(".", "/")
        text = (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text()
        assert all(re.search(rf"\b{name}\b", text) for name in names.split(", ")), f"{module}: {names}"


def test_no_paper_is_unfinished():
    for paper in (*PAPERS, "README.md"):
        assert "TODO" not in read(paper), paper


def test_the_version_has_one_home():
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert PROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "kdam_ray.__version__"}
    citation = yaml.safe_load(read("CITATION.cff"))
    assert citation["version"] == kdam_ray.__version__
    assert f"## {kdam_ray.__version__}" in read("CHANGELOG.md")


def test_the_license_is_said_alike():
    assert "Apache License" in read("LICENSE")
    assert PROJECT["project"]["license"] == yaml.safe_load(read("CITATION.cff"))["license"] == "Apache-2.0"


def test_the_paper_is_cited():
    (reference,) = yaml.safe_load(read("CITATION.cff"))["references"]
    assert reference["title"] == "Multi-Task Learning with Knowledge Distillation for Dense Prediction"
    assert [author["family-names"] for author in reference["authors"]] == ["Xu", "Yang", "Zhang"]


def test_the_package_brings_its_types():
    assert (ROOT / "kdam_ray" / "py.typed").is_file()
    assert "py.typed" in PROJECT["tool"]["setuptools"]["package-data"]["*"]


@pytest.mark.parametrize("tool", ["ruff", "mypy"])
def test_the_linters_are_the_pinned_ones(tool):
    pinned = dict(line.split("==") for line in read("constraints.txt").split())
    assert importlib.metadata.version(tool) == pinned[tool]
    hooks = [hook for repo in yaml.safe_load(read(".pre-commit-config.yaml"))["repos"] for hook in repo["hooks"]]
    assert any(hook["entry"].split()[0] == f".venv/bin/{tool}" for hook in hooks)


def test_the_lint_covers_every_folder_with_code():
    folders = {path.relative_to(ROOT).parts[0] for path in ROOT.glob("[a-z]*/**/*.py")} - {"build"}  # pip leaves it
    assert folders <= {path.split("/")[0] for path in PROJECT["tool"]["mypy"]["files"]}
    assert "ruff check ." in read("Makefile")
    assert PROJECT["tool"]["ruff"]["line-length"] == 120
    assert "E501" not in PROJECT["tool"]["ruff"]["lint"].get("ignore", [])
