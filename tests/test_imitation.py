"""The overfit study's students: equal but for what their hints tell."""

import csv
import json

import numpy as np
import pytest
import torch

from atarilens import paths
from atarilens.agents import agent_from_module, load_agent, save_agent
from atarilens.agents.networks import RecurrentActorCritic, initialise
from compendium.training import imitation
from compendium.training.imitation import ImitationSettings, hint_action, imitate
from compendium.training.runs import load_weights

SMALL = {"num_envs": 4, "rollout_steps": 8, "epochs": 1, "minibatches": 2}


@pytest.fixture(scope="module")
def expert():
    return load_agent("untrained-pong")


def test_hints_show_the_experts_actions_or_random_ones():
    rng = np.random.default_rng(0)
    experts = np.repeat(np.arange(6), 500)
    assert np.array_equal(hint_action("expert", experts, 6, rng), experts)
    random = hint_action("random", experts, 6, rng)
    assert abs((random == experts).mean() - 1 / 6) < 0.03
    assert np.all(np.bincount(random, minlength=6) > 400)


def test_overfit_and_control_differ_in_their_hints_only(expert, tmp_path):
    facts, starts = [], []
    for hint in ("expert", "random"):
        settings = ImitationSettings(64, **SMALL)
        run = imitate(expert, tmp_path / hint, hint, settings, seed=3, progress=False)
        facts.append(json.loads((run / "settings.json").read_text()))
        starts.append(load_weights(run / "checkpoints" / "000000000.safetensors"))
    assert facts[0]["environment"]["hint"] == "expert:untrained-pong"
    assert facts[1]["environment"]["hint"] == "random"
    for told in facts:
        told["environment"].pop("hint")
    assert facts[0] == facts[1]
    assert all(torch.equal(starts[0][name], starts[1][name]) for name in starts[0])


def test_a_student_learns_its_experts_actions(expert, tmp_path):
    """Twenty updates of an expert that nearly always prefers one action."""
    settings = ImitationSettings(640, **SMALL)
    run = imitate(expert, tmp_path, "expert", settings, seed=1, progress=False)
    rows = list(csv.DictReader((run / "curve.csv").read_text().splitlines()))
    losses = [float(row["cross_entropy"]) for row in rows]
    assert losses[0] > 0.5
    assert np.mean(losses[-3:]) < losses[0] / 2


def test_the_target_is_what_the_expert_would_do_on_the_screen_without_hints(
    expert, tmp_path, monkeypatch
):
    """Two ways: the targets learned from, and the expert run over the same un-hinted screens."""
    seen, batches = [], []
    learn = imitation._learn

    def observe(screens, device):
        seen.append(screens.copy())
        return original(screens, device)

    original = imitation.observe
    monkeypatch.setattr(imitation, "observe", observe)
    monkeypatch.setattr(
        imitation, "_learn", lambda *given: batches.append(given[2]) or learn(*given)
    )
    settings = ImitationSettings(32, **SMALL)
    imitate(expert, tmp_path, "expert", settings, seed=1, progress=False)
    plain, hinted = np.stack(seen[0::2]), np.stack(seen[1::2])  # [T, B, 210, 160, 3]
    memory = torch.zeros(4, *expert.network.memory_shape)
    for t, screens in enumerate(plain):
        observation = torch.from_numpy(np.stack([expert.preprocess(s) for s in screens]))
        with torch.no_grad():
            logits, _, memory = expert.network(observation, memory)
        targets = batches[0]["targets"][t]
        chosen = logits.gather(1, targets[:, None])[:, 0]
        assert (logits.max(1).values - chosen).max() < 2e-3  # up to the rounding of bfloat16
        bars = hinted[t][:, 38, 72:98:5, 0]
        assert np.array_equal(bars.argmax(1), targets.numpy())
        changed = (hinted[t] != screens).any(3)
        changed[:, 37:41, 72:98:5] = False
        assert not changed.any()


def test_a_students_games_can_be_limited(expert, tmp_path):
    """Of 40 frames each: after 16 steps of 4, every emulator has begun a second game."""
    settings = ImitationSettings(64, **SMALL, max_frames=40)
    run = imitate(expert, tmp_path, "expert", settings, seed=1, progress=False)
    told = json.loads((run / "settings.json").read_text())
    assert told["environment"]["max_frames"] == 40
    rows = list(csv.DictReader((run / "curve.csv").read_text().splitlines()))
    assert int(rows[-1]["episodes"]) == SMALL["num_envs"]


def expert_of_seed(seed, name):
    """Ship an expert, and return it as it is loaded."""
    network = initialise(RecurrentActorCritic(6), seed)
    agent = agent_from_module(network, game="pong", preprocessing="luma80")
    save_agent(agent, paths.AGENTS / name)
    return load_agent(name)


def test_students_of_another_expert_are_another_run(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "AGENTS", tmp_path / "agents")
    settings = ImitationSettings(32, **SMALL)
    for seed in (1, 2):
        expert = expert_of_seed(seed, "pong-own")
        if seed == 1:
            run = imitate(expert, tmp_path / "run", "random", settings, seed=1, progress=False)
    asked = expert.facts["sha256"]
    with pytest.raises(ValueError, match=f"run with expert_sha256 = .*, asked for {asked}"):
        imitate(expert, run, "random", settings, seed=1, progress=False)


@pytest.mark.parametrize("name", ["pong-early", "mine"])
def test_an_expert_that_its_name_does_not_bring_back_is_refused(tmp_path, name):
    file = save_agent(load_agent("pong-late"), tmp_path / name)
    with pytest.raises(
        ValueError, match=f"expert '{name}' has the sha256 .* find its expert by its name"
    ):
        imitate(load_agent(file), tmp_path / "run", "expert")
    shown = agent_from_module(RecurrentActorCritic(6), game="pong", preprocessing="luma80")
    with pytest.raises(ValueError, match="expert 'module' has the sha256 None, expected that of"):
        imitate(shown, tmp_path / "run", "expert")
    assert not (tmp_path / "run").exists()


def test_a_shipped_expert_may_be_named_by_its_file(tmp_path):
    expert = load_agent(paths.AGENTS / "pong-early.safetensors")
    settings = ImitationSettings(32, **SMALL)
    run = imitate(expert, tmp_path, "expert", settings, progress=False)
    told = json.loads((run / "settings.json").read_text())
    assert told["expert_sha256"] == load_agent("pong-early").facts["sha256"]


@pytest.mark.parametrize(("cell", "reads"), [("gru", "luma80"), ("lstm", "baby-a3c")])
def test_an_expert_of_another_network_is_refused(tmp_path, cell, reads):
    expert = agent_from_module(
        RecurrentActorCritic(6, cell=cell), game="pong", preprocessing=reads, name="pong-early"
    )
    message = f"agent 'pong-early' has the network '{cell}' and reads '{reads}'; training takes the"
    with pytest.raises(ValueError, match=message):
        imitate(expert, tmp_path / "run", "expert")
    assert not (tmp_path / "run").exists()


def test_seeds_and_settings_that_cannot_be_are_named(expert, tmp_path):
    with pytest.raises(ValueError, match=r"seed must be a whole number from 0 .*, received -1"):
        imitate(expert, tmp_path / "run", "expert", seed=-1)
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match="max_frames must be a whole number from 0 to 2147483647"):
        ImitationSettings(max_frames=-1)


def test_wrong_hints_are_named(expert, tmp_path):
    with pytest.raises(ValueError, match="hint must be one of expert, random, received 'none'"):
        imitate(expert, tmp_path, "none")
