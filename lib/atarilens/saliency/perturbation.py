"""Saliency by blurring one region of the observation at a time (Greydanus et al. 2018)."""

import warnings
from dataclasses import dataclass, replace

import joblib
import numpy as np
import torch
from tqdm.auto import tqdm

from atarilens.saliency.calling import (
    as_batch,
    call_network,
    device_of,
    one_torch_thread,
    run_on_threads,
    torch_threads,
    untouched,
)
from atarilens.saliency.maps import SaliencyMaps, mean_and_spread, upsample, upsample_paper
from atarilens.saliency.masks import blur_matrix, mask_factors

FRAMES_PER_CHUNK = 8  # fixed, so that results do not depend on who computes which chunk
METHODS = ("auto", "fast", "torch")
CPU_BATCH = 16  # masks; more of them spill the caches
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
    threads: int
    method: str
    jitter: int = 0  # seed of the shifts of the masks; 0 for none


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
    method: str = "auto",
    progress: bool = False,
    repeats: int = 1,
) -> SaliencyMaps:
    """Score how far blurring each region of an observation moves the actor and the critic.

    Around each centre (i, j) of a grid, the observation I is mixed with a blurred copy of itself
    under a Gaussian mask M that is 1 at its centre. The score is half the squared distance that
    a head's output f moves (actor: action logits before the softmax; critic: value):

        Phi(I; i, j) = I * (1 - M(i, j)) + blur(I) * M(i, j)
        S(i, j)      = 1/2 * || f(I) - f(Phi(I; i, j)) ||^2

    Blurring removes information without adding a new edge. Only the observation is perturbed: the
    memory stays as it entered the step, so the map answers "what matters now". One forward pass
    per mask serves both heads. The network runs in float32 (TF32 off) and in eval mode; parameters,
    gradients, modes, hooks and random state stay as they were. For a Q-network the actor's map is
    that of the Q-values, and the critic's that of their maximum.

    Deviation: pass the memory that ENTERS the step (`trajectory.memory[t]`); the original code
    uses the memory of the step before.

    Args:
        network: `(observation [B, C, H, W], memory [B, k, M]) -> (action_logits [B, A], value [B]
            or None, memory)`, or a plain module without memory, called as `network(observation)`,
            that returns the logits or (logits, value); float32, on any device.
        observation: `[C, H, W]`, or `[T, C, H, W]` for T decisions, as preprocessed for this agent;
            array or tensor. Its range is [0, 1]; values outside cause a warning.
        memory: `[k, M]` or `[T, k, M]`; may be None for a network without memory.
        stride: px between neighbouring centres; ceil(H / stride) * ceil(W / stride) forward passes.
        mask_sigma: px, standard deviation of the mask.
        blur_sigma: px, standard deviation of the blur.
        convention: "corrected", or "paper" for the original's arithmetic: the grid has
            int(H / stride) + 1 rows, the last of them zeros, and is resized in 8 bits as if it
            filled the image.
        centred: subtract the mean over actions from the change of the logits, so that a change
            common to all of them, which alters no probability, counts nothing.
        per_channel: perturb one channel (stacked screen) at a time, at C times the cost;
            `actor_channels` `[C, H, W]` then holds their maps and `actor` the sum. Otherwise all
            channels are perturbed together.
        batch_size: perturbed observations per forward pass (default: 16 on a CPU, what fits
            4 GiB on a GPU). Changes speed and memory, never the map.
        threads: CPU threads (default: torch's number, or one where joblib runs several jobs).
            Never changes the map.
        method: "torch" computes every mask in full, in batches, for any network. "fast" is for the
            paper's network on a CPU: compiled kernels recompute exactly what each mask reaches, and
            agree within 1e-4 of a grid's maximum. "auto" uses "fast" for that network.
        progress: show a bar over decisions.
        repeats: with 2 or more, compute so many maps, each with masks shifted at random by up to
            half a stride, and return their mean, with the standard deviation as `actor_spread` and
            `critic_spread`. The shifts are the same in every call.

    Returns:
        Maps `[H, W]`, or `[T, H, W]`, with their grids. T decisions are computed in chunks of 8,
        through `joblib.Parallel`: inside `joblib.parallel_config(backend=..., n_jobs=...)` the
        chunks go to that backend, with bit-equal results.

    Raises:
        ValueError: if a shape, a dtype or a parameter is not as described.

    Reference:
        Greydanus et al. (2018), "Visualizing and Understanding Atari Agents", ICML, section 3
        (saliency), equations 1 to 4; arXiv:1711.00138.
    """
    if convention not in ("corrected", "paper"):
        raise ValueError(f"convention is {convention!r}, expected 'corrected' or 'paper'")
    if method not in METHODS:
        raise ValueError(f"method is {method!r}, expected 'auto', 'fast' or 'torch'")
    _check_positive(stride=stride, mask_sigma=mask_sigma, blur_sigma=blur_sigma)
    _check_whole(stride=stride, batch_size=batch_size, threads=threads, repeats=repeats)
    observation, memory, single = as_batch(network, observation, memory)
    threads = threads or (1 if joblib.effective_n_jobs(None) > 1 else torch_threads())
    settings = Settings(
        int(stride), mask_sigma, blur_sigma, batch_size, per_channel, centred, threads, method
    )
    inputs = network, observation, memory
    if repeats == 1:
        maps = _maps(*inputs, settings, convention, progress)
    else:
        jittered = (replace(settings, jitter=seed) for seed in range(1, int(repeats) + 1))
        maps = mean_and_spread([_maps(*inputs, each, convention, progress) for each in jittered])
    return maps[0] if single else maps


