"""Ship an agent: choose a checkpoint of a run, measure that very file, write weights, row, scores.

Choosing and reporting use different seeds. A row says the sha256 of the file that its scores were
measured on; `check_row` refuses any other.
"""

import csv
import json
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from atarilens import paths
from atarilens.agents import Agent, agent_from_module, load_agent, save_agent
from atarilens.agents.registry import load_network
from atarilens.games.emulators import STICKINESS, action_meanings
from atarilens.play.scores import Scores, evaluate, read_scores, write_scores
from compendium.benchmark import machine
from compendium.training.runs import load_weights

LEARNERS = ("ppo", "imitation", "dqn", "evolution")  # whose settings a run's folder may hold

EPISODES = 30
HINT_EPISODES = 10  # under each hint that a student was not trained with
REPORTING_SEED = 0  # episodes 0 ... 29 are reported
CHOOSING_SEED = 100_000  # and these only choose
STUCK_FRAMES = 18_000  # five minutes of play: greedy or misled, an agent may never serve again


def checkpoint_agent(checkpoint: str | Path, name: str, facts: dict | None = None) -> Agent:
    """Make an agent of a training checkpoint.

    Args:
        checkpoint: `<run>/checkpoints/<step>.safetensors`, or the one in `<run>/best`, beside the
            run's `settings.json`.
        name: of the agent.
        facts: for its row, on top of what the run says.

    Raises:
        ValueError: if it is no checkpoint of a run.
    """
    checkpoint = Path(checkpoint)
    run = checkpoint.parent.parent
    try:
        told = json.loads((run / "settings.json").read_text())
        learned = next(told[kind] for kind in LEARNERS if kind in told)
        weights = load_weights(checkpoint)
        settings = {key: told["environment"][key] for key in told["environment"] if key != "game"}
        actions = action_meanings(told["game"], settings.get("full_action_space", False))
        network = load_network(*_architecture(learned, len(actions), weights))
        step = int(checkpoint.stem)
    except (OSError, KeyError, ValueError, RuntimeError, StopIteration) as error:
        raise ValueError(
            f"{checkpoint} is no checkpoint of a training run, expected "
            f"<run>/checkpoints/<step>.safetensors beside <run>/settings.json: {error}"
        ) from error
    reads = "luma80" if network.architecture == "lstm" else "area84-stack4"
    agent = agent_from_module(
        network, game=told["game"], preprocessing=reads, settings=settings, name=name
    )
    known = {
        "training_steps": step,
        "seed": told["seed"],
        "lineage": told["lineage"],
        "training": learned,
        "licence": "MIT",
    }
    if "expert_sha256" in told:
        known["expert_sha256"] = told["expert_sha256"]
    return replace(agent, facts=agent.facts | known | (facts or {}))


def _architecture(learned: dict, actions: int, weights: dict) -> tuple:
    """Return the arguments of `load_network` for weights that were learned under settings."""
    if "quantiles" in learned or "method" in learned:
        quantiles = learned.get("quantiles", 0)
        name = "nature-qr" if quantiles else "nature-q"
        arguments = {"quantiles": quantiles} if quantiles else {}
    else:
        name, arguments = learned.get("network", "lstm"), {}
    if units := learned.get("hidden_units"):
        arguments["hidden_units"] = units
    return name, actions, weights, arguments


def check_order(run: str | Path, name: str) -> None:
    """Check the run and the name before anything is played.

    Raises:
        ValueError: if the name is not one of letters, digits, "_" and "-", or the run has no curve.
    """
    if not re.fullmatch(r"[\w-]+", name):
        raise ValueError(f"the name {name!r} must consist of letters, digits, _ and -")
    if not (Path(run) / "curve.csv").is_file():
        raise ValueError(
            f"{run} has no curve.csv, expected the folder of a training run, "
            "or its <run>/checkpoints/<step>.safetensors"
        )


