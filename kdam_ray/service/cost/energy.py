"""Joules by the machine's own counters: of this process's GPU (NVML) and of the CPU packages (RAPL); or no number.

NVML is asked through NVIDIA's own package (extra `energy`); without it GPUs have no number. Processor counters are
files of Linux's powercap; many machines let only root read them, and virtual ones have none.
"""

import contextlib
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

POWERCAP = Path("/sys/class/powercap")

Counter = Callable[[], float]


class Energy:
    """Counts joules since it was made: its GPU's, and this worker's share of the CPU packages.

    Every worker of a node reads the same package counters, so each takes an equal share of them; what other programs
    burn there is in it too. GPU counters exist from Volta on and count one GPU each, whoever uses it; a part of a
    divided GPU (MIG) has none. What is neither GPU nor package (memory on some machines, fans, power supply, network)
    is not counted.

    Args of the constructor:
        gpu: UUID of this process's GPU as CUDA gives it, or None on CPUs.
        workers_here: workers of the sweep on this node, which share its packages.
        powercap: folder of the RAPL zones.
        nvml: loads the module `pynvml`, another one in tests; raises ImportError where it is not installed.
    """

    def __init__(
        self,
        *,
        gpu: str | None = None,
        workers_here: int = 1,
        powercap: Path = POWERCAP,
        nvml: Callable[[], Any] | None = None,
    ):
        packages = [_Package(zone, 1 / workers_here) for zone in _packages(powercap)]
        counters: list[Counter] = [*packages, *_gpu_counters(gpu, nvml or (lambda: importlib.import_module("pynvml")))]
        self._counters: list[Counter] | None = counters or None

    def joules(self) -> float | None:
        """The count until now; None where nothing counts, or a counter could no longer be read.

        Package counters wrap around, some within half an hour at full load: ask more often than that.
        """
        if self._counters is not None:
            try:
                return sum(counter() for counter in self._counters)
            except (OSError, ValueError):
                self._counters = None
        return None


def _packages(powercap: Path) -> list[Path]:
    """Zones of whole CPU packages that can be read, without their parts (intel-rapl:0:0) and the platform (psys)."""
    zones = []
    for zone in sorted(powercap.glob("intel-rapl:*")):
        with contextlib.suppress(OSError, ValueError):
            if (zone / "name").read_text().startswith("package"):
                _microjoules(zone / "energy_uj"), _microjoules(zone / "max_energy_range_uj")
                zones.append(zone)
    return zones


class _Package:
    """One package's joules times `share`, wrap-around undone."""

    def __init__(self, zone: Path, share: float):
        self._file, self._share = zone / "energy_uj", share
        self._range = _microjoules(zone / "max_energy_range_uj")
        self._last, self._sum = _microjoules(self._file), 0

    def __call__(self) -> float:
        now = _microjoules(self._file)
        self._sum += now - self._last if now >= self._last else now + self._range - self._last
        self._last = now
        return self._sum * 1e-6 * self._share


def _microjoules(path: Path) -> int:
    return int(path.read_text())


def _gpu_counters(gpu: str | None, load: Callable[[], Any]) -> list[Counter]:
    """One for the GPU, or none: no GPU, no NVML, or a GPU that does not count."""
    if gpu is None:
        return []
    try:
        nvml = load()
    except ImportError:
        return []

    def millijoules() -> int:
        """What the GPU has taken since the driver was loaded."""
        try:
            return nvml.nvmlDeviceGetTotalEnergyConsumption(device)
        except nvml.NVMLError as error:
            raise OSError(f"NVML says {error}") from None

    try:
        nvml.nvmlInit()
        device = nvml.nvmlDeviceGetHandleByUUID(f"GPU-{gpu.removeprefix('GPU-')}")
        start = millijoules()
    except (OSError, nvml.NVMLError):
        return []
    return [lambda: (millijoules() - start) * 1e-3]
