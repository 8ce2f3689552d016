"""Hint bars of the overfit study: one grey bar per action, the hinted action's bar is bright."""

import numpy as np

HINT_ROWS = slice(37, 41)  # px of the screen; top of the play field
HINT_LEFT, HINT_SPACING = 72, 5  # px: bar i is the one column 72 + 5 i
HINT_ON, HINT_OFF = 250, 50  # grey levels


def draw_hint(screen: np.ndarray, action: int, num_actions: int) -> np.ndarray:
    """Draw one grey bar per action at the top of the play field; the hinted action's is bright.

    Bars are 4 rows by 1 column; Greydanus et al. (2018), section 4.4, geometry of their code.

    Args:
        screen: `[210, 160, 3]` uint8; not modified.
        action: index of the bright bar, 0 <= action < num_actions.
        num_actions: number of bars.

    Returns:
        `[210, 160, 3]` uint8, a new array.
    """
    hinted = screen.copy()
    for index in range(num_actions):
        column = HINT_LEFT + HINT_SPACING * index
        hinted[HINT_ROWS, column] = HINT_ON if index == action else HINT_OFF
    return hinted


def hint_box(num_actions: int) -> np.ndarray:
    """Return the box `[1, 4]` float64 that holds all bars: px (top, bottom, left, right)."""
    right = HINT_LEFT + HINT_SPACING * (num_actions - 1) + 1
    return np.array([[HINT_ROWS.start, HINT_ROWS.stop, HINT_LEFT, right]], np.float64)
