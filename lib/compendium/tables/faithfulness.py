"""Which maps predict what changing an object does? One row per object and moment, resumable.

Each row holds how far the decision moves when this object is painted over, removed in the game, or
moved in the game, and how much of each map lies on it. `measures.agreement` ranks the one by the
other. One episode is one unit of work, kept in `build/faithfulness` until the table is whole.
"""

import csv
import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

import joblib
import numpy as np
import torch
from tqdm.auto import tqdm

from atarilens import games, load_agent, measures, paths, play, rollout, saliency
from atarilens.saliency.methods import removal

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
    folder = folder or paths.BUILD / TABLE
    table = table or paths.TABLES / f"{TABLE}.csv"
    units = [
        (part, name, FIRST_SEED + k, moments, folder)
        for k in range(episodes)
        for name in agents
        for part in PARTS
    ]
    missing = [unit for unit in units if not _path(*unit).is_file()]
    jobs = (joblib.delayed(_measure)(*unit) for unit in missing)
    done = joblib.Parallel(return_as="generator_unordered", pre_dispatch="n_jobs")(jobs)
    with tqdm(total=len(units), unit="part", disable=not progress) as bar:
        bar.update(len(units) - len(missing))
        for _ in done:
            bar.update(1)
    rows: dict[tuple, dict] = {}
    for unit in units:
        with _path(*unit).open(newline="") as read:
            for row in csv.DictReader(read):
                rows.setdefault(tuple(row[key] for key in KEYS), {}).update(row)
    _write(rows.values(), columns(), table)
    return table


def _path(part: str, name: str, seed: int, moments: int, folder: Path) -> Path:
    """Name the file of one part of an episode after everything that its rows depend on."""
    sha256 = load_agent(name).facts.get("sha256")
    options = {"maps": [METHODS], "effects": [MARGIN, MOVES, CHANGES]}[part]
    facts = json.dumps([sha256, moments, MOST, *options], sort_keys=True)
    digest = hashlib.sha256(facts.encode()).hexdigest()[:12]
    return folder / f"{name}--{seed}--{part}--{digest}.csv"


def _measure(part: str, name: str, seed: int, moments: int, folder: Path) -> None:
    """Measure one part of an episode, and write its rows: one unit of work for joblib."""
    rows = list(measure_episode(name, seed, moments, [part], folder))
    _write(
        rows,
        list(dict.fromkeys(column for row in rows for column in row)),
        _path(part, name, seed, moments, folder),
    )


def _write(rows: Iterable[dict], names: Sequence[str], path: Path) -> None:
    with paths.whole_file(path) as beside, beside.open("w", newline="") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: _written(value) for key, value in row.items()} for row in rows)


def _written(value) -> str:
    if isinstance(value, str | int):
        return str(value)
    return f"{value:.4g}" if np.isfinite(value) else ""


def measure_episode(
    name: str,
    seed: int,
    moments: int,
    parts: Collection[str] = ("maps", "effects"),
    folder: Path | None = None,
) -> Iterator[dict]:
    """Yield a row for each object of each moment of an episode; see `columns`.

    Args:
        name: of a shipped agent, one that reads a single screen at a time.
        seed: of the episode.
        moments: evenly spaced.
        parts: "maps", "effects", or both.
        folder: where the episode's replay is kept; None plays it and keeps nothing.

    Raises:
        ValueError: if the agent stacks screens.
    """
    agent = load_agent(name)
    if agent.preprocessing.screens != 1:
        raise ValueError(f"agent {name!r} stacks screens, expected one that reads a single screen")
    trajectory = _episode(agent, seed, folder)
    steps = measures.spread_steps(trajectory.episode, moments)
    found = {int(t): _objects(agent.game, trajectory.ram[t], [seed, int(t)]) for t in steps}
    shape = trajectory.observations.shape[-2:]
    boxes = {t: games.to_observation(objects, agent.region, shape) for t, objects in found.items()}
    numbers: dict[tuple[int, str], dict[str, float]] = {}
    for part in parts:
        measured = PARTS[part](agent, trajectory, found, boxes)
        for key, values in measured.items():
            numbers.setdefault(key, {}).update(values)
    for t, objects in boxes.items():
        for thing, box in objects.items():
            if len(box):  # inside of what the agent reads
                area = float(np.prod(box[:, 1::2] - box[:, ::2], axis=1).sum())
                keys = (name, seed, t, thing, thing.partition(":")[0], area)
                yield dict(zip(KEYS, keys, strict=True)) | numbers[t, thing]


def _episode(agent, seed: int, folder: Path | None):
    """Play an episode, or re-create it from the replay in a folder."""
    if folder is None:
        return rollout(agent, seed, episodes=1)
    path = folder / f"{agent.name}--{seed}--{agent.facts['sha256'][:12]}.npz"
    if not path.is_file():
        play.save_replay(rollout(agent, seed, episodes=1), path)
    return play.replay(path, agent)  # the same rounding, whoever plays first


def _maps(agent, trajectory, found: dict, boxes: dict) -> dict[tuple[int, str], dict[str, float]]:
    """Return (step, object) -> column -> how much of each map lies on it."""
    steps = list(found)
    control = load_agent(f"untrained-{agent.game}")
    seen = play.seen_by(trajectory, control)
    maps = {UNTRAINED: saliency.perturbation_saliency(control.network, *seen.decision(steps))}
    observation, memory = trajectory.decision(steps)
    tensors = (torch.from_numpy(observation), torch.from_numpy(memory))
    action = trajectory.action_logits[steps].argmax(1)
    for method, options in METHODS.items():
        if method in SHARED:
            continue
        chosen = action if saliency.METHODS[method].explains == "action" else None
        maps[method] = saliency.saliency_maps(
            method, agent.network, observation, memory, action=chosen, **options
        )
    if METHODS.keys() >= SHARED:  # two maps of the same blurred observations
        outputs = removal.blurred_outputs(agent.network, *tensors)
        for method in SHARED:
            compute = saliency.METHODS[method].compute
            maps[method] = compute(agent.network, *tensors, action, outputs=outputs)
    maps[OTHER_TIMES] = maps["perturbation"][np.roll(np.arange(len(steps)), -(len(steps) // 2))]
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


PARTS = {"maps": _maps, "effects": _effects}
