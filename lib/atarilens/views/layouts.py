"""The layouts of the figures. Every function takes arrays and returns a matplotlib Figure.

A figure is 8 inches wide with letters of 9 points, so that it can be read at the width of a README.
Nothing is styled at import; nothing is computed here but positions.
"""

import textwrap
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Circle, FancyBboxPatch, Patch

from atarilens.views.screens import Panel, enlarge

WIDTH = 8.0  # inches
DPI = 180
ACTOR_COLOUR, CRITIC_COLOUR, BOTH_COLOUR = "#1414ff", "#ff1414", "#ff14ff"
PALETTE = sns.color_palette("colorblind")
CHANCE = "0.45"  # grey of the lines that mark chance


def house_style() -> AbstractContextManager:
    """Return the context in which every figure is drawn: seaborn's, with one font that ships."""
    return mpl.rc_context(
        {
            **sns.axes_style("ticks", {"axes.grid": True, "grid.color": "0.92"}),
            **sns.plotting_context("paper", rc={"font.size": 9, "axes.labelsize": 9}),
            "axes.titlesize": 9,
            "axes.spines.right": False,
            "axes.spines.top": False,
            "xtick.labelsize": 8.5,
            "ytick.labelsize": 8.5,
            "legend.fontsize": 8.5,
            "legend.frameon": False,
            "font.family": "DejaVu Sans",
        }
    )


def new_figure(height: float, caption: str) -> Figure:
    """Make an empty figure that keeps room for its caption below."""
    wrapped = textwrap.fill(" ".join(caption.split()), 132)  # letters of 8 points in 8 inches
    lines = wrapped.count("\n") + 1 if wrapped else 0
    figure = Figure(figsize=(WIDTH, height + 0.17 * lines), dpi=DPI, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.04, h_pad=0.05, hspace=0.02, wspace=0.02)
    if wrapped:
        figure.supxlabel(wrapped, x=0.008, ha="left", fontsize=8, linespacing=1.35)
    return figure


def colour_legend(figure: Figure | SubFigure, critic: bool = True) -> None:
    """Say on the figure which colour is which head."""
    handles = [Patch(color=ACTOR_COLOUR, label="blue = actor (what it would do)")]
    if critic:
        handles += [
            Patch(color=CRITIC_COLOUR, label="red = critic (what it expects)"),
            Patch(color=BOTH_COLOUR, label="magenta = both"),
        ]
    figure.legend(handles=handles, loc="outside upper left", ncols=3, handlelength=1.1)


