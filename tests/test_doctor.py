"""The doctor says what is there and what is missing, on any Python, with nothing installed."""

import os
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from compendium import doctor

ROOT = Path(__file__).parents[1]


def test_it_finds_the_parts_of_this_machine():
    assert doctor.check_python()[1] is None
    assert doctor.check_packages() == ("packages as in requirements.txt", None)
    assert doctor.check_emulator() == ("emulator with pong, breakout, spaceinvaders", None)
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
    assert "packages differ from requirements.txt: absl-py missing (pinned " in run.stdout
    assert "missing  the emulator does not start: No module named" in run.stdout
    assert "missing  no ffmpeg: No module named" in run.stdout


def test_an_old_python_a_full_disk_and_little_memory_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    assert doctor.check_python() == (
        "Python 3.9.2",
        "install Python 3.11 or newer and name it: make PYTHON=python3.11",
    )
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: usage(9e9, 8e9, 1e9))
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    assert doctor.check_disk() == ("1 GB of disk free", "4 GB are needed")
    monkeypatch.setattr(doctor.os, "sysconf", {"SC_PAGE_SIZE": 1024, "SC_PHYS_PAGES": 2e6}.get)
    found, advice = doctor.check_memory()
    assert found == "2 GB of memory"
    assert advice == "`make figures` wants 6 GB; try make figures JOBS=1"


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
