"""The fast CPU path of perturbation saliency, for the paper's network.

A mask changes a 43 x 43 window of an 80 x 80 image. Only what that window reaches is recomputed,
exactly: 23, 27, 35 and 49 % of the four layers on average, and of the cell's input product only
the pixels reached. Where the blur changes nothing, the window is smaller still, or empty.
"""

from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import nn

from atarilens.saliency.calling import run_on_threads
from atarilens.saliency.fast import kernels
from atarilens.saliency.fast.kernels import CHANNELS, KERNEL, LAYERS, PANEL

BLOCK = 64  # masks per unit of work; fixed, so that threads cannot change a result
CONVOLUTIONS = ("conv1", "conv2", "conv3", "conv4")
CELLS = {"lstm": nn.LSTMCell, "gru": nn.GRUCell}
HEADS = ("actor_linear", "critic_linear")
DEPTHS = np.array((1, CHANNELS, CHANNELS, CHANNELS))  # input channels of each

_packed: WeakKeyDictionary = WeakKeyDictionary()


class Weights(NamedTuple):
    """A network, laid out for the kernels."""

    conv: tuple[np.ndarray, ...]  # per layer: [32 / PANEL, 9 * depth, PANEL], flat
    bias: tuple[np.ndarray, ...]  # per layer: [32]
    x_taps: np.ndarray  # [4, 9]: where a kernel's pixels lie in the padded input
    w_taps: np.ndarray  # [4, 9]: where its weights lie
    widths: np.ndarray  # [5]: padded width of the image and of every layer
    gates: np.ndarray  # [gates / PANEL, 800, PANEL], flat
    heads: np.ndarray  # [A + 1, units]: actor, then critic
    head_bias: np.ndarray  # [A + 1]
    lstm: bool


class Frame(NamedTuple):
    """What the masks of one frame share."""

    buffers: tuple[np.ndarray, ...]  # image and first three layers, padded, flat
    encoding: np.ndarray  # [800]: pixel, channel
    gates: np.ndarray  # [gates]: all that does not change with the observation included
    recurrent: np.ndarray  # [units]: the hidden share of a GRU's new gate
    state: np.ndarray  # [units]: c of an LSTM, h of a GRU
    difference: np.ndarray  # [H, W]: blurred minus image
    counts: np.ndarray  # [H + 1, W + 1]: pixels above and left that differ
    hidden: np.ndarray  # [units]: after the step


class Grid(NamedTuple):
    """The masks of a grid, as `perturbation.mask_factors` gives them, and their supports."""

    rows: np.ndarray  # [2, n, H]
    columns: np.ndarray  # [2, m, W]
    scale: np.ndarray  # [n, m]
    row_support: np.ndarray  # [n, 2]: first row of a mask, and the one after the last
    column_support: np.ndarray  # [m, 2]


