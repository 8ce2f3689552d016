"""A run's folder: what is kept of it, whatever it is that is trained."""

import json
import re
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from atarilens.games.emulators import EnvironmentSettings
from compendium.training.emulators import RETURNS_KEPT, Emulators
from compendium.training.imitation import ImitationSettings
from compendium.training.learner import GradientLearner
from compendium.training.ppo import PPOSettings, train
from compendium.training.runs import checkpoint_steps, drive, load_weights
from compendium.training.settings import changed, run_name

FACTS = {"game": "none", "seed": 0}


class Hill:
    """A learner without a gradient: it steps at random and keeps what lies higher.

    Its returns and counts of episodes can be given instead, one of each for every update.
    """

    steps_per_update = 1

    def __init__(self, total_steps, told=None):
        self.total_steps, self.told = total_steps, told
        self.network = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(self.network.weight)
        self.generator = torch.Generator().manual_seed(0)

    def start(self, step):
        self.remaining = iter(self.told[step:] if self.told is not None else ())

    def update(self, step):
        weight = self.network.weight.data
        if self.told is not None:
            weight += 1
            episodes, mean = next(self.remaining)
            return {"episodes": episodes, "mean_return": mean}
        candidate = weight + torch.randn(1, 1, generator=self.generator)
        if (candidate - 3).abs() < (weight - 3).abs():
            weight.copy_(candidate)
        return {"episodes": 1, "mean_return": -float((weight - 3).abs())}

    def state_dict(self):
        return {"weight": self.network.weight.data, "generator": self.generator.get_state()}

    def load_state_dict(self, state):
        self.network.weight.data.copy_(state["weight"])
        self.generator.set_state(state["generator"])


def run(folder, episodes, means, total_steps):
    told = list(zip(episodes, means, strict=True))
    drive(folder, FACTS, Hill(total_steps, told), progress=False)
    kept = list((folder / "best").iterdir())
    return {path.name: float(load_weights(path)["weight"]) for path in kept}


def test_a_learner_without_a_gradient_goes_on_where_it_was_killed(tmp_path):
    """Two ways: 300 steps at once, and 100 steps killed while the curve was ahead of the state."""
    drive(tmp_path / "whole", FACTS, Hill(300), progress=False)
    drive(tmp_path / "killed", FACTS, Hill(100), progress=False)
    with (tmp_path / "killed" / "curve.csv").open("a") as file:
        file.write("101,0.0,101,0.5,0.0\n102,0.")
    (tmp_path / "killed" / "checkpoints" / ".000000101.safetensors.7.part").touch()
    drive(tmp_path / "killed", FACTS, Hill(300), progress=False)
    weights = [
        load_weights(tmp_path / name / "checkpoints" / "000000300.safetensors")["weight"].item()
        for name in ("whole", "killed")
    ]
    assert weights[0] == weights[1] == pytest.approx(3, abs=0.1)
    rows = (tmp_path / "killed" / "curve.csv").read_text().splitlines()[1:]
    assert [int(row.split(",")[0]) for row in rows] == list(range(1, 301))
    assert not list(tmp_path.rglob(".*.part"))


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


