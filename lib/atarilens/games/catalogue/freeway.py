"""Freeway. The agent plays the left chicken."""

import numpy as np

from atarilens.games.record import Box, Change, Event, Game, Unit, at_once, cut, shift

FIELD = (14, 195, 8, 160)  # px rows and columns of what is drawn between the black borders
LANES, LANE_TOP, LANE_HEIGHT = 10, 27, 16  # top lane first; px
CAR_HEIGHT, CAR_WIDTH = 10, 8  # px, tyres included
CHICKEN_FEET = 201  # px; a chicken is 8 px high and 7 wide
CHICKEN_LEFT, OTHER_LEFT = 44, 108  # px


def boxes(ram: np.ndarray) -> dict[str, list[Box]]:
    """Find chicken (the agent's, left), other (the right chicken, which nobody plays) and cars.

    There is one car per lane, the top lane first; a car that is changing sides can be outside. A
    car of the upper five lanes moves in RAM one frame before it moves on the screen.
    """
    cars = [car_box(ram, (lane,)) for lane in range(LANES)]
    return {
        "chicken": cut([_chicken(ram[14], CHICKEN_LEFT)], *FIELD),
        "other": cut([_chicken(ram[15], OTHER_LEFT)], *FIELD),
        "cars": cut(cars, *FIELD),
    }


def _chicken(height: int, left: int) -> Box:
    return (CHICKEN_FEET - 8 - int(height), CHICKEN_FEET - int(height), left, left + 7)


def crossings(ram: np.ndarray, rewards: np.ndarray, episode: np.ndarray) -> np.ndarray:
    """Find the steps after which the agent's chicken gets across the road: `[n]` int."""
    return np.flatnonzero(np.asarray(rewards) > 0)


def collisions(ram: np.ndarray, rewards: np.ndarray, episode: np.ndarray) -> np.ndarray:
    """Find the first step of each contact between the box of the agent's chicken and a car's.

    Args:
        ram: `[T, 128]` uint8.
        rewards: not read.
        episode: `[T]` int.

    Returns:
        `[n]` int.
    """
    touches = np.array([_touch(row) for row in ram], bool)
    before = np.append(False, touches[:-1] & (np.asarray(episode)[1:] == episode[:-1]))
    return np.flatnonzero(touches & ~before)


def _touch(ram: np.ndarray) -> bool:
    found = boxes(ram)
    return any(
        a[0] < b[1] and b[0] < a[1] and a[2] < b[3] and b[2] < a[3]
        for a in found["chicken"]
        for b in found["cars"]
    )


def car_box(ram: np.ndarray, unit: Unit) -> Box:
    """Return the box of the car of lane (0,) (top) to (9,)."""
    lane = unit[0]
    moves = lane < LANES // 2 and ram[33 + lane] == 0
    left = (int(ram[117 - lane]) - 3 + int(moves)) % 160
    top = LANE_TOP + LANE_HEIGHT * lane
    return top, top + CAR_HEIGHT, left, left + CAR_WIDTH


def _chicken_moves(ram: np.ndarray, amount: int, unit: Unit) -> str:
    return "" if 6 <= int(ram[14]) - amount <= 151 else "the chicken would leave the road"


def _car_moves(ram: np.ndarray, amount: int, unit: Unit) -> str:
    x = int(ram[117 - unit[0]])
    free = all(20 <= place <= 145 for place in (x, x + amount))
    return "" if free else "the car is changing sides"


CHANGES = {
    "chicken_y": Change(
        *("chicken", "move", shift(14, -1), "y"),
        invalid=_chicken_moves,
        meaning="nothing but what comes near: the chicken goes up",
    ),
    "other_y": Change(
        *("other", "move", shift(15, -1), "y"), meaning="nothing: nobody plays the other chicken"
    ),
    "car_x": Change(
        "cars",
        "move",
        lambda ram, amount, unit: {117 - unit[0]: int(ram[117 - unit[0]]) + amount},
        "x",
        units=lambda ram: [(lane,) for lane in range(LANES)],
        unit_box=car_box,
        lead=3,
        invalid=_car_moves,
        meaning="wait, or go",
    ),
    "car_colour": Change(
        "cars",
        "decorate",
        lambda ram, amount, unit: {77 + i: int(ram[86 - i]) for i in range(LANES)},
        hold=True,
        area=((24, 186, 8, 160),),
        meaning="nothing: the colours of the cars do not matter",
    ),
}

FREEWAY = Game(
    "freeway",
    "Freeway",
    "freeway",
    random_score=0.0,
    human_score=29.6,
    cells={
        "chicken_y": ((14,), "px of the left chicken's feet above row 201"),
        "other_y": ((15,), "px of the right chicken's feet above row 201"),
        "car_clocks": (tuple(range(33, 43)), "frames until each car moves, top lane first"),
        "car_colours": (tuple(range(77, 87)), "colour of each car"),
        "score": ((103,), "decimal digits: crossings of the left chicken"),
        "cars_x": (tuple(range(108, 118)), "left edge of each car, px + 3, bottom lane first"),
    },
    boxes=boxes,
    player="chicken",
    events={
        "crossing": Event("chicken gets across", at_once(crossings)),
        "collision": Event("car touches chicken", at_once(collisions)),
    },
    decisive="crossing",
    contact="collision",
    changes=CHANGES,
)
