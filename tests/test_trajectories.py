"""Rollouts and replays on the real emulator with real networks."""

import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from atarilens import list_agents, load_agent
from atarilens.agents import agent_from_module
from atarilens.agents.files import MIRROR
from atarilens.games.emulators import make_env
from atarilens.games.hints import draw_hint
from atarilens.play.rollouts import draw_action, episode_generator, replay, rollout
from atarilens.play.trajectories import ARRAYS, HASHED, load_replay, save_replay

REFERENCE = os.environ.get("ATARILENS_REFERENCE")


def load_or_skip(name, monkeypatch, tmp_path):
    """Return a listed agent; other people's weights come from the reference data or the cache."""
    folder = Path(REFERENCE).parent / "agents" / "baby-a3c" if REFERENCE else tmp_path
    monkeypatch.setenv(MIRROR, str(folder))
    try:
        return load_agent(name)
    except FileNotFoundError:
        pytest.skip(f"the weights of {name} are neither cached nor among the reference data")


def think_again(agent, trajectory, steps, memory=None):
    """Run the network over a batch of recorded steps."""
    memory = trajectory.memory if memory is None else memory
    with torch.no_grad():
        action_logits, value, _ = agent.network(
            torch.from_numpy(trajectory.observations[steps]), torch.from_numpy(memory[steps])
        )
    return action_logits.numpy(), None if value is None else value.numpy()


def assert_invariant(agent, trajectory):
    """Hold the replay invariant for batches of 1, 7 and all."""
    length = len(trajectory)
    for size in (1, 7, length):
        for first in range(0, length, size):
            steps = slice(first, first + size)
            action_logits, values = think_again(agent, trajectory, steps)
            tolerance = {"rtol": 1e-5, "atol": 1e-5}
            np.testing.assert_allclose(action_logits, trajectory.action_logits[steps], **tolerance)
            if trajectory.values is not None:
                np.testing.assert_allclose(values, trajectory.values[steps], **tolerance)


@pytest.mark.parametrize("name", list_agents())
def test_replay_invariant_of_every_listed_agent(name, monkeypatch, tmp_path):
    agent = load_or_skip(name, monkeypatch, tmp_path)
    settings = replace(agent.settings, max_frames=100, hint="none")
    trajectory = rollout(agent, seed=1, max_steps=60, settings=settings)
    assert trajectory.episode[-1] >= 1
    assert_invariant(agent, trajectory)


def test_replay_invariant_breaks_when_memory_is_one_step_stale(untrained_agent, short_trajectory):
    stale = np.roll(short_trajectory.memory, 1, axis=0)
    action_logits, _ = think_again(untrained_agent, short_trajectory, slice(None), stale)
    error = abs(action_logits - short_trajectory.action_logits).max(1)
    assert error[2:6].min() > 1e-4  # ten times the invariant's bar
    swapped = short_trajectory.memory[:, ::-1].copy()
    action_logits, _ = think_again(untrained_agent, short_trajectory, slice(None), swapped)
    assert abs(action_logits - short_trajectory.action_logits).max() > 1e-4


def test_fields_have_the_shapes_and_types_that_are_promised(short_trajectory):
    shapes = {
        "frames": ((12, 210, 160, 3), np.uint8),
        "observations": ((12, 1, 80, 80), np.float32),
        "memory": ((12, 2, 256), np.float32),
        "action_logits": ((12, 6), np.float32),
        "values": ((12,), np.float32),
        "actions": ((12,), np.int64),
        "rewards": ((12,), np.float32),
        "terminated": ((12,), np.bool_),
        "truncated": ((12,), np.bool_),
        "episode": ((12,), np.int64),
        "ram": ((12, 128), np.uint8),
    }
    assert short_trajectory.hints is None
    assert list(shapes) == [name for name in ARRAYS if name != "hints"]
    for name, (shape, dtype) in shapes.items():
        array = getattr(short_trajectory, name)
        assert (array.shape, array.dtype) == (shape, dtype), name
    assert len(short_trajectory) == 12
    assert not short_trajectory.memory[0].any()
    assert short_trajectory.memory[1].any()


@pytest.mark.parametrize("frame_skip", [4, (2, 5)])
def test_a_rollout_is_what_the_environment_does_under_its_actions(untrained_agent, frame_skip):
    settings = replace(untrained_agent.settings, max_frames=150, frame_skip=frame_skip)
    trajectory = rollout(untrained_agent, seed=4, max_steps=80, settings=settings)
    assert trajectory.episode[-1] >= 1
    env = make_env(settings)
    over = True
    for t in range(80):
        if over:
            screen, info = env.reset(seed=4 + int(trajectory.episode[t]))
            assert info["noops"] == trajectory.origin["noops"][trajectory.episode[t]]
            assert not trajectory.memory[t].any()
        assert np.array_equal(trajectory.frames[t], screen)
        assert np.array_equal(trajectory.ram[t], info["ram"])
        assert np.array_equal(trajectory.observations[t], untrained_agent.preprocess(screen))
        screen, reward, terminated, truncated, info = env.step(int(trajectory.actions[t]))
        outcome = (trajectory.rewards[t], trajectory.terminated[t], trajectory.truncated[t])
        assert outcome == (reward, terminated, truncated)
        over = terminated or truncated
    assert trajectory.truncated.any()


