"""Networks by name: the one table of the networks that are built, saved and loaded.

To add a network, write a class that follows `networks.Network` and enter it in `NETWORKS`. Its
constructor takes the number of actions first; everything else has a default. From then on
`build_network` makes it, `save_agent` writes its name (the row's `architecture`, and those of its
arguments that differ from the defaults as `architecture_arguments`) and `load_agent` reads it.

For training: make the network with `initialise(build_network(architecture, num_actions,
**arguments), seed)`, keep `describe(network)` in the settings of the run, and make the network of
a checkpoint with `load_network(architecture, num_actions, state, arguments)`.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from functools import partial
from types import MappingProxyType

import torch
from torch import Tensor, nn

from atarilens.agents.attention import AttentionNetwork
from atarilens.agents.networks import NatureNetwork, Network, RecurrentActorCritic

NONE = MappingProxyType({})
# What constructors raise for arguments that make no network.
BUILD_ERRORS = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
REGION_SENSITIVE = {
    "hidden": 512,
    "kernel": 1,
    "activation": "elu",
    "weighing": "softmax",
    "maps": 2,
    "unit_length": True,
}
NETWORKS: dict[str, Callable[..., Network]] = {
    "lstm": partial(RecurrentActorCritic, cell="lstm"),
    "gru": partial(RecurrentActorCritic, cell="gru"),
    "nature": NatureNetwork,
    "nature-lstm": partial(NatureNetwork, lstm_units=128),
    "nature-q": partial(NatureNetwork, critic=False),
    "nature-lstm-q": partial(NatureNetwork, lstm_units=128, critic=False),
    "nature-qr": partial(NatureNetwork, critic=False, quantiles=200),
    "sparse-fls": AttentionNetwork,
    "sparse-fls-pool": partial(AttentionNetwork, sum_pool=True),
    "sparse-fls-norm": partial(AttentionNetwork, weighing="sum-to-one"),
    "sparse-fls-1x1": partial(AttentionNetwork, kernel=1),
    "sparse-fls-softplus2": partial(AttentionNetwork, weighing="softplus2"),
    "sparse-fls-norelu": partial(AttentionNetwork, last_relu=False),
    "sparse-fls-norelu-pool": partial(AttentionNetwork, last_relu=False, sum_pool=True),
    "sparse-fls-first": partial(AttentionNetwork, after=(1,)),
    "sparse-fls-each": partial(AttentionNetwork, after=(1, 2, 3)),
    "dense-fls": partial(AttentionNetwork, trunk="dense", sum_pool=True),
    "dense-fls-norelu": partial(AttentionNetwork, trunk="dense", sum_pool=True, last_relu=False),
    "daqn": partial(
        AttentionNetwork, kernel=1, activation="tanh", weighing="softmax", sum_pool=True
    ),
    "rs-ppo": partial(AttentionNetwork, **REGION_SENSITIVE, border=1),
    "rs-ppo-nopad": partial(AttentionNetwork, **REGION_SENSITIVE),
}


def build_network(architecture: str, num_actions: int, **arguments) -> Network:
    """Build a network by its name; its parameters are torch's own draws (see `initialise`).

    Args:
        architecture: key of `NETWORKS`.
        num_actions: A.
        **arguments: of the network's constructor, where other than its defaults are wanted.

    Raises:
        ValueError: for an unknown name or argument, or arguments that make no network.

    Example:
        >>> network = build_network("nature", num_actions=4, hidden_units=128)
    """
    _check_names(architecture, arguments)
    arguments = {name: _plain(value) for name, value in arguments.items()}
    try:
        network = NETWORKS[architecture](num_actions, **arguments)
    except BUILD_ERRORS as error:
        raise ValueError(
            f"network {architecture!r} cannot be built with {num_actions} actions and the "
            f"arguments {arguments}: {str(error)[:200]}"
        ) from error
    network.architecture, network.arguments = architecture, arguments
    network.num_actions = num_actions
    return network


def describe(network: nn.Module) -> tuple[str, dict]:
    """Return the architecture of a network and its arguments that differ from the defaults.

    Raises:
        ValueError: if the registry would not build this network from them.
    """
    architecture = getattr(network, "architecture", None)
    if not isinstance(network, Network) or architecture not in NETWORKS:
        raise ValueError(
            f"a network of class {type(network).__name__} is not in the registry: enter its class "
            "in atarilens.agents.registry.NETWORKS and make it with build_network"
        )
    defaults = _defaults(architecture)
    changed = {
        name: value
        for name, value in network.arguments.items()
        if name not in defaults or value != defaults[name]
    }
    with torch.device("meta"):
        expected = build_network(architecture, network.num_actions, **changed).state_dict()
    try:
        check_shapes(network.state_dict(), expected)
    except ValueError as error:
        raise ValueError(f"the network is no longer {architecture!r} {changed}: {error}") from error
    return architecture, changed


def load_network(
    architecture: str, num_actions: int, state: Mapping[str, Tensor], arguments: Mapping = NONE
) -> Network:
    """Build a network by its name and give it the parameters of a state dict.

    Every shape is checked before memory is taken, so that arguments from a file are safe. torch's
    random state is left as it was.

    Args:
        architecture: key of `NETWORKS`.
        num_actions: A.
        state: parameters by name, floating-point numbers.
        arguments: of the constructor, see `build_network`.

    Returns:
        The network: eval mode, float32, on the CPU, without gradients.

    Raises:
        ValueError: as `build_network`, or naming the first parameter that does not fit.
    """
    _check_names(architecture, arguments)
    with torch.device("meta"):
        expected = build_network(architecture, num_actions, **arguments).state_dict()
    check_shapes(state, expected)
    with torch.random.fork_rng(devices=[]):
        network = build_network(architecture, num_actions, **arguments)
    network.load_state_dict(state)
    return network.float().eval().requires_grad_(False)


def check_shapes(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Require the names and shapes of a state dict.

    Raises:
        ValueError: naming what is missing, unexpected or of another shape.
    """
    if state.keys() != expected.keys():
        missing, extra = expected.keys() - state.keys(), state.keys() - expected.keys()
        raise ValueError(
            f"a network with missing parameters {some(missing)}, unexpected {some(extra)}"
        )
    for name, value in expected.items():
        if state[name].shape != value.shape:
            raise ValueError(
                f"parameter {name} has shape {list(state[name].shape)}, "
                f"expected {list(value.shape)}"
            )


