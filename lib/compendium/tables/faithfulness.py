"""Which maps predict what changing an object does? One row per object and moment, resumable.

Each row holds how far the decision moves when this object is painted over, removed in the game, or
moved in the game, and how much of each map lies on it. `measures.agreement` ranks the one by the
other. One episode is one unit of work, kept in `build/faithfulness` until the table is whole.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

import joblib
import numpy as np
import torch
from tqdm.auto import tqdm

from atarilens import games, load_agent, measures, paths, play, rollout, saliency
from atarilens.agents import Agent
from atarilens.play import Trajectory
from atarilens.saliency import SaliencyMaps
from atarilens.saliency.methods import removal
from compendium.tables import parts

AGENTS = ("pong-strong", "breakout-strong", "spaceinvaders-strong")
TABLE = "faithfulness"
EPISODES, MOMENTS, FIRST_SEED = 10, 20, 700  # per agent, per episode; no other data use these seeds
METHODS = {  # map type -> options other than the defaults: these keep the table under 15 minutes
    "perturbation": {},
    "action-perturbation": {},
    "sarfa": {},
    "occlusion": {"patch": 8, "stride": 8},
    "lime": {"cell": 10, "samples": 150},
    "rise": {"masks": 200},
    "jacobian": {},
    "gradient-x-input": {},
    "integrated-gradients": {"steps": 10},
    "smoothgrad": {"samples": 10},
    "grad-cam": {},
    "centre": {},
    "edges": {},
    "random": {},
    "image-change": {},
}
SHARED = {"action-perturbation", "sarfa"}
UNTRAINED = "untrained"  # a control: the perturbation map of the untrained network
OTHER_TIMES = "other-times"  # a control: the agent's own perturbation map, half an episode later
SINGLE = ("ball", "paddle", "opponent", "ship", "laser")  # kinds of which there is one at most
NO_OBJECTS = ("tunnel",)  # kinds that are the absence of something
MOST = 4  # objects of one kind per moment, drawn at random
MARGIN = {"ball": 4, "paddle": 4, "opponent": 4, "ship": 2}  # px that a frame's motion adds
MOVES = (-8, 8)  # px
EFFECTS = ("tv", "logit", "value")
CHANGES = ("painted", "removed", "moved")
MEASURES = ("share", "mean")  # of `measures.saliency_on`
KEYS = ("agent", "seed", "step", "object", "kind", "area")
ROWS = 20  # that are measured again by `make verify`
RELATIVE, ABSOLUTE = 5e-3, 1e-5  # tolerance of a number that is measured again


def columns() -> list[str]:
    """Return the names of the table's columns."""
    numbers = [f"{change}_{effect}" for change in CHANGES for effect in EFFECTS]
    maps = [
        f"{head}_{measure}:{method}"
        for method in (*METHODS, UNTRAINED, OTHER_TIMES)
        for head in ("actor", "critic")
        for measure in MEASURES
    ]
    return [*KEYS, *numbers, *maps]


def faithfulness_table(
    agents: Sequence[str] = AGENTS,
    *,
    episodes: int = EPISODES,
    moments: int = MOMENTS,
    folder: Path | None = None,
    table: Path | None = None,
    progress: bool = True,
) -> Path:
    """Measure maps and effects of objects, and write one row per object and moment.

    Episodes that were measured before are read from the folder, so that an interrupted run goes
    on. A part belongs to its agent's weights and to the settings at the top of this module: remove
    the folder after any other change of the code. Parts are computed through `joblib.Parallel`;
    inside of `joblib.parallel_config` they go to that backend, with equal results.

    Args:
        agents: names of shipped agents.
        episodes: per agent.
        moments: per episode, evenly spaced.
        folder: of the finished episodes; by default `build/faithfulness`.
        table: to write; by default `data/tables/faithfulness.csv`.
        progress: show a bar over episodes, each twice: its maps, its effects.

    Returns:
        The path of the table.
    """
    folder = folder or paths.BUILD / TABLE  # of the replays, too
    seeds = range(FIRST_SEED, FIRST_SEED + episodes)
    settings = {"maps": [METHODS], "effects": [MARGIN, MOVES, CHANGES]}
    wanted = {}
    for kind in KINDS:
        facts, arguments = [moments, MOST, *settings[kind]], (moments, [kind], folder)
        wanted |= episode_parts(agents, seeds, facts, *arguments, kind=f"{kind}--")
    options = {"folder": folder, "table": table, "progress": progress}
    return parts.measure_table(TABLE, measure_episode, wanted, columns(), keys=KEYS, **options)