def test_same_seed_same_rollout_and_another_seed_another(untrained_agent, short_trajectory):
    again = rollout(untrained_agent, seed=3, max_steps=12)
    other = rollout(untrained_agent, seed=5, max_steps=12)
    for name in ARRAYS:
        assert np.array_equal(getattr(again, name), getattr(short_trajectory, name)), name
    assert not np.array_equal(other.actions, short_trajectory.actions)
    greedy = rollout(untrained_agent, seed=3, max_steps=12, greedy=True)
    assert np.array_equal(greedy.actions, greedy.action_logits.argmax(1))


def test_episodes_are_played_to_their_end_and_do_not_depend_on_each_other():
    agent = load_agent("untrained-breakout")
    settings = replace(agent.settings, max_frames=600)
    both = rollout(agent, seed=7, episodes=2, settings=settings)
    second = rollout(agent, seed=8, episodes=1, settings=settings)
    over = both.terminated | both.truncated
    assert np.flatnonzero(over).tolist() == [np.flatnonzero(both.episode == 0)[-1], len(both) - 1]
    for name in ARRAYS:
        if name not in ("episode", "hints"):
            part = getattr(both, name)[both.episode == 1]
            assert np.array_equal(part, getattr(second, name)), name


@pytest.mark.parametrize("hint", ["none", "random", "expert:untrained-pong", "shifted"])
@pytest.mark.parametrize("sticky", [0.0, 0.25])
def test_replays_come_out_bit_for_bit(untrained_agent, tmp_path, hint, sticky):
    settings = replace(
        untrained_agent.settings,
        hint="shifted:untrained-pong" if hint == "shifted" else hint,
        repeat_action_probability=sticky,
        frame_skip=(2, 5) if sticky else 4,
        max_frames=120,
    )
    trajectory = rollout(untrained_agent, seed=2, max_steps=70, settings=settings)
    assert trajectory.episode[-1] >= 1
    path = save_replay(trajectory, tmp_path / "a.npz")
    assert path.stat().st_size < 2500
    again = replay(path)
    for name in ARRAYS:
        found, played = getattr(again, name), getattr(trajectory, name)
        if name in ("memory", "action_logits", "values"):  # episodes side by side round otherwise
            np.testing.assert_allclose(found, played, atol=1e-4, err_msg=name)
        else:
            assert np.array_equal(found, played), name
    assert again.settings == trajectory.settings
    assert again.origin == trajectory.origin
    assert save_replay(again, tmp_path / "b.npz").read_bytes() == path.read_bytes()


@pytest.mark.parametrize(("kind", "shift"), [("expert", 0), ("shifted", 1)])
def test_hints_show_the_experts_action_on_the_unhinted_screen(untrained_agent, kind, shift):
    settings = replace(untrained_agent.settings, hint=f"{kind}:untrained-pong", max_frames=120)
    trajectory = rollout(untrained_agent, seed=2, max_steps=50, settings=settings)
    plain = make_env(replace(settings, hint="none"))
    over, screen = True, None
    for t in range(50):
        if over:
            screen, _ = plain.reset(seed=2 + int(trajectory.episode[t]))
            memory = torch.zeros(1, 2, 256)
        observation = torch.from_numpy(untrained_agent.preprocess(screen))[None]
        with torch.no_grad():
            action_logits, _, memory = untrained_agent.network(observation, memory)
        assert trajectory.hints[t] == (int(action_logits.argmax()) + shift) % 6
        assert np.array_equal(trajectory.frames[t], draw_hint(screen, trajectory.hints[t], 6))
        screen, *_ = plain.step(int(trajectory.actions[t]))
        over = trajectory.terminated[t] or trajectory.truncated[t]
    assert trajectory.episode[-1] >= 1


