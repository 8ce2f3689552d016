"""Following a random hint: known answers of networks that read the bars, or cannot."""

import numpy as np
import pytest
import torch
from torch import nn

from atarilens.agents import agent_from_module, load_agent
from atarilens.games.hints import draw_hint, hint_box
from atarilens.play.obedience import follows_random_hint
from atarilens.play.rollouts import rollout


class ReadsBars(nn.Module):
    """Its action logits are the brightness of the six bars, in observation pixels."""

    def forward(self, observation):
        return observation[:, 0, 1, [36, 38, 41, 43, 46, 48]]


@pytest.fixture(scope="module")
def game():
    return rollout(load_agent("untrained-pong"), seed=3, max_steps=120)


def test_the_box_holds_every_bar_and_nothing_else():
    screen = np.zeros((210, 160, 3), np.uint8)
    drawn = draw_hint(screen, 0, 6) != screen
    (top, bottom, left, right), rows, columns = hint_box(6)[0], *np.nonzero(drawn.any(2))
    assert (top, bottom, left, right) == (
        *(rows.min(), rows.max() + 1),
        *(columns.min(), columns.max() + 1),
    )


def test_a_network_that_reads_the_bars_follows_every_hint(game):
    agent = agent_from_module(ReadsBars(), game="pong", preprocessing="luma80")
    before = game.frames.copy()
    memory = np.zeros((len(game), 0, 0), np.float32)
    follows = follows_random_hint(agent, game.frames, memory, np.random.default_rng(0))
    assert follows.all()
    assert np.array_equal(game.frames, before)


def test_a_network_that_prefers_one_action_follows_by_chance(game):
    agent = load_agent("untrained-pong")
    with torch.no_grad():
        agent.network.actor_linear.bias[2] = 100.0
    follows = follows_random_hint(agent, game.frames, game.memory, np.random.default_rng(0))
    shown = np.random.default_rng(0).integers(6, size=len(game))
    assert np.array_equal(follows, shown == 2)
    assert 0.08 < follows.mean() < 0.27
