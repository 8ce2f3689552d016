"""What is inside the network at one decision: the last convolution's channels and the memory."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib import colormaps
from torch import nn

from atarilens.saliency.calling import arguments, device_of, one_torch_thread, untouched

COLOURS = colormaps["berlin"]  # blue negative, black 0, red positive
GAP = 1  # px between two channels


@dataclass(frozen=True)
class Activations:
    """Hidden activations of one decision.

    Attributes:
        channels: `[K, h, w]` float32, output of the last convolution with more than two channels
            (an attention layer has one or two), after its nonlinearity if a linear or recurrent
            layer reads it; None for a network without convolutions.
        memory: `[k, M]` float32 after the step; None for a network without memory.
    """

    channels: np.ndarray | None
    memory: np.ndarray | None


def activations_of(network, observation: np.ndarray, memory: np.ndarray | None) -> Activations:
    """Run a network once and return its hidden activations; nothing in it changes.

    Args:
        network: as `perturbation_saliency` takes it.
        observation: `[C, H, W]` float32, or whatever the network reads.
        memory: `[k, M]` float32 entering the step, or None.
    """
    found: list[torch.Tensor] = []

    def keep_output(module, inputs, output) -> None:
        found[:] = [output.clone()]

    def keep_input(module, inputs, output) -> None:
        """Take the encoding, if this layer is the first to read the last convolution."""
        read = inputs[0]
        if len(found) == 1 and isinstance(read, torch.Tensor) and read.numel() == found[0].numel():
            found.append(read.reshape(found[0].shape).clone())

    hooks = []
    for module in getattr(network, "modules", tuple)():
        if isinstance(module, nn.Conv2d) and module.out_channels > 2:
            hooks.append(module.register_forward_hook(keep_output))
        elif isinstance(module, nn.Linear | nn.RNNCellBase | nn.RNNBase):
            hooks.append(module.register_forward_hook(keep_input))
    device = device_of(network)
    batch = [
        None if x is None else torch.as_tensor(x)[None].to(device) for x in (observation, memory)
    ]
    if memory is None:
        batch[1] = torch.zeros(1, *getattr(network, "memory_shape", (0, 0)), device=device)
    try:
        with untouched(network), torch.no_grad(), one_torch_thread():
            outputs = network(*arguments(network, *batch))
    finally:
        for hook in hooks:
            hook.remove()
    after = outputs[2] if isinstance(outputs, tuple) and len(outputs) == 3 else None
    return Activations(
        channels=found[-1][0].cpu().numpy() if found else None,
        memory=None if after is None or not after.numel() else after[0].cpu().numpy(),
    )


def channels_image(channels: np.ndarray, largest: float) -> np.ndarray:
    """Draw channels `[K, h, w]` as a square of small pictures, uint8 `[s, s, 3]`.

    Args:
        channels: signed numbers.
        largest: absolute value of the strongest colours.
    """
    count, height, width = channels.shape
    columns = max(1, round(np.sqrt(count * height / width)))
    rows = -(-count // columns)
    side = max(rows * (height + GAP), columns * (width + GAP)) - GAP
    picture = np.full((side, side, 3), 70, np.uint8)
    shares = 0.5 + 0.5 * channels / (largest or 1.0)
    for index, share in enumerate(shares):
        top, left = index // columns * (height + GAP), index % columns * (width + GAP)
        cell = np.rint(255 * COLOURS(share)[..., :3])
        picture[top : top + height, left : left + width] = cell
    return picture


def memory_channels(memory: np.ndarray) -> np.ndarray:
    """Return a memory `[k, M]` as k pictures `[k, h, w]`, row by row, padded with zeros."""
    states, units = memory.shape
    height = int(np.ceil(np.sqrt(units / states)))  # k of them, one below the other, make a square
    width = -(-units // height)
    pictures = np.zeros((states, height * width), np.float32)
    pictures[:, :units] = memory
    return pictures.reshape(states, height, width)


def activation_movie(kept: Sequence[np.ndarray], factor: int = 1) -> np.ndarray:
    """Draw the channels `[K, h, w]` of n steps with one scale: uint8 `[n, s, s, 3]`."""
    largest = max(float(np.abs(channels).max()) for channels in kept)
    frames = np.stack([channels_image(channels, largest) for channels in kept])
    return frames.repeat(factor, 1).repeat(factor, 2)
