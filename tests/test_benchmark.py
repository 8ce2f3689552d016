"""The benchmark measures what it says, and names the machine."""

import json
import re
import time

import numpy as np
import pytest
import torch

from atarilens import load_agent, perturbation_saliency, rollout
from compendium import benchmark


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
