"""Scores of agents that see reconstructions of the screen instead of the screen."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from atarilens import evaluate, load_agent, paths
from atarilens.features import StateModel, with_goggles
from atarilens.play import Scores, write_scores
from compendium.training.state_model import StateModelSettings, train_state_model

EPISODES = 20
VARIANTS = {  # of the paper's Table 1: what a variant's settings change
    "plain": {"attentive": False, "perception": 0.0},
    "attentive": {"perception": 0.0},
    "full": {},
}
MAX_FRAMES = 18_000  # five minutes of play: an agent that no longer sees the ball may never serve


def variant_models(
    agent_name: str, settings: StateModelSettings, run_dir: Path, *, seed: int = 0
) -> dict[str, StateModel]:
    """Train the variants of the paper's Table 1 for equally many epochs, or go on with their runs.

    Args:
        agent_name: of a shipped agent.
        settings: of the full model; each variant changes what `VARIANTS` says.
        run_dir: of the full model; the others go on beside it.
        seed: of all of them.

    Returns:
        Variant and epochs, such as "plain 15" -> model, read back from float16 files in its folder.
    """
    models = {}
    for variant, change in VARIANTS.items():
        folder = run_dir.with_name(f"{run_dir.name}-{variant}") if change else run_dir
        model = train_state_model(agent_name, folder, replace(settings, **change), seed=seed)
        model = StateModel.load(model.save(folder / agent_name))
        models[f"{variant} {settings.epochs}"] = model
    return models


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
