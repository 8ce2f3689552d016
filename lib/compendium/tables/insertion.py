"""How fast does a decision come back, or go, if pixels are shown or hidden in a map's order?

A row holds the areas under one curve of `measures.insertion_curve` or `deletion_curve`, and some of
its points. One agent's moments of one episode are one part, kept in `build/insertion`.
"""

from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

import numpy as np

from atarilens import measures, rollout, saliency
from atarilens.agents import Agent
from atarilens.measures import Curve
from atarilens.play import Trajectory
from atarilens.saliency import SaliencyMaps
from compendium.tables import faithfulness, parts

TABLE = "insertion"
EPISODES, MOMENTS, FIRST_SEED = 15, 2, 720  # per agent, per episode; no other data use these seeds
STEPS = 400  # of each episode, from its first screen on
STARTS = ("black", "background")  # what hidden pixels show: Huber et al.'s, and our maps' default
PIXELS = 160  # two rows of the observation per step of a curve; Huber et al. take one row
SHARES = (0, 2.5, 5, 10, 20, 40, 60, 80, 100)  # percent of the pixels, of the points that are kept
SIGNED = ("occlusion", "lime", "rise")  # once more with their signs, as Huber et al. order pixels
CURVES = {"insertion": measures.insertion_curve, "deletion": measures.deletion_curve}
KEYS = ("agent", "seed", "step", "method", "head", "direction", "start")
SCORES = ("probability", "advantage", "value")
NUMBERS = (*SCORES, "whole_advantage", "value_gap", "whole_value_gap")


def columns() -> list[str]:
    """Return the names of the table's columns.

    A score's column is the mean height of its curve. `whole_advantage` is the unperturbed one.
    `value_gap` is the mean distance of the value from the unperturbed one, `whole_value_gap` the
    distance if all pixels are hidden. The columns "at 10" are the probability of the action (head
    "actor") or the value's distance (head "critic") with 10 % of the pixels inserted, or deleted.
    """
    return [*KEYS, *NUMBERS, *(f"at {share:g}" for share in SHARES)]


def insertion_table(
    agents: Sequence[str] = faithfulness.AGENTS,
    *,
    episodes: int = EPISODES,
    moments: int = MOMENTS,
    folder: Path | None = None,
    table: Path | None = None,
    progress: bool = True,
) -> Path:
    """Measure curves of all methods and controls; arguments as for `faithfulness_table`."""
    facts = [moments, STEPS, STARTS, PIXELS, SHARES, SIGNED, faithfulness.METHODS]
    seeds = range(FIRST_SEED, FIRST_SEED + episodes)
    wanted = faithfulness.episode_parts(agents, seeds, facts, moments)
    options = {"folder": folder, "table": table, "progress": progress}
    return parts.measure_table(TABLE, curve_rows, wanted, columns(), **options)


def curve_rows(name: str, seed: int, moments: int) -> Iterator[dict]:
    """Yield a row per moment of an episode, method, head, direction and start image."""
    agent = faithfulness.single_screen_agent(name)
    trajectory = rollout(agent, seed, STEPS)
    steps = measures.spread_steps(trajectory.episode[trajectory.episode == 0], moments)
    maps = faithfulness.maps_of(agent, trajectory, steps) | _signed_maps(agent, trajectory, steps)
    for k, t in enumerate(steps):
        decision, curves = trajectory.decision(t), {}
        images = {start: saliency.baseline_image(decision[0], start) for start in STARTS}
        for method, each in maps.items():
            for head, direction, start in product(("actor", "critic"), CURVES, STARTS):
                if getattr(each, head) is None:
                    continue
                found = getattr(each, head)[k]
                same = (found.tobytes(), direction, images[start].tobytes())
                if same not in curves:  # a control has one map for both heads
                    curves[same] = CURVES[direction](
                        *(agent.network, decision[0], found, decision[1]),
                        start=images[start],
                        pixels=PIXELS,
                    )
                keys = (name, seed, int(t), method, head, direction, start)
                numbers = _numbers(curves[same], head, direction == "insertion")
                yield dict(zip(KEYS, keys, strict=True)) | numbers


def _signed_maps(agent: Agent, trajectory: Trajectory, steps) -> dict[str, SaliencyMaps]:
    """Explain what speaks for the likeliest action, and what raises the value, above all else."""
    action = trajectory.action_logits[steps].argmax(1)
    return {
        f"{method} signed": saliency.saliency_maps(
            *(method, agent.network, *trajectory.decision(steps)),
            action=action,
            sign="signed",
            **faithfulness.METHODS[method],
        )
        for method in SIGNED
        if method in faithfulness.METHODS
    }


def _numbers(curve: Curve, head: str, inserted: bool) -> dict[str, float]:
    """Return the numbers of a row."""
    whole, hidden = (-1, 0) if inserted else (0, -1)
    gap = np.abs(curve.value - curve.value[whole])
    points = curve.probability if head == "actor" else gap
    at = np.round(np.array(SHARES) / 100 * (len(points) - 1)).astype(int)
    areas = {score: measures.area(getattr(curve, score)) for score in SCORES}
    return {
        **areas,
        "whole_advantage": float(curve.advantage[whole]),
        "value_gap": measures.area(gap),
        "whole_value_gap": float(gap[hidden]),
        **{f"at {share:g}": float(points[i]) for share, i in zip(SHARES, at, strict=True)},
    }
