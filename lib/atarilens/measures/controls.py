"""Choose steps, and make the controls that a claim must beat."""

from collections.abc import Mapping, Sequence

import numpy as np


def spread_steps(episode: np.ndarray, count: int) -> np.ndarray:
    """Choose about `count` steps, evenly spaced through every episode, in proportion to its length.

    Args:
        episode: `[T]` int, which episode each step belongs to.
        count: number of steps; every episode gets at least two.

    Returns:
        `[n]` int, increasing. An episode of a single step has no other time (see `other_times`)
        and is left out, unless it is the only one.
    """
    chosen = []
    numbers, lengths = np.unique(episode, return_counts=True)
    for number in numbers[(lengths > 1) | (len(numbers) == 1)]:
        steps = np.flatnonzero(episode == number)
        share = min(len(steps), max(2, round(count * len(steps) / len(episode))))
        chosen.append(steps[((np.arange(share) + 0.5) * len(steps) / share).astype(int)])
    return np.concatenate(chosen)


def apart(boxes: Mapping, name: str, other: str, distance: float = 10.0) -> dict:
    """Leave out the boxes of one object near another object: one blurred spot covers both.

    Args:
        boxes: object -> `[n, 4]`, in observation pixels.
        name: of the object whose boxes are left out.
        other: of the object that they must be apart from.
        distance: px between the edges of two boxes; nearer ones are left out.
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
    """Pair each step with the boxes half an episode later, wrapping around.

    This is a control for attention: a map may lie on an object merely because both are often at
    the same place.

    Args:
        boxes: n dicts of boxes.
        episode: `[n]` int, which episode each belongs to.

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
    """Move each event by half an episode, wrapping around: a control for timing.

    Args:
        events: `[n]` int, steps.
        episode: `[T]` int.

    Returns:
        `[n]` int, steps, in the order of the events.
    """
    moved = events.copy()
    for number in np.unique(episode[events]):
        steps, own = np.flatnonzero(episode == number), episode[events] == number
        moved[own] = steps[0] + (events[own] - steps[0] + len(steps) // 2) % len(steps)
    return moved


def different_episodes(
    frames: np.ndarray, episode: np.ndarray, most_shared: float = 0.9
) -> np.ndarray:
    """Return the episodes that do not repeat earlier ones.

    A greedy agent in a deterministic game plays the same game again and again, perhaps a step
    later; such copies are no additional evidence.

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
