import functools
import hashlib
import http.server
import threading
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from atarilens import paths, rollout
from atarilens.agents import (
    agent_from_module,
    build_network,
    list_agents,
    load_agent,
    save_agent,
    untrained_control,
)
from atarilens.agents.files import UNTRAINED_SEED
from atarilens.agents.networks import RecurrentActorCritic, initialise
from atarilens.games.emulators import make_env
from atarilens.games.objects import GAMES

UNTRAINED_SHA256 = {  # of the float16 file, the same on every machine
    "pong": "f8f5fefa66626c5e0f5a0499f16fd54f35fa2af7d509773ccd9923142cf53b5b",
    "spaceinvaders": "f8f5fefa66626c5e0f5a0499f16fd54f35fa2af7d509773ccd9923142cf53b5b",
    "breakout": "3b5a5a0cf684647c47516f1c88450ed9705505bc1e868bf59be266e9f7733873",
}
OTHERS = [f"{game}-a3c-{steps}m" for game in UNTRAINED_SHA256 for steps in (40, 80)]


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """An empty data/agents, and an empty cache."""
    monkeypatch.setattr(paths, "AGENTS", tmp_path / "agents")
    monkeypatch.setenv("ATARILENS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ATARILENS_AGENTS_URL", raising=False)
    return tmp_path / "agents"


@pytest.fixture
def strong(untrained_agent, shelf):
    """An agent on the shelf, under a name of its own."""
    save_agent(untrained_agent, shelf / "pong-strong")
    return load_agent("pong-strong")


@pytest.fixture
def published(shelf, tmp_path):
    """Somebody's agent: a row on the shelf, and the weights on a server's disk."""
    server = tmp_path / "server" / "pong-v4"
    server.mkdir(parents=True)
    torch.save(initialise(RecurrentActorCritic(6, "gru"), 3).state_dict(), server / "model.80.tar")
    row = {
        "game": "pong",
        "architecture": "gru",
        "preprocessing": "baby-a3c",
        "settings": {"frame_skip": [2, 5], "max_pool": False},
        "sha256": hashlib.sha256((server / "model.80.tar").read_bytes()).hexdigest(),
        "url": "http://127.0.0.1:9/",  # nobody listens there
        "path": "pong-v4/model.80.tar",
    }
    shelf.mkdir()
    (shelf / "pong-other.yml").write_text(yaml.safe_dump(row))
    return server.parent


def test_an_untrained_agent_plays_any_game_under_any_spelling():
    agent = load_agent("untrained-Qbert", game="ALE/Qbert-v5")
    assert (agent.name, agent.game, agent.settings.game) == ("untrained-qbert", "qbert", "qbert")
    assert len(agent.action_meanings) == 6
    assert load_agent("untrained-pong", game="ALE/Pong-v5").game == "pong"
    with pytest.raises(ValueError, match="unknown game 'qberd', did you mean qbert"):
        load_agent("untrained-qberd")


@pytest.mark.parametrize("game", UNTRAINED_SHA256)
def test_the_untrained_agent_is_the_same_everywhere(game):
    agent = load_agent(f"untrained-{game}")
    assert agent.facts["sha256"] == UNTRAINED_SHA256[game]
    assert (agent.game, agent.facts["training_steps"], agent.facts["seed"]) == (
        game,
        0,
        UNTRAINED_SEED,
    )
    assert agent.action_meanings == make_env(game).action_meanings
    expected = (
        initialise(RecurrentActorCritic(len(agent.action_meanings)), UNTRAINED_SEED).half().float()
    )
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(agent.network.state_dict()[name], value, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "architecture", "screens"),
    [
        ("untrained-breakout-sparse-fls", "sparse-fls", 4),
        ("untrained-breakout-nature", "nature", 4),
        ("untrained-breakout-nature-lstm", "nature-lstm", 4),
        ("untrained-breakout-gru", "gru", 1),
    ],
)
def test_every_network_of_the_registry_has_an_untrained_agent(name, architecture, screens):
    agent = load_agent(name)
    assert (agent.name, agent.game, agent.preprocessing.screens) == (name, "breakout", screens)
    assert agent.facts["architecture"] == agent.network.architecture == architecture
    again = load_agent(name)
    assert again.facts["sha256"] == agent.facts["sha256"]


def test_the_control_of_an_agent_is_its_own_network_untrained(untrained_agent):
    assert untrained_control(untrained_agent).facts == untrained_agent.facts
    network = build_network("nature", 4, hidden_units=16, observation_shape=(1, 80, 80))
    agent = agent_from_module(network, game="breakout", preprocessing="baby-a3c")
    control = untrained_control(agent)
    assert control.preprocessing == agent.preprocessing
    assert control.network.linear.out_features == 16
    module = agent_from_module(Brightness(), game="breakout", preprocessing="luma80")
    assert untrained_control(module).name == "untrained-breakout"


