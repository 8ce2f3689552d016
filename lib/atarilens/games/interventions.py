"""Change the state of a running game through its RAM, for some emulator frames.

A game's record lists its changes. `Brancher` runs the frames before a decision with a change, and
without any.
The world's motion needs no compensation: both branches live through the same frames with the same
actions.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import ale_py
import numpy as np
from ale_py import roms

from atarilens.games.catalogue import GAMES, game
from atarilens.games.emulators import EnvironmentSettings
from atarilens.games.objects import object_boxes
from atarilens.games.record import NULL, Change, Servo, Unit

SPELLING = re.compile(r"([a-z][a-z_]*[a-z])([+-]\d+)?(?::([\w,]+))?")
TRIES = 4  # of a servo, per frame
FORGOTTEN = 24  # frames after which no sticky action is left: 0.25 ** 24
ROUNDING = 1  # px: Pong draws its paddle on even rows only


@dataclass(frozen=True)
class Named:
    """A change as somebody asked for it.

    Attributes:
        name: as spelt: `ball_y-8`, `brick_gone:2,7`, `alien_gone:target`.
        change: of the game's record.
        amount: px, for moves.
        unit: which one of many objects; a word is resolved by the caller.
    """

    name: str
    change: Change
    amount: int = 0
    unit: Unit | str = ()

    @property
    def words(self) -> str:
        """The change in words: "ball 8 px left", "brick gone 2,7"."""
        if self.change.kind == "move":
            ways = {"x": ("left", "right"), "y": ("up", "down")}[self.change.axis]
            which = f" {', '.join(map(str, self.unit))}" if self.unit else ""
            return f"{self.change.object}{which} {abs(self.amount)} px {ways[self.amount > 0]}"
        return self.name.replace("_", " ").replace(":", " ")


def parse(name: str, game_name: str) -> Named:
    """Find a change of a game by its spelling.

    Raises:
        ValueError: if the game has no such change, or an amount or a unit is missing or too much.
    """
    record = game(game_name)
    changes = record.changes | {"null": NULL}
    if not record.changes:
        known = ", ".join(sorted(other.name for other in GAMES.values() if other.changes))
        raise ValueError(f"{record.title} has no table of changes; {known} have one")
    spelt = SPELLING.fullmatch(name)
    kind = spelt[1] if spelt else name
    if kind not in changes:
        raise ValueError(f"{record.title} has no change {name!r}; it has {', '.join(changes)}")
    change, amount, unit = changes[kind], spelt[2], spelt[3]
    if (amount is not None) != (change.kind == "move"):
        example = f"{kind}+8" if change.kind == "move" else kind
        raise ValueError(f"write change {name!r} of {record.title} like {example!r}")
    if change.units is not None and unit is None:
        raise ValueError(
            f"change {name!r} of {record.title} names no object: write it like '{kind}:2,7'"
        )
    if change.units is None and unit is not None:
        raise ValueError(
            f"change {name!r} of {record.title} is not about one of many: write {kind!r}"
        )
    if unit is None:
        where = ()
    elif unit.isalpha():
        where = unit
    else:
        where = tuple(map(int, unit.split(",")))
    return Named(name, change, int(amount or 0), where)


@dataclass
class Course:
    """The emulator frames of one branch, one after another.

    Attributes:
        rams: `[128]` uint8 after each frame, with the state before the first frame in front.
        frames: `[210, 160, 3]` uint8 after each frame.
        rewards: of each frame.
        over: the episode ended on the way; nothing follows.
        missed: by how much servos and pins missed after the worst frame.
    """

    rams: list[np.ndarray]
    frames: list[np.ndarray] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    over: bool = False
    missed: int = 0

    def screen(self, frames: int, max_pool: bool) -> np.ndarray:
        """Return what an agent is shown after so many frames."""
        last = self.frames[frames - 2 : frames] if max_pool else self.frames[frames - 1 : frames]
        return np.max(last, axis=0)


class Brancher:
    """A second emulator of the same game, in which changes are tried; the first stays untouched.

    Args:
        settings: of the first emulator.
    """

    def __init__(self, settings: EnvironmentSettings):
        self.ale = ale_py.ALEInterface()
        self.ale.setFloat("repeat_action_probability", settings.repeat_action_probability)
        self.ale.setInt("max_num_frames_per_episode", settings.max_frames)
        self.ale.loadROM(roms.get_rom_path(game(settings.game).ale))
        full = settings.full_action_space
        self.actions = self.ale.getLegalActionSet() if full else self.ale.getMinimalActionSet()
        self.sticky = settings.repeat_action_probability > 0

    def state(self):
        """Return the emulator's state, the draws of sticky actions included."""
        return self.ale.cloneState(include_rng=True)

    def enter(self, state, last: int) -> Course:
        """Go to a state.

        Args:
            state: of `state()`, here or in another emulator.
            last: the action before it. The emulator does not keep with its state which action a
                sticky one would repeat, but what it was made to do last.
        """
        for _ in range(FORGOTTEN * self.sticky):
            self.ale.act(self.actions[last])
        self.ale.restoreState(state)
        return Course([self.ale.getRAM()])

    def act(self, course: Course, action: int) -> object:
        """Go on by one frame; return the state before it."""
        state = self.state()
        self._after(course, self.ale.act(self.actions[action]))
        return state

    def last_action(self, original: Course, states: list, actions: Sequence[int], at: int) -> int:
        """Return the action that the emulator did before frame `at` >= 1 of the original frames.

        It is the one asked for, or a sticky one of before: the one that leads on as it did.
        """
        candidates = list(dict.fromkeys(actions[at - 1 :: -1]))
        for last in candidates if self.sticky else []:
            course = self.enter(states[at], last)
            for action in actions[at:]:
                self.act(course, action)
            pairs = zip(course.rams, original.rams[at:], strict=True)
            if all(np.array_equal(ram, other) for ram, other in pairs):
                return last
        return candidates[0]

    def changed(
        self,
        named: Named,
        original: Course,
        state,
        actions: Sequence[int],
        first: int,
        last: int,
    ) -> Course:
        """Run the same frames with a change.

        Args:
            named: the change, with its unit resolved.
            original: the frames without it.
            state: before frame `first`.
            actions: of all frames.
            first: index of the frame before which the change begins.
            last: the action that the emulator did before it.
        """
        self.enter(state, last)
        course = Course(
            original.rams[: first + 1], original.frames[:first], original.rewards[:first]
        )
        for index in range(first, len(actions)):
            before, after = original.rams[index], original.rams[index + 1]
            writes, steered = _plan(named, index == first, before, after)
            self._steer(course, actions[index], writes, steered, last)
            last = actions[index]
            if course.over:
                break
        return course

    def _steer(self, course: Course, action: int, writes: dict, steered: list, last: int) -> None:
        """Write and act, again until what servos and pins watch is right."""
        snapshot = self.state() if steered else None
        for attempt in range(TRIES):
            if attempt:
                self.enter(snapshot, last)
            for address, value in writes.items():
                self.ale.setRAM(address, value % 256)
            reward, ram = self.ale.act(self.actions[action]), self.ale.getRAM()
            errors = [_signed(wanted - int(ram[servo.reads])) for servo, wanted in steered]
            if not any(errors):
                break
            for (servo, _), error in zip(steered, errors, strict=True):
                writes[servo.cell] += servo.gain * error
        course.missed = max(course.missed, sum(map(abs, errors)))
        self._after(course, reward)

    def _after(self, course: Course, reward: float) -> None:
        course.rewards.append(reward)
        course.rams.append(self.ale.getRAM())
        course.frames.append(self.ale.getScreenRGB())
        course.over = self.ale.game_over()


