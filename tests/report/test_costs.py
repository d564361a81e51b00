"""Costs of Table 1, as near to the print as promised and as in docs/systems.md: pytest tests/report/test_costs.py"""

import re
from pathlib import Path

import pytest

from kdam_ray.cells import SYSTEMS
from kdam_ray.models.decoders import DECODERS
from kdam_ray.paper import TABLES
from kdam_ray.report.costs import as_text, of_networks, table_1
from kdam_ray.tasks import DATASETS

pytestmark = pytest.mark.slow

PRINTED = (Path(__file__).parents[2] / "docs" / "systems.md").read_text()
# largest difference from the print, in percent: of parameters, of GMACs
PROMISED = {
    "single-task": (0.2, 0.5), "MT": (0.2, 0.5), "Cross-Stitch": (1, 3), "NDDR-CNN": (1, 3), "PAD-Net": (1, 3),
    "ATRC": (1, 3), "PAP": (1, 1), "PSD": (1, 1), "MTI-Net": (1, 1), "MTFormer": (5, 25),
}  # fmt: skip


@pytest.fixture(scope="module")
def rows():
    return table_1()


def test_every_row_of_table_1_is_there_with_its_printed_numbers(rows):
    assert [(row.system, row.paper_params_m, row.paper_gmacs) for row in rows] == [
        (row.model, row.fact("params"), row.fact("gmacs")) for row in TABLES["1"].rows
    ]


def test_costs_are_as_near_to_the_print_as_promised(rows):
    for row in rows:
        params, gmacs = PROMISED[row.system.removesuffix("+KDAM")]
        assert abs(row.params_m / row.paper_params_m - 1) < params / 100, row.system
        assert abs(row.gmacs / row.paper_gmacs - 1) < gmacs / 100, row.system
        assert row.note or max(params, gmacs) <= 3, f"{row.system} differs and does not say why"


def test_the_readme_prints_them(rows):
    table = PRINTED
    printed = re.findall(r"\| (?:(?:HRNet18|Swin-\w)) \| ([\d.]+) / ([\d.-]+) \| ([\d.]+) / ([\d.-]+) \|", table)
    ours = {
        (f"{row.params_m:.2f}", f"{row.paper_params_m:.2f}", f"{row.gmacs:.2f}", f"{row.paper_gmacs:.2f}")
        for row in rows
    }
    assert {row for row in printed if row[1] != "-"} <= ours
    # a single-task baseline on Swin is the same construction again: left out
    assert ours - set(printed) == {key for key in ours if float(key[0]) > 100}
    networks = {("mqtransformer", "hrnet18"), ("demt", "swin_t"), ("invpt", "swin_t")}
    for decoder, backbone in networks:
        (row,) = of_networks([backbone], [decoder], DATASETS["nyud"], (425, 560))
        gmacs = row.cost.all_macs / 1e9 if backbone == "hrnet18" else row.gmacs
        assert (f"{row.params_m:.2f}", "-", f"{gmacs:.2f}", "-") in printed


def test_every_decoder_has_a_row_in_the_readme_and_a_system():
    table = PRINTED
    assert set(re.findall(r"`(\w+)\.py`", table)) == set(DECODERS)
    assert {system.decoder for system in SYSTEMS.values()} | {"context_search"} == set(DECODERS)


def test_json_has_the_agreed_keys_and_text_a_line_a_row(rows):
    keys = ["table", "system", "backbone", "dataset", "params_m", "gmacs", "paper_params_m", "paper_gmacs", "note"]
    assert all(list(row.as_json()) == keys for row in rows)
    lines = as_text(rows).splitlines()
    assert sum(line.startswith(row.system) for line, row in zip(lines[1:], rows, strict=False)) == len(rows)
    assert "-0.01" in next(line for line in lines if line.startswith("MT  "))
