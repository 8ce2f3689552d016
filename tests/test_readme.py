"""What the README says is so: its tree, its commands, its links, its code and its numbers."""

import ast
import csv
import inspect
import json
import os
import re
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

import atarilens
from atarilens.paths import AGENTS, LOGS, NOTEBOOKS, SCORES
from atarilens.play.scores import read_scores
from compendium.figures.comparing import RELATIVE_TOLERANCE

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()
TREE = re.search(r"```\n(Makefile .*?)```", TEXT, re.S)[1].splitlines()
TARGETS = set(re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(), re.M))


@pytest.mark.parametrize("line", TREE, ids=lambda line: line.split()[0])
def test_the_tree_names_what_is_there(line):
    path = line.split()[0]
    assert (ROOT / path).is_dir() if path.endswith("/") else (ROOT / path).is_file()


def test_everything_at_the_top_is_in_the_tree():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: which files belong to the repository is not known")
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    tops = {name.split("/")[0] for name in listed.splitlines()}
    named = {line.split("/")[0].split()[0] for line in TREE}
    assert tops - named - {".gitignore"} == set()


def test_every_command_is_a_target():
    commands = re.findall(r"(?:^ {4}|`)make ([a-z]+)", TEXT, re.M)
    assert len(commands) > 8
    assert set(commands) <= TARGETS


def test_every_target_does_what_help_says():
    own = {key: x for key, x in os.environ.items() if "MAKE" not in key}  # this may run in make
    listed = subprocess.run(
        ["make"], cwd=ROOT, capture_output=True, text=True, check=True, env=own
    ).stdout.splitlines()
    assert {line.split()[0] for line in listed} == TARGETS
    wanted = "figures test lab app html movie evaluate explain train imitate ship verify bench"
    assert set(wanted.split()) <= TARGETS


@pytest.mark.parametrize("target", re.findall(r"\]\((?!https://)([^)]+)\)", TEXT))
def test_links_lead_somewhere(target):
    assert (ROOT / target).is_file()


def test_every_notebook_is_in_the_table():
    named = re.findall(r"^\| \[(\w+)\]\(notebooks/(\w+)\.ipynb\)", TEXT, re.M)
    assert all(name == path for name, path in named)
    assert [name for name, _ in named] == sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))


def held(entry) -> list[bool]:
    """Return of every comparison in the numbers of a figure whether the claim held."""
    if not isinstance(entry, dict):
        return []
    if "holds" in entry:
        return [entry["holds"]]
    return [holds for inner in entry.values() for holds in held(inner)]


ROWS = "\n".join(line for line in TEXT.splitlines() if line.startswith("| ["))


@pytest.mark.parametrize("figure", re.findall(r"\(figures/([^)]+)\.png\)", ROWS))
def test_the_table_tells_how_many_comparisons_held(figure):
    found = held(json.loads((ROOT / f"figures/{figure}.json").read_text()))
    told = re.search(rf"\(figures/{figure}\.png\) ?([^,|]*)", ROWS)[1].strip()
    assert told == (f"{sum(found)}/{len(found)}" if found else "")


def test_the_code_calls_what_exists():
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.S)
    assert blocks
    for block in blocks:
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom):
                assert node.module == "atarilens"
                assert all(hasattr(atarilens, alias.name) for alias in node.names)
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                signature = inspect.signature(getattr(atarilens, node.func.id))
                signature.bind(*node.args, **{k.arg: k.value for k in node.keywords})


def agent_line(name: str) -> str:
    """Return the line that an agent has in the table."""
    row = yaml.safe_load((AGENTS / f"{name}.yml").read_text())
    score = row["score"]
    low, high = score["interval"]
    cells = [
        *(name, f"{score['mean']:.1f} ({low:.1f} to {high:.1f})"),
        *(f"{score[kind]['mean']:.1f}" for kind in ("greedy", "sticky")),
        *(f"{row['training_steps']:,}", f"{row['hours']:.1f}", f"{row['seed']}"),
    ]
    return f"| {' | '.join(cells)} |"


