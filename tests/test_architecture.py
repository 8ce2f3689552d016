"""The shape of the repository: imports run one way, the tree is the README's, nothing is off."""

import ast
import json
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIB = ROOT / "lib"
MODULES = sorted(LIB.rglob("*.py"))

# Folders of one line do not import one another; each imports only from the lines above it.
RANKS = [
    {"atarilens.paths"},
    {"atarilens.games", "atarilens.saliency"},
    {"atarilens.agents", "atarilens.measures"},
    {"atarilens.play"},
    {"atarilens.features", "atarilens.views"},
    {"atarilens.apps"},
    {"compendium"},
]
RANK = {folder: rank for rank, folders in enumerate(RANKS) for folder in folders}
FROM_COMPENDIUM = {"compendium.training"}  # all that a notebook imports from compendium
MOST_ENTRIES = 10  # on a level of lib/, not counting __init__.py and __main__.py
# A smoke alarm, no reason to write densely: the commit that raises a number says why.
MOST_LINES = {"atarilens": 16_400, "atarilens.apps": 3_700, "compendium": 9_000}
WALLED_OFF = "atarilens.saliency.fast"  # counts for nobody
SALIENCY_MAY_IMPORT = {"PIL", "captum", "joblib", "llvmlite", "numba", "numpy", "scipy", "torch"}
SALIENCY_MAY_IMPORT |= {"tqdm"}
NEVER = {"torchvision", "cv2", "gym", "moviepy", "ocatari", "pytorch_grad_cam"}


def name_of(path: Path) -> str:
    """Return the dotted name of a module; a package's own file has the package's name."""
    parts = path.relative_to(LIB).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def folder_of(module: str) -> str:
    """Return the folder, ranked above, that a module of ours belongs to; "" for the root."""
    found = [folder for folder in RANK if f"{module}.".startswith(f"{folder}.")]
    assert found or module == "atarilens", f"give {module} its place in RANKS"
    return found[0] if found else ""


def imports(source: str) -> set[str]:
    """Return the absolute names of everything that a source imports, at any depth of nesting."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "write imports with their whole name"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def ours(source: str) -> set[str]:
    """Return the folders that a source imports; a public name counts as its home."""
    from atarilens import _HOME

    names = {name for name in imports(source) if name.split(".")[0] in ("atarilens", "compendium")}
    homes = {f"atarilens.{name}": f"atarilens.{home}" for name, home in _HOME.items()}
    return {folder_of(homes.get(name, name)) for name in names} - {""}


def upward(module: str, source: str) -> list[str]:
    """Name each import of a module that does not run downwards."""
    here = folder_of(module)
    return [
        f"{module} imports {other}"
        for other in sorted(ours(source) - {here})
        if RANK[other] >= RANK.get(here, -1)
    ]


def lines_of(folder: str) -> int:
    """Count the lines of a package, without those of the packages that count on their own."""
    apart = {name for name in (*MOST_LINES, WALLED_OFF) if name.startswith(f"{folder}.")}
    counted = [
        path
        for path in (LIB / folder.replace(".", "/")).rglob("*.py")
        if not any(f"{name_of(path)}.".startswith(f"{name}.") for name in apart)
    ]
    return sum(len(path.read_text().splitlines()) for path in counted)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_run_one_way(path):
    if name_of(path) != "atarilens":
        assert not upward(name_of(path), path.read_text())


def test_an_upward_import_is_found():
    assert upward("atarilens.play.scores", "from atarilens.views import overlay")
    assert upward("atarilens.measures.gaze", "from atarilens.agents import load_agent")
    assert upward("atarilens.views.screens", "def f():\n    from compendium.training import ppo")
    assert upward("atarilens.agents.files", "from atarilens import evaluate")
    assert not upward("atarilens.play.scores", "from atarilens.agents import load_agent")


@pytest.mark.parametrize("level", sorted({path.parent for path in MODULES}), ids=lambda p: p.name)
def test_a_level_has_at_most_ten_entries(level):
    entries = [
        entry.name
        for entry in level.iterdir()
        if (entry.suffix == ".py" and not entry.name.startswith("__"))
        or (entry.is_dir() and any(entry.rglob("*.py")))
    ]
    assert len(entries) <= MOST_ENTRIES, entries


@pytest.mark.parametrize("folder", MOST_LINES)
def test_a_package_stays_thin(folder, record_property):
    lines = lines_of(folder)
    record_property("lines", lines)
    print(f"{folder}: {lines} of {MOST_LINES[folder]} lines")
    assert lines <= MOST_LINES[folder]


@pytest.mark.parametrize(
    "path", [path for path in MODULES if "atarilens.saliency" in name_of(path)], ids=name_of
)
def test_saliency_stands_alone(path):
    import sys

    for name in imports(path.read_text()):
        root = name.split(".")[0]
        allowed = root in sys.stdlib_module_names or root in SALIENCY_MAY_IMPORT
        assert allowed or name.startswith("atarilens.saliency"), f"{path.name} imports {name}"


def test_only_the_perturbation_opens_the_fast_path():
    doors = {
        name_of(path)
        for path in MODULES
        if any(name.startswith(WALLED_OFF) for name in imports(path.read_text()))
    }
    assert {door for door in doors if WALLED_OFF not in door} == {"atarilens.saliency.perturbation"}


def test_notebooks_import_nothing_of_compendium_but_training():
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text())["cells"]
        code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        names = {name for source in code for name in imports(source) if "compendium" in name}
        assert all(name.startswith(tuple(FROM_COMPENDIUM)) for name in names), path.name


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_module_imports_what_the_design_rules_out(path):
    assert not {name.split(".")[0] for name in imports(path.read_text())} & NEVER


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
    assert sum((ROOT / name).stat().st_size for name in files) < 175e6


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
        assert re.fullmatch(r"[a-z0-9-]+==[0-9][a-z0-9.]*( ; [a-z_]+ .*)?", pin), pin
        assert not re.match(r"nvidia|cuda|triton", pin), f"the CPU build needs no {pin}"
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
