"""Perturbation saliency of any network on any device: batches of masks through PyTorch."""

import torch

from atarilens.saliency.calling import run_on_threads

CPU_BATCH = 16  # masks; more of them spill the caches
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
    (n, m), masks = scale.shape, scale.numel()
    passes = range(channels) if settings.per_channel else [slice(None)]
    base_logits, base_value, _ = network(observation, memory)
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
        # [t, B, H, W, C]: channels innermost in memory, also where there is only one
        perturbed = torch.addcmul(
            observation[ts].movedim(1, 3)[:, None],
            some.movedim(1, 3)[:, None],
            mask[None, ..., None],
        ).flatten(0, 1)
        moments = len(observation[ts])
        repeated = memory[ts].repeat_interleave(len(mask), 0)
        logits, value, _ = network(perturbed.permute(0, 3, 1, 2), repeated)
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
