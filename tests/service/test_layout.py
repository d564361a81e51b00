"""How a place comes to a layout: python -m pytest tests/service/test_layout.py"""

import subprocess
import sys

import pytest

from kdam_ray.config import Place
from kdam_ray.service import layout

TORCH = "import sys; from kdam_ray.service.layout import count_gpus; count_gpus(); print('torch' in sys.modules)"


@pytest.mark.parametrize("build", ["cuda", "hip"])
def test_a_torch_that_was_built_for_gpus_counts_them(monkeypatch, tmp_path, build):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("class cuda:\n    device_count = staticmethod(lambda: 3)\n")
    (tmp_path / "torch" / "version.py").write_text(f"cuda = hip = None\n{build} = '12.6'\n")
    for name in [name for name in sys.modules if name.partition(".")[0] == "torch"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert layout.count_gpus() == 3
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert layout.count_gpus() == 0


def test_one_that_was_not_is_not_even_imported():
    if layout._is_built_for_gpus():
        pytest.skip("this torch was built for GPUs")
    done = subprocess.run([sys.executable, "-c", TORCH], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_gpus_that_are_not_there_are_refused(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(layout, "count_gpus", lambda: 0)
    with pytest.raises(ValueError, match="gpus: there is none on this machine"):
        layout.layout(Place(gpus=True))
    assert not layout.layout(Place()).gpus


def test_a_worker_a_gpu(monkeypatch):
    monkeypatch.setattr(layout, "count_gpus", lambda: 4)
    arranged = layout.layout(Place())
    assert (arranged.workers, arranged.gpus, arranged.split) == (4, True, "ddp")
