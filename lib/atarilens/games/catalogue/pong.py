"""Pong. The agent plays the right paddle."""

import numpy as np

from atarilens.games.record import Box, Event, Game, at_once, cut, turns_back

FIELD = (34, 194)  # px rows between the two white walls
RIGHT_HALF = 49 + 80  # ball_x of the middle of the field


def boxes(ram: np.ndarray) -> dict[str, list[Box]]:
    """Find ball, paddle (the agent's, right) and opponent.

    The console draws rows in pairs: the right paddle starts on an even row, and so does a ball that
    is far to the right.
    """
    ball_x, ball_y, paddle_y, opponent_y = (int(ram[i]) for i in (49, 54, 51, 50))
    paddle = (paddle_y + 1) // 2 * 2 - 14
    ball = ball_y - 14 - (ball_y % 2 if ball_x >= 178 else 0)
    return {
        "ball": cut([(ball, ball + 4, ball_x - 49, ball_x - 47)] if ball_y else [], *FIELD),
        "paddle": cut([(paddle, paddle + 16, 140, 144)], *FIELD),
        "opponent": cut([(opponent_y - 15, opponent_y + 1, 16, 20)], *FIELD),
    }


def paddle_hits(ram: np.ndarray, episode: np.ndarray) -> np.ndarray:
    """Find the steps at which the ball turns from right to left in the right half.

    The ball hit the agent's paddle less than one step before or after.

    Args:
        ram: `[T, 128]` uint8.
        episode: `[T]` int.

    Returns:
        `[n]` int: the ball moves left from t to t + 1 and moved right before.
    """
    ball_x = ram[:, 49].astype(np.int64)
    turns = turns_back(ball_x, ram[:, 54] > 0, episode)
    return turns[ball_x[turns] > RIGHT_HALF]


def last_hits_before_points(
    ram: np.ndarray, rewards: np.ndarray, episode: np.ndarray
) -> np.ndarray:
    """Find the agent's last paddle hit of each rally that it won (the kill shots).

    Rallies that the agent won without a hit, because the opponent missed a serve, are left out.

    Args:
        ram: `[T, 128]` uint8.
        rewards: `[T]`, the reward that followed each step.
        episode: `[T]` int.

    Returns:
        `[n]` int.
    """
    hits = paddle_hits(ram, episode)
    rally = 0
    found = []
    for point in np.flatnonzero(rewards):
        last = hits[(hits >= rally) & (hits <= point) & (episode[hits] == episode[point])]
        if rewards[point] > 0 and last.size:
            found.append(last[-1])
        rally = point + 1
    return np.array(found, np.int64)


PONG = Game(
    "pong",
    "Pong",
    "pong",
    random_score=-20.7,
    human_score=9.3,
    cells={
        "opponent_score": ((13,), "points of the opponent"),
        "agent_score": ((14,), "points of the agent"),
        "ball_x": ((49,), "left edge of the ball, px + 49"),
        "opponent_y": ((50,), "top edge of the left paddle, px + 15; 0 while it is absent"),
        "paddle_y": ((51,), "top edge of the right paddle, even px + 13 or 14"),
        "ball_y": ((54,), "top edge of the ball, px + 14; 0 while there is none"),
    },
    boxes=boxes,
    player="paddle",
    events={
        "kill_shot": Event("last paddle hit before a point", at_once(last_hits_before_points)),
        "paddle_hit": Event(
            "paddle hits ball", at_once(lambda ram, rewards, episode: paddle_hits(ram, episode))
        ),
    },
    decisive="kill_shot",
    contact="paddle_hit",
)
