import re
import zipfile

import gymnasium
import numpy as np
import pytest
import safetensors.torch
import stable_baselines3
import torch
from torch import nn

from atarilens.agents.foreign import import_checkpoint, network_from_state_dict
from atarilens.agents.networks import NatureNetwork, RecurrentActorCritic, initialise
from atarilens.agents.weights import ACCEPTED, REMEDY, read_weights

PUBLISHED = {
    "pong_80M": ("pong", "pong-v4/model.80.tar"),
    "breakout_40M": ("breakout", "breakout-v4/model.40.tar"),
}


class NoiseEnv(gymnasium.Env):
    """Enough of an environment for Stable-Baselines3 to build its networks."""

    def __init__(self, shape=(84, 84, 4), num_actions=6):
        self.observation_space = gymnasium.spaces.Box(0, 255, shape, np.uint8)
        self.action_space = gymnasium.spaces.Discrete(num_actions)

    def reset(self, *, seed=None, options=None):
        return self.observation_space.sample(), {}


class CleanRL(nn.Module):
    """Layers and names of CleanRL's Atari agents, written from their description."""

    def __init__(self, channels=4, num_actions=6, lstm_units=0, q=False):
        super().__init__()
        layers = [
            *(nn.Conv2d(channels, 32, 8, stride=4), nn.ReLU()),
            *(nn.Conv2d(32, 64, 4, stride=2), nn.ReLU()),
            *(nn.Conv2d(64, 64, 3, stride=1), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(64 * 7 * 7, 512), nn.ReLU()),
        ]
        self.network = nn.Sequential(*layers, *([nn.Linear(512, num_actions)] if q else []))
        if lstm_units:
            self.lstm = nn.LSTM(512, lstm_units)
        if not q:
            self.actor = nn.Linear(lstm_units or 512, num_actions)
            self.critic = nn.Linear(lstm_units or 512, 1)


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.integers(0, 256, (3, 4, 84, 84), dtype=np.uint8))


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_checkpoints_give_the_reference_logits(name, reference):
    game, path = PUBLISHED[name]
    path = reference.parent / "agents" / "baby-a3c" / path
    network, facts = import_checkpoint(path, game)
    with np.load(reference / f"perturbation_{name}.npz") as stored:
        observations = torch.from_numpy(stored["observations"])[:, None]
        memory = torch.from_numpy(stored["memory"])[:, None]
        action_logits, value, _ = network(observations, memory)
        np.testing.assert_allclose(action_logits, stored["action_logits"], atol=1e-4, rtol=0)
        np.testing.assert_allclose(value, stored["values"], atol=1e-4, rtol=0)
    assert facts["architecture"] == "gru"
    assert facts["preprocessing"] == "baby-a3c"
    expected = {"frame_skip": [2, 5], "max_pool": False, "noop_max": 0, "full_action_space": False}
    assert facts["settings"] == expected


def test_published_weights_are_read_as_torch_reads_them(reference):
    path = reference.parent / "agents" / "baby-a3c" / "pong-v4" / "model.40.tar"
    arrays, facts = read_weights(path)
    expected = torch.load(path, weights_only=True, map_location="cpu")
    assert list(arrays) == list(expected)
    assert facts == {"container": "torch"}
    for name, tensor in expected.items():
        np.testing.assert_array_equal(arrays[name], tensor)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("wrapped", [True, False])
def test_baby_a3c_of_either_cell_in_every_container(tmp_path, cell, zipped, wrapped):
    written = initialise(RecurrentActorCritic(4, cell), 1)
    state = written.state_dict()
    if wrapped:  # the form, and the names of the heads, of the code's first months
        state = {
            name.replace("critic_linear", "val_func").replace("actor_linear", "pol_func"): value
            for name, value in state.items()
        }
        state = {"state_dict": state}
    torch.save(state, tmp_path / "model.tar", _use_new_zipfile_serialization=zipped)
    network, facts = import_checkpoint(tmp_path / "model.tar", "breakout")
    assert facts["architecture"] == cell
    assert not network.training
    for name, value in written.state_dict().items():
        torch.testing.assert_close(network.state_dict()[name], value, rtol=0, atol=0)


