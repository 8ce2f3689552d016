"""Inputs that excite a unit: gradient ascent on an observation, with what keeps it smooth.

Sources: Erhan et al. (2009), "Visualizing higher-layer features of a deep network"; the terms that
keep an input smooth are those that Rupprecht, Ibrahim and Pal (2020) compare with in Figure 4.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from atarilens.agents import Agent
from atarilens.saliency.masks import blur_matrix

LEARNING_RATE = 0.05  # of Adam, in grey levels of [0, 1]


@dataclass(frozen=True)
class Smoothness:
    """What keeps an input smooth while a unit is excited; 0 switches each of them off.

    Attributes:
        total_variation: weight of the mean absolute difference between neighbouring pixels.
        blur_sigma: px, standard deviation of the blur after each step.
        jitter: px, largest shift of the input before each step, drawn anew.
        sobolev: weight of the Laplacian in the gradient's metric (Baust et al. 2018): the larger,
            the smoother each step.
    """

    total_variation: float = 0.0
    blur_sigma: float = 0.0
    jitter: int = 0
    sobolev: float = 0.0


@dataclass(frozen=True)
class ExcitingInputs:
    """Inputs `[n, C, H, W]` float32 in [0, 1] and how strongly each excites its unit `[n]`."""

    observations: np.ndarray
    activation: np.ndarray


def exciting_inputs(
    activation: Callable[[Tensor], Tensor],
    shape: tuple[int, int, int],
    *,
    count: int = 4,
    steps: int = 200,
    seed: int = 0,
    learning_rate: float = LEARNING_RATE,
    smoothness: Smoothness | None = None,
    start: Tensor | None = None,
) -> ExcitingInputs:
    """Search for observations that excite a unit, from noise or from given observations.

    Args:
        activation: `observations [B, C, H, W] -> [B]`, differentiable; what is made large.
        shape: (C, H, W).
        count: n searches, each from its own noise.
        steps: of gradient ascent (Adam).
        seed: of noise and jitter.
        learning_rate: of Adam.
        smoothness: what keeps the inputs smooth; nothing by default.
        start: `[n, C, H, W]` to start from; by default mid-grey with noise.

    Returns:
        The inputs and their activations.

    Raises:
        FloatingPointError: if an activation is not finite.
    """
    smoothness = smoothness or Smoothness()
    generator = torch.Generator().manual_seed(seed)
    if start is None:
        start = 0.5 + 0.1 * torch.randn(count, *shape, generator=generator)
    observations = start.clone().clamp(0, 1).requires_grad_(True)
    optimizer = torch.optim.Adam([observations], learning_rate)
    rows, columns = (
        torch.from_numpy(blur_matrix(size, smoothness.blur_sigma)).float()
        if smoothness.blur_sigma
        else None
        for size in shape[1:]
    )
    for step in range(steps):
        shift = [0, 0]
        if smoothness.jitter:
            reach = smoothness.jitter
            shift = torch.randint(-reach, reach + 1, (2,), generator=generator).tolist()
        found = activation(torch.roll(observations, shift, (2, 3)))
        if not torch.isfinite(found).all():
            raise FloatingPointError(f"the activation is not finite at step {step}")
        loss = -found.sum() + smoothness.total_variation * total_variation(observations).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if smoothness.sobolev:
            observations.grad = sobolev_gradient(observations.grad, smoothness.sobolev)
        optimizer.step()
        with torch.no_grad():
            if rows is not None:
                observations.copy_(rows @ observations @ columns.T)
            observations.clamp_(0, 1)
    with torch.no_grad():
        found = activation(observations)
    return ExcitingInputs(observations.detach().numpy(), found.numpy())


def value_of(agent: Agent, memory: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the value as a function of observations `[B, C, H, W]`, with a memory `[1, k, M]`."""
    return lambda observations: agent.network(
        observations, memory.expand(len(observations), -1, -1)
    )[1]


def total_variation(observations: Tensor) -> Tensor:
    """Return the mean absolute difference between neighbouring pixels, `[B]` of `[B, C, H, W]`."""
    down = (observations[:, :, 1:] - observations[:, :, :-1]).abs().mean((1, 2, 3))
    return down + (observations[..., 1:] - observations[..., :-1]).abs().mean((1, 2, 3))


def sobolev_gradient(gradient: Tensor, weight: float) -> Tensor:
    """Solve (1 - weight * Laplacian) u = gradient on a torus, by Fourier transform.

    Args:
        gradient: `[B, C, H, W]`.
        weight: px squared; 0 returns the gradient.
    """
    height, width = gradient.shape[2:]
    rows = 2 - 2 * torch.cos(2 * torch.pi * torch.fft.fftfreq(height))[:, None]
    columns = 2 - 2 * torch.cos(2 * torch.pi * torch.fft.rfftfreq(width))[None]
    spectrum = torch.fft.rfft2(gradient) / (1 + weight * (rows + columns))
    return torch.fft.irfft2(spectrum, s=(height, width))


def used_filters(weight: np.ndarray, share: float = 0.1) -> np.ndarray:
    """Return which filters of a layer are used: those whose norm is over a share of the largest.

    Args:
        weight: `[out, ...]`, of a convolution or a dense layer.
        share: of the largest norm.

    Returns:
        `[out]` bool.
    """
    norms = np.sqrt((np.asarray(weight, np.float64) ** 2).reshape(len(weight), -1).sum(1))
    return norms > share * norms.max()
