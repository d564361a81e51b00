"""Which context ATRC lets each task take from each other: the types, and the combinations it was published with.

ATRC (reference [3] of the paper) found them by a differentiable search over `CONTEXT_TYPES`, one choice per pair of
target and source; `kdam search-contexts` repeats that search on any dataset. A `Run` with `decoder="atrc"` carries
its combination, so that a changed default can never change a recorded run.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from pydantic import TypeAdapter, ValidationError

ContextType = Literal["none", "global", "local", "target", "source"]
CONTEXT_TYPES: tuple[ContextType, ...] = get_args(ContextType)
Contexts = dict[str, dict[str, ContextType]]  # target -> source -> type


def _table(tasks: Sequence[str], rows: dict[str, str]) -> Contexts:
    """One digit a source, in the order of `tasks`: the index into CONTEXT_TYPES, as ATRC's own files write it."""
    return {
        target: {source: CONTEXT_TYPES[int(digit)] for source, digit in zip(tasks, row, strict=True)}
        for target, row in rows.items()
    }


# the published results of the search with HRNet18
GENOTYPES: dict[str, Contexts] = {
    "nyud": _table(
        ("semseg", "depth", "normals", "edge"),
        {"semseg": "3344", "depth": "4344", "normals": "4334", "edge": "3313"},
    ),
    "pascal": _table(
        ("semseg", "human_parts", "sal", "normals", "edge"),
        {"semseg": "33404", "human_parts": "33434", "sal": "33343", "normals": "33334", "edge": "33313"},
    ),
}


def published_contexts(tasks: Sequence[str]) -> Contexts:
    """The published combination for these tasks: of NYUD-v2 if it covers them, else of PASCAL-Context.

    Raises:
        ValueError: neither covers them.
    """
    for genotype in GENOTYPES.values():
        if set(tasks) <= set(genotype):
            return {target: {source: genotype[target][source] for source in tasks} for target in tasks}
    raise ValueError(
        f"contexts: ATRC was published for {' or '.join('+'.join(genotype) for genotype in GENOTYPES.values())}, "
        f"not for {'+'.join(tasks)}"
    )


def check_contexts(contexts: Contexts, tasks: Sequence[str]) -> None:
    """Every pair of tasks has a type.

    Raises:
        ValueError: a target or source is missing, or there is one too many; names it.
    """
    found: dict[str, set[str]] = {"contexts": set(contexts)} | {
        f"contexts.{target}": set(row) for target, row in contexts.items()
    }
    for where, names in found.items():
        if names != set(tasks):
            raise ValueError(
                f"{where} has {sorted(names)}, but the tasks are {sorted(tasks)}: "
                "each target needs a type for each source"
            )


def read_contexts(path: str | Path) -> Contexts:
    """The combination that a JSON file holds: {"semseg": {"semseg": "target", "depth": "none"}, ...}.

    Raises:
        ValueError: no such file, or something else in it; names the file and the entry.
    """
    try:
        content = json.loads(Path(path).read_text())
        return TypeAdapter(Contexts).validate_python(
            content.get("contexts", content) if isinstance(content, dict) else content
        )
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"contexts: {path} is not a readable JSON file ({error})") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(
            f"contexts: {path}, {'.'.join(map(str, first['loc']))}: {first['msg']} (got {first['input']!r})"
        ) from error
