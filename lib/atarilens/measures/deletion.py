"""How much an object matters to a decision: delete it, or divide its saliency by its visibility."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import scipy

from atarilens.saliency import SaliencyMaps, saliency_maps
from atarilens.saliency.calling import as_batch, network_outputs

RING = 2  # px around a box, whose commonest colour counts as the background
TRIES = 1000  # random places that are tried for a control patch


def painted_over(screen, boxes, background=None, *, margin: float = 0.0) -> np.ndarray:
    """Paint the background over boxes of a screen, so that what stood there is gone.

    Args:
        screen: `[H, W, 3]` or `[H, W]`, any dtype; it is not modified.
        boxes: `[n, 4]`, (top, bottom, left, right) in px of the screen, half-open. A pixel that a
            box covers partly is painted.
        background: a screen of the same shape to copy from, or one colour (`[3]`, or a number for
            `[H, W]`). None takes, for each box, the commonest colour within 2 px around it.
        margin: px, painted around each box as well. A screen is the maximum of two frames, so
            that a moving object reaches beyond its box by one frame's motion, 1 to 4 px.

    Returns:
        A painted copy, with the shape and dtype of the screen.

    Raises:
        ValueError: if a shape is not as described.
    """
    screen = np.asarray(screen)
    if screen.ndim not in (2, 3):
        raise ValueError(f"screen has shape {screen.shape}, expected [H, W, 3] or [H, W]")
    painted = screen.copy()
    if background is not None:
        background = np.asarray(background)
        if background.shape not in (screen.shape, screen.shape[2:]):
            raise ValueError(
                f"background has shape {background.shape}, expected {screen.shape} "
                f"or one colour {screen.shape[2:]}"
            )
        background = np.broadcast_to(background, screen.shape)
    for box in _checked(boxes) + margin * np.array([-1, 1, -1, 1]):
        rows, columns = _pixels(box, screen.shape[:2])
        if background is None:
            painted[rows, columns] = _colour_around(screen, rows, columns)
        else:
            painted[rows, columns] = background[rows, columns]
    return painted


def _checked(boxes) -> np.ndarray:
    boxes = np.asarray(boxes, np.float64)
    if boxes.size == 0:
        return np.zeros((0, 4))
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes have shape {boxes.shape}, expected [n, 4]")
    return boxes


def _pixels(box: Sequence[float], shape: Sequence[int]) -> tuple[slice, slice]:
    """Return the rows and columns that a box touches, cut at the screen's edges."""
    top, bottom, left, right = box
    return tuple(
        slice(max(math.floor(low), 0), max(min(math.ceil(high), size), 0))
        for low, high, size in ((top, bottom, shape[0]), (left, right, shape[1]))
    )


