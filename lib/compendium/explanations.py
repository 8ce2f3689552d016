"""The standard figures of any agent, of one stretch of its play."""

from pathlib import Path

import numpy as np

from atarilens.agents import Agent
from atarilens.games.objects import boxes_at
from atarilens.measures.attention import attention_by_object, by_episode
from atarilens.measures.controls import other_times, spread_steps
from atarilens.play.rollouts import rollout
from atarilens.play.trajectories import Trajectory
from atarilens.saliency import SaliencyMaps, jacobian_saliency, perturbation_saliency
from atarilens.views import (
    Panel,
    attention_figure,
    common_gain,
    describe_gain,
    overlay,
    save_figure,
    screens_figure,
)

PANELS = 5
ATTENTION_STEPS = 60


def standard_figures(
    agent: Agent, out_dir: Path, *, seed: int = 0, steps: int = 400, greedy: bool | None = None
) -> list[Path]:
    """Draw what an agent attends to in one stretch of its play.

    `<agent>--saliency`: evenly spaced steps, perturbation above Jacobian saliency.
    `<agent>--attention`: attention by object, and the same maps against objects of other times.

    Args:
        agent: any agent.
        out_dir: folder of the figures and their numbers.
        seed: of the rollout.
        steps: agent steps played, two or more: each is held against another time.
        greedy: see `rollout`.

    Returns:
        Paths of the PNG files; the numbers stand beside them as JSON.

    Raises:
        ValueError: if there are fewer than two steps.
    """
    if steps < 2:
        raise ValueError(f"steps is {steps}, expected 2 or more")
    trajectory = rollout(agent, seed=seed, max_steps=steps, greedy=greedy)
    facts = {
        "agent": agent.name,
        "sha256": agent.facts.get("sha256"),
        "settings": agent.settings.as_dict(),
        "seed": seed,
        "steps": steps,
        "greedy": trajectory.origin["greedy"],
    }
    return [
        _saliency(agent, trajectory, out_dir, facts),
        _attention(agent, trajectory, out_dir, facts),
    ]


def _saliency(agent: Agent, trajectory: Trajectory, out_dir: Path, facts: dict) -> Path:
    length = len(trajectory.actions)
    chosen = ((np.arange(PANELS) + 0.5) * length / PANELS).astype(int)
    rows, gains = [], {}
    for name, method in (
        ("perturbation", perturbation_saliency),
        ("Jacobian", jacobian_saliency),
    ):
        maps = method(agent.network, trajectory.observations[chosen], trajectory.memory[chosen])
        gains[name] = common_gain([maps])
        rows.append(
            [
                Panel(
                    overlay(trajectory.frames[t], maps[i], agent.region, gains[name]),
                    title=f"step {t}",
                    note=_action(agent, trajectory, t),
                )
                for i, t in enumerate(chosen)
            ]
        )
    said = " ".join(f"{name}: {describe_gain(gain)}" for name, gain in gains.items())
    caption = f"{agent.name}, {PANELS} evenly spaced of {length} steps, one gain per row. {said}"
    figure = screens_figure(
        rows, caption=caption, headings=list(gains), critic=maps.critic is not None
    )
    numbers = facts | {"shown": chosen, "gains": gains}
    return save_figure(figure, out_dir, f"{agent.name}--saliency", numbers)


def _attention(agent: Agent, trajectory: Trajectory, out_dir: Path, facts: dict) -> Path:
    chosen = spread_steps(trajectory.episode, ATTENTION_STEPS)
    episode = trajectory.episode[chosen]
    maps = perturbation_saliency(
        agent.network, trajectory.observations[chosen], trajectory.memory[chosen], progress=True
    )
    shape = maps.actor.shape[-2:]
    boxes = boxes_at(agent.game, trajectory.ram[chosen], agent.region, shape)
    conditions = _conditions(maps, boxes, episode)
    # A bar without an interval: one stretch of play is too few episodes for one.
    means = {
        condition: {name: (np.nanmean(v), np.nanmean(v)) for name, v in row.items()}
        for condition, row in conditions.items()
    }
    caption = (
        f"{agent.name}: how far the actor's perturbation saliency is concentrated on each kind of "
        f"object in {len(chosen)} steps of one stretch of play; dots are its episodes. "
        "Dashed line: chance."
    )
    label = "mean standardised saliency (NSS)"
    figure = attention_figure(conditions, means, axis_label=label, caption=caption)
    numbers = facts | {"steps_measured": len(chosen), "actor_nss": conditions}
    return save_figure(figure, out_dir, f"{agent.name}--attention", numbers)


def _conditions(maps: SaliencyMaps, boxes: list[dict], episode: np.ndarray) -> dict[str, dict]:
    """Return condition -> object -> `[E]` attention per episode: as it was, and the control."""
    return {
        name: by_episode(attention_by_object(maps, there), episode)
        for name, there in {
            "objects where they are": boxes,
            "objects where they were at another time": other_times(boxes, episode),
        }.items()
    }


def _action(agent: Agent, trajectory: Trajectory, t: int) -> str:
    return agent.action_meanings[trajectory.actions[t]]
