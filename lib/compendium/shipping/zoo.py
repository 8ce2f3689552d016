"""The pocket zoo: a matrix of algorithms, games and runs as data; trains what is missing.

Every run starts from the same untrained network for its game and number (`learner.
initial_network`; but see `CHANGES`), reads the same preprocessing and has the minimal set of
actions. PPO and A2C train on Freeway with sticky actions (`STICKY`). Stop `make zoo`
at any time: the same command goes on, and at most two minutes of a run are lost.
"""

import csv
import os
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import torch
from joblib import Parallel, delayed

from atarilens import paths
from atarilens.agents import load_agent, save_agent, zoo
from atarilens.agents.zoo import FINAL, GAMES, INITIAL, RUNS
from atarilens.games.emulators import EnvironmentSettings
from atarilens.play import archive
from atarilens.play.scores import evaluate, write_scores
from compendium.benchmark import machine
from compendium.shipping import (
    REPORTING_SEED,
    STUCK_FRAMES,
    checkpoint_agent,
    describe,
    thin_curve,
)
from compendium.training import dqn, evolution, ppo
from compendium.training.dqn import DQNSettings
from compendium.training.evolution import EvolutionSettings
from compendium.training.ppo import A2C, PPOSettings

EPISODES = 10  # that a shipped agent is measured by
CHECKPOINT_EVERY = 25_000  # agent steps; 100,000 frames
UNITS = 128  # of the dense layer

POLICY = {"num_envs": 16, "network": "nature", "hidden_units": UNITS, "calibrated": True}
POLICY |= {"returns_kept": 32, "max_grad_norm": 1.0}
RECIPES = {
    "ppo": PPOSettings(**POLICY, rollout_steps=128, learning_rate=1e-3, clip=0.2),
    "a2c": PPOSettings(**POLICY, rollout_steps=8, learning_rate=7e-4, **A2C),
    "dqn": DQNSettings(hidden_units=UNITS),
    "qr-dqn": DQNSettings(hidden_units=UNITS, quantiles=50),
    "ga": EvolutionSettings(method="ga", hidden_units=UNITS),
    "es": EvolutionSettings(method="es", sigma=0.1, hidden_units=UNITS),
}
TRAINERS = {PPOSettings: ppo.train, DQNSettings: dqn.train, EvolutionSettings: evolution.train}
# The recipe of our LSTM agents: with a calibrated start and 3e-4 the score stays below 4.
CHANGES = {
    ("ppo", "breakout"): {
        **{"num_envs": 64, "rollout_steps": 32, "learning_rate": 5e-4, "clip": 0.1},
        **{"calibrated": False, "max_grad_norm": 0.5},
    }
}
# A greedy Q-network that never presses FIRE never begins a game of Breakout: 0.0 in ten games of
# the first run, whose training games gave 3.1. There it plays as at the end of its training.
EPSILON = {("dqn", "breakout"): 0.02, ("qr-dqn", "breakout"): 0.02}
# Random play in Freeway never crosses the road: PPO saw no reward in 300,000 steps. If the emulator
# keeps an action for 20 frames on average, random play crosses it about once a game. The agent is
# measured and shipped in the game as the others play it.
STICKY = {("ppo", "freeway"): 0.95, ("a2c", "freeway"): 0.95}  # while a run trains, per frame
STEPS = {"pong": 400_000, "breakout": 500_000, "freeway": 300_000}  # agent steps of a run
STEPS_OF = {("ga", "freeway"): 160_000, ("es", "freeway"): 160_000}

# Agent steps per second of one core (AMD EPYC, bfloat16), as measured on our own runs; A2C and
# QR-DQN in the proportion in which they were measured to PPO and DQN on another machine.
RATES = {"ppo": 700, "a2c": 1_150, "dqn": 680, "qr-dqn": 680, "ga": 890, "es": 930}
# What stands in for the seven algorithms of Such et al. (2019), and their agent steps per run
# (frames / 4, section 3.4 and supplement S3).
ORIGINAL = {
    **{"A2C": ("a2c", 100e6), "IMPALA": ("a2c", 100e6), "Ape-X": ("dqn", 250e6)},
    **{"DQN": ("dqn", 50e6), "Rainbow": ("qr-dqn", 50e6), "GA": ("ga", 250e6)},
    "ES": ("es", 250e6),
}


