"""Change the game at some moments, and measure what an agent does, and what its maps promised."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from atarilens import games, measures, play
from atarilens.agents import Agent
from atarilens.games.interventions import Named, parse
from atarilens.play.interventions import Branches
from atarilens.play.trajectories import Trajectory
from compendium.audit.patches import MARGIN, decide, distance, ground, policy_of, shown

MOVES = (-8, 8)  # px
UNITS = 2  # bricks, aliens and the like per moment, drawn at random
HORIZON = 30  # agent steps, about 2 s, that are played on after a change
FUTURES = 6  # moments per game that are played on


def answers_at(agent: Agent, trajectory: Trajectory, steps: Sequence[int], maps: dict) -> dict:
    """Make every change of the game's record at each of some moments.

    An agent that stacks screens sees the change in all of them: it is made so much earlier.

    Args:
        agent: who decides.
        trajectory: of one game, the agent's.
        steps: of the trajectory; as late as the number of screens that the agent stacks.
        maps: name -> maps of these steps.

    Returns:
        "history": how many steps before the decision a change is made. "changes": a row per moment
        and change that held. "skipped": change -> reason -> how often. "futures": a row per moment
        and moved object. "objects": a row per moment and object: the share of each map on it, and
        how far painting, removing and moving it moves the policy.
    """
    history = agent.preprocessing.screens - 1
    rows, skipped, objects = [], {}, []
    for t in steps:
        ram = trajectory.ram[t - history]
        names = spellings(agent.game, ram, [trajectory.origin["seed"], t])
        (branches,) = play.intervene(trajectory, agent, [t], [*names, "null"], history=history)
        for name, reason in branches.skipped.items():
            counts = skipped.setdefault(label(name), {})
            counts[reason] = counts.get(reason, 0) + 1
        found = effect_rows(agent, branches)
        rows += found
        own = {name: each[steps.index(t)] for name, each in maps.items()}
        objects += object_rows(agent, trajectory, branches, found, own)
    return {
        "history": history,
        "changes": rows,
        "skipped": skipped,
        "objects": objects,
        "futures": futures(agent, trajectory, steps[:: -(-len(steps) // FUTURES)], history),
    }


def spellings(game: str, ram: np.ndarray, seed: Sequence[int]) -> list[str]:
    """Spell the changes of a game's record that are tried at one moment."""
    generator, names = np.random.default_rng(seed), []
    for name, change in games.game(game).changes.items():
        if change.kind == "move":
            names += [f"{name}{amount:+d}" for amount in MOVES]
        elif change.units is None:
            names.append(name)
        else:
            units = change.units(ram)
            chosen = generator.permutation(len(units))[:UNITS]
            names += [f"{name}:{','.join(map(str, units[i]))}" for i in sorted(chosen)]
            names += [f"{name}:{word}" for word in change.choose]
    return names


def label(name: str) -> str:
    """Leave out which one of many objects a change is about: `brick_gone:2,7` is `brick_gone`."""
    kind, _, unit = name.partition(":")
    return f"{kind}:{unit}" if unit.isalpha() else kind


def effect_rows(agent: Agent, branches: Branches) -> list[dict]:
    """Return a row per change: how far the policy moves, whether the likeliest action changes.

    "seen" says whether the agent's observation differs at all; "towards" how far the policy moves
    to the actions that the change calls for, None if it calls for none.
    """
    policy = policy_of(agent, branches.action_logits)
    sure = np.log(policy.clip(1e-12)).astype(np.float32)  # for Q-values, all on the best action
    table = play.effects([replace(branches, action_logits=sure)])
    rows = []
    for i, name in enumerate(branches.names[1:]):
        differs = (branches.observations[i + 1] != branches.observations[0]).any()
        towards, value = float(table["towards"][i]), float(table["value"][i])
        rows.append(
            {
                "t": branches.t,
                "name": name,
                "label": label(name),
                "tv": float(table["tv"][i]),
                "flip": bool(table["flip"][i]),
                "value": value if np.isfinite(value) else None,
                "towards": towards if np.isfinite(towards) else None,
                "seen": bool(differs),
            }
        )
    return rows


def object_rows(
    agent: Agent, trajectory: Trajectory, branches: Branches, rows: list[dict], maps: dict
) -> list[dict]:
    """Return a row per object that a change removed or moved at this moment."""
    t, found = branches.t, {}
    for named, row in zip(branches.named, rows, strict=True):
        if named.change.kind not in ("remove", "move") or not row["seen"]:
            continue
        boxes = boxes_of(agent.game, named, trajectory.ram[t])
        if boxes is None or not len(boxes):
            continue
        unit = f":{','.join(map(str, named.unit))}" if named.unit else ""
        entry = found.setdefault(named.change.object + unit, {"named": named})
        entry.setdefault(f"{named.change.kind}d", []).append(row["tv"])
    own = decide(agent, trajectory.observations[[t]], trajectory.memory[[t]])
    result = []
    for thing, entry in found.items():
        named = entry["named"]
        read = shown(
            agent, trajectory, t, lambda s, at, n=named: painted(agent, n, s, trajectory.ram[at])
        )
        after = decide(agent, read[None], trajectory.memory[[t]])
        boxes = boxes_of(agent.game, named, trajectory.ram[t])
        boxes = games.to_observation({"it": boxes}, agent.region, read.shape[-2:])
        if not len(boxes["it"]):
            continue
        shares = {
            name: measures.saliency_on(each.actor, boxes).get("it", np.nan)
            for name, each in maps.items()
        }
        result.append(
            {
                "t": t,
                "object": thing,
                "painted": float(distance(own, after)[0]),
                "removed": float(np.mean(entry["removed"])) if "removed" in entry else None,
                "moved": float(np.mean(entry["moved"])) if "moved" in entry else None,
                "shares": {k: float(v) if np.isfinite(v) else None for k, v in shares.items()},
            }
        )
    return result


def boxes_of(game: str, named: Named, ram: np.ndarray) -> np.ndarray | None:
    """Return where the object of a change is, `[n, 4]` px of the screen; None if that is open."""
    if not named.unit:
        return games.object_boxes(game, ram)[named.change.object]
    if named.change.unit_box is None:
        return None
    return np.array([named.change.unit_box(ram, named.unit)], np.float64)


def painted(agent: Agent, named: Named, screen: np.ndarray, ram: np.ndarray) -> np.ndarray:
    """Paint the object of a change over, in the colour of the ground."""
    boxes = boxes_of(agent.game, named, ram)
    margin = MARGIN.get(named.change.object, 0)
    return measures.painted_over(screen, boxes, ground(screen, agent.region), margin=margin)


def futures(agent: Agent, trajectory: Trajectory, steps: Sequence[int], history: int) -> list[dict]:
    """Let the agent play on after each move of an object: points more than without the change."""
    changes = games.game(agent.game).changes
    moves = [name for name, change in changes.items() if change.kind == "move"]
    names = [f"{name}{amount:+d}" for name in moves for amount in MOVES]
    rows = []
    found = play.intervene(trajectory, agent, steps, names, history=history, horizon=HORIZON)
    for branches in found:
        points = branches.future.rewards.sum(1)
        for i, name in enumerate(branches.names[1:], 1):
            rows.append(
                {
                    "t": branches.t,
                    "label": name,
                    "object": parse(name, agent.game).change.object,
                    "points": float(points[i] - points[0]),
                    "unchanged": float(points[0]),
                }
            )
    return rows
