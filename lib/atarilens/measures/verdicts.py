"""Compare a measure with its controls, and name the outcome in one vocabulary.

| word      | meaning of the 95 % interval of the difference, n >= 3 episodes                  |
|-----------|----------------------------------------------------------------------------------|
| holds     | it lies above 0                                                                  |
| reversed  | it lies below 0: the control has more                                            |
| absent    | it holds 0 and lies within the margin: a difference that matters is ruled out    |
| undecided | anything else, and fewer than 3 episodes: these games cannot tell                |
"""

from collections.abc import Callable, Collection, Mapping

import numpy as np

from atarilens.measures.attention import episode_means
from atarilens.measures.intervals import mean_interval

FEWEST = 3  # episodes that a claim needs: an interval over one or two of them says nothing
NSS_MARGIN = 0.5  # a difference of NSS within it is called absent


def outcome(low: float, high: float, episodes: int, margin: float | None = NSS_MARGIN) -> str:
    """Name what an interval of a difference says: holds, reversed, absent or undecided.

    Args:
        low: lower end of the interval; may be NaN for a single episode.
        high: upper end.
        episodes: how many the interval is over.
        margin: largest difference that does not matter, in the unit of the measure; None if no
            such margin was stated, so that nothing is called absent.
    """
    if episodes < FEWEST:
        return "undecided"
    if low > 0:
        return "holds"
    if high < 0:
        return "reversed"
    within = margin is not None and -margin < low and high < margin
    return "absent" if within else "undecided"


def contrast(
    values: np.ndarray,
    controls: np.ndarray,
    interval: Callable[[np.ndarray], tuple] = mean_interval,
    margin: float | None = NSS_MARGIN,
) -> dict[str, float | bool | str]:
    """Compare two measures of the same episodes.

    Args:
        values: `[E]`, NaN if an episode has none.
        controls: `[E]`, of the same episodes.
        interval: gives (low, high) of the mean of `[n]` values.
        margin: of `outcome`.

    Returns:
        "mean" and "control" (means over the episodes that have both), "difference" with the "low"
        and "high" end of its interval, "episodes", the word of "outcome", and "holds" (bool).

    Raises:
        ValueError: if no episode has both.
    """
    both = np.isfinite(values) & np.isfinite(controls)
    if not both.any():
        raise ValueError("no episode has both measures: use more steps or more episodes")
    difference, episodes = values[both] - controls[both], int(both.sum())
    low, high = interval(difference)
    word = outcome(low, high, episodes, margin)
    return {
        "mean": float(values[both].mean()),
        "control": float(controls[both].mean()),
        "difference": float(difference.mean()),
        "low": float(low),
        "high": float(high),
        "episodes": episodes,
        "outcome": word,
        "holds": word == "holds",
    }


def stays_above(
    courses: np.ndarray,
    others: np.ndarray,
    lags: np.ndarray,
    span: tuple[float, float],
    parts: int = 3,
    margin: float | None = NSS_MARGIN,
) -> dict[str, dict]:
    """Ask whether a course stays above another: whether it is above it in every part of a span.

    A single peak lifts the mean over a span, but only the part that it falls into.

    Args:
        courses: `[E, n]`, NaN for what an episode lacks.
        others: `[E, n]`, of the same episodes.
        lags: `[n]`, increasing, agent steps from the event.
        span: its first and last lag; it is cut into parts of equal length.
        parts: how many.
        margin: of `outcome`.

    Returns:
        The lags of a part in words -> what `contrast` found there; see `joint_outcome`.

    Raises:
        ValueError: if a part holds no lag, or no episode has both courses there.
    """
    lags, (first, last) = np.asarray(lags), span
    inside = lags[(lags >= first) & (lags <= last)]
    found = {}
    for number, part in enumerate(np.array_split(inside, parts), 1):
        if not part.size:
            raise ValueError(f"{len(inside)} lags from {first} to {last} make no {parts} parts")
        window, rows = np.isin(lags, part), np.arange(len(courses)).repeat(part.size)
        means = [episode_means(table[:, window].ravel(), rows) for table in (courses, others)]
        found[f"part {number}, steps {part[0]:+d} to {part[-1]:+d}"] = contrast(
            *means, margin=margin
        )
    return found


