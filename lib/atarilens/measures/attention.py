"""Attention by object: how much of a saliency map lies on the objects of a game, and where."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from atarilens.saliency import SaliencyMaps, perturbation_saliency


@dataclass(frozen=True)
class ObjectAttention:
    """Attention on one kind of object: scalars for one decision, `[T]` for T. NaN if absent.

    Attributes:
        actor_nss: normalised scanpath saliency: mean over the object's pixels of the map
            standardised to mean 0 and standard deviation 1. 0 is chance.
        actor_share: share of the map's saliency that lies nearest to this object, within 5 px of
            it, over the share of the area that does. 1 is chance.
        critic_nss: as `actor_nss`, of the critic's map; NaN where there is none.
        critic_share: as `actor_share`, of the critic's map; NaN where there is none.
    """

    actor_nss: np.ndarray
    actor_share: np.ndarray
    critic_nss: np.ndarray
    critic_share: np.ndarray


def attention_by_object(
    maps: SaliencyMaps, boxes: Mapping | Sequence[Mapping], *, radius: float = 5.0
) -> dict[str, ObjectAttention]:
    """Measure how much saliency lies on each kind of object.

    A pixel that a box covers partly counts by the covered share. A pixel within the radius of
    objects of several kinds belongs to the nearest; at equal distance it is divided equally.
    Boxes that lie outside the observation count as absent.

    Args:
        maps: of one decision, or of T.
        boxes: by name `[n, 4]`, (top, bottom, left, right) in observation pixels, half-open, n may
            be 0; one such dict, or T of them.
        radius: px, how far from the edge of its box saliency is still an object's.

    Returns:
        One `ObjectAttention` by name, for every name in any of the dicts. NaN where the object is
        absent, the map constant (NSS) or zero (share).

    Raises:
        ValueError: if the number of dicts is not that of maps, or boxes are not `[n, 4]`.
    """
    single = maps.actor.ndim == 2
    if single != isinstance(boxes, Mapping):
        raise ValueError(
            f"maps of {'one decision' if single else f'{len(maps)} decisions'} need "
            f"{'one dict of boxes' if single else 'a list of as many dicts'}, "
            f"received a {type(boxes).__name__}"
        )
    moments = [boxes] if single else list(boxes)
    actor, critic = (
        None if head is None else head[None] if single else head
        for head in (maps.actor, maps.critic)
    )
    if len(moments) != len(actor):
        raise ValueError(f"{len(actor)} maps, but boxes of {len(moments)} decisions")
    names = list(dict.fromkeys(name for moment in moments for name in moment))
    scores = np.full((4, len(names), len(moments)), np.nan)
    for t, moment in enumerate(moments):
        present = {name: _checked(name, moment.get(name, ())) for name in names}
        covers, regions = _regions(present, actor.shape[-2:], radius)
        for row, head in ((0, actor), (2, critic)):
            if head is not None:
                scores[row, :, t] = _standardised(head[t], covers)
                scores[row + 1, :, t] = _shares(head[t], regions)
    if single:
        scores = scores[..., 0]
    return {name: ObjectAttention(*scores[:, k]) for k, name in enumerate(names)}


def _checked(name: str, boxes) -> np.ndarray:
    boxes = np.asarray(boxes, np.float64)
    if boxes.size == 0:
        return np.zeros((0, 4))
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes of {name!r} have shape {boxes.shape}, expected [n, 4]")
    return boxes


def _regions(boxes: dict, shape, radius) -> tuple[np.ndarray, np.ndarray]:
    """Return how much of each pixel each object covers, and which share of it is nearest to it.

    Both are `[K, H, W]` float64 in [0, 1] for K objects.
    """
    covers, distances = [], []
    for object_boxes in boxes.values():
        cover, distance = np.zeros(shape), np.full(shape, np.inf)
        axes = [
            _along(object_boxes[:, 2 * k : 2 * k + 2], size, radius) for k, size in enumerate(shape)
        ]
        for (rows, row_gaps, high), (columns, column_gaps, wide) in zip(*axes, strict=True):
            if rows.any() and columns.any():
                near = high, wide  # no other pixel can belong to this box
                cover[near] = np.minimum(cover[near] + np.outer(rows[high], columns[wide]), 1)
                gap = np.hypot(row_gaps[high, None], column_gaps[None, wide])
                distance[near] = np.minimum(distance[near], gap)
        covers.append(cover)
        distances.append(distance)
    if not covers:
        return np.zeros((0, *shape)), np.zeros((0, *shape))
    distances = np.stack(distances)
    nearest = (distances == distances.min(0)) & (distances <= radius)
    return np.stack(covers), nearest / np.maximum(nearest.sum(0), 1)


def _along(ends: np.ndarray, size: int, radius: float) -> list[tuple]:
    """Say what boxes are along one axis.

    Args:
        ends: `[n, 2]`, first and last edge of each box.
        size: px of the axis.
        radius: see `attention_by_object`.

    Returns:
        For each box the share of each pixel that it covers `[size]`, the px from each pixel's
        centre to it `[size]`, and the slice of the pixels within the radius.
    """
    pixel, (low, high) = np.arange(size), ends.T[..., None]
    covered = np.clip(np.minimum(pixel + 1, high) - np.maximum(pixel, low), 0, 1)
    gaps = np.maximum(np.maximum(low - (pixel + 0.5), pixel + 0.5 - high), 0)
    within = (gaps <= radius) | (covered > 0)
    near = map(slice, within.argmax(1), size - within[:, ::-1].argmax(1))
    return list(zip(covered, gaps, near, strict=True))


def explained_share(maps: np.ndarray, pattern: np.ndarray) -> np.ndarray:
    """Return which share of each map's variance over its pixels a fixed pattern explains.

    This is the squared correlation of map and pattern: 1 if the map is the pattern, times a
    factor, plus a constant; 0 if it has nothing in common with it. NaN for a constant map.

    Args:
        maps: `[T, H, W]`.
        pattern: `[H, W]`, or `[T, H, W]` with one for each map.

    Returns:
        `[T]` float64 in [0, 1].
    """
    maps, pattern = (np.asarray(values, np.float64) for values in (maps, pattern))
    maps = maps - maps.mean((-2, -1), keepdims=True)
    pattern = pattern - pattern.mean((-2, -1), keepdims=True)
    common = (maps * pattern).sum((-2, -1)) ** 2
    sizes = (maps**2).sum((-2, -1)) * (pattern**2).sum((-2, -1))
    return np.divide(common, sizes, out=np.full(len(maps), np.nan), where=sizes > 0)


def _standardised(saliency: np.ndarray, covers: np.ndarray) -> np.ndarray:
    """Return the mean standardised saliency on each object, `[K]`."""
    saliency = saliency.astype(np.float64)
    weights = covers.sum((1, 2))
    deviation = saliency.std()
    if deviation <= 1e-12 * np.abs(saliency).max():  # constant but for rounding
        return np.full(len(covers), np.nan)
    total = np.einsum("kyx,yx->k", covers, (saliency - saliency.mean()) / deviation)
    return np.divide(total, weights, out=np.full(len(covers), np.nan), where=weights > 0)


def _shares(saliency: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Return each object's share of the saliency over its share of the area, `[K]`."""
    saliency = saliency.astype(np.float64)
    area = regions.mean((1, 2))
    if not saliency.sum() > 0:
        return np.full(len(regions), np.nan)
    share = np.einsum("kyx,yx->k", regions, saliency) / saliency.sum()
    return np.divide(share, area, out=np.full(len(regions), np.nan), where=area > 0)


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
    table = {}
    for name, entry in attention.items():
        means = episode_means(np.asarray(getattr(entry, measure), np.float64), episode)
        if np.isfinite(means).any():
            table[name] = means
    return table


