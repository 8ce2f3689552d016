"""Agent = network + preprocessing + actions + environment settings + where it comes from."""

import copy
import math
import warnings
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from atarilens.agents.networks import ModuleNetwork, Network
from atarilens.agents.preprocessing import Preprocessing, preprocessing
from atarilens.games.emulators import EnvironmentSettings, action_meanings, action_set


@dataclass(frozen=True, repr=False)
class Agent:
    """Everything that is needed to play and to explain.

    Attributes:
        name: row of `data/agents`, or the name of the file that it was loaded from.
        game: key of `games.GAMES`.
        network: of the protocol `networks.Network`; eval mode, float32, on the CPU.
        preprocessing: turns screens into the observations of its network.
        settings: of the environment that it was trained in.
        action_meanings: A names; index = action.
        facts: its row, or the facts that its checkpoint holds.
    """

    name: str
    game: str
    network: Network
    preprocessing: Preprocessing
    settings: EnvironmentSettings
    action_meanings: list[str]
    facts: dict

    @property
    def region(self) -> tuple[int, int, int, int]:
        """Px (top, bottom, left, right) of the screen that the observation covers, half-open."""
        return self.preprocessing.region

    def preprocess(self, screen: np.ndarray) -> np.ndarray:
        """Turn `[210, 160, 3]` uint8, or the `[n, ...]` it stacks, into `[C, H, W]` float32."""
        return self.preprocessing(screen)

    def initial_memory(self) -> np.ndarray:
        """Return the memory `[k, M]` float32 that enters an episode: zeros."""
        return np.zeros(self.network.memory_shape, np.float32)

    def __repr__(self) -> str:
        """Say in one line who this is."""
        weights = sum(parameter.numel() for parameter in self.network.parameters())
        shape = " x ".join(map(str, self.preprocessing.shape))
        score = (self.facts.get("score") or {}).get("mean")
        return (
            f"Agent {self.name!r}: {self.game}, network {self.facts.get('architecture')} "
            f"({weights:,} parameters), reads {self.preprocessing.name} ({shape}), "
            f"{len(self.action_meanings)} actions"
            + ("" if score is None else f", mean score {score:g}")
        )


def agent_from_module(
    module: nn.Module,
    *,
    game: str,
    preprocessing: str | Preprocessing,
    settings: dict | None = None,
    name: str = "module",
) -> Agent:
    """Make an agent of any module, to explain it as one of ours.

    `module(observation)` takes observations `[B, C, H, W]` float32 in the range [0, 1], not
    0 to 255, and returns action logits `[B, A]`, or a tuple of logits and value. A module with a
    memory has `memory_shape`, and takes and returns its memory too (see `networks.ModuleNetwork`).
    A `networks.Network`, such as `build_network` makes, stays as it is.

    Args:
        module: copied; the copy is in eval mode, float32, on the CPU.
        game: key of `games.GAMES`.
        preprocessing: name of a style, or one of your own.
        settings: fields of `EnvironmentSettings` that differ from its defaults.
        name: shown in figures.

    Warns:
        UserWarning: if the module divides its observation by 255: preprocessing has done so.

    Raises:
        ValueError: if a trial call does not return what is described above.

    Example:
        >>> agent = agent_from_module(my_network, game="pong", preprocessing="area84-stack4")
        >>> trajectory = rollout(agent, max_steps=100)
    """
    style = as_style(preprocessing)
    network = copy.deepcopy(module)
    if not isinstance(network, Network):
        network = ModuleNetwork(network, style.shape)
    network = network.cpu().float().eval().requires_grad_(False)
    num_actions = _trial_call(network)
    settings = {**action_set(game, num_actions), **(settings or {})}
    architecture = network.architecture or type(module).__name__
    return join_parts(name, game, network, style, settings, {"architecture": architecture})


def join_parts(
    name: str, game: str, network: Network, style: Preprocessing, settings: dict, facts: dict
) -> Agent:
    """Check that the parts of an agent belong together, and join them."""
    known = {field.name for field in fields(EnvironmentSettings)} - {"game"}
    if unknown := set(settings) - known:
        raise ValueError(
            f"agent {name!r} has unknown environment settings {sorted(unknown)}; "
            f"known are {sorted(known)}"
        )
    if style.shape != tuple(network.observation_shape):
        raise ValueError(
            f"agent {name!r}: its network reads {list(network.observation_shape)}, but "
            f"preprocessing {style.name!r} makes {list(style.shape)}"
        )
    settings = EnvironmentSettings(game, **settings)
    meanings = list(action_meanings(game, settings.full_action_space))
    facts = facts | {"game": settings.game, "preprocessing": style.name}
    return Agent(name, settings.game, network, style, settings, meanings, facts)


def as_style(style: str | Preprocessing) -> Preprocessing:
    """Return the preprocessing of a name; one of your own stays as it is."""
    return preprocessing(style) if isinstance(style, str) else style


class _DivisionsBy255(TorchDispatchMode):
    """Count the divisions by 255 of tensors that have as many numbers as the observation.

    Outputs alone cannot show such a division: a network without biases answers a darker screen
    with smaller logits, whether or not it divides.
    """

    SCALES = {"aten::div": 255.0, "aten::mul": 1 / 255}  # noqa: RUF012  a constant

    def __init__(self, numbers: int):
        super().__init__()
        self.numbers, self.found = numbers, 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        """Run one operation of torch, after a look at what it scales by how much."""
        scale = self.SCALES.get(operation.name().split(".")[0].removesuffix("_"))
        if scale and args[0].numel() == self.numbers and _is_number(args[1]):
            self.found += math.isclose(float(args[1]), scale, rel_tol=1e-3)
        return operation(*args, **(kwargs or {}))


def _is_number(value) -> bool:
    return isinstance(value, int | float) or value.numel() == 1


def _trial_call(network: Network) -> int:
    """Call the network on two black screens; return the number of actions."""
    observation = torch.zeros(2, *network.observation_shape)
    memory = torch.zeros(2, *network.memory_shape)
    with torch.no_grad(), _DivisionsBy255(observation.numel()) as divisions:
        action_logits, value, after = network(observation, memory)
    if divisions.found:
        warnings.warn(
            "the module divides its observation by 255, but observations are in [0, 1] already: "
            "it sees an almost black screen. Remove the division",
            UserWarning,
            stacklevel=3,
        )
    got = [None if x is None else list(x.shape) for x in (action_logits, value, after)]
    expected = [[2, got[0][-1]], got[1] and [2], list(memory.shape)]
    if got != expected:
        raise ValueError(
            f"the module returned logits, value and memory of shapes {got}, expected "
            f"[2, A], [2] or None, and {expected[2]} for a batch of 2"
        )
    return got[0][-1]
