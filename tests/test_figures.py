"""make draws what is out of date and nothing else, and never takes a failed run for a figure.

A small checkout with a notebook of its own stands in a temporary folder; make, papermill and the
kernel are the real ones.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

from compendium import figures

ROOT = Path(__file__).parents[1]
PARAMETERS = """\
step: int = 3  # step shown
seconds: float = 0  # of waiting
agent: str = "untrained-pong"  # a row of data/agents
out_dir: str = ""  # folder of the figure"""
DRAWING = """\
import atexit, json, os, time
from pathlib import Path
atexit.register(os.write, 1, b"drew Traceback of a kernel that stops")
stem = Path(out_dir) / Path(out_dir).name
stem.with_suffix(".started").touch()
time.sleep(seconds)
assert step < 100, f"step {step} is too late"
stem.with_suffix(".started").unlink()
stem.with_suffix(".png").write_bytes(bytes([step]))
stem.with_suffix(".json").write_text(json.dumps({"step": step, "third": step / 3}))"""


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A checkout with the notebook 00_toy and the params files `early` and `late`."""
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "lib", tmp_path / "lib", ignore=ignored)
    for name in ("Makefile", "requirements.txt"):
        shutil.copy(ROOT / name, tmp_path)
    params = tmp_path / "notebooks" / "params"
    params.mkdir(parents=True)
    notebook = nbformat.v4.new_notebook(
        metadata={"kernelspec": {"name": "python3", "language": "python", "display_name": "3"}},
        cells=[
            nbformat.v4.new_markdown_cell("# A line rises"),
            nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}),
            nbformat.v4.new_code_cell(DRAWING),
        ],
    )
    nbformat.write(notebook, tmp_path / "notebooks" / "00_toy.ipynb")
    (params / "00_toy--early.yml").write_text("step: 5\n")
    (params / "00_toy--late.yml").write_text("step: 70\n")
    return tmp_path


def command(*arguments: str) -> list[str]:
    return ["make", f"PY={sys.executable}", *arguments]


def environment(checkout: Path) -> dict[str, str]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    return inherited | {"PYTHONPATH": str(checkout / "lib"), "MFLAGS": ""}


def make(checkout: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run make in the checkout with this interpreter, not as a part of a make around the tests."""
    return subprocess.run(
        command(*arguments),
        cwd=checkout,
        env=environment(checkout),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def drawn(run: subprocess.CompletedProcess) -> list[str]:
    """Return the names of the figures that a run of make drew."""
    return sorted(line.split()[1] for line in run.stdout.splitlines() if line.startswith("drew "))


def test_make_draws_what_is_out_of_date_and_nothing_else(checkout):
    (checkout / "notebooks/params/00_toy--other.yml").write_text("agent: pong-unborn\n")
    first = make(checkout, "figures")
    assert first.returncode == 0, first.stderr
    assert drawn(first) == ["00_toy--early", "00_toy--late"], first.stdout + first.stderr
    assert "not drawn: 00_toy--other (agent pong-unborn missing)" in first.stdout
    written = sorted(path.name for path in (checkout / "figures").iterdir())
    stems = ("00_toy--early", "00_toy--late")
    assert written == [f"{stem}.{end}" for stem in stems for end in ("json", "png")]
    assert json.loads((checkout / "figures/00_toy--late.json").read_text())["step"] == 70
    assert "Traceback" not in first.stdout + first.stderr
    said = (checkout / "build/running/00_toy--late.log").read_text()
    assert "Traceback of a kernel that stops" in said
    assert (checkout / "build/00_toy--early.ipynb").is_file()

    again = make(checkout, "figures")
    assert (again.returncode, drawn(again)) == (0, [])

    future = time.time() + 1
    os.utime(checkout / "notebooks/params/00_toy--late.yml", (future, future))
    assert drawn(make(checkout, "figures")) == ["00_toy--late"]

    (checkout / "figures/00_toy--early.json").unlink()
    assert drawn(make(checkout, "figures")) == ["00_toy--early"]

    (checkout / "data/agents").mkdir(parents=True)
    (checkout / "data/agents/pong-unborn.safetensors").touch()
    born = make(checkout, "figures", "ONLY=00_toy--o")
    assert drawn(born) == ["00_toy--other"]
    assert "not drawn" not in born.stdout

    same = make(checkout, "verify", "ONLY=00_toy--e")
    assert same.returncode == 0, same.stderr
    assert "1 of 1 pictures and movies are equal byte for byte" in same.stdout
    path = checkout / "figures/00_toy--early.json"
    path.write_text(path.read_text().replace('"step": 5', '"step": 6'))
    before = path.read_text()
    wrong = make(checkout, "verify", "ONLY=00_toy--e")
    assert wrong.returncode != 0
    assert "wrong: 00_toy--early.json: step: stored 6, now 5" in wrong.stderr
    assert path.read_text() == before

    assert make(checkout, "verify", "ONLY=00_toy--o").returncode == 0
    (checkout / "data/agents/pong-unborn.safetensors").unlink()
    unborn = make(checkout, "verify", "ONLY=00_toy--o")
    assert unborn.returncode != 0
    assert "wrong: 00_toy--other not drawn again: agent pong-unborn missing\n" in unborn.stderr
    assert "0 figures drawn again" in unborn.stdout
    assert not list(checkout.glob("build/verify/*.ipynb"))


def test_a_failed_figure_leaves_nothing_that_make_takes_for_done(checkout):
    params = checkout / "notebooks/params"
    (params / "00_toy--early.yml").write_text("stpe: 5\n")
    (params / "00_toy--late.yml").write_text("step: 170\n")
    for _ in range(2):
        run = make(checkout, "figures")
        assert run.returncode != 0
        assert (
            "atarilens: error: notebooks/params/00_toy--early.yml: 00_toy.ipynb has no parameter "
            "'stpe'; expected one of step, seconds, agent\n"
        ) in run.stderr
        assert (
            "atarilens: error: 00_toy.ipynb, cell 3: AssertionError: step 170 is too late "
            "(the run up to there: build/running/00_toy--late.ipynb)\n"
        ) in run.stderr
        assert "Traceback" not in run.stderr
        assert not list(checkout.glob("build/*.ipynb"))
        assert not list(checkout.glob("figures/*"))


def test_an_interrupted_figure_is_drawn_the_next_time(checkout):
    params = checkout / "notebooks/params/00_toy--early.yml"
    params.write_text("seconds: 60\n")
    run = subprocess.Popen(
        command("figures", "ONLY=00_toy--early"),
        cwd=checkout,
        env=environment(checkout),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    started = checkout / "build/00_toy--early/00_toy--early.started"
    while run.poll() is None and not started.exists():
        time.sleep(0.1)
    os.killpg(run.pid, signal.SIGINT)
    said, _ = run.communicate(timeout=240)
    assert run.returncode != 0
    assert "atarilens: interrupted" in said
    assert "Traceback" not in said
    assert not (checkout / "build/00_toy--early.ipynb").exists()
    assert not list(checkout.glob("figures/*"))
    params.write_text("seconds: 0\n")
    assert drawn(make(checkout, "figures", "ONLY=00_toy--early")) == ["00_toy--early"]
    assert not started.exists()


def test_only_must_name_a_figure(checkout):
    run = make(checkout, "figures", "ONLY=9")
    assert run.returncode != 0
    wanted = "no figure starts with '9'; expected one of 00_toy--early, 00_toy--late\n"
    assert wanted in run.stderr


def test_setting_up_without_the_venv_module_says_what_to_install(checkout):
    """Debian's Python without python3-venv cannot import ensurepip."""
    bare = checkout / "python"
    code = (
        "import runpy, sys; sys.modules['ensurepip'] = None; sys.argv[1:] = ['set-up']; "
        "runpy.run_module('compendium.doctor', run_name='__main__')"
    )
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{code}"\n')
    bare.chmod(0o755)
    shutil.copy(ROOT / "pyproject.toml", checkout)
    run = make(checkout, "PY=.venv/bin/python", f"PYTHON={bare}", "figures")
    assert run.returncode != 0
    assert "missing  no venv module: install it" in run.stdout
    assert "apt-get install python3-venv" in run.stdout
    assert not (checkout / ".venv").exists()


def test_an_interpreter_without_the_packages_is_told_what_to_install(checkout):
    bare = checkout / "python"
    bare.write_text("#!/bin/sh\nexit 1\n")
    bare.chmod(0o755)
    run = make(checkout, f"PY={bare}", "figures")
    assert run.returncode != 0
    assert f"{bare} lacks packages: {bare} -m pip install -r requirements.txt" in run.stdout


def test_an_interpreter_with_the_library_of_another_checkout_draws_nothing(checkout):
    run = subprocess.run(
        command("figures"),
        cwd=checkout,
        env=environment(ROOT),  # as an editable install of another checkout does
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode != 0
    assert f"{sys.executable} has the library of another checkout" in run.stdout
    assert not (checkout / "build").exists()


@pytest.mark.parametrize(
    ("stored", "again", "expected"),
    [
        (1.0, 1.0009, []),
        (1.0, 1.0011, [": stored 1.0, now 1.0011"]),
        (0.0, 9e-7, []),
        (0.0, 2e-6, [": stored 0.0, now 2e-06"]),
        (float("nan"), float("nan"), []),
        (float("nan"), 1.0, [": stored nan, now 1.0"]),
        ({"a": [1, 2]}, {"a": [1, 3]}, ["a[1]: stored 2, now 3"]),
        ({"a": [1, 2]}, {"a": [1]}, ["a: stored [1, 2], now [1]"]),
        ({"a": 1}, {"b": 1}, ["a: only in the stored numbers", "b: only in the new numbers"]),
        ({"a": {"sha": "x"}}, {"a": {"sha": "y"}}, ["a.sha: stored 'x', now 'y'"]),
        (True, 1, []),
        (True, 2, [": stored True, now 2"]),
        (None, 0.0, [": stored None, now 0.0"]),
    ],
)
def test_differences_are_named_beyond_the_tolerance(stored, again, expected):
    assert list(figures.differences(stored, again)) == expected


@pytest.fixture
def params(tmp_path, monkeypatch) -> Path:
    """An empty folder of params files and of data in place of the repository's."""
    for name in ("PARAMS", "AGENTS", "REPLAYS", "SCORES", "LOGS", "BUILD", "FIGURES"):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(figures, name, tmp_path / name)
    monkeypatch.setattr(figures, "ROOT", tmp_path)
    monkeypatch.setenv("ATARILENS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "PARAMS"


def test_verifying_compares_every_file_of_every_figure(params, capsys):
    stored, again = params.parent / "FIGURES", params.parent / "again"
    for figure in ("00_a", "00_a--b"):
        (params / f"{figure}.yml").touch()
        (again / figure).mkdir(parents=True)
        (again / f"{figure}.ipynb").touch()
        for folder in (stored, again / figure):
            (folder / f"{figure}.png").touch()
            (folder / f"{figure}.json").write_text("{}")
    assert figures.compare(again=again, stored=stored) == []
    (stored / "00_a--more.json").write_text("{}")
    (again / "00_a--b" / "00_a--b.gif").touch()
    assert figures.compare(again=again, stored=stored) == [
        "00_a--more.json: in figures/, but no longer drawn",
        "00_a--b.gif: not in figures/; run `make figures` first",
    ]
    (params / "00_a.yml").write_text("agent: pong-unborn\n")  # what is in `again` is stale
    (again / "00_a--b.ipynb").unlink()
    capsys.readouterr()
    assert figures.compare(again=again, stored=stored) == [
        "00_a not drawn again: agent pong-unborn missing",
        "00_a--b not drawn again: no run of it ended",
    ]
    assert capsys.readouterr().out.startswith("0 figures drawn again")


def test_sources_are_what_the_parameters_name(params):
    (params / "00_a.yml").write_text(
        "agent: pong-strong\nrival_agents: [untrained-pong, pong-late]\n"
        "replay: pong-game\nagenda: nothing\nreplays: []\n"
    )
    for name in (
        "AGENTS/pong-strong.yml",
        "AGENTS/pong-strong.safetensors",
        "LOGS/pong-strong.csv",
    ):
        (params.parent / name).touch()
    found, missing = figures.sources(figures.read_parameters("00_a"))
    names = ["pong-strong.safetensors", "pong-strong.yml", "pong-strong.csv"]
    assert [path.name for path in found] == names
    assert missing == ["agent pong-late missing", "replay pong-game missing"]
    (params.parent / "AGENTS/pong-late.yml").touch()
    assert (
        figures.sources(figures.read_parameters("00_a"))[1][0] == "agent pong-late missing"
    )  # a row, not yet fetched
    (params.parent / "cache/agents").mkdir(parents=True)
    (params.parent / "cache/agents/pong-late.tar").touch()
    (params.parent / "REPLAYS/pong-game.npz").touch()
    found, missing = figures.sources(figures.read_parameters("00_a"))
    assert [path.name for path in found[-2:]] == ["pong-late.yml", "pong-game.npz"]
    assert missing == []


def test_an_agent_that_was_measured_here_comes_with_its_scores(params):
    (params / "00_a.yml").write_text("agents: [pong-strong, untrained-pong, pong-other, pong-new]")
    folder = params.parent
    for name, row in (
        ("pong-strong", "score: {mean: 20}"),
        ("pong-other", "score: {mean: 20}\nurl: http://somewhere/"),
        ("pong-new", "score: null"),
    ):
        (folder / f"AGENTS/{name}.yml").write_text(row)
        (folder / f"AGENTS/{name}.safetensors").touch()
    assert figures.not_drawn() == ["00_a (scores of pong-strong missing)"]
    (folder / "SCORES/pong-strong.csv").touch()
    assert figures.not_drawn() == []
    found, _ = figures.sources(figures.read_parameters("00_a"))
    assert folder / "SCORES/pong-strong.csv" in found


def test_a_figure_of_other_runs_follows_their_logs_and_scores(params):
    (params / "00_a.yml").write_text("other_logs: {pong-seed-2: 0.5}\n")
    for folder in ("LOGS", "SCORES"):
        (params.parent / folder / "pong-seed-2.csv").touch()
    found, missing = figures.sources(figures.read_parameters("00_a"))
    assert [path.parent.name for path in found] == ["LOGS", "SCORES"]
    assert missing == []


def test_a_params_file_that_is_not_a_mapping_is_refused(params):
    (params / "00_a.yml").write_text("- 1\n")
    with pytest.raises(ValueError, match=r"^PARAMS/00_a\.yml: expected `name: value` lines, got"):
        figures.read_parameters("00_a")
    (params / "00_a.yml").write_text("a: [1\n")
    with pytest.raises(ValueError, match=r"^PARAMS/00_a\.yml is not YAML: "):
        figures.read_parameters("00_a")
    for wrong in ("/tmp/model.tar", "3"):
        (params / "00_a.yml").write_text(f"watched_agent: {wrong}\n")
        with pytest.raises(ValueError, match="expected the name of agent in data, got '?" + wrong):
            figures.read_parameters("00_a")
    with pytest.raises(FileNotFoundError, match="figure '00_b'; expected one of 00_a"):
        figures.read_parameters("00_b")
