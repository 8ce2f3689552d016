"""Space Invaders."""

from typing import NamedTuple

import numpy as np

from atarilens.games.record import Box, Event, Game, Occurrences, cut

ALIENS_TOP, ALIEN_HEIGHT, ALIEN_WIDTH, ALIEN_ROW, ALIEN_COLUMN = 31, 10, 8, 18, 16  # px
SHIELD_TOP, SHIELD_SPACING = 157, 32  # px
SHIP_CLOCK, SHIP_BLINK = 128, 8  # frames: of an explosion, and of a flash of the new ship
GROUND = 195  # px, first row below the play field
LASER_LOWEST = 95  # laser_y; larger values mean that there is no shot in the air


class Shots(NamedTuple):
    """Shots that hit an alien.

    Attributes:
        fired: `[n]` int, the decision after which the shot left the ship.
        impact: `[n]` int, the last decision before the shot hit; its reward follows here.
    """

    fired: np.ndarray
    impact: np.ndarray


def aliens(ram: np.ndarray) -> np.ndarray:
    """Return which aliens live: `[..., 6, 6]` bool, top left first.

    Args:
        ram: `[..., 128]` uint8.
    """
    rows = np.asarray(ram)[..., 23:17:-1].astype(np.int64)
    return (rows[..., None] >> np.arange(6) & 1).astype(bool)


def boxes(ram: np.ndarray) -> dict[str, list[Box]]:
    """Find ship, aliens (one box each), shields (what is left of each), laser (the ship's), bombs.

    The ship has no box while it explodes, and while it is dark: a new ship blinks. The console
    draws laser and bombs in turn, every other frame, so their boxes cover the places of two frames.
    """
    top, left, ship = ALIENS_TOP + 2 * int(ram[16]), int(ram[26]) - 1, int(ram[28]) - 1
    shields = []
    for k in range(3):
        bits = np.unpackbits(ram[43 + 9 * k : 52 + 9 * k][:, None], axis=1)  # [9 pairs of rows, 8]
        rows, columns = np.flatnonzero(bits.any(1)), np.flatnonzero(bits.any(0))
        if rows.size:
            x = int(ram[27]) - 1 + SHIELD_SPACING * k
            edges = SHIELD_TOP + 2 * rows[0], SHIELD_TOP + 2 * rows[-1] + 2
            shields.append((*edges, x + columns[0], x + columns[-1] + 1))
    # The clock is a frame ahead of the picture: an explosion at 128 still shows the ship. So does,
    # at the end of each flash, a screen that is the maximum of two frames.
    drawn = {1: ram[74] & SHIP_BLINK, 4: ram[74] == SHIP_CLOCK}.get(int(ram[42]), True)
    laser_y, laser_x = 2 * int(ram[85]) + 4, int(ram[87]) - 2
    bombs = [(2 * int(ram[81 + i]) + 4, int(ram[83 + i]) - 2) for i in range(2)]
    found = {
        "ship": [(185, 195, ship, ship + 7)] if drawn else [],
        "aliens": [
            (top + i, top + i + ALIEN_HEIGHT, left + j, left + j + ALIEN_WIDTH)
            for i, j in np.argwhere(aliens(ram)) * (ALIEN_ROW, ALIEN_COLUMN)
        ],
        "shields": shields,
        "laser": [(laser_y - 1, laser_y + 12, laser_x, laser_x + 1)],  # 8 rows, in two frames
        "bombs": [(y - 3, y + 9, x, x + 1) for y, x in bombs],
    }
    return {kind: cut(places, 0, GROUND) for kind, places in found.items()}


