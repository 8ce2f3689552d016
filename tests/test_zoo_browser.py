"""The zoo's browser: a clip for each agent that is chosen, and a click that opens the explorer."""

import re
from base64 import b64decode
from io import BytesIO

import pytest
from PIL import Image

from atarilens import paths
from atarilens.agents import zoo
from atarilens.apps.zoo_browser import EVERY, browse


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
    browser.choices["algorithm"].value = EVERY
    assert len(browser.grid.children) == len(rows)


def test_an_empty_zoo_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ZOO", tmp_path)
    empty = browse()
    assert empty.grid.children == ()
    assert "no agent of the zoo" in empty.words.value