def against_controls(
    measures: Mapping[str, np.ndarray],
    controls: Collection[str],
    margin: float | None = NSS_MARGIN,
) -> dict[str, dict[str, dict]]:
    """Compare each of several measures with every control but itself.

    Args:
        measures: name -> `[E]`, of the same episodes, NaN if an episode has none.
        controls: those of the names that are controls.
        margin: of `outcome`.

    Returns:
        Name -> control -> what `contrast` found. Pairs without a common episode are left out, and
        so are names without any pair.
    """
    found: dict[str, dict[str, dict]] = {}
    for name, values in measures.items():
        for control in controls:
            if control != name and np.isfinite(values + measures[control]).any():
                test = contrast(values, measures[control], margin=margin)
                found.setdefault(name, {})[control] = test
    return found


def verdict(test: Mapping) -> str:
    """Say what `contrast` found, in a line.

    Example:
        >>> test = {"mean": 7.1, "control": 7.0, "difference": 0.1, "low": -1, "high": 1.2}
        >>> verdict(test | {"episodes": 4, "outcome": "undecided"})
        'undecided (7.10 against 7.00; difference 0.10, 95 % interval -1.00 to 1.20, n = 4)'
    """
    interval = f"95 % interval {test['low']:.2f} to {test['high']:.2f}"
    return (
        f"{test['outcome']} ({test['mean']:.2f} against {test['control']:.2f}; difference "
        f"{test['difference']:.2f}, {interval if np.isfinite(test['low']) else 'no interval'}, "
        f"n = {test['episodes']})"
    )


def joint_outcome(tests: Mapping[str, Mapping]) -> str:
    """Name the outcome of a claim against all its controls: it holds only against every one.

    A claim that does not hold is reversed, absent or undecided as its worst control says, in this
    order.
    """
    found = {test["outcome"] for test in tests.values()}
    order = ("reversed", "absent", "undecided", "holds")
    return next(word for word in order if word in found)


def what_came_out(tests: Mapping[str, Mapping], claim: str = "The claim") -> str:
    """Say in a line what a claim came to, and below it what it came to against each control.

    Args:
        tests: control -> what `contrast` found against it.
        claim: what the first line calls it.
    """
    lines = [f"  against {name}: {verdict(test)}" for name, test in tests.items()]
    return "\n".join([f"{claim}: {joint_outcome(tests)}", *lines])


def attention_in_words(thing: str, times: Mapping, untrained: Mapping) -> str:
    """Say for a title whether a map follows an object, and more than an untrained network's does.

    Args:
        thing: the object's name.
        times: what `contrast` found against the places of the object at other times; an empty
            dict if there was nothing to compare, which decides nothing.
        untrained: what `contrast` found against an untrained network's maps, likewise.

    Example:
        >>> attention_in_words("ball", {"outcome": "holds"}, {"outcome": "absent"})
        "The agent's map follows the ball, but no more than an untrained network's does"
    """
    games = f"{untrained.get('episodes', 'these')} games cannot tell"
    follows = {
        "holds": f"The agent's map follows the {thing}",
        "reversed": f"The agent's map avoids the {thing}",
        "absent": f"The agent's map does not follow the {thing}",
        "undecided": f"Whether the agent's map follows the {thing}, these games cannot tell",
    }
    more = {
        "holds": ", more than an untrained network's does",
        "reversed": ", less than an untrained network's does",
        "absent": ", but no more than an untrained network's does",
        "undecided": f"; whether an untrained network's does as much, {games}",
    }
    return follows[times.get("outcome", "undecided")] + more[untrained.get("outcome", "undecided")]
