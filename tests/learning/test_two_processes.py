"""Law 3, one process equals two, over gloo: python -m pytest tests/learning/test_two_processes.py"""

import socket

import pytest
import tiny
import torch
import torch.distributed as dist
from torch import nn

from kdam_ray.config import Optim
from kdam_ray.contexts import CONTEXT_TYPES
from kdam_ray.learning import EpochReport, checkpoint, train_cohort
from kdam_ray.learning import member as member_module
from kdam_ray.models import Teacher, build_network, heads, network_of
from kdam_ray.models.decoders import context_search
from kdam_ray.tasks import DATASETS

pytestmark = pytest.mark.slow

METHODS = ("none", "plain_kd", "dist", "kdam")
DECODERS = ("pad_net", "context_search")  # with auxiliary predictions; with labels cut into classes and a penalty


def without_batch_norm(module: nn.Module) -> nn.Module:
    """gloo cannot synchronise batch norm (a Run records that); everything else must be equal."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, nn.GroupNorm(1, child.num_features))
        else:
            without_batch_norm(child)
    return module


def train(rank, world, port, folder):
    torch.set_num_threads(1)
    if world > 1:
        dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    member_module.network_of = lambda *args, **options: without_batch_norm(network_of(*args, **options))
    context_search.SAMPLED = len(CONTEXT_TYPES)  # all types take part, without noise: ranks may draw different ones
    torch.rand_like = lambda x: torch.full_like(x, 0.5)
    nn.Dropout2d.forward = lambda self, x: x
    heads.LOGIT_STD = (
        0.5  # logits start almost constant otherwise, where Pearson's correlation (dist) magnifies rounding
    )
    torch.manual_seed(5)
    teacher = Teacher(build_network("resnet_w8", "mt_baseline", DATASETS["rooms"].tasks, image_size=(32, 48)))
    # plain SGD: Adam would divide tiny rounding differences by tiny second moments
    runs = {method: tiny.make_run(method, epochs=1, optim=Optim(lr=2e-3)) for method in METHODS}
    runs |= {decoder: tiny.make_run("kdam", decoder=decoder, epochs=1, optim=Optim(lr=2e-3)) for decoder in DECODERS}
    names = {run.run_id: name for name, run in runs.items()}
    for report in train_cohort(
        list(runs.values()), train=tiny.TinySource(16, seed=1), val=tiny.TinySource(5, seed=2), teacher=teacher
    ):
        if isinstance(report, EpochReport) and rank == 0:
            report.save(folder / names[report.run.run_id])
    if world > 1:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torch.multiprocessing.spawn(train, args=(1, port, folder / "one"), nprocs=1)
    torch.multiprocessing.spawn(train, args=(2, port, folder / "two"), nprocs=2)
    return folder


@pytest.mark.parametrize("method", [*METHODS, *DECODERS])
def test_two_processes_train_what_one_trains(method, both):
    one, _, one_manifest = checkpoint.read(both / "one" / method)
    two, _, two_manifest = checkpoint.read(both / "two" / method)
    for name, value in one.items():
        # four steps of float32 rounding in another order of summation
        torch.testing.assert_close(
            two[name], value, rtol=1e-4, atol=2e-5, msg=lambda text, name=name: f"{name}: {text}"
        )
    for name, value in one_manifest["metrics"].items():
        if name.startswith("train/"):
            assert two_manifest["metrics"][name] == pytest.approx(value, rel=1e-4, abs=1e-6), name
    assert one_manifest["metrics"].keys() == two_manifest["metrics"].keys()
    # five images over two ranks: none counted twice, none lost; metrics of nearly equal weights
    assert two_manifest["metrics"]["val/depth/rmse"] == pytest.approx(
        one_manifest["metrics"]["val/depth/rmse"], rel=1e-3
    )
    assert two_manifest["metrics"]["val/normals/mErr"] == pytest.approx(
        one_manifest["metrics"]["val/normals/mErr"], rel=1e-3
    )
