"""Run an agent's network over screens, with its own memory."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from atarilens.agents import Agent
from atarilens.agents.preprocessing import Preprocessing
from atarilens.play.trajectories import Trajectory
from atarilens.saliency.calling import has_parts

ENCODED = 32  # observations that go through the convolutions at once: they stay in the cache


class Stream:
    """One agent reading one stream of screens, with the screens it stacks and its own memory.

    Attributes:
        observation: `[C, H, W]` float32, of the last screen read.
        memory: `[k, M]` float32. `read` leaves the memory that enters the step; `run_network`
            replaces it by the memory that leaves the step.
    """

    def __init__(self, agent: Agent):
        self.agent = agent

    def read(self, screen: np.ndarray, start: bool) -> None:
        """Read `[210, 160, 3]` uint8; at an episode's start, forget what came before."""
        if start:
            self.memory = self.agent.initial_memory()
        if self.agent.preprocessing.screens == 1:
            self.observation = self.agent.preprocess(screen)
            return
        picture = self.agent.preprocessing.picture(screen)
        count = self.agent.preprocessing.screens
        self.recent = [picture] * count if start else [*self.recent[1:], picture]
        self.observation = np.stack(self.recent)

    def remember(self, screens: np.ndarray) -> None:
        """Take screens `[n, 210, 160, 3]` uint8 for the last ones read, for one that stacks n."""
        if self.agent.preprocessing.screens > 1:
            self.recent = [self.agent.preprocessing.picture(screen) for screen in screens]


def observations_at(agent: Agent, trajectory: Trajectory, steps: Sequence[int]) -> np.ndarray:
    """Return what an agent's network reads at some steps, `[n, C, H, W]` float32.

    These are the observations of `seen_by` at the same steps, without computing any other. For a
    network without memory they are all that it needs.

    Args:
        agent: whose preprocessing reads the screens.
        trajectory: must begin with the first screen of an episode.
        steps: indices of steps.
    """
    first = np.searchsorted(trajectory.episode, trajectory.episode)  # of each step's episode
    back = np.arange(agent.preprocessing.screens)[::-1]
    read = [np.maximum(step - back, first[step]) for step in steps]
    return np.stack([agent.preprocess(trajectory.frames[index]) for index in read])


def run_network(streams: Sequence[Stream]) -> tuple[np.ndarray, np.ndarray | None]:
    """Run the network once for all streams of one agent, and step their memories.

    Returns:
        action_logits `[B, A]` float32, and values `[B]` float32 or None.
    """
    observation = torch.from_numpy(np.stack([stream.observation for stream in streams]))
    memory = torch.from_numpy(np.stack([stream.memory for stream in streams]))
    with torch.inference_mode():
        action_logits, value, memory = streams[0].agent.network(observation, memory)
    for stream, after in zip(streams, memory.numpy(), strict=True):
        stream.memory = after
    return action_logits.numpy(), None if value is None else value.numpy()


def seen_by(
    trajectory: Trajectory, agent: Agent, *, read_as: Preprocessing | None = None
) -> Trajectory:
    """Return the trajectory as another agent's network sees it, with a memory of its own.

    Screens, actions and rewards stay the player's; observations, memory, logits and values are the
    other agent's. The result equals `replay(..., agent)` bit for bit, without playing again, and
    shares the screens, and the observations too if both agents read the screens alike.

    Args:
        trajectory: must begin with the first screen of an episode.
        agent: whose network runs; it decides nothing.
        read_as: the preprocessing that made the trajectory's observations of its very screens, if
            that is known: an agent that has the same one does not read the screens again.

    Raises:
        ValueError: if the agent plays another game.
    """
    if agent.game != trajectory.settings.game:
        raise ValueError(
            f"agent {agent.name!r} plays {agent.game}, the trajectory {trajectory.settings.game}"
        )
    known, alike = trajectory.observations, agent.preprocessing == read_as
    arrays = read_episodes(agent, trajectory.frames, trajectory.episode, known, alike=alike)
    origin = trajectory.origin
    if agent.name != origin["agent"]:
        origin = origin | {"watched_by": agent.name}
    return replace(trajectory, **arrays, origin=origin)


def read_episodes(
    agent: Agent,
    frames: np.ndarray,
    episode: np.ndarray,
    others: np.ndarray | None = None,
    *,
    alike: bool = False,
) -> dict[str, np.ndarray | None]:
    """Run an agent over whole episodes side by side.

    The result equals that of `Stream` and `run_network` step by step, up to rounding: the layers
    without a memory run over many steps at once.

    Args:
        agent: whose network runs.
        frames: `[T, 210, 160, 3]` uint8.
        episode: `[T]` int.
        others: observations `[T, C, H, W]` of another agent; returned as they are if this agent's
            are equal.
        alike: they are known to be equal.

    Returns:
        The `observations`, `memory`, `action_logits` and `values` of a `Trajectory`.
    """
    lanes = sorted((np.flatnonzero(episode == e) for e in np.unique(episode)), key=len)[::-1]
    observations = others if alike else _observations(agent, frames, lanes, others)
    network, inputs = agent.network, torch.from_numpy(observations)
    split = has_parts(network)  # layers without a memory can run apart
    outputs = {"memory": np.empty((len(frames), *network.memory_shape), np.float32)}
    memory = torch.zeros(len(lanes), *network.memory_shape)
    with torch.inference_mode():
        if split:
            encodings = torch.cat([network.encode(part) for part in inputs.split(ENCODED)])
            hidden = torch.empty(len(frames), network.memory_shape[1])
        for k in range(len(lanes[0])):
            at = [int(steps[k]) for steps in lanes if k < len(steps)]  # the longest come first
            memory = memory[: len(at)]
            outputs["memory"][at] = memory
            if split:
                memory = network.recur(encodings[at], memory)
                hidden[at] = memory[:, 0]
                continue
            action_logits, values, memory = network(inputs[at], memory)
            _write(outputs, at, action_logits=action_logits, values=values)
        if split:
            action_logits, values = network.heads(hidden)
            outputs |= {"action_logits": action_logits.numpy(), "values": values.numpy()}
    return {"values": None, "observations": observations} | outputs


def _observations(agent: Agent, frames, lanes, others) -> np.ndarray:
    """Return the observations `[T, C, H, W]` of an agent: `others` itself if they are equal."""
    observations, stream = others, Stream(agent)
    for steps in lanes:
        for t in steps:
            stream.read(frames[t], start=t == steps[0])
            if observations is not None and np.array_equal(observations[t], stream.observation):
                continue
            if observations is others:  # the first difference: from here on, an array of our own
                observations = np.empty((len(frames), *stream.observation.shape), np.float32)
                if others is not None and others.shape == observations.shape:
                    observations[:] = others
            observations[t] = stream.observation
    return observations


def _write(outputs: dict, at: list[int], **found: torch.Tensor | None) -> None:
    """Write each `[B, ...]` into its `[T, ...]`, allocated at its first use; skip None."""
    for name, values in found.items():
        if values is not None:
            if name not in outputs:
                shape = (len(outputs["memory"]), *values.shape[1:])
                outputs[name] = np.empty(shape, np.float32)
            outputs[name][at] = values
