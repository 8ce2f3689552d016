"""Moments of play, found by stated rules on the RAM and the rewards: no picture is chosen by hand.

All functions take the arrays of a trajectory, index t being the moment of a decision, and return
indices t. No moment reaches across the end of an episode. How often a moment occurred is the
length of what comes back; `episode` says in how many episodes it was looked for.
"""

from typing import NamedTuple

import numpy as np

from atarilens.games.objects import BRICK_TOP, aliens, cell

BREAKOUT_BELOW = 130  # ball_y, the lower half of the field: what turns a ball up here is the paddle
PONG_RIGHT = 49 + 80  # ball_x, the right half of the field
LASER_LOWEST = 95  # laser_y; larger values mean that there is no shot in the air


class Shots(NamedTuple):
    """Shots that hit an alien.

    Attributes:
        fired: `[n]` int, the decision after which the shot left the ship.
        impact: `[n]` int, the last decision before the alien was hit; its reward follows here.
    """

    fired: np.ndarray
    impact: np.ndarray


def first_ball_above_bricks(ram: np.ndarray, episode: np.ndarray) -> np.ndarray:
    """Breakout: the first step of each episode at which the whole ball is above the wall's top.

    Args:
        ram: `[T, 128]` uint8.
        episode: `[T]` int.

    Returns:
        `[n]` int, at most one step per episode.
    """
    ball_y = cell("breakout", "ball_y", ram)
    above = np.flatnonzero((ball_y > 0) & (ball_y + 13 <= BRICK_TOP))
    _, first = np.unique(np.asarray(episode)[above], return_index=True)
    return above[first]


def breakout_paddle_hits(ram: np.ndarray, episode: np.ndarray) -> np.ndarray:
    """Breakout: the steps at which the ball turns from falling to rising in the lower half.

    The paddle was hit less than one step before or after.

    Args:
        ram: `[T, 128]` uint8.
        episode: `[T]` int.

    Returns:
        `[n]` int: the ball rises from t to t + 1 and fell before.
    """
    ball_y = cell("breakout", "ball_y", ram)
    turns = _turns_back(ball_y, ball_y > 0, episode)
    return turns[ball_y[turns] > BREAKOUT_BELOW]


def pong_paddle_hits(ram: np.ndarray, episode: np.ndarray) -> np.ndarray:
    """Pong: the steps at which the ball turns from right to left in the right half.

    The agent's paddle was hit less than one step before or after.

    Args:
        ram: `[T, 128]` uint8.
        episode: `[T]` int.

    Returns:
        `[n]` int: the ball moves left from t to t + 1 and moved right before.
    """
    ball_x = cell("pong", "ball_x", ram)
    turns = _turns_back(ball_x, cell("pong", "ball_y", ram) > 0, episode)
    return turns[ball_x[turns] > PONG_RIGHT]


def last_paddle_hit_before_point(
    ram: np.ndarray, rewards: np.ndarray, episode: np.ndarray
) -> np.ndarray:
    """Pong: the agent's last paddle hit of each rally that it won (the kill shots).

    Rallies that were won without a hit, where the opponent missed a serve, are left out.

    Args:
        ram: `[T, 128]` uint8.
        rewards: `[T]`, the reward that followed each step.
        episode: `[T]` int.

    Returns:
        `[n]` int.
    """
    hits = pong_paddle_hits(ram, episode)
    rally = 0
    found = []
    for point in np.flatnonzero(rewards):
        last = hits[(hits >= rally) & (hits <= point) & (episode[hits] == episode[point])]
        if rewards[point] > 0 and last.size:
            found.append(last[-1])
        rally = point + 1
    return np.array(found, np.int64)


def hits_on_aliens(ram: np.ndarray, rewards: np.ndarray, episode: np.ndarray) -> Shots:
    """Space Invaders: all shots of the ship that hit an alien.

    A shot begins where the ship's missile appears (or appears anew, lower than it was), and hits
    where exactly one alien is gone at the next step, points follow, and it is the latest shot.

    Args:
        ram: `[T, 128]` uint8.
        rewards: `[T]`, the reward that followed each step.
        episode: `[T]` int.
    """
    height = cell("spaceinvaders", "laser_y", ram)
    flies = height <= LASER_LOWEST
    same = episode[1:] == episode[:-1]
    appears = flies[1:] & (~flies[:-1] | (height[1:] > height[:-1])) & same
    alive = aliens(ram).sum((1, 2))
    dies = (alive[1:] == alive[:-1] - 1) & (np.asarray(rewards)[:-1] > 0) & flies[:-1] & same
    fired, impact = np.flatnonzero(appears), np.flatnonzero(dies)
    latest = np.searchsorted(fired, impact) - 1  # the last shot fired before the impact
    known = latest >= 0
    fired, impact = fired[latest[known]], impact[known]
    whole = episode[fired] == episode[impact]
    return Shots(fired[whole], impact[whole])


def aimed_shots(ram: np.ndarray, rewards: np.ndarray, episode: np.ndarray) -> Shots:
    """Space Invaders: the shots whose alien moved between the firing and the impact.

    Such a shot was fired to where the alien was going to be, not to where it was seen. The rule:
    the block of aliens is elsewhere at the impact than at the decision that fired.

    Args:
        ram: `[T, 128]` uint8.
        rewards: `[T]`, the reward that followed each step.
        episode: `[T]` int.
    """
    shots = hits_on_aliens(ram, rewards, episode)
    block = np.stack([cell("spaceinvaders", f"aliens_{axis}", ram) for axis in "xy"], axis=-1)
    moved = (block[shots.fired] != block[shots.impact]).any(-1)
    return Shots(shots.fired[moved], shots.impact[moved])


def _turns_back(position: np.ndarray, present: np.ndarray, episode: np.ndarray) -> np.ndarray:
    """Return the steps at which a position that grew begins to shrink: `[n]` int.

    Steps at which it stands still count to the motion before. It must be present all the time.
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
