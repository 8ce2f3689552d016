"""Find an object in the pixels of synthesised states, which no RAM comes with."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch.nn import functional as F

PRESENT = 0.5  # share of its usual strength from which an object counts as seen
BEYOND = 4  # px around the places that the object has in real states


def find_object(
    states: np.ndarray,
    real: np.ndarray,
    boxes: Sequence[Mapping[str, np.ndarray]],
    name: str,
) -> tuple[np.ndarray, np.ndarray]:
    """Find where each state matches the mean picture of an object best.

    The mean picture is that of real states, whose RAM says where the object is, less their median
    state: this is template matching. A match of 1 is as strong as the mean picture itself.

    Args:
        states: `[n, C, H, W]` float32 in [0, 1]; the newest of stacked screens is searched.
        real: `[m, C, H, W]`, likewise.
        boxes: m dicts of `[k, 4]` (top, bottom, left, right) in state pixels, see
            `games.boxes_at`; the first box counts.
        name: of the object.

    Returns:
        `[n, 2]` float64, (top, left) in state pixels, NaN if the match is below `PRESENT`; and the
        match `[n]` float32. Only places near those of the real states are searched.

    Raises:
        ValueError: if no real state has the object whole.
    """
    real, states = real[:, -3:], states[:, -3:]
    background = np.median(real, axis=0)
    found = [(t, moment[name][0]) for t, moment in enumerate(boxes) if len(moment[name])]
    sizes = [(box[1] - box[0], box[3] - box[2]) for _, box in found]
    height, width = np.ceil(np.max(sizes, axis=0)).astype(int) if sizes else (0, 0)
    whole = [
        (t, int(box[0]), int(box[2]))
        for t, box in found
        if box[0] + height <= real.shape[2] and box[2] + width <= real.shape[3]
    ]
    if not whole:
        raise ValueError(f"none of the {len(real)} real states has a whole {name!r}")
    cuts = [real[t, :, y : y + height, x : x + width] for t, y, x in whole]
    usual = [background[:, y : y + height, x : x + width] for _, y, x in whole]
    picture = np.mean(np.subtract(cuts, usual), axis=0)
    surplus, kernel = torch.from_numpy(states - background), torch.from_numpy(picture)[None]
    match = F.conv2d(surplus, kernel)[:, 0] / kernel.square().sum()
    corners = np.array(whole)[:, 1:]
    (top, left), (bottom, right) = corners.min(0) - BEYOND, corners.max(0) + BEYOND + 1
    searched = torch.zeros(match.shape[1:], dtype=torch.bool)
    searched[max(top, 0) : bottom, max(left, 0) : right] = True
    strength, index = match.masked_fill(~searched, -torch.inf).flatten(1).max(1)
    places = np.stack(np.unravel_index(index.numpy(), match.shape[1:]), 1).astype(np.float64)
    places[strength.numpy() < PRESENT] = np.nan
    return places, strength.numpy()
