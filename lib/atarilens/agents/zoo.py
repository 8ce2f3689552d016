"""The pocket zoo: agents of several algorithms, by algorithm, game, run and tag.

An agent of the zoo is stored as any other (see `files`), in `data/zoo`, and named
`<algorithm>-<game>-<run>`, or `<algorithm>-<game>-<run>-<tag>` for a tag other than "final".
"""

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches

import pandas as pd
import yaml

from atarilens import paths
from atarilens.agents.agent import Agent
from atarilens.agents.files import load_agent

FINAL = "final"
COLUMNS = ("algorithm", "game", "run", "tag", "score", "steps")
CRITERIA = {  # what a tag "last checkpoint within" counts, and how many of it make one unit
    "min": ("cpu_seconds", 60),
    "k": ("frames", 1_000),
    "M": ("frames", 1_000_000),
}


def load(algorithm: str, game: str, run: int = 1, tag: str = FINAL) -> Agent:
    """Load an agent of the zoo.

    Args:
        algorithm: such as "ppo", "dqn" or "ga".
        game: such as "pong".
        run: number of the run, from 1 on; its seed.
        tag: which of the run's checkpoints: "final", or another that `available` lists.

    Raises:
        ValueError: if there is none; it lists what there is. Also for a damaged row or file.

    Example:
        >>> agent = zoo.load("ppo", "pong", run=1)
    """
    row = paths.ZOO / f"{_name(algorithm, game, run, tag)}.yml"
    if row.is_file():
        return load_agent(row)
    there = [_name(*entry) for entry in _keys()]
    near = get_close_matches(row.stem, there, n=1)
    raise ValueError(
        f"the zoo has no agent {row.stem!r}{f', did you mean {near[0]}' if near else ''}? It has "
        f"{', '.join(there) or 'none yet'}; `make zoo ONLY={algorithm}-{game}-{run}` trains one, "
        "and keeps a checkpoint of every 100,000 frames in its run's folder"
    )


def available() -> pd.DataFrame:
    """Return the agents of the zoo: algorithm, game, run, tag, mean score, agent steps of training.

    A tag that a run did not reach is a row without score and steps.
    """
    rows = []
    for key in _keys():
        row = yaml.safe_load((paths.ZOO / f"{_name(*key)}.yml").read_text())
        score = (row.get("score") or {}).get("mean")
        rows.append(dict(zip(COLUMNS, (*key, score, row.get("training_steps")), strict=True)))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def select(checkpoints: Iterable[Mapping], criterion: str | tuple[str, float]) -> Mapping | None:
    """Choose a checkpoint of a run by a criterion that is the same for all algorithms.

    Args:
        checkpoints: each with "steps" and whatever the criterion counts: "frames" (4 per agent
            step), "cpu_seconds", "score".
        criterion: "initial" or "final" (the fewest, the most steps); "3min", "400k" or "1M" (the
            last within so many CPU minutes or frames); or (name, score) such as ("human", 9.3) or
            ("match", 0.5): the first that scores so much.

    Returns:
        The checkpoint; None if the run reached no such thing: for a limit, if it ended before it.

    Raises:
        ValueError: for another criterion.
    """
    ordered = sorted(checkpoints, key=lambda checkpoint: checkpoint["steps"])
    if not ordered:
        return None
    if not isinstance(criterion, str):
        _, score = criterion
        reached = (c for c in ordered if c.get("score") is not None and c["score"] >= score)
        return next(reached, None)
    if criterion in ("initial", FINAL):
        return ordered[0 if criterion == "initial" else -1]
    found = re.fullmatch(r"(\d+)(min|k|M)", criterion)
    if not found:
        raise ValueError(
            f"unknown criterion {criterion!r}; expected initial, final, such as 3min, 400k or 1M, "
            "or a pair (name, score)"
        )
    counted, unit = CRITERIA[found[2]]
    limit = int(found[1]) * unit
    if ordered[-1][counted] < limit:
        return None
    return [c for c in ordered if c[counted] <= limit][-1]


def _name(algorithm: str, game: str, run: int, tag: str) -> str:
    return f"{algorithm}-{game}-{run}" + (f"-{tag}" if tag != FINAL else "")


def _keys() -> list[tuple[str, str, int, str]]:
    """Return (algorithm, game, run, tag) of each row of the zoo, sorted."""
    found = (
        re.fullmatch(r"(.+?)-([a-z]+)-(\d+)(?:-(.+))?", row.stem) for row in paths.ZOO.glob("*.yml")
    )
    return sorted((m[1], m[2], int(m[3]), m[4] or FINAL) for m in found if m)
