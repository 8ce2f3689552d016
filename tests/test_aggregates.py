"""Aggregate scores: equal to rliable's, to the definition, and to an interval made by hand."""

from itertools import product

import numpy as np
import pytest

from atarilens.measures import (
    aggregate,
    human_normalised,
    iqm,
    optimality_gap,
    performance_profile,
    probability_of_improvement,
)

RUNS = np.array(  # 5 runs of 3 games
    [
        [-0.02, 0.81, 0.30],
        [0.64, 0.12, 0.73],
        [1.21, 0.48, -0.05],
        [0.33, 2.40, 0.07],
        [0.90, 0.55, 0.41],
    ]
)
SCORES = dict(zip("abc", RUNS.T, strict=True))
OTHERS = dict(zip("abc", (0.7 * RUNS + 0.1).T, strict=True))


def test_the_numbers_are_those_of_rliable():
    """Computed by rliable 1.2.0 on RUNS, its intervals with 50,000 resamples."""
    assert iqm(RUNS.ravel()) == pytest.approx(0.4855555555555557, abs=1e-9)
    assert optimality_gap(RUNS.ravel()) == pytest.approx(0.5153333333333332, abs=1e-9)
    assert probability_of_improvement(SCORES, OTHERS) == pytest.approx(0.52, abs=1e-9)
    profile = performance_profile(SCORES, [0, 0.25, 0.5, 1.0])
    np.testing.assert_allclose(profile, [13 / 15, 11 / 15, 7 / 15, 2 / 15], atol=1e-9)
    for statistic, interval in (
        (iqm, (0.27111111, 0.72555556)),
        (optimality_gap, (0.35466667, 0.678)),
    ):
        value, found = aggregate(SCORES, statistic, resamples=20_000)
        assert value == pytest.approx(statistic(RUNS.ravel()), abs=1e-12)
        np.testing.assert_allclose(found, interval, atol=0.012)


def test_the_interquartile_mean_by_its_definition():
    values = np.random.default_rng(0).normal(size=(3, 12))
    for row, found in zip(values, iqm(values), strict=True):
        assert found == pytest.approx(np.sort(row)[3:9].mean())


def test_the_interval_is_that_of_all_resamples():
    scores = {"a": [0.0, 1.0], "b": [0.2, 0.6, 0.9]}
    pairs = product(product(scores["a"], repeat=2), product(scores["b"], repeat=3))
    every = [iqm(np.array([*a, *b])) for a, b in pairs]
    value, found = aggregate(scores, resamples=40_000, level=0.9)
    assert value == iqm(np.array([0.0, 1.0, 0.2, 0.6, 0.9]))
    np.testing.assert_allclose(found, np.quantile(every, (0.05, 0.95)), atol=0.02)


def test_a_single_run_has_a_score_and_no_interval():
    value, (low, high) = aggregate({"a": [0.5], "b": [0.1, 0.3]})
    assert value == pytest.approx(0.3)
    assert np.isnan(low)
    assert np.isnan(high)
    for nothing in ({}, {"a": []}):
        with pytest.raises(ValueError, match="expected at least one score for each game"):
            aggregate(nothing)
    with pytest.raises(ValueError, match="no common game in a and b"):
        probability_of_improvement({"a": [1.0]}, {"b": [1.0]})


def test_random_play_is_0_and_the_human_is_1():
    assert human_normalised(-20.7, -20.7, 9.3) == 0
    assert human_normalised(9.3, -20.7, 9.3) == 1
    assert human_normalised(-35.7, -20.7, 9.3) == pytest.approx(-0.5)
