"""Recurrent PPO: formulas by hand, and runs that survive being killed."""

import copy
import csv
import json
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from atarilens.agents import agent_from_module, load_agent, save_agent
from atarilens.agents.networks import RecurrentActorCritic, initialise
from atarilens.agents.preprocessing import area84, preprocessing
from atarilens.agents.registry import build_network
from atarilens.games.emulators import EnvironmentSettings, ObservationEnv, make_env
from atarilens.play import rollout as rollout_of_agent
from compendium.shipping import checkpoint_agent
from compendium.training.emulators import Emulators, grey84
from compendium.training.ppo import (
    A2C,
    PPOSettings,
    _collect,
    _update,
    advantages,
    cut,
    decide,
    sample,
    train,
    unroll,
)
from compendium.training.runs import checkpoint_steps, load_weights

GAMES = ("pong", "breakout", "spaceinvaders")
SMALL = {"num_envs": 4, "rollout_steps": 8, "epochs": 1, "minibatches": 2}


def curve(run_dir):
    """Return the rows of a run's curve."""
    return list(csv.DictReader((run_dir / "curve.csv").read_text().splitlines()))


def test_advantages_by_hand():
    """Three steps, the return ends after the second; discount 1/2, lambda 1/2."""
    rewards = torch.tensor([[1.0], [2.0], [4.0]])
    values = torch.tensor([[1.0], [2.0], [3.0]])
    ends = torch.tensor([[0.0], [1.0], [0.0]])
    found = advantages(rewards, values, ends, torch.tensor([8.0]), 0.5, 0.5)
    # errors: 1 + .5*2 - 1 = 1; 2 - 2 = 0; 4 + .5*8 - 3 = 5; the first adds .25 of the second
    assert found[:, 0].tolist() == [1.0, 0.0, 5.0]


def test_lambda_one_is_the_discounted_return_less_the_value():
    generator = torch.Generator().manual_seed(0)
    rewards, values = torch.randn(2, 9, 3, generator=generator).unbind(0)
    ends = (torch.rand(9, 3, generator=generator) < 0.3).float()
    last = torch.randn(3, generator=generator)
    found = advantages(rewards, values, ends, last, 0.9, 1.0)
    for b in range(3):
        for t in range(9):
            total, discount = 0.0, 1.0
            for u in range(t, 9):
                total += discount * rewards[u, b]
                discount *= 0.9 * (1 - ends[u, b])
            total += discount * last[b]
            torch.testing.assert_close(found[t, b], total - values[t, b], atol=1e-5, rtol=1e-5)


def test_the_schedule_is_geometric_from_the_untrained_network_on():
    assert checkpoint_steps(200_000) == [0, 31_250, 62_500, 125_000, 200_000]


def rollout_of(network, settings, generator):
    """Return a rollout of noise in which action 1 was always good and the others bad."""
    shape = (settings.rollout_steps, settings.num_envs)
    observations = torch.rand(*shape, 1, 80, 80, generator=generator)
    memory = torch.zeros(settings.num_envs, 2, 256)
    starts = torch.zeros(shape, dtype=torch.bool)
    with torch.no_grad():
        hidden, _ = network.unroll(observations, memory, starts)
        logits, values = network.heads(hidden)
    actions = torch.randint(0, 4, shape, generator=generator)
    log_probs = logits.log_softmax(-1).gather(2, actions[..., None])[..., 0]
    gain = (actions == 1).float() - 0.25
    return {
        "observations": observations,
        "starts": starts,
        "actions": actions,
        "log_probs": log_probs,
        "values": values,
        "advantages": gain,
        "returns": torch.ones(shape),
        "memory": memory,
    }


def test_an_update_favours_what_turned_out_well():
    network = initialise(RecurrentActorCritic(4), 0)
    settings = PPOSettings(**SMALL)
    generator = torch.Generator().manual_seed(0)
    rollout = rollout_of(network, settings, generator)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    for _ in range(5):
        statistics = _update(network, optimizer, rollout, settings, generator)
    with torch.no_grad():
        hidden, _ = network.unroll(rollout["observations"], rollout["memory"], rollout["starts"])
        logits, value = network.heads(hidden)
    assert logits.softmax(-1)[..., 1].mean() > 0.26
    assert (value - 1).abs().mean() < (rollout["values"] - 1).abs().mean()
    assert statistics["approximate_kl"] >= 0