def centres_near(
    saliency: np.ndarray, boxes: Sequence[Mapping], name: str, reach: float = 15.0
) -> np.ndarray:
    """Return how far the centre of the map around an object lies from the object's centre.

    Args:
        saliency: `[T, H, W]`, one head's maps.
        boxes: T dicts of boxes in observation pixels; the first box of `name` counts.
        name: of the object.
        reach: px beyond the box, on each side, within which the map counts.

    Returns:
        `[T, 2]` float64, (rows, columns) in observation pixels, negative above or left of the
        object; NaN if the object is absent or the map is zero there.
    """
    offsets = np.full((len(saliency), 2), np.nan)
    for t, moment in enumerate(boxes):
        found = _checked(name, moment.get(name, ()))
        if not len(found):
            continue
        edges = [(found[0][2 * k] - reach, found[0][2 * k + 1] + reach) for k in (0, 1)]
        weights = saliency[t].astype(np.float64)
        for axis, (low, high) in enumerate(edges):
            at = np.arange(weights.shape[axis]) + 0.5
            outside = (at < low) | (at > high)
            weights[(slice(None),) * axis + (outside,)] = 0
        if weights.sum() > 0:
            for axis in (0, 1):
                at = np.arange(weights.shape[axis]) + 0.5
                centre = weights.sum(1 - axis) @ at / weights.sum()
                offsets[t, axis] = centre - found[0][2 * axis : 2 * axis + 2].mean()
    return offsets


