"""Courses of a measure around events, each episode by itself."""

import numpy as np

from atarilens.measures.intervals import mean_interval


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
