"""Find shortcuts on the screen: paint patches over, swap what they show, play without them.

No setting of the agent is read: a cheat sheet is a patch that holds no object of the game and
decides all the same.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np

from atarilens import games, play
from atarilens.agents import Agent
from atarilens.play.trajectories import Trajectory
from atarilens.saliency.calling import as_batch, network_outputs

GRID = 8  # rows and columns of patches
MARGIN = {"ball": 4, "paddle": 4, "opponent": 4, "ship": 2}  # px that a frame's motion adds
NO_OBJECTS = ("tunnel",)  # kinds that are the absence of something
SUSPECT = 0.05  # of the policy's probability, moved by painting a patch without objects
MOST_SUSPECTS = 2
FREE = 0.3  # share of the moments without an object that a patch needs to be judged
DIGITS = (0, 24, 0, 160)  # where most games show the score
Box = tuple[int, int, int, int]


def decide(agent: Agent, observations: np.ndarray, memory: np.ndarray) -> np.ndarray:
    """Return the policy `[n, A]` float64; for Q-values, 1 for the best action."""
    logits, _ = network_outputs(agent.network, *as_batch(agent.network, observations, memory)[:2])
    return policy_of(agent, logits)


def policy_of(agent: Agent, logits: np.ndarray) -> np.ndarray:
    """Turn action logits `[n, A]` into probabilities; of Q-values, 1 for the best action."""
    logits = np.asarray(logits, np.float64)
    if agent.network.q_values:
        return np.eye(logits.shape[1])[logits.argmax(1)]
    weights = np.exp(logits - logits.max(1, keepdims=True))
    return weights / weights.sum(1, keepdims=True)


def distance(policy: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the total variation distance `[n]` of policies `[n, A]`: 0 equal, 1 disjoint."""
    return 0.5 * np.abs(policy - other).sum(-1)


def ground(screen: np.ndarray, region: Sequence[int]) -> np.ndarray:
    """Return the commonest colour `[3]` of a part of a screen."""
    top, bottom, left, right = region
    pixels = screen[top:bottom, left:right].reshape(-1, 3).astype(np.int32)
    packed = pixels @ np.array([65536, 256, 1], np.int32)
    colours, counts = np.unique(packed, return_counts=True)
    colour = int(colours[counts.argmax()])
    return np.array([colour >> 16, colour >> 8 & 255, colour & 255], np.uint8)


def shown(
    agent: Agent, trajectory: Trajectory, t: int, paint: Callable[[np.ndarray, int], np.ndarray]
) -> np.ndarray:
    """Return what the agent reads at a step if its screens were painted.

    Args:
        agent: whose preprocessing reads the screens.
        trajectory: of one game.
        t: step.
        paint: (screen `[210, 160, 3]`, its step) -> screen.
    """
    count = agent.preprocessing.screens
    screens = [
        paint(trajectory.frames[step], step)
        for step in np.maximum(np.arange(t - count + 1, t + 1), 0)
    ]
    return agent.preprocess(screens[0] if count == 1 else np.stack(screens))


def patches(region: Sequence[int]) -> list[Box]:
    """Divide a region of the screen into 8 x 8 patches: (top, bottom, left, right)."""
    top, bottom, left, right = region
    rows = np.linspace(top, bottom, GRID + 1).round().astype(int)
    columns = np.linspace(left, right, GRID + 1).round().astype(int)
    return [
        (int(a), int(b), int(c), int(d)) for a, b in pairwise(rows) for c, d in pairwise(columns)
    ]


def objects_in(game: str, ram: np.ndarray, boxes: Sequence[Box]) -> np.ndarray:
    """Return which boxes `[n]` bool hold a part of an object; all False without a table."""
    if not games.has_objects(game):
        return np.zeros(len(boxes), bool)
    objects = [
        each + MARGIN.get(kind, 0) * np.array([-1, 1, -1, 1])
        for kind, each in games.object_boxes(game, ram).items()
        if kind not in NO_OBJECTS
    ]
    a, b = np.array(boxes, np.float64)[:, None], np.concatenate(objects)[None]
    apart = (b[..., 0] >= a[..., 1]) | (b[..., 1] <= a[..., 0])
    apart |= (b[..., 2] >= a[..., 3]) | (b[..., 3] <= a[..., 2])
    return ~apart.all(1)