def object_alone(
    observations: np.ndarray, boxes: Sequence[Mapping], name: str, **options
) -> SaliencyMaps:
    """Return the maps of an imaginary network whose answer is the pixels of one object.

    They show how a map looks that is about nothing else: its spot is as wide as the mask, and its
    centre moves inwards if the object stands near an edge.

    Args:
        observations: `[T, C, H, W]`, in [0, 1].
        boxes: T dicts of boxes in observation pixels.
        name: of the object; a step without it gets a map of zeros.
        **options: of `perturbation_saliency`.
    """
    parts = []
    for observation, moment in zip(observations, boxes, strict=True):
        covers, _ = _regions({name: _checked(name, moment.get(name, ()))}, observation.shape[1:], 0)
        inside = torch.from_numpy((covers[0] > 0).astype(np.float32))

        def network(image, memory, inside=inside):
            return (image * inside).flatten(1), None, memory

        parts.append(perturbation_saliency(network, observation, **options))
    return SaliencyMaps(
        np.stack([part.actor for part in parts]),
        None,
        np.stack([part.actor_grid for part in parts]),
        None,
    )


def half_area(maps: np.ndarray) -> np.ndarray:
    """Return the smallest share of the pixels that holds half of each map's saliency.

    A uniform map needs half of its pixels, a map of one bright pixel less than one.

    Args:
        maps: `[..., H, W]` >= 0.

    Returns:
        `[...]` float64 in (0, 0.5]; NaN for a map of zeros. The last pixel counts partly.
    """
    maps = np.asarray(maps, np.float64)
    flat = -np.sort(-maps.reshape(*maps.shape[:-2], -1))
    total = flat.sum(-1, keepdims=True)
    before = flat.cumsum(-1) - flat
    needed = np.clip(total / 2 - before, 0, flat)  # of each pixel, the brightest first
    shares = np.divide(needed, flat, out=np.zeros_like(flat), where=flat > 0)
    return np.where(total[..., 0] > 0, shares.mean(-1), np.nan)


def episode_means(values: np.ndarray, episode: np.ndarray) -> np.ndarray:
    """Average `[n]` values within each episode, NaN left out: `[E]`, NaN if an episode has none."""
    rows = [values[(episode == number) & np.isfinite(values)] for number in np.unique(episode)]
    return np.array([row.mean() if row.size else np.nan for row in rows])


def correlation(values: np.ndarray, others: np.ndarray) -> float:
    """Return Pearson's correlation of two arrays of one shape; NaN if one of them is constant."""
    if not (np.ptp(values) and np.ptp(others)):
        return float("nan")
    return float(np.corrcoef(np.ravel(values), np.ravel(others))[0, 1])
