"""What every decoder keeps, whatever it computes.

pytest tests/models/test_decoders.py -k demt
"""

import pytest
import torch

from kdam_ray.config import Optim, Run
from kdam_ray.data.opening import Wanted, open_source
from kdam_ray.learning import EpochReport, train_cohort
from kdam_ray.learning.checkpoint import load_network
from kdam_ray.learning.objective import objective, share
from kdam_ray.models import build_network
from kdam_ray.models.decoders import DECODERS
from kdam_ray.tasks import DATASETS
from kdam_ray.zoo import DECODERS as DECODER_NAMES

ROOMS, PASCAL = DATASETS["rooms"], DATASETS["rooms_pascal"]
SYSTEMS = sorted(DECODERS)
SLOWEST = ("context_search",)  # trains half a minute


def images(count, height, width, seed=1):
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


def build(decoder, tasks=ROOMS.tasks, backbone="resnet_w8", seed=0):
    torch.manual_seed(seed)
    return build_network(backbone, decoder, tasks, image_size=(48, 64))


def labels(count, height, width, dataset=ROOMS):
    """A batch of every task of the dataset, some pixels of each invalid."""
    draw = torch.Generator().manual_seed(3)
    invalid = torch.rand(count, height, width, generator=draw) < 0.1
    classes = torch.randint(0, 7, (count, height, width), generator=draw)
    normals = torch.nn.functional.normalize(torch.randn(count, 3, height, width, generator=draw), dim=1)
    return {
        "semseg": classes.masked_fill(invalid, 255),
        "human_parts": (classes % 7).masked_fill(invalid, 255),
        "sal": (classes % 2).masked_fill(invalid, 255),
        "depth": (classes.float() + 0.5).masked_fill(invalid, 0).unsqueeze(1),
        "normals": normals.masked_fill(invalid.unsqueeze(1), 0),
        "edge": (classes == 1).float().masked_fill(invalid, 255).unsqueeze(1),
    }


def run_of(decoder, dataset=ROOMS, **changes):
    values = {
        "dataset": dataset.name, "image_size": (48, 64), "train_images": 64, "val_images": 16, "batch": 8, "epochs": 1,
        "tasks": tuple(task.name for task in dataset.tasks), "student": "resnet_w8", "decoder": decoder,
        "optim": Optim(name="adamw", lr=4e-3, weight_decay=0.05, warmup=0.1, clip_norm=10.0), "augment": "none",
    }  # fmt: skip
    return Run.model_validate(values | changes)


def test_the_plain_table_names_the_same_decoders():
    assert tuple(DECODERS) == DECODER_NAMES


