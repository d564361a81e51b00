"""The layers, held: jobs/ -> kdam_ray/jobs -> studies -> report -> service -> core -> plain data; who may touch what.

python -m pytest tests/test_layers.py

Read from the source (imports inside functions count), so nothing is imported and nothing can hide behind a late import.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = (
    "plain",
    "core",
    "service",
    "report",
    "studies",
    "jobs",
    "entries",
)  # each may import itself and what stands before it
PLACES = {
    "plain": (
        "command.py",
        "config.py",
        "contexts.py",
        "files.py",
        "machine.py",
        "paper.py",
        "cells.py",
        "recipes.py",
        "tasks.py",
        "titles.py",
        "zoo.py",
    ),
    "core": ("ranks.py", "losses", "metrics", "models", "data", "learning"),
    "service": ("service",),
    "report": ("report",),
    "studies": ("studies",),
    "jobs": ("jobs", "__main__.py"),
}
PLAIN_MAY_USE = {"filelock", "pydantic", "tyro"}
NOT_IN_CORE = {"ray", "mlflow", "optuna", "boto3", "botocore"}
AT_PLANNING = ("plan", "seats", "result", "deltas", "ledger", "wording", "layout", "records", "cost", "search")
LONGEST_FILE, LONGEST_FUNCTION = 400, 60

SOURCES = sorted(path for folder in ("kdam_ray", "jobs") for path in (ROOT / folder).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), name(path))


def imports(path: Path) -> Iterator[str]:
    """Every module imported anywhere in the file; `from a import b` gives a.b, which may name a module."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(path)}:{node.lineno}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def layer(path: Path) -> str:
    """Of a file; a file or room that no layer knows fails here, so that the table stays complete."""
    if path.parts[len(ROOT.parts)] == "jobs":
        return "entries"
    place = path.relative_to(ROOT / "kdam_ray").parts[0]
    found = [key for key, places in PLACES.items() if place in places or place == "__init__.py"]
    assert found, f"kdam_ray/{place} is in no layer"
    return found[0]


def layer_of_module(module: str) -> str | None:
    """Of something imported from kdam_ray or jobs; None for other packages."""
    top, *rest = module.split(".")
    if top == "jobs":
        return "entries"
    if top != "kdam_ray" or not rest or rest[0].startswith("__version"):
        return None
    return next(key for key, places in PLACES.items() if rest[0] in places or f"{rest[0]}.py" in places)


def packages(path: Path) -> set[str]:
    return {module.split(".")[0] for module in imports(path)}


def own_imports(path: Path) -> set[str]:
    """Files of the package that a file imports, late ones too; what only a type checker imports does not count."""
    found = set()
    for node in _at_run_time(tree(path)):
        within = node.module or "" if isinstance(node, ast.ImportFrom) else ""
        for alias in node.names:  # a module, or a name in one
            found.add(file_of(f"{within}.{alias.name}".lstrip(".")) or file_of(within))
    return {name(file) for file in found - {None, path}}


def _at_run_time(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield node
    for child in ast.iter_child_nodes(node):
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and child in node.body):
            yield from _at_run_time(child)


def file_of(module: str) -> Path | None:
    """A module's or package's file; None for what is none of the package's: other packages, names in a module."""
    place = ROOT / module.replace(".", "/")
    found = [path for path in (place.with_suffix(".py"), place / "__init__.py") if path.exists()]
    return found[0] if found and module.split(".")[0] == "kdam_ray" else None


