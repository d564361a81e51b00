"""The only place that knows URIs: checkpoints, studies, weight files and shards in a folder or under s3://.

Everything appears under its name only when it is whole. A local folder is written beside, fsynced and renamed; on S3,
which has no rename, the manifest goes last, and a folder without one does not exist. S3 goes through `pyarrow.fs`,
which honours AWS_ENDPOINT_URL, so any S3-compatible server works; boto3 looks whether the bucket is there before
anything starts.
"""

import atexit
import contextlib
import functools
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from kdam_ray.files import PIECE, copy_file, move_folder, one_maker, removed_on_error, stream_digest, written_whole

MANIFEST = "manifest.json"
LEFT_S = {"local": 3600, "s3": 86400}  # scratch that nobody touched for so long was left by a killed process


class Storage:
    """A tree of folders and small files, by names such as `checkpoints/<run_id>/epoch_0003`.

    Args of the constructor:
        root: folder, or s3://bucket/prefix, which may end in ?endpoint_override=host:port&scheme=http.
        field: what errors call it.

    Attributes:
        root: absolute path or s3:// URI.
        local: the root as a Path; None on S3.

    Raises:
        ValueError: a scheme other than s3://, or an S3 URI without a bucket.
    """

    def __init__(self, root: str, *, field: str = "storage"):
        scheme, separator, rest = root.partition("://")
        path, mark, query = rest.partition("?")
        if separator and (scheme != "s3" or not path.strip("/")):
            raise ValueError(f"{field}: {root!r} is neither a folder nor s3://bucket/prefix")
        self.local = None if separator else Path(root).expanduser().absolute()
        self.root = f"{scheme}://{path.rstrip('/')}{mark}{query}" if separator else str(self.local)

    def __reduce__(self) -> tuple[type["Storage"], tuple[str]]:
        return Storage, (self.root,)

    def uri(self, name: str) -> str:
        """Where `name` is, for people and for Ray."""
        if self.local is not None:
            return f"{self.root}/{name}"
        path, mark, query = self.root.partition("?")
        return f"{path}/{name}{mark}{query}"

    def exists(self, name: str) -> bool:
        """Is there a file of that name, or a whole folder?"""
        if self.local is not None:
            return (self.local / name).exists()
        return self._is_file(name) or self._is_file(f"{name}/{MANIFEST}")

    def list(self, name: str) -> list[str]:
        """Sorted names of what lies in a folder; empty where there is none. Half-written things are not listed."""
        if self.local is not None:
            there = (self.local / name).iterdir() if (self.local / name).is_dir() else ()
            return sorted(path.name for path in there if not path.name.startswith("."))
        from pyarrow.fs import FileSelector

        found = self._remote.get_file_info(FileSelector(name, allow_not_found=True))
        return sorted(
            item.base_name for item in found if item.is_file or self._is_file(f"{name}/{item.base_name}/{MANIFEST}")
        )

    def save(self, folder: Path, name: str) -> None:
        """Move a finished local folder to `name`, replacing what is there."""
        if self.local is not None:
            return move_folder(folder, self.local / name)
        self.remove(name)
        for path in sorted(folder.iterdir(), key=lambda path: path.name == MANIFEST):  # the manifest last
            self._upload(path, f"{name}/{path.name}")
        shutil.rmtree(folder)

    def fetch(self, name: str) -> Path:
        """A local folder or file with the content of `name`: itself in local storage, else a copy.

        The copy of a folder is kept under the folder's name and used again while it is the same. That of a file is this
        process's own, which may write to it, and is removed when the process ends.

        Raises:
            FileNotFoundError: there is nothing of that name.
        """
        if self.local is not None:
            if not (self.local / name).exists():
                raise FileNotFoundError(self.uri(name))
            return self.local / name
        if self._is_file(name):
            return self._download(name, self.scratch() / Path(name).name)
        if not self._is_file(f"{name}/{MANIFEST}"):
            raise FileNotFoundError(self.uri(name))
        target = self.copies() / name
        with one_maker(target):
            if not self._same(name, target):
                self._fetch_folder(name, target)
        return target

    def fetch_once(self, name: str, is_right: Callable[[Path], bool], *, folder: Path | None = None) -> Path:
        """A local file that nobody writes to: as `fetch`, but one copy for all processes of the node.

        Args:
            name: of the file.
            is_right: is a copy what it should be, so that it is used again?
            folder: of the copy; None: among the others.

        Raises:
            FileNotFoundError: there is nothing of that name.
        """
        if self.local is not None:
            return self.fetch(name)
        target = (folder or self.copies()) / name
        with one_maker(target):
            if not (target.is_file() and is_right(target)):
                with written_whole(target) as beside:
                    self._download(name, beside)
        return target

    def copies(self) -> Path:
        """Folder of what was fetched from this S3 storage; safe to delete while nothing runs."""
        return self.cache() / "fetched" / hashlib.sha256(self.root.encode()).hexdigest()[:16]

    def _same(self, name: str, target: Path) -> bool:
        """Is the copy of a folder that of the same manifest, its files of the same sizes?"""
        from pyarrow.fs import FileSelector

        stored = {item.base_name: item.size for item in self._remote.get_file_info(FileSelector(name))}
        there = {path.name: path.stat().st_size for path in target.glob("*")}
        return there == stored and (target / MANIFEST).read_bytes() == self.read_bytes(f"{name}/{MANIFEST}")

    def _fetch_folder(self, name: str, target: Path) -> None:
        from pyarrow.fs import FileSelector

        beside = target.with_name(f".{target.name}.{os.getpid()}")
        with removed_on_error(beside):
            beside.mkdir()
            for item in self._remote.get_file_info(FileSelector(name)):
                self._download(f"{name}/{item.base_name}", beside / item.base_name)
            shutil.rmtree(target, ignore_errors=True)
            beside.rename(target)

    def _download(self, name: str, target: Path) -> Path:
        try:
            with self._stream(name) as stream, target.open("wb") as file:
                shutil.copyfileobj(stream, file, PIECE)
        except FileNotFoundError:
            raise FileNotFoundError(self.uri(name)) from None
        return target

    def read_bytes(self, name: str) -> bytes | None:
        """A small file; None where there is none."""
        try:
            with self._stream(name) as stream:
                return stream.read()
        except FileNotFoundError:
            return None

    def digest(self, name: str) -> str | None:
        """SHA-256 of a file, read in pieces; None where there is none."""
        try:
            with self._stream(name) as stream:
                return stream_digest(stream)
        except FileNotFoundError:
            return None

    def _stream(self, name: str) -> Any:
        return self._remote.open_input_stream(name) if self.local is None else (self.local / name).open("rb")

    def file_size(self, name: str) -> int | None:
        """Bytes of a file; None where there is none."""
        if self.local is not None:
            return (self.local / name).stat().st_size if (self.local / name).is_file() else None
        info = self._remote.get_file_info(name)
        return info.size if info.is_file else None

    def save_file(self, path: Path, name: str) -> None:
        """Copy a local file to `name`, replacing what is there."""
        if self.local is None:
            self._upload(path, name)
        else:
            copy_file(path, self.local / name)

    def remove(self, name: str) -> None:
        """Delete a folder, if it is there; on S3 its manifest first, so that no half of it looks whole."""
        if self.local is not None:
            return shutil.rmtree(self.local / name, ignore_errors=True)
        from pyarrow.fs import FileType

        self.remove_file(f"{name}/{MANIFEST}")
        if self._remote.get_file_info(name).type == FileType.Directory:
            self._remote.delete_dir(name)

    def remove_file(self, name: str) -> None:
        """Delete a file, if it is there."""
        if self.local is not None:
            (self.local / name).unlink(missing_ok=True)
        elif self._is_file(name):
            self._remote.delete_file(name)

    def scratch(self) -> Path:
        """A fresh local folder, removed at the end of the process.

        In local storage it is on the same disk, so that `save` is a rename.
        """
        self._scratch.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=self._scratch))
        if self.local is None:
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
        return folder

    @property
    def _scratch(self) -> Path:
        return (self.local or self.cache()) / "scratch"

    def tidy(self) -> None:
        """Remove what killed processes left in scratch, untouched for an hour, or a day on S3: a journal lies there."""
        for folder in self._scratch.glob("*"):
            with contextlib.suppress(OSError):
                touched = max(path.stat().st_mtime for path in (folder, *folder.rglob("*")))
                if time.time() - touched > LEFT_S["s3" if self.local is None else "local"]:
                    shutil.rmtree(folder, ignore_errors=True)

    def cache(self) -> Path:
        """Local folder for what can be computed again (rendered images)."""
        if self.local is not None:
            return self.local / "cache"
        return Path(tempfile.gettempdir()) / f"kdam-cache-{os.getuid()}"

    @functools.cached_property
    def _remote(self) -> Any:
        """pyarrow's file system of what is under the S3 root."""
        from pyarrow.fs import FileSystem, SubTreeFileSystem

        filesystem, prefix = FileSystem.from_uri(self.root)
        return SubTreeFileSystem(prefix, filesystem)

    @property
    def endpoint(self) -> str | None:
        """URL of an S3-compatible server; None: Amazon's."""
        query = {key: values[-1] for key, values in parse_qs(self.root.partition("?")[2]).items()}
        known = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        given = query.get("endpoint_override") or known
        return given if given is None or "://" in given else f"{query.get('scheme', 'https')}://{given}"

    def _is_file(self, name: str) -> bool:
        return self._remote.get_file_info(name).is_file

    def _upload(self, path: Path, name: str) -> None:
        """A local file to `name` on S3, in pieces.

        Raises:
            OSError: it did not arrive whole.
        """
        with path.open("rb") as file, self._remote.open_output_stream(name) as stream:
            shutil.copyfileobj(file, stream, PIECE)
        if (size := self._remote.get_file_info(name).size) != path.stat().st_size:
            raise OSError(f"{self._remote.base_path}{name}: {size} of {path.stat().st_size} bytes arrived")


