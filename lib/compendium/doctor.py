"""Say in one line each what this machine lacks.

This module runs before anything is installed, and on Pythons that are too old (from 3.6 on): it
imports only what all of them have, and everything else inside the check that needs it.
"""

import os
import shutil
import sys
from importlib import import_module

from atarilens.paths import AGENTS, ROOT

OLDEST_PYTHON = (3, 11)
DISK_GB = 4  # .venv 2 GB, pip's cache 1 GB, build and data
MEMORY_GB = 6  # `make figures` uses up to 5, with one job 3


def check_python():
    """Return (what was found, what to do or None)."""
    found = "Python {}.{}.{}".format(*sys.version_info[:3])
    if sys.version_info[:2] < OLDEST_PYTHON:
        return found, "atarilens needs 3.11 or newer; name one: make PYTHON=python3.11"
    return found, None


def check_venv():
    """Import the modules that make .venv, which Debian packages apart from Python."""
    try:
        import_module("ensurepip")
        import_module("venv")
    except ImportError:
        return (
            "no venv module",
            "install it (Debian, Ubuntu: apt-get install python3-venv), "
            "or use an interpreter that has the packages: make PY=python",
        )
    return "venv module", None


def check_disk():
    """Measure the free disk space of the checkout, in GB."""
    free = shutil.disk_usage(ROOT).free / 1e9
    enough = free >= DISK_GB or (ROOT / ".venv" / "ready").exists()
    return f"{free:.0f} GB of disk free", None if enough else f"{DISK_GB} GB are needed"


def check_memory():
    """Measure the memory of the machine, in GB."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    advice = f"`make figures` wants {MEMORY_GB} GB; try make figures JOBS=1"
    return f"{total:.0f} GB of memory", None if total >= MEMORY_GB else advice


def check_packages():
    """Compare the installed packages with the pins of requirements.txt for this Python."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        from packaging.requirements import Requirement
    except ImportError:
        return "no packages", "make test sets up .venv"
    off = []
    for line in (ROOT / "requirements.txt").read_text().splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        pin = Requirement(line)
        if pin.marker is not None and not pin.marker.evaluate():
            continue
        try:
            found = version(pin.name)
        except PackageNotFoundError:
            found = "missing"
        if found == "missing" or not pin.specifier.contains(found, prereleases=True):
            off.append(f"{pin.name} {found} (pinned {str(pin.specifier)[2:]})")
    if off:
        shown = ", ".join(off[:3]) + (", ..." if len(off) > 3 else "")
        return (
            f"{len(off)} packages differ from requirements.txt: {shown}",
            "make test sets up .venv",
        )
    return "packages as in requirements.txt", None


def check_emulator():
    """Start the emulator's ROM of each game."""
    try:
        from atarilens.games.emulators import make_env
        from atarilens.games.objects import GAMES

        for name in GAMES:
            make_env(name).reset(seed=0)
    except (ImportError, OSError, ValueError) as error:
        return f"the emulator does not start: {error}", "make test sets up .venv with ale-py"
    return f"emulator with {', '.join(GAMES)}", None


def check_movies():
    """Look for the encoder of MP4 files, which comes inside a package."""
    try:
        from imageio_ffmpeg import get_ffmpeg_exe

        get_ffmpeg_exe()
    except (ImportError, RuntimeError) as error:
        return f"no ffmpeg: {error}", "make test sets up .venv with imageio-ffmpeg"
    return "ffmpeg for movies", None


def check_browser():
    """Look for a browser, which only tests need."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if shutil.which(name):
            return f"{name} for the browser tests", None
    return "no chromium: the browser tests are skipped (nothing else needs it)", None


def check_agents():
    """Look for the trained agents that are shipped with the repository."""
    names = sorted(path.stem for path in AGENTS.glob("*.safetensors"))
    if not names:
        return "no agents in data/agents", "train one: make train GAME=pong"
    return f"agents, {len(names)} trained: {', '.join(names)}", None


BEFORE_SETTING_UP = (check_python, check_venv, check_disk)
CHECKS = (
    *BEFORE_SETTING_UP,
    check_memory,
    check_packages,
    check_emulator,
    check_movies,
    check_browser,
    check_agents,
)


def main():
    """Print one line per check; return 1 if something is missing, else 0.

    With the argument `set-up`, run what making .venv needs and print only what is missing.
    """
    setting_up = sys.argv[1:] == ["set-up"]
    missing = 0
    for check in BEFORE_SETTING_UP if setting_up else CHECKS:
        found, advice = check()
        if advice:
            missing += 1
            print(f"missing  {found}: {advice}")
        elif not setting_up:
            print(f"ok       {found}")
        if check is check_python and advice:
            break  # the other checks need a Python that runs them
    return min(missing, 1)


if __name__ == "__main__":
    sys.exit(main())
