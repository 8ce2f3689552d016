"""How `make lab` serves this repository: on this machine alone, and without changes to tidy files.

When JupyterLab opens a notebook, it writes the versions of Python and of the kernel into the
notebook's metadata and saves them, so that git shows a change although nobody made one.
"""

import json
from pathlib import Path


def keep_metadata(model: dict, path: str, contents_manager, **_) -> None:
    """Save a notebook with the metadata that its file has."""
    file = Path(contents_manager.root_dir) / path
    if model["type"] == "notebook" and file.is_file():
        model["content"]["metadata"] = json.loads(file.read_text(encoding="utf-8"))["metadata"]


c = get_config()  # noqa: F821  Jupyter defines it
c.ServerApp.ip = "127.0.0.1"
c.ServerApp.root_dir = str(Path(__file__).parents[2])  # README and figures stand in sight
c.ContentsManager.pre_save_hook = keep_metadata
c.LabApp.custom_css = True
c.ServerApp.tornado_settings = {"static_custom_path": [str(Path(__file__).parent / "custom")]}
