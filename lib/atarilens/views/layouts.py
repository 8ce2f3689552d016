"""The layouts of the figures. Every function takes arrays and returns a matplotlib Figure.

A figure is 8 inches wide with letters of 9 points, so that it can be read at the width of a README.
Nothing is styled at import; nothing is computed here but positions.
"""

import textwrap
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import cycle

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Circle, FancyBboxPatch, Patch

from atarilens.views.screens import Panel, enlarge

WIDTH = 8.0  # inches
DPI = 180
LETTERS = 132  # of 8 points that fit into the width
LEGEND = 104  # of 9 points, above an axes; a wider one would make the axes narrower
WIDE_LEGEND = 112  # above an axes that has words at its right
ACTOR_COLOUR, CRITIC_COLOUR, BOTH_COLOUR = "#1414ff", "#ff1414", "#ff14ff"
PALETTE = sns.color_palette("colorblind")
# Of conditions and objects below screens, where blue, red and magenta are taken by the heads:
# teal, ochre, grey, brown, pale teal, cream; apart for colour-blind eyes, too.
NEUTRAL = ("#1f6f6b", "#dba53a", "#8c8c8c", "#5b3d1e", "#8fcfc6", "#f0e2c4")
CHANCE = "0.45"  # grey of the lines that mark chance
EVENT = "#d7301f"  # red of the marks of events


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
    words = " ".join(caption.split()).replace("95 %", "95\N{NO-BREAK SPACE}%")
    wrapped = textwrap.fill(words, LETTERS)
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


def legend_above(axes: Axes, handles: Sequence = (), letters: int = LEGEND) -> None:
    """Put the legend of an axes above it, where it hides no data, in as many columns as fit."""
    handles = handles or axes.get_legend_handles_labels()[0]
    if handles:
        widths = [len(handle.get_label()) + 8 for handle in handles]
        fitting = [
            columns
            for columns in range(1, len(widths) + 1)
            if sum(max(column) for column in np.array_split(widths, columns)) <= letters
        ]
        place = {"loc": "lower left", "bbox_to_anchor": (0, 0.99), "borderaxespad": 0.2}
        place |= {"handlelength": 1.6, "columnspacing": 1.5}
        axes.legend(handles=handles, ncols=max(fitting, default=1), **place)


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
        style |= {"shrinkA": 3, "shrinkB": 0}  # points: what moves stays in view
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


def row_height(row: Sequence[Panel], heading: bool) -> float:
    """Return the inches that a row of 210 x 160 screens with its words takes."""
    notes = max(len(panel.note.splitlines()) for panel in row)
    words = 0.12 + 0.17 * any(panel.title for panel in row) + 0.17 * notes
    return (WIDTH - 0.2) / max(4, len(row)) * 210 / 160 + words + 0.22 * heading


def lay_out(
    rows: Sequence[Sequence[Panel]],
    plots: Sequence[float],
    caption: str,
    headings: Sequence[str] = (),
    critic: bool = True,
) -> tuple[Figure, list[Axes]]:
    """Fill a page with rows of screens, the legend of their colours above, and plots below.

    Args:
        rows: the panels of each row; four fill the width.
        plots: inches of height of each plot; their left and right ends are aligned.
        caption: what stands at the bottom.
        headings: what stands above each row, or none.
        critic: whether any map has a critic, for the legend.
    """
    heights = [row_height(row, bool(headings)) for row in rows] + [sum(plots)] * bool(plots)
    figure = new_figure(0.3 * bool(rows) + sum(heights), caption)
    parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    for part, row in zip(parts, rows, strict=False):
        axes = part.subplots(1, max(4, len(row)))
        for each in axes[len(row) :]:
            each.set_axis_off()
        for each, panel in zip(axes, row, strict=False):
            draw_panel(each, panel)
    for part, heading in zip(parts, headings, strict=False):
        part.suptitle(heading, x=0.008, ha="left", fontsize=9, fontweight="bold")
    if rows:
        colour_legend(figure, critic)
    if not plots:
        return figure, []
    drawn = parts[-1].subplots(len(plots), 1, height_ratios=plots, squeeze=False)
    return figure, list(drawn[:, 0])


def screens_figure(
    rows: Sequence[Sequence[Panel]],
    *,
    caption: str,
    headings: Sequence[str] = (),
    critic: bool = True,
) -> Figure:
    """Draw rows of screens, each under its heading, with the legend of the colours above."""
    with house_style():
        return lay_out(rows, (), caption, headings, critic)[0]


