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

from compendium.figures import comparing, made_of, params
from compendium.figures.drawing import NOT_HERE

ROOT = Path(__file__).parents[1]
PARAMETERS = """\
step: int = 3  # step shown
seconds: float = 0  # of waiting
agent: str = ""  # a row of data/agents
out_dir: str = ""  # folder of the figure"""
DRAWING = """\
import ctypes, json, time
from pathlib import Path
from joblib import Parallel, delayed
from atarilens.paths import LOGS, cache
if agent:
    from atarilens import load_agent
    load_agent(agent)
if step == 5:
    import atarilens.measures.intervals
stem = Path(out_dir) / Path(out_dir).name
stem.with_suffix(".started").touch()
time.sleep(seconds)
if step == 13:
    ctypes.string_at(0)  # a crash in C
assert step < 100, f"step {step} is too late"
read = [delayed(Path.read_text)(path) for path in (LOGS / "toy.csv", cache() / "toy.txt")]
words = Parallel(n_jobs=2)(read) if step == 5 else []
stem.with_suffix(".started").unlink()
stem.with_suffix(".png").write_bytes(bytes([step]))
numbers = {"step": step, "third": step / 3, "words": words}
stem.with_suffix(".json").write_text(json.dumps(numbers))"""


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A checkout with the notebook 00_toy and the params files `early` and `late`."""
    root = tmp_path / "checkout"
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "lib", root / "lib", ignore=ignored)
    for name in ("Makefile", "requirements.txt"):
        shutil.copy(ROOT / name, root)
    for folder, name in (("data/logs", "toy.csv"), ("../cache", "toy.txt")):
        (root / folder).mkdir(parents=True)
        (root / folder / name).write_text(f"words of {name}")
    params = root / "notebooks" / "params"
    params.mkdir(parents=True)
    notebook = nbformat.v4.new_notebook(
        metadata={"kernelspec": {"name": "python3", "language": "python", "display_name": "3"}},
        cells=[
            nbformat.v4.new_markdown_cell("# A line rises"),
            nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}),
            nbformat.v4.new_code_cell(DRAWING),
        ],
    )
    nbformat.write(notebook, root / "notebooks" / "00_toy.ipynb")
    (params / "00_toy--early.yml").write_text("step: 5\n")
    (params / "00_toy--late.yml").write_text("step: 70\n")
    return root


def command(*arguments: str) -> list[str]:
    return ["make", f"PY={sys.executable}", *arguments]


def environment(checkout: Path) -> dict[str, str]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    own = {"PYTHONPATH": str(checkout / "lib"), "ATARILENS_CACHE": str(checkout.parent / "cache")}
    return inherited | own


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
    first = make(checkout, "figures")
    assert first.returncode == 0, first.stdout + first.stderr
    assert drawn(first) == ["00_toy--early", "00_toy--late"], first.stdout + first.stderr
    assert first.stdout.endswith("\n2 figures are up to date\n")
    written = sorted(path.name for path in (checkout / "figures").iterdir())
    stems = ("00_toy--early", "00_toy--late")
    assert written == [f"{stem}.{end}" for stem in stems for end in ("json", "png")]
    assert json.loads((checkout / "figures/00_toy--late.json").read_text())["step"] == 70
    assert "Traceback" not in first.stdout + first.stderr
    assert (checkout / "build/00_toy--early.ipynb").is_file()

    again = make(checkout, "figures")
    assert (again.returncode, drawn(again)) == (0, [])

    (checkout / "figures/00_toy--early.json").unlink()
    lost = make(checkout, "figures")
    assert drawn(lost) == ["00_toy--early"]
    assert "drawing 00_toy--early (figures/00_toy--early.json is gone) ...\n" in lost.stdout

    same = make(checkout, "verify", "ONLY=00_toy--e")
    assert same.returncode == 0, same.stderr
    assert "1 of 1 pictures and movies are equal byte for byte" in same.stdout
    path = checkout / "figures/00_toy--early.json"
    path.write_text(path.read_text().replace('"step": 5,', '"step": 6,'))
    before = path.read_text()
    wrong = make(checkout, "verify", "ONLY=00_toy--e")
    assert wrong.returncode != 0
    assert "wrong: 00_toy--early.json: step: stored 6, now 5" in wrong.stderr
    assert path.read_text() == before


def test_what_a_figure_is_made_of_is_recorded_and_nothing_else_counts(checkout, monkeypatch):
    """Each of these changes is made to a drawn figure and taken back."""
    assert make(checkout, "figures").returncode == 0
    monkeypatch.setenv("ATARILENS_CACHE", str(checkout.parent / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(checkout / "lib"))
    ask = "from compendium.figures.made_of import out_of_date as f; print(f('00_toy--early'))"

    def why() -> str:
        command = [sys.executable, "-c", ask]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    def after(name: str, change) -> str:
        path = checkout / name
        before = path.read_bytes()
        path.write_bytes(change(before))
        try:
            return why()
        finally:
            path.write_bytes(before)

    def add(content: bytes) -> bytes:
        return content + b"\n# more\n"

    def in_jupyter(content: bytes) -> bytes:
        notebook = json.loads(content)
        notebook["metadata"]["language_info"] = {"version": "3.99"}
        notebook["cells"][2] |= {"execution_count": 3, "metadata": {"scrolled": True}}
        notebook["cells"][2]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "x"}]
        return json.dumps(notebook, indent=4).encode()

    assert why() == ""
    for name in checkout.rglob("*"):
        os.utime(name, (time.time() + 9, time.time() + 9))
    assert why() == ""
    notebook, row = "notebooks/00_toy.ipynb", "notebooks/params/00_toy--early.yml"
    for name, change in (
        (notebook, in_jupyter),
        (row, add),
        ("lib/atarilens/apps/quiz.py", add),
        ("lib/compendium/benchmark.py", add),
        ("lib/compendium/figures/drawing.py", add),
    ):
        assert after(name, change) == "", name
    for name, change, reason in (
        (notebook, lambda text: text.replace(b"A line rises", b"A line falls"), "its notebook"),
        (row, lambda text: b"step: 6\n", "its params file"),
        ("requirements.txt", add, "requirements.txt"),
        ("lib/atarilens/paths.py", add, "lib/atarilens/paths.py"),
        ("lib/atarilens/measures/intervals.py", add, "lib/atarilens/measures/intervals.py"),
        ("data/logs/toy.csv", add, "data/logs/toy.csv"),
        ("../cache/toy.txt", add, str(checkout.parent / "cache/toy.txt")),
    ):
        assert after(name, change) == f"{reason} changed", name
    assert why() == ""


def test_a_figure_of_an_agent_that_is_not_here_is_listed_and_an_unknown_one_is_an_error(checkout):
    shutil.copytree(ROOT / "data/agents", checkout / "data/agents")
    (checkout / "data/agents/pong-strong.safetensors").unlink()
    params_file = checkout / "notebooks/params/00_toy--early.yml"
    params_file.write_text("agent: pong-strong\n")
    known = make(checkout, "figures")
    assert known.returncode == 0, known.stderr
    assert "not drawn: 00_toy--early (agent pong-strong missing)\n" in known.stdout
    assert known.stdout.endswith("\n1 figures are up to date; not drawn: 00_toy--early\n")
    skipped = make(checkout, "verify")
    assert skipped.returncode == 0, skipped.stderr
    assert "not drawn: 00_toy--early (agent pong-strong missing)\n" in skipped.stdout
    assert "1 figures drawn again" in skipped.stdout

    params_file.write_text("agent: pong-storng\n")
    unknown = make(checkout, "figures")
    assert unknown.returncode != 0
    assert "unknown agent 'pong-storng', did you mean pong-strong" in unknown.stderr
    assert unknown.stdout.endswith("1 figures are up to date; failed: 00_toy--early\n")

    (checkout / "notebooks/params/00_toy--late.yml").unlink()
    (checkout / "notebooks/params/01_gone.yml").touch()
    params_file.write_text("step: 9\n")
    gone = make(checkout, "figures")
    assert gone.returncode != 0
    assert "left over: figures/00_toy--late.png, which no file in notebooks/params" in gone.stdout
    assert "the figure '01_gone' wants notebooks/01_gone.ipynb: not there\n" in gone.stderr
    assert drawn(gone) == ["00_toy--early"]


def test_verifying_says_first_which_parameters_changed(checkout):
    assert make(checkout, "figures", "ONLY=00_toy--late").returncode == 0
    (checkout / "notebooks/params/00_toy--late.yml").write_text("step: 71\n")
    run = make(checkout, "verify", "ONLY=00_toy--late")
    assert run.returncode != 0
    said = "parameters changed since the figure in figures/ was drawn: 00_toy--late: "
    assert run.stdout.startswith(f"{said}step: stored 70, now 71\n")


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
        assert not list(checkout.glob("build/*.ipynb")) + list(checkout.glob("build/*.json"))
        assert not list(checkout.glob("figures/*"))


def test_a_kernel_that_dies_is_an_error_of_one_line(checkout):
    (checkout / "notebooks/params/00_toy--early.yml").write_text("step: 13\n")
    run = make(checkout, "figures", "ONLY=00_toy--early")
    assert run.returncode != 0
    assert "atarilens: error: 00_toy.ipynb: the kernel died (out of memory?)\n" in run.stderr
    assert "Traceback" not in run.stdout + run.stderr
    assert not list(checkout.glob("figures/00_toy--early*"))


def test_papermill_is_loaded_without_the_grammar_of_addresses():
    """Building that grammar takes longer than all the rest of papermill, for every figure."""
    code = "import sys; from compendium.figures.params import check_parameters; "
    code += "check_parameters('00_start_here'); "
    code += "print('papermill' in sys.modules, 'lark' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.stdout == "True False\n", run.stderr


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
        # A test that runs in the background may itself ignore the signal.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
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


def test_only_takes_the_starts_of_several_names():
    some = params.list_figures("14 08")
    assert some == [name for name in params.list_figures() if name[:2] in ("08", "14")]
    assert {name[:2] for name in some} == {"08", "14"}


def test_only_must_name_a_figure(checkout):
    run = make(checkout, "figures", "ONLY=00 9")
    assert run.returncode != 0
    wanted = "no figure starts with '9'; expected the start of a name in notebooks/params, "
    wanted += "00_toy--early to 00_toy--late\n"
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
        ([1e-5, 100.0], [9e-2, 100.0], []),
        ([1e-5, 100.0], [0.2, 100.0], ["[0]: stored 1e-05, now 0.2"]),
        ([[1e-5], [100.0]], [[2e-5], [100.0]], ["[0][0]: stored 1e-05, now 2e-05"]),
        ({"a": [1, 2]}, {"a": [1]}, ["a: stored [1, 2], now [1]"]),
        ({"a": 1}, {"b": 1}, ["a: only in the stored numbers", "b: only in the new numbers"]),
        ({"a": {"sha": "x"}}, {"a": {"sha": "y"}}, ["a.sha: stored 'x', now 'y'"]),
        (True, 1, []),
        (True, 2, [": stored True, now 2"]),
        (None, 0.0, [": stored None, now 0.0"]),
    ],
)
def test_differences_are_named_beyond_the_tolerance(stored, again, expected):
    assert list(comparing.differences(stored, again)) == expected


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """An empty folder of params files in place of the repository's."""
    monkeypatch.setattr(params, "PARAMS", tmp_path / "params")
    monkeypatch.setattr(params, "ROOT", tmp_path)
    (tmp_path / "params").mkdir()
    return tmp_path / "params"