def choose_checkpoint(
    run: str | Path, last: int = 5, episodes: int = EPISODES, like: Agent | None = None
) -> Path:
    """Choose among a run's last checkpoints and its best one, on seeds that are never reported.

    The best one is that of the highest running mean return in training, which need not be near
    the end (see `training.runs`).

    Args:
        run: folder of the run.
        last: how many checkpoints of its schedule are compared.
        episodes: of each.
        like: choose the mean score nearest to this agent's on the same seeds (of the overfit
            study: the overfit student nearest to its control); by default the best.

    Raises:
        ValueError: if the run holds no checkpoints, or `like` plays another game.
    """
    candidates = sorted((Path(run) / "checkpoints").glob("*.safetensors"))[-last:]
    candidates += (Path(run) / "best").glob("*.safetensors")
    if not candidates:
        raise ValueError(f"{run} holds no checkpoints")
    game = checkpoint_agent(candidates[0], "candidate").game
    if like is not None and like.game != game:
        raise ValueError(f"{like.name} plays {like.game}, but {run} learned {game}")
    means = np.array(
        [
            evaluate(checkpoint_agent(path, "candidate"), episodes, CHOOSING_SEED).mean
            for path in candidates
        ]
    )
    if like is not None:
        means = -np.abs(means - evaluate(like, episodes, CHOOSING_SEED).mean)
    return candidates[int(np.argmax(means))]


def hint_conditions(agent: Agent) -> list[str]:
    """Return the hints that a student is scored under: true, random, shifted by one, absent.

    Empty for agents that imitate nobody.
    """
    _, imitates, expert = (agent.facts.get("lineage") or "").partition("imitates ")
    return [f"expert:{expert}", "random", f"shifted:{expert}", "none"] if imitates else []


def describe(scores: Scores) -> dict:
    """Return the numbers of a row: mean with its 95 % interval over episodes, sd, median, seeds."""
    return {
        "mean": round(scores.mean, 2),
        "interval": [round(bound, 2) for bound in scores.interval],
        "sd": round(float(scores.returns.std(ddof=1)), 2) if len(scores.returns) > 1 else None,
        "median": float(np.median(scores.returns)),
        "episodes": len(scores.returns),
        "seeds": [int(scores.seeds[0]), int(scores.seeds[-1])],
    }


