"""Emulators side by side, for collecting what is learned from."""

from collections import deque

import numpy as np

from atarilens.games.emulators import EnvironmentSettings, make_vector_env
from compendium.training.runs import RETURNS_KEPT


class Emulators:
    """B emulators, what they show, and the returns of the episodes that they finish.

    Attributes:
        screens: `[B, 210, 160, 3]` uint8, to decide on now.
        starts: `[B]` bool, True where that screen is an episode's first.
        episodes: complete episodes so far.
    """

    def __init__(self, environment: EnvironmentSettings, count: int, seed: tuple[int, ...]):
        self.env = make_vector_env(environment, count)
        seeds = np.random.SeedSequence(seed).generate_state(count) % 2**31
        screens, info = self.env.reset(seed=seeds.astype(np.int32))
        self.screens, self.lives = screens[:, 0], info["lives"].copy()
        self.starts = np.ones(count, bool)
        self.episodes = 0
        self._returns = np.zeros(count)
        self._finished: deque[float] = deque(maxlen=RETURNS_KEPT)

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Act; return the games' rewards, where an episode ended, and where a life was lost."""
        screens, rewards, terminated, truncated, info = self.env.step(actions)
        over = terminated | truncated
        self._returns += rewards
        self._finished.extend(self._returns[over])
        self._returns[over] = 0
        self.episodes += int(over.sum())
        lost = over | (info["lives"] < self.lives)
        self.screens, self.starts, self.lives = screens[:, 0], over, info["lives"].copy()
        return rewards, over, lost

    @property
    def metrics(self) -> dict:
        """Episodes so far, and the mean return of the last hundred (real scores).

        None until there are a hundred: the first to finish are the shortest.
        """
        full = len(self._finished) == RETURNS_KEPT
        mean = float(np.mean(self._finished)) if full else None
        return {"episodes": self.episodes, "mean_return": mean}
