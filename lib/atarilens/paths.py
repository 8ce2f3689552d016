"""Name every directory of the repository and the user's cache, and write files whole.

`make doctor` imports this module on Pythons as old as 3.6, hence the quoted annotations.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
AGENTS = ROOT / "data" / "agents"
ZOO = ROOT / "data" / "zoo"
REPLAYS = ROOT / "data" / "replays"
TABLES = ROOT / "data" / "tables"
STATES = ROOT / "data" / "states"
SCORES = ROOT / "data" / "scores"
LOGS = ROOT / "data" / "logs"
BENCHMARKS = ROOT / "data" / "benchmarks"
FIGURES = ROOT / "figures"
NOTEBOOKS = ROOT / "notebooks"
BUILD = ROOT / "build"


class MissingDataError(FileNotFoundError):
    """An agent or a replay is known by name, but its file is not on this machine.

    A figure that meets this error is listed as not drawn, which is no failure. The message starts
    with `agent <name> missing: ` or `replay <name> missing: `.
    """


def cache() -> Path:
    """Return the user's cache folder: `$ATARILENS_CACHE`, else the XDG default. Not created."""
    folder = os.environ.get("ATARILENS_CACHE")
    if folder:
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "atarilens"


def runs() -> Path:
    """Return the folder of training runs, optimiser state included; it outlives a clone."""
    return cache() / "runs"


@contextmanager
def whole_file(path: "str | Path") -> "Iterator[Path]":
    """Yield a path beside `path` to write to, and move it there if the block ends well.

    So a file of this name is always complete: an interrupted or failed block leaves the old file,
    or none, and removes what it had begun. Missing folders are made.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield beside
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