def test_an_update_of_a2c_equals_a_plain_one():
    """A feed-forward network's: the policy gradient with baseline, in float32, a step at a time."""
    network = initialise(build_network("nature", 6, hidden_units=16), 0)
    plain = copy.deepcopy(network)
    network.to(memory_format=torch.channels_last)
    settings = PPOSettings(num_envs=4, rollout_steps=2, network="nature", **A2C)
    generator = torch.Generator().manual_seed(0)
    shape = (2, 4)
    observations = torch.randint(0, 256, (*shape, 4, 84, 84), generator=generator)
    rollout = {
        "observations": observations.to(torch.uint8),
        "starts": torch.zeros(shape, dtype=torch.bool),
        "actions": torch.randint(0, 6, shape, generator=generator),
        "advantages": torch.randn(shape, generator=generator),
        "returns": torch.randn(shape, generator=generator),
        "memory": torch.zeros(8, 0, 0),
    }
    with torch.no_grad():
        logits, rollout["values"], _ = decide(
            network, rollout["observations"], rollout["memory"], rollout["starts"]
        )
    log_probs = logits.log_softmax(-1)
    rollout["log_probs"] = log_probs.gather(2, rollout["actions"][..., None])[..., 0]
    unclipped = replace(settings, max_grad_norm=1e9)
    _update(network, torch.optim.SGD(network.parameters(), 0.1), rollout, unclipped, generator)
    losses = []
    for t in range(2):
        for b in range(4):
            observation = rollout["observations"][t, b][None].float() / 255
            logits, value, _ = plain(observation, torch.zeros(1, 0, 0))
            log_probs = logits[0].log_softmax(0)
            entropy = -(log_probs.exp() * log_probs).sum()
            gain = rollout["advantages"][t, b] * log_probs[rollout["actions"][t, b]]
            error = (value[0] - rollout["returns"][t, b]) ** 2
            losses.append(-gain + settings.value * 0.5 * error - settings.entropy * entropy)
    torch.stack(losses).mean().backward()
    for before, after in zip(plain.parameters(), network.parameters(), strict=True):
        step = (before - after).detach().flatten()
        assert F.cosine_similarity(step, before.grad.flatten(), dim=0) > 0.98
        assert step.norm() == pytest.approx(0.1 * before.grad.norm().item(), rel=0.1)


@pytest.mark.parametrize("recipe", [{}, A2C], ids=["ppo", "a2c"])
def test_a_feed_forward_network_learns_and_goes_on(tmp_path, recipe):
    settings = {"num_envs": 4, "rollout_steps": 8, "minibatches": 2, "epochs": 2, **recipe}
    settings |= {"network": "nature", "hidden_units": 16, "calibrated": True}
    for total in (32, 96):
        train("pong", tmp_path, PPOSettings(total, **settings), seed=2, progress=False)
    assert [int(row["step"]) for row in curve(tmp_path)] == [32, 64, 96]
    agent = checkpoint_agent(tmp_path / "checkpoints" / "000000096.safetensors", "mine")
    assert (agent.network.architecture, agent.preprocessing.name) == ("nature", "area84-stack4")
    assert agent.network.linear.out_features == 16
    trajectory = rollout_of_agent(agent, seed=0, max_steps=4)
    assert trajectory.observations.shape == (4, 4, 84, 84)


def test_networks_that_are_not_trained_here_are_named(tmp_path):
    for network in ("gru", "nature-q", "nature-lstm"):
        settings = PPOSettings(32, **SMALL, network=network)
        message = f"PPO trains 'lstm' and feed-forward networks with a critic, received '{network}'"
        with pytest.raises(ValueError, match=message):
            train("pong", tmp_path / "run", settings, progress=False)
    with pytest.raises(ValueError, match="unknown network 'natur', did you mean"):
        train("pong", tmp_path / "run", PPOSettings(32, **SMALL, network="natur"), progress=False)
    with pytest.raises(ValueError, match="optimizer must be one of adam, rmsprop, received 'sgd'"):
        PPOSettings(optimizer="sgd")
    assert not (tmp_path / "run").exists()


