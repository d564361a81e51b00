"""The search for ATRC's contexts: what it samples, how it anneals, and that what it finds is an ATRC.

pytest tests/models/decoders/test_context_search.py
"""

import math

import pytest
import torch

from kdam_ray.config import Optim
from kdam_ray.contexts import CONTEXT_TYPES
from kdam_ray.learning.optimiser import build_optimisers
from kdam_ray.models import build_network
from kdam_ray.models.decoders.context_search import entropy, one_hot, sampled
from kdam_ray.tasks import DATASETS

pytestmark = pytest.mark.usefixtures("in_float64")

TASKS = DATASETS["rooms"].tasks[:2]


def build(decoder, **options):
    torch.manual_seed(0)
    return build_network("resnet_w8", decoder, TASKS, image_size=(48, 64), **options)


def test_two_types_are_drawn_as_often_as_their_logits_say():
    """The largest of a + Gumbel noise is type k with probability softmax(a)_k."""
    logits = torch.tensor([0.0, 1.0, -1.0, 0.5, 2.0])
    draw = torch.Generator().manual_seed(0)
    uniform = torch.rand(20000, 5, generator=draw).clamp(1e-6, 1 - 1e-6)
    weights = sampled(logits.expand(20000, 5), -torch.log(-torch.log(uniform)), tau=0.5)
    assert ((weights > 0).sum(1) <= 2).all()
    torch.testing.assert_close(weights.sum(1), torch.ones(20000))
    shares = weights.argmax(1).bincount(minlength=5) / 20000
    torch.testing.assert_close(
        shares, logits.softmax(0), atol=0.015, rtol=0
    )  # four standard deviations of 20,000 draws


def test_a_small_tau_decides_and_gradients_reach_the_two_that_were_drawn():
    logits = torch.tensor([[0.3, 0.1, 0.2, 0.0, -0.5]], requires_grad=True)
    noise = torch.zeros(1, 5)
    assert sampled(logits, noise, tau=0.01).max() > 0.999
    sampled(logits, noise, tau=1.0)[0, 0].backward()
    assert (logits.grad[0] != 0).tolist() == [True, False, True, False, False]


def test_entropy_is_log_k_when_undecided_and_zero_when_decided():
    assert entropy(torch.zeros(3, 3, 5)).item() == pytest.approx(math.log(5))
    assert entropy(100 * one_hot(torch.randn(3, 3, 5))).item() == pytest.approx(0, abs=1e-6)


def test_the_penalty_grows_from_minus_two_to_six_hundredths():
    network = build("context_search").train()
    image = torch.randn(2, 3, 48, 64)
    for progress, weight in [(0.0, -0.02), (0.25, 0.0), (1.0, 0.06)]:
        network.at(progress)
        assert network(image)["penalty/entropy"].item() == pytest.approx(weight * math.log(5), abs=1e-6)


def test_what_it_chose_is_an_atrc_with_the_same_output():
    """Its eval output is that of ATRC with the chosen contexts and its weights."""
    search = build("context_search").train()
    torch.nn.init.normal_(search.decoder.architecture)
    with torch.no_grad():
        for i, j, kind in [(0, 0, "local"), (0, 1, "source"), (1, 0, "source"), (1, 1, "target")]:
            search.decoder.architecture[i, j, CONTEXT_TYPES.index(kind)] = 9.0
        for parameter in search.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    for _ in range(3):
        search(torch.randn(2, 3, 48, 64))
    contexts = search.decoder.chosen()
    assert contexts == {
        "semseg": {"semseg": "local", "depth": "source"},
        "depth": {"semseg": "source", "depth": "target"},
    }
    found = build("atrc", contexts=contexts)
    state = {}
    for name, value in search.state_dict().items():
        parts = name.split(".")
        if parts[:2] == ["decoder", "targets"]:
            parts[1] = "contexts"
            if parts[3] == "blocks":
                if parts[5] != contexts[parts[2]][parts[4]]:
                    continue
                del parts[5]
        state[".".join(parts)] = value
    missing, unexpected = found.load_state_dict(state, strict=False)
    assert unexpected == ["decoder.architecture"]
    assert all(".value.1." in name for name in missing)  # the learnt gain of the values, which starts at one
    image = torch.randn(2, 3, 48, 64)
    with torch.no_grad():
        ours, theirs = search.eval()(image), found.eval()(image)
    for task in ours:
        torch.testing.assert_close(ours[task], theirs[task])


def test_probabilities_sum_to_one_and_name_every_type():
    table = build("context_search").decoder.probabilities()
    assert list(table) == ["semseg", "depth"]
    assert all(
        list(row) == list(CONTEXT_TYPES) and sum(row.values()) == pytest.approx(1)
        for rows in table.values()
        for row in rows.values()
    )


def test_the_choice_has_an_optimiser_of_its_own():
    network = build("context_search")
    optimisers = build_optimisers(Optim(name="sgd", architecture_lr=0.02), network.named_parameters())
    (group,) = optimisers["architecture"].param_groups
    assert group["params"] == [network.decoder.architecture]
    assert group["lr"] == 0.02
    weights = optimisers["optimiser"].param_groups[0]["params"]
    assert len(weights) == len(list(network.parameters())) - 1
    assert "architecture" not in build_optimisers(Optim(), build("atrc").named_parameters())


def test_mixing_units_learn_at_their_own_rate():
    network = build("nddr_cnn")
    mixing = [parameter for name, parameter in network.named_parameters() if ".mix." in name]
    optimiser = build_optimisers(Optim(mixing_lr=100.0), network.named_parameters())["optimiser"]
    assert [group["factor"] for group in optimiser.param_groups] == [1.0, 100.0]
    assert mixing
    assert optimiser.param_groups[1]["params"] == mixing