@dataclass(frozen=True)
class Cell:
    """One run of the matrix."""

    algorithm: str
    game: str
    run: int

    @property
    def name(self) -> str:
        """Return `<algorithm>-<game>-<run>`: of its folder, and of the agent that it becomes."""
        return f"{self.algorithm}-{self.game}-{self.run}"

    @property
    def settings(self) -> PPOSettings | DQNSettings | EvolutionSettings:
        """Return the recipe, with this game's changes and number of steps."""
        key = (self.algorithm, self.game)
        steps = STEPS_OF.get(key, STEPS[self.game])
        return replace(RECIPES[self.algorithm], **CHANGES.get(key, {}), total_steps=steps)

    @property
    def environment(self) -> EnvironmentSettings:
        """Return the settings of the emulator that the run trains in."""
        sticky = STICKY.get((self.algorithm, self.game), 0.0)
        return EnvironmentSettings(self.game, repeat_action_probability=sticky)

    @property
    def folder(self) -> Path:
        """Return the folder of the run, in the user's cache."""
        return paths.runs() / "zoo" / self.name


def cells(only: str = "") -> list[Cell]:
    """Return the runs of the matrix whose names start with `only`; the first of each cell first.

    Raises:
        ValueError: if there is none.
    """
    every = [Cell(name, game, run) for run in RUNS for name in RECIPES for game in GAMES]
    found = [cell for cell in every if cell.name.startswith(only)]
    if not found:
        raise ValueError(
            f"no run of the zoo starts with {only!r}; expected <algorithm>-<game>-<run> of "
            f"{', '.join(RECIPES)}; {', '.join(GAMES)}; {', '.join(map(str, RUNS))}"
        )
    return found


def train_cell(cell: Cell, *, max_seconds: float = float("inf"), progress: bool = False) -> str:
    """Train a run of the matrix, or go on with it; return its name."""
    torch.set_num_threads(1)
    TRAINERS[type(cell.settings)](
        cell.game,
        cell.folder,
        cell.settings,
        seed=cell.run,
        environment=cell.environment,
        checkpoint_every=CHECKPOINT_EVERY,
        max_seconds=max_seconds,
        progress=progress,
    )
    return cell.name


def train_missing(only: str = "", jobs: int = 0, max_seconds: float = float("inf")) -> None:
    """Train what is missing of the matrix, side by side through joblib, a thread for each run.

    Under `joblib.parallel_config(backend="dask")` the runs go to a Dask cluster. The workers need
    the same cache folder, since it holds the runs.

    Args:
        only: start of the names.
        jobs: processes; 0 for one per core.
        max_seconds: stop each run, resumable, after so much wall time.
    """
    missing = [cell for cell in cells(only) if (told := state(cell))["steps"] < told["of"]]
    alone = len(missing) == 1
    work = partial(train_cell, progress=alone, max_seconds=max_seconds)
    jobs = jobs or min(os.cpu_count() or 1, max(len(missing), 1))
    done = Parallel(n_jobs=1 if alone else jobs, return_as="generator_unordered")(
        delayed(work)(cell) for cell in missing
    )
    for name in done:
        print(f"trained: {name}", flush=True)


def state(cell: Cell) -> dict:
    """Return a row of the table: what a run has done, and the core-hours that remain of it."""
    curve, rows = cell.folder / "curve.csv", []
    if curve.is_file():
        with curve.open(newline="") as file:
            rows = list(csv.DictReader(file))
    last = rows[-1] if rows else {}
    steps, hours = int(last.get("step") or 0), float(last.get("cpu_hours") or 0)
    rate = steps / hours / 3600 if hours > 0.01 else RATES[cell.algorithm]
    total = cell.settings.total_steps
    told = [row["mean_return"] for row in rows if row["mean_return"]]
    return {
        "run": cell.name,
        "steps": steps,
        "of": total,
        "mean_return": float(told[-1]) if told else None,
        "core_hours": round(hours, 2),
        "remaining": round(max(total - steps, 0) / rate / 3600, 2),
    }


def table(only: str = "") -> pd.DataFrame:
    """Return what stands and what remains: a row for each run of the matrix."""
    return pd.DataFrame([state(cell) for cell in cells(only)])


def cost_of_the_original(games: int = 55, seeds: int = 3) -> pd.DataFrame:
    """Return the core-hours that the zoo of Such et al. (2019) would take at our rates."""
    rows = [
        {
            "algorithm": name,
            "at the rate of": ours,
            "agent steps": steps,
            "core_hours": round(games * seeds * steps / RATES[ours] / 3600),
        }
        for name, (ours, steps) in ORIGINAL.items()
    ]
    return pd.DataFrame(rows)


def report(only: str = "") -> str:
    """Return the table, what remains of it, and the cost of the original, in words."""
    rows, original = table(only), cost_of_the_original()
    return (
        f"{rows.to_string(index=False, na_rep='')}\n"
        f"remaining: {rows['remaining'].sum():.1f} core-hours; the matrix of Such et al. (2019), "
        f"55 games x 7 algorithms x 3 runs, would take {original['core_hours'].sum():,} at our "
        "rates"
    )


