"""A wheel built from lib/ holds atarilens alone, and explains a user's agent outside a checkout."""

import re
import shutil
import subprocess
import sys
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
SCRIPT = """
import sys
from pathlib import Path

import numpy as np

import atarilens
from atarilens import load_agent, overlay, perturbation_saliency, rollout
from atarilens.views import movie_frames, save_movie

site, checkpoint = sys.argv[1:]
assert Path(atarilens.__file__).is_relative_to(site), atarilens.__file__
assert not (atarilens.paths.ROOT / "data").exists()
agent = load_agent(checkpoint, game="pong")
played = rollout(agent, seed=0, max_steps=6)
maps = perturbation_saliency(agent.network, played.observations, played.memory, stride=10)
region, steps = agent.region, range(len(played))
screens = np.stack([overlay(played.frames[t], maps[t], region=region, gain=100) for t in steps])
for name in ("mine.gif", "mine.mp4"):
    save_movie(movie_frames({"saliency": screens}), name)
try:
    load_agent("breakout-strong")
except ValueError as error:
    assert str(error).startswith("unknown agent 'breakout-strong'"), error
else:
    raise AssertionError("no checkout is near, so there is no agent of this name")
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built in a copy of the checkout."""
    copy = tmp_path_factory.mktemp("checkout")
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "lib", copy / "lib", ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index"]
    subprocess.run(
        [*command, "--no-build-isolation", "--wheel-dir", copy / "dist", copy], check=True
    )
    (built,) = (copy / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return HeaderParser().parsestr(archive.read(name).decode())


def test_it_holds_every_file_of_atarilens_and_the_licence(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    packed = {name for name in names if ".dist-info/" not in name}
    ours = {
        path.relative_to(ROOT / "lib").as_posix()
        for path in (ROOT / "lib" / "atarilens").rglob("*")
        if path.is_file() and path.parent.name != "__pycache__"
    }
    assert packed == ours
    assert any(re.fullmatch(r"atarilens-.*\.dist-info/licenses/LICENSE", name) for name in names)
    assert not any(name.endswith("entry_points.txt") for name in names)


def imported() -> set[str]:
    """Return the top names of what atarilens imports from other distributions."""
    lines = "\n".join(path.read_text() for path in (ROOT / "lib" / "atarilens").rglob("*.py"))
    names = set(
        re.findall(r"^\s*(?:import|from) (\w+)(?: import|\.[\w.]+ import| as|$)", lines, re.M)
    )
    return names - set(sys.stdlib_module_names) - {"atarilens"}


def test_it_names_what_it_imports_in_ranges_around_the_pins(metadata):
    from importlib.metadata import packages_distributions

    needs = {
        canonicalize_name(need.name): need.specifier
        for need in map(Requirement, metadata.get_all("Requires-Dist"))
    }
    homes = packages_distributions()
    for name in imported():
        known = needs.keys() & {canonicalize_name(home) for home in homes[name]}
        assert known, f"name the distribution of {name} in pyproject.toml: atarilens imports it"
    pins = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / "requirements.txt").read_text(), re.M))
    for name, range_ in needs.items():
        assert range_.contains(pins[name]), f"{name}{range_} leaves out {pins[name]}"
        assert {clause.operator for clause in range_} == {">=", "<"}


def cleanrl_state() -> dict[str, torch.Tensor]:
    """Return the parameters of an agent of CleanRL's PPO script, as it makes them for Pong."""
    nn = torch.nn
    torch.manual_seed(0)
    convolutions = [nn.Conv2d(4, 32, 8, 4), nn.Conv2d(32, 64, 4, 2), nn.Conv2d(64, 64, 3)]
    reads = [layer for conv in convolutions for layer in (conv, nn.ReLU())]
    parts = {
        "network": nn.Sequential(*reads, nn.Flatten(), nn.Linear(3136, 512), nn.ReLU()),
        "actor": nn.Linear(512, 6),
        "critic": nn.Linear(512, 1),
    }
    return nn.ModuleDict(parts).state_dict()


def test_a_users_agent_is_explained_outside_any_checkout(wheel, tmp_path):
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    torch.save(cleanrl_state(), elsewhere / "model.tar")
    run = subprocess.run(
        [sys.executable, "-P", "-c", SCRIPT, site, elsewhere / "model.tar"],
        cwd=elsewhere,
        env={"PATH": "", "PYTHONPATH": str(site), "ATARILENS_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert (elsewhere / "mine.mp4").stat().st_size > 1000
    assert (elsewhere / "mine.gif").stat().st_size > 1000
