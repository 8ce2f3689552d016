"""Saliency by differentiating the heads with respect to the observation."""

import numpy as np
import torch

from atarilens.saliency.calling import as_batch, call_network, device_of, untouched
from atarilens.saliency.maps import SaliencyMaps

BATCH = 32  # decisions per backward pass


def jacobian_saliency(network, observation, memory=None, *, absolute: bool = False) -> SaliencyMaps:
    """Score how steeply the heads depend on each pixel of an observation.

    The original notebook weights the gradient of each logit z_k by the logit itself (not by its
    probability), takes the gradient of the value V as it is, and squares both:

        actor(I) = (sum_k z_k dz_k / dI)^2        critic(I) = (dV / dI)^2

    The maps are neither smoothed nor normalised, and their units differ. Parameters, their
    gradients and modes stay as they were.

    Deviation: pass the memory that ENTERS the step; the notebook uses the memory and the logits of
    the step before.

    Args:
        network: see `perturbation_saliency`.
        observation: `[C, H, W]` or `[T, C, H, W]`, in [0, 1]; values outside cause a warning.
        memory: `[k, M]` or `[T, k, M]`; may be None for a network without memory.
        absolute: return the plain gradient instead, |dz_a / dI| of the most probable action a and
            |dV / dI| (Simonyan et al. 2014; Wang et al. 2016).

    Returns:
        Maps `[H, W]` or `[T, H, W]`, float32, >= 0. `actor_channels` holds one map per channel,
        `actor` their sum; grids equal the maps.

    Raises:
        ValueError: if a shape or dtype is not as described.

    Reference:
        Greydanus et al. (2018), ICML, section 3 (saliency) and figure 1;
        arXiv:1711.00138.
    """
    observation, memory, single = as_batch(network, observation, memory)
    parts = [
        _gradients(network, *chunk, absolute)
        for chunk in zip(observation.split(BATCH), memory.split(BATCH), strict=True)
    ]
    actor, critic = (
        None if parts[0][head] is None else np.concatenate([part[head] for part in parts])
        for head in (0, 1)
    )
    summed = [None if channels is None else channels.sum(1) for channels in (actor, critic)]
    maps = SaliencyMaps(*summed, *summed, actor, critic)
    return maps[0] if single else maps


def _gradients(network, observation, memory, absolute):
    """Return the scores `[T, C, H, W]` of actor and critic (None without a value)."""
    device = device_of(network)
    with untouched(network), torch.enable_grad():
        observation = observation.to(device).clone().requires_grad_()
        logits, value, _ = call_network(network, observation, memory.to(device).clone())
        weights = logits.detach()
        if absolute:
            weights = torch.nn.functional.one_hot(weights.argmax(1), logits.shape[1]).to(logits)
        # Decisions do not depend on each other, so one backward pass serves all of them.
        gradients = [_gradient(logits, observation, weights)]
        if value is not None:
            gradients.append(_gradient(value, observation, torch.ones_like(value)))
    scores = [(g.abs() if absolute else g.square()).detach().cpu().numpy() for g in gradients]
    return scores[0], scores[1] if len(scores) == 2 else None


def _gradient(output, observation, weights):
    """Return the gradient of the weighted sum of outputs, zeros if it ignores the observation."""
    if not output.requires_grad:
        return torch.zeros_like(observation)
    (gradient,) = torch.autograd.grad(
        output, observation, weights, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return gradient
