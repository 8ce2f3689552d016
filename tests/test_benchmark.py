"""The benchmark measures what it says, and names the machine."""

import json
import re
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from atarilens import load_agent, perturbation_saliency, rollout
from atarilens.agents import build_network
from compendium import benchmark
from compendium.shipping import zoo


@pytest.fixture(scope="module")
def moment():
    agent = load_agent("untrained-pong")
    with torch.no_grad():  # livelier than an untrained network
        agent.network.lstm.weight_ih.mul_(3)
        agent.network.actor_linear.weight.mul_(100)
    trajectory = rollout(agent, seed=0, max_steps=70)
    return agent, trajectory


def test_the_original_algorithm_gives_the_same_grids(moment):
    agent, trajectory = moment
    screen, memory = trajectory.frames[-1], trajectory.memory[-1]
    expected = perturbation_saliency(agent.network, trajectory.observations[-1], memory, stride=10)
    for grids in (
        benchmark.original_saliency(agent, screen, memory, 10),
        benchmark.prepared_saliency(agent, trajectory.observations[-1], memory, 10),
    ):
        for grid, other in zip(grids, (expected.actor_grid, expected.critic_grid), strict=True):
            assert np.abs(grid - other).max() <= 1e-3 * other.max()


def test_captum_occludes_as_many_places_for_both_heads(moment):
    agent, trajectory = moment
    passes = []
    hook = agent.network.register_forward_hook(lambda *call: passes.append(len(call[1][0])))
    attribution = benchmark.occlusion(
        agent, trajectory.observations[-1], trajectory.memory[-1], stride=5
    )
    hook.remove()
    assert attribution.shape == (7, 1, 80, 80)  # six actions and the value
    assert sum(passes) == 1 + 256
    assert max(passes) == 16


def test_multiplications_are_those_of_the_layers():
    assert benchmark.multiplications(768, exact=False) == 256 * 5_913_600
    assert benchmark.multiplications(0, exact=True) < 0.4 * benchmark.multiplications(0, False)
    assert benchmark.multiplications(768, False, stride=1) == 6400 * 5_913_600


def test_the_fastest_turn_counts_and_the_first_does_not():
    waits = {"a": iter([0.0, 0.03, 0.01, 0.02, 0.03, 0.03]), "b": iter([0.0] + [0.05] * 5)}
    order = []

    def work(name):
        order.append(name)
        time.sleep(next(waits[name]))

    seconds = benchmark.fastest({name: lambda name=name: work(name) for name in waits})
    assert 0.01 <= seconds["a"] < 0.03
    assert seconds["b"] >= 0.05
    assert order == ["a", "b"] * 6  # in turns


def test_every_algorithm_of_the_zoo_is_measured_beside_stable_baselines(monkeypatch):
    small = {"ppo": {"rollout_steps": 8, "minibatches": 2}, "a2c": {"rollout_steps": 4}}
    small |= {name: {"batch": 4} for name in ("dqn", "qr-dqn")}
    small |= {name: {"population": 2, "parents": 1, "elite": 1} for name in ("ga", "es")}
    recipes = {
        name: replace(zoo.RECIPES[name], hidden_units=8, **changes)
        for name, changes in small.items()
    }
    for name in ("ppo", "a2c", "dqn", "qr-dqn"):
        recipes[name] = replace(recipes[name], num_envs=2)
    monkeypatch.setattr(zoo, "RECIPES", recipes)
    monkeypatch.setattr("compendium.training.learner.CALIBRATION", (2, 20))
    shortened = {name: {"first_steps": 16, "memory_steps": 64} for name in ("dqn", "qr-dqn")}
    shortened |= {name: {"episode_steps": 4} for name in ("ga", "es")}
    monkeypatch.setattr(benchmark, "SHORTENED", shortened)
    rates = benchmark.zoo_training(turns=2)
    assert set(rates) == {"ppo", "a2c", "dqn", "qr-dqn", "ga", "es"}
    for name, found in rates.items():
        beside = set() if name in ("ga", "es") else {"stable-baselines3"}
        assert set(found) == {"atarilens", *beside}
        assert all(0 < rate < 1e6 for rate in found.values())


def test_a_counterpart_has_the_numbers_of_our_recipe():
    recipe = replace(zoo.RECIPES["ppo"], num_envs=2)
    model = benchmark.counterpart("ppo", "pong", recipe)
    assert (model.n_epochs, model.n_steps, model.n_envs) == (recipe.epochs, 128, 2)
    assert model.batch_size * recipe.minibatches == 2 * 128
    assert model.observation_space.shape == (4, 84, 84)
    ours = build_network("nature", 6, hidden_units=128)
    assert sum(p.numel() for p in model.policy.parameters()) == sum(
        p.numel() for p in ours.parameters()
    )


def test_the_file_is_named_after_the_machine_and_holds_its_numbers(monkeypatch, tmp_path):
    for name, value in {
        "BENCHMARKS": tmp_path,
        "REPEATS": 1,
        "FRAMES": 1,
        "LONG": 2,
        "STRIDES": (20, 40),
        "GAMES": ("pong",),
    }.items():
        monkeypatch.setattr(benchmark, name, value)
    threads = torch.get_num_threads()
    path = benchmark.write(trainers=False)
    assert torch.get_num_threads() == threads
    assert re.fullmatch(r"[a-z0-9-]+-\d+-cores\.json", path.name)
    assert path.with_suffix(".png").stat().st_size > 10_000
    numbers = json.loads(path.read_text())
    (agent,) = (name for name in numbers["1 thread"] if name.startswith("pong"))
    times = numbers["1 thread"][agent]["ms_per_frame"]
    assert 0 < times["fast"] < times["original"]
    ratio = numbers["1 thread"][agent]["times_faster_than"]["original"]
    assert ratio == pytest.approx(times["original"] / times["fast"], rel=1e-2)
    assert numbers["2 threads"]["arithmetic"]["product_gflop_per_second"] > 0
