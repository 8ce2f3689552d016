"""How new a synthesised state is: how many of its pixels the nearest known state does not have.

Source: Rupprecht, Ibrahim and Pal (2020), section "Experiments", Table 2.
"""

from dataclasses import dataclass

import numpy as np

DIFFERENT = 0.25  # relative difference from which on a pixel counts as another
DARKEST = 8 / 255  # grey level below which differences are taken relative to this level
THRESHOLDS = np.arange(0.1, 0.8, 0.1)


@dataclass(frozen=True)
class Novelty:
    """How far n states are from the known states.

    Attributes:
        nearest: `[n]` int, the known state with the smallest mean squared difference.
        changed: `[n]` float64 in [0, 1], share of the pixels that differ from that state.
    """

    nearest: np.ndarray
    changed: np.ndarray

    def survival(self) -> np.ndarray:
        """Return the share of the states `[7]` with over 10 %, 20 %, ... 70 % changed pixels."""
        return (self.changed[:, None] > THRESHOLDS).mean(0)


def novelty(states: np.ndarray, known: np.ndarray) -> Novelty:
    """Compare states with the nearest of known states.

    A pixel differs if any of its channels does by more than 25 %. Deviation: the paper does not
    say relative to what. Here it is the known state's level, or 8 / 255 if that is darker, so that
    noise on a black background does not count.

    Args:
        states: `[n, C, H, W]` float in [0, 1].
        known: `[m, C, H, W]`, likewise.

    Raises:
        ValueError: if the shapes do not fit, or there are no known states.
    """
    if states.shape[1:] != known.shape[1:] or not len(known):
        raise ValueError(
            f"expected known states [m, {', '.join(map(str, states.shape[1:]))}] with m of 1 or "
            f"more, received {list(known.shape)}"
        )
    flat = [np.asarray(x, np.float32).reshape(len(x), -1) for x in (states, known)]
    squares = [(x * x).sum(1, dtype=np.float64) for x in flat]
    distances = squares[0][:, None] + squares[1][None] - 2.0 * (flat[0] @ flat[1].T)
    nearest = distances.argmin(1)
    closest = known[nearest]
    relative = np.abs(states - closest) / np.maximum(closest, DARKEST)
    return Novelty(nearest, (relative > DIFFERENT).any(1).mean((1, 2)))
