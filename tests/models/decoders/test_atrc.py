"""ATRC: each type of context against its equation, which parts exist for which contexts, and the printed cost.

pytest tests/models/decoders/test_atrc.py
"""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from kdam_ray.contexts import CONTEXT_TYPES, GENOTYPES
from kdam_ray.models import activation_bytes, network_cost
from kdam_ray.models.decoders.atrc import ATRC, CONTEXT_BLOCKS, context_block, label_tasks, spatial_softmax
from kdam_ray.tasks import DATASETS
from kdam_ray.zoo import BACKBONES

pytestmark = pytest.mark.usefixtures("in_float64")

NYUD, ROOMS, PASCAL = DATASETS["nyud"], DATASETS["rooms"], DATASETS["rooms_pascal"]
CHANNELS, HIDDEN, INNER, SIZE = (4, 6, 8, 10), 8, 4, (6, 8)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def maps(count=2, seed=0):
    return [
        draw(count, width, -(-SIZE[0] // 2**k), -(-SIZE[1] // 2**k), seed=seed + k) for k, width in enumerate(CHANNELS)
    ]


def everywhere(kind, tasks):
    return {target.name: {source.name: kind for source in tasks} for target in tasks}


def build(tasks=ROOMS.tasks, contexts=None, seed=0):
    torch.manual_seed(seed)
    return ATRC(CHANNELS, tasks, replace(BACKBONES["resnet_w8"], hidden=HIDDEN), contexts=contexts)


def attended(kind, *, regions_t=None, regions_s=None):
    """A block in eval mode, its output, and its projections of target and source, flat [B, inner, n]."""
    torch.manual_seed(0)
    block = context_block(kind, HIDDEN, INNER).eval()
    for layer in block.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight), nn.init.normal_(layer.bias)
    target, source = draw(2, HIDDEN, *SIZE, seed=1), draw(2, HIDDEN, *SIZE, seed=2)
    output = block(target, source, regions_t, regions_s)
    return block.project, target, source, output.flatten(2)


def test_global_context_is_attention_with_positive_features():
    project, target, source, output = attended("global")
    query, key, value = (x.flatten(2) for x in project(target, source))
    assert (query < 0).any(), "no ReLU before softplus"
    weights = torch.einsum("bci,bcj->bij", F.softplus(query), F.softplus(key))
    expected = torch.einsum("bij,bcj->bci", weights / weights.sum(2, keepdim=True), value)
    torch.testing.assert_close(output, expected)


def test_local_context_is_attention_with_a_mask_nine_wide():
    project, target, source, output = attended("local")
    query, key, value = (x.flatten(2) for x in project(target, source))
    y, x = (grid.flatten() for grid in torch.meshgrid(*map(torch.arange, SIZE), indexing="ij"))
    near = ((y[:, None] - y).abs() <= 4) & ((x[:, None] - x).abs() <= 4)
    assert not near.all()
    scores = torch.einsum("bci,bcj->bij", query, key) / INNER**0.5
    weights = scores.masked_fill(~near, -torch.inf).softmax(2)
    torch.testing.assert_close(output, torch.einsum("bij,bcj->bci", weights, value))


@pytest.mark.parametrize("kind", ["target", "source"])
def test_region_contexts_attend_to_classes(kind):
    regions = spatial_softmax(draw(2, 5, *SIZE, seed=3))
    torch.testing.assert_close(regions.sum(2), torch.ones(2, 5))
    wrong = spatial_softmax(draw(2, 5, *SIZE, seed=4))
    given = (
        {"regions_t": regions, "regions_s": wrong} if kind == "target" else {"regions_t": wrong, "regions_s": regions}
    )
    project, target, source, output = attended(kind, **given)
    gathered = torch.einsum("bcn,bln->bcl", source.flatten(2), regions)
    query, key, value = (x.flatten(2) for x in project(target, gathered.unsqueeze(3)))
    weights = (torch.einsum("bci,bcl->bil", query, key) / INNER**0.5).softmax(2)
    torch.testing.assert_close(output, torch.einsum("bil,bcl->bci", weights, value))


def test_blocks_exist_for_every_type_but_none():
    assert ("none", *CONTEXT_BLOCKS) == CONTEXT_TYPES
    for kind in CONTEXT_BLOCKS:
        assert {name.split(".")[1] for name, _ in context_block(kind, HIDDEN, INNER).named_parameters()} == {
            "query",
            "key",
            "value",
        }
        scale = [
            name
            for name, _ in context_block(kind, HIDDEN, INNER, affine=False).named_parameters()
            if name.startswith("project.value")
        ]
        assert scale == ["project.value.0.weight"]


def test_contexts_are_silent_when_training_begins_and_speak_afterwards():
    decoder = build().eval()
    silent = decoder(maps())
    for block in decoder.contexts.values():
        assert not block.gather(draw(2, 4 * INNER, *SIZE)).any()
        nn.init.ones_(block.gather[1].weight)
    assert not any(torch.allclose(silent[name], logits) for name, logits in decoder(maps()).items())


@pytest.mark.parametrize("kind", CONTEXT_TYPES)
@pytest.mark.parametrize("tasks", [ROOMS.tasks, PASCAL.tasks, ROOMS.tasks[1:2]], ids=["nyud", "pascal", "depth"])
def test_every_combination_has_what_it_uses_and_nothing_else(kind, tasks):
    decoder = build(tasks, everywhere(kind, tasks)).train()
    outputs = decoder(maps())
    expected = {f"classified/label/{task.name}" for task in tasks} if kind in ("target", "source") else set()
    assert {key for key in outputs if "/" in key} == expected
    for task in tasks:
        assert outputs.get(f"classified/label/{task.name}", draw(2, task.label_classes, *SIZE)).shape == (
            2,
            task.label_classes,
            *SIZE,
        )
    sum(value.square().mean() for value in outputs.values()).backward()
    assert not [name for name, parameter in decoder.named_parameters() if parameter.grad is None]


def test_label_maps_are_predicted_where_some_pair_reads_them():
    contexts = everywhere("none", ROOMS.tasks)
    assert label_tasks(contexts) == set()
    contexts["depth"]["normals"] = "target"
    contexts["edge"]["semseg"] = "source"
    assert label_tasks(contexts) == {"depth", "semseg"}
    decoder = build(contexts=contexts).train()
    assert list(decoder.contexts["depth"].blocks) == ["normals"]
    assert decoder.contexts["semseg"].gather is None
    assert {key for key in decoder(maps()) if "/" in key} == {"classified/label/semseg", "classified/label/depth"}


@pytest.mark.parametrize("tasks", [ROOMS.tasks, PASCAL.tasks], ids=["nyud", "pascal"])
def test_none_given_is_the_published_combination(tasks):
    names = [task.name for task in tasks]
    genotype = next(genotype for genotype in GENOTYPES.values() if set(genotype) == set(names))
    ours, named = build(tasks).eval(), build(tasks, genotype).eval()
    assert all(torch.equal(ours(maps())[name], named(maps())[name]) for name in names)
    with pytest.raises(ValueError, match=r"contexts\.semseg"):
        build(tasks, {name: {} for name in names})


def test_losses_of_the_label_maps_do_not_reach_the_backbone():
    levels = [x.requires_grad_() for x in maps()]
    decoder = build().train()
    outputs = decoder(levels)
    sum(value.square().mean() for key, value in outputs.items() if "/" in key).backward()
    assert all(x.grad is None for x in levels)
    nn.init.ones_(decoder.contexts["semseg"].gather[1].weight)
    decoder.zero_grad()
    decoder(levels)["semseg"].square().mean().backward()
    assert decoder.labels.logits["semseg"].weight.grad.abs().sum() > 0, "but contexts train the label maps they use"
    assert all(x.grad is not None for x in levels)


def test_the_whole_of_it_step_by_step():
    """Every type somewhere; whose features query, whose are read, whose labels gather."""
    names = [task.name for task in ROOMS.tasks]
    rows = [
        ("target", "source", "none", "local"),
        ("global", "target", "source", "source"),
        ("none",) * 4,
        ("source", "local", "target", "none"),
    ]
    contexts = {target: dict(zip(names, row, strict=True)) for target, row in zip(names, rows, strict=True)}
    decoder = build(contexts=contexts).eval()
    for layer in decoder.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight), nn.init.normal_(layer.bias)
    for layer in decoder.labels.logits.values():
        nn.init.normal_(layer.weight)  # regions that differ
    levels = maps()
    joined = torch.cat([F.interpolate(x, size=SIZE, mode="bilinear") for x in levels], 1)
    features = dict(zip(names, decoder.features(joined), strict=True))
    regions = {name: logits.flatten(2).softmax(2) for name, logits in decoder.labels(joined).items()}
    outputs = decoder(levels)
    for target in names:
        blocks, refined = decoder.contexts[target], features[target]
        sources = [source for source in names if contexts[target][source] != "none"]
        if sources:
            read = [
                (features[target], features[source], regions.get(target), regions.get(source)) for source in sources
            ]
            found = [blocks.blocks[source](*arguments) for source, arguments in zip(sources, read, strict=True)]
            refined = torch.cat([refined, blocks.gather(torch.cat(found, 1))], 1)
        torch.testing.assert_close(outputs[target], decoder.logits[target](blocks.refine(refined)))


