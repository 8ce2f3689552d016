"""A learner: what a run's folder keeps and moves on, by a gradient or by any other means."""

from typing import Protocol

import torch
from torch import nn


class Learner(Protocol):
    """A state that one update after another moves on; `runs.drive` asks for nothing more.

    Attributes:
        network: plays; its weights are the checkpoints.
        total_steps: agent steps of the whole run.
        steps_per_update: agent steps of one update.
    """

    network: nn.Module
    total_steps: int
    steps_per_update: int

    def start(self, step: int) -> None:
        """Make what no state holds, such as emulators; called once, with the state of `step`."""

    def update(self, step: int) -> dict:
        """Play and learn from agent step `step` on; return metrics.

        Among them are "episodes", those that ended since `start`, and "mean_return", or None.
        """

    def state_dict(self) -> dict:
        """Return all that is needed to go on, in tensors, numbers, lists and dictionaries."""

    def load_state_dict(self, state: dict) -> None:
        """Go on from what `state_dict` returned."""


class AnotherDeviceError(ValueError):
    """A state is whole, but the run that goes on uses another device."""


class GradientLearner:
    """A network that Adam improves, with a random generator: the state of PPO, DQN, imitation.

    Attributes:
        network: on its device, as the run starts from it.
        optimizer: of all its parameters.
        generator: of all that is drawn at random but by the emulators.
        total_steps, steps_per_update: in agent steps (see `Learner`).
    """

    def __init__(self, network: nn.Module, settings, seed: int, optimizer=None):
        device = next(network.parameters()).device
        self.network, self.settings, self.seed, self.device = network, settings, seed, device
        self.total_steps = settings.total_steps
        self.steps_per_update = settings.num_envs * settings.rollout_steps
        make = optimizer or torch.optim.Adam
        self.optimizer = make(network.parameters(), settings.learning_rate, eps=1e-5)
        self.generator = torch.Generator(device).manual_seed(seed)

    def decay(self, step: int) -> float:
        """Set and return the learning rate at a step; it falls linearly to 0."""
        rate = self.settings.learning_rate * (1 - step / self.total_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        return rate

    def state_dict(self) -> dict:
        """Return network, optimiser and generator."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: dict) -> None:
        """Go on from what `state_dict` returned on a device of the same kind."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        if state["generator"].shape != self.generator.get_state().shape:
            raise AnotherDeviceError(f"is of another device, asked for {self.device.type}")
        self.generator.set_state(state["generator"])
