"""Many methods side by side: on one scale, in two orders, or in a table of verdicts."""

import textwrap
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from atarilens.views.layouts import CHANCE, NEUTRAL, house_style, new_figure

LETTERS = 84  # of a title in 11 points that fit into the width
ROW = 0.27  # inches of height per method
TALL = 0.4  # inches of height of a row with a note
MARKERS = "osD^v"
SHADES = LinearSegmentedColormap.from_list("verdicts", ["#f3f3f1", "#8fcfc6", NEUTRAL[0]])


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


def draw_ranks(
    axes: Axes, ranks: Mapping[str, tuple[float, float]], names: tuple[str, str], colours: Mapping
) -> None:
    """Draw how the rank of each method changes from one order to another: a line per method.

    Args:
        axes: where to draw.
        ranks: method -> (rank at the left, rank at the right); 1 is the best, at the top.
        names: of the two orders.
        colours: method -> colour.
    """
    with house_style():
        for method, pair in ranks.items():
            axes.plot([0, 1], pair, "o-", color=colours[method], lw=2.4, ms=6, clip_on=False)
        for side, place in enumerate(("right", "left")):
            for method, pair in ranks.items():
                words = f"{method} " if side == 0 else f" {method}"
                style = {"ha": place, "va": "center", "color": colours[method], "fontsize": 8.5}
                axes.text(side + 0.06 * (2 * side - 1), pair[side], words, **style)
        axes.set(xlim=(-1.05, 2.05), ylim=(len(ranks) + 0.5, 0.5), yticks=[])
        axes.set_xticks([0, 1], names)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        axes.grid(False)


def matrix_figure(
    table: Mapping[str, Mapping[str, tuple[float, str]]],
    *,
    title: str,
    notes: Mapping[str, str] | None = None,
    columns: Mapping[str, Sequence[str]],
    breaks: Collection[str] = (),
    caption: str = "",
) -> Figure:
    """Draw a table whose cells are shaded, with words in them.

    Args:
        table: row -> column -> (shade 0 to 1, words); a missing cell is left empty, a shade that is
            NaN white.
        title: the finding, in one sentence; wrapped.
        notes: row -> a short line below its name.
        columns: heading of a group -> its columns; groups stand apart.
        breaks: rows above which there is a gap.
        caption: what stands below.
    """
    names, notes = list(table), notes or {}
    groups = [(k, name) for k, group in enumerate(columns.values()) for name in group]
    across = {name: place + 0.25 * k for place, (k, name) in enumerate(groups)}
    gaps = np.cumsum([0.3 * (name in breaks) for name in names])
    down = dict(zip(names, np.arange(len(names)) + gaps, strict=True))
    with house_style():
        lines = textwrap.wrap(title, LETTERS)
        tall = TALL if any(notes.values()) else ROW
        figure = new_figure(1.45 + 0.2 * len(lines) + tall * (down[names[-1]] + 1), caption)
        title = "\n".join(lines)
        figure.suptitle(title, x=0.008, ha="left", fontsize=11, fontweight="bold")
        axes = figure.subplots()
        for name, cells in table.items():
            for column, (shade, words) in cells.items():
                x, y = across[column], down[name]
                colour = SHADES(shade) if np.isfinite(shade) else "white"
                axes.add_patch(Rectangle((x - 0.48, y - 0.46), 0.96, 0.92, color=colour, lw=0))
                ink = "white" if np.isfinite(shade) and shade > 0.55 else "0.2"
                style = {"ha": "center", "va": "center", "color": ink, "fontsize": 8}
                axes.text(x, y, words, **style)
        _name_rows(axes, down, notes)
        for heading, group in columns.items():
            middle = np.mean([across[name] for name in group])
            style = {"ha": "center", "va": "top", "fontsize": 9, "fontweight": "bold"}
            axes.text(middle, down[names[-1]] + 0.62, heading, **style)
        axes.set_xticks(list(across.values()), [name.replace("-", " ") for name in across])
        axes.xaxis.tick_top()
        style = {"rotation": 40, "ha": "left", "rotation_mode": "anchor"}
        axes.tick_params(length=0)
        for label in axes.get_xticklabels():
            label.set(**style)
        axes.set(xlim=(-0.55, max(across.values()) + 0.55), ylim=(down[names[-1]] + 0.55, -0.55))
        axes.spines[:].set_visible(False)
        axes.grid(False)
    return figure


def _name_rows(axes: Axes, down: Mapping[str, float], notes: Mapping[str, str]) -> None:
    """Write the name of each row at its left, and its note below the name."""
    axes.set_yticks([])
    for name, y in down.items():
        note = notes.get(name, "")
        place = {"xycoords": ("axes fraction", "data"), "ha": "right", "annotation_clip": False}
        bold = "bold" if note else "normal"
        words, at = name.replace("-", " "), (-0.01, y - 0.2 * bool(note))
        axes.annotate(words, at, va="center", fontweight=bold, size=9, **place)
        axes.annotate(note, (-0.01, y + 0.22), va="center", size=8, color="0.35", **place)


def _mean(groups: Mapping[str, tuple[float, float, float]]) -> float:
    values = [value for value, _, _ in groups.values() if np.isfinite(value)]
    return float(np.mean(values)) if values else -np.inf