def learning_figure(
    panels: Sequence[Panel],
    curves: Mapping[str, np.ndarray],
    *,
    axis_label: str,
    tick_labels: Sequence[str],
    caption: str,
    references: Mapping[str, float] | None = None,
    reference_label: str = "",
    chance: float | None = 0.0,
) -> Figure:
    """Draw one screen through K checkpoints and, under each of them, what it attends to.

    Args:
        panels: K panels of the same screen, from the untrained network to the last checkpoint.
        curves: object -> `[K, 3]` float: mean, lower and upper end of its interval.
        axis_label: what the curves measure.
        tick_labels: K names of the checkpoints.
        caption: what stands below the figure.
        references: object -> level of a dashed line in the colour of its curve.
        reference_label: what the dashed lines are, for the legend.
        chance: where a dashed grey line marks chance; None for measures that have none.
    """
    references = references or {}
    with house_style():
        figure, (axes,) = lay_out([panels], [2.3], caption)
        for shift, (name, curve) in enumerate(curves.items()):
            x = np.arange(len(curve)) + 0.05 * (shift - (len(curves) - 1) / 2)
            interval = np.abs(curve[:, 1:].T - curve[:, 0])
            colour = NEUTRAL[shift % len(NEUTRAL)]
            style = {"marker": "os^Dv"[shift % 5], "color": colour, "capsize": 2.5}
            axes.errorbar(x, curve[:, 0], yerr=interval, label=name, **style)
            if name in references:
                axes.axhline(references[name], color=colour, lw=1.2, ls="--")
        if chance is not None:
            axes.axhline(chance, color=CHANCE, lw=1, ls="--")
        if references:
            axes.plot([], [], color="0.3", lw=1.2, ls="--", label=f"dashed: {reference_label}")
        axes.set(ylabel=axis_label, xlim=(-0.5, len(panels) - 0.5))
        axes.set_xticks(range(len(panels)), tick_labels)
        legend_above(axes)
    return figure


def memory_figure(
    curves: Mapping[str, np.ndarray],
    hits: np.ndarray,
    averages: Mapping[str, Mapping[str, np.ndarray]],
    *,
    event: str,
    caption: str,
) -> Figure:
    """Draw how much the memory matters through time, and averaged around events.

    Args:
        curves: name -> `[T]` saliency of the memory through one stretch of play; each is drawn over
            its own maximum, as in the paper.
        hits: `[n]` int, steps of that stretch at which the event happened.
        averages: measure -> name -> `[S, 4]` float: step relative to the event, mean, lower and
            upper end of the interval, over the mean of all steps. A plot for each measure.
        event: words for the event, for example "paddle hits ball".
        caption: what stands below the figure.
    """
    with house_style():
        figure, (above, *below) = lay_out((), [2.0, *(2.0 for _ in averages)], caption)
        colours = [ACTOR_COLOUR, *PALETTE[1:]]
        for colour, (name, curve) in zip(colours, curves.items(), strict=False):
            above.plot(curve / max(curve.max(), 1e-30), color=colour, lw=1.3, label=name)
        arrow = {"arrowstyle": "-|>", "color": EVENT, "lw": 1.5, "mutation_scale": 9}
        arrow |= {"shrinkA": 0, "shrinkB": 0}
        for hit in hits:
            above.annotate("", xy=(hit, -0.02), xytext=(hit, -0.2), arrowprops=arrow)
        above.set(xlabel="agent step", ylabel="memory saliency / max", ylim=(-0.22, 1.05))
        above.set(xlim=(0, max(len(c) for c in curves.values()) - 1))
        above.plot([], [], color=EVENT, marker="^", ls="", label=f"red arrow = {event}")
        legend_above(above)
        for axes, (measure, tables) in zip(below, averages.items(), strict=True):
            for colour, (name, table) in zip(PALETTE, tables.items(), strict=False):
                steps, mean, low, high = table.T
                axes.plot(steps, mean, color=colour, label=name)
                axes.fill_between(steps, low, high, color=colour, alpha=0.18, lw=0)
            axes.axhline(1, color=CHANCE, lw=1, ls="--")
            axes.axvline(0, color=EVENT, lw=1)
            axes.set(ylabel=f"{measure}\n/ mean of episode", xlabel=f"agent steps from: {event}")
            axes.margins(x=0)
        legend_above(below[0])
    return figure


def attention_figure(
    conditions: Mapping[str, Mapping[str, Sequence[float]]],
    intervals: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    axis_label: str,
    caption: str,
    rows: Sequence[Sequence[Panel]] = (),
    headings: Sequence[str] = (),
    critic: bool = True,
    chance: float = 0.0,
) -> Figure:
    """Draw bars per object and condition, an interval on each and a dot for each episode.

    Args:
        conditions: condition -> object -> `[E]` one number per episode, NaN where it has none.
        intervals: condition -> object -> (low, high) over whole episodes.
        axis_label: what the bars measure.
        caption: what stands below the figure.
        rows: rows of screens above the bars, with their `headings`.
        headings: what stands above each row.
        critic: whether any map of the rows has a critic.
        chance: where a dashed line marks chance.
    """
    with house_style():
        figure, (axes,) = lay_out(rows, [2.6], caption, headings, critic)
        draw_bars(axes, conditions, intervals, axis_label)
        axes.axhline(chance, color=CHANCE, lw=1, ls="--")
    return figure


