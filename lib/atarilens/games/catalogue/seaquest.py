"""Seaquest. What the cells mean was found in the first waves of play by chance."""

import numpy as np

from atarilens.games.record import Box, Change, Event, Game, Unit, at_once, cut, put, shift

FIELD = (46, 155, 8, 160)  # px rows and columns of the sea
LANES, LANE_TOP, LANE_HEIGHT = 4, 65, 24  # top lane first; px
SHARK_HEIGHT, LANE_DEPTH, WIDTH, SPACING = 7, 14, 8, 16  # px
SUBMARINE_TOP, MISSILE_TOP, MISSILE_BOTTOM = 3, 7, 13  # px below the top of the lane
SLOTS = (4, 2, 1)  # bits of a lane's three places for enemies, from the left
OXYGEN = (170, 175, 49)  # px: top, bottom and left of the bar; a px per unit


def enemy_box(ram: np.ndarray, unit: Unit) -> Box:
    """Return the box of the enemy (lane from the top, place from the left), there or not."""
    lane, slot = unit
    top = LANE_TOP + LANE_HEIGHT * lane
    left = (int(ram[33 - lane]) + SPACING * slot) % 256
    if _is_submarine(ram, lane):
        return top + SUBMARINE_TOP, top + LANE_DEPTH, left, left + WIDTH
    return top + int(ram[93]), top + int(ram[93]) + SHARK_HEIGHT, left, left + WIDTH


def _is_submarine(ram: np.ndarray, lane: int) -> bool:
    """Return whether a lane's enemies are submarines, which fire missiles, and no sharks."""
    return bool(ram[92 - lane] & 4)


def diver_box(ram: np.ndarray, unit: Unit) -> Box:
    """Return the box of the diver of a lane, (0,) being the top one, there or not."""
    top, left = LANE_TOP + LANE_HEIGHT * unit[0], int(ram[74 - unit[0]])
    return top, top + LANE_DEPTH, left, left + WIDTH


def _missile(ram: np.ndarray, lane: int) -> Box:
    top, left = LANE_TOP + LANE_HEIGHT * lane, int(ram[74 - lane])
    return top + MISSILE_TOP, top + MISSILE_BOTTOM, left, left + WIDTH


def _lanes(ram: np.ndarray, submarines: bool) -> list[Unit]:
    return [(lane,) for lane in range(LANES) if _is_submarine(ram, lane) == submarines]


def boxes(ram: np.ndarray) -> dict[str, list[Box]]:
    """Find submarine (the agent's), its torpedo, enemies, missiles, divers, oxygen (the bar).

    Enemies (sharks and submarines), their missiles and divers have one box each.
    """
    x, y, torpedo = int(ram[70]), int(ram[97]), int(ram[103])
    top, bottom, left = OXYGEN
    bar = [(top, bottom, left, left + min(int(ram[102]), 63))] if ram[102] else []
    return {
        "submarine": cut([(y + 33, y + 44, x, x + 16)], *FIELD),
        "enemies": cut([enemy_box(ram, unit) for unit in _enemies(ram)], *FIELD),
        "divers": cut([diver_box(ram, unit) for unit in _lanes(ram, submarines=False)], *FIELD),
        "missiles": cut([_missile(ram, lane) for (lane,) in _lanes(ram, submarines=True)], *FIELD),
        "torpedo": cut([(y + 40, y + 41, torpedo, torpedo + WIDTH)] if torpedo else [], *FIELD),
        "oxygen": bar,
    }


def _enemies(ram: np.ndarray) -> list[Unit]:
    return [
        (lane, slot)
        for lane in range(LANES)
        for slot, bit in enumerate(SLOTS)
        if int(ram[39 - lane]) & bit
    ]


def _visible(boxes_of, units: list[Unit], ram: np.ndarray) -> list[Unit]:
    return [u for u in units if FIELD[2] <= boxes_of(ram, u)[2] <= FIELD[3] - WIDTH]


def enemies_hit(ram: np.ndarray, rewards: np.ndarray, episode: np.ndarray) -> np.ndarray:
    """Find the steps after which points follow and an enemy less is there: `[n]` int."""
    count = np.unpackbits(ram[:, 36:40], axis=1).sum(1).astype(int)
    same = np.asarray(episode)[1:] == np.asarray(episode)[:-1]
    return np.flatnonzero((np.asarray(rewards)[:-1] > 0) & (np.diff(count) < 0) & same)


def divers_fetched(ram: np.ndarray, rewards: np.ndarray, episode: np.ndarray) -> np.ndarray:
    """Find the steps after which the submarine has one diver more on board: `[n]` int."""
    same = np.asarray(episode)[1:] == np.asarray(episode)[:-1]
    return np.flatnonzero((np.diff(ram[:, 62].astype(int)) == 1) & same)


