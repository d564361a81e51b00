"""What this machine gives the process: the CPUs that it may use."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
MINE = Path("/proc/self/cgroup")


def usable_cpus() -> int:
    """CPUs that this process may use, at least 1.

    Of those that the machine has, the ones that the process is bound to (`taskset`, a batch system), and no more than
    the share that its container is given (`docker --cpus`, Kubernetes' limits), rounded up. `os.cpu_count` knows
    neither, `os.process_cpu_count` exists since Python 3.13 and knows the first, macOS and Windows have neither.
    """
    if hasattr(os, "process_cpu_count"):
        bound = os.process_cpu_count()
    elif hasattr(os, "sched_getaffinity"):
        bound = len(os.sched_getaffinity(0))
    else:
        bound = os.cpu_count()
    return max(1, min([bound or 1, *(math.ceil(share) for share in _shares(MINE, CGROUPS))]))


def _shares(mine: Path, mounted: Path) -> Iterator[float]:
    """CPUs that the control groups of a process leave it, for each group that has a limit; nothing off Linux.

    Args:
        mine: the process's groups, a line each: `0::/path`, or before cgroups v2 `4:cpu,cpuacct:/path`.
        mounted: where groups are folders.
    """
    try:
        lines = mine.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            roots = [mounted, mounted / "unified"]
        elif "cpu" in controllers.split(","):
            roots = [mounted / controllers, mounted / "cpu"]
        else:
            continue
        for root in roots:
            group = Path(path.lstrip("/"))
            for folder in (group, *group.parents):  # a limit holds for all groups within; the last is the root itself
                yield from _share(root / folder)


def _share(group: Path) -> Iterator[float]:
    """Quota over period of one group, both in microseconds; nothing where there is no limit."""
    try:
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota, period = ((group / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
        if quota not in ("max", "-1") and float(period) > 0:
            yield float(quota) / float(period)
    except (OSError, ValueError):  # not mounted here, or no controller of CPUs
        return
