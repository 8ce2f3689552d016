"""Rollouts of the zoo's agents: what is read from the cache is what was played."""

from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch

from atarilens import load_agent, paths
from atarilens.agents import zoo
from atarilens.games.emulators import make_env
from atarilens.play import (
    archive,
    archived,
    load_replay,
    read_scores,
    rollout,
    save_replay,
    zoo_rollout,
)
from atarilens.play.trajectories import ARRAYS

STEPS = 50


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ATARILENS_CACHE", str(tmp_path))


@pytest.mark.parametrize("name", ["untrained-breakout-nature", "untrained-breakout"])
def test_what_is_read_is_what_was_played(name):
    agent = load_agent(name)
    agent = replace(agent, settings=replace(agent.settings, max_frames=4 * 30))  # two episodes
    played, kept = rollout(agent, 0, STEPS), archived(agent, steps=STEPS)
    assert len(kept) == STEPS
    assert played.episode[-1] == 1
    for array in ARRAYS:
        expected = getattr(played, array)
        if array != "hints":
            np.testing.assert_array_equal(kept.read(array), expected)
            np.testing.assert_array_equal(kept.read(array, [31, 4, 31]), expected[[31, 4, 31]])
            np.testing.assert_array_equal(kept.read(array, slice(28, 33)), expected[28:33])
    whole = kept.trajectory(10)
    assert whole.origin == played.origin
    np.testing.assert_array_equal(whole.observations, played.observations[:10])
    inputs = torch.from_numpy(played.observations[-1:]), torch.from_numpy(played.memory[-1:])
    hidden = agent.network.features(*inputs)
    np.testing.assert_allclose(kept.read("hidden", [STEPS - 1]), hidden, atol=1e-5)
    if agent.network.memory_shape == (0, 0):
        logits = agent.network.actor_linear(torch.from_numpy(kept.read("hidden")))
        np.testing.assert_allclose(logits, played.action_logits, atol=1e-5)


def test_a_rollout_is_played_once_and_a_damaged_file_is_played_again(monkeypatch):
    agent = load_agent("untrained-pong-nature")
    first = archived(agent, steps=3)
    expected = first.read("ram")
    with monkeypatch.context() as patched:
        patched.setattr(archive, "rollout", lambda *_, **__: pytest.fail("played again"))
        assert archived(agent, steps=3).path == first.path
    other = replace(agent, settings=replace(agent.settings, repeat_action_probability=0.25))
    assert archived(other, steps=3).path != first.path
    first.path.write_bytes(first.path.read_bytes()[:1000])
    np.testing.assert_array_equal(archived(agent, steps=3).read("ram"), expected)
    with h5py.File(first.path, "a") as file:
        del file["hidden"]
    assert archived(agent, steps=3).read("hidden").shape == (3, 512)


def test_what_a_rollout_does_not_have_is_named():
    kept = archived(load_agent("untrained-pong-nature"), steps=3)
    with pytest.raises(ValueError, match="a rollout has no array 'screens'; it has frames, obser"):
        kept.read("screens")
    with pytest.raises(IndexError, match="has the steps 0 to 2, asked for 1 to 3"):
        kept.read("ram", [1, 3])
    with pytest.raises(ValueError, match="the zoo has no agent 'ga-chess-1'"):
        zoo_rollout("ga", "chess")


STORED = [key for key in zoo.available()[["algorithm", "game", "run", "tag"]].itertuples(False)]


def test_every_agent_of_the_zoo_has_a_replay_of_its_own_weights():
    assert STORED
    for key in STORED:
        agent = zoo.load(*key)
        facts, actions, _ = load_replay(archive.replay_path(agent))
        assert facts["origin"]["agent_sha256"] == agent.facts["sha256"]
        assert facts["origin"]["greedy"] == agent.network.q_values
        assert len(actions) == archive.STEPS
        assert archive.replay_path(agent).stat().st_size < 6_000


def test_a_stored_replay_is_the_game_that_was_scored():
    agent = zoo.load(*STORED[0])
    facts, actions, _ = load_replay(archive.replay_path(agent))
    env, total = make_env(agent.settings), 0.0
    env.reset(seed=0, options={"noops": facts["origin"]["noops"][0]})
    scored = read_scores(paths.SCORES / f"{agent.name}.csv")[0]
    for action in actions[: scored["steps"]]:
        _, reward, over, *_ = env.step(int(action))
        total += reward
    if scored["steps"] <= len(actions) and not scored["truncated"]:
        assert over
        assert total == scored["return"]


def test_a_replay_of_other_weights_is_refused(tmp_path, monkeypatch):
    agent = load_agent("untrained-pong-nature")
    monkeypatch.setattr(paths, "ZOO", tmp_path)
    monkeypatch.setattr(archive, "STEPS", 3)
    other = rollout(replace(agent, facts=agent.facts | {"sha256": "0"}), 0, 3)
    save_replay(other, archive.replay_path(agent))
    with pytest.raises(ValueError, match="recorded with other weights than those of 'untrained-p"):
        archived(agent, steps=3)
