"""Ctrl-C: one line, exit code 130, and the same command goes on: python -m pytest tests/test_interrupt_job.py"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.long


def test_an_interrupted_job_says_one_line_and_goes_on(tmp_path):
    command = [
        sys.executable, ROOT / "jobs" / "train_student.py", "--smoke", "--epochs", "400",
        "--storage", tmp_path / "runs", "--workers", "1", "--evaluate-every", "400", "--pictures-every", "0",
    ]  # fmt: skip
    log = tmp_path / "stderr"
    environment = os.environ | {"MLFLOW_TRACKING_URI": "", "OMP_NUM_THREADS": "1"}
    with log.open("w") as stderr:
        job = subprocess.Popen(
            list(map(str, command)), stdout=subprocess.PIPE, stderr=stderr, env=environment, start_new_session=True,
            # ignored by what a shell runs in the background
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 150
        while "epoch" not in log.read_text() and time.monotonic() < deadline and job.poll() is None:
            time.sleep(0.2)
        before = log.read_text()
        assert "epoch" in before, before
        os.kill(job.pid, signal.SIGINT)
        assert job.wait(60) == 130
    finally:
        job.kill()
    said = log.read_text()[len(before) :].splitlines()
    assert [line.partition("  ")[2] for line in said[:-1] if ": epoch " not in line] == [
        "interrupted: stopping the workers"
    ]
    assert said[-1] == "interrupted: nothing recorded is lost; the same command goes on from the last epochs"
    planned = subprocess.run(
        [*map(str, command), "--plan"], capture_output=True, text=True, check=True, env=environment, timeout=120
    ).stdout
    left = int(next(line for line in planned.splitlines() if "left:" in line).split()[1])
    assert 0 < left < 800, planned  # of 400 epochs of two steps
