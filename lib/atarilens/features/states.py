"""A state model: a variational autoencoder of what an agent is shown, in colour.

Source: Rupprecht, Ibrahim and Pal (2020), "Finding and Visualizing Weaknesses of Deep
Reinforcement Learning Agents", section "Method". A state is the part of the screen that the agent
reads, at the agent's resolution, in colour: `[3 n, H, W]` for an agent that stacks n screens. The
agent's own preprocessing of the screen then is a linear mixture of the state's colours.

Deviation: four narrower layers (16 to 128 channels in place of 32 to 256), so that a model
trains on one core and takes 3 MB. The paper trains for 2,000 epochs on a GPU.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn
from torch.nn import functional as F

from atarilens import paths
from atarilens.agents import Agent, preprocessing

LATENTS = 100
WIDTHS = (16, 32, 64, 128)  # channels of the encoder's convolutions
PLACES = 3  # points that the first latents name
FIRST_WIDTH = 0.05  # standard deviation of a point's Gaussian, in halves of a side
PREFERENCE = 100.0  # a preference moves by 0.001 per update, a score by this times as much
LEAST_VARIANCE = 1e-3  # of a latent, when they are whitened
RARITY_WEIGHT = 4.0  # of the rarity of a pixel in the first softmax
BLUR = 5  # px: the attention mask is averaged over BLUR x BLUR px
MASK_FLOOR = 0.4  # rho: share of the reconstruction loss that all pixels get alike
LEAST_SPREAD = 0.03  # of a pixel: eight grey levels
# The luma of ITU-R BT.601, as each preprocessing rounds it.
LUMA = {"luma80": (0.299, 0.587, 0.114)}
DEFAULT_LUMA = tuple(weight / 16384 for weight in (4899, 9617, 1868))
ROW_NEEDS = ("agent", "agent_sha256", "preprocessing", "channels", "memory_shape", "sha256")


class Autoencoder(nn.Module):
    """Encoder `[B, C, H, W]` -> mean and log variance `[B, 100]`, and the decoder back.

    Deviation: the first latents are places, (y, x) of `PLACES` points. The encoder takes a softmax
    over half of the resolution and returns its expected place (Finn et al. 2016, "Deep spatial
    autoencoders"); the decoder draws a Gaussian there. The softmax starts at the pixel that is
    farthest from the background in its standard deviations, a rare object such as a ball.
    Without places the ball of Breakout was drawn in 3 % of the states, with them in 71 %: as long
    as a ball is drawn in a wrong place, the loss does not say in which direction the right one is.

    Deviation: `whiten`, called after training, moves and turns the latents, so that those of the
    training states have mean 0 and covariance 1 (Ghosh et al. 2020, "From variational to
    deterministic autoencoders", section "Ex-post density estimation"). The weak prior leaves them
    elsewhere, and a state drawn from the prior would have no paddle and several balls.

    Args:
        channels: C, three per stacked screen.
        size: (H, W), 80 x 80 or 84 x 84.
    """

    def __init__(self, channels: int, size: tuple[int, int]):
        super().__init__()
        self.size = size
        self.smallest = tuple(-(-side // 16) for side in size)
        cells = self.smallest[0] * self.smallest[1]
        inputs = (channels, *WIDTHS[:-1])
        self.encoder = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(before, after, 3, stride=2, padding=1),
                nn.BatchNorm2d(after),
                nn.ReLU(),
            )
            for before, after in zip(inputs, WIDTHS, strict=True)
        )
        self.mean = nn.Linear(WIDTHS[-1] * cells, LATENTS)
        self.log_variance = nn.Linear(WIDTHS[-1] * cells, LATENTS)
        self.expand = nn.Linear(LATENTS, WIDTHS[-1] * cells)
        outputs = (*WIDTHS[-2::-1], channels)
        self.decoder = nn.ModuleList()
        for before, after in zip(WIDTHS[::-1], outputs, strict=True):
            layers = [nn.ConvTranspose2d(before, after, 4, stride=2, padding=1)]
            if after != channels:
                layers += [nn.BatchNorm2d(after), nn.ReLU()]
            self.decoder.append(nn.Sequential(*layers))
        # What is drawn if the decoder says nothing: training sets it to the median state.
        self.background = nn.Parameter(torch.zeros(channels, *size))
        self.register_buffer("spread", torch.ones(channels, *size))  # see `spread_of`
        self.register_buffer("centre", torch.zeros(LATENTS))  # of the latents, see `whiten`
        self.register_buffer("factor", torch.eye(LATENTS))  # Cholesky, of their covariance
        self.find = nn.Conv2d(WIDTHS[0] + 1, PLACES, 3, padding=1)
        # How much each point prefers each place: one learns to leave the wall to the others.
        halves = [-(-side // 2) for side in size]
        self.prefer = nn.Parameter(torch.zeros(PLACES, *halves))
        self.draw = nn.Conv2d(PLACES, WIDTHS[0], 3, padding=1)
        self.width = nn.Parameter(torch.full((PLACES,), FIRST_WIDTH).log())
        nn.init.normal_(self.find.weight, 0, 0.01)
        with torch.no_grad():
            self.find.weight[:, -1, 1, 1] = RARITY_WEIGHT

    def encode(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance `[B, 100]` of states `[B, C, H, W]` in [0, 1]."""
        hidden = states
        for index, layer in enumerate(self.encoder):
            hidden = layer(hidden)
            if index == 0:
                places = self._places(states, hidden)
        hidden = hidden.flatten(1)
        mean, log_variance = self.mean(hidden).float(), self.log_variance(hidden).float()
        count = places.shape[1]
        mean = torch.cat([places, mean[:, count:]], 1)
        # Without this the first places are so noisy that the decoder ignores them.
        log_variance = torch.cat([log_variance[:, :count] - 6, log_variance[:, count:]], 1)
        mean = torch.linalg.solve_triangular(self.factor, (mean - self.centre).T, upper=False).T
        return mean, log_variance

    def decode(self, latent: Tensor) -> Tensor:
        """Return states `[B, C, H, W]` in [0, 1] of latents `[B, 100]`."""
        with torch.autocast("cpu", enabled=False):  # places need float32
            latent = self.centre + latent.float() @ self.factor.T
        states = F.relu(self.expand(latent).unflatten(1, (WIDTHS[-1], *self.smallest)))
        for index, layer in enumerate(self.decoder):
            states = layer(states)
            if index == len(self.decoder) - 2:
                states = states + self.draw(self._bumps(latent, states.shape[2:]))
        top, left = (
            (have - want) // 2 for have, want in zip(states.shape[2:], self.size, strict=True)
        )
        states = states[:, :, top : top + self.size[0], left : left + self.size[1]]
        return torch.sigmoid(states + self.background)

    @torch.no_grad()
    def whiten(self, states: Tensor) -> None:
        """Let the latents of these states `[n, C, H, W]` have mean 0 and covariance 1.

        The log variances of `encode` stay those of the latents before.
        """
        self.centre.zero_(), self.factor.copy_(torch.eye(LATENTS))
        latents = torch.cat([self.encode(part)[0] for part in states.split(64)]).double()
        self.centre.copy_(latents.mean(0))
        covariance = torch.cov(latents.T) + LEAST_VARIANCE * torch.eye(LATENTS)
        self.factor.copy_(torch.linalg.cholesky(covariance))

    def _places(self, states: Tensor, hidden: Tensor) -> Tensor:
        """Return `[B, 2 PLACES]` float32: expected (y, x) of each point, a border being at 2."""
        distance = (states - torch.sigmoid(self.background)).abs() / self.spread
        rarity = F.max_pool2d(distance.amax(1, keepdim=True).log1p(), 2, ceil_mode=True)
        scores = self.find(torch.cat([hidden, rarity], 1)).float() + PREFERENCE * self.prefer
        share = scores.flatten(2).softmax(2).unflatten(2, scores.shape[2:])
        rows, columns = (_half_grid(share.shape[2 + k], side) for k, side in enumerate(self.size))
        y, x = (share.sum(3) * rows).sum(2), (share.sum(2) * columns).sum(2)
        return 2 * torch.stack([y, x], 2).flatten(1)

    def _bumps(self, latent: Tensor, size: tuple[int, int]) -> Tensor:
        """Return a Gaussian at each point that a latent names: `[B, PLACES, h, w]`."""
        y, x = (latent[:, : 2 * PLACES].float() / 2).unflatten(1, (-1, 2)).unbind(2)
        rows, columns = (_half_grid(n, side) for n, side in zip(size, self.size, strict=True))
        width = self.width.exp()[:, None]
        down = torch.exp(-0.5 * ((rows - y[..., None]) / width) ** 2)
        across = torch.exp(-0.5 * ((columns - x[..., None]) / width) ** 2)
        return down[..., :, None] * across[..., None, :]


def _half_grid(cells: int, side: int) -> Tensor:
    """Return the middles of cells of 2 px about the middle of a side, whose ends are -1 and 1."""
    return (torch.arange(cells) + 0.5 - cells / 2) * 4 / side


@dataclass(frozen=True)
class StateModel:
    """An autoencoder of one agent's states, and what synthesis needs beside it.

    Attributes:
        network: the autoencoder; eval mode, float32, on the CPU.
        memories: `[m, k, M]` float32, memories that entered steps of the agent's own play: the
            agent reads each synthesised state with one of them. `[m, 0, 0]` without a memory.
        facts: its row: agent, agent_sha256, preprocessing, training.
    """

    network: Autoencoder
    memories: np.ndarray
    facts: dict

    @classmethod
    def load(cls, name_or_path: str | Path) -> "StateModel":
        """Load a model by the name of its agent (`data/states`), or from a path.

        Raises:
            MissingDataError: if there is no such model.
            ValueError: if the row or the weights are damaged, or do not belong together.
        """
        path = Path(name_or_path)
        path = path if path.suffix or len(path.parts) > 1 else paths.STATES / path.name
        row_file, weights = path.with_suffix(".yml"), path.with_suffix(".safetensors")
        if not (row_file.is_file() and weights.is_file()):
            known = ", ".join(list_state_models()) or "none"
            raise paths.MissingDataError(
                f"there is no state model {str(name_or_path)!r} (a .safetensors file and its "
                f".yml row); known: {known}"
            )
        try:
            row = yaml.safe_load(row_file.read_bytes())
            missing = [key for key in ROW_NEEDS if key not in row]
        except (yaml.YAMLError, TypeError, UnicodeDecodeError) as error:
            raise ValueError(f"{row_file} is not the row of a state model: {error}") from error
        if missing:
            raise ValueError(f"{row_file} lacks {', '.join(missing)}")
        content = weights.read_bytes()
        found = hashlib.sha256(content).hexdigest()
        if found != row["sha256"]:
            raise ValueError(
                f"{weights} is damaged or another file: its sha256 is {found}, expected "
                f"{row['sha256']}"
            )
        try:
            tensors = {name: value.float() for name, value in load_tensors(content).items()}
            memories = tensors.pop("memories").numpy()
            memories = memories.reshape(len(memories), *row["memory_shape"])
            network = Autoencoder(row["channels"], preprocessing(row["preprocessing"]).shape[1:])
            absent = network.load_state_dict(tensors, strict=False).missing_keys
            if any("num_batches" not in name for name in absent):
                raise ValueError(f"it lacks {', '.join(absent)}")
        except (SafetensorError, KeyError, RuntimeError, ValueError) as error:
            raise ValueError(f"{weights} holds no state model: {error}") from error
        return cls(network.eval().requires_grad_(False), memories, row)

    def save(self, path: str | Path) -> Path:
        """Write `<path>.safetensors` (float16) and `<path>.yml`; the row comes last.

        Returns:
            The path of the weights.
        """
        weights, row_file = Path(path).with_suffix(".safetensors"), Path(path).with_suffix(".yml")
        state = self.network.state_dict()
        tensors = {
            name: value.half().contiguous()
            for name, value in state.items()
            if "num_batches" not in name
        }
        tensors["memories"] = torch.from_numpy(self.memories).half().flatten(1)
        content = save_tensors(tensors)
        row = self.facts | {
            "channels": self.network.background.shape[0],
            "memory_shape": list(self.memories.shape[1:]),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        with paths.whole_file(weights) as beside:
            beside.write_bytes(content)
        with paths.whole_file(row_file) as beside:
            beside.write_text(yaml.safe_dump(row, sort_keys=False))
        return weights

    def require(self, agent: Agent) -> None:
        """Raise ValueError if this model was not trained for this very agent."""
        wanted = self.facts["agent"], self.facts["agent_sha256"]
        if (agent.name, agent.facts.get("sha256")) != wanted:
            raise ValueError(
                f"the state model is of agent {wanted[0]!r} (sha256 {wanted[1][:12]}…), received "
                f"agent {agent.name!r} (sha256 {str(agent.facts.get('sha256'))[:12]}…)"
            )

    @torch.no_grad()
    def encode(self, states: np.ndarray) -> np.ndarray:
        """Return the mean latents `[n, 100]` of states `[n, C, H, W]`."""
        return self.network.encode(torch.from_numpy(states))[0].numpy()

    @torch.no_grad()
    def reconstruct(self, states: np.ndarray, batch: int = 64) -> np.ndarray:
        """Return what the autoencoder makes of states `[n, C, H, W]`, without noise."""
        parts = torch.from_numpy(states).split(batch)
        return torch.cat([self.network.decode(self.network.encode(p)[0]) for p in parts]).numpy()


def list_state_models() -> list[str]:
    """Return the names of the shipped state models, sorted."""
    return sorted(row.stem for row in paths.STATES.glob("*.yml"))


def states_of(agent: Agent, frames: np.ndarray, episode: np.ndarray | None = None) -> np.ndarray:
    """Return what an agent is shown as states: its region and resolution, in colour.

    Args:
        agent: whose region, resolution and number of stacked screens are used.
        frames: `[T, 210, 160, 3]` uint8, in the order of play.
        episode: `[T]` int; stacks do not reach into an earlier episode. One episode by default.

    Returns:
        `[T, 3 n, H, W]` float32 in [0, 1], the newest of the n stacked screens last. Each pixel is
        the mean colour of the part of the screen that it covers.
    """
    top, bottom, left, right = agent.region
    field = frames[:, top:bottom, left:right]
    height, width = agent.preprocessing.shape[1:]
    rows, columns = (
        torch.from_numpy(_averaging(field.shape[1 + axis], side))
        for axis, side in enumerate((height, width))
    )
    colours = np.empty((len(frames), 3, height, width), np.float32)
    for t, screen in enumerate(field):
        planes = torch.from_numpy(screen.transpose(2, 0, 1).astype(np.float32))
        colours[t] = (rows @ planes @ columns.T / 255).numpy()
    count = agent.preprocessing.screens
    if count == 1:
        return colours
    episode = np.zeros(len(frames), int) if episode is None else episode
    first = np.array([np.flatnonzero(episode == number)[0] for number in episode])
    steps = np.arange(len(frames))
    stacked = [colours[np.maximum(steps - back, first)] for back in range(count - 1, -1, -1)]
    return np.concatenate(stacked, axis=1)


def pictures_of(states: np.ndarray) -> np.ndarray:
    """Return the newest screen of states `[n, C, H, W]` as pictures `[n, H, W, 3]` uint8."""
    return (255 * states[:, -3:]).round().astype(np.uint8).transpose(0, 2, 3, 1)


def observations_of(agent: Agent, states: Tensor) -> Tensor:
    """Return the observations `[B, n, H, W]` of states `[B, 3 n, H, W]`, differentiable.

    Equal to `agent.preprocess` of the screen to 1e-6 for luma80; within 1/255 for area84, which
    rounds to whole grey levels.
    """
    weights = torch.tensor(LUMA.get(agent.preprocessing.name, DEFAULT_LUMA), dtype=states.dtype)
    planes = states.unflatten(1, (-1, 3))
    return (planes * weights[:, None, None]).sum(2)


def read(agent: Agent, states: Tensor, memory: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return action logits `[B, A]` and values `[B]` (or None) of states, differentiable."""
    action_logits, values, _ = agent.network(observations_of(agent, states), memory)
    return action_logits, values


def attention_masks(
    agent: Agent,
    states: Tensor,
    memory: Tensor,
    floor: float = MASK_FLOOR,
    background: Tensor | None = None,
    spread: Tensor | float = 1.0,
) -> Tensor:
    """Return how much each pixel's reconstruction counts: `[B, 1, H, W]`, summing to 1.

    The mask is the magnitude of the gradient of the largest action logit by the state, summed
    over channels, averaged over 5 x 5 px and divided by its sum (section "Method", equation 2).
    Deviation: the gradient in place of guided backpropagation, which is defined for ReLU alone;
    the paper's recurrent network has ELU. Deviation: the gradient is multiplied by how far the
    state is from the background, in standard deviations of that pixel. The plain gradient spreads
    over the whole screen: Breakout's ball gets a thousandth of it, and no autoencoder learns the
    ball from that. With the distance alone the ball gets 12 %, since bricks that come and go get
    most; in standard deviations it gets 42 %, since a ball is rare at any one pixel. Deviation:
    every pixel gets the share `floor` / (H W) on top. Without it, drawing a ball where there is
    none costs nothing, and the autoencoder draws it everywhere.

    Args:
        agent: whose network is asked; it must allow gradients of its input.
        states: `[B, 3 n, H, W]`.
        memory: `[B, k, M]` entering those steps.
        floor: rho in [0, 1]; 0 is the paper's.
        background: `[3 n, H, W]`, for example the median state; None takes the plain gradient.
        spread: `[3 n, H, W]`, what the distance from the background is divided by.
    """
    states = states.detach().requires_grad_(True)
    with torch.enable_grad():
        action_logits, _ = read(agent, states, memory)
        (mask,) = torch.autograd.grad(action_logits.max(1).values.sum(), states)
    if background is not None:
        mask = mask * (states.detach() - background) / spread
    mask = F.avg_pool2d(mask.abs().sum(1, keepdim=True), BLUR, stride=1, padding=BLUR // 2)
    total = mask.sum((1, 2, 3), keepdim=True)
    pixels = mask[0].numel()
    even = torch.full_like(mask, 1 / pixels)
    mask = torch.where(total > 0, mask / total.clamp_min(1e-30), even)
    return (1 - floor) * mask + floor * even


def spread_of(states: Tensor) -> Tensor:
    """Return the standard deviation of each pixel over states `[n, C, H, W]`, plus 0.03."""
    return states.std(0) + LEAST_SPREAD


def grey_of(agent: Agent, states: np.ndarray) -> np.ndarray:
    """Return the newest screen that an agent reads in each state: `[n, H, W]` float32."""
    with torch.no_grad():
        return observations_of(agent, torch.from_numpy(states))[:, -1].numpy()


def mask_pictures(agent: Agent, states: np.ndarray, memory: np.ndarray) -> np.ndarray:
    """Return attention masks as pictures `[n, H, W, 3]` uint8, each over its own maximum.

    Args:
        agent: whose gradient makes the masks.
        states: `[n, C, H, W]`; their median is the background.
        memory: `[n, k, M]` entering those steps.
    """
    inputs = torch.from_numpy(states)
    background = inputs.median(0).values
    entering = torch.from_numpy(memory)
    masks = attention_masks(agent, inputs, entering, 0.0, background, spread_of(inputs))[:, 0]
    shown = (masks / masks.amax((1, 2), keepdim=True)).sqrt().numpy()
    return (255 * shown).round().astype(np.uint8)[..., None].repeat(3, -1)


def _averaging(size: int, target: int) -> np.ndarray:
    """Return `[target, size]` float32 whose product averages `size` pixels over `target` areas."""
    edges = np.arange(target + 1) * size / target
    pixels = np.arange(size)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    overlap = np.maximum(overlap, 0)
    return (overlap / overlap.sum(1, keepdims=True)).astype(np.float32)