def supports(network) -> bool:
    """Say whether a network has the layers, parameters and shapes that the kernels compute.

    `score` also compares the outputs, because other code can use the same layers in another way.
    """
    if not isinstance(network, nn.Module):
        return False
    modules = dict(network.named_modules())
    cell = "gru" if "gru" in modules else "lstm"
    kinds = {"": type(network), **dict.fromkeys(CONVOLUTIONS, nn.Conv2d), cell: CELLS[cell]}
    kinds |= dict.fromkeys(HEADS, nn.Linear)
    if {name: type(module) for name, module in modules.items()} != kinds:
        return False
    hooks = ("_forward_hooks", "_forward_pre_hooks", "parametrizations")
    if any(getattr(module, hook, None) for module in modules.values() for hook in hooks):
        return False
    for layer in map(modules.get, CONVOLUTIONS):
        geometry = layer.kernel_size, layer.stride, layer.padding, layer.dilation
        if geometry != ((3, 3), (2, 2), (1, 1), (1, 1)) or layer.padding_mode != "zeros":
            return False
    channels, side, width = getattr(network, "observation_shape", (0, 0, 0))
    units, gates = modules[cell].hidden_size, 3 if cell == "gru" else 4
    pixels = (-(-side // 2**LAYERS)) ** 2
    shapes = {f"{cell}.weight_ih": (gates * units, CHANNELS * pixels)}
    shapes |= {f"{cell}.weight_hh": (gates * units, units)}
    shapes |= dict.fromkeys((f"{cell}.bias_ih", f"{cell}.bias_hh"), (gates * units,))
    for name, depth in zip(CONVOLUTIONS, DEPTHS, strict=True):
        shapes |= {f"{name}.weight": (CHANNELS, depth, KERNEL, KERNEL), f"{name}.bias": (CHANNELS,)}
    for name, outputs in zip(HEADS, (modules[HEADS[0]].out_features, 1), strict=True):
        shapes |= {f"{name}.weight": (outputs, units), f"{name}.bias": (outputs,)}
    found = {name: tuple(array.shape) for name, array in network.state_dict().items()}
    return (channels, side) == (1, width) and found == shapes and not units % PANEL


def pack(network, fresh: bool = False) -> Weights:
    """Lay the network's weights out for the kernels; kept until one changes."""
    version = tuple((p.data_ptr(), p._version) for p in network.parameters())
    known = _packed.get(network)
    if fresh or known is None or known[0] != version:
        known = _packed[network] = version, _pack(network)
    return known[1]


def _pack(network) -> Weights:
    arrays = {name: value.detach().numpy() for name, value in network.state_dict().items()}
    sizes = [network.observation_shape[1]]  # of square pictures
    for _ in range(LAYERS):
        sizes.append((sizes[-1] + 1) // 2)
    widths = np.array(sizes) + 2
    taps = np.arange(KERNEL)
    offsets = (taps[:, None] + 0 * taps).ravel(), (0 * taps[:, None] + taps).ravel()
    lstm = hasattr(network, "lstm")
    cell = "lstm" if lstm else "gru"
    pixels = sizes[-1] ** 2
    gates = arrays[f"{cell}.weight_ih"].reshape(-1, CHANNELS, pixels).transpose(2, 1, 0)
    return Weights(
        conv=tuple(
            _panels(arrays[f"{name}.weight"].transpose(2, 3, 1, 0).reshape(-1, CHANNELS))
            for name in CONVOLUTIONS
        ),
        bias=tuple(_aligned(arrays[f"{name}.bias"]) for name in CONVOLUTIONS),
        x_taps=(offsets[0] * widths[:LAYERS, None] + offsets[1]) * DEPTHS[:, None],
        w_taps=np.arange(KERNEL**2) * DEPTHS[:, None],
        widths=widths,
        gates=_panels(gates.reshape(pixels * CHANNELS, -1)),
        heads=np.concatenate((arrays["actor_linear.weight"], arrays["critic_linear.weight"])),
        head_bias=np.concatenate((arrays["actor_linear.bias"], arrays["critic_linear.bias"])),
        lstm=lstm,
    )


def _aligned(array: np.ndarray) -> np.ndarray:
    """Return a flat float32 copy that starts at a cache line."""
    copy = np.empty(array.size + 16, np.float32)
    start = (-copy.ctypes.data // 4) % 16
    copy = copy[start : start + array.size]
    copy[:] = array.ravel()
    return copy


def _panels(weights: np.ndarray) -> np.ndarray:
    """Return weights `[inputs, outputs]` as panels, flat `[outputs / PANEL, inputs, PANEL]`."""
    inputs = len(weights)
    return _aligned(weights.reshape(inputs, -1, PANEL).transpose(1, 0, 2))


def score(network, observation, memory, difference, factors, settings):
    """Return the grids `[T, 1, n, m]` float32 of actor and critic; None if not for this network.

    Args and grids are those of `perturbation._score_batches`. A network whose own logits and value
    of the first frame differ from those of the kernels is not the paper's.
    """
    if settings.per_channel or observation.device.type != "cpu" or not supports(network):
        return None
    images, difference = (
        np.ascontiguousarray(tensor[:, 0].numpy()) for tensor in (observation, difference)
    )
    rows, columns, scale = factors
    grid = Grid(rows, columns, scale, _support(rows), _support(columns))
    n, m = scale.shape
    i, j = np.divmod(np.arange(n * m), m)
    order = np.lexsort((j % 3, i % 4, j // 3, i // 4))  # 4 x 3 neighbours together
    blocks = [order[start : start + BLOCK] for start in range(0, n * m, BLOCK)]
    actor, critic = np.empty((2, len(images), n * m), np.float32)

    outputs = []

    def work(unit) -> None:
        if unit is None:  # what the network itself says about the first frame
            logits, value, _ = network(observation[:1], memory[:1])
            outputs.append(torch.cat((logits[0], value)).numpy())
            return
        t, block = unit
        kernels.score_masks(block, actor[t], critic[t], frames[t], grid, weights, settings.centred)

    units = [(t, block) for t in range(len(images)) for block in blocks]
    for fresh in (False, True):  # a weight may have changed where PyTorch does not count it
        weights = pack(network, fresh)
        frames = _frames(network, weights, images, memory, difference)
        example = (blocks[0], actor[0], critic[0], frames[0], grid, weights, settings.centred)
        kernels.compile_once(kernels.score_masks, *example)
        run_on_threads(work, units if fresh else [None, *units], settings.threads)
        own = weights.heads @ frames[0].hidden + weights.head_bias
        if np.abs(own - outputs[0]).max() <= 1e-4 * max(1, np.abs(own).max()):
            break
    else:
        return None
    return actor.reshape(-1, 1, n, m), critic.reshape(-1, 1, n, m)


def _frames(network, weights: Weights, images, memory, difference) -> list[Frame]:
    """Return the frames of images `[T, H, W]`, unperturbed."""
    pixels = (weights.widths[LAYERS] - 2) ** 2
    encodings = np.zeros((len(images), pixels * CHANNELS), np.float32)
    counts = np.zeros((len(images), images.shape[1] + 1, images.shape[2] + 1), np.int64)
    sizes = weights.widths[:LAYERS] ** 2 * DEPTHS
    buffers = []
    for t in range(len(images)):
        buffers.append(tuple(_aligned(np.zeros(size, np.float32)) for size in sizes))
        arguments = (images[t], difference[t], counts[t], encodings[t], buffers[t], weights)
        kernels.compile_once(kernels.encode_image, *arguments)
        kernels.encode_image(*arguments)
    cell = network.lstm if weights.lstm else network.gru
    planar = torch.from_numpy(encodings).unflatten(1, (pixels, CHANNELS)).transpose(1, 2).flatten(1)
    gates = nn.functional.linear(planar, cell.weight_ih, cell.bias_ih)
    hidden = nn.functional.linear(memory[:, 0], cell.weight_hh, cell.bias_hh)
    units = cell.hidden_size
    kept = slice(None) if weights.lstm else slice(0, 2 * units)
    gates[:, kept] += hidden[:, kept]
    frames = []
    for t in range(len(images)):
        frame = Frame(
            buffers[t],
            encodings[t],
            _aligned(gates[t].numpy()),
            hidden[t, -units:].numpy(),
            memory[t, -1].numpy(),
            difference[t],
            counts[t],
            np.empty(units, np.float32),
        )
        kernels.compile_once(kernels.score_nothing, frame, weights)
        kernels.score_nothing(frame, weights)
        frames.append(frame)
    return frames


def _support(factors: np.ndarray) -> np.ndarray:
    """Return `[n, 2]`: first and one past the last pixel where a factor `[2, n, size]` is not 0."""
    present = (factors != 0).any(0)
    return np.stack((present.argmax(1), present.shape[1] - present[:, ::-1].argmax(1)), axis=1)
