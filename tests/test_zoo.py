"""The matrix of runs: what stands, what remains, and that killing it loses nothing."""

import csv
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import replace

import gymnasium
import joblib
import numpy as np
import pytest
import stable_baselines3
import torch
from distributed import Client, LocalCluster

from atarilens import paths
from atarilens.agents.zoo import FAMILIES, add, available, load, matrix, select, tags
from atarilens.games.emulators import EnvironmentSettings
from atarilens.play import archive, load_replay, zoo_rollout
from atarilens.play.scores import evaluate
from compendium.cli import main
from compendium.shipping import checkpoint_agent, zoo
from compendium.shipping.zoo import Cell
from compendium.training.learner import initial_agent
from compendium.training.runs import load_weights

SHORT = {
    "ppo": {"num_envs": 2, "rollout_steps": 8, "minibatches": 2, "epochs": 1},
    "ga": {"population": 2, "episode_steps": 8, "parents": 1, "elite": 1},
}


class NoiseEnv(gymnasium.Env):
    """Enough of an environment for Stable-Baselines3 to build its networks for Pong."""

    observation_space = gymnasium.spaces.Box(0, 255, (84, 84, 4), np.uint8)
    action_space = gymnasium.spaces.Discrete(6)

    def reset(self, *, seed=None, options=None):
        return self.observation_space.sample(), {}


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A matrix of two algorithms, one game and two short runs."""
    monkeypatch.setenv("ATARILENS_CACHE", str(tmp_path))
    recipes = {
        name: replace(zoo.RECIPES[name], hidden_units=8, **changes)
        for name, changes in SHORT.items()
    }
    monkeypatch.setattr(zoo, "RECIPES", recipes)
    monkeypatch.setattr(zoo, "GAMES", ("pong",))
    monkeypatch.setattr(zoo, "RUNS", (1, 2))
    monkeypatch.setattr(zoo, "STEPS", {"pong": 32})
    monkeypatch.setattr("compendium.training.learner.CALIBRATION", (4, 40))
    return tmp_path / "runs" / "zoo"


def test_what_is_missing_is_trained_once(small, capsys):
    before = zoo.table()
    assert before["steps"].tolist() == [0] * 4
    assert (before["remaining"] >= 0).all()
    assert zoo.train_cell(Cell("ppo", "pong", 1), max_seconds=0) == "ppo-pong-1"
    zoo.train_missing("ppo-pong-1")
    zoo.train_missing(jobs=1)
    names = ["ga-pong-1", "ga-pong-2", "ppo-pong-1", "ppo-pong-2"]
    assert sorted(path.name for path in small.iterdir()) == names
    said = capsys.readouterr().out.split()[1::2]
    assert sorted(said) == names
    assert said[0] == "ppo-pong-1"
    after = zoo.table()
    assert after["steps"].tolist() == [32] * 4
    assert after["remaining"].tolist() == [0] * 4
    zoo.train_missing()
    assert not capsys.readouterr().out
    told = json.loads((small / "ga-pong-2" / "settings.json").read_text())
    assert (told["game"], told["seed"], told["evolution"]["method"]) == ("pong", 2, "ga")
    assert told["environment"] == EnvironmentSettings("pong").as_dict()


SMALL_RUN = """
from dataclasses import replace
from compendium.shipping import zoo
from compendium.training import learner, runs
learner.CALIBRATION, runs.SAVE_EVERY = (4, 40), 0.0
zoo.STEPS["pong"] = {steps}
zoo.RECIPES[{name!r}] = replace(zoo.RECIPES[{name!r}], hidden_units=8, **{changes})
zoo.train_missing("{name}-pong-1")
"""
FEW = {"num_envs": 2, "batch": 8, "first_steps": 48, "memory_steps": 400}
TINY = {
    "dqn": (8, {**FEW, "rollout_steps": 4}),
    "ga": (16, SHORT["ga"]),
}


def train_in_a_process(cache, name, steps):
    """Start `make zoo ONLY=<name>-pong-1` with a small recipe; return the process."""
    script = SMALL_RUN.format(name=name, steps=steps, changes=TINY[name][1])
    here = {**os.environ, "ATARILENS_CACHE": str(cache)}
    return subprocess.Popen([sys.executable, "-c", script], env=here)


def steps_of(curve):
    """Return the steps of a curve's whole rows; its last one may be half-written."""
    whole = [line for line in curve.read_text().splitlines(keepends=True) if line.endswith("\n")]
    return [int(row["step"]) for row in csv.DictReader(whole)]


