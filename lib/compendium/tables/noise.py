"""How the zoo's agents play under noise: the beginnings of some games for each kind and level."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from atarilens import paths
from atarilens.agents import zoo
from atarilens.play.noise import COLUMNS, noise_rows

LEVELS = {  # few: a condition of one agent takes two seconds on an idle core
    "observation": (0.1,),
    "weights": (0.03,),
    "relative weights": (0.3,),
    "action": (0.3,),
    "sticky": (0.25,),
}
EPISODES = 3
STEPS = 200  # of each game: 13 seconds of play
NONE, RANDOM = "none", "random"
TABLE = paths.TABLES / "zoo_noise.csv"


def measure_noise(
    only: str = "",
    *,
    levels: Mapping[str, Sequence[float]] = LEVELS,
    episodes: int = EPISODES,
    max_steps: int = STEPS,
    progress: bool = True,
    table: Path = TABLE,
) -> Path:
    """Measure what is missing in `data/tables/zoo_noise.csv`; an interrupted run goes on.

    Every agent plays the beginnings of the same games, without noise and with each kind and level;
    and for each game, random play is measured. Rows of an agent whose weights have changed are
    measured anew.

    Args:
        only: start of the agents' names.
        levels: kind of `play.noise.KINDS` -> levels above 0.
        episodes: per agent, kind and level; seeds 0 to episodes - 1.
        max_steps: agent steps of each game.
        progress: show a bar.
        table: where the rows go.

    Returns:
        The path of the table.

    Raises:
        ValueError: if no agent of the zoo has such a name.
    """
    most = max((len(each) for each in levels.values()), default=0)
    strongest_last = [
        (kind, levels[kind][place])
        for place in range(most)
        for kind in levels
        if place < len(levels[kind])
    ]
    conditions = [(NONE, 0.0), *strongest_last]
    agents = {}
    for row in zoo.available().dropna(subset=["steps"]).itertuples():
        agent = zoo.load(row.algorithm, row.game, row.run, row.tag)
        if agent.name.startswith(only):
            agents[agent.name] = agent, (row.algorithm, row.game, row.run, row.tag)
    if not agents:
        raise ValueError(f"no agent of the zoo has a name that starts with {only!r}")
    weights = {name: agent.facts["sha256"][:12] for name, (agent, _) in agents.items()}
    rows = read_noise(table) if Path(table).is_file() else []
    rows = [
        row for row in rows if weights.get(row["agent"], row["agent_sha256"]) == row["agent_sha256"]
    ]
    done = {(row["agent"], row["kind"], float(row["level"]), int(row["seed"])) for row in rows}
    wanted = [(name, *condition) for condition in conditions for name in agents]
    players = {agent.game: name for name, (agent, _) in agents.items()}
    wanted += [(f"{RANDOM}-{game}", "action", 1.0) for game in players]
    missing = [key for key in wanted if any((*key, seed) not in done for seed in range(episodes))]
    for name, kind, level in tqdm(missing, "noise", disable=not progress):
        rows = [
            row
            for row in rows
            if (row["agent"], row["kind"], float(row["level"])) != (name, kind, level)
        ]
        game = name.removeprefix(f"{RANDOM}-")
        agent, key = agents[players.get(game, name)]
        if name not in agents:  # evenly drawn actions: whose network runs makes no difference
            key = (RANDOM, agent.game, 1, zoo.FINAL)
        measured = noise_rows(
            agent, key, kind, level, name=name, episodes=episodes, max_steps=max_steps
        )
        for row in measured:
            row |= {"level": f"{level:g}", "return": f"{row['return']:g}"}
            row["agent_sha256"] = weights.get(name, "")
        rows += measured
        _write(rows, table)
    return Path(table)


def _write(rows: Sequence[Mapping], table: Path) -> None:
    """Write the rows in an order that does not depend on the order of the measurements."""
    order = sorted(
        rows, key=lambda row: tuple(str(row[name]) for name in ("agent", "kind", "level", "seed"))
    )
    with paths.whole_file(table) as beside, beside.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(order)


def read_noise(table: Path = TABLE) -> list[dict]:
    """Read the table's rows, as text."""
    with Path(table).open(newline="") as file:
        return list(csv.DictReader(file))