def _plan(named: Named, begins: bool, before: np.ndarray, after: np.ndarray) -> tuple[dict, list]:
    """Return what to write before a frame, and what servos and pins want after it."""
    change, writes = named.change, {}
    if begins or change.hold or change.servo:
        writes = dict(change.writes(before, named.amount, named.unit))
    steered = [(Servo(pin, pin), int(after[pin])) for pin in change.pins]
    writes |= {pin: int(before[pin]) for pin in change.pins}
    if change.servo:
        steered.append((change.servo, int(after[change.servo.reads]) + named.amount))
    return writes, steered


def _signed(difference: int) -> int:
    """Return the shorter way round a byte: -128 to 127."""
    return (difference + 128) % 256 - 128


def why_not(named: Named, game_name: str, original: Course, first: int) -> str:
    """Return why a change cannot be made before frame `first`; "" if it can."""
    change, ram = named.change, original.rams[first]
    if change.units is not None and named.unit not in change.units(ram):
        at = ", ".join(map(str, named.unit))
        return f"{change.object}: nothing to {change.kind} at {at}"
    moves = change.kind in ("move", "velocity", "remove")
    if moves and not len(visible(game_name, ram, change.object)):
        return f"{change.object}: there is none"
    if any(
        (row[list(change.still)] != ram[list(change.still)]).any() for row in original.rams[first:]
    ):
        return "the console moves it just now"
    return change.invalid(ram, named.amount, named.unit) if change.invalid else ""