@pytest.mark.parametrize("name", TINY)
def test_a_run_that_is_killed_loses_what_was_not_saved_and_nothing_else(tmp_path, name):
    """SIGKILL twice, whatever it is doing; then the run ends, with every update once."""
    per_update, run = TINY[name][0], tmp_path / "cache/runs/zoo" / f"{name}-pong-1"
    curve, reached = run / "curve.csv", 0
    for _ in range(2):
        process = train_in_a_process(tmp_path / "cache", name, 10**6)
        try:
            while process.poll() is None:
                rows = steps_of(curve) if curve.exists() else []
                if rows and rows[-1] >= reached + 2 * per_update:
                    break
                time.sleep(0.05)
        finally:
            process.kill()
            process.wait()
        saved = torch.load(run / "state.pt", weights_only=True)["step"]
        assert saved >= reached + per_update
        assert saved >= steps_of(curve)[-1] - per_update  # a run is saved after every update here
        reached = saved
    whole = reached + 4 * per_update
    assert train_in_a_process(tmp_path / "cache", name, whole).wait(300) == 0
    assert steps_of(curve) == list(range(per_update, whole + 1, per_update))
    if name == "ga":  # no memory of games to fill again: the same run as without kills
        assert train_in_a_process(tmp_path / "undisturbed", name, whole).wait(300) == 0
        runs = [tmp_path / cache / "runs/zoo/ga-pong-1" for cache in ("cache", "undisturbed")]
        ends = [torch.load(folder / "state.pt", weights_only=True) for folder in runs]
        assert torch.equal(ends[0]["parents"], ends[1]["parents"])


def test_runs_go_to_a_dask_cluster(small):
    here = {"host": "127.0.0.1", "protocol": "tcp://", "dashboard_address": None}
    with (
        LocalCluster(n_workers=1, threads_per_worker=2, processes=False, **here) as cluster,
        Client(cluster),
        joblib.parallel_config("dask"),
    ):
        zoo.train_missing("ppo")
    after = zoo.table("ppo")
    assert after["run"].tolist() == ["ppo-pong-1", "ppo-pong-2"]
    assert after["steps"].tolist() == [32, 32]


def test_a_run_ships_measured_on_its_own_file(small, tmp_path, monkeypatch):
    for name in ("ZOO", "SCORES", "LOGS"):
        monkeypatch.setattr(paths, name, tmp_path / name.lower())
    monkeypatch.setattr(zoo, "STUCK_FRAMES", 200)
    monkeypatch.setattr(archive, "STEPS", 20)
    cells = [Cell("ppo", "pong", 1), Cell("ga", "pong", 2)]
    for cell in cells:
        with pytest.raises(ValueError, match=f"holds no checkpoints: make zoo ONLY={cell.name}"):
            zoo.ship_cell(cell)
        zoo.train_cell(cell)
        zoo.ship_cell(cell, episodes=2)
    there = available()
    assert there[["algorithm", "game", "run", "tag"]].to_numpy().tolist() == [
        ["ga", "pong", 2, "final"],
        ["ppo", "pong", 1, "final"],
    ]
    assert there["steps"].tolist() == [32, 32]
    for cell, score in zip(cells, there["score"][::-1], strict=True):
        agent = load(cell.algorithm, "pong", cell.run)
        greedy = cell.algorithm == "ga"
        assert agent.network.q_values == greedy
        assert agent.facts["score"]["sha256"] == agent.facts["sha256"]
        assert len(load_replay(archive.replay_path(agent))[1]) == 20
        short = replace(agent.settings, max_frames=200)
        assert evaluate(agent, 2, greedy=greedy, settings=short).mean == score
    message = "no agent 'pp-pong-1', did you mean ppo-pong-1? It has ga-pong-2, ppo-pong-1; `make"
    with pytest.raises(ValueError, match=re.escape(message)):
        load("pp", "pong")
    for arguments in (("ppo", "chess"), ("ppo", "pong", 3), ("ppo", "pong", 3, "3min")):
        with pytest.raises(ValueError, match=r"the zoo has no agent 'ppo-.*It has ga-pong-2, ppo-"):
            load(*arguments)
    weights = (paths.ZOO / "ppo-pong-1.safetensors").read_bytes()
    (paths.ZOO / "ppo-pong-1.safetensors").write_bytes(weights[:-1])
    with pytest.raises(ValueError, match=r"ppo-pong-1\.safetensors is damaged or not the file of"):
        load("ppo", "pong")
    (paths.ZOO / "ppo-pong-1.yml").write_text("game: [")
    for broken in (lambda: load("ppo", "pong"), available, tags):
        with pytest.raises(ValueError, match=r"ppo-pong-1\.yml is not YAML"):
            broken()


