"""What an audit measures in one game of an agent: plain numbers, kept beside the game's replay."""

import base64
import hashlib
import io
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

from atarilens import games, measures, play, saliency, views
from atarilens.agents import Agent, untrained_control
from atarilens.games.hints import HINT_ROWS
from atarilens.play.trajectories import ARRAYS, Trajectory, hashes
from compendium.audit.answers import answers_at
from compendium.audit.patches import digits, scan

MAPS = {"perturbation": {}, "occlusion": {"patch": 8, "stride": 8}, "jacobian": {}}
NO_NETWORK = ("centre", "edges", "random", "image-change")  # maps that only controls draw
THIRDS = 3  # rows and columns of regions, for games whose objects are not known


def one_game(agent: Agent, seed: int, steps: int) -> Trajectory:
    """Play one game from its start, for so many agent steps at most.

    Changes of the game need a fixed number of emulator frames per agent step. If the agent was
    trained with a drawn number, their mean is taken.
    """
    low, high = agent.settings.skip_range
    settings = replace(agent.settings, frame_skip=(low + high - 1) // 2)
    trajectory = play.rollout(agent, seed, steps, settings=settings)
    length = int((trajectory.episode == 0).sum())
    arrays = {name: getattr(trajectory, name) for name in ARRAYS}
    cut = {name: None if array is None else array[:length] for name, array in arrays.items()}
    origin = trajectory.origin | {"noops": trajectory.origin["noops"][:1]}
    return replace(trajectory, **cut, origin=origin)


def measure_game(agent: Agent, seed: int, steps: int, moments: int, replay: Path) -> dict:
    """Play one game, keep its replay, and measure some moments of it.

    Args:
        agent: who plays.
        seed: of the game.
        steps: agent steps at most.
        moments: evenly spaced.
        replay: file that re-creates the game.

    Returns:
        Plain data, as JSON holds it.
    """
    trajectory = one_game(agent, seed, steps)
    play.save_replay(trajectory, replay)
    known, first = games.game(agent.game), agent.preprocessing.screens
    chosen = measures.spread_steps(trajectory.episode, moments)
    chosen = [int(t) for t in chosen if t > first]
    maps = maps_at(agent, trajectory, chosen)
    found = {
        "seed": seed,
        "steps": len(trajectory),
        "score": float(trajectory.rewards.sum()),
        "sha256": hashes(trajectory),
        "moments": chosen,
        "situations": situations(trajectory),
        "regions": {name: thirds(maps[name].actor) for name in ("perturbation", "untrained")},
        "picture": picture(agent, trajectory, chosen, maps["perturbation"]),
        "patches": scan(agent, trajectory, chosen),
        "digits": digits(agent, trajectory, chosen),
    }
    if known.boxes is not None:
        found["attention"] = attention(agent, trajectory, chosen, maps)
    if known.changes:
        found |= answers_at(agent, trajectory, chosen, maps)
    return found


def situations(trajectory: Trajectory) -> list[str]:
    """Name each situation by its last two play fields, hints left out: equal names, equal fields.

    Returns:
        T - 1 names.
    """
    top, bottom, left, right = games.game(trajectory.settings.game).region
    top = top if trajectory.hints is None else max(top, HINT_ROWS.stop)
    fields = np.ascontiguousarray(trajectory.frames[:, top:bottom, left:right])
    names = [hashlib.sha256(field).hexdigest()[:8] for field in fields]
    return [before + after for before, after in pairwise(names)]


def maps_at(agent: Agent, trajectory: Trajectory, steps: Sequence[int]) -> dict:
    """Return map type, or control -> maps of the given steps."""
    inputs, control = trajectory.decision(list(steps)), untrained_control(agent)
    seen = play.seen_by(trajectory, control).decision(list(steps))
    maps = {
        name: saliency.saliency_maps(name, agent.network, *inputs, **MAPS.get(name, {}))
        for name in (*MAPS, *NO_NETWORK)
    }
    half = np.roll(np.arange(len(steps)), -(len(steps) // 2))
    untrained = saliency.perturbation_saliency(control.network, *seen)
    if untrained.actor.shape != maps["perturbation"].actor.shape:
        untrained = as_read_by(agent, control, untrained)
    return maps | {"untrained": untrained, "other times": maps["perturbation"][half]}


def as_read_by(agent: Agent, other: Agent, maps: saliency.SaliencyMaps) -> saliency.SaliencyMaps:
    """Move the maps of an agent that reads another part of the screen, or another size of it."""
    moved = []
    for head in (maps.actor, maps.critic):
        screen = np.zeros((len(maps), 210, 160), np.float32)
        for shown, each in zip(screen, () if head is None else head, strict=False):
            top, bottom, left, right = other.region
            shown[top:bottom, left:right] = _resized(each, (bottom - top, right - left))
        top, bottom, left, right = agent.region
        parts = screen[:, top:bottom, left:right]
        shape = agent.preprocessing.shape[-2:]
        moved.append(None if head is None else np.stack([_resized(p, shape) for p in parts]))
    return saliency.SaliencyMaps(*moved, None, None)


def _resized(image: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Resize `[h, w]` float32 to (H, W), bilinearly."""
    small = Image.fromarray(np.asarray(image, np.float32))
    return np.asarray(small.resize((shape[1], shape[0]), Image.BILINEAR))


def thirds(maps: np.ndarray) -> list[float]:
    """Return the share of `[n, H, W]` maps in each of 3 x 3 regions; zeros if they are zero."""
    rows = np.array_split(maps.astype(np.float64).sum(0), THIRDS)
    sums = np.array([part.sum() for row in rows for part in np.array_split(row, THIRDS, axis=1)])
    return (sums / (sums.sum() or 1)).tolist()


def picture(agent: Agent, trajectory: Trajectory, steps: Sequence[int], maps) -> dict:
    """Draw the moment with the strongest map, as PNG in base64, and its screen as it was."""
    index = int(maps.actor.sum((1, 2)).argmax())
    screen = trajectory.frames[steps[index]]
    drawn = views.overlay(screen, maps[index], agent.region, views.common_gain([maps]))
    return {"step": steps[index], "map": png(drawn), "screen": png(screen)}


def png(image: np.ndarray) -> str:
    """Return `[H, W, 3]` uint8 as a PNG in base64."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "png", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def attention(agent: Agent, trajectory: Trajectory, steps: Sequence[int], maps: dict) -> dict:
    """Return head -> object -> condition -> mean standardised saliency (NSS) in this game."""
    shape = trajectory.observations.shape[-2:]
    boxes = games.boxes_at(agent.game, trajectory.ram[list(steps)], agent.region, shape)
    moved = measures.other_times(boxes, np.zeros(len(boxes), int))
    shown = {
        "agent": (maps["perturbation"], boxes),
        "untrained": (maps["untrained"], boxes),
        "other times": (maps["perturbation"], moved),
        "centre": (maps["centre"], boxes),
    }
    found: dict = {}
    for condition, (each, where) in shown.items():
        for name, entry in measures.attention_by_object(each, where).items():
            for head in ("actor", "critic"):
                values = getattr(entry, f"{head}_nss")
                values = values[np.isfinite(values)]
                if values.size:
                    kinds = found.setdefault(head, {}).setdefault(name, {})
                    kinds[condition] = float(values.mean())
    return found
