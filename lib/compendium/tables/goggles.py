"""Scores of agents that see reconstructions of the screen instead of the screen."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from atarilens import evaluate, load_agent, paths
from atarilens.features import StateModel, with_goggles
from atarilens.play import Scores, write_scores

EPISODES = 20
MAX_FRAMES = 18_000  # five minutes of play: an agent that no longer sees the ball may never serve


def goggle_scores(
    agent_name: str,
    models: Mapping[str, StateModel] | None = None,
    *,
    episodes: int = EPISODES,
    seed: int = 0,
    progress: bool = True,
) -> Path:
    """Play whole episodes with and without goggles, and write one row per episode.

    Args:
        agent_name: of a shipped agent.
        models: variant -> model; by default the agent's own in `data/states`, called "full".
        episodes: per variant, the same seeds for all.
        seed: of the first episode.
        progress: show bars.

    Returns:
        The path of the table, `data/tables/goggles--<agent>.csv`; its column `agent` names the
        variant: "screen" (no goggles) or the model's.
    """
    agent = load_agent(agent_name)
    settings = replace(agent.settings, max_frames=min(agent.settings.max_frames, MAX_FRAMES))
    models = models or {"full": StateModel.load(agent_name)}
    players = {"screen": agent} | {name: with_goggles(agent, m) for name, m in models.items()}
    scores: list[Scores] = [
        replace(
            evaluate(player, episodes, seed, settings=settings, progress=progress), agent=variant
        )
        for variant, player in players.items()
    ]
    return write_scores(scores, paths.TABLES / f"goggles--{agent_name}.csv")