def draw_bars(
    axes: Axes,
    conditions: Mapping[str, Mapping[str, Sequence[float]]],
    intervals: Mapping[str, Mapping[str, Sequence[float]]],
    axis_label: str,
) -> None:
    """Draw a bar per object and condition, with its interval and a dot for each episode.

    Args:
        axes: to draw on.
        conditions: see `attention_figure`, as the next two.
        intervals: likewise.
        axis_label: likewise.
    """
    objects = list(dict.fromkeys(name for row in conditions.values() for name in row))
    width = 0.8 / len(conditions)
    for i, (condition, row) in enumerate(conditions.items()):
        for name, values in row.items():
            values = np.asarray(values, float)[np.isfinite(values)]
            colour = NEUTRAL[i % len(NEUTRAL)]
            x = objects.index(name) + (i - (len(conditions) - 1) / 2) * width
            axes.bar(x, values.mean(), width * 0.92, color=colour)
            axes.plot([x, x], intervals[condition][name], color="white", lw=2.8)
            axes.plot([x, x], intervals[condition][name], color="0.15", lw=1.6)
            spread = x + width * np.linspace(-0.25, 0.25, len(values))
            axes.plot(spread, values, "o", color="0.15", ms=3, mec="white", mew=0.5)
    axes.set(ylabel=axis_label, xlim=(-0.6, len(objects) - 0.4))
    axes.set_xticks(range(len(objects)), objects)
    axes.grid(False, axis="x")
    shown = zip(cycle(NEUTRAL), conditions, strict=False)
    legend_above(axes, handles=[Patch(color=c, label=name) for c, name in shown])


def variants_figure(
    panels: Sequence[Panel],
    correlations: Mapping[str, np.ndarray],
    means: Mapping[str, Sequence[float]],
    *,
    caption: str,
) -> Figure:
    """Draw one screen under several arithmetics and how far each map agrees with the first.

    Args:
        panels: the same screen, first as corrected.
        correlations: variant -> `[n]` correlation with the corrected map, one per screen compared.
        means: variant -> (mean over episodes, low, high).
        caption: what stands below the figure.
    """
    with house_style():
        figure, (axes,) = lay_out([panels], [0.6 + 0.33 * len(correlations)], caption)
        for i, (name, values) in enumerate(correlations.items()):
            rows = i + np.linspace(-0.22, 0.22, len(values))
            axes.plot(np.sort(values), rows, ".", color=NEUTRAL[0], ms=4, alpha=0.5)
            mean, low, high = means[name]
            axes.plot([low, high], [i, i], color=NEUTRAL[3], lw=2, zorder=2)
            axes.plot(mean, i, "D", color=NEUTRAL[1], ms=6, mec=NEUTRAL[3], zorder=3)
        axes.set_yticks(range(len(correlations)), list(correlations))
        axes.invert_yaxis()
        axes.grid(False, axis="y")
        axes.set_xlabel("correlation (dots: screens; diamonds: mean over episodes, 95 % interval)")
        axes.axvline(1, color=CHANCE, lw=1, ls="--")
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
        scores: agent -> (training steps, mean score, low, high), measured apart from training; in
            the colour of its run, where a run has its name.
        x_label: unit of the steps.
        y_label: unit of the scores.
        levels: name -> score of a horizontal line, for example a random player's.
        caption: what stands below the figure.
    """
    with house_style():
        figure, (axes,) = lay_out((), [3.4], caption)
        colours = dict(zip(curves, cycle(PALETTE)))
        for run, (steps, score) in curves.items():
            # The measured score of a run tells the colour: the line needs no entry of its own then.
            label = None if run in scores else f"{run}, in training"
            axes.plot(steps, score, color=colours[run], lw=1.4, label=label)
        for marker, (agent, (steps, mean, low, high)) in zip(cycle("o^sDvPX*"), scores.items()):
            colour = colours.get(agent, "0.15")
            style = {"fmt": marker, "color": colour, "ms": 5, "capsize": 2.5, "zorder": 3}
            error = [[mean - low], [high - mean]]
            axes.errorbar(steps, mean, error, label=f"{agent}: {mean:.1f}", **style)
        for name, level in levels.items():
            axes.axhline(level, color=CHANCE, lw=1, ls="--")
            place = {"xycoords": ("axes fraction", "data"), "ha": "left", "va": "center"}
            axes.annotate(name, (1.01, level), size=8, **place)
        axes.set(xlabel=x_label, ylabel=y_label)
        axes.margins(x=0.04)
        if any(run in scores for run in curves):
            axes.plot([], [], color="0.15", lw=1.4, label="in training")
        legend_above(axes, letters=WIDE_LEGEND)
    return figure
