"""Moments of play, found by stated rules on the RAM and the rewards: nobody picks a picture by eye.

Each game's record names its events. How often an event occurred is the length of what
`find_events` returns; `episode` says in how many episodes it was searched for.
"""

import numpy as np

from atarilens.games.catalogue import game
from atarilens.games.catalogue.breakout import first_ball_above_bricks
from atarilens.games.catalogue.breakout import paddle_hits as breakout_paddle_hits
from atarilens.games.catalogue.pong import last_hits_before_points as last_paddle_hit_before_point
from atarilens.games.catalogue.pong import paddle_hits as pong_paddle_hits
from atarilens.games.catalogue.spaceinvaders import aimed_shots, hits_on_aliens
from atarilens.games.record import Event, Occurrences

__all__ = [
    "aimed_shots",
    "breakout_paddle_hits",
    "event",
    "find_events",
    "first_ball_above_bricks",
    "hits_on_aliens",
    "last_paddle_hit_before_point",
    "pong_paddle_hits",
]


def event(name: str, kind: str) -> Event:
    """Return an event of a game's record.

    Args:
        name: of the game.
        kind: name of the event, or "decisive" or "contact" for the one that the record calls so.

    Raises:
        ValueError: if the game has no such event.
    """
    record = game(name)
    known = {"decisive": record.decisive, "contact": record.contact}.get(kind, kind)
    if known not in record.events:
        raise ValueError(
            f"{record.title} has no event {kind!r}; it has {', '.join(record.events) or 'none'}"
        )
    return record.events[known]


def find_events(
    name: str, kind: str, ram: np.ndarray, rewards: np.ndarray, episode: np.ndarray
) -> Occurrences:
    """Find when an event of a game happened.

    Args:
        name: of the game.
        kind: as in `event`.
        ram: `[T, 128]` uint8.
        rewards: `[T]`, the reward that followed each step.
        episode: `[T]` int.

    Returns:
        `start [n]` and `end [n]`, equal if the event has no length.

    Raises:
        ValueError: if the game has no such event.
    """
    return event(name, kind).find(ram, rewards, episode)