def _colour_around(screen: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
    """Return the commonest colour in the ring around a box; the screen's, if there is no ring."""
    top, left = max(rows.start - RING, 0), max(columns.start - RING, 0)
    around = screen[top : rows.stop + RING, left : columns.stop + RING]
    ring = np.ones(around.shape[:2], bool)
    ring[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = False
    colours = around[ring] if ring.any() else screen.reshape(-1, *screen.shape[2:])
    kinds, counts = np.unique(colours, axis=0, return_counts=True)
    return kinds[counts.argmax()]


def places_elsewhere(
    boxes,
    avoid,
    region: Sequence[int],
    generator: np.random.Generator,
    *,
    distance: float = 5.0,
) -> np.ndarray:
    """Choose for each box a random place of the same size, away from every object.

    Args:
        boxes: `[n, 4]`, px of the screen: the objects that are deleted.
        avoid: `[m, 4]`: all objects of the screen; the boxes themselves are avoided anyway.
        region: (top, bottom, left, right), the part of the screen that the agent reads.
        generator: draws the places.
        distance: px, the smallest gap to any object.

    Returns:
        `[n, 4]` float64. The offset from its box is a whole number of pixels, so that a pasted
        object keeps its pixels.

    Raises:
        ValueError: if a box does not fit into the region, or 1,000 random places are all taken.
    """
    boxes = _checked(boxes)
    taken = np.concatenate([boxes, _checked(avoid)])
    top, bottom, left, right = region
    places = []
    for box in boxes:
        low = math.ceil(top - box[0]), math.ceil(left - box[2])
        high = math.floor(bottom - box[1]), math.floor(right - box[3])
        if low[0] > high[0] or low[1] > high[1]:
            raise ValueError(f"box {box} does not fit into the region {tuple(region)}")
        for _ in range(TRIES):
            down, across = generator.integers(low, high, endpoint=True)
            place = np.add(box, (down, down, across, across))
            gaps = np.maximum(
                np.maximum(taken[:, 0] - place[1], place[0] - taken[:, 1]),
                np.maximum(taken[:, 2] - place[3], place[2] - taken[:, 3]),
            )
            if (gaps >= distance).all():
                break
        else:
            raise ValueError(f"no place {distance:g} px from every object was found for box {box}")
        places.append(place)
        taken = np.concatenate([taken, place[None]])
    return np.reshape(places, (-1, 4))


def pasted(screen, boxes, places, background=None) -> np.ndarray:
    """Paste what boxes show at other places: the fair control for painting the boxes over.

    Painting the background over background changes nothing, so a patch painted elsewhere cannot
    move any agent. A pasted copy changes as many pixels by as much as the deletion does.

    Args:
        screen: `[H, W, 3]` or `[H, W]`; it is not modified.
        boxes: `[n, 4]`, px of the screen.
        places: `[n, 4]`, of `places_elsewhere`.
        background: a screen of the same shape: only pixels that differ from it are pasted, so that
            an object comes without its surroundings. None pastes the whole box.

    Raises:
        ValueError: if a place has another size than its box.
    """
    screen = np.asarray(screen)
    changed = screen.copy()
    object_pixels = np.ones(screen.shape[:2], bool)
    if background is not None:
        object_pixels = (screen != background).reshape(*screen.shape[:2], -1).any(-1)
    for box, place in zip(_checked(boxes), _checked(places), strict=True):
        source, target = _pixels(box, screen.shape[:2]), _pixels(place, screen.shape[:2])
        if screen[source].shape != screen[target].shape:
            raise ValueError(f"place {place} has another size than its box {box}")
        chosen = object_pixels[source]
        changed[target][chosen] = screen[source][chosen]
    return changed


@dataclass(frozen=True)
class Effect:
    """How far a change of the observation moves the decisions, `[T]` each (scalars for one).

    Attributes:
        total_variation: half the summed absolute change of the action probabilities, in
            percentage points, 0 to 100.
        flip: bool, whether the likeliest action changes.
        logit: half the summed squared change of the action logits, after the mean change, which no
            probability feels, is taken off: the centred score of `perturbation_saliency`.
        value: value after minus value before, in the units of the value; divide it by the value's
            standard deviation over the agent's play to compare agents. None without a value.
    """

    total_variation: np.ndarray
    flip: np.ndarray
    logit: np.ndarray
    value: np.ndarray | None


def deletion_effect(network, observation, painted, memory=None, *, scale: float = 1.0) -> Effect:
    """Measure how far a decision moves when the observation is replaced by a painted one.

    The memory that enters the step stays the same, so the effect is that of this moment's screen.

    Args:
        network: see `atarilens.saliency`. For a Q-network the probabilities are the softmax of
            its Q-values, which is not the policy it plays: rely on the flips and the value.
        observation: `[C, H, W]` or `[T, C, H, W]`, in [0, 1], as the agent read it.
        painted: of the same shape, preprocessed from the painted screens.
        memory: `[k, M]` or `[T, k, M]`, entering the step; None for a network without memory.
        scale: factor on the action logits, see `scale_to_entropy`.

    Raises:
        ValueError: if a shape is not as described.
    """
    if np.shape(painted) != np.shape(observation):
        raise ValueError(f"painted has shape {np.shape(painted)}, expected {np.shape(observation)}")
    painted, _, _ = as_batch(network, painted, memory)
    observation, memory, single = as_batch(network, observation, memory)
    logits, value = network_outputs(network, observation, memory)
    moved_logits, moved_value = network_outputs(network, painted, memory)
    effect = effects_of(scale * logits, scale * moved_logits, value, moved_value)
    if single:
        parts = (getattr(effect, field.name) for field in fields(Effect))
        effect = Effect(*(None if part is None else part[0] for part in parts))
    return effect


def effects_of(logits, moved_logits, value=None, moved_value=None) -> Effect:
    """Compare two sets of decisions.

    Args:
        logits: `[T, A]`, before the change.
        moved_logits: `[T, A]`, after it.
        value: `[T]` or None, before the change.
        moved_value: `[T]` or None, after it.
    """
    logits, moved_logits = (np.asarray(z, np.float64) for z in (logits, moved_logits))
    change = moved_logits - logits
    change -= change.mean(-1, keepdims=True)
    return Effect(
        50 * np.abs(_softmax(moved_logits) - _softmax(logits)).sum(-1),
        logits.argmax(-1) != moved_logits.argmax(-1),
        0.5 * np.square(change).sum(-1),
        None if value is None else np.asarray(moved_value) - np.asarray(value),
    )


@dataclass(frozen=True)
class Deletion:
    """The effects of deleting one object, at the M of T moments at which that could be done.

    Attributes:
        moments: `[M]` int, which of the T moments.
        gone: effect of painting the background over the object.
        elsewhere: effect of the control: the object stays, and its pixels are drawn once more at a
            random place, away from every object.
    """

    moments: np.ndarray
    gone: Effect
    elsewhere: Effect


def object_deletions(
    network,
    preprocess: Callable[[np.ndarray], np.ndarray],
    frames: np.ndarray,
    boxes: Sequence[Mapping[str, np.ndarray]],
    observations: np.ndarray,
    memory: np.ndarray | None,
    region: Sequence[int],
    generator: np.random.Generator,
    *,
    margin: float = 3.0,
    most: int = 4,
) -> dict[str, Deletion]:
    """Delete each object from each screen, and measure how far the decision moves.

    Args:
        network: see `deletion_effect`.
        preprocess: makes an observation `[C, H, W]` of a screen, as `Agent.preprocess` does.
        frames: `[T, 210, 160, 3]` uint8, the screens; the agent reads one screen per decision.
        boxes: T times the boxes by name, of `games.object_boxes`, in px of the screen.
        observations: `[T, C, H, W]`, as the agent read them.
        memory: `[T, k, M]` that entered each step; None for a network without memory.
        region: (top, bottom, left, right), the part of the screen that the agent reads.
        generator: draws the places of the control.
        margin: px, painted around each box as well, see `painted_over`.
        most: an object of more boxes than this, a wall for example, is not deleted.

    Returns:
        By name; without the objects that could be deleted at no moment. A moment is left out if
        the object is absent, outside the region or not drawn, or if no place is free for the copy.
    """
    low, high = np.take(region, [0, 0, 2, 2]), np.take(region, [1, 1, 3, 3])
    found = {}
    for name in dict.fromkeys(name for moment in boxes for name in moment):
        moments, gone, copied = [], [], []
        for t, (frame, moment) in enumerate(zip(frames, boxes, strict=True)):
            grown = _checked(moment.get(name, ())) + margin * np.array([-1, 1, -1, 1])
            inside = np.clip(grown, low, high)
            inside = inside[(inside[:, 0] < inside[:, 1]) & (inside[:, 2] < inside[:, 3])]
            if not 0 < len(inside) <= most:
                continue
            empty = painted_over(frame, inside)
            if np.array_equal(empty, frame):
                continue
            everything = np.concatenate([_checked(kind) for kind in moment.values()])
            try:
                places = places_elsewhere(inside, everything, region, generator)
            except ValueError:  # no place is free
                continue
            moments.append(t)
            gone.append(preprocess(empty))
            copied.append(preprocess(pasted(frame, inside, places, empty)))
        if moments:
            entering = None if memory is None else memory[moments]
            shown, entering, _ = as_batch(network, observations[moments], entering)
            before = network_outputs(network, shown, entering)
            effects = []
            for changed in (gone, copied):
                changed, _, _ = as_batch(network, np.stack(changed), entering)
                after = network_outputs(network, changed, entering)
                effects.append(effects_of(before[0], after[0], before[1], after[1]))
            found[name] = Deletion(np.array(moments), *effects)
    return found


def scale_to_entropy(logits, reference) -> float:
    """Return the factor on logits that gives their policy the mean entropy of a reference's.

    An untrained network's logits are nearly equal, so nothing on the screen can move its policy.
    Scaled so, it decides as firmly as the agent it is a control for, at random.

    Args:
        logits: `[T, A]`, not all equal.
        reference: `[T, A]`, of the agent.

    Returns:
        A factor between 1e-4 and 1e6.
    """
    logits, reference = (np.asarray(z, np.float64) for z in (logits, reference))
    wanted = np.clip(_entropy(reference), _entropy(1e6 * logits), _entropy(1e-4 * logits))
    power = scipy.optimize.brentq(
        lambda power: _entropy(10**power * logits) - wanted, -4, 6, xtol=1e-6
    )
    return float(10**power)


def _entropy(logits: np.ndarray) -> float:
    """Return the mean entropy of the policies softmax(logits), in nats."""
    return float(scipy.special.entr(_softmax(logits)).sum(-1).mean())


def _softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def image_change(observation, **options) -> SaliencyMaps:
    """Score how strongly each blur changes the image itself: the map of no network at all.

    Args:
        observation: `[C, H, W]` or `[T, C, H, W]`, in [0, 1].
        **options: stride, mask_sigma and blur_sigma, as for `perturbation_saliency`.

    Returns:
        Maps whose actor and critic are both half the squared distance between the observation
        and its blurred copy: with this map as the denominator, an object's saliency no longer
        depends on how strongly the blur changes it.
    """
    return saliency_maps("image-change", None, observation, **options)


def saliency_per_change(
    maps: SaliencyMaps, changes: SaliencyMaps, boxes: Mapping | Sequence[Mapping]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Divide the saliency on each object by the change that the blur makes in the image there.

    Args:
        maps: of one decision, or of T.
        changes: of `image_change`, with the same stride and sigmas.
        boxes: by name `[n, 4]`, in observation pixels; one such dict, or T of them.

    Returns:
        By name, the ratio of the actor and of the critic: sums over the object's pixels, `[T]`
        float64 or scalars. NaN if the object is absent or the blur changes nothing there; the
        critic's is NaN where the maps have none. Units: those of the map, per squared grey level.
    """
    single = maps.actor.ndim == 2
    moments = [boxes] if single else list(boxes)
    heads = [
        None if head is None else np.reshape(head, (-1, *head.shape[-2:])).astype(np.float64)
        for head in (maps.actor, maps.critic, changes.actor)
    ]
    actor, critic, change = heads
    if not len(moments) == len(actor) == len(change):
        raise ValueError(
            f"{len(actor)} maps and {len(change)} maps of the image's change, "
            f"but boxes of {len(moments)} decisions"
        )
    names = dict.fromkeys(name for moment in moments for name in moment)
    found = {name: np.full((2, len(moments)), np.nan) for name in names}
    for t, moment in enumerate(moments):
        for name, kind in moment.items():
            inside = np.zeros(change.shape[1:], bool)
            for box in _checked(kind):
                inside[_pixels(box, inside.shape)] = True
            total = change[t][inside].sum()
            for row, head in enumerate((actor, critic)):
                if head is not None and total > 0:
                    found[name][row, t] = head[t][inside].sum() / total
    return {
        name: tuple(row[0] if single else row for row in ratios) for name, ratios in found.items()
    }
