"""First lines stand alone where a tooltip shows them: python -m pytest tests/test_docstrings.py

That they are one line and end as sentences do, ruff holds (D205, D415); here, that they begin as sentences or noun
phrases do: not "Of a worker group.", which says nothing without the name above it.
"""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(path for folder in ("kdam_ray", "jobs") for path in (ROOT / folder).rglob("*.py"))
FRAGMENT = re.compile(r"(?:Of|By|As|Without|For people|For programs)\b")
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def first_lines(source: str) -> list[str]:
    """Every docstring's first line, with the line that its module, class or function begins at."""
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, DOCUMENTED)]
    spoken = [(getattr(node, "lineno", 1), ast.get_docstring(node)) for node in nodes]
    return [f"{line}: {text.splitlines()[0]}" for line, text in spoken if text]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_first_lines_stand_alone(path):
    assert [line for line in first_lines(path.read_text()) if FRAGMENT.match(line.partition(": ")[2])] == []


def test_a_fragment_would_be_seen():
    found = first_lines('class Shape:\n    """Of a worker group.\n\n    More."""\n\ndef f():\n    """Offers it."""')
    assert [bool(FRAGMENT.match(line.partition(": ")[2])) for line in found] == [True, False]
