"""Gaze metrics against SciPy and plain pairwise computations, and their known answers."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.special import rel_entr
from scipy.stats import mannwhitneyu, zscore

from atarilens.measures import (
    aggregate_gaze,
    gaze_scores,
    kl_divergence,
    nss,
    other_fixations,
    shuffled_auc,
)

SHAPE = (60, 50)


def random_case(seed, points=30):
    generator = np.random.default_rng(seed)
    saliency = gaussian_filter(generator.random(SHAPE), 2) + 0.01
    fixations = np.zeros(SHAPE, int)
    np.add.at(fixations, tuple(generator.integers(size, size=points) for size in SHAPE), 1)
    others = generator.poisson(0.2, SHAPE)
    return saliency, fixations, others


@pytest.mark.parametrize("seed", range(5))
def test_nss_and_kl_equal_scipys(seed):
    saliency, fixations, _ = random_case(seed)
    z = zscore(saliency, axis=None)
    points = [z[y, x] for y, x in np.argwhere(fixations) for _ in range(fixations[y, x])]
    assert nss(saliency, fixations) == pytest.approx(np.mean(points), abs=1e-9)
    blurred = gaussian_filter(fixations.astype(float), 5, mode="mirror", truncate=4)
    p, q = blurred / blurred.sum(), saliency / saliency.sum()
    assert kl_divergence(saliency, fixations) == pytest.approx(rel_entr(p, q).sum(), abs=1e-9)
    p, q = ((each + 1e-7) / (1 + 1e-7 * each.size) for each in (p, q))
    corrected = kl_divergence(saliency, fixations, epsilon=1e-7)
    assert corrected == pytest.approx(rel_entr(p, q).sum(), abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_the_rank_form_of_the_auc_equals_scipys_and_the_pairwise_one(seed):
    saliency, fixations, others = random_case(seed)
    saliency = np.round(saliency, 2)  # with many ties
    positives = np.repeat(saliency.ravel(), fixations.ravel())
    draws = np.random.RandomState(42)
    by_pairs, by_scipy = [], []
    for _ in range(20):  # split by split, as the paper draws them
        p = others.ravel() / others.sum()
        negatives = saliency.ravel()[draws.choice(saliency.size, size=len(positives), p=p)]
        larger = positives[:, None] > negatives
        by_pairs.append((larger + 0.5 * (positives[:, None] == negatives)).mean())
        by_scipy.append(mannwhitneyu(positives, negatives).statistic / larger.size)
    found = shuffled_auc(saliency, fixations, others, splits=20)
    assert found == pytest.approx(np.mean(by_pairs), abs=1e-9)
    assert found == pytest.approx(np.mean(by_scipy), abs=1e-9)


def test_known_answers():
    saliency, fixations = np.zeros(SHAPE), np.zeros(SHAPE, int)
    saliency[20, 30] = fixations[20, 30] = 1
    pixels = saliency.size
    assert nss(saliency, fixations) == pytest.approx(np.sqrt(pixels - 1))
    assert nss(np.roll(saliency, 3), fixations) < 0
    everywhere = np.ones(SHAPE)
    assert shuffled_auc(saliency, fixations, everywhere - fixations) == 1
    assert shuffled_auc(1 - saliency, fixations, everywhere - fixations) == 0

    generator = np.random.default_rng(0)
    points = generator.poisson(0.3, SHAPE)
    chance = shuffled_auc(generator.random(SHAPE), points, everywhere)
    assert chance == pytest.approx(0.5, abs=0.03)

    blurred = gaussian_filter(fixations.astype(float), 5, mode="mirror", truncate=4)
    assert np.isnan(kl_divergence(blurred, fixations))  # its tails are below 1e-8
    assert kl_divergence(blurred, fixations, epsilon=1e-7) == pytest.approx(0, abs=1e-12)


def test_frames_that_are_dropped():
    saliency, fixations, others = random_case(0)
    nobody, flat = np.zeros(SHAPE, int), np.full(SHAPE, 0.3)
    broken, holes = saliency.copy(), saliency.copy()
    broken[0, 0], holes[10:50, 10:40] = np.nan, 0
    for metric in (nss, kl_divergence, lambda s, f: shuffled_auc(s, f, others)):
        assert np.isnan(metric(saliency, nobody))
        assert np.isnan(metric(broken, fixations))
        assert np.isfinite(metric(saliency, fixations))
    assert np.isnan(nss(flat, fixations))
    assert np.isnan(shuffled_auc(flat, fixations, others))
    assert np.isnan(shuffled_auc(saliency, fixations, nobody))
    assert np.isnan(kl_divergence(holes, fixations))
    assert np.isfinite(kl_divergence(holes, fixations, epsilon=1e-7))
    assert np.isnan(kl_divergence(np.zeros(SHAPE), fixations, epsilon=1e-7))
    assert np.isnan(nss(1e-9 * saliency, fixations))  # the paper's "close to 0" has no unit


def test_other_frames_are_other_frames():
    fixations = np.zeros((6, 2, 3), int)
    for t in range(6):
        fixations[t, t // 3, t % 3] = 1  # a pixel of its own for each frame
    for t, others in enumerate(other_fixations(fixations)):
        assert others.sum() == 10
        assert others[t // 3, t % 3] == 0
    with pytest.raises(ValueError, match="two frames or more"):
        next(other_fixations(fixations[:1]))


def test_a_trial_and_several():
    cases = [random_case(seed) for seed in range(6)]
    saliency = np.stack([case[0] for case in cases])
    fixations = np.stack([case[1] for case in cases])
    fixations[2] = 0
    saliency[3, :30] = 0
    scores = gaze_scores(saliency, fixations, splits=10)
    others = list(other_fixations(fixations))
    assert scores.columns["nss"][0] == nss(saliency[0], fixations[0])
    assert scores.columns["kl"][1] == kl_divergence(saliency[1], fixations[1])
    assert scores.columns["shuffled_auc"][4] == shuffled_auc(
        saliency[4], fixations[4], others[4], splits=10
    )
    assert scores.dropped["nss"] == {"nobody looked at the screen": 1}
    assert scores.dropped["kl"] == {
        "nobody looked at the screen": 1,
        "the map is 0 where somebody looked": 1,
    }
    assert scores.dropped["kl_corrected"] == {"nobody looked at the screen": 1}

    faint = gaze_scores(1e-9 * saliency, fixations, splits=10)
    assert np.isnan(faint.columns["nss"]).all()
    assert np.allclose(
        faint.columns["nss_corrected"], scores.columns["nss_corrected"], equal_nan=True
    )

    table = aggregate_gaze([scores, faint])
    assert table["nss"]["dropped_share"] == pytest.approx(7 / 12)
    assert table["nss"]["mean"] == pytest.approx(np.nanmean(scores.columns["nss"]))
    assert np.isnan(table["nss"]["per_trial"][1])
    assert table["nss"]["dropped"]["the map is constant"] == 5
    assert table["kl_corrected"]["mean"] == pytest.approx(
        np.mean([np.nanmean(each.columns["kl_corrected"]) for each in (scores, faint)])
    )


def test_errors():
    saliency, fixations, _ = random_case(0)
    with pytest.raises(ValueError, match=r"saliency has shape \(60, 50\) and fixations \(60, 49\)"):
        nss(saliency, fixations[:, 1:])
    with pytest.raises(ValueError, match="must not be negative"):
        kl_divergence(-saliency, fixations)
    with pytest.raises(ValueError, match="6 maps, but fixations of 5 frames"):
        gaze_scores(np.zeros((6, 4, 4)), np.zeros((5, 4, 4)))
