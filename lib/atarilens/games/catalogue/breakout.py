"""Breakout."""

import numpy as np

from atarilens.games.record import (
    Box,
    Change,
    Event,
    Game,
    Servo,
    Unit,
    at_once,
    cut,
    negate,
    put,
    shift,
    turns_back,
)

FIELD = (8, 152)  # px columns between the side walls
BRICK_TOP, BRICK_HEIGHT, BRICK_WIDTH = 57, 6, 8  # px
LOWER_HALF = 130  # ball_y below which nothing but the paddle turns a ball up
TWO_WALLS = [0x08, 0x64]  # the score's bytes after both walls are gone: 864 points
ONE_WALL, POINTS_OF_A_WALL = {76: 0x04, 77: 0x32}, 432


def bricks(ram: np.ndarray) -> np.ndarray:
    """Return which bricks are left: `[..., 6, 18]` bool, top left first.

    RAM[6 g + row] holds row `row` from the bottom of part g of the wall, g from the right.

    Args:
        ram: `[..., 128]` uint8.
    """
    parts = np.asarray(ram)[..., :36].astype(np.uint8)
    bits = np.unpackbits(parts.reshape(*parts.shape[:-1], 6, 6, 1), axis=-1)  # [..., g, row, bit]
    # From the left; the console shows every second part mirrored, and of two parts only a half.
    left_to_right = [
        bits[..., 5, :, :2],
        bits[..., 4, :, :],
        bits[..., 3, :, ::-1],
        bits[..., 2, :, 3::-1],
        bits[..., 1, :, :],
        bits[..., 0, :, :1:-1],
    ]
    wall = np.concatenate(left_to_right, axis=-1)[..., ::-1, :]  # top row first
    return wall.reshape(*wall.shape[:-1], 18, 2).any(-1)


def boxes(ram: np.ndarray) -> dict[str, list[Box]]:
    """Find ball, paddle, bricks (one box each) and tunnel (one box per column without bricks)."""
    ball_x, ball_y, paddle_x = (int(ram[i]) for i in (99, 101, 72))
    width = 4 * int(ram[55]).bit_count()
    wall = bricks(ram)
    bottom = BRICK_TOP + 6 * BRICK_HEIGHT
    column = [FIELD[0] + BRICK_WIDTH * j for j in range(19)]
    row = [BRICK_TOP + BRICK_HEIGHT * i for i in range(7)]
    return {
        "ball": [(ball_y + 9, ball_y + 13, ball_x - 49, ball_x - 47)] if ball_y else [],
        "paddle": cut([(189, 193, paddle_x - 47, paddle_x - 47 + width)], 0, 210, *FIELD),
        "bricks": [(row[i], row[i + 1], column[j], column[j + 1]) for i, j in np.argwhere(wall)],
        "tunnel": [
            (BRICK_TOP, bottom, column[j], column[j + 1]) for j in np.flatnonzero(~wall.any(0))
        ],
    }


def first_ball_above_bricks(ram: np.ndarray, episode: np.ndarray) -> np.ndarray:
    """Find the first step of each episode at which the whole ball is above the wall's top.

    Args:
        ram: `[T, 128]` uint8.
        episode: `[T]` int.

    Returns:
        `[n]` int, at most one step per episode.
    """
    ball_y = ram[:, 101].astype(np.int64)
    above = np.flatnonzero((ball_y > 0) & (ball_y + 13 <= BRICK_TOP))
    _, first = np.unique(np.asarray(episode)[above], return_index=True)
    return above[first]


def paddle_hits(ram: np.ndarray, episode: np.ndarray) -> np.ndarray:
    """Find the steps at which the ball turns from falling to rising in the lower half.

    The ball hit the paddle less than one step before or after.

    Args:
        ram: `[T, 128]` uint8.
        episode: `[T]` int.

    Returns:
        `[n]` int: the ball rises from t to t + 1 and fell before.
    """
    ball_y = ram[:, 101].astype(np.int64)
    turns = turns_back(ball_y, ball_y > 0, episode)
    return turns[ball_y[turns] > LOWER_HALF]


def column_opened(ram: np.ndarray, rewards: np.ndarray, episode: np.ndarray) -> np.ndarray:
    """Find the first step of each episode at which a whole column of the wall is gone.

    Args:
        ram: `[T, 128]` uint8.
        rewards: not read.
        episode: `[T]` int.

    Returns:
        `[n]` int, at most one step per episode; the column still stood at the step before.
    """
    gone = ~bricks(ram).any(1)
    opened = (gone[1:] & ~gone[:-1]).any(1) & (episode[1:] == episode[:-1])
    steps = np.flatnonzero(opened) + 1
    _, first = np.unique(np.asarray(episode)[steps], return_index=True)
    return steps[first]


