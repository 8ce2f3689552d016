"""Shipping: what is told of an agent was measured on the very file that is shipped."""

import pytest
import yaml

from atarilens import paths
from atarilens.agents import load_agent
from atarilens.games.emulators import EnvironmentSettings
from atarilens.play.scores import evaluate, read_scores
from compendium import shipping
from compendium.cli import main
from compendium.training.ppo import PPOSettings, train

SMALL = PPOSettings(32, num_envs=4, rollout_steps=8, epochs=1, minibatches=2)
SHIPPED = sorted(
    row.stem for row in paths.AGENTS.glob("*.yml") if "url" not in yaml.safe_load(row.read_text())
)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A short run, and a repository of its own for what is shipped."""
    for name in ("AGENTS", "SCORES", "LOGS"):
        monkeypatch.setattr(paths, name, tmp_path / name.lower())
        (tmp_path / name.lower()).mkdir()
    short = EnvironmentSettings("breakout", max_frames=400)
    return train("breakout", tmp_path / "run", SMALL, seed=4, environment=short, progress=False)


def test_a_shipped_agent_is_measured_on_its_own_file(run):
    checkpoint = run / "checkpoints" / "000000032.safetensors"
    row = shipping.ship(checkpoint, "breakout-small", episodes=2, facts={"hours": 0.1})
    told = yaml.safe_load(row.read_text())
    assert sorted(path.name for path in paths.AGENTS.iterdir()) == [
        "breakout-small.safetensors",
        "breakout-small.yml",
    ]
    agent = load_agent("breakout-small")
    assert told["score"]["sha256"] == told["sha256"] == agent.facts["sha256"]
    assert (told["training_steps"], told["seed"], told["hours"]) == (32, 4, 0.1)
    again = evaluate(agent, episodes=2, seed=0)
    assert told["score"]["mean"] == round(again.mean, 2)
    rows = read_scores(paths.SCORES / "breakout-small.csv")
    assert [entry["return"] for entry in rows[:2]] == again.returns.tolist()
    assert [entry["repeat_action_probability"] for entry in rows] == [0, 0, 0, 0, 0.25, 0.25]


def test_a_row_measured_on_another_file_is_refused(run):
    checkpoints = sorted((run / "checkpoints").iterdir())
    row = shipping.ship(checkpoints[-1], "breakout-small", episodes=1)
    told = yaml.safe_load(row.read_text())
    other = told | {"score": told["score"] | {"sha256": "0" * 64}}
    row.write_text(yaml.safe_dump(other))
    with pytest.raises(
        ValueError, match=r"measured on 0{64}, .* but its file is .*: ship it again"
    ):
        shipping.check_row("breakout-small")
    row.write_text(yaml.safe_dump(told | {"score": told["score"] | {"mean": 99.0}}))
    with pytest.raises(ValueError, match=r"says a mean of 99\.0, its table"):
        shipping.check_row("breakout-small")


def test_a_checkpoint_is_chosen_on_seeds_that_are_not_reported(run):
    assert shipping.choose_checkpoint(run, last=2, episodes=1).parent == run / "checkpoints"
    assert shipping.CHOOSING_SEED > shipping.REPORTING_SEED + shipping.EPISODES


def test_the_best_of_training_is_a_candidate(run):
    first, last = sorted((run / "checkpoints").iterdir())
    first.unlink()
    best = last.rename(run / "best" / last.name)
    assert shipping.choose_checkpoint(run, episodes=1) == best
    assert shipping.checkpoint_agent(best, "x").facts["training_steps"] == 32
    best.unlink()
    with pytest.raises(ValueError, match="holds no checkpoints"):
        shipping.choose_checkpoint(run)


def test_other_files_are_no_checkpoints(tmp_path):
    with pytest.raises(ValueError, match=r"is no checkpoint of a training run, expected <run>/ch"):
        shipping.checkpoint_agent(tmp_path / "a.safetensors", "x")


@pytest.mark.parametrize("name", ["sub/mine", "../mine", "mine.yml", "my agent"])
def test_a_name_that_is_no_file_name_is_refused_at_once(run, name, capsys):
    before = sorted(run.parent.rglob("*"))
    for order in (run, run / "checkpoints" / "000000032.safetensors"):
        assert main(["ship", f"CHECKPOINT={order}", f"NAME={name}"]) == 2
        said = capsys.readouterr().err
        assert said == (
            f"atarilens: error: the name {name!r} must consist of letters, digits, _ and -\n"
        )
    with pytest.raises(ValueError, match="must consist of"):
        shipping.ship(run / "checkpoints" / "000000032.safetensors", name, episodes=10**6)
    assert sorted(run.parent.rglob("*")) == before


def test_a_run_without_its_curve_is_refused_at_once(run, capsys):
    (run / "curve.csv").unlink()
    for order in (run, run / "checkpoints" / "000000032.safetensors"):
        assert main(["ship", f"CHECKPOINT={order}", "NAME=breakout-small"]) == 2
        assert f"{run} has no curve.csv, expected the folder of" in capsys.readouterr().err
    assert not any(any(folder.iterdir()) for folder in (paths.AGENTS, paths.SCORES, paths.LOGS))


def test_an_agent_of_another_game_is_no_measure(run):
    pong, breakout = load_agent("untrained-pong"), load_agent("untrained-breakout")
    with pytest.raises(ValueError, match=r"untrained-pong plays pong, but .*run learned breakout"):
        shipping.choose_checkpoint(run, episodes=10**6, like=pong)
    assert shipping.choose_checkpoint(run, episodes=1, like=breakout).is_file()


def test_a_curve_is_thinned_to_its_last_row(run):
    lines = shipping.thin_curve(run, "small", rows=1).read_text().splitlines()
    assert lines[0].startswith("step,hours,")
    assert len(lines) == 2


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_row_belongs_to_its_file(name):
    shipping.check_row(name)


@pytest.mark.parametrize("name", [n for n in SHIPPED if n.endswith(("-overfit", "-control"))])
def test_students_imitate_the_expert_that_is_shipped(name):
    told = load_agent(name).facts
    expert = load_agent(told["lineage"].removeprefix("imitates "))
    assert told["expert_sha256"] == expert.facts["sha256"]


def test_hours_are_those_of_the_checkpoint(run):
    checkpoints = sorted((run / "checkpoints").iterdir())
    hours = [shipping.training_hours(path) for path in checkpoints]
    assert hours[0] == 0.0
    assert 0 <= hours[1] < 1


def test_shipping_from_the_command_line(run, capsys, monkeypatch):
    ship = shipping.ship
    monkeypatch.setattr(shipping, "ship", lambda *a, **k: ship(*a, episodes=1, **k))
    checkpoint = run / "checkpoints" / "000000032.safetensors"
    assert main(["ship", f"CHECKPOINT={checkpoint}", "NAME=breakout-small"]) == 0
    assert (paths.LOGS / "breakout-small.csv").is_file()
    assert load_agent("breakout-small").facts["hours"] is not None
    assert str(paths.AGENTS / "breakout-small.yml") in capsys.readouterr().out
