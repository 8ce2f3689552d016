"""PPO (Schulman et al. 2017), for networks with and without a memory, on CPU and CUDA alike.

Read from top to bottom: the settings, one update (play, then improve), and `train`. One epoch over
one minibatch with lambda 1, plain advantages and RMSprop is A2C (Huang et al. 2022): `A2C` below.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from atarilens.agents import Agent
from atarilens.agents.networks import initialise
from atarilens.agents.registry import build_network
from atarilens.games.emulators import EnvironmentSettings, action_meanings
from compendium.training import fused
from compendium.training.emulators import RETURNS_KEPT, Emulators
from compendium.training.learner import GradientLearner, hidden_layer, initial_network
from compendium.training.runs import Callback, drive
from compendium.training.settings import check_numbers, check_seed

RECURRENT = "lstm"  # the paper's network; all others are feed-forward


def rmsprop(parameters, learning_rate: float, eps: float) -> torch.optim.RMSprop:
    """Make an RMSprop whose mean squares start at 1, as TensorFlow's: its first steps are small."""
    optimizer = torch.optim.RMSprop(parameters, learning_rate, alpha=0.99, eps=eps)
    for parameter in optimizer.param_groups[0]["params"]:
        ones = torch.ones_like(parameter, memory_format=torch.preserve_format)
        optimizer.state[parameter] = {"step": torch.zeros(()), "square_avg": ones}
    return optimizer


OPTIMIZERS = {"adam": torch.optim.Adam, "rmsprop": rmsprop}
A2C = {
    "epochs": 1,
    "minibatches": 1,
    "gae_lambda": 1.0,
    "normalise_advantages": False,
    "optimizer": "rmsprop",
}


