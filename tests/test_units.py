"""What excites a unit: receptive fields by gradient support, patches, ascent with known optima."""

import numpy as np
import pytest
import torch
from torch import nn

from atarilens import load_agent, rollout
from atarilens.features import (
    Smoothness,
    activations,
    exciting_inputs,
    live_units,
    past_share,
    receptive_fields,
    temporal_lean,
    top_patches,
    unit_activation,
)
from atarilens.features.filters import strongest_filters


@pytest.fixture(scope="module")
def agent():
    return load_agent("untrained-pong-nature")


@pytest.fixture(scope="module")
def played(agent):
    return rollout(agent, 0, 12)


class Padded(nn.Module):
    """Convolutions of the Nature network with padding, without a head."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 2, 8, stride=4, padding=2)
        self.conv2 = nn.Conv2d(2, 2, 4, stride=2, padding=1)
        self.conv3 = nn.Conv2d(2, 2, 3, stride=1, padding=1)

    def forward(self, observation):
        return self.conv3(self.conv2(self.conv1(observation)))


@pytest.mark.parametrize("place", [(0, 0), (2, 3), (4, 1)])
def test_a_receptive_field_is_where_the_gradient_is(agent, place):
    for network, channels in ((agent.network, 4), (Padded(), 1)):
        fields = receptive_fields(network)
        assert [fields[name].size for name in ("conv1", "conv2", "conv3")] == [8, 20, 36]
        x = torch.rand(1, channels, 84, 84, requires_grad=True)
        found = x
        for name, field in fields.items():
            found = getattr(network, name)(found)
            (gradient,) = torch.autograd.grad(
                found[0, :, place[0], place[1]].sum(), x, retain_graph=True
            )
            rows, columns = np.nonzero(np.asarray(gradient[0].abs().sum(0)))
            top, bottom, left, right = field.box(*place)
            assert (rows.min(), rows.max() + 1) == (max(top, 0), min(bottom, 84))
            assert (columns.min(), columns.max() + 1) == (max(left, 0), min(right, 84))


def test_the_fields_of_the_zoo_never_leave_the_screen(agent):
    fields = receptive_fields(agent.network)
    assert [(field.start, field.step) for field in fields.values()] == [(0, 4), (0, 8), (0, 8)]
    assert fields["conv3"].box(6, 6)[1] == 84
    dilated = nn.Sequential(nn.Conv2d(1, 1, 3, dilation=2))
    with pytest.raises(ValueError, match="expected a square convolution without dilation"):
        receptive_fields(dilated)


def test_activations_are_those_of_the_forward_pass(agent, played):
    with torch.no_grad():
        x = torch.from_numpy(played.observations)
        first = agent.network.conv1(x)
        hidden = agent.network.features(x, torch.from_numpy(played.memory))
        logits = agent.network.actor_linear(hidden)
    data = played.observations, played.memory
    np.testing.assert_allclose(activations(agent.network, "conv1", *data), first, atol=1e-5)
    dense = activations(agent.network, "linear", *data)
    np.testing.assert_allclose(dense.clip(0), hidden, atol=1e-5)
    np.testing.assert_allclose(activations(agent.network, "actor_linear", *data), logits, atol=1e-5)
    with pytest.raises(ValueError, match="has no layer 'fc'; it has conv1, conv2, conv3, linear"):
        activations(agent.network, "fc", *data)


def test_top_patches_are_apart_and_ties_and_dead_units_do_no_harm():
    channel = np.zeros((20, 3, 4))
    channel[5, 1, 2], channel[6, 1, 3], channel[15, 2, 0] = 3.0, 2.9, 2.0
    episode = np.repeat([0, 1], 10)
    patches = top_patches(channel, episode, count=3, gap=5)
    assert [(patch.step, patch.place) for patch in patches[:2]] == [(5, (1, 2)), (15, (2, 0))]
    assert patches[2].activation == 0
    dead = top_patches(np.zeros((20, 3, 4)), episode, count=9, gap=5)
    assert len(dead) == 4
    assert {patch.place for patch in dead} == {(0, 0)}
    assert [patch.step for patch in top_patches(np.arange(20.0), episode, 2, 5)] == [19, 14]
    assert live_units(np.stack([channel, 0 * channel - 1], 1)).tolist() == [True, False]


def test_ascent_finds_the_known_optimum_of_first_layer_filters_and_beats_the_rollout(agent, played):
    played_out = activations(agent.network, "conv1", played.observations, played.memory)
    units = np.flatnonzero(live_units(played_out))
    assert len(units) >= 8
    activation = unit_activation(agent.network, "conv1", units)
    found = exciting_inputs(activation, (4, 84, 84), count=len(units), steps=40)
    with torch.no_grad():
        layer = agent.network.conv1
        best = layer.weight.clamp(min=0).sum((1, 2, 3)) + layer.bias
    np.testing.assert_allclose(found.activation, best[units], rtol=1e-3)
    beaten = found.activation > played_out.max((0, 2, 3))[units]
    assert beaten.mean() >= 0.9


def test_ascent_moves_a_silent_unit(agent):
    with torch.no_grad():
        network = load_agent("untrained-pong-nature").network
        network.linear.bias.fill_(-50.0)
    activation = unit_activation(network, "linear", [0, 1])
    start = torch.full((2, 4, 84, 84), 0.5)
    found = exciting_inputs(activation, (4, 84, 84), steps=5, start=start, smoothness=Smoothness())
    with torch.no_grad():
        assert (torch.from_numpy(found.activation) > activation(start)).all()
    assert np.abs(found.observations - 0.5).max() > 0.01


def test_the_lean_of_random_networks_is_1_within_its_interval():
    leans = np.array(
        [
            past_share(np.random.default_rng(seed).normal(size=(32, 4, 8, 8)), power)
            for seed in range(20)
            for power in (1, 2)
        ]
    )
    assert abs(leans.mean() - 1) < 2.1 * leans.std(ddof=1) / np.sqrt(len(leans))


def test_the_lean_by_hand():
    weight = np.zeros((2, 4, 1, 1))
    weight[:, :, 0, 0] = [[1, 2, 3, 4], [1, 2, 3, -4]]
    np.testing.assert_allclose(temporal_lean(weight), np.array([1, 4, 9, 16]) / 16)
    np.testing.assert_allclose(temporal_lean(weight, 1), np.array([1, 2, 3, 4]) / 4)
    assert past_share(weight, 1) == pytest.approx(0.5)
    assert np.isnan(temporal_lean(0 * weight)).all()
    assert strongest_filters(np.stack([weight[0], 2 * weight[1]]), 1).tolist() == [1]
