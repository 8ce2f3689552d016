"""Tests of many claims at once: p values that match the intervals, Holm's correction, absence."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy import special

from atarilens.measures.intervals import ENOUGH_TO_RESAMPLE, RESAMPLES, mean_interval


def p_value(values) -> float:
    """Return the two-sided p value of "the mean is 0" that matches `mean_interval`.

    Fewer than twenty values: Student's t. Twenty or more: the percentile bootstrap, twice the
    smaller share of resampled means on either side of 0, at least 2 / 10,001.

    Args:
        values: `[n]`, one per episode, for example differences between two conditions.

    Returns:
        In (0, 1]; NaN for a single value, which has no spread.

    Raises:
        ValueError: if there are no values, or one is not finite.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not values.size or not np.isfinite(values).all():
        raise ValueError(f"expected finite values [n], received {values}")
    if values.size == 1:
        return float("nan")
    if np.ptp(values) == 0:
        return 1.0 if values[0] == 0 else float(np.finfo(float).tiny)
    if values.size < ENOUGH_TO_RESAMPLE:
        t = values.mean() / (values.std(ddof=1) / np.sqrt(values.size))
        return float(2 * special.stdtr(values.size - 1, -abs(t)))
    generator = np.random.default_rng(0)
    means = values[generator.integers(values.size, size=(RESAMPLES, values.size))].mean(1)
    tail = min((means <= 0).sum(), (means >= 0).sum())
    return float(min(1.0, 2 * (tail + 1) / (RESAMPLES + 1)))


def p_value_of_interval(difference: float, low: float, high: float, episodes: int) -> float:
    """Return the two-sided p value of "the mean is 0" of which only the 95 % interval is stored.

    Fewer than twenty episodes: Student's t, the same as `p_value`. Twenty or more: the normal
    distribution that has the interval's end on the side of 0, which approximates the bootstrap.

    Args:
        difference: the mean.
        low: lower end of its interval by `mean_interval`.
        high: upper end.
        episodes: how many the interval is over.

    Returns:
        In (0, 1], below 0.05 exactly if the interval excludes 0; NaN for a single episode.
    """
    if episodes < 2:
        return float("nan")
    reach = difference - low if difference > 0 else high - difference
    if reach <= 0:
        return float(np.finfo(float).tiny) if difference else 1.0
    few = episodes < ENOUGH_TO_RESAMPLE
    edge = special.stdtrit(episodes - 1, 0.975) if few else special.ndtri(0.975)
    beyond = -edge * abs(difference) / reach
    tail = special.stdtr(episodes - 1, beyond) if few else special.ndtr(beyond)
    return max(float(2 * tail), np.finfo(float).tiny)


def joint_p_value(p_values: Iterable[float]) -> float:
    """Return the p value of a claim that must hold against every one of its controls.

    The largest of them (intersection-union test, Berger 1982): inside such a joint verdict no
    correction is needed.

    Raises:
        ValueError: if there is none.
    """
    p_values = list(p_values)
    if not p_values:
        raise ValueError("a joint verdict needs the p value of at least one control")
    return float(np.max(p_values))


@dataclass(frozen=True)
class Corrected:
    """Outcome of one claim after Holm's correction.

    Attributes:
        p: p value of the claim by itself.
        adjusted: the level at which the claim would just be rejected among all claims, at most 1.
        significant: whether `adjusted` is below the level.
    """

    p: float
    adjusted: float
    significant: bool


def holm(p_values: Mapping[str, float], level: float = 0.05) -> dict[str, Corrected]:
    """Correct the p values of several claims, so that a false one among them is rare.

    Holm's step-down procedure keeps the probability of one or more false claims below the level,
    however the tests depend on one another.

    Args:
        p_values: claim -> p value in [0, 1]. A claim without evidence (NaN) counts as p = 1.
        level: of all claims together.

    Raises:
        ValueError: if a p value or the level is outside its range.

    Reference:
        Holm (1979), "A simple sequentially rejective multiple test procedure".
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, received {level}")
    names = list(p_values)
    p = np.array([1.0 if np.isnan(p_values[name]) else p_values[name] for name in names])
    if ((p < 0) | (p > 1)).any():
        raise ValueError(f"p values must lie in [0, 1], received {dict(p_values)}")
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1, np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order]))
    return {
        name: Corrected(float(p_values[name]), float(a), bool(a < level))
        for name, a in zip(names, adjusted, strict=True)
    }


@dataclass(frozen=True)
class Absence:
    """Outcome of `absent`.

    Attributes:
        mean: of the values.
        interval: 90 % interval of the mean.
        margin: in the unit of the values.
        absent: the interval lies within -margin to margin.
        present: the 95 % interval excludes 0. A small effect can be both present and absent.
        word: "absent", "present", "present, but within the margin", or "undecided".
    """

    mean: float
    interval: tuple[float, float]
    margin: float
    absent: bool
    present: bool
    word: str


def absent(values, margin: float) -> Absence:
    """Test whether an effect is absent but for a margin: two one-sided tests at 5 %.

    An interval that includes 0 does not show absence: with few episodes it includes everything.
    The effect is absent if the 90 % interval of its mean lies within -margin to margin
    (Schuirmann 1987). `equivalence_test` does the same for the ratio of two means.

    Args:
        values: `[n]`, one per episode, for example differences between agent and control.
        margin: the largest effect that would still not matter, in the unit of the values.

    Raises:
        ValueError: if there are no values, or the margin is not positive.
    """
    if not margin > 0:
        raise ValueError(f"margin must be positive, received {margin}")
    values = np.asarray(values, np.float64)
    low, high = mean_interval(values, level=0.90)
    within = bool(-margin < low and high < margin)
    wide = mean_interval(values)
    present = bool(wide[0] > 0 or wide[1] < 0)
    word = "present, but within the margin" if present and within else "undecided"
    if present != within:
        word = "present" if present else "absent"
    return Absence(float(values.mean()), (low, high), float(margin), within, present, word)
