"""Noise on observations, weights and actions: zero noise is no noise, and known answers."""

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch

from atarilens import evaluate, load_agent
from atarilens.agents import zoo
from atarilens.play import matched, noisy_weights, play_with_noise, read_scores, robustness
from atarilens.play.noise import COLUMNS, KINDS
from atarilens.play.scores import _Player
from compendium.tables.noise import measure_noise, read_noise


@pytest.fixture(scope="module")
def agent():
    return zoo.load("ga", "freeway")


@pytest.fixture(scope="module")
def clean(agent):
    return evaluate(agent, 2, seed=4, settings=replace(agent.settings, max_frames=80))


@pytest.mark.parametrize("kind", KINDS)
def test_zero_noise_is_bit_equal(agent, clean, kind):
    noisy = play_with_noise(agent, kind, 0.0, episodes=2, seed=4, max_steps=20)
    for name in ("seeds", "returns", "lengths", "truncated"):
        np.testing.assert_array_equal(getattr(noisy, name), getattr(clean, name))


def test_zero_noise_reproduces_a_stored_score():
    rows = [row for row in read_scores("breakout-early") if not row["repeat_action_probability"]]
    row = min((row for row in rows if not row["greedy"]), key=lambda row: row["steps"])
    agent = load_agent("breakout-early")
    told = play_with_noise(
        agent, "observation", 0.0, episodes=1, seed=row["seed"], greedy=row["greedy"]
    )
    assert (told.returns[0], told.lengths[0]) == (row["return"], row["steps"])


def test_noise_on_observations_is_gaussian_and_does_not_stay(agent):
    settings = replace(agent.settings, max_frames=80)
    greedy = [lambda logits: int(logits.argmax())] * 2
    noisy, clean = (
        _Player(agent, settings, 3, choose, noise)
        for choose, noise in zip(greedy, (0.1, 0.0), strict=True)
    )
    drawn = []
    for step in range(12):
        drawn.append(noisy.stream.observation - clean.stream.observation)
        for player in (noisy, clean):
            player.act(np.eye(3)[step % 3])
    drawn = np.stack(drawn)
    assert drawn.std() == pytest.approx(0.1, rel=0.01)
    assert abs(drawn.mean()) < 1e-3
    assert abs(np.corrcoef(drawn[1:, :3].ravel(), drawn[:-1, 1:].ravel())[0, 1]) < 0.01


def test_actions_drawn_evenly_do_not_depend_on_the_agent(agent):
    other = noisy_weights(agent, 5.0, seed=1)
    ours, theirs = (
        play_with_noise(one, "action", 1.0, episodes=2, max_steps=40) for one in (agent, other)
    )
    np.testing.assert_array_equal(ours.returns, theirs.returns)
    np.testing.assert_array_equal(ours.lengths, theirs.lengths)


def test_relative_noise_is_absolute_noise_in_units_of_each_layer(agent):
    before = {name: value.clone() for name, value in agent.network.state_dict().items()}
    absolute, relative, double = (
        noisy_weights(agent, sigma, seed=7, relative=relative).network.state_dict()
        for sigma, relative in ((0.1, False), (0.1, True), (0.2, False))
    )
    for name, value in agent.network.state_dict().items():
        assert torch.equal(value, before[name])
        added, scaled = absolute[name] - value, relative[name] - value
        if not (name.startswith("conv") and name.endswith("weight")):
            assert not added.any()
            assert not scaled.any()
            continue
        size = value.square().mean().sqrt()
        assert float(added.std()) == pytest.approx(0.1, rel=0.05)
        assert torch.allclose(scaled, added * size, atol=1e-5)
        assert torch.allclose(double[name] - value, 2 * added, atol=1e-5)


def test_both_normalisations_on_known_numbers():
    found = robustness([4.0, 6.0, 8.0], own=11.0, best=21.0, random=1.0)
    assert found.of_own == pytest.approx(0.5)
    assert found.of_best == pytest.approx(0.25)
    low, high = found.interval
    assert low < 0.5 < high
    assert low + high == pytest.approx(1.0)
    assert np.isnan(robustness([0.0, 1.0], own=1.0, best=21.0, random=1.0).of_own)


def test_players_of_matched_strength_are_those_within_the_margin():
    scores = {"best": 101.0, "good": 41.0, "alike": 37.0, "weak": 11.0, "random": 1.0, "worse": -3}
    assert matched(scores, random=1.0) == ["good", "alike"]
    assert matched(scores, random=1.0, margin=0.7) == ["best", "good", "alike"]
    assert matched({"one": 5.0, "two": 2.0}, random=0.0) == []
    assert matched({}, random=0.0) == []


def test_what_is_no_noise_is_said(agent):
    with pytest.raises(ValueError, match="unknown kind of noise 'colour'; expected one of obs"):
        play_with_noise(agent, "colour", 0.1)
    with pytest.raises(ValueError, match=r"observation_noise is -0.1, expected 0 or more"):
        play_with_noise(agent, "observation", -0.1)
    with pytest.raises(ValueError, match="sigma is -1, expected 0 or more"):
        noisy_weights(agent, -1, seed=0)


def test_the_table_goes_on_and_measures_new_weights_anew(tmp_path):
    table, options = tmp_path / "noise.csv", {"episodes": 1, "max_steps": 8, "progress": False}
    levels = {"observation": (0.1,), "action": (0.5,)}
    measure_noise("ga-freeway-1", levels={}, table=table, **options)
    begun = read_noise(table)
    assert [(row["agent"], row["kind"]) for row in begun] == [
        ("ga-freeway-1", "none"),
        ("random-freeway", "action"),
    ]
    begun[0]["return"] = "77"  # stays: it has been measured
    rewrite(table, begun)
    measure_noise("ga-freeway-1", levels=levels, table=table, **options)
    rows = {(row["agent"], row["kind"], row["level"]): row for row in read_noise(table)}
    assert rows["ga-freeway-1", "none", "0"]["return"] == "77"
    assert set(rows) == {
        ("ga-freeway-1", "none", "0"),
        ("ga-freeway-1", "observation", "0.1"),
        ("ga-freeway-1", "action", "0.5"),
        ("random-freeway", "action", "1"),
    }
    rewrite(table, [row | {"agent_sha256": row["agent_sha256"] and "0"} for row in rows.values()])
    measure_noise("ga-freeway-1", levels={}, table=table, **options)
    again = {(row["agent"], row["kind"]): row for row in read_noise(table)}
    assert again["ga-freeway-1", "none"]["return"] != "77"
    assert len(again) == 2
    with pytest.raises(ValueError, match="no agent of the zoo has a name that starts with 'xyz'"):
        measure_noise("xyz", table=table)


def rewrite(table, rows):
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