def is_remote(root: str | None, *, field: str) -> bool:
    """Whether a root is an S3 URI; None is no root.

    Raises:
        ValueError: another URI.
    """
    return root is not None and Storage(root, field=field).local is None


def check_reachable(root: str | None, *, writes: bool, field: str = "storage") -> None:
    """Is the bucket of an S3 URI there, and can it be read and, if need be, written? Folders and None pass.

    Asked once a process, before Ray starts: workers would find out minutes later, each for itself.

    Raises:
        ValueError: no; one line that names bucket and endpoint.
    """
    if root is not None and "://" in root:
        _check_bucket(Storage(root, field=field).root, writes, field)


@functools.cache
def _check_bucket(root: str, writes: bool, field: str) -> None:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    storage = Storage(root, field=field)
    bucket, _, prefix = root.partition("://")[2].partition("?")[0].partition("/")
    key = f"{prefix}/.writable-{os.getpid()}".lstrip("/")
    where = f"bucket {bucket} at {storage.endpoint or 'Amazon S3'}"
    try:
        patience = Config(connect_timeout=5, read_timeout=20, retries={"total_max_attempts": 2})
        client = boto3.Session().client("s3", endpoint_url=storage.endpoint, config=patience)
        client.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=1)
        if writes:
            client.put_object(Bucket=bucket, Key=key, Body=b"")
            client.delete_object(Bucket=bucket, Key=key)
    except ClientError as error:
        raise ValueError(f"{field}: {where} cannot be used: {_reason(error.response.get('Error', {}))}") from None
    except (BotoCoreError, ValueError) as error:
        raise ValueError(f"{field}: {where} cannot be used: {error}") from None


def _reason(answer: dict[str, str]) -> str:
    known = {"NoSuchBucket": "there is no such bucket", "AccessDenied": "these credentials may not"}
    return known.get(answer.get("Code", "")) or f"{answer.get('Code')}: {answer.get('Message')}"