def test_order_of_tasks_does_not_matter():
    """The same weights under their names, tasks in another order: the same logits."""
    here, there = build().eval(), build(ROOMS.tasks[::-1], seed=1).eval()
    names = [task.name for task in ROOMS.tasks]
    own = here.state_dict()
    moved = {}
    for key, value in own.items():
        if key.startswith(("features", "labels.trunk")) and value.dim():
            value = torch.cat(value.chunk(4)[::-1])
        if key.startswith("contexts") and ".gather.0" in key:
            value = torch.cat(value.chunk(4, 1)[::-1], 1)
        moved[key] = value
    there.load_state_dict(moved)
    for name in names:
        torch.testing.assert_close(there(maps())[name], here(maps())[name])


@pytest.mark.slow
def test_cost_of_table_1():
    """5.06 M and 25.76 G are printed; its authors' counter also counts what is neither layer nor product (2 %)."""
    cost = network_cost("hrnet18", "atrc", NYUD.tasks, image_size=(425, 560))
    assert cost.params == 5_060_994
    assert cost.params / 1e6 == pytest.approx(5.06, rel=1e-3)
    assert cost.all_macs / 1e9 == pytest.approx(25.29, abs=0.01)
    assert cost.all_macs / 1e9 == pytest.approx(25.76, rel=0.03)


@pytest.mark.slow
def test_cost_of_pascal_context():
    """The published head has 5.383 M parameters for the five tasks with 21 semantic classes."""
    tasks = [replace(task, channels=21) if task.name == "semseg" else task for task in PASCAL.tasks]
    assert network_cost("hrnet18", "atrc", tasks, image_size=(512, 512)).params / 1e6 == pytest.approx(5.383, abs=5e-4)


@pytest.mark.usefixtures("in_float32")
@pytest.mark.slow
def test_memory_of_a_training_step():
    """Nothing is quadratic in pixels: eight images, even with 16 local contexts, below 8 GB."""
    for contexts in (None, everywhere("local", NYUD.tasks)):
        assert activation_bytes("hrnet18", "atrc", NYUD.tasks, image_size=(425, 560), batch=8, contexts=contexts) < 8e9
