"""Storage, shards and checkpoints on a server that speaks S3, over HTTP on this machine.

python -m pytest tests/service/records/test_storage.py
"""

import contextlib
import os
import socket
import subprocess
import sys
from types import SimpleNamespace

import boto3
import numpy as np
import pytest
import torch
from fakes import make_run
from moto.server import ThreadedMotoServer
from packaging_files import write_packaging

from kdam_ray.config import Place
from kdam_ray.data.packaged.nyud import open_nyud
from kdam_ray.data.shards.manifest import MANIFEST, UNFINISHED
from kdam_ray.data.shards.writer import write_shards
from kdam_ray.files import file_digest
from kdam_ray.learning import checkpoint
from kdam_ray.report.scores import open_request, progress
from kdam_ray.service.layout import open_sources, resolve
from kdam_ray.service.records import storage as storage_module
from kdam_ray.service.records.checkpoints import epochs_done, latest_checkpoint, save_checkpoint
from kdam_ray.service.records.remote_shards import RemoteShards
from kdam_ray.service.records.storage import Storage, check_reachable
from kdam_ray.service.records.weight_files import store_weights, weights_of
from kdam_ray.tasks import DATASETS

pytestmark = pytest.mark.slow

NYUD = DATASETS["nyud"]
SERVER = {
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@pytest.fixture(scope="module")
def endpoint():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint, tmp_path, monkeypatch):
    """An empty bucket, reached by the environment alone; a cache of the test's own."""
    for name, value in SERVER.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
    monkeypatch.setattr(Storage, "cache", lambda self: tmp_path / "cache")
    storage_module._check_bucket.cache_clear()
    client = boto3.client("s3")
    client.create_bucket(Bucket="kdam")
    yield client
    for item in client.list_objects_v2(Bucket="kdam").get("Contents", []):
        client.delete_object(Bucket="kdam", Key=item["Key"])
    client.delete_bucket(Bucket="kdam")


@pytest.fixture
def storage(bucket):
    return Storage("s3://kdam/runs")


@pytest.fixture(scope="module")
def packaging(tmp_path_factory):
    return write_packaging(tmp_path_factory.mktemp("data") / "nyud", 10, 3)


@pytest.fixture
def remote(bucket, packaging):
    for split in ("train", "val"):
        list(write_shards(open_nyud(packaging, split), NYUD, split, Storage("s3://kdam/nyud"), per_shard=4))
    return "s3://kdam/nyud"


def keys(client, prefix=""):
    """Without the empty ones that pyarrow writes for folders."""
    found = [item["Key"] for item in client.list_objects_v2(Bucket="kdam", Prefix=prefix).get("Contents", [])]
    return sorted(key for key in found if not key.endswith("/"))


def keep(storage, epoch, value=None):
    folder = storage.scratch() / "checkpoint"
    checkpoint.write(
        folder, weights={"w": torch.full((3,), float(value or epoch))}, state={}, manifest={"epoch": epoch}
    )
    save_checkpoint(storage, "abc", epoch, folder)


def scratch_of(storage):
    return sorted(storage._scratch.glob("*")) if storage._scratch.exists() else []


# ---- checkpoints


def test_the_newest_two_checkpoints_are_kept_and_found(storage, bucket):
    for epoch in (1, 2, 3):
        keep(storage, epoch)
    assert storage.list("checkpoints/abc") == ["epoch_0002", "epoch_0003"]
    assert epochs_done(storage, "abc") == 3
    weights = checkpoint.read(latest_checkpoint(storage, "abc"))[0]
    assert weights["w"].tolist() == [3.0, 3.0, 3.0]
    assert latest_checkpoint(storage, "other") is None


@pytest.mark.parametrize("spoil", ["manifest", "weights"])
def test_half_a_checkpoint_gives_way_to_the_one_before(storage, bucket, spoil):
    keep(storage, 1)
    keep(storage, 2)
    if spoil == "manifest":
        bucket.delete_object(Bucket="kdam", Key="runs/checkpoints/abc/epoch_0002/manifest.json")
        assert epochs_done(storage, "abc") == 1
    else:
        bucket.put_object(Bucket="kdam", Key="runs/checkpoints/abc/epoch_0002/weights.safetensors", Body=b"x")
    assert checkpoint.verify(latest_checkpoint(storage, "abc"))["epoch"] == 1


