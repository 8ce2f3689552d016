"""Corrections by hand, p values that agree with intervals, absence that is shown or not."""

import numpy as np
import pytest
from scipy import stats

from atarilens.measures import (
    absent,
    holm,
    joint_p_value,
    mean_interval,
    p_value,
    p_value_of_interval,
    share_interval,
)


def test_holm_by_hand():
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    # sorted: d 4 * .005, a 3 * .01, c 2 * .03, b 1 * .04 raised to its predecessor's
    assert {name: round(each.adjusted, 12) for name, each in found.items()} == {
        "a": 0.03,
        "b": 0.06,
        "c": 0.06,
        "d": 0.02,
    }
    assert [name for name, each in found.items() if each.significant] == ["a", "d"]
    assert found["b"].p == 0.04


def test_holm_keeps_false_claims_rare():
    generator = np.random.default_rng(0)
    false = [
        any(each.significant for each in holm(dict(enumerate(generator.random(20)))).values())
        for _ in range(400)
    ]
    assert np.mean(false) < 0.09


def test_holm_of_a_claim_without_evidence_and_of_nothing():
    found = holm({"tested": 0.02, "untested": float("nan")})
    assert found["tested"].adjusted == pytest.approx(0.04)
    assert found["untested"].adjusted == 1
    assert holm({}) == {}
    with pytest.raises(ValueError, match=r"p values must lie in \[0, 1\]"):
        holm({"a": 1.2})


@pytest.mark.parametrize("count", [5, 30])
def test_a_p_value_is_below_5_percent_where_the_interval_excludes_0(count):
    generator = np.random.default_rng(1)
    for shift in np.linspace(0, 1.2, 13):
        values = generator.standard_normal(count) + shift
        low, high = mean_interval(values)
        p = p_value(values)
        assert (p < 0.05) == (low > 0 or high < 0) or abs(p - 0.05) < 0.005
    if count < 20:
        assert p == stats.ttest_1samp(values, 0).pvalue


@pytest.mark.parametrize("count", [5, 30])
def test_a_stored_interval_gives_the_p_value_of_its_values(count):
    values = np.random.default_rng(2).standard_normal(count)
    for shift in (-2, -0.8, 0.1, 0.6, 2):
        moved = values + shift
        low, high = mean_interval(moved)
        p = p_value_of_interval(moved.mean(), low, high, count)
        assert (p < 0.05) == (low > 0 or high < 0)
        assert p == pytest.approx(p_value(moved), rel=1e-6 if count < 20 else 0.5, abs=3e-4)
    assert np.isnan(p_value_of_interval(1, float("nan"), float("nan"), 1))
    assert p_value_of_interval(0, 0, 0, 4) == 1
    assert 0 < p_value_of_interval(1, 1, 1, 4) < 1e-300


def test_p_values_at_the_edges():
    assert p_value([0, 0, 0]) == 1
    assert 0 < p_value([2, 2, 2]) < 1e-300
    assert np.isnan(p_value([1.0]))
    assert p_value(np.full(25, 3.0) + np.arange(25) / 100) == pytest.approx(2 / 10_001)
    assert joint_p_value([0.01, 0.2, 0.03]) == 0.2
    with pytest.raises(ValueError, match="at least one control"):
        joint_p_value([])
    with pytest.raises(ValueError, match="expected finite values"):
        p_value([1, float("nan")])


def test_absence_needs_more_than_an_interval_around_0():
    generator = np.random.default_rng(2)
    few, many = 3 * generator.standard_normal(4), 0.3 * generator.standard_normal(40)
    assert absent(few, 0.5).word == "undecided"
    assert absent(many, 0.5).word == "absent"
    assert absent(many + 2, 0.5).word == "present"
    assert absent(many + 0.2, 0.5).word == "present, but within the margin"
    with pytest.raises(ValueError, match="margin must be positive, received 0"):
        absent(many, 0)


def test_absence_agrees_with_two_one_sided_t_tests():
    values = np.array([0.1, -0.2, 0.3, 0.0, 0.15, -0.1])
    for margin in (0.1, 0.2, 0.25, 0.4):
        tests = (
            stats.ttest_1samp(values, -margin, alternative="greater").pvalue,
            stats.ttest_1samp(values, margin, alternative="less").pvalue,
        )
        assert absent(values, margin).absent == (max(tests) < 0.05)


def test_the_interval_of_a_share_is_exact():
    low, high = share_interval(0, 4)
    assert low == 0
    assert (1 - high) ** 4 == pytest.approx(0.025)  # so rarely would four tries all fail
    low, high = share_interval(3, 5)
    assert stats.binom.sf(2, 5, low) == pytest.approx(0.025)
    assert stats.binom.cdf(3, 5, high) == pytest.approx(0.025)
    assert share_interval(0, 0) == (0, 1)