def opening_column(ram: np.ndarray, t: int, end: int) -> np.ndarray:
    """Return the box `[1, 4]` of the column that opens at step `end`; it never moves.

    Args:
        ram: `[T, 128]` uint8.
        t: not read.
        end: of `column_opened`.
    """
    before, after = bricks(ram[[end - 1, end]]).any(1)
    return _column_boxes(np.flatnonzero(before & ~after)[:1])


def closed_columns(ram: np.ndarray, t: int, end: int, last: int) -> np.ndarray:
    """Return the boxes `[n, 4]` of the columns that still stand at step `last`.

    Args:
        ram: `[T, 128]` uint8.
        t: not read.
        end: not read.
        last: step, for example the last of the episode.
    """
    return _column_boxes(np.flatnonzero(bricks(ram[last]).any(0)))


def _column_boxes(columns: np.ndarray) -> np.ndarray:
    left = FIELD[0] + BRICK_WIDTH * columns.astype(np.float64)
    top, bottom = BRICK_TOP, BRICK_TOP + 6 * BRICK_HEIGHT
    edges = [np.full_like(left, top), np.full_like(left, bottom), left, left + BRICK_WIDTH]
    return np.stack(edges, 1)


def never_without_bricks(ram: np.ndarray) -> tuple[dict[int, int], int]:
    """Let the wall come back for ever (BreakoutInfinite).

    The console builds the second wall when the score is 432, and never a third. At 864 points,
    when the second wall is gone, the score is set to 432: the wall comes back as the ball falls.
    Source: Nikulin et al. (2019), "Free-Lunch Saliency via Attention in Atari Agents"; its code is
    not published.
    """
    return (ONE_WALL, POINTS_OF_A_WALL) if _score_bytes(ram) == TWO_WALLS else ({}, 0)


def _score_bytes(ram: np.ndarray) -> list[int]:
    return [int(ram[76]) & 15, int(ram[77])]


def brick_bits(row: int, column: int) -> tuple[int, int]:
    """Return where a brick is kept: its address, and a byte with its two bits set.

    Args:
        row: 0 (top) to 5.
        column: 0 (left) to 17.
    """
    if column == 0:
        part, bit = 5, 6
    elif column <= 4:
        part, bit = 4, 6 - 2 * (column - 1)
    elif column <= 8:
        part, bit = 3, 2 * (column - 5)
    elif column <= 10:
        part, bit = 2, 4 + 2 * (column - 9)
    elif column <= 14:
        part, bit = 1, 6 - 2 * (column - 11)
    else:
        part, bit = 0, 2 * (column - 15)
    return 6 * part + 5 - row, 3 << bit


def brick_box(ram: np.ndarray, unit: Unit) -> Box:
    """Return the box of the brick (row, column), whether it is there or not."""
    top, left = BRICK_TOP + BRICK_HEIGHT * unit[0], FIELD[0] + BRICK_WIDTH * unit[1]
    return top, top + BRICK_HEIGHT, left, left + BRICK_WIDTH


def _without_brick(ram: np.ndarray, amount: int, unit: Unit) -> dict[int, int]:
    address, bits = brick_bits(*unit)
    return {address: int(ram[address]) & ~bits}


def _with_brick(ram: np.ndarray, amount: int, unit: Unit) -> dict[int, int]:
    address, bits = brick_bits(*unit)
    return {address: int(ram[address]) | bits}


def _bricks_there(ram: np.ndarray) -> list[Unit]:
    return [tuple(map(int, at)) for at in np.argwhere(bricks(ram))]


def _bricks_gone(ram: np.ndarray) -> list[Unit]:
    return [tuple(map(int, at)) for at in np.argwhere(~bricks(ram))]


def _ball_flies(ram: np.ndarray, amount: int, unit: Unit) -> str:
    """Require the whole ball, before and after, between the wall and the paddle."""
    top = int(ram[101]) + 9
    free = BRICK_TOP + 6 * BRICK_HEIGHT + 8 <= top <= 170
    return "" if free else "the ball is not between the wall and the paddle"


def _ball_moves_down(ram: np.ndarray, amount: int, unit: Unit) -> str:
    moved = ram.copy()
    moved[101] = (int(ram[101]) + amount) % 256
    return _ball_flies(ram, amount, unit) or _ball_flies(moved, amount, unit)


