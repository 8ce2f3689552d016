"""How well an agent plays: whole episodes, every one counted, with intervals over episodes."""

import csv
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy import stats
from tqdm import tqdm

from atarilens.agents import Agent
from atarilens.envs import AtariEnv, EnvironmentSettings
from atarilens.trajectories import draw_action, episode_generator, make_agent_env
from atarilens.watching import Watcher, think

ENOUGH_TO_RESAMPLE = 20  # episodes, of which the bootstrap comes near to its level
GROUP = 8  # episodes that share a batch and a thread; fixed, so that cores change no rounding
BOOTSTRAP_SEED = 0
RESAMPLES = 10_000
COLUMNS = (
    *("agent", "seed", "return", "steps", "truncated", "greedy"),
    *("repeat_action_probability", "hint", "agent_sha256"),
)


@dataclass(frozen=True)
class Scores:
    """One whole episode from each of n seeds.

    Attributes:
        agent: name.
        agent_sha256: of its weights, or None.
        seeds: `[n]` int64.
        returns: `[n]` float64, sum of the game's own (unclipped) rewards.
        lengths: `[n]` int64, decisions of the agent.
        truncated: `[n]` bool: cut off by the settings' `max_frames`, its return is a lower bound.
        greedy: the likeliest action was taken, not a drawn one.
        settings: of the environment.
    """

    agent: str
    agent_sha256: str | None
    seeds: np.ndarray
    returns: np.ndarray
    lengths: np.ndarray
    truncated: np.ndarray
    greedy: bool
    settings: EnvironmentSettings

    @property
    def mean(self) -> float:
        """Mean return."""
        return float(self.returns.mean())

    @property
    def interval(self) -> tuple[float, float]:
        """95 % bootstrap interval of the mean return."""
        return mean_interval(self.returns)


def evaluate(
    agent: Agent,
    episodes: int = 30,
    seed: int = 0,
    greedy: bool = False,
    settings: EnvironmentSettings | None = None,
    *,
    progress: bool = False,
) -> Scores:
    """Play one whole episode from each of the seeds seed ... seed + episodes - 1.

    Each has an environment of its own and is played to its end, so that short episodes are not
    preferred. Eight play together, the network running once per step for those not yet over, and
    each eight in a thread, as emulators and networks let go of Python's lock. An episode is the
    same as that of `rollout` from its seed, up to the rounding of the network's batches.

    Args:
        agent: who plays.
        episodes: how many.
        seed: of the first, 0 or more.
        greedy: take the likeliest action; by default actions are drawn from the policy.
        settings: of the environment; by default the agent's.
        progress: show a bar.

    Raises:
        ValueError: for no episodes, a negative seed, or settings that do not fit the agent.
    """
    if episodes < 1 or seed < 0:
        raise ValueError(
            f"episodes must be 1 or more and seed 0 or more: received {episodes} and {seed}"
        )
    seeds = np.arange(seed, seed + episodes)
    make_agent_env(agent, settings)  # says now what does not fit
    stopped = threading.Event()
    with tqdm(total=episodes, unit="episode", disable=not progress) as bar:

        def play(group: np.ndarray) -> list[_Player]:
            players = [_Player(agent, settings, int(number), greedy) for number in group]
            playing = players
            while playing and not stopped.is_set():
                action_logits, _ = think([player.watcher for player in playing])
                for player, logits in zip(playing, action_logits, strict=True):
                    player.act(logits)
                bar.update(sum(player.over for player in playing))
                playing = [player for player in playing if not player.over]
            return players

        groups = np.array_split(seeds, range(GROUP, episodes, GROUP))
        threads_of_torch = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with ThreadPoolExecutor(os.cpu_count()) as threads:
                try:
                    players = [player for group in threads.map(play, groups) for player in group]
                finally:
                    stopped.set()  # an interrupt need not wait for the episodes' ends
        finally:
            torch.set_num_threads(threads_of_torch)
    return Scores(
        agent=agent.name,
        agent_sha256=agent.facts.get("sha256"),
        seeds=seeds,
        returns=np.array([player.total for player in players], np.float64),
        lengths=np.array([player.steps for player in players]),
        truncated=np.array([player.truncated for player in players]),
        greedy=greedy,
        settings=players[0].env.settings,
    )


class _Player:
    """One episode in play: its environment, the agent's view of it, and the count so far."""

    def __init__(self, agent: Agent, settings: EnvironmentSettings | None, seed: int, greedy: bool):
        self.env: AtariEnv = make_agent_env(agent, settings)
        self.watcher = Watcher(agent)
        self.generator = None if greedy else episode_generator(seed)
        self.total, self.steps, self.over, self.truncated = 0.0, 0, False, False
        self.watcher.look(self.env.reset(seed=seed)[0], start=True)

    def act(self, action_logits: np.ndarray) -> None:
        """Take one action and look at what follows."""
        action = draw_action(action_logits, self.generator)
        screen, reward, terminated, self.truncated, _ = self.env.step(action)
        self.total += reward
        self.steps += 1
        self.over = terminated or self.truncated
        if not self.over:
            self.watcher.look(screen, start=False)