def legend_above(axes: Axes, columns: int = 5) -> None:
    """Put the legend of an axes above it, where it hides no data."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 0.99), ncols=columns, borderaxespad=0.2)


def draw_panel(axes: Axes, panel: Panel) -> None:
    """Draw one screen, its arrow, circle and outline, and the words above and below it."""
    height, width = panel.image.shape[:2]
    # Screen pixels stay sharp whatever the size of the panel: enlarged first, then averaged down.
    axes.imshow(enlarge(panel.image, 4), extent=(0, width, height, 0), interpolation="antialiased")
    axes.set(xticks=[], yticks=[], xlim=(0, width), ylim=(height, 0))
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.set_title(panel.title, pad=3)
    axes.set_xlabel(panel.note, fontsize=8, labelpad=3)
    if panel.arrow is not None:
        (row, column), (to_row, to_column) = panel.arrow
        style = {"arrowstyle": "-|>", "color": "white", "lw": 1.4, "mutation_scale": 11}
        style |= {"shrinkA": 0, "shrinkB": 0}
        axes.annotate("", xy=(to_column, to_row), xytext=(column, row), arrowprops=style)
    if panel.circle is not None:
        row, column, radius = panel.circle
        axes.add_patch(Circle((column, row), radius, fill=False, edgecolor="white", lw=1.5))
    if panel.box is not None:
        top, bottom, left, right = panel.box
        rounded = "round,pad=2,rounding_size=3"
        outline = FancyBboxPatch((left, top), right - left, bottom - top, boxstyle=rounded)
        outline.set(fill=False, edgecolor="0.75", linewidth=1.3)
        axes.add_patch(outline)


def draw_rows(figure: Figure | SubFigure, rows: Sequence[Sequence[Panel]], names=()) -> None:
    """Fill a figure with rows of screens; `names` stand to the left of the rows."""
    columns = max(len(row) for row in rows)
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for i, row in enumerate(rows):
        for j, axes in enumerate(grid[i]):
            if j < len(row):
                draw_panel(axes, row[j])
            else:
                axes.set_axis_off()
        if names:
            grid[i][0].set_ylabel(names[i], fontsize=9)


def row_height(panels_per_row: int, room: float = 0.45) -> float:
    """Inches that a row of 210 x 160 screens takes across the page, `room` for words included."""
    return (WIDTH - 0.5) / panels_per_row * 210 / 160 + room


def screens_figure(
    rows: Sequence[Sequence[Panel]],
    *,
    caption: str,
    names: Sequence[str] = (),
    critic: bool = True,
) -> Figure:
    """Draw rows of screens with the legend of the colours above and a caption below."""
    with house_style():
        columns = max(4, *(len(row) for row in rows))
        figure = new_figure(0.3 + len(rows) * row_height(columns), caption)
        draw_rows(figure, rows, names)
        colour_legend(figure, critic)
    return figure


def learning_figure(
    panels: Sequence[Panel],
    curves: Mapping[str, np.ndarray],
    *,
    axis_label: str,
    tick_labels: Sequence[str],
    caption: str,
) -> Figure:
    """Draw one screen through K checkpoints and, under each of them, what it attends to.

    Args:
        panels: K panels of the same screen, from the untrained network to the last checkpoint.
        curves: object -> `[K, 3]` float: mean, lower and upper end of its interval.
        axis_label: what the curves measure.
        tick_labels: K names of the checkpoints.
        caption: what stands below the figure.
    """
    with house_style():
        figure = new_figure(0.3 + row_height(len(panels)) + 2.3, caption)
        upper, lower = figure.subfigures(2, 1, height_ratios=[row_height(len(panels)), 2.3])
        draw_rows(upper, [panels])
        axes = lower.subplots()
        for shift, (name, curve) in enumerate(curves.items()):
            x = np.arange(len(curve)) + 0.05 * (shift - (len(curves) - 1) / 2)
            interval = np.abs(curve[:, 1:].T - curve[:, 0])
            style = {"marker": "os^Dv"[shift % 5], "color": PALETTE[shift], "capsize": 2.5}
            axes.errorbar(x, curve[:, 0], yerr=interval, label=name, **style)
        axes.axhline(0, color=CHANCE, lw=1, ls="--")
        axes.set(ylabel=axis_label, xlim=(-0.5, len(panels) - 0.5))
        axes.set_xticks(range(len(panels)), tick_labels)
        legend_above(axes)
        colour_legend(figure)
    return figure


def memory_figure(
    curves: Mapping[str, np.ndarray],
    hits: np.ndarray,
    averages: Mapping[str, np.ndarray],
    *,
    event: str,
    caption: str,
) -> Figure:
    """Draw how much the memory matters through time, and averaged around events.

    Args:
        curves: name -> `[T]` saliency of the memory through one stretch of play; each is drawn over
            its own maximum, as in the paper.
        hits: `[n]` int, steps of that stretch at which the event happened.
        averages: name -> `[S, 4]` float: step relative to the event, mean, lower and upper end of
            the interval, over the mean of all steps.
        event: words for the event, for example "paddle hits ball".
        caption: what stands below the figure.
    """
    with house_style():
        figure = new_figure(4.6, caption)
        above, below = figure.subplots(2, 1)
        colours = [ACTOR_COLOUR, *PALETTE[1:]]
        for colour, (name, curve) in zip(colours, curves.items(), strict=False):
            above.plot(curve / max(curve.max(), 1e-30), color=colour, lw=1.3, label=name)
        for hit in hits:
            arrow = {"arrowstyle": "-|>", "color": "#d7301f", "lw": 1.5, "mutation_scale": 9}
            arrow |= {"shrinkA": 0, "shrinkB": 0}
            above.annotate("", xy=(hit, -0.02), xytext=(hit, -0.2), arrowprops=arrow)
        above.set(xlabel="agent step", ylabel="memory saliency / max", ylim=(-0.22, 1.05))
        above.set(xlim=(0, max(len(c) for c in curves.values()) - 1))
        above.plot([], [], color="#d7301f", marker="^", ls="", label=f"red arrow = {event}")
        legend_above(above)
        for colour, (name, table) in zip(PALETTE, averages.items(), strict=False):
            steps, mean, low, high = table.T
            below.plot(steps, mean, color=colour, label=name)
            below.fill_between(steps, low, high, color=colour, alpha=0.18, lw=0)
        below.axhline(1, color=CHANCE, lw=1, ls="--")
        below.axvline(0, color="#d7301f", lw=1)
        below.set(xlabel=f"agent steps from: {event}", ylabel="times its mean")
        legend_above(below)
        below.margins(x=0)
    return figure


def attention_figure(
    conditions: Mapping[str, Mapping[str, Sequence[float]]],
    intervals: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    axis_label: str,
    caption: str,
    chance: float = 0.0,
) -> Figure:
    """Draw bars per object and condition, an interval on each and a dot for each episode.

    Args:
        conditions: condition -> object -> `[E]` one number per episode.
        intervals: condition -> object -> (low, high) over whole episodes.
        axis_label: what the bars measure.
        caption: what stands below the figure.
        chance: where a dashed line marks chance.
    """
    objects = list(dict.fromkeys(name for row in conditions.values() for name in row))
    with house_style():
        figure = new_figure(3.2, caption)
        axes = figure.subplots()
        width = 0.8 / len(conditions)
        for i, (condition, row) in enumerate(conditions.items()):
            for j, name in enumerate(objects):
                if name not in row:
                    continue
                values = np.asarray(row[name], float)
                x = j + (i - (len(conditions) - 1) / 2) * width
                low, high = intervals[condition][name]
                label = condition if j == 0 else None
                axes.bar(x, values.mean(), width * 0.92, color=PALETTE[i], label=label, alpha=0.85)
                axes.plot([x, x], [low, high], color="0.15", lw=1.6)
                spread = x + width * np.linspace(-0.25, 0.25, len(values))
                axes.plot(spread, values, ".", color="0.15", ms=3, alpha=0.6)
        axes.axhline(chance, color=CHANCE, lw=1, ls="--")
        axes.set(ylabel=axis_label, xlim=(-0.6, len(objects) - 0.4))
        axes.set_xticks(range(len(objects)), objects)
        axes.grid(False, axis="x")
        figure.legend(loc="outside upper left", ncols=len(conditions))
    return figure


def variants_figure(
    panels: Sequence[Panel],
    correlations: Mapping[str, np.ndarray],
    *,
    caption: str,
) -> Figure:
    """Draw one screen under several arithmetics and how far each map agrees with the first.

    Args:
        panels: the same screen, first as corrected.
        correlations: variant -> `[n]` correlation with the corrected map, one per screen compared.
        caption: what stands below the figure.
    """
    with house_style():
        height = row_height(max(4, len(panels)))
        below = 0.55 + 0.36 * len(correlations)
        figure = new_figure(0.3 + height + below, caption)
        upper, lower = figure.subfigures(2, 1, height_ratios=[height, below])
        draw_rows(upper, [panels])
        axes = lower.subplots()
        for i, values in enumerate(correlations.values()):
            rows = i + np.linspace(-0.22, 0.22, len(values))
            axes.plot(np.sort(values), rows, ".", color=PALETTE[0], ms=4, alpha=0.5)
            axes.plot(np.mean(values), i, "D", color=PALETTE[1], ms=6, mec="white", zorder=3)
        axes.set_yticks(range(len(correlations)), list(correlations))
        axes.invert_yaxis()
        axes.grid(False, axis="y")
        axes.set_xlabel("correlation with the corrected map (dots: screens, diamond: their mean)")
        axes.axvline(1, color=CHANCE, lw=1, ls="--")
        colour_legend(figure)
    return figure


def curves_figure(
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]],
    scores: Mapping[str, Sequence[float]],
    *,
    x_label: str,
    y_label: str,
    levels: Mapping[str, float],
    caption: str,
) -> Figure:
    """Draw training curves, the measured scores of the shipped checkpoints and named levels.

    Args:
        curves: run -> (training steps `[n]`, training score `[n]`).
        scores: agent -> (training steps, mean score, low, high), measured apart from training.
        x_label: unit of the steps.
        y_label: unit of the scores.
        levels: name -> score of a horizontal line, for example a random player's.
        caption: what stands below the figure.
    """
    with house_style():
        figure = new_figure(3.4, caption)
        axes = figure.subplots()
        for colour, (name, (steps, score)) in zip(PALETTE, curves.items(), strict=False):
            axes.plot(steps, score, color=colour, lw=1.4, label=name)
        for marker, (agent, (steps, mean, low, high)) in zip(
            "o^sDvP", scores.items(), strict=False
        ):
            style = {"fmt": marker, "color": "0.15", "ms": 5, "capsize": 2.5, "zorder": 3}
            error = [[mean - low], [high - mean]]
            axes.errorbar(steps, mean, error, label=f"{agent}: {mean:.4g}", **style)
        for name, level in levels.items():
            axes.axhline(level, color=CHANCE, lw=1, ls="--")
            place = {"xycoords": ("axes fraction", "data"), "ha": "left", "va": "center"}
            axes.annotate(name, (1.01, level), size=8, **place)
        axes.set(xlabel=x_label, ylabel=y_label)
        axes.margins(x=0.04)
        figure.legend(loc="outside upper left", ncols=3)
    return figure
