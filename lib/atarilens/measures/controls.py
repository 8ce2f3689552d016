"""Numbers per whole episode, and the controls that every claim about them needs."""

from collections.abc import Mapping, Sequence

import numpy as np


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