def test_a_lost_life_costs_its_penalty_and_ends_the_return():
    """With lambda 1, two collections that differ in the penalty differ by its discounted sum."""

    def collect(penalty: float) -> tuple[np.ndarray, list]:
        settings = PPOSettings(
            num_envs=4, rollout_steps=128, gae_lambda=1.0, life_penalty=penalty, minibatches=1
        )
        network = initialise(RecurrentActorCritic(4), 0).to(memory_format=torch.channels_last)
        emulators = Emulators(EnvironmentSettings("breakout"), 4, (1, 0))
        step, lost = emulators.step, []

        def watched(actions):
            rewards, over, lives = step(actions)
            lost.append(lives)
            return rewards, over, lives

        emulators.step = watched
        generator = torch.Generator().manual_seed(0)
        rollout, _ = _collect(network, emulators, torch.zeros(4, 2, 256), settings, generator)
        return rollout["returns"].numpy(), lost

    (free, lost), (dear, _) = collect(0.0), collect(2.0)
    assert np.sum(lost) >= 2
    expected = np.zeros((129, 4))
    for t in reversed(range(128)):
        expected[t] = np.where(lost[t], 2.0, 0.99 * expected[t + 1])
    np.testing.assert_allclose(free - dear, expected[:128], atol=1e-4)


def test_sequences_start_from_the_memory_that_was_played_with():
    """Two ways: the rollout run whole, and cut into sequences of two steps."""
    network = initialise(RecurrentActorCritic(4), 0).to(memory_format=torch.channels_last)
    settings = PPOSettings(num_envs=2, rollout_steps=4, sequence_steps=2, minibatches=2)
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(2, 2, 256, generator=generator)
    emulators = Emulators(EnvironmentSettings("breakout"), 2, (1, 0))
    rollout, after = _collect(network, emulators, start, settings, generator)
    observations, starts = rollout["observations"], rollout["starts"]
    with torch.no_grad():
        whole, last = unroll(network, observations, start, starts)
        parts, ends = unroll(network, cut(observations, 2), rollout["memory"], cut(starts, 2))
    torch.testing.assert_close(cut(whole, 2), parts, atol=1e-2, rtol=1e-2)
    torch.testing.assert_close(ends[2:], last, atol=1e-2, rtol=1e-2)
    torch.testing.assert_close(last, after, atol=1e-2, rtol=1e-2)
    table = torch.arange(8).reshape(4, 2)
    assert cut(table, 2).tolist() == [[0, 1, 4, 5], [2, 3, 6, 7]]


def test_clipping_bounds_how_far_an_update_goes():
    moved = []
    for clip in (0.01, 100.0):
        network = initialise(RecurrentActorCritic(4), 0)
        settings = PPOSettings(**SMALL | {"epochs": 20, "clip": clip, "entropy": 0.0, "value": 0.0})
        generator = torch.Generator().manual_seed(0)
        rollout = rollout_of(network, settings, generator)
        optimizer = torch.optim.Adam(network.parameters(), 1e-3)
        moved.append(_update(network, optimizer, rollout, settings, generator))
    assert moved[0]["approximate_kl"] < moved[1]["approximate_kl"] / 3


def test_a_run_resumes_where_it_stopped(tmp_path):
    settings = PPOSettings(total_steps=96, **SMALL)
    train("breakout", tmp_path, settings, seed=2, max_seconds=0.0, progress=False)
    assert not (tmp_path / "curve.csv").exists()
    train("breakout", tmp_path, settings, seed=2, progress=False)
    rows = curve(tmp_path)
    assert [int(row["step"]) for row in rows] == [32, 64, 96]
    assert float(rows[0]["learning_rate"]) == pytest.approx(5e-4)
    assert float(rows[2]["learning_rate"]) == pytest.approx(5e-4 / 3, rel=1e-4)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert state["step"] == 96
    final = load_weights(tmp_path / "checkpoints" / "000000096.safetensors")
    for name, tensor in state["network"].items():
        assert torch.equal(final[name], tensor.half().float())
    assert state["optimizer"]["state"][0]["step"] == 3 * 2  # updates survive the stop
    more = PPOSettings(total_steps=128, **SMALL)
    train("breakout", tmp_path, more, seed=2, progress=False)
    assert torch.load(tmp_path / "state.pt", weights_only=True)["step"] == 128


def test_actions_are_drawn_with_their_probabilities():
    log_probs = torch.tensor([0.5, 0.3, 0.2, 0.0]).log().expand(20_000, 4)
    actions = sample(log_probs, torch.Generator().manual_seed(0))
    shares = torch.bincount(actions, minlength=4) / 20_000
    torch.testing.assert_close(shares, torch.tensor([0.5, 0.3, 0.2, 0.0]), atol=0.015, rtol=0)


