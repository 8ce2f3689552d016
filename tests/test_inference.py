import numpy as np
import pytest

from atarilens.agents import load_agent
from atarilens.play.inference import seen_by
from atarilens.play.rollouts import games_of, open_games, replay, rollout
from atarilens.play.trajectories import save_replay

SEEN = ("observations", "memory", "action_logits", "values")


def test_seeing_a_trajectory_equals_replaying_it(tmp_path):
    player, other = load_agent("untrained-breakout"), load_agent("untrained-breakout")
    with_new_weights(other)
    trajectory = rollout(player, seed=3, max_steps=260)
    assert trajectory.episode[-1] == 1  # a memory has to be forgotten on the way
    path = save_replay(trajectory, tmp_path / "play.npz")
    seen, replayed = seen_by(trajectory, other), replay(path, other)
    for name in SEEN:
        np.testing.assert_array_equal(getattr(seen, name), getattr(replayed, name))
    assert np.abs(seen.memory - trajectory.memory).max() > 1e-3
    assert seen.frames is trajectory.frames
    assert seen.origin == replayed.origin
    own = seen_by(trajectory, player)
    assert own.origin == trajectory.origin
    for name in SEEN:  # episodes side by side round otherwise than one after the other
        np.testing.assert_allclose(getattr(own, name), getattr(trajectory, name), atol=1e-4)


def test_an_agent_that_reads_the_screens_in_another_way_sees_its_own_observations(tmp_path):
    player = load_agent("untrained-breakout")
    other = load_agent("untrained-breakout", preprocessing="baby-a3c")
    trajectory = rollout(player, seed=3, max_steps=30)
    seen = seen_by(trajectory, other)
    replayed = replay(save_replay(trajectory, tmp_path / "play.npz"), other)
    for name in SEEN:
        np.testing.assert_array_equal(getattr(seen, name), getattr(replayed, name))
    assert np.abs(seen.observations - trajectory.observations).max() > 0.1
    assert seen_by(trajectory, player).observations is trajectory.observations  # nothing is copied


def with_new_weights(agent):
    """Scale an untrained agent's first convolution: another network of the same name."""
    agent.network.conv1.weight.mul_(2)


def test_an_agent_of_another_game_cannot_read_it():
    trajectory = rollout(load_agent("untrained-pong"), max_steps=1)
    message = "agent 'untrained-breakout' plays breakout, the trajectory pong"
    with pytest.raises(ValueError, match=message):
        seen_by(trajectory, load_agent("untrained-breakout"))


def test_games_are_opened_with_their_control_in_one_call(tmp_path):
    agent, control, trajectory, seen = open_games("untrained-pong", seed=3, max_steps=20)
    assert control.name == "untrained-pong"
    assert len(trajectory) == 20
    assert seen.frames is trajectory.frames
    path = save_replay(trajectory, tmp_path / "play.npz")
    again = games_of(agent, str(path))
    np.testing.assert_array_equal(again.actions, trajectory.actions)
    observation, memory = trajectory.decision([3, 7])
    np.testing.assert_array_equal(observation, trajectory.observations[[3, 7]])
    np.testing.assert_array_equal(memory, trajectory.memory[[3, 7]])
    assert repr(trajectory) == "<Trajectory of untrained-pong: 20 steps of pong, 1 episode>"
