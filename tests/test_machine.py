"""How many CPUs a process may use: its binding, its container's share, whatever the Python and the system.

python -m pytest tests/test_machine.py
"""

import os
import subprocess
import sys

import pytest

from kdam_ray import machine
from kdam_ray.machine import usable_cpus


@pytest.fixture
def system(tmp_path, monkeypatch):
    """Eight CPUs and no control group; returns a function that writes a group's files."""
    for name in ("process_cpu_count", "sched_getaffinity"):
        monkeypatch.delattr(os, name, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(machine, "CGROUPS", tmp_path / "groups")
    monkeypatch.setattr(machine, "MINE", tmp_path / "mine")

    def write(path: str, text: str) -> None:
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")

    return write


@pytest.mark.usefixtures("system")
def test_without_binding_and_groups_all_of_them():
    assert usable_cpus() == 8


@pytest.mark.usefixtures("system")
def test_a_system_that_does_not_know_has_one(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cpus() == 1


@pytest.mark.usefixtures("system")
@pytest.mark.parametrize(
    ("name", "call"), [("process_cpu_count", lambda: 3), ("sched_getaffinity", lambda pid: {1, 4, 5})]
)
def test_a_binding_counts(monkeypatch, name, call):
    monkeypatch.setattr(os, name, call, raising=False)
    assert usable_cpus() == 3


@pytest.mark.parametrize(
    ("limit", "cpus"), [("200000 100000", 2), ("150000 100000", 2), ("10000 100000", 1), ("max 100000", 8)]
)
def test_a_share_of_a_group_is_rounded_up(system, limit, cpus):
    system("mine", "0::/")
    system("groups/cpu.max", limit)
    assert usable_cpus() == cpus


def test_the_tightest_group_above_counts(system):
    system("mine", "0::/pods/one")
    system("groups/pods/cpu.max", "300000 100000")
    system("groups/pods/one/cpu.max", "max 100000")
    assert usable_cpus() == 3


@pytest.mark.parametrize("folder", ["groups/cpu,cpuacct/docker/one", "groups/cpu"])
def test_groups_of_the_first_version(system, folder):
    """In a container the path is the host's and only the mount's root is there."""
    system("mine", "5:memory:/docker/one\n4:cpu,cpuacct:/docker/one")
    system(f"{folder}/cpu.cfs_quota_us", "250000")
    system(f"{folder}/cpu.cfs_period_us", "100000")
    assert usable_cpus() == 3


@pytest.mark.parametrize("text", ["", "max", "nonsense here", "1 0"])
def test_a_file_that_says_nothing_limits_nothing(system, text):
    system("mine", "0::/")
    system("groups/cpu.max", text)
    assert usable_cpus() == 8


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no process")
def test_the_real_one():
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\nfrom kdam_ray.machine import usable_cpus"
    )
    done = subprocess.run([sys.executable, "-c", f"{code}\nprint(usable_cpus())"], capture_output=True, text=True)
    assert done.stdout == "1\n", done.stderr
