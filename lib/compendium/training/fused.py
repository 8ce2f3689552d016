"""`RecurrentActorCritic.unroll` for training on a CPU: the same function, in fewer passes.

Two thirds of an update's time go into moving data: torch's ELU in bfloat16, and an LSTM whose
recurrent weight gradient is summed step by step. Here the ELU works in place with a vectorised
exponential (Numba), batches go through the convolutions in parts that stay in the processor's
cache, and the LSTM's backward pass is written out, with one product for the weight gradient.
"""

import numba
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from atarilens.agents.networks import RecurrentActorCritic

PART = 64  # observations per pass through the convolutions
LOWEST = np.float32(-87)  # exp of less underflows; ELU is -1 there anyway
LOG2_E = np.float32(1.4426950408889634)
# Minimax polynomial of 2**r on [0, 1), highest power first; error below 2e-7.
EXP2 = tuple(
    np.float32(c)
    for c in (1.8775767e-3, 8.9893397e-3, 5.5826318e-2, 2.4015361e-1, 6.9315308e-1, 9.9999994e-1)
)
C5, C4, C3, C2, C1, C0 = EXP2


@numba.njit(inline="always")
def _to_float(bits):
    """Read bfloat16 bits as float32."""
    return np.uint32(np.uint32(bits) << np.uint32(16)).view(np.float32)


@numba.njit(inline="always")
def _to_bfloat16(x):
    """Round float32 to bfloat16 bits, to nearest, ties to even."""
    bits = np.float32(x).view(np.uint32)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    return np.uint16((bits + np.uint32(0x7FFF) + odd) >> np.uint32(16))


@numba.njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
def _elu(x):
    """Replace x by ELU(x); `[n]` bfloat16 bits."""
    for index in range(x.size):
        value = _to_float(x[index])
        power = max(min(value, np.float32(0)), LOWEST) * LOG2_E
        whole = np.floor(power)
        r = power - whole
        mantissa = ((((C5 * r + C4) * r + C3) * r + C2) * r + C1) * r + C0
        exponent = np.uint32(np.int32(whole) + np.int32(127))
        scale = np.uint32(exponent << np.uint32(23)).view(np.float32)
        below = mantissa * scale - np.float32(1)
        x[index] = _to_bfloat16(value if value > np.float32(0) else below)


@numba.njit(nogil=True, fastmath=True, cache=True)
def _elu_backward(result, gradient):
    """Multiply the gradient by ELU's slope, computed from its result; `[n]` bfloat16 bits."""
    for index in range(result.size):
        slope = min(_to_float(result[index]), np.float32(0)) + np.float32(1)
        gradient[index] = _to_bfloat16(_to_float(gradient[index]) * slope)


def _bits(x: Tensor) -> np.ndarray:
    """View a channels-last bfloat16 tensor as flat uint16; no copy."""
    return x.detach().permute(0, 2, 3, 1).view(-1).view(torch.uint16).numpy()


class _ELU(torch.autograd.Function):
    """ELU in place on a channels-last bfloat16 tensor."""

    @staticmethod
    def forward(context, x):
        _elu(_bits(x))
        context.mark_dirty(x)
        context.save_for_backward(x)
        return x

    @staticmethod
    def backward(context, gradient):
        (result,) = context.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        _elu_backward(_bits(result), _bits(gradient))
        return gradient


class _LSTM(torch.autograd.Function):
    """All steps of an LSTM whose gates already contain the products with the input.

    Inputs: gates `[T, B, 4M]` in torch's order i, f, g, o; weight `[4M, M]`; h, c `[B, M]`; keep
    `[T, B, 1]`, 0 where an episode starts. Outputs: hidden `[T, B, M]` and the last h, c.
    """

    @staticmethod
    def forward(context, gates, weight, h, c, keep):
        units, transposed = weight.shape[1], weight.t()
        cells, before = slice(2 * units, 3 * units), []
        activations, squashed, hidden = torch.empty_like(gates), [], []
        for t in range(len(gates)):
            h, c = h * keep[t], c * keep[t]
            before.append((h, c))
            total = torch.addmm(gates[t], h, transposed)
            activation = torch.sigmoid(total, out=activations[t])
            torch.tanh(total[:, cells], out=activation[:, cells])
            i, f, g, o = activation.chunk(4, dim=1)
            c = torch.addcmul(i * g, f, c)
            squashed.append(torch.tanh(c))
            h = o * squashed[-1]
            hidden.append(h)
        context.save_for_backward(weight, keep, activations)
        context.before, context.squashed, context.cells = before, squashed, cells
        return torch.stack(hidden), h.clone(), c

    @staticmethod
    def backward(context, d_hidden, d_h, d_c):
        weight, keep, activations = context.saved_tensors
        d_gates = torch.empty_like(activations)
        slopes = activations * (1 - activations)
        slopes[..., context.cells] = 1 - activations[..., context.cells] ** 2
        for t in reversed(range(len(activations))):
            i, f, g, o = activations[t].chunk(4, dim=1)
            squashed, d_h = context.squashed[t], d_h + d_hidden[t]
            d_c = torch.addcmul(d_c, d_h * o, 1 - squashed * squashed)
            torch.cat(
                (d_c * g, d_c * context.before[t][1], d_c * i, d_h * squashed), 1, out=d_gates[t]
            )
            d_gates[t] *= slopes[t]
            d_h, d_c = (d_gates[t] @ weight) * keep[t], d_c * f * keep[t]
        entering = torch.cat([h for h, _ in context.before])
        d_weight = d_gates.flatten(0, 1).t() @ entering
        return d_gates, d_weight, d_h, d_c, None


def unroll(
    network: RecurrentActorCritic, observations: Tensor, memory: Tensor, starts: Tensor
) -> tuple[Tensor, Tensor]:
    """Run whole sequences through an LSTM network on the CPU, convolutions in bfloat16.

    Arguments and results are those of `RecurrentActorCritic.unroll`, which it equals up to the
    rounding of bfloat16.
    """
    steps, batch = starts.shape
    encodings = []
    with torch.autocast("cpu", torch.bfloat16):
        for x in observations.flatten(0, 1).split(PART):
            for convolution in (network.conv1, network.conv2, network.conv3, network.conv4):
                x = _ELU.apply(convolution(x).contiguous(memory_format=torch.channels_last))
            encodings.append(x.flatten(1))
        cell = network.lstm
        gates = F.linear(torch.cat(encodings), cell.weight_ih, cell.bias_ih + cell.bias_hh)
    gates = gates.float().unflatten(0, (steps, batch))
    keep = (~starts).float()[..., None]
    hidden, h, c = _LSTM.apply(gates, cell.weight_hh, memory[:, 0], memory[:, 1], keep)
    return hidden, torch.stack((h, c), dim=1)
