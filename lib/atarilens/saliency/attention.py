"""Saliency that a network states itself: the attention of its forward pass, drawn on the screen."""

import numpy as np
import torch
from torch.nn import functional as F

from atarilens.saliency.calling import as_batch, device_of, untouched
from atarilens.saliency.maps import SaliencyMaps

BATCH = 8  # decisions per forward pass; a dense network takes 15 MB for each


def attention_saliency(
    network, observation, memory=None, *, coverage_normalise: bool = False
) -> SaliencyMaps:
    """Draw the attention of a network: each cell is spread over the pixels that it is made from.

    This is a transposed convolution of the attention `[h, w]` with a kernel of ones, as large as a
    cell's receptive field in the convolutions below it. The map says where the network weighs
    what it computed more strongly; whether a decision depends on that is another question, which
    `perturbation_saliency` asks.

    Three properties of the published maps, kept here:
        * Receptive fields overlap, so that a constant attention gives a bright centre (25 : 1 for
          cells of 36 px every 8 px); `coverage_normalise` divides by the map of a constant one.
        * The receptive field is that of the trunk. Convolutions in the attention module widen it
          (two of 3x3 on a 7x7 grid: 68 px instead of 36), which the map does not show.
        * A border of zeros around the observation (RS-PPO: 1 px) is ignored.

    Args:
        network: as `perturbation_saliency` takes it, with two more members: a method
            `attention(observation, memory)` that returns `[B, h, w]`, and `receptive_field`,
            (size, stride, padding) of a cell in px.
        observation: `[C, H, W]` or `[T, C, H, W]`, in [0, 1].
        memory: `[k, M]` or `[T, k, M]`; may be None for a network without memory.
        coverage_normalise: divide by the number of cells that cover a pixel.

    Returns:
        Maps `[H, W]` or `[T, H, W]`, float32, >= 0, in units of the attention, not normalised per
        map. `actor_grid` is the attention itself, `[h, w]`. There is one attention for both heads,
        so `critic` is None.

    Raises:
        ValueError: if the network has no attention, its map does not fit the observation, or a
            shape or dtype is not as described.

    Reference:
        Nikulin et al. (2019), "Free-Lunch Saliency via Attention in Atari Agents",
        arXiv:1908.02511.
    """
    if not hasattr(network, "attention") or not hasattr(network, "receptive_field"):
        name = getattr(network, "architecture", None) or type(network).__name__
        raise ValueError(
            f"network {name!r} has no attention of its own; "
            "networks that have it are built by build_network('sparse-fls', ...) and its like"
        )
    observation, memory, single = as_batch(network, observation, memory)
    device, found = device_of(network), []
    with untouched(network), torch.no_grad():
        for shown, entering in zip(observation.split(BATCH), memory.split(BATCH), strict=True):
            found.append(network.attention(shown.to(device), entering.to(device)).cpu())
    attention = torch.cat(found)
    maps = _spread(attention, network.receptive_field).clamp(min=0)
    if maps.shape[1:] != observation.shape[2:]:
        raise ValueError(
            f"attention {list(attention.shape[1:])} of receptive field {network.receptive_field} "
            f"covers {list(maps.shape[1:])} px, but the observation has "
            f"{list(observation.shape[2:])}"
        )
    if coverage_normalise:
        maps = maps / torch.from_numpy(attention_coverage(network, observation.shape[2:]))
    maps = SaliencyMaps(maps.numpy(), None, attention.numpy(), None)
    return maps[0] if single else maps


def attention_coverage(network, shape: tuple[int, int] | None = None) -> np.ndarray:
    """Return how many cells of a network's attention cover each pixel: the map of a constant one.

    Args:
        network: with a `receptive_field` (see `attention_saliency`).
        shape: (H, W) of the observation; default `network.observation_shape`.

    Returns:
        `[H, W]` float32, at least 1.
    """
    size, stride, padding = network.receptive_field
    sides = shape or network.observation_shape[1:]
    cells = [(side + 2 * padding - size) // stride + 1 for side in sides]
    return _spread(torch.ones(1, *cells), network.receptive_field)[0].numpy()


def _spread(attention: torch.Tensor, receptive_field: tuple[int, int, int]) -> torch.Tensor:
    """Spread each cell of `[T, h, w]` evenly over its receptive field, summing overlaps."""
    size, stride, padding = receptive_field
    kernel = torch.ones(1, 1, size, size)
    return F.conv_transpose2d(attention[:, None], kernel, stride=stride, padding=padding)[:, 0]
