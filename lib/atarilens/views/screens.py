"""One game screen with its saliency: the picture that every figure and movie is made of."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

BLUE, RED = 2, 0  # colour channel of each head: actor blue, critic red, as in the paper
GREY_LEVELS = 255.0


@dataclass(frozen=True)
class Panel:
    """One screen of a figure and what is drawn on it. All places are (row, column) in its pixels.

    image: `[h, w, 3]` uint8, usually from `overlay`.
    title: the line above it; note: the small line below it.
    arrow: (start, end) of a white arrow, for example along the ball's motion.
    circle: (row, column, radius) of a white circle, for example round a target.
    box: (top, bottom, left, right), half-open, of a grey rounded outline, for example the hint.
    """

    image: np.ndarray
    title: str = ""
    note: str = ""
    arrow: tuple[tuple[float, float], tuple[float, float]] | None = None
    circle: tuple[float, float, float] | None = None
    box: tuple[float, float, float, float] | None = None


def heads(maps) -> list[tuple[int, np.ndarray]]:
    """Pair each head's colour channel with its map; a head that the network lacks is left out."""
    both = ((BLUE, maps.actor), (RED, maps.critic))
    return [(channel, np.asarray(m, np.float32)) for channel, m in both if m is not None]


def overlay(
    screen: np.ndarray,
    maps,
    region: Sequence[int],
    gain: float | Sequence[float],
) -> np.ndarray:
    """Add the actor's saliency to the blue and the critic's to the red of a game screen.

    The added grey levels are `gain * map`, linear and clipped at 255 with the screen below them, so
    brightness can be compared between pictures of one gain. Where both heads agree it is magenta.

    Args:
        screen: `[210, 160, 3]` uint8, what the agent was shown. Not modified.
        maps: `.actor` and `.critic`, each `[H, W]` >= 0 or None (a network without that head).
        region: (top, bottom, left, right), the part of the screen that the maps cover.
        gain: grey levels per unit of saliency, one number or one for (actor, critic), whose
            units differ (squared logits, squared value).

    Returns:
        `[210, 160, 3]` uint8. Outside of `region` it is the screen, unchanged.

    Raises:
        ValueError: if the screen is not uint8 RGB or a map is not `[H, W]`.

    Reference:
        Greydanus et al. (2018), arXiv:1711.00138; their code's `saliency_on_atari_frame`.
        Deviation: no 8-bit quantisation of the map and no wrap-around past 65,535 before the
        clipping, which their uint16 arithmetic has.
    """
    screen = np.asarray(screen)
    if screen.dtype != np.uint8 or screen.ndim != 3 or screen.shape[2] != 3:
        raise ValueError(
            f"screen must be uint8 [210, 160, 3], received {screen.dtype} {list(screen.shape)}"
        )
    top, bottom, left, right = region
    gains = dict(zip((BLUE, RED), np.broadcast_to(gain, 2), strict=True))
    image = screen.astype(np.float32)
    for channel, saliency in heads(maps):
        if saliency.ndim != 2:
            raise ValueError(f"a map must be [H, W], received {list(saliency.shape)}")
        # Bilinear between pixel centres: a map pixel lights the screen pixels it was made of.
        resized = Image.fromarray(saliency).resize((right - left, bottom - top), Image.BILINEAR)
        image[top:bottom, left:right, channel] += gains[channel] * np.asarray(resized)
    return np.clip(np.rint(image), 0, GREY_LEVELS).astype(np.uint8)


def common_gain(
    all_maps: Iterable, quantile: float = 0.995, brightness: float = GREY_LEVELS
) -> tuple[float, float]:
    """Choose one gain for a whole figure: the stated quantile of all its pixels is drawn full.

    Args:
        all_maps: the maps of every panel, each `.actor` and `.critic` of `[H, W]` or `[T, H, W]`.
        quantile: of the pooled pixels of one head; the brightest 1 - quantile of them saturate.
        brightness: grey levels which that quantile gets.

    Returns:
        Gains of (actor, critic) in grey levels per unit of saliency; 0 where a head is absent or
        its maps are zero.
    """
    pooled: dict[int, list[np.ndarray]] = {BLUE: [], RED: []}
    for maps in all_maps:
        for channel, saliency in heads(maps):
            pooled[channel].append(saliency.ravel())
    levels = [
        np.quantile(np.concatenate(values), quantile) if values else 0.0
        for values in pooled.values()
    ]
    return tuple(float(brightness / level) if level > 0 else 0.0 for level in levels)


def describe_gain(gain: float | Sequence[float]) -> str:
    """Say a gain in words for a caption."""
    values = np.broadcast_to(gain, 2)
    actor, critic = (f"{g:,.0f}" if 100 <= g < 1e6 else f"{g:.3g}" for g in values)
    text = f"Gain: {actor} grey levels per squared logit (blue)"
    return text + (f", {critic} per squared value (red)." if critic != "0" else ".")


def motion_arrow(boxes: np.ndarray, later: np.ndarray, length: float = 26.0):
    """Return the arrow of a `Panel` along the motion of an object.

    Args:
        boxes: `[n, 4]` (top, bottom, left, right) in px of the panel; the first is taken.
        later: `[m, 4]`, of a later step.
        length: px of the arrow.

    Returns:
        ((row, column), (row, column)), or None where the object is absent or stands still.
    """
    if not len(boxes) or not len(later):
        return None
    start, end = (np.array([b[0, :2].mean(), b[0, 2:].mean()]) for b in (boxes, later))
    distance = np.hypot(*(end - start))
    if distance == 0:
        return None
    return tuple(start), tuple(start + (end - start) * length / distance)


def enlarge(image: np.ndarray, factor: int) -> np.ndarray:
    """Repeat every pixel `factor` times along rows and columns (nearest neighbour)."""
    return image.repeat(factor, axis=0).repeat(factor, axis=1)
