"""How an agent's score falls under noise: on what it sees, on its weights, on what it does.

Source: Such et al. (2019), sections "Observation and Parameter Noise", supplement S1.2. Each kind
of noise is one number, its level, and level 0 is play without noise, bit for bit.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from atarilens.agents import Agent
from atarilens.games.emulators import EnvironmentSettings
from atarilens.measures.intervals import mean_interval
from atarilens.play.scores import Scores, evaluate

KINDS = {
    "observation": "standard deviation of noise on every pixel, in grey levels of [0, 1]",
    "weights": "standard deviation of noise on the convolutions' weights",
    "relative weights": "the same, as a share of each layer's root mean square weight",
    "action": "probability of an action drawn evenly from all",
    "sticky": "probability per emulator frame that the last action is repeated",
}
COLUMNS = (  # of the table of `noise_rows`
    *("agent", "algorithm", "game", "run", "tag", "agent_sha256"),
    *("kind", "level", "seed", "return", "steps"),
)


def noisy_weights(agent: Agent, sigma: float, seed: int, *, relative: bool = False) -> Agent:
    """Return an agent with noise on the weights of its convolutions; the given one stays.

    Biases, dense layers and heads stay as they are, as in the paper.

    Args:
        agent: whose network has convolutions.
        sigma: standard deviation.
        seed: of the noise, which is the same for every sigma but for the factor.
        relative: sigma counts in units of each layer's root mean square weight. An absolute sigma
            disturbs a network of small weights more, whatever the network computes.

    Raises:
        ValueError: if sigma is negative, or there is no convolution.
    """
    if sigma < 0:
        raise ValueError(f"sigma is {sigma}, expected 0 or more")
    network = copy.deepcopy(agent.network)
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    if not convolutions:
        raise ValueError(f"the network of agent {agent.name!r} has no convolutions")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in convolutions:
            unit = layer.weight.square().mean().sqrt() if relative else 1.0
            drawn = torch.randn(layer.weight.shape, generator=generator)
            if sigma:
                layer.weight.add_(sigma * unit * drawn)
    return replace(agent, network=network)


def play_with_noise(
    agent: Agent,
    kind: str,
    level: float,
    *,
    episodes: int = 3,
    seed: int = 0,
    max_steps: int | None = None,
    greedy: bool | None = None,
) -> Scores:
    """Score an agent under one kind of noise.

    Noise on weights is drawn once per episode, from the episode's seed: intervals over episodes are
    then intervals over noise, too.

    Deviation: "sticky" repeats the last action per emulator frame, as the emulator does (Machado
    et al. 2018); the paper's code repeats it per agent step.

    Args:
        agent: who plays.
        kind: one of `KINDS`.
        level: of the noise; 0 is none.
        episodes: how many.
        seed: of the first episode.
        max_steps: agent steps after which an episode is cut off; by default none but the agent's.
        greedy: as in `evaluate`.

    Raises:
        ValueError: if the kind is unknown, or the level is out of its range.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown kind of noise {kind!r}; expected one of {', '.join(KINDS)}")
    settings, common = _cut(agent.settings, max_steps), {"greedy": greedy}
    if kind.endswith("weights"):
        relative = kind.startswith("relative")
        each = [
            evaluate(
                noisy_weights(agent, level, number, relative=relative),
                *(1, number),
                settings=settings,
                **common,
            )
            for number in range(seed, seed + episodes)
        ]
        arrays = ("seeds", "returns", "lengths", "truncated")
        joined = {name: np.concatenate([getattr(one, name) for one in each]) for name in arrays}
        return replace(each[0], **joined)
    if kind == "sticky":
        settings = replace(settings, repeat_action_probability=level)
    if kind == "observation":
        common["observation_noise"] = level
    if kind == "action":
        common["epsilon"] = level
    return evaluate(agent, episodes, seed, settings=settings, **common)


def noise_rows(
    agent: Agent,
    address: tuple[str, str, int, str],
    kind: str,
    level: float,
    *,
    name: str = "",
    episodes: int = 3,
    max_steps: int | None = None,
) -> list[dict]:
    """Score an agent of the zoo under one kind of noise: a row of the table for each episode.

    Args:
        agent: who plays.
        address: algorithm, game, run and tag of the agent.
        kind: one of `KINDS`, or "none".
        level: of the noise.
        name: of the agent in the table; its own by default.
        episodes: of seeds 0 to episodes - 1.
        max_steps: see `play_with_noise`.
    """
    asked = ("observation", 0.0) if kind == "none" else (kind, level)
    scores = play_with_noise(agent, *asked, episodes=episodes, max_steps=max_steps)
    told = (name or agent.name, *address, agent.facts.get("sha256", "")[:12], kind, float(level))
    return [
        dict(zip(COLUMNS, (*told, int(seed), float(total), int(steps)), strict=True))
        for seed, total, steps in zip(scores.seeds, scores.returns, scores.lengths, strict=True)
    ]


def _cut(settings: EnvironmentSettings, max_steps: int | None) -> EnvironmentSettings:
    """Return settings that cut an episode off after so many agent steps, no-ops included."""
    if max_steps is None:
        return settings
    frames = max_steps * settings.skip_range[0]
    return replace(settings, max_frames=min(settings.max_frames, frames))


@dataclass(frozen=True)
class Robustness:
    """What is left of a score under noise, 0 for random play.

    Attributes:
        of_own: share of the agent's own score without noise, (s - random) / (s(0) - random); NaN
            for an agent that plays no better than random without noise.
        of_best: the same with the score of the best agent in the place of its own.
        interval: 95 % interval of `of_own` over episodes, its denominators taken as known.
    """

    of_own: float
    of_best: float
    interval: tuple[float, float]


def robustness(returns, own: float, best: float, random: float) -> Robustness:
    """Normalise the returns under noise in the paper's two ways.

    Args:
        returns: `[n]`, one per episode.
        own: the agent's mean return without noise.
        best: the best agent's mean return without noise.
        random: mean return of random play.
    """
    gained = np.asarray(returns, np.float64) - random
    own_gain, best_gain = own - random, best - random
    of_own = gained / own_gain if own_gain > 0 else np.full(len(gained), np.nan)
    of_best = float(gained.mean() / best_gain) if best_gain > 0 else float("nan")
    return Robustness(float(of_own.mean()), of_best, mean_interval(of_own))


def matched(scores: Mapping[str, float], random: float, margin: float = 0.25) -> list[str]:
    """Choose the agents whose scores are most nearly the same: as many as lie within a margin.

    A better player has more to lose; noise is compared fairly among players of equal strength.

    Args:
        scores: agent -> mean return without noise.
        random: mean return of random play; agents that are no better are left out.
        margin: the weakest chosen agent gains at least 1 - margin of what the strongest gains.

    Returns:
        The largest such group, the strongest of equally large ones, by descending score; empty if
        no two agents are that close.
    """
    better = {name: score - random for name, score in scores.items() if score > random}
    order = sorted(better, key=better.get, reverse=True)
    groups = [
        [name for name in order[place:] if better[name] >= (1 - margin) * better[first]]
        for place, first in enumerate(order)
    ]
    largest = max(groups, key=len, default=[])
    return largest if len(largest) > 1 else []