def hits_on_aliens(ram: np.ndarray, rewards: np.ndarray, episode: np.ndarray) -> Shots:
    """Find all shots of the ship that hit an alien.

    A shot begins when the ship's missile appears (or appears anew, lower than it was). It hits when
    exactly one alien is gone at the next step, points follow, and it is the latest shot.

    Args:
        ram: `[T, 128]` uint8.
        rewards: `[T]`, the reward that followed each step.
        episode: `[T]` int.
    """
    height = ram[:, 85].astype(np.int64)
    flies = height <= LASER_LOWEST
    same = episode[1:] == episode[:-1]
    appears = flies[1:] & (~flies[:-1] | (height[1:] > height[:-1])) & same
    alive = aliens(ram).sum((1, 2))
    dies = (alive[1:] == alive[:-1] - 1) & (np.asarray(rewards)[:-1] > 0) & flies[:-1] & same
    fired, impact = np.flatnonzero(appears), np.flatnonzero(dies)
    latest = np.searchsorted(fired, impact) - 1  # the last shot fired before the impact
    known = latest >= 0
    fired, impact = fired[latest[known]], impact[known]
    whole = episode[fired] == episode[impact]
    return Shots(fired[whole], impact[whole])


def aimed_shots(ram: np.ndarray, rewards: np.ndarray, episode: np.ndarray) -> Shots:
    """Find the shots whose alien moved between the firing and the impact.

    The ship fired such a shot to the place where the alien was going to be. The rule: the block of
    aliens is elsewhere at the impact than at the decision that fired.

    Args:
        ram: `[T, 128]` uint8.
        rewards: `[T]`, the reward that followed each step.
        episode: `[T]` int.
    """
    shots = hits_on_aliens(ram, rewards, episode)
    block = ram[:, [16, 26]]
    moved = (block[shots.fired] != block[shots.impact]).any(-1)
    return Shots(shots.fired[moved], shots.impact[moved])


def target(ram: np.ndarray, t: int, impact: int) -> np.ndarray:
    """Return the box `[1, 4]` at step t of the alien that the shot is going to hit.

    Args:
        ram: `[T, 128]` uint8.
        t: the alien lives from here to the impact.
        impact: of `Shots`.
    """
    struck = int((aliens(ram[impact]) & ~aliens(ram[impact + 1])).argmax())
    index = aliens(ram[t]).ravel()[:struck].sum()  # boxes are those of the living, in order
    return np.array(boxes(ram[t])["aliens"][index : index + 1], np.float64).reshape(-1, 4)


SPACE_INVADERS = Game(
    "spaceinvaders",
    "Space Invaders",
    "space_invaders",
    random_score=148.0,
    human_score=1652.0,
    cells={
        "aliens_y": ((16,), "top of the block of aliens, 2 px each, from px 31"),
        "aliens": (tuple(range(18, 24)), "rows, bottom first; bit j: column j from the left"),
        "aliens_x": ((26,), "left edge of alien column 0, px + 1"),
        "shields_x": ((27,), "left edge of the first shield, px + 1"),
        "ship_x": ((28,), "left edge of the ship, px + 1"),
        "ship_state": ((42,), "1: it is new and blinks; 4: it explodes; 0, 8: neither"),
        "shields": (tuple(range(43, 70)), "3 shields of 9 bytes, top first, a byte per 2 px"),
        "ship_clock": ((74,), "frames left in ship_state 1, 4 or 8"),
        "bombs_y": ((81, 82), "2 px each, from px 4; above 95: none"),
        "bombs_x": ((83, 84), "px + 2"),
        "laser_y": ((85,), "of the ship's shot, 2 px each, from px 4; above 95: none"),
        "laser_x": ((87,), "px + 2"),
    },
    boxes=boxes,
    player="ship",
    events={
        "aimed_shot": Event(
            "shot at an alien that moved before the impact",
            lambda ram, rewards, episode: Occurrences(*aimed_shots(ram, rewards, episode)),
            target,
        ),
        "alien_hit": Event(
            "shot hits alien",
            lambda ram, rewards, episode: Occurrences(*hits_on_aliens(ram, rewards, episode)),
            target,
        ),
    },
    decisive="aimed_shot",
    contact="alien_hit",
)
