import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atarilens.agents.preprocessing import STYLES, area84, baby_a3c, luma80, preprocessing
from atarilens.games.emulators import make_env
from atarilens.games.objects import GAMES

REFERENCE = os.environ.get("ATARILENS_REFERENCE")


@pytest.fixture(scope="module")
def screens():
    """Twelve screens of each game, and one of random pixels."""
    shown = []
    for game in GAMES:
        env = make_env(game)
        env.reset(seed=1)
        shown += [env.step(step % env.action_space.n)[0] for step in range(96)][::8]
    noise = np.random.default_rng(0).integers(0, 256, (210, 160, 3), dtype=np.uint8)
    return np.stack([*shown, noise])


def original_baby_a3c(screen):
    """The original: mean over RGB, scipy.misc.bytescale, Pillow's bilinear filter."""
    mean = screen[35:195].mean(2)
    stretched = (mean - mean.min()) * (255.0 / (mean.max() - mean.min()))
    image = Image.fromarray((stretched.clip(0, 255) + 0.5).astype(np.uint8))
    halved = image.resize((80, 80), Image.Resampling.BILINEAR)
    return np.asarray(halved).astype(np.float32) / 255.0


def test_baby_a3c_equals_the_original_bit_for_bit(screens):
    for screen, observation in zip(screens, baby_a3c(screens), strict=True):
        np.testing.assert_array_equal(observation, original_baby_a3c(screen))


@pytest.mark.skipif(not REFERENCE, reason="ATARILENS_REFERENCE does not name the reference data")
@pytest.mark.parametrize("name", ["pong_80M", "breakout_40M"])
def test_baby_a3c_equals_the_reference_observations(name):
    with np.load(Path(REFERENCE) / f"perturbation_{name}.npz") as reference:
        levels = np.rint(baby_a3c(reference["frames"]) * 255)
        np.testing.assert_array_equal(levels, np.rint(reference["observations"] * 255))


def test_baby_a3c_of_a_screen_of_one_colour_is_black():
    assert not baby_a3c(np.full((210, 160, 3), 77, np.uint8)).any()


def test_baby_a3c_stretches_each_screen_of_a_batch_to_its_own_range():
    dark, bright = np.zeros((2, 210, 160, 3), np.uint8)
    dark[35:115], bright[35:115] = 10, 250
    both = baby_a3c(np.stack([dark, bright]))
    np.testing.assert_array_equal(both[0], both[1])
    assert both.max() == 1
    assert both.min() == 0


def test_luma80_sums_the_luma_of_two_by_two_pixels():
    screen = np.zeros((210, 160, 3), np.uint8)
    screen[35, 2] = (1, 0, 0)
    screen[194, 159] = (0, 1, 2)
    expected = np.zeros((80, 80), np.float32)
    expected[0, 1] = np.float32(299) / np.float32(1_020_000)
    expected[79, 79] = np.float32(587 + 2 * 114) / np.float32(1_020_000)
    np.testing.assert_array_equal(luma80(screen), expected)
    assert luma80(np.full((210, 160, 3), 255, np.uint8)).min() == 1


def test_area84_is_the_mean_grey_level_of_the_area_of_each_pixel():
    grey = np.random.default_rng(0).integers(0, 256, (210, 160))
    screen = np.repeat(grey[..., None], 3, axis=2).astype(np.uint8)
    fine = np.repeat(np.repeat(grey, 2, axis=0), 21, axis=1)  # 5 rows, 40 columns per pixel
    mean = fine.reshape(84, 5, 84, 40).mean((1, 3))
    np.testing.assert_array_equal(np.rint(area84(screen) * 255), np.floor(mean + 0.5))


def test_area84_weights_colours_as_bt601():
    for colour, level in (((255, 0, 0), 76), ((0, 255, 0), 150), ((0, 0, 255), 29)):
        screen = np.full((210, 160, 3), colour, np.uint8)
        np.testing.assert_array_equal(np.rint(area84(screen) * 255), level)


@pytest.mark.parametrize("name", sorted(STYLES))
def test_a_style_keeps_its_declared_shape_and_order(name, screens):
    style = preprocessing(name)
    shown = screens[: style.screens]
    observation = style(shown if style.screens > 1 else shown[0])
    assert observation.shape == style.shape
    assert observation.dtype == np.float32
    assert 0 <= observation.min() <= observation.max() <= 1
    np.testing.assert_array_equal(observation[-1], style.function(shown[-1]))


@pytest.mark.parametrize("function", [luma80, baby_a3c, area84])
def test_a_batch_equals_its_screens_one_by_one_and_input_is_untouched(function, screens):
    before = screens.copy()
    batch = function(screens[:6].reshape(2, 3, 210, 160, 3))
    one_by_one = np.stack([function(screen) for screen in screens[:6]])
    np.testing.assert_array_equal(batch.reshape(one_by_one.shape), one_by_one)
    np.testing.assert_array_equal(screens, before)


def test_errors_name_what_was_given():
    with pytest.raises(ValueError, match="unknown preprocessing 'luma84'; known: area84, "):
        preprocessing("luma84")
    message = (
        r"'area84-stack4' expects 4 screen\(s\) of shape \[210, 160, 3\] uint8, "
        r"received \[210, 160, 3\] uint8"
    )
    with pytest.raises(ValueError, match=message):
        preprocessing("area84-stack4")(np.zeros((210, 160, 3), np.uint8))
    with pytest.raises(ValueError, match="float64"):
        preprocessing("luma80")(np.zeros((210, 160, 3)))
