"""A network's own attention over the screen, as the Free-Lunch Saliency paper draws it.

Reference:
    Nikulin et al. (2019), "Free-Lunch Saliency via Attention in Atari Agents", section
    "Visualizations"; arXiv:1908.02511.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from scipy.ndimage import maximum_filter

from atarilens.views.layouts import (
    WIDTH,
    draw_bars,
    draw_panel,
    house_style,
    new_figure,
    put_title,
)
from atarilens.views.screens import Panel

SCREEN = (210, 160)  # px
SQUARE = (160, 160)  # px of the observation below the screen
DOT = 5  # px of a fixation


def attention_screen(screen, attention, largest: float, fixations=None) -> np.ndarray:
    """Draw attention in white over a darkened screen: half the one plus half the other.

    Args:
        screen: `[210, 160, 3]` uint8.
        attention: `[H, W]` of the whole screen, >= 0, in any units.
        largest: what is drawn white; the paper takes the largest value of a whole film.
        fixations: `[210, 160]` counts of a person's eye fixations, drawn in red; None for none.

    Returns:
        `[210, 160, 3]` uint8.
    """
    white = 255 * _resized(np.asarray(attention, np.float32) / largest, SCREEN)
    image = 0.5 * np.asarray(screen, np.float32) + 0.5 * white[..., None]
    return _finished(image, _dots(fixations))


def attention_input(observation, attention, largest: float, fixations=None) -> np.ndarray:
    """Draw what a network reads in blue, its attention in green and fixations in red.

    Args:
        observation: `[C, H, W]` in [0, 1]; its last screen is drawn.
        attention: see `attention_screen`, as the rest.
        largest: likewise.
        fixations: likewise.

    Returns:
        `[160, 160, 3]` uint8.
    """
    image = np.zeros((*SQUARE, 3), np.float32)
    image[..., 1] = 255 * _resized(np.asarray(attention, np.float32) / largest, SQUARE)
    image[..., 2] = 255 * _resized(np.asarray(observation, np.float32)[-1], SQUARE)
    rows = np.arange(SQUARE[0]) * SCREEN[0] // SQUARE[0]
    return _finished(image, _dots(fixations)[rows])


def attention_film(screens, observations, maps, fixations=None) -> np.ndarray:
    """Stack `attention_screen` over `attention_input` for each step of a film.

    Args:
        screens: `[T, 210, 160, 3]` uint8.
        observations: `[T, C, H, W]` in [0, 1].
        maps: `[T, H, W]`; the largest value of all is drawn at full brightness.
        fixations: `[T, 210, 160]` counts, or None.

    Returns:
        `[T, 370, 160, 3]` uint8.
    """
    largest = float(np.max(maps)) or 1.0
    looks = [None] * len(maps) if fixations is None else fixations
    return np.stack(
        [
            np.concatenate(
                (
                    attention_screen(screen, attention, largest, look),
                    attention_input(observation, attention, largest, look),
                )
            )
            for screen, observation, attention, look in zip(
                screens, observations, maps, looks, strict=True
            )
        ]
    )


def attention_networks_figure(
    rows: Mapping[str, Sequence[Panel]],
    conditions: Mapping[str, Mapping[str, Sequence[float]]],
    intervals: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    title: str,
    axis_label: str,
    caption: str,
) -> Figure:
    """Draw a row of screens for each network, and bars below.

    Args:
        rows: name of a network -> its panels, equally many each.
        conditions: see `layouts.draw_bars`, as the next one; the objects are networks.
        intervals: likewise.
        title: the finding.
        axis_label: what the bars measure.
        caption: what stands below the figure.
    """
    columns = max(len(row) for row in rows.values())
    height = (WIDTH - 0.9) / columns * SCREEN[0] / SCREEN[1]
    with house_style():
        figure = new_figure(0.95 + (height + 0.05) * len(rows) + 2.4, caption)
        put_title(figure, title)
        ratios = [0.35 + (height + 0.05) * len(rows), 2.4]
        above, below = figure.subfigures(2, 1, height_ratios=ratios)
        axes = above.subplots(len(rows), columns, squeeze=False)
        for line, (name, row) in zip(axes, rows.items(), strict=True):
            for place, panel in zip(line, row, strict=True):
                draw_panel(place, panel)
                place.set_anchor("N")
            line[0].set_ylabel(name, rotation=0, ha="right", va="center", labelpad=6)
        draw_bars(below.subplots(), conditions, intervals, axis_label)
    return figure


def _resized(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resize `[H, W]` float32 bilinearly, between pixel centres."""
    return np.asarray(Image.fromarray(image).resize(shape[::-1], Image.BILINEAR))


def _dots(fixations) -> np.ndarray:
    """Return the pixels near a fixation, `[210, 160]` bool."""
    if fixations is None:
        return np.zeros(SCREEN, bool)
    return maximum_filter(np.asarray(fixations), DOT) > 0


def _finished(image: np.ndarray, dots: np.ndarray) -> np.ndarray:
    """Draw red dots on an image in grey levels, and round it to bytes."""
    image[..., 0][dots] = 255
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)
