"""The study of what distillation gains: variants at several seeds, on images that chose nothing, beside controls."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kdam_ray.report.formats import FORMATS, Cell, Grid
from kdam_ray.report.table_grid import Column, compared_grid, counted, grid_of, ours, short_titles, texts
from kdam_ray.report.tables import RunTable, SeedRow


@dataclass(frozen=True)
class GainTable(RunTable):
    """All variants on one split; the first is the reference of every Delta.

    Attributes:
        heading: what was trained.
        teachers: label -> metrics of the teachers.
    """

    heading: str = ""
    teachers: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def reference(self, row: SeedRow) -> dict[str, float]:
        """The mean of the first variant."""
        return self.means(self.rows[0])

    def competes(self, row: SeedRow, key: str) -> bool:
        """No variant does: the comparisons say what is better."""
        return False


def grids(study: GainTable) -> list[Grid]:
    """Means and deviations, then every comparison with its interval."""
    note = f"Mean ± standard deviation over n seeds. Δ: against the mean of {study.rows[0].label}."
    *metrics, delta = (ours(study, key, "", title) for key, title in short_titles(study).items())
    of_variants = Column("", delta.name, lambda row: Cell("-") if row.label in study.teachers else delta.cell(row))
    columns = [*texts({"": lambda row: row.label, "n": counted}), *metrics, of_variants]
    taught_by = [SeedRow(label, {0: found}) for label, found in study.teachers.items()]
    names = {"variant − rival": lambda item: f"{item.row.label} − {item.rival.label}"}
    compared = compared_grid(study, "What each variant changes", names)
    return [grid_of(study.heading, 1, columns, [*taught_by, *study.rows], (note,)), *([compared] if compared else [])]


def as_text(study: GainTable) -> str:
    """Both tables as a terminal shows them."""
    return FORMATS["text"](grids(study))


def as_json(study: GainTable) -> dict[str, Any]:
    """The table as a JSON document."""
    return {"heading": study.heading, "teachers": study.teachers, "rows": [_row(study, row) for row in study.rows]}


def _row(study: GainTable, row: SeedRow) -> dict[str, Any]:
    numbers = {key: value for key in study.keys if (value := study.number(row, key)) is not None}
    return {
        "variant": row.label,
        "against": row.against,
        "seeds": row.seeds,
        "metrics": {key: value.as_json() for key, value in numbers.items()},
        "differences": {item.key: item.as_json() for item in study.comparisons if item.row is row},
    }
