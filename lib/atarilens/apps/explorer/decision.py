"""Explain one decision: functions of (agent, trajectory, step, knobs), without any widget."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import yaml
from scipy.special import softmax

from atarilens import paths
from atarilens.agents import Agent, list_agents, load_agent
from atarilens.agents.files import UNTRAINED
from atarilens.games.objects import game as game_facts
from atarilens.games.objects import has_objects, object_boxes, to_observation
from atarilens.measures.attention import attention_by_object
from atarilens.play.gaze_trials import META, list_gaze_trials
from atarilens.play.trajectories import Trajectory
from atarilens.saliency import (
    SaliencyMaps,
    attention_saliency,
    gaussian_mask,
    jacobian_saliency,
    perturb,
    perturbation_saliency,
)
from atarilens.saliency.calling import one_torch_thread
from atarilens.views import common_gain, overlay

METHODS = ("perturbation", "jacobian", "attention")
HEADS = ("actor", "critic", "both")
BLUR_SIGMA = 3.0  # px
GAIN_STEPS = 12  # steps of an episode that determine its gain


@dataclass(frozen=True)
class Knobs:
    """Settings of the maps.

    Attributes:
        method: "perturbation" (Greydanus et al. 2018), "jacobian", or "attention": the network's
            own, if it has one.
        stride: px between perturbation centres.
        radius: px, standard deviation of the perturbation's mask.
        gain: factor on the brightness that `episode_gain` chooses.
        heads: which map is drawn: "actor", "critic" or "both".
        repeats: maps with jittered masks; with 2 or more, their mean is shown, and their spread.

    Raises:
        ValueError: if method or heads is none of these.
    """

    method: str = "perturbation"
    stride: int = 5
    radius: float = 5.0
    gain: float = 1.0
    heads: str = "both"
    repeats: int = 1

    def __post_init__(self):
        """Check the words; the saliency functions check the numbers."""
        if self.method not in METHODS:
            raise ValueError(f"method is {self.method!r}, expected {', '.join(METHODS)}")
        if self.heads not in HEADS:
            raise ValueError(f"heads is {self.heads!r}, expected {', '.join(HEADS)}")

    @property
    def map_key(self) -> tuple:
        """The settings that change the maps: only a perturbation has more than its name."""
        if self.method != "perturbation":
            return (self.method,)
        return self.method, self.stride, self.radius, self.repeats


@dataclass(frozen=True)
class Explanation:
    """One decision with its maps.

    Attributes:
        image: `[210, 160, 3]` uint8, the screen with the maps on it.
        observation: `[H, W]` float32 in [0, 1], the newest screen that the network reads.
        maps: of this decision.
        probabilities: action -> softmax of its logit.
        action: name of the action that the player took.
        value: of the critic, or None.
        attention: object -> mean standardised saliency (NSS) on it, of the actor (of the critic
            if only its map is shown); 0 is chance, NaN if the object is absent.
        boxes: object -> `[n, 4]`, (top, bottom, left, right) in px of the observation.
    """

    image: np.ndarray
    observation: np.ndarray
    maps: SaliencyMaps
    probabilities: dict[str, float]
    action: str
    value: float | None
    attention: dict[str, float]
    boxes: dict[str, np.ndarray]


@dataclass(frozen=True)
class Probe:
    """The perturbation at one pixel, and its effect on the outputs.

    Attributes:
        observation: `[C, H, W]` float32, perturbed.
        mask: `[H, W]` float64 in [0, 1].
        probabilities: action -> softmax of its logit after the perturbation.
        logits: `[2, A]` float32, before and after.
        value: before and after, or None.
        actor_score: half the squared distance that the logits moved.
        critic_score: half the squared distance that the value moved, or None.
    """

    observation: np.ndarray
    mask: np.ndarray
    probabilities: dict[str, float]
    logits: np.ndarray
    value: tuple[float, float] | None
    actor_score: float
    critic_score: float | None


def saliency_of(agent: Agent, observation, memory, knobs: Knobs) -> SaliencyMaps:
    """Compute the maps of one decision, or of T, by the method that the knobs name."""
    if knobs.method == "jacobian":
        return jacobian_saliency(agent.network, observation, memory)
    if knobs.method == "attention":
        return attention_saliency(agent.network, observation, memory)
    return perturbation_saliency(
        agent.network,
        observation,
        memory,
        stride=knobs.stride,
        mask_sigma=knobs.radius,
        blur_sigma=BLUR_SIGMA,
        repeats=knobs.repeats,
    )


def first_step(trajectory: Trajectory) -> int:
    """Return a step that shows something: the first one with the most kinds of objects.

    Only the first half of the steps counts. In a game whose objects are not known, it is a step a
    tenth of the way.
    """
    game, half = trajectory.settings.game, max(1, len(trajectory) // 2)
    if not has_objects(game):
        return len(trajectory) // 10
    boxes = (object_boxes(game, ram) for ram in trajectory.ram[:half])
    return int(np.argmax([sum(len(found) > 0 for found in kinds.values()) for kinds in boxes]))


def gain_steps(length: int) -> np.ndarray:
    """Return the steps `[n]`, evenly spread, that determine an episode's gain."""
    return np.unique(np.linspace(0, length - 1, min(GAIN_STEPS, length)).round().astype(int))


