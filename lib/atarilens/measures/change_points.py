"""When a course changes, and whether it does so abruptly or gradually."""

from dataclasses import dataclass

import numpy as np

ABRUPT = 2  # steps: the longest change that still counts as abrupt
LEAST_STEPS = 3  # before the change, and after it
RESAMPLES = 2_000
SEED = 0


@dataclass(frozen=True)
class ChangePoint:
    """One change of a course, from one level to another. Intervals are 95 %, over episodes.

    Attributes:
        onset: last step at the old level, in steps from the event (0 is the event).
        onset_interval: (low, high).
        duration: steps that the change takes: 1 means that the next step has the new level.
        duration_interval: (low, high).
        rise: mean over episodes of the new level minus the old one.
        rise_interval: (low, high).
        explained: share of the variance around each episode's mean that the change explains.
        episodes: how many courses were used.
        kind: "abrupt" (the duration's interval ends at 2 steps or before), "gradual" (it begins
            beyond 2 steps), "undecided" (neither), or "none" (the rise's interval includes 0).
    """

    onset: float
    onset_interval: tuple[float, float]
    duration: float
    duration_interval: tuple[float, float]
    rise: float
    rise_interval: tuple[float, float]
    explained: float
    episodes: int
    kind: str


def change_point(
    courses: np.ndarray,
    steps: np.ndarray | None = None,
    *,
    longest: int = 30,
    own_onsets: bool = False,
    seed: int = SEED,
) -> ChangePoint:
    """Find the one change that fits courses best: a level, a straight rise or fall, a level.

    Least squares over every onset and duration, each episode with levels of its own. The change
    happens at the same onset in all episodes unless `own_onsets` is set. Courses whose onsets
    differ have a gradual mean even if each of them is abrupt: use `own_onsets` to tell the two
    apart; its `onset` is then the median over episodes. Intervals come from 2,000 resamples of
    the episodes, each of which chooses onset and duration anew.

    Args:
        courses: `[E, n]`, one row per episode, for example of `around_events`. NaN entries are
            left out; rows with fewer than 8 numbers are dropped.
        steps: `[n]` increasing, the time of each column from the event; by default the columns'
            distance from the middle one.
        longest: steps, the longest duration that is tried.
        own_onsets: let each episode have its own onset; the duration is shared.
        seed: of the resamples.

    Raises:
        ValueError: if shapes do not fit, or fewer than three courses are left.

    Reference:
        Hinkley (1970), "Inference about the change-point in a sequence of random variables"; the
        straight transition between the two levels is our addition.
    """
    courses = np.asarray(courses, np.float64)
    if courses.ndim != 2:
        raise ValueError(f"courses have shape {courses.shape}, expected [E, n]")
    width = courses.shape[1]
    steps = np.arange(width) - width // 2 if steps is None else np.asarray(steps)
    if steps.shape != (width,) or (np.diff(steps) <= 0).any():
        raise ValueError(f"steps must be {width} increasing numbers, received {steps.shape}")
    courses = courses[np.isfinite(courses).sum(1) >= 2 * LEAST_STEPS + 2]
    if len(courses) < 3:
        raise ValueError(f"a change point needs three courses or more, {len(courses)} are left")
    onsets, durations, ramps = _ramps(steps, longest)
    errors, rises = _fit(courses, ramps)  # [E, F]
    total = np.nansum((courses - np.nanmean(courses, 1, keepdims=True)) ** 2)

    kinds = np.unique(durations)
    if own_onsets:
        columns = [np.flatnonzero(durations == kind) for kind in kinds]
        best = np.stack([each[errors[:, each].argmin(1)] for each in columns], 1)  # [E, kinds]
        errors = np.take_along_axis(errors, best, 1)
    else:
        best = np.broadcast_to(np.arange(len(onsets)), errors.shape)

    generator = np.random.default_rng(seed)
    drawn = generator.multinomial(len(courses), np.full(len(courses), 1 / len(courses)), RESAMPLES)
    weights = np.concatenate([np.ones((1, len(courses))), drawn])
    summed = weights @ errors
    chosen = summed.argmin(1)
    fits = best[:, chosen].T  # [1 + RESAMPLES, E]
    numbers = {
        "onset": np.array(
            [
                np.median(np.repeat(onsets[f], w.astype(int)))
                for f, w in zip(fits, weights, strict=True)
            ]
        )
        if own_onsets
        else onsets[fits[:, 0]].astype(np.float64),
        "duration": durations[fits[:, 0]].astype(np.float64),
        "rise": (weights * rises[np.arange(len(courses)), fits]).sum(1) / len(courses),
    }
    found = {
        name: (float(each[0]), tuple(float(q) for q in np.quantile(each[1:], (0.025, 0.975))))
        for name, each in numbers.items()
    }
    low, high = found["duration"][1]
    kind = "abrupt" if high <= ABRUPT else "gradual" if low > ABRUPT else "undecided"
    if found["rise"][1][0] <= 0 <= found["rise"][1][1]:
        kind = "none"
    explained = 1 - float(summed[0, chosen[0]] / total) if total > 0 else float("nan")
    return ChangePoint(
        *(part for name in numbers for part in found[name]), explained, len(courses), kind
    )


def change_in_words(change: ChangePoint) -> str:
    """Say in a line whether a course rises or falls, when, and how abruptly.

    Example:
        >>> change_in_words(ChangePoint(-9, (-9, -8), 1, (1, 1), 2.0, (1.5, 2.4), 0.9, 5, "abrupt"))
        'abrupt rise after step -9 (-9 to -8), done in 1 (1 to 1) steps, n = 5'
    """
    if change.kind == "none":
        return f"no change that these games can tell from none, n = {change.episodes}"
    (low, high), (fast, slow) = change.onset_interval, change.duration_interval
    how = "abrupt or gradual, undecided:" if change.kind == "undecided" else change.kind
    return (
        f"{how} {'rise' if change.rise > 0 else 'fall'} after step {change.onset:+.0f} "
        f"({low:+.0f} to {high:+.0f}), done in {change.duration:.0f} ({fast:.0f} to {slow:.0f}) "
        f"steps, n = {change.episodes}"
    )


def _ramps(steps: np.ndarray, longest: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return onsets `[F]`, durations `[F]` and courses from 0 to 1 `[F, n]` of every change."""
    onsets, durations, ramps = [], [], []
    for first in steps[LEAST_STEPS - 1 : -LEAST_STEPS]:
        for duration in range(1, longest + 1):
            ramp = np.clip((steps - first) / duration, 0, 1)
            if (ramp == 1).sum() < LEAST_STEPS:
                break
            onsets.append(first)
            durations.append(duration)
            ramps.append(ramp)
    return np.array(onsets), np.array(durations), np.array(ramps)


def _fit(courses: np.ndarray, ramps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fit level + rise * ramp to each course: squared errors and rises, both `[E, F]`."""
    there = np.isfinite(courses)
    y = np.where(there, courses, 0)
    count = there.sum(1)[:, None]
    y_mean = y.sum(1, keepdims=True) / count
    x_mean = there @ ramps.T / count
    xx = there @ (ramps**2).T - count * x_mean**2
    xy = y @ ramps.T - count * x_mean * y_mean
    rises = np.divide(xy, xx, out=np.zeros_like(xy), where=xx > 1e-12)
    yy = np.where(there, (y - y_mean) ** 2, 0).sum(1, keepdims=True)
    return np.maximum(yy - rises * xy, 0), rises
