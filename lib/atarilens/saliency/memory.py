"""Saliency of the memory: how far the decision moves if the memory is perturbed."""

from dataclasses import dataclass

import numpy as np
import torch

from atarilens.saliency.calling import as_batch, call_network, device_of, has_parts, untouched

BATCH = 32  # decisions per forward pass; more of them spill the caches
PARTS = {1: ("h",), 2: ("h", "c", "both")}


@dataclass(frozen=True)
class MemorySaliency:
    """Scores by part of the memory: "h", and for an LSTM also "c" and "both" together.

    Attributes:
        logits: 1/2 ||change of the action logits||^2, float32, `[T]` or a scalar array.
        probabilities: 1/2 ||change of the action probabilities||^2, likewise, at most 1.
        value: 1/2 (change of the value)^2, likewise; None if the network has no value.
        variation: total variation of the policy in percentage points, likewise: how much
            probability moves from some actions to others.
    """

    logits: dict[str, np.ndarray]
    probabilities: dict[str, np.ndarray]
    value: dict[str, np.ndarray] | None
    variation: dict[str, np.ndarray]


def memory_saliency(
    network,
    observation,
    memory,
    *,
    scale: float = 0.99,
    direction: str = "scale",
    generator: np.random.Generator | None = None,
) -> MemorySaliency:
    """Score how far the agent's decision moves when the memory that enters the step is perturbed.

    Deviation: the published code has a function that scales c alone (`blur_memory`) and never
    calls it. This one scores h, c and both, because published checkpoints with a GRU have no c. It
    also scores the probabilities, because a change common to all logits changes no probability.

    Args:
        network: see `perturbation_saliency`; its memory is `[1, M]` (GRU) or `[2, M]` (LSTM: h, c).
        observation: `[C, H, W]` or `[T, C, H, W]`, in [0, 1]; values outside cause a warning.
        memory: `[k, M]` or `[T, k, M]`, entering the step.
        scale: factor on the perturbed part.
        direction: "scale" multiplies; "random", the control, adds a vector of random direction
            and of the same Euclidean norm as multiplying would.
        generator: draws the directions; needed for "random", with one stream for all decisions.

    Returns:
        Scores `[T]`, or scalars, by part.

    Raises:
        ValueError: if a shape or a parameter is not as described.

    Reference:
        Greydanus et al. (2018), ICML, section 4.7 (memory); arXiv:1711.00138.
    """
    if direction not in ("scale", "random"):
        raise ValueError(f"direction is {direction!r}, expected 'scale' or 'random'")
    if direction == "random" and generator is None:
        raise ValueError("direction 'random' needs a generator, received None")
    if not np.isfinite(scale):
        raise ValueError(f"scale is {scale}, expected a finite number")
    observation, memory, single = as_batch(network, observation, memory)
    kinds = memory.shape[1]
    if kinds not in PARTS:
        raise ValueError(f"memory has {kinds} states per decision, expected 1 (h) or 2 (h, c)")

    states = [memory]
    for part in PARTS[kinds]:
        chosen = slice(None) if part == "both" else slice(*{"h": (0, 1), "c": (1, 2)}[part])
        change = (scale - 1) * memory[:, chosen]
        if direction == "random":
            noise = torch.from_numpy(generator.standard_normal(change.shape)).float()
            norms = [v.flatten(1).norm(dim=1)[:, None, None] for v in (change, noise)]
            change = noise * norms[0] / norms[1]
        perturbed = memory.clone()
        perturbed[:, chosen] += change
        states.append(perturbed)
    with untouched(network), torch.no_grad():
        base, *outputs = _outputs(network, observation, states)
    scores: dict[str, list] = {
        part: [
            *(
                None if new is None else 0.5 * (new - old).square().sum(1)
                for new, old in zip(output, base, strict=True)
            ),
            50 * (output[1] - base[1]).abs().sum(1),
        ]
        for part, output in zip(PARTS[kinds], outputs, strict=True)
    }
    logits, probabilities, value, variation = (
        {
            part: (score[head][0] if single else score[head]).numpy()
            for part, score in scores.items()
            if score[head] is not None
        }
        for head in range(4)
    )
    return MemorySaliency(logits, probabilities, value or None, variation)


def _outputs(network, observation, states) -> list[tuple]:
    """Return logits `[T, A]`, probabilities `[T, A]`, value `[T, 1]` or None for each memory.

    A network with `encode`, `recur` and `heads` encodes each observation once for all memories.
    """
    device = device_of(network)
    split = has_parts(network)
    found = [([], []) for _ in states]
    for start in range(0, len(observation), BATCH):
        steps = slice(start, start + BATCH)
        shown = observation[steps].to(device)
        encoding = network.encode(shown) if split else None
        for (logits, values), memory in zip(found, states, strict=True):
            entering = memory[steps].to(device)
            if split:
                action_logits, value = network.heads(network.recur(encoding, entering)[:, 0])
            else:
                action_logits, value, _ = call_network(network, shown, entering)
            logits.append(action_logits.cpu())
            values.append(None if value is None else value.reshape(-1, 1).cpu())
    joined = [(torch.cat(logits), None if v[0] is None else torch.cat(v)) for logits, v in found]
    return [(logits, logits.softmax(1), value) for logits, value in joined]
