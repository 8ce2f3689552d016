"""A run's folder: what is kept of it, whatever it is that is trained."""

import re
import signal

import numpy as np
import pytest
import torch
from torch import nn

from atarilens.games.emulators import EnvironmentSettings
from compendium.training.emulators import Emulators
from compendium.training.imitation import ImitationSettings
from compendium.training.ppo import PPOSettings
from compendium.training.runs import RETURNS_KEPT, checkpoint_steps, drive, load_weights

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
    settings = ImitationSettings(total_steps, num_envs=1, rollout_steps=1, minibatches=1)
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
    network = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(network.weight)
    updates = scripted(network, [0] * 3, [None] * 3)

    def make_update(*given):
        update = updates(*given)

        def pressed():
            if total == 1:
                signal.raise_signal(signal.SIGINT)
            return update()

        return pressed

    def callback(step, *_):
        if step == total:
            raise KeyboardInterrupt

    settings = ImitationSettings(10, num_envs=1, rollout_steps=1, minibatches=1)
    with pytest.raises(KeyboardInterrupt):
        drive(tmp_path, FACTS, network, make_update, settings, callbacks=[callback], progress=False)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert (state["step"], float(state["network"]["weight"])) == (total, total)
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
    run(tmp_path, [0] * 2, [None] * 2, 1)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    torch.save(state | {"generator": torch.zeros(16, dtype=torch.uint8)}, tmp_path / "state.pt")
    with pytest.raises(ValueError, match=r"state.pt is of another device, asked for cpu"):
        run(tmp_path, [0] * 2, [None] * 2, 2)


def test_a_run_that_cannot_begin_does_not_block_the_next(tmp_path):
    def make_update(*_):
        raise ValueError("no emulators")

    settings = ImitationSettings(1, num_envs=1, rollout_steps=1)
    with pytest.raises(ValueError, match="no emulators"):
        drive(tmp_path, FACTS | {"seed": 7}, nn.Linear(1, 1), make_update, settings)
    assert set(everything(tmp_path)) == {"lock"}
    run(tmp_path, [0], [None], 1)


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