def _maps(network, observation, memory, settings, convention, progress) -> SaliencyMaps:
    """Return the maps `[T, H, W]` for one set of masks."""
    actor, critic = _score_chunks(network, observation, memory, settings, progress)
    shape, stride = tuple(observation.shape[-2:]), settings.stride
    channel_maps = []
    grids = []
    for grid in (actor, critic):  # [T, passes, n, m]; passes is C if per_channel, else 1
        if grid is None:
            grids.append(None)
            channel_maps.append(None)
        elif convention == "paper":
            rows, columns = (size // stride + 1 for size in shape)
            grid = np.pad(
                grid,
                ((0, 0), (0, 0), (0, rows - grid.shape[2]), (0, columns - grid.shape[3])),
            )
            grids.append(grid.sum(1))
            channel_maps.append(upsample_paper(grid, shape))
        else:
            grids.append(grid.sum(1))
            channel_maps.append(upsample(grid, shape, stride))
    return SaliencyMaps(
        *(None if channels is None else channels.sum(1) for channels in channel_maps),
        *grids,
        *(channel_maps if settings.per_channel else (None, None)),
    )


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
    """Return the grids `[T, passes, n, m]` float32 of a chunk: one unit of work for joblib."""
    device = device_of(network)
    shape = tuple(observation.shape[-2:])
    factors = mask_factors(shape, settings.stride, settings.mask_sigma, settings.jitter)
    with untouched(network), one_torch_thread(), torch.no_grad():
        observation, memory = observation.to(device), memory.to(device)
        # In float64, so that the blur of a constant is that constant to the last bit.
        vertical, horizontal = (
            torch.from_numpy(blur_matrix(size, settings.blur_sigma)).to(device) for size in shape
        )
        blurred = (vertical @ observation.double() @ horizontal.T).float()
        arguments = (network, observation, memory, blurred - observation, factors, settings)
        grids = None if settings.method == "torch" else _score_fast(*arguments)
        return _score_batches(*arguments) if grids is None else grids


def _score_fast(network, observation, memory, difference, factors, settings):
    """Return the grids from the fast path, or None if it does not compute this network."""
    try:
        from atarilens.saliency import fast  # needs Numba, and takes a second to import

        grids = fast.score(network, observation, memory, difference, factors, settings)
        reason = "the paper's network on a CPU, with channels together"
    except Exception as error:  # Numba's or LLVM's: the user gets the map all the same
        warnings.warn(f"the fast path failed, using PyTorch: {error}", RuntimeWarning, stacklevel=2)
        grids, reason = None, f"kernels that compile ({error})"
    if grids is None and settings.method == "fast":
        raise ValueError(f"method 'fast' needs {reason}; use 'auto' or 'torch'")
    return grids


def _score_batches(network, observation, memory, difference, factors, settings):
    """Score every mask of every frame with PyTorch, for any network on any device.

    Args:
        network: called in the mode that it is in.
        observation: `[T, C, H, W]` float32 on the network's device.
        memory: `[T, k, M]` float32, likewise.
        difference: `[T, C, H, W]` float32, likewise: blurred minus observation.
        factors: of the masks, see `masks.mask_factors`.
        settings: how to perturb.

    Returns:
        Grids `[T, passes, n, m]` float32 of actor and critic (None without a value); passes is C
        if channels are perturbed one by one, else 1.
    """
    device = observation.device
    frames, channels = observation.shape[:2]
    rows, columns, scale = (torch.from_numpy(factor).to(device) for factor in factors)
    (n, m), masks = scale.shape, scale.numel()
    passes = range(channels) if settings.per_channel else [slice(None)]
    base_logits, base_value, _ = call_network(network, observation, memory)
    actor = torch.empty(frames, len(passes), masks, device=device)
    critic = None if base_value is None else torch.empty_like(actor)

    def score_batch(unit) -> None:
        """Score some masks of some frames, on one channel or on all."""
        ts, (k, channel), batch = unit
        i, j = torch.unravel_index(torch.arange(batch.start, batch.stop, device=device), (n, m))
        mask = (rows[0, i] * scale[i, j, None])[:, :, None] * columns[0, j][:, None]
        mask = mask.addcmul_((rows[1, i] * scale[i, j, None])[:, :, None], columns[1, j][:, None])
        some = difference[ts]
        if settings.per_channel:
            some = torch.zeros_like(some)
            some[:, channel] = difference[ts, channel]
        # [t, B, H, W, C]: channels lie innermost in memory, even a single one
        perturbed = torch.addcmul(
            observation[ts].movedim(1, 3)[:, None],
            some.movedim(1, 3)[:, None],
            mask[None, ..., None],
        ).flatten(0, 1)
        moments = len(observation[ts])
        repeated = memory[ts].repeat_interleave(len(mask), 0)
        logits, value, _ = call_network(network, perturbed.permute(0, 3, 1, 2), repeated)
        change = logits.reshape(moments, len(mask), -1) - base_logits[ts, None]
        if settings.centred:
            change = change - change.mean(2, keepdim=True)
        actor[ts, k, batch] = 0.5 * change.square().sum(2)
        if critic is not None:
            change = value.reshape(moments, -1) - base_value[ts].reshape(-1, 1)
            critic[ts, k, batch] = 0.5 * change.square()

    size, together = settings.batch_size or CPU_BATCH, 1
    if device.type != "cpu":
        fitting = CUDA_BYTES // (ACTIVATIONS * observation[0].nbytes)
        size = settings.batch_size or max(1, min(masks, fitting))
        together = max(1, fitting // size)  # frames
    units = [
        (slice(t, t + together), chosen, slice(start, min(start + size, masks)))
        for t in range(0, frames, together)
        for chosen in enumerate(passes)
        for start in range(0, masks, size)
    ]
    run_on_threads(score_batch, units, settings.threads if device.type == "cpu" else 1)
    return tuple(
        None if grid is None else grid.cpu().numpy().reshape(frames, len(passes), n, m)
        for grid in (actor, critic)
    )


def _check_positive(**values) -> None:
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{name} is {value}, expected more than 0")


def _check_whole(**values) -> None:
    for name, value in values.items():
        if value is not None and (value != int(value) or value < 1):
            raise ValueError(f"{name} is {value}, expected a whole number from 1")
