"""Turn arrays and numbers into the explorer's PNG bytes, SVG and HTML, figures and clips."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from io import BytesIO

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from atarilens.apps.activations import channels_image
from atarilens.apps.explorer.decision import HEADS, Explanation, Knobs, Probe
from atarilens.apps.explorer.exploration import Exploration
from atarilens.games.objects import game
from atarilens.play.trajectories import Trajectory
from atarilens.saliency import SaliencyMaps
from atarilens.views import Panel, movie_frames
from atarilens.views.layouts import house_style, lay_out, legend_above
from atarilens.views.screens import HEADS as HEAD_COLOURS

COLOURS = {  # Okabe and Ito's, readable on light and on dark
    "ball": "#e69f00",
    "paddle": "#009e73",
    "opponent": "#cc79a7",
    "bricks": "#cc79a7",
    "tunnel": "#56b4e9",
    "ship": "#009e73",
    "aliens": "#e69f00",
    "shields": "#cc79a7",
    "laser": "#56b4e9",
    "bombs": "#d55e00",
}
VALUE_COLOURS = ("#d1495b", "#888888")  # of the player, of another onlooker
WON, LOST = "#009e73", "#d55e00"


def colour(name: str) -> str:
    """Return the colour of an object, the same in every part of the explorer."""
    return COLOURS.get(name, "#888888")


def png(image: np.ndarray) -> bytes:
    """Encode `[h, w, 3]` uint8, or `[H, W]` float in [0, 1], as PNG."""
    if image.dtype != np.uint8:
        image = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, "png", compress_level=1)
    return buffer.getvalue()


def to_screen(
    row: float, column: float, region: Sequence[int], shape: Sequence[int]
) -> tuple[float, float]:
    """Move a point of the observation, in px, to the screen."""
    top, bottom, left, right = region
    return top + row * (bottom - top) / shape[0], left + column * (right - left) / shape[1]


def pixel_at(
    x: float, y: float, region: Sequence[int] | None, shape: Sequence[int]
) -> tuple[int, int] | None:
    """Return the pixel of the observation under a click.

    Args:
        x: share of the picture's width, from the left.
        y: share of its height, from the top.
        region: of the screen that the observation covers, or None where the picture is the
            observation itself.
        shape: (H, W) of the observation.

    Returns:
        (row, column), or None for a click on a part of the screen that the agent does not see.
    """
    row, column = y * shape[0], x * shape[1]
    if region is not None:
        top, bottom, left, right = region
        row = (y * 210 - top) / (bottom - top) * shape[0]
        column = (x * 160 - left) / (right - left) * shape[1]
    if not (0 <= row < shape[0] and 0 <= column < shape[1]):
        return None
    return int(row), int(column)


def marks_svg(
    size: Sequence[int],
    boxes: Mapping[str, np.ndarray],
    centre: tuple[int, int] | None,
    radius: float,
    region: Sequence[int],
    shape: Sequence[int],
) -> str:
    """Draw object boxes and the probed pixel over a picture.

    Args:
        size: (height, width) of the picture in px.
        boxes: object -> `[n, 4]` in px of the observation.
        centre: (row, column) of the probed pixel of the observation, or None.
        radius: px of the observation, of the circle round it.
        region: of the picture that the observation covers.
        shape: (H, W) of the observation.
    """
    height, width = size
    parts = [f'<svg viewBox="0 0 {width} {height}" preserveAspectRatio="none">']
    for name, found in boxes.items():
        for top, bottom, left, right in found:
            y, x = to_screen(top, left, region, shape)
            to_y, to_x = to_screen(bottom, right, region, shape)
            parts.append(
                f'<rect x="{x:.2f}" y="{y:.2f}" width="{to_x - x:.2f}" height="{to_y - y:.2f}" '
                f'stroke="{colour(name)}" class="box"><title>{escape(name)}</title></rect>'
            )
    if centre is not None:
        y, x = to_screen(centre[0] + 0.5, centre[1] + 0.5, region, shape)
        ry = radius * (region[1] - region[0]) / shape[0]
        rx = radius * (region[3] - region[2]) / shape[1]
        ellipse = f'<ellipse cx="{x:.2f}" cy="{y:.2f}" rx="{{}}" ry="{{}}" class="{{}}"/>'
        parts += [
            ellipse.format(round(rx, 2), round(ry, 2), "probe"),
            ellipse.format(0.8, 0.8, "probed"),
        ]
    return "".join([*parts, "</svg>"])


def with_gaze(svg: str, points: np.ndarray) -> str:
    """Add gaze points `[n, 2]`, (row, column) in px of the screen, to a drawing over it."""
    style = 'r="1.6" fill="#ff2020" fill-opacity="0.8" stroke="none"'
    dots = (f'<circle cx="{x + 0.5}" cy="{y + 0.5}" {style}/>' for y, x in points.tolist())
    return svg.removesuffix("</svg>") + "".join(dots) + "</svg>"


@dataclass(frozen=True)
class Curve:
    """Values over the steps of an episode.

    Attributes:
        steps: `[n]` int, increasing, at which the values are known.
        values: `[n]` float; NaN, where there is none, makes a gap.
        colour: of the line.
    """

    steps: np.ndarray
    values: np.ndarray
    colour: str

    def at(self, step: int) -> float:
        """Return the value at a step, NaN where it is not known."""
        found = np.flatnonzero(self.steps == step)
        return float(self.values[found[0]]) if found.size else float("nan")

    def pieces(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return the (steps, values) between the gaps."""
        finite = np.isfinite(self.values)
        ends = np.flatnonzero(np.diff(finite)) + 1
        parts = zip(np.split(self.steps, ends), np.split(self.values, ends), strict=True)
        return [part for part in parts if part[1].size and np.isfinite(part[1][0])]


