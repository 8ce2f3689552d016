"""Facts about each game, and where its objects are, read from the console's 128 bytes of RAM.

Boxes are (top, bottom, left, right) in pixels of the screen, half-open, and describe the LAST of
the emulator's frames: the RAM of a step is that frame's. In a screen that is the maximum of the
last two frames, a moving object therefore reaches up to one frame's motion beyond its box.
Cells and offsets were found by experiment and are tested against the colours of the screen.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

Box = tuple[float, float, float, float]

PONG_FIELD = (34, 194)  # px rows between the two white walls
BREAKOUT_FIELD = (8, 152)  # px columns between the side walls
BRICK_TOP, BRICK_HEIGHT, BRICK_WIDTH = 57, 6, 8  # px
SHIELD_TOP, SHIELD_SPACING = 157, 32  # px
ALIEN_HEIGHT, ALIEN_WIDTH, ALIEN_ROW, ALIEN_COLUMN = 10, 8, 18, 16  # px: size, then spacing
SHIP_CLOCK, SHIP_BLINK = 128, 8  # frames: of an explosion, and of a flash of the new ship
GROUND = 195  # px, first row below Space Invaders' play field


@dataclass(frozen=True)
class Game:
    """Facts of one game.

    Attributes:
        name: as users write it.
        title: as people write it.
        ale: name of the ROM in `ale_py.roms`.
        random_score: mean score of uniformly random play.
        human_score: mean score of a professional tester. Both scores: Mnih et al. (2015), "Human-
            level control through deep reinforcement learning", extended data table 2.
        cells: name -> (RAM addresses, meaning); px are those of the screen.
        region: px (top, bottom, left, right) of the play field, half-open.
    """

    name: str
    title: str
    ale: str
    random_score: float
    human_score: float
    cells: dict[str, tuple[tuple[int, ...], str]] = field(repr=False)
    region: tuple[int, int, int, int] = (35, 195, 0, 160)


GAMES = {
    "pong": Game(
        "pong",
        "Pong",
        "pong",
        random_score=-20.7,
        human_score=9.3,
        cells={
            "opponent_score": ((13,), "points of the opponent"),
            "agent_score": ((14,), "points of the agent"),
            "ball_x": ((49,), "left edge of the ball, px + 49"),
            "opponent_y": ((50,), "top edge of the left paddle, px + 15; 0 while it is absent"),
            "paddle_y": ((51,), "top edge of the right paddle, even px + 13 or 14"),
            "ball_y": ((54,), "top edge of the ball, px + 14; 0 while there is none"),
        },
    ),
    "breakout": Game(
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
    ),
    "spaceinvaders": Game(
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
    ),
}


def game(name: str) -> Game:
    """Return the facts of a game.

    Raises:
        ValueError: if there is no game of this name.
    """
    if name not in GAMES:
        raise ValueError(f"unknown game {name!r}; known: {', '.join(sorted(GAMES))}")
    return GAMES[name]


def cell(name: str, cell_name: str, ram: np.ndarray) -> np.ndarray:
    """Read a cell: `[...]` int64 of ram `[..., 128]` uint8, or `[..., n]` for a cell of n bytes."""
    addresses, _ = game(name).cells[cell_name]
    values = np.asarray(ram)[..., list(addresses)].astype(np.int64)
    return values[..., 0] if len(addresses) == 1 else values


def object_boxes(name: str, ram: np.ndarray) -> dict[str, np.ndarray]:
    """Return where the objects of a game are at the moment of its RAM.

    Pong: ball, paddle (the agent's, right), opponent. Breakout: ball, paddle, bricks (one box
    each), tunnel (one box per column without bricks). Space Invaders: ship (absent while it
    explodes, and while it is dark: a new ship blinks), aliens (one box each), shields (the part of
    each that is left), laser (the ship's shot), bombs (the aliens'). Laser and bombs are drawn
    every other frame in turn, so their boxes cover the places of two frames.

    Args:
        name: of the game.
        ram: `[128]` uint8.

    Returns:
        Object -> `[n, 4]` float64, (top, bottom, left, right) in px of the screen, half-open, cut
        at the border of the play field; n is 0 for what is absent. The keys are always the same.

    Raises:
        ValueError: if there is no such game, or `ram` is not `[128]` uint8.
    """
    game(name)
    ram = np.asarray(ram)
    if ram.shape != (128,) or ram.dtype != np.uint8:
        raise ValueError(f"ram must be [128] uint8, received {list(ram.shape)} {ram.dtype}")
    boxes = {"pong": _pong, "breakout": _breakout, "spaceinvaders": _spaceinvaders}[name](ram)
    return {kind: np.array(found, np.float64).reshape(-1, 4) for kind, found in boxes.items()}


def to_observation(
    boxes: dict[str, np.ndarray],
    region: tuple[int, int, int, int],
    shape: tuple[int, int] = (80, 80),
) -> dict[str, np.ndarray]:
    """Move boxes from the screen into an observation that shows a region of it.

    Args:
        boxes: object -> `[n, 4]`, px of the screen.
        region: (top, bottom, left, right) of the screen that the observation covers.
        shape: (H, W) of the observation.

    Returns:
        Object -> `[m, 4]` float64 in px of the observation, cut at its border; boxes that lie
        outside of it are left out.
    """
    top, bottom, left, right = region
    scale = np.array([shape[0] / (bottom - top)] * 2 + [shape[1] / (right - left)] * 2)
    limit = np.array([shape[0]] * 2 + [shape[1]] * 2, np.float64)
    moved = {}
    for kind, found in boxes.items():
        inside = np.clip((found - [top, top, left, left]) * scale, 0, limit)
        moved[kind] = inside[(inside[:, 1] > inside[:, 0]) & (inside[:, 3] > inside[:, 2])]
    return moved


def bricks(ram: np.ndarray) -> np.ndarray:
    """Return which bricks of Breakout are left: `[..., 6, 18]` bool, top left first.

    RAM[6 g + row] holds row `row` from the bottom of part g of the wall, g from the right.

    Args:
        ram: `[..., 128]` uint8.
    """
    parts = cell("breakout", "bricks", ram).astype(np.uint8)
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


def aliens(ram: np.ndarray) -> np.ndarray:
    """Return which aliens of Space Invaders live: `[..., 6, 6]` bool, top left first.

    Args:
        ram: `[..., 128]` uint8.
    """
    rows = cell("spaceinvaders", "aliens", ram)[..., ::-1]
    return (rows[..., None] >> np.arange(6) & 1).astype(bool)


def _cut(boxes: list[Box], top: float, bottom: float, left: float = 0, right: float = 160):
    """Cut boxes at a border and drop what lies outside."""
    cut = [(max(a, top), min(b, bottom), max(c, left), min(d, right)) for a, b, c, d in boxes]
    return [box for box in cut if box[1] > box[0] and box[3] > box[2]]


def _pong(ram: np.ndarray) -> dict[str, list[Box]]:
    """Rows are drawn in pairs: the right paddle starts on even rows, a ball far right too."""
    ball_x, ball_y, paddle_y, opponent_y = (int(ram[i]) for i in (49, 54, 51, 50))
    paddle = (paddle_y + 1) // 2 * 2 - 14
    ball = ball_y - 14 - (ball_y % 2 if ball_x >= 178 else 0)
    return {
        "ball": _cut([(ball, ball + 4, ball_x - 49, ball_x - 47)] if ball_y else [], *PONG_FIELD),
        "paddle": _cut([(paddle, paddle + 16, 140, 144)], *PONG_FIELD),
        "opponent": _cut([(opponent_y - 15, opponent_y + 1, 16, 20)], *PONG_FIELD),
    }


def _breakout(ram: np.ndarray) -> dict[str, list[Box]]:
    ball_x, ball_y, paddle_x = (int(ram[i]) for i in (99, 101, 72))
    width = 4 * int(ram[55]).bit_count()
    wall = bricks(ram)
    bottom = BRICK_TOP + 6 * BRICK_HEIGHT
    column = [BREAKOUT_FIELD[0] + BRICK_WIDTH * j for j in range(19)]
    row = [BRICK_TOP + BRICK_HEIGHT * i for i in range(7)]
    return {
        "ball": [(ball_y + 9, ball_y + 13, ball_x - 49, ball_x - 47)] if ball_y else [],
        "paddle": _cut([(189, 193, paddle_x - 47, paddle_x - 47 + width)], 0, 210, *BREAKOUT_FIELD),
        "bricks": [(row[i], row[i + 1], column[j], column[j + 1]) for i, j in np.argwhere(wall)],
        "tunnel": [
            (BRICK_TOP, bottom, column[j], column[j + 1]) for j in np.flatnonzero(~wall.any(0))
        ],
    }


def _spaceinvaders(ram: np.ndarray) -> dict[str, list[Box]]:
    top, left, ship = 31 + 2 * int(ram[16]), int(ram[26]) - 1, int(ram[28]) - 1
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
    return {kind: _cut(boxes, 0, GROUND) for kind, boxes in found.items()}


def boxes_at(
    game: str, ram: np.ndarray, region: Sequence[int], shape: tuple[int, int] = (80, 80)
) -> list[dict[str, np.ndarray]]:
    """Return the objects' boxes of n steps in observation pixels.

    Args:
        game: name of the game.
        ram: `[n, 128]` uint8.
        region: (top, bottom, left, right) of the screen that the observation covers.
        shape: (H, W) of the observation.
    """
    return [to_observation(object_boxes(game, row), tuple(region), shape) for row in ram]
