"""Train a state model: an autoencoder of what an agent is shown, with attentive reconstruction.

Source: Rupprecht, Ibrahim and Pal (2020), section "Method", equations 1 to 3.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from atarilens import load_agent, paths, play
from atarilens.agents import Agent
from atarilens.features.states import (
    MASK_FLOOR,
    Autoencoder,
    StateModel,
    attention_masks,
    pictures_of,
    read,
    spread_of,
    states_of,
)
from atarilens.games import STICKINESS
from compendium.training.settings import check_numbers

MEMORIES = 64  # of the agent's own play, kept with the model
SHOWN = 8  # frames of the preview
SAVE_EVERY = 60.0  # seconds between saves of the state


@dataclass(frozen=True)
class StateModelSettings:
    """Hyperparameters, with units.

    Attributes:
        frames: states that are learned from, drawn from `recorded` steps of the agent's play.
        recorded: agent steps played, half of them under sticky actions. Deviation: the paper plays
            10,000 frames epsilon-greedily, with epsilon 0.1; our agents draw their actions.
        epochs: passes over the frames (the paper: 2,000).
        batch: states per update.
        learning_rate: of Adam, at the start; falls to 0 along a cosine.
        perception: eta, weight of the agent-perception loss (equation 3).
        prior: lambda, weight of the distance to the prior. Deviation: a tenth of the paper's; with
            1e-4 the latents say nothing of Breakout's ball, which is two pixels large.
        attentive: weight the reconstruction by the agent's gradient (equation 2), else evenly.
        mask_floor: rho, see `features.states.attention_masks`.
    """

    frames: int = 3000
    recorded: int = 6000
    epochs: int = 40
    batch: int = 16
    learning_rate: float = 1e-3
    perception: float = 1e-3
    prior: float = 1e-5
    attentive: bool = True
    mask_floor: float = MASK_FLOOR

    def __post_init__(self):
        """Check the numbers."""
        check_numbers(self, frames=(2, math.inf), recorded=(2, math.inf), mask_floor=(0, 1))


def recordings(agent: Agent, settings: StateModelSettings, seed: int = 0) -> Iterator:
    """Yield the two recordings that a model learns from: the agent's own settings, and sticky."""
    sticky = replace(agent.settings, repeat_action_probability=STICKINESS)
    for offset, played in ((0, agent.settings), (1000, sticky)):
        yield play.rollout(agent, seed + offset, settings.recorded // 2, settings=played)


def training_set(
    agent: Agent, settings: StateModelSettings, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return states `[n, C, H, W]` float32 and the memories `[n, k, M]` that entered them."""
    states, memories = [], []
    for number, trajectory in enumerate(recordings(agent, settings, seed)):
        generator = np.random.default_rng((seed, number))
        count = min(settings.frames // 2, len(trajectory))
        steps = np.sort(generator.choice(len(trajectory), count, replace=False))
        states.append(states_of(agent, trajectory.frames, trajectory.episode)[steps])
        memories.append(trajectory.memory[steps])
    return np.concatenate(states), np.concatenate(memories)


def recipe(model: StateModel) -> tuple[StateModelSettings, int]:
    """Return the settings and the seed that a model was trained with, from its row."""
    told = dict(model.facts["training"])
    known = {field.name for field in fields(StateModelSettings)}
    return StateModelSettings(**{k: v for k, v in told.items() if k in known}), told["seed"]


def losses(
    network: Autoencoder,
    agent: Agent,
    states: Tensor,
    memory: Tensor,
    mask: Tensor,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return reconstruction, perception and prior loss of a batch, each a mean over its states.

    Args:
        network: the autoencoder, in training mode.
        agent: whose answers to the state and to its reconstruction are compared.
        states: `[B, C, H, W]`.
        memory: `[B, k, M]`.
        mask: `[B, 1, H, W]`, summing to 1.
        generator: draws the latents.
    """
    mean, log_variance = (x.float() for x in network.encode(states))
    noise = torch.randn(mean.shape, generator=generator)
    rebuilt = network.decode(mean + torch.exp(0.5 * log_variance) * noise).float()
    reconstruction = (mask * (rebuilt - states).square()).sum((1, 2, 3)).mean()
    with torch.no_grad():
        wanted = torch.cat(_answers(agent, states, memory), 1)
    answered = torch.cat(_answers(agent, rebuilt, memory), 1)
    perception = (answered - wanted).square().sum(1).mean()
    prior = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(1).mean()
    return reconstruction, perception, prior


def _answers(agent: Agent, states: Tensor, memory: Tensor) -> list[Tensor]:
    action_logits, value = read(agent, states, memory)
    return [action_logits] if value is None else [action_logits, value[:, None]]


def train_state_model(
    agent: Agent | str,
    run_dir: str | Path,
    settings: StateModelSettings | None = None,
    *,
    seed: int = 0,
    max_seconds: float = float("inf"),
    progress: bool = True,
) -> StateModel:
    """Train a model of an agent's states, or go on with the run that the folder holds.

    The folder holds `state.pt` (all that is needed to go on) and `preview.png`, frames above their
    reconstructions, drawn anew after each epoch.

    Args:
        agent: an agent, or the name of a shipped one.
        run_dir: made if missing.
        settings: hyperparameters.
        seed: of the recordings, the weights and the order of the frames.
        max_seconds: stop, resumable, after so much wall time.
        progress: show a bar.

    Returns:
        The model, as far as it is trained.

    Raises:
        ValueError: if the folder holds a run with other settings.
        FloatingPointError: if the loss is no longer finite; the state before it is kept.
    """
    settings, run_dir = settings or StateModelSettings(), Path(run_dir)
    agent = load_agent(agent) if isinstance(agent, str) else agent
    facts = {
        "agent": agent.name,
        "agent_sha256": agent.facts["sha256"],
        "preprocessing": agent.preprocessing.name,
        "training": asdict(settings) | {"seed": seed},
    }
    torch.manual_seed(seed)
    states, memories = training_set(agent, settings, seed)
    network = Autoencoder(states.shape[1], states.shape[2:]).train()
    network.to(memory_format=torch.channels_last)
    with torch.no_grad():
        median = torch.from_numpy(np.median(states, axis=0))
        network.background.copy_(torch.logit(median, eps=0.02))
        network.spread.copy_(spread_of(torch.from_numpy(states)))
    optimizer = torch.optim.Adam(network.parameters(), settings.learning_rate)
    generator = torch.Generator().manual_seed(seed)
    epoch, seconds, state_file = 0, 0.0, run_dir / "state.pt"
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        if state["facts"] != facts:
            raise ValueError(
                f"{run_dir} holds a run with {state['facts']}, asked for {facts}: choose another "
                "folder or the same settings"
            )
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        generator.set_state(state["generator"])
        epoch, seconds = state["epoch"], state["seconds"]
    inputs, entering = torch.from_numpy(states), torch.from_numpy(memories)
    masks = _masks(agent, inputs, entering, settings)
    model = StateModel(network, memories[:: -(-len(memories) // MEMORIES)].copy(), facts)

    def save() -> None:
        with paths.whole_file(state_file) as beside:
            state = {
                "facts": facts,
                "network": network.state_dict(),
                "optimizer": optimizer.state_dict(),
                "generator": generator.get_state(),
                "epoch": epoch,
                "seconds": seconds,
            }
            torch.save(state, beside)

    began = saved = time.monotonic()
    before = seconds
    with tqdm(total=settings.epochs, initial=epoch, unit="epoch", disable=not progress) as bar:
        while epoch < settings.epochs and time.monotonic() - began < max_seconds:
            rate = settings.learning_rate * (1 + math.cos(math.pi * epoch / settings.epochs)) / 2
            for group in optimizer.param_groups:
                group["lr"] = rate
            means = []
            for part in torch.randperm(len(inputs), generator=generator).split(settings.batch):
                with torch.autocast("cpu", torch.bfloat16):
                    found = losses(
                        network, agent, inputs[part], entering[part], masks[part], generator
                    )
                weights = (1.0, settings.perception, settings.prior)
                loss = sum(weight * part for weight, part in zip(weights, found, strict=True))
                if not torch.isfinite(loss):
                    raise FloatingPointError(
                        f"the loss is not finite in epoch {epoch}: the state before this epoch is "
                        f"in {state_file}; lower the learning rate"
                    )
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                means.append([part.item() for part in found])
            epoch += 1
            seconds = before + time.monotonic() - began
            if time.monotonic() - saved > SAVE_EVERY or epoch == settings.epochs:
                save()
                saved = time.monotonic()
            network.eval()
            _preview(model, states, run_dir / "preview.png")
            network.train()
            bar.update()
            names = ("reconstruction", "perception", "prior")
            bar.set_postfix(dict(zip(names, np.round(np.mean(means, 0), 4), strict=True)))
    save()
    facts["training"] |= {"epochs_done": epoch, "minutes": round(seconds / 60, 1)}
    network.eval().requires_grad_(False)
    network.whiten(inputs)
    return model


def _masks(agent: Agent, states: Tensor, memory: Tensor, settings: StateModelSettings) -> Tensor:
    """Compute the mask of every state once: the agent does not change."""
    if not settings.attentive:
        return torch.full((len(states), 1, *states.shape[2:]), 1 / states[0, 0].numel())
    usual = states.median(0).values, spread_of(states)
    floor = settings.mask_floor
    batches = zip(states.split(128), memory.split(128), strict=True)
    return torch.cat([attention_masks(agent, *batch, floor, *usual) for batch in batches])


def _preview(model: StateModel, states: np.ndarray, path: Path) -> None:
    """Draw a few frames above their reconstructions."""
    chosen = states[:: -(-len(states) // SHOWN)][:SHOWN]
    rows = [np.concatenate(list(x[:, -3:]), 2) for x in (chosen, model.reconstruct(chosen))]
    image = pictures_of(np.concatenate(rows, 1)[None])[0]
    with paths.whole_file(path) as beside:
        Image.fromarray(image.repeat(2, 0).repeat(2, 1)).save(beside, "PNG")