def docstrings(module: ast.Module) -> set[int]:
    """ids of the nodes that are docstrings or attribute docstrings: bare strings as statements."""
    return {
        id(node.value)
        for node in ast.walk(module)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_arrows_point_one_way(path):
    mine = LAYERS.index(layer(path))
    for module in imports(path):
        theirs = layer_of_module(module)
        assert theirs is None or LAYERS.index(theirs) <= mine, (
            f"{name(path)} ({layer(path)}) imports {module} ({theirs})"
        )
        assert theirs != "jobs" or layer(path) == "entries", f"{name(path)} imports {module}: nothing imports a job"


@pytest.mark.parametrize("path", [path for path in SOURCES if layer(path) == "plain"], ids=name)
def test_plain_data_is_plain(path):
    foreign = packages(path) - set(sys.stdlib_module_names) - PLAIN_MAY_USE - {"kdam_ray"}
    assert not foreign


@pytest.mark.parametrize("path", [path for path in SOURCES if layer(path) in ("plain", "core")], ids=name)
def test_core_knows_no_service(path):
    assert not packages(path) & NOT_IN_CORE


def test_only_tracking_writes_to_mlflow():
    rooms = ("kdam_ray/service/records/", "kdam_ray/service/finished/models.py")
    assert [name(path) for path in SOURCES if "mlflow" in packages(path) and not name(path).startswith(rooms)] == []
    writes = re.compile(r"client\.(log|set|create|update|delete|finalize|restore|rename)_")
    clients = [path for path in SOURCES if "boto3" not in packages(path)]  # S3 has clients too
    found = [name(path) for path in clients if writes.search(path.read_text())]
    assert found == ["kdam_ray/service/records/tracking.py"]


def test_only_storage_knows_s3():
    knows = set()
    for path in SOURCES:
        spoken = docstrings(tree(path))
        constants = [
            n
            for n in ast.walk(tree(path))
            if isinstance(n, ast.Constant) and isinstance(n.value, str) and id(n) not in spoken
        ]
        if packages(path) & {"boto3", "botocore", "s3fs", "fsspec"} or "pyarrow.fs" in {m[:10] for m in imports(path)}:
            knows.add(name(path))
        if any("s3://" in constant.value for constant in constants):
            knows.add(name(path))
    assert knows <= {"kdam_ray/service/records/storage.py"}


def test_ray_and_optuna_stay_in_the_service():
    for path in SOURCES:
        if packages(path) & {"ray", "optuna"}:
            assert layer(path) == "service", name(path)


def test_each_has_a_room_of_its_own():
    rooms = {"ray": "kdam_ray/service/pool/", "optuna": "kdam_ray/service/search/"}
    for package, room in rooms.items():
        assert [name(path) for path in SOURCES if package in packages(path) and room not in name(path)] == []


def test_no_import_goes_in_a_circle():
    """Late imports count too."""
    TopologicalSorter({name(path): own_imports(path) for path in SOURCES}).prepare()  # a CycleError names one


def test_planning_knows_no_pool_and_imports_neither_ray_nor_torch():
    service = ROOT / "kdam_ray/service"
    files = [path for each in AT_PLANNING for path in (service / f"{each}.py", *(service / each).glob("*.py"))]
    there = [path for path in files if path.exists() and path.stem != "__init__"]
    assert [name(path) for path in there if any("service.pool" in module for module in imports(path))] == []
    modules = [name(path).removesuffix(".py").replace("/", ".") for path in there]
    assert heavy(f"import {', '.join(modules)}") == "[]"


def test_a_plan_that_was_made_before_imports_neither_ray_nor_torch(tmp_path):
    """The networks' operations are counted once, with torch."""
    code = f"""
from kdam_ray.config import Place, Sweep
from kdam_ray.recipes import recipe
from kdam_ray.service.sweep import plan, resolve
place = Place(storage={str(tmp_path)!r}, gpus=False)
run = resolve(recipe("rooms", smoke=True).student, place)
assert plan(Sweep(name="light", base=run, cells=({{}}, {{"seed": 1}})), place).cohorts
"""
    heavy(code)
    assert heavy(code) == "[]"


def heavy(code: str) -> str:
    """Which of Ray and torch are there after this code, in a process of its own."""
    said = "import sys; print([name for name in ('ray', 'torch') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{said}"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("path", SOURCES + TESTS, ids=name)
def test_files_stay_readable(path):
    assert len(path.read_text().splitlines()) <= LONGEST_FILE


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_functions_stay_readable(path):
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            documented = ast.get_docstring(node) is not None
            first = node.body[1] if documented and len(node.body) > 1 else node.body[0]
            lines = (node.end_lineno or 0) - first.lineno + 1
            assert lines <= LONGEST_FUNCTION, f"{name(path)}:{node.lineno} {node.name} has {lines} lines"


@pytest.mark.parametrize("path", SOURCES + TESTS, ids=name)
def test_every_file_says_what_it_is(path):
    assert path.read_text().strip() == "" or ast.get_docstring(tree(path)), f"{name(path)} has no docstring"


@pytest.mark.parametrize(
    ("source", "wrong"),
    [
        ("def f():\n    import ray", {"ray"}),
        ("from mlflow import MlflowClient", {"mlflow"}),
        ("import torch", set()),
        ("if True:\n    import optuna.samplers as o", {"optuna"}),
    ],
)
def test_the_reading_sees_late_imports(source, wrong, tmp_path, monkeypatch):
    """The test of the tests: a breach would be seen."""
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    path = tmp_path / "breach.py"
    path.write_text(source)
    assert packages(path) & NOT_IN_CORE == wrong
