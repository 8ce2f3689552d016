"""The page that walks through a latent space: sliders, search, map and kept states."""

import io

import numpy as np
import pytest
from PIL import Image

from atarilens import load_agent
from atarilens.apps.latent_walk import LatentWalk, liveliest_latents
from compendium.training.state_model import StateModelSettings, train_state_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    settings = StateModelSettings(frames=24, recorded=40, epochs=2, batch=8)
    folder = tmp_path_factory.mktemp("run")
    return train_state_model("untrained-pong", folder, settings, progress=False)


@pytest.fixture
def page(model, tmp_path):
    return LatentWalk(load_agent("untrained-pong"), model, folder=tmp_path / "kept")


def size_of(png: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(png)) as image:
        return image.size


def test_a_slider_changes_the_picture_and_the_answers(page):
    picture = page.picture.value
    page.sliders[0].value = -3.0 if page.sliders[0].value > 0 else 3.0
    assert page.latent[page.dimensions[0]] == page.sliders[0].value
    assert page.picture.value != picture
    assert size_of(page.picture.value) == (400, 400)


def test_a_search_goes_towards_its_target_and_moves_the_sliders(page):
    def value() -> float:
        return float(page.words.value.partition("value ")[2].partition("<")[0])

    values = {}
    start = page.latent.copy()
    for target in ("best", "worst"):
        page.go_to(start)
        page.target.value, page.steps.value = target, 20
        page.search()
        values[target] = value()
        expected = np.clip(page.latent[page.dimensions], -3, 3)
        np.testing.assert_allclose([s.value for s in page.sliders], expected, atol=0.051)
    assert values["best"] >= values["worst"]


def test_the_map_is_laid_on_the_picture(page):
    plain = page.picture.value
    page.map.value = True
    assert page.picture.value != plain
    page.map.value = False
    assert page.picture.value == plain


def test_a_kept_state_is_a_picture_below_and_a_file(page):
    path = page.keep()
    assert size_of(path.read_bytes()) == (400, 400)
    assert len(page.gallery.children) == len(page.kept) == 1
    assert page.keep() != path


def test_the_liveliest_latents_change_pictures_most(page):
    order = liveliest_latents(page.model, 100)
    assert sorted(order) == list(range(100))
    assert order[:6] == page.dimensions
