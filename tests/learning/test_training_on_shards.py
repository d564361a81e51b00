"""Training on shards, behind the cache or not, is training on the packaging, bit for bit.

python -m pytest tests/learning/test_training_on_shards.py
"""

import pytest
import torch
from packaging_files import write_packaging

from kdam_ray.data.opening import Wanted, open_source
from kdam_ray.data.shards.writer import write_shards
from kdam_ray.learning import EpochReport, train_cohort
from kdam_ray.learning import checkpoint as checkpoints
from kdam_ray.models import Teacher, build_network
from kdam_ray.service.records.storage import Storage
from kdam_ray.tasks import DATASETS

pytestmark = pytest.mark.slow

NYUD = DATASETS["nyud"]
SIZE = (32, 48)


def trained(run, teacher, folder, **where):
    sources = {
        split: open_source(Wanted(NYUD, split, count, SIZE), **where) for split, count in (("train", 8), ("val", 2))
    }
    metrics = []
    for report in train_cohort([run], train=sources["train"], val=sources["val"], teacher=teacher):
        if isinstance(report, EpochReport):
            metrics.append(report.metrics)
            report.save(folder)
    fingerprints = [source.fingerprint for source in sources.values()]
    return fingerprints, metrics, checkpoints.read(folder)[0]


@pytest.mark.parametrize("method", ["none", "kdam"])
def test_training_on_shards_is_training_on_the_packaging(method, make_run, tmp_path):
    root = write_packaging(tmp_path / "nyud")
    for split in ("train", "val"):
        source = open_source(Wanted(NYUD, split, None, SIZE), root=str(root))
        list(write_shards(source, NYUD, split, Storage(str(tmp_path / "shards")), per_shard=3))
    torch.manual_seed(5)
    teacher = (
        Teacher(build_network("resnet_w8", "mt_baseline", NYUD.tasks, image_size=SIZE)) if method != "none" else None
    )
    run = make_run(method, dataset="nyud", train_images=8, val_images=2)
    found = [
        trained(
            run, teacher, tmp_path / f"trained{number}", root=str(tmp_path / name), cache=cache and tmp_path / cache
        )
        for number, (name, cache) in enumerate(
            [("nyud", None), ("shards", None), ("shards", "a"), ("nyud", "b"), ("nyud", "a")]
        )
    ]
    fingerprints, metrics, weights = found[0]
    assert len(metrics) == 2
    for others in found[1:]:
        assert others[0] == fingerprints
        assert others[1] == metrics
        assert all(torch.equal(others[2][name], weights[name]) for name in weights)
    files = [path.name for path in (tmp_path / "a").glob("*.arrow")]
    assert len(files) == 2  # one a split, whatever they were decoded from
    assert {path.name: path.read_bytes() for path in (tmp_path / "b").glob("*.arrow")} == {
        n: (tmp_path / "a" / n).read_bytes() for n in files
    }
