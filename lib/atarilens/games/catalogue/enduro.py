"""Enduro. What the cells mean was found in the first day of play by chance."""

import numpy as np

from atarilens.games.record import Box, Event, Game, at_once, cut

ROAD = (51, 155, 8, 160)  # px rows and columns of the ground
# The road has seven sections, the nearest first; each holds at most one car. A car comes nearer
# within its section while the phase falls from 255 to 0, and then enters the next one.
SECTION_EDGES = (159.5, 136, 113.2, 97.1, 84.7, 74.5, 68, 63.4)  # px, top of a car at the edges
CAR_HEIGHTS = (11, 8, 6, 4, 3, 2, 1)  # px, by section
CAR_WIDTHS = (16, 12, 8, 6, 4, 4, 2)  # px, by section
CENTRES = (24, 24, 19, 19, 19, 19, 19)  # px from the console's position to the middle of a car
CARS_X, CARS = 3, 27  # first addresses of seven cells each
OWN_TOP, OWN_HEIGHT, OWN_WIDTH = 89, 11, 16  # px
LOWEST_SPEED = 6  # which a collision leaves
MOUNTAINS = ((45, 76, 32), (46, 148, 28))  # top, left edge from its cell, width; px
MOUNTAIN_FLOOR = 51  # px


def _position(cell: int) -> int:
    """Return px of a sprite: the console counts steps of 15 px, then moves it up to 8 px left."""
    coarse, fine = cell & 15, cell >> 4
    return 15 * coarse - (fine - 16 if fine > 7 else fine)


def _car(ram: np.ndarray, section: int) -> Box:
    far, near = SECTION_EDGES[section + 1], SECTION_EDGES[section]
    top = round(near - (near - far) * int(ram[25]) / 256)
    middle = _position(int(ram[CARS_X + section])) + CENTRES[section]
    half = CAR_WIDTHS[section] // 2
    return top, top + CAR_HEIGHTS[section], middle - half, middle + half


def boxes(ram: np.ndarray) -> dict[str, list[Box]]:
    """Find own_car (the agent's), the other cars, and mountains.

    The RAM is one frame ahead of the screen: another car's box is up to 5 px above or below the
    car, a mountain's up to 3 px beside it. At night and in fog a box says where a car is that the
    screen hardly shows.
    """
    left = round(77.7 - 5 * int(ram[46].astype(np.int8)) / 9)
    top = OWN_TOP + int(ram[52])
    cars = [_car(ram, section) for section in range(7) if ram[CARS + section]]
    mountains = []
    for top_of, shift, width in MOUNTAINS:  # what leaves on the right comes back on the left
        at = (int(ram[54]) + shift) % 160
        mountains += [(top_of, MOUNTAIN_FLOOR, x, x + width) for x in (at, at - 160)]
    return {
        "own_car": cut([(top, top + OWN_HEIGHT, left, left + OWN_WIDTH)], *ROAD),
        "cars": cut(cars, *ROAD),
        "mountains": cut(mountains, 0, MOUNTAIN_FLOOR, *ROAD[2:]),
    }


def collisions(ram: np.ndarray, rewards: np.ndarray, episode: np.ndarray) -> np.ndarray:
    """Find the steps after which the car has run into another, which stops it: `[n]` int."""
    speed = ram[:, 22].astype(int)
    same = np.asarray(episode)[1:] == np.asarray(episode)[:-1]
    return np.flatnonzero((np.diff(speed) <= -6) & (speed[1:] <= LOWEST_SPEED + 4) & same)


def passings(ram: np.ndarray, rewards: np.ndarray, episode: np.ndarray) -> np.ndarray:
    """Find the steps after which another car has been passed: `[n]` int."""
    return np.flatnonzero(np.asarray(rewards) > 0)


ENDURO = Game(
    "enduro",
    "Enduro",
    "enduro",
    random_score=0.0,
    human_score=309.6,
    cells={
        "cars_x": (tuple(range(3, 10)), "low four bits: steps of 15 px; high four: px to the left"),
        "speed": ((22,), "6 after a collision"),
        "phase": ((25,), "how near the other cars are within their sections; 0: nearest"),
        "cars": (tuple(range(27, 34)), "colour of the car in each section of the road; 0: none"),
        "car_x": ((46,), "signed; 0: left edge at px 78; 9 units are 5 px to the left"),
        "car_y": ((52,), "top edge, px - 89"),
        "mountains_x": ((54,), "left edge, px - 76; it wraps around at 160"),
    },
    boxes=boxes,
    player="own_car",
    events={
        "collision": Event("the car runs into another car", at_once(collisions)),
        "passing": Event("the car passes another car", at_once(passings)),
    },
    decisive="collision",
    contact="passing",
)
