"""Does a Pong agent play the ball, or one rally that it knows by heart? Move the ball, and see."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from atarilens import load_agent, paths, rollout
from atarilens.play import effects, intervene
from compendium.tables import parts

CHANGES = ("ball_y-8", "ball_y+8", "paddle_y-8", "paddle_y+8")
HORIZON = 30  # agent steps, 2 s of play: the ball reaches the paddle, and the point is decided
STEPS = 400  # of each episode, from its first screen on
MOMENTS = 8  # per episode
ITSELF, FOLLOWER = "the agent itself", "a ball follower"
COLUMNS = ("agent", "play", "player", "seed", "t", "change", "conceded", "tv", "flip", "towards")
TABLE = paths.TABLES / "rally.csv"
CONDITIONS = (
    ("pong-strong", "sampled", ITSELF),
    ("pong-strong", "sampled", FOLLOWER),
    ("pong-late", "sampled", ITSELF),
    ("pong-mid", "sampled", ITSELF),
    ("pong-strong", "greedy", ITSELF),
    ("pong-sticky", "sampled", ITSELF),
    ("pong-sticky", "sampled", FOLLOWER),
)


def follow_ball(ram: np.ndarray, generator: np.random.Generator | None) -> int:
    """Move Pong's right paddle towards the height of the ball: an action of the minimal set."""
    distance = int(ram[51]) + 7 - (int(ram[54]) + 2)  # of the middle of the paddle, px
    if not ram[54] or abs(distance) < 4:
        return 0
    return 2 if distance > 0 else 3  # RIGHT is up, LEFT is down


def rally_rows(name: str, play: str, player: str, seed: int) -> list[dict]:
    """Measure one episode: what happens within HORIZON steps of each change.

    Args:
        name: of an agent that plays Pong.
        play: "sampled" or "greedy".
        player: who plays on after the change: ITSELF or FOLLOWER.
        seed: of the episode.

    Returns:
        A row per moment and branch; `conceded` is the step after the decision at which the agent
        lost a point, or -1 if it lost none; `towards` how far the policy moved to the actions that
        the change calls for, as in `atarilens.play.effects`.
    """
    agent = load_agent(name)
    settings = replace(agent.settings, repeat_action_probability=0.0)  # the same game for everyone
    trajectory = rollout(agent, seed, STEPS, greedy=play == "greedy", settings=settings)
    ends = np.flatnonzero(trajectory.episode == 0)[-1]
    flies = [t for t in range(20, ends) if _can_change(trajectory.ram[t - 1])]
    chosen = np.unique(np.linspace(0, len(flies) - 1, MOMENTS).round().astype(int))
    found = intervene(
        trajectory,
        agent,
        [flies[i] for i in chosen],
        CHANGES,
        horizon=HORIZON,
        player=follow_ball if player == FOLLOWER else None,
    )
    rows = []
    for each in found:
        moved = effects([each])
        for i, change in enumerate(each.names):
            lost = np.flatnonzero(each.future.rewards[i] < 0)
            known = {"agent": name, "play": play, "player": player, "seed": seed, "t": each.t}
            rows.append(
                known
                | {
                    "change": change,
                    "conceded": int(lost[0]) if lost.size else -1,
                    "tv": round(float(moved["tv"][i - 1]), 4) if i else 0.0,
                    "flip": int(moved["flip"][i - 1]) if i else 0,
                    "towards": round(float(moved["towards"][i - 1]), 4) if i else 0.0,
                }
            )
    return rows


def _can_change(ram: np.ndarray) -> bool:
    """Return whether the ball is far enough from all walls and paddles for every change."""
    return 80 <= int(ram[49]) <= 170 and 64 <= int(ram[54]) <= 190


def measure_rallies(
    conditions: Sequence[tuple[str, str, str]] = CONDITIONS,
    *,
    episodes: int = 20,
    progress: bool = True,
    table: Path = TABLE,
) -> Path:
    """Measure what is missing in `data/tables/rally.csv`; an interrupted run goes on from there.

    Args:
        conditions: (agent, "sampled" or "greedy", player) each.
        episodes: per condition, seeds 0 to episodes - 1.
        progress: show a bar.
        table: where the rows go.

    Returns:
        The path of the table.

    Raises:
        ValueError: if an agent is not known.
    """
    rows = read_rallies(table) if table.is_file() else []
    done = {_condition(row) for row in rows if row["towards"]}  # others lack a column
    wanted = [(*condition, seed) for condition in conditions for seed in range(episodes)]
    for key in tqdm([key for key in wanted if key not in done], "rallies", disable=not progress):
        rows = [row for row in rows if _condition(row) != key] + rally_rows(*key)
        parts.write_rows(rows, COLUMNS, table)
    return table


def _condition(row: dict) -> tuple[str, str, str, int]:
    return row["agent"], row["play"], row["player"], int(row["seed"])


def read_rallies(table: Path = TABLE) -> list[dict]:
    """Read the table's rows, as text."""
    rows = parts.read_rows(table)
    return [{column: row.get(column, "") for column in COLUMNS} for row in rows]
