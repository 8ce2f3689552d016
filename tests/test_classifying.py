"""Three resizes of one policy's screens are told apart; shared preprocessing takes that away."""

import numpy as np
import pytest

from atarilens.agents import preprocessing
from atarilens.features.classifying import (
    LUMA,
    RESIZES,
    random_screens,
    resized,
    tell_apart,
    without_score,
)


@pytest.fixture(scope="module")
def rollouts():
    return [random_screens("breakout", seed, 40) for seed in range(6)]


def test_one_policy_is_told_apart_by_its_resizes(rollouts):
    kinds = [resized(screens) for screens in rollouts[:3]]
    images = np.concatenate([image for kind in kinds for image in kind.values()])
    labels = [name for kind in kinds for name in kind for _ in range(40)]
    fold = np.repeat([0, 1, 2], len(labels) // 3)
    told = tell_apart(images, labels, fold)
    assert told.accuracy.mean() > 0.95
    assert told.chance == pytest.approx(1 / 3)
    assert told.confusion.sum() == len(images)


def test_one_policy_under_one_preprocessing_is_not_told_apart(rollouts):
    shared = preprocessing("area84").function
    images = np.concatenate([255 * shared(screens) for screens in rollouts])
    labels = np.repeat(["a", "b", "c"] * 2, 40)
    told = tell_apart(images, labels, np.repeat([0, 1], 120))
    assert told.accuracy.mean() < told.chance + 0.2


def test_resizes_on_known_images(rollouts):
    screens = rollouts[0][:3]
    kinds = resized(screens)
    assert list(kinds) == list(RESIZES)
    for image in kinds.values():
        assert image.shape == (3, 84, 84)
        assert np.array_equal(image, np.rint(image))
        assert 0 <= image.min() <= image.max() <= 255
    grey = screens.astype(np.float32) @ LUMA
    corners, pillow, area = kinds.values()
    for row, column in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        assert np.abs(corners[:, row, column] - grey[:, row, column]).max() <= 0.5
    rows, columns = np.linspace(0, 209, 84), np.linspace(0, 159, 84)
    by_rows = np.stack([np.interp(rows, range(210), column) for column in grey[0].T], 1)
    by_both = np.stack([np.interp(columns, range(160), row) for row in by_rows])
    assert np.abs(corners[0] - by_both).max() <= 0.51
    observed = preprocessing("area84").function(screens)
    np.testing.assert_array_equal(area, np.rint(255 * observed))
    assert np.abs(pillow - area).max() > 2  # they differ, hence the confound
    flat = resized(np.full((1, 210, 160, 3), 100, np.uint8))
    assert all(np.abs(image - 100).max() <= 1 for image in flat.values())


def test_a_planted_pixel_is_found_and_noise_is_not():
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (120, 8, 8)).astype(np.float32)
    labels, fold = np.array(["a", "b"] * 60), np.repeat(range(4), 30)
    assert abs(tell_apart(images, labels, fold).accuracy.mean() - 0.5) < 0.2
    images[labels == "b", 2, 2] = 400
    images[labels == "a", 2, 2] = -400
    told = tell_apart(images, labels, fold)
    np.testing.assert_array_equal(told.accuracy, 1)
    np.testing.assert_array_equal(told.confusion, [[60, 0], [0, 60]])


def test_what_a_fold_alone_shows_does_not_help_on_another():
    """Screens of one fold are copies: at random they would be recognised, held out they are not."""
    generator = np.random.default_rng(1)
    labels, fold = np.array(["a", "b"] * 80), np.repeat(range(8), 20)
    kinds = generator.integers(0, 256, (16, 8, 8)).astype(np.float32)
    images = kinds[2 * fold + (labels == "b")]
    leaked = tell_apart(images, labels, generator.integers(0, 4, len(labels)))
    assert leaked.accuracy.mean() > 0.95
    assert tell_apart(images, labels, fold).accuracy.mean() < 0.8


def test_the_score_is_cut_off():
    images = np.tile(np.arange(84)[:, None], (2, 1, 84))
    kept = without_score(images)
    assert (kept.min(), kept.max()) == (14, 77)


def test_a_classifier_without_classes_or_folds_is_refused():
    images = np.zeros((4, 8, 8))
    with pytest.raises(ValueError, match=r"needs two classes or more, received \['a'\]"):
        tell_apart(images, ["a"] * 4, [0, 0, 1, 1])
    with pytest.raises(ValueError, match="no fold has every class in it and in the other folds"):
        tell_apart(images, ["a", "a", "b", "b"], [0, 0, 1, 1])
