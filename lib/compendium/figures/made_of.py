"""What a figure is made of, recorded while it is drawn, and whether any of it changed since.

A figure is a function of its notebook's content without outputs and metadata, the values in its
params file, `requirements.txt`, and the modules of ours and the data files that its run used, in
worker processes too. `build/<figure>.made-of.json` holds the sha256 of each. When a file was last
modified does not count.
"""

import hashlib
import json
import os
from functools import cache as remember
from pathlib import Path

from atarilens.paths import BUILD, FIGURES, ROOT, cache, whole_file
from compendium.figures.params import notebook_of, read_parameters

LOCK = ROOT / "requirements.txt"
RECORDER = Path(__file__).parent / "recorder"  # holds sitecustomize.py


def record_of(figure: str) -> Path:
    """Return the file that says what a figure was made of when it was last drawn."""
    return BUILD / f"{figure}.made-of.json"


def recording(log: Path) -> dict[str, str]:
    """Return the environment in which Python processes append to `log` what they use."""
    log.unlink(missing_ok=True)
    watched = [f"{folder}{os.sep}" for folder in (ROOT / "lib", ROOT / "data", cache().absolute())]
    path = [str(RECORDER), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        "PYTHONPATH": os.pathsep.join(path),
        "ATARILENS_USED": str(log.absolute()),
        "ATARILENS_WATCHED": os.pathsep.join(watched),
    }


def used(log: Path) -> dict[str, str]:
    """Return path -> sha256 of what was used; paths below the repository start at its root.

    The first use counts: if a file changes during the run, the figure is out of date at once.
    """
    files: dict[str, str] = {}
    for line in log.read_text().splitlines() if log.is_file() else ():
        digest, _, path = line.partition(" ")
        files.setdefault(path.removeprefix(f"{ROOT}{os.sep}"), digest)
    return dict(sorted(files.items()))


def ingredients(figure: str) -> dict:
    """Return what is known of a figure before it is drawn: notebook, parameters, packages."""
    return {
        "notebook": sha256_of_notebook(notebook_of(figure)),
        "parameters": json.loads(json.dumps(read_parameters(figure), default=str)),
        "requirements.txt": sha256(LOCK),
    }


def write_record(figure: str, known: dict, files: dict[str, str], products: list[str]) -> None:
    """Write what a figure was made of; from then on it counts as drawn."""
    record = known | {"used": files, "products": products}
    with whole_file(record_of(figure)) as path:
        path.write_text(json.dumps(record, indent=1) + "\n")


def out_of_date(figure: str) -> str:
    """Say in words why a figure must be drawn; "" if it need not be."""
    path = record_of(figure)
    if not path.is_file() or not (BUILD / f"{figure}.ipynb").is_file():
        return "not drawn here yet"
    record, now = json.loads(path.read_text()), ingredients(figure)
    names = {"notebook": "its notebook", "parameters": "its params file"}
    changed = [names.get(name, name) for name in now if record[name] != now[name]]
    changed += [name for name, digest in record["used"].items() if sha256(ROOT / name) != digest]
    lost = [name for name in record["products"] if not (FIGURES / name).is_file()]
    if changed:
        return f"{changed[0]} changed"
    return f"figures/{lost[0]} is gone" if lost else ""


@remember
def sha256(path: Path) -> str:
    """Return the sha256 of a file as it is when this is first asked; "" if it is not there."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def sha256_of_notebook(path: Path) -> str:
    """Return the sha256 of the kind and the text of each cell of a notebook."""
    try:
        cells = json.loads(path.read_text())["cells"]
    except FileNotFoundError:
        return ""  # `check_parameters` says so in words
    content = [[cell["cell_type"], "".join(cell["source"])] for cell in cells]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