def test_verifying_compares_every_file_of_every_figure(folder, capsys):
    stored, again = folder.parent / "stored", folder.parent / "again"
    for figure in ("00_a", "00_a--b"):
        (folder / f"{figure}.yml").touch()
        (again / figure).mkdir(parents=True)
        stored.mkdir(exist_ok=True)
        for each in (stored, again / figure):
            (each / f"{figure}.png").touch()
            (each / f"{figure}.json").write_text("{}")
    drawn_again = {"00_a": 0, "00_a--b": 0}
    assert comparing.compare(drawn_again, again=again, stored=stored) == []
    (stored / "00_a--more.json").write_text("{}")
    (stored / "01_gone.png").touch()
    (again / "00_a--b" / "00_a--b.gif").touch()
    assert comparing.compare(drawn_again, again=again, stored=stored) == [
        "00_a--more.json: in figures/, but no longer drawn",
        "00_a--b.gif: not in figures/; run `make figures` first",
        "01_gone.png: in figures/, but no params file makes it",
    ]
    capsys.readouterr()  # what is left in `again` by an earlier run does not count
    statuses = {"00_a": NOT_HERE, "00_a--b": 2}
    assert comparing.compare(statuses, "00", again, stored) == ["00_a--b not drawn again"]
    assert capsys.readouterr().out.startswith("0 figures drawn again")


def test_the_first_use_of_a_file_counts(tmp_path):
    log = tmp_path / "used"
    log.write_text(f"aa {made_of.ROOT}/data/x\nbb /elsewhere/a b\ncc {made_of.ROOT}/data/x\n")
    assert made_of.used(log) == {"/elsewhere/a b": "bb", "data/x": "aa"}


def test_a_params_file_that_is_not_a_mapping_is_refused(folder):
    (folder / "00_a.yml").write_text("- 1\n")
    with pytest.raises(ValueError, match=r"^params/00_a\.yml: expected `name: value` lines, got"):
        params.read_parameters("00_a")
    (folder / "00_a.yml").write_text("a: [1\n")
    with pytest.raises(ValueError, match=r"^params/00_a\.yml is not YAML: "):
        params.read_parameters("00_a")
    with pytest.raises(FileNotFoundError, match="figure '00_b'; expected one of 00_a"):
        params.read_parameters("00_b")
