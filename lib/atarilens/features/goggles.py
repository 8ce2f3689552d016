"""Let an agent see reconstructions instead of screens, and count what survives them.

Source: Rupprecht, Ibrahim and Pal (2020), section "Experiments", Table 1 ("generator goggles").
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from atarilens.agents import Agent
from atarilens.features.states import StateModel, observations_of, states_of

RING = 2  # px around a box that stand for its background
SURVIVES = 0.5  # share of an object's contrast that must be left


def with_goggles(agent: Agent, model: StateModel) -> Agent:
    """Return the agent as it would be if a state model stood between the screen and its network.

    Everything that plays, scores or explains an agent works with it.

    Args:
        agent: not modified.
        model: of this agent.

    Raises:
        ValueError: if the model is of another agent.
    """
    model.require(agent)

    def see(screens: np.ndarray) -> np.ndarray:
        """Turn `[n, 210, 160, 3]` uint8 into `[n, H, W]` float32 by way of the model."""
        state = states_of(agent, screens)[-1:]
        rebuilt = torch.from_numpy(model.reconstruct(state))
        return observations_of(agent, rebuilt)[0].numpy()

    style = replace(agent.preprocessing, function=see)
    return replace(agent, name=f"{agent.name} with goggles", preprocessing=style)


def contrast_left(
    observations: np.ndarray,
    rebuilt: np.ndarray,
    boxes: Sequence[Mapping[str, np.ndarray]],
    name: str,
) -> np.ndarray:
    """Return which share of an object's contrast a reconstruction keeps, per observation.

    Contrast is the mean grey level in the object's box less that of the ring of 2 px around it.

    Args:
        observations: `[n, H, W]` in [0, 1].
        rebuilt: `[n, H, W]`, of the same moments.
        boxes: n dicts of `[m, 4]` (top, bottom, left, right) in observation pixels.
        name: of the object, of which the first box counts.

    Returns:
        `[n]` float64: 1 if all of it is left, 0 if nothing is; NaN where the object is absent or
        has no contrast in the first place. The object *survives* from `SURVIVES` on.
    """
    left = np.full(len(observations), np.nan)
    for t, moment in enumerate(boxes):
        if not len(moment[name]):
            continue
        before, after = (_contrast(image[t], moment[name][0]) for image in (observations, rebuilt))
        if abs(before) > 1e-3:
            left[t] = after / before
    return left


def _contrast(image: np.ndarray, box: np.ndarray) -> float:
    top, left = (int(np.floor(box[edge])) for edge in (0, 2))
    bottom, right = (int(np.ceil(box[edge])) for edge in (1, 3))
    inside = np.zeros(image.shape, bool)
    inside[top:bottom, left:right] = True
    around = np.zeros(image.shape, bool)
    rows = slice(max(top - RING, 0), bottom + RING)
    around[rows, max(left - RING, 0) : right + RING] = True
    ring = around & ~inside
    if not inside.any() or not ring.any():
        return 0.0
    return float(image[inside].mean() - image[ring].mean())