def episode_parts(
    agents: Sequence[str], seeds: Iterable[int], facts: Sequence, *arguments, kind: str = ""
) -> dict[str, tuple]:
    """Name each episode's part after all that its rows depend on: for `parts.measure_table`.

    Args:
        agents: of `single_screen_agent`.
        seeds: of the episodes.
        facts: the settings, anything that JSON holds.
        *arguments: of the function that measures a part, after the agent's name and the seed.
        kind: what tells several parts of one episode apart.
    """
    weights = {name: single_screen_agent(name).facts.get("sha256") for name in agents}
    digests = {name: parts.digest([sha256, *facts]) for name, sha256 in weights.items()}
    return {
        f"{name}--{seed}--{kind}{digests[name]}": (name, seed, *arguments)
        for seed in seeds
        for name in agents
    }


def check_rows(
    count: int = ROWS, seed: int = 0, *, table: Path | None = None, progress: bool = True
) -> list[str]:
    """Measure some rows of the table again, and say which numbers came out differently.

    Each row's episode is played again up to its step. Numbers may differ by `ABSOLUTE + RELATIVE *
    |stored|`: the table keeps 4 digits, and another processor rounds differently. The map of half
    an episode later is left out: it needs the whole episode.

    Args:
        count: how many rows, drawn at random from all.
        seed: of the draw.
        table: by default `data/tables/faithfulness.csv`.
        progress: show a bar over episodes.

    Returns:
        What is wrong, in words: none if all is well.
    """
    rows = parts.read_rows(table or paths.TABLES / f"{TABLE}.csv")
    drawn = np.random.default_rng(seed).choice(len(rows), min(count, len(rows)), replace=False)
    by_episode: dict[tuple[str, int], list[dict]] = {}
    for row in (rows[i] for i in sorted(drawn)):
        by_episode.setdefault((row["agent"], int(row["seed"])), []).append(row)
    jobs = (joblib.delayed(_check)(*episode, own) for episode, own in by_episode.items())
    wrong = []
    with tqdm(total=len(by_episode), unit="episode", disable=not progress) as bar:
        for lines in joblib.Parallel(return_as="generator")(jobs):
            wrong += lines
            bar.update(1)
    return wrong


def _check(name: str, seed: int, rows: Sequence[dict[str, str]]) -> list[str]:
    """Measure rows of one episode again: one unit of work for joblib."""
    agent = single_screen_agent(name)
    steps = sorted({int(row["step"]) for row in rows})
    trajectory = rollout(agent, seed, steps[-1] + 1)
    found = {
        (row["step"], row["object"]): row
        for row in measure_steps(agent, trajectory, seed, steps, KINDS)
    }
    wrong = []
    for row in rows:
        where = f"{name}, seed {seed}, step {row['step']}, {row['object']}"
        again = found.get((int(row["step"]), row["object"]))
        if again is None:
            wrong.append(f"{where}: not there when the episode is played again")
            continue
        for column, stored in row.items():
            now = parts.spelt(again.get(column, ""))
            if not column.endswith(f":{OTHER_TIMES}") and not _agree(stored, now):
                wrong.append(
                    f"{where}: {column}: stored {stored or 'nothing'}, now {now or 'nothing'}"
                )
    return wrong


def _agree(stored: str, now: str) -> bool:
    """Say whether two entries of the table are equal, numbers up to the tolerance."""
    try:
        return abs(float(now) - float(stored)) <= ABSOLUTE + RELATIVE * abs(float(stored))
    except ValueError:  # words, or an empty entry
        return stored == now


def measure_episode(
    name: str,
    seed: int,
    moments: int,
    kinds: Collection[str] = ("maps", "effects"),
    folder: Path | None = None,
) -> Iterator[dict]:
    """Yield a row for each object of each moment of an episode; see `columns`.

    Args:
        name: of a shipped agent, one that reads a single screen at a time.
        seed: of the episode.
        moments: evenly spaced.
        kinds: "maps", "effects", or both.
        folder: where the episode's replay is kept; None plays it and keeps nothing.

    Raises:
        ValueError: if the agent stacks screens.
    """
    agent = single_screen_agent(name)
    trajectory = _episode(agent, seed, folder)
    steps = measures.spread_steps(trajectory.episode, moments)
    yield from measure_steps(agent, trajectory, seed, steps, kinds)