def test_a_fetched_checkpoint_is_used_again_until_it_changes(storage):
    keep(storage, 1)
    first = latest_checkpoint(storage, "abc")
    node = (first / "manifest.json").stat().st_ino
    again = latest_checkpoint(Storage(storage.root), "abc")
    assert (again, (again / "manifest.json").stat().st_ino) == (first, node)
    keep(storage, 1, value=7)  # trained again: the same name, other weights
    assert checkpoint.read(latest_checkpoint(storage, "abc"))[0]["w"][0] == 7
    assert len(list(first.parent.glob("[!.]*"))) == 1


def test_a_damaged_copy_is_fetched_again(storage):
    keep(storage, 1)
    copy = latest_checkpoint(storage, "abc") / "weights.safetensors"
    content = copy.read_bytes()
    copy.write_bytes(content[:-1] + b"!")
    assert (latest_checkpoint(storage, "abc") / "weights.safetensors").read_bytes() == content


def test_weight_files_are_fetched_once(bucket, tmp_path):
    file = tmp_path / "net.pth"
    file.write_bytes(b"weights")
    storage = Storage("s3://kdam/runs")
    run = make_run(pretrained=store_weights(Place(storage=storage.root), file))
    copy = weights_of(storage, run)
    node = copy.stat().st_ino
    assert copy.read_bytes() == b"weights"
    assert weights_of(storage, run).stat().st_ino == node
    copy.write_bytes(b"damaged")
    assert weights_of(storage, run).read_bytes() == b"weights"


def test_a_fetched_file_is_ones_own_and_gone_when_the_process_ends(storage, tmp_path, endpoint):
    journal = tmp_path / "journal"
    journal.write_text("line\n")
    storage.save_file(journal, "studies/a.journal")
    left, right = storage.fetch("studies/a.journal"), storage.fetch("studies/a.journal")
    assert left != right
    assert left.read_text() == right.read_text() == "line\n"
    code = "import sys; from kdam_ray.service.records.storage import Storage; print(Storage('s3://kdam/runs').fetch('studies/a.journal'))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        check=True,
    )
    assert done.stdout.startswith(str(tmp_path))
    assert not os.path.exists(done.stdout.strip())


def test_tidying_takes_what_nobody_has_touched_for_a_day(storage):
    old, used = storage.scratch(), storage.scratch()
    os.utime(old, (0, 0))
    (used / "journal").write_text("fresh")
    os.utime(used, (0, 0))
    storage.tidy()
    assert scratch_of(storage) == [used]


def test_files_by_name(storage, tmp_path):
    big = tmp_path / "big"
    big.write_bytes(os.urandom(9 * 2**20))  # more than one piece
    storage.save_file(big, "a/big")
    assert storage.file_size("a/big") == big.stat().st_size
    assert storage.read_bytes("a/big") == big.read_bytes()
    assert storage.digest("a/big") == file_digest(big)
    storage.remove_file("a/big")
    storage.remove_file("a/big")
    assert (storage.read_bytes("a/big"), storage.digest("a/big"), storage.file_size("a/big")) == (None, None, None)
    with pytest.raises(FileNotFoundError, match="s3://kdam/runs/a/big"):
        storage.fetch("a/big")


