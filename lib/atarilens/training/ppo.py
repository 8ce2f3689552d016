"""Recurrent PPO (Schulman et al. 2017) for the paper's network, on CPU and CUDA alike.

One epoch over one minibatch with lambda 1 and no clipping is A2C. A run lives in a folder:
`settings.json`, `curve.csv` (one row per report), `checkpoints/<step>.safetensors` (float16, on a
geometric schedule from the untrained network on) and `state.pt` (all that is needed to go on).
"""

import csv
import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from tqdm import tqdm

from atarilens.envs import EnvironmentSettings, make_env, make_vector_env
from atarilens.models import RecurrentActorCritic, initialise
from atarilens.preprocessing import luma80
from atarilens.training import fused

FIRST_CHECKPOINT = 31_250  # agent steps; then every doubling, and the end
SAVE_EVERY = 120.0  # seconds between saves of the state


@dataclass(frozen=True)
class PPOSettings:
    """Hyperparameters, with units.

    Attributes:
        total_steps: agent steps of the whole run; the learning rate falls linearly to 0 over it.
        num_envs: emulators side by side.
        rollout_steps: agent steps of each emulator between updates; also the length of the
            sequences through which gradients flow.
        epochs: passes over each rollout.
        minibatches: per pass; each holds whole sequences of num_envs / minibatches emulators.
        learning_rate: of Adam, at the start.
        clip: of the probability ratio, PPO eq. 7.
        entropy: coefficient of the entropy bonus.
        value: coefficient of the value loss.
        gamma: discount per agent step.
        gae_lambda: of generalised advantage estimation (Schulman et al. 2016, eq. 16).
        max_grad_norm: gradients are scaled down to this norm.
        life_loss: a lost life ends the return (never the memory).
        clip_rewards: learn from the sign of the reward.
    """

    total_steps: int = 10_000_000
    num_envs: int = 64
    rollout_steps: int = 32
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
    clip_rewards: bool = True

    def __post_init__(self):
        """Refuse settings that cannot be run."""
        if self.num_envs % self.minibatches:
            raise ValueError(
                f"num_envs ({self.num_envs}) must be a multiple of minibatches ({self.minibatches})"
            )


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


def checkpoint_steps(total_steps: int) -> list[int]:
    """Return the declared schedule: 0, 31,250, then every doubling below the end, and the end."""
    steps, step = [0], FIRST_CHECKPOINT
    while step < total_steps:
        steps.append(step)
        step *= 2
    return [*steps, total_steps]


class _Collector:
    """Emulators, their current observations and the agent's memory in each."""

    def __init__(self, environment, settings, seed, device):
        self.settings, self.device = settings, device
        self.env = make_vector_env(environment, settings.num_envs)
        seeds = np.random.SeedSequence(seed).generate_state(settings.num_envs) % 2**31
        screens, info = self.env.reset(seed=seeds.astype(np.int32))
        self.observation = self._observe(screens)
        self.lives = info["lives"].copy()
        self.starts = torch.ones(settings.num_envs, dtype=torch.bool, device=device)
        self.returns = np.zeros(settings.num_envs)
        self.finished: deque[float] = deque(maxlen=100)  # returns of complete episodes, real scores
        self.episodes = 0

    def _observe(self, screens):
        return torch.from_numpy(luma80(screens[:, 0]))[:, None].to(self.device)

    def step(self, actions):
        """Act; return rewards to learn from and where the return ends, both `[B]`."""
        screens, rewards, terminated, truncated, info = self.env.step(actions)
        over = terminated | truncated
        self.returns += rewards
        self.finished.extend(self.returns[over])
        self.episodes += int(over.sum())
        self.returns[over] = 0
        ends = over | (info["lives"] < self.lives) if self.settings.life_loss else over
        self.lives = info["lives"].copy()
        self.observation = self._observe(screens)
        self.starts = torch.from_numpy(over).to(self.device)
        if self.settings.clip_rewards:
            rewards = np.sign(rewards)
        return torch.as_tensor(rewards, dtype=torch.float32), torch.from_numpy(ends).float()


def _unroll(network, observations, memory, starts):
    """Return hidden layers and memory, convolutions in bfloat16, as collecting and learning do."""
    if memory.device.type == "cpu" and network.cell == "lstm":
        return fused.unroll(network, observations, memory, starts)
    with torch.autocast(memory.device.type, torch.bfloat16):
        hidden, memory = network.unroll(observations, memory, starts)
    return hidden.float(), memory.float()


