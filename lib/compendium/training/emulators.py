"""Emulators side by side, in which learners play."""

from collections import deque

import numba
import numpy as np
import torch

from atarilens.agents.preprocessing import luma80, preprocessing
from atarilens.games.emulators import EnvironmentSettings, make_vector_env

RETURNS_KEPT = 100  # complete episodes that the running mean return is taken over


class Emulators:
    """B emulators with their current screens and the returns of the episodes that ended.

    Args:
        environment: settings of each emulator.
        count: B.
        seed: of all that is random in them; any whole numbers.
        reads: name of a preprocessing: "luma80", "area84" or "area84-stack4".
        kept: how many of the last complete episodes `mean_return` is taken over.

    Attributes:
        screens: `[B, 210, 160, 3]` uint8, to decide on now.
        starts: `[B]` bool, True where that screen is an episode's first.
        episodes: complete episodes so far.
    """

    def __init__(
        self,
        environment: EnvironmentSettings,
        count: int,
        seed: tuple[int, ...],
        reads: str = "luma80",
        kept: int = RETURNS_KEPT,
    ):
        self.env, self.count = make_vector_env(environment, count), count
        self.style = preprocessing(reads)
        self.episodes = 0
        self._returns = np.zeros(count)
        self._finished: deque[float] = deque(maxlen=kept)
        self.reset(seed)

    def reset(self, seed: tuple[int, ...]) -> None:
        """Begin an episode in every emulator."""
        seeds = np.random.SeedSequence(seed).generate_state(self.count) % 2**31
        screens, info = self.env.reset(seed=seeds.astype(np.int32))
        self.screens, self.lives = screens[:, 0], info["lives"].copy()
        self.starts = np.ones(self.count, bool)
        self._returns[:] = 0
        self._look()

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Act in every emulator.

        Args:
            actions: `[B]` indices.

        Returns:
            The games' rewards `[B]`; `[B]` bool, True if the episode ended; `[B]` bool, True if a
            life was lost.
        """
        screens, rewards, terminated, truncated, info = self.env.step(actions)
        over = terminated | truncated
        self._returns += rewards
        self._finished.extend(self._returns[over])
        self._returns[over] = 0
        self.episodes += int(over.sum())
        lost = over | (info["lives"] < self.lives)
        self.screens, self.starts, self.lives = screens[:, 0], over, info["lives"].copy()
        self._look()
        return rewards, over, lost

    def _look(self) -> None:
        """Put the new screens on the stacks; an episode's first also stands for those before it."""
        if self.style.name == "luma80":
            return
        grey = grey84(self.screens)
        if self.starts.all():
            self.stacks = np.repeat(grey[:, None], self.style.screens, axis=1)
            return
        self.stacks = np.concatenate((self.stacks[:, 1:], grey[:, None]), axis=1)
        self.stacks[self.starts] = grey[self.starts, None]

    def observations(self) -> torch.Tensor:
        """Return what a network reads now: `[B, 1, 80, 80]` float32, or stacks `[B, C, 84, 84]`.

        Stacks are uint8, 255 times the preprocessing's values (see `network_input`).
        """
        if self.style.name == "luma80":
            return torch.from_numpy(luma80(self.screens))[:, None]
        return torch.from_numpy(self.stacks)  # never written to again: `_look` makes new ones

    @property
    def metrics(self) -> dict:
        """Episodes so far, and the mean return of the last `kept` (real scores).

        None until there are so many: the first to finish are the shortest.
        """
        full = len(self._finished) == self._finished.maxlen
        mean = float(np.mean(self._finished)) if full else None
        return {"episodes": self.episodes, "mean_return": mean}


def _overlaps(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return which of 84 target pixels each of `size` source pixels overlaps first, and its part.

    Parts are counted in units of 1/84 of a source pixel, so that they are integers; what is left
    of the 84 lies in the next target pixel.
    """
    source = np.arange(size)
    first = source * 84 // size
    return first, np.minimum((first + 1) * size - source * 84, 84).astype(np.int32)


FIRST_X, INSIDE_X = _overlaps(160)
FIRST_Y, INSIDE_Y = _overlaps(210)


@numba.njit(nogil=True, cache=True)
def grey84(screens: np.ndarray) -> np.ndarray:
    """Return 255 times `area84`, exactly: `[B, 84, 84]` uint8 of `[B, 210, 160, 3]` uint8."""
    count, height, width, _ = screens.shape
    result = np.empty((count, 84, 84), np.uint8)
    area = np.int32(height * width)
    total, row = np.empty((84, 85), np.int32), np.empty(85, np.int32)
    grey = np.empty(width, np.int32)
    for b in range(count):
        total[:] = 0
        for y in range(height):
            line = screens[b, y]
            for x in range(width):
                red, green, blue = np.int32(line[x, 0]), np.int32(line[x, 1]), np.int32(line[x, 2])
                weighted = np.int32(4899) * red + np.int32(9617) * green + np.int32(1868) * blue
                grey[x] = (weighted + np.int32(8192)) >> np.int32(14)
            row[:] = 0
            for x in range(width):
                row[FIRST_X[x]] += INSIDE_X[x] * grey[x]
                row[FIRST_X[x] + 1] += (np.int32(84) - INSIDE_X[x]) * grey[x]
            first, inside = FIRST_Y[y], INSIDE_Y[y]
            for x in range(84):
                total[first, x] += inside * row[x]
            if inside < 84:
                for x in range(84):
                    total[first + 1, x] += (np.int32(84) - inside) * row[x]
        for y in range(84):
            for x in range(84):
                result[b, y, x] = (np.int32(2) * total[y, x] + area) // (np.int32(2) * area)
    return result
