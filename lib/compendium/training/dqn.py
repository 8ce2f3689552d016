"""DQN (Mnih et al. 2015), double (van Hasselt et al. 2016) and n-step; QR-DQN with `quantiles`.

QR-DQN (Dabney et al. 2018) learns quantiles of the return; a Q-value is their mean. DQN is the case
of one quantile and another loss.
"""

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from atarilens.games.emulators import EnvironmentSettings
from compendium.training.emulators import Emulators
from compendium.training.learner import GradientLearner, hidden_layer, initial_network
from compendium.training.runs import Callback, drive
from compendium.training.settings import check_numbers, check_seed


@dataclass(frozen=True)
class DQNSettings:
    """Hyperparameters, with units.

    Attributes:
        total_steps: agent steps of the whole run; the learning rate falls linearly to 0 over it.
        num_envs: emulators side by side.
        rollout_steps: agent steps of each emulator between updates.
        batch: transitions of an update.
        learning_rate: of Adam, at the start.
        gamma: discount per agent step.
        n_steps: rewards that are summed before the target network's value.
        quantiles: of the return, that QR-DQN learns; 0 for DQN.
        target_every: updates between copies into the target network.
        memory_steps: transitions that are kept to learn from.
        first_steps: transitions in memory before the first update. A run that goes on fills its
            memory anew, by its own play: no state holds it.
        exploration_steps: agent steps over which epsilon falls linearly from 1.
        epsilon: share of random actions from then on.
        max_grad_norm: gradients are scaled down to this norm.
        life_loss: a lost life ends the return.
        clip_rewards: learn from the sign of the reward.
        hidden_units: of the Nature network's dense layer.
        returns_kept: complete episodes that the mean return is taken over.
    """

    total_steps: int = 400_000
    num_envs: int = 16
    rollout_steps: int = 4
    batch: int = 128
    learning_rate: float = 5e-4
    gamma: float = 0.99
    n_steps: int = 3
    quantiles: int = 0
    target_every: int = 250
    memory_steps: int = 100_000
    first_steps: int = 5_000
    exploration_steps: int = 30_000
    epsilon: float = 0.02
    max_grad_norm: float = 10.0
    life_loss: bool = True
    clip_rewards: bool = True
    hidden_units: int = 128
    returns_kept: int = 32

    def __post_init__(self):
        """Check the numbers."""
        check_numbers(self, gamma=(0, 1), epsilon=(0, 1), quantiles=(0, 1000))
        least = self.num_envs * (self.n_steps + 5)
        if not least <= self.first_steps <= self.memory_steps:
            raise ValueError(
                f"first_steps ({self.first_steps}) must lie between {least} (n_steps + 5 for each "
                f"emulator) and memory_steps ({self.memory_steps})"
            )