def test_an_agent_is_ready_to_play(untrained_agent):
    agent = untrained_agent
    screen, _ = make_env(agent.settings).reset(seed=0)
    assert agent.preprocess(screen).shape == (1, 80, 80)
    assert agent.region == (35, 195, 0, 160)
    memory = agent.initial_memory()
    assert (memory.shape, memory.dtype, memory.any()) == ((2, 256), np.float32, False)
    assert not agent.network.training
    assert not any(parameter.requires_grad for parameter in agent.network.parameters())


def test_saving_and_loading_keeps_an_agent(strong, untrained_agent, shelf):
    assert strong.name == "pong-strong"
    assert strong.settings == untrained_agent.settings
    assert strong.preprocessing == untrained_agent.preprocessing
    assert strong.facts["sha256"] == untrained_agent.facts["sha256"]
    for name, value in untrained_agent.network.state_dict().items():
        torch.testing.assert_close(strong.network.state_dict()[name], value, rtol=0, atol=0)
    row = yaml.safe_load((shelf / "pong-strong.yml").read_text())
    assert list(row)[:5] == ["game", "architecture", "preprocessing", "settings", "training_steps"]
    assert (
        row["sha256"]
        == hashlib.sha256((shelf / "pong-strong.safetensors").read_bytes()).hexdigest()
    )
    assert row["settings"] | {"game": "pong"} == strong.settings.as_dict()


def test_equal_agents_give_equal_files_and_nothing_half_written(strong, shelf, tmp_path):
    path = save_agent(strong, tmp_path / "elsewhere" / "copy.safetensors")
    assert path.read_bytes() == (shelf / "pong-strong.safetensors").read_bytes()
    assert path.with_suffix(".yml").read_bytes() == (shelf / "pong-strong.yml").read_bytes()
    names = sorted(file.name for file in path.parent.iterdir())
    assert names == ["copy.safetensors", "copy.yml"]


@pytest.mark.parametrize("suffix", ["", ".safetensors", ".yml"])
def test_a_saved_agent_is_found_by_path_and_tells_its_game(strong, shelf, suffix):
    agent = load_agent(shelf / f"pong-strong{suffix}")
    assert (agent.name, agent.game) == ("pong-strong", "pong")


def test_known_names_are_listed(strong):
    assert list_agents() == ["pong-strong", *(f"untrained-{game}" for game in sorted(GAMES))]


def test_a_misspelt_name_is_answered_with_close_ones(strong):
    with pytest.raises(ValueError, match="unknown agent 'pong-stong', did you mean pong-strong"):
        load_agent("pong-stong")


def test_another_game_is_refused(strong):
    with pytest.raises(ValueError, match="agent 'pong-strong' plays pong, not breakout"):
        load_agent("pong-strong", game="breakout")


def test_damaged_weights_are_refused(strong, shelf):
    path = shelf / "pong-strong.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"damaged or not the file .*: its sha256 is .*, expected"):
        load_agent("pong-strong")
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"has the row .*, but no pong-strong.safetensors"):
        load_agent("pong-strong")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"architecture": "gru"},
            "not hold the network 'gru' .*: a network with missing .* gru.bias",
        ),
        ({"architecture": "lsmt"}, "unknown network 'lsmt', did you mean lstm"),
        ({"architecture_arguments": {"units": 9}}, "network 'lstm' has no argument units; known"),
        ({"architecture_arguments": [1]}, r"architecture_arguments is \[1\], expected a mapping"),
        ({"preprocessing": "luma84"}, "unknown preprocessing 'luma84'"),
        ({"preprocessing": "area84"}, r"reads \[1, 80, 80\], but preprocessing 'area84' makes"),
        ({"settings": {"frameskip": 4}}, r"unknown environment settings \['frameskip'\]; known"),
        ({"game": "breakout"}, "'lstm' for the 4 actions of breakout.*has shape"),
        ({"sha256": None}, "expected None"),
    ],
)
def test_a_wrong_row_is_refused(strong, shelf, change, message):
    path = shelf / "pong-strong.yml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | change))
    with pytest.raises(ValueError, match=message):
        load_agent("pong-strong")


def test_an_unreadable_row_is_refused(strong, shelf):
    (shelf / "pong-strong.yml").write_text("game: pong\nsettings: {}\n")
    with pytest.raises(ValueError, match="lacks architecture, preprocessing, sha256; the row"):
        load_agent("pong-strong")
    (shelf / "pong-strong.yml").write_text("just words")
    with pytest.raises(ValueError, match=r"pong-strong.yml is no mapping"):
        load_agent("pong-strong")
    for broken in ("game: [pong\n", "game: \x07", "[" * 5000, "since: 2024-99-99", "a: !!bool b"):
        (shelf / "pong-strong.yml").write_text(broken)
        for wanted in ("pong-strong", shelf / "pong-strong.safetensors"):
            with pytest.raises(ValueError, match=r"^\S*/pong-strong\.yml is not YAML: .+$"):
                load_agent(wanted)


