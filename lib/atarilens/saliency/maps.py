"""Saliency maps: what they hold, and how a grid of scores becomes a map of pixels."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class SaliencyMaps:
    """Maps of one decision (`[H, W]`) or of T decisions (`[T, H, W]`), float32, unnormalised.

    Units are squared logits (actor) and squared value units (critic): compare maps of the same
    head of the same agent, not actor with critic, nor one agent with another.

    Attributes:
        actor: `[H, W]`, >= 0, in observation pixels.
        critic: `[H, W]`, >= 0, or None where the network has no value.
        actor_grid: raw scores; at stride 5 on 80 x 80 `[16, 16]`, entry (i, j) belonging to the
            mask centred on pixel (i * stride, j * stride). Equal to `actor` for a Jacobian.
        critic_grid: the same for the critic, or None.
        actor_channels: `[C, H, W]`, one map per channel (stacked screen), where these were
            computed; `actor` is then their sum. None otherwise.
        critic_channels: the same for the critic.
        actor_spread: `[H, W]`, standard deviation of `actor` over repeats with jittered masks, if
            there were repeats; `actor` is then their mean. None otherwise.
        critic_spread: the same for the critic.
    """

    actor: np.ndarray
    critic: np.ndarray | None
    actor_grid: np.ndarray
    critic_grid: np.ndarray | None
    actor_channels: np.ndarray | None = None
    critic_channels: np.ndarray | None = None
    actor_spread: np.ndarray | None = None
    critic_spread: np.ndarray | None = None

    def __len__(self) -> int:
        """Return T, the number of decisions of a batch."""
        if self.actor.ndim == 2:
            raise TypeError("these are the maps of one decision [H, W], they have no length")
        return len(self.actor)

    def __getitem__(self, t) -> "SaliencyMaps":
        """Return the maps of decision t of a batch (or of a slice of it)."""
        if self.actor.ndim == 2:
            raise TypeError("these are the maps of one decision [H, W], they cannot be indexed")
        parts = (getattr(self, field.name) for field in fields(self))
        return SaliencyMaps(*(None if part is None else part[t] for part in parts))


def mean_and_spread(repeats: Sequence[SaliencyMaps]) -> SaliencyMaps:
    """Return the mean of repeated maps, with the standard deviation (n - 1) of both heads."""
    parts = {}
    for field in fields(SaliencyMaps):
        found = [getattr(maps, field.name) for maps in repeats]
        if found[0] is not None:
            parts[field.name] = np.mean(found, axis=0, dtype=np.float64).astype(np.float32)
            if field.name in ("actor", "critic"):
                spread = np.std(found, axis=0, dtype=np.float64, ddof=1)
                parts[f"{field.name}_spread"] = spread.astype(np.float32)
    return SaliencyMaps(**({"critic": None, "critic_grid": None} | parts))


def upsample(grid: np.ndarray, shape: tuple[int, int], stride: int) -> np.ndarray:
    """Interpolate scores bilinearly, exactly through the mask centres.

    Pixel (i * stride, j * stride) gets grid entry (i, j); beyond the last centre its value is held.
    Deviation: the original rounds its grid to 8 bits and resizes it as if it filled the image,
    which squeezes the map by 16/17 and moves blobs by up to 2.6 px;
    `torch.nn.functional.interpolate` would shift it as much.

    Args:
        grid: `[..., n, m]`, n and m being the number of multiples of stride below H and W.
        shape: (H, W).
        stride: px between neighbouring centres.

    Returns:
        `[..., H, W]` float32.
    """
    rows, columns = (_interpolation(size, stride) for size in shape)
    return (rows @ grid @ columns.T).astype(np.float32)


@lru_cache(maxsize=16)
def _interpolation(size: int, stride: int) -> np.ndarray:
    """Return the `[size, n]` matrix that interpolates values at 0, stride, 2 * stride ... ."""
    centres = np.arange(0, size, stride)
    pixels = np.arange(size)
    return np.stack([np.interp(pixels, centres, unit) for unit in np.eye(len(centres))], axis=1)


def upsample_paper(grid: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resize scores as the original code does: 8 bits, bilinear, as if the grid filled the image.

    The original calls `scipy.misc.imresize`, gone since SciPy 1.3, which scales the scores to
    0..255, rounds them, and resizes them with Pillow. The map is then scaled so that its maximum
    is that of the scores again.
    Deviation: a grid of zeros gives zeros, where the original divides 0 by 0.

    Args:
        grid: `[..., n, m]`, the original's with its extra row and column of zeros.
        shape: (H, W).

    Returns:
        `[..., H, W]` float32.
    """
    grid = np.asarray(grid, np.float64)
    maps = np.empty((*grid.shape[:-2], *shape), np.float32)
    for index in np.ndindex(grid.shape[:-2]):
        scores = grid[index]
        low, high = scores.min(), scores.max()
        eight_bit = ((scores - low) * (255.0 / ((high - low) or 1.0)) + 0.5).astype(np.uint8)
        image = Image.fromarray(eight_bit).resize(shape[::-1], Image.Resampling.BILINEAR)
        resized = np.asarray(image, np.float32)
        maps[index] = high * resized / (resized.max() or 1.0)
    return maps
