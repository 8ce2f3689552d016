"""Jacobian saliency: closed form, finite differences, no trace left."""

import numpy as np
import pytest
import torch
from torch import nn

from atarilens.agents.networks import RecurrentActorCritic, initialise
from atarilens.saliency import jacobian_saliency


class Linear(nn.Module):
    memory_shape = (0, 0)

    def __init__(self, weights, value_weights=None):
        super().__init__()
        self.weights, self.value_weights = torch.tensor(weights), value_weights

    def forward(self, observation, memory):
        flat = observation.flatten(1)
        value = None if self.value_weights is None else flat @ self.value_weights.flatten()
        return flat @ self.weights.flatten(1).T, value, memory


def moment(network, *count):
    generator = np.random.default_rng(0)
    observation = generator.random((*count, *network.observation_shape), dtype=np.float32)
    memory = generator.uniform(-1, 1, (*count, *network.memory_shape)).astype(np.float32)
    return observation, memory


@pytest.fixture(params=["lstm", "gru"])
def recurrent(request):
    network = initialise(RecurrentActorCritic(4, request.param), seed=1).eval()
    with torch.no_grad():
        network.actor_linear.weight.mul_(100)
    return network


def test_linear_agent_has_its_closed_form():
    generator = np.random.default_rng(0)
    weights = generator.normal(size=(3, 2, 6, 7)).astype(np.float32)
    value_weights = torch.from_numpy(generator.normal(size=(2, 6, 7)).astype(np.float32))
    observation = generator.random((2, 6, 7), dtype=np.float32)
    network = Linear(weights, value_weights)
    logits = (weights * observation).sum((1, 2, 3))

    maps = jacobian_saliency(network, observation)
    expected = (logits[:, None, None, None] * weights).sum(0) ** 2  # [C, H, W]
    np.testing.assert_allclose(maps.actor_channels, expected, rtol=1e-4)
    np.testing.assert_allclose(maps.actor, expected.sum(0), rtol=1e-4)
    np.testing.assert_allclose(maps.critic_channels, value_weights.numpy() ** 2, rtol=1e-5)
    np.testing.assert_array_equal(maps.actor_grid, maps.actor)

    maps = jacobian_saliency(network, observation, absolute=True)
    np.testing.assert_allclose(maps.actor_channels, np.abs(weights[logits.argmax()]), rtol=1e-5)
    np.testing.assert_allclose(maps.critic_channels, value_weights.abs().numpy(), rtol=1e-5)


def test_equals_finite_differences(recurrent):
    observation, memory = moment(recurrent)
    maps = jacobian_saliency(recurrent, observation, memory)
    network = recurrent.double()

    def heads(picture):
        with torch.no_grad():
            logits, value, _ = network(
                torch.tensor(picture)[None], torch.tensor(memory).double()[None]
            )
        return logits[0].numpy(), value[0].item()

    centre, _ = heads(observation.astype(np.float64))
    for row, column in ((0, 0), (31, 60), (79, 79), (60, 31)):
        step = np.zeros(observation.shape)
        step[0, row, column] = 1e-5
        ahead, behind = heads(observation + step), heads(observation - step)
        actor = (centre @ (ahead[0] - behind[0]) / 2e-5) ** 2
        critic = ((ahead[1] - behind[1]) / 2e-5) ** 2
        assert maps.actor[row, column] == pytest.approx(
            actor, rel=1e-3, abs=1e-4 * float(maps.actor.max())
        )
        assert maps.critic[row, column] == pytest.approx(
            critic, rel=1e-3, abs=1e-4 * float(maps.critic.max())
        )


def test_decisions_together_equal_decisions_alone(recurrent):
    observations, memory = moment(recurrent, 40)  # two batches
    maps = jacobian_saliency(recurrent, observations, memory)
    assert maps.actor.shape == (40, 80, 80)
    assert maps.actor.dtype == np.float32
    for t in (0, 39):
        alone = jacobian_saliency(recurrent, torch.tensor(observations[t]), memory[t])
        scale = alone.actor.max()
        np.testing.assert_allclose(maps[t].actor, alone.actor, atol=1e-4 * scale)
        np.testing.assert_allclose(maps.critic[t], alone.critic, atol=1e-4 * alone.critic.max())


def test_blind_agent_and_agent_without_value():
    maps = jacobian_saliency(Linear(np.zeros((2, 1, 4, 4), np.float32)), np.ones((1, 4, 4)))
    assert not maps.actor.any()
    assert maps.critic is None
    assert maps.critic_channels is None

    class Blind(Linear):
        def forward(self, observation, memory):
            return torch.ones(len(observation), 2), torch.ones(len(observation)), memory

    maps = jacobian_saliency(Blind(np.zeros((2, 1, 4, 4), np.float32)), np.ones((1, 4, 4)))
    assert not maps.actor.any()
    assert not maps.critic.any()


def test_caller_keeps_its_state(recurrent):
    observation, memory = (torch.tensor(array) for array in moment(recurrent))
    memory.requires_grad_()
    recurrent.train()
    recurrent.conv1.weight.grad = torch.full_like(recurrent.conv1.weight, 2.0)
    with torch.inference_mode():  # the caller's mode must not reach the gradient
        maps = jacobian_saliency(recurrent, observation, memory)
    assert maps.actor.any()
    assert recurrent.training
    assert (recurrent.conv1.weight.grad == 2).all()
    assert recurrent.conv2.weight.grad is None
    assert memory.grad is None
    assert not observation.requires_grad


def test_errors_say_what_was_received(recurrent):
    with pytest.raises(ValueError, match=r"observation has shape \(80, 80\), expected \[C, H, W\]"):
        jacobian_saliency(recurrent, np.zeros((80, 80)), np.zeros(recurrent.memory_shape))
