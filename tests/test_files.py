"""Bytes are whole or not there, made by one process at a time, and hashed once: python -m pytest tests/test_files.py"""

import hashlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from kdam_ray.files import copy_file, file_digest, move_folder, one_maker, written_whole

HOLDER = """
import sys, time
from pathlib import Path
from kdam_ray.files import one_maker
with one_maker(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""
ASKER = """
import sys
import threading
from pathlib import Path
from kdam_ray.files import one_maker
print("asks", flush=True)
with one_maker(Path(sys.argv[1])):
    print("has it", flush=True)
"""


def started(code: str, target: Path) -> tuple[subprocess.Popen, str]:
    """A process and the first line that it says."""
    process = subprocess.Popen([sys.executable, "-c", code, str(target)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline()


def test_one_makes_and_the_other_waits_until_a_killed_process_leaves(tmp_path: Path) -> None:
    target = tmp_path / "folder" / "made"
    holder, said = started(HOLDER, target)
    asker, _ = started(ASKER, target)
    assert said == "held\n"
    with pytest.raises(subprocess.TimeoutExpired):
        asker.wait(timeout=0.5)
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert asker.communicate(timeout=30)[0] == "has it\n"
    assert [path.name for path in target.parent.iterdir()] == [".made.lock"]


def test_the_maker_may_close_in_another_thread_and_again(tmp_path: Path) -> None:
    with one_maker(tmp_path / "made") as _:
        pass
    maker = one_maker(tmp_path / "made")
    maker.__enter__()
    closing = threading.Thread(target=maker.__exit__, args=(None, None, None))
    closing.start()
    closing.join()
    _, said = started(ASKER.replace('print("asks", flush=True)', ""), tmp_path / "made")
    assert said == "has it\n"


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "folder" / "file"
    with written_whole(target) as beside:
        beside.write_text("new")
        assert not target.exists()

    def fail() -> None:
        with written_whole(target) as beside:
            beside.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [(path.name, path.read_text()) for path in target.parent.iterdir()] == [("file", "new")]


def test_files_are_copied_and_folders_moved_over_what_is_there(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    copy_file(tmp_path / "one" / "file", tmp_path / "two" / "file")
    assert (tmp_path / "two" / "file").read_text() == "one"
    (tmp_path / "one" / "more").write_text("more")
    move_folder(tmp_path / "one", tmp_path / "two")
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == [
        "two",
        "two/file",
        "two/more",
    ]


def test_the_hash_of_a_file_is_its_sha256(tmp_path: Path) -> None:
    content = os.urandom(9 * 2**20)  # more than one piece
    (tmp_path / "file").write_bytes(content)
    assert file_digest(tmp_path / "file") == hashlib.sha256(content).hexdigest()