def test_a_tensor_is_cut_from_its_storage_by_offset_and_strides(tmp_path):
    whole = torch.arange(24.0).reshape(4, 6)
    state = {"a": whole[1:3, ::2], "b": whole.T, "c": nn.Parameter(whole[3]), "d": whole.double()}
    for zipped in (True, False):
        torch.save(state, tmp_path / "x", _use_new_zipfile_serialization=zipped)
        arrays, _ = read_weights(tmp_path / "x")
        for name, tensor in state.items():
            np.testing.assert_array_equal(arrays[name], tensor.detach().float())


@pytest.mark.parametrize("algorithm", ["A2C", "PPO"])
def test_stable_baselines_actor_critic(tmp_path, pictures, algorithm):
    model = getattr(stable_baselines3, algorithm)("CnnPolicy", NoiseEnv(), seed=1, device="cpu")
    model.save(tmp_path / "agent.zip")
    network, facts = import_checkpoint(tmp_path / "agent.zip", "pong")
    action_logits, value, memory = network(pictures / 255, torch.zeros(3, 0, 0))
    with torch.no_grad():
        expected = model.policy.get_distribution(pictures).distribution.logits
        expected_value = model.policy.predict_values(pictures).squeeze(-1)
        hidden = model.policy.extract_features(pictures)
    torch.testing.assert_close(action_logits.log_softmax(-1), expected)
    torch.testing.assert_close(value, expected_value)
    torch.testing.assert_close(network.features(pictures / 255, memory), hidden)
    assert memory.shape == (3, 0, 0)
    told = {"algorithm": algorithm, "seed": 1, "training_steps": 0, "architecture": "nature"}
    assert told.items() <= facts.items()
    assert facts["preprocessing"] == "area84-stack4"


def test_stable_baselines_dqn_gives_q_values_and_their_maximum(tmp_path, pictures):
    model = stable_baselines3.DQN("CnnPolicy", NoiseEnv(), buffer_size=2, seed=1, device="cpu")
    with torch.no_grad():  # the target network must not be taken for the network
        model.policy.q_net_target.q_net[0].bias.add_(1)
    model.save(tmp_path / "agent.zip")
    network, facts = import_checkpoint(tmp_path / "agent.zip", "pong")
    action_logits, value, _ = network(pictures / 255, torch.zeros(3, 0, 0))
    with torch.no_grad():
        expected = model.policy.q_net(pictures)
    torch.testing.assert_close(action_logits, expected)
    torch.testing.assert_close(value, expected.max(1).values)
    assert (facts["architecture"], facts["algorithm"]) == ("nature-q", "DQN")


def test_a_live_policy_is_read_from_its_state_dict(pictures):
    env = NoiseEnv((80, 80, 1), 4)
    policy = stable_baselines3.PPO("CnnPolicy", env, device="cpu").policy
    network, facts = network_from_state_dict(policy.state_dict())
    assert network.observation_shape == (1, 80, 80)
    assert facts["preprocessing"] == "luma80"
    before = network.actor_linear.bias.clone()
    with torch.no_grad():
        policy.action_net.bias.add_(1)  # training goes on
    torch.testing.assert_close(network.actor_linear.bias, before)


def test_extractors_of_their_own_are_refused(tmp_path):
    model = stable_baselines3.PPO(
        "CnnPolicy", NoiseEnv(), policy_kwargs={"share_features_extractor": False}, device="cpu"
    )
    model.save(tmp_path / "agent.zip")
    with pytest.raises(ValueError, match="actor and critic do not share their convolutions"):
        import_checkpoint(tmp_path / "agent.zip")


