"""Students that imitate an expert, with hints that tell its action or with random ones.

The study of overfit agents in Greydanus et al. (2018): cross-entropy on the expert's likeliest
action, in the states that the student itself visits (Ross et al. 2011, DAgger). The expert sees
the screen without hints and has a memory of its own. The overfit student's hints show the expert's
action, the control student's a random one; all else is equal.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from atarilens.agents import Agent, list_agents, load_agent
from atarilens.agents.networks import ACTOR_GAIN, initialise
from atarilens.agents.preprocessing import luma80
from atarilens.agents.registry import build_network
from atarilens.games.hints import draw_hint
from compendium.training.emulators import Emulators
from compendium.training.learner import GradientLearner
from compendium.training.ppo import check_network, sample, unroll
from compendium.training.runs import Callback, drive
from compendium.training.settings import check_numbers, check_seed

HINTS = ("expert", "random")


@dataclass(frozen=True)
class ImitationSettings:
    """Hyperparameters, with units.

    Attributes:
        total_steps: agent steps of the student.
        num_envs: emulators side by side.
        rollout_steps: agent steps between updates, and of the sequences learned from.
        epochs: passes over what was played.
        minibatches: per pass; each holds whole sequences of num_envs / minibatches emulators.
        learning_rate: of Adam, at the start; falls linearly to 0.
        max_grad_norm: gradients are scaled down to this norm.
        max_frames: emulator frames of a game at most, 0 for as many as the expert's. Hints that
            show the likeliest action of a deterministic game can go round in circles.
    """

    total_steps: int = 1_000_000
    num_envs: int = 64
    rollout_steps: int = 32
    epochs: int = 3
    minibatches: int = 8
    learning_rate: float = 5e-4
    max_grad_norm: float = 0.5
    max_frames: int = 0

    def __post_init__(self):
        """Check the numbers."""
        check_numbers(self, max_frames=(0, 2**31 - 1))


def hint_action(hint: str, expert_actions: np.ndarray, count: int, rng: np.random.Generator):
    """Return the actions `[B]` that the hints show: the expert's, or random ones."""
    return expert_actions if hint == "expert" else rng.integers(count, size=len(expert_actions))


def observe(screens: np.ndarray, device: torch.device) -> torch.Tensor:
    """Return the observations `[B, 1, 80, 80]` float32 of screens `[B, 210, 160, 3]` uint8."""
    return torch.from_numpy(luma80(screens))[:, None].to(device)


def imitate(
    expert: Agent,
    run_dir: str | Path,
    hint: str,
    settings: ImitationSettings | None = None,
    *,
    seed: int = 0,
    max_seconds: float = float("inf"),
    callbacks: Iterable[Callback] = (),
    progress: bool = True,
) -> Path:
    """Train a student, or go on with the run that the folder holds.

    Args:
        expert: whose likeliest action is imitated; of the paper's network, and shipped: players
            of the student find its expert by name.
        run_dir: folder of the run (see `runs`).
        hint: "expert" (the overfit student) or "random" (the control).
        settings: hyperparameters.
        seed: of the student's weights, the emulators, the actions and the random hints.
        max_seconds: stop, resumable, after so much wall time.
        callbacks: called after every update.
        progress: show a bar.

    Returns:
        The folder.

    Raises:
        ValueError: for another hint, an expert that is not shipped or of another network, a seed
            that cannot be, or a folder that holds another run or that of another expert.
    """
    if hint not in HINTS:
        raise ValueError(f"hint must be one of {', '.join(HINTS)}, received {hint!r}")
    check_seed(seed)
    check_network(expert)
    _check_shipped(expert)
    settings = settings or ImitationSettings()
    unhinted = replace(
        expert.settings, max_frames=settings.max_frames or expert.settings.max_frames
    )
    recorded = replace(unhinted, hint=f"expert:{expert.name}" if hint == "expert" else "random")
    facts = {
        "game": expert.game,
        "seed": seed,
        "environment": recorded,
        "imitation": settings,
        "lineage": f"imitates {expert.name}",
        "expert_sha256": expert.facts.get("sha256"),
    }
    network = initialise(build_network("lstm", len(expert.action_meanings)), seed)
    with torch.no_grad():
        network.actor_linear.weight.div_(ACTOR_GAIN)  # at 0.01, too little reaches the layers below
    network.to(memory_format=torch.channels_last)
    return drive(
        run_dir,
        facts,
        Student(network, expert, hint, unhinted, settings, seed),
        max_seconds=max_seconds,
        callbacks=callbacks,
        progress=progress,
    )


