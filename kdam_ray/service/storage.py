"""The only place that knows URIs: checkpoints, studies and weight files in a folder or under s3://.

Everything appears under its name only when it is whole. A local folder is written beside, fsynced and renamed; on S3,
which has no rename, the manifest goes last, and a folder without one does not exist. S3 goes through `pyarrow.fs`, which
honours AWS_ENDPOINT_URL, so any S3-compatible server works.
"""

import hashlib
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from kdam_ray.config import Place, Run

MANIFEST = "manifest.json"
KEPT = 2  # checkpoints of a run: the newest, and the one before in case the newest is damaged


WEIGHT_FILES = (".safetensors", ".pth", ".pt", ".bin")  # what `models.weights` reads


class Storage:
    """A tree of folders and small files, by names such as `checkpoints/<run_id>/epoch_0003`.

    Attributes:
        root: absolute path or s3:// URI.
        local: the root as a Path; None on S3.
    """

    def __init__(self, root: str):
        """
        Raises:
            ValueError: a scheme other than s3://, or an S3 URI without a bucket.
        """
        scheme, separator, rest = root.partition("://")
        if separator and (scheme != "s3" or not rest.strip("/")):
            raise ValueError(f"storage: {root!r} is neither a folder nor s3://bucket/prefix")
        self.local = None if separator else Path(root).expanduser().absolute()
        self.root = root.rstrip("/") if separator else str(self.local)
        self._s3: Any = None

    def __reduce__(self):
        return Storage, (self.root,)

    def uri(self, name: str) -> str:
        """Where `name` is, for people and for Ray."""
        return f"{self.root}/{name}"

    def exists(self, name: str) -> bool:
        """Is there a file of that name, or a whole folder?"""
        if self.local is not None:
            return (self.local / name).exists()
        return self._is_file(name) or self._is_file(f"{name}/{MANIFEST}")

    def list(self, name: str) -> list[str]:
        """Sorted names of what lies in a folder; empty where there is none. Half-written things are not listed."""
        if self.local is not None:
            folder = self.local / name
            return sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")) if folder.is_dir() else []
        from pyarrow.fs import FileSelector

        filesystem, prefix = self._remote()
        found = filesystem.get_file_info(FileSelector(f"{prefix}/{name}", allow_not_found=True))
        return sorted(item.base_name for item in found if item.is_file or self._is_file(f"{name}/{item.base_name}/{MANIFEST}"))

    def save(self, folder: Path, name: str) -> None:
        """Move a finished local folder to `name`, replacing what is there."""
        if self.local is not None:
            return _move_folder(folder, self.local / name)
        filesystem, prefix = self._remote()
        files = sorted((path for path in folder.iterdir()), key=lambda path: path.name == MANIFEST)  # the manifest last
        self.remove(name)
        for path in files:
            with filesystem.open_output_stream(f"{prefix}/{name}/{path.name}") as stream:
                stream.write(path.read_bytes())
        shutil.rmtree(folder)

    def fetch(self, name: str) -> Path:
        """A local folder or file with the content of `name`: itself in local storage, else a copy under `scratch()`.

        Raises:
            FileNotFoundError: there is nothing of that name.
        """
        if self.local is not None:
            if not (self.local / name).exists():
                raise FileNotFoundError(self.uri(name))
            return self.local / name
        filesystem, prefix = self._remote()
        target = self.scratch() / Path(name).name
        if self._is_file(name):
            target.write_bytes(filesystem.open_input_file(f"{prefix}/{name}").read())
            return target
        if not self._is_file(f"{name}/{MANIFEST}"):
            raise FileNotFoundError(self.uri(name))
        target.mkdir()
        from pyarrow.fs import FileSelector

        for item in filesystem.get_file_info(FileSelector(f"{prefix}/{name}")):
            (target / item.base_name).write_bytes(filesystem.open_input_file(item.path).read())
        return target

    def save_file(self, path: Path, name: str) -> None:
        """Copy a local file to `name`, replacing what is there."""
        if self.local is None:
            filesystem, prefix = self._remote()
            with filesystem.open_output_stream(f"{prefix}/{name}") as stream:
                stream.write(path.read_bytes())
            return
        target = self.local / name
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_name(f".{target.name}.{os.getpid()}")
        shutil.copyfile(path, beside)
        _fsync(beside)
        beside.replace(target)

    def remove(self, name: str) -> None:
        """Delete a folder, if it is there; on S3 its manifest first, so that no half of it looks whole."""
        if self.local is not None:
            shutil.rmtree(self.local / name, ignore_errors=True)
            return
        filesystem, prefix = self._remote()
        if self._is_file(f"{name}/{MANIFEST}"):
            filesystem.delete_file(f"{prefix}/{name}/{MANIFEST}")
        from pyarrow.fs import FileType

        if filesystem.get_file_info(f"{prefix}/{name}").type == FileType.Directory:
            filesystem.delete_dir(f"{prefix}/{name}")

    def scratch(self) -> Path:
        """A fresh local folder; in local storage on the same disk, so that `save` is a rename."""
        if self.local is None:
            return Path(tempfile.mkdtemp(prefix="kdam-"))
        (self.local / "scratch").mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(dir=self.local / "scratch"))

    def tidy(self) -> None:
        """Remove what killed processes left in local scratch, more than an hour ago."""
        for folder in (self.local / "scratch").glob("*") if self.local is not None else ():
            if time.time() - folder.stat().st_mtime > 3600:
                shutil.rmtree(folder, ignore_errors=True)

    def cache(self) -> Path:
        """Local folder for what can be computed again (rendered images)."""
        if self.local is not None:
            return self.local / "cache"
        return Path(tempfile.gettempdir()) / f"kdam-cache-{os.getuid()}"

    def _remote(self) -> tuple[Any, str]:
        if self._s3 is None:
            from pyarrow.fs import FileSystem

            self._s3 = FileSystem.from_uri(self.root)
        return self._s3

    def _is_file(self, name: str) -> bool:
        filesystem, prefix = self._remote()
        return filesystem.get_file_info(f"{prefix}/{name}").is_file


