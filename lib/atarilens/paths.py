"""Name every directory of the repository and the user's cache. Nothing else knows the tree."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
AGENTS = ROOT / "data" / "agents"
REPLAYS = ROOT / "data" / "replays"
SCORES = ROOT / "data" / "scores"
LOGS = ROOT / "data" / "logs"
BENCHMARKS = ROOT / "data" / "benchmarks"
FIGURES = ROOT / "figures"
NOTEBOOKS = ROOT / "notebooks"
BUILD = ROOT / "build"


def cache() -> Path:
    """Return the user's cache folder: `$ATARILENS_CACHE`, else the XDG default. Not created."""
    if folder := os.environ.get("ATARILENS_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "atarilens"


def runs() -> Path:
    """Return the folder of training runs, optimiser state included; it outlives a clone."""
    return cache() / "runs"
