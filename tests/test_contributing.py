"""Every recipe of CONTRIBUTING.md works: it is carried out in a temporary copy of the library."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
SECTIONS = dict(
    part.split("\n", 1) for part in (ROOT / "CONTRIBUTING.md").read_text().split("\n## ")[1:]
)
RECIPES = ["A figure", "A game", "A network", "A map type", "An agent"]


def code(section: str) -> str:
    return re.search(r"```\w+\n(.*?)```", SECTIONS[section], re.S)[1]


@pytest.fixture
def copy(tmp_path) -> Path:
    """A copy of the library, the notebooks and what make needs; no agents."""
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", ".ipynb_checkpoints")
    for folder in ("lib", "notebooks"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignored)
    for name in ("Makefile", "requirements.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "data" / "agents").mkdir(parents=True)
    return tmp_path


def follow(section: str, copy: Path) -> None:
    """Add the `+` lines: after the line shown above them, else imports on top, the rest below."""
    for name, *lines in (
        b.splitlines() for b in re.split(r"^# (?=\S+/)", code(section), flags=re.M)[1:]
    ):
        path = copy / name
        text = path.read_text() if path.is_file() else ""
        shown = ""
        for line in lines:
            if line.startswith(" "):
                shown = f"{line[1:]}\n"
                assert text.count(shown) == 1, f"{name} has no line {line!r}"
            elif shown:
                text = text.replace(shown, f"{shown}{line[1:]}\n")
                shown += f"{line[1:]}\n"
            elif path.is_file() and line.startswith("+from "):
                text = re.sub(
                    r"^from atarilens", f"{line[1:]}\nfrom atarilens", text, count=1, flags=re.M
                )
            else:
                text += f"{line[1:]}\n"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def run(copy: Path, *command: str) -> str:
    own = {key: x for key, x in os.environ.items() if "MAKE" not in key and key != "MFLAGS"}
    done = subprocess.run(
        command,
        cwd=copy,
        env=own | {"PYTHONPATH": str(copy / "lib")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def python(copy: Path, source: str) -> str:
    return run(copy, sys.executable, "-c", source)


@pytest.mark.parametrize("section", RECIPES)
def test_a_recipe_is_short(section):
    assert (
        sum(line.startswith(("+", "from", "agent", "save")) for line in code(section).splitlines())
        < 10
    )


def test_a_figure_is_one_file(copy):
    follow("A figure", copy)
    shutil.rmtree(copy / "data")
    (copy / "data").symlink_to(ROOT / "data")
    only = re.search(r"`make figures (ONLY=\S+)`", SECTIONS["A figure"])[1]
    run(copy, "make", f"PY={sys.executable}", "figures", only)
    stem = copy / "figures" / only.removeprefix("ONLY=")
    assert stem.with_suffix(".png").stat().st_size > 10_000
    assert "pong-late" in stem.with_suffix(".json").read_text()


def test_a_game_is_one_record(copy):
    follow("A game", copy)
    found = python(
        copy,
        """
import numpy as np
from atarilens import make_env
from atarilens.games import object_boxes

env = make_env("boxing")
env.reset(seed=0)
for action in [3, 5] * 20:
    screen, *_, info = env.step(action)
(top, bottom, left, right), = object_boxes("boxing", info["ram"])["white"]
rows, columns = np.nonzero((screen[36:178] == 214).all(-1))
inside = (rows + 36 >= top) & (rows + 36 < bottom) & (columns >= left) & (columns < right)
print(inside.mean())
""",
    )
    assert float(found) > 0.7  # of the white pixels; arms reach out of the box


def test_a_network_is_one_class_and_one_entry(copy):
    follow("A network", copy)
    found = python(
        copy,
        """
from atarilens import load_agent, rollout, save_agent
from atarilens.agents import agent_from_module, build_network

agent = agent_from_module(build_network("linear", 6), game="pong", preprocessing="luma80")
again = load_agent(save_agent(agent, "data/agents/pong-linear"))
print(again.facts["architecture"], len(rollout(again, max_steps=3)))
""",
    )
    assert found.split() == ["linear", "3"]


def test_a_map_type_is_one_function_and_one_entry(copy):
    follow("A map type", copy)
    found = python(
        copy,
        """
import numpy as np
from atarilens.saliency import saliency_maps

observation = np.random.default_rng(0).random((1, 8, 8), np.float32)
maps = saliency_maps("brightness", lambda o, m: (o.flatten(1), None, m), observation)
print(np.array_equal(maps.actor, observation[0]))
""",
    )
    assert found.split() == ["True"]


def test_an_agent_is_two_files(copy, untrained_agent):
    torch.save(untrained_agent.network.state_dict(), copy / "model.pt")
    python(copy, code("An agent"))
    assert (copy / "data" / "agents" / "pong-mine.yml").is_file()
    found = python(
        copy,
        "from atarilens import list_agents, load_agent\n"
        "print('pong-mine' in list_agents(), load_agent('pong-mine').game)\n"
        "from compendium.pages import readmes\nprint(readmes.agents_table().count('pong-mine'))",
    )
    assert found.split() == ["True", "pong", "1"]
