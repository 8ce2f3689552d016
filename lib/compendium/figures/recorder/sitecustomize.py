"""Record the modules and data files that a process uses; Python runs this file when it starts.

`figures.made_of` puts this folder on the PYTHONPATH of a notebook's kernel, and every process that
the kernel starts inherits it. When a process first runs a module, or first opens a file to read,
below one of the folders in $ATARILENS_WATCHED, it appends the line `<sha256> <path>` to the file
$ATARILENS_USED. A file that a library opens in C (`h5py.File(path)`, `safetensors.safe_open(path)`)
is not seen: open it in Python.
"""

import hashlib
import importlib.util
import os
import sys
from importlib.machinery import PathFinder


def record_into(log: str, folders: tuple[str, ...]) -> None:
    """Append to `log` each file below `folders` that this process uses from now on."""
    seen = set()
    out = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(event: str, arguments: tuple) -> None:
        if event == "exec":  # a module runs
            path = arguments[0].co_filename
        elif event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
            path = os.fsdecode(arguments[0])
            if arguments[2] & os.O_WRONLY or path.endswith(".py"):
                return
        else:
            return
        path = os.path.abspath(path)
        if path in seen or not path.startswith(folders) or "__pycache__" in path:
            return
        seen.add(path)  # before the file is opened below, which calls this function again
        try:
            with open(path, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:  # no such file: who asked for it is told so
            return
        os.write(out, f"{digest} {path}\n".encode())

    sys.addaudithook(note)


def run_the_one_that_this_hides() -> None:
    """Run the user's or the distribution's own sitecustomize, which this one stands before."""
    here = os.path.dirname(os.path.abspath(__file__))
    elsewhere = [folder for folder in sys.path if os.path.abspath(folder) != here]
    if spec := PathFinder.find_spec("sitecustomize", elsewhere):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


if log := os.environ.get("ATARILENS_USED"):
    record_into(log, tuple(os.environ["ATARILENS_WATCHED"].split(os.pathsep)))
run_the_one_that_this_hides()
