"""The pocket zoo: agents of several algorithms, by algorithm, game, run and tag.

An agent of the zoo is stored as any other (see `files`), in `data/zoo`, and named
`<algorithm>-<game>-<run>`, or `<algorithm>-<game>-<run>-<tag>` for a tag other than "final".
The row of a final agent lists all checkpoints of its run, so that every tag can be chosen, and
chosen anew, without the run's folder: see `tags`.
Anyone's agent joins it for the length of a session by `add`: every analysis that goes through
`available`, `matrix` and `load` then includes it.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from atarilens import paths
from atarilens.agents.agent import Agent
from atarilens.agents.files import load_agent, read_row
from atarilens.games.objects import game as record_of

if TYPE_CHECKING:  # pandas loads with the first table, not with the library
    import pandas as pd

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
INITIAL, HUMAN, MATCH = "initial", "human", "match"
# Of Such et al. (2019), whose limits are 1 to 10 hours, 400 million and 1 billion frames.
LIMITS = ("3min", "6min", "12min", "18min", "30min", "400k", "1M")


_newcomers: dict[tuple[str, str, int, str], Agent] = {}


def load(algorithm: str, game: str, run: int = 1, tag: str = FINAL) -> Agent:
    """Load an agent of the zoo.

    Args:
        algorithm: such as "ppo", "dqn" or "ga".
        game: such as "pong".
        run: number of the run, from 1 on; its seed.
        tag: which of the run's checkpoints: "final", or another of `tags`.

    Raises:
        ValueError: if there is none; it lists what there is, and names the command that rebuilds
            a checkpoint that is known but not stored. Also for a damaged row or file.

    Example:
        >>> agent = zoo.load("ppo", "pong", run=1)
    """
    if newcomer := _newcomers.get((algorithm, game, run, tag)):
        return newcomer
    row = paths.ZOO / f"{_name(algorithm, game, run, tag)}.yml"
    if row.is_file():
        return load_agent(row)
    there = [_name(*entry) for entry in _keys()]
    if tag != FINAL and _name(algorithm, game, run, FINAL) in there:
        raise ValueError(_why_not(algorithm, game, run, tag))
    near = get_close_matches(row.stem, there, n=1)
    raise ValueError(
        f"the zoo has no agent {row.stem!r}{f', did you mean {near[0]}' if near else ''}? It has "
        f"{', '.join(there) or 'none yet'}; `make zoo ONLY={algorithm}-{game}-{run}` trains one, "
        "and keeps a checkpoint of every 100,000 frames in its run's folder"
    )


def available() -> "pd.DataFrame":
    """Return what `load` gives: algorithm, game, run, tag, mean score, agent steps of training.

    `tags` tells what else a run has passed through, and what it did not reach.

    Raises:
        ValueError: for a damaged row.
    """
    import pandas as pd

    rows = []
    for key in _keys():
        newcomer = _newcomers.get(key)
        path = paths.ZOO / f"{_name(*key)}.yml"
        row = newcomer.facts if newcomer else read_row(path)
        score = (row.get("score") or {}).get("mean")
        rows.append(dict(zip(COLUMNS, (*key, score, row.get("training_steps")), strict=True)))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def tags() -> "pd.DataFrame":
    """Return every tag of every final agent: a row even for a tag that its run did not reach.

    Limits of CPU time and frames are those of `LIMITS`. "human" is the first checkpoint that
    scores as the human tester of Mnih et al. (2015) does. "match@score" is the first that scores
    as much as the best run of the weakest algorithm in that game; there is none while an algorithm
    is no better than random play.

    Deviation: Such et al. select by the score of evaluations. Here a checkpoint counts with the
    mean return of the last training games, the final one with its measured score. Evolution plays
    no whole games in training: its earlier checkpoints have no score.

    Returns:
        Columns algorithm, game, run, tag, `steps` and `cpu_minutes` of training (NaN if the run
        did not reach the tag), and `how`: "stored", "not reached", or the command that rebuilds it.
    """
    import pandas as pd

    stored, rows = set(_keys()), []
    for algorithm, game, run, tag in sorted(stored):
        if tag != FINAL or (algorithm, game, run, tag) in _newcomers:
            continue
        checkpoints = _checkpoints(algorithm, game, run)
        for name, criterion in _criteria(game).items():
            found = select(checkpoints, criterion) if criterion else None
            how = f"make zoo ONLY={_name(algorithm, game, run, FINAL)} TAG={name}"
            how = "stored" if (algorithm, game, run, name) in stored else how
            told = found or {"steps": float("nan"), "cpu_seconds": float("nan")}
            rows.append(
                {
                    **dict(zip(COLUMNS[:4], (algorithm, game, run, name), strict=True)),
                    "steps": told["steps"],
                    "cpu_minutes": told["cpu_seconds"] / 60,
                    "how": how if found else "not reached",
                }
            )
    return pd.DataFrame(rows, columns=[*COLUMNS[:4], "steps", "cpu_minutes", "how"])


def matrix(tag: str = FINAL) -> "pd.DataFrame":
    """Return every cell of the zoo at a tag, trained or not, and every newcomer.

    Args:
        tag: see `load`.

    Returns:
        The columns of `available`, then `family`, and `name`, which is empty for a cell that is
        not stored. Its score and steps are missing (NaN).
    """
    import pandas as pd

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


def _checkpoints(algorithm: str, game: str, run: int) -> list[dict]:
    """Return the checkpoints of a final agent's run, as its row lists them: see `select`."""
    row = read_row(paths.ZOO / f"{_name(algorithm, game, run, FINAL)}.yml")
    return [{"frames": 4 * told["steps"]} | told for told in row.get("checkpoints") or []]