class Student(GradientLearner):
    """A student as a learner: it plays, its expert says what to do, and it learns that."""

    def __init__(self, network, expert: Agent, hint: str, environment, settings, seed: int):
        super().__init__(network, settings, seed)
        self.expert, self.hint, self.environment = expert, hint, environment

    def start(self, step: int) -> None:
        """Start emulators, memories and random hints anew."""
        count = self.settings.num_envs
        self.emulators = Emulators(self.environment, count, (self.seed, step))
        self.rng = np.random.default_rng((self.seed, step))
        self.memories = {
            network: torch.zeros(count, *network.memory_shape)
            for network in (self.network, self.expert.network)
        }

    def update(self, step: int) -> dict:
        """Play a rollout and learn the expert's actions on its screens."""
        rate = self.decay(step)
        emulators, entering = self.emulators, self.memories[self.network]
        num_actions = len(self.expert.action_meanings)
        played = {key: [] for key in ("observations", "starts", "targets")}
        for _ in range(self.settings.rollout_steps):
            starts = torch.from_numpy(emulators.starts)
            _, expert_logits = self._decide(self.expert.network, emulators.screens, starts)
            targets = expert_logits.argmax(1)
            shown = hint_action(self.hint, targets.numpy(), num_actions, self.rng)
            hinted = np.stack(
                [
                    draw_hint(screen, action, num_actions)
                    for screen, action in zip(emulators.screens, shown, strict=True)
                ]
            )
            observation, action_logits = self._decide(self.network, hinted, starts)
            for key, entry in zip(played, (observation, starts, targets), strict=True):
                played[key].append(entry)
            emulators.step(sample(action_logits.log_softmax(1), self.generator).numpy())
        batch = {key: torch.stack(entries) for key, entries in played.items()}
        learned = _learn(
            self.network, self.optimizer, batch, entering, self.settings, self.generator
        )
        return {"learning_rate": rate} | emulators.metrics | learned

    @torch.no_grad()
    def _decide(self, network, screens: np.ndarray, starts: torch.Tensor):
        """Run a network over screens, with its own memory; return observation and logits."""
        observation = observe(screens, torch.device("cpu"))
        hidden, self.memories[network] = unroll(
            network, observation[None], self.memories[network], starts[None]
        )
        return observation, network.actor_linear(hidden[0])


def _check_shipped(expert: Agent) -> None:
    """Require a shipped expert: replays load it by name."""
    found, expected = expert.facts.get("sha256"), None
    if expert.name in list_agents():
        expected = load_agent(expert.name, expert.game).facts["sha256"]
    if found is None or found != expected:
        raise ValueError(
            f"expert {expert.name!r} has the sha256 {found}, expected that of the agent shipped "
            f"under this name ({expected or 'there is none'}): players of a student find its "
            "expert by its name"
        )


def _learn(network, optimizer, batch, memory, settings, generator) -> dict:
    """Learn the expert's actions by cross-entropy; return means of what happened."""
    statistics = []
    for _ in range(settings.epochs):
        for part in torch.randperm(settings.num_envs, generator=generator).chunk(
            settings.minibatches
        ):
            hidden, _ = unroll(
                network, batch["observations"][:, part], memory[part], batch["starts"][:, part]
            )
            action_logits, targets = network.actor_linear(hidden), batch["targets"][:, part]
            loss = F.cross_entropy(action_logits.flatten(0, 1), targets.flatten())
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), settings.max_grad_norm)
            optimizer.step()
            agreement = (action_logits.argmax(-1) == targets).float().mean()
            statistics.append(torch.stack((loss, agreement)).detach())
    means = torch.stack(statistics).mean(0).tolist()
    return dict(zip(("cross_entropy", "agreement"), means, strict=True))