def test_the_pickled_part_of_a_zip_stays_text(tmp_path):
    """Its `data` member is JSON with pickles in base64; nothing of it but numbers is used."""
    path = tmp_path / "agent.zip"
    stable_baselines3.A2C("CnnPolicy", NoiseEnv(), device="cpu").save(path)
    with zipfile.ZipFile(path) as archive:
        assert b":serialized:" in archive.read("data")
        policy = archive.read("policy.pth")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("policy.pth", policy)
        archive.writestr("data", '{"num_timesteps": 7, "policy_class": {":serialized:": "!"}}')
    assert import_checkpoint(path)[1]["training_steps"] == 7


def test_cleanrl_ppo(tmp_path, pictures):
    agent = CleanRL()
    torch.save(agent.state_dict(), tmp_path / "agent.cleanrl_model")
    network, facts = import_checkpoint(tmp_path / "agent.cleanrl_model", "pong")
    action_logits, value, _ = network(pictures / 255, torch.zeros(3, 0, 0))
    with torch.no_grad():
        hidden = agent.network(pictures / 255.0)
        torch.testing.assert_close(action_logits, agent.actor(hidden))
        torch.testing.assert_close(value, agent.critic(hidden).squeeze(-1))
    assert (facts["origin"], facts["preprocessing"]) == ("CleanRL", "area84-stack4")


def test_cleanrl_lstm_carries_its_memory(tmp_path, pictures):
    agent = CleanRL(channels=1, num_actions=4, lstm_units=128)
    torch.save(agent.state_dict(), tmp_path / "agent.pth")
    network, facts = import_checkpoint(tmp_path / "agent.pth", "breakout")
    assert network.memory_shape == (2, 128)
    assert (facts["architecture"], facts["preprocessing"]) == ("nature-lstm", "area84")
    memory, states = torch.zeros(3, 2, 128), (torch.zeros(1, 3, 128), torch.zeros(1, 3, 128))
    for channel in range(2):
        observation = pictures[:, channel : channel + 1] / 255
        action_logits, value, memory = network(observation, memory)
        with torch.no_grad():
            hidden, states = agent.lstm(agent.network(observation)[None], states)
            torch.testing.assert_close(action_logits, agent.actor(hidden[0]))
            torch.testing.assert_close(value, agent.critic(hidden[0]).squeeze(-1))
    torch.testing.assert_close(memory, torch.stack([state[0] for state in states], dim=1))


def test_cleanrl_dqn(tmp_path, pictures):
    agent = CleanRL(q=True)
    torch.save(agent.state_dict(), tmp_path / "agent.pth")
    network, _ = import_checkpoint(tmp_path / "agent.pth", "pong")
    action_logits, value, _ = network(pictures / 255, torch.zeros(3, 0, 0))
    with torch.no_grad():
        q_values = agent.network(pictures / 255.0)
    torch.testing.assert_close(action_logits, q_values)
    torch.testing.assert_close(value, q_values.max(-1).values)


@pytest.mark.parametrize("network", [RecurrentActorCritic(6), NatureNetwork(6, critic=False)])
def test_our_own_files(tmp_path, network):
    state = {name: value.half() for name, value in network.state_dict().items()}
    safetensors.torch.save_file(state, tmp_path / "a.safetensors")
    loaded, facts = import_checkpoint(tmp_path / "a.safetensors", "pong")
    for name, value in state.items():
        torch.testing.assert_close(loaded.state_dict()[name], value.float(), rtol=0, atol=0)
    assert facts["origin"] == "atarilens"
    assert facts["preprocessing"] in ("luma80", "area84-stack4")


