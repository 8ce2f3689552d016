"""What README.md and the pages beside it say is so: trees, commands, links, code, numbers."""

import ast
import csv
import inspect
import json
import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from PIL import Image

import atarilens
from atarilens.agents.foreign import FAMILIES
from atarilens.paths import AGENTS, FIGURES, LOGS, NOTEBOOKS, SCORES
from atarilens.play.scores import read_scores
from compendium import doctor
from compendium.figures import comparing
from compendium.pages import readmes

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()
WORDS = " ".join(TEXT.split())
OF_AGENTS = (AGENTS / "README.md").read_text()
PAGES = ["README.md", "data/agents/README.md", "data/benchmarks/README.md", "figures/README.md"]
PAGES += ["notebooks/README.md"]
TARGETS = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.M))


def test_it_is_read_in_a_minute():
    assert 6_000 <= len(TEXT.encode()) <= 8_000


@pytest.mark.parametrize("path", readmes.pages(), ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_generated_is_as_it_would_be_generated_now(path):
    assert path.read_text() == readmes.pages()[path], "run: python -m compendium.pages"


def test_everything_at_the_top_is_in_the_tree():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: which files belong to the repository is not known")
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    tops = {name.split("/")[0] for name in listed.splitlines()}
    tree = re.search(r"## What is where\n\n```\n(.*?)```", TEXT, re.S)[1]
    named = {word.rstrip(",").rstrip("/").split("/")[0] for word in tree.split()}
    assert tops - named == {".gitignore", "README.md"}
    for word in re.findall(r"\S+/(?=\s)", tree):
        assert (ROOT / word).is_dir() or word in ("params/:", "build/", ".venv/"), word


@pytest.mark.parametrize("page", [*PAGES, "CONTRIBUTING.md"])
def test_every_command_is_a_target(page):
    text = (ROOT / page).read_text()
    assert set(re.findall(r"(?:^ {4}|`)make ([a-z]+)", text, re.M)) <= TARGETS


def test_every_target_does_what_help_says():
    own = {key: x for key, x in os.environ.items() if "MAKE" not in key}  # this may run in make
    listed = subprocess.run(
        ["make"], cwd=ROOT, capture_output=True, text=True, check=True, env=own
    ).stdout.splitlines()
    assert {line.split()[0] for line in listed} == TARGETS
    wanted = "figures test lab app html movie evaluate explain train imitate ship verify bench"
    assert set(wanted.split()) <= TARGETS


@pytest.mark.parametrize("page", PAGES)
def test_links_and_pictures_lead_somewhere(page):
    text = (ROOT / page).read_text()
    targets = re.findall(r"\]\((?!https://)([^)]+)\)", text) + re.findall(r'src="([^"]+)"', text)
    for target in targets:
        assert (ROOT / page).parent.joinpath(target.split("#")[0]).is_file(), target


def test_every_notebook_stands_in_its_chapter_with_its_claim():
    text = (NOTEBOOKS / "README.md").read_text()
    named = re.findall(r"^\| \[(\d\d)\]\((\w+)\.ipynb\) (.+?) \|", text, re.M)
    paths = sorted(NOTEBOOKS.glob("*.ipynb"))
    assert [name for _, name, _ in named] == [path.stem for path in paths]
    for (number, name, claim), path in zip(named, paths, strict=True):
        assert name.startswith(f"{number}_")
        first = "".join(json.loads(path.read_text())["cells"][0]["source"]).splitlines()[0]
        assert first == f"# {claim}"
    for part in text.split("\n## ")[1:]:
        assert set(re.findall(r"^\| \[(\d)", part, re.M)) == {part[0]}


def test_readme_leads_to_every_chapter():
    text = (NOTEBOOKS / "README.md").read_text()
    headings = re.findall(r"^## (.*)$", text, re.M)
    anchors = [heading.replace(":", "").replace(" ", "-") for heading in headings]
    assert re.findall(r"^\| \[.*?\]\(notebooks/README.md#([\w-]+)\)", TEXT, re.M) == anchors
    numbers = re.findall(r"^\| \[(\d)x: .*?\) \((\d+)\) \|", TEXT, re.M)
    found = [path.name[0] for path in NOTEBOOKS.glob("*.ipynb")]
    assert numbers == [(digit, str(found.count(digit))) for digit in sorted(set(found))]


def test_the_code_runs_as_pasted_and_draws_the_picture(tmp_path):
    run = subprocess.run([sys.executable, "-c", readmes.snippet()], cwd=tmp_path, check=False)
    assert run.returncode == 0
    with (
        Image.open(tmp_path / "breakout.png") as drawn,
        Image.open(FIGURES / "README.png") as shown,
    ):
        assert drawn.size == shown.size
        assert shown.info["code"] == readmes.snippet(), "run: python -m compendium.pages"


def test_the_code_calls_what_exists():
    for node in ast.walk(ast.parse(readmes.snippet())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            function = getattr(atarilens, node.func.id, None)
            if function:
                signature = inspect.signature(function)
                signature.bind(*node.args, **{k.arg: k.value for k in node.keywords})


def test_needs_are_those_of_the_doctor_and_the_package():
    assert f"{doctor.MEMORY_GB} GB of memory" in WORDS
    oldest = ".".join(map(str, doctor.OLDEST_PYTHON))
    assert f"Python {oldest} to 3.13" in WORDS
    assert f'requires-python = ">={oldest}"' in (ROOT / "pyproject.toml").read_text()
    script = (ROOT / ".ci" / "run").read_text()
    assert f"for version in {oldest}.0 3.13;" in script
    assert "MACOSX_DEPLOYMENT_TARGET=14.0" in script
    assert "Linux or macOS 14" in WORDS


def test_the_formats_are_those_that_are_read():
    origins = {family.origin for family in FAMILIES.values()}
    for name in origins - {"atarilens"}:
        assert name.split("/")[-1].lower() in TEXT.lower()


def test_the_tolerance_is_the_one_used():
    assert f"(relative tolerance {comparing.RELATIVE_TOLERANCE:g})" in WORDS


# --- data/agents/README.md


def test_the_table_of_agents_names_every_shipped_agent_and_its_score():
    for path in AGENTS.glob("*.safetensors"):
        row = yaml.safe_load(path.with_suffix(".yml").read_text())
        line = re.search(rf"^\| {path.stem} \|.*$", OF_AGENTS, re.M)[0]
        assert f"| {row['score']['mean']:.1f} (" in line
        assert f"| {row['training_steps']:,} |" in line
        assert f"`{' '.join(row['command'].split())}`" in OF_AGENTS


def test_games_of_breakout_repeat_themselves_as_told():
    def different(agent: str, greedy: bool) -> int:
        own = yaml.safe_load((AGENTS / f"{agent}.yml").read_text())["settings"]
        same = {"repeat_action_probability": 0.0, "hint": own["hint"], "greedy": greedy}
        rows = [row for row in read_scores(SCORES / f"{agent}.csv") if same.items() <= row.items()]
        assert len(rows) == 30
        return len({(row["return"], row["steps"]) for row in rows})

    words = " ".join(OF_AGENTS.split())
    assert different("breakout-strong", True) == 4
    assert "30 greedy games of `breakout-strong` are 4 different ones" in words
    assert different("breakout-overfit", False) == 4
    assert "`breakout-overfit` copies such games: of its 30 sampled games 4 differ" in words


def test_pong_plays_one_rally_as_often_as_told():
    found = json.loads((ROOT / "figures/01_strong_agents--pong.json").read_text())["found"]
    repeats = sum(b - a == 78 for a, b in pairwise(found))
    told = f"its {len(found)} kill shots in four games {repeats} come 78 steps after"
    assert told in " ".join(OF_AGENTS.split())


def test_the_run_of_pong_stopped_when_told():
    last = list(csv.DictReader((LOGS / "pong-strong.csv").read_text().splitlines()))[-1]
    assert f"stopped at {int(last['step']):,} of its 3 million steps" in OF_AGENTS


def test_the_other_seeds_of_pong_scored_what_is_told():
    for name in ("pong-seed-2", "pong-seed-3"):
        rows = [row for row in read_scores(SCORES / f"{name}.csv") if not row["greedy"]]
        plain = [row["return"] for row in rows if not row["repeat_action_probability"]]
        assert re.search(rf"\b{sum(plain) / len(plain):.1f}\b", OF_AGENTS)


@pytest.mark.parametrize(
    ("run", "hours"),
    [
        ("breakout-recipe-3-epochs", 20 / 60),
        ("breakout-recipe-1-epoch", 20 / 60),
        ("spaceinvaders-recipe-1-epoch", 1),
        ("spaceinvaders-recipe-3-epochs", 1),
    ],
)
def test_the_recipes_came_as_far_as_told(run, hours):
    last = list(csv.DictReader((LOGS / f"{run}.csv").read_text().splitlines()))[-1]
    assert float(last["hours"]) == pytest.approx(hours, rel=0.05)
    words = " ".join(OF_AGENTS.split())
    steps, mean = int(last["step"]), float(last["mean_return"])
    assert re.search(rf"to (a running mean of )?{mean:.1f} in {steps:,}\b", words)
