"""Networks: `(observation, memory) -> (action_logits, value, memory)`, always batched tensors.

`Network` states the protocol; `saliency` and `play` rely on it and on nothing else. The registry
(`atarilens.agents.registry`) names every network that can be built, saved and loaded.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ACTOR_GAIN = 0.01  # of an untrained actor: all actions about equally probable
CELLS = {"lstm": (nn.LSTMCell, 2), "gru": (nn.GRUCell, 1)}


class Network(nn.Module):
    """The protocol of a network.

    * `network(observation, memory)` takes observations `[B, C, H, W]` float32 in [0, 1] and the
      memory `[B, k, M]` float32 that ENTERS the step. It returns action_logits `[B, A]`, value
      `[B]` (None if it has no value) and the memory `[B, k, M]` that enters the next step.
    * `network.features(observation, memory)` returns the last hidden layer `[B, D]`.
    * A network may offer its three parts, so that callers compute the first one once for many
      memories: `encode(observation)` gives an encoding `[B, E]`, `recur(encoding, memory)` the next
      memory, and `heads(memory[:, 0])` the action logits and the value. All three or none.
    * A network may offer `attention(observation, memory)` and `receptive_field`, if its forward
      pass weighs places of the screen (see `atarilens.saliency.attention_saliency`).

    Attributes:
        observation_shape: (C, H, W).
        memory_shape: (k, M); k = 2 for an LSTM (h, then c), 1 for a GRU, 0 without a memory.
        num_actions: A.
        q_values: whether the action logits are Q-values and the value is their maximum. Then play
            greedily: a softmax over Q-values is not the policy that was trained.
        architecture: the registry's name for this network; None if it has none.
        arguments: what the registry's constructor needs beside the name and the number of actions.
    """

    observation_shape: tuple[int, int, int]
    memory_shape: tuple[int, int] = (0, 0)
    q_values = False
    architecture: str | None = None
    arguments: dict = {}  # noqa: RUF012  replaced, never changed

    def features(self, observation: Tensor, memory: Tensor) -> Tensor:
        """Return the last hidden layer `[B, D]`; unless a network has one, the action logits."""
        return self(observation, memory)[0]


class RecurrentActorCritic(Network):
    """The paper's network: four convolutions, a recurrent cell, an actor and a critic.

    Each convolution is 3x3, stride 2, padding 1, 32 channels, followed by an ELU; 80x80 becomes
    5x5. The cell has 256 units. Parameter names are those of greydanus/baby-a3c, so that its state
    dicts load as they are.

    Reference:
        Greydanus et al. (2018), "Visualizing and Understanding Atari Agents", section "Experimental
        Setup"; arXiv:1711.00138.

    Args:
        num_actions: A, size of the actor's head.
        cell: "lstm" (the paper) or "gru" (the published baby-a3c checkpoints).

    Raises:
        ValueError: if `cell` is neither.
    """

    observation_shape = (1, 80, 80)

    def __init__(self, num_actions: int, cell: str = "lstm"):
        super().__init__()
        if cell not in CELLS:
            raise ValueError(f"unknown cell {cell!r}; known: {', '.join(sorted(CELLS))}")
        self.cell, self.num_actions, self.units = cell, num_actions, 256
        self.architecture = cell
        make_cell, states = CELLS[cell]
        self.memory_shape = (states, self.units)
        self.conv1 = nn.Conv2d(1, 32, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(32, 32, 3, stride=2, padding=1)
        self.conv3 = nn.Conv2d(32, 32, 3, stride=2, padding=1)
        self.conv4 = nn.Conv2d(32, 32, 3, stride=2, padding=1)
        setattr(self, cell, make_cell(32 * 5 * 5, self.units))
        self.critic_linear = nn.Linear(self.units, 1)
        self.actor_linear = nn.Linear(self.units, num_actions)

    def encode(self, observation: Tensor) -> Tensor:
        """Return what the convolutions make of `[B, 1, 80, 80]`: `[B, 800]`."""
        x = observation
        for convolution in (self.conv1, self.conv2, self.conv3, self.conv4):
            x = F.elu(convolution(x), inplace=True)
        return x.flatten(1)  # channel, row, column

    def recur(self, encoding: Tensor, memory: Tensor) -> Tensor:
        """Return the memory `[B, k, M]` after one step from encoding `[B, 800]` and memory."""
        if self.cell == "lstm":
            return torch.stack(self.lstm(encoding, (memory[:, 0], memory[:, 1])), dim=1)
        return self.gru(encoding, memory[:, 0])[:, None]

    def heads(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return action_logits `[..., A]` and value `[...]` of the hidden layer `[..., M]`."""
        return self.actor_linear(hidden), self.critic_linear(hidden).squeeze(-1)

    def forward(self, observation: Tensor, memory: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return action_logits `[B, A]`, value `[B]` and the next memory `[B, k, M]`."""
        memory = self.recur(self.encode(observation), memory)
        action_logits, value = self.heads(memory[:, 0])
        return action_logits, value, memory

    def unroll(self, observations: Tensor, memory: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        """Run whole sequences at once, as training needs it; equals `forward` step by step.

        Args:
            observations: `[T, B, 1, 80, 80]` float32 in [0, 1].
            memory: `[B, k, M]` float32 entering the first step.
            starts: `[T, B]` bool, True where an episode starts: memory is zero there.

        Returns:
            Hidden layers `[T, B, M]` and the memory `[B, k, M]` after the last step.
        """
        steps, batch = observations.shape[:2]
        encodings = self.encode(observations.flatten(0, 1))
        keep = (~starts).to(memory.dtype)[..., None]  # [T, B, 1]
        if self.cell == "lstm":
            cell = self.lstm
            # The input's share of the gates is one product for all steps; only h is sequential.
            gates = F.linear(encodings, cell.weight_ih, cell.bias_ih + cell.bias_hh)
            gates = gates.float().unflatten(0, (steps, batch)).unbind(0)
            recurrent = cell.weight_hh.t()
            h, c = memory.unbind(1)
            hidden = []
            for t in range(steps):
                h, c = h * keep[t], c * keep[t]
                i, f, g, o = torch.addmm(gates[t], h, recurrent).float().chunk(4, dim=1)
                c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
                h = torch.sigmoid(o) * torch.tanh(c)
                hidden.append(h)
            return torch.stack(hidden), torch.stack((h, c), dim=1)
        hidden = []
        for t, encoding in enumerate(encodings.unflatten(0, (steps, batch))):
            memory = self.recur(encoding, memory * keep[t][..., None])
            hidden.append(memory[:, 0])
        return torch.stack(hidden), memory

    def features(self, observation: Tensor, memory: Tensor) -> Tensor:
        """Return the last hidden layer `[B, 256]`: h after the step."""
        return self.recur(self.encode(observation), memory)[:, 0]


class NatureNetwork(Network):
    """The network of Mnih et al. (2015), as Stable-Baselines3 and CleanRL build it.

    Convolutions 8x8 stride 4 (32 channels), 4x4 stride 2 (64), 3x3 stride 1 (64), a linear layer,
    ReLU after each; then an LSTM if asked for, an actor, and a critic.

    Without a critic this is a Q-network: the action logits are the Q-values and the value is their
    maximum. With quantiles it is that of QR-DQN (Dabney et al. 2018): the actor's layer gives
    `quantiles` numbers for each action, and a Q-value is their mean.

    Args:
        num_actions: A.
        observation_shape: (C, H, W).
        hidden_units: of the linear layer.
        lstm_units: of the LSTM; 0 for none.
        critic: whether there is one.
        quantiles: of the return of each action; 0 for a plain Q-network or an actor-critic.

    Raises:
        ValueError: if a network with quantiles is to have a critic.
    """

    def __init__(
        self,
        num_actions: int,
        observation_shape: tuple[int, int, int] = (4, 84, 84),
        hidden_units: int = 512,
        lstm_units: int = 0,
        critic: bool = True,
        quantiles: int = 0,
    ):
        super().__init__()
        if critic and quantiles:
            raise ValueError(f"a network of {quantiles} quantiles has Q-values: it needs no critic")
        self.num_actions, self.observation_shape = num_actions, tuple(observation_shape)
        self.quantiles, self.q_values = quantiles, not critic
        self.memory_shape = (2, lstm_units) if lstm_units else (0, 0)
        heads = "" if critic else "-qr" if quantiles else "-q"
        self.architecture = f"nature{'-lstm' if lstm_units else ''}{heads}"
        self.arguments = {
            "observation_shape": self.observation_shape,
            "hidden_units": hidden_units,
            **({"lstm_units": lstm_units} if lstm_units else {}),
            **({"quantiles": quantiles} if quantiles else {}),
        }
        channels, *sides = observation_shape
        self.conv1 = nn.Conv2d(channels, 32, 8, stride=4)
        self.conv2 = nn.Conv2d(32, 64, 4, stride=2)
        self.conv3 = nn.Conv2d(64, 64, 3, stride=1)
        height, width = (((side - 8) // 4 + 1 - 4) // 2 + 1 - 2 for side in sides)
        self.linear = nn.Linear(64 * height * width, hidden_units)
        self.lstm = nn.LSTMCell(hidden_units, lstm_units) if lstm_units else None
        units = lstm_units or hidden_units
        self.actor_linear = nn.Linear(units, num_actions * max(quantiles, 1))
        self.critic_linear = nn.Linear(units, 1) if critic else None

    def forward(self, observation: Tensor, memory: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return action_logits `[B, A]`, value `[B]` and the next memory `[B, k, M]`."""
        hidden, memory = self._hidden(observation, memory)
        if self.critic_linear is not None:
            return self.actor_linear(hidden), self.critic_linear(hidden).squeeze(-1), memory
        q_values = self._returns(hidden).mean(-2)
        return q_values, q_values.max(-1).values, memory

    def features(self, observation: Tensor, memory: Tensor) -> Tensor:
        """Return the last hidden layer `[B, D]`."""
        return self._hidden(observation, memory)[0]

    def returns(self, observation: Tensor, memory: Tensor) -> Tensor:
        """Return the quantiles of each action's return `[B, quantiles, A]`; `[B, 1, A]` without."""
        return self._returns(self._hidden(observation, memory)[0])

    def _returns(self, hidden: Tensor) -> Tensor:
        return self.actor_linear(hidden).unflatten(-1, (-1, self.num_actions))

    def _hidden(self, observation: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        x = observation
        for convolution in (self.conv1, self.conv2, self.conv3):
            x = F.relu(convolution(x))
        hidden = F.relu(self.linear(x.flatten(1)))
        if self.lstm is None:
            return hidden, memory
        memory = torch.stack(self.lstm(hidden, (memory[:, 0], memory[:, 1])), dim=1)
        return memory[:, 0], memory


class ModuleNetwork(Network):
    """Any module as a network of this protocol.

    The module is called as `module(observation)`, or `module(observation, memory)` if it has a
    memory, with the tensors of `Network`. It returns action_logits `[B, A]`, or a tuple of those,
    the value (`[B]`, `[B, 1]` or None) and, if it has a memory, the next memory. Its method
    `features(observation)` or `features(observation, memory)` returns the last hidden layer;
    without one, the action logits stand for it. If its action logits are Q-values, give it the
    attribute `q_values = True`, so that it plays greedily.

    Args:
        module: used as it is, not copied.
        observation_shape: (C, H, W); default `module.observation_shape`.
        memory_shape: (k, M); default `module.memory_shape`, else (0, 0).
    """

    def __init__(self, module: nn.Module, observation_shape=None, memory_shape=None):
        super().__init__()
        self.module = module
        self.observation_shape = tuple(observation_shape or module.observation_shape)
        self.memory_shape = tuple(memory_shape or getattr(module, "memory_shape", (0, 0)))
        self.q_values = bool(getattr(module, "q_values", False))

    def forward(self, observation: Tensor, memory: Tensor):
        """Return action_logits `[B, A]`, value `[B]` or None, and the next memory `[B, k, M]`."""
        outputs = self.module(*self._inputs(observation, memory))
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        action_logits, value, next_memory = (*outputs, None, None)[:3]
        value = None if value is None else value.reshape(len(observation))
        return action_logits, value, next_memory if self.memory_shape[0] else memory

    def features(self, observation: Tensor, memory: Tensor) -> Tensor:
        """Return the last hidden layer `[B, D]`."""
        if not hasattr(self.module, "features"):
            return super().features(observation, memory)
        return self.module.features(*self._inputs(observation, memory))

    def _inputs(self, observation: Tensor, memory: Tensor) -> tuple[Tensor, ...]:
        return (observation, memory) if self.memory_shape[0] else (observation,)


@torch.no_grad()
def initialise(network: nn.Module, seed: int) -> nn.Module:
    """Set every parameter of a network from a seed: the untrained agent, the same everywhere.

    Weights are uniform with variance 2 / fan-in in convolutions and layers named `linear`, which
    a rectifier follows (He et al. 2015), 1 / fan-in in the recurrent cell and the critic, and
    0.01^2 / fan-in in the actor; biases are zero.

    Deviation: PPO's reference code draws orthogonal matrices of about the same scale. These are
    draws of a Mersenne Twister, without a matrix factorisation, so that the bits are the same on
    every machine.

    Args:
        network: modified in place.
        seed: of a generator of its own; the global one is not touched.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in network.named_parameters():
        if parameter.ndim < 2:
            parameter.zero_()
            continue
        layer = name.split(".")[-2] if "." in name else name
        variance = 2.0 if layer.startswith(("conv", "linear")) else 1.0
        bound = (3 * variance / parameter[0].numel()) ** 0.5
        bound *= ACTOR_GAIN if layer.startswith("actor") else 1.0
        parameter.copy_(torch.empty(parameter.shape).uniform_(-bound, bound, generator=generator))
    return network