def episode_gain(agent: Agent, trajectory: Trajectory, knobs: Knobs) -> tuple[float, float]:
    """Choose one gain (actor, critic) for an episode, so that its screens can be compared."""
    knobs = replace(knobs, repeats=1)
    steps = gain_steps(len(trajectory))
    chosen = trajectory.observations[steps], trajectory.memory[steps]
    return common_gain([saliency_of(agent, *chosen, knobs)])


def explain(
    agent: Agent,
    trajectory: Trajectory,
    step: int,
    knobs: Knobs | None = None,
    *,
    gain: tuple[float, float] | None = None,
    maps: SaliencyMaps | None = None,
) -> Explanation:
    """Explain one decision.

    Args:
        agent: whose network is explained.
        trajectory: with this agent's observations and memory, see `play.seen_by`.
        step: index t of the decision.
        knobs: settings of the maps.
        gain: grey levels per unit of saliency of (actor, critic), before `knobs.gain`; by default
            the episode's.
        maps: of this decision, if they were computed before.

    Raises:
        ValueError: if there is no such step.
    """
    knobs = knobs or Knobs()
    if not 0 <= step < len(trajectory):
        raise ValueError(f"step is {step}, expected 0 to {len(trajectory) - 1}")
    gain = gain or episode_gain(agent, trajectory, knobs)
    observation = trajectory.observations[step]
    if maps is None:
        maps = saliency_of(agent, observation, trajectory.memory[step], knobs)
    shown = [
        knobs.gain * each * (knobs.heads in (head, "both"))
        for each, head in zip(gain, HEADS, strict=False)
    ]
    shape = observation.shape[-2:]
    known = has_objects(agent.game) and trajectory.ram[step].any()  # a person's trial has no RAM
    boxes = object_boxes(agent.game, trajectory.ram[step]) if known else {}
    boxes = to_observation(boxes, agent.region, shape)
    return Explanation(
        image=overlay(trajectory.frames[step], maps, agent.region, shown),
        observation=observation[-1],
        maps=maps,
        probabilities=probabilities(agent, trajectory.action_logits[step]),
        action=agent.action_meanings[trajectory.actions[step]],
        value=None if trajectory.values is None else float(trajectory.values[step]),
        attention=attention_of(maps, boxes, knobs.heads),
        boxes=boxes,
    )


def attention_of(
    maps: SaliencyMaps, boxes: Mapping[str, np.ndarray], heads: str
) -> dict[str, float]:
    """Return object -> mean standardised saliency (NSS) on it, of the head that is shown."""
    measure = "critic_nss" if heads == "critic" else "actor_nss"
    found = attention_by_object(maps, boxes)
    return {name: float(getattr(entry, measure)) for name, entry in found.items()}


