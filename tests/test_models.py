"""Networks: shapes, initialisation, the unrolled form, and the registry with a toy network."""

import hashlib

import pytest
import torch
import yaml
from torch import nn

from atarilens import (
    evaluate,
    jacobian_saliency,
    load_agent,
    paths,
    perturbation_saliency,
    rollout,
    save_agent,
)
from atarilens.agents import NETWORKS, Network, agent_from_module, build_network
from atarilens.agents.networks import NatureNetwork, RecurrentActorCritic, initialise
from atarilens.agents.preprocessing import STYLES
from atarilens.agents.registry import describe, load_network


@pytest.mark.parametrize(("cell", "states"), [("lstm", 2), ("gru", 1)])
def test_unroll_equals_forward_step_by_step(cell, states):
    network = initialise(RecurrentActorCritic(4, cell), 3)
    generator = torch.Generator().manual_seed(0)
    observations = torch.rand(6, 3, 1, 80, 80, generator=generator)
    memory = torch.randn(3, states, 256, generator=generator)
    starts = torch.rand(6, 3, generator=generator) < 0.3
    assert starts.any()
    hidden, last = network.unroll(observations, memory, starts)
    for t in range(6):
        memory = torch.where(starts[t][:, None, None], 0.0, memory)
        logits, value, memory = network(observations[t], memory)
        torch.testing.assert_close(memory[:, 0], hidden[t], atol=1e-6, rtol=1e-5)
        expected = network.heads(hidden[t])
        torch.testing.assert_close((logits, value), expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(memory, last, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_shapes_and_features(cell):
    network = RecurrentActorCritic(6, cell)
    memory = torch.zeros(2, *network.memory_shape)
    observation = torch.rand(2, *network.observation_shape)
    logits, value, after = network(observation, memory)
    assert (logits.shape, value.shape, after.shape) == ((2, 6), (2,), memory.shape)
    assert torch.equal(network.features(observation, memory), after[:, 0])


def test_an_untrained_network_is_the_same_everywhere():
    """Seeds give bits: of uniform draws, with no matrix factorisation in between."""
    first, again = (initialise(RecurrentActorCritic(4), 0) for _ in range(2))
    other = initialise(RecurrentActorCritic(4), 1)
    digests = [
        hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in net.parameters())).hexdigest()
        for net in (first, again, other)
    ]
    assert digests[0] == digests[1] != digests[2]


def test_an_untrained_agent_takes_all_actions_about_equally_often():
    network = initialise(RecurrentActorCritic(6), 0)
    logits, _, _ = network(torch.rand(8, 1, 80, 80), torch.zeros(8, 2, 256))
    assert logits.softmax(1).sub(1 / 6).abs().max() < 0.02


def test_unknown_cells_are_named():
    with pytest.raises(ValueError, match="unknown cell 'rnn'; known: gru, lstm"):
        RecurrentActorCritic(4, "rnn")


class Toy(Network):
    """Adding a network is one class and one entry: this is the class."""

    observation_shape = (1, 80, 80)

    def __init__(self, num_actions: int, channels: int = 2, pooled: tuple = (4, 4)):
        super().__init__()
        self.conv1 = nn.Conv2d(1, channels, 4, stride=4)
        self.pooled = tuple(pooled)
        self.actor = nn.Linear(channels * self.pooled[0] * self.pooled[1], num_actions)

    def forward(self, observation, memory):
        pooled = nn.functional.adaptive_avg_pool2d(self.conv1(observation).relu(), self.pooled)
        return self.actor(pooled.flatten(1)), None, memory


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setitem(NETWORKS, "toy", Toy)
    network = initialise(build_network("toy", 6, channels=3, pooled=[5, 5]), 0)
    return agent_from_module(network, game="pong", preprocessing="luma80", name="toy")


def test_a_network_of_one_class_and_one_entry_does_everything(toy, tmp_path):
    assert toy.facts["architecture"] == "toy"
    path = save_agent(toy, tmp_path / "toy")
    row = yaml.safe_load(path.with_suffix(".yml").read_text())
    assert list(row)[:3] == ["game", "architecture", "architecture_arguments"]
    assert row["architecture_arguments"] == {"channels": 3, "pooled": [5, 5]}
    agent = load_agent(path)
    for name, value in toy.network.half().float().state_dict().items():
        torch.testing.assert_close(agent.network.state_dict()[name], value, rtol=0, atol=0)
    again = save_agent(agent, tmp_path / "again" / "toy")
    for suffix in (".safetensors", ".yml"):
        assert again.with_suffix(suffix).read_bytes() == path.with_suffix(suffix).read_bytes()
    play = rollout(agent, seed=0, max_steps=6)
    assert play.action_logits.shape == (6, 6)
    assert evaluate(agent, episodes=1, seed=0).returns.shape == (1,)
    maps = perturbation_saliency(agent.network, play.observations[:2], play.memory[:2], stride=20)
    assert maps.actor.any()
    assert maps.critic is None
    assert jacobian_saliency(agent.network, play.observations[0]).actor.any()


