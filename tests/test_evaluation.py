"""Scores of whole episodes, and the statistics over them."""

import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from atarilens import load_agent
from atarilens.agents import agent_from_module
from atarilens.measures.intervals import (
    bootstrap_interval,
    equivalence_test,
    mean_difference,
    mean_interval,
)
from atarilens.play.rollouts import rollout
from atarilens.play.scores import evaluate, read_scores, write_scores

REFERENCE = os.environ.get("ATARILENS_REFERENCE")


class CyclingActions(nn.Module):
    """A network whose memory counts the steps; the likeliest action changes every third."""

    memory_shape = (1, 1)

    def forward(self, observation, memory):
        likeliest = (memory[:, 0, 0] // 3).long() % 4
        return 3 * nn.functional.one_hot(likeliest, 4).float(), None, memory + 1


@pytest.fixture(scope="module")
def breakout_agent():
    agent = agent_from_module(CyclingActions(), game="breakout", preprocessing="luma80")
    return replace(agent, name="cycling", facts=agent.facts | {"sha256": "abc"})


@pytest.fixture(scope="module")
def breakout_scores(breakout_agent):
    return evaluate(breakout_agent, episodes=3, seed=4)


def test_an_episode_is_that_of_the_rollout_of_its_seed(breakout_agent, breakout_scores):
    assert breakout_scores.seeds.tolist() == [4, 5, 6]
    assert len(set(breakout_scores.lengths)) > 1  # whole episodes, whatever their length
    for index, seed in enumerate(breakout_scores.seeds):
        episode = rollout(breakout_agent, seed=int(seed), episodes=1)
        assert breakout_scores.lengths[index] == len(episode)
        assert breakout_scores.returns[index] == episode.rewards.sum()
        assert episode.terminated[-1]
    assert not breakout_scores.truncated.any()
    assert breakout_scores.returns.any()


def test_an_episode_does_not_depend_on_how_many_are_played(breakout_agent, breakout_scores):
    alone = evaluate(breakout_agent, episodes=1, seed=5)
    assert alone.returns[0] == breakout_scores.returns[1]
    assert alone.lengths[0] == breakout_scores.lengths[1]


def test_scores_know_where_they_come_from(breakout_agent, breakout_scores):
    assert breakout_scores.agent == "cycling"
    assert breakout_scores.agent_sha256 == breakout_agent.facts["sha256"]
    assert breakout_scores.settings == breakout_agent.settings
    assert breakout_scores.mean == pytest.approx(breakout_scores.returns.mean())
    assert breakout_scores.interval == mean_interval(breakout_scores.returns)


def test_cut_episodes_are_flagged_and_rewards_are_not_clipped():
    agent = load_agent("untrained-spaceinvaders")
    scores = evaluate(agent, 2, seed=1, settings=replace(agent.settings, max_frames=1000))
    assert scores.truncated.all()
    assert (scores.lengths <= 250).all()
    assert scores.returns.max() > scores.lengths.max() / 10  # aliens give 5 to 30 points
    assert (scores.returns % 5 == 0).all()


def test_greedy_play_is_another_than_drawn(breakout_agent):
    settings = replace(breakout_agent.settings, max_frames=300)
    greedy = evaluate(breakout_agent, 1, seed=4, greedy=True, settings=settings)
    assert greedy.greedy
    trajectory = rollout(breakout_agent, 4, greedy=True, episodes=1, settings=settings)
    assert greedy.lengths[0] == len(trajectory)


@pytest.mark.skipif(not REFERENCE, reason="ATARILENS_REFERENCE does not name the reference data")
def test_a_published_agent_plays_pong_as_published():
    """17.8 +- 2.5 over single episodes; the mean of two is below 12 once in a thousand times."""
    path = Path(REFERENCE).parent / "agents" / "baby-a3c" / "pong-v4" / "model.80.tar"
    assert evaluate(load_agent(path, game="pong"), episodes=2, seed=100).mean >= 12


def test_bootstrap_interval_is_the_normal_one_for_normal_values():
    values = np.random.default_rng(1).normal(5, 2, 400)
    low, high = bootstrap_interval(values)
    half = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - half, abs=0.02)
    assert high == pytest.approx(values.mean() + half, abs=0.02)
    narrow = bootstrap_interval(values, level=0.5)
    assert low < narrow[0] < narrow[1] < high
    assert bootstrap_interval([7.0, 7.0, 7.0]) == (7, 7)
    assert bootstrap_interval(values) == (low, high)  # a fixed generator
    assert bootstrap_interval(values, np.random.default_rng(9)) != (low, high)


@pytest.mark.parametrize("episodes", [2, 3, 6, 12, 20])
def test_the_interval_of_few_episodes_covers_the_mean_as_often_as_it_says(episodes):
    generator = np.random.default_rng(episodes)
    games = generator.normal(2.0, 1.0, (1_000, episodes))
    intervals = [mean_interval(values) for values in games]
    assert np.mean([low <= 2.0 <= high for low, high in intervals]) > 0.91