def single_screen_agent(name: str) -> Agent:
    """Load an agent; ValueError if it stacks screens: a change would have to be made in each."""
    agent = load_agent(name)
    if agent.preprocessing.screens != 1:
        raise ValueError(f"agent {name!r} stacks screens, expected one that reads a single screen")
    return agent


def measure_steps(
    agent: Agent, trajectory: Trajectory, seed: int, steps: Iterable[int], kinds: Collection[str]
) -> Iterator[dict]:
    """Yield a row for each object at each of some steps of an episode; see `measure_episode`."""
    found = {int(t): _objects(agent.game, trajectory.ram[t], [seed, int(t)]) for t in steps}
    shape = trajectory.observations.shape[-2:]
    boxes = {t: games.to_observation(objects, agent.region, shape) for t, objects in found.items()}
    numbers: dict[tuple[int, str], dict[str, float]] = {}
    for kind in kinds:
        measured = KINDS[kind](agent, trajectory, found, boxes)
        for key, values in measured.items():
            numbers.setdefault(key, {}).update(values)
    for t, objects in boxes.items():
        for thing, box in objects.items():
            if len(box):  # inside of what the agent reads
                area = float(np.prod(box[:, 1::2] - box[:, ::2], axis=1).sum())
                keys = (agent.name, seed, t, thing, thing.partition(":")[0], area)
                yield dict(zip(KEYS, keys, strict=True)) | numbers[t, thing]


def _episode(agent, seed: int, folder: Path | None):
    """Play an episode, or re-create it from the replay in a folder."""
    if folder is None:
        return rollout(agent, seed, episodes=1)
    path = folder / f"{agent.name}--{seed}--{agent.facts['sha256'][:12]}.npz"
    if not path.is_file():
        play.save_replay(rollout(agent, seed, episodes=1), path)
    return play.replay(path, agent)  # the same rounding, whoever plays first


