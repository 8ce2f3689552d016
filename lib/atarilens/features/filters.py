"""First-layer filters of networks that stack screens: which of the screens they weigh most.

Source: Such et al. (2019), "An Atari Model Zoo", section "Convolutional Filter Analysis", which
compares the weights that filters give to the present screen and to the three before it.
"""

import numpy as np


def temporal_lean(weight: np.ndarray, power: int = 2) -> np.ndarray:
    """Return the mean |weight|^power of each stacked screen over that of the newest screen.

    1 for every screen says that filters weigh all screens alike, as an untrained network's do.
    Less than 1 for the older ones says that they lean to the present.

    Args:
        weight: `[K, C, kh, kw]`, of the first convolution, or a change of it; C screens, oldest
            first.
        power: 2 as the original code has it, 1 as the paper's text has it.

    Returns:
        `[C]` float64; the last is 1. NaN if the newest screen has no weight at all.
    """
    magnitude = (np.abs(np.asarray(weight, np.float64)) ** power).mean((0, 2, 3))
    newest = magnitude[-1]
    return magnitude / newest if newest > 0 else np.full(len(magnitude), np.nan)


def past_share(weight: np.ndarray, power: int = 2) -> float:
    """Return the mean lean of the older screens: 1 without a lean, less if the present dominates.

    Args:
        weight: see `temporal_lean`.
        power: likewise.
    """
    return float(temporal_lean(weight, power)[:-1].mean())


def strongest_filters(weight: np.ndarray, count: int) -> np.ndarray:
    """Return the indices of the filters of largest norm, the largest first."""
    norms = (np.asarray(weight, np.float64) ** 2).sum((1, 2, 3))
    return np.argsort(-norms, kind="stable")[:count]
