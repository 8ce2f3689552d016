"""Write a view of the explorer as a figure with its numbers, or as a clip."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from atarilens.apps.explorer import drawing
from atarilens.apps.explorer.decision import Knobs
from atarilens.apps.explorer.exploration import Exploration
from atarilens.views import Panel, describe_gain, save_figure, save_movie

FPS = 8


def stem(exploration: Exploration, onlooker: str, step: int) -> str:
    """Return the name of a file about one step."""
    other = "" if onlooker == exploration.player.name else f"-seen-by-{onlooker}"
    seed = exploration.trajectory.origin["seed"]
    return f"{exploration.player.name}{other}-seed{seed}-step{step}"


def write_view(
    exploration: Exploration,
    onlooker: str,
    step: int,
    knobs: Knobs,
    out_dir: Path,
    centre: tuple[int, int] | None = None,
) -> Path:
    """Write one step as a figure, PNG, with the numbers behind it, JSON.

    Args:
        exploration: of an episode; its attention curves are drawn as far as they are known.
        onlooker: name of the agent whose maps are shown.
        step: of the episode.
        knobs: settings of the maps.
        out_dir: folder.
        centre: a probed pixel (row, column) of the observation, or None.

    Returns:
        Path of the PNG.
    """
    explanation = exploration.explain(onlooker, step, knobs)
    gain = [knobs.gain * each for each in exploration.gain(onlooker, knobs)]
    likeliest = max(explanation.probabilities, key=explanation.probabilities.get)
    most = f"likeliest: {likeliest} ({explanation.probabilities[likeliest]:.2f})"
    panels = [
        Panel(explanation.image, f"step {step}: {explanation.action}", f"network of {onlooker}"),
        Panel(_grey(explanation.observation), "what the network reads", most),
    ]
    numbers = {
        "player": exploration.player.name,
        "onlooker": onlooker,
        "origin": exploration.trajectory.origin,
        "settings": exploration.trajectory.settings.as_dict(),
        "step": step,
        "method": knobs.method,
        "stride": knobs.stride,
        "radius": knobs.radius,
        "gain": gain,
        "probabilities": explanation.probabilities,
        "value": explanation.value,
        "attention": explanation.attention,
    }
    if centre:
        probed = exploration.probe(onlooker, step, centre, knobs)
        row, column = centre
        moved = f"logits move by {np.sqrt(2 * probed.actor_score):.3g}"
        circle = (2 * row + 1, 2 * column + 1, 2 * knobs.radius)
        blurred = _grey(probed.observation[-1])
        panels.append(Panel(blurred, f"blurred at ({row}, {column})", moved, circle=circle))
        scores = {"actor": probed.actor_score, "critic": probed.critic_score}
        numbers["probe"] = {"pixel": centre, **scores}
    caption = f"{exploration.player.name}, {knobs.method} saliency. "
    own = f"Gain: {gain[0]:.3g} grey levels per unit of attention."
    caption += own if knobs.method == "attention" else describe_gain(gain)
    curves = (
        drawing.value_curves(exploration, onlooker),
        drawing.attention_curves(exploration, onlooker, knobs),
    )
    figure = drawing.view_figure(panels, *curves, step, len(exploration), caption)
    return save_figure(figure, out_dir, stem(exploration, onlooker, step), numbers)


def _grey(observation: np.ndarray) -> np.ndarray:
    """Turn `[H, W]` float in [0, 1] into `[2H, 2W, 3]` uint8."""
    levels = np.rint(observation * 255).astype(np.uint8)
    return levels.repeat(2, 0).repeat(2, 1)[..., None].repeat(3, -1)


def write_clip(
    exploration: Exploration, onlookers: Sequence[str], steps: range, knobs: Knobs, path: Path
) -> Path:
    """Write steps with the maps of one or more agents as a movie, .gif or .mp4.

    Raises:
        ValueError: for another ending, or a GIF over 2 MB.
    """
    columns = {
        name: [exploration.explain(name, step, knobs) for step in steps] for name in onlookers
    }
    return save_movie(drawing.clip_frames(columns, steps), path, FPS)
