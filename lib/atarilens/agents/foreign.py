"""Build networks of the registry from other people's checkpoints, and say what is known of them.

A network is recognised by the names and shapes of its parameters, so the name of the file says
nothing. A state dict does not say what its agent was trained to read, nor under which settings:
`FAMILIES` states both for each origin, and `load_agent` takes others.

Q-networks: the action logits are the Q-values and the value is their maximum; play them greedily.
Deviation: the wrappers of Stable-Baselines3 and CleanRL press FIRE whenever a life starts; the
environment here leaves that to the agent, which in Breakout may have to draw it by chance.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from atarilens.agents.networks import Network
from atarilens.agents.registry import load_network, some
from atarilens.agents.weights import ACCEPTED, REMEDY, read_weights
from atarilens.games.emulators import MAX_ACTIONS, action_set

NATURE_LAYERS = {  # names in the file -> names in `NatureNetwork`
    "stable-baselines3": {
        "features_extractor.cnn.0": "conv1",
        "features_extractor.cnn.2": "conv2",
        "features_extractor.cnn.4": "conv3",
        "features_extractor.linear.0": "linear",
        "action_net": "actor_linear",
        "value_net": "critic_linear",
    },
    "stable-baselines3-dqn": {
        "q_net.features_extractor.cnn.0": "conv1",
        "q_net.features_extractor.cnn.2": "conv2",
        "q_net.features_extractor.cnn.4": "conv3",
        "q_net.features_extractor.linear.0": "linear",
        "q_net.q_net.0": "actor_linear",
    },
    "cleanrl": {
        "network.0": "conv1",
        "network.2": "conv2",
        "network.4": "conv3",
        "network.7": "linear",
        "network.9": "actor_linear",  # dqn_atari
        "actor": "actor_linear",
        "critic": "critic_linear",
        "lstm": "lstm",
    },
}
BABY_A3C_LAYERS = {"val_func": "critic_linear", "pol_func": "actor_linear"}  # names until 2017
# Sides of the last convolution -> side of a square observation; channels -> its preprocessing.
NATURE_SIDES = {7: 84, 6: 80}
NATURE_PREPROCESSING = {(4, 84): "area84-stack4", (1, 84): "area84", (1, 80): "luma80"}


@dataclass(frozen=True)
class Family:
    """The facts that all checkpoints of one origin share.

    Attributes:
        origin: whose code trained them.
        preprocessing: name of a style; None if the network's shape decides.
        settings: fields of `EnvironmentSettings` that differ from its defaults.
    """

    origin: str
    preprocessing: str | None
    settings: dict


FAMILIES = {
    "baby-a3c": Family(
        "greydanus/baby-a3c", "baby-a3c", {"frame_skip": [2, 5], "max_pool": False, "noop_max": 0}
    ),
    "stable-baselines3": Family("Stable-Baselines3", None, {}),
    "stable-baselines3-dqn": Family("Stable-Baselines3", None, {}),
    "cleanrl": Family("CleanRL", None, {}),
    "atarilens": Family("atarilens", None, {}),
}


def import_checkpoint(path: str | Path, game: str | None = None) -> tuple[Network, dict]:
    """Build the network that a checkpoint holds the weights of. No code in the file is run.

    Args:
        path: of a checkpoint; see `weights.ACCEPTED` for the formats.
        game: if given, the number of actions is checked against it.

    Returns:
        The network (eval mode, float32), and facts: "architecture", "architecture_arguments",
        "num_actions", "preprocessing" (a name), "settings" (a dict for `EnvironmentSettings`),
        "origin", and "training_steps", "seed", "algorithm" if the file tells them.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming the path, what was found, what is accepted, and what works instead.
    """
    arrays, told = read_weights(path)
    ours = told.pop("container") == "safetensors"
    try:
        network, facts = network_from_state_dict(arrays, ours=ours)
    except ValueError as error:
        raise ValueError(f"{path}: {error}; accepted are {ACCEPTED}. {REMEDY}") from error
    facts |= told
    if game is not None:
        try:
            facts["settings"] |= action_set(game, facts["num_actions"])
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
    return network, facts


def network_from_state_dict(
    state: Mapping[str, np.ndarray | torch.Tensor], *, ours: bool = False
) -> tuple[Network, dict]:
    """Build the network that these parameters belong to, recognised by their names and shapes.

    Args:
        state: parameters by name, as in a checkpoint, or of a live policy (`policy.state_dict()`).
        ours: whether a state dict of the paper's network is one of atarilens, not of baby-a3c:
            their names are the same.

    Returns:
        As `import_checkpoint`.

    Raises:
        ValueError: naming what was found.
    """
    state = {name: torch.as_tensor(value).detach().cpu() for name, value in state.items()}
    if "conv4.weight" in state:
        recognise, family = _paper_network, "atarilens" if ours else "baby-a3c"
        state = _rename(state, BABY_A3C_LAYERS)
    elif "linear.weight" in state:
        recognise, family = _nature_network, "atarilens"
    else:
        layers = (family for family in NATURE_LAYERS if f"{_first(family)}.weight" in state)
        if (family := next(layers, None)) is None:
            raise ValueError(f"parameters of an unknown network: {some(state)}")
        recognise, state = _nature_network, _rename(_without_copies(state), NATURE_LAYERS[family])
    missing = {"conv1.weight", "actor_linear.weight"} - state.keys()
    if missing or state["actor_linear.weight"].ndim != 2:
        raise ValueError(f"a network without an actor: {some(state)}")
    if not 1 <= (num_actions := len(state["actor_linear.weight"])) <= MAX_ACTIONS:
        raise ValueError(f"a network of {num_actions} actions, more than {MAX_ACTIONS}")
    architecture, arguments, reads = recognise(state)
    network = load_network(architecture, num_actions, state, arguments)
    known = FAMILIES[family]
    return network, {
        "architecture": architecture,
        "architecture_arguments": arguments,
        "preprocessing": known.preprocessing or reads,
        "num_actions": num_actions,
        "settings": dict(known.settings),
        "origin": known.origin,
    }


def _paper_network(state: dict) -> tuple[str, dict, str]:
    """Return architecture, arguments and preprocessing of a network of the paper."""
    return "gru" if "gru.weight_ih" in state else "lstm", {}, "luma80"


def _nature_network(state: dict) -> tuple[str, dict, str]:
    """Return architecture, arguments and preprocessing of a Nature network."""
    channels = state["conv1.weight"].shape[1:2].numel()
    hidden_units, inputs = state.get("linear.weight", torch.zeros(0)).shape[:2] or (0, 0)
    side = NATURE_SIDES.get(int((inputs / 64) ** 0.5))
    if (channels, side) not in NATURE_PREPROCESSING:
        raise ValueError(
            f"a network that reads {channels} channels and has {inputs} inputs to its linear layer"
            f"; known (channels, side) are {sorted(NATURE_PREPROCESSING)}"
        )
    arguments = {"observation_shape": (channels, side, side), "hidden_units": hidden_units}
    if "lstm.weight_hh" in state:
        arguments["lstm_units"] = state["lstm.weight_hh"].shape[-1]
    critic = "critic_linear.weight" in state
    architecture = "nature" + "-lstm" * ("lstm_units" in arguments) + "-q" * (not critic)
    return architecture, arguments, NATURE_PREPROCESSING[channels, side]


def _without_copies(state: dict) -> dict:
    """Drop the copies that Stable-Baselines3 keeps: target network, extractor per head."""
    for head in ("pi_", "vf_"):
        for name in [name for name in state if name.startswith(f"{head}features_extractor.")]:
            if not torch.equal(state[name], state.get(name.removeprefix(head), torch.empty(0))):
                raise ValueError("a network whose actor and critic do not share their convolutions")
    copies = ("pi_features_extractor.", "vf_features_extractor.", "q_net_target.")
    return {name: value for name, value in state.items() if not name.startswith(copies)}


def _rename(state: dict, layers: dict[str, str]) -> dict:
    """Give layers our names; torch's LSTM numbers its layers, of which there is one."""
    renamed = {}
    for name, value in state.items():
        layer, _, parameter = name.rpartition(".")
        renamed[f"{layers.get(layer, layer)}.{parameter.removesuffix('_l0')}"] = value
    return renamed


def _first(family: str) -> str:
    return next(iter(NATURE_LAYERS[family]))
