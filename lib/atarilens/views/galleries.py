"""Galleries: rows of small pictures, each beside the distribution of what was asked of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from atarilens.views.layouts import CHANCE, DPI, NEUTRAL, WIDTH, house_style
from atarilens.views.screens import enlarge

SIDE = 0.92  # inches of a picture


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

    Each dot is one picture's value, the line is the mean.
    """
    plots = any(row.values for row in rows)
    columns = max(len(row.images) for row in rows)
    with house_style():
        figure = Figure(figsize=(WIDTH, SIDE * len(rows) + 0.45), dpi=DPI, layout="constrained")
        figure.get_layout_engine().set(w_pad=0.02, h_pad=0.03, hspace=0.02, wspace=0.02)
        figure.suptitle(title, x=0.008, ha="left", fontsize=10, fontweight="bold")
        widths = [1.0] * columns + [2.6] * plots
        axes = figure.subplots(len(rows), len(widths), width_ratios=widths, squeeze=False)
        for line, row in zip(axes, rows, strict=True):
            for place, image in zip(line[:columns], row.images, strict=False):
                place.imshow(enlarge(image, 3), interpolation="antialiased")
            for place in line[:columns]:
                place.set(xticks=[], yticks=[])
                place.grid(False)
                place.spines[:].set_visible(False)
            line[0].set_ylabel(row.label, rotation=0, ha="right", va="center", fontsize=9)
            if plots:
                _draw_values(line[-1], row)
    return figure


def _draw_values(axes, row: GalleryRow) -> None:
    """Draw a row's values and those of its controls as dots on lines of their own."""
    if not row.values:
        axes.set_axis_off()
        return
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
