"""The zoo's browser: a clip for each agent that is chosen, and a click that opens the explorer."""

import re
import shutil
import subprocess
import sys
from base64 import b64decode
from io import BytesIO
from pathlib import Path

import papermill
import pytest
from browser import free_port, keep, needs_chromium, open_browser, serve
from PIL import Image

from atarilens import paths
from atarilens.agents import zoo
from atarilens.apps.explorer import drawing
from atarilens.apps.zoo_browser import EVERY, browse

NOTEBOOK = paths.NOTEBOOKS / "57_browse_the_zoo.ipynb"


@pytest.fixture
def browser(tmp_path, monkeypatch):
    """The browser of one game, with clips of three steps."""
    monkeypatch.setenv("ATARILENS_CACHE", str(tmp_path))
    stored = zoo.available()
    kept = stored[stored["game"] == "freeway"][:2]
    monkeypatch.setattr(zoo, "available", lambda: kept)
    return browse(start=2, length=3, steps=12)


def test_every_chosen_agent_has_a_clip_and_a_click_opens_it(browser):
    rows = browser.rows
    assert len(browser.grid.children) == len(rows) > 0
    clip = next(iter(browser.clips.values()))
    shown = re.search(r"base64,([^\"]+)", clip.drawing)[1]
    film = Image.open(BytesIO(b64decode(shown)))
    assert film.size == Image.open(BytesIO(clip.image)).size == (80, 105)
    first = rows.iloc[0]
    browser.choices["algorithm"].value = first["algorithm"]
    assert set(browser.chosen["algorithm"]) == {first["algorithm"]}
    assert len(browser.grid.children) == len(browser.chosen)
    assert browser.grid.children[0].children[0] is clip
    assert browser.explorer is None
    clip.event = {"kind": "key", "key": " ", "shift": False, "count": 1}
    assert browser.explorer is None
    clip.event = {"kind": "click", "x": 0.5, "y": 0.5, "count": 2}
    name = zoo.load(*first[["algorithm", "game", "run", "tag"]]).name
    assert browser.explorer.player == name
    assert browser.opened.children == (browser.explorer.page,)
    assert browser.explorer.actions.options == (("greedy", True),)  # it has Q-values
    browser.explorer.agent.value = "untrained-freeway"
    assert browser.explorer.actions.options == (("sampled", False), ("greedy", True))
    assert browser.explorer.actions.value is False
    browser.choices["algorithm"].value = EVERY
    assert len(browser.grid.children) == len(rows)


def test_an_empty_zoo_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ZOO", tmp_path)
    empty = browse()
    assert empty.grid.children == ()
    assert "the zoo has no such agent" in empty.words.value


@pytest.fixture
def in_voila(tmp_path):
    """The address of notebook 57 in Voilà, with clips of four steps."""
    small = {"length": 4, "max_steps": 20}
    papermill.execute_notebook(str(NOTEBOOK), str(tmp_path / "57.ipynb"), small, prepare_only=True)
    port = free_port()
    command = [sys.executable, "-m", "voila", "--Voila.ip=127.0.0.1", "--template=atarilens"]
    command += ["--theme=dark", "--no-browser", f"--port={port}", str(tmp_path / "57.ipynb")]
    own = {"JUPYTER_PATH": str(Path(drawing.__file__).parent), "OMP_NUM_THREADS": "1"}
    own |= {"ATARILENS_CACHE": str(tmp_path / "cache")}
    with serve(command, port, tmp_path / "log.txt", **own) as address:
        yield address


@needs_chromium
def test_a_person_chooses_and_clicks_in_a_real_browser(in_voila, tmp_path):
    stored = zoo.available()
    few = stored.groupby("algorithm").size().idxmin()
    chosen = stored[stored["algorithm"] == few]
    with open_browser(tmp_path / "profile") as page:
        page.goto(in_voila)
        page.wait_for_selector(f"text={len(stored)} agents; click a clip")
        clips = page.locator(".al-picture:visible")
        assert clips.count() == len(stored)
        page.wait_for_selector(".al-picture img")
        films = page.locator(".al-picture img")
        sizes = films.evaluate_all("all => all.map(e => [e.naturalWidth, e.naturalHeight])")
        assert sizes == [[80, 105]] * len(stored)
        keep(page, "zoo")

        page.get_by_label("algorithm", exact=True).select_option(label=few)
        page.wait_for_selector(f"text=/^{len(chosen)} agents?; click a clip/")
        assert clips.count() == len(chosen)
        first = chosen.iloc[0]
        assert clips.first.get_attribute("aria-label").startswith(f"{few} {first['game']} ")
        clips.first.click()
        name = zoo.load(*first[["algorithm", "game", "run", "tag"]]).name
        page.wait_for_selector(f"text={name} is open below")
        page.wait_for_selector(".al-screen .al-picture[data-painted]")
        assert name in page.locator(".al-title").inner_text()
        page.locator(".al-screen").scroll_into_view_if_needed()
        keep(page, "zoo-opened")
        assert page.locator(".al-error").count() == 0
        assert page.outside == []


@pytest.mark.skipif(shutil.which("make") is None, reason="no make: `make app` cannot be run")
def test_make_app_opens_the_zoo():
    done = subprocess.run(
        ["make", "--no-print-directory", "-n", "app", "ZOO=1", f"PY={sys.executable}"],
        cwd=paths.ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"notebooks/{NOTEBOOK.name}" in done.stdout
    assert "--Voila.ip=127.0.0.1" in done.stdout
