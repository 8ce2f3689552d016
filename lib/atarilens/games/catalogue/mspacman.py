"""Ms. Pac-Man. What the cells mean was found in play by chance in the first maze."""

import numpy as np

from atarilens.games.record import Box, Event, Game, Unit, at_once, cut

MAZE = (1, 172, 0, 160)  # px rows and columns of the maze
HEIGHT, WIDTH = 10, 8  # px, of a ghost and of Ms. Pac-Man
ABOVE, BESIDE = 1, 12  # px: a sprite is drawn that much below and to the left of its cells
GHOSTS = 4  # orange, cyan, pink and red, in the order of their cells
STATES, GHOSTS_X, GHOSTS_Y = 1, 6, 12  # first addresses of four cells each
EDIBLE = 128  # bit of a ghost's state after a power pill
POWER_PILLS = {  # bit of cell 117 -> box; pills are 4 px wide and blink
    4: (146, 153, 148, 152),
    8: (14, 21, 148, 152),
    16: (146, 153, 8, 12),
    32: (14, 21, 8, 12),
}


def _sprite(x: int, y: int) -> Box:
    top, left = int(y) + ABOVE, int(x) - BESIDE
    return top, top + HEIGHT, left, left + WIDTH


def ghost_box(ram: np.ndarray, unit: Unit) -> Box:
    """Return the box of a ghost: (0,) orange, (1,) cyan, (2,) pink, (3,) red."""
    return _sprite(ram[GHOSTS_X + unit[0]], ram[GHOSTS_Y + unit[0]])


def is_edible(ram: np.ndarray, unit: Unit) -> bool:
    """Return whether a ghost is blue, because Ms. Pac-Man has eaten a power pill."""
    return bool(ram[STATES + unit[0]] & EDIBLE)


def boxes(ram: np.ndarray) -> dict[str, list[Box]]:
    """Find pacman (the agent's), ghosts that kill, blue ghosts, fruit and power pills.

    The RAM is one frame ahead of the screen: a box is up to 3 px ahead of its sprite. The console
    draws one ghost per line and frame, so ghosts side by side blink: a box says where a ghost is,
    even on a screen that does not show it.
    """
    ghosts = {True: [], False: []}
    for ghost in range(GHOSTS):
        ghosts[is_edible(ram, (ghost,))].append(ghost_box(ram, (ghost,)))
    fruit = [_sprite(ram[11], ram[17])] if ram[11] and ram[17] else []
    return {
        "pacman": cut([_sprite(ram[10], ram[16])], *MAZE),
        "ghosts": cut(ghosts[False], *MAZE),
        "blue_ghosts": cut(ghosts[True], *MAZE),
        "fruit": cut(fruit, *MAZE),
        "power_pills": [box for bit, box in POWER_PILLS.items() if ram[117] & bit],
    }


def lives_lost(ram: np.ndarray, rewards: np.ndarray, episode: np.ndarray) -> np.ndarray:
    """Find the steps after which a ghost has caught Ms. Pac-Man: `[n]` int.

    The last life of a game is not among them: the game ends without another step.
    """
    lives = (ram[:, 123] & 7).astype(int)
    same = np.asarray(episode)[1:] == np.asarray(episode)[:-1]
    return np.flatnonzero((np.diff(lives) == -1) & same)


def eaten(ram: np.ndarray, rewards: np.ndarray, episode: np.ndarray) -> np.ndarray:
    """Find the steps after which points follow: a dot, a pill, a fruit or a ghost; `[n]` int."""
    return np.flatnonzero(np.asarray(rewards) > 0)


MS_PACMAN = Game(
    "mspacman",
    "Ms. Pac-Man",
    "ms_pacman",
    random_score=307.3,
    human_score=15693.0,
    cells={
        "ghost_states": ((1, 2, 3, 4), "bit 7: blue; orange, cyan, pink, red"),
        "ghosts_x": ((6, 7, 8, 9), "left edge, px + 12, in the order of the states"),
        "pacman_x": ((10,), "left edge, px + 12"),
        "fruit_x": ((11,), "left edge, px + 12; 0: none"),
        "ghosts_y": ((12, 13, 14, 15), "top edge, px - 1, in the order of the states"),
        "pacman_y": ((16,), "top edge, px - 1"),
        "fruit_y": ((17,), "top edge, px - 1; 0: none"),
        "blue_time": ((116,), "steps of 8 frames until the ghosts kill again"),
        "power_pills": ((117,), "bits 4, 8, 16, 32: lower right, upper right, lower left, left"),
        "dots_eaten": ((119,), "in this maze"),
        "lives": ((123,), "low three bits: lives left after this one"),
    },
    boxes=boxes,
    player="pacman",
    events={
        "life_lost": Event("a ghost catches Ms. Pac-Man", at_once(lives_lost)),
        "eaten": Event("Ms. Pac-Man eats", at_once(eaten)),
    },
    decisive="life_lost",
    contact="eaten",
)