@pytest.mark.parametrize("size", [(48, 64), (64, 32), (53, 70)])
@pytest.mark.parametrize("decoder", SYSTEMS)
def test_logits_of_every_task_at_a_quarter_of_any_image(decoder, size):
    network = build(decoder)
    for training in (False, True):
        network.train(training)
        outputs = network(images(2, *size))
        assert [key for key in outputs if "/" not in key] == [task.name for task in ROOMS.tasks]
        assert training or not any("/" in key for key in outputs), "auxiliary outputs are for training"
        for task in ROOMS.tasks:
            assert outputs[task.name].shape == (2, task.channels, -(-size[0] // 4), -(-size[1] // 4))


@pytest.mark.parametrize("dataset", [ROOMS, PASCAL], ids=lambda dataset: dataset.name)
@pytest.mark.parametrize("decoder", SYSTEMS)
def test_the_loss_gives_every_parameter_a_gradient(decoder, dataset):
    """Otherwise DDP (find_unused_parameters=False) would wait for ever; auxiliary outputs take part in the loss."""
    network = build(decoder, dataset.tasks).train()
    if decoder == "context_search":
        network.at(0.5)
    batch = {"image": images(2, 48, 64), **labels(2, 48, 64)}
    run = run_of(decoder, dataset)
    outputs = network(batch["image"])
    shared = share(batch, dataset, None)
    loss, terms = objective(run, outputs, shared)
    loss.backward()
    assert not [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())
    alone, _ = objective(run, {key: value for key, value in outputs.items() if "/" not in key}, shared)
    auxiliary = any("/" in key for key in outputs)
    assert (loss != alone) == auxiliary
    assert any(key.endswith("/aux") for key in terms) == any(key.startswith(("aux/", "classified/")) for key in outputs)


@pytest.mark.parametrize("decoder", SYSTEMS)
def test_one_task_alone_is_a_network_too(decoder):
    network = build(decoder, ROOMS.tasks[:1]).train()
    outputs = network(images(2, 48, 64))
    sum(value.square().mean() for value in outputs.values()).backward()
    assert not [name for name, parameter in network.named_parameters() if parameter.grad is None]


@pytest.mark.parametrize("decoder", SYSTEMS)
@pytest.mark.usefixtures("in_float64")
def test_a_sample_does_not_feel_its_batch_neighbours(decoder):
    network = build(decoder).train()
    for seed in range(3):  # batch norm has seen something, and what starts at zero is moved away from it
        network(images(4, 48, 64, seed))
    with torch.no_grad():
        for parameter in network.decoder.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(7)))
        network.eval()
        batch = images(3, 48, 64)
        alone, together = network(batch[:1]), network(batch)
    for key, value in alone.items():
        scale = value.abs().max().item()
        torch.testing.assert_close(together[key][:1], value, rtol=1e-9, atol=1e-9 * scale)


@pytest.mark.parametrize("decoder", SYSTEMS)
def test_bf16_autocast_trains(decoder):
    network = build(decoder).train()
    with torch.autocast("cpu", torch.bfloat16):
        outputs = network(images(2, 48, 64))
    sum(value.float().square().mean() for value in outputs.values()).backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


@pytest.mark.parametrize("decoder", SYSTEMS)
def test_equal_seeds_give_equal_weights_and_steps(decoder):
    gradients = []
    for _ in range(2):
        network = build(decoder).train()
        torch.manual_seed(5)  # drop-out, drop path, Gumbel noise
        sum(value.square().mean() for value in network(images(2, 48, 64)).values()).backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
    assert all(torch.equal(left, right) for left, right in zip(*gradients, strict=True))


@pytest.fixture(scope="module")
def rooms(tmp_path_factory):
    cache = tmp_path_factory.mktemp("rooms")
    return {
        split: open_source(Wanted(ROOMS, split, count, (48, 64)), cache=cache)
        for split, count in (("train", 64), ("val", 16))
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    "decoder", [pytest.param(name, marks=[pytest.mark.long] * (name in SLOWEST)) for name in SYSTEMS]
)
def test_it_learns_rooms_and_its_checkpoint_is_the_same_network(decoder, rooms, tmp_path):
    """Loss falls, mIoU passes what the commonest class alone would give (100 / 17 classes at most), weights load."""
    run = run_of(decoder, epochs=8)
    losses, last = [], None
    for report in train_cohort([run], train=rooms["train"], val=rooms["val"], evaluate_every=8):
        if isinstance(report, EpochReport):
            assert report.failed is None
            losses.append(report.metrics["train/semseg/loss"])
            last = report
            if report.finished:
                report.save(tmp_path / "checkpoint")
    assert losses[-1] < 0.8 * losses[0]
    pixels = torch.cat([torch.from_numpy(rooms["val"][index]["semseg"]).flatten().long() for index in range(16)])
    counts = pixels[pixels != 255].bincount()
    majority = 100 * counts.max() / counts.sum() / 17
    assert last.metrics["val/semseg/mIoU"] > majority
    loaded = load_network(tmp_path / "checkpoint").eval()
    with torch.no_grad():
        ours, again = last._member.network.eval()(images(1, 48, 64)), loaded(images(1, 48, 64))
    assert all(torch.equal(ours[key], again[key]) for key in ours)