@dataclass(frozen=True)
class PPOSettings:
    """Hyperparameters, with units.

    Attributes:
        total_steps: agent steps of the whole run; the learning rate falls linearly to 0 over it.
        num_envs: emulators side by side.
        rollout_steps: agent steps of each emulator between updates.
        sequence_steps: agent steps through which gradients flow, 0 for the whole rollout; each
            sequence starts from the memory that entered it when it was played.
        epochs: passes over each rollout.
        minibatches: per pass; each holds a share of all sequences, drawn anew in every pass.
        learning_rate: of Adam, at the start.
        clip: of the probability ratio, PPO eq. 7.
        entropy: coefficient of the entropy bonus.
        value: coefficient of the value loss.
        gamma: discount per agent step.
        gae_lambda: of generalised advantage estimation (Schulman et al. 2016, eq. 16).
        max_grad_norm: gradients are scaled down to this norm.
        life_loss: a lost life ends the return (never the memory).
        life_penalty: taken from the reward where a life is lost, after clipping.
        clip_rewards: learn from the sign of the reward.
        normalise_advantages: to mean 0 and variance 1 in each minibatch.
        optimizer: "adam" or "rmsprop".
        network: name in `agents.registry`. "lstm" reads "luma80"; a feed-forward one reads
            "area84-stack4", and every step is a sequence of its own.
        hidden_units: of the network's dense layer, 0 for its own default.
        calibrated: start from a data-dependent initialisation (see `learner.initial_network`).
        returns_kept: complete episodes that the mean return is taken over.
    """

    total_steps: int = 10_000_000
    num_envs: int = 64
    rollout_steps: int = 32
    sequence_steps: int = 0
    epochs: int = 3
    minibatches: int = 8
    learning_rate: float = 5e-4
    clip: float = 0.1
    entropy: float = 0.01
    value: float = 0.5
    gamma: float = 0.99
    gae_lambda: float = 0.95
    max_grad_norm: float = 0.5
    life_loss: bool = True
    life_penalty: float = 0.0
    clip_rewards: bool = True
    normalise_advantages: bool = True
    optimizer: str = "adam"
    network: str = "lstm"
    hidden_units: int = 0
    calibrated: bool = False
    returns_kept: int = RETURNS_KEPT

    def __post_init__(self):
        """Refuse settings that cannot be run."""
        anything = (-math.inf, math.inf)
        check_numbers(
            self,
            sequence_steps=(0, math.inf),
            hidden_units=(0, math.inf),
            entropy=anything,
            gamma=(0, 1),
            gae_lambda=(0, 1),
            life_penalty=anything,
        )
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(
                f"optimizer must be one of {', '.join(OPTIMIZERS)}, received {self.optimizer!r}"
            )
        if self.rollout_steps % self.sequence_length:
            raise ValueError(
                f"rollout_steps ({self.rollout_steps}) must be a multiple of sequence_steps "
                f"({self.sequence_steps})"
            )
        if self.sequences % self.minibatches:
            raise ValueError(
                f"the sequences of a rollout ({self.sequences}: num_envs x rollout_steps / "
                f"sequence_steps) must be a multiple of minibatches ({self.minibatches})"
            )
        if self.num_envs * self.rollout_steps == self.minibatches:
            raise ValueError(
                f"minibatches ({self.minibatches}) of one step each: advantages are scaled by "
                "their spread, expected two steps or more"
            )

    @property
    def sequence_length(self) -> int:
        """Agent steps of each sequence."""
        if self.network != RECURRENT:
            return 1
        return self.sequence_steps or self.rollout_steps

    @property
    def sequences(self) -> int:
        """Number of sequences in a rollout."""
        return self.num_envs * (self.rollout_steps // self.sequence_length)


class PPO(GradientLearner):
    """PPO as a learner: play `rollout_steps` in each emulator, then improve on what was played."""

    def __init__(self, network, environment: EnvironmentSettings, settings: PPOSettings, seed: int):
        super().__init__(network, settings, seed, OPTIMIZERS[settings.optimizer])
        self.environment = environment

    def start(self, step: int) -> None:
        """Start emulators and memory anew."""
        settings, count = self.settings, self.settings.num_envs
        self.emulators = Emulators(
            self.environment,
            count,
            (self.seed, step),
            "luma80" if settings.network == RECURRENT else "area84-stack4",
            settings.returns_kept,
        )
        self.memory = torch.zeros(count, *self.network.memory_shape, device=self.device)

    def update(self, step: int) -> dict:
        """Collect one rollout and learn from it."""
        rate = self.decay(step)
        rollout, self.memory = _collect(
            self.network, self.emulators, self.memory, self.settings, self.generator
        )
        learned = _update(self.network, self.optimizer, rollout, self.settings, self.generator)
        return {"learning_rate": rate} | self.emulators.metrics | learned


@torch.no_grad()
def _collect(network, emulators, memory, settings, generator):
    """Play `rollout_steps` in each emulator; return the rollout and the memory after it.

    The rollout's entries are `[T, B, ...]`; its "memory" is the one that entered each sequence,
    `[sequences, k, M]` (see `cut`).
    """
    device = memory.device
    rollout = {key: [] for key in ("observations", "starts", "actions", "log_probs", "values")}
    rewards, ends, entering = [], [], []
    for step in range(settings.rollout_steps):
        if step % settings.sequence_length == 0:
            entering.append(memory)
        observation = emulators.observations().to(device)
        starts = torch.from_numpy(emulators.starts).to(device)
        action_logits, value, memory = decide(network, observation[None], memory, starts[None])
        log_probs = torch.log_softmax(action_logits[0], dim=1)
        actions = sample(log_probs, generator)
        log_prob = log_probs.gather(1, actions[:, None])[:, 0]
        entries = (observation, starts, actions, log_prob, value[0])
        for key, entry in zip(rollout, entries, strict=True):
            rollout[key].append(entry)
        reward, over, lost = emulators.step(actions.cpu().numpy())
        reward = np.sign(reward) if settings.clip_rewards else reward
        rewards.append(reward - settings.life_penalty * lost)
        ends.append(lost if settings.life_loss else over)
    observation = emulators.observations().to(device)
    starts = torch.from_numpy(emulators.starts).to(device)
    _, last_value, _ = decide(network, observation[None], memory, starts[None])
    rollout = {key: torch.stack(entries) for key, entries in rollout.items()}
    rewards, ends = (
        torch.from_numpy(np.stack(x).astype(np.float32)).to(device) for x in (rewards, ends)
    )
    rollout["advantages"] = advantages(
        rewards, rollout["values"], ends, last_value[0], settings.gamma, settings.gae_lambda
    )
    rollout["returns"] = rollout["advantages"] + rollout["values"]
    return rollout | {"memory": torch.cat(entering)}, memory


def decide(network, observations, memory, starts):
    """Run a network over sequences, convolutions in bfloat16, as collecting and learning do.

    Args:
        network: to run.
        observations: `[T, B, ...]`, as `Emulators.observations` returns them.
        memory: `[B, k, M]` entering the first step; `[B, 0, 0]` of a feed-forward network.
        starts: `[T, B]` bool, True where an episode starts: memory is zero there.

    Returns:
        action_logits `[T, B, A]`, values `[T, B]` and the memory after the last step.
    """
    if memory.shape[1]:
        hidden, memory = unroll(network, observations, memory, starts)
        return *network.heads(hidden), memory
    hidden = hidden_layer(network, observations.flatten(0, 1)).unflatten(0, starts.shape)
    return network.actor_linear(hidden), network.critic_linear(hidden).squeeze(-1), memory


def unroll(network, observations, memory, starts):
    """Return hidden layers `[T, B, M]` and the last memory of a network with a memory."""
    if memory.device.type == "cpu" and network.cell == "lstm":
        return fused.unroll(network, observations, memory, starts)
    with torch.autocast(memory.device.type, torch.bfloat16):
        hidden, memory = network.unroll(observations, memory, starts)
    return hidden.float(), memory.float()


def sample(log_probs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Draw an action `[B]` int64 from each row of `[B, A]`, by the Gumbel trick."""
    noise = torch.rand(log_probs.shape, generator=generator, device=log_probs.device)
    return (log_probs - torch.log(-torch.log(noise.clamp_min(1e-20)))).argmax(1)


def advantages(rewards, values, ends, last_value, gamma, gae_lambda) -> torch.Tensor:
    """Return generalised advantage estimates `[T, B]`.

    Args:
        rewards: `[T, B]`, that followed the action of step t.
        values: `[T, B]`, of step t.
        ends: `[T, B]`, 1.0 where the return ends with that reward.
        last_value: `[B]`, of the step after the last.
        gamma: discount per step.
        gae_lambda: 1 gives the Monte Carlo return less the value, 0 the one-step error.
    """
    result = torch.zeros_like(rewards)
    advantage = torch.zeros_like(last_value)
    for t in reversed(range(len(rewards))):
        following = last_value if t == len(rewards) - 1 else values[t + 1]
        error = rewards[t] + gamma * (1 - ends[t]) * following - values[t]
        advantage = error + gamma * gae_lambda * (1 - ends[t]) * advantage
        result[t] = advantage
    return result


def cut(entry: torch.Tensor, steps: int) -> torch.Tensor:
    """Cut `[T, B, ...]` into sequences `[steps, T / steps * B, ...]`, the earliest steps first."""
    return entry.unflatten(0, (-1, steps)).transpose(0, 1).flatten(1, 2)


def _update(network, optimizer, rollout, settings, generator):
    """Improve the network on one rollout; return means of what happened."""
    statistics, memory = [], rollout["memory"]
    sequences = {
        key: cut(entry, settings.sequence_length)
        for key, entry in rollout.items()
        if key != "memory"
    }
    for _ in range(settings.epochs):
        order = torch.randperm(settings.sequences, generator=generator, device=memory.device)
        for part in order.chunk(settings.minibatches):
            batch = {key: entry[:, part] for key, entry in sequences.items()}
            action_logits, value, _ = decide(
                network, batch["observations"], memory[part], batch["starts"]
            )
            log_probs = torch.log_softmax(action_logits, dim=-1)
            entropy = -(log_probs.exp() * log_probs).sum(-1).mean()
            log_ratio = log_probs.gather(2, batch["actions"][..., None])[..., 0]
            log_ratio = log_ratio - batch["log_probs"]
            ratio = log_ratio.exp()
            gain = batch["advantages"]
            if settings.normalise_advantages:
                gain = (gain - gain.mean()) / (gain.std() + 1e-8)
            clipped = ratio.clamp(1 - settings.clip, 1 + settings.clip)
            policy_loss = -torch.min(ratio * gain, clipped * gain).mean()
            value_loss = 0.5 * F.mse_loss(value, batch["returns"])
            loss = policy_loss + settings.value * value_loss - settings.entropy * entropy
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), settings.max_grad_norm)
            optimizer.step()
            with torch.no_grad():
                kl = (ratio - 1 - log_ratio).mean()
                outside = ((ratio - 1).abs() > settings.clip).float().mean()
            losses = (policy_loss, value_loss, entropy, kl, outside)
            statistics.append(torch.stack(losses).detach())
    names = ("policy_loss", "value_loss", "entropy", "approximate_kl", "clip_fraction")
    means = torch.stack(statistics).mean(0).tolist()
    return dict(zip(names, means, strict=True))


def start_network(environment: EnvironmentSettings, settings: PPOSettings, seed: int):
    """Build the untrained network that settings name.

    Raises:
        ValueError: for an unknown network, or one that is not trained here.
    """
    arguments = {"hidden_units": settings.hidden_units} if settings.hidden_units else {}
    if settings.calibrated and settings.network != RECURRENT:
        return initial_network(settings.network, environment, seed, **arguments)
    actions = len(action_meanings(environment.game, environment.full_action_space))
    network = initialise(build_network(settings.network, actions, **arguments), seed)
    feed_forward = not network.memory_shape[0] and getattr(network, "critic_linear", None)
    if settings.network != RECURRENT and not feed_forward:
        raise ValueError(
            f"PPO trains {RECURRENT!r} and feed-forward networks with a critic, "
            f"received {settings.network!r}"
        )
    return network


def check_network(agent: Agent, network=None) -> None:
    """Require an agent of the network, and of what it reads, that are trained."""
    reads, name = agent.preprocessing.name, agent.network.architecture
    trained = network.architecture if network is not None else RECURRENT
    same = network is None or agent.network.arguments == network.arguments
    expected = "luma80" if trained == RECURRENT else "area84-stack4"
    if not same or (name, reads) != (trained, expected):
        raise ValueError(
            f"agent {agent.name!r} has the network {name!r} and reads {reads!r}; training takes "
            f"the network {trained!r}{'' if same else ' with other arguments'} that reads "
            f"{expected!r}"
        )


def train(
    game: str,
    run_dir: str | Path,
    settings: PPOSettings | None = None,
    *,
    seed: int = 0,
    environment: EnvironmentSettings | None = None,
    from_agent: Agent | None = None,
    device: str = "cpu",
    checkpoint_every: int = 0,
    max_seconds: float = float("inf"),
    callbacks: Iterable[Callback] = (),
    progress: bool = True,
) -> Path:
    """Train an agent, or go on with the run that the folder holds.

    Args:
        game: key of `games.GAMES`.
        run_dir: folder of the run (see `runs`); made if missing. If it holds a state, training
            resumes from it: weights, optimiser, step and generator are as they were, the emulators
            start anew.
        settings: hyperparameters; must equal those of the run that is resumed, but for total_steps.
        seed: of the weights, the emulators and the sampling of actions.
        environment: settings of the emulators; the project's own by default.
        from_agent: an Agent whose weights to start from; its name becomes the lineage.
        device: "cpu" or "cuda".
        checkpoint_every: agent steps between checkpoints; 0 for `runs.checkpoint_steps`.
        max_seconds: stop (resumable) after so much wall time.
        callbacks: each called as `callback(step, network, metrics)` after every update.
        progress: show a bar.

    Returns:
        `run_dir`.

    Raises:
        ValueError: if the folder holds a run of another game, seed, parent or other settings, if
            `from_agent` is not of the network and the preprocessing that are trained here, or for a
            seed or device that cannot be.
    """
    settings = settings or PPOSettings()
    environment = environment or EnvironmentSettings(game)
    check_seed(seed)
    device = torch.device(device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device is {str(device)!r}, but torch finds no CUDA here; expected 'cpu'")
    facts = {
        "game": game,
        "seed": seed,
        "environment": environment,
        "ppo": settings,
        "lineage": from_agent.name if from_agent else None,
        "parent_sha256": from_agent.facts.get("sha256") if from_agent else None,
    }
    network = start_network(environment, settings, seed)
    if from_agent:
        check_network(from_agent, network)
        network.load_state_dict(from_agent.network.state_dict())
    network.to(device, memory_format=torch.channels_last)

    return drive(
        run_dir,
        facts,
        PPO(network, environment, settings, seed),
        checkpoint_every=checkpoint_every,
        max_seconds=max_seconds,
        callbacks=callbacks,
        progress=progress,
    )
