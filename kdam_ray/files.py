"""Bytes on a local disk: whole or not at all, hashed, made by one process of the node at a time."""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from filelock import FileLock

PIECE = 8 * 2**20  # bytes of a file that are in memory while it is copied or hashed


# ---- whole or not at all


@contextlib.contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """A path beside `target`, whose file gets that name, on the disk, when the block ends well; else it is gone."""
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}.{os.getpid()}.part")
    with removed_on_error(beside):
        yield beside
        _fsync(beside)
        beside.replace(target)


def copy_file(path: Path, target: Path) -> None:
    """A file to `target`, replacing what is there; on the disk when this returns."""
    with written_whole(target) as beside:
        shutil.copyfile(path, beside)


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


# ---- one at a time


@contextlib.contextmanager
def one_maker(target: Path) -> Iterator[None]:
    """One process of the node at a time makes `target`; its folder is made if missing.

    The lock is the operating system's, so a killed process leaves it; its file, .<name>.lock, stays. Where the file
    system has no locks, nobody waits.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    # a generator may be closed by another thread than began it, so the lock belongs to no thread
    lock = FileLock(target.with_name(f".{target.name}.lock"), thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire()
    except PermissionError:  # somebody else's lock file: working on without it would be two makers
        raise
    except OSError:
        pass
    try:
        yield
    finally:
        lock.release()


# ---- hashes


def stream_digest(stream: IO[bytes]) -> str:
    """SHA-256 of what a stream holds, hex; in large pieces, as each may be a request to a server."""
    found = hashlib.sha256()
    while piece := stream.read(PIECE):
        found.update(piece)
    return found.hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file, hex."""
    with path.open("rb") as file:
        return stream_digest(file)


def remembered_hashes(root: Path, paths: Iterable[Path], cache: Path | None) -> list[str]:
    """SHA-256 of each file, from memory where size and time of change are those of the last time.

    Args:
        root: folder that the paths are under.
        paths: files.
        cache: folder of the memory, which may be lost or damaged; None: hash everything.
    """
    memo = None
    if cache is not None:
        memo = cache / "hashes" / f"{hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]}.json"
    known = {} if memo is None else _load_memo(memo)
    found: dict[str, list] = {}
    for path in paths:
        key, stat = path.relative_to(root).as_posix(), path.stat()
        state = [stat.st_size, stat.st_mtime_ns]
        entry = known.get(key)
        found[key] = entry if entry and entry[:2] == state else [*state, file_digest(path)]
    if memo is not None and any(known.get(key) != entry for key, entry in found.items()):
        with written_whole(memo) as beside:
            beside.write_text(json.dumps(known | found))
    return [entry[2] for entry in found.values()]


def _load_memo(path: Path) -> dict[str, list]:
    try:
        memo = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    entries = memo.items() if isinstance(memo, dict) else ()
    return {key: entry for key, entry in entries if isinstance(entry, list) and len(entry) == 3}
