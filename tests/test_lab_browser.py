"""`make lab` in a real browser: tidy files stay as they are, and nothing asks another machine."""

import os
import shutil
import sys
import urllib.request
from pathlib import Path

import pytest
from browser import WAIT, free_port, keep, needs_chromium, open_browser, serve

from atarilens.paths import ROOT

OPENED = "notebooks/13_your_own_agent.ipynb"
pytestmark = [
    needs_chromium,
    pytest.mark.skipif(shutil.which("make") is None, reason="no make: `make lab` cannot be run"),
]


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """A copy of what `make lab` shows, which the tests may write to."""
    folder = tmp_path_factory.mktemp("copy")
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", ".ipynb_checkpoints", "*.gif")
    for name in ("lib", "notebooks", "figures"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("Makefile", "requirements.txt", "README.md"):
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture(scope="module")
def page(copy, tmp_path_factory):
    """A page of the browser; `address` is of JupyterLab, `asked` lists all addresses asked for."""
    folder, port = tmp_path_factory.mktemp("lab"), free_port()
    kept = {name: value for name, value in os.environ.items() if "MAKE" in name or name == "MFLAGS"}
    for name in kept:
        del os.environ[name]
    own = {f"JUPYTERLAB_{name}_DIR": str(folder / name) for name in ("WORKSPACES", "SETTINGS")}
    own |= {"JUPYTER_CONFIG_DIR": str(folder / "config"), "PYTHONPATH": str(copy / "lib")}
    options = f"LAB=--no-browser --allow-root --port={port} --IdentityProvider.token="
    command = ["make", "-C", str(copy), "lab", f"PY={sys.executable}", options]
    try:
        with (
            serve(command, port, folder / "log.txt", **own) as address,
            open_browser(folder / "profile", 1400, 900) as page,
        ):
            page.address, page.asked = address, []
            page.on("request", lambda request: page.asked.append(request.url))
            yield page
    finally:
        os.environ.update(kept)


def save(page) -> None:
    """Save the open notebook, as autosave does after two minutes; wait until it is written."""
    with page.expect_response(
        lambda answer: answer.request.method == "PUT" and "/api/contents/" in answer.url
    ) as written:
        page.keyboard.press("Control+s")
    assert written.value.ok


def test_readme_and_figures_are_in_sight_and_nobody_offers_news(page):
    page.goto(page.address)
    page.wait_for_selector(".jp-MarkdownViewer h1 >> text=see why an Atari agent")
    shown = page.locator(".jp-DirListing-itemText").all_inner_texts()
    assert {"README.md", "figures", "notebooks"} <= set(shown)
    page.wait_for_timeout(1000)
    assert page.locator(".Toastify__toast, .jp-Dialog").count() == 0
    assert [url for url in page.asked if "/lab/api/news" in url or "/lab/api/update" in url] == []
    assert page.outside == []
    keep(page, "lab")


def test_names_of_notebooks_are_not_cut_off(page, copy):
    longest = max((path.name for path in (copy / "notebooks").glob("*.ipynb")), key=len)
    page.goto(f"{page.address}/lab/tree/notebooks/lesson.md")
    page.wait_for_selector(f".jp-DirListing-itemText >> text={longest}")
    keep(page, "lab-notebooks")
    cut = page.locator(".jp-DirListing-itemText").evaluate_all(
        """all => all.filter(e => e.scrollWidth > e.clientWidth)
            .map(e => `${e.innerText}: ${e.scrollWidth} of ${e.clientWidth} px`)"""
    )
    assert cut == []


def test_a_notebook_that_is_only_opened_is_saved_as_it_was(page, copy):
    notebook = copy / OPENED
    before = notebook.read_bytes()
    page.goto(f"{page.address}/lab/tree/{OPENED}")
    page.wait_for_selector(".jp-CodeCell .cm-content")
    for _ in range(WAIT // 200):  # with the kernel come the metadata that would be written
        if b'"idle"' in urllib.request.urlopen(f"{page.address}/api/kernels").read():
            break
        page.wait_for_timeout(200)
    save(page)
    assert notebook.read_bytes() == before
    keep(page, "lab-13")

    page.locator(".jp-CodeCell .cm-content").first.click()
    page.keyboard.press("Control+End")
    page.keyboard.type("\n# a line of mine")
    save(page)
    text = notebook.read_text()
    assert "# a line of mine" in text
    assert text.split('"metadata"')[-1] == before.decode().split('"metadata"')[-1]
