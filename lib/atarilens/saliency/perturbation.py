"""Saliency by blurring one region of the observation at a time (Greydanus et al. 2018)."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import joblib
import numpy as np
import torch
from scipy.ndimage import gaussian_filter, gaussian_filter1d
from tqdm.auto import tqdm

from .maps import SaliencyMaps, upsample, upsample_paper
from .networks import as_batch, device_of, one_torch_thread, torch_threads, untouched

FRAMES_PER_CHUNK = 8  # fixed, so that results do not depend on who computes which chunk
CUDA_BYTES = 4 << 30  # memory budget of a batch on a GPU
ACTIVATIONS = 64  # bytes that a network is taken to need per byte of observation


@dataclass(frozen=True)
class Settings:
    """How to perturb; everything that a chunk of frames needs besides its arrays."""

    stride: int
    mask_sigma: float
    blur_sigma: float
    batch_size: int | None
    per_channel: bool
    centred: bool
    threads: int | None


def perturbation_saliency(
    network,
    observation,
    memory=None,
    *,
    stride: int = 5,
    mask_sigma: float = 5.0,
    blur_sigma: float = 3.0,
    convention: str = "corrected",
    centred: bool = False,
    per_channel: bool = False,
    batch_size: int | None = None,
    threads: int | None = None,
    progress: bool = False,
) -> SaliencyMaps:
    """Score how far blurring each region of an observation moves the actor and the critic.

    Around each centre (i, j) of a grid, the observation I is mixed with a blurred copy of itself
    under a Gaussian mask M that is 1 at its centre, and the score is half the squared distance
    that a head's output f moves (actor: action logits before the softmax; critic: value):

        Phi(I; i, j) = I * (1 - M(i, j)) + blur(I) * M(i, j)
        S(i, j)      = 1/2 * || f(I) - f(Phi(I; i, j)) ||^2

    Blurring removes information without adding a new edge. Only the observation is perturbed: the
    memory stays as it entered the step, so the map answers "what matters now". Both heads are read
    from the same forward pass. Computed in float32 (TF32 off) in eval mode; parameters, gradients,
    modes, hooks and random state are left as they were. For a Q-network the actor's map is that of
    the Q-values, the critic's that of their maximum.

    Deviation: pass the memory that ENTERS the step (`trajectory.memory[t]`); the original code
    uses one that is a step stale.

    Args:
        network: `(observation [B, C, H, W], memory [B, k, M]) -> (action_logits [B, A], value [B]
            or None, memory)`, float32, on any device.
        observation: `[C, H, W]`, or `[T, C, H, W]` for T decisions, in [0, 1], as preprocessed for
            this agent; array or tensor.
        memory: `[k, M]` or `[T, k, M]`; may be None for a network without memory.
        stride: px between neighbouring centres; ceil(H / stride) * ceil(W / stride) forward passes.
        mask_sigma: px, standard deviation of the mask.
        blur_sigma: px, standard deviation of the blur.
        convention: "corrected", or "paper" for the original's arithmetic: the grid has
            int(H / stride) + 1 rows, the last of them zeros, and is resized in 8 bits as if it
            filled the image.
        centred: take the mean over actions off the change of the logits, so that a change common
            to all of them, which no probability feels, counts nothing.
        per_channel: perturb one channel (stacked screen) at a time, at C times the cost;
            `actor_channels` `[C, H, W]` then holds their maps and `actor` the sum. Otherwise all
            channels are perturbed together.
        batch_size: perturbed observations per forward pass (default: 32 on a CPU, what fits
            4 GiB on a GPU). Changes speed and memory, never the map.
        threads: CPU threads (default: torch's number). Never changes the map.
        progress: show a bar over decisions.

    Returns:
        Maps `[H, W]`, or `[T, H, W]`, with their grids. T decisions are computed in chunks of 8,
        through `joblib.Parallel`: inside `joblib.parallel_config(backend=..., n_jobs=...)` the
        chunks go to that backend, with bit-equal results.

    Raises:
        ValueError: where a shape, a dtype or a parameter is not as described.

    Reference:
        Greydanus et al. (2018), "Visualizing and Understanding Atari Agents", section 3.2,
        equations 1 and 2; arXiv:1711.00138.
    """
    if convention not in ("corrected", "paper"):
        raise ValueError(f"convention is {convention!r}, expected 'corrected' or 'paper'")
    _check_positive(stride=stride, mask_sigma=mask_sigma, blur_sigma=blur_sigma)
    _check_whole(stride=stride, batch_size=batch_size, threads=threads)
    observation, memory, single = as_batch(network, observation, memory)
    settings = Settings(
        int(stride), mask_sigma, blur_sigma, batch_size, per_channel, centred, threads
    )
    actor, critic = _score_chunks(network, observation, memory, settings, progress)

    shape = tuple(observation.shape[-2:])
    channel_maps = []
    grids = []
    for grid in (actor, critic):  # [T, passes, n, m]; passes is C if per_channel, else 1
        if grid is None:
            grids.append(None)
            channel_maps.append(None)
        elif convention == "paper":
            rows, columns = (size // int(stride) + 1 for size in shape)
            grid = np.pad(
                grid,
                ((0, 0), (0, 0), (0, rows - grid.shape[2]), (0, columns - grid.shape[3])),
            )
            grids.append(grid.sum(1))
            channel_maps.append(upsample_paper(grid, shape))
        else:
            grids.append(grid.sum(1))
            channel_maps.append(upsample(grid, shape, int(stride)))
    maps = SaliencyMaps(
        *(None if channels is None else channels.sum(1) for channels in channel_maps),
        *grids,
        *(channel_maps if per_channel else (None, None)),
    )
    return maps[0] if single else maps


def gaussian_mask(centre: tuple[int, int], shape: tuple[int, int], sigma: float) -> np.ndarray:
    """Return the mask around a pixel: a 5-pixel plus, Gaussian-filtered, divided by its maximum.

    Args:
        centre: (row, column).
        shape: (H, W).
        sigma: px. The filter is cut at 4 sigma and reflects at the edges, as SciPy's does.

    Returns:
        `[H, W]` float64 in [0, 1].
    """
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    plus = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= 1
    mask = gaussian_filter(plus.astype(np.float64), sigma, mode="reflect", truncate=4.0)
    return mask / mask.max()


def perturb(observation, centre, *, mask_sigma: float = 5.0, blur_sigma: float = 3.0) -> np.ndarray:
    """Return the observation `[C, H, W]` float32 with the region around one pixel blurred."""
    observation = np.asarray(observation, np.float32)
    mask = gaussian_mask(centre, observation.shape[-2:], mask_sigma)
    blurred = gaussian_filter(observation, (0, blur_sigma, blur_sigma))
    return (observation * (1 - mask) + blurred * mask).astype(np.float32)


@lru_cache(maxsize=16)
def mask_factors(shape: tuple[int, int], stride: int, sigma: float) -> tuple[np.ndarray, ...]:
    """Return every mask of a grid as the sum of two outer products.

    The filter is linear and separable, and a plus is a row of three plus a column of two, so

        mask(i, j) = rows[0, i] (x) columns[0, j] + rows[1, i] (x) columns[1, j], over peak[i, j]

    equals `gaussian_mask` to rounding, at a fraction of its cost and memory.

    Returns:
        rows `[2, n, H]`, columns `[2, m, W]` and 1 / peak `[n, m]`, float32.
    """
    factors = []
    for size in shape:
        spread = gaussian_filter1d(np.eye(size), sigma, axis=0, mode="reflect", truncate=4.0)
        spread = np.pad(spread.T, ((1, 1), (0, 0)))  # [size + 2, size], zeros beyond the edges
        centres = np.arange(0, size, stride) + 1
        factors.append((spread[centres], spread[centres - 1] + spread[centres + 1]))
    (row, row_pair), (column, column_pair) = factors
    rows, columns = np.stack((row + row_pair, row)), np.stack((column, column_pair))
    # [n, m]: the maximum over the mask, one row of masks at a time
    peaks = np.stack(
        [np.einsum("ry,rjx->jyx", rows[:, i], columns).max((1, 2)) for i in range(len(row))]
    )
    return tuple(array.astype(np.float32) for array in (rows, columns, 1 / peaks))


@lru_cache(maxsize=16)
def blur_matrix(size: int, sigma: float) -> np.ndarray:
    """Return the `[size, size]` float32 matrix of SciPy's `gaussian_filter1d` (reflecting)."""
    return gaussian_filter1d(np.eye(size), sigma, axis=0).astype(np.float32)


def _score_chunks(network, observation, memory, settings, progress):
    """Return the grids `[T, passes, n, m]` of actor and critic, chunk by chunk."""
    starts = range(0, len(observation), FRAMES_PER_CHUNK)
    chunks = [slice(start, start + FRAMES_PER_CHUNK) for start in starts]
    if len(chunks) == 1:  # no detour for an interactive frame
        results = [score_frames(network, observation, memory, settings)]
    else:
        # A copy per chunk: a view would send the whole episode to each worker.
        jobs = (
            joblib.delayed(score_frames)(
                network, observation[chunk].clone(), memory[chunk].clone(), settings
            )
            for chunk in chunks
        )
        results = joblib.Parallel(return_as="generator", pre_dispatch="2*n_jobs")(jobs)
    actor, critic = [], []
    with tqdm(total=len(observation), unit="frame", disable=not progress) as bar:
        for actor_grids, critic_grids in results:
            actor.append(actor_grids)
            critic.append(critic_grids)
            bar.update(len(actor_grids))
    return np.concatenate(actor), None if critic[0] is None else np.concatenate(critic)


def score_frames(network, observation, memory, settings: Settings):
    """Return the grids `[T, passes, n, m]` float32 of a chunk, in batches through the network."""
    device = device_of(network)
    frames, channels, height, width = observation.shape
    passes = channels if settings.per_channel else 1
    factors = mask_factors((height, width), settings.stride, settings.mask_sigma)
    rows, columns, scale = (torch.from_numpy(factor).to(device) for factor in factors)
    n, m = scale.shape
    vertical, horizontal = (
        torch.from_numpy(blur_matrix(size, settings.blur_sigma)).to(device)
        for size in (height, width)
    )

    with untouched(network), one_torch_thread(), torch.no_grad():
        observation, memory = observation.to(device), memory.to(device)
        base_logits, base_value, _ = network(observation, memory)
        difference = vertical @ observation @ horizontal.T - observation  # [T, C, H, W]
        actor = torch.empty(frames * passes * n * m, device=device)
        critic = None if base_value is None else torch.empty_like(actor)

        def score(batch: slice) -> None:
            index = torch.arange(len(actor), device=device)[batch]
            frame, index = index // (passes * n * m), index % (passes * n * m)
            channel, i, j = index // (n * m), index % (n * m) // m, index % m
            mask = torch.einsum("rby,rbx->byx", rows[:, i], columns[:, j])
            mask = (mask * scale[i, j, None, None])[:, None]  # [B, 1, H, W]
            if settings.per_channel:
                mask = (
                    mask
                    * (torch.arange(channels, device=device) == channel[:, None])[:, :, None, None]
                )
            perturbed = torch.addcmul(observation[frame], difference[frame], mask)
            logits, value, _ = network(_channels_last(perturbed), memory[frame])
            change = logits - base_logits[frame]
            if settings.centred:
                change = change - change.mean(1, keepdim=True)
            actor[batch] = 0.5 * change.square().sum(1)
            if critic is not None:
                critic[batch] = 0.5 * (value - base_value[frame]).reshape(-1).square()

        size = settings.batch_size or _batch_size(observation)
        batches = [slice(start, start + size) for start in range(0, len(actor), size)]
        _run(score, batches, settings.threads if device.type == "cpu" else 1)

    shape = (frames, passes, n, m)
    actor, critic = (
        None if grid is None else grid.cpu().numpy().reshape(shape) for grid in (actor, critic)
    )
    return actor, critic


def _run(work, batches, threads) -> None:
    """Do the batches on threads of one torch thread each; the caller's thread alone if it is 1."""
    threads = min(threads or torch_threads(), len(batches))
    if threads == 1:
        for batch in batches:
            work(batch)
        return

    def quiet(batch):
        torch.set_num_threads(1)
        with torch.no_grad():  # a mode of the thread, not of the process
            work(batch)

    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(quiet, batches):
            pass


def _batch_size(observation: torch.Tensor) -> int:
    """Return how many perturbed observations go through the network together."""
    if observation.device.type == "cpu":
        return 32  # more than 32 spill the caches
    return max(1, CUDA_BYTES // (ACTIVATIONS * observation[0].numel() * 4))


def _channels_last(batch: torch.Tensor) -> torch.Tensor:
    """Return the batch with channels innermost in memory, also where there is only one channel."""
    return batch.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)


def _check_positive(**values) -> None:
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{name} is {value}, expected more than 0")


def _check_whole(**values) -> None:
    for name, value in values.items():
        if value is not None and (value != int(value) or value < 1):
            raise ValueError(f"{name} is {value}, expected a whole number from 1")
