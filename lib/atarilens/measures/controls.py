"""Numbers per whole episode, and the controls that every claim about them needs."""

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np

from atarilens.games import object_boxes, to_observation

FEWEST = 3  # episodes that a claim needs: an interval over one or two of them says nothing


def spread_steps(episode: np.ndarray, count: int) -> np.ndarray:
    """Choose about `count` steps, evenly spaced through every episode, in proportion to its length.

    Args:
        episode: `[T]` int, which episode each step belongs to.
        count: number of steps; every episode gets at least two.

    Returns:
        `[n]` int, increasing. Of an episode with more steps than its share neither the first nor
        the last is among them; an episode of a single step, of which there is no other time, is
        left out unless it is the only one.
    """
    chosen = []
    numbers, lengths = np.unique(episode, return_counts=True)
    for number in numbers[(lengths > 1) | (len(numbers) == 1)]:
        steps = np.flatnonzero(episode == number)
        share = min(len(steps), max(2, round(count * len(steps) / len(episode))))
        chosen.append(steps[((np.arange(share) + 0.5) * len(steps) / share).astype(int)])
    return np.concatenate(chosen)


def boxes_at(
    game: str, ram: np.ndarray, region: Sequence[int], shape: tuple[int, int] = (80, 80)
) -> list[dict[str, np.ndarray]]:
    """Return the objects' boxes of n steps in observation pixels.

    Args:
        game: name of the game.
        ram: `[n, 128]` uint8.
        region: (top, bottom, left, right) of the screen that the observation covers.
        shape: (H, W) of the observation.
    """
    return [to_observation(object_boxes(game, row), tuple(region), shape) for row in ram]


def apart(boxes: Mapping, name: str, other: str, distance: float = 10.0) -> dict:
    """Leave out the boxes of one object that are near to another object: a spot covers both.

    Args:
        boxes: object -> `[n, 4]`, in observation pixels.
        name: of the object whose boxes are left out.
        other: of the object that they must be apart from.
        distance: px, between the edges of two boxes, from which on they are.
    """
    kept = []
    for box in boxes.get(name, ()):
        gaps = [
            np.hypot(
                max(box[0] - near[1], near[0] - box[1], 0),
                max(box[2] - near[3], near[2] - box[3], 0),
            )
            for near in boxes.get(other, ())
        ]
        if min(gaps, default=np.inf) >= distance:
            kept.append(box)
    return {**boxes, name: np.reshape(kept, (-1, 4))}


