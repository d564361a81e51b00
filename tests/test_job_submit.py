"""The sweep as people run it on a cluster: `ray start --head`, `ray job submit`, with token authentication. For real.

python -m pytest tests/test_job_submit.py -s

The cluster has a home, ports and a session folder of its own, and is stopped by the ids of its own processes; other Ray
clusters on the machine are not touched.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RAY = str(Path(sys.executable).parent / "ray")

pytestmark = pytest.mark.long  # a cluster of its own: two minutes in all


@dataclass(frozen=True)
class Head:
    """A running head node.

    Attributes:
        environment: for clients.
        session: Ray's folder.
    """

    environment: dict[str, str]
    session: Path


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def descendants(pid: int) -> list[int]:
    """Ids of a process's children, their children, and so on."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            child, fields = int(stat.parent.name), stat.read_text().rpartition(")")[2].split()
            parents.setdefault(int(fields[1]), []).append(child)
    found, waiting = [], [pid]
    while waiting:
        children = parents.get(waiting.pop(), [])
        found += children
        waiting += children
    return found


def started_at(pid: int) -> str | None:
    """Start time in clock ticks: with the id, it names a process for good. None: it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


def stop(process: subprocess.Popen) -> None:
    """The head and everything it started, by id."""
    family = {pid: started_at(pid) for pid in descendants(process.pid)}
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):  # it waits for what it started, which is ended below
        process.wait(2)
    for pid, start in family.items():
        if start is not None and started_at(pid) == start:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    process.kill()
    process.wait(10)


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    folder = Path(tempfile.mkdtemp(prefix="kr"))  # short: Ray's socket names may have 107 characters
    home = folder / "home"
    home.mkdir()
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "MLFLOW_"))}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = kept | {
        "HOME": str(home),
        "PATH": path,
        "RAY_AUTH_MODE": "token",
        "RAY_USAGE_STATS_ENABLED": "0",
        "OMP_NUM_THREADS": "1",
    }
    subprocess.run([RAY, "get-auth-token", "--generate"], env=environment, check=True, capture_output=True)
    gcs, dashboard, listen, grpc, client, metrics = free_ports(6)
    command = [
        RAY, "start", "--head", "--block", "--num-cpus=2", "--num-gpus=0", '--resources={"driver": 8}',
        f"--temp-dir={folder / 's'}",
        f"--port={gcs}", "--include-dashboard=true", "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}",
        f"--dashboard-agent-listen-port={listen}", f"--dashboard-agent-grpc-port={grpc}",
        f"--ray-client-server-port={client}",
        f"--metrics-export-port={metrics}", "--node-ip-address=127.0.0.1", "--disable-usage-stats",
    ]  # fmt: skip
    with (folder / "head.log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=ROOT)  # as the image's WORKDIR
    try:
        address = f"http://127.0.0.1:{dashboard}"
        wait_for_jobs_api(address, (home / ".ray" / "auth_token").read_text().strip(), process, folder / "head.log")
        yield Head(environment | {"RAY_API_SERVER_ADDRESS": address}, folder / "s")
    finally:
        stop(process)
        shutil.rmtree(folder, ignore_errors=True)


def wait_for_jobs_api(address: str, token: str, process: subprocess.Popen, log: Path) -> None:
    request = urllib.request.Request(f"{address}/api/jobs/", headers={"Authorization": f"Bearer {token}"})
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError):
            if urllib.request.urlopen(request, timeout=5).status == 200:
                return
        time.sleep(1)
    pytest.fail(f"the head did not come up: {log.read_text()[-3000:]}")


@pytest.fixture
def checkout(tmp_path) -> Path:
    """What a checkout holds, with files in it that must not travel."""
    copy = tmp_path / "checkout"
    copy.mkdir()
    for name in ("kdam_ray", "jobs"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (".rayignore", ".gitignore", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, copy / name)
    (copy / "runs").mkdir()
    (copy / "runs" / "mlflow.db").write_bytes(b"changes all the time")
    (copy / "sweep.log").write_text("changes all the time")
    return copy


def submit(head: Head, checkout: Path, *command: str, ships: bool = True) -> subprocess.CompletedProcess:
    """A job in the head's own folder, or with `ships` in a copy of `checkout`."""
    arguments = [RAY, "job", "submit", *(["--working-dir", "."] if ships else []), "--", *command]
    return subprocess.run(arguments, cwd=checkout, env=head.environment, capture_output=True, text=True, timeout=570)


def test_without_the_token_nothing_is_submitted(head, checkout):
    stranger = Head({**head.environment, "HOME": str(checkout)}, head.session)
    done = submit(stranger, checkout, "python", "-c", "print('let in')")
    assert done.returncode != 0
    assert "let in" not in done.stdout


def test_the_smoke_sweep_as_a_submitted_job(head, checkout, tmp_path):
    storage = tmp_path / "runs"
    done = submit(head, checkout, "python", "jobs/sweep_beta_temp.py", "--smoke", "--storage", str(storage))
    output = done.stdout + done.stderr
    assert done.returncode == 0, output[-6000:]
    assert "Table 5a" in output
    assert "Table 5b" in output
    assert "missing" not in output[output.index("Table 5a") :]
    assert (storage / "mlflow.db").exists()
    packages = list(head.session.glob("session_2*/runtime_resources/working_dir_files/_ray_pkg_*/"))
    assert packages
    for package in packages:
        names = {path.name for path in package.iterdir()}
        assert {"jobs", "kdam_ray"} <= names
        assert not names & {"runs", "sweep.log"}
    tables = subprocess.run(
        [
            sys.executable, str(ROOT / "jobs" / "make_tables.py"), "--table", "5", "--smoke", "--format", "json",
            "--storage", str(storage),
        ],
        capture_output=True, text=True, env=head.environment, cwd=tmp_path, check=True,
    )  # fmt: skip
    rows = json.loads(tables.stdout)["rows"]
    cells = {
        (row["beta"], row["temperature"])
        for row in rows
        if row["part"] in ("5a", "5b") and all(row["metrics"].values())
    }
    assert len(cells) == 13


@pytest.mark.parametrize("ships", [True, False], ids=["working-dir", "none"])
@pytest.mark.parametrize("command", ["python jobs/sweep_beta_temp.py", "kdam sweep-beta-temp"])
def test_bad_input_fails_the_job_with_its_line(head, checkout, command, ships):
    done = submit(head, checkout, *command.split(), "--betas", "-1", ships=ships)
    assert done.returncode != 0
    assert "error: distill.beta: Input should be greater than 0" in done.stdout + done.stderr