@torch.no_grad()
def _collect(network, collector, memory, generator):
    """Play `rollout_steps` in each emulator; return the rollout and the memory after it."""
    settings, device = collector.settings, collector.device
    rollout = {key: [] for key in ("observations", "starts", "actions", "log_probs", "values")}
    rewards, ends = [], []
    first_memory = memory
    for _ in range(settings.rollout_steps):
        observation, starts = collector.observation, collector.starts
        hidden, memory = _unroll(network, observation[None], memory, starts[None])
        action_logits, value = network.heads(hidden[0])
        log_probs = torch.log_softmax(action_logits, dim=1)
        noise = torch.rand(log_probs.shape, generator=generator, device=device).clamp_min(1e-20)
        actions = (log_probs - torch.log(-torch.log(noise))).argmax(1)  # Gumbel: a sample
        for key, entry in zip(
            rollout,
            (observation, starts, actions, log_probs.gather(1, actions[:, None])[:, 0], value),
            strict=True,
        ):
            rollout[key].append(entry)
        reward, end = collector.step(actions.cpu().numpy())
        rewards.append(reward)
        ends.append(end)
    hidden, _ = _unroll(network, collector.observation[None], memory, collector.starts[None])
    last_value = network.heads(hidden[0])[1]
    rollout = {key: torch.stack(entries) for key, entries in rollout.items()}
    rewards, ends = torch.stack(rewards).to(device), torch.stack(ends).to(device)
    rollout["advantages"] = advantages(
        rewards, rollout["values"], ends, last_value, settings.gamma, settings.gae_lambda
    )
    rollout["returns"] = rollout["advantages"] + rollout["values"]
    return rollout, first_memory, memory


def _update(network, optimizer, rollout, memory, settings, generator):
    """Improve the network on one rollout; return means of what happened."""
    statistics = []
    for _ in range(settings.epochs):
        order = torch.randperm(settings.num_envs, generator=generator, device=memory.device)
        for part in order.chunk(settings.minibatches):
            batch = {key: entry[:, part] for key, entry in rollout.items()}
            hidden, _ = _unroll(network, batch["observations"], memory[part], batch["starts"])
            action_logits, value = network.heads(hidden)
            log_probs = torch.log_softmax(action_logits, dim=-1)
            entropy = -(log_probs.exp() * log_probs).sum(-1).mean()
            log_ratio = log_probs.gather(2, batch["actions"][..., None])[..., 0]
            log_ratio = log_ratio - batch["log_probs"]
            ratio = log_ratio.exp()
            gain = batch["advantages"]
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


def _write(path: Path, write: Callable[[Path], None]) -> None:
    """Write beside, then rename: a killed run leaves no half-written file."""
    beside = path.with_name(path.name + ".part")
    write(beside)
    os.replace(beside, path)


def _save_checkpoint(network, folder: Path, step: int) -> None:
    weights = {name: tensor.half().contiguous() for name, tensor in network.state_dict().items()}
    _write(folder / f"{step:09d}.safetensors", lambda path: save_file(weights, path))