def test_the_endpoint_may_stand_in_the_uri(bucket, endpoint, monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    uri = f"s3://kdam/here?endpoint_override={endpoint.removeprefix('http://')}&scheme=http"
    check_reachable(uri, writes=True)
    storage = Storage(uri)
    keep(storage, 4)
    assert epochs_done(Storage(storage.root), "abc") == 4
    assert keys(bucket)[0].startswith("here/checkpoints/abc/epoch_0004/")
    assert storage.uri("x/y") == uri.replace("/here?", "/here/x/y?")


# ---- the look ahead


def test_a_bucket_that_is_there_passes_and_nothing_is_left_in_it(bucket):
    check_reachable("s3://kdam/runs", writes=True)
    check_reachable("s3://kdam", writes=True)
    check_reachable(None, writes=True)
    check_reachable("/some/folder", writes=True)
    assert keys(bucket) == []


def test_a_missing_bucket_is_named_with_its_endpoint(bucket, endpoint):
    with pytest.raises(ValueError, match=f"storage: bucket other at {endpoint} .*no such bucket"):
        check_reachable("s3://other/runs", writes=True)
    with pytest.raises(ValueError, match="root: bucket other"):
        check_reachable("s3://other/runs", writes=False, field="root")


def test_a_server_that_is_not_there_is_named(bucket, monkeypatch):
    with contextlib.closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", address)
    storage_module._check_bucket.cache_clear()
    with pytest.raises(ValueError, match=f"storage: bucket kdam at {address} cannot be used") as error:
        check_reachable("s3://kdam/runs", writes=True)
    assert "\n" not in str(error.value)


def test_without_credentials_it_is_said(bucket, monkeypatch, tmp_path):
    for name in SERVER:
        if name.startswith("AWS_") and "KEY" in name:
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(ValueError, match=r"storage: bucket kdam .*credentials"):
        check_reachable("s3://kdam/runs", writes=True)


def test_the_bucket_is_looked_at_before_a_run_is_planned(bucket, packaging):
    with pytest.raises(ValueError, match="storage: bucket nowhere"):
        resolve(run_of(3, 2), Place(storage="s3://nowhere/runs", root=str(packaging), gpus=False))
    with pytest.raises(ValueError, match="root: bucket nowhere"):
        resolve(run_of(3, 2), Place(storage="s3://kdam/runs", root="s3://nowhere/nyud", gpus=False))


# ---- shards


def run_of(train, val):
    return make_run(dataset="nyud", image_size=(32, 48), train_images=train, val_images=val, batch=1)


def local(packaging):
    return Place(storage="s3://kdam/runs", root=str(packaging), gpus=False)


def test_shards_in_a_bucket_are_those_of_a_folder(bucket, remote, packaging, tmp_path):
    list(write_shards(open_nyud(packaging, "train"), NYUD, "train", Storage(str(tmp_path / "shards")), per_shard=4))
    for path in (tmp_path / "shards").glob("*.parquet"):
        assert bucket.get_object(Bucket="kdam", Key=f"nyud/{path.name}")["Body"].read() == path.read_bytes()
    assert keys(bucket, "nyud/") == [
        "nyud/dataset.json",
        *(f"nyud/train-0000{n}-of-00003.parquet" for n in range(3)),
        "nyud/val-00000-of-00001.parquet",
    ]  # fmt: skip


def test_writing_to_a_bucket_goes_on_where_it_was_cut_short(bucket, packaging):
    storage, source = Storage("s3://kdam/nyud"), open_nyud(packaging, "train")
    begun = write_shards(source, NYUD, "train", storage, per_shard=4)
    next(begun)
    begun.close()
    assert keys(bucket, "nyud/") == ["nyud/train-00000-of-00003.parquet", "nyud/" + UNFINISHED.format(split="train")]
    first = bucket.head_object(Bucket="kdam", Key="nyud/train-00000-of-00003.parquet")["LastModified"]
    assert list(write_shards(source, NYUD, "train", storage, per_shard=4)) == [4, 8, 10]
    assert bucket.head_object(Bucket="kdam", Key="nyud/train-00000-of-00003.parquet")["LastModified"] == first
    assert "nyud/" + MANIFEST in keys(bucket)
    assert not [key for key in keys(bucket) if "unfinished" in key]


def test_a_run_on_remote_shards_is_the_run_on_the_packaging(remote, packaging, tmp_path):
    run, place = run_of(5, 2), local(packaging)
    far = place.model_copy(update={"root": remote})
    assert resolve(run, far) == resolve(run, place)
    assert not (tmp_path / "cache" / "shards").exists()  # planning fetches no shard
    here, there = open_sources(run, place), open_sources(run, far)
    for left, right in zip(here, there, strict=True):
        assert left.fingerprint == right.fingerprint
        for index in range(len(left)):
            assert all(np.array_equal(left[index][name], right[index][name]) for name in left[index])
    fetched = sorted(path.name for path in (tmp_path / "cache" / "shards").glob("*/[!.]*"))
    assert fetched == [
        MANIFEST,
        "train-00000-of-00003.parquet",
        "train-00001-of-00003.parquet",
        "val-00000-of-00001.parquet",
    ]


def test_shards_are_fetched_once_and_damaged_copies_again(remote, tmp_path):
    wanted = {"train": 10, "val": 3}
    folder = RemoteShards(remote).fetch(NYUD, wanted, tmp_path / "cache")
    nodes = {path.name: path.stat().st_ino for path in folder.glob("[!.]*")}
    (folder / "val-00000-of-00001.parquet").write_bytes(b"damaged")
    assert RemoteShards(remote).fetch(NYUD, wanted, tmp_path / "cache") == folder
    changed = {path.name for path in folder.glob("[!.]*") if path.stat().st_ino != nodes[path.name]}
    assert changed == {"val-00000-of-00001.parquet"}


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (
            lambda client: client.delete_object(Bucket="kdam", Key="nyud/val-00000-of-00001.parquet"),
            ("val-00000", "no such file"),
        ),
        (
            lambda client: client.put_object(Bucket="kdam", Key="nyud/val-00000-of-00001.parquet", Body=b"x"),
            ("val-00000", "1 bytes"),
        ),
        (
            lambda client: client.delete_object(Bucket="kdam", Key="nyud/dataset.json"),
            ("s3://kdam/nyud", "dataset.json"),
        ),
        (
            lambda client: client.put_object(Bucket="kdam", Key="nyud/dataset.json", Body=b"{"),
            ("s3://kdam/nyud/dataset.json",),
        ),
    ],
    ids=["missing", "short", "no manifest", "no json"],
)
def test_bad_remote_shards_are_refused_before_anything_starts(bucket, remote, packaging, spoil, words):
    spoil(bucket)
    with pytest.raises(ValueError) as error:  # noqa: PT011  the words follow
        resolve(run_of(5, 2), local(packaging).model_copy(update={"root": remote}))
    assert "\n" not in str(error.value)
    assert all(word in str(error.value) for word in words), error.value


