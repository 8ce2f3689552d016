"""The overfit study's students: equal but for what their hints tell."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from atarilens.agents import load_agent
from atarilens.training import imitation
from atarilens.training.imitation import ImitationSettings, hint_action, imitate
from atarilens.training.runs import load_weights

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


def test_students_of_another_expert_are_another_run(expert, tmp_path):
    settings = ImitationSettings(32, **SMALL)
    imitate(expert, tmp_path, "random", settings, seed=1, progress=False)
    other = replace(expert, facts=expert.facts | {"sha256": "0" * 64})
    with pytest.raises(ValueError, match=r"holds a run with expert_sha256 = .*, asked for 0000"):
        imitate(other, tmp_path, "random", settings, seed=1, progress=False)


def test_wrong_hints_are_named(expert, tmp_path):
    with pytest.raises(ValueError, match="hint must be one of expert, random, received 'none'"):
        imitate(expert, tmp_path, "none")
