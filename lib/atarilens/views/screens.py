"""One game screen with its saliency: the picture that every figure and movie is made of."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

ACTOR, CRITIC = "#2e89ff", "#ff5e24"  # told apart on black, on grey, and by colour-blind readers
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
HEADS = np.array([[46, 137, 255], [255, 94, 36]], np.float32)  # the same, as RGB
DIMMED = 0.6  # of a screen's brightness is left under a map
GREY_LEVELS = 255.0


@dataclass(frozen=True)
class Panel:
    """One screen of a figure and what is drawn on it. All places are (row, column) in its pixels.

    image: `[h, w, 3]` uint8, usually from `overlay`.
    title: the line above it; note: the small line below it.
    arrow: (start, end) of a white arrow, for example along the ball's motion.
    circle: (row, column, radius) of a white circle, for example round a target.
    box: (top, bottom, left, right), half-open, of a white rounded outline, for example the hint.
    boxes: further outlines, for example of each ghost.
    view: (top, bottom, left, right), half-open, the part of the image that is shown; None: all.
    """

    image: np.ndarray
    title: str = ""
    note: str = ""
    arrow: tuple[tuple[float, float], tuple[float, float]] | None = None
    circle: tuple[float, float, float] | None = None
    box: tuple[float, float, float, float] | None = None
    boxes: Sequence[Sequence[float]] = ()
    view: tuple[float, float, float, float] | None = None


def heads(maps) -> list[tuple[int, np.ndarray]]:
    """Pair each head's number (0 actor, 1 critic) with its map; leave out a head that is None."""
    both = enumerate((maps.actor, maps.critic))
    return [(head, np.asarray(m, np.float32)) for head, m in both if m is not None]


def overlay(
    screen: np.ndarray,
    maps,
    region: Sequence[int],
    gain: float | Sequence[float],
    *,
    palette: str = "clear",
) -> np.ndarray:
    """Draw the actor's saliency in blue and the critic's in orange-red over a game screen.

    The strength of a colour is `gain * map / 255`, linear and clipped at 1, so brightness can be
    compared between pictures of one gain. Places where both heads are bright become white.

    Args:
        screen: `[210, 160, 3]` uint8, what the agent was shown. Not modified.
        maps: `.actor` and `.critic`, each `[H, W]` >= 0 or None (a network without that head).
        region: (top, bottom, left, right), the part of the screen that the maps cover.
        gain: grey levels per unit of saliency, one number or one for (actor, critic), whose
            units differ (squared logits, squared value).
        palette: "clear" draws over the screen in dimmed grey; "paper" adds pure blue and red to
            the coloured screen, as the paper's pictures do, and magenta is both.

    Returns:
        `[210, 160, 3]` uint8.

    Raises:
        ValueError: if the screen is not uint8 RGB, a map is not `[H, W]`, or the palette unknown.

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
    if palette not in ("clear", "paper"):
        raise ValueError(f"palette is {palette!r}, expected 'clear' or 'paper'")
    top, bottom, left, right = region
    gains, strength = np.broadcast_to(gain, 2), np.zeros((2, *screen.shape[:2]), np.float32)
    for head, saliency in heads(maps):
        if saliency.ndim != 2:
            raise ValueError(f"a map must be [H, W], received {list(saliency.shape)}")
        # Bilinear between pixel centres: a map pixel lights the screen pixels it was made of.
        resized = Image.fromarray(saliency).resize((right - left, bottom - top), Image.BILINEAR)
        strength[head, top:bottom, left:right] = gains[head] * np.asarray(resized)
    image = screen.astype(np.float32)
    if palette == "paper":
        image[..., 2] += strength[0]
        image[..., 0] += strength[1]
    else:
        strength = np.clip(strength / GREY_LEVELS, 0, 1)
        grey = DIMMED * (image @ LUMA) * (1 - strength.max(0))
        image = grey[..., None] + np.moveaxis(strength, 0, -1) @ HEADS
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
    pooled: dict[int, list[np.ndarray]] = {0: [], 1: []}
    for maps in all_maps:
        for head, saliency in heads(maps):
            pooled[head].append(saliency.ravel())
    levels = [
        np.quantile(np.concatenate(values), quantile) if values else 0.0
        for values in pooled.values()
    ]
    return tuple(float(brightness / level) if level > 0 else 0.0 for level in levels)


def describe_gain(gain: float | Sequence[float]) -> str:
    """Say a gain in words for a caption."""
    values = np.broadcast_to(gain, 2)
    actor, critic = (f"{g:,.0f}" if 100 <= g < 1e6 else f"{g:.3g}" for g in values)
    text = f"Gain: {actor} grey levels per squared logit (actor)"
    return text + (f", {critic} per squared value (critic)." if critic != "0" else ".")


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