def other_times(boxes: Sequence[Mapping], episode: np.ndarray) -> list[Mapping]:
    """Give every step the boxes of another: half of its episode later, round to its start.

    The control for attention: a map may lie on an object merely because the object is often there.

    Args:
        boxes: n dicts of boxes.
        episode: `[n]` int, which episode each belongs to; at least two steps of each.

    Raises:
        ValueError: if an episode has a single step, which has no other time.
    """
    shuffled = list(boxes)
    for number in np.unique(episode):
        steps = np.flatnonzero(episode == number)
        if len(steps) < 2:
            raise ValueError(f"episode {number} has one step only, expected two or more")
        for step, other in zip(steps, np.roll(steps, -(len(steps) // 2)), strict=True):
            shuffled[step] = boxes[other]
    return shuffled


def by_episode(
    attention: Mapping, episode: np.ndarray, measure: str = "actor_nss"
) -> dict[str, np.ndarray]:
    """Average a measure of attention over the steps of each episode.

    Args:
        attention: object -> `saliency.ObjectAttention` of `[n]` steps, NaN where it is absent.
        episode: `[n]` int.
        measure: name of a field of `ObjectAttention`.

    Returns:
        Object -> `[E]` float64, NaN for an episode that never shows it. An object that no episode
        shows is left out.
    """
    rows = [episode == number for number in np.unique(episode)]
    table = {}
    for name, entry in attention.items():
        values = np.asarray(getattr(entry, measure), np.float64)
        seen = [values[row][np.isfinite(values[row])] for row in rows]
        means = np.array([v.mean() if v.size else np.nan for v in seen])
        if np.isfinite(means).any():
            table[name] = means
    return table


def around_events(
    values: np.ndarray, events: np.ndarray, episode: np.ndarray, window: int
) -> np.ndarray:
    """Average a curve around events, each episode by itself and over its own mean.

    Args:
        values: `[T]`, for example the memory's saliency.
        events: `[n]` int, steps. Events closer to an end of their episode than the window are
            left out.
        episode: `[T]` int.
        window: steps before and after.

    Returns:
        `[E, 2 * window + 1]` float64, a row per episode, NaN where it has no such event; column
        `window` is the event itself; 1 is the episode's mean.
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


def elsewhere(events: np.ndarray, episode: np.ndarray) -> np.ndarray:
    """Move every event by half of its episode (and round to its start): the control for timing.

    Args:
        events: `[n]` int, steps.
        episode: `[T]` int.

    Returns:
        `[n]` int, the place of each event, in the order of the events.
    """
    moved = events.copy()
    for number in np.unique(episode[events]):
        steps, own = np.flatnonzero(episode == number), episode[events] == number
        moved[own] = steps[0] + (events[own] - steps[0] + len(steps) // 2) % len(steps)
    return moved


def different_episodes(
    frames: np.ndarray, episode: np.ndarray, most_shared: float = 0.9
) -> np.ndarray:
    """Return the episodes that are not copies: whose screens have not, but for a few, been seen.

    A greedy agent in a deterministic game plays the same game again and again, perhaps a step
    later; copies of one game are not evidence of their own.

    Args:
        frames: `[T, ...]` uint8, the screens.
        episode: `[T]` int.
        most_shared: share of an episode's steps whose screens may occur in earlier episodes.

    Returns:
        `[E]` int, numbers of episodes, increasing.
    """
    seen, different = set(), []
    for number in np.unique(episode):
        screens = [hash(frames[t].tobytes()) for t in np.flatnonzero(episode == number)]
        if np.mean([screen in seen for screen in screens]) <= most_shared:
            different.append(number)
        seen.update(screens)
    return np.array(different)


def intervals(
    conditions: Mapping[str, Mapping[str, np.ndarray]],
    interval: Callable[[np.ndarray], tuple],
) -> dict[str, dict[str, tuple]]:
    """Return the interval of the mean of each entry condition -> object -> `[E]`, NaN left out."""
    return {
        condition: {name: interval(v[np.isfinite(v)]) for name, v in row.items()}
        for condition, row in conditions.items()
    }


def contrast(
    values: np.ndarray, controls: np.ndarray, interval: Callable[[np.ndarray], tuple]
) -> dict[str, float | bool]:
    """Compare two measures of the same episodes.

    Args:
        values: `[E]`, NaN where an episode has none.
        controls: `[E]`, of the same episodes.
        interval: gives (low, high) of the mean of `[n]` values, for example
            `evaluation.mean_interval`.

    Returns:
        "mean" and "control" (means over the episodes that have both), "difference", "low" and
        "high" of its interval, "episodes", and "holds": whether the whole interval is above 0, for
        which at least three episodes are needed.

    Raises:
        ValueError: if no episode has both.
    """
    both = np.isfinite(values) & np.isfinite(controls)
    if not both.any():
        raise ValueError("no episode has both measures: use more steps or more episodes")
    difference = values[both] - controls[both]
    low, high = interval(difference)
    return {
        "mean": float(values[both].mean()),
        "control": float(controls[both].mean()),
        "difference": float(difference.mean()),
        "low": float(low),
        "high": float(high),
        "episodes": int(both.sum()),
        "holds": bool(low > 0 and both.sum() >= FEWEST),
    }


def verdict(test: Mapping) -> str:
    """Say what `contrast` found: "holds (0.61 against 0.02, difference 0.59, 95 % interval ...".

    Args:
        test: of `contrast`.
    """
    return (
        f"{_word([test])} ({test['mean']:.2f} against {test['control']:.2f}; difference "
        f"{test['difference']:.2f}, 95 % interval {test['low']:.2f} to {test['high']:.2f}, "
        f"n = {test['episodes']})"
    )


def joint_verdict(tests: Mapping[str, Mapping]) -> str:
    """Say whether a claim holds against every control: "holds (1.30; against elsewhere 0.97: yes".

    Args:
        tests: control -> what `contrast` found against it, of the same measure.
    """
    found = ", ".join(
        f"{name} {test['control']:.2f}: {'yes' if test['holds'] else 'no'}"
        for name, test in tests.items()
    )
    mean, episodes = (next(iter(tests.values()))[key] for key in ("mean", "episodes"))
    return f"{_word(tests.values())} ({mean:.2f}; against {found}; n = {episodes})"


def _word(tests: Collection[Mapping]) -> str:
    if any(test["episodes"] < FEWEST for test in tests):
        return f"cannot be judged from fewer than {FEWEST} episodes"
    return "holds" if all(test["holds"] for test in tests) else "does not hold"