def test_a_checkpoint_needs_its_game(tmp_path):
    torch.save(RecurrentActorCritic(4, "gru").state_dict(), tmp_path / "model.80.tar")
    with pytest.raises(
        ValueError, match=r"does not say which game it plays: expected game=.pong. "
    ):
        load_agent(tmp_path / "model.80.tar")
    agent = load_agent(tmp_path / "model.80.tar", game="breakout")
    assert agent.name == "model.80"
    assert agent.preprocessing.name == "baby-a3c"
    assert agent.settings.skip_range == (2, 5)
    other = load_agent(
        tmp_path / "model.80.tar", "breakout", preprocessing="luma80", settings={"frame_skip": 4}
    )
    assert (other.preprocessing.name, other.settings.frame_skip) == ("luma80", 4)
    assert not other.settings.max_pool  # what was not given stays


def test_a_foreign_file_and_a_missing_one(tmp_path):
    (tmp_path / "notes.tar").write_text("These are my notes.")
    with pytest.raises(ValueError, match=r"notes.tar: a file that starts with 54 68 65 73 65"):
        load_agent(tmp_path / "notes.tar", "pong")
    with pytest.raises(FileNotFoundError, match=r"no checkpoint file at .*other.tar"):
        load_agent(tmp_path / "other.tar", "pong")


def test_weights_are_fetched_from_a_folder_once(published, monkeypatch):
    monkeypatch.setenv("ATARILENS_AGENTS_URL", str(published))
    agent = load_agent("pong-other")
    assert agent.settings.skip_range == (2, 5)
    monkeypatch.delenv("ATARILENS_AGENTS_URL")
    (published / "pong-v4" / "model.80.tar").unlink()
    again = load_agent("pong-other")  # from the cache
    torch.testing.assert_close(again.network.conv1.weight, agent.network.conv1.weight)


def test_weights_are_fetched_by_file_address(published, monkeypatch):
    monkeypatch.setenv("ATARILENS_AGENTS_URL", published.as_uri())
    assert load_agent("pong-other").facts["architecture"] == "gru"


def test_weights_are_fetched_from_a_server(published, monkeypatch):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=str(published))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("ATARILENS_AGENTS_URL", f"http://127.0.0.1:{server.server_port}/")
        assert load_agent("pong-other").facts["architecture"] == "gru"
        server.shutdown()


def test_without_network_one_error_says_what_to_do(published):
    message = (
        r"weights of agent 'pong-other' are not in the cache .* and cannot be taken from "
        r"http://127.0.0.1:9/pong-v4/model.80.tar .*Connect to the network once, or set "
        r"ATARILENS_AGENTS_URL to a folder or server that has pong-v4/model.80.tar"
    )
    with pytest.raises(FileNotFoundError, match=message):
        load_agent("pong-other")


def test_other_bytes_than_the_rows_are_not_kept(published, monkeypatch, tmp_path):
    monkeypatch.setenv("ATARILENS_AGENTS_URL", str(published))
    with (published / "pong-v4" / "model.80.tar").open("ab") as file:
        file.write(b"more")
    with pytest.raises(FileNotFoundError, match="does not match the known hash"):
        load_agent("pong-other")
    assert not [file for file in (tmp_path / "cache").rglob("*") if file.is_file()]


@pytest.mark.parametrize("name", OTHERS)
def test_rows_of_published_agents(name):
    row = yaml.safe_load((paths.AGENTS / f"{name}.yml").read_text())
    game, _, steps = name.split("-")
    assert row["game"] == game
    assert row["path"] == f"{game}-v4/model.{steps[:-1]}.tar"
    assert row["training_steps"] == int(steps[:-1]) * 1_000_000
    assert row["url"].endswith("/greydanus/baby-a3c/7f9734b96f5f89c27ddf87a642886d9a90883a35/")
    assert len(row["sha256"]) == 64
    assert row["licence"] == "Apache-2.0"
    assert row["score"]["interval"][0] < row["score"]["mean"] < row["score"]["interval"][1]


@pytest.mark.parametrize("name", ["pong-a3c-40m", "pong-a3c-80m", "breakout-a3c-40m"])
def test_published_agents_load_by_name(name, reference, tmp_path, monkeypatch):
    monkeypatch.setenv("ATARILENS_CACHE", str(tmp_path))
    monkeypatch.setenv("ATARILENS_AGENTS_URL", str(reference.parent / "agents" / "baby-a3c"))
    agent = load_agent(name)
    assert agent.network.memory_shape == (1, 256)
    assert not agent.settings.max_pool
    saved = load_agent(save_agent(agent, tmp_path / name))
    assert (saved.preprocessing, saved.settings) == (agent.preprocessing, agent.settings)


