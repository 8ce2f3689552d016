"""DQN, QR-DQN, GA and ES: formulas by hand and in two ways, and runs that go on."""

import copy
import csv

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from atarilens.agents.networks import initialise
from atarilens.agents.registry import build_network
from atarilens.games.emulators import EnvironmentSettings
from compendium.training import dqn, evolution
from compendium.training.dqn import DQNSettings, Memory, quantile_loss
from compendium.training.emulators import Emulators
from compendium.training.evolution import Evolution, EvolutionSettings, centred_ranks
from compendium.training.learner import hidden_layer, initial_network, network_input

SHORT = EnvironmentSettings("pong", max_frames=400)


def curve(run):
    return list(csv.DictReader((run / "curve.csv").read_text().splitlines()))


# --- What they share


def test_every_unit_of_the_initial_network_is_alive():
    """On observations of other random play than it was rescaled on; a plain one has dead units."""
    network = initial_network("nature", SHORT, 0, hidden_units=32)
    emulators = Emulators(SHORT, 8, (99,), "area84-stack4")
    rng, kept = np.random.default_rng(9), []
    for _ in range(40):
        emulators.step(rng.integers(6, size=8))
        kept.append(emulators.observations())
    observations = torch.cat(kept)
    memory = torch.zeros(len(observations), 0, 0)
    with torch.no_grad():
        hidden = network.features(network_input(observations), memory)
        plain = initialise(build_network("nature", 6, hidden_units=32), 0)
        dull = plain.features(network_input(observations), memory)
    assert (hidden.std(0) > 0.1).all()
    assert (hidden.std(0) > 5 * dull.std(0)).float().mean() > 0.9
    assert (hidden_layer(network, observations) - hidden).abs().mean() < 0.05  # bfloat16


def test_all_algorithms_start_from_the_same_network():
    parts = [
        initial_network(name, SHORT, 3, hidden_units=32).state_dict()
        for name in ("nature", "nature-q")
    ]
    shared = parts[0].keys() & parts[1].keys()
    assert len(shared) == 10
    assert all(torch.equal(parts[0][name], parts[1][name]) for name in shared)


# --- DQN


def played(memory, steps, seed=0):
    """Fill a memory with noise of two emulators; return all steps, and stacks put together."""
    rng, steps_of, stacks = np.random.default_rng(seed), [], []
    recent = [None, None]
    for t in range(steps):
        screens = rng.integers(0, 256, (2, 84, 84), dtype=np.uint8)
        starts = np.array([t % 7 == 0, t % 5 == 0])
        for b in range(2):
            old = [screens[b]] * 4 if starts[b] else [*recent[b][1:], screens[b]]
            recent[b] = old
        stacks.append(np.stack([np.stack(entry) for entry in recent]))
        entry = (screens, starts, rng.integers(6, size=2), rng.normal(size=2), rng.random(2) < 0.2)
        memory.add(*entry)
        steps_of.append(entry)
    return steps_of, np.stack(stacks)


@pytest.mark.parametrize("steps", [12, 50])
def test_a_memory_gives_back_what_was_played(steps):
    """Stacks, discounted sums and ends of three steps, before and after the ring is full."""
    memory = Memory(20, 2)
    entries, stacks = played(memory, steps)
    batch = memory.sample(np.random.default_rng(1), 200, 3, 0.5)
    for i in range(200):
        found = [
            (t, b)
            for t in range(max(0, steps - 20) + 3, steps - 3)
            for b in range(2)
            if np.array_equal(stacks[t, b], batch["observations"][i])
        ]
        ((t, b),) = found
        total, discount = 0.0, 1.0
        for k in range(3):
            total += discount * entries[t + k][3][b]
            discount *= 0.0 if entries[t + k][4][b] else 0.5
        assert batch["rewards"][i].item() == pytest.approx(total, abs=1e-5)
        assert batch["discounts"][i].item() == discount
        assert batch["actions"][i].item() == entries[t][2][b]
        assert np.array_equal(stacks[t + 3, b], batch["following"][i])


