"""Figures of changed games: screens of the branches, and what the agent does in each."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from atarilens.views.charts import draw_strips
from atarilens.views.layouts import (
    DPI,
    NEUTRAL,
    WIDTH,
    draw_panel,
    house_style,
    legend_above,
    put_title,
)
from atarilens.views.screens import Panel

MARKS = "osD^v"  # a shape per group besides its colour


def branches_figure(
    panels: Sequence[Panel],
    policies: Mapping[str, Sequence[float]],
    *,
    title: str,
    shares: Mapping[str, tuple[Sequence[float], Sequence[float]]] | None = None,
    share_label: str = "",
) -> Figure:
    """Draw the screens of one decision's branches, and below each what the agent would do in it.

    Args:
        panels: one per branch, the original first.
        policies: action -> `[n]` probabilities, one per branch.
        title: the finding; wrapped.
        shares: row -> (one share per episode, (mean, low, high)), drawn below on a line at one
            half; None for none.
        share_label: what the shares are of.
    """
    actions, count = list(policies), len(panels)
    chances = np.array([policies[action] for action in actions])
    tall = WIDTH / count * 210 / 160 * 0.92
    with house_style():
        extra = 0.5 + 0.25 * len(shares) if shares else 0
        size = (WIDTH, tall + 0.24 * len(actions) + 1.6 + extra)
        figure = Figure(figsize=size, dpi=DPI, layout="constrained")
        put_title(figure, title)
        ratios = [tall + 0.5, 0.24 * len(actions) + 0.3]
        ratios += [extra] * bool(shares)
        grid = figure.add_gridspec(len(ratios), count, height_ratios=ratios)
        above, below = ([figure.add_subplot(grid[row, k]) for k in range(count)] for row in (0, 1))
        for axes, panel in zip(above, panels, strict=True):
            draw_panel(axes, panel)
        places = np.arange(len(actions))
        for i, axes in enumerate(below):
            axes.barh(places, chances[:, i], 0.7, color=NEUTRAL[0] if i else NEUTRAL[2])
            if i:
                axes.plot(chances[:, 0], places, "|", color="0.15", ms=9, mew=2)
            axes.set(xlim=(0, 1), ylim=(len(actions) - 0.5, -0.5), xticks=[0, 0.5, 1])
            axes.set_xticklabels(["0", "", "1"])
            axes.set_yticks(places, actions if i == 0 else [""] * len(actions))
            axes.grid(False, axis="y")
        below[0].set_xlabel("probability; lines: without the change", loc="left")
        if shares:
            axes = figure.add_subplot(grid[2, :])
            values = {name: found for name, (found, _) in shares.items()}
            ends = {name: np.clip(interval, 0, 1) for name, (_, interval) in shares.items()}
            colours = dict.fromkeys(shares, NEUTRAL[0])
            draw_strips(axes, values, ends, colours, label=share_label, chance=0.5)
            axes.set(xlim=(-0.02, 1.02))
    return figure


def shares_figure(
    panels: Sequence[Panel],
    shares: Mapping[str, Mapping[str, Sequence[float]]],
    intervals: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    title: str,
    axis_label: str,
    numbered: Collection[str] = (),
) -> Figure:
    """Draw screens at the left, and shares per group and condition as dots with their intervals.

    Args:
        panels: screens that explain the conditions.
        shares: group -> condition -> `[E]`, one share per episode.
        intervals: group -> condition -> (low, high) of the mean.
        title: the finding; wrapped.
        axis_label: what the share is of.
        numbered: conditions whose means are also written in per cent.
    """
    conditions = list(dict.fromkeys(name for row in shares.values() for name in row))
    ends = [high for row in intervals.values() for _, high in row.values()]
    right_end = min(1.02, np.nanmax(ends) + 0.05)
    with house_style():
        height = max(2.6, 0.15 * len(conditions) * len(shares) + 1.3)
        figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained")
        put_title(figure, title)
        left, right = figure.subfigures(1, 2, width_ratios=[1.6 * len(panels), 4.8])
        for axes, panel in zip(np.atleast_1d(left.subplots(1, len(panels))), panels, strict=True):
            draw_panel(axes, panel)
        axes = right.subplots()
        for i, (group, row) in enumerate(shares.items()):
            offset = (i - (len(shares) - 1) / 2) * 0.8 / len(shares)
            colour = NEUTRAL[i % len(NEUTRAL)]
            for name, values in row.items():
                place = conditions.index(name) + offset
                axes.plot(intervals[group][name], [place] * 2, color=colour, lw=2.2)
                mark = MARKS[i % len(MARKS)]
                axes.plot(np.mean(values), place, mark, color=colour, ms=6, mec="0.15", mew=0.7)
                if name in numbered:
                    right_of = (intervals[group][name][1], place)
                    style = {"textcoords": "offset points", "va": "center", "fontsize": 8}
                    axes.annotate(f"{np.mean(values):.0%}", right_of, (3, 0), **style)
        for place in range(len(conditions) - 1):
            axes.axhline(place + 0.5, color="0.85", lw=0.8)
        axes.set(ylim=(len(conditions) - 0.5, -0.5), xlim=(-0.02, right_end), xlabel=axis_label)
        axes.set_yticks(range(len(conditions)), conditions)
        axes.grid(False, axis="y")
        handles = [
            Line2D(
                [], [], color=NEUTRAL[i % len(NEUTRAL)], marker=MARKS[i % len(MARKS)], label=name
            )
            for i, name in enumerate(shares)
        ]
        legend_above(axes, handles, letters=62)
    return figure
