"""Space Invaders."""

from typing import NamedTuple

import numpy as np

from atarilens.games.record import (
    Box,
    Change,
    Event,
    Game,
    Occurrences,
    Unit,
    at_once,
    cut,
    put,
    shift,
)

ALIENS_TOP, ALIEN_HEIGHT, ALIEN_WIDTH, ALIEN_ROW, ALIEN_COLUMN = 31, 10, 8, 18, 16  # px
SHIELD_TOP, SHIELD_SPACING = 157, 32  # px
SHIP_CLOCK, SHIP_BLINK = 128, 8  # frames: of an explosion, and of a flash of the new ship
GROUND = 195  # px, first row below the play field
MYSTERY_SHIP_TOP, MYSTERY_SHIP_BOTTOM, MYSTERY_SHIP_WIDTH = 12, 20, 7  # px
NO_MYSTERY_SHIP = 180  # mystery_ship_x while there is none
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


def mystery_ship(ram: np.ndarray, t: int, end: int) -> np.ndarray:
    """Return the box of the mystery ship at step t: `[1, 4]`, or `[0, 4]` while there is none.

    It is no object of `boxes`: it flies above the part of the screen that the networks read.

    Args:
        ram: `[T, 128]` uint8.
        t: the step.
        end: not read.
    """
    if ram[t, 30] == NO_MYSTERY_SHIP:
        return np.zeros((0, 4))
    left = float(ram[t, 30]) - 1
    box = (MYSTERY_SHIP_TOP, MYSTERY_SHIP_BOTTOM, left, left + MYSTERY_SHIP_WIDTH)
    return np.array(cut([box], 0, GROUND), np.float64).reshape(-1, 4)


def mystery_ships(ram: np.ndarray, rewards: np.ndarray, episode: np.ndarray) -> Occurrences:
    """Find the passages of the mystery ship, from its first to its last decision on the screen.

    A passage at whose last decision 200 points follow was ended by a hit.

    Args:
        ram: `[T, 128]` uint8.
        rewards: not read.
        episode: `[T]` int.
    """
    flies = np.concatenate([[False], ram[:, 30] != NO_MYSTERY_SHIP, [False]])
    new = np.concatenate([[True], np.diff(episode) != 0, [True]])
    start = np.flatnonzero(flies[1:] & (~flies[:-1] | new))
    end = np.flatnonzero(flies[:-1] & (~flies[1:] | new)) - 1
    return Occurrences(start, end)


def shots_fired(ram: np.ndarray, rewards: np.ndarray, episode: np.ndarray) -> np.ndarray:
    """Find the decisions after which a shot of the ship is new on the screen: `[n]` int.

    A shot is new if it appears, or appears lower than it was.

    Args:
        ram: `[T, 128]` uint8.
        rewards: not read.
        episode: `[T]` int.
    """
    height = ram[:, 85].astype(np.int64)
    flies = height <= LASER_LOWEST
    same = episode[1:] == episode[:-1]
    return np.flatnonzero(flies[1:] & (~flies[:-1] | (height[1:] > height[:-1])) & same)


def hits_on_aliens(ram: np.ndarray, rewards: np.ndarray, episode: np.ndarray) -> Shots:
    """Find all shots of the ship that hit an alien.

    A shot begins as in `shots_fired`. It hits when
    exactly one alien is gone at the next step, points follow, and it is the latest shot.

    Args:
        ram: `[T, 128]` uint8.
        rewards: `[T]`, the reward that followed each step.
        episode: `[T]` int.
    """
    flies = ram[:, 85] <= LASER_LOWEST
    same = episode[1:] == episode[:-1]
    alive = aliens(ram).sum((1, 2))
    dies = (alive[1:] == alive[:-1] - 1) & (np.asarray(rewards)[:-1] > 0) & flies[:-1] & same
    fired, impact = shots_fired(ram, rewards, episode), np.flatnonzero(dies)
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


def alien_box(ram: np.ndarray, unit: Unit) -> Box:
    """Return the box of the alien (row, column), whether it lives or not."""
    top = ALIENS_TOP + 2 * int(ram[16]) + ALIEN_ROW * unit[0]
    left = int(ram[26]) - 1 + ALIEN_COLUMN * unit[1]
    return top, top + ALIEN_HEIGHT, left, left + ALIEN_WIDTH


def next_hit(ram: np.ndarray, rewards: np.ndarray, episode: np.ndarray, t: int) -> Unit | None:
    """Return (row, column) of the alien that the shot which is in the air at t is going to hit."""
    shots = hits_on_aliens(ram, rewards, episode)
    flying = np.flatnonzero((shots.fired < t) & (t <= shots.impact))
    if not len(flying):
        return None
    impact = shots.impact[flying[0]]
    (unit,) = np.argwhere(aliens(ram[impact]) & ~aliens(ram[impact + 1]))
    return tuple(map(int, unit))


def _killed(ram: np.ndarray, amount: int, unit: Unit) -> dict[int, int]:
    row, column = unit
    return {23 - row: int(ram[23 - row]) & ~(1 << column), 17: int(ram[17]) - 1}


def _revived(ram: np.ndarray, amount: int, unit: Unit) -> dict[int, int]:
    row, column = unit
    return {23 - row: int(ram[23 - row]) | 1 << column, 17: int(ram[17]) + 1}


def _not_the_last(ram: np.ndarray, amount: int, unit: Unit) -> str:
    alive = aliens(ram)
    leftmost = int(np.flatnonzero(alive.any(0))[0])
    last = unit[1] == leftmost and alive[:, leftmost].sum() == 1
    return "the whole block would move: it is the last of the left column" if last else ""


