"""Perturbation saliency of any network on any device: batches of masks through PyTorch."""

import torch

from .networks import run_on_threads

CPU_BATCH = 32  # more than 32 masks spill the caches
CUDA_BYTES = 4 << 30  # memory budget of a batch on a GPU
ACTIVATIONS = 64  # bytes that a network is taken to need per byte of observation


def score(network, observation, memory, difference, factors, settings):
    """Score every mask of every frame; frames and masks are batched together.

    Args:
        network: called in the mode that it is in.
        observation: `[T, C, H, W]` float32 on the network's device.
        memory: `[T, k, M]` float32, likewise.
        difference: `[T, C, H, W]` float32, likewise: blurred minus observation.
        factors: of the masks, see `masks.mask_factors`.
        settings: `perturbation.Settings`.

    Returns:
        Grids `[T, passes, n, m]` float32 of actor and critic (None without a value); passes is C
        if channels are perturbed one by one, else 1.
    """
    device = observation.device
    frames, channels = observation.shape[:2]
    rows, columns, scale = (torch.from_numpy(factor).to(device) for factor in factors)
    shape = (frames, channels if settings.per_channel else 1, *scale.shape)
    base_logits, base_value, _ = network(observation, memory)
    actor = torch.empty(shape, device=device).flatten()
    critic = None if base_value is None else torch.empty_like(actor)

    def score_batch(batch: slice) -> None:
        index = torch.arange(batch.start, batch.stop, device=device)
        frame, channel, i, j = torch.unravel_index(index, shape)
        mask = torch.einsum("rby,rbx->byx", rows[:, i], columns[:, j]) * scale[i, j, None, None]
        mask = mask[:, None].expand(-1, channels, -1, -1)
        if settings.per_channel:
            mask = mask * torch.nn.functional.one_hot(channel, channels)[..., None, None]
        perturbed = torch.addcmul(observation[frame], difference[frame], mask)
        logits, value, _ = network(_channels_last(perturbed), memory[frame])
        change = logits - base_logits[frame]
        if settings.centred:
            change = change - change.mean(1, keepdim=True)
        actor[batch] = 0.5 * change.square().sum(1)
        if critic is not None:
            critic[batch] = 0.5 * (value - base_value[frame]).reshape(-1).square()

    size = settings.batch_size or CPU_BATCH
    if device.type != "cpu" and settings.batch_size is None:
        size = max(1, CUDA_BYTES // (ACTIVATIONS * observation[0].nbytes))
    batches = [slice(start, min(start + size, len(actor))) for start in range(0, len(actor), size)]
    run_on_threads(score_batch, batches, settings.threads if device.type == "cpu" else 1)
    return tuple(
        None if grid is None else grid.cpu().numpy().reshape(shape) for grid in (actor, critic)
    )


def _channels_last(batch: torch.Tensor) -> torch.Tensor:
    """Return the batch with channels innermost in memory, also where there is only one channel."""
    return batch.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