def everything(folder):
    """Return the bytes of all files below a folder, by name."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_without_a_state_a_run_starts_anew(tmp_path):
    full = [RETURNS_KEPT] * 3
    run(tmp_path, full, [1.0, 3.0, 2.0], 3)
    expected = set(everything(tmp_path))
    (tmp_path / "state.pt").unlink()
    run(tmp_path, full[:2], [2.0, 1.0], 2)
    rows = (tmp_path / "curve.csv").read_text().splitlines()[1:]
    assert [row.split(",")[0] for row in rows] == ["1", "2"]
    names = {"checkpoints/000000003.safetensors", "best/000000002.safetensors"}
    others = {"checkpoints/000000002.safetensors", "best/000000001.safetensors"}
    assert set(everything(tmp_path)) == expected - names | others


def test_the_first_state_is_that_of_no_step(tmp_path):
    """A run that fails in its first update has one, and goes on from there."""
    with pytest.raises(StopIteration):
        run(tmp_path, [], [], 2)
    assert torch.load(tmp_path / "state.pt", weights_only=True)["step"] == 0
    assert run(tmp_path, [0], [None], 1) == {}


@pytest.mark.parametrize("total", [1, 3])
def test_an_interrupted_run_is_saved(tmp_path, total):
    """Ctrl-C in an update waits for its end; one in a callback is saved too."""
    learner = Hill(10, [(0, None)] * 3)
    update = learner.update

    def pressed(step):
        if total == 1:
            signal.raise_signal(signal.SIGINT)
        return update(step)

    learner.update = pressed

    def callback(step, *_):
        if step == total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        drive(tmp_path, FACTS, learner, callbacks=[callback], progress=False)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert (state["step"], float(state["weight"])) == (total, total)
    assert len((tmp_path / "curve.csv").read_text().splitlines()) == 1 + total


def cut_off(path):
    path.write_bytes(path.read_bytes()[:-30])


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("state.pt", cut_off),
        ("state.pt", lambda path: path.write_text("not a state")),
        ("state.pt", lambda path: path.write_bytes(b"")),
        ("state.pt", lambda path: torch.save({"step": 2}, path)),
        ("state.pt", lambda path: torch.save([1, 2], path)),
        ("curve.csv", lambda path: path.write_bytes(b"")),
        ("curve.csv", lambda path: path.write_text("step,hours\nx,y\n")),
        ("curve.csv", lambda path: path.write_bytes(b"\xff\xfe\n")),
        ("settings.json", cut_off),
        ("settings.json", lambda path: path.write_text("null")),
    ],
)
def test_a_damaged_file_is_named(tmp_path, name, damage):
    run(tmp_path, [0] * 3, [None] * 3, 2)
    damage(tmp_path / name)
    before = everything(tmp_path)
    with pytest.raises(
        ValueError, match=r"is damaged \(\w+\): remove .* to start anew$"
    ) as refusal:
        run(tmp_path, [0] * 3, [None] * 3, 3)
    assert str(refusal.value).startswith(f"{tmp_path / name} is damaged")
    assert f"remove {tmp_path} to" in str(refusal.value)
    assert everything(tmp_path) == before


def test_a_run_without_its_settings_is_refused(tmp_path):
    run(tmp_path, [0] * 2, [None] * 2, 2)
    (tmp_path / "settings.json").unlink()
    message = "holds best, checkpoints, curve.csv, state.pt but no settings.json: remove the folder"
    with pytest.raises(ValueError, match=message):
        run(tmp_path, [0] * 2, [None] * 2, 2)


def test_a_state_of_another_device_is_refused(tmp_path):
    """The generator of CUDA has 16 bytes."""
    settings = ImitationSettings(1, num_envs=1, rollout_steps=1, minibatches=1)
    learner = GradientLearner(nn.Linear(1, 1), settings, 0)
    learner.start = lambda step: None
    learner.update = lambda step: {"episodes": 0, "mean_return": None}
    drive(tmp_path, FACTS, learner, progress=False)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    torch.save(state | {"generator": torch.zeros(16, dtype=torch.uint8)}, tmp_path / "state.pt")
    with pytest.raises(ValueError, match=r"state.pt is of another device, asked for cpu"):
        drive(tmp_path, FACTS, learner, progress=False)


def test_a_run_that_cannot_begin_does_not_block_the_next(tmp_path):
    learner = Hill(1)

    def start(step):
        raise ValueError("no emulators")

    learner.start = start
    with pytest.raises(ValueError, match="no emulators"):
        drive(tmp_path, FACTS | {"seed": 7}, learner)
    assert set(everything(tmp_path)) == {"lock"}
    run(tmp_path, [0], [None], 1)


# --- Settings


SMALL = PPOSettings(64, num_envs=4, rollout_steps=8, epochs=1, minibatches=2)


def test_a_run_of_an_older_version_goes_on(tmp_path):
    """It knew fewer settings and columns; what it did not know counts as its default."""
    train("pong", tmp_path, replace(SMALL, total_steps=32), seed=1, progress=False)
    path = tmp_path / "settings.json"
    told = json.loads(path.read_text())
    for group, name in (("ppo", "life_penalty"), ("ppo", "clip"), ("environment", "hint")):
        del told[group][name]
    path.write_text(json.dumps(told))
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    del state["cpu_seconds"]
    torch.save(state, tmp_path / "state.pt")
    curve = tmp_path / "curve.csv"
    curve.write_text(
        "".join(f"{line.rpartition(',')[0]}\n" for line in curve.read_text().splitlines())
    )
    sticky = EnvironmentSettings("pong", repeat_action_probability=0.25)
    for changes, name, default in (({"clip": 0.2}, "clip", 0.1), ({"gamma": 0.9}, "gamma", 0.99)):
        message = rf"run with ppo {name} = {default}, asked for {changes[name]}; choose another"
        with pytest.raises(ValueError, match=message):
            train("pong", tmp_path, replace(SMALL, **changes), seed=1, progress=False)
    with pytest.raises(ValueError, match=r"environment repeat_action_probability = 0.0, asked for"):
        train("pong", tmp_path, SMALL, seed=1, environment=sticky, progress=False)
    train("pong", tmp_path, SMALL, seed=1, progress=False)
    rows = curve.read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["step", "32", "64"]
    assert len({row.count(",") for row in rows}) == 1


def test_words_change_the_settings_that_know_them():
    words = ["clip=0.2", "life_loss=false", "epochs=1", "repeat_action_probability=0.25"]
    ppo, environment = changed(words, PPOSettings(5), EnvironmentSettings("pong"))
    assert ppo == PPOSettings(5, clip=0.2, life_loss=False, epochs=1)
    assert environment == EnvironmentSettings("pong", repeat_action_probability=0.25)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("clop=1", "no setting 'clop'; expected one of num_envs, .*, noop_max"),
        ("total_steps=1", "no setting 'total_steps'; expected"),
        ("game=pong", "no setting 'game'; expected"),
        ("clip=high", "clip must be of type float, received 'high'"),
        ("epochs", "epochs must be of type int, received ''"),
        ("life_loss=1", "life_loss must be true or false, received '1'"),
        ("epochs=0", "epochs must be a whole number from 1 to inf, received 0"),
        ("repeat_action_probability=2", r"must lie in \[0, 1\], received 2.0"),
    ],
)
def test_words_that_cannot_be_are_named(word, message):
    with pytest.raises(ValueError, match=message):
        changed([word], PPOSettings(), EnvironmentSettings("pong"))


def test_runs_that_differ_have_folders_that_differ():
    def name(*words, seed=1, total=10):
        return run_name(
            "pong", seed, *changed(list(words), PPOSettings(total), EnvironmentSettings("pong"))
        )

    assert name() == name(total=20) == name("clip=0.1") == "pong-1"
    assert name("clip=0.2", "noop_max=0", seed=2) == "pong-clip=0.2-noop_max=0-2"
    names = {name("epochs=1"), name("epochs=2"), name("life_penalty=1"), name(seed=2), name()}
    assert len(names) == 5


@pytest.mark.parametrize("kind", [PPOSettings, ImitationSettings])
@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("total_steps", 0, "a whole number from 1 to inf"),
        ("num_envs", 0, "a whole number from 1 to inf"),
        ("num_envs", 4.0, "a whole number from 1 to inf"),
        ("rollout_steps", -8, "a whole number from 1 to inf"),
        ("epochs", 0, "a whole number from 1 to inf"),
        ("minibatches", 0, "a whole number from 1 to inf"),
        ("learning_rate", -1.0, "a finite number from 0 to inf"),
        ("learning_rate", float("nan"), "a finite number from 0 to inf"),
        ("max_grad_norm", float("inf"), "a finite number from 0 to inf"),
        ("max_grad_norm", "high", "a finite number from 0 to inf"),
    ],
)
def test_numbers_out_of_range_are_named(kind, name, value, expected):
    message = re.escape(f"{name} must be {expected}, received {value!r}")
    with pytest.raises(ValueError, match=f"^{message}$"):
        kind(**{name: value})


@pytest.mark.parametrize(
    ("total", "steps"),
    [(20_000, [0, 20_000]), (130_000, [0, 31_250, 62_500, 125_000, 130_000])],
)
def test_the_schedule_doubles_and_ends_at_the_end(total, steps):
    assert checkpoint_steps(total) == steps
    assert checkpoint_steps(10, every=4) == [0, 4, 8, 10]
