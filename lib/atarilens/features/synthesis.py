"""Synthesise states that an agent wants, fears or finds critical: search in a latent space.

Source: Rupprecht, Ibrahim and Pal (2020), "Finding and Visualizing Weaknesses of Deep
Reinforcement Learning Agents", sections "Method" and "Target functions", equations 4 to 7.

Every target is a loss: the search makes it small. Deviation: the signs follow what the targets
are called. The paper's T+ and T+-, minimised as printed, do the opposite: T+ drives the worst
action's value down, and T+- makes all actions alike.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import softmax
from torch import Tensor

from atarilens.agents import Agent
from atarilens.features.states import StateModel, observations_of, pictures_of, read

LEARNING_RATE = 0.05  # of Adam
PRIOR_WEIGHT = 1e-2  # alpha of equation 4: weight of the distance to the prior
TARGETS = ("best", "worst", "critical", "action:<NAME>", "sum-high", "sum-low")

Target = Callable[[Tensor, Tensor | None], Tensor]


@dataclass(frozen=True)
class SynthesizedStates:
    """n states, one chosen among the restarts of each.

    Attributes:
        states: `[n, 3 k, H, W]` float32 in [0, 1], k stacked screens in colour.
        screens: `[n, H, W, 3]` uint8, the newest of the stacked screens.
        observations: `[n, C, H, W]` float32 in [0, 1], what the agent read.
        action_logits: `[n, A]` float32 (Q-values of a Q-network).
        value: `[n]` float32, or None if the network has none.
        latent: `[n, 100]` float32, the mean of the latent that was searched for.
        loss: `[n, restarts, steps + 1]` float32, target and prior together, before each step and
            at the end.
        chosen: `[n]` int, the restart with the smallest target loss.
        memory: `[n, k, M]` float32, that entered the step.
    """

    states: np.ndarray
    screens: np.ndarray
    observations: np.ndarray
    action_logits: np.ndarray
    value: np.ndarray | None
    latent: np.ndarray
    loss: np.ndarray
    chosen: np.ndarray
    memory: np.ndarray


def soft_maximum(q: Tensor, beta: Tensor | float) -> Tensor:
    """Return sum_i q_i exp(beta q_i) / sum_k exp(beta q_k) over the last axis (equation 6)."""
    return (q * torch.softmax(beta * q, -1)).sum(-1)


def soft_minimum(q: Tensor, beta: Tensor | float) -> Tensor:
    """Return the soft maximum of -q, negated."""
    return -soft_maximum(-q, beta)


def sharpness(q: Tensor) -> Tensor:
    """Return beta `[..., 1]` of the soft maximum: one over the spread of the action values."""
    return 1 / q.detach().std(-1, keepdim=True, correction=0).clamp_min(1e-3)


def target_loss(target: str | Target, action_meanings: list[str], has_critic: bool) -> Target:
    """Return the loss `(action_logits [B, A], value [B] or None) -> [B]` of a target.

    | target       | actor and critic      | Q-network                             | paper |
    |--------------|-----------------------|---------------------------------------|-------|
    | best         | the value is high     | even the worst action's value is high | T+    |
    | worst        | the value is low      | even the best action's value is low   | T-    |
    | critical     | one action's logit is high and one is low                     || T+-   |
    | action:LEFT  | this action's logit is high above the others' mean            ||       |
    | sum-high/low | the sum of the logits (Q-values) is high or low               || S+ S- |

    Deviation: the paper's networks have Q-values. A logit means something only beside the other
    logits, so "action" compares it with their mean.

    Args:
        target: a name of this table, or a function like the one that is returned.
        action_meanings: names of the actions.
        has_critic: whether the network has a value that is not the largest Q-value.

    Raises:
        ValueError: for an unknown target or action; names what there is.
    """
    if callable(target):
        return target
    kind, _, name = target.partition(":")
    if kind == "action":
        if name not in action_meanings:
            raise ValueError(
                f"target {target!r}: no action {name!r}, expected {', '.join(action_meanings)}"
            )
        index = action_meanings.index(name)
        return lambda q, value: q.mean(-1) - q[..., index]
    known: dict[str, Target] = {
        "best": lambda q, value: -value if has_critic else -soft_minimum(q, sharpness(q)),
        "worst": lambda q, value: value if has_critic else soft_maximum(q, sharpness(q)),
        "critical": lambda q, value: soft_minimum(q, sharpness(q)) - soft_maximum(q, sharpness(q)),
        "sum-high": lambda q, value: -q.sum(-1),
        "sum-low": lambda q, value: q.sum(-1),
    }
    if target not in known:
        raise ValueError(f"unknown target {target!r}, expected one of {', '.join(TARGETS)}")
    return known[target]


def target_measure(
    target: str, action_meanings: list[str], action_logits: np.ndarray, value: np.ndarray
) -> tuple[np.ndarray, str]:
    """Return how far answers are what a target asks for, in units that a reader knows.

    Args:
        target: a name of `target_loss`.
        action_meanings: names of the actions.
        action_logits: `[n, A]`.
        value: `[n]`.

    Returns:
        `[n]` float and its unit: the value (best, worst), the probability of the action, the
        largest less the smallest logit (critical), or the sum of the logits.
    """
    if target in ("best", "worst"):
        return np.asarray(value), "value"
    if target == "critical":
        return np.ptp(action_logits, axis=1), "spread of logits"
    if target in ("sum-high", "sum-low"):
        return action_logits.sum(1), "sum of logits"
    name = target.partition(":")[2]
    index = action_meanings.index(name)
    return softmax(action_logits, axis=1)[:, index], f"P({name})"


def synthesize(
    agent: Agent,
    model: StateModel,
    target: str | Target,
    *,
    count: int = 16,
    restarts: int = 4,
    seed: int = 0,
    steps: int = 300,
    learning_rate: float = LEARNING_RATE,
    prior_weight: float = PRIOR_WEIGHT,
    start: np.ndarray | None = None,
    spread: float = 1.0,
    memory: np.ndarray | None = None,
    on_step: Callable[[int, Tensor], None] | None = None,
) -> SynthesizedStates:
    """Search for states that an agent, with a memory of its own play, answers as the target asks.

    Gradient descent on mean and log variance of a latent (equation 4), from means drawn from the
    prior; each step draws the latent anew. `steps=0` gives random states, the control.

    Args:
        agent: whose network answers.
        model: of this agent.
        target: see `target_loss`.
        count: n, number of states.
        restarts: searches for each state, of which the one with the smallest target loss is kept:
            with more than one, the states are the best of several and not typical.
        seed: of the starting points, the noise and the choice of memories.
        steps: of the search.
        learning_rate: of Adam.
        prior_weight: alpha, weight of the distance KL(N(mean, variance), N(0, 1)) to the prior.
        start: `[n * restarts, 100]` latents to start from; by default drawn from the prior.
        spread: standard deviation of each latent at the start. The default is the prior's; with a
            small one, the search stays near `start`, for example near the latent of a real state.
        memory: `[n, k, M]` with which the agent reads each state; by default drawn from those that
            came with the model.
        on_step: called as `on_step(step, states)` with the states `[n * restarts, C, H, W]`.

    Returns:
        The states. The reported logits and values are those of the decoded means, without noise.

    Raises:
        ValueError: for a model of another agent, an unknown target, a target that needs a value
            if the agent has none, or numbers out of range.
        FloatingPointError: if the loss is no longer finite.
    """
    model.require(agent)
    if count < 1 or restarts < 1 or steps < 0:
        raise ValueError(
            f"count and restarts must be 1 or more and steps 0 or more, received {count}, "
            f"{restarts} and {steps}"
        )
    if not spread > 0:
        raise ValueError(f"spread is {spread}, expected a standard deviation above 0")
    expected = (count, *model.memories.shape[1:])
    if memory is not None and np.shape(memory) != expected:
        raise ValueError(f"memory has the shape {np.shape(memory)}, expected {expected}")
    generator = torch.Generator().manual_seed(seed)
    network = model.network
    mean = torch.randn(count * restarts, network.mean.out_features, generator=generator)
    if start is not None:
        mean = torch.from_numpy(np.array(start, np.float32)).reshape(mean.shape)
    drawn = torch.randint(len(model.memories), (count,), generator=generator)
    read_with = model.memories[drawn.numpy()] if memory is None else np.float32(memory)
    memory = torch.from_numpy(read_with).repeat_interleave(restarts, 0)
    loss_of = _loss_for(target, agent, network.decode(mean[:1]), memory[:1])
    log_variance = torch.full_like(mean, 2 * math.log(spread), requires_grad=True)
    mean = mean.requires_grad_(True)
    optimizer = torch.optim.Adam([mean, log_variance], learning_rate)
    courses = []
    for step in range(steps):
        noise = torch.randn(mean.shape, generator=generator)
        states = network.decode(mean + torch.exp(0.5 * log_variance) * noise)
        loss = loss_of(*read(agent, states, memory))
        prior = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(1)
        total = loss + prior_weight * prior
        if not torch.isfinite(total).all():
            raise FloatingPointError(f"the loss of target {target!r} is not finite at step {step}")
        courses.append(total.detach())
        optimizer.zero_grad(set_to_none=True)
        total.sum().backward()
        optimizer.step()
        if on_step:
            on_step(step, states.detach())
    with torch.no_grad():
        states = network.decode(mean)
        action_logits, value = read(agent, states, memory)
        final = loss_of(action_logits, value)
        prior = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(1)
        courses.append(final + prior_weight * prior)
        chosen = final.view(count, restarts).argmin(1)
        kept = torch.arange(count) * restarts + chosen
        return SynthesizedStates(
            states=states[kept].numpy(),
            screens=pictures_of(states[kept].numpy()),
            observations=observations_of(agent, states[kept]).numpy(),
            action_logits=action_logits[kept].numpy(),
            value=None if value is None else value[kept].numpy(),
            latent=mean[kept].numpy(),
            loss=torch.stack(courses, -1).view(count, restarts, -1).numpy(),
            chosen=chosen.numpy(),
            memory=memory[kept].numpy(),
        )


def _loss_for(target: str | Target, agent: Agent, state: Tensor, memory: Tensor) -> Target:
    """Return the loss of a target for this agent, whose answer to one state says what it has."""
    with torch.no_grad():
        _, value = read(agent, state, memory)
    q_values = agent.network.q_values
    if value is None and not q_values and target in ("best", "worst"):
        raise ValueError(
            f"target {target!r} needs a value, and agent {agent.name!r} has none; it has the "
            f"targets {', '.join(TARGETS[2:])}"
        )
    return target_loss(target, list(agent.action_meanings), value is not None and not q_values)
