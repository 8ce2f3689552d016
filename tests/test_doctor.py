"""The doctor says what is there and what is missing, on any Python, with nothing installed."""

import ast
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from atarilens.games.objects import GAMES
from compendium import doctor

ROOT = Path(__file__).parents[1]


def old_python(minor: int) -> str | None:
    """Find an interpreter of Python 3.<minor> that starts (a pyenv shim may not)."""
    homes = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob("versions/*/bin")
    for folder in [*os.environ["PATH"].split(os.pathsep), *map(str, homes)]:
        python = shutil.which(f"python3.{minor}", path=folder)
        if python and subprocess.run([python, "-c", ""], capture_output=True).returncode == 0:
            return python
    return None


def test_it_finds_the_parts_of_this_machine():
    assert doctor.check_python()[1] is None
    assert doctor.check_packages() == ("packages as in requirements.txt", None)
    assert doctor.check_emulator() == (f"emulator with {', '.join(GAMES)}", None)
    assert doctor.check_movies() == ("ffmpeg for movies", None)


def test_a_bare_python_is_told_what_to_do():
    """`-S`: no site-packages, so none of the packages can be imported."""
    run = subprocess.run(
        [sys.executable, "-S", "-m", "compendium.doctor"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": "lib"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert run.stderr == ""
    assert "missing  no packages: make test sets up .venv" in run.stdout
    assert "missing  the emulator does not start: No module named" in run.stdout
    assert "missing  no ffmpeg: No module named" in run.stdout


def test_an_old_python_a_full_disk_and_little_memory_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    assert doctor.check_python() == (
        "Python 3.9.2",
        "atarilens needs 3.11 or newer; name one: make PYTHON=python3.11",
    )
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: usage(9e9, 8e9, 1e9))
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    assert doctor.check_disk() == ("1 GB of disk free", "4 GB are needed")
    monkeypatch.setattr(doctor.os, "sysconf", {"SC_PAGE_SIZE": 1024, "SC_PHYS_PAGES": 2e6}.get)
    found, advice = doctor.check_memory()
    assert found == "2 GB of memory"
    assert advice == "`make figures` wants 6 GB; try make figures JOBS=1"


@pytest.mark.parametrize("minor", range(6, 11))
def test_an_old_python_runs_the_doctor_and_gets_one_line(minor):
    for name in (
        "compendium/doctor",
        "compendium/__init__",
        "atarilens/__init__",
        "atarilens/paths",
    ):
        ast.parse((ROOT / f"lib/{name}.py").read_text(), feature_version=(3, minor))
    if (python := old_python(minor)) is None:
        pytest.skip(f"no Python 3.{minor} here; its syntax was checked")
    run = subprocess.run(
        [python, "-m", "compendium.doctor", "set-up"],
        cwd=ROOT,
        env={"PYTHONPATH": "lib", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stderr) == (1, "")
    (line,) = run.stdout.splitlines()
    assert line.startswith(f"missing  Python 3.{minor}.")
    assert line.endswith("make PYTHON=python3.11")


@pytest.mark.parametrize(
    ("pins", "found"),
    [
        ("pytest==0.1 ; python_version < '3'\n# torch==0\n    # via x\n", None),
        ("pytest==0.1 ; python_version > '3'\n", "1 packages differ from requirements.txt: pytest"),
        ("no-such-thing==2\n", "no-such-thing missing (pinned 2)"),
    ],
)
def test_the_pins_of_this_python_alone_count(monkeypatch, tmp_path, pins, found):
    (tmp_path / "requirements.txt").write_text(pins)
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    line, advice = doctor.check_packages()
    assert (advice is None) == (found is None)
    assert (found or "packages as in") in line


def test_setting_up_prints_only_what_is_missing(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["doctor", "set-up"])
    assert doctor.main() == 0
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    assert doctor.main() == 1
    assert capsys.readouterr().out.startswith("missing  Python 3.9.2: atarilens needs 3.11")


def test_missing_agents_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "AGENTS", tmp_path)
    assert doctor.check_agents()[1] == "train one: make train GAME=pong"
    (tmp_path / "pong-strong.safetensors").touch()
    assert doctor.check_agents() == ("agents, 1 trained: pong-strong", None)


@pytest.mark.parametrize("name", ["chromium", "google-chrome"])
def test_a_browser_is_found_and_its_absence_is_no_failure(monkeypatch, tmp_path, name):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert doctor.check_browser()[0].startswith("no chromium")
    assert doctor.check_browser()[1] is None
    (tmp_path / name).touch(mode=0o755)
    assert doctor.check_browser() == (f"{name} for the browser tests", None)