def ship(
    checkpoint: str | Path,
    name: str,
    *,
    facts: dict | None = None,
    episodes: int = EPISODES,
    progress: bool = False,
) -> Path:
    """Measure a checkpoint and put it into `data/agents` with its row and its scores.

    The float16 file is written first, loaded again and played: sampled actions, greedy ones, and
    sampled under sticky actions (an agent that was trained with them: also without them),
    `episodes` whole episodes each; a student of the overfit study
    also under the hints that it was not trained with, `HINT_EPISODES` each, with and without sticky
    actions (without them its games repeat themselves). Greedy episodes and
    those under foreign hints are cut off after five minutes of play: an agent that always takes
    the same action, or follows a wrong hint, may never serve the next ball. Nothing appears in
    `data` before all is measured.

    Args:
        checkpoint: of a run (see `checkpoint_agent`).
        name: of the agent, such as "pong-strong".
        facts: for its row: command, hours, machine.
        episodes: per measurement.
        progress: show bars.

    Returns:
        The path of the row.

    Raises:
        ValueError: if `check_order` refuses, or it is no checkpoint of a run.
    """
    check_order(Path(checkpoint).parent.parent, name)
    told = {"machine": machine()} | (facts or {})
    with TemporaryDirectory(dir=paths.AGENTS, prefix=".unfinished-") as folder:
        weights = save_agent(checkpoint_agent(checkpoint, name, told), Path(folder) / name)
        agent = replace(load_agent(Path(folder) / name), name=name)
        trained_sticky = agent.settings.repeat_action_probability == STICKINESS
        other = 0.0 if trained_sticky else STICKINESS
        changed = replace(agent.settings, repeat_action_probability=other)
        played = {"episodes": episodes, "seed": REPORTING_SEED, "progress": progress}
        sampled = evaluate(agent, **played)
        limit = min(agent.settings.max_frames, STUCK_FRAMES)
        limited = replace(agent.settings, max_frames=limit)
        greedy = evaluate(agent, greedy=True, settings=limited, **played)
        robust = evaluate(agent, settings=changed, **played)
        under = played | {"episodes": min(episodes, HINT_EPISODES)}
        by_hint = {
            hint: evaluate(agent, settings=replace(limited, hint=hint), **under)
            for hint in hint_conditions(agent)
            if hint != agent.settings.hint
        }
        otherwise = replace(limited, repeat_action_probability=other)
        again = [
            evaluate(agent, settings=replace(otherwise, hint=hint), **under) for hint in by_hint
        ]
        score = describe(sampled) | {
            "greedy": describe(greedy),
            "sticky": {"repeat_action_probability": STICKINESS}
            | describe(sampled if trained_sticky else robust),
            "sha256": agent.facts["sha256"],
        }
        if trained_sticky:
            score["deterministic"] = {"repeat_action_probability": other} | describe(robust)
        if by_hint:
            score["hints"] = {hint: describe(scores) for hint, scores in by_hint.items()}
        save_agent(replace(agent, facts=agent.facts | {"score": score}), weights)
        row = weights.with_suffix(".yml")
        measured = [sampled, greedy, robust, *by_hint.values(), *again]
        write_scores(measured, paths.SCORES / f"{name}.csv")
        for path in (weights, row):
            os.replace(path, paths.AGENTS / path.name)
    check_row(name)
    return paths.AGENTS / row.name


def check_row(name: str) -> None:
    """Require that the scores of a shipped row were measured on its own file.

    Raises:
        ValueError: if row, weights and the table of scores do not belong together.
    """
    agent = load_agent(name)  # compares the file's sha256 with the row's
    score = agent.facts["score"]
    rows = read_scores(paths.SCORES / f"{name}.csv")
    measured = {score.get("sha256"), *(row["agent_sha256"] for row in rows)}
    if measured != {agent.facts["sha256"]}:
        raise ValueError(
            f"the scores of {name!r} were measured on {', '.join(sorted(map(str, measured)))}, "
            f"but its file is {agent.facts['sha256']}: ship it again"
        )
    returns = [row["return"] for row in rows if _plain(row, agent)]
    if round(float(np.mean(returns)), 2) != score["mean"]:
        raise ValueError(
            f"the row of {name!r} says a mean of {score['mean']}, its table {np.mean(returns):.2f}"
        )


def _plain(row: dict, agent: Agent) -> bool:
    stickiness = agent.settings.repeat_action_probability
    conditions = (row["greedy"], row["repeat_action_probability"], row["hint"])
    return conditions == (False, stickiness, agent.settings.hint)


def training_hours(checkpoint: str | Path) -> float | None:
    """Return the wall hours of a run up to a checkpoint; None if its curve is missing."""
    checkpoint = Path(checkpoint)
    curve = checkpoint.parent.parent / "curve.csv"
    if not curve.is_file():
        return None
    rows = csv.DictReader(curve.read_text().splitlines())
    hours = [float(row["hours"]) for row in rows if int(row["step"]) <= int(checkpoint.stem)]
    return round(hours[-1], 2) if hours else 0.0


def thin_curve(run: str | Path, name: str, rows: int = 400) -> Path:
    """Copy a run's curve to `data/logs/<name>.csv`, at most so many rows, the last one included."""
    header, *lines = (Path(run) / "curve.csv").read_text().splitlines()
    kept: Sequence[int] = np.unique(np.linspace(0, len(lines) - 1, rows).astype(int))
    path = paths.LOGS / f"{name}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *(lines[index] for index in kept)]) + "\n")
    return path