def test_importing_leaves_the_random_numbers_alone(tmp_path):
    torch.save(CleanRL().state_dict(), tmp_path / "agent.pth")
    before = torch.get_rng_state()
    import_checkpoint(tmp_path / "agent.pth")
    torch.testing.assert_close(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"fc.weight": torch.zeros(2, 2)}, "parameters of an unknown network: fc.weight"),
        ({}, "a dict, not the state dict of a network"),
        ({"epoch": 3}, "entry 'epoch' is of type int, not a named tensor"),
        (
            RecurrentActorCritic(4).state_dict() | {"conv2.bias": torch.zeros(31)},
            r"parameter conv2.bias has shape \[31\], expected \[32\]",
        ),
        (
            {n: v for n, v in RecurrentActorCritic(4).state_dict().items() if "critic" not in n},
            "missing parameters critic_linear.bias, critic_linear.weight, unexpected none",
        ),
        (RecurrentActorCritic(19).state_dict(), "a network of 19 actions, more than 18"),
        (NatureNetwork(4, (3, 84, 84)).state_dict(), "reads 3 channels and has 3136 inputs"),
        (
            RecurrentActorCritic(4).state_dict() | {"conv1.bias": torch.full((32,), torch.nan)},
            "tensor 'conv1.bias' holds numbers that are infinite or not numbers",
        ),
        (
            RecurrentActorCritic(4).state_dict() | {"conv1.bias": torch.zeros(32).long()},
            "tensor 'conv1.bias' holds int64, not floating-point numbers",
        ),
    ],
)
def test_errors_say_what_was_found_and_what_is_accepted(tmp_path, state, message):
    path = tmp_path / "foreign.pt"
    torch.save(state, path)
    with pytest.raises(ValueError, match=message) as caught:
        import_checkpoint(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert f"; accepted are {ACCEPTED}" in str(caught.value)


@pytest.mark.parametrize("name", ["state_dict", "model", "network", "policy", "agent"])
def test_the_only_state_dict_in_a_file_is_opened(tmp_path, name):
    written = CleanRL()
    optimiser = torch.optim.Adam(written.parameters())
    written.network(torch.rand(1, 4, 84, 84)).sum().backward()
    optimiser.step()
    content = {"step": 7, name: written.state_dict(), "optimiser": optimiser.state_dict()}
    torch.save(content, tmp_path / "agent.pt")
    network, facts = import_checkpoint(tmp_path / "agent.pt", "pong")
    assert facts["origin"] == "CleanRL"
    torch.testing.assert_close(network.conv1.weight, written.network[0].weight, rtol=0, atol=0)


def test_one_of_several_state_dicts_is_not_guessed(tmp_path):
    state = CleanRL().state_dict()
    torch.save({"policy": state, "target": state}, tmp_path / "agent.pt")
    with pytest.raises(ValueError, match=r"several state dicts \('policy', 'target'\): save one"):
        import_checkpoint(tmp_path / "agent.pt")


def test_a_refused_checkpoint_is_answered_with_what_works(tmp_path):
    torch.save(CleanRL(), tmp_path / "module.pt")
    torch.save({"fc.weight": torch.zeros(2, 2)}, tmp_path / "other.pt")
    stable_baselines3.PPO(
        "CnnPolicy", NoiseEnv(), policy_kwargs={"net_arch": [32]}, device="cpu"
    ).save(tmp_path / "layers.zip")
    found = {
        "module.pt": "refused: only weights are read. Of a whole module, save module.state_dict()",
        "other.pt": "parameters of an unknown network: fc.weight",
        "layers.zip": "unexpected mlp_extractor.policy_net.0.bias",
    }
    for name, message in found.items():
        with pytest.raises(ValueError, match=re.escape(message)) as caught:
            import_checkpoint(tmp_path / name)
        assert str(caught.value).endswith(REMEDY)
        assert len(REMEDY.splitlines()) == 4


def test_the_number_of_actions_must_be_the_games(tmp_path):
    path = tmp_path / "agent.pt"
    torch.save(RecurrentActorCritic(6).state_dict(), path)
    message = r"agent.pt: the network has 6 actions, but breakout has 4 \(or 18 in the full set\)"
    with pytest.raises(ValueError, match=message):
        import_checkpoint(path, "breakout")
    torch.save(RecurrentActorCritic(18).state_dict(), path)
    assert import_checkpoint(path, "breakout")[1]["settings"]["full_action_space"] is True
    with pytest.raises(ValueError, match="unknown game 'brekout'"):
        import_checkpoint(path, "brekout")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no checkpoint file at .*nothing.tar"):
        import_checkpoint(tmp_path / "nothing.tar")
    with pytest.raises(FileNotFoundError, match="no checkpoint file at "):
        import_checkpoint(tmp_path)
