"""A run's folder: what is kept of it, whatever it is that is trained."""

import numpy as np
import pytest
import torch
from torch import nn

from atarilens.envs import EnvironmentSettings
from atarilens.training.emulators import Emulators
from atarilens.training.ppo import PPOSettings
from atarilens.training.runs import RETURNS_KEPT, checkpoint_steps, drive, load_weights

FACTS = {"game": "none", "seed": 0}


def scripted(network, episodes, mean_returns):
    """Updates that set the network's weight to 1, 2, ... and tell the returns they are given."""

    def make_update(step, optimizer, generator):
        told = iter(zip(episodes[step:], mean_returns[step:], strict=True))

        def update():
            with torch.no_grad():
                network.weight += 1
            finished, mean = next(told)
            return {"episodes": finished, "mean_return": mean}

        return update

    return make_update


def run(folder, episodes, means, total_steps):
    network = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(network.weight)
    updates = scripted(network, episodes, means)
    settings = PPOSettings(total_steps, num_envs=1, rollout_steps=1, minibatches=1)
    drive(folder, FACTS, network, updates, settings, progress=False)
    kept = list((folder / "best").iterdir())
    return {path.name: float(load_weights(path)["weight"]) for path in kept}


def test_the_best_of_the_running_mean_is_kept(tmp_path):
    full = [RETURNS_KEPT] * 4
    assert run(tmp_path, full, [1.0, 3.0, 2.0, 2.5], 4) == {"000000002.safetensors": 2.0}


def test_without_a_mean_there_is_no_best(tmp_path):
    assert run(tmp_path, [0, 0, 0], [None, None, 1.0], 3) == {"000000003.safetensors": 3.0}


def test_a_mean_of_few_games_is_none():
    """Of games of one step each, 40 at a time."""
    emulators = Emulators(EnvironmentSettings("pong", max_frames=4), 40, (0,))
    means = []
    for _ in range(7):
        emulators.step(np.zeros(40, int))
        means.append((emulators.episodes, emulators.metrics["mean_return"]))
    told = [mean for episodes, mean in means if episodes >= RETURNS_KEPT]
    assert told == [0.0] * len(told)
    assert told
    assert {mean for episodes, mean in means if episodes < RETURNS_KEPT} == {None}


def test_a_resumed_run_remembers_its_best(tmp_path):
    means, full = [1.0, 3.0, 2.0, 2.5, 3.5], [RETURNS_KEPT] * 5
    for total, best in ((3, 2), (4, 2), (5, 5)):
        expected = {f"{best:09d}.safetensors": float(best)}
        assert run(tmp_path, full, means, total) == expected


@pytest.mark.parametrize(
    ("total", "steps"),
    [(20_000, [0, 20_000]), (130_000, [0, 31_250, 62_500, 125_000, 130_000])],
)
def test_the_schedule_doubles_and_ends_at_the_end(total, steps):
    assert checkpoint_steps(total) == steps
