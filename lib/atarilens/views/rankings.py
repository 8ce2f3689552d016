"""Rankings: many methods on one scale, with intervals, and the controls apart from them."""

import textwrap
from collections.abc import Collection, Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from atarilens.views.layouts import CHANCE, NEUTRAL, house_style, new_figure

LETTERS = 84  # of a title in 11 points that fit into the width
ROW = 0.27  # inches of height per method
MARKERS = "osD^v"


def ranking_figure(
    panels: Mapping[str, Mapping[str, Mapping[str, tuple[float, float, float]]]],
    *,
    title: str,
    axis_label: str,
    controls: Collection[str] = (),
    chance: float | None = 0.0,
    caption: str = "",
) -> Figure:
    """Draw one row per method: a mark per group at its value, with its interval.

    Rows are sorted by the mean over groups in the first panel; controls have rows of their own
    below a line.

    Args:
        panels: heading -> method -> group -> (value, low, high); NaN values are not drawn. All
            panels have the same methods.
        title: the finding, in one sentence; wrapped.
        axis_label: what the scale measures.
        controls: methods that are controls.
        chance: value of a grey line that marks chance; None for none.
        caption: what stands below.
    """
    first = next(iter(panels.values()))
    means = {name: _mean(groups) for name, groups in first.items()}
    order = sorted(first, key=lambda name: (name in controls, -means[name]))
    apart = sum(name not in controls for name in order)
    places = {name: k + (k >= apart) * 0.6 for k, name in enumerate(order)}
    groups = list(dict.fromkeys(group for method in first.values() for group in method))
    with house_style():
        lines = textwrap.wrap(title, LETTERS)
        figure = new_figure(0.75 + 0.2 * len(lines) + ROW * len(order), caption)
        room = "\n".join([*lines, ""])  # the empty line is the legend's
        figure.suptitle(room, x=0.008, ha="left", fontsize=11, fontweight="bold")
        axes = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
        for each, (heading, methods) in zip(axes, panels.items(), strict=True):
            if chance is not None:
                each.axvline(chance, color=CHANCE, lw=1, ls="--")
            if 0 < apart < len(order):
                each.axhline(apart - 0.2, color="0.6", lw=0.8)
                right = each.get_yaxis_transform()
                each.text(
                    1, apart - 0.12, "controls", transform=right, ha="right", va="top", color="0.4"
                )
            for name, by_group in methods.items():
                for k, group in enumerate(groups):
                    value, low, high = by_group.get(group, (np.nan,) * 3)
                    shift = 0.24 * (k - (len(groups) - 1) / 2)
                    y, colour = places[name] + shift, NEUTRAL[k]
                    each.plot([low, high], [y, y], color=colour, lw=1.4, solid_capstyle="butt")
                    each.plot(value, y, MARKERS[k], color=colour, ms=4.5)
            each.set_title(heading, loc="left")
            each.set_xlabel(axis_label)
            each.tick_params(axis="y", length=0)
            each.grid(axis="y", visible=False)
        axes[0].set_yticks(list(places.values()), [name.replace("-", " ") for name in places])
        axes[0].set_ylim(max(places.values()) + 0.7, -0.7)
        marks = [
            Line2D([], [], marker=MARKERS[k], color=NEUTRAL[k], lw=1.4, ms=4.5, label=group)
            for k, group in enumerate(groups)
        ]
        below = (0, 1 - (0.04 + 0.19 * len(lines)) / figure.get_figheight())
        figure.legend(handles=marks, loc="upper left", bbox_to_anchor=below, ncols=len(marks))
    return figure


def _mean(groups: Mapping[str, tuple[float, float, float]]) -> float:
    values = [value for value, _, _ in groups.values() if np.isfinite(value)]
    return float(np.mean(values)) if values else -np.inf
