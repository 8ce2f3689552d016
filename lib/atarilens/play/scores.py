"""How well an agent plays: whole episodes, every one counted, with intervals over episodes."""

import csv
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from atarilens import paths
from atarilens.agents import Agent
from atarilens.games.emulators import AtariEnv, EnvironmentSettings
from atarilens.measures.intervals import mean_interval
from atarilens.play.inference import Stream, run_network
from atarilens.play.rollouts import action_chooser, make_agent_env, plays_greedily

GROUP = 8  # episodes that share a batch and a thread; fixed, so that cores change no rounding
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
        truncated: `[n]` bool: cut off by the settings' `max_frames`; the return is a lower bound.
        greedy: whether the likeliest action was taken, not a drawn one.
        settings: of the environment.
        epsilon: probability with which an action was drawn evenly from all instead.
        observation_noise: standard deviation of the noise added to each observation.
    """

    agent: str
    agent_sha256: str | None
    seeds: np.ndarray
    returns: np.ndarray
    lengths: np.ndarray
    truncated: np.ndarray
    greedy: bool
    settings: EnvironmentSettings
    epsilon: float = 0.0
    observation_noise: float = 0.0

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
    greedy: bool | None = None,
    settings: EnvironmentSettings | None = None,
    *,
    epsilon: float = 0.0,
    observation_noise: float = 0.0,
    progress: bool = False,
) -> Scores:
    """Play one whole episode from each of the seeds seed ... seed + episodes - 1.

    Every episode is played to its end, so that short episodes are not preferred. Eight episodes
    share a batch of the network, and a thread. An episode is the same as that of `rollout` from
    its seed, up to the rounding of the network's batches.

    Args:
        agent: who plays.
        episodes: how many.
        seed: of the first, 0 or more.
        greedy: take the likeliest action; otherwise actions are drawn from the policy. By default
            only Q-values are played greedily: their softmax is not the policy that was trained.
        settings: of the environment; by default the agent's.
        epsilon: probability of an action drawn evenly from all instead, in [0, 1].
        observation_noise: standard deviation of Gaussian noise in grey levels of [0, 1], added to
            every pixel of every observation, drawn anew at each step and not clipped (Such et al.
            2019). An episode's noise is a function of its seed.
        progress: show a bar.

    Raises:
        ValueError: if there are no episodes, the seed or the noise is negative, or the settings do
            not fit.
    """
    if observation_noise < 0:
        raise ValueError(f"observation_noise is {observation_noise}, expected 0 or more")
    if episodes < 1 or seed < 0:
        raise ValueError(
            f"episodes must be 1 or more and seed 0 or more: received {episodes} and {seed}"
        )
    greedy = plays_greedily(agent, greedy)
    seeds = np.arange(seed, seed + episodes)
    action_chooser(seed, greedy, epsilon)
    make_agent_env(agent, settings)  # says now what does not fit
    stopped = threading.Event()
    with tqdm(total=episodes, unit="episode", disable=not progress) as bar:

        def play(group: np.ndarray) -> list[_Player]:
            choosers = [action_chooser(int(number), greedy, epsilon) for number in group]
            players = [
                _Player(agent, settings, int(number), choose, observation_noise)
                for number, choose in zip(group, choosers, strict=True)
            ]
            playing = players
            while playing and not stopped.is_set():
                action_logits, _ = run_network([player.stream for player in playing])
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
        epsilon=epsilon,
        observation_noise=observation_noise,
    )


class _Player:
    """One episode in play: its environment, the agent's view of it, and the count so far."""

    def __init__(
        self,
        agent: Agent,
        settings: EnvironmentSettings | None,
        seed: int,
        choose: Callable[[np.ndarray], int],
        observation_noise: float = 0.0,
    ):
        self.noise, self.generator = observation_noise, np.random.default_rng([seed, 2])
        self.env: AtariEnv = make_agent_env(agent, settings)
        self.stream = Stream(agent)
        self.choose = choose
        self.total, self.steps, self.over, self.truncated = 0.0, 0, False, False
        self._read(self.env.reset(seed=seed)[0], start=True)

    def act(self, action_logits: np.ndarray) -> None:
        """Take one action and read the next screen."""
        action = self.choose(action_logits)
        screen, reward, terminated, self.truncated, _ = self.env.step(action)
        self.total += reward
        self.steps += 1
        self.over = terminated or self.truncated
        if not self.over:
            self._read(screen, start=False)

    def _read(self, screen: np.ndarray, start: bool) -> None:
        """Read a screen and add noise to the observation; the next one does not inherit it."""
        self.stream.read(screen, start)
        if self.noise:
            clean = self.stream.observation
            drawn = self.generator.standard_normal(clean.shape, np.float32)
            self.stream.observation = clean + np.float32(self.noise) * drawn


def write_scores(scores: Sequence[Scores], path: str | Path) -> Path:
    """Write one CSV row per episode, for one or more evaluations; an older file is replaced.

    Args:
        scores: of one game; a last column `epsilon` follows if one is not 0.
        path: of the file; missing folders are made.

    Returns:
        The path.
    """
    explored = any(one.epsilon for one in scores)
    with paths.whole_file(path) as beside, beside.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow((*COLUMNS, *(["epsilon"] if explored else [])))
        for one in scores:
            sticky, hint = one.settings.repeat_action_probability, one.settings.hint
            last = [int(one.greedy), f"{sticky:g}", hint, one.agent_sha256 or ""]
            last += [f"{one.epsilon:g}"] if explored else []
            for row in zip(one.seeds, one.returns, one.lengths, one.truncated, strict=True):
                seed, total, steps, truncated = row
                writer.writerow((one.agent, seed, f"{total:g}", steps, int(truncated), *last))
    return Path(path)


def read_scores(name_or_path: str | Path) -> list[dict]:
    """Read the rows that `write_scores` wrote; numbers as numbers, flags as bool.

    Args:
        name_or_path: an agent's name in `data/scores`, or a path.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if a column is missing, or a value is no number.
    """
    path = Path(name_or_path)
    if not path.suffix and len(path.parts) == 1:
        path = paths.SCORES / f"{path}.csv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    kinds = dict.fromkeys(COLUMNS, str) | {
        **{"seed": int, "steps": int, "return": float, "repeat_action_probability": float},
        **{flag: lambda text: bool(int(text)) for flag in ("truncated", "greedy")},
    }
    try:
        return [{name: kind(row[name]) for name, kind in kinds.items()} for row in rows]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no table of scores: {error}") from error