def test_the_table_of_agents_is_that_of_the_rows():
    table = TEXT.split("## Agents\n")[1].split("\n## ")[0]
    shown = re.findall(r"^\| [a-z]+-[a-z]+ \|.*$", table, re.M)
    ours = [path.stem for path in AGENTS.glob("*.safetensors")]
    assert sorted(shown) == sorted(map(agent_line, ours))


def test_the_commands_of_the_agents_are_those_of_the_rows():
    rows = [yaml.safe_load(path.read_text()) for path in AGENTS.glob("*.yml")]
    ours = [row for row in rows if "url" not in row]
    assert {row["command"] for row in ours} <= set(re.findall(r"^ {4}(make .+)$", TEXT, re.M))
    assert {row["machine"] for row in ours} == set(re.findall(r"on `([\w-]+)`", TEXT))


def test_the_number_of_different_greedy_games_of_breakout_is_the_scores():
    rows = read_scores(SCORES / "breakout-strong.csv")
    games = {(row["return"], row["steps"]) for row in rows if row["greedy"]}
    (told,) = re.findall(r"greedy games of `breakout-strong` are (\d+) different", TEXT)
    assert len(games) == int(told)


def test_pong_plays_one_rally_as_often_as_told():
    found = json.loads((ROOT / "figures/01_strong_agents--pong.json").read_text())["found"]
    repeats = sum(b - a == 78 for a, b in pairwise(found))
    assert f"its {len(found)} kill shots in four games {repeats} come 78\n  steps after" in TEXT


@pytest.mark.parametrize("recipe", ["3-epochs", "1-epoch"])
def test_the_recipes_came_as_far_as_told(recipe):
    rows = list(csv.DictReader((LOGS / f"breakout-recipe-{recipe}.csv").read_text().splitlines()))
    assert float(rows[-1]["hours"]) == pytest.approx(20 / 60, rel=0.01)
    words = " ".join(TEXT.split())
    steps, mean = int(rows[-1]["step"]), float(rows[-1]["mean_return"])
    assert re.search(rf"{mean:.1f} in {steps:,} steps|{steps:,} steps, to {mean:.1f},", words)


@pytest.mark.parametrize("recipe", ["3-epochs", "1-epoch"])
def test_the_late_recipes_came_as_far_as_told(recipe):
    path = LOGS / f"spaceinvaders-recipe-{recipe}.csv"
    last = list(csv.DictReader(path.read_text().splitlines()))[-1]
    mean, steps = float(last["mean_return"]), int(last["step"])
    words = " ".join(TEXT.split())
    assert re.search(rf"{mean:.1f} in {steps:,} steps|to {mean:.1f} in {steps:,}", words)


def test_the_tolerance_is_the_one_used():
    assert f"relative tolerance\n  {RELATIVE_TOLERANCE:g}" in TEXT


def test_speed_is_what_the_benchmark_measured():
    name = re.search(r"`data/benchmarks/(.+)\.json`", TEXT)[1]
    told = json.loads((ROOT / "data" / "benchmarks" / f"{name}.json").read_text())
    alone, both = told["1 thread"], told["2 threads"]
    rows = {agent for agent in alone if "ms_per_frame" in alone[agent]}
    assert len(rows) == 2
    for agent in rows:
        one, two = (run[agent]["ms_per_frame"] for run in (alone, both))
        faster = alone[agent]["times_faster_than"]
        shown = [f"{one[key]:.0f}" for key in ("original", "captum occlusion", "torch")]
        shown += [f"{one['fast']:.1f}", f"{two['fast']:.1f}", f"{two['fast stride 1']:.0f}"]
        shown += [f"{faster['original']:.0f} x, {faster['captum occlusion']:.0f} x"]
        assert f"| {agent} | {' | '.join(shown)} |" in TEXT
    for rate in told["agent_steps_per_second"].values():
        assert re.search(rf"\b{rate:.0f}\b", TEXT)