def train(
    game: str,
    run_dir: str | Path,
    settings: PPOSettings | None = None,
    *,
    seed: int = 0,
    environment: EnvironmentSettings | None = None,
    from_agent=None,
    device: str = "cpu",
    max_seconds: float = float("inf"),
    callbacks: Iterable[Callable[[int, torch.nn.Module, dict], None]] = (),
    progress: bool = True,
) -> Path:
    """Train an agent, or go on with the run that the folder holds.

    Args:
        game: key of `games.GAMES`.
        run_dir: folder of the run; made if missing. If it holds a state, training resumes from it:
            weights, optimiser, step and generator are as they were, the emulators start anew.
        settings: hyperparameters; must equal those of the run that is resumed, but for total_steps.
        seed: of the weights, the emulators and the sampling of actions.
        environment: settings of the emulators; the project's own by default.
        from_agent: an Agent whose weights to start from; its name becomes the lineage.
        device: "cpu" or "cuda".
        max_seconds: stop (resumable) after so much wall time.
        callbacks: each called as `callback(step, network, metrics)` after every update.
        progress: show a bar.

    Returns:
        `run_dir`.

    Raises:
        ValueError: if the folder holds a run of another game, seed or other settings.
    """
    settings = settings or PPOSettings()
    environment = environment or EnvironmentSettings(game)
    torch.set_flush_denormal(True)  # gradients of an untrained agent are full of them: 10x slower
    run_dir, device = Path(run_dir), torch.device(device)
    checkpoints = run_dir / "checkpoints"
    checkpoints.mkdir(parents=True, exist_ok=True)
    facts = {
        "game": game,
        "seed": seed,
        "environment": environment.as_dict(),
        "ppo": {key: entry for key, entry in asdict(settings).items() if key != "total_steps"},
        "lineage": from_agent.name if from_agent else None,
    }
    _check_facts(run_dir / "settings.json", facts)

    network = RecurrentActorCritic(len(make_env(environment).action_meanings))
    initialise(network, seed)
    if from_agent:
        network.load_state_dict(from_agent.network.state_dict())
    network.to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), settings.learning_rate, eps=1e-5)
    generator = torch.Generator(device).manual_seed(seed)
    step, seconds, episodes, state_path = 0, 0.0, 0, run_dir / "state.pt"
    if state_path.exists():
        state = torch.load(state_path, weights_only=True, map_location=device)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        generator.set_state(state["generator"].cpu())
        step, seconds, episodes = state["step"], state["seconds"], state["episodes"]
    elif step == 0:
        _save_checkpoint(network, checkpoints, 0)

    def save_state():
        state = {
            "network": network.state_dict(),
            "optimizer": optimizer.state_dict(),
            "generator": generator.get_state(),
            "step": step,
            "seconds": seconds,
            "episodes": episodes + collector.episodes,
        }
        _write(state_path, lambda path: torch.save(state, path))

    collector = _Collector(environment, settings, (seed, step), device)
    memory = torch.zeros(settings.num_envs, *network.memory_shape, device=device)
    per_update = settings.num_envs * settings.rollout_steps
    schedule = checkpoint_steps(settings.total_steps)
    began = saved = last = time.monotonic()
    bar = tqdm(
        total=settings.total_steps, initial=step, unit="step", disable=not progress, desc=game
    )
    while step < settings.total_steps and time.monotonic() - began < max_seconds:
        remaining = 1 - step / settings.total_steps
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * remaining
        rollout, first_memory, memory = _collect(network, collector, memory, generator)
        metrics = _update(network, optimizer, rollout, first_memory, settings, generator)
        previous, step = step, step + per_update
        now = time.monotonic()
        seconds, last = seconds + now - last, now
        metrics |= {
            "step": step,
            "hours": seconds / 3600,
            "episodes": episodes + collector.episodes,
            "mean_return": float(np.mean(collector.finished)) if collector.finished else None,
            "learning_rate": settings.learning_rate * remaining,
        }
        _append_row(run_dir / "curve.csv", metrics)
        for callback in callbacks:
            callback(step, network, metrics)
        if any(previous < due <= step for due in schedule):
            _save_checkpoint(network, checkpoints, step)
        if now - saved > SAVE_EVERY:
            save_state()
            saved = now
        bar.update(per_update)
        bar.set_postfix(mean_return=metrics["mean_return"], refresh=False)
    bar.close()
    save_state()
    return run_dir


def _check_facts(path: Path, facts: dict) -> None:
    """Write the run's settings, or compare them with those that are there."""
    if not path.exists():
        _write(path, lambda part: part.write_text(json.dumps(facts, indent=1)))
        return
    there = json.loads(path.read_text())
    differing = [key for key in facts if there.get(key) != json.loads(json.dumps(facts[key]))]
    if differing:
        key = differing[0]
        raise ValueError(
            f"{path.parent} holds a run with {key} = {there.get(key)}, asked for {facts[key]}; "
            "choose another folder or the same settings"
        )


def _append_row(path: Path, row: dict) -> None:
    """Append one row to a CSV, with the header first."""
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=row)
        if new:
            writer.writeheader()
        short = {key: f"{x:.6g}" if isinstance(x, float) else x for key, x in row.items()}
        writer.writerow(short)


def load_weights(path: str | Path) -> dict[str, torch.Tensor]:
    """Return the float32 state dict of a float16 checkpoint file."""
    return {name: tensor.float() for name, tensor in load_file(path).items()}