def test_another_agent_reads_the_screens_with_its_own_memory(tmp_path, untrained_agent):
    settings = replace(untrained_agent.settings, max_frames=120)
    trajectory = rollout(untrained_agent, seed=2, max_steps=40, settings=settings)
    path = save_replay(trajectory, tmp_path / "a.npz")
    torch.manual_seed(1)
    other = agent_from_module(
        type(untrained_agent.network)(6, cell="gru"), game="pong", preprocessing="luma80"
    )
    seen = replay(path, agent=other)
    assert seen.memory.shape == (40, 1, 256)
    for name in (*HASHED, "observations", "actions", "episode", "terminated", "truncated"):
        assert np.array_equal(getattr(seen, name), getattr(trajectory, name)), name
    assert abs(seen.action_logits - trajectory.action_logits).max() > 1e-4
    assert_invariant(other, seen)
    memory = torch.zeros(1, 1, 256)
    for t in range(40):
        if t and trajectory.episode[t] != trajectory.episode[t - 1]:
            memory = torch.zeros(1, 1, 256)
        np.testing.assert_allclose(seen.memory[t], memory[0], atol=1e-6)
        with torch.no_grad():
            _, _, memory = other.network(torch.from_numpy(seen.observations[t])[None], memory)
    assert seen.origin["watched_by"] == "module"
    with pytest.raises(ValueError, match="of agent 'untrained-pong' is as 'module' sees it"):
        save_replay(seen, tmp_path / "b.npz")


class FourScreens(nn.Module):
    """A network without value or memory that stacks four screens."""

    def __init__(self):
        super().__init__()
        self.actor = nn.Linear(4 * 84 * 84, 6)

    def forward(self, observation):
        return self.actor(observation.flatten(1))


def test_stacked_screens_begin_anew_with_the_episode():
    torch.manual_seed(0)
    agent = agent_from_module(FourScreens(), game="pong", preprocessing="area84-stack4")
    settings = replace(agent.settings, max_frames=120)
    trajectory = rollout(agent, seed=1, max_steps=40, settings=settings)
    assert trajectory.values is None
    assert trajectory.memory.shape[1] == 0
    for t in range(40):
        start = np.flatnonzero(trajectory.episode == trajectory.episode[t])[0]
        screens = trajectory.frames[[max(start, t - back) for back in (3, 2, 1, 0)]]
        assert np.array_equal(trajectory.observations[t], agent.preprocess(screens)), t
    assert trajectory.episode[-1] == 1
    assert_invariant(agent, trajectory)


def test_actions_are_drawn_from_the_policy():
    action_logits = np.array([1.0, -2.0, 0.5, 80.0 - 79.0], np.float32)
    generator = np.random.default_rng(0)
    counts = np.bincount([draw_action(action_logits, generator) for _ in range(20_000)])
    probabilities = np.exp(action_logits) / np.exp(action_logits).sum()
    np.testing.assert_allclose(counts / 20_000, probabilities, atol=0.01)
    assert draw_action(np.array([0, 1000, 0], np.float32), generator) == 1
    assert draw_action(np.array([3, 1, 5], np.float32), None) == 2
    assert episode_generator(0).random() != np.random.default_rng(0).random()


def test_errors_say_what_was_received(untrained_agent, short_trajectory, tmp_path):
    message = (
        "seed must be 0 or more, max_steps and episodes 1 or more: received seed -1, "
        "max_steps 500, episodes None"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        rollout(untrained_agent, seed=-1)
    with pytest.raises(ValueError, match="received seed 0, max_steps 500, episodes 0"):
        rollout(untrained_agent, episodes=0)
    breakout = load_agent("untrained-breakout")
    with pytest.raises(ValueError, match="agent 'untrained-breakout' plays breakout, not pong"):
        rollout(breakout, settings=untrained_agent.settings)
    message = (
        "agent 'untrained-pong' has the actions NOOP, FIRE, RIGHT, LEFT, RIGHTFIRE, LEFTFIRE, "
        "the environment NOOP, FIRE, UP"
    )
    with pytest.raises(ValueError, match=message):
        rollout(untrained_agent, settings=replace(untrained_agent.settings, full_action_space=True))
    path = save_replay(short_trajectory, tmp_path / "short.npz")
    with pytest.raises(ValueError, match=r"breakout, replay .*short\.npz is of pong"):
        replay(path, agent=breakout)


def test_a_checkpoint_that_does_not_name_its_game_can_read_a_replay(short_trajectory, tmp_path):
    path = save_replay(short_trajectory, tmp_path / "short.npz")
    checkpoint = tmp_path / "model.tar"
    torch.save(load_agent("untrained-pong").network.state_dict(), checkpoint)
    assert replay(path, agent=str(checkpoint)).origin["watched_by"] == "model"


def test_a_replay_that_comes_out_otherwise_is_refused(short_trajectory, tmp_path):
    moved = replace(short_trajectory, rewards=short_trajectory.rewards + 1)
    path = save_replay(moved, tmp_path / "moved.npz")
    with pytest.raises(ValueError, match=r"did not come out as recorded: rewards differ \(rec"):
        replay(path)
    other = replace(short_trajectory, origin=short_trajectory.origin | {"seed": 4, "noops": [3]})
    path = save_replay(other, tmp_path / "other.npz")
    with pytest.raises(ValueError, match="recorded: frames, ram differ"):
        replay(path)
    assert load_replay(path)[0]["origin"]["noops"] == [3]