def batch_of(size):
    generator = torch.Generator().manual_seed(0)
    shape = (size, 4, 84, 84)
    return {
        "observations": torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8),
        "following": torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8),
        "actions": torch.randint(0, 6, (size,), generator=generator),
        "rewards": torch.randn(size, generator=generator),
        "discounts": torch.tensor([0.97, 0.0] * (size // 2)),
    }


def networks(architecture, **arguments):
    made = [
        initialise(build_network(architecture, 6, hidden_units=16, **arguments), seed)
        for seed in (0, 1)
    ]
    return made[0].to(memory_format=torch.channels_last), made[1]


def test_an_update_of_dqn_equals_a_plain_one():
    """The same batch, in float32, an element at a time: double Q-learning with a Huber loss."""
    network, target = networks("nature-q")
    plain, batch = copy.deepcopy(network), batch_of(8)
    settings = DQNSettings(max_grad_norm=1e9)
    ours = dqn._learn(network, target, torch.optim.SGD(network.parameters(), 0.1), batch, settings)

    def q(net, observation):
        return net(observation[None].float() / 255, torch.zeros(1, 0, 0))[0][0]

    losses = []
    for i in range(8):
        chosen = q(plain, batch["following"][i]).argmax()
        value = q(target, batch["following"][i])[chosen].detach()
        error = q(plain, batch["observations"][i])[batch["actions"][i]] - (
            batch["rewards"][i] + batch["discounts"][i] * value
        )
        losses.append(0.5 * error**2 if error.abs() < 1 else error.abs() - 0.5)
    loss = torch.stack(losses).mean()
    loss.backward()
    assert ours["loss"] == pytest.approx(loss.item(), rel=0.02)
    for before, after in zip(plain.parameters(), network.parameters(), strict=True):
        step = before.detach() - after.detach()
        assert F.cosine_similarity(step.flatten(), before.grad.flatten(), dim=0) > 0.98


def test_the_quantile_loss_is_that_of_the_paper():
    """Dabney et al. (2018), eq. 9 and 10, a pair at a time."""
    generator = torch.Generator().manual_seed(0)
    told, wanted = 2 * torch.randn(2, 3, 4, generator=generator)
    expected = 0.0
    for row in range(3):
        for i in range(4):
            for j in range(4):
                u = float(wanted[row, j] - told[row, i])
                huber = 0.5 * u * u if abs(u) <= 1 else abs(u) - 0.5
                expected += abs((i + 0.5) / 4 - (u < 0)) * huber / 4 / 3
    assert quantile_loss(told, wanted).item() == pytest.approx(expected, rel=1e-5)


def test_quantiles_learn_the_distribution_of_a_return():
    """Rewards of 0 and 10, half each: half of the quantiles go to either."""
    told = nn.Parameter(torch.full((1, 10), 5.0))
    optimizer = torch.optim.Adam([told], 0.1)
    for step in range(400):
        optimizer.zero_grad()
        quantile_loss(told, torch.tensor([[10.0 * (step % 2)]])).backward()
        optimizer.step()
    assert (told[0, :4] < 2).all()
    assert (told[0, -4:] > 8).all()


SMALL = {"num_envs": 4, "rollout_steps": 4, "batch": 8, "first_steps": 48, "memory_steps": 400}


@pytest.mark.parametrize("quantiles", [0, 5])
def test_dqn_goes_on_with_both_networks(tmp_path, quantiles):
    settings = {**SMALL, "target_every": 5, "quantiles": quantiles, "hidden_units": 16}
    for total in (160, 192):
        made = DQNSettings(total_steps=total, **settings)
        dqn.train("pong", tmp_path, made, seed=1, environment=SHORT, progress=False)
        state = torch.load(tmp_path / "state.pt", weights_only=True)
        assert state["updates"] == {160: 8, 192: 8}[total]  # a new memory has 32 of 48 steps
    rows = curve(tmp_path)
    assert [int(row["step"]) for row in rows] == list(range(16, 193, 16))
    assert [bool(row["loss"]) for row in rows] == [False, False, *[True] * 8, False, False]
    names = {name for name in state["network"]}
    assert any(not torch.equal(state["network"][n], state["target"][n]) for n in names)
    head = state["network"]["actor_linear.weight"]
    assert len(head) == 6 * max(quantiles, 1)


# --- Evolution


def bowl(members, seed):
    """A fitness without a game: how near the members are to 1."""
    return -((members - 1) ** 2).sum(1).numpy(), 0


@pytest.mark.parametrize(("method", "sigma", "rate"), [("ga", 0.2, 0.05), ("es", 0.1, 0.3)])
def test_evolution_climbs_a_hill_and_goes_on_where_it_stopped(method, sigma, rate):
    """Two ways: 60 generations at once, and 30, saved and loaded into another learner."""

    def learner():
        network = nn.Linear(4, 2)
        nn.init.constant_(network.weight, 0.0)
        nn.init.constant_(network.bias, 0.0)
        settings = EvolutionSettings(
            60 * 32, method, episode_steps=1, sigma=sigma, learning_rate=rate
        )
        made = Evolution(network, settings, 0, bowl)
        made.start(0)
        return made

    whole, parts = learner(), [learner(), learner()]
    told = [whole.update(step) for step in range(60)]
    for step in range(30):
        parts[0].update(step)
    parts[1].load_state_dict(copy.deepcopy(parts[0].state_dict()))
    for step in range(30, 60):
        parts[1].update(step)
    assert told[-1]["mean_fitness"] > -2 > -9 > told[0]["mean_fitness"]
    assert torch.equal(whole.network.weight, parts[1].network.weight)
    assert torch.equal(whole.parents, parts[1].parents)


def test_ranks_are_centred_and_equal_for_equals():
    ranks = centred_ranks(np.array([3.0, 1.0, 3.0, 9.0]))
    assert ranks == pytest.approx([0.0, -0.5, 0.0, 0.5])
    assert centred_ranks(np.zeros(6)) == pytest.approx(np.zeros(6))


def test_a_population_is_its_networks_side_by_side():
    made = [initialise(build_network("nature-q", 6, hidden_units=16), seed) for seed in range(3)]
    for network in made:
        network.actor_linear.weight.data *= 100
    members = torch.stack(
        [nn.utils.parameters_to_vector(network.parameters()).detach() for network in made]
    )
    shapes = {name: p.shape for name, p in made[0].named_parameters()}
    observations = batch_of(4)["observations"][:3]
    found = evolution.run_population(evolution.unpack(members, shapes), observations)
    for network, one, row in zip(made, observations, found, strict=True):
        with torch.no_grad():
            expected = network(one[None].float() / 255, torch.zeros(1, 0, 0))[0][0]
        torch.testing.assert_close(row, expected, atol=0.03, rtol=0.03)


@pytest.mark.parametrize("method", ["ga", "es"])
def test_a_killed_evolution_goes_on(tmp_path, method):
    """Two ways: two generations at once, and one after the other by another process's learner."""
    for folder, totals in (("whole", [64]), ("parts", [32, 64])):
        for total in totals:
            settings = EvolutionSettings(total, method, 4, 8, parents=2, elite=1, hidden_units=16)
            evolution.train(
                "pong", tmp_path / folder, settings, seed=2, environment=SHORT, progress=False
            )
    states = [
        torch.load(tmp_path / name / "state.pt", weights_only=True) for name in ("whole", "parts")
    ]
    assert torch.equal(states[0]["parents"], states[1]["parents"])
    fitness = [[row["mean_fitness"] for row in curve(tmp_path / n)] for n in ("whole", "parts")]
    assert fitness[0] == fitness[1]
    assert len(fitness[0]) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "pso"}, "method must be ga or es, received 'pso'"),
        ({"parents": 40}, "parents must be a whole number from 1 to 32, received 40"),
        ({"method": "es", "population": 33}, "population must be even for es, received 33"),
    ],
)
def test_settings_of_evolution_that_cannot_be_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        EvolutionSettings(**changes)


def test_a_memory_that_is_too_small_is_named():
    with pytest.raises(ValueError, match=r"first_steps \(5000\) must lie between 128 .* and"):
        DQNSettings(memory_steps=1000)