def visible(game_name: str, ram: np.ndarray, kind: str) -> np.ndarray:
    """Return the boxes `[n, 4]` of an object that lie in the play field, whole."""
    found = object_boxes(game_name, ram)[kind]
    top, bottom, _, _ = game(game_name).region
    return found[(found[:, 1] > top) & (found[:, 0] < bottom)]


def held(named: Named, game_name: str, before: np.ndarray, after: np.ndarray) -> str:
    """Compare the RAM of the original and of the changed game; "" if the change is there.

    Returns:
        What is wrong, otherwise.
    """
    change = named.change
    if change.kind == "velocity":
        wanted = change.writes(before, named.amount, named.unit)
        same = all(int(after[address]) == value % 256 for address, value in wanted.items())
        return "" if same else f"{change.object}: it changed its velocity by itself"
    if change.kind not in ("move", "remove", "add"):
        return ""
    old, new = (visible(game_name, ram, change.object) for ram in (before, after))
    if change.kind != "move":
        expected = len(old) + {"remove": -1, "add": 1}[change.kind] if change.units else 0
        return "" if len(new) == expected else f"{change.object}: {len(new)}, not {expected}"
    if not len(old):
        return f"{change.object}: it is gone by itself"
    offset = np.array([0, 0, 1, 1] if change.axis == "x" else [1, 1, 0, 0]) * named.amount
    moves = slice(None)
    if change.unit_box is not None:
        moves = (old == change.unit_box(before, named.unit)).all(1)
    expected = old.copy()
    expected[moves] += offset
    if new.shape == old.shape and np.abs(new - expected).max() <= ROUNDING:
        return ""
    return f"{change.object}: not {named.amount} px away, but elsewhere"


def places(named: Named, game_name: str, rams: Sequence[np.ndarray]) -> list:
    """Return where a change may show: the boxes of its object in the given states."""
    change = named.change
    if change.area:
        return list(change.area)
    if not change.object:
        return []
    if change.unit_box is not None:
        return [change.unit_box(ram, named.unit) for ram in rams]
    return [box for ram in rams for box in object_boxes(game_name, ram)[change.object]]


def outside(changed: np.ndarray, boxes: Sequence) -> int:
    """Count the pixels `[210, 160]` bool that lie in none of the boxes."""
    rest = changed.copy()
    for top, bottom, left, right in np.array(boxes, int).reshape(-1, 4).clip(0):
        rest[top:bottom, left:right] = False
    return int(rest.sum())