def probabilities(agent: Agent, action_logits: np.ndarray) -> dict[str, float]:
    """Return action -> softmax of its logit, in the order of the actions."""
    shares = softmax(action_logits.astype(np.float64)).tolist()
    return dict(zip(agent.action_meanings, shares, strict=True))


def probe(
    agent: Agent, trajectory: Trajectory, step: int, centre: tuple[int, int], radius: float = 5.0
) -> Probe:
    """Blur the observation around one pixel and measure how far the outputs move.

    Args:
        agent: whose network is explained.
        trajectory: with its observations and its memory.
        step: index t of the decision.
        centre: (row, column) in px of the observation.
        radius: px, standard deviation of the mask.

    Returns:
        The probe. Its scores are those of `perturbation_saliency` at this pixel, at any stride.

    Raises:
        ValueError: if the pixel lies outside of the observation.
    """
    observation = trajectory.observations[step]
    shape = observation.shape[-2:]
    if not (0 <= centre[0] < shape[0] and 0 <= centre[1] < shape[1]):
        raise ValueError(f"pixel {tuple(centre)} lies outside of the observation {shape}")
    perturbed = perturb(observation, centre, mask_sigma=radius, blur_sigma=BLUR_SIGMA)
    memory = torch.from_numpy(np.stack([trajectory.memory[step]] * 2))
    with torch.inference_mode(), one_torch_thread():
        logits, value, _ = agent.network(
            torch.from_numpy(np.stack([observation, perturbed])), memory
        )
    logits = logits.numpy()
    moved = logits[1] - logits[0]
    value = None if value is None else tuple(value.tolist())
    return Probe(
        observation=perturbed,
        mask=gaussian_mask(centre, shape, radius),
        probabilities=probabilities(agent, logits[1]),
        logits=logits,
        value=value,
        actor_score=float(0.5 * (moved * moved).sum()),
        critic_score=None if value is None else 0.5 * (value[1] - value[0]) ** 2,
    )


def agents_of(game: str) -> list[str]:
    """Return the names of the agents that play a game, the untrained one first."""
    game = game_facts(game).name
    names = [name for name in list_agents() if re.fullmatch(rf"({UNTRAINED})?{game}(-.+)?", name)]
    names = names or [f"{UNTRAINED}{game}"]
    return sorted(names, key=lambda name: (not name.startswith(UNTRAINED), name))


def replays_of(game: str) -> list[str]:
    """Return the names of the stored replays of a game."""
    return sorted(path.stem for path in paths.REPLAYS.glob(f"{game}*.npz"))


def trials_of(game: str, folder: str | Path) -> list[str]:
    """Return the names of the trials of gaze on a game in a folder; none if it is no such folder.

    Args:
        game: name of a game.
        folder: in the layout of Atari-HEAD, see `play.gaze_trials`.
    """
    return list_gaze_trials(game, folder) if (Path(folder) / META).is_file() else []


def checkpoints(name: str) -> dict[str, int]:
    """Return the stages of an agent's training: agent name -> training steps, increasing.

    All stages have the same game, architecture and preprocessing, and no hints.

    Args:
        name: of an agent. The result is empty for an agent that is not in `list_agents()`.
    """
    if name not in list_agents():
        return {}
    rows = {other: _row(other) for other in agents_of(_row(name)["game"])}
    alike = ("architecture", "preprocessing")
    steps = {
        other: int(row["training_steps"])
        for other, row in rows.items()
        if row.get("training_steps") is not None
        and all(row[key] == rows[name][key] for key in alike)
        and (row.get("settings") or {}).get("hint", "none") == "none"
    }
    return dict(sorted(steps.items(), key=lambda entry: entry[1]))


def _row(name: str) -> dict:
    """Return the row of an agent without reading its weights."""
    if name.startswith(UNTRAINED):
        return load_agent(name).facts
    return yaml.safe_load((paths.AGENTS / f"{name}.yml").read_text(encoding="utf-8"))
