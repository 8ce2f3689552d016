"""Networks: shapes, initialisation and the unrolled form against the step by step one."""

import hashlib

import pytest
import torch

from atarilens.agents.networks import RecurrentActorCritic, initialise


@pytest.mark.parametrize(("cell", "states"), [("lstm", 2), ("gru", 1)])
def test_unroll_equals_forward_step_by_step(cell, states):
    network = initialise(RecurrentActorCritic(4, cell), 3)
    generator = torch.Generator().manual_seed(0)
    observations = torch.rand(6, 3, 1, 80, 80, generator=generator)
    memory = torch.randn(3, states, 256, generator=generator)
    starts = torch.rand(6, 3, generator=generator) < 0.3
    assert starts.any()
    hidden, last = network.unroll(observations, memory, starts)
    for t in range(6):
        memory = torch.where(starts[t][:, None, None], 0.0, memory)
        logits, value, memory = network(observations[t], memory)
        torch.testing.assert_close(memory[:, 0], hidden[t], atol=1e-6, rtol=1e-5)
        expected = network.heads(hidden[t])
        torch.testing.assert_close((logits, value), expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(memory, last, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_shapes_and_features(cell):
    network = RecurrentActorCritic(6, cell)
    memory = torch.zeros(2, *network.memory_shape)
    observation = torch.rand(2, *network.observation_shape)
    logits, value, after = network(observation, memory)
    assert (logits.shape, value.shape, after.shape) == ((2, 6), (2,), memory.shape)
    assert torch.equal(network.features(observation, memory), after[:, 0])


def test_an_untrained_network_is_the_same_everywhere():
    """Seeds give bits: of uniform draws, with no matrix factorisation in between."""
    first, again = (initialise(RecurrentActorCritic(4), 0) for _ in range(2))
    other = initialise(RecurrentActorCritic(4), 1)
    digests = [
        hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in net.parameters())).hexdigest()
        for net in (first, again, other)
    ]
    assert digests[0] == digests[1] != digests[2]


def test_an_untrained_agent_takes_all_actions_about_equally_often():
    network = initialise(RecurrentActorCritic(6), 0)
    logits, _, _ = network(torch.rand(8, 1, 80, 80), torch.zeros(8, 2, 256))
    assert logits.softmax(1).sub(1 / 6).abs().max() < 0.02


def test_unknown_cells_are_named():
    with pytest.raises(ValueError, match="unknown cell 'rnn'; known: gru, lstm"):
        RecurrentActorCritic(4, "rnn")