def test_the_first_checkpoint_is_the_untrained_network(tmp_path):
    train("pong", tmp_path, PPOSettings(total_steps=32, **SMALL), seed=5, progress=False)
    start = load_weights(tmp_path / "checkpoints" / "000000000.safetensors")
    expected = initialise(RecurrentActorCritic(6), 5).state_dict()
    assert all(torch.equal(start[name], expected[name].half().float()) for name in expected)


def test_equal_seeds_give_equal_runs(tmp_path):
    curves = []
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        train("pong", tmp_path / folder, PPOSettings(64, **SMALL), seed=seed, progress=False)
        curves.append([row["value_loss"] for row in curve(tmp_path / folder)])
    assert curves[0] == curves[1] != curves[2]


def test_training_can_start_from_an_agent(tmp_path):
    parent = load_agent("pong-early")
    run = train("pong", tmp_path, PPOSettings(32, **SMALL), from_agent=parent, progress=False)
    weights = load_weights(run / "checkpoints" / "000000000.safetensors")
    assert all(torch.equal(weights[k], entry) for k, entry in parent.network.state_dict().items())
    assert json.loads((run / "settings.json").read_text())["lineage"] == "pong-early"


@pytest.mark.parametrize(("cell", "reads"), [("gru", "luma80"), ("lstm", "baby-a3c")])
def test_training_starts_from_the_network_that_it_trains_alone(tmp_path, cell, reads):
    parent = agent_from_module(
        RecurrentActorCritic(6, cell=cell), game="pong", preprocessing=reads, name="other"
    )
    message = f"agent 'other' has the network '{cell}' and reads '{reads}'; training takes the"
    with pytest.raises(ValueError, match=message):
        train("pong", tmp_path, from_agent=parent, progress=False)


def test_another_parent_of_the_same_name_is_refused(tmp_path):
    settings, parent = PPOSettings(32, **SMALL), load_agent("pong-early")
    run = train("pong", tmp_path / "run", settings, from_agent=parent, progress=False)
    told = json.loads((run / "settings.json").read_text())
    assert told["parent_sha256"] == parent.facts["sha256"]
    file = save_agent(load_agent("pong-late"), tmp_path / "pong-early")
    other = load_agent(file)
    assert other.name == parent.name
    with pytest.raises(ValueError, match=f"parent_sha256 = {parent.facts['sha256']}, asked for"):
        train("pong", run, settings, from_agent=other, progress=False)


def test_another_run_in_the_folder_is_refused(tmp_path):
    settings = PPOSettings(total_steps=32, **SMALL)
    train("pong", tmp_path, settings, seed=1, progress=False)
    with pytest.raises(ValueError, match=r"holds a run with seed = 1, asked for 2; choose another"):
        train("pong", tmp_path, settings, seed=2, progress=False)
    with pytest.raises(ValueError, match="holds a run with game = pong, asked for breakout"):
        train("breakout", tmp_path, settings, seed=1, progress=False)


def test_settings_that_cannot_run_are_named():
    message = r"sequences of a rollout \(6: .*\) must be a multiple of minibatches \(4\)"
    with pytest.raises(ValueError, match=message):
        PPOSettings(num_envs=6, minibatches=4)
    message = r"rollout_steps \(32\) must be a multiple of sequence_steps \(5\)"
    with pytest.raises(ValueError, match=message):
        PPOSettings(sequence_steps=5)
    message = r"minibatches \(8\) of one step each: .* expected two steps or more"
    with pytest.raises(ValueError, match=message):
        PPOSettings(num_envs=8, rollout_steps=1)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("sequence_steps", -1, "a whole number from 0 to inf"),
        ("entropy", float("nan"), "a finite number from -inf to inf"),
        ("life_penalty", float("-inf"), "a finite number from -inf to inf"),
        ("clip", -0.1, "a finite number from 0 to inf"),
        ("gamma", 1.5, "a finite number from 0 to 1"),
        ("gae_lambda", -0.5, "a finite number from 0 to 1"),
    ],
)
def test_numbers_out_of_range_are_named(name, value, expected):
    message = re.escape(f"{name} must be {expected}, received {value!r}")
    with pytest.raises(ValueError, match=f"^{message}$"):
        PPOSettings(**{name: value})


@pytest.mark.parametrize("seed", [-1, 2**63, 1.5])
def test_seeds_that_cannot_be_leave_nothing_behind(tmp_path, seed):
    with pytest.raises(ValueError, match=rf"seed must be a whole number from 0 .*received {seed}"):
        train("pong", tmp_path / "run", PPOSettings(32, **SMALL), seed=seed)
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_a_device_that_is_missing_leaves_nothing_behind(tmp_path):
    with pytest.raises(ValueError, match="device is 'cuda', but torch finds no CUDA here"):
        train("pong", tmp_path / "run", PPOSettings(32, **SMALL), device="cuda")
    assert not (tmp_path / "run").exists()