def _ball_moves_right(ram: np.ndarray, amount: int, unit: Unit) -> str:
    inside = FIELD[0] + 4 <= int(ram[99]) - 49 + amount <= FIELD[1] - 8
    return _ball_flies(ram, amount, unit) if inside else "the ball would be in a side wall"


def _paddle_moves(ram: np.ndarray, amount: int, unit: Unit) -> str:
    left = int(ram[72]) - 47
    inside = all(FIELD[0] <= x <= FIELD[1] - 16 for x in (left, left + amount))
    return "" if inside else "the paddle would be in a side wall"


RIGHT, LEFT = ("RIGHT",), ("LEFT",)
WALL = (BRICK_TOP, BRICK_TOP + 6 * BRICK_HEIGHT, *FIELD)
DIGITS = (80, 81, 82, 83, 84, 86, 88)  # pictures of digits: 5 bytes each in the ROM
CHANGES = {
    "ball_x": Change(
        *("ball", "move", shift(99), "x"),
        invalid=_ball_moves_right,
        meaning="the paddle follows the ball",
        towards=(RIGHT, LEFT),
    ),
    "ball_y": Change(
        *("ball", "move", shift(101), "y"),
        invalid=_ball_moves_down,
        meaning="the ball arrives earlier or later",
    ),
    "ball_velocity_x": Change(
        *("ball", "velocity", negate(105)),
        invalid=_ball_flies,
        meaning="the ball goes to the other side",
    ),
    "ball_velocity_y": Change(
        *("ball", "velocity", negate(103)),
        invalid=_ball_flies,
        meaning="the ball rises instead of falling, or the other way round",
    ),
    "ball_gone": Change(
        *("ball", "remove", put(c101=200)),
        hold=True,
        invalid=_ball_flies,
        meaning="there is nothing to follow",
    ),
    "paddle_x": Change(
        *("paddle", "move", shift(72, 2), "x"),
        servo=Servo(72, 72, 2),
        invalid=_paddle_moves,
        meaning="the paddle goes back",
        towards=(LEFT, RIGHT),
    ),
    "brick_gone": Change(
        *("bricks", "remove", _without_brick), units=_bricks_there, unit_box=brick_box
    ),
    "brick_back": Change(*("bricks", "add", _with_brick), units=_bricks_gone, unit_box=brick_box),
    "wall_gone": Change(
        *("bricks", "remove", lambda ram, amount, unit: dict.fromkeys(range(36), 0)),
        area=(WALL,),
        meaning="nothing is left to hit",
    ),
    "brick_colour": Change(
        "wall",
        "decorate",
        lambda ram, amount, unit: {64 + i: int(ram[69 - i]) for i in range(6)},
        hold=True,
        area=(WALL,),
        meaning="nothing: the order of the rows' colours does not matter",
    ),
    "digits": Change(
        *("score", "decorate", lambda ram, amount, unit: dict.fromkeys(DIGITS, 5 * 7)),
        hold=True,
        area=((0, 17, 0, 160),),
        meaning="nothing: the digits of the score do not matter",
    ),
}

BREAKOUT = Game(
    "breakout",
    "Breakout",
    "breakout",
    random_score=1.7,
    human_score=31.8,
    cells={
        "bricks": (tuple(range(36)), "one bit per 4x6 px, two per brick: see `bricks`"),
        "paddle_shape": ((55,), "one bit per 4 px of the paddle's width"),
        "lives": ((57,), "balls left"),
        "paddle_x": ((72,), "left edge of the paddle, px + 47"),
        "score": ((76, 77), "decimal digits: hundreds | tens, units"),
        "ball_x": ((99,), "left edge of the ball, px + 49"),
        "ball_y": ((101,), "top edge of the ball, px - 9; 0 while there is none"),
    },
    boxes=boxes,
    player="paddle",
    events={
        "tunnel": Event(
            "first ball above the bricks",
            at_once(lambda ram, rewards, episode: first_ball_above_bricks(ram, episode)),
        ),
        "column_opened": Event(
            "a column opens", at_once(column_opened), opening_column, closed_columns
        ),
        "paddle_hit": Event(
            "paddle hits ball", at_once(lambda ram, rewards, episode: paddle_hits(ram, episode))
        ),
    },
    decisive="tunnel",
    contact="paddle_hit",
    changes=CHANGES,
    endless=never_without_bricks,
)
