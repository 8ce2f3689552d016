"""Networks whose forward pass weighs places of the screen: Free-Lunch Saliency and its rivals.

All of them are `AttentionNetwork` with other arguments; the registry has their names. "Sparse" is
the trunk of Mnih et al. (2015), "dense" one without strides. An attention module makes one number
per place of a layer from that layer, and the layer is multiplied by it.

Reference:
    Nikulin et al. (2019), "Free-Lunch Saliency via Attention in Atari Agents", arXiv:1908.02511.
    DAQN follows Sorokin et al. (2015), arXiv:1512.01693; RS-PPO follows Yang et al. (2018).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from atarilens.agents.networks import Network

TRUNKS = {  # name -> three convolutions: output channels, kernel, stride, padding
    "sparse": ((32, 8, 4, 0), (64, 4, 2, 0), (64, 3, 1, 0)),
    "dense": ((32, 7, 1, 3), (64, 5, 1, 2), (64, 3, 1, 1)),
}
ACTIVATIONS = {"relu": F.relu, "tanh": torch.tanh, "elu": F.elu}
WEIGHINGS = {  # name -> scores [B, maps, h, w] to weights of the same shape
    "softplus": F.softplus,
    "softplus2": lambda scores: F.softplus(scores * math.log(2)) / math.log(2),
    "sum-to-one": lambda scores: _divided_by_sum(F.softplus(scores)),
    "softmax": lambda scores: scores.flatten(2).softmax(-1).unflatten(-1, scores.shape[2:]),
}


def _divided_by_sum(weights: Tensor) -> Tensor:
    return weights / weights.sum((-2, -1), keepdim=True)


class AttentionModule(nn.Module):
    """Turn a layer `[B, C, h, w]` into its attention `[B, h, w]`, >= 0.

    Two convolutions that keep h and w, with an activation between them, give `maps` scores for
    each place; a weighing turns these into weights, and the sum over the maps is the attention.

    Args:
        channels: C.
        hidden: channels between the two convolutions.
        kernel: side of both, odd.
        activation: key of `ACTIVATIONS`.
        weighing: key of `WEIGHINGS`.
        maps: how many.
    """

    def __init__(
        self, channels: int, hidden: int, kernel: int, activation: str, weighing: str, maps: int
    ):
        super().__init__()
        if activation not in ACTIVATIONS or weighing not in WEIGHINGS or kernel % 2 != 1:
            raise ValueError(
                f"attention of activation {activation!r}, weighing {weighing!r} and kernel {kernel}"
                f"; known are {', '.join(ACTIVATIONS)}; {', '.join(WEIGHINGS)}; odd kernels"
            )
        self.activation, self.weighing = activation, weighing
        self.conv_hidden = nn.Conv2d(channels, hidden, kernel, padding=kernel // 2)
        self.conv_scores = nn.Conv2d(hidden, maps, kernel, padding=kernel // 2)

    def forward(self, layer: Tensor) -> Tensor:
        """Return the attention `[B, h, w]` of a layer `[B, C, h, w]`."""
        hidden = ACTIVATIONS[self.activation](self.conv_hidden(layer))
        return WEIGHINGS[self.weighing](self.conv_scores(hidden)).sum(1)


class AttentionNetwork(Network):
    """A feed-forward actor-critic with attention; the defaults make Sparse FLS.

    Three convolutions with ReLU, attention after some of them, a linear layer with ReLU, an actor
    and a critic. A dense network sums 7,056 places, so that already its untrained policy prefers
    one action.

    Args:
        num_actions: A.
        trunk: key of `TRUNKS`.
        after: the numbers of the convolutions, from 1, that have an attention module behind them.
        hidden: of the attention module (see `AttentionModule`), as the next four.
        kernel: likewise.
        activation: likewise.
        weighing: likewise.
        maps: likewise.
        sum_pool: whether the last layer is summed over all places, weighted by its attention,
            instead of being weighted and flattened.
        last_relu: whether a ReLU follows the last convolution.
        border: px of zeros around the observation.
        unit_length: whether the last layer is divided by its Euclidean norm at each place.
        hidden_units: of the linear layer.

    Attributes:
        receptive_field: (size, stride, padding) in px of a cell of the attention in the
            observation, of the trunk alone (see `attention_saliency`).
    """

    observation_shape = (4, 84, 84)

    def __init__(
        self,
        num_actions: int,
        trunk: str = "sparse",
        after: tuple[int, ...] = (3,),
        hidden: int = 256,
        kernel: int = 3,
        activation: str = "relu",
        weighing: str = "softplus",
        maps: int = 1,
        sum_pool: bool = False,
        last_relu: bool = True,
        border: int = 0,
        unit_length: bool = False,
        hidden_units: int = 512,
    ):
        super().__init__()
        if sum_pool and 3 not in after:
            raise ValueError(f"sum-pooling needs attention after convolution 3, not {after}")
        self.after, self.sum_pool, self.last_relu = tuple(after), sum_pool, last_relu
        self.border, self.unit_length = border, unit_length
        channels, side = self.observation_shape[0], self.observation_shape[1] + 2 * border
        size, stride, padding = 1, 1, 0
        for number, (outputs, *geometry) in enumerate(TRUNKS[trunk], 1):
            width, step, around = geometry
            setattr(self, f"conv{number}", nn.Conv2d(channels, outputs, width, step, around))
            channels, side = outputs, (side + 2 * around - width) // step + 1
            size, padding = size + (width - 1) * stride, padding + around * stride
            stride *= step
            if number in after:
                module = AttentionModule(channels, hidden, kernel, activation, weighing, maps)
                setattr(self, f"attention{number}", module)
            if number == min(after):  # later attention is drawn on the first one's grid
                self.receptive_field = (size, stride, padding)
        self.linear = nn.Linear(channels if sum_pool else channels * side**2, hidden_units)
        self.actor_linear = nn.Linear(hidden_units, num_actions)
        self.critic_linear = nn.Linear(hidden_units, 1)

    def forward(self, observation: Tensor, memory: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return action_logits `[B, A]`, value `[B]` and the memory, which is empty."""
        hidden, _ = self.attend(observation)
        return self.actor_linear(hidden), self.critic_linear(hidden).squeeze(-1), memory

    def features(self, observation: Tensor, memory: Tensor) -> Tensor:
        """Return the last hidden layer `[B, hidden_units]`."""
        return self.attend(observation)[0]

    def attention(self, observation: Tensor, memory: Tensor | None = None) -> Tensor:
        """Return the attention `[B, h, w]`, >= 0, that the forward pass multiplies by.

        With several attention modules, the maps of the later ones are spread over the first
        one's grid and added to it, as the reference draws them: this sum mixes their scales.
        """
        return self.attend(observation)[1]

    def attend(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """Return the last hidden layer `[B, hidden_units]` and the attention `[B, h, w]`."""
        x = F.pad(observation, [self.border] * 4)
        maps = []
        for number in (1, 2, 3):
            x = getattr(self, f"conv{number}")(x)
            if number < 3 or self.last_relu:
                x = F.relu(x)
            if number == 3 and self.unit_length:
                x = x * x.square().sum(1, keepdim=True).clamp(min=1e-12).rsqrt()
            if number in self.after:
                maps.append(getattr(self, f"attention{number}")(x))
                if number == 3 and self.sum_pool:
                    x = torch.einsum("bchw,bhw->bc", x, maps[-1])
                else:
                    x = x * maps[-1][:, None]
        return F.relu(self.linear(x.flatten(1))), self._joined(maps)

    def _joined(self, maps: list[Tensor]) -> Tensor:
        """Add up the maps on the grid of the first one."""
        total = maps[0]
        for later in maps[1:]:
            overlap = total.shape[-1] - 2 * (later.shape[-1] - 1)  # of stride 2 in the trunk
            kernel = later.new_ones(1, 1, overlap, overlap)
            total = total + F.conv_transpose2d(later[:, None], kernel, stride=2)[:, 0]
        return total
