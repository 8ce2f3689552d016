"""Saliency of the memory: closed form, parts, and the control of equal norm."""

import numpy as np
import pytest
import torch
from torch import nn

from atarilens.agents.networks import RecurrentActorCritic, initialise
from atarilens.saliency import memory_saliency


class LinearMemory(nn.Module):
    """logits = W memory, value = sum of h."""

    def __init__(self, weights):
        super().__init__()
        self.weights = torch.tensor(weights, dtype=torch.float32)  # [A, k, M]

    def forward(self, observation, memory):
        logits = torch.einsum("akm,bkm->ba", self.weights, memory)
        return logits, memory[:, 0].sum(1), memory


def softmax(logits):
    exponentials = np.exp(logits - logits.max())
    return exponentials / exponentials.sum()


def test_linear_agent_has_its_closed_form():
    generator = np.random.default_rng(0)
    weights, memory = generator.normal(size=(3, 2, 5)), generator.normal(size=(2, 5))
    scores = memory_saliency(LinearMemory(weights), np.zeros((1, 4, 4)), memory, scale=0.9)
    logits = np.einsum("akm,km->a", weights, memory)
    for part, chosen in (("h", [0]), ("c", [1]), ("both", [0, 1])):
        change = -0.1 * np.einsum("akm,km->a", weights[:, chosen], memory[chosen])
        assert scores.logits[part] == pytest.approx(0.5 * (change**2).sum(), rel=1e-4)
        moved = softmax(logits + change) - softmax(logits)
        assert scores.probabilities[part] == pytest.approx(0.5 * (moved**2).sum(), rel=1e-3)
        assert scores.variation[part] == pytest.approx(50 * np.abs(moved).sum(), rel=1e-3)
    assert scores.value["h"] == pytest.approx(0.5 * (0.1 * memory[0].sum()) ** 2, rel=1e-3)
    assert scores.value["c"] == 0


def test_parts_of_an_lstm_and_of_a_gru():
    generator = np.random.default_rng(0)
    observations = generator.random((3, 1, 80, 80), dtype=np.float32)
    for cell, parts, states in (("lstm", ["h", "c", "both"], 2), ("gru", ["h"], 1)):
        network = initialise(RecurrentActorCritic(4, cell), seed=1)
        memory = generator.uniform(-1, 1, (3, states, 256)).astype(np.float32)
        scores = memory_saliency(network, observations, memory)
        assert list(scores.logits) == list(scores.probabilities) == list(scores.value) == parts
        for part in parts:
            assert scores.logits[part].shape == (3,)
            assert scores.logits[part].dtype == np.float32
            assert (scores.logits[part] > 0).all()
        perturbed = memory.copy()
        perturbed[:, -1] *= 0.99  # c of an LSTM, h of a GRU
        with torch.no_grad():
            before, after = (
                network(torch.tensor(observations), torch.tensor(m))[0] for m in (memory, perturbed)
            )
        expected = 0.5 * (before - after).square().sum(1).numpy()
        np.testing.assert_allclose(
            scores.logits[parts[-1 if states == 1 else 1]], expected, rtol=1e-2
        )


class OnlyCalled(nn.Module):
    """The same network, of which nothing is known but that it can be called."""

    def __init__(self, network):
        super().__init__()
        self.network, self.memory_shape = network, network.memory_shape

    def forward(self, observation, memory):
        return self.network(observation, memory)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_computing_the_convolutions_once_changes_nothing(cell):
    network = initialise(RecurrentActorCritic(4, cell), seed=1)
    networks = network, OnlyCalled(network)
    rng = np.random.default_rng(0)
    observations = rng.random((40, 1, 80, 80), np.float32)  # more than one batch
    memory = rng.standard_normal((40, *networks[0].memory_shape), np.float32)
    once, plain = (memory_saliency(network, observations, memory) for network in networks)
    for head in ("logits", "probabilities", "value"):
        for part, scores in getattr(plain, head).items():
            assert getattr(once, head)[part] == pytest.approx(scores, rel=0.02, abs=1e-12)


def test_random_direction_has_equal_norm_and_follows_the_generator():
    weights = np.eye(10).reshape(
        10, 2, 5
    )  # logits are the memory: their change is the change of it
    memory = np.random.default_rng(1).normal(size=(4, 2, 5))
    network, observations = LinearMemory(weights), np.zeros((4, 1, 2, 2))
    scaled = memory_saliency(network, observations, memory)
    first, again, other = (
        memory_saliency(
            network,
            observations,
            memory,
            direction="random",
            generator=np.random.default_rng(seed),
        )
        for seed in (0, 0, 1)
    )
    for part in ("h", "c", "both"):
        np.testing.assert_allclose(first.logits[part], scaled.logits[part], rtol=1e-3)
        np.testing.assert_array_equal(first.logits[part], again.logits[part])
    assert (first.value["h"] != other.value["h"]).all()
    assert (first.value["h"] != scaled.value["h"]).all()


def test_zero_memory_does_not_move():
    scores = memory_saliency(
        LinearMemory(np.ones((2, 1, 3))),
        np.zeros((1, 2, 2)),
        np.zeros((1, 3)),
        direction="random",
        generator=np.random.default_rng(0),
    )
    assert scores.logits["h"] == 0


def test_network_without_value_has_none():
    class Valueless(LinearMemory):
        def forward(self, observation, memory):
            return super().forward(observation, memory)[0], None, memory

    assert (
        memory_saliency(Valueless(np.ones((2, 1, 3))), np.zeros((1, 2, 2)), np.ones((1, 3))).value
        is None
    )


@pytest.mark.parametrize(
    ("memory", "arguments", "message"),
    [
        ((1, 3), {"direction": "up"}, "direction is 'up', expected 'scale' or 'random'"),
        ((1, 3), {"direction": "random"}, "direction 'random' needs a generator, received None"),
        ((1, 3), {"scale": np.inf}, "scale is inf, expected a finite number"),
        ((3, 3), {}, "memory has 3 states per decision, expected 1 (h) or 2 (h, c)"),
    ],
)
def test_errors_say_what_was_received(memory, arguments, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011 (the text is compared below)
        memory_saliency(
            LinearMemory(np.ones((2, *memory))), np.zeros((1, 2, 2)), np.ones(memory), **arguments
        )
    assert str(error.value) == message