def checkpoints(cell: Cell) -> list[dict]:
    """Return a run's checkpoints: agent steps, CPU seconds, and the mean return of the last games.

    The mean return is None where no whole game has been played, as in evolution.
    """
    steps = sorted(int(path.stem) for path in (cell.folder / "checkpoints").glob("*.safetensors"))
    with (cell.folder / "curve.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    found = []
    for step in steps:
        last = next((row for row in reversed(rows) if int(row["step"]) <= step), {})
        score = last.get("mean_return")
        found.append(
            {
                "steps": step,
                "cpu_seconds": round(3600 * float(last.get("cpu_hours") or 0), 1),
                "score": round(float(score), 2) if score else None,
            }
        )
    return found


def ship_cell(
    cell: Cell, tag: str = FINAL, episodes: int = EPISODES, progress: bool = False
) -> Path:
    """Measure a checkpoint of a run and put it into `data/zoo`: row, scores and a replay.

    The float16 file is written first, loaded again and played, whole episodes or five minutes of
    play each: Q-networks and evolved ones greedily (but see `EPSILON`), policies with sampled
    actions, all of them without the sticky actions that a run may have trained with. A run that is
    not at its end gets the tag of its steps, such as "200k". The final agent's row lists the run's
    checkpoints; every other tag is chosen among these, and the run is trained if it is not here.

    Args:
        cell: the run.
        tag: "final", or another of `zoo.tags`.
        episodes: that the score is measured by.
        progress: show a bar.

    Returns:
        The path of the row.

    Raises:
        ValueError: if the run has no checkpoint, or no such tag.
    """
    if tag == FINAL:
        told = state(cell)
        known = checkpoints(cell) if told["steps"] else []
        if not known:
            raise ValueError(f"{cell.folder} holds no checkpoints: make zoo ONLY={cell.name}")
        steps = known[-1]["steps"]
        ended = steps >= cell.settings.total_steps
        name = cell.name if ended else f"{cell.name}-{steps // 1000}k"
    else:
        known, steps, name = [], _step_of(cell, tag), f"{cell.name}-{tag}"
        if not _checkpoint(cell, steps).is_file():
            train_cell(cell, max_seconds=0 if tag == INITIAL else float("inf"), progress=progress)
        told = state(cell)
    facts = {
        "algorithm": cell.algorithm,
        "command": f"make zoo ONLY={cell.name}",
        "hours": told["core_hours"],
        "machine": machine(),
    }
    if sticky := cell.environment.repeat_action_probability:
        facts["trained_with"] = f"repeat_action_probability {sticky} per frame, for exploration"
    if isinstance(cell.settings, DQNSettings):
        facts["after_a_stop"] = "the replay memory is filled anew by the run's own play"
    paths.ZOO.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=paths.ZOO, prefix=".unfinished-") as folder:
        shipped = checkpoint_agent(_checkpoint(cell, steps), name, facts)
        shipped = replace(shipped, settings=EnvironmentSettings(cell.game))
        weights = save_agent(shipped, Path(folder) / name)
        agent = load_agent(weights)
        limit = min(agent.settings.max_frames, STUCK_FRAMES)
        epsilon = EPSILON.get((cell.algorithm, cell.game), 0.0)
        scores = evaluate(
            agent,
            episodes,
            REPORTING_SEED,
            greedy=agent.network.q_values,
            epsilon=epsilon,
            settings=replace(agent.settings, max_frames=limit),
            progress=progress,
        )
        score = describe(scores) | {"greedy": scores.greedy, "sha256": agent.facts["sha256"]}
        score["truncated"] = int(scores.truncated.sum())
        if epsilon:
            score["epsilon"] = epsilon
        more = {"score": score}
        if known:
            more["checkpoints"] = [*known[:-1], known[-1] | {"score": score["mean"]}]
        archive.record(agent, weights.with_suffix(".npz"), epsilon)
        save_agent(replace(agent, facts=agent.facts | more), weights)
        write_scores([scores], paths.SCORES / f"{name}.csv")
        for path in (weights, weights.with_suffix(".npz"), weights.with_suffix(".yml")):
            os.replace(path, paths.ZOO / path.name)
    if known:
        thin_curve(cell.folder, name)
    return paths.ZOO / f"{name}.yml"


def _checkpoint(cell: Cell, steps: int) -> Path:
    return cell.folder / "checkpoints" / f"{steps:09d}.safetensors"


def _step_of(cell: Cell, tag: str) -> int:
    """Return the agent step of a tag; a run that is not in the zoo yet has its initial one."""
    if tag == INITIAL:
        return 0
    rows = zoo.tags()
    for column in ("algorithm", "game", "run"):
        rows = rows[rows[column].eq(getattr(cell, column))]
    reached = rows.dropna(subset=["steps"]).set_index("tag")["steps"]
    if tag not in reached.index:
        raise ValueError(
            f"{cell.name} has no checkpoint {tag!r}; it has {', '.join(reached.index) or INITIAL}"
        )
    return int(reached[tag])
