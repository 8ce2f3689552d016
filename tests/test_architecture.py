"""The shape of the repository: imports run one way, the tree is the README's, nothing is off."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "lib" / "atarilens"
MODULES = sorted(PACKAGE.rglob("*.py"))

# Each layer may import those to its right, and modules of one layer do not import one another.
LAYERS = [
    {"paths"},
    {"games", "weights"},
    {"importers", "models", "preprocessing", "envs", "episodes", "moments"},
    {"agents", "recordings"},
    {"watching"},
    {"trajectories", "hints"},
    {"training", "evaluation", "views"},
    {"explorer", "recorder", "explanations", "figures", "doctor"},
    {"benchmark"},
    {"shipping"},
    {"cli"},
    {"__main__"},
]
LAYER = {name: height for height, layer in enumerate(LAYERS) for name in layer}
ALLOWED_WITHIN_A_LAYER = {
    ("importers", "models"),
    ("importers", "preprocessing"),
    ("importers", "envs"),
}
SALIENCY_MAY_IMPORT = {"numpy", "torch", "scipy", "tqdm", "joblib", "numba", "llvmlite"}
TESTED_BY = {  # sub-package -> one of the files that test it
    "saliency": "test_perturbation",
    "importers": "test_importers",
    "training": "test_ppo",
    "views": "test_views",
    "explorer": "test_explorer",
    "recorder": "test_recorder",
}
NEVER = {"torchvision", "cv2", "gym", "moviepy", "ocatari", "pytorch_grad_cam"}


def unit(path: Path) -> str:
    """Return the module, or the sub-package, of the library that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Return the absolute names of everything a file imports, at any depth of nesting."""
    names = set()
    package = ["atarilens", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parent = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*parent, *filter(None, [node.module])])
            if base == "atarilens":
                names |= {f"atarilens.{alias.name}" for alias in node.names}
            else:
                names.add(base)
    return names


def ours(path: Path) -> set[str]:
    """Return the units of the library that a file imports; a public name counts as its home."""
    from atarilens import _HOME

    found = {name.split(".")[1] for name in imports(path) if name.startswith("atarilens.")}
    return {_HOME.get(name, name) for name in found}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path):
    here = unit(path)
    if here in ("__init__", "saliency"):
        return
    assert here in LAYER, f"give {here} its place in LAYERS"
    for other in ours(path) - {here, "saliency"}:
        below = LAYER[other] < LAYER[here] or (here, other) in ALLOWED_WITHIN_A_LAYER
        assert below, f"{here} must not import {other}"


@pytest.mark.parametrize("path", sorted((PACKAGE / "saliency").glob("*.py")), ids=lambda p: p.name)
def test_saliency_stands_alone(path):
    import sys

    for name in imports(path):
        root = name.split(".")[0]
        allowed = root in sys.stdlib_module_names or root in SALIENCY_MAY_IMPORT
        assert allowed or name.startswith("atarilens.saliency"), f"{path.name} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_imports_what_the_design_rules_out(path):
    assert not {name.split(".")[0] for name in imports(path)} & NEVER


def tracked() -> list[str]:
    """List the files of the repository: tracked, or new and not ignored."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [name for name in listed.splitlines() if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def files() -> list[str]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: which files belong to the repository is not known")
    return tracked()


@pytest.mark.parametrize("path", ["lib/atarilens/paths.py", "data/agents/x.yml", "figures/x.png"])
def test_git_does_not_ignore(path, files):
    command = ["git", "check-ignore", "--quiet", path]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 1


def test_the_tracked_files_stay_small(files):
    assert sum((ROOT / name).stat().st_size for name in files) < 48e6


def test_every_module_has_its_tests():
    tests = " ".join(path.name for path in (ROOT / "tests").glob("test_*.py"))
    for path in PACKAGE.glob("[a-z]*.py"):
        assert f"test_{path.stem}" in tests, f"no tests/test_{path.stem}*.py"
    for package, some_test in TESTED_BY.items():
        assert (PACKAGE / package).is_dir()
        assert some_test in tests
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert packages == set(TESTED_BY)


FORBIDDEN = (
    r"TO" r"DO|FIX" r"ME|NotImplemented" r"Error",
    r"weights_only" r"=False",
    r"sys\.path" r"\.(append|insert)",
    r"filterwarnings\(.ignore" r".\)",
    r"mark\.x" r"fail",
    r"except:" r"\s*$",
    r"(^|[^\w.])/(work|root|home)/",
    r"torch\.load\((?!.*weights_only=True)",
)


def test_no_forbidden_words(files):
    readable = (".py", ".ipynb", ".yml", ".md", ".toml", ".in", ".txt", ".cff", "Makefile", "run")
    for name in files:
        if not name.endswith(readable):
            continue
        for number, line in enumerate((ROOT / name).read_text().splitlines(), 1):
            for pattern in FORBIDDEN:
                assert not re.search(pattern, line), f"{name}:{number}: {line.strip()}"


def test_every_requirement_is_pinned_and_no_host_is_named():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.lstrip().startswith("#")]
    assert len(pins) > 100
    for pin in pins:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", pin), pin
    assert "://" not in "\n".join(lines)
    asked = re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "requirements.in").read_text(), re.M)
    assert len(asked) > 30
    for name, version in asked:
        assert f"{name.lower()}=={version}" in pins


def test_conda_reads_the_same_pins():
    import yaml

    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *conda, pip = environment["dependencies"]
    assert conda == ["python=3.11", "pip", "make"]
    assert pip == {"pip": ["-r requirements.txt", "-e ."]}


def test_public_names_are_there():
    import atarilens

    for name in atarilens.__all__:
        assert callable(getattr(atarilens, name))
    with pytest.raises(AttributeError, match="no attribute 'load_agnet'"):
        atarilens.load_agnet  # noqa: B018


def test_importing_the_package_costs_nothing():
    code = "import atarilens, sys; assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    subprocess.run([__import__("sys").executable, "-c", code], check=True)
