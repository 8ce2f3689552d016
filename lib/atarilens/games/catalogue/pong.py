"""Pong. The agent plays the right paddle."""

import numpy as np

from atarilens.games.record import (
    Box,
    Change,
    Event,
    Game,
    Servo,
    Unit,
    at_once,
    cut,
    negate,
    put,
    shift,
    turns_back,
)

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


def _ball_flies(ram: np.ndarray, amount: int, unit: Unit) -> str:
    """Require a ball clear of walls and paddles, so that it hits nothing on the way."""
    free = 80 <= int(ram[49]) <= 176 and 52 <= int(ram[54]) <= 200
    return "" if free else "the ball is too near to a wall or a paddle"


def _ball_moves(cell: int, low: int, high: int):
    def invalid(ram: np.ndarray, amount: int, unit: Unit) -> str:
        inside = low <= int(ram[cell]) + amount <= high
        return _ball_flies(ram, amount, unit) if inside else "the ball would leave the free field"

    return invalid


UP, DOWN = ("RIGHT",), ("LEFT",)  # what the joystick's directions do to the paddle
OPPONENT = 21  # the cell that moves the opponent; it is pinned so that it does not follow the ball
DIGIT, DIGIT_HEIGHT = 202, 5  # first byte of the digit 0 in the ROM, bytes per digit
CHANGES = {
    "ball_y": Change(
        *("ball", "move", shift(54), "y"),
        pins=(OPPONENT,),
        invalid=_ball_moves(54, 52, 200),
        meaning="the paddle follows the ball",
        towards=(DOWN, UP),
    ),
    "ball_x": Change(
        *("ball", "move", shift(49), "x"),
        pins=(OPPONENT,),
        invalid=_ball_moves(49, 80, 176),
        meaning="the ball arrives earlier or later",
    ),
    "ball_velocity_y": Change(
        *("ball", "velocity", negate(56)),
        pins=(OPPONENT,),
        invalid=_ball_flies,
        meaning="the ball rises instead of falling, or the other way round",
    ),
    "ball_velocity_x": Change(
        *("ball", "velocity", negate(58)),
        pins=(OPPONENT,),
        invalid=_ball_flies,
        meaning="the ball comes instead of going, or the other way round",
    ),
    "ball_gone": Change(
        *("ball", "remove", put(c54=0)),
        hold=True,
        pins=(OPPONENT,),
        invalid=_ball_flies,
        meaning="there is nothing to follow",
    ),
    "paddle_y": Change(
        *("paddle", "move", shift(60), "y"),
        servo=Servo(60, 51),
        meaning="the paddle goes back",
        towards=(UP, DOWN),
    ),
    "paddle_gone": Change(
        *("paddle", "remove", put(c60=240)), hold=True, meaning="where the paddle is cannot be seen"
    ),
    "opponent_y": Change(
        *("opponent", "move", shift(OPPONENT), "y"),
        servo=Servo(OPPONENT, 50),
        meaning="nothing: the opponent does not touch the ball now",
    ),
    "opponent_gone": Change(
        *("opponent", "remove", put(c21=240)), hold=True, meaning="nothing, until the ball is there"
    ),
    "digits": Change(
        *("score", "decorate", put(c71=DIGIT + 5 * DIGIT_HEIGHT, c75=DIGIT + 3 * DIGIT_HEIGHT)),
        hold=True,
        area=((0, 24, 0, 160),),
        meaning="nothing: the digits of the score do not matter",
    ),
}

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
    changes=CHANGES,
)