def value_curves(exploration: Exploration, onlooker: str) -> dict[str, Curve]:
    """Return agent -> its values: the player's, and those of another onlooker."""
    curves = {}
    names = dict.fromkeys((exploration.player.name, onlooker))
    for name, tone in zip(names, VALUE_COLOURS, strict=False):
        values = exploration.seen_by(name)[1].values
        if values is not None:
            curves[name] = Curve(np.arange(len(values)), values, tone)
    return curves


def attention_curves(exploration: Exploration, onlooker: str, knobs: Knobs) -> dict[str, Curve]:
    """Return object -> attention on it, at the steps that were computed."""
    steps, attention = exploration.attention(onlooker, knobs)
    return {name: Curve(steps, values, colour(name)) for name, values in attention.items()}


def curve_svg(curves: Mapping[str, Curve], trajectory: Trajectory, *, zero: bool = False) -> str:
    """Draw curves over the steps of an episode, 1000 x 100 units, to be stretched to any size.

    Args:
        curves: by name.
        trajectory: its ends of episodes are marked by lines, and its rewards at the bottom.
        zero: whether a line at 0 is drawn, and kept in sight.
    """
    low, high = value_range([curve.values for curve in curves.values()], zero)
    unit = 1000 / max(len(trajectory) - 1, 1)
    parts = ['<svg viewBox="0 0 1000 100" preserveAspectRatio="none">']

    def upright(step: int, top: int, kind: str, stroke: str = "") -> str:
        x = f"{step * unit:.1f}"
        stroke = stroke and f' stroke="{stroke}"'
        return f'<line x1="{x}" x2="{x}" y1="{top}" y2="100" class="{kind}"{stroke}/>'

    starts = np.flatnonzero(np.diff(trajectory.episode)) + 1
    parts += [upright(step, 0, "start") for step in starts.tolist()]
    if zero:
        y = f"{height_of(0.0, low, high):.1f}"
        parts.append(f'<line x1="0" x2="1000" y1="{y}" y2="{y}" class="zero"/>')
    for curve in curves.values():
        for steps, values in curve.pieces():
            points = " ".join(
                f"{step * unit:.1f},{height_of(value, low, high):.1f}"
                for step, value in zip(steps.tolist(), values.tolist(), strict=True)
            )
            parts.append(f'<polyline points="{points}" stroke="{curve.colour}"/>')
    for step in np.flatnonzero(trajectory.rewards).tolist():
        tone = WON if trajectory.rewards[step] > 0 else LOST
        parts.append(upright(step, 93, "won", tone))
    return "".join([*parts, "</svg>"])


def value_range(curves: Sequence[np.ndarray], zero: bool = False) -> tuple[float, float]:
    """Return the ends of an axis that shows all finite values; (0, 1) where there is none."""
    finite = np.concatenate([np.asarray(c, float)[np.isfinite(c)] for c in curves] or [[]])
    if zero:
        finite = np.append(finite, 0.0)
    if not finite.size:
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def height_of(value: float, low: float, high: float) -> float:
    """Return the y of a value in `curve_svg`: 90 at the low end, 6 at the high end."""
    return 90 - 84 * (value - low) / (high - low)