def _ship_plays(ram: np.ndarray, amount: int, unit: Unit) -> str:
    inside = 38 <= int(ram[28]) + amount <= 120
    if ram[42] not in (0, 8):
        return "the ship explodes or is new"
    return "" if inside else "the ship would be outside of its field"


def _block_moves(ram: np.ndarray, amount: int, unit: Unit) -> str:
    columns = np.flatnonzero(aliens(ram).any(0))
    left = int(ram[26]) - 1 + amount + ALIEN_COLUMN * columns[[0, -1]]
    inside = len(columns) and left[0] >= 8 and left[1] + ALIEN_WIDTH <= 152
    return "" if inside else "the aliens would be outside of their field"


def _by_pairs(ram: np.ndarray, amount: int, unit: Unit) -> str:
    if amount % 2:
        return "the block moves down by pairs of rows"
    return "" if 0 <= int(ram[16]) + amount // 2 <= 40 else "the aliens would be out of the field"


def _shields_gone(ram: np.ndarray, amount: int, unit: Unit) -> dict[int, int]:
    return dict.fromkeys(range(43, 70), 0)


def _shields_there(ram: np.ndarray) -> list[Unit]:
    return [(k,) for k in range(3) if ram[43 + 9 * k : 52 + 9 * k].any()]


def shield_box(ram: np.ndarray, unit: Unit) -> Box:
    """Return the box of shield (0,), (1,) or (2,), as it is when it is whole."""
    left = int(ram[27]) - 1 + SHIELD_SPACING * unit[0]
    return SHIELD_TOP, SHIELD_TOP + 18, left, left + 8


RIGHT, LEFT = ("RIGHT",), ("LEFT",)
BLOCK = (16, 26)  # cells of the block's place: while it jumps, a change is not clean
CHANGES = {
    "ship_x": Change(
        *("ship", "move", shift(28), "x"),
        invalid=_ship_plays,
        meaning="the ship goes back",
        towards=(LEFT, RIGHT),
    ),
    "block_x": Change(
        *("aliens", "move", shift(26), "x"),
        still=BLOCK,
        invalid=_block_moves,
        meaning="the ship follows the aliens",
        towards=(RIGHT, LEFT),
    ),
    "block_y": Change(
        "aliens",
        "move",
        lambda ram, amount, unit: {16: int(ram[16]) + amount // 2},
        "y",
        still=BLOCK,
        invalid=_by_pairs,
        meaning="lower aliens are more dangerous: the value falls",
    ),
    "alien_gone": Change(
        *("aliens", "remove", _killed),
        still=BLOCK,
        invalid=_not_the_last,
        units=lambda ram: [tuple(map(int, at)) for at in np.argwhere(aliens(ram))],
        unit_box=alien_box,
        choose={"target": next_hit},
        meaning="there is one alien less to shoot",
    ),
    "alien_back": Change(
        *("aliens", "add", _revived),
        still=BLOCK,
        units=lambda ram: [tuple(map(int, at)) for at in np.argwhere(~aliens(ram))],
        unit_box=alien_box,
        meaning="there is one alien more to shoot",
    ),
    "shields_gone": Change(*("shields", "remove", _shields_gone), meaning="there is no cover"),
    "shield_gone": Change(
        "shields",
        "remove",
        lambda ram, amount, unit: dict.fromkeys(range(43 + 9 * unit[0], 52 + 9 * unit[0]), 0),
        units=_shields_there,
        unit_box=shield_box,
        meaning="there is less cover",
    ),
    "laser_gone": Change(
        *("laser", "remove", put(c85=128)), meaning="the ship can fire again at once"
    ),
    "bomb_gone": Change(
        "bombs",
        "remove",
        lambda ram, amount, unit: {81 + unit[0]: 100},
        units=lambda ram: [(b,) for b in range(2) if ram[81 + b] <= LASER_LOWEST],
        meaning="there is nothing to avoid",
    ),
}


def row_mates(ram: np.ndarray, t: int, impact: int, last: int) -> np.ndarray:
    """Return the boxes `[n, 4]` at step t of the other aliens in the row of the target.

    Args:
        ram: `[T, 128]` uint8.
        t: as for `target`.
        impact: of `Shots`.
        last: not read.
    """
    struck, found = target(ram, t, impact), np.array(boxes(ram[t])["aliens"], np.float64)
    found = found.reshape(-1, 4)
    return found[(found[:, 0] == struck[0, 0]) & (found[:, 2] != struck[0, 2])]


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
        "mystery_ship_x": ((30,), "left edge, px + 1; 180: there is none"),
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
        "shot": Event("ship fires", at_once(shots_fired)),
        "mystery_ship": Event(
            "mystery ship crosses the top of the screen",
            mystery_ships,
            mystery_ship,
            lambda ram, t, end, last: np.zeros((0, 4)),
        ),
        "aimed_shot": Event(
            "shot at an alien that moved before the impact",
            lambda ram, rewards, episode: Occurrences(*aimed_shots(ram, rewards, episode)),
            target,
            row_mates,
        ),
        "alien_hit": Event(
            "shot hits alien",
            lambda ram, rewards, episode: Occurrences(*hits_on_aliens(ram, rewards, episode)),
            target,
            row_mates,
        ),
    },
    decisive="aimed_shot",
    contact="alien_hit",
    changes=CHANGES,
)
