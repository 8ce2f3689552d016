"""Frostbite. What the cells mean was found in the first level of play by chance."""

import numpy as np

from atarilens.games.record import Box, Event, Game, at_once, cut

FIELD = (51, 183, 8, 160)  # px rows and columns of shore and water
ROWS, ROW_HEIGHT = 4, 26  # of floes, bottom row first; px
FLOE_TOP, FLOE_HEIGHT, FLOE_WIDTH, FLOE_SPACING = 174, 7, 24, 32  # px, bottom row
ANIMAL_TOP, ANIMAL_HEIGHT, ANIMAL_WIDTH = 160, 7, 8  # px, bottom row
WHITE = 12  # colour of floes that nobody has jumped on yet
FISH = range(108, 129)  # shapes of the fish, which is food; other animals push Bailey away
BAILEY_TOP, BAILEY_HEIGHT = 29, 18  # px; Bailey is 8 px wide
IGLOO_LEFT, IGLOO_FLOOR, BLOCK, NO_IGLOO = 112, 55, 8, 255  # px
IGLOO_HEIGHTS = (4, 4, 4, 4, 8, 8, 8, 8, 13, 13, 13, 13, 16, 16, 20, 20)  # px, by blocks - 1


def _floes(ram: np.ndarray, row: int) -> list[Box]:
    top = FLOE_TOP - ROW_HEIGHT * row
    lefts = [(int(ram[31 + row]) - 8 + FLOE_SPACING * place) % 160 for place in range(3)]
    pieces = []
    for left in lefts:  # a floe that leaves on the right comes back on the left
        pieces.append((top, top + FLOE_HEIGHT, left, left + FLOE_WIDTH))
        pieces.append((top, top + FLOE_HEIGHT, left - 160, left - 160 + FLOE_WIDTH))
    return pieces


def _animals(ram: np.ndarray, row: int) -> list[Box]:
    top, x = ANIMAL_TOP - ROW_HEIGHT * row, int(ram[84 + row])
    lefts = [x] * (0 < x < 160) + [x + FLOE_SPACING] * bool(ram[88 + row])
    return [(top, top + ANIMAL_HEIGHT, left, left + ANIMAL_WIDTH) for left in lefts]


def boxes(ram: np.ndarray) -> dict[str, list[Box]]:
    """Find bailey (the agent's), white and used floes, animals that push, fish, bear and igloo.

    In each row of water all floes have one colour. Bailey sinks out of sight when she drowns.
    """
    white, used, animals, fish = [], [], [], []
    for row in range(ROWS):
        (white if ram[43 + row] == WHITE else used).extend(_floes(ram, row))
        (fish if int(ram[35 + row]) in FISH else animals).extend(_animals(ram, row))
    top, left, sunk = BAILEY_TOP + int(ram[100]), int(ram[102]), int(ram[107])
    bailey = (top + sunk, top + BAILEY_HEIGHT, left, left + 8)
    bear = [(58, 74, int(ram[104]) + 3, int(ram[104]) + 17)] if ram[104] != 140 else []
    return {
        "bailey": cut([bailey], *FIELD) if ram[106] != 26 else [],
        "floes": cut(white, *FIELD),
        "used_floes": cut(used, *FIELD),
        "animals": cut(animals, *FIELD),
        "fish": cut(fish, *FIELD),
        "bear": cut(bear, *FIELD),
        "igloo": _igloo(int(ram[77])),
    }


def _igloo(blocks: int) -> list[Box]:
    """Return the box of an igloo of so many blocks after its first one."""
    if blocks == NO_IGLOO:
        return []
    blocks = min(blocks, len(IGLOO_HEIGHTS) - 1)
    width = BLOCK * min(blocks + 1, 4)
    top = IGLOO_FLOOR - IGLOO_HEIGHTS[blocks]
    return [(top, IGLOO_FLOOR, IGLOO_LEFT, IGLOO_LEFT + width)]


def floes_reached(ram: np.ndarray, rewards: np.ndarray, episode: np.ndarray) -> np.ndarray:
    """Find the steps after which Bailey lands on a white row, which turns blue: `[n]` int."""
    white = (ram[:, 43:47] == WHITE).sum(1).astype(int)
    same = np.asarray(episode)[1:] == np.asarray(episode)[:-1]
    return np.flatnonzero((np.diff(white) == -1) & same & (np.asarray(rewards)[:-1] > 0))


def lives_lost(ram: np.ndarray, rewards: np.ndarray, episode: np.ndarray) -> np.ndarray:
    """Find the steps after which Bailey has one life less: `[n]` int."""
    same = np.asarray(episode)[1:] == np.asarray(episode)[:-1]
    return np.flatnonzero((np.diff(ram[:, 76].astype(int)) == -1) & same)


FROSTBITE = Game(
    "frostbite",
    "Frostbite",
    "frostbite",
    random_score=65.2,
    human_score=4335.0,
    cells={
        "floes_x": ((31, 32, 33, 34), "left edge of a row's first floe, px + 8; bottom row first"),
        "animals": ((35, 36, 37, 38), "shape; 108 to 128: a fish; bottom row first"),
        "floe_colours": ((43, 44, 45, 46), "12: white; bottom row first"),
        "lives": ((76,), "lives left after this one"),
        "igloo": ((77,), "blocks after the first; 255: none"),
        "animals_x": ((84, 85, 86, 87), "left edge, px; bottom row first"),
        "second_animals": ((88, 89, 90, 91), "0: one animal in the row; bottom row first"),
        "bailey_y": ((100,), "top edge, px - 29"),
        "bailey_x": ((102,), "left edge, px"),
        "bear_x": ((104,), "left edge, px - 3; 140: none"),
        "sunk": ((107,), "px of Bailey that are under water"),
    },
    boxes=boxes,
    player="bailey",
    events={
        "floe_reached": Event("Bailey lands on a white floe", at_once(floes_reached)),
        "life_lost": Event("Bailey loses a life", at_once(lives_lost)),
    },
    decisive="floe_reached",
    contact="floe_reached",
)