def test_arguments_that_are_the_defaults_are_not_written(toy, tmp_path):
    network = build_network("toy", 6, channels=2)
    assert describe(network) == ("toy", {})
    agent = agent_from_module(network, game="pong", preprocessing="luma80")
    row = yaml.safe_load(save_agent(agent, tmp_path / "a").with_suffix(".yml").read_text())
    assert "architecture_arguments" not in row


def test_what_the_registry_would_not_build_is_not_saved(toy, tmp_path):
    toy.network.actor = nn.Linear(75, 6, bias=False)
    with pytest.raises(ValueError, match=r"no longer 'toy' .*missing parameters actor.bias"):
        save_agent(toy, tmp_path / "toy")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("architecture", "arguments", "message"),
    [
        ("natur", {}, "unknown network 'natur', did you mean nature"),
        ("nature", {"units": 3}, "'nature' has no argument units; known are observation_shape, "),
        ("nature", {"hidden_units": -1}, "'nature' cannot be built with 4 actions and the arg"),
        ("nature", {"hidden_units": "512"}, "'nature' cannot be built with 4 actions and the arg"),
        ("nature-qr", {"critic": True}, "200 quantiles has Q-values: it needs no critic"),
    ],
)
def test_a_network_that_cannot_be_built_is_refused(architecture, arguments, message):
    with pytest.raises(ValueError, match=message):
        build_network(architecture, num_actions=4, **arguments)


def test_arguments_from_a_file_take_no_memory():
    state = build_network("nature", 4, hidden_units=16).state_dict()
    with pytest.raises(ValueError, match=r"linear.weight has shape \[16, 3136\], expected \[10000"):
        load_network("nature", 4, state, {"hidden_units": 10**11})


def test_loading_leaves_the_random_numbers_alone():
    state = build_network("nature", 4).state_dict()
    before = torch.get_rng_state()
    network = load_network("nature", 4, state)
    assert torch.equal(torch.get_rng_state(), before)
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("architecture", NETWORKS)
def test_every_network_of_the_registry_is_saved_loaded_and_initialised(architecture, tmp_path):
    network = initialise(build_network(architecture, num_actions=4), seed=0)
    style = next(s.name for s in STYLES.values() if s.shape == network.observation_shape)
    agent = agent_from_module(network, game="breakout", preprocessing=style)
    loaded = load_agent(save_agent(agent, tmp_path / "agent")).network
    assert (loaded.architecture, loaded.memory_shape) == (architecture, network.memory_shape)
    for name, value in network.half().float().state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], value, rtol=0, atol=0)
    generator = torch.Generator().manual_seed(0)
    observation = torch.rand(2, *loaded.observation_shape, generator=generator)
    memory = torch.zeros(2, *loaded.memory_shape)
    logits, value, after = loaded(observation, memory)
    assert (logits.shape, value.shape, after.shape) == ((2, 4), (2,), memory.shape)
    assert loaded.features(observation, memory).shape[0] == 2
    if loaded.q_values:
        torch.testing.assert_close(value, logits.max(1).values)
    elif not getattr(loaded, "sum_pool", False):  # a sum over places has no bound
        assert logits.softmax(1).sub(1 / 4).abs().max() < 0.02


def test_rows_from_before_the_registry_still_load(tmp_path):
    network = NatureNetwork(4, (1, 80, 80), hidden_units=32, lstm_units=16)
    agent = agent_from_module(network, game="breakout", preprocessing="luma80")
    row_file = save_agent(agent, tmp_path / "old").with_suffix(".yml")
    row = yaml.safe_load(row_file.read_text())
    assert row.pop("architecture_arguments")["lstm_units"] == 16
    row_file.write_text(yaml.safe_dump(row))
    assert load_agent(row_file).network.memory_shape == (2, 16)


def test_q_values_of_quantiles_are_their_means():
    network = build_network("nature-qr", 4, hidden_units=8, quantiles=5)
    observation, memory = torch.rand(3, 4, 84, 84), torch.zeros(3, 0, 0)
    returns = network.returns(observation, memory)
    assert returns.shape == (3, 5, 4)
    torch.testing.assert_close(network(observation, memory)[0], returns.mean(1))
    plain = build_network("nature-q", 4, hidden_units=8)
    torch.testing.assert_close(
        plain(observation, memory)[0], plain.returns(observation, memory)[:, 0]
    )


def test_shipped_agents_give_the_same_files_again(tmp_path):
    saved = save_agent(load_agent("pong-early"), tmp_path / "pong-early")
    for suffix in (".safetensors", ".yml"):
        shipped = (paths.AGENTS / "pong-early").with_suffix(suffix)
        assert saved.with_suffix(suffix).read_bytes() == shipped.read_bytes()