def scan(agent: Agent, trajectory: Trajectory, steps: Sequence[int]) -> dict:
    """Paint each patch over at each step, and let it show what it showed half the steps later.

    Returns:
        "tv": `[n, 64]`, how far the painted patch moves the policy. "swapped": the same for the
        other moment's patch. "free": whether no object of the game's table is in the patch, now
        and at the other moment.
    """
    where, found = patches(agent.region), {"tv": [], "swapped": [], "free": []}
    for t, other in zip(steps, np.roll(steps, len(steps) // 2), strict=True):
        colour = ground(trajectory.frames[t], agent.region)
        read = [trajectory.observations[t]]
        for box in where:
            read.append(shown(agent, trajectory, t, partial(fill, box=box, colour=colour)))
        for box in where:
            read.append(shown(agent, trajectory, t, _swap(trajectory, box, t - int(other))))
        policy = decide(agent, np.stack(read), np.stack([trajectory.memory[t]] * len(read)))
        moved = distance(policy[1:], policy[:1]).round(5).tolist()
        found["tv"].append(moved[: len(where)])
        found["swapped"].append(moved[len(where) :])
        held = [objects_in(agent.game, trajectory.ram[at], where) for at in (t, other)]
        found["free"].append((~(held[0] | held[1])).tolist())
    return found


def _swap(trajectory: Trajectory, box: Box, back: int) -> Callable[..., np.ndarray]:
    """Return how a screen looks if a box shows what it showed so many steps before."""
    top, bottom, left, right = box

    def paint(screen: np.ndarray, step: int) -> np.ndarray:
        changed = screen.copy()
        donor = trajectory.frames[min(max(step - back, 0), len(trajectory) - 1)]
        changed[top:bottom, left:right] = donor[top:bottom, left:right]
        return changed

    return paint


def fill(
    screen: np.ndarray, step: int = 0, *, box: Box, colour: np.ndarray, only: bool = False
) -> np.ndarray:
    """Paint a box in one colour, whatever the step; with `only`, everything but the box."""
    top, bottom, left, right = box
    painted = np.empty_like(screen) if only else screen.copy()
    if only:
        painted[:] = colour
        painted[top:bottom, left:right] = screen[top:bottom, left:right]
    else:
        painted[top:bottom, left:right] = colour
    return painted


def free_effects(scans: Sequence[dict]) -> np.ndarray:
    """Return how far each patch moves the policy when it holds no object: `[64]`.

    The further one of painting it over and of swapping what it shows counts: an agent may do by
    habit what the patch says. NaN for a patch that holds an object at nearly all moments.
    """
    tv = [np.maximum(each["tv"], each["swapped"]).reshape(-1, GRID**2) for each in scans]
    tv = np.concatenate(tv)
    free = np.concatenate([np.array(each["free"], bool).reshape(-1, GRID**2) for each in scans])
    enough = free.mean(0) >= FREE
    sums = np.where(free, tv, 0).sum(0)
    return np.where(enough, sums / np.maximum(free.sum(0), 1), np.nan)


def suspects(agent: Agent, scans: Sequence[dict]) -> list[Box]:
    """Return the boxes of neighbouring patches that move the policy though they hold no object."""
    effects = np.nan_to_num(free_effects(scans)).reshape(GRID, GRID)
    where = np.array(patches(agent.region)).reshape(GRID, GRID, 4)
    left, found = effects >= SUSPECT, []
    while left.any() and len(found) < MOST_SUSPECTS:
        start = np.unravel_index(np.where(left, effects, 0).argmax(), left.shape)
        group, border = {start}, [start]
        least = max(SUSPECT, effects[start] / 4)  # fainter neighbours are another matter
        while border:
            i, j = border.pop()
            for near in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)):
                inside = 0 <= near[0] < GRID and 0 <= near[1] < GRID
                if inside and near not in group and left[near] and effects[near] >= least:
                    group.add(near)
                    border.append(near)
        boxes = np.array([where[at] for at in group])
        edges = boxes[:, 0].min(), boxes[:, 1].max(), boxes[:, 2].min(), boxes[:, 3].max()
        found.append(tuple(map(int, edges)))
        for at in group:
            left[at] = False
    return found