def _dives(ram: np.ndarray, amount: int, unit: Unit) -> str:
    if ram[103]:
        return "the torpedo would move along"
    inside = all(20 <= y <= 95 for y in (int(ram[97]), int(ram[97]) + amount))
    return "" if inside else "the submarine is at the surface or at the ground"


def _swims(ram: np.ndarray, amount: int, unit: Unit) -> str:
    inside = 24 <= int(ram[70]) + amount <= 130
    return "" if inside else "the submarine would be at the edge of the sea"


def _stays(boxes_of):
    def invalid(ram: np.ndarray, amount: int, unit: Unit) -> str:
        left = boxes_of(ram, unit)[2]
        inside = all(FIELD[2] + 4 <= x <= FIELD[3] - WIDTH - 4 for x in (left, left + amount))
        return "" if inside else "it would be at the edge of the sea"

    return invalid


CHANGES = {
    "submarine_x": Change(
        *("submarine", "move", shift(70), "x"), invalid=_swims, meaning="it depends on the enemies"
    ),
    "submarine_y": Change(
        *("submarine", "move", shift(97), "y"), invalid=_dives, meaning="it depends on the enemies"
    ),
    "enemy_x": Change(
        "enemies",
        "move",
        lambda ram, amount, unit: {33 - unit[0]: int(ram[33 - unit[0]]) + amount},
        "x",
        units=lambda ram: [u for u in _visible(enemy_box, _enemies(ram), ram) if _alone(ram, u)],
        unit_box=enemy_box,
        invalid=_stays(enemy_box),
        meaning="avoid it, or shoot it",
    ),
    "enemy_gone": Change(
        "enemies",
        "remove",
        lambda ram, amount, unit: {39 - unit[0]: int(ram[39 - unit[0]]) & ~SLOTS[unit[1]]},
        units=lambda ram: _visible(enemy_box, _enemies(ram), ram),
        unit_box=enemy_box,
        meaning="there is one enemy less",
    ),
    "diver_x": Change(
        "divers",
        "move",
        lambda ram, amount, unit: {74 - unit[0]: int(ram[74 - unit[0]]) + amount},
        "x",
        units=lambda ram: _visible(diver_box, _lanes(ram, submarines=False), ram),
        unit_box=diver_box,
        invalid=_stays(diver_box),
        meaning="go and fetch it elsewhere",
    ),
    "diver_gone": Change(
        "divers",
        "remove",
        lambda ram, amount, unit: {74 - unit[0]: 180},
        hold=True,
        units=lambda ram: _visible(diver_box, _lanes(ram, submarines=False), ram),
        unit_box=diver_box,
        meaning="there is nobody to fetch",
    ),
    "oxygen_low": Change(
        *("oxygen", "decorate", put(c102=8)),
        hold=True,
        area=((170, 175, 49, 112),),
        invalid=lambda ram, amount, unit: "" if ram[102] > 16 and ram[97] > 20 else "it is low",
        meaning="go up and breathe",
        towards=(("UP",), ("DOWN",)),
    ),
}


def _alone(ram: np.ndarray, unit: Unit) -> bool:
    """Return whether an enemy is the only one of its lane: the lane moves as a whole."""
    return int(ram[39 - unit[0]]) == SLOTS[unit[1]]


SEAQUEST = Game(
    "seaquest",
    "Seaquest",
    "seaquest",
    random_score=68.4,
    human_score=20182.0,
    cells={
        "enemies_x": ((30, 31, 32, 33), "left edge of a lane's first place, px; bottom lane first"),
        "enemies": ((36, 37, 38, 39), "bits 4, 2, 1: an enemy at px 0, 16, 32; bottom lane first"),
        "score": ((56, 57, 58), "decimal digits"),
        "lives": ((59,), "submarines left"),
        "divers": ((62,), "divers on board"),
        "submarine_x": ((70,), "left edge, px"),
        "divers_x": ((71, 72, 73, 74), "of a diver or a missile, left edge, px, bottom lane first"),
        "submarine_lanes": ((89, 90, 91, 92), "bit 2: enemies are submarines; bottom lane first"),
        "bob": ((93,), "px by which sharks are below their lane's top"),
        "submarine_y": ((97,), "top edge, px - 33"),
        "oxygen": ((102,), "length of the bar, px, at most 63"),
        "torpedo_x": ((103,), "left edge of the submarine's shot, px; 0: none"),
    },
    boxes=boxes,
    player="submarine",
    events={
        "enemy_hit": Event("torpedo hits enemy", at_once(enemies_hit)),
        "diver_fetched": Event("submarine fetches diver", at_once(divers_fetched)),
    },
    decisive="diver_fetched",
    contact="enemy_hit",
    changes=CHANGES,
)
