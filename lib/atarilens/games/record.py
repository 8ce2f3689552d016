"""What is known about a game: the type of one record. `catalogue` holds one module per game.

Boxes are (top, bottom, left, right) in px of the screen, half-open, and describe the LAST of the
emulator's frames, because the RAM of a step is that frame's. A screen is the maximum of the last
two frames, so a moving object can reach beyond its box by one frame's motion.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

Box = tuple[float, float, float, float]


class Occurrences(NamedTuple):
    """When an event happened: n times.

    Attributes:
        start: `[n]` int, the decision at which the event begins.
        end: `[n]` int, its last decision; equal to `start` if the event has no length.
    """

    start: np.ndarray
    end: np.ndarray


@dataclass(frozen=True)
class Event:
    """A kind of moment that a rule finds.

    Attributes:
        rule: the rule in words.
        find: `(ram [T, 128] uint8, rewards [T], episode [T]) -> Occurrences`. `rewards[t]` follows
            decision t. No occurrence reaches across the end of an episode.
        target: `(ram [T, 128], t, end) -> [n, 4]`, the boxes at step t of the object that the
            occurrence which ends at step `end` is about; None if `boxes` name that object.
        alike: `(ram [T, 128], t, end, last) -> [n, 4]`, the boxes at step t of objects of the same
            kind that the occurrence is not about, not until step `last`; None without a target.
    """

    rule: str
    find: Callable[[np.ndarray, np.ndarray, np.ndarray], Occurrences]
    target: Callable[[np.ndarray, int, int], np.ndarray] | None = None
    alike: Callable[[np.ndarray, int, int, int], np.ndarray] | None = None


Unit = tuple[int, ...]


@dataclass(frozen=True)
class Servo:
    """A cell that the console keeps changing, steered so that another one shows what is wanted.

    Attributes:
        cell: address that is written before each frame.
        reads: address that has to be right after each frame.
        gain: by how much the written value changes per unit of error.
    """

    cell: int
    reads: int
    gain: int = 1


@dataclass(frozen=True)
class Change:
    """One way to change the state of a game through its RAM.

    Attributes:
        object: name of the object in the record's boxes, or of what `area` shows.
        kind: "move", "velocity", "remove", "add", "decorate" or "null".
        writes: `(ram [128], amount, unit) -> {address: value}`: what to write before an emulator
            frame. `ram` is the unchanged game's at that moment.
        axis: "x" or "y" of the screen for "move"; a positive amount is right or down, in px.
        hold: write before every frame, and not only before the first.
        servo: steers a "move" that the console would undo; `writes` is then the first guess.
        pins: addresses that keep the unchanged game's values after every frame, so that nothing
            reacts to the change before the agent does.
        still: addresses that must not change by themselves during these frames.
        lead: emulator frames before the decision at which the writing begins.
        invalid: `(ram [128], amount, unit) -> str`: why it cannot be made now; "" if it can.
        units: `(ram [128]) -> list of units`, for a change of one of many objects.
        unit_box: `(ram [128], unit) -> Box` of that object.
        choose: word -> `(ram [T, 128], rewards [T], episode [T], t) -> unit or None`, for units
            that are named by what happens to them.
        area: boxes where a "decorate" change shows.
        false_reward: the write itself moves the score.
        meaning: what a player of the game should do, in words.
        towards: (meanings of actions that a positive amount calls for, of those against), as parts
            of the actions' names, such as (("RIGHT",), ("LEFT",)).
    """

    object: str
    kind: str
    writes: Callable[[np.ndarray, int, Unit], dict[int, int]]
    axis: str = ""
    hold: bool = False
    servo: Servo | None = None
    pins: tuple[int, ...] = ()
    still: tuple[int, ...] = ()
    lead: int = 2
    invalid: Callable[[np.ndarray, int, Unit], str] | None = None
    units: Callable[[np.ndarray], list[Unit]] | None = None
    unit_box: Callable[[np.ndarray, Unit], Box] | None = None
    choose: dict[str, Callable] = field(default_factory=dict)
    area: tuple[Box, ...] = ()
    false_reward: bool = False
    meaning: str = ""
    towards: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())


def shift(cell: int, scale: int = 1) -> Callable[[np.ndarray, int, Unit], dict[int, int]]:
    """Make the `writes` of a change that adds `scale` times the amount to a cell."""
    return lambda ram, amount, unit: {cell: int(ram[cell]) + scale * amount}


def put(**values: int) -> Callable[[np.ndarray, int, Unit], dict[int, int]]:
    """Make the `writes` of a change that sets cells: `put(c54=0)`."""
    cells = {int(name.removeprefix("c")): value for name, value in values.items()}
    return lambda ram, amount, unit: cells


def negate(cell: int) -> Callable[[np.ndarray, int, Unit], dict[int, int]]:
    """Make the `writes` of a change that turns a signed cell around."""
    return lambda ram, amount, unit: {cell: -int(ram[cell]) % 256}


def rewrite(ram: np.ndarray, amount: int, unit: Unit) -> dict[int, int]:
    """Write every cell with the value that it has: the null change."""
    return dict(enumerate(map(int, ram)))


NULL = Change("", "null", rewrite, hold=True, meaning="nothing changes")


@dataclass(frozen=True)
class Game:
    """The record of one game. Only the first three fields are needed to play and to map it.

    Attributes:
        name: key of the catalogue: lower case, no spaces.
        title: as people write it.
        ale: name of the ROM in `ale_py.roms`.
        random_score: mean score of uniformly random play, or None.
        human_score: mean score of a professional tester, or None. Both scores: Mnih et al. (2015),
            "Human-level control through deep reinforcement learning", extended data table 2.
        cells: name -> (RAM addresses, meaning); px are those of the screen.
        boxes: `(ram [128] uint8) -> {object: list of boxes}`, always with the same keys; None if
            nobody has found out where this game keeps its objects.
        player: the object that the agent plays with; "" without `boxes`.
        events: name -> Event.
        decisive: name of the event that decides a game, or "".
        contact: name of the event in which something is hit, or "".
        changes: name -> Change, see `games.interventions`.
        endless: `(ram [128]) -> ({address: value}, points)`: what to write now, so that the game
            goes on for ever, and how many points that takes from the score; ({}, 0) if nothing is
            to be done; None if the game has no such variant.
        region: px (top, bottom, left, right) of the play field, half-open.
    """

    name: str
    title: str
    ale: str
    random_score: float | None = None
    human_score: float | None = None
    cells: dict[str, tuple[tuple[int, ...], str]] = field(default_factory=dict, repr=False)
    boxes: Callable[[np.ndarray], dict[str, list[Box]]] | None = field(default=None, repr=False)
    player: str = ""
    events: dict[str, Event] = field(default_factory=dict, repr=False)
    decisive: str = ""
    contact: str = ""
    changes: dict[str, Change] = field(default_factory=dict, repr=False)
    endless: Callable[[np.ndarray], tuple[dict[int, int], int]] | None = field(
        default=None, repr=False
    )
    region: tuple[int, int, int, int] = (35, 195, 0, 160)


def at_once(find: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]):
    """Make the `find` of an event without length from a function that returns its steps `[n]`."""

    def occurrences(ram: np.ndarray, rewards: np.ndarray, episode: np.ndarray) -> Occurrences:
        steps = find(ram, rewards, episode)
        return Occurrences(steps, steps)

    return occurrences


def cut(boxes: list[Box], top: float, bottom: float, left: float = 0, right: float = 160):
    """Cut boxes at a border and leave out those that lie outside."""
    inside = [(max(a, top), min(b, bottom), max(c, left), min(d, right)) for a, b, c, d in boxes]
    return [box for box in inside if box[1] > box[0] and box[3] > box[2]]


def turns_back(position: np.ndarray, present: np.ndarray, episode: np.ndarray) -> np.ndarray:
    """Return the steps at which a position that grew begins to shrink: `[n]` int.

    A step without motion belongs to the motion before it. An absence ends the motion.
    """
    move = np.sign(np.diff(position))
    seen = present[1:] & present[:-1] & (episode[1:] == episode[:-1])
    turns = []
    before = 0
    for t, (direction, known) in enumerate(zip(move, seen, strict=True)):
        if not known:
            before = 0
            continue
        if direction < 0 < before:
            turns.append(t)
        before = direction or before
    return np.array(turns, np.int64)
