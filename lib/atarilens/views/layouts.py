"""The layouts of the figures. Every function takes arrays and returns a matplotlib Figure.

A figure is 8 inches wide with letters of 9 points, so that it can be read at the width of a README.
Nothing is styled at import; nothing is computed here but positions.
"""

import textwrap
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Circle, FancyBboxPatch, Patch

from atarilens.views.screens import ACTOR, CRITIC, Panel, enlarge

WIDTH = 8.0  # inches
DPI = 180
LETTERS = 132  # of 8 points that fit into the width
LEGEND = 104  # of 9 points, above an axes; a wider one would make the axes narrower
TITLE = 72  # of 13 points
HEADING = 84  # of 11 points
NOTE = 118  # of 9 points
HEAD_COLOURS = {"actor": ACTOR, "critic": CRITIC}
WIDE_LEGEND = 112  # above an axes that has words at its right
HOUSE_STYLE = Path(__file__).with_name("house.mplstyle")
# Of curves without a role: seaborn's "colorblind".
PALETTE = (
    *("#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc"),
    *("#ca9161", "#fbafe4", "#949494", "#ece133", "#56b4e9"),
)
# Of conditions and objects below screens, where blue, red and magenta are taken by the heads:
# teal, ochre, grey, brown, pale teal, cream; apart for colour-blind eyes, too.
NEUTRAL = ("#1f6f6b", "#dba53a", "#8c8c8c", "#5b3d1e", "#8fcfc6", "#f0e2c4")
CHANCE = "0.45"  # grey of the lines that mark chance
EVENT = "#d7301f"  # red of the marks of events


def house_style() -> AbstractContextManager:
    """Return the context in which every figure is drawn: that of `house.mplstyle`."""
    return mpl.rc_context(fname=HOUSE_STYLE)


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


def put_title(figure: Figure, title: str) -> None:
    """Write the finding above a figure of one layout, wrapped."""
    lines = textwrap.wrap(title, HEADING, break_on_hyphens=False)
    style = {"x": 0.008, "ha": "left", "fontsize": 11, "fontweight": "bold"}
    figure.suptitle("\n".join(lines), **style)


def colour_legend(figure: Figure | SubFigure, critic: bool = True) -> None:
    """Name the colour of each head above the figure."""
    handles = [Patch(color=ACTOR, label="blue = actor (what it would do)")]
    if critic:
        handles += [
            Patch(color=CRITIC, label="orange-red = critic (what it expects)"),
            Patch(facecolor="white", edgecolor="0.6", label="white = both"),
        ]
    figure.legend(handles=handles, loc="outside upper left", ncols=3, handlelength=1.1)


@dataclass(frozen=True)
class Plot:
    """A place for a chart in a row of a page.

    height: inches, if the row has no panel. width: in widths of a panel.
    """

    height: float = 2.4
    width: float = 1.0


def page(
    title: str,
    rows: Sequence[Sequence[Panel | Plot]],
    *,
    note: str = "",
    heads: Sequence[str] = ("actor", "critic"),
    tallest: float = 3.6,
) -> tuple[Figure, list[Axes]]:
    """Lay out a figure: its finding as the title, then rows of screens and charts.

    Args:
        title: the finding, in one or two lines.
        rows: what stands side by side; a row's panels share its width equally.
        note: a line or two at the bottom, for example what n is.
        heads: which heads the maps show, for the legend; none leaves it out.
        tallest: inches that a screen may be high.

    Returns:
        The figure, and the axes of its plots in reading order.
    """
    with house_style():
        sizes = [_row_size(row, tallest) for row in rows]
        lines = textwrap.wrap(title, TITLE, break_on_hyphens=False)
        head = 0.24 * len(lines) + 0.1 + 0.26 * bool(heads)
        notes = textwrap.wrap(note, NOTE)
        height = head + sum(sizes) + 0.17 * len(notes) + 0.05 * bool(note)
        figure = Figure(figsize=(WIDTH, height), dpi=DPI)
        down = 0.24 * len(lines) + 0.08
        style = {"ha": "left", "va": "top", "fontsize": 13, "fontweight": "bold"}
        figure.text(0.012, 1 - 0.06 / height, "\n".join(lines), linespacing=1.15, **style)
        handles = [Patch(color=HEAD_COLOURS[name], label=name) for name in heads]
        if len(heads) > 1:
            handles.append(Patch(facecolor="white", edgecolor="0.6", label="both"))
        if heads:
            place = {"loc": "upper left", "bbox_to_anchor": (0.004, 1 - (down - 0.02) / height)}
            figure.legend(handles=handles, ncols=3, handlelength=1.1, **place)
        if note:
            style = {"ha": "left", "va": "bottom", "fontsize": 9, "color": "0.3"}
            figure.text(0.012, 0.05 / height, "\n".join(notes), linespacing=1.2, **style)
        blocks = _blocks(rows)
        heights = [sum(sizes[k] for k in block) for block in blocks]
        style = {"height_ratios": heights, "squeeze": False}
        parts = figure.subfigures(len(blocks), 1, **style)[:, 0]
        drawn = []
        for part, block in zip(parts, blocks, strict=True):
            cells = rows[block[0]]
            widths = [cell.width if isinstance(cell, Plot) else 1 for cell in cells]
            ratios = {"width_ratios": widths, "height_ratios": [sizes[k] for k in block]}
            grid = part.subplots(len(block), len(cells), squeeze=False, **ratios)
            for k, line in zip(block, grid, strict=True):
                for axes, cell in zip(line, rows[k], strict=True):
                    if isinstance(cell, Panel):
                        draw_panel(axes, cell)
                    else:
                        drawn.append(axes)
        bottom = (0.17 * len(notes) + 0.05 * bool(note)) / height
        rect = (0, bottom, 1, 1 - head / height - bottom)
        figure.set_layout_engine("constrained", rect=rect, w_pad=0.05, h_pad=0.05)
    return figure, drawn