def full_brightness(gain: Sequence[float], knobs: Knobs) -> str:
    """Return the scores S that are drawn at full brightness."""
    levels = [
        f"{255 / (knobs.gain * each):.2g} ({head})"
        for each, head in zip(gain, HEADS, strict=False)
        if each and knobs.heads in (head, "both")
    ]
    return f"full brightness at S = {', '.join(levels)}" if levels else "the maps are zero"


def legend_html(title: str, curves: Mapping[str, Curve], step: int, note: str = "") -> str:
    """Return the legend of a plot: its curves with their values at the cursor."""
    parts = [f'<span class="al-heading">{escape(title)}</span>']
    for name, curve in curves.items():
        value = curve.at(step)
        number = f"{value:.2f}" if np.isfinite(value) else "–"
        key = f'<i style="background:{curve.colour}"></i>{escape(name)} <b>{number}</b>'
        parts.append(f'<span class="al-key">{key}</span>')
    parts.append(f'<span class="al-note">{escape(note)}</span>')
    return f'<div class="al-legend">{"".join(parts)}</div>'


def heading_html(exploration: Exploration, step: int, action: str) -> str:
    """Return the heading: agent, game, step, score and action."""
    trajectory = exploration.trajectory
    episode = trajectory.episode[step]
    before = (trajectory.episode == episode) & (np.arange(len(trajectory)) < step)
    score = trajectory.rewards[before].sum()
    title = game(exploration.player.game).title
    origin, name = trajectory.origin, exploration.player.name
    if "trial" in origin:
        words, first = f"{name} reads a trial of {title}", f"{origin['trial']}: {origin['gaze']}"
    else:
        words, first = f"{name} plays {title}", f"seed {origin['seed'] + int(episode)}"
    return (
        f'<div class="al-title"><h1>{escape(words)}</h1><span>'
        f"{escape(first)} · step {step} of {len(trajectory) - 1} · score {score:g} · "
        f"action <b>{action}</b></span></div>"
    )


def screen_note_html(
    player: str, onlookers: Sequence[str], gain: Sequence[float], knobs: Knobs
) -> str:
    """Return the note below the screen: whose maps, in which colours, how bright."""
    names = " (left) and ".join(f"<b>{escape(name)}</b>" for name in onlookers)
    right, left = (" (right)", " (left)") if len(onlookers) == 2 else ("", "")
    whose = "" if list(onlookers) == [player] else f"Maps of {names}{right}. "
    if knobs.method == "attention":
        return f'<div class="al-note">{whose}<i class="al-actor"></i>blue: weighed more</div>'
    return (
        f'<div class="al-note">{whose}<i class="al-actor"></i>blue: matters to the actor'
        f'<i class="al-critic"></i>orange: matters to the critic; '
        f"{full_brightness(gain, knobs)}{left}</div>"
    )


def observed_note(centre: tuple[int, int] | None) -> str:
    """Return the note below the observation."""
    return "after the blur" if centre else "the newest screen, preprocessed"


def spread_image(maps: SaliencyMaps, gain: Sequence[float], knobs: Knobs) -> tuple[np.ndarray, str]:
    """Draw the spread over repeated maps, at the brightness of the maps, and describe it.

    Returns:
        `[H, W, 3]` uint8, in the heads' colours on black; and a note.
    """
    strength = np.zeros((*maps.actor.shape, 2), np.float32)
    if maps.actor_spread is None:
        return (
            np.zeros((*maps.actor.shape, 3), np.uint8),
            "tick “Mean of jittered maps”, with the method Perturbation, to see the spread",
        )
    words = []
    spreads = maps.actor_spread, maps.critic_spread
    for channel, (head, mean, spread, level) in enumerate(
        zip(HEADS, (maps.actor, maps.critic), spreads, gain, strict=False)
    ):
        if spread is not None and knobs.heads in (head, "both"):
            strength[..., channel] = np.clip(level * knobs.gain * spread / 255, 0, 1)
            at = np.unravel_index(mean.argmax(), mean.shape)
            words.append(f"{head} {spread[at] / (mean[at] or 1):.0%}")
    note = f"standard deviation over {knobs.repeats} jittered maps; at the peak: {', '.join(words)}"
    return np.rint(np.clip(strength @ HEAD_COLOURS, 0, 255)).astype(np.uint8), note