def test_an_agent_says_in_one_line_who_it_is(untrained_agent):
    assert repr(untrained_agent) == (
        "Agent 'untrained-pong': pong, network lstm (1,113,255 parameters), reads luma80 "
        "(1 x 80 x 80), 6 actions"
    )
    scored = replace(untrained_agent, facts=untrained_agent.facts | {"score": {"mean": -20.5}})
    assert repr(scored).endswith(", 6 actions, mean score -20.5")


class Brightness(nn.Module):
    """One action per quarter of the picture; nothing else of the protocol."""

    def __init__(self, num_actions=4, value=True):
        super().__init__()
        self.linear, self.value = nn.Linear(4, num_actions), value

    def forward(self, observation):
        quarters = observation[:, 0].reshape(-1, 2, 40, 2, 40).mean((2, 4)).flatten(1)
        action_logits = self.linear(quarters)
        return (action_logits, quarters.sum(1, keepdim=True)) if self.value else action_logits


class Counter(nn.Module):
    """A module with a memory and features of its own."""

    memory_shape = (1, 2)

    def forward(self, observation, memory):
        memory = memory + 1
        return memory[:, 0].repeat(1, 2), None, memory

    def features(self, observation, memory):
        return memory[:, 0]


@pytest.mark.parametrize("value", [True, False])
def test_any_module_becomes_an_agent(value):
    module = Brightness(value=value).train()
    agent = agent_from_module(module, game="breakout", preprocessing="luma80")
    assert module.training  # the copy is in eval mode, not the caller's
    assert not agent.network.training
    assert agent.initial_memory().shape == (0, 0)
    observation = torch.rand(3, 1, 80, 80)
    action_logits, values, memory = agent.network(observation, torch.zeros(3, 0, 0))
    assert (action_logits.shape, memory.shape) == ((3, 4), (3, 0, 0))
    if value:
        torch.testing.assert_close(values, 4 * observation.mean((1, 2, 3)))
    else:
        assert values is None


def test_a_module_says_that_it_gives_q_values():
    module = Brightness()
    module.q_values = True
    plain, greedy = (
        agent_from_module(each, game="breakout", preprocessing="luma80")
        for each in (Brightness(), module)
    )
    assert (plain.network.q_values, greedy.network.q_values) == (False, True)
    play = rollout(greedy, seed=0, max_steps=4)
    assert play.actions.tolist() == play.action_logits.argmax(1).tolist()


def test_a_module_with_a_memory():
    agent = agent_from_module(Counter(), game="breakout", preprocessing="luma80")
    memory = torch.from_numpy(agent.initial_memory())[None]
    action_logits, value, memory = agent.network(torch.zeros(1, 1, 80, 80), memory)
    assert action_logits.tolist() == [[1, 1, 1, 1]]
    assert value is None
    assert agent.network.features(torch.zeros(1, 1, 80, 80), memory).tolist() == [[1, 1]]


def test_a_module_that_does_not_fit_is_refused(tmp_path):
    with pytest.raises(ValueError, match="the network has 5 actions, but breakout has 4"):
        agent_from_module(Brightness(5), game="breakout", preprocessing="luma80")

    class Flat(Brightness):
        def forward(self, observation):
            return super().forward(observation)[0].flatten()

    message = r"returned logits, value and memory of shapes \[\[8\], None, \[2, 0, 0\]\], expected"
    with pytest.raises(ValueError, match=message):
        agent_from_module(Flat(), game="breakout", preprocessing="luma80")
    agent = agent_from_module(Brightness(), game="breakout", preprocessing="luma80")
    with pytest.raises(ValueError, match="class ModuleNetwork is not in the registry: enter its"):
        save_agent(agent, tmp_path / "agent")


@pytest.mark.parametrize(
    "scaled",
    [lambda x: x / 255, lambda x: x * (1 / 255), lambda x: x / torch.tensor(255.0)],
)
def test_a_module_that_divides_by_255_itself_is_warned_about(scaled):
    class Scaling(Brightness):
        def forward(self, observation):
            return super().forward(scaled(observation))

    with pytest.warns(UserWarning, match=r"divides its observation by 255, .* are in \[0, 1\]"):
        agent_from_module(Scaling(), game="breakout", preprocessing="luma80")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        agent_from_module(Brightness(), game="breakout", preprocessing="luma80")


def test_weights_beyond_float16_are_not_saved(tmp_path):
    network = RecurrentActorCritic(4)
    with torch.no_grad():
        network.conv1.bias[0] = 1e5
    agent = agent_from_module(network, game="breakout", preprocessing="luma80")
    with pytest.raises(ValueError, match=r"conv1.bias holds numbers that float16 cannot hold"):
        save_agent(agent, tmp_path / "agent")
