"""Any split is opened by one function, which imports little: python -m pytest tests/data/test_opening.py"""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from packaging_files import write_packaging

from kdam_ray.data.opening import Wanted, open_source
from kdam_ray.data.packaged.export import export_packaging
from kdam_ray.data.packaged.nyud import open_nyud
from kdam_ray.data.shards.writer import write_shards
from kdam_ray.service.records.storage import Storage
from kdam_ray.tasks import DATASETS

SIZE = (24, 32)


@pytest.mark.parametrize("name", ["rooms", "rooms_pascal"])
def test_procedural_datasets_need_no_root_and_hold_their_tasks(name: str) -> None:
    source = open_source(Wanted(DATASETS[name], "val", 2, SIZE))
    assert len(source) == 2
    assert set(source[1]) == {"image", *(task.name for task in DATASETS[name].tasks)}


FINGERPRINT = """
import sys
from pathlib import Path
from kdam_ray.data.opening import Wanted, open_source
from kdam_ray.tasks import DATASETS
name, root, cache = sys.argv[1], sys.argv[2] or None, Path(sys.argv[3])
source = open_source(Wanted(DATASETS[name], "train", 2, (24, 32)), root=root, cache=cache)
print(source.fingerprint, *({"torch", "numba", "ray"} & set(sys.modules)))
"""


def packaging(folder: Path) -> Path:
    return write_packaging(folder)


def shards(folder: Path) -> Path:
    source = open_nyud(write_packaging(folder / "nyud"), "train")
    list(write_shards(source, DATASETS["nyud"], "train", Storage(str(folder / "shards"))))
    return folder / "shards"


def pascal(folder: Path) -> Path:
    export_packaging(
        open_source(Wanted(DATASETS["rooms_pascal"], "train", 2, SIZE)), DATASETS["rooms_pascal"], folder, "train"
    )
    return folder


@pytest.mark.parametrize(("name", "make"), [("rooms", None), ("nyud", packaging), ("nyud", shards), ("pascal", pascal)])
def test_a_fingerprint_costs_no_torch(name: str, make: Any, tmp_path: Path) -> None:
    """Planning asks for it, and torch takes seconds to import."""
    root = make(tmp_path / "data") if make else None
    wanted = Wanted(DATASETS[name], "train", 2, SIZE)
    expected = open_source(wanted, root=root and str(root)).fingerprint
    command = [sys.executable, "-c", FINGERPRINT, name, str(root or ""), str(tmp_path / "cache")]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert printed.split() == [expected]