def _criteria(game: str) -> dict[str, str | tuple[str, float] | None]:
    """Return the criterion of each tag in a game; None if no checkpoint can meet it."""
    human, level = record_of(game).human_score, _match_level(game)
    return {
        INITIAL: INITIAL,
        **{limit: limit for limit in LIMITS},
        HUMAN: (HUMAN, human),
        **({MATCH: None} if level is None else {f"{MATCH}@{level:g}": (MATCH, level)}),
        FINAL: FINAL,
    }


def _match_level(game: str) -> float | None:
    """Return the best score of the weakest algorithm in a game, if it beats random play."""
    found = available().dropna(subset=["score"])
    found = found[(found["game"] == game) & (found["tag"] == FINAL)]
    found = found[found["algorithm"].isin(FAMILIES)]
    best = found.groupby("algorithm")["score"].max()
    if len(best) < 2 or best.min() <= record_of(game).random_score:
        return None
    return float(best.min())


def _why_not(algorithm: str, game: str, run: int, tag: str) -> str:
    """Say why a final agent's run has no stored agent of this tag."""
    name, known = _name(algorithm, game, run, FINAL), tags()
    known = known[known["algorithm"].eq(algorithm) & known["game"].eq(game) & known["run"].eq(run)]
    known = known.set_index("tag")
    if tag not in known.index:
        return f"unknown tag {tag!r} of {name}; it has {', '.join(known.index)}"
    told = known.loc[tag]
    if told["how"] == "not reached":
        last = known.loc[FINAL]
        return (
            f"{name} did not reach {tag}: it ended after {last['steps']:.0f} agent steps, "
            f"{last['cpu_minutes']:.1f} CPU minutes"
        )
    return f"{name} at {tag} (agent step {told['steps']:.0f}) is not stored: {told['how']}"


def _name(algorithm: str, game: str, run: int, tag: str) -> str:
    return f"{algorithm}-{game}-{run}" + (f"-{tag}" if tag != FINAL else "")


def _keys() -> list[tuple[str, str, int, str]]:
    """Return (algorithm, game, run, tag) of each stored agent and each newcomer, sorted."""
    found = (
        re.fullmatch(r"(.+?)-([a-z]+)-(\d+)(?:-(.+))?", row.stem) for row in paths.ZOO.glob("*.yml")
    )
    stored = {(m[1], m[2], int(m[3]), m[4] or FINAL) for m in found if m}
    return sorted(stored | _newcomers.keys())