def maps_of(agent: Agent, trajectory: Trajectory, steps: Sequence[int]) -> dict[str, SaliencyMaps]:
    """Explain some steps of an episode with all methods and controls: method -> maps `[n, H, W]`.

    Methods that explain one action explain the one that is likeliest in the trajectory.
    """
    steps = list(steps)
    control = load_agent(f"untrained-{agent.game}")
    seen = play.seen_by(trajectory, control)
    maps = {UNTRAINED: saliency.perturbation_saliency(control.network, *seen.decision(steps))}
    observation, memory = trajectory.decision(steps)
    action = trajectory.action_logits[steps].argmax(1)
    maps |= network_maps(agent.network, observation, memory, action)
    maps[OTHER_TIMES] = maps["perturbation"][np.roll(np.arange(len(steps)), -(len(steps) // 2))]
    return maps


def network_maps(network, observation, memory, action) -> dict[str, SaliencyMaps]:
    """Explain decisions with all of `METHODS`: method -> maps `[n, H, W]`.

    Args:
        network: see `atarilens.saliency`.
        observation: `[n, C, H, W]`.
        memory: `[n, k, M]`, entering the step.
        action: `[n]`, which methods that explain one action explain.
    """
    maps = {}
    for method, options in METHODS.items():
        if method not in SHARED:
            chosen = action if saliency.METHODS[method].explains == "action" else None
            maps[method] = saliency.saliency_maps(
                method, network, observation, memory, action=chosen, **options
            )
    if METHODS.keys() >= SHARED:  # two maps of the same blurred observations
        tensors = (torch.from_numpy(observation), torch.from_numpy(memory))
        outputs = removal.blurred_outputs(network, *tensors)
        for method in SHARED:
            compute = saliency.METHODS[method].compute
            maps[method] = compute(network, *tensors, action, outputs=outputs)
    return maps


def _maps(agent, trajectory, found: dict, boxes: dict) -> dict[tuple[int, str], dict[str, float]]:
    """Return (step, object) -> column -> how much of each map lies on it."""
    maps, steps = maps_of(agent, trajectory, list(found)), list(found)
    numbers: dict[tuple[int, str], dict[str, float]] = {}
    for method, each in maps.items():
        for head in ("actor", "critic"):
            if getattr(each, head) is None:
                continue
            for k, t in enumerate(steps):
                for measure in MEASURES:
                    on = measures.saliency_on(getattr(each, head)[k], boxes[t], measure=measure)
                    for thing, value in on.items():
                        column = f"{head}_{measure}:{method}"
                        numbers.setdefault((t, thing), {})[column] = value
    return numbers


def _objects(game: str, ram: np.ndarray, seed: Sequence[int]) -> dict[str, np.ndarray]:
    """Return object -> its box `[1, 4]` in px of the screen; of each kind four at most."""
    generator, found = np.random.default_rng(seed), {}
    for kind, boxes in games.object_boxes(game, ram).items():
        if kind in NO_OBJECTS:
            continue
        chosen = np.sort(generator.permutation(len(boxes))[:MOST])
        for index in chosen:
            found[kind if kind in SINGLE else f"{kind}:{index}"] = boxes[index][None]
    return found


def painted_observation(agent, screen: np.ndarray, thing: str, box: np.ndarray) -> np.ndarray:
    """Return what an agent reads of a screen on which an object has the colour of the ground.

    The ground's colour is the commonest one of what the agent reads: around a brick there are
    only bricks.
    """
    top, bottom, left, right = agent.region
    pixels = screen[top:bottom, left:right].reshape(-1, 3)
    colours, counts = np.unique(pixels, axis=0, return_counts=True)
    margin = MARGIN.get(thing.partition(":")[0], 0)
    painted = measures.painted_over(screen, box, colours[counts.argmax()], margin=margin)
    return agent.preprocess(painted)


def _effects(agent, trajectory, found: dict, boxes: dict) -> dict[tuple[int, str], dict]:
    """Return (step, object) -> column -> how far each change of it moves the decision."""
    numbers: dict[tuple[int, str], dict[str, float]] = {}
    asked: dict[tuple[int, str], dict[str, list[str]]] = {}
    for t, objects in found.items():
        observation, memory = trajectory.decision(t)
        for thing, box in objects.items():
            read = painted_observation(agent, trajectory.frames[t], thing, box)
            effect = measures.deletion_effect(agent.network, observation, read, memory)
            value = np.nan if effect.value is None else abs(effect.value)
            found_now = (effect.total_variation / 100, effect.logit, value)
            numbers[t, thing] = _columns("painted", found_now)
            asked[t, thing] = _spellings(agent.game, trajectory.ram[t], thing, box)
    names = {name for each in asked.values() for change in each.values() for name in change}
    branches = play.intervene(trajectory, agent, [t for t in found if t > 0], sorted(names))
    table = play.effects(branches)
    measured = {
        (int(t), str(name)): (tv, logit, abs(value))
        for t, name, tv, logit, value in zip(
            *(table[name] for name in ("t", "change", "tv", "centred_logit", "value")), strict=True
        )
    }
    for (t, thing), changes in asked.items():
        for change, spelt in changes.items():
            if held := [measured[t, name] for name in spelt if (t, name) in measured]:
                numbers[t, thing] |= _columns(change, np.mean(held, axis=0))
    return numbers


def _columns(change: str, values: Sequence[float]) -> dict[str, float]:
    return {f"{change}_{name}": float(value) for name, value in zip(EFFECTS, values, strict=True)}


def _spellings(game: str, ram: np.ndarray, thing: str, box: np.ndarray) -> dict[str, list[str]]:
    """Name the changes of `play.intervene` that remove or move this object.

    Of kinds with several objects only single ones are removed, and none is moved: the aliens, for
    example, move together.
    """
    kind, _, index = thing.partition(":")
    found: dict[str, list[str]] = {"removed": [], "moved": []}
    for name, change in games.game(game).changes.items():
        if change.object != kind:
            continue
        if change.kind == "remove" and change.units is not None:
            units = change.units(ram)
            if change.unit_box is not None:
                places = [change.unit_box(ram, unit) for unit in units]
                units = [
                    u for u, place in zip(units, places, strict=True) if np.allclose(place, box)
                ]
            elif len(units) == len(games.object_boxes(game, ram)[kind]):
                units = units[int(index) : int(index) + 1]
            else:
                units = []
            found["removed"] += [f"{name}:{','.join(map(str, unit))}" for unit in units]
        elif change.kind == "remove" and kind in SINGLE:
            found["removed"].append(name)
        elif change.kind == "move" and kind in SINGLE:
            found["moved"] += [f"{name}{amount:+d}" for amount in MOVES]
    return found


KINDS = {"maps": _maps, "effects": _effects}