def _blocks(rows: Sequence[Sequence[Panel | Plot]]) -> list[list[int]]:
    """Join neighbouring rows of equally many charts, so that their axes are aligned."""
    blocks: list[list[int]] = []
    for k, row in enumerate(rows):
        charts = all(isinstance(cell, Plot) for cell in row)
        before = rows[blocks[-1][0]] if blocks else []
        alike = len(before) == len(row) and all(isinstance(cell, Plot) for cell in before)
        if charts and alike:
            blocks[-1].append(k)
        else:
            blocks.append([k])
    return blocks


def _row_size(row: Sequence[Panel | Plot], tallest: float) -> float:
    """Return the inches that a row is high: its screens' proportions, and their words."""
    panels = [cell for cell in row if isinstance(cell, Panel)]
    if not panels:
        return max(cell.height for cell in row)
    share = (WIDTH - 0.2) / sum(getattr(cell, "width", 1) for cell in row)
    height = max(_proportion(panel) for panel in panels) * share
    notes = max(len(panel.note.splitlines()) for panel in panels)
    return min(height, tallest) + 0.1 + 0.22 * any(panel.title for panel in panels) + 0.18 * notes


def _proportion(panel: Panel) -> float:
    """Return height over width of what a panel shows."""
    top, bottom, left, right = panel.view or (0, panel.image.shape[0], 0, panel.image.shape[1])
    return (bottom - top) / (right - left)


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
    top, bottom, left, right = panel.view or (0, height, 0, width)
    axes.set(xticks=[], yticks=[], xlim=(left, right), ylim=(bottom, top))
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
    for box in [panel.box] * (panel.box is not None) + list(panel.boxes):
        top, bottom, left, right = box
        rounded = "round,pad=2,rounding_size=3"
        outline = FancyBboxPatch((left, top), right - left, bottom - top, boxstyle=rounded)
        outline.set(fill=False, edgecolor="white", linewidth=1.4)
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


def draw_bars(
    axes: Axes,
    conditions: Mapping[str, Mapping[str, Sequence[float]]],
    intervals: Mapping[str, Mapping[str, Sequence[float]]],
    axis_label: str,
) -> None:
    """Draw a bar per object and condition, with its interval and a dot for each episode.

    Args:
        axes: to draw on.
        conditions: condition -> object -> `[E]` one number per episode, NaN where it has none.
        intervals: condition -> object -> (low, high) over whole episodes.
        axis_label: what the bars measure.
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


def curves_figure(
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]],
    scores: Mapping[str, Sequence[float]],
    *,
    title: str,
    x_label: str,
    y_label: str,
    levels: Mapping[str, float],
    note: str = "",
) -> Figure:
    """Draw training curves, the measured scores of the shipped checkpoints and named levels.

    Args:
        curves: run -> (training steps `[n]`, training score `[n]`).
        scores: agent -> (training steps, mean score, low, high), measured apart from training. If
            a run has the agent's name, the score has the colour of that run.
        title: the finding.
        x_label: unit of the steps.
        y_label: unit of the scores.
        levels: name -> score of a horizontal line, for example a random player's.
        note: a short line below the figure.
    """
    with house_style():
        figure, (axes,) = page(title, [[Plot(3.6)]], note=note, heads=())
        colours = dict(zip(curves, cycle(PALETTE)))
        for run, (steps, score) in curves.items():
            # The measured score of a run tells the colour: the line needs no entry of its own then.
            label = None if run in scores else f"{run}, in training"
            axes.plot(steps, score, color=colours[run], lw=1.6, label=label)
        for marker, (agent, (steps, mean, low, high)) in zip(cycle("o^sDvPX*"), scores.items()):
            colour = colours.get(agent, "0.15")
            style = {"fmt": marker, "color": colour, "ms": 6, "capsize": 2.5, "zorder": 3}
            error = [[mean - low], [high - mean]]
            axes.errorbar(steps, mean, error, label=f"{agent}: {mean:.1f}", **style)
        for name, level in levels.items():
            axes.axhline(level, color=CHANCE, lw=1, ls="--")
            place = {"xycoords": ("axes fraction", "data"), "ha": "left", "va": "center"}
            axes.annotate(name, (1.01, level), size=9, **place)
        axes.set(xlabel=x_label, ylabel=y_label)
        axes.margins(x=0.04)
        if any(run in scores for run in curves):
            axes.plot([], [], color="0.15", lw=1.6, label="in training")
        legend_above(axes, letters=WIDE_LEGEND)
    return figure
