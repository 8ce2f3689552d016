"""Charts for the axes of a page: one colour per role, an interval on every mean, n in words."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from atarilens.measures.intervals import course_interval
from atarilens.measures.verdicts import FEWEST
from atarilens.views.layouts import house_style
from atarilens.views.screens import ACTOR, CRITIC

ROLES = {  # one colour per role, in every figure
    "agent": "#12655f",
    "actor": ACTOR,
    "critic": CRITIC,
    "untrained": "#8c8c8c",
    "other times": "#c99a1e",
    "other place": "#7a4f9a",
    "reference": "#c99a1e",
    "overfit": "#a23b72",
    "control": "#12655f",
}
INK = "0.2"


def role_colour(name: str) -> str:
    """Return the colour of the role that a name begins with or contains; ink if it has none."""
    found = [role for role in ROLES if name.lower().startswith(role)]
    found += [role for role in ROLES if role in name.lower()]
    return ROLES[found[0]] if found else INK


def draw_differences(
    axes: Axes,
    tests: Mapping[str, Mapping[str, Mapping]],
    *,
    unit: str,
    dots: Mapping[str, Mapping[str, Sequence[float]]] | None = None,
) -> None:
    """Draw paired differences on a zero line: a row for each claim and control.

    Args:
        axes: where to draw.
        tests: claim -> control -> what `measures.contrast` found.
        unit: of the differences, for the axis.
        dots: claim -> control -> the difference of each episode.
    """
    with house_style():
        rows = [(claim, control) for claim, found in tests.items() for control in found]
        for place, (claim, control) in enumerate(rows):
            test, colour = tests[claim][control], role_colour(control)
            if dots:
                values = np.asarray(dots[claim][control], float)
                values = values[np.isfinite(values)]
                spread = place + np.linspace(-0.22, 0.22, len(values))
                axes.plot(values, spread, "o", color=colour, ms=3.5, alpha=0.45, mec="none")
            axes.plot([test["low"], test["high"]], [place, place], color=colour, lw=3)
            axes.plot(test["difference"], place, "D", color=colour, ms=6.5, mec="white", mew=1)
            place_in = {"transform": axes.get_yaxis_transform(), "va": "center"}
            axes.text(1.01, place, test["outcome"], fontweight="bold", **place_in)
        axes.axvline(0, color=INK, lw=1)
        names = [f"{claim}: {control}" if claim else control for claim, control in rows]
        axes.set_yticks(range(len(rows)), names)
        axes.set(ylim=(len(rows) - 0.4, -0.6), xlabel=unit)
        axes.grid(False, axis="y")


def draw_courses(
    axes: Axes,
    courses: Mapping[str, np.ndarray],
    lags: np.ndarray,
    *,
    windows: Sequence[tuple[float, float]] = (),
    episodes: bool = True,
    colours: Mapping[str, str] | None = None,
) -> None:
    """Draw courses around an event: the mean with its interval, thin lines for episodes.

    Fewer than three episodes have no interval that says anything: none is drawn then.

    Args:
        axes: where to draw.
        courses: name -> `[E, n]`, NaN for what an episode lacks.
        lags: `[n]`, agent steps from the event.
        windows: first and last lag of each claim, shaded.
        episodes: draw each episode of the first course, too.
        colours: name -> colour; by default those of the roles.
    """
    with house_style():
        for window in windows:
            axes.axvspan(*window, color="#fff1cc", lw=0, zorder=0)
        axes.axvline(0, color=INK, lw=1, ls="--")
        for place, (name, table) in enumerate(courses.items()):
            colour = (colours or {}).get(name) or role_colour(name)
            seen = np.isfinite(table).any(0)
            table, at = table[:, seen], lags[seen]
            if place == 0 and episodes:
                axes.plot(at, table.T, color=colour, lw=0.5, alpha=0.35)
            if len(table) >= FEWEST:
                axes.fill_between(at, *course_interval(table).T, color=colour, alpha=0.2, lw=0)
            axes.plot(at, np.nanmean(table, 0), color=colour, lw=2.2, label=name)
        axes.margins(x=0)


def draw_slopes(axes: Axes, scores: Mapping[str, Mapping[str, tuple]], *, label: str) -> None:
    """Draw how a score changes over conditions: a line for each of two agents, points named.

    Args:
        axes: where to draw.
        scores: agent -> condition -> (mean, low, high).
        label: of the y axis.
    """
    with house_style():
        conditions = list(dict.fromkeys(c for row in scores.values() for c in row))
        for name, row in scores.items():
            colour = role_colour(name)
            at = [conditions.index(c) for c in row]
            mean, low, high = np.array(list(row.values())).T
            axes.errorbar(at, mean, [mean - low, high - mean], color=colour, lw=2.4, marker="o")
            for x, y, condition in zip(at, mean, row, strict=True):
                others = [other[condition][0] for other in scores.values() if condition in other]
                above = y > min(others)  # the lower of two points has its number below
                left = x == at[0]  # where no line comes from
                place = {"textcoords": "offset points", "color": colour}
                place |= {"ha": "right" if left else "left"}
                away = (-6 if left else 6, 5 if above else -14)
                axes.annotate(f"{y:.0f}", (x, y), away, **place)
            axes.plot([], [], color=colour, lw=2.4, marker="o", label=name)
        axes.set_xticks(range(len(conditions)), [c.replace(" ", "\n") for c in conditions])
        axes.margins(y=0.12)
        axes.set(ylabel=label, xlim=(-0.55, len(conditions) - 0.4))
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, handlelength=1.2)


def draw_ages(axes: Axes, curves: Mapping[str, np.ndarray], labels: Sequence[str]) -> None:
    """Draw how a measure changes with the age of an agent.

    Args:
        axes: where to draw.
        curves: role -> `[n, 3]`: mean, low and high at each age.
        labels: n names of the ages.
    """
    with house_style():
        for shift, (name, curve) in enumerate(curves.items()):
            x = np.arange(len(curve)) + 0.06 * shift
            reach = np.abs(curve[:, 1:].T - curve[:, 0])
            style = {"color": role_colour(name), "marker": "os^Dv"[shift % 5], "lw": 2.2}
            axes.errorbar(x, curve[:, 0], yerr=reach, label=name, capsize=2.5, **style)
        axes.axhline(0, color=INK, lw=1)
        axes.set_xticks(range(len(labels)), labels)
        if len(curves) > 1:
            axes.legend(loc="best", handlelength=1.4)


def draw_heatmap(
    axes: Axes, table: np.ndarray, lags: np.ndarray, top: float = 0, *, label: str = ""
) -> None:
    """Draw one line per event, brightness its value at each lag.

    Args:
        axes: where to draw.
        table: `[n, lags]`.
        lags: `[lags]`, agent steps from the event.
        top: value drawn full; 0 takes the 98th percentile.
        label: of the colour bar at the right; "" leaves the bar out.
    """
    with house_style():
        extent = (lags[0] - 0.5, lags[-1] + 0.5, len(table), 0)
        style = {"cmap": "cividis", "aspect": "auto", "interpolation": "antialiased"}
        top = top or np.percentile(table, 98)
        image = axes.imshow(table, extent=extent, vmin=0, vmax=top, **style)
        if label:
            bar = axes.inset_axes([1.03, 0, 0.05, 1])
            axes.get_figure().colorbar(image, cax=bar, extend="max").set_label(label)
        axes.axvline(0, color="white", lw=1, ls="--")
        axes.set(yticks=[])
        axes.grid(False)


def draw_strips(
    axes: Axes,
    values: Mapping[str, Sequence[float]],
    intervals: Mapping[str, Sequence[float]],
    colours: Mapping[str, str],
    *,
    label: str,
    chance: float | None = 0.0,
) -> None:
    """Draw a strip of dots per row, its mean and interval, on a line that marks chance.

    Args:
        axes: where to draw.
        values: row -> `[n]`, one dot each.
        intervals: row -> (mean, low, high).
        colours: row -> colour.
        label: of the x axis.
        chance: where the line is; None for no line.
    """
    with house_style():
        for place, (name, row) in enumerate(values.items()):
            colour, row = colours[name], np.sort(np.asarray(row, float))
            spread = place + 0.3 * (np.arange(len(row)) * 0.618 % 1 - 0.5)
            axes.plot(row, spread, "o", color=colour, ms=3.5, alpha=0.4, mec="none")
            mean, low, high = intervals[name]
            axes.plot([low, high], [place, place], color=INK, lw=2.6)
            axes.plot(mean, place, "D", color=colour, ms=8, mec=INK, mew=1.2)
        if chance is not None:
            axes.axvline(chance, color=INK, lw=1)
        axes.set_yticks(range(len(values)), list(values))
        axes.set(ylim=(len(values) - 0.4, -0.6), xlabel=label)
        axes.grid(False, axis="y")


def name_lines(
    axes: Axes, colours: Mapping[str, str], *, inside: bool = False, columns: int = 0
) -> None:
    """Put a legend of named colours above an axes, in one row or so many columns, or inside."""
    with house_style():
        handles = [Line2D([], [], color=c, lw=3, label=name) for name, c in colours.items()]
        above = {"loc": "lower left", "bbox_to_anchor": (0, 1), "ncols": columns or len(handles)}
        axes.legend(handles=handles, **({"loc": "best"} if inside else above))
