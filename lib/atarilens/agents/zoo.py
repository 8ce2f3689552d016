"""The pocket zoo: agents of several algorithms, by algorithm, game, run and tag.

An agent of the zoo is stored as any other (see `files`), in `data/zoo`, and named
`<algorithm>-<game>-<run>`, or `<algorithm>-<game>-<run>-<tag>` for a tag other than "final".
Anyone's agent joins it for the length of a session by `add`: every analysis that goes through
`available`, `matrix` and `load` then includes it.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

import pandas as pd
import yaml

from atarilens import paths
from atarilens.agents.agent import Agent
from atarilens.agents.files import load_agent

FINAL = "final"
FAMILIES = {
    **dict.fromkeys(("ppo", "a2c"), "policy gradient"),
    **dict.fromkeys(("dqn", "qr-dqn"), "value"),
    **dict.fromkeys(("ga", "es"), "evolution"),
}
GAMES = ("pong", "breakout", "freeway")
RUNS = (1, 2, 3)
NEWCOMER = "newcomer"  # family of an agent that was added
COLUMNS = ("algorithm", "game", "run", "tag", "score", "steps")
CRITERIA = {  # what a tag "last checkpoint within" counts, and how many of it make one unit
    "min": ("cpu_seconds", 60),
    "k": ("frames", 1_000),
    "M": ("frames", 1_000_000),
}


_newcomers: dict[tuple[str, str, int, str], Agent] = {}


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
    if newcomer := _newcomers.get((algorithm, game, run, tag)):
        return newcomer
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
        newcomer = _newcomers.get(key)
        path = paths.ZOO / f"{_name(*key)}.yml"
        row = newcomer.facts if newcomer else yaml.safe_load(path.read_text())
        score = (row.get("score") or {}).get("mean")
        rows.append(dict(zip(COLUMNS, (*key, score, row.get("training_steps")), strict=True)))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def matrix(tag: str = FINAL) -> pd.DataFrame:
    """Return every cell of the zoo at a tag, trained or not, and every newcomer.

    Args:
        tag: see `load`.

    Returns:
        The columns of `available`, then `family`, and `name`, which is empty for a cell that is
        not stored. Its score and steps are missing (NaN).
    """
    found = available()
    found = found[found["tag"] == tag]
    known = {tuple(row[:3]): row for row in found.itertuples(index=False)}
    cells = [(name, game, run) for name in FAMILIES for game in GAMES for run in RUNS]
    rows = []
    for key in dict.fromkeys([*cells, *known]):
        row = known.get(key, (*key, tag, None, None))
        name = _name(*key, tag) if key in known else ""
        rows.append((*row, FAMILIES.get(key[0], NEWCOMER), name))
    table = pd.DataFrame(rows, columns=[*COLUMNS, "family", "name"])
    return table.astype({"score": float, "steps": float})


def add(agent: Agent | str | Path, algorithm: str, run: int = 1, tag: str = FINAL, **how) -> Agent:
    """Let anyone's agent join the zoo until this session ends.

    Args:
        agent: an agent, or what `load_agent` takes: a name, or the path of a checkpoint of
            Stable-Baselines3, CleanRL, greydanus/baby-a3c or `save_agent`.
        algorithm: the name under which it appears: lower-case words joined by hyphens.
        run: number of the run, from 1 on.
        tag: see `load`.
        **how: further arguments of `load_agent`: game, preprocessing, settings.

    Returns:
        The agent, named `<algorithm>-<game>-<run>`.

    Raises:
        ValueError: if the name is malformed or taken, or `load_agent` refuses.

    Example:
        >>> zoo.add("model.zip", "my-ppo", game="pong")
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]*[a-z])*", algorithm) or run < 1:
        raise ValueError(
            f"algorithm {algorithm!r}, run {run}: expected lower-case words joined by hyphens, "
            "such as my-ppo, and a run from 1 on"
        )
    agent = agent if isinstance(agent, Agent) else load_agent(agent, **how)
    key = (algorithm, agent.game, run, tag)
    if (paths.ZOO / f"{_name(*key)}.yml").exists():
        raise ValueError(
            f"the zoo has a stored agent {_name(*key)!r}: choose another algorithm name"
        )
    _newcomers[key] = replace(agent, name=_name(*key))
    return _newcomers[key]


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
    """Return (algorithm, game, run, tag) of each stored agent and each newcomer, sorted."""
    found = (
        re.fullmatch(r"(.+?)-([a-z]+)-(\d+)(?:-(.+))?", row.stem) for row in paths.ZOO.glob("*.yml")
    )
    stored = {(m[1], m[2], int(m[3]), m[4] or FINAL) for m in found if m}
    return sorted(stored | _newcomers.keys())