def test_callbacks_see_every_update(tmp_path):
    seen = []
    train(
        "pong",
        tmp_path,
        PPOSettings(total_steps=64, **SMALL),
        callbacks=[lambda step, network, metrics: seen.append((step, metrics["entropy"]))],
        progress=False,
    )
    assert [step for step, _ in seen] == [32, 64]
    assert np.allclose([entropy for _, entropy in seen], np.log(6), atol=0.02)


ENDLESS = """
import signal, torch
from compendium.training import ppo, runs
signal.signal(signal.SIGINT, signal.default_int_handler)
torch.set_num_threads(1)
runs.SAVE_EVERY = {every}
ppo.train("pong", {folder!r}, ppo.PPOSettings(10**6, **{small}), progress=False)
"""


@contextmanager
def training(folder, every=120.0):
    """Yield a process that trains in the folder and has made two updates at least."""
    script = ENDLESS.format(folder=str(folder), small=SMALL, every=every)
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            if (folder / "curve.csv").exists() and len(curve(folder)) >= 2:
                break
            time.sleep(0.1)
        yield process
    finally:
        process.kill()
        process.wait()


def check_that_it_goes_on(folder, step):
    """Go on for a moment from a step that is saved; the curve has every update once."""
    assert torch.load(folder / "state.pt", weights_only=True)["step"] == step
    train("pong", folder, PPOSettings(10**6, **SMALL), max_seconds=0.05, progress=False)
    after = torch.load(folder / "state.pt", weights_only=True)["step"]
    assert after > step
    assert [int(row["step"]) for row in curve(folder)] == list(range(32, after + 1, 32))


def test_a_killed_run_goes_on(tmp_path):
    """SIGKILL at any moment: the state that is there loads, and the curve goes on."""
    with training(tmp_path, every=0.0) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    step = torch.load(tmp_path / "state.pt", weights_only=True)["step"]
    assert step >= 32
    with (tmp_path / "curve.csv").open("a") as file:
        file.write("1000000,0.1")  # a row that was being written when the power went
    check_that_it_goes_on(tmp_path, step)


def test_a_run_killed_before_its_second_save_starts_anew(tmp_path):
    with training(tmp_path) as process:
        process.send_signal(signal.SIGKILL)
    check_that_it_goes_on(tmp_path, 0)


def test_an_interrupted_run_loses_nothing(tmp_path):
    with training(tmp_path) as process:
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == -signal.SIGINT
    check_that_it_goes_on(tmp_path, int(curve(tmp_path)[-1]["step"]))


def test_one_process_trains_in_a_folder(tmp_path):
    with (
        training(tmp_path),
        pytest.raises(ValueError, match=f"another process is training in {tmp_path}: stop it"),
    ):
        train("pong", tmp_path, PPOSettings(10**6, **SMALL), progress=False)
    check_that_it_goes_on(tmp_path, 0)


def test_grey_screens_are_those_of_the_preprocessing():
    """On noise, and on the screens of three games."""
    noise = np.random.default_rng(0).integers(0, 256, (3, 210, 160, 3), dtype=np.uint8)
    for screens in (noise, *(Emulators(EnvironmentSettings(g), 2, (1,)).screens for g in GAMES)):
        assert np.array_equal(grey84(screens), np.rint(255 * area84(screens)))


def test_stacks_are_those_of_one_environment():
    """Two ways: emulators side by side, and `ObservationEnv` with the same seed, over two games."""
    settings = EnvironmentSettings("breakout", noop_max=0, max_frames=120)
    emulators = Emulators(settings, 1, (5,), "area84-stack4")
    seed = int(np.random.SeedSequence((5,)).generate_state(1)[0] % 2**31)
    alone = ObservationEnv(make_env(settings), preprocessing("area84-stack4"))
    expected, _ = alone.reset(seed=seed)
    rng, over = np.random.default_rng(0), False
    for _ in range(40):
        assert over or np.array_equal(emulators.observations()[0], expected)
        action = rng.integers(4)
        _, (over,), _ = emulators.step(np.array([action]))
        expected, *_ = alone.step(action)
        if over:
            break
    assert over
    first = emulators.observations()[0]
    assert all(torch.equal(first[0], screen) for screen in first)
