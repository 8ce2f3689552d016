"""Synthesised states: every target does what it is called; the search is reproducible."""

import numpy as np
import pytest
import torch

from atarilens import load_agent
from atarilens.features.synthesis import (
    sharpness,
    soft_maximum,
    soft_minimum,
    synthesize,
    target_loss,
)
from compendium.training.state_model import StateModelSettings, train_state_model

ACTIONS = ["NOOP", "LEFT", "RIGHT"]


@pytest.fixture(scope="module")
def agent():
    return load_agent("untrained-pong")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    settings = StateModelSettings(frames=24, recorded=40, epochs=2, batch=8)
    folder = tmp_path_factory.mktemp("run")
    return train_state_model("untrained-pong", folder, settings, progress=False)


def test_the_soft_maximum_by_hand():
    q = torch.tensor([1.0, 3.0])
    weights = np.exp([1.0, 3.0]) / np.exp([1.0, 3.0]).sum()
    assert float(soft_maximum(q, 1.0)) == pytest.approx(weights @ [1, 3])
    assert float(soft_minimum(q, 1.0)) == pytest.approx(weights[::-1] @ [1, 3])
    assert float(soft_maximum(q, 50.0)) == pytest.approx(3)
    assert float(soft_minimum(q, 50.0)) == pytest.approx(1)
    assert float(sharpness(q)) == pytest.approx(1.0)  # their standard deviation is 1


@pytest.mark.parametrize(
    ("target", "better", "worse"),
    [
        ("best", ([2.0, 2.0, 2.0], 0), ([5.0, 0.0, 0.0], 0)),  # the worst action counts
        ("worst", ([-1.0, -2.0, -3.0], 0), ([1.0, -9.0, -9.0], 0)),  # the best action counts
        ("critical", ([4.0, 0.0, -4.0], 0), ([1.0, 1.0, 1.0], 0)),
        ("action:LEFT", ([0.0, 2.0, 0.0], 0), ([2.0, 2.0, 2.0], 0)),
        ("sum-high", ([1.0, 1.0, 1.0], 0), ([0.0, 0.0, 0.0], 0)),
        ("sum-low", ([-1.0, -1.0, -1.0], 0), ([0.0, 0.0, 0.0], 0)),
    ],
)
def test_a_target_of_a_q_network_prefers_what_it_is_called(target, better, worse):
    loss = target_loss(target, ACTIONS, has_critic=False)
    values = [
        float(loss(torch.tensor([q]), torch.tensor([float(max(q))]))) for q, _ in (better, worse)
    ]
    assert values[0] < values[1]


def test_best_and_worst_of_an_actor_critic_are_its_values():
    q, value = torch.zeros(2, 3), torch.tensor([-1.0, 2.0])
    assert target_loss("best", ACTIONS, True)(q, value).tolist() == [1.0, -2.0]
    assert target_loss("worst", ACTIONS, True)(q, value).tolist() == [-1.0, 2.0]


def test_the_targets_as_printed_would_do_the_opposite():
    """Descended, our loss raises the worst action's value; the printed T+ lowers it."""

    def descended(loss):
        q = torch.tensor([0.0, 0.5, 1.0], requires_grad=True)
        optimizer = torch.optim.SGD([q], 0.1)
        for _ in range(20):
            optimizer.zero_grad()
            loss(q[None], None).sum().backward()
            optimizer.step()
        return q.detach()

    ours = descended(target_loss("best", ACTIONS, has_critic=False))
    printed = descended(lambda q, _: soft_minimum(q, sharpness(q)))
    assert ours.min() > 0.4
    assert printed.min() < -1


def test_a_search_makes_its_loss_small_and_is_reproducible(agent, model):
    found = synthesize(agent, model, "best", count=2, restarts=2, seed=3, steps=12, prior_weight=0)
    again = synthesize(agent, model, "best", count=2, restarts=2, seed=3, steps=12, prior_weight=0)
    random = synthesize(agent, model, "best", count=2, restarts=2, seed=3, steps=0)
    for name in ("screens", "observations", "action_logits", "value", "latent", "loss"):
        np.testing.assert_array_equal(getattr(found, name), getattr(again, name))
    assert found.screens.shape == (2, 80, 80, 3)
    assert found.loss.shape == (2, 2, 13)
    assert found.value.mean() > random.value.mean()
    with torch.inference_mode():
        logits, value, _ = agent.network(
            torch.from_numpy(found.observations), torch.from_numpy(found.memory)
        )
    np.testing.assert_allclose(found.action_logits, logits.numpy(), atol=1e-5)
    np.testing.assert_allclose(found.value, value.numpy(), atol=1e-5)


def test_the_chosen_restart_has_the_smallest_target_loss(agent, model):
    several = synthesize(agent, model, "worst", count=2, restarts=3, seed=1, steps=4)
    assert several.chosen.shape == (2,)
    assert several.loss.shape == (2, 3, 5)
    ends = synthesize(agent, model, lambda q, value: value, count=2, restarts=3, seed=1, steps=4)
    np.testing.assert_array_equal(several.chosen, ends.chosen)


def test_a_search_with_a_small_spread_stays_near_its_start(agent, model):
    start = np.random.default_rng(0).normal(size=(2, 100)).astype(np.float32)
    memory = np.ones((2, 2, 256), np.float32)
    found = synthesize(
        *(agent, model, "worst"),
        **dict(count=2, restarts=1, steps=3, start=start, spread=0.01, memory=memory),
    )
    np.testing.assert_array_equal(found.memory, memory)
    assert 0 < np.abs(found.latent - start).max() <= 3 * 0.05 * 1.01  # Adam's steps
    with pytest.raises(ValueError, match="spread is 0, expected a standard deviation above 0"):
        synthesize(agent, model, "worst", spread=0)
    with pytest.raises(ValueError, match=r"memory has the shape \(1, 2\), expected \(2, 2, 256\)"):
        synthesize(agent, model, "worst", count=2, memory=np.zeros((1, 2)))


def test_what_cannot_be_is_refused_in_one_line(agent, model):
    with pytest.raises(ValueError, match="unknown target 'bst', expected one of best, worst"):
        synthesize(agent, model, "bst")
    with pytest.raises(ValueError, match="no action 'JUMP', expected NOOP, FIRE"):
        synthesize(agent, model, "action:JUMP")
    with pytest.raises(ValueError, match="received 0, 1 and 5"):
        synthesize(agent, model, "best", count=0, restarts=1, steps=5)
    with pytest.raises(ValueError, match="state model is of agent 'untrained-pong'"):
        synthesize(load_agent("untrained-breakout"), model, "best")
    with pytest.raises(FloatingPointError, match="not finite at step 0"):
        synthesize(agent, model, lambda q, value: value / 0, count=1, restarts=1, steps=1)


def test_an_agent_without_a_value_says_what_targets_it_has(agent, model):
    from dataclasses import replace

    from atarilens.agents.networks import Network

    class ActorOnly(Network):
        """The same network, whose critic nobody asks."""

        memory_shape = agent.network.memory_shape

        def forward(self, observation, memory):
            logits, _, memory = agent.network(observation, memory)
            return logits, None, memory

    actor = replace(agent, network=ActorOnly())
    with pytest.raises(ValueError, match=r"needs a value, and agent .* has the targets critical"):
        synthesize(actor, model, "best", count=1, restarts=1, steps=1)
    found = synthesize(actor, model, "critical", count=1, restarts=1, steps=1)
    assert found.value is None
