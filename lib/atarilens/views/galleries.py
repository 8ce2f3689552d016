"""Galleries: rows of small pictures, each beside the distribution of what was asked of them."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from atarilens.views.layouts import CHANCE, DPI, NEUTRAL, TITLE, WIDTH, house_style
from atarilens.views.screens import enlarge

# Inches: the width of a plot, the height of the lowest row that has one, between rows, per letter.
PLOT, LOWEST, GAP, LETTER = 1.8, 0.98, 0.08, 0.08
SPACE = 1  # px of a picture, between two of them


@dataclass(frozen=True)
class GalleryRow:
    """One row of a gallery.

    label: the words at its left.
    images: `[n, h, w, 3]` uint8.
    values: what is compared, `[m]` by name, the row's own values first; none for no plot.
    unit: what the values are.
    """

    label: str
    images: np.ndarray
    values: Mapping[str, Sequence[float]] | None = None
    unit: str = ""


def gallery_figure(rows: Sequence[GalleryRow], title: str) -> Figure:
    """Draw rows of pictures under a title; at the right of a row, its values beside its controls'.

    Each dot is one picture's value, the line is the mean. If one row alone has values, their plot
    takes the height of up to three rows.
    """
    plots = [row for row in rows if row.values]
    columns = max(len(row.images) for row in rows)
    mosaics = [_side_by_side(row.images, columns) for row in rows]
    lines = textwrap.wrap(title, TITLE, break_on_hyphens=False)
    left = 0.12 + LETTER * _longest(row.label for row in rows)  # inches for the words there
    names = 0.2 + LETTER * _longest(name for row in plots for name in row.values)
    wide = WIDTH - left - (names + PLOT + 0.1 if plots else 0.1)  # inches of a row of pictures
    heights = [wide * mosaic.shape[0] / mosaic.shape[1] for mosaic in mosaics]
    if len(plots) > 1:  # each row needs the height of its own plot
        heights = [
            max(height, LOWEST) if row.values else height
            for height, row in zip(heights, rows, strict=True)
        ]
    head = 0.24 * len(lines) + 0.16
    height = head + sum(heights) + GAP * len(rows) + 0.2
    with house_style():
        figure = Figure(figsize=(WIDTH, height), dpi=DPI)
        style = {"ha": "left", "va": "top", "fontsize": 13, "fontweight": "bold"}
        figure.text(0.012, 1 - 0.06 / height, "\n".join(lines), linespacing=1.15, **style)
        top = height - head
        for k, (row, mosaic, high) in enumerate(zip(rows, mosaics, heights, strict=True)):
            bottom = top - high
            axes = figure.add_axes((left / WIDTH, bottom / height, wide / WIDTH, high / height))
            axes.imshow(mosaic, interpolation="antialiased")
            axes.set_axis_off()
            middle = (bottom + high / 2) / height
            style = {"ha": "right", "va": "center", "fontsize": 9}
            figure.text((left - 0.08) / WIDTH, middle, row.label, **style)
            if row.values:
                low = bottom if len(plots) > 1 else top - sum(heights[k : k + 3]) - 2 * GAP
                low = max(low, 0.3)
                place = (1 - (PLOT + 0.1) / WIDTH, (low + 0.18) / height)
                size = (PLOT / WIDTH, (top - low - 0.32) / height)
                _draw_values(figure.add_axes((*place, *size)), row)
            top = bottom - GAP
    return figure


def _longest(words: Iterable[str]) -> int:
    """Return the letters of the longest line."""
    return max((len(line) for word in words for line in word.split("\n")), default=0)


def _side_by_side(images: np.ndarray, columns: int) -> np.ndarray:
    """Join pictures `[n, h, w, 3]` into one row, white between them and where one is missing."""
    images = [enlarge(image, 3) for image in images]
    high, wide = images[0].shape[:2]
    row = np.full((high, columns * (wide + 6 * SPACE) - 6 * SPACE, 3), 255, np.uint8)
    for k, image in enumerate(images):
        left = k * (wide + 6 * SPACE)
        row[:, left : left + wide] = image
    return row


def _draw_values(axes, row: GalleryRow) -> None:
    """Draw a row's values and those of its controls as dots on lines of their own."""
    for place, (name, values) in enumerate(row.values.items()):
        colour = NEUTRAL[0] if place == 0 else CHANCE
        spread = np.linspace(-0.22, 0.22, len(values)) if len(values) > 1 else [0.0]
        axes.plot(values, place + np.asarray(spread), ".", color=colour, ms=4, alpha=0.7)
        axes.plot([np.mean(values)] * 2, [place - 0.36, place + 0.36], color=colour, lw=2)
        axes.text(-0.03, place, name, transform=axes.get_yaxis_transform(), ha="right", va="center")
    axes.set(ylim=(len(row.values) - 0.5, -0.5), yticks=[])
    axes.text(1.0, 1.0, row.unit, transform=axes.transAxes, ha="right", va="bottom", fontsize=8)
    axes.tick_params(labelsize=8, pad=1)


def grey_pictures(images: np.ndarray) -> np.ndarray:
    """Turn `[n, h, w]` in [0, 1] into grey pictures `[n, h, w, 3]` uint8."""
    return (255 * np.clip(images, 0, 1)).round().astype(np.uint8)[..., None].repeat(3, -1)