def test_a_run_that_trained_with_sticky_actions_ships_as_the_others_play(
    small, tmp_path, monkeypatch
):
    for name in ("ZOO", "SCORES", "LOGS"):
        monkeypatch.setattr(paths, name, tmp_path / name.lower())
    monkeypatch.setattr(zoo, "STUCK_FRAMES", 200)
    monkeypatch.setattr(archive, "STEPS", 20)
    sticky, cell = 0.95, Cell("ppo", "pong", 1)
    monkeypatch.setitem(zoo.STICKY, ("ppo", "pong"), sticky)
    zoo.train_cell(cell)
    zoo.ship_cell(cell, episodes=1)
    trained = json.loads((cell.folder / "settings.json").read_text())["environment"]
    assert trained["repeat_action_probability"] == sticky
    agent = load("ppo", "pong", 1)
    assert agent.settings == EnvironmentSettings("pong")
    assert agent.facts["trained_with"].startswith(f"repeat_action_probability {sticky} per frame")
    assert load_replay(archive.replay_path(agent))[0]["settings"]["repeat_action_probability"] == 0
    began = load_weights(cell.folder / "checkpoints" / "000000000.safetensors")
    again = initial_agent(agent).network.state_dict()
    assert all(torch.equal(again[name].half(), began[name].half()) for name in began)


def test_every_tag_is_a_row_and_is_rebuilt_from_the_run(small, tmp_path, monkeypatch):
    for name in ("ZOO", "SCORES", "LOGS"):
        monkeypatch.setattr(paths, name, tmp_path / name.lower())
    monkeypatch.setattr(zoo, "STUCK_FRAMES", 100)
    monkeypatch.setattr(archive, "STEPS", 10)
    cell = Cell("ppo", "pong", 1)
    zoo.train_cell(cell)
    zoo.ship_cell(cell, episodes=2)
    rows = tags().set_index("tag")
    command = "make zoo ONLY=ppo-pong-1 TAG=initial"
    told = rows["how"].to_dict()
    assert (told.pop("initial"), told.pop("final")) == (command, "stored")
    assert set(told) == {"3min", "6min", "12min", "18min", "30min", "400k", "1M", "human", "match"}
    assert set(told.values()) == {"not reached"}
    assert rows["steps"].dropna().to_dict() == {"initial": 0, "final": 32}
    for tag, message in (
        ("initial", rf"ppo-pong-1 at initial \(agent step 0\) is not stored: {command}"),
        ("1M", "ppo-pong-1 did not reach 1M: it ended after 32 agent steps, 0.0 CPU minutes"),
        ("best", "unknown tag 'best' of ppo-pong-1; it has initial, 3min, 6min"),
    ):
        with pytest.raises(ValueError, match=message):
            load("ppo", "pong", 1, tag)
    with pytest.raises(ValueError, match="has no checkpoint '1M'; it has initial, final"):
        zoo.ship_cell(cell, "1M")
    monkeypatch.setenv("ATARILENS_CACHE", str(tmp_path / "another"))  # the run is not there
    assert main(["zoo", "ONLY=ppo-pong-1", "TAG=initial"]) == 0
    first, last = load("ppo", "pong", 1, "initial").network, load("ppo", "pong", 1).network
    assert not torch.equal(first.conv1.weight, last.conv1.weight)
    assert tags().set_index("tag")["how"]["initial"] == "stored"
    assert set(available()["tag"]) == {"initial", "final"}
    assert (matrix()["name"] != "").sum() == 1


@pytest.mark.parametrize(
    ("algorithm", "changes"),
    [("ppo", {}), ("ppo", {"calibrated": False}), ("ga", {}), ("ga", {"method": "es"})],
)
def test_the_agent_that_a_run_started_from_is_made_again(small, monkeypatch, algorithm, changes):
    """Two ways: the run's first checkpoint, and from the seed in the row of its last."""
    monkeypatch.setitem(zoo.RECIPES, algorithm, replace(zoo.RECIPES[algorithm], **changes))
    zoo.train_cell(Cell(algorithm, "pong", 2))
    paths_of = sorted((small / f"{algorithm}-pong-2" / "checkpoints").glob("*.safetensors"))
    first, last = (checkpoint_agent(path, "agent") for path in (paths_of[0], paths_of[-1]))
    again = initial_agent(last)
    assert again.game == "pong"
    for name, value in first.network.state_dict().items():
        assert torch.equal(again.network.state_dict()[name].half(), value.half())


def test_a_score_that_every_algorithm_reached_is_a_tag(monkeypatch):
    rows = matrix().dropna(subset=["score"])
    rows = rows[rows["game"] == "freeway"]  # where every algorithm learnt something
    level = rows.groupby("algorithm")["score"].max().min()
    monkeypatch.setattr("atarilens.agents.zoo.available", lambda: rows)
    found = tags()
    assert set(found.loc[found["tag"] == f"match@{level:g}", "game"]) == {"freeway"}
    assert set(found.loc[found["tag"] == "match", "game"]) == {"pong", "breakout"}


