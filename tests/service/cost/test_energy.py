"""Joules come from counters or not at all: python -m pytest tests/service/cost/test_energy.py"""

from pathlib import Path

import pytest

from kdam_ray.service.cost.energy import Energy

RANGE = 1_000_000_000  # microjoules: 1 kJ


def zone(powercap: Path, folder: str, name: str, energy: int) -> Path:
    """A RAPL zone as Linux shows it."""
    path = powercap / folder
    path.mkdir(parents=True)
    for file, content in (("name", name), ("energy_uj", energy), ("max_energy_range_uj", RANGE)):
        (path / file).write_text(f"{content}\n")
    return path


def burn(path: Path, energy: int) -> None:
    (path / "energy_uj").write_text(f"{energy}\n")


def no_nvml():
    raise ModuleNotFoundError("No module named 'pynvml'")


class FakeNvml:
    """Two GPUs; counts in millijoules, as `pynvml` does."""

    class NVMLError(Exception):
        pass

    def __init__(self, **counts: int | None):
        self.counts = counts

    def nvmlInit(self) -> None:
        pass

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        name = uuid.removeprefix("GPU-")
        if name not in self.counts:
            raise self.NVMLError("Not Found")
        return name

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:
        count = self.counts[handle]
        if count is None:
            raise self.NVMLError("Not Supported")
        return count


def test_the_real_package_has_what_is_asked_of_it(tmp_path):
    pynvml = pytest.importorskip("pynvml")
    for name in vars(FakeNvml):
        assert name.startswith("_") or callable(getattr(pynvml, name))
    assert Energy(gpu="none-of-this-machine", powercap=tmp_path).joules() is None


def test_packages_are_summed_and_their_parts_and_the_platform_left_out(tmp_path):
    first, second = (
        zone(tmp_path, "intel-rapl:0", "package-0", 5_000_000),
        zone(tmp_path, "intel-rapl:1", "package-1", 0),
    )
    part, platform = zone(tmp_path, "intel-rapl:0:0", "core", 0), zone(tmp_path, "intel-rapl:2", "psys", 0)
    memory_mapped = zone(tmp_path, "intel-rapl-mmio:0", "package-0", 0)  # the first package once more
    energy = Energy(powercap=tmp_path, nvml=no_nvml)
    assert energy.joules() == 0
    burn(first, 7_000_000)
    burn(second, 1_500_000)
    for path in (part, platform, memory_mapped):
        burn(path, 900_000_000)
    assert energy.joules() == pytest.approx(3.5)


def test_a_counter_that_wraps_around_goes_on(tmp_path):
    package = zone(tmp_path, "intel-rapl:0", "package-0", RANGE - 2_000_000)
    energy = Energy(powercap=tmp_path, nvml=no_nvml)
    seen = []
    for value in (RANGE - 1_000_000, 500_000, 600_000_000, 100_000_000):
        burn(package, value)
        seen.append(energy.joules())
    assert seen == pytest.approx([1.0, 2.5, 602.0, 1102.0])


def test_workers_of_a_node_share_its_packages(tmp_path):
    package = zone(tmp_path, "intel-rapl:0", "package-0", 0)
    workers = [Energy(powercap=tmp_path, nvml=no_nvml, workers_here=2) for _ in range(2)]
    burn(package, 10_000_000)
    assert [worker.joules() for worker in workers] == pytest.approx([5.0, 5.0])


@pytest.mark.parametrize("damage", ["missing", "unreadable", "no_zone"])
def test_without_a_counter_there_is_no_number(tmp_path, damage):
    if damage != "no_zone":
        package = zone(tmp_path, "intel-rapl:0", "package-0", 0)
        (package / "energy_uj").unlink()
    if damage == "unreadable":
        (package / "energy_uj").mkdir()  # as root one may read any file
    assert Energy(powercap=tmp_path, nvml=no_nvml).joules() is None
    assert Energy(powercap=tmp_path / "nowhere", nvml=no_nvml).joules() is None


def test_a_counter_that_disappears_takes_the_number_with_it(tmp_path):
    first, second = zone(tmp_path, "intel-rapl:0", "package-0", 0), zone(tmp_path, "intel-rapl:1", "package-1", 0)
    energy = Energy(powercap=tmp_path, nvml=no_nvml)
    (second / "energy_uj").unlink()
    burn(first, 1_000_000)
    assert energy.joules() is None  # half of it would look like all
    burn(second, 1_000_000)
    assert energy.joules() is None


def test_a_gpu_counts_for_the_process_that_has_it(tmp_path):
    nvml = FakeNvml(aa=1_000, bb=50_000)
    package = zone(tmp_path, "intel-rapl:0", "package-0", 0)
    with_both = Energy(gpu="bb", workers_here=2, powercap=tmp_path, nvml=lambda: nvml)
    alone = Energy(gpu="GPU-aa", powercap=tmp_path / "nowhere", nvml=lambda: nvml)
    nvml.counts = {"aa": 4_000, "bb": 58_000}
    burn(package, 6_000_000)
    assert with_both.joules() == pytest.approx(8 + 6 / 2)
    assert alone.joules() == pytest.approx(3)


def test_a_gpu_that_does_not_count_is_no_counter(tmp_path):
    assert Energy(gpu="cc", powercap=tmp_path, nvml=lambda: FakeNvml(aa=1)).joules() is None
    assert Energy(gpu="aa", powercap=tmp_path, nvml=no_nvml).joules() is None
    old = FakeNvml(aa=None)  # before Volta
    assert Energy(gpu="aa", powercap=tmp_path, nvml=lambda: old).joules() is None


def test_this_machine_has_a_number_or_none():
    joules = Energy(gpu=None).joules()
    assert joules is None or joules >= 0
