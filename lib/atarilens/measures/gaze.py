"""Agreement of saliency maps with where people look: NSS, KL divergence, shuffled AUC.

The plain functions follow the paper rule by rule, also where a rule drops a frame (NaN). The
`corrected` columns of `gaze_scores` mend what its rules cannot tell apart.

Reference:
    Nikulin et al. (2019), "Free-Lunch Saliency via Attention in Atari Agents", arXiv:1908.02511,
    section on evaluation against human gaze.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from PIL import Image
from scipy.ndimage import gaussian_filter

EPSILON = 1e-7  # of the corrected KL divergence, per pixel of maps whose sum is 1
OTHER_FRAMES = 10  # whose fixations are the shuffled AUC's negatives
NO_FIXATION = "nobody looked at the screen"
NOT_FINITE = "the map is not finite"
CONSTANT = "the map is constant"
HAS_ZEROS = "the map is 0 where somebody looked"
NO_OTHERS = "nobody looked at the other frames"


def nss(saliency, fixations) -> float:
    """Return the normalised scanpath saliency: the mean standardised saliency at fixations.

    Args:
        saliency: `[H, W]`, >= 0.
        fixations: `[H, W]`, how many gaze points fell on each pixel.

    Returns:
        0 is chance, more is better. NaN if there is no fixation, the map is not finite, or its
        standard deviation is below 1e-8.

    Raises:
        ValueError: if shapes differ, or a number is negative.

    Reference:
        Peters et al. (2005), "Components of bottom-up gaze allocation in natural images".
    """
    saliency, fixations = _checked(saliency, fixations)
    return float("nan") if _why_no_nss(saliency, fixations) else _nss(saliency, fixations)


def kl_divergence(
    saliency, fixations, sigma: float = 5.0, *, epsilon: float | None = None
) -> float:
    """Return the Kullback-Leibler divergence of the map from the blurred fixations, in nats.

    Both are divided by their sums (the paper writes "normalised to [0..1]").

    Args:
        saliency: `[H, W]`, >= 0.
        fixations: `[H, W]`, counts.
        sigma: px, of the Gaussian blur of the fixations; 5 on a screen, 2 on 84 x 84.
        epsilon: None for the paper's rule, which drops every frame whose map has a 0 (below 1e-8)
            where the blurred fixations do not. A number is added to each pixel of both maps after
            they were divided by their sums, and they are divided by their sums again.
            Deviation: the MIT benchmark adds it inside of the logarithm; then a map's divergence
            from itself is not 0.

    Returns:
        0 for equal maps, less is better. NaN if there is no fixation, the map is not finite, or
        the paper's rule drops the frame.

    Raises:
        ValueError: if shapes differ, or a number is negative.
    """
    saliency, fixations = _checked(saliency, fixations)
    blurred = _blurred(fixations, sigma)
    reason = _why_no_kl(saliency, fixations, blurred, epsilon)
    return float("nan") if reason else _kl(saliency, blurred, epsilon)


def shuffled_auc(saliency, fixations, others, splits: int = 100, seed: int = 42) -> float:
    """Return the area under the ROC curve that tells fixations from those of other frames.

    Negatives have the places where people look on other frames, so that a map of the centre does
    not win by the general habit of looking there.

    Args:
        saliency: `[H, W]`, >= 0.
        fixations: `[H, W]`, counts; each of the n gaze points is a positive.
        others: `[H, W]`, the summed counts of other frames, see `other_fixations`; n negatives
            are drawn from it with replacement in each split.
        splits: draws of negatives, over which the mean is taken.
        seed: of the draws, anew for each frame.

    Returns:
        0.5 is chance, 1 the best. NaN if there is no fixation, neither here nor in the other
        frames, or the map is not finite or constant.

    Raises:
        ValueError: if shapes differ, or a number is negative.
    """
    saliency, fixations = _checked(saliency, fixations)
    others = _checked(saliency, others)[1]
    reason = _why_no_auc(saliency, fixations, others)
    return float("nan") if reason else _auc(saliency, fixations, others, splits, seed)


def _checked(saliency, fixations) -> tuple[np.ndarray, np.ndarray]:
    saliency, fixations = np.asarray(saliency, np.float64), np.asarray(fixations, np.float64)
    if saliency.ndim != 2 or saliency.shape != fixations.shape:
        raise ValueError(
            f"saliency has shape {saliency.shape} and fixations {fixations.shape}, "
            "expected the same [H, W]"
        )
    if (saliency < 0).any() or not (fixations >= 0).all():
        raise ValueError("saliency and fixations must not be negative")
    return saliency, fixations


def _blurred(fixations: np.ndarray, sigma: float) -> np.ndarray:
    return gaussian_filter(fixations, sigma, mode="mirror", truncate=4.0)


def _why_no_nss(saliency, fixations) -> str:
    if not fixations.any():
        return NO_FIXATION
    if not np.isfinite(saliency).all():
        return NOT_FINITE
    return CONSTANT if np.isclose(saliency.std(), 0) else ""


def _nss(saliency, fixations) -> float:
    standardised = (saliency - saliency.mean()) / saliency.std()
    return float(np.average(standardised, weights=fixations))


def _why_no_kl(saliency, fixations, blurred, epsilon) -> str:
    if not fixations.any():
        return NO_FIXATION
    if not np.isfinite(saliency).all():
        return NOT_FINITE
    if epsilon is not None:
        return "" if saliency.any() else HAS_ZEROS
    zero = np.isclose(saliency, 0)
    return HAS_ZEROS if zero.all() or (zero & (blurred > 0)).any() else ""


def _kl(saliency, blurred, epsilon) -> float:
    if epsilon is not None:
        saliency, blurred = (each / each.sum() + epsilon for each in (saliency, blurred))
    return float(scipy.stats.entropy(blurred.ravel(), saliency.ravel()))


def _why_no_auc(saliency, fixations, others) -> str:
    if not fixations.any():
        return NO_FIXATION
    if not others.any():
        return NO_OTHERS
    if not np.isfinite(saliency).all():
        return NOT_FINITE
    return CONSTANT if saliency.max() == saliency.min() else ""


def _auc(saliency, fixations, others, splits, seed) -> float:
    flat = saliency.ravel()
    positives = np.repeat(flat, fixations.ravel().astype(int))
    count = len(positives)
    shares = others.ravel() / others.sum()
    drawn = np.random.RandomState(seed).choice(flat.size, size=(splits, count), p=shares)
    scores = np.concatenate([np.broadcast_to(positives, (splits, count)), flat[drawn]], 1)
    ranks = scipy.stats.rankdata(scores, axis=1)[:, :count].sum(1)  # ties share their mean rank
    return float(((ranks - count * (count + 1) / 2) / count**2).mean())


def maps_on_screen(
    maps: np.ndarray,
    region: Sequence[int] = (0, 210, 0, 160),
    screen: tuple[int, int] = (210, 160),
) -> np.ndarray:
    """Spread maps of observations over the screen, where gaze is measured.

    Bilinear between pixel centres.
    Deviation: beyond the outermost centres the edge's value is held, where the paper's resize
    mirrors the map: this concerns the outermost px.

    Args:
        maps: `[T, H, W]`, >= 0.
        region: (top, bottom, left, right) in px of the screen that an observation covers; the maps
            are 0 elsewhere.
        screen: (height, width) in px.

    Returns:
        `[T, height, width]` float32, >= 0.
    """
    top, bottom, left, right = region
    spread = np.zeros((len(maps), *screen), np.float32)
    for place, one in zip(spread, np.asarray(maps, np.float32), strict=True):
        resized = Image.fromarray(one).resize((right - left, bottom - top), Image.BILINEAR)
        place[top:bottom, left:right] = np.maximum(resized, 0)
    return spread


def other_fixations(
    fixations: np.ndarray, count: int = OTHER_FRAMES, seed: int = 42
) -> Iterator[np.ndarray]:
    """Yield for each frame of a trial the summed fixations of other frames of the same trial.

    Args:
        fixations: `[T, H, W]`, counts; T >= 2.
        count: frames, drawn with replacement from all frames but this one.
        seed: of the draws of the whole trial.

    Raises:
        ValueError: if there is a single frame.
    """
    if len(fixations) < 2:
        raise ValueError("a trial needs two frames or more, to draw other frames from")
    generator = np.random.RandomState(seed)
    for t in range(len(fixations)):
        drawn = generator.randint(len(fixations) - 1, size=count)
        yield fixations[drawn + (drawn >= t)].sum(0)


@dataclass(frozen=True)
class GazeScores:
    """The metrics of one trial.

    Attributes:
        columns: name -> `[T]` float64, NaN where a frame is dropped. "nss", "kl" and
            "shuffled_auc" follow the paper's rules. Their "_corrected" versions first divide the
            map of each frame by its maximum (so that "close to 0" does not depend on the unit of
            the map); the KL divergence then adds 1e-7 to each pixel of both maps.
        dropped: name -> reason -> number of frames.
    """

    columns: dict[str, np.ndarray]
    dropped: dict[str, dict[str, int]]


def gaze_scores(
    saliency: Sequence[np.ndarray],
    fixations: np.ndarray,
    *,
    sigma: float = 5.0,
    splits: int = 100,
    seed: int = 42,
) -> GazeScores:
    """Score the maps of one trial against the gaze of one person.

    Args:
        saliency: `[T, H, W]`, >= 0.
        fixations: `[T, H, W]`, counts.
        sigma: see `kl_divergence`.
        splits: see `shuffled_auc`.
        seed: of both draws, of other frames and of negatives.

    Raises:
        ValueError: if shapes differ, or a number is negative.
    """
    if len(saliency) != len(fixations):
        raise ValueError(f"{len(saliency)} maps, but fixations of {len(fixations)} frames")
    rows: dict[str, list[float]] = {}
    dropped: dict[str, Counter] = {}

    def note(column, reason, metric, *arguments):
        rows.setdefault(column, []).append(float("nan") if reason else metric(*arguments))
        dropped.setdefault(column, Counter()).update([reason] if reason else [])

    for s, f, o in zip(saliency, fixations, other_fixations(fixations, seed=seed), strict=True):
        s, f = _checked(s, f)
        o, blurred, peak = o.astype(np.float64), _blurred(f, sigma), s.max()
        scaled = s / peak if np.isfinite(peak) and peak > 0 else s
        for suffix, m, epsilon in (("", s, None), ("_corrected", scaled, EPSILON)):
            note(f"nss{suffix}", _why_no_nss(m, f), _nss, m, f)
            reason = _why_no_kl(m, f, blurred, epsilon)
            note(f"kl{suffix}", reason, _kl, m, blurred, epsilon)
            reason = _why_no_auc(m, f, o)
            note(f"shuffled_auc{suffix}", reason, _auc, m, f, o, splits, seed)
    return GazeScores(
        {name: np.array(values) for name, values in rows.items()},
        {name: dict(counts) for name, counts in dropped.items()},
    )


def aggregate_gaze(trials: Sequence[GazeScores]) -> dict[str, Mapping]:
    """Average first over the frames of each trial that count, then over trials.

    Args:
        trials: of `gaze_scores`.

    Returns:
        Column -> "mean" (NaN if no trial has a frame), "per_trial" `[n]` (NaN likewise),
        "dropped_share" of all frames, and "dropped", reason -> number of frames.
    """
    table = {}
    for column in trials[0].columns:
        values = [trial.columns[column] for trial in trials]
        counted = [each[np.isfinite(each)] for each in values]
        means = np.array([each.mean() if each.size else np.nan for each in counted])
        reasons: Counter = Counter()
        for trial in trials:
            reasons.update(trial.dropped[column])
        there = means[np.isfinite(means)]
        table[column] = {
            "mean": float(there.mean()) if there.size else float("nan"),
            "per_trial": means,
            "dropped_share": 1 - sum(map(len, counted)) / max(sum(map(len, values)), 1),
            "dropped": dict(reasons),
        }
    return table