CHECKPOINTS = [
    {"steps": 0, "frames": 0, "cpu_seconds": 0.0, "score": -21.0},
    {"steps": 50_000, "frames": 200_000, "cpu_seconds": 170.0, "score": -20.0},
    {"steps": 100_000, "frames": 400_000, "cpu_seconds": 340.0, "score": 3.0},
    {"steps": 125_000, "frames": 500_000, "cpu_seconds": 400.0, "score": -5.0},
]


@pytest.mark.parametrize(
    ("criterion", "steps"),
    [
        ("initial", 0),
        ("final", 125_000),
        ("3min", 50_000),
        ("6min", 100_000),
        ("12min", None),
        ("400k", 100_000),
        ("300k", 50_000),
        ("1M", None),
        (("match", -20.0), 50_000),
        (("match", 0.0), 100_000),
        (("human", 9.3), None),
    ],
)
def test_a_checkpoint_is_selected_by_the_same_rule_for_all(criterion, steps):
    for order in (CHECKPOINTS, CHECKPOINTS[::-1]):
        found = select(order, criterion)
        assert (found and found["steps"]) == steps
    assert select([], criterion) is None


def test_another_criterion_is_named():
    with pytest.raises(ValueError, match="unknown criterion 'best'; expected initial, final, such"):
        select(CHECKPOINTS, "best")


def test_every_algorithm_of_the_original_has_a_stand_in():
    names = [cell.name for cell in zoo.cells()]
    assert len(names) == len(set(names)) == 6 * 3 * 3
    assert {ours for ours, _ in zoo.ORIGINAL.values()} <= set(zoo.RECIPES) == set(zoo.RATES)
    assert len(zoo.ORIGINAL) == 7
    cost = zoo.cost_of_the_original(games=1, seeds=1).set_index("algorithm")["core_hours"]
    assert cost["DQN"] == round(50e6 / zoo.RATES["dqn"] / 3600)


def test_an_unknown_run_is_named(capsys):
    assert main(["zoo", "ONLY=ppo-chess"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("atarilens: error: no run of the zoo starts with 'ppo-chess'; expected")
    assert "ppo, a2c, dqn, qr-dqn, ga, es; pong, breakout, freeway; 1, 2, 3" in said


def test_the_table_says_what_remains(capsys):
    assert main(["zoo", "ONLY=es-freeway", "TABLE=1"]) == 0
    said = capsys.readouterr().out
    assert "es-freeway-3" in said
    assert "55 games x 7 algorithms x 3 runs, would take" in said


def test_every_cell_of_the_matrix_is_a_row_and_the_missing_ones_say_so(tmp_path, monkeypatch):
    stored = available()
    rows = matrix()
    assert len(rows) == len(FAMILIES) * len(zoo.GAMES) * len(zoo.RUNS)
    assert set(FAMILIES) == set(zoo.RECIPES)
    assert sorted(name for name in rows["name"] if name) == sorted(
        f"{row.algorithm}-{row.game}-{row.run}" for row in stored.itertuples() if row.tag == "final"
    )
    missing = rows[rows["name"] == ""]
    assert missing["score"].isna().all()
    assert missing["steps"].isna().all()
    monkeypatch.setattr(paths, "ZOO", tmp_path)
    assert len(available()) == 0
    assert matrix()["score"].isna().all()


def test_a_newcomer_joins_the_zoo(tmp_path, monkeypatch):
    monkeypatch.setattr("atarilens.agents.zoo._newcomers", {})
    model = stable_baselines3.PPO("CnnPolicy", NoiseEnv(), seed=1, device="cpu")
    model.save(tmp_path / "model.zip")
    agent = add(tmp_path / "model.zip", "my-ppo", game="pong")
    assert agent.name == "my-ppo-pong-1"
    assert load("my-ppo", "pong") is agent
    rows = matrix()
    (row,) = rows[rows["algorithm"] == "my-ppo"].itertuples()
    assert (row.name, row.game, row.run, row.family) == ("my-ppo-pong-1", "pong", 1, "newcomer")
    monkeypatch.setenv("ATARILENS_CACHE", str(tmp_path))
    assert zoo_rollout("my-ppo", "pong", steps=5).read("hidden").shape == (5, 512)
    with pytest.raises(ValueError, match="expected lower-case words joined by hyphens"):
        add(agent, "My PPO")
    first = available().iloc[0]
    stored = load(first.algorithm, first.game, first.run, first.tag)
    if first.algorithm != "my-ppo":
        with pytest.raises(ValueError, match=f"the zoo has a stored agent {stored.name!r}: choose"):
            add(stored, first.algorithm, first.run, first.tag)