def test_a_damaged_remote_shard_is_refused_when_it_is_fetched(bucket, remote, tmp_path):
    key = "nyud/val-00000-of-00001.parquet"
    content = bucket.get_object(Bucket="kdam", Key=key)["Body"].read()
    bucket.put_object(Bucket="kdam", Key=key, Body=content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ValueError, match=r"s3://kdam/nyud/val-00000-of-00001\.parquet: is damaged"):
        RemoteShards(remote).fetch(NYUD, {"train": 1, "val": 1}, tmp_path / "cache")


def test_predictions_are_scored_against_remote_shards(remote, packaging, tmp_path):
    for name in ("0010", "0011", "0012"):
        (tmp_path / "depth").mkdir(exist_ok=True)
        np.save(tmp_path / "depth" / f"{name}.npy", np.full((32, 48), 2.0, np.float32))
    asked = SimpleNamespace(
        dataset="nyud",
        split="val",
        predictions=str(tmp_path),
        convention="atrc",
        edge_ids=None,
        edge_truth="regions",
        allow_missing=False,
    )
    scores = []
    for root in (remote, str(packaging)):
        asked.root = root
        scores.append(progress(open_request(asked), processes=1).metrics)
    assert scores[0] == scores[1]
    assert scores[0].keys() == {"depth/rmse"}


def test_other_schemes_are_refused():
    with pytest.raises(ValueError, match="root: 'gs://bucket/x'"):
        resolve(run_of(1, 1), Place(root="gs://bucket/x", gpus=False))
