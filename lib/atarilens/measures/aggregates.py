"""Scores of several games and runs in one number, with an interval over the runs.

Source: Agarwal et al. (2021), "Deep reinforcement learning at the edge of the statistical
precipice"; the numbers equal those of their library rliable 1.2.0 on the same scores.

Scores come as a mapping from each game to the scores of its runs, `[n]`: a run is one training, and
its score the mean over its episodes. Episodes of one run say nothing about another training.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import scipy

from atarilens.measures.intervals import BOOTSTRAP_SEED, RESAMPLES

Scores = Mapping[str, Sequence[float]]


def human_normalised(score: float, random_score: float, human_score: float) -> float:
    """Return a score as a share of the way from random play (0) to the human tester (1)."""
    return (score - random_score) / (human_score - random_score)


def iqm(scores: np.ndarray) -> np.ndarray:
    """Return the interquartile mean of the last axis: the mean without the outer quarters."""
    return scipy.stats.trim_mean(scores, 0.25, axis=-1)


def optimality_gap(scores: np.ndarray, goal: float = 1.0) -> np.ndarray:
    """Return by how much the last axis falls short of a goal, on average; more does not count."""
    return goal - np.minimum(scores, goal).mean(-1)


def aggregate(
    scores: Scores,
    statistic: Callable[[np.ndarray], np.ndarray] = iqm,
    *,
    level: float = 0.95,
    generator: np.random.Generator | None = None,
    resamples: int = RESAMPLES,
) -> tuple[float, tuple[float, float]]:
    """Return a statistic of all scores, and its stratified bootstrap interval over runs.

    Each resample draws, within every game, as many of its runs as there are.

    Args:
        scores: game -> `[n]`, one score per run; games may have different numbers of runs.
        statistic: of the last axis of `[resamples, scores]`, such as `iqm`.
        level: share of the resampled statistics inside of the interval.
        generator: draws the resamples; by default one of a fixed seed.
        resamples: how many.

    Returns:
        The statistic and (low, high); the interval is NaN if a game has a single run, because one
        run says nothing about how runs differ.

    Raises:
        ValueError: if there are no scores, or a game has none.
    """
    games = [np.asarray(values, np.float64) for values in scores.values()]
    if not games or any(values.ndim != 1 or not values.size for values in games):
        raise ValueError(
            "expected at least one score for each game, received "
            f"{ {name: list(np.shape(values)) for name, values in scores.items()} }"
        )
    found = float(statistic(np.concatenate(games)))
    if min(map(len, games)) < 2:
        return found, (float("nan"), float("nan"))
    generator = generator or np.random.default_rng(BOOTSTRAP_SEED)
    drawn = [
        values[generator.integers(len(values), size=(resamples, len(values)))] for values in games
    ]
    tail = (1 - level) / 2
    low, high = np.quantile(statistic(np.concatenate(drawn, axis=1)), (tail, 1 - tail))
    return found, (float(low), float(high))


def performance_profile(scores: Scores, levels: Sequence[float]) -> np.ndarray:
    """Return the share of runs that score more than each level, `[len(levels)]`.

    Every game weighs the same, however many runs it has.
    """
    shares = [np.greater.outer(np.asarray(runs), levels).mean(0) for runs in scores.values()]
    return np.mean(shares, axis=0)


def probability_of_improvement(scores: Scores, others: Scores) -> float:
    """Return how often a run scores more than another algorithm's in the same game.

    Ties count one half; every game that both have weighs the same.

    Raises:
        ValueError: if no game is in both.
    """
    both = [name for name in scores if name in others]
    if not both:
        raise ValueError(f"no common game in {', '.join(scores)} and {', '.join(others)}")
    shares = []
    for name in both:
        difference = np.subtract.outer(np.asarray(scores[name]), np.asarray(others[name]))
        shares.append((difference > 0).mean() + 0.5 * (difference == 0).mean())
    return float(np.mean(shares))
