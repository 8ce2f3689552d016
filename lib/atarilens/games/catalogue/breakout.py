"""Breakout."""

import numpy as np

from atarilens.games.record import Box, Event, Game, at_once, cut, turns_back

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
        "paddle_hit": Event(
            "paddle hits ball", at_once(lambda ram, rewards, episode: paddle_hits(ram, episode))
        ),
    },
    decisive="tunnel",
    contact="paddle_hit",
    endless=never_without_bricks,
)