def some(names: Iterable[str]) -> str:
    """Name at most four of the names, shortened, and say how many there are."""
    names = sorted(names)
    shown = ", ".join(name[:60] for name in names[:4])
    return (shown + (f" … ({len(names)})" if len(names) > 4 else "")) or "none"


def _defaults(architecture: str) -> dict:
    """Return what a network's constructor takes beside the number of actions, with defaults."""
    if architecture not in NETWORKS:
        near = get_close_matches(str(architecture), NETWORKS, n=3)
        raise ValueError(
            f"unknown network {architecture!r}{f', did you mean {near[0]}?' if near else '.'} "
            f"Known are {', '.join(NETWORKS)}"
        )
    _, *rest = inspect.signature(NETWORKS[architecture]).parameters.values()
    return {parameter.name: parameter.default for parameter in rest}


def _check_names(architecture: str, arguments: Mapping) -> None:
    """Require arguments that the constructor of a network takes."""
    known = _defaults(architecture)
    if unknown := [str(name) for name in arguments if name not in known]:
        raise ValueError(
            f"network {architecture!r} has no argument {', '.join(sorted(unknown))}; "
            + (f"known are {', '.join(known)}" if known else "it takes none")
        )


def _plain(value):
    """Return lists, as a YAML file has them, as tuples."""
    return tuple(value) if isinstance(value, list) else value