def beside(box: Box, region: Sequence[int]) -> Box:
    """Return a box of the same size half a region away: the control of a suspect."""
    top, bottom, left, right = box
    low, high = region[2:]
    width = right - left
    start = left + (high - low) // 2
    if start + width > high:
        start = max(low, left - (high - low) // 2)
    return top, bottom, start, start + width


def question(agent: Agent, trajectory: Trajectory, steps: Sequence[int], box: Box) -> dict:
    """Paint a box over, and let it show what it showed at another moment of the same game.

    Returns:
        "painted": mean distance of the policies; "flips": share of moments with another likeliest
        action; "followed": of the moments at which the other moment's likeliest action is another
        one, the share at which the agent takes it; "asked": number of those moments.
    """
    kept = [t for t in steps if not objects_in(agent.game, trajectory.ram[t], [box])[0]]
    if len(kept) < 2:
        return {"painted": None, "flips": None, "followed": None, "asked": 0, "moments": len(kept)}
    memory = trajectory.memory[kept]
    own = decide(agent, trajectory.observations[kept], memory)
    painted, swapped = [], []
    for t, other in zip(kept, np.roll(kept, len(kept) // 2), strict=True):
        colour = ground(trajectory.frames[t], agent.region)
        painted.append(shown(agent, trajectory, t, partial(fill, box=box, colour=colour)))
        swapped.append(shown(agent, trajectory, t, _swap(trajectory, box, t - int(other))))
    without, after = (decide(agent, np.stack(each), memory) for each in (painted, swapped))
    there = np.roll(own.argmax(1), len(kept) // 2)
    asked = there != own.argmax(1)
    followed = (after.argmax(1) == there)[asked]
    return {
        "painted": float(distance(without, own).mean()),
        "flips": float((without.argmax(1) != own.argmax(1)).mean()),
        "followed": float(followed.mean()) if asked.any() else None,
        "asked": int(asked.sum()),
        "moments": len(kept),
    }


def painting(agent: Agent, box: Box, *, only: bool = False) -> Agent:
    """Return an agent that never sees a box of the screen; with `only`, nothing but the box."""

    def read(screens: np.ndarray) -> np.ndarray:
        painted = [fill(s, box=box, colour=ground(s, agent.region), only=only) for s in screens]
        return agent.preprocessing.function(np.stack(painted))

    return replace(agent, preprocessing=replace(agent.preprocessing, function=read))


def paint_to_play(agent: Agent, box: Box, seeds: Sequence[int], settings) -> dict:
    """Play whole games without a box, and with nothing but it: condition -> scores per game."""
    conditions = {"without": painting(agent, box), "only": painting(agent, box, only=True)}
    return {
        name: play.evaluate(each, len(seeds), int(seeds[0]), settings=settings).returns.tolist()
        for name, each in conditions.items()
    }


def digits(agent: Agent, trajectory: Trajectory, steps: Sequence[int]) -> dict:
    """Paint over what lies above the play field, where the score stands.

    Returns:
        "seen": whether the agent reads any of it; "tv" and "flips" as in `question`.
    """
    record = games.game(agent.game)
    known = record.changes["digits"].area[0] if "digits" in record.changes else DIGITS
    top, bottom = agent.region[0], int(known[1])
    if bottom <= top:
        return {"seen": False}
    box = (top, bottom, *agent.region[2:])
    kept = [t for t in steps if not objects_in(agent.game, trajectory.ram[t], [box])[0]]
    if not kept:
        return {"seen": True, "tv": None, "flips": None}
    read = [
        shown(agent, trajectory, t, lambda s, _: fill(s, box=box, colour=ground(s, box)))
        for t in kept
    ]
    memory = trajectory.memory[kept]
    own, other = (
        decide(agent, each, memory) for each in (trajectory.observations[kept], np.stack(read))
    )
    return {
        "seen": True,
        "box": box,
        "tv": float(distance(own, other).mean()),
        "flips": float((own.argmax(1) != other.argmax(1)).mean()),
    }