def test_the_interval_of_few_episodes_is_students():
    """Table value: t(2) at 97.5 % is 4.3027; sem of 1, 2, 3 is 1 / sqrt(3)."""
    assert mean_interval([1.0, 2.0, 3.0]) == pytest.approx((2 - 2.48414, 2 + 2.48414), abs=1e-5)
    assert mean_interval([5.0, 5.0]) == (5, 5)
    assert np.isnan(mean_interval([5.0])).all()
    many = np.arange(20.0)
    assert mean_interval(many, level=0.9) == bootstrap_interval(many, level=0.9)
    with pytest.raises(ValueError, match="one value per episode"):
        mean_interval([])
    with pytest.raises(ValueError, match="level must lie between 0 and 1, received 95"):
        mean_interval([1.0, 2.0], level=95)


def test_bootstrap_interval_covers_the_mean_as_often_as_it_says():
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(100):
        low, high = bootstrap_interval(generator.exponential(1.0, 30), generator)
        covered += low <= 1 <= high
    assert 86 <= covered <= 100  # 95 %, less what 30 skewed values cost


def test_difference_of_means_has_its_sign_and_width():
    generator = np.random.default_rng(2)
    values, others = generator.normal(10, 1, 100), generator.normal(7, 2, 400)
    difference, (low, high) = mean_difference(values, others)
    assert difference == pytest.approx(values.mean() - others.mean())
    half = 1.96 * np.hypot(values.std() / 10, others.std() / 20)
    assert (low, high) == pytest.approx((difference - half, difference + half), abs=0.02)
    assert mean_difference(others, values)[0] == -difference


def test_equivalence_needs_the_whole_interval_within_the_margin():
    generator = np.random.default_rng(3)
    sample = generator.normal(100, 10, 60)
    close = equivalence_test(sample + 3, sample)
    assert close.ratio == pytest.approx(1.03, abs=0.001)
    assert close.equivalent
    assert not close.different
    assert 1 - 0.15 < close.interval[0] < close.ratio < close.interval[1] < 1 + 0.15
    for factor in (0.8, 1.2):
        apart = equivalence_test(factor * sample, sample)
        assert apart.different
        assert not apart.equivalent
    wide = equivalence_test(generator.normal(100, 40, 10), generator.normal(100, 40, 10))
    assert not wide.equivalent  # not shown, for want of episodes
    assert not wide.different
    assert not equivalence_test(sample + 3, sample, margin=0.02).equivalent
    with pytest.raises(ValueError, match="needs positive mean scores, one resampled mean is -20"):
        equivalence_test([-20.0] * 5, [1.0] * 5)


def test_scores_are_written_and_read_back(breakout_scores, tmp_path):
    sticky = replace(breakout_scores.settings, repeat_action_probability=0.25)
    other = replace(breakout_scores, settings=sticky, agent_sha256=None, returns=np.full(3, -1.5))
    path = write_scores([breakout_scores, other], tmp_path / "scores" / "a.csv")
    lines = path.read_text().splitlines()
    assert len(lines) == 7
    head = "agent,seed,return,steps,truncated,greedy,repeat_action_probability,hint,agent_sha256"
    assert lines[0] == head
    rows = read_scores(path)
    assert [row["return"] for row in rows[:3]] == breakout_scores.returns.tolist()
    assert [row["steps"] for row in rows[:3]] == breakout_scores.lengths.tolist()
    assert rows[0]["agent_sha256"] == breakout_scores.agent_sha256
    assert rows[5] == {
        "agent": "cycling",
        "seed": 6,
        "return": -1.5,
        "steps": rows[2]["steps"],
        "truncated": False,
        "greedy": False,
        "repeat_action_probability": 0.25,
        "hint": "none",
        "agent_sha256": "",
    }
    assert [file.name for file in path.parent.iterdir()] == ["a.csv"]
    path.write_text("agent,seed\nx,1\n")
    with pytest.raises(ValueError, match=r"a\.csv is no table of scores: 'return'"):
        read_scores(path)


def test_errors_say_what_was_received(breakout_agent):
    message = "episodes must be 1 or more and seed 0 or more: received 0 and 0"
    with pytest.raises(ValueError, match=message):
        evaluate(breakout_agent, episodes=0)
    pong = replace(breakout_agent.settings, game="pong")
    with pytest.raises(ValueError, match="agent 'cycling' plays breakout, not pong"):
        evaluate(breakout_agent, settings=pong)
    with pytest.raises(
        ValueError, match=re.escape("expected one value per episode [n], received [0]")
    ):
        bootstrap_interval([])
    with pytest.raises(ValueError, match="level must lie between 0 and 1, received 95"):
        bootstrap_interval([1.0], level=95)
