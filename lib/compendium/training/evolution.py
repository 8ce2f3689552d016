"""Evolution of a network's weights, without a gradient: a genetic algorithm, or strategies.

GA (Such et al. 2017): the best of a population are parents; children are parents plus noise. ES
(Salimans et al. 2017): one network moves towards its noisy copies, in proportion to their rank. In
both, noise is measured in units of each layer's own spread, and every member plays one stretch of
a game per generation, all side by side, each with its own weights.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from atarilens.games.emulators import EnvironmentSettings
from compendium.training.emulators import Emulators
from compendium.training.learner import initial_network
from compendium.training.runs import Callback, drive
from compendium.training.settings import check_numbers, check_seed

STRIDES = {"conv1": 4, "conv2": 2, "conv3": 1}


@dataclass(frozen=True)
class EvolutionSettings:
    """Hyperparameters, with units.

    Attributes:
        total_steps: agent steps of the whole run, of all members together.
        method: "ga" or "es".
        population: members of a generation; each plays once.
        episode_steps: agent steps of a member's stretch of play; its fitness is the sum of the
            rewards in it, up to the end of the game.
        sigma: of the noise, in units of the layer's own standard deviation.
        parents: GA: the best so many of a generation have children.
        elite: GA: the best so many go on unchanged, and play again.
        learning_rate: ES: of the step along the estimated gradient.
        hidden_units: of the Nature network's dense layer.
    """

    total_steps: int = 500_000
    method: str = "ga"
    population: int = 32
    episode_steps: int = 500
    sigma: float = 0.05
    parents: int = 8
    elite: int = 2
    learning_rate: float = 0.05
    hidden_units: int = 128

    def __post_init__(self):
        """Check the numbers."""
        check_numbers(self, parents=(1, self.population), elite=(0, self.parents))
        if self.method not in ("ga", "es"):
            raise ValueError(f"method must be ga or es, received {self.method!r}")
        if self.method == "es" and self.population % 2:
            raise ValueError(f"population must be even for es, received {self.population}")


class Evolution:
    """A population as a learner (see `learner.Learner`); `fitness` can be another than a game's.

    Attributes:
        network: the elite of the last generation (GA), or the mean of the population (ES).
        parents: `[parents, P]` float32, best first (GA), or the mean alone, `[1, P]` (ES).
    """

    def __init__(self, network, settings: EvolutionSettings, seed: int, fitness):
        self.network, self.settings, self.seed, self.fitness = network, settings, seed, fitness
        self.total_steps = settings.total_steps
        self.steps_per_update = settings.population * settings.episode_steps
        self.scale = layer_spread(network)
        self.parents = parameters_to_vector(network.parameters()).detach()[None]
        self.generator = torch.Generator().manual_seed(seed)

    def start(self, step: int) -> None:
        """Count games from here on; each generation begins its own."""
        self.played = 0

    @torch.no_grad()
    def update(self, step: int) -> dict:
        """Let one generation play, and make the parents of the next."""
        evolve = self._genetic if self.settings.method == "ga" else self._strategies
        fitness, episodes = evolve(step)
        vector_to_parameters(self.parents[0], self.network.parameters())
        self.played += episodes
        return {
            "episodes": self.played,
            "mean_return": None,  # a stretch is no whole game
            "best_fitness": float(fitness.max()),
            "mean_fitness": float(fitness.mean()),
            "spread": float(fitness.std()),
        }

    def _noise(self, count: int) -> Tensor:
        drawn = torch.randn(count, len(self.scale), generator=self.generator)
        return self.settings.sigma * self.scale * drawn

    def _genetic(self, step: int) -> tuple[np.ndarray, int]:
        settings = self.settings
        elite = self.parents[: settings.elite]
        count = settings.population - len(elite)
        chosen = torch.randint(len(self.parents), (count,), generator=self.generator)
        members = torch.cat((elite, self.parents[chosen] + self._noise(count)))
        fitness, episodes = self.fitness(members, (self.seed, step))
        order = np.argsort(-fitness, kind="stable")[: settings.parents]  # of equals, the elite
        self.parents = members[torch.from_numpy(order)]
        return fitness, episodes

    def _strategies(self, step: int) -> tuple[np.ndarray, int]:
        settings = self.settings
        half = self._noise(settings.population // 2)
        noise = torch.cat((half, -half))  # antithetic: what both halves share cancels
        fitness, episodes = self.fitness(self.parents + noise, (self.seed, step))
        weights = torch.from_numpy(centred_ranks(fitness)).float()
        ascent = (weights @ noise) / (settings.population * settings.sigma**2)
        self.parents = self.parents + settings.learning_rate * ascent
        return fitness, episodes

    def state_dict(self) -> dict:
        """Return the parents and the generator."""
        return {"parents": self.parents, "generator": self.generator.get_state()}

    def load_state_dict(self, state: dict) -> None:
        """Go on from what `state_dict` returned."""
        if state["parents"].shape[1:] != self.parents.shape[1:]:
            raise ValueError("the parents are of another network")
        self.parents = state["parents"]
        self.generator.set_state(state["generator"])
        vector_to_parameters(self.parents[0], self.network.parameters())


def centred_ranks(fitness: np.ndarray) -> np.ndarray:
    """Return ranks from -0.5 to 0.5, equal for equal fitness: Salimans et al. (2017), section 2."""
    _, place, count = np.unique(fitness, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(count) - (count + 1) / 2)[place]
    return ranks / (len(fitness) - 1) - 0.5


@torch.no_grad()
def layer_spread(network) -> Tensor:
    """Return for each parameter the standard deviation of its layer's weights, `[P]`.

    A layer of zeros counts as one of variance 1 / fan-in. Biases have the spread of their weights.
    """
    spreads, spread = [], None
    for parameter in network.parameters():  # a layer's weight, then its bias
        if parameter.ndim > 1:
            spread = float(parameter.std()) or parameter[0].numel() ** -0.5
        spreads.append(torch.full((parameter.numel(),), spread))
    return torch.cat(spreads)


class Games:
    """The fitness of a population in a game: all members play side by side, greedily.

    Args:
        network: whose form all members have.
        environment: of the game.
        settings: population and length of the stretch.
    """

    def __init__(self, network, environment: EnvironmentSettings, settings: EvolutionSettings):
        self.shapes = {name: p.shape for name, p in network.named_parameters()}
        self.environment, self.settings, self.emulators = environment, settings, None

    def __call__(self, members: Tensor, seed: tuple[int, ...]) -> tuple[np.ndarray, int]:
        """Return the fitness `[n]` of members `[n, P]`, and how many games came to their end."""
        if self.emulators is None:
            self.emulators = Emulators(self.environment, len(members), seed, "area84-stack4")
        else:
            self.emulators.reset(seed)
        weights, playing = unpack(members, self.shapes), np.ones(len(members), bool)
        fitness = np.zeros(len(members))
        for _ in range(self.settings.episode_steps):
            action_logits = run_population(weights, self.emulators.observations())
            rewards, over, _ = self.emulators.step(action_logits.argmax(1).numpy())
            fitness += rewards * playing
            playing &= ~over
        return fitness, int((~playing).sum())


def unpack(members: Tensor, shapes: dict) -> dict[str, Tensor]:
    """Cut members `[n, P]` into the parameters of n networks, `[n, ...]` bfloat16 by name."""
    parts = members.bfloat16().split([shape.numel() for shape in shapes.values()], dim=1)
    return {name: p.unflatten(1, shapes[name]) for name, p in zip(shapes, parts, strict=True)}


def run_population(weights: dict[str, Tensor], observations: Tensor) -> Tensor:
    """Run n Nature networks, each on its own observation; equals n single ones up to bfloat16.

    Args:
        weights: see `unpack`.
        observations: `[n, 4, 84, 84]` uint8.

    Returns:
        Action logits `[n, A]` float32.
    """
    count = len(observations)
    x = (observations.bfloat16() / 255).flatten(0, 1)[None]  # channels of all, one group for each
    for name, stride in STRIDES.items():
        weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
        x = F.conv2d(x, weight.flatten(0, 1), bias.flatten(), stride, groups=count).relu_()
    x = x.reshape(count, -1, 1)
    for name in ("linear", "actor_linear"):
        x = torch.baddbmm(weights[f"{name}.bias"][..., None], weights[f"{name}.weight"], x)
        x = x.relu_() if name == "linear" else x
    return x[..., 0].float()


def train(
    game: str,
    run_dir: str | Path,
    settings: EvolutionSettings | None = None,
    *,
    seed: int = 0,
    environment: EnvironmentSettings | None = None,
    checkpoint_every: int = 0,
    max_seconds: float = float("inf"),
    callbacks: Iterable[Callback] = (),
    progress: bool = True,
) -> Path:
    """Evolve a network, or go on with the folder's run; arguments as those of `ppo.train`."""
    settings = settings or EvolutionSettings()
    environment = environment or EnvironmentSettings(game)
    check_seed(seed)
    network = initial_network("nature-q", environment, seed, hidden_units=settings.hidden_units)
    if settings.method == "es":
        torch.nn.init.zeros_(network.actor_linear.weight)  # else one action is always the best
    facts = {"game": game, "seed": seed, "environment": environment, "evolution": settings}
    return drive(
        run_dir,
        facts | {"lineage": None},
        Evolution(network, settings, seed, Games(network, environment, settings)),
        checkpoint_every=checkpoint_every,
        max_seconds=max_seconds,
        callbacks=callbacks,
        progress=progress,
    )
