"""The notebooks keep their conventions, fit their params files, and run from top to bottom."""

import json
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import papermill
import pytest
import yaml

from atarilens import list_agents
from atarilens.paths import AGENTS, FIGURES, LOGS, NOTEBOOKS, REPLAYS
from compendium.figures.params import check_parameters, notebook_of, read_parameters

PATHS = sorted(NOTEBOOKS.glob("*.ipynb"))
PARAMS = sorted(NOTEBOOKS.glob("params/*.yml"))
FIGURE_NOTEBOOKS = [path for path in PATHS if path.name.startswith("0")]
# What makes a run small, for the parameters that a notebook has.
SMALL = {"num_maps": 6, "max_moments": 4, "max_steps": 120, "stride": 10, "length": 6}
SMALL |= {"search_steps": 4, "count": 2, "num_screens": 20, "num_real": 30, "num_held_out": 8}
SMALL |= {"num_games": 2}
MAX_LINES = 20  # of a code cell
FORBIDDEN = (
    r"sys\.path|filterwarnings|simplefilter|%pip|!pip|^\s*!|\.\./|https?://(?!\S*(arxiv|doi))"
)

every_notebook = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
every_figure_notebook = pytest.mark.parametrize(
    "path", FIGURE_NOTEBOOKS, ids=lambda path: path.stem
)
every_params_file = pytest.mark.parametrize("path", PARAMS, ids=lambda path: path.stem)


def cells(path: Path, kind: str) -> list:
    return [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == kind]


def parameters(path: Path) -> dict:
    """Return the parameters of a notebook: name -> what papermill knows about each."""
    return papermill.inspect_notebook(str(path))


@every_notebook
def test_a_notebook_is_valid_named_and_stripped(path):
    notebook = nbformat.read(path, 4)
    nbformat.validate(notebook)
    assert re.fullmatch(r"\d\d_[a-z0-9_]+", path.stem)
    assert notebook.metadata.kernelspec.name == "python3"
    assert notebook.metadata.kernelspec.language == "python"
    assert "version" not in notebook.metadata.get("language_info", {})
    for cell in cells(path, "code"):
        assert not cell.outputs
        assert cell.execution_count is None


@every_notebook
def test_a_notebook_opens_with_one_sentence_that_it_claims(path):
    first, *rest = nbformat.read(path, 4).cells
    title, *text = first.source.splitlines()
    assert first.cell_type == "markdown"
    assert re.match(r"# [A-Z]\S* \S+ \S+", title)  # a sentence, not a name
    assert any(line.strip() for line in text)
    assert not any(re.match(r"# ", cell.source) for cell in rest if cell.cell_type == "markdown")


@every_figure_notebook
def test_a_figure_notebook_states_its_claim_and_how_to_read_the_figure(path):
    text = "\n".join(cell.source for cell in cells(path, "markdown"))
    for words in ("**Claim.**", "## How to read this figure", "## What would change our mind"):
        assert words in text
    for cell in cells(path, "code"):
        assert not re.search(r"^\s*(def|class) ", cell.source, re.M), "belongs in the library"


@every_notebook
def test_code_cells_are_short_and_touch_nothing_outside(path):
    for cell in cells(path, "code"):
        assert len(cell.source.splitlines()) <= MAX_LINES
        assert not re.search(FORBIDDEN, cell.source, re.M), cell.source


@every_figure_notebook
def test_parameters_are_literals_with_their_meaning(path):
    tagged = [cell for cell in cells(path, "code") if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    for line in tagged[0].source.splitlines():
        assert re.fullmatch(r"\w+: \w+ = .+  # \S.*|    .*|[\])}].*", line), line
    found = parameters(path)
    assert found["out_dir"]["default"] == '""'


@every_params_file
def test_a_params_file_names_only_what_its_notebook_knows(path):
    given = check_parameters(path.stem)
    notebook = notebook_of(path.stem)
    assert re.fullmatch(rf"{notebook.stem}(--[a-z0-9_-]+)?", path.stem)
    assert set(given) <= set(parameters(notebook))


@every_params_file
def test_a_value_has_the_type_of_the_default(path):
    known = parameters(notebook_of(path.stem))
    for name, value in read_parameters(path.stem).items():
        default = yaml.safe_load(known[name]["default"].replace("None", "null"))
        same = type(value) is type(default) or default is None
        assert same or (isinstance(default, float) and isinstance(value, int)), name


@every_figure_notebook
def test_every_figure_notebook_has_its_params_files(path):
    stems = [params.stem for params in PARAMS]
    assert any(stem.split("--")[0] == path.stem for stem in stems)


def untrained(agent: str) -> str:
    return f"untrained-{agent.removeprefix('untrained-').split('-')[0]}"


def listed(default) -> list[str]:
    return [default] if isinstance(default, str) else list(default)


def is_here(kind: str, name: str) -> bool:
    """Tell whether an agent, a replay or a log can be used in a test: no weights are fetched."""
    if not name:  # the notebook chooses
        return True
    if kind == "agent":
        own = (AGENTS / f"{name}.safetensors").is_file() or name.startswith("untrained-")
        return name in list_agents() and own
    folder = {"replay": REPLAYS, "log": LOGS}[kind]
    return any(folder.glob(f"{name}.*"))


def stand_ins(path: Path) -> dict:
    """Return what a small run puts in place of agents and replays that are not there (yet)."""
    values = {}
    for name, known in parameters(path).items():
        default = yaml.safe_load(known["default"])
        kind = re.search(r"(agent|replay|log)s?$", name)
        if not kind or all(is_here(kind[1], one) for one in listed(default)):
            continue
        if name == "watched_agent":
            pytest.skip(f"agent {default} missing")
        if re.search(r"(replay|log)s?$", name):
            values[name] = type(default)()
        elif isinstance(default, str):
            values[name] = untrained(default)
        else:
            values[name] = [untrained(agent) for agent in default]
    return values


@every_notebook
def test_a_notebook_runs_small_from_top_to_bottom(path, tmp_path):
    """nbval runs each cell and compares the outputs of cells tagged `nbval-check-output`."""
    small = {name: value for name, value in SMALL.items() if name in parameters(path)}
    small |= stand_ins(path)
    if "out_dir" in parameters(path):
        small["out_dir"] = str(tmp_path / "figure")
    prepared = tmp_path / path.name
    papermill.execute_notebook(
        str(path), str(prepared), small, prepare_only=True, kernel_name="python3"
    )
    nbval = ["-x", "--color=no", "--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=120"]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *nbval, prepared.name],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-3000:]
    if path in FIGURE_NOTEBOOKS:
        written = sorted(file.name for file in (tmp_path / "figure").iterdir())
        assert {"figure.json", "figure.png"} <= set(written)
        assert all(name.startswith("figure") for name in written)


def test_before_the_event_is_not_at_the_event():
    """Two ways: what the claim compares, and the drawn courses, averaged over the same lags."""
    told = json.loads((FIGURES / "04_memory.json").read_text())
    for claim, tests in told["tests"].items():
        agent, stage, measure = claim.split(", ")
        for control, test in tests.items():
            for kind, key in (("agent", "mean"), (control, "control")):
                lags, means = np.array(told["courses"][f"{agent}, {measure}, {kind}"]).T
                chosen = (lags >= -5) & (lags < 0) if stage == "before" else lags == 0
                assert np.isclose(test[key], means[chosen].mean(), rtol=2e-3), (claim, kind)
