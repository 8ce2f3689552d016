"""The map that one can click: the nearest point's moment is shown, with or without saliency."""

import io

import numpy as np
import pytest
from PIL import Image

from atarilens.agents import zoo
from atarilens.apps.point_map import SIDE, ClickableMap
from atarilens.features import watch


@pytest.fixture(scope="module")
def watched():
    agent = zoo.load("ga", "freeway")
    return [watch(agent, episodes=1, steps=20, every=5, seed=seed) for seed in (0, 1)]


def test_a_click_shows_the_nearest_moment(watched):
    count = sum(len(seen.frames) for seen in watched)
    places = np.stack([np.arange(count), np.arange(count) % 2], 1).astype(float)
    page = ClickableMap(places, watched, ["ppo", "dqn"])
    with Image.open(io.BytesIO(page.map.image)) as image:
        assert image.size == (SIDE, SIDE)
    last = count - 1
    x, y = page.pixels[last] / SIDE
    page.map.event = {"kind": "click", "x": x + 0.01, "y": y, "count": 1}
    assert page.chosen == last
    assert "game 0" in page.words.value
    with_map = page.screen.value
    page.saliency.value = False
    assert page.screen.value != with_map
    with Image.open(io.BytesIO(page.screen.value)) as image:
        shown = np.asarray(image)[::2, ::2]
    np.testing.assert_array_equal(shown, watched[1].frames[-1])
    page.map.event = {"kind": "key", "key": "Home", "count": 2}
    assert page.chosen == last


def test_every_moment_needs_a_place(watched):
    with pytest.raises(ValueError, match="3 places, but"):
        ClickableMap(np.zeros((3, 2)), watched)
