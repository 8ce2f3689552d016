"""A learner: what a run's folder keeps and moves on, by a gradient or by any other means."""

from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from atarilens.agents import Agent, agent_from_module
from atarilens.agents.files import untrained_control
from atarilens.agents.networks import initialise
from atarilens.agents.registry import build_network, describe
from atarilens.games.emulators import EnvironmentSettings, action_meanings
from compendium.training.emulators import Emulators

CALIBRATION = (16, 160)  # emulators, and agent steps of random play in each
CALIBRATION_EVERY = 10  # agent steps between the observations that are kept: 256 in all


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


def network_input(observations: Tensor) -> Tensor:
    """Return observations as a network reads them: stacks `[B, C, H, W]` uint8 become [0, 1]."""
    x = observations.to(memory_format=torch.channels_last)
    return x.float().div_(255) if x.dtype == torch.uint8 else x


def hidden_layer(network: nn.Module, observations: Tensor) -> Tensor:
    """Return the last hidden layer `[B, D]` float32 of a feed-forward network, run in bfloat16.

    Args:
        network: without a memory.
        observations: `[B, C, H, W]` uint8.
    """
    memory = torch.empty(len(observations), 0, 0, device=observations.device)
    x = observations.to(memory_format=torch.channels_last).bfloat16().div_(255)
    with torch.autocast(observations.device.type, torch.bfloat16):
        return network.features(x, memory).float()


def initial_network(
    architecture: str, environment: EnvironmentSettings, seed: int, **arguments
) -> nn.Module:
    """Build the untrained network that all algorithms start from.

    Its parameters are those of `initialise`; then each channel of a convolution and each unit of a
    dense layer is rescaled to mean 0 and variance 1 over 256 observations of random play (a
    data-dependent initialisation, Kraehenbuehl et al. 2016). Without that, a game whose screens
    differ little beside their common background leaves most units dead.

    Args:
        architecture: name of a network in `agents.registry` that reads "area84-stack4".
        environment: of the random play, which has no sticky actions: runs that differ in stickiness
            alone start from the same network.
        seed: of the parameters and of the random play.
        **arguments: of the network, where other than its defaults.
    """
    actions = len(action_meanings(environment.game, environment.full_action_space))
    network = initialise(build_network(architecture, actions, **arguments), seed)
    plain = replace(environment, repeat_action_probability=0.0)
    emulators = Emulators(plain, CALIBRATION[0], (seed, 0), "area84-stack4")
    rng, kept = np.random.default_rng(seed), []
    for step in range(CALIBRATION[1]):
        emulators.step(rng.integers(actions, size=CALIBRATION[0]))
        if step % CALIBRATION_EVERY == CALIBRATION_EVERY - 1:
            kept.append(emulators.observations())
    calibrate(network, network_input(torch.cat(kept)))
    return network


def initial_agent(agent: Agent) -> Agent:
    """Re-create the untrained agent that a run of the zoo started from, from its seed.

    The run of a newcomer is not known: its control is `untrained_control`, the same architecture
    with a seed of ours.
    """
    training, seed = agent.facts.get("training"), agent.facts.get("seed")
    if not training or agent.facts.get("lineage"):
        return untrained_control(agent)
    architecture, arguments = describe(agent.network)
    if training.get("calibrated", "clip" not in training):  # PPO alone can start otherwise
        network = initial_network(architecture, agent.settings, seed, **arguments)
    else:
        network = build_network(architecture, agent.network.num_actions, **arguments)
        network = initialise(network, seed)
    if training.get("method") == "es":
        nn.init.zeros_(network.actor_linear.weight)
    style, name = agent.preprocessing.name, f"initial-{agent.name}"
    return agent_from_module(network, game=agent.game, preprocessing=style, name=name)


@torch.no_grad()
def calibrate(network: nn.Module, observations: Tensor) -> None:
    """Rescale every layer but the heads to mean 0 and variance 1 over observations, in place.

    Args:
        network: without a memory.
        observations: `[B, C, H, W]` float32 in [0, 1].
    """

    def rescale(layer, _, outputs):
        axes = [axis for axis in range(outputs.ndim) if axis != 1]
        spread, mean = torch.std_mean(outputs, axes)
        spread = spread.clamp_min(1e-6)
        layer.weight /= spread.view(-1, *[1] * (layer.weight.ndim - 1))
        layer.bias.sub_(mean).div_(spread)
        shape = [-1 if axis == 1 else 1 for axis in range(outputs.ndim)]
        return (outputs - mean.view(shape)) / spread.view(shape)

    hooks = [
        layer.register_forward_hook(rescale)
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
        and not name.startswith(("actor", "critic"))
        and layer.bias is not None
    ]
    network.features(observations, torch.empty(len(observations), 0, 0))
    for hook in hooks:
        hook.remove()