class DQN(GradientLearner):
    """DQN as a learner: play with epsilon-greedy actions, remember, learn from what is recalled."""

    def __init__(self, network, environment: EnvironmentSettings, settings: DQNSettings, seed: int):
        super().__init__(network, settings, seed)
        self.environment = environment
        self.target = copy.deepcopy(network)
        self.updates = 0

    def start(self, step: int) -> None:
        """Start emulators anew, with an empty memory."""
        settings = self.settings
        count, reads = settings.num_envs, "area84-stack4"
        self.emulators = Emulators(
            self.environment, count, (self.seed, step), reads, settings.returns_kept
        )
        self.rng = np.random.default_rng((self.seed, step))
        self.memory = Memory(settings.memory_steps // count, count)

    def update(self, step: int) -> dict:
        """Play `rollout_steps` in each emulator, then learn from one batch."""
        settings, emulators = self.settings, self.emulators
        rate = self.decay(step)
        explored = min(step / settings.exploration_steps, 1)
        epsilon = 1 + (settings.epsilon - 1) * explored
        for _ in range(settings.rollout_steps):
            screens, starts = emulators.stacks[:, -1], emulators.starts
            with torch.no_grad():
                q_values = returns(self.network, emulators.observations()).mean(1)
            actions = q_values.argmax(1).numpy()
            random = self.rng.random(len(actions)) < epsilon
            drawn = self.rng.integers(self.network.num_actions, size=len(actions))
            actions = np.where(random, drawn, actions)
            rewards, over, lost = emulators.step(actions)
            rewards = np.sign(rewards) if settings.clip_rewards else rewards
            self.memory.add(screens, starts, actions, rewards, lost if settings.life_loss else over)
        learned = {"loss": None, "mean_q": None}
        if self.memory.steps * settings.num_envs >= settings.first_steps:
            batch = self.memory.sample(self.rng, settings.batch, settings.n_steps, settings.gamma)
            learned = _learn(self.network, self.target, self.optimizer, batch, settings)
            self.updates += 1
            if self.updates % settings.target_every == 0:
                self.target.load_state_dict(self.network.state_dict())
        return {"learning_rate": rate} | emulators.metrics | learned | {"epsilon": epsilon}

    def state_dict(self) -> dict:
        """Return both networks, the optimiser and the number of updates."""
        more = {"target": self.target.state_dict(), "updates": self.updates}
        return super().state_dict() | more

    def load_state_dict(self, state: dict) -> None:
        """Go on from what `state_dict` returned."""
        super().load_state_dict(state)
        self.target.load_state_dict(state["target"])
        self.updates = state["updates"]


class Memory:
    """The last transitions of B emulators, one 84x84 screen each; stacks are put together again.

    Attributes:
        steps: agent steps of each emulator that it holds now.
    """

    def __init__(self, capacity: int, count: int):
        self.screens = np.zeros((capacity, count, 84, 84), np.uint8)
        self.starts, self.ends = np.zeros((2, capacity, count), bool)
        self.actions = np.zeros((capacity, count), np.int64)
        self.rewards = np.zeros((capacity, count), np.float32)
        self.capacity, self.steps, self.next = capacity, 0, 0

    def add(self, screens, starts, actions, rewards, ends) -> None:
        """Remember a step of every emulator: what was shown, and what came of the action.

        Args:
            screens: `[B, 84, 84]` uint8, the newest of each stack.
            starts: `[B]` bool, True where that screen is an episode's first.
            actions: `[B]`.
            rewards: `[B]`.
            ends: `[B]` bool, True where the return ends with that reward.
        """
        for kept, entry in (
            (self.screens, screens),
            (self.starts, starts),
            (self.actions, actions),
            (self.rewards, rewards),
            (self.ends, ends),
        ):
            kept[self.next] = entry
        self.next = (self.next + 1) % self.capacity
        self.steps = min(self.steps + 1, self.capacity)

    def sample(self, rng: np.random.Generator, batch: int, n_steps: int, gamma: float) -> dict:
        """Draw transitions of n steps, evenly.

        Returns:
            Tensors: "observations" and "following" `[batch, 4, 84, 84]` uint8, "actions", "rewards"
            (the discounted sum), and "discounts" of the value that follows: 0 after an end.
        """
        oldest = self.next - self.steps  # steps are counted so that the newest is `next - 1`
        t = rng.integers(oldest + 3, self.next - n_steps, size=batch)
        b = rng.integers(self.screens.shape[1], size=batch)
        rewards, discounts = np.zeros(batch, np.float32), np.ones(batch, np.float32)
        for i in range(n_steps):
            rewards += discounts * self.rewards[(t + i) % self.capacity, b]
            discounts *= gamma * ~self.ends[(t + i) % self.capacity, b]
        arrays = {
            "observations": self.stack(t, b),
            "following": self.stack(t + n_steps, b),
            "actions": self.actions[t % self.capacity, b],
            "rewards": rewards,
            "discounts": discounts.astype(np.float32),
        }
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def stack(self, t: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Return the stacks `[n, 4, 84, 84]` of steps `[n]`; an episode's first screen repeats."""
        places = [t]
        for _ in range(3):
            first = self.starts[places[0] % self.capacity, b]
            places.insert(0, places[0] - ~first)
        return self.screens[np.stack(places, 1) % self.capacity, b[:, None]]


def returns(network, observations: torch.Tensor) -> torch.Tensor:
    """Return the quantiles `[B, N, A]` of each action's return; a plain Q-network has N = 1."""
    hidden = hidden_layer(network, observations)
    return network.actor_linear(hidden).unflatten(1, (-1, network.num_actions))


def _learn(network, target, optimizer, batch, settings: DQNSettings) -> dict:
    """Improve the network on one batch; return what happened."""
    rows = torch.arange(len(batch["actions"]))
    with torch.no_grad():
        best = returns(network, batch["following"]).mean(1).argmax(1)  # double: chosen by one,
        following = returns(target, batch["following"])[rows, :, best]  # valued by the other
        wanted = batch["rewards"][:, None] + batch["discounts"][:, None] * following
    told = returns(network, batch["observations"])[rows, :, batch["actions"]]
    loss = quantile_loss(told, wanted) if settings.quantiles else F.smooth_l1_loss(told, wanted)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), settings.max_grad_norm)
    optimizer.step()
    return {"loss": loss.item(), "mean_q": told.mean().item()}


def quantile_loss(told: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Return the quantile Huber loss, Dabney et al. (2018), eq. 10 with kappa 1.

    Args:
        told: `[B, N]` the quantiles that the network tells, in ascending order of their level.
        wanted: `[B, M]` samples of the return.
    """
    count = told.shape[1]
    levels = (torch.arange(count, device=told.device) + 0.5) / count
    told, wanted = torch.broadcast_tensors(told[:, :, None], wanted[:, None, :])
    huber = F.smooth_l1_loss(told, wanted, reduction="none")
    weight = (levels[:, None] - (wanted < told).float()).abs().detach()
    return (weight * huber).mean(2).sum(1).mean()


def train(
    game: str,
    run_dir: str | Path,
    settings: DQNSettings | None = None,
    *,
    seed: int = 0,
    environment: EnvironmentSettings | None = None,
    checkpoint_every: int = 0,
    max_seconds: float = float("inf"),
    callbacks: Iterable[Callback] = (),
    progress: bool = True,
) -> Path:
    """Train a Q-network, or go on with the folder's run; arguments as those of `ppo.train`."""
    settings = settings or DQNSettings()
    environment = environment or EnvironmentSettings(game)
    check_seed(seed)
    arguments = {"hidden_units": settings.hidden_units}
    if settings.quantiles:
        arguments["quantiles"] = settings.quantiles
    architecture = "nature-qr" if settings.quantiles else "nature-q"
    network = initial_network(architecture, environment, seed, **arguments)
    return drive(
        run_dir,
        {"game": game, "seed": seed, "environment": environment, "dqn": settings, "lineage": None},
        DQN(network.to(memory_format=torch.channels_last), environment, settings, seed),
        checkpoint_every=checkpoint_every,
        max_seconds=max_seconds,
        callbacks=callbacks,
        progress=progress,
    )
