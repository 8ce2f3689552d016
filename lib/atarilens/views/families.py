"""Charts that compare agents of several algorithms: one colour per algorithm in all of them."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from atarilens.views.layouts import CHANCE, house_style

ALGORITHMS = {  # apart for colour-blind readers; a family has neighbouring hues
    "ppo": "#0173b2",
    "a2c": "#56b4e9",
    "dqn": "#de8f05",
    "qr-dqn": "#ca5b00",
    "ga": "#029e73",
    "es": "#9b6bb5",
    "untrained": "#8c8c8c",
    "random": "#8c8c8c",
}
MARKERS = {"ppo": "o", "a2c": "p", "dqn": "s", "qr-dqn": "D", "ga": "^", "es": "v"}
NEWCOMER = "#c2185b"
MOST_NUMBERED = 11  # agents of a chart half a page wide whose numbers and intervals can be read


def algorithm_colour(name: str) -> str:
    """Return the colour of an algorithm, or of an agent named `<algorithm>-<game>-<run>`."""
    found = [known for known in ALGORITHMS if name == known or name.startswith(f"{known}-")]
    return ALGORITHMS[max(found, key=len)] if found else NEWCOMER


def mark_of(name: str) -> str:
    """Return the mark of an algorithm, or of an agent named `<algorithm>-<game>-<run>`."""
    found = [known for known in MARKERS if name == known or name.startswith(f"{known}-")]
    return MARKERS[max(found, key=len)] if found else "X" if name.startswith("untrained") else "*"


def draw_accuracies(axes: Axes, rows: Mapping[str, tuple[Sequence[float], float]]) -> None:
    """Draw how well classifiers do: a row for each question, a dot for each fold, chance marked.

    Args:
        axes: where to draw.
        rows: question -> (accuracies, accuracy of a guess).
    """
    with house_style():
        for place, (values, chance) in enumerate(rows.values()):
            values = np.asarray(values, float)
            axes.plot([chance] * 2, [place - 0.36, place + 0.36], color=CHANCE, lw=1.4, ls="--")
            spread = place + (np.linspace(-0.18, 0.18, len(values)) if len(values) > 1 else 0)
            axes.plot(values, spread, "o", color="#12655f", ms=3.5, alpha=0.45, mec="none")
            axes.plot(values.mean(), place, "D", color="#12655f", ms=6.5, mec="white", mew=1)
            style = {"transform": axes.get_yaxis_transform(), "va": "center"}
            axes.text(1.02, place, f"{values.mean():.2f}", fontweight="bold", **style)
        axes.set_yticks(range(len(rows)), list(rows))
        axes.set(xlim=(-0.03, 1.03), ylim=(len(rows) - 0.4, -0.6), xlabel="accuracy")
        axes.grid(False, axis="y")


def draw_nothing(axes: Axes, words: str) -> None:
    """Say in an empty axes why it is empty."""
    with house_style():
        axes.set_axis_off()
        axes.text(0.5, 0.5, words, transform=axes.transAxes, ha="center", va="center", color="0.35")


def draw_falls(
    axes: Axes,
    curves: Mapping[str, Sequence[tuple[float, float, float]]],
    levels: Sequence[float],
    *,
    label: str = "",
    faint: Collection[str] = (),
) -> None:
    """Draw what is left of scores as noise grows; levels stand at equal distances.

    Args:
        axes: where to draw.
        curves: agent -> (share, low, high) at each level.
        levels: of the noise.
        label: of the y axis.
        faint: agents that are drawn faintly.
    """
    with house_style():
        axes.axhline(0, color=CHANCE, lw=1, ls="--")
        axes.axhline(1, color="0.8", lw=1)
        width = 0.5 / max(len(curves), 1)
        for k, (name, curve) in enumerate(curves.items()):
            share, low, high = np.array(curve, float).T
            x = np.arange(len(levels)) + (k - (len(curves) - 1) / 2) * width
            colour, marker = algorithm_colour(name), mark_of(name)
            style = {"color": colour, "alpha": 0.3 if name in faint else 1.0}
            pale = {"alpha": 0.25 * style["alpha"]} if len(curves) > MOST_NUMBERED else {}
            axes.vlines(x, low, high, lw=0.8, **(style | pale))
            axes.plot(x, share, marker=marker, ms=4, lw=1.4, **style)
        axes.set_xticks(range(len(levels)), [f"{level:g}" for level in levels])
        axes.set(ylim=(-0.6, 1.6), ylabel=label, xlim=(-0.5, len(levels) - 0.5))


def name_algorithms(axes: Axes, names: Sequence[str], note: str = "") -> None:
    """Make an empty axes of the legend: the colour and the mark of each algorithm."""
    with house_style():
        axes.set_axis_off()
        marks = [
            Line2D([], [], color=algorithm_colour(n), marker=MARKERS.get(n, "*"), ms=6, label=n)
            for n in names
        ]
        axes.legend(handles=marks, loc="center left", ncols=len(marks) or 1, handlelength=1.6)
        axes.text(1, 0.5, note, transform=axes.transAxes, ha="right", va="center", color="0.3")


def draw_attention(
    axes: Axes, means: Mapping[str, Mapping[str, tuple[float, float, float]]], *, label: str
) -> None:
    """Draw how much of each agent's maps lies on each kind of object, with intervals.

    Args:
        axes: where to draw.
        means: agent -> object -> (mean, low, high).
        label: of the y axis.
    """
    with house_style():
        objects = list(dict.fromkeys(name for row in means.values() for name in row))
        width, size = 0.8 / max(len(means), 1), min(5, max(3, 50 / max(len(means), 1)))
        for k, (name, row) in enumerate(means.items()):
            colour, marker = algorithm_colour(name), mark_of(name)
            for thing, (mean, low, high) in row.items():
                x = objects.index(thing) + (k - (len(means) - 1) / 2) * width
                axes.plot([x, x], [low, high], color=colour, lw=1.4)
                axes.plot(x, mean, marker, color=colour, ms=size)
        axes.axhline(0, color=CHANCE, lw=1, ls="--")
        for place in range(1, len(objects)):
            axes.axvline(place - 0.5, color="0.9", lw=0.8)
        axes.set_xticks(range(len(objects)), objects)
        axes.set(xlim=(-0.5, len(objects) - 0.5), ylabel=label)
        axes.grid(False, axis="x")


def draw_points(
    axes: Axes,
    places: np.ndarray,
    names: Sequence[str],
    *,
    shade: Sequence[float] | None = None,
    latecomer: np.ndarray | None = None,
    legend: bool = False,
) -> None:
    """Draw a map of points, coloured by algorithm; its distances mean nothing, so no ticks.

    Args:
        axes: where to draw.
        places: `[n, 2]`.
        names: of each point's algorithm.
        shade: `[n]` in [0, 1], for example the score: how dark a point is.
        latecomer: places `[m, 2]` of an agent that the map was not made of.
        legend: name the colours below the map.
    """
    with house_style():
        names = np.asarray(names)
        shade = np.full(len(places), 0.7) if shade is None else 0.25 + 0.75 * np.asarray(shade)
        for name in dict.fromkeys(names.tolist()):
            own = names == name
            style = {"color": algorithm_colour(name), "alpha": shade[own], "lw": 0, "s": 7}
            marker = MARKERS.get(name, "o")
            axes.scatter(*places[own].T, marker=marker, **style)
            axes.scatter([], [], color=algorithm_colour(name), marker=marker, s=22, label=name)
        if latecomer is not None:
            style = {"facecolors": "none", "edgecolors": NEWCOMER, "lw": 0.8, "s": 16}
            axes.scatter(*latecomer.T, label="latecomer", **style)
        if legend:
            place = {"loc": "upper left", "bbox_to_anchor": (0, 0), "handletextpad": 0.1}
            axes.legend(ncols=6, columnspacing=0.9, **place)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(True)
        axes.spines[:].set_color("0.8")


def draw_matrix(axes: Axes, table: np.ndarray, names: Sequence[str], *, low: float = 0.0) -> None:
    """Draw how alike pairs of agents are: a square for each pair, its number in it.

    Numbers that would be too small to read give way to a scale of the colours.

    Args:
        axes: where to draw.
        table: `[R, R]`, at most 1.
        names: of the R agents.
        low: value drawn white.
    """
    import seaborn as sns  # it loads slowly, and few figures need it

    with house_style():
        crowded = len(names) > MOST_NUMBERED
        scale = {"boundaries": np.linspace(low, 1, 51), "ticks": np.linspace(low, 1, 5)}
        told = {"annot": not crowded, "fmt": ".2f", "annot_kws": {"size": 7}}
        told |= {"cbar": crowded, "cbar_kws": {"fraction": 0.06, "format": "%.2f", **scale}}
        labels = {"xticklabels": names, "yticklabels": names}
        sns.heatmap(table, ax=axes, cmap="Blues", vmin=low, vmax=1.15, **told, **labels)
        turned = {"rotation": 90, "va": "center"} if crowded else {"rotation": 35}
        for label in axes.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor", **turned)
        for label in axes.get_yticklabels():
            label.set_rotation(0)
        for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
            label.set_color(algorithm_colour(label.get_text()))
        axes.grid(False)
        axes.tick_params(length=0)
