"""What excites a unit: where it looks, the places of real screens that excite it most, and films.

A unit is one channel of a convolution, one unit of a dense layer, or one output. Its activation is
taken before the rectifier, so that a silent unit has a gradient, too.

Source: Such et al. (2019), "An Atari Model Zoo", sections "Image Patches that Maximally
Excite Filters" and "Synthesizing Inputs to Understand Neurons".
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

BATCH = 64  # observations at a time


@dataclass(frozen=True)
class ReceptiveField:
    """Which pixels of the observation the units of a convolution see, along one axis.

    Attributes:
        size: px that a unit sees.
        step: px between neighbouring units.
        start: first px of unit 0; negative if padding lies before it.
    """

    size: int
    step: int
    start: int

    def box(self, row: int, column: int) -> tuple[int, int, int, int]:
        """Return px (top, bottom, left, right) that the unit at a place sees, half-open."""
        top, left = self.start + row * self.step, self.start + column * self.step
        return top, top + self.size, left, left + self.size


@dataclass(frozen=True)
class Patch:
    """A place of one screen that excites a unit.

    Attributes:
        step: of the rollout.
        activation: before the rectifier.
        place: (row, column) of the unit in its channel.
    """

    step: int
    activation: float
    place: tuple[int, int]


def layers_of(network: nn.Module) -> dict[str, nn.Module]:
    """Return the layers whose units can be asked about, by name: convolutions, dense, outputs."""
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    }


def receptive_fields(network: nn.Module) -> dict[str, ReceptiveField]:
    """Return the receptive field of each convolution of a network, in the order of its layers.

    The convolutions must follow one another, with square kernels, as in the network of Mnih et
    al. (2015).

    Raises:
        ValueError: if a convolution is not square, or dilated.
    """
    size, step, start, fields = 1, 1, 0, {}
    for name, layer in layers_of(network).items():
        if not isinstance(layer, nn.Conv2d):
            continue
        kernel, stride, padding = layer.kernel_size, layer.stride, layer.padding
        square = len({*kernel}) == len({*stride}) == 1 and set(layer.dilation) == {1}
        if not square or isinstance(padding, str) or len({*padding}) > 1:
            raise ValueError(
                f"layer {name} has kernel {kernel}, stride {stride}, padding {padding}, dilation "
                f"{layer.dilation}; expected a square convolution without dilation"
            )
        size += (kernel[0] - 1) * step
        start -= padding[0] * step
        step *= stride[0]
        fields[name] = ReceptiveField(size, step, start)
    return fields


def activations(
    network: nn.Module, layer: str, observations: np.ndarray, memory: np.ndarray
) -> np.ndarray:
    """Return what a layer gives before its rectifier: `[T, K, h, w]`, or `[T, K]` of a dense one.

    Args:
        network: of an agent.
        layer: name of a layer, see `layers_of`.
        observations: `[T, C, H, W]` float32 in [0, 1].
        memory: `[T, k, M]` float32, entering each step.

    Raises:
        ValueError: for an unknown layer.
    """
    with torch.inference_mode():
        parts = zip(
            torch.from_numpy(observations).split(BATCH),
            torch.from_numpy(memory).split(BATCH),
            strict=True,
        )
        found = [_output(network, layer, *part) for part in parts]
    return torch.cat(found).numpy()


def unit_activation(
    network: nn.Module, layer: str, units: Sequence[int], memory: Tensor | None = None
) -> Callable[[Tensor], Tensor]:
    """Return the activation of units as a function of observations, for `exciting_inputs`.

    Args:
        network: of an agent.
        layer: name of a layer.
        units: `[n]`; observation b of a batch of n is asked about unit b. Of a channel the place
            in the middle is taken.
        memory: `[1, k, M]` that enters; by default zeros.

    Returns:
        `observations [n, C, H, W] -> [n]`, differentiable.
    """
    memory = torch.zeros(1, *network.memory_shape) if memory is None else memory
    units = torch.as_tensor(units)

    def activation(observations: Tensor) -> Tensor:
        found = _output(network, layer, observations, memory.expand(len(observations), -1, -1))
        if found.ndim == 4:
            found = found[:, :, found.shape[2] // 2, found.shape[3] // 2]
        return found[torch.arange(len(units)), units]

    return activation


def top_patches(
    channel: np.ndarray, episode: np.ndarray, count: int = 6, gap: int = 25
) -> list[Patch]:
    """Find the screens that excite a unit most, and where on them.

    Args:
        channel: `[T, h, w]`, or `[T]` of a unit without places.
        episode: `[T]` int.
        count: how many at most.
        gap: agent steps that two screens of one episode are apart at least, so that they are not
            copies of one another.

    Returns:
        The strongest first. Of equally strong places the first is taken.
    """
    channel = channel.reshape(len(channel), *(channel.shape[1:] or (1, 1)))
    strongest = channel.reshape(len(channel), -1).max(1)
    found: list[Patch] = []
    for step in np.argsort(-strongest, kind="stable"):
        near = (
            patch for patch in found if episode[patch.step] == episode[step]
        )  # of the same episode
        if any(abs(patch.step - step) < gap for patch in near):
            continue
        place = np.unravel_index(channel[step].argmax(), channel.shape[1:])
        found.append(Patch(int(step), float(strongest[step]), (int(place[0]), int(place[1]))))
        if len(found) == count:
            break
    return found


def live_units(found: np.ndarray) -> np.ndarray:
    """Return which units are ever active and not always the same: `[K]` bool of `[T, K, ...]`."""
    strongest = found.reshape(*found.shape[:2], -1).max(2)
    return (strongest.max(0) > 0) & (strongest.std(0) > 0)


class _ReachedError(Exception):
    """The layer has been computed: what follows is not needed."""


def _output(network: nn.Module, layer: str, observations: Tensor, memory: Tensor) -> Tensor:
    """Run a network up to a layer and return what that layer gives."""
    known, kept = layers_of(network), []
    if layer not in known:
        raise ValueError(f"the network has no layer {layer!r}; it has {', '.join(known)}")

    def stop(module, inputs, output) -> None:
        kept.append(output)
        raise _ReachedError

    hook = known[layer].register_forward_hook(stop)
    try:
        with suppress(_ReachedError):
            network(observations, memory)
    finally:
        hook.remove()
    return kept[0].clone()
