"""What an agent makes of screens: it looks, reads, remembers and thinks, whoever is playing."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from atarilens.agents import Agent
from atarilens.play.trajectories import Trajectory
from atarilens.saliency.calling import has_parts

ENCODED = 32  # observations that go through the convolutions at once: they stay in the cache


class Watcher:
    """One agent in front of one stream of screens: what it stacks, reads and remembers.

    Attributes:
        observation: `[C, H, W]` float32, of the last screen shown.
        memory: `[k, M]` float32; after `look` the one that enters the step, after `think` the next.
    """

    def __init__(self, agent: Agent):
        self.agent = agent

    def look(self, screen: np.ndarray, start: bool) -> None:
        """Show `[210, 160, 3]` uint8; at the start of an episode everything before is forgotten."""
        count = self.agent.preprocessing.screens
        if start:
            self.memory = self.agent.initial_memory()
            self.recent = [screen] * count
        else:
            self.recent = [*self.recent[1:], screen]
        self.observation = self.agent.preprocess(screen if count == 1 else np.stack(self.recent))


def think(watchers: Sequence[Watcher]) -> tuple[np.ndarray, np.ndarray | None]:
    """Run the network once for all watchers of one agent, and move their memories on.

    Returns:
        action_logits `[B, A]` float32, and values `[B]` float32 or None.
    """
    observation = torch.from_numpy(np.stack([watcher.observation for watcher in watchers]))
    memory = torch.from_numpy(np.stack([watcher.memory for watcher in watchers]))
    with torch.inference_mode():
        action_logits, value, memory = watchers[0].agent.network(observation, memory)
    for watcher, after in zip(watchers, memory.numpy(), strict=True):
        watcher.memory = after
    return action_logits.numpy(), None if value is None else value.numpy()


def watch(trajectory: Trajectory, agent: Agent) -> Trajectory:
    """Show the screens of a trajectory to an agent, which keeps a memory of its own.

    Equal to `trajectories.replay(..., agent)`, bit for bit, without playing again. The screens are
    shared, not copied, and so are the observations where this agent makes the same of them.

    Args:
        trajectory: from the first screen of an episode on.
        agent: whose network watches; it decides nothing, actions stay the player's.

    Raises:
        ValueError: if the agent plays another game.
    """
    if agent.game != trajectory.settings.game:
        raise ValueError(
            f"agent {agent.name!r} plays {agent.game}, the trajectory {trajectory.settings.game}"
        )
    arrays = thoughts(agent, trajectory.frames, trajectory.episode, trajectory.observations)
    origin = trajectory.origin
    if agent.name != origin["agent"]:
        origin = origin | {"watched_by": agent.name}
    return replace(trajectory, **arrays, origin=origin)


def thoughts(
    agent: Agent, frames: np.ndarray, episode: np.ndarray, others: np.ndarray | None = None
) -> dict:
    """Show whole episodes to an agent, side by side: the arrays of what it reads and thinks.

    Equal, up to rounding, to `Watcher` and `think` step by step: what has no memory is computed for
    many steps at once.

    Args:
        agent: who watches.
        frames: `[T, 210, 160, 3]` uint8.
        episode: `[T]` int.
        others: observations `[T, C, H, W]` of another agent, used as they are if they are equal.

    Returns:
        The `observations`, `memory`, `action_logits` and `values` of a Trajectory.
    """
    lanes = sorted((np.flatnonzero(episode == e) for e in np.unique(episode)), key=len)[::-1]
    observations = _look(agent, frames, lanes, others)
    network, shown = agent.network, torch.from_numpy(observations)
    split = has_parts(network)  # what has no memory is computed for many steps at once
    seen = {"memory": np.empty((len(frames), *network.memory_shape), np.float32)}
    memory = torch.zeros(len(lanes), *network.memory_shape)
    with torch.inference_mode():
        if split:
            encodings = torch.cat([network.encode(part) for part in shown.split(ENCODED)])
            hidden = torch.empty(len(frames), network.memory_shape[1])
        for k in range(len(lanes[0])):
            at = [int(steps[k]) for steps in lanes if k < len(steps)]  # the longest come first
            memory = memory[: len(at)]
            seen["memory"][at] = memory
            if split:
                memory = network.recur(encodings[at], memory)
                hidden[at] = memory[:, 0]
                continue
            action_logits, values, memory = network(shown[at], memory)
            _keep(seen, at, action_logits=action_logits, values=values)
        if split:
            action_logits, values = network.heads(hidden)
            seen |= {"action_logits": action_logits.numpy(), "values": values.numpy()}
    return {"values": None, "observations": observations} | seen


def _look(agent: Agent, frames, lanes, others) -> np.ndarray:
    """Return the observations `[T, C, H, W]` of an agent: `others` if they are the same."""
    observations, watcher = others, Watcher(agent)
    for steps in lanes:
        for t in steps:
            watcher.look(frames[t], start=t == steps[0])
            if observations is not None and np.array_equal(observations[t], watcher.observation):
                continue
            if observations is others:  # until now they were the same
                observations = np.empty((len(frames), *watcher.observation.shape), np.float32)
                if others is not None and others.shape == observations.shape:
                    observations[:] = others
            observations[t] = watcher.observation
    return observations


def _keep(seen: dict, at: list[int], **thought: torch.Tensor | None) -> None:
    """Put `[B, ...]` into `[T, ...]`, made when they are first needed; None stays away."""
    for name, found in thought.items():
        if found is not None:
            if name not in seen:
                seen[name] = np.empty((len(seen["memory"]), *found.shape[1:]), np.float32)
            seen[name][at] = found
