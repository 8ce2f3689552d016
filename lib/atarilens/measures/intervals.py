"""Intervals of means, differences and courses over episodes; the test that two means are equal."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy

ENOUGH_TO_RESAMPLE = 20  # episodes from which on the bootstrap's coverage is near its level
BOOTSTRAP_SEED = 0
RESAMPLES = 10_000


def mean_interval(values: Sequence[float], *, level: float = 0.95) -> tuple[float, float]:
    """Return an interval of the mean that covers it as often as it says, for few episodes too.

    From twenty values on it is the percentile bootstrap; for fewer it is Student's t, because the
    bootstrap is then too narrow (for normal data it covers the mean in 71 % of cases at n = 3, in
    89 % at n = 12).

    Args:
        values: `[n]`, one per episode: episodes are independent, frames are not.
        level: of the interval.

    Returns:
        (low, high); NaN for a single value, which has no spread.

    Raises:
        ValueError: if there are no values, or the level is not between 0 and 1.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or values.size == 0 or values.size >= ENOUGH_TO_RESAMPLE:
        return bootstrap_interval(values, level=level)
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, received {level}")
    if values.size == 1:
        return float("nan"), float("nan")
    error = values.std(ddof=1) / np.sqrt(values.size)
    reach = scipy.special.stdtrit(values.size - 1, (1 + level) / 2) * error
    return float(values.mean() - reach), float(values.mean() + reach)


def share_interval(hits: int, tries: int, *, level: float = 0.95) -> tuple[float, float]:
    """Return the exact interval of a share, of independent tries (Clopper and Pearson 1934).

    Args:
        hits: how many tries succeeded.
        tries: how many there were; none at all leaves the share anywhere from 0 to 1.
        level: of the interval.
    """
    if not tries:
        return 0.0, 1.0
    found = scipy.stats.binomtest(int(hits), int(tries)).proportion_ci(level, "exact")
    return float(found.low), float(found.high)


def bootstrap_interval(
    values: Sequence[float],
    generator: np.random.Generator | None = None,
    *,
    level: float = 0.95,
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the mean (Efron 1979).

    Args:
        values: `[n]`, one per episode: episodes are independent, frames are not.
        generator: draws the 10,000 resamples; by default one of a fixed seed.
        level: share of the resampled means inside of it.

    Raises:
        ValueError: if there are no values, or the level is not between 0 and 1.
    """
    return _interval(_resampled_means(values, _or_fixed(generator)), level)


def mean_difference(
    values: Sequence[float],
    others: Sequence[float],
    generator: np.random.Generator | None = None,
    *,
    level: float = 0.95,
) -> tuple[float, tuple[float, float]]:
    """Return mean(values) - mean(others) of two independent samples, and its bootstrap interval.

    Args:
        values: `[n]`, one per episode.
        others: `[m]`, one per episode.
        generator: draws the resamples; by default one of a fixed seed.
        level: of the interval.
    """
    generator = _or_fixed(generator)
    means, other_means = (_resampled_means(sample, generator) for sample in (values, others))
    return float(np.mean(values) - np.mean(others)), _interval(means - other_means, level)


@dataclass(frozen=True)
class Equivalence:
    """Outcome of `equivalence_test`.

    Attributes:
        ratio: mean of the one over mean of the other.
        interval: 90 % bootstrap interval of the ratio.
        equivalent: whether the interval lies within the margin.
        different: whether the whole interval lies outside the margin.
    """

    ratio: float
    interval: tuple[float, float]
    equivalent: bool
    different: bool


def equivalence_test(
    values: Sequence[float],
    others: Sequence[float],
    generator: np.random.Generator | None = None,
    *,
    margin: float = 0.15,
) -> Equivalence:
    """Test whether two mean scores differ by less than a margin: two one-sided tests at 5 %.

    They are equivalent if the 90 % interval of the ratio of the means lies strictly between
    1 - margin and 1 + margin (Schuirmann 1987, by bootstrap). Two means can be neither equivalent
    nor different: few episodes cannot tell.

    Args:
        values: `[n]`, one per episode.
        others: `[m]`, one per episode: the denominator.
        generator: draws the resamples; by default one of a fixed seed.
        margin: relative.

    Raises:
        ValueError: if a mean, or a resampled one, is not positive: a ratio has no meaning then.
    """
    generator = _or_fixed(generator)
    means, other_means = (_resampled_means(sample, generator) for sample in (values, others))
    lowest = min(means.min(), other_means.min())
    if lowest <= 0:
        raise ValueError(f"a ratio needs positive mean scores, one resampled mean is {lowest:g}")
    low, high = _interval(means / other_means, 0.90)
    ratio = float(np.mean(values) / np.mean(others))
    within, outside = 1 - margin < low and high < 1 + margin, high < 1 - margin or low > 1 + margin
    return Equivalence(ratio, (low, high), within, outside)


def _or_fixed(generator: np.random.Generator | None) -> np.random.Generator:
    return generator or np.random.default_rng(BOOTSTRAP_SEED)


def _resampled_means(values: Sequence[float], generator: np.random.Generator) -> np.ndarray:
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not values.size:
        raise ValueError(f"expected one value per episode [n], received {list(values.shape)}")
    return values[generator.integers(values.size, size=(RESAMPLES, values.size))].mean(1)


def _interval(statistics: np.ndarray, level: float) -> tuple[float, float]:
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, received {level}")
    tail = (1 - level) / 2
    low, high = np.quantile(statistics, (tail, 1 - tail))
    return float(low), float(high)


def intervals(
    conditions: Mapping[str, Mapping[str, np.ndarray]],
    interval: Callable[[np.ndarray], tuple] = mean_interval,
) -> dict[str, dict[str, tuple]]:
    """Return the interval of the mean of each entry condition -> object -> `[E]`, NaN left out."""
    return {
        condition: {name: interval(v[np.isfinite(v)]) for name, v in row.items()}
        for condition, row in conditions.items()
    }


def around_events(
    values: np.ndarray, events: np.ndarray, episode: np.ndarray, window: int
) -> np.ndarray:
    """Average a curve around events within each episode, in units of the episode's mean.

    Args:
        values: `[T]`, for example the memory's saliency.
        events: `[n]` int, steps. An event nearer to an end of its episode than the window is left
            out.
        episode: `[T]` int.
        window: steps before and after.

    Returns:
        `[E, 2 * window + 1]` float64, a row per episode, all NaN if it has no such event. Column
        `window` is the event itself.
    """
    numbers = np.unique(episode)
    table = np.full((len(numbers), 2 * window + 1), np.nan)
    for row, number in zip(table, numbers, strict=True):
        steps = np.flatnonzero(episode == number)
        inside = events[(events >= steps[0] + window) & (events <= steps[-1] - window)]
        mean = values[steps].mean()
        if len(inside) and mean > 0:
            around = inside[:, None] + np.arange(-window, window + 1)
            row[:] = values[around].mean(0) / mean
    return table


def course_interval(courses: np.ndarray) -> np.ndarray:
    """Return the interval of the mean course, `[n, 2]` (low, high), of `[E, n]`; NaN left out."""
    return np.array([mean_interval(column[np.isfinite(column)]) for column in courses.T])
