"""Training code of others is shown exactly what a rollout shows the agent afterwards."""

import numpy as np
import pytest
from gymnasium.utils import env_checker

from atarilens import make_env, rollout
from atarilens.agents import agent_from_module
from atarilens.agents.networks import NatureNetwork, initialise
from atarilens.agents.preprocessing import preprocessing
from atarilens.games.emulators import ObservationEnv


@pytest.mark.parametrize("style", ["area84-stack4", "area84"])
def test_a_learner_reads_what_a_rollout_shows(style):
    shape = preprocessing(style).shape
    network = initialise(NatureNetwork(6, shape), 0)
    agent = agent_from_module(network, game="pong", preprocessing=style)
    trajectory = rollout(agent, seed=5, max_steps=8)
    env = ObservationEnv(make_env("pong"), preprocessing(style))
    observation, _ = env.reset(seed=5)
    for t in range(8):
        assert observation.dtype == np.uint8
        np.testing.assert_array_equal(observation / np.float32(255), trajectory.observations[t])
        observation, reward, _, _, _ = env.step(trajectory.actions[t])
        assert reward == trajectory.rewards[t]
    observation, _ = env.reset(seed=5)
    expected = trajectory.observations[0]
    np.testing.assert_array_equal(observation / np.float32(255), expected)


def test_it_keeps_gymnasiums_rules():
    env = ObservationEnv(make_env("breakout"), preprocessing("area84-stack4"))
    env_checker.check_reset_seed_determinism(env)
    env_checker.check_step_determinism(env)
    env_checker.check_returned_data_not_reused(env)
    assert env.observation_space.contains(env.step(0)[0])
    assert env.observation_space.shape == (4, 84, 84)
    assert env.render().shape == (210, 160, 3)
