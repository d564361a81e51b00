"""Law 3, one process equals two, over gloo: python -m pytest tests/learning/test_two_processes.py

In float64. Training magnifies rounding: after four steps of float32, weights that are summed in another order are apart
by as much as the processor's vector width will have it, so that a tolerance there would test the processor. Here the
order of sums is worth 1e-15, and what remains is the law.
"""

from pathlib import Path

import pytest
import tiny
import torch
import torch.distributed as dist
from torch import nn
from two_ranks import free_port

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


def train(rank: int, world: int, port: int, folder: Path) -> None:
    torch.set_num_threads(1)
    if world > 1:
        dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    member_module.network_of = lambda *args, **options: tiny.in_float64(
        without_batch_norm(network_of(*args, **options))
    )
    context_search.SAMPLED = len(CONTEXT_TYPES)  # all types take part, without noise: ranks may draw different ones
    torch.rand_like = lambda x: torch.full_like(x, 0.5)
    nn.Dropout2d.forward = lambda self, x: x
    # logits start almost constant otherwise, where Pearson's correlation (dist) magnifies rounding
    heads.LOGIT_STD = 0.5
    torch.manual_seed(5)
    teacher = Teacher(build_network("resnet_w8", "mt_baseline", DATASETS["rooms"].tasks, image_size=(32, 48)))
    # plain SGD: Adam would divide tiny rounding differences by tiny second moments
    runs = {method: tiny.make_run(method, epochs=1, optim=Optim(lr=2e-3)) for method in METHODS}
    runs |= {decoder: tiny.make_run("kdam", decoder=decoder, epochs=1, optim=Optim(lr=2e-3)) for decoder in DECODERS}
    names = {run.run_id: name for name, run in runs.items()}
    sources = {"train": tiny.TinySource(16, seed=1), "val": tiny.TinySource(5, seed=2)}
    for report in train_cohort(list(runs.values()), **sources, teacher=tiny.in_float64(teacher)):
        if isinstance(report, EpochReport) and rank == 0:
            report.save(folder / names[report.run.run_id])
    if world > 1:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    folder, port = tmp_path_factory.mktemp("ranks"), free_port()
    torch.multiprocessing.spawn(train, args=(1, port, folder / "one"), nprocs=1)
    torch.multiprocessing.spawn(train, args=(2, port, folder / "two"), nprocs=2)
    return folder


@pytest.mark.parametrize("method", [*METHODS, *DECODERS])
def test_two_processes_train_what_one_trains(method, both):
    one, _, one_manifest = checkpoint.read(both / "one" / method)
    two, _, two_manifest = checkpoint.read(both / "two" / method)
    assert all(value.dtype == torch.float64 for value in one.values() if value.is_floating_point())
    for name, value in one.items():
        torch.testing.assert_close(
            two[name], value, rtol=1e-9, atol=1e-9, msg=lambda text, name=name: f"{name}: {text}"
        )
    ours, expected = two_manifest["metrics"], one_manifest["metrics"]
    assert ours.keys() == expected.keys()
    for name, value in expected.items():
        # of the five evaluation images none is counted twice and none lost; they are scored in float32
        assert ours[name] == pytest.approx(value, rel=1e-6 if name.startswith("val/") else 1e-9, abs=1e-12), name
