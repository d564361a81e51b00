"""InvPT: joint attention and its messages against a reference in loops, the pyramid's sizes, and the cost.

pytest tests/models/decoders/test_invpt.py
"""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from kdam_ray.models import activation_bytes, network_cost
from kdam_ray.models.decoders.invpt import (
    HEADS,
    POOLS,
    InvPT,
    JointAttention,
    PerTask,
    Stage,
    UpEmbed,
    enlarge_scores,
    token_width,
)
from kdam_ray.tasks import DATASETS
from kdam_ray.zoo import BACKBONES

pytestmark = pytest.mark.usefixtures("in_float64")

NYUD, ROOMS = DATASETS["nyud"], DATASETS["rooms"]
CHANNELS, SIZE, WIDTH, TASKS = (4, 6, 8, 10), (13, 18), 8, 3


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def maps(size=SIZE, count=2, seed=0, channels=CHANNELS):
    return [
        draw(count, width, -(-size[0] // 2**k), -(-size[1] // 2**k), seed=seed + k) for k, width in enumerate(channels)
    ]


def shaken(module, seed=0):
    """Every parameter away from its start, norms and biases among them."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return module.eval()


def build(tasks=ROOMS.tasks, seed=0):
    torch.manual_seed(seed)
    return InvPT(CHANNELS, tasks, replace(BACKBONES["resnet_w8"], dim=16))


def reference(module, x, message=None):
    """`JointAttention` task by task and head by head.

    Args:
        message: {(head, task of the query, task of the key): [B, h, w, keys]}, on the grid of the stage before.

    Returns:
        {task: [B, C, h', w']} and the scores as `message`.
    """
    conv, norm = module.reduce
    width = x.shape[1] // TASKS
    parts = x.split(width, dim=1)
    query, key, value = [], [], []
    for t, part in enumerate(parts):
        share = slice(t * width, (t + 1) * width)
        reduced = F.conv2d(part, conv.weight[share], stride=2, padding=1, groups=width)
        reduced = F.batch_norm(
            reduced, norm.running_mean[share], norm.running_var[share], norm.weight[share], norm.bias[share]
        )
        pooled = F.avg_pool2d(part, module.pool, ceil_mode=True)
        query.append(module.query(reduced.permute(0, 2, 3, 1)))
        key.append(module.key(pooled.flatten(2).transpose(1, 2)))
        value.append(module.value(pooled.flatten(2).transpose(1, 2)))
    size, half = query[0].shape[1:3], width // HEADS
    scores = {}
    for head in range(HEADS):
        cut = slice(head * half, (head + 1) * half)
        for t in range(TASKS):
            for s in range(TASKS):
                scores[head, t, s] = torch.einsum("bhwc,bkc->bhwk", query[t][..., cut], key[s][..., cut]) / width**0.5
    if message is not None:
        weight = module.fuse.weight[..., 0, 0]
        grown = {
            at: F.interpolate(m.permute(0, 3, 1, 2), size=size, mode="bilinear").permute(0, 2, 3, 1)
            for at, m in message.items()
        }
        scores = {
            (head, t, s): sum(
                weight[head, j] * scores[j, t, s] + weight[head, HEADS + j] * grown[j, t, s] for j in range(HEADS)
            )
            for head, t, s in scores
        }
    outputs = []
    for t in range(TASKS):
        heads = []
        for head in range(HEADS):
            chances = torch.cat([scores[head, t, s] for s in range(TASKS)], dim=-1).softmax(-1)
            values = torch.cat([v[..., head * half : (head + 1) * half] for v in value], dim=1)
            heads.append(torch.einsum("bhwk,bkc->bhwc", chances, values))
        outputs.append(module.output(torch.cat(heads, dim=-1)).permute(0, 3, 1, 2))
    return torch.cat(outputs, dim=1), scores


def assert_scores(actual, expected):
    """[B, heads, h, w, T, keys of all tasks] against {(head, t, s): [B, h, w, keys]}; keys run pixel by pixel."""
    actual = actual.unflatten(-1, (-1, TASKS))
    for (head, t, s), value in expected.items():
        torch.testing.assert_close(actual[:, head, :, :, t, :, s], value)


@torch.no_grad()
def test_joint_attention_and_its_messages_follow_the_equations():
    torch.manual_seed(0)
    coarse = shaken(JointAttention(2 * WIDTH, TASKS, 2, first=True))
    fine = shaken(JointAttention(WIDTH, TASKS, 4, first=False), seed=1)
    for module in (coarse, fine):
        module.reduce[1].running_mean.copy_(draw(module.reduce[1].num_features, seed=2))
    small, large = draw(2, TASKS * 2 * WIDTH, 5, 6, seed=3), draw(2, TASKS * WIDTH, 9, 11, seed=4)

    output, scores = coarse(small, None)
    expected, expected_scores = reference(coarse, small)
    assert output.shape == (2, TASKS * 2 * WIDTH, 3, 3)
    torch.testing.assert_close(output, expected)
    assert_scores(scores, expected_scores)

    output, fused = fine(large, scores)
    expected, expected_scores = reference(fine, large, expected_scores)
    assert output.shape == (2, TASKS * WIDTH, 5, 6)
    torch.testing.assert_close(output, expected)
    assert_scores(fused, expected_scores)


def test_scores_grow_as_one_map_a_key():
    scores = draw(2, HEADS, 2, 3, TASKS, 4)
    larger = enlarge_scores(scores, (4, 5))
    alone = F.interpolate(scores[1, 1, :, :, 2, 3][None, None], size=(4, 5), mode="bilinear")[0, 0]
    torch.testing.assert_close(larger[1, 1, :, :, 2, 3], alone)
    assert torch.equal(enlarge_scores(scores, (2, 3)), scores)


@torch.no_grad()
def test_a_stage_without_its_residuals_is_attention_then_mlp():
    stage = shaken(Stage(WIDTH, TASKS, 2, first=True))
    x = draw(2, TASKS * WIDTH, 5, 6)

    def per_task(layer, x):
        return torch.cat([layer(part.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) for part in x.split(WIDTH, dim=1)], dim=1)

    attended, _ = stage.attention(per_task(stage.norm_attention, x), None)
    between = x + F.interpolate(attended, size=(5, 6), mode="bilinear")
    expected = between + per_task(lambda tokens: stage.mlp(stage.norm_mlp(tokens)), between)
    torch.testing.assert_close(stage(x, None)[0], expected)


@torch.no_grad()
def test_between_stages_tasks_keep_to_themselves():
    up = shaken(UpEmbed(WIDTH, WIDTH // 2, TASKS))
    x, skip = draw(2, TASKS * WIDTH, 3, 4), draw(2, WIDTH // 2, 5, 7, seed=1)
    before = up(x, skip).chunk(TASKS, dim=1)
    x[:, WIDTH : 2 * WIDTH] += 1
    after = up(x, skip).chunk(TASKS, dim=1)
    assert [torch.equal(old, new) for old, new in zip(before, after, strict=True)] == [True, False, True]
    moved = up(x, skip + 1).chunk(TASKS, dim=1)
    for old, new in zip(after, moved, strict=True):
        torch.testing.assert_close(new, old + 1)


def test_each_task_has_a_module_of_its_own():
    modules = iter([torch.nn.Identity(), torch.nn.ReLU()])
    x = draw(1, 4, 2, 2)
    assert torch.equal(PerTask(2, lambda: next(modules))(x), torch.cat([x[:, :2], x[:, 2:].relu()], dim=1))


@pytest.mark.parametrize("size", [(107, 140), (128, 128), (12, 16), (13, 18), (8, 5)])
def test_every_stage_has_as_many_keys_and_four_times_the_queries(size):
    """At 425 x 560 the scores of a stage are small, for keys are pooled to half of the coarsest level's grid."""
    grids, scores = [], None
    for level, pool in zip(maps(size, 1, channels=(1,) * 4)[:0:-1], POOLS, strict=True):
        attention = JointAttention(WIDTH, 1, pool, first=scores is None).eval()
        with torch.no_grad():
            _, scores = attention(level.expand(-1, WIDTH, -1, -1), scores)
        grids.append(tuple(scores.shape[2:4]))
        assert scores.shape[-1] == -(-size[0] // 16) * -(-size[1] // 16)
    if size == (107, 140):
        assert grids == [(7, 9), (14, 18), (27, 35)]
        assert scores.shape[-1] == 63


def test_width_is_an_eighth_more_and_its_quarter_divisible_by_the_heads():
    assert token_width(256) == 576
    for dim in (8, 16, 32, 64, 100, 256):
        assert token_width(dim) >= 2 * dim * 9 / 8
        assert token_width(dim) % (4 * HEADS) == 0


def test_the_first_prediction_is_given_while_training_and_feeds_the_last():
    decoder = shaken(build())
    levels = maps()
    with torch.no_grad():
        before = decoder(levels)
        first = decoder.train()(levels)
        decoder.eval().initial.logits["depth"].bias += 1
        after = decoder(levels)
    assert list(before) == [task.name for task in ROOMS.tasks]
    assert [key for key in first if "/" in key] == [f"aux/initial/{task.name}" for task in ROOMS.tasks]
    assert all(
        first[f"aux/initial/{task.name}"].shape == (2, task.channels, *levels[3].shape[2:]) for task in ROOMS.tasks
    )
    assert all(not torch.allclose(before[name], after[name], atol=1e-4) for name in before), (
        "tasks attend to each other"
    )


def test_training_draws_no_random_numbers():
    """Stochastic depth of the published settings is 0."""
    decoder, levels = build().train(), maps()
    state = torch.get_rng_state()
    decoder(levels)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("tasks", [ROOMS.tasks[:1], ROOMS.tasks], ids=len)
def test_all_levels_and_all_parameters_take_part(tasks):
    decoder = build(tasks).train()
    levels = [level.requires_grad_() for level in maps()]
    sum(
        (value * draw(*value.shape, seed=9)).sum() for key, value in decoder(levels).items() if "/" not in key
    ).backward()
    assert all(level.grad.abs().sum() > 0 for level in levels)
    assert not [
        name for name, parameter in decoder.named_parameters() if parameter.grad is None or not parameter.grad.any()
    ]


@pytest.mark.parametrize(("backbone", "params", "gmacs"), [("swin_t", 94.99, 239.85), ("swin_l", 341.70, 407.72)])
def test_cost(backbone, params, gmacs):
    cost = network_cost(backbone, "invpt", NYUD.tasks, image_size=(425, 560))
    assert cost.params / 1e6 == pytest.approx(params, abs=5e-3)
    assert cost.macs / 1e9 == pytest.approx(gmacs, rel=1e-4)


@pytest.mark.usefixtures("in_float32")
def test_a_batch_of_eight_fits():
    assert activation_bytes("swin_t", "invpt", NYUD.tasks, image_size=(425, 560), batch=8) < 12 * 2**30
