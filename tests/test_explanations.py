"""`make explain` draws the standard figures of any agent, and says how much the agent reacts."""

import json

import pytest

from atarilens import save_agent
from atarilens.agents import agent_from_module, build_network
from compendium.cli import main
from compendium.commands import STANDARD, main_object


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> str:
    """A Q-network of Mnih et al. (2015) with the weights that it starts from."""
    network = build_network("nature-q", num_actions=6)
    agent = agent_from_module(network, game="pong", preprocessing="area84-stack4", name="mine")
    return str(save_agent(agent, tmp_path_factory.mktemp("agent") / "mine"))


def test_somebodys_checkpoint_gets_the_standard_figures(capsys, tmp_path, monkeypatch, checkpoint):
    monkeypatch.chdir(tmp_path.parent)  # people type relative folders
    words = [f"AGENT={checkpoint}", "STEPS=80", "MAPS=6", f"OUT={tmp_path.name}"]
    assert main(["explain", *words]) == 0
    said = capsys.readouterr().out
    assert "mine: actions greedy (its network gives Q-values)\n" in said
    assert "mine: largest actor score " in said
    assert "hardly reacts, no blurred spot moves a logit by more than 0.0" in said
    written = {path.name for path in tmp_path.iterdir()}
    assert {f"{name}.{end}" for name in STANDARD for end in ("png", "json", "ipynb")} <= written
    assert {"09_movies.gif", "09_movies.mp4"} <= written
    numbers = json.loads((tmp_path / "06_what_agents_attend_to.json").read_text())
    assert len(numbers["agents"]) == 2
    assert numbers["maps"] == 6


def test_the_main_object_is_that_of_our_own_figures_or_the_first():
    assert [main_object(game) for game in ("pong", "breakout", "spaceinvaders", "freeway")] == [
        *("ball", "ball", "ship", "chicken")
    ]
