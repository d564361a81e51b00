"""Local files and folders that are there whole or not at all."""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path


def move_folder(folder: Path, target: Path) -> None:
    """A finished folder to `target`, replacing what is there; on the disk when this returns."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if folder.stat().st_dev != target.parent.stat().st_dev:
        beside = target.with_name(f".{target.name}.{os.getpid()}")
        shutil.copytree(folder, beside)
        shutil.rmtree(folder)
        folder = beside
    for path in (*folder.iterdir(), folder):
        _fsync(path)
    if target.exists():
        replaced = target.with_name(f".{target.name}.{os.getpid()}.replaced")
        target.rename(replaced)
        folder.rename(target)
        shutil.rmtree(replaced)
    else:
        folder.rename(target)
    _fsync(target.parent)


def copy_file(path: Path, target: Path) -> None:
    """A file to `target`, replacing what is there; on the disk when this returns."""
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    with removed_on_error(beside):
        shutil.copyfile(path, beside)
        _fsync(beside)
        beside.replace(target)


def file_digest(path: Path) -> str:
    """SHA-256, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def one_maker(target: Path) -> Iterator[None]:
    """One process of the node at a time makes `target`; its folder is made if missing."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with locked(target.with_name(f".{target.name}.lock")):
        yield


@contextlib.contextmanager
def removed_on_error(path: Path) -> Iterator[None]:
    """`path`, a file or folder, is gone if the block does not end well."""
    try:
        yield
    except BaseException:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
        raise


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds an advisory lock of the operating system, which a killed process leaves; without one where there are none."""
    handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
    try:
        with contextlib.suppress(ImportError, OSError):
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
