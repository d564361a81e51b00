"""The root of a dataset: a packaging or shards in a folder, or shards under an S3 URI, fetched as they are needed."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from kdam_ray.data.shards.manifest import MANIFEST, Shard, parse_manifest
from kdam_ray.data.source import Split
from kdam_ray.files import remembered_hashes
from kdam_ray.service.records.storage import Storage, check_reachable, is_remote
from kdam_ray.tasks import Dataset


def local_root(
    root: str | None, dataset: Dataset, wanted: Mapping[Split, int | None], *, cache: Path | None = None
) -> str | None:
    """A root that files can be opened in: itself, or a folder into which what is `wanted` of remote shards was fetched.

    Args:
        root: folder, S3 URI or None.
        dataset: that the shards must hold.
        wanted: per split how many images, the first ones; None: all.
        cache: folder for what is fetched; None: the node's.

    Raises:
        ValueError: no such bucket, or see `RemoteShards`.
    """
    if not is_remote(root, field="root"):
        return root
    remote = RemoteShards(str(root))
    return str(remote.fetch(dataset, wanted, cache or remote.storage.cache()))


class RemoteShards:
    """Shards under a URI.

    Raises:
        ValueError: no such bucket, or there are none.
    """

    def __init__(self, root: str):
        check_reachable(root, writes=False, field="root")
        self.storage, self.root = Storage(root, field="root"), root
        text = self.storage.read_bytes(MANIFEST)
        if text is None:
            raise ValueError(f"root: {root} holds no {MANIFEST}; `kdam prepare-data` writes shards there")
        self._text, self.manifest = text, parse_manifest(text, self.storage.uri(MANIFEST))

    def fingerprint(self, dataset: Dataset, split: Split, images: int, image_size: tuple[int, int]) -> str:
        """Fingerprint of the first `images`, from the manifest; the shards must be there, but are not read.

        Raises:
            ValueError: a shard is missing or cut off, or see `Manifest.split`.
        """
        rows = self.manifest.split(split, dataset, images, self.root, image_size)
        for shard in rows.needed(images):
            size = self.storage.file_size(shard.name)
            if size != shard.bytes:
                found = "no such file" if size is None else f"has {size} bytes"
                where = self.storage.uri(shard.name)
                raise ValueError(f"{where}: {found}, but {MANIFEST} says {shard.bytes} bytes; write it again")
        return rows.fingerprint_of(images)

    def fetch(self, dataset: Dataset, wanted: Mapping[Split, int | None], cache: Path) -> Path:
        """A local folder with the shards that hold the first images of each split, fetched by one process of a node.

        Raises:
            ValueError: a shard is missing or damaged; names it.
        """
        folder = cache / "shards" / hashlib.sha256(self.storage.root.encode()).hexdigest()[:16]
        hashes = folder / ".hashes"
        self.storage.fetch_once(MANIFEST, lambda path: path.read_bytes() == self._text, folder=folder)
        for split, images in wanted.items():
            rows = self.manifest.split(split, dataset, images, self.root)
            for shard in rows.needed(len(rows.ids) if images is None else images):
                self._fetch(shard, folder, hashes)
        return folder

    def _fetch(self, shard: Shard, folder: Path, hashes: Path) -> None:
        def is_right(path: Path) -> bool:
            return path.stat().st_size == shard.bytes and remembered_hashes(folder, [path], hashes)[0] == shard.sha256

        where = self.storage.uri(shard.name)
        try:
            path = self.storage.fetch_once(shard.name, is_right, folder=folder)
        except FileNotFoundError:
            raise ValueError(f"{where}: no such file, but {MANIFEST} lists it; write it again") from None
        if not is_right(path):
            raise ValueError(f"{where}: is damaged, its SHA-256 is not what {MANIFEST} says; write it again")