def _move_folder(folder: Path, target: Path) -> None:
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


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def checkpoint_name(run_id: str, epoch: int) -> str:
    return f"checkpoints/{run_id}/epoch_{epoch:04d}"


def save_checkpoint(storage: Storage, run_id: str, epoch: int, folder: Path) -> str:
    """Store the local checkpoint `folder` as this epoch's; keep the newest two. Returns its name."""
    name = checkpoint_name(run_id, epoch)
    storage.save(folder, name)
    for old in storage.list(f"checkpoints/{run_id}")[:-KEPT]:
        storage.remove(f"checkpoints/{run_id}/{old}")
    return name


def latest_checkpoint(storage: Storage, run_id: str, *, epoch: int | None = None) -> Path | None:
    """The newest checkpoint of a run whose hashes are right, as a local folder; None if there is none.

    Args:
        storage: where.
        run_id: whose.
        epoch: take only the one of this epoch.
    """
    from kdam_ray.learning import checkpoint

    names = [f"epoch_{epoch:04d}"] if epoch else list(reversed(storage.list(f"checkpoints/{run_id}")))
    for name in names:
        try:
            folder = storage.fetch(f"checkpoints/{run_id}/{name}")
            checkpoint.verify(folder)
        except (ValueError, FileNotFoundError):
            continue
        return folder
    return None


def epochs_done(storage: Storage, run_id: str) -> int:
    """Epochs that the newest checkpoint of a run has behind it (its hashes are not checked); 0 without one."""
    return max((int(name.removeprefix("epoch_")) for name in storage.list(f"checkpoints/{run_id}")), default=0)


def store_weights(place: Place, path: Path) -> str:
    """Put a local weight file into the storage under its hash; returns what `Run.pretrained` says for it.

    Raises:
        ValueError: there is no such file.
    """
    if not path.is_file():
        raise ValueError(f"weights: {path} is not a file")
    if path.suffix not in WEIGHT_FILES:
        raise ValueError(f"weights: {path} is none of {', '.join(WEIGHT_FILES)}")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    storage = Storage(place.storage)
    if not storage.list(f"weights/{digest}"):
        storage.save_file(path, f"weights/{digest}/{path.name}")
    return f"sha256:{digest}"


def weights_of(storage: Storage, run: Run) -> Path | None:
    """The local weight file behind `run.pretrained`, or None if it names none.

    Raises:
        ValueError: the file is not in the storage.
    """
    if not run.pretrained.startswith("sha256:"):
        return None
    name = f"weights/{run.pretrained.removeprefix('sha256:')}"
    files = storage.list(name)  # one, under its own name: the suffix says how it is read
    if not files:
        raise ValueError(f"pretrained: {storage.uri(name)} is missing; store the file with --weights FILE")
    return storage.fetch(f"{name}/{files[0]}")