def activations_image(channels: np.ndarray | None, kind: str) -> tuple[np.ndarray, str]:
    """Draw channels `[K, h, w]` as small pictures, and describe them; black if there are none."""
    if channels is None:
        return np.zeros((8, 8, 3), np.uint8), f"this network has no {kind}"
    largest = float(np.abs(channels).max())
    count, height, width = channels.shape
    names = (
        ("h", "h, below it c")[count - 1] if kind == "memory" and count < 3 else f"{count} channels"
    )
    note = f"{names}, {height} × {width} each; red positive, blue negative, strongest {largest:.2g}"
    return channels_image(channels, largest), note


def bars_html(explanation: Explanation, probe: Probe | None = None) -> str:
    """Draw the probability of every action, and the probability after a probe."""
    after = None if probe is None else probe.probabilities
    return shares_html(explanation.probabilities, after, explanation.action)


def shares_html(
    before: Mapping[str, float], after: Mapping[str, float] | None = None, done: str = ""
) -> str:
    """Draw action probabilities as bars.

    Args:
        before: action -> probability.
        after: the same after a change; drawn below, in orange.
        done: the action that was taken.
    """
    rows = []
    for name, share in before.items():
        taken = " al-done" if name == done else ""
        second, number = "", f"{share:.2f}"
        if after is not None:
            second = f'<i class="al-after" style="width:{after[name]:.1%}"></i>'
            number = f"{share:.2f} → {after[name]:.2f}"
        rows.append(
            f'<div class="al-bar{taken}"><span>{escape(name)}</span>'
            f'<div><i style="width:{share:.1%}"></i>{second}</div><b>{number}</b></div>'
        )
    return f'<div class="al-bars">{"".join(rows)}</div>'


def probe_html(probe: Probe | None, centre: tuple[int, int] | None, actions: Sequence[str]) -> str:
    """Return a table of how far the perturbation at a pixel moved the logits and the value."""
    if probe is None:
        return (
            '<div class="al-probe al-note">Click the screen to blur the region around a pixel '
            "and to see how far the network's outputs move.</div>"
        )
    before, after = probe.logits
    moved = int(np.abs(after - before).argmax())
    distance = f"{np.sqrt(2 * probe.actor_score):.3g}"
    rows = [
        ("logits moved by", distance, f"S = {probe.actor_score:.2g}"),
        (f"most: {actions[moved]}", f"{after[moved] - before[moved]:+.3g}", ""),
    ]
    if probe.value is not None:
        moved_by = probe.value[1] - probe.value[0]
        rows.append(("value moved by", f"{moved_by:+.3g}", f"S = {probe.critic_score:.2g}"))
    cells = "".join(
        f"<tr><td>{escape(name)}</td><td><b>{number}</b></td><td>{note}</td></tr>"
        for name, number, note in rows
    )
    return (
        f'<div class="al-probe">Blurred at row {centre[0]}, column {centre[1]}'
        f"<table>{cells}</table></div>"
    )


def view_figure(
    panels: Sequence[Panel],
    values: Mapping[str, Curve],
    attention: Mapping[str, Curve],
    step: int,
    length: int,
    caption: str,
) -> Figure:
    """Draw the explorer's view as a figure: screens above the curves of the episode.

    Args:
        panels: screen, observation and so on.
        values: agent -> its values.
        attention: object -> attention on it.
        step: of the cursor.
        length: T, of the episode.
        caption: text below the figure.
    """
    plots = {"value": values, "NSS": attention}
    plots = {label: curves for label, curves in plots.items() if curves}
    with house_style():
        figure, axes = lay_out([panels], [1.5] * len(plots), caption)
        for each, (label, curves) in zip(axes, plots.items(), strict=True):
            for name, curve in curves.items():
                each.plot(curve.steps, curve.values, color=curve.colour, lw=1.1, label=name)
            each.axvline(step, color="0.3", lw=1)
            each.set(ylabel=label, xlim=(0, length - 1))
            legend_above(each)
        axes[-1].set_xlabel("agent step")
    return figure


def brief(number: int) -> str:
    """Write a number of steps briefly: 40M, 1.2M, 350k."""
    for unit, size in (("M", 1_000_000), ("k", 1000)):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return str(number)


def clip_frames(columns: Mapping[str, Sequence[Explanation]], steps: Sequence[int]) -> np.ndarray:
    """Return the frames `[T, height, width, 3]` uint8 of a clip with the step and the action.

    Args:
        columns: onlooker -> its explanations of the steps.
        steps: T of them.
    """
    images = {name: np.stack([each.image for each in found]) for name, found in columns.items()}
    first = next(iter(columns.values()))
    captions = [f"step {step}   {each.action}" for step, each in zip(steps, first, strict=True)]
    return movie_frames(images, captions)
