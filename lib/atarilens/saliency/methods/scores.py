"""What a map of one action explains: a score of that action, and the value beside it."""

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from atarilens.saliency.calling import call_network, network_outputs
from atarilens.saliency.maps import SaliencyMaps

OUTPUTS = ("logit", "probability", "advantage")
SIGNS = ("absolute", "positive", "signed")
BASELINES = ("background", "black", "blur", "noise")


def likeliest_actions(network, observation, memory, action) -> np.ndarray:
    """Return the action to explain at each of T decisions, `[T]` int64.

    Args:
        network: see `atarilens.saliency`.
        observation: `[T, C, H, W]` float32.
        memory: `[T, k, M]` float32.
        action: an index, `[T]` indices, or None for the likeliest action of each decision.

    Raises:
        ValueError: if an index is not one of the network's actions.
    """
    logits, _ = network_outputs(network, observation, memory)
    if action is None:
        return logits.argmax(1)
    actions = np.asarray(action)
    if actions.shape not in ((), (len(logits),)) or not np.issubdtype(actions.dtype, np.integer):
        raise ValueError(f"action is {action!r}, expected an index or {len(logits)} indices")
    if actions.min() < 0 or actions.max() >= logits.shape[1]:
        raise ValueError(f"action is {action!r}, expected indices from 0 to {logits.shape[1] - 1}")
    return np.broadcast_to(actions, len(logits)).astype(np.int64)


def score_function(network, memory, action: int, output: str = "logit"):
    """Return what methods explain: observations `[B, C, H, W]` -> scores `[B, 1 or 2]`.

    Column 0 is the score of the action, column 1 the value, if the network has one.

    Args:
        network: see `atarilens.saliency`.
        memory: `[1, k, M]`, entering the step; the same for all B observations.
        action: index of the action.
        output: "logit" (the Q-value of a Q-network), "probability" (its softmax), or "advantage"
            (the logit minus the mean of all logits, which no common change of them moves).

    Raises:
        ValueError: if the output is none of these.
    """
    if output not in OUTPUTS:
        raise ValueError(f"output is {output!r}, expected one of {', '.join(OUTPUTS)}")

    def scores(shown):
        entering = memory.expand(len(shown), *memory.shape[1:])
        logits, value, _ = call_network(network, shown, entering)
        if output == "probability":
            logits = logits.softmax(1)
        elif output == "advantage":
            logits = logits - logits.mean(1, keepdim=True)
        # A network that ignores its input then has a gradient of zero instead of none.
        nothing = 0 * shown.flatten(1).sum(1)
        heads = [logits[:, action]] if value is None else [logits[:, action], value]
        return torch.stack([head + nothing for head in heads], 1)

    return scores


def baseline_image(observation, baseline="background", *, seed: int = 0) -> np.ndarray:
    """Return the image that stands for "nothing to see", of the shape of an observation.

    Args:
        observation: `[C, H, W]`.
        baseline: "background" (the median of each channel: the colour of an empty screen in
            Pong, black in most games), "black", "blur" (the observation under a Gaussian blur of
            3 px), "noise" (uniform in [0, 1]), a number, or an image `[C, H, W]`.
        seed: of the noise.

    Returns:
        `[C, H, W]` float32.

    Raises:
        ValueError: if the baseline is none of these.
    """
    observation = np.asarray(observation, np.float32)
    if isinstance(baseline, str):
        if baseline == "background":
            found = np.median(observation, axis=(1, 2), keepdims=True)
        elif baseline == "black":
            found = np.zeros(())
        elif baseline == "blur":
            found = gaussian_filter(observation, (0, 3.0, 3.0))
        elif baseline == "noise":
            found = np.random.default_rng(seed).random(observation.shape)
        else:
            raise ValueError(
                f"baseline is {baseline!r}, expected one of {', '.join(BASELINES)}, a number or "
                "an image"
            )
    else:
        found = np.asarray(baseline)
        if found.shape not in ((), observation.shape):
            raise ValueError(f"baseline has shape {found.shape}, expected {observation.shape}")
    return np.broadcast_to(found, observation.shape).astype(np.float32)


def collect(decisions, sign: str = "absolute") -> SaliencyMaps:
    """Make maps of signed attributions.

    Args:
        decisions: T lists, one array `[C, H, W]` per head (action, and value if there is one);
            `[1, H, W]` if the method does not tell channels apart.
        sign: "absolute" (how much a pixel matters), "positive" (only what speaks for the action,
            or raises the value), or "signed".

    Returns:
        Maps `[T, H, W]`, sums over channels; `actor_channels` and `critic_channels` hold the
        channels if there are several. Grids equal the maps.

    Raises:
        ValueError: if the sign is none of these.
    """
    if sign not in SIGNS:
        raise ValueError(f"sign is {sign!r}, expected one of {', '.join(SIGNS)}")
    clip = {"absolute": np.abs, "positive": lambda a: np.maximum(a, 0), "signed": np.asarray}[sign]
    heads = [clip(np.stack(head).astype(np.float32)) for head in zip(*decisions, strict=True)]
    actor, critic = [*heads, None][:2]
    maps = [None if head is None else head.sum(1) for head in (actor, critic)]
    return SaliencyMaps(*maps, *maps, *((actor, critic) if actor.shape[1] > 1 else ()))