def mean_interval(values: Sequence[float], *, level: float = 0.95) -> tuple[float, float]:
    """Return an interval of the mean that holds for few episodes, too.

    Twenty or more: the percentile bootstrap. Fewer: Student's t, because the bootstrap of few
    values is too narrow (of normal data it covers the mean in 71 % of cases at n = 3, 89 % at 12).

    Args:
        values: `[n]`, one per episode: episodes are independent, frames are not.
        level: of the interval.

    Returns:
        (low, high); NaN for a single value, which has no spread.

    Raises:
        ValueError: if there are no values, or the level is not between 0 and 1.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or values.size == 0 or values.size >= ENOUGH_TO_RESAMPLE:
        return bootstrap_interval(values, level=level)
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, received {level}")
    if values.size == 1:
        return float("nan"), float("nan")
    reach = stats.t.ppf((1 + level) / 2, values.size - 1) * stats.sem(values)
    return float(values.mean() - reach), float(values.mean() + reach)


def bootstrap_interval(
    values: Sequence[float],
    generator: np.random.Generator | None = None,
    *,
    level: float = 0.95,
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the mean (Efron 1979).

    Args:
        values: `[n]`, one per episode: episodes are independent, frames are not.
        generator: draws the 10,000 resamples; by default one of a fixed seed.
        level: share of the resampled means inside of it.

    Raises:
        ValueError: if there are no values, or the level is not between 0 and 1.
    """
    return _interval(_resampled_means(values, _or_fixed(generator)), level)


def mean_difference(
    values: Sequence[float],
    others: Sequence[float],
    generator: np.random.Generator | None = None,
    *,
    level: float = 0.95,
) -> tuple[float, tuple[float, float]]:
    """Return mean(values) - mean(others) of two independent samples, and its bootstrap interval.

    Args:
        values: `[n]`, one per episode.
        others: `[m]`, one per episode.
        generator: draws the resamples; by default one of a fixed seed.
        level: of the interval.
    """
    generator = _or_fixed(generator)
    means, other_means = (_resampled_means(sample, generator) for sample in (values, others))
    return float(np.mean(values) - np.mean(others)), _interval(means - other_means, level)


@dataclass(frozen=True)
class Equivalence:
    """Outcome of `equivalence_test`.

    Attributes:
        ratio: mean of the one over mean of the other.
        interval: 90 % bootstrap interval of the ratio.
        equivalent: the interval lies within the margin.
        different: the interval lies outside the margin as a whole. Neither may be so.
    """

    ratio: float
    interval: tuple[float, float]
    equivalent: bool
    different: bool


def equivalence_test(
    values: Sequence[float],
    others: Sequence[float],
    generator: np.random.Generator | None = None,
    *,
    margin: float = 0.15,
) -> Equivalence:
    """Test whether two mean scores are the same but for a margin: two one-sided tests at 5 %.

    They are equivalent where the 90 % interval of the ratio of the means lies strictly between
    1 - margin and 1 + margin (Schuirmann 1987, by bootstrap). Not to be so is no proof of a
    difference: with few episodes neither can be shown.

    Args:
        values: `[n]`, one per episode.
        others: `[m]`, one per episode; what is compared with.
        generator: draws the resamples; by default one of a fixed seed.
        margin: relative.

    Raises:
        ValueError: if a mean, or a resampled one, is not positive: a ratio has no meaning then.
    """
    generator = _or_fixed(generator)
    means, other_means = (_resampled_means(sample, generator) for sample in (values, others))
    lowest = min(means.min(), other_means.min())
    if lowest <= 0:
        raise ValueError(f"a ratio needs positive mean scores, one resampled mean is {lowest:g}")
    low, high = _interval(means / other_means, 0.90)
    ratio = float(np.mean(values) / np.mean(others))
    within, outside = 1 - margin < low and high < 1 + margin, high < 1 - margin or low > 1 + margin
    return Equivalence(ratio, (low, high), within, outside)


def _or_fixed(generator: np.random.Generator | None) -> np.random.Generator:
    return generator or np.random.default_rng(BOOTSTRAP_SEED)


def _resampled_means(values: Sequence[float], generator: np.random.Generator) -> np.ndarray:
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not values.size:
        raise ValueError(f"expected one value per episode [n], received {list(values.shape)}")
    return values[generator.integers(values.size, size=(RESAMPLES, values.size))].mean(1)


def _interval(statistics: np.ndarray, level: float) -> tuple[float, float]:
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, received {level}")
    tail = (1 - level) / 2
    low, high = np.quantile(statistics, (tail, 1 - tail))
    return float(low), float(high)


def write_scores(scores: Sequence[Scores], path: str | Path) -> Path:
    """Write one CSV row per episode, for one or more evaluations; a file of this name is replaced.

    Args:
        scores: of one game.
        path: folders are made; the file is written beside its place and then moved.

    Returns:
        The path.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for one in scores:
            sticky, hint = one.settings.repeat_action_probability, one.settings.hint
            last = (int(one.greedy), f"{sticky:g}", hint, one.agent_sha256 or "")
            for row in zip(one.seeds, one.returns, one.lengths, one.truncated, strict=True):
                seed, total, steps, truncated = row
                writer.writerow((one.agent, seed, f"{total:g}", steps, int(truncated), *last))
    os.replace(partial, path)
    return path


def read_scores(path: str | Path) -> list[dict]:
    """Read the rows that `write_scores` wrote; numbers as numbers, flags as bool.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if a column is missing, or a value is no number.
    """
    with Path(path).open(newline="") as file:
        rows = list(csv.DictReader(file))
    kinds = dict.fromkeys(COLUMNS, str) | {
        **{"seed": int, "steps": int, "return": float, "repeat_action_probability": float},
        **{flag: lambda text: bool(int(text)) for flag in ("truncated", "greedy")},
    }
    try:
        return [{name: kind(row[name]) for name, kind in kinds.items()} for row in rows]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no table of scores: {error}") from error
